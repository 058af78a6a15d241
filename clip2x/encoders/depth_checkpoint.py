"""Checkpoints of the depth encoder: our own files, which describe themselves, and the one that CLIP2Point's authors released."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor

from clip2x.encoders.checkpoint_parts import CLIP_KEYS, carried_clip, describe_clip, require_clip, require_complete, require_layout, shapes_of
from clip2x.encoders.clip import ClipTowers, ImageTower
from clip2x.encoders.clip_files import ClipWeights, read_weights, save_clip_file
from clip2x.encoders.depth import DepthViewEncoder
from clip2x.errors import CheckpointMismatchError, InputError
from clip2x.manifest import load_manifest
from clip2x.untrusted import bare

STAGE = "pretrain_depth"
TOWER_PREFIXES = (  # of our safetensors, of Lightning's files of pretrain-depth and tune-depth
    "depth.", "depth_encoder.tower.visual.", "point_encoder.encoder.tower.visual.")
NEEDED = (*CLIP_KEYS, "encoder", "scale", "ensemble")
NEEDED_OF_ENCODER = ("views", "point_radius", "num_points", "up", "pooling")
OFFICIAL_MODEL = "ViT-B-32-quickgelu"
OFFICIAL_PARTS = {"point_model", "image_model", "selector", "weights"}  # official code (30673e7, models/clip2point.py)
FEW_SHOT_PARTS = {"pre_model", "ori_model", "adapter1", "adapter2"}  # official code (models/dpa.py)


@dataclass(frozen=True)
class DepthCheckpoint:
    """A trained depth encoder and what its file says of it.

    tower_state: weights of the image tower (`ImageTower.visual`).
    about: see `docs/checkpoints.md`.
    sha256: of the file.
    path: of the file.
    carries_clip: the CLIP travels inside, so `ClipTowers(about["model"], path)` is the frozen CLIP of the training.
    frozen_projection: the last matrix of the frozen image tower that travels with the released file, to tell its CLIP; None for others.
    """

    tower_state: dict[str, Tensor]
    about: dict[str, Any]
    sha256: str
    path: str
    carries_clip: bool = False
    frozen_projection: Tensor | None = None


def save_depth_checkpoint(path: str | Path, tower: ImageTower, clip: ClipTowers, about: Mapping[str, Any]) -> None:
    """Write one safetensors file, replacing it in one step; a small CLIP of ours travels inside, large ones are named.

    Args:
        path: Usually ends in `.safetensors`.
        tower: The trained tower.
        clip: The frozen CLIP that it was trained against.
        about: Plain values, see `docs/checkpoints.md`; what `describe_clip` says is added.

    Raises:
        CheckpointMismatchError: If `about` lacks what reading needs.
    """
    complete = {**about, **describe_clip(clip)}
    require_complete(complete, path, needed=NEEDED, of_encoder=NEEDED_OF_ENCODER, stage=STAGE)
    state = {f"depth.{name}": tensor for name, tensor in tower.visual.state_dict().items()}
    save_clip_file(path, state | carried_clip(clip), complete)


def read_depth_checkpoint(path: str | Path) -> DepthCheckpoint:
    """Read `depth_encoder.safetensors`, a Lightning checkpoint of pretrain_depth, or `best_eval.pth` of CLIP2Point's authors.

    Nothing that stands in a file is run (`weights_only`).

    Raises:
        DataNotFoundError: If there is no file.
        BadFileError: If it is damaged, holds more than weights and plain values, or weights that are not finite.
        CheckpointMismatchError: If it is of another stage or kind, or has not the weights that it should.
    """
    return as_depth_checkpoint(read_weights(path), path)


def as_depth_checkpoint(weights: ClipWeights, path: str | Path) -> DepthCheckpoint:
    """Make a depth checkpoint of what `read_weights` found in a file.

    Raises:
        CheckpointMismatchError: If it is none.
    """
    parts = {name.split(".")[0] for name in weights.state}
    if not weights.metadata and parts & FEW_SHOT_PARTS:
        raise CheckpointMismatchError(f"{path}: a few-shot checkpoint (DPA) of CLIP2Point's released code: its encoder belongs to adapters that "
                                      "were fitted to one data set; give the pre-trained best_eval.pth.")
    if not weights.metadata and parts & {"point_model", "image_model"}:
        return _official(weights, parts, path)
    about = weights.metadata
    if (stage := about.get("stage", STAGE)) != STAGE:
        raise CheckpointMismatchError(f"{path}: was written by stage {bare(stage)}, it has no depth encoder; give one of {STAGE}.")
    prefix = next((prefix for prefix in TOWER_PREFIXES if any(name.startswith(prefix) for name in weights.state)), None)
    if prefix is None:
        raise CheckpointMismatchError(f"{path}: has no depth encoder (found: {', '.join(sorted(parts)[:6])}); give depth_encoder.safetensors or a "
                                      f".ckpt of {STAGE}, or best_eval.pth of CLIP2Point; plain CLIP weights need --clip MODEL --pretrained FILE "
                                      "(in Python: clip2x.predict.from_clip).")
    require_complete(about, path, needed=NEEDED, of_encoder=NEEDED_OF_ENCODER, stage=STAGE)
    tower_state = {name.removeprefix(prefix): tensor for name, tensor in weights.state.items() if name.startswith(prefix)}
    return DepthCheckpoint(tower_state, about, weights.sha256, str(path), any(name.startswith("clip.") for name in weights.state))


def depth_encoder_of(checkpoint: DepthCheckpoint, clip: ClipTowers) -> DepthViewEncoder:
    """Build the trained encoder, frozen, on the CLIP's device.

    Args:
        checkpoint: What `read_depth_checkpoint` gave.
        clip: Gives the architecture; its own weights are not touched.

    Raises:
        CheckpointMismatchError: If the CLIP is not the one of the training, or the weights do not fit it.
    """
    about = checkpoint.about
    require_clip(checkpoint.path, about, clip, checkpoint.frozen_projection)
    visual = copy.deepcopy(clip.image_tower.visual)
    require_layout(checkpoint.tower_state, shapes_of(visual.state_dict()), f"{checkpoint.path}: its depth encoder", about["model"])
    visual.load_state_dict(checkpoint.tower_state)
    tower = ImageTower(visual, image_size=about["image_size"], embed_dim=about["embed_dim"], mean=about["mean"], std=about["std"])
    tower = tower.to(clip.image_tower.colour_mean.device).requires_grad_(False).eval()
    try:
        return DepthViewEncoder(tower, views=about["encoder"]["views"], point_radius=about["encoder"]["point_radius"])
    except InputError as error:
        raise CheckpointMismatchError(f"{checkpoint.path}: {error}") from error


def official_layout() -> dict[str, tuple[int, ...]]:
    """Name the 152 weights of OpenAI's ViT-B/32 image tower (87,849,216 numbers) with their shapes.

    Source: official code (openai/CLIP, clip/model.py): width 768, patches of 32 pixels, 224 pixels, 12 layers, features of 512.
    """
    width = 768
    shapes: dict[str, tuple[int, ...]] = {"class_embedding": (width,), "positional_embedding": (50, width), "proj": (width, 512),
                                          "conv1.weight": (width, 3, 32, 32)}
    blocks = [f"transformer.resblocks.{layer}." for layer in range(12)]
    for norm in ["ln_pre.", "ln_post.", *(f"{block}{name}." for block in blocks for name in ("ln_1", "ln_2"))]:
        shapes |= {f"{norm}weight": (width,), f"{norm}bias": (width,)}
    for block in blocks:
        shapes |= {f"{block}attn.in_proj_weight": (3 * width, width), f"{block}attn.in_proj_bias": (3 * width,)}
        for name, wide, narrow in (("attn.out_proj", width, width), ("mlp.c_fc", 4 * width, width), ("mlp.c_proj", width, 4 * width)):
            shapes |= {f"{block}{name}.weight": (wide, narrow), f"{block}{name}.bias": (wide,)}
    return shapes


def _official(weights: ClipWeights, parts: set[str], path: str | Path) -> DepthCheckpoint:
    """Take the depth encoder out of the released file, a DataParallel state dict."""
    if others := sorted(parts - OFFICIAL_PARTS):
        raise CheckpointMismatchError(f"{path}: looks like CLIP2Point's released best_eval.pth, but has {', '.join(others[:4])} besides "
                                      f"{', '.join(sorted(OFFICIAL_PARTS))}; get the file again.")
    prefix = "point_model."
    state = {name.removeprefix(prefix): tensor for name, tensor in weights.state.items() if name.startswith(prefix)}
    require_layout(state, official_layout(), f"{path}: its point_model", f"OpenAI's ViT-B/32 ({len(official_layout())} weights)")
    about = {
        "stage": STAGE, "model": OFFICIAL_MODEL, "clip": f"{OFFICIAL_MODEL}/openai", "clip_pretrained": "openai", "clip_sha256": None,
        "clip_content_sha256": None, "clip_metadata": {}, "embed_dim": 512, "image_size": 224, "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
        "encoder": {"kind": "depth_views", "views": "clip2point-10", "point_radius": 0.02, "num_points": 1024, "up": "y", "pooling": "cosine_sum"},
        "scale": 100.0, "ensemble": {"tuned": 50.0, "clip": 50.0}, "class_names": list(load_manifest("shapenet").class_names), "unseen_names": [],
        "seed": None, "commit": None, "precision": "fp32", "steps": None, "val_top1": None,
        "selected_on": "not stated in the file; the official code keeps the best epoch on ShapeNet's test list, and the best on ModelNet40's",
        "notes": ["CLIP2Point's released weights; views, radius and points are the official code's (30673e7), the scale CLIP's; the file states none",
                  "the ensemble's factors are not fitted: each is half of CLIP's scale"],
    }
    return DepthCheckpoint(state, about, weights.sha256, str(path), frozen_projection=weights.state.get("image_model.proj"))
