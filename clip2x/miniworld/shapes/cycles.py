"""Motorcycles and bicycles, with and without riders. All sizes are ours: plausible metres."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, ellipsoid, extrude, grounded, lathe, loft, rods, tube
from clip2x.miniworld.shapes.people import Pose, figure
from clip2x.miniworld.shapes.vehicle_parts import rounded_box

Pair = tuple[tuple[float, float, float], tuple[float, float, float]]


@lru_cache(maxsize=4)
def _ring(thickness: float, segments: int, sides: int) -> Part:
    """Torus of outer radius 1 about the x axis; `thickness` is the diameter of its section."""
    radius = thickness / 2
    angles = -np.linspace(0, 2 * np.pi, sides + 1)
    return lathe([(1 - radius - radius * np.cos(a), radius * np.sin(a)) for a in angles], segments=segments, role="rubber").turned(
        "z", -90.0
    )


def _wheel(radius: float, thick: float, z: float, spokes: int, hub: float) -> list[Part]:
    """Tyre with spokes; 0 spokes means a thin disc. `thick` is the tyre's section, metres."""
    tyre = _ring(0.12, 22, 5).scaled(thick / 0.12, radius, radius).moved(y=radius, z=z)
    parts = [tyre, cylinder(hub, thick * 1.6, axis="x", segments=8, at=(0.0, radius, z), role="metal")]
    if spokes == 0:
        return [*parts, cylinder(radius * 0.9, thick * 0.25, axis="x", segments=20, at=(0.0, radius, z), role="metal")]
    angles = np.arange(spokes) * 2 * np.pi / spokes
    rim = np.stack([np.zeros(spokes), radius + 0.93 * radius * np.sin(angles), z + 0.93 * radius * np.cos(angles)], axis=1)
    wide = 0.004 if spokes > 9 else 0.02
    side = np.where(np.arange(spokes) % 2 == 0, 1.0, -1.0) * thick * 0.5
    return [*parts, rods(np.stack([side, np.full(spokes, radius), np.full(spokes, z)], axis=1), rim, wide, sides=3, role="metal")]


def bicycle(rng: np.random.Generator) -> list[Part]:
    """A bicycle: diamond, step-through, cross or folding frame, child's or cargo bike; drop, flat, upright or high handlebars."""
    kind = pick(rng, ("diamond", "step", "cross", "folding", "child", "cargo", "tandem"), (6, 3, 1, 1, 1.2, 0.8, 0.4))
    radius = {"folding": 0.24, "child": float(rng.uniform(0.2, 0.27))}.get(kind, float(rng.uniform(0.32, 0.36)))
    base = float(rng.uniform(0.96, 1.08)) * {"child": 0.7, "cargo": 1.5, "tandem": 1.6}.get(kind, 1.0)
    sporty = kind == "diamond" and chance(rng, 0.6)
    thick = float(rng.uniform(0.024, 0.03)) if sporty and chance(rng, 0.5) else float(rng.uniform(0.035, 0.055))
    spokes = pick(rng, (0, 5, 16, 20, 24), (0.6, 0.6, 2, 3, 3))
    front = min(radius, 0.26) if kind == "cargo" else radius
    parts = _wheel(radius, thick, -base / 2, spokes, 0.035) + _wheel(front, thick, base / 2, spokes, 0.03)
    saddle, head = _frame(rng, kind, parts, radius, front, base)
    parts += _handlebar(
        rng, head, pick(rng, ("drop", "flat") if sporty else ("flat", "upright", "upright", "high")), 0.8 if kind == "child" else 1.0
    )
    parts += _bicycle_extras(rng, kind, radius, base, saddle, head)
    if chance(rng, 0.22) and kind not in ("child", "folding"):
        parts += _cyclist(rng, saddle, head)
    return grounded(parts)


