"""Lay out a mini-world street: what drives, walks and stands there, and where each thing is at a time. All numbers are ours.

Every street has parked and moving traffic, a bus stop, a building site with a row of barriers, lines of cones and workers, a yard with
trailers and trucks, people on the pavements and beside the walls, and things whose names are held out of training.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from clip2x.meshes import Mesh
from clip2x.miniworld.objects import CLASS_NAMES, Stream, make_object
from clip2x.miniworld.scenes import Placed, merged
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.streets.ground import KERB, LANE, PARKING, Road, ground, houses, pole, tree
from clip2x.miniworld.unseen import make_unseen

Range = tuple[float, float]

# Length, width, height in metres: what the generators draw is brought into these limits. Ours, after common sizes of such things.
LIMITS: dict[str, tuple[Range, Range, Range]] = {
    "car": ((3.6, 5.3), (1.6, 2.15), (1.35, 2.1)),
    "truck": ((5.0, 12.0), (2.0, 2.9), (2.2, 3.9)),
    "bus": ((8.0, 17.5), (2.5, 3.1), (2.8, 3.9)),
    "trailer": ((3.5, 13.5), (1.7, 2.9), (1.3, 4.0)),
    "construction vehicle": ((3.5, 9.0), (1.7, 3.4), (1.9, 5.0)),
    "motorcycle": ((1.7, 2.5), (0.6, 1.0), (1.0, 1.9)),
    "bicycle": ((1.4, 2.0), (0.4, 0.75), (0.9, 1.9)),
    "pedestrian": ((0.35, 1.3), (0.4, 1.0), (1.0, 2.0)),
    "traffic cone": ((0.25, 0.6), (0.25, 0.6), (0.5, 1.2)),
    "barrier": ((0.35, 0.85), (1.5, 3.2), (0.75, 1.3)),
}

RIDER_HEIGHT = {"bicycle": 1.35, "motorcycle": 1.5}  # metres; higher ones carry a rider


@dataclass(frozen=True)
class Actor:
    """An object with a name.

    number: counts the street's objects; name: what it truly is. mesh: object frame. s, d: where its footprint's middle is at time 0.
    turn_deg: heading against the street's. speed: (along, across) metres per second, in street coordinates; braking: m/s^2 against `along`.
    z: height of the ground. role: what it does ("moving", "parked", "worker", ...), for category and attribute.
    """

    number: int
    name: str
    mesh: Mesh
    s: float
    d: float
    turn_deg: float
    speed: tuple[float, float] = (0.0, 0.0)
    braking: float = 0.0
    z: float = 0.0
    role: str = "standing"

    @property
    def size(self) -> tuple[float, float, float]:
        """Length, width, height, metres."""
        width, height, length = np.ptp(self.mesh.vertices, axis=0).tolist()
        return length, width, height

    def speed_at(self, time: float) -> float:
        """Metres per second after so many seconds."""
        along = max(0.0, abs(self.speed[0]) - self.braking * max(time, 0.0))
        return float(np.hypot(along, self.speed[1]))

    def placed(self, road: Road, time: float) -> Placed:
        """Stand it where it is at a time, seconds."""
        s, d = self.s + travelled(self.speed[0], self.braking, time), self.d + self.speed[1] * time
        return road.put(self.mesh, s, d, self.turn_deg, z=self.z, number=self.number, name=self.name)


@dataclass(frozen=True)
class Street:
    """A street, its objects and the path of the car that looks at it (speed m/s, braking m/s^2, place of its lane)."""

    road: Road
    static: tuple[Placed, ...]
    actors: tuple[Actor, ...]
    speed: float
    braking: float
    lane: float
    description: str
    sky: tuple[float, float, float]
    light: tuple[float, float, float]


def travelled(speed: float, braking: float, time: float) -> float:
    """Metres after some seconds (negative times too) of slowing down until it stands; against the street where the speed is negative."""
    if braking > 0 and abs(speed) > 0:
        time = min(time, abs(speed) / braking)
    return float(np.sign(speed) * (abs(speed) * time - 0.5 * braking * time * time))


def make_street(stream: Stream, scene: int, seconds: float, *, seed: int = 0) -> Street:
    """Lay out one street for a drive of so many seconds; a function of (seed, stream, scene, seconds)."""
    rng = np.random.default_rng([seed, int(stream), scene, 77])
    road = Road((float(rng.uniform(300, 1200)), float(rng.uniform(300, 1600))), float(rng.uniform(0, 360)),
                float(rng.uniform(-1 / 160, 1 / 160)), int(rng.integers(1, 3)))
    speed = float(pick(rng, (rng.uniform(1.5, 4), rng.uniform(4, 9))))
    braking = float(rng.uniform(0.3, 0.8)) if chance(rng, 0.25) else 0.0
    path = travelled(speed, braking, seconds)
    builder = _Builder(road, stream, scene, seed, rng, (-58.0, path + 62.0))
    site, yard = _site(builder, path), _yard(builder, path)
    lane = -LANE / 2
    _traffic(builder, lane, speed, braking)
    _parked(builder)
    _pavements(builder)
    low, high = builder.span
    static = [*ground(road, low - 60, high + 60, rng)]
    for side in (-1, 1):
        static += houses(road, side, low - 50, high + 50, rng, [place for where, place in (site, yard) if where == side])
        for _ in range(int(rng.integers(10, 22))):  # a green beyond the gaps between the houses
            static.append(road.put(tree(rng), float(rng.uniform(low - 20, high + 20)), side * (road.front + float(rng.uniform(22, 60))), z=0.0))
        for _ in range(int(rng.integers(5, 12))):
            s = builder.free(f"strip{side}", 0.6, 0.2, (low - 20, high + 20))
            if s is not None:
                static.append(road.put(tree(rng) if chance(rng, 0.6) else pole(rng), s, side * (road.kerb + 0.5), -90.0 * side, z=KERB))
    for s in (low - 62, high + 62):  # the ends of the street are closed, so that the laser sees as little sky as in a town
        static += [road.put(tree(rng), s + float(rng.uniform(-6, 6)), d, z=0.0) for d in np.linspace(-24, 24, 9)]
    bright = float(rng.uniform(0.75, 1.0))
    sun = rng.uniform(-1, 1, 2)
    words = f"{2 * road.lanes} lanes, building site, yard, bus stop, parked cars"
    return Street(road, (merged(static),), tuple(builder.actors), speed, braking, lane, words,
                  (0.70 * bright, 0.80 * bright, 0.95 * bright), (float(sun[0]), float(sun[1]), 0.9))


@dataclass
class _Builder:
    """Collects the objects of a street and keeps them apart."""

    road: Road
    stream: Stream
    scene: int
    seed: int
    rng: np.random.Generator
    span: Range
    actors: list[Actor] = field(default_factory=list)
    taken: dict[str, list[Range]] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)

    @property
    def near(self) -> Range:
        """The stretch that the laser sees well."""
        return self.span[0] + 36.0, self.span[1] - 36.0

    def mesh(self, name: str) -> Mesh:
        """Make the street's next object of that name, within the limits of its class."""
        index = self.made.get(name, 0)
        self.made[name] = index + 1
        make = make_object if name in CLASS_NAMES else make_unseen
        mesh = make(name, self.stream, 1000 * self.scene + index, seed=self.seed).mesh
        return within_limits(mesh, name) if name in LIMITS else mesh

    def add(self, name: str, s: float, d: float, turn_deg: float, mesh: Mesh | None = None, **details: object) -> Actor:
        """Stand an object on the street; on the pavements it stands on their height."""
        mesh = mesh or self.mesh(name)
        height = KERB if abs(d) > self.road.kerb else 0.0
        actor = replace(Actor(len(self.actors), name, mesh, s, d, turn_deg, z=height), **details)  # type: ignore[arg-type]
        self.actors.append(actor)
        return actor

    def free(self, band: str, length: float, margin: float = 1.0, within: Range | None = None) -> float | None:
        """Find a place for so many metres in a band of the street and take it; None where there is none."""
        low, high = within or self.span
        taken = self.taken.setdefault(band, [])
        for _ in range(25):
            s = float(self.rng.uniform(low + length / 2, max(low + length / 2 + 0.1, high - length / 2)))
            start, end = s - length / 2 - margin, s + length / 2 + margin
            if all(end <= first or start >= last for first, last in taken):
                taken.append((start, end))
                return s
        return None

    def take(self, band: str, low: float, high: float) -> None:
        """Keep a stretch of a band clear of what comes later."""
        self.taken.setdefault(band, []).append((low, high))


