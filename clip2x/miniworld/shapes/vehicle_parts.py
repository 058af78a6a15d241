"""What several vehicles share: wheels, bodies with wheel arches, cabins with windows. All sizes are ours: plausible metres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from clip2x.miniworld.shapes.parts import ArrayLike, Part, Points, box, extrude, lathe, loft, rods

Outline = list[tuple[float, float]]


@lru_cache(maxsize=8)
def _unit_wheel(segments: int) -> tuple[Part, Part]:
    tyre = lathe(
        [(0.6, -0.42), (0.9, -0.5), (1.0, -0.32), (1.0, 0.32), (0.9, 0.5), (0.6, 0.42), (0.6, -0.42)], segments=segments, role="rubber"
    )
    rim = lathe([(0.0, -0.3), (0.62, -0.26), (0.62, 0.26), (0.25, 0.3), (0.2, 0.44), (0.0, 0.44)], segments=segments, role="metal")
    return tyre.turned("z", -90.0), rim.turned("z", -90.0)


def wheels(radius: float, width: float, centres: ArrayLike, *, segments: int = 14) -> list[Part]:
    """Wheels whose axles lie along x: one part of all tyres, one of all rims. `centres` (N, 3); hubs point away from x = 0."""
    places = np.asarray(centres, dtype=float).reshape(-1, 3)
    parts = []
    for unit in _unit_wheel(segments):
        sized = unit.scaled(width, radius, radius)
        for side, flank in ((places[:, 0] >= 0, sized), (places[:, 0] < 0, sized.mirrored("x"))):
            if side.any():
                parts.append(flank.repeated(places[side]))
    return parts


def wheel_rows(radius: float, width: float, track: float, axles: Sequence[float], *, segments: int = 14) -> list[Part]:
    """A left and a right wheel on the ground at each axle position (z); `track` is the distance of the outer tyre faces."""
    reach = (track - width) / 2
    return wheels(radius, width, [(side * reach, radius, z) for z in axles for side in (-1, 1)], segments=segments)


def arch(z: float, axle_height: float, radius: float, sill: float, steps: int = 5) -> Outline:
    """Edge of a wheel arch in the (z, y) plane, from the rear foot on the sill over the wheel to the front foot."""
    foot = np.arcsin(np.clip((sill - axle_height) / radius, -0.95, 0.95))
    angles = np.linspace(np.pi - foot, foot, steps + 2)
    return [(z + radius * float(np.cos(a)), axle_height + radius * float(np.sin(a))) for a in angles]


def side_body(top: Outline, arches: Sequence[Outline], width: float, *, bevel: float = 0.06, role: str = "body") -> Part:
    """Prism along x of a side view: `top` runs from the front foot over the top to the rear foot, then follow the wheel arches."""
    return extrude([*top, *(point for edge in sorted(arches) for point in edge)], width, axis="x", bevel=bevel, role=role)


def plan_ring(half_width: float, rear: float, front: float, y: float, corner: float) -> Points:
    """Rectangle in plan with cut corners, as a section for a loft upwards (8, 3)."""
    cut = min(corner, 0.48 * (front - rear), 0.98 * half_width)
    w, c = half_width, cut
    plan = [(w - c, front), (w, front - c), (w, rear + c), (w - c, rear), (c - w, rear), (-w, rear + c), (-w, front - c), (c - w, front)]
    return np.array([(x, y, z) for x, z in plan])


def cross_ring(half_width: float, bottom: float, top: float, z: float, corner: float) -> Points:
    """Rectangle across with cut corners, as a section for a loft along +z (8, 3)."""
    w, c = half_width, min(corner, 0.48 * (top - bottom), 0.98 * half_width)
    across = [(w, bottom + c), (w, top - c), (w - c, top), (c - w, top), (-w, top - c), (-w, bottom + c), (c - w, bottom), (w - c, bottom)]
    return np.array([(x, y, z) for x, y in across])


def rounded_box(width: float, height: float, depth: float, corner: float, *, at: ArrayLike = (0.0, 0.0, 0.0), role: str = "body") -> Part:
    """Box with all edges chamfered; `at` is the middle of its bottom face."""
    corner = min(corner, 0.45 * width, 0.45 * height, 0.45 * depth)
    inner, outer = width / 2 - corner, width / 2
    levels = [(inner, 0.0, corner), (outer, corner, 0.0), (outer, height - corner, 0.0), (inner, height, corner)]
    rings = [plan_ring(half, -depth / 2 + cut, depth / 2 - cut, y, corner) for half, y, cut in levels]
    x, y, z = np.asarray(at, dtype=float)
    return loft(rings, role=role).moved(float(x), float(y), float(z))


def cabin(
    belt: tuple[float, float, float, float],
    roof: tuple[float, float, float, float],
    *,
    corner: float = 0.15,
    posts: Sequence[float] = (0.5,),
    glazed: bool = True,
) -> list[Part]:
    """Greenhouse of a car: glass all round, roof and pillars in body colour.

    Args:
        belt: Half width, rear z, front z, height of the lower edge.
        roof: The same of the roof's edge.
        corner: Cut of the corners in plan, metres.
        posts: Places of the pillars along each side, 0 at the rear, 1 in front; the corner pillars are always there.
        glazed: False for a closed panel van: sides in body colour, glass only at the front and the front doors.
    """
    low, high = np.array(belt), np.array(roof)

    def ring(t: float, swell: float = 0.0) -> Points:
        half, rear, front, y = low + t * (high - low)
        return plan_ring(half + swell, rear - swell, front + swell, y, corner)

    parts = [loft([ring(0.0), ring(0.5, 0.025), ring(0.86)], role="glass" if glazed else "body")]
    half, rear, front, y = high
    crown = 0.14 * (roof[3] - belt[3])
    lid = [
        ring(0.86, 0.012),
        plan_ring(half, rear, front, y - 0.25 * crown, corner),
        plan_ring(0.86 * half, rear + 0.12, front - 0.12, y, corner),
    ]
    parts.append(loft(lid))
    if not glazed:
        return parts + _panel_van_glass(ring)
    foot, head = ring(0.0, 0.005), ring(0.88, 0.005)
    starts, ends = [*foot], [*head]
    for place in posts:
        for front_corner, rear_corner in ((1, 2), (6, 5)):
            starts.append(foot[rear_corner] + place * (foot[front_corner] - foot[rear_corner]))
            ends.append(head[rear_corner] + place * (head[front_corner] - head[rear_corner]))
    return [*parts, rods(starts, ends, [0.035] * 8 + [0.04] * (len(starts) - 8))]


def _panel_van_glass(ring: Callable[[float, float], Points]) -> list[Part]:
    low, high = ring(0.12, 0.02), ring(0.78, 0.02)
    screen = _pane(low[7], low[0], high[0], high[7])
    sides = []
    for front_corner, rear_corner in ((1, 2), (6, 5)):
        depth = 0.95 / float(low[front_corner][2] - low[rear_corner][2])
        back_low = low[front_corner] + depth * (low[rear_corner] - low[front_corner])
        back_high = high[front_corner] + depth * (high[rear_corner] - high[front_corner])
        sides.append(_pane(low[front_corner], back_low, back_high, high[front_corner]))
    return [screen, *sides]


def _pane(*corners: Points) -> Part:
    """Thin glass through four corners."""
    quad = np.array(corners)
    normal = np.cross(quad[1] - quad[0], quad[3] - quad[0])
    normal *= 0.012 / np.linalg.norm(normal)
    return loft([quad - normal, quad + normal], role="glass")


def lamps(half_width: float, y: float, z: float, size: tuple[float, float, float], role: str = "light") -> Part:
    """A lamp on the left and one on the right, at the height of their bottom."""
    reach = half_width - size[0] / 2
    return box(*size, role=role).repeated([(-reach, y, z), (reach, y, z)])


def mirrors(half_width: float, y: float, z: float, size: float = 0.16) -> Part:
    """The two outside mirrors."""
    return rounded_box(size * 1.2, size, size * 0.7, 0.03).repeated([(-half_width - size / 2, y, z), (half_width + size / 2, y, z)])