def _frame(
    rng: np.random.Generator, kind: str, parts: list[Part], radius: float, front: float, base: float
) -> tuple[np.ndarray, np.ndarray]:
    """Add frame, fork, crank, saddle; return where the saddle and the top of the steering tube are."""
    small = 0.75 if kind == "child" else 1.0
    crank = np.array([0.0, 0.27 * small, -base * 0.08 if kind not in ("cargo", "tandem") else -0.3])
    rear, fore = np.array([0.0, radius, -base / 2]), np.array([0.0, front, base / 2])
    seat = crank + small * np.array([0.0, float(rng.uniform(0.45, 0.56)), -float(rng.uniform(0.13, 0.18))])
    head = np.array([0.0, float(rng.uniform(0.82, 0.93)) * small, base / 2 - float(rng.uniform(0.2, 0.27)) * small])
    low_head = head + small * np.array([0.0, -float(rng.uniform(0.11, 0.17)), 0.05])
    tube_radius = float(rng.uniform(0.014, 0.024))
    stays = [(rear + [x, 0, 0], crank + [x, 0, 0]) for x in (-0.05, 0.05)] + [(rear + [x, 0, 0], seat) for x in (-0.05, 0.05)]
    lines = [(crank, seat), (crank, low_head), (low_head, head)]
    if kind in ("diamond", "child", "tandem"):
        lines.append((seat - [0, float(rng.uniform(0.02, 0.12)), 0], head - [0, 0.03, 0]))
    elif kind == "step":
        lines.append((crank + 0.45 * (seat - crank), low_head + [0, 0.05, 0]))
    elif kind == "cross":
        lines = [(rear, head), *lines[0:1], lines[2]]
    elif kind == "cargo":
        lines.append((seat - [0, 0.1, 0], head))
        bed = float(rng.uniform(0.2, 0.45))
        parts.append(box(0.5, bed, 0.6, at=(0, 0.3, base / 2 - 0.55), role=pick(rng, ("wood", "body", "accent"))))
        head = seat + [0, 0.1, 0.6]
        lines += [(low_head, head), (np.array([0.0, 0.3, base / 2 - 0.2]), low_head)]
    if kind == "tandem":
        second = crank + [0, 0, 0.68]
        lines += [(crank, second), (second, seat + [0, 0, 0.68])]
        parts.append(ellipsoid(0.07, 0.035, 0.13, at=seat + [0, 0.12, 0.68], segments=8, rings=5, role="dark"))
    parts.append(rods([a for a, _ in lines], [b for _, b in lines], tube_radius, sides=6))
    blades = [(low_head + [x, 0, 0], fore + [x, 0, 0]) for x in (-0.05, 0.05)]
    lines = stays + blades
    parts.append(rods([a for a, _ in lines], [b for _, b in lines], tube_radius * 0.6, sides=5))
    saddle = seat + np.array([0.0, float(rng.uniform(0.06, 0.16)) * small, -0.03])
    parts += [
        rods([seat], [saddle], 0.013, sides=5, role="metal"),
        ellipsoid(0.075, 0.035, 0.13, at=saddle + [0, 0.02, 0.01], segments=8, rings=5, role="dark"),
    ]
    angle = float(rng.uniform(0, 2 * np.pi))
    arm = 0.17 * small * np.array([0.0, np.sin(angle), np.cos(angle)])
    ends = [crank + [0.1, 0, 0] + arm, crank - [0.1, 0, 0] - arm]
    parts.append(rods([crank + [0.06, 0, 0], crank - [0.06, 0, 0]], ends, 0.012, role="metal"))
    parts.append(box(0.09, 0.02, 0.09, role="dark").repeated([ends[0] + [0.05, -0.01, 0], ends[1] - [0.05, 0.01, 0]]))
    parts.append(cylinder(0.09 * small, 0.008, axis="x", segments=12, at=crank + [-0.06, 0, 0], role="metal"))
    return saddle, head


