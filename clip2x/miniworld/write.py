"""Write the mini-world to disk: captioned pictures for the small CLIP, and meshes in the original layouts of ModelNet and ShapeNet."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from clip2x.errors import InputError
from clip2x.manifest import load_manifest
from clip2x.meshes import Mesh, render_views
from clip2x.miniworld.captions import COLOURS
from clip2x.miniworld.objects import CLASS_NAMES, MiniObject, Stream, make_object
from clip2x.storage import atomic_path, check_writable

CHUNK = 5  # objects per task of a worker

# Synsets of the ShapeNet55 classes that the mini-world has (third party: list in the released CLIP2Point code).
SYNSETS = {
    "airplane": "02691156", "bin": "02747177", "bag": "02773838", "bathtub": "02808440", "bed": "02818832", "bench": "02828884",
    "bookshelf": "02871439", "bottle": "02876657", "bowl": "02880940", "bus": "02924116", "cabinet": "02933112", "car": "02958343",
    "chair": "03001627", "clock": "03046257", "monitor": "03211117", "guitar": "03467517", "vase": "03593526", "lamp": "03636649",
    "laptop": "03642806", "motorcycle": "03790512", "mug": "03797390", "piano": "03928116", "pillow": "03938244", "sofa": "04256520",
    "table": "04379243", "ship": "04530566",
}


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
        _write_pictures(root / "pictures.h5", stamp, seed, size, pool)
        _write_meshes(root, seed, size, pool)
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


def _write_pictures(path: Path, stamp: dict[str, Any], seed: int, size: MiniWorldSize, pool: ProcessPoolExecutor) -> None:
    counts = {"train": (Stream.PICTURES_TRAIN, size.train_pictures), "val": (Stream.PICTURES_VAL, size.val_pictures)}
    total = len(CLASS_NAMES) * sum(count for _, count in counts.values())
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file, tqdm(total=total, desc="mini-world pictures", unit="object") as bar:
        file.attrs["class_names"], file.attrs["colours"], file.attrs["stamp"] = CLASS_NAMES, list(COLOURS), json.dumps(stamp, sort_keys=True)
        for split, (stream, count) in counts.items():
            shape = (size.views, size.image_size, size.image_size, 4)
            number = len(CLASS_NAMES) * count
            images = file.create_dataset(f"{split}/images", (number, *shape), "u1", chunks=(1, *shape), compression="lzf")
            colour_id = file.create_dataset(f"{split}/colour_id", (number,), "i8")
            file[f"{split}/class_id"] = np.repeat(np.arange(len(CLASS_NAMES)), count)
            tasks = [(name, stream, first, min(first + CHUNK, count), seed, size) for name in CLASS_NAMES for first in range(0, count, CHUNK)]
            position = 0
            for pictures, colours in pool.map(_draw_pictures, tasks):
                images[position : position + len(pictures)], colour_id[position : position + len(pictures)] = pictures, colours
                position += len(pictures)
                bar.update(len(pictures))


def _draw_pictures(task: tuple[str, Stream, int, int, int, MiniWorldSize]) -> tuple[NDArray[np.uint8], list[int]]:
    """Draw some objects of one class: (K, V, S, S, 4) and the colour of each."""
    class_name, stream, first, last, seed, size = task
    pictures, colours = [], []
    for instance in range(first, last):
        item = make_object(class_name, stream, instance, seed=seed)
        rng = np.random.default_rng([seed, int(stream), instance, 1])
        azimuth, elevation = rng.uniform(0, 360, size.views), rng.uniform(-50, 75, size.views)
        light = rng.uniform(-1, 1, (size.views, 3)) + np.array([0.0, 0.5, 0.0])
        distance = rng.uniform(1.9, 2.3, size.views)
        pictures.append(render_views(item.mesh, azimuth, elevation, distance, image_size=size.image_size, light=light, supersample=2))
        colours.append(list(COLOURS).index(item.colour))
    return np.stack(pictures), colours


def _write_meshes(root: Path, seed: int, size: MiniWorldSize, pool: ProcessPoolExecutor) -> None:
    tasks: list[tuple[str, Stream, int, int, Path]] = []
    manifest = load_manifest("modelnet10")
    for name, folder in zip(manifest.class_names, manifest.class_folders, strict=True):
        for split, stream, count in (("train", Stream.MODELNET_TRAIN, size.modelnet_train), ("test", Stream.MODELNET_TEST, size.modelnet_test)):
            base = root / manifest.variant("off").folder / folder / split
            tasks += [(name, stream, number, seed, base / f"{folder}_{number + 1:04d}.off") for number in range(count)]
    for name, synset in SYNSETS.items():
        base = root / "shapenet" / "ShapeNetCore.v2" / synset
        for number in range(size.shapenet):
            model = hashlib.md5(f"{seed}/{name}/{number}".encode(), usedforsecurity=False).hexdigest()
            tasks.append((name, Stream.SHAPENET, number, seed, base / model / "models" / "model_normalized.obj"))
    for _ in tqdm(pool.map(_write_object, tasks, chunksize=CHUNK), total=len(tasks), desc="mini-world meshes", unit="file"):
        pass


def _write_object(task: tuple[str, Stream, int, int, Path]) -> None:
    class_name, stream, number, seed, path = task
    item = make_object(class_name, stream, number, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".off":
        write_off(path, item.mesh)
    else:
        write_obj(path, item)


def write_off(path: Path, mesh: Mesh) -> None:
    """Write a mesh as ModelNet does: z up, object frame (x, y, z) -> file (-z, -x, y), inches (1 m = 39.37)."""
    vertices = np.column_stack([-mesh.vertices[:, 2], -mesh.vertices[:, 0], mesh.vertices[:, 1]]) * 39.37
    with atomic_path(path) as temporary, temporary.open("w") as file:
        file.write(f"OFF\n{len(vertices)} {len(mesh.faces)} 0\n")
        file.writelines(f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in vertices)
        file.writelines(f"3 {a} {b} {c}\n" for a, b, c in mesh.faces)


def write_obj(path: Path, item: MiniObject) -> None:
    """Write a mesh with its materials as ShapeNetCore.v2 does: y up, scaled to a unit diagonal, `.mtl` beside it, textures in `../images`."""
    mesh = item.mesh
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    vertices = (mesh.vertices - (low + high) / 2) / np.linalg.norm(high - low)
    images = path.parent.parent / "images"
    entries = []
    for material in mesh.materials:
        lines = [f"newmtl {material.name}", "Ka 0 0 0", "Kd " + " ".join(f"{value:.4f}" for value in material.colour)]
        if material.texture is not None:
            images.mkdir(exist_ok=True)
            Image.fromarray(material.texture).save(images / f"{material.name}.png")
            lines.append(f"map_Kd ../images/{material.name}.png")
        entries.append("\n".join(lines))
    path.with_suffix(".mtl").write_text("\n\n".join(entries) + "\n")
    with atomic_path(path) as temporary, temporary.open("w") as file:
        file.writelines(_obj_lines(mesh, vertices, path.with_suffix(".mtl").name))


def _obj_lines(mesh: Mesh, vertices: NDArray[np.float64], library: str) -> Iterator[str]:
    yield f"mtllib {library}\n"
    yield from (f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in vertices)
    uv: Iterable[Iterable[float]] = [] if mesh.face_uv is None else mesh.face_uv.reshape(-1, 2).tolist()
    yield from (f"vt {u:.5f} {v:.5f}\n" for u, v in uv)
    for index, material in enumerate(mesh.materials):
        yield f"usemtl {material.name}\n"
        for face in np.flatnonzero(mesh.face_material == index):
            corners = mesh.faces[face] + 1
            if mesh.face_uv is None:
                yield f"f {corners[0]} {corners[1]} {corners[2]}\n"
            else:
                first = 3 * face + 1
                yield f"f {corners[0]}/{first} {corners[1]}/{first + 1} {corners[2]}/{first + 2}\n"
