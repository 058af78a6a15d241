"""Triplets for training: the text-image-point proxies of a store as a map-style data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from clip2x.data.augmentations import Augmentation, augment
from clip2x.data.base import HELD_OUT_SHARE, PARTS
from clip2x.data.entries import place_of_recording
from clip2x.data.samplers import SampleKey
from clip2x.data.transforms import choose_points
from clip2x.data.triplets.embeddings import TripletEmbeddings
from clip2x.data.triplets.index import ids_by_name, plain
from clip2x.data.triplets.store import TripletStore
from clip2x.errors import BadFileError, InputError
from clip2x.geometry import unit_sphere
from clip2x.types import TripletSample

LISTED_SCENES = 2000  # ours: all of nuScenes' 850, not the 5,285 frames of SUN RGB-D


class TripletProxies(Dataset[TripletSample]):
    """The triplets of a store; every draw (points, augmentations) is a function of (seed, epoch, index, draw).

    A cloud is thinned to `num_points` at random, centred and scaled to the unit sphere; then the augmentations follow; of a cloud that has fewer
    points, or keeps fewer, some are repeated last, so that equal points are the same point.

    Attributes:
        class_names: First name of each concept of the vocabulary. concepts: all names of each.
        labels: (len,) text ids, for balanced sampling.
        positions: (len,) where each sample lies in the store.
        notes: What was left out, and why.
    """

    def __init__(self, root: Path, seed: int, store: Path, num_points: int = 1024, augmentations: list[Augmentation] | None = None,
                 min_score: float = 0.0, min_points: int = 1, exclude: list[str] | None = None, data: list[str] | None = None,
                 embeddings: str | None = None, image_size: int | None = None, limit: int | None = None, partial: bool = False,
                 part: str | None = None, repeat: int = 1) -> None:
        """Open the store and choose its triplets; no points are read.

        Args:
            root: The data root; not used, the store says where it lies.
            seed: Of every draw.
            store: Folder of the store.
            num_points: Points of a sample.
            augmentations: Applied in this order.
            min_score: Triplets with a lower score of the detector are left out.
            min_points: Triplets with fewer points are left out.
            exclude: Names of concepts (any of their names) whose triplets are left out; text ids stay.
            data: Only triplets of these data sets (`manifest/variant/split`, or the beginning of such a name).
            embeddings: Id of the CLIP whose embeddings of the crops come with the samples as `image_embed`; none if not given.
            image_size: The crops come with the samples as `image` of this size, pixels; they are not decoded if not given.
            limit: So many triplets at most, spread evenly over the store.
            partial: Accept a store whose collection has not come to its end.
            part: `val` takes about a tenth of the recordings (frames, where each is its own), by their names, `fit` the rest; both without seed.
            repeat: So many times an epoch each triplet comes, with draws of its own, beside other data that is trained on.

        Raises:
            InputError: If an argument is not possible, a name is unknown, the store is not finished, its embeddings are not there, or no triplet
                remains.
            DataNotFoundError, BadFileError: See `TripletStore`.
        """
        if min(num_points, min_points, repeat) < 1 or (image_size is not None and image_size < 1) or (limit is not None and limit < 1):
            raise InputError("num_points, min_points, repeat, image_size and limit must be at least 1, got "
                             f"{num_points}, {min_points}, {repeat}, {image_size} and {limit}.")
        if part not in (None, *PARTS):
            raise InputError(f"part must be one of {', '.join(PARTS)} or left out, got {part!r}.")
        self.store = TripletStore(store)
        if not (self.store.complete or partial):
            raise InputError(f"{store} is not finished ({len(self.store):,} triplets of {self.store.num_frames:,} frames so far); run the "
                             "collection to its end, or train on what is there: partial: true.")
        self.seed, self.num_points, self.augmentations, self.image_size = seed, num_points, tuple(augmentations or ()), image_size
        self.class_names = self.store.class_names
        self.concepts: tuple[tuple[str, ...], ...] = tuple(tuple(names) for names in (self.store.index.get("vocabulary") or {}).get("concepts", ()))
        chosen = self._chosen(min_score, min_points, exclude or [], data, part, limit)
        self.positions, self._num_chosen = np.tile(chosen, repeat), len(chosen)
        self.labels: NDArray[np.int32] = self.store.text_ids[self.positions]
        left_out = len(self.store) - len(chosen)
        self.notes = [f"{left_out:,} of {len(self.store):,} triplets are left out."] if left_out else []
        self.embeddings: TripletEmbeddings | None = None
        if embeddings is not None:
            self.use_embeddings(embeddings)

    def use_embeddings(self, clip_id: str, embed_dim: int | None = None) -> None:
        """Give the embeddings of the crops by a CLIP with the samples; to be called before reader processes start.

        Raises:
            InputError: If the store has none of this CLIP, or they have another length.
            BadFileError: If a file of them is damaged.
        """
        self.embeddings = TripletEmbeddings(self.store, clip_id)
        if embed_dim is not None and self.embeddings.embed_dim != embed_dim:
            raise InputError(f"{self.store.folder} has image embeddings of length {self.embeddings.embed_dim}, this CLIP has {embed_dim}; compute "
                             "them again with embed-proxies.")

    def leave_pictures_out(self) -> None:
        """Give samples without crop and embedding, for a loss that does without; to be called before reader processes start."""
        self.embeddings, self.image_size = None, None

    def mined(self) -> dict[str, dict[str, Any]]:
        """Say which frames the triplets come from, as checkpoints state it: data set -> number of frames, and their scenes where these are few."""
        frames: dict[str, set[tuple[str, str]]] = {}
        for number in np.unique(self.store.frame_numbers[self.positions]).tolist():
            data, token, scene = self.store.frame_key(number)
            frames.setdefault(data, set()).add((token, scene))
        scenes = {data: sorted({scene for _, scene in found}) for data, found in frames.items()}
        return {data: {"frames": len(found), "scenes": scenes[data] if len(scenes[data]) <= LISTED_SCENES else None}
                for data, found in sorted(frames.items())}

    def describe(self, index: int) -> str:
        """Name a sample for messages."""
        return self.store.describe(int(self.positions[index]))

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, key: SampleKey | int) -> TripletSample:
        key = SampleKey.of(key)
        index = key.index
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside of {len(self)} samples")
        position = int(self.positions[index])
        rng = key.generator(self.seed, 2)  # 2: no other draw has this key
        stored = self.store.points(position)
        chosen = choose_points(stored, min(self.num_points, len(stored)), rng)
        try:
            centred = unit_sphere(torch.from_numpy(np.ascontiguousarray(chosen)))
        except InputError as error:
            raise BadFileError(f"{self.store.describe(position)}: {error}") from error
        changed = choose_points(augment(centred.numpy(), self.augmentations, rng), self.num_points, rng)
        sample = TripletSample(points=torch.from_numpy(np.ascontiguousarray(changed, dtype=np.float32)), text_id=int(self.labels[index]),
                               score=float(self.store.scores[position]), index=index, instance=index % self._num_chosen)
        if self.embeddings is not None:
            sample["image_embed"] = self.embeddings[position]
        if self.image_size is not None:
            sample["image"] = self.store.image(position, self.image_size)
        return sample

    def _chosen(self, min_score: float, min_points: int, exclude: list[str], data: list[str] | None,
                part: str | None, limit: int | None) -> NDArray[np.int64]:
        """List the positions in the store of the triplets that are used."""
        store = self.store
        wanted = (store.scores >= min_score) & (store.num_points >= min_points)
        if exclude:
            wanted &= ~np.isin(store.text_ids, concept_ids(store, exclude))
        if data is not None:
            wanted &= _of_data(store, data)[store.frame_numbers]
        if part is not None:
            places = {scene: place_of_recording(scene) for scene in {store.frame_key(number)[2] for number in range(store.num_frames)}}
            held_out = np.array([places[store.frame_key(number)[2]] < HELD_OUT_SHARE for number in range(store.num_frames)], dtype=bool)
            wanted &= (held_out if part == "val" else ~held_out)[store.frame_numbers]
        positions = np.flatnonzero(wanted)
        if not len(positions):
            raise InputError(f"{store.folder}: none of {len(store):,} triplets has a score of at least {min_score:g}, {min_points} points or more "
                             "and a class, a data set and a part that are asked for; ask for less.")
        if limit is not None and limit < len(positions):
            positions = positions[np.arange(limit) * len(positions) // limit]
        return positions


def concept_ids(store: TripletStore, names: list[str]) -> list[int]:
    """Find concepts by any of their names.

    Raises:
        InputError: If a name is unknown.
    """
    known = ids_by_name(store.index.get("vocabulary"))
    unknown = [name for name in names if plain(name) not in known]
    if unknown:
        raise InputError(f"{store.folder}: its vocabulary has no {', '.join(map(repr, unknown))}; the names stand in index.json under vocabulary.")
    return [known[plain(name)] for name in names]


def _of_data(store: TripletStore, names: list[str]) -> NDArray[np.bool_]:
    """Select the frames of some data sets.

    Raises:
        InputError: If a name fits none.
    """
    there = sorted(store.index["data"])
    unknown = [name for name in names if not any(_begins(full, name) for full in there)]
    if unknown:
        raise InputError(f"{store.folder} has no triplets of {', '.join(unknown)}; there are: {', '.join(there)}.")
    fitting = [full for full in there if any(_begins(full, name) for name in names)]
    chosen: NDArray[np.bool_] = np.isin(store.frame_data, fitting)
    return chosen


def _begins(full: str, name: str) -> bool:
    return full == name or full.startswith(f"{name.rstrip('/')}/")
