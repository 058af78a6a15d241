"""Random changes of training clouds. Each is a function of the cloud and of the generator that belongs to (seed, epoch, sample).

Clouds are (N, 3) float32 in the object frame (y up), centred and of unit size before the first change; the number of points stays. Default
strengths are those that CLIP2's reconstruction starts from (ours) where no source is named.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import InputError

Cloud = NDArray[np.float32]


class Augmentation(ABC):
    """A random change of one cloud; YAML files name its kinds by class."""

    @abstractmethod
    def __call__(self, points: Cloud, rng: np.random.Generator) -> Cloud:
        """Change one cloud; every draw comes from `rng`."""


def augment(points: Cloud, changes: Sequence[Augmentation], rng: np.random.Generator) -> Cloud:
    """Apply changes one after the other, all with the draws of one generator."""
    for change in changes:
        points = change(points, rng)
    return points


@dataclass(frozen=True)
class RotateAboutUp(Augmentation):
    """Turn about the y axis by an angle drawn from [-limit_deg, limit_deg]; 180 gives every heading."""

    limit_deg: float = 180.0

    def __post_init__(self) -> None:
        if not 0 <= self.limit_deg <= 180:
            raise InputError(f"RotateAboutUp needs 0 <= limit_deg <= 180, got {self.limit_deg:g}.")

    def __call__(self, points: Cloud, rng: np.random.Generator) -> Cloud:
        """Change one cloud."""
        angle = np.deg2rad(rng.uniform(-self.limit_deg, self.limit_deg))
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return points @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]], dtype=np.float32)


@dataclass(frozen=True)
class Scale(Augmentation):
    """Multiply by a factor drawn from [low, high]; with `per_axis` by one for each axis."""

    low: float = 0.8
    high: float = 1.25
    per_axis: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise InputError(f"Scale needs 0 < low <= high, got {self.low:g} and {self.high:g}.")

    def __call__(self, points: Cloud, rng: np.random.Generator) -> Cloud:
        """Change one cloud."""
        return points * rng.uniform(self.low, self.high, 3 if self.per_axis else 1).astype(np.float32)


@dataclass(frozen=True)
class Jitter(Augmentation):
    """Move every point by normal noise of `sigma`, cut off at `clip`, both in units of the unit sphere."""

    sigma: float = 0.01
    clip: float = 0.05

    def __post_init__(self) -> None:
        if not (0 <= self.sigma < np.inf and self.clip >= 0):
            raise InputError(f"Jitter needs sigma and clip of at least 0, got {self.sigma:g} and {self.clip:g}.")

    def __call__(self, points: Cloud, rng: np.random.Generator) -> Cloud:
        """Change one cloud."""
        noise = rng.standard_normal(points.shape, dtype=np.float32) * np.float32(self.sigma)
        moved: Cloud = points + noise.clip(-self.clip, self.clip)
        return moved


@dataclass(frozen=True)
class DropPoints(Augmentation):
    """Put a share of the points, drawn from [0, most], onto others: a sparser cloud of as many rows."""

    most: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.most < 1:
            raise InputError(f"DropPoints needs 0 <= most < 1, got {self.most:g}.")

    def __call__(self, points: Cloud, rng: np.random.Generator) -> Cloud:
        """Change one cloud."""
        dropped = rng.random(len(points)) < rng.uniform(0, self.most)
        kept = np.flatnonzero(~dropped)
        if not len(kept):
            return points
        changed = points.copy()
        changed[dropped] = points[kept[rng.integers(len(kept), size=int(dropped.sum()))]]
        return changed


@dataclass(frozen=True)
class CutSide(Augmentation):
    """Take away a share, drawn from [0, most], of the points on one side, in a random direction: what a scan does not see. They go onto others."""

    most: float = 0.4
    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.most < 1 or not 0 <= self.probability <= 1:
            raise InputError(f"CutSide needs 0 <= most < 1 and a probability in [0, 1], got {self.most:g} and {self.probability:g}.")

    def __call__(self, points: Cloud, rng: np.random.Generator) -> Cloud:
        """Change one cloud."""
        direction, share, place = rng.normal(size=3), rng.uniform(0, self.most), rng.random()
        if place >= self.probability:
            return points
        order = np.argsort(points @ direction.astype(np.float32), kind="stable")
        cut = int(share * len(points))
        changed = points.copy()
        changed[order[:cut]] = points[order[cut:]][rng.integers(len(points) - cut, size=cut)]
        return changed


def draw_distances(rng: np.random.Generator, low: float = 0.9, high: float = 1.1, count: int = 2) -> NDArray[np.float32]:
    """Draw camera distances of depth views, each uniform on [low, high]. Defaults: official CLIP2Point code, 1 + (U[0, 1] - 0.5) / 5."""
    return rng.uniform(low, high, count).astype(np.float32)
