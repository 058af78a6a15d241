"""An encoder of clouds out of a checkpoint, with the names that its embeddings are compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.clip_files import read_weights
from clip2x.encoders.depth import DepthViewEncoder, pool_view_features
from clip2x.encoders.depth_checkpoint import STAGE as DEPTH_STAGE
from clip2x.encoders.depth_checkpoint import DepthCheckpoint, as_depth_checkpoint, depth_encoder_of
from clip2x.encoders.point_checkpoint import STAGE as POINT_STAGE
from clip2x.encoders.point_checkpoint import (
    PointCheckpoint,
    as_point_checkpoint,
    is_point_checkpoint,
    point_encoder_of,
    require_coordinates,
)
from clip2x.encoders.points import PointEncoder
from clip2x.errors import CheckpointMismatchError
from clip2x.evaluation.class_embeddings import centred, class_embeddings
from clip2x.evaluation.methods import CLIP2POINT, Method, point_method, tuned_method
from clip2x.geometry import points_of_encoder
from clip2x.manifest import Manifest


class FrozenEncoder(nn.Module):
    """The point encoder of pretrain-points or one that others released, or the depth encoder of pretrain-depth on its own views.

    It computes in the precision of the CLIP.

    Args:
        path: The checkpoint.
        clip: The CLIP of its training.

    Attributes:
        title: `CLIP2`, `CLIP2Point`, or whose released point encoder it is.
        points: The point encoder; None for a depth encoder.
        num_points: Points of a cloud that a point encoder is given, see `points_of_encoder`; None for a depth encoder, which sees all.
        method: Zero-shot recognition with it alone, at position 0 of the cosines.
        scale: Factor on its cosines before a softmax.

    Raises:
        CheckpointMismatchError: If the file has neither encoder, or belongs to another CLIP, or takes more than coordinates.
        DataNotFoundError, BadFileError: See `read_weights`.
    """

    def __init__(self, path: Path, clip: ClipTowers) -> None:
        super().__init__()
        weights = read_weights(path)
        stage = weights.metadata.get("stage", DEPTH_STAGE)
        if stage not in (POINT_STAGE, DEPTH_STAGE):
            raise CheckpointMismatchError(f"{path}: was written by stage {stage}; give point_encoder.safetensors of {POINT_STAGE}, or "
                                          f"depth_encoder.safetensors of {DEPTH_STAGE}.")
        self.checkpoint: PointCheckpoint | DepthCheckpoint
        if is_point_checkpoint(weights):
            self.checkpoint = as_point_checkpoint(weights, path)
            require_coordinates(self.checkpoint)
            self.encoder: PointEncoder | DepthViewEncoder = point_encoder_of(self.checkpoint, clip)
            self.title, self.method = self.checkpoint.method, point_method(self.checkpoint, 0, None, None)
        else:
            self.checkpoint = as_depth_checkpoint(weights, path)
            self.encoder = depth_encoder_of(self.checkpoint, clip)
            method = tuned_method(CLIP2POINT, self.checkpoint, self.encoder.draw, 0, "")
            self.title, self.method = CLIP2POINT, replace(method, gain_over=None)
        self.num_points = None if self.points is None else int(self.checkpoint.about["encoder"]["num_points"])
        self.precision, self.scale = clip.precision, float(self.checkpoint.about["scale"])

    @property
    def points(self) -> PointEncoder | None:
        """The point encoder; None for a depth encoder."""
        return self.encoder if isinstance(self.encoder, PointEncoder) else None

    def autocast(self) -> Any:
        """Make the context that it computes in."""
        device = next(self.encoder.parameters()).device
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def points_of(self, points: Float[Tensor, "B N 3"], num_real: Int64[Tensor, " B"] | None = None) -> Float[Tensor, "B M 3"]:
        """Take what the encoder sees of clouds; `num_real`: see `thin_out`."""
        return points if self.num_points is None else points_of_encoder(points, self.num_points, num_real)

    def forward(self, points: Float[Tensor, "B N 3"], num_real: Int64[Tensor, " B"] | None = None) -> Float[Tensor, "B E"]:
        """Embed clouds (unit sphere, object frame) as unit vectors, float32; `num_real`: see `thin_out`."""
        with self.autocast():
            features = self.encoder(self.points_of(points, num_real)).float()
        with torch.autocast(points.device.type, enabled=False):
            if self.points is None:
                return pool_view_features(features, self.checkpoint.about["encoder"]["pooling"])
            return functional.normalize(features, dim=-1)

    def templates(self, manifest: Manifest, asked: str | None) -> tuple[str, ...]:
        """Say which prompts names are spoken in.

        Args:
            manifest: Of the data set.
            asked: Name of the manifest's prompts, or templates; None: those of the encoder's training, the official ones for a depth encoder.
        """
        own = self.checkpoint.about.get("templates")
        return tuple(own) if asked is None and own else tuple(manifest.templates(asked or "official_code"))

    def names(self, clip: ClipTowers, class_names: tuple[str, ...], templates: tuple[str, ...], cache: Path) -> Float[Tensor, "C E"]:
        """Embed class names as the encoder knows them, unit length."""
        embeds = class_embeddings(clip, class_names, templates, cache=cache)
        mean = cast(list[float] | None, self.checkpoint.about.get("mean_text"))
        return embeds if mean is None else centred(embeds, torch.tensor(mean))

    def named(self, name: str, **protocol: Any) -> Method:
        """Describe a method that rests on this encoder."""
        return replace(self.method, name=name, protocol={**self.method.protocol, **protocol})
