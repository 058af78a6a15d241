"""Write objects as meshes and clouds in the original layouts of ModelNet and ShapeNet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from clip2x.manifest import Manifest, load_manifest
from clip2x.meshes import Mesh, sample_surface
from clip2x.miniworld.objects import MiniObject, Stream, make_object
from clip2x.storage import atomic_path

Task = TypeVar("Task")

CHUNK = 5  # files per task of a worker
CLOUD_POINTS = 8192  # as ShapeNet55's clouds have

# ShapeNet55's class of the mini-world's classes; desks lie among its tables, dressers and night stands among its cabinets, as in the original.
SHAPENET_CLASSES = {
    "airplane": "airplane", "bin": "ashcan", "bag": "bag", "bathtub": "bathtub", "bed": "bed", "bench": "bench", "bookshelf": "bookshelf",
    "bottle": "bottle", "bowl": "bowl", "bus": "bus", "cabinet": "cabinet", "car": "car", "chair": "chair", "clock": "clock", "monitor": "display",
    "guitar": "guitar", "vase": "jar", "lamp": "lamp", "laptop": "laptop", "motorcycle": "motorcycle", "mug": "mug", "piano": "piano",
    "pillow": "pillow", "sofa": "sofa", "table": "table", "ship": "vessel", "desk": "table", "dresser": "cabinet", "night stand": "cabinet",
}


def write_modelnet(root: Path, *, seed: int, train: int, test: int, pool: Executor) -> None:
    """Write ModelNet10's folders of OFF files, `train` and `test` objects of every class."""
    manifest = load_manifest("modelnet10")
    tasks: list[tuple[str, Stream, int, int, Path]] = []
    for name, folder in zip(manifest.class_names, manifest.class_folders, strict=True):
        for split, stream, count in (("train", Stream.MODELNET_TRAIN, train), ("test", Stream.MODELNET_TEST, test)):
            base = root / manifest.variant("off").folder / folder / split
            tasks += [(name, stream, number, seed, base / f"{folder}_{number + 1:04d}.off") for number in range(count)]
    _run(_write_modelnet_object, tasks, pool, "mini-world ModelNet")


def write_shapenet(root: Path, *, seed: int, train: int, test: int, pool: Executor) -> None:
    """Write ShapeNetCore.v2 (OBJ, MTL, textures), ShapeNet55's clouds and lists, `train` and `test` objects of every mini-world class."""
    manifest = load_manifest("shapenet")
    tasks: list[tuple[str, int, int, Path, Path]] = []
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for name, shapenet_name in SHAPENET_CLASSES.items():
        synset = manifest.class_folders[manifest.class_names.index(shapenet_name)]
        for number in range(train + test):
            model = hashlib.md5(f"{seed}/{name}/{number}".encode(), usedforsecurity=False).hexdigest()
            mesh, cloud = (_path(root, manifest, variant, synset, model) for variant in ("v2", "pc"))
            tasks.append((name, number, seed, mesh, cloud))
            lists["train" if number < train else "test"].append(cloud.name)
    _run(_write_shapenet_object, tasks, pool, "mini-world ShapeNet")
    for split, lines in lists.items():
        facts = manifest.variant("pc")
        with atomic_path(root / facts.folder / str(facts.splits[split].file)) as temporary:
            temporary.write_text("\n".join(sorted(lines)) + "\n")


def _path(root: Path, manifest: Manifest, variant: str, synset: str, model: str) -> Path:
    facts = manifest.variant(variant)
    return root / facts.folder / str(facts.pattern).format(synset=synset, id=model)


def _run(work: Callable[[Task], None], tasks: Sequence[Task], pool: Executor, title: str) -> None:
    for _ in tqdm(pool.map(work, tasks, chunksize=CHUNK), total=len(tasks), desc=title, unit="file"):
        pass


def _write_modelnet_object(task: tuple[str, Stream, int, int, Path]) -> None:
    class_name, stream, number, seed, path = task
    path.parent.mkdir(parents=True, exist_ok=True)
    write_off(path, make_object(class_name, stream, number, seed=seed).mesh)


def _write_shapenet_object(task: tuple[str, int, int, Path, Path]) -> None:
    class_name, number, seed, mesh_path, cloud_path = task
    item = make_object(class_name, Stream.SHAPENET, number, seed=seed)
    mesh_path.parent.mkdir(parents=True, exist_ok=True)
    write_obj(mesh_path, item)
    rng = np.random.default_rng([seed, int(Stream.SHAPENET), number, 2])
    points = sample_surface(unit_diagonal(item.mesh.vertices), item.mesh.faces, CLOUD_POINTS, rng)
    with atomic_path(cloud_path) as temporary:
        np.save(temporary, points, allow_pickle=False)


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
    vertices = unit_diagonal(mesh.vertices)
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


def unit_diagonal(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre (V, 3) on the middle of the bounding box and scale its diagonal to 1, as ShapeNetCore.v2 is."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    scaled: NDArray[np.float64] = (vertices - (low + high) / 2) / np.linalg.norm(high - low)
    return scaled


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
