"""How many samples a second each reader gives, what share of the time is reading and decoding, what a cache saves, and whether memory grows.

Reads the mini-world (`make miniworld`) unless --root names a folder with other copies of the data sets.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import hardware
from torch.utils.data import DataLoader

from clip2x.data.base import PointCloudDataset
from clip2x.data.faults import collate
from clip2x.data.readers import open_dataset
from clip2x.data.transforms import generator_for
from clip2x.errors import Clip2xError

NAMES = ["modelnet10/off/train", "shapenet/pc/train", "shapenet/v2/train", "scanobjectnn/obj_bg/train", "scanobjectnn/pb_t50_rs/train",
         "nuscenes/v1.0-mini/mini_train", "sunrgbd/objects10/train"]


def main() -> None:
    """Measure every reader whose data are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("runs/mini/miniworld"))
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--samples", type=int, default=200, help="at most that many of each, spread over the data set")
    parser.add_argument("--workers", type=int, default=2, help="reader processes of the measurement of memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(hardware("cpu"))
    print(f"{'data set':<32}{'samples':>8}{'first pass/s':>14}{'again/s':>10}{'load share':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names:
            cache: dict[str, Any] = {"cache": Path(folder)} if name.startswith(("modelnet", "shapenet")) else {}
            try:
                data = open_dataset(name, options.root, limit=options.samples, **cache)
            except Clip2xError as error:
                print(f"{name:<32}{str(error)[:100]}")
                continue
            first, again = (rate(data) for _ in range(2))
            print(f"{name:<32}{len(data):>8,}{first:>14,.0f}{again:>10,.0f}{load_share(data):>12.0%}")
        for name in options.names:
            if "/off/" in name:
                speed_up(options.root, name, options.samples, Path(folder) / "fresh")
        growth(options.root, options.names[0], options.workers, Path(folder))


def rate(data: PointCloudDataset) -> float:
    """Read every sample in this process; samples a second."""
    start = time.perf_counter()
    for index in range(len(data)):
        data[index]
    return len(data) / (time.perf_counter() - start)


def load_share(data: PointCloudDataset) -> float:
    """Compare the time in `load` (files, decoding, sampling of meshes; no cache) with that of whole samples made without a cache."""
    indices = range(0, len(data), max(1, len(data) // 50))
    start = time.perf_counter()
    loaded = [data.load(data.entries[index], generator_for(0, data.entries[index].key)) for index in indices]
    loading = time.perf_counter() - start
    start = time.perf_counter()
    for points in loaded:
        chosen = np.asarray(points[: data.num_points], dtype=np.float32)
        centred = torch.from_numpy(np.ascontiguousarray(chosen @ np.eye(3, dtype=np.float32)))
        centred -= centred.mean(dim=0)
        centred /= centred.norm(dim=1).max().clamp(min=1e-9)
    return loading / (loading + time.perf_counter() - start)


def speed_up(root: Path, name: str, samples: int, cache: Path) -> None:
    """Compare ModelNet from meshes with ModelNet from the cache."""
    data = open_dataset(name, root, limit=samples, cache=cache)
    meshes = rate(data)
    cached = sorted(rate(data) for _ in range(9))[4]
    faces = np.mean([sum(1 for _ in (data.folder / entry.key).open()) for entry in data.entries[:20]])
    print(f"{name} from meshes {meshes:,.0f}/s (about {faces:,.0f} lines a file), from the cache {cached:,.0f}/s: {cached / meshes:.0f} times")


def growth(root: Path, name: str, workers: int, cache: Path) -> None:
    """Read six epochs with reader processes; the memory of all processes (shared pages counted once) after each."""
    data = open_dataset(name, root, cache=cache)
    loader: DataLoader[Any] = DataLoader(data, batch_size=32, num_workers=workers, persistent_workers=True, collate_fn=collate)
    readings = []
    for _ in range(6):
        for _ in loader:
            pass
        gc.collect()
        readings.append(memory_mb(loader))
    print(f"memory of this process and {workers} reader processes after epochs 1 to 6 of {name}: "
          + ", ".join(f"{value:,.0f}" for value in readings) + " MB (proportional set size)")


def memory_mb(loader: DataLoader[Any]) -> float:
    """Sum the proportional set sizes of this process and of a loader's workers; 0 where the system does not tell."""
    iterator: Any = loader._iterator
    processes: Sequence[int] = [os.getpid(), *(worker.pid for worker in iterator._workers)]
    total = 0
    for process in processes:
        rollup = Path(f"/proc/{process}/smaps_rollup")
        if rollup.exists():
            total += next(int(line.split()[1]) for line in rollup.read_text().splitlines() if line.startswith("Pss:"))
    return total / 1024


if __name__ == "__main__":
    main()
