"""The page beside `results.json`: accuracies with intervals, classes, confusion, shots, published figures, where it all comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from clip2x.evaluation.charts import interval_bar, text
from clip2x.evaluation.metrics import effect_of
from clip2x.evaluation.page_parts import document, note, percent, table, tiles
from clip2x.evaluation.proxy_pictures import data_address
from clip2x.evaluation.published import PUBLISHED
from clip2x.storage import atomic_path

PICTURES = ("accuracy_over_shots.png", "gates.png")  # of a run, shown on its page
CELL_PX = 20  # of the confusion matrix
MOST_CONFUSED = 8  # pairs of classes that are listed for a method
Row = Mapping[str, Any]


def results_page(content: Mapping[str, Any], *, title: str, pictures: Sequence[tuple[str, bytes]] = ()) -> str:
    """Write the page of one run.

    Args:
        content: What `results.json` holds: `results`, `provenance`, of sweeps also `summary`.
        title: Of the page.
        pictures: Captions and PNG files that belong to the run.
    """
    rows, summary = list(content["results"]), content.get("summary")
    shown = [row for row in rows if not row.get("shots")] if summary else rows
    sections = [_head(title, rows, content["provenance"]), *([_sweep(summary)] if summary else []), _differences(content.get("differences") or []),
                _pictures(pictures)]
    sections += [_data_set(name, list(group)) for name, group in groupby(shown, key=_name)]
    return document(title, [*sections, _origin(rows, content["provenance"])])


def overview_page(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Write one page for several runs: a table of class means for each, with a link to its own page.

    Args:
        runs: Address of the run's page relative to this one, and what its `results.json` holds.
    """
    sections = ["<h1>All runs</h1>"]
    for address, content in runs:
        rows = content["results"]
        head = f'<h2><a href="{text(address)}">{text(address.rpartition("/")[0] or address)}</a></h2>'
        sections.append(head + _profile_note(rows) + (_sweep(content["summary"]) if content.get("summary") else _means(rows)))
    if not runs:
        sections.append(note("There is no results.json here yet; run make eval-zeroshot, make few-shot or make adapt first."))
    return document("clip2x: all runs", sections)


def write_results_page(file: Path, content: Mapping[str, Any]) -> Path:
    """Write `report.html` beside a `results.json`, with the pictures that lie there."""
    page, found = file.with_name("report.html"), [file.with_name(name) for name in PICTURES]
    pictures = [(picture.stem.replace("_", " "), picture.read_bytes()) for picture in found if picture.is_file()]
    with atomic_path(page) as temporary:
        temporary.write_text(results_page(content, title=f"Results: {file.parent.name}", pictures=pictures), encoding="utf-8")
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
    """Lay out class means: a line per method, a column per data set."""
    sets, methods = list(dict.fromkeys(map(_name, rows))), list(dict.fromkeys(row["method"] for row in rows))
    found = {(row["method"], _name(row)): row["class_mean"] for row in rows}
    return table(["class mean", *sets], [[text(method), *(percent(found.get((method, name))) for name in sets)] for method in methods])


def _sweep(summary: Sequence[Row]) -> str:
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
    return f"<h2>Over the number of shots</h2>{''.join(parts)}"


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


def _data_set(name: str, rows: Sequence[Row]) -> str:
    first = rows[0]
    about = (f'<p class="soft">{first["num_samples"]:,} objects, {first["num_classes"]} names; chance {percent(first["chance"])}, largest class '
             f'{percent(first["majority"])}; intervals: 95 %, by {text(first["interval"]["by"])}.</p>')
    heads = ["method", "class mean", "", "95 %", "top-1", "", "95 %", "top-5", "gain in top-1"]
    lines = [[text(row["method"]) + (" †" if row["protocol"].get("transductive") else ""), percent(row["class_mean"]),
              interval_bar(row["class_mean"], row["interval"]["class_mean"]), _ends(row["interval"]["class_mean"]), percent(row["top1"]),
              interval_bar(row["top1"], row["interval"]["top1"]), _ends(row["interval"]["top1"]), percent(row["top5"]), _gain(row["gain"])]
             for row in rows]
    details = "".join(_method(row) for row in rows)
    return f"<h2>{text(name)}</h2>{about}{table(heads, lines)}{_published(name, rows)}{details}"


