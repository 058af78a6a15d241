"""What a mini-world street is made of besides its objects: road, kerbs, house fronts, trees, poles. All sizes are ours: plausible metres.

A place on a street is (s, d): metres along its middle line and metres to the left of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.meshes import Material, Mesh
from clip2x.miniworld.scenes import Placed, place, solid
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, Points, box, cylinder, ellipsoid

KERB = 0.12  # height of the pavements
LANE = 3.4  # width of a lane
PARKING = 2.6  # width of the strip beside the lanes
PAVEMENT = 5.4  # from the kerb to the houses
STEP = 6.0  # length of the straight pieces that a bend is made of
TEXTURE = 32  # pixels


@dataclass(frozen=True)
class Road:
    """A street of constant curvature in the world. origin: (2,) where s = 0. yaw_deg: its heading there. curvature: 1/m, left is positive."""

    origin: tuple[float, float]
    yaw_deg: float
    curvature: float
    lanes: int

    @property
    def lanes_end(self) -> float:
        """Distance of the outer edge of the lanes from the middle line."""
        return self.lanes * LANE

    @property
    def kerb(self) -> float:
        """Distance of the kerb from the middle line."""
        return self.lanes_end + PARKING

    @property
    def front(self) -> float:
        """Distance of the house fronts from the middle line."""
        return self.kerb + PAVEMENT

    def heading_deg(self, s: float) -> float:
        """Direction of the street at s, world frame."""
        return self.yaw_deg + float(np.rad2deg(self.curvature * s))

    def at(self, s: NDArray[np.floating[Any]] | float, d: NDArray[np.floating[Any]] | float) -> Points:
        """Turn places into world coordinates (..., 2)."""
        along, across = np.broadcast_arrays(np.asarray(s, dtype=float), np.asarray(d, dtype=float))
        angle = self.curvature * along
        bend = self.curvature if abs(self.curvature) > 1e-9 else 1e-9
        x = np.sin(bend * along) / bend - across * np.sin(angle)
        y = (1 - np.cos(bend * along)) / bend + across * np.cos(angle)
        yaw = np.deg2rad(self.yaw_deg)
        turned = np.stack([np.cos(yaw) * x - np.sin(yaw) * y, np.sin(yaw) * x + np.cos(yaw) * y], axis=-1)
        placed: Points = turned + np.asarray(self.origin)
        return placed

    def put(self, mesh: Mesh, s: float, d: float, turn_deg: float = 0.0, *, z: float = 0.0, number: int = -1, name: str = "") -> Placed:
        """Stand a mesh on the street; `turn_deg` is its heading against the street's."""
        x, y = self.at(s, d)
        return place(mesh, float(x), float(y), self.heading_deg(s) + turn_deg, z=z, number=number, name=name)


def ribbon(road: Road, start: float, end: float, section: Sequence[tuple[float, float]], material: Material, pitch: float = 4.0) -> Placed:
    """Sweep a line of (d, z) along the street; the texture repeats every `pitch` metres."""
    along = np.linspace(start, end, max(2, int((end - start) / STEP) + 1))
    across, height = np.array(section, dtype=float).T
    ground = road.at(along[:, None], across[None])
    vertices = np.concatenate([ground, np.broadcast_to(height, ground.shape[:2])[..., None]], axis=-1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(len(along) - 1), np.arange(len(across) - 1), indexing="ij")
    corner = (row * len(across) + column).reshape(-1)
    faces = np.concatenate([np.stack([corner, corner + len(across), corner + 1], axis=1),
                            np.stack([corner + 1, corner + len(across), corner + len(across) + 1], axis=1)])
    width = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(across), np.diff(height)))])
    uv = np.stack(np.meshgrid(along, width, indexing="ij"), axis=-1).reshape(-1, 2) / pitch
    return Placed(Mesh(vertices, faces, np.zeros(len(faces), dtype=np.int64), (material,), uv[faces]), np.eye(4))


