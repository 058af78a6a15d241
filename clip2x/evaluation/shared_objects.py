"""Objects that several test sets share: variants of one data set name the same objects differently, and each is encoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from clip2x.data.base import PointCloudDataset

Key = tuple[str, str]


class SharedObjects:
    """Keep embeddings of objects that a later test set of the same run holds too.

    Two sets hold the same object where their folder, their frame and the object's key are the same: its points are then the same draw, as all
    test sets of a run share number of points, sampler and seed.

    Args:
        data_sets: All test sets, in the order in which they are evaluated.
    """

    def __init__(self, data_sets: Sequence[PointCloudDataset]) -> None:
        self._sets = tuple(data_sets)
        self._pools = [str((data.folder, data.variant.format, data.variant.ours_from_files)) for data in data_sets]
        uses = Counter(self._pools)
        self._shared = [uses[pool] > 1 and data.scenes is not None for pool, data in zip(self._pools, data_sets, strict=True)]
        self._known: dict[Key, Tensor] = {}

    def known(self, data_set: int, index: Int64[Tensor, " B"]) -> list[Tensor | None]:
        """Look up the embeddings (P, E) of samples of a set; None for those that are still to be encoded."""
        return [self._known.get(key) for key in self._keys(data_set, index)] if self._shared[data_set] else [None] * len(index)

    def keep(self, data_set: int, index: Int64[Tensor, " B"], embeds: Float[Tensor, "P B E"]) -> None:
        """Remember the embeddings of samples of a set, on the CPU, where a later set may hold them too."""
        if self._shared[data_set] and self._pools[data_set] in self._pools[data_set + 1 :]:
            self._known.update(zip(self._keys(data_set, index), embeds.transpose(0, 1).cpu().unbind(), strict=True))

    def _keys(self, data_set: int, index: Int64[Tensor, " B"]) -> list[Key]:
        entries = self._sets[data_set].entries
        return [(self._pools[data_set], entries[position].key) for position in index.tolist()]


def joined(known: Sequence[Tensor | None], new: Float[Tensor, "P M E"] | None) -> Float[Tensor, "P B E"]:
    """Put embeddings that were known, (P, E) each, and new ones into the order of the samples; a None takes the next new one."""
    fresh = iter([] if new is None else new.transpose(0, 1).unbind())
    return torch.stack([next(fresh) if item is None else item for item in known], dim=1)
