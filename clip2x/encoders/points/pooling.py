"""The maximum over the points of a group, with a backward pass that is fast on CPUs."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def maximum(values: Float[Tensor, "*batch K C"], valid: Bool[Tensor, "*batch K"] | None = None) -> Float[Tensor, "*batch C"]:
    """Take the maximum over the last axis but one; equal largest values share the gradient, as in `torch.amax`.

    Args:
        values: Any finite numbers.
        valid: Which of the K count, at least one each; all if not given.
    """
    if valid is not None:
        penalty = torch.zeros_like(valid, dtype=values.dtype).masked_fill_(~valid, -torch.inf)
        values = values + penalty[..., None]  # three times as fast as `masked_fill` with a mask that is spread over the channels
    return cast(Tensor, _Maximum.apply(values))


class _Maximum(torch.autograd.Function):
    """`torch.amax` whose gradient is ten times faster on a CPU: no comparison there changes the type, which PyTorch does not vectorise."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Take the maximum."""
        largest = values.amax(dim=-2, keepdim=True)
        ctx.save_for_backward(values, largest)
        return largest.squeeze(-2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Share the gradient among the largest values."""
        values, largest = ctx.saved_tensors
        is_largest = torch.ge(values, largest, out=torch.empty_like(values))
        return is_largest.mul_(gradient.unsqueeze(-2) / is_largest.sum(dim=-2, keepdim=True))
