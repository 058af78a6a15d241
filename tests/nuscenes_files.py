"""Write small data sets in the layout of nuScenes, with the truth they were made from."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Record = dict[str, Any]
Quaternion = list[float]

CAMERAS = ["CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT"]
# category, width, length, height, points in every sweep
THINGS = [("vehicle.car", 2.0, 4.5, 1.6, 30), ("human.pedestrian.adult", 0.6, 0.7, 1.8, 8), ("movable_object.debris", 1.0, 1.2, 0.4, 6),
          ("movable_object.trafficcone", 0.4, 0.5, 0.8, 3), ("vehicle.bus.rigid", 3.0, 11.0, 3.4, 0)]
KEY_EVERY = 3  # two sweeps between key frames
STEP_US = 50_000
BACKGROUND = 40


def token(*parts: object) -> str:
    return hashlib.md5(repr(parts).encode()).hexdigest()


def turn(axis: str, angle: float) -> Quaternion:
    """Make the quaternion w, x, y, z that turns by an angle about an axis."""
    return [math.cos(angle / 2), *(math.sin(angle / 2) * (name == axis) for name in "xyz")]


def product(a: Quaternion, b: Quaternion) -> Quaternion:
    w1, x1, y1, z1 = a
    w2, x2, y2, z2 = b
    return [w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2, w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2, w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2]


def rotate(quaternion: Quaternion, points: NDArray[np.float64], *, back: bool = False) -> NDArray[np.float64]:
    """Turn points (N, 3) one by one by q p q*."""
    q = quaternion if not back else [quaternion[0], *(-value for value in quaternion[1:])]
    opposite = [q[0], *(-value for value in q[1:])]
    return np.array([product(product(q, [0.0, *point]), opposite)[1:] for point in points.tolist()]).reshape(-1, 3)


def to_parent(pose: Record, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return rotate(pose["rotation"], points) + np.array(pose["translation"])


def to_child(pose: Record, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return rotate(pose["rotation"], points - np.array(pose["translation"]), back=True)


@dataclass
class Written:
    """What was written. things: by annotation token, its points in the global frame (N, 3)."""

    root: Path
    tables: dict[str, list[Record]]
    things: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.root / "nuscenes" / "v1.0-mini"

    def of(self, table: str, key: str) -> Record:
        return next(record for record in self.tables[table] if record["token"] == key)

    def write(self, indent: int | None = 0) -> None:
        """Write all tables, by default one value a line as the official files are."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, records in self.tables.items():
            (self.folder / f"{name}.json").write_text(json.dumps(records, indent=indent, ensure_ascii=False), encoding="utf-8")


def write_nuscenes(root: Path, scenes: tuple[str, ...] = ("scene-0061", "scene-0103"), key_frames: int = 3) -> Written:
    """Write drives past standing things: a car that turns, rolls and pitches, one LiDAR, six cameras."""
    names = ["sensor", "calibrated_sensor", "category", "scene", "sample", "instance", "ego_pose", "sample_data", "sample_annotation", "attribute",
             "visibility", "log", "map"]
    written = Written(root, {name: [] for name in names})
    tables = written.tables
    channels = ["LIDAR_TOP", *CAMERAS, "RADAR_FRONT"]
    tables["sensor"] += [{"token": token("sensor", name), "channel": name, "modality": name.split("_")[0].lower()} for name in channels]
    tables["category"] += [{"token": token("category", name), "name": name, "description": "Größe }, {"} for name, *_ in THINGS]
    for number, scene in enumerate(scenes):
        _write_scene(written, scene, number, channels, key_frames)
    written.write()
    return written


