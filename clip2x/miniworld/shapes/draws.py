"""Random choices of the generators: which sub-type, whether a detail is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Option = TypeVar("Option")


def pick(rng: np.random.Generator, options: Sequence[Option], weights: Sequence[float | int] | None = None) -> Option:
    """Draw one option, with equal chances or in proportion to `weights`."""
    if weights is None:
        return options[int(rng.integers(len(options)))]
    limits = np.cumsum(weights)
    return options[int(np.searchsorted(limits, rng.random() * limits[-1], side="right"))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Toss a coin that says yes with this probability."""
    return bool(rng.random() < probability)
