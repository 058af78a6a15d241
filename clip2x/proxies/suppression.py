"""From a detector's raw boxes to those that are lifted: clip to the picture, drop what is no object, remove doubles. Each rule has a counter."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import InputError
from clip2x.geometry import box_iou
from clip2x.types import Detections

RULES = ("box is not a number", "box outside the picture", "box without area", "box too small", "box fills the picture", "score too low",
         "double of the same name", "double of any name", "too many boxes")
"""What `suppress` counts a dropped box under. `boxes` counts all that enter."""


@dataclass(frozen=True)
class Found:
    """What a detector found in one picture.

    detections: the boxes that are left. rules: `boxes` counts those that entered, any other name those that were dropped under it.
    """

    detections: Detections
    rules: Counter[str]


@dataclass(frozen=True)
class Suppression:
    """Which boxes are dropped. All values ours (CLIP2 states none).

    min_score: boxes with a lower score; None leaves the choice to the detector.
    same_name_iou: of two boxes of one concept that overlap more, the one with the lower score. The usual value for this step.
    any_name_iou: likewise of any two boxes: one thing, named in two ways.
    min_side_px: boxes with a shorter side; a crop of fewer pixels shows little. For nuScenes (1600 x 900) 16 is proposed.
    max_share: boxes that cover more of the picture are the scene, not a thing in it.
    max_boxes: of a picture; those with the best scores stay.
    """

    min_score: float | None = None
    same_name_iou: float = 0.5
    any_name_iou: float = 0.8
    min_side_px: float = 10.0
    max_share: float = 0.9
    max_boxes: int = 50

    def __post_init__(self) -> None:
        for name in ("min_score", "same_name_iou", "any_name_iou", "max_share"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"suppression.{name} must be from 0 to 1, got {value:g}.")
        if not self.min_side_px >= 0:
            raise InputError(f"suppression.min_side_px must be at least 0, got {self.min_side_px:g}.")
        if self.max_boxes < 1:
            raise InputError(f"suppression.max_boxes must be at least 1, got {self.max_boxes}.")


def suppress(box_px: NDArray[np.floating[Any]], concept_id: NDArray[np.integer[Any]], score: NDArray[np.floating[Any]], *,
             width_px: int, height_px: int, settings: Suppression, min_score: float = 0.0) -> Found:
    """Choose among the boxes of one picture; the result does not depend on their order.

    Args:
        box_px: (M, 4) left, top, right, bottom, pixels; may reach over the picture, be empty or no numbers.
        concept_id: (M,); -1 for boxes without a name, which are doubles of each other only by `any_name_iou`.
        score: (M,).
        width_px, height_px: Of the picture.
        settings: The rules.
        min_score: Taken where `settings.min_score` is None.
    """
    boxes = np.asarray(box_px, dtype=np.float64).reshape(-1, 4)
    ids, scores = np.asarray(concept_id, dtype=np.int64).reshape(-1), np.asarray(score, dtype=np.float64).reshape(-1)
    rules: Counter[str] = Counter()
    if len(boxes):
        rules["boxes"] = len(boxes)

    def keep(which: NDArray[Any], rule: str) -> None:
        nonlocal boxes, ids, scores
        before = len(boxes)
        boxes, ids, scores = boxes[which], ids[which], scores[which]
        if before > len(boxes):
            rules[rule] += before - len(boxes)

    keep(np.isfinite(boxes).all(axis=1) & np.isfinite(scores), "box is not a number")
    keep((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]), "box without area")
    boxes = boxes.clip(0.0, np.array([width_px, height_px, width_px, height_px], dtype=np.float64))
    keep((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]), "box outside the picture")
    keep((boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= settings.min_side_px, "box too small")
    keep((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) <= settings.max_share * width_px * height_px, "box fills the picture")
    keep(scores >= (min_score if settings.min_score is None else settings.min_score), "score too low")
    keep(np.lexsort((ids, *boxes.T[::-1], -scores)), "")  # best first; equal scores by place and name, so that the order of arrival is nothing
    keep(_best_of_overlapping(boxes, settings.same_name_iou, ids), "double of the same name")
    keep(_best_of_overlapping(boxes, settings.any_name_iou), "double of any name")
    keep(np.arange(min(len(boxes), settings.max_boxes)), "too many boxes")
    return Found(Detections(boxes.astype(np.float32), ids, scores.astype(np.float32)), rules)


def _best_of_overlapping(boxes: NDArray[np.float64], limit: float, ids: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
    """Go through boxes, best first; one that stays removes the later ones that overlap it by more than `limit`: (M,) mask.

    Given `ids`, boxes of different ids, and those of id -1, do not remove each other.
    """
    alive = np.ones(len(boxes), dtype=bool)
    for position in range(len(boxes) - 1):
        if alive[position] and (ids is None or ids[position] >= 0):
            later = slice(position + 1, None)
            doubled = box_iou(boxes[position : position + 1], boxes[later])[0] > limit
            alive[later] &= ~(doubled if ids is None else doubled & (ids[later] == ids[position]))
    return alive
