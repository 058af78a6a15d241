"""Noisy, partial scans of objects among others, and their writer in ScanObjectNN's layout.

An object stands in a corner of a room, a depth camera sees it from one side, and boxes of several kinds cut it out of what was seen.
Sizes, shares and distances are ours unless a line says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from clip2x.geometry import points_in_box
from clip2x.manifest import load_manifest
from clip2x.meshes import open3d_module
from clip2x.miniworld.objects import Stream, make_object
from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box
from clip2x.storage import atomic_path

NUM_POINTS = 2048  # a cloud; third party: the published arrays are (N, 2048, 3)
COPIES = 5  # perturbed boxes an object; the paper's number as we remember it: 11,416 = 5 x 2,309 less 129
BACKGROUND = -1  # in `mask`; an author of the data set, issue 5 of its repository
MARGIN = 0.02  # metres that a box leaves around what was seen of its object
LEAST_POINTS = 700  # of the object in a scan; otherwise the scene is drawn again
LEAST_SHARE = 0.25  # of the object's points that a perturbed box keeps; otherwise it is drawn again
NEIGHBOURS = 1_000_000  # first instance number of the things that stand around
RAYS = (120, 90)  # of one picture, across and down
HALF_VIEW = (0.54, 0.41)  # tangents of half the field of view (57 x 45 degrees: third party, Kinect)
CLASS_OF = {"display": "monitor"}  # ScanObjectNN's name -> the mini-world's, where they differ

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Setting:
    """Where the objects of a class are found.

    height: of the surface below, metres; (0, 0) is the floor. raised: share of objects on such a surface. wall: share with a wall behind.
    others: classes of what stands beside it.
    """

    wall: float
    others: tuple[str, ...]
    raised: float = 0.0
    height: tuple[float, float] = (0.0, 0.0)


SETTINGS = {
    "bag": Setting(0.4, ("chair", "desk", "box"), 0.4, (0.4, 0.75)),
    "bin": Setting(0.7, ("desk", "cabinet", "bin")),
    "box": Setting(0.5, ("box", "cabinet", "chair"), 0.5, (0.4, 0.9)),
    "cabinet": Setting(0.9, ("cabinet", "chair", "bin")),
    "chair": Setting(0.35, ("table", "desk", "chair")),
    "desk": Setting(0.7, ("chair", "cabinet", "bin")),
    "display": Setting(0.5, ("laptop", "box", "mug"), 1.0, (0.65, 0.8)),
    "door": Setting(1.0, ("cabinet", "bin", "chair")),
    "shelf": Setting(0.9, ("chair", "desk", "box")),
    "table": Setting(0.3, ("chair", "chair", "sofa")),
    "bed": Setting(0.8, ("night stand", "cabinet", "chair")),
    "pillow": Setting(0.6, ("pillow", "pillow", "bag"), 0.95, (0.4, 0.55)),
    "sink": Setting(0.9, ("bin", "toilet", "cabinet")),
    "sofa": Setting(0.7, ("table", "lamp", "chair")),
    "toilet": Setting(0.9, ("sink", "bin", "cabinet")),
}


@dataclass(frozen=True)
class Perturbation:
    """How the box of a variant differs from the object's own.

    shift: largest move along each axis, in sizes of the box. turned: about the up axis, by any angle. scale: range of the factors of its
    sizes. own_points: only the object's points are kept. copies: boxes an object.
    """

    shift: float = 0.0
    turned: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    own_points: bool = False
    copies: int = 1


VARIANTS = {
    "obj_only": Perturbation(own_points=True),
    "obj_bg": Perturbation(),
    "pb_t25": Perturbation(0.25, copies=COPIES),
    "pb_t25_r": Perturbation(0.25, turned=True, copies=COPIES),
    "pb_t50_r": Perturbation(0.5, turned=True, copies=COPIES),
    "pb_t50_rs": Perturbation(0.5, turned=True, scale=(0.75, 1.25), copies=COPIES),  # the range is ours: the file is called scale75
}


@dataclass(frozen=True)
class Scan:
    """What the camera saw: points (N, 3) float32, metres, y up, the floor at 0; `own` (N,) those of the object; its box, with a margin."""

    points: Floats
    own: NDArray[np.bool_]
    centre: Floats
    size: Floats


@dataclass(frozen=True)
class ScanTask:
    """One object to scan: its label and name in ScanObjectNN, and what its draws depend on."""

    label: int
    name: str
    stream: Stream
    instance: int
    seed: int


def write_scans(root: Path, *, seed: int, train: int, test: int, pool: Executor | None = None, bar: tqdm[Any] | None = None) -> None:
    """Write all six variants as ScanObjectNN publishes them: HDF5 files with `data`, `label` and `mask`.

    Clouds are centred on their mean and in metres. Every cloud is a function of (seed, split, class, instance), whatever the pool.

    Args:
        root: The data root; the files go to the folder that the manifest names.
        seed: Of all draws.
        train, test: Objects of every class; the perturbed variants hold five boxes of each.
        pool: Runs the scans; this process if not given.
        bar: Is moved on by one for every object.
    """
    manifest = load_manifest("scanobjectnn")
    for split, stream, count in (("train", Stream.SCANS_TRAIN, train), ("test", Stream.SCANS_TEST, test)):
        tasks = [ScanTask(label, name, stream, instance, seed) for label, name in enumerate(manifest.class_names) for instance in range(count)]
        clouds: dict[str, list[Floats]] = {name: [] for name in VARIANTS}
        masks: dict[str, list[NDArray[np.int32]]] = {name: [] for name in VARIANTS}
        for cut in _cuts(tasks, pool):
            for name, (points, mask) in cut.items():
                clouds[name].append(points)
                masks[name].append(mask)
            if bar is not None:
                bar.update()
        for name, perturbation in VARIANTS.items():
            variant = manifest.variant(name)
            labels = np.repeat([task.label for task in tasks], perturbation.copies).astype(np.int32)
            _write(root / variant.folder / str(variant.splits[split].file), clouds.pop(name), masks.pop(name), labels)


def _cuts(tasks: list[ScanTask], pool: Executor | None) -> Iterable[dict[str, tuple[Floats, NDArray[np.int32]]]]:
    return map(cut_object, tasks) if pool is None else pool.map(cut_object, tasks, chunksize=4)


def _write(path: Path, clouds: list[Floats], masks: list[NDArray[np.int32]], labels: NDArray[np.int32]) -> None:
    """Write one file. The published ones are compressed; noise of this kind shrinks by a twentieth, which is not worth a third of the time."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file["data"] = np.concatenate(clouds)
        file.create_dataset("mask", data=np.concatenate(masks), compression="gzip", compression_opts=1)
        file["label"] = labels


