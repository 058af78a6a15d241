"""Lorries and trailers: cabs, chassis and the bodies that both carry. All sizes are ours: plausible metres."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.hulls import open_hull
from clip2x.miniworld.shapes.parts import Part, box, cylinder, extrude, grounded, lathe, loft, rods, tube
from clip2x.miniworld.shapes.vehicle_parts import arch, cabin, cross_ring, lamps, rounded_box, side_body, wheel_rows

CARGO = ("box", "tanker", "flatbed", "dump", "mixer", "stake", "container", "curtain")


def truck(rng: np.random.Generator) -> list[Part]:
    """A lorry: rigid with one of many bodies, or a tractor with or without its semi-trailer."""
    width, wheel = float(rng.uniform(2.1, 2.55)), float(rng.uniform(0.42, 0.54))
    style = pick(rng, ("forward", "bonnet"), (3, 2))
    kind = pick(rng, ("rigid", "semi", "tractor"), (6, 2, 1))
    cab_length = float(rng.uniform(1.6, 2.3)) if style == "forward" else float(rng.uniform(3.1, 4.2))
    deck = wheel * 2 + float(rng.uniform(0.02, 0.2))
    bed = {"rigid": float(rng.uniform(3.6, 7.5)), "semi": float(rng.uniform(2.2, 3.0)), "tractor": float(rng.uniform(2.2, 3.6))}[kind]
    parts = _cab(rng, style, width, cab_length, wheel)
    parts.append(box(0.9, 0.25, bed + cab_length * 0.6, at=(0.0, deck - 0.3, cab_length * 0.3 - bed / 2), role="dark"))
    rear_axles = [-bed * (0.68 if kind == "rigid" else 0.6)]
    if kind != "rigid" or bed > 5.5 or chance(rng, 0.3):
        rear_axles.append(rear_axles[0] - 2.3 * wheel)
    front_axle = _axle(style, cab_length, wheel)
    parts += wheel_rows(wheel, 0.3, width - 0.02, [front_axle]) + wheel_rows(wheel, 0.55, width - 0.02, rear_axles, segments=11)
    if kind == "rigid":
        parts += cargo(rng, pick(rng, CARGO), width, deck, -bed, -0.1)
    elif kind == "semi":
        length = float(rng.uniform(8.0, 13.5))
        height = deck + 0.2
        parts += cargo(rng, pick(rng, CARGO[:3] + CARGO[6:]), width, height, -length, -0.45)
        parts.append(box(0.9, 0.2, length * 0.95, at=(0.0, height - 0.22, -length / 2 - 0.3), role="dark"))
        parts += wheel_rows(
            wheel, 0.5, width - 0.02, [1.0 - length + step * 2.3 * wheel for step in range(int(rng.integers(2, 4)))], segments=10
        )
    else:
        parts.append(cylinder(0.5, 0.12, at=(0.0, deck - 0.05, rear_axles[0]), segments=12, role="metal"))
        mudguard = box(0.6, 0.04, 1.6, at=(width / 2 - 0.32, 2.08 * wheel, rear_axles[0] - wheel), role="dark")
        parts += [mudguard, mudguard.mirrored("x")]
    tank = cylinder(0.28, 0.9, axis="z", segments=10, at=(width / 2 - 0.35, deck - 0.4, -0.6), role="metal")
    return grounded([*parts, tank, tank.mirrored("x").moved(z=-0.2)])


def _axle(style: str, length: float, wheel: float) -> float:
    """Place of the front axle below a cab of this length."""
    return max(length - (0.55 if style == "forward" else 0.4) - wheel, 1.12 * wheel + 0.06)


def _cab(rng: np.random.Generator, style: str, width: float, length: float, wheel: float) -> list[Part]:
    """Driver's cab from z = 0 (back wall) to `length`."""
    sill, half = wheel * 0.85, width / 2
    height = float(rng.uniform(2.3, 3.3))
    belt = sill + (height - sill) * float(rng.uniform(0.5, 0.56))
    cowl = length if style == "forward" else length - float(rng.uniform(1.2, 1.7))
    edge = arch(_axle(style, length, wheel), wheel, wheel * 1.12, sill)
    if style == "forward":
        top = [(length - 0.06, sill), (length, sill + 0.1), (length - 0.05, belt), (0.02, belt), (0.0, sill)]
    else:
        nose = belt - float(rng.uniform(0.0, 0.3))
        top = [
            (length - 0.04, sill),
            (length, sill + 0.1),
            (length - 0.04, nose - 0.12),
            (length - 0.2, nose),
            (cowl, belt),
            (0.02, belt),
            (0.0, sill),
        ]
    parts = [side_body(top, [edge], width * (1.0 if style == "forward" else 0.94), bevel=0.06)]
    rake = float(rng.uniform(0.05, 0.25)) if style == "forward" else float(rng.uniform(0.15, 0.5))
    parts += cabin(
        (half * 0.97, 0.04, cowl - 0.07, belt - 0.02),
        (half * 0.92, 0.1, cowl - 0.05 - rake, height),
        corner=0.1,
        posts=(0.45, 0.1) if cowl > 1.9 else (0.3,),
    )
    if chance(rng, 0.4):
        depth = min(cowl * 0.6, 1.2)
        slope = [(0.05, height - 0.05), (depth, height - 0.05), (depth * 0.3, height + float(rng.uniform(0.35, 0.8))), (0.05, height + 0.4)]
        parts.append(extrude(slope, width * 0.85, axis="x", bevel=0.05))
    parts.append(box(width * 0.55, 0.4, 0.06, at=(0, sill + 0.35, length - 0.04), role=pick(rng, ("dark", "metal"))))
    parts.append(rounded_box(width * 0.98, 0.28, 0.18, 0.04, at=(0, sill - 0.06, length - 0.02), role=pick(rng, ("dark", "metal", "body"))))
    parts.append(lamps(half * 0.92, sill + 0.26, length - 0.04, (0.3, 0.2, 0.08)))
    parts.append(box(0.12, 0.45, 0.2, role="dark").repeated([(side * (half + 0.1), belt + 0.1, cowl - 0.15) for side in (-1, 1)]))
    if style == "bonnet" and chance(rng, 0.6):
        stacks = [(side * (half - 0.12), sill + 0.3, -0.08) for side in (-1, 1)]
        parts.append(rods(stacks, np.array(stacks) + [0, height - sill + 0.2, 0], 0.08, sides=6, role="metal"))
    return parts


