"""Buses: city, articulated, coach, double-decker, school bus, minibus, open-top. All sizes are ours: plausible metres."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, grounded, loft
from clip2x.miniworld.shapes.vehicle_parts import arch, cross_ring, lamps, rounded_box, side_body, wheel_rows


def bus(rng: np.random.Generator) -> list[Part]:
    """A bus of a random kind."""
    kind = pick(rng, ("city", "articulated", "coach", "double", "school", "mini", "open-top"), (4, 2, 4, 2, 2, 2, 1))
    length = {
        "articulated": (9.0, 10.5),
        "coach": (10.5, 13.5),
        "double": (9.0, 11.5),
        "open-top": (9.0, 11.5),
        "school": (7.0, 10.5),
        "mini": (5.6, 7.8),
    }
    long = float(rng.uniform(*length.get(kind, (9.5, 12.5))))
    width = float(rng.uniform(2.0, 2.3)) if kind == "mini" else float(rng.uniform(2.4, 2.6))
    high = {"coach": (3.3, 3.9), "double": (4.1, 4.5), "open-top": (3.2, 3.5), "mini": (2.4, 2.9)}
    height, wheel = float(rng.uniform(*high.get(kind, (2.85, 3.2)))), 0.36 if kind == "mini" else float(rng.uniform(0.44, 0.52))
    parts = _shell(rng, kind, width, height, long, wheel)
    if kind == "articulated":
        parts += _second_section(rng, width, height, long, wheel)
    return grounded(parts)


def _shell(rng: np.random.Generator, kind: str, width: float, height: float, long: float, wheel: float) -> list[Part]:
    """The body with wheels, windows, doors, lamps, mirrors."""
    sill, front, rear = wheel * float(rng.uniform(0.55, 0.8)), long / 2, -long / 2
    lean, round_top = float(rng.uniform(0.05, 0.5)) * (1.4 if kind == "coach" else 0.7), float(rng.uniform(0.08, 0.3))
    axles = [rear + long * float(rng.uniform(0.22, 0.3)), front - long * float(rng.uniform(0.16, 0.25))]
    if kind == "school":
        axles[1] = front - 0.9
    if kind == "coach" and chance(rng, 0.5):
        axles.insert(0, axles[0] - 2.25 * wheel)
    nose = front - (float(rng.uniform(0.9, 1.4)) if kind == "school" else 0.0)
    arches = [arch(z, wheel, wheel * 1.1, sill, steps=4) for z in axles]
    roof = [
        (nose - lean, height - 0.02),
        (nose - lean - round_top, height),
        (rear + round_top, height),
        (rear, height - round_top),
        (rear, sill),
    ]
    bonnet = height * 0.5
    fore = [(front - 0.03, sill), (front, sill + 0.5), (front - 0.03, bonnet - 0.1), (front - 0.15, bonnet), (nose, bonnet + 0.12)]
    if kind != "school":
        fore = [(front - 0.05, sill), (front, sill + 0.3), (front - 0.02, height * 0.42)]
    parts = [side_body([*fore, *roof], arches, width, bevel=float(rng.uniform(0.06, 0.16)))]
    parts += wheel_rows(wheel, 0.3, width - 0.02, axles)
    decks = [(sill + (height - sill) * 0.42, height * (0.9 if kind != "coach" else 0.88))]
    if kind == "double":
        decks = [(height * 0.28, height * 0.47), (height * 0.64, height * 0.88)]
    if kind == "coach":
        decks = [(height * 0.48, height * 0.88)]
    if kind == "open-top":
        decks = [(height * 0.36, height * 0.68)]
        parts += _open_deck(width, height, rear, nose)
    for low, top in decks:
        parts += _windows(rng, width, low, top, rear + 0.25, nose - lean - 0.25)
        parts += _ends(width, low, top, (nose, nose - lean, height), rear, role="glass")
    if (kind != "school" and chance(rng, 0.75)) or kind == "double":
        places = [front - 0.55 - lean * 0.3] + ([-0.05 * long] if kind in ("city", "articulated", "double") else [])
        tall = min(height * 0.78, 2.2 + sill) - sill
        parts.append(box(0.03, tall, 1.0, role="glass").repeated([(-width / 2, sill + 0.1, z - 0.4) for z in places]))
        parts.append(box(0.05, tall, 0.05, role="dark").repeated([(-width / 2, sill + 0.1, z - 0.4) for z in places]))
    return parts + _details(rng, kind, width, height, (rear, nose, front), sill)


def _windows(rng: np.random.Generator, width: float, low: float, top: float, rear: float, front: float) -> list[Part]:
    """Band of side windows with posts between."""
    band = box(width + 0.03, top - low, front - rear, at=(0.0, low, (front + rear) / 2), role="glass")
    step = float(rng.uniform(1.0, 1.9))
    posts = [(0.0, low, z) for z in np.linspace(rear, front, int((front - rear) / step) + 2)]
    return [band, box(width + 0.05, top - low, float(rng.uniform(0.06, 0.16)), role=pick(rng, ("body", "dark"))).repeated(posts)]


def _ends(width: float, low: float, top: float, face: tuple[float, float, float], rear: float, role: str) -> list[Part]:
    """Windscreen, which follows the slope of the front, and rear window."""
    nose, crown, height = face
    foot = height * 0.42

    def slope(y: float) -> float:
        return nose - (nose - crown) * max(0.0, (y - foot) / (height - foot)) + 0.015

    levels = [(y, slope(y)) for y in (low - 0.1, top)]
    screen = loft([[(x * width * 0.46, y, z + d) for x, d in ((-1, 0.0), (1, 0.0), (1, -0.1), (-1, -0.1))] for y, z in levels], role=role)
    return [screen, box(width * 0.8, (top - low) * 0.8, 0.04, at=(0.0, low + 0.15, rear - 0.01), role=role)]


def _open_deck(width: float, height: float, rear: float, front: float) -> list[Part]:
    """Parapet and seat rows on the roof of a sightseeing bus."""
    side = box(0.08, 0.7, front - rear - 0.8, at=(width / 2 - 0.08, height - 0.02, (front + rear) / 2 - 0.2))
    ends = box(width - 0.1, 0.8, 0.08).repeated([(0.0, height - 0.02, rear + 0.2), (0.0, height - 0.02, front - 0.6)])
    rows = np.arange(rear + 0.9, front - 1.2, 0.95)
    seats = box(0.85, 0.75, 0.12, role="fabric").repeated([(x * width * 0.25, height, z) for z in rows for x in (-1, 1)])
    return [side, side.mirrored("x"), ends, seats]


def _details(rng: np.random.Generator, kind: str, width: float, height: float, span: tuple[float, float, float], sill: float) -> list[Part]:
    rear, nose, front = span
    half = width / 2
    parts = [
        lamps(half - 0.12, sill + 0.3, front - 0.03, (0.35, 0.22, 0.08)),
        lamps(half - 0.06, sill + 0.6, rear, (0.16, 0.5, 0.05), role="accent"),
    ]
    parts.append(rounded_box(width - 0.1, 0.26, 0.16, 0.04, at=(0, sill + 0.02, front - 0.03), role=pick(rng, ("body", "dark"))))
    parts.append(rounded_box(width - 0.1, 0.26, 0.14, 0.04, at=(0, sill + 0.02, rear + 0.03), role=pick(rng, ("body", "dark"))))
    parts.append(box(0.16, 0.45, 0.12, role="dark").repeated([(side * (half + 0.13), height * 0.62, nose - 0.02) for side in (-1, 1)]))
    if kind in ("city", "articulated", "coach", "double", "mini") and chance(rng, 0.6):
        unit = rounded_box(width * 0.65, 0.26, float(rng.uniform(1.2, 2.6)), 0.08, role=pick(rng, ("body", "light", "dark")))
        parts.append(unit.moved(y=height - 0.05, z=float(rng.uniform(0.6 * rear, 0.3 * front))))
    if kind in ("city", "articulated", "double"):
        parts.append(box(width * 0.7, 0.25, 0.05, at=(0.0, height * 0.9, nose - 0.06), role="screen"))
    if chance(rng, 0.4):
        parts.append(
            box(width + 0.02, float(rng.uniform(0.12, 0.35)), (nose - rear) * 0.96, at=(0.0, sill + 0.62, (nose + rear) / 2), role="accent")
        )
    return parts


def _second_section(rng: np.random.Generator, width: float, height: float, long: float, wheel: float) -> list[Part]:
    """Bellows and rear car of an articulated bus, at a small angle."""
    joint, rear_long = -long / 2, float(rng.uniform(5.5, 7.5))
    bend = float(rng.uniform(-22.0, 22.0))
    folds = [
        cross_ring(width / 2 - (0.04 if step % 2 else 0.12), 0.4, height - (0.08 if step % 2 else 0.14), joint + 0.1 - 0.16 * step, 0.1)
        for step in range(9)
    ]
    parts = [loft(np.array(folds)[::-1], role="dark")]
    centre = joint - 1.0 - rear_long / 2
    sill, axle = wheel * 0.7, -rear_long * 0.12
    top = [
        (rear_long / 2, sill),
        (rear_long / 2, height),
        (0.2 - rear_long / 2, height),
        (-rear_long / 2, height - 0.2),
        (-rear_long / 2, sill),
    ]
    section = [side_body(top, [arch(axle, wheel, wheel * 1.1, sill, steps=4)], width, bevel=0.1)]
    section += wheel_rows(wheel, 0.3, width - 0.02, [axle])
    section += _windows(rng, width, sill + (height - sill) * 0.42, height * 0.9, 0.3 - rear_long / 2, rear_long / 2 - 0.25)
    section.append(box(width * 0.8, height * 0.35, 0.04, at=(0.0, height * 0.5, -rear_long / 2 - 0.01), role="glass"))
    return parts + [part.moved(z=centre).turned("y", bend, about=(0.0, 0.0, joint - 0.5)) for part in section]
