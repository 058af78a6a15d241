"""Uncertainty of accuracies: samples, or whole recordings, drawn again with replacement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
LEVEL = 0.95
LEAST_SCENES = 5
"""With fewer recordings single samples are drawn. Ours: quantiles over two or three recordings say nothing, and are no wider for it."""


class Resampling:
    """How samples are drawn again. All ours: 95 % intervals between quantiles, 1,000 draws.

    Samples of one recording resemble each other, so whole recordings are drawn where there are at least `LEAST_SCENES`; an interval over
    single samples is too narrow then.

    Args:
        scenes: The recording of every sample; None where they come from none.
        seed: Of the draws.

    Attributes:
        by: `scene` or `sample`.
        num_scenes: How many recordings there are; None where there are none.
    """

    def __init__(self, scenes: Sequence[str] | None = None, seed: int = 0) -> None:
        self.seed = seed
        self._unit: NDArray[np.int64] | None = None if scenes is None else np.unique(np.asarray(scenes), return_inverse=True)[1].astype(np.int64)
        self.num_scenes = None if self._unit is None or not len(self._unit) else int(self._unit.max()) + 1
        self.by = "sample" if self.num_scenes is None or self.num_scenes < LEAST_SCENES else "scene"

    def counts(self, kinds: NDArray[np.integer[Any]], num_kinds: int) -> NDArray[np.int64]:
        """Draw again and again, and count.

        A draw of N single samples of K kinds has multinomial counts, so no sample is touched; a draw of recordings adds up their counts.

        Args:
            kinds: (N,) what each sample counts as, 0 to num_kinds - 1.
            num_kinds: K.

        Returns:
            (DRAWS, K).
        """
        rng = np.random.default_rng(self.seed)
        if self.by == "sample" or self._unit is None:
            counts = np.bincount(kinds, minlength=num_kinds)
            drawn: NDArray[np.int64] = rng.multinomial(len(kinds), counts / len(kinds), size=DRAWS)
            return drawn
        units = int(self._unit.max()) + 1
        of_unit = np.bincount(self._unit * num_kinds + kinds, minlength=units * num_kinds).reshape(units, num_kinds)
        weights = rng.multinomial(units, np.full(units, 1 / units), size=DRAWS)
        summed: NDArray[np.int64] = weights @ of_unit
        return summed

    def describe(self) -> dict[str, Any]:
        """Say what an interval is made of."""
        return {"level": LEVEL, "draws": DRAWS, "by": self.by, "num_scenes": self.num_scenes}


def interval(values: NDArray[np.floating[Any]]) -> list[float]:
    """Take the quantiles that leave (1 - LEVEL) / 2 of the draws on each side; draws that are NaN do not count."""
    ends: list[float] = np.nanquantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)).tolist()
    return ends


def drawn_by(interval: Mapping[str, Any]) -> str:
    """Say what a row's intervals were drawn by, and whether that is too little."""
    by, scenes = interval["by"], interval.get("num_scenes")
    if by == "scene":
        return f"{by} ({scenes})"
    return f"{by}, its {scenes} recordings are too few to be drawn; the intervals are too narrow" if scenes is not None else str(by)
