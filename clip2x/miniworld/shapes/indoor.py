"""Parametric pillows, benches, stools and lamps, and the list of indoor classes beside ModelNet10's ten (sizes ours, metres)."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.bathroom import sink
from clip2x.miniworld.shapes.carpentry import Generator, Rng, arc_sheet, beam, cushion, doors, finished, legs, plate, post, ring
from clip2x.miniworld.shapes.containers import bag, bin_, box_
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, ellipsoid, lathe, tube
from clip2x.miniworld.shapes.storage import bookshelf, cabinet, door, shelf


@finished
def pillow(rng: Rng) -> list[Part]:
    """Cushion: square, oblong, bolster, round, neck roll; lying, leaning or standing, sometimes two."""
    kind = pick(rng, ("square", "oblong", "bolster", "round", "pair", "piped"), (3, 3, 1, 1, 1, 1))
    size, fat, square = rng.uniform(0.35, 0.55), rng.uniform(0.1, 0.2), rng.uniform(0.3, 0.55)
    if kind == "bolster":
        radius, length = rng.uniform(0.07, 0.13), rng.uniform(0.4, 0.9)
        roll = lathe([(0, 0), (0.8 * radius, 0), (radius, 0.03), (radius, length - 0.03), (0.8 * radius, length), (0, length)], segments=18)
        band = cylinder(1.03 * radius, 0.03, axis="x", segments=18, at=(-0.85 * length, 0, 0), role="accent")
        return [roll.turned("z", 90.0), band]
    if kind == "round":
        parts = [
            cushion(size, fat, size, role="body", squareness=1.0),
            ellipsoid(0.025, 0.012, 0.025, at=(0, fat, 0), segments=8, rings=5, role="accent"),
        ]
    else:
        depth = size * (rng.uniform(0.6, 0.75) if kind == "oblong" else 1.0)
        parts = [_pinched(size * (1.2 if kind == "oblong" else 1.0), fat, depth, square)]
        if chance(rng, 0.25):
            parts.append(ellipsoid(0.02, 0.012, 0.02, at=(0, 0.97 * fat, 0), segments=8, rings=5, role="accent"))
        if kind == "square" and chance(rng, 0.25):
            reach = 0.53 * size
            parts += [
                ellipsoid(0.02, 0.02, 0.02, at=(sx * reach, fat / 2, sz * reach), segments=8, rings=5, role="accent")
                for sx in (-1, 1)
                for sz in (-1, 1)
            ]
        if kind == "piped":
            edge = ring(0.52 * size, 0.52 * depth, fat / 2, squareness=0.3, segments=24)
            parts.append(tube(edge, 0.008, segments=5, closed=True, role="accent"))
        if kind == "pair":
            parts.append(
                _pinched(0.9 * size, fat, 0.9 * depth, square)
                .turned("y", rng.uniform(-20, 20))
                .moved(y=0.85 * fat, x=0.05)
                .painted("accent")
            )
    tilt = pick(rng, (0.0, 0.0, -rng.uniform(15, 80))) if kind != "pair" else 0.0
    return [part.turned("x", -tilt) for part in parts]


def _pinched(width: float, fat: float, depth: float, squareness: float) -> Part:
    """Pillow whose corners are drawn out and thin."""
    part = ellipsoid(0.5, 0.5, 0.5, segments=24, rings=9, squareness=squareness, at=(0, 0.5, 0))
    x, y, z = part.vertices.T
    thin = 1 - 0.75 * np.clip(np.abs(4 * x * z), 0, 1)
    pull = 1 + 0.12 * np.abs(4 * x * z)
    return Part(np.column_stack([x * pull * width, (0.5 + (y - 0.5) * thin) * fat, z * pull * depth]), part.faces, "body")


@finished
def bench(rng: Rng) -> list[Part]:
    """Long seat for several: park bench, plank bench, padded bench, storage bench, stone bench, church pew."""
    kind = pick(rng, ("park", "plank", "padded", "storage", "stone", "pew"), (3, 2, 2, 1, 0.8, 1))
    width, depth, seat = rng.uniform(1.0, 1.9), rng.uniform(0.32, 0.5), rng.uniform(0.4, 0.48)
    if kind in ("park", "pew"):
        return _backed_bench(rng, width, depth, seat, closed=kind == "pew")
    top = rng.uniform(0.03, 0.09)
    if kind == "stone":
        legs_x = rng.uniform(0.3, 0.42) * width
        return [
            box(width, 0.09, depth, at=(0, seat - 0.09, 0)),
            *(box(0.12, seat - 0.09, 0.8 * depth, at=(s * legs_x, 0, 0)) for s in (-1, 1)),
        ]
    if kind == "storage":
        parts = [
            box(width, seat - 0.06, depth),
            *doors(rng, -width / 2, width / 2, 0.03, seat - 0.07, depth / 2, columns=int(rng.integers(1, 4))),
        ]
        return [*parts, plate(width, 0.08, depth, squareness=0.06, bevel=0.02, at=(0, seat - 0.06, 0), role=pick(rng, ("fabric", "body")))]
    if kind == "padded":
        parts = [plate(width, top + 0.06, depth, squareness=0.1, bevel=0.03, at=(0, seat - top - 0.06, 0))]
        parts += legs(
            rng, width - 0.1, depth - 0.04, seat - top - 0.05, thickness=rng.uniform(0.03, 0.06), role=pick(rng, ("wood", "metal"))
        )
        if chance(rng, 0.3):
            parts += [tube([(s * width / 2, seat - 0.1, z) for z in (-depth / 2, depth / 2)], 0.06, segments=10) for s in (-1, 1)]
        return parts
    slats = int(rng.integers(1, 5))
    parts = [box(width, top, depth / slats - 0.01, at=(0, seat - top, (k + 0.5 - slats / 2) * depth / slats)) for k in range(slats)]
    if chance(rng, 0.5):
        parts += [box(0.05, seat - top, 0.9 * depth, at=(s * 0.42 * width, 0, 0), role=pick(rng, ("body", "wood"))) for s in (-1, 1)]
        parts.append(box(0.84 * width, 0.08, 0.03, at=(0, 0.5 * seat, 0), role="wood"))
    else:
        parts += legs(rng, 0.94 * width, depth, seat - top, thickness=0.05)
    return parts


def _backed_bench(rng: Rng, width: float, depth: float, seat: float, *, closed: bool) -> list[Part]:
    """Bench with a slatted or closed back; `closed` gives a pew with panel ends."""
    top, lean, role = seat + rng.uniform(0.32, 0.5), rng.uniform(0.04, 0.14), pick(rng, ("metal", "body", "wood", "dark"))
    z = -depth / 2
    parts: list[Part] = []
    if closed:
        parts = [box(width, 0.04, depth, at=(0, seat - 0.04, 0)), beam((0, 0.1, z), (0, top, z - lean), width, 0.03)]
        return parts + [box(0.05, rng.uniform(0.75, 1.0) * top, depth + 0.1, at=(s * width / 2, 0, -0.03)) for s in (-1, 1)]
    slats = int(rng.integers(2, 6))
    parts += [box(width, 0.03, depth / slats - 0.012, at=(0, seat - 0.03, (k + 0.5 - slats / 2) * depth / slats)) for k in range(slats)]
    if chance(rng, 0.3):
        parts += [beam((x, seat, z), (x, top, z - lean), 0.035, 0.015) for x in np.linspace(-0.48, 0.48, int(rng.integers(8, 16))) * width]
        parts.append(box(width, 0.06, 0.03, at=(0, top - 0.03, z - lean)))
    else:
        rows = int(rng.integers(1, 5))
        for t in np.linspace(0.35, 0.92, rows):
            parts.append(beam((-width / 2, seat + t * (top - seat), z - t * lean), (width / 2, seat + t * (top - seat), z - t * lean), 0.02,
                              0.6 * (top - seat) / (rows + 0.5)))
    arms = chance(rng, 0.65)
    for x in np.linspace(-0.45, 0.45, 3 if width > 1.6 and chance(rng, 0.5) else 2) * width:
        parts += [
            beam((x, 0, depth / 2 - 0.03), (x, seat + (0.22 if arms else -0.03), depth / 2 - 0.03), 0.045, role=role),
            beam((x, 0, z), (x, seat, z), 0.045, role=role),
            beam((x, seat - 0.02, z - 0.01), (x, top, z - lean - 0.02), 0.045, role=role),
            box(0.045, 0.04, depth, at=(x, seat - 0.07, 0), role=role),
        ]
        if arms:
            parts.append(box(0.06, 0.03, depth + 0.04, at=(x, seat + 0.22, 0), role=role))
    return parts


@finished
def stool(rng: Rng) -> list[Part]:
    """Seat for one without a back: three or four legs, bar stool, swivel, ottoman, step stool, drum."""
    kind = pick(rng, ("round", "square", "bar", "swivel", "ottoman", "step", "drum"), (3, 2, 2, 1.5, 1.5, 1, 1))
    high = rng.uniform(0.6, 0.8) if kind == "bar" else rng.uniform(0.38, 0.5)
    half, pad, role = rng.uniform(0.15, 0.23), rng.uniform(0.025, 0.09), pick(rng, ("wood", "metal", "body"))
    if kind == "ottoman":
        square = pick(rng, (1.0, 0.15))
        body = plate(2.4 * half, 0.8 * high, 2.4 * half, squareness=square, bevel=0.04, at=(0, 0.06, 0))
        return [body, *legs(rng, 1.6 * half, 1.6 * half, 0.07, thickness=0.04)]
    if kind == "drum":
        waist = rng.uniform(0.6, 1.25)
        return [
            lathe(
                [
                    (0, 0),
                    (half, 0),
                    (half * (1 + waist) / 2, 0.2 * high),
                    (half * waist, 0.5 * high),
                    (half * (1 + waist) / 2, 0.8 * high),
                    (half, high),
                    (0, high),
                ]
            )
        ]
    if kind == "step":
        depth = 0.45
        parts = [box(2 * half, 0.03, 0.22, at=(0, high - 0.03, -0.1)), box(2 * half, 0.03, 0.2, at=(0, 0.5 * high - 0.03, 0.12))]
        return parts + [
            part
            for s in (-1, 1)
            for part in (
                box(0.03, high - 0.03, 0.2, at=(s * (half - 0.02), 0, -0.1), role=role),
                box(0.03, 0.5 * high - 0.03, 0.4 * depth, at=(s * (half - 0.02), 0, 0.12), role=role),
            )
        ]
    square = 0.12 if kind == "square" else pick(rng, (1.0, 1.0, 0.4))
    seat = plate(2 * half, pad, 2 * half, squareness=square, bevel=0.25 * pad, at=(0, high - pad, 0))
    if kind == "swivel" or (kind == "bar" and chance(rng, 0.4)):
        foot = rng.uniform(0.18, 0.24)
        parts = [seat, cylinder(0.025, high - pad, segments=10, role="metal")]
        if chance(rng, 0.5):
            parts.append(lathe([(0, 0), (foot, 0), (0.8 * foot, 0.025), (0.04, 0.05), (0, 0.05)], role="metal"))
        else:
            parts += [
                beam((0, 0.07, 0), (foot * np.sin(a), 0.02, foot * np.cos(a)), 0.035, role="metal") for a in np.arange(5) * 2 * np.pi / 5
            ]
        if kind == "bar":
            parts.append(tube(ring(0.14, 0.14, 0.35 * high, segments=14), 0.01, segments=5, closed=True, role="metal"))
            if chance(rng, 0.3):
                parts.append(arc_sheet(half, 0.12, 0.03, span_deg=150.0, y=high))
        return parts
    count, splay, size = 4 if kind == "square" or chance(rng, 0.6) else 3, rng.uniform(0.0, 0.09), rng.uniform(0.022, 0.045)
    spread, start = (0.8 if kind != "square" else 1.15) * half, np.pi / 4 if count == 4 else 0.0
    parts, level = [seat], rng.uniform(0.25, 0.5)
    angles = start + 2 * np.pi * np.arange(count) / count
    feet = [np.array([np.sin(a), 0.0, np.cos(a)]) for a in angles]
    tops = [spread * foot + (0, high - 0.8 * pad, 0) for foot in feet]
    bases = [(spread + splay) * foot for foot in feet]
    parts += [post(a, b, size, is_round=kind != "square", role=role) for a, b in zip(bases, tops, strict=True)]
    if chance(rng, 0.7):
        rung = [a + level * (b - a) for a, b in zip(bases, tops, strict=True)]
        parts += [beam(rung[k], rung[(k + 1) % count], 0.6 * size, role=role) for k in range(count)]
    return parts


@finished
def lamp(rng: Rng) -> list[Part]:
    """Lamp: table, floor, tripod, jointed desk lamp, arc lamp, uplighter, lantern."""
    kind = pick(rng, ("table", "floor", "desk", "arc", "uplight", "lantern", "tripod"), (4, 2.5, 2, 1, 1, 0.7, 1))
    if kind == "desk":
        return _desk_lamp(rng)
    if kind == "lantern":
        wide, tall = rng.uniform(0.12, 0.2), rng.uniform(0.25, 0.4)
        parts = [
            box(wide, 0.03, wide),
            box(wide, 0.02, wide, at=(0.0, tall, 0.0)),
            cylinder(0.62 * wide, 0.08, top_radius=0.02, segments=4, at=(0.0, tall + 0.02, 0.0)),
            cylinder(0.04, 0.5 * tall, segments=10, at=(0, 0.03, 0), role="light"),
        ]
        parts += [box(0.012, tall, 0.012, at=(sx * 0.45 * wide, 0, sz * 0.45 * wide), role="metal") for sx in (-1, 1) for sz in (-1, 1)]
        return [
            *parts,
            tube([(0.05 * np.cos(a), tall + 0.1 + 0.06 * np.sin(a), 0) for a in np.linspace(0, np.pi, 7)], 0.006, segments=5, role="metal"),
        ]
    role, tall = pick(rng, ("metal", "body", "wood", "dark")), rng.uniform(1.25, 1.75)
    if kind == "arc":
        reach, angles = rng.uniform(0.6, 1.0), np.linspace(np.pi, 0.15, 12)
        path = [(-0.5 * reach, 0.03, 0), *((0.5 * reach * np.cos(a), 0.55 * tall + 0.45 * tall * np.sin(a), 0) for a in angles)]
        end = path[-1]
        return [cylinder(0.16, 0.04, segments=18, at=(-0.5 * reach, 0, 0), role=role), tube(path, 0.014, segments=6, role=role),
                *_shade(rng, 0.17, 0.16, (end[0], end[1] - 0.16, 0.0), domed=True)]
    if kind == "uplight":
        return [
            cylinder(0.14, 0.03, segments=18, role=role),
            cylinder(0.014, tall, segments=8, role=role),
            lathe(
                [
                    (0.02, tall - 0.02),
                    (0.1, tall + 0.03),
                    (0.18, tall + 0.12),
                    (0.17, tall + 0.12),
                    (0.09, tall + 0.05),
                    (0.0, tall + 0.02),
                ],
                segments=18,
            ),
        ]
    shade, deep = rng.uniform(0.16, 0.26), rng.uniform(0.16, 0.32)
    if kind in ("floor", "tripod"):
        if kind == "floor":
            parts = [cylinder(rng.uniform(0.12, 0.18), 0.03, segments=18, role=role), cylinder(0.014, tall, segments=8, role=role)]
        else:
            parts = [
                post((0.28 * np.sin(a), 0, 0.28 * np.cos(a)), (0.0, tall - 0.05, 0.0), 0.03, is_round=True, role=role)
                for a in np.arange(3) * 2 * np.pi / 3
            ]
        return parts + _shade(rng, shade, deep, (0.0, tall - 0.1, 0.0))
    stand, r = rng.uniform(0.22, 0.42), rng.uniform(0.05, 0.11)
    shapes = {"vase": [(0.7, 0), (0.75, 0.04), (1.0, 0.35), (0.75, 0.65), (0.25, 0.85), (0.2, 1.0)],
              "ball": [(0.6, 0), (0.5, 0.05), (0.8, 0.2), (1.0, 0.45), (0.8, 0.7), (0.15, 0.85), (0.15, 1.0)],
              "stick": [(1.1, 0), (1.1, 0.06), (0.2, 0.1), (0.16, 1.0)], "cone": [(1.1, 0), (0.25, 0.95), (0.15, 1.0)],
              "turned": [(1.0, 0), (1.0, 0.06), (0.3, 0.12), (0.5, 0.3), (0.25, 0.45), (0.6, 0.65), (0.2, 0.85), (0.15, 1.0)]}
    profile = pick(rng, tuple(shapes.values()))
    parts = [lathe([(0, 0), *((r * a, stand * t) for a, t in profile), (0, stand)], segments=16, role=pick(rng, ("body", role)))]
    return parts + [
        cylinder(0.008, 0.1, segments=6, at=(0.0, stand, 0.0), role="metal"),
        *_shade(rng, rng.uniform(0.12, 0.22), rng.uniform(0.13, 0.24), (0.0, stand, 0.0)),
    ]


def _shade(rng: Rng, radius: float, height: float, at: tuple[float, float, float], *, domed: bool = False) -> list[Part]:
    """Hollow lamp shade with its bulb; `at` is the middle of the lower edge."""
    top = radius * rng.uniform(0.4, 1.0)
    if domed:
        shares = ((1.0, 0.0), (0.85, 0.6), (0.3, 1.0), (0.0, 1.0), (0.0, 0.94), (0.27, 0.94), (0.8, 0.57), (0.95, 0.0))
        profile = [(r * radius, t * height) for r, t in shares]
    else:
        wall = 0.006
        profile = [(radius, 0), (top, height), (top - wall, height), (radius - wall, 0)]
    part = lathe([*profile, profile[0]], segments=pick(rng, (20, 20, 20, 6, 4)), role=pick(rng, ("body", "body", "light", "fabric")))
    return [part.moved(*at), ellipsoid(0.03, 0.045, 0.03, at=(at[0], at[1] + 0.5 * height, at[2]), segments=8, rings=6, role="light")]


def _desk_lamp(rng: Rng) -> list[Part]:
    """Jointed or goose-neck lamp; its head looks forward and down."""
    foot, low, high = rng.uniform(0.07, 0.11), rng.uniform(0.18, 0.32), rng.uniform(0.18, 0.32)
    a, b = np.deg2rad(rng.uniform(5, 35)), np.deg2rad(rng.uniform(25, 75))
    elbow = np.array([0.0, low * np.cos(a), -low * np.sin(a)])
    head = elbow + (0, high * np.cos(b), high * np.sin(b))
    role = pick(rng, ("metal", "body", "dark"))
    parts = [cylinder(foot, 0.025, segments=18, role=role)]
    if chance(rng, 0.65):
        parts += [
            tube(np.array([(0.0, 0.02, 0.0), elbow]), 0.008, segments=6, role=role),
            tube(np.array([elbow, head]), 0.008, segments=6, role=role),
            ellipsoid(0.018, 0.018, 0.018, at=elbow, segments=8, rings=5, role="metal"),
        ]
    else:
        rise = np.array([0.0, 0.5 * high * np.cos(b) + 0.04, 0.3 * high * np.sin(b)])
        bend = np.array([(0.0, 0.02, 0.0), 0.5 * elbow, elbow, elbow + rise, head])
        parts.append(tube(bend, 0.01, segments=6, role=role))
    shade = _shade(rng, rng.uniform(0.06, 0.1), rng.uniform(0.09, 0.15), (0.0, -0.1, 0.0), domed=chance(rng, 0.5))
    return parts + [part.turned("x", -rng.uniform(15, 55)).moved(*head) for part in shade]


INDOOR: dict[str, Generator] = {
    "bag": bag,
    "bin": bin_,
    "box": box_,
    "cabinet": cabinet,
    "door": door,
    "shelf": shelf,
    "pillow": pillow,
    "sink": sink,
    "bookshelf": bookshelf,
    "bench": bench,
    "stool": stool,
    "lamp": lamp,
}
