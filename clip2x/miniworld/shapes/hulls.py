"""Hulls of ships and boats."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.parts import Part, box, loft


def _stations(
    length: float, beam: float, depth: float, *, bow: float, stern: float, rise: float, sheer: float
) -> list[tuple[float, float, float, float]]:
    """(z at the deck, half breadth, keel height, deck height) from stern to bow; see `hull` for the arguments."""
    rows = []
    for u in np.linspace(0, 1, 10):
        forward, aft = max(0.0, (u - 1 + bow) / bow), max(0.0, 1 - u / 0.3)
        half = beam / 2 * (1 - forward**2.2) * (1 - (1 - stern) * aft**1.6) + 0.004 * beam
        keel = depth * (rise * forward**3 + 0.3 * rise * aft**2)
        rows.append(((u - 0.5) * length, half, keel, depth * (1 + sheer * (2.2 * (u - 0.45)) ** 2)))
    return rows


def hull(
    length: float,
    beam: float,
    depth: float,
    *,
    bow: float = 0.35,
    stern: float = 0.8,
    rise: float = 0.5,
    sheer: float = 0.08,
    fullness: float = 0.85,
    role: str = "body",
) -> Part:
    """Closed hull with a flat deck.

    Args:
        length: Along z, metres.
        beam: Along x, metres.
        depth: Keel to deck amidships, metres.
        bow: Share of the length over which the bow narrows.
        stern: Breadth of the transom as a share of the beam.
        rise: How far the keel rises to the bow, share of the depth.
        sheer: How far the deck rises to the ends, share of the depth.
        fullness: 1 for a box-shaped bottom, less for a V.
        role: Material.
    """
    rings = []
    for z, half, keel, deck in _stations(length, beam, depth, bow=bow, stern=stern, rise=rise, sheer=sheer):
        bilge = keel + 0.3 * (deck - keel)
        right = [(0.0, keel), (half * fullness * 0.75, keel + 0.06 * (deck - keel)), (half * (0.5 + 0.5 * fullness), bilge), (half, deck)]
        rings.append([(x, y, z) for x, y in right] + [(-x, y, z) for x, y in right[:0:-1]])
    return loft(rings, role=role)


def open_hull(length: float, beam: float, depth: float, *, pointed: bool = False) -> list[Part]:
    """Hollow boat with planks as seats; `pointed` at both ends like a canoe."""
    rings, wall = [], 0.04 * beam
    for z, half, keel, deck in _stations(length, beam, depth, bow=0.5, stern=0.05 if pointed else 0.75, rise=0.45, sheer=0.15):
        outer = [(half, deck), (half * 0.86, keel + 0.35 * (deck - keel)), (half * 0.45, keel + 0.04 * depth)]
        inner = [
            (max(half - wall, 0.3 * half), deck),
            (max(half * 0.86 - wall, 0.2 * half), keel + 0.4 * (deck - keel)),
            (half * 0.4, keel + 0.14 * depth),
        ]
        path = [*((-x, y) for x, y in outer), (0.0, keel), *outer[::-1], *inner, *((-x, y) for x, y in inner[::-1])]
        rings.append([(x, y, z) for x, y in path])
    places = [(0.0, depth * 0.68, z * length) for z in ((-0.28, 0.0, 0.2) if not pointed else (-0.2, 0.22))]
    transom = [] if pointed else [box(beam * 0.7, depth * 0.75, wall, at=(0.0, depth * 0.28, -length / 2 + wall / 2))]
    return [loft(rings, capped=False), box(beam * 0.8, depth * 0.06, 0.08 * length, role="wood").repeated(places), *transom]
