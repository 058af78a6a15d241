"""What checkpoints of all stages share: which CLIP they belong to, whether it travels inside, whether their weights fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor

from clip2x.encoders.clip import ClipTowers, uses_quick_gelu
from clip2x.encoders.clip_reference import REFERENCE_MODEL, REFERENCE_TOLERANCE, check_reference_cosines
from clip2x.errors import CheckpointMismatchError
from clip2x.untrusted import bare, excerpt

CLIP_KEYS = ("model", "clip", "clip_pretrained", "clip_sha256", "clip_content_sha256", "clip_metadata", "embed_dim", "image_size", "mean", "std")
SAME_PROJECTION = 0.01  # ours: relative distance; half precision moves weights by less than 0.001, other weights are about 1 away


MOST_POINTS = 1 << 20  # ours: of a cloud that an encoder takes; a larger number is a damaged one, and would take all memory


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9  # NaN is not


def _is_count(value: object, most: int = 1 << 16) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) < 400


def _are(value: object, form: Callable[[object], bool], count: int | None = None) -> bool:
    return isinstance(value, list | tuple) and count in (None, len(value)) and all(map(form, value))


def _optional(form: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or form(value)


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


FORMS: dict[str, Callable[[Any], bool]] = {
    "model": _is_name, "clip": _is_name, "clip_pretrained": _optional(_is_name), "clip_sha256": _optional(_is_name),
    "clip_content_sha256": _optional(_is_name), "clip_metadata": _is_mapping, "embed_dim": _is_count, "image_size": _is_count,
    "mean": lambda value: _are(value, _is_number, 3), "std": lambda value: _are(value, _is_number, 3), "scale": _is_number,
    "ensemble": _optional(lambda value: isinstance(value, dict) and all(_is_number(item) or (key.endswith("sha256") and _is_name(item))
                                                                        for key, item in value.items())),
    "templates": lambda value: _are(value, _is_name), "class_names": lambda value: _are(value, _is_name),
    "paths": lambda value: _are(value, _is_name),
    "mean_text": _optional(lambda value: _are(value, _is_number)), "adapter": _is_mapping, "encoder": _is_mapping, "points": _optional(_is_mapping),
    "mined": _optional(_is_mapping)}
FORMS_OF_ENCODER: dict[str, Callable[[Any], bool]] = {
    "views": _is_name, "point_radius": lambda value: _is_name(value) or _is_number(value), "num_points": lambda value: _is_count(value, MOST_POINTS),
    "pooling": _is_name, "channels": lambda value: _are(value, _is_name), "kind": _is_name}
"""What values of a description may be, by key; other keys are not read back, or are judged where they are used."""


def describe_clip(clip: ClipTowers) -> dict[str, Any]:
    """Say which CLIP a checkpoint was trained with: the part of `about` that is read back to find it again."""
    return {"model": clip.model_id, "clip": clip.id, "clip_pretrained": clip.tag, "clip_sha256": clip.weights_sha256,
            "clip_content_sha256": clip.content_sha256, "clip_metadata": clip.metadata, "embed_dim": clip.embed_dim,
            "image_size": clip.image_size, "mean": list(clip.mean), "std": list(clip.std)}


def carried_clip(clip: ClipTowers) -> dict[str, Tensor]:
    """Give the weights that travel inside a checkpoint, by their names there: all of a small CLIP of ours, none of a large one."""
    if clip.trained_words is None:
        return {}
    state = {f"clip.visual.{name}": tensor for name, tensor in clip.image_tower.visual.state_dict().items()}
    return state | {f"clip.{name}": tensor for name, tensor in clip.text_tower.state_dict().items()}


def require_clip(path: str, about: Mapping[str, Any], clip: ClipTowers, frozen_projection: Tensor | None = None, *,
                 said_by_file: bool = True) -> None:
    """Compare model, sizes, then weights: by file hash where both are known, else by content, since archives and plain files can be equal.

    Args:
        path: Of the checkpoint, for the message.
        about: What it says of itself.
        clip: The CLIP that is to be used with it.
        frozen_projection: See `DepthCheckpoint`.
        said_by_file: The file itself says which CLIP that is. False: others' code does, so that only another model, size or tag is known to be wrong.

    Raises:
        CheckpointMismatchError: If the CLIP is not the one of the training.
    """
    needs = f"{path}: was trained with the CLIP {about['clip']}"
    activation = {True: "QuickGELU", False: "GELU"}
    if clip.model_id != (about["model"] or clip.model_id):
        raise CheckpointMismatchError(f"{needs} ({activation[uses_quick_gelu(about['model'])]}), the one given is {clip.model_id} "
                                      f"({activation[uses_quick_gelu(clip.model_id)]}); give {about['model']}.")
    for what in ("embed_dim", "image_size"):
        if about[what] is not None and getattr(clip, what) != about[what]:
            raise CheckpointMismatchError(f"{needs} ({what} {about[what]}), the one given has {what} {getattr(clip, what)}; give that CLIP.")
    if not said_by_file and about["clip_sha256"] is None:
        same = _has_tag(clip, about)
    elif said_by_file and about["clip_content_sha256"] is None:
        same = _is_openai(clip, frozen_projection)
    else:
        same_file = clip.weights_sha256 is not None and clip.weights_sha256 == about["clip_sha256"]
        same = same_file or clip.content_sha256 == about["clip_content_sha256"]
    if not same:
        raise CheckpointMismatchError(f"{needs}, the one given, {clip.id}, has other weights; give that CLIP's tag or weight file.")


def _has_tag(clip: ClipTowers, about: Mapping[str, Any]) -> bool:
    """Compare a CLIP with a tag; of weights from a file nothing can be said, but for OpenAI's ViT-B/32."""
    if f"{about['model']}/{about['clip_pretrained']}" == f"{REFERENCE_MODEL}/openai":
        return _is_openai(clip, None)
    return about["clip_pretrained"] is None or clip.tag in (None, about["clip_pretrained"])


