"""Data sets in their published layouts, and the caches that their readers keep."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from harness import Subject
from nuscenes_files import write_nuscenes
from shapenet_tree import MANIFEST as SHAPENET
from shapenet_tree import write_clouds, write_list, write_pictures
from sunrgbd_tree import B3DO, scene_depth, write_frame

from clip2x.data.cache import SampleCache
from clip2x.data.modelnet import ModelNet
from clip2x.data.nuscenes.column_cache import ColumnCache
from clip2x.data.nuscenes.reader import NuScenesFrames
from clip2x.data.render_pairs import _claim
from clip2x.data.scanobjectnn import ScanObjectNN
from clip2x.data.shapenet import ShapeNet
from clip2x.data.shapenet_pairs import ShapeNetViews
from clip2x.data.sunrgbd.reader import SunRgbdFrames
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.manifest import load_manifest

Build = Callable[[Path], Subject]
MODELNET, SCANS, NUSCENES, SUNRGBD = (load_manifest(name) for name in ("modelnet40", "scanobjectnn", "nuscenes", "sunrgbd"))
RNG = np.random.default_rng(4)
DATA = (BadFileError, DataNotFoundError)


def write_h5(path: Path, compression: str | None, **arrays: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression=compression)


def decoy(root: Path) -> None:
    """Something that a path out of the root would find."""
    data = RNG.normal(size=(6, 8, 3)).astype("f4")
    write_h5(root.parent / "secret" / "outside.h5", None, data=data, label=np.arange(6), mask=np.ones((6, 8), "i4"))
    (root.parent / "secret" / "raw.bin").write_bytes(bytes(8000))


def modelnet_hdf5(root: Path) -> Subject:
    decoy(root)
    folder = root / MODELNET.variant("hdf5").folder
    write_h5(folder / "part0.h5", None, data=RNG.normal(size=(6, 8, 3)).astype("f4"), label=np.arange(6)[:, None])
    (folder / "shape_names.txt").write_text("\n".join(MODELNET.class_folders) + "\n")
    (folder / "train_files.txt").write_text("data/part0.h5\n")

    def read() -> Any:
        data = ModelNet(MODELNET, root=root, variant="hdf5", split="train", num_points=8, cache=root / "cache")
        return data[0], data[len(data) - 1]

    return Subject([folder / name for name in ("part0.h5", "train_files.txt", "shape_names.txt", "part0.h5")], read, named=str(root),
                   forget=lambda: shutil.rmtree(root / "cache", ignore_errors=True))


def modelnet_text(root: Path) -> Subject:
    folder = root / MODELNET.variant("text").folder
    names = ["airplane_0001", "night_stand_0002"]
    for name in names:
        place = folder / name.rpartition("_")[0] / f"{name}.txt"
        place.parent.mkdir(parents=True)
        np.savetxt(place, RNG.normal(size=(9, 6)), delimiter=",", fmt="%.4f")
    (folder / "modelnet40_train.txt").write_text("\n".join(names) + "\n")

    def read() -> Any:
        data = ModelNet(MODELNET, root=root, variant="text", split="train", num_points=8, cache=root / "cache")
        return data[0], data[len(data) - 1]

    files = [folder / "modelnet40_train.txt", folder / "airplane" / "airplane_0001.txt"]
    return Subject(files, read, named=str(root), forget=lambda: shutil.rmtree(root / "cache", ignore_errors=True))


def scans(compression: str | None) -> Build:
    def build(root: Path) -> Subject:
        decoy(root)
        path = root / "scanobjectnn" / str(SCANS.variant("obj_bg").splits["train"].file)
        data, mask = RNG.normal(size=(6, 8, 3)).astype("f4"), np.tile([-1, 3], (6, 4)).astype("i4")
        write_h5(path, compression, data=data, label=np.arange(6).astype("i4"), mask=mask)

        def read() -> Any:
            data = ScanObjectNN(SCANS, root=root, variant="obj_bg", split="train", num_points=8, cache=root / "cache", background="drop")
            return data[0], data[len(data) - 1]

        return Subject([path], read, forget=lambda: shutil.rmtree(root / "cache", ignore_errors=True))

    return build


def unpacked_scans(root: Path) -> Subject:
    """The copy of a compressed file in the cache: a changed one is made again."""
    subject = scans("gzip")(root)
    whole = [sample["points"].numpy().tobytes() for sample in subject.read()]
    copies = sorted((root / "cache" / "arrays").iterdir())
    return Subject(copies, subject.read, (), unchanged=lambda value: [sample["points"].numpy().tobytes() for sample in value] == whole)


def shapenet(root: Path) -> Subject:
    write_list(root)
    write_clouds(root)
    write_pictures(root, size=4)
    files = [root / "shapenet" / "ShapeNet-55" / "train.txt", root / "shapenet" / "shapenet_pc" / "02691156-a1.npy"]

    def read() -> Any:
        data = ShapeNet(SHAPENET, root=root, variant="pc", split="train", num_points=16)
        views = ShapeNetViews(SHAPENET, root=root, split="train")
        return [data[place] for place in range(len(data))], len(views)

    return Subject(files, read, named=str(root))


def nuscenes(root: Path) -> Subject:
    written = write_nuscenes(root, ("scene-0061",), key_frames=1)
    sweep = next((root / "nuscenes" / "samples" / "LIDAR_TOP").iterdir())
    tables = [written.folder / f"{name}.json" for name in ("sensor", "calibrated_sensor", "category", "scene", "sample", "instance", "ego_pose",
                                                           "sample_data", "sample_annotation")]
    (root.parent / "secret").write_bytes(sweep.read_bytes())

    def read() -> Any:
        frames = NuScenesFrames(NUSCENES, root=root, variant="v1.0-mini", split="mini_train", sweeps=2)
        return [frames[place] for place in range(len(frames))], frames.objects(1), list(frames.picture_keys(range(len(frames))))

    return Subject([*tables, written.folder / "sample_data.json", sweep], read, named=str(root))


def nuscenes_columns(root: Path) -> Subject:
    """Parsed columns in the cache: changed ones are noticed when all bytes are compared."""
    cache = ColumnCache(root / "columns")
    cache.save({"a": np.arange(12.0).reshape(4, 3), "b": np.frombuffer(b"abc", np.uint8)}, {"notes": ["x"]})

    def read() -> Any:
        found = cache.load(deep=True)
        return found and ({name: (values.dtype, values.tolist()) for name, values in found[0].items()}, found[1])

    columns = read()[0]
    return Subject(sorted((root / "columns").iterdir()), read, (), unchanged=lambda value: value is None or value[0] == columns)


def sunrgbd(root: Path) -> Subject:
    folder = root / SUNRGBD.variant("objects10").folder
    write_frame(folder / B3DO, scene_depth(1)[:12, :16])
    (folder / "sunrgbd_training_images.txt").write_text(f"{B3DO}//image/x.jpg\n")
    frame = folder / B3DO
    files = [folder / "sunrgbd_training_images.txt", frame / "intrinsics.txt", frame / "extrinsics" / "20150101000000.txt",
             *(frame / name / "index.json" for name in ("annotation3Dfinal", "annotation2D3D")), next((frame / "depth").iterdir()),
             next((frame / "image").iterdir())]

    def read() -> Any:
        frames = SunRgbdFrames(SUNRGBD, root=root, variant="objects10", split="train")
        return [frames[place] for place in range(len(frames))]

    return Subject(files, read, named=str(root))


def samples(root: Path) -> Subject:
    """Sampled points in the cache: changed ones are no samples."""
    cache, points = SampleCache(root / "samples"), RNG.normal(size=(32, 3)).astype(np.float32)
    path = root / "samples" / "ab" / "x.npy"
    cache.put(path, points)
    return Subject([path], lambda: cache.get(path, (32, 3)), (), unchanged=lambda value: value is None or value.tobytes() == points.tobytes())


def stamp(root: Path) -> Subject:
    settings = {"size": 64, "seed": 0, "views": [1.0, 2.0]}
    _claim(root, settings)
    path = next(path for path in root.iterdir())
    return Subject([path], lambda: _claim(root, settings), (InputError,), named=str(root))


READERS: dict[str, Build] = {
    "modelnet hdf5": modelnet_hdf5, "modelnet text": modelnet_text, "scanobjectnn": scans(None), "scanobjectnn packed": scans("gzip"),
    "unpacked scans": unpacked_scans, "shapenet": shapenet, "nuscenes": nuscenes, "nuscenes columns": nuscenes_columns, "sunrgbd": sunrgbd,
    "sampled points": samples, "rendering stamp": stamp,
}
