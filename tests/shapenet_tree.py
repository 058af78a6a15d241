"""Write small ShapeNet folders in the published layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from clip2x.manifest import load_manifest

MANIFEST = load_manifest("shapenet")
LIST = "ShapeNet-55/train.txt"
MODELS = [("04379243", "t1"), ("02691156", "a2"), ("02691156", "a1"), ("03001627", "c-1"), ("03001627", "c0")]
SORTED = sorted(MODELS)
BOX_FACES = ["1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4"]


def write_list(root: Path, models: list[tuple[str, str]] = MODELS, *, split: str = "train", extra: str = "") -> None:
    path = root / "shapenet" / "ShapeNet-55" / f"{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{synset}-{name}.npy\n" for synset, name in models) + extra)


def write_clouds(root: Path, models: list[tuple[str, str]] = MODELS, *, points: int = 40) -> None:
    """Write clouds in Point-BERT's layout; the first coordinate of the first point tells them apart."""
    folder = root / "shapenet" / "shapenet_pc"
    folder.mkdir(parents=True, exist_ok=True)
    for number, (synset, name) in enumerate(models):
        cloud = np.random.default_rng(number).normal(size=(points, 3)).astype(np.float32)
        cloud[0] = 10 + number
        np.save(folder / f"{synset}-{name}.npy", cloud)


def write_meshes(root: Path, models: list[tuple[str, str]] = MODELS, *, release: str = "v2") -> None:
    """Write boxes in the layout of ShapeNetCore; their depth tells them apart."""
    for number, (synset, name) in enumerate(models):
        corners = [(x, y, z * (number + 2)) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
        model = root / "shapenet" / f"ShapeNetCore.{release}" / synset / name
        path = model / "models" / "model_normalized.obj" if release == "v2" else model / "model.obj"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mtllib gone.mtl\n" + "".join(f"v {x} {y} {z}\n" for x, y, z in corners) + "".join(f"f {face}\n" for face in BOX_FACES))


def write_pictures(root: Path, models: list[tuple[str, str]] = MODELS, *, size: int = 24, views: int = 10) -> None:
    """Write pictures whose red tells the model and whose green tells the view."""
    for number, (synset, name) in enumerate(models):
        folder = root / "shapenet" / "rendering" / f"{synset}_{name}"
        folder.mkdir(parents=True, exist_ok=True)
        for view in range(views):
            Image.new("RGB", (size, size), (number, 10 * view, 255)).save(folder / f"{view}.png")


def write_world(root: Path) -> Path:
    """Write lists, clouds, meshes and pictures of a few models."""
    write_list(root)
    write_list(root, [("02691156", "b1")], split="test")
    write_clouds(root)
    write_meshes(root)
    write_pictures(root)
    return root
