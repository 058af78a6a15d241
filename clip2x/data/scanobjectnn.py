"""ScanObjectNN: objects cut out of real indoor scans, in the HDF5 files in which they are published."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from clip2x.data.base import PointCloudDataset
from clip2x.data.cache import SEAL_BYTES, cache_folder, is_sealed
from clip2x.data.entries import Entry
from clip2x.data.formats.hdf5 import BROKEN_HDF5, local_array
from clip2x.data.transforms import choose_points, generator_for
from clip2x.errors import BadFileError, InputError
from clip2x.geometry import unit_sphere
from clip2x.manifest import Manifest
from clip2x.storage import atomic_path, remove_stale

BACKGROUND = -1  # in `mask`; an author of the data set: github.com/hkust-vgd/scanobjectnn, issue 5, and its data_utils.py
BACKGROUND_CHOICES = ("keep", "drop")
NORMALISE_CHOICES = ("after", "before")
UNPACKING = 2  # part of the names of unpacked arrays: raise it when their content changes
STORED_AS = {"data": "<f4", "mask": "<i4"}  # in unpacked copies
MOST_LABEL_BYTES = 1 << 26  # ours: the largest of the published files has 11,416 labels


@dataclass(frozen=True)
class Contents:
    """What was found in one HDF5 file: its size and time of change (nanoseconds), the shape of `data`, whether there is a mask, its labels."""

    stamp: tuple[int, int]
    shape: tuple[int, int, int]
    has_mask: bool
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Rows:
    """Where the rows of one array lie, one behind the other: in the HDF5 file itself if it is not compressed, else in an unpacked copy."""

    file: Path
    offset: int
    dtype: str
    row_shape: tuple[int, ...]

    def read(self, row: int) -> NDArray[Any]:
        """Read one row; the file is opened and closed.

        Raises:
            EOFError, OSError: If it does not lie there.
        """
        count = math.prod(self.row_shape)
        values = np.fromfile(self.file, dtype=self.dtype, count=count, offset=self.offset + row * count * np.dtype(self.dtype).itemsize)
        if len(values) != count:
            raise EOFError(f"row {row} is cut off")
        return values.reshape(self.row_shape)


class ScanObjectNN(PointCloudDataset):
    """ScanObjectNN (Uy et al., Revisiting Point Cloud Classification, ICCV 2019), every variant by its name in the manifest.

    Objects keep the order of the file. No HDF5 handle outlives a call, so the data set may be forked, pickled and used by any number of
    processes. A row of a compressed file costs the unpacking of hundreds (40 ms, measured on arrays of the official size with h5py's
    default blocks); such a file is unpacked once into the cache folder (2 s, 280 MB for the largest) and then read at 20 us a row.

    In the perturbed variants five samples show one object and the files do not say which: parts carved by `:val` and `:fit` share objects.
    """

    def __init__(self, manifest: Manifest | str = "scanobjectnn", *, root: Path, variant: str | None = None, split: str,
                 num_points: int = 1024, seed: int = 0, up: str | None = None, limit: int | None = None, sampler: str = "random",
                 shots: int | None = None, cache: Path | None = None, background: str = "keep", normalise: str = "after") -> None:
        """Find the objects of a split and check the file that holds them; no cloud is read.

        Args:
            manifest: `scanobjectnn` or a manifest of the same format.
            root: See `PointCloudDataset`, as for the arguments that are not listed here.
            variant, split, num_points, seed, up, limit, sampler, shots: See there.
            cache: Folder for unpacked arrays, made when it is first needed; `~/.cache/clip2x` if not given. It may be deleted at any time.
            background: `keep` all points of a file, or `drop` those that its mask calls background.
            normalise: `after` the choice of points, as for every data set here: the points that come out have mean 0 and largest norm 1.
                `before`, as the released CLIP2Point code does: all points of the file are normalised, then some are chosen and left where
                they are. With `sampler="farthest"` and 1,024 points that is its order exactly (30673e7, zeroshot.py).

        Raises:
            InputError, DataNotFoundError: See there.
            BadFileError: If the file does not have the published form, or has no mask where `drop` needs it.
        """
        for name, value, known in (("background", background, BACKGROUND_CHOICES), ("normalise", normalise, NORMALISE_CHOICES)):
            if value not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
        self.background, self.normalise = background, normalise
        self.cache = cache_folder(cache)
        self._contents: dict[str, Contents] = {}
        self._rows: dict[tuple[str, str], Rows | None] = {}
        super().__init__(manifest, root=root, variant=variant, split=split, num_points=num_points, seed=seed, up=up, limit=limit,
                         sampler=sampler, shots=shots)

    def index(self, split: str) -> list[Entry]:
        """List the rows of the split's file with their labels."""
        name = self.variant.splits[split].file
        if self.variant.format != "h5" or name is None:
            raise InputError(f"{self.manifest.name}/{self.variant_name}: ScanObjectNN reads splits with a file of the format 'h5', "
                             f"not {name!r} of {self.variant.format!r}.")
        contents = self._contents[name] = self._read_contents(name)
        return [Entry(f"{name}#{row}", label) for row, label in enumerate(contents.labels)]

    def load(self, entry: Entry, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
        """Read one object; without its background if that is to be dropped."""
        name, _, number = entry.key.rpartition("#")
        self._check_unchanged(name)
        points: NDArray[np.float32] = self._row(name, "data", int(number)).astype(np.float32)
        if not np.isfinite(points).all():
            raise BadFileError(f"{self.folder / entry.key}: holds NaN or infinite coordinates.")
        if self.background == "drop":
            points = points[self._row(name, "mask", int(number)) != BACKGROUND]
            if not len(points):
                raise BadFileError(f"{self.folder / entry.key}: its mask calls every point background; use background: keep.")
        return points

    def raw_points(self, entry: Entry) -> NDArray[np.float32]:
        """Take `num_points` of an object, (num_points, 3) float32, in the files' frame; already normalised if that comes first."""
        if self.normalise == "after":
            return super().raw_points(entry)
        rng = generator_for(self.seed, entry.key)
        try:
            whole = unit_sphere(torch.from_numpy(self.load(entry, rng))).numpy()
        except InputError as error:
            raise BadFileError(f"{self.folder / entry.key}: {error}") from None
        return np.ascontiguousarray(choose_points(whole, self.num_points, rng, self.sampler), dtype=np.float32)

    def normalised(self, points: torch.Tensor, counted_points: int | None = None) -> torch.Tensor:
        """Centre and scale the chosen points, unless all points of the file were."""
        return points if self.normalise == "before" else super().normalised(points, counted_points)

    def _read_contents(self, name: str) -> Contents:
        """Read the labels and check the form of one file.

        Raises:
            DataNotFoundError: If it is not there.
            BadFileError: If it cannot be read or has another form.
        """
        path = self.folder / name
        try:
            status = path.stat()
            with h5py.File(path, "r") as file:
                arrays = {key: local_array(file, key) for key in ("data", "mask") if key != "mask" or key in file}
                arrays["label"] = local_array(file, "label", MOST_LABEL_BYTES)
                found = {key: (array.shape, array.dtype) for key, array in arrays.items()}
                labels = np.asarray(arrays["label"][...])
        except FileNotFoundError:
            raise self.not_found(f"{name} is missing") from None
        except BROKEN_HDF5 as error:
            raise BadFileError(f"{path}: not an HDF5 file with data and label ({' '.join(str(error).split())[:120]}).") from error
        self._check_form(path, found)
        numbers = labels.reshape(-1)
        bad = np.flatnonzero((numbers < 0) | (numbers >= len(self.class_names)))
        if len(bad):
            raise BadFileError(f"{path}: label {numbers[bad[0]]} of row {bad[0]} is none of the {len(self.class_names)} classes "
                               f"of {self.manifest.name} (0 to {len(self.class_names) - 1}).")
        shape = found["data"][0]
        return Contents((status.st_size, status.st_mtime_ns), (shape[0], shape[1], shape[2]), "mask" in found, tuple(numbers.tolist()))

    def _check_form(self, path: Path, found: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
        shape, kind = found["data"]
        if len(shape) != 3 or shape[2] != 3 or shape[1] == 0 or kind.kind != "f":
            raise BadFileError(f"{path}: data must be (N, P, 3) of floating point numbers, found {shape} of {kind}.")
        label_shape, label_kind = found["label"]
        if label_shape not in ((shape[0],), (shape[0], 1)) or label_kind.kind not in "iu":
            raise BadFileError(f"{path}: label must be ({shape[0]},) of whole numbers, one for each row of data, "
                               f"found {label_shape} of {label_kind}.")
        mask_shape, mask_kind = found.get("mask", (None, None))
        if mask_shape not in (None, shape[:2]) or (mask_kind is not None and mask_kind.kind not in "if"):
            raise BadFileError(f"{path}: mask must be {shape[:2]} of signed numbers, one for each point, found {mask_shape} of {mask_kind}.")
        if mask_shape is None and self.background == "drop":
            raise BadFileError(f"{path}: has no mask, which background: drop needs; use background: keep.")

    def _check_unchanged(self, name: str) -> None:
        """See whether the file is the one that was indexed; another one with the same objects in the same order is taken instead.

        Raises:
            DataNotFoundError: If it is gone.
            BadFileError: If other objects lie there now, or it cannot be read.
        """
        known = self._contents[name]
        with suppress(OSError):  # reading the file says what is wrong
            status = (self.folder / name).stat()
            if (status.st_size, status.st_mtime_ns) == known.stamp:
                return
        now = self._read_contents(name)
        if (now.shape, now.labels, now.has_mask) != (known.shape, known.labels, known.has_mask):
            raise BadFileError(f"{self.folder / name}: was replaced while in use and holds other objects now ({len(now.labels):,}, "
                               f"before {len(known.labels):,}, or other labels); start again.")
        self._contents[name] = now
        for array in STORED_AS:
            self._rows.pop((name, array), None)

    def _row(self, name: str, array: str, row: int) -> NDArray[Any]:
        """Read one row of one array; an unpacked copy that was deleted or cut off meanwhile is made anew."""
        path = self.folder / name
        for _ in range(2):
            if (name, array) not in self._rows:
                self._rows[name, array] = self._find_rows(name, array)
            place = self._rows[name, array]
            try:
                if place is not None:
                    return place.read(row)
                with h5py.File(path, "r") as file:
                    return np.asarray(local_array(file, array)[row])
            except BROKEN_HDF5 as error:
                problem = " ".join(str(error).split())[:120]
                del self._rows[name, array]
        raise BadFileError(f"{path}#{row}: {array} cannot be read ({problem}).")

    def _find_rows(self, name: str, array: str) -> Rows | None:
        """Locate the rows of an array, unpacking it if they do not lie open; None where there is no place for the copy."""
        path = self.folder / name
        try:
            with h5py.File(path, "r") as file:
                stored = local_array(file, array)
                offset = stored.id.get_offset()
                if stored.chunks is None and stored.external is None and not stored.is_virtual and offset is not None:
                    return Rows(path, offset, stored.dtype.str, stored.shape[1:])
                return self._unpack(stored, name, array)
        except BadFileError:
            raise
        except BROKEN_HDF5 as error:
            raise BadFileError(f"{path}: {array} cannot be read ({' '.join(str(error).split())[:120]}).") from error

    def _unpack(self, stored: Any, name: str, array: str) -> Rows | None:
        """Write the rows of an HDF5 array one behind the other into the cache folder, unless they are there already."""
        if self.cache is None:
            self._note_no_copy(name, "there is no home folder to keep it in")
            return None
        facts = (str((self.folder / name).resolve()), self._contents[name].stamp, array, UNPACKING)
        digest = hashlib.sha256(repr(facts).encode("utf-8", "backslashreplace")).hexdigest()
        rows = Rows(self.cache / "arrays" / f"{digest}.bin", 0, STORED_AS[array], stored.shape[1:])
        try:
            size = math.prod(stored.shape) * np.dtype(rows.dtype).itemsize + SEAL_BYTES
            if rows.file.is_file() and rows.file.stat().st_size == size and is_sealed(rows.file):
                return rows
            remove_stale(rows.file.parent)
            with atomic_path(rows.file) as temporary, temporary.open("wb") as copy:
                seal = hashlib.sha256()
                for block in _blocks(stored, self.folder / name):
                    content = np.ascontiguousarray(block, dtype=rows.dtype).tobytes()
                    seal.update(content)
                    copy.write(content)
                copy.write(seal.digest())
        except OSError as error:
            self._note_no_copy(name, f"{self.cache}: {error.strerror or error}")
            return None
        return rows

    def _note_no_copy(self, name: str, reason: str) -> None:
        """Note that rows are read from the packed file one by one."""
        note = f"{name} is compressed and no unpacked copy can be kept ({reason}): every object costs the unpacking of many."
        self.notes += [] if note in self.notes else [note]


def _blocks(stored: Any, path: Path) -> Iterator[NDArray[Any]]:
    """Read an HDF5 array by the rows of its blocks.

    Raises:
        BadFileError: If that fails (never an OSError, which means the copy).
    """
    step = max(1, stored.chunks[0] if stored.chunks else 256)
    for first in range(0, len(stored), step):
        try:
            yield stored[first : first + step]
        except BROKEN_HDF5 as error:
            raise BadFileError(f"{path}: rows from {first} on cannot be read ({' '.join(str(error).split())[:120]}).") from error
