from __future__ import annotations

import numpy as np
import pytest

from clip2x.data.samplers import ExactSampler, GlobalBatchSampler, SampleKey, balanced_order, times_before
from clip2x.errors import InputError


def batches(**options: int) -> list[list[SampleKey]]:
    return list(GlobalBatchSampler(10, 4, 6, seed=3, **options))


def test_an_epoch_holds_no_sample_twice() -> None:
    first_epoch = [key for batch in batches()[:2] for key in batch]
    assert len({key.index for key in first_epoch}) == 8
    assert {key.epoch for key in first_epoch} == {0}
    assert {key.epoch for key in batches()[2]} == {1}


def test_two_processes_share_the_batches_of_one() -> None:
    shares = zip(batches(rank=0, world_size=2), batches(rank=1, world_size=2), strict=True)
    assert [left + right for left, right in shares] == batches()


def test_a_later_start_goes_on_where_the_first_run_was() -> None:
    assert batches(start_step=4) == batches()[4:]
    assert len(GlobalBatchSampler(10, 4, 6, start_step=4)) == 6


def test_bad_batches_are_refused() -> None:
    with pytest.raises(InputError, match=r"a batch of 4 needs at least as many samples, there are 3; lower data.batch_size"):
        GlobalBatchSampler(3, 4, 1)
    with pytest.raises(InputError, match=r"a batch of 4 cannot be shared by 3 processes"):
        GlobalBatchSampler(10, 4, 1, world_size=3)


def test_evaluation_reads_every_sample_once() -> None:
    parts = [list(ExactSampler(range(7), rank=rank, world_size=3)) for rank in range(3)]
    assert sorted(index for part in parts for index in part) == list(range(7))
    assert [len(part) for part in parts] == [3, 2, 2]


def test_balance_gives_rare_classes_more_room() -> None:
    labels = np.repeat([0, 1, 2], [80, 15, 5])
    full = balanced_order(labels, 1.0, np.random.default_rng(0))
    assert sorted(np.bincount(labels[full]).tolist()) == [33, 33, 34]
    half = np.bincount(labels[balanced_order(labels, 0.5, np.random.default_rng(0))])
    expected = np.sqrt([80, 15, 5]) / np.sqrt([80, 15, 5]).sum() * 100
    assert np.abs(half - expected).max() <= 1
    taken = np.bincount(full, minlength=100)
    assert taken[labels == 0].max() == 1, "no sample of a large class comes twice before all came once"
    assert sorted(balanced_order(labels, 0.0, np.random.default_rng(0)).tolist()) == list(range(100))


def test_balanced_batches_depend_on_seed_and_epoch_only() -> None:
    labels = np.repeat([0, 1], [8, 2])
    whole = list(GlobalBatchSampler(10, 4, 6, seed=3, labels=labels, balance=1.0))
    assert whole[2:] == list(GlobalBatchSampler(10, 4, 6, seed=3, labels=labels, balance=1.0, start_step=2))
    assert [key.epoch for key in whole[2]] == [1] * 4
    with pytest.raises(InputError, match=r"data.balance must lie in \[0, 1\] and needs data with labels, got 1"):
        GlobalBatchSampler(10, 4, 6, balance=1.0)


def test_a_sample_that_comes_again_is_drawn_anew() -> None:
    """Its draws are counted through the epoch, over all batches and processes; the first one is drawn as without balance."""
    labels = np.repeat([0, 1], [8, 2])
    whole = [key for batch in GlobalBatchSampler(10, 5, 4, seed=3, labels=labels, balance=1.0) for key in batch]
    assert len(set(whole)) == len(whole) and max(key.draw for key in whole) == 2, "two samples fill five places of ten"
    for epoch in (0, 1):
        seen: list[int] = []
        for key in whole[10 * epoch : 10 * epoch + 10]:
            assert (key.epoch, key.draw) == (epoch, seen.count(key.index))
            seen.append(key.index)
    ranks = [[key for batch in GlobalBatchSampler(10, 10, 2, seed=3, labels=labels, balance=1.0, rank=rank, world_size=2) for key in batch]
             for rank in (0, 1)]
    assert ranks[0][:5] + ranks[1][:5] == whole[:10]


def test_generators_of_keys() -> None:
    """The first draw of an epoch is that of (seed, epoch, index, purpose); every other key is another generator."""
    def drawn(key: SampleKey, seed: int = 3, purpose: int = 0) -> list[int]:
        return key.generator(seed, purpose).integers(10**9, size=4).tolist()  # type: ignore[no-any-return]

    for purpose, numbers in ((0, [3, 5, 7]), (2, [3, 5, 7, 2])):
        assert drawn(SampleKey(7, 5), purpose=purpose) == np.random.default_rng(numbers).integers(10**9, size=4).tolist()
    keys = [SampleKey(index, epoch, draw) for index in range(3) for epoch in range(3) for draw in range(3)]
    found = [tuple(drawn(key, purpose=purpose)) for key in keys for purpose in range(4)]
    assert len(set(found)) == len(found)
    assert SampleKey.of(4) == SampleKey(4, 0, 0) and SampleKey.of(keys[5]) is keys[5]


def test_times_before_by_hand() -> None:
    assert times_before(np.array([4, 2, 4, 4, 0, 2])).tolist() == [0, 0, 1, 2, 0, 1]
    assert times_before(np.array([], dtype=np.int64)).tolist() == []