def cut_object(task: ScanTask) -> dict[str, tuple[Floats, NDArray[np.int32]]]:
    """Scan one object and cut it out in every variant's way: clouds (K, 2048, 3) and masks (K, 2048), -1 for background, else the label."""
    scan = scan_object(task)
    rng = np.random.default_rng([*_facts(task), 2])
    return {name: _cut(scan, perturbation, task.label, rng) for name, perturbation in VARIANTS.items()}


def _facts(task: ScanTask) -> list[int]:
    return [task.seed, int(task.stream), task.label, task.instance]


def _cut(scan: Scan, perturbation: Perturbation, label: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int32]]:
    clouds, masks = [], []
    for _ in range(perturbation.copies):
        inside, points_from_box = _box_points(scan, perturbation, rng)
        kept = np.flatnonzero(inside & scan.own if perturbation.own_points else inside)
        chosen = rng.permutation(kept)[:NUM_POINTS]
        chosen = np.concatenate([chosen, chosen[rng.integers(len(chosen), size=NUM_POINTS - len(chosen))]])
        cloud = scan.points[chosen].astype(np.float64) @ points_from_box
        clouds.append((cloud - cloud.mean(axis=0)).astype(np.float32))
        masks.append(np.where(scan.own[chosen], label, BACKGROUND).astype(np.int32))
    return np.stack(clouds), np.stack(masks)


def _box_points(scan: Scan, perturbation: Perturbation, rng: np.random.Generator) -> tuple[NDArray[np.bool_], Floats]:
    """Draw a box that keeps enough of the object: the points inside (N,) and its axes as columns (3, 3)."""
    own = scan.points[scan.own]
    for _ in range(30):
        centre = scan.centre + scan.size * (perturbation.shift * rng.uniform(-1, 1, 3)).astype(np.float32)
        size = scan.size * rng.uniform(*perturbation.scale, 3).astype(np.float32)
        axes = _turn(rng.uniform(0, 2 * np.pi) if perturbation.turned else 0.0).astype(np.float32)
        if np.count_nonzero(points_in_box(own, centre, size, axes)) >= LEAST_SHARE * len(own):
            return points_in_box(scan.points, centre, size, axes), axes
    return points_in_box(scan.points, scan.centre, scan.size, np.eye(3)), np.eye(3, dtype=np.float32)


