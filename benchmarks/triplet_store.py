"""How long a triplet store takes to write and to open, how much memory it needs, and how many triplets a second come out of it.

Makes a store in a temporary folder (points and crops are random numbers of the usual sizes) and opens it in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch

from clip2x.data.augmentations import Jitter, RotateAboutUp, Scale
from clip2x.data.triplets.dataset import TripletProxies
from clip2x.data.triplets.embeddings import CropEncoder
from clip2x.data.triplets.store import TripletStore
from clip2x.data.triplets.tools import embed_proxies
from clip2x.data.triplets.writer import SHARD_FRAMES, TripletWriter
from clip2x.types import FrameTriplets, Triplet

PER_FRAME = 48  # triplets; 1.6 M of them in 33,400 frames (28,130 of nuScenes, 5,285 of SUN RGB-D)
WIDTH = 512  # of the embeddings: ViT-B/32
FULL = 1_600_000


def frames(count: int, points: int, crop_bytes: int, rng: np.random.Generator) -> Iterator[FrameTriplets]:
    """Make up frames with `count` triplets in all, `points` points each on average."""
    cloud, crops = rng.normal(scale=10, size=(4 * points, 3)).astype(np.float32), rng.bytes(2 * crop_bytes)
    for number in range(-(-count // PER_FRAME)):
        triplets = tuple(
            Triplet(cloud[: int(size)], int(concept), float(score), np.array([1, 2, 300, 400], np.float32), "CAM_FRONT", crops[: int(length)])
            for size, concept, score, length in zip(rng.integers(10, 2 * points - 9, PER_FRAME), rng.integers(1203, size=PER_FRAME),
                                                    rng.random(PER_FRAME, dtype=np.float32), rng.integers(1, 2 * crop_bytes, PER_FRAME), strict=True))
        rules = Counter({"detections": 60, "proxies": PER_FRAME, "too few points": 8, "no cluster": 4})
        yield FrameTriplets("nuscenes/v1.0-trainval/train", rng.bytes(16).hex(), f"scene-{number // 40:04d}", triplets, rules)


def write(folder: Path, options: argparse.Namespace) -> None:
    """Write the store: some frames one by one as a collection does, the others shard by shard."""
    made = frames(options.triplets, options.points, options.crop_bytes, np.random.default_rng(0))
    concepts = [[f"concept {number}", f"synonym {number}"] for number in range(1203)]
    with TripletWriter(folder, {"settings": {}, "vocabulary": {"sha256": "0", "concepts": concepts}}) as writer:
        one_by_one = [frame for frame, _ in zip(made, range(2 * SHARD_FRAMES), strict=False)]
        start = time.perf_counter()
        for frame in one_by_one:
            writer.add(frame)
        each_ms = (time.perf_counter() - start) / len(one_by_one) * 1e3
        start, batch, number = time.perf_counter(), [], 0
        for frame in made:
            batch.append(frame)
            if len(batch) == SHARD_FRAMES:
                number += len(batch)
                writer.add_shard(batch)
                batch = []
        writer.add_shard(batch)
        seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in folder.glob("shard-*.h5")) / 1e9
    print(f"written: {size:.2f} GB; a frame at a time {each_ms:.1f} ms a frame with {PER_FRAME} triplets (flushed to the disk, shards included); "
          f"whole shards {seconds / max(1, number) * 1e3:.1f} ms a frame", flush=True)


def rate(read: Callable[[int], object], positions: np.ndarray) -> float:
    """Reads a second, in the order given."""
    start = time.perf_counter()
    for position in positions.tolist():
        read(position)
    return len(positions) / (time.perf_counter() - start)


def memory_mb() -> float:
    """Resident memory of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def read(folder: Path, reads: int) -> None:
    """Open the store in this process and print what that takes, as JSON."""
    before = memory_mb()
    start = time.perf_counter()
    store = TripletStore(folder)
    opened, opened_mb = time.perf_counter() - start, memory_mb() - before
    start = time.perf_counter()
    _ = store.text_ids, store.scores, store.num_points
    columns, columns_mb = time.perf_counter() - start, memory_mb() - before
    positions = np.random.default_rng(0).integers(len(store), size=reads)
    augmentations = [RotateAboutUp(), Scale(), Jitter()]
    start = time.perf_counter()
    plain = TripletProxies(folder, 0, folder, augmentations=augmentations, embeddings="bench")
    data_set = time.perf_counter() - start
    rates = {"triplets": rate(store.__getitem__, positions), "points alone": rate(store.points, positions),
             "samples of 1,024 points with augmentation and embedding": rate(plain.__getitem__, positions)}
    with h5py.File(folder / store.index["shards"][0]["file"]) as file:
        offsets = file["point_offsets"]
        rates["points of one open file by h5py, for comparison"] = rate(
            lambda row: file["points"][slice(*offsets[row : row + 2].tolist())], positions % (len(offsets) - 1))
    print(json.dumps({"triplets": len(store), "shards": len(store.index["shards"]), "opened": opened, "opened_mb": opened_mb, "columns": columns,
                      "columns_mb": columns_mb, "data_set": data_set, "data_set_mb": memory_mb() - before, "rates": rates}))


def main() -> None:
    """Write a store, embed its crops, then read it in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triplets", type=int, default=200_000)
    parser.add_argument("--points", type=int, default=100, help="of a triplet, on average")
    parser.add_argument("--crop-bytes", type=int, default=2000, help="of a crop, on average; they are no pictures here")
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to make the temporary files")
    parser.add_argument("--read", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.read:
        read(options.read, options.reads)
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, "
          f"h5py {h5py.version.version}")
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary) / "store"
        write(folder, options)
        embed_noise(folder)
        found = json.loads(subprocess.run([sys.executable, __file__, "--read", str(folder), "--reads", str(options.reads)], check=True,
                                          capture_output=True, text=True).stdout)
    share = FULL / found["triplets"]
    print(f"{found['triplets']:,} triplets in {found['shards']} shards; in brackets what {FULL:,} come to in proportion")
    for what, seconds, memory in (("opened", "opened", "opened_mb"), ("and columns (text ids, scores, point counts)", "columns", "columns_mb"),
                                  ("and data set with embeddings", "data_set", "data_set_mb")):
        print(f"{what}: {found[seconds]:.2f} s ({share * found[seconds]:.1f} s), {found[memory]:.0f} MB ({share * found[memory]:.0f} MB) in all")
    for what, value in found["rates"].items():
        print(f"{what}: {value:,.0f} random reads a second")


def embed_noise(folder: Path) -> None:
    """Give the crops embeddings without decoding them."""
    rng = torch.Generator().manual_seed(0)

    class Noise(CropEncoder):
        def _batches(self, shard: object) -> Iterator[torch.Tensor]:
            yield torch.empty(len(shard), 1)  # type: ignore[arg-type]

    embed_proxies(folder, Noise(lambda images: torch.randn(len(images), WIDTH, generator=rng), "bench", WIDTH, 224))


if __name__ == "__main__":
    main()
