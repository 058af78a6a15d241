"""The methods that one table compares, and the encoders that they share: each runs once, a method sums the cosines of one or more."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from clip2x.depth import DepthViews
from clip2x.encoders.adapter_checkpoint import AdapterCheckpoint, adapted_encoder_of
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth import DepthViewEncoder, pool_view_features
from clip2x.encoders.depth_checkpoint import DepthCheckpoint, depth_encoder_of
from clip2x.encoders.point_checkpoint import PointCheckpoint, point_encoder_of, require_coordinates
from clip2x.errors import CheckpointMismatchError, InputError
from clip2x.evaluation.methods import (
    CLIP2POINT,
    WITH_PROXIES,
    Method,
    adapted_method,
    crop_method,
    point_and_depth,
    point_method,
    tuned_method,
    tuned_sum,
    views_protocol,
    with_crop,
)
from clip2x.geometry import points_of_encoder
from clip2x.projections import PointClipV2Views, PointClipViews

PROJECTIONS = {"pointclip": ("PointCLIP projection", PointClipViews), "pointclip-v2": ("PointCLIP V2 projection", PointClipV2Views)}


@dataclass(frozen=True)
class Names:
    """How the names are spoken that an encoder's cosines are with.

    templates: its own prompts; None for those of the evaluation. mean: (E,) removed from the text embeddings; None for nothing.
    """

    templates: tuple[str, ...] | None = None
    mean: Tensor | None = None


class Ladder(nn.Module):
    """Untouched CLIP on depth views, on other projections and on pictures; CLIP2Point's depth encoder, as published and tuned on triplets; CLIP2's
    point encoder; and sums of them.

    Views weigh the same in every method: nothing is fitted on a test set. All compare with the same names, in the same prompts but for the point
    encoder, which takes those that it was trained with.

    Args:
        clip: The CLIP of every method.
        views: View preset of all depth views. The checkpoints' towers are evaluated on it too, whatever they were trained on: the official code
            trains on ten views, and its zero-shot script takes six others.
        point_radius: Splat radii at which untouched CLIP is evaluated; the point encoder is compared with the last one.
        projections: Names from `PROJECTIONS`.
        checkpoint: A depth encoder; it is evaluated at the radius that it was trained with, and so is untouched CLIP.
        tuned: A depth encoder that was tuned on triplets, likewise.
        points: A point encoder; it is given as many points of each cloud as in its training, or all where there are less.
        adapted: An adapter behind both towers, which was trained with labels; its line says so.
        images: Whether to evaluate the pictures of objects too, where a data set has them.
        ensemble: Whether to sum cosines: of the depth encoder and CLIP, of both encoders, of these and CLIP on the picture.

    Attributes:
        encoders: Those that look at drawn pictures; neighbours with the same renderer share its pictures.
        names: Of every encoder, in the order of the embeddings: `encoders`, then the point encoder, the adapter, CLIP on pictures.
        methods: The lines of the table, in its order.

    Raises:
        InputError: If a list has a value twice, there is no radius, or a projection is unknown.
        CheckpointMismatchError: If a checkpoint belongs to another CLIP, takes more than coordinates, or has a head of its own in the place of names.
    """

    def __init__(self, clip: ClipTowers, *, views: str, point_radius: Sequence[float | str], projections: Sequence[str] = (),
                 checkpoint: DepthCheckpoint | None = None, tuned: DepthCheckpoint | None = None, points: PointCheckpoint | None = None,
                 adapted: AdapterCheckpoint | None = None, images: bool = False, ensemble: bool = True) -> None:
        super().__init__()
        _check_lists(point_radius, projections)
        self.encoders, self.methods = nn.ModuleList(), list[Method]()
        self.names, self._titles = list[Names](), list[str]()
        trained: list[Method] = []
        depth: tuple[DepthCheckpoint, DepthViews, int, Method] | None = None
        for radius in _radii(point_radius, checkpoint, tuned):
            draw = DepthViews(views, clip.image_size, radius)
            untouched = self._add(clip, draw, f"r={radius}")
            plain = Method(f"CLIP depth views r={radius}", {untouched: 1.0}, views_protocol("CLIP", draw, "clip2point"), scale=clip.logit_scale)
            self.methods.append(plain)
            if checkpoint is not None and radius == _radius_of(checkpoint):
                own = self._add(depth_encoder_of(checkpoint, clip).tower, draw, f"r={radius}")
                alone = tuned_method(CLIP2POINT, checkpoint, draw, own, plain.name)
                depth = checkpoint, draw, own, alone
                trained[:0] = [alone, *([tuned_sum(checkpoint, draw, own, untouched, plain.name)] if ensemble else [])]
            if tuned is not None and radius == _radius_of(tuned):
                own = self._add(depth_encoder_of(tuned, clip).tower, draw, f"r={radius}")
                before = f"{CLIP2POINT} r={radius}" if checkpoint is not None and _radius_of(checkpoint) == radius else None
                trained.append(tuned_method(WITH_PROXIES, tuned, draw, own, plain.name, before))
        for projection in projections:
            title, renderer = PROJECTIONS[projection]
            other = renderer(clip.image_size)
            self.methods.append(Method(title, {self._add(clip, other, projection): 1.0}, views_protocol("CLIP", other, projection),
                                       scale=clip.logit_scale))
        self.point_encoder = None if points is None else point_encoder_of(points, clip)
        self.num_points = 0 if points is None else int(points.about["encoder"]["num_points"])
        self.clip = clip if images else None
        if points is not None:
            require_coordinates(points)
            mean = points.about["mean_text"]
            self.names.append(Names(tuple(points.about["templates"]), None if mean is None else torch.tensor(mean)))
            untouched_name = f"CLIP depth views r={point_radius[-1]}"  # a point encoder has no radius of its own
            trained.append(point_method(points, len(self.encoders), untouched_name, None if depth is None else depth[3].name))
            if depth is not None and ensemble:
                trained.append(point_and_depth(points, depth[0], depth[1], (len(self.encoders), depth[2]), depth[3].name))
        self.adapted = None
        if adapted is not None:
            if adapted.head is not None:
                raise CheckpointMismatchError(f"{adapted.path}: has a trained head, which knows its own classes only; evaluate an adapter that was "
                                              "trained with --model.head names.")
            self.adapted = adapted_encoder_of(adapted, clip)
            supervised = adapted_method(adapted, len(self.names), self.methods[0].name if depth is None else depth[3].name)
            self.names.append(Names(tuple(adapted.about["templates"])))
        if images:
            self.methods.append(crop_method(clip, len(self.names)))
            if points is not None and ensemble:
                trained.append(with_crop(trained[-1], clip, len(self.names)))
            self.names.append(Names())
        self.methods += trained if adapted is None else [*trained, supervised]

    def forward(self, points: Float[Tensor, "B N 3"], pooling: str, image: Float[Tensor, "B 3 S S"] | None = None,
                has_image: Bool[Tensor, " B"] | None = None,
                num_real: Int64[Tensor, " B"] | None = None) -> tuple[Float[Tensor, "P B E"], dict[str, Tensor]]:
        """Draw the clouds (unit sphere, object frame) once with each renderer, and run each encoder once.

        Args:
            points: The clouds.
            pooling: Of views, see `pool_view_features`.
            image, has_image: Pictures of the objects, [0, 1], and which of them are there; the embedding of one that is not is zero.
            num_real: Of each cloud, see `thin_out`.

        Returns:
            Embeddings of unit length of the P encoders, float32, in the order of `names`; and the (B, V, S, S) pictures of each renderer under its
            title.
        """
        embeds, pictures = [], {}
        for draw, group in itertools.groupby(zip(self.encoders, self._titles, strict=True), key=lambda pair: pair[0].draw):
            grey = draw(points)
            for encoder, title in group:
                embeds.append(pool_view_features(encoder.encode_views(grey).float(), pooling))  # type: ignore[operator]
                pictures[title] = grey
        if self.point_encoder is not None:
            own = points_of_encoder(points, self.num_points, num_real)
            embeds.append(functional.normalize(self.point_encoder(own).float(), dim=-1))
        if self.adapted is not None:
            embeds.append(self.adapted(points, num_real))
        if self.clip is not None:
            embeds.append(torch.zeros_like(embeds[0]))
            if image is not None and has_image is not None and bool(has_image.any()):
                embeds[-1][has_image] = functional.normalize(self.clip.encode_image(image[has_image]).float(), dim=-1)
        return torch.stack(embeds), pictures

    def _add(self, tower: nn.Module, draw: nn.Module, title: str) -> int:
        self.encoders.append(DepthViewEncoder(tower, draw=draw))
        self._titles.append(title)
        self.names.append(Names())
        return len(self._titles) - 1


def _radius_of(checkpoint: DepthCheckpoint) -> float | str:
    radius: float | str = checkpoint.about["encoder"]["point_radius"]
    return radius


def _radii(point_radius: Sequence[float | str], *checkpoints: DepthCheckpoint | None) -> list[float | str]:
    """List the radii, those of checkpoints added where they are missing."""
    return list(dict.fromkeys([*point_radius, *(_radius_of(checkpoint) for checkpoint in checkpoints if checkpoint is not None)]))


def _check_lists(point_radius: Sequence[float | str], projections: Sequence[str]) -> None:
    if not point_radius:
        raise InputError("model.point_radius is an empty list; give at least one radius, e.g. [0.02].")
    for name in projections:
        if name not in PROJECTIONS:
            raise InputError(f"unknown projection {name!r}; model.projections takes {', '.join(PROJECTIONS)}.")
    for option, values in (("point_radius", point_radius), ("projections", projections)):
        if len(set(values)) < len(values):
            raise InputError(f"model.{option} has a value twice, got [{', '.join(map(str, values))}]; remove one.")