def _handlebar(rng: np.random.Generator, head: np.ndarray, form: str, size: float) -> list[Part]:
    """Stem with drop, flat, upright (swept back) or high bars."""
    rise = {"drop": 0.03, "flat": 0.06, "upright": 0.14, "high": 0.12}[form] * size
    top = head + np.array([0.0, rise, 0.03 if form != "upright" else -0.01])
    wide = float(rng.uniform(0.2, 0.33)) * size
    if form == "drop":
        wide = 0.21
        right = [(0.5 * wide, 0.0, 0.02), (wide, 0.0, 0.03), (wide, 0.0, 0.1), (wide, -0.07, 0.12), (wide, -0.13, 0.06), (wide, -0.13, 0.0)]
    elif form == "flat":
        right = [(0.5 * wide, 0.0, 0.0), (wide, 0.0, -0.03)]
    elif form == "upright":
        right = [(0.35 * wide, 0.02, 0.05), (0.85 * wide, 0.03, 0.0), (wide, 0.0, -0.16)]
    else:
        right = [(0.3 * wide, 0.05, 0.02), (0.7 * wide, 0.25, 0.0), (wide, 0.26, -0.08)]
    path = np.array([(-x, y, z) for x, y, z in right[::-1]] + [(0.0, 0.0, 0.0)] + right) + top
    grips = rods(
        [path[0], path[-1]], [path[0] + 0.6 * (path[1] - path[0]), path[-1] + 0.6 * (path[-2] - path[-1])], 0.018, sides=5, role="dark"
    )
    return [rods([head, *path[:-1]], [top, *path[1:]], 0.013, sides=5, role="metal"), grips]


def _bicycle_extras(rng: np.random.Generator, kind: str, radius: float, base: float, saddle: np.ndarray, head: np.ndarray) -> list[Part]:
    """Mudguards, rack, basket, lamp, child's support wheels, bottle."""
    parts: list[Part] = []
    if chance(rng, 0.45):
        angles = np.linspace(np.deg2rad(20), np.deg2rad(170), 7)
        for z, turn in ((-base / 2, 0.35), (base / 2, -0.1)):
            if z < 0 or kind != "cargo":
                arc = np.stack(
                    [np.zeros(7), radius + (radius + 0.025) * np.sin(angles + turn), z + (radius + 0.025) * np.cos(angles + turn)], axis=1
                )
                flat = np.array([0.028, 0, 0])
                parts.append(rods(arc[:-1] + flat, arc[1:] + flat, 0.02, sides=3, role=pick(rng, ("dark", "body", "metal"))))
    if chance(rng, 0.4):
        rack = [(x, 2 * radius + 0.06, -base / 2 + z) for x in (-0.06, 0.06) for z in (-0.2, 0.2)]
        legs = [(x, radius, -base / 2) for x in (-0.07, 0.07)]
        parts.append(rods([rack[0], rack[2], *legs], [rack[1], rack[3], rack[0], rack[2]], 0.008, sides=4, role="metal"))
        if chance(rng, 0.3):
            parts.append(rounded_box(0.36, 0.3, 0.14, 0.03, at=(0, radius + 0.1, -base / 2 - 0.05), role=pick(rng, ("fabric", "dark"))))
    if kind in ("step", "diamond", "cross") and chance(rng, 0.35):
        parts.append(_basket(rng, head))
    if chance(rng, 0.4):
        parts.append(cylinder(0.035, 0.06, axis="z", segments=8, at=head + [0, 0.0, 0.08], role="light"))
    if kind == "child" and chance(rng, 0.5):
        parts += [cylinder(0.06, 0.025, axis="x", segments=10, role="rubber").repeated([(x, 0.06, -base / 2) for x in (-0.17, 0.17)])]
        parts.append(rods([(0.0, radius, -base / 2)] * 2, [(x, 0.06, -base / 2) for x in (-0.17, 0.17)], 0.01, sides=4, role="metal"))
    if chance(rng, 0.3):
        parts.append(rods([(0.02, radius * 0.8, -0.12 * base)], [(0.14, 0.01, -0.16 * base)], 0.009, sides=4, role="metal"))
    return parts


