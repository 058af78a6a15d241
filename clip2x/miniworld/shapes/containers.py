"""Parametric bags, bins and boxes (object frame of `parts`; every size is ours, plausible things in metres)."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.carpentry import Rng, beam, finished, moved, plate, ring
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, ellipsoid, loft, tube


@finished
def bag(rng: Rng) -> list[Part]:
    """Bag: shopping bag, handbag, backpack, sack, sports bag, satchel."""
    kind = pick(rng, ("shopping", "handbag", "backpack", "sack", "sports", "satchel"), (2, 2, 2.5, 1, 1.5, 1))
    if kind == "backpack":
        return _backpack(rng)
    if kind == "sack":
        half, high = rng.uniform(0.16, 0.28), rng.uniform(0.35, 0.7)
        bulge = rng.uniform(1.0, 1.3)
        folds = [ring(half * s * rng.uniform(0.95, 1.05), 0.85 * half * s, high * t, squareness=0.8, at=(rng.uniform(-0.01, 0.01), 0.0))
                 for s, t in ((0.85, 0), (bulge, 0.25), (1.0, 0.6), (0.45, 0.82), (0.16, 0.88), (0.34, 1.0))]
        return [loft(folds), tube(ring(0.2 * half, 0.2 * half, 0.87 * high, segments=10), 0.012, segments=5, closed=True, role="accent")]
    if kind == "sports":
        length, radius = rng.uniform(0.45, 0.65), rng.uniform(0.12, 0.17)
        rolled = [
            ring(radius * s, 0.9 * radius * s, y, squareness=0.75)
            for s, y in ((0.85, 0.0), (1.0, 0.04), (1.0, length - 0.04), (0.85, length))
        ]
        roll = loft(rolled).turned("z", 90.0).moved(x=length / 2)
        hoops = [_hoop(0.22, rng.uniform(0.14, 0.24), z=s * 0.5 * radius, y=0.7 * radius) for s in (-1, 1)]
        bands = [box(0.03, 2.0 * radius, 1.85 * radius, at=(s * 0.22 * length, -radius, 0), role="accent") for s in (-1, 1)]
        return [roll, *hoops, *bands]
    width, high, deep = rng.uniform(0.25, 0.42), rng.uniform(0.2, 0.45), rng.uniform(0.08, 0.18)
    if kind == "shopping":
        high = rng.uniform(0.3, 0.48)
        outer = [ring(width / 2 * s, deep / 2 * s, y, squareness=0.05) for s, y in ((0.97, 0.0), (1.0, high))]
        inner = [
            ring(width / 2 - 0.006, deep / 2 - 0.006, high, squareness=0.05),
            ring(width / 2 - 0.01, deep / 2 - 0.01, 0.01, squareness=0.05),
        ]
        rise = rng.uniform(0.08, 0.2)
        return [loft([*outer, *inner]), *(_hoop(0.45 * width, rise, z=s * (deep / 2 - 0.003), y=high - 0.01, thick=0.006) for s in (-1, 1)),
                *([box(0.5 * width, 0.4 * high, 0.004, at=(0, 0.3 * high, deep / 2), role="accent")] if chance(rng, 0.5) else [])]
    taper = rng.uniform(0.65, 0.95)
    body = loft([ring(width / 2 * s, deep / 2 * t, high * y, squareness=0.3) for s, t, y in
                 ((0.94, 0.9, 0.0), (1.0, 1.0, 0.08), (0.5 + 0.5 * taper, 0.8, 0.7), (taper, rng.uniform(0.15, 0.6), 1.0))])
    if kind == "satchel":
        flap = rng.uniform(0.4, 0.75) * high
        return [body, box(0.96 * width, flap, 0.012, at=(0, high - flap, deep / 2 - 0.004), role=pick(rng, ("body", "accent"))),
                *(box(0.025, 0.3 * high, 0.02, at=(s * 0.25 * width, 0.25 * high, deep / 2), role="metal") for s in (-1, 1)),
                _hoop(0.9 * width, rng.uniform(0.15, 0.45), z=0.0, y=0.8 * high, thick=0.01)]
    count = pick(rng, (1, 2))
    hoops = [_hoop(rng.uniform(0.4, 0.6) * width, rng.uniform(0.08, 0.24), z=(0.0 if count == 1 else s * 0.25 * deep), y=0.93 * high)
             for s in ((1,) if count == 1 else (-1, 1))]
    return [
        body,
        *hoops,
        *([ellipsoid(0.015, 0.015, 0.015, at=(0, 0.85 * high, 0.4 * deep), segments=8, rings=5, role="metal")] if chance(rng, 0.5) else []),
    ]


def _hoop(width: float, rise: float, *, z: float, y: float, thick: float = 0.009, role: str = "accent") -> Part:
    """Upright carrying loop."""
    return tube(
        [(width / 2 * np.cos(a), y + rise * np.sin(a) ** 0.8, z) for a in np.linspace(np.pi, 0, 11).clip(1e-9, np.pi - 1e-9)],
        thick,
        segments=6,
        role=role,
    )


def _backpack(rng: Rng) -> list[Part]:
    """Rucksack that stands upright, pockets to the front, straps behind."""
    width, high, deep = rng.uniform(0.27, 0.36), rng.uniform(0.4, 0.6), rng.uniform(0.14, 0.22)
    square = rng.uniform(0.25, 0.55)
    stages = ((0.9, 0.85, 0.0), (1.0, 1.0, 0.1), (1.0, 0.95, 0.6), (0.85, 0.75, 0.88), (0.5, 0.35, 1.0))
    parts = [loft([ring(width / 2 * s, deep / 2 * t, high * y, squareness=square) for s, t, y in stages])]
    pocket = plate(0.75 * width, rng.uniform(0.3, 0.45) * high, 0.35 * deep, squareness=0.35, bevel=0.02, at=(0, 0.08 * high, 0.52 * deep),
                   role=pick(rng, ("body", "accent")), segments=16)
    parts.append(pocket)
    if chance(rng, 0.5):
        parts += [ellipsoid(0.04, 0.16 * high, 0.3 * deep, at=(s * 0.52 * width, 0.22 * high, 0), segments=10, rings=6) for s in (-1, 1)]
    for s in (-1, 1):
        x = s * 0.22 * width
        path = [
            (0.7 * x, 0.93 * high, -0.3 * deep),
            (x, 0.85 * high, -0.7 * deep),
            (1.2 * x, 0.45 * high, -0.85 * deep),
            (1.6 * x, 0.1 * high, -0.42 * deep),
        ]
        parts.append(tube(path, 0.018, segments=6, role="dark"))
    parts.append(_hoop(0.09, 0.06, z=-0.1 * deep, y=0.96 * high, role="dark"))
    if chance(rng, 0.2):
        parts.append(cylinder(0.06, width, axis="x", segments=12, at=(0, high, 0), role="accent"))
    return parts


def _wall(x: float, z: float, high: float, thick: float, *, taper: float, square: float, role: str = "body", segments: int = 24) -> Part:
    """Hollow vessel, open at the top; `taper` is the size of its foot as a share of the rim's."""
    return loft(
        [
            ring(taper * x, taper * z, 0.0, squareness=square, segments=segments),
            ring(x, z, high, squareness=square, segments=segments),
            ring(x - thick, z - thick, high, squareness=square, segments=segments),
            ring(taper * x - thick, taper * z - thick, 0.02, squareness=square, segments=segments),
        ],
        role=role,
    )


