from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from clip2x.errors import InputError
from clip2x.optim import Lamb, decayed_and_not, warmup_cosine

SHAPES = [(7, 5), (64, 33), (40,), (), (3, 4, 2, 2), (30, 20), (1,), (40,), (7, 5)]


def parameters(seed: int = 0, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Draw weights of several shapes: the sixth longer than 10, the seventh 0."""
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(shape, generator=generator, dtype=dtype) / 10 for shape in SHAPES]
    values[5] *= 50
    values[6].zero_()
    return [nn.Parameter(value) for value in values]


def set_gradients(params: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in params:
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def slow_step(params: list[nn.Parameter], state: list[dict[str, Tensor]], *, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6,
              weight_decay: float = 0.0, limit: float = 10.0) -> None:
    """Do what torch_optimizer 0.3.0 does, tensor by tensor."""
    for parameter, moments in zip(params, state, strict=True):
        assert parameter.grad is not None
        moments["m"] = betas[0] * moments.get("m", torch.zeros_like(parameter)) + (1 - betas[0]) * parameter.grad
        moments["v"] = betas[1] * moments.get("v", torch.zeros_like(parameter)) + (1 - betas[1]) * parameter.grad**2
        update = moments["m"] / (moments["v"].sqrt() + eps) + weight_decay * parameter.detach()
        length, change = min(float(parameter.detach().norm()), limit), float(update.norm())
        factor = length / change if length != 0 and change != 0 else 1.0
        parameter.data -= lr * factor * update.detach()


def test_a_step_by_hand() -> None:
    """Weight (3, 4), gradient (1, -2), rate 0.1, no decay, eps 0 in effect: m = g / 10, v = g^2 / 1000, so u = sqrt(10) (1, -1) of length sqrt(20).

    |p| = 5, so p moves by 0.1 * 5 along u / |u| = (1, -1) / sqrt(2).
    """
    weight = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    weight.grad = torch.tensor([1.0, -2.0], dtype=torch.float64)
    Lamb([weight], lr=0.1, eps=1e-15, weight_decay=0.0).step()
    assert weight.tolist() == pytest.approx([3 - 0.5 / math.sqrt(2), 4 + 0.5 / math.sqrt(2)], rel=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_equals_a_loop_over_tensors(decay: float) -> None:
    ours, theirs = parameters(dtype=torch.float64), parameters(dtype=torch.float64)
    optimizer, state = Lamb(ours, lr=0.02, weight_decay=decay), [{} for _ in theirs]
    for step in range(20):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        optimizer.step()
        slow_step(theirs, state, lr=0.02, weight_decay=decay)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-13)


def test_large_tensors_on_a_cpu_stand_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for limit in (1 << 18, 30):
        monkeypatch.setattr("clip2x.optim.ALONE_ON_CPU", limit)
        params = parameters()
        optimizer = Lamb(params, lr=0.02)
        for step in range(3):
            set_gradients(params, step)
            optimizer.step()
        weights.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_equals_torch_optimizer() -> None:
    """Weights that torch_optimizer 0.3.0 printed: Lamb(lr=6e-3, weight_decay=1e-4), 20 steps with gradient cos(step + position)."""
    params = [nn.Parameter(torch.tensor(value)) for value in ([[-0.2, -0.1, 0.0], [0.1, 0.2, 0.3]], [8.0, -8.0, 6.0, 14.0], 1.0, [0.0, 0.0, 0.0])]
    optimizer = Lamb(params, lr=6e-3, weight_decay=1e-4)
    after = {1: [[-0.2010677009820938, -0.09893231093883514, 0.0010677360696718097, 0.10106771439313889, 0.19893234968185425, 0.2989322543144226],
                 [7.969991683959961, -7.969992160797119, 6.029995918273926, 14.029988288879395], [0.9940000176429749],
                 [-0.018972555175423622, 0.01897222362458706, 0.018973061814904213]],
             20: [[-0.19832882285118103, -0.09398367255926132, 0.0036006520967930555, 0.09909503906965256, 0.19390031695365906, 0.2959153950214386],
                  [8.049087524414062, -7.82236385345459, 6.105533123016357, 13.972677230834961], [1.011708378791809],
                  [-0.018665077164769173, 0.019508153200149536, 0.019237162545323372]]}
    for step in range(20):
        for parameter in params:
            parameter.grad = torch.cos(step + torch.arange(1, parameter.numel() + 1, dtype=torch.float32)).view(parameter.shape)
        optimizer.step()
        for parameter, expected in zip(params, after.get(step + 1, []), strict=step + 1 in after):
            assert parameter.detach().flatten().tolist() == pytest.approx(expected, rel=2e-6, abs=1e-8)


def test_lengths_of_zero_take_the_plain_step() -> None:
    """|p| = 0: Adam's step, here lr * 0.1 / sqrt(0.001). |u| = 0: nothing moves, and nothing turns into NaN."""
    zero, still = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(3))
    zero.grad, still.grad = torch.ones(3), torch.zeros(3)
    Lamb([zero, still], lr=0.1, weight_decay=0.0).step()
    assert zero.tolist() == pytest.approx([-0.1 * 0.1 / (math.sqrt(0.001) + 1e-6)] * 3, rel=1e-5)
    assert still.tolist() == [1.0, 1.0, 1.0]


