"""The few labelled clouds that few-shot learning may look at, beside the test set that it is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from clip2x.data.base import PARTS, PointCloudDataset
from clip2x.data.entries import draw_shots
from clip2x.data.readers import open_dataset
from clip2x.errors import InputError


class ShotSource:
    """Objects of a training split, to be drawn K of every class; fewer shots are a subset of more with the same seed.

    A seed chooses objects, as `open_dataset(..., shots=K, seed=seed)` does; the points of an object are those of the test set's own seed.

    Args:
        test: The test set; points, sampler, axis, seed and root are taken from it.
        split: Training split of the same variant, e.g. `train` or `train:fit`.
        shots: Numbers to draw. Those that some class cannot give are left out, with a note.
        cache: See `open_dataset`.

    Attributes:
        name: `manifest/variant/split`.
        shots: Those that are possible, ascending.
        notes: What a reader of the results has to know.

    Raises:
        InputError: If a number is below 1 or stands twice, the split is that of the test set, or a class has fewer objects than the least number.
        DataNotFoundError: If the training split is not there.
    """

    def __init__(self, test: PointCloudDataset, split: str, shots: Sequence[int], *, cache: Path | None = None) -> None:
        _check_shots(shots)
        self.name = f"{test.manifest.name}/{test.variant_name}/{split}"
        _check_apart(test, split)
        self.data = open_dataset(self.name, test.root, num_points=test.num_points, sampler=test.sampler, up=test.up, seed=test.seed, cache=cache)
        counts = np.bincount(self.data.entries.labels, minlength=len(test.class_names))
        least, scarce = int(counts.min()), test.class_names[int(counts.argmin())]
        self.shots = tuple(sorted(number for number in shots if number <= least))
        self.notes = list(self.data.notes)
        if not self.shots:
            raise InputError(f"{self.name}: class {scarce!r} has {least} objects, too few for {min(shots)} shots; lower model.shots or take another "
                             "data set.")
        if left_out := sorted(set(shots) - set(self.shots)):
            self.notes.append(f"{self.name}: no results with {', '.join(map(str, left_out))} shots: class {scarce!r} has {least} objects.")

    def draw(self, shots: int, seed: int) -> tuple[Float[Tensor, "N P 3"], Int64[Tensor, " N"]]:
        """Read the clouds, unit sphere, object frame, and their labels, in the order of the data set.

        Raises:
            BadFileError: If one cannot be read.
        """
        positions = draw_shots(self.data.entries, shots, self.data.class_names, seed).tolist()
        samples = [self.data[position] for position in positions]
        return torch.stack([sample["points"] for sample in samples]), torch.tensor([sample["label"] for sample in samples])


def _check_shots(shots: Sequence[int]) -> None:
    if not shots or min(shots) < 1 or len(set(shots)) < len(shots):
        raise InputError(f"model.shots must be different numbers of at least 1, got [{', '.join(map(str, shots))}].")


def _check_apart(test: PointCloudDataset, split: str) -> None:
    """Refuse to draw shots from what is tested: the same official split, unless both are different parts of it."""
    official, _, part = split.partition(":")
    splits = test.variant.splits
    if official not in splits:
        return  # the reader says which there are
    own, other = (splits[name].of or name for name in (test.official_split, official))
    if own == other and {part, test.part} != set(PARTS):
        raise InputError(f"shots from {split!r} would be objects of the test set {test.manifest.name}/{test.variant_name}/{test.split}; "
                         "set model.train_split to another split.")
