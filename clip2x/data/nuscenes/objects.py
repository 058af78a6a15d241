"""nuScenes: the objects that annotated boxes cut out of the LiDAR points of key frames, with their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.data.base import PointCloudDataset
from clip2x.data.entries import Entry, EntryTable
from clip2x.data.frames import ObjectPictures, crop_box, object_details
from clip2x.data.nuscenes.reader import NuScenesFrames
from clip2x.errors import InputError
from clip2x.geometry import points_in_box
from clip2x.manifest import Manifest
from clip2x.types import ObjectDetails, SceneFrame


class NuScenesObjects(PointCloudDataset):
    """Objects of nuScenes, cut out of the LiDAR points of key frames by their annotated boxes: no enlargement, no heading, upright frame.

    An object's key is the token of its annotation, its group the scene. Objects come in the order of the frames.
    """

    def __init__(self, manifest: Manifest | str = "nuscenes", *, root: Path, variant: str | None = None, split: str, num_points: int = 1024,
                 seed: int = 0, up: str | None = None, limit: int | None = None, sampler: str = "random", shots: int | None = None,
                 min_points: int | None = None, crops: int | None = None, others: bool = False, cache: Path | None = None) -> None:
        """Find the objects of a split.

        Args:
            manifest: `nuscenes` or a manifest of the same format.
            root: See `PointCloudDataset`, as for the arguments that are not listed here.
            variant: Version of the tables and classes.
            split, num_points, seed, up, limit, sampler, shots: See there.
            min_points: Objects with fewer annotated points (num_lidar_pts) are left out; the manifest's number if not given.
            crops: Side in pixels of the pictures of the objects, which then come with them (`ObjectDetails.image`): of the camera that sees
                most of the object's points. None reads no pictures.
            others: Give also the objects of none of the classes, with label -1, see `Manifest.is_other`.
            cache: See `open_tables`.

        Raises:
            InputError, DataNotFoundError, BadFileError: See there and `NuScenesFrames`.
        """
        if min_points is not None and min_points < 1:
            raise InputError(f"min_points must be at least 1 or left out, got {min_points}.")
        self.min_points, self.others, self._cache = min_points, others, cache
        self.pictures = None if crops is None else ObjectPictures(crops)
        self._last: tuple[int, SceneFrame] | None = None
        super().__init__(manifest, root=root, variant=variant, split=split, num_points=num_points, seed=seed, up=up, limit=limit,
                         sampler=sampler, shots=shots)

    def index(self, split: str) -> EntryTable:
        """List the objects of the variant's classes (and others, where asked for) with enough points."""
        self.frames = frames = NuScenesFrames(self.manifest, root=self.root, variant=self.variant_name, split=split, cache=self._cache)
        self.notes += frames.notes
        least = self.variant.min_points if self.min_points is None else self.min_points
        rows, small = frames.objects(least, self.others)
        if small:
            self.notes.append(f"{small:,} objects of {split} have fewer than {least} points and are left out.")
        tables = frames.tables
        scenes = tables["sample.scene_token"][tables["sample_annotation.sample_token"][rows]]
        return EntryTable.from_arrays(_hex(tables["sample_annotation.token"][rows]), frames.labels_of(rows), scenes, tables.texts("scene.name"))

    def load(self, entry: Entry, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
        """Cut one object out of its frame."""
        annotation = self.frames.tables.row("sample_annotation", entry.key)
        slot = self.frames.slot_of(annotation)
        return crop_box(self._frame(slot), self.frames.object_box(annotation), self.frames.point_file(slot))

    def details(self, entry: Entry) -> ObjectDetails:
        """Count the object's points, measure its distance, cut it out of its picture."""
        annotation = self.frames.tables.row("sample_annotation", entry.key)
        frame, box = self._frame(self.frames.slot_of(annotation)), self.frames.object_box(annotation)
        inside = frame.points[points_in_box(frame.points, box.centre, box.size, box.points_from_box)]
        if self.pictures is None:
            return object_details(box, len(inside), None, None)
        return object_details(box, len(inside), self.pictures.crop(box, inside, frame.cameras), self.pictures.size)

    def _frame(self, slot: int) -> SceneFrame:
        """Read a frame; the last one is kept, since its objects are often asked for one after the other."""
        if self._last is None or self._last[0] != slot:
            self._last = slot, self.frames.solid(slot) if self.pictures is None else self.frames.view(slot)
        return self._last[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last frame behind when the data set is sent to another process."""
        return {**self.__dict__, "_last": None}


def _hex(tokens: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Write tokens (N, 16) in hexadecimal digits, (N, 32) ASCII."""
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    return np.stack([digits[tokens >> 4], digits[tokens & 15]], axis=-1).reshape(len(tokens), 32)
