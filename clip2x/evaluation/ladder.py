"""The methods that one table compares, and the encoders that they share: each runs once, a method sums the cosines of one or more."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clip2x.depth import DepthViews
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth import DepthViewEncoder, pool_view_features
from clip2x.encoders.depth_checkpoint import DepthCheckpoint, depth_encoder_of
from clip2x.errors import InputError
from clip2x.projections import PointClipV2Views, PointClipViews

PROJECTIONS = {"pointclip": ("PointCLIP projection", PointClipViews), "pointclip-v2": ("PointCLIP V2 projection", PointClipV2Views)}


@dataclass(frozen=True)
class Method:
    """A line of the table.

    factors: position of an encoder -> factor on its cosines; the scores are the sum.
    protocol: what a result says of the method.
    gain_over: name of the method that lacks the pre-training and differs in nothing else.
    step_over: name of the method that lacks the encoder which this one adds to it.
    """

    name: str
    factors: Mapping[int, float]
    protocol: dict[str, Any]
    gain_over: str | None = None
    step_over: str | None = None


class Ladder(nn.Module):
    """Untouched CLIP on depth views and on other projections, CLIP2Point's depth encoder, and the sum of that with CLIP.

    Views weigh the same in every method, and all compare with the same names in the same prompts: nothing is fitted on a test set.

    Args:
        clip: The CLIP of every method.
        views: View preset of all depth views. The checkpoint's tower is evaluated on it too, whatever it was trained on: the official code
            trains on ten views, and its zero-shot script takes six others.
        point_radius: Splat radii at which untouched CLIP is evaluated.
        projections: Names from `PROJECTIONS`.
        checkpoint: A depth encoder; it is evaluated at the radius that it was trained with, and so is untouched CLIP.
        ensemble: Whether to sum the cosines of the checkpoint's tower and of CLIP, with the factors that the checkpoint states.

    Attributes:
        encoders: Those of all methods; neighbours with the same renderer share its pictures.
        methods: The lines of the table, in its order.

    Raises:
        InputError: If a list has a value twice, there is no radius, or a projection is unknown.
        CheckpointMismatchError: If the checkpoint belongs to another CLIP.
    """

    def __init__(self, clip: ClipTowers, *, views: str, point_radius: Sequence[float | str], projections: Sequence[str] = (),
                 checkpoint: DepthCheckpoint | None = None, ensemble: bool = True) -> None:
        super().__init__()
        _check_lists(point_radius, projections)
        self.encoders, self.methods = nn.ModuleList(), list[Method]()
        self._titles: list[str] = []
        trained_at = None if checkpoint is None else checkpoint.about["encoder"]["point_radius"]
        radii = [*point_radius, *([trained_at] if trained_at is not None and trained_at not in point_radius else [])]
        pretrained: list[Method] = []
        for radius in radii:
            draw = DepthViews(views, clip.image_size, radius)
            untouched = self._add(clip, draw, f"r={radius}")
            name = f"CLIP depth views r={radius}"
            self.methods.append(Method(name, {untouched: 1.0}, _protocol("CLIP", draw, "clip2point")))
            if checkpoint is not None and radius == trained_at:
                tuned = self._add(depth_encoder_of(checkpoint, clip).tower, draw, f"r={radius}")
                pretrained = _pretrained_methods(checkpoint, draw, tuned, untouched, name)[:2 if ensemble else 1]
        for projection in projections:
            title, renderer = PROJECTIONS[projection]
            other = renderer(clip.image_size)
            self.methods.append(Method(title, {self._add(clip, other, projection): 1.0}, _protocol("CLIP", other, projection)))
        self.methods += pretrained

    def forward(self, points: Float[Tensor, "B N 3"], pooling: str) -> tuple[Float[Tensor, "P B E"], dict[str, Tensor]]:
        """Draw the clouds (unit sphere, object frame) once with each renderer, and encode the pictures once with each encoder.

        Returns:
            Embeddings of unit length of the P encoders, float32, and the (B, V, S, S) pictures of each renderer under its title.
        """
        embeds, pictures = [], {}
        for draw, group in itertools.groupby(zip(self.encoders, self._titles, strict=True), key=lambda pair: pair[0].draw):
            grey = draw(points)
            for encoder, title in group:
                embeds.append(pool_view_features(encoder.encode_views(grey).float(), pooling))  # type: ignore[operator]
                pictures[title] = grey
        return torch.stack(embeds), pictures

    def _add(self, tower: nn.Module, draw: nn.Module, title: str) -> int:
        self.encoders.append(DepthViewEncoder(tower, draw=draw))
        self._titles.append(title)
        return len(self._titles) - 1


def sum_of_cosines(cosines: Float[Tensor, "N P C"], factors: Mapping[int, float]) -> Float[Tensor, "N C"]:
    """Add factor x cosine over the encoders that `factors` names by position; the others are not looked at."""
    return torch.stack([factor * cosines[:, position] for position, factor in factors.items()]).sum(dim=0)


def _pretrained_methods(checkpoint: DepthCheckpoint, draw: DepthViews, tuned: int, untouched: int, baseline: str) -> list[Method]:
    """CLIP2Point alone, then summed with untouched CLIP on the same pictures."""
    about, name = checkpoint.about, f"CLIP2Point r={draw.point_radius}"
    said = {"depth_checkpoint_sha256": checkpoint.sha256, "selected_on": about.get("selected_on"), "notes": _notes(checkpoint, draw.views)}
    factors = {"CLIP2Point": float(about["ensemble"]["tuned"]), "CLIP": float(about["ensemble"]["clip"])}
    fitted = about.get("val_top1") is not None  # a file that no validation went before has factors by default
    summed = {"factors": factors, "factors_from": "the checkpoint: " + ("fitted in its validation" if fitted else "not fitted")}
    return [
        Method(name, {tuned: 1.0}, _protocol("CLIP2Point", draw, "clip2point", **said), gain_over=baseline),
        Method(f"CLIP2Point + CLIP r={draw.point_radius}", {tuned: factors["CLIP2Point"], untouched: factors["CLIP"]},
               _protocol("CLIP2Point + CLIP", draw, "clip2point", **said, **summed), gain_over=baseline, step_over=name),
    ]


def _notes(checkpoint: DepthCheckpoint, views: str) -> list[str]:
    """Say what a reader of CLIP2Point's figures has to know of the checkpoint."""
    about, start = checkpoint.about, f"CLIP2Point's checkpoint {checkpoint.sha256[:12]}:"
    selected_on = about.get("selected_on") or "not stated; it may be a test set"
    chosen = " Figures on the set that chose it are not held out." if "test" in selected_on else ""
    notes = [f"{start} selected on: {selected_on}.{chosen}", *(f"{start} {note}" for note in about.get("notes", []))]
    if views != about["encoder"]["views"]:
        notes.append(f"{start} trained on {about['encoder']['views']}, evaluated on {views}.")
    return notes


def _protocol(encoder: str, draw: Any, projection: str, **said: Any) -> dict[str, Any]:
    own_views = projection == "clip2point"
    return {"encoder": encoder, "projection": projection, "views": draw.views if own_views else None, "num_views": draw.num_views,
            "point_radius": draw.point_radius if own_views else None, "normalise_colours": draw.normalise_colours, "factors": None,
            "factors_from": None, "depth_checkpoint_sha256": None, "selected_on": None, "notes": [], **said}


def _check_lists(point_radius: Sequence[float | str], projections: Sequence[str]) -> None:
    if not point_radius:
        raise InputError("model.point_radius is an empty list; give at least one radius, e.g. [0.02].")
    for name in projections:
        if name not in PROJECTIONS:
            raise InputError(f"unknown projection {name!r}; model.projections takes {', '.join(PROJECTIONS)}.")
    for option, values in (("point_radius", point_radius), ("projections", projections)):
        if len(set(values)) < len(values):
            raise InputError(f"model.{option} has a value twice, got [{', '.join(map(str, values))}]; remove one.")
