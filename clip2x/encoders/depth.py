"""Encode clouds through their depth views with CLIP's image tower, as CLIP2Point does."""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from clip2x.depth import DepthViews
from clip2x.errors import InputError

POOLINGS = ("cosine_sum", "feature_mean")


@runtime_checkable
class PictureEncoder(Protocol):
    """What encodes pictures: `ClipTowers`, `ImageTower`."""

    image_size: int
    embed_dim: int

    def encode_image(self, images: Tensor, normalise: bool = True) -> Tensor:
        """Encode (B, 3, S, S) pictures to (B, E) raw features, their colours normalised or taken as they are."""


class DepthViewEncoder(nn.Module):
    """Draw a cloud from several cameras and encode each picture.

    Args:
        tower: `ClipTowers` (frozen) or an `ImageTower` that is trained; it normalises the colours itself.
        views: Name of a view preset, see `clip2x.depth.view_preset`. Official code: clip2point-10 in pre-training and few-shot,
            clip2point-6 (other angles) in its zero-shot script.
        point_radius: Radius of a drawn point, in units of half the picture's side, or `density` (see `clip2x.density.density_radius`).
            Official code: 0.02.
        draw: Another view renderer instead, as `PointClipViews` and `PointClipV2Views` of `clip2x.projections`: points (B, N, 3) to
            pictures (B, V, S, S), with `num_views`, `image_size` and `normalise_colours`. `views` and `point_radius` then have no effect.
        chunk: Pictures encoded at a time, which bounds the memory; None encodes all at once. It does not change the features where the
            tower treats each picture alone (no BatchNorm in training mode). Ours.

    Attributes:
        num_views: V.
        embed_dim: E.

    Raises:
        InputError: If `chunk` is below 1, or `draw` makes pictures of another size than the tower takes.
    """

    def __init__(
        self, tower: nn.Module, views: str = "clip2point-10", point_radius: float | str = 0.02, chunk: int | None = 64,
        draw: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if chunk is not None and chunk < 1:
            raise InputError(f"chunk must be at least 1 picture, got {chunk}; null encodes all at once.")
        encoder = cast(PictureEncoder, tower)
        self.tower, self.chunk = tower, chunk
        self.embed_dim = encoder.embed_dim
        self.draw = cast(Any, DepthViews(views, encoder.image_size, point_radius) if draw is None else draw)
        if self.draw.image_size != encoder.image_size:
            raise InputError(f"{type(draw).__name__} draws {self.draw.image_size} pixels, this tower takes {encoder.image_size}; "
                             f"build it with image_size={encoder.image_size}.")
        self.num_views: int = self.draw.num_views

    def forward(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B V E"]:
        """Encode clouds to raw features of their views.

        Args:
            points: Unit sphere, object frame.
        """
        return self.encode_views(self.draw(points))

    def encode_views(self, grey: Float[Tensor, "B V S S"]) -> Float[Tensor, "B V E"]:
        """Encode grey pictures as `draw` makes them to raw features; grey is repeated as red, green and blue (official code)."""
        encoder = cast(PictureEncoder, self.tower)
        options = {} if self.draw.normalise_colours else {"normalise": False}
        pictures = grey.flatten(0, 1)
        step = None if torch.compiler.is_exporting() else self.chunk  # an exported graph does not know the size of its batch
        parts = [pictures] if step is None else torch.split(pictures, step)
        features = torch.cat([encoder.encode_image(part[:, None].expand(-1, 3, -1, -1), **options) for part in parts])
        return features.view(*grey.shape[:2], -1)


def pool_view_features(features: Float[Tensor, "B V E"], how: str = "cosine_sum") -> Float[Tensor, "B E"]:
    """Merge the features of a cloud's views into one embedding of unit length.

    Args:
        features: Raw tower output.
        how: `cosine_sum` adds the unit vectors of the views, so that cosines with the result rank names as the sum of the views' cosines
            does: official code of CLIP2Point's zero-shot evaluation (equal weights, no temperature). `feature_mean` averages the raw
            features, by which long ones weigh more: what the official pre-training does with its two views of an object.

    Raises:
        InputError: If `how` is unknown or there are no views.
    """
    if how not in POOLINGS:
        raise InputError(f"views are pooled by one of {', '.join(POOLINGS)}, got {how!r}.")
    if features.shape[1] == 0:
        raise InputError("there are no views to pool; give features of at least one.")
    views = functional.normalize(features, dim=-1) if how == "cosine_sum" else features
    return functional.normalize(views.mean(dim=1), dim=-1)


class SampledViewEncoder(nn.Module):
    """Embed clouds by a few random depth views in training, by all of the preset in evaluation: CLIP2Point's encoder, to be tuned on triplets.

    Args:
        encoder: The depth encoder; its tower is what is trained.
        num_sampled: Views of a cloud in a training step. Ours: 2, as image-depth pre-training has two depth views of an object.
        distance_range: Of the cameras in training, drawn uniformly. Official code of the pre-training: 0.9 to 1.1.

    Raises:
        InputError: If a number is not possible.
    """

    def __init__(self, encoder: DepthViewEncoder, num_sampled: int = 2, distance_range: tuple[float, float] = (0.9, 1.1)) -> None:
        super().__init__()
        if not 1 <= num_sampled <= encoder.num_views or not 0 < distance_range[0] <= distance_range[1]:
            raise InputError(f"num_sampled must lie between 1 and the {encoder.num_views} views and distance_range be two rising positive numbers, "
                             f"got {num_sampled} and {distance_range}.")
        self.encoder, self.num_sampled, self.distance_range, self.embed_dim = encoder, num_sampled, distance_range, encoder.embed_dim

    def draw_cameras(self, batch: int, generator: torch.Generator | None = None) -> tuple[Int64[Tensor, "B K"], Float[Tensor, "B K"]]:
        """Draw views and distances of the clouds of a training step, on the CPU; by the global generator if none is given."""
        low, high = self.distance_range
        view = torch.rand(batch, self.encoder.num_views, generator=generator).argsort(dim=1)[:, : self.num_sampled]
        return view, low + (high - low) * torch.rand(batch, self.num_sampled, generator=generator)

    def forward(self, points: Float[Tensor, "B N 3"], cameras: tuple[Tensor, Tensor] | None = None) -> Float[Tensor, "B E"]:
        """Embed clouds (unit sphere, object frame); `cameras` of a training step: see `draw_cameras`, which is asked if there are none."""
        if not self.training:
            return pool_view_features(self.encoder(points).float())
        view, distance = (values.to(points.device) for values in cameras or self.draw_cameras(len(points)))
        pictures = [self.encoder.draw.of_one_view(points, view[:, place], distance[:, place, None]) for place in range(self.num_sampled)]
        return pool_view_features(self.encoder.encode_views(torch.cat(pictures, dim=1)).float())
