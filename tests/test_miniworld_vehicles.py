"""The outdoor and household half of the mini-world: every generator gives sane, standing, varied objects, the same for the same seed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from clip2x.miniworld.shapes.household import HOUSEHOLD
from clip2x.miniworld.shapes.parts import Part, Points
from clip2x.miniworld.shapes.street import STREET
from clip2x.miniworld.shapes.vehicles import VEHICLES

GENERATORS = {**VEHICLES, **STREET, **HOUSEHOLD}
NUM_SEEDS = 25
ROLES = {"body", "accent", "wood", "metal", "dark", "glass", "screen", "fabric", "light", "rubber", "plant", "skin"}

# Least and greatest size along x, y, z in metres: what one would believe of the real thing. Ours.
LIMITS = {
    "car": ((1.6, 1.0, 3.2), (2.7, 2.8, 6.3)),
    "truck": ((2.0, 2.0, 4.5), (3.2, 6.5, 19.0)),
    "bus": ((2.0, 2.3, 5.0), (7.0, 5.2, 21.0)),
    "trailer": ((1.1, 0.5, 2.0), (3.0, 4.8, 15.0)),
    "construction vehicle": ((0.9, 1.4, 2.0), (18.0, 25.0, 22.0)),
    "motorcycle": ((0.5, 0.9, 1.5), (1.2, 2.2, 2.8)),
    "bicycle": ((0.3, 0.6, 0.9), (0.9, 2.1, 2.5)),
    "airplane": ((5.0, 1.2, 5.0), (75.0, 24.0, 75.0)),
    "ship": ((0.4, 0.2, 2.3), (45.0, 65.0, 190.0)),
    "pedestrian": ((0.2, 0.8, 0.15), (2.2, 2.8, 2.0)),
    "traffic cone": ((0.1, 0.25, 0.1), (1.0, 1.4, 1.0)),
    "barrier": ((0.9, 0.5, 0.05), (4.6, 1.8, 1.1)),
    "mug": ((0.05, 0.04, 0.05), (0.26, 0.24, 0.26)),
    "bottle": ((0.02, 0.07, 0.02), (0.36, 0.5, 0.3)),
    "bowl": ((0.1, 0.02, 0.1), (0.55, 0.4, 0.5)),
    "vase": ((0.03, 0.12, 0.03), (1.0, 1.4, 1.0)),
    "guitar": ((0.12, 0.05, 0.03), (0.6, 1.6, 1.6)),
    "plant": ((0.08, 0.1, 0.08), (2.0, 2.6, 2.0)),
    "laptop": ((0.22, 0.01, 0.12), (0.45, 0.45, 0.7)),
    "clock": ((0.06, 0.05, 0.01), (1.0, 5.0, 0.7)),
    "piano": ((1.1, 0.7, 0.25), (1.8, 2.6, 4.0)),
    "umbrella": ((0.03, 0.03, 0.03), (4.0, 3.1, 4.0)),
}


@cache
def build(name: str, seed: int) -> tuple[Part, ...]:
    return tuple(GENERATORS[name](np.random.default_rng(seed)))


def all_vertices(parts: tuple[Part, ...]) -> Points:
    return np.concatenate([part.vertices for part in parts])


def test_every_generator_has_limits() -> None:
    assert set(GENERATORS) == set(LIMITS)


@pytest.mark.parametrize("name", GENERATORS)
def test_objects_are_finite_meshes_of_known_roles(name: str) -> None:
    for seed in range(NUM_SEEDS):
        for part in build(name, seed):
            assert np.isfinite(part.vertices).all()
            assert part.vertices.shape[1:] == part.faces.shape[1:] == (3,)
            assert 0 <= part.faces.min() <= part.faces.max() < len(part.vertices)
            assert part.role in ROLES


@pytest.mark.parametrize("name", GENERATORS)
def test_sizes_are_plausible_and_objects_stand_on_the_ground(name: str) -> None:
    least, greatest = LIMITS[name]
    for seed in range(NUM_SEEDS):
        vertices = all_vertices(build(name, seed))
        extent = vertices.max(axis=0) - vertices.min(axis=0)
        assert (extent >= least).all(), (seed, extent)
        assert (extent <= greatest).all(), (seed, extent)
        assert abs(vertices[:, 1].min()) < 0.01
        assert np.allclose(vertices.max(axis=0)[[0, 2]], -vertices.min(axis=0)[[0, 2]])


@pytest.mark.parametrize("name", GENERATORS)
def test_the_seed_decides_everything(name: str) -> None:
    first, again = build(name, 3), GENERATORS[name](np.random.default_rng(3))
    assert [part.role for part in first] == [part.role for part in again]
    assert all(np.array_equal(one.vertices, other.vertices) for one, other in zip(first, again, strict=True))
    shapes = {all_vertices(build(name, seed)).round(6).tobytes() for seed in range(NUM_SEEDS)}
    assert len(shapes) == NUM_SEEDS


@pytest.mark.parametrize("name", GENERATORS)
def test_sub_types_differ_in_structure(name: str) -> None:
    counts = {len(build(name, seed)) for seed in range(NUM_SEEDS)}
    meshes = {tuple(len(part.faces) for part in build(name, seed)) for seed in range(NUM_SEEDS)}
    assert len(counts) >= 2
    assert len(meshes) >= (2 if name == "laptop" else 5)


@pytest.mark.parametrize("name", GENERATORS)
def test_meshes_are_small(name: str) -> None:
    sizes = [sum(len(part.faces) for part in build(name, seed)) for seed in range(NUM_SEEDS)]
    assert np.median(sizes) < 3000
    assert max(sizes) < 6000


@pytest.mark.parametrize("name", ["car", "truck", "bus", "motorcycle", "bicycle", "airplane"])
def test_vehicles_are_longest_along_z_or_have_wings(name: str) -> None:
    for seed in range(NUM_SEEDS):
        extent = np.ptp(all_vertices(build(name, seed)), axis=0)
        assert extent[2] > extent[0] or name == "airplane"


@pytest.mark.parametrize("name", ["mug", "bowl", "vase", "bottle"])
def test_vessels_are_hollow(name: str) -> None:
    """On the axis of the vessel the body has only its bottom, outside and inside, and no lid."""
    hollow = 0
    for seed in range(NUM_SEEDS):
        body = max((part for part in build(name, seed) if part.role == "body"), key=lambda part: float(np.ptp(part.vertices, axis=0).prod()))
        middle = (body.vertices.min(axis=0) + body.vertices.max(axis=0)) / 2
        height = body.vertices[:, 1] - body.vertices[:, 1].min()
        near = np.linalg.norm((body.vertices - middle)[:, [0, 2]], axis=1) < 0.03 * np.ptp(body.vertices[:, 0])
        hollow += bool(near.any()) and height[near].max() < 0.5 * height.max()
    assert hollow >= 0.8 * NUM_SEEDS


def test_the_body_is_there_in_every_object() -> None:
    for name in GENERATORS:
        assert all(any(part.role == "body" for part in build(name, seed)) for seed in range(NUM_SEEDS)), name
