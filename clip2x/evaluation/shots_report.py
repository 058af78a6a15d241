"""Few-shot results: mean and spread over seeds, a table, curves."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from clip2x.evaluation.curves import Curve
from clip2x.evaluation.report import LINE_WIDTH

METRICS = ("class_mean", "top1")


def summaries(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take the mean over seeds.

    Args:
        rows: Of results, with `shots`.

    Returns:
        For each data set, method and number of shots, in the order in which they first stand in `rows`: `seeds`, and of `class_mean` and `top1` the
        `mean` and the `spread` (standard deviation of one seed, n - 1; None for a single one); the same of `gain`, which is that of top-1 over
        zero-shot, None for zero-shot itself.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((*_set_of(row), row["method"], row["shots"]), []).append(row)
    return [{**dict(zip(("dataset", "variant", "split", "method", "shots"), key, strict=True)), "seeds": [row["seed"] for row in group],
             **{metric: _over_seeds([row[metric] for row in group]) for metric in METRICS},
             "gain": None if group[0]["gain"] is None else _over_seeds([row["gain"]["top1"] for row in group])} for key, group in groups.items()]


def print_few_shot(summary: Sequence[dict[str, Any]], *, profile: str, notes: Sequence[str]) -> None:
    """Print a table of class means and one of top-1, a column for each number of shots; then the notes."""
    console = Console(width=None if sys.stdout.isatty() else LINE_WIDTH)
    shots = sorted({item["shots"] for item in summary} - {0})
    for metric, title in zip(METRICS, ("class mean", "top-1"), strict=True):
        table = Table(title=f"few-shot recognition, {title} in % over the shots of every class, mean and spread over seeds", box=box.SIMPLE,
                      title_justify="left", padding=(0, 1, 0, 0))
        for heading in ("profile", "data set", "method"):
            table.add_column(heading, overflow="fold")
        for number in shots:
            table.add_column(str(number), justify="right", no_wrap=True)
        for name, of_set in groupby(summary, key=_set_of):
            for method, items in _by_method(of_set).items():
                found = {item["shots"]: item[metric] for item in items}
                cells = [_cell(found[0])] * len(shots) if 0 in found else [_cell(found.get(number)) for number in shots]
                table.add_row(profile, "/".join(name), method, *cells)
            table.add_section()
        console.print(table)
    for note in dict.fromkeys(notes):
        print(f"note: {note}")


def curves_of(summary: Sequence[dict[str, Any]], metric: str = "class_mean") -> dict[str, list[Curve]]:
    """Make the curves of each data set, a level line of what takes no shots."""
    panels: dict[str, list[Curve]] = {}
    for name, of_set in groupby(summary, key=_set_of):
        for method, items in _by_method(of_set).items():
            points = sorted(((item["shots"], item[metric]["mean"], item[metric]["spread"]) for item in items), key=lambda point: point[0])
            shots, mean, spread = zip(*points, strict=True)
            panels.setdefault("/".join(name), []).append(Curve(method, () if shots == (0,) else shots, mean, spread))
    return panels


def _by_method(items: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Sort by method, in the order in which methods first stand."""
    found: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        found.setdefault(item["method"], []).append(item)
    return found


def _over_seeds(values: Sequence[float]) -> dict[str, float | None]:
    mean = sum(values) / len(values)
    squares = sum((value - mean) ** 2 for value in values)
    return {"mean": mean, "spread": math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None}


def _set_of(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["dataset"], row["variant"], row["split"]


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    spread = "" if found["spread"] is None else f" ±{100 * found['spread']:.1f}"
    return f"{100 * found['mean']:.1f}{spread}"
