"""Accuracies of parts of a data set: by distance and by number of points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

RANGE_EDGES_M = {"nuscenes": (15.0, 30.0, 50.0), "rgbd": (2.0, 3.0, 5.0)}
"""Where bins of distance end, by the format of the data set, metres: LiDAR (also the steps of our outdoor lifting) and depth cameras. Ours."""

POINT_EDGES = (5, 16, 51, 201, 1001, 5001)
"""Where bins of numbers of points begin. Ours: 5 is nuScenes's least here, SUN RGB-D's is 100."""


def range_bins(data_format: str) -> list[tuple[str, float, float]]:
    """Name the bins of distance of a data set, each with its lower end (inclusive) and its upper end (exclusive), metres."""
    edges = (0.0, *RANGE_EDGES_M.get(data_format, RANGE_EDGES_M["nuscenes"]), float("inf"))
    return [(f"{low:g}-{high:g} m" if high < float("inf") else f"{low:g}+ m", low, high) for low, high in pairwise(edges)]


def point_bins() -> list[tuple[str, float, float]]:
    """Name the bins of numbers of points, ends as in `range_bins`."""
    edges = (1, *POINT_EDGES)
    named = [(f"{low:,}-{high - 1:,}", float(low), float(high)) for low, high in pairwise(edges)]
    return [*named, (f"{edges[-1]:,}+", float(edges[-1]), float("inf"))]


def breakdown(right: Bool[Tensor, " N"], labels: Int64[Tensor, " N"], values: Float[Tensor, " N"],
              bins: Sequence[tuple[str, float, float]]) -> list[dict[str, Any]]:
    """Count accuracies bin by bin.

    Args:
        right: Whether each sample is named correctly.
        labels: Its class.
        values: What the bins are of.
        bins: Name, lower end (inclusive) and upper end (exclusive) of each.

    Returns:
        For every bin that has a sample `bin`, `num_samples`, `num_classes` that occur in it, `top1` and `class_mean` over these.
    """
    found = []
    for name, low, high in bins:
        inside = (values >= low) & (values < high)
        if not bool(inside.any()):
            continue
        present = torch.unique(labels[inside])
        means = [right[inside & (labels == label)].double().mean() for label in present]
        found.append({"bin": name, "num_samples": int(inside.sum()), "num_classes": len(present), "top1": float(right[inside].double().mean()),
                      "class_mean": float(torch.stack(means).mean())})
    return found