@finished
def bin_(rng: Rng) -> list[Part]:
    """Waste bin: open basket, pedal bin, swing lid, wheeled bin, recycling box, street bin on a post."""
    kind = pick(rng, ("open", "pedal", "swing", "wheelie", "mesh", "post", "drum"), (3, 2, 1.5, 2, 1, 0.8, 1))
    high, half = rng.uniform(0.26, 0.5), rng.uniform(0.11, 0.18)
    square, taper = pick(rng, (1.0, 1.0, 0.2)), rng.uniform(0.65, 1.0)
    if kind == "wheelie":
        return _wheelie(rng)
    if kind == "mesh":
        hoops = [
            tube(ring(half * s, half * s, y * high, segments=18), 0.006, segments=4, closed=True)
            for s, y in ((taper, 0.02), ((taper + 1) / 2, 0.5), (1.0, 0.98))
        ]
        wires = [_wire(half * taper, half, high, a) for a in np.linspace(0, 2 * np.pi, 16, endpoint=False)]
        return [*hoops, *wires, cylinder(half * taper, 0.01, segments=18)]
    if kind == "post":
        body = _wall(half, half, high, 0.008, taper=0.85, square=square).moved(y=0.4)
        pole = cylinder(0.03, 1.1, segments=8, at=(0, 0, -half - 0.03), role="metal")
        return [body, pole, box(0.04, 0.1, 0.06, at=(0, 0.5, -half), role="metal")]
    if kind == "open":
        body = _wall(half, half * pick(rng, (1.0, 0.7)), high, rng.uniform(0.005, 0.012), taper=taper, square=square)
        rim = tube(ring(half, half, high, squareness=square), 0.008, segments=5, closed=True, role=pick(rng, ("body", "accent")))
        return [body, rim] if chance(rng, 0.3) and float(np.ptp(body.vertices[:, 2])) > 1.9 * half else [body]
    if kind == "drum":
        high, half = rng.uniform(0.6, 0.9), rng.uniform(0.2, 0.3)
        ribs = [tube(ring(half, half, y * high, segments=20), 0.012, segments=5, closed=True) for y in (0.33, 0.66, 0.99)]
        cover = [
            cylinder(1.04 * half, 0.06, top_radius=0.9 * half, segments=20, at=(0, high, 0)),
            _hoop(0.12, 0.04, z=0.0, y=high + 0.05, role="metal"),
        ]
        return [_wall(half, half, high, 0.01, taper=1.0, square=1.0), *ribs, *(cover if chance(rng, 0.6) else [])]
    high = rng.uniform(0.35, 0.75)
    taper = max(taper, 0.85) if kind == "pedal" else taper
    body = _wall(half, half, high, 0.008, taper=taper, square=square)
    if kind == "swing":
        hood = [
            ring(1.03 * half, 1.03 * half, high, squareness=square),
            ring(half, half, high + 0.06, squareness=square),
            ring(0.7 * half, 0.5 * half, high + 0.2, squareness=square),
        ]
        flap = box(1.1 * half, 0.13, 0.01, at=(0, high + 0.05, 0.78 * half), role="accent").turned(
            "x", -30.0, about=(0, high + 0.12, 0.78 * half)
        )
        return [body, loft(hood, role=pick(rng, ("body", "accent"))), flap]
    lid = ellipsoid(
        1.03 * half,
        rng.uniform(0.03, 0.1),
        1.03 * half,
        at=(0, high, 0),
        squareness=max(square, 0.4),
        role=pick(rng, ("body", "metal", "dark")),
    )
    if chance(rng, 0.3):
        lid = lid.turned("x", -80.0, about=(0, high, -half))
    pedal = [
        box(0.07, 0.015, 0.07, at=(0, 0.02, taper * half + 0.03), role="dark"),
        plate(2.05 * taper * half, 0.03, 2.05 * taper * half, squareness=square, role="dark"),
    ]
    return [body, lid, *pedal]


