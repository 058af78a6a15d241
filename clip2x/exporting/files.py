"""Write an exported file and its card: compared with the recogniser that it was made of before it is accepted, both or none."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from clip2x.encoders.adapter_checkpoint import as_adapter_checkpoint, save_adapter_checkpoint
from clip2x.encoders.clip import ClipTowers, ImageTower
from clip2x.encoders.clip_files import read_weights
from clip2x.encoders.depth_checkpoint import save_depth_checkpoint
from clip2x.encoders.dual import AdaptedEncoder
from clip2x.encoders.point_checkpoint import save_point_checkpoint
from clip2x.encoders.points import PointEncoder
from clip2x.encoders.released_points import is_released
from clip2x.errors import CheckpointMismatchError, InputError
from clip2x.exporting.card import build_card, describe_checkpoint, seal
from clip2x.exporting.graph import CloudGraph, Run, run_onnx, run_torch_export, save_onnx, save_torch_export, trace
from clip2x.meshes import sample_surface
from clip2x.miniworld.objects import Stream, make_object
from clip2x.predict import Recognizer, SummedRecognizer
from clip2x.storage import atomic_path
from clip2x.tensor_files import read_tensors, save_tensors

TOLERANCES = {"safetensors": 1e-6, "torch-export": 1e-5, "onnx": 1e-4}
"""Largest difference, in any number of an embedding or any probability, between clip2x and a file that is accepted. Ours: the first two do the same
operations, onnxruntime sums in another order."""

RIM_TOLERANCE = 1e-2
"""The same for ONNX files that draw clouds: the last bit of a coordinate decides on which side of a disc's rim a pixel lies. Ours, docs/export.md."""

OBJECTS = ("airplane", "chair", "lamp", "table")  # of the mini-world, whose surfaces stand for real clouds
DISTINCT = 40  # points of the cloud that repeats them


@dataclass(frozen=True)
class Written:
    """What was written: file and card, the largest differences by what was compared, and the largest that was allowed."""

    file: Path
    card: Path
    num_bytes: int
    differences: dict[str, float]
    tolerance: float


def export(graph: CloudGraph, file_format: str, output: Path, checkpoint: Path | None, reload: Callable[[Path], Recognizer]) -> Written:
    """Write a recogniser as a file with a card beside it, both at once, if it computes what the recogniser does.

    Args:
        graph: What the file is to compute.
        file_format: safetensors, torch-export or onnx.
        output: Must not be there; the card gets `.json` behind its name.
        checkpoint: Where the recogniser came from; None for a CLIP.
        reload: Makes a recogniser of a safetensors file, to compare it.

    Raises:
        InputError: If the recogniser cannot be written so.
        MissingDependencyError: If ONNX needs libraries that are not installed.
        CheckpointMismatchError: If the file computes something else; nothing is left of it then.
    """
    about = describe_checkpoint(checkpoint, graph.recognizer)
    card = build_card(graph, about, checkpoint, file_format)
    inside = json.dumps(card)
    card_path = output.with_name(f"{output.name}.json")
    with atomic_path(card_path) as temporary_card, atomic_path(output) as temporary:
        run: Run
        if file_format == "safetensors":
            run = _write_safetensors(graph, about, checkpoint, temporary, reload)
        elif file_format == "torch-export":
            save_torch_export(trace(graph), temporary, inside)
            run = run_torch_export(temporary)
        else:
            save_onnx(trace(graph), temporary, inside, graph.output)
            run = run_onnx(temporary)
        differences = compare(graph, run)
        tolerance = RIM_TOLERANCE if file_format == "onnx" and graph.draws else TOLERANCES[file_format]
        if not max(differences.values()) <= tolerance:  # NaN is not
            worst = max(differences, key=lambda name: differences[name] if differences[name] == differences[name] else torch.inf)
            raise CheckpointMismatchError(f"{output}: is not written, it differs from clip2x by {differences[worst]:.2g} ({worst}), more than the "
                                          f"{tolerance:g} allowed; take another --format, and report this recogniser.")
        temporary_card.write_text(_readable(seal(card, temporary, output.name, differences, tolerance)), encoding="utf-8")
        num_bytes = temporary.stat().st_size
    return Written(output, card_path, num_bytes, differences, tolerance)


