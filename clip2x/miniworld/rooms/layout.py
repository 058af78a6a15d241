"""Furnish rooms as people live in them: what stands where, which walls there are, where the camera stands. All numbers ours, metres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clip2x.geometry import inverse_transform, project_points, transform_points
from clip2x.meshes import Mesh
from clip2x.miniworld.objects import Stream, make_object
from clip2x.miniworld.rooms.floorplan import FloorPlan, Rng, Standing, clear_of
from clip2x.miniworld.rooms.shell import build_shell
from clip2x.miniworld.scenes import Placed, camera_pose
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.unseen import UNSEEN_INDOOR, make_unseen

OBJECTS_A_ROOM = 200  # instance numbers that are set aside for each room
MAIN = ("bed", "bookshelf", "chair", "desk", "sofa", "table", "toilet", "bathtub", "dresser", "night stand")
WEIGHTS = {**dict.fromkeys(MAIN, 1.0), "bookshelf": 2.0, "dresser": 2.0, "night stand": 2.0, "sofa": 2.0, "bathtub": 3.0, "toilet": 3.0}
"""How much the camera wants to show a thing; those of few rooms more."""

OTHER_WEIGHT = 0.25
UNSEEN_SHARE = 0.5  # of the rooms hold a thing of a held-out kind
CAMERA_TRIES = 10
KINDS = ("bedroom", "bathroom", "office", "living_room", "bedroom", "dining_room", "bathroom", "living_room", "bedroom", "office", "living_room",
         "dining_room", "bathroom")
"""Kinds of rooms in turn, as `scene.txt` spells them; 13 in number, so that they mix with the ten folders of the sensors."""

SIZES = {"bedroom": ((3.3, 4.8), (3.1, 4.4)), "bathroom": ((2.4, 3.6), (2.2, 3.2)), "office": ((2.8, 5.2), (2.6, 4.6)),
         "living_room": ((3.8, 6.0), (3.2, 5.0)), "dining_room": ((3.4, 5.0), (3.0, 4.6))}
"""Length (left to right) and width (towards the back wall): least and most."""


@dataclass(frozen=True)
class Room:
    """A furnished room with a camera.

    placed: everything for ray casting; objects are numbered by their position in `standing`, see `clip2x.miniworld.rooms.shell` for the rest.
    corners: (4, 2) of the room on the floor, world frame. world_from_camera: (4, 4). light: direction towards it.
    """

    kind: str
    placed: tuple[Placed, ...]
    standing: tuple[Standing, ...]
    corners: NDArray[np.float64]
    ceiling: float
    world_from_camera: NDArray[np.float64]
    light: tuple[float, float, float]
    ambient: float


def furnish_room(stream: Stream, index: int, *, seed: int, intrinsics: NDArray[np.float64], width_px: int, height_px: int) -> Room:
    """Make a room: a function of (seed, stream, index) and of the camera that shall see its furniture.

    Args:
        stream: `ROOM_TRAIN` or `ROOM_TEST`; no object is in both.
        index: Of the room.
        seed: Of the mini-world.
        intrinsics: (3, 3), pixels, as `Scene.picture` takes them.
        width_px, height_px: Size of the picture.
    """
    rng = np.random.default_rng([seed, int(stream), index])
    counter = iter(range(index * OBJECTS_A_ROOM, (index + 1) * OBJECTS_A_ROOM))
    kind = KINDS[index % len(KINDS)]
    (shortest, longest), (narrowest, widest) = SIZES[kind]
    walls = ("back", *(side for side in ("left", "right") if chance(rng, 0.85)))
    plan = FloorPlan(rng.uniform(shortest, longest), rng.uniform(narrowest, widest), walls,
                     lambda name: make_object(name, stream, next(counter), seed=seed).mesh, rng)
    FURNISHERS[kind](plan)
    if chance(rng, UNSEEN_SHARE):
        name = pick(rng, tuple(UNSEEN_INDOOR))
        _somewhere(plan, name, make_unseen(name, stream, next(counter), seed=seed).mesh)
    standing = tuple(replace(item, unseen=item.name in UNSEEN_INDOOR) for item in plan.standing)
    ceiling = rng.uniform(2.35, 2.8)
    pose = _choose_camera(plan, intrinsics, width_px, height_px, rng)
    light = (rng.uniform(-0.6, 0.6), rng.uniform(-0.8, 0.1), rng.uniform(0.5, 1.0))
    shell = build_shell(plan.length, plan.width, ceiling, walls, kind, rng)
    corners = np.array([[0, 0], [plan.length, 0], [plan.length, plan.width], [0, plan.width]], dtype=float)
    objects = (item.placed(number) for number, item in enumerate(standing))
    return Room(kind, (*shell, *objects), standing, corners, ceiling, pose, light, rng.uniform(0.45, 0.65))


def _choose_camera(plan: FloorPlan, intrinsics: NDArray[np.float64], width_px: int, height_px: int, rng: Rng) -> NDArray[np.float64]:
    """Try views from the open side of the room and keep one that shows much: world_from_camera (4, 4).

    Height 1 to 1.8 m, pitched down 0 to 35 degrees, a roll of up to 5 degrees.
    """
    weight = np.array([WEIGHTS.get(item.name, OTHER_WEIGHT) for item in plan.standing])
    corners = np.stack([[*corner, z] for item in plan.standing for z in (item.z, item.z + item.height)
                        for corner in (*item.footprint.corners, (item.footprint.x, item.footprint.y))])
    best, most, tried = None, -np.inf, 0
    for _ in range(8 * CAMERA_TRIES):
        x, y, z = plan.length * rng.uniform(0.05, 0.95), rng.uniform(-1.1, 0.3 * plan.width), rng.uniform(1.0, 1.8)
        margin = 0.0 if y < 0 else 0.25
        if not margin <= x <= plan.length - margin or not clear_of(plan.standing, x, y, z):
            continue
        pose = camera_pose(np.array([x, y, z]), _gaze(plan, weight, np.array([x, y, z]), rng), float(np.clip(rng.normal(0, 1.8), -5, 5)))
        pixels, depth = project_points(transform_points(inverse_transform(pose), corners), intrinsics)
        with np.errstate(invalid="ignore"):
            inside = ((pixels >= 0) & (pixels <= np.array([width_px, height_px]))).all(axis=1) & (depth > 0.5)
        score = float(weight @ inside.reshape(len(weight), -1).mean(axis=1)) + rng.normal(0, 0.3)  # share of the corners, middles included
        if score > most:
            best, most = pose, score
        tried += 1
        if tried == CAMERA_TRIES:
            break
    if best is None:
        return camera_pose(np.array([plan.length / 2, -1.0, 1.5]), np.array([0.0, 1.0, -0.25]))
    return best


def _gaze(plan: FloorPlan, weight: NDArray[np.float64], eye: NDArray[np.float64], rng: Rng) -> NDArray[np.float64]:
    """Look at about one of the objects, not much to the side and never upwards: direction (3,)."""
    target = plan.standing[int(rng.choice(len(weight), p=weight / weight.sum()))]
    foot = target.footprint
    offset = np.array([foot.x, foot.y, target.z + 0.5 * target.height]) - eye
    yaw = np.clip(np.rad2deg(np.arctan2(offset[0], offset[1])) + rng.normal(0, 9), -50, 50)
    pitch = np.clip(np.rad2deg(np.arctan2(-offset[2], np.hypot(offset[0], offset[1]))) - rng.uniform(-2, 8), 0, 35)
    yaw, pitch = np.deg2rad(yaw), np.deg2rad(pitch)
    return np.array([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), -np.sin(pitch)])


def _bedroom(plan: FloorPlan) -> None:
    rng = plan.rng
    bed = plan.at_wall("bed", pick(rng, plan.walls))
    if bed:
        for _ in range(pick(rng, (1, 2, 2))):
            stand = plan.beside(bed, "night stand")
            if stand and chance(rng, 0.7):
                plan.on_top(stand, pick(rng, ("lamp", "lamp", "clock", "mug", "bottle", "vase")))
        if chance(rng, 0.5):
            plan.on_top(bed, pick(rng, ("pillow", "pillow", "bag", "laptop")))
    for name in ("dresser", *(("desk",) if chance(rng, 0.2) else ()), pick(rng, ("chair", "dresser", "cabinet", "bookshelf", "door", "lamp"))):
        item = plan.at_wall(name)
        if item and name in ("dresser", "desk"):
            _decorate(plan, item, ("box", "vase", "lamp", "mug", "clock", "monitor", "bowl"), 2)
            if name == "desk":
                plan.before(item, "chair", (0.05, 0.3))
    _scatter(plan, ("bag", "box", "plant", "pillow", "stool", "bin", "guitar", "chair"), 1.6)


def _bathroom(plan: FloorPlan) -> None:
    rng = plan.rng
    for name, share in (("bathtub", 0.97), ("toilet", 0.97), ("sink", 0.85), ("cabinet", 0.25), ("door", 0.2)):
        if chance(rng, share):
            plan.at_wall(name)
    _scatter(plan, ("bin", "stool", "bag", "plant", "box", "bottle"), 1.2)


def _office(plan: FloorPlan) -> None:
    rng = plan.rng
    for _ in range(pick(rng, (1, 2, 2, 3))):
        desk = plan.at_wall("desk") if chance(rng, 0.75) else plan.anywhere("desk")
        if desk:
            plan.before(desk, "chair", (0.04, 0.4))
            plan.on_top(desk, pick(rng, ("monitor", "monitor", "laptop")), aligned=True)
            _decorate(plan, desk, ("mug", "bottle", "lamp", "box", "laptop", "plant"), 2)
    for name in ("bookshelf", *(("bookshelf",) if chance(rng, 0.4) else ()), pick(rng, ("cabinet", "shelf", "door", "chair"))):
        plan.at_wall(name)
    _scatter(plan, ("bin", "bag", "box", "chair", "plant", "lamp"), 1.6)


def _living_room(plan: FloorPlan) -> None:
    rng = plan.rng
    for _ in range(pick(rng, (1, 1, 2))):
        sofa = plan.at_wall("sofa")
        if sofa and chance(rng, 0.8):
            table = plan.before(sofa, "table", (0.3, 0.6), facing=False)
            if table:
                _decorate(plan, table, ("mug", "bowl", "vase", "laptop", "bottle"), 3)
        if sofa and chance(rng, 0.3):
            plan.on_top(sofa, "pillow")
    for name in (pick(rng, ("bookshelf", "dresser", "shelf")), pick(rng, ("bookshelf", "cabinet", "lamp", "plant", "piano"))):
        item = plan.at_wall(name)
        if item and name == "dresser":
            _decorate(plan, item, ("monitor", "vase", "lamp", "clock"), 2)
    _scatter(plan, ("chair", "plant", "lamp", "stool", "bag", "guitar", "pillow", "vase"), 1.8)


def _dining_room(plan: FloorPlan) -> None:
    rng = plan.rng
    table = plan.anywhere("table")
    if table:
        _decorate(plan, table, ("mug", "bowl", "bottle", "vase", "laptop"), 4)
        plan.around(table, "chair", int(rng.integers(2, 6)))
    for name in (pick(rng, ("dresser", "cabinet", "bookshelf")), pick(rng, ("bench", "sofa", "shelf", "door", "bookshelf"))):
        item = plan.at_wall(name)
        if item and name in ("dresser", "cabinet"):
            _decorate(plan, item, ("vase", "lamp", "clock", "bowl", "box"), 2)
    _scatter(plan, ("plant", "chair", "lamp", "box", "bin", "stool"), 1.5)


FURNISHERS: dict[str, Callable[[FloorPlan], None]] = {
    "bedroom": _bedroom, "bathroom": _bathroom, "office": _office, "living_room": _living_room, "dining_room": _dining_room,
}


def _decorate(plan: FloorPlan, support: Standing, names: tuple[str, ...], most: int) -> None:
    """Put up to `most` things on top."""
    for _ in range(int(plan.rng.integers(0, most + 1))):
        name = pick(plan.rng, names)
        plan.on_top(support, name, aligned=name in ("monitor", "clock", "laptop"))


def _scatter(plan: FloorPlan, names: tuple[str, ...], mean: float) -> None:
    """Leave some things lying about."""
    for _ in range(int(plan.rng.poisson(mean))):
        plan.anywhere(pick(plan.rng, names))


def _somewhere(plan: FloorPlan, name: str, mesh: Mesh) -> None:
    """Put a small thing on furniture where that works, a large one on the floor."""
    if float(np.ptp(mesh.vertices, axis=0).max()) < 0.6:
        supports = [item for item in plan.standing if item.name in ("table", "desk", "dresser", "night stand", "bed", "cabinet")]
        for position in plan.rng.permutation(len(supports)):
            if plan.on_top(supports[int(position)], name, mesh):
                return
    plan.anywhere(name, mesh)
