"""How much of a training step of each stage is spent outside of the networks' forward and backward passes; throughput and memory.

The step is the real one (Trainer, DataModule, drawing, loss, optimizer, logging) with ViT-B/32 at 224 px and random weights; the floor are the
networks alone on as many samples, in turns with the steps. The grouping of the point encoder counts as network.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import Results, Target, results_option
from synthetic_store import write_store
from torch import Tensor
from torch.nn import functional
from under_trainer import Stage, Timed, run

from clip2x.data.augmentations import DropPoints, Jitter, RotateAboutUp, Scale
from clip2x.data.clouds import LabelledClouds
from clip2x.data.datamodule import Clip2xDataModule
from clip2x.data.shapenet_pairs import ShapeNetPairs
from clip2x.data.triplets.joined import JoinedTriplets
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import save_depth_checkpoint
from clip2x.encoders.points import PointTransformer
from clip2x.losses import TripletLoss
from clip2x.modules.depth_pretraining import DepthPretraining
from clip2x.modules.gdpa_tuning import GDPATuning
from clip2x.modules.triplet_pretraining import TripletPretraining

MODEL = "ViT-B-32-quickgelu"
STEP = Target(1.10)
BOTH_TOWERS = "both towers: frozen forward, tuned forward and backward"
ENCODER = "the point encoder: forward and backward"
ADAPTER = "both frozen towers forward, the adapter forward and backward"
ADAPTER_ALONE = "the adapter: forward and backward"
PAIR = "a pair is three pictures"


class ManyPairs(ShapeNetPairs):
    """Pairs that come again, each under a number of its own, until there are `least` of them: for batches larger than the data."""

    def __init__(self, root: Path, seed: int, least: int, **options: Any) -> None:
        super().__init__(root, seed, **options)
        if len(self.entries) < least:
            self.entries = self.entries.select(np.resize(np.arange(len(self.entries)), least))


class NoiseKept(GDPATuning):
    """GDPA on kept features that no tower made: the step is the same, and the towers need not run over the whole data set first."""

    def _keep(self) -> list[list[Tensor]]:
        towers, number = self.encoder.towers, len(self._data.train_set)
        return [[torch.randn(number, views, towers.embed_dim) for views in towers.num_views] for _ in range(self.draws)]


def depth_stage(root: Path, batch: int, *, model: str = MODEL, workers: int = 1) -> Stage:
    """Image-depth pre-training of CLIP2Point: the recipe of `full`."""
    def make(folder: Path) -> tuple[DepthPretraining, Clip2xDataModule]:
        clip = ClipTowers(model, random_weights=True)
        data = Clip2xDataModule(root, train=partial(ManyPairs, least=batch, split="train", image_size=clip.image_size), batch_size=batch,
                                num_workers=workers)
        return DepthPretraining(clip, folder / "depth_encoder.safetensors"), data

    def networks(module: DepthPretraining, batch: Any, context: Callable[[], Any]) -> None:
        size, number, device = module.clip.image_size, len(batch["points"]), module.device
        grey = torch.rand(number, 2, size, size, device=device)
        with context():
            with torch.no_grad():
                module.clip.image_tower.encode_image(batch["image"])
            features = module.depth_encoder.encode_views(grey)
        features.float().sum().backward()

    return Stage(make, networks, lambda module: [module.clip.image_tower.visual, module.tower.visual], batch)


def points_stage(batch: int, *, size: str = "small", num_points: int = 1024, model: str = MODEL, workers: int = 1,
                 triplets: int | None = None) -> Stage:
    """Pre-training of CLIP2's point encoder on a synthetic store: the recipe of `full`."""
    def make(folder: Path) -> tuple[TripletPretraining, Clip2xDataModule]:
        clip = ClipTowers(model, random_weights=True)
        write_store(folder / "store", triplets or max(4096, 2 * batch), frames_per_scene=1, clip=clip)
        joined = partial(JoinedTriplets, stores=[folder / "store"], num_points=num_points)
        augmentations = [RotateAboutUp(), Scale(0.8, 1.25), Jitter(0.01, 0.05), DropPoints(0.5)]
        data = Clip2xDataModule(folder, train=partial(joined, part="fit", augmentations=augmentations), val=partial(joined, part="val"),
                                batch_size=batch, balance=0.5, num_workers=workers)
        module = TripletPretraining(clip, folder / "point_encoder.safetensors", encoder=partial(PointTransformer, size=size),
                                    loss=TripletLoss(learnable=True, separate=True))
        return module, data

    def networks(module: TripletPretraining, batch: Any, context: Callable[[], Any]) -> None:
        with context():
            features = module.point_encoder(batch["points"])
        features.float().sum().backward()

    return Stage(make, networks, lambda module: [module.point_encoder.group_tokens, *module.point_encoder.blocks], batch)