def ground(road: Road, start: float, end: float, rng: np.random.Generator) -> list[Placed]:
    """Lay the road with its lines, kerbs and pavements, and open land beyond."""
    grey = float(rng.uniform(0.26, 0.4))
    asphalt = Material("asphalt", (grey, grey, grey * 1.03), _grain((grey, grey, grey * 1.03), 0.03, rng))
    pale = float(rng.uniform(0.5, 0.66))
    paving = Material("paving", (pale, pale, pale), _slabs((pale, pale * 0.97, pale * 0.93), rng))
    land = Material("land", (0.33, 0.42, 0.22), _grain((0.33, 0.42, 0.22), 0.05, rng))
    kerb, front = road.kerb, road.front
    placed = [ribbon(road, start - 60, end + 60, [(-90.0, -0.06), (90.0, -0.06)], land),
              ribbon(road, start, end, [(-kerb, 0.0), (kerb, 0.0)], asphalt)]
    for side in (-1, 1):
        section = [(side * kerb, 0.0), (side * kerb, KERB), (side * (front + 26.0), KERB)]
        placed.append(ribbon(road, start, end, section[:: side], paving, 2.4))
    white = Material("line", (0.88, 0.88, 0.86))
    lines = [road.lanes_end, *(LANE * lane for lane in range(1, road.lanes))]
    for index, d in enumerate([0.0, *lines, *(-line for line in lines)]):
        dashed = 0.0 < abs(d) < road.lanes_end or (index == 0 and road.lanes == 1)
        spans = [(s, s + 2.5) for s in np.arange(start, end, 7.0)] if dashed else [(start, end)]
        placed += [ribbon(road, float(low), float(high), [(d - 0.07, 0.012), (d + 0.07, 0.012)], white) for low, high in spans]
    return placed


def house(rng: np.random.Generator, width: float, depth: float) -> Mesh:
    """A block with windows, its street front towards +z."""
    height = float(pick(rng, (rng.uniform(4, 8), rng.uniform(8, 16), rng.uniform(16, 32)), (2, 4, 2)))
    tone = np.array(pick(rng, ((0.72, 0.66, 0.58), (0.6, 0.34, 0.27), (0.58, 0.6, 0.64), (0.8, 0.79, 0.75), (0.42, 0.44, 0.47), (0.7, 0.6, 0.4))))
    shade = (tone * rng.uniform(0.85, 1.1)).clip(0, 1)
    wall = (float(shade[0]), float(shade[1]), float(shade[2]))
    texture = _windows(wall, rng)
    pitch = float(rng.uniform(2.8, 3.6))
    x, z = width / 2, depth / 2
    plan = np.array([(-x, z), (x, z), (x, -z), (-x, -z), (-x, z)])
    run = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(plan, axis=0).T))])
    vertices = np.array([(px, y, pz) for px, pz in plan for y in (0.0, height)])
    faces = np.array([face for k in range(4) for face in ((2 * k, 2 * k + 2, 2 * k + 1), (2 * k + 1, 2 * k + 2, 2 * k + 3))] + [(1, 3, 5), (1, 5, 7)])
    uv = np.array([(along, y) for along in run for y in (0.0, height)]) / pitch
    return Mesh(vertices, faces, np.array([0] * 8 + [1, 1]), (Material("wall", wall, texture), Material("roof", (0.3, 0.3, 0.32))), uv[faces])


def tree(rng: np.random.Generator) -> Mesh:
    """Trunk and crown."""
    high, wide = float(rng.uniform(3.5, 9.0)), float(rng.uniform(1.2, 2.6))
    green = (float(rng.uniform(0.1, 0.3)), float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.08, 0.2)))
    crowns = []
    for _ in range(3):
        middle = (float(rng.normal(0, 0.4)), high * float(rng.uniform(0.6, 0.8)), float(rng.normal(0, 0.4)))
        crown = ellipsoid(wide * float(rng.uniform(0.6, 1)), 0.3 * high, wide * float(rng.uniform(0.6, 1)), segments=9, rings=7, at=middle)
        crowns.append((_rough(crown, rng), green))
    trunk = cylinder(0.035 * high, 0.62 * high, top_radius=0.02 * high, segments=7)
    return joined([(trunk, (0.32, 0.24, 0.17)), *crowns])


def hedge(rng: np.random.Generator, long: float) -> Mesh:
    """A clipped hedge along z."""
    return solid(_rough(box(float(rng.uniform(0.6, 1.0)), float(rng.uniform(0.7, 1.4)), long), rng), (0.16, 0.34, 0.13))


