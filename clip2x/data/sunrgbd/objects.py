"""SUN RGB-D: the objects that 3-D boxes cut out of RGB-D frames, with their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.data.cache import SampledPoints, cache_folder, sample_cache
from clip2x.data.entries import Entry
from clip2x.data.frames import ObjectPictures, crop_box, object_details
from clip2x.data.sunrgbd.annotations import BOXES_3D
from clip2x.data.sunrgbd.files import scene_of
from clip2x.data.sunrgbd.index import VERSION, ObjectIndex
from clip2x.data.sunrgbd.reader import DEPTH_FOLDERS, SunRgbdFrames
from clip2x.errors import BadFileError, InputError
from clip2x.manifest import Manifest
from clip2x.types import Box3D, ObjectDetails, SceneFrame


class SunRgbdObjects(SampledPoints):
    """Objects of SUN RGB-D, cut out of the points of a frame by their annotated boxes: no enlargement, no heading, upright frame.

    The group of an object is its frame's scene. How many points each box holds is counted once (some minutes for all frames) and kept in
    the cache folder, as are the points drawn from each object; a frame whose files change is counted again at the next start.
    """

    def __init__(self, manifest: Manifest | str = "sunrgbd", *, root: Path, variant: str | None = None, split: str, num_points: int = 1024,
                 seed: int = 0, up: str | None = None, limit: int | None = None, sampler: str = "random", shots: int | None = None,
                 min_points: int | None = None, crops: int | None = None, others: bool = False, depth: str = "raw",
                 cache: Path | None = None) -> None:
        """Find the objects of a split.

        Args:
            manifest: `sunrgbd` or a manifest of the same format.
            root: See `PointCloudDataset`, as for the arguments that are not listed here.
            variant: `objects10` or `objects37`.
            split, num_points, seed, up, limit, sampler, shots: See there.
            min_points: Objects with fewer points are left out; the manifest's number if not given.
            crops: Side in pixels of the pictures of the objects, which then come with them (`ObjectDetails.image`). None reads no pictures.
            others: Give also the objects of none of the classes, with label -1, see `Manifest.is_other`.
            depth: See `SunRgbdFrames`.
            cache: Folder for counts and points, made when it is first needed; `~/.cache/clip2x` if not given. It may be deleted at any time.

        Raises:
            InputError, DataNotFoundError: See there.
            BadFileError: If a list or the 3-D boxes of a frame cannot be read. A frame whose points cannot be read keeps its objects; they
                raise when they are asked for.
        """
        if min_points is not None and min_points < 1:
            raise InputError(f"min_points must be at least 1 or left out, got {min_points}.")
        self.min_points, self.depth, self.others = min_points, depth, others
        self.pictures = None if crops is None else ObjectPictures(crops)
        self.cache_folder = cache_folder(cache)
        self.cache = sample_cache(cache)
        self._last: SceneFrame | None = None
        self._last_view: SceneFrame | None = None
        super().__init__(manifest, root=root, variant=variant, split=split, num_points=num_points, seed=seed, up=up, limit=limit,
                         sampler=sampler, shots=shots)

    def index(self, split: str) -> list[Entry]:
        """List the objects of the variant's classes with enough points."""
        self.frames = SunRgbdFrames(self.manifest, root=self.root, variant=self.variant_name, split=split, depth=self.depth)
        self.notes += self.frames.notes
        table = ObjectIndex(self.folder, DEPTH_FOLDERS[self.depth])
        cache = None if self.cache_folder is None else self.cache_folder / "sunrgbd"
        boxes_of_frames = table.count(self.frames.tokens, lambda token: self.frames.solid(token)[0], split, cache)
        self.notes += table.notes
        least = self.variant.min_points if self.min_points is None else self.min_points
        names = {box.name for boxes in boxes_of_frames.values() for box in boxes}
        wanted = {name for name in names if self.frames.label(name) >= 0 or (self.others and self.manifest.is_other(self.variant_name, name))}
        entries, small = [], 0
        self._counts: dict[str, int] = {}
        for token, boxes in boxes_of_frames.items():
            for box in boxes:
                if box.name in wanted and 0 <= box.num_points < least:
                    small += 1
                elif box.name in wanted:
                    entries.append(Entry(f"{token}#{box.position}", self.frames.label(box.name), scene_of(token)))
                    self._counts[entries[-1].key] = box.num_points
        if small:
            self.notes.append(f"{small:,} objects of {split} have fewer than {least} points and are left out.")
        return entries

    def load(self, entry: Entry, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
        """Cut one object out of its frame; the last frame is kept, since its objects are often asked for one after the other."""
        token, _, _ = entry.key.rpartition("#")
        if self._last is None or self._last.token != token:
            self._last = self.frames.solid(token)[0]
        return crop_box(self._last, self._box(self._last, entry.key), self.folder / token / BOXES_3D)

    def details(self, entry: Entry) -> ObjectDetails:
        """Count the object's points, measure its distance, cut it out of the picture; no depth is read (points may come from the cache)."""
        token, _, _ = entry.key.rpartition("#")
        if self._last_view is None or self._last_view.token != token:
            self._last_view = self.frames.view(token)
        view, box = self._last_view, self._box(self._last_view, entry.key)
        if self.pictures is None:
            return object_details(box, self._counts[entry.key], None, None)
        return object_details(box, self._counts[entry.key], self.pictures.crop(box, view.points, view.cameras), self.pictures.size)

    def _box(self, frame: SceneFrame, key: str) -> Box3D:
        """Find the box of an object."""
        for box in frame.boxes:
            if box.token == key:
                return box
        raise BadFileError(f"{self.folder / frame.token / BOXES_3D}: object {key.rpartition('#')[2]} is gone; the file was replaced.")

    def source_of(self, entry: Entry) -> tuple[Path, tuple[str | int, ...]]:
        """Name the boxes' file; the points depend on the state of all files of the frame."""
        token = entry.key.rpartition("#")[0]
        signature = ObjectIndex(self.folder, DEPTH_FOLDERS[self.depth]).signature(token)
        return self.folder / token / BOXES_3D, (*signature, entry.key, VERSION)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last frame behind when the data set is sent to another process."""
        return {**self.__dict__, "_last": None, "_last_view": None}