def cargo(rng: np.random.Generator, kind: str, width: float, deck: float, rear: float, front: float) -> list[Part]:
    """What stands on a chassis between z = rear and z = front, on the height `deck`."""
    length, middle = front - rear, (front + rear) / 2
    floor = box(width, 0.14, length, at=(0, deck, middle), role=pick(rng, ("metal", "dark", "wood", "body")))
    if kind in ("box", "container", "curtain"):
        return _closed_body(rng, kind, width, deck, rear, front)
    if kind == "tanker":
        return [floor.scaled(x=0.6), *_tank(rng, width, deck + 0.12, rear, front)]
    if kind == "flatbed":
        return [floor, *_load(rng, width, deck + 0.14, rear, front)]
    if kind == "stake":
        return [floor, *_stakes(rng, width, deck + 0.14, rear, front)]
    if kind == "dump":
        return [floor.scaled(x=0.5), *_tipper(rng, width, deck + 0.14, rear, front)]
    return [floor.scaled(x=0.5), *_mixer(width, deck + 0.14, rear, front)]


def _closed_body(rng: np.random.Generator, kind: str, width: float, deck: float, rear: float, front: float) -> list[Part]:
    height, length, middle = float(rng.uniform(1.9, 2.9)), front - rear, (front + rear) / 2
    parts = [rounded_box(width, height, length, 0.04, at=(0.0, deck, middle))]
    if kind == "container":
        ribs = [(side * width / 2, deck + 0.1, z) for side in (-1, 1) for z in np.linspace(rear + 0.15, front - 0.15, int(length / 0.4))]
        parts.append(box(0.06, height - 0.2, 0.15).repeated(ribs))
    elif kind == "curtain":
        parts.append(box(width + 0.04, 0.16, length, at=(0.0, deck + height - 0.2, middle), role="accent"))
        parts.append(box(width + 0.04, 0.2, length, at=(0.0, deck, middle), role="dark"))
    elif chance(rng, 0.4):
        parts.append(rounded_box(width * 0.7, 0.6, 0.4, 0.06, at=(0.0, deck + height * 0.65, front + 0.15), role="light"))
    door = box(width * 0.46, height - 0.2, 0.03, role=pick(rng, ("body", "metal", "accent")))
    parts.append(door.repeated([(side * width * 0.24, deck + 0.1, rear - 0.01) for side in (-1, 1)]))
    parts.append(box(width * 0.9, 0.14, 0.08, at=(0.0, deck - 0.5, rear + 0.1), role="dark"))
    return parts


