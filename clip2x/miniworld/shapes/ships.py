"""Ships and boats: freighter, tanker, ferry, cruiser, yacht, sailing boat and ship, warship, tug, rowing boat, canoe. Sizes are ours."""

from __future__ import annotations

import itertools

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.hulls import hull, open_hull
from clip2x.miniworld.shapes.parts import Part, box, cylinder, ellipsoid, grounded, loft, rods, tube
from clip2x.miniworld.shapes.vehicle_parts import plan_ring, rounded_box


def ship(rng: np.random.Generator) -> list[Part]:
    """A ship or a boat of a random kind; the keel lies on the ground, the bow points to +z."""
    kinds = (_freighter, _tanker, _liner, _yacht, _sailboat, _tall_ship, _warship, _tug, _rowboat)
    return grounded(pick(rng, kinds, (4, 2, 3, 3, 4, 2, 2, 2, 4))(rng))


def _bridge(width: float, long: float, floors: int, storey: float, at: tuple[float, float, float], role: str = "light") -> list[Part]:
    """Stepped deckhouse with window bands."""
    x, y, z = at
    parts = []
    for floor in range(floors):
        shrink = 1 - 0.09 * floor
        house = box(width * shrink, storey * 0.96, long * shrink, at=(x, y + floor * storey, z), role=role)
        band = box(width * shrink * 1.01, storey * 0.35, long * shrink * 1.01, at=(x, y + (floor + 0.4) * storey, z), role="glass")
        parts += [house, band]
    return parts


def _freighter(rng: np.random.Generator) -> list[Part]:
    """Container ship or bulk carrier with cranes."""
    long = float(rng.uniform(60, 160))
    beam, depth = long * float(rng.uniform(0.13, 0.18)), long * float(rng.uniform(0.07, 0.1))
    parts = [hull(long, beam, depth, bow=float(rng.uniform(0.15, 0.3)), fullness=0.95, rise=0.3, sheer=0.05)]
    storey = long * 0.017
    aft = -long * float(rng.uniform(0.32, 0.4)) if chance(rng, 0.85) else long * 0.28
    parts += _bridge(beam * 0.85, long * 0.09, int(rng.integers(3, 6)), storey, (0.0, depth, aft))
    parts.append(cylinder(beam * 0.1, storey * 3, segments=10, at=(0.0, depth + storey * 2.5, aft - long * 0.06), role="accent"))
    holds = np.linspace(-0.24, 0.32, int(rng.integers(4, 8))) * long
    step = float(holds[1] - holds[0])
    holds = holds[np.abs(holds - aft) > long * 0.09]
    if chance(rng, 0.6):
        for z in holds:
            for column in range(3):
                tall = int(rng.integers(0, 5))
                if tall:
                    stack = box(
                        beam * 0.27, storey * 0.85 * tall, step * 0.85, role=pick(rng, ("body", "accent", "metal", "fabric", "wood"))
                    )
                    parts.append(stack.moved((column - 1) * beam * 0.28, depth * 1.0, float(z)))
    else:
        parts.append(
            box(beam * 0.6, storey * 0.6, step * 0.7, role=pick(rng, ("metal", "accent"))).repeated([(0, depth, z) for z in holds])
        )
        masts = np.array([(0.0, depth, z + step / 2) for z in holds])
        parts += [
            rods(masts, masts + [0, storey * 4, 0], beam * 0.035, role="accent"),
            rods(masts + [0, storey * 3.8, 0], masts + [0, storey * 2.5, step * 0.8], beam * 0.02, role="accent"),
        ]
    return [*parts, *_mast(depth * 1.1, long * 0.44, storey * 3)]


def _mast(y: float, z: float, high: float) -> list[Part]:
    return [
        rods(
            [(0.0, y, z), (-high * 0.2, y + high * 0.7, z)],
            [(0.0, y + high, z), (high * 0.2, y + high * 0.7, z)],
            high * 0.03,
            role="metal",
        )
    ]