def within_limits(mesh: Mesh, name: str) -> Mesh:
    """Scale a mesh evenly to the limits of its length, then the other sides where they still lie outside theirs."""
    width, height, length = np.ptp(mesh.vertices, axis=0).tolist()
    limits = LIMITS[name]
    leading = (length, limits[0]) if name not in ("pedestrian", "barrier") else ((height, limits[2]) if name == "pedestrian" else (width, limits[1]))
    factor = float(np.clip(leading[0], *leading[1])) / leading[0]
    sides = np.array([width, height, length]) * factor
    wanted = np.array([np.clip(side, *limit) for side, limit in zip(sides, (limits[1], limits[2], limits[0]), strict=True)])
    return replace(mesh, vertices=mesh.vertices * (factor * wanted / sides))


def _traffic(builder: _Builder, lane: float, speed: float, braking: float) -> None:
    """Fill the lanes; all in a lane go at its speed, the looking car (at s = 0 in `lane`) included."""
    rng, road = builder.rng, builder.road
    builder.take(f"lane{lane:.2f}", -9.0, 11.0)
    wishes = ["truck", "bus", "motorcycle", "bicycle"] * 2 + ["car"] * int(rng.integers(6, 9)) + ["trailer"]
    lanes = [(side * (index + 0.5) * LANE) for side in (-1, 1) for index in range(road.lanes)]
    speeds = {d: (speed if d == lane else float(rng.uniform(2, 10)) * (1.0 if d < 0 else -1.0)) for d in lanes}
    for name in wishes:
        mesh = builder.mesh(name)
        length = float(np.ptp(mesh.vertices[:, 2]))
        if name in RIDER_HEIGHT and float(np.ptp(mesh.vertices[:, 1])) < RIDER_HEIGHT[name]:
            _stand_cycle(builder, name, mesh)
            continue
        d = float(pick(rng, lanes if length < 7.0 else [other for other in lanes if abs(other - lane) > LANE + 0.1] or lanes))
        s = builder.free(f"lane{d:.2f}", length, 3.0)
        if s is None:
            continue
        ahead = 0.0 if d < 0 else 180.0
        edge = -np.sign(d) * 0.9 if name in RIDER_HEIGHT else 0.0
        builder.add(name, s, d - edge, ahead + float(rng.normal(0, 1.0)), mesh, speed=(speeds[d], 0.0),
                    braking=braking if d == lane else 0.0, role="moving")


