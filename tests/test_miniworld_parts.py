"""Primitives of the mini-world: volumes by the divergence theorem against their formulas, outward winding, errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cross, cylinder, ellipsoid, extrude, grounded, lathe, loft, rods, tube

L_SHAPE = [(0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (1.0, 1.0), (1.0, 3.0), (0.0, 3.0)]  # area 4


def volume(part: Part) -> float:
    """Signed volume of a closed surface; positive only where triangles are wound outwards."""
    first, second, third = (part.vertices[part.faces[:, corner]] for corner in range(3))
    return float(np.einsum("ij,ij->i", first, np.cross(second, third)).sum() / 6)


def is_closed(part: Part) -> bool:
    """Whether every directed edge, between places rather than indices, is met by its opposite."""
    _, place = np.unique(part.vertices.round(9), axis=0, return_inverse=True)
    corners = place.reshape(-1)[part.faces]
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    edges = edges[edges[:, 0] != edges[:, 1]]
    return sorted(map(tuple, edges.tolist())) == sorted(map(tuple, edges[:, ::-1].tolist()))


def prism_area(segments: int) -> float:
    """Area of the regular polygon that stands in for the unit disc."""
    return segments / 2 * float(np.sin(2 * np.pi / segments))


def test_box_has_its_volume_and_stands_on_its_place() -> None:
    part = box(1.0, 2.0, 3.0, at=(1.0, 5.0, -2.0))
    assert volume(part) == pytest.approx(6.0)
    assert part.vertices.min(axis=0) == pytest.approx([0.5, 5.0, -3.5])
    assert part.vertices.max(axis=0) == pytest.approx([1.5, 7.0, -0.5])
    assert is_closed(part)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_cylinder_along_each_axis(axis: str) -> None:
    part = cylinder(0.5, 4.0, axis=axis, segments=12)
    assert volume(part) == pytest.approx(prism_area(12) * 0.25 * 4.0)
    assert np.ptp(part.vertices["xyz".index(axis) == np.arange(3)[None].repeat(len(part.vertices), 0)]) == pytest.approx(4.0)
    low = part.vertices.min(axis=0)["xyz".index(axis)]
    assert low == pytest.approx(0.0 if axis == "y" else -2.0)
    assert is_closed(part)


def test_cone_is_a_third_of_the_cylinder() -> None:
    assert volume(cylinder(1.0, 3.0, top_radius=0.0, segments=24)) == pytest.approx(prism_area(24))


def test_ellipsoid_tends_to_its_formula_and_squareness_swells_it() -> None:
    fine = ellipsoid(1.0, 2.0, 3.0, segments=96, rings=65, at=(4.0, 4.0, 4.0))
    assert volume(fine) == pytest.approx(4 / 3 * np.pi * 6.0, rel=5e-3)
    assert volume(ellipsoid(1.0, 1.0, 1.0)) < volume(ellipsoid(1.0, 1.0, 1.0, squareness=0.5)) < 8.0
    assert is_closed(ellipsoid(1.0, 1.0, 1.0))


def test_straight_tube_equals_the_prism_and_its_radii_may_vary() -> None:
    line = [(0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 2.0)]
    assert volume(tube(line, 0.5, segments=10)) == pytest.approx(prism_area(10) * 0.25 * 2.0)
    assert volume(tube(line, [0.5, 0.5, 0.0001], segments=10)) < volume(tube(line, 0.5, segments=10))


def test_closed_tube_tends_to_the_torus() -> None:
    angles = np.linspace(0.0, 2 * np.pi, 128, endpoint=False)
    ring = tube(np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1), 0.1, segments=48, closed=True)
    assert volume(ring) == pytest.approx(2 * np.pi**2 * 0.01, rel=5e-3)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("outline", [L_SHAPE, L_SHAPE[::-1]], ids=["counter-clockwise", "clockwise"])
def test_extruded_concave_polygon_on_each_axis(axis: str, outline: list[tuple[float, float]]) -> None:
    part = extrude(outline, 0.5, axis=axis)
    assert volume(part) == pytest.approx(2.0)
    assert is_closed(part)
    extent = dict(zip("xyz", np.ptp(part.vertices, axis=0), strict=True))
    wide, tall = {"x": "zy", "y": "xz", "z": "xy"}[axis]
    assert (extent[wide], extent[tall], extent[axis]) == pytest.approx((2.0, 3.0, 0.5))


def test_bevel_takes_a_little_away_and_keeps_the_size() -> None:
    plain, bevelled = extrude(L_SHAPE, 0.5), extrude(L_SHAPE, 0.5, bevel=0.05)
    assert is_closed(bevelled)
    assert np.ptp(bevelled.vertices, axis=0) == pytest.approx(np.ptp(plain.vertices, axis=0))
    # Each end loses a wedge of section bevel^2 / 2 along the outline of length 10, but for the corners.
    assert volume(plain) - volume(bevelled) == pytest.approx(2 * 10 * 0.05**2 / 2, rel=0.05)


@pytest.mark.parametrize("order", [(0, 2, 4, 1, 3), (0, 1, 3, 2)], ids=["star", "bow tie"])
def test_extrude_refuses_an_outline_that_crosses_itself(order: tuple[int, ...]) -> None:
    angles = np.array(order) * 2 * np.pi / len(order)
    with pytest.raises(ValueError, match="crosses itself or has repeated corners"):
        extrude(np.stack([np.cos(angles), np.sin(angles) * (1 + 0.1 * np.cos(angles))], axis=1), 1.0)


def test_hollow_lathe_is_the_difference_of_two_cylinders() -> None:
    cup = lathe([(0.0, 0.0), (1.0, 0.0), (1.0, 2.0), (0.9, 2.0), (0.9, 0.1), (0.0, 0.1)], segments=16)
    assert volume(cup) == pytest.approx(prism_area(16) * (2.0 - 0.81 * 1.9))
    assert is_closed(cup)


def test_rods_are_prisms_between_their_ends() -> None:
    bars = rods([(0.0, 0.0, 0.0), (1.0, 0.0, 0.0)], [(0.0, 2.0, 0.0), (4.0, 0.0, 4.0)], [0.1, 0.2], sides=6)
    assert volume(bars) == pytest.approx(prism_area(6) * (0.01 * 2.0 + 0.04 * 5.0))
    assert is_closed(bars)
    assert volume(rods([(0.0, 0.0, 0.0)], [(0.0, 1.0, 0.0)], 0.1)) == pytest.approx(0.02)


def test_loft_of_rectangles_is_a_frustum() -> None:
    def square(half: float, y: float) -> list[tuple[float, float, float]]:
        return [(half, y, half), (half, y, -half), (-half, y, -half), (-half, y, half)]

    part = loft([square(1.0, 0.0), square(0.5, 3.0)])
    assert volume(part) == pytest.approx(3.0 / 3 * (4.0 + 1.0 + 2.0))
    assert is_closed(part)


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part.moved(1.0, 2.0, 3.0),
        lambda part: part.turned("x", 30.0).turned("y", -70.0).turned("z", 200.0, about=(1.0, 2.0, 3.0)),
        lambda part: part.mirrored("x"),
        lambda part: part.mirrored("y"),
        lambda part: part.mirrored("z"),
        lambda part: part.painted("metal"),
    ],
    ids=["moved", "turned", "mirrored x", "mirrored y", "mirrored z", "painted"],
)
def test_rigid_changes_and_reflections_keep_volume_and_winding(change: Callable[[Part], Part]) -> None:
    part = extrude(L_SHAPE, 0.5)
    assert volume(change(part)) == pytest.approx(volume(part))


def test_scaling_repeating_and_grounding() -> None:
    part = box(1.0, 1.0, 1.0, at=(0.0, 3.0, 0.0))
    assert volume(part.scaled(2.0, 3.0, 0.5)) == pytest.approx(3.0)
    assert volume(part.repeated([(0.0, 0.0, 0.0), (5.0, 0.0, 0.0), (0.0, 5.0, 0.0)])) == pytest.approx(3.0)
    low, high = grounded([part.moved(x=4.0), part.moved(x=4.0, y=2.0)])
    assert low.vertices[:, 0].max() == pytest.approx(0.5)
    assert (low.vertices[:, 1].min(), high.vertices[:, 1].min()) == pytest.approx((0.0, 2.0))


def test_turning_is_right_handed() -> None:
    point = Part(np.array([[1.0, 0.0, 0.0]]), np.zeros((0, 3), dtype=np.int64))
    assert point.turned("z", 90.0).vertices[0] == pytest.approx([0.0, 1.0, 0.0])
    assert point.turned("y", 90.0).vertices[0] == pytest.approx([0.0, 0.0, -1.0])
    assert point.turned("z", 180.0, about=(2.0, 0.0, 0.0)).vertices[0] == pytest.approx([3.0, 0.0, 0.0])


def test_cross_equals_numpy() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 7, 3))
    assert cross(first, second) == pytest.approx(np.cross(first, second))


def test_pick_follows_its_weights_and_chance_its_probability() -> None:
    rng = np.random.default_rng(0)
    drawn = [pick(rng, "ab", (1.0, 3.0)) for _ in range(2000)]
    assert drawn.count("b") / 2000 == pytest.approx(0.75, abs=0.04)
    assert {pick(rng, "abc") for _ in range(50)} == set("abc")
    assert not any(pick(rng, "ab", (1.0, 0.0)) == "b" for _ in range(50))
    assert sum(chance(rng, 0.2) for _ in range(2000)) / 2000 == pytest.approx(0.2, abs=0.04)
