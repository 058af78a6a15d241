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
from clip2x.manifest import Split

ALL = "all"  # in the place of a number: every object of the training split
Shots = int | str


class ShotSource:
    """Objects of a training split, to be drawn K of every class; fewer shots are a subset of more with the same seed.

    A seed chooses objects, as `open_dataset(..., shots=K, seed=seed)` does; the points of an object are those of the test set's own seed.

    Args:
        test: The test set; points, sampler, axis, seed and root are taken from it.
        split: Training split of the same variant, e.g. `train` or `train:fit`.
        shots: Numbers to draw, and `all` for the whole split. Those that some class cannot give are left out, with a note.
        cache: See `open_dataset`.

    Attributes:
        name: `manifest/variant/split`.
        shots: Those that are possible, ascending, `all` at the end.
        notes: What a reader of the results has to know.

    Raises:
        InputError: If a number is below 1 or stands twice, the split is that of the test set, or a class has fewer objects than the least number.
        DataNotFoundError: If the training split is not there.
    """

    def __init__(self, test: PointCloudDataset, split: str, shots: Sequence[Shots], *, cache: Path | None = None) -> None:
        _check_shots(shots)
        self.name = f"{test.manifest.name}/{test.variant_name}/{split}"
        _check_apart(test, split)
        self.data = open_dataset(self.name, test.root, num_points=test.num_points, sampler=test.sampler, up=test.up, seed=test.seed, cache=cache)
        counts = np.bincount(self.data.entries.labels, minlength=len(test.class_names))
        least, scarce = int(counts.min()), test.class_names[int(counts.argmin())]
        numbers = sorted(number for number in shots if isinstance(number, int))
        self.shots: tuple[Shots, ...] = (*(number for number in numbers if number <= least), *((ALL,) if ALL in shots else ()))
        self.notes = list(self.data.notes)
        if not self.shots:
            raise InputError(f"{self.name}: class {scarce!r} has {least} objects, too few for {numbers[0]} shots; lower model.shots or take another "
                             "data set.")
        if least == 0:
            raise InputError(f"{self.name}: class {scarce!r} has no objects, so nothing can be learnt of it; take another data set or split.")
        if left_out := sorted(set(numbers) - set(self.shots)):
            self.notes.append(f"{self.name}: no results with {', '.join(map(str, left_out))} shots: class {scarce!r} has {least} objects.")

    def positions(self, shots: Shots, seed: int) -> list[int]:
        """Choose objects of the training split, in its order."""
        if shots == ALL:
            return list(range(len(self.data)))
        chosen: list[int] = draw_shots(self.data.entries, int(shots), self.data.class_names, seed).tolist()
        return chosen

    def read(self, positions: Sequence[int]) -> tuple[Float[Tensor, "N P 3"], Int64[Tensor, " N"], Int64[Tensor, " N"]]:
        """Read clouds, unit sphere, object frame, their labels, and how many points of each are its own, others being repeated (`thin_out`).

        Raises:
            BadFileError: If one cannot be read.
        """
        samples = [self.data[position] for position in positions]
        points = torch.stack([sample["points"] for sample in samples])
        real = [min(sample.get("counted_points", points.shape[1]), points.shape[1]) for sample in samples]
        return points, torch.tensor([sample["label"] for sample in samples]), torch.tensor(real)


def _check_shots(shots: Sequence[Shots]) -> None:
    numbers = [number for number in shots if number != ALL]
    if not shots or len(set(shots)) < len(shots) or any(not isinstance(number, int) or number < 1 for number in numbers):
        raise InputError(f"model.shots must be different numbers of at least 1, or {ALL}, got [{', '.join(map(str, shots))}].")


def may_share_objects(data: PointCloudDataset, split: str) -> bool:
    """Tell whether a split of the same variant may hold objects of a data set.

    It does not if they belong to different official splits, are the two parts of one split, or disjoint ranges of one permutation.
    """
    official, _, part = split.partition(":")
    splits = data.variant.splits
    if official not in splits:
        return False  # the reader says which there are
    own, other = (splits[name].of or name for name in (data.official_split, official))
    if own != other:
        return False
    if official == data.official_split:
        return {part, data.part} != set(PARTS)
    first, second = splits[data.official_split], splits[official]
    return not (first.of is not None and first.of == second.of and first.seed == second.seed and _apart(first, second))


def _check_apart(test: PointCloudDataset, split: str) -> None:
    """Refuse to draw shots from what is tested."""
    if may_share_objects(test, split):
        raise InputError(f"shots from {split!r} would be objects of the test set {test.manifest.name}/{test.variant_name}/{test.split}; "
                         "set model.train_split to another split.")


def _apart(first: Split, second: Split) -> bool:
    """Tell whether two ranges of one permutation share nothing."""
    one, other = sorted((first, second), key=lambda split: split.start)
    return one.stop is not None and one.stop <= other.start
