"""What is drawn of a scene whose objects were named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from clip2x.types import Box3D, Camera

CORNERS: NDArray[np.float64] = np.array(list(product((-0.5, 0.5), repeat=3)))
EDGES = tuple((first, second) for first in range(8) for second in range(first) if (first ^ second).bit_count() == 1)  # pairs of CORNERS

PALETTE = ((86, 180, 233), (230, 159, 0), (0, 200, 140), (240, 228, 66), (235, 120, 60), (204, 121, 167), (120, 150, 255))
"""Okabe and Ito's colours, which people with any colour vision can tell apart, some brightened for a dark ground; names stand beside them."""
UNNAMED_COLOUR = (150, 156, 166)
UNNAMED = "?"


@dataclass(frozen=True)
class SceneObject:
    """A region and its names.

    number: in the list, from 1. box: upright frame. point_index: (N,) its points in the scene. range_m: of the box's centre from the origin.
    labels: names with their probabilities, best first. named: the best is probable enough. truth: what annotations call it, None where they
    do not say; right: whether that is the best name, None where it is no name that competes, and for an object that is left without a name.
    """

    number: int
    box: Box3D
    point_index: NDArray[np.int64]
    range_m: float
    labels: tuple[tuple[str, float], ...]
    named: bool = True
    truth: str | None = None
    right: bool | None = None

    @property
    def name(self) -> str:
        """The best name, `?` if it is not probable enough."""
        return self.labels[0][0] if self.named else UNNAMED

    @property
    def title(self) -> str:
        """Number and name, as they stand beside a box."""
        return f"{self.number} {self.name}"

    @property
    def corners(self) -> NDArray[np.float64]:
        """The corners of the box, (8, 3), in the order of `CORNERS`."""
        corners: NDArray[np.float64] = (CORNERS * self.box.size) @ self.box.points_from_box.T + self.box.centre
        return corners


@dataclass(frozen=True)
class SceneView:
    """A scene as it is drawn.

    points: (N, 3) float32, metres, upright frame: z up. colours: (N, 3) uint8 of the pictures, or None; `coloured` (N,) says which points have one.
    cameras: with pictures; `camera_from_points` from the upright frame. ahead: (2,) direction in x, y that is drawn up and looked along.
    title, about: of the page; notes: what a reader should know.
    """

    title: str
    about: str
    points: NDArray[np.float32]
    ahead: tuple[float, float]
    objects: tuple[SceneObject, ...] = ()
    cameras: tuple[Camera, ...] = ()
    colours: NDArray[np.uint8] | None = None
    coloured: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()


def name_colours(objects: Sequence[SceneObject]) -> dict[str, tuple[int, int, int]]:
    """Give each name a colour, the most frequent names first; beyond seven names colours return."""
    counts = Counter(item.name for item in objects if item.named)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    return {UNNAMED: UNNAMED_COLOUR, **{name: PALETTE[place % len(PALETTE)] for place, name in enumerate(ranked)}}


def owners(view: SceneView) -> NDArray[np.int64]:
    """Say which object (position in `objects`) each point belongs to, (N,), -1 for none; of several boxes the one with fewest points."""
    owner = np.full(len(view.points), -1, dtype=np.int64)
    for place in sorted(range(len(view.objects)), key=lambda place: -len(view.objects[place].point_index)):
        owner[view.objects[place].point_index] = place
    return owner


def plan_bounds(view: SceneView, middle_share: float = 0.96) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bound what is drawn: all boxes and the middle share of the points along each axis; lowest and highest x, y, z."""
    rim = 50 * (1 - middle_share)
    low, high = np.percentile(view.points, [rim, 100 - rim], axis=0)
    for item in view.objects:
        low, high = np.minimum(low, item.corners.min(axis=0)), np.maximum(high, item.corners.max(axis=0))
    return low, np.maximum(high, low + 0.1)
