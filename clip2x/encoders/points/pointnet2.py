"""PointNet++ with multi-scale grouping (arXiv:1706.02413) in pure PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from clip2x.encoders.points.base import PointEncoder
from clip2x.encoders.points.grouping import nearest_points, spread_centres, take_points
from clip2x.encoders.points.pooling import maximum
from clip2x.errors import InputError


@dataclass(frozen=True)
class Scale:
    """Neighbourhoods of one size: the `num_neighbours` nearest points within `radius`, and the widths of the shared MLP over them."""

    radius: float
    num_neighbours: int
    widths: tuple[int, ...]


@dataclass(frozen=True)
class Level:
    """Centres of one level and the scales at which their surroundings are looked at."""

    num_centres: int
    scales: tuple[Scale, ...]


@dataclass(frozen=True)
class PointNet2Size:
    """Two or more levels, each on the centres of the one before; the MLP over all centres of the last; hidden layers of the head."""

    levels: tuple[Level, ...]
    whole: tuple[int, ...]
    head: tuple[int, ...]


SIZES = {
    "tiny": PointNet2Size(
        (Level(64, (Scale(0.2, 8, (32, 64)), Scale(0.4, 16, (32, 64)))),
         Level(24, (Scale(0.4, 8, (96, 128)), Scale(0.8, 16, (96, 128))))),
        (256, 512), (256,)),
    "msg": PointNet2Size(
        (Level(512, (Scale(0.1, 16, (32, 32, 64)), Scale(0.2, 32, (64, 64, 128)), Scale(0.4, 128, (64, 96, 128)))),
         Level(128, (Scale(0.2, 32, (64, 64, 128)), Scale(0.4, 64, (128, 128, 256)), Scale(0.8, 128, (128, 128, 256))))),
        (256, 512, 1024), (512, 256)),
}
"""tiny: ours, for two CPU cores. msg: third party, UniGS (ced8a3e), `pointnet2_my` of CLIP2's successor, without its transformer branch and
its dropout."""


class SharedMLP(nn.Sequential):
    """The same layers at every point: Linear, LayerNorm, ReLU for each width."""

    def __init__(self, in_width: int, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for before, after in zip([in_width, *widths], widths, strict=False):
            layers += [nn.Linear(before, after, bias=False), nn.LayerNorm(after), nn.ReLU()]
        super().__init__(*layers)


class ScaleMLP(nn.Module):
    """Summarise neighbourhoods of one radius by a shared MLP and a maximum.

    Relative coordinates are divided by the radius (ours: they are small numbers beside the features else). What the first layer does with
    the features of a point is computed once per point, not once per neighbourhood that it lies in.
    """

    def __init__(self, scale: Scale, feature_width: int) -> None:
        super().__init__()
        first, *later = scale.widths
        self.radius, self.num_neighbours = scale.radius, scale.num_neighbours
        self.from_place = nn.Linear(3, first)
        self.from_features = nn.Linear(feature_width, first, bias=False) if feature_width else None
        self.norm, self.later = nn.Sequential(nn.LayerNorm(first), nn.ReLU()), SharedMLP(first, later)

    def forward(self, relative: Float[Tensor, "B G K 3"], squared: Float[Tensor, "B G K"], features: Float[Tensor, "B N F"] | None,
                index: Int64[Tensor, "B G K"]) -> Float[Tensor, "B G W"]:
        """Summarise neighbours, the nearest first: their places relative to the centre, squared distances, and indices into `features`."""
        relative, squared, index = (values[:, :, : self.num_neighbours] for values in (relative, squared, index))
        inside = squared <= self.radius**2
        inside[..., 0] = True  # the centre itself; or any point, where there are fewer centres, so that nothing becomes infinite
        hidden = self.from_place(relative / self.radius)
        if self.from_features is not None:
            hidden = hidden + take_points(self.from_features(features), index)
        return maximum(self.later(self.norm(hidden)), inside)


class SetAbstraction(nn.Module):
    """One level: for each centre the summaries of its surroundings at all scales, side by side."""

    def __init__(self, level: Level, feature_width: int) -> None:
        super().__init__()
        self.num_centres = level.num_centres
        self.scales = nn.ModuleList(ScaleMLP(scale, feature_width) for scale in level.scales)
        self.num_neighbours = max(scale.num_neighbours for scale in level.scales)

    def forward(self, places: Float[Tensor, "B N 3"], keep: Bool[Tensor, "B N"], features: Float[Tensor, "B N F"] | None,
                centres: Float[Tensor, "B G 3"]) -> Float[Tensor, "B G W"]:
        """Look at the surroundings of every centre; of a radius the nearest points count, which hangs on no order of the points.

        Official PointNet++ code takes the first points of the cloud within the radius instead, and repeats the first to fill up.
        """
        number = places.shape[1]  # of a graph that is exported a symbol, which stands for `least_exported` or more
        neighbours = min(self.num_neighbours, number) if isinstance(number, int) else self.num_neighbours
        index, squared = nearest_points(places, keep, centres, neighbours)
        relative = take_points(places, index) - centres[:, :, None]
        return torch.cat([scale(relative, squared, features, index) for scale in self.scales], dim=-1)


class PointNet2(PointEncoder):
    """PointNet++ with multi-scale grouping: levels of ever fewer centres, then all at once.

    Args:
        embed_dim: E, width of the CLIP embedding.
        size: One of `SIZES`.
        in_channels: C, coordinates first.
        levels: Of the size unless given: mappings with `num_centres` and `scales`, these with `radius`, `num_neighbours`, `widths`.
        whole, head: Widths of the MLP over the last centres and of the head's hidden layers; of the size unless given.

    Raises:
        InputError: If the size is unknown, a number is not above 0, or a level has more centres than the one before.
    """

    kind = "pointnet2"

    def __init__(self, embed_dim: int, size: str = "tiny", in_channels: int = 3, levels: Sequence[Mapping[str, Any]] | None = None,
                 whole: Sequence[int] | None = None, head: Sequence[int] | None = None) -> None:
        super().__init__(embed_dim, in_channels)
        if size not in SIZES:
            raise InputError(f"sizes of PointNet++ are {', '.join(SIZES)}, got {size!r}.")
        base = SIZES[size]
        self.size, self.dimensions = size, PointNet2Size(
            base.levels if levels is None else tuple(_level(level) for level in levels),
            base.whole if whole is None else tuple(whole), base.head if head is None else tuple(head))
        _check(self.dimensions)
        abstractions, width = [], in_channels - 3
        for level in self.dimensions.levels:
            abstractions.append(SetAbstraction(level, width))
            width = sum(scale.widths[-1] for scale in level.scales)
        self.abstractions = nn.ModuleList(abstractions)
        self.whole = SharedMLP(width + 3, self.dimensions.whole)
        hidden = self.dimensions.head
        self.head = nn.Sequential(SharedMLP(self.dimensions.whole[-1], hidden), nn.Linear([self.dimensions.whole[-1], *hidden][-1], embed_dim))

    def describe(self) -> dict[str, Any]:
        """Say how to build this encoder again; see `PointEncoder.describe`."""
        levels = [{"num_centres": level.num_centres, "scales": [{**asdict(scale), "widths": list(scale.widths)} for scale in level.scales]}
                  for level in self.dimensions.levels]
        return {"kind": self.kind, "size": self.size, "in_channels": self.in_channels, "levels": levels,
                "whole": list(self.dimensions.whole), "head": list(self.dimensions.head)}

    @property
    def least_exported(self) -> int:
        """See `PointEncoder.least_exported`."""
        first = self.dimensions.levels[0]
        return max(first.num_centres, *(scale.num_neighbours for scale in first.scales))

    def forward(self, points: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None) -> Float[Tensor, "B E"]:
        """Encode clouds to raw features; see `PointEncoder.forward`."""
        cloud = self.prepare(points, mask)
        chosen, valid = spread_centres(cloud.coordinates, cloud.keep, min(self.dimensions.levels[0].num_centres, cloud.most))
        all_centres = take_points(cloud.coordinates, chosen)
        places, keep = cloud.coordinates, cloud.keep
        features: Tensor | None = cloud.extras if self.in_channels > 3 else None
        for level, abstraction in zip(self.dimensions.levels, self.abstractions, strict=True):
            # The first of the farthest points are the farthest points of the farthest points: no level has to choose again.
            centres = all_centres[:, : level.num_centres]
            features = abstraction(places, keep, features, centres)
            places, keep = centres, valid[:, : level.num_centres]
        assert features is not None
        summary = maximum(self.whole(torch.cat([places.to(features.dtype), features], dim=-1)), keep)
        encoded: Tensor = self.head(summary)
        return encoded


def _level(described: Mapping[str, Any]) -> Level:
    scales = tuple(Scale(scale["radius"], scale["num_neighbours"], tuple(scale["widths"])) for scale in described["scales"])
    return Level(described["num_centres"], scales)


def _check(size: PointNet2Size) -> None:
    """Raise an InputError if a PointNet++ of this size cannot be built."""
    scales = [scale for level in size.levels for scale in level.scales]
    numbers = [number for scale in scales for number in (scale.radius, scale.num_neighbours, *scale.widths)]
    counts = [level.num_centres for level in size.levels]
    if not scales or not size.whole or not all(scale.widths for scale in scales) or min([*numbers, *counts, *size.whole, *size.head]) <= 0:
        raise InputError(f"PointNet++ needs levels with scales, widths everywhere, and numbers above 0, got {size}.")
    if counts != sorted(counts, reverse=True):
        raise InputError(f"each level of PointNet++ takes its centres from the level before; num_centres must not grow, got {counts}.")
