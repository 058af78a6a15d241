"""Parametric desks, dressers and night stands (object frame of `parts`; every size is ours, plausible furniture in metres)."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.carpentry import Rng, carcass, doors, drawers, finished, frame, legs, moved, plate
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, ellipsoid, extrude


def _stand(rng: Rng, width: float, depth: float, *, tall: bool = False) -> tuple[list[Part], float]:
    """What a case stands on: nothing, a plinth, short legs, or (tall) long ones; returns the parts and their height."""
    kind = pick(rng, ("none", "plinth", "legs", "runners"), (3, 3, 4, 0.7))
    if kind == "none":
        return [], 0.0
    if kind == "plinth":
        height = rng.uniform(0.04, 0.12)
        return [
            box(width - rng.uniform(0.0, 0.06), height, depth - rng.uniform(0.0, 0.08), role=pick(rng, ("body", "dark", "wood")))
        ], height
    height = rng.uniform(0.2, 0.35) if tall else rng.uniform(0.06, 0.2)
    if kind == "legs":
        return legs(rng, width, depth, height, thickness=rng.uniform(0.03, 0.06), role=pick(rng, ("body", "wood", "metal"))), height
    loop = [part.turned("y", 90.0) for part in frame(depth, height, 0.02, 0.03, role="metal")]
    return [part for s in (-1, 1) for part in moved(loop, x=s * (width / 2 - 0.05))], height


def _case(rng: Rng, width: float, height: float, depth: float, y: float, *, top: float | None = None) -> list[Part]:
    """Closed case with a top board that overhangs a little, and sometimes corner posts."""
    lid = rng.uniform(0.015, 0.05) if top is None else top
    over = pick(rng, (0.0, rng.uniform(0.01, 0.04)))
    squareness = pick(rng, (0.02, 0.12))
    parts = [box(width, height - lid, depth, at=(0, y, 0)),
             plate(width + 2 * over, lid, depth + over, squareness=squareness, at=(0, y + height - lid, over / 2), segments=16,
                   role=pick(rng, ("body", "body", "wood", "accent")))]
    if chance(rng, 0.15):
        post = rng.uniform(0.03, 0.05)
        parts += [box(post, height - lid, post, at=(s * (width - post) / 2, y, depth / 2)) for s in (-1, 1)]
    return parts


@finished
def dresser(rng: Rng) -> list[Part]:
    """Chest of drawers: low and wide, tall, with doors, with a mirror, stepped, bow-fronted, or armoire-like."""
    kind = pick(rng, ("wide", "tall", "square", "doors", "mirror", "armoire", "stepped", "bow"), (4, 3, 3, 1.5, 2.5, 1, 0.8, 0.8))
    if kind in ("wide", "mirror", "doors"):
        width, height, depth = rng.uniform(1.1, 1.8), rng.uniform(0.7, 0.95), rng.uniform(0.42, 0.58)
        rows, columns = int(rng.integers(2, 5)), int(rng.integers(2, 4))
    elif kind == "tall":
        width, height, depth = rng.uniform(0.5, 0.95), rng.uniform(1.05, 1.5), rng.uniform(0.4, 0.52)
        rows, columns = int(rng.integers(4, 8)), int(rng.integers(1, 3)) if width > 0.75 else 1
    elif kind == "armoire":
        width, height, depth = rng.uniform(0.85, 1.2), rng.uniform(1.3, 1.9), rng.uniform(0.48, 0.62)
        rows, columns = int(rng.integers(2, 4)), int(rng.integers(1, 3))
    else:
        width, height, depth = rng.uniform(0.8, 1.15), rng.uniform(0.75, 1.1), rng.uniform(0.42, 0.55)
        rows, columns = int(rng.integers(3, 6)), int(rng.integers(1, 3))
    stand, y = _stand(rng, width, depth)
    front, inset = depth / 2, rng.uniform(0.015, 0.05)
    left, right, low, high = -width / 2 + inset, width / 2 - inset, y + inset, y + height - inset - 0.03
    role = pick(rng, ("body", "body", "body", "accent", "wood"))
    parts = stand + _case(rng, width, height, depth, y)
    if kind == "armoire":
        split = low + rng.uniform(0.3, 0.5) * (high - low)
        parts += drawers(rng, left, right, low, split, front, rows=rows, columns=columns, role=role)
        parts += doors(rng, left, right, split, high, front, role=role)
        parts.append(box(width + 0.08, 0.05, depth + 0.06, at=(0, y + height, 0)))
    elif kind == "doors":
        third = (right - left) * rng.uniform(0.25, 0.4)
        parts += doors(rng, left, left + third, low, high, front, columns=1, role=role)
        parts += drawers(rng, left + third, right, low, high, front, rows=rows, columns=columns - 1, role=role)
    elif kind == "stepped" or (columns > 1 and chance(rng, 0.3)):
        split = high - (high - low) / (rows + 0.5)
        parts += drawers(rng, left, right, low, split, front, rows=rows - 1, columns=max(1, columns - 1), role=role, graded=False)
        parts += drawers(rng, left, right, split, high, front, rows=1, columns=columns + 1, role=role)
    elif kind == "bow":
        parts += _bow_front(rng, width, low, high, front, rows)
    else:
        parts += drawers(rng, left, right, low, high, front, rows=rows, columns=columns, role=role)
    if kind == "stepped":
        parts.append(box(width * rng.uniform(0.5, 0.95), 0.2, depth * 0.5, at=(0, y + height, -depth * 0.2)))
    if kind == "mirror" or chance(rng, 0.08):
        parts += _mirror(rng, width, y + height, -depth / 2 + 0.05)
    return parts


def _bow_front(rng: Rng, width: float, low: float, high: float, front: float, rows: int) -> list[Part]:
    """Drawer fronts that bulge in the middle."""
    x = np.linspace(-0.5, 0.5, 7) * (width - 0.06)
    bulge = rng.uniform(0.03, 0.08)
    outline = np.concatenate([[(x[-1], -0.01), (x[0], -0.01)], np.column_stack([x, 0.01 + bulge * (1 - (2 * x / width) ** 2)])])
    pitch = (high - low) / rows
    parts = []
    for row in range(rows):
        y = low + row * pitch
        parts.append(extrude(outline, pitch - 0.015, axis="y", at=(0, y + pitch / 2, front)))
        parts += [
            ellipsoid(
                0.015, 0.015, 0.02, at=(s * 0.25 * width, y + pitch / 2, front + 0.8 * bulge + 0.02), segments=8, rings=5, role="metal"
            )
            for s in (-1, 1)
        ]
    return parts


def _mirror(rng: Rng, width: float, y: float, z: float) -> list[Part]:
    """Mirror on top of a dresser: framed rectangle, oval, three wings, or arched, on posts or directly on the top."""
    wide, tall = width * rng.uniform(0.45, 0.95), rng.uniform(0.5, 0.95)
    lift = pick(rng, (0.0, rng.uniform(0.03, 0.12)))
    border, kind = rng.uniform(0.03, 0.08), pick(rng, ("frame", "oval", "wings", "arch"), (4, 1.5, 1, 1))
    parts = [box(0.04, lift + 0.5 * tall, 0.03, at=(s * (wide / 2 + 0.02), y, z - 0.01)) for s in (-1, 1)] if lift else []
    y += lift
    if kind == "oval":
        stretch = rng.uniform(0.6, 0.9)
        rim = cylinder(tall / 2, 0.04, axis="z", segments=24, at=(0, 0, 0)).scaled(x=max(stretch, wide / tall * 0.7))
        glass = (
            cylinder(tall / 2 - border, 0.012, axis="z", segments=24, role="glass").scaled(x=max(stretch, wide / tall * 0.7)).moved(z=0.022)
        )
        return [*parts, *moved([rim, glass], y=y + tall / 2, z=z)]
    parts += frame(wide, tall, border, 0.04, at=(0, y, z))
    parts.append(box(wide - 2 * border, tall - 2 * border, 0.015, at=(0, y + border, z - 0.005), role="glass"))
    if kind == "wings":
        side = 0.4 * wide
        wing = [
            *frame(side, 0.9 * tall, border, 0.03),
            box(side - 2 * border, 0.9 * tall - 2 * border, 0.012, at=(0, border, 0), role="glass"),
        ]
        for s in (-1, 1):
            parts += [part.moved(x=s * side / 2).turned("y", -s * 30.0).moved(x=s * wide / 2, y=y, z=z) for part in wing]
    if kind == "arch":
        angles = np.linspace(0, np.pi, 9)
        parts.append(extrude(np.column_stack([0.5 * wide * np.cos(angles), 0.12 * np.sin(angles)]), 0.04, at=(0, y + tall, z)))
    return parts


@finished
def night_stand(rng: Rng) -> list[Part]:
    """Bedside cabinet, about as high as wide: drawers, drawer over a shelf, open cube, thin-legged, round, or with a door."""
    width, depth = rng.uniform(0.38, 0.66), rng.uniform(0.34, 0.5)
    height = rng.uniform(0.45, 0.72)
    kind = pick(rng, ("drawers", "shelf", "table", "door", "open", "round", "stepped"), (5, 3.5, 3.5, 1.5, 1, 0.8, 0.5))
    front, role = depth / 2, pick(rng, ("body", "body", "body", "accent", "wood"))
    if kind == "round":
        return _round_stand(rng, 0.5 * width, height)
    if kind == "table":
        return _bedside_table(rng, width, height, depth)
    stand, y = _stand(rng, width, depth, tall=chance(rng, 0.25))
    body, inset = height - y, rng.uniform(0.01, 0.04)
    left, right, low, high = -width / 2 + inset, width / 2 - inset, y + inset, height - inset - 0.025
    if kind in ("drawers", "door", "stepped"):
        parts = stand + _case(rng, width, body, depth, y)
        if kind == "door":
            split = high - rng.uniform(0.25, 0.4) * (high - low)
            parts += doors(rng, left, right, low, split, front, columns=pick(rng, (1, 1, 2)), role=role)
            parts += drawers(rng, left, right, split, high, front, rows=1, role=role)
        else:
            parts += drawers(rng, left, right, low, high, front, rows=pick(rng, (1, 2, 2, 3, 3, 4)), role=role)
        if kind == "stepped" or chance(rng, 0.1):
            parts.append(box(width, rng.uniform(0.08, 0.3), 0.03, at=(0, height, -depth / 2 + 0.015)))
        return parts
    board = rng.uniform(0.015, 0.035)
    levels = [rng.uniform(0.4, 0.7)] if kind == "shelf" else list(np.linspace(0, 1, int(rng.integers(2, 4)) + 1)[1:-1])
    parts = stand + carcass(width, body, depth, y=y, board=board, back=chance(rng, 0.75), levels=levels)
    over = pick(rng, (0.0, rng.uniform(0.01, 0.03)))
    parts.append(box(width + 2 * over, 0.02, depth + 2 * over, at=(0, height, 0)))
    if kind == "shelf":
        low, high = y + levels[0] * body, height - board
        parts.append(box(width - 2 * board, high - low, 0.9 * depth, at=(0, low, 0)))
        parts += drawers(rng, left, right, low, high, 0.45 * depth + 0.005, rows=int(rng.integers(1, 3)), role=role)
    return parts


def _bedside_table(rng: Rng, width: float, height: float, depth: float) -> list[Part]:
    """Four legs, a shallow drawer box under the top and often a shelf near the floor."""
    leg, top = rng.uniform(0.02, 0.05), rng.uniform(0.015, 0.035)
    case = rng.uniform(0.1, 0.28)
    role = pick(rng, ("body", "body", "wood", "metal"))
    parts = legs(
        rng, width, depth, height - top, thickness=leg, role=role, style=pick(rng, ("square", "taper", "round", "turned"), (4, 2, 1, 1))
    )
    parts.append(plate(width + 0.03, top, depth + 0.03, squareness=pick(rng, (0.02, 0.15)), at=(0, height - top, 0), segments=16))
    low = height - top - case
    parts.append(box(width - 0.02, case, depth - 0.02, at=(0, low, 0)))
    parts += drawers(
        rng, -width / 2 + leg, width / 2 - leg, low, height - top, depth / 2 - 0.01, rows=pick(rng, (1, 1, 2)) if case > 0.2 else 1
    )
    if chance(rng, 0.65):
        parts.append(box(width - 0.02, 0.02, depth - 0.02, at=(0, rng.uniform(0.08, 0.22), 0)))
    return parts


def _round_stand(rng: Rng, radius: float, height: float) -> list[Part]:
    top = rng.uniform(0.02, 0.035)
    parts = [cylinder(radius, top, segments=24, at=(0, height - top, 0))]
    if chance(rng, 0.5):
        parts.append(cylinder(0.93 * radius, height - top - 0.05, segments=24, at=(0, 0.05, 0)))
        parts.append(cylinder(0.8 * radius, 0.05, segments=20, role="dark"))
        front = 0.93 * radius
        rows = int(rng.integers(1, 4))
        pitch = (height - top - 0.1) / rows
        for row in range(rows):
            parts.append(box(radius, pitch - 0.02, 0.3 * radius, at=(0, 0.08 + row * pitch, 0.8 * front)))
            parts.append(
                ellipsoid(0.014, 0.014, 0.014, at=(0, 0.08 + (row + 0.45) * pitch, 0.95 * front + 0.015), segments=8, rings=5, role="metal")
            )
        return parts
    parts += legs(rng, 1.4 * radius, 1.4 * radius, height - top, thickness=0.03)
    low = height - top - rng.uniform(0.1, 0.2)
    parts.append(cylinder(0.92 * radius, height - top - low, segments=24, at=(0, low, 0)))
    return [*parts, cylinder(0.75 * radius, 0.018, segments=20, at=(0, 0.15, 0))] if chance(rng, 0.5) else parts


@finished
def desk(rng: Rng) -> list[Part]:
    """Desk with a kneehole: pedestals of drawers, L-shape, panel sides, hutch, computer desk, trestle, or secretary."""
    width, depth, height = rng.uniform(1.0, 1.9), rng.uniform(0.5, 0.85), rng.uniform(0.7, 0.8)
    kind = pick(rng, ("pedestals", "one pedestal", "panels", "corner", "hutch", "computer", "legs", "secretary", "counter"),
                (3.5, 3, 1.5, 2.5, 2, 1, 2, 0.7, 0.6))
    top = rng.uniform(0.02, 0.05)
    if kind == "corner":
        return _corner_desk(rng, width, depth, height, top)
    if kind == "counter":
        return _counter_desk(rng, width, depth, height)
    board = rng.uniform(0.018, 0.05)
    over = rng.uniform(0.0, 0.04)
    surface = plate(width, top, depth, squareness=pick(rng, (0.02, 0.12, 0.25), (4, 2, 1)), at=(0, height - top, 0), segments=16,
                    role=pick(rng, ("body", "body", "wood")))
    parts, inner, knee = [surface], width - 2 * over, height - top
    pedestal = rng.uniform(0.32, 0.45)
    x = (inner - pedestal) / 2
    if kind == "pedestals" or (kind in ("hutch", "secretary") and chance(rng, 0.4)):
        parts += _pedestal(rng, -x, pedestal, knee, depth - 2 * over) + _pedestal(rng, x, pedestal, knee, depth - 2 * over)
    elif kind == "one pedestal" or (kind in ("hutch", "computer", "secretary") and chance(rng, 0.6)):
        side = pick(rng, (-1, 1))
        parts += _pedestal(rng, side * x, pedestal, knee, depth - 2 * over)
        parts += _desk_end(rng, -side * (inner / 2 - 0.03), knee, depth - 2 * over, board)
    elif kind in ("panels", "computer"):
        parts += [box(board, knee, depth - 2 * over, at=(s * (inner - board) / 2, 0, 0)) for s in (-1, 1)]
    else:
        parts += legs(rng, inner, depth - 2 * over, knee, thickness=rng.uniform(0.035, 0.07), role=pick(rng, ("body", "wood", "metal")),
                      style=pick(rng, ("square", "taper", "round", "turned", "splay")))
        parts.append(box(0.92 * inner, rng.uniform(0.1, 0.15), 0.85 * depth, at=(0, knee - 0.13, 0)))
        parts += drawers(rng, -0.44 * inner, 0.44 * inner, knee - 0.12, knee, 0.425 * depth, rows=1, columns=int(rng.integers(1, 4)))
    if chance(rng, 0.65) and kind != "legs":
        drop = knee * pick(rng, (1.0, rng.uniform(0.4, 0.9)))
        parts.append(box(inner - 0.02, drop, 0.02, at=(0, knee - drop, -depth / 2 + over + rng.uniform(0.02, 0.12))))
    if kind in ("pedestals", "one pedestal") and chance(rng, 0.5):
        wide = inner - (2 if kind == "pedestals" else 1) * pedestal
        parts.append(
            box(
                0.95 * wide,
                0.09,
                0.8 * depth,
                at=(0 if kind == "pedestals" else -np.sign(parts[1].vertices[:, 0].mean()) * pedestal / 2, knee - 0.09, 0),
            )
        )
    if kind == "computer":
        parts.append(box(0.6 * inner, 0.018, 0.4 * depth, at=(0, knee - 0.1, 0.5 * depth - 0.1)))
    if kind in ("hutch", "computer", "secretary"):
        parts += _hutch(rng, inner, height, depth, closed=kind == "secretary")
    return parts


def _pedestal(rng: Rng, x: float, width: float, height: float, depth: float) -> list[Part]:
    """Drawer pedestal under a desk top, on the floor or on short feet."""
    lift = pick(rng, (0.0, 0.0, rng.uniform(0.04, 0.14)))
    parts = [box(width, height - lift, depth, at=(0, lift, 0))]
    if lift:
        parts += legs(rng, width, depth, lift, thickness=0.035, style="square")
    if chance(rng, 0.8):
        parts += drawers(rng, -width / 2 + 0.015, width / 2 - 0.015, lift + 0.03, height - 0.015, depth / 2, rows=int(rng.integers(2, 5)))
    else:
        parts += doors(rng, -width / 2 + 0.015, width / 2 - 0.015, lift + 0.03, height - 0.015, depth / 2, columns=1)
    return moved(parts, x=x)


def _desk_end(rng: Rng, x: float, height: float, depth: float, board: float) -> list[Part]:
    """What carries the end of a desk that has no pedestal: a panel, two legs or a C-shaped metal foot."""
    kind = pick(rng, ("panel", "legs", "foot"), (3, 3, 1))
    if kind == "panel":
        return [box(board, height, depth, at=(x, 0, 0))]
    if kind == "legs":
        size = rng.uniform(0.03, 0.06)
        return [box(size, height, size, at=(x, 0, s * (depth - size) / 2), role=pick(rng, ("body", "metal"))) for s in (-1, 1)]
    return [box(0.06, 0.03, depth, at=(x, 0, 0), role="metal"), box(0.05, height, 0.1, at=(x, 0, -0.1 * depth), role="metal")]


def _hutch(rng: Rng, width: float, y: float, depth: float, *, closed: bool) -> list[Part]:
    """Shelves above the back half of a desk; `closed` gives the sloping case of a secretary desk."""
    tall, deep = rng.uniform(0.3, 0.8), rng.uniform(0.22, 0.36)
    z = -depth / 2 + deep / 2
    if closed:
        deep = 0.75 * depth
        outline = [(-depth / 2, 0.0), (deep - depth / 2, 0.0), (deep - depth / 2, 0.06), (0.3 * deep - depth / 2, 0.35), (-depth / 2, 0.35)]
        return [extrude(outline, width, axis="x", at=(0, y, 0))]
    parts = carcass(
        width, tall, deep, y=y, z=z, board=0.02, back=chance(rng, 0.7), levels=[rng.uniform(0.3, 0.7)] if chance(rng, 0.7) else []
    )
    columns = int(rng.integers(1, 4))
    parts += [box(0.018, tall, deep - 0.01, at=((k / columns - 0.5) * width, y, z)) for k in range(1, columns)]
    if chance(rng, 0.35):
        parts += doors(rng, -width / 2, width / 2, y + 0.6 * tall, y + tall, z + deep / 2, columns=2)
    return parts


def _corner_desk(rng: Rng, width: float, depth: float, height: float, top: float) -> list[Part]:
    """L-shaped desk, the return to the left or right, on panels, legs and a pedestal."""
    arm, reach = rng.uniform(0.45, 0.7), rng.uniform(1.0, 1.7)
    knee, b = height - top, -depth / 2
    x0, x1, front, inner = -width / 2, width / 2, depth / 2, -width / 2 + arm
    cut = pick(rng, (0.0, rng.uniform(0.1, 0.3)))
    outline = [(x0, b), (x1, b), (x1, front), (inner + cut, front), (inner, front + cut), (inner, b + reach), (x0, b + reach)]
    parts = [extrude(outline if cut else [*outline[:3], (inner, front), *outline[5:]], top, axis="y", at=(0, knee + top / 2, 0))]
    board = rng.uniform(0.02, 0.05)
    if chance(rng, 0.6):
        parts += [
            box(board, knee, depth - 0.04, at=(x1 - board, 0, 0)),
            box(arm - 0.04, knee, board, at=((x0 + inner) / 2, 0, b + reach - board)),
            box(board, knee, 0.1, at=(x0 + board, 0, b + 0.05)),
        ]
    else:
        size = rng.uniform(0.03, 0.06)
        spots = ((x0, b), (x1, b), (x1, front), (inner, b + reach), (x0, b + reach))
        parts += [box(size, knee, size, at=(0.96 * x, 0, z - np.sign(z) * 0.04), role=pick(rng, ("body", "metal"))) for x, z in spots]
    if chance(rng, 0.6):
        parts += _pedestal(rng, x1 - 0.24, 0.38, knee, depth - 0.06)
    if chance(rng, 0.5):
        parts += moved(
            [part.turned("y", 90.0) for part in _pedestal(rng, 0.0, 0.38, knee, arm - 0.06)], x=(x0 + inner) / 2, z=b + reach - 0.3
        )
    if chance(rng, 0.6):
        parts += [box(width - 0.06, 0.6 * knee, 0.02, at=(0, 0.4 * knee, b + 0.03)),
                  box(0.02, 0.6 * knee, reach - 0.06, at=(x0 + 0.03, 0.4 * knee, b + reach / 2))]
    if chance(rng, 0.3):
        parts += moved(_hutch(rng, width - 0.04, height, depth, closed=False))
    parts = [part.mirrored() for part in parts] if chance(rng, 0.5) else parts
    return moved(parts, z=(depth - reach) / 2)


def _counter_desk(rng: Rng, width: float, depth: float, height: float) -> list[Part]:
    """Reception desk: closed front and sides, a raised ledge towards the visitor, the kneehole behind it."""
    ledge, deep = height + rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.3)
    parts = [box(width, 0.03, depth, at=(0, height - 0.03, 0)), box(width, ledge, 0.05, at=(0, 0, -depth / 2)),
             box(width + 0.04, 0.04, deep, at=(0, ledge, -depth / 2 + 0.05), role="wood")]
    parts += [box(0.05, pick(rng, (height, ledge)), depth, at=(s * (width / 2 - 0.025), 0, 0)) for s in (-1, 1)]
    return parts + _pedestal(rng, width / 2 - 0.25, 0.38, height - 0.03, depth - 0.1)