def _turn(angle: float) -> NDArray[np.float64]:
    """Rotation about the up axis, radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])


def scan_object(task: ScanTask) -> Scan:
    """Put an object into a scene and scan it; a scene that hides too much of it is drawn again, after two tries without neighbours."""
    open3d = open3d_module()
    mesh = make_object(CLASS_OF.get(task.name, task.name), task.stream, task.instance, seed=task.seed).mesh
    for attempt in range(10):
        rng = np.random.default_rng([*_facts(task), 1, attempt])
        setting, shape = SETTINGS[task.name], mesh.vertices
        level = rng.uniform(*setting.height) if chance(rng, setting.raised) else 0.0
        vertices = shape + np.array([0.0, level, 0.0])
        walled = chance(rng, setting.wall)
        rest = [*_room(vertices, level, walled, rng)]
        if attempt < 3:
            rest += _neighbours(task, vertices, level, setting, rng)
        scene = open3d.t.geometry.RaycastingScene(nthreads=1)
        for part in (Part(vertices, mesh.faces), _joined(rest)):
            scene.add_triangles(open3d.core.Tensor(part.vertices.astype(np.float32)), open3d.core.Tensor(part.faces.astype(np.uint32)))
        side = rng.uniform(-75, 75) if walled else rng.uniform(-180, 180)
        views = [_seen(open3d, scene, _camera(vertices, level, side + (rng.uniform(-60, 60) if view else 0.0), rng), rng)
                 for view in range(pick(rng, (1, 2, 3)))]
        scan = _fused(views, vertices, rng)
        if scan is not None:
            return scan
    raise RuntimeError(f"no camera sees enough of {task}; its scene is wrong")


def _joined(parts: list[Part]) -> Part:
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    faces = [part.faces + start for part, start in zip(parts, starts, strict=True)]
    return Part(np.concatenate([part.vertices for part in parts]), np.concatenate(faces))


def _room(vertices: NDArray[np.float64], level: float, walled: bool, rng: np.random.Generator) -> Iterator[Part]:
    """Floor, the surface the object lies on if it is not the floor, and a wall behind it."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    yield box(12.0, 0.1, 12.0, at=(0.0, -0.1, 0.0))
    back = low[2] - rng.uniform(0.0, 0.12)
    if level > 0:
        width, depth = high[0] - low[0] + rng.uniform(0.2, 1.2), high[2] - low[2] + rng.uniform(0.1, 0.5)
        thickness = pick(rng, (0.03, 0.04, 0.25, level))
        front = back + depth
        yield box(width, thickness, depth, at=(rng.uniform(-0.2, 0.2), level - thickness, (front + back) / 2))
    if walled:
        yield box(12.0, 2.8, 0.1, at=(0.0, 0.0, back - 0.05))


def _neighbours(task: ScanTask, vertices: NDArray[np.float64], level: float, setting: Setting, rng: np.random.Generator) -> Iterator[Part]:
    """Up to three things at the object's sides or in front of it, close enough to reach into its box now and then."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    sides = rng.permutation(3)[: rng.integers(0, 4)]
    for side in sides:
        item = make_object(pick(rng, setting.others), task.stream, NEIGHBOURS + int(rng.integers(NEIGHBOURS)), seed=task.seed).mesh
        turned = item.vertices @ _turn(rng.uniform(-0.4, 0.4) + float(rng.integers(4)) * np.pi / 2).T
        near, far = turned.min(axis=0), turned.max(axis=0)
        gap, along = rng.uniform(-0.03, 0.25), rng.uniform(-0.3, 0.3)
        place = {
            0: (low[0] - gap - far[0], level, along),
            1: (high[0] + gap - near[0], level, along),
            2: (along, level, high[2] + gap + 0.1 - near[2]),
        }[int(side)]
        yield Part(turned + np.array(place), item.faces)


@dataclass(frozen=True)
class _Camera:
    """Position (3,), axes (3, 3) in rows right, up, forward, and tangents of half the part of the picture that matters, across and up."""

    position: NDArray[np.float64]
    axes: NDArray[np.float64]
    window: NDArray[np.float64]


def _camera(vertices: NDArray[np.float64], level: float, azimuth_deg: float, rng: np.random.Generator) -> _Camera:
    """Hold a camera at 1 to 2.5 m (further for what is larger), at the height of a hand, roughly towards the object."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    reach = float(np.hypot(high[0] - low[0], high[2] - low[2]) / 2)
    distance = max(rng.uniform(1.0, 2.5), reach + 0.6)
    target = (low + high) / 2 + rng.normal(0.0, 0.15, 3) * (high - low)
    angle = np.deg2rad(azimuth_deg)
    height = level + rng.uniform(0.5, 1.0) if level > 0 else rng.uniform(1.1, 1.7)
    position = np.array([np.sin(angle) * distance, height, np.cos(angle) * distance])
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    window = np.minimum(HALF_VIEW, 0.7 * np.linalg.norm(high - low) / np.linalg.norm(target - position))
    return _Camera(position, np.stack([right, np.cross(right, forward), forward]), window)