def _tanker(rng: np.random.Generator) -> list[Part]:
    """Tanker: long flat deck with pipes or spherical tanks, deckhouse aft."""
    long = float(rng.uniform(70, 170))
    beam, depth = long * float(rng.uniform(0.14, 0.19)), long * float(rng.uniform(0.06, 0.09))
    parts = [hull(long, beam, depth, bow=0.2, fullness=0.97, rise=0.25, sheer=0.03)]
    storey = long * 0.017
    parts += _bridge(beam * 0.8, long * 0.08, int(rng.integers(3, 6)), storey, (0.0, depth, -long * 0.38))
    parts.append(box(beam * 0.2, storey * 5, long * 0.03, at=(0.0, depth, -long * 0.45), role="accent"))
    if chance(rng, 0.4):
        spots = [(0, depth * 1.1, z * long) for z in np.linspace(-0.24, 0.32, int(rng.integers(3, 6)))]
        radius = min(beam * 0.42, long * 0.07)
        parts.append(ellipsoid(radius, radius, radius, segments=14, rings=9, role=pick(rng, ("light", "accent"))).repeated(spots))
    else:
        lines = [(x * beam, depth * 1.06, -0.3 * long) for x in (-0.08, 0.0, 0.08)]
        parts.append(rods(lines, np.array(lines) + [0, 0, 0.7 * long], beam * 0.025, sides=5, role="metal"))
        parts.append(
            box(beam * 0.8, storey * 0.4, long * 0.01, role="metal").repeated([(0.0, depth, z * long) for z in (-0.15, 0.02, 0.2)])
        )
    return [*parts, *_mast(depth * 1.1, long * 0.43, storey * 3)]


def _liner(rng: np.random.Generator) -> list[Part]:
    """Passenger ship or ferry: many decks along the whole hull, funnels, lifeboats."""
    long = float(rng.uniform(40, 180))
    beam, depth = long * float(rng.uniform(0.13, 0.19)), long * float(rng.uniform(0.06, 0.09))
    parts = [hull(long, beam, depth, bow=float(rng.uniform(0.3, 0.42)), fullness=0.9)]
    floors, storey = int(rng.integers(2, 6)), long * 0.02
    for floor in range(floors):
        rear, front = (-0.44 + 0.02 * floor) * long, (0.3 - 0.035 * floor) * long
        rings = [plan_ring(beam * 0.45 * (1 - 0.04 * floor), rear, front, depth + (floor + t) * storey, beam * 0.25) for t in (0.0, 0.98)]
        parts.append(loft(rings, role="light" if chance(rng, 0.5) else "body"))
        band = [
            plan_ring(beam * 0.455 * (1 - 0.04 * floor), rear - 0.01 * beam, front + 0.01 * beam, depth + (floor + t) * storey, beam * 0.25)
            for t in (0.35, 0.75)
        ]
        parts.append(loft(band, role="glass"))
    top = depth + floors * storey
    for index in range(int(rng.integers(1, 4))):
        parts.append(
            cylinder(beam * 0.12, storey * 2.4, segments=10, role="accent")
            .scaled(z=1.4)
            .turned("x", -10.0)
            .moved(y=top - 0.1 * storey, z=(0.05 - 0.14 * index) * long)
        )
    boats = [(side * beam * 0.5, depth + storey * 1.2, z * long) for side in (-1, 1) for z in np.linspace(-0.3, 0.12, 4)]
    parts.append(ellipsoid(beam * 0.05, beam * 0.05, long * 0.03, segments=8, rings=5, role="accent").repeated(boats))
    return [*parts, *_mast(top, 0.15 * long, storey * 2.5)]


def _yacht(rng: np.random.Generator) -> list[Part]:
    """Motor yacht or speedboat."""
    long = float(rng.uniform(5, 28))
    beam, depth = long * float(rng.uniform(0.24, 0.34)), long * float(rng.uniform(0.11, 0.15))
    parts = [hull(long, beam, depth, bow=0.6, stern=0.95, rise=0.65, sheer=0.12, fullness=0.55)]
    floors = 1 if long < 9 else int(rng.integers(1, 4))
    storey = long * 0.085 if long < 12 else long * 0.06
    for floor in range(floors):
        rear, front = (-0.32 + 0.05 * floor) * long, (0.18 - 0.09 * floor) * long
        y = depth * 0.98 + floor * storey
        rings = [
            plan_ring(beam * (0.4 - 0.04 * floor) * s, rear + 0.02 * long * t, front - 0.12 * long * t, y + t * storey, beam * 0.18)
            for t, s in ((0.0, 1.0), (1.0, 0.85))
        ]
        parts.append(loft(rings, role="glass" if floor or chance(rng, 0.5) else "light"))
        parts.append(
            loft(
                [
                    plan_ring(beam * (0.38 - 0.04 * floor), rear - 0.02 * long, front - 0.1 * long, y + storey * t, beam * 0.15)
                    for t in (0.97, 1.08)
                ]
            )
        )
    if chance(rng, 0.6):
        rail = np.array(
            [
                (side * beam * w, depth * h, z * long)
                for side in (-1, 1)
                for w, h, z in ((0.45, 1.06, -0.05), (0.42, 1.1, 0.18), (0.2, 1.2, 0.4))
            ]
        )
        parts += [
            rods(rail, rail + [0, storey * 0.7, 0], long * 0.002, sides=3, role="metal"),
            rods(rail[[0, 1, 3, 4]] + [0, storey * 0.7, 0], rail[[1, 2, 4, 5]] + [0, storey * 0.7, 0], long * 0.003, sides=3, role="metal"),
        ]
    if long < 9:
        parts.append(rounded_box(0.5, 1.0, 0.6, 0.1, at=(0.0, depth * 0.4, -long / 2 - 0.2), role="dark"))
    return [*parts, *_mast(depth + floors * storey, -0.1 * long, storey)]


