"""Scores of many samples -> accuracies with their uncertainty."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

BOOTSTRAP_DRAWS = 1000
LEVEL = 0.95


def classification_metrics(scores: Float[Tensor, "N C"], labels: Int64[Tensor, " N"], class_names: tuple[str, ...], *,
                           seed: int = 0) -> dict[str, Any]:
    """Summarise zero-shot scores, in shares of 1.

    Classes without a sample count in neither the class mean nor `per_class` (their entry is None). `interval` holds 95 % intervals of
    top-1 and class mean from a bootstrap over the samples (ours: 1,000 draws).

    Args:
        scores: Larger is better; ties go to the lower label.
        labels: Positions in `class_names`.
        class_names: All names that compete.
        seed: Of the bootstrap.

    Returns:
        `num_samples`, `num_classes`, `top1`, `top5` (None below six classes), `class_mean`, `per_class`, `confusion` (rows: truth),
        `chance` (1/C), `majority` (share of the largest class), `interval`.
    """
    number = len(class_names)
    predicted = scores.argmax(dim=1)
    confusion = multiclass_confusion_matrix(predicted, labels, number)
    support = confusion.sum(dim=1)
    recall = confusion.diagonal() / support.clamp(min=1)
    top5 = float(multiclass_accuracy(scores, labels, number, average="micro", top_k=5)) if number > 5 else None
    return {
        "num_samples": len(labels), "num_classes": number,
        "top1": float(multiclass_accuracy(predicted, labels, number, average="micro")), "top5": top5,
        "class_mean": float(recall[support > 0].mean()),
        "per_class": {name: float(recall[index]) if support[index] else None for index, name in enumerate(class_names)},
        "confusion": confusion.tolist(), "chance": 1 / number, "majority": float(support.max() / support.sum()),
        "interval": _bootstrap((predicted == labels).numpy(), labels.numpy(), number, seed),
    }


def _bootstrap(correct: np.ndarray[Any, np.dtype[np.bool_]], labels: np.ndarray[Any, np.dtype[np.int64]], number: int, seed: int) -> dict[str, Any]:
    """Draw the samples again, with replacement, and take quantiles of both accuracies."""
    rng = np.random.default_rng(seed)
    top1, class_mean = [], []
    for _ in range(BOOTSTRAP_DRAWS):
        drawn = rng.integers(len(labels), size=len(labels))
        support = np.bincount(labels[drawn], minlength=number)
        hits = np.bincount(labels[drawn], weights=correct[drawn], minlength=number)
        top1.append(hits.sum() / len(drawn))
        class_mean.append((hits[support > 0] / support[support > 0]).mean())
    ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    return {"level": LEVEL, "draws": BOOTSTRAP_DRAWS, "top1": np.quantile(top1, ends).tolist(), "class_mean": np.quantile(class_mean, ends).tolist()}


def paired_gain(right: Bool[Tensor, " N"], right_before: Bool[Tensor, " N"], *, seed: int = 0) -> dict[str, Any]:
    """Compare two methods on the same samples.

    The interval is a paired bootstrap (ours: 95 %, 1,000 draws): a sample is drawn with what both methods say of it. Only three things can
    happen to a sample (gained, lost, as before), so the counts of N draws with replacement follow a multinomial distribution.

    Args:
        right: Whether the method names each sample correctly.
        right_before: The same of the method that it is compared with.
        seed: Of the bootstrap.

    Returns:
        `top1`, the difference of the accuracies in shares of 1, and `interval` of it.
    """
    number = len(right)
    gained, lost = int((right & ~right_before).sum()), int((right_before & ~right).sum())
    counts = np.random.default_rng(seed).multinomial(number, np.array([gained, lost, number - gained - lost]) / number, size=BOOTSTRAP_DRAWS)
    ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    return {"top1": (gained - lost) / number, "interval": np.quantile((counts[:, 0] - counts[:, 1]) / number, ends).tolist()}


def effect_of(gain: dict[str, Any]) -> str:
    """Say in words what the interval of `paired_gain` shows."""
    low, high = gain["interval"]
    return "gain" if low > 0 else "loss" if high < 0 else "no effect shown"


def apart_metrics(metrics: dict[str, Any], apart: Collection[str]) -> dict[str, Any] | None:
    """Part the class mean of `classification_metrics`: over some names, and over the rest. All names still compete in both.

    Args:
        metrics: With `per_class` and `confusion`.
        apart: Names, compared without regard to case, underscores and spaces.

    Returns:
        `names` in label order, `num_samples` and `class_mean` of these; `rest_num_samples` and `rest_class_mean`. A mean without a sample is
        None. None in place of all where the data set has none of the names.
    """
    wanted = {plain_name(name) for name in apart}
    support = {name: sum(row) for name, row in zip(metrics["per_class"], metrics["confusion"], strict=True)}
    names = [name for name in support if plain_name(name) in wanted]
    rest = [name for name in support if name not in names]

    def class_mean(group: Iterable[str]) -> float | None:
        shares = [metrics["per_class"][name] for name in group if support[name]]
        return sum(shares) / len(shares) if shares else None

    return None if not names else {
        "names": names, "num_samples": sum(support[name] for name in names), "class_mean": class_mean(names),
        "rest_num_samples": sum(support[name] for name in rest), "rest_class_mean": class_mean(rest),
    }


def plain_name(name: str) -> str:
    """Write a class name in small letters, with single spaces in the place of underscores."""
    return " ".join(name.lower().replace("_", " ").split())


def merge_parts(parts: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Join (index (n,), scores (n, ...), label (n,)) from several batches and processes: each sample once, in the order of its index."""
    index = torch.cat([part[0] for part in parts])
    scores = torch.cat([part[1] for part in parts])
    labels = torch.cat([part[2] for part in parts])
    order = index.argsort(stable=True)
    first = torch.ones(len(order), dtype=torch.bool)
    first[1:] = index[order][1:] != index[order][:-1]
    kept = order[first]
    return index[kept], scores[kept], labels[kept]
