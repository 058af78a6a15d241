"""What training stages share in validation and selection."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def accuracies(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return top-1 and class mean, in shares of 1."""
    right = (scores.argmax(dim=1) == labels).double()
    support = labels.bincount()
    hits = torch.zeros(len(support), dtype=torch.float64).index_add_(0, labels, right)
    return float(right.mean()), float((hits[support > 0] / support[support > 0]).mean())


def best_checkpoint(trainer: Any, monitor: str) -> str | None:
    """Name the checkpoint of this run that was best by a figure; None where no callback kept one."""
    return next((path for callback in trainer.checkpoint_callbacks
                 if getattr(callback, "monitor", None) == monitor and (path := getattr(callback, "best_model_path", ""))), None)
