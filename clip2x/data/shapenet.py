"""ShapeNet: CAD models of 55 classes as meshes or as Point-BERT's clouds, and pairs of a picture and a cloud for CLIP2Point pre-training."""

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
from torch.utils.data import Dataset

from clip2x.data.augmentations import draw_distances
from clip2x.data.base import PublishedData
from clip2x.data.cache import SampledPoints, sample_cache
from clip2x.data.entries import Entry, EntryTable
from clip2x.data.files import BROKEN_ARRAY, Shape, checked, points_of, read_content, read_shape
from clip2x.data.images import read_image
from clip2x.data.samplers import SampleKey, key_parts
from clip2x.data.transforms import choose_points, near_origin
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import unit_sphere
from clip2x.manifest import Manifest, Variant
from clip2x.types import PairSample

Model = tuple[str, str]  # synset and id

VIEWS = "rendering"  # the variant whose pattern says where the pictures lie
STORED_POINTS = 8192  # drawn and kept of a mesh, of which every epoch takes some; as many as a cloud of Point-BERT's has


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
        models = sorted(set(_listed(self, split)), key=lambda model: (labels[model[0]], model))
        absent: list[str] = []
        entries = []
        for (synset, name), there in zip(models, _are_there(self.folder, pattern, models), strict=True):
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


