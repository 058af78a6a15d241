"""One file of a triplet store: whole frames of triplets in HDF5, written at once and never changed; how it is written and read.

Every data set of the file is contiguous and not compressed, so a triplet is read from its place in the file without the HDF5 library: any number
of processes, forked or spawned, read side by side, and a read takes no more than its own bytes.

| data set | content of a file with T triplets of F frames |
|---|---|
| `points` (P, 3) float32, `point_offsets` (T + 1,) int64 | triplet t has the rows `point_offsets[t]` to `point_offsets[t + 1]`; see `Triplet` |
| `crops` (B,) uint8, `crop_offsets` (T + 1,) int64 | the bytes of the JPEG files, in the same way |
| `text_id`, `score`, `box_px`, `camera`, `frame` (T, ...) | see `Triplet`; `camera` is a row of `camera_names`, `frame` one of `frame_names` |
| `frame_names` (F,), `frame_offsets` (F + 1,) int64 | tokens of the frames, sorted by data set and token; which triplets are theirs, in their order |
| `frame_data`, `frame_scene` (F,) int32, `frame_rules` (F, R) int64 | rows of `data_names` and `scene_names`; counters with the names `rule_names` |

Texts are UTF-8 of fixed length, filled up with zero bytes. Attributes: `schema` = "clip2x-triplets", `version` = 1.
"""

from __future__ import annotations

import math
import os
import resource
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from clip2x.data.formats.hdf5 import BROKEN_HDF5
from clip2x.errors import BadFileError
from clip2x.storage import atomic_path
from clip2x.types import FrameTriplets, Triplet
from clip2x.untrusted import bare, excerpt

SCHEMA, VERSION = "clip2x-triplets", 1
REMEDY = "bring it back from a copy, or delete it and the .json file beside it, and run the collection again (it makes only what is missing)"
COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {  # type of the numbers, and shape of a row where it is more than one number
    "points": ("<f4", (3,)), "point_offsets": ("<i8", ()), "crops": ("u1", ()), "crop_offsets": ("<i8", ()), "text_id": ("<i4", ()),
    "score": ("<f4", ()), "box_px": ("<f4", (4,)), "camera": ("<i4", ()), "frame": ("<i4", ()), "frame_offsets": ("<i8", ()),
    "frame_data": ("<i4", ()), "frame_scene": ("<i4", ()), "frame_rules": ("<i8", ())}
TEXTS = ("frame_names", "data_names", "scene_names", "camera_names", "rule_names")


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that it is whole or not there, after a power cut too: content and name are on the disk when this returns.

    Raises:
        OSError: If that fails; nothing is left behind then.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk; file systems that cannot do this for folders are left alone."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def frame_key(frame: FrameTriplets) -> tuple[bytes, bytes]:
    """Say where a frame comes in the order of a store: by data set, then token, both compared as bytes."""
    return encoded(frame.data), encoded(frame.frame)


def encoded(text: str) -> bytes:
    """Write a text as bytes; names of files that are no UTF-8 survive."""
    return text.encode("utf-8", "surrogateescape")


def decoded(text: bytes) -> str:
    """Read what `encoded` wrote."""
    return text.decode("utf-8", "surrogateescape")


