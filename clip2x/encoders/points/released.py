"""What point encoders share whose weights others released."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from clip2x.encoders.points.base import Cloud, PointEncoder
from clip2x.errors import InputError

CLOUDS = 4  # encoded at a time, behind the choice of centres; ours: bounds the memory for neighbourhoods, changes nothing else


class ReleasedEncoder(PointEncoder):
    """An encoder for the weights of a file: always in evaluation mode, since its batch norm has the statistics of the file.

    Clouds have no colours here. Where an encoder wants some, all are `missing_colour`.
    """

    missing_colour = 0.4
    """Official code: OpenShape (src/data.py) trains with it in the place of colours left out, ULIP (data/dataset_3d.py) gives it ModelNet40."""

    def forward(self, points: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None = None) -> Float[Tensor, "B E"]:
        """Encode clouds to raw features; see `PointEncoder.forward`."""
        cloud = self.prepare(points, mask)
        index, valid = self.choose_centres(cloud)
        parts = [slice(first, first + CLOUDS) for first in range(0, len(points), CLOUDS)] or [slice(0)]
        return torch.cat([self.encode(cloud._replace(coordinates=cloud.coordinates[part], extras=cloud.extras[part], keep=cloud.keep[part]),
                                      index[part], valid[part]) for part in parts])

    def choose_centres(self, cloud: Cloud) -> tuple[Int64[Tensor, "B G"], Bool[Tensor, "B G"]]:
        """Choose the centres of all clouds at once, since it takes G steps, each waiting for the last: indices, and which of them are centres."""
        raise NotImplementedError

    def encode(self, cloud: Cloud, index: Int64[Tensor, "B G"], valid_tokens: Bool[Tensor, "B G"]) -> Float[Tensor, "B E"]:
        """Encode a few clouds around their centres."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> ReleasedEncoder:
        """Stay in evaluation mode whatever a parent module asks for."""
        return super().train(False)

    @staticmethod
    def require_size(width: int, depth: int, *others: int, head_width: int) -> None:
        """Refuse a size that cannot be built.

        Raises:
            InputError: If a number is below 1, or heads of `head_width` do not fill the width.
        """
        if min(width, depth, *others) < 1 or width % head_width:
            raise InputError(f"numbers must be at least 1 and width a multiple of {head_width}, got width {width}, depth {depth} and {others}.")
