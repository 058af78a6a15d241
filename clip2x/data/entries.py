"""The list of a data set's objects, packed: a million entries cost tens of megabytes, and reader processes share them without copies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import InputError


@dataclass(frozen=True)
class Entry:
    """One object of a data set.

    key: what identifies it within its variant: a path below the variant's folder, `#row` behind it for arrays of many objects, or a token
        of an annotation. Random draws depend on it.
    label: index into the variant's classes.
    group: the recording that it was seen in, where objects share one; parts are carved and intervals are drawn by group.
    """

    key: str
    label: int
    group: str = ""


class EntryTable(Sequence[Entry]):
    """Entries in a fixed order; Python objects are made when asked for (reference counts would copy shared memory in every reader process)."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        keys = bytearray()
        ends, labels, groups = [0], [], []
        group_ids: dict[str, int] = {}
        for entry in entries:
            keys += entry.key.encode("utf-8", "surrogateescape")
            ends.append(len(keys))
            labels.append(entry.label)
            groups.append(group_ids.setdefault(entry.group, len(group_ids)))
        self._keys = np.frombuffer(bytes(keys), dtype=np.uint8)
        self._first = np.array(ends[:-1], dtype=np.int64)
        self._last = np.array(ends[1:], dtype=np.int64)
        self.labels: NDArray[np.int32] = np.array(labels, dtype=np.int32)
        self.group_ids: NDArray[np.int32] = np.array(groups, dtype=np.int32)
        self.group_names = tuple(group_ids)

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> EntryTable: ...
    def __getitem__(self, index: int | slice) -> Entry | EntryTable:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        key = self._keys[self._first[index] : self._last[index]].tobytes().decode("utf-8", "surrogateescape")
        return Entry(key, int(self.labels[index]), self.group_names[self.group_ids[index]])

    def select(self, positions: Sequence[int] | NDArray[np.integer]) -> EntryTable:
        """Take some entries, in the order given."""
        chosen = np.asarray(positions, dtype=np.int64)
        part = EntryTable(())
        part._keys, part.group_names = self._keys, self.group_names
        part._first, part._last = self._first[chosen], self._last[chosen]
        part.labels, part.group_ids = self.labels[chosen], self.group_ids[chosen]
        return part


def carve(entries: EntryTable, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split positions in two, the second with about `share` of the objects: of every class, or whole groups where objects have groups.

    A class gives at least one object once it has two. Deterministic; both parts keep the order of `entries`.

    Returns:
        Positions that stay, and positions that are held out; both sorted.
    """
    if not 0 < share < 1:
        raise InputError(f"the share to hold out must lie between 0 and 1, got {share:g}.")
    rng = np.random.default_rng([seed, 0])
    held_out: NDArray[np.bool_] = np.zeros(len(entries), dtype=bool)
    if entries.group_names not in ((), ("",)):
        order = rng.permutation(np.unique(entries.group_ids))
        sizes = np.bincount(entries.group_ids, minlength=len(entries.group_names))[order]
        count = int(np.searchsorted(np.cumsum(sizes), share * len(entries))) + 1
        held_out = np.isin(entries.group_ids, order[: max(1, min(count, len(order) - 1))]) if len(order) > 1 else held_out
    else:
        for label in np.unique(entries.labels):
            members = rng.permutation(np.flatnonzero(entries.labels == label))
            held_out[members[: max(round(share * len(members)), int(len(members) > 1))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def draw_shots(entries: EntryTable, shots: int, class_names: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Choose `shots` objects of every class; fewer shots are a subset of more (same seed).

    Returns:
        Sorted positions.

    Raises:
        InputError: If a class has fewer objects.
    """
    if shots < 1:
        raise InputError(f"shots must be at least 1, got {shots}.")
    chosen = []
    for label, name in enumerate(class_names):
        members = np.flatnonzero(entries.labels == label)
        if len(members) < shots:
            raise InputError(f"class {name!r} has {len(members)} of the {shots} objects asked for; lower shots.")
        chosen.append(np.random.default_rng([seed, label]).permutation(members)[:shots])
    return np.sort(np.concatenate(chosen))
