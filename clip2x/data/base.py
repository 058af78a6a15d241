"""What all data sets of labelled clouds share: finding the data, turning it into the object frame, taking a fixed number of points."""

from __future__ import annotations

import difflib
import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from clip2x.data.entries import Entry, EntryTable, carve, draw_shots, spread
from clip2x.data.transforms import SAMPLERS, choose_points, generator_for, near_origin
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import unit_sphere
from clip2x.manifest import AXES, Manifest, Split, Variant, load_manifest
from clip2x.types import ObjectDetails, PointSample

PARTS = ("fit", "val")
HELD_OUT_SHARE = 0.1  # ours: of a split, for model selection

Matrix = tuple[tuple[float, float, float], ...]

# Proper rotations that turn the named axis into +y. z: (x, y, z) -> (-y, z, -x), official CLIP2Point code, render/render.py;
# x: (x, y, z) -> (-y, x, z), ours.
OURS_FROM_UP: dict[str, Matrix] = {
    "x": ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    "y": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "z": ((0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (-1.0, 0.0, 0.0)),
}


class PublishedData:
    """A variant of a data set below a root folder: what every reader of a published layout has.

    `notes` lists what differs from the manifest (a partial copy, unknown folders): for people to read, not errors. `lacks_files` says
    that some of these are files known to be missing, whether or not the manifest states a count.
    """

    def __init__(self, manifest: Manifest | str, root: Path, variant: str | None, split: str) -> None:
        """Look up the variant and the split.

        Raises:
            InputError: If there is no such variant or split.
            DataNotFoundError: If the variant's folder is not below `root`.
            BadFileError: If it cannot be read.
        """
        self.manifest = load_manifest(manifest) if isinstance(manifest, str) else manifest
        self.variant_name = next(iter(self.manifest.variants)) if variant is None else variant
        self.variant: Variant = self.manifest.variant(self.variant_name)
        self.split = split
        self.official_split, _, self.part = split.partition(":")
        known = self.variant.splits
        if self.official_split not in known or self.part not in ("", *PARTS):
            raise InputError(f"{self.manifest.name}/{self.variant_name} has no split {split!r}; it has {', '.join(known)}, "
                             f"each also as {' or '.join(f'NAME:{part}' for part in PARTS)} (a part carved by clip2x).")
        self.root, self.folder = Path(root), Path(root) / self.variant.folder
        self.notes: list[str] = []
        self.lacks_files = False
        try:
            there = self.folder.is_dir()
            if there:
                os.scandir(self.folder).close()
                (self.folder / ".").stat()  # a folder may be listed and still not be entered
        except OSError as error:
            raise BadFileError(f"{self.folder}: the folder cannot be read ({error.strerror or error}).") from error
        if not there:
            raise self.not_found(f"there is no folder {str(self.folder)!r}")

    def verify(self) -> None:
        """Compare derived files that this reader trusts with the whole of their originals; most readers have none.

        Raises:
            BadFileError: If an original cannot be read.
        """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return self.manifest.classes(self.variant_name)

    def split_file(self, split: str) -> Path:
        """Name the list or data file of a split.

        Raises:
            BadFileError: If the manifest names none.
        """
        file = self.variant.splits[split].file
        if file is None:
            raise BadFileError(f"manifest {self.manifest.name}: variants.{self.variant_name}.splits.{split} needs a file.")
        return self.folder / file

    def not_found(self, what: str) -> DataNotFoundError:
        """Build the error for missing data: what is missing, where to get it, which variable to set."""
        place = self.manifest.source.get("download") or self.manifest.source.get("home")
        where = f" Get it: {place}." if place else ""
        return DataNotFoundError(f"{self.manifest.title} ({self.variant_name}, {self.split}) is not below {str(self.root)!r}: {what}."
                                 f"{where} Then: DATA=/path (or --data.root /path), where /path holds {self.variant.folder}/.", what)


class PointCloudDataset(PublishedData, Dataset[PointSample]):
    """Clouds with labels, in the object frame (y up), centred and scaled to the unit sphere.

    A subclass says which objects a split of the manifest has (`index`) and reads one (`load`). Everything that is random is a function of
    (seed, object), so a sample is the same whatever the order, the worker, the rank or the split it was reached through.
    """

    def __init__(self, manifest: Manifest | str, *, root: Path, variant: str | None = None, split: str, num_points: int = 1024,
                 seed: int = 0, up: str | None = None, limit: int | None = None, sampler: str = "random", shots: int | None = None) -> None:
        """Find the objects of a split.

        Args:
            manifest: A manifest or its name.
            root: The data root; the variant's folder lies below it.
            variant: Which published form; the manifest's first if not given.
            split: A split of that variant; with `:val` behind it a stratified tenth (whole recordings where objects come from recordings)
                that is held out for model selection, with `:fit` the rest. The cut does not depend on `seed`.
            num_points: Points of every cloud. A cloud with fewer keeps all and repeats some at random (seeded); of one with more, some are
                chosen by `sampler`. Meshes are sampled uniformly by area.
            seed: Of all draws, at least 0.
            up: The axis that points up in this copy of the files, where it differs from the manifest.
            limit: Use that many objects only, spread evenly over the split (hence over its classes).
            sampler: `random` or `farthest`, see `clip2x.data.transforms.choose_points`.
            shots: Use that many objects of every class only, drawn with `seed`; fewer shots are a subset of more.

        Raises:
            InputError: If the variant, the split, the axis or a number is not possible.
            DataNotFoundError: If nothing of the split is there.
        """
        _check_arguments(num_points, seed, up, limit, sampler)
        super().__init__(manifest, root, variant, split)
        self.num_points, self.seed, self.sampler, self.limit, self.shots = num_points, seed, sampler, limit, shots
        self.up = up or self.variant.up
        rotation = self.variant.ours_from_files if self.up == self.variant.up else OURS_FROM_UP[self.up]
        self._ours_from_files = np.array(rotation, dtype=np.float32)
        self.entries = self._entries_of_split()

    @abstractmethod
    def index(self, split: str) -> Sequence[Entry]:
        """List the objects of a split that has files of its own, in an order that depends on the data alone.

        Must not read clouds. What differs from the manifest goes into `self.notes`.
        """

    @abstractmethod
    def load(self, entry: Entry, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
        """Read one object.

        Returns:
            (M, 3) points in the files' frame and unit, M at least 1; for a mesh any number of points of its surface, drawn with `rng`.

        Raises:
            BadFileError: If it cannot be used.
        """

    @property
    def labels(self) -> list[int]:
        """The label of every object, in order; no cloud is read."""
        labels: list[int] = self.entries.labels.tolist()
        return labels

    @property
    def scenes(self) -> list[str] | None:
        """The recording of every object, in order; None where objects do not come from recordings."""
        entries = self.entries
        return None if entries.group_names in ((), ("",)) else [entries.group_names[group] for group in entries.group_ids.tolist()]

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.entries)

    def __getitem__(self, index: int) -> PointSample:
        """Read one object: (num_points, 3) float32 in the object frame, y up, normalised."""
        position = index + len(self.entries) if index < 0 else index
        if not 0 <= position < len(self.entries):
            raise IndexError(f"index {index} is outside of {len(self.entries)} samples")
        entry = self.entries[position]
        turned = self.raw_points(entry) @ self._ours_from_files.T  # NumPy: PyTorch's threads cost 30 ms for this on a busy machine, NumPy takes 10 us
        details = self.details(entry)
        try:
            points = self.normalised(torch.from_numpy(turned), details.get("counted_points"))
        except InputError as error:
            raise BadFileError(f"{self.folder / entry.key}: {error}") from None
        return {"points": points, "label": entry.label, "index": position, **details}

    def details(self, entry: Entry) -> ObjectDetails:
        """Say what is known of an object beside its points: nothing, unless it was cut out of a scene."""
        return ObjectDetails()

    def raw_points(self, entry: Entry) -> NDArray[np.float32]:
        """Take `num_points` of an object, (num_points, 3) float32, in the files' frame and unit."""
        rng = generator_for(self.seed, entry.key)
        points = choose_points(near_origin(self.load(entry, rng)), self.num_points, rng, self.sampler)
        return np.ascontiguousarray(points, dtype=np.float32)

    def normalised(self, points: torch.Tensor, counted_points: int | None = None) -> torch.Tensor:
        """Centre and scale the chosen points (num_points, 3): mean 0, largest norm 1; repeated ones behind the counted ones move no mean."""
        return unit_sphere(points, None if counted_points is None else torch.tensor(counted_points))

    def _entries_of_split(self) -> EntryTable:
        part: Split = self.variant.splits[self.official_split]
        whole = self.official_split if part.of is None else part.of
        found = self.index(whole)
        entries = found if isinstance(found, EntryTable) else EntryTable(found)
        if not len(entries):
            raise self.not_found(f"{str(self.folder)!r} has no sample of {whole}")
        expected = self.variant.splits[whole].samples
        if expected is not None and len(entries) != expected:
            self.notes.append(f"{self.manifest.name}/{self.variant_name}: {len(entries):,} of {expected:,} samples of {whole} are there.")
        if part.of is not None:
            if expected is not None and len(entries) != expected:
                raise self.not_found(f"{self.split} is a part of all {expected:,} samples of {whole}, but {len(entries):,} are there")
            entries = entries.select(np.random.default_rng(part.seed).permutation(len(entries))[part.start:part.stop])
        if self.part:
            entries = entries.select(carve(entries, HELD_OUT_SHARE, seed=0)[PARTS.index(self.part)])
            if not len(entries):
                raise self.not_found(f"what is there of {self.official_split} is too little to hold a part out (one object a class or one recording)")
        if self.shots is not None:
            entries = entries.select(draw_shots(entries, self.shots, self.class_names, self.seed))
        if self.limit is not None:
            entries = entries.select(spread(len(entries), self.limit))
        return entries


def _check_arguments(num_points: int, seed: int, up: str | None, limit: int | None, sampler: str) -> None:
    if num_points < 1:
        raise InputError(f"num_points must be at least 1, got {num_points}.")
    if seed < 0:
        raise InputError(f"seed must be at least 0, got {seed}.")
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1 or left out, got {limit}.")
    if up is not None and up not in AXES:
        raise InputError(f"up must be one of {', '.join(AXES)}, got {up!r}.")
    if sampler not in SAMPLERS:
        raise InputError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}.")


def without_classes(data: PointCloudDataset, exclude: Sequence[str]) -> EntryTable:
    """List the objects of a data set that belong to none of some classes, with a note in `data.notes`; labels stay positions in all names.

    Raises:
        InputError: If a class is unknown, or no object remains.
    """
    for name in exclude:
        if name not in data.class_names:
            near = difflib.get_close_matches(name, data.class_names, n=3, cutoff=0.5)
            raise InputError(f"exclude has {name!r}, which is none of the {len(data.class_names)} classes of {data.manifest.name}"
                             f"{'; near it are ' + ', '.join(near) if near else ', see data_manifests'}.")
    kept = data.entries.select(np.flatnonzero(~np.isin(data.entries.labels, [data.class_names.index(name) for name in exclude])))
    if not len(kept):
        raise InputError(f"exclude names every class that occurs in {data.split}, so nothing remains; name fewer.")
    if exclude:
        data.notes.append(f"{len(data.entries) - len(kept):,} of {len(data.entries):,} objects are left out: {', '.join(sorted(set(exclude)))} "
                          "are excluded.")
    return kept
