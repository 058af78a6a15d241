"""Made-up frames of triplets for the tests of the store, and processes that write them."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clip2x.data.triplets.store import TripletStore
from clip2x.data.triplets.writer import TripletWriter
from clip2x.types import FrameTriplets, Triplet

VOCABULARY = {"name": "small", "source": "test", "sha256": "00", "templates": {}, "aliases": {"auto": "car"},
              "concepts": [["chair"], ["car", "motorcar"], ["traffic_cone", "cone"], ["night stand"]]}
ABOUT = {"settings": {"detector": {"kind": "coco", "threshold": 0.3}, "lifting": {"eps": 0.4}}, "vocabulary": VOCABULARY,
         "detector": {"kind": "coco"}, "lifting": {"kind": "outdoor"}, "provenance": {"commit": "abc"}}
DATA = ("sunrgbd/frames/train", "nuscenes/v1.0-mini/mini_train")


def jpeg(rng: np.random.Generator, width_px: int = 12, height_px: int = 9) -> bytes:
    stream = BytesIO()
    Image.fromarray(rng.integers(256, size=(height_px, width_px, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def make_frame(number: int, *, crops: bool = True) -> FrameTriplets:
    """The same frame for the same number; every fifth has no triplets. Tokens do not sort as numbers do."""
    rng = np.random.default_rng(number)
    count = 0 if number % 5 == 4 else int(rng.integers(1, 5))
    triplets = tuple(
        Triplet(points=rng.normal(scale=3, size=(int(rng.integers(3, 40)), 3)).astype(np.float32), text_id=int(rng.integers(4)),
                score=float(np.float32(rng.random())), box_px=np.sort(rng.random(4, dtype=np.float32) * 100),
                camera=("CAM_FRONT", "CAM_BACK")[int(rng.integers(2))], crop=jpeg(rng) if crops else b"") for _ in range(count))
    return FrameTriplets(DATA[number % 2], f"frame-{number * 7919 % 1000:03d}-ä{number}", f"scene-{number // 6}", triplets,
                         Counter({"detections": count + number % 3, "proxies": count, "too few points": number % 3}))


def about_vocabulary(name: str, *concepts: list[str], sha256: str = "00") -> dict[str, Any]:
    """What a store of another vocabulary says of itself."""
    return {**ABOUT, "vocabulary": {**VOCABULARY, "name": name, "sha256": sha256, "aliases": {}, "concepts": list(concepts)}}


def write_store(folder: Path, frames: Sequence[FrameTriplets], about: dict[str, Any] | None = None, **options: Any) -> TripletStore:
    with TripletWriter(folder, about or ABOUT, **options) as writer:
        for frame in frames:
            writer.add(frame)
    return TripletStore(folder)


def same_frame(one: FrameTriplets, other: FrameTriplets) -> bool:
    """Whether two frames hold the same, bit by bit."""
    return ((one.data, one.frame, one.scene, one.rules, len(one.triplets)) == (other.data, other.frame, other.scene, other.rules, len(other.triplets))
            and all(same_triplet(a, b) for a, b in zip(one.triplets, other.triplets, strict=True)))


def same_triplet(one: Triplet, other: Triplet) -> bool:
    return ((one.text_id, one.score, one.camera, one.crop) == (other.text_id, other.score, other.camera, other.crop)
            and one.points.dtype == other.points.dtype == np.float32 and np.array_equal(one.points, other.points)
            and one.box_px.dtype == other.box_px.dtype == np.float32 and np.array_equal(one.box_px, other.box_px))


def _run_rank(folder: Path, rank: int, world_size: int, count: int, barrier: Callable[[], object]) -> None:
    with TripletWriter(folder, ABOUT, rank=rank, world_size=world_size, barrier=barrier, shard_frames=7) as writer:
        numbers = [number for number in range(count) if (make_frame(number).data, make_frame(number).frame) not in writer.done]
        for number in numbers[rank::world_size]:
            writer.add(make_frame(number))


def start_run(folder: Path, world_size: int, count: int) -> list[Any]:
    """Start processes that write frames 0 to `count` - 1 into one store; to be killed, or joined."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(world_size)
    processes = [context.Process(target=_run_rank, args=(folder, rank, world_size, count, barrier.wait)) for rank in range(world_size)]
    for process in processes:
        process.start()
    return processes
