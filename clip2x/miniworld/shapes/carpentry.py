"""Pieces that several furniture generators share: legs, plates, shells, basins, drawer fronts and handles.

All sizes are metres in the object frame of `parts`. Every range in the generators is ours: plausible sizes of real furniture,
chosen from general knowledge and not fitted to any data set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import ArrayLike, Part, Points, box, cross, cylinder, ellipsoid, lathe, loft, tube

Rng = np.random.Generator
Generator = Callable[[Rng], list[Part]]
_UP, _FORWARD = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
_SQUARE = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def ring(x_radius: float, z_radius: float, y: float, *, back: float | None = None, squareness: float = 1.0, segments: int = 24,
         at: tuple[float, float] = (0.0, 0.0)) -> Points:
    """Horizontal superellipse (segments, 3) for `loft`.

    `squareness` 1 is an ellipse, near 0 a rectangle; `back` is another radius for the half behind the centre (egg shapes); `at` is
    the centre (x, z).
    """
    angles = np.linspace(0.0, 2 * np.pi, segments, endpoint=False)
    sine, cosine = np.sin(angles).round(12), np.cos(angles).round(12)
    x = np.sign(sine) * np.abs(sine) ** squareness
    z = np.sign(cosine) * np.abs(cosine) ** squareness
    radius = np.where(z > 0, z_radius, z_radius if back is None else back)
    return np.column_stack([at[0] + x_radius * x, np.full(segments, y), at[1] + radius * z])


def plate(width: float, height: float, depth: float, *, squareness: float = 0.2, at: ArrayLike = (0.0, 0.0, 0.0), role: str = "body",
          bevel: float = 0.0, segments: int = 24) -> Part:
    """Horizontal plate with a superellipse outline (1 is round, 0.1 a rectangle with soft corners); `at` is the middle of its BOTTOM."""
    half_x, half_z = width / 2, depth / 2
    rings = [ring(half_x - bevel, half_z - bevel, 0.0, squareness=squareness, segments=segments)]
    if bevel > 0:
        rings += [ring(half_x, half_z, y, squareness=squareness, segments=segments) for y in (bevel, height - bevel)]
    rings.append(ring(half_x - bevel, half_z - bevel, height, squareness=squareness, segments=segments))
    return loft(rings, role=role).moved(*np.asarray(at, dtype=float))


def cushion(width: float, height: float, depth: float, *, at: ArrayLike = (0.0, 0.0, 0.0), role: str = "fabric",
            squareness: float = 0.35) -> Part:
    """Swollen block that stands on `at`."""
    x, y, z = np.asarray(at, dtype=float)
    return ellipsoid(width / 2, height / 2, depth / 2, at=(x, y + height / 2, z), segments=16, rings=7, role=role, squareness=squareness)


def beam(start: ArrayLike, end: ArrayLike, width: float, thickness: float | None = None, *, role: str = "body",
         taper: float = 1.0) -> Part:
    """Straight bar of rectangular section between two points; `width` lies level, `taper` scales the end's section."""
    a, b = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    along = (b - a) / np.sqrt((b - a) @ (b - a))
    side = cross(along, _FORWARD if abs(along[1]) > 0.9 else _UP)
    side *= 0.5 * width / np.sqrt(side @ side)
    other = cross(along, side) * ((width if thickness is None else thickness) / width)
    corners = _SQUARE @ np.array([side, other])
    return loft(np.array([a + corners, b + corners * taper]), role=role)


def post(bottom: ArrayLike, top: ArrayLike, bottom_size: float, top_size: float | None = None, *, is_round: bool = False,
         role: str = "body") -> Part:
    """Leg with level ends from `bottom` to `top` (points), square or round; sizes are widths."""
    segments = 10 if is_round else 4
    angles = np.linspace(0.0, 2 * np.pi, segments, endpoint=False) + (0.0 if is_round else np.pi / 4)
    stretch = 0.5 if is_round else np.sqrt(0.5)
    outline = stretch * np.column_stack([np.sin(angles), np.zeros(segments), np.cos(angles)])
    end_size = bottom_size if top_size is None else top_size
    return loft(np.array([outline * bottom_size + np.asarray(bottom, float), outline * end_size + np.asarray(top, float)]), role=role)


LEG_STYLES = ("square", "taper", "round", "splay", "turned", "bracket")


