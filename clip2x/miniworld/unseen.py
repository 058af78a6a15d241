"""Things that no training caption names, for tests with words that were never learned. All sizes are ours: plausible metres."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from clip2x.errors import InputError
from clip2x.miniworld.objects import MiniObject, Stream, build_object
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, Points, box, cylinder, ellipsoid, grounded, lathe, rods, tube
from clip2x.miniworld.shapes.unseen_indoor import UNSEEN_INDOOR
from clip2x.miniworld.shapes.vehicle_parts import rounded_box, wheels

__all__ = ["UNSEEN_INDOOR", "UNSEEN_STREET", "make_unseen"]


def make_unseen(name: str, stream: Stream, instance: int, *, seed: int = 0) -> MiniObject:
    """Build one held-out thing, as `make_object` builds those that have a class.

    Raises:
        InputError: If the mini-world has no such thing.
    """
    generators = {**UNSEEN_STREET, **UNSEEN_INDOOR}
    if name not in generators:
        raise InputError(f"the mini-world holds out no {name!r}; it holds out {', '.join(sorted(generators))}.")
    return build_object(name, generators[name], np.random.default_rng([seed, int(stream), zlib.crc32(name.encode()), instance]))


def debris(rng: np.random.Generator) -> list[Part]:
    """Broken planks lying across each other, or a heap of rubble, or both."""
    kind = pick(rng, ("planks", "rubble", "both"), (3, 3, 2))
    reach = float(rng.uniform(0.35, 0.8))
    parts: list[Part] = []
    if kind != "rubble":
        for level in range(int(rng.integers(3, 7))):
            long, wide = float(rng.uniform(0.6, 1.7)), float(rng.uniform(0.08, 0.2))
            plank = box(long, 0.03, wide, role=pick(rng, ("wood", "wood", "fabric", "body")))
            tilted = plank.turned("z", float(rng.uniform(-14, 14))).turned("y", float(rng.uniform(0, 180)))
            parts.append(tilted.moved(float(rng.normal(0, 0.2)), 0.1 + 0.05 * level, float(rng.normal(0, 0.2))))
    if kind != "planks":
        for _ in range(int(rng.integers(9, 20))):
            size = float(rng.uniform(0.06, 0.2))
            x, z = rng.normal(0.0, 0.45 * reach, 2)
            lift = max(0.0, 0.45 * reach - 0.6 * float(np.hypot(x, z))) * float(rng.uniform(0.3, 1.0))
            stone = ellipsoid(size, 0.7 * size, size * float(rng.uniform(0.6, 1.2)), segments=6, rings=4, squareness=float(rng.uniform(0.3, 0.9)),
                              role=pick(rng, ("body", "metal", "fabric", "accent")))
            stone = stone.turned("y", float(rng.uniform(0, 90))).turned("x", float(rng.uniform(-30, 30)))
            parts.append(stone.moved(float(x), lift + 0.5 * size, float(z)))
    return grounded(parts)


def plastic_bag(rng: np.random.Generator) -> list[Part]:
    """A full refuse bag, tied at the top; upright, sagging or two together."""
    count = 2 if chance(rng, 0.25) else 1
    parts: list[Part] = []
    role = pick(rng, ("dark", "body", "light"), (3, 3, 1))
    for index in range(count):
        wide, high = float(rng.uniform(0.22, 0.34)), float(rng.uniform(0.45, 0.75))
        sag = float(rng.uniform(0.55, 0.8))
        profile = [(0.0, 0.0), (0.75 * wide, 0.01), (wide, 0.22 * high), (0.92 * wide, 0.5 * high), (0.6 * wide, sag * high),
                   (0.18 * wide, 0.86 * high), (0.1 * wide, 0.9 * high), (0.3 * wide, high), (0.0, 0.94 * high)]
        body = lathe(profile, segments=14, role=role)
        crumple = 1 + rng.normal(0.0, 0.05, (len(body.vertices), 1)) * np.array([1.0, 0.3, 1.0])
        creased = Part(body.vertices * crumple, body.faces, role).scaled(1.0, 1.0, float(rng.uniform(0.7, 1.0)))
        parts.append(creased.turned("x", float(rng.uniform(-12, 12))).moved(index * 1.7 * wide, 0.0, 0.0))
    return grounded(parts)


def tire(rng: np.random.Generator) -> list[Part]:
    """A loose tyre without its rim: flat on the ground, leaning, upright, or a stack."""
    radius, wide = float(rng.uniform(0.28, 0.52)), float(rng.uniform(0.17, 0.3))
    hole = radius * float(rng.uniform(0.52, 0.64))
    profile = [(hole, 0.1 * wide), (0.88 * radius, 0.0), (radius, 0.16 * wide), (radius, 0.84 * wide), (0.88 * radius, wide), (hole, 0.9 * wide),
               (1.25 * hole, 0.75 * wide), (1.25 * hole, 0.25 * wide), (hole, 0.1 * wide)]
    ring = lathe(profile, segments=20, role="rubber")
    pose = pick(rng, ("flat", "stack", "upright", "leaning"), (4, 2, 2, 1))
    if pose == "stack":
        slip = rng.normal(0, 0.02, (int(rng.integers(2, 4)), 3)) * [1, 0, 1]
        return grounded([ring.repeated(slip + wide * np.arange(len(slip))[:, None] * [0, 1, 0])])
    return grounded([ring.turned("z", {"flat": 0.0, "upright": 90.0, "leaning": 62.0}[pose])])


def stroller(rng: np.random.Generator) -> list[Part]:
    """A pram or pushchair by itself: seat or tub, hood, handle, three or four wheels."""
    high, half = float(rng.uniform(0.95, 1.1)), float(rng.uniform(0.22, 0.3))
    wheel = float(rng.uniform(0.1, 0.16))
    front = [(0.0, wheel, 0.42)] if chance(rng, 0.3) else [(side * half * 0.8, wheel, 0.4) for side in (-1, 1)]
    parts = wheels(wheel, 0.05, [*front, *((side * half, wheel, -0.35) for side in (-1, 1))], segments=12)
    cloth = pick(rng, ("body", "accent", "dark"), (4, 2, 1))
    if chance(rng, 0.5):
        parts += [rounded_box(2 * half * 0.85, 0.28, 0.75, 0.1, at=(0, 0.5 * high, 0.05), role=cloth)]
        parts += [ellipsoid(half * 0.85, 0.26, 0.3, at=(0, 0.5 * high + 0.27, -0.12), segments=12, rings=7, role=cloth)]
    else:
        parts += [rounded_box(2 * half * 0.8, 0.09, 0.4, 0.03, at=(0, 0.42 * high, 0.08), role=cloth),
                  rounded_box(2 * half * 0.8, 0.5, 0.09, 0.03, role=cloth).turned("x", -18.0).moved(0.0, 0.45 * high, -0.12),
                  ellipsoid(half * 0.85, 0.2, 0.24, at=(0, 0.9 * high - 0.08, -0.1), segments=12, rings=6, role=pick(rng, (cloth, "accent")))]
    for side in (-1, 1):
        x = side * half * 0.9
        parts.append(rods([(x, wheel, 0.4), (x, wheel, -0.35)], [(x, high, -0.55), (x, 0.55 * high, 0.2)], 0.014, role="metal"))
    return grounded([*parts, rods([(-half * 0.9, high, -0.55)], [(half * 0.9, high, -0.55)], 0.018, role="rubber")])


def wheelchair(rng: np.random.Generator) -> list[Part]:
    """A wheelchair: two large wheels, casters, seat, back, foot rests; with an owner's bag behind it now and then."""
    half, large = float(rng.uniform(0.23, 0.28)), float(rng.uniform(0.27, 0.33))
    seat, back = float(rng.uniform(0.45, 0.52)), float(rng.uniform(0.82, 0.98))
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    parts: list[Part] = []
    for side in (-1, 1):
        x = side * (half + 0.05)
        circle = np.stack([np.full(24, x), large + large * np.sin(angles), -0.12 + large * np.cos(angles)], axis=1)
        grip = circle + (circle - np.array([x, large, -0.12])) * -0.12 + np.array([side * 0.04, 0, 0])
        parts += [tube(circle, 0.02, segments=6, closed=True, role="rubber"), tube(grip, 0.01, segments=5, closed=True, role="metal")]
        parts.append(rods(np.tile([x, large, -0.12], (8, 1)), circle[::3], 0.004, sides=3, role="metal"))
        low = side * half
        rail = [(large, -0.12), (back, -0.28), (back, -0.42)]
        rest = [(seat + 0.2, -0.2), (seat + 0.2, 0.12), (0.18, 0.34), (seat, 0.22)]
        for line in (rail, rest):
            bars = np.array([(low, y, z) for y, z in line])
            parts.append(rods(bars[:-1], bars[1:], 0.014, role="metal"))
        parts.append(box(0.13, 0.015, 0.2, at=(low * 0.6, 0.12, 0.5), role="dark"))
    parts += wheels(0.08, 0.03, [(side * half, 0.08, 0.34) for side in (-1, 1)], segments=10)
    parts += [box(2 * half, 0.05, 0.44, at=(0, seat - 0.05, 0.0), role=pick(rng, ("dark", "body", "accent"))),
              box(2 * half, back - seat - 0.03, 0.04, at=(0, seat, -0.25), role=pick(rng, ("dark", "body", "accent")))]
    if chance(rng, 0.3):
        parts.append(rounded_box(0.32, 0.3, 0.14, 0.04, at=(0, seat + 0.08, -0.35), role="accent"))
    return grounded(parts)


