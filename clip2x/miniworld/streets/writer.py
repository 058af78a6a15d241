"""Write mini-world streets in the layout of nuScenes: tables, sweeps, pictures; beside them class-agnostic boxes and the truth.

Below the root: `<folder>/{v1.0-mini,samples,maps}` as published (folder, scene names and categories stand in the manifest), with the 13
tables in the official formatting; `detections/nuscenes_boxes.json` (COCO, one category) and `truth/nuscenes.json` (true names).
Intermediate sweeps, radars and map layers are not made, and the tables say nothing of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from clip2x.manifest import Manifest, load_manifest, manifest_folder
from clip2x.miniworld.detections import Box, CocoFile, noisy_boxes
from clip2x.miniworld.objects import Stream
from clip2x.miniworld.scenes import visible_boxes
from clip2x.miniworld.streets.drive import Annotation, Drive, KeyFrame, Shot
from clip2x.miniworld.streets.layout import RIDER_HEIGHT, Actor
from clip2x.miniworld.streets.sensors import CAMERAS, LIDAR
from clip2x.storage import atomic_path

VARIANT = "v1.0-mini"
ALL_CATEGORIES = "v1.0-mini-23"  # the variant whose classes are all annotated categories
START_US = 1_533_000_000_000_000  # when the first drive begins; they are two hours apart
JPEG_QUALITY = 90
LEAST_PIXELS = 6  # of an object in a picture, to be true there

TABLES = ("attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation", "sample_data",
          "scene", "sensor", "visibility")

ATTRIBUTES = ("vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "cycle.without_rider", "pedestrian.sitting_lying_down",
              "pedestrian.standing", "pedestrian.moving")
LEVELS = ("v0-40", "v40-60", "v60-80", "v80-100")

CATEGORY_OF_UNSEEN = {"debris": "debris", "plastic bag": "debris", "tire": "debris", "stroller": "stroller", "wheelchair": "wheelchair",
                      "shopping cart": "pushable pullable object"}
"""Readable name in the manifest of the official category that a held-out thing is annotated with."""

Row = dict[str, Any]


@runtime_checkable
class Progress(Protocol):
    """What a progress bar must do."""

    def update(self, n: float, /) -> object:
        """Count so many more key frames."""


@dataclass(frozen=True)
class StreetSize:
    """How much is made: drives and key frames of each, pixels of the pictures. All ours."""

    train_scenes: int = 8
    val_scenes: int = 2
    train_frames: int = 5
    val_frames: int = 10
    width_px: int = 400
    height_px: int = 225

    def key_frames(self) -> int:
        """Count them all."""
        return self.train_scenes * self.train_frames + self.val_scenes * self.val_frames


@dataclass(frozen=True)
class _Task:
    root: Path
    manifest: Manifest
    seed: int
    scene: int
    name: str
    stream: Stream
    frames: int
    size: StreetSize


@dataclass
class _Written:
    """What one drive adds: rows by table, true boxes and noisy boxes by picture, true names by annotation."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {table: [] for table in TABLES})
    pictures: dict[str, list[Row]] = field(default_factory=dict)
    detections: dict[str, list[tuple[Box, float]]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


def write_streets(root: Path, *, seed: int, size: StreetSize | None = None, pool: Executor | None = None, bar: Progress | None = None) -> None:
    """Write the streets below `root`; the same files whatever the number of workers.

    Args:
        root: Folder of the mini-world.
        seed: Of everything drawn.
        size: How much is made.
        pool: Runs the drives side by side; None = one after the other in this process.
        bar: Is told of finished key frames.
    """
    size = size or StreetSize()
    manifest = load_manifest("nuscenes")
    tasks = [_Task(root, manifest, seed, index, name, stream, frames, size)
             for split, stream, count, frames in (("mini_train", Stream.STREET_TRAIN, size.train_scenes, size.train_frames),
                                                  ("mini_val", Stream.STREET_VAL, size.val_scenes, size.val_frames))
             for index, name in enumerate(_scene_names(manifest, split)[:count])]
    folder = root / manifest.variant(VARIANT).folder
    for channel in (LIDAR, *CAMERAS):
        (folder / "samples" / channel).mkdir(parents=True, exist_ok=True)
    drives: list[_Written] = []
    for drive, task in zip((pool.map if pool else map)(_write_drive, tasks), tasks, strict=True):
        drives.append(drive)
        if bar is not None:
            bar.update(task.frames)
    rows = _shared_rows(manifest, seed)
    for table in TABLES:
        rows[table] += [row for drive in drives for row in drive.rows[table]]
    _write_map(folder, seed, rows)
    for table in TABLES:
        _write_text(folder / VARIANT / f"{table}.json", official_json(rows[table]))
    coco = CocoFile()
    for drive in drives:
        for file_name, boxes in drive.detections.items():
            coco.add(file_name, size.width_px, size.height_px, boxes)
    coco.write(root / "detections" / "nuscenes_boxes.json", "class-agnostic boxes of the mini-world's streets: true boxes with a detector's errors")
    truth = {"pictures": {name: boxes for drive in drives for name, boxes in drive.pictures.items()},
             "annotations": {token: name for drive in drives for token, name in drive.names.items()}}
    _write_text(root / "truth" / "nuscenes.json", json.dumps(truth))


def _scene_names(manifest: Manifest, split: str) -> list[str]:
    shipped = manifest.variant(VARIANT).splits[split].shipped
    assert shipped is not None, "the manifest ships the official scene names"
    return (manifest_folder() / shipped).read_text(encoding="utf-8").split()


def token_of(seed: int, *what: object) -> str:
    """Derive a token: 32 hexadecimal digits."""
    return hashlib.md5("/".join(map(str, ("mini-world street", seed, *what))).encode(), usedforsecurity=False).hexdigest()


def official_json(rows: list[Row]) -> str:
    """Format a table as the official files are: `json.dumps(rows, indent=0)`, many times faster; no text in it may hold a bracket."""
    text = json.dumps(rows, separators=(",\n", ": "))
    for bracket in "[{":
        text = text.replace(bracket, bracket + "\n")
    for bracket in "]}":
        text = text.replace(bracket, "\n" + bracket)
    return text.replace("[\n\n]", "[]")


def _write_text(path: Path, content: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def _shared_rows(manifest: Manifest, seed: int) -> dict[str, list[Row]]:
    """Rows that belong to no drive: categories, attributes, visibility levels, sensors."""
    rows: dict[str, list[Row]] = {table: [] for table in TABLES}
    rows["category"] = [{"token": token_of(seed, "category", name), "name": name, "description": ""}
                        for name in manifest.labels_of_categories(ALL_CATEGORIES)]
    rows["attribute"] = [{"token": token_of(seed, "attribute", name), "name": name, "description": ""} for name in ATTRIBUTES]
    rows["visibility"] = [{"token": str(index + 1), "level": level, "description": f"visibility of whole object is in {level[1:]} %"}
                          for index, level in enumerate(LEVELS)]
    rows["sensor"] = [{"token": token_of(seed, "sensor", channel), "channel": channel, "modality": "lidar" if channel == LIDAR else "camera"}
                      for channel in (LIDAR, *CAMERAS)]
    return rows


def _write_map(folder: Path, seed: int, rows: dict[str, list[Row]]) -> None:
    """Write one empty map picture that all drives refer to; the streets have no map."""
    token = token_of(seed, "map")
    rows["map"].append({"category": "semantic_prior", "token": token, "filename": f"maps/{token}.png",
                        "log_tokens": [row["token"] for row in rows["log"]]})
    (folder / "maps").mkdir(exist_ok=True)
    Image.fromarray(np.zeros((16, 16), dtype=np.uint8)).save(folder / "maps" / f"{token}.png")


def _write_drive(task: _Task) -> _Written:
    """Drive along one street, write its files and return its rows."""
    drive = Drive(task.stream, task.scene, task.frames, task.size.width_px, task.size.height_px, seed=task.seed)
    return _DriveWriter(task, drive).write()


class _DriveWriter:
    """Turns one drive into files and rows."""

    def __init__(self, task: _Task, drive: Drive) -> None:
        self.task, self.drive = task, drive
        self.manifest = task.manifest
        self.folder = task.root / self.manifest.variant(VARIANT).folder
        self.start_us = START_US + (task.scene + (1000 if task.stream == Stream.STREET_VAL else 0)) * 7_200_000_000
        day = str(np.datetime64(self.start_us, "us").astype("datetime64[s]")).replace("T", "-").replace(":", "-")
        self.log = f"n900-{day}+0000"
        self.out = _Written()

    def write(self) -> _Written:
        """Write everything of the drive."""
        self._log_and_sensors()
        frames = []
        rng = np.random.default_rng([self.task.seed, int(self.task.stream), self.task.scene, 79])
        kept: list[tuple[Annotation, ...]] = []
        for index, frame in enumerate(self.drive.key_frames()):
            for shot in frame.shots:
                self._shot(index, shot, rng)
            frames.append(frame.shots[0].time_us)
            kept.append(frame.annotations)
            self._pictures(index, frame)
        self._samples(frames)
        self._annotations(kept)
        self._scene(frames)
        return self.out

    def _token(self, *what: object) -> str:
        return token_of(self.task.seed, self.task.name, *what)

    def _log_and_sensors(self) -> None:
        self.out.rows["log"].append({"token": self._token("log"), "logfile": self.log, "vehicle": "n900", "date_captured": self.log[5:15],
                                     "location": "mini-world"})
        for channel, calibration in self.drive.rig.items():
            self.out.rows["calibrated_sensor"].append({
                "token": self._token("calibrated", channel), "sensor_token": token_of(self.task.seed, "sensor", channel),
                "translation": list(calibration.translation), "rotation": list(calibration.rotation),
                "camera_intrinsic": [] if calibration.intrinsics is None else calibration.intrinsics.tolist()})

    def _file_name(self, shot: Shot) -> str:
        ending = "pcd.bin" if shot.points is not None else "jpg"
        return f"samples/{shot.channel}/{self.log}__{shot.channel}__{self.start_us + shot.time_us}.{ending}"

    def _shot(self, index: int, shot: Shot, rng: np.random.Generator) -> None:
        """Write a sensor's file, its rows and, for a picture, the boxes a detector finds."""
        name = self._file_name(shot)
        height, width = (0, 0)
        if shot.points is not None:
            (self.folder / name).write_bytes(np.ascontiguousarray(shot.points, dtype="<f4").tobytes())
        if shot.picture is not None:
            height, width = shot.picture.rgb.shape[:2]
            Image.fromarray(shot.picture.rgb).save(self.folder / name, quality=JPEG_QUALITY)
            true = [(float(left), float(top), float(right), float(bottom))
                    for (left, top, right, bottom), _ in visible_boxes(shot.picture.number, LEAST_PIXELS).values()]
            self.out.detections[name] = noisy_boxes(true, width, height, rng)
        token = self._token("data", shot.channel, index)
        translation, rotation = shot.pose
        self.out.rows["ego_pose"].append({"token": token, "timestamp": self.start_us + shot.time_us, "rotation": rotation.tolist(),
                                          "translation": translation.tolist()})
        self.out.rows["sample_data"].append({
            "token": token, "sample_token": self._token("sample", index), "ego_pose_token": token,
            "calibrated_sensor_token": self._token("calibrated", shot.channel), "timestamp": self.start_us + shot.time_us,
            "fileformat": "pcd" if shot.points is not None else "jpg", "is_key_frame": True, "height": height, "width": width, "filename": name,
            **self._neighbours(index, "data", shot.channel)})

    def _neighbours(self, index: int, *what: object) -> dict[str, str]:
        return {"prev": self._token(*what, index - 1) if index > 0 else "",
                "next": self._token(*what, index + 1) if index + 1 < self.task.frames else ""}

    def _pictures(self, index: int, frame: KeyFrame) -> None:
        """Note what each picture truly shows."""
        actors = self.drive.street.actors
        for shot in frame.shots:
            if shot.picture is not None:
                self.out.pictures[self._file_name(shot)] = [
                    {"box_px": list(box), "pixels": pixels, "name": actors[number].name, "annotation": self._token("annotation", number, index)}
                    for number, (box, pixels) in visible_boxes(shot.picture.number, LEAST_PIXELS).items()]

    def _samples(self, times_us: list[int]) -> None:
        self.out.rows["sample"] += [{"token": self._token("sample", index), "timestamp": self.start_us + time_us,
                                     **self._neighbours(index, "sample"), "scene_token": self._token("scene")}
                                    for index, time_us in enumerate(times_us)]

    def _scene(self, times_us: list[int]) -> None:
        self.out.rows["scene"].append({
            "token": self._token("scene"), "log_token": self._token("log"), "nbr_samples": len(times_us),
            "first_sample_token": self._token("sample", 0), "last_sample_token": self._token("sample", len(times_us) - 1),
            "name": self.task.name, "description": f"Mini-world: {self.drive.street.description}"})

    def _annotations(self, frames: list[tuple[Annotation, ...]]) -> None:
        """Annotate each object from the first to the last key frame in which the laser meets it, as the official annotators follow their tracks."""
        written: set[str] = set()
        for actor in self.drive.street.actors:
            met = [index for index, boxes in enumerate(frames) if boxes[actor.number].num_points > 0]
            if not met:
                continue
            span = range(met[0], met[-1] + 1)
            tokens = {index: self._token("annotation", actor.number, index) for index in span}
            written.update(tokens.values())
            self.out.rows["instance"].append({
                "token": self._token("instance", actor.number), "category_token": token_of(self.task.seed, "category", self._category(actor)),
                "nbr_annotations": len(span), "first_annotation_token": tokens[span[0]], "last_annotation_token": tokens[span[-1]]})
            for index in span:
                self._annotation(index, actor, frames[index][actor.number], tokens)
        for boxes_2d in self.out.pictures.values():
            for box in boxes_2d:
                box["annotation"] = box["annotation"] if box["annotation"] in written else None

    def _annotation(self, index: int, actor: Actor, box: Annotation, tokens: dict[int, str]) -> None:
        self.out.names[tokens[index]] = actor.name
        attribute = attribute_of(actor, box.speed)
        self.out.rows["sample_annotation"].append({
            "token": tokens[index], "sample_token": self._token("sample", index), "instance_token": self._token("instance", actor.number),
            "visibility_token": str(box.visibility), "attribute_tokens": [token_of(self.task.seed, "attribute", attribute)] if attribute else [],
            "translation": list(box.centre), "size": list(box.size), "rotation": list(box.rotation),
            "prev": tokens.get(index - 1, ""), "next": tokens.get(index + 1, ""), "num_lidar_pts": box.num_points, "num_radar_pts": 0})

    def _category(self, actor: Actor) -> str:
        names = self.manifest.category_names[CATEGORY_OF_UNSEEN.get(actor.name, actor.name)]
        wanted = ""
        if actor.name == "bus":
            wanted = "bendy" if actor.size[0] > 13.5 else "rigid"
        elif actor.name == "pedestrian":
            wanted = "construction_worker" if actor.role == "worker" else ("child" if actor.size[2] < 1.4 else "adult")
        return _ending(names, wanted)


def _ending(names: Iterable[str], wanted: str) -> str:
    return next(name for name in names if name.endswith(wanted))


def attribute_of(actor: Actor, speed: float) -> str:
    """Choose the official attribute of an object, empty for things that have none."""
    if actor.name in RIDER_HEIGHT:
        return "cycle.with_rider" if actor.size[2] >= RIDER_HEIGHT[actor.name] else "cycle.without_rider"
    if actor.name == "pedestrian":
        return "pedestrian.moving" if speed > 0.1 else "pedestrian.standing"
    if actor.name in ("car", "truck", "bus", "trailer", "construction vehicle"):
        return "vehicle.parked" if actor.role == "parked" else ("vehicle.moving" if speed > 0.2 else "vehicle.stopped")
    return ""