def _stand_cycle(builder: _Builder, name: str, mesh: Mesh) -> None:
    side = pick(builder.rng, (-1, 1))
    s = builder.free(f"strip{side}", 1.0, 0.2, builder.near)
    if s is not None:
        turn = float(pick(builder.rng, (0.0, 90.0, -90.0, 180.0))) + float(builder.rng.normal(0, 8))
        builder.add(name, s, side * (builder.road.kerb + 1.4), turn, mesh, role="parked")


def _parked(builder: _Builder) -> None:
    """Park cars, a truck and a trailer beside the lanes; a bus stands at its stop."""
    rng, road = builder.rng, builder.road
    for name in ["bus", "truck", "trailer", *["car"] * int(rng.integers(8, 13))]:
        side = pick(rng, (-1, 1))
        mesh = builder.mesh(name)
        s = builder.free(f"parking{side}", float(np.ptp(mesh.vertices[:, 2])), 0.4)
        if s is None:
            continue
        turn = (0.0 if side < 0 else 180.0) + float(rng.normal(0, 2)) + (180.0 if chance(rng, 0.1) else 0.0)
        builder.add(name, s, side * (road.lanes_end + PARKING / 2 + 0.1), turn, mesh, role="parked" if name != "bus" else "stopped")
        if name == "bus":
            for _ in range(int(rng.integers(2, 5))):
                place = side * (road.kerb + float(rng.uniform(1.5, 2.6)))
                builder.add("pedestrian", s + float(rng.uniform(-5, 5)), place, float(rng.uniform(0, 360)))
    for name in ["motorcycle"] * int(rng.integers(3, 5)) + ["bicycle"] * int(rng.integers(3, 5)):
        _stand_cycle(builder, name, builder.mesh(name))


def _pavements(builder: _Builder) -> None:
    """People who walk, stand beside walls or cross, and held-out things."""
    rng, road = builder.rng, builder.road
    for _ in range(int(rng.integers(9, 14))):
        side = pick(rng, (-1, 1))
        kind = pick(rng, ("walk", "wall", "cross"), (6, 3, 1))
        band = {"walk": "walk", "wall": "wall", "cross": "parking"}[kind]
        place = builder.free(f"{band}{side}", 0.8, 0.2, (10.0, 45.0) if kind == "cross" else None)
        if place is None:
            continue
        if kind == "cross":
            d = side * float(rng.uniform(road.lanes_end + 0.5, road.kerb))
            pace = (0.0, -side * float(rng.uniform(0.2, 0.5)))
            builder.add("pedestrian", place, d, -90.0 * side + float(rng.normal(0, 10)), speed=pace, role="moving")
        elif kind == "walk":
            ahead = pick(rng, (1, -1))
            turn = (0.0 if ahead > 0 else 180.0) + float(rng.normal(0, 12))
            builder.add("pedestrian", place, side * (road.kerb + float(rng.uniform(2.2, 3.6))), turn,
                        speed=(ahead * float(rng.uniform(0.7, 1.6)), 0.0), role="moving")
        else:
            builder.add("pedestrian", place, side * (road.front - float(rng.uniform(0.45, 0.9))), float(rng.uniform(0, 360)))
    for name, count in (("plastic bag", 3), ("tire", 1), ("stroller", 2), ("wheelchair", 2), ("shopping cart", 2), ("debris", 1)):
        for _ in range(int(rng.integers(count, count + 2))):
            side = pick(rng, (-1, 1))
            beside_wall = name in ("plastic bag", "tire", "debris")
            s = builder.free(f"wall{side}" if beside_wall else f"walk{side}", 1.2, 0.2, builder.near)
            if s is not None:
                d = road.front - 0.9 if beside_wall and chance(rng, 0.6) else road.kerb + float(rng.uniform(1.6, 2.4))
                builder.add(name, s, side * d, float(rng.uniform(0, 360)))


