"""Floor, walls, ceiling, windows and pictures of a room, painted plain or patterned. All numbers ours, metres; world frame of `floorplan`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clip2x.meshes import Material, Mesh
from clip2x.miniworld.rooms.floorplan import Rng
from clip2x.miniworld.scenes import Placed, solid
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import ArrayLike, box

FLOOR, WALL, WINDOW, CEILING, PICTURE = -2, -3, -4, -5, -6
SHELL_NAMES = {FLOOR: "floor", WALL: "wall", WINDOW: "window", CEILING: "ceiling", PICTURE: "picture"}
"""Numbers in a picture of what is no object, and what annotators call it."""

REACH = 14.0  # how far the floor goes on where a wall is missing, and where the next wall stands
WALL_TINTS = ((0.93, 0.92, 0.88), (0.85, 0.82, 0.74), (0.72, 0.80, 0.82), (0.80, 0.85, 0.76), (0.90, 0.80, 0.72), (0.66, 0.68, 0.72),
              (0.88, 0.85, 0.93))
FLOOR_TINTS = ((0.55, 0.40, 0.26), (0.70, 0.55, 0.38), (0.42, 0.30, 0.20), (0.62, 0.62, 0.60), (0.50, 0.46, 0.44), (0.78, 0.74, 0.68),
               (0.36, 0.38, 0.42))


def build_shell(length: float, width: float, ceiling: float, walls: tuple[str, ...], kind: str, rng: Rng) -> list[Placed]:
    """Build the room around the furniture; where a side has no wall, another stands farther off."""
    tiled = kind == "bathroom"
    wall_paint, floor_paint = _paint(pick(rng, WALL_TINTS), tiled, rng), _paint(pick(rng, FLOOR_TINTS), tiled or chance(rng, 0.5), rng)
    pitch = rng.uniform(0.3, 0.9)
    across = width + 2 * REACH
    placed = [Placed(_panel((-REACH, -REACH, 0), (length + 2 * REACH, 0, 0), (0, across, 0), floor_paint, rng.uniform(0.4, 1.2)), np.eye(4), FLOOR),
              Placed(_panel((-REACH, -REACH, ceiling), (length + 2 * REACH, 0, 0), (0, across, 0), Material("ceiling", (0.92, 0.92, 0.9)), 1.0),
                     np.eye(4), CEILING)]
    sides = {"back": ((0, width), (length, 0)), "left": ((0, -2.0), (0, width + 2.0)), "right": ((length, -2.0), (0, width + 2.0))}
    far = rng.uniform(1.5, 9.0)
    beyond = {"left": ((-far, -2.0), (0, across)), "right": ((length + far, -2.0), (0, across))}
    for side, (corner, edge) in sides.items():
        start, run = (corner, edge) if side in walls else beyond[side]
        placed.append(Placed(_panel((*start, 0), (*run, 0), (0, 0, ceiling), wall_paint, pitch), np.eye(4), WALL))
    if len(walls) < 3:  # seen past the back wall's end
        placed.append(Placed(_panel((-REACH, width + 2.5, 0), (length + 2 * REACH, 0, 0), (0, 0, ceiling), wall_paint, pitch), np.eye(4), WALL))
    if chance(rng, 0.45):
        placed += _window(length, width, ceiling, pick(rng, walls), rng)
    for _ in range(int(rng.poisson(0.5))):
        placed.append(_picture(length, width, pick(rng, walls), rng))
    return placed


def _paint(tint: tuple[float, float, float], patterned: bool, rng: Rng) -> Material:
    """Mix a paint: plain, striped, tiled or grained around a tint."""
    base = (np.asarray(tint) + rng.normal(0, 0.03, 3)).clip(0, 1)
    row, column = np.mgrid[:32, :32]
    pattern = pick(rng, ("plain", "plain", "stripes", "grain")) if not patterned else pick(rng, ("tiles", "tiles", "boards", "grain"))
    if pattern == "plain":
        return Material("paint", (float(base[0]), float(base[1]), float(base[2])))
    strength = rng.uniform(0.04, 0.16)
    waves = {"stripes": np.sign(np.sin(column * 2 * np.pi / 32 * int(rng.integers(1, 5)))), "grain": rng.normal(0, 0.5, (32, 32)),
             "tiles": -2.0 * ((row % 16 == 0) | (column % 16 == 0)), "boards": -2.0 * (row % 8 == 0) + rng.normal(0, 0.6, (4, 1)).repeat(8, axis=0)}
    texture = ((base + strength * waves[pattern][..., None]).clip(0, 1) * 255).astype(np.uint8)
    return Material("paint", (0.8, 0.8, 0.8), texture)


def _panel(corner: ArrayLike, run: ArrayLike, rise: ArrayLike, paint: Material, pitch: float) -> Mesh:
    """Span a rectangle over two edges; a texture repeats every `pitch` metres."""
    at, first, second = (np.asarray(vector, dtype=np.float64) for vector in (corner, run, rise))
    vertices = np.stack([at, at + first, at + first + second, at + second])
    extent = np.array([np.linalg.norm(first), np.linalg.norm(second)]) / pitch
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * extent
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    return Mesh(vertices, faces, np.zeros(2, dtype=np.int64), (paint,), uv[faces] if paint.texture is not None else None)


def _onto_wall(length: float, width: float, side: str, along: float, z: float) -> NDArray[np.float64]:
    """Place something that faces +z of the object frame on a wall, at a share `along` of its run: world_from_object (4, 4)."""
    inwards, spot = {"back": ((0, -1), (along * length, width - 0.01)), "left": ((1, 0), (0.01, along * width)),
                     "right": ((-1, 0), (length - 0.01, along * width))}[side]
    matrix = np.eye(4)
    matrix[:2, 2], matrix[:3, 1], matrix[:2, 0] = inwards, (0, 0, 1), (-inwards[1], inwards[0])
    matrix[:3, 3] = (*spot, z)
    return matrix


def _window(length: float, width: float, ceiling: float, side: str, rng: Rng) -> list[Placed]:
    wide, high = rng.uniform(0.7, 1.6), rng.uniform(0.7, 1.3)
    low = min(rng.uniform(0.8, 1.1), ceiling - high - 0.1)
    pose = _onto_wall(length, width, side, rng.uniform(0.25, 0.75), low)
    frame = pick(rng, ((0.95, 0.95, 0.95), (0.5, 0.35, 0.2), (0.3, 0.3, 0.32)))
    bars = [box(wide + 0.1, 0.06, 0.04, at=(0, y, 0)) for y in (-0.06, high)]
    bars += [box(0.06, high, 0.04, at=(x, 0, 0)) for x in (-wide / 2, 0, wide / 2)]
    glass = solid(box(wide, high, 0.01), (0.78, 0.88, 0.97))
    pane = Mesh(glass.vertices, glass.faces, glass.face_material, (Material("glass", glass.materials[0].colour),))
    return [Placed(solid(bar, frame), pose, WINDOW) for bar in bars] + [Placed(pane, pose, WINDOW)]


def _picture(length: float, width: float, side: str, rng: Rng) -> Placed:
    wide, high = rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.7)
    canvas = rng.uniform(0, 255, (6, 8, 3)).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    panel = _panel((-wide / 2, 0, 0.02), (wide, 0, 0), (0, high, 0), Material("canvas", (0.5, 0.5, 0.5), canvas), max(wide, high))
    return Placed(panel, _onto_wall(length, width, side, rng.uniform(0.2, 0.8), rng.uniform(1.2, 1.5)), PICTURE)
