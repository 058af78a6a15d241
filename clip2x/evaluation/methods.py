"""The lines of a table: which encoders' cosines a method sums, and what a result says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip2x.encoders.adapter_checkpoint import AdapterCheckpoint
from clip2x.encoders.checkpoint_parts import joined_mined
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import DepthCheckpoint
from clip2x.encoders.point_checkpoint import PointCheckpoint
from clip2x.evaluation.metrics import plain_name

CLIP2POINT, WITH_PROXIES, CLIP2, CROP = "CLIP2Point", "CLIP2Point + proxies", "CLIP2", "CLIP image crop"
ADAPTED = "GDPA (supervised)"


@dataclass(frozen=True)
class Method:
    """A line of the table.

    factors: position of an encoder -> factor on its cosines; the scores are the sum.
    protocol: what a result says of the method.
    gain_over: name of the method that it is compared with: the one that lacks the pre-training and differs in nothing else, if there is one.
    step_over: name of another such method: the one that lacks the encoder which this one adds to it.
    scale: factor on the scores before a softmax.
    needs_image: it is evaluated on objects with a picture only; `uses_image`: data sets without pictures have no such line.
    mined: see `transduction.mined_frames`, of all its checkpoints.
    unseen: names that were kept out of the training of all its checkpoints; None without a checkpoint.
    """

    name: str
    factors: Mapping[int, float]
    protocol: dict[str, Any]
    gain_over: str | None = None
    step_over: str | None = None
    scale: float = 1.0
    needs_image: bool = False
    uses_image: bool = False
    mined: Mapping[str, Any] = field(default_factory=dict)
    unseen: tuple[str, ...] | None = None


def sum_of_cosines(cosines: Float[Tensor, "N P C"], factors: Mapping[int, float]) -> Float[Tensor, "N C"]:
    """Add factor x cosine over the encoders that `factors` names by position; the others are not looked at."""
    return torch.stack([factor * cosines[:, position] for position, factor in factors.items()]).sum(dim=0)


def points_seen(method: Method, num_points: int) -> int | None:
    """Say how many points of a cloud its point encoder sees: as many as in its training, or all where clouds have less; None without one."""
    own = method.protocol.get("num_points_of_encoder")
    return None if own is None else min(int(own), num_points)


def views_protocol(encoder: str, draw: Any, projection: str, **said: Any) -> dict[str, Any]:
    """Describe a method that looks at pictures drawn of a cloud."""
    own_views = projection == "clip2point"
    return protocol(encoder, projection=projection, views=draw.views if own_views else None, num_views=draw.num_views,
                    point_radius=draw.point_radius if own_views else None, normalise_colours=draw.normalise_colours, **said)


def protocol(encoder: str, **said: Any) -> dict[str, Any]:
    """Describe a method; what does not apply to it is None."""
    return {"encoder": encoder, "projection": None, "views": None, "num_views": None, "point_radius": None, "normalise_colours": None,
            "num_points_of_encoder": None, "factors": None, "factors_from": None, "depth_checkpoint_sha256": None, "point_checkpoint_sha256": None,
            "selected_on": None, "notes": [], **said}


def tuned_method(title: str, checkpoint: DepthCheckpoint, draw: Any, position: int, baseline: str, step_over: str | None = None) -> Method:
    """A depth encoder alone: CLIP2Point, or one that was tuned on triplets too."""
    return Method(f"{title} r={draw.point_radius}", {position: 1.0}, views_protocol(title, draw, "clip2point", **_said(title, checkpoint, draw)),
                  gain_over=baseline, step_over=step_over, scale=float(checkpoint.about["scale"]), mined=_mined(checkpoint),
                  unseen=_unseen(checkpoint))


def tuned_sum(checkpoint: DepthCheckpoint, draw: Any, tuned: int, untouched: int, baseline: str) -> Method:
    """CLIP2Point summed with untouched CLIP on the same pictures."""
    about = checkpoint.about
    factors = {"CLIP2Point": float(about["ensemble"]["tuned"]), "CLIP": float(about["ensemble"]["clip"])}
    fitted = about.get("val_top1") is not None  # a file that no validation went before has factors by default
    said = {**_said(CLIP2POINT, checkpoint, draw), "factors": factors,
            "factors_from": "the checkpoint: " + ("fitted in its validation" if fitted else "not fitted")}
    return Method(f"CLIP2Point + CLIP r={draw.point_radius}", {tuned: factors["CLIP2Point"], untouched: factors["CLIP"]},
                  views_protocol("CLIP2Point + CLIP", draw, "clip2point", **said), gain_over=baseline,
                  step_over=f"{CLIP2POINT} r={draw.point_radius}", mined=_mined(checkpoint), unseen=_unseen(checkpoint))


def crop_method(clip: ClipTowers, position: int) -> Method:
    """Untouched CLIP on what the picture shows of the object."""
    return Method(CROP, {position: 1.0}, protocol("CLIP", projection="picture", notes=[
        f"{CROP}: over objects that a picture shows only; the rectangle is that of the annotated 3-D box."]), scale=clip.logit_scale,
        needs_image=True, uses_image=True)


def point_method(checkpoint: PointCheckpoint, position: int, gain_over: str | None, step_over: str | None) -> Method:
    """A point encoder alone: CLIP2's, or one that others released."""
    return Method(checkpoint.method, {position: 1.0}, protocol(checkpoint.method, **_of_points(checkpoint)), gain_over=gain_over, step_over=step_over,
                  scale=float(checkpoint.about["scale"]), mined=_mined(checkpoint), unseen=_unseen(checkpoint))


