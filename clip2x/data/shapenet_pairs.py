"""Rendered pictures of ShapeNet's models, and pairs of a picture and a cloud for CLIP2Point pre-training."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch.utils.data import Dataset

from clip2x.data.augmentations import draw_distances
from clip2x.data.base import PublishedData, without_classes
from clip2x.data.entries import EntryTable
from clip2x.data.feature_store import ImageFeatures
from clip2x.data.images import read_image
from clip2x.data.samplers import SampleKey
from clip2x.data.shapenet import Model, ShapeNet, listed_models, names_in
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.manifest import Manifest, Variant
from clip2x.types import PairSample

VIEW_PRESET = "clip2point-10"  # official code: the cameras of the pictures
VIEWS = "rendering"  # the variant whose pattern says where the pictures lie
STORED_POINTS = 8192  # drawn and kept of a mesh, of which every epoch takes some; as many as a cloud of Point-BERT's has
QUESTIONS_AT_ONCE, QUESTIONS_PER_TASK = 16, 64  # ours: network disks answer many questions in the time of one

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class ShapeNetViews(PublishedData, Dataset[NDArray[np.uint8]]):
    """The rendered pictures of ShapeNet: an item is all pictures of a model that has them all. For `clip2x check-data`; see `ShapeNetPairs`."""

    def __init__(self, manifest: Manifest | str = "shapenet", *, root: Path, variant: str | None = VIEWS, split: str) -> None:
        """Find the models of a split and list their pictures: one listing of a folder for each model.

        Raises:
            InputError: If the variant has no pictures, or the split is a carved part.
            DataNotFoundError: If the list or all pictures are missing.
        """
        super().__init__(manifest, root, variant, split)
        self.pattern, self.views = pictures_of(self.variant, f"{self.manifest.name}/{self.variant_name}")
        if self.part:
            raise InputError(f"pictures are read by whole splits, got {split!r}.")
        listed = sorted(set(listed_models(self, split)))
        problems = in_threads(lambda model: view_problem(self.folder, self.pattern, self.views, model), listed)
        self.models = [model for model, problem in zip(listed, problems, strict=True) if problem is None]
        if len(self.models) < len(listed):
            self.notes.append(f"{_summary(problems, self.views)}.")
        if not self.models:
            raise self.not_found(_summary(problems, self.views) if listed else "the list is empty")

    def __len__(self) -> int:
        """Count the models."""
        return len(self.models)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Read all pictures of a model: (V, S, S, 3)."""
        pictures = [read_picture(self.folder / picture_name(self.pattern, self.models[index], view)) for view in range(self.views)]
        sizes = {len(picture) for picture in pictures}
        if len(sizes) > 1:
            raise BadFileError(f"{self.folder / picture_name(self.pattern, self.models[index], 0)}: the pictures of a model must have one size, "
                               f"found {sorted(sizes)} pixels.")
        return np.stack(pictures)


