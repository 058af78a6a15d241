"""Two-dimensional boxes as a class-agnostic detector would give them: jittered, sometimes missing, double or wrong. Written as COCO files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clip2x.storage import atomic_path

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class BoxNoise:
    """How wrong the boxes are. All ours; compared with a real detector's boxes in docs/data.md.

    jitter: standard deviation of each side's shift, as a share of the box's width or height.
    missed: share of the objects without a box. doubled: share with a second box. part: share of the boxes that cover a part only.
    invented: boxes per picture with no object (mean of a Poisson law). least_px: shorter sides are not detected.
    """

    jitter: float = 0.07
    missed: float = 0.25
    doubled: float = 0.08
    part: float = 0.06
    invented: float = 0.3
    least_px: float = 6.0


@dataclass
class CocoFile:
    """Boxes of a set of pictures in COCO's detection format with the one category `object`."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, file_name: str, width_px: int, height_px: int, boxes: Sequence[tuple[Box, float]]) -> None:
        """Add a picture and its (box, score) pairs; boxes are left, top, right, bottom."""
        image_id = len(self.images)
        self.images.append({"id": image_id, "file_name": file_name, "width": width_px, "height": height_px})
        for (left, top, right, bottom), score in boxes:
            rounded = [round(value, 2) for value in (left, top, right - left, bottom - top)]
            self.annotations.append({"id": len(self.annotations), "image_id": image_id, "category_id": 0, "bbox": rounded, "score": round(score, 4)})

    def write(self, path: Path, description: str) -> None:
        """Write the file whole or not at all."""
        content = {"info": {"description": description}, "images": self.images, "annotations": self.annotations,
                   "categories": [{"id": 0, "name": "object"}]}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")


def noisy_boxes(boxes: Sequence[Box], width_px: int, height_px: int, rng: np.random.Generator,
                noise: BoxNoise | None = None) -> list[tuple[Box, float]]:
    """Turn the true boxes of a picture into a detector's (box, score) pairs, best score first."""
    noise = noise or BoxNoise()
    found: list[tuple[Box, float]] = []
    for box in boxes:
        if rng.random() < noise.missed or min(box[2] - box[0], box[3] - box[1]) < noise.least_px:
            continue
        for _ in range(2 if rng.random() < noise.doubled else 1):
            found.append((wrong_box(box, rng, noise), float(rng.beta(6, 2.5))))
    for _ in range(int(rng.poisson(noise.invented))):
        width, height = width_px * rng.uniform(0.05, 0.3), height_px * rng.uniform(0.08, 0.4)
        left, top = rng.uniform(0, width_px - width), rng.uniform(0, height_px - height)
        found.append(((left, top, left + width, top + height), float(rng.beta(2.5, 5))))
    clipped = [((max(0.0, left), max(0.0, top), min(float(width_px), right), min(float(height_px), bottom)), score)
               for (left, top, right, bottom), score in found]
    return sorted((pair for pair in clipped if pair[0][2] - pair[0][0] > 1 and pair[0][3] - pair[0][1] > 1), key=lambda pair: -pair[1])


def wrong_box(box: Box, rng: np.random.Generator, noise: BoxNoise) -> Box:
    """Move the sides of a true box as a detector would, or cover a part of it only; it may reach out of the picture."""
    return _jittered(_part(box, rng) if rng.random() < noise.part else box, noise.jitter, rng)


def _jittered(box: Box, jitter: float, rng: np.random.Generator) -> Box:
    width, height = box[2] - box[0], box[3] - box[1]
    shift = rng.normal(0.0, jitter, 4)
    return (box[0] + shift[0] * width, box[1] + shift[1] * height, box[2] + shift[2] * width, box[3] + shift[3] * height)


def _part(box: Box, rng: np.random.Generator) -> Box:
    """Keep a half to four fifths of a box along one axis."""
    kept = rng.uniform(0.5, 0.8)
    if rng.random() < 0.5:
        left = rng.uniform(box[0], box[2] - kept * (box[2] - box[0]))
        return (left, box[1], left + kept * (box[2] - box[0]), box[3])
    top = rng.uniform(box[1], box[3] - kept * (box[3] - box[1]))
    return (box[0], top, box[2], top + kept * (box[3] - box[1]))
