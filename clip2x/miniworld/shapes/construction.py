"""Construction vehicles: excavator, bulldozer, wheel loader, backhoe, cranes, roller, forklift. All sizes are ours: plausible metres."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, extrude, grounded, rods
from clip2x.miniworld.shapes.vehicle_parts import cabin, rounded_box, wheel_rows


def construction_vehicle(rng: np.random.Generator) -> list[Part]:
    """A construction vehicle of a random kind."""
    kinds = (_excavator, _bulldozer, _loader, _backhoe, _mobile_crane, _crawler_crane, _roller, _forklift)
    return grounded(pick(rng, kinds, (5, 3, 4, 2, 2, 1, 2, 2))(rng))


def _tracks(track: float, length: float, height: float, width: float) -> list[Part]:
    """Two crawler tracks with road wheels; `track` is the distance of their outer faces."""
    radius = height / 2
    angles = np.linspace(-np.pi / 2, np.pi / 2, 6)
    half = length / 2 - radius
    loop = [(half + radius * np.cos(a), radius + radius * np.sin(a)) for a in angles]
    loop += [(-half - radius * np.cos(a), radius - radius * np.sin(a)) for a in angles]
    reach = (track - width) / 2
    belt = extrude(loop, width, axis="x", role="rubber").repeated([(-reach, 0.0, 0.0), (reach, 0.0, 0.0)])
    spots = [(side * (track / 2 - 0.02), radius, z) for side in (-1, 1) for z in np.linspace(-half, half, 4)]
    hubs = cylinder(radius * 0.7, 0.1, axis="x", segments=10, role="metal").repeated(spots)
    return [belt, hubs, box(track - 2 * width + 0.1, height * 0.5, length * 0.6, at=(0.0, height * 0.4, 0.0), role="dark")]


def _cab(width: float, length: float, height: float, at: tuple[float, float, float]) -> list[Part]:
    """Glazed cab with posts; `at` is the middle of its floor."""
    x, y, z = at
    base = box(width, height * 0.3, length, at=at)
    top = cabin(
        (width / 2, -length / 2, length / 2, height * 0.29), (width * 0.45, -length * 0.44, length * 0.4, height), corner=0.08, posts=(0.5,)
    )
    return [base, *(part.moved(x, y, z) for part in top)]


def _beam(path: list[tuple[float, float]], depth: list[float], width: float, x: float = 0.0, role: str = "body") -> Part:
    """Box girder along a bent line in the (z, y) plane, with its depth at each corner."""
    line = np.array(path)
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) * np.array(depth)[:, None] / 2
    return extrude(np.concatenate([line + across, (line - across)[::-1]]), width, axis="x", at=(x, 0.0, 0.0), role=role)


def _bucket(size: float, width: float, *, role: str = "body") -> list[Part]:
    """Open scoop in the (z, y) plane, hinge at the origin, mouth towards +z; closed by two side plates."""
    arc = [(0.0, 0.0), (-0.12, -0.35), (0.02, -0.75), (0.4, -0.95), (0.95, -0.9)]
    inner = [(0.9, -0.84), (0.42, -0.88), (0.1, -0.7), (-0.02, -0.35), (0.08, -0.02)]
    shell = extrude(size * np.array(arc + inner), width, axis="x", role=role)
    plate = extrude(size * np.array([*arc, (0.08, -0.02)]), 0.04, axis="x", role=role)
    teeth = box(0.08, 0.06, 0.16 * size, role="metal").repeated(
        [(x, -0.92 * size, 1.0 * size) for x in np.linspace(-0.42, 0.42, 5) * width]
    )
    return [shell, plate.moved(x=width / 2), plate.moved(x=-width / 2), teeth]


def _at(parts: list[Part], z: float, y: float, angle_deg: float = 0.0, x: float = 0.0) -> list[Part]:
    return [part.turned("x", angle_deg).moved(x, y, z) for part in parts]


def _excavator(rng: np.random.Generator) -> list[Part]:
    """Upper carriage on tracks or wheels, cab on the left, bent boom, stick, bucket or breaker."""
    size = float(rng.uniform(0.5, 1.25))
    width, tall = 2.6 * size, 0.85 * size
    if chance(rng, 0.8):
        parts = _tracks(width, 3.9 * size, tall, 0.55 * size)
    else:
        parts = [
            *wheel_rows(0.5 * size, 0.4 * size, width, (-1.3 * size, 1.3 * size)),
            box(width * 0.5, 0.4 * size, 3.6 * size, at=(0.0, 0.45 * size, 0.0), role="dark"),
        ]
    floor = tall + 0.25 * size
    parts.append(cylinder(0.7 * size, 0.3 * size, segments=12, at=(0.0, tall - 0.05, 0.0), role="dark"))
    back = float(rng.uniform(1.5, 2.3)) * size
    house = [
        rounded_box(
            width * 0.95, 0.95 * size, back + 0.6 * size, 0.12 * size, at=(0.0, floor, 0.3 * size - back / 2 + 0.3 * size - 0.3 * size)
        )
    ]
    house.append(
        rounded_box(
            width * 0.9, 0.6 * size, 0.5 * size, 0.12 * size, at=(0, floor, 0.1 * size - back), role=pick(rng, ("body", "dark", "accent"))
        )
    )
    house.append(box(width * 0.95, 0.2 * size, 1.4 * size, at=(0.0, floor, 0.7 * size), role="dark"))
    house += _cab(0.95 * size, 1.5 * size, 1.7 * size, (0.72 * size, floor + 0.1 * size, 0.65 * size))
    house.append(cylinder(0.07 * size, 0.5 * size, segments=8, at=(-0.6 * size, floor + 0.9 * size, -0.8 * size), role="metal"))
    house += _excavator_arm(rng, size, floor)
    swing = float(rng.uniform(-40, 40)) if chance(rng, 0.4) else 0.0
    parts += [part.turned("y", swing) for part in house]
    if chance(rng, 0.3):
        parts += _at([box(width, 0.5 * size, 0.08)], 2.2 * size, 0.15)
        parts.append(box(0.15, 0.15, 1.0 * size, at=(0.3 * size, 0.35 * size, 1.75 * size), role="dark"))
    return parts


def _excavator_arm(rng: np.random.Generator, size: float, floor: float) -> list[Part]:
    lift, fold, reach = np.deg2rad(rng.uniform(25, 60)), np.deg2rad(rng.uniform(-110, -55)), float(rng.uniform(2.4, 3.4)) * size
    root = np.array([0.75 * size, floor + 0.4 * size])
    knee = root + 0.5 * reach * np.array([np.cos(lift + 0.35), np.sin(lift + 0.35)])
    elbow = knee + 0.55 * reach * np.array([np.cos(lift - 0.35), np.sin(lift - 0.35)])
    stick = float(rng.uniform(1.5, 2.2)) * size * np.array([np.cos(fold), np.sin(fold)])
    short = (elbow[1] - 0.75 * size) / -stick[1]
    tip = elbow + stick * min(1.0, float(short))
    back = elbow - 0.18 * stick
    x = -0.15 * size
    parts = [_beam([tuple(root), tuple(knee), tuple(elbow)], [0.35 * size, 0.6 * size, 0.3 * size], 0.32 * size, x)]
    parts.append(_beam([tuple(back), tuple(elbow), tuple(tip)], [0.2 * size, 0.42 * size, 0.24 * size], 0.26 * size, x))
    pistons = np.array([[x, *(root + [0.35 * size, -0.1 * size])[::-1]], [x, *(0.7 * knee + 0.3 * elbow + [0, 0.25 * size])[::-1]]])
    ends = np.array([[x, *(0.6 * knee + 0.4 * elbow - [0, 0.1 * size])[::-1]], [x, *back[::-1]]])
    parts.append(rods(pistons, ends, 0.07 * size, sides=6, role="metal"))
    if chance(rng, 0.15):
        parts.append(rods([(x, tip[1] + 0.1, tip[0])], [(x, max(0.05, tip[1] - 1.1 * size), tip[0])], 0.13 * size, sides=6, role="dark"))
        return parts
    scoop = _bucket(0.8 * size, float(rng.uniform(0.6, 1.3)) * size, role=pick(rng, ("body", "dark", "metal")))
    return parts + _at([part.mirrored("z") for part in scoop], tip[0], tip[1], -float(rng.uniform(0, 30)), x)


def _bulldozer(rng: np.random.Generator) -> list[Part]:
    """Tracked tractor with a wide curved blade and a ripper."""
    size = float(rng.uniform(0.6, 1.2))
    width, tall = 2.5 * size, float(rng.uniform(0.95, 1.15)) * size
    parts = _tracks(width, 3.4 * size, tall, 0.55 * size)
    parts.append(rounded_box(1.15 * size, 1.25 * size, 1.9 * size, 0.08 * size, at=(0.0, 0.55 * size, 0.95 * size)))
    parts.append(box(0.8 * size, 0.8 * size, 0.06, at=(0.0, 0.75 * size, 1.91 * size), role="dark"))
    parts.append(cylinder(0.07 * size, 0.6 * size, segments=8, at=(0.3 * size, 1.75 * size, 1.2 * size), role="metal"))
    parts.append(box(1.9 * size, 0.75 * size, 1.5 * size, at=(0.0, tall * 0.8, -0.85 * size)))
    if chance(rng, 0.7):
        parts += _cab(1.5 * size, 1.3 * size, 1.7 * size, (0.0, tall + 0.2 * size, -0.5 * size))
    else:
        posts = np.array([(x * size, tall, z * size) for x in (-0.75, 0.75) for z in (-1.1, 0.15)])
        parts += [
            rods(posts, posts + [0, 1.6 * size, 0], 0.07 * size, role="dark"),
            box(1.7 * size, 0.1, 1.5 * size, at=(0.0, tall + 1.6 * size, -0.5 * size)),
        ]
        parts.append(box(0.6 * size, 0.7 * size, 0.5 * size, at=(0.0, tall + 0.3 * size, -0.6 * size), role="fabric"))
    high, wide = float(rng.uniform(1.1, 1.5)) * size, float(rng.uniform(3.0, 4.0)) * size
    bow = [(0.25 * (2 * t - 1) ** 2 * high, high * t) for t in np.linspace(0, 1, 6)]
    blade = np.array(bow + [(z - 0.08, y) for z, y in bow[::-1]])
    lift = float(rng.uniform(0.02, 0.5)) * size
    parts.append(extrude(blade, wide, axis="x", at=(0.0, lift, 2.35 * size)))
    arms = [(x * (width / 2 + 0.05), 0.45 * size, -0.2 * size) for x in (-1, 1)]
    parts.append(rods(arms, [(x, lift + 0.3 * size, 2.3 * size) for x, *_ in arms], 0.1 * size))
    parts.append(
        rods(
            [(x * size, 1.2 * size, 1.6 * size) for x in (-0.6, 0.6)],
            [(x * size, lift + 0.8 * high, 2.3 * size) for x in (-0.6, 0.6)],
            0.06 * size,
            role="metal",
        )
    )
    if chance(rng, 0.6):
        teeth = [(x * size, 0.75 * size, -2.1 * size) for x in (-0.6, 0.0, 0.6)]
        parts += [
            box(1.7 * size, 0.25 * size, 0.3 * size, at=(0.0, 0.7 * size, -2.05 * size)),
            rods(teeth, np.array(teeth) - [0, 0.6 * size, 0.2 * size], 0.08 * size, role="metal"),
        ]
        parts.append(
            rods(
                [(x * size, 0.85 * size, -1.5 * size) for x in (-0.5, 0.5)],
                [(x * size, 0.85 * size, -2.1 * size) for x in (-0.5, 0.5)],
                0.09 * size,
                role="dark",
            )
        )
    return parts


def _loader(rng: np.random.Generator) -> list[Part]:
    """Articulated loader on four big wheels with a front bucket."""
    size = float(rng.uniform(0.55, 1.15))
    wheel, width = float(rng.uniform(0.62, 0.78)) * size, 2.5 * size
    axle = 1.45 * size
    parts = wheel_rows(wheel, 0.55 * size, width, (-axle, axle))
    parts.append(rounded_box(1.35 * size, 1.1 * size, 2.2 * size, 0.15 * size, at=(0.0, wheel, -1.75 * size)))
    parts.append(rounded_box(1.6 * size, 0.6 * size, 0.35 * size, 0.08, at=(0.0, wheel * 0.8, -2.85 * size), role="dark"))
    parts += _cab(1.35 * size, 1.35 * size, 1.75 * size, (0.0, wheel + 0.5 * size, -0.35 * size))
    parts.append(rounded_box(1.0 * size, 0.9 * size, 1.3 * size, 0.1 * size, at=(0.0, wheel * 0.7, 1.1 * size)))
    fender = box(0.6 * size, 0.06, 1.3 * size, at=(width / 2 - 0.3 * size, 2.08 * wheel, -axle))
    parts += [fender, fender.mirrored("x")]
    return parts + _front_bucket(rng, size, width, root=(1.0 * size, wheel + 0.85 * size), reach=2.3 * size)


def _front_bucket(rng: np.random.Generator, size: float, width: float, root: tuple[float, float], reach: float) -> list[Part]:
    """Two lift arms with a bucket as wide as the machine, low or raised."""
    angle = np.deg2rad(float(rng.uniform(-42, -25)) if chance(rng, 0.65) else float(rng.uniform(0, 35)))
    tip = np.array(root) + reach * np.array([np.cos(angle), np.sin(angle)])
    tip[1] = max(tip[1], 0.2 * size)
    middle = 0.5 * (np.array(root) + tip) + [0.05 * size, 0.18 * size]
    arm = _beam(
        [root, (float(middle[0]), float(middle[1])), (float(tip[0]), float(tip[1]))], [0.3 * size, 0.4 * size, 0.22 * size], 0.14 * size
    )
    parts = [arm.moved(x=side * 0.42 * size) for side in (-1, 1)]
    parts.append(
        rods([(0.0, root[1] - 0.1 * size, root[0] + 0.3 * size)], [(0.0, tip[1] + 0.25 * size, tip[0])], 0.08 * size, sides=6, role="metal")
    )
    scoop = _bucket(0.95 * size, width * 1.04, role=pick(rng, ("body", "metal", "dark")))
    return parts + _at(scoop, float(tip[0]), max(float(tip[1]) + 0.35 * size, 0.93 * size), -float(rng.uniform(-5, 30)))


def _backhoe(rng: np.random.Generator) -> list[Part]:
    """Tractor with small front wheels, loader in front, digger arm behind."""
    size = float(rng.uniform(0.75, 1.0))
    parts = wheel_rows(0.72 * size, 0.5 * size, 2.2 * size, (-0.7 * size,)) + wheel_rows(
        0.45 * size, 0.35 * size, 2.0 * size, (1.5 * size,)
    )
    parts.append(rounded_box(0.9 * size, 0.8 * size, 1.7 * size, 0.08, at=(0.0, 0.7 * size, 1.2 * size)))
    parts.append(box(1.0 * size, 0.5 * size, 2.6 * size, at=(0.0, 0.5 * size, 0.0), role="dark"))
    parts += _cab(1.4 * size, 1.4 * size, 1.85 * size, (0.0, 0.95 * size, -0.4 * size))
    parts += _front_bucket(rng, 0.85 * size, 2.3 * size, root=(0.8 * size, 1.35 * size), reach=2.0 * size)
    legs = np.array([(x * size, 0.7 * size, -1.5 * size) for x in (-0.5, 0.5)])
    parts.append(rods(legs, legs * [2.2, 0, 1] + [0, 0.05, 0], 0.09 * size))
    arm = _excavator_arm(rng, 0.62 * size, 0.7 * size)
    return parts + [part.turned("y", 180.0).moved(z=-1.1 * size) for part in arm]


def _lattice(start: np.ndarray, end: np.ndarray, width: float, bays: int, role: str = "body") -> Part:
    """Lattice mast from one point to another: four chords and diagonals."""
    along = end - start
    side = np.array([width / 2, 0.0, 0.0])
    up = np.cross(along, side)
    up *= (width / 2) / np.linalg.norm(up)
    nodes = [start + along * t + a * side + b * up for t in np.linspace(0, 1, bays + 1) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    pairs = [(corner, 4 * bays + corner) for corner in range(4)]
    pairs += [(4 * bay + corner, 4 * (bay + 1) + (corner + 1) % 4) for bay in range(bays) for corner in range(4)]
    thick = [0.06 * width] * 4 + [0.035 * width] * (4 * bays)
    return rods([nodes[a] for a, _ in pairs], [nodes[b] for _, b in pairs], thick, sides=3, role=role)


def _hook(tip: np.ndarray, drop: float) -> list[Part]:
    low = tip - [0, drop, 0]
    return [
        rods([tip], [low], 0.035, sides=3, role="dark"),
        box(0.35, 0.5, 0.25, at=(float(low[0]), float(low[1]) - 0.5, float(low[2])), role="metal"),
    ]


def _mobile_crane(rng: np.random.Generator) -> list[Part]:
    """Crane carrier with a telescopic boom, laid down or raised, outriggers now and then."""
    wheel, width, long = 0.6, 2.6, float(rng.uniform(7.5, 11.0))
    axles = np.linspace(-0.36, 0.33, int(rng.integers(2, 5))) * long
    parts = wheel_rows(wheel, 0.45, width, list(axles), segments=12)
    parts.append(box(width * 0.98, 0.5, long, at=(0.0, 1.0, 0.0)))
    parts += _cab(1.3 if chance(rng, 0.5) else width * 0.95, 1.6, 1.7, (0.0, 1.0, long / 2 - 0.75))
    turret = [
        rounded_box(1.6, 1.0, 2.6, 0.1, at=(-0.3, 1.5, -0.15 * long)),
        rounded_box(2.2, 0.9, 0.9, 0.1, at=(0.0, 1.5, -0.15 * long - 1.7), role="dark"),
    ]
    turret += _cab(0.85, 1.3, 1.6, (0.8, 1.5, 0.3 - 0.15 * long))
    lift = np.deg2rad(float(rng.uniform(0, 8)) if chance(rng, 0.45) else float(rng.uniform(30, 68)))
    root, reach = np.array([0.0, 2.5, -0.15 * long - 1.2]), float(rng.uniform(7.5, 11.0))
    along = np.array([0.0, np.sin(lift), np.cos(lift)])
    sections = 1 if lift < 0.2 else int(rng.integers(2, 4))
    for step in range(sections):
        side = 0.75 - 0.16 * step
        a, b = root + along * (reach * 0.75 * step), root + along * reach * (1 + 0.75 * step)
        turret.append(rods([a], [b], side * 0.6, role="body" if step == 0 else pick(rng, ("body", "accent"))))
    turret.append(rods([root + [0, -0.7, 1.4]], [root + along * reach * 0.45], 0.16, sides=6, role="metal"))
    turret += _hook(b - [0, 0.3, 0], float(rng.uniform(0.6, 1.2)) if lift < 0.2 else float(rng.uniform(1.5, 4.0)))
    turn = 0.0 if lift < 0.2 else float(rng.uniform(-60, 60))
    parts += [part.turned("y", turn, about=(0.0, 0.0, -0.15 * long)) for part in turret]
    if chance(rng, 0.5):
        legs = [(0.0, 0.7, z) for z in (-0.45 * long, 0.1 * long)]
        parts.append(box(5.2, 0.25, 0.3, role="accent").repeated(legs))
        feet = [(x, 0.0, z) for x in (-2.5, 2.5) for _, _, z in legs]
        parts.append(box(0.25, 0.8, 0.25, role="metal").repeated(feet))
    return parts


def _crawler_crane(rng: np.random.Generator) -> list[Part]:
    """Lattice boom crane on tracks, or a small tower crane."""
    if chance(rng, 0.4):
        return _tower_crane(rng)
    parts = _tracks(4.2, 5.5, 1.1, 0.8)
    house = [
        rounded_box(3.0, 1.9, 4.2, 0.12, at=(0.0, 1.4, -0.8)),
        box(3.2, 1.3, 0.9, at=(0.0, 1.4, -3.0), role="dark"),
        *_cab(0.95, 1.5, 1.8, (1.9, 1.4, 1.0)),
    ]
    lift, reach = np.deg2rad(rng.uniform(45, 75)), float(rng.uniform(9, 15))
    root = np.array([0.0, 1.9, 1.2])
    tip = root + reach * np.array([0.0, np.sin(lift), np.cos(lift)])
    gantry = np.array([0.0, 4.8, -2.6])
    house += [
        _lattice(root, tip, 0.85, 9),
        rods([gantry, gantry, (0.0, 3.0, 0.0)], [tip, (0.0, 2.0, -3.0), gantry], 0.05, role="dark"),
        *_hook(tip, reach * 0.4),
    ]
    turn = float(rng.uniform(-50, 50))
    return parts + [part.turned("y", turn) for part in house]


def _tower_crane(rng: np.random.Generator) -> list[Part]:
    high, reach = float(rng.uniform(10, 15)), float(rng.uniform(8, 13))
    top = np.array([0.0, high, 0.0])
    parts = [box(3.0, 0.5, 3.0, role="metal"), _lattice(np.array([0.0, 0.4, 0.0]), top, 1.1, 9), _lattice(top, top + [0, 0, reach], 0.8, 8)]
    parts += [_lattice(top, top - [0, 0, 0.35 * reach], 0.8, 3), box(1.2, 1.3, 1.2, at=(0.0, high - 1.0, -0.35 * reach), role="dark")]
    apex = top + [0, 2.2, 0]
    parts.append(rods([top, apex, apex], [apex, top + [0, 0.3, 0.7 * reach], top + [0, 0.3, -0.33 * reach]], 0.08, role="metal"))
    return parts + [
        rounded_box(1.0, 1.3, 1.0, 0.1, at=(0.9, high - 1.2, 0.6), role="glass"),
        *_hook(top + [0, 0, 0.7 * reach], float(rng.uniform(2, 6))),
    ]


def _roller(rng: np.random.Generator) -> list[Part]:
    """Road roller: a drum in front and a drum or wheels behind, with a cab or a canopy."""
    size = float(rng.uniform(0.5, 1.0))
    radius, width, base = float(rng.uniform(0.65, 0.8)) * size, 2.1 * size, 1.5 * size
    drum = cylinder(radius, width * 0.88, axis="x", segments=20, at=(0.0, radius, base), role="metal")
    parts = [drum, drum.moved(z=-2 * base) if chance(rng, 0.5) else box(0.01, 0.01, 0.01, at=(0.0, radius, -base), role="dark")]
    if len(parts[1].faces) < 20:
        parts += wheel_rows(radius, 0.45 * size, width * 0.95, (-base,))
    side = box(0.12 * size, 0.3 * size, 1.9 * size, at=(width / 2, radius * 0.85, base))
    parts += [
        side,
        side.mirrored("x"),
        box(width * 1.05, 0.3 * size, 0.2 * size, at=(0.0, radius * 0.85, base + radius * 1.1)),
        box(width * 1.05, 0.4 * size, 0.2 * size, at=(0.0, radius * 0.85, base - radius * 1.15)),
    ]
    parts.append(rounded_box(width * 0.75, 1.0 * size, 1.9 * size, 0.12 * size, at=(0.0, radius * 1.1 + 0.2 * size, -base * 0.75)))
    parts.append(box(width * 0.55, 0.7 * size, 1.6 * size, at=(0.0, radius * 0.9, 0.0), role="dark"))
    deck = radius + 0.65 * size
    if chance(rng, 0.5):
        return parts + _cab(1.5 * size, 1.3 * size, 1.6 * size, (0.0, deck, 0.1 * size))
    posts = np.array([(x * size, deck, z * size) for x in (-0.65, 0.65) for z in (-0.5, 0.6)])
    parts += [
        rods(posts, posts + [0, 1.5 * size, 0], 0.04, role="dark"),
        box(1.5 * size, 0.08, 1.5 * size, at=(0.0, deck + 1.5 * size, 0.05 * size)),
    ]
    return [
        *parts,
        box(0.5 * size, 0.15, 0.5 * size, at=(0.0, deck + 0.2, -0.3 * size), role="fabric"),
        box(0.5 * size, 0.6 * size, 0.12, at=(0.0, deck + 0.2, -0.55 * size), role="fabric"),
    ]


def _forklift(rng: np.random.Generator) -> list[Part]:
    """Forklift with mast, forks, overhead guard, a load now and then."""
    size = float(rng.uniform(0.85, 1.25))
    parts = wheel_rows(0.34 * size, 0.24 * size, 1.15 * size, (0.75 * size,)) + wheel_rows(
        0.26 * size, 0.2 * size, 1.05 * size, (-0.75 * size,)
    )
    parts.append(rounded_box(1.05 * size, 0.75 * size, 0.75 * size, 0.12 * size, at=(0.0, 0.25 * size, -0.9 * size)))
    parts += [
        rounded_box(0.95 * size, 0.35 * size, 1.4 * size, 0.06, at=(0.0, 0.25 * size, 0.1 * size)),
        box(0.5 * size, 0.4 * size, 0.1, at=(0.0, 1.0 * size, -0.6 * size), role="fabric"),
    ]
    parts.append(box(0.5 * size, 0.25 * size, 0.5 * size, at=(0.0, 0.8 * size, -0.35 * size), role="fabric"))
    posts = np.array([(x * 0.45 * size, y * size, z * size) for x in (-1, 1) for y, z in ((0.5, 0.7), (0.9, -0.8))])
    heads = np.array([(x * 0.45 * size, 2.1 * size, z * size) for x in (-1, 1) for z in (0.4, -0.65)])
    parts += [
        rods(posts, heads, 0.04 * size, role="dark"),
        box(0.95 * size, 0.06, 1.15 * size, at=(0.0, 2.08 * size, -0.12 * size), role="dark"),
    ]
    tall = float(rng.uniform(2.0, 3.2)) * size
    mast = np.array([(x * 0.33 * size, 0.08, 1.1 * size) for x in (-1, 1)])
    parts += [
        rods(mast, mast + [0, tall, 0], 0.07 * size, role="dark"),
        box(0.66 * size, 0.08, 0.08, role="dark").repeated([(0.0, y * tall, 1.1 * size) for y in (0.35, 0.7, 0.97)]),
    ]
    lift = 0.06 + float(rng.uniform(0, 0.6)) * tall * (1.0 if chance(rng, 0.5) else 0.05)
    parts.append(box(0.13 * size, 0.05, 1.1 * size, role="metal").repeated([(x * size, lift, 1.75 * size) for x in (-0.28, 0.28)]))
    parts.append(box(0.9 * size, 0.4 * size, 0.06, at=(0.0, lift, 1.2 * size), role="metal"))
    if chance(rng, 0.4):
        parts += [
            box(1.1 * size, 0.12, 1.0 * size, at=(0.0, lift + 0.06, 1.8 * size), role="wood"),
            box(1.0 * size, float(rng.uniform(0.4, 1.0)), 0.9 * size, at=(0.0, lift + 0.18, 1.8 * size), role="accent"),
        ]
    if chance(rng, 0.3):
        parts += [box(0.9 * size, 1.1 * size, 0.04, at=(0.0, 0.9 * size, -0.7 * size), role="glass")]
    return parts