def shard_content(frames: Sequence[FrameTriplets]) -> bytes:
    """Put frames into the bytes of a file; the same frames in any order give the same bytes (with the same HDF5 library)."""
    ordered = sorted(frames, key=frame_key)
    triplets = [triplet for frame in ordered for triplet in frame.triplets]
    texts = {"data_names": {frame.data for frame in ordered}, "scene_names": {frame.scene for frame in ordered},
             "camera_names": {triplet.camera for triplet in triplets}, "rule_names": {rule for frame in ordered for rule in frame.rules}}
    names = {name: sorted(map(encoded, values)) for name, values in texts.items()}
    row = {name: {text: number for number, text in enumerate(values)} for name, values in names.items()}
    counts = [len(frame.triplets) for frame in ordered]
    columns: dict[str, Any] = {
        "points": np.concatenate([np.zeros((0, 3), np.float32), *(triplet.points for triplet in triplets)]),
        "point_offsets": np.cumsum([0, *(len(triplet.points) for triplet in triplets)]),
        "crops": np.frombuffer(b"".join(triplet.crop for triplet in triplets), np.uint8),
        "crop_offsets": np.cumsum([0, *(len(triplet.crop) for triplet in triplets)]),
        "text_id": [triplet.text_id for triplet in triplets],
        "score": [triplet.score for triplet in triplets],
        "box_px": np.concatenate([np.zeros((0, 4), np.float32), *(np.asarray(triplet.box_px)[None] for triplet in triplets)]),
        "camera": [row["camera_names"][encoded(triplet.camera)] for triplet in triplets],
        "frame": np.repeat(np.arange(len(ordered)), counts),
        "frame_offsets": np.cumsum([0, *counts]),
        "frame_data": [row["data_names"][encoded(frame.data)] for frame in ordered],
        "frame_scene": [row["scene_names"][encoded(frame.scene)] for frame in ordered],
        "frame_rules": np.array([[frame.rules.get(decoded(rule), 0) for rule in names["rule_names"]] for frame in ordered]).reshape(
            len(ordered), len(names["rule_names"])),
    }
    names["frame_names"] = [encoded(frame.frame) for frame in ordered]
    # In memory, so that a full disk is met by the one write of the whole content and never by the HDF5 library half-way through.
    with h5py.File(uuid.uuid4().hex, "w", driver="core", backing_store=False) as file:
        file.attrs["schema"], file.attrs["version"] = SCHEMA, VERSION
        for name, (number, _) in COLUMNS.items():
            file.create_dataset(name, data=np.asarray(columns[name], dtype=number))
        for name in TEXTS:
            kind = h5py.string_dtype("utf-8", max([1, *map(len, names[name])]))
            file.create_dataset(name, data=np.array(names[name], dtype=f"S{kind.itemsize}").astype(kind))
        file.flush()
        content: bytes = file.id.get_file_image()
    return content


