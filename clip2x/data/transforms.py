"""Choose a fixed number of points from a cloud, repeatably."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clip2x.geometry import farthest_points

SAMPLERS = ("random", "farthest")


def generator_for(seed: int, key: str) -> np.random.Generator:
    """Make the random generator that belongs to one sample.

    Draws depend on the seed and on the sample's name alone, not on the order of access, the worker or the rank.
    """
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()])


def choose_points(points: NDArray[np.floating[Any]], num_points: int, rng: np.random.Generator,
                  sampler: str = "random") -> NDArray[np.floating[Any]]:
    """Bring a cloud to a given number of points.

    Args:
        points: (N, 3), N at least 1.
        num_points: How many to return. With fewer points at hand all of them are kept and some, drawn at random, are repeated.
        rng: Source of the draws.
        sampler: With more points at hand: `random` draws without replacement, `farthest` takes farthest point sampling from the
            first point on (as the official CLIP2Point code does for ScanObjectNN).

    Returns:
        (num_points, 3), the dtype of `points`; `points` itself where the number is right already.
    """
    count = len(points)
    if count == num_points:
        return points
    if count < num_points:
        return np.concatenate([points, points[rng.integers(count, size=num_points - count)]])
    if sampler == "farthest":
        chosen = farthest_points(torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32))[None], num_points)
        taken: NDArray[np.floating[Any]] = points[chosen[0].numpy()]
        return taken
    return points[rng.choice(count, size=num_points, replace=False)]


def near_origin(points: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Shift points to the middle of their bounding box where they lie so far away that float32 would spoil their shape.

    Ours: beyond 1,000 times their extent (geographic coordinates, for example), where float32 resolves less than 1/16,000 of the extent.
    Elsewhere the points are returned as they are.
    """
    columns = np.ascontiguousarray(points.T)  # reductions along rows of three are ten times slower
    low, high = columns.min(axis=1), columns.max(axis=1)
    if float(np.maximum(np.abs(low), np.abs(high)).max()) > 1000.0 * float((high - low).max()):
        shifted: NDArray[np.floating[Any]] = points - (low + high) / 2
        return shifted
    return points