def legs(rng: Rng, width: float, depth: float, height: float, *, thickness: float, role: str = "wood", style: str | None = None,
         y: float = 0.0) -> list[Part]:
    """Four legs under a rectangle centred on the origin, standing on `y`; the style is drawn unless it is given."""
    style = pick(rng, LEG_STYLES) if style is None else style
    x, z, half = width / 2 - thickness / 2, depth / 2 - thickness / 2, thickness / 2
    splay = rng.uniform(0.03, 0.16) * height if style == "splay" else 0.0
    foot = thickness * (rng.uniform(0.45, 0.75) if style in ("taper", "splay") else 1.0)
    profile = _turned_profile(rng, height, half) if style == "turned" else []
    is_round = style == "round" or (style == "splay" and chance(rng, 0.6))
    parts = []
    for sx in (-1, 1):
        for sz in (-1, 1):
            if style == "turned":
                parts.append(lathe(profile, segments=8, at=(sx * x, y, sz * z), role=role))
            elif style == "bracket":
                parts.append(post((sx * x, y, sz * z), (sx * (x - half), y + height, sz * (z - half)), foot, 2 * thickness, role=role))
            else:
                parts.append(post((sx * (x + splay), y, sz * (z + splay)), (sx * x, y + height, sz * z), foot, thickness,
                                  is_round=is_round, role=role))
    return parts


def _turned_profile(rng: Rng, height: float, radius: float) -> list[tuple[float, float]]:
    """Outline of a leg from the turning lathe, standing on 0."""
    slim = rng.uniform(0.4, 0.65)
    knob = rng.uniform(0.55, 0.72)
    stations = [(0.0, 0.0), (0.6, 0.0), (0.8, 0.05), (slim, 0.12), (0.75, 0.4), (slim, knob), (1.0, knob + 0.06), (slim, knob + 0.12),
                (1.0, knob + 0.14), (1.0, 1.0), (0.0, 1.0)]
    return [(r * radius, t * height) for r, t in stations]


def shell(grid: ArrayLike, thickness: float, *, role: str = "body") -> Part:
    """Thicken an open surface, a grid (K, M, 3) of points, to both sides by half of the thickness."""
    middle = np.asarray(grid, dtype=float)
    normal = cross(np.gradient(middle, axis=0), np.gradient(middle, axis=1))
    normal /= np.sqrt((normal**2).sum(axis=2, keepdims=True)) + 1e-12
    rows, columns = middle.shape[:2]
    front, back = middle + normal * thickness / 2, middle - normal * thickness / 2
    body = loft(np.concatenate([front, back[:, ::-1]], axis=1), role=role, capped=False)
    across = np.arange(columns - 1)
    opposite = 2 * columns - 1 - across
    cap = np.concatenate([np.stack([across, opposite, across + 1], 1), np.stack([across + 1, opposite, opposite - 1], 1)])
    faces = np.concatenate([body.faces, cap, cap[:, ::-1] + (rows - 1) * 2 * columns])
    corners = body.vertices[faces]
    volume = np.einsum("ij,ij->", corners[:, 0], cross(corners[:, 1], corners[:, 2]))
    return Part(body.vertices, faces if volume > 0 else faces[:, ::-1], role)