def adapter_stage(root: Path, batch: int, *, draws: int, labelled: str = "modelnet10/off", model: str = MODEL, num_points: int = 1024,
                  workers: int = 1) -> Stage:
    """GDPA: `draws` 0 lets both towers run in every step, 1 reads what they said from memory (the recipe of `full`)."""
    def make(folder: Path) -> tuple[GDPATuning, Clip2xDataModule]:
        clip = ClipTowers(model, random_weights=True)
        encoder = {"kind": "depth_views", "views": "clip2point-10", "point_radius": 0.02, "num_points": num_points, "up": "y",
                   "pooling": "cosine_sum"}
        about = {"stage": "pretrain_depth", "scale": 100.0, "ensemble": {"tuned": 50.0, "clip": 50.0}, "val_top1": 0.5, "notes": [],
                 "class_names": ["chair"], "selected_on": "nothing", "encoder": encoder}
        save_depth_checkpoint(folder / "depth_encoder.safetensors", clip.trainable_image_tower(), clip, about)
        clouds = partial(LabelledClouds, num_points=num_points, cache=folder / "cache")
        data = Clip2xDataModule(root, train=partial(clouds, name=f"{labelled}/train:fit"), val=partial(clouds, name=f"{labelled}/train:val"),
                                batch_size=batch, num_workers=workers)
        kind = NoiseKept if draws else GDPATuning
        module = kind(clip, folder / "adapter.safetensors", checkpoint=folder / "depth_encoder.safetensors", draws=draws,
                      optimizer=partial(torch.optim.AdamW, lr=1e-3, weight_decay=1e-4))
        return module, data

    def networks(module: GDPATuning, batch: Any, context: Callable[[], Any]) -> None:
        towers, number = module.encoder.towers, len(batch["points"])
        size, views = module.clip.image_size, towers.depth.num_views
        with context():
            if draws:
                features = [torch.randn(number, count, towers.embed_dim, device=module.device) for count in towers.num_views]
            else:
                grey = torch.rand(number, views, size, size, device=module.device)
                with torch.no_grad():
                    features = [encoder.encode_views(grey).float() for encoder in (towers.depth, towers._untouched[0])]
            embeds = module.encoder.of_features(features)
            functional.cross_entropy(100 * embeds.float() @ module.names.T, batch["label"]).backward()

    return Stage(make, networks, lambda module: [module.clip.image_tower.visual, module.encoder.towers.depth.tower.visual], batch)


def add(results: Results, name: str, where: str, timed: Timed, unit: str, floor_is: str, target: Target | None, note: str | None = None) -> None:
    results.add(name, where, timed.loop, unit, floor=timed.networks, floor_is=floor_is, target=target, memory_mb=timed.memory_mb, note=note)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the stages that are asked for, on the CPU; `full_size.py` is for a GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="holds ShapeNet with rendered pictures and ModelNet10, e.g. the mini-world")
    parser.add_argument("--stages", nargs="+", choices=["depth", "points", "adapter"], default=["depth", "points", "adapter"])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--depth-batch", type=int, default=32)
    parser.add_argument("--points-batch", type=int, default=64)
    parser.add_argument("--encoder", default="small")
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--adapter-batch", type=int, default=4, help="clouds of ten views in two towers")
    parser.add_argument("--labelled", default="modelnet10/off", help="clouds that the adapter is tuned on, manifest/variant")
    parser.add_argument("--kept-batch", type=int, default=32, help="clouds whose features are kept")
    parser.add_argument("--triplets", type=int, help="in the synthetic store")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    results_option(parser)
    options = parser.parse_args(arguments)
    shared = {"model": options.model, "workers": options.workers}
    size = f"{options.model}, float32"
    results = Results("training_steps", options.results)
    if "depth" in options.stages:
        timed = run(depth_stage(options.root, options.depth_batch, **shared), options.steps, "cpu", "32-true")
        add(results, "image-depth pre-training", f"{size}, batch {options.depth_batch}", timed, "ms/pair", BOTH_TOWERS, STEP,
            PAIR)
    if "points" in options.stages:
        stage = points_stage(options.points_batch, size=options.encoder, num_points=options.points, triplets=options.triplets, **shared)
        timed = run(stage, options.steps + 1, "cpu", "32-true")
        where = f"{options.encoder}, {options.points:,} points, float32, batch {options.points_batch}"
        add(results, "point pre-training", where, timed, "ms/triplet", ENCODER, STEP)
    if "adapter" in options.stages:
        adapter = partial(adapter_stage, options.root, labelled=options.labelled, num_points=options.points, **shared)
        timed = run(adapter(options.adapter_batch, draws=0), options.steps, "cpu", "32-true")
        add(results, "GDPA tuning, towers in every step", f"{size}, 10 views, batch {options.adapter_batch}", timed, "ms/cloud", ADAPTER, STEP)
        if options.kept_batch:
            timed = run(adapter(options.kept_batch, draws=1), 10, "cpu", "32-true")
            add(results, "GDPA tuning, features kept", f"{size}, 10 views, batch {options.kept_batch}", timed, "ms/cloud", ADAPTER_ALONE, None)
    results.finish()


if __name__ == "__main__":
    main()
