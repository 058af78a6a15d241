"""How many points every annotated box of SUN RGB-D holds: counted once, kept in the cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from clip2x.data.files import BROKEN_ARRAY
from clip2x.data.sunrgbd.annotations import BOXES_3D, floor_boxes
from clip2x.data.sunrgbd.files import first_file
from clip2x.errors import BadFileError, DataNotFoundError
from clip2x.geometry import points_in_box
from clip2x.storage import atomic_path
from clip2x.types import SceneFrame

VERSION = 1  # raise it when a change alters points, boxes or names
COLUMNS = ("tokens", "signatures", "ends", "positions", "counts", "name_ids", "names")

Signature = tuple[int, ...]


class CountedBox(NamedTuple):
    """A box of a frame: its position in the file's list, its name, its points (-1 where the frame's points cannot be read)."""

    position: int
    name: str
    num_points: int


class ObjectIndex:
    """The boxes of frames with their numbers of points.

    A stored frame is used again while size and time of its four files (3-D boxes, intrinsics, depth, extrinsics) are the same. Frames that
    cannot be read are not stored. The file appears whole or not at all, so processes may share it; a damaged one is made again.

    Args:
        folder: The data set's folder.
        depth_folder: Which depth the points come from.
    """

    def __init__(self, folder: Path, depth_folder: str) -> None:
        self.folder, self.depth_folder = folder, depth_folder
        self.notes: list[str] = []

    def signature(self, token: str) -> Signature:
        """Tell size and time of change (nanoseconds) of the four files that a frame's objects come from; -1 for one that is not seen."""
        frame = self.folder / token
        files = (frame / BOXES_3D, frame / "intrinsics.txt", _first_readable(frame / self.depth_folder, ".png"),
                 _first_readable(frame / "extrinsics", ".txt", last=True))
        values: list[int] = []
        for file in files:
            try:
                status = None if file is None else file.stat()
            except OSError:
                status = None
            values += [-1, -1] if status is None else [status.st_size, status.st_mtime_ns]
        return tuple(values)

    def count(self, tokens: Sequence[str], read: Callable[[str], SceneFrame], split: str, cache: Path | None) -> dict[str, list[CountedBox]]:
        """Count the points in all boxes of frames, or take the counts from the cache.

        Args:
            tokens: The frames.
            read: Reads points and 3-D boxes of one.
            split: Their split; each has a file of its own in the cache.
            cache: The folder; None to count without.

        Returns:
            The boxes of every frame, in the files' order. Of a frame whose points cannot be read, names only (and a note).

        Raises:
            BadFileError: If the 3-D boxes of a frame cannot be read. The other frames are stored first.
        """
        digest = hashlib.sha256(repr((VERSION, str(self.folder.resolve()), self.depth_folder, split)).encode("utf-8", "backslashreplace")).hexdigest()
        file = None if cache is None else cache / f"{digest[:32]}.npz"
        stored = {} if file is None else _load(file)
        signatures = {token: self.signature(token) for token in tokens}
        good = {token: stored[token] for token in tokens if token in stored and stored[token][0] == signatures[token]}
        todo = [token for token in tokens if token not in good]
        unread: dict[str, list[CountedBox]] = {}
        reasons: list[str] = []
        without_boxes: list[str] = []
        for token in tqdm(todo, desc=f"SUN RGB-D {split}: points in boxes", unit="frame", leave=False, disable=True if len(todo) < 100 else None):
            try:
                good[token] = signatures[token], _counted(read(token))
            except (BadFileError, DataNotFoundError) as error:
                reasons.append(str(error))
                try:
                    unread[token] = [CountedBox(box.position, box.name, -1) for box in floor_boxes(self.folder / token / BOXES_3D)[0]]
                except DataNotFoundError:
                    unread[token] = []
                except BadFileError as broken:
                    without_boxes.append(str(broken))
        if file is not None and todo:
            self._store(file, {token: good[token] for token in tokens if token in good})
        if without_boxes:
            raise BadFileError(f"{without_boxes[0]} It is one of {len(without_boxes):,} frames of {split} whose 3-D boxes cannot be read: "
                               "unpack them again, or remove their folders to do without.")
        if reasons:
            self.notes.append(f"{len(reasons):,} of {len(tokens):,} frames cannot be read; their objects raise when they are asked for. "
                              f"The first: {reasons[0]}")
        unboxed = [token for token in tokens if signatures[token][0] < 0]
        if unboxed:
            self.notes.append(f"{len(unboxed):,} frames have no {BOXES_3D} and hence no objects, first {unboxed[0]}.")
        return {token: good[token][1] if token in good else unread[token] for token in tokens}

    def _store(self, file: Path, rows: dict[str, tuple[Signature, list[CountedBox]]]) -> None:
        boxes = [box for _, frame in rows.values() for box in frame]
        names = {name: number for number, name in enumerate(sorted({box.name for box in boxes}))}
        try:
            with atomic_path(file) as temporary:
                np.savez_compressed(
                    temporary, allow_pickle=False, tokens=np.array(list(rows)), names=np.array(list(names) or [""]),
                    signatures=np.array([signature for signature, _ in rows.values()], dtype=np.int64).reshape(-1, 8),
                    ends=np.cumsum([len(frame) for _, frame in rows.values()], dtype=np.int64),
                    positions=np.array([box.position for box in boxes], dtype=np.int32),
                    counts=np.array([box.num_points for box in boxes], dtype=np.int32),
                    name_ids=np.array([names[box.name] for box in boxes], dtype=np.int32))
        except OSError as error:
            self.notes.append(f"point counts are not kept in {file.parent} ({error.strerror or error}): the next start counts again.")


def _first_readable(folder: Path, suffix: str, *, last: bool = False) -> Path | None:
    """Find a file as `first_file` does; None also for a folder that cannot be read (reading the frame says so)."""
    try:
        return first_file(folder, suffix, last=last)
    except BadFileError:
        return None


def _counted(frame: SceneFrame) -> list[CountedBox]:
    """Count the points in every box; a box's range along the axes leaves out most of them before the exact test."""
    axes = np.ascontiguousarray(frame.points.T)
    found = []
    for box in frame.boxes:
        reach = np.abs(box.points_from_box) @ box.size / 2 + 1e-3
        near: NDArray[np.bool_] = np.ones(len(frame.points), dtype=bool)
        for axis, centre, half in zip(axes, box.centre.tolist(), reach.tolist(), strict=True):
            near &= (axis >= centre - half) & (axis <= centre + half)
        inside = points_in_box(frame.points[near], box.centre, box.size, box.points_from_box)
        found.append(CountedBox(int(box.token.rpartition("#")[2]), box.name, int(inside.sum())))
    return found


def _load(file: Path) -> dict[str, tuple[Signature, list[CountedBox]]]:
    """Read stored counts; nothing where there is no file or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            tokens, signatures, ends, positions, counts, name_ids, names = (arrays[column].tolist() for column in COLUMNS)
        boxes = [CountedBox(position, names[name], number) for position, name, number in zip(positions, name_ids, counts, strict=True)]
        starts = [0, *ends[:-1]]
        return {token: (tuple(signature), boxes[start:end])
                for token, signature, start, end in zip(tokens, signatures, starts, ends, strict=True)}
    except (*BROKEN_ARRAY, AttributeError, IndexError):
        return {}
