from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from clip2x.modules.muon import COEFFICIENTS, ITERATIONS, MOMENTUM, MuonAdamW, orthogonalised


@pytest.mark.parametrize("shape", [(24, 48), (48, 24), (192, 1728), (5, 5)])
def test_singular_values_come_near_1_and_their_vectors_stay(shape: tuple[int, int]) -> None:
    """A slow twin: the quintic applied to the singular values themselves."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    a, b, c = COEFFICIENTS
    expected = values / values.norm()
    for _ in range(ITERATIONS):
        expected = a * expected + b * expected**3 + c * expected**5
    result = orthogonalised(matrix)
    assert torch.allclose(result, left @ torch.diag(expected) @ right, atol=2e-3)
    assert torch.allclose(orthogonalised(100 * matrix), result, atol=2e-3)
    if shape != (5, 5):
        assert 0.6 < float(expected.min()) <= float(expected.max()) < 1.25


def test_no_gradient_signal_means_no_change() -> None:
    assert not orthogonalised(torch.zeros(4, 9)).any()


def test_steps_of_filters_by_hand_and_of_the_rest_by_adamw() -> None:
    generator = torch.Generator().manual_seed(1)
    filters, other = (nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((6, 3, 2, 2), (5, 4)))
    twin = nn.Parameter(other.detach().clone())
    optimizer = MuonAdamW([{"params": [other]}, {"params": [filters], "lr": 0.1, "orthogonal": True}], lr=0.01, weight_decay=0.3)
    adamw = torch.optim.AdamW([twin], lr=0.01, weight_decay=0.3)
    momentum = torch.zeros(6, 12)
    for _ in range(3):
        gradient = torch.randn(filters.shape, generator=generator)
        before = filters.detach().clone()
        momentum = MOMENTUM * momentum + gradient.flatten(1)
        direction = orthogonalised(gradient.flatten(1) + MOMENTUM * momentum)
        filters.grad, other.grad = gradient, torch.randn(other.shape, generator=generator)
        twin.grad = other.grad.clone()
        optimizer.step()
        adamw.step()
        moved = before - (0.1 * before.norm() / math.sqrt(6) * direction).view_as(filters)
        assert torch.allclose(filters, moved * before.norm() / moved.norm(), atol=1e-5)
        assert float(filters.norm()) == pytest.approx(float(before.norm()), rel=1e-5)
        assert torch.equal(other, twin)


def test_a_loaded_state_goes_on_as_if_nothing_had_happened() -> None:
    def made() -> tuple[nn.Sequential, MuonAdamW]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2))
        weights, rest = [model[0].weight], [model[0].bias, *model[2].parameters()]
        return model, MuonAdamW([{"params": weights, "lr": 0.05, "orthogonal": True}, {"params": rest}], lr=1e-2, fused=True)

    def advance(model: nn.Sequential, optimizer: MuonAdamW, step: int) -> None:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(step))).square().sum()
            loss.backward()
            return loss

        assert optimizer.step(closure) > 0

    whole, optimizer = made()
    for step in range(2):
        advance(whole, optimizer, step)
    state, weights = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(whole.state_dict())
    resumed, other = made()
    resumed.load_state_dict(weights)
    other.load_state_dict(state)
    for model, mine in ((whole, optimizer), (resumed, other)):
        advance(model, mine, 2)
    assert all(torch.equal(one, two) for one, two in zip(whole.parameters(), resumed.parameters(), strict=True))
