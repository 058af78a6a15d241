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

from clip2x.evaluation.bootstrap import drawn_by
from clip2x.evaluation.metrics import effect_of
from clip2x.storage import atomic_path

MARK = "†"
LINE_WIDTH = 140  # of tables that are not printed on a terminal


def write_results(path: Path, results: list[dict[str, Any]], provenance: dict[str, Any]) -> None:
    """Write `results.json` in one piece."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"results": results, "provenance": provenance}, indent=1) + "\n", encoding="utf-8")


def print_results(results: list[dict[str, Any]], *, profile: str, note: str) -> None:
    """Print a line per result in percent, with chance beside it; under it what the steps gain, names by themselves, objects of none of the names,
    parts by distance and by points, and the accuracy of every class.
    """
    console = Console(width=None if sys.stdout.isatty() else LINE_WIDTH)

    def show(title: str, headings: list[str], lines: list[list[list[str]]]) -> None:
        if any(lines):
            console.print(_table(title, headings, lines, results, profile))

    show(f"zero-shot recognition, profile {profile}", ["n", "class\nmean", "95 %", "top-1", "95 %", "top-5", "chance", "major-\nity"],
         [[_figures(row)] for row in results])
    show("gain in points of top-1 on the same samples", ["over", "n", "gain", "95 %", "effect"],
         [[_gain(gain) for gain in (row["gain"], row["step"]) if gain] for row in results])
    show("class mean over some names apart; all names compete", ["apart", "n", "others", "n"],
         [[_apart(row["apart"])] if row["apart"] else [] for row in results])
    for line, methods in _apart_lines(results).items():
        print(f"{profile}: {line}: {', '.join(methods)}")
    show("class mean over a group of classes, where all names compete, and where these alone do",
         ["group", "n", "classes", "class\nmean", "alone", "chance\nalone"],
         [[_group(title, group) for title, group in (row.get("groups") or {}).items()] for row in results])
    for line in dict.fromkeys(f"{_title(row)}: {title}: {', '.join(group['names'])}" for row in results
                              for title, group in (row.get("groups") or {}).items()):
        print(f"{profile}: {line}")
    show("none of these: named objects against objects of no class; accuracy where the method names only the surest part",
         ["named", "others", "AUROC\nsoftmax", "AUROC\nscore", "50 %", "80 %", "all", "area of\nrisk"],
         [[_none_of_these(row["none_of_these"])] if row.get("none_of_these") else [] for row in results])
    for key, what in (("by_range", "distance"), ("by_points", "number of points")):
        for _, group in groupby(results, key=lambda row: row["dataset"]):
            of_dataset = [row for row in group if row.get(key)]
            rows = [row for row in of_dataset if _title(row) == _title(of_dataset[0])]  # its other variants stand in the file
            if len({entry["bin"] for row in rows for entry in row[key]}) > 1:
                console.print(_parts_table(f"class mean by {what}", rows, key, profile))
    for row in results:
        classes = ", ".join(f"{name} {_percent(value)}" for name, value in row["per_class"].items() if value is not None)
        print(f"{profile}: {_title(row)}, {row['method']}: {classes}")
    if any(row["protocol"].get("transductive") for row in results):
        print(f"{MARK} transductive: the method was trained on, or chosen by, what was mined from frames of this test set")
    for line in dict.fromkeys(_data_note(row) for row in results):
        print(f"note: {line}")
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
                table.add_row(profile, _title(row), _method(row), *cells)
        table.add_section()
    return table


def _title(row: dict[str, Any]) -> str:
    return "/".join((row["dataset"], row["variant"], row["split"]))


def _parts_table(title: str, rows: list[dict[str, Any]], key: str, profile: str) -> Table:
    """Lay out the class means of a data set's parts: a column per part, with the number of objects in its heading."""
    sizes: dict[str, int] = {}
    for row in rows:
        for entry in row[key]:
            sizes[entry["bin"]] = max(sizes.get(entry["bin"], 0), entry["num_samples"])
    table = Table(title=f"{title}, {_title(rows[0])}", box=box.SIMPLE, title_justify="left", padding=(0, 1, 0, 0))
    for heading in ("profile", "method"):
        table.add_column(heading, overflow="fold")
    for name in sizes:
        table.add_column(f"{name}\nn {sizes[name]}", justify="right", no_wrap=True)
    for row in rows:
        means = {entry["bin"]: _percent(entry["class_mean"]) for entry in row[key]}
        table.add_row(profile, _method(row), *(means.get(name, "-") for name in sizes))
    return table


def _data_note(row: dict[str, Any]) -> str:
    """Say whether a data set is made of generated files, and how its intervals were drawn."""
    return f"{_title(row)}: {row['protocol']['data']}, intervals by {drawn_by(row['interval'])}."


def _method(row: dict[str, Any]) -> str:
    return f"{row['method']} {MARK}" if row["protocol"].get("transductive") else str(row["method"])


def _figures(row: dict[str, Any]) -> list[str]:
    return [str(row["num_samples"]), _percent(row["class_mean"]), _ends(row["interval"]["class_mean"]), _percent(row["top1"]),
            _ends(row["interval"]["top1"]), _percent(row["top5"]), _percent(row["chance"]), _percent(row["majority"])]


def _ends(interval: list[float]) -> str:
    return "-".join(map(_percent, interval))


def _gain(gain: dict[str, Any]) -> list[str]:
    low, high = (f"{100 * end:+.1f}" for end in gain["interval"])
    return [gain["over"], str(gain["num_samples"]), f"{100 * gain['top1']:+.1f}", f"{low} to {high}", effect_of(gain)]


def _group(title: str, group: dict[str, Any]) -> list[str]:
    return [title, str(group["num_samples"]), str(len(group["names"])), _percent(group["class_mean"]), _percent(group["alone"]["class_mean"]),
            _percent(group["alone"]["chance"])]


def _none_of_these(found: dict[str, Any]) -> list[str]:
    silent = found["risk_coverage"]
    return [str(found["num_known"]), str(found["num_other"]), _percent(found["auroc"]["softmax"]), _percent(found["auroc"]["score"]),
            *(_percent(value) for value in silent["accuracy"].values()), _percent(silent["area"])]


def _apart(apart: dict[str, Any]) -> list[str]:
    return [_percent(apart["class_mean"]), str(apart["num_samples"]), _percent(apart["rest_class_mean"]), str(apart["rest_num_samples"])]


def _apart_lines(results: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Say which names are apart, and why, with the methods that this is said of."""
    found: dict[str, list[str]] = {}
    for row in (row for row in results if row["apart"]):
        line = f"{_title(row)}: apart are {', '.join(row['apart']['names'])} ({row['protocol']['apart_from']})"
        found.setdefault(line, []).append(row["method"])
    return found


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
