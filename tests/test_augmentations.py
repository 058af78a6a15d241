from __future__ import annotations

import numpy as np
import pytest
import torch

from clip2x.data.augmentations import Cloud, DropPoints, Jitter, RotateAboutUp, Scale, augment, draw_distances
from clip2x.errors import InputError
from clip2x.geometry import unit_sphere


def cloud(count: int = 500) -> Cloud:
    return np.random.default_rng(1).normal(size=(count, 3)).astype(np.float32)


def test_rotation_keeps_heights_lengths_and_hand() -> None:
    points = cloud()
    turned = RotateAboutUp()(points, np.random.default_rng(0))
    assert turned.dtype == np.float32 and np.allclose(turned[:, 1], points[:, 1])
    assert np.allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(points, axis=1), atol=1e-5)
    assert np.linalg.det(np.linalg.lstsq(points, turned, rcond=None)[0]) == pytest.approx(1, abs=1e-4)


def test_a_quarter_turn_by_hand() -> None:
    class QuarterTurn(np.random.Generator):
        def uniform(self, *_: object) -> float:  # type: ignore[override]
            return 90.0

    turned = RotateAboutUp()(np.array([[1, 2, 0]], dtype=np.float32), QuarterTurn(np.random.PCG64(0)))
    assert np.allclose(turned, [[0, 2, -1]], atol=1e-6), "right-handed about y: x goes to -z"


def test_scale_jitter_and_drop_stay_within_their_bounds() -> None:
    points, rng = cloud(), np.random.default_rng(3)
    ratio = Scale(0.8, 1.25)(points, rng) / points
    assert np.ptp(ratio) < 1e-5 and 0.8 <= ratio[0, 0] <= 1.25
    assert np.ptp((Scale(0.8, 1.25, per_axis=True)(points, rng) / points)[0]) > 1e-3
    assert 0 < np.abs(Jitter(0.01, 0.02)(points, rng) - points).max() <= 0.02 + 1e-6
    rng, twin = np.random.default_rng(8), np.random.default_rng(8)
    kept = twin.random(500) >= twin.uniform(0, 0.5)
    assert 0.4 * 500 < kept.sum() < 500
    assert np.array_equal(DropPoints(0.5)(points, rng), unit_sphere(torch.from_numpy(points[kept])).numpy())


def test_same_draws_same_cloud() -> None:
    changes = [RotateAboutUp(), Scale(), Jitter(), DropPoints()]
    first, second = (augment(cloud(), changes, np.random.default_rng([0, 5, 7])) for _ in range(2))
    assert np.array_equal(first, second) and not np.array_equal(first, augment(cloud(), changes, np.random.default_rng([0, 6, 7])))


def test_distances_are_those_of_the_official_code() -> None:
    drawn = np.array([draw_distances(np.random.default_rng(number)) for number in range(500)])
    assert drawn.shape == (500, 2) and drawn.min() >= 0.9 and drawn.max() <= 1.1 and abs(drawn.mean() - 1) < 0.01


def test_impossible_strengths_are_refused() -> None:
    with pytest.raises(InputError, match="Scale needs 0 < low <= high, got 1.2 and 0.8"):
        Scale(1.2, 0.8)
    with pytest.raises(InputError, match="DropPoints needs 0 <= most < 1, got 1"):
        DropPoints(1.0)


def test_a_wrong_strength_is_refused() -> None:
    with pytest.raises(InputError, match="RotateAboutUp needs 0 <= limit_deg <= 180, got -1"):
        RotateAboutUp(-1.0)
    with pytest.raises(InputError, match="Jitter needs sigma and clip of at least 0, got 0.01 and -1"):
        Jitter(clip=-1.0)
