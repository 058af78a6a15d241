"""A transformer over groups of neighbouring points, after Point-BERT (arXiv:2111.14819)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from clip2x.encoders.points.base import Cloud, PointEncoder
from clip2x.encoders.points.grouping import nearest_points, spread_centres, take_points
from clip2x.encoders.points.pooling import maximum
from clip2x.errors import InputError


@dataclass(frozen=True)
class TransformerSize:
    """Dimensions of a `PointTransformer`.

    width, depth, heads, mlp_width: of the transformer.
    num_groups, group_size: centres of a cloud and neighbours of each, itself among them.
    group_widths: channels of the layers that turn a group into a token: two before and one after the first maximum.
    """

    width: int
    depth: int
    heads: int
    mlp_width: int
    num_groups: int
    group_size: int
    group_widths: tuple[int, ...]


SIZES = {
    "tiny": TransformerSize(160, 3, 4, 640, 32, 16, (32, 64, 128)),
    "small": TransformerSize(384, 12, 6, 1536, 64, 32, (128, 256, 512)),
    "base": TransformerSize(512, 12, 8, 1536, 128, 32, (128, 256, 512)),
}
"""tiny: ours, for two CPU cores; 1.07 M weights where E is 256. small: third party, Point-BERT for 1,024 points (dda6458, cfgs/ModelNet_models/
PointTransformer.yaml; 980c1e8, models/dvae.py) but for the changes in `GroupTokens`; 22 M. base: width, depth, heads and MLP are third
party, OpenShape (010609a, src/models/ppat.py, scaling 4); groups are ours: its 384 of 64 points are for clouds of 10,000, 128 of 32 hold
each of 1,024 points four times; 32 M."""

COORDINATE_SCALE = 5.0
"""Ours: brings coordinates relative to a centre, about 0.2 in a unit sphere of 512 points, to the order of 1."""


class GroupTokens(nn.Module):
    """Turn groups of points into tokens by two small PointNets, each a shared MLP and a maximum.

    After Point-BERT (third party: models/dvae.py). Changed, ours: LayerNorm takes the place of BatchNorm, so that clouds do not see each
    other; what the third layer does with the first maximum, which stands beside every point there, is computed once per group; the second
    maximum is taken before the fourth layer instead of behind it, which is then the layer that brings tokens to the transformer's width;
    relative coordinates are multiplied by `COORDINATE_SCALE`, else the first normalisation sees little but the bias. The last two were
    measured: a tiny classifier of 26 classes of the mini-world, 90 s on one busy core, one seed, reached 60.5 % on other objects without
    them (208 steps), 70.8 % with the maximum moved (247 steps), 81.4 % with both.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], out_width: int) -> None:
        super().__init__()
        first, second, third = widths
        scale = torch.ones(in_channels)
        scale[:3] = COORDINATE_SCALE
        self.scale: Tensor
        self.register_buffer("scale", scale, persistent=False)
        self.local = nn.Sequential(nn.Linear(in_channels, first), nn.LayerNorm(first), nn.ReLU(), nn.Linear(first, second, bias=False))
        self.from_local, self.from_group = nn.Linear(second, third, bias=False), nn.Linear(second, third)
        self.mixed = nn.Sequential(nn.LayerNorm(third), nn.ReLU())
        self.out = nn.Linear(third, out_width)

    def forward(self, groups: Float[Tensor, "B G K C"], valid: Bool[Tensor, "B G K"] | None) -> Float[Tensor, "B G W"]:
        """Encode groups; `valid` says which points belong to them, all where it is None."""
        local = self.local(groups * self.scale)
        mixed = self.mixed(self.from_local(local) + self.from_group(maximum(local, valid))[:, :, None])
        tokens: Tensor = self.out(maximum(mixed, valid))
        return tokens


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and beside a skip connection."""

    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width))

    def forward(self, tokens: Float[Tensor, "B T W"], valid: Bool[Tensor, "B 1 1 T"] | None) -> Float[Tensor, "B T W"]:
        """Mix the tokens; those that are not valid are not attended to."""
        batch, count, width = tokens.shape
        query, key, value = self.qkv(self.norm_1(tokens)).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = attend(query, key, value, valid)
        tokens = tokens + self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        after: Tensor = tokens + self.mlp(self.norm_2(tokens))
        return after


class PointTransformer(PointEncoder):
    """Groups of points as tokens, a transformer over them, class token and maximum of the tokens as the feature.

    Centres are spread by farthest point sampling, each with its nearest neighbours, whose coordinates are taken relative to it; the
    position of a centre is added before every block (third party: Point-BERT, models/Point_BERT.py).

    Args:
        embed_dim: E, width of the CLIP embedding.
        size: One of `SIZES`.
        in_channels: C, coordinates first.
        width, depth, heads, mlp_width, num_groups, group_size, group_widths: Of the size unless given; see `TransformerSize`. `mlp_width`
            is four times a `width` that is given alone.

    Raises:
        InputError: If the size is unknown, a number is below 1, or `heads` does not divide `width`.
    """

    kind = "point_transformer"

    def __init__(
        self, embed_dim: int, size: str = "tiny", in_channels: int = 3, width: int | None = None, depth: int | None = None,
        heads: int | None = None, mlp_width: int | None = None, num_groups: int | None = None, group_size: int | None = None,
        group_widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__(embed_dim, in_channels)
        if size not in SIZES:
            raise InputError(f"sizes of the point transformer are {', '.join(SIZES)}, got {size!r}.")
        given = {"width": width, "depth": depth, "heads": heads, "mlp_width": 4 * width if width and mlp_width is None else mlp_width,
                 "num_groups": num_groups, "group_size": group_size, "group_widths": group_widths and tuple(group_widths)}
        self.size = size
        self.dimensions = TransformerSize(**{**asdict(SIZES[size]), **{name: value for name, value in given.items() if value is not None}})
        _check(self.dimensions)
        dims = self.dimensions
        self.group_tokens = GroupTokens(in_channels, dims.group_widths, dims.width)
        self.position = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, dims.width))
        self.class_token, self.class_position = nn.Parameter(torch.empty(dims.width)), nn.Parameter(torch.empty(dims.width))
        self.blocks = nn.ModuleList(Block(dims.width, dims.heads, dims.mlp_width) for _ in range(dims.depth))
        self.norm = nn.LayerNorm(dims.width)
        self.head = nn.Linear(2 * dims.width, embed_dim)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.class_position, std=0.02)

    def describe(self) -> dict[str, Any]:
        """Say how to build this encoder again; see `PointEncoder.describe`."""
        return {"kind": self.kind, "size": self.size, "in_channels": self.in_channels,
                **asdict(self.dimensions), "group_widths": list(self.dimensions.group_widths)}

    @property
    def least_exported(self) -> int:
        """See `PointEncoder.least_exported`."""
        return max(self.dimensions.num_groups, self.dimensions.group_size)

    def forward(self, points: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None) -> Float[Tensor, "B E"]:
        """Encode clouds to raw features; see `PointEncoder.forward`."""
        groups, centres, valid_points, valid_tokens = self.group(self.prepare(points, mask))
        tokens, positions = self.group_tokens(groups, valid_points), self.position(centres)
        tokens = torch.cat([self.class_token.to(tokens.dtype).expand(tokens.shape[0], 1, -1), tokens], dim=1)
        positions = torch.cat([self.class_position.to(positions.dtype).expand(tokens.shape[0], 1, -1), positions], dim=1)
        attended = None if valid_tokens is None else functional.pad(valid_tokens, (1, 0), value=True)[:, None, None]
        for block in self.blocks:
            tokens = block(tokens + positions, attended)
        tokens = self.norm(tokens)
        features: Tensor = self.head(torch.cat([tokens[:, 0], maximum(tokens[:, 1:], valid_tokens)], dim=-1))
        return features

    @torch.no_grad()
    def group(self, cloud: Cloud) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Gather the groups.

        Returns:
            Groups (B, G, K, C), coordinates relative to the centre, then the extra channels; centres (B, G, 3); which points of a group
            (B, G, K) and which groups (B, G) are real, None where all are. G and K are smaller where no cloud has as many points.
        """
        num_groups, group_size = min(self.dimensions.num_groups, cloud.most), min(self.dimensions.group_size, cloud.most)
        centre_index, valid_tokens = spread_centres(cloud.coordinates, cloud.keep, num_groups)
        centres = take_points(cloud.coordinates, centre_index)
        index, squared = nearest_points(cloud.coordinates, cloud.keep, centres, group_size)
        groups = take_points(cloud.coordinates, index) - centres[:, :, None]
        if self.in_channels > 3:
            groups = torch.cat([groups, take_points(cloud.extras, index)], dim=-1)
        return (groups, centres, None if cloud.fewest >= group_size else squared.isfinite(),
                None if cloud.fewest >= num_groups else valid_tokens)


def attend(query: Float[Tensor, "B H T D"], key: Float[Tensor, "B H T D"], value: Float[Tensor, "B H T D"],
           valid: Bool[Tensor, "B 1 1 T"] | None) -> Float[Tensor, "B H T D"]:
    """Attend to the valid tokens by scaled dot products.

    On a CPU step by step: PyTorch's fused kernel takes four times as long there for the few tokens of a cloud, forward and backward (ours,
    33 and 65 tokens, bfloat16).
    """
    if query.device.type != "cpu":
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=valid)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if valid is not None:
        scores = scores.masked_fill(~valid, -torch.inf)
    mixed: Tensor = scores.softmax(dim=-1).to(value.dtype) @ value
    return mixed


def _check(dims: TransformerSize) -> None:
    """Raise an InputError if a transformer of these dimensions cannot be built."""
    flat = [number for value in asdict(dims).values() for number in (value if isinstance(value, tuple) else [value])]
    if len(dims.group_widths) != 3 or min(flat) < 1:
        raise InputError(f"a point transformer needs numbers of at least 1 and three group_widths, got {dims}.")
    if dims.width % dims.heads:
        raise InputError(f"width must be a multiple of heads, got {dims.width} and {dims.heads}.")