def _readable(card: Mapping[str, Any]) -> str:
    """Write JSON with lists of plain values on one line each."""
    text = json.dumps(card, indent=2)
    return re.sub(r"\[\n[^\[\]{}]*\]", lambda found: re.sub(r"\n *", " ", found.group()).replace("[ ", "[").replace(" ]", "]"), text) + "\n"


@torch.no_grad()
def compare(graph: CloudGraph, run: Run) -> dict[str, float]:
    """Give the largest difference between what a file computes and what the recogniser does, for batches of several kinds and sizes."""
    return {name: float((run(clouds) - graph.reference(clouds)).abs().max()) for name, clouds in comparison_clouds(graph).items()}


def comparison_clouds(graph: CloudGraph) -> dict[str, Tensor]:
    """Draw the clouds of the comparison: noise, surfaces of objects in metres, few points many times, and another number of points."""
    generator, number = torch.Generator().manual_seed(1), graph.num_points
    surfaces = _surfaces(number)
    clouds = {"1 random cloud": torch.randn(1, number, 3, generator=generator), "3 random clouds": torch.rand(3, number, 3, generator=generator),
              f"{len(OBJECTS)} surfaces": surfaces,
              "2 clouds of repeated points": surfaces[:2, :DISTINCT].repeat(1, -(-number // DISTINCT), 1)[:, :number]}
    if graph.any_number:
        clouds["2 clouds of twice as many points"] = _surfaces(2 * number)[:2]
    return clouds


def _surfaces(number: int) -> Tensor:
    rng = np.random.default_rng(0)
    meshes = [make_object(name, Stream.MODELNET_TEST, 0).mesh for name in OBJECTS]
    return torch.from_numpy(np.stack([sample_surface(mesh.vertices, mesh.faces, number, rng) for mesh in meshes]))


def _write_safetensors(graph: CloudGraph, about: Mapping[str, Any], checkpoint: Path | None, path: Path,
                       reload: Callable[[Path], Recognizer]) -> Run:
    """Copy a safetensors file, or turn another checkpoint into one; class embeddings come beside the weights."""
    recognizer, encoder = graph.recognizer, graph.recognizer.encoder
    if checkpoint is None or isinstance(recognizer, SummedRecognizer) or recognizer.ensemble is not None:
        raise InputError("safetensors files hold one encoder; give its --checkpoint, without --ensemble, or take --format torch-export or onnx.")
    if graph.names is not None and isinstance(getattr(encoder, "tower", None), ClipTowers):
        raise InputError(f"{checkpoint}: is a CLIP, whose file holds no embeddings of classes; leave --classes out, or take --format torch-export "
                         "or onnx.")
    with checkpoint.open("rb") as stream:
        is_safetensors = stream.read(16)[8:9] == b"{"
    if is_safetensors and not is_released(read_weights(checkpoint)):  # those of others say nothing of themselves
        shutil.copyfile(checkpoint, path)
    elif isinstance(encoder, PointEncoder):
        save_point_checkpoint(path, encoder, recognizer.towers, about)
    elif isinstance(encoder, AdaptedEncoder):
        save_adapter_checkpoint(path, encoder, recognizer.towers, about, as_adapter_checkpoint(read_weights(checkpoint), checkpoint).head)
    elif about.get("stage") == "pretrain_depth":
        save_depth_checkpoint(path, cast(ImageTower, encoder.tower), recognizer.towers, about)
    else:
        raise InputError(f"{checkpoint}: is a CLIP in a file of another kind; take --format torch-export or onnx.")
    if graph.names is not None:
        tensors, texts = read_tensors(path)
        embeds = recognizer.class_embeddings(graph.names, graph.templates)
        save_tensors(path, {**tensors, "class_embeddings": embeds}, texts)
    copy = reload(path)
    return lambda points: copy.embed(points) if graph.names is None else copy.classify(points, graph.names, graph.templates)
