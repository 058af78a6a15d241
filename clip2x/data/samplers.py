"""Which samples a process reads, and in which order; every order is a function of (seed, position) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from clip2x.errors import InputError


@dataclass(frozen=True)
class SampleKey:
    """Asks a training data set for a sample: its index, and the epoch that its random draws depend on."""

    index: int
    epoch: int


class GlobalBatchSampler(Sampler[list[SampleKey]]):
    """Cut every epoch's permutation into global batches and give each process its share of each; the rest of an epoch is dropped.

    Args:
        num_samples: Size of the data set.
        batch_size: Samples per step over ALL processes; must be divisible by their number.
        num_steps: Steps until the iterator ends (the position then is `start_step + steps taken`).
        seed: Of the permutations.
        rank, world_size: This process among all.
        start_step: Steps that were taken before, for going on with an interrupted run.

    Raises:
        InputError: If there are fewer samples than a batch needs or the batch cannot be shared out.
    """

    def __init__(self, num_samples: int, batch_size: int, num_steps: int, *, seed: int = 0, rank: int = 0, world_size: int = 1,
                 start_step: int = 0) -> None:
        if batch_size > num_samples:
            raise InputError(f"a batch of {batch_size} needs at least as many samples, there are {num_samples}; lower data.batch_size.")
        if batch_size % world_size:
            raise InputError(f"a batch of {batch_size} cannot be shared by {world_size} processes; choose a multiple.")
        self.num_samples, self.batch_size, self.num_steps, self.seed = num_samples, batch_size, num_steps, seed
        self.rank, self.world_size, self.start_step = rank, world_size, start_step

    def __len__(self) -> int:
        """Count all steps, those before `start_step` too: Lightning goes on counting batches where an interrupted run stopped."""
        return self.num_steps

    def __iter__(self) -> Iterator[list[SampleKey]]:
        steps_per_epoch = self.num_samples // self.batch_size
        share = self.batch_size // self.world_size
        epoch, order = -1, np.zeros(0, dtype=np.int64)
        for step in range(self.start_step, self.num_steps):
            if step // steps_per_epoch != epoch:
                epoch = step // steps_per_epoch
                order = np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
            first = step % steps_per_epoch * self.batch_size + self.rank * share
            yield [SampleKey(int(index), epoch) for index in order[first : first + share]]


class ExactSampler(Sampler[int]):
    """Give process r the samples r, r + W, r + 2W, ...: every sample once, none repeated to fill up."""

    def __init__(self, data: Sized, *, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, len(data), world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)