def _sail(foot: tuple[float, float], head: tuple[float, float], clew: tuple[float, float], belly: float, role: str) -> Part:
    """Thin triangular sail in the (z, y) plane, bulging along x."""
    tack, top, end = np.array(foot), np.array(head), np.array(clew)
    rings = []
    for t in np.linspace(0, 0.97, 5):
        luff, leech = tack + t * (top - tack), end + t * (top - end)
        line = [luff + s * (leech - luff) for s in (0.0, 0.35, 0.7, 1)]
        bulge = [belly * (1 - t) * 4 * s * (1 - s) for s in (0.0, 0.35, 0.7, 1)]
        thick = 0.02
        near = [(b + thick, p[1], p[0]) for p, b in zip(line, bulge, strict=True)]
        rings.append(near + [(x - 2 * thick, y, z) for x, y, z in near[::-1]])
    return loft(rings, role=role)


def _sailboat(rng: np.random.Generator) -> list[Part]:
    """Yacht with one or two masts, main sail and jib, fin keel or dinghy."""
    long = float(rng.uniform(3.5, 16))
    beam, depth = long * float(rng.uniform(0.26, 0.36)), long * float(rng.uniform(0.1, 0.14))
    parts = [hull(long, beam, depth, bow=0.65, stern=float(rng.uniform(0.5, 0.85)), rise=0.7, fullness=0.5)]
    high, mast = long * float(rng.uniform(1.1, 1.4)), long * float(rng.uniform(0.05, 0.14))
    parts.append(rods([(0.0, depth * 0.9, mast)], [(0.0, depth + high, mast)], 0.008 * long, sides=6, role="metal"))
    boom = depth + 0.1 * long
    aft = -0.42 * long
    parts.append(rods([(0.0, boom, mast)], [(0.0, boom, aft)], 0.006 * long, sides=5, role="metal"))
    belly = float(rng.uniform(-0.07, 0.07)) * long
    cloth = pick(rng, ("body", "light"))
    if chance(rng, 0.85):
        parts.append(
            _sail(
                (mast - 0.02 * long, boom + 0.02 * long), (mast - 0.01 * long, depth + 0.97 * high), (aft, boom + 0.02 * long), belly, cloth
            )
        )
        parts.append(
            _sail(
                (0.47 * long, depth * 1.15),
                (mast + 0.03 * long, depth + float(rng.uniform(0.7, 0.92)) * high),
                (mast - 0.05 * long, boom),
                belly,
                cloth,
            )
        )
    else:
        parts.append(rods([(0.0, boom + 0.02 * long, mast)], [(0.0, boom + 0.02 * long, aft)], 0.02 * long, sides=6, role=cloth))
    wires = [(0.0, depth * 1.2, 0.49 * long), (0.0, depth, -0.49 * long), (beam * 0.45, depth, mast), (-beam * 0.45, depth, mast)]
    parts.append(rods(wires, [(0.0, depth + 0.97 * high, mast)] * 4, 0.0022 * long, sides=3, role="metal"))
    if long > 6:
        parts.append(rounded_box(beam * 0.5, 0.05 * long, 0.3 * long, 0.02 * long, at=(0.0, depth * 0.98, 0.02 * long), role="light"))
        fin = [
            plan_ring(0.012 * long, z0 * long, z1 * long, y, 0.01) for y, z0, z1 in ((-0.13 * long, -0.08, 0.02), (depth * 0.2, -0.1, 0.08))
        ]
        parts += [loft(fin, role="dark"), box(0.01 * long, 0.1 * long, 0.05 * long, at=(0.0, -0.06 * long, -0.42 * long), role="dark")]
    return parts