def test_a_step_does_not_depend_on_the_length_of_the_gradient() -> None:
    """By Adam's direction; and the change has the length lr min(|p|, 10)."""
    steps = []
    for factor in (1.0, 1000.0):
        params = parameters(dtype=torch.float64)
        before = [parameter.detach().clone() for parameter in params]
        set_gradients(params, 0)
        for parameter in params:
            assert parameter.grad is not None
            parameter.grad *= factor
        Lamb(params, lr=0.02, eps=1e-300, weight_decay=0.0).step()
        steps.append([parameter.detach() - old for parameter, old in zip(params, before, strict=True)])
        for change, old in zip(steps[-1], before, strict=True):
            if old.norm() > 0:
                assert change.norm().item() == pytest.approx(0.02 * min(old.norm().item(), 10.0), rel=1e-9)
    for first, second in zip(*steps, strict=True):
        torch.testing.assert_close(first, second)


def test_groups_have_their_own_settings_and_missing_gradients_are_left_alone() -> None:
    ours, theirs = parameters(dtype=torch.float64), parameters(dtype=torch.float64)
    optimizer = Lamb([{"params": ours[:4], "lr": 0.1}, {"params": ours[4:-1], "weight_decay": 0.5, "max_weight_norm": math.inf}], lr=0.01)
    set_gradients(ours, 0)
    set_gradients(theirs, 0)
    ours[0].grad = None
    optimizer.step()
    slow_step(theirs[1:4], [{} for _ in range(3)], lr=0.1, weight_decay=1e-4)
    slow_step(theirs[4:-1], [{} for _ in theirs[4:-1]], lr=0.01, weight_decay=0.5, limit=math.inf)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-13)
    assert ours[0] not in optimizer.state


def test_mixed_types_and_layouts() -> None:
    tall = nn.Parameter(torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last))
    twin = nn.Parameter(tall.detach().contiguous())
    double = nn.Parameter(torch.ones(3, dtype=torch.float64))
    ours, state = [tall, double], [{}]
    set_gradients(ours, 0)
    assert tall.grad is not None
    twin.grad = tall.grad.clone()
    Lamb(ours, lr=0.1, weight_decay=0.0).step()
    slow_step([twin], state, lr=0.1)
    torch.testing.assert_close(tall.detach(), twin.detach())
    assert (double - 1).norm().item() == pytest.approx(0.1 * math.sqrt(3))


def test_a_restored_optimizer_continues_bit_for_bit(tmp_path: Path) -> None:
    straight, stopped = parameters(), parameters()
    first, second = Lamb(straight, lr=0.02), Lamb(stopped, lr=0.02)
    for step in range(10):
        if step == 5:
            torch.save({"optimizer": second.state_dict(), "weights": [parameter.detach() for parameter in stopped]}, tmp_path / "state.pt")
            kept = torch.load(tmp_path / "state.pt", weights_only=True)
            stopped = [nn.Parameter(value) for value in kept["weights"]]
            second = Lamb(stopped, lr=0.5, weight_decay=0.3)
            second.load_state_dict(kept["optimizer"])
        for params, optimizer in ((straight, first), (stopped, second)):
            set_gradients(params, step)
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(straight, stopped, strict=True))
    assert set(first.state[straight[0]]) == {"exp_avg", "exp_avg_sq"}


