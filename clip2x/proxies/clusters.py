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


CELLS = 4
"""Cells that a radius is cut into when points are thinned. Ours: a surface then gives a point at most about 50 neighbours, however dense it is."""


def density_clusters(points: NDArray[np.float64], radius: NDArray[np.float64], least: NDArray[np.int64] | int,
                     weight: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Cluster points where they lie densely.

    Two points are neighbours if they are no farther apart than the smaller of their radii. A point with at least `least` neighbours, itself
    counted, is a core; cores that are neighbours share a cluster; another point joins its nearest core among its neighbours. The partition
    does not depend on the order of the points.

    Args:
        points: (N, 3), metres.
        radius: (N,) above 0, metres ("eps").
        least: Of every point or of all ("min_samples").
        weight: How many points each one stands for; 1 if not given.

    Returns:
        (N,) numbers of clusters from 0, -1 for points that belong to none.

    Source: Ester et al., A density-based algorithm for discovering clusters, KDD 1996; radii that differ are ours.
    """
    count = len(points)
    if not count:
        return np.zeros(0, dtype=np.int64)
    pairs, distance = neighbours(points, radius)
    weight = np.ones(count, dtype=np.int64) if weight is None else weight
    around = np.bincount(pairs.ravel(), weights=weight[pairs[:, ::-1].ravel()], minlength=count)
    core = around + weight >= least
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


def thinned_clusters(points: NDArray[np.float64], radius: NDArray[np.float64], least: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Do the same as `density_clusters` with the mean of the points in each cell of `radius / CELLS`, so that time and memory stay bounded where
    points are dense: near the sensor, and where several sweeps are collected.
    """
    if not len(points):
        return np.zeros(0, dtype=np.int64)
    band = np.floor(np.log(radius / radius.min()) / np.log(BAND)).astype(np.int64)
    side = radius.min() * BAND**band / CELLS
    place = np.floor(points / side[:, None]).astype(np.int64)
    keys = (band, *(place - place.min(axis=0)).T)
    _, first, cell, weight = np.unique(np.ravel_multi_index(keys, tuple(int(key.max()) + 1 for key in keys)), return_index=True,
                                       return_inverse=True, return_counts=True)
    x, y, z, mean_radius = (np.bincount(cell, weights=values) / weight for values in (*points.T, radius))
    labels: NDArray[np.int64] = density_clusters(np.column_stack([x, y, z]), mean_radius, np.broadcast_to(least, len(points))[first], weight)[cell]
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
        offset = points[pairs[:, 0]] - points[pairs[:, 1]]
        distance = np.sqrt(np.einsum("ij,ij->i", offset, offset))
        found.append(pairs[distance <= smaller])
        lengths.append(distance[distance <= smaller])
        low *= BAND
    return np.concatenate(found), np.concatenate(lengths)
