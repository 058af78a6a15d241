"""What point encoders share: the input, its checks, repeats and padding."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clip2x.encoders.points.grouping import first_occurrences
from clip2x.errors import InputError


class Cloud(NamedTuple):
    """A batch of clouds as the encoders work on it.

    coordinates: (B, N, 3) float32. extras: (B, N, C - 3) float32, the other channels.
    keep: (B, N), True for points that count: real ones, of equal points one. fewest, most: points that count of the clouds with the
    fewest and the most.
    """

    coordinates: Tensor
    extras: Tensor
    keep: Tensor
    fewest: int
    most: int


class PointEncoder(nn.Module):
    """Encode clouds to raw features of CLIP's width.

    A point that stands in a cloud more than once (equal in every channel) counts once, so that clouds of few points may be repeated or
    padded up to the size of the batch without changing their features.

    Args:
        embed_dim: E, width of the CLIP embedding.
        in_channels: C, coordinates first.

    Raises:
        InputError: If a width is too small.
    """

    kind: str

    def __init__(self, embed_dim: int, in_channels: int = 3) -> None:
        super().__init__()
        if embed_dim < 1 or in_channels < 3:
            raise InputError(f"embed_dim must be at least 1 and in_channels at least 3 (x, y, z), got {embed_dim} and {in_channels}.")
        self.embed_dim, self.in_channels = embed_dim, in_channels

    def forward(self, points: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None) -> Float[Tensor, "B E"]:
        """Encode clouds to raw features.

        Args:
            points: (B, N, C): unit sphere, object frame, then the other channels. N may differ from call to call.
            mask: (B, N): True for real points; all are if it is not given. What stands elsewhere has no effect.

        Raises:
            InputError: If the shape or the number of channels is wrong, a cloud has no point, or a coordinate is not finite.
        """
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Say how to build this encoder again: `kind` and the constructor's arguments but `embed_dim`, as plain values."""
        raise NotImplementedError

    @property
    def least_exported(self) -> int:
        """Points, repeats among them, that a cloud must have in an exported graph: as many as one step of it takes, centres or neighbours."""
        return 1

    def prepare(self, points: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None) -> Cloud:
        """Check the input and find the points that count; errors as in `forward`."""
        if points.ndim != 3 or points.shape[-1] != self.in_channels or points.shape[1] == 0:
            raise InputError(f"points must be (B, N, {self.in_channels}) with N >= 1, got {tuple(points.shape)}; "
                             "build the encoder with in_channels for other channels.")
        if mask is not None and (mask.shape != points.shape[:2] or mask.dtype != torch.bool):
            raise InputError(f"mask must be {tuple(points.shape[:2])} as the points and boolean, got {tuple(mask.shape)}, {mask.dtype}.")
        values = points.float()
        if mask is not None:
            values = values.masked_fill(~mask[..., None], 0.0)
        keep = first_occurrences(values, mask)
        if torch.compiler.is_exporting():  # no values to look at: nothing is left out where all points count, so the graph serves every cloud
            return Cloud(values[..., :3].contiguous(), values[..., 3:], keep, 1, self.least_exported)
        counts = keep.sum(dim=1)
        finite = values.isfinite().all().long()
        fewest, most, is_finite = torch.stack([*counts.aminmax(), finite]).tolist() if len(counts) else (1, 1, 1)
        if fewest == 0:
            empty = int((counts == 0).nonzero()[0])
            raise InputError(f"mask leaves no point of cloud {empty} of the batch; every cloud needs at least one.")
        if not is_finite:
            raise InputError("points hold NaN or infinite values; remove those points first or mask them.")
        return Cloud(values[..., :3].contiguous(), values[..., 3:], keep, fewest, most)