def _wire(low: float, rim: float, high: float, angle: float) -> Part:
    """One wire of a basket from the foot to the rim at an angle about the axis."""
    x, z = np.sin(angle), np.cos(angle)
    return beam((low * x, 0, low * z), (rim * x, high, rim * z), 0.005, role="body")


def _wheelie(rng: Rng) -> list[Part]:
    """Two-wheeled (or big four-wheeled) refuse container with a hinged lid and a grip behind."""
    big = chance(rng, 0.2)
    width, deep, high = (
        (rng.uniform(1.1, 1.4), rng.uniform(0.8, 1.0), rng.uniform(1.0, 1.3))
        if big
        else (rng.uniform(0.46, 0.6), rng.uniform(0.5, 0.7), rng.uniform(0.85, 1.1))
    )
    body = _wall(width / 2, deep / 2, high, 0.015, taper=rng.uniform(0.75, 0.9), square=0.08)
    lid = plate(width + 0.04, 0.06, deep + 0.06, squareness=0.1, bevel=0.02, at=(0, high, 0.01), role=pick(rng, ("body", "accent", "dark")))
    if chance(rng, 0.2):
        lid = lid.turned("x", -rng.uniform(60, 110), about=(0, high, -deep / 2))
    wheel = rng.uniform(0.07, 0.11)
    spots = [(s, t) for s in (-1, 1) for t in ((-1, 1) if big else (-1,))]
    wheels = [
        cylinder(wheel, 0.05, axis="x", segments=14, at=(s * (0.38 * width + 0.03), wheel, t * 0.4 * deep), role="rubber") for s, t in spots
    ]
    grip = tube([(-0.35 * width, high - 0.05, -deep / 2), (-0.35 * width, high, -deep / 2 - 0.07), (0.35 * width, high, -deep / 2 - 0.07),
                 (0.35 * width, high - 0.05, -deep / 2)], 0.015, segments=6)
    return [body.moved(y=wheel if big else 0.0), lid.moved(y=wheel if big else 0.0), *wheels, *([] if big else [grip])]


