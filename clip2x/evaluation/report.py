"""Results as a file and as a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from clip2x.storage import atomic_path

LINE_WIDTH = 140  # of tables that are not printed on a terminal


def write_results(path: Path, results: list[dict[str, Any]], provenance: dict[str, Any]) -> None:
    """Write `results.json` in one piece."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"results": results, "provenance": provenance}, indent=1) + "\n", encoding="utf-8")


def print_results(results: list[dict[str, Any]], *, profile: str, note: str) -> None:
    """Print a line per result in percent, with chance beside it, and under it the accuracy of every class."""
    console = Console(width=None if sys.stdout.isatty() else LINE_WIDTH)
    table = Table(title=f"zero-shot recognition, profile {profile}", box=box.SIMPLE, title_justify="left")
    for heading in ("profile", "data set", "method"):
        table.add_column(heading, overflow="fold")
    for heading in ("n", "class mean", "top-1", "95 %", "top-5", "chance", "majority"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in results:
        low, high = row["interval"]["top1"]
        generated = " (mini-world)" if row["protocol"]["data"] == "mini-world" else ""
        table.add_row(profile, "/".join((row["dataset"], row["variant"], row["split"])) + generated, row["method"], str(row["num_samples"]),
                      _percent(row["class_mean"]), _percent(row["top1"]), f"{_percent(low)}-{_percent(high)}", _percent(row["top5"]),
                      _percent(row["chance"]), _percent(row["majority"]))
    console.print(table)
    for row in results:
        classes = ", ".join(f"{name} {_percent(value)}" for name, value in row["per_class"].items())
        print(f"{profile}: {row['dataset']}, {row['method']}: {classes}")
    for line in dict.fromkeys(note for row in results for note in row["protocol"]["notes"]):
        print(f"note: {line}")
    if note:
        print(note)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
