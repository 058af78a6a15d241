"""The rows of all benchmarks: one JSON file that each script adds to, and the table that is made of it.

A row is replaced by a newer one of the same benchmark, name, size and kind of device; the file is whole at any time, so an interrupted
`make bench` keeps what it has. `python benchmarks/results.py` writes the table anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import Bystanders, hardware

from clip2x.provenance import versions
from clip2x.storage import atomic_path

REPO = Path(__file__).resolve().parent.parent
JSON, TABLE = REPO / "benchmarks" / "results.json", REPO / "benchmarks" / "results.md"
GENERATED = ("benchmarks/results.json", "benchmarks/results.md", "docs/scale.md")
NOT_RUN = "not run"
COLUMNS = ("what", "size", "median (quartiles)", "a second", "floor", "ratio", "share", "memory", "asked")
TARGET_COLUMNS = ("what", "size", "found", "asked", "benchmark")
VERDICTS = {True: ": met", False: ": **missed**", None: ""}
FIELDS = ("benchmark", "name", "size", "device", "value", "unit", "quartiles", "mean", "repeats", "floor", "floor_is", "ratio", "share", "share_of",
          "memory_mb", "target", "met", "note", "hardware", "threads", "commit", "versions", "command")
"""Of a row. value: median, in `unit`, which is a time or a size: less is better. quartiles: 25 % and 75 %. floor: what no implementation can go
below, in the same unit; ratio: value / floor. share: of something else, named in `share_of`. memory_mb: most that the process or GPU held.
target: see `Target`; met: None without one, and where nothing was measured. note: anything else, `not run: ...` among it."""


@dataclass(frozen=True)
class Target:
    """What was asked for: `of` is `value`, `ratio` or `share` of the row."""

    at_most: float
    of: str = "ratio"

    def __str__(self) -> str:
        return f"{'' if self.of == 'value' else self.of + ' '}<= {self.at_most:g}"


def read_results(path: Path) -> dict[str, Any]:
    """Read the file of results; empty if there is none."""
    return json.loads(path.read_text()) if path.exists() else {"rows": [], "runs": {}}


def plain(arguments: Sequence[str]) -> list[str]:
    """Write arguments as seen from the repository, wherever it lies."""
    return [part.replace(f"{REPO}/", "") for part in arguments]


def key_of(row: dict[str, Any]) -> tuple[str, ...]:
    return row["benchmark"], row["name"], row["size"], row["device"]


class Results:
    """What one run of one benchmark found: printed row by row and, with `--results FILE`, kept.

    Args:
        benchmark: The script's name.
        path: The file, or None to print only.
    """

    def __init__(self, benchmark: str, path: Path | None) -> None:
        self.benchmark, self.path, self.keys = benchmark, path, set[tuple[str, ...]]()
        self.commit, self.versions, self.bystanders = commit(), versions(), Bystanders()
        print(f"{benchmark}, {place()}; median (quartiles)", flush=True)

    def add(self, name: str, size: str, readings: np.ndarray | Sequence[float], unit: str, *, floor: np.ndarray | float | None = None,
            floor_is: str | None = None, share: tuple[float, str] | None = None, target: Target | None = None, device: str = "cpu",
            memory_mb: float | None = None, note: str | None = None) -> None:
        """Print and keep a row; readings and floor per piece, in `unit`."""
        low, value, high = (float(figure) for figure in np.percentile(np.asarray(readings, dtype=float), [25, 50, 75]))
        least = None if floor is None else float(np.median(floor))
        row: dict[str, Any] = {
            "value": value, "quartiles": [low, high], "mean": float(np.mean(readings)), "repeats": int(np.size(readings)),
            "floor": least, "floor_is": floor_is, "ratio": value / least if least else None,
            "share": None if share is None else share[0], "share_of": None if share is None else share[1],
            "memory_mb": memory_mb, "note": note, "hardware": hardware(device)}
        if target is not None:
            row["met"] = bool(row[target.of] <= target.at_most)
        self._keep(name, size, unit, device, target, row)

    def not_run(self, name: str, size: str, unit: str, reason: str, *, floor_is: str | None = None, target: Target | None = None,
                device: str = "cuda") -> None:
        """Keep a row for what could not be measured here; a figure that was measured before stays."""
        self._keep(name, size, unit, device, target, {"floor_is": floor_is, "note": f"{NOT_RUN}: {reason}"})

    def finish(self) -> None:
        """Drop rows of this benchmark that it no longer has, and note that it came to its end, with which arguments on which code."""
        if self.path is None:
            return
        content = read_results(self.path)
        content["rows"] = [row for row in content["rows"] if row["benchmark"] != self.benchmark or key_of(row) in self.keys
                           or (row["device"] == "cuda" and not torch.cuda.is_available())]
        content["runs"][self.benchmark] = {"arguments": plain(sys.argv[1:]), "code": code(), "place": place(),
                                           "others": self.bystanders.share()}
        write(self.path, content)

    def _keep(self, name: str, size: str, unit: str, device: str, target: Target | None, found: dict[str, Any]) -> None:
        row = {**dict.fromkeys(FIELDS), **found, "benchmark": self.benchmark, "name": name, "size": size, "device": device, "unit": unit,
               "target": None if target is None else asdict(target), "threads": torch.get_num_threads(), "commit": self.commit,
               "versions": self.versions, "command": shlex.join(["python", *plain(sys.argv)])}
        self.keys.add(key_of(row))
        print("  " + line(row), flush=True)
        if self.path is None:
            return
        content = read_results(self.path)
        before = next((old for old in content["rows"] if key_of(old) == key_of(row)), None)
        if row["value"] is None and before is not None and before["value"] is not None:
            return
        content["rows"] = [old for old in content["rows"] if old is not before] + [row]
        write(self.path, content)


def write(path: Path, content: dict[str, Any]) -> None:
    """Replace the file as a whole."""
    content["rows"].sort(key=lambda row: row["benchmark"])  # stable: within a benchmark as they came
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def results_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that every benchmark has."""
    parser.add_argument("--results", type=Path, help="add the figures to this file, as make bench does; without it they are printed only")


