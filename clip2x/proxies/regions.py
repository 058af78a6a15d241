"""Regions of a scene that may be objects: the points inside given boxes, and clusters that no detector and no class list is needed for.

All of the clustering is ours. Streets and rooms reuse what finds points for a detector's boxes (`OutdoorLifting`, `IndoorLifting`); a cloud of
unknown origin gets a ground and walls of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError, cKDTree

from clip2x.geometry import points_in_box
from clip2x.proxies.clusters import thinned_clusters
from clip2x.proxies.indoor import IndoorLifting, clusters
from clip2x.proxies.outdoor import OutdoorLifting
from clip2x.types import Box3D, SceneFrame

Points = NDArray[np.floating[Any]]
Index = NDArray[np.int64]

LEAST_SIDE = 0.05  # metres: the smallest side of a fitted box, so that a flat cluster still has one. Ours
# Of clusters that are kept, metres. Ours: less high is a kerb or a rug, longer is a building, a hedge or a wall.
LEAST_HEIGHT = {"street": 0.3, "room": 0.1, "cloud": 0.1}
LONGEST_SIDE = {"street": 15.0, "room": 3.5, "cloud": 6.0}
ROOM_GRID, ROOM_REACH = 0.03, 0.1  # metres: of the clusters in rooms, as in `IndoorLifting`; 0.04 and 0.06 m break objects up. Ours
# Of a cloud of unknown origin. All ours.
GROUND_CELL = 0.5  # metres
GROUND_WINDOW = 13  # cells: what covers less than most of 6.5 m x 6.5 m stands on the ground
GROUND_RANK = 10  # per cent of a window's cells that may lie below the ground: noise
GROUND_MARGIN = 0.1  # metres
WALL_CELL = 0.1  # metres
WALL_HEIGHT, WALL_FILLED = 1.8, 0.6  # metres that a column of points reaches, and the share of its height that holds points
WALL_LENGTH = 2.0  # metres of such columns in a line
WALL_MARGIN, WALL_GAP = 0.1, 0.3  # metres on each side of that line, and along it from a high column to a lower one of the same wall
MOST_WALLS = 8
SPACINGS = 4.0  # radius of the clustering in median distances to the fourth nearest point
CLOUD_REACH = (0.06, 1.0)  # metres: bounds of that radius


@dataclass(frozen=True)
class Region:
    """A part of a scene that is to be named. box: upright frame (z up). point_index: (N,) sorted positions in the frame's points."""

    box: Box3D
    point_index: Index


def regions_in_boxes(points: Points, boxes: Sequence[Box3D]) -> list[Region]:
    """Find the points in boxes.

    Args:
        points: (N, 3), metres, the boxes' frame.
        boxes: A point may lie in several.

    Returns:
        As many regions as boxes; one without a point has an empty index.
    """
    return [Region(box, np.flatnonzero(points_in_box(points, box.centre, box.size, box.points_from_box))) for box in boxes]


def find_regions(frame: SceneFrame, kind: str, min_points: int) -> tuple[list[Region], Counter[str]]:
    """Find clusters that stand free in a frame, the nearest to the sensor first.

    Args:
        frame: Its points in the sensor's frame.
        kind: `street`: a LiDAR sweep, the sensor at the origin. `room`: an RGB-D picture. `cloud`: of unknown origin.
        min_points: Of a cluster.

    Returns:
        The regions, each with the smallest upright box around its points; and what was dropped, by reason.
    """
    upright = frame.points @ frame.upright_from_points.T
    if kind == "street":
        solid = OutdoorLifting().solid(frame)
        index, label = solid.index, solid.cluster
    elif kind == "room":
        index = IndoorLifting().standing(frame, frame.cameras[0].name)
        label = clusters(upright[index], ROOM_GRID, ROOM_REACH)
    else:
        index = standing_points(upright)
        label = thinned_clusters(upright[index], np.full(len(index), cloud_reach(upright)), 3)
    dropped: Counter[str] = Counter()
    found: list[Region] = []
    for group in _groups(label):
        box = fit_box(upright[index[group]], "")
        if len(group) < min_points:
            dropped[f"fewer than {min_points} points"] += 1
        elif box.size[2] < LEAST_HEIGHT[kind]:
            dropped[f"less than {LEAST_HEIGHT[kind]:g} m high"] += 1
        elif box.size.max() > LONGEST_SIDE[kind]:
            dropped[f"a side above {LONGEST_SIDE[kind]:g} m"] += 1
        else:
            found.append(Region(box, np.sort(index[group])))
    found.sort(key=lambda region: (float(np.linalg.norm(region.box.centre)), int(region.point_index[0])))
    return [replace(region, box=replace(region.box, token=f"cluster-{place}")) for place, region in enumerate(found)], dropped


def fit_box(points: Points, name: str) -> Box3D:
    """Fit the box of smallest area from above around points (N, 3), z up; its first axis is the longer of the two level ones."""
    flat = np.asarray(points[:, :2], dtype=np.float64)
    with suppress(QhullError):  # all in a line
        flat = flat[ConvexHull(flat).vertices] if len(flat) > 2 else flat
    edges = np.roll(flat, -1, axis=0) - flat
    best: tuple[float, float, NDArray[np.float64], NDArray[np.float64]] | None = None
    for turn in np.unique(np.arctan2(edges[:, 1], edges[:, 0]) % (np.pi / 2)):  # the smallest rectangle shares a side with the hull
        along = flat @ _turned(turn)[:2, :2]
        low, high = along.min(axis=0), along.max(axis=0)
        sides = np.maximum(high - low, LEAST_SIDE)
        if best is None or sides[0] * sides[1] < best[0] - 1e-12:
            best = float(sides[0] * sides[1]), float(turn), (low + high) / 2, sides
    assert best is not None
    _, turn, middle, sides = best
    bottom, top = float(points[:, 2].min()), float(points[:, 2].max())
    centre = np.append(_turned(turn)[:2, :2] @ middle, (bottom + top) / 2)
    if sides[1] > sides[0]:
        turn, sides = turn + np.pi / 2, sides[::-1]
    return Box3D(token="", name=name, label=-1, centre=centre, size=np.append(sides, max(top - bottom, LEAST_SIDE)), points_from_box=_turned(turn))


