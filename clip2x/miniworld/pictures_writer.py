"""Write captioned pictures of objects: what the small CLIP is trained on."""

from __future__ import annotations

import json
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from clip2x.meshes import render_views
from clip2x.miniworld.captions import COLOURS
from clip2x.miniworld.objects import CLASS_NAMES, Stream, make_object
from clip2x.storage import atomic_path

CHUNK = 5  # objects per task of a worker


def write_pictures(path: Path, stamp: dict[str, Any], *, seed: int, train: int, val: int, views: int, image_size: int, pool: Executor) -> None:
    """Write `pictures.h5`: `train` and `val` objects of every class, each from `views` sides at `image_size` pixels; layout: `CaptionedPictures`."""
    counts = {"train": (Stream.PICTURES_TRAIN, train), "val": (Stream.PICTURES_VAL, val)}
    total = len(CLASS_NAMES) * sum(count for _, count in counts.values())
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file, tqdm(total=total, desc="mini-world pictures", unit="object") as bar:
        file.attrs["class_names"], file.attrs["colours"], file.attrs["stamp"] = CLASS_NAMES, list(COLOURS), json.dumps(stamp, sort_keys=True)
        for split, (stream, count) in counts.items():
            shape = (views, image_size, image_size, 4)
            number = len(CLASS_NAMES) * count
            images = file.create_dataset(f"{split}/images", (number, *shape), "u1", chunks=(1, *shape), compression="lzf")
            colour_id = file.create_dataset(f"{split}/colour_id", (number,), "i8")
            file[f"{split}/class_id"] = np.repeat(np.arange(len(CLASS_NAMES)), count)
            tasks = [(name, stream, first, min(first + CHUNK, count), seed, views, image_size)
                     for name in CLASS_NAMES for first in range(0, count, CHUNK)]
            position = 0
            for pictures, colours in pool.map(_draw_pictures, tasks):
                images[position : position + len(pictures)], colour_id[position : position + len(pictures)] = pictures, colours
                position += len(pictures)
                bar.update(len(pictures))


def _draw_pictures(task: tuple[str, Stream, int, int, int, int, int]) -> tuple[NDArray[np.uint8], list[int]]:
    """Draw some objects of one class: (K, V, S, S, 4) and the colour of each."""
    class_name, stream, first, last, seed, views, image_size = task
    pictures, colours = [], []
    for instance in range(first, last):
        item = make_object(class_name, stream, instance, seed=seed)
        rng = np.random.default_rng([seed, int(stream), instance, 1])
        azimuth, elevation = rng.uniform(0, 360, views), rng.uniform(-50, 75, views)
        light = rng.uniform(-1, 1, (views, 3)) + np.array([0.0, 0.5, 0.0])
        distance = rng.uniform(1.9, 2.3, views)
        pictures.append(render_views(item.mesh, azimuth, elevation, distance, image_size=image_size, light=light, supersample=2))
        colours.append(list(COLOURS).index(item.colour))
    return np.stack(pictures), colours
