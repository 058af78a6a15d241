"""Point encoders: clouds to raw features of CLIP's width, in pure PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clip2x.encoders.points.base import PointEncoder
from clip2x.encoders.points.patch_transformer import PointPatchTransformer
from clip2x.encoders.points.point_bert import UlipPointBert
from clip2x.encoders.points.pointnet2 import PointNet2
from clip2x.encoders.points.transformer import PointTransformer
from clip2x.errors import InputError

KINDS: dict[str, type[PointTransformer | PointNet2 | UlipPointBert | PointPatchTransformer]] = {
    encoder.kind: encoder for encoder in (PointTransformer, PointNet2, UlipPointBert, PointPatchTransformer)}


def build_point_encoder(described: Mapping[str, Any], embed_dim: int) -> PointEncoder:
    """Build the encoder that `PointEncoder.describe` described, with fresh weights.

    Args:
        described: `kind` and constructor arguments.
        embed_dim: E.

    Raises:
        InputError: If the kind is unknown, or an argument does not belong to it or cannot be used.
    """
    arguments = dict(described)
    kind = arguments.pop("kind", None)
    if kind not in KINDS:
        raise InputError(f"point encoders are {', '.join(KINDS)}, got kind {kind!r}.")
    try:
        return KINDS[kind](embed_dim, **arguments)
    except (TypeError, KeyError) as error:
        raise InputError(f"this {kind} cannot be built of {', '.join(arguments)}: {error}.") from error


__all__ = ["KINDS", "PointEncoder", "PointNet2", "PointPatchTransformer", "PointTransformer", "UlipPointBert", "build_point_encoder"]