def pole(rng: np.random.Generator) -> Mesh:
    """A street lamp, a sign or a traffic light."""
    kind = pick(rng, ("lamp", "sign", "signal"), (3, 3, 1))
    grey = (0.5, 0.51, 0.53)
    if kind == "lamp":
        high = float(rng.uniform(6, 9))
        arm = box(1.6, 0.07, 0.1, at=(0.75, high, 0))
        bulb = box(0.5, 0.08, 0.2, at=(1.5, high - 0.08, 0))
        return joined([(cylinder(0.1, high, top_radius=0.06, segments=8), grey), (arm, grey), (bulb, (0.9, 0.9, 0.8))])
    high = float(rng.uniform(2.2, 3.0))
    colour = pick(rng, ((0.15, 0.3, 0.75), (0.8, 0.12, 0.12), (0.9, 0.9, 0.9), (0.9, 0.75, 0.1)))
    if kind == "sign":
        return joined([(cylinder(0.035, high, segments=6), grey), (box(0.6, 0.6, 0.03, at=(0, high - 0.6, 0.04)), colour)])
    return joined([(cylinder(0.06, high + 0.9, segments=8), grey), (box(0.3, 0.9, 0.25, at=(0, high, 0.12)), (0.1, 0.1, 0.1))])


def joined(painted: Sequence[tuple[Part, tuple[float, float, float]]]) -> Mesh:
    """Join parts of one colour each."""
    starts = np.cumsum([0, *(len(part.vertices) for part, _ in painted)])
    return Mesh(np.concatenate([part.vertices for part, _ in painted]),
                np.concatenate([part.faces + start for (part, _), start in zip(painted, starts[:-1], strict=True)]),
                np.concatenate([np.full(len(part.faces), index) for index, (part, _) in enumerate(painted)]),
                tuple(Material(f"paint{index}", colour) for index, (_, colour) in enumerate(painted)))


def houses(road: Road, side: int, start: float, end: float, rng: np.random.Generator, gaps: Sequence[tuple[float, float]] = ()) -> list[Placed]:
    """Line one side with houses, near the pavement or behind a green; here and there none. `gaps` (from, to) stay open."""
    placed = []
    s = start
    back = float(rng.uniform(0, 1.5)) if chance(rng, 0.45) else float(rng.uniform(5, 18))
    while s < end:
        width = float(rng.uniform(9, 26))
        middle = s + width / 2
        s += width + (float(rng.uniform(2, 9)) if chance(rng, 0.4) else 0.3)
        if any(low < middle + width / 2 and middle - width / 2 < high for low, high in gaps):
            continue
        if chance(rng, 0.2):  # a small green instead of a house
            placed.append(road.put(hedge(rng, width), middle, side * (road.front + 0.5), z=KERB))
            placed += [road.put(tree(rng), middle + float(rng.uniform(-0.4, 0.4)) * width, side * (road.front + float(rng.uniform(3, 14))), z=KERB)
                       for _ in range(4)]
            continue
        depth = float(rng.uniform(9, 16))
        placed.append(road.put(house(rng, width, depth), middle, side * (road.front + depth / 2 + back + float(rng.uniform(0, 1.5))), -90.0 * side))
        if back > 4.0:
            placed.append(road.put(hedge(rng, 0.7 * width), middle, side * (road.front + 0.6), z=KERB))
            place_s = middle + float(rng.uniform(-0.4, 0.4)) * width
            placed.append(road.put(tree(rng), place_s, side * (road.front + float(rng.uniform(2, back))), z=KERB))
    return placed


def _rough(part: Part, rng: np.random.Generator) -> Part:
    return Part(part.vertices * (1 + rng.normal(0, 0.06, part.vertices.shape)), part.faces, part.role)


def _grain(rgb: tuple[float, float, float], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    picture = np.asarray(rgb) + strength * rng.normal(0, 1, (TEXTURE, TEXTURE, 1))
    return (picture.clip(0, 1) * 255).astype(np.uint8)


def _slabs(rgb: tuple[float, float, float], rng: np.random.Generator) -> NDArray[np.uint8]:
    picture = _grain(rgb, 0.025, rng)
    picture[::16] = picture[::16] * 0.8
    picture[:, ::16] = picture[:, ::16] * 0.8
    return picture


def _windows(wall: tuple[float, float, float], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One window in a piece of wall."""
    picture = _grain(wall, 0.02, rng)
    left, top = int(rng.integers(4, 9)), int(rng.integers(5, 10))
    right, bottom = TEXTURE - left, TEXTURE - int(rng.integers(6, 11))
    picture[top - 1 : bottom + 1, left - 1 : right + 1] = (235, 235, 230)
    glass = float(rng.uniform(0.12, 0.4))
    picture[top:bottom, left:right] = (np.array([glass, glass * 1.12, glass * 1.25]) * 255).clip(0, 255).astype(np.uint8)
    picture[top:bottom, TEXTURE // 2] = (225, 225, 220)
    return picture