def _site(builder: _Builder, path: float) -> tuple[int, tuple[float, float]]:
    """Dig up one side: a row of touching barriers towards the lanes, cones where it begins and ends, machines, workers, debris."""
    rng, road = builder.rng, builder.road
    side = pick(rng, (-1, 1))
    low = float(rng.uniform(-6, 14)) + 0.3 * path
    high = low + float(rng.uniform(22, 34))
    for band in ("parking", "strip", "walk", "wall"):
        builder.take(f"{band}{side}", low - 9, high + 9)
    line = road.lanes_end + 0.55
    models = [builder.mesh("barrier") for _ in range(4)]
    s, row = low, 0
    while s < high:
        mesh = models[row % 2 if row < 7 else 2 + row % 2]
        wide = float(np.ptp(mesh.vertices[:, 0]))
        builder.add("barrier", s + wide / 2, side * line, 90.0 + float(rng.normal(0, 1.5)), mesh)
        s, row = s + wide + 0.03, row + 1
        if row == 7:
            s += float(rng.uniform(1.5, 4.0))  # the way in
    cones = [builder.mesh("traffic cone") for _ in range(4)]
    for start, step in ((low - 1.0, -1.0), (s + 1.0, 1.0)):
        for index in range(int(rng.integers(3, 6))):
            along, across = start + 1.6 * index * step + float(rng.normal(0, 0.1)), line + min(2.4, 0.45 * index)
            builder.add("traffic cone", along, side * across, float(rng.uniform(0, 360)), cones[index % 4])
    for index in range(int(rng.integers(2, 4))):
        _inside(builder, "construction vehicle", side, low + 4 + index * 10.5, line + 3.0, "working")
    for _ in range(int(rng.integers(2, 5))):
        _inside(builder, "pedestrian", side, float(rng.uniform(low, high)), line + float(rng.uniform(5.8, 6.5)), "worker")
    for name in ("debris", "debris", "tire"):
        _inside(builder, name, side, float(rng.uniform(low, high)), line + float(rng.uniform(6.6, 7.4)), "lying")
    return side, (low - 4, high + 4) if chance(rng, 0.4) else (0.0, 0.0)


def _inside(builder: _Builder, name: str, side: int, s: float, d: float, role: str) -> None:
    turn = float(builder.rng.uniform(0, 360))
    if name == "construction vehicle":
        turn = float(pick(builder.rng, (0.0, 180.0))) + float(builder.rng.normal(0, 12))
    builder.add(name, s, side * d, turn, role=role)


def _yard(builder: _Builder, path: float) -> tuple[int, tuple[float, float]]:
    """Open a yard between the houses: trailers, trucks, machines and cars stand side by side, a few cones and barriers, stacked tires."""
    rng, road = builder.rng, builder.road
    side = pick(rng, (-1, 1))
    low = float(pick(rng, (rng.uniform(-42, -24), rng.uniform(8, 20) + path)))
    names = ["trailer", "construction vehicle", "trailer", "truck", "car", "trailer"]
    s = low + 2.5
    for index in rng.permutation(len(names)):
        mesh = builder.mesh(names[index])
        length, wide = float(np.ptp(mesh.vertices[:, 2])), float(np.ptp(mesh.vertices[:, 0]))
        turn = -90.0 * side * float(pick(rng, (1.0, -1.0))) + float(rng.normal(0, 6))
        builder.add(names[index], s + wide / 2, side * (road.front + 2.0 + length / 2 + float(rng.uniform(0, 3))), turn, mesh, role="parked")
        s += wide + float(rng.uniform(1.2, 2.6))
    builder.take(f"wall{side}", low, s)
    cone, rail = [builder.mesh("traffic cone") for _ in range(2)], builder.mesh("barrier")
    for index in range(int(rng.integers(2, 5))):
        builder.add("traffic cone", low + 1.5 + 2.0 * index, side * (road.front - 0.6), float(rng.uniform(0, 360)), cone[index % 2])
    for index in range(int(rng.integers(2, 4))):
        builder.add("barrier", s - 2 - index * (float(np.ptp(rail.vertices[:, 0])) + 0.05), side * (road.front - 0.5), 90.0, rail)
    return side, (low, s)
