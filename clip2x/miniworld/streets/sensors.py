"""What looks at a mini-world street: a spinning laser with 32 beams and six cameras on the roof of a car.

Geometry and statistics follow one real nuScenes key frame, measured by us: beams from -30.67 to +10.67 degrees in even steps, 1,084 columns
clockwise from the car's left in 50 ms, stored column by column with the lowest beam first; points are where they were met, seen from the
sensor at the end of its turn; a beam without return lies at the sensor's own place at that time; returns from the own roof are kept.
Frames: ego x forward, y left, z up, on the ground below the rear axle; laser x right, y forward, z up; camera x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from clip2x.geometry import inverse_transform, rigid_transform, rotation_from_quaternion, transform_points
from clip2x.meshes import Mesh
from clip2x.miniworld.scenes import WORLD_FROM_OBJECT, Hits, Placed, Scene
from clip2x.miniworld.shapes.parts import Points, box, extrude
from clip2x.miniworld.streets.ground import joined
from clip2x.miniworld.streets.layout import Street, travelled

RINGS = 32
COLUMNS = 1084
FULL_TURN_US = 50_000  # from the first to the last column
LOWEST_DEG, STEP_DEG = -30.67, 1.3336  # measured on the real key frame
FIRST_AZIMUTH_DEG, AZIMUTH_STEP_DEG = 179.6, -0.33202  # of a column, in the laser's frame, counter-clockwise from its x axis; measured

NEAREST = 0.45  # metres: closer returns are mostly lost
FARTHEST = 105.0  # metres; the farthest return of the real frame lies at 103
NOISE = 0.02  # metres, standard deviation along the beam; the sensor's data sheet
WEAKEST = 0.0045  # of the returns: intensity that is still seen is WEAKEST * range^2; fits the real frame's 5th percentiles by range
GLASS = 0.12  # of the light that a pane sends back, against a dull surface of its colour
REAL_WIDTH = 1600  # pixels that the focal lengths below belong to

CAMERAS: dict[str, tuple[float, tuple[float, float, float], float]] = {
    "CAM_FRONT": (0.3, (1.70, 0.016, 1.51), 1266.0),
    "CAM_FRONT_RIGHT": (-56.4, (1.55, -0.49, 1.50), 1261.0),
    "CAM_BACK_RIGHT": (-110.8, (1.01, -0.48, 1.56), 1260.0),
    "CAM_BACK": (179.9, (0.03, 0.003, 1.58), 809.0),
    "CAM_BACK_LEFT": (108.6, (1.04, 0.48, 1.59), 1257.0),
    "CAM_FRONT_LEFT": (55.2, (1.52, 0.49, 1.51), 1273.0),
}
"""Direction (degrees to the left), place in the ego frame (metres), focal length (pixels at `REAL_WIDTH`): about those of the real frame."""

EGO_FROM_OBJECT = rigid_transform(WORLD_FROM_OBJECT, np.zeros(3))
LIDAR = "LIDAR_TOP"
LIDAR_PLACE = (0.94, 0.0, 1.84)
EGO_FROM_CAMERA_AXES = (0.5, -0.5, 0.5, -0.5)  # w, x, y, z: z forward -> x forward


@dataclass(frozen=True)
class Calibration:
    """Where a sensor sits: translation (3,) metres, rotation as a quaternion w, x, y, z, both ego from sensor; intrinsics (3, 3) of a camera."""

    channel: str
    translation: tuple[float, ...]
    rotation: tuple[float, ...]
    intrinsics: NDArray[np.float64] | None = None

    def ego_from_sensor(self) -> NDArray[np.float64]:
        """Return the transform (4, 4)."""
        return rigid_transform(rotation_from_quaternion(np.array(self.rotation)), np.array(self.translation))


def quaternion(yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> NDArray[np.float64]:
    """Turn about z, then the new y, then the new x, as w, x, y, z; a positive pitch lowers the nose."""
    product = np.array([1.0, 0.0, 0.0, 0.0])
    for axis, angle in ((3, yaw_deg), (2, pitch_deg), (1, roll_deg)):
        half = np.deg2rad(angle) / 2
        turn = np.zeros(4)
        turn[0], turn[axis] = np.cos(half), np.sin(half)
        product = _times(product, turn)
    return product


def _times(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    (a, b, c, d), (w, x, y, z) = left.tolist(), right.tolist()
    return np.array([a * w - b * x - c * y - d * z, a * x + b * w + c * z - d * y, a * y - b * z + c * w + d * x, a * z + b * y - c * x + d * w])


def calibrate(rng: np.random.Generator, width_px: int, height_px: int) -> dict[str, Calibration]:
    """Mount the sensors, every time a little differently: laser first, cameras with pictures of the given size."""
    place = np.array(LIDAR_PLACE) + rng.normal(0, 0.005, 3)
    rotation = quaternion(-90.0 + float(rng.normal(0, 0.2)), float(rng.normal(0, 0.4)), float(rng.normal(0, 0.4)))
    rig = {LIDAR: Calibration(LIDAR, tuple(place.tolist()), tuple(rotation.tolist()))}
    for channel, (yaw, mount, focal) in CAMERAS.items():
        ego_from_camera = _times(quaternion(yaw + float(rng.normal(0, 0.3)), float(rng.normal(0, 0.5)), float(rng.normal(0, 0.3))),
                                 np.array(EGO_FROM_CAMERA_AXES))
        focal_px = focal * width_px / REAL_WIDTH * float(rng.normal(1, 0.003))
        intrinsics = np.array([[focal_px, 0.0, width_px * float(rng.normal(0.505, 0.008))],
                               [0.0, focal_px, height_px * float(rng.normal(0.545, 0.01))], [0.0, 0.0, 1.0]])
        position = np.array(mount) + rng.normal(0, 0.008, 3)
        rig[channel] = Calibration(channel, tuple(position.tolist()), tuple(ego_from_camera.tolist()), intrinsics)
    return rig


def camera_delay_us(channel: str) -> int:
    """Tell when a camera fires, counted from the end of the laser's turn: as the beam passes the middle of its picture, plus 2 ms (measured)."""
    passed = (90.0 - CAMERAS[channel][0]) % 360.0
    return int(FULL_TURN_US * (passed / 360.0 - 1.0)) + 2000


