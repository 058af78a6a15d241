"""Potted plants: leafy, palm, cactus, flowers, bonsai, hanging leaves, snake plant. All sizes are ours: plausible metres."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, Points, box, cross, cylinder, ellipsoid, grounded, lathe, rods
from clip2x.miniworld.shapes.vehicle_parts import rounded_box


def leaves(roots: Points, tips: Points, width: float, *, bend: float = 0.25, fold: float = 0.15, role: str = "plant") -> Part:
    """Bent pointed leaves from `roots` (N, 3) to `tips` (N, 3), all in one part, with both sides.

    Args:
        roots: Where the leaves begin, metres.
        tips: Where they end, metres.
        width: Largest width, metres.
        bend: How far the middle rises above the straight line, share of the length.
        fold: How far the edges lie above the midrib, share of the width.
        role: Material.
    """
    along = tips - roots
    length = np.linalg.norm(along, axis=1, keepdims=True)
    side = cross(along, np.array([[0.0, 1.0, 0.0]]) + 0.01)
    side = side / (np.linalg.norm(side, axis=1, keepdims=True) + 1e-9)
    up = cross(side, along)
    up = up / (np.linalg.norm(up, axis=1, keepdims=True) + 1e-9)
    rows = [roots]
    for t, wide in ((0.35, 1.0), (0.7, 0.75)):
        middle = roots + t * along + up * (4 * t * (1 - t) * bend * length)
        edge = side * (wide * width / 2)
        rows += [middle - edge + up * (fold * width), middle, middle + edge + up * (fold * width)]
    rows.append(tips)
    vertices = np.stack(rows, axis=1)
    top = np.array([(0, 2, 1), (0, 3, 2), (1, 2, 5), (1, 5, 4), (2, 3, 6), (2, 6, 5), (4, 5, 7), (5, 6, 7)])
    faces = np.concatenate([top, top[:, ::-1] + 8])
    count = len(roots)
    both = np.concatenate([vertices, vertices - up[:, None] * (0.03 * width)], axis=1)
    return Part(both.reshape(-1, 3), (faces[None] + 16 * np.arange(count)[:, None, None]).reshape(-1, 3), role)


def pot(rng: np.random.Generator, radius: float, high: float) -> list[Part]:
    """Hollow flower pot filled with soil; conical, round, square or with a stand."""
    form = pick(rng, ("cone", "rim", "round", "square", "cylinder", "legs"), (3, 3, 2, 2, 2, 1))
    foot = radius * {"cone": 0.65, "rim": 0.68, "round": 0.6, "square": 0.85}.get(form, 0.95)
    outside = [(foot, 0.0), (radius * (1.08 if form == "round" else 0.5 * (1 + foot / radius)), 0.5 * high), (radius, high)]
    if form == "rim":
        outside = [(foot, 0.0), (radius * 0.9, 0.78 * high), (radius, 0.78 * high), (radius, high)]
    inner = [(radius * 0.9, high), (radius * 0.88, high * 0.88)]
    segments = 4 if form == "square" else 18
    body = lathe([(0.0, 0.0), *outside, *inner, (0.0, high * 0.88)], segments=segments)
    soil = cylinder(radius * 0.86, high * 0.04, at=(0.0, high * 0.87, 0.0), segments=segments, role="wood")
    parts = [body, soil]
    if form == "square":
        parts = [part.turned("y", 45.0).scaled(1.15, 1.0, 1.15) for part in parts]
    if form == "legs":
        legs = np.array([(x * radius * 0.7, 0.0, z * radius * 0.7) for x in (-1, 1) for z in (-1, 1)])
        parts = [part.moved(y=0.5 * high) for part in parts] + [
            rods(legs * [1.3, 1, 1.3], legs + [0, 0.55 * high, 0], 0.07 * radius, role="wood")
        ]
    elif chance(rng, 0.25):
        parts.append(
            lathe(
                [(0.0, 0.0), (radius * 0.95, 0.0), (radius * 1.1, 0.1 * high), (radius * 1.02, 0.1 * high), (0.8 * foot, 0.02 * high)],
                segments=16,
                role="accent",
            )
        )
    return parts


def plant(rng: np.random.Generator) -> list[Part]:
    """A potted plant of a random kind; the pot takes the main colour, the leaves are green."""
    radius = float(rng.uniform(0.05, 0.2))
    parts = pot(rng, radius, radius * float(rng.uniform(1.2, 2.0)))
    soil = max(float(part.vertices[:, 1].max()) for part in parts) - 0.12 * radius
    kind = pick(rng, (_rosette, _palm, _cactus, _flowers, _bonsai, _sword, _bush, _stemmed))
    return grounded([*parts, *(part.moved(y=soil) for part in kind(rng, radius))])


def _sphere(rng: np.random.Generator, count: int, low: float = -0.2) -> Points:
    """Directions spread over the sphere above the height `low`, jittered."""
    index = np.arange(count) + 0.5
    y = low + (1 - low) * index / count
    angle = index * 2.39996 + rng.uniform(-0.3, 0.3, count)
    flat = np.sqrt(np.clip(1 - y**2, 0.0, 1))
    return np.stack([flat * np.cos(angle), y, flat * np.sin(angle)], axis=1)


def _rosette(rng: np.random.Generator, r: float) -> list[Part]:
    """Arching leaves from the middle, like a spider plant or a fern."""
    count, reach = int(rng.integers(14, 34)), r * float(rng.uniform(1.6, 3.2))
    way = _sphere(rng, count, 0.1 if chance(rng, 0.5) else -0.15)
    tips = way * reach * rng.uniform(0.75, 1.1, (count, 1)) + [0, 0.4 * r, 0]
    return [
        leaves(
            np.zeros((count, 3)) + way * [0.1 * r, 0, 0.1 * r], tips, r * float(rng.uniform(0.15, 0.55)), bend=float(rng.uniform(0.1, 0.35))
        )
    ]


def _palm(rng: np.random.Generator, r: float) -> list[Part]:
    """Trunk, or several, with a crown of feathered fronds."""
    parts: list[Part] = []
    for _ in range(int(rng.integers(1, 3))):
        high = r * float(rng.uniform(2.5, 6.0))
        top = np.array([float(rng.uniform(-0.5, 0.5)) * r, high, float(rng.uniform(-0.5, 0.5)) * r])
        parts.append(rods([(0.0, -0.1 * r, 0.0)], [top], 0.09 * r, sides=6, role="wood"))
        count = int(rng.integers(6, 10))
        way = _sphere(rng, count, -0.1)
        reach = r * float(rng.uniform(1.6, 2.6))
        tips = top + way * reach * [1, 0.7, 1]
        parts.append(leaves(np.repeat(top[None], count, axis=0), tips, 0.1 * r, bend=0.3))
        places = np.linspace(0.25, 0.95, 5)
        spine = np.concatenate([top + t * (tips - top) + [0, 4 * t * (1 - t) * 0.3 * reach * 0.9, 0] for t in places])
        side = np.cross(tips - top, [0, 1, 0])
        side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
        out = np.concatenate([side * reach * 0.36 * (1.1 - t) + (tips - top) * 0.16 for t in places])
        back = np.concatenate([-side * reach * 0.36 * (1.1 - t) + (tips - top) * 0.16 for t in places])
        parts += [
            leaves(spine, spine + out - [0, 0.06 * reach, 0], 0.2 * r, bend=0.1),
            leaves(spine, spine + back - [0, 0.06 * reach, 0], 0.2 * r, bend=0.1),
        ]
    return parts


def _ribbed(radius: float, high: float, ribs: int) -> Part:
    """Upright ribbed cactus body with a round head."""
    profile = [(0.0, 0.0), (0.75, 0.0), (1.0, 0.2), (1.0, 0.7), (0.8, 0.9), (0.4, 0.98), (0.0, 1.0)]
    body = lathe([(p * radius, y * high) for p, y in profile], segments=2 * ribs, role="plant")
    angle = np.arctan2(body.vertices[:, 0], body.vertices[:, 2])
    swell = 1 + 0.1 * np.cos(angle * ribs)
    return Part(body.vertices * np.stack([swell, np.ones_like(swell), swell], axis=1), body.faces, body.role)


def _cactus(rng: np.random.Generator, r: float) -> list[Part]:
    """Column with arms, ball, or paddles."""
    form = pick(rng, ("column", "ball", "paddles", "group"))
    if form == "ball":
        size = r * float(rng.uniform(0.6, 0.95))
        return [
            _ribbed(size, 1.5 * size, 9),
            ellipsoid(0.25 * size, 0.2 * size, 0.25 * size, at=(0.0, 1.5 * size, 0.0), segments=8, rings=5, role="accent"),
        ]
    if form == "group":
        spots = [(0.0, 0.0), (0.5, 0.2), (-0.4, 0.35), (0.05, -0.5)]
        return [_ribbed(r * 0.3, r * float(rng.uniform(0.8, 3.0)), 7).moved(x * r, 0.0, z * r) for x, z in spots]
    if form == "paddles":
        parts, tops = [], [(np.array([0.0, -0.1 * r, 0.0]), 0.0)]
        for _ in range(int(rng.integers(4, 8))):
            foot, tilt = tops.pop(0)
            size = r * float(rng.uniform(0.5, 0.75))
            for lean in (tilt + float(rng.uniform(15, 40)), tilt - float(rng.uniform(15, 40))):
                pad = (
                    ellipsoid(size * 0.6, size, size * 0.16, at=(0.0, size * 0.9, 0.0), segments=10, rings=7, role="plant")
                    .turned("z", lean)
                    .turned("y", 20.0)
                )
                parts.append(pad.moved(*foot))
                angle = np.deg2rad(lean)
                tops.append((foot + 1.75 * size * np.array([-np.sin(angle), np.cos(angle), 0.0]), lean))
                if len(parts) > 8:
                    return parts
        return parts
    high, wide = r * float(rng.uniform(3, 6)), r * float(rng.uniform(0.3, 0.5))
    parts = [_ribbed(wide, high, 8)]
    for index in range(int(rng.integers(0, 4))):
        low, reach = high * float(rng.uniform(0.25, 0.6)), wide * 2.0
        arm = [
            _ribbed(wide * 0.6, high * float(rng.uniform(0.25, 0.4)), 6).moved(reach, low, 0.0),
            cylinder(wide * 0.55, reach, axis="x", segments=8, at=(reach / 2, low + 0.35 * wide, 0.0), role="plant"),
        ]
        around = 140.0 * index + float(rng.uniform(0, 60))
        parts += [part.turned("y", around) for part in arm]
    return parts


def _flowers(rng: np.random.Generator, r: float) -> list[Part]:
    """Stems with blossoms above a tuft of leaves: daisies, tulips, orchid, rose bush."""
    count, high = int(rng.integers(3, 12)), r * float(rng.uniform(1.5, 4.0))
    way = _sphere(rng, count, 0.55)
    tips = way * high * rng.uniform(0.8, 1.05, (count, 1))
    parts = [rods(way * [0.2 * r, 0, 0.2 * r], tips, 0.03 * r, sides=4, role="plant")]
    colour = pick(rng, ("accent", "light", "fabric"))
    size = r * float(rng.uniform(0.2, 0.36))
    if chance(rng, 0.5):
        petals = np.arange(7) * 2 * np.pi / 7
        rim = np.stack([np.cos(petals), np.full(7, 0.25), np.sin(petals)], axis=1) * size
        roots = np.repeat(tips, 7, axis=0)
        parts += [
            leaves(roots, roots + np.tile(rim, (count, 1)), size * 0.65, bend=0.1, role=colour),
            ellipsoid(size * 0.32, size * 0.2, size * 0.32, segments=8, rings=5, role="accent").repeated(tips),
        ]
    else:
        bloom = lathe(
            [
                (0.0, 0.0),
                (0.6 * size, 0.15 * size),
                (0.7 * size, 0.8 * size),
                (0.45 * size, 1.4 * size),
                (0.3 * size, 1.1 * size),
                (0.0, 0.5 * size),
            ],
            segments=8,
            role=colour,
        )
        parts.append(bloom.repeated(tips - [0, 0.2 * size, 0]))
    base = _sphere(rng, 12, 0.2)
    return [*parts, leaves(base * [0.2 * r, 0, 0.2 * r], base * r * float(rng.uniform(1.0, 1.7)), 0.4 * r)]


def _bonsai(rng: np.random.Generator, r: float) -> list[Part]:
    """Small tree: bent trunk, branches with flat or round clouds of leaves; also a ball-shaped topiary."""
    if chance(rng, 0.3):
        high = r * float(rng.uniform(2.0, 4.5))
        balls = [(high, 1.1)] if chance(rng, 0.6) else [(high * 0.55, 1.0), (high, 0.75)]
        return [cylinder(0.1 * r, high, segments=8, role="wood"), *(_clump(rng, r * size, r * size, (0.0, y, 0.0)) for y, size in balls)]
    steps = int(rng.integers(3, 6))
    drift = np.cumsum(rng.uniform(-0.45, 0.45, (steps, 2)), axis=0) * r
    heights = np.linspace(0.5, float(rng.uniform(2.0, 4.0)), steps) * r
    line = np.vstack([[0, -0.1 * r, 0], np.column_stack([drift[:, 0], heights, drift[:, 1]])])
    thick = np.linspace(0.2, 0.08, steps) * r
    parts = [rods(line[:-1], line[1:], thick, sides=6, role="wood")]
    clouds = [line[-1]]
    for point in line[2:-1]:
        tip = point + np.array([float(rng.uniform(-1, 1)), 0.35, float(rng.uniform(-1, 1))]) * r
        parts.append(rods([point], [tip], 0.06 * r, sides=5, role="wood"))
        clouds.append(tip)
    flat = float(rng.uniform(0.35, 0.9))
    return parts + [_clump(rng, r * float(rng.uniform(0.6, 0.95)), r * flat * 0.8, tuple(cloud)) for cloud in clouds]


def _clump(rng: np.random.Generator, radius: float, high: float, at: tuple[float, ...]) -> Part:
    """Uneven ball of leaves."""
    part = ellipsoid(radius, high, radius, segments=12, rings=8, role="plant")
    uneven = 1 + rng.uniform(-0.12, 0.12, (len(part.vertices), 1))
    return Part(part.vertices * uneven + np.asarray(at, dtype=float), part.faces, part.role)


def _sword(rng: np.random.Generator, r: float) -> list[Part]:
    """Stiff upright leaves: snake plant, aloe, yucca on a trunk."""
    count, high = int(rng.integers(6, 16)), r * float(rng.uniform(2.0, 4.5))
    aloe = chance(rng, 0.35)
    way = _sphere(rng, count, 0.15 if aloe else 0.78)
    lift = 0.0
    parts: list[Part] = []
    if chance(rng, 0.3):
        lift = high * float(rng.uniform(0.4, 0.9))
        parts.append(rods([(0.0, -0.1 * r, 0.0)], [(0.1 * r, lift, 0.0)], 0.13 * r, sides=7, role="wood"))
    tips = way * high * (0.5 if aloe else 1.0) * rng.uniform(0.7, 1.05, (count, 1))
    root = way * [0.35 * r, 0, 0.35 * r]
    return [*parts, leaves(root + [0, lift, 0], tips + root + [0, lift, 0], r * float(rng.uniform(0.28, 0.45)), bend=0.03, fold=0.25)]


def _bush(rng: np.random.Generator, r: float) -> list[Part]:
    """Dense shrub: many small leaves on a ball or a cone, or clumps."""
    wide, high = r * float(rng.uniform(1.1, 2.0)), r * float(rng.uniform(1.3, 3.5))
    if chance(rng, 0.3):
        spots = rng.uniform(-1, 1, (6, 3)) * [wide * 0.5, high * 0.25, wide * 0.5] + [0, high * 0.5, 0]
        return [_clump(rng, wide * 0.6, high * 0.35, tuple(spot)) for spot in spots]
    count = int(rng.integers(50, 90))
    way = _sphere(rng, count, -0.5)
    cone = np.ones((count, 1)) if chance(rng, 0.6) else 1.15 - 0.75 * (way[:, 1:2] + 0.5) / 1.5
    shell = way * [wide, high * 0.55, wide] * np.hstack([cone, np.ones((count, 1)), cone]) + [0, high * 0.55, 0]
    roots = shell * [0.75, 0.95, 0.75]
    stem = rods([(0.0, -0.1 * r, 0.0)], [(0.0, high * 0.5, 0.0)], 0.08 * r, sides=5, role="wood")
    return [stem, leaves(roots, shell * 1.08 + [0, 0.05 * high, 0], r * float(rng.uniform(0.3, 0.5)), bend=0.1)]


def _stemmed(rng: np.random.Generator, r: float) -> list[Part]:
    """Rubber plant or monstera: large leaves along stems, sometimes on a pole or a trellis."""
    count, high = int(rng.integers(8, 20)), r * float(rng.uniform(2.5, 6.0))
    stems = int(rng.integers(1, 4))
    lean = rng.uniform(-0.25, 0.25, (stems, 2)) * high
    which = np.arange(count) % stems
    t = rng.uniform(0.25, 1.0, count)
    on = np.column_stack([lean[which, 0] * t, high * t, lean[which, 1] * t])
    angle = np.arange(count) * 2.39996
    reach = r * float(rng.uniform(0.9, 1.6))
    out = np.column_stack([np.cos(angle), rng.uniform(-0.3, 0.7, count), np.sin(angle)]) * reach
    parts = [
        rods(
            np.zeros((stems, 3)) - [0, 0.1 * r, 0],
            np.column_stack([lean[:, 0], np.full(stems, high), lean[:, 1]]),
            0.05 * r,
            sides=5,
            role=pick(rng, ("wood", "plant")),
        )
    ]
    parts += [
        rods(on, on + 0.25 * out, 0.025 * r, sides=3, role="plant"),
        leaves(on + 0.2 * out, on + out, r * float(rng.uniform(0.5, 0.9)), bend=0.12),
    ]
    if chance(rng, 0.15):
        parts += [
            box(0.04 * r, high, 0.04 * r, role="wood").repeated([(x * r, 0.0, 0.0) for x in (-0.5, 0.5)]),
            box(1.1 * r, 0.03 * r, 0.03 * r, role="wood").repeated([(0.0, y * high, 0.0) for y in (0.4, 0.6, 0.8, 0.97)]),
        ]
    elif chance(rng, 0.15):
        parts.append(rounded_box(0.16 * r, high * 0.9, 0.16 * r, 0.05 * r, role="wood"))
    return parts
