"""Aeroplanes: airliners, business jets, propeller planes, biplanes, fighters, gliders, military transports. All sizes are ours."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import ArrayLike, Part, Points, box, cylinder, ellipsoid, grounded, loft, rods
from clip2x.miniworld.shapes.vehicle_parts import wheels


def airplane(rng: np.random.Generator) -> list[Part]:
    """An aeroplane of a random kind, nose towards +z, on its wheels or on its belly."""
    kinds = (_airliner, _business_jet, _propeller, _biplane, _fighter, _glider, _transport)
    return grounded(pick(rng, kinds, (6, 2, 4, 1.5, 4, 1, 2))(rng))


def _round(x_radius: float, y_radius: float, centre_y: float, z: float, corners: int = 14) -> Points:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x_radius * np.cos(angles), centre_y + y_radius * np.sin(angles), np.full(corners, z)], axis=1)


def _fuselage(
    length: float, radius: float, *, nose: float, tail: float, droop: float = 0.5, upsweep: float = 0.6, tall: float = 1.0
) -> Part:
    """Body about z; nose and tail: lengths of their tapers over the radius; droop, upsweep: how far their tips leave the axis."""
    half = length / 2
    rows = [(-half, 0.08, upsweep), (-half + 0.35 * tail * radius, 0.42, 0.6 * upsweep), (-half + tail * radius, 1.0, 0.0)]
    rows += [
        (half - nose * radius, 1.0, 0.0),
        (half - 0.55 * nose * radius, 0.86, -0.12 * droop),
        (half - 0.2 * nose * radius, 0.55, -0.32 * droop),
        (half, 0.05, -0.6 * droop),
    ]
    return loft([_round(radius * s, radius * tall * s, radius * shift, z) for z, s, shift in rows])


def _wing(
    root: ArrayLike, span: float, chord: float, tip: float, sweep: float, dihedral: float, *, thick: float = 0.12, kink: bool = False
) -> Part:
    """Left half wing (+x) from its root quarter point; sweep and dihedral are metres that the tip lies back and up."""
    stations = [(0.0, chord), (0.38, chord + 0.38 * (tip - chord) - (0.1 * chord if kink else 0.0)), (1.0, tip)]
    rings = []
    for share, depth in stations:
        x, y, z = np.array(root, dtype=float) + [share * span, share * dihedral, -share * sweep]
        half = 0.5 * thick * depth * (1 - 0.3 * share)
        outline = [(0.0, 0.45), (half, 0.2), (0.75 * half, -0.25), (0.03 * depth * thick, -0.55), (-0.4 * half, -0.2), (-0.7 * half, 0.25)]
        rings.append([(x, y + up, z + along * depth) for up, along in outline])
    return loft(np.array(rings)[:, ::-1])


def _pair(part: Part) -> list[Part]:
    return [part, part.mirrored("x")]


def _fin(z: float, y: float, high: float, chord: float, tip: float, sweep: float) -> Part:
    """Vertical tail above the point (0.0, y, z)."""
    return _wing((0.0, 0.0, 0.0), high, chord, tip, sweep, 0.0, thick=0.1).turned("z", 90.0).moved(y=y, z=z)


def _engine(radius: float, length: float) -> list[Part]:
    """Jet nacelle about the origin, with a dark inlet."""
    rings = [
        _round(radius * s, radius * s, 0.0, z * length, 12)
        for z, s in ((-0.5, 0.55), (-0.1, 0.95), (0.3, 1.0), (0.5, 0.86), (0.5, 0.7), (0.35, 0.65))
    ]
    spinner = cylinder(radius * 0.25, length * 0.2, top_radius=0.02, segments=8, role="metal").turned("x", 90.0).moved(z=0.3 * length)
    return [
        loft(rings, role="metal"),
        cylinder(radius * 0.66, 0.02 * length, axis="z", segments=12, at=(0.0, 0.0, 0.36 * length), role="dark"),
        spinner,
    ]


def _place(parts: list[Part], spots: ArrayLike) -> list[Part]:
    return [part.repeated(spots) for part in parts]


def _propeller_disc(rng: np.random.Generator, radius: float, at: ArrayLike) -> list[Part]:
    """Spinner with two to six blades."""
    centre, blades, phase = np.array(at, dtype=float), int(rng.integers(2, 6)), float(rng.uniform(0, np.pi))
    blade = box(radius * 0.13, radius, radius * 0.04, role="dark").turned("y", 25.0)
    parts = [blade.turned("z", float(np.rad2deg(phase)) + 360.0 * step / blades).moved(*centre) for step in range(blades)]
    return [*parts, ellipsoid(radius * 0.13, radius * 0.13, radius * 0.25, at=centre, segments=8, rings=6, role="metal")]


def _gear(rng: np.random.Generator, radius: float, belly: float, spots: list[tuple[float, float]], probability: float = 0.65) -> list[Part]:
    """Wheels on legs below the places (x, z); none when the gear is up."""
    if not chance(rng, probability):
        return []
    low = belly - 2.4 * radius
    hubs = [(x, low, z) for x, z in spots]
    tops = np.array(hubs) + [0, 3.2 * radius, 0]
    return [*wheels(radius, radius * 0.9, hubs, segments=10), rods(hubs, tops, radius * 0.2, role="metal")]


def _windows(length: float, radius: float, span: tuple[float, float], count: int) -> Part:
    z = np.linspace(span[0], span[1], count) * length
    spots = [(side * radius * 0.965, radius * 0.15, place) for side in (-1, 1) for place in z]
    return box(radius * 0.06, radius * 0.16, length * 0.3 / count, role="dark").repeated(spots)


def _cockpit(radius: float, half: float, nose: float, tall: float = 1.0) -> Part:
    return ellipsoid(
        radius * 0.55,
        radius * 0.3 * tall,
        radius * nose * 0.22,
        at=(0.0, radius * 0.5, half - radius * nose * 0.52),
        segments=10,
        rings=6,
        role="glass",
    )


def _airliner(rng: np.random.Generator) -> list[Part]:
    """Airliner with two or four engines below the wings, or two or three at the tail (T-tail)."""
    length = float(rng.uniform(28, 70))
    radius = length * float(rng.uniform(0.042, 0.056))
    half, tail, nose = length / 2, float(rng.uniform(5.0, 7.0)), float(rng.uniform(2.6, 3.6))
    parts = [_fuselage(length, radius, nose=nose, tail=tail), _cockpit(radius, half, nose), _windows(length, radius, (-0.28, 0.36), 14)]
    span, root_z = length * float(rng.uniform(0.4, 0.5)), length * float(rng.uniform(0.0, 0.06))
    chord, sweep = length * float(rng.uniform(0.17, 0.22)), span * float(rng.uniform(0.35, 0.6))
    at_tail = chance(rng, 0.28)
    lift = span * float(rng.uniform(0.05, 0.12))
    parts += _pair(_wing((0.0, -0.6 * radius, root_z), span, chord, chord * 0.25, sweep, lift, thick=0.11, kink=True))
    if chance(rng, 0.5):
        parts += _pair(
            _wing((0.0, 0.0, 0.0), span * 0.07, chord * 0.25, chord * 0.1, chord * 0.12, 0.0, thick=0.1)
            .turned("z", 75.0)
            .moved(span, lift - 0.6 * radius, root_z - sweep)
        )
    size, long = radius * float(rng.uniform(0.42, 0.6)), radius * float(rng.uniform(1.8, 2.4))
    if at_tail:
        spots = [(side * (radius + size * 0.9), radius * 0.3, -0.3 * length) for side in (-1, 1)]
        parts += [
            *_place(_engine(size, long * 1.2), spots),
            box(2 * radius + size, 0.15 * radius, long * 0.6, at=(0.0, 0.25 * radius, -0.31 * length)),
        ]
        if chance(rng, 0.35):
            parts += [part.moved(y=radius * 1.4, z=-0.38 * length) for part in _engine(size, long * 1.3)]
    else:
        shares = (0.34,) if chance(rng, 0.7) else (0.3, 0.58)
        spots = [
            (side * share * span, -0.6 * radius + share * lift - size * 1.15, root_z - share * sweep + chord * 0.42)
            for side in (-1, 1)
            for share in shares
        ]
        parts += [
            *_place(_engine(size, long), spots),
            *_place([box(size * 0.25, size * 0.9, long * 0.6, at=(0.0, size * 0.5, -0.3 * long), role="metal")], spots),
        ]
    fin = radius * float(rng.uniform(2.4, 3.2))
    parts.append(_fin(-half + tail * radius * 0.42, radius * 0.55, fin, chord * 0.75, chord * 0.3, fin * 0.75))
    high = radius * 0.5 + (fin * 0.97 if at_tail else 0.0)
    parts += _pair(
        _wing(
            (0.0, high, -half + (0.38 * tail * radius - (fin * 0.72 if at_tail else 0.0))),
            span * 0.36,
            chord * 0.5,
            chord * 0.2,
            span * 0.18,
            span * 0.03,
        )
    )
    return parts + _gear(
        rng, radius * 0.28, -radius, [(0.0, half * 0.72), *((side * radius * 1.1, root_z - chord * 0.3) for side in (-1, 1))]
    )


def _business_jet(rng: np.random.Generator) -> list[Part]:
    """Small jet: low wing, engines at the tail, T-tail, winglets."""
    length = float(rng.uniform(12, 24))
    radius = length * float(rng.uniform(0.052, 0.065))
    half = length / 2
    parts = [
        _fuselage(length, radius, nose=5.0, tail=6.0, droop=0.7),
        _cockpit(radius, half, 5.0),
        _windows(length, radius, (-0.12, 0.22), 6),
    ]
    span, chord = length * float(rng.uniform(0.4, 0.48)), length * 0.16
    parts += _pair(_wing((0.0, -0.7 * radius, -0.04 * length), span, chord, chord * 0.35, span * 0.35, span * 0.06))
    parts += _pair(
        _wing((0.0, 0.0, 0.0), span * 0.12, chord * 0.33, chord * 0.15, chord * 0.2, 0.0)
        .turned("z", 80.0)
        .moved(span, span * 0.06 - 0.7 * radius, -0.04 * length - span * 0.35)
    )
    size = radius * 0.5
    parts += _place(_engine(size, radius * 2.6), [(side * radius * 1.45, radius * 0.45, -0.24 * length) for side in (-1, 1)])
    fin = radius * 2.3
    parts.append(_fin(-half + radius * 2.0, radius * 0.5, fin, chord * 0.9, chord * 0.5, fin * 0.6))
    parts += _pair(
        _wing((0.0, radius * 0.5 + fin, -half + radius * 2.0 - fin * 0.6), span * 0.36, chord * 0.55, chord * 0.3, span * 0.12, 0.0)
    )
    return parts + _gear(rng, radius * 0.3, -radius, [(0.0, half * 0.65), (radius, -0.06 * length), (-radius, -0.06 * length)])


def _propeller(rng: np.random.Generator) -> list[Part]:
    """Light aircraft with a nose propeller, or a twin with engines in the wings; high or low wing; nose wheel, tail wheel or floats."""
    twin = chance(rng, 0.4)
    length = float(rng.uniform(9, 25)) if twin else float(rng.uniform(6.5, 9.5))
    radius = length * (0.06 if twin else float(rng.uniform(0.065, 0.085)))
    half, high = length / 2, chance(rng, 0.5)
    parts = [_fuselage(length, radius, nose=3.2 if twin else 2.0, tail=8.0, droop=0.4 if twin else 0.0, upsweep=0.5, tall=1.1)]
    cabin_z = 0.14 * length
    parts.append(
        ellipsoid(
            radius * 0.85,
            radius * 0.75,
            length * 0.11,
            at=(0.0, radius * 0.75, cabin_z),
            segments=12,
            rings=7,
            role="glass",
            squareness=0.8,
        )
    )
    span, chord = length * float(rng.uniform(0.55, 0.7)), length * float(rng.uniform(0.16, 0.21))
    y, z = (radius * 1.4 if high else -radius * 0.7), 0.1 * length
    lift = span * (0.02 if high else 0.08)
    parts += _pair(_wing((0.0, y, z), span, chord, chord * float(rng.uniform(0.5, 0.95)), chord * 0.12, lift))
    if high and not twin:
        parts.append(
            rods(
                [(side * radius * 0.8, -radius * 0.6, z) for side in (-1, 1)],
                [(side * span * 0.45, y, z) for side in (-1, 1)],
                length * 0.006,
                role="metal",
            )
        )
    disc = length * (0.085 if twin else 0.12)
    if twin:
        for side in (-1, 1):
            spot = (side * span * 0.3, y + 0.3 * lift, z + chord * 0.35)
            parts += [
                ellipsoid(radius * 0.4, radius * 0.42, chord * 0.75, at=spot, segments=10, rings=7),
                *_propeller_disc(rng, disc, (spot[0], spot[1], spot[2] + chord * 0.75)),
            ]
    else:
        parts += [
            cylinder(
                radius * 0.75,
                radius * 0.8,
                axis="z",
                segments=12,
                at=(0.0, 0.0, half - radius * 0.6),
                role=pick(rng, ("body", "accent", "metal")),
            ),
            *_propeller_disc(rng, disc, (0.0, 0.0, half)),
        ]
    fin = radius * (2.6 if twin else 2.0)
    parts.append(_fin(-half + chord * 0.4, radius * 0.3, fin, chord * 0.7, chord * 0.4, fin * 0.4))
    parts += _pair(_wing((0.0, radius * 0.4, -half + chord * 0.4), span * 0.32, chord * 0.55, chord * 0.4, chord * 0.1, 0.0))
    if chance(rng, 0.12):
        floats = ellipsoid(
            radius * 0.45, radius * 0.45, length * 0.36, at=(radius * 1.4, -radius * 2.2, 0.06 * length), segments=10, rings=7, role="light"
        )
        struts = [(side * radius * 1.4, -radius * 2.0, (0.06 + d) * length) for side in (-1, 1) for d in (-0.1, 0.12)]
        return [*parts, *_pair(floats), rods(struts, np.array(struts) * [0.4, 0, 1] + [0, -radius * 0.5, 0], length * 0.006, role="metal")]
    third = (0.0, half * 0.75) if chance(rng, 0.6) else (0.0, -half * 0.88)
    return parts + _gear(rng, radius * 0.33, -radius * 1.05, [third, (radius * 1.5, 0.07 * length), (-radius * 1.5, 0.07 * length)], 0.9)


def _biplane(rng: np.random.Generator) -> list[Part]:
    """Two wings with struts and wires, open cockpit, radial engine; sometimes a third wing."""
    length = float(rng.uniform(6, 8.5))
    radius, half = length * 0.065, length / 2
    parts = [
        _fuselage(length, radius, nose=1.2, tail=9.5, droop=0.0, upsweep=0.4, tall=1.15),
        cylinder(
            radius * 1.1, radius * 1.1, axis="z", segments=14, at=(0, 0, half - radius * 0.7), role=pick(rng, ("metal", "accent", "dark"))
        ),
    ]
    span, chord, gap = length * float(rng.uniform(0.5, 0.62)), length * 0.18, length * float(rng.uniform(0.17, 0.22))
    z = 0.2 * length
    levels = [(-radius, 0.0), (-radius + gap, float(rng.uniform(0, 0.06)) * length)]
    if chance(rng, 0.2):
        levels.append((-radius + 1.9 * gap, 0.06 * length))
    for y, shift in levels:
        parts += _pair(_wing((0.0, y, z + shift), span, chord, chord * 0.9, 0.0, span * 0.02, thick=0.08))
    spots = [(side * share * span, -radius, z + d) for side in (-1, 1) for share in (0.12, 0.72) for d in (-0.25 * chord, 0.25 * chord)]
    upper = [0, levels[-1][0] - levels[0][0], levels[-1][1]]
    parts += [
        rods(spots, np.array(spots) + upper, length * 0.006, sides=4, role="wood"),
        ellipsoid(radius * 0.5, radius * 0.3, radius * 0.9, at=(0.0, radius * 1.05, 0.02 * length), segments=8, rings=5, role="dark"),
    ]
    parts += _propeller_disc(rng, length * 0.14, (0.0, 0.0, half))
    parts.append(_fin(-half + chord * 0.5, radius * 0.2, length * 0.14, chord * 0.7, chord * 0.5, chord * 0.2))
    parts += _pair(_wing((0.0, radius * 0.3, -half + chord * 0.5), span * 0.36, chord * 0.6, chord * 0.45, 0.0, 0.0, thick=0.08))
    return parts + _gear(rng, radius * 0.6, -radius, [(radius * 1.6, 0.22 * length), (-radius * 1.6, 0.22 * length)], 1.0)


def _fighter(rng: np.random.Generator) -> list[Part]:
    """Fighter with swept, delta or forward-set canard wings, one or two fins, weapons; also a delta airliner."""
    length = float(rng.uniform(11, 22))
    wide, half = length * float(rng.uniform(0.045, 0.065)), length / 2
    twin = chance(rng, 0.5)
    rows = [
        (-0.5, 0.85, 0.0),
        (-0.3, 1.1, 0.0),
        (0.0, 1.15, 0.0),
        (0.18, 0.9, 0.02),
        (0.34, 0.62, 0.0),
        (0.44, 0.33, -0.02),
        (0.5, 0.03, -0.03),
    ]
    flat = 1.5 if twin else 1.05
    parts = [loft([_round(wide * s * (flat if z < 0.1 else 1.0), wide * s, shift * length, z * length) for z, s, shift in rows])]
    parts.append(
        ellipsoid(wide * 0.45, wide * 0.5, length * 0.085, at=(0.0, wide * 0.75, 0.25 * length), segments=10, rings=7, role="glass")
    )
    inlet = box(wide * 0.6, wide * 0.95, length * 0.26, at=(wide * (0.95 + 0.3 * twin), -wide * 0.7, 0.02 * length))
    parts += [
        *_pair(inlet),
        *_pair(box(wide * 0.5, wide * 0.8, 0.02 * length, at=(wide * (0.95 + 0.3 * twin), -wide * 0.62, 0.145 * length), role="dark")),
    ]
    nozzles = [(x, 0.0, -half) for x in ((-wide * 0.6, wide * 0.6) if twin else (0.0,))]
    parts.append(cylinder(wide * 0.62, length * 0.06, axis="z", segments=12, role="dark").repeated(nozzles))
    form = pick(rng, ("swept", "delta", "canard", "straight"), (4, 3, 2, 1))
    span = length * float(rng.uniform(0.26, 0.36))
    chord = length * {"swept": 0.28, "delta": 0.46, "canard": 0.38, "straight": 0.22}[form]
    sweep = {"swept": 0.6, "delta": 0.36, "canard": 0.36, "straight": 0.1}[form]
    tip = chord * {"swept": 0.3, "delta": 0.08, "canard": 0.12, "straight": 0.55}[form]
    back = chord * sweep if form in ("delta", "canard") else span * sweep
    y, z = wide * float(rng.uniform(-0.3, 0.4)), length * {"swept": -0.02, "delta": -0.14, "canard": -0.16, "straight": -0.02}[form]
    parts += _pair(_wing((wide * 0.4, y, z), span, chord, tip, back, span * float(rng.uniform(-0.06, 0.04)), thick=0.05))
    if form != "delta":
        shift = -0.42 if form in ("swept", "straight") else 0.16
        parts += _pair(
            _wing((wide * 0.5, y + 0.1 * wide, shift * length), span * 0.48, length * 0.13, length * 0.05, length * 0.07, 0.0, thick=0.05)
        )
    fins = (-1, 1) if twin and chance(rng, 0.7) else (0,)
    for side in fins:
        high = length * float(rng.uniform(0.13, 0.18))
        parts.append(
            _fin(-0.36 * length, wide * 0.6, high, length * 0.17, length * 0.07, high * 0.8)
            .turned("z", -side * 18.0, about=(0.0, wide * 0.6, 0.0))
            .moved(x=side * wide * 1.1)
        )
    if chance(rng, 0.5):
        stores = [(side * share * span, y - wide * 0.45, z - share * back) for side in (-1, 1) for share in (0.5, 0.75)]
        parts.append(
            ellipsoid(wide * 0.16, wide * 0.16, length * 0.09, segments=8, rings=6, role=pick(rng, ("light", "metal"))).repeated(stores)
        )
    return parts + _gear(rng, wide * 0.4, -wide, [(0.0, 0.26 * length), (wide * 1.2, -0.1 * length), (-wide * 1.2, -0.1 * length)], 0.5)


def _glider(rng: np.random.Generator) -> list[Part]:
    """Glider: slim body, very long wings, T-tail."""
    length = float(rng.uniform(6.2, 8.5))
    radius = length * 0.05
    rows = [(-0.5, 0.2), (-0.15, 0.32), (0.1, 0.85), (0.28, 1.0), (0.42, 0.7), (0.5, 0.06)]
    parts = [
        loft([_round(radius * s, radius * 1.25 * s, 0.0, z * length) for z, s in rows]),
        ellipsoid(radius * 0.75, radius * 0.8, length * 0.11, at=(0.0, radius * 0.6, 0.29 * length), segments=10, rings=7, role="glass"),
    ]
    span, chord = length * float(rng.uniform(0.95, 1.3)), length * 0.11
    parts += _pair(_wing((0.0, radius * 0.6, 0.12 * length), span, chord, chord * 0.45, chord * 0.1, span * float(rng.uniform(0.03, 0.08))))
    fin = length * 0.16
    parts.append(_fin(-0.46 * length, 0.0, fin, chord, chord * 0.7, chord * 0.25))
    parts += _pair(_wing((0.0, fin, -0.47 * length - chord * 0.2), length * 0.19, chord * 0.6, chord * 0.4, chord * 0.1, 0.0))
    return parts + _gear(rng, radius * 0.45, -radius * 0.9, [(0.0, 0.15 * length)], 0.8)


def _transport(rng: np.random.Generator) -> list[Part]:
    """High-wing transport with four propellers or jets and a raised tail."""
    length = float(rng.uniform(20, 48))
    radius, half = length * 0.065, length / 2
    parts = [_fuselage(length, radius, nose=2.4, tail=6.5, droop=0.4, upsweep=1.0), _cockpit(radius, half, 2.6)]
    span, chord = length * float(rng.uniform(0.5, 0.6)), length * 0.15
    jets = chance(rng, 0.5)
    sweep, drop = (span * 0.35, -span * 0.06) if jets else (chord * 0.1, 0.0)
    root = np.array([0.0, radius * 0.92, 0.08 * length])
    parts += _pair(_wing(root, span, chord * (1.3 if jets else 1.0), chord * 0.45, sweep, drop))
    parts.append(ellipsoid(radius * 0.7, radius * 0.3, chord, at=root, segments=10, rings=6))
    for share in (0.3, 0.58) if chance(rng, 0.75) else (0.34,):
        spot = root + [share * span, share * drop - radius * 0.25, chord * 0.4 - share * sweep]
        if jets:
            parts += _place(
                _engine(radius * 0.42, radius * 1.7), [spot - [0, radius * 0.25, 0], (spot - [0, radius * 0.25, 0]) * [-1, 1, 1]]
            )
        else:
            pod = ellipsoid(radius * 0.3, radius * 0.32, chord * 0.7, at=spot, segments=10, rings=6)
            parts += [
                *_pair(pod),
                *(part for side in (1, -1) for part in _propeller_disc(rng, length * 0.06, spot * [side, 1, 1] + [0, 0, chord * 0.7])),
            ]
    fin = radius * 3.0
    parts.append(_fin(-half + radius * 2.2, radius * 0.8, fin, chord * 1.1, chord * 0.7, fin * 0.45))
    high = radius * 0.8 + (fin if jets else 0.0)
    parts += _pair(_wing((0.0, high, -half + radius * (1.0 if jets else 1.8)), span * 0.36, chord * 0.7, chord * 0.4, span * 0.1, 0.0))
    pods = ellipsoid(radius * 0.35, radius * 0.4, length * 0.12, at=(radius * 0.95, -radius * 0.7, 0.02 * length), segments=8, rings=6)
    return (
        parts
        + _pair(pods)
        + _gear(rng, radius * 0.25, -radius, [(0.0, half * 0.7), *((side * radius, z * length) for side in (-1, 1) for z in (0.05, -0.02))])
    )
