"""ShapeNet: CAD models of 55 classes as meshes or as Point-BERT's clouds. Their pictures: `shapenet_pairs`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clip2x.data.base import PublishedData
from clip2x.data.cache import SampledPoints, sample_cache
from clip2x.data.entries import Entry
from clip2x.data.files import BROKEN_ARRAY, Shape, checked, points_of, read_content, read_shape
from clip2x.data.transforms import choose_points, near_origin
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import unit_sphere
from clip2x.manifest import Manifest

Model = tuple[str, str]  # synset and id
LONGEST_NAME = 200  # bytes; ours: of a line of a list. Names of files may have 255


class ShapeNet(SampledPoints):
    """ShapeNetCore (Chang et al., arXiv:1512.03012) with Point-BERT's lists: clouds (`pc`) or meshes (`v2`, `v1`).

    Objects are sorted by class and name. Points that are sampled from meshes are cached (see `SampleCache`). Models of the lists that are
    not on disk are counted in `notes`; folders are listed, files are not looked at, until a model is read.
    """

    def __init__(self, manifest: Manifest | str = "shapenet", *, root: Path, variant: str | None = None, split: str,
                 num_points: int = 1024, seed: int = 0, up: str | None = None, limit: int | None = None, sampler: str = "random",
                 shots: int | None = None, cache: Path | None = None) -> None:
        """Find the objects of a split.

        Args:
            manifest: `shapenet` or a manifest of the same format.
            root: See `PointCloudDataset`, as for the arguments that are not listed here.
            variant, split, num_points, seed, up, limit, sampler, shots: See there.
            cache: Folder for sampled points, made when it is first needed; `~/.cache/clip2x` if not given. It may be deleted at any time.

        Raises:
            InputError, DataNotFoundError: See there; also if the list of the split is missing.
            BadFileError: If a line of the list is no model of a known class, or a folder cannot be listed.
        """
        self.cache = sample_cache(cache)
        super().__init__(manifest, root=root, variant=variant, split=split, num_points=num_points, seed=seed, up=up, limit=limit,
                         sampler=sampler, shots=shots)

    def index(self, split: str) -> list[Entry]:
        """List the models of a split that are there."""
        pattern = self.variant.pattern
        if self.variant.format not in ("npy", "obj") or pattern is None:
            raise InputError(f"{self.manifest.name}/{self.variant_name} has the format {self.variant.format!r}; "
                             "ShapeNet reads clouds and meshes: npy and obj with a pattern.")
        labels = {synset: label for label, synset in enumerate(self.manifest.class_folders)}
        models = sorted(set(listed_models(self, split)), key=lambda model: (labels[model[0]], model))
        absent: list[str] = []
        entries = []
        for (synset, name), there in zip(models, are_there(self.folder, pattern, models), strict=True):
            key = pattern.format(synset=synset, id=name)
            if there:
                entries.append(Entry(key, labels[synset]))
            else:
                absent.append(key)
        if models and not entries:
            raise self.not_found(f"{len(absent):,} of {len(models):,} models of {self.variant.splits[split].file} missing, first {absent[0]}")
        if absent:
            self.notes.append(f"{len(absent):,} of {len(models):,} models of {self.variant.splits[split].file} are missing, first {absent[0]}.")
        return entries

    def load(self, entry: Entry, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
        """Read one stored cloud, or sample one mesh."""
        path = self.folder / entry.key
        try:
            if self.variant.format == "npy":
                return _read_cloud(path)
            shape = read_shape(path)
            if shape.faces is None:
                raise BadFileError(f"{path}: there are no faces in it, so it is no mesh (a file that is cut off may end before them); get it again.")
            return points_of(shape, self.num_points, rng, self.sampler)
        except DataNotFoundError:
            raise self.not_found(f"{entry.key} is missing") from None

    def is_cached(self) -> bool:
        """Say whether points are worth keeping: of stored clouds they are not."""
        return self.variant.format != "npy"

    def model_of(self, entry: Entry) -> Model:
        """Say which model an entry is: its synset and id."""
        assert self.variant.pattern is not None
        found = re.fullmatch(re.escape(self.variant.pattern).replace(r"\{synset\}", r"(?P<synset>\d+)").replace(r"\{id\}", "(?P<id>.*)"), entry.key)
        assert found is not None
        return found["synset"], found["id"]

    def drawn_points(self, entry: Entry, num_points: int, rng: np.random.Generator) -> torch.Tensor:
        """Draw some of the stored points of a model, of a mesh some of its `num_points` sampled ones, then centre and scale those.

        Returns:
            (num_points, 3) float32, object frame, mean 0, largest norm 1.

        Raises:
            BadFileError: If the model cannot be used.
        """
        stored = self.raw_points(entry) if self.is_cached() else near_origin(self.load(entry, rng))
        chosen = np.ascontiguousarray(choose_points(stored, num_points, rng), dtype=np.float32)
        try:
            return unit_sphere(torch.from_numpy(chosen @ self._ours_from_files.T))
        except InputError as error:
            raise BadFileError(f"{self.folder / entry.key}: {error}") from None


def listed_models(data: PublishedData, split: str) -> Iterator[Model]:
    """Read the models of a split's list, lines `<synset>-<id>.npy`, without those that are excluded."""
    path = data.split_file(split)
    try:
        text = read_content(path).decode("utf-8-sig")
    except DataNotFoundError:
        raise data.not_found(f"the list {path.relative_to(data.folder)} is missing, it comes from {data.manifest.source.get('lists')}") from None
    except UnicodeDecodeError as error:
        raise BadFileError(f"{path}: not a readable list ({error}).") from error
    known, excluded = frozenset(data.manifest.class_folders), frozenset(data.manifest.excluded)
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        synset, dash, model = name.removesuffix(".npy").partition("-")
        if not name:
            continue
        odd = "/" in model or "\0" in model or model in (".", "..") or len(name.encode()) > LONGEST_NAME
        if not dash or synset not in known or not name.endswith(".npy") or odd:
            raise BadFileError(f"{path}: line {number}: {name[:60]!r} is no model <synset>-<id>.npy of the {len(known)} classes.")
        if f"{synset}-{model}" not in excluded:
            yield synset, model


