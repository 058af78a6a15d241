"""Parametric cabinets, doors, shelves and bookshelves (object frame of `parts`; every size is ours, plausible pieces in metres)."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.carpentry import Rng, beam, carcass, doors, drawers, finished, frame, legs, moved, post
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, ellipsoid


@finished
def cabinet(rng: Rng) -> list[Part]:
    """Cupboard closed by doors: wardrobe, sideboard, filing cabinet, locker, kitchen unit, glass front, cupboard with open top."""
    kind = pick(rng, ("wardrobe", "sideboard", "filing", "locker", "kitchen", "glass", "hutch", "small"), (3, 2, 1.5, 1, 1.5, 1.5, 1, 1.5))
    size = {
        "wardrobe": (0.9, 1.6, 1.8, 2.2, 0.5, 0.62),
        "sideboard": (1.2, 2.0, 0.65, 0.9, 0.38, 0.5),
        "filing": (0.38, 0.5, 0.7, 1.5, 0.5, 0.65),
        "locker": (0.3, 1.2, 1.7, 2.0, 0.4, 0.5),
        "kitchen": (0.5, 1.6, 0.8, 0.95, 0.55, 0.65),
        "glass": (0.7, 1.3, 1.3, 2.0, 0.35, 0.45),
        "hutch": (0.9, 1.5, 1.7, 2.1, 0.4, 0.5),
        "small": (0.4, 0.8, 0.8, 1.3, 0.3, 0.45),
    }[kind]
    width, height, depth = (rng.uniform(size[k], size[k + 1]) for k in (0, 2, 4))
    lift = pick(rng, (0.0, rng.uniform(0.05, 0.12)))
    parts = (
        ([box(width - 0.03, lift, depth - 0.04, role="dark")] if chance(rng, 0.6) else legs(rng, width, depth, lift, thickness=0.04))
        if lift
        else []
    )
    left, right, low, front = -width / 2 + 0.015, width / 2 - 0.015, lift + 0.02, depth / 2
    columns = max(1, round(width / rng.uniform(0.4, 0.55)))
    if kind in ("glass", "hutch"):
        split = lift + rng.uniform(0.35, 0.5) * (height - lift)
        parts.append(box(width, split - lift, depth, at=(0, lift, 0)))
        deep = depth * (1.0 if kind == "glass" else rng.uniform(0.55, 0.8))
        z = -depth / 2 + deep / 2
        parts += carcass(width, height - split, deep, y=split, z=z, levels=list(np.linspace(0, 1, int(rng.integers(3, 5)) + 1)[1:-1]))
        if kind == "glass":
            cell = width / columns
            for k in range(columns):
                parts += frame(cell - 0.01, height - split - 0.01, 0.05, 0.02, at=(left + (k + 0.5) * cell - 0.015, split, front + 0.01))
        return parts + doors(rng, left, right, low, split - 0.02, front, columns=columns)
    parts.append(box(width, height - lift, depth, at=(0, lift, 0)))
    if kind == "filing":
        return parts + drawers(rng, left, right, low, height - 0.02, front, rows=int(rng.integers(2, 5)), kind=pick(rng, ("bar", "cup")))
    if kind == "locker":
        parts += doors(rng, left, right, low, height - 0.02, front, columns=max(1, round(width / 0.35)), panelled=False)
        return parts + [box(0.6 * width, 0.008, 0.012, at=(0, height - 0.15 - 0.04 * k, front + 0.022), role="dark") for k in range(4)]
    top = height - 0.02
    if kind in ("kitchen", "sideboard"):
        over = rng.uniform(0.0, 0.03)
        parts.append(box(width + 2 * over, 0.035, depth + 2 * over, at=(0, height, over / 2), role=pick(rng, ("wood", "body", "dark"))))
        if chance(rng, 0.6):
            row = 0.22 * (height - lift)
            parts += drawers(rng, left, right, top - row, top, front, rows=1, columns=columns)
            top -= row
    elif kind == "wardrobe" and chance(rng, 0.4):
        row = rng.uniform(0.15, 0.3) * (height - lift)
        parts += drawers(rng, left, right, low, low + row, front, rows=int(rng.integers(1, 3)), columns=columns)
        low += row
    return parts + doors(rng, left, right, low, top, front, columns=columns)


@finished
def door(rng: Rng) -> list[Part]:
    """Door leaf, mostly in its frame: flat, panelled, glazed, louvred, boarded, or a pair; closed or ajar."""
    width, height, thick = rng.uniform(0.7, 1.0), rng.uniform(1.95, 2.2), rng.uniform(0.035, 0.06)
    pair = chance(rng, 0.15)
    leaf = _door_leaf(rng, width, height, thick)
    ajar = pick(rng, (-1, 1)) * rng.uniform(15, 95) if chance(rng, 0.3) else 0.0
    hinge = (-width / 2, 0.0, -thick / 2)
    parts = [part.turned("y", ajar, about=hinge) for part in leaf] if ajar else leaf
    if pair:
        parts = moved(parts, x=-width / 2)
        parts += [part.mirrored() for part in parts]
    full = 2 * width if pair else width
    if ajar or chance(rng, 0.7):
        jamb, deep, role = rng.uniform(0.05, 0.12), rng.uniform(0.06, 0.16), pick(rng, ("body", "wood", "accent", "light"))
        parts += [box(jamb, height + jamb, deep, at=(s * (full + jamb) / 2, 0, 0), role=role) for s in (-1, 1)]
        parts.append(box(full, jamb, deep, at=(0, height, 0), role=role))
        if chance(rng, 0.15):
            parts += moved(frame(full + 2 * jamb, 0.4, 0.04, deep, role=role), y=height + jamb)
    return parts


def _door_leaf(rng: Rng, width: float, height: float, thick: float) -> list[Part]:
    """One leaf standing on the floor, hinges at negative x, the same on both faces."""
    kind = pick(rng, ("flat", "panels", "glass", "window", "louvred", "boards"), (2, 4, 1.5, 1.5, 1, 1))
    border, parts = rng.uniform(0.08, 0.14), []
    if kind == "glass":
        parts = [*frame(width, height, border, thick), box(width - 2 * border, height - 2 * border, 0.01, at=(0, border, 0), role="glass")]
        bars = int(rng.integers(0, 5))
        parts += [
            box(width - 2 * border, 0.03, 0.6 * thick, at=(0, border + (k + 1) / (bars + 1) * (height - 2 * border), 0))
            for k in range(bars)
        ]
    elif kind == "louvred":
        parts = frame(width, height, border, thick)
        count = int(rng.integers(12, 22))
        pitch = (height - 2 * border) / count
        parts += [box(width - 2 * border, 0.8 * pitch, 0.01).turned("x", -35.0).moved(y=border + (k + 0.1) * pitch) for k in range(count)]
    else:
        parts = [box(width, height, thick)]
        rows, columns = (int(rng.integers(1, 4)), int(rng.integers(1, 3))) if kind == "panels" else (0, 0)
        for row in range(rows):
            for column in range(columns):
                wide, tall = (width - 0.2) / columns, (height - 0.3) / rows
                at = (-width / 2 + 0.1 + (column + 0.5) * wide, 0.15 + row * tall + 0.03, 0.0)
                parts += frame(wide - 0.06, tall - 0.06, 0.03, thick + 0.03, at=at)
        if kind == "window":
            parts.append(box(0.6 * width, 0.3 * height, thick + 0.01, at=(0, 0.58 * height, 0), role="glass"))
            parts += frame(0.68 * width, 0.34 * height, 0.04, thick + 0.03, at=(0, 0.56 * height, 0))
        if kind == "boards":
            parts += [box(0.008, height, thick + 0.012, at=(x, 0, 0), role="dark") for x in np.linspace(-0.5, 0.5, 7)[1:-1] * width]
    x, y = width / 2 - 0.06, rng.uniform(0.95, 1.08)
    for s in (-1, 1):
        z = s * (thick / 2 + 0.035)
        if chance(rng, 0.6):
            parts += [
                box(0.12, 0.018, 0.018, at=(x - 0.04, y, z), role="metal"),
                box(0.02, 0.02, 0.04, at=(x, y, s * (thick / 2 + 0.02)), role="metal"),
            ]
        else:
            parts.append(ellipsoid(0.03, 0.03, 0.03, at=(x, y, z), segments=10, rings=6, role="metal"))
    return parts


@finished
def shelf(rng: Rng) -> list[Part]:
    """Open shelf without a case: rack on posts, ladder, wall board on brackets, cube, trolley; now and then with a few things."""
    kind = pick(rng, ("rack", "ladder", "wall", "cubes", "pole"), (4, 1, 2, 1.5, 1))
    width, depth = rng.uniform(0.6, 1.3), rng.uniform(0.25, 0.5)
    board = rng.uniform(0.015, 0.04)
    if kind == "wall":
        count = int(rng.integers(1, 4))
        parts = (
            [box(width + 0.1, 0.35 * count + 0.15, 0.03, at=(0, 0, -0.015), role=pick(rng, ("accent", "light")))]
            if chance(rng, 0.5)
            else []
        )
        for k in range(count):
            y = 0.22 + 0.35 * k
            parts.append(box(width, board, 0.8 * depth, at=(0, y, 0.4 * depth)))
            for s in (-1, 1):
                x = s * 0.38 * width
                parts += [
                    box(0.025, 0.2, 0.02, at=(x, y - 0.2, 0.01), role="metal"),
                    beam((x, y - 0.18, 0.01), (x, y, 0.6 * depth), 0.02, role="metal"),
                ]
        return parts
    height, levels = rng.uniform(0.8, 2.0), int(rng.integers(3, 7))
    if kind == "cubes":
        columns, rows, cell = int(rng.integers(1, 4)), int(rng.integers(2, 4)), rng.uniform(0.32, 0.42)
        parts = []
        for k in range(columns * rows):
            if chance(rng, 0.85) or k < columns:
                parts += carcass(
                    cell,
                    cell,
                    0.35,
                    x=(k % columns - (columns - 1) / 2) * cell,
                    y=(k // columns) * cell,
                    board=board,
                    back=chance(rng, 0.3),
                )
        return parts
    ys = np.linspace(rng.uniform(0.03, 0.2), height - board, levels)
    if kind == "pole":
        parts = [box(0.06, height, 0.06, at=(0, 0, -depth / 2 + 0.03)), box(0.7 * width, 0.03, depth)]
        return parts + [box(rng.uniform(0.4, 1.0) * width, board, depth, at=(rng.uniform(-0.2, 0.2) * width, y, 0)) for y in ys[1:]]
    if kind == "ladder":
        lean = rng.uniform(0.25, 0.4)
        parts = [
            beam((s * width / 2, 0, lean), (s * width / 2, height, -lean / 2), 0.04, role=pick(rng, ("body", "wood"))) for s in (-1, 1)
        ]
        for y in ys:
            front = lean - 1.5 * lean * y / height + 0.02
            parts.append(box(width, board, front + lean / 2, at=(0, y, (front - lean / 2) / 2)))
        return parts
    size, role = rng.uniform(0.015, 0.05), pick(rng, ("metal", "body", "wood"))
    parts = [post((sx * width / 2, 0, sz * depth / 2), (sx * width / 2, height, sz * depth / 2), size, is_round=chance(rng, 0.3), role=role)
             for sx in (-1, 1) for sz in (-1, 1)]
    parts += [box(width, board, depth, at=(0, y, 0)) for y in ys]
    if chance(rng, 0.3):
        parts += [beam((s * -width / 2, ys[0], -depth / 2), (s * width / 2, ys[-1], -depth / 2), 0.02, 0.006, role=role) for s in (-1, 1)]
    if chance(rng, 0.35):
        for y in ys[:-1]:
            size = rng.uniform(0.12, 0.2)
            parts.append(
                box(1.5 * size, size, 0.7 * depth, at=(rng.uniform(-0.3, 0.3) * width, y + board, 0), role=pick(rng, ("accent", "wood")))
            )
    return parts


@finished
def bookshelf(rng: Rng) -> list[Part]:
    """Case of shelves, mostly with books: tall, low, wide with columns, stepped, or with doors below."""
    kind = pick(rng, ("tall", "low", "wide", "stepped", "doors"), (4, 1.5, 2, 0.8, 1.2))
    width = {"tall": rng.uniform(0.5, 1.0), "low": rng.uniform(0.8, 1.4)}.get(
        kind, rng.uniform(1.1, 2.0) if kind == "wide" else rng.uniform(0.7, 1.1)
    )
    height, depth = rng.uniform(0.7, 1.0) if kind == "low" else rng.uniform(1.5, 2.2), rng.uniform(0.24, 0.36)
    board, back = rng.uniform(0.016, 0.035), chance(rng, 0.8)
    count, columns = max(2, round(height / rng.uniform(0.3, 0.42))), max(1, round(width / rng.uniform(0.6, 0.9))) if kind == "wide" else 1
    foot = pick(rng, (0.0, rng.uniform(0.04, 0.1)))
    parts = [box(width, foot, depth - 0.02, role=pick(rng, ("body", "dark")))] if foot else []
    body, fill = height - foot, pick(rng, (0.0, rng.uniform(0.2, 0.6), rng.uniform(0.6, 1.0)))
    cell = width / columns
    for column in range(columns):
        x = (column + 0.5) * cell - width / 2
        tall = body * (1 - 0.25 * column / columns) if kind == "stepped" else body
        levels = np.arange(1, count) / count
        parts += carcass(cell, tall, depth, y=foot, x=x, board=board, back=back, levels=list(levels))
        for level in np.concatenate([[0.0], levels]):
            if chance(rng, fill):
                parts += _books(rng, x, cell - 2 * board, foot + level * (tall - board) + board, tall / count - board, depth)
    if kind == "doors":
        parts += doors(rng, -width / 2, width / 2, foot, foot + body / count * max(1, count // 3), depth / 2, columns=2)
    if chance(rng, 0.25):
        parts.append(box(width + 0.06, 0.04, depth + 0.04, at=(0, height, 0)))
    return parts


def _books(rng: Rng, x: float, width: float, y: float, room: float, depth: float) -> list[Part]:
    """A row of a few blocks of books of like height, from the left or the right."""
    parts: list[Part] = []
    at, side = 0.0, pick(rng, (-1, 1))
    while len(parts) < 7:
        thick = rng.uniform(0.03, 0.14)
        if at + thick > width * 0.97 or chance(rng, 0.08):
            break
        deep = depth * rng.uniform(0.6, 0.85)
        parts.append(
            box(
                thick - 0.004,
                room * rng.uniform(0.55, 0.92),
                deep,
                at=(x + side * (at + thick / 2 - width / 2), y, -0.46 * depth + deep / 2),
                role=pick(rng, ("accent", "fabric", "dark", "light", "wood")),
            )
        )
        at += thick
    return parts
