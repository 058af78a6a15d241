"""Triplets of several sources as one training set, with one list of concepts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from clip2x.data.augmentations import Augmentation
from clip2x.data.samplers import SampleKey
from clip2x.data.triplets.dataset import TripletProxies
from clip2x.data.triplets.index import plain
from clip2x.errors import InputError
from clip2x.types import TripletSample

Concepts = tuple[tuple[str, ...], ...]
PartFactory = Callable[[Path, int], Dataset[Any]]


class JoinedTriplets(Dataset[TripletSample]):
    """The triplets of one or several stores, and of other sources, one behind the other; text ids count through the concepts of all.

    Two concepts of different sources are one if the first name of either is a name of the other; case, spaces and underscores do not matter.

    Attributes:
        parts: What is joined: a `TripletProxies` for each store, then the objects.
        concepts: All names of each concept. class_names: the first of each.
        labels: (len,) text ids.
        notes: What was left out of the parts, and why.
    """

    def __init__(self, root: Path, seed: int, stores: list[Path], objects: PartFactory | None = None, num_points: int = 1024,
                 augmentations: list[Augmentation] | None = None, min_score: float = 0.0, min_points: int = 1, exclude: list[str] | None = None,
                 data: list[str] | None = None, embeddings: str | None = None, image_size: int | None = None, limit: int | None = None,
                 partial: bool = False, part: str | None = None, repeat: int = 1) -> None:
        """Open the stores.

        Args:
            root: The data root.
            seed: Of every draw.
            stores: Folders of triplet stores; may be empty where there are objects.
            objects: Another source of triplets with its own settings, e.g. `ObjectTriplets`, built on `root` and `seed`.
            num_points, augmentations, min_score, min_points, exclude, data, embeddings, image_size, limit, partial, part, repeat: Of the triplets
                of every store, see `TripletProxies`.

        Raises:
            InputError: If there is no source, or the clouds differ in size; see also `TripletProxies`.
        """
        settings = {"num_points": num_points, "augmentations": augmentations, "min_score": min_score, "min_points": min_points, "exclude": exclude,
                    "data": data, "embeddings": embeddings, "image_size": image_size, "limit": limit, "partial": partial, "part": part,
                    "repeat": repeat}
        self.parts: tuple[Any, ...] = tuple(TripletProxies(root, seed, store, **settings) for store in stores)  # type: ignore[arg-type]
        if objects is not None:
            self.parts += (objects(root, seed),)
        if not self.parts:
            raise InputError("JoinedTriplets needs at least one source: stores of triplets, or objects.")
        sizes = sorted({source.num_points for source in self.parts})
        if len(sizes) > 1:
            raise InputError(f"triplets that are read as one need the same num_points, got {', '.join(map(str, sizes))}.")
        self.num_points = sizes[0]
        if silent := [str(source.store.folder) for source in self.parts if not source.concepts]:
            raise InputError(f"{', '.join(silent)}: a store that does not state its vocabulary cannot be trained on; collect it again.")
        self.concepts, self._ids = joined_concepts([source.concepts for source in self.parts])
        self.class_names = tuple(names[0] for names in self.concepts)
        self.refresh()

    def refresh(self) -> None:
        """Look again at the lengths and labels of the parts, after their names were set."""
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)])
        self.labels: NDArray[np.int32] = np.concatenate([ids[part.labels] for ids, part in zip(self._ids, self.parts, strict=True)]).astype(np.int32)

    @property
    def notes(self) -> list[str]:
        """What was left out of the parts, and why."""
        return [note for part in self.parts for note in part.notes]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, key: SampleKey | int) -> TripletSample:
        key = SampleKey.of(key)
        number, inside = self._place(key.index)
        sample: TripletSample = self.parts[number][replace(key, index=inside)]
        return {**sample, "text_id": int(self._ids[number][sample["text_id"]]), "index": key.index,
                "instance": int(self.starts[number] + sample["instance"])}

    def describe(self, index: int) -> str:
        """Name a sample for messages."""
        number, inside = self._place(index)
        described: str = self.parts[number].describe(inside)
        return described

    def _place(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        return number, int(index - self.starts[number])


def joined_concepts(lists: Sequence[Concepts]) -> tuple[Concepts, list[NDArray[np.int64]]]:
    """Join lists of concepts: the concepts of all, and for each list the new id of each of its concepts."""
    joined: list[list[str]] = []
    all_ids = []
    for concepts in lists:
        ids: NDArray[np.int64] = np.empty(len(concepts), dtype=np.int64)
        by_name = {plain(name): position for position in reversed(range(len(joined))) for name in joined[position]}
        by_first = {plain(names[0]): position for position, names in reversed(list(enumerate(joined)))}
        for position, names in enumerate(concepts):
            known = by_name.get(plain(names[0]), next((by_first[plain(name)] for name in names if plain(name) in by_first), None))
            if known is None:
                known = len(joined)
                joined.append([])
            there = {plain(name) for name in joined[known]}
            joined[known] += [name for name in names if plain(name) not in there]
            ids[position] = known
        all_ids.append(ids)
    return tuple(tuple(names) for names in joined), all_ids
