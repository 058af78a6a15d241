"""Read a triplet store: random access to triplets and frames, columns without points, comparison with the hashes it was written with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from clip2x.data.images import read_image, square_picture
from clip2x.data.triplets.index import COLLECTION, INDEX, PENDING, check_vocabulary, concept_names, read_index
from clip2x.data.triplets.shard import REMEDY, OpenFiles, Shard, decoded
from clip2x.errors import BadFileError, InputError
from clip2x.storage import sha256_of_file
from clip2x.types import FrameTriplets, Triplet
from clip2x.untrusted import excerpt, guarded, require_below, require_file_name


class TripletStore:
    """The triplets of a finished store, or those that were in shards when a growing one was opened.

    Triplets are ordered by data set, frame token (both compared as bytes) and position within the frame, whatever process wrote which shard.
    Objects may be sent to other processes, forked or spawned; each opens the files that it reads.

    Attributes:
        index: `index.json` as it was.
        class_names: First name of each concept of the vocabulary; empty where the store does not state them.
        complete: Whether the collection had come to its end.
        num_frames: Frames, those without triplets too.
    """

    def __init__(self, folder: Path) -> None:
        """Read the index and the tables of frames; no points, no column of triplets.

        Raises:
            DataNotFoundError: If there is no store.
            BadFileError: If the index or a shard is missing, damaged, truncated or of another version.
        """
        self.folder = Path(folder)
        self.index: dict[str, Any] = read_index(self.folder)
        try:
            listed = guarded(self._checked_index)
        except ValueError as error:
            raise BadFileError(f"{self.folder / INDEX}: damaged ({error}); run the same collection again: it writes the index anew and makes only "
                               "what is missing.") from error
        self._files = OpenFiles()
        self._shards = [_opened(path, size, count, self._files) for path, size, count in listed]
        self._order_frames()
        self._files.close()  # nothing that is open goes to processes that are forked from this one

    def _checked_index(self) -> list[tuple[Path, int, int]]:
        """Take the index apart as far as it is used later; gives file, bytes and triplets of every shard."""
        index = self.index
        check_vocabulary(index.get("vocabulary"))
        self.class_names, self.complete = concept_names(index.get("vocabulary")), bool(index["complete"])
        for kind in index["embeddings"]:
            require_below(kind["folder"])
            if not isinstance(kind["clip_id"], str) or int(kind["embed_dim"]) < 1 or "complete" not in kind or "image_size" not in kind:
                raise ValueError(f"embeddings of {excerpt(kind['clip_id'])} without their sizes")
            for item in kind["files"]:
                require_file_name(item["file"])
                if not all(isinstance(item[key], str) for key in ("sha256", "shard")) or int(item["bytes"]) < 0:
                    raise ValueError("a file of embeddings without its shard, size and hash")
        if int(index["num_triplets"]) < 0 or int(index["num_frames"]) < 0 or not all(isinstance(item["sha256"], str) for item in index["shards"]):
            raise ValueError("counts below 0, or a shard without its hash")
        return [(self.folder / require_file_name(item["file"]), int(item["bytes"]), int(item["triplets"])) for item in index["shards"]]

    def _order_frames(self) -> None:
        """Sort the frames of all shards, and note for each where its triplets lie."""
        data, scenes = _Table(), _Table()
        columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("token", "data", "scene", "shard", "row", "first", "count")}
        for number, shard in enumerate(self._shards):
            offsets = shard.offsets("frame_offsets")
            if offsets[0] != 0 or offsets[-1] != len(shard):
                raise BadFileError(f"{shard.path}: damaged, frame_offsets do not go from 0 to {len(shard):,}; {REMEDY}.")
            for name, values in (("token", shard.rows("frame_names")),
                                 ("data", data.add(shard.texts("data_names"))[shard.numbers("frame_data", "data_names")]),
                                 ("scene", scenes.add(shard.texts("scene_names"))[shard.numbers("frame_scene", "scene_names")]),
                                 ("shard", np.full(shard.num_frames, number)), ("row", np.arange(shard.num_frames)), ("first", offsets[:-1]),
                                 ("count", np.diff(offsets))):
                columns[name].append(values)
        whole = {name: np.concatenate([np.zeros(0, "S1" if name == "token" else np.int32), *parts]) for name, parts in columns.items()}
        order = np.lexsort((whole["token"], data.ranks()[whole["data"]]))
        self._tokens: NDArray[np.bytes_] = whole["token"][order]
        self._data, self._scene, self._shard, self._row, self._first_row = (
            whole[name][order].astype(np.int32) for name in ("data", "scene", "shard", "row", "first"))
        self._data_names, self._scene_names = data.texts, scenes.texts
        self._starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(whole["count"][order], dtype=np.int64)])
        self.num_frames = len(order)
        twice = np.flatnonzero((self._tokens[1:] == self._tokens[:-1]) & (self._data[1:] == self._data[:-1]))
        if len(twice):
            first, second = (self._shards[self._shard[twice[0] + step]].path.name for step in (0, 1))
            raise BadFileError(f"{self.folder}: frame {decoded(self._tokens[twice[0]])} is in {first} and in {second}; delete one of the two and the "
                               ".json beside it, and run the collection again (it makes only what is missing).")

    def __len__(self) -> int:
        """Count the triplets."""
        return int(self._starts[-1])

    def __getitem__(self, position: int) -> Triplet:
        """Read one triplet, and nothing else."""
        shard, row = self.place(position)
        return shard.triplet(row)

    def place(self, position: int) -> tuple[Shard, int]:
        """Say in which shard a triplet lies, and in which row of it."""
        number = self._frame(position)
        return self._shards[self._shard[number]], int(self._first_row[number] + position - self._starts[number])

    def points(self, position: int) -> NDArray[np.float32]:
        """Read the points of a triplet: (N, 3), metres."""
        shard, row = self.place(position)
        return shard.points(row)

    def crop(self, position: int) -> bytes:
        """Read the JPEG of a triplet; empty where crops were not kept."""
        shard, row = self.place(position)
        return shard.crop(row)

    def image(self, position: int, size: int) -> Float[torch.Tensor, "3 S S"]:
        """Read the crop of a triplet as a picture of a size in pixels; see `crop_image`."""
        return crop_image(self.crop(position), size, self.describe(position))

    def frame_of(self, position: int) -> tuple[str, str, str]:
        """Say which frame a triplet belongs to: data set, token, scene."""
        return self.frame_key(self._frame(position))

    def frame(self, number: int) -> FrameTriplets:
        """Read all triplets of a frame, and its counters."""
        shard: Shard = self._shards[self._shard[number]]
        return shard.frame(int(self._row[number]))

    def frame_key(self, number: int) -> tuple[str, str, str]:
        """Name a frame: data set, token, scene."""
        return self._data_names[self._data[number]], decoded(self._tokens[number]), self._scene_names[self._scene[number]]

    def positions_of(self, number: int) -> range:
        """List the triplets of a frame."""
        return range(int(self._starts[number]), int(self._starts[number + 1]))

    def frames(self) -> Iterator[FrameTriplets]:
        """Read frame after frame in order."""
        return (self.frame(number) for number in range(self.num_frames))

    def describe(self, position: int) -> str:
        """Name a triplet for messages."""
        number = self._frame(position)
        data, token, _ = self.frame_key(number)
        return f"{self.folder}: triplet {position - self._starts[number]} of frame {token} ({data})"

    @cached_property
    def text_ids(self) -> NDArray[np.int32]:
        """Concept of every triplet."""
        return self._column("text_id")

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """Score of every triplet."""
        return self._column("score")

    @cached_property
    def num_points(self) -> NDArray[np.int32]:
        """Count the points of every triplet."""
        return self._in_order([np.diff(shard.rows("point_offsets")).astype(np.int32) for shard in self._shards], np.zeros(0, np.int32))

    @property
    def boxes_px(self) -> NDArray[np.float32]:
        """Box of every triplet, (T, 4); read anew each time."""
        return self._column("box_px")

    @property
    def frame_numbers(self) -> NDArray[np.int32]:
        """Which frame every triplet belongs to; made anew each time."""
        return np.repeat(np.arange(self.num_frames, dtype=np.int32), np.diff(self._starts))

    @property
    def frame_data(self) -> NDArray[Any]:
        """Data set of every frame."""
        return np.array(self._data_names, dtype=np.str_)[self._data]

    def content_sha256(self) -> str:
        """Hash everything that is stored, in the order of the store: equal for equal content, whatever process wrote it. Reads all of it."""
        digest = hashlib.sha256()
        for frame in self.frames():
            facts = (frame.data, frame.frame, frame.scene, sorted(frame.rules.items()), len(frame.triplets))
            digest.update(repr(facts).encode(errors="backslashreplace"))
            for triplet in frame.triplets:
                digest.update(repr((triplet.text_id, triplet.score, triplet.camera, len(triplet.points), len(triplet.crop))).encode())
                digest.update(triplet.box_px.tobytes() + triplet.points.tobytes() + triplet.crop)
        return digest.hexdigest()

    def verify(self, *, deep: bool = False) -> list[str]:
        """Compare the files with the index, and counts and offsets with each other; `deep` also compares every sha256. Problems, one line each."""
        problems = []
        for shard, item in zip(self._shards, self.index["shards"], strict=True):
            if deep and _hash(shard.path) != item["sha256"]:
                problems.append(f"{shard.path}: its content changed since it was written (sha256); {REMEDY}.")
            else:
                problems += [f"{shard.path}: {problem}; {REMEDY}." for problem in _inconsistent(shard, len(self.class_names))]
        again, index = "run the same collection again", self.index
        if self.complete:
            listed = {shard.path for shard in self._shards}
            problems += [f"{path}: a shard that the index does not list; {again}." for path in sorted(self.folder.glob("shard-*.h5"))
                         if path not in listed]
            if any((self.folder / PENDING).glob("[!.]*.h5")):
                problems.append(f"{self.folder / PENDING}: finished frames that are in no shard; {again}.")
        if not (self.folder / COLLECTION).is_file():
            problems.append(f"{self.folder / COLLECTION} is missing: the store can be read, but not be gone on with.")
        if (len(self), self.num_frames) != (index["num_triplets"], index["num_frames"]):
            problems.append(f"{self.folder / INDEX}: counts {index['num_triplets']:,} triplets of {index['num_frames']:,} frames, the shards hold "
                            f"{len(self):,} of {self.num_frames:,}; {again}.")
        for kind in index["embeddings"]:
            for item in kind["files"]:
                path = self.folder / kind["folder"] / item["file"]
                if not path.is_file() or path.stat().st_size != item["bytes"] or (deep and _hash(path) != item["sha256"]):
                    problems.append(f"{path}: image embeddings that are missing or changed since they were written; delete the file and the .json "
                                    "beside it, and run embed-proxies again.")
        return problems

    def _frame(self, position: int) -> int:
        if not 0 <= position < len(self):
            raise IndexError(f"triplet {position} is outside of {len(self)} triplets")
        return int(np.searchsorted(self._starts, position, side="right")) - 1

    def _rows(self) -> NDArray[np.int64]:
        """Say for every triplet in order which row it has in all shards one behind the other."""
        base = np.cumsum([0, *map(len, self._shards)])
        shift = base[self._shard] + self._first_row - self._starts[:-1]
        rows: NDArray[np.int64] = np.repeat(shift, np.diff(self._starts)) + np.arange(len(self))
        return rows

    def _column(self, name: str) -> NDArray[Any]:
        empty = np.zeros((0, 4) if name == "box_px" else 0, np.int32 if name == "text_id" else np.float32)
        return self._in_order([shard.rows(name) for shard in self._shards], empty)

    def _in_order(self, parts: list[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([empty, *parts])[self._rows()]


def crop_image(crop: bytes, size: int, where: str) -> Float[torch.Tensor, "3 S S"]:
    """Decode a crop and bring it to a square, see `square_picture`.

    Raises:
        InputError: If there is no crop.
        BadFileError: If it is no whole picture; names `where`.
    """
    if not crop:
        raise InputError(f"{where} has no crop; crops have to be kept when triplets are collected.")
    return square_picture(read_image(Path(where), crop), size)


class _Table:
    """Texts of several tables in one, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._number: dict[str, int] = {}

    def add(self, texts: list[str]) -> NDArray[np.int32]:
        """Take a table over: the number here of each of its rows."""
        for text in texts:
            if text not in self._number:
                self._number[text] = len(self.texts)
                self.texts.append(text)
        return np.array([self._number[text] for text in texts], dtype=np.int32)

    def ranks(self) -> NDArray[np.int32]:
        """Say for every text which it is in their order as bytes."""
        ranks = np.empty(len(self.texts), dtype=np.int32)
        ranks[sorted(range(len(self.texts)), key=lambda number: self.texts[number].encode("utf-8", "surrogateescape"))] = np.arange(len(self.texts))
        return ranks