def _tank(rng: np.random.Generator, width: float, deck: float, rear: float, front: float) -> list[Part]:
    radius = min(width / 2, float(rng.uniform(0.85, 1.15)))
    flat = float(rng.uniform(0.75, 1.0))
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    stations = [(rear, 0.72), (rear + 0.12, 0.92), (rear + 0.3, 1.0), (front - 0.3, 1.0), (front - 0.12, 0.92), (front, 0.72)]
    rings = [[(radius * s * np.cos(a), deck + radius * flat * (1 + s * np.sin(a)), z) for a in angles] for z, s in stations]
    top = deck + 2 * radius * flat
    hatches = [(0.0, top - 0.04, z) for z in np.linspace(rear + 0.8, front - 0.8, 3)]
    parts = [loft(rings, role=pick(rng, ("body", "body", "metal"))), cylinder(0.25, 0.14, segments=10, role="metal").repeated(hatches)]
    parts.append(box(0.2, 0.3, (front - rear) * 0.8, role="dark").repeated([(x, deck - 0.12, (rear + front) / 2) for x in (-0.5, 0.5)]))
    rail = [(x, top + 0.05, z) for x in (-0.35, 0.35) for z in (rear + 0.4, front - 0.4)]
    return [*parts, rods([rail[0], rail[2]], [rail[1], rail[3]], 0.03, role="metal")]


def _load(rng: np.random.Generator, width: float, deck: float, rear: float, front: float) -> list[Part]:
    """Headboard, low side boards and now and then goods on a flat bed."""
    length, middle = front - rear, (front + rear) / 2
    parts = [box(width, float(rng.uniform(0.5, 1.3)), 0.08, at=(0.0, deck, front - 0.05))]
    if chance(rng, 0.6):
        high = float(rng.uniform(0.3, 0.6))
        side = box(0.05, high, length, at=(width / 2 - 0.03, deck, middle))
        parts += [side, side.mirrored("x"), box(width, high, 0.05, at=(0.0, deck, rear + 0.03))]
    goods = pick(rng, ("none", "crates", "pipes", "planks"))
    if goods == "crates":
        for _ in range(int(rng.integers(1, 5))):
            size = rng.uniform((0.8, 0.5, 0.8), (width * 0.8, 1.4, min(2.0, length * 0.4)))
            z = float(rng.uniform(rear + size[2] / 2 + 0.1, front - size[2] / 2 - 0.1))
            parts.append(box(*size, at=(0, deck, z), role=pick(rng, ("wood", "accent", "metal"))))
    elif goods == "pipes":
        radius = width / 8.4
        stack = [
            (radius * (2 * column + row - 3), deck + radius * (1 + 1.74 * row), middle) for row in range(3) for column in range(4 - row)
        ]
        parts.append(cylinder(radius, length * 0.92, axis="z", segments=10, role="metal").repeated(stack))
    elif goods == "planks":
        parts.append(box(width * 0.8, float(rng.uniform(0.3, 1.0)), length * 0.85, at=(0.0, deck, middle), role="wood"))
    return parts


def _stakes(rng: np.random.Generator, width: float, deck: float, rear: float, front: float) -> list[Part]:
    """Slatted sides, or a canvas cover on hoops."""
    length, middle, high = front - rear, (front + rear) / 2, float(rng.uniform(0.9, 1.5))
    if chance(rng, 0.5):
        arc = [
            (width / 2 * np.cos(a) ** 0.6 if a < np.pi / 2 else -width / 2 * abs(np.cos(a)) ** 0.6, high + 0.5 * np.sin(a))
            for a in np.linspace(0, np.pi, 9)
        ]
        return [extrude([(width / 2, 0.0), *arc, (-width / 2, 0.0)], length, at=(0.0, deck, middle))]
    levels = np.arange(0.05, high, 0.3)
    board = box(0.04, 0.18, length, role=pick(rng, ("wood", "body")))
    parts = [board.repeated([(side * width / 2, deck + y, middle) for side in (-1, 1) for y in levels])]
    parts.append(box(width, 0.18, 0.04, role=parts[0].role).repeated([(0.0, deck + y, z) for z in (rear, front) for y in levels]))
    posts = [(side * (width / 2 - 0.05), deck, z) for side in (-1, 1) for z in np.linspace(rear + 0.05, front - 0.05, 5)]
    return [*parts, box(0.07, high, 0.07, role="dark").repeated(posts)]