class OpenFiles:
    """Read pieces of files at given places, in as many processes as there are: what is open stays in the process that opened it.

    Some files stay open (a quarter of what the process may have open), further ones are opened for each read.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._handles: dict[Path, int] = {}
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._limit = 1024 if soft == resource.RLIM_INFINITY else min(soft // 4, 1024)

    def read(self, path: Path, place: int, kind: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Read an array from a place in a file.

        Raises:
            BadFileError: If the file is gone, cannot be read or is too short.
        """
        values = np.empty(shape, dtype=kind)
        if not values.size:
            return values
        if self._process != os.getpid():
            self.close()
            self._process = os.getpid()
        try:
            handle = self._handles.get(path)
            kept = handle is not None
            if handle is None:
                handle = os.open(path, os.O_RDONLY)
                if len(self._handles) < self._limit:
                    kept = self._handles.setdefault(path, handle) == handle  # another thread may have been first
            try:
                done = _read_into(handle, values.reshape(-1).view(np.uint8), place)
            finally:
                if not kept:
                    os.close(handle)
        except OSError as error:
            raise BadFileError(f"{path}: cannot be read ({error.strerror or error}); {REMEDY}.") from error
        if done < values.nbytes:
            raise BadFileError(f"{path}: ends {values.nbytes - done:,} bytes before the end of what was asked for, so it is truncated; {REMEDY}.")
        return values

    def close(self) -> None:
        """Close everything; a later read opens again."""
        while self._handles:
            with suppress(OSError):
                os.close(self._handles.popitem()[1])

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: another process opens its own."""
        return {**self.__dict__, "_handles": {}}

    def __del__(self) -> None:
        if hasattr(self, "_handles"):
            self.close()


def _read_into(handle: int, target: NDArray[np.uint8], place: int) -> int:
    """Read until `target` is full or the file ends; the number of bytes."""
    done = 0
    while done < len(target):
        count = os.preadv(handle, [target[done:].data], place + done)
        if count == 0:
            break
        done += count
    return done


class Shard:
    """One file of triplets, opened for reading: nothing is kept but where its data sets lie.

    Attributes:
        num_triplets, num_frames: T and F.
    """

    def __init__(self, path: Path, files: OpenFiles | None = None) -> None:
        """Find the data sets.

        Raises:
            BadFileError: If it is no whole file of triplets, or one of another version.
        """
        self.path, self._files = path, files or OpenFiles()
        try:
            with h5py.File(path, "r", locking=False) as file:
                schema, version = file.attrs.get("schema"), file.attrs.get("version")
                if not isinstance(schema, str) or schema != SCHEMA:
                    raise BadFileError(f"{path}: an HDF5 file, but no triplets of clip2x (its attribute `schema` is {excerpt(schema)}, not "
                                       f"{SCHEMA!r}).")
                if not isinstance(version, np.integer) or version != VERSION:
                    raise BadFileError(f"{path}: {wrong_version(version)}")
                self._places = {name: _place(file, name) for name in (*COLUMNS, *TEXTS)}
            size = path.stat().st_size
        except FileNotFoundError:
            raise BadFileError(f"{path}: a file of the store is missing; {REMEDY}.") from None
        except BadFileError:
            raise
        except BROKEN_HDF5 as error:
            raise BadFileError(f"{path}: damaged or truncated ({' '.join(str(error).split())[:160]}); {REMEDY}.") from error
        self.num_triplets, self.num_frames = len(self), self.length("frame_names")
        lengths = {"points": None, "crops": None, "point_offsets": self.num_triplets + 1, "crop_offsets": self.num_triplets + 1,
                   "frame_offsets": self.num_frames + 1}
        for name, (kind, row) in COLUMNS.items():
            _, found, shape = self._places[name]
            expected = lengths.get(name, self.num_frames if name.startswith("frame_") else self.num_triplets)
            if found != np.dtype(kind) or (name != "frame_rules" and shape[1:] != row) or expected not in (None, shape[0]):
                raise BadFileError(f"{path}: data set {name} has {found} {shape}, which is not what this version writes; {REMEDY}.")
        for name, (place, found, shape) in self._places.items():
            if name in TEXTS and (found.kind != "S" or len(shape) != 1):
                raise BadFileError(f"{path}: data set {name} has {found} {shape}, which is not what this version writes; {REMEDY}.")
            if place + found.itemsize * math.prod(shape) > size:
                raise BadFileError(f"{path}: truncated, data set {name} would end at byte {place + found.itemsize * math.prod(shape):,} of {size:,}; "
                                   f"{REMEDY}.")

    def __len__(self) -> int:
        """Count the triplets."""
        return self.length("text_id")

    def length(self, name: str) -> int:
        """Count the rows of a data set."""
        return self._places[name][2][0]

    def rows(self, name: str, first: int = 0, last: int | None = None) -> NDArray[Any]:
        """Read rows of a data set, all if no bounds are given.

        Raises:
            BadFileError: If it has no such rows, which comes of damaged offsets; or see `OpenFiles.read`.
        """
        place, kind, shape = self._places[name]
        last = shape[0] if last is None else last
        if not 0 <= first <= last <= shape[0]:
            raise BadFileError(f"{self.path}: damaged, its offsets lead to rows {first} to {last} of {name}, which has {shape[0]:,}; {REMEDY}.")
        row = kind.itemsize * math.prod(shape[1:])
        return self._files.read(self.path, place + first * row, kind, (last - first, *shape[1:]))

    def texts(self, name: str) -> list[str]:
        """Read a table of texts."""
        return [decoded(text) for text in self.rows(name).tolist()]

    def numbers(self, name: str, table: str, first: int = 0, last: int | None = None) -> NDArray[Any]:
        """Read rows of a column of numbers of a table's texts.

        Raises:
            BadFileError: If one is the number of none; or see `rows`.
        """
        found = self.rows(name, first, last)
        if found.size and not 0 <= int(found.min()) <= int(found.max()) < self.length(table):
            raise BadFileError(f"{self.path}: damaged, {name} goes from {found.min()} to {found.max()}, {table} has {self.length(table):,}; "
                               f"{REMEDY}.")
        return found

    def offsets(self, name: str, first: int = 0, last: int | None = None) -> NDArray[np.int64]:
        """Read rows of a column of offsets.

        Raises:
            BadFileError: If they do not rise; or see `rows`.
        """
        found = self.rows(name, first, last)
        if (found[1:] < found[:-1]).any():
            raise BadFileError(f"{self.path}: damaged, {name} do not rise; {REMEDY}.")
        return found

    def points(self, row: int) -> NDArray[np.float32]:
        """Read the points of a triplet."""
        return self.rows("points", *self.rows("point_offsets", row, row + 2).tolist())

    def crop(self, row: int) -> bytes:
        """Read the crop of a triplet, empty where it was not kept."""
        return self.rows("crops", *self.rows("crop_offsets", row, row + 2).tolist()).tobytes()

    def triplet(self, row: int) -> Triplet:
        """Read a triplet."""
        return self.triplets(row, row + 1)[0]

    def triplets(self, first: int, last: int) -> tuple[Triplet, ...]:
        """Read neighbouring triplets, each data set at once."""
        begin, cut = (self.offsets(name, first, last + 1).tolist() for name in ("point_offsets", "crop_offsets"))
        points, crops = self.rows("points", begin[0], begin[-1]), self.rows("crops", cut[0], cut[-1]).tobytes()
        text_ids, scores = (self.rows(name, first, last).tolist() for name in ("text_id", "score"))
        cameras = self.numbers("camera", "camera_names", first, last).tolist()
        boxes, names = self.rows("box_px", first, last), self.texts("camera_names")
        return tuple(
            Triplet(points=points[begin[row] - begin[0] : begin[row + 1] - begin[0]], text_id=text_ids[row], score=scores[row], box_px=boxes[row],
                    camera=names[cameras[row]], crop=crops[cut[row] - cut[0] : cut[row + 1] - cut[0]]) for row in range(last - first))

    def frame(self, row: int) -> FrameTriplets:
        """Read a frame."""
        first, last = self.rows("frame_offsets", row, row + 2).tolist()
        counts = zip(self.texts("rule_names"), self.rows("frame_rules", row, row + 1)[0].tolist(), strict=True)
        data, scene = (self.texts(table)[int(self.numbers(column, table, row, row + 1)[0])]
                       for table, column in (("data_names", "frame_data"), ("scene_names", "frame_scene")))
        return FrameTriplets(data, decoded(self.rows("frame_names", row, row + 1).tolist()[0]), scene,
                             self.triplets(first, last), Counter({rule: count for rule, count in counts if count}))

    def frame_keys(self) -> list[tuple[str, str]]:
        """List the frames: data set and token."""
        data = self.texts("data_names")
        return [(data[number], name) for number, name in zip(self.numbers("frame_data", "data_names").tolist(), self.texts("frame_names"),
                                                             strict=True)]


def wrong_version(version: object) -> str:
    """Say what to do about a file of another schema version."""
    plain = version.item() if isinstance(version, np.generic) else version
    return f"is of schema version {bare(plain)}, this clip2x reads version {VERSION}; use the clip2x that wrote it, or collect the store anew."


def _place(file: h5py.File, name: str) -> tuple[int, np.dtype[Any], tuple[int, ...]]:
    """Say where a data set lies in its file, and of what type and shape it is.

    Raises:
        KeyError: If there is none in this file, or it does not lie open there.
    """
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise KeyError(f"data set {name} is a link to another place")
    data = h5py.h5d.open(file.id, name.encode())
    kind, shape, offset = np.dtype(data.dtype.str), data.shape, data.get_offset()  # the type without h5py's notes on the encoding
    if not shape or kind.hasobject:
        raise KeyError(f"data set {name} is no table of plain values")
    if offset is None and 0 not in shape:
        raise KeyError(f"data set {name} is not contiguous")
    return offset or 0, kind, shape
