"""The tables that `make chaos` prints: bad files by reader, faults by kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Read = tuple[str, int, int, int]


def tables(read: Sequence[Read], faults: Sequence[Any]) -> list[str]:
    """Write both tables; `read` has the name of a reader, bad files tried and refused, and MB of memory that they took at most."""
    lines = []
    if read:
        lines += _table(("reader", "bad files", "refused", "MB", "losses"), [(name, *numbers, 0) for name, *numbers in read])
    if faults:
        lines += _table(("fault", "runs", "injected", "losses"), [(row.name, row.runs, row.injected, row.losses) for row in faults])
    return lines


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    total = ("all", *(sum(row[place] for row in rows) for place in range(1, len(head))))
    cells = [head, *rows, total]
    widths = [max(len(str(row[place])) for row in cells) for place in range(len(head))]
    written = [" | ".join([str(row[0]).ljust(widths[0]), *(str(cell).rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
               for row in cells]
    return ["", written[0], "-" * len(written[0]), *written[1:]]
