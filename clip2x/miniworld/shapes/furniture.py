"""Parametric tables and monitors, and the list of ModelNet10's ten classes (object frame of `parts`; every size is ours, metres)."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.bathroom import bathtub, toilet
from clip2x.miniworld.shapes.carpentry import Generator, Rng, beam, drawers, finished, frame, legs, moved, plate, post, shell, turned
from clip2x.miniworld.shapes.casework import desk, dresser, night_stand
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, ellipsoid, extrude, lathe, loft, tube
from clip2x.miniworld.shapes.seating import chair
from clip2x.miniworld.shapes.upholstery import bed, sofa


@finished
def table(rng: Rng) -> list[Part]:
    """Table: dining, coffee, console, round, pedestal, trestle, X-legged, panel-sided, glass, picnic, conference."""
    use = pick(rng, ("dining", "coffee", "console", "side", "bar"), (6, 3, 1, 0.8, 0.5))
    height = {"dining": rng.uniform(0.7, 0.79), "coffee": rng.uniform(0.28, 0.5), "console": rng.uniform(0.7, 0.9),
              "side": rng.uniform(0.45, 0.65), "bar": rng.uniform(0.95, 1.1)}[use]
    width = {"dining": rng.uniform(0.8, 2.4), "coffee": rng.uniform(0.7, 1.4), "console": rng.uniform(0.9, 1.5),
             "side": rng.uniform(0.5, 0.8), "bar": rng.uniform(0.6, 1.2)}[use]
    depth = {"dining": rng.uniform(0.75, 1.1), "coffee": rng.uniform(0.5, 0.85), "console": rng.uniform(0.3, 0.45),
             "side": rng.uniform(0.45, 0.7), "bar": rng.uniform(0.5, 0.75)}[use]
    base = pick(
        rng, ("legs", "pedestal", "two pedestals", "trestle", "cross", "panels", "sled", "inset"), (7, 2.5, 0.8, 1, 1, 1.6, 0.8, 0.8)
    )
    is_round = (base == "pedestal" and chance(rng, 0.75)) or (base in ("legs", "inset") and use != "console" and chance(rng, 0.22))
    depth = width = min(width, 1.5) if is_round and chance(rng, 0.75) else width
    depth = depth if is_round and depth == width else min(depth, 1.1)
    top = rng.uniform(0.015, 0.07)
    parts, role = _table_top(rng, width, height, depth, top, is_round=is_round)
    knee = height - top
    shrink = 0.68 if is_round else rng.uniform(0.84, 1.0)
    w, d = width * shrink, depth * shrink
    if base == "legs":
        parts += _table_legs(rng, w, d, knee, role, use)
    elif base == "pedestal":
        parts += _pedestal_foot(rng, knee, min(width, depth))
    elif base == "two pedestals":
        for s in (-1, 1):
            parts += moved(_pedestal_foot(rng, knee, 0.75 * depth), x=s * 0.3 * width)
    elif base == "trestle":
        parts += _trestle(rng, w, d, knee, role)
    elif base == "cross":
        size = rng.uniform(0.03, 0.07)
        for s in (-1, 1):
            x = s * 0.42 * width
            parts += [beam((x, 0.02, -t * d / 2), (x, knee, t * d / 2), size, role=role) for t in (-1, 1)]
        parts.append(box(0.84 * width, size, size, at=(0, 0.5 * knee - size / 2, 0), role=role))
    elif base == "panels":
        parts += _panel_base(rng, w, d, knee, role)
    elif base == "sled":
        bar = rng.uniform(0.02, 0.06)
        for s in (-1, 1):
            parts += [
                part.turned("y", 90.0).moved(x=s * (w - bar) / 2) for part in frame(d, knee, bar, bar, role=pick(rng, ("metal", role)))
            ]
    else:
        size = rng.uniform(0.3, 0.6) * min(w, d)
        rings = [
            [(sx * k * size, y, sz * k * size * d / w) for sx, sz in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
            for k, y in ((0.6, 0.0), (0.35, 0.5 * knee), (0.7, knee))
        ]
        parts.append(loft(rings, role=role))
    if use == "dining" and chance(rng, 0.04):
        parts += [part for s in (-1, 1) for part in _plank_bench(width, s * (depth / 2 + 0.25), role)]
    return parts


def _table_top(rng: Rng, width: float, height: float, depth: float, top: float, *, is_round: bool) -> tuple[list[Part], str]:
    """Top plate (rectangle, soft rectangle, ellipse, boat, polygon; wood or glass) and the role of what carries it."""
    role = pick(rng, ("body", "body", "body", "wood", "metal"))
    y = height - top
    if is_round:
        segments = pick(rng, (32, 32, 32, 8, 6))
        if chance(rng, 0.15):
            return [plate(width, 0.012, depth, squareness=1.0, segments=32, at=(0, height - 0.012, 0), role="glass"),
                    plate(0.7 * width, top, 0.7 * depth, squareness=1.0, at=(0, y - 0.01, 0))], role
        return [plate(width, top, depth, squareness=1.0, segments=segments, at=(0, y, 0), bevel=pick(rng, (0.0, 0.2 * top)))], role
    kind = pick(rng, ("square", "soft", "oval", "boat", "glass", "planks", "framed"), (6, 2, 1.2, 0.6, 1, 0.8, 0.7))
    if kind == "square":
        return [plate(width, top, depth, squareness=0.02, segments=16, at=(0, y, 0))], role
    if kind == "boat":
        curve = np.linspace(-1, 1, 7)
        outline = [(c * width / 2, depth / 2 * (1 - 0.25 * c * c)) for c in curve] + [
            (-c * width / 2, -depth / 2 * (1 - 0.25 * c * c)) for c in curve
        ]
        return [extrude(outline, top, axis="y", at=(0, y + top / 2, 0))], role
    if kind == "planks":
        count = int(rng.integers(3, 7))
        return [box(width, top, depth / count - 0.012, at=(0, y, (k + 0.5 - count / 2) * depth / count)) for k in range(count)], role
    if kind in ("glass", "framed"):
        border = rng.uniform(0.03, 0.12)
        rim = [box(width, top, border, at=(0, y, s * (depth - border) / 2)) for s in (-1, 1)]
        rim += [box(border, top, depth - 2 * border, at=(s * (width - border) / 2, y, 0)) for s in (-1, 1)]
        filling = box(
            width - 2 * border,
            0.01,
            depth - 2 * border,
            at=(0, height - rng.uniform(0.012, 0.02), 0),
            role="glass" if kind == "glass" else "accent",
        )
        return [*rim, filling], role
    return [
        plate(width, top, depth, squareness=rng.uniform(0.15, 0.35) if kind == "soft" else rng.uniform(0.7, 1.0), segments=32, at=(0, y, 0))
    ], role


def _table_legs(rng: Rng, width: float, depth: float, knee: float, role: str, use: str) -> list[Part]:
    """Four legs with apron, shelf, stretchers or drawers, or only some of these."""
    size = rng.uniform(0.03, 0.1)
    style = pick(rng, ("square", "taper", "round", "splay", "turned"), (5, 3, 2, 1.5, 1.5))
    parts = legs(rng, width, depth, knee, thickness=size, role=role, style=style)
    apron = min(rng.uniform(0.05, 0.14), 0.4 * knee)
    if chance(rng, 0.65):
        parts += [box(width - size, apron, 0.02, at=(0, knee - apron, s * (depth - size) / 2), role=role) for s in (-1, 1)]
        parts += [box(0.02, apron, depth - size, at=(s * (width - size) / 2, knee - apron, 0), role=role) for s in (-1, 1)]
        if chance(rng, 0.2):
            parts += drawers(rng, -width / 2 + size, width / 2 - size, knee - apron, knee, (depth - size) / 2 + 0.01, rows=1,
                             columns=int(rng.integers(1, 3)), role="body")
    if chance(rng, {"coffee": 0.4, "side": 0.4, "console": 0.4}.get(use, 0.06)):
        parts.append(
            box(width - size, 0.02, depth - size, at=(0, rng.uniform(0.2, 0.45) * knee, 0), role=pick(rng, ("body", "glass", role)))
        )
    elif chance(rng, 0.2):
        y = rng.uniform(0.1, 0.4) * knee
        parts += [box(0.6 * size, 0.6 * size, depth - size, at=(s * (width - size) / 2, y, 0), role=role) for s in (-1, 1)]
        parts.append(box(width - size, 0.6 * size, 0.6 * size, at=(0, y, 0), role=role))
    return parts


def _pedestal_foot(rng: Rng, knee: float, span: float) -> list[Part]:
    """Central column on a disc, a dome, three to five feet, or a turned baluster."""
    role, kind = pick(rng, ("body", "metal", "wood")), pick(rng, ("disc", "cone", "feet", "turned", "square"))
    slim = rng.uniform(0.025, 0.09)
    spread = rng.uniform(0.26, 0.4) * span
    if kind == "disc":
        return [cylinder(spread, 0.025, segments=24, role=role), cylinder(slim, knee - 0.02, at=(0, 0.02, 0), segments=14, role=role),
                cylinder(2 * slim, 0.02, at=(0, knee - 0.02, 0), segments=14, role=role)]
    if kind == "cone":
        return [
            lathe(
                [(0, 0), (spread, 0), (0.6 * spread, 0.06), (slim, 0.3 * knee), (0.8 * slim, 0.6 * knee), (2.5 * slim, knee), (0, knee)],
                role=role,
            )
        ]
    if kind == "square":
        return [box(1.6 * spread, 0.05, 1.6 * spread, role=role), box(3 * slim, knee - 0.05, 3 * slim, at=(0, 0.05, 0), role=role)]
    profile = [
        (0, 0.08),
        (slim, 0.08),
        (1.5 * slim, 0.3 * knee),
        (0.8 * slim, 0.5 * knee),
        (1.3 * slim, 0.55 * knee),
        (0.8 * slim, 0.6 * knee),
        (1.6 * slim, knee),
        (0, knee),
    ]
    column = (
        lathe(profile, segments=14, role=role) if kind == "turned" else cylinder(slim, knee - 0.06, at=(0, 0.06, 0), segments=12, role=role)
    )
    count = int(rng.integers(3, 6))
    high, parts = rng.uniform(0.1, 0.3) * knee + 0.06, [column]
    for k in range(count):
        angle = 2 * np.pi * k / count
        x, z = np.sin(angle), np.cos(angle)
        path = [(0, high, 0), (0.5 * spread * x, 0.7 * high, 0.5 * spread * z), (spread * x, 0.025, spread * z)]
        parts.append(tube(path, [0.035, 0.03, 0.025], segments=6, role=role))
    return parts


def _trestle(rng: Rng, width: float, depth: float, knee: float, role: str) -> list[Part]:
    """Two A- or T-shaped ends and a rail between them."""
    size, x = rng.uniform(0.04, 0.08), 0.36 * width
    parts = [box(2 * x, size, 0.5 * size, at=(0, rng.uniform(0.2, 0.6) * knee, 0), role=role)]
    is_a = chance(rng, 0.5)
    for s in (-1, 1):
        if is_a:
            parts += [beam((s * x, 0, t * 0.45 * depth), (s * x, knee, t * 0.12 * depth), size, role=role) for t in (-1, 1)]
            parts.append(box(size, 0.06, 0.6 * depth, at=(s * x, 0.3 * knee, 0), role=role))
        else:
            parts += [
                box(size, 0.06, 0.85 * depth, at=(s * x, 0, 0), role=role),
                box(size, knee, 0.25 * depth, at=(s * x, 0, 0), role=role),
                box(size, 0.06, 0.75 * depth, at=(s * x, knee - 0.06, 0), role=role),
            ]
    return parts


def _panel_base(rng: Rng, width: float, depth: float, knee: float, role: str) -> list[Part]:
    """Solid sides (a bridge), a box with open ends, a solid block, or crossing panels."""
    board, kind = rng.uniform(0.025, 0.1), pick(rng, ("bridge", "bridge", "case", "block", "crossed"))
    sides = [box(board, knee, depth, at=(s * (width - board) / 2, 0, 0), role=role) for s in (-1, 1)]
    if kind == "case":
        return [*sides, box(width - 2 * board, board, depth, at=(0, 0.03, 0), role=role),
                box(width - 2 * board, board, depth, at=(0, 0.5 * knee, 0), role=role)]
    if kind == "block":
        return [box(0.9 * width, 0.25 * knee, 0.9 * depth, role=role), box(0.7 * width, knee, 0.6 * depth, role=role)]
    if kind == "crossed":
        return [box(0.8 * width, knee, board, role=role), box(board, knee, 0.8 * depth, role=role)]
    return (
        [*sides, box(width - 2 * board, rng.uniform(0.05, 0.4) * knee, 0.02, at=(0, 0.5 * knee, 0), role=role)]
        if chance(rng, 0.5)
        else sides
    )


def _plank_bench(width: float, z: float, role: str) -> list[Part]:
    """Bench of a picnic table."""
    return [
        box(0.95 * width, 0.04, 0.26, at=(0, 0.41, z), role=role),
        *(box(0.06, 0.41, 0.2, at=(s * 0.38 * width, 0, z), role=role) for s in (-1, 1)),
    ]


@finished
def monitor(rng: Rng) -> list[Part]:
    """Screen: flat panel on a stand, curved panel, tube monitor, television, all-in-one, pair; at times with keyboard and mouse."""
    kind = pick(rng, ("flat", "tube", "television", "all in one", "pair", "curved", "bare"), (8, 2.5, 1.5, 1.5, 0.6, 0.8, 0.8))
    if kind == "tube":
        parts = _tube_monitor(rng)
    elif kind == "television":
        parts = _television(rng)
    elif kind == "pair":
        one = _flat_monitor(rng, "flat")
        half = max(float(part.vertices[:, 0].max()) for part in one) + 0.01
        parts = moved(turned(one, 8.0), x=-half) + moved(turned(one, -8.0), x=half)
    else:
        parts = _flat_monitor(rng, kind)
    if kind in ("flat", "tube", "all in one") and chance(rng, 0.15):
        parts += [box(rng.uniform(0.36, 0.46), 0.025, 0.15, at=(0, 0, 0.35), role="dark")]
        if chance(rng, 0.6):
            parts.append(ellipsoid(0.03, 0.03, 0.05, at=(0.3, 0.015, 0.35), segments=10, rings=6, role="dark"))
    return parts


def _panel(rng: Rng, wide: float, tall: float, thick: float, border: float, *, chin: float = 0.0) -> list[Part]:
    """Flat screen with a raised bezel, the bottom edge on y = 0 and the front on z = 0; the back may bulge."""
    parts = [box(wide, tall, 0.6 * thick, at=(0, 0, -0.7 * thick))]
    parts += [
        box(wide, border + chin, 0.4 * thick, at=(0, 0, -0.2 * thick)),
        box(wide, border, 0.4 * thick, at=(0, tall - border, -0.2 * thick)),
    ]
    inner = tall - 2 * border - chin
    parts += [box(border, inner, 0.4 * thick, at=(s * (wide - border) / 2, border + chin, -0.2 * thick)) for s in (-1, 1)]
    parts.append(box(wide - 2 * border, inner, 0.01, at=(0, border + chin, -0.3 * thick), role="screen"))
    if chance(rng, 0.55):
        share, deep = rng.uniform(0.4, 0.9), rng.uniform(0.6, 2.0) * thick
        rings = [[(sx * k * wide / 2, tall / 2 + sy * k * tall / 2, z) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
                 for k, z in ((share * 0.7, -thick - deep), (share, -thick - 0.4 * deep), (share, -0.9 * thick))]
        parts.append(loft(rings))
    return parts


def _flat_monitor(rng: Rng, kind: str) -> list[Part]:
    """Flat or curved panel and its stand; `all in one` has a chin and a bent foot, `bare` stands on its edge."""
    wide = rng.uniform(0.38, 0.75) if chance(rng, 0.8) else rng.uniform(0.75, 1.2)
    tall = wide * pick(rng, (0.5625, 0.625, 0.8, rng.uniform(0.42, 0.8)))
    if chance(rng, 0.04):
        wide, tall = tall, wide
    thick, border = rng.uniform(0.02, 0.07), rng.uniform(0.008, 0.04)
    chin = rng.uniform(0.05, 0.1) if kind == "all in one" else pick(rng, (0.0, 0.0, rng.uniform(0.01, 0.06)))
    if kind == "curved":
        across = np.linspace(-1, 1, 11)
        bow = rng.uniform(0.03, 0.1)
        grid = np.array([[(a * wide / 2, y, bow * a * a) for a in across] for y in (0.0, tall)])
        screen = grid * np.array([0.95, 0.92, 1.0]) + np.array([0.0, 0.04 * tall, 0.5 * thick])
        panel = [shell(grid, thick), shell(screen, 0.006, role="screen")]
        panel = moved(panel, z=-thick / 2)
    else:
        panel = _panel(rng, wide, tall, thick, border, chin=chin)
    if kind == "bare":
        return panel if chance(rng, 0.5) else panel + [box(0.03, 0.02, 0.2, at=(s * 0.35 * wide, 0, -thick / 2)) for s in (-1, 1)]
    lift, tilt = rng.uniform(0.04, 0.18), rng.uniform(-15, 4) if chance(rng, 0.7) else rng.uniform(-25, 0)
    panel = [part.turned("x", tilt, about=(0, tall / 2, 0)).moved(y=lift) for part in panel]
    return panel + _monitor_stand(rng, wide, lift, tall, thick, bent=kind == "all in one")


def _monitor_stand(rng: Rng, wide: float, lift: float, tall: float, thick: float, *, bent: bool) -> list[Part]:
    """Foot and neck behind the panel."""
    role = pick(rng, ("body", "body", "dark", "metal"))
    z, middle = -thick - 0.04, lift + 0.45 * tall
    if bent:
        neck = rng.uniform(0.12, 0.24)
        return [
            beam((0, 0.006, 0.1), (0, 0.006, z - 0.06), neck, 0.012, role=role),
            beam((0, 0.006, z - 0.06), (0, middle, z + 0.01), neck, 0.012, role=role),
        ]
    kind = pick(rng, ("oval", "square", "vee", "ring", "feet", "bar", "cross"), (3, 3, 1, 0.7, 0.8, 1, 0.6))
    foot, deep, neck = rng.uniform(0.3, 0.65) * wide, rng.uniform(0.14, 0.26), rng.uniform(0.03, 0.14)
    column = [beam((0, 0.01, z - 0.01), (0, middle, z), neck, rng.uniform(0.02, 0.05), role=role),
              box(neck + 0.03, 0.12, 0.04, at=(0, middle - 0.06, z + 0.02), role=role)]
    if kind == "oval":
        return [*column, plate(foot, rng.uniform(0.012, 0.03), deep, squareness=1.0, at=(0, 0, z + 0.02), role=role)]
    if kind == "square":
        return [*column, plate(foot, rng.uniform(0.01, 0.035), deep, squareness=rng.uniform(0.05, 0.3), at=(0, 0, z + 0.02), role=role)]
    if kind == "vee":
        return [*column, *(beam((0, 0.012, z - 0.02), (s * foot / 2, 0.012, z + deep), 0.035, 0.022, role=role) for s in (-1, 1))]
    if kind == "ring":
        angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        loop = [(foot / 2 * np.sin(a), 0.012, z + 0.03 + deep / 2 * np.cos(a)) for a in angles]
        return [*column, tube(loop, 0.012, segments=6, role=role, closed=True)]
    if kind == "feet":
        return [
            part
            for s in (-1, 1)
            for part in (
                post((s * 0.36 * wide, 0, z + deep / 2), (s * 0.33 * wide, lift + 0.05, z + 0.03), 0.025, role=role),
                post((s * 0.36 * wide, 0, z - deep / 2), (s * 0.33 * wide, lift + 0.05, z + 0.03), 0.025, role=role),
            )
        ]
    if kind == "bar":
        return [
            *column,
            box(foot, 0.02, 0.05, at=(0, 0, z), role=role),
            *(box(0.03, 0.015, deep, at=(s * foot / 2, 0, z + 0.02), role=role) for s in (-1, 1)),
        ]
    return [
        *column,
        *(
            beam((x0, 0.012, z + z0), (-x0, 0.012, z - z0), 0.035, 0.022, role=role)
            for x0, z0 in ((foot / 2, deep / 2), (foot / 2, -deep / 2))
        ),
    ]


def _tube_monitor(rng: Rng) -> list[Part]:
    """Cathode-ray monitor: deep tapering back, bulging screen, swivel foot."""
    wide = rng.uniform(0.34, 0.5)
    tall, deep, lip = wide * rng.uniform(0.8, 1.0), wide * rng.uniform(0.75, 1.1), rng.uniform(0.06, 0.16)
    border, lift = rng.uniform(0.03, 0.05), pick(rng, (0.0, rng.uniform(0.03, 0.08), rng.uniform(0.03, 0.08)))
    middle = 0.5 * tall
    parts = [
        *frame(wide, tall, border, lip, at=(0, 0, -lip / 2)),
        box(wide - 2 * border, tall - 2 * border, 0.02, at=(0, border, -lip + 0.02)),
    ]
    screen = ellipsoid(
        wide / 2 - border, tall / 2 - border, 0.05, at=(0, middle, -0.05), segments=16, rings=9, squareness=0.35, role="screen"
    )
    stages = [
        (0.98, 0.98, -lip),
        (0.9, 0.92, -lip - 0.15 * deep),
        (rng.uniform(0.5, 0.75), rng.uniform(0.5, 0.8), -0.9 * deep),
        (0.45, 0.45, -deep),
    ]
    rings = [
        [(sx * kx * wide / 2, middle + sy * ky * tall / 2, z) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        for kx, ky, z in stages[::-1]
    ]
    parts = moved([*parts, screen, loft(rings)], y=lift, z=0.4 * deep)
    if lift:
        parts += [cylinder(0.3 * wide, 0.02, segments=18), cylinder(0.18 * wide, lift + 0.02, top_radius=0.24 * wide, segments=14)]
    if chance(rng, 0.3):
        parts.append(box(0.9 * wide, 0.1, 0.9 * deep, at=(0, -0.1, 0.0)))
    return parts


def _television(rng: Rng) -> list[Part]:
    """Thick old television: box with the screen to one side or in the middle, knobs, short legs or aerials."""
    wide = rng.uniform(0.5, 0.8)
    tall, deep, lift = wide * rng.uniform(0.62, 0.85), wide * rng.uniform(0.4, 0.75), pick(rng, (0.0, 0.02, rng.uniform(0.05, 0.3)))
    panel = pick(rng, (0.0, 0.22 * wide))
    parts = (
        legs(rng, 0.85 * wide, 0.7 * deep, lift, thickness=0.03, role=pick(rng, ("wood", "dark")), style=pick(rng, ("splay", "square")))
        if lift
        else []
    )
    parts += [
        box(wide, tall, 0.6 * deep, at=(0, lift, 0.2 * deep)),
        box(0.75 * wide, 0.75 * tall, 0.5 * deep, at=(0, lift + 0.08 * tall, -0.25 * deep)),
    ]
    inner, z = wide - panel - 0.08, 0.5 * deep
    x = -panel / 2
    parts += frame(inner + 0.04, tall - 0.04, 0.03, 0.02, at=(x, lift + 0.02, z + 0.01))
    parts.append(ellipsoid(inner / 2 - 0.01, tall / 2 - 0.05, 0.03, at=(x, lift + tall / 2, z), squareness=0.35, role="screen"))
    if panel:
        parts += [
            cylinder(0.022, 0.03, axis="z", segments=10, at=(wide / 2 - panel / 2, lift + tall * h, z + 0.015), role="dark")
            for h in (0.8, 0.65)
        ]
    if chance(rng, 0.25):
        parts += [beam((0, lift + tall, 0), (s * 0.2, lift + tall + 0.28, 0), 0.008, role="metal") for s in (-1, 1)]
    return parts


FURNITURE: dict[str, Generator] = {
    "bathtub": bathtub,
    "bed": bed,
    "chair": chair,
    "desk": desk,
    "dresser": dresser,
    "monitor": monitor,
    "night stand": night_stand,
    "sofa": sofa,
    "table": table,
    "toilet": toilet,
}
