"""The Point-BERT encoder that ULIP and ULIP-2 released, computed as their code does."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from clip2x.encoders.points.base import Cloud
from clip2x.encoders.points.grouping import nearest_points, take_points
from clip2x.encoders.points.pooling import maximum
from clip2x.encoders.points.released import ReleasedEncoder
from clip2x.encoders.points.transformer import Block
from clip2x.geometry import farthest_points

NUM_GROUPS, GROUP_SIZE = 512, 32  # official code (ULIP, models/pointbert/*.yaml)
HEAD_WIDTH = 64  # official code: width 384 and 6 heads
NEAR_ORIGIN = 1e-3  # official code (pointnet2_ops, sampling_gpu.cu): points whose squared norm is no more never become centres


class UlipPointBert(ReleasedEncoder):
    """Groups of neighbouring points as tokens, a transformer over them, class token and maximum of the tokens, projected.

    Official code (salesforce/ULIP, models/pointbert/{point_encoder,dvae,misc}.py, models/ULIP_models.py). What differs from our `PointTransformer`:
    batch norm with the statistics of the file, the first point of a cloud as first centre, both maxima of a group behind the second and the fourth
    layer, relative coordinates as they are, a projection without a bias. Clouds stand as ours do, y up, without a reflection.

    Ours: equal points count once, and a cloud of fewer than 512 points has fewer tokens; the official code repeats points there.

    Args:
        embed_dim: E, width of the CLIP embedding.
        width, depth: Of the transformer; heads are 64 wide. Official code: 384; 12 layers, or 18 in ULIP-2 for points with colours.
        group_width: Channels of a group behind its last layer. Official code: 256.
        colour: The file's encoder takes colours too. Clouds here have none: all three are 0.4, which the official code gives ModelNet40's.

    Raises:
        InputError: If a number is too small, or 64 does not divide `width`.
    """

    kind = "ulip_point_bert"

    def __init__(self, embed_dim: int, width: int = 384, depth: int = 12, group_width: int = 256, colour: bool = False) -> None:
        super().__init__(embed_dim)
        self.require_size(width, depth, group_width, head_width=HEAD_WIDTH)
        self.width, self.depth, self.group_width, self.colour = width, depth, group_width, colour
        self.local = nn.Sequential(nn.Conv1d(6 if colour else 3, 128, 1), nn.BatchNorm1d(128), nn.ReLU(), nn.Conv1d(128, 256, 1))
        self.mixed = nn.Sequential(nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, group_width, 1))
        self.reduce = nn.Linear(group_width, width)
        self.position = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        self.class_token, self.class_position = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, width // HEAD_WIDTH, 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Parameter(torch.zeros(2 * width, embed_dim))
        self.eval()

    def describe(self) -> dict[str, Any]:
        """Say how to build this encoder again; see `PointEncoder.describe`."""
        return {"kind": self.kind, "width": self.width, "depth": self.depth, "group_width": self.group_width, "colour": self.colour}

    def choose_centres(self, cloud: Cloud) -> tuple[Int64[Tensor, "B G"], Bool[Tensor, "B G"]]:
        """Choose farthest points from the first one on, none near the origin; see `ReleasedEncoder.choose_centres`."""
        first = cloud.keep.int().argmax(dim=1)
        among = cloud.keep & (cloud.coordinates.square().sum(dim=-1) > NEAR_ORIGIN)
        among = among.scatter(1, first[:, None], True)
        index = farthest_points(cloud.coordinates, min(NUM_GROUPS, cloud.most), first, among)
        return index, torch.arange(index.shape[1], device=index.device) < among.sum(dim=1, keepdim=True)

    def encode(self, cloud: Cloud, index: Int64[Tensor, "B G"], valid_tokens: Bool[Tensor, "B G"]) -> Float[Tensor, "B E"]:
        """Encode a few clouds around their centres."""
        centres = take_points(cloud.coordinates, index)
        groups, valid_points = self.group(cloud, centres)
        tokens, positions = self.tokens_of(groups, valid_points), self.position(centres)
        tokens = torch.cat([self.class_token.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
        positions = torch.cat([self.class_position.to(positions.dtype).expand(len(tokens), 1, -1), positions], dim=1)
        attended = None if bool(valid_tokens.all()) else functional.pad(valid_tokens, (1, 0), value=True)[:, None, None]
        for block in self.blocks:
            tokens = block(tokens + positions, attended)
        tokens = self.norm(tokens)
        features: Tensor = torch.cat([tokens[:, 0], maximum(tokens[:, 1:], valid_tokens)], dim=-1) @ self.projection
        return features

    def group(self, cloud: Cloud, centres: Float[Tensor, "B G 3"]) -> tuple[Float[Tensor, "B G K C"], Bool[Tensor, "B G K"]]:
        """Gather the groups, relative to their centres, and which points of a group there are."""
        near, squared = nearest_points(cloud.coordinates, cloud.keep, centres, min(GROUP_SIZE, cloud.most))
        groups = take_points(cloud.coordinates, near) - centres[:, :, None]
        if self.colour:
            groups = torch.cat([groups, torch.full_like(groups, self.missing_colour)], dim=-1)
        return groups, squared.isfinite()

    def tokens_of(self, groups: Float[Tensor, "B G K C"], valid: Bool[Tensor, "B G K"]) -> Float[Tensor, "B G W"]:
        """Turn groups into tokens: a shared MLP, its maximum beside every point, another MLP, its maximum."""
        batch, count, size, channels = groups.shape
        inside = valid.flatten(0, 1)
        local = self.local(groups.reshape(batch * count, size, channels).transpose(1, 2))
        whole = maximum(local.transpose(1, 2), inside)[..., None].expand(-1, -1, size)
        mixed = self.mixed(torch.cat([whole, local], dim=1))
        tokens: Tensor = self.reduce(maximum(mixed.transpose(1, 2), inside))
        return tokens.view(batch, count, -1)