def _basket(rng: np.random.Generator, head: np.ndarray) -> Part:
    low, top, high = 0.11, 0.16, float(rng.uniform(0.18, 0.26))
    corners = [(1, 1), (1, -1), (-1, -1), (-1, 1)]
    rings = [[(x * s, y, z * s * 0.8) for x, z in corners] for s, y in ((low, 0.0), (top, high), (top - 0.012, high), (low - 0.01, 0.02))]
    return loft(rings, role=pick(rng, ("wood", "dark", "metal"))).moved(*(head + [0, -0.08, 0.22]))


def _cyclist(rng: np.random.Generator, saddle: np.ndarray, head: np.ndarray) -> list[Part]:
    lean = float(rng.uniform(8, 40))
    pose = Pose(
        lean,
        (float(rng.uniform(60, 75)), float(rng.uniform(25, 40))),
        (float(rng.uniform(70, 85)), float(rng.uniform(20, 40))),
        (48 - 0.1 * lean,) * 2,
        (10.0, 10.0),
        (20.0, 20.0),
        5.0,
    )
    rider = figure(rng, float(rng.uniform(1.6, 1.8)), pose, head=pick(rng, ("helmet", "hair", "cap")))
    return [
        part.painted("fabric" if part.role == "body" else part.role).moved(0.0, float(saddle[1]) + 0.08, float(saddle[2])) for part in rider
    ]


def motorcycle(rng: np.random.Generator) -> list[Part]:
    """A motorcycle: sport, naked, cruiser, tourer, off-road or scooter; with top box, panniers or rider now and then."""
    kind = pick(rng, ("sport", "naked", "cruiser", "tourer", "cross", "scooter", "moped"), (3, 3, 3, 2, 2, 4, 1))
    if kind == "scooter":
        parts, saddle = _scooter(rng)
        base = 1.3
    else:
        base = float(rng.uniform(1.36, 1.48)) + {"cruiser": 0.2, "tourer": 0.1, "moped": -0.2}.get(kind, 0.0)
        parts, saddle = _chassis(rng, kind, base)
    if chance(rng, 0.3) or kind == "tourer":
        if chance(rng, 0.7):
            parts.append(rounded_box(0.38, 0.3, 0.34, 0.05, at=(0, saddle[1] + 0.05, -base / 2 - 0.1), role=pick(rng, ("body", "dark"))))
        if kind != "scooter":
            case = rounded_box(0.2, 0.34, 0.5, 0.05, at=(0.3, saddle[1] - 0.35, -base / 2), role=pick(rng, ("body", "dark", "metal")))
            parts += [case, case.mirrored("x")]
    if chance(rng, 0.28):
        parts += _rider(rng, kind, saddle)
    return grounded(parts)


def _rider(rng: np.random.Generator, kind: str, saddle: tuple[float, float, float]) -> list[Part]:
    lean = {"sport": 42.0, "cruiser": -3.0, "scooter": 4.0}.get(kind, 14.0) + float(rng.uniform(-5, 5))
    legs = {"sport": ((55.0,) * 2, (105.0,) * 2), "cruiser": ((78.0,) * 2, (45.0,) * 2), "scooter": ((80.0,) * 2, (85.0,) * 2)}.get(
        kind, ((62.0,) * 2, (90.0,) * 2)
    )
    pose = Pose(lean, legs[0], legs[1], (50.0, 50.0), (14.0, 14.0), (22.0, 22.0), 13.0)
    rider = figure(rng, float(rng.uniform(1.62, 1.85)), pose, girth=1.1, head="helmet")
    return [part.painted("fabric" if part.role == "body" else part.role).moved(0.0, saddle[1] + 0.1, saddle[2]) for part in rider]


def _fork(wheel: float, z: float, top: np.ndarray, rng: np.random.Generator) -> Part:
    feet = [(x, wheel, z) for x in (-0.1, 0.1)]
    return rods(feet, [top + [x * 1.0, 0, 0] for x in (-0.1, 0.1)], float(rng.uniform(0.022, 0.032)), sides=6, role="metal")