class ShapeNetViews(PublishedData, Dataset[NDArray[np.uint8]]):
    """The rendered pictures of ShapeNet: an item is all pictures of a model that has them all. For `clip2x check-data`; see `ShapeNetPairs`."""

    def __init__(self, manifest: Manifest | str = "shapenet", *, root: Path, variant: str | None = VIEWS, split: str) -> None:
        """Find the models of a split and list their pictures: one listing of a folder for each model.

        Raises:
            InputError: If the variant has no pictures, or the split is a carved part.
            DataNotFoundError: If the list or all pictures are missing.
        """
        super().__init__(manifest, root, variant, split)
        self.pattern, self.views = _pictures(self.variant, f"{self.manifest.name}/{self.variant_name}")
        if self.part:
            raise InputError(f"pictures are read by whole splits, got {split!r}.")
        listed = sorted(set(_listed(self, split)))
        lacking = {model: name for model in listed if (name := _missing_picture(self.folder, self.pattern, self.views, model)) is not None}
        self.models = [model for model in listed if model not in lacking]
        if lacking:
            self.notes.append(f"{len(lacking):,} of {len(listed):,} models lack rendered views, first {next(iter(lacking.values()))}.")
        if not self.models:
            raise self.not_found(self.notes[0].rstrip(".") if lacking else "the list is empty")

    def __len__(self) -> int:
        """Count the models."""
        return len(self.models)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Read all pictures of a model: (V, S, S, 3)."""
        pictures = [_read_picture(self.folder / _picture_name(self.pattern, self.models[index], view)) for view in range(self.views)]
        sizes = {len(picture) for picture in pictures}
        if len(sizes) > 1:
            raise BadFileError(f"{self.folder / _picture_name(self.pattern, self.models[index], 0)}: the pictures of a model must have one size, "
                               f"found {sorted(sizes)} pixels.")
        return np.stack(pictures)


class ShapeNetPairs(Dataset[PairSample]):
    """Pairs of a rendered picture and a cloud of the same model, as CLIP2Point is pre-trained on (30673e7, datasets/shapenet.py).

    One item is one model: a random one of its pictures, a random part of its stored points, centred and scaled after that, and two random
    camera distances for its depth views. Every draw is a function of (seed, epoch, index).
    """

    def __init__(self, root: Path, seed: int, split: str = "train:fit", points_variant: str = "pc", num_points: int = 1024,
                 image_size: int = 224, view: int | None = None, distance_range: tuple[float, float] = (0.9, 1.1),
                 skip_missing_views: bool = False, cache: Path | None = None) -> None:
        """Find the models of a split and their pictures; no file is opened.

        Args:
            root: The data root.
            seed: Of every draw.
            split: See `PointCloudDataset`.
            points_variant: Where the points come from: stored clouds or meshes.
            num_points: Points of a sample. Official code: 1,024.
            image_size: Pictures of another size are resized to it (bicubic, antialiased), pixels.
            view: Always take the picture of this camera; None draws one.
            distance_range: Least and largest distance of the cameras of the depth views; they are drawn uniformly. Official code: 0.9 to 1.1.
            skip_missing_views: Leave out models that lack a picture, with a note, in the place of an error.
            cache: Folder for points sampled from meshes, see `ShapeNet`.

        Raises:
            InputError: If a number is not possible.
            DataNotFoundError: If the models, the folder of pictures or some pictures are missing.
            BadFileError: See `ShapeNet`.
        """
        low, high = distance_range
        if num_points < 1 or image_size < 1 or not 0 < low <= high < np.inf:
            raise InputError("num_points and image_size must be at least 1 and distance_range two rising positive numbers, "
                             f"got {num_points}, {image_size}, {distance_range}.")
        self.data = ShapeNet(root=root, variant=points_variant, split=split, num_points=max(STORED_POINTS, num_points), seed=seed, cache=cache)
        pictures = self.data.manifest.variant(VIEWS)
        self.pattern, self.views = _pictures(pictures, f"{self.data.manifest.name}/{VIEWS}")
        if view is not None and not 0 <= view < self.views:
            raise InputError(f"view must be one of 0 to {self.views - 1} or left out, got {view}.")
        self.seed, self.num_points, self.image_size, self.view, self.distance_range = seed, num_points, image_size, view, (low, high)
        self.class_names, self.notes = self.data.class_names, self.data.notes
        self.folder = Path(root) / pictures.folder
        self.entries: EntryTable = self._with_pictures(skip_missing_views)

    @property
    def labels(self) -> NDArray[np.int32]:
        """The label of every model."""
        return self.entries.labels

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: SampleKey | int) -> PairSample:
        index, epoch = key_parts(key)
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside of {len(self)} samples")
        entry = self.entries[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        drawn = int(rng.integers(self.views))  # drawn in any case, so that a fixed view changes nothing else
        view = drawn if self.view is None else self.view
        distance = draw_distances(rng, *self.distance_range)
        points = self.data.drawn_points(entry, self.num_points, rng)
        return PairSample(points=points, image=self._image(entry, view), view=view, distance=torch.from_numpy(distance), label=entry.label,
                          index=index)

    def _image(self, entry: Entry, view: int) -> torch.Tensor:
        """Read a picture as (3, S, S) float32 in [0, 1]."""
        pixels = _read_picture(self.folder / _picture_name(self.pattern, self.data.model_of(entry), view))
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)) / 255
        if len(pixels) != self.image_size:
            size = (self.image_size, self.image_size)
            image = torch.nn.functional.interpolate(image[None], size, mode="bicubic", align_corners=False, antialias=True)[0].clamp(0, 1)
        return image

    def _with_pictures(self, skip_missing: bool) -> EntryTable:
        """Keep the models that have all their pictures: one listing of a folder for each model."""
        entries = self.data.entries
        absent = [_missing_picture(self.folder, self.pattern, self.views, self.data.model_of(entry)) for entry in entries]
        complete = [position for position, name in enumerate(absent) if name is None]
        if len(complete) == len(entries):
            return entries
        first = next(name for name in absent if name is not None)
        what = f"{len(entries) - len(complete):,} of {len(entries):,} models lack rendered views, first {first}"
        if not complete or not skip_missing:
            hint = " Or leave these models out: skip_missing_views: true." if complete else ""
            raise DataNotFoundError(f"{self.data.manifest.title}: {what} below {str(self.folder)!r}. "
                                    f"Get them: {self.data.manifest.source.get('views')}.{hint}", what)
        self.notes.append(f"{what}; these models are left out.")
        return entries.select(complete)


def _listed(data: PublishedData, split: str) -> Iterator[Model]:
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
        if not dash or synset not in known or not name.endswith(".npy"):
            raise BadFileError(f"{path}: line {number}: {name[:60]!r} is no model <synset>-<id>.npy of the {len(known)} classes.")
        if f"{synset}-{model}" not in excluded:
            yield synset, model


def _are_there(folder: Path, pattern: str, models: Sequence[Model]) -> Iterator[bool]:
    """Say of each model whether it is there, as far as the listing of the folder tells in which the ids lie: one listing for many models."""
    parts = pattern.split("/")
    depth = next(place for place, part in enumerate(parts) if "{id}" in part)
    parent, own = "/".join(parts[:depth]), parts[depth]
    listings: dict[str, frozenset[str]] = {}
    for synset, model in models:
        place = parent.format(synset=synset)
        if place not in listings:
            listings[place] = _names(os.path.join(folder, place))
        yield own.format(synset=synset, id=model) in listings[place]


def _names(folder: str) -> frozenset[str]:
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


def _pictures(variant: Variant, name: str) -> tuple[str, int]:
    """Say where a variant's pictures lie and how many a model has."""
    if variant.pattern is None or variant.views is None:
        raise InputError(f"{name} has no pictures: its manifest states no pattern and views.")
    return variant.pattern, variant.views


def _picture_name(pattern: str, model: Model, view: int) -> str:
    return pattern.format(synset=model[0], id=model[1], view=view)


def _missing_picture(folder: Path, pattern: str, views: int, model: Model) -> str | None:
    """Name the first picture that a model lacks; None if all are there."""
    parent, _, own = pattern.rpartition("/")
    place = parent.format(synset=model[0], id=model[1])
    there = _names(os.path.join(folder, place))
    names = (own.format(synset=model[0], id=model[1], view=view) for view in range(views))
    return next((f"{place}/{name}" for name in names if name not in there), None)


def _read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a rendered view, (S, S, 3)."""
    pixels = read_image(path)
    if pixels.shape[0] != pixels.shape[1]:
        raise BadFileError(f"{path}: a rendered view must be square, found {pixels.shape[1]} x {pixels.shape[0]} pixels.")
    return pixels