def _tipper(rng: np.random.Generator, width: float, deck: float, rear: float, front: float) -> list[Part]:
    """Open skip with walls that slope outwards, a hood over the cab, sometimes tipped or filled."""
    high, flare, wall = float(rng.uniform(0.9, 1.7)), float(rng.uniform(0.0, 0.2)), 0.07
    low, top = width / 2 - flare, width / 2
    section = [
        (-low, 0.0),
        (low, 0.0),
        (top, high),
        (top - wall, high),
        (low - wall, 0.1),
        (wall - low, 0.1),
        (wall - top, high),
        (-top, high),
    ]
    length, middle = front - rear, (front + rear) / 2
    parts = [extrude(section, length, at=(0.0, deck, middle)), box(2 * top, high + 0.15, 0.1, at=(0.0, deck, front - 0.05))]
    if chance(rng, 0.7):
        parts.append(box(2 * low, high * 0.85, 0.07, at=(0.0, deck, rear + 0.05)))
    if chance(rng, 0.6):
        parts.append(box(2 * top, 0.07, 0.9, at=(0.0, deck + high + 0.1, front + 0.35)))
    ribs = [(side * (top - flare / 2), deck + 0.05, z) for side in (-1, 1) for z in np.linspace(rear + 0.3, front - 0.3, 5)]
    parts.append(box(0.12 + flare, high - 0.1, 0.12).repeated(ribs))
    if chance(rng, 0.3):
        heap = np.array(
            [(x, y, z) for x, y, z in ((low, 0.5 * high, 0.0), (0.0, high + 0.3, 0.0), (-low, 0.5 * high, 0.0), (0.0, 0.3, 0.0))]
        )
        parts.append(
            loft(
                [heap * [0.9, 0.8, 1] + [0, deck, rear + 0.3], heap + [0, deck, middle], heap * [0.9, 0.8, 1] + [0, deck, front - 0.3]],
                role="wood",
            )
        )
    if chance(rng, 0.25):
        tilt = float(rng.uniform(12, 40))
        return [part.turned("x", -tilt, about=(0.0, deck, rear + 0.5)) for part in parts]
    return parts


def _mixer(width: float, deck: float, rear: float, front: float) -> list[Part]:
    """Concrete mixer: slanted drum with a hopper and a chute."""
    length, radius = (front - rear) * 0.95, width * 0.46
    drum = [(0.0, 0.0), (0.45, 0.0), (0.8, 0.25), (1.0, 0.45), (1.0, 0.6), (0.75, 0.85), (0.42, 1.0), (0.0, 1.0)]
    body = lathe([(r * radius, y * length) for r, y in drum], segments=16).turned("x", -77.0).moved(y=deck + radius, z=front - 0.1)
    bands = (
        lathe(
            [
                (radius * 1.02, length * 0.5),
                (radius * 1.05, length * 0.5),
                (radius * 1.05, length * 0.54),
                (radius * 1.02, length * 0.54),
                (radius * 1.02, length * 0.5),
            ],
            segments=16,
            role="accent",
        )
        .turned("x", -77.0)
        .moved(y=deck + radius, z=front - 0.1)
    )
    high = deck + radius * 1.6
    legs = rods([(x, deck, rear + 0.3) for x in (-0.5, 0.5)], [(x, high, rear + 0.3) for x in (-0.5, 0.5)], 0.08, role="dark")
    hopper = cylinder(0.2, 0.7, top_radius=0.55, segments=10, at=(0.0, high, rear + 0.1), role="metal")
    chute = tube([(0.0, high - 0.1, rear), (0.2, high - 0.6, rear - 0.5), (0.4, deck - 0.1, rear - 0.9)], 0.17, segments=6, role="metal")
    return [body, bands, legs, hopper, chute]