class ShapeNetPairs(Dataset[PairSample]):
    """Pairs of a rendered picture and a cloud of the same model, as CLIP2Point is pre-trained on (30673e7, datasets/shapenet.py).

    One item is one model: a random one of its pictures, a random part of its stored points, centred and scaled after that, and two random
    camera distances for its depth views. Every draw is a function of (seed, epoch, index). With `image_features` set, samples hold what the
    frozen tower gives for the picture in the place of the picture, which is then not read; all draws stay the same.
    """

    def __init__(self, root: Path, seed: int, split: str = "train:fit", points_variant: str = "pc", num_points: int = 1024,
                 image_size: int = 224, view: int | None = None, distance_range: tuple[float, float] = (0.9, 1.1),
                 view_jitter_deg: float = 0.0, skip_missing_views: bool = False, exclude: list[str] | None = None,
                 cache: Path | None = None) -> None:
        """Find the models of a split and their pictures; folders are listed, no file is opened.

        Args:
            root: The data root.
            seed: Of every draw.
            split: See `PointCloudDataset`.
            points_variant: Where the points come from: stored clouds or meshes.
            num_points: Points of a sample. Official code: 1,024.
            image_size: Pictures of another size are resized to it (bicubic, antialiased), pixels.
            view: Always take the picture of this camera; None draws one.
            distance_range: Least and largest distance of the cameras of the depth views; they are drawn uniformly. Official code: 0.9 to 1.1.
            view_jitter_deg: The cameras of the depth views are turned against the picture's by up to so much, azimuth and elevation each drawn
                uniformly for each depth view. Ours; official code: not turned.
            skip_missing_views: Leave out models that do not have their pictures, with a note, in the place of an error.
            exclude: Names of classes whose models are left out; labels stay positions in all `class_names`.
            cache: Folder for points sampled from meshes, see `ShapeNet`.

        Raises:
            InputError: If a number is not possible, a class to exclude is unknown, or none remains.
            DataNotFoundError: If the models, the folder of pictures or some pictures are missing, or models have another number of pictures.
            BadFileError: See `ShapeNet`.
        """
        low, high = distance_range
        if num_points < 1 or image_size < 1 or not 0 < low <= high < np.inf or not 0 <= view_jitter_deg <= 180:
            raise InputError("num_points and image_size must be at least 1, distance_range two rising positive numbers and view_jitter_deg from 0 "
                             f"to 180, got {num_points}, {image_size}, {distance_range} and {view_jitter_deg:g}.")
        self.data = ShapeNet(root=root, variant=points_variant, split=split, num_points=max(STORED_POINTS, num_points), seed=seed, cache=cache)
        pictures = self.data.manifest.variant(VIEWS)
        self.pattern, self.views = pictures_of(pictures, f"{self.data.manifest.name}/{VIEWS}")
        if view is not None and not 0 <= view < self.views:
            raise InputError(f"view must be one of 0 to {self.views - 1} or left out, got {view}.")
        self.seed, self.num_points, self.image_size, self.view, self.distance_range = seed, num_points, image_size, view, (low, high)
        self.view_jitter_deg = view_jitter_deg
        self.class_names, self.notes = self.data.class_names, self.data.notes
        self.folder = Path(root) / pictures.folder
        self.entries: EntryTable = self._with_pictures(without_classes(self.data, exclude or []), skip_missing_views)
        self._image_features: ImageFeatures | None = None

    @property
    def labels(self) -> NDArray[np.int32]:
        """The label of every model."""
        return self.entries.labels

    @property
    def present_classes(self) -> tuple[str, ...]:
        """Names of the classes that occur, in label order."""
        return tuple(self.class_names[label] for label in np.unique(self.labels))

    @property
    def image_features(self) -> ImageFeatures | None:
        """What the frozen tower gives for every picture; to be set before reader processes start, None to read pictures.

        Raises:
            InputError: If features of other models are set.
        """
        return self._image_features

    @image_features.setter
    def image_features(self, features: ImageFeatures | None) -> None:
        if features is not None and features.models_sha256 != self.models_sha256:
            raise InputError(f"these image features belong to {len(features):,} models of another data set or split, not to the {len(self):,} "
                             "of this one; compute them with cache_image_features for this one.")
        self._image_features = features

    @cached_property
    def models_sha256(self) -> str:
        """Identify the models and their order."""
        return hashlib.sha256("\n".join(self.describe(index) for index in range(len(self))).encode("utf-8", "surrogateescape")).hexdigest()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: SampleKey | int) -> PairSample:
        key = SampleKey.of(key)
        index = key.index
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside of {len(self)} samples")
        entry = self.entries[index]
        rng = key.generator(self.seed)
        drawn = int(rng.integers(self.views))  # drawn in any case, so that a fixed view changes nothing else
        view = drawn if self.view is None else self.view
        distance = torch.from_numpy(draw_distances(rng, *self.distance_range))
        points = self.data.drawn_points(entry, self.num_points, rng)
        turn = torch.from_numpy(rng.uniform(-self.view_jitter_deg, self.view_jitter_deg, (2, 2)).astype(np.float32))
        sample = PairSample(points=points, view=view, distance=distance, turn_deg=turn, label=entry.label, index=index)
        if self.image_features is not None:
            sample["image_features"] = self.image_features[index, view]
        else:
            sample["image"] = self.picture(index, view)
        return sample

    def picture(self, index: int, view: int) -> Float[torch.Tensor, "3 S S"]:
        """Read a picture of a model, in [0, 1].

        Raises:
            DataNotFoundError: If it is gone.
            BadFileError: If it is no whole square picture.
        """
        return read_view(self.folder / self.picture_names(index)[view], self.image_size)

    def picture_names(self, index: int) -> list[str]:
        """Name the pictures of a model, paths below `folder`, in the order of the views."""
        model = self.data.model_of(self.entries[index])
        return [picture_name(self.pattern, model, view) for view in range(self.views)]

    def describe(self, index: int) -> str:
        """Name a model for messages: `synset-id`."""
        return "-".join(self.data.model_of(self.entries[index]))

    def require_image_size(self, size: int) -> None:
        """Compare the size of the pictures with the one that an image tower takes.

        Raises:
            InputError: If they differ.
        """
        if self.image_size != size:
            raise InputError(f"pictures are read at {self.image_size} x {self.image_size} pixels, this CLIP takes {size} x {size}; "
                             f"set data.train.init_args.image_size to {size}.")

    def _with_pictures(self, entries: EntryTable, skip_missing: bool) -> EntryTable:
        """Keep the models that have their pictures: one listing of a folder for each model."""
        problems = in_threads(lambda entry: view_problem(self.folder, self.pattern, self.views, self.data.model_of(entry)), entries)
        complete = [position for position, problem in enumerate(problems) if problem is None]
        if len(complete) == len(entries):
            return entries
        what = _summary(problems, self.views)
        if not complete or not skip_missing:
            hint = " Or leave these models out: skip_missing_views: true." if complete else ""
            raise DataNotFoundError(f"{self.data.manifest.title} below {str(self.folder)!r}: {what}. Render them: make render-pairs, or get them: "
                                    f"{self.data.manifest.source.get('views')}.{hint}", what)
        self.notes.append(f"{what}; these models are left out.")
        return entries.select(complete)


