"""Random changes of training clouds. Each is a function of the cloud and of the generator that belongs to (seed, epoch, sample).

Clouds are (N, 3) float32 in the object frame (y up), centred and of unit size before the first change, all points different. A change that takes
points away centres and scales those that stay, as a partial scan is when it is evaluated; whoever needs a fixed number of points fills up behind the
last change. Default strengths are those that CLIP2's reconstruction starts from (ours) where no source is named.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clip2x.errors import InputError
from clip2x.geometry import unit_sphere

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
    """Take a share of the points away, drawn from [0, most]."""

    most: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.most < 1:
            raise InputError(f"DropPoints needs 0 <= most < 1, got {self.most:g}.")

    def __call__(self, points: Cloud, rng: np.random.Generator) -> Cloud:
        """Change one cloud."""
        dropped = rng.random(len(points)) < rng.uniform(0, self.most)
        return _remaining(points, ~dropped)


@dataclass(frozen=True)
class SeenFromOneSide(Augmentation):
    """Keep what a sensor would see from a random side.

    The cloud is looked at from far away along a direction with any azimuth and an elevation drawn from [-10, 40] degrees (sensors stand a little
    above what they see), and cut into square cells across it: a point is seen if none of its cell lies nearer by more than `depth`.

    Args:
        cells: Cells along the cloud's diameter. depth: tolerance, in units of the unit sphere. probability: of the change.

    Source: ours; what a scan of one viewpoint lacks, without meshes.
    """

    cells: int = 20
    depth: float = 0.15
    probability: float = 0.5

    def __post_init__(self) -> None:
        if self.cells < 2 or not self.depth > 0 or not 0 <= self.probability <= 1:
            raise InputError("SeenFromOneSide needs at least 2 cells, a positive depth and a probability in [0, 1], got "
                             f"{self.cells}, {self.depth:g} and {self.probability:g}.")

    def __call__(self, points: Cloud, rng: np.random.Generator) -> Cloud:
        """Change one cloud."""
        azimuth, elevation, place = rng.uniform(-np.pi, np.pi), np.deg2rad(rng.uniform(-10, 40)), rng.random()
        shift = rng.random(2)
        if place >= self.probability:
            return points
        towards = np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])
        right = np.array([np.cos(azimuth), 0.0, -np.sin(azimuth)])
        across = points @ np.stack([right, np.cross(towards, right)], axis=1).astype(np.float32)
        near = points @ towards.astype(np.float32)
        radius = max(float(np.abs(across).max()), 1e-6)
        column, row = np.floor((across / radius + 1) * (self.cells / 2) + shift).astype(np.int64).T
        cell = column * (self.cells + 2) + row
        nearest = np.full((self.cells + 2) ** 2, -np.inf, dtype=np.float32)
        np.maximum.at(nearest, cell, near)
        return _remaining(points, near >= nearest[cell] - np.float32(self.depth * radius))


@dataclass(frozen=True)
class ScanLines(Augmentation):
    """Keep the points near some level planes at even distances, as the rings of a LiDAR cut an upright object.

    Args:
        least, most: Number of planes over the cloud's height, drawn between them evenly in its logarithm.
        thickness: Share of the distance between planes that is kept. probability: of the change.

    Source: ours.
    """

    least: int = 3
    most: int = 24
    thickness: float = 0.3
    probability: float = 0.25

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most or not 0 < self.thickness <= 1 or not 0 <= self.probability <= 1:
            raise InputError("ScanLines needs 1 <= least <= most, a thickness in (0, 1] and a probability in [0, 1], got "
                             f"{self.least}, {self.most}, {self.thickness:g} and {self.probability:g}.")

    def __call__(self, points: Cloud, rng: np.random.Generator) -> Cloud:
        """Change one cloud."""
        number, offset, place = np.exp(rng.uniform(np.log(self.least), np.log(self.most + 1))), rng.random(), rng.random()
        if place >= self.probability:
            return points
        height = points[:, 1]
        low, extent = float(height.min()), max(float(np.ptp(height)), 1e-6)
        return _remaining(points, ((height - low) / extent * number + offset) % 1.0 <= self.thickness)


@dataclass(frozen=True)
class Sparsen(Augmentation):
    """Keep a number of points drawn from [least, all] evenly in its logarithm: far objects have few returns."""

    least: int = 12
    probability: float = 0.5

    def __post_init__(self) -> None:
        if self.least < 1 or not 0 <= self.probability <= 1:
            raise InputError(f"Sparsen needs at least 1 point and a probability in [0, 1], got {self.least} and {self.probability:g}.")

    def __call__(self, points: Cloud, rng: np.random.Generator) -> Cloud:
        """Change one cloud."""
        place, share = rng.random(), rng.random()
        if place >= self.probability or len(points) <= self.least:
            return points
        number = round(self.least * (len(points) / self.least) ** share)
        kept = np.zeros(len(points), dtype=bool)
        kept[rng.choice(len(points), number, replace=False)] = True
        return _remaining(points, kept)


def _remaining(points: Cloud, kept: NDArray[np.bool_]) -> Cloud:
    """Centre and scale the points that stay. All stay as they are where these would have no extent."""
    if kept.all() or not kept.any() or not np.ptp(points[kept], axis=0).any():
        return points
    return unit_sphere(torch.from_numpy(points[kept])).numpy()


def draw_distances(rng: np.random.Generator, low: float = 0.9, high: float = 1.1, count: int = 2) -> NDArray[np.float32]:
    """Draw camera distances of depth views, each uniform on [low, high]. Defaults: official CLIP2Point code, 1 + (U[0, 1] - 0.5) / 5."""
    return rng.uniform(low, high, count).astype(np.float32)