def are_there(folder: Path, pattern: str, models: Sequence[Model]) -> Iterator[bool]:
    """Say of each model whether it is there, as far as the listing of the folder tells in which the ids lie: one listing for many models."""
    parts = pattern.split("/")
    depth = next(place for place, part in enumerate(parts) if "{id}" in part)
    parent, own = "/".join(parts[:depth]), parts[depth]
    listings: dict[str, frozenset[str]] = {}
    for synset, model in models:
        place = parent.format(synset=synset)
        if place not in listings:
            listings[place] = names_in(os.path.join(folder, place))
        yield own.format(synset=synset, id=model) in listings[place]


def names_in(folder: str) -> frozenset[str]:
    """List a folder; nothing where there is none.

    Raises:
        BadFileError: If it cannot be listed.
    """
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise BadFileError(f"{folder}: cannot be listed ({error.strerror or error}).") from error


def _read_cloud(path: Path) -> NDArray[np.float32]:
    """Read a stored cloud, (N, 3) of floating point numbers."""
    content = read_content(path)
    try:
        cloud = np.load(BytesIO(content), allow_pickle=False)
    except BROKEN_ARRAY as error:
        raise BadFileError(f"{path}: not a whole array file ({' '.join(str(error).split())[:120]}).") from error
    if not isinstance(cloud, np.ndarray) or cloud.ndim != 2 or cloud.shape[1] != 3 or cloud.dtype.kind != "f":
        found = f"{cloud.shape} of {cloud.dtype}" if isinstance(cloud, np.ndarray) else "several arrays"
        raise BadFileError(f"{path}: a cloud must be (N, 3) of floating point numbers, found {found}.")
    checked(Shape(cloud.astype(np.float64)), path)
    return cloud.astype(np.float32)
