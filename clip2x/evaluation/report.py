"""Results as a file and as tables."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from clip2x.evaluation.metrics import effect_of
from clip2x.storage import atomic_path

LINE_WIDTH = 140  # of tables that are not printed on a terminal


def write_results(path: Path, results: list[dict[str, Any]], provenance: dict[str, Any]) -> None:
    """Write `results.json` in one piece."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"results": results, "provenance": provenance}, indent=1) + "\n", encoding="utf-8")


def print_results(results: list[dict[str, Any]], *, profile: str, note: str) -> None:
    """Print a line per result in percent, with chance beside it; under it what the steps gain, names apart, and the accuracy of every class."""
    console = Console(width=None if sys.stdout.isatty() else LINE_WIDTH)
    console.print(_table(f"zero-shot recognition, profile {profile}", ["data", "n", "class\nmean", "top-1", "95 %", "top-5", "chance", "major-\nity"],
                         [[_figures(row)] for row in results], results, profile))
    if any(row["gain"] or row["step"] for row in results):
        console.print(_table("gain in points of top-1 on the same samples", ["over", "gain", "95 %", "effect"],
                             [[_gain(gain) for gain in (row["gain"], row["step"]) if gain] for row in results], results, profile))
    if any(row["apart"] for row in results):
        console.print(_table("class mean over some names apart; all names compete", ["apart", "n", "others", "n"],
                             [[_apart(row["apart"])] if row["apart"] else [] for row in results], results, profile))
        for line in dict.fromkeys(f"{_title(row)}: apart are {', '.join(row['apart']['names'])} ({row['protocol']['apart_from']})"
                                  for row in results if row["apart"]):
            print(f"{profile}: {line}")
    for row in results:
        classes = ", ".join(f"{name} {_percent(value)}" for name, value in row["per_class"].items())
        print(f"{profile}: {row['dataset']}, {row['method']}: {classes}")
    for line in dict.fromkeys(note for row in results for note in row["protocol"]["notes"]):
        print(f"note: {line}")
    if note:
        print(note)


def _table(title: str, headings: list[str], lines: list[list[list[str]]], results: list[dict[str, Any]], profile: str) -> Table:
    """Lay out the lines of each result behind profile, data set and method; a gap between data sets."""
    table = Table(title=title, box=box.SIMPLE, title_justify="left", padding=(0, 1, 0, 0))
    for heading in ("profile", "data set", "method"):
        table.add_column(heading, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for _, group in groupby(zip(results, lines, strict=True), key=lambda pair: _title(pair[0])):
        for row, own in group:
            for cells in own:
                table.add_row(profile, _title(row), row["method"], *cells)
        table.add_section()
    return table


def _title(row: dict[str, Any]) -> str:
    return "/".join((row["dataset"], row["variant"], row["split"]))


def _figures(row: dict[str, Any]) -> list[str]:
    low, high = row["interval"]["top1"]
    return [row["protocol"]["data"], str(row["num_samples"]), _percent(row["class_mean"]), _percent(row["top1"]), f"{_percent(low)}-{_percent(high)}",
            _percent(row["top5"]), _percent(row["chance"]), _percent(row["majority"])]


def _gain(gain: dict[str, Any]) -> list[str]:
    low, high = (f"{100 * end:+.1f}" for end in gain["interval"])
    return [gain["over"], f"{100 * gain['top1']:+.1f}", f"{low} to {high}", effect_of(gain)]


def _apart(apart: dict[str, Any]) -> list[str]:
    return [_percent(apart["class_mean"]), str(apart["num_samples"]), _percent(apart["rest_class_mean"]), str(apart["rest_num_samples"])]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
