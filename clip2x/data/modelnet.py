"""ModelNet10 and ModelNet40 in the forms in which they are published: OFF meshes, text files, HDF5 arrays, PLY clouds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from clip2x.data.cache import SampledPoints, is_sealed, sample_cache
from clip2x.data.entries import Entry
from clip2x.data.files import BROKEN_ARRAY, points_of, read_shape
from clip2x.data.formats.hdf5 import BROKEN_HDF5, local_array
from clip2x.errors import BadFileError, InputError
from clip2x.manifest import Manifest
from clip2x.untrusted import excerpt

MOST_LABEL_BYTES = 1 << 26  # ours: the published files have 2,048 labels each
LONGEST_NAME = 255  # bytes, of Linux


class ModelNet(SampledPoints):
    """ModelNet10 or ModelNet40 (Wu et al., 3D ShapeNets, CVPR 2015).

    Labels follow the manifest's class order whatever the order of folders or of `shape_names.txt`. Objects are sorted by class and name,
    except in HDF5 files, which keep theirs. Points taken from meshes, text and PLY files are cached (see `SampleCache`).
    """

    def __init__(self, manifest: Manifest | str = "modelnet40", *, root: Path, variant: str | None = None, split: str,
                 num_points: int = 1024, seed: int = 0, up: str | None = None, limit: int | None = None, sampler: str = "random",
                 shots: int | None = None, cache: Path | None = None) -> None:
        """Find the objects of a split.

        Args:
            manifest: `modelnet10`, `modelnet40` or a manifest of one of the same formats.
            root: See `PointCloudDataset`, as for the arguments that are not listed here.
            variant, split, num_points, seed, up, limit, sampler, shots: See there.
            cache: Folder for sampled points, made when it is first needed; `~/.cache/clip2x` if not given. It may be deleted at any time.

        Raises:
            InputError, DataNotFoundError: See there.
            BadFileError: If a list or an array does not have the published form.
        """
        self._arrays: dict[str, NDArray[np.float32]] = {}
        self.cache = sample_cache(cache)
        super().__init__(manifest, root=root, variant=variant, split=split, num_points=num_points, seed=seed, up=up, limit=limit,
                         sampler=sampler, shots=shots)

    def index(self, split: str) -> list[Entry]:
        """List the objects of a split; the arrays' labels are read, no cloud is."""
        readers: dict[str, Callable[[str], list[Entry]]] = {
            "off": self._index_folders, "text": self._index_list, "hdf5": self._index_arrays, "ply": self._index_numbered_files,
        }
        if self.variant.format not in readers:
            raise InputError(f"{self.manifest.name}/{self.variant_name} has the format {self.variant.format!r}; "
                             f"ModelNet reads {', '.join(readers)}.")
        return readers[self.variant.format](split)

    def load(self, entry: Entry, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
        """Read one stored cloud, or sample one mesh."""
        if self.variant.format == "hdf5":
            name, _, row = entry.key.rpartition("#")
            cloud: NDArray[np.float32] = np.array(self._array(name)[int(row)])  # not a view: the file is mapped read-only
            return cloud
        return points_of(read_shape(self.folder / entry.key), self.num_points, rng, self.sampler)

    def is_cached(self) -> bool:
        """Say whether points are worth keeping: of arrays they are not."""
        return self.variant.format != "hdf5"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the arrays behind when the data set is sent to another process; each process reads its own. No file is kept open."""
        return {**self.__dict__, "_arrays": {}}

    def _index_folders(self, split: str) -> list[Entry]:
        """Read `<class>/<split>/*.off`."""
        found: list[Entry] = []
        missing: list[str] = []
        for label, name in enumerate(self.manifest.class_folders):
            files = sorted(_names(self.folder / name / split, ".off"))
            found += [Entry(f"{name}/{split}/{file}", label) for file in files]
            missing += [] if files else [name]
        self._note_folders(missing, split)
        return found

    def _index_list(self, split: str) -> list[Entry]:
        """Read a list of names such as `airplane_0001`, which lie at `<class>/<name>.txt`."""
        labels = {name: label for label, name in enumerate(self.manifest.class_folders)}
        there = {name: frozenset(_names(self.folder / name, ".txt")) for name in labels}
        entries: list[Entry] = []
        absent: list[str] = []
        lines = list(self._lines(self.split_file(split)))
        _require_distinct([line for _, line in lines], self.split_file(split))
        for number, line in lines:
            name = line.rpartition("_")[0]
            if name not in labels:
                raise BadFileError(f"{self.split_file(split)}: line {number}: {excerpt(line)} belongs to no class of {self.manifest.name}.")
            if f"{line}.txt" in there[name]:
                entries.append(Entry(f"{name}/{line}.txt", labels[name]))
            else:
                absent.append(f"{name}/{line}.txt")
        if absent:
            self.lacks_files = True
            self.notes.append(f"{len(absent):,} files of {self.split_file(split).name} are missing, first {absent[0]}.")
        return sorted(entries, key=lambda entry: (entry.label, entry.key))

    def _index_arrays(self, split: str) -> list[Entry]:
        """Read PointNet's layout: a list of HDF5 files, each with `data` (N, P, 3) and `label` (N, 1) by the lines of shape_names.txt."""
        labels = self._labels_of_shape_names()
        listed = self.split_file(split)
        names = [listed.name] if listed.suffix == ".h5" else [line.replace("\\", "/").rpartition("/")[2] for _, line in self._lines(listed)]
        too_long = next((name for name in names if len(name.encode()) > LONGEST_NAME), None)
        if too_long is not None:
            raise BadFileError(f"{listed}: {excerpt(too_long)} is no name of a file, with its {len(too_long):,} letters.")
        _require_distinct(names, listed)
        absent = [name for name in names if not (self.folder / name).is_file()]
        if names and len(absent) == len(names):
            raise self.not_found(f"{len(absent)} of {len(names)} files of {listed.name} missing, first {absent[0]}")
        if absent:
            self.lacks_files = True
            self.notes.append(f"{len(absent)} of {len(names)} files of {listed.name} are missing, first {absent[0]}.")
        entries: list[Entry] = []
        missing = set(absent)
        for name in names:
            if name not in missing:
                entries += [Entry(f"{name}#{row}", label) for row, label in enumerate(_array_labels(self.folder / name, labels))]
        return entries

    def _index_numbered_files(self, split: str) -> list[Entry]:
        """Read `<label>_*.ply`, as the released CLIP2Point code does (datasets/modelnet40_align.py); all files are one split."""
        entries = []
        for name in sorted(_names(self.folder, ".ply")):
            number = name.partition("_")[0]
            if not number.isascii() or not number.isdecimal() or int(number) >= len(self.class_names):
                raise BadFileError(f"{self.folder / name}: the name must begin with a label below {len(self.class_names)} and '_'.")
            entries.append(Entry(name, int(number)))
        return sorted(entries, key=lambda entry: (entry.label, entry.key))

    def _labels_of_shape_names(self) -> list[int]:
        """Translate the arrays' numbers to labels: the line of `shape_names.txt` -> the manifest's class of that name."""
        path = self.folder / "shape_names.txt"
        known = {name: label for label, name in enumerate(self.manifest.class_folders)}
        names = [line.replace(" ", "_") for _, line in self._lines(path)]
        for name in names:
            if name not in known:
                raise BadFileError(f"{path}: {excerpt(name)} is no class of {self.manifest.name}.")
        return [known[name] for name in names]

    def _lines(self, path: Path) -> Iterator[tuple[int, str]]:
        """Read the lines of a list that are not blank, with their numbers."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise self.not_found(f"{path.name} is missing") from None
        except (OSError, UnicodeDecodeError) as error:
            raise BadFileError(f"{path}: not a readable list ({error}).") from error
        return iter([(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()])

    def _note_folders(self, missing: list[str], split: str) -> None:
        known = set(self.manifest.class_folders)
        unknown = sorted(item.name for item in os.scandir(self.folder) if item.is_dir() and item.name not in known)
        if missing:
            self.lacks_files = True
            self.notes.append(f"{len(missing)} of {len(known)} classes have no {split} file, first {missing[0]}.")
        if unknown:
            self.notes.append(f"{len(unknown)} folders belong to no class and are ignored, first {unknown[0]}.")

    def _array(self, name: str) -> NDArray[np.float32]:
        """Map the clouds of one HDF5 file into memory, from an unpacked copy in the cache that all reader processes share.

        The blocks of the original span 250 clouds, so single rows cost as much as blocks. Without a place for the copy the file is read whole.
        """
        if name not in self._arrays:
            path = self.folder / name
            copy = None if self.cache is None else self.cache.path(path, name, "whole array")
            array = None if copy is None else _mapped(copy)
            if array is None:
                array = _read_array(path)
                if self.cache is not None and copy is not None:
                    self.cache.put(copy, array)
                    mapped = _mapped(copy)
                    array = array if mapped is None else mapped
            self._arrays[name] = array
        return self._arrays[name]


def _names(folder: Path, suffix: str) -> list[str]:
    """List the files of a folder with a suffix; none where there is no such folder."""
    try:
        with os.scandir(folder) as items:
            return [item.name for item in items if item.name.lower().endswith(suffix) and not item.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BadFileError(f"{folder}: the folder cannot be read ({error.strerror or error}).") from error


def _require_distinct(names: Sequence[str], listed: Path) -> None:
    """Refuse a list that names something twice: it would be counted twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BadFileError(f"{listed}: lists {excerpt(name)} more than once; get the list again.")
        seen.add(name)


def _array_labels(path: Path, labels: list[int]) -> list[int]:
    """Read the labels of one HDF5 file and check its form."""
    try:
        with h5py.File(path, "r") as file:
            shape, numbers = local_array(file, "data").shape, np.asarray(local_array(file, "label", MOST_LABEL_BYTES)[...]).reshape(-1)
    except BROKEN_HDF5 as error:
        raise BadFileError(f"{path}: not an HDF5 file with data and label ({' '.join(str(error).split())[:120]}).") from error
    if len(shape) != 3 or shape[2] != 3 or shape[0] != len(numbers) or shape[1] == 0:
        raise BadFileError(f"{path}: data must be (N, P, 3) with N labels, found {tuple(shape)} and {len(numbers)} labels.")
    if not np.issubdtype(numbers.dtype, np.integer) or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(labels)):
        raise BadFileError(f"{path}: labels must be whole numbers below {len(labels)}, the number of lines of shape_names.txt.")
    return [labels[int(number)] for number in numbers]


def _read_array(path: Path) -> NDArray[np.float32]:
    """Read all clouds of one HDF5 file."""
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(local_array(file, "data")[...], dtype=np.float32)
    except BROKEN_HDF5 as error:
        raise BadFileError(f"{path}: cannot be read ({' '.join(str(error).split())[:120]}).") from error


def _mapped(copy: Path) -> NDArray[np.float32] | None:
    """Map an unpacked copy into memory; None if there is none, or a damaged one."""
    try:
        array = np.load(copy, mmap_mode="r", allow_pickle=False) if is_sealed(copy) else None
    except BROKEN_ARRAY:
        return None
    return array if isinstance(array, np.ndarray) and array.ndim == 3 and array.dtype == np.float32 else None
