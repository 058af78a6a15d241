"""Keep points that were sampled from meshes or chosen from long text files, so that a second epoch reads none of those."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip2x.data.base import PointCloudDataset
from clip2x.data.entries import Entry
from clip2x.errors import BadFileError
from clip2x.storage import atomic_path

SAMPLING = 1  # part of the names of sampled points: raise it when a change alters the points that come out
SEAL_BYTES = 32  # behind the array, which readers of .npy files do not look at: the sha256 of all before it


class SampleCache:
    """One small .npy file per sample, named after what it was made from, with a hash of its content behind it.

    Files appear whole or not at all (written beside their place, then renamed), so any number of processes may share a folder; two that
    make the same sample write the same bytes. A changed source file, another seed or another point count has another name; old files are
    never used again and may be deleted at any time, as may the whole folder. A folder that cannot be written only costs time.
    """

    def __init__(self, folder: Path) -> None:
        """Remember the folder; it is made at the first `put`."""
        self.folder = folder
        self.problem: str | None = None

    def path(self, source: Path, *facts: str | int) -> Path:
        """Name the file that belongs to a source file (by size and time of change, nanoseconds) and to further facts."""
        status = source.stat()
        digest = hashlib.sha256(repr((status.st_size, status.st_mtime_ns, *facts)).encode("utf-8", "backslashreplace")).hexdigest()
        return self.folder / digest[:2] / f"{digest}.npy"

    def get(self, path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
        """Read a stored sample; None if there is none, or none of this shape (a damaged file is made again)."""
        try:
            content = bytearray(path.read_bytes())
        except OSError:
            return None
        header = _header(shape)
        end = len(header) + 4 * math.prod(shape)
        if len(content) != end + SEAL_BYTES or not content.startswith(header):
            return None
        if seal_of(memoryview(content)[:end]) != content[end:]:
            return None
        return np.frombuffer(content, dtype=np.float32, offset=len(header), count=math.prod(shape)).reshape(shape)

    def put(self, path: Path, points: NDArray[np.float32]) -> None:
        """Store a sample. Where that fails (read-only or full disk) the reason is kept in `problem` and nothing else happens."""
        if self.problem is not None:
            return
        try:
            with atomic_path(path) as temporary, temporary.open("w+b") as file:
                np.save(file, points, allow_pickle=False)
                file.seek(0)
                file.write(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            self.problem = f"samples are not kept in {self.folder} ({error.strerror or error}): every epoch reads the meshes again."


@lru_cache
def _header(shape: tuple[int, ...]) -> bytes:
    """Write the header that a .npy file of this shape has: to compare it takes a tenth of the time of parsing it."""
    stream = BytesIO()
    np.save(stream, np.zeros(shape, dtype=np.float32))
    return stream.getvalue()[: -4 * math.prod(shape)]


def seal_of(content: bytes | memoryview) -> bytes:
    """Hash what stands before the seal of a derived file."""
    return hashlib.sha256(content).digest()


def is_sealed(path: Path) -> bool:
    """Say whether a derived file is there and ends with the hash of what stands before; reads all of it.

    Raises:
        OSError, ValueError: If it cannot be read.
    """
    content = np.memmap(path, np.uint8, "r").data
    return len(content) > SEAL_BYTES and seal_of(content[:-SEAL_BYTES]) == bytes(content[-SEAL_BYTES:])


def default_cache_folder() -> Path | None:
    """Say where derived files go by default: `~/.cache/clip2x`, never into a data folder; None where there is no home."""
    try:
        return Path.home() / ".cache" / "clip2x"
    except RuntimeError:
        return None


def cache_folder(folder: Path | None) -> Path | None:
    """Say where a reader keeps derived files: in `folder`, in the default folder if not given, None where there is neither."""
    return default_cache_folder() if folder is None else Path(folder)


def sample_cache(folder: Path | None) -> SampleCache | None:
    """Say where a data set keeps sampled points: below `folder`, below the default cache folder if not given, None where there is neither."""
    chosen = cache_folder(folder)
    return None if chosen is None else SampleCache(chosen / "samples")


class SampledPoints(PointCloudDataset):
    """Objects whose points are kept in a cache, since reading them is slow (meshes, long text files). `cache` is set before the index is made."""

    cache: SampleCache | None

    def is_cached(self) -> bool:
        """Say whether points of this variant are worth keeping."""
        return True

    def source_of(self, entry: Entry) -> tuple[Path, tuple[str | int, ...]]:
        """Name the file that an object's points come from, and what else they depend on besides the choice of points."""
        return self.folder / entry.key, (entry.key,)

    def raw_points(self, entry: Entry) -> NDArray[np.float32]:
        """Take `num_points` of an object from the cache, or read it and fill the cache."""
        if self.cache is None or not self.is_cached():
            return super().raw_points(entry)
        source, facts = self.source_of(entry)
        try:
            path = self.cache.path(source, *facts, self.num_points, self.seed, self.sampler, SAMPLING)
        except (FileNotFoundError, NotADirectoryError):
            raise self.not_found(f"{source.relative_to(self.folder)} is gone") from None
        except OSError as error:
            raise BadFileError(f"{source}: cannot be read ({error.strerror or error}).") from error
        points = self.cache.get(path, (self.num_points, 3))
        if points is None:
            points = super().raw_points(entry)
            self.cache.put(path, points)
            if self.cache.problem is not None and self.cache.problem not in self.notes:
                self.notes.append(self.cache.problem)
        return points
