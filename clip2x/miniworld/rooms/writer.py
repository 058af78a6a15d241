"""Write rooms seen by RGB-D cameras in SUN RGB-D's layout: pictures, depth, calibration, annotations, lists; detector boxes and truth apart.

`truth/sunrgbd.json` lists for every picture the objects of which at least `LEAST_PIXELS` pixels are visible: box of these pixels (left, top,
right, bottom; right and bottom exclusive), true name, position in the objects of annotation3Dfinal, and whether no training caption names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from clip2x.errors import InputError
from clip2x.geometry import inverse_transform, rigid_transform
from clip2x.miniworld.detections import CocoFile, noisy_boxes
from clip2x.miniworld.objects import Stream
from clip2x.miniworld.rooms.annotations import SeenObject, annotate, outline_annotation
from clip2x.miniworld.rooms.depth_sensor import DepthSensor, depth_codes, fill_holes, measure
from clip2x.miniworld.rooms.layout import Room, furnish_room
from clip2x.miniworld.scenes import Picture, Scene, visible_boxes
from clip2x.storage import atomic_path

FOLDER = "sunrgbd"
LISTS = {Stream.ROOM_TRAIN: "sunrgbd_training_images.txt", Stream.ROOM_TEST: "sunrgbd_testing_images.txt"}
GLASSY = ("glass", "screen")
LEAST_PIXELS = 16  # of an object that is annotated, at any size of the picture
LEAST_WIDTH = 48
TASKS_AT_ONCE = 4


@dataclass(frozen=True)
class RgbdCamera:
    """A camera of the data set. width_px, height_px, focal_px, centre_px: of the real pictures, which the small ones are scaled from.

    Those of kv1 are a real frame's; the others are from memory, not checked on files. `rows`: intrinsics.txt holds a matrix, not a line.
    """

    width_px: int
    height_px: int
    focal_px: float
    centre_px: tuple[float, float]
    sensor: DepthSensor
    rows: bool = False

    def scaled(self, width_px: int) -> tuple[NDArray[np.float64], int]:
        """Give the pinhole matrix (3, 3) in the toolbox's pixels, whose first is number 1, and the height of a picture of that width."""
        scale = width_px / self.width_px
        (x, y), focal = self.centre_px, self.focal_px * scale
        first = 0.5 * (1 - scale)  # the middle of the first pixel keeps its number
        matrix = np.array([[focal, 0, x * scale + first], [0, focal, y * scale + first], [0, 0, 1]])
        return matrix.round(6), round(self.height_px * scale)


KINECT_1 = RgbdCamera(561, 427, 520.6, (277.9258, 215.115), DepthSensor(margin=0.08), rows=True)
KINECT_2 = RgbdCamera(730, 530, 529.5, (365.0, 265.0), DepthSensor(noise=0.0011, step=0.0, baseline=-0.052, margin=0.02, weakness=0.15))
XTION = RgbdCamera(591, 441, 570.34, (291.0, 231.0), DepthSensor())
REALSENSE = RgbdCamera(681, 531, 615.0, (340.0, 265.0), DepthSensor(noise=0.0024, step=0.004, baseline=-0.07, farthest=6.0, weakness=0.4))

SOURCES: tuple[tuple[str, RgbdCamera], ...] = (
    ("kv2/kinect2data", KINECT_2), ("xtion/sun3ddata", XTION), ("kv1/NYUdata", KINECT_1), ("realsense", REALSENSE),
    ("kv2/kinect2data", KINECT_2), ("xtion/sun3ddata", XTION), ("kv1/b3dodata", KINECT_1), ("kv2/align_kv2", KINECT_2),
    ("xtion/sun3ddata", XTION), ("xtion/xtion_align_data", XTION))
"""Where the rooms go in turn, in about the shares of the real lists."""


@dataclass(frozen=True)
class RoomView:
    """A room and what a camera sees of it. intrinsics: (3, 3), in the toolbox's pixels, see `RgbdCamera.scaled`."""

    room: Room
    scene: Scene
    picture: Picture
    intrinsics: NDArray[np.float64]


@dataclass(frozen=True)
class RoomTask:
    """One room to write. root: of the mini-world."""

    root: Path
    seed: int
    stream: Stream
    index: int
    width_px: int


@dataclass(frozen=True)
class WrittenRoom:
    """What the lists and files of all rooms need of one. truth: of every visible object; boxes: what a detector would give."""

    listed: str
    file_name: str
    width_px: int
    height_px: int
    truth: list[dict[str, Any]]
    boxes: list[tuple[tuple[float, float, float, float], float]]