def _fender(radius: float, z: float, width: float, start_deg: float, end_deg: float, role: str) -> Part:
    angles = np.deg2rad(np.linspace(start_deg, end_deg, 7))
    outer = [(z + (radius + 0.035) * np.cos(a), radius + (radius + 0.035) * np.sin(a)) for a in angles]
    inner = [(z + (radius + 0.02) * np.cos(a), radius + (radius + 0.02) * np.sin(a)) for a in angles[::-1]]
    return extrude(outer + inner, width, axis="x", role=role)


def _chassis(rng: np.random.Generator, kind: str, base: float) -> tuple[list[Part], tuple[float, float, float]]:
    """Everything of a motorcycle that is not a scooter; returns the parts and the seat's place."""
    wheel = {"cross": 0.35, "moped": 0.27}.get(kind, 0.31)
    thick = {"cross": 0.09, "moped": 0.07, "cruiser": 0.16}.get(kind, 0.14)
    spokes = pick(rng, (5, 6, 8)) if kind in ("sport", "naked", "tourer") else pick(rng, (0, 16, 20), (0.4, 1, 1))
    parts = _wheel(wheel, thick, base / 2, spokes, 0.06) + _wheel(wheel * 0.98, thick * 1.15, -base / 2, spokes, 0.07)
    seat_high = {"cruiser": 0.68, "cross": 0.92, "sport": 0.83, "moped": 0.74}.get(kind, 0.79) + float(rng.uniform(-0.03, 0.03))
    rake = {"cruiser": 0.42, "sport": 0.22, "cross": 0.27}.get(kind, 0.26)
    top = np.array([0.0, seat_high + (0.2 if kind != "sport" else 0.08), base / 2 - rake])
    parts.append(_fork(wheel, base / 2, top, rng))
    parts.append(_fender(wheel, base / 2, thick * 1.3, 30.0, 150.0, "body"))
    if kind == "cross":
        parts[-1] = parts[-1].moved(y=0.18)
    if kind in ("cruiser", "moped", "tourer"):
        parts.append(_fender(wheel, -base / 2, thick * 1.5, 5.0, 160.0, "body"))
    engine = rounded_box(0.32, 0.34, 0.42, 0.06, at=(0, 0.24, 0.02), role=pick(rng, ("metal", "dark")))
    parts += [
        engine,
        rounded_box(0.26, 0.24, 0.3, 0.04, at=(0.0, 0.5, 0.1), role="metal"),
        rods([(x, wheel, -base / 2) for x in (-0.12, 0.12)], [(x, 0.36, -0.1) for x in (-0.12, 0.12)], 0.03, role="dark"),
    ]
    frame = [
        ((0.0, 0.55, -0.25), tuple(top - [0, 0.1, 0])),
        (tuple(top - [0, 0.12, 0]), (0.0, 0.28, 0.2)),
        ((0.0, 0.3, -0.2), (0.0, seat_high - 0.06, -0.4)),
    ]
    parts.append(rods([a for a, _ in frame], [b for _, b in frame], 0.035, sides=5, role="dark"))
    tank_z, long = 0.12, 0.3 if kind != "cruiser" else 0.34
    parts.append(
        ellipsoid(
            0.16 if kind != "cross" else 0.11, 0.13, long, at=(0.0, seat_high + 0.02, tank_z), segments=12, rings=7, squareness=0.75
        ).turned("x", 8.0, about=(0.0, seat_high, tank_z))
    )
    parts += _saddle(kind, seat_high, base)
    parts += _pipes(rng, kind, wheel, base)
    parts += _motor_bars(rng, kind, top)
    if kind in ("sport", "tourer"):
        parts += _fairing(rng, kind, top, base, seat_high)
    elif chance(rng, 0.2):
        parts.append(box(0.36, 0.34, 0.012, role="glass").turned("x", -28.0).moved(y=float(top[1]) + 0.12, z=float(top[2]) + 0.12))
    return parts, (0.0, seat_high, -0.32)


