"""The height of LiDAR points above the ground."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, eye_array, kron, vstack
from scipy.sparse.linalg import splu

Points = NDArray[np.float64]
Heights = NDArray[np.float64]

NEAREST = 2.5  # metres: nearer points are of the car itself. Ours
REACH = 60.0  # metres to every side that the surface covers; it goes on flat beyond. Ours
HIGHEST, LOWEST = 1.0, -8.0  # metres against the sensor, between which ground is looked for. Ours: roofs of cars end above, valleys below
SECTOR_DEG, RING = 3.0, 1.06  # cells that give one candidate each: a sector, and a ring whose outer edge is so many times its inner one. Ours
KNOT = 6.0  # metres between the knots of the surface: shorter than a crossing, longer than a car is wide. Ours
STIFFNESS = 1.0  # weight of the squared second differences (metres between knots) against one candidate. Ours: follows a crest, not a car
PLANE_SCALES = (1.0, 0.5, 0.3, 0.2)  # metres: what counts as an outlier gets stricter. Ours
SURFACE_SCALES = (0.5, 0.3, 0.2, 0.15)


def height_above_plane(points: Points) -> Heights:
    """Measure the height above the plane that fits the ground within `REACH` best.

    Args:
        points: (N, 3), gravity-aligned frame of the sensor (z up), metres.

    Returns:
        (N,), metres; NaN where there is nothing to fit a plane to.
    """
    candidates = lowest_points(points)
    if len(candidates) < 3:
        return np.full(len(points), np.nan)
    return points[:, 2] - _plane(points, _fit_plane(points[candidates]))


def height_above_surface(points: Points) -> Heights:
    """Measure the height above a smooth surface: the plane of `height_above_plane`, bent to the lowest points around.

    The surface is bilinear between knots and minimises the distances to the candidates, those off it counting less and less, plus its second
    differences, so that it goes on straight where there is no candidate. Solved by reweighted least squares.

    Args:
        points: (N, 3), gravity-aligned frame of the sensor (z up), metres.

    Returns:
        (N,), metres; NaN where there is nothing to fit a plane to.

    Source: ours; penalised splines with weights that ignore what stands above are a usual estimate of a baseline (Eilers and Marx 1996).
    """
    chosen = lowest_points(points)
    if len(chosen) < 3:
        return np.full(len(points), np.nan)
    candidates = points[chosen]
    plane = _fit_plane(candidates)
    above = candidates[:, 2] - _plane(candidates, plane)
    knots = round(2 * REACH / KNOT) + 1
    at_candidates = _interpolation(candidates, knots)
    second, first = (diags_array(values, offsets=range(len(values)), shape=(knots - len(values) + 1, knots), dtype=np.float64)
                     for values in ([1.0, -2.0, 1.0], [-1.0, 1.0]))
    along = eye_array(knots)
    bending = vstack([kron(second, along), kron(along, second), np.sqrt(2.0) * kron(first, first)])
    stiff = STIFFNESS * (bending.T @ bending) + 1e-9 * eye_array(knots * knots)
    bend = np.zeros(knots * knots)
    for scale in SURFACE_SCALES:
        weight = _weight(above - at_candidates @ bend, scale)
        weighted = at_candidates.T * weight[None]
        bend = splu((weighted @ at_candidates + stiff).tocsc()).solve(weighted @ above)
    height: Heights = points[:, 2] - _plane(points, plane) - _interpolation(points, knots) @ bend
    return height


def lowest_points(points: Points) -> NDArray[np.int64]:
    """Find the lowest point of every cell of a polar grid around the sensor."""
    distance = np.hypot(points[:, 0], points[:, 1])
    near = np.flatnonzero((distance > NEAREST) & (distance < REACH) & (points[:, 2] > LOWEST) & (points[:, 2] < HIGHEST))
    sector = np.floor(np.degrees(np.arctan2(points[near, 1], points[near, 0])) / SECTOR_DEG).astype(np.int64)
    ring = np.floor(np.log(distance[near] / NEAREST) / np.log(RING)).astype(np.int64)
    cell = sector * 1000 + ring
    order = np.lexsort((*points[near, :2].T, points[near, 2], cell))  # by place among equals, so that the order of the points does not matter
    lowest: NDArray[np.int64] = near[order[np.diff(cell[order], prepend=cell.min(initial=0) - 1) != 0]]
    return lowest


def _weight(distance: Heights, scale: float) -> NDArray[np.float64]:
    """Let distances beyond a scale count less (Geman and McClure's estimator)."""
    return np.asarray(1.0 / (1.0 + (distance / scale) ** 2) ** 2)


def _fit_plane(candidates: Points) -> NDArray[np.float64]:
    """Fit z = a x + b y + c to most of the candidates; returns (a, b, c). Starts from a level plane through the lowest fifth."""
    rows = np.column_stack([candidates[:, :2], np.ones(len(candidates))])
    plane = np.array([0.0, 0.0, np.percentile(candidates[:, 2], 20)])
    for scale in PLANE_SCALES:
        root = np.sqrt(_weight(candidates[:, 2] - rows @ plane, scale))
        plane = np.linalg.lstsq(rows * root[:, None], candidates[:, 2] * root, rcond=None)[0]
    return plane


def _plane(points: Points, plane: NDArray[np.float64]) -> Heights:
    return np.asarray(points[:, :2] @ plane[:2] + plane[2])


def _interpolation(points: Points, knots: int) -> csr_array:
    """Build the matrix (N, knots^2) that interpolates bilinearly at points; those outside take the value at the rim."""
    place = np.clip((points[:, :2] + REACH) / KNOT, 0.0, knots - 1.001)
    corner = np.floor(place).astype(np.int64)
    right, up = (place - corner).T
    first = corner[:, 0] * knots + corner[:, 1]
    columns = np.stack([first, first + knots, first + 1, first + knots + 1], axis=1)
    weights = np.stack([(1 - right) * (1 - up), right * (1 - up), (1 - right) * up, right * up], axis=1)
    starts = np.arange(0, 4 * len(points) + 1, 4)
    return csr_array((weights.ravel(), columns.ravel(), starts), shape=(len(points), knots * knots))
