"""A triplet store of random numbers in the usual sizes, for the benchmarks that need one of any size."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import torch

from clip2x.data.triplets.embeddings import CropEncoder
from clip2x.data.triplets.tools import embed_proxies
from clip2x.data.triplets.writer import SHARD_FRAMES, TripletWriter
from clip2x.encoders.clip import ClipTowers
from clip2x.types import FrameTriplets, Triplet

PER_FRAME = 48  # triplets; 1.6 M of them in 33,400 frames (28,130 of nuScenes, 5,285 of SUN RGB-D)
NUM_CONCEPTS = 1203  # as LVIS
FULL = 1_600_000


def frames(count: int, points: int, crop_bytes: int, frames_per_scene: int) -> Iterator[FrameTriplets]:
    """Make up frames with `count` triplets in all, `points` points and `crop_bytes` bytes of crop each on average; the crops are no pictures."""
    rng = np.random.default_rng(0)
    cloud, crops = rng.normal(scale=10, size=(4 * points, 3)).astype(np.float32), rng.bytes(2 * crop_bytes)
    for number in range(-(-count // PER_FRAME)):
        triplets = tuple(
            Triplet(cloud[: int(size)], int(concept), float(score), np.array([1, 2, 300, 400], np.float32), "CAM_FRONT", crops[: int(length)])
            for size, concept, score, length in zip(rng.integers(min(10, points), 2 * points - min(10, points) + 1, PER_FRAME),
                                                    rng.integers(NUM_CONCEPTS, size=PER_FRAME), rng.random(PER_FRAME, dtype=np.float32),
                                                    rng.integers(1, 2 * crop_bytes, PER_FRAME), strict=True))
        rules = Counter({"detections": 60, "proxies": PER_FRAME, "too few points": 8, "no cluster": 4})
        yield FrameTriplets("nuscenes/v1.0-trainval/train", rng.bytes(16).hex(), f"scene-{number // frames_per_scene:05d}", triplets, rules)


def write_store(folder: Path, triplets: int, *, points: int = 100, crop_bytes: int = 2000, frames_per_scene: int = 40,
                clip: ClipTowers | None = None, width: int = 512, one_by_one: int = 0) -> tuple[float, float]:
    """Write a finished store with noise as embeddings of the crops.

    Args:
        clip: Whose embeddings they pass for; None: those of a CLIP called `bench`, of length `width`.
        one_by_one: So many frames are added singly, as a collection does, the others shard by shard.

    Returns:
        Milliseconds per frame, added singly and in shards (nan where none was).
    """
    made = frames(triplets, points, crop_bytes, frames_per_scene)
    concepts = [[f"concept {number}", f"synonym {number}"] for number in range(NUM_CONCEPTS)]
    with TripletWriter(folder, {"settings": {}, "vocabulary": {"name": "bench", "sha256": "0", "concepts": concepts}}) as writer:
        single = [frame for frame, _ in zip(made, range(one_by_one), strict=False)]
        start = time.perf_counter()
        for frame in single:
            writer.add(frame)
        single_ms = (time.perf_counter() - start) / len(single) * 1e3 if single else float("nan")
        start, batch, number = time.perf_counter(), list[FrameTriplets](), 0
        for frame in made:
            batch.append(frame)
            number += 1
            if len(batch) == SHARD_FRAMES:
                writer.add_shard(batch)
                batch = []
        writer.add_shard(batch)
        shard_ms = (time.perf_counter() - start) / number * 1e3 if number else float("nan")
    embed_noise(folder, clip, width)
    return single_ms, shard_ms


def embed_noise(folder: Path, clip: ClipTowers | None, width: int) -> None:
    """Give the crops embeddings without decoding them."""
    rng = torch.Generator().manual_seed(0)
    own = None if clip is None else CropEncoder.of(clip)
    width = width if own is None else own.embed_dim

    class Noise(CropEncoder):
        def _batches(self, shard: object) -> Iterator[torch.Tensor]:
            yield torch.empty(len(shard), 1)  # type: ignore[arg-type]

    name, size = ("bench", 224) if own is None else (own.clip_id, own.image_size)
    with redirect_stderr(io.StringIO()):  # a bar of progress
        embed_proxies(folder, Noise(lambda images: torch.randn(len(images), width, generator=rng), name, width, size))