def _opened(path: Path, size: int, count: int, files: OpenFiles) -> Shard:
    try:
        found = path.stat().st_size
    except OSError:
        found = size  # the shard says why it cannot be opened
    if found < size:
        raise BadFileError(f"{path}: truncated, {found:,} of {size:,} bytes are there; {REMEDY}.")
    shard = Shard(path, files)
    if len(shard) != count:
        raise BadFileError(f"{path}: holds {len(shard):,} triplets, the index says {count:,}; {REMEDY}.")
    return shard


def _hash(path: Path) -> str | None:
    try:
        return sha256_of_file(path)
    except OSError:
        return None


def _inconsistent(shard: Shard, num_concepts: int) -> Iterator[str]:
    """Say what of a shard's small columns cannot be right."""
    for name, length in (("point_offsets", shard.length("points")), ("crop_offsets", shard.length("crops")), ("frame_offsets", len(shard))):
        offsets = shard.rows(name)
        if offsets[0] != 0 or offsets[-1] != length or (np.diff(offsets) < 0).any():
            yield f"{name} do not rise from 0 to {length:,}"
    ids = shard.rows("text_id")
    if len(ids) and (ids.min() < 0 or (num_concepts and ids.max() >= num_concepts)):
        yield f"text ids from {ids.min()} to {ids.max()}, the vocabulary has {num_concepts} concepts"