def _saddle(kind: str, high: float, base: float) -> list[Part]:
    rise = {"sport": 0.14, "cruiser": 0.08, "cross": 0.02}.get(kind, 0.05)
    rear = -base / 2 - (0.05 if kind in ("sport", "cross") else 0.12)
    side = [
        (-0.1, high - 0.08),
        (-0.12, high + 0.02),
        (-0.3, high - 0.01),
        (-0.46, high + 0.02),
        (-0.5, high + 0.02 + rise * 0.6),
        (rear, high + rise),
        (rear + 0.03, high + rise - 0.07),
        (-0.42, high - 0.09),
    ]
    tail = [
        (-0.15, high - 0.05),
        (rear - 0.05, high + rise - 0.03),
        (rear - 0.05, high + rise - 0.1),
        (-0.4, high - 0.22),
        (-0.15, high - 0.22),
    ]
    lamp = box(0.1, 0.05, 0.04, at=(0.0, high + rise - 0.1, rear - 0.07), role="accent")
    return [extrude(side, 0.26, axis="x", bevel=0.03, role="dark"), extrude(tail, 0.2, axis="x", bevel=0.03), lamp]


def _pipes(rng: np.random.Generator, kind: str, wheel: float, base: float) -> list[Part]:
    """Exhaust on one side or both."""
    lift = {"sport": 0.3, "cross": 0.4}.get(kind, 0.02)
    path = [(0.14, 0.5, 0.28), (0.16, 0.3, 0.3), (0.17, 0.22, 0.1), (0.18, 0.24, -0.2)]
    silencer = rods([(0.19, 0.26 + 0.3 * lift, -0.25)], [(0.2, 0.28 + lift, -base / 2 - 0.12)], 0.055, sides=8, role="metal")
    parts = [tube(path, 0.03, segments=6, role="metal"), silencer]
    return parts + [part.mirrored("x") for part in parts] if chance(rng, 0.4) else parts


def _motor_bars(rng: np.random.Generator, kind: str, top: np.ndarray) -> list[Part]:
    """Handlebar, headlamp, mirrors."""
    rise = {"sport": 0.0, "cruiser": float(rng.uniform(0.1, 0.35)), "cross": 0.13}.get(kind, 0.1)
    wide = 0.33 if kind == "sport" else float(rng.uniform(0.36, 0.45))
    right = [(0.1, 0.8 * rise, 0.0), (0.7 * wide, rise, -0.02), (wide, rise - 0.02, -0.14)]
    path = np.array([(-x, y, z) for x, y, z in right[::-1]] + [(0.0, 0.0, 0.0)] + right) + top
    parts = [
        rods(path[:-1], path[1:], 0.018, sides=5, role="metal"),
        rods([path[0], path[-1]], [path[0] * 0.75 + path[1] * 0.25, path[-1] * 0.75 + path[-2] * 0.25], 0.026, sides=6, role="dark"),
    ]
    if kind not in ("sport", "tourer"):
        parts.append(
            cylinder(0.1, 0.12, axis="z", segments=12, at=top + [0, -0.12, 0.14], role="light")
            if kind != "cross"
            else rounded_box(0.2, 0.24, 0.04, 0.02, at=top + [0, -0.2, 0.12], role="body")
        )
    if chance(rng, 0.7) and kind != "cross":
        for side in (1, -1):
            foot = path[-2] if side > 0 else path[1]
            tip = foot + [side * 0.08, 0.16, 0.0]
            parts += [
                rods([foot], [tip], 0.008, sides=4, role="dark"),
                ellipsoid(0.07, 0.045, 0.015, at=tip, segments=8, rings=5, role="dark"),
            ]
    return parts


