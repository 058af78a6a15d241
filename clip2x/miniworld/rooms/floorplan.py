"""Find free places in a room: at walls, beside, before and around furniture, on top of it. No two footprints overlap.

World frame: z up, metres. The room reaches from (0, 0) to (length, width); its front side (y = 0) has no wall, for there the camera stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import hypot

import numpy as np
from numpy.typing import NDArray

from clip2x.meshes import Mesh
from clip2x.miniworld.scenes import Placed, place

Rng = np.random.Generator

TRIES = 10  # places that are tried for an object before it is left out
FLATNESS = 0.01  # metres that the surface under a small thing may differ
INWARDS_DEG = {"back": -90.0, "left": 0.0, "right": 180.0}
"""Headings away from the walls: back at y = width, left at x = 0, right at x = length."""


@dataclass(frozen=True)
class Footprint:
    """Rectangle on the floor: middle (x, y), extents along the heading and across it, metres."""

    x: float
    y: float
    along: float
    across: float
    heading_deg: float

    @cached_property
    def axes(self) -> NDArray[np.float64]:
        """Unit vectors along the heading and to its left, as rows (2, 2)."""
        heading = np.deg2rad(self.heading_deg)
        return np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])

    @cached_property
    def corners(self) -> NDArray[np.float64]:
        """The four corners in turn, (4, 2)."""
        half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * np.array([self.along, self.across]) / 2
        corners: NDArray[np.float64] = half @ self.axes + np.array([self.x, self.y])
        return corners

    def grown(self, margin: float) -> Footprint:
        """Add a margin on every side."""
        return Footprint(self.x, self.y, self.along + 2 * margin, self.across + 2 * margin, self.heading_deg)

    def contains(self, x: float, y: float) -> bool:
        """Tell whether a point lies inside."""
        offset = self.axes @ np.array([x - self.x, y - self.y])
        return bool(abs(offset[0]) <= self.along / 2 and abs(offset[1]) <= self.across / 2)


def overlap(one: Footprint, other: Footprint) -> bool:
    """Tell whether two rectangles share area (separating axes)."""
    if 2 * hypot(one.x - other.x, one.y - other.y) >= hypot(one.along, one.across) + hypot(other.along, other.across):
        return False
    first, second = one.corners, other.corners
    for axis in (*one.axes, *other.axes):
        left, right = first @ axis, second @ axis
        if left.max() <= right.min() or right.max() <= left.min():
            return False
    return True


def surface_height(mesh: Mesh, spots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find how high a mesh reaches above spots (K, 2) given as x and z of the object frame: (K,) metres, -inf beside it."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    (abx, abz), (acx, acz) = (b - a)[:, [0, 2]].T, (c - a)[:, [0, 2]].T
    area = abx * acz - acx * abz
    level = np.abs(area) > 1e-9
    dx, dz = spots[:, :1] - a[:, 0], spots[:, 1:] - a[:, 2]
    safe = np.where(level, area, 1.0)
    u, v = (dx * acz - acx * dz) / safe, (abx * dz - dx * abz) / safe
    inside = level & (u >= 0) & (v >= 0) & (u + v <= 1)
    height = a[:, 1] + u * (b - a)[:, 1] + v * (c - a)[:, 1]
    top: NDArray[np.float64] = np.where(inside, height, -np.inf).max(axis=1)
    return top


@dataclass(frozen=True)
class Standing:
    """An object at its place. z: of its bottom; height: of the object, metres. support: what it stands on, None for the floor.

    unseen: of a kind that no training caption names.
    """

    name: str
    mesh: Mesh
    footprint: Footprint
    z: float
    height: float
    wall: str | None = None
    support: Standing | None = None
    unseen: bool = False

    def placed(self, number: int) -> Placed:
        """Put it into the world under an instance number."""
        foot = self.footprint
        return place(self.mesh, foot.x, foot.y, foot.heading_deg, z=self.z, number=number, name=self.name)


@dataclass
class FloorPlan:
    """A room that is being furnished. `make` builds the next object of a class; `walls` names those that are there."""

    length: float
    width: float
    walls: tuple[str, ...]
    make: Callable[[str], Mesh]
    rng: Rng
    standing: list[Standing] = field(default_factory=list)

    def at_wall(self, name: str, wall: str | None = None) -> Standing | None:
        """Stand an object with its back to a wall, now and then in a corner."""
        mesh = self.make(name)
        across, _, along = np.ptp(mesh.vertices, axis=0)
        for _ in range(TRIES):
            side = wall or self.walls[self.rng.integers(len(self.walls))]
            reach = self.length if side == "back" else self.width
            free = reach - across
            if free < 0.02:
                continue
            share = float(self.rng.integers(2)) if self.rng.random() < 0.35 else self.rng.random()
            at = across / 2 + 0.01 + share * (free - 0.02)
            gap = self.rng.uniform(0.01, 0.07) + along / 2
            x, y = {"back": (at, self.width - gap), "left": (gap, at), "right": (self.length - gap, at)}[side]
            found = self.stand(name, mesh, x, y, INWARDS_DEG[side], wall=side)
            if found:
                return found
        return None

    def beside(self, anchor: Standing, name: str) -> Standing | None:
        """Stand an object at either side of another, backs in line, looking the same way."""
        mesh = self.make(name)
        across, _, along = np.ptp(mesh.vertices, axis=0)
        foot = anchor.footprint
        for side in self.rng.permutation([-1, 1]):
            out = side * (foot.across / 2 + across / 2 + self.rng.uniform(0.02, 0.2))
            x, y = np.array([foot.x, foot.y]) + out * foot.axes[1] + (along - foot.along) / 2 * foot.axes[0]
            found = self.stand(name, mesh, float(x), float(y), foot.heading_deg, wall=anchor.wall)
            if found:
                return found
        return None

    def before(self, anchor: Standing, name: str, gap: tuple[float, float], *, facing: bool = True) -> Standing | None:
        """Stand an object in front of another, turned to it or looking the same way."""
        mesh = self.make(name)
        across, _, along = np.ptp(mesh.vertices, axis=0)
        for _ in range(TRIES):
            foot = anchor.footprint
            forward = (foot.along + along) / 2 + self.rng.uniform(*gap)
            aside = self.rng.uniform(-0.5, 0.5) * max(foot.across - across, 0.2)
            x, y = np.array([foot.x, foot.y]) + forward * foot.axes[0] + aside * foot.axes[1]
            heading = foot.heading_deg + (180.0 if facing else 0.0) + float(self.rng.normal(0, 12 if facing else 3))
            found = self.stand(name, mesh, float(x), float(y), heading)
            if found:
                return found
        return None

    def around(self, table: Standing, name: str, count: int) -> None:
        """Stand up to `count` objects around a table, turned to it."""
        foot = table.footprint
        sides = [(0, 1), (0, -1), (1, 1), (1, -1)]  # (axis of the footprint, direction)
        for number in range(count):
            mesh = self.make(name)
            depth = float(np.ptp(mesh.vertices[:, 2]))
            for attempt in range(4):
                axis, sign = sides[(number + attempt) % 4]
                extent, other = (foot.along, foot.across) if axis == 0 else (foot.across, foot.along)
                out = sign * (extent / 2 + depth / 2 + self.rng.uniform(0.06, 0.3))
                shift = self.rng.uniform(-0.5, 0.5) * max(other - 0.5, 0.0)
                x, y = np.array([foot.x, foot.y]) + out * foot.axes[axis] + shift * foot.axes[1 - axis]
                heading = foot.heading_deg + 90.0 * axis + (180.0 if sign > 0 else 0.0) + float(self.rng.normal(0, 9))
                if self.stand(name, mesh, float(x), float(y), heading):
                    break

    def anywhere(self, name: str, mesh: Mesh | None = None) -> Standing | None:
        """Stand an object at some free place, turned as it likes."""
        mesh = self.make(name) if mesh is None else mesh
        for _ in range(TRIES):
            x, y = self.rng.uniform(0.1, self.length - 0.1), self.rng.uniform(0.1, self.width - 0.1)
            found = self.stand(name, mesh, x, y, self.rng.uniform(0, 360))
            if found:
                return found
        return None

    def on_top(self, support: Standing, name: str, mesh: Mesh | None = None, *, aligned: bool = False) -> Standing | None:
        """Put an object on a flat part of another; `aligned` things look the way that the support looks."""
        mesh = self.make(name) if mesh is None else mesh
        foot = support.footprint
        across, height, along = np.ptp(mesh.vertices, axis=0)
        low, high = support.mesh.vertices.min(axis=0), support.mesh.vertices.max(axis=0)
        middle = (low + high)[[0, 2]] / 2
        for _ in range(TRIES):
            turn = float(self.rng.normal(0, 8)) if aligned else self.rng.uniform(0, 360)
            shift = self.rng.uniform(-0.45, 0.45, 2) * np.array([foot.along, foot.across])
            x, y = np.array([foot.x, foot.y]) + shift @ foot.axes
            spot = Footprint(float(x), float(y), float(along), float(across), foot.heading_deg + turn)
            offset = (np.concatenate([spot.corners, [[spot.x, spot.y]]]) - np.array([foot.x, foot.y])) @ foot.axes.T
            heights = surface_height(support.mesh, middle + offset[:, ::-1])  # along the heading = z, to its left = x
            if not np.isfinite(heights).all() or np.ptp(heights) > FLATNESS:
                continue
            z = support.z + float(heights.max() - low[1])
            if 0.3 <= z <= 1.35 and not any(item.support is support and overlap(item.footprint, spot) for item in self.standing):
                found = Standing(name, mesh, spot, z, float(height), support=support)
                self.standing.append(found)
                return found
        return None

    def stand(self, name: str, mesh: Mesh, x: float, y: float, heading_deg: float, *, wall: str | None = None) -> Standing | None:
        """Stand an object on the floor unless it leaves the room or runs into another."""
        across, height, along = (float(extent) for extent in np.ptp(mesh.vertices, axis=0))
        foot = Footprint(x, y, along, across, heading_deg)
        corners = foot.corners
        inside = (corners >= 0).all() and (corners <= np.array([self.length, self.width])).all()
        if not inside or any(item.support is None and overlap(item.footprint, foot) for item in self.standing):
            return None
        found = Standing(name, mesh, foot, 0.0, height, wall)
        self.standing.append(found)
        return found


def clear_of(standing: Sequence[Standing], x: float, y: float, z: float) -> bool:
    """Tell whether a camera at (x, y, z) keeps its distance: 0.45 m from what is as high as itself, 0.15 m from all on the floor."""
    return not any(item.support is None and item.footprint.grown(0.45 if item.height > z - 0.35 else 0.15).contains(x, y) for item in standing)