def bent_sheet(path: ArrayLike, width: float | Sequence[float], thickness: float, *, bow: float = 0.0, columns: int = 5,
               role: str = "body") -> Part:
    """Sheet that follows a path [(z, y), ...] and is `width` wide along x (one number or one a station).

    `bow` bends every row backwards and up in the middle (negative z), so that it wraps round a back or a seat.
    """
    line = np.asarray(path, dtype=float)
    widths = np.broadcast_to(np.asarray(width, dtype=float), (len(line),))
    across = np.linspace(-0.5, 0.5, columns)
    direction = np.gradient(line, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-12
    inward = np.column_stack([direction[:, 1], -direction[:, 0]])
    lift = bow * (4 * across**2)
    grid = np.empty((len(line), columns, 3))
    grid[..., 0] = widths[:, None] * across
    grid[..., 1] = line[:, 1, None] + inward[:, 1, None] * lift
    grid[..., 2] = line[:, 0, None] + inward[:, 0, None] * lift
    return shell(grid, thickness, role=role)


def arc_sheet(radius: float, height: float, thickness: float, *, span_deg: float, depth: float | None = None, y: float = 0.0,
              lean: float = 0.0, drop: float = 0.0, columns: int = 13, role: str = "body") -> Part:
    """Upright sheet along an arc about the y axis, open towards +z, as the back of a tub chair.

    `depth` is the radius along z, `lean` widens the upper edge (metres), `drop` lowers the upper edge towards the open ends (metres).
    """
    angles = np.deg2rad(np.linspace(-span_deg / 2, span_deg / 2, columns)) + np.pi
    z_radius = radius if depth is None else depth
    levels = np.linspace(0.0, 1.0, 3)[:, None]
    tops = height - drop * np.abs(np.linspace(-1, 1, columns)) ** 2.0
    grid = np.stack([(radius + lean * levels) * np.sin(angles), y + levels * tops, (z_radius + lean * levels) * np.cos(angles)], axis=2)
    return shell(grid, thickness, role=role)


def frame(width: float, height: float, border: float, depth: float, *, at: ArrayLike = (0.0, 0.0, 0.0), role: str = "body") -> list[Part]:
    """Upright rectangular frame of four bars in the x-y plane; `at` is the middle of its bottom edge."""
    x, y, z = np.asarray(at, dtype=float)
    return [box(width, border, depth, at=(x, y, z), role=role), box(width, border, depth, at=(x, y + height - border, z), role=role),
            box(border, height - 2 * border, depth, at=(x - (width - border) / 2, y + border, z), role=role),
            box(border, height - 2 * border, depth, at=(x + (width - border) / 2, y + border, z), role=role)]


HANDLES = ("knob", "bar", "two knobs", "cup", "none")


def handle(kind: str, x: float, y: float, z: float, width: float, *, role: str = "metal", upright: bool = False) -> list[Part]:
    """Handle on a front that faces +z at (x, y, z); `width` is the front's, `upright` stands a bar on end (doors)."""
    size = min(0.016, 0.12 * width)
    if kind == "bar":
        length = min(0.16, 0.5 * width)
        wide, tall = (0.014, length) if upright else (length, 0.014)
        return [box(wide, tall, 0.02, at=(x, y - tall / 2, z + 0.012), role=role)]
    if kind == "cup":
        return [ellipsoid(min(0.05, 0.2 * width), 0.02, 0.022, at=(x, y, z + 0.004), segments=8, rings=5, role=role)]
    if kind == "none":
        return []
    offsets = (-0.25 * width, 0.25 * width) if kind == "two knobs" and not upright else (0.0,)
    return [ellipsoid(size, size, size, at=(x + shift, y, z + size), segments=8, rings=5, role=role) for shift in offsets]


def drawers(rng: Rng, left: float, right: float, bottom: float, top: float, z: float, *, rows: int, columns: int = 1, role: str = "body",
            kind: str | None = None, metal: str = "metal", proud: float | None = None, graded: bool | None = None) -> list[Part]:
    """Drawer fronts in rows and columns on a front at depth `z`, standing proud of it by 6-22 mm, with handles.

    `graded` makes lower drawers higher. Kind of handle, relief and gaps are drawn once for the whole piece.
    """
    kind = pick(rng, HANDLES) if kind is None else kind
    proud = rng.uniform(0.006, 0.022) if proud is None else proud
    gap = rng.uniform(0.008, 0.025)
    graded = chance(rng, 0.3) if graded is None else graded
    shares = np.linspace(1.35, 0.65, rows) if graded and rows > 1 else np.ones(rows)
    edges = bottom + (top - bottom) * np.concatenate([[0.0], np.cumsum(shares) / shares.sum()])
    cell = (right - left) / columns
    parts = []
    for row in range(rows):
        for column in range(columns):
            x, low, high = left + (column + 0.5) * cell, edges[row], edges[row + 1]
            parts.append(box(cell - gap, high - low - gap, proud, at=(x, low + gap / 2, z + proud / 2), role=role))
            parts += handle(kind, x, (low + high) / 2, z + proud, cell, role=metal)
    return parts


def doors(rng: Rng, left: float, right: float, bottom: float, top: float, z: float, *, columns: int = 2, role: str = "body",
          kind: str | None = None, panelled: bool | None = None) -> list[Part]:
    """Cupboard doors side by side on a front at depth `z`: flat or with a raised frame, handles at the meeting edges."""
    kind = pick(rng, HANDLES[:3]) if kind is None else kind
    panelled = chance(rng, 0.5) if panelled is None else panelled
    proud, gap = rng.uniform(0.008, 0.02), rng.uniform(0.006, 0.015)
    cell, height = (right - left) / columns, top - bottom - gap
    parts = []
    for column in range(columns):
        x = left + (column + 0.5) * cell
        parts.append(box(cell - gap, height, proud, at=(x, bottom + gap / 2, z + proud / 2), role=role))
        front = z + proud
        if panelled:
            parts += frame(cell - gap, height, 0.16 * min(cell, height), 0.014, at=(x, bottom + gap / 2, front + 0.007), role=role)
            front += 0.014
        side = 1.0 if column % 2 == 0 and columns > 1 else -1.0
        parts += handle(kind, x + side * 0.4 * cell, (bottom + top) / 2, front, cell, upright=True)
    return parts


def carcass(width: float, height: float, depth: float, *, y: float = 0.0, board: float = 0.02, back: bool = True, x: float = 0.0,
            z: float = 0.0, role: str = "body", levels: Sequence[float] = ()) -> list[Part]:
    """Open-fronted case of boards: two sides, top, bottom, shelves at `levels` (shares of the height) and a back unless not wanted."""
    inner = width - 2 * board
    parts = [box(board, height, depth, at=(x + side * (width - board) / 2, y, z), role=role) for side in (-1, 1)]
    for level in (0.0, *levels, 1.0):
        parts.append(box(inner, board, depth, at=(x, y + level * (height - board), z), role=role))
    if back:
        parts.append(box(inner, height - 2 * board, board / 2, at=(x, y + board, z - depth / 2 + board / 4), role=role))
    return parts


def faucet(height: float, reach: float, *, at: ArrayLike = (0.0, 0.0, 0.0), turn_deg: float = 0.0, radius: float = 0.013,
           taps: bool = False) -> list[Part]:
    """Bent spout that reaches towards +z (turned about y by `turn_deg`), with two tap knobs if wanted; it stands on `at`."""
    bend = [
        (0.0, 0.0, 0.0),
        (0.0, 0.75 * height, 0.0),
        (0.0, height, 0.3 * reach),
        (0.0, 0.95 * height, 0.8 * reach),
        (0.0, 0.75 * height, reach),
    ]
    parts = [tube(bend, radius, segments=6, role="metal")]
    if taps:
        parts += [cylinder(1.6 * radius, 0.05, segments=8, at=(side * 0.08, 0.0, 0.0), role="metal") for side in (-1, 1)]
    return [part.turned("y", turn_deg).moved(*np.asarray(at, dtype=float)) for part in parts]


def turned(parts: Sequence[Part], angle_deg: float) -> list[Part]:
    """Turn all parts about the y axis."""
    return [part.turned("y", angle_deg) for part in parts]


def moved(parts: Sequence[Part], x: float = 0.0, y: float = 0.0, z: float = 0.0) -> list[Part]:
    """Shift all parts by metres."""
    return [part.moved(x, y, z) for part in parts]


def finished(build: Generator) -> Generator:
    """Decorate a generator: the object stands on y = 0 about the y axis, and "body" is the role of its largest surface.

    If another paintable role covers more (a large wooden bed frame round a small blanket), it becomes the body, because captions name
    the body's colour, and the former body takes its role, or "accent" where that was a material. Glass and screens are never painted.
    """

    @wraps(build)
    def finish(rng: Rng) -> list[Part]:
        parts = build(rng)
        corners = np.concatenate([part.vertices[part.faces] for part in parts])
        low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
        normals = cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        owners = np.repeat(np.arange(len(parts)), [len(part.faces) for part in parts])
        areas: dict[str, float] = {"body": 0.0}
        for part, area in zip(parts, np.bincount(owners, np.sqrt((normals**2).sum(axis=1))), strict=True):
            areas[part.role] = areas.get(part.role, 0.0) + float(area)
        largest = max((role for role in areas if role not in ("glass", "screen")), key=lambda role: areas[role])
        swap = {"body": "accent" if largest in ("wood", "metal", "dark") else largest, largest: "body"}
        shift = np.array([-(low[0] + high[0]) / 2, -low[1], -(low[2] + high[2]) / 2])
        return [Part(part.vertices + shift, part.faces, swap.get(part.role, part.role)) for part in parts]

    return finish
