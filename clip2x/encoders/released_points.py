"""Point encoders that others released: which layout a file has, which of our encoders computes it, which CLIP it was trained with.

Such files say nothing of themselves. The layout is told by the names of the weights, sizes by their shapes, and the rest (points, axes, CLIP,
sizes of neighbourhoods) is the official code's, see `docs/checkpoints.md`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

from clip2x.encoders import slip
from clip2x.encoders.checkpoint_parts import require_layout
from clip2x.encoders.clip_files import ClipWeights
from clip2x.encoders.points import PointPatchTransformer, UlipPointBert, build_point_encoder
from clip2x.errors import CheckpointMismatchError, InputError
from clip2x.untrusted import bare

BIGG = ("ViT-bigG-14", "laion2b_s39b_b160k")
CLIPS: dict[str, dict[int, tuple[str, str | None]]] = {
    # Official code (salesforce/ULIP, models/ULIP_models.py); None: the weights are in the file.
    "ULIP": {1280: BIGG, 512: (slip.MODEL, None)},
    # Official code (OpenShape/openshape-demo-support, openshape/__init__.py; names and README of the checkpoints).
    "OpenShape": {1280: BIGG, 768: ("ViT-L-14-quickgelu", "openai"), 512: ("ViT-B-32-quickgelu", "openai")},
}
"""Layout -> width of the embeddings -> the CLIP of the training: open_clip's id and tag."""
TEMPLATES = ["a point cloud model of {}."]  # official code (salesforce/ULIP, data/templates.json): the first of 64, which both projects average
CLIP_SCALE, MOST_SCALE = 100.0, 100.0  # ours: where the file states none; official code (ULIP, main.py): the largest one
SIZES: dict[tuple[int, int, int, int], tuple[int, float, int]] = {
    (256, 6, 1024, 96): (64, 0.4, 256), (512, 6, 1024, 128): (64, 0.4, 256), (512, 12, 1024, 128): (128, 0.35, 128),
    (512, 12, 1536, 256): (384, 0.2, 64), (768, 12, 2304, 256): (512, 0.2, 64), (768, 24, 3072, 256): (512, 0.2, 64),
}
"""Official code (OpenShape, src/models/ppat.py, scaling 1 to 6): width, depth, MLP, group width -> centres, radius, points of a neighbourhood."""
DEMO_GROUPS = (64, 0.4, 256)  # official code (openshape-demo-support, openshape/__init__.py, L14 and B32), whose shapes are those of scaling 3
ULIP_NAMES = (  # ours -> the official ones; the first that fits counts
    (r"^projection$", "pc_projection"),
    (r"^local\.", "point_encoder.encoder.first_conv."), (r"^mixed\.", "point_encoder.encoder.second_conv."),
    (r"^reduce\.", "point_encoder.reduce_dim."), (r"^position\.", "point_encoder.pos_embed."), (r"^class_token$", "point_encoder.cls_token"),
    (r"^class_position$", "point_encoder.cls_pos"), (r"^norm\.", "point_encoder.norm."),
    (r"^blocks\.(\d+)\.norm_(\d)\.", r"point_encoder.blocks.blocks.\1.norm\2."),
    (r"^blocks\.(\d+)\.(qkv|proj)\.", r"point_encoder.blocks.blocks.\1.attn.\2."),
    (r"^blocks\.(\d+)\.mlp\.0\.", r"point_encoder.blocks.blocks.\1.mlp.fc1."),
    (r"^blocks\.(\d+)\.mlp\.2\.", r"point_encoder.blocks.blocks.\1.mlp.fc2."),
)
PATCH_NAMES = (
    (r"^convs\.", "sa.mlp_convs."), (r"^norms\.", "sa.mlp_bns."), (r"^lift\.", "lift.0."), (r"^lift_norm\.", "lift.2."),
    (r"^class_token$", "cls_token"),
    (r"^blocks\.(\d+)\.norm_1\.", r"transformer.layers.\1.0.norm."), (r"^blocks\.(\d+)\.norm_2\.", r"transformer.layers.\1.1.norm."),
    (r"^blocks\.(\d+)\.qkv\.", r"transformer.layers.\1.0.fn.to_qkv."), (r"^blocks\.(\d+)\.proj\.", r"transformer.layers.\1.0.fn.to_out.0."),
    (r"^blocks\.(\d+)\.mlp\.0\.", r"transformer.layers.\1.1.fn.net.0."), (r"^blocks\.(\d+)\.mlp\.2\.", r"transformer.layers.\1.1.fn.net.3."),
)