def _tall_ship(rng: np.random.Generator) -> list[Part]:
    """Square-rigged ship with two or three masts."""
    long = float(rng.uniform(22, 60))
    beam, depth = long * float(rng.uniform(0.2, 0.26)), long * float(rng.uniform(0.12, 0.17))
    wood = pick(rng, ("body", "body", "wood"))
    parts = [
        hull(long, beam, depth, bow=0.35, stern=0.75, rise=0.4, sheer=0.22, fullness=0.75, role=wood),
        box(beam * 0.75, depth * 0.4, long * 0.2, at=(0.0, depth * 1.05, -0.38 * long)),
    ]
    parts.append(rods([(0.0, depth * 1.25, 0.46 * long)], [(0.0, depth * 1.7, 0.72 * long)], 0.008 * long, sides=5, role="wood"))
    furled = chance(rng, 0.3)
    for z in np.linspace(-0.3, 0.28, int(rng.integers(2, 4))) * long:
        high = long * float(rng.uniform(0.6, 0.75))
        parts.append(rods([(0.0, depth, z)], [(0.0, depth + high, z)], 0.008 * long, sides=6, role="wood"))
        levels = np.linspace(0.3, 0.95, 4)
        for low, top in itertools.pairwise(levels):
            wide = long * 0.22 * (1.15 - 0.6 * low)
            parts.append(
                rods(
                    [(-wide, depth + top * high, z + 0.01 * long)],
                    [(wide, depth + top * high, z + 0.01 * long)],
                    0.005 * long,
                    sides=5,
                    role="wood",
                )
            )
            if not furled:
                bulge = [(wide * 0.95, 0.0), (wide, 0.06), (wide * 0.9, 0.0)]
                levels_z = [(low + 0.02, bulge[0]), (0.5 * (low + top), bulge[1]), (top - 0.01, bulge[2])]
                rings = [plan_ring(w, z + (0.012 + d) * long, z + (0.018 + d) * long, depth + t * high, 0.001) for t, (w, d) in levels_z]
                parts.append(loft(rings, role="light"))
        ropes = [(side * beam * 0.5, depth, z - 0.03 * long) for side in (-1, 1)]
        parts.append(rods(ropes, [(0.0, depth + 0.75 * high, z)] * 2, 0.003 * long, sides=3, role="dark"))
    return parts


def _warship(rng: np.random.Generator) -> list[Part]:
    """Frigate with guns and radar, aircraft carrier or submarine."""
    kind = pick(rng, ("frigate", "carrier", "submarine"), (3, 1, 1.5))
    long = float(rng.uniform(70, 160))
    if kind == "submarine":
        radius = long * 0.055
        rings = [
            [(radius * s * np.cos(a), radius * (1 + s * np.sin(a)), z * long) for a in np.linspace(0, 2 * np.pi, 14, endpoint=False)]
            for z, s in ((-0.5, 0.05), (-0.35, 0.6), (-0.2, 0.95), (0.0, 1.0), (0.35, 1.0), (0.45, 0.75), (0.49, 0.4), (0.5, 0.05))
        ]
        tower = loft(
            [plan_ring(radius * 0.28 * s, 0.1 * long, 0.2 * long, y, radius * 0.25) for y, s in ((radius * 1.7, 1.0), (radius * 3.0, 0.85))]
        )
        fins = [
            box(radius * 3.2, radius * 0.12, long * 0.04, at=(0.0, radius, -0.42 * long)),
            box(radius * 0.12, radius * 2.8, long * 0.04, at=(0.0, -0.4 * radius, -0.42 * long)),
        ]
        return [
            loft(rings),
            tower,
            *fins,
            box(radius * 2.0, radius * 0.1, long * 0.03, at=(0.0, radius * 2.5, 0.16 * long)),
            rods([(0.0, radius * 2.9, 0.15 * long)], [(0.0, radius * 3.8, 0.15 * long)], radius * 0.07, role="metal"),
        ]
    beam, depth = long * 0.12, long * 0.07
    parts = [hull(long, beam, depth, bow=0.55, stern=0.85, rise=0.5, fullness=0.7, sheer=0.1)]
    if kind == "carrier":
        parts.append(loft([plan_ring(beam * 0.85, -0.5 * long, 0.47 * long, y * depth, beam * 0.4) for y in (1.08, 1.25)], role="dark"))
        parts += [
            part.moved(x=beam * 0.65)
            for part in _bridge(beam * 0.3, long * 0.11, 3, depth * 0.4, (0.0, depth * 1.25, 0.02 * long), role="body")
        ]
        return [*parts, *(part.moved(x=beam * 0.65) for part in _mast(depth * 2.4, 0.0, depth * 1.2))]
    for z, wide, floors, size in ((0.1, 0.7, 3, 0.12), (-0.12, 0.55, 2, 0.1), (-0.3, 0.7, 1, 0.12)):
        parts += _bridge(beam * wide, long * size, floors, depth * 0.33, (0.0, depth * 0.98, z * long), role="body")
    parts += [*_mast(depth * 1.9, 0.08 * long, depth * 1.8), *_mast(depth * 1.6, -0.12 * long, depth * 1.2)]
    for z in (0.27, -0.42):
        parts += [
            ellipsoid(beam * 0.16, depth * 0.25, beam * 0.22, at=(0.0, depth * 1.1, z * long), segments=10, rings=6),
            rods(
                [(0.0, depth * 1.2, z * long)],
                [(0.0, depth * 1.35, z * long + np.sign(z) * 0.09 * long)],
                beam * 0.03,
                sides=6,
                role="metal",
            ),
        ]
    return [*parts, cylinder(beam * 0.16, depth * 0.8, segments=8, at=(0.0, depth * 1.3, -0.05 * long), role="dark")]


