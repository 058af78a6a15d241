"""Short runs of the stage pretrain_points on a store of random clouds, for the tests of that stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from conftest import points_arguments
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from triplet_frames import about_vocabulary, make_frame, write_store

from clip2x.data.triplets.embeddings import CropEncoder
from clip2x.data.triplets.tools import embed_proxies
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import save_depth_checkpoint
from clip2x.encoders.point_checkpoint import save_point_checkpoint
from clip2x.encoders.points import PointTransformer
from clip2x.proxies.vocabulary import load_vocabulary
from clip2x.stage_cli import run_stage

NAME = "point_encoder.safetensors"
NO_OBJECTS = ["--data.train.objects", "null", "--data.val.objects", "null"]
SMALL_OBJECTS = ["--data.train.objects.num_points", "64", "--data.val.objects.num_points", "64"]
SMALL = ["--data.watch", "[]", "--data.train.num_points", "64", "--data.val.num_points", "64"]
NAMES = ("chair", "car", "traffic cone", "night stand")
HELD_OUT = ("recording 4", "recording 6")  # of recordings 0 to 7, by the hash of their names


def write_named_store(folder: Path, clip: ClipTowers | None, numbers: Sequence[int] = range(24), names: Sequence[str] = NAMES,
                      most_points: int | None = None) -> Path:
    """A finished store of random clouds with names of the vocabulary `mini`, in eight recordings; with embeddings where there is a CLIP."""
    vocabulary = load_vocabulary("mini")
    about = about_vocabulary("mini", *map(list, vocabulary.concepts), sha256=vocabulary.sha256)
    ids = [vocabulary.id_of(name) for name in names]
    frames = [make_frame(number) for number in numbers]
    frames = [replace(frame, scene=f"recording {number // 3 % 8}", triplets=tuple(
        replace(item, text_id=ids[item.text_id % len(ids)], points=item.points[:most_points]) for item in frame.triplets))
        for number, frame in zip(numbers, frames, strict=True)]
    write_store(folder, frames, about)
    if clip is not None:
        embed_proxies(folder, CropEncoder.of(clip))
    return folder


def write_depth_encoder(path: Path, clip: ClipTowers) -> Path:
    """A depth encoder: the CLIP's own image tower, a little disturbed."""
    tower = clip.trainable_image_tower()
    with torch.no_grad():
        for weight in tower.parameters():
            weight.add_(0.1 * weight.std(unbiased=False) * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(weight))))
    save_depth_checkpoint(path, tower, clip, {
        "stage": "pretrain_depth", "scale": 60.0, "ensemble": {"tuned": 60.0, "clip": 30.0}, "val_top1": 0.5, "notes": ["of a test"],
        "class_names": ["chair"], "selected_on": "x",
        "encoder": {"kind": "depth_views", "views": "clip2point-6", "point_radius": 0.045, "num_points": 64, "up": "y", "pooling": "cosine_sum"}})
    return path


def write_point_encoder(path: Path, clip: ClipTowers, depth_sha256: str) -> Path:
    """A random encoder of 64 points, with factors for its sum with a depth encoder."""
    torch.manual_seed(0)
    encoder = PointTransformer(clip.embed_dim, size="tiny")
    save_point_checkpoint(path, encoder, clip, {
        "stage": "pretrain_points", "scale": 50.0, "mean_text": None, "templates": ["point cloud of {}"], "unseen_names": [], "mined": {},
        "ensemble": {"points": 40.0, "depth": 20.0, "depth_checkpoint_sha256": depth_sha256}, "val_top1": None, "notes": [], "class_names": ["chair"],
        "encoder": {**encoder.describe(), "num_points": 64, "up": "y", "channels": ["x", "y", "z"]}})
    return path


class Runs:
    """Short runs in 32 bits, on a store alone or beside the models of a world; called with more arguments, steps and the name of the run's folder.

    features: Where what CLIP says of models is kept; None trains without models.
    """

    def __init__(self, world: Path, clip: Path, store: Path, folder: Path, features: Path | None = None) -> None:
        self.world, self.clip, self.store, self.folder, self.features = world, clip, store, folder, features

    def arguments(self, *extra: str, steps: int = 2, name: str = "run") -> list[str]:
        arguments = points_arguments(self.world, self.clip, self.store, self.folder / name, steps=steps)
        objects = NO_OBJECTS if self.features is None else [*SMALL_OBJECTS, "--model.image_feature_cache", str(self.features)]
        return [*arguments, *objects, *SMALL, "--trainer.precision", "32-true", *extra]

    def __call__(self, *extra: str, steps: int = 2, name: str = "run") -> Path:
        run_stage(self.arguments(*extra, steps=steps, name=name))
        return self.folder / name


def tuning(run: Runs, depth: Path, *extra: str, name: str = "run", steps: int = 2) -> list[str]:
    """The command line of mini/tune_depth."""
    arguments = run.arguments("--model.tuned", str(depth), "--model.output", str(run.folder / name / "depth_encoder.safetensors"), *extra, name=name,
                              steps=steps)
    arguments[5:5] = ["--config", "tune_depth", "--config", "mini/tune_depth"]
    return arguments


def scalars(folder: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return {tag: [item.value for item in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def weights(path: Path) -> dict[str, Tensor]:
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)["state_dict"]