def shopping_cart(rng: np.random.Generator) -> list[Part]:
    """A supermarket's wire trolley: tapering basket of rods, four casters, handle; empty or filled."""
    half, long = float(rng.uniform(0.24, 0.3)), float(rng.uniform(0.75, 0.95))
    low, high = float(rng.uniform(0.45, 0.55)), float(rng.uniform(0.88, 1.0))
    role = pick(rng, ("metal", "metal", "body"))

    def rim(t: float) -> Points:
        shrink = 0.75 + 0.25 * t
        front, rear = 0.5 * long * (0.72 + 0.28 * t), -0.5 * long
        y = low + t * (high - low)
        return np.array([(half * shrink, y, rear), (half * shrink, y, front), (-half * shrink, y, front), (-half * shrink, y, rear)])

    starts, ends = [], []
    for t in np.linspace(0, 1, 6):
        corner = rim(float(t))
        starts += [*corner]
        ends += [*np.roll(corner, -1, axis=0)]
    bottom, top = rim(0.0), rim(1.0)
    for edge, count in ((0, 9), (1, 6), (2, 9), (3, 6)):
        following = (edge + 1) % 4
        for t in np.linspace(0, 1, count):
            starts.append(bottom[edge] + t * (bottom[following] - bottom[edge]))
            ends.append(top[edge] + t * (top[following] - top[edge]))
    for t in np.linspace(0, 1, 6):
        starts.append(bottom[0] + t * (bottom[3] - bottom[0]))
        ends.append(bottom[1] + t * (bottom[2] - bottom[1]))
    frame = [((x, high + 0.04, -0.5 * long - 0.1), (x, 0.14, -0.42 * long)) for x in (-half, half)]
    frame += [((x, 0.14, -0.42 * long), (0.8 * x, 0.14, 0.45 * long)) for x in (-half, half)]
    parts = [rods(starts, ends, 0.006, sides=3, role=role), rods([a for a, _ in frame], [b for _, b in frame], 0.015, role="metal"),
             cylinder(0.018, 2 * half, axis="x", at=(0, high + 0.04, -0.5 * long - 0.1), segments=8, role="accent"),
             *wheels(0.06, 0.03, [(s * half * (0.8 if z > 0 else 1.0), 0.06, z * long) for s in (-1, 1) for z in (-0.42, 0.45)], segments=10)]
    if chance(rng, 0.4):
        for _ in range(int(rng.integers(2, 6))):
            size = float(rng.uniform(0.12, 0.26))
            parts.append(rounded_box(size, 0.8 * size, size, 0.02, role=pick(rng, ("body", "accent", "fabric", "wood")),
                                     at=(float(rng.uniform(-0.1, 0.1)), low + 0.01 + float(rng.uniform(0, 0.12)), float(rng.uniform(-0.25, 0.2)))))
    return grounded(parts)


UNSEEN_STREET: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "debris": debris,
    "plastic bag": plastic_bag,
    "tire": tire,
    "stroller": stroller,
    "wheelchair": wheelchair,
    "shopping cart": shopping_cart,
}
