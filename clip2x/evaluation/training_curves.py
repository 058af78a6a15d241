"""The curves of the trainings that made a run's checkpoints: read from their TensorBoard files, kept beside the results, drawn on the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clip2x.evaluation.charts import line_chart, text
from clip2x.storage import atomic_path
from clip2x.untrusted import json_value, require_text

FILE = "training_curves.json"  # beside results.json
MOST_POINTS = 200  # of a curve; ours: more than a chart can show
OF_TRAINING = ("train/", "val/", "select/")  # names that no evaluation writes
LARGEST = 1e30  # of a number that is drawn; ours. A loss that ran away, NaN and infinity are left out
MOST_LINES = 9  # of a chart: as many as there are colours
Curve = list[tuple[int, float]]  # step, value
Group = tuple[str, str, tuple[str, ...]]
GROUPS: tuple[Group, ...] = (  # title, vertical axis, beginnings of names; a curve stands in the first group that fits
    ("loss", "", ("train/loss", "train/cross", "train/intra", "train/text", "train/image")),
    ("validation", "share", ("val/", "select/")),
    ("watched sets, which choose nothing", "share", ("test/",)),
    ("what the loss learns: temperatures, factors", "", ("train/s", "train/scale")),
    ("weight of each path", "share", ("gate/",)),
    ("learning rate", "", ("lr-",)),
)


def write_curves(file: Path, checkpoints: Mapping[str, str | Path | None]) -> None:
    """Keep the curves of the trainings that wrote some checkpoints.

    A training's events lie beside its checkpoint, or beside its folder `checkpoints`; a checkpoint that has none there (downloaded weights, a file
    that was moved) is named without curves.

    Args:
        file: `training_curves.json` is written beside this file, `results.json`.
        checkpoints: Title -> file; None where there is none.
    """
    runs = []
    for title, checkpoint in checkpoints.items():
        if checkpoint is not None:
            folder = Path(checkpoint).parent
            curves = read_curves(folder.parent if folder.name == "checkpoints" else folder)
            trained = any(name.startswith(OF_TRAINING) for name in curves)  # else they are of an evaluation that wrote into this folder
            runs.append({"title": title, "checkpoint": str(checkpoint), "curves": curves if trained else {}})
    with atomic_path(file.with_name(FILE)) as temporary:
        temporary.write_text(json.dumps({"runs": runs}) + "\n", encoding="utf-8")


def read_curves(folder: Path) -> dict[str, Curve]:
    """Read the scalars of the TensorBoard files in a folder: one curve of each name, at most `MOST_POINTS`, the last one among them.

    A training that went on after it was stopped has several files: from where a later one starts, it counts. What is damaged is left out.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator  # half a second

    curves: dict[str, Curve] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        events: Any = EventAccumulator(str(file), size_guidance={SCALARS: 0}, purge_orphaned_data=False)
        try:
            events.Reload()
        except (OSError, DecodeError):  # not ours to read, a folder, a record with a good checksum that is none
            continue
        for name in events.Tags()["scalars"]:
            found = {int(event.step): float(event.value) for event in events.Scalars(name) if abs(event.value) < LARGEST}
            if found:
                kept = [point for point in curves.get(name, []) if point[0] < min(found)]
                curves[name] = kept + sorted(found.items())
    return {name: _thinned(curve) for name, curve in curves.items()}


def curves_section(runs: Sequence[Mapping[str, Any]]) -> str:
    """Lay out the curves of trainings, as `training_curves.json` holds them."""
    parts = []
    for run in runs:
        about = f'<h3>{text(run["title"])}</h3><p class="soft"><code>{text(run["checkpoint"])}</code></p>'
        charts = "".join(line_chart(curves, title, "step", axis) for title, axis, curves in _groups(run["curves"]))
        nothing = '<p class="soft">No TensorBoard events of a training lay beside it.</p>'
        parts.append(about + (f'<div class="charts">{charts}</div>' if charts else nothing))
    return f"<h2>How the checkpoints were trained</h2>{''.join(parts)}" if parts else ""


def kept_curves(file: Path) -> list[dict[str, Any]]:
    """Read `training_curves.json` beside `results.json`; nothing if it is not there or damaged."""
    try:
        content: Any = json_value(file.with_name(FILE).read_text(encoding="utf-8"))
        return [{"title": require_text(str(run["title"])), "checkpoint": require_text(str(run["checkpoint"])), "curves": {
            require_text(str(name)): [(int(step), float(value)) for step, value in curve if abs(value) < LARGEST and abs(step) < LARGEST]
            for name, curve in run["curves"].items() if curve}} for run in content["runs"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return []


def _groups(curves: Mapping[str, Curve]) -> list[tuple[str, str, dict[str, Curve]]]:
    """Sort curves into charts; those that no chart is for (`epoch`, numbers of negatives) are left out."""
    found: dict[Group, dict[str, Curve]] = {group: {} for group in GROUPS}
    for name, curve in curves.items():
        group = next((group for group in GROUPS if any(_starts(name, start) for start in group[2])), None)
        if group is not None:
            found[group][name] = curve
    return [(title if len(own) <= MOST_LINES else f"{title}, {MOST_LINES} of {len(own)}", axis, dict(list(own.items())[:MOST_LINES]))
            for (title, axis, _), own in found.items() if own]


def _starts(name: str, start: str) -> bool:
    """Compare with a whole name, or with a beginning that ends in a mark."""
    return name == start or name.startswith(start if start[-1] in "/-" else f"{start}_")


def _thinned(curve: Curve) -> Curve:
    if len(curve) <= MOST_POINTS:
        return [(step, _short(value)) for step, value in curve]
    places = sorted({round(place * (len(curve) - 1) / (MOST_POINTS - 1)) for place in range(MOST_POINTS)})
    return [(curve[place][0], _short(curve[place][1])) for place in places]


def _short(value: float) -> float:
    return float(f"{value:.5g}")