def _published(name: str, rows: Sequence[Row]) -> str:
    found = PUBLISHED.get(name, ())
    said = rows[0]["protocol"]
    if not found or said.get("profile") == "mini" or said.get("data") != "files" or said.get("limit") is not None:
        return ""
    lines = [[text(item.method), f"{item.top1:.1f} %", text(item.source)] for item in found]
    return "<h3>Published, top-1</h3>" + table(["method", "top-1", "source and protocol"], lines)


def _method(row: Row) -> str:
    """Fold away what one method does class by class."""
    classes = [[text(label), interval_bar(share, (share, share)), percent(share)] for label, share in row["per_class"].items() if share is not None]
    listed = table(["class", "", "accuracy"], classes)
    return (f'<details><summary>{text(row["method"])}: classes and confusion</summary><div class="sides"><div>{listed}{_confused(row)}</div>'
            f"{_confusion(row)}</div></details>")


def _confused(row: Row) -> str:
    names, matrix = list(row["per_class"]), row["confusion"]
    pairs = sorted(((matrix[true][said], names[true], names[said]) for true in range(len(names)) for said in range(len(names))
                    if true != said and matrix[true][said]), reverse=True)[:MOST_CONFUSED]
    lines = [[text(true), text(said), str(number)] for number, true, said in pairs]
    return "<p><b>Most often taken for another</b></p>" + table(["is", "is called", "objects"], lines) if lines else ""


def _confusion(row: Row) -> str:
    """Draw the matrix: rows are what objects are, columns what they are called; cells hold counts and are shaded by their share of the row."""
    names, matrix, left = list(row["per_class"]), row["confusion"], 110
    side = CELL_PX * len(names)
    parts = [f'<svg viewBox="0 0 {left + side} {side + 16}" style="width:{left + side}px;max-width:100%" role="img" aria-label="confusion matrix">']
    for line, (label, counts) in enumerate(zip(names, matrix, strict=True)):
        down, total = CELL_PX * line, sum(counts) or 1
        parts.append(f'<text x="{left - 4}" y="{down + 13}" text-anchor="end" font-size="11" fill="currentColor">{text(label[:17])}</text>')
        for column, count in enumerate(counts):
            if count:
                across = left + CELL_PX * column
                parts.append(f'<g><title>{text(label)} called {text(names[column])}: {count}</title><rect class="bar" x="{across}" y="{down}" '
                             f'width="{CELL_PX}" height="{CELL_PX}" opacity="{0.1 + 0.6 * count / total:.2f}"/><text x="{across + CELL_PX / 2}" '
                             f'y="{down + 13}" text-anchor="middle" font-size="9" fill="currentColor">{count}</text></g>')
    frame = f'<rect x="{left}" y="0" width="{side}" height="{side}" class="grid"/></svg>'
    return f'<div><p class="soft">Rows: what objects are. Columns, in the same order: what they are called.</p>{"".join(parts)}{frame}</div>'


def _origin(rows: Sequence[Row], provenance: Mapping[str, Any]) -> str:
    notes = list(dict.fromkeys(line for row in rows for line in row["protocol"].get("notes") or []))
    listed = "".join(f"<li>{text(line)}</li>" for line in notes)
    stated = {"protocol": rows[0]["protocol"] if rows else None, **provenance}
    return (f"<h2>Where it comes from</h2>{f'<ul>{listed}</ul>' if listed else ''}<details><summary>Protocol, configuration, hashes, versions, "
            f"hardware</summary><pre>{text(json.dumps(stated, indent=1))}</pre></details>")


def _name(row: Row) -> str:
    return f"{row['dataset']}/{row['variant']}/{row['split']}"


def _ends(interval: Sequence[float]) -> str:
    return f'<span class="soft">{100 * interval[0]:.1f}-{100 * interval[1]:.1f}</span>'


def _gain(gain: Row | None) -> str:
    if gain is None:
        return ""
    return f'{100 * gain["top1"]:+.1f} <span class="soft">over {text(gain["over"])} ({text(effect_of(dict(gain)))})</span>'
