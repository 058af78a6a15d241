"""Laptops, clocks, umbrellas, and the list of all household generators. Frame: y up, on y = 0, front towards +z, metres."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clip2x.miniworld.draws import chance, pick
from clip2x.miniworld.instruments import guitar, piano
from clip2x.miniworld.parts import Part, Points, box, cylinder, ellipsoid, extrude, grounded, lathe, rods, tube
from clip2x.miniworld.plants import plant
from clip2x.miniworld.vehicle_parts import rounded_box
from clip2x.miniworld.vessels import bottle, bowl, mug, vase


def laptop(rng: np.random.Generator) -> list[Part]:
    """Laptop, open at any angle, nearly closed, folded back or as a tent; keyboard, touch pad, feet; sizes from 10 to 18 inches."""
    wide = float(rng.uniform(0.25, 0.42))
    deep = wide * float(rng.uniform(0.62, 0.75))
    thick, lid = float(rng.uniform(0.01, 0.028)), float(rng.uniform(0.005, 0.012))
    base = rounded_box(wide, thick, deep, min(0.006, thick * 0.4))
    parts = [base]
    top = thick - 0.0005
    inset = float(rng.uniform(0.03, 0.08)) * wide
    deck = box(wide - 2 * inset, 0.0015, deep * 0.46, at=(0, top, -deep * 0.14), role=pick(rng, ("dark", "metal")))
    parts.append(deck)
    rows, columns = 5, 12
    pitch = ((wide - 2 * inset) / columns, deep * 0.46 / rows)
    spots = [
        ((c - (columns - 1) / 2) * pitch[0], top + 0.0012, -deep * 0.14 + (r - (rows - 1) / 2) * pitch[1])
        for r in range(rows)
        for c in range(columns)
    ]
    parts.append(box(pitch[0] * 0.8, 0.002, pitch[1] * 0.78, role=pick(rng, ("dark", "light", "metal"))).repeated(spots))
    if chance(rng, 0.9):
        parts.append(
            box(
                wide * 0.3,
                0.001,
                deep * 0.24,
                at=(float(rng.uniform(-0.05, 0.03)) * wide, top, deep * 0.28),
                role=pick(rng, ("metal", "dark")),
            )
        )
    form = pick(rng, ("open", "wide", "narrow", "closed", "flat"), (6, 3, 2, 0.6, 0.6))
    angle = float(rng.uniform(*{"open": (95, 120), "wide": (120, 140), "narrow": (15, 85), "closed": (0.0, 4), "flat": (150, 178)}[form]))
    screen = _lid(rng, wide, deep, lid)
    hinge = (0.0, thick, -deep / 2 + 0.004)
    parts += [part.turned("x", -angle).moved(*hinge) for part in screen]
    parts.append(cylinder(0.5 * thick + 0.002, wide * 0.7, axis="x", segments=8, at=(0.0, thick * 0.7, -deep / 2 + 0.002), role="dark"))
    if form == "wide" and chance(rng, 0.2):
        parts = [part.turned("x", 180.0 - (180.0 - angle) / 2) for part in parts]
    return grounded(parts)


def _lid(rng: np.random.Generator, wide: float, deep: float, thick: float) -> list[Part]:
    """Closed lid above the origin, hinge along x at z = 0, screen downwards."""
    frame = rounded_box(wide, thick, deep, min(0.004, 0.4 * thick), at=(0.0, 0.001, deep / 2))
    edge = float(rng.uniform(0.006, 0.018))
    parts = [frame, box(wide - 0.006, 0.001, deep - 0.006, at=(0.0, 0.0004, deep / 2), role="dark")]
    parts.append(box(wide - 2 * edge, 0.001, deep - 2.4 * edge, at=(0.0, 0.0, deep / 2 + 0.2 * edge), role="screen"))
    if chance(rng, 0.6):
        parts.append(cylinder(0.014, 0.001, at=(0, thick + 0.001, deep / 2), segments=12, role=pick(rng, ("light", "accent", "metal"))))
    return parts


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


def _canopy(radius: float, high: float, panels: int, scallop: float) -> Part:
    """Thin umbrella cloth, apex at the origin: a dome of flat panels whose edge is drawn in between the ribs."""
    segments, steep, thick = 2 * panels, 1.15, 0.006
    turns = np.linspace(steep, 0.0, 6)
    profile = np.stack([radius * np.sin(turns) / np.sin(steep), -high * (1 - np.cos(turns)) / (1 - np.cos(steep))], axis=1)
    top = lathe(profile, segments=segments)
    far = np.hypot(top.vertices[:, 0], top.vertices[:, 2]) / radius
    between = np.cos(np.arctan2(top.vertices[:, 0], top.vertices[:, 2]) * panels) < 0
    shrink = np.where(between, 1 - scallop * far**2, 1.0)
    cloth = top.vertices * np.stack([shrink, np.ones_like(shrink), shrink], axis=1)
    edge, count = np.arange(segments), len(cloth)
    after = (edge + 1) % segments
    hem = np.concatenate([np.stack([edge + count, after + count, after], axis=1), np.stack([edge + count, after, edge], axis=1)])
    return Part(np.concatenate([cloth, cloth - [0.0, thick, 0.0]]), np.concatenate([top.faces, top.faces[:, ::-1] + count, hem]), "body")


def _alternate(canopy: Part, panels: int) -> Part:
    """Every second panel of a canopy again, a little above it, in the second colour."""
    middle = canopy.vertices[canopy.faces].mean(axis=1)
    sector = np.floor((np.arctan2(middle[:, 0], middle[:, 2]) / (2 * np.pi)) * panels).astype(int)
    return Part(canopy.vertices * [1.004, 1.0, 1.004] + [0.0, 0.008, 0.0], canopy.faces[sector % 2 == 0], "accent")


def umbrella(rng: np.random.Generator) -> list[Part]:
    """Umbrella: open upright or laid on its edge, closed, half open; hooked or straight handle; also a parasol with a foot."""
    kind = pick(rng, ("open", "tilted", "closed", "parasol", "half"), (4, 3, 3, 3, 1))
    if kind == "closed":
        return grounded(_closed_umbrella(rng))
    big = kind == "parasol"
    radius = float(rng.uniform(1.0, 1.8)) if big else float(rng.uniform(0.4, 0.65))
    long = float(rng.uniform(2.1, 2.7)) if big else radius * float(rng.uniform(1.35, 1.75))
    high = radius * (
        float(rng.uniform(0.9, 1.4)) if kind == "half" else float(rng.uniform(0.25, 0.45)) if not big else float(rng.uniform(0.2, 0.4))
    )
    radius *= 0.6 if kind == "half" else 1.0
    panels = pick(rng, (6, 8, 8, 8, 10))
    parts = [_canopy(radius, high, panels, float(rng.uniform(0.03, 0.12))).moved(y=long)]
    if chance(rng, 0.25):
        parts.append(_alternate(parts[0], panels))
    shaft = 0.02 if big else 0.006
    parts += [rods([(0, 0.0, 0)], [(0, long + 0.04 * radius + 0.02, 0)], shaft, sides=6, role=pick(rng, ("metal", "wood", "dark")))]
    angles = np.arange(panels) * 2 * np.pi / panels
    rim = np.stack([radius * 0.55 * np.sin(angles), np.full(panels, long - high * 0.28), radius * 0.55 * np.cos(angles)], axis=1)
    parts.append(rods(np.repeat([[0, long - high * 1.0, 0]], panels, axis=0), rim, shaft * 0.4, sides=3, role="metal"))
    if big:
        return grounded([*_parasol_tilt(rng, parts, long), *_foot(rng)])
    parts += _grip(rng)
    if kind == "tilted":
        lean = float(np.rad2deg(np.arctan2(radius, long - high))) + 90.0
        around = float(rng.uniform(-40, 40))
        parts = [part.turned("x", lean).turned("y", around) for part in parts]
    return grounded(parts)


def _parasol_tilt(rng: np.random.Generator, parts: list[Part], long: float) -> list[Part]:
    """Bend the upper part of a parasol now and then."""
    if chance(rng, 0.7):
        return parts
    lean = float(rng.uniform(8, 25))
    joint = (0.0, 0.75 * long, 0.0)
    pole = rods([(0.0, 0.0, 0.0), joint], [joint, (0.0, long, 0.0)], 0.02, sides=6, role="metal")
    upper = [part.turned("x", lean, about=joint) for part in parts if part.vertices[:, 1].min() > 0.5]
    return [
        *upper,
        rods([(0.0, 0.0, 0.0)], [joint], 0.02, sides=6, role="metal"),
        rods([joint], [pole.vertices[-1]], 0.02, sides=6, role="metal").turned("x", lean, about=joint),
    ]


def _foot(rng: np.random.Generator) -> list[Part]:
    form = pick(rng, ("round", "cross", "block"))
    if form == "round":
        return [cylinder(0.28, 0.08, top_radius=0.24, segments=16, role="dark"), cylinder(0.04, 0.3, segments=8, role="dark")]
    if form == "cross":
        return [box(0.8, 0.04, 0.08, role="metal"), box(0.08, 0.04, 0.8, role="metal"), cylinder(0.03, 0.3, segments=8, role="metal")]
    return [rounded_box(0.45, 0.1, 0.45, 0.03, role="dark"), cylinder(0.04, 0.3, segments=8, role="metal")]


def _grip(rng: np.random.Generator) -> list[Part]:
    """Hook or straight handle at the lower end of the shaft (y = 0)."""
    role = pick(rng, ("wood", "dark", "accent"))
    if chance(rng, 0.65):
        bow: Points = np.array(
            [
                (0.0, 0.12, 0.0),
                (0.0, 0.0, 0.0),
                *((0.035 - 0.035 * np.cos(a), -0.035 * np.sin(a), 0.0) for a in np.linspace(0.4, np.pi, 6)),
                (0.07, 0.03, 0.0),
            ]
        )
        return [tube(bow, 0.011, segments=6, role=role)]
    return [cylinder(0.014, float(rng.uniform(0.08, 0.14)), top_radius=0.011, segments=8, at=(0.0, -0.02, 0.0), role=role)]


def _closed_umbrella(rng: np.random.Generator) -> list[Part]:
    """Rolled umbrella standing on its tip, leaning, or lying; also a short folding one."""
    long = float(rng.uniform(0.75, 0.98)) if chance(rng, 0.75) else float(rng.uniform(0.25, 0.35))
    wide = float(rng.uniform(0.022, 0.06))
    profile = [(0.012, 0.3), (wide * 0.9, 0.34), (wide, 0.45), (wide * 0.6, 0.8), (0.012, 0.97)]
    body = lathe([(0.0, 0.3 * long), *((r, y * long) for r, y in profile), (0.0, 0.97 * long)], segments=16)
    angle = np.arctan2(body.vertices[:, 0], body.vertices[:, 2])
    pleat = 1 + 0.22 * np.cos(angle * 8)
    body = Part(body.vertices * np.stack([pleat, np.ones_like(pleat), pleat], axis=1), body.faces, body.role)
    parts = [
        body,
        rods([(0.0, 0.0, 0.0)], [(0.0, long * 1.06, 0.0)], 0.006, sides=6, role="metal"),
        cylinder(wide * 0.95, 0.015, at=(0.0, 0.6 * long, 0.0), segments=12, role="accent"),
        *_grip(rng),
    ]
    pose = pick(rng, ("upright", "flipped", "lying"))
    if pose == "flipped":
        return [part.turned("z", 180.0) for part in parts]
    if pose == "lying":
        around = float(rng.uniform(0, 180))
        return [part.turned("x", 90.0).turned("y", around) for part in parts]
    return parts


HOUSEHOLD: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "mug": mug,
    "bottle": bottle,
    "bowl": bowl,
    "vase": vase,
    "guitar": guitar,
    "plant": plant,
    "laptop": laptop,
    "clock": clock,
    "piano": piano,
    "umbrella": umbrella,
}
