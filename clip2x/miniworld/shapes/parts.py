"""Solid primitives that the parametric objects are built from.

Every function returns a `Part` in the object frame (y up; objects look towards +z, their width lies along x), in metres, with
triangles wound counter-clockwise seen from outside. A part carries a role ("body", "metal", ...), which `objects.assemble` turns
into a material.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Triangles = NDArray[np.int64]
ArrayLike = float | Sequence[Any] | NDArray[Any]  # coordinates as (nested) sequences or an array


@dataclass(frozen=True)
class Part:
    """Triangles of one material. vertices (V, 3), metres; faces (F, 3), indices."""

    vertices: Points
    faces: Triangles
    role: str = "body"

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Part:
        """Translate by metres."""
        return Part(self.vertices + np.array([x, y, z]), self.faces, self.role)

    def scaled(self, x: float = 1.0, y: float = 1.0, z: float = 1.0) -> Part:
        """Stretch about the origin by positive factors."""
        return Part(self.vertices * np.array([x, y, z]), self.faces, self.role)

    def turned(self, axis: str, angle_deg: float, about: ArrayLike = (0.0, 0.0, 0.0)) -> Part:
        """Rotate about an axis through `about`, right-handed."""
        pivot = np.asarray(about, dtype=float)
        return Part((self.vertices - pivot) @ _rotation(axis, angle_deg).T + pivot, self.faces, self.role)

    def mirrored(self, axis: str = "x") -> Part:
        """Reflect at the plane through the origin; the winding is turned round, so that the outside stays outside."""
        sign = np.where(np.arange(3) == "xyz".index(axis), -1.0, 1.0)
        return Part(self.vertices * sign, self.faces[:, ::-1], self.role)

    def painted(self, role: str) -> Part:
        """Give it another role."""
        return Part(self.vertices, self.faces, role)

    def repeated(self, offsets: ArrayLike) -> Part:
        """Join copies of it, one moved by each of the offsets (N, 3), metres, into one part."""
        shifts = np.asarray(offsets, dtype=float).reshape(-1, 1, 3)
        starts = np.arange(len(shifts))[:, None, None] * len(self.vertices)
        return Part((self.vertices + shifts).reshape(-1, 3), (self.faces + starts).reshape(-1, 3), self.role)


def box(width: float, height: float, depth: float, *, at: ArrayLike = (0.0, 0.0, 0.0), role: str = "body") -> Part:
    """Axis-aligned box, sizes along x, y, z; `at` is the middle of its BOTTOM face."""
    vertices = _UNIT_BOX[0] * np.array([width, height, depth]) + np.asarray(at, dtype=float)
    return Part(vertices, _UNIT_BOX[1], role)


def _unit_box() -> tuple[Points, Triangles]:
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (0.0, 1.0) for z in (-0.5, 0.5)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return corners, np.array([triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))])


_UNIT_BOX = _unit_box()


def lathe(profile: ArrayLike, *, segments: int = 20, at: ArrayLike = (0.0, 0.0, 0.0), role: str = "body") -> Part:
    """Turn a profile [(radius, y), ...] about the y axis.

    Run the profile from the bottom up along the OUTSIDE (and back down the inside for a hollow body); begin and end at radius 0 to
    close the solid.
    """
    outline = np.asarray(profile, dtype=float)
    angles = np.linspace(0.0, 2 * np.pi, segments, endpoint=False)
    ring = np.stack([np.sin(angles), np.zeros_like(angles), np.cos(angles)], axis=1)
    sections = outline[:, None, :1] * ring[None] + outline[:, None, 1:] * np.array([0.0, 1.0, 0.0])
    return loft(sections + np.asarray(at, dtype=float), role=role, capped=False)


def cylinder(radius: float, height: float, *, top_radius: float | None = None, axis: str = "y", segments: int = 16,
             at: ArrayLike = (0.0, 0.0, 0.0), role: str = "body") -> Part:
    """Cylinder or frustum (`top_radius`, 0 for a cone). Along y it stands on `at`; along x or z `at` is its MIDDLE."""
    top = radius if top_radius is None else top_radius
    part = lathe([(0.0, 0.0), (radius, 0.0), (top, height), (0.0, height)], segments=segments, role=role)
    if axis != "y":
        part = part.moved(y=-height / 2).turned("z", -90.0) if axis == "x" else part.moved(y=-height / 2).turned("x", 90.0)
    return part.moved(*np.asarray(at, dtype=float))


def ellipsoid(x_radius: float, y_radius: float, z_radius: float, *, at: ArrayLike = (0.0, 0.0, 0.0), segments: int = 16,
              rings: int = 9, role: str = "body", squareness: float = 1.0) -> Part:
    """Ellipsoid about its MIDDLE `at`; `squareness` below 1 swells it towards a box (superellipsoid exponent)."""
    unit = _unit_ellipsoid(segments, rings, squareness)
    return Part(unit.vertices * np.array([x_radius, y_radius, z_radius]) + np.asarray(at, dtype=float), unit.faces, role)


@lru_cache(maxsize=64)
def _unit_ellipsoid(segments: int, rings: int, squareness: float) -> Part:
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rings)
    longitude = np.linspace(0.0, 2 * np.pi, segments, endpoint=False)

    def power(values: Points) -> Points:
        return np.sign(values) * np.abs(values) ** squareness

    radius = power(np.cos(latitude).clip(0.0))
    radius[[0, -1]] = 0.0
    ring = np.stack([power(np.sin(longitude)), np.zeros(segments), power(np.cos(longitude))], axis=1)
    sections = radius[:, None, None] * ring[None] + power(np.sin(latitude))[:, None, None] * np.array([0.0, 1.0, 0.0])
    return loft(sections, capped=False)


def tube(path: ArrayLike, radius: float | Sequence[float], *, segments: int = 8, role: str = "body", closed: bool = False) -> Part:
    """Sweep a circle along a polyline (K, 3); `radius` is one number or K numbers; `closed` joins the end to the start."""
    line = np.asarray(path, dtype=float)
    radii = np.broadcast_to(np.asarray(radius, dtype=float), (len(line),))
    tangents = np.roll(line, -1, axis=0) - np.roll(line, 1, axis=0) if closed else np.gradient(line, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True) + 1e-12
    normal = cross(tangents[0], np.array([0.0, 1.0, 0.0]))
    if np.linalg.norm(normal) < 1e-3:
        normal = cross(tangents[0], np.array([1.0, 0.0, 0.0]))
    angles = np.linspace(0.0, 2 * np.pi, segments, endpoint=False)
    sections = []
    for centre, tangent, size in zip(line, tangents, radii, strict=True):
        normal = normal - tangent * (normal @ tangent)
        normal /= np.sqrt(normal @ normal) + 1e-12
        binormal = cross(tangent, normal)
        sections.append(centre + size * (np.cos(angles)[:, None] * normal + np.sin(angles)[:, None] * binormal))
    if closed:
        sections.append(sections[0])
    return loft(np.stack(sections), role=role, capped=not closed)


def rods(starts: ArrayLike, ends: ArrayLike, radius: float | ArrayLike, *, sides: int = 4, role: str = "body") -> Part:
    """Straight capped bars from `starts` (N, 3) to `ends` (N, 3), all in one part; `radius` is one number or N numbers."""
    low, high = np.asarray(starts, dtype=float).reshape(-1, 3), np.asarray(ends, dtype=float).reshape(-1, 3)
    direction = high - low
    direction /= np.sqrt((direction**2).sum(axis=1, keepdims=True)) + 1e-12
    reference = np.where(np.abs(direction[:, 1:2]) > 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = cross(direction, reference)
    first /= np.sqrt((first**2).sum(axis=1, keepdims=True))
    second = cross(direction, first)
    circle, faces = _rod_faces(sides)
    size = np.asarray(radius, dtype=float).reshape(-1, 1)
    ring = circle[None, :, :1] * (size * first)[:, None] + circle[None, :, 1:] * (size * second)[:, None]
    vertices = np.concatenate([low[:, None] + ring, high[:, None] + ring], axis=1)
    blocks = np.arange(len(low))[:, None, None] * (2 * sides)
    return Part(vertices.reshape(-1, 3), (faces[None] + blocks).reshape(-1, 3), role)


@lru_cache(maxsize=16)
def _rod_faces(sides: int) -> tuple[Points, Triangles]:
    """Unit circle (S, 2) and the triangles of one bar whose two ends have S corners each."""
    angles = (np.arange(sides) + 0.5) * 2 * np.pi / sides
    corner = np.arange(sides)
    following = (corner + 1) % sides
    fan = np.stack([np.zeros(sides - 2, dtype=int), corner[1:-1], corner[2:]], axis=1)
    rising = np.stack([corner, following, following + sides], axis=1)
    falling = np.stack([corner, following + sides, corner + sides], axis=1)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1), np.concatenate([rising, falling, fan[:, ::-1], fan + sides])


def extrude(outline: ArrayLike, depth: float, *, axis: str = "z", at: ArrayLike = (0.0, 0.0, 0.0), role: str = "body",
            bevel: float = 0.0) -> Part:
    """Prism over a simple polygon, convex or not.

    The outline (K, 2) is given in (x, y) for axis z, in (z, y) for axis x, in (x, z) for axis y; the prism reaches from -depth/2 to
    +depth/2 along the axis, then it is moved by `at`. `bevel` chamfers the edges of both ends by so many metres.
    """
    polygon = np.asarray(outline, dtype=float)
    if _signed_area(polygon) < 0:
        polygon = polygon[::-1]
    caps = _ear_clip(polygon)
    count = len(polygon)
    half = depth / 2
    layers = [(polygon, half), (polygon, -half)]
    if bevel > 0:
        inner = _inset(polygon, bevel)
        layers = [(inner, half), (polygon, half - bevel), (polygon, bevel - half), (inner, -half)]
    vertices = np.concatenate([np.column_stack([ring, np.full(count, level)]) for ring, level in layers])
    index = np.arange(count)
    following = (index + 1) % count
    side = np.concatenate([np.stack([index, index + count, following], axis=1),
                           np.stack([following, index + count, following + count], axis=1)])
    sides = [side + level * count for level in range(len(layers) - 1)]
    faces = np.concatenate([caps, caps[:, ::-1] + count * (len(layers) - 1), *sides])
    if axis == "x":
        vertices, faces = vertices[:, [2, 1, 0]], faces[:, ::-1]
    elif axis == "y":
        vertices, faces = vertices[:, [0, 2, 1]], faces[:, ::-1]
    return Part(vertices + np.asarray(at, dtype=float), faces, role)


def loft(sections: ArrayLike, *, role: str = "body", capped: bool = True) -> Part:
    """Join closed cross-sections (K, M, 3) of M corresponding corners into one body, with flat ends if `capped`.

    Seen from outside with the first section below and the last above, the corners must run counter-clockwise as seen from above
    (about +y: x = sin, z = cos).
    """
    rings = np.asarray(sections, dtype=float)
    count, corners = rings.shape[:2]
    vertices = rings.reshape(-1, 3)
    if capped:
        vertices = np.concatenate([vertices, rings[[0, -1]].mean(axis=1)])
    triangles = _loft_faces(count, corners, capped)
    corner = vertices[triangles]
    area = np.abs(cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])).max(axis=1)
    return Part(vertices, triangles[area > 1e-14], role)


def grounded(parts: Sequence[Part]) -> list[Part]:
    """Put an object on y = 0, with the middle of its bounding box on the y axis."""
    low = np.min([part.vertices.min(axis=0) for part in parts], axis=0)
    high = np.max([part.vertices.max(axis=0) for part in parts], axis=0)
    shift = -np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    return [Part(part.vertices + shift, part.faces, part.role) for part in parts]


def cross(left: Points, right: Points) -> Points:
    """Cross products over the last axis; many times faster than `np.cross` on the short arrays that make a part."""
    product = np.empty(np.broadcast_shapes(left.shape, right.shape))
    for axis, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        product[..., axis] = left[..., i] * right[..., j] - left[..., j] * right[..., i]
    return product


@lru_cache(maxsize=512)
def _loft_faces(count: int, corners: int, capped: bool) -> Triangles:
    row = np.arange(corners)
    following = (row + 1) % corners
    faces = []
    for level in range(count - 1):
        low, high = level * corners, (level + 1) * corners
        faces.append(np.stack([row + low, following + low, following + high], axis=1))
        faces.append(np.stack([row + low, following + high, row + high], axis=1))
    if capped:
        bottom, top, last = count * corners, count * corners + 1, (count - 1) * corners
        faces.append(np.stack([following, row, np.full(corners, bottom)], axis=1))
        faces.append(np.stack([row + last, following + last, np.full(corners, top)], axis=1))
    return np.concatenate(faces)


def _rotation(axis: str, angle_deg: float) -> Points:
    angle = np.deg2rad(angle_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    return {
        "x": np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]]),
        "y": np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]]),
        "z": np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]),
    }[axis]


def _signed_area(polygon: Points) -> float:
    following = np.roll(polygon, -1, axis=0)
    return 0.5 * float(np.sum(polygon[:, 0] * following[:, 1] - following[:, 0] * polygon[:, 1]))


def _inset(polygon: Points, distance: float) -> Points:
    """Move the corners of a counter-clockwise polygon inwards; sharp corners move at most 2.5 times the distance."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    normals = np.stack([-edges[:, 1], edges[:, 0]], axis=1) / (np.linalg.norm(edges, axis=1, keepdims=True) + 1e-12)
    before = np.roll(normals, 1, axis=0)
    spread: Points = (1 + (before * normals).sum(axis=1, keepdims=True)).clip(0.4)
    moved: Points = polygon + distance * (before + normals) / spread
    return moved


