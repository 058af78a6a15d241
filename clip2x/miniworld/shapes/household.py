"""Laptops, umbrellas, and the list of all household generators. Frame: y up, on y = 0, front towards +z, metres."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clip2x.miniworld.shapes.bottles import bottle
from clip2x.miniworld.shapes.clocks import clock
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.instruments import guitar, piano
from clip2x.miniworld.shapes.parts import Part, Points, box, cylinder, grounded, lathe, rods, tube
from clip2x.miniworld.shapes.plants import plant
from clip2x.miniworld.shapes.vehicle_parts import rounded_box
from clip2x.miniworld.shapes.vessels import bowl, mug, vase


def laptop(rng: np.random.Generator) -> list[Part]:
    """Laptop, open at any angle, nearly closed, folded back or as a tent; keyboard, touch pad, feet; sizes from 10 to 18 inches."""
    wide = float(rng.uniform(0.25, 0.42))
    deep = wide * float(rng.uniform(0.62, 0.75))
    thick, lid = float(rng.uniform(0.01, 0.028)), float(rng.uniform(0.005, 0.012))
    base = rounded_box(wide, thick, deep, min(0.006, thick * 0.4))
    parts = [base]
    top = thick - 0.0005
    inset = float(rng.uniform(0.03, 0.08)) * wide
    deck = box(wide - 2 * inset, 0.0015, deep * 0.46, at=(0, top, -deep * 0.14), role=pick(rng, ("dark", "metal")))
    parts.append(deck)
    rows, columns = 5, 12
    pitch = ((wide - 2 * inset) / columns, deep * 0.46 / rows)
    spots = [
        ((c - (columns - 1) / 2) * pitch[0], top + 0.0012, -deep * 0.14 + (r - (rows - 1) / 2) * pitch[1])
        for r in range(rows)
        for c in range(columns)
    ]
    parts.append(box(pitch[0] * 0.8, 0.002, pitch[1] * 0.78, role=pick(rng, ("dark", "light", "metal"))).repeated(spots))
    if chance(rng, 0.9):
        parts.append(
            box(
                wide * 0.3,
                0.001,
                deep * 0.24,
                at=(float(rng.uniform(-0.05, 0.03)) * wide, top, deep * 0.28),
                role=pick(rng, ("metal", "dark")),
            )
        )
    form = pick(rng, ("open", "wide", "narrow", "closed", "flat"), (6, 3, 2, 0.6, 0.6))
    angle = float(rng.uniform(*{"open": (95, 120), "wide": (120, 140), "narrow": (15, 85), "closed": (0.0, 4), "flat": (150, 178)}[form]))
    screen = _lid(rng, wide, deep, lid)
    hinge = (0.0, thick, -deep / 2 + 0.004)
    parts += [part.turned("x", -angle).moved(*hinge) for part in screen]
    parts.append(cylinder(0.5 * thick + 0.002, wide * 0.7, axis="x", segments=8, at=(0.0, thick * 0.7, -deep / 2 + 0.002), role="dark"))
    if form == "wide" and chance(rng, 0.2):
        parts = [part.turned("x", 180.0 - (180.0 - angle) / 2) for part in parts]
    return grounded(parts)


def _lid(rng: np.random.Generator, wide: float, deep: float, thick: float) -> list[Part]:
    """Closed lid above the origin, hinge along x at z = 0, screen downwards."""
    frame = rounded_box(wide, thick, deep, min(0.004, 0.4 * thick), at=(0.0, 0.001, deep / 2))
    edge = float(rng.uniform(0.006, 0.018))
    parts = [frame, box(wide - 0.006, 0.001, deep - 0.006, at=(0.0, 0.0004, deep / 2), role="dark")]
    parts.append(box(wide - 2 * edge, 0.001, deep - 2.4 * edge, at=(0.0, 0.0, deep / 2 + 0.2 * edge), role="screen"))
    if chance(rng, 0.6):
        parts.append(cylinder(0.014, 0.001, at=(0, thick + 0.001, deep / 2), segments=12, role=pick(rng, ("light", "accent", "metal"))))
    return parts


def _canopy(radius: float, high: float, panels: int, scallop: float) -> Part:
    """Thin umbrella cloth, apex at the origin: a dome of flat panels whose edge is drawn in between the ribs."""
    segments, steep, thick = 2 * panels, 1.15, 0.006
    turns = np.linspace(steep, 0.0, 6)
    profile = np.stack([radius * np.sin(turns) / np.sin(steep), -high * (1 - np.cos(turns)) / (1 - np.cos(steep))], axis=1)
    top = lathe(profile, segments=segments)
    far = np.hypot(top.vertices[:, 0], top.vertices[:, 2]) / radius
    between = np.cos(np.arctan2(top.vertices[:, 0], top.vertices[:, 2]) * panels) < 0
    shrink = np.where(between, 1 - scallop * far**2, 1.0)
    cloth = top.vertices * np.stack([shrink, np.ones_like(shrink), shrink], axis=1)
    edge, count = np.arange(segments), len(cloth)
    after = (edge + 1) % segments
    hem = np.concatenate([np.stack([edge + count, after + count, after], axis=1), np.stack([edge + count, after, edge], axis=1)])
    return Part(np.concatenate([cloth, cloth - [0.0, thick, 0.0]]), np.concatenate([top.faces, top.faces[:, ::-1] + count, hem]), "body")


def _alternate(canopy: Part, panels: int) -> Part:
    """Every second panel of a canopy again, a little above it, in the second colour."""
    middle = canopy.vertices[canopy.faces].mean(axis=1)
    sector = np.floor((np.arctan2(middle[:, 0], middle[:, 2]) / (2 * np.pi)) * panels).astype(int)
    return Part(canopy.vertices * [1.004, 1.0, 1.004] + [0.0, 0.008, 0.0], canopy.faces[sector % 2 == 0], "accent")


def umbrella(rng: np.random.Generator) -> list[Part]:
    """Umbrella: open upright or laid on its edge, closed, half open; hooked or straight handle; also a parasol with a foot."""
    kind = pick(rng, ("open", "tilted", "closed", "parasol", "half"), (4, 3, 3, 3, 1))
    if kind == "closed":
        return grounded(_closed_umbrella(rng))
    big = kind == "parasol"
    radius = float(rng.uniform(1.0, 1.8)) if big else float(rng.uniform(0.4, 0.65))
    long = float(rng.uniform(2.1, 2.7)) if big else radius * float(rng.uniform(1.35, 1.75))
    high = radius * (
        float(rng.uniform(0.9, 1.4)) if kind == "half" else float(rng.uniform(0.25, 0.45)) if not big else float(rng.uniform(0.2, 0.4))
    )
    radius *= 0.6 if kind == "half" else 1.0
    panels = pick(rng, (6, 8, 8, 8, 10))
    parts = [_canopy(radius, high, panels, float(rng.uniform(0.03, 0.12))).moved(y=long)]
    if chance(rng, 0.25):
        parts.append(_alternate(parts[0], panels))
    shaft = 0.02 if big else 0.006
    parts += [rods([(0, 0.0, 0)], [(0, long + 0.04 * radius + 0.02, 0)], shaft, sides=6, role=pick(rng, ("metal", "wood", "dark")))]
    angles = np.arange(panels) * 2 * np.pi / panels
    rim = np.stack([radius * 0.55 * np.sin(angles), np.full(panels, long - high * 0.28), radius * 0.55 * np.cos(angles)], axis=1)
    parts.append(rods(np.repeat([[0, long - high * 1.0, 0]], panels, axis=0), rim, shaft * 0.4, sides=3, role="metal"))
    if big:
        return grounded([*_parasol_tilt(rng, parts, long), *_foot(rng)])
    parts += _grip(rng)
    if kind == "tilted":
        lean = float(np.rad2deg(np.arctan2(radius, long - high))) + 90.0
        around = float(rng.uniform(-40, 40))
        parts = [part.turned("x", lean).turned("y", around) for part in parts]
    return grounded(parts)


def _parasol_tilt(rng: np.random.Generator, parts: list[Part], long: float) -> list[Part]:
    """Bend the upper part of a parasol now and then."""
    if chance(rng, 0.7):
        return parts
    lean = float(rng.uniform(8, 25))
    joint = (0.0, 0.75 * long, 0.0)
    pole = rods([(0.0, 0.0, 0.0), joint], [joint, (0.0, long, 0.0)], 0.02, sides=6, role="metal")
    upper = [part.turned("x", lean, about=joint) for part in parts if part.vertices[:, 1].min() > 0.5]
    return [
        *upper,
        rods([(0.0, 0.0, 0.0)], [joint], 0.02, sides=6, role="metal"),
        rods([joint], [pole.vertices[-1]], 0.02, sides=6, role="metal").turned("x", lean, about=joint),
    ]


def _foot(rng: np.random.Generator) -> list[Part]:
    form = pick(rng, ("round", "cross", "block"))
    if form == "round":
        return [cylinder(0.28, 0.08, top_radius=0.24, segments=16, role="dark"), cylinder(0.04, 0.3, segments=8, role="dark")]
    if form == "cross":
        return [box(0.8, 0.04, 0.08, role="metal"), box(0.08, 0.04, 0.8, role="metal"), cylinder(0.03, 0.3, segments=8, role="metal")]
    return [rounded_box(0.45, 0.1, 0.45, 0.03, role="dark"), cylinder(0.04, 0.3, segments=8, role="metal")]


def _grip(rng: np.random.Generator) -> list[Part]:
    """Hook or straight handle at the lower end of the shaft (y = 0)."""
    role = pick(rng, ("wood", "dark", "accent"))
    if chance(rng, 0.65):
        bow: Points = np.array(
            [
                (0.0, 0.12, 0.0),
                (0.0, 0.0, 0.0),
                *((0.035 - 0.035 * np.cos(a), -0.035 * np.sin(a), 0.0) for a in np.linspace(0.4, np.pi, 6)),
                (0.07, 0.03, 0.0),
            ]
        )
        return [tube(bow, 0.011, segments=6, role=role)]
    return [cylinder(0.014, float(rng.uniform(0.08, 0.14)), top_radius=0.011, segments=8, at=(0.0, -0.02, 0.0), role=role)]


def _closed_umbrella(rng: np.random.Generator) -> list[Part]:
    """Rolled umbrella standing on its tip, leaning, or lying; also a short folding one."""
    long = float(rng.uniform(0.75, 0.98)) if chance(rng, 0.75) else float(rng.uniform(0.25, 0.35))
    wide = float(rng.uniform(0.022, 0.06))
    profile = [(0.012, 0.3), (wide * 0.9, 0.34), (wide, 0.45), (wide * 0.6, 0.8), (0.012, 0.97)]
    body = lathe([(0.0, 0.3 * long), *((r, y * long) for r, y in profile), (0.0, 0.97 * long)], segments=16)
    angle = np.arctan2(body.vertices[:, 0], body.vertices[:, 2])
    pleat = 1 + 0.22 * np.cos(angle * 8)
    body = Part(body.vertices * np.stack([pleat, np.ones_like(pleat), pleat], axis=1), body.faces, body.role)
    parts = [
        body,
        rods([(0.0, 0.0, 0.0)], [(0.0, long * 1.06, 0.0)], 0.006, sides=6, role="metal"),
        cylinder(wide * 0.95, 0.015, at=(0.0, 0.6 * long, 0.0), segments=12, role="accent"),
        *_grip(rng),
    ]
    pose = pick(rng, ("upright", "flipped", "lying"))
    if pose == "flipped":
        return [part.turned("z", 180.0) for part in parts]
    if pose == "lying":
        around = float(rng.uniform(0, 180))
        return [part.turned("x", 90.0).turned("y", around) for part in parts]
    return parts


HOUSEHOLD: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "mug": mug,
    "bottle": bottle,
    "bowl": bowl,
    "vase": vase,
    "guitar": guitar,
    "plant": plant,
    "laptop": laptop,
    "clock": clock,
    "piano": piano,
    "umbrella": umbrella,
}
