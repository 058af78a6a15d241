from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from clip2x.losses import CaptionLoss


def embeds(rows: int, seed: int) -> torch.Tensor:
    return functional.normalize(torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_caption_loss_by_hand() -> None:
    """Two orthogonal pairs at scale 2: each row is log(1 + e^-2)."""
    loss = CaptionLoss(temperature=0.5)
    pair = torch.eye(2)
    terms = loss(pair, pair, torch.zeros(2, 2, dtype=torch.bool))
    assert terms["loss"].item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


def test_caption_loss_equals_a_loop() -> None:
    images, texts = embeds(5, 0), embeds(5, 1)
    also_true = torch.rand(5, 5, generator=torch.Generator().manual_seed(2)) < 0.3
    terms = CaptionLoss(temperature=0.1)(images, texts, also_true)
    expected = {"image_to_text": 0.0, "text_to_image": 0.0}
    for i in range(5):
        rows = [math.exp(10 * float(images[i] @ texts[j])) for j in range(5) if i == j or not also_true[i, j]]
        columns = [math.exp(10 * float(images[j] @ texts[i])) for j in range(5) if i == j or not also_true[j, i]]
        own = math.exp(10 * float(images[i] @ texts[i]))
        expected["image_to_text"] -= math.log(own / sum(rows)) / 5
        expected["text_to_image"] -= math.log(own / sum(columns)) / 5
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(sum(expected.values()) / 2, rel=1e-4)


def test_caption_loss_does_not_depend_on_the_order() -> None:
    images, texts, also_true = embeds(6, 0), embeds(6, 1), torch.eye(6).bool()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    loss = CaptionLoss()
    assert torch.allclose(loss(images, texts, also_true)["loss"], loss(images[order], texts[order], also_true)["loss"], atol=1e-6)


def test_a_caption_that_is_true_of_all_costs_nothing() -> None:
    terms = CaptionLoss()(embeds(4, 0), embeds(4, 1), torch.ones(4, 4, dtype=torch.bool))
    assert terms["loss"].item() == 0.0


def test_the_scale_is_clamped() -> None:
    loss = CaptionLoss(temperature=1e-4, max_scale=100.0)
    assert loss.scale.item() == 100.0
