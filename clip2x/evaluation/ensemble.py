"""Factors with which the cosines of several encoders are added, fitted on validation."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

PRIOR = 1e-3
STEPS = 100


def fit_factors(cosines: Float[Tensor, "P N C"], labels: Int64[Tensor, " N"], *, start: float) -> list[float]:
    """Fit one positive factor per encoder so that softmax(sum of factor x cosine) gives the labels the largest mean log-probability.

    Factors, not weights of one: they set the temperature too, so the sum is well defined for any number of names.

    Args:
        cosines: Of P encoders, N samples and C names.
        labels: Of validation samples, never of a test set.
        start: Where every factor starts. Its logarithm is also drawn weakly there (`PRIOR`), which keeps the factors finite where few
            samples are told apart without an error.

    Returns:
        P factors.

    Source: ours; the field adds the logits of tuned and original towers with equal weight.
    """
    logs = torch.full((len(cosines),), math.log(start), dtype=torch.float64, requires_grad=True)
    scores = cosines.detach().double().cpu()
    optimizer = torch.optim.LBFGS([logs], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = functional.cross_entropy(torch.einsum("p,pnc->nc", logs.exp(), scores), labels.cpu())
        total = total + PRIOR * (logs - math.log(start)).square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad(), torch.inference_mode(False):
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return [float(factor) for factor in logs.detach().exp()]
