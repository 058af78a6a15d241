"""The list of a data set's objects, packed: a million entries cost tens of megabytes, and reader processes share them without copies."""

from __future__ import annotations

import hashlib
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

    @classmethod
    def from_arrays(cls, keys: NDArray[np.uint8], labels: NDArray[np.integer], group_ids: NDArray[np.integer],
                    group_names: Sequence[str]) -> EntryTable:
        """Pack entries whose keys are equally long: keys (N, K) UTF-8, labels (N,), group_ids (N,) positions in `group_names`."""
        table = cls(())
        count, length = keys.shape
        table._keys = np.ascontiguousarray(keys).reshape(-1)
        table._first = np.arange(count, dtype=np.int64) * length
        table._last = table._first + length
        table.labels, table.group_ids = np.asarray(labels, dtype=np.int32), np.asarray(group_ids, dtype=np.int32)
        table.group_names = tuple(group_names)
        return table

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

    A class gives at least one object once it has two; a recording goes to the second part or not by its name alone. Deterministic; both
    parts keep the order of `entries`.

    Returns:
        Positions that stay, and positions that are held out; both sorted.
    """
    if not 0 < share < 1:
        raise InputError(f"the share to hold out must lie between 0 and 1, got {share:g}.")
    held_out: NDArray[np.bool_] = np.zeros(len(entries), dtype=bool)
    if entries.group_names not in ((), ("",)):
        present = np.unique(entries.group_ids)
        place = np.array([place_of_recording(entries.group_names[group], seed) for group in present])
        chosen = present[place < share] if (place < share).any() else present[[place.argmin()]]
        held_out = np.isin(entries.group_ids, chosen) if len(present) > 1 else held_out
    else:
        rng = np.random.default_rng([seed, 0])
        for label in np.unique(entries.labels):
            members = rng.permutation(np.flatnonzero(entries.labels == label))
            held_out[members[: max(round(share * len(members)), int(len(members) > 1))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def place_of_recording(group: str, seed: int = 0) -> float:
    """Map the name of a recording to [0, 1): frames and objects of a data set are cut between the same recordings."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{group}".encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2.0**64


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


def spread(count: int, limit: int | None) -> list[int]:
    """List positions 0 to count - 1, or `limit` of them, spread evenly."""
    return list(range(count)) if limit is None or limit >= count else [position * count // limit for position in range(limit)]
