"""Muon for the filters of a small convolutional tower, AdamW for all other parameters, as one optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import AdamW

MOMENTUM = 0.95  # third party: Muon (github.com/KellerJordan/Muon)
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # third party: Muon; of its quintic Newton-Schulz iteration
ITERATIONS = 5  # third party: Muon


class MuonAdamW(AdamW):
    """Groups with `orthogonal: True` take Muon's steps, the others AdamW's.

    A filter bank W with gradient g, seen as a matrix with a row for each filter: `m = MOMENTUM m + g`, `W -= lr |W| / sqrt(r) O(g + MOMENTUM m)`,
    where O makes all singular values about 1 and r is the smaller side of the matrix, so that `lr` is the share of its own length by which
    a bank changes; then W is brought back to the length that it had, or it would grow beyond what other optimizers can change later. That scaling
    is ours and fits filters that are standardised before use (`StandardisedConv2d`), of which only the direction
    matters; such groups are not decayed. Muon itself: third party, Keller Jordan.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient; gradients of orthogonal groups are used up."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if not group.get("orthogonal"):
                continue
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._turn(parameter, parameter.grad, group["lr"])
                    parameter.grad = None  # AdamW leaves out what has none
        super().step()
        return loss

    def _turn(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())  # AdamW expects one when a state is loaded
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].mul_(MOMENTUM).add_(gradient)
        matrix = gradient.add(momentum, alpha=MOMENTUM).flatten(1)
        length = float(parameter.norm())
        parameter.sub_(orthogonalised(matrix).view_as(parameter), alpha=lr * length / math.sqrt(min(matrix.shape)))
        parameter.mul_(length / float(parameter.norm()))


def orthogonalised(matrix: Float[Tensor, "R C"]) -> Float[Tensor, "R C"]:
    """Bring all singular values near 1 (0.7 to 1.2) and keep the singular vectors; 0 stays 0.

    Newton-Schulz as in Muon, but on the small square X X^T, with the product of all steps applied once: the same result up to rounding, with a
    fraction of the work for wide matrices.
    """
    if matrix.shape[0] > matrix.shape[1]:
        flat: Tensor = orthogonalised(matrix.T).T
        return flat
    a, b, c = COEFFICIENTS
    scaled = matrix / (matrix.norm() + 1e-7)
    square = scaled @ scaled.T
    identity = torch.eye(len(square), dtype=matrix.dtype, device=matrix.device)
    product = identity
    for _ in range(ITERATIONS):
        factor = a * identity + b * square + c * square @ square
        product, square = factor @ product, factor @ square @ factor
    result: Tensor = product @ scaled
    return result
