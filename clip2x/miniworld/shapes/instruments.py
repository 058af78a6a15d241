"""Guitars and pianos. All sizes are ours: plausible metres."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, extrude, grounded, rods
from clip2x.miniworld.shapes.vehicle_parts import Outline, rounded_box

# Ours: right half outlines of guitar bodies, bottom to neck: (half width, height), body height 1.
BODIES: dict[str, Outline] = {
    "classical": [
        (0.0, 0.0),
        (0.22, 0.02),
        (0.36, 0.14),
        (0.38, 0.28),
        (0.3, 0.45),
        (0.24, 0.58),
        (0.27, 0.76),
        (0.24, 0.92),
        (0.1, 0.99),
        (0.06, 1.0),
    ],
    "dreadnought": [
        (0.0, 0.0),
        (0.26, 0.01),
        (0.38, 0.1),
        (0.4, 0.28),
        (0.34, 0.48),
        (0.29, 0.6),
        (0.3, 0.8),
        (0.26, 0.95),
        (0.1, 1.0),
        (0.06, 1.0),
    ],
    "strat": [
        (0.0, 0.02),
        (0.2, 0.0),
        (0.35, 0.08),
        (0.39, 0.24),
        (0.3, 0.45),
        (0.27, 0.6),
        (0.33, 0.8),
        (0.34, 0.97),
        (0.28, 1.03),
        (0.2, 0.9),
        (0.12, 0.78),
        (0.08, 0.76),
    ],
    "single cut": [
        (0.0, 0.0),
        (0.22, 0.02),
        (0.36, 0.14),
        (0.38, 0.28),
        (0.27, 0.52),
        (0.27, 0.65),
        (0.33, 0.8),
        (0.28, 0.88),
        (0.16, 0.76),
        (0.08, 0.74),
    ],
    "double horn": [
        (0.0, 0.0),
        (0.22, 0.02),
        (0.35, 0.12),
        (0.36, 0.28),
        (0.25, 0.5),
        (0.25, 0.62),
        (0.32, 0.88),
        (0.25, 0.94),
        (0.15, 0.72),
        (0.08, 0.7),
    ],
    "vee": [(0.0, 0.38), (0.06, 0.33), (0.36, -0.02), (0.46, 0.1), (0.18, 0.85), (0.08, 0.95)],
    "ukulele": [(0.0, 0.0), (0.24, 0.03), (0.34, 0.16), (0.35, 0.28), (0.25, 0.52), (0.27, 0.72), (0.2, 0.93), (0.08, 1.0)],
}


def guitar(rng: np.random.Generator) -> list[Part]:
    """Acoustic or electric guitar, bass, ukulele; upright, on a stand, leaning or lying; the top looks towards +z."""
    kind = pick(rng, list(BODIES), (4, 3, 3, 3, 2, 1, 1))
    acoustic = kind in ("classical", "dreadnought", "ukulele")
    size = (
        float(rng.uniform(0.23, 0.3))
        if kind == "ukulele"
        else float(rng.uniform(0.44, 0.52))
        if acoustic
        else float(rng.uniform(0.38, 0.46))
    )
    half = BODIES[kind]
    right = [(x * size * float(rng.uniform(0.97, 1.03)), y * size) for x, y in half]
    left = [(-x * size, y * size) for x, y in half[:0:-1]]
    if kind in ("single cut", "dreadnought") and (kind == "single cut" or chance(rng, 0.3)):
        left = [(-x * size, y * size) for x, y in BODIES["classical"][:0:-1]]
        if kind == "dreadnought":
            right = [(x * size, y * size) for x, y in BODIES["single cut"]]
    deep = size * (0.22 if acoustic else 0.1) * float(rng.uniform(0.85, 1.15))
    parts = [extrude([*right, *left], deep, bevel=0.006 if acoustic else 0.012)]
    if acoustic and chance(rng, 0.35):
        inset = [(x * 0.96, 0.02 * size + y * 0.96) for x, y in [*right, *left]]
        parts.append(extrude(inset, 0.004, at=(0.0, 0.0, deep / 2), role="wood"))
    parts += _front(rng, acoustic, kind, size, deep / 2)
    parts += _neck(rng, acoustic, kind, size, deep / 2)
    return grounded(_posed(rng, parts, size, deep))


def _front(rng: np.random.Generator, acoustic: bool, kind: str, size: float, face: float) -> list[Part]:
    """Sound hole and bridge, or pick-ups, knobs and scratch plate."""
    if acoustic:
        parts = [
            cylinder(size * 0.105, 0.004, axis="z", segments=18, at=(0.0, size * 0.66, face + 0.002), role="dark"),
            box(size * 0.3, size * 0.045, 0.012, at=(0.0, size * 0.26, face), role="dark"),
        ]
        if kind == "dreadnought" and chance(rng, 0.6):
            plate = [(0.1, 0.66), (0.22, 0.6), (0.2, 0.42), (0.08, 0.52)]
            parts.append(extrude([(x * size, y * size) for x, y in plate], 0.003, at=(0.0, 0.0, face + 0.003), role="dark"))
        return parts
    spots = [(0, size * y, face + 0.004) for y in pick(rng, ((0.35, 0.6), (0.33, 0.46, 0.6), (0.36,)))]
    parts = [
        box(size * 0.2, size * 0.05, 0.012, role=pick(rng, ("dark", "light", "metal"))).repeated(spots),
        box(size * 0.2, size * 0.05, 0.02, at=(0.0, size * 0.2, face), role="metal"),
    ]
    knobs = [(size * x, size * y, face + 0.01) for x, y in ((0.18, 0.22), (0.24, 0.15), (0.26, 0.26))][: int(rng.integers(1, 4))]
    parts.append(cylinder(size * 0.025, 0.018, axis="z", segments=8, role="dark").repeated(knobs))
    if kind == "strat" or chance(rng, 0.4):
        plate = [(-0.1, 0.25), (0.18, 0.18), (0.22, 0.35), (0.16, 0.68), (-0.12, 0.68)]
        parts.append(
            extrude([(x * size, y * size) for x, y in plate], 0.004, at=(0, 0, face + 0.001), role=pick(rng, ("light", "dark", "accent")))
        )
    return parts


def _neck(rng: np.random.Generator, acoustic: bool, kind: str, size: float, face: float) -> list[Part]:
    """Neck, fingerboard, head with pegs, strings."""
    foot = {"vee": 0.6, "strat": 0.7}.get(kind, 0.72 if not acoustic else 0.78) * size
    bass = not acoustic and chance(rng, 0.25)
    long = size * (1.28 if not acoustic else 1.02) * (1.15 if bass else 1.0) * float(rng.uniform(0.93, 1.05)) + (
        size - foot if acoustic else 0.0
    )
    wide, nut, top = 0.13 * size if not acoustic else 0.125 * size, 0.1 * size, foot + long
    profile = [(-wide / 2, foot), (wide / 2, foot), (nut / 2, top), (-nut / 2, top)]
    z = face - (0.012 if acoustic else 0.004)
    parts = [extrude(profile, 0.03, at=(0.0, 0.0, z - 0.004), role="wood"), extrude(profile, 0.008, at=(0.0, 0.0, z + 0.014), role="dark")]
    head, spread = size * (0.36 if not bass else 0.42), 0.16 * size
    if acoustic or kind in ("single cut", "double horn"):
        shape = [
            (-nut / 2, 0.0),
            (nut / 2, 0.0),
            (spread / 2, 0.15 * head),
            (spread / 2 * 0.9, head),
            (-spread / 2 * 0.9, head),
            (-spread / 2, 0.15 * head),
        ]
        pegs = [
            (side * spread * 0.62, head * t, 0.0)
            for side in (-1, 1)
            for t in ((0.3, 0.55, 0.8) if kind != "ukulele" and not bass else (0.35, 0.7))
        ]
    else:
        shape = [
            (-nut / 2, 0.0),
            (nut / 2, 0.0),
            (nut / 2 + 0.02 * size, 0.12 * head),
            (nut / 2 + 0.08 * size, 0.8 * head),
            (nut / 2, head),
            (-nut * 0.5, 0.95 * head),
            (-nut * 0.6, 0.15 * head),
        ]
        pegs = [(-nut * 0.85, head * t, 0.0) for t in ((0.2, 0.34, 0.48, 0.62, 0.76, 0.9) if not bass else (0.25, 0.45, 0.65, 0.85))]
    tip = [
        extrude(shape, 0.018, role=pick(rng, ("wood", "dark", "body"))),
        box(0.05 * size, 0.035 * size, 0.012, role="metal").repeated(np.array(pegs)),
    ]
    tilt = -12.0 if acoustic or kind == "single cut" else -3.0
    parts += [part.turned("x", tilt).moved(y=top, z=z) for part in tip]
    count = 4 if bass or kind == "ukulele" else 6
    x = np.linspace(-0.4, 0.4, count)
    starts = np.column_stack([x * wide * 0.8, np.full(count, (0.28 if acoustic else 0.22) * size), np.full(count, face + 0.014)])
    ends = np.column_stack([x * nut, np.full(count, top), np.full(count, z + 0.022)])
    parts.append(rods(starts, ends, 0.0008, sides=3, role="metal"))
    frets = [(0, foot + long * (1 - 2 ** (-k / 12)) / (1 - 2 ** (-19 / 12)) * 0.95, z + 0.018) for k in range(1, 16, 2)]
    parts.append(box(nut, 0.003, 0.003, role="metal").repeated([(0.0, top + foot - y, depth) for _, y, depth in frets]))
    return parts


def _posed(rng: np.random.Generator, parts: list[Part], size: float, deep: float) -> list[Part]:
    """Stand it on its end, lean it back, put it on a stand, or lay it down."""
    pose = pick(rng, ("upright", "lean", "stand", "lying"), (4, 2, 3, 1))
    if pose == "lying":
        return [part.turned("x", -90.0) for part in parts]
    if pose == "upright":
        return parts
    lean = float(rng.uniform(8, 20))
    parts = [part.turned("x", -lean) for part in parts]
    if pose == "stand":
        lift = 0.12 * size + 0.06
        parts = [part.moved(y=lift) for part in parts]
        feet = [(-0.3 * size, 0.0, 0.2 * size + deep), (0.3 * size, 0.0, 0.2 * size + deep), (0.0, 0.0, -0.75 * size)]
        joint = (0.0, 0.55 * size, -0.32 * size - deep)
        lines: list[tuple[tuple[float, float, float], tuple[float, float, float]]] = [(foot, joint) for foot in feet]
        lines += [((x * size, lift, -0.06 - deep), (x * size, lift - 0.02, deep + 0.04)) for x in (-0.16, 0.16)]
        lines += [
            ((-0.16 * size, lift, -0.06 - deep), (0.16 * size, lift, -0.06 - deep)),
            ((0.0, lift, -0.06 - deep), joint),
            (joint, (0.0, 1.4 * size, -0.5 * size - deep)),
        ]
        parts.append(rods([a for a, _ in lines], [b for _, b in lines], 0.008, sides=5, role="dark"))
    return parts


def piano(rng: np.random.Generator) -> list[Part]:
    """Grand piano with lid open or closed, upright piano, digital piano on a stand; with or without a bench; the keys look towards +z."""
    kind = pick(rng, ("grand", "upright", "spinet", "digital"), (5, 5, 2, 2))
    parts = _grand(rng) if kind == "grand" else _digital(rng) if kind == "digital" else _upright(rng, kind)
    if chance(rng, 0.4):
        parts += _bench(rng, float(max(part.vertices[:, 2].max() for part in parts)))
    return grounded(parts)


def _keys(width: float, depth: float, y: float, z: float) -> list[Part]:
    """White keys as one slab with gaps, black keys in their groups."""
    whites = 28
    step = width / whites
    spots = [((index - whites / 2) * step, y + 0.012, z - depth * 0.18) for index in range(1, whites) if index % 7 not in (0, 3)]
    return [box(width, 0.02, depth, at=(0.0, y, z), role="light"), box(step * 0.55, 0.014, depth * 0.6, role="dark").repeated(spots)]


def _bench(rng: np.random.Generator, front: float) -> list[Part]:
    wide, high, deep = float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.44, 0.52)), 0.34
    z = front + 0.15 + deep / 2
    if chance(rng, 0.25):
        return [
            cylinder(0.17, 0.08, at=(0.0, high, z), role="fabric"),
            cylinder(0.03, high, at=(0.0, 0.0, z), segments=8, role="metal"),
            cylinder(0.2, 0.03, at=(0.0, 0.0, z), segments=5, role="dark"),
        ]
    legs = [(x * (wide / 2 - 0.04), 0, z + d * (deep / 2 - 0.04)) for x in (-1, 1) for d in (-1, 1)]
    return [
        rounded_box(wide, 0.08, deep, 0.02, at=(0, high, z), role=pick(rng, ("body", "dark", "fabric"))),
        box(0.05, high, 0.05).repeated(legs),
    ]


def _grand(rng: np.random.Generator) -> list[Part]:
    """Harp-shaped case on three legs: straight bass side (-x seen from behind the keys: +x here), bent treble side."""
    wide, long = float(rng.uniform(1.42, 1.56)), float(rng.uniform(1.4, 2.7))
    half, high, low = wide / 2, 0.3, float(rng.uniform(0.62, 0.7))
    front = 0.12
    curve = [
        (half, -0.32 * long * 0.6),
        (half * 0.78, -0.42 * long),
        (half * 0.3, -0.62 * long),
        (half * 0.1, -0.8 * long),
        (-0.1 * half, -0.94 * long),
        (-0.4 * half, -long),
        (-0.75 * half, -0.99 * long),
        (-half, -0.9 * long),
    ]
    case = [(-half, front), (half, front), *curve]
    rim = [(-half, 0.0), (half, 0.0), *curve]
    parts = [extrude(case, 0.16, axis="y", at=(0.0, low + 0.08, 0.0), bevel=0.02)]
    walls = [(x, z) for x, z in rim]
    tops = np.array([(x, low + 0.15, z) for x, z in walls])
    inner = [(x * 0.95, z * 0.96 - 0.02) for x, z in rim]
    parts += _rim(tops, np.array(inner), high - 0.15)
    parts.append(extrude(inner, 0.02, axis="y", at=(0.0, low + 0.17, 0.0), role="wood"))
    parts += _keys(wide * 0.86, 0.15, low + 0.155, front - 0.09)
    parts += [box(wide * 0.06, 0.12, 0.22, at=(side * half * 0.94, low + 0.12, front - 0.11)) for side in (-1, 1)]
    parts.append(box(wide, 0.28 - 0.12, 0.04, at=(0.0, low + 0.15, -0.04)))
    if chance(rng, 0.7):
        open_deg = float(rng.uniform(25, 42)) if chance(rng, 0.7) else 0.0
        lid = extrude(rim, 0.022, axis="y", at=(0.0, low + high + 0.01, 0.0))
        parts.append(lid.turned("z", open_deg, about=(-half, low + high, 0.0)))
        if open_deg:
            x = half * 0.75
            parts.append(
                rods(
                    [(x, low + high - 0.05, -0.3)],
                    [(x * 0.9, low + high + np.tan(np.deg2rad(open_deg)) * (x * 0.9 + half), -0.3)],
                    0.012,
                    sides=5,
                )
            )
    if chance(rng, 0.7):
        parts.append(box(wide * 0.5, 0.25, 0.015).turned("x", -20.0).moved(y=low + high - 0.02, z=-0.12))
    legs = [(-half * 0.8, -0.08), (half * 0.8, -0.08), (-half * 0.35, -0.85 * long)]
    thick = float(rng.uniform(0.055, 0.08))
    leg = cylinder(thick * 0.7, low + 0.02, top_radius=thick, segments=pick(rng, (4, 8, 12)))
    parts += [
        leg.repeated([(x, 0.0, z) for x, z in legs]),
        cylinder(0.035, 0.06, segments=8, role="metal").repeated([(x, 0.0, z) for x, z in legs]),
    ]
    lyre = [
        box(0.05, low, 0.04).repeated([(x, 0.06, -0.18) for x in (-0.09, 0.09)]),
        box(0.3, 0.06, 0.1, at=(0.0, 0.06, -0.18)),
        box(0.03, 0.015, 0.12, role="metal").repeated([(x, 0.07, -0.1) for x in (-0.07, 0.0, 0.07)]),
    ]
    return parts + lyre


def _rim(outer: np.ndarray, inner: np.ndarray, high: float) -> list[Part]:
    """Wall that follows an outline: one slab for every edge."""
    count = len(outer)
    parts = []
    for index in range(1, count):
        after = (index + 1) % count
        (ax, y, az), (bx, _, bz) = outer[index], outer[after]
        ring = [(ax, az), (bx, bz), tuple(inner[after]), tuple(inner[index])]
        parts.append(extrude([(float(x), float(z)) for x, z in ring], high, axis="y", at=(0.0, y + high / 2, 0.0)))
    return parts


def _upright(rng: np.random.Generator, kind: str) -> list[Part]:
    wide, deep = float(rng.uniform(1.38, 1.55)), float(rng.uniform(0.34, 0.42))
    high = float(rng.uniform(0.95, 1.05)) if kind == "spinet" else float(rng.uniform(1.1, 1.34))
    shelf, reach = float(rng.uniform(0.62, 0.68)), float(rng.uniform(0.24, 0.3))
    parts = [rounded_box(wide, high - 0.03, deep, 0.01), rounded_box(wide + 0.04, 0.03, deep + 0.04, 0.01, at=(0.0, high - 0.03, 0.01))]
    face = deep / 2
    parts += [box(wide * 0.99, 0.1, reach, at=(0.0, shelf - 0.1, face + reach / 2)), *_keys(wide * 0.88, 0.15, shelf, face + reach * 0.62)]
    parts += [box(wide * 0.05, 0.14, reach, at=(side * wide * 0.47, shelf - 0.02, face + reach / 2)) for side in (-1, 1)]
    if chance(rng, 0.75):
        foot = [(side * wide * 0.46, 0.0, face + reach * 0.85) for side in (-1, 1)]
        leg = cylinder(0.03, shelf - 0.1, top_radius=0.045, segments=pick(rng, (4, 8, 12)))
        parts += [leg.repeated(foot), box(0.09, 0.07, reach + 0.06).repeated([(x, 0.0, face + reach / 2) for x, _, _ in foot])]
    else:
        bracket = extrude([(0.0, shelf - 0.1), (reach * 0.9, shelf - 0.1), (0.0, shelf - 0.4)], 0.05, axis="x", at=(0.0, 0.0, face))
        parts.append(bracket.repeated([(x * wide * 0.46, 0.0, 0.0) for x in (-1, 1)]))
    if chance(rng, 0.6):
        parts.append(
            box(wide * 0.5, 0.2, 0.02, at=(0, shelf + 0.16, face + 0.05), role=pick(rng, ("body", "wood"))).turned(
                "x", -12.0, about=(0.0, shelf + 0.16, face + 0.05)
            )
        )
    panels = [
        box(wide * 0.85, (high - shelf) * 0.55, 0.02, at=(0.0, shelf + 0.1, face)),
        box(wide * 0.8, shelf * 0.55, 0.02, at=(0, 0.12, face), role=pick(rng, ("body", "wood", "dark"))),
    ]
    parts += panels if chance(rng, 0.7) else panels[1:]
    parts.append(box(0.035, 0.02, 0.1, role="metal").repeated([(x, 0.04, face + 0.04) for x in (-0.08, 0.0, 0.08)]))
    return parts


def _digital(rng: np.random.Generator) -> list[Part]:
    """Stage or home digital piano: slim body on side panels, X-stand or legs."""
    wide, deep, y = float(rng.uniform(1.2, 1.42)), float(rng.uniform(0.28, 0.42)), float(rng.uniform(0.62, 0.7))
    parts = [
        rounded_box(wide, 0.1, deep, 0.02, at=(0.0, y, 0.0)),
        *_keys(wide * 0.9, 0.14, y + 0.09, deep / 2 - 0.08),
        box(wide * 0.9, 0.04, deep - 0.18, at=(0.0, y + 0.09, -0.08), role="dark"),
    ]
    form = pick(rng, ("panels", "cross", "frame"))
    if form == "panels":
        parts += [
            box(0.04, y, deep * 0.9).repeated([(x * wide * 0.46, 0.0, 0.0) for x in (-1, 1)]),
            box(wide * 0.9, 0.2, 0.025, at=(0.0, y * 0.45, -deep * 0.3)),
            box(0.06, 0.05, deep * 1.2).repeated([(x * wide * 0.46, 0.0, 0.0) for x in (-1, 1)]),
        ]
    elif form == "cross":
        low, top = (
            np.array([(x, 0.02, z) for z in (-0.12, 0.12) for x in (-0.4, 0.4)]),
            np.array([(x, y, z) for z in (-0.12, 0.12) for x in (0.4, -0.4)]),
        )
        parts += [
            rods(low, top, 0.02, role="dark"),
            rods([(x, 0.02, -0.2) for x in (-0.4, 0.4)], [(x, 0.02, 0.2) for x in (-0.4, 0.4)], 0.02, role="dark"),
        ]
    else:
        legs = np.array([(x * wide * 0.44, 0.0, z * deep * 0.4) for x in (-1, 1) for z in (-1, 1)])
        parts += [
            rods(legs, legs + [0, y, 0], 0.022, role="wood"),
            rods(legs[[0, 2]] + [0, 0.12, 0], legs[[1, 3]] + [0, 0.12, 0], 0.02, role="wood"),
        ]
    if chance(rng, 0.6):
        parts.append(box(wide * 0.45, 0.2, 0.012, role="dark").turned("x", -15.0).moved(y=y + 0.12, z=-deep * 0.3))
    return parts
