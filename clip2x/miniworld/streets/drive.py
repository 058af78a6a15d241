"""Drive along a mini-world street: the laser's turns, the pictures and the true boxes of every key frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clip2x.geometry import inverse_transform, points_in_box, rotation_from_quaternion
from clip2x.meshes import sample_surface
from clip2x.miniworld.objects import Stream
from clip2x.miniworld.scenes import Picture, Placed, Scene
from clip2x.miniworld.streets.layout import Actor, Street, make_street
from clip2x.miniworld.streets.sensors import (
    CAMERAS,
    EGO_FROM_OBJECT,
    LIDAR,
    Calibration,
    Ego,
    Laser,
    calibrate,
    camera_delay_us,
    own_boot,
    own_roof,
)

KEY_FRAME_US = 500_000  # nuScenes annotates at 2 Hz
FIRST_US = 250_000  # into the drive
PROBES = 48  # places on an object's surface that tell how much of it is seen
MARGIN = 0.03  # of a box around the object, metres on each side; an annotator's box is no tighter. Ours
VISIBILITY = (0.4, 0.6, 0.8)  # limits of the levels 1 to 4; nuScenes


@dataclass(frozen=True)
class Annotation:
    """A box: number of the object, centre (3,), size (width, length, height), rotation w, x, y, z; world frame, metres.

    num_points: of the key frame's turn inside it. visibility: level 1 to 4 (share of the object that the cameras see). speed: m/s.
    """

    number: int
    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    num_points: int
    visibility: int
    speed: float


@dataclass(frozen=True)
class Shot:
    """What a sensor gave and when, microseconds from the start of the drive: points (N, 5) of the laser or a picture."""

    channel: str
    time_us: int
    pose: tuple[NDArray[np.float64], NDArray[np.float64]]
    points: NDArray[np.float32] | None = None
    picture: Picture | None = None


@dataclass(frozen=True)
class KeyFrame:
    """One moment: laser first, then the cameras; boxes of everything that stands on the street."""

    shots: tuple[Shot, ...]
    annotations: tuple[Annotation, ...]


class Drive:
    """A drive of `frames` key frames; a function of (seed, stream, scene, frames, picture size)."""

    def __init__(self, stream: Stream, scene: int, frames: int, width_px: int, height_px: int, *, seed: int = 0) -> None:
        self.rng = np.random.default_rng([seed, int(stream), scene, 78])
        self.frames, self.width_px, self.height_px = frames, width_px, height_px
        self.street: Street = make_street(stream, scene, frames * KEY_FRAME_US / 1e6, seed=seed)
        self.ego = Ego(self.street, self.rng)
        self.rig: dict[str, Calibration] = calibrate(self.rng, width_px, height_px)
        self.laser = Laser(self.rig[LIDAR])
        self.own_rear = self._own_rear()
        self.at_rest = [None if any(actor.speed) else actor.placed(self.street.road, 0.0) for actor in self.street.actors]
        self.probes = [sample_surface(actor.mesh.vertices, actor.mesh.faces, PROBES, self.rng).astype(np.float64) for actor in self.street.actors]
        self.turned_deg = self.rng.normal(0.0, 0.8, len(self.probes))

    def key_frames(self) -> Iterator[KeyFrame]:
        """Go through the key frames in order of time."""
        for index in range(self.frames):
            yield self._key_frame(FIRST_US + index * KEY_FRAME_US + int(self.rng.integers(-4000, 4000)))

    def pictures(self, time_us: int) -> Iterator[Picture]:
        """Take the pictures of all cameras at one moment, microseconds, without the laser."""
        scene = self._scene(time_us / 1e6)
        for channel in CAMERAS:
            picture = self._picture(scene, channel, time_us).picture
            assert picture is not None
            yield picture

    def _key_frame(self, time_us: int) -> KeyFrame:
        time = time_us / 1e6
        scene = self._scene(time)  # the cameras that fire well before the laser ends its turn share another one
        shots = [Shot(LIDAR, time_us, self.ego.pose(time), points=self.laser.turn(scene, self.ego, time, self.rng))]
        early = {channel: camera_delay_us(channel) for channel in CAMERAS if camera_delay_us(channel) < -25_000}
        before = self._scene(time + sum(early.values()) / max(len(early), 1) / 1e6)
        for channel in CAMERAS:
            taken_us = time_us + camera_delay_us(channel) + int(self.rng.integers(-300, 300))
            shots.append(self._picture(before if channel in early else scene, channel, taken_us))
        return KeyFrame(tuple(shots), self._annotations(scene, shots[0]))

    def _scene(self, time: float) -> Scene:
        """Put the street together as it is at a time."""
        return Scene([*self.street.static, *self._placed(time)])

    def _placed(self, time: float) -> list[Placed]:
        """Stand all objects where they are at a time."""
        return [actor.placed(self.street.road, time) if at_rest is None else at_rest
                for actor, at_rest in zip(self.street.actors, self.at_rest, strict=True)]

    def _picture(self, scene: Scene, channel: str, taken_us: int) -> Shot:
        calibration = self.rig[channel]
        assert calibration.intrinsics is not None
        world_from_camera = self.ego.world_from_ego(taken_us / 1e6) @ calibration.ego_from_sensor()
        picture = scene.picture(world_from_camera, calibration.intrinsics, self.width_px, self.height_px, light=self.street.light,
                                background=self.street.sky)
        if channel == "CAM_BACK":
            own = self.own_rear.depth > 0
            picture = replace(picture, rgb=np.where(own[..., None], self.own_rear.rgb, picture.rgb),
                              depth=np.where(own, self.own_rear.depth, picture.depth), number=np.where(own, np.int32(-1), picture.number))
        return Shot(channel, taken_us, self.ego.pose(taken_us / 1e6), picture=picture)

    def _own_rear(self) -> Picture:
        """Draw what the camera to the back sees of its own car: always the same."""
        calibration = self.rig["CAM_BACK"]
        assert calibration.intrinsics is not None
        own = Scene([Placed(mesh, EGO_FROM_OBJECT) for mesh in (own_roof(), own_boot())])
        return own.picture(calibration.ego_from_sensor(), calibration.intrinsics, self.width_px, self.height_px, light=(0.2, 0.3, 0.9))

    def _annotations(self, scene: Scene, turn: Shot) -> tuple[Annotation, ...]:
        time = turn.time_us / 1e6
        actors = self.street.actors
        placed = self._placed(time)
        seen = self._seen(scene, time, placed)
        boxes = [self._box(actor, item, time) for actor, item in zip(actors, placed, strict=True)]
        counts = self._count(turn, boxes)
        levels = np.searchsorted(VISIBILITY, seen, side="right") + 1
        return tuple(replace(box, num_points=count, visibility=int(level)) for box, count, level in zip(boxes, counts, levels, strict=True))

    def _box(self, actor: Actor, placed: Placed, time: float) -> Annotation:
        """Box as an annotator draws it: a little too large and turned by about a degree, millimetres; points and visibility come later."""
        centre, (length, width, height), axes = placed.box()
        heading = np.rad2deg(np.arctan2(axes[1, 0], axes[0, 0])) + self.turned_deg[actor.number]
        half = float(np.deg2rad(heading)) / 2
        size = tuple(round(float(side) + 2 * MARGIN, 3) for side in (width, length, height))
        x_m, y_m, z_m = (round(float(value), 3) for value in centre)
        rotation = (float(np.cos(half)), 0.0, 0.0, float(np.sin(half)))
        return Annotation(actor.number, (x_m, y_m, z_m), (size[0], size[1], size[2]), rotation, 0, 1, actor.speed_at(time))

    def _count(self, turn: Shot, boxes: list[Annotation]) -> list[int]:
        """Count the turn's points in each box, in the laser's frame, as the official devkit does."""
        assert turn.points is not None
        points = turn.points[:, :3]
        translation, rotation = turn.pose
        world_from_ego = np.eye(4)
        world_from_ego[:3, :3], world_from_ego[:3, 3] = rotation_from_quaternion(rotation), translation
        laser_from_world = inverse_transform(world_from_ego @ self.laser.ego_from_laser)
        counts = []
        rotations = laser_from_world[:3, :3] @ rotation_from_quaternion(np.array([box.rotation for box in boxes]))
        for box, axes in zip(boxes, rotations, strict=True):
            centre = laser_from_world[:3, :3] @ np.array(box.centre) + laser_from_world[:3, 3]
            reach = np.linalg.norm(box.size) / 2 + 0.01
            near = points[(np.abs(points[:, 0] - centre[0]) < reach) & (np.abs(points[:, 1] - centre[1]) < reach)]
            width, length, height = box.size
            counts.append(int(points_in_box(near, centre, np.array([length, width, height]), axes).sum()))
        return counts

    def _seen(self, scene: Scene, time: float, placed: list[Placed]) -> NDArray[np.float64]:
        """Estimate the share of each object that is not hidden from the camera that looks its way (nuScenes: share of its pixels)."""
        world_from_ego = self.ego.world_from_ego(time)
        cameras = [world_from_ego @ calibration.ego_from_sensor() for channel, calibration in self.rig.items() if channel != LIDAR]
        places, forward = np.stack([pose[:3, 3] for pose in cameras]), np.stack([pose[:3, 2] for pose in cameras])
        targets = np.concatenate([probes @ item.world_from_object[:3, :3].T + item.world_from_object[:3, 3]
                                  for probes, item in zip(self.probes, placed, strict=True)])
        middles = targets.reshape(len(placed), -1, 3).mean(axis=1)
        towards = middles[:, None] - places[None]
        facing = np.einsum("ack,ck->ac", towards / np.linalg.norm(towards, axis=2, keepdims=True), forward).argmax(axis=1)
        origin = np.repeat(places[facing], PROBES, axis=0)
        ray = targets - origin
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        met = scene.cast(origin.astype(np.float32), ray.astype(np.float32)).number.reshape(len(placed), PROBES)
        share: NDArray[np.float64] = (met == np.array([item.number for item in placed])[:, None]).mean(axis=1)
        return share
