"""What people drew into a frame of SUN RGB-D: 3-D boxes on the floor plan, 2-D boxes and outlines in the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import BadFileError, DataNotFoundError
from clip2x.types import Box2D
from clip2x.untrusted import excerpt, json_value

BOXES_3D = "annotation3Dfinal/index.json"
BOXES_2D = ("annotation2D3D/index.json", "annotation2Dfinal/index.json")  # rectangles of the objects that have 3-D boxes; outlines of everything
FARTHEST_CORNER = 1e3  # metres; ours: no room reaches so far (NaN is beyond, too)
SMALLEST_SIDE = 1e-3  # metres; ours: a thinner box is a slip of the mouse and holds no points


@dataclass(frozen=True)
class FloorBox:
    """An annotated box in the upright frame (x right, y forward, z up), metres.

    position: in the file's list of objects, the empty ones counted. name: see `object_name`. centre, size: (3,) float64.
    upright_from_box: (3, 3) float64 rotation; its columns are the box's axes: along the first drawn side, across, up.
    """

    position: int
    name: str
    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    upright_from_box: NDArray[np.float64]


def read_annotation(path: Path) -> dict[str, Any]:
    """Read one of the index.json files.

    Raises:
        DataNotFoundError: If there is no such file.
        BadFileError: If it is no JSON or has no list of objects.
    """
    try:
        content = json_value(path.read_bytes())
    except FileNotFoundError:
        raise DataNotFoundError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: not a readable JSON file ({' '.join(str(error).split())[:120]}).") from error
    if not isinstance(content, dict) or not isinstance(content.get("objects"), (list, dict)):
        raise BadFileError(f"{path}: an annotation must hold a list 'objects', found "
                           f"{excerpt(list(content)) if isinstance(content, dict) else type(content).__name__}.")
    return content


def object_name(raw: object) -> str:
    """Take an object's name without what was typed behind it (`chair:truncated`, `chair_:occluded`), in lower case.

    Source: official toolbox, readframeSUNRGBD.m (which keeps the case).
    """
    return str(raw).partition(":")[0].strip().rstrip("_ ").lower()


def floor_boxes(path: Path) -> tuple[list[FloorBox], int]:
    """Read the 3-D boxes of a frame.

    Corners `X` and `Z` are right and forward on the floor plan; heights go from -Ymax to -Ymin (checked on a real frame: with the sign flipped
    a chair's box holds a sixth of the points). Of an object with several polygons the first counts, as in readframeSUNRGBD.m.

    Returns:
        The boxes, and the number of objects without a usable one: no polygon, fewer than three corners, no extent, a corner beyond
        `FARTHEST_CORNER`. Empty places of the list (nulls, from deleted objects) are not counted.

    Raises:
        DataNotFoundError, BadFileError: As `read_annotation`.
    """
    boxes, unusable = [], 0
    for position, item in enumerate(_elements(read_annotation(path)["objects"])):
        if not item:
            continue
        box = _floor_box(position, item)
        unusable += box is None
        boxes += [] if box is None else [box]
    return boxes, unusable


def picture_boxes(frame_folder: Path, labels: Mapping[str, int], camera: str, width_px: int, height_px: int) -> tuple[list[Box2D], str]:
    """Read the 2-D boxes of a frame: the rectangles of annotation2D3D, else the bounding rectangles of the outlines of annotation2Dfinal.

    annotation2D3D repeats the objects of annotation3Dfinal without its nulls, each with a rectangle drawn for it; annotation2Dfinal names
    everything in the picture, walls too, in other words (checked on one real frame). Both may reach beyond the picture and are cut to it;
    what lies outside is dropped.

    Returns:
        The boxes and what should be noted about them, an empty text if nothing.

    Raises:
        BadFileError: As `read_annotation`.
    """
    for file in BOXES_2D:
        try:
            content = read_annotation(frame_folder / file)
        except DataNotFoundError:
            continue
        objects = _elements(content["objects"])
        frames = _elements(content.get("frames"))
        polygons = _elements(frames[0].get("polygon")) if frames and isinstance(frames[0], dict) else []
        boxes = [box for polygon in polygons if (box := _picture_box(polygon, objects, labels, camera, width_px, height_px)) is not None]
        lost = len(polygons) - len(boxes)
        notes = [f"2-D boxes are those of {file}."] if file != BOXES_2D[0] else []
        notes += [f"{lost} of {len(polygons)} outlines of {file} are not usable."] if lost else []
        return boxes, " ".join(notes)
    return [], f"there is no {BOXES_2D[0]}: no 2-D boxes."


def bounding_rectangle(corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Find the smallest rectangle around corners: of a drawn rectangle, itself.

    Ours: the official reader takes the first three corners of every polygon as those of a rectangle, which is the same for rectangles only.

    Args:
        corners: (N, 2), N at least 3.

    Returns:
        Centre (2,), lengths (2,), and a rotation (2, 2) whose columns are the sides' directions, the first along the first side of the
        polygon where that is one of the best (ties within 1e-6 of the area go to the earlier side).
    """
    sides = [corners[(first + 1) % len(corners)] - corners[first] for first in range(len(corners))]
    diagonals = [second - first for first, second in combinations(corners, 2)]  # the best one lies along a side of the convex hull
    best: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None = None
    for side in (*sides, *diagonals):
        length = np.linalg.norm(side)
        if length < SMALLEST_SIDE:
            continue
        along = side / length
        rotation = np.array([[along[0], -along[1]], [along[1], along[0]]])
        turned = corners @ rotation
        low, high = turned.min(axis=0), turned.max(axis=0)
        if best is None or np.prod(high - low) < np.prod(best[1]) * (1 - 1e-6):
            best = rotation @ ((low + high) / 2), high - low, rotation
    return best or (corners.mean(axis=0), np.zeros(2), np.eye(2))


def _floor_box(position: int, item: Any) -> FloorBox | None:
    """Make a box of one object; None if it has none that could hold points."""
    polygons = _elements(item.get("polygon")) if isinstance(item, dict) else []
    if not polygons or not isinstance(polygons[0], dict):
        return None
    try:
        corners = np.stack([np.asarray(polygons[0][key], dtype=np.float64).reshape(-1) for key in ("X", "Z")], axis=1)
        heights = -np.array([float(polygons[0]["Ymax"]), float(polygons[0]["Ymin"])])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if len(corners) < 3 or not (np.abs(corners).max() < FARTHEST_CORNER and np.abs(heights).max() < FARTHEST_CORNER):
        return None
    centre, lengths, rotation = bounding_rectangle(corners)
    size = np.array([*lengths, abs(heights[1] - heights[0])])
    if size.min() < SMALLEST_SIDE:
        return None
    upright_from_box = np.eye(3)
    upright_from_box[:2, :2] = rotation
    return FloorBox(position, object_name(item.get("name")), np.array([*centre, heights.mean()]), size, upright_from_box)


def _picture_box(polygon: Any, objects: list[Any], labels: Mapping[str, int], camera: str, width_px: int, height_px: int) -> Box2D | None:
    """Make a box of one outline; None if it belongs to no object or lies outside of the picture."""
    try:
        position = int(polygon["object"])
        item = objects[position] if position >= 0 else None
        across, down = (np.asarray(polygon[key], dtype=np.float64).reshape(-1) for key in ("x", "y"))
        left, right = np.clip([across.min(), across.max()], 0, width_px).tolist()
        top, bottom = np.clip([down.min(), down.max()], 0, height_px).tolist()
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None
    if not isinstance(item, dict) or not (right - left > 0 and bottom - top > 0):
        return None
    name = object_name(item.get("name"))
    return Box2D(name=name, label=labels.get(name, -1), camera=camera, box_px=(left, top, right, bottom))


def _elements(value: Any) -> list[Any]:
    """Give a JSON list as it is; MATLAB's writers store a list of one element as that element, an empty one as null or {}."""
    if isinstance(value, list):
        return value
    return [value] if value else []