def _seen(open3d: Any, scene: Any, camera: _Camera, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Take one depth picture and turn it back into points; some are lost, all are off by the sensor's noise.

    Noise along the ray: 0.0012 + 0.0019 (z - 0.4)^2 metres (third party: Nguyen, Izadi and Lovell 2012, measured on a Kinect).

    Returns:
        (N, 3) points in the scene and (N,) whether they are the object's.
    """
    grid = _pixels(RAYS) * np.append(camera.window, 1.0)
    grid[:, :2] += rng.uniform(-1, 1, (len(grid), 2)) * camera.window / RAYS
    direction = (grid @ camera.axes).astype(np.float32)
    rays = np.concatenate([np.broadcast_to(camera.position.astype(np.float32), direction.shape), direction], axis=1)
    answer = {name: tensor.numpy() for name, tensor in scene.cast_rays(open3d.core.Tensor(rays)).items()}
    depth, normal = answer["t_hit"].astype(np.float64), answer["primitive_normals"]
    facing = np.abs(np.einsum("rc,rc->r", normal, rays[:, 3:])) / np.linalg.norm(rays[:, 3:], axis=1)
    hit = np.flatnonzero((depth < 4.0) & (facing > 0.1 + 0.2 * rng.random(len(depth))))
    hit = hit[rng.random(len(hit)) > 0.02]
    depth = depth[hit]
    noise = rng.normal(size=len(depth)) * (0.0012 + 0.0019 * (depth - 0.4) ** 2)
    stray = rng.random(len(depth)) < 0.003  # pixels between an edge and what is behind it
    noise[stray] += rng.uniform(0.0, 0.08, np.count_nonzero(stray))
    drift = rng.normal(0.0, 0.005, 3)  # of the camera's tracked position
    points = camera.position + drift + direction[hit] * (depth + noise)[:, None]
    return points, answer["geometry_ids"][hit] == 0


def _pixels(count: tuple[int, int]) -> NDArray[np.float64]:
    """Middles of the pixels of a picture from -1 to 1 with a depth of 1: (across * up, 3)."""
    across, up = ((2 * np.arange(number) + 1) / number - 1 for number in count)
    return np.stack(np.broadcast_arrays(across, up[:, None], 1.0), axis=-1).reshape(-1, 3)


def _fused(views: list[tuple[NDArray[np.float64], NDArray[np.bool_]]], vertices: NDArray[np.float64], rng: np.random.Generator) -> Scan | None:
    """Join the views, cut holes, keep one point a voxel and turn the scene to any heading; None if too little of the object is left."""
    points, own = np.concatenate([view[0] for view in views]), np.concatenate([view[1] for view in views])
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    near = points_in_box(points, (low + high) / 2, 2.4 * (high - low) + 2 * MARGIN, np.eye(3))
    points, own = points[near], own[near]
    for _ in range(int(rng.integers(0, 4))):  # dark or shiny spots
        if len(points) > 1:
            away = np.linalg.norm(points - points[rng.integers(len(points))], axis=1)
            kept = away > rng.uniform(0.03, 0.1) * np.linalg.norm(high - low)
            points, own = points[kept], own[kept]
    voxel = np.floor(points / rng.uniform(0.006, 0.012)).astype(np.int64) + (1 << 20)
    _, first = np.unique(voxel @ np.array([1, 1 << 21, 1 << 42], dtype=np.int64), return_index=True)
    first.sort()
    turned = (points[first] @ _turn(rng.uniform(0, 2 * np.pi)).T).astype(np.float32)
    if np.count_nonzero(own[first]) < LEAST_POINTS:
        return None
    seen = np.ascontiguousarray(turned[own[first]].T)
    low, high = seen.min(axis=1) - MARGIN, seen.max(axis=1) + MARGIN
    return Scan(turned, own[first], (low + high) / 2, high - low)
