"""Pedestrians, traffic cones and barriers. All sizes are ours: plausible metres."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, ellipsoid, extrude, grounded, lathe, rods, tube
from clip2x.miniworld.shapes.people import Pose, figure
from clip2x.miniworld.shapes.vehicle_parts import rounded_box, wheels


def pedestrian(rng: np.random.Generator) -> list[Part]:
    """A person on foot: standing, walking, running, arms apart, on the phone; with bag, hat, skirt, coat; pushing or pulling something."""
    child = chance(rng, 0.18)
    height = float(rng.uniform(1.0, 1.45) if child else rng.uniform(1.52, 1.95))
    action = pick(rng, ("stand", "walk", "run", "apart", "phone", "push", "akimbo", "sit"), (4, 6, 1, 2, 2, 1, 1, 0.5))
    pose = _pose(rng, action)
    dress = pick(rng, ("trousers", "shorts", "skirt", "coat"), (6, 1.5, 2, 2)) if action != "sit" else "trousers"
    head = pick(rng, ("hair", "long", "cap", "hat", "hood", "helmet", "bald"), (5, 3, 2, 1, 1, 1, 1))
    parts = figure(rng, height, pose, dress=dress, girth=float(rng.uniform(0.88, 1.3)), head=head, child=child)
    hip = -min(float(part.vertices[:, 1].min()) for part in parts)
    parts = [part.moved(y=hip) for part in parts]
    load = (
        "cart" if action == "push" else pick(rng, ("none", "backpack", "handbag", "suitcase", "shopping", "umbrella"), (6, 3, 2, 1, 2, 0.7))
    )
    return grounded(parts + _luggage(rng, load, height, hip))


def _pose(rng: np.random.Generator, action: str) -> Pose:
    def around(middle: float, width: float) -> float:
        return float(rng.uniform(middle - width, middle + width))

    if action in ("walk", "run"):
        stride, swing = around(24.0, 8.0) if action == "walk" else around(38.0, 8.0), around(22.0, 14.0)
        bend = (around(8.0, 6.0), around(28.0, 12.0)) if action == "walk" else (around(25.0, 10.0), around(75.0, 20.0))
        elbow = around(18.0, 12.0) if action == "walk" else around(85.0, 15.0)
        pose = Pose(around(4.0, 4.0), (stride, -stride * 0.7), bend, (-swing, swing), (8.0, 8.0), (elbow, elbow))
        if chance(rng, 0.5):
            pose = Pose(pose.lean, pose.thighs[::-1], pose.knees[::-1], pose.arms[::-1], pose.spread, pose.elbows)
        return pose
    if action == "apart":
        return Pose(
            0.0,
            (around(0.0, 6.0), around(0.0, 6.0)),
            (5.0, 5.0),
            (around(0.0, 10.0), around(0.0, 10.0)),
            (around(60.0, 35.0), around(60.0, 35.0)),
            (around(10.0, 10.0), around(10.0, 10.0)),
            around(8.0, 6.0),
        )
    if action == "phone":
        return Pose(
            around(2.0, 3.0),
            (around(0.0, 8.0), around(0.0, 8.0)),
            (5.0, 5.0),
            (around(30.0, 20.0), around(0.0, 15.0)),
            (around(15.0, 8.0), 8.0),
            (around(110.0, 25.0), around(30.0, 30.0)),
        )
    if action == "push":
        return Pose(
            around(10.0, 5.0), (around(22.0, 6.0), -16.0), (8.0, 22.0), (around(45.0, 8.0),) * 2, (6.0, 6.0), (around(30.0, 10.0),) * 2
        )
    if action == "akimbo":
        return Pose(0.0, (3.0, -3.0), (4.0, 4.0), (-15.0, -15.0), (around(45.0, 8.0),) * 2, (around(60.0, 10.0),) * 2, around(7.0, 4.0))
    if action == "sit":
        return Pose(
            around(0.0, 10.0),
            (around(85.0, 8.0),) * 2,
            (around(85.0, 15.0),) * 2,
            (around(25.0, 10.0),) * 2,
            (10.0, 10.0),
            (around(40.0, 15.0),) * 2,
        )
    return Pose(
        around(0.0, 3.0),
        (around(0.0, 5.0), around(0.0, 5.0)),
        (3.0, 3.0),
        (around(0.0, 8.0), around(0.0, 8.0)),
        (around(9.0, 5.0), around(9.0, 5.0)),
        (around(15.0, 12.0), around(15.0, 12.0)),
        around(4.0, 3.0),
    )


def _luggage(rng: np.random.Generator, load: str, h: float, hip: float) -> list[Part]:
    """What the person carries, pushes or pulls. hip: height of the hips, metres."""
    if load == "backpack":
        return [
            rounded_box(
                0.17 * h, 0.25 * h, 0.1 * h, 0.03 * h, at=(0, hip + 0.04 * h, -0.12 * h), role=pick(rng, ("accent", "fabric", "dark"))
            )
        ]
    if load in ("handbag", "shopping"):
        side = pick(rng, (-1, 1))
        bag = rounded_box(
            0.06 * h,
            0.16 * h,
            0.19 * h,
            0.02 * h,
            at=(side * 0.19 * h, hip - 0.24 * h, 0.03 * h),
            role=pick(rng, ("accent", "fabric", "dark")),
        )
        straps = rods(
            [(side * 0.19 * h, hip - 0.09 * h, z * h) for z in (-0.03, 0.09)],
            [(side * 0.17 * h, hip - 0.01 * h, 0.03 * h)] * 2,
            0.008,
            sides=3,
            role="dark",
        )
        return [bag, straps]
    if load == "suitcase":
        size = float(rng.uniform(0.5, 0.7))
        case = rounded_box(0.42 * size, size, 0.25 * size, 0.03, at=(-0.25, 0.05, -0.45), role=pick(rng, ("accent", "dark", "fabric")))
        return [case, rods([(-0.25, size, -0.4)], [(-0.2, hip * 0.95, -0.12)], 0.02, role="metal")]
    if load == "umbrella":
        top = 1.28 * h
        canopy = lathe(
            [(0.48, -0.16), (0.3, -0.05), (0.0, 0.0), (0.0, -0.02), (0.29, -0.07), (0.48, -0.16)][::-1],
            segments=8,
            at=(0.12, top, 0.15),
            role="accent",
        )
        return [canopy, rods([(0.12, hip + 0.2 * h, 0.17)], [(0.12, top + 0.05, 0.15)], 0.012, role="metal")]
    if load == "cart":
        return _pushchair(rng, hip) if chance(rng, 0.6) else _trolley(hip)
    return []


def _pushchair(rng: np.random.Generator, hip: float) -> list[Part]:
    z = 0.85
    places = [(x, 0.12, z + d) for x in (-0.22, 0.22) for d in (-0.25, 0.3)]
    frame = rods([(x, 0.12, z + 0.3) for x in (-0.22, 0.22)], [(x, hip * 1.05, 0.42) for x in (-0.22, 0.22)], 0.015, role="metal")
    hood = ellipsoid(0.24, 0.22, 0.26, at=(0.0, 0.75, z - 0.08), segments=10, rings=6, role="accent")
    return [
        *wheels(0.12, 0.05, places, segments=10),
        frame,
        rounded_box(0.42, 0.3, 0.6, 0.08, at=(0, 0.4, z), role=pick(rng, ("dark", "fabric"))),
        hood,
    ]


def _trolley(hip: float) -> list[Part]:
    z, places = 0.9, [(x, 0.07, 0.9 + d) for x in (-0.2, 0.2) for d in (-0.25, 0.3)]
    bars = [((x, 0.1, z - 0.25), (x, hip, z - 0.42)) for x in (-0.24, 0.24)]
    levels = [((-0.25, y, z + d), (0.25, y, z + d)) for y in (0.45, 0.65, 0.85) for d in (-0.35, 0.4)]
    levels += [((x, y, z - 0.35), (x, y, z + 0.4)) for y in (0.45, 0.65, 0.85) for x in (-0.25, 0.25)]
    lines = bars + levels + [((-0.24, hip, z - 0.42), (0.24, hip, z - 0.42))]
    return [
        *wheels(0.07, 0.03, places, segments=8),
        rods([a for a, _ in lines], [b for _, b in lines], 0.012, sides=3, role="metal"),
        box(0.5, 0.01, 0.75, at=(0.0, 0.42, z), role="metal"),
    ]


def traffic_cone(rng: np.random.Generator) -> list[Part]:
    """A traffic cone: plain or striped, tall delineator, barrel, with square, octagonal or round base, now and then with a lamp."""
    kind = pick(rng, ("cone", "delineator", "barrel", "post"), (7, 2, 1.5, 1))
    if kind == "cone":
        return grounded(_cone(rng, float(rng.uniform(0.3, 1.0)), float(rng.uniform(0.28, 0.45))))
    if kind == "delineator":
        return grounded(_cone(rng, float(rng.uniform(0.95, 1.25)), float(rng.uniform(0.12, 0.2))))
    if kind == "barrel":
        high, radius = float(rng.uniform(0.85, 1.1)), float(rng.uniform(0.22, 0.32))
        steps = [(radius * (1 - 0.06 * step), y * high) for step in range(4) for y in (step / 4, (step + 1) / 4)]
        parts = [lathe([(0.0, 0.0), *steps, (0.0, high)], segments=14), cylinder(radius * 1.25, 0.08, segments=12, role="rubber")]
        parts += [
            cylinder(radius * 1.01 * (1 - 0.06 * step), 0.16 * high, at=(0.0, high * (step / 4 + 0.045), 0), segments=14, role="light")
            for step in (1, 3)
        ]
        return grounded(
            [
                *parts,
                tube(
                    [(-0.08, high, 0.0), (-0.06, high + 0.07, 0.0), (0.06, high + 0.07, 0.0), (0.08, high, 0.0)],
                    0.015,
                    segments=5,
                    role="dark",
                ),
            ]
        )
    high, radius = float(rng.uniform(0.75, 1.2)), float(rng.uniform(0.03, 0.06))
    parts = [
        cylinder(radius, high, segments=10),
        cylinder(radius * 3, 0.06, top_radius=radius * 2.2, segments=12, role="rubber"),
        ellipsoid(radius, radius, radius, at=(0.0, high, 0.0), segments=10, rings=6),
    ]
    parts += [cylinder(radius * 1.06, 0.09, at=(0.0, high * y, 0.0), segments=10, role="light") for y in (0.62, 0.8)]
    if chance(rng, 0.4):
        parts.append(box(0.2, 0.3, 0.02, at=(0.0, high * 0.72, 0.0)))
    return grounded(parts)


def _cone(rng: np.random.Generator, high: float, slimness: float) -> list[Part]:
    """Cone with a round hole at the top; `slimness` is the foot radius over the height."""
    foot, top, thick = high * slimness * 0.62, high * 0.045 + 0.008, float(rng.uniform(0.025, 0.05))
    hollow = [(foot, thick), (top, high), (top * 0.7, high), (0.0, high - 0.04)]
    bulge = float(rng.uniform(0.0, 0.1)) * foot
    hollow.insert(1, (0.5 * (foot + top) - bulge, thick + 0.5 * (high - thick)))
    parts = [lathe([(0.0, thick), *hollow], segments=16)]
    base = pick(rng, ("square", "octagon", "round", "none"), (5, 2, 2, 0.7))
    wide = foot * float(rng.uniform(1.25, 1.6))
    role = pick(rng, ("body", "dark", "rubber"))
    if base == "square":
        parts.append(rounded_box(2 * wide, thick, 2 * wide, 0.01 + 0.2 * foot, role=role))
    elif base != "none":
        parts.append(cylinder(wide * 1.05, thick, top_radius=wide, segments=8 if base == "octagon" else 18, role=role))
    else:
        parts.append(cylinder(foot * 1.08, thick, top_radius=foot, segments=16))
    for place in pick(rng, ((), (0.55,), (0.45, 0.72), (0.35, 0.57, 0.79)), (2, 3, 3, 1)):
        low, up = place * high, (place + float(rng.uniform(0.1, 0.17))) * high
        radii = [float(np.interp(y, [thick, thick + 0.5 * (high - thick), high], [foot, hollow[1][0], top])) + 0.004 for y in (low, up)]
        parts.append(lathe([(0.0, low), (radii[0], low), (radii[1], up), (0.0, up)], segments=16, role="light"))
    if chance(rng, 0.08):
        parts.append(ellipsoid(0.07, 0.08, 0.07, at=(0.0, high + 0.06, 0.0), segments=10, rings=6, role="accent"))
    return parts


def barrier(rng: np.random.Generator) -> list[Part]:
    """A road barrier: concrete step profile, water-filled plastic, A-frame board, crowd railing, plank fence, bollard row, guard rail."""
    kinds = (_jersey, _water_filled, _sawhorse, _crowd_rail, _boards, _guard_rail, _bollards)
    return grounded(pick(rng, kinds, (4, 4, 3, 3, 2, 1.5, 1))(rng))


def _jersey(rng: np.random.Generator) -> list[Part]:
    high, long, foot = float(rng.uniform(0.75, 1.1)), float(rng.uniform(1.5, 4.0)), float(rng.uniform(0.25, 0.36))
    waist, top = foot * float(rng.uniform(0.4, 0.6)), foot * float(rng.uniform(0.22, 0.36))
    right = [(foot, 0.0), (foot, 0.08 * high), (waist, 0.38 * high), (top, high)]
    shape = [(z, y) for z, y in right] + [(-z, y) for z, y in right[::-1]]
    parts = [extrude(shape, long, axis="x", bevel=0.03)]
    if chance(rng, 0.5):
        parts += [box(0.5, 0.09, 2 * foot + 0.02, role="dark").repeated([(x, 0.0, 0.0) for x in (-0.28 * long, 0.28 * long)])]
    if chance(rng, 0.4):
        parts.append(box(long * 0.96, 0.12, 2 * top + 0.1, at=(0, high * 0.8, 0), role=pick(rng, ("light", "accent"))))
    if chance(rng, 0.25):
        posts = np.array([(x, high, 0.0) for x in np.linspace(-0.45, 0.45, 4) * long])
        parts += [
            rods(posts, posts + [0, 0.5, 0], 0.03, role="metal"),
            box(long, 0.08, 0.05, role="metal").repeated([(0.0, high + y, 0.0) for y in (0.2, 0.45)]),
        ]
    return parts


def _water_filled(rng: np.random.Generator) -> list[Part]:
    """Rows of hollow plastic blocks with recesses, alternating colours."""
    high, long, deep, count = (
        float(rng.uniform(0.55, 1.05)),
        float(rng.uniform(0.9, 1.8)),
        float(rng.uniform(0.35, 0.55)),
        int(rng.integers(1, 3)),
    )
    half = long / 2
    slot = float(rng.uniform(0.12, 0.3)) * long
    face = [
        (-half, 0.0),
        (-half * 0.75, 0.0),
        (-half * 0.7, 0.12 * high),
        (-half * 0.3, 0.12 * high),
        (-half * 0.25, 0.0),
        (half * 0.25, 0.0),
        (half * 0.3, 0.12 * high),
        (half * 0.7, 0.12 * high),
        (half * 0.75, 0.0),
        (half, 0.0),
        (half, 0.55 * high),
        (half - 0.05, high),
        (slot, high),
        (slot * 0.8, 0.86 * high),
        (-slot * 0.8, 0.86 * high),
        (-slot, high),
        (0.05 - half, high),
        (-half, 0.55 * high),
    ]
    parts = []
    for index in range(count):
        x = (index - (count - 1) / 2) * (long + 0.02)
        role = "accent" if index % 2 else "body"
        parts.append(extrude(face, deep * 0.62, at=(x, 0.0, 0.0), bevel=0.04, role=role))
        parts.append(rounded_box(long * 0.96, 0.3 * high, deep, 0.06, at=(x, 0.13 * high, 0.0), role=role))
        parts.append(
            box(0.12 * long, 0.5 * high, deep * 0.7, role=role).repeated([(x + s * long, 0.35 * high, 0.0) for s in (-0.36, 0.0, 0.36)])
        )
    return parts


def _stripes(rng: np.random.Generator, long: float, high: float, y: float, z: float, thick: float) -> list[Part]:
    """A board with slanted stripes on both sides."""
    parts = [box(long, high, thick, at=(0.0, y, z))]
    if chance(rng, 0.7):
        step = float(rng.uniform(0.2, 0.35))
        slant = [(-step * 0.25, 0.0), (step * 0.15, 0.0), (step * 0.4, high), (0.0, high)]
        places = np.arange(-long / 2 + step * 0.4, long / 2 - step * 0.4, step)
        parts.append(extrude(slant, thick + 0.012, role="light").repeated([(x, y, z) for x in places]))
    return parts


def _sawhorse(rng: np.random.Generator) -> list[Part]:
    """Boards on A-frames or on T-feet."""
    high, long, spread = float(rng.uniform(0.8, 1.5)), float(rng.uniform(1.1, 2.6)), float(rng.uniform(0.25, 0.4))
    legs = [(x, z) for x in (-0.42 * long, 0.42 * long) for z in (-spread, spread)]
    straight = chance(rng, 0.35)
    heads = [(x, high, 0.0 if not straight else z * 0.0) for x, z in legs]
    role = pick(rng, ("metal", "wood", "dark"))
    if straight:
        parts = [
            rods(
                [(x, 0.0, 0.0) for x in (-0.42 * long, 0.42 * long)], [(x, high, 0.0) for x in (-0.42 * long, 0.42 * long)], 0.03, role=role
            ),
            box(0.08, 0.08, 2 * spread, role=role).repeated([(x, 0.0, 0.0) for x in (-0.42 * long, 0.42 * long)]),
        ]
    else:
        parts = [rods([(x, 0.0, z) for x, z in legs], heads, 0.03, role=role)]
    deep = float(rng.uniform(0.12, 0.3))
    count = int(rng.integers(1, 4))
    for index in range(count):
        y = high - deep - index * (deep + 0.1)
        if y > 0.1:
            lean = 0.0 if straight else spread * (1 - (y + deep / 2) / high)
            parts += _stripes(rng, long, deep, y, lean + 0.02, 0.03)
    if chance(rng, 0.3):
        parts.append(cylinder(0.09, 0.05, axis="z", segments=12, at=(0.4 * long, high + 0.08, 0.0), role="accent"))
    return parts


def _crowd_rail(rng: np.random.Generator) -> list[Part]:
    """Steel crowd barrier: tubular frame, uprights or mesh, flat feet."""
    high, long, foot = float(rng.uniform(0.95, 1.2)), float(rng.uniform(1.6, 2.6)), float(rng.uniform(0.2, 0.32))
    low, corner = float(rng.uniform(0.15, 0.28)), 0.1
    half = long / 2
    ring = [
        (-half, low, 0.0),
        (-half, high - corner, 0.0),
        (corner - half, high, 0.0),
        (half - corner, high, 0.0),
        (half, high - corner, 0.0),
        (half, low, 0.0),
    ]
    parts = [tube([*ring, ring[0]][:-1], 0.022, segments=6, closed=True)]
    count = int(long / float(rng.uniform(0.1, 0.2)))
    spots = np.array([(x, low, 0.0) for x in np.linspace(-half, half, count + 2)[1:-1]])
    parts.append(rods(spots, spots + [0, high - low, 0], 0.012, sides=4))
    feet = np.array([(x, 0.02, -foot) for x in (-0.38 * long, 0.38 * long)])
    parts += [rods(feet, feet + [0, 0, 2 * foot], 0.025), rods(feet + [0, 0, foot], feet + [0, low, foot], 0.02)]
    if chance(rng, 0.35):
        parts += [box(long * 0.7, (high - low) * 0.4, 0.02, at=(0, low + 0.35 * (high - low), 0), role=pick(rng, ("light", "accent")))]
    return parts


def _boards(rng: np.random.Generator) -> list[Part]:
    """Plank or rail fence between posts on blocks."""
    high, long, posts = float(rng.uniform(0.8, 1.4)), float(rng.uniform(2.0, 4.0)), int(rng.integers(2, 5))
    spots = [(x, 0.0, 0.0) for x in np.linspace(-0.46, 0.46, posts) * long]
    parts = [box(0.09, high, 0.09, role=pick(rng, ("body", "wood", "metal"))).repeated(spots)]
    for y in np.linspace(0.4, 0.84, int(rng.integers(2, 4))) * high:
        parts += _stripes(rng, long, float(rng.uniform(0.12, 0.2)), float(y), 0.06, 0.03)
    if chance(rng, 0.6):
        parts.append(box(0.22, 0.14, 0.6, role=pick(rng, ("dark", "rubber"))).repeated(spots))
    return parts


def _guard_rail(rng: np.random.Generator) -> list[Part]:
    """Wavy steel rail on posts."""
    long = float(rng.uniform(2.5, 4.5))
    wave = [(0.0, 0.45), (0.08, 0.52), (0.0, 0.58), (0.0, 0.62), (0.08, 0.68), (0.0, 0.75)]
    profile = wave + [(z - 0.02, y) for z, y in wave[::-1]]
    posts = [(x, 0, -0.08) for x in np.linspace(-0.44, 0.44, int(rng.integers(2, 5))) * long]
    return [extrude(profile, long, axis="x"), box(0.1, 0.78, 0.12, role=pick(rng, ("metal", "wood"))).repeated(posts)]


def _bollards(rng: np.random.Generator) -> list[Part]:
    """Row of posts with a chain or a rail."""
    count, gap, high = int(rng.integers(2, 5)), float(rng.uniform(0.7, 1.3)), float(rng.uniform(0.7, 1.1))
    spots = np.array([((index - (count - 1) / 2) * gap, 0.0, 0.0) for index in range(count)])
    parts = [
        cylinder(0.07, high, top_radius=0.06, segments=10).repeated(spots),
        cylinder(0.16, 0.05, segments=10, role="dark").repeated(spots),
    ]
    parts.append(ellipsoid(0.07, 0.07, 0.07, segments=10, rings=6, role="accent").repeated(spots + [0, high, 0]))
    sag = float(rng.uniform(0.0, 0.25))
    for start, end in itertools.pairwise(spots):
        t = np.linspace(0, 1, 6)[:, None]
        line = start + t * (end - start) + np.array([0, 1, 0]) * (0.88 * high - sag * 4 * t * (1 - t))
        parts.append(rods(line[:-1], line[1:], 0.02))
    return parts


STREET: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "pedestrian": pedestrian,
    "traffic cone": traffic_cone,
    "barrier": barrier,
}