def in_threads(function: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """Ask a file system many questions at once: the answers in the order of the items."""
    listed = list(items)
    parts = [listed[first:first + QUESTIONS_PER_TASK] for first in range(0, len(listed), QUESTIONS_PER_TASK)]
    with ThreadPoolExecutor(QUESTIONS_AT_ONCE) as pool:
        return [answer for answers in pool.map(lambda part: [function(item) for item in part], parts) for answer in answers]


def pictures_of(variant: Variant, name: str) -> tuple[str, int]:
    """Say where a variant's pictures lie and how many a model has."""
    if variant.pattern is None or variant.views is None:
        raise InputError(f"{name} has no pictures: its manifest states no pattern and views.")
    return variant.pattern, variant.views


def picture_name(pattern: str, model: Model, view: int) -> str:
    """Name a picture: its path below the variant's folder."""
    return pattern.format(synset=model[0], id=model[1], view=view)


def view_problem(folder: Path, pattern: str, views: int, model: Model) -> str | None:
    """Say in a few words in which way a model has other pictures than one for each view; None if it has these. Lists one folder, opens no file."""
    parent, _, own = pattern.rpartition("/")
    place = parent.format(synset=model[0], id=model[1])
    there = names_in(os.path.join(folder, place))
    expected = _view_names(own.replace("{synset}", model[0]).replace("{id}", model[1]), views)
    if there == expected:
        return None
    pictures = sorted((name for name in there if name.endswith(os.path.splitext(own)[1]) and name[0] != "."), key=lambda name: (len(name), name))
    found = f"{len(pictures)} pictures are there" + (f": {', '.join(pictures[:3])}{', ...' if len(pictures) > 3 else ''}" if pictures else "")
    if missing := sorted(expected - there, key=lambda name: (len(name), name)):
        return f"{place}/{missing[0]} is missing ({found})"
    if any(re.fullmatch(r"\d+", os.path.splitext(name)[0]) for name in there - expected):
        return f"{place} has pictures of other views ({found})"
    return None


@lru_cache(maxsize=16)
def _view_names(own: str, views: int) -> frozenset[str]:
    return frozenset(own.format(view=view) for view in range(views))


def _summary(problems: list[str | None], views: int) -> str:
    """Count the models with a problem, and state the first one."""
    bad = [problem for problem in problems if problem is not None]
    return f"{len(bad):,} of {len(problems):,} models do not have one picture for each of {views} views, first {bad[0]}"


def read_picture(path: Path, content: bytes | None = None) -> NDArray[np.uint8]:
    """Read a rendered view, (S, S, 3); `content` as in `read_image`."""
    pixels = read_image(path, content)
    if pixels.shape[0] != pixels.shape[1]:
        raise BadFileError(f"{path}: a rendered view must be square, found {pixels.shape[1]} x {pixels.shape[0]} pixels.")
    return pixels


def read_view(path: Path, image_size: int, content: bytes | None = None) -> Float[torch.Tensor, "3 S S"]:
    """Read a rendered view as float32 in [0, 1], brought to a size in pixels; `content` as in `read_image`."""
    pixels = read_picture(path, content)
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)) / 255
    if len(pixels) != image_size:
        size = (image_size, image_size)
        image = torch.nn.functional.interpolate(image[None], size, mode="bicubic", align_corners=False, antialias=True)[0].clamp(0, 1)
    return image
