"""Bottles, jugs, spray bottles and dispensers. All sizes are ours: plausible metres."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, grounded, lathe, loft
from clip2x.miniworld.shapes.vessels import Profile, handle, hollow, smooth

BOTTLES: dict[str, Profile] = {  # Ours: (radius over the largest radius, height over the full height), foot to rim.
    "bordeaux": [
        (0.93, 0.0),
        (1.0, 0.02),
        (1.0, 0.58),
        (0.95, 0.64),
        (0.55, 0.71),
        (0.36, 0.76),
        (0.34, 0.95),
        (0.4, 0.955),
        (0.4, 0.98),
        (0.34, 1.0),
    ],
    "burgundy": [
        (0.93, 0.0),
        (1.0, 0.02),
        (1.0, 0.42),
        (0.9, 0.54),
        (0.6, 0.68),
        (0.4, 0.78),
        (0.34, 0.86),
        (0.34, 0.96),
        (0.4, 0.965),
        (0.38, 1.0),
    ],
    "beer": [(0.93, 0.0), (1.0, 0.03), (1.0, 0.52), (0.94, 0.6), (0.6, 0.74), (0.44, 0.84), (0.42, 0.95), (0.47, 0.96), (0.44, 1.0)],
    "cola": [
        (0.9, 0.0),
        (0.98, 0.04),
        (1.0, 0.12),
        (0.82, 0.3),
        (0.84, 0.38),
        (1.0, 0.55),
        (0.92, 0.66),
        (0.6, 0.8),
        (0.4, 0.9),
        (0.38, 0.97),
        (0.44, 0.975),
        (0.42, 1.0),
    ],
    "water": [
        (0.85, 0.0),
        (1.0, 0.03),
        (1.0, 0.3),
        (0.92, 0.34),
        (0.92, 0.4),
        (1.0, 0.44),
        (1.0, 0.68),
        (0.9, 0.78),
        (0.5, 0.9),
        (0.38, 0.93),
        (0.38, 0.97),
    ],
    "pet": [
        (0.75, 0.0),
        (1.0, 0.05),
        (1.0, 0.2),
        (0.94, 0.22),
        (1.0, 0.25),
        (1.0, 0.62),
        (0.85, 0.75),
        (0.48, 0.88),
        (0.32, 0.92),
        (0.32, 0.96),
    ],
    "milk": [(0.95, 0.0), (1.0, 0.02), (1.0, 0.55), (0.8, 0.72), (0.56, 0.82), (0.55, 0.94), (0.66, 0.95), (0.64, 1.0)],
    "medicine": [(0.95, 0.0), (1.0, 0.03), (1.0, 0.68), (0.85, 0.76), (0.6, 0.8), (0.58, 0.88)],
    "shampoo": [(0.9, 0.0), (1.0, 0.03), (1.0, 0.72), (0.9, 0.82), (0.5, 0.87), (0.42, 0.88), (0.42, 0.9)],
    "flask": [(0.97, 0.0), (1.0, 0.02), (1.0, 0.76), (0.86, 0.82), (0.7, 0.84), (0.7, 0.9)],
    "carafe": [(0.9, 0.0), (1.0, 0.05), (0.97, 0.25), (0.7, 0.5), (0.4, 0.72), (0.36, 0.84), (0.55, 1.0)],
}
BOTTLE_SIZES = {
    "bordeaux": (0.29, 0.13),
    "burgundy": (0.29, 0.145),
    "beer": (0.23, 0.13),
    "cola": (0.2, 0.145),
    "water": (0.26, 0.14),
    "pet": (0.32, 0.145),
    "milk": (0.24, 0.19),
    "medicine": (0.11, 0.25),
    "shampoo": (0.2, 0.19),
    "flask": (0.24, 0.16),
    "carafe": (0.26, 0.24),
}


def bottle(rng: np.random.Generator) -> list[Part]:
    """Bottle of glass, plastic or metal, jug with a handle, spray bottle, pump dispenser; with cap, cork, label or open."""
    kind = pick(rng, [*BOTTLES, "jug", "spray"], [1.6, 1, 1.4, 0.8, 1.4, 1.4, 0.8, 0.7, 1.2, 1, 0.7, 1.2, 0.8])
    if kind in ("jug", "spray"):
        return grounded(_jug(rng) if kind == "jug" else _spray(rng))
    high, slim = BOTTLE_SIZES[kind]
    high *= float(rng.uniform(0.8, 1.25))
    radius = high * slim * float(rng.uniform(0.88, 1.15))
    outside = [(r * radius, y * high) for r, y in BOTTLES[kind]]
    flat = float(rng.uniform(0.5, 0.75)) if kind == "shampoo" and chance(rng, 0.6) else 1.0
    parts = [hollow(outside, 0.05 * radius, segments=20)]
    neck, top = outside[-1]
    if kind in ("water", "pet", "medicine", "flask", "shampoo") or (kind in ("bordeaux", "milk", "beer") and chance(rng, 0.5)):
        wide = {"shampoo": 1.5, "medicine": 1.15, "flask": 1.12}.get(kind, 1.18)
        tall = {"shampoo": 0.09, "flask": 0.13, "medicine": 0.13, "beer": 0.015, "bordeaux": 0.03}.get(kind, 0.05) * high
        parts.append(
            cylinder(
                neck * wide,
                tall,
                top_radius=neck * wide * float(rng.uniform(0.85, 1.0)),
                at=(0.0, top - (0.25 * tall if kind != "bordeaux" else 0.0), 0),
                segments=14,
                role=pick(rng, ("accent", "dark", "light", "metal")),
            )
        )
        if kind == "shampoo" and chance(rng, 0.5):
            parts += _pump(neck, top + tall * 0.7, radius)
    if chance(rng, 0.6) and kind not in ("carafe", "cola"):
        straight = [y for r, y in outside if r > 0.97 * radius]
        low, up = straight[0] + 0.12 * (straight[-1] - straight[0]), straight[-1] - 0.15 * (straight[-1] - straight[0])
        parts.append(
            lathe(
                [(radius, low), (radius * 1.012, low), (radius * 1.012, up), (radius, up), (radius, low)],
                segments=20,
                role=pick(rng, ("light", "accent", "fabric")),
            )
        )
    return grounded([part.scaled(z=flat) for part in parts])


def _pump(neck: float, y: float, radius: float) -> list[Part]:
    stem = cylinder(neck * 0.3, radius * 1.1, at=(0.0, y - radius * 0.2, 0.0), segments=8, role="light")
    return [stem, box(radius * 0.5, radius * 0.25, radius * 1.4, at=(0.0, y + radius * 0.8, radius * 0.4), role="light")]


def _jug(rng: np.random.Generator) -> list[Part]:
    """Canister or detergent jug with a handle, round or flat."""
    high = float(rng.uniform(0.22, 0.38))
    wide, deep = high * float(rng.uniform(0.24, 0.34)), high * float(rng.uniform(0.16, 0.3))
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    square = float(rng.uniform(0.45, 0.9))
    rim = np.stack(
        [
            np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** square * wide,
            np.zeros(16),
            np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** square * deep,
        ],
        axis=1,
    )
    neck, shift = 0.25, float(rng.uniform(-0.45, 0.0)) * wide
    levels = [
        (0.92, 0.0, 0.0),
        (1.0, 0.04, 0.0),
        (1.0, 0.58, 0.0),
        (0.88, 0.7, 0.15),
        (0.55, 0.83, 0.7),
        (neck, 0.9, 1.0),
        (neck, 0.95, 1.0),
    ]
    rings = [rim * s * (1.0 if s > 0.3 else np.array([1, 1, wide / deep])) + [shift * t, y * high, 0] for s, y, t in levels]
    parts = [
        loft(rings),
        cylinder(wide * neck * 1.2, high * 0.07, at=(shift, high * 0.94, 0), segments=12, role=pick(rng, ("accent", "dark", "light"))),
    ]
    parts.append(handle((shift + wide * 0.22, high * 0.88), (wide * 0.9, high * 0.5), wide * 0.45, high * 0.03))
    if chance(rng, 0.6):
        parts.append(box(wide * 1.3, high * 0.3, 2 * deep * 1.01, at=(0, high * 0.15, 0), role=pick(rng, ("light", "accent"))))
    return parts


def _spray(rng: np.random.Generator) -> list[Part]:
    """Trigger spray bottle."""
    high = float(rng.uniform(0.18, 0.26))
    radius = high * float(rng.uniform(0.18, 0.22))
    outside = smooth([(0.93, 0.0), (1.0, 0.05), (1.0, 0.4), (0.75, 0.62), (0.45, 0.8), (0.33, 0.9), (0.33, 1.0)], 12)
    body = hollow([(r * radius, y * high) for r, y in outside], 0.05 * radius, segments=18)
    top = high * 1.0
    head = [
        box(radius * 0.6, radius * 0.55, radius * 2.0, at=(0.0, top + radius * 0.45, radius * 0.35), role="accent"),
        cylinder(radius * 0.4, radius * 0.6, at=(0.0, top - radius * 0.1, 0.0), segments=10, role="light"),
    ]
    trigger = box(radius * 0.3, radius * 1.1, radius * 0.18, role="dark").turned("x", -22.0).moved(y=top - radius * 0.65, z=radius * 0.75)
    return [
        body,
        *head,
        trigger,
        cylinder(radius * 0.2, radius * 0.3, axis="z", segments=8, at=(0.0, top + radius * 0.75, radius * 1.45), role="light"),
    ]
