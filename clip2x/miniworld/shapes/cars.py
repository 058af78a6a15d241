"""Passenger cars: saloon, hatchback, estate, SUV, off-roader, minivan, panel van, pick-up, sports car, open car, beetle-like old car."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, grounded, rods
from clip2x.miniworld.shapes.vehicle_parts import Outline, arch, cabin, lamps, mirrors, rounded_box, side_body, wheel_rows


@dataclass(frozen=True)
class CarStyle:
    """Ranges of one kind of car: metres, and shares of the length counted from the front bumper.

    length, width, height, clearance, wheel: metres (wheel = radius). bonnet: height of its rear end as a share of the height.
    cowl, screen, tail_glass, deck: where the windscreen begins, the roof begins, the roof ends, the rear window ends.
    """

    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    clearance: tuple[float, float]
    wheel: tuple[float, float]
    bonnet: tuple[float, float]
    cowl: tuple[float, float]
    screen: tuple[float, float]
    tail_glass: tuple[float, float]
    deck: tuple[float, float]


# Ours: sizes as found in everyday traffic.
STYLES = {
    "saloon": CarStyle(
        (4.3, 5.1),
        (1.7, 1.9),
        (1.38, 1.52),
        (0.15, 0.22),
        (0.29, 0.34),
        (0.62, 0.68),
        (0.25, 0.31),
        (0.36, 0.44),
        (0.68, 0.75),
        (0.82, 0.88),
    ),
    "hatchback": CarStyle(
        (3.5, 4.4),
        (1.6, 1.82),
        (1.4, 1.58),
        (0.15, 0.22),
        (0.28, 0.33),
        (0.61, 0.67),
        (0.22, 0.29),
        (0.35, 0.43),
        (0.85, 0.92),
        (0.96, 0.985),
    ),
    "estate": CarStyle(
        (4.4, 5.0), (1.72, 1.9), (1.42, 1.56), (0.15, 0.22), (0.3, 0.34), (0.61, 0.66), (0.25, 0.3), (0.35, 0.42), (0.9, 0.95), (0.97, 0.99)
    ),
    "suv": CarStyle(
        (4.2, 5.1), (1.78, 2.0), (1.6, 1.85), (0.2, 0.3), (0.34, 0.4), (0.61, 0.67), (0.23, 0.29), (0.33, 0.41), (0.88, 0.95), (0.96, 0.99)
    ),
    "off-roader": CarStyle(
        (3.6, 4.8),
        (1.65, 1.95),
        (1.75, 2.0),
        (0.28, 0.42),
        (0.38, 0.45),
        (0.62, 0.67),
        (0.27, 0.33),
        (0.3, 0.37),
        (0.95, 0.98),
        (0.97, 0.99),
    ),
    "minivan": CarStyle(
        (4.3, 5.2), (1.75, 2.0), (1.65, 1.95), (0.15, 0.22), (0.3, 0.34), (0.55, 0.6), (0.14, 0.19), (0.3, 0.38), (0.9, 0.95), (0.97, 0.99)
    ),
    "panel van": CarStyle(
        (4.6, 6.0),
        (1.85, 2.1),
        (1.9, 2.6),
        (0.18, 0.26),
        (0.31, 0.36),
        (0.46, 0.55),
        (0.13, 0.18),
        (0.22, 0.28),
        (0.96, 0.98),
        (0.98, 0.992),
    ),
    "pick-up": CarStyle(
        (4.9, 5.9),
        (1.75, 2.05),
        (1.65, 1.95),
        (0.24, 0.34),
        (0.34, 0.39),
        (0.63, 0.68),
        (0.23, 0.28),
        (0.32, 0.36),
        (0.5, 0.58),
        (0.54, 0.62),
    ),
    "sports": CarStyle(
        (4.0, 4.8), (1.78, 2.0), (1.12, 1.32), (0.1, 0.15), (0.31, 0.36), (0.62, 0.7), (0.24, 0.38), (0.42, 0.5), (0.62, 0.72), (0.85, 0.95)
    ),
    "open": CarStyle(
        (3.8, 4.8), (1.65, 1.9), (1.2, 1.4), (0.12, 0.19), (0.29, 0.34), (0.64, 0.72), (0.28, 0.36), (0.38, 0.44), (0.66, 0.72), (0.74, 0.8)
    ),
    "old": CarStyle(
        (3.4, 4.3),
        (1.5, 1.7),
        (1.42, 1.58),
        (0.18, 0.25),
        (0.29, 0.34),
        (0.56, 0.64),
        (0.25, 0.31),
        (0.33, 0.4),
        (0.66, 0.74),
        (0.84, 0.93),
    ),
}
WEIGHTS = (5, 4, 2, 4, 2, 3, 3, 3, 2, 2, 1)


def car(rng: np.random.Generator) -> list[Part]:
    """A passenger car of a random kind."""
    kind = pick(rng, list(STYLES), WEIGHTS)
    style = STYLES[kind]
    size = {name: float(rng.uniform(*limits)) for name, limits in vars(style).items()}
    length, width, height = size["length"], size["width"], size["height"]
    places = {name: length * (0.5 - size[name]) for name in ("cowl", "screen", "tail_glass", "deck")}
    belt = size["bonnet"] * height
    size["wheel"] = min(size["wheel"], (belt - 0.07) / 2.13)
    axles = (-length * float(rng.uniform(0.28, 0.33)), length * float(rng.uniform(0.28, 0.34)))
    top, rear_height = _silhouette(rng, kind, size, places, belt)
    sill, radius = size["clearance"], size["wheel"]
    arches = [arch(z, radius, radius * 1.13, sill) for z in axles]
    parts = [side_body(top, arches, width, bevel=float(rng.uniform(0.06, 0.12)))]
    parts += wheel_rows(radius, float(rng.uniform(0.17, 0.26)), width - 0.02, axles)
    parts.append(box(width * 0.7, radius * 0.8, length * 0.8, at=(0.0, sill + 0.04, 0.0), role="dark"))
    parts += _upper(rng, kind, size, places, belt, rear_height)
    return grounded(parts + _face(rng, kind, size, places, belt, rear_height))


def _silhouette(
    rng: np.random.Generator, kind: str, size: dict[str, float], places: dict[str, float], belt: float
) -> tuple[Outline, float]:
    """Side view from the front foot over bonnet and belt line to the rear foot, and the height of the tail."""
    front, rear, sill = size["length"] / 2, -size["length"] / 2, size["clearance"]
    drop = {"off-roader": 0.03, "sports": 0.3, "minivan": 0.22, "panel van": 0.2, "old": 0.2}.get(kind, 0.13)
    nose = belt - (belt - sill) * drop * float(rng.uniform(0.8, 1.5))
    nose = max(nose, 2.13 * size["wheel"] - 0.05)
    rise = float(rng.uniform(0.0, 0.06))
    tail = belt + rise - (0.02 if kind in ("saloon", "pick-up") else float(rng.uniform(0.0, 0.06)))
    if kind == "old":
        tail = max(belt - float(rng.uniform(0.12, 0.3)), 2.13 * size["wheel"] + 0.06)
    top = [
        (front - 0.08, sill),
        (front, sill + 0.1),
        (front - 0.01, 0.5 * (nose + sill)),
        (front - 0.06, nose - 0.08),
        (front - 0.2, nose),
        (0.5 * (front + places["cowl"]), 0.35 * nose + 0.65 * belt),
        (places["cowl"], belt),
    ]
    if kind == "pick-up":
        floor = max(belt - float(rng.uniform(0.4, 0.55)), 2.2 * size["wheel"])
        return [
            *top,
            (places["deck"] - 0.03, belt),
            (places["deck"] - 0.04, floor),
            (rear, floor),
            (rear, sill + 0.12),
            (rear + 0.1, sill),
        ], belt
    if kind == "open":
        floor = sill + 0.14
        back = max(places["tail_glass"] + 0.1, -0.28 * size["length"] + 1.2 * size["wheel"])
        fore = min(places["cowl"] - 0.3, 0.28 * size["length"] - 1.2 * size["wheel"])
        hole = [(places["cowl"] - 0.12, belt - 0.02), (fore, floor), (back, floor), (places["tail_glass"], tail)]
        top = [*top, *hole]
    top += [(places["deck"], tail), (rear + 0.08, tail - 0.03), (rear, tail - 0.14), (rear, sill + 0.2), (rear + 0.09, sill + 0.03)]
    return top, tail


def _upper(rng: np.random.Generator, kind: str, size: dict[str, float], places: dict[str, float], belt: float, tail: float) -> list[Part]:
    """Everything above the belt line."""
    half, height = size["width"] / 2, size["height"]
    if kind == "open":
        return _open_cockpit(rng, size, places, belt)
    lean = {"panel van": 0.93, "off-roader": 0.92, "minivan": 0.84, "sports": 0.7}.get(kind, 0.78) + float(rng.uniform(-0.03, 0.03))
    posts = pick(rng, [(0.45,), (0.35, 0.62), (0.55,)]) if kind != "minivan" else (0.3, 0.62)
    base = min(belt, tail) - 0.02
    glazed = kind != "panel van" or chance(rng, 0.3)
    lower = (half * 0.94, places["deck"], places["cowl"], base)
    upper = (half * lean, places["tail_glass"], places["screen"], height)
    parts = cabin(lower, upper, corner=0.1 if kind in ("off-roader", "panel van") else 0.2, posts=posts, glazed=glazed)
    if kind == "pick-up":
        parts += _bed(size, places, belt)
    if kind in ("suv", "estate", "off-roader") and chance(rng, 0.5):
        reach, ends = half * lean * 0.85, (places["tail_glass"] + 0.2, places["screen"] - 0.2)
        parts.append(
            rods(
                [(x, height + 0.03, ends[0]) for x in (-reach, reach)],
                [(x, height + 0.03, ends[1]) for x in (-reach, reach)],
                0.025,
                role="dark",
            )
        )
    if kind == "off-roader" and chance(rng, 0.6):
        radius = size["wheel"] * 0.9
        parts.append(cylinder(radius, 0.2, axis="z", at=(0.0, belt * 0.85, -size["length"] / 2 - 0.09), role="rubber"))
    if kind == "sports" and chance(rng, 0.5):
        rear = -size["length"] / 2 + 0.15
        parts.append(box(half * 1.7, 0.03, 0.25, at=(0.0, tail + 0.14, rear)))
        parts.append(box(0.04, 0.2, 0.15, role="dark").repeated([(x * half, tail - 0.05, rear) for x in (-0.6, 0.6)]))
    if kind in ("saloon", "estate") and chance(rng, 0.12):
        parts.append(rounded_box(0.5, 0.14, 0.2, 0.04, at=(0.0, height - 0.02, 0.1 + places["screen"] - 0.6), role="light"))
    return parts


def _bed(size: dict[str, float], places: dict[str, float], belt: float) -> list[Part]:
    """Side walls and tailgate of a pick-up."""
    rear, half = -size["length"] / 2, size["width"] / 2
    deep = belt - 2.1 * size["wheel"]
    depth = places["deck"] - 0.03 - rear
    wall = box(0.07, deep, depth, at=(half - 0.05, belt - deep, rear + depth / 2))
    return [wall, wall.mirrored("x"), box(2 * half - 0.1, deep, 0.06, at=(0.0, belt - deep, rear + 0.04))]


def _open_cockpit(rng: np.random.Generator, size: dict[str, float], places: dict[str, float], belt: float) -> list[Part]:
    """Doors, windscreen, seats and steering wheel of an open car."""
    half, sill = size["width"] / 2, size["clearance"]
    door_length = places["cowl"] - places["tail_glass"]
    door = rounded_box(0.1, belt - sill, door_length, 0.02, at=(half - 0.06, sill, (places["cowl"] + places["tail_glass"]) / 2))
    parts = [door, door.mirrored("x")]
    frame = [
        (-half * 0.85, belt - 0.03, places["cowl"] - 0.05),
        (-half * 0.72, size["height"], places["screen"]),
        (half * 0.72, size["height"], places["screen"]),
        (half * 0.85, belt - 0.03, places["cowl"] - 0.05),
    ]
    parts.append(rods(frame[:-1], frame[1:], 0.03))
    tilt = float(np.rad2deg(np.arctan2(places["cowl"] - places["screen"], size["height"] - belt)))
    glass = box(half * 1.5, float(np.hypot(places["cowl"] - places["screen"], size["height"] - belt)) - 0.03, 0.015, role="glass")
    parts.append(glass.turned("x", -tilt).moved(y=belt - 0.02, z=places["cowl"] - 0.05))
    rows = [places["screen"] - 0.55] + ([places["screen"] - 1.35] if door_length > 1.6 and chance(rng, 0.6) else [])
    back = belt + 0.12 - sill
    for z in rows:
        seat = [(x * half * 0.48, sill + 0.1, z) for x in (-1, 1)]
        parts.append(rounded_box(half * 0.75, 0.25, 0.5, 0.05, role="fabric").repeated(seat))
        parts.append(rounded_box(half * 0.72, back, 0.16, 0.06, role="fabric").turned("x", -12.0).repeated(np.array(seat) - [0, 0, 0.25]))
    parts.append(cylinder(0.18, 0.03, axis="z", segments=12, at=(half * 0.48, belt - 0.02, places["cowl"] - 0.4), role="dark"))
    if chance(rng, 0.4):
        parts.append(rounded_box(half * 1.5, 0.14, 0.35, 0.06, at=(0.0, belt - 0.02, places["tail_glass"] - 0.1), role="dark"))
    return parts


def _face(rng: np.random.Generator, kind: str, size: dict[str, float], places: dict[str, float], belt: float, tail: float) -> list[Part]:
    """Lamps, grille, bumpers, mirrors."""
    front, half, sill = size["length"] / 2, size["width"] / 2, size["clearance"]
    high = sill + (belt - sill) * float(rng.uniform(0.5, 0.62)) * (0.6 if kind == "sports" else 1.0)
    parts = [lamps(half - 0.1, high, front - 0.03, (float(rng.uniform(0.2, 0.42)), float(rng.uniform(0.1, 0.18)), 0.09))]
    back = -size["length"] / 2
    rear_size = (0.14, 0.4, 0.05) if kind in ("suv", "estate", "minivan", "panel van") else (0.32, 0.14, 0.05)
    parts.append(lamps(half - 0.1, tail - rear_size[1] - 0.16, back + 0.01, rear_size, role="accent"))
    parts.append(box(half * float(rng.uniform(0.7, 1.1)), 0.16, 0.06, at=(0.0, high - 0.04, front - 0.02), role="dark"))
    for end in (front - 0.03, back + 0.03):
        parts.append(rounded_box(2 * half - 0.14, 0.14, 0.14, 0.04, at=(0, sill + 0.1, end), role=pick(rng, ("body", "dark", "metal"))))
    parts.append(mirrors(half * 0.97, belt, places["cowl"] - 0.25))
    return parts
