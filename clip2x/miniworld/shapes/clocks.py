"""Clocks: wall, alarm, mantel, grandfather, cuckoo, digital, street clock, sunburst. All sizes are ours: plausible metres."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, ellipsoid, extrude, grounded, lathe, rods, tube
from clip2x.miniworld.shapes.vehicle_parts import rounded_box


def _dial(rng: np.random.Generator, radius: float, z: float, y: float = 0.0) -> list[Part]:
    """Clock face towards +z: plate, hour marks, hands."""
    face = pick(rng, ("light", "light", "metal", "dark", "accent"))
    ink = "light" if face == "dark" else "dark"
    parts = [cylinder(radius, radius * 0.03, axis="z", segments=24, at=(0.0, y, z), role=face)]
    angles = np.arange(12) * np.pi / 6
    ends = np.stack([0.93 * radius * np.sin(angles), y + 0.93 * radius * np.cos(angles), np.full(12, z + 0.025 * radius)], axis=1)
    starts = ends * [0.86, 0, 1] + [0, y, 0] + (ends - [0, y, 0]) * [0, 0.86, 0]
    parts.append(rods(starts, ends, np.where(np.arange(12) % 3 == 0, 0.03, 0.015) * radius, sides=4, role=ink))
    hands = rng.uniform(0, 2 * np.pi, 2)
    tips = [
        (length * radius * np.sin(a), y + length * radius * np.cos(a), z + 0.05 * radius)
        for a, length in zip(hands, (0.5, 0.8), strict=True)
    ]
    parts.append(rods([(0.0, y, z + 0.05 * radius)] * 2, tips, [0.035 * radius, 0.022 * radius], sides=4, role=ink))
    return [*parts, cylinder(0.06 * radius, 0.05 * radius, axis="z", segments=8, at=(0.0, y, z + 0.05 * radius), role="metal")]


def clock(rng: np.random.Generator) -> list[Part]:
    """Clock: wall (round, square, octagonal, sunburst), alarm with bells, mantel, grandfather, cuckoo, digital, on a station post."""
    kind = pick(rng, ("wall", "alarm", "mantel", "grandfather", "cuckoo", "digital", "post", "sunburst"), (5, 4, 2, 4, 1, 2, 1, 1))
    build = {
        "wall": _wall_clock,
        "alarm": _alarm_clock,
        "mantel": _mantel_clock,
        "grandfather": _grandfather,
        "cuckoo": _cuckoo,
        "digital": _digital_clock,
        "post": _post_clock,
        "sunburst": _sunburst,
    }[kind]
    return grounded(build(rng))


def _bezel(rng: np.random.Generator, radius: float, deep: float, segments: int = 28) -> Part:
    """Frame around a dial, open towards +z."""
    lip = radius * float(rng.uniform(1.06, 1.25))
    profile = [
        (0.0, 0.0),
        (lip * 0.95, 0.0),
        (lip, 0.3 * deep),
        (lip, 0.8 * deep),
        (0.5 * (lip + radius), deep),
        (radius, 0.85 * deep),
        (radius * 0.98, 0.5 * deep),
        (0.0, 0.5 * deep),
    ]
    return lathe(profile, segments=segments).turned("x", 90.0).turned("z", 180.0 / segments)


def _wall_clock(rng: np.random.Generator) -> list[Part]:
    radius, deep = float(rng.uniform(0.1, 0.22)), float(rng.uniform(0.025, 0.06))
    form = pick(rng, ("round", "round", "square", "octagon"))
    if form == "round":
        return [_bezel(rng, radius, deep), *_dial(rng, radius, deep * 0.55)]
    if form == "octagon":
        return [_bezel(rng, radius * 1.06, deep, segments=8), *_dial(rng, radius, deep * 0.55)]
    size = 2.3 * radius
    parts = [rounded_box(size, size, deep, 0.01, at=(0.0, -size / 2, 0.0)), *_dial(rng, radius, deep * 0.55)]
    if chance(rng, 0.4):
        parts += [
            rounded_box(size * 0.6, 1.6 * radius, deep, 0.01, at=(0.0, -size / 2 - 1.6 * radius, 0.0)),
            *_pendulum(radius * 1.5, (0.0, -size / 2 + 0.1 * radius, deep * 0.6)),
        ]
    return parts


def _pendulum(long: float, at: tuple[float, float, float]) -> list[Part]:
    x, y, z = at
    return [
        rods([at], [(x, y - long * 0.8, z)], 0.03 * long, sides=4, role="metal"),
        cylinder(0.16 * long, 0.03 * long, axis="z", segments=14, at=(x, y - long * 0.8, z), role="metal"),
    ]


def _alarm_clock(rng: np.random.Generator) -> list[Part]:
    """Round case on two feet, twin bells with a hammer on top, or plain."""
    radius, deep = float(rng.uniform(0.035, 0.065)), float(rng.uniform(0.03, 0.055))
    parts = [part.moved(z=-deep / 2) for part in [_bezel(rng, radius, deep), *_dial(rng, radius, deep * 0.6)]]
    feet = np.array(
        [(side * radius * 0.75, -radius * 1.3, z) for side in (-1, 1) for z in ((0.0,) if chance(rng, 0.6) else (-deep * 0.3, deep * 0.3))]
    )
    parts.append(rods(feet, feet * [0.75, 0.6, 1.0], radius * 0.1, sides=6, role="metal"))
    if chance(rng, 0.75):
        bell = lathe([(0, 0), (0.42, 0.0), (0.38, 0.2), (0.2, 0.34), (0, 0.38)], segments=14, role=pick(rng, ("metal", "body"))).scaled(
            radius, radius, radius
        )
        for side in (-1, 1):
            parts.append(bell.moved(y=radius * 1.22).turned("z", -side * 32.0))
            parts.append(
                rods([(side * 0.5 * radius, 0.9 * radius, 0.0)], [(side * 0.75 * radius, 1.25 * radius, 0.0)], 0.05 * radius, role="metal")
            )
        parts += [
            rods([(0.0, radius, 0.0)], [(0.0, 1.5 * radius, 0.0)], 0.04 * radius, role="metal"),
            ellipsoid(0.1 * radius, 0.1 * radius, 0.1 * radius, at=(0.0, 1.5 * radius, 0.0), segments=8, rings=5, role="metal"),
        ]
        path = [(radius * 0.72 * np.cos(a), radius * (1.25 + 0.6 * np.sin(a)), 0) for a in np.linspace(0.1, np.pi - 0.1, 8)]
        parts.append(tube(path, radius * 0.04, segments=5, role="metal"))
    else:
        parts.append(box(radius * 0.6, radius * 0.2, deep * 0.4, at=(0.0, radius * 1.02, 0.0), role="accent"))
    return parts


def _mantel_clock(rng: np.random.Generator) -> list[Part]:
    """Hump-backed, arched or temple-shaped table clock."""
    radius, deep = float(rng.uniform(0.06, 0.1)), float(rng.uniform(0.06, 0.11))
    form, wide = pick(rng, ("hump", "arch", "temple")), 1.25 * radius
    arc = [(wide * np.cos(a), wide * np.sin(a)) for a in np.linspace(0, np.pi, 10)]
    low = -1.3 * radius
    if form == "hump":
        shape = [
            (-3.0 * radius, low),
            (3.0 * radius, low),
            (2.8 * radius, low + 0.35 * radius),
            (1.7 * radius, -0.45 * radius),
            *arc[1:-1],
            (-1.7 * radius, -0.45 * radius),
            (-2.8 * radius, low + 0.35 * radius),
        ]
    elif form == "arch":
        shape = [(-wide, low), (wide, low), *arc]
    else:
        shape = [(-wide, low), (wide, low), (wide, wide), (1.2 * wide, wide), (0.0, 1.8 * wide), (-1.2 * wide, wide), (-wide, wide)]
    span = 3.2 * radius if form == "hump" else 1.2 * wide
    parts = [
        extrude(shape, deep, bevel=0.004),
        box(2 * span, 0.18 * radius, deep * 1.2, at=(0.0, low - 0.18 * radius, 0.0)),
        *_dial(rng, radius, deep / 2),
    ]
    if form == "temple":
        posts = [(side * wide * 1.08, low, deep * 0.4) for side in (-1, 1)]
        parts.append(cylinder(0.1 * wide, wide - low, segments=10, role="metal").repeated(posts))
    return parts


def _grandfather(rng: np.random.Generator) -> list[Part]:
    """Longcase clock: plinth, narrow trunk with a window and pendulum, wider hood, crest."""
    high, wide = float(rng.uniform(1.6, 2.3)), float(rng.uniform(0.38, 0.55))
    deep, base, hood = wide * float(rng.uniform(0.5, 0.65)), high * float(rng.uniform(0.16, 0.24)), high * float(rng.uniform(0.22, 0.27))
    trunk = wide * float(rng.uniform(0.68, 0.9))
    parts = [
        box(wide, base, deep),
        box(trunk, high - base - hood, deep * 0.85, at=(0.0, base, 0.0)),
        box(wide * 1.02, hood, deep * 1.05, at=(0.0, high - hood, 0.0)),
    ]
    for y in (0.0, base - 0.015, high - hood - 0.02):
        parts.append(box(wide * 1.1, 0.04, deep * 1.12, at=(0.0, y, 0.0)))
    front = deep * 0.425
    tall = high - base - hood
    if chance(rng, 0.75):
        parts.append(box(trunk * 0.7, tall * 0.8, 0.01, at=(0.0, base + 0.1 * tall, front), role="glass"))
        parts += _pendulum(tall * 0.7, (0.0, base + tall * 0.88, front + 0.02))
        weights = [(side * trunk * 0.2, base + tall * 0.35, front + 0.02) for side in (-1, 1)]
        parts.append(cylinder(0.025, tall * 0.16, segments=8, role="metal").repeated(weights))
    else:
        parts.append(box(trunk * 0.75, tall * 0.8, 0.015, at=(0.0, base + 0.1 * tall, front)))
    parts += _dial(rng, min(wide * 0.4, hood * 0.42), deep * 0.54, high - hood * 0.52)
    crest = pick(rng, ("flat", "arch", "swan", "peak"))
    half = wide * 0.53
    if crest == "arch":
        shape = [(half * np.cos(a), 0.35 * wide * np.sin(a)) for a in np.linspace(0, np.pi, 9)]
        parts.append(extrude(shape, deep, at=(0.0, high, 0.0)))
    elif crest == "peak":
        parts.append(extrude([(-half, 0.0), (half, 0.0), (0.0, 0.35 * wide)], deep, at=(0.0, high, 0.0)))
    elif crest == "swan":
        horn = extrude(
            [
                (0.15 * half, 0.0),
                (half, 0.0),
                (half, 0.1 * wide),
                (0.3 * half, 0.4 * wide),
                (0.1 * half, 0.3 * wide),
                (0.3 * half, 0.18 * wide),
            ],
            deep * 0.3,
            at=(0.0, high, deep * 0.3),
        )
        parts += [
            horn,
            horn.mirrored("x"),
            ellipsoid(0.06 * wide, 0.12 * wide, 0.06 * wide, at=(0.0, high + 0.12 * wide, deep * 0.3), segments=8, rings=6, role="metal"),
        ]
    return parts


def _cuckoo(rng: np.random.Generator) -> list[Part]:
    """Wall clock in the form of a hut, with cone weights on chains."""
    wide = float(rng.uniform(0.18, 0.3))
    high, deep = wide * 0.95, wide * 0.6
    parts = [extrude([(-wide / 2, 0.0), (wide / 2, 0.0), (wide / 2, high * 0.65), (0.0, high * 1.15), (-wide / 2, high * 0.65)], deep)]
    slab = box(wide * 0.82, 0.04 * wide, deep * 1.3)
    for side in (-1, 1):
        parts.append(slab.turned("z", -side * 45.0).moved(x=side * wide * 0.3, y=high * 0.9, z=0.04 * wide).painted("wood"))
    parts += [
        *_dial(rng, wide * 0.28, deep / 2, high * 0.4),
        box(wide * 0.18, wide * 0.2, 0.02, at=(0.0, high * 0.78, deep / 2), role="dark"),
        *_pendulum(wide * 0.9, (0.0, 0.0, deep * 0.3)),
    ]
    ends = np.array([(side * wide * 0.2, -float(rng.uniform(0.8, 1.6)) * wide, 0.1 * wide) for side in (-1, 1)])
    parts += [
        rods(ends * [1, 0, 1], ends, 0.008 * wide, sides=3, role="metal"),
        cylinder(0.02 * wide, 0.3 * wide, top_radius=0.06 * wide, segments=8, role="wood").repeated(ends - [0, 0.28 * wide, 0]),
    ]
    return parts


def _digital_clock(rng: np.random.Generator) -> list[Part]:
    """Clock radio with segment digits."""
    wide = float(rng.uniform(0.12, 0.24))
    high, deep = wide * float(rng.uniform(0.35, 0.55)), wide * float(rng.uniform(0.3, 0.5))
    slope = deep * float(rng.uniform(0.0, 0.3))
    parts = [extrude([(-deep / 2, 0.0), (deep / 2, 0.0), (deep / 2 - slope, high), (-deep / 2, high)], wide, axis="x", bevel=0.006)]
    tilt = -float(np.rad2deg(np.arctan2(slope, high)))
    digits = [box(wide * 0.9, high * 0.75, 0.004, at=(0.0, high * 0.12, 0.001), role="screen")]
    columns, lit = np.array([-0.32, -0.13, 0.13, 0.32]), rng.random((4, 7)) < 0.75
    lit[:, 0] = lit[:, 4] = True
    flat = [
        (x * wide, y * high, 0.004)
        for x, on in zip(columns, lit, strict=True)
        for y, seen in zip((0.7, 0.45, 0.2), on[:3], strict=True)
        if seen
    ]
    upright = [
        ((x + dx) * wide, y * high, 0.004)
        for x, on in zip(columns, lit, strict=True)
        for (dx, y), seen in zip(((-0.05, 0.49), (0.05, 0.49), (-0.05, 0.24), (0.05, 0.24)), on[3:], strict=True)
        if seen
    ]
    digits += [
        box(wide * 0.1, high * 0.05, 0.004, role="light").repeated(flat),
        box(wide * 0.022, high * 0.2, 0.004, role="light").repeated(upright),
    ]
    parts += [part.turned("x", tilt).moved(z=deep / 2) for part in digits]
    parts.append(cylinder(0.012, 0.008, segments=10, role="metal").repeated([(x * wide, high, -deep * 0.15) for x in (-0.25, 0.0, 0.25)]))
    return parts


def _post_clock(rng: np.random.Generator) -> list[Part]:
    """Street clock: double dial on a post."""
    high, radius, deep = float(rng.uniform(2.4, 4.0)), float(rng.uniform(0.25, 0.4)), 0.2
    parts = [cylinder(0.07, high, top_radius=0.05, segments=10, role="body"), cylinder(0.2, 0.25, top_radius=0.12, segments=10)]
    head = [_bezel(rng, radius, deep), *_dial(rng, radius, deep * 0.75)]
    parts += [part.moved(y=high + radius) for part in head]
    return [
        *parts,
        *(part.turned("y", 180.0).moved(y=high + radius, z=0.0) for part in head),
        box(0.3, 0.06, 0.06, at=(0.0, high - 0.05, 0.0)),
    ]


def _sunburst(rng: np.random.Generator) -> list[Part]:
    """Wall clock with rays."""
    radius, rays = float(rng.uniform(0.07, 0.12)), int(rng.integers(10, 26))
    angles = np.arange(rays) * 2 * np.pi / rays
    reach = radius * (2.2 + 0.6 * (np.arange(rays) % 2)) * float(rng.uniform(0.9, 1.2))
    way = np.stack([np.sin(angles), np.cos(angles), np.zeros(rays)], axis=1)
    return [
        _bezel(rng, radius, 0.03),
        *_dial(rng, radius, 0.018),
        rods(way * radius, way * reach[:, None] + [0, 0, 0.01], radius * 0.06, role=pick(rng, ("body", "metal", "wood"))),
    ]
