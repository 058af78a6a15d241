"""How long a sample of each reader takes in one process, first and from what is kept, beside reading and decoding alone; and whether memory grows.

Reads the mini-world (`make miniworld`) unless --root names a folder with other copies of the data sets.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import Results, results_option
from timing import elapsed_ms, in_turns_ms
from torch.utils.data import DataLoader

from clip2x.data.base import PointCloudDataset
from clip2x.data.faults import collate
from clip2x.data.readers import open_dataset
from clip2x.data.shapenet_pairs import ShapeNetPairs
from clip2x.data.transforms import generator_for
from clip2x.errors import Clip2xError

NAMES = ["modelnet10/off/train", "shapenet/pc/train", "shapenet/v2/train", "scanobjectnn/obj_bg/train", "scanobjectnn/pb_t50_rs/train",
         "nuscenes/v1.0-mini/mini_train", "sunrgbd/objects10/train"]
LOADING = "files, decoding and sampling alone"
BYTES = "reading as many bytes from a file"
DECODING = "reading and decoding the picture alone"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every reader whose data are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("runs/mini/miniworld"))
    parser.add_argument("--names", nargs="*", default=NAMES)
    parser.add_argument("--samples", type=int, default=100, help="at most that many of each, spread over the data set")
    parser.add_argument("--image-size", type=int, default=224, help="that the pictures of pairs are brought to")
    parser.add_argument("--workers", type=int, default=2, help="reader processes of the measurement of memory")
    parser.add_argument("--epochs", type=int, default=6, help="of the measurement of memory")
    results_option(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = Results("readers", options.results)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for data_set in options.names:
            cache: dict[str, Any] = {"cache": folder} if data_set.startswith(("modelnet", "shapenet")) else {}
            measure_or_say(results, data_set, lambda data_set=data_set, cache=cache: objects(
                *(open_dataset(data_set, options.root, limit=options.samples, **cache) for _ in range(2)), data_set, results, folder))
        measure_or_say(results, "pairs of picture and cloud", lambda: pairs(options, results))
        if options.names and options.epochs:
            growth(open_dataset(options.names[0], options.root, cache=folder), options, results)
    results.finish()


def measure_or_say(results: Results, name: str, measure: Callable[[], None]) -> None:
    """Measure, or keep a row that says what is missing."""
    try:
        measure()
    except Clip2xError as error:
        results.not_run(name, "first pass", "ms/sample", str(error)[:100], device="cpu")


def objects(data: PointCloudDataset, other: PointCloudDataset, name: str, results: Results, folder: Path) -> None:
    """Read every sample twice, each in turn with what it cannot do without; `other` is the same data set, whose last frame is its own."""
    def loaded(index: int) -> object:
        return other.load(other.entries[index], generator_for(0, other.entries[index].key))

    loaded(0), data[0]  # libraries, and tables that are read once
    first, alone = np.array([[elapsed_ms(lambda index=index: data[index]), elapsed_ms(lambda index=index: loaded(index))]
                             for index in range(1, len(data))]).T
    results.add(name, "first pass", first, "ms/sample", floor=alone, floor_is=LOADING)
    file = folder / "bytes"
    file.write_bytes(np.zeros((data.num_points, 3), np.float32).tobytes())
    again, raw = np.array([[elapsed_ms(lambda index=index: data[index]), elapsed_ms(file.read_bytes)] for index in range(1, len(data))]).T
    results.add(name, "again", again, "ms/sample", floor=raw, floor_is=BYTES)


def pairs(options: argparse.Namespace, results: Results) -> None:
    """Samples of image-depth pre-training."""
    data = ShapeNetPairs(options.root, 0, split="train", image_size=options.image_size)
    places = np.linspace(0, len(data) - 1, min(len(data), options.samples)).astype(int).tolist()
    found = [in_turns_ms({"sample": lambda place=place: data[place], "picture": lambda place=place: data.picture(place, 0)}, 1, warm_up=0)
             for place in places]
    sample, picture = (np.concatenate([item[part] for item in found])[1:] for part in ("sample", "picture"))
    results.add("pairs of picture and cloud", f"pictures brought to {options.image_size} px", sample, "ms/sample", floor=picture, floor_is=DECODING)


def growth(data: PointCloudDataset, options: argparse.Namespace, results: Results) -> None:
    """Read some epochs with reader processes; the memory of all processes (shared pages counted once) after the first and the last."""
    loader: DataLoader[Any] = DataLoader(data, batch_size=32, num_workers=options.workers, persistent_workers=True, collate_fn=collate)
    readings = []
    for _ in range(options.epochs):
        for _ in loader:
            pass
        gc.collect()
        readings.append(memory_mb(loader))
    results.add("memory with reader processes", f"{options.workers} of them, {options.epochs} epochs of {options.names[0]}", readings[-1:], "MB",
                floor=readings[0], floor_is="after the first epoch")


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