class Ego:
    """The path of the looking car: at its lane's speed, swaying, nodding and rolling a little."""

    def __init__(self, street: Street, rng: np.random.Generator) -> None:
        self.street = street
        self.phase = rng.uniform(0, 2 * np.pi, 3)
        self.sway, self.nod, self.roll = float(rng.uniform(0.05, 0.25)), float(rng.uniform(0.2, 0.6)), float(rng.uniform(0.2, 0.7))
        self.tilt = rng.normal(0, 0.4, 2)

    def pose(self, time: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return translation (3,) and quaternion (4,), world from ego, at a time in seconds."""
        s = travelled(self.street.speed, self.street.braking, time)
        x, y = self.street.road.at(s, self.street.lane + self._aside(s))
        slope = np.rad2deg(np.arctan(self._aside(s + 0.5) - self._aside(s - 0.5)))
        rotation = quaternion(self.street.road.heading_deg(s) + float(slope), self.tilt[0] + self.nod * np.sin(2.1 * time + self.phase[1]),
                              self.tilt[1] + self.roll * np.sin(1.3 * time + self.phase[2]))
        return np.array([x, y, 0.0]), rotation

    def _aside(self, s: float) -> float:
        return float(self.sway * np.sin(s / 9.0 + self.phase[0]))

    def world_from_ego(self, time: float) -> NDArray[np.float64]:
        """Return the pose as a transform (4, 4)."""
        translation, rotation = self.pose(time)
        return rigid_transform(rotation_from_quaternion(rotation), translation)


def own_roof() -> Mesh:
    """The looking car as its laser meets it: roof and bonnet (object frame: forward is z)."""
    top = [(-0.14, 0.9), (-0.1, 1.39), (0.06, 1.45), (0.44, 1.495), (1.24, 1.50), (1.54, 1.46), (1.84, 1.37), (2.4, 1.03), (2.95, 0.935),
           (3.1, 0.85), (3.2, 0.4)]
    return joined([(extrude(top, 1.04, axis="x", bevel=0.05), (0.82, 0.83, 0.85))])


def own_boot() -> Mesh:
    """The rear edge of the looking car, which only the camera to the back sees: the real laser gets no return from it."""
    return joined([(extrude([(-0.75, 0.9), (-0.66, 1.27), (-0.3, 1.36), (-0.25, 0.9)], 1.3, axis="x", bevel=0.04), (0.82, 0.83, 0.85))])


def own_housings() -> Mesh:
    """The boxes that hold the cameras, and the rails below them: seen by the laser only, since no camera sees its own box."""
    rails = [box(1.0, 0.05, 0.12, at=(0.0, 1.49, z)) for z in (0.98, 1.5)]
    shells = [box(0.16, 0.11, 0.2, at=(left, up - 0.08, forward - 0.1)) for _, (forward, left, up), _ in CAMERAS.values()]
    return joined([(part, (0.2, 0.2, 0.21)) for part in (*rails, *shells)])


class Laser:
    """The spinning laser on one car: beams, and what the own car returns (the same in every turn)."""

    def __init__(self, calibration: Calibration) -> None:
        self.ego_from_laser = calibration.ego_from_sensor()
        self.beams = _beams()
        car = Scene([Placed(mesh, EGO_FROM_OBJECT) for mesh in (own_roof(), own_housings())])
        self.own = car.cast(self.ego_from_laser[:3, 3], (self.beams @ self.ego_from_laser[:3, :3].T).astype(np.float32))

    def turn(self, scene: Scene, ego: Ego, end: float, rng: np.random.Generator) -> NDArray[np.float32]:
        """Make one turn that ends at a time in seconds; the scene stands still, the car moves.

        Returns:
            (RINGS * COLUMNS, 5) float32: x, y, z in the laser's frame at the end, metres; intensity 0-255; ring. Columns follow each other.
        """
        origin, direction = self._rays(ego, end)
        hits = _nearer(scene.cast(origin.astype(np.float32), direction.astype(np.float32)), self.own)
        intensity = _intensity(hits, rng)
        distance = hits.distance + rng.normal(0.0, NOISE, len(origin)).astype(np.float32)
        weakest = WEAKEST * np.square(np.minimum(hits.distance, 1e4)) * rng.uniform(0.5, 1.6, len(origin))
        lost = (hits.distance > FARTHEST) | (intensity < weakest) | ((hits.distance < NEAREST) & (rng.random(len(origin)) < 0.6))
        distance = np.where(lost | (distance < 0), 0.0, distance)
        stray = np.minimum(rng.exponential(14.0, len(origin)), 255.0)
        laser_from_world = inverse_transform(ego.world_from_ego(end) @ self.ego_from_laser)
        points = transform_points(laser_from_world, origin + direction * distance[:, None])
        ring = np.tile(np.arange(RINGS), COLUMNS)
        return np.column_stack([points, np.where(lost, stray, intensity).round(), ring]).astype(np.float32)

    def _rays(self, ego: Ego, end: float) -> tuple[Points, Points]:
        """Origins and directions of all beams in the world; between its first and its last column the car moves evenly."""
        share = np.linspace(0.0, 1.0, COLUMNS)[:, None]
        (place_0, turn_0), (place_1, turn_1) = ego.pose(end - FULL_TURN_US / 1e6), ego.pose(end)
        turn_0 = turn_0 * np.sign(turn_0 @ turn_1)
        rotation = rotation_from_quaternion(turn_0 + share * (turn_1 - turn_0))
        origin = place_0 + share * (place_1 - place_0) + rotation @ self.ego_from_laser[:3, 3]
        beams = self.beams.reshape(COLUMNS, RINGS, 3) @ np.swapaxes(rotation @ self.ego_from_laser[:3, :3], 1, 2)
        return np.repeat(origin, RINGS, axis=0), beams.reshape(-1, 3)


def _beams() -> Points:
    """Unit directions (COLUMNS * RINGS, 3) in the laser's frame."""
    elevation = np.deg2rad(LOWEST_DEG + STEP_DEG * np.arange(RINGS))[None]
    azimuth = np.deg2rad(FIRST_AZIMUTH_DEG + AZIMUTH_STEP_DEG * np.arange(COLUMNS))[:, None]
    flat = np.cos(elevation)
    return np.stack(np.broadcast_arrays(flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)), axis=-1).reshape(-1, 3)


def _nearer(first: Hits, second: Hits) -> Hits:
    """Keep, ray by ray, what is met first."""
    near = first.distance <= second.distance
    return Hits(**{item.name: np.where(near, getattr(first, item.name), getattr(second, item.name)) for item in fields(Hits)})


def _intensity(hits: Hits, rng: np.random.Generator) -> NDArray[np.float64]:
    """Reflectivity 0-255: from brightness and incidence, scattered by half. Ours; medians are near those of the real frame."""
    dull = (3.0 + 90.0 * hits.brightness.astype(np.float64) ** 2) * (0.2 + 0.8 * np.sqrt(hits.incidence))
    scattered: NDArray[np.float64] = (dull * np.where(hits.glassy, GLASS, 1.0) * rng.lognormal(0.1, 0.5, len(dull))).clip(0.0, 255.0)
    return scattered
