from __future__ import annotations

import pickle

import numpy as np
import pytest

from clip2x.data.entries import Entry, EntryTable, carve, draw_shots
from clip2x.errors import InputError


def table(counts: dict[int, int], groups: int = 0) -> EntryTable:
    labels = [label for label, count in counts.items() for _ in range(count)]
    return EntryTable(Entry(f"ordner ä/{number}", label, f"scene-{number % groups}" if groups else "") for number, label in enumerate(labels))


def test_a_table_gives_back_what_was_put_in() -> None:
    entries = [Entry("a", 1), Entry("bücher/ü b.off", 0, "scene-1"), Entry("c#7", 2, "scene-1")]
    packed = EntryTable(entries)
    assert list(packed) == entries and packed[-1] == entries[2] and list(packed[1:]) == entries[1:]
    assert list(packed.select([2, 0])) == [entries[2], entries[0]]
    assert list(pickle.loads(pickle.dumps(packed))) == entries
    assert packed.labels.tolist() == [1, 0, 2]
    with pytest.raises(IndexError):
        packed[3]


def test_a_million_entries_are_small_when_sent_to_a_reader_process() -> None:
    packed = EntryTable(Entry(f"{number:032d}", number % 10) for number in range(20_000))
    assert len(pickle.dumps(packed)) < 20_000 * 64


def test_a_carved_part_is_stratified_and_disjoint() -> None:
    entries = table({0: 40, 1: 21, 2: 2, 3: 1})
    fit, val = carve(entries, 0.1, seed=0)
    assert sorted([*fit, *val]) == list(range(64)) and not set(fit) & set(val)
    assert np.bincount(entries.labels[val], minlength=4).tolist() == [4, 2, 1, 0]
    again = carve(entries, 0.1, seed=0)
    assert np.array_equal(again[1], val) and not np.array_equal(carve(entries, 0.1, seed=1)[1], val)


def test_recordings_are_carved_whole() -> None:
    entries = table({0: 50, 1: 50}, groups=20)
    fit, val = carve(entries, 0.1, seed=0)
    assert not set(entries.group_ids[fit]) & set(entries.group_ids[val]) and 5 <= len(val) <= 15
    alone = carve(table({0: 5}, groups=1), 0.1, seed=0)
    assert len(alone[1]) == 0, "a single recording cannot be cut"
    with pytest.raises(InputError, match="share to hold out must lie between 0 and 1, got 1"):
        carve(entries, 1.0, seed=0)


def test_fewer_shots_are_a_subset_of_more() -> None:
    entries = table({0: 20, 1: 9, 2: 8})
    shots = {number: set(draw_shots(entries, number, "abc", seed=4).tolist()) for number in (1, 2, 4, 8)}
    assert shots[1] < shots[2] < shots[4] < shots[8]
    assert np.bincount(entries.labels[sorted(shots[4])]).tolist() == [4, 4, 4]
    assert shots[4] != set(draw_shots(entries, 4, "abc", seed=5).tolist())
    with pytest.raises(InputError, match="class 'b' has 9 of the 16 objects asked for"):
        draw_shots(entries, 16, "abc", seed=0)