def _tug(rng: np.random.Generator) -> list[Part]:
    """Tug or fishing boat: short and high, wheelhouse, mast with derrick."""
    long = float(rng.uniform(9, 30))
    beam, depth = long * float(rng.uniform(0.28, 0.36)), long * float(rng.uniform(0.14, 0.19))
    parts = [hull(long, beam, depth, bow=0.45, stern=0.7, rise=0.4, sheer=0.25, fullness=0.8)]
    fore = chance(rng, 0.6)
    z = (0.1 if fore else -0.22) * long
    parts += _bridge(
        beam * 0.62,
        long * float(rng.uniform(0.22, 0.32)),
        int(rng.integers(1, 3)),
        long * 0.09,
        (0.0, depth * 0.98, z),
        role=pick(rng, ("light", "body", "accent")),
    )
    parts.append(cylinder(0.035 * long, 0.16 * long, segments=10, at=(0.0, depth * 1.5, z - 0.12 * long), role="accent"))
    mast = z + (-0.2 if fore else 0.25) * long
    foot = np.array([0.0, depth, mast])
    tip = foot + [0, 0.4 * long, 0]
    parts.append(
        rods(
            [foot, foot + [0, 0.1 * long, 0], foot + [0, 0.1 * long, 0]],
            [tip, tip + [0, -0.1 * long, -0.2 * long], tip + [0, -0.08 * long, 0.2 * long]],
            0.01 * long,
            sides=5,
            role="metal",
        )
    )
    if chance(rng, 0.5):
        tyres = [(side * beam * 0.5, depth * 0.75, t * long) for side in (-1, 1) for t in np.linspace(-0.35, 0.15, 4)]
        parts.append(cylinder(0.03 * long, 0.03 * long, axis="x", segments=10, role="rubber").repeated(tyres))
    return parts


def _rowboat(rng: np.random.Generator) -> list[Part]:
    """Open rowing boat, canoe or rubber dinghy."""
    kind = pick(rng, ("row", "canoe", "dinghy"), (4, 2, 1.5))
    long = float(rng.uniform(2.6, 5.0))
    if kind == "dinghy":
        beam, radius = long * 0.45, long * 0.065
        half = beam / 2 - radius
        path = [
            (half, radius, -0.45 * long),
            (half, radius, 0.1 * long),
            (half * 0.75, radius * 1.2, 0.33 * long),
            (0.0, radius * 1.6, 0.46 * long),
        ]
        line = path + [(-x, y, z) for x, y, z in path[-2::-1]]
        floor = box(2 * half, 0.04, 0.75 * long, at=(0.0, radius * 0.5, -0.06 * long), role="dark")
        return [
            tube(line, radius, segments=8),
            floor,
            box(2 * half, radius * 1.4, 0.04, at=(0.0, radius * 0.5, -0.42 * long), role="wood"),
            box(2 * half, 0.04, 0.2, at=(0.0, radius * 1.4, -0.1 * long), role="wood"),
        ]
    beam = long * (float(rng.uniform(0.32, 0.42)) if kind == "row" else float(rng.uniform(0.17, 0.22)))
    parts = open_hull(long, beam, long * (0.13 if kind == "row" else 0.085), pointed=kind == "canoe")
    if chance(rng, 0.6):
        depth = long * 0.13
        for side in (1, -1) if kind == "row" else (1,):
            a, b = np.array([side * beam * 0.15, depth * 1.5, 0.0]), np.array([side * beam * 1.4, depth * 0.5, -0.1 * long])
            parts += [
                rods([a], [b], 0.022, sides=5, role="wood"),
                rods([b], [b + 0.25 * (b - a)], 0.06, sides=4, role="wood").scaled(y=1.0),
            ]
    return parts