@dataclass(frozen=True)
class Released:
    """What a file of others gives.

    method: whose it is, as tables name it. encoder_state: weights in our names. about: what our own files would say of themselves.
    carries_clip: the CLIP is inside.
    """

    method: str
    encoder_state: dict[str, Tensor]
    about: dict[str, Any]
    carries_clip: bool


def is_released(weights: ClipWeights) -> bool:
    """Tell by the names of the weights whether a file is a point encoder of ULIP's or OpenShape's."""
    parts = {name.split(".")[0] for name in weights.state}
    return not weights.metadata and ("pc_projection" in parts or bool(parts & {"ppat", "pc_encoder"}))


def read_released(weights: ClipWeights, path: str | Path) -> Released:
    """Take a point encoder for which `is_released` holds out of its file.

    Raises:
        CheckpointMismatchError: If weights are missing, additional or of another shape, or it is an encoder that is not computed here.
    """
    state = weights.state
    return _ulip(weights, str(path)) if "pc_projection" in state else _openshape(weights, str(path))


def _ulip(weights: ClipWeights, path: str) -> Released:
    state, first = weights.state, "point_encoder.encoder.first_conv.0.weight"
    if "point_encoder.blocks.blocks.0.attn.qkv.weight" not in state:
        raise CheckpointMismatchError(f"{path}: a checkpoint of ULIP whose point encoder is no Point-BERT, the one of ULIP's that is read here.")
    known = {"point_encoder", "pc_projection", "logit_scale", "open_clip_model", *slip.PARTS}
    _refuse_others(state, known, path, "ULIP's Point-BERT")
    inputs, (width, embed_dim) = _shape(state, first, 3, path)[1], _shape(state, "pc_projection", 2, path)
    described = {"kind": UlipPointBert.kind, "width": width // 2, "depth": _layers(state, r"^point_encoder\.blocks\.blocks\.(\d+)\."),
                 "group_width": _shape(state, "point_encoder.reduce_dim.weight", 2, path)[1], "colour": inputs == 6}
    own = {name: tensor for name, tensor in state.items() if name == "pc_projection" or name.startswith("point_encoder.")}
    found = _renamed(own, described, embed_dim, ULIP_NAMES, "", f"{path}: its point encoder", "ULIP's Point-BERT")
    scale = min(float(state["logit_scale"].exp()), MOST_SCALE) if "logit_scale" in state and state["logit_scale"].numel() == 1 else None
    method = "ULIP-2" if embed_dim == 1280 else "ULIP"
    about = _about(weights, "ULIP", described, embed_dim, num_points=10_000 if inputs == 6 else 8192, scale=scale, notes=[
        "the clouds stand y up as in the official code", "prompts: the official code averages 64 templates, of which this is the first"])
    about["selected_on"] = "not stated in the file; the official code keeps the best epoch on ModelNet40's test list"
    return Released(method, found, about, about["clip_sha256"] is not None)


def _openshape(weights: ClipWeights, path: str) -> Released:
    demo = any(name.startswith("pc_encoder.") for name in weights.state)
    state = weights.state
    if demo:  # official code (openshape-demo-support): of these files it takes what stands below pc_encoder
        state = {name.removeprefix("pc_encoder."): tensor for name, tensor in state.items() if name.startswith("pc_encoder.")}
    projected = any(name.startswith("ppat.") for name in state)
    prefix = "ppat." if projected else ""
    if projected:
        _refuse_others(state, {"ppat", "proj"}, path, "OpenShape's Point-BERT")
    inputs = _shape(state, f"{prefix}sa.mlp_convs.0.weight", 4, path)[1]
    width = _shape(state, f"{prefix}cls_token", 1, path)[0]
    embed_dim = _shape(state, "proj.weight", 2, path)[0] if projected else width
    depth = _layers(state, rf"^{re.escape(prefix)}transformer\.layers\.(\d+)\.")
    mlp_width = _shape(state, f"{prefix}transformer.layers.0.1.fn.net.0.weight", 2, path)[0]
    group_width = _shape(state, f"{prefix}sa.mlp_convs.2.weight", 4, path)[0]
    groups = DEMO_GROUPS if demo else SIZES.get((width, depth, mlp_width, group_width))
    if groups is None:
        raise CheckpointMismatchError(f"{path}: an OpenShape encoder of a size that OpenShape's code does not have (width {width}, {depth} layers, "
                                      f"MLP {mlp_width}, groups {group_width}): its neighbourhoods are not known.")
    described = {"kind": PointPatchTransformer.kind, "width": width, "depth": depth, "mlp_width": mlp_width, "group_width": group_width,
                 "num_groups": groups[0], "radius": groups[1], "group_size": groups[2], "colour": inputs == 9, "projected": projected,
                 "gravity": "y" if demo else "z"}
    found = _renamed(state, described, embed_dim, PATCH_NAMES, prefix, f"{path}: its point encoder", "OpenShape's Point-BERT")
    mirrored = ["y and z are exchanged in front of the encoder, a reflection, as in the official code"] if not demo else []
    about = _about(weights, "OpenShape", described, embed_dim, num_points=10_000, scale=weights.logit_scale, notes=[
        *mirrored, "prompts: the official code averages ULIP's 64 templates, of which this is the first"])
    about["selected_on"] = "not stated in the file; the official code keeps the best epochs on Objaverse-LVIS and on ModelNet40's test list"
    return Released("OpenShape", found, about, False)


