"""Parametric sofas and beds (object frame of `parts`; every size is ours, plausible furniture in metres)."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.carpentry import Rng, arc_sheet, beam, bent_sheet, cushion, drawers, finished, legs, moved, plate, post, turned
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, ellipsoid, extrude, lathe, loft, tube


@finished
def sofa(rng: Rng) -> list[Part]:
    """Sofa: two to four seats with arms of several kinds, sectional, chaise longue, curved, or day-bed-like bench sofa."""
    kind = pick(rng, ("straight", "sectional", "chaise", "curved", "wood frame", "camelback"), (6, 2.5, 1, 0.9, 1, 1))
    if kind == "chaise":
        return _chaise(rng)
    if kind == "curved":
        return _curved_sofa(rng)
    if kind == "wood frame":
        return _frame_sofa(rng)
    seats = int(rng.integers(2, 5))
    arm = pick(rng, (0.0, rng.uniform(0.08, 0.32)), (0.15, 0.85))
    width = seats * rng.uniform(0.52, 0.72) + 2 * arm
    depth, seat = rng.uniform(0.75, 1.05), rng.uniform(0.34, 0.46)
    parts = _sofa_body(rng, width, depth, seat, arm, seats, camel=kind == "camelback")
    if kind == "sectional":
        reach = rng.uniform(0.6, 1.3)
        wing = rng.uniform(0.65, 0.95)
        side = pick(rng, (-1, 1))
        x = side * (width / 2 - wing / 2)
        parts.append(box(wing, 0.75 * seat, reach, at=(x, 0, depth / 2 + reach / 2)))
        parts.append(
            cushion(wing, 0.3 * seat, reach + 0.1, at=(x, 0.72 * seat, depth / 2 + reach / 2 - 0.05), role="body", squareness=0.15)
        )
        if chance(rng, 0.6):
            back = rng.uniform(0.12, 0.22)
            parts.append(box(back, seat + rng.uniform(0.1, 0.4), reach, at=(side * (width - back) / 2, 0, depth / 2 + reach / 2)))
        parts = moved(parts, z=-reach / 2)
    return parts


def _sofa_body(rng: Rng, width: float, depth: float, seat: float, arm: float, seats: int, *, camel: bool) -> list[Part]:
    """Base, seat cushions, back and arms of a straight sofa, standing on the floor or on short legs."""
    lift = pick(rng, (0.0, 0.04, rng.uniform(0.06, 0.14)))
    pad, back = rng.uniform(0.08, 0.16), rng.uniform(0.14, 0.3)
    top, inner = seat + rng.uniform(0.25, 0.5), width - 2 * arm
    parts = legs(rng, width - 0.06, depth - 0.06, lift + 0.01, thickness=0.05, role=pick(rng, ("wood", "metal", "dark"))) if lift else []
    parts.append(box(width - 0.01, seat - pad - lift, depth - 0.02, at=(0, lift, 0)))
    split, share = pick(rng, (1, seats, seats)), inner / seats
    soft = pick(rng, ("body", "body", "fabric"))
    over = pick(rng, (0.0, 0.02))
    for k in range(split):
        wide = inner / split
        parts.append(
            cushion(
                wide,
                1.15 * pad,
                depth - 0.8 * back + over,
                at=((k + 0.5) * wide - inner / 2, seat - pad, 0.4 * back + over / 2),
                role=soft,
                squareness=rng.uniform(0.1, 0.2),
            )
        )
    lean = rng.uniform(0.0, 0.16)
    z = -depth / 2 + back / 2
    if camel:
        curve = np.linspace(-1, 1, 9)
        outline = [(inner / 2, seat - pad), *((-c * inner / 2, top - 0.18 * abs(c) ** 1.5) for c in curve), (-inner / 2, seat - pad)]
        parts.append(extrude(outline[::-1], back, at=(0, 0, z)))
    else:
        parts.append(bent_sheet([(z, lift), (z, seat - pad), (z - lean, top)], width if chance(rng, 0.5) else inner, back, columns=2))
    if chance(rng, 0.6):
        high, thick = top - seat + rng.uniform(-0.08, 0.12), rng.uniform(0.12, 0.2)
        for k in range(seats):
            pillow = cushion(share, high, thick, at=(0, seat, 0), role=soft, squareness=rng.uniform(0.15, 0.3))
            parts.append(
                pillow.turned("x", -rng.uniform(5, 18), about=(0, seat, 0)).moved(x=(k + 0.5) * share - inner / 2, z=z + back / 2 + 0.03)
            )
    if arm:
        parts += _sofa_arms(rng, width, depth, seat, arm, top, lift)
    if chance(rng, 0.35):
        for s in (-1, 1) if chance(rng, 0.7) else (1,):
            pillow = cushion(0.42, 0.4, 0.14, at=(0, seat + 0.03, 0), role="accent", squareness=0.4)
            parts.append(
                pillow.turned("x", -20.0, about=(0, seat, 0)).turned("y", -s * 25.0).moved(x=s * (inner / 2 - 0.24), z=z + back / 2 + 0.22)
            )
    return parts


def _sofa_arms(rng: Rng, width: float, depth: float, seat: float, arm: float, top: float, lift: float) -> list[Part]:
    """Arms: box, rolled, sloping, soft, or open metal loops."""
    kind = pick(rng, ("box", "rolled", "slope", "soft", "loop", "full"), (4, 3, 1.5, 1.5, 0.6, 0.8))
    high = top if kind == "full" else seat + rng.uniform(0.08, 0.26)
    parts = []
    for s in (-1, 1):
        x = s * (width - arm) / 2
        if kind == "slope":
            outline = [(-depth / 2, lift), (depth / 2, lift), (depth / 2, seat + 0.02), (depth / 2 - 0.1, high), (-depth / 2, top)]
            parts.append(extrude(outline, arm, axis="x", at=(x, 0, 0)))
        elif kind == "soft":
            parts.append(plate(arm, high - lift, depth, squareness=0.3, bevel=0.35 * arm, at=(x, lift, 0), segments=16))
        elif kind == "loop":
            line = [(x, lift, depth / 2 - 0.05), (x, high, depth / 2 - 0.05), (x, high, -depth / 2 + 0.05), (x, lift, -depth / 2 + 0.05)]
            parts.append(tube(line, 0.02, segments=6, role="metal"))
            parts.append(box(min(arm, 0.12), 0.04, depth - 0.1, at=(x, high, 0)))
        else:
            parts.append(box(arm if kind != "rolled" else 0.8 * arm, high - lift, depth, at=(x, lift, 0)))
            if kind == "rolled":
                parts.append(cylinder(0.6 * arm, depth + 0.02, axis="z", segments=14, at=(x + s * 0.1 * arm, high, 0)))
    return parts


def _chaise(rng: Rng) -> list[Part]:
    """Long seat with a raised head end and, sometimes, half a back."""
    length, depth, seat = rng.uniform(1.5, 1.9), rng.uniform(0.6, 0.8), rng.uniform(0.36, 0.45)
    lift, pad, rise = rng.uniform(0.05, 0.15), rng.uniform(0.08, 0.16), rng.uniform(0.25, 0.5)
    x = length / 2
    parts = legs(rng, length - 0.05, depth - 0.05, lift, thickness=0.05)
    parts.append(box(length, seat - pad - lift + 0.01, depth, at=(0, lift - 0.005, 0)))
    parts.append(cushion(length, 1.1 * pad, depth, at=(0, seat - pad, 0), role=pick(rng, ("body", "fabric")), squareness=0.15))
    lean, thick = rng.uniform(0.05, 0.25), rng.uniform(0.08, 0.18)
    head = bent_sheet([(0, seat - pad), (-0.3 * lean, seat + 0.5 * rise), (-lean, seat + rise)], depth, thick, columns=2)
    parts.append(head.turned("y", 90.0).moved(x=-x + thick / 2))
    if chance(rng, 0.5):
        parts.append(cylinder(0.1, depth, axis="z", segments=12, at=(-x - lean + 0.05, seat + rise, 0)))
    if chance(rng, 0.6):
        outline = [(-x, seat - pad), (rng.uniform(0.0, 0.8) * x, seat - pad), (0.0, seat + 0.6 * rise), (-x - 0.6 * lean, seat + rise)]
        parts.append(extrude(outline, 0.1, at=(0, 0, -depth / 2 + 0.05)))
    return [part.mirrored() for part in parts] if chance(rng, 0.5) else parts


def _curved_sofa(rng: Rng) -> list[Part]:
    """Sofa on an arc: banana, half round, or U-shaped."""
    radius, span, deep = rng.uniform(0.8, 1.5), rng.uniform(90, 190), rng.uniform(0.5, 0.7)
    seat, rise = rng.uniform(0.36, 0.44), rng.uniform(0.25, 0.45)
    angles = np.deg2rad(np.linspace(-span / 2, span / 2, 13)) + np.pi
    arc = np.column_stack([np.sin(angles), np.cos(angles)])
    outline = np.concatenate([arc * radius, (arc * (radius - deep))[::-1]])
    parts = [
        extrude(outline, 0.6 * seat, axis="y", at=(0, 0.34 * seat, 0)),
        extrude(outline * np.array([1.0, 1.0]), 0.3 * seat, axis="y", at=(0, 0.85 * seat, 0.02), role=pick(rng, ("body", "fabric"))),
        extrude(
            np.concatenate([arc * (radius - 0.06), (arc * (radius - deep + 0.06))[::-1]]),
            0.05 * seat,
            axis="y",
            at=(0, 0.025 * seat, 0),
            role="dark",
        ),
        arc_sheet(radius, seat + rise, 0.16, span_deg=span, lean=rng.uniform(0.0, 0.1), drop=pick(rng, (0.0, 0.6)) * rise, columns=15),
    ]
    return moved(parts, z=radius / 2)


def _frame_sofa(rng: Rng) -> list[Part]:
    """Loose cushions on an open frame of wood or steel, with a slatted or open back."""
    seats, depth, seat = int(rng.integers(2, 4)), rng.uniform(0.7, 0.85), rng.uniform(0.38, 0.44)
    width, bar = seats * rng.uniform(0.55, 0.68) + 0.1, rng.uniform(0.035, 0.07)
    high, top = seat + rng.uniform(0.15, 0.22), seat + rng.uniform(0.35, 0.45)
    role, x, f, b = pick(rng, ("wood", "metal", "wood")), width / 2, depth / 2, -depth / 2
    parts = [box(width, bar, depth, at=(0, seat - 0.15 - bar, 0), role=role)]
    for s in (-1, 1):
        parts += [beam((s * x, 0, f), (s * x, high, f), bar, role=role), beam((s * x, 0, b), (s * x, top, b - 0.08), bar, role=role),
                  box(1.4 * bar, 0.6 * bar, depth + 0.05, at=(s * x, high, 0), role=role)]
    parts.append(beam((-x, top, b - 0.08), (x, top, b - 0.08), bar, role=role))
    parts += [
        beam((f * x, seat - 0.15, b), (f * x, top, b - 0.07), 0.03, 0.02, role=role)
        for f in np.linspace(-0.9, 0.9, int(rng.integers(2, 14)))
    ]
    share = (width - 0.1) / seats
    for k in range(seats):
        at = (k + 0.5) * share - width / 2 + 0.05
        parts.append(cushion(share, 0.17, depth, at=(at, seat - 0.15, 0.02), role="body", squareness=0.15))
        pillow = cushion(share, 0.5, 0.16, at=(0, seat - 0.02, 0), role="body", squareness=0.2).turned("x", -12.0, about=(0, seat, 0))
        parts.append(pillow.moved(x=at, z=b + 0.08))
    return parts


@finished
def bed(rng: Rng) -> list[Part]:
    """Bed, head at the back: frame with head and foot, platform, box spring, four-poster, bunk, sleigh, day bed, cot, with night tables."""
    kind = pick(rng, ("frame", "platform", "box spring", "posts", "bunk", "sleigh", "day bed", "cot"), (5, 2, 2, 1.2, 1.2, 1, 0.8, 0.4))
    width, length = pick(rng, (rng.uniform(0.85, 1.1), rng.uniform(1.3, 2.0)), (1, 2)), rng.uniform(1.9, 2.15)
    if kind == "bunk":
        return _bunk_bed(rng, rng.uniform(0.85, 1.1), length)
    if kind == "cot":
        return _cot(rng)
    if kind == "day bed":
        return _day_bed(rng, rng.uniform(0.8, 1.0), length)
    low, head = rng.uniform(0.15, 0.4), rng.uniform(0.7, 1.3)
    role, thick = pick(rng, ("body", "body", "wood")), rng.uniform(0.03, 0.1)
    mattress = rng.uniform(0.12, 0.3)
    b, f = -length / 2, length / 2
    if kind == "box spring":
        parts = [*legs(rng, width - 0.1, length - 0.1, 0.08, thickness=0.06), box(width, low, length, at=(0, 0.07, 0), role=role)]
        low += 0.07
    elif kind == "platform":
        border = rng.uniform(0.05, 0.3)
        parts = [box(width + border, 0.5 * low, length + border, at=(0, 0.35 * low, 0), role=role),
                 box(width - 0.2, 0.36 * low, length - 0.3, role="dark")]
        low *= 0.85
    else:
        side = rng.uniform(0.12, 0.25)
        low = max(low, side)
        parts = [box(0.04, side, length, at=(s * (width / 2 + 0.02), low - side + 0.06, 0), role=role) for s in (-1, 1)]
        parts.append(box(width, 0.05, length, at=(0, low - 0.05, 0), role="wood"))
    parts += bedding(rng, width, length, low, mattress)
    if kind == "posts":
        parts += _four_posts(rng, width, length, head, low, role)
    elif kind == "sleigh":
        parts += _sleigh_ends(rng, width, b, f, head, thick, role)
    else:
        if kind == "frame" or chance(rng, 0.6):
            parts += _bed_end(rng, width + 0.08, head, b - thick / 2, thick, role, low)
        if kind == "frame":
            foot = low + pick(rng, (0.06, rng.uniform(0.15, 0.5)))
            parts += _bed_end(rng, width + 0.08, foot, f + thick / 2, thick, role, low)
    if chance(rng, 0.22):
        parts += _bed_tables(rng, width, b, low)
    return parts


def bedding(rng: Rng, width: float, length: float, low: float, height: float) -> list[Part]:
    """Mattress from `low` upwards with pillows at the back and, mostly, a blanket that hangs over the sides."""
    soft = pick(rng, ("fabric", "body", "light"))
    top = low + height
    parts = [plate(width, height, length, squareness=0.06, bevel=0.2 * height, at=(0, low, 0), role=soft, segments=16)]
    if chance(rng, 0.85):
        count = 1 if width < 1.15 else pick(rng, (2, 2, 2, 3, 4))
        wide, deep = rng.uniform(0.75, 0.92) * width / count, rng.uniform(0.32, 0.5)
        tilt = pick(rng, (0.0, 0.0, 35.0))
        for k in range(count):
            pillow = cushion(
                wide, rng.uniform(0.1, 0.18), deep, role=pick(rng, ("fabric", "light", "accent")), squareness=rng.uniform(0.3, 0.5)
            )
            parts.append(
                pillow.turned("x", tilt).moved(
                    (k + 0.5 - count / 2) * width / count, top - 0.02 + 0.005 * tilt, -length / 2 + deep / 2 + 0.06
                )
            )
    if chance(rng, 0.75):
        cover = length * rng.uniform(0.4, 0.8)
        drop = height * rng.uniform(0.3, 1.1)
        half, fat = width / 2 + 0.025, 0.02
        section = [(half, top - drop), (half, top + fat), (-half, top + fat), (-half, top - drop)]
        parts.append(loft([[(x, y, z) for x, y in section] for z in (length / 2 - cover, length / 2 + 0.02)]))
        if chance(rng, 0.4):
            parts.append(box(2 * half + 0.01, 0.05, 0.25, at=(0, top + 0.01, length / 2 - cover), role="accent"))
    return parts


def _bed_end(rng: Rng, width: float, height: float, z: float, thick: float, role: str, low: float) -> list[Part]:
    """Head- or footboard that stands on the floor at depth `z`."""
    kind = pick(rng, ("panel", "bars", "slats", "arched", "framed", "padded"), (4, 1.5, 1.5, 1.5, 1.5, 1.5))
    if height < low + 0.1 or kind == "panel":
        return [box(width, height, thick, at=(0, 0, z), role=role)]
    if kind == "padded":
        start = 0.7 * low
        count = int(rng.integers(1, 5))
        pads = [
            cushion(
                width / count,
                height - start,
                thick + 0.08,
                at=((k + 0.5 - count / 2) * width / count, start, z),
                role="body",
                squareness=0.12,
            )
            for k in range(count)
        ]
        return [box(width, height - 0.03, 0.5 * thick, at=(0, 0, z), role=role), *pads]
    if kind == "arched":
        curve, crown = np.linspace(1, -1, 9), rng.uniform(0.1, 0.3)
        outline = [(-width / 2, 0.0), (width / 2, 0.0), *((c * width / 2, height - crown * abs(c) ** 2) for c in curve)]
        return [extrude(outline, thick, at=(0, 0, z), role=role)]
    size = rng.uniform(0.04, 0.09)
    posts = [box(size, height + rng.uniform(0.0, 0.06), size, at=(s * (width - size) / 2, 0, z), role=role) for s in (-1, 1)]
    rails = [box(width - size, 0.07, 0.6 * size, at=(0, y, z), role=role) for y in (0.7 * low, height - 0.07)]
    if kind == "framed":
        return [*posts, *rails, box(width - size, height - 0.7 * low, 0.3 * size, at=(0, 0.7 * low, z), role=role)]
    if kind == "slats":
        count = int(rng.integers(2, 5))
        return [
            *posts,
            *rails,
            *(
                box(width - size, 0.09, 0.02, at=(0, 0.7 * low + (k + 0.6) * (height - 0.7 * low) / (count + 1), z), role=role)
                for k in range(count)
            ),
        ]
    bars = np.linspace(-0.5, 0.5, int(rng.integers(5, 14)))[1:-1] * (width - size)
    return [*posts, *rails, *(box(0.025, height - 0.7 * low - 0.05, 0.025, at=(x, 0.7 * low, z), role=role) for x in bars)]


def _four_posts(rng: Rng, width: float, length: float, head: float, low: float, role: str) -> list[Part]:
    """Corner posts up to a canopy frame, or knobbed posts of middle height; with head board."""
    size, x, z = rng.uniform(0.04, 0.09), width / 2 + 0.05, length / 2 + 0.03
    canopy = chance(rng, 0.65)
    high = rng.uniform(1.8, 2.2) if canopy else rng.uniform(1.2, 1.7)
    parts = [post((sx * x, 0, sz * z), (sx * x, high, sz * z), size, 0.7 * size, role=role) for sx in (-1, 1) for sz in (-1, 1)]
    if canopy:
        parts += [box(2 * x, 0.05, 0.04, at=(0, high - 0.03, s * z), role=role) for s in (-1, 1)]
        parts += [box(0.04, 0.05, 2 * z, at=(s * x, high - 0.03, 0), role=role) for s in (-1, 1)]
        if chance(rng, 0.4):
            parts.append(box(2 * x, 0.02, 2 * z, at=(0, high, 0), role="fabric"))
        if chance(rng, 0.3):
            parts += [box(0.15, high - 0.1, 0.03, at=(sx * (x - 0.06), 0.05, sz * z), role="fabric") for sx in (-1, 1) for sz in (-1, 1)]
    else:
        parts += [
            ellipsoid(0.8 * size, size, 0.8 * size, at=(sx * x, high, sz * z), segments=8, rings=5, role=role)
            for sx in (-1, 1)
            for sz in (-1, 1)
        ]
    return parts + _bed_end(rng, 2 * x, head, -z, 0.04, role, low)


def _sleigh_ends(rng: Rng, width: float, b: float, f: float, head: float, thick: float, role: str) -> list[Part]:
    """Head and foot that curl outwards."""
    parts = []
    for z, height, out in ((b, head, -1), (f, rng.uniform(0.5, 0.8), 1)):
        curl = rng.uniform(0.1, 0.22)
        path = [(z, 0.0), (z, 0.5 * height), (z + out * 0.3 * curl, 0.8 * height), (z + out * curl, height)]
        parts.append(bent_sheet(path, width + 0.08, thick, columns=2, role=role))
        parts.append(cylinder(0.6 * thick + 0.02, width + 0.1, axis="x", segments=10, at=(0, height, z + out * curl), role=role))
    return parts


def _bed_tables(rng: Rng, width: float, b: float, low: float) -> list[Part]:
    """Small night tables beside the head, sometimes with a lamp, as many CAD bedroom sets have."""
    wide, high = rng.uniform(0.38, 0.5), max(0.4, low + 0.15)
    parts = []
    for s in (-1, 1) if chance(rng, 0.8) else (1,):
        table = [box(wide, high, 0.4), *drawers(rng, -wide / 2, wide / 2, 0.03, high - 0.02, 0.2, rows=2)]
        if chance(rng, 0.3):
            table += [
                cylinder(0.03, 0.2, segments=8, at=(0, high, 0), role="metal"),
                cylinder(0.14, 0.18, top_radius=0.09, at=(0, high + 0.18, 0), role="light"),
            ]
        parts += moved(table, x=s * (width / 2 + wide / 2 + 0.08), z=b + 0.2)
    return parts


def _bunk_bed(rng: Rng, width: float, length: float) -> list[Part]:
    """Two beds above each other (or a loft bed with room below), ladder and guard rails."""
    size, high, role = rng.uniform(0.05, 0.08), rng.uniform(1.5, 1.8), pick(rng, ("body", "wood", "metal"))
    x, z = width / 2 + size / 2, length / 2
    upper, lower = high - 0.4, rng.uniform(0.25, 0.4)
    parts = [box(size, high, size, at=(sx * x, 0, sz * z), role=role) for sx in (-1, 1) for sz in (-1, 1)]
    for level in (upper,) if chance(rng, 0.2) else (upper, lower):
        parts += [box(0.03, 0.14, length, at=(s * x, level - 0.1, 0), role=role) for s in (-1, 1)]
        parts += [box(width, 0.14, 0.03, at=(0, level - 0.1, s * z), role=role) for s in (-1, 1)]
        parts += moved(bedding(rng, width - 0.02, length - 0.06, level - 0.06, 0.16))
    for s in (-1, 1):
        parts += [box(width, 0.06, 0.03, at=(0, y, s * z), role=role) for y in (high - 0.08, high - 0.24, lower + 0.3)]
    parts += [
        box(0.03, 0.07, length * (1.0 if s < 0 else 0.65), at=(s * x, high - 0.12, 0 if s < 0 else -0.17 * length), role=role)
        for s in (-1, 1)
    ]
    run, lean = 0.3 * length, rng.uniform(0.0, 0.3)
    parts += [beam((x + 0.04 + lean, 0, run + s * 0.18), (x + 0.04, high, run + s * 0.18), 0.04, role=role) for s in (-1, 1)]
    for t in np.linspace(0.15, 0.75, 5):
        parts.append(box(0.035, 0.03, 0.36, at=(x + 0.04 + lean * (1 - t), t * high, run), role=role))
    return parts


def _day_bed(rng: Rng, width: float, length: float) -> list[Part]:
    """Single bed with equal ends and a rail along one long side."""
    low, high, role = rng.uniform(0.25, 0.38), rng.uniform(0.7, 0.95), pick(rng, ("body", "wood", "metal"))
    parts = [
        box(width, 0.12, length, at=(0, low - 0.08, 0), role=role),
        *bedding(rng, width - 0.04, length - 0.06, low, rng.uniform(0.15, 0.22)),
    ]
    for s in (-1, 1):
        parts += _bed_end(rng, width + 0.06, high, s * length / 2, 0.05, role, low)
    return parts + turned(_bed_end(rng, length, high, -width / 2 - 0.04, 0.04, role, low), 90.0)


def _cot(rng: Rng) -> list[Part]:
    """Child's bed with bars all round."""
    width, length, high = rng.uniform(0.6, 0.75), rng.uniform(1.2, 1.45), rng.uniform(0.8, 1.0)
    low, role = rng.uniform(0.25, 0.4), pick(rng, ("body", "wood", "light"))
    parts = [box(0.05, high, 0.05, at=(sx * width / 2, 0, sz * length / 2), role=role) for sx in (-1, 1) for sz in (-1, 1)]
    parts += [box(0.03, 0.05, length, at=(s * width / 2, y, 0), role=role) for s in (-1, 1) for y in (high - 0.06, low - 0.1)]
    parts += [box(0.018, high - low, 0.018, at=(s * width / 2, low - 0.06, z), role=role)
              for s in (-1, 1) for z in np.linspace(-0.46, 0.46, int(rng.integers(8, 15))) * length]
    parts += [box(width, high - low + 0.1, 0.03, at=(0, low - 0.1, s * length / 2), role=role) for s in (-1, 1)]
    knobs = [lathe([(0, 0), (0.03, 0.01), (0.02, 0.04), (0, 0.05)], segments=8, at=(sx * width / 2, high, sz * length / 2), role=role)
             for sx in (-1, 1) for sz in (-1, 1)]
    return [
        *parts,
        box(width, 0.04, length, at=(0, low - 0.05, 0), role=role),
        *bedding(rng, width - 0.04, length - 0.04, low, 0.12),
        *knobs,
    ]
