"""Repeats, centres and neighbourhoods of batches of clouds: exact, in float32, on any device."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from clip2x.geometry import farthest_points

CHUNK_ELEMENTS = 1 << 20
"""Distances at a time in the search for neighbours. Ours: fits the cache of a CPU core, bounds the memory elsewhere."""


def first_occurrences(points: Float[Tensor, "B N C"], mask: Bool[Tensor, "B N"] | None = None) -> Bool[Tensor, "B N"]:
    """Select one of each set of points that are equal in every channel.

    Exact: rows are sorted by the bits of their numbers, then compared with the row before. Exported graphs sort by the numbers themselves, since
    ONNX cannot take them for others; which rows are equal is the same.

    Args:
        points: Any unit, finite.
        mask: The points that count; all if not given.

    Returns:
        True for the first of equal points in the order of the cloud, False for its repeats and outside of `mask`.
    """
    rows = points.detach().float() + 0.0  # -0.0 and 0.0 are equal numbers with different bits
    rows = rows if torch.compiler.is_exporting() else rows.view(torch.int32)
    if mask is not None:
        rows = rows.masked_fill(~mask[..., None], torch.nan if rows.is_floating_point() else -1)  # -1: the bits of a NaN; no point that counts is one
    order = _sort_rows(rows)
    ordered = rows.gather(1, order[..., None].expand_as(rows))
    repeats = (ordered[:, 1:] == ordered[:, :-1]).all(dim=-1)
    first = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
    first.scatter_(1, order[:, 1:], ~repeats)
    return first if mask is None else first & mask


def _sort_rows(rows: Float[Tensor, "B N C"] | Int32[Tensor, "B N C"]) -> Int64[Tensor, "B N"]:
    """Order the rows of every cloud lexicographically, equal ones as they came: stable sorts by one channel, of bits by two, the last first."""
    order: Tensor | None = None
    for key in reversed(rows.unbind(-1) if rows.is_floating_point() else _joined_pairs(rows)):
        step = (key if order is None else key.gather(1, order)).sort(dim=1, stable=True).indices
        order = step if order is None else order.gather(1, step)
    assert order is not None
    return order


def _joined_pairs(bits: Int32[Tensor, "B N C"]) -> list[Int64[Tensor, "B N"]]:
    """Put the bits of two channels into one number, those of a last odd one into one of its own: fewer sorts."""
    pairs = torch.split(bits.long(), 2, dim=-1)
    return [(pair[..., 0] << 32) + pair[..., 1] if pair.shape[-1] == 2 else pair[..., 0] for pair in pairs]


def spread_centres(coordinates: Float[Tensor, "B N 3"], keep: Bool[Tensor, "B N"],
                   num_centres: int) -> tuple[Int64[Tensor, "B G"], Bool[Tensor, "B G"]]:
    """Choose centres by farthest point sampling among the points that are kept.

    The first centre is the point farthest from the origin, so that the choice hangs neither on the order of the points nor on repeats.
    Ours: official Point-BERT code starts at whatever point comes first.

    Args:
        coordinates: Any unit, finite.
        keep: At least one per cloud.
        num_centres: G, at most N.

    Returns:
        Indices, and which of them are centres: the rest of a cloud with fewer than G points that are kept means nothing.
    """
    start = coordinates.square().sum(dim=-1).masked_fill(~keep, -1.0).argmax(dim=1)
    index = farthest_points(coordinates, num_centres, start, keep)
    valid = torch.arange(num_centres, device=index.device) < keep.sum(dim=1, keepdim=True)
    return index, valid


def nearest_points(coordinates: Float[Tensor, "B N 3"], keep: Bool[Tensor, "B N"], centres: Float[Tensor, "B G 3"],
                   num_neighbours: int) -> tuple[Int64[Tensor, "B G K"], Float[Tensor, "B G K"]]:
    """Find the nearest kept points of every centre, nearest first.

    Args:
        coordinates: Any unit, finite.
        keep: The points that count.
        centres: Same unit.
        num_neighbours: K, at most N.

    Returns:
        Indices and squared distances; infinite distances stand for neighbours that a cloud does not have.
    """
    clouds = max(1, CHUNK_ELEMENTS // (coordinates.shape[1] * centres.shape[1]))
    parts = ([slice(None)] if torch.compiler.is_exporting() else  # of a size that is not known yet
             [slice(first, first + clouds) for first in range(0, len(coordinates), clouds)])
    squared = (_squared_distances(coordinates[part].detach(), keep[part], centres[part].detach()) for part in parts)
    found = [distances.topk(num_neighbours, dim=-1, largest=False) for distances in squared]
    return torch.cat([part.indices for part in found]), torch.cat([part.values for part in found])


def first_within(coordinates: Float[Tensor, "B N 3"], keep: Bool[Tensor, "B N"], centres: Float[Tensor, "B G 3"], radius: float,
                 num_neighbours: int) -> tuple[Int64[Tensor, "B G K"], Bool[Tensor, "B G K"]]:
    """Find the points around every centre that come first in the order of the cloud (a ball query, as in PointNet++'s official code).

    Args:
        coordinates: Any unit, finite.
        keep: The points that count.
        centres: Same unit; each is a point that counts, so that no ball is empty.
        radius: Same unit.
        num_neighbours: K, at most N.

    Returns:
        Indices in ascending order, and which of them lie in the ball: what stands behind these means nothing.
    """
    size = coordinates.shape[1]
    order = torch.arange(size, dtype=torch.int32, device=coordinates.device)
    clouds = max(1, CHUNK_ELEMENTS // (size * centres.shape[1]))
    found = []
    for first in range(0, len(coordinates), clouds):
        part = slice(first, first + clouds)
        squared = _squared_distances(coordinates[part].detach(), keep[part], centres[part].detach())
        ranked = torch.where(squared <= radius**2, order, size)
        found.append(ranked.topk(num_neighbours, dim=-1, largest=False, sorted=True).values.long())
    index = torch.cat(found)
    return index.clamp(max=size - 1), index < size


def _squared_distances(coordinates: Float[Tensor, "B N 3"], keep: Bool[Tensor, "B N"],
                       centres: Float[Tensor, "B G 3"]) -> Float[Tensor, "B G N"]:
    """Measure from every centre to every point, without a matrix product, which would round; infinite where points do not count."""
    (x, y, z), (centre_x, centre_y, centre_z) = coordinates.permute(2, 0, 1)[:, :, None], centres.permute(2, 0, 1)[..., None]
    squared = (centre_x - x).square_()
    squared += (centre_y - y).square_()
    squared += (centre_z - z).square_()
    distances: Tensor = squared.masked_fill_(~keep[:, None], torch.inf)
    return distances


def take_points(values: Float[Tensor, "B N C"], index: Int64[Tensor, "B *rest"]) -> Float[Tensor, "B *rest C"]:
    """Look up rows of every cloud: (B, N, C) at (B, ...) gives (B, ..., C)."""
    batch, num_points, channels = values.shape
    offset = torch.arange(batch, device=index.device) * num_points
    flat = index + offset.view(-1, *[1] * (index.ndim - 1))
    taken: Tensor = values.reshape(batch * num_points, channels).index_select(0, flat.reshape(-1))
    return taken.view(*index.shape, channels)
