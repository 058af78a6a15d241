"""The page beside `results.json`: accuracies with intervals and published figures, mistakes, shots, trainings, where it all comes from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from clip2x.evaluation.bootstrap import drawn_by
from clip2x.evaluation.charts import interval_bar, line_chart, text
from clip2x.evaluation.method_page import method_details
from clip2x.evaluation.metrics import effect_of
from clip2x.evaluation.mistakes import read_pictures
from clip2x.evaluation.page_parts import document, note, percent, table, tiles
from clip2x.evaluation.proxy_page import store_summary
from clip2x.evaluation.proxy_pictures import data_address
from clip2x.evaluation.published import PUBLISHED
from clip2x.evaluation.training_curves import MOST_LINES, curves_section, kept_curves
from clip2x.storage import atomic_path

PICTURES = ("accuracy_over_shots.png", "gates.png")  # of a run, shown on its page
Row = Mapping[str, Any]
Clouds = Callable[[Row], Mapping[int, bytes]]


def no_clouds(row: Row) -> Mapping[int, bytes]:
    """Have no pictures of a row's mistakes."""
    return {}


def results_page(content: Mapping[str, Any], *, title: str, pictures: Sequence[tuple[str, bytes]] = (), clouds: Clouds = no_clouds,
                 trainings: Sequence[Mapping[str, Any]] = ()) -> str:
    """Write the page of one run.

    Args:
        content: What `results.json` holds: `results`, `provenance`, of sweeps also `summary`.
        title: Of the page.
        pictures: Captions and PNG files that belong to the run.
        clouds: Gives the pictures of a row's mistakes, see `mistakes.read_pictures`.
        trainings: What `training_curves.json` holds.
    """
    rows, summary = list(content["results"]), content.get("summary")
    sections = [_head(title, rows, content["provenance"]), *([_sweep(summary)] if summary else []), _differences(content.get("differences") or []),
                _pictures(pictures)]
    sections += [_data_set(name, list(group), clouds) for name, group in groupby(detailed_rows(rows), key=_name)]
    return document(title, [*sections, _adapters(rows), curves_section(trainings), _origin(rows, content["provenance"])])


def detailed_rows(rows: Sequence[Row]) -> list[Row]:
    """Choose the rows whose classes and mistakes are shown: all that took no shots, of the others those of the most shots and the first seed."""
    chosen: list[Row] = []
    for _, group in groupby(rows, key=_name):
        own = list(group)
        most = max((_many(row) for row in own), default=0)
        first = next((row.get("seed") for row in own if row.get("shots") and _many(row) == most), None)
        chosen += [row for row in own if not row.get("shots") or (_many(row) == most and row.get("seed") == first)]
    return chosen


def overview_page(runs: Sequence[tuple[str, Mapping[str, Any]]], collections: Sequence[tuple[str, Mapping[str, Any]]] = ()) -> str:
    """Write one page for several runs: a table of class means for each, with a link to its own page.

    Args:
        runs: Address of the run's page relative to this one, and what its `results.json` holds.
        collections: Likewise of triplet stores, and what `report.json` holds.
    """
    sections = ["<h1>All runs</h1>"]
    for address, content in runs:
        rows = content["results"]
        shown = _sweep(content["summary"], heading=False) if content.get("summary") else _means(rows)
        sections.append(_link(address) + _profile_note(rows) + shown)
    sections += [_link(address) + store_summary(content) for address, content in collections]
    if not runs and not collections:
        sections.append(note("There is no results.json here yet; run make eval-zeroshot, make few-shot or make adapt first."))
    return document("clip2x: all runs", sections)


def _link(address: str) -> str:
    return f'<h2><a href="{text(address)}">{text(address.rpartition("/")[0] or address)}</a></h2>'


def write_results_page(file: Path, content: Mapping[str, Any]) -> Path:
    """Write `report.html` beside a `results.json`, with the pictures and the curves that lie there."""
    page, found = file.with_name("report.html"), [file.with_name(name) for name in PICTURES]
    pictures = [(picture.stem.replace("_", " "), picture.read_bytes()) for picture in found if picture.is_file()]
    written = results_page(content, title=f"Results: {file.parent.name}", pictures=pictures, clouds=lambda row: read_pictures(file.parent, row),
                           trainings=kept_curves(file))
    with atomic_path(page) as temporary:
        temporary.write_text(written, encoding="utf-8")
    return page


