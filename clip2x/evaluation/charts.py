"""Small charts as inline SVG: no library, no script, colours from the page (light and dark), readable at the width of a phone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

WIDTH, HEIGHT = 360, 190  # of a chart in its own units; shown at about this size, so that texts keep theirs
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 36  # margins for the axes
FOOT = 0.5  # where the logarithmic axis of counts starts: a count of 1 still has a height


def text(value: object) -> str:
    """Write a value so that it cannot be taken for markup."""
    return escape(str(value), quote=True)


def short_number(value: float | int) -> str:
    """Write a number in at most four digits: 950, 1.2k, 34k, 1.6M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            scaled = value / size
            return f"{scaled:.3g}{unit}" if scaled < 99.95 else f"{scaled:.0f}{unit}"
    return f"{value:g}" if value == int(value) else f"{value:.3g}"


def histogram_of_counts(described: Mapping[str, Any], title: str, axis: str, *, log: bool = False) -> str:
    """Draw a histogram.

    Args:
        described: `edges` of the bins, ascending, positive where `log`, and `counts`.
        title, axis: What is counted and what the values are.
        log: Draw the horizontal axis in powers of ten.
    """
    bounds, counts = np.asarray(described["edges"], dtype=np.float64), np.asarray(described["counts"])
    scaled = np.log10(bounds) if log else bounds
    across = LEFT + (scaled - scaled[0]) / (scaled[-1] - scaled[0]) * (WIDTH - LEFT - RIGHT)
    highest, ticks = nice_ticks(float(counts.max(initial=0)))
    bars = [f'<rect class="bar" x="{left + 0.5:.1f}" y="{_down(count / highest):.1f}" width="{max(right - left - 1, 0.5):.1f}" '
            f'height="{count / highest * (HEIGHT - TOP - BOTTOM):.1f}"><title>{short_number(low)} to {short_number(high)}: {count:,}</title></rect>'
            for left, right, low, high, count in zip(across, across[1:], bounds, bounds[1:], counts.tolist(), strict=False) if count]
    places = ([(math.log10(value), value) for value in _powers(bounds[0], bounds[-1])] if log
              else [(value, value) for value in np.linspace(bounds[0], bounds[-1], 6).tolist()])
    labels = [(LEFT + (place - scaled[0]) / (scaled[-1] - scaled[0]) * (WIDTH - LEFT - RIGHT), short_number(value)) for place, value in places]
    return _figure(title, axis, [*_grid([(tick / highest, short_number(tick)) for tick in ticks]), *bars, *_feet(labels)])


def long_tail(counts: Sequence[int], title: str, axis: str) -> str:
    """Draw counts by rank, the largest first, on a logarithmic scale; zeros are left out."""
    found = np.sort(np.array([count for count in counts if count > 0], dtype=np.float64))[::-1]
    if not len(found):
        return _figure(title, axis, [])
    decades = max(1, math.ceil(math.log10(found[0])))

    def height_of(count: float | int) -> float:
        return math.log10(count / FOOT) / math.log10(10**decades / FOOT)

    across = LEFT + np.arange(len(found) + 1) / len(found) * (WIDTH - LEFT - RIGHT)
    heights = [height_of(count) for count in found.tolist()]
    steps = [f"L{across[rank]:.1f} {_down(height):.1f}L{across[rank + 1]:.1f} {_down(height):.1f}" for rank, height in enumerate(heights)]
    area = f'<path class="area" d="M{LEFT} {_down(0.0)}{"".join(steps)}L{across[-1]:.1f} {_down(0.0)}Z"/>'
    ranks = sorted({1, *(round(len(found) * part / 4) for part in (1, 2, 3, 4))} - {0})
    labels = [(float(across[rank - 1] + across[rank]) / 2, str(rank)) for rank in ranks]
    if len(labels) > 1 and labels[1][0] - labels[0][0] < 16:
        del labels[1]
    return _figure(title, axis, [*_grid([(height_of(10**power), short_number(10**power)) for power in range(decades + 1)]), area, *_feet(labels)])


