"""The point encoder that OpenShape released as Point-BERT, computed as its code does: one set abstraction, then a transformer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from clip2x.encoders.points.base import Cloud
from clip2x.encoders.points.grouping import first_within, spread_centres, take_points
from clip2x.encoders.points.pooling import maximum
from clip2x.encoders.points.released import ReleasedEncoder
from clip2x.encoders.points.transformer import Block
from clip2x.errors import InputError

HEAD_WIDTH = 64  # official code (src/models/ppat.py, dim_head)
FIRST_WIDTHS = (64, 64)  # official code: layers of the set abstraction before the last one


class PointPatchTransformer(ReleasedEncoder):
    """Neighbourhoods of centres as tokens, a transformer over them, the class token as the feature, projected where the file has a projection.

    Official code (Colin97/OpenShape_code 010609a, src/models/{ppat,pointnet_util}.py). A neighbourhood is what comes first in the order of the
    cloud within `radius`; its points enter with coordinates relative to the centre, absolute ones and colours, batch norm with the statistics of
    the file. No position is added to tokens, their own coordinates are in them, and no normalisation follows the last layer.

    Our clouds are y up. With `gravity="z"` y and z are exchanged, which is a **reflection**, not a rotation: the official code does so with its y-up
    training clouds (src/data.py), and the weights know such mirrored clouds only.

    Ours: the first centre is the point farthest from the origin (the official one is drawn at random, dgl.geometry.farthest_point_sampler), equal
    points count once, and a cloud of fewer points than `num_groups` has fewer tokens.

    Args:
        embed_dim: E, width of the CLIP embedding.
        width, depth, mlp_width: Of the transformer; heads are 64 wide.
        group_width: Channels of a neighbourhood.
        num_groups, group_size, radius: Centres of a cloud; points of a neighbourhood; its radius in a cloud of radius 1.
        colour: The file's encoder takes colours. Clouds here have none: all three are 0.4, which the official code trains with where it leaves them
            out.
        projected: A linear layer follows; without one `embed_dim` is `width`.
        gravity: Axis that points up in the clouds of its training, `z` or `y`, see above.

    Raises:
        InputError: If a number is too small, 64 does not divide `width`, `gravity` is another axis, or there is no projection and E is not `width`.
    """

    kind = "openshape_patch_transformer"

    def __init__(self, embed_dim: int, width: int = 512, depth: int = 12, mlp_width: int = 1536, group_width: int = 256, num_groups: int = 384,
                 group_size: int = 64, radius: float = 0.2, colour: bool = True, projected: bool = True, gravity: str = "z") -> None:
        super().__init__(embed_dim)
        self.require_size(width, depth, mlp_width, group_width, num_groups, group_size, head_width=HEAD_WIDTH)
        if gravity not in ("y", "z") or not radius > 0 or (not projected and embed_dim != width):
            raise InputError(f"gravity must be y or z, radius above 0, and without a projection embed_dim the width, got {gravity!r}, {radius}, "
                             f"{embed_dim} and {width}.")
        self.described = {"kind": self.kind, "width": width, "depth": depth, "mlp_width": mlp_width, "group_width": group_width,
                          "num_groups": num_groups, "group_size": group_size, "radius": radius, "colour": colour, "projected": projected,
                          "gravity": gravity}
        self.num_groups, self.group_size, self.radius, self.colour, self.gravity = num_groups, group_size, radius, colour, gravity
        widths = (9 if colour else 6, *FIRST_WIDTHS, group_width)
        self.convs = nn.ModuleList(nn.Conv2d(before, after, 1) for before, after in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(after) for after in widths[1:])
        self.lift, self.lift_norm = nn.Conv1d(group_width + 3, width, 1), nn.LayerNorm(width)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(Block(width, width // HEAD_WIDTH, mlp_width) for _ in range(depth))
        self.head = nn.Linear(width, embed_dim) if projected else nn.Identity()
        self.eval()

    def describe(self) -> dict[str, Any]:
        """Say how to build this encoder again; see `PointEncoder.describe`."""
        return dict(self.described)

    def choose_centres(self, cloud: Cloud) -> tuple[Int64[Tensor, "B G"], Bool[Tensor, "B G"]]:
        """Choose farthest points; see `ReleasedEncoder.choose_centres`."""
        return spread_centres(self.standing(cloud), cloud.keep, min(self.num_groups, cloud.most))

    def standing(self, cloud: Cloud) -> Float[Tensor, "B N 3"]:
        """Give the coordinates as clouds stood in the training."""
        return cloud.coordinates[..., [0, 2, 1]] if self.gravity == "z" else cloud.coordinates

    def encode(self, cloud: Cloud, index: Int64[Tensor, "B G"], valid_tokens: Bool[Tensor, "B G"]) -> Float[Tensor, "B E"]:
        """Encode a few clouds around their centres."""
        coordinates = self.standing(cloud)
        centres = take_points(coordinates, index)
        near, inside = first_within(coordinates, cloud.keep, centres, self.radius, min(self.group_size, cloud.most))
        inside = inside | ~inside.any(dim=-1, keepdim=True)  # what stands behind the last centre may be masked, with nothing around; no token sees it
        places = take_points(coordinates, near)
        parts = [places - centres[:, :, None], places, *([torch.full_like(places, self.missing_colour)] if self.colour else [])]
        summaries = self.summarise(torch.cat(parts, dim=-1), inside)
        tokens = self.lift_norm(self.lift(torch.cat([centres, summaries], dim=-1).transpose(1, 2)).transpose(1, 2))
        tokens = torch.cat([self.class_token.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
        attended = None if bool(valid_tokens.all()) else nn.functional.pad(valid_tokens, (1, 0), value=True)[:, None, None]
        for block in self.blocks:
            tokens = block(tokens, attended)
        features: Tensor = self.head(tokens[:, 0])
        return features

    def summarise(self, groups: Float[Tensor, "B G K C"], inside: Bool[Tensor, "B G K"]) -> Float[Tensor, "B G W"]:
        """Run the shared MLP over all points and take the maximum of each neighbourhood."""
        hidden = groups.permute(0, 3, 1, 2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            hidden = norm(conv(hidden)).relu()
        return maximum(hidden.permute(0, 2, 3, 1), inside)
