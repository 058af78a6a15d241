"""Indoor things that no training caption names. All sizes are ours: plausible metres."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, ellipsoid, extrude, grounded, lathe, rods, tube
from clip2x.miniworld.shapes.vehicle_parts import rounded_box, wheels


def suitcase(rng: np.random.Generator) -> list[Part]:
    """A travel case standing up: shell with ribs or plain, wheels, handle pushed in or drawn out."""
    high, wide, deep = float(rng.uniform(0.48, 0.75)), float(rng.uniform(0.34, 0.5)), float(rng.uniform(0.2, 0.3))
    parts = [rounded_box(wide, high, deep, 0.045, at=(0, 0.05, 0))]
    parts += wheels(0.03, 0.025, [(s * 0.4 * wide, 0.03, z * 0.35 * deep) for s in (-1, 1) for z in (-1, 1)], segments=8)
    if chance(rng, 0.6):
        ribs = [(x, 0.05 + 0.08 * high, 0.0) for x in np.linspace(-0.36, 0.36, int(rng.integers(3, 7))) * wide]
        parts.append(box(0.02, 0.84 * high, deep + 0.02, role=pick(rng, ("body", "accent"))).repeated(ribs))
    else:
        parts.append(box(wide + 0.01, 0.02, deep + 0.01, at=(0, 0.05 + 0.62 * high, 0), role="dark"))
    top = 0.05 + high
    out = float(rng.uniform(0.25, 0.45)) if chance(rng, 0.6) else 0.05
    z = -0.35 * deep
    parts.append(rods([(-0.1, top, z), (0.1, top, z), (-0.1, top + out, z)], [(-0.1, top + out, z), (0.1, top + out, z), (0.1, top + out, z)],
                      0.011, role="metal"))
    return grounded(parts)


def ladder(rng: np.random.Generator) -> list[Part]:
    """A step ladder spread open, or a straight one leaning."""
    high, half, steps = float(rng.uniform(1.1, 2.2)), float(rng.uniform(0.2, 0.28)), int(rng.integers(4, 8))
    role = pick(rng, ("metal", "wood", "body"))
    opened = chance(rng, 0.7)
    reach = high * float(rng.uniform(0.28, 0.4)) if opened else high * 0.3
    starts = [(s * half, 0.0, reach) for s in (-1, 1)]
    ends = [(s * half * 0.75, high, 0.0) for s in (-1, 1)]
    parts = [rods(starts, ends, 0.025, role=role)]
    for t in np.linspace(0.12, 0.92, steps):
        wide = 2 * half * (1 - 0.25 * float(t))
        parts.append(box(wide, 0.025, 0.09 if opened else 0.04, at=(0, high * float(t), reach * (1 - float(t))), role=role))
    if opened:
        parts.append(rods([(s * half, 0.0, -reach) for s in (-1, 1)], ends, 0.02, role=role))
        parts += [rods([(-half, 0.3 * high, -0.7 * reach)], [(half, 0.3 * high, -0.7 * reach)], 0.015, role=role),
                  box(2 * half * 0.85, 0.04, 0.2, at=(0, high, 0.02), role=pick(rng, ("accent", role)))]
    return grounded(parts)


def ironing_board(rng: np.random.Generator) -> list[Part]:
    """A board with a pointed end on crossed legs, now and then with an iron on it."""
    high, long, half = float(rng.uniform(0.75, 0.95)), float(rng.uniform(1.1, 1.4)), float(rng.uniform(0.16, 0.21))
    tip = [(0.0, 0.5), (0.3, 0.47), (0.7, 0.36), (1.0, 0.18), (1.0, -0.5)]
    outline = [(half * x, long * z) for x, z in tip] + [(-half * x, long * z) for x, z in tip[:0:-1]]
    parts = [extrude(outline, 0.04, axis="y", at=(0, high, 0), bevel=0.01)]
    for front in (-1, 1):
        parts.append(rods([(s * 0.5 * half, high - 0.02, front * 0.3 * long) for s in (-1, 1)],
                          [(s * 0.9 * half, 0.0, -front * 0.32 * long) for s in (-1, 1)], 0.014, role="metal"))
        parts.append(rods([(-1.1 * half, 0.015, front * 0.32 * long)], [(1.1 * half, 0.015, front * 0.32 * long)], 0.015, role="dark"))
    if chance(rng, 0.5):
        parts += [rounded_box(0.11, 0.06, 0.24, 0.03, at=(0, high + 0.02, -0.2 * long), role="accent"),
                  tube([(0, high + 0.08, -0.2 * long - 0.08), (0, high + 0.15, -0.2 * long - 0.06), (0, high + 0.15, -0.2 * long + 0.06),
                        (0, high + 0.08, -0.2 * long + 0.08)], 0.015, segments=6, role="dark")]
    return grounded(parts)


def fan(rng: np.random.Generator) -> list[Part]:
    """An electric fan with blades in a cage, on a tall stand or a table foot."""
    radius = float(rng.uniform(0.17, 0.26))
    high = float(rng.uniform(0.9, 1.3)) if chance(rng, 0.65) else radius + float(rng.uniform(0.12, 0.2))
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    cage: list[Part] = []
    for z, share in ((0.09, 1.0), (-0.03, 1.0), (0.13, 0.55)):
        ring = np.stack([share * radius * np.sin(angles), high + share * radius * np.cos(angles), np.full(20, z)], axis=1)
        cage.append(tube(ring, 0.007, segments=4, closed=True, role="metal"))
        hub = np.tile([0.0, high, 0.15 if z > 0 else -0.05], (20, 1))
        cage.append(rods(ring, hub, 0.003, sides=3, role="metal"))
    blade = box(0.11, 0.9 * radius, 0.008, at=(0, 0.02, 0.03), role=pick(rng, ("body", "accent", "glass"))).turned("y", 25.0)
    count = int(rng.integers(3, 6))
    blades = [blade.turned("z", 360.0 * index / count).moved(y=high) for index in range(count)]
    foot = [lathe([(0, 0), (0.75 * radius + 0.04, 0), (0.7 * radius, 0.03), (0.05, 0.05), (0, 0.05)], segments=18)]
    parts = [*cage, *blades, *foot, cylinder(0.02, high - 0.03, at=(0, 0.03, -0.1), segments=8, role="metal"),
             cylinder(0.07, 0.16, axis="z", at=(0, high, -0.1), segments=12)]
    return grounded(parts)


def fire_extinguisher(rng: np.random.Generator) -> list[Part]:
    """A pressure bottle with valve, lever and hose."""
    high, radius = float(rng.uniform(0.4, 0.6)), float(rng.uniform(0.065, 0.095))
    neck = [(0.75 * radius, 0.87 * high), (0.3 * radius, 0.92 * high), (0.28 * radius, high), (0, high)]
    profile = [(0, 0), (radius, 0), (radius, 0.78 * high), *neck]
    hose = [(0.0, high, 0.02), (0.8 * radius, high + 0.02, 0.04), (1.35 * radius, 0.75 * high, 0.03), (1.25 * radius, 0.3 * high, 0.02)]
    parts = [lathe(profile, segments=18), box(0.04, 0.05, 0.06, at=(0, high, 0), role="dark"),
             tube(hose, [0.01, 0.012, 0.012, 0.022], segments=6, role="rubber"),
             rods([(0, high + 0.05, 0.0), (0, high + 0.02, 0.0)], [(0, high + 0.09, -0.13), (0, high + 0.03, -0.13)], 0.01, role="dark"),
             cylinder(radius * 1.01, 0.3 * high, at=(0, 0.35 * high, 0), segments=18, role="light")]
    return grounded(parts)


def globe(rng: np.random.Generator) -> list[Part]:
    """A globe in a half ring on a foot, for the desk or the floor."""
    radius = float(rng.uniform(0.13, 0.22))
    stand = float(rng.uniform(0.5, 0.75)) if chance(rng, 0.3) else 0.09
    middle = stand + 1.15 * radius
    angles = np.deg2rad(np.linspace(-100, 100, 15))
    arc = np.stack([1.12 * radius * np.cos(angles), middle + 1.12 * radius * np.sin(angles), np.zeros(15)], axis=1)
    half = tube(arc, 0.011, segments=5, role=pick(rng, ("metal", "wood"))).turned("z", 23.4, about=(0, middle, 0))
    land = ellipsoid(radius, radius, radius, at=(0, middle, 0), segments=20, rings=13)
    patches = [ellipsoid(0.45 * radius, 0.3 * radius, 0.12 * radius, at=(0, 0, 0.93 * radius), segments=8, rings=5, role="accent")
               .turned("x", float(rng.uniform(-50, 50))).turned("y", float(rng.uniform(0, 360))).moved(y=middle) for _ in range(5)]
    column = [(0, 0), (0.8 * radius, 0), (0.7 * radius, 0.025), (0.03, 0.05), (0.02, stand), (0, stand)]
    foot = lathe(column, segments=18, role=pick(rng, ("wood", "dark")))
    return grounded([land, *patches, half, foot])


def coat_rack(rng: np.random.Generator) -> list[Part]:
    """A pole with hooks on three or four feet, empty or with coats and a hat."""
    high, reach, count = float(rng.uniform(1.6, 1.9)), float(rng.uniform(0.22, 0.32)), int(rng.integers(3, 6))
    role = pick(rng, ("wood", "dark", "metal"))
    parts = [cylinder(0.022, high, segments=8, role=role), ellipsoid(0.035, 0.035, 0.035, at=(0, high, 0), segments=8, rings=5, role=role)]
    for index in range(count):
        angle = 360.0 * index / count
        hook = tube([(0, high - 0.22, 0), (0, high - 0.18, 0.13), (0, high - 0.08, 0.2)], 0.012, segments=5, role=role)
        leg = tube([(0, 0.12, 0), (0, 0.06, 0.6 * reach), (0, 0.012, reach)], 0.018, segments=5, role=role)
        parts += [leg.turned("y", angle + 20), hook.turned("y", angle)]
        if chance(rng, 0.45):
            coat = rounded_box(0.3, float(rng.uniform(0.6, 0.9)), 0.1, 0.04, role=pick(rng, ("body", "accent", "fabric", "dark")))
            drop = high - 0.12 - float(np.ptp(coat.vertices[:, 1]))
            parts.append(coat.moved(0.0, drop, 0.17).turned("y", angle))
    return grounded(parts)


def bucket(rng: np.random.Generator) -> list[Part]:
    """A pail with a bail handle, now and then with a mop in it."""
    high, radius = float(rng.uniform(0.24, 0.36)), float(rng.uniform(0.13, 0.18))
    foot = radius * float(rng.uniform(0.7, 0.85))
    parts = [lathe([(0, 0), (foot, 0), (radius, high), (radius + 0.012, high), (radius + 0.012, high - 0.015), (radius - 0.012, high - 0.01),
                    (foot - 0.01, 0.015), (0, 0.015)], segments=20)]
    lift = np.deg2rad(float(rng.uniform(-60, 80)))
    angles = np.linspace(0, np.pi, 12)
    out = 0.95 * radius * np.sin(angles)
    bail = np.stack([radius * np.cos(angles), high + out * np.sin(lift), out * np.cos(lift)], axis=1)
    parts.append(tube(bail, 0.006, segments=5, role="metal"))
    if chance(rng, 0.5):
        top = np.array([float(rng.uniform(0.15, 0.35)), float(rng.uniform(1.1, 1.3)), -0.1])
        base = np.array([-0.05, 0.09, 0.0])
        parts += [rods([base], [top], 0.013, role="wood"), ellipsoid(0.1, 0.08, 0.1, at=base, segments=10, rings=6, role="fabric")]
    return grounded(parts)


UNSEEN_INDOOR: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "suitcase": suitcase,
    "ladder": ladder,
    "ironing board": ironing_board,
    "fan": fan,
    "fire extinguisher": fire_extinguisher,
    "globe": globe,
    "coat rack": coat_rack,
    "bucket": bucket,
}
