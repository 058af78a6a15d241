"""Which samples a process reads, and in which order; every order is a function of (seed, position) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from clip2x.errors import InputError


@dataclass(frozen=True)
class SampleKey:
    """Asks a training data set for a sample: its index, and what its random draws depend on besides: the epoch, and how often the sample came in that
    epoch before (balanced sampling takes some several times).
    """

    index: int
    epoch: int
    draw: int = 0

    @classmethod
    def of(cls, key: SampleKey | int) -> SampleKey:
        """Complete a bare index: the first draw of epoch 0."""
        return key if isinstance(key, SampleKey) else cls(int(key), 0)

    def generator(self, seed: int, purpose: int = 0) -> np.random.Generator:
        """Make the generator of this sample's draws; `purpose` tells those of several data sets apart."""
        numbers = [seed, self.epoch, self.index]
        if self.draw:
            return np.random.default_rng([*numbers, purpose, self.draw])
        return np.random.default_rng([*numbers, purpose] if purpose else numbers)


def times_before(values: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Count for every value, (N,), how often it stands before."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    counts = np.empty(len(values), dtype=np.int64)
    counts[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered, side="left")
    return counts


def balanced_order(labels: NDArray[np.integer[Any]], strength: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw an epoch in which rare classes come more often: a class of n samples takes a share in proportion to n^(1 - strength).

    Every sample of a class is taken once before one is taken twice; the number of samples stays.

    Args:
        labels: (N,).
        strength: 0 = as often as they are, 1 = all classes equally often.
        rng: Of this epoch.
    """
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts ** (1.0 - strength)
    quota = shares / shares.sum() * len(labels)
    number = np.floor(quota).astype(np.int64)
    missing = len(labels) - int(number.sum())
    number[np.argsort(number - quota, kind="stable")[:missing]] += 1
    chosen = []
    for label, count in zip(classes, number, strict=True):
        members = np.flatnonzero(labels == label)
        rounds = [rng.permutation(members) for _ in range(-(-int(count) // len(members)))]
        chosen.append(np.concatenate([*rounds, members[:0]])[:count])
    return rng.permutation(np.concatenate(chosen))


class GlobalBatchSampler(Sampler[list[SampleKey]]):
    """Cut every epoch's permutation into global batches and give each process its share of each; the rest of an epoch is dropped.

    Args:
        num_samples: Size of the data set.
        batch_size: Samples per step over ALL processes; must be divisible by their number.
        num_steps: Steps until the iterator ends (the position then is `start_step + steps taken`).
        seed: Of the permutations.
        rank, world_size: This process among all.
        start_step: Steps that were taken before, for going on with an interrupted run.
        labels: (N,) for balanced sampling. balance: its strength, see `balanced_order`; 0 takes every sample once an epoch.

    Raises:
        InputError: If there are fewer samples than a batch needs or the batch cannot be shared out.
    """

    def __init__(self, num_samples: int, batch_size: int, num_steps: int, *, seed: int = 0, rank: int = 0, world_size: int = 1,
                 start_step: int = 0, labels: NDArray[np.integer[Any]] | None = None, balance: float = 0.0) -> None:
        if not 0 <= balance <= 1 or (balance and labels is None):
            raise InputError(f"data.balance must lie in [0, 1] and needs data with labels, got {balance:g}.")
        if batch_size > num_samples:
            raise InputError(f"a batch of {batch_size} needs at least as many samples, there are {num_samples}; lower data.batch_size.")
        if batch_size % world_size:
            raise InputError(f"a batch of {batch_size} cannot be shared by {world_size} processes; choose a multiple.")
        self.num_samples, self.batch_size, self.num_steps, self.seed = num_samples, batch_size, num_steps, seed
        self.rank, self.world_size, self.start_step = rank, world_size, start_step
        self.labels, self.balance = labels, balance

    def __len__(self) -> int:
        """Count all steps, those before `start_step` too: Lightning goes on counting batches where an interrupted run stopped."""
        return self.num_steps

    def __iter__(self) -> Iterator[list[SampleKey]]:
        steps_per_epoch = self.num_samples // self.batch_size
        share = self.batch_size // self.world_size
        epoch, order = -1, np.zeros(0, dtype=np.int64)
        draws = order
        for step in range(self.start_step, self.num_steps):
            if step // steps_per_epoch != epoch:
                epoch = step // steps_per_epoch
                rng = np.random.default_rng([self.seed, epoch])
                order = rng.permutation(self.num_samples)
                if self.labels is not None and self.balance > 0:
                    order = balanced_order(self.labels, self.balance, rng)
                draws = times_before(order)
            first = step % steps_per_epoch * self.batch_size + self.rank * share
            chosen = slice(first, first + share)
            yield [SampleKey(int(index), epoch, int(draw)) for index, draw in zip(order[chosen], draws[chosen], strict=True)]


class ExactSampler(Sampler[int]):
    """Give process r the samples r, r + W, r + 2W, ...: every sample once, none repeated to fill up."""

    def __init__(self, data: Sized, *, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, len(data), world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)
