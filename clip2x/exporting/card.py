"""The card of an exported file: JSON with everything that a program without this package needs to use it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clip2x import __version__
from clip2x.depth import view_preset
from clip2x.encoders.adapter_checkpoint import STAGE as ADAPTER_STAGE
from clip2x.encoders.checkpoint_parts import describe_clip
from clip2x.encoders.clip_files import read_weights
from clip2x.encoders.depth_checkpoint import as_depth_checkpoint
from clip2x.encoders.point_checkpoint import STAGE as POINT_STAGE
from clip2x.encoders.point_checkpoint import as_point_checkpoint, is_point_checkpoint
from clip2x.exporting.graph import INPUT, OPSET, CloudGraph
from clip2x.manifest import load_manifest, manifest_names
from clip2x.predict import DEFAULTS, Recognizer
from clip2x.storage import sha256_of_file

TRAINING = ("stage", "class_names", "unseen_names", "mined", "trained_on", "trained_with", "parents", "seed", "commit", "precision", "steps",
            "val_top1", "selected_on", "notes")  # keys of a checkpoint's description that say how it was made
WEIGHTS_TERMS = {  # by whether data sets are named
    True: "nothing is stated for the weights; they were made of the data named here and of a CLIP, whose terms may bind them. The mini profile's "
          "generated data, which stand under the same names, are under the code's licence",
    False: "nothing is stated for the weights, nor which data they were made of; the terms of these and of the CLIP may bind them"}


def describe_checkpoint(checkpoint: Path | None, recognizer: Recognizer) -> dict[str, Any]:
    """Give what a checkpoint says of itself (`docs/checkpoints.md`); of an untouched CLIP what it is used with."""
    about: dict[str, Any] = {}
    if checkpoint is not None:
        weights = read_weights(checkpoint)
        if is_point_checkpoint(weights):
            about = as_point_checkpoint(weights, checkpoint).about
        else:
            about = weights.metadata or as_depth_checkpoint(weights, checkpoint).about
    encoder = {"kind": "depth_views", "up": "y", **DEFAULTS, "pooling": "cosine_sum"} | about.get("encoder", {})
    return {**about, **describe_clip(recognizer.towers), "encoder": about["encoder"] if about.get("stage") == POINT_STAGE else encoder}


def build_card(graph: CloudGraph, about: Mapping[str, Any], checkpoint: Path | None, file_format: str) -> dict[str, Any]:
    """Say what a file takes and gives and how it came to be; what is known of the written file only is added by `seal`."""
    recognizer = graph.recognizer
    data = {name: load_manifest(name).licence for name in _data_sets(about)}
    clip = {key: about[key] for key in ("model", "clip_pretrained", "clip_sha256", "clip_content_sha256")}
    card: dict[str, Any] = {
        "format": file_format,
        "input": {
            "name": INPUT, "type": "float32", "shape": ["batch", "points" if graph.any_number else graph.num_points, 3],
            "columns": ["x", "y", "z"], "axes": "y up", "unit": "any: clouds are moved to their mean and scaled to a largest norm of 1 first",
            "points_in_training": recognizer.num_points, "fewest_points": graph.least if graph.any_number else graph.num_points},
        "output": {"name": graph.output, "type": "float32",
                   "shape": ["batch", recognizer.towers.embed_dim if graph.names is None else len(graph.names)],
                   "meaning": "embedding of unit length in the space of the CLIP below; a cosine with a text embedding times scale is a logit"
                              if graph.names is None else "probabilities over classes, in their order"},
        "embed_dim": recognizer.towers.embed_dim, "scale": recognizer.scale, "factors": recognizer.ensemble,
        "classes": graph.names, "templates": list(graph.templates or recognizer.templates), "mean_text": about.get("mean_text"),
        "encoder": about["encoder"], "views": _views(recognizer),
        "clip": {"id": about["clip"], **{key.removeprefix("clip_"): value for key, value in clip.items()}, "image_size": about["image_size"],
                 "colour_mean": about["mean"], "colour_std": about["std"]},
        "training": {key: about[key] for key in TRAINING if key in about},
        "licence": {"code": "MIT (clip2x)", "weights": WEIGHTS_TERMS[bool(data)], "data": data},
        "checkpoint": None if checkpoint is None else {"file": checkpoint.name, "sha256": sha256_of_file(checkpoint)},
        "made_by": {"clip2x": __version__, "torch": torch.__version__, **({"onnx_opset": OPSET} if file_format == "onnx" else {})}}
    if file_format == "safetensors":
        card["input"] = {**card["input"], "shape": ["batch", "points", 3], "fewest_points": 1,
                         "unit": "of the weights: unit sphere (moved to the mean, scaled to a largest norm of 1); clip2x.load does that itself"}
        card["tensors"] = {"points.*": "point encoder", "depth.*": "image tower of the depth encoder", "adapter.*": "adapter",
                           "head": "class weights", "clip.*": "the CLIP, where it travels inside",
                           "class_embeddings": "of classes, in their order, unit length"}
    return card


def seal(card: Mapping[str, Any], path: Path, name: str, differences: Mapping[str, float], tolerance: float) -> dict[str, Any]:
    """Add what is known once the file is there: name, size, hash, and how it was compared."""
    return {"file": name, "bytes": path.stat().st_size, "sha256": sha256_of_file(path), **card,
            "compared_with_clip2x": {"largest_difference": dict(differences), "allowed": tolerance}}


def _views(recognizer: Recognizer) -> dict[str, Any] | None:
    """Describe the cameras of an encoder that draws its clouds."""
    draw: Any = getattr(recognizer.encoder, "draw", None)
    if draw is None:
        return None
    azimuth, elevation, distance = (values.tolist() for values in view_preset(draw.views))
    return {"preset": draw.views, "projection": "orthographic, the nearest point of a disc wins; clip2x/depth.py", "azimuth_deg": azimuth,
            "elevation_deg": elevation, "distance": distance, "image_size": draw.image_size, "point_radius": draw.point_radius,
            "grey": "near is dark, far at most 200 / 255, background white; then the colour mean and std of the CLIP", "pooling": recognizer.pooling}


def _data_sets(about: Mapping[str, Any]) -> list[str]:
    """Name the data sets, by their manifests, that a description says were used."""
    stage = about.get("stage")
    said = [*(about.get("mined") or {}), *(str(note) for note in about.get("notes") or [])]
    if stage == ADAPTER_STAGE:
        said.append(str((about.get("trained_on") or {}).get("data", "")))
    if stage == "pretrain_depth" or (stage == POINT_STAGE and about.get("parents")):
        said.append("shapenet")
    return [name for name in manifest_names() if any(text.split("/")[0].split(":")[0] == name for text in said)]