def _about(weights: ClipWeights, layout: str, described: Mapping[str, Any], embed_dim: int, *, num_points: int, scale: float | None,
           notes: list[str]) -> dict[str, Any]:
    """Say of a file what our own ones say of themselves; see `docs/checkpoints.md`."""
    model, tag = CLIPS[layout].get(embed_dim, (None, None))
    inside = model == slip.MODEL and slip.carries_slip(weights.state)
    colour = ["clouds have no colours here: all three channels are 0.4, as the official code has it for such clouds"] if described["colour"] else []
    named = f"for embeddings of {embed_dim} the official code's is {model}" if model else "whoever evaluated it has stated which"
    scaled = ["the file states no scale: 100, CLIP's"] if scale is None else []
    return {
        "stage": "pretrain_points", "model": model, "clip": _clip_name(model, tag, embed_dim), "clip_pretrained": tag,
        "clip_sha256": weights.sha256 if inside else None, "clip_content_sha256": None, "clip_metadata": {}, "embed_dim": embed_dim,
        "image_size": 224 if model else None,
        "mean": list(slip.MEAN if model == slip.MODEL else open_clip.OPENAI_DATASET_MEAN),
        "std": list(slip.STD if model == slip.MODEL else open_clip.OPENAI_DATASET_STD),
        "encoder": {**described, "num_points": num_points, "up": "y", "channels": ["x", "y", "z"]},
        "scale": CLIP_SCALE if scale is None else scale, "ensemble": None, "templates": TEMPLATES, "mean_text": None, "class_names": [],
        "unseen_names": [], "mined": {}, "seed": None, "commit": None, "precision": "fp32", "steps": None, "val_top1": None,
        "notes": [f"{layout}'s released layout; the file names no CLIP: {named}", *notes, *colour, *scaled],
    }


def _clip_name(model: str | None, tag: str | None, embed_dim: int) -> str:
    if model is None:
        return f"with embeddings of {embed_dim}, none of which is known for such files"
    return f"{model}/{tag}" if tag else model


def _renamed(state: Mapping[str, Tensor], described: Mapping[str, Any], embed_dim: int, names: tuple[tuple[str, str], ...], prefix: str, source: str,
             model: str) -> dict[str, Tensor]:
    """Check names and shapes against the encoder that computes them, and give the weights in its names.

    Raises:
        CheckpointMismatchError: If they differ.
    """
    try:
        with torch.device("meta"):
            sketch = build_point_encoder(described, embed_dim).state_dict()
    except (InputError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointMismatchError(f"{source} does not fit {model}: {' '.join(str(error).split())[:200]}") from error
    official = {name: f"proj.{name.removeprefix('head.')}" if name.startswith("head.") else prefix + _official(name, names) for name in sketch}
    require_layout(state, {official[name]: tuple(tensor.shape) for name, tensor in sketch.items()}, source, model)
    return {name: state[official[name]] for name in sketch}


def _official(name: str, names: tuple[tuple[str, str], ...]) -> str:
    return next(re.sub(pattern, official, name) for pattern, official in names if re.search(pattern, name))


def _refuse_others(state: Mapping[str, Tensor], known: set[str], path: str, model: str) -> None:
    if others := sorted({name.split(".")[0] for name in state} - known):
        raise CheckpointMismatchError(f"{path}: looks like {model}, but has {', '.join(map(bare, others[:4]))} besides; get the file again.")


def _shape(state: Mapping[str, Tensor], name: str, ndim: int, path: str) -> tuple[int, ...]:
    """Look up the shape of a weight that says how large an encoder is."""
    if name not in state or state[name].ndim != ndim or 0 in state[name].shape:
        found = f"is {tuple(state[name].shape)}" if name in state else "is missing"
        raise CheckpointMismatchError(f"{path}: its point encoder is incomplete: {name} {found}, {ndim} axes are needed; get the file again.")
    return tuple(state[name].shape)


def _layers(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match.group(1) for name in state if (match := re.match(pattern, name))})