def test_a_closure_is_called_with_gradients_on() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = Lamb([weight], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 5.0
    assert closure().item() < 5.0


class Operations(TorchDispatchMode):
    """Lists the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_operations_do_not_grow_with_the_number_of_tensors() -> None:
    counts = []
    for copies in (1, 20):
        params = [parameter for seed in range(copies) for parameter in parameters(seed)]
        optimizer = Lamb(params)
        set_gradients(params, 0)
        optimizer.step()
        with Operations() as operations:
            optimizer.step()
        waits = [name for name in operations.names if "local_scalar" in name or "item" in name or "_to_copy" in name]
        assert not waits, "a step must not wait for a device"
        counts.append(len(operations.names))
    assert counts[0] == counts[1] <= 20 + 5 * len(set(SHAPES))


@pytest.mark.gpu
def test_a_step_never_waits_for_the_gpu() -> None:
    ours, theirs = [nn.Parameter(parameter.detach().cuda()) for parameter in parameters()], parameters()
    optimizer, twin = Lamb(ours, lr=0.02), Lamb(theirs, lr=0.02)
    set_gradients(theirs, 0)
    for mine, other in zip(ours, theirs, strict=True):
        assert other.grad is not None
        mine.grad = other.grad.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    twin.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.detach().cpu(), other.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("settings", "message"), [
    ({"lr": 0.0}, "lr must be a positive number, got 0.0"),
    ({"lr": math.nan}, "lr must be a positive number, got nan"),
    ({"eps": -1e-6}, "eps must be a positive number"),
    ({"betas": (0.9, 1.0)}, r"betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
    ({"weight_decay": -0.1}, "weight_decay must be a number from 0 on, got -0.1"),
    ({"max_weight_norm": 0.0}, "max_weight_norm must be positive, .inf for no limit, got 0.0"),
])
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Lamb([nn.Parameter(torch.ones(2))], **settings)
    with pytest.raises(InputError, match=message):
        Lamb([{"params": [nn.Parameter(torch.ones(2))], **settings}])


def test_what_it_cannot_train() -> None:
    with pytest.raises(InputError, match="lr must be a positive number, got tensor"):
        Lamb([{"params": [nn.Parameter(torch.ones(2))], "lr": torch.tensor(0.1)}])
    with pytest.raises(InputError, match="Lamb trains real parameters, one is complex"):
        Lamb([nn.Parameter(torch.ones(2, dtype=torch.complex64))])
    weight = nn.Parameter(torch.ones(4, 2))
    weight.grad = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.ones(1, 2), (4, 2), check_invariants=True)
    with pytest.raises(InputError, match="Lamb takes no sparse gradients"):
        Lamb([weight]).step()


def test_only_matrices_are_decayed() -> None:
    """By the number of axes; frozen weights are in no group, and groups without weights are left out."""
    linear, norm, number = nn.Linear(3, 4), nn.LayerNorm(4), nn.Parameter(torch.tensor(1.0))
    frozen, filters = nn.Linear(2, 2).requires_grad_(False), nn.Conv2d(1, 2, 3, bias=False)
    matrices, rest = decayed_and_not([*linear.parameters(), *norm.parameters(), number, *frozen.parameters(), *filters.parameters()])
    assert [id(item) for item in matrices["params"]] == [id(linear.weight), id(filters.weight)] and "weight_decay" not in matrices
    assert [id(item) for item in rest["params"]] == [id(linear.bias), id(norm.weight), id(norm.bias), id(number)] and rest["weight_decay"] == 0
    optimizer = torch.optim.AdamW([matrices, rest], lr=0.1, weight_decay=0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    assert [len(group["params"]) for group in decayed_and_not(norm.parameters())] == [2]


@pytest.mark.parametrize(("steps", "warmup", "expected"), [
    (6, 2, [1 / 3, 2 / 3, 1.0, 0.5 + 0.5 * math.cos(math.pi / 4), 0.5, 0.5 - 0.5 * math.cos(math.pi / 4), 0.0]),
    (4, 0, [1.0, 0.5 + 0.5 * math.cos(math.pi / 4), 0.5, 0.5 - 0.5 * math.cos(math.pi / 4), 0.0]),
    (2, 2, [1 / 3, 2 / 3, 1.0]),
])
def test_the_rate_climbs_then_falls_along_a_cosine(steps: int, warmup: int, expected: list[float]) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=10.0)
    schedule = warmup_cosine(optimizer, steps, warmup)
    rates = [schedule.get_last_lr()[0]]
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        rates += schedule.get_last_lr()
    assert rates == pytest.approx([10 * factor for factor in expected], abs=1e-9)
