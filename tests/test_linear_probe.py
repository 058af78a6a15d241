"""The linear probe: its objective by hand and against Newton's method, its invariances, how its strength is chosen, what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from clip2x.errors import InputError
from clip2x.evaluation.linear_probe import FIXED_STRENGTH, FOLDS, STRENGTHS, _folds, fit_probe


def clusters(shots: int, *, classes: int = 3, width: int = 5, noise: float = 0.7, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(classes).repeat_interleave(shots)
    return centres[labels] + noise * torch.randn(len(labels), width, generator=generator), labels


def newton(features: Tensor, labels: Tensor, classes: int, strength: float) -> Tensor:
    """Minimise the same sum by Newton's method, (F + 1, C) with the bias last; features are scaled already."""
    inputs = torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.float64)], dim=1)

    def loss(flat: Tensor) -> Tensor:
        weights = flat.view(-1, classes)
        return functional.cross_entropy(inputs @ weights, labels, reduction="sum") + strength / 2 * weights[:-1].square().sum()

    flat = torch.zeros(inputs.shape[1] * classes, dtype=torch.float64)
    for _ in range(30):
        gradient = torch.autograd.functional.jacobian(loss, flat)
        flat = flat - torch.linalg.pinv(torch.autograd.functional.hessian(loss, flat), hermitian=True) @ gradient
    return flat.view(-1, classes)


def test_two_points_by_hand() -> None:
    """At +1 and -1 the weights are w and -w by symmetry, where 2 s w = 4 / (1 + e^2w) from the derivative; w = 0.5 for s = 4 / (1 + e)."""
    probe = fit_probe(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]), 2, fixed_strength=4 / (1 + math.e))
    assert torch.allclose(probe.weight, torch.tensor([[-0.5], [0.5]], dtype=torch.float64), atol=1e-6)
    assert torch.allclose(probe.bias, torch.zeros(2, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(probe.scores(torch.tensor([[3.0]])), torch.tensor([[-1.5, 1.5]], dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
def test_the_minimum_is_that_of_newtons_method(strength: float) -> None:
    features, labels = clusters(3)
    probe = fit_probe(features, labels, 3, fixed_strength=strength)
    mean = features.double().mean(dim=0)
    scale = (features.double() - mean).square().sum(dim=1).mean().sqrt()
    twin = newton((features.double() - mean) / scale, labels, 3, strength)
    others = clusters(20, seed=1)[0]
    expected = (others.double() - mean) / scale @ twin[:-1] + twin[-1]
    assert torch.allclose(probe.scores(others), expected, atol=1e-5)


def test_shift_scale_and_rotation_of_features_change_no_score() -> None:
    features, labels = clusters(8)
    others = clusters(20, seed=1)[0]
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]

    def changed(values: Tensor) -> Tensor:
        return 40.0 * values.double() @ rotation + 7.0

    plain, other = fit_probe(features, labels, 3), fit_probe(changed(features), labels, 3)
    assert plain.strength == other.strength
    assert torch.allclose(plain.scores(others), other.scores(changed(others)), atol=1e-4)


def test_order_of_samples_and_of_classes_does_not_matter_at_a_fixed_strength() -> None:
    features, labels = clusters(3)
    others = clusters(20, seed=1)[0]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    plain = fit_probe(features, labels, 3).scores(others)
    assert torch.allclose(plain, fit_probe(features[order], labels[order], 3).scores(others), atol=1e-5)
    renamed = torch.tensor([2, 0, 1])
    assert torch.allclose(plain, fit_probe(features, renamed[labels], 3).scores(others)[:, renamed], atol=1e-5)


def test_the_same_arguments_give_the_same_probe_in_every_mode_of_autograd() -> None:
    features, labels = clusters(4)
    first = fit_probe(features, labels, 3, seed=5)
    with torch.inference_mode():
        second = fit_probe(features * 1, labels * 1, 3, seed=5)
    assert first.strength == second.strength and torch.equal(first.weight, second.weight) and torch.equal(first.bias, second.bias)
    assert not first.weight.requires_grad


def test_the_strength_is_the_one_that_explains_held_out_quarters_best() -> None:
    """Each fold by itself, with the plain fit at a fixed strength."""
    strengths = [100.0, 1.0, 0.01]
    chosen = []
    for noise in (0.1, 6.0):
        features, labels = clusters(8, noise=noise)
        fold = _folds(labels, 3, seed=4)
        assert fold is not None
        losses = dict.fromkeys(strengths, 0.0)
        for number in range(FOLDS):
            held = torch.from_numpy(fold == number)
            assert labels[held].bincount(minlength=3).tolist() == [2, 2, 2]
            for strength in strengths:
                logits = fit_probe(features[~held], labels[~held], 3, strengths=[strength]).scores(features[held])
                losses[strength] += float(functional.cross_entropy(logits, labels[held], reduction="sum"))
        probe = fit_probe(features, labels, 3, strengths=strengths, seed=4)
        assert probe.strength == min(losses, key=lambda strength: losses[strength])
        assert probe.chosen_by == "4-fold cross-validation within the training samples"
        chosen.append(probe.strength)
    assert chosen == sorted(chosen) and len(set(chosen)) > 1, "noise asks for a stronger penalty"


def test_folds_hold_every_class_and_spread_what_does_not_divide() -> None:
    labels = torch.arange(4).repeat_interleave(5)
    fold = _folds(labels, 4, seed=0)
    assert fold is not None and sorted(torch.from_numpy(fold).bincount().tolist()) == [5, 5, 5, 5]
    assert all(len(set(fold[labels.numpy() == label].tolist())) == FOLDS for label in range(4))
    assert _folds(labels[1:-3], 4, seed=0) is None, "the last class has two samples"


def test_with_fewer_than_four_samples_of_a_class_the_strength_is_fixed() -> None:
    probe = fit_probe(*clusters(3), 3)
    assert probe.strength == FIXED_STRENGTH and probe.chosen_by == "fixed: a class has fewer than 4 samples"
    assert fit_probe(*clusters(4), 3).strength in STRENGTHS


def test_clear_classes_are_learnt_and_equal_features_give_the_shares_of_the_classes() -> None:
    features, labels = clusters(4, noise=0.1)
    others, truth = clusters(50, noise=0.1, seed=1)
    assert bool((fit_probe(features, labels, 3).scores(others).argmax(dim=1) == truth).all())
    flat = fit_probe(torch.ones(4, 2), torch.tensor([0, 0, 0, 1]), 2).scores(torch.ones(1, 2)).softmax(dim=1)
    assert torch.allclose(flat, torch.tensor([[0.75, 0.25]], dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize(("changes", "message"), [
    ({"labels": torch.tensor([0, 1])}, "got 9 features and labels of shape (2,)"),
    ({"num_classes": 1}, "at least 2 classes, got 1"),
    ({"num_classes": 2}, "must lie between 0 and 1, got 0 to 2"),
    ({"num_classes": 5}, "class 3 has none"),
    ({"features": torch.full((9, 5), float("nan"))}, "NaN or infinite"),
    ({"strengths": [1.0, 0.0]}, "must be positive, got 1, 0, 1"),
])
def test_what_cannot_be_fitted_is_one_line(changes: dict[str, Any], message: str) -> None:
    features, labels = clusters(3)
    with pytest.raises(InputError) as caught:
        fit_probe(**{"features": features, "labels": labels, "num_classes": 3, **changes})
    assert message in str(caught.value) and "\n" not in str(caught.value)