def _is_openai(clip: ClipTowers, frozen_projection: Tensor | None) -> bool:
    """Tell whether a ViT-B/32 is the released file's CLIP: by the copy of its image tower there, or by OpenAI's known text features."""
    if frozen_projection is not None:
        own = clip.image_tower.visual.state_dict()["proj"].cpu()
        if own.shape == frozen_projection.shape and float((own - frozen_projection).norm()) <= SAME_PROJECTION * float(frozen_projection.norm()):
            return True
    return check_reference_cosines(clip) <= REFERENCE_TOLERANCE


def require_complete(about: Mapping[str, Any], path: str | Path, *, needed: Sequence[str], of_encoder: Sequence[str], stage: str) -> None:
    """Refuse a description that lacks what reading needs, or is of clouds that stand another way.

    Args:
        about: What a checkpoint says of itself.
        path: Of the checkpoint, for the message.
        needed: Its keys.
        of_encoder: Keys of `about["encoder"]`.
        stage: What writes such a file.

    Raises:
        CheckpointMismatchError: If so.
    """
    encoder = about.get("encoder")
    lacking = [key for key in needed if key not in about]
    lacking += [f"encoder.{key}" for key in of_encoder if not isinstance(encoder, dict) or key not in encoder]
    if lacking:
        raise CheckpointMismatchError(f"{path}: does not say its {', '.join(lacking[:4])}, so it cannot be used; write it again with {stage}.")
    if encoder is not None and encoder["up"] != "y":
        raise CheckpointMismatchError(f"{path}: was made for clouds with {bare(encoder['up'])} up; this version knows y up only.")
    for name, said, forms in (("", about, FORMS), ("encoder.", encoder or {}, FORMS_OF_ENCODER)):
        for key, value in said.items():
            if key in forms and not forms[key](value):
                raise CheckpointMismatchError(f"{path}: says that its {name}{key} is {excerpt(value)}, which cannot be; write it again with {stage}.")


def require_tag(path: str, about: Mapping[str, Any]) -> str | None:
    """Give the tag by which a checkpoint names its CLIP; None if it names none. A file cannot be named so: it would be read from anywhere.

    Raises:
        CheckpointMismatchError: If it is no tag of open_clip.
    """
    tag: str | None = about["clip_pretrained"]
    if tag is not None and tag not in open_clip.list_pretrained_tags_by_model(about["model"]):
        raise CheckpointMismatchError(f"{path}: says that its CLIP is {excerpt(tag)}, which is no tag of {about['model']}; give that CLIP's tag "
                                      "or file (--pretrained).")
    return tag


def joined_mined(*several: Mapping[str, Mapping[str, Any]] | None) -> dict[str, dict[str, Any]]:
    """Join what several checkpoints or sources say of the frames that they were trained on or chosen by (`mined`).

    Returns:
        Data set -> `frames`, the sum, in which a frame that two of them know counts twice; `scenes`, the recordings of all, None where one of them
        does not list them.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, facts in [item for mined in several for item in (mined or {}).items()]:
        known = found.setdefault(name, {"frames": 0, "scenes": []})
        scenes = (known["scenes"], facts.get("scenes"))
        found[name] = {"frames": known["frames"] + facts["frames"],
                       "scenes": None if scenes[0] is None or scenes[1] is None else sorted({*scenes[0], *scenes[1]})}
    return dict(sorted(found.items()))


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Map each weight's name to its shape."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def require_layout(state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], source: str, model: str) -> None:
    """Refuse weights with other names or shapes than a model's.

    Raises:
        CheckpointMismatchError: If they differ.
    """
    kinds = ((sorted(set(wanted) - set(state)), "missing"), (sorted(set(state) - set(wanted)), "not the model's"))
    if any(names for names, _ in kinds):
        parts = [f"{len(names)} weights {kind} (first {names[0]!r})" for names, kind in kinds if names]
        raise CheckpointMismatchError(f"{source} does not fit {model}: {', '.join(parts)}; give a complete file of that model.")
    for name, shape in wanted.items():
        if tuple(state[name].shape) != shape:
            raise CheckpointMismatchError(f"{source} does not fit {model}: {name} is {tuple(state[name].shape)}, {shape} is needed; "
                                          "the file belongs to another model.")
