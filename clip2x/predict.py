"""One cloud in, ranked labels out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.clip_files import read_clip_file
from clip2x.encoders.depth import DepthViewEncoder, pool_view_features
from clip2x.errors import CheckpointMismatchError, InputError
from clip2x.evaluation.class_embeddings import class_embeddings, unknown_words
from clip2x.geometry import unit_sphere

# Official code, save the ten views: its zero-shot script takes clip2point-6, its pre-training and few-shot scripts these ten.
DEFAULTS = {"views": "clip2point-10", "point_radius": 0.02, "num_points": 1024}
TEMPLATES = ("image of a {}",)  # official code


class Recognizer:
    """Embeds clouds into CLIP's space and compares them with any names.

    Attributes:
        towers: The CLIP.
        num_points: Points that a cloud should have; others work, this many were used where figures are reported.
        scale: Factor on the cosines before the softmax, stored with the weights.
    """

    def __init__(self, towers: ClipTowers, *, views: str = "clip2point-10", point_radius: float = 0.02, num_points: int = 1024,
                 device: torch.device | str | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.towers = towers.to(self.device)
        self.encoder = DepthViewEncoder(towers, views=views, point_radius=point_radius).to(self.device)
        self.views, self.point_radius, self.num_points, self.scale = views, point_radius, num_points, towers.logit_scale
        self._names: tuple[tuple[tuple[str, ...], tuple[str, ...]], Tensor] | None = None

    @torch.no_grad()
    def embed(self, points: Float[Tensor, "..."]) -> Float[Tensor, "B E"]:
        """Embed clouds (B, N, 3), object frame (y up), any unit, as unit vectors.

        Raises:
            InputError: If the shape is another, a coordinate is not finite or a cloud has no extent.
        """
        if points.ndim != 3 or points.shape[-1] != 3:
            raise InputError(f"points must be (B, N, 3), got {tuple(points.shape)}; add the batch axis or transpose.")
        return pool_view_features(self.encoder(unit_sphere(points.to(self.device).float())), "cosine_sum")

    @torch.no_grad()
    def classify(self, points: Float[Tensor, "..."], class_names: Sequence[str], templates: Sequence[str] | None = None) -> Float[Tensor, "B C"]:
        """Compare clouds (B, N, 3) with names.

        Returns:
            Probabilities over the names: softmax of `scale` times the cosines.
        """
        return (self.scale * self.embed(points) @ self.class_embeddings(class_names, templates).T).softmax(dim=-1)

    def class_embeddings(self, class_names: Sequence[str], templates: Sequence[str] | None = None) -> Float[Tensor, "C E"]:
        """Embed names through templates (mean of unit vectors, unit length); the last result is kept.

        Raises:
            InputError: If a name is empty or repeated, or a template lacks `{}`.
        """
        key = tuple(class_names), tuple(templates or TEMPLATES)
        if self._names is None or self._names[0] != key:
            self._names = key, class_embeddings(self.towers, *key).to(self.device)
        return self._names[1]

    def unknown_words(self, class_names: Sequence[str]) -> list[str]:
        """List the names with a word that this CLIP never saw; empty for CLIPs of web scale."""
        return unknown_words(self.towers, list(class_names))


def load(checkpoint: str | Path, device: torch.device | str | None = None) -> Recognizer:
    """Build a recogniser from a checkpoint that describes itself (`make pretrain-clip` writes one).

    Raises:
        DataNotFoundError: If there is no such file.
        BadFileError: If it is damaged.
        CheckpointMismatchError: If it does not say what it is; plain CLIP weights need `from_clip` and a model id.
    """
    metadata = read_clip_file(checkpoint).metadata
    encoder: dict[str, Any] = dict(metadata.get("encoder") or {})
    if encoder.get("kind") != "depth_views" or "model" not in metadata:
        raise CheckpointMismatchError(f"{checkpoint} does not say which encoder it belongs to; for plain CLIP weights name the model too: "
                                      "--clip MODEL --pretrained FILE (in Python: clip2x.predict.from_clip).")
    if encoder.get("up", "y") != "y":
        raise CheckpointMismatchError(f"{checkpoint} was made for clouds with {encoder['up']} up; this version knows y up only.")
    settings = {key: encoder.get(key, default) for key, default in DEFAULTS.items()}
    return Recognizer(ClipTowers(metadata["model"], str(checkpoint)), device=device, **settings)


def from_clip(model: str, pretrained: str, device: torch.device | str | None = None, *, trust_torchscript: bool = False) -> Recognizer:
    """Build a recogniser from an open_clip model and a tag or file, with the depth views of CLIP2Point's released code."""
    return Recognizer(ClipTowers(model, pretrained, trust_torchscript=trust_torchscript), device=device, **DEFAULTS)  # type: ignore[arg-type]
