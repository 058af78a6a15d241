"""Which class reads which data set, and how a data set is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clip2x.data.base import PointCloudDataset
from clip2x.data.frames import FrameDataset
from clip2x.data.modelnet import ModelNet
from clip2x.data.nuscenes.objects import NuScenesObjects
from clip2x.data.nuscenes.reader import NuScenesFrames
from clip2x.data.scanobjectnn import ScanObjectNN
from clip2x.data.shapenet import ShapeNet
from clip2x.data.shapenet_pairs import ShapeNetViews
from clip2x.data.sunrgbd.objects import SunRgbdObjects
from clip2x.data.sunrgbd.reader import SunRgbdFrames
from clip2x.errors import InputError
from clip2x.manifest import Manifest, load_manifest

READERS: dict[str, type[PointCloudDataset]] = {
    "modelnet": ModelNet, "shapenet": ShapeNet, "scanobjectnn": ScanObjectNN, "nuscenes": NuScenesObjects, "sunrgbd": SunRgbdObjects,
}
FRAME_READERS: dict[str, type[FrameDataset]] = {"nuscenes": NuScenesFrames, "sunrgbd": SunRgbdFrames}
VIEW_READERS: dict[str, type[ShapeNetViews]] = {"shapenet": ShapeNetViews}  # of variants that are pictures of objects


def open_dataset(name: str, root: Path, *, crops: int | None = None, others: bool = False, **options: Any) -> PointCloudDataset:
    """Open the labelled objects of a data set by `manifest/variant/split`, e.g. `modelnet10/off/test` or `shapenet/pc/train:val`.

    Args:
        name: The data set.
        root: The data root.
        crops, others: Of objects that are cut out of scenes, see `NuScenesObjects`; other data sets have no pictures and no other objects.
        options: See `PointCloudDataset`.

    Raises:
        InputError: If the name has another form or one of its parts is unknown.
        DataNotFoundError: If it is not below `root`.
    """
    manifest, variant, split = _parts(name)
    if manifest.reader not in READERS:
        raise InputError(f"{manifest.name} is read by {manifest.reader!r}, which is not known; known are {', '.join(READERS)}.")
    if manifest.reader in FRAME_READERS:
        options |= {"crops": crops, "others": others}
    return READERS[manifest.reader](manifest, root=root, variant=variant, split=split, **options)


def open_frames(name: str, root: Path, *, sweeps: int = 1, depth: str = "raw", cache: Path | None = None) -> FrameDataset:
    """Open the frames of a data set by `manifest/variant/split`, e.g. `nuscenes/v1.0-mini/mini_train` or `sunrgbd/objects10/train:fit`.

    Args:
        name: The data set.
        root: The data root.
        sweeps: LiDAR sweeps that a frame's points are collected from, see `NuScenesFrames`.
        depth: Which depth of RGB-D frames, see `SunRgbdFrames`.
        cache: Where tables are kept, see `NuScenesFrames`.

    Raises:
        InputError: If the name has another form, one of its parts is unknown, or the data set has no frames.
        DataNotFoundError: If it is not below `root`.
    """
    manifest, variant, split = _parts(name)
    if manifest.reader == "nuscenes":
        return NuScenesFrames(manifest, root=root, variant=variant, split=split, sweeps=sweeps, cache=cache)
    if manifest.reader == "sunrgbd":
        return SunRgbdFrames(manifest, root=root, variant=variant, split=split, depth=depth)
    raise InputError(f"{manifest.name} has single objects and no frames; frames come from {', '.join(FRAME_READERS)}.")


def _parts(name: str) -> tuple[Manifest, str, str]:
    """Take the name of a data set apart: its manifest, by name or by the path of a YAML file, the variant and the split."""
    parts = name.rsplit("/", 2)
    if len(parts) != 3 or ("/" in parts[0] and not parts[0].endswith((".yaml", ".yml"))):
        raise InputError(f"{name!r} is no data set: write manifest/variant/split, e.g. modelnet10/off/test.")
    return load_manifest(parts[0]), parts[1], parts[2]
