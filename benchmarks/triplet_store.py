"""How long a triplet store takes to write and to open, how much memory it needs, and how long a triplet takes to come out of it.

Makes a store in a temporary folder (points and crops are random numbers of the usual sizes) and opens it in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from results import Results, results_option
from synthetic_store import PER_FRAME, write_store

from clip2x.data.augmentations import Jitter, RotateAboutUp, Scale
from clip2x.data.triplets.dataset import TripletProxies
from clip2x.data.triplets.store import TripletStore
from clip2x.data.triplets.writer import SHARD_FRAMES

BLOCK = 500  # reads that are timed together
BYTES = "reading as many bytes as the points have from an open file"
INDEX = "parsing index.json alone"


def read_ms(read: Callable[[int], object], positions: np.ndarray) -> list[float]:
    """Milliseconds per read, in the order given, block by block."""
    readings = []
    for block in np.array_split(positions, max(1, len(positions) // BLOCK)):
        start = time.perf_counter()
        for position in block.tolist():
            read(position)
        readings.append((time.perf_counter() - start) / len(block) * 1e3)
    return readings


def memory_mb() -> float:
    """Resident memory of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def read(folder: Path, reads: int) -> None:
    """Open the store in this process and print what that takes, as JSON."""
    torch.set_num_threads(1)
    before = memory_mb()
    start = time.perf_counter()
    json.loads((folder / "index.json").read_bytes())
    parsed = time.perf_counter() - start
    start = time.perf_counter()
    store = TripletStore(folder)
    opened, opened_mb = time.perf_counter() - start, memory_mb() - before
    start = time.perf_counter()
    _ = store.text_ids, store.scores, store.num_points
    columns, columns_mb = time.perf_counter() - start, memory_mb() - before
    positions = np.random.default_rng(0).integers(len(store), size=reads)
    start = time.perf_counter()
    data = TripletProxies(folder, 0, folder, augmentations=[RotateAboutUp(), Scale(), Jitter()], embeddings="bench")
    data_set = time.perf_counter() - start
    times = {"a triplet": read_ms(store.__getitem__, positions), "points alone": read_ms(store.points, positions),
             "a sample of 1,024 points with augmentation and embedding": read_ms(data.__getitem__, positions[: reads // 2])}
    path = folder / store.index["shards"][0]["file"]
    length, size = 12 * int(store.num_points.mean()), path.stat().st_size
    descriptor = os.open(path, os.O_RDONLY)
    bytes = read_ms(lambda position: os.pread(descriptor, length, position * 997 % (size - length)), positions)
    os.close(descriptor)
    print(json.dumps({"triplets": len(store), "shards": len(store.index["shards"]), "parsed": parsed, "times": times, "bytes": bytes,
                      "opening": {"opening": (opened, opened_mb), "columns": (columns, columns_mb), "data set": (data_set, memory_mb() - before)}}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a store, then read it in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triplets", type=int, default=200_000)
    parser.add_argument("--points", type=int, default=100, help="of a triplet, on average")
    parser.add_argument("--crop-bytes", type=int, default=2000, help="of a crop, on average; they are no pictures here")
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to make the temporary files")
    parser.add_argument("--read", type=Path, default=None, help=argparse.SUPPRESS)
    results_option(parser)
    options = parser.parse_args(arguments)
    if options.read:
        read(options.read, options.reads)
        return
    torch.set_num_threads(1)
    results = Results("triplet_store", options.results)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary) / "store"
        one_by_one = min(2 * SHARD_FRAMES, options.triplets // PER_FRAME // 2)
        single, shards = write_store(folder, options.triplets, points=options.points, crop_bytes=options.crop_bytes, one_by_one=one_by_one)
        size = sum(path.stat().st_size for path in folder.glob("shard-*.h5"))
        embeddings = sum(path.stat().st_size for path in folder.glob("embeddings/*/*.npy"))
        found = json.loads(subprocess.run([sys.executable, __file__, "--read", str(folder), "--reads", str(options.reads)], check=True,
                                          capture_output=True, text=True).stdout)
    where = f"{found['triplets']:,} triplets of about {options.points} points, {found['shards']} shards"
    results.add("writing a frame, synced to the disk", where, [single], "ms/frame", floor=shards, floor_is="writing whole shards",
                note=f"{PER_FRAME} triplets a frame")
    results.add("size of a triplet", f"about {options.points} points, a crop of {options.crop_bytes:,} bytes", [size / found["triplets"]], "bytes")
    results.add("size of an embedding", "512 numbers", [embeddings / found["triplets"]], "bytes")
    for what, (seconds, memory) in found["opening"].items():
        results.add(f"store: {what}", where, [1e3 * seconds], "ms", floor=1e3 * found["parsed"], floor_is=INDEX, note=f"{memory:.0f} MB more in all")
    for what, times in found["times"].items():
        results.add(f"reading {what}, at random", where, times, "ms/triplet", floor=np.array(found["bytes"]), floor_is=BYTES)
    results.finish()


if __name__ == "__main__":
    main()