def _write_scene(written: Written, scene: str, number: int, channels: list[str], key_frames: int) -> None:
    tables, rng = written.tables, np.random.default_rng(number)
    for place, name in enumerate(channels):
        # The LiDAR's x points to the right of the car; a camera's z forward, the six turned by 60 degrees each.
        forward = product(turn("z", -place * math.pi / 3), product(turn("z", -math.pi / 2), turn("x", -math.pi / 2)))
        mount = turn("z", -math.pi / 2 + 0.02) if place == 0 else forward
        intrinsics = [[20.0, 0.0, 12.0], [0.0, 20.0, 8.0], [0.0, 0.0, 1.0]]
        tables["calibrated_sensor"].append({
            "token": token("calibrated", scene, name), "sensor_token": token("sensor", name), "translation": [0.9, 0.02 * place, 1.8],
            "rotation": product(mount, turn("x", 0.03)), "camera_intrinsic": intrinsics * (name in CAMERAS)})
    samples = [token("sample", scene, frame) for frame in range(key_frames)]
    tables["scene"].append({"token": token("scene", scene), "log_token": token("log"), "nbr_samples": key_frames, "first_sample_token": samples[0],
                            "last_sample_token": samples[-1], "name": scene, "description": 'quoted "},{" text'})
    start = 1_532_402_927_000_000 + number * 10_000_000
    tables["sample"] += [{"token": key, "timestamp": start + frame * KEY_EVERY * STEP_US, "prev": samples[frame - 1] if frame else "",
                          "next": samples[frame + 1] if frame + 1 < key_frames else "", "scene_token": token("scene", scene)}
                         for frame, key in enumerate(samples)]
    boxes, clouds = _things(rng)
    for step in range(key_frames * KEY_EVERY - 2):
        frame, is_key = -(-step // KEY_EVERY), step % KEY_EVERY == 0
        for name in channels[: None if is_key else 1]:
            _write_sensor(written, scene, name, step, start, samples[frame], is_key, np.concatenate(list(clouds.values())), rng)
        for (category, width, length, height, count), box in zip(THINGS, boxes, strict=True) if is_key else ():
            key = token("annotation", scene, frame, category)
            tables["sample_annotation"].append({
                "token": key, "sample_token": samples[frame], "instance_token": token("instance", scene, category), "visibility_token": "4",
                "attribute_tokens": [token("attribute", index) for index in range(frame)], "translation": box["translation"],
                "size": [width, length, height], "rotation": box["rotation"], "prev": "", "next": "", "num_lidar_pts": count, "num_radar_pts": 0})
            written.things[key] = clouds[category]
    tables["instance"] += [{"token": token("instance", scene, category), "category_token": token("category", category), "nbr_annotations": key_frames,
                            "first_annotation_token": token("annotation", scene, 0, category),
                            "last_annotation_token": token("annotation", scene, key_frames - 1, category)} for category, *_ in THINGS]


def _things(rng: np.random.Generator) -> tuple[list[Record], dict[str, NDArray[np.float64]]]:
    """Stand things around (600, 1600) in the global frame; their points fill their boxes."""
    boxes, clouds = [], {}
    for place, (category, width, length, height, count) in enumerate(THINGS):
        heading = product(turn("z", 0.5 + place), turn("y", 0.05))
        box = {"translation": [612.0 + 9.0 * place, 1600.0 - 14.0 * (place % 2) + 7.0, 0.8], "rotation": heading}
        inside = rng.uniform(-0.49, 0.49, size=(count, 3)) * [length, width, height]
        boxes.append(box)
        clouds[category] = to_parent(box, inside)
    return boxes, clouds


def _write_sensor(written: Written, scene: str, name: str, step: int, start: int, sample: str, is_key: bool, things: NDArray[np.float64],
                  rng: np.random.Generator) -> None:
    tables, folder = written.tables, written.root / "nuscenes"
    late_us = 1000 * (["LIDAR_TOP", *CAMERAS, "RADAR_FRONT"].index(name))  # every sensor has its own time and pose
    moment = start + step * STEP_US + late_us
    seconds = (moment - start) * 1e-6
    pose = {"token": token("pose", scene, name, step), "timestamp": moment, "translation": [600.0 + 6.0 * seconds, 1600.0 + 2.0 * seconds, 0.0],
            "rotation": product(turn("z", 0.4 + 0.3 * seconds), product(turn("y", 0.04), turn("x", -0.03 + 0.01 * seconds)))}
    tables["ego_pose"].append(pose)
    suffix = {"L": ".pcd.bin", "C": ".png", "R": ".pcd"}[name[0]]
    file = f"{'samples' if is_key else 'sweeps'}/{name}/n015-{scene}__{name}__{moment}{suffix}"
    before = [record for record in tables["sample_data"] if record["calibrated_sensor_token"] == token("calibrated", scene, name)]
    record = {"token": token("data", scene, name, step), "sample_token": sample, "ego_pose_token": pose["token"],
              "calibrated_sensor_token": token("calibrated", scene, name), "timestamp": moment, "fileformat": suffix.lstrip(".")[:3],
              "is_key_frame": is_key, "height": 16 * (name in CAMERAS), "width": 24 * (name in CAMERAS), "filename": file,
              "prev": before[-1]["token"] if before else "", "next": ""}
    if before:
        before[-1]["next"] = record["token"]
    tables["sample_data"].append(record)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    if name in CAMERAS:
        Image.fromarray(rng.integers(0, 255, size=(16, 24, 3), dtype=np.uint8)).save(folder / file)
    elif name == "LIDAR_TOP":
        sensor = written.of("calibrated_sensor", token("calibrated", scene, name))
        seen = to_child(sensor, to_child(pose, things))
        ground = np.column_stack([rng.uniform(-40, -20, BACKGROUND), rng.uniform(-40, 40, BACKGROUND), np.full(BACKGROUND, -1.9)])
        own = np.array([[0.5, 1.0, -1.0]])  # a return from the car's own roof
        points = np.concatenate([seen, ground, own])
        values = np.column_stack([points, np.full(len(points), 17.0), np.arange(len(points)) % 32])
        (folder / file).write_bytes(values.astype("<f4").tobytes())
