"""Write the mini-world: captioned pictures for the small CLIP, and the five data sets in their original layouts."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from clip2x.errors import InputError
from clip2x.miniworld.mesh_writer import write_modelnet
from clip2x.miniworld.pictures_writer import write_pictures
from clip2x.storage import atomic_path, check_writable


@dataclass(frozen=True)
class MiniWorldSize:
    """How much is made: objects per class and stream, views per object, pixels. All ours."""

    train_pictures: int = 100
    val_pictures: int = 6
    views: int = 5
    image_size: int = 64
    modelnet_train: int = 10
    modelnet_test: int = 40
    shapenet: int = 2


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
    with ProcessPoolExecutor(workers or _usable_cores(), mp_context=context) as pool:
        write_pictures(root / "pictures.h5", stamp, seed=seed, train=size.train_pictures, val=size.val_pictures, views=size.views,
                       image_size=size.image_size, pool=pool)
        write_modelnet(root, seed=seed, train=size.modelnet_train, test=size.modelnet_test, pool=pool)
    with atomic_path(done) as temporary:
        temporary.write_text(json.dumps(stamp, indent=1))
    (root / ".writing").unlink()
    return True


def _read_stamp(path: Path) -> object:
    """Read what made a finished mini-world; None where it is unfinished or the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _usable_cores() -> int:
    """Count the cores this process may use; at most 16, since every worker loads its own libraries."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, 16)


def _code_version() -> str:
    """Hash the generator's own source, so that a changed shape makes a new mini-world."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