def trailer(rng: np.random.Generator) -> list[Part]:
    """Something without an engine that is towed: semi-trailer, drawbar, utility, horse, boat or car trailer, caravan."""
    kind = pick(rng, ("semi", "drawbar", "utility", "caravan", "boat", "car carrier", "horse"), (3, 3, 4, 3, 1, 2, 1))
    if kind == "semi":
        return grounded(_semi_trailer(rng))
    heavy = kind == "drawbar"
    width = float(rng.uniform(2.2, 2.55)) if heavy else float(rng.uniform(1.3, 2.2))
    length = {
        "drawbar": (4.5, 8.0),
        "utility": (1.6, 3.4),
        "caravan": (3.5, 6.5),
        "boat": (4.0, 6.0),
        "car carrier": (3.8, 5.5),
        "horse": (2.8, 3.6),
    }[kind]
    long, wheel = float(rng.uniform(*length)), float(rng.uniform(0.4, 0.5)) if heavy else float(rng.uniform(0.26, 0.34))
    deck = 2 * wheel + 0.1 if heavy else wheel * float(rng.uniform(1.3, 1.9))
    rear, front = -long / 2, long / 2
    parts = _drawbar(rng, width, deck, front)
    parts.append(box(width * 0.95, 0.1, long, at=(0.0, deck - 0.1, 0.0), role="dark"))
    axles = [-0.3 * long, 0.33 * long] if heavy else [-0.08 * long]
    if not heavy and long > 3.2:
        axles = [-0.08 * long - 1.15 * wheel, -0.08 * long + 1.15 * wheel]
    inside = heavy or kind in ("caravan", "horse")
    parts += wheel_rows(wheel, 0.28 if heavy else 0.18, width if inside else width + 0.42, axles)
    if not inside:
        fender = box(
            0.22,
            0.04,
            2.3 * wheel + axles[-1] - axles[0],
            at=(width / 2 + 0.12, 2.1 * wheel, sum(axles) / len(axles)),
            role=pick(rng, ("dark", "metal")),
        )
        parts += [fender, fender.mirrored("x")]
    if heavy:
        return grounded(parts + cargo(rng, pick(rng, CARGO[:4] + CARGO[5:]), width, deck, rear, front))
    return grounded(parts + _light_body(rng, kind, width, deck, rear, front))


def _drawbar(rng: np.random.Generator, width: float, deck: float, front: float) -> list[Part]:
    """A-shaped or straight tow bar with its coupling, jockey wheel now and then."""
    reach, low = float(rng.uniform(0.8, 1.6)), max(deck - 0.12, 0.3)
    tip = (0.0, low, front + reach)
    feet = [(x, low, front - 0.1) for x in ((-0.3 * width, 0.3 * width) if chance(rng, 0.6) else (0.0,))]
    parts = [rods(feet, [tip] * len(feet), 0.06, role="metal"), box(0.14, 0.12, 0.25, at=(0.0, low - 0.05, front + reach), role="dark")]
    if chance(rng, 0.6):
        parts.append(rods([(0.1, 0.1, front + reach * 0.7)], [(0.1, low + 0.35, front + reach * 0.7)], 0.035, role="metal"))
        parts.append(cylinder(0.1, 0.06, axis="x", segments=10, at=(0.1, 0.1, front + reach * 0.7), role="rubber"))
    return parts


def _light_body(rng: np.random.Generator, kind: str, width: float, deck: float, rear: float, front: float) -> list[Part]:
    """What a car's trailer carries."""
    long, half = front - rear, width / 2
    if kind == "caravan":
        high, lean = float(rng.uniform(1.8, 2.2)), float(rng.uniform(0.1, 0.6))
        side = [
            (front - 0.05, 0.0),
            (front, high * 0.35),
            (front - lean, high * 0.95),
            (front - lean - 0.2, high),
            (rear + 0.3, high),
            (rear, high * 0.85),
            (rear, 0.0),
        ]
        panes = [(s * half, deck + high * 0.5, z) for s in (-1, 1) for z in (0.26 * long, -0.27 * long)]
        glass = box(0.03, 0.55, 0.9, role="glass").repeated(panes)
        screen = (
            box(width * 0.75, 0.5, 0.04, role="glass")
            .turned("x", -float(np.rad2deg(np.arctan2(lean, high * 0.6))))
            .moved(y=deck + high * 0.42, z=front - 0.08 * lean)
        )
        door = box(0.03, high * 0.85, 0.65, at=(half, deck + 0.1, -0.02 * long), role="accent")
        return [
            extrude(side, width, axis="x", at=(0.0, deck, 0.0), bevel=0.08),
            glass,
            screen,
            door,
            box(width + 0.03, 0.15, long * 0.98, at=(0.0, deck + high * 0.3, 0.0), role="accent"),
        ]
    if kind == "horse":
        high = float(rng.uniform(1.9, 2.2))
        rings = [
            cross_ring(half * s, deck, deck + high * t, z, 0.35) for z, s, t in ((rear, 1, 1), (front - 0.5, 1, 1), (front, 0.75, 0.8))
        ]
        return [
            loft(rings),
            box(width * 0.9, high * 0.55, 0.05, at=(0.0, deck, rear - 0.02), role="accent"),
            box(width + 0.02, 0.3, 0.7, at=(0.0, deck + high * 0.6, front - 1.1), role="glass"),
        ]
    if kind == "boat":
        hull = open_hull(long * 0.98, width * 0.95, float(rng.uniform(0.6, 0.9)))
        cradle = box(width * 0.7, 0.25, 0.1, role="metal").repeated([(0.0, deck, z) for z in (-0.25 * long, 0.2 * long)])
        return [cradle, *(part.moved(y=deck + 0.12) for part in hull)]
    if kind == "car carrier":
        ramps = box(0.45, 0.08, long).repeated([(x, deck, 0.0) for x in (-half * 0.65, half * 0.65)])
        parts = [
            ramps,
            box(0.45, 0.06, 1.1, role="metal").turned("x", 60.0).repeated([(x, deck + 0.45, rear) for x in (-half * 0.65, half * 0.65)]),
        ]
        if chance(rng, 0.4):
            parts.append(box(width, 0.06, long, at=(0.0, deck + 0.02, 0.0)))
        return parts
    return _utility(rng, width, deck, rear, front)