def _ear_clip(polygon: Points) -> Triangles:
    """Triangulate a simple counter-clockwise polygon; K corners give K - 2 triangles. Plain floats: numpy is slower on so few."""
    points = [(float(x), float(y)) for x, y in polygon]

    def turn(first: int, second: int, third: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = points[first], points[second], points[third]
        return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)

    remaining = list(range(len(points)))
    triangles: list[tuple[int, int, int]] = []
    while len(remaining) > 3:
        size = len(remaining)
        corners = [(remaining[position - 1], remaining[position], remaining[(position + 1) % size]) for position in range(size)]
        convex = [turn(*corner) > 2e-15 for corner in corners]
        dents = [corner[1] for corner, bulges in zip(corners, convex, strict=True) if not bulges]
        if not dents:
            break
        for position, (before, tip, after) in enumerate(corners):
            if convex[position] and not any(
                turn(before, tip, dent) >= 0 and turn(tip, after, dent) >= 0 and turn(after, before, dent) >= 0
                for dent in dents if dent not in (before, after)
            ):
                triangles.append((before, tip, after))
                del remaining[position]
                break
        else:
            raise ValueError("the outline crosses itself or has repeated corners")
    fan = [(remaining[0], remaining[place], remaining[place + 1]) for place in range(1, len(remaining) - 1)]
    if any(turn(*corners) < -1e-12 for corners in fan):
        raise ValueError("the outline crosses itself or has repeated corners")
    return np.array(triangles + fan)
