"""Parametric bathtubs, toilets and sinks (object frame of `parts`; every size is ours, plausible fittings in metres)."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.carpentry import Rng, carcass, doors, drawers, faucet, finished, legs, moved, plate, ring, turned
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, Points, box, cylinder, ellipsoid, lathe, loft, tube


@finished
def bathtub(rng: Rng) -> list[Part]:
    """Hollow tub, length along x: built-in, oval, on claw feet, on a plinth, corner, round, or let into a platform."""
    kind = pick(rng, ("built-in", "oval", "claw", "corner", "round", "platform", "boxy"), (4, 3, 2, 1.6, 0.7, 1.5, 1.2))
    length, width, height = rng.uniform(1.4, 1.95), rng.uniform(0.68, 0.95), rng.uniform(0.42, 0.62)
    if kind == "corner":
        return _corner_tub(rng, rng.uniform(1.2, 1.6), height)
    if kind in ("oval", "claw", "round", "boxy"):
        return _free_tub(rng, kind, length, width, height)
    x, z = length / 2, width / 2
    if kind == "platform":
        x, z = x + rng.uniform(0.15, 0.4), z + rng.uniform(0.12, 0.35)
    rim = rng.uniform(0.05, 0.1)
    inner_x, inner_z = length / 2 - rim, width / 2 - rim
    lip = pick(rng, (0.0, 0.015))
    outer = [ring(x, z, 0.0, squareness=0.03), ring(x, z, height - 3 * lip, squareness=0.03)]
    if lip:
        outer += [ring(x + lip, z + lip, height - 3 * lip, squareness=0.03), ring(x + lip, z + lip, height, squareness=0.03)]
    else:
        outer.append(ring(x, z, height, squareness=0.03))
    parts = [loft([*outer, *_basin(rng, inner_x, inner_z, height, rng.uniform(0.06, 0.14))])]
    if chance(rng, 0.3):
        parts.append(box(1.7 * x, 0.75 * height, 0.015, at=(0, 0.08, z + 0.007)))
    if chance(rng, 0.15):
        parts += [box(2 * x, 0.4 * height, 0.35, at=(0, 0, z + 0.17))] if kind == "platform" else []
    if chance(rng, 0.2):
        wall = rng.uniform(0.3, 1.2)
        parts.append(box(2 * x, wall, 0.03, at=(0, height, -z + 0.015), role=pick(rng, ("body", "accent"))))
        if chance(rng, 0.6):
            side = pick(rng, (-1, 1))
            parts.append(box(0.03, wall, 2 * z, at=(side * (x - 0.015), height, 0), role="body"))
    if chance(rng, 0.12):
        parts.append(box(0.45 * length, 1.3, 0.012, at=(-0.5 * x, height, z - 0.03), role="glass"))
    return parts + _tub_fittings(rng, inner_x, inner_z, height)


def _basin(rng: Rng, x: float, z: float, height: float, floor: float) -> list[Points]:
    """Rings of the hollow from the rim down to the floor; one end slopes more, as a back rest."""
    square = rng.uniform(0.2, 0.8)
    taper, shift = rng.uniform(0.06, 0.16), rng.uniform(-0.06, 0.06)
    rings = []
    for share in (0.0, 0.15, 0.6, 0.92, 1.0):
        inset = taper * share + (0.05 if share == 1.0 else 0.0)
        rings.append(ring(x - 1.2 * inset, z - 0.8 * inset, height - share * (height - floor), squareness=square, at=(share * shift, 0.0)))
    return rings


def _free_tub(rng: Rng, kind: str, length: float, width: float, height: float) -> list[Part]:
    """Free-standing tub with walls of even thickness: oval or boxy on the floor, on a plinth, or on feet."""
    x, z = length / 2, width / 2
    if kind == "round":
        x = z = rng.uniform(0.6, 1.0)
    square = rng.uniform(0.05, 0.3) if kind == "boxy" else pick(rng, (1.0, rng.uniform(0.4, 0.9)))
    lift = pick(rng, (0.0, rng.uniform(0.08, 0.25))) if kind in ("oval", "claw") else 0.0
    y = {"claw": rng.uniform(0.1, 0.18)}.get(kind, pick(rng, (0.0, rng.uniform(0.03, 0.08))))
    wall, taper = rng.uniform(0.025, 0.07), rng.uniform(0.02, 0.22) if kind != "boxy" else rng.uniform(0.0, 0.06)
    base, bulge = 0.14 if kind == "claw" else 0.02, rng.uniform(0.5, 1.4)

    def level(share: float, inset: float) -> Points:
        inset += taper * max(0.0, 1 - share) ** bulge
        outline = ring(x - inset, z - 0.7 * inset, y + share * (height - y), squareness=square)
        outline[:, 1] += lift * share * (outline[:, 0] / x) ** 2
        return outline

    roll = pick(rng, (0.0, -rng.uniform(0.015, 0.04)))
    outer = [
        level(0.0, base),
        *(level(share, 0.0) for share in (0.06, 0.4, 0.85, 1.0)),
        *((level(1.0, roll), level(1.02, roll)) if roll else ()),
    ]
    top = 1.02 if roll else 1.0
    hollow = [level(share, wall * grow) for share, grow in ((top, 1.0), (0.85, 1.0), (0.5, 1.0), (0.22, 1.3), (0.14, 2.5))]
    parts = [loft([*outer, *hollow])]
    if kind == "claw":
        foot_x, foot_z, role = 0.62 * x, 0.6 * z, pick(rng, ("metal", "body", "dark"))
        for sx in (-1, 1):
            for sz in (-1, 1):
                path = [(sx * (foot_x + 0.06), 0.02, sz * (foot_z + 0.04)), (sx * (foot_x + 0.05), 0.4 * y, sz * (foot_z + 0.05)),
                        (sx * foot_x, y + 0.09, sz * foot_z)]
                parts.append(tube(path, [0.02, 0.022, 0.045], segments=6, role=role))
                parts.append(ellipsoid(0.035, 0.03, 0.035, at=(path[0][0], 0.03, path[0][2]), segments=8, rings=5, role=role))
    elif y:
        parts.append(
            loft(
                [ring(0.75 * x, 0.75 * z, level, squareness=square) for level in (0.0, y + 0.03)], role=pick(rng, ("body", "wood", "dark"))
            )
        )
    if kind == "round" and chance(rng, 0.6):
        parts.append(loft([ring(x + 0.3, 0.3 + z, level, squareness=square) for level in (0.0, 0.25)], role="wood"))
    return parts + _tub_fittings(rng, x - wall, z - wall, height, free=True)


def _corner_tub(rng: Rng, side: float, height: float) -> list[Part]:
    """Tub for the corner of a room: square with a rounded or cut front corner and an oval or like-shaped hollow."""
    count, half = 24, side / 2
    angles = np.linspace(0.0, 2 * np.pi, count, endpoint=False)
    direction = np.column_stack([np.sin(angles), np.cos(angles)])
    reach = half / np.abs(direction).max(axis=1)
    diagonal = direction @ np.array([np.sqrt(0.5), np.sqrt(0.5)])
    if chance(rng, 0.5):
        cut = rng.uniform(0.35, 0.75) * half
        reach = np.where(diagonal > 0.05, np.minimum(reach, (np.sqrt(0.5) * (2 * half - cut)) / diagonal.clip(0.05)), reach)
    else:
        offset = direction @ np.array([-half, -half])
        reach = np.minimum(reach, offset + np.sqrt(offset**2 + 2 * half**2 * rng.uniform(0.9, 1.1)))
    outline = direction * reach[:, None]

    def level(scale: float, y: float, oval: float) -> Points:
        plan = outline * (scale * (1 - oval)) + direction * (0.42 * side * scale * oval)
        return np.column_stack([plan[:, 0], np.full(count, y), plan[:, 1]])

    oval, rim = rng.uniform(0.0, 1.0), rng.uniform(0.78, 0.88)
    rings = [level(1.0, 0.0, 0.0), level(1.0, height, 0.0), level(rim, height, oval), level(0.92 * rim, 0.6 * height, oval),
             level(0.8 * rim, 0.22 * height, oval), level(0.7 * rim, 0.17 * height, oval)]
    parts = [loft(rings)]
    if chance(rng, 0.4):
        parts.append(plate(0.4 * side, 0.12, 0.3 * side, squareness=0.5, at=(-0.2 * side, 0.17 * height, -0.2 * side)))
    if chance(rng, 0.6):
        parts += faucet(rng.uniform(0.1, 0.22), 0.16, at=(-0.42 * side, height, -0.42 * side), turn_deg=45.0, taps=chance(rng, 0.5))
    return turned(parts, -45.0) if chance(rng, 0.5) else parts


def _tub_fittings(rng: Rng, x: float, z: float, height: float, *, free: bool = False) -> list[Part]:
    """Faucet at an end or at the back, waste, head rest; now and then none."""
    parts: list[Part] = []
    draw = rng.random()
    if draw < 0.35:
        parts += faucet(rng.uniform(0.1, 0.25), 0.15, at=(0.97 * x, height, 0), turn_deg=-90.0, taps=chance(rng, 0.6))
    elif draw < 0.55:
        parts += faucet(rng.uniform(0.1, 0.25), 0.14, at=(rng.uniform(-0.4, 0.4) * x, height, -0.98 * z), taps=chance(rng, 0.6))
    elif draw < 0.62 and free:
        parts += faucet(height + 0.35, 0.25, at=(0, 0, -z - 0.14), radius=0.018)
    if chance(rng, 0.2):
        parts.append(ellipsoid(0.06, 0.1, 0.16, at=(-0.9 * x, height - 0.02, 0), segments=10, rings=6, role="fabric"))
    return parts


@finished
def toilet(rng: Rng) -> list[Part]:
    """Toilet with a hollow bowl: tank on the bowl, one piece, into the wall, high cistern, bidet, or urinal."""
    kind = pick(rng, ("tank", "one piece", "wall", "high", "bidet", "urinal"), (6, 2.5, 1.6, 0.4, 0.7, 0.3))
    if kind == "urinal":
        return _urinal(rng)
    half, front, height = rng.uniform(0.165, 0.21), rng.uniform(0.24, 0.36), rng.uniform(0.36, 0.44)
    back, square = rng.uniform(0.16, 0.24), pick(rng, (1.0, rng.uniform(0.7, 1.0), rng.uniform(0.25, 0.6)), (3, 2, 1.5))
    floor = rng.uniform(0.16, 0.24) if kind == "wall" and chance(rng, 0.7) else 0.0
    parts = [_bowl(rng, half, front, back, height, square, floor)]
    rear = -back - rng.uniform(0.0, 0.04)
    if kind != "bidet":
        parts += _seat(rng, half, front, back, height, square)
        if chance(rng, 0.4):
            parts += [box(0.04, 0.035, 0.05, at=(s * 0.08, height, -0.83 * back), role="metal") for s in (-1, 1)]
        if chance(rng, 0.25):
            pipe = [(0.7 * half, 0.12, rear), (0.7 * half, 0.2, rear - 0.05), (0.7 * half, height + 0.02, rear - 0.05)]
            parts.append(tube(pipe, 0.012, segments=6, role="metal"))
        if chance(rng, 0.3):
            parts += (
                [ellipsoid(0.018, 0.02, 0.018, at=(s * 0.85 * half, 0.01, -0.3 * back), segments=8, rings=5) for s in (-1, 1)]
                if not floor
                else []
            )
    else:
        parts += faucet(0.1, 0.1, at=(0, height, -0.85 * back), taps=chance(rng, 0.5))
    if kind in ("tank", "one piece"):
        parts += _tank(rng, half, back, height, rear, merged=kind == "one piece")
    elif kind == "wall":
        wide, high = rng.uniform(0.45, 0.9), pick(rng, (rng.uniform(0.85, 1.2), rng.uniform(0.5, 0.8)))
        parts.append(box(wide, high, 0.12, at=(0, 0, rear - 0.05), role=pick(rng, ("body", "accent"))))
        parts.append(box(0.22, 0.14, 0.015, at=(0, high - 0.18, rear + 0.015), role="metal"))
    elif kind == "high":
        top = rng.uniform(0.95, 1.6)
        parts.append(
            tube([(0, height - 0.05, rear + 0.05), (0, height + 0.05, rear - 0.03), (0, top, rear - 0.03)], 0.025, segments=8, role="metal")
        )
        parts.append(plate(0.45, 0.3, 0.2, squareness=0.1, at=(0, top, rear - 0.02)))
        parts.append(box(0.01, 0.5, 0.01, at=(0.2, top - 0.4, rear + 0.08), role="metal"))
    elif chance(rng, 0.5):
        parts.append(box(0.5 * half, 0.8 * height, 0.1, at=(0, floor, rear)))
    if chance(rng, 0.05):
        parts.append(cylinder(0.055, 0.1, axis="x", segments=12, at=(half + 0.2, height + 0.2, rear), role="light"))
    return parts


def _bowl(rng: Rng, half: float, front: float, back: float, height: float, square: float, floor: float) -> Part:
    """Egg-shaped hollow bowl on its foot (or hung at `floor` above the ground), open at the top."""
    foot, waist = rng.uniform(0.55, 0.85), rng.uniform(0.42, 0.8)
    skirted = chance(rng, 0.3)
    if skirted:
        foot, waist = rng.uniform(0.75, 0.92), rng.uniform(0.75, 0.95)
    tuck = rng.uniform(0.5, 0.8) if not skirted else rng.uniform(0.75, 0.95)

    def level(width: float, fore: float, aft: float, y: float) -> Points:
        return ring(half * width, front * fore, y, back=back * aft, squareness=square, segments=20)

    span = height - floor
    rings = [level(foot, tuck, 1.0, floor), level(foot * 0.98, tuck * 0.98, 1.0, floor + 0.08 * span),
             level(waist, 0.5 * (tuck + waist) * 0.9, 1.0, floor + 0.4 * span), level(0.86, 0.86, 1.0, floor + 0.72 * span),
             level(0.98, 0.98, 1.02, floor + 0.92 * span), level(1.0, 1.0, 1.02, height),
             level(0.72, 0.8, 0.55, height), level(0.66, 0.7, 0.5, height - 0.3 * span), level(0.35, 0.3, 0.2, height - 0.55 * span)]
    return loft(rings)


def _seat(rng: Rng, half: float, front: float, back: float, height: float, square: float) -> list[Part]:
    """Seat ring, and a lid that is closed, open or missing."""
    role, thick = pick(rng, ("body", "body", "accent", "wood", "dark")), rng.uniform(0.015, 0.03)
    over = 1.03

    def level(scale: float, y: float, hole: float = 1.0) -> Points:
        return ring(
            half * scale * hole, front * scale * (0.5 + 0.5 * hole), y, back=0.8 * back * scale * hole, squareness=square, segments=20
        )

    lid = pick(rng, ("closed", "open", "none", "all up"), (4, 4, 1.2, 0.6))
    y = height + 0.002
    parts = [
        loft(
            [level(over, y), level(over, y + thick), level(over, y + thick, 0.62), level(over, y, 0.62), level(over, y)],
            role=role,
            capped=False,
        )
    ]
    if lid == "none":
        return parts
    cover = loft([level(over, y + thick), level(over, y + 1.6 * thick), level(0.85 * over, y + 2.2 * thick)], role=role)
    if lid == "closed":
        return [*parts, cover]
    hinge = (0.0, y + thick, -0.8 * back)
    angle = -rng.uniform(90, 108)
    raised = [part.turned("x", angle, about=hinge) for part in (parts if lid == "all up" else [])]
    return [*(parts if lid == "open" else raised), cover.turned("x", angle, about=hinge).moved(z=-0.01)]


def _tank(rng: Rng, half: float, back: float, height: float, rear: float, *, merged: bool) -> list[Part]:
    """Cistern behind the bowl with its lid and lever or button; `merged` flows down to the floor in one piece."""
    wide, deep, tall = rng.uniform(0.36, 0.52), rng.uniform(0.15, 0.22), rng.uniform(0.28, 0.44)
    square, z = pick(rng, (0.08, 0.2, 0.4)), rear - deep / 2 + 0.06
    start = 0.0 if merged else height - 0.02
    if merged:
        tall = rng.uniform(0.18, 0.36)
        rings = [
            ring(0.7 * half, deep / 2, 0.0, squareness=0.3, at=(0.0, z)),
            ring(0.8 * half, deep / 2, 0.7 * height, squareness=0.3, at=(0.0, z)),
            ring(wide / 2, deep / 2, height + 0.08, squareness=square, at=(0.0, z)),
            ring(wide / 2, 0.45 * deep, height + tall, squareness=square, at=(0.0, z)),
        ]
    else:
        taper = rng.uniform(0.82, 1.0)
        rings = [ring(taper * wide / 2, taper * deep / 2, start, squareness=square, at=(0.0, z)),
                 ring(wide / 2, deep / 2, height + tall, squareness=square, at=(0.0, z))]
    top, lid = height + tall, rng.uniform(0.02, 0.045)
    parts = [loft(rings), plate(wide + 0.03, lid, deep + 0.025, squareness=square, at=(0, top, z), bevel=0.006)]
    if not merged:
        parts.append(box(1.2 * half, 0.06, back, at=(0, height - 0.06, rear + 0.4 * back)))
        if chance(rng, 0.5):
            parts.append(box(1.0 * half, height - 0.03, 0.12, at=(0, 0, rear + 0.07)))
    if chance(rng, 0.5):
        parts.append(cylinder(0.03, 0.012, segments=10, at=(0, top + lid, z), role="metal"))
    else:
        side = pick(rng, (-1, 1))
        parts.append(box(0.08, 0.018, 0.02, at=(side * 0.32 * wide, top - 0.06, z + deep / 2 + 0.012), role="metal"))
    return parts


def _urinal(rng: Rng) -> list[Part]:
    """Urinal on a piece of wall that reaches the floor."""
    high, half, deep = rng.uniform(0.95, 1.2), rng.uniform(0.16, 0.22), rng.uniform(0.28, 0.36)
    lip = rng.uniform(0.4, 0.55)
    rings = [
        ring(0.3 * half, 0.4 * deep, lip - 0.15, back=0.02),
        ring(0.9 * half, deep, lip, back=0.02),
        ring(half, deep, lip + 0.12, back=0.02),
        ring(0.85 * half, 0.85 * deep, lip + 0.12, back=0.015),
        ring(0.5 * half, 0.4 * deep, lip - 0.02, back=0.01),
    ]
    return [
        loft(rings),
        box(2 * half, high - lip, 0.08, at=(0, lip, 0.02)),
        box(2 * half + 0.15, high + 0.1, 0.05, at=(0, 0, -0.04), role="accent"),
        cylinder(0.018, 0.2, segments=8, at=(0, high, 0.03), role="metal"),
    ]


@finished
def sink(rng: Rng) -> list[Part]:
    """Wash-basin on a pedestal, in a counter or a cabinet, on the wall, a bowl on a stand, or a kitchen sink."""
    kind = pick(rng, ("pedestal", "cabinet", "wall", "vessel", "kitchen", "legs"), (3, 2.5, 1, 1.2, 2, 1))
    high = rng.uniform(0.8, 0.92)
    half, z = rng.uniform(0.22, 0.38), rng.uniform(0.19, 0.27)
    square, deep = pick(rng, (1.0, rng.uniform(0.4, 0.9), rng.uniform(0.1, 0.3))), rng.uniform(0.1, 0.18)
    if kind == "kitchen":
        return _kitchen_sink(rng, high)
    spout = faucet(rng.uniform(0.1, 0.28), rng.uniform(0.1, 0.16), at=(0, high, -0.85 * z), taps=chance(rng, 0.5))
    if kind in ("cabinet", "vessel"):
        wide, y = 2 * half + rng.uniform(0.05, 0.4), high - (rng.uniform(0.1, 0.15) if kind == "vessel" else deep)
        body = _vanity(rng, wide, y - 0.02, 2 * z + 0.02, may_open=kind == "vessel")
        if kind == "vessel":
            body.append(box(wide + 0.02, 0.03, 2 * z + 0.06, at=(0, y - 0.03, 0), role=pick(rng, ("wood", "body"))))
            bowl = loft([ring(0.5 * half, 0.5 * z, y, squareness=square), ring(0.7 * half, 0.75 * z, high, squareness=square),
                         ring(0.66 * half, 0.7 * z, high, squareness=square), ring(0.4 * half, 0.4 * z, y + 0.02, squareness=square)])
            return [*body, bowl, *moved(faucet(0.25, 0.14, at=(0, y, -0.9 * z)))]
        slab = [ring(wide / 2 + out, z + 0.01 + out, level, squareness=0.03)
                for level, out in ((y - 0.02, 0.0), (high - 0.04, 0.0), (high - 0.04, 0.02), (high, 0.02))]
        hollow = [
            ring(0.85 * half * s, 0.75 * z * s, high - d * deep, squareness=square)
            for s, d in ((1, 0), (0.92, 0.5), (0.6, 0.95), (0.2, 1.0))
        ]
        return [*body, loft([*slab, *hollow]), *spout]
    outer = [
        ring(half * s, z * s, high - d, squareness=square) for s, d in ((0.3, deep + 0.06), (0.75, deep * 0.8), (1.0, 0.04), (1.0, 0.0))
    ]
    hollow = [
        ring(half * s, z * s * 0.96, high - d, squareness=square, at=(0.0, 0.02)) for s, d in ((0.84, 0.0), (0.74, 0.5 * deep), (0.3, deep))
    ]
    parts = [loft([*outer, *hollow]), *spout]
    if chance(rng, 0.5):
        parts.append(box(1.6 * half, rng.uniform(0.03, 0.12), 0.03, at=(0, high - 0.01, -0.97 * z)))
    under = high - deep - 0.04
    if kind == "pedestal":
        r = rng.uniform(0.07, 0.11)
        profile = [(0, 0), (1.5 * r, 0), (1.4 * r, 0.04), (r, 0.12), (0.85 * r, 0.6 * under), (1.3 * r, under), (0, under)]
        parts.append(lathe(profile, segments=14, at=(0, 0, -0.02)).scaled(z=pick(rng, (1.0, 1.3))))
    elif kind == "legs":
        parts += legs(rng, 1.7 * half, 1.6 * z, high - 0.03, thickness=0.03, role="metal", style="round")
        parts += [box(1.7 * half, 0.02, 0.02, at=(0, 0.25, s * 0.75 * z), role="metal") for s in (-1, 1)]
    else:
        parts += [box(2 * half + 0.1, high + 0.2, 0.05, at=(0, 0, -z - 0.02), role="accent"),
                  tube([(0, under, 0), (0, under - 0.15, 0), (0, under - 0.2, -z)], 0.02, segments=6, role="metal")]
    return parts


def _vanity(rng: Rng, width: float, height: float, depth: float, *, may_open: bool = False) -> list[Part]:
    """Cupboard under a wash-basin: doors, drawers or open shelves, on the floor or on legs."""
    lift = pick(rng, (0.0, rng.uniform(0.06, 0.2)))
    parts = legs(rng, width, depth, lift, thickness=0.04, style="square") if lift else []
    if may_open and chance(rng, 0.35):
        return parts + carcass(width, height - lift, depth, y=lift, levels=[0.5], role="wood")
    parts.append(box(width, height - lift, depth, at=(0, lift, 0)))
    area = (-width / 2 + 0.02, width / 2 - 0.02, lift + 0.03, height - 0.02, depth / 2)
    return parts + (
        doors(rng, *area, columns=2) if chance(rng, 0.6) else drawers(rng, *area, rows=int(rng.integers(1, 4)), columns=pick(rng, (1, 2)))
    )


def _kitchen_sink(rng: Rng, high: float) -> list[Part]:
    """Steel sink with one or two hollows in a kitchen unit, a drainer beside it."""
    wide, deep, bowl = rng.uniform(0.6, 1.3), rng.uniform(0.5, 0.6), rng.uniform(0.14, 0.22)
    count = 2 if wide > 0.8 and chance(rng, 0.6) else 1
    edge, role = deep / 2, pick(rng, ("metal", "body", "metal"))
    parts = _vanity(rng, wide - 0.02, high - bowl - 0.02, deep - 0.04)
    centres = (0.0,) if count == 1 and wide < 0.8 else ((-0.24 * wide, 0.24 * wide) if count == 2 else (-0.24 * wide,))
    cell = wide / (2 if wide >= 0.8 else 1)
    for x in centres:
        slab = [ring(cell / 2, edge, y, squareness=0.02, at=(x, 0.0)) for y in (high - bowl - 0.02, high)]
        hollow = [
            ring(0.4 * cell * s, 0.72 * edge * s, high - d, squareness=0.2, at=(x, 0.04))
            for s, d in ((1, 0), (0.94, 0.9 * bowl), (0.7, bowl))
        ]
        parts.append(loft([*slab, *hollow], role=role))
    if count == 1 and wide >= 0.8:
        parts.append(box(cell, bowl + 0.02, deep, at=(0.24 * wide, high - bowl - 0.02, 0), role=role))
        parts += [box(0.8 * cell, 0.006, 0.012, at=(0.24 * wide, high, z), role=role) for z in np.linspace(-0.6, 0.6, 7) * edge]
    return [*parts, *faucet(rng.uniform(0.2, 0.35), 0.18, at=(0, high, -0.85 * edge), taps=chance(rng, 0.3))]