def _utility(rng: np.random.Generator, width: float, deck: float, rear: float, front: float) -> list[Part]:
    """Low open tub, with mesh, cover, canvas hood or closed box."""
    long, high = front - rear, float(rng.uniform(0.3, 0.55))
    side, end = box(0.04, high, long, at=(width / 2 - 0.02, deck, 0.0)), box(width, high, 0.04, at=(0.0, deck, front - 0.02))
    parts = [box(width, 0.05, long, at=(0.0, deck, 0.0), role="wood"), side, side.mirrored("x"), end, end.moved(z=0.04 - long)]
    form = pick(rng, ("open", "mesh", "hood", "box", "cover"))
    if form == "mesh":
        tall, n = high + float(rng.uniform(0.4, 0.8)), int(long / 0.3)
        posts = [(s * (width / 2 - 0.02), deck + high, z) for s in (-1, 1) for z in np.linspace(rear + 0.02, front - 0.02, n)]
        parts.append(rods(posts, np.array(posts) + [0, tall - high, 0], 0.015, role="metal"))
        rails = [(s * (width / 2 - 0.02), deck + y, rear) for s in (-1, 1) for y in (0.5 * (tall + high), tall)]
        parts.append(rods(rails, np.array(rails) + [0, 0, long], 0.02, role="metal"))
    elif form == "hood":
        top = [(-width / 2, 0.0), (width / 2, 0.0), (width / 2, 0.8), (width * 0.38, 1.0), (-width * 0.38, 1.0), (-width / 2, 0.8)]
        parts.append(extrude(top, long, at=(0.0, deck + high, 0.0)))
    elif form == "box":
        parts.append(rounded_box(width, float(rng.uniform(0.7, 1.5)), long, 0.05, at=(0.0, deck + high * 0.5, 0.0)))
    elif form == "cover":
        parts.append(rounded_box(width + 0.04, 0.12, long + 0.04, 0.05, at=(0.0, deck + high, 0.0), role="dark"))
    return parts


def _semi_trailer(rng: np.random.Generator) -> list[Part]:
    """Uncoupled semi-trailer on its landing legs."""
    width, wheel, long = float(rng.uniform(2.3, 2.55)), float(rng.uniform(0.45, 0.54)), float(rng.uniform(7.5, 13.6))
    deck = 2 * wheel + float(rng.uniform(0.05, 0.25))
    parts = cargo(rng, pick(rng, ("box", "tanker", "flatbed", "dump", "container", "curtain", "flatbed")), width, deck, -long / 2, long / 2)
    parts.append(box(0.9, 0.25, long * 0.94, at=(0.0, deck - 0.25, 0.0), role="dark"))
    axles = [-long / 2 + 1.1 + step * 2.35 * wheel for step in range(int(rng.integers(1, 4)))]
    parts += wheel_rows(wheel, 0.5, width - 0.02, axles, segments=12)
    feet = [(x, 0.0, long * 0.27) for x in (-0.6, 0.6)]
    parts.append(rods(feet, np.array(feet) + [0, deck - 0.1, 0], 0.09, role="metal"))
    parts.append(box(0.35, 0.05, 0.35, role="metal").repeated(feet))
    if chance(rng, 0.5):
        skirt = box(0.05, deck * 0.5, long * 0.4, at=(width / 2 - 0.05, deck * 0.4, -0.02 * long), role=pick(rng, ("body", "dark")))
        parts += [skirt, skirt.mirrored("x")]
    return parts