def point_and_depth(points: PointCheckpoint, depth: DepthCheckpoint, draw: Any, positions: tuple[int, int], depth_method: str) -> Method:
    """A point encoder summed with CLIP2Point: by the factors that were fitted with this depth encoder, else by each one's own scale.

    Each own scale is fitted on its own validation, so the two logits are comparable although their sum was never fitted.
    """
    fitted, title = points.about.get("ensemble"), points.method
    if fitted is not None and fitted["depth_checkpoint_sha256"] == depth.sha256:
        factors = {title: float(fitted["points"]), CLIP2POINT: float(fitted["depth"])}
        seen = fitted.get("num_points")  # files from before this was stated lack it
        source = "the point checkpoint: fitted in its validation" + (f", where both saw {seen:,} points of a cloud" if seen else "")
    else:
        factors = {title: float(points.about["scale"]), CLIP2POINT: float(depth.about["scale"])}
        source = "each checkpoint's own scale; the sum was not fitted"
    depth_said, point_said = _said(CLIP2POINT, depth, draw), _of_points(points)
    said = {**depth_said, **point_said, "notes": [*depth_said["notes"], *point_said["notes"]], "factors": factors, "factors_from": source,
            "selected_on": "; ".join(f"{whose}: {part['selected_on'] or 'not stated'}"
                                     for whose, part in ((title, point_said), (CLIP2POINT, depth_said)))}
    return Method(f"{title} + {CLIP2POINT}", dict(zip(positions, factors.values(), strict=True)),
                  views_protocol(f"{title} + {CLIP2POINT}", draw, "clip2point", **said), gain_over=title, step_over=depth_method,
                  mined=joined_mined(_mined(depth), _mined(points)), unseen=_unseen(points, depth))


def adapted_method(checkpoint: AdapterCheckpoint, position: int, gain_over: str) -> Method:
    """GDPA behind both towers, trained with labels."""
    about = checkpoint.about
    views = about["encoder"]
    notes = [f"{ADAPTED}: no zero-shot method: trained with {about['trained_with']} (adapter {checkpoint.sha256[:12]}).",
             *(f"{ADAPTED}: {note}" for note in about.get("notes") or [])]
    said = protocol(ADAPTED, projection="clip2point", views=views["views"], point_radius=views["point_radius"], notes=notes,
                    depth_checkpoint_sha256=about.get("depth_checkpoint_sha256"), selected_on=about.get("selected_on"))
    return Method(ADAPTED, {position: 1.0}, said, gain_over=gain_over, scale=float(about["scale"]), mined=dict(about.get("mined") or {}),
                  unseen=())


def with_crop(method: Method, clip: ClipTowers, position: int) -> Method:
    """Add CLIP on the picture of the object to a method, with CLIP's own scale; an object that no picture shows is named without."""
    named = dict(zip(method.protocol["encoder"].split(" + "), method.factors.values(), strict=True))
    if len(named) == 1:
        named = {name: method.scale for name in named}
    said = {**method.protocol, "encoder": f"{method.protocol['encoder']} + CLIP", "factors": {**named, "CLIP image crop": clip.logit_scale},
            "factors_from": f"{method.protocol['factors_from'] or 'the point checkpoint: its scale'}; of the picture CLIP's logit scale, not fitted"}
    factors = dict(zip(method.factors, named.values(), strict=True))
    return Method(f"{method.name} + image crop", {**factors, position: clip.logit_scale}, said, gain_over=method.name, step_over=CROP,
                  uses_image=True, mined=method.mined, unseen=method.unseen)


def _of_points(checkpoint: PointCheckpoint) -> dict[str, Any]:
    about, start = checkpoint.about, f"{checkpoint.method}'s checkpoint {checkpoint.sha256[:12]}:"
    notes = [f"{start} selected on: {about.get('selected_on') or 'not stated'}.", *(f"{start} {note}" for note in about.get("notes") or [])]
    if about["mean_text"] is not None:
        notes.append(f"{start} the mean text of its training is removed from the names before they are compared.")
    return {"point_checkpoint_sha256": checkpoint.sha256, "selected_on": about.get("selected_on"), "notes": notes,
            "num_points_of_encoder": about["encoder"]["num_points"]}


def _said(title: str, checkpoint: DepthCheckpoint, draw: Any) -> dict[str, Any]:
    return {"depth_checkpoint_sha256": checkpoint.sha256, "selected_on": checkpoint.about.get("selected_on"),
            "notes": _notes(title, checkpoint, draw.views)}


def _notes(title: str, checkpoint: DepthCheckpoint, views: str) -> list[str]:
    """Say what a reader of a depth encoder's figures has to know of its checkpoint."""
    about, start = checkpoint.about, f"{title}'s checkpoint {checkpoint.sha256[:12]}:"
    selected_on = about.get("selected_on") or "not stated; it may be a test set"
    chosen = " Figures on the set that chose it are not held out." if "test" in selected_on else ""
    notes = [f"{start} selected on: {selected_on}.{chosen}", *(f"{start} {note}" for note in about.get("notes", []))]
    if views != about["encoder"]["views"]:
        notes.append(f"{start} trained on {about['encoder']['views']}, evaluated on {views}.")
    return notes


def _unseen(first: DepthCheckpoint | PointCheckpoint, *others: DepthCheckpoint | PointCheckpoint) -> tuple[str, ...]:
    """List the names that were kept out of the training of all of them."""
    lists = [{plain_name(name) for name in checkpoint.about.get("unseen_names") or ()} for checkpoint in others]
    return tuple(name for name in first.about.get("unseen_names") or () if all(plain_name(name) in known for known in lists))


def _mined(checkpoint: DepthCheckpoint | PointCheckpoint) -> dict[str, Any]:
    return dict(checkpoint.about.get("mined") or {})
