"""Parametric chairs (object frame of `parts`; every size is ours, plausible furniture in metres)."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.carpentry import Rng, arc_sheet, beam, bent_sheet, cushion, finished, legs, plate, post
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, extrude, lathe, tube


@finished
def chair(rng: Rng) -> list[Part]:
    """Chair of one of nine builds: dining, office, tube frame, shell, upholstered, tub, folding, lounge, one piece of boards."""
    build = pick(rng, (_dining_chair, _office_chair, _tube_chair, _shell_chair, _upholstered_chair, _tub_chair, _folding_chair,
                       _lounge_chair, _board_chair), (5, 2, 1.6, 1.6, 2, 1.3, 0.8, 0.9, 1))
    return build(rng)


def _dining_chair(rng: Rng) -> list[Part]:
    width, depth = rng.uniform(0.38, 0.54), rng.uniform(0.38, 0.5)
    seat = rng.uniform(0.6, 0.78) if chance(rng, 0.12) else rng.uniform(0.4, 0.5)
    top = seat + (rng.uniform(0.15, 0.3) if chance(rng, 0.2) else rng.uniform(0.35, 0.65))
    leg, rake = rng.uniform(0.025, 0.055), rng.uniform(0.0, 0.12)
    role = pick(rng, ("body", "body", "wood", "metal"))
    x, z = width / 2 - leg / 2, depth / 2 - leg / 2
    style = pick(rng, ("square", "taper", "round", "splay", "turned"), (4, 3, 3, 2, 1))
    parts = legs(rng, width, depth, seat, thickness=leg, role=role, style=style)
    pad = rng.uniform(0.02, 0.08)
    squareness = pick(rng, (0.05, 0.25, 0.5, 1.0), (5, 3, 2, 1))
    parts.append(plate(width, pad, depth, squareness=squareness, at=(0, seat - 0.02, 0), bevel=min(0.01, pad / 4),
                       role=pick(rng, ("body", "fabric", "body"))))
    if chance(rng, 0.5):
        rail = rng.uniform(0.04, 0.08)
        parts += [box(2 * x, rail, 0.02, at=(0, seat - rail, side * z), role=role) for side in (-1, 1)]
        parts += [box(0.02, rail, 2 * z, at=(side * x, seat - rail, 0), role=role) for side in (-1, 1)]
    if style != "splay" and chance(rng, 0.45):
        level = rng.uniform(0.15, 0.45) * seat
        parts += [beam((side * x, level, -z), (side * x, level, z), 0.6 * leg, role=role) for side in (-1, 1)]
        cross = pick(rng, (0.0, z, -z))
        parts.append(beam((-x, level, cross), (x, level, cross), 0.6 * leg, role=role))
    back = _back(rng, width, seat, top, -z, rake, leg, role)
    arms = _arms(rng, width, depth, seat, leg, role) if chance(rng, 0.35) else []
    return parts + back + arms


def _back(rng: Rng, width: float, seat: float, top: float, z: float, rake: float, leg: float, role: str) -> list[Part]:
    """Back between two uprights (or an arched hoop) from the seat to `top`, leaning back by `rake` metres."""
    x = width / 2 - leg / 2
    kind = pick(rng, ("ladder", "slats", "panel", "solid", "hoop", "cross", "splat", "frame", "rail"), (3, 3, 3, 3, 1.5, 1, 1.5, 1, 1))

    def at(share: float) -> tuple[float, float]:
        return seat + share * (top - seat), z - rake * share

    high, z_top = at(1.0)
    if kind == "solid":
        bow = rng.uniform(0.0, 0.08)
        start = pick(rng, (0.0, 0.1, 0.3))
        path = [(at(s)[1], at(s)[0]) for s in np.linspace(start, 1.0, 5)]
        flare = width * np.linspace(1.0, rng.uniform(0.7, 1.1), 5)
        return [bent_sheet(path, flare.tolist(), rng.uniform(0.015, 0.07), bow=bow),
                *([beam((s * 0.6 * x, seat - 0.01, z), (s * 0.6 * x, *at(start + 0.1)), leg, role=role) for s in (-1, 1)] if start else [])]
    if kind == "hoop":
        angles = np.linspace(0, np.pi, 11)
        hoop = [(-x * np.cos(a), *at(np.sin(a) ** 0.7)) for a in angles]
        rods = [tube([(f * x, seat, z), (f * x, *at(0.97 * (1 - f * f) ** 0.35))], 0.009, segments=5, role=role)
                for f in np.linspace(-0.7, 0.7, int(rng.integers(3, 8)))]
        return [tube(hoop, 0.45 * leg, segments=6), *rods]
    uprights = [beam((s * x, seat - 0.02, z), (s * x, high, z_top), leg, role=role) for s in (-1, 1)]
    rail = rng.uniform(0.04, 0.12)
    share = rail / (top - seat)
    crest = bent_sheet([(at(1 - share)[1], at(1 - share)[0]), (z_top, high)], width, 0.7 * leg, bow=pick(rng, (0.0, 0.03)))
    if kind == "rail":
        return [*uprights, crest]
    if kind == "ladder":
        steps = np.linspace(0.25, 0.75, int(rng.integers(1, 4)))
        return [*uprights, crest, *(beam((-x, *at(s)), (x, *at(s)), 0.4 * leg, rng.uniform(0.03, 0.06)) for s in steps)]
    low_y, low_z = at(rng.uniform(0.0, 0.3))
    if kind == "slats":
        slat = rng.uniform(0.015, 0.05)
        count = int(rng.integers(3, 8))
        return [
            *uprights,
            crest,
            *(beam((f * x, low_y, low_z), (f * x, *at(1 - share)), slat, 0.015) for f in np.linspace(-0.75, 0.75, count)),
        ]
    if kind == "splat":
        return [*uprights, crest, beam((0, seat, z), (0, *at(1 - share)), rng.uniform(0.08, 0.2), 0.02, taper=rng.uniform(0.7, 1.5))]
    if kind == "cross":
        return [*uprights, crest, *(beam((s * x, low_y, low_z), (-s * x, *at(1 - share)), 0.025, 0.02) for s in (-1, 1))]
    if kind == "frame":
        return [*uprights, crest, beam((-x, low_y, low_z), (x, low_y, low_z), leg)]
    panel = bent_sheet([(low_z, low_y), (at(0.6)[1], at(0.6)[0]), (at(0.93)[1], at(0.93)[0])], 1.9 * x, rng.uniform(0.02, 0.05),
                       role=pick(rng, ("body", "fabric")))
    return [*uprights, panel]


def _arms(rng: Rng, width: float, depth: float, seat: float, leg: float, role: str) -> list[Part]:
    """Two arm rests: rail on a post, closed panel or a bent tube."""
    kind, rise, x = pick(rng, ("post", "panel", "loop"), (4, 1, 2)), rng.uniform(0.16, 0.26), width / 2
    front, back, parts = depth / 2 - leg, -depth / 2, []
    for s in (-1, 1):
        if kind == "post":
            inset = rng.uniform(0.0, 0.02)
            parts += [post((s * (x - leg / 2), seat, front - inset), (s * (x + 0.01), seat + rise, front - 0.05), leg, role=role),
                      box(0.05, 0.025, depth, at=(s * (x + 0.01), seat + rise, 0))]
        elif kind == "panel":
            parts.append(box(0.04, rise + 0.05, depth, at=(s * (x + 0.01), seat - 0.05, 0)))
        else:
            loop = [
                (s * x, seat, front - 0.05),
                (s * x, seat + 0.8 * rise, front),
                (s * x, seat + rise, front - 0.06),
                (s * x, seat + rise, back),
            ]
            parts.append(tube(loop, 0.014, segments=6, role=role))
    return parts


def _star(rng: Rng, height: float, radius: float, *, role: str = "metal") -> list[Part]:
    """Swivel base: column up to `height`, four or five arms, castors or glides."""
    count, hub = int(rng.integers(4, 6)), rng.uniform(0.06, 0.1)
    castor = rng.uniform(0.022, 0.034)
    parts = [cylinder(rng.uniform(0.022, 0.035), height - hub, at=(0, hub, 0), segments=10, role=role)]
    for k in range(count):
        angle = 2 * np.pi * k / count
        tip = np.array([radius * np.sin(angle), 0.0, radius * np.cos(angle)])
        parts.append(beam((0, hub + 0.02, 0), tip + (0, 2 * castor, 0), 0.05, 0.03, taper=0.6, role=role))
        parts.append(cylinder(castor, 2 * castor, segments=8, at=tip, role="dark"))
    return parts


def _office_chair(rng: Rng) -> list[Part]:
    width, depth, seat = rng.uniform(0.42, 0.58), rng.uniform(0.42, 0.54), rng.uniform(0.4, 0.54)
    pad, rise, lean = rng.uniform(0.04, 0.12), rng.uniform(0.28, 0.75), rng.uniform(0.0, 0.12)
    parts = _star(rng, seat, rng.uniform(0.26, 0.36), role=pick(rng, ("metal", "dark")))
    parts.append(plate(width, pad, depth, squareness=pick(rng, (0.2, 0.5, 1.0), (4, 3, 1)), at=(0, seat, 0), bevel=0.25 * pad))
    z, base = -depth / 2 + 0.02, seat + pad
    gap = pick(rng, (0.0, rng.uniform(0.05, 0.15)))
    share = np.linspace(0.0, 1.0, 6)
    path = np.column_stack([z - lean * share - 0.03 * np.sin(np.pi * share), base + gap + share * rise])
    widths = width * pick(rng, (0.95, 0.8)) * (1 - rng.uniform(0.0, 0.35) * share**2)
    parts.append(bent_sheet(path, widths.tolist(), rng.uniform(0.025, 0.1), bow=rng.uniform(0.0, 0.1)))
    if gap or chance(rng, 0.5):
        parts.append(
            tube([(0, seat, 0), (0, seat, z - 0.05), (0, base + gap + 0.4 * rise, z - 0.06 - 0.4 * lean)], 0.02, segments=6, role="dark")
        )
    if chance(rng, 0.6):
        high = base + rng.uniform(0.14, 0.22)
        x = width / 2 + 0.02
        for s in (-1, 1):
            parts.append(box(0.06, 0.03, rng.uniform(0.2, 0.28), at=(s * x, high, 0), role="dark"))
            path3 = [(s * 0.6 * x, seat, 0), (s * x, seat + 0.02, 0), (s * x, high, 0)]
            parts.append(tube(path3, 0.015, segments=6, role="dark"))
    if chance(rng, 0.2):
        parts.append(cushion(0.5 * width, 0.14, 0.08, at=(0, base + gap + rise + 0.02, z - lean), role="body"))
    return parts


def _tube_chair(rng: Rng) -> list[Part]:
    """Cantilever or sled: bent steel tube under a seat and a back of sheet or pads."""
    width, depth, seat, radius = rng.uniform(0.42, 0.55), rng.uniform(0.4, 0.52), rng.uniform(0.41, 0.48), rng.uniform(0.01, 0.018)
    top, lean, kind = seat + rng.uniform(0.35, 0.5), rng.uniform(0.04, 0.14), pick(rng, ("cantilever", "sled", "sled arms"))
    x, f, b = width / 2, depth / 2, -depth / 2
    sides = []
    for s in (-1, 1):
        if kind == "cantilever":
            line = [(s * x, top, b - lean), (s * x, seat, b), (s * x, seat, f), (s * x, radius, f), (s * x, radius, b)]
        elif kind == "sled":
            line = [(s * x, top, b - lean), (s * x, seat, b), (s * x, radius, b + 0.02), (s * x, radius, f), (s * x, seat, f - 0.02)]
        else:
            high = seat + 0.2
            line = [(s * x, high, b), (s * x, high, f), (s * x, radius, f), (s * x, radius, b), (s * x, top, b - lean)]
        sides.append(tube(_densify(line), radius, segments=6, role="metal"))
    sides.append(tube([(-x, radius, b), (x, radius, b)], radius, segments=6, role="metal"))
    pad, bow = rng.uniform(0.015, 0.06), rng.uniform(0.0, 0.05)
    if kind != "cantilever" or chance(rng, 0.4):
        sides.append(tube([(-x, seat, f - 0.05), (x, seat, f - 0.05)], radius, segments=6, role="metal"))
    sides.append(bent_sheet([(b, seat + 0.01), (0.0, seat), (f, seat - 0.015)], 2 * x, pad))
    low = rng.uniform(0.1, 0.5)
    path = [(b - lean * t, seat + t * (top - seat)) for t in (low, 0.5 * low + 0.5, 1.0)]
    return [*sides, bent_sheet(path, 2 * x, pad, bow=bow)]


def _densify(line: list[tuple[float, float, float]], share: float = 0.04) -> list[tuple[float, float, float]]:
    """Cut the corners of a polyline, so that a tube along it bends without pinching."""
    points = np.asarray(line, dtype=float)
    rounded = [points[0]]
    for before, corner, after in zip(points[:-2], points[1:-1], points[2:], strict=True):
        for other in (before, after):
            step = other - corner
            rounded.append(corner + step * min(0.4, share / (np.linalg.norm(step) + 1e-9)))
    rounded.append(points[-1])
    return [tuple(point) for point in rounded]


def _shell_chair(rng: Rng) -> list[Part]:
    """Moulded bucket of plastic or plywood on dowels, a star, a tulip foot or a sled."""
    width, depth, seat = rng.uniform(0.42, 0.6), rng.uniform(0.4, 0.5), rng.uniform(0.4, 0.47)
    rise, lean = rng.uniform(0.3, 0.5), rng.uniform(0.06, 0.18)
    b = -depth / 2
    path = [(depth / 2 + 0.02, seat - 0.03), (depth / 4, seat), (0.0, seat - 0.015), (b * 0.7, seat - 0.005), (b, seat + 0.06),
            (b - 0.4 * lean, seat + 0.45 * rise), (b - 0.8 * lean, seat + 0.8 * rise), (b - lean, seat + rise)]
    bucket = rng.uniform(0.0, 0.14)
    waist = rng.uniform(0.7, 1.0)
    widths = width * np.array([0.85, 1.0, 1.0, 1.0, 1.0, waist, waist, 0.75 * waist])
    parts = [bent_sheet(path, widths.tolist(), rng.uniform(0.012, 0.03), bow=bucket, columns=9)]
    base = pick(rng, ("dowels", "star", "tulip", "four", "sled"))
    role = pick(rng, ("wood", "metal", "dark"))
    under = seat - 0.02
    if base == "star":
        parts += _star(rng, under, 0.28)
    elif base == "tulip":
        foot = rng.uniform(0.2, 0.28)
        parts.append(
            lathe([(0, 0), (foot, 0), (0.9 * foot, 0.015), (0.06, 0.06), (0.035, 0.5 * seat), (0.12, under), (0, under)], role="body")
        )
    elif base == "sled":
        x, f = 0.4 * width, 0.45 * depth
        parts += [
            tube(
                _densify([(s * 0.5 * x, under, f), (s * x, 0.012, f), (s * x, 0.012, -f), (s * 0.5 * x, under, -f)]),
                0.011,
                segments=6,
                role=role,
            )
            for s in (-1, 1)
        ]
    else:
        spread, inner = (0.42, 0.2) if base == "dowels" else (0.34, 0.27)
        size = rng.uniform(0.02, 0.04)
        for sx in (-1, 1):
            for sz in (-1, 1):
                foot_x, foot_z = sx * spread * width, sz * spread * depth
                parts.append(
                    post((foot_x, 0, foot_z), (sx * inner * width, under, sz * inner * depth), 0.7 * size, size, is_round=True, role=role)
                )
        if base == "dowels":
            h = 0.45 * seat
            parts += [beam((s * 0.32 * width, h, -0.3 * depth), (-s * 0.32 * width, h, 0.3 * depth), 0.01, role="metal") for s in (-1, 1)]
    return parts


def _upholstered_chair(rng: Rng) -> list[Part]:
    """Arm chair with a padded box seat: club, modern cube, wing chair, or armless slipper chair."""
    width, depth, seat = rng.uniform(0.6, 0.95), rng.uniform(0.6, 0.9), rng.uniform(0.36, 0.46)
    arm, back = rng.uniform(0.07, 0.2), rng.uniform(0.1, 0.24)
    top, lift = seat + rng.uniform(0.3, 0.65), pick(rng, (0.0, rng.uniform(0.05, 0.15)))
    wing, armless = chance(rng, 0.3), chance(rng, 0.15)
    top = max(top, seat + 0.5) if wing else top
    arm = 0.0 if armless else arm
    arm_top = seat + rng.uniform(0.1, 0.25)
    inner, pad = width - 2 * arm, rng.uniform(0.08, 0.16)
    parts = legs(rng, width - 0.04, depth - 0.04, lift + 0.01, thickness=0.05, role=pick(rng, ("wood", "metal", "dark"))) if lift else []
    parts.append(box(width, seat - pad - lift, depth, at=(0, lift, 0)))
    parts.append(cushion(inner, pad * 1.2, depth - back, at=(0, seat - pad, back / 2), role=pick(rng, ("body", "fabric")), squareness=0.2))
    lean = rng.uniform(0.0, 0.2)
    z = -depth / 2 + back / 2
    parts.append(
        bent_sheet(
            [(z, seat - pad), (z - 0.4 * lean, 0.5 * (seat + top)), (z - lean, top)],
            inner if chance(rng, 0.5) else width,
            back,
            bow=rng.uniform(0.0, 0.05),
        )
    )
    if armless:
        return parts
    rolled = chance(rng, 0.4)
    for s in (-1, 1):
        x = s * (width - arm) / 2
        parts.append(box(arm, arm_top - lift, depth, at=(x, lift, 0)))
        if rolled:
            parts.append(cylinder(0.62 * arm, depth, axis="z", segments=12, at=(x, arm_top, 0)))
        if wing:
            outline = [
                (-depth / 2, seat),
                (-0.05, arm_top),
                (-0.12, arm_top + 0.15),
                (-depth / 2 + 0.1 - lean, top),
                (-depth / 2 - lean, top),
            ]
            parts.append(extrude(outline, min(0.08, arm), axis="x", at=(x, 0, 0)))
    return parts


def _tub_chair(rng: Rng) -> list[Part]:
    """Barrel back that wraps round the seat, closed to the floor, on legs or on a foot."""
    radius, depth = rng.uniform(0.27, 0.42), rng.uniform(0.27, 0.42)
    seat, thick = rng.uniform(0.36, 0.46), rng.uniform(0.02, 0.1)
    rise = rng.uniform(0.25, 0.5)
    kind = pick(rng, ("closed", "legs", "foot"), (2, 2, 1))
    start = {"closed": 0.0, "legs": seat - 0.12, "foot": seat - 0.1}[kind]
    parts = [
        arc_sheet(
            radius,
            seat + rise - start,
            thick,
            span_deg=rng.uniform(170, 250),
            depth=depth,
            y=start,
            lean=rng.uniform(0.0, 0.08),
            drop=rng.uniform(0.0, 0.7) * rise,
        )
    ]
    pad = rng.uniform(0.06, 0.16)
    parts.append(plate(2 * radius - thick, pad, 2 * depth - thick, squareness=pick(rng, (1.0, 0.6)), at=(0, seat - pad, 0), bevel=0.02,
                       role=pick(rng, ("body", "fabric"))))
    if kind == "closed":
        parts.append(plate(2 * radius - thick, seat - pad, 2 * depth - thick, squareness=1.0))
    elif kind == "legs":
        parts += legs(rng, 1.5 * radius, 1.5 * depth, seat - pad + 0.01, thickness=rng.uniform(0.03, 0.05))
    else:
        parts += [cylinder(0.035, seat - pad, segments=10, role="metal"), cylinder(0.75 * radius, 0.02, segments=20, role="metal")]
    return parts


def _folding_chair(rng: Rng) -> list[Part]:
    width, depth, seat = rng.uniform(0.4, 0.5), rng.uniform(0.36, 0.46), rng.uniform(0.42, 0.48)
    top, bar, x = seat + rng.uniform(0.3, 0.45), rng.uniform(0.016, 0.035), width / 2
    role = pick(rng, ("metal", "wood", "body"))
    parts = []
    for s in (-1, 1):
        parts += [beam((s * x, 0, 0.5 * depth), (s * x, top, -0.5 * depth - 0.06), bar, role=role),
                  beam((s * (x - bar), 0, -0.5 * depth - 0.04), (s * (x - bar), seat, 0.3 * depth), bar, role=role)]
    parts += [beam((-x, 0.18, 0.31 * depth), (x, 0.18, 0.31 * depth), 0.7 * bar, role=role),
              beam((-x, 0.1, -0.38 * depth), (x, 0.1, -0.38 * depth), 0.7 * bar, role=role)]
    parts.append(plate(width - 2 * bar, 0.02, depth, squareness=0.15, at=(0, seat, 0.02)))
    high = rng.uniform(0.1, 0.2)
    slope = (0.06 + depth) / top
    for low in ((top - high, top - 0.02),) if chance(rng, 0.6) else ((top - 0.07, top), (top - 0.2, top - 0.13)):
        path = [(0.5 * depth - slope * y + 0.01, y) for y in low]
        parts.append(bent_sheet(path, width, 0.018, bow=0.02))
    return parts


def _lounge_chair(rng: Rng) -> list[Part]:
    """Low reclined chair: garden chair of boards, sling chair, rocker, or lounge chair on a plinth."""
    width, seat, lean = rng.uniform(0.5, 0.7), rng.uniform(0.3, 0.42), rng.uniform(0.15, 0.4)
    depth, rise, x = rng.uniform(0.5, 0.62), rng.uniform(0.45, 0.7), width / 2
    f, b = depth / 2, -depth / 2
    frame_role = pick(rng, ("wood", "body", "metal"))
    low = seat - 0.08
    path = [(f, seat), (0, 0.5 * (seat + low)), (b, low), (b - 0.5 * lean, low + 0.5 * rise), (b - lean, low + rise)]
    parts = []
    if chance(rng, 0.5):
        count = int(rng.integers(4, 7))
        slat = width / count
        parts += [bent_sheet(path, 0.8 * slat, 0.02, columns=2).moved(x=(k + 0.5) * slat - x) for k in range(count)]
    else:
        parts.append(bent_sheet(path, width - 0.06, rng.uniform(0.02, 0.12)))
    arm = seat + rng.uniform(0.15, 0.22)
    rockers = chance(rng, 0.35)
    for s in (-1, 1):
        parts += [
            beam((s * x, 0.03, f), (s * x, arm, f), 0.045, role=frame_role),
            beam((s * x, 0.03, b), (s * x, arm, b - 0.05), 0.045, role=frame_role),
            box(rng.uniform(0.05, 0.12), 0.025, depth + 0.12, at=(s * x, arm, 0), role=frame_role),
        ]
        parts.append(beam((s * x, seat - 0.05, f), (s * x, low - 0.02, b - 0.1), 0.03, 0.07, role=frame_role))
        if rockers:
            arc = np.linspace(-0.7, 0.7, 7)
            parts.append(tube([(s * x, 0.02 + 0.14 * a * a, 1.1 * depth * a) for a in arc], 0.02, segments=5, role=frame_role))
    return parts


def _board_chair(rng: Rng) -> list[Part]:
    """Chair whose legs are panels: cube, side panels, plank front and back, or a bent Z."""
    width, depth, seat = rng.uniform(0.4, 0.55), rng.uniform(0.38, 0.5), rng.uniform(0.4, 0.48)
    board, top, lean = rng.uniform(0.025, 0.06), seat + rng.uniform(0.3, 0.65), rng.uniform(0.0, 0.1)
    b, kind = -depth / 2, pick(rng, ("sides", "block", "z", "planks", "arms"))
    parts = [box(width, board, depth, at=(0, seat - board, 0)),
             beam((0, seat - 0.5 * board, b), (0, top, b - lean), width, board)]
    if kind in ("sides", "arms"):
        high = seat + (0.2 if kind == "arms" else 0.0)
        parts += [box(board, high, depth, at=(s * (width / 2), 0, 0)) for s in (-1, 1)]
    elif kind == "block":
        parts.append(box(width - 0.02, seat - board, depth - 0.02))
    elif kind == "planks":
        parts += [box(width, seat - board, board, at=(0, 0, s * (depth / 2 - board))) for s in (-1, 1)]
    else:
        parts += [beam((0, 0.5 * board, b), (0, seat - board, depth / 2 - board), width, board), box(width, board, depth, at=(0, 0, 0))]
    if chance(rng, 0.3):
        parts.append(cushion(0.95 * width, 0.07, 0.95 * depth, at=(0, seat, 0)))
    return parts
