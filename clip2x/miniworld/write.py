"""Write the mini-world: captioned pictures for the small CLIP, and the five data sets in their original layouts."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from clip2x.errors import InputError
from clip2x.miniworld.mesh_writer import write_modelnet, write_shapenet
from clip2x.miniworld.pictures_writer import write_pictures
from clip2x.miniworld.rooms.writer import write_rooms
from clip2x.miniworld.scans import write_scans
from clip2x.miniworld.scene_pictures import SceneCounts, write_scene_pictures
from clip2x.miniworld.streets.writer import StreetSize, write_streets
from clip2x.signals import leave_with_parent
from clip2x.storage import atomic_path, check_writable
from clip2x.untrusted import json_value


@dataclass(frozen=True)
class MiniWorldSize:
    """How much is made; the default is the mini profile's. All ours.

    Of pictures, ModelNet, ShapeNet and scans objects per class, of rooms frames, of streets key frames per drive. `views` and `image_size`
    belong to the pictures, widths to the cameras of rooms and streets, all in pixels but `views`. `caption_*`: scenes that the small CLIP
    learns from besides the pictures; they are in no data set.
    """

    train_pictures: int = 100
    val_pictures: int = 6
    views: int = 5
    image_size: int = 64
    modelnet_train: int = 10
    modelnet_test: int = 40
    shapenet_train: int = 90
    shapenet_test: int = 4
    scans_train: int = 8
    scans_test: int = 10
    rooms_train: int = 160
    rooms_test: int = 120
    room_width_px: int = 280
    street_drives_train: int = 8
    street_drives_val: int = 2
    street_frames_train: int = 5
    street_frames_val: int = 10
    street_width_px: int = 400
    caption_rooms_train: int = 1000
    caption_rooms_val: int = 80
    caption_streets_train: int = 32
    caption_streets_val: int = 4


SIZES = {
    "tiny": MiniWorldSize(train_pictures=2, val_pictures=1, views=2, modelnet_train=1, modelnet_test=2, shapenet_train=2, shapenet_test=1,
                          scans_train=2, scans_test=1, rooms_train=4, rooms_test=4, room_width_px=140, street_drives_train=2, street_drives_val=1,
                          street_frames_train=1, street_frames_val=1, street_width_px=160, caption_rooms_train=3, caption_rooms_val=2,
                          caption_streets_train=1, caption_streets_val=1),
    "mini": MiniWorldSize(),
}
"""The one knob: `tiny` for tests, `mini` for the mini profile."""


def write_miniworld(root: Path, *, seed: int = 0, size: MiniWorldSize | None = None, workers: int | None = None) -> bool:
    """Write what is missing below `root`; a finished mini-world of the same seed, size and code is left as it is.

    `miniworld.json` is written last and names all three, so an interrupted run starts over.

    Returns:
        Whether anything was written.

    Raises:
        InputError: If `root` holds other things than a mini-world.
    """
    size = size or MiniWorldSize()
    stamp = {"seed": seed, "size": asdict(size), "code": _code_version()}
    done = root / "miniworld.json"
    if _read_stamp(done) == stamp:
        return False
    if root.is_file():
        raise InputError(f"{root} is a file; give a new or empty folder.")
    check_writable(root)
    if root.is_dir() and any(root.iterdir()) and not done.is_file() and not (root / ".writing").is_file():
        raise InputError(f"{root} is not empty and holds no mini-world; give an empty or new folder (RUNS=... or --root).")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / ".writing").touch()
    context = multiprocessing.get_context("spawn")
    with _deaths_told(), ProcessPoolExecutor(workers or _usable_cores(), mp_context=context, initializer=leave_with_parent) as pool:
        write_pictures(root / "pictures.h5", stamp, seed=seed, train=size.train_pictures, val=size.val_pictures, views=size.views,
                       image_size=size.image_size, pool=pool)
        counts = SceneCounts({"train": size.caption_rooms_train, "val": size.caption_rooms_val},
                             {"train": size.caption_streets_train, "val": size.caption_streets_val}, size.room_width_px, size.street_width_px)
        write_scene_pictures(root / "scene_pictures.h5", stamp, seed=seed, counts=counts, pool=pool)
        write_modelnet(root, seed=seed, train=size.modelnet_train, test=size.modelnet_test, pool=pool)
        write_shapenet(root, seed=seed, train=size.shapenet_train, test=size.shapenet_test, pool=pool)
        with tqdm(total=15 * (size.scans_train + size.scans_test), desc="mini-world ScanObjectNN", unit="object") as bar:
            write_scans(root, seed=seed, train=size.scans_train, test=size.scans_test, pool=pool, bar=bar)
        with tqdm(total=size.rooms_train + size.rooms_test, desc="mini-world SUN RGB-D", unit="frame") as bar:
            write_rooms(root, seed=seed, train=size.rooms_train, test=size.rooms_test, width_px=size.room_width_px, pool=pool, bar=bar)
        streets = StreetSize(size.street_drives_train, size.street_drives_val, size.street_frames_train, size.street_frames_val,
                             size.street_width_px, size.street_width_px * 9 // 16)
        with tqdm(total=streets.key_frames(), desc="mini-world nuScenes", unit="frame") as bar:
            write_streets(root, seed=seed, size=streets, pool=pool, bar=bar)
    with atomic_path(done) as temporary:
        temporary.write_text(json.dumps(stamp, indent=1))
    (root / ".writing").unlink()
    return True


@contextmanager
def _deaths_told() -> Iterator[None]:
    """Say in one line that a process died."""
    try:
        yield
    except BrokenProcessPool as error:
        raise InputError("a process that writes the mini-world died, as the system lets it when memory runs out; try fewer --workers, and run the "
                         "same command again: it starts over.") from error


def _read_stamp(path: Path) -> object:
    """Read what made a finished mini-world; None where it is unfinished or the file is damaged."""
    try:
        return json_value(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _usable_cores() -> int:
    """Count the cores this process may use; at most 16, since every worker loads its own libraries."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, 16)


def _code_version() -> str:
    """Hash the generator's own source, so that a changed shape makes a new mini-world."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