def write_rooms(root: Path, *, seed: int, train: int, test: int, width_px: int = 280, pool: Executor | None = None,
                bar: tqdm[Any] | None = None) -> None:
    """Write rooms below `root`/sunrgbd, detector boxes to `root`/detections and what is really there to `root`/truth.

    Every room is a function of (seed, split, number): the same with any number of workers.

    Args:
        root: Of the mini-world.
        seed: Of the mini-world.
        train, test: How many rooms.
        width_px: Of the pictures; their heights follow from the cameras' shapes.
        pool: Workers; None = this process.
        bar: Is moved on by one for each room.

    Raises:
        InputError: If there is to be no room in one of the splits, or the pictures are too small to see anything in.
    """
    if min(train, test) < 1 or width_px < LEAST_WIDTH:
        raise InputError(f"rooms need train >= 1, test >= 1 and width_px >= {LEAST_WIDTH}, got {train}, {test} and {width_px}.")
    tasks = [RoomTask(root, seed, stream, index, width_px) for stream, count in ((Stream.ROOM_TRAIN, train), (Stream.ROOM_TEST, test))
             for index in range(count)]
    written: Iterable[WrittenRoom] = map(write_room, tasks) if pool is None else pool.map(write_room, tasks, chunksize=TASKS_AT_ONCE)
    coco, truth = CocoFile(), {}
    listed: dict[Stream, list[str]] = {stream: [] for stream in LISTS}
    for task, room in zip(tasks, written, strict=True):
        coco.add(room.file_name, room.width_px, room.height_px, room.boxes)
        truth[room.file_name] = room.truth
        listed[task.stream].append(room.listed)
        if bar is not None:
            bar.update(1)
    order = {source: number for number, (source, _) in reversed(list(enumerate(SOURCES)))}
    for stream, lines in listed.items():
        ordered = sorted(lines, key=lambda line: (next(rank for source, rank in order.items() if f"/{source}/" in line), line))
        _write_text(root / FOLDER / LISTS[stream], "".join(f"{line}\n" for line in ordered))
    coco.write(root / "detections" / "sunrgbd_boxes.json",
               "boxes of a made-up class-agnostic detector on the mini-world's rooms; bbox = x, y, width, height in pixels")
    _write_text(root / "truth" / "sunrgbd.json", json.dumps({"pictures": truth}))


def see_room(stream: Stream, index: int, *, seed: int, width_px: int) -> RoomView:
    """Furnish a room and take its picture with the camera whose turn it is; a function of all arguments."""
    _, camera = SOURCES[index % len(SOURCES)]
    intrinsics, height_px = camera.scaled(width_px)
    through_centres = intrinsics - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # `Scene.picture` counts the first pixel's middle as 0.5
    room = furnish_room(stream, index, seed=seed, intrinsics=through_centres, width_px=width_px, height_px=height_px)
    scene = Scene(room.placed)
    picture = scene.picture(room.world_from_camera, through_centres, width_px, height_px, light=room.light, ambient=room.ambient,
                            background=(0.5, 0.5, 0.5))
    return RoomView(room, scene, picture, intrinsics)


def write_room(task: RoomTask) -> WrittenRoom:
    """Furnish, look at, measure, annotate and write one room."""
    source, camera = SOURCES[task.index % len(SOURCES)]
    view = see_room(task.stream, task.index, seed=task.seed, width_px=task.width_px)
    room, scene, picture, intrinsics, height_px = view.room, view.scene, view.picture, view.intrinsics, len(view.picture.rgb)
    rng = np.random.default_rng([task.seed, int(task.stream), task.index, 1])
    brightness = picture.rgb.mean(axis=-1, dtype=np.float32) / 255
    raw = measure(picture.depth, brightness, picture.incidence, _glassy(scene, picture), float(intrinsics[0, 0]), camera.sensor, rng)
    filled = fill_holes(raw, picture.rgb)
    folder, image, depth = _names(source, task)
    seen = [SeenObject(number, room.standing[number], box, pixels)
            for number, (box, pixels) in visible_boxes(picture.number, LEAST_PIXELS).items()]
    true_boxes = [(float(left), float(top), float(right), float(bottom)) for left, top, right, bottom in (item.box_px for item in seen)]
    boxes = noisy_boxes(true_boxes, task.width_px, height_px, rng)
    positions = _write_frame(task.root / FOLDER / folder, image, depth, room, picture, raw, filled, intrinsics, seen, camera.rows, rng)
    truth = [{"box_px": list(item.box_px), "name": item.standing.name, "object": positions[item.number], "pixels": item.pixels,
              "unseen": item.standing.unseen} for item in seen]
    slashes = "/" if source in ("kv2/kinect2data", "xtion/sun3ddata") else "//"  # as in the official lists
    return WrittenRoom(f"{folder}{slashes}image/{image}", f"{folder}/image/{image}", task.width_px, height_px, truth, boxes)


