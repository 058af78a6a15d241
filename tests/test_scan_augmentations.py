"""Augmentations that make whole clouds look like scans: from one side, in lines, sparse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clip2x.data.augmentations import Augmentation, Cloud, DropPoints, Jitter, RotateAboutUp, Scale, ScanLines, SeenFromOneSide, Sparsen, augment
from clip2x.errors import InputError
from clip2x.geometry import unit_sphere


def sphere(count: int = 800) -> Cloud:
    points = np.random.default_rng(1).normal(size=(count, 3))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def placed(points: Cloud, kept: object) -> Cloud:
    """Some of the points, centred and scaled as a scan of them would be."""
    whole: Cloud = unit_sphere(torch.from_numpy(points[kept])).numpy()  # type: ignore[index]
    return whole


class Scripted(np.random.Generator):
    """Gives numbers from a list for each call of `uniform` and `random`; the other draws are random."""

    def __init__(self, uniform: list[float], random: list[float | NDArray[np.float64]]) -> None:
        super().__init__(np.random.PCG64(0))
        self.uniforms, self.randoms = uniform, random

    def uniform(self, *_: object) -> float:  # type: ignore[override]
        return self.uniforms.pop(0)

    def random(self, *_: object) -> float:  # type: ignore[override]
        return self.randoms.pop(0)  # type: ignore[return-value]


ALWAYS: dict[str, Augmentation] = {"side": SeenFromOneSide(probability=1.0), "lines": ScanLines(probability=1.0), "sparse": Sparsen(probability=1.0)}
NEVER: dict[str, Augmentation] = {"side": SeenFromOneSide(probability=0.0), "lines": ScanLines(probability=0.0), "sparse": Sparsen(probability=0.0)}


@pytest.mark.parametrize("name", [*ALWAYS, "drop"])
def test_what_stays_is_centred_and_scaled_as_an_evaluated_scan(name: str) -> None:
    """A part of the cloud; the cloud that was given stays as it is."""
    points, change = sphere(), {**ALWAYS, "drop": DropPoints(0.5)}[name]
    before = points.copy()
    for seed in range(10):
        changed = change(points, np.random.default_rng(seed))
        assert 1 < len(changed) < len(points) and changed.dtype == np.float32 and len(np.unique(changed, axis=0)) == len(changed)
        assert np.allclose(changed.mean(axis=0), 0, atol=1e-5) and np.linalg.norm(changed, axis=1).max() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(points, before)


def test_moved_points_are_points_that_stay() -> None:
    """No copies are made by a change, so that noise after it moves none apart; the draws of all are those of one generator."""
    changes = [SeenFromOneSide(probability=1.0), Scale(), Jitter(), ScanLines(probability=1.0), Sparsen(probability=1.0)]
    for seed in range(10):
        changed = augment(sphere(), changes, np.random.default_rng(seed))
        assert len(np.unique(changed.round(3), axis=0)) > 0.9 * len(changed)


@pytest.mark.parametrize("name", NEVER)
def test_a_probability_is_kept_to(name: str) -> None:
    points = sphere(100)
    assert np.array_equal(NEVER[name](points, np.random.default_rng(0)), points)
    half = type(NEVER[name])(probability=0.5)  # type: ignore[call-arg]
    changed = sum(not np.array_equal(half(points, np.random.default_rng(seed)), points) for seed in range(400))
    assert 150 < changed < 250


@pytest.mark.parametrize("name", ALWAYS)
def test_the_same_draws_give_the_same_cloud(name: str) -> None:
    changes = [RotateAboutUp(), ALWAYS[name]]
    first, second, other = (augment(sphere(), changes, np.random.default_rng([0, epoch, 7])) for epoch in (5, 5, 6))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_what_lies_behind_is_hidden_by_hand() -> None:
    """Looked at along z: of two points in one line the nearer stays; one that is nearer by less than `depth` hides nothing; others stay."""
    points = np.array([[0.5, 0.5, 1], [0.5, 0.5, -1], [-0.5, 0.5, 0], [-0.5, 0.5, 0.05], [0.9, -0.9, -1], [-0.9, -0.9, 0]], dtype=np.float32)
    changed = SeenFromOneSide(cells=4, depth=0.1, probability=1.0)(points, Scripted([0.0, 0.0], [0.0, np.array([0.1, 0.1])]))
    assert np.array_equal(changed, placed(points, [0, 2, 3, 4, 5]))


def test_an_elevation_looks_from_above() -> None:
    """From 90 degrees above (beyond what is drawn) the lower of two points is hidden, whatever the azimuth."""
    points = np.array([[0.3, 1, 0.2], [0.3, -1, 0.2], [-1, 0, -1]], dtype=np.float32)
    for azimuth in (0.0, 1.0, -2.5):
        rng = Scripted([azimuth, 90.0], [0.0, np.array([0.5, 0.5])])
        changed = SeenFromOneSide(cells=4, depth=0.1, probability=1.0)(points, rng)
        assert np.array_equal(changed, placed(points, [0, 2]))


def test_hidden_points_equal_a_loop() -> None:
    """The slow twin finds for every point whether another one of its cell lies nearer by more than the tolerance."""
    points = sphere(300) * np.float32(0.7)
    azimuth, elevation, shift = 0.8, 25.0, np.array([0.3, 0.9])
    changed = SeenFromOneSide(cells=8, depth=0.15, probability=1.0)(points, Scripted([azimuth, elevation], [0.0, shift]))
    rise = math.radians(elevation)
    towards = np.array([math.cos(rise) * math.sin(azimuth), math.sin(rise), math.cos(rise) * math.cos(azimuth)])
    right = np.array([math.cos(azimuth), 0, -math.sin(azimuth)])
    up = np.array([-math.sin(rise) * math.sin(azimuth), math.cos(rise), -math.sin(rise) * math.cos(azimuth)])
    across = np.stack([points @ right, points @ up], axis=1)
    radius = np.abs(across).max()
    cells = [tuple(math.floor((value / radius + 1) * 4 + move) for value, move in zip(row, shift, strict=True)) for row in across]
    hidden = [any(cells[i] == cells[j] and (points[j] - points[i]) @ towards > 0.15 * radius for j in range(300)) for i in range(300)]
    assert 20 < sum(hidden) < 280
    assert np.array_equal(changed, placed(points, ~np.array(hidden)))


def test_the_far_side_of_a_ball_is_not_seen() -> None:
    points = sphere(3000)
    changed = SeenFromOneSide(probability=1.0)(points, Scripted([0.0, 0.0], [0.0, np.array([0.5, 0.5])]))
    assert 0.35 < len(changed) / len(points) < 0.65 and changed[:, 2].std() < 0.75 * changed[:, 0].std()


def test_lines_by_hand() -> None:
    """Two planes over a height from 0 to 1, without a shift: distances are 0.5, of which 0.3 is kept from each plane on."""
    heights = np.array([0.0, 0.1, 0.14, 0.16, 0.4, 0.5, 0.64, 0.66, 0.9, 1.0], dtype=np.float32)
    points = np.stack([np.arange(10, dtype=np.float32), heights, np.zeros(10, np.float32)], axis=1)
    changed = ScanLines(thickness=0.3, probability=1.0)(points, Scripted([math.log(2.0)], [0.0, 0.0]))
    assert np.array_equal(changed, placed(points, [0, 1, 2, 5, 6, 9]))
    moved = ScanLines(thickness=0.3, probability=1.0)(points, Scripted([math.log(2.0)], [0.8, 0.0]))
    assert np.array_equal(moved, placed(points, [1, 2, 3, 6, 7])), "planes from 0.1 and 0.6 on"


def test_lines_keep_the_stated_share_whatever_their_number() -> None:
    points = sphere(4000)  # the heights of a ball's surface are spread evenly
    for number in (3.0, 10.0, 24.0):
        changed = ScanLines(thickness=0.3, probability=1.0)(points, Scripted([math.log(number)], [0.2, 0.0]))
        assert len(changed) / len(points) == pytest.approx(0.3, abs=0.04)
    assert np.array_equal(ScanLines(thickness=1.0, probability=1.0)(points, np.random.default_rng(0)), points)


def test_sparse_clouds_have_numbers_spread_evenly_in_the_logarithm() -> None:
    points, counts = sphere(1024), []
    for seed in range(200):
        counts.append(len(Sparsen(least=16, probability=1.0)(points, np.random.default_rng(seed))))
    assert min(counts) >= 16 and max(counts) <= 1024
    for bound, share in ((32, 1 / 6), (128, 1 / 2), (512, 5 / 6)):
        assert np.mean(np.array(counts) < bound) == pytest.approx(share, abs=0.1)
    fixed = Sparsen(least=16, probability=1.0)(points, Scripted([], [0.0, 0.5]))
    assert len(fixed) == 128, "half of the way from 16 to 1024"


def test_clouds_that_cannot_lose_points_stay() -> None:
    few, flat, dot = sphere(12), sphere(50), np.ones((5, 3), np.float32)
    flat[:, 1] = 0.25
    assert np.array_equal(Sparsen(least=12, probability=1.0)(few, np.random.default_rng(0)), few)
    for seed in range(5):
        for change in ALWAYS.values():
            assert np.array_equal(change(dot, np.random.default_rng(seed)), dot)
            assert np.isfinite(change(flat, np.random.default_rng(seed))).all()
        assert np.array_equal(ScanLines(probability=1.0)(flat, np.random.default_rng(seed)), flat), "one height: all lie in a line or none does"


@pytest.mark.parametrize(("kind", "arguments", "message"), [
    (SeenFromOneSide, {"cells": 1}, "SeenFromOneSide needs at least 2 cells, a positive depth and a probability in .0, 1., got 1, 0.15 and 0.5"),
    (SeenFromOneSide, {"depth": 0.0}, "got 20, 0 and 0.5"),
    (SeenFromOneSide, {"probability": 1.5}, "got 20, 0.15 and 1.5"),
    (ScanLines, {"least": 0}, "ScanLines needs 1 <= least <= most, a thickness in .0, 1. and a probability in .0, 1., got 0, 24, 0.3 and 0.25"),
    (ScanLines, {"least": 9, "most": 3}, "got 9, 3"),
    (ScanLines, {"thickness": 0.0}, "got 3, 24, 0 and 0.25"),
    (Sparsen, {"least": 0}, "Sparsen needs at least 1 point and a probability in .0, 1., got 0 and 0.5"),
    (Sparsen, {"probability": -0.1}, "got 12 and -0.1"),
])
def test_impossible_strengths_are_refused(kind: type, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**arguments)