@finished
def box_(rng: Rng) -> list[Part]:
    """Box: closed carton, carton with open flaps, open tray, crate of slats, lidded box, chest, stack."""
    kind = pick(rng, ("closed", "flaps", "open", "crate", "lid", "chest", "stack"), (2, 3, 1.5, 1.5, 1.5, 1, 1))
    width, high, deep = rng.uniform(0.22, 0.7), rng.uniform(0.15, 0.55), rng.uniform(0.2, 0.5)
    if kind == "closed":
        tape = [
            box(0.05, 0.002, deep, at=(0, high, 0), role="light"),
            box(0.05, 0.3 * high, 0.002, at=(0, 0.7 * high, deep / 2 + 0.001), role="light"),
        ]
        return [box(width, high, deep), *(tape if chance(rng, 0.6) else [])]
    if kind == "stack":
        stack: list[Part] = []
        y = 0.0
        for _ in range(int(rng.integers(2, 4))):
            size = rng.uniform(0.7, 1.0, 3) * (width, 0.7 * high, deep)
            stack.append(box(*size).turned("y", rng.uniform(-12, 12)).moved(rng.uniform(-0.04, 0.04), y, rng.uniform(-0.04, 0.04)))
            y += size[1]
        return stack
    if kind == "crate":
        return _crate(rng, width, high, deep)
    thick = rng.uniform(0.006, 0.02)
    hollow = _wall(width / 2, deep / 2, high, thick, taper=rng.uniform(0.85, 1.0) if kind == "open" else 1.0, square=0.02, segments=16)
    if kind == "open":
        grips = [box(0.3 * width, 0.03, 0.02, at=(0, 0.8 * high, s * deep / 2), role="dark") for s in (-1, 1)]
        return [hollow, *(grips if chance(rng, 0.5) else [])]
    if kind == "flaps":
        flap, parts = 0.45 * deep, [hollow]
        for s in (-1, 1):
            angle = rng.uniform(-40, 130)
            parts.append(
                box(width, 0.006, flap, at=(0, high, s * (deep + flap) / 2)).turned("x", s * -angle + s * 60, about=(0, high, s * deep / 2))
            )
            angle = rng.uniform(-60, 70)
            parts.append(
                box(flap, 0.006, deep, at=(s * (width + flap) / 2, high, 0)).turned("z", s * angle, about=(s * width / 2, high, 0))
            )
        return parts
    lid_high = rng.uniform(0.15, 0.35) * high
    if kind == "chest":
        angles = np.linspace(0, np.pi, 8)
        rings = [[(x, high + 0.5 * lid_high * 2 * np.sin(a), deep / 2 * np.cos(a)) for a in angles] for x in (-width / 2, width / 2)]
        lid = loft(np.array(rings)[:, ::-1])
        bands = [box(0.03, high, deep + 0.01, at=(s * 0.35 * width, 0, 0), role="metal") for s in (-1, 1)]
        parts = [lid, box(0.06, 0.06, 0.02, at=(0, high - 0.04, deep / 2 + 0.01), role="metal")]
    else:
        lid, bands = box(width + 0.02, lid_high, deep + 0.02, at=(0, high - 0.6 * lid_high, 0), role=pick(rng, ("body", "accent"))), []
        parts = [lid]
        if chance(rng, 0.4):
            band = 0.04
            parts.append(box(band, high + 0.4 * lid_high + 0.003, deep + 0.024, role="accent"))
    if chance(rng, 0.4):
        return [hollow, *bands, *(part.turned("x", -rng.uniform(70, 100), about=(0, high, -deep / 2)) for part in parts[:1])]
    return [hollow, *bands, *parts]


def _crate(rng: Rng, width: float, high: float, deep: float) -> list[Part]:
    """Open crate of slats on corner posts."""
    rows, gap = int(rng.integers(2, 5)), rng.uniform(0.01, 0.03)
    pitch = high / rows
    parts = [
        box(0.025, high, 0.025, at=(sx * (width / 2 - 0.02), 0, sz * (deep / 2 - 0.02)), role="wood") for sx in (-1, 1) for sz in (-1, 1)
    ]
    for row in range(rows):
        y = row * pitch
        parts += [box(width, pitch - gap, 0.012, at=(0, y, s * deep / 2)) for s in (-1, 1)]
        parts += [box(0.012, pitch - gap, deep, at=(s * width / 2, y, 0)) for s in (-1, 1)]
    return moved([*parts, box(width, 0.012, deep)])
