from __future__ import annotations

import pytest
import torch

from clip2x.evaluation.metrics import apart_metrics, classification_metrics, effect_of, merge_parts, paired_gain

NAMES = ("a", "b", "c", "d", "e", "f")


def test_metrics_by_hand() -> None:
    """Labels 0 0 0 1; predictions 0 0 1 1: top-1 3/4, class mean (2/3 + 1) / 2; classes c to f have no sample."""
    scores = torch.eye(6)[torch.tensor([0, 0, 1, 1])] + torch.tensor([0.05, 0.04, 0.03, 0.02, 0.01, 0.0])
    metrics = classification_metrics(scores, torch.tensor([0, 0, 0, 1]), NAMES)
    assert metrics["top1"] == 0.75
    assert metrics["class_mean"] == pytest.approx(5 / 6)
    assert metrics["per_class"] == {"a": pytest.approx(2 / 3), "b": 1.0, "c": None, "d": None, "e": None, "f": None}
    assert metrics["confusion"][0] == [2, 1, 0, 0, 0, 0]
    assert metrics["top5"] == 1.0
    assert metrics["chance"] == pytest.approx(1 / 6)
    assert metrics["majority"] == 0.75
    low, high = metrics["interval"]["top1"]
    assert low <= 0.75 <= high


def test_an_absent_class_that_attracts_predictions_does_not_lower_the_class_mean() -> None:
    metrics = classification_metrics(torch.eye(6)[torch.tensor([0, 5])], torch.tensor([0, 0]), NAMES)
    assert metrics["class_mean"] == 0.5


def test_random_scores_are_at_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(6000, 6, generator=generator), torch.arange(6000) % 6
    metrics = classification_metrics(scores, labels, NAMES)
    assert metrics["top1"] == pytest.approx(1 / 6, abs=0.02)
    assert metrics["top5"] == pytest.approx(5 / 6, abs=0.02)


def test_interval_is_near_the_binomial_one() -> None:
    correct = (torch.arange(1000) % 4 != 0).long()
    metrics = classification_metrics(torch.eye(6)[1 - correct], torch.zeros(1000, dtype=torch.long), NAMES)
    low, high = metrics["interval"]["top1"]
    assert low == pytest.approx(0.75 - 1.96 * (0.75 * 0.25 / 1000) ** 0.5, abs=0.005)
    assert high == pytest.approx(0.75 + 1.96 * (0.75 * 0.25 / 1000) ** 0.5, abs=0.005)


def test_top5_is_not_stated_for_few_classes() -> None:
    assert classification_metrics(torch.eye(2), torch.tensor([0, 1]), ("a", "b"))["top5"] is None


def test_merging_puts_samples_in_order_and_drops_repetitions() -> None:
    def part(*index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        order = torch.tensor(index)
        return order, order[:, None].float().repeat(1, 2), order * 10

    _, scores, labels = merge_parts([part(0, 2, 4), part(1, 3, 0)])
    assert labels.tolist() == [0, 10, 20, 30, 40]
    assert scores[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_gain_is_paired_by_sample() -> None:
    """Ten of 100 samples gained, none lost: the interval is that of a binomial share and cannot reach zero."""
    before = torch.arange(100) < 50
    after = torch.arange(100) < 60
    gain = paired_gain(after, before)
    assert gain["top1"] == pytest.approx(0.1)
    low, high = gain["interval"]
    assert low == pytest.approx(0.1 - 1.96 * (0.1 * 0.9 / 100) ** 0.5, abs=0.015) and low > 0
    assert high == pytest.approx(0.1 + 1.96 * (0.1 * 0.9 / 100) ** 0.5, abs=0.015)
    assert effect_of(gain) == "gain" and effect_of(paired_gain(before, after)) == "loss"
    assert paired_gain(after, before, seed=1) == paired_gain(after, before, seed=1) != gain


def test_as_many_samples_lost_as_gained_show_no_effect() -> None:
    gain = paired_gain(torch.arange(100) < 60, torch.arange(100) >= 40)
    low, high = gain["interval"]
    assert gain["top1"] == 0.0 and low < 0 < high
    assert high - low == pytest.approx(2 * 1.96 * (0.8 / 100) ** 0.5, abs=0.04)
    assert effect_of(gain) == "no effect shown"
    same = paired_gain(torch.ones(5, dtype=torch.bool), torch.ones(5, dtype=torch.bool))
    assert same == {"top1": 0.0, "interval": [0.0, 0.0]} and effect_of(same) == "no effect shown"
    assert paired_gain(torch.ones(5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool)) == {"top1": 1.0, "interval": [1.0, 1.0]}


def test_a_paired_gain_equals_the_bootstrap_that_draws_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    after, before = torch.rand(400, generator=generator) < 0.7, torch.rand(400, generator=generator) < 0.6
    drawn = torch.randint(400, (4000, 400), generator=generator)
    slow = (after[drawn].double() - before[drawn].double()).mean(dim=1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    assert paired_gain(after, before)["interval"] == pytest.approx(slow.tolist(), abs=0.01)


def test_names_apart_by_hand() -> None:
    """Labels a a b b b c; right are a, b, b: a 1/2, b 2/3, c 0; d has no sample."""
    names = ("Tv_Stand", "b", "c", "d")
    metrics = classification_metrics(torch.eye(4)[torch.tensor([0, 1, 1, 1, 0, 0])], torch.tensor([0, 0, 1, 1, 1, 2]), names)
    assert apart_metrics(metrics, ["tv  stand", "C", "elsewhere"]) == {
        "names": ["Tv_Stand", "c"], "num_samples": 3, "class_mean": pytest.approx(1 / 4),
        "rest_num_samples": 3, "rest_class_mean": pytest.approx(2 / 3)}
    assert apart_metrics(metrics, ["d"]) == {
        "names": ["d"], "num_samples": 0, "class_mean": None, "rest_num_samples": 6, "rest_class_mean": pytest.approx(7 / 18)}
    assert apart_metrics(metrics, ["elsewhere"]) is None and apart_metrics(metrics, []) is None
    assert apart_metrics(metrics, names)["rest_class_mean"] is None  # type: ignore[index]


def test_merging_keeps_whatever_lies_behind_a_sample() -> None:
    label = torch.tensor([0])
    _, scores, _ = merge_parts([(torch.tensor([1]), torch.ones(1, 3, 2), label), (torch.tensor([0]), torch.zeros(1, 3, 2), label)])
    assert scores.shape == (2, 3, 2) and scores[0].sum() == 0
