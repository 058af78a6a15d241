"""Density clustering (DBSCAN) with a radius of its own for every point."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

BAND = 1.25
"""Points whose radii differ by less than this factor share a search. Ours: changes the time only."""


def density_clusters(points: NDArray[np.float64], radius: NDArray[np.float64], least: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Cluster points where they lie densely.

    Two points are neighbours if they are no farther apart than the smaller of their radii. A point with at least `least` neighbours, itself
    counted, is a core; cores that are neighbours share a cluster; another point joins its nearest core among its neighbours. The partition
    does not depend on the order of the points.

    Args:
        points: (N, 3), metres.
        radius: (N,) above 0, metres ("eps").
        least: Of every point or of all ("min_samples").

    Returns:
        (N,) numbers of clusters from 0, -1 for points that belong to none.

    Source: Ester et al., A density-based algorithm for discovering clusters, KDD 1996; radii that differ are ours.
    """
    count = len(points)
    if not count:
        return np.zeros(0, dtype=np.int64)
    pairs, distance = neighbours(points, radius)
    core = np.bincount(pairs.ravel(), minlength=count) + 1 >= least
    linked = pairs[core[pairs[:, 0]] & core[pairs[:, 1]]]
    component = connected_components(coo_array((np.ones(len(linked), dtype=bool), tuple(linked.T)), shape=(count, count)), directed=False)[1]
    labels = np.full(count, -1, dtype=np.int64)
    labels[core] = np.unique(component[core], return_inverse=True)[1]
    edge = core[pairs[:, 0]] != core[pairs[:, 1]]
    outer, distance = np.where(core[pairs[edge, 0]], pairs[edge, 1], pairs[edge, 0]), distance[edge]
    inner = pairs[edge].sum(axis=1) - outer
    order = np.argsort(-distance, kind="stable")  # the nearest is written last
    labels[outer[order]] = labels[inner[order]]
    return labels


def neighbours(points: NDArray[np.float64], radius: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find all pairs (P, 2) of points no farther apart than the smaller of their radii, and their distances (P,)."""
    found: list[NDArray[Any]] = [np.zeros((0, 2), dtype=np.int64)]
    lengths: list[NDArray[np.float64]] = [np.zeros(0)]
    low = float(radius.min())
    while low <= radius.max():
        chosen = np.flatnonzero(radius >= low)
        pairs = chosen[cKDTree(points[chosen]).query_pairs(low * BAND, output_type="ndarray")]
        smaller = np.minimum(radius[pairs[:, 0]], radius[pairs[:, 1]])
        pairs, smaller = pairs[smaller < low * BAND], smaller[smaller < low * BAND]
        distance = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
        found.append(pairs[distance <= smaller])
        lengths.append(distance[distance <= smaller])
        low *= BAND
    return np.concatenate(found), np.concatenate(lengths)
