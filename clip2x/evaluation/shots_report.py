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
from scipy.stats import t as student

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


def print_few_shot(summary: Sequence[dict[str, Any]], *, profile: str, notes: Sequence[str], title: str = "few-shot") -> None:
    """Print a table of class means and one of top-1, a column for each number of shots; then the notes."""
    console = Console(width=None if sys.stdout.isatty() else LINE_WIDTH)
    shots = _ascending({item["shots"] for item in summary} - {0})
    for metric, shown in zip(METRICS, ("class mean", "top-1"), strict=True):
        table = Table(title=f"{title} recognition, {shown} in % over the shots of every class, mean and spread over seeds", box=box.SIMPLE,
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
    """Make the curves of each data set, a level line of what takes no shots; what was fitted on a whole split has no place on them."""
    panels: dict[str, list[Curve]] = {}
    for name, of_set in groupby(summary, key=_set_of):
        for method, items in _by_method(of_set).items():
            points = sorted(((item["shots"], item[metric]["mean"], item[metric]["spread"]) for item in items if not isinstance(item["shots"], str)),
                            key=lambda point: point[0])
            if not points:
                continue  # fitted on the whole split only
            shots, mean, spread = zip(*points, strict=True)
            panels.setdefault("/".join(name), []).append(Curve(method, () if shots == (0,) else shots, mean, spread))
    return panels


def differences(rows: Sequence[dict[str, Any]], method: str, metric: str = "class_mean") -> list[dict[str, Any]]:
    """Compare a method with every other one, draw by draw.

    Returns:
        For each data set, other method and number of shots with at least two draws: `mean` of the differences, `spread` (standard deviation of one
        of them), `interval` (95 %, Student's t: the mean's), `beyond_spread`: whether the mean is larger than the spread, `num_draws`.
    """
    own = {(*_set_of(row), row["shots"], row["seed"]): row[metric] for row in rows if row["method"] == method}
    pairs: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row["method"] == method:
            continue
        for key, value in own.items():
            if key[:3] == _set_of(row) and (row["shots"] == 0 or key[3:] == (row["shots"], row["seed"])):
                pairs.setdefault((*key[:3], row["method"], key[3]), []).append(value - row[metric])
    found = []
    for key, values in pairs.items():
        if len(values) < 2:
            continue
        over = _over_seeds(values)
        mean, spread = float(over["mean"] or 0.0), float(over["spread"] or 0.0)
        half = float(student.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values))
        found.append({"method": method, **dict(zip(("dataset", "variant", "split", "over", "shots"), key, strict=True)), "mean": mean,
                      "spread": spread, "interval": [mean - half, mean + half], "beyond_spread": abs(mean) > spread, "num_draws": len(values)})
    return found


def print_differences(found: Sequence[dict[str, Any]], method: str) -> None:
    """Print how much a method is better than the others (what `differences` gave), and whether that is more than the draws differ."""
    console = Console(width=None if sys.stdout.isatty() else LINE_WIDTH)
    shots = _ascending({item["shots"] for item in found})
    table = Table(title=f"{method} minus the others, class mean in points, draw by draw: mean ±spread; * = the mean exceeds the spread",
                  box=box.SIMPLE, title_justify="left", padding=(0, 1, 0, 0))
    for heading in ("data set", f"{method} minus"):
        table.add_column(heading, overflow="fold")
    for number in shots:
        table.add_column(str(number), justify="right", no_wrap=True)
    for name, of_set in groupby(found, key=_set_of):
        by_other: dict[str, dict[Any, dict[str, Any]]] = {}
        for item in of_set:
            by_other.setdefault(item["over"], {})[item["shots"]] = item
        for other, items in by_other.items():
            cells = [f"{100 * items[number]['mean']:+.1f} ±{100 * items[number]['spread']:.1f}{'*' if items[number]['beyond_spread'] else ' '}"
                     if number in items else "-" for number in shots]
            table.add_row("/".join(name), other, *cells)
        table.add_section()
    console.print(table)


def _ascending(shots: Iterable[int | str]) -> list[int | str]:
    """Sort numbers of shots, the whole split last."""
    return sorted(shots, key=lambda number: math.inf if isinstance(number, str) else number)


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
