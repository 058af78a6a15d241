"""Triplets of single objects: rendered models with their clouds, beside those that are mined from scenes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from clip2x.data.augmentations import Augmentation, augment
from clip2x.data.samplers import SampleKey
from clip2x.data.shapenet_pairs import ShapeNetPairs
from clip2x.data.transforms import choose_points
from clip2x.errors import InputError
from clip2x.proxies.vocabulary import Vocabulary, load_vocabulary
from clip2x.types import TripletSample


class ObjectTriplets(Dataset[TripletSample]):
    """ShapeNet's models as triplets: a cloud, a random one of its rendered pictures, and a name.

    Ours: CLIP2 mines scenes only; whole objects add the classes and the sides that scans lack. The name is that of the model's class, or, with
    `vocabulary`, the one that CLIP gives to the model's pictures, so that no label is read; the training module hands these in by `set_names`
    before reader processes start. Every draw is a function of (seed, epoch, index, draw).

    Attributes:
        pairs: The models with their pictures.
        concepts: All names of each concept. class_names: the first of each.
        labels: (len,) text ids; of the models' classes until names are set.
        notes: What was left out, and why.
    """

    def __init__(self, root: Path, seed: int, split: str = "train:fit", vocabulary: str | None = None, points_variant: str = "pc",
                 num_points: int = 1024, pool_points: int | None = None, image_size: int = 224, augmentations: list[Augmentation] | None = None,
                 exclude: list[str] | None = None, exclude_names: list[str] | None = None, min_score: float = 0.0,
                 skip_missing_views: bool = False, cache: Path | None = None) -> None:
        """Find the models and their pictures; no file is opened.

        Args:
            root: The data root.
            seed: Of every draw.
            split, points_variant, image_size, skip_missing_views, cache: See `ShapeNetPairs`.
            vocabulary: Names that CLIP chooses from, see `load_vocabulary`; null takes the models' classes.
            num_points: Points of a sample.
            pool_points: Points before the augmentations, of which `num_points` are kept; as many if not given.
            augmentations: Applied in this order after centring and scaling to the unit sphere; then `num_points` are chosen of what they leave.
            exclude: Classes whose models are left out.
            exclude_names: Names that no model may have; models that CLIP names so are left out.
            min_score: Models whose name has a lower probability are left out.

        Raises:
            InputError, DataNotFoundError, BadFileError: See `ShapeNetPairs` and `load_vocabulary`.
        """
        pool = num_points if pool_points is None else pool_points
        if num_points < 1 or pool < num_points or not 0 <= min_score < 1:
            raise InputError("num_points must be at least 1, pool_points not smaller, min_score in [0, 1), got "
                             f"{num_points}, {pool} and {min_score:g}.")
        self.pairs = ShapeNetPairs(root, seed, split, points_variant, pool, image_size, exclude=exclude, skip_missing_views=skip_missing_views,
                                   cache=cache)
        self.seed, self.num_points, self.image_size = seed, num_points, image_size
        self.augmentations, self.min_score = tuple(augmentations or ()), min_score
        self.vocabulary: Vocabulary | None = None if vocabulary is None else load_vocabulary(vocabulary)
        self.concepts = self.vocabulary.concepts if self.vocabulary else tuple((name,) for name in self.pairs.class_names)
        self.class_names = tuple(names[0] for names in self.concepts)
        self.excluded_ids = [self._id_of(name) for name in exclude_names or []]
        self.notes, self._with_pictures = self.pairs.notes, True
        self._kept: NDArray[np.int64] = np.arange(len(self.pairs))
        self.labels: NDArray[np.int32] = np.zeros(len(self.pairs), np.int32) if self.vocabulary else self.pairs.labels
        self._scores: NDArray[np.float32] = np.ones(len(self.pairs), np.float32)
        if not self.vocabulary:
            self._leave_out()

    def set_names(self, probabilities: Float[Tensor, "N C"]) -> None:
        """Name every model by the most probable concept; models that are too uncertain or excluded are left out.

        Args:
            probabilities: Of all models of `pairs`, over the concepts and behind them the vocabulary's distractors; models that are named by one
                of these are left out.

        Raises:
            InputError: If there are other numbers of models or names, or no model remains.
        """
        wanted = (len(self.pairs), len(self.concepts) + len(self.vocabulary.distractors if self.vocabulary else ()))
        if tuple(probabilities.shape) != wanted:
            raise InputError(f"names of objects need probabilities {wanted}, got {tuple(probabilities.shape)}.")
        score, name = probabilities.max(dim=1)
        self._scores, self.labels = score.float().cpu().numpy(), name.int().cpu().numpy()
        self._kept = np.arange(len(self.pairs))
        self._leave_out()

    def leave_pictures_out(self) -> None:
        """Give samples without their picture, for a loss that does without; to be called before reader processes start."""
        self._with_pictures = False

    def agreement(self) -> tuple[int, int]:
        """Compare names with classes, for the log only: how many models are called by a name of their class, of all that are kept."""
        known = {name: self._id_of(name, required=False) for name in self.pairs.class_names}
        classes = np.array([known[name] for name in self.pairs.class_names])[self.pairs.labels[self._kept]]
        return int((classes == self.labels).sum()), len(self)

    @property
    def positions(self) -> NDArray[np.int64]:
        """Which models of `pairs` are kept."""
        return self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, key: SampleKey | int) -> TripletSample:
        key = SampleKey.of(key)
        index = key.index
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside of {len(self)} samples")
        position = int(self._kept[index])
        own = replace(key, index=position)
        pair, rng = self.pairs[own], own.generator(self.seed, 3)  # 3: no other draw has this key
        points = choose_points(augment(pair["points"].numpy(), self.augmentations, rng), self.num_points, rng)
        sample = TripletSample(points=torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32)), text_id=int(self.labels[index]),
                               score=float(self._scores[position]), index=index, instance=index)
        if not self._with_pictures:
            return sample
        if "image_features" in pair:
            sample["image_embed"] = torch.nn.functional.normalize(pair["image_features"], dim=0)
        else:
            sample["image"] = pair["image"]
        return sample

    def describe(self, index: int) -> str:
        """Name a sample for messages."""
        return f"shapenet {self.pairs.describe(int(self._kept[index]))}"

    def _leave_out(self) -> None:
        """Drop models by the score and the name; `labels` then belong to those that are kept."""
        concept = self.labels < len(self.concepts)
        wanted = concept & (self._scores >= self.min_score) & ~np.isin(self.labels, self.excluded_ids)
        if not wanted.any():
            raise InputError(f"none of {len(wanted):,} objects has a name that is asked for with a probability of at least {self.min_score:g}; "
                             "lower min_score or exclude less.")
        if not wanted.all():
            self.notes.append(f"{int((~wanted).sum()):,} of {len(wanted):,} objects are left out: uncertain or excluded names.")
        self._kept, self.labels = np.flatnonzero(wanted), self.labels[wanted]

    def _id_of(self, name: str, *, required: bool = True) -> int:
        found = self.vocabulary.id_of(name) if self.vocabulary else (list(self.class_names).index(name) if name in self.class_names else None)
        if found is None and required:
            raise InputError(f"exclude_names has {name!r}, which is none of the {len(self.concepts)} concepts; see the vocabulary.")
        return -1 if found is None else found
