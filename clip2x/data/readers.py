"""Which class reads which data set, and how a data set is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clip2x.data.base import PointCloudDataset
from clip2x.data.frames import FrameDataset
from clip2x.data.modelnet import ModelNet
from clip2x.data.nuscenes.reader import NuScenesFrames, NuScenesObjects
from clip2x.data.scanobjectnn import ScanObjectNN
from clip2x.data.shapenet import ShapeNet
from clip2x.data.shapenet_pairs import ShapeNetViews
from clip2x.data.sunrgbd.reader import SunRgbdFrames, SunRgbdObjects
from clip2x.errors import InputError
from clip2x.manifest import load_manifest

READERS: dict[str, type[PointCloudDataset]] = {
    "modelnet": ModelNet, "shapenet": ShapeNet, "scanobjectnn": ScanObjectNN, "nuscenes": NuScenesObjects, "sunrgbd": SunRgbdObjects,
}
FRAME_READERS: dict[str, type[FrameDataset]] = {"nuscenes": NuScenesFrames, "sunrgbd": SunRgbdFrames}
VIEW_READERS: dict[str, type[ShapeNetViews]] = {"shapenet": ShapeNetViews}  # of variants that are pictures of objects


def open_dataset(name: str, root: Path, **options: Any) -> PointCloudDataset:
    """Open the labelled objects of a data set by `manifest/variant/split`, e.g. `modelnet10/off/test` or `shapenet/pc/train:val`.

    Raises:
        InputError: If the name has another form or one of its parts is unknown.
        DataNotFoundError: If it is not below `root`.
    """
    parts = name.split("/")
    if len(parts) != 3:
        raise InputError(f"{name!r} is no data set: write manifest/variant/split, e.g. modelnet10/off/test.")
    manifest = load_manifest(parts[0])
    if manifest.reader not in READERS:
        raise InputError(f"{parts[0]} is read by {manifest.reader!r}, which is not known; known are {', '.join(READERS)}.")
    return READERS[manifest.reader](manifest, root=root, variant=parts[1], split=parts[2], **options)