def line_chart(curves: Mapping[str, Sequence[tuple[float | int, float]]], title: str, axis: str, vertical: str = "") -> str:
    """Draw curves with a line and a name of their own each.

    Args:
        curves: Name -> (x, y) in ascending x; at most as many as the style sheet has lines (`l0` to `l8`).
        title, axis: Of the chart and of x.
        vertical: What y is, behind the title.
    """
    places = [point for curve in curves.values() for point in curve]
    first, last = min(x for x, _ in places), max(x for x, _ in places)
    low, high, ticks = ticks_between(min(y for _, y in places), max(y for _, y in places))

    def across(x: float | int) -> float:
        return LEFT + (x - first) / ((last - first) or 1) * (WIDTH - LEFT - RIGHT)

    lines = []
    for number, (name, curve) in enumerate(curves.items()):
        path = "L".join(f"{across(x):.1f} {_down((y - low) / (high - low)):.1f}" for x, y in curve)
        lines.append(f'<path class="line l{number}" d="M{path}{"h0" if len(curve) == 1 else ""}"><title>{text(name)}: {short_number(curve[-1][1])} '
                     f"at {short_number(curve[-1][0])}</title></path>")
    feet = [(across(x), short_number(round(x))) for x in np.linspace(first, last, 5 if last > first else 1).tolist()]
    names = "".join(f'<span><svg viewBox="0 0 22 8" aria-hidden="true"><path class="line l{number}" d="M0 4H22"/></svg> {text(name)} '
                    f"<b>{short_number(curve[-1][1])}</b></span>" for number, (name, curve) in enumerate(curves.items()))
    grid = _grid([((tick - low) / (high - low), f"{tick:g}" if abs(tick) < 1000 else short_number(tick)) for tick in ticks])
    return _figure(title + (f" ({vertical})" if vertical else ""), axis, [*grid, *lines, *_feet(feet)], f'<div class="names">{names}</div>')


def interval_bar(share: float | None, interval: Sequence[float] | None) -> str:
    """Draw a share of 1 as a bar with its interval as a line."""
    if share is None or interval is None:
        return ""
    low, high = (100 * end for end in interval)
    return ('<svg class="interval" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="12"/>'
            f'<rect class="bar" width="{100 * share:.1f}" height="12"/>'
            f'<path class="whisker" d="M{low:.1f} 6H{high:.1f}M{low:.1f} 2V10M{high:.1f} 2V10"/></svg>')


def bar_list(rows: Sequence[tuple[str, int, str]]) -> str:
    """Draw labelled horizontal bars; of each row the label, the value and the class of its colour (`bar`, `dropped`)."""
    largest = max((value for _, value, _ in rows), default=0) or 1
    lines = [f'<div class="label">{text(label)}</div><div class="rail"><div class="{kind}" style="width:{100 * value / largest:.2f}%"></div></div>'
             f'<div class="value">{value:,}</div>' for label, value, kind in rows]
    return f'<div class="bars">{"".join(lines)}</div>'


def nice_ticks(highest: float) -> tuple[float, list[float]]:
    """Choose a top for an axis that starts at 0, and three to six whole ticks up to it."""
    if highest <= 0:
        return 1.0, [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(highest / 3))
    step = max(1.0, next(power * factor for factor in (1, 2, 5, 10) if highest / (power * factor) <= 5))
    number = math.ceil(highest / step)
    return step * number, [step * count for count in range(number + 1)]


def ticks_between(low: float, high: float) -> tuple[float, float, list[float]]:
    """Choose the ends of an axis that holds both bounds, and three to seven ticks on it."""
    room = high - low
    if room <= 1e-12 * max(abs(low), abs(high), 1e-30):
        room = abs(high) or 1.0
        low, high = low - room / 2, high + room / 2
    power = 10.0 ** math.floor(math.log10(room / 3))
    step = next(power * factor for factor in (1, 2, 5, 10) if room / (power * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return step * first, step * last, [float(f"{step * place:.10g}") for place in range(first, last + 1)]


def _figure(title: str, axis: str, parts: Sequence[str], below: str = "") -> str:
    middle = (LEFT + WIDTH - RIGHT) / 2
    return (f'<figure class="chart"><figcaption>{text(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(title)}">'
            f'{"".join(parts)}<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{text(axis)}</text></svg>{below}</figure>')


def _grid(ticks: Sequence[tuple[float, str]]) -> list[str]:
    """Draw lines across, each with its label; heights are shares of the axis."""
    return [f'<path class="grid" d="M{LEFT} {_down(height):.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 5}" y="{_down(height) + 4:.1f}" text-anchor="end">{text(label)}</text>' for height, label in ticks]


def _feet(labels: Sequence[tuple[float, str]]) -> list[str]:
    """Write labels under the horizontal axis."""
    foot = _down(0.0)
    return [f'<path class="tick" d="M{across:.1f} {foot}v4"/><text x="{across:.1f}" y="{foot + 16}" text-anchor="middle">{text(label)}</text>'
            for across, label in labels]


def _down(height: float) -> float:
    """Turn a share of the vertical axis into a coordinate of the drawing, where y points down."""
    return HEIGHT - BOTTOM - height * (HEIGHT - TOP - BOTTOM)


def _powers(low: float, high: float) -> list[float]:
    """List the powers of ten between two bounds."""
    return [10.0**power for power in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