def commit() -> str | None:
    """Name the commit, with `+changes` when files other than the generated ones differ from it; None outside of a git checkout."""
    commands = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "-uno", "--", ".", *(f":!{name}" for name in GENERATED)])
    try:
        revision, changes = (subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout.strip() for command in commands)
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + ("+changes" if changes else "")


def code() -> str:
    """Hash the sources that a figure depends on: the package and the benchmarks."""
    digest = hashlib.sha256()
    for path in sorted([*(REPO / "clip2x").rglob("*.py"), *(REPO / "benchmarks").glob("*.py")]):
        digest.update(f"{path.relative_to(REPO)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def place() -> str:
    """Name the processor and the number of threads that a process gets here."""
    return f"{hardware('cpu')}, {torch.get_num_threads()} threads"


def figure(value: float | None) -> str:
    """Write a number with three digits that matter."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def line(row: dict[str, Any]) -> str:
    """Put a row into one line of text."""
    text = f"{row['name']}, {row['size']}{', ' + row['device'] if row['device'] != 'cpu' else ''}: "
    if row["value"] is None:
        return text + str(row["note"])
    text += f"{figure(row['value'])} {row['unit']} ({figure(row['quartiles'][0])}-{figure(row['quartiles'][1])})"
    if row["floor"] is not None:
        text += f"; {row['floor_is']}: {figure(row['floor'])}, ratio {row['ratio']:.3f}"
    if row["share"] is not None:
        text += f"; {100 * row['share']:.1f} % of {row['share_of']}"
    if row["memory_mb"] is not None:
        text += f"; {row['memory_mb']:,.0f} MB"
    if row["target"] is not None:
        text += f"; asked: {Target(**row['target'])}: {'met' if row['met'] else 'MISSED'}"
    return text + (f"; {row['note']}" if row["note"] else "")


def short(revision: str | None) -> str:
    """Shorten a commit's name."""
    return "unknown" if revision is None else revision[:10] + "+changes" * ("+" in revision)


def per_second(row: dict[str, Any]) -> str:
    unit, value = row["unit"], row["value"]
    if value is None or not unit.startswith("ms/"):
        return ""
    return f"{figure(1000 / value)} {unit.removeprefix('ms/')}s"


def table(content: dict[str, Any]) -> str:
    """Make the page of all rows."""
    rows = content["rows"]
    asked = [row for row in rows if row["target"] is not None and row["met"] is not None]
    missed = [f"{row['name']} ({row['size']})" for row in asked if not row["met"]]
    waiting = [row for row in rows if row["value"] is None]
    lines = ["# Speed: the figures of `make bench`", "",
             "Made by `benchmarks/results.py` from `results.json`, which also has commit, versions and command of every row; do not edit.",
             "Median and quartiles; the floor is what no implementation can go below, or what the networks alone take; ratio is value / floor.",
             "Protocol: `README.md`.", "",
             f"{len(asked) - len(missed)} of {len(asked)} targets that could be measured are met; missed: {'; '.join(missed) or 'none'}. "
             f"{len(waiting)} rows were not run.", "", "## Targets", "", *head(TARGET_COLUMNS)]
    lines += [cells(target_cells(row)) for row in rows if row["target"] is not None]
    for benchmark in dict.fromkeys(row["benchmark"] for row in rows):
        own = [row for row in rows if row["benchmark"] == benchmark]
        run = content["runs"].get(benchmark, {})
        others = run.get("others")
        busy = "" if others is None else f"; other programs took {100 * others:.0f} % of the machine"
        lines += ["", f"## {benchmark}"]
        for place in dict.fromkeys((row["hardware"], row["threads"]) for row in own if row["value"] is not None):
            commits = dict.fromkeys(short(row["commit"]) for row in own if (row["hardware"], row["threads"]) == place)
            lines += ["", f"{place[0]}, {place[1]} threads; commit {', '.join(commits)}{busy}."]
        lines += ["", *head(COLUMNS), *(cells(row_cells(row)) for row in own)]
    return "\n".join(lines) + "\n"


def cells(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def head(columns: Sequence[str]) -> list[str]:
    return [cells(columns), cells(["---"] * len(columns))]


def target_cells(row: dict[str, Any]) -> list[str]:
    """Fill a line of the table of targets: what the target is of, and how it ended."""
    target, found = Target(**row["target"]), row[row["target"]["of"]]
    value = str(row["note"]) if found is None else f"{figure(found)}{' ' + row['unit'] if target.of == 'value' else ''}"
    return [row["name"] + ("" if row["device"] == "cpu" else " (GPU)"), row["size"], value, f"{target}{VERDICTS[row['met']]}", row["benchmark"]]


def row_cells(row: dict[str, Any]) -> list[str]:
    """Fill a line of a benchmark's table."""
    asked = "" if row["target"] is None else f"{Target(**row['target'])}{VERDICTS[row['met']]}"
    value = str(row["note"])
    if row["value"] is not None:
        low, high = map(figure, row["quartiles"])
        value = f"{figure(row['value'])} ({low}-{high}) {row['unit']}" + (f"; {row['note']}" if row["note"] else "")
    floor = row["floor_is"] or ""
    if row["floor"] is not None:
        floor = f"{figure(row['floor'])}: {floor}"
    return [row["name"] + ("" if row["device"] == "cpu" else " (GPU)"), row["size"], value, per_second(row), floor,
            "" if row["ratio"] is None else f"{row['ratio']:.2f}" if row["ratio"] < 100 else f"{row['ratio']:.0f}",
            "" if row["share"] is None else f"{100 * row['share']:.1f} % of {row['share_of']}",
            "" if row["memory_mb"] is None else f"{row['memory_mb']:,.0f} MB", asked]


def main() -> None:
    """Write the table of a file of results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=JSON)
    parser.add_argument("--table", type=Path, default=TABLE)
    options = parser.parse_args()
    options.table.write_text(table(read_results(options.results)))


if __name__ == "__main__":
    main()
