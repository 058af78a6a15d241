"""Adapters as files that describe themselves: the frozen encoders that an adapter was made for travel with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional

from clip2x.adapters import build_adapter
from clip2x.encoders.checkpoint_parts import (
    CLIP_KEYS,
    FORMS_OF_ENCODER,
    carried_clip,
    describe_clip,
    joined_mined,
    require_complete,
    require_layout,
    shapes_of,
)
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.clip_files import ClipWeights, read_weights, save_clip_file
from clip2x.encoders.depth_checkpoint import DepthCheckpoint, depth_encoder_of
from clip2x.encoders.dual import CLIP, DEPTH, POINTS, AdaptedEncoder, DualPathEncoder
from clip2x.encoders.point_checkpoint import PointCheckpoint, point_encoder_of
from clip2x.errors import CheckpointMismatchError, InputError
from clip2x.untrusted import bare, excerpt

STAGE = "adapt"
LEAST_START = 0.1
NEEDED = (*CLIP_KEYS, "encoder", "adapter", "paths", "scale", "templates", "class_names", "trained_with", "points")
NEEDED_OF_ENCODER = ("views", "point_radius", "num_points", "up", "pooling")
LIGHTNING = {"adapter.": "encoder.adapter.", "depth.": "encoder.towers.depth.tower.visual.", "points.": "encoder.towers.points."}


@dataclass(frozen=True)
class AdapterCheckpoint:
    """A trained adapter, the encoders in front of it, and what its file says of them.

    adapter_state, tower_state, point_state: weights; the last one is empty where the adapter has no path of points. head: (C, E) trained class
    weights of unit length; None where names of any words are compared. about: see `docs/checkpoints.md`. sha256, path: of the file.
    carries_clip: see `DepthCheckpoint`.
    """

    adapter_state: dict[str, Tensor]
    tower_state: dict[str, Tensor]
    point_state: dict[str, Tensor]
    head: Tensor | None
    about: dict[str, Any]
    sha256: str
    path: str
    carries_clip: bool = False


def save_adapter_checkpoint(path: str | Path, encoder: AdaptedEncoder, clip: ClipTowers, about: Mapping[str, Any],
                            head: Tensor | None = None) -> None:
    """Write one safetensors file, replacing it in one step; a small CLIP of ours travels inside, large ones are named.

    Args:
        path: Usually ends in `.safetensors`.
        encoder: Towers and trained adapter.
        clip: The frozen CLIP.
        about: Plain values, see `docs/checkpoints.md`; what `describe_clip` and the adapter say is added.
        head: See `AdapterCheckpoint`.

    Raises:
        CheckpointMismatchError: If `about` lacks what reading needs.
    """
    complete = {**about, **describe_clip(clip), "stage": STAGE, "adapter": encoder.adapter.describe(), "paths": list(encoder.chosen)}
    require_complete(complete, path, needed=NEEDED, of_encoder=NEEDED_OF_ENCODER, stage=STAGE)
    towers = encoder.towers
    visual: Any = towers.depth.tower
    state = {f"depth.{name}": tensor for name, tensor in visual.visual.state_dict().items()}
    state |= {f"adapter.{name}": tensor for name, tensor in encoder.adapter.state_dict().items()}
    if towers.points is not None and POINTS in encoder.chosen:
        state |= {f"points.{name}": tensor for name, tensor in towers.points.state_dict().items()}
    state |= {} if head is None else {"head": head}
    save_clip_file(path, state | carried_clip(clip), complete)


def read_adapter_checkpoint(path: str | Path) -> AdapterCheckpoint:
    """Read `adapter.safetensors` or a Lightning checkpoint of adapt; nothing that stands in a file is run.

    Raises:
        DataNotFoundError: If there is no file.
        BadFileError: If it is damaged, holds more than weights and plain values, or weights that are not finite.
        CheckpointMismatchError: If it is of another stage, or lacks what it should hold.
    """
    return as_adapter_checkpoint(read_weights(path), path)


def as_adapter_checkpoint(weights: ClipWeights, path: str | Path) -> AdapterCheckpoint:
    """Make an adapter checkpoint of what `read_weights` found in a file.

    Raises:
        CheckpointMismatchError: If it is none.
    """
    about = weights.metadata
    if (stage := about.get("stage")) != STAGE:
        raise CheckpointMismatchError(f"{path}: was written by stage {bare(stage or 'unknown')}, it has no adapter; give adapter.safetensors or a "
                                      f".ckpt of {STAGE}.")
    require_complete(about, path, needed=NEEDED, of_encoder=NEEDED_OF_ENCODER, stage=STAGE)
    lightning = any(name.startswith(LIGHTNING["adapter."]) for name in weights.state)
    parts = {part: _below(weights.state, LIGHTNING[part] if lightning else part) for part in LIGHTNING}
    if not parts["adapter."] or not parts["depth."]:
        raise CheckpointMismatchError(f"{path}: lacks its {'adapter' if not parts['adapter.'] else 'depth encoder'}; write it again with {STAGE}.")
    head = weights.state.get("head")
    if head is not None and tuple(head.shape) != (len(about["class_names"]), about["embed_dim"]):
        raise CheckpointMismatchError(f"{path}: its head is {tuple(head.shape)}, {(len(about['class_names']), about['embed_dim'])} is needed for its "
                                      f"classes; write it again with {STAGE}.")
    head = None if head is None else functional.normalize(head.float(), dim=-1)  # training compares with unit rows
    return AdapterCheckpoint(parts["adapter."], parts["depth."], parts["points."], head, about, weights.sha256, str(path),
                             any(name.startswith("clip.") for name in weights.state))


def adapted_encoder_of(checkpoint: AdapterCheckpoint, clip: ClipTowers) -> AdaptedEncoder:
    """Build the encoders and the adapter behind them, frozen, on the CLIP's device.

    Raises:
        CheckpointMismatchError: If the CLIP is not the one of the training, or what the file describes cannot be built of its weights.
    """
    about = checkpoint.about
    depth = depth_encoder_of(DepthCheckpoint(checkpoint.tower_state, about, checkpoint.sha256, checkpoint.path), clip)
    said = about["points"]
    points = None
    if said is not None and not all(key in said and FORMS_OF_ENCODER[key](said[key]) for key in ("kind", "num_points")):
        raise CheckpointMismatchError(f"{checkpoint.path}: does not say how its point encoder is built; write it again with {STAGE}.")
    if said is not None:
        points = point_encoder_of(PointCheckpoint(checkpoint.point_state, {**about, "encoder": said}, checkpoint.sha256, checkpoint.path), clip)
    _require_adapter_size(checkpoint)
    try:
        adapter = build_adapter(about["adapter"])
        require_layout(checkpoint.adapter_state, shapes_of(adapter.state_dict()), f"{checkpoint.path}: its adapter", "the one that it describes")
        towers = DualPathEncoder(depth, clip, points, 0 if said is None else said["num_points"])
        encoder = AdaptedEncoder(towers, adapter, tuple(about["paths"]))
    except InputError as error:
        raise CheckpointMismatchError(f"{checkpoint.path}: {' '.join(str(error).split())[:300]}") from error
    adapter.load_state_dict(checkpoint.adapter_state)
    return encoder.to(clip.image_tower.colour_mean.device).requires_grad_(False).eval()


def _require_adapter_size(checkpoint: AdapterCheckpoint) -> None:
    """Refuse a description of an adapter that is larger than its weights, before memory is taken for it."""
    said, held = checkpoint.about["adapter"], sum(tensor.numel() for tensor in checkpoint.adapter_state.values())
    width, views = said.get("width"), said.get("num_views")
    whole = isinstance(width, int) and isinstance(views, list) and all(isinstance(number, int) for number in views)
    if whole and (min([width, *views], default=0) < 1 or sum(views) * width * width > held):
        raise CheckpointMismatchError(f"{checkpoint.path}: says that its adapter takes {excerpt(views)} views of {width} channels, its {held:,} "
                                      f"numbers are too few; write it again with {STAGE}.")


def towers_of(depth: DepthCheckpoint, clip: ClipTowers, points: PointCheckpoint | None = None) -> DualPathEncoder:
    """Put the encoders of two checkpoints side by side, frozen.

    Raises:
        CheckpointMismatchError: If one of them belongs to another CLIP.
    """
    own = None if points is None else point_encoder_of(points, clip)
    number = 0 if points is None else int(points.about["encoder"]["num_points"])
    return DualPathEncoder(depth_encoder_of(depth, clip), clip, own, number).requires_grad_(False).eval()


def towers_facts(clip: ClipTowers, depth: DepthCheckpoint, points: PointCheckpoint | None) -> dict[str, Any]:
    """Name all weights and settings that features of `towers_of` depend on, but for the precision."""
    return {"clip": clip.content_sha256, "depth": depth.sha256, "points": None if points is None else points.sha256,
            "encoder": depth.about["encoder"]}


def mined_by(depth: DepthCheckpoint, points: PointCheckpoint | None, paths: Sequence[str]) -> dict[str, Any]:
    """Say which frames the encoders of some paths were trained on or chosen by, as checkpoints state it (`mined`)."""
    return joined_mined(depth.about.get("mined") if DEPTH in paths else None,
                        points.about.get("mined") if points is not None and POINTS in paths else None)


def gate_start(depth: DepthCheckpoint, points: PointCheckpoint | None, paths: Sequence[str]) -> list[float]:
    """Give the weights that a gate starts from: the factors of the sums of cosines that the checkpoints' own stages fitted.

    No label of the data set at hand is used. No path starts with less than a tenth of the largest (ours: a gate that is nearly shut hardly learns).
    """
    factors = {DEPTH: float(depth.about["ensemble"]["tuned"]), CLIP: float(depth.about["ensemble"]["clip"])}
    if points is not None:
        fitted = points.about.get("ensemble")
        factors[POINTS] = float(points.about["scale"] if fitted is None else fitted["points"])
    least = LEAST_START * max(factors.values())
    return [max(factors[path], least) for path in paths]


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
