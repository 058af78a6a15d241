"""Write pictures of rooms and streets with captioned boxes: the scenes that the small CLIP is trained on, of which no other data set is made.

A web-scale CLIP has seen things among other things, cut off and half hidden; renders of single objects do not show that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from clip2x.meshes import Mesh
from clip2x.miniworld.captions import COLOURS
from clip2x.miniworld.objects import CLASS_NAMES, Stream, colour_of
from clip2x.miniworld.rooms.writer import developed, see_room
from clip2x.miniworld.scenes import visible_boxes
from clip2x.miniworld.streets.drive import Drive
from clip2x.storage import atomic_path

MOMENTS_US = (250_000, 5_750_000)  # of a drive at which all its cameras fire: far enough apart to show other sides of things
DRIVE_FRAMES = 12  # key frames that a drive would have, half a second apart; they set how long the street is
JPEG_QUALITY = 90
LEAST_PIXELS = 50  # of an object that gets a caption; people could not name smaller ones. Ours
LEAST_SIDE = 10  # pixels, of its box; collect-proxies drops boxes below 14

SPLITS = {"train": (Stream.CAPTION_ROOMS_TRAIN, Stream.CAPTION_STREETS_TRAIN), "val": (Stream.CAPTION_ROOMS_VAL, Stream.CAPTION_STREETS_VAL)}


@dataclass(frozen=True)
class SceneCounts:
    """How many rooms (a picture each) and streets (six cameras at two moments each) there are, and the width of their pictures in pixels."""

    rooms: dict[str, int]
    streets: dict[str, int]
    room_width_px: int
    street_width_px: int


@dataclass(frozen=True)
class _Task:
    stream: Stream
    index: int
    width_px: int
    seed: int


@dataclass(frozen=True)
class _Seen:
    """A picture as JPEG and, of each named object in it, box (left, top, right, bottom), class and colour."""

    jpeg: bytes
    boxes: list[tuple[int, int, int, int]]
    class_id: list[int]
    colour_id: list[int]


def write_scene_pictures(path: Path, stamp: dict[str, Any], *, seed: int, counts: SceneCounts, pool: Executor | None = None) -> None:
    """Write `scene_pictures.h5`: `train` and `val` pictures with the visible boxes of all objects that have a class; layout: `CaptionedBoxes`.

    Things whose names are held out of training (`clip2x.miniworld.unseen`) stand in the scenes but get no box. Every scene is a function of
    (seed, stream, number): the same with any number of workers.
    """
    total = sum(counts.rooms.values()) + sum(counts.streets.values())
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file, tqdm(total=total, desc="mini-world scenes", unit="scene") as bar:
        file.attrs["class_names"], file.attrs["colours"], file.attrs["stamp"] = CLASS_NAMES, list(COLOURS), json.dumps(stamp, sort_keys=True)
        for split, (rooms, streets) in SPLITS.items():
            tasks = [_Task(streets, index, counts.street_width_px, seed) for index in range(counts.streets[split])]
            tasks += [_Task(rooms, index, counts.room_width_px, seed) for index in range(counts.rooms[split])]
            seen: list[_Seen] = []
            answers: Iterable[list[_Seen]] = map(_look, tasks) if pool is None else pool.map(_look, tasks)
            for pictures in answers:
                seen += pictures
                bar.update(1)
            _write_split(file.create_group(split), seen)


def _write_split(group: h5py.Group, seen: list[_Seen]) -> None:
    encoded = group.create_dataset("jpeg", (len(seen),), h5py.vlen_dtype(np.uint8))
    for position, picture in enumerate(seen):
        encoded[position] = np.frombuffer(picture.jpeg, dtype=np.uint8)
    group["picture"] = np.repeat(np.arange(len(seen)), [len(picture.boxes) for picture in seen])
    group["box_px"] = np.array([box for picture in seen for box in picture.boxes], dtype=np.float32).reshape(-1, 4)
    group["class_id"] = np.array([value for picture in seen for value in picture.class_id], dtype=np.int64)
    group["colour_id"] = np.array([value for picture in seen for value in picture.colour_id], dtype=np.int64)


def _look(task: _Task) -> list[_Seen]:
    """Take the pictures of one scene."""
    return _street(task) if task.stream in (Stream.CAPTION_STREETS_TRAIN, Stream.CAPTION_STREETS_VAL) else _room(task)


def _room(task: _Task) -> list[_Seen]:
    view = see_room(task.stream, task.index, seed=task.seed, width_px=task.width_px)
    rng = np.random.default_rng([task.seed, int(task.stream), task.index, 1])
    objects = [(item.name, item.mesh) for item in view.room.standing]
    return [_boxed(developed(view.picture.rgb, rng), view.picture.number, objects)]


def _street(task: _Task) -> list[_Seen]:
    drive = Drive(task.stream, task.index, DRIVE_FRAMES, task.width_px, task.width_px * 9 // 16, seed=task.seed)
    objects = [(actor.name, actor.mesh) for actor in drive.street.actors]
    return [_boxed(picture.rgb, picture.number, objects) for time_us in MOMENTS_US for picture in drive.pictures(time_us)]


def _boxed(rgb: NDArray[np.uint8], number: NDArray[np.int32], objects: list[tuple[str, Mesh]]) -> _Seen:
    """Find the boxes of what is visible and has a class.

    Args:
        rgb: (H, W, 3), the picture.
        number: (H, W), which of the objects each pixel shows.
        objects: Name and mesh of each.
    """
    stream = BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=JPEG_QUALITY)
    seen = _Seen(stream.getvalue(), [], [], [])
    for index, (box, _) in visible_boxes(number, LEAST_PIXELS).items():
        name, mesh = objects[index]
        if name in CLASS_NAMES and min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE:
            seen.boxes.append(box)
            seen.class_id.append(CLASS_NAMES.index(name))
            seen.colour_id.append(list(COLOURS).index(colour_of(mesh)))
    return seen
