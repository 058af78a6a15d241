"""One self-contained page of a scene whose objects were named: points and boxes to turn and zoom, their list, everything also by keyboard."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.evaluation.charts import text
from clip2x.evaluation.scene_view import SceneView, name_colours, owners, plan_bounds

STYLE = Path(__file__).with_name("scene_page.css")
SCRIPT = Path(__file__).with_name("scene_page.js")
MOST_POINTS = 60_000  # that travel in the page; ours: a phone draws them fluently
POINTS_OF_OBJECT = 500  # of each object that surely do. Ours
STEPS = 32_767  # of a coordinate on each side of the middle: 16 bits

BUTTONS = (("turn-left", "Turn left", "⟲"), ("turn-right", "Turn right", "⟳"), ("closer", "Closer", "+"), ("farther", "Farther", "-"),
           ("above", "From above", "Above"), ("home", "First view", "Reset"), ("previous", "Previous object", "Previous"),
           ("next", "Next object", "Next"), ("titles", "Names on or off", "Names"), ("colours", "Colours by height or of the pictures", "Colours"))
KEYS = ("Drag to turn, drag with the right button, Shift or two fingers to move, wheel or pinch to zoom; tap an object in the list to go to it. "
        "Keys: arrows turn, Shift + arrows move, + and - zoom, N and P next and previous object, T from above, Home first view, L names, C colours.")


def scene_page(view: SceneView, seed: int = 0) -> str:
    """Write the page. Every text that comes from a file is escaped.

    Args:
        view: What to show.
        seed: Of the points that are chosen where there are more than `MOST_POINTS`.
    """
    rows = "".join(_row(view, place) for place in range(len(view.objects)))
    table = ('<table><thead><tr><th>no.</th><th>name</th><th>sure</th><th>annotated</th><th>points</th><th>m</th></tr></thead>'
             f"<tbody>{rows}</tbody></table>")
    side = ('<label class="least">Show names from <output>0 %</output><input type="range" min="0" max="100" value="0"></label>'
            f'<p class="live" aria-live="polite"></p><div class="scroll">{table}</div>')
    return page_of(view, f"{len(view.objects)} named boxes among points; the list beside it says the same.", BUTTONS, KEYS, side, seed)


def page_of(view: SceneView, shows: str, buttons: Sequence[tuple[str, str, str]], keys: str, side: str, seed: int = 0,
            dot: float | None = None) -> str:
    """Put points to turn and zoom on a page, and something beside them.

    Args:
        view: Its points, boxes, title and notes.
        shows: What the picture shows, for those who do not see it.
        buttons: What the script should do, its meaning, the sign on the button.
        keys: How to go about with mouse, fingers and keys.
        side: HTML beside the picture.
        seed: See `page_data`.
        dot: Width of a point in the unit of the points; None: as suits scenes in metres.
    """
    content = page_data(view, seed) | ({} if dot is None else {"dot": dot})
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    tools = "".join(f'<button type="button" data-do="{name}" title="{text(meaning)}" aria-label="{text(meaning)}">{text(sign)}</button>'
                    for name, meaning, sign in buttons)
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in view.notes)
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{text(view.title)}</title><style>\n{STYLE.read_text(encoding='utf-8')}</style></head>\n<body>"
            f'<header><h1>{text(view.title)}</h1><p class="soft">{text(view.about)}</p>{notes}</header>\n<main><section class="stage">'
            f'<canvas tabindex="0" role="img" aria-label="{text(shows)} {text(keys)}"></canvas>'
            f'<div class="tools" role="toolbar" aria-label="View">{tools}</div><p class="help soft">{text(keys)}</p></section>'
            f'<section class="side">{side}</section></main>\n'
            f'<script type="application/json" id="scene">{data}</script>\n<script>\n{SCRIPT.read_text(encoding="utf-8")}</script></body></html>\n')


def page_data(view: SceneView, seed: int = 0) -> dict[str, Any]:
    """Pack what the script draws: points in 16 bits a coordinate, about 0.3 mm for each 10 m of extent."""
    own = owners(view)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(own))
    first = np.zeros(len(own), dtype=bool)  # some points of every object, however few it has
    for place in range(len(view.objects)):
        first[order[own[order] == place][:POINTS_OF_OBJECT]] = True
    chosen = np.sort(order[np.argsort(~first[order], kind="stable")[:MOST_POINTS]])
    low, high = plan_bounds(view)
    middle = (low + high) / 2
    half = float(np.abs(view.points[chosen] - middle).max()) or 1.0
    packed = np.round((view.points[chosen] - middle) / half * STEPS).astype("<i2")
    names = name_colours(view.objects)
    objects = [{"number": item.number, "name": item.name, "title": item.title, "labels": [[name, round(share, 4)] for name, share in item.labels],
                "colour": list(names[item.name]), "corners": np.round(item.corners, 3).tolist(), "range": round(item.range_m, 1),
                "points": len(item.point_index), "named": item.named, "truth": item.truth} for item in view.objects]
    data = {"points": _base64(packed), "owner": _base64(own[chosen].astype("<i2")), "middle": middle.tolist(), "step": half / STEPS,
            "low": low.tolist(), "high": high.tolist(), "ahead": list(view.ahead), "objects": objects}
    if view.colours is not None and view.coloured is not None:
        data |= {"colours": _base64(np.column_stack([view.colours[chosen], view.coloured[chosen].astype(np.uint8)]))}
    return data


def _row(view: SceneView, place: int) -> str:
    item = view.objects[place]
    best, share = item.labels[0]
    name = best if item.named else f"? ({best})"
    others = ", ".join(f"{other} {100 * probability:.0f}\u00a0%" for other, probability in item.labels[1:])
    verdict = "" if item.truth is None else f"{item.truth} ✓" if item.right else item.truth if item.right is None else f"{item.truth} ✗"
    colour = "rgb({},{},{})".format(*name_colours(view.objects)[item.name])
    return (f'<tr data-object="{place}"><td><i style="background:{colour}"></i>{item.number}</td><td><button type="button">{text(name)}</button>'
            f'<div class="soft">{text(others)}</div></td><td><meter min="0" max="1" value="{share:.4f}"></meter> {100 * share:.0f}&nbsp;%</td>'
            f"<td>{text(verdict)}</td><td>{len(item.point_index):,}</td><td>{item.range_m:.1f}</td></tr>")


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
