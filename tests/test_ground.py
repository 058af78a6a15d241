"""Height above the ground: planes by hand, a road that bends, walls and cars that are no ground."""

from __future__ import annotations

import numpy as np
import pytest

from clip2x.proxies.ground import height_above_plane, height_above_surface, lowest_points

HEIGHT = 1.8  # metres of the sensor above the ground


def road(slope: float = 0.0, bend: float = 0.0, seed: int = 0) -> np.ndarray:
    """Points on the ground as rings around the sensor meet it; `slope` rises to the front, `bend` falls off with the square."""
    rng = np.random.default_rng(seed)
    distance = np.repeat([3.5, 4.2, 5.0, 6.2, 7.6, 9.5, 12.0, 16.0, 21.0, 30.0, 45.0], 400)
    angle = rng.uniform(0, 2 * np.pi, len(distance))
    x, y = distance * np.cos(angle), distance * np.sin(angle)
    return np.column_stack([x, y, -HEIGHT + slope * y - bend * y**2])


def wall(y: float) -> np.ndarray:
    x, z = np.meshgrid(np.linspace(-20, 20, 120), np.linspace(-HEIGHT + 0.4, 3, 12))
    return np.column_stack([x.ravel(), np.full(x.size, y), z.ravel()])


@pytest.mark.parametrize("height_above", [height_above_plane, height_above_surface])
@pytest.mark.parametrize("slope", [0.0, 0.08])
def test_a_sloping_plane_by_hand(height_above: object, slope: float) -> None:
    probes = np.array([[0.0, 10.0, -HEIGHT + 10 * slope + 0.5], [4.0, -8.0, -HEIGHT - 8 * slope + 1.2], [-9.0, 2.0, -HEIGHT + 2 * slope]])
    points = np.concatenate([road(slope), wall(14.0), probes])
    height = height_above(points)  # type: ignore[operator]
    np.testing.assert_allclose(height[-3:], [0.5, 1.2, 0.0], atol=0.03)
    np.testing.assert_allclose(height[:4400], 0.0, atol=0.06)


def test_the_surface_bends_with_the_road_and_the_plane_does_not() -> None:
    points = road(bend=0.001)  # falls by 0.4 m at 20 m and 2 m at 45 m
    near = np.hypot(points[:, 0], points[:, 1]) < 35
    assert np.abs(height_above_plane(points)[near]).max() > 0.4
    assert np.abs(height_above_surface(points)[near]).max() < 0.1


def test_a_wide_roof_is_no_ground() -> None:
    x, y = np.meshgrid(np.linspace(4, 9, 40), np.linspace(-2, 2, 30))
    roof = np.column_stack([x.ravel(), y.ravel(), np.full(x.size, -HEIGHT + 1.5)])
    height = height_above_surface(np.concatenate([road(), roof]))
    np.testing.assert_allclose(height[-len(roof):], 1.5, atol=0.12)


def test_a_cell_gives_its_lowest_point() -> None:
    points = np.array([[10.0, 0.1, -1.0], [10.01, 0.1, -1.5], [10.02, 0.1, -1.2], [-10.0, 0.1, -1.0], [0.5, 0.5, -2.0], [200.0, 0, -2], [10, 1, 4.0]])
    assert sorted(lowest_points(points).tolist()) == [1, 3]


@pytest.mark.parametrize("height_above", [height_above_plane, height_above_surface])
def test_too_little_to_fit(height_above: object) -> None:
    assert np.isnan(height_above(np.zeros((5, 3)))).all()  # type: ignore[operator]
    assert height_above(np.zeros((0, 3))).shape == (0,)  # type: ignore[operator]


def test_the_order_of_the_points_does_not_matter() -> None:
    points = np.concatenate([road(0.03, 0.0005), wall(14.0)])
    order = np.random.default_rng(3).permutation(len(points))
    np.testing.assert_allclose(height_above_surface(points[order]), height_above_surface(points)[order], atol=1e-9)
