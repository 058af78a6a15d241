"""Labelled clouds for training, and several training sets as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from clip2x.data.augmentations import Augmentation, augment
from clip2x.data.base import without_classes
from clip2x.data.readers import open_dataset
from clip2x.data.samplers import SampleKey
from clip2x.data.transforms import choose_points
from clip2x.errors import InputError
from clip2x.geometry import unit_sphere
from clip2x.types import PointSample


class LabelledClouds(Dataset[PointSample]):
    """The objects of a split with augmentation: points, rotation and so on are drawn anew in every epoch, as functions of (seed, epoch, index, draw).

    Args:
        root: The data root.
        seed: Of every draw.
        name: `manifest/variant/split`, e.g. `modelnet40/off/train:fit`.
        num_points: Points of a sample.
        pool_points: Points that are read and cached per object; each epoch draws its `num_points` from them. As many as `num_points` if
            not given, hence the same points in every epoch.
        augmentations: Applied in this order after centring and scaling to the unit sphere.
        exclude: Names of classes whose objects are left out; labels stay positions in all names.
        shots: Objects per class, see `PointCloudDataset`.
        limit, sampler, up, cache: See there.
    """

    def __init__(self, root: Path, seed: int, name: str, num_points: int = 1024, pool_points: int | None = None,
                 augmentations: list[Augmentation] | None = None, exclude: list[str] | None = None, shots: int | None = None,
                 limit: int | None = None, sampler: str = "random", up: str | None = None, cache: Path | None = None) -> None:
        pool = num_points if pool_points is None else pool_points
        if pool < num_points:
            raise InputError(f"pool_points must be at least num_points ({num_points}), got {pool}.")
        extra: dict[str, Any] = {} if cache is None else {"cache": cache}
        self.data = open_dataset(name, root, num_points=pool, seed=seed, shots=shots, limit=limit, sampler=sampler, up=up, **extra)
        self.data.entries = without_classes(self.data, exclude or [])
        self.seed, self.num_points, self.augmentations = seed, num_points, tuple(augmentations or ())
        self.manifest, self.class_names, self.notes = self.data.manifest, self.data.class_names, self.data.notes

    @property
    def labels(self) -> NDArray[np.int32]:
        """The label of every object."""
        return self.data.entries.labels

    def describe(self, index: int) -> str:
        """Name an object for messages: its class and its place in the split."""
        return f"{self.class_names[int(self.labels[index])]} {index} of {self.data.manifest.name}/{self.data.variant_name}/{self.data.split}"

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: SampleKey | int) -> PointSample:
        key = SampleKey.of(key)
        sample = self.data[key.index]
        rng = key.generator(self.seed, 1)  # 1: no other draw has this key
        points = sample["points"][: sample.get("counted_points", len(sample["points"]))]  # those behind them are repeated ones
        if len(points) > self.num_points:
            points = unit_sphere(torch.from_numpy(choose_points(points.numpy(), self.num_points, rng)))
        changed = choose_points(augment(points.numpy(), self.augmentations, rng), self.num_points, rng)
        return PointSample(points=torch.from_numpy(np.ascontiguousarray(changed, dtype=np.float32)), label=sample["label"], index=key.index)


class JoinedDatasets(Dataset[Any]):
    """Several data sets of one kind of sample, one behind the other; `index` counts through all of them.

    Raises:
        InputError: If their class names differ: a label would mean two things; or the sizes of their clouds.
    """

    def __init__(self, parts: Sequence[Dataset[Any]]) -> None:
        names = [getattr(part, "class_names", None) for part in parts]
        if any(tuple(other or ()) != tuple(names[0] or ()) for other in names):
            raise InputError("data.train joins data sets with different class names; train on one of them, or on data with texts.")
        sizes = {getattr(part, "num_points", None) for part in parts}
        if len(sizes) > 1:
            raise InputError(f"data sets that are read as one need the same num_points, got {', '.join(map(str, sorted(sizes, key=str)))}.")
        self.parts, self.class_names = tuple(parts), names[0]
        self.starts = np.cumsum([0, *(len(part) for part in parts)])  # type: ignore[arg-type]

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels of all parts."""
        return np.concatenate([np.asarray(part.labels, dtype=np.int64) for part in self.parts])  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, key: SampleKey | int) -> Any:
        whole = SampleKey.of(key)
        which = int(np.searchsorted(self.starts, whole.index, side="right")) - 1
        inside = replace(whole, index=int(whole.index - self.starts[which]))
        sample = self.parts[which][inside if isinstance(key, SampleKey) else inside.index]
        return {**sample, "index": whole.index} if "index" in sample else sample
