"""Write a triplet store frame by frame, in any number of processes, so that nothing is lost or doubled whenever they are killed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from clip2x.data.triplets.index import (
    COLLECTION,
    PENDING,
    RESERVED,
    StoreIndex,
    concept_names,
    kept_on_failure,
    read_collection,
    sidecar_of,
    sidecar_of_file,
    write_json,
)
from clip2x.data.triplets.shard import SCHEMA, VERSION, Shard, encoded, shard_content, write_durably
from clip2x.errors import BadFileError, InputError
from clip2x.storage import remove_stale
from clip2x.types import FrameTriplets

SHARD_FRAMES = 64  # ours: about 2,000 triplets and 20 MB; 1.6 M triplets are some 800 files
SHARD_BYTES = 64 << 20  # ours: bounds the memory of a process, which holds a shard about three times while it writes it
LOCK = "writer.lock"

FrameKey = tuple[str, str]


class TripletWriter:
    """Adds frames to a store. What `add` was given is on the disk when it returns, first in a file of its own, later in a shard.

    A frame belongs to one process; which one, and how many processes there are, may change from run to run. A run that was killed goes on when
    it is started again: what it finished is in `done`, the same in all processes. Use it as a context manager, or call `close`.

    Attributes:
        done: Frames that are finished, as (data, frame).
        notes: What was found damaged and will be made again.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], *, rank: int = 0, world_size: int = 1,
                 barrier: Callable[[], object] | None = None, shard_frames: int = SHARD_FRAMES, shard_bytes: int = SHARD_BYTES,
                 on_shard: Callable[[Path], object] | None = None) -> None:
        """Open a new store, or one that is to be gone on with.

        Args:
            folder: Of the store; all processes share it.
            about: JSON that goes into the index: `settings`, `vocabulary` and `sources` by data set (compared with those of an earlier run: by
                value, by `sha256`, and where both have the data set),
                `detector`, `lifting`, `provenance` (of a later run it is added as `resumed` where it differs), `data` (facts by name of the data
                set, to which the counts are added), and whatever else the index is to say.
            rank, world_size: This process among all.
            barrier: Waits for all processes; needed if there are several.
            shard_frames: A shard is written after so many frames,
            shard_bytes: or so many bytes.
            on_shard: Called with each new shard of this process before the index lists it: `CropEncoder.embed_shard`, for example.

        Raises:
            InputError: If an argument is not possible, the store was made with other settings, another run writes into it, or it cannot be written.
            BadFileError: If a file of the store is missing, damaged or of another version.
        """
        if not 0 <= rank < world_size or (world_size > 1 and barrier is None) or shard_frames < 1 or shard_bytes < 1:
            raise InputError("rank must lie below world_size, several processes need a barrier, and shard_frames and shard_bytes must be at least 1, "
                             f"got {rank} of {world_size}, {barrier}, {shard_frames} and {shard_bytes}.")
        taken = sorted(set(about) & set(RESERVED))
        if taken:
            raise InputError(f"`about` of a triplet store cannot have the keys {', '.join(taken)}: the index counts these itself.")
        self.folder, self._about, self._rank = Path(folder), json.loads(json.dumps(about, default=str)), rank  # as it reads from a file
        self._wait, self._on_shard = barrier or (lambda: None), on_shard
        self._shard_frames, self._shard_bytes = shard_frames, shard_bytes
        self._num_concepts = len(concept_names(about.get("vocabulary")))
        self._pending: list[tuple[Path, int]] = []
        self._index = StoreIndex(self.folder)
        self._lock: int | None = None
        self.notes: list[str] = []
        if rank == 0:
            with kept_on_failure(self.folder):
                self._open()
        self._wait()
        self._refuse_other_settings(read_collection(self.folder))
        self.done: set[FrameKey] = set(self._in_shards()) | {key for path in self._pending_files() for key in Shard(path).frame_keys()}
        if rank > 0:
            with kept_on_failure(self.folder):
                self._lock_rank()
        self._wait()  # all have the same `done` before the first new frame

    def add(self, frame: FrameTriplets) -> None:
        """Keep a finished frame; one that is in `done` is not written again.

        Raises:
            InputError: If it holds what cannot be stored, or it cannot be written.
        """
        if (frame.data, frame.frame) in self.done:
            return
        _check(frame, self._num_concepts)
        path = self.folder / PENDING / f"{_key(frame.data, frame.frame)}.h5"
        content = shard_content([frame])
        with kept_on_failure(self.folder):
            write_durably(path, content)
        self.done.add((frame.data, frame.frame))
        self._pending.append((path, len(content)))
        self._compact()

    def add_shard(self, frames: Sequence[FrameTriplets]) -> None:
        """Write frames straight into a shard of their own: all or none of them are there after a kill.

        Raises:
            InputError: See `add`.
        """
        new = [frame for frame in frames if (frame.data, frame.frame) not in self.done]
        for frame in new:
            _check(frame, self._num_concepts)
        if new:
            self._write_shard(new)
            self.done.update((frame.data, frame.frame) for frame in new)

    def close(self, *, complete: bool = True) -> None:
        """Put the last frames into a shard and finish the index; all processes call this.

        Args:
            complete: Say in the index that nothing is left to do.
        """
        self._compact(rest=True)
        self._wait()
        if self._rank == 0:
            with kept_on_failure(self.folder):
                write_json(self.folder / COLLECTION, {**read_collection(self.folder), "complete": complete})
                self._index.write()
                with suppress(OSError):  # not empty: frames that are still to be put into a shard when the run goes on
                    (self.folder / PENDING).rmdir()
        self._unlock()
        self._wait()

    def __enter__(self) -> TripletWriter:
        """Begin a block of additions."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish the store; after an error leave it as it is, to be gone on with."""
        if kind is None:
            self.close()
        else:
            self._unlock()

    def _open(self) -> None:
        """Do what one process does before all start: compare, tidy up what killed runs left, take over their finished frames."""
        (self.folder / PENDING).mkdir(parents=True, exist_ok=True)
        self._lock_folder()
        shards = {path.stem for path in self.folder.glob("shard-*.h5")}
        if (self.folder / COLLECTION).exists() or not shards:
            self._write_collection()
        collection = read_collection(self.folder)
        self._refuse_other_settings(collection)
        for path in (*self.folder.glob(".shard-*"), *self.folder.glob(".collection-*"), *(self.folder / PENDING).glob(".*")):
            path.unlink()  # half-written by a killed run
        remove_stale(self.folder)  # half-written indices: embed-proxies may be at work on another one
        described = {path.stem for path in self.folder.glob("shard-*.json")}
        for name in sorted(described - shards):
            Shard(self.folder / f"{name}.h5")  # says that it is missing
        for name in sorted(shards - described):
            write_json(self.folder / f"{name}.json", sidecar_of_file(self.folder / f"{name}.h5"))
        in_shards = set(self._in_shards())
        for path in self._pending_files():
            try:
                keys = Shard(path).frame_keys()
            except BadFileError as error:
                self.notes.append(f"a finished frame is damaged and will be made again: {error}")
                keys = []
            if keys and keys[0] not in in_shards:
                self._pending.append((path, path.stat().st_size))
            else:
                path.unlink()
        self._index.write()

    def _write_collection(self) -> None:
        """Write what this run was told, or add its provenance to what an earlier one wrote."""
        path = self.folder / COLLECTION
        if not path.exists():
            write_json(path, {"schema": SCHEMA, "version": VERSION, "complete": False, "about": self._about, "resumed": []})
            return
        collection = read_collection(self.folder)
        self._refuse_other_settings(collection)
        runs = [collection["about"].get("provenance"), *collection["resumed"]]
        own = self._about.get("provenance")
        about = {**collection["about"], "sources": {**(collection["about"].get("sources") or {}), **(self._about.get("sources") or {})}}
        write_json(path, {**collection, "about": about if about["sources"] else collection["about"], "complete": False,
                          "resumed": runs[1:] if own == runs[-1] else [*runs[1:], own]})

    def _refuse_other_settings(self, collection: Mapping[str, Any]) -> None:
        common = sorted(set(collection["about"].get("sources") or {}) & set(self._about.get("sources") or {}))
        there, asked = (_flat({"settings": about.get("settings"), "vocabulary": {"sha256": (about.get("vocabulary") or {}).get("sha256")},
                               "sources": {name: about["sources"][name] for name in common}}) for about in (collection["about"], self._about))
        differ = [f"{key}: {there.get(key, 'nothing')[:80]} there, {asked.get(key, 'nothing')[:80]} asked for"
                  for key in sorted({**there, **asked}) if there.get(key) != asked.get(key)]
        if differ:
            more = f"; and {len(differ) - 5} more" if len(differ) > 5 else ""
            raise InputError(f"{self.folder} holds triplets of other settings ({'; '.join(differ[:5])}{more}); use those, or another folder.")

    def _in_shards(self) -> Iterable[FrameKey]:
        """List the frames of all shards.

        Raises:
            BadFileError: If one is in two shards.
        """
        where: dict[FrameKey, str] = {}
        for facts in self._index.sidecars():
            for key in Shard(self.folder / facts["file"]).frame_keys():
                first = where.setdefault(key, facts["file"])
                if first != facts["file"]:
                    raise BadFileError(f"{self.folder}: frame {key[1]} of {key[0]} is in {first} and in {facts['file']}, so two runs worked on it; "
                                       f"delete {facts['file']} and the .json beside it, and run again (it makes only what is missing).")
        return where

    def _pending_files(self) -> list[Path]:
        return sorted((self.folder / PENDING).glob("[!.]*.h5"))

    def _compact(self, *, rest: bool = False) -> None:
        """Put pending frames of this process into shards: as many as fill one, in the end the rest too."""
        while self._pending:
            size = np.cumsum([size for _, size in self._pending])
            count = min(self._shard_frames, int(np.searchsorted(size, self._shard_bytes)) + 1)
            if count > len(self._pending) and not rest:
                return
            paths = [path for path, _ in self._pending[:count]]
            self._write_shard([Shard(path).frame(0) for path in paths])
            self._pending = self._pending[count:]
            with kept_on_failure(self.folder):
                for path in paths:
                    path.unlink(missing_ok=True)

    def _write_shard(self, frames: list[FrameTriplets]) -> None:
        with kept_on_failure(self.folder):
            numbers = [int(path.stem.rsplit("-", 1)[1]) for path in self.folder.glob(f"shard-{self._rank:04d}-*.h5")]
            path = self.folder / f"shard-{self._rank:04d}-{max(numbers, default=-1) + 1:06d}.h5"
            content = shard_content(frames)
            write_durably(path, content)
            write_json(path.with_suffix(".json"), sidecar_of(frames, path.name, content))
        if self._on_shard is not None:
            self._on_shard(path)
        with kept_on_failure(self.folder):
            self._index.write()

    def _lock_folder(self) -> None:
        """Keep a second run out of the folder for as long as any process of this one lives, where the file system can do that.

        Byte r of the lock file belongs to rank r; rank 0 looks whether any of them is held, so that a process that outlived its run is found.

        Raises:
            InputError: If another run is at work.
        """
        self._lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # all bytes
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 0, 1)  # but the first
        except (BlockingIOError, PermissionError):
            owner = os.pread(self._lock, 200, 0).decode("utf-8", "replace")
            self._unlock()
            raise InputError(f"another run is writing into {self.folder} ({owner or 'its process is not known'}); wait for it, or end it.") from None
        except OSError:
            return  # a file system without locks
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)

    def _lock_rank(self) -> None:
        """Hold this rank's byte for as long as the process lives."""
        self._lock = os.open(self.folder / LOCK, os.O_RDWR)
        with suppress(OSError):  # a file system without locks
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._rank)

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _key(data: str, frame: str) -> str:
    """Name the file of a frame."""
    return hashlib.sha256(encoded(data) + b"\0" + encoded(frame)).hexdigest()[:40]


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Turn nested JSON into dotted names and values as text."""
    if isinstance(value, Mapping) and value:
        return {key: text for part in value for key, text in _flat(value[part], f"{name}.{part}" if name else str(part)).items()}
    return {name: json.dumps(value)}


def _check(frame: FrameTriplets, num_concepts: int) -> None:
    """Refuse what cannot be stored or read back.

    Raises:
        InputError: Names the frame and what is wrong with it.
    """
    def refuse(problem: str) -> None:
        raise InputError(f"frame {frame.frame!r} of {frame.data}: {problem}.")

    if any("\0" in text for text in (frame.data, frame.frame, frame.scene, *frame.rules)) or not frame.frame:
        refuse("data, token, scene and names of rules must be texts without zero characters, the token not empty")
    for number, triplet in enumerate(frame.triplets):
        points, box = triplet.points, triplet.box_px
        if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0 or points.dtype != np.float32 or not np.isfinite(points).all():
            refuse(f"triplet {number} needs points (N, 3), float32, finite, at least one; got {points.dtype} {points.shape}")
        if box.shape != (4,) or not np.isfinite(box).all() or not np.isfinite(triplet.score):
            refuse(f"triplet {number} needs a finite score and a box of four finite numbers; got {triplet.score} and {box}")
        if triplet.text_id < 0 or (num_concepts and triplet.text_id >= num_concepts):
            refuse(f"triplet {number} has the text id {triplet.text_id}, the vocabulary has the concepts 0 to {num_concepts - 1}")
