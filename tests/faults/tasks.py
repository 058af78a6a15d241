"""What is struck: everything that writes stores, caches and pictures."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nuscenes_files import write_nuscenes
from shapenet_tree import MODELS, write_list, write_meshes, write_pictures
from torch import Tensor, nn
from triplet_frames import ABOUT, make_frame, write_store

from clip2x.cli import main
from clip2x.data.image_features import cache_image_features
from clip2x.data.nuscenes.reader import NuScenesFrames
from clip2x.data.shapenet import ShapeNet
from clip2x.data.shapenet_pairs import ShapeNetPairs
from clip2x.data.triplets.embeddings import CropEncoder
from clip2x.data.triplets.store import TripletStore
from clip2x.data.triplets.tools import embed_proxies
from clip2x.data.triplets.writer import TripletWriter
from clip2x.errors import Clip2xError
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.evaluation.view_features import ViewFeatureCache
from runs import Task, tree

NUM_FRAMES = 14
WORDS = ["chair", "bed", "cloud"]


def as_command(work: Callable[[Path], object]) -> Callable[[Path], int]:
    """Give exit statuses as the command line does: 2 and one line for what a user can mend."""
    def run(folder: Path) -> int:
        try:
            work(folder)
        except (Clip2xError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENOSPC:
                raise
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        return 0

    return run


def digest(value: Any) -> str:
    return hashlib.sha256(value if isinstance(value, bytes) else np.ascontiguousarray(value).tobytes()).hexdigest()


def nothing(folder: Path) -> None:
    """Start from an empty folder."""


def write_triplets(folder: Path) -> None:
    with TripletWriter(folder / "store", ABOUT, shard_frames=3) as writer:
        for number in range(NUM_FRAMES):
            writer.add(make_frame(number))


def found_triplets(folder: Path) -> dict[str, str]:
    store = TripletStore(folder / "store")
    frames = {"/".join(store.frame_key(number)[:2]): str(len(store.positions_of(number))) for number in range(store.num_frames)}
    hidden = [path.name for path in store.folder.rglob(".*") if not path.name.startswith(".index-") and path.parent == store.folder]
    counted = {key: store.index[key] for key in ("num_triplets", "num_frames", "classes", "rules", "data")}
    return {**frames, "content": store.content_sha256(), "problems": str(store.verify(deep=True)), "complete": str(store.complete),
            "index": json.dumps(counted, sort_keys=True), "left": str(hidden), "pending": str((store.folder / "pending").exists())}


def encode(images: Tensor) -> Tensor:
    return images.flatten(1)[:, :4] + 1


def embed_crops(folder: Path) -> None:
    embed_proxies(folder / "store", CropEncoder(encode, "towers", 4, 8, num_threads=1))


def found_embeddings(folder: Path) -> dict[str, str]:
    return {**found_triplets(folder), **tree(folder / "store" / "embeddings"),
            "listed": json.dumps(TripletStore(folder / "store").index["embeddings"])}


def finished_store(folder: Path) -> None:
    write_store(folder / "store", [make_frame(number) for number in range(9)], shard_frames=2)


class Sources:
    """Files that all runs read and none changes, made once."""

    def __init__(self, folder: Path, clip: Path) -> None:
        self.folder, self.clip = folder, clip
        write_list(folder / "world")
        write_list(folder / "world", [("02691156", "b1")], split="test")
        write_meshes(folder / "world", [*MODELS, ("02691156", "b1")])
        write_pictures(folder / "world", size=8)
        write_nuscenes(folder / "streets", ("scene-0061",), key_frames=2)
        (folder / "clouds").mkdir()
        for number in range(5):
            np.save(folder / "clouds" / f"{number}.npy", np.random.default_rng(number).normal(size=(60, 3)))

    def meshes(self, cache: Path) -> ShapeNet:
        return ShapeNet(root=self.folder / "world", variant="v2", split="train", num_points=32, cache=cache)

    def pairs(self, cache: Path) -> ShapeNetPairs:
        return ShapeNetPairs(self.folder / "world", seed=0, split="train", points_variant="v2", num_points=16, image_size=8, cache=cache)

    def streets(self, cache: Path) -> NuScenesFrames:
        return NuScenesFrames(root=self.folder / "streets", variant="v1.0-mini", split="mini_train", cache=cache)

    def features(self, folder: Path) -> Any:
        return cache_image_features(self.pairs(folder / "points"), encode, clip_id="a", embed_dim=4, image_size=8, folder=folder / "features",
                                    chunk=2,
                                    num_threads=1)


class Towers(nn.Module):
    def forward(self, points: Tensor, num_real: Tensor | None = None) -> list[Tensor]:
        return [points[:, :3].clone(), points.mean(dim=1, keepdim=True) * 2]


class Texts:
    id, trained_words = "texts", None

    def encode_text(self, texts: list[str]) -> Tensor:
        return torch.tensor([[float(len(text)), float(ord(text[-1])), 1.0] for text in texts])


def view_features(folder: Path) -> list[Tensor]:
    cache = ViewFeatureCache(Towers(), folder, {"towers": "x"}, nullcontext)
    return [part for seed in range(4) for part in cache.features(torch.randn(3, 10, 3, generator=torch.Generator().manual_seed(seed)))]


def names(folder: Path) -> list[Tensor]:
    return [class_embeddings(Texts(), WORDS[: 1 + number], ["a {}"], cache=folder) for number in range(3)]


def cache_tasks(sources: Sources) -> dict[str, Task]:
    """What keeps derived values: found again, they are those of an undisturbed run, and so are the files."""
    def samples(folder: Path) -> list[Any]:
        return [sample["points"].numpy() for sample in sources.meshes(folder)]

    def features(folder: Path) -> list[Any]:
        kept = sources.features(folder)
        return [kept[position, view].numpy() for position in range(len(kept)) for view in range(kept.num_views)]

    def frames(folder: Path) -> list[Any]:
        kept = sources.streets(folder)
        kept.verify()
        return [kept[position].points for position in range(len(kept))]

    def task(values: Callable[[Path], list[Any]], *, same_files: bool = True) -> Task:
        def found(folder: Path) -> dict[str, str]:
            files = tree(folder) if same_files else {}
            return {**files, **{f"value {place}": digest(np.asarray(value)) for place, value in enumerate(values(folder))}}

        return Task(nothing, as_command(values), found)

    return {"sampled points": task(samples), "image features": task(features, same_files=False), "nuScenes columns": task(frames),
            "view features": task(view_features), "class embeddings": task(names)}


def command_tasks(sources: Sources) -> dict[str, Task]:
    """Commands of `clip2x` that embed clouds, and what they print or write."""
    clouds, clip = str(sources.folder / "clouds"), str(sources.clip)

    def search(folder: Path) -> int:
        return main(["search", "chair", clouds, "--checkpoint", clip, "--index", str(folder / "index"), "--json"])

    def embed(folder: Path) -> int:
        return main(["embed", clouds, "--checkpoint", clip, "--index", str(folder / "index"), "--output", str(folder / "out.npz")])

    def found(folder: Path, output: bool) -> dict[str, str]:
        if not output:
            return tree(folder)
        with np.load(folder / "out.npz") as arrays:
            return {**{name: digest(arrays[name]) for name in ("embeds", "files", "about")}, **tree(folder / "index")}

    return {"search": Task(nothing, search, partial(found, output=False)), "embed": Task(nothing, embed, partial(found, output=True))}


def store_tasks() -> dict[str, Task]:
    return {"triplet store": Task(nothing, as_command(write_triplets), found_triplets),
            "embed-proxies": Task(finished_store, as_command(embed_crops), found_embeddings)}


def render_task(sources: Sources) -> Task:
    """`clip2x render-pairs` with two processes on a copy of the meshes."""
    def prepare(folder: Path) -> None:
        shutil.copytree(sources.folder / "world" / "shapenet", folder / "shapenet", ignore=shutil.ignore_patterns("rendering"))

    def run(folder: Path) -> int:
        return main(["render-pairs", "--root", str(folder), "--size", "16", "--supersample", "1", "--workers", "2"])

    return Task(prepare, run, lambda folder: tree(folder / "shapenet" / "rendering"))


def world_task() -> Task:
    """`clip2x miniworld` of the tiny size."""
    def run(folder: Path) -> int:
        return main(["miniworld", "--root", str(folder / "world"), "--size", "tiny", "--workers", "1"])

    return Task(nothing, run, lambda folder: tree(folder / "world"))
