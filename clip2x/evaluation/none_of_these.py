"""How well the confidence of a method tells objects that have one of the names from objects that have none of them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

COVERAGES = (0.5, 0.8, 1.0)


def none_of_these(scores: Float[Tensor, "N C"], labels: Int64[Tensor, " N"], scale: float) -> dict[str, Any] | None:
    """Score the detection of unknown objects, and what is gained where the method may keep silent.

    Args:
        scores: Cosines, or weighted sums of them; larger is better.
        labels: Positions in C; -1 for objects that have none of the names.
        scale: Factor on the scores before the softmax.

    Returns:
        `num_known`, `num_other`; `auroc` of the largest softmax and of the largest score, known against other (0.5 is chance);
        `risk_coverage` of the softmax, see there. None where all objects or none have a name.

    Source: ours. Baselines of open-set recognition: Hendrycks and Gimpel, arXiv:1610.02136 (softmax), Vaze et al., arXiv:2110.06207 (score).
    """
    known = labels >= 0
    if bool(known.all()) or not bool(known.any()):
        return None
    exact = scores.double()
    confidence = torch.log_softmax(scale * exact, dim=1).amax(dim=1)
    right = (exact.argmax(dim=1) == labels) & known
    return {"num_known": int(known.sum()), "num_other": int((~known).sum()),
            "auroc": {"softmax": area_under_curve(confidence, known), "score": area_under_curve(exact.amax(dim=1), known)},
            "risk_coverage": risk_coverage(confidence, right)}


def area_under_curve(confidence: Float[Tensor, " N"], positive: Bool[Tensor, " N"]) -> float:
    """Give the chance that a positive has the higher confidence than a negative, ties counted half (area under the ROC curve)."""
    _, rank = torch.unique(confidence, return_inverse=True)  # torchmetrics would squeeze what is no probability by a sigmoid, and tie large values
    return float(binary_auroc((rank + 1).double() / (len(rank) + 1), positive.long()))


def risk_coverage(confidence: Float[Tensor, " N"], right: Bool[Tensor, " N"]) -> dict[str, Any]:
    """Name only the objects of which the method is surest, more and more of them; an object of none of the names is always named wrongly.

    Args:
        confidence: Higher is surer; among equals the earlier sample goes first.
        right: Whether each object is named correctly.

    Returns:
        `area`: mean share of wrong names over all coverages 1/N, 2/N, ..., 1 (0 is perfect); `accuracy` at the coverages `COVERAGES`.
    """
    ordered = right[confidence.argsort(descending=True, stable=True)].double()
    accuracy = ordered.cumsum(dim=0) / torch.arange(1, len(ordered) + 1)
    at = {f"{share:g}": float(accuracy[max(1, round(share * len(ordered))) - 1]) for share in COVERAGES}
    return {"area": float((1 - accuracy).mean()), "accuracy": at}
