from __future__ import annotations

import pytest
import torch

from clip2x.evaluation.metrics import classification_metrics, merge_parts

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

    scores, labels = merge_parts([part(0, 2, 4), part(1, 3, 0)])
    assert labels.tolist() == [0, 10, 20, 30, 40]
    assert scores[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
