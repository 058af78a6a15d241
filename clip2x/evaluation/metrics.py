"""Scores of many samples -> accuracies with their uncertainty."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

from clip2x.evaluation.bootstrap import Resampling, interval


def classification_metrics(scores: Float[Tensor, "N C"], labels: Int64[Tensor, " N"], class_names: tuple[str, ...], *,
                           seed: int = 0, resampling: Resampling | None = None) -> dict[str, Any]:
    """Summarise zero-shot scores, in shares of 1.

    Classes without a sample count in neither the class mean nor `per_class` (their entry is None).

    Args:
        scores: Larger is better; ties go to the lower label.
        labels: Positions in `class_names`.
        class_names: All names that compete.
        seed: Of the bootstrap.
        resampling: How it draws; single samples if not given.

    Returns:
        `num_samples`, `num_classes`, `top1`, `top5` (None below six classes), `class_mean`, `per_class`, `confusion` (rows: truth),
        `chance` (1/C), `majority` (share of the largest class), `interval` of top-1 and class mean and what it is made of.
    """
    number, resampling = len(class_names), resampling or Resampling(seed=seed)
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
        "interval": _intervals(predicted == labels, labels, number, resampling),
    }


def _intervals(right: Bool[Tensor, " N"], labels: Int64[Tensor, " N"], number: int, resampling: Resampling) -> dict[str, Any]:
    """Draw the samples again, with replacement, and take quantiles of both accuracies."""
    counts = resampling.counts((2 * labels + right).numpy(), 2 * number).reshape(-1, number, 2)
    support, hits = counts.sum(axis=2), counts[..., 1]
    shares = np.divide(hits, support, out=np.full(hits.shape, np.nan), where=support > 0)
    return {**resampling.describe(), "top1": interval(hits.sum(axis=1) / support.sum(axis=1)), "class_mean": interval(np.nanmean(shares, axis=1))}


def paired_gain(right: Bool[Tensor, " N"], right_before: Bool[Tensor, " N"], *, seed: int = 0,
                resampling: Resampling | None = None) -> dict[str, Any]:
    """Compare two methods on the same samples.

    The interval is a paired bootstrap: a sample is drawn with what both methods say of it (gained, lost, as before).

    Args:
        right: Whether the method names each sample correctly.
        right_before: The same of the method that it is compared with.
        seed: Of the bootstrap.
        resampling: How it draws; single samples if not given.

    Returns:
        `top1`, the difference of the accuracies in shares of 1, and `interval` of it.
    """
    resampling = resampling or Resampling(seed=seed)
    change = right.long() - right_before.long()
    counts = resampling.counts((change + 1).numpy(), 3)
    return {"top1": float(change.sum()) / len(right), "interval": interval((counts[:, 2] - counts[:, 0]) / counts.sum(axis=1))}


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


def group_metrics(scores: Float[Tensor, "N C"], labels: Int64[Tensor, " N"], class_names: Sequence[str],
                  group: Collection[str]) -> dict[str, Any] | None:
    """Look at the objects of some classes by themselves, with all names competing and with these alone.

    Args:
        scores: Larger is better.
        labels: Positions in `class_names`.
        class_names: All names.
        group: Some of them.

    Returns:
        `names` that have an object, in label order; `num_samples`; `class_mean` over them where all C names compete; `alone`: `class_mean` and
        `chance` where only the names with an object do. None where there is no object.
    """
    present = [label for label, name in enumerate(class_names) if name in group and bool((labels == label).any())]
    if not present:
        return None
    columns = torch.tensor(present)
    own, place = torch.isin(labels, columns), {label: position for position, label in enumerate(present)}
    truth, all_compete, alone = labels[own], scores[own].argmax(dim=1), scores[own][:, columns].argmax(dim=1)

    def class_mean(right: Bool[Tensor, " N"]) -> float:
        return float(torch.stack([right[truth == label].double().mean() for label in present]).mean())

    return {"names": [class_names[label] for label in present], "num_samples": len(truth), "class_mean": class_mean(all_compete == truth),
            "alone": {"class_mean": class_mean(alone == torch.tensor([place[int(label)] for label in truth])), "chance": 1 / len(present)}}


def plain_name(name: str) -> str:
    """Write a class name in small letters, with single spaces in the place of underscores."""
    return " ".join(name.lower().replace("_", " ").split())


def merge_parts(parts: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Join (index (n,), scores (n, ...), label (n,)) from several batches and processes: each sample once, in the order of its index."""
    merged = merge_columns([dict(zip(("index", "scores", "labels"), part, strict=True)) for part in parts])
    return merged["index"], merged["scores"], merged["labels"]


def merge_columns(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join columns (n, ...) with the same names from several batches and processes: each `index` once, in order."""
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    index = columns["index"]
    order = index.argsort(stable=True)
    first = torch.ones(len(order), dtype=torch.bool)
    first[1:] = index[order][1:] != index[order][:-1]
    return {name: values[order[first]] for name, values in columns.items()}
