"""The indoor half of the mini-world: every generator gives sane, standing, closed, varied objects, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from clip2x.miniworld.shapes.carpentry import finished
from clip2x.miniworld.shapes.furniture import FURNITURE
from clip2x.miniworld.shapes.indoor import INDOOR
from clip2x.miniworld.shapes.parts import Part, Points, box

GENERATORS = {**FURNITURE, **INDOOR}
NUM_SEEDS = 25
ROLES = {"body", "accent", "wood", "metal", "dark", "glass", "screen", "fabric", "light", "rubber", "plant"}

# Least and greatest size along x, y, z in metres: what a buyer would believe of the real thing. Ours.
LIMITS = {
    "bathtub": ((1.0, 0.4, 0.6), (2.8, 2.2, 2.8)),
    "bed": ((0.6, 0.2, 1.1), (3.3, 2.4, 2.8)),
    "chair": ((0.35, 0.55, 0.35), (1.1, 1.6, 1.3)),
    "desk": ((0.9, 0.65, 0.45), (2.1, 1.8, 2.0)),
    "dresser": ((0.45, 0.65, 0.35), (2.0, 2.9, 0.8)),
    "monitor": ((0.25, 0.2, 0.02), (2.6, 1.5, 0.9)),
    "night stand": ((0.3, 0.4, 0.3), (0.8, 1.1, 0.7)),
    "sofa": ((1.0, 0.5, 0.5), (3.6, 1.3, 2.6)),
    "table": ((0.4, 0.25, 0.28), (2.6, 1.2, 2.6)),
    "toilet": ((0.3, 0.4, 0.3), (1.0, 2.0, 0.9)),
    "bag": ((0.15, 0.2, 0.05), (0.8, 1.0, 0.7)),
    "bin": ((0.18, 0.22, 0.14), (1.6, 2.4, 1.3)),
    "box": ((0.15, 0.1, 0.15), (1.4, 1.3, 1.2)),
    "cabinet": ((0.28, 0.6, 0.28), (2.2, 2.4, 0.85)),
    "door": ((0.65, 1.9, 0.05), (2.5, 2.9, 1.2)),
    "shelf": ((0.3, 0.2, 0.15), (1.6, 2.2, 0.8)),
    "pillow": ((0.3, 0.08, 0.1), (1.0, 0.7, 0.8)),
    "sink": ((0.4, 0.75, 0.35), (1.5, 1.4, 0.8)),
    "bookshelf": ((0.45, 0.6, 0.2), (2.2, 2.4, 0.5)),
    "bench": ((0.9, 0.35, 0.28), (2.2, 1.2, 0.8)),
    "stool": ((0.25, 0.33, 0.25), (0.7, 1.0, 0.7)),
    "lamp": ((0.1, 0.2, 0.1), (1.5, 2.1, 0.8)),
}


def build(name: str, seed: int) -> list[Part]:
    return GENERATORS[name](np.random.default_rng(seed))


def all_vertices(parts: list[Part]) -> Points:
    return np.concatenate([part.vertices for part in parts])


def volume(part: Part) -> float:
    """Signed volume: positive when a closed surface is wound outwards."""
    corners = part.vertices[part.faces] - part.vertices.mean(axis=0)
    return float(np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))) / 6


def body_leads(parts: list[Part]) -> bool:
    """Whether the body, whose colour the captions name, has the largest surface but for glass and screens."""
    areas: dict[str, float] = {}
    for part in parts:
        a, b, c = np.moveaxis(part.vertices[part.faces], 1, 0)
        areas[part.role] = areas.get(part.role, 0.0) + float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) / 2
    return areas["body"] >= max(area for role, area in areas.items() if role not in ("glass", "screen")) - 1e-9


def test_lists_hold_the_promised_classes() -> None:
    assert list(FURNITURE) == ["bathtub", "bed", "chair", "desk", "dresser", "monitor", "night stand", "sofa", "table", "toilet"]
    assert set(LIMITS) == set(GENERATORS)
    assert not set(FURNITURE) & set(INDOOR)


def test_finishing_grounds_centres_and_paints() -> None:
    @finished
    def slab(rng: np.random.Generator) -> list[Part]:
        return [box(2.0, 1.0, 1.0, at=(5.0, -3.0, 1.0), role="wood"), box(1.0, 0.5, 0.5, at=(5.0, -2.0, 1.0), role="body")]

    large, small = slab(np.random.default_rng(0))
    assert (large.role, small.role) == ("body", "accent")
    assert np.allclose(large.vertices.min(axis=0), (-1.0, 0.0, -0.5))
    assert np.allclose(small.vertices.max(axis=0), (0.5, 1.5, 0.25))


def test_volume_of_a_known_box() -> None:
    assert volume(box(2.0, 3.0, 4.0)) == pytest.approx(24.0)
    assert volume(box(2.0, 3.0, 4.0).mirrored()) == pytest.approx(24.0)


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_objects_are_sound(name: str) -> None:
    low, high = (np.array(limit) for limit in LIMITS[name])
    for seed in range(NUM_SEEDS):
        parts = build(name, seed)
        where = f"{name}, seed {seed}"
        for part in parts:
            assert part.role in ROLES, where
            assert np.isfinite(part.vertices).all(), where
            assert part.faces.min() >= 0 and part.faces.max() < len(part.vertices), where
            assert len(part.faces) >= 8, where
            assert volume(part) > 0, where
        vertices = all_vertices(parts)
        size = np.ptp(vertices, axis=0)
        assert (size >= low).all() and (size <= high).all(), f"{where}: {size}"
        assert abs(vertices[:, 1].min()) < 0.01, where
        middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
        assert np.abs(middle[[0, 2]]).max() < 1e-6, where
        assert body_leads(parts), where
        assert sum(len(part.faces) for part in parts) <= 3_000, where


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_seed_decides_everything(name: str) -> None:
    one, again, other = build(name, 3), build(name, 3), build(name, 4)
    assert [part.role for part in one] == [part.role for part in again]
    assert np.array_equal(all_vertices(one), all_vertices(again))
    assert all_vertices(one).shape != all_vertices(other).shape or not np.allclose(all_vertices(one), all_vertices(other))


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_structure_varies_and_not_only_scale(name: str) -> None:
    """Structure: the triangle counts of the parts, which no stretching changes."""
    structures = {tuple(len(part.faces) for part in build(name, seed)) for seed in range(2 * NUM_SEEDS)}
    assert len(structures) >= (20 if name in FURNITURE else 6)


def test_bathtubs_are_hollow() -> None:
    """The part with the most triangles, a loft, has a floor that looks up from well below its rim."""
    for seed in range(NUM_SEEDS):
        vessel = max(build("bathtub", seed), key=lambda part: len(part.faces))
        a, b, c = np.moveaxis(vessel.vertices[vessel.faces], 1, 0)
        normals = np.cross(b - a, c - a)
        looks_up = normals[:, 1] > 0.8 * np.linalg.norm(normals, axis=1)
        depth = vessel.vertices[:, 1].max() - ((a + b + c)[:, 1] / 3)[looks_up].min()
        assert depth > 0.2, f"seed {seed}: {depth}"


def test_proportions_tell_close_classes_apart() -> None:
    def median_ratio(name: str, over: int, under: int) -> float:
        sizes = np.array([np.ptp(all_vertices(build(name, seed)), axis=0) for seed in range(2 * NUM_SEEDS)])
        return float(np.median(sizes[:, over] / sizes[:, under]))

    width, height = 0, 1
    assert median_ratio("dresser", width, height) > 0.75
    assert 0.7 < median_ratio("night stand", width, height) < 1.1
    assert median_ratio("sofa", width, height) > 2.0
    assert median_ratio("desk", width, height) > 1.3
    assert median_ratio("chair", width, height) < 0.8