def standing_points(points: Points) -> Index:
    """Find what stands on the ground of a cloud (N, 3), z up, metres: neither the ground nor a wall; sorted positions."""
    height = height_above_opening(points)
    index = np.flatnonzero(height > GROUND_MARGIN)
    return index[~wall_points(points[index])] if len(index) else index


def height_above_opening(points: Points) -> NDArray[np.float64]:
    """Measure the height of points (N, 3), z up, above the lowest points around: their grid, eroded and dilated by ranks.

    Source: ours; a morphological opening is a usual ground filter (Zhang et al., 2003), ranks in the place of extremes ignore noise.
    """
    cell = np.floor((points[:, :2] - points[:, :2].min(axis=0)) / GROUND_CELL).astype(np.int64)
    lowest = np.full(cell.max(axis=0) + 1, np.inf)
    np.minimum.at(lowest, tuple(cell.T), points[:, 2])
    empty = ~np.isfinite(lowest)
    if empty.any():
        nearest = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
        lowest = lowest[tuple(nearest)]
    eroded = ndimage.percentile_filter(lowest, GROUND_RANK, GROUND_WINDOW, mode="nearest")
    ground = ndimage.percentile_filter(eroded, 100 - GROUND_RANK, GROUND_WINDOW, mode="nearest")
    height: NDArray[np.float64] = points[:, 2] - ground[tuple(cell.T)]
    return height


def wall_points(points: Points) -> NDArray[np.bool_]:
    """Mark the points (N, 3), z up, of long upright walls: columns of points that reach high, many of them in a line from above."""
    cell = np.floor((points - points.min(axis=0)) / WALL_CELL).astype(np.int64)
    column = np.ravel_multi_index((cell[:, 0], cell[:, 1]), tuple(cell[:, :2].max(axis=0) + 1))
    names, member = np.unique(column, return_inverse=True)
    voxels = np.unique(np.stack([member, cell[:, 2]], axis=1), axis=0)
    filled = np.bincount(voxels[:, 0], minlength=len(names))
    high = np.full(len(names), -np.inf)
    low = np.full(len(names), np.inf)
    np.maximum.at(high, member, points[:, 2])
    np.minimum.at(low, member, points[:, 2])
    tall = (high - low > WALL_HEIGHT) & (filled * WALL_CELL > WALL_FILLED * (high - low))
    middle = np.stack([np.bincount(member, weights=axis) for axis in points[:, :2].T], axis=1) / np.bincount(member)[:, None]
    marked = np.zeros(len(points), dtype=bool)
    for _ in range(MOST_WALLS):
        line = _longest_line(middle[tall])
        if line is None:
            break
        normal, offset = line
        near = np.abs(middle @ normal - offset) < WALL_MARGIN
        beside = np.flatnonzero(near)
        marked[np.isin(member, beside[cKDTree(middle[near & tall]).query(middle[beside])[0] < WALL_GAP])] = True
        tall &= ~near
    return marked


def cloud_reach(points: Points) -> float:
    """Choose the radius of the clustering from how densely points (N, 3) lie, metres."""
    some = points[:: max(1, len(points) // 2000)]
    distance = cKDTree(points).query(some, k=min(5, len(points)))[0][:, -1]
    return float(np.clip(SPACINGS * np.median(distance), *CLOUD_REACH))


def _longest_line(middle: NDArray[np.float64]) -> tuple[NDArray[np.float64], float] | None:
    """Find the line that most columns (M, 2) lie on: its normal and offset; None if they are too few for a wall."""
    if len(middle) < WALL_LENGTH / WALL_CELL:
        return None
    best: tuple[int, NDArray[np.float64], float] = (0, np.zeros(2), 0.0)
    for turn in np.linspace(0, np.pi, 180, endpoint=False):
        normal = np.array([np.cos(turn), np.sin(turn)])
        offset = middle @ normal
        place = np.floor((offset - offset.min()) / WALL_CELL).astype(np.int64)
        counts = np.convolve(np.bincount(place), [1, 1])
        most = int(counts.argmax())
        if counts[most] > best[0]:
            best = int(counts[most]), normal, float(offset.min() + most * WALL_CELL)
    if best[0] < WALL_LENGTH / WALL_CELL:
        return None
    near = middle[np.abs(middle @ best[1] - best[2]) < WALL_MARGIN]
    normal = np.linalg.svd(near - near.mean(axis=0), full_matrices=False)[2][-1]  # half a degree is 4 cm on 5 m of wall
    return normal, float(near.mean(axis=0) @ normal)


def _groups(label: Index) -> list[Index]:
    """List the members of each cluster, those of -1 left out."""
    order = np.argsort(label, kind="stable")
    order = order[label[order] >= 0]
    return [group for group in np.split(order, np.flatnonzero(np.diff(label[order])) + 1) if len(group)]


def _turned(turn: float) -> NDArray[np.float64]:
    """Build the rotation (3, 3) about z by an angle, radians."""
    sine, cosine = np.sin(turn), np.cos(turn)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
