"""How large to draw the points of a cloud."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clip2x.errors import InputError
from clip2x.geometry import check_finite

NEIGHBOURS, RADIUS_PER_SPACING, QUERIES = 4, 1.7, 128
"""Ours, chosen with the small CLIP at 64 px on the mini-world's training parts, see docs/data.md."""


def density_radius(points: Float[Tensor, "batch points 3"], least: float = 0.02, most: float = 0.1) -> Float[Tensor, "batch"]:
    """Choose a disc radius for each cloud by how far apart its points are, so that sparse clouds show surfaces instead of dots. Ours.

    The mean distance from a point to its four nearest different neighbours (of at most 128 points, evenly chosen; repeated points count
    once) times 1.7.

    Args:
        points: (B, N, 3), unit sphere.
        least, most: Bounds of the radius. CLIP2Point's own is 0.02.

    Returns:
        (B,) float32, in units of half a picture's side.

    Raises:
        InputError: If the shape is wrong, a coordinate is not finite, or the bounds are in the wrong order.
    """
    if points.ndim != 3 or points.shape[-1] != 3 or points.shape[1] == 0:
        raise InputError(f"points must be (B, N, 3) with N >= 1, got {tuple(points.shape)}.")
    if not 0 < least <= most:
        raise InputError(f"the bounds of the radius need 0 < least <= most, got {least:g} and {most:g}.")
    check_finite(points)
    radii = []
    for cloud in points.detach().float():
        distinct = _distinct(cloud)
        if len(distinct) == 1:
            radii.append(torch.full((), most, device=points.device))
            continue
        queries = distinct[:: -(-len(distinct) // QUERIES)]
        distances = torch.cdist(queries, distinct, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.topk(min(NEIGHBOURS, len(distinct) - 1) + 1, largest=False).values[:, 1:]
        radii.append(nearest.mean() * RADIUS_PER_SPACING)
    return torch.stack(radii).clamp(least, most)


def _distinct(cloud: Float[Tensor, "points 3"]) -> Float[Tensor, "distinct 3"]:
    """Leave out repeated points and sort the others by x, then y, then z: `torch.unique`, five times as fast on a CPU."""
    if cloud.device.type != "cpu":
        distinct: Tensor = torch.unique(cloud, dim=0)
        return distinct
    points = cloud.numpy()
    ordered = points[np.lexsort(points.T[::-1])]
    new = np.ones(len(ordered), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return torch.from_numpy(ordered[new])