def _fairing(rng: np.random.Generator, kind: str, top: np.ndarray, base: float, high: float) -> list[Part]:
    """Nose, belly panels and screen."""
    z, y = float(top[2]), float(top[1])
    nose = [
        (z + 0.34, y - 0.14),
        (z + 0.22, y + 0.04),
        (z - 0.02, y + 0.02),
        (0.12, high - 0.1),
        (0.1, 0.34),
        (0.3, 0.24),
        (z + 0.02, 0.4),
        (z + 0.1, y - 0.26),
    ]
    side = extrude(nose, 0.42 if kind == "sport" else 0.5, axis="x", bevel=0.07)
    screen = [
        (z + 0.24, y),
        (z + 0.02, y + (0.2 if kind == "sport" else 0.38)),
        (z - 0.0, y + (0.19 if kind == "sport" else 0.37)),
        (z + 0.18, y - 0.02),
    ]
    return [
        side,
        extrude(screen, 0.3 if kind == "sport" else 0.4, axis="x", role="glass"),
        box(0.26, 0.09, 0.06, at=(0.0, y - 0.14, z + 0.27), role="light"),
    ]


def _scooter(rng: np.random.Generator) -> tuple[list[Part], tuple[float, float, float]]:
    """Step-through scooter: small disc wheels, leg shield, flat floor, bulky tail."""
    wheel, base, high = float(rng.uniform(0.2, 0.25)), float(rng.uniform(1.2, 1.36)), float(rng.uniform(0.72, 0.8))
    parts = _wheel(wheel, 0.1, base / 2, pick(rng, (0, 5)), 0.05) + _wheel(wheel, 0.11, -base / 2, pick(rng, (0, 5)), 0.05)
    head = np.array([0.0, high + 0.16, base / 2 - 0.26])
    parts += [_fork(wheel, base / 2, head - [0, 0.2, 0], rng), _fender(wheel, base / 2, 0.15, 10.0, 160.0, "body")]
    shield = [
        (base / 2 - 0.2, 0.3),
        (base / 2 - 0.17, high - 0.1),
        (base / 2 - 0.22, high + 0.1),
        (base / 2 - 0.28, high + 0.1),
        (base / 2 - 0.3, 0.3),
    ]
    parts.append(extrude(shield, float(rng.uniform(0.34, 0.46)), axis="x", bevel=0.025))
    parts.append(rounded_box(float(rng.uniform(0.3, 0.4)), 0.1, 0.6, 0.03, at=(0, 0.22, 0.18), role=pick(rng, ("body", "dark"))))
    rear = -base / 2 - 0.22
    tail = [
        (-0.02, 0.3),
        (0.0, high - 0.12),
        (-0.1, high - 0.04),
        (rear, high - 0.02),
        (rear - 0.04, high - 0.18),
        (-base / 2 + 0.05, 0.36),
        (-0.2, 0.24),
    ]
    bulk = float(rng.uniform(0.28, 0.4))
    parts += [
        extrude(tail, bulk, axis="x", bevel=0.06),
        extrude(
            [(-0.02, high - 0.06), (-0.06, high + 0.03), (-0.4, high + 0.02), (rear + 0.05, high + 0.06), (rear, high - 0.02)],
            bulk * 0.8,
            axis="x",
            bevel=0.025,
            role="dark",
        ),
    ]
    nose = rounded_box(0.24, 0.2, 0.2, 0.06, at=head + [0, -0.02, 0.02])
    parts += [
        nose,
        cylinder(0.07, 0.04, axis="z", segments=10, at=head + [0, 0.07, 0.13], role="light"),
        *_motor_bars(rng, "sport", head + [0, 0.12, 0.0]),
    ]
    parts.append(rods([(0.16, 0.25, -base / 2 + 0.2)], [(0.18, 0.32, -base / 2 - 0.2)], 0.05, sides=8, role="metal"))
    parts.append(box(0.12, 0.06, 0.05, at=(0.0, high - 0.22, rear - 0.02), role="accent"))
    if chance(rng, 0.3):
        parts.append(box(0.4, 0.45, 0.012, role="glass").turned("x", -18.0).moved(y=float(head[1]) + 0.12, z=float(head[2]) + 0.1))
    return parts, (0.0, high, -0.28)