def _head(title: str, rows: Sequence[Row], provenance: Mapping[str, Any]) -> str:
    sets = list(dict.fromkeys(map(_name, rows)))
    shown = [(f"{len(sets)}", "data sets"), (f"{len({row['method'] for row in rows})}", "methods"),
             (str(provenance.get("commit") or "not stated")[:10], "commit"), (str(provenance.get("clip", "not stated")).split("/")[0], "CLIP")]
    return f"<h1>{text(title)}</h1>{_profile_note(rows)}{tiles(shown)}"


def _profile_note(rows: Sequence[Row]) -> str:
    if not any(row["protocol"].get("profile") == "mini" for row in rows):
        return ""
    return note("Profile mini: a small CLIP that was trained on generated pictures. These figures show that the pipeline works; they may not be "
                "compared with published ones.")


def _means(rows: Sequence[Row]) -> str:
    """Lay out class means with their intervals: a line per method, a column per data set."""
    sets, methods = list(dict.fromkeys(map(_name, rows))), list(dict.fromkeys(row["method"] for row in rows))
    found = {(row["method"], _name(row)): _with_interval(row, "class_mean")[0] for row in rows}
    heads = [name.replace("/", "/\u200b") for name in sets]  # a long name may be broken there
    return table(["class mean", *heads], [[text(method), *(found.get((method, name), percent(None)) for name in sets)] for method in methods])


def _sweep(summary: Sequence[Row], *, heading: bool = True) -> str:
    """Lay out class means over numbers of shots, with their spread over seeds."""
    parts = []
    for name, group in groupby(summary, key=_name):
        items = list(group)
        shots = [number for number in dict.fromkeys(item["shots"] for item in items) if number != 0]
        lines = []
        for method in dict.fromkeys(item["method"] for item in items):
            own = {item["shots"]: item["class_mean"] for item in items if item["method"] == method}
            cells = [_with_spread(own[0])] * len(shots) if 0 in own else [_with_spread(own.get(number)) for number in shots]
            lines.append([text(method), *cells])
        parts.append(f"<h3>{text(name)}</h3>" + table(["class mean over shots", *map(str, shots)], lines))
    return ("<h2>Over the number of shots</h2>" if heading else "") + "".join(parts)


def _differences(found: Sequence[Row]) -> str:
    """Lay out how much one method is better than the others, draw by draw."""
    parts = []
    for name, group in groupby(found, key=_name):
        items = list(group)
        shots = list(dict.fromkeys(item["shots"] for item in items))
        lines = []
        for other in dict.fromkeys(item["over"] for item in items):
            own = {item["shots"]: item for item in items if item["over"] == other}
            cells = [f"{100 * own[number]['mean']:+.1f}{'*' if own[number]['beyond_spread'] else ''} "
                     f'<span class="soft">±{100 * own[number]["spread"]:.1f}</span>' if number in own else "-" for number in shots]
            lines.append([text(other), *cells])
        parts.append(f"<h3>{text(name)}</h3>" + table([f"{items[0]['method']} minus", *map(str, shots)], lines))
    about = "<p class='soft'>Class mean in points, mean over draws and the spread of one draw; * the mean exceeds the spread.</p>"
    return f"<h2>Draw by draw</h2>{about}{''.join(parts)}" if parts else ""


def _with_spread(found: Row | None) -> str:
    if found is None:
        return "-"
    spread = "" if found["spread"] is None else f' <span class="soft">±{100 * found["spread"]:.1f}</span>'
    return f"{100 * found['mean']:.1f}{spread}"


def _pictures(pictures: Sequence[tuple[str, bytes]]) -> str:
    shown = "".join(f'<figure class="chart"><figcaption>{text(caption)}</figcaption><img alt="{text(caption)}" style="max-width:100%" '
                    f'src="{data_address(content, "png")}"></figure>' for caption, content in pictures)
    return f'<div class="sides">{shown}</div>' if shown else ""


