"""A linear probe: logistic regression over all classes on frozen features, its strength chosen within the training samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from clip2x.errors import InputError

STRENGTHS = tuple(10.0 ** (power / 2) for power in range(4, -7, -1))
"""100 down to 0.001, two in each power of ten. Ours; CLIP's probe searches 96 steps of a wider range (arXiv:2103.00020, appendix A.3)."""
FIXED_STRENGTH = 1.0
"""Ours, where too few samples are there to choose: scikit-learn's default, here on features of unit spread. Within 1.2 points of the best of
`STRENGTHS` at 1 and 2 shots on the mini-world (drawn from its training splits and tested on the rest of them, ten draws)."""
FOLDS = 4  # ours
MAX_ITERATIONS = 1000  # third party: CLIP's probe (arXiv:2103.00020)
SMALL_GRADIENT = 1e-7  # largest entry of the gradient, per sample, at which a fit ends; ours


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe; it takes features as they are.

    weight: (C, F) float64. bias: (C,) float64. strength: of the L2 penalty. chosen_by: how the strength was found, for people to read.
    """

    weight: Float64[Tensor, "C F"]
    bias: Float64[Tensor, " C"]
    strength: float
    chosen_by: str

    def scores(self, features: Float[Tensor, "N F"]) -> Float64[Tensor, "N C"]:
        """Give logits, on the CPU."""
        return features.cpu().double() @ self.weight.T + self.bias


def fit_probe(features: Float[Tensor, "N F"], labels: Int64[Tensor, "..."], num_classes: int, *, strengths: Sequence[float] = STRENGTHS,
              fixed_strength: float = FIXED_STRENGTH, seed: int = 0) -> LinearProbe:
    """Fit a probe in float64 by L-BFGS; the same arguments give the same probe.

    It minimises the sum of the cross-entropies plus strength / 2 times the squared length of all weights (biases are free), which is
    scikit-learn's form with C = 1 / strength. Before, the mean is removed from the features and one factor scales them to a mean squared length
    of 1, so that a strength means the same for features of any tower, and neither shift, scale nor rotation of the features changes a score.

    With at least `FOLDS` samples of every class the strength is chosen by cross-validation within these samples: a quarter of every class is
    held out in turn, and the lowest cross-entropy decides (it chooses as well as the fewest errors do, and more steadily: ours, measured on training
    data); then all samples are fitted. With fewer it is `fixed_strength`.

    Args:
        features: Of the training samples, e.g. embeddings of unit length.
        labels: (N,) positions in the classes.
        num_classes: C.
        strengths: To choose from.
        fixed_strength: See above.
        seed: Of the folds.

    Raises:
        InputError: If there are fewer than two classes, a class has no sample, a label or a strength is not possible, or a feature is not finite.

    Source: third party, the linear probe of CLIP (arXiv:2103.00020): logistic regression by L-BFGS, strength swept on held-out data; there on
    features as they are and on a validation split, which few-shot learning does not have. Scaling, folds and values are ours.
    """
    _check(features, labels, num_classes, [*strengths, fixed_strength])
    with torch.inference_mode(False), torch.no_grad():
        exact, truth = features.cpu().double(), labels.cpu()
        fold = _folds(truth, num_classes, seed)
        if fold is None:
            strength, chosen_by = float(fixed_strength), f"fixed: a class has fewer than {FOLDS} samples"
        else:
            ordered = sorted(set(map(float, strengths)), reverse=True)
            strength = ordered[_best(exact, truth, num_classes, ordered, fold)]
            chosen_by = f"{FOLDS}-fold cross-validation within the training samples"
        mean, scale = _standard(exact)
        solved = _solve((exact - mean) / scale, truth, strength, torch.zeros(exact.shape[1] + 1, num_classes, dtype=torch.float64))
        weight = solved[:-1].T / scale
        return LinearProbe(weight, solved[-1] - weight @ mean, strength, chosen_by)


def _folds(labels: Int64[Tensor, " N"], num_classes: int, seed: int) -> NDArray[np.int64] | None:
    """Give every sample a fold, those of a class evenly; None where a class has too few."""
    truth = labels.numpy()
    if np.bincount(truth, minlength=num_classes).min() < FOLDS:
        return None
    fold: NDArray[np.int64] = np.empty(len(truth), dtype=np.int64)
    for label in range(num_classes):
        members = np.random.default_rng([seed, label]).permutation(np.flatnonzero(truth == label))
        fold[members] = (np.arange(len(members)) + label) % FOLDS  # + label: what does not divide evenly falls on all folds
    return fold


def _best(features: Float64[Tensor, "N F"], labels: Int64[Tensor, " N"], num_classes: int, strengths: Sequence[float],
          fold: NDArray[np.int64]) -> int:
    """Find the strength (they fall) with the lowest cross-entropy on the samples held out."""
    losses = np.zeros(len(strengths))
    for number in range(FOLDS):
        held = torch.from_numpy(fold == number)
        mean, scale = _standard(features[~held])
        fitted, others = (features[~held] - mean) / scale, (features[held] - mean) / scale
        solved = torch.zeros(features.shape[1] + 1, num_classes, dtype=torch.float64)
        for position, strength in enumerate(strengths):
            solved = _solve(fitted, labels[~held], strength, solved)  # the stronger one's solution lies near
            losses[position] += float(functional.cross_entropy(others @ solved[:-1] + solved[-1], labels[held], reduction="sum"))
    return int(losses.argmin())


def _standard(features: Float64[Tensor, "N F"]) -> tuple[Tensor, Tensor]:
    """Give the mean and the root of the mean squared distance to it; 1 where all features are equal."""
    mean = features.mean(dim=0)
    spread = (features - mean).square().sum(dim=1).mean().sqrt()
    return mean, torch.where(spread > 0, spread, torch.ones_like(spread))


def _solve(features: Float64[Tensor, "N F"], labels: Int64[Tensor, " N"], strength: float,
           start: Float64[Tensor, "G C"]) -> Float64[Tensor, "G C"]:
    """Minimise from a start; the last row of the solution is the bias. The gradient is written down, which is faster than autograd's."""
    truth = functional.one_hot(labels, start.shape[1]).double()
    inputs = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
    solved = start.clone()
    optimizer = torch.optim.LBFGS([solved], max_iter=MAX_ITERATIONS, tolerance_grad=SMALL_GRADIENT, tolerance_change=1e-14, history_size=20,
                                  line_search_fn="strong_wolfe")

    def loss() -> float:
        with torch.no_grad():
            logs = torch.log_softmax(inputs @ solved, dim=1)
            penalty = solved.clone()
            penalty[-1] = 0
            solved.grad = (inputs.T @ (logs.exp() - truth) + strength * penalty) / len(inputs)
            value = (strength / 2 * penalty.square().sum() - (logs * truth).sum()) / len(inputs)
            return float(value)

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return solved.detach()


def _check(features: Tensor, labels: Tensor, num_classes: int, strengths: Sequence[float]) -> None:
    if labels.ndim != 1 or len(features) != len(labels):
        raise InputError(f"a probe needs a label for every sample, got {len(features)} features and labels of shape {tuple(labels.shape)}.")
    if num_classes < 2:
        raise InputError(f"a probe needs at least 2 classes, got {num_classes}.")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise InputError(f"labels of a probe must lie between 0 and {num_classes - 1}, got {int(labels.min())} to {int(labels.max())}.")
    if (empty := (labels.cpu().bincount(minlength=num_classes) == 0).nonzero()).numel():
        raise InputError(f"a probe needs a sample of every class, class {int(empty[0])} has none.")
    if not bool(features.isfinite().all()):
        raise InputError("features of a probe hold NaN or infinite values; find the sample that gives them.")
    if any(not 0 < strength < float("inf") for strength in strengths):
        raise InputError(f"strengths of a probe must be positive, got {', '.join(f'{strength:g}' for strength in strengths)}.")
