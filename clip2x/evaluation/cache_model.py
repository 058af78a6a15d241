"""A cache of the shots beside the names: Tip-Adapter, without training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

ALPHA, BETA = 1.0, 5.5  # third party: Tip-Adapter (arXiv:2111.03930), its starting values
ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BETAS = (1.0, 2.0, 5.5, 11.0, 22.0, 44.0, 88.0)
"""Ours; the original searches 0.1 to 3 and 0.1 to 7 in 200 x 20 steps on labelled validation (or test) data."""


@dataclass(frozen=True)
class CacheModel:
    """keys: (N, E) unit embeddings of the shots. values: (N, C) their classes, one-hot. alpha, beta: weight and sharpness. chosen_by: for people."""

    keys: Float[Tensor, "N E"]
    values: Float[Tensor, "N C"]
    alpha: float
    beta: float
    chosen_by: str

    def scores(self, embeds: Float[Tensor, "M E"], logits: Float[Tensor, "M C"]) -> Float[Tensor, "M C"]:
        """Add to zero-shot logits what the shots near an embedding are: alpha exp(beta (cosine - 1)) summed over the shots of each class."""
        return logits + self.alpha * (self.beta * (embeds @ self.keys.T - 1)).exp() @ self.values


def fit_cache(embeds: Float[Tensor, "N E"], labels: Int64[Tensor, " N"], logits: Float[Tensor, "N C"]) -> CacheModel:
    """Keep the shots, and choose alpha and beta among them: each shot is scored by the others (leave one out), and the lowest cross-entropy decides.

    With one shot of some class, which then has no other, the starting values hold.

    Args:
        embeds: Of the shots, unit length.
        labels: Their classes.
        logits: Zero-shot logits of the shots, on the scale on which test logits come.

    Source: third party, Tip-Adapter (arXiv:2111.03930), training-free; how alpha and beta are chosen is ours.
    """
    values = functional.one_hot(labels, logits.shape[1]).to(embeds.dtype)
    if int(values.sum(dim=0).min()) < 2:
        return CacheModel(embeds, values, ALPHA, BETA, "fixed: a class has one shot only")
    near = embeds @ embeds.T - 1
    best: tuple[float, float, float] | None = None
    for beta in BETAS:
        weight = (beta * near).exp().fill_diagonal_(0)
        votes = weight @ values
        for alpha in ALPHAS:
            loss = float(functional.cross_entropy(logits + alpha * votes, labels))
            if best is None or loss < best[0]:
                best = loss, alpha, beta
    assert best is not None
    return CacheModel(embeds, values, best[1], best[2], "leave one out among the shots")


def mean_of_views(views: Float[Tensor, "N V E"]) -> Float[Tensor, "N E"]:
    """Average the unit features of a cloud's views; not normalised again."""
    return functional.normalize(views, dim=-1).mean(dim=1)


def joined_views(paths: list[Tensor]) -> Float[Tensor, "N F"]:
    """Put the averaged views of all paths side by side: what a linear probe sees."""
    return torch.cat([mean_of_views(path) for path in paths], dim=1)