def _data_set(name: str, rows: Sequence[Row], clouds: Clouds) -> str:
    first = rows[0]
    about = (f'<p class="soft">{first["num_samples"]:,} objects, {first["num_classes"]:,} names; chance {percent(first["chance"])}, largest class '
             f'{percent(first["majority"])}; intervals: 95 %, by {text(drawn_by(first["interval"]))}.</p>')
    heads = ["method", "class mean", "", "top-1", "", "top-5", "gain in top-1"]
    lines = [[_title(row) + (" †" if row["protocol"].get("transductive") else ""), *_with_interval(row, "class_mean"), *_with_interval(row, "top1"),
              percent(row["top5"]), _gain(row["gain"])] for row in rows]
    best = max(rows, key=lambda row: float(row["class_mean"]))  # its classes and mistakes stand open
    details = "".join(method_details(_title(row), row, clouds(row), opened=row is best) for row in rows)
    return f"<h2>{text(name)}</h2>{about}{table(heads, lines)}{_published(name, rows)}{details}"


def _title(row: Row) -> str:
    shots = row.get("shots")
    return text(row["method"]) + (f' <span class="tag">{text("all labels" if isinstance(shots, str) else f"{shots} shots")}</span>' if shots else "")


def _adapters(rows: Sequence[Row]) -> str:
    """Draw how the adapters of the rows that are shown in detail were fitted."""
    charts = []
    for name, group in groupby(detailed_rows(rows), key=_name):
        losses = {row["method"]: row["protocol"]["fit"]["loss"] for row in group if (row["protocol"].get("fit") or {}).get("loss")}
        curves = {method: list(enumerate(loss, start=1)) for method, loss in list(losses.items())[:MOST_LINES]}
        if curves:
            charts.append(line_chart(curves, name, "epoch", "mean loss; scales differ between methods"))
    return f'<h2>How the adapters were trained</h2><div class="charts">{"".join(charts)}</div>' if charts else ""


def _published(name: str, rows: Sequence[Row]) -> str:
    found = PUBLISHED.get(name, ())
    said = rows[0]["protocol"]
    if not found or said.get("profile") == "mini" or said.get("data") != "files" or said.get("limit") is not None:
        return ""
    lines = [[text(item.method), f"{item.top1:.1f} %", text(item.source)] for item in found]
    return "<h3>Published, top-1</h3>" + table(["method", "top-1", "source and protocol"], lines)


def _origin(rows: Sequence[Row], provenance: Mapping[str, Any]) -> str:
    notes = list(dict.fromkeys(line for row in rows for line in row["protocol"].get("notes") or []))
    listed = "".join(f"<li>{text(line)}</li>" for line in notes)
    stated = {"protocol": rows[0]["protocol"] if rows else None, **provenance}
    return (f"<h2>Where it comes from</h2>{f'<ul>{listed}</ul>' if listed else ''}<details><summary>Protocol, configuration, hashes, versions, "
            f"hardware</summary><pre>{text(json.dumps(stated, indent=1))}</pre></details>")


def _name(row: Row) -> str:
    return f"{row['dataset']}/{row['variant']}/{row['split']}"


def _many(row: Row) -> float:
    """Make numbers of shots comparable; the whole split is the most."""
    shots = row.get("shots") or 0
    return math.inf if isinstance(shots, str) else float(shots)


def _with_interval(row: Row, metric: str) -> list[str]:
    """Write an accuracy over its interval, and draw both."""
    low, high = row["interval"][metric]
    return [f'{percent(row[metric])}<br><span class="ends">{100 * low:.1f}-{100 * high:.1f}</span>', interval_bar(row[metric], (low, high))]


def _gain(gain: Row | None) -> str:
    if gain is None:
        return ""
    return (f'{100 * gain["top1"]:+.1f}<br><span class="ends">over {text(gain["over"])}'
            f'{"" if effect_of(dict(gain)) == "gain" else f" ({text(effect_of(dict(gain)))})"}</span>')
