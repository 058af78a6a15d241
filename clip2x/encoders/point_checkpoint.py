"""Point encoders as files: those that `pretrain-points` writes, which describe themselves, and those that others released."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clip2x.encoders.checkpoint_parts import CLIP_KEYS, carried_clip, describe_clip, require_clip, require_complete, require_layout, shapes_of
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.clip_files import ClipWeights, read_weights, save_clip_file
from clip2x.encoders.points import PointEncoder, build_point_encoder
from clip2x.encoders.released_points import is_released, read_released
from clip2x.errors import CheckpointMismatchError, InputError
from clip2x.untrusted import bare, excerpt

STAGE = "pretrain_points"
ENCODER_PREFIXES = ("points.", "point_encoder.")  # of our safetensors, of Lightning's files
NEEDED = (*CLIP_KEYS, "encoder", "scale", "templates", "mean_text")
NEEDED_OF_ENCODER = ("kind", "num_points", "up", "channels")
COORDINATES = ["x", "y", "z"]
OF_INPUT = ("num_points", "up", "channels")  # keys of "encoder" that say what goes in; the others build it


@dataclass(frozen=True)
class PointCheckpoint:
    """A trained point encoder and what its file says of it.

    encoder_state: its weights. about: see `docs/checkpoints.md`. sha256, path: of the file.
    carries_clip: the CLIP travels inside, so `ClipTowers(about["model"], path)` is the frozen CLIP of the training.
    method: whose encoder it is, as tables name it.
    """

    encoder_state: dict[str, Tensor]
    about: dict[str, Any]
    sha256: str
    path: str
    carries_clip: bool = False
    method: str = "CLIP2"

    @property
    def is_released(self) -> bool:
        """Tell whether others released the file, so that what `about` says of it comes from their code."""
        return self.method != "CLIP2"


def save_point_checkpoint(path: str | Path, encoder: PointEncoder, clip: ClipTowers, about: Mapping[str, Any]) -> None:
    """Write one safetensors file, replacing it in one step; a small CLIP of ours travels inside, large ones are named.

    Args:
        path: Usually ends in `.safetensors`.
        encoder: The trained encoder.
        clip: The frozen CLIP that it was trained against.
        about: Plain values, see `docs/checkpoints.md`; what `describe_clip` and the encoder say is added.

    Raises:
        CheckpointMismatchError: If `about` lacks what reading needs.
    """
    complete = {**about, "encoder": {**encoder.describe(), **about.get("encoder", {})}, **describe_clip(clip)}
    require_complete(complete, path, needed=NEEDED, of_encoder=NEEDED_OF_ENCODER, stage=STAGE)
    save_clip_file(path, {f"points.{name}": tensor for name, tensor in encoder.state_dict().items()} | carried_clip(clip), complete)


def read_point_checkpoint(path: str | Path) -> PointCheckpoint:
    """Read `point_encoder.safetensors`, a Lightning checkpoint of pretrain_points, or ULIP's or OpenShape's Point-BERT; nothing in a file is run.

    Raises:
        DataNotFoundError: If there is no file.
        BadFileError: If it is damaged, holds more than weights and plain values, or weights that are not finite.
        CheckpointMismatchError: If it is of another stage, or lacks what it should hold.
    """
    return as_point_checkpoint(read_weights(path), path)


def is_point_checkpoint(weights: ClipWeights) -> bool:
    """Tell whether what `read_weights` found is a point encoder, ours or of a released layout."""
    return weights.metadata.get("stage") == STAGE or is_released(weights)


def as_point_checkpoint(weights: ClipWeights, path: str | Path) -> PointCheckpoint:
    """Make a point checkpoint of what `read_weights` found in a file.

    Raises:
        CheckpointMismatchError: If it is none.
    """
    about = weights.metadata
    if is_released(weights):
        found = read_released(weights, path)
        return PointCheckpoint(found.encoder_state, found.about, weights.sha256, str(path), found.carries_clip, found.method)
    if (stage := about.get("stage")) != STAGE:
        raise CheckpointMismatchError(f"{path}: {f'was written by stage {bare(stage)}' if stage else 'does not say which stage wrote it'}, it has no "
                                      f"point encoder; give point_encoder.safetensors or a .ckpt of {STAGE}.")
    prefix = next((prefix for prefix in ENCODER_PREFIXES if any(name.startswith(prefix) for name in weights.state)), None)
    if prefix is None:
        parts = sorted({name.split(".")[0] for name in weights.state})
        raise CheckpointMismatchError(f"{path}: has no point encoder (found: {', '.join(parts[:6])}); give point_encoder.safetensors or a .ckpt "
                                      f"of {STAGE}.")
    require_complete(about, path, needed=NEEDED, of_encoder=NEEDED_OF_ENCODER, stage=STAGE)
    state = {name.removeprefix(prefix): tensor for name, tensor in weights.state.items() if name.startswith(prefix)}
    return PointCheckpoint(state, about, weights.sha256, str(path), any(name.startswith("clip.") for name in weights.state))


def point_encoder_of(checkpoint: PointCheckpoint, clip: ClipTowers) -> PointEncoder:
    """Build the trained encoder, frozen, on the CLIP's device.

    Args:
        checkpoint: What `read_point_checkpoint` gave.
        clip: Its space is the encoder's; compared with the one of the training.

    Raises:
        CheckpointMismatchError: If the CLIP is not the one of the training, the encoder that the file describes cannot be built, or the weights
            do not fit it.
    """
    about = checkpoint.about
    require_clip(checkpoint.path, about, clip, said_by_file=not checkpoint.is_released)
    described = {key: value for key, value in about["encoder"].items() if key not in OF_INPUT}
    if not isinstance(described.get("depth", 1), int) or described.get("depth", 1) > len(checkpoint.encoder_state):
        raise CheckpointMismatchError(f"{checkpoint.path}: says that its encoder has {excerpt(described['depth'])} layers and has "
                                      f"{len(checkpoint.encoder_state)} weights; write it again with {STAGE}.")
    try:
        with torch.device("meta"):  # without memory for weights: a damaged file may describe any size
            sketch = build_point_encoder(described, about["embed_dim"])
        require_layout(checkpoint.encoder_state, shapes_of(sketch.state_dict()), f"{checkpoint.path}: its point encoder", about["encoder"]["kind"])
        encoder = build_point_encoder(described, about["embed_dim"])
    except (InputError, ValueError, RuntimeError, OverflowError, AttributeError) as error:
        raise CheckpointMismatchError(f"{checkpoint.path}: {' '.join(str(error).split())[:300]}") from error
    encoder.load_state_dict(checkpoint.encoder_state)
    return encoder.to(clip.image_tower.colour_mean.device).requires_grad_(False).eval()


def require_ours(checkpoint: PointCheckpoint, argument: str, instead: str) -> None:
    """Refuse an encoder that others released where what its file does not say of itself would be lost.

    Args:
        checkpoint: What `read_point_checkpoint` gave.
        argument: What named the file.
        instead: What to do, for the message.

    Raises:
        CheckpointMismatchError: If it is one.
    """
    if checkpoint.is_released:
        raise CheckpointMismatchError(f"{argument} {checkpoint.path} is {checkpoint.method}'s released point encoder; accepted here are those of "
                                      f"pretrain-points; {instead}.")


def require_coordinates(checkpoint: PointCheckpoint) -> None:
    """Refuse an encoder that takes more than coordinates, which is all that the labelled sets give.

    Raises:
        CheckpointMismatchError: If it does.
    """
    if list(channels := checkpoint.about["encoder"]["channels"]) != COORDINATES:
        raise CheckpointMismatchError(f"{checkpoint.path}: its encoder takes the channels {', '.join(channels)}; data sets here give x, y, z only.")
