"""Draw what annotators of SUN RGB-D draw: 3-D boxes on the floor plan, rectangles and outlines in the picture, the room itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.geometry import transform_points
from clip2x.miniworld.rooms.floorplan import Standing
from clip2x.miniworld.rooms.layout import Room
from clip2x.miniworld.rooms.shell import SHELL_NAMES

SLACK = 0.03  # metres that a box's sides stand off at most. Ours: annotators see noisy points, not surfaces
EMPTY_SHARE = 0.25  # of the places in the list of objects are null, left by objects that were deleted. Ours
OUTLINE_ROWS = 8  # rows whose ends make an outline. Ours
LEAST_WALL = 150  # pixels of floor, walls, windows that are outlined. Ours
DATE = "Sun,15Feb201511:00:00GMT"


@dataclass(frozen=True)
class SeenObject:
    """An object of which enough is visible. box_px: left, top, right, bottom of its visible pixels, right and bottom exclusive."""

    number: int
    standing: Standing
    box_px: tuple[int, int, int, int]
    pixels: int


def annotate(room: Room, seen: list[SeenObject], upright_from_world: NDArray[np.float64],
             rng: np.random.Generator) -> tuple[dict[str, dict[str, Any]], dict[int, int]]:
    """Annotate a frame in three dimensions.

    Args:
        room: With its objects.
        seen: Those that get a box.
        upright_from_world: (4, 4); x right, y forward, z up, origin in the camera.
        rng: Decides how loose the boxes are and where nulls stand.

    Returns:
        Folder -> content of its index.json, for annotation3Dfinal, annotation2D3D and annotation3Dlayout; and instance number -> position
        in the objects of annotation3Dfinal.
    """
    objects: list[dict[str, Any] | None] = []
    positions: dict[int, int] = {}
    for item in seen:
        positions[item.number] = len(objects)
        objects.append(_floor_object(room, item, upright_from_world, rng))
        if rng.random() < EMPTY_SHARE:
            objects.append(None)
    rectangles = [{"x": [left, left, right, right], "y": [top, bottom, bottom, top], "object": number, "rect": 1, "annotator": "mini-world"}
                  for number, (left, top, right, bottom) in enumerate(item.box_px for item in seen)]
    bottom = np.column_stack([room.corners, np.zeros(len(room.corners))])
    corners = transform_points(upright_from_world, bottom)
    floor = float(corners[0, 2])
    layout = {"name": "room", "polygon": [{"Ymin": _number(-floor - room.ceiling), "Ymax": _number(-floor), "rectangle": False,
                                           "X": _numbers(corners[:, 0]), "Z": _numbers(corners[:, 1])}]}
    filled = [{**item, "polygon": [{**polygon, "rectangle": int(polygon["rectangle"])} for polygon in item["polygon"]]}  # written as 1 there
              for item in objects if item is not None]
    return {"annotation3Dfinal": {"date": DATE, "name": room.kind, "frames": [{}], "objects": objects},
            "annotation2D3D": {"date": DATE, "name": room.kind, "frames": [{"polygon": rectangles}], "objects": filled},
            "annotation3Dlayout": {"date": DATE, "name": room.kind, "frames": [{}], "objects": [None, layout]}}, positions


def _floor_object(room: Room, item: SeenObject, upright_from_world: NDArray[np.float64], rng: np.random.Generator) -> dict[str, Any]:
    """Draw one box; the underside of what stands on the floor is the floor."""
    standing = item.standing
    foot = standing.footprint.grown(float(rng.uniform(0, SLACK)))
    top = standing.z + standing.height + rng.uniform(0, SLACK)
    bottom = standing.z if standing.support is None else standing.z - rng.uniform(0, 0.5 * SLACK)
    corners = transform_points(upright_from_world, np.column_stack([foot.corners, np.full(4, bottom)]))
    height = float(corners[0, 2])
    return {"name": standing.name.replace(" ", "_"),
            "polygon": [{"Ymin": _number(-height - (top - bottom)), "Ymax": _number(-height), "rectangle": True,
                         "X": _numbers(corners[:, 0]), "Z": _numbers(corners[:, 1])}]}


def outline_annotation(number: NDArray[np.int32], filled: NDArray[np.float32], intrinsics: NDArray[np.float64],
                       seen: list[SeenObject]) -> dict[str, Any]:
    """Outline every visible object, and the room's shell, in the picture: content of annotation2Dfinal."""
    regions = [(item.number, item.standing.name.replace(" ", "_")) for item in seen]
    counts = np.bincount(-number[number < -1], minlength=-min(SHELL_NAMES) + 1)
    regions += [(code, name) for code, name in SHELL_NAMES.items() if counts[-code] >= LEAST_WALL]
    polygons = []
    for position, (code, _) in enumerate(regions):
        outline = _outline(number == code)
        inside = outline.clip(0, np.array([number.shape[1] - 1, number.shape[0] - 1]))
        depth = filled[inside[:, 1], inside[:, 0]].astype(np.float64)
        rays = (inside + 1 - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
        spots = np.column_stack([rays * depth[:, None], depth]).round(4)
        polygons.append({"x": outline[:, 0].tolist(), "y": outline[:, 1].tolist(), "XYZ": spots.tolist(), "object": position,
                         "annotator": "mini-world"})
    return {"date": DATE, "name": "mini-world", "frames": [{"polygon": polygons}], "objects": [{"name": name} for _, name in regions]}


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Draw a rough outline of a mask (H, W) that has pixels: the ends of some of its rows, down the left and up the right side, (K, 2) of x, y.

    The rows that reach farthest to the sides are among them, so the outline's bounds are the mask's.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    left = mask[rows].argmax(axis=1)
    right = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    chosen = np.unique([*np.linspace(0, len(rows) - 1, OUTLINE_ROWS).round().astype(int), left.argmin(), right.argmax()])
    ends = np.column_stack([left[chosen], rows[chosen]]), np.column_stack([right[chosen], rows[chosen]])[::-1]
    outline: NDArray[np.int64] = np.concatenate(ends).astype(np.int64)
    outline[len(chosen) - 1 : len(chosen) + 1, 1] += 1  # down to the lower edge of the lowest row
    return outline


def _number(value: float) -> float:
    return round(float(value), 6)


def _numbers(values: NDArray[np.float64]) -> list[float]:
    return [_number(value) for value in values.tolist()]