def upright_from_camera(world_from_camera: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Level a camera the shortest way, as the files' extrinsics do.

    Args:
        world_from_camera: (4, 4), z up.

    Returns:
        The rotation (3, 3) that extrinsics hold, from the camera to a level one (x right, y down, z forward), and upright_from_camera
        (4, 4): x right, y forward, z up, the camera at the origin.
    """
    down = -world_from_camera[2, :3]  # gravity in the camera's frame
    axis = np.cross(down, [0.0, 1.0, 0.0])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    level = np.eye(3) + cross + cross @ cross / (1 + down[1])  # Rodrigues' formula between two unit vectors
    upright_from_level = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    return level, rigid_transform(upright_from_level @ level, np.zeros(3))


def _glassy(scene: Scene, picture: Picture) -> NDArray[np.bool_]:
    """Find the pixels that show glass or a screen."""
    glass = np.array([material.name in GLASSY for material in scene.mesh.materials])
    mask: NDArray[np.bool_] = (picture.face >= 0) & glass[scene.mesh.face_material[picture.face.clip(0)]]
    return mask


def _names(source: str, task: RoomTask) -> tuple[str, str, str]:
    """Make up a frame's folder (below the root of the data set) and the names of its picture and depth map, like the real ones of its source."""
    serial = 2 * task.index + (task.stream == Stream.ROOM_TEST)
    when = datetime(2014, 5 if task.stream == Stream.ROOM_TRAIN else 9, 1, 9) + timedelta(seconds=422 * task.index)
    clock, frame = f"{when:%H-%M-%S}", f"{7 * serial % 400 + 20:07d}"
    if source == "kv1/NYUdata":
        place, stem = f"NYU{serial + 1:04d}", f"NYU{serial + 1:04d}"
    elif source == "kv1/b3dodata":
        place = stem = f"img_{serial + 1:04d}"
    elif source == "kv2/kinect2data":
        place, stem = f"{serial + 1:06d}_{when:%Y-%m-%d}_{clock}_260595134347_rgbf{frame[1:]}-resize", frame
    elif source == "kv2/align_kv2":
        place, stem = f"{when:%Y-%m-%d}_{clock}_260595134347", frame
    elif source == "xtion/sun3ddata":
        flat = f"mini_flat_{2 * (task.index // 20) + serial % 2 + 1}"
        stem = f"{serial + 1:07d}-{33367 * (serial + 1):012d}"
        place = f"{flat}/{flat}_1/{stem}"
    elif source == "xtion/xtion_align_data":
        place, stem = f"{when:%Y_%m_%d_%H_%M_%S}", frame
    else:
        place, stem = f"{'lg' if task.stream == Stream.ROOM_TEST else 'sa'}/{when:%Y_%m_%d}-{when:%H_%M_%S}-1311000073", frame
    return f"SUNRGBD/{source}/{place}", f"{stem}.jpg", f"{stem}_abs.png" if source == "kv1/b3dodata" else f"{stem}.png"


def _write_frame(folder: Path, image: str, depth: str, room: Room, picture: Picture, raw: NDArray[np.float32], filled: NDArray[np.float32],
                 intrinsics: NDArray[np.float64], seen: list[SeenObject], rows: bool, rng: np.random.Generator) -> dict[int, int]:
    """Write a frame's files.

    `annotation` and `fullres` of the real tree, copies of annotation2Dfinal and of the uncut picture, are left out.

    Returns:
        Instance number -> position in the objects of annotation3Dfinal.
    """
    for name in ("image", "depth", "depth_bfx", "extrinsics"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(developed(picture.rgb, rng)).save(folder / "image" / image, quality=88)
    for name, values in (("depth", raw), ("depth_bfx", filled)):
        Image.fromarray(depth_codes(values)).save(folder / name / depth, compress_level=1)
    level, upright = upright_from_camera(room.world_from_camera)
    lines = [" ".join(f"{value:.6f}" for value in row) for row in intrinsics]
    (folder / "intrinsics.txt").write_text("\n".join(lines) + "\n" if rows else " ".join(lines) + " ")
    when = "20140915210114.txt"
    (folder / "extrinsics" / when).write_text("".join(" ".join(f"{value:.6f}" for value in (*row, 0.0)) + "\n" for row in level))
    (folder / "scene.txt").write_text(room.kind)
    upright_from_world = upright @ inverse_transform(room.world_from_camera)
    annotations, positions = annotate(room, seen, upright_from_world, rng)
    annotations["annotation2Dfinal"] = outline_annotation(picture.number, filled, intrinsics, seen)
    for name, content in annotations.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "index.json").write_text(json.dumps({**content, "extrinsics": when, "conflictList": [None], "fileList": [image]}))
    return positions


def developed(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Give a picture a camera's exposure, tint and noise. Ours."""
    gain = rng.uniform(0.75, 1.15) * rng.normal(1.0, 0.04, 3)
    noisy = rgb * gain.astype(np.float32) + rng.normal(0, 1) + rng.uniform(1, 5) * rng.standard_normal(rgb.shape, dtype=np.float32)
    return noisy.clip(0, 255).astype(np.uint8)


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
