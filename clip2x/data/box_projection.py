"""Where in a picture a 3-D box or a point of a scene frame is seen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.geometry import project_points, transform_points
from clip2x.types import Box3D, Camera

NEAR_M = 0.1
"""What is nearer to a camera than this is not in its picture, metres. Ours: keeps the division by depth finite."""

CORNERS: NDArray[np.float64] = np.array(list(product((-0.5, 0.5), repeat=3)))
FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))  # positions in CORNERS, around each face

Rectangle = NDArray[np.float64]  # (4,) left, top, right, bottom, pixels


def project_boxes(boxes: Sequence[Box3D], camera: Camera) -> list[Rectangle | None]:
    """Find the smallest rectangles around what of each 3-D box lies in a picture; None for a box outside of it.

    Boxes are solid: a box is cut with the pyramid of space that the picture shows, not only its corners with the picture, so a box that
    reaches behind the camera or beyond the border has the rectangle of its visible part.
    """
    if not boxes:
        return []
    corners = np.stack([(CORNERS * box.size) @ box.points_from_box.T + box.centre for box in boxes])
    corners = transform_points(camera.camera_from_points, corners.reshape(-1, 3)).reshape(len(boxes), 8, 3)
    planes = _sides_of_view(camera)
    distances = corners @ planes[:, :3].T + planes[:, 3]  # (B, 8, 5), at least 0 within
    found: list[Rectangle | None] = []
    for box_corners, away in zip(corners, distances, strict=True):
        if (away >= 0).all():
            found.append(_bounds(box_corners, camera))
        elif (away < 0).all(axis=0).any():
            found.append(None)
        else:
            pieces = [_clip(box_corners[list(face)], planes) for face in FACES]
            visible = np.concatenate(pieces)
            found.append(_bounds(visible, camera) if len(visible) else None)
    return [None if rectangle is None or min(rectangle[2:] - rectangle[:2]) <= 0 else rectangle for rectangle in found]


def best_view(box: Box3D, points: NDArray[np.floating[Any]], cameras: Sequence[Camera]) -> tuple[Camera, Rectangle] | None:
    """Choose the picture that shows an object best: the one with most of its points, among equals the one with its largest rectangle.

    Args:
        box: Frame of the points.
        points: (N, 3) those of the object; none to go by the rectangle alone.
        cameras: Of the frame.

    Returns:
        The camera and the rectangle around what of the box lies in its picture; what stands before the object is not looked for. None if
        no picture shows the box.
    """
    shown = [(camera, rectangle) for camera in cameras if (rectangle := project_boxes([box], camera)[0]) is not None]
    if len(shown) < 2:
        return shown[0] if shown else None
    return max(shown, key=lambda view: (int(in_picture(points, view[0]).sum()), float(np.prod(view[1][2:] - view[1][:2]))))


def _sides_of_view(camera: Camera) -> NDArray[np.float64]:
    """List the planes around what a picture shows, (5, 4): normal and offset; normal @ point + offset is at least 0 within (camera frame)."""
    across, down, forward = camera.intrinsics[0], camera.intrinsics[1], np.array([0.0, 0.0, 1.0])
    normals = np.stack([forward, across, camera.width_px * forward - across, down, camera.height_px * forward - down])
    return np.column_stack([normals, [-NEAR_M, 0, 0, 0, 0]])


def _clip(polygon: NDArray[np.float64], planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut a convex polygon (N, 3) with half spaces (Sutherland and Hodgman, 1974); (M, 3), M = 0 where nothing is left."""
    for plane in planes:
        away = polygon @ plane[:3] + plane[3]
        kept: list[NDArray[np.float64]] = []
        for place in range(len(polygon)):
            before, here = away[place - 1], away[place]
            if (before >= 0) != (here >= 0):
                kept.append(polygon[place - 1] + before / (before - here) * (polygon[place] - polygon[place - 1]))
            if here >= 0:
                kept.append(polygon[place])
        polygon = np.array(kept).reshape(-1, 3)
    return polygon


def _bounds(points: NDArray[np.float64], camera: Camera) -> Rectangle:
    """Find the smallest rectangle around points in front of the camera, cut to the picture."""
    pixels, _ = project_points(points, camera.intrinsics)
    size = np.array([camera.width_px, camera.height_px], dtype=np.float64)
    return np.concatenate([np.clip(pixels.min(axis=0), 0, size), np.clip(pixels.max(axis=0), 0, size)])


def in_picture(points: NDArray[np.floating[Any]], camera: Camera) -> NDArray[np.bool_]:
    """Say which points lie in a picture, (N,)."""
    planes = _sides_of_view(camera)
    away = transform_points(camera.camera_from_points, points) @ planes[:, :3].T + planes[:, 3]
    inside: NDArray[np.bool_] = np.logical_and.reduce(away.T >= 0)
    return inside
