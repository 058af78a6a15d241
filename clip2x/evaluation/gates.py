"""How much each path of an adapter weighs, by class: numbers and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL_PX, ROW_PX, LABEL_PX, HEAD_PX = 64, 20, 130, 62
SCALE = 2  # Pillow's text is small; the picture is drawn large
LOW, HIGH = (255, 255, 255), (0, 114, 178)  # weight 0 and 1, told apart by any eye


def mean_gates(weights: Tensor, labels: Tensor, paths: Sequence[str], class_names: Sequence[str]) -> dict[str, Any]:
    """Average the weights of paths.

    Args:
        weights: (N, P), of each cloud, over its channels.
        labels: (N,), -1 for objects of no class.
        paths: Names of the P paths.
        class_names: C.

    Returns:
        `mean`: path -> weight over all clouds; `per_class`: class -> path -> weight over its clouds, classes without any left out.
    """
    def named(part: Tensor) -> dict[str, float]:
        return {path: float(value) for path, value in zip(paths, part.double().mean(dim=0), strict=True)}

    return {"mean": named(weights),
            "per_class": {name: named(weights[labels == place]) for place, name in enumerate(class_names) if bool((labels == place).any())}}


def draw_gates(rows: Sequence[dict[str, Any]]) -> Image.Image | None:
    """Draw the weight of the first path by class (down) and number of shots (across), means over seeds, one table below the other for each set.

    Args:
        rows: Of one method, with `gate`, `shots` and `seed`.

    Returns:
        The picture; None if no row has a gate.
    """
    sets: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row.get("gate"):
            sets.setdefault(f"{row['dataset']}/{row['variant']}/{row['split']}", []).append(row)
    if not sets:
        return None
    shots = {name: list(dict.fromkeys(row["shots"] for row in found)) for name, found in sets.items()}
    classes = {name: list(found[0]["gate"]["per_class"]) for name, found in sets.items()}
    width = LABEL_PX + CELL_PX * max(map(len, shots.values())) + 10
    heights = [HEAD_PX + ROW_PX * len(classes[name]) + 14 for name in sets]
    picture = Image.new("RGB", (width * SCALE, sum(heights) * SCALE), LOW)
    pen, top = ImageDraw.Draw(picture), 0
    for (name, found), height in zip(sets.items(), heights, strict=True):
        path = next(iter(found[0]["gate"]["mean"]))
        _text(pen, 8, top + 6, name, 13)
        _text(pen, 8, top + 24, f"weight of the {path} path, by class and shots", 11)
        for column, number in enumerate(shots[name]):
            same = [row["gate"]["per_class"] for row in found if row["shots"] == number]
            left = LABEL_PX + CELL_PX * column
            _text(pen, left + CELL_PX / 2, top + 46, str(number), 11, "ma")
            for line, label in enumerate(classes[name]):
                weight = sum(item[label][path] for item in same) / len(same)
                down = top + HEAD_PX + ROW_PX * line
                colour = tuple(round(low + weight * (high - low)) for low, high in zip(LOW, HIGH, strict=True))
                pen.rectangle([left * SCALE, down * SCALE, (left + CELL_PX - 2) * SCALE, (down + ROW_PX - 2) * SCALE], fill=colour)
                _text(pen, left + CELL_PX / 2, down + 3, f"{weight:.2f}", 11, "ma", "#ffffff" if weight > 0.6 else "#222222")
        for line, label in enumerate(classes[name]):
            _text(pen, LABEL_PX - 8, top + HEAD_PX + ROW_PX * line + 3, label[:18], 11, "ra")
        top += height
    return picture


def _text(pen: Any, across: float | int, down: float | int, text: str, size: int, anchor: str = "la", colour: str = "#222222") -> None:
    font: Any = ImageFont.load_default(size * SCALE)
    pen.text((across * SCALE, down * SCALE), text, fill=colour, font=font, anchor=anchor)
