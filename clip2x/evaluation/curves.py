"""Accuracy over the number of shots as a picture (PNG), drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

PANEL_PX, HEIGHT_PX = 460, 360  # of one data set
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 44, 46  # margins of a panel
LEGEND_COLUMNS, LEGEND_ROW_PX = 2, 18
OVERSAMPLING = 3  # Pillow draws hard edges; the picture is shrunk
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f")  # after Okabe and Ito: told apart by any eye
INK, GRID, GROUND = "#333333", "#e2e2e2", "#ffffff"
Number = float | int


@dataclass(frozen=True)
class Curve:
    """A method's accuracy over the number of shots, shares of 1.

    shots: ascending, at least 1; empty for a method that takes none, which is drawn as a level line. mean: one number a shot, one for a level
    line. spread: likewise, None where there is none.
    """

    title: str
    shots: tuple[int, ...]
    mean: tuple[float, ...]
    spread: tuple[float | None, ...]


def draw_curves(panels: Mapping[str, Sequence[Curve]], axis: str, note: str = "") -> Image.Image:
    """Draw the curves of several data sets side by side, on one vertical axis from 0 to 100 %, shots in powers of two.

    Args:
        panels: Title of each panel -> its curves. A method has the same colour in all of them.
        axis: What is drawn upwards.
        note: A line under all panels.
    """
    methods = list(dict.fromkeys(curve.title for curves in panels.values() for curve in curves))
    colours = {title: COLOURS[position % len(COLOURS)] for position, title in enumerate(methods)}
    below = LEGEND_ROW_PX * max((math.ceil(len(curves) / LEGEND_COLUMNS) for curves in panels.values()), default=0)
    size = (max(len(panels), 1) * PANEL_PX, HEIGHT_PX + below + 20 * bool(note))
    picture = Image.new("RGB", (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING), GROUND)
    pen = _Pen(ImageDraw.Draw(picture))
    for position, (title, curves) in enumerate(panels.items()):
        _draw_panel(pen, position * PANEL_PX, title, curves, axis, colours)
    if note:
        pen.text(LEFT, HEIGHT_PX + below + 2, note, INK, 11)
    return picture.resize(size, Image.Resampling.LANCZOS)


class _Pen:
    """Draws in final pixels on the larger picture."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self.draw = draw

    def line(self, points: Sequence[tuple[Number, Number]], colour: str, width: Number = 1.0) -> None:
        scaled = [(OVERSAMPLING * across, OVERSAMPLING * down) for across, down in points]
        self.draw.line(scaled, fill=colour, width=round(OVERSAMPLING * width), joint="curve")

    def dot(self, across: Number, down: Number, colour: str, radius: Number = 3.5) -> None:
        box = [OVERSAMPLING * value for value in (across - radius, down - radius, across + radius, down + radius)]
        self.draw.ellipse(box, fill=colour)

    def text(self, across: Number, down: Number, text: str, colour: str, size: int, anchor: str = "la") -> None:
        font: Any = ImageFont.load_default(OVERSAMPLING * size)
        self.draw.text((OVERSAMPLING * across, OVERSAMPLING * down), text, fill=colour, font=font, anchor=anchor)


def _draw_panel(pen: _Pen, start: Number, title: str, curves: Sequence[Curve], axis: str, colours: Mapping[str, str]) -> None:
    left, right, foot = start + LEFT, start + PANEL_PX - RIGHT, HEIGHT_PX - BOTTOM
    most = max((shots for curve in curves for shots in curve.shots), default=1)

    def place(shots: Number, share: Number) -> tuple[Number, Number]:
        along = math.log2(shots) / math.log2(most) if most > 1 else 0.5
        return left + 14 + along * (right - left - 28), foot - share * (foot - TOP)

    pen.text(left, 10, title, INK, 14)
    pen.text(left, 28, f"{axis}, %", INK, 11)
    for tick in range(0, 101, 20):
        down = place(1, tick / 100)[1]
        pen.line([(left, down), (right, down)], GRID)
        pen.text(left - 6, down, str(tick), INK, 11, "rm")
    for shots in sorted({shots for curve in curves for shots in curve.shots}):
        pen.text(place(shots, 0)[0], foot + 6, str(shots), INK, 11, "ma")
    pen.text((left + right) / 2, foot + 24, "shots of every class", INK, 11, "ma")
    for curve in curves:
        _draw_curve(pen, curve, colours[curve.title], place, (left, right))
    for position, curve in enumerate(curves):
        row, column = divmod(position, LEGEND_COLUMNS)
        across, down = left + column * (right - left) / LEGEND_COLUMNS, HEIGHT_PX + 4 + LEGEND_ROW_PX * row
        pen.line([(across, down), (across + 20, down)], colours[curve.title], 2)
        pen.text(across + 26, down, curve.title, INK, 11, "lm")


def _draw_curve(pen: _Pen, curve: Curve, colour: str, place: Any, ends: tuple[Number, Number]) -> None:
    if not curve.shots:
        down = place(1, curve.mean[0])[1]
        across = ends[0]
        while across < ends[1]:
            pen.line([(across, down), (min(across + 7, ends[1]), down)], colour, 2)
            across += 12
        return
    points = [place(shots, share) for shots, share in zip(curve.shots, curve.mean, strict=True)]
    for (across, _), share, spread in zip(points, curve.mean, curve.spread, strict=True):
        if spread is not None:
            low, high = place(1, max(share - spread, 0))[1], place(1, min(share + spread, 1))[1]
            pen.line([(across, low), (across, high)], colour, 1.5)
            for down in (low, high):
                pen.line([(across - 3, down), (across + 3, down)], colour, 1.5)
    if len(points) > 1:
        pen.line(points, colour, 2)
    for across, down in points:
        pen.dot(across, down, colour)
