"""Lift boxes of RGB-D pictures to points: background removal inside the box, cleaning in three dimensions, one owner for every point.

All of it is ours: of CLIP2's own way only "unsupervised segmentation inside the box, then RGB-D geometry" is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from clip2x.data.images import read_image
from clip2x.errors import InputError
from clip2x.geometry import box_iou
from clip2x.proxies.foreground import Segments, grabcut, look_at, opencv, segment
from clip2x.types import Camera, Detections, Lifted, Proxy, SceneFrame

BACKGROUNDS = ("segments", "grabcut")
RULES = ("unusable box", "cut by border", "duplicate box", "no depth", "too far", "background only", "owned by others", "no main cluster",
         "too few points")
"""Names under which a detection is dropped, in the order in which they are asked."""
PIXEL_NAMES = ("u_px", "v_px")
BORDER_PX = 2.0  # ours: what a detector's box misses of the border

Index = NDArray[np.int64]


class IndoorLifting:
    """Find the points of detected objects in RGB-D frames (`SunRgbdFrames`).

    The picture is cut into floor, walls and pieces (`foreground.segment`). An object ends inside its box: a piece with most of its pixels outside
    is background, or another object. What is left in the box is joined to clusters in three dimensions, the largest is the proxy. Small boxes
    choose first and keep their points, so that what stands before or on something large is not counted to it. Deterministic.
    """

    def __init__(self, *, background: str = "segments", working_width_px: int = 320, farthest: float = 8.0, min_points: int = 100,
                 inside: float = 0.5, plane_inside: float = 0.8, jump: float = 0.04, jump_share: float = 0.02, facing_up: float = 0.85,
                 floor_margin: float = 0.05, wall_margin: float = 0.05, wall_share: float = 0.03, voxel: float = 0.03, reach: float = 0.1,
                 main_share: float = 0.3, duplicate_iou: float = 0.6, most_borders: int = 3) -> None:
        """Choose how boxes are lifted. Without another source, values are ours: tried on the mini-world's training rooms (docs).

        Args:
            background: `segments`: pieces of the depth picture. `grabcut`: within these, what differs in colour from the box's surroundings.
            working_width_px: Wider pictures are cut into pieces at a whole fraction of their size.
            farthest: Depths beyond are not used, metres; what the official SUN RGB-D toolbox reads.
            min_points: Of a proxy; what the evaluation asks of an object, too.
            inside: Share of a piece's pixels that lie in the box of its object.
            plane_inside: The same for the floor or a wall: one that lies in a box is a table top or a cupboard's front.
            jump, jump_share: Two neighbouring pixels whose depths differ by more metres, and by more of their depth, are not joined.
            facing_up: Upward part of the normals of horizontal surfaces, which are pieces of their own.
            floor_margin, wall_margin: How far pixels of the floor or a wall may lie before it, metres, at no distance.
            wall_share: Of the pixels with depth that a wall has at least; 1 for no walls.
            voxel: Edge of the grid on which clusters are found, metres.
            reach: Two voxels are of one cluster if their means are nearer, metres.
            main_share: Of what is left in a box, which the largest cluster has at least.
            duplicate_iou: A box that overlaps a better-scored one by more (intersection over union) shows the same object.
            most_borders: A box that touches more of the picture's borders shows a part of its object only.

        Raises:
            InputError: If a value is out of its range.
            MissingDependencyError: If `background` is `grabcut` and OpenCV is not installed.
        """
        self.settings: dict[str, Any] = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        _check(self.settings)
        if background == "grabcut":
            opencv()

    def describe(self) -> dict[str, Any]:
        """Give all settings, for the store."""
        return {"kind": "indoor", **self.settings}

    def __call__(self, frame: SceneFrame, found: Mapping[str, Detections]) -> Lifted:
        """Lift the boxes of a frame.

        Args:
            frame: With one camera that has depth, and points that know their pixels (`SunRgbdFrames`).
            found: Detections by camera name.

        Returns:
            Proxies in the order of the detections, and counts: every detection is a proxy or counted under the one rule that dropped it.

        Raises:
            InputError: If a camera is not known, has no depth, or the points have no pixels; if points and depth do not fit together.
            DataNotFoundError, BadFileError: With GrabCut, if the picture cannot be read.
        """
        rules = Counter({"detections": sum(map(len, found.values())), "proxies": 0})
        proxies: list[Proxy] = []
        for name, detections in found.items():
            camera = _camera(frame, name)
            if len(detections):
                proxies += _Picture(frame, camera, self.settings).lift(detections, rules)
        rules["proxies"] = len(proxies)
        return Lifted(tuple(proxies), rules)

    def standing(self, frame: SceneFrame, camera: str) -> Index:
        """Find the points of a picture that are near enough and belong neither to the floor nor to a wall: sorted positions in the frame's points.

        Raises:
            InputError: As when boxes are lifted.
        """
        picture = _Picture(frame, _camera(frame, camera), self.settings)
        label = picture.pieces.label
        return np.sort(picture.pixel[(label >= 0) & (label < picture.pieces.first_plane) & ~picture.far & (picture.pixel >= 0)])


class _Picture:
    """A picture while its boxes are lifted: `pixel` (H, W) holds positions in the frame's points, -1 where there is none; see `Segments`."""

    def __init__(self, frame: SceneFrame, camera: Camera, settings: Mapping[str, Any]) -> None:
        self.frame, self.camera, self.settings = frame, camera, settings
        self.depth, self.pixel = _organise(frame, camera)
        self.far = self.depth > settings["farthest"]
        self.pieces = self._segments()
        self.sizes = np.bincount(self.pieces.label[self.pieces.label >= 0], minlength=self.pieces.count)
        least = np.where(np.arange(self.pieces.count) < self.pieces.first_plane, settings["inside"], settings["plane_inside"])
        self.needed = least * self.sizes
        self.owned = np.zeros(self.depth.shape, dtype=bool)
        self.rgb = read_image(camera.file) if settings["background"] == "grabcut" else None

    def lift(self, detections: Detections, rules: Counter[str]) -> list[Proxy]:
        """Lift boxes, the smallest first, and count what becomes of them."""
        box_px = np.asarray(detections.box_px, dtype=np.float64).reshape(-1, 4)
        usable = np.asarray(np.isfinite(box_px).all(axis=1), dtype=bool)
        size = np.array([self.camera.width_px, self.camera.height_px] * 2)
        edges = np.floor(np.clip(np.where(usable[:, None], box_px, 0), 0, size) + 0.5).astype(np.int64)
        area = np.prod(edges[:, 2:] - edges[:, :2], axis=1)
        usable &= (edges[:, 2:] > edges[:, :2]).all(axis=1)
        repeated = duplicates(box_px, usable, self.settings["duplicate_iou"])
        borders = (edges[:, :2] <= BORDER_PX).sum(axis=1) + (edges[:, 2:] >= size[2:] - BORDER_PX).sum(axis=1)
        chosen: dict[int, Index] = {}
        for number in np.lexsort((np.arange(len(area)), area)).tolist():
            if not usable[number]:
                rule, points = "unusable box", None
            elif borders[number] > self.settings["most_borders"]:
                rule, points = "cut by border", None
            elif repeated[number]:
                rule, points = "duplicate box", None
            else:
                left, top, right, bottom = edges[number].tolist()
                rule, points = self._choose(left, top, right, bottom)
            if points is None:
                rules[rule] += 1
            else:
                chosen[number] = points
        return [Proxy(self.camera.name, detections.box_px[number], int(detections.concept_id[number]), float(detections.score[number]), points)
                for number, points in sorted(chosen.items())]

    def _choose(self, left: int, top: int, right: int, bottom: int) -> tuple[str, Index | None]:
        """Choose the points of one box and own them; else name the rule that drops it."""
        inside = (slice(top, bottom), slice(left, right))
        least, pixel, label = self.settings["min_points"], self.pixel[inside], self.pieces.label[inside]
        there = pixel >= 0
        if there.sum() < least:
            return "no depth", None
        if (there & ~self.far[inside]).sum() < least:
            return "too far", None
        counts = np.bincount(label[label >= 0], minlength=self.pieces.count)
        keep = (label >= 0) & (counts >= self.needed)[label]
        if self.rgb is not None:
            keep &= grabcut(self.rgb, (left, top, right, bottom))
        if keep.sum() < least:
            return "background only", None
        free = keep & ~self.owned[inside]
        if free.sum() < least:
            return "owned by others", None
        points = pixel[free]
        cluster = clusters(self.frame.points[points], self.settings["voxel"], self.settings["reach"])
        sizes = np.bincount(cluster)
        largest = int(sizes.argmax())
        if sizes[largest] < self.settings["main_share"] * len(points):
            return "no main cluster", None
        if sizes[largest] < least:
            return "too few points", None
        rows, columns = np.nonzero(free)
        mine = cluster == largest
        self.owned[top + rows[mine], left + columns[mine]] = True
        return "", np.sort(points[mine])

    def _segments(self) -> Segments:
        """Cut the picture into pieces at its working size; a pixel belongs to its block's piece if it is no farther than the block's nearest."""
        options = self.settings
        depth = np.where(self.far, 0, self.depth)
        step = -(-depth.shape[1] // options["working_width_px"])
        matrix = self.camera.intrinsics.copy()
        matrix[:2, 2] = (matrix[:2, 2] - (step - 1) / 2) / step
        matrix[[0, 1], [0, 1]] /= step
        small = _nearest_of_blocks(depth, step)
        points_from_camera = self.camera.camera_from_points[:3, :3].T
        pieces = segment(look_at(small, matrix, self.frame.upright_from_points @ points_from_camera),
                         **{name: options[name] for name in ("jump", "jump_share", "facing_up", "floor_margin", "wall_margin", "wall_share")})
        if step == 1:
            return pieces
        height, width = depth.shape
        label, nearest = (np.repeat(np.repeat(values, step, axis=0), step, axis=1)[:height, :width] for values in (pieces.label, small))
        close = (depth > 0) & (depth - nearest < options["jump"] + options["jump_share"] * nearest)
        return Segments(np.where(close, label, -1), pieces.first_plane, pieces.count)


def clusters(points: NDArray[np.floating[Any]], voxel: float, reach: float) -> Index:
    """Number the clusters of a cloud: its voxels are joined where the means of their points are nearer than `reach`.

    A voxel grid makes it quick and independent of how densely a surface was seen. Unlike DBSCAN's there are no outliers; small clusters are.

    Args:
        points: (N, 3), metres.
        voxel: Edge of the grid, metres; it starts at the smallest coordinates.
        reach: Metres.

    Returns:
        (N,) cluster of each point, numbered from 0.
    """
    if not len(points):
        return np.zeros(0, dtype=np.int64)
    place = np.floor((points - points.min(axis=0)) / voxel).astype(np.int64)
    key = np.ravel_multi_index(tuple(place.T), tuple(place.max(axis=0) + 1))
    _, member, counts = np.unique(key, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(member, weights=axis) / counts for axis in points.T], axis=1)
    pairs = cKDTree(means).query_pairs(reach, output_type="ndarray")
    joined = coo_matrix((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(len(means), len(means)))
    number: Index = connected_components(joined, directed=False)[1].astype(np.int64)
    return number[member]


def duplicates(box_px: NDArray[np.floating[Any]], usable: NDArray[np.bool_], most: float) -> NDArray[np.bool_]:
    """Mark boxes (M, 4), best first, that overlap a better one that is itself no duplicate by an intersection over union above `most`."""
    over = box_iou(box_px, box_px) > most
    repeated = np.zeros(len(box_px), dtype=bool)
    for number in np.flatnonzero(usable).tolist():
        repeated[number] = (over[number, :number] & usable[:number] & ~repeated[:number]).any()
    return repeated


def _organise(frame: SceneFrame, camera: Camera) -> tuple[NDArray[np.float32], Index]:
    """Lay the points out on the picture: depth (H, W), metres, 0 where there is none, and position in the frame's points (H, W), or -1."""
    shape = (camera.height_px, camera.width_px)
    if camera.depth is None:
        raise InputError(f"{frame.token}: camera {camera.name} has no depth; indoor lifting needs RGB-D frames (SunRgbdFrames), for LiDAR use "
                         "the outdoor one.")
    if frame.features is None or not set(PIXEL_NAMES) <= set(frame.feature_names):
        raise InputError(f"{frame.token}: the points must have the features {', '.join(PIXEL_NAMES)}, found "
                         f"{', '.join(frame.feature_names) or 'none'}.")
    column, row = (frame.features[:, frame.feature_names.index(name)].astype(np.int64) for name in PIXEL_NAMES)
    outside = (row < 0) | (row >= shape[0]) | (column < 0) | (column >= shape[1])
    if camera.depth.shape != shape or outside.any():
        raise InputError(f"{frame.token}: depth is {camera.depth.shape[1]} x {camera.depth.shape[0]} pixels, camera {camera.name} {shape[1]} x "
                         f"{shape[0]}; they must be equal, and every point's pixel must lie inside.")
    good = np.isfinite(frame.points).all(axis=1)
    position = np.full(shape, -1, dtype=np.int64)
    position[row[good], column[good]] = np.flatnonzero(good)
    depth = np.where((position >= 0) & np.isfinite(camera.depth) & (camera.depth > 0), camera.depth, 0).astype(np.float32)
    position[depth == 0] = -1
    return depth, position


def _nearest_of_blocks(depth: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Take the smallest depth of every block of `step` x `step` pixels, 0 where a block has none."""
    if step == 1:
        return depth
    height, width = depth.shape
    padded = np.pad(np.where(depth > 0, depth, np.inf), ((0, -height % step), (0, -width % step)), constant_values=np.inf)
    nearest = padded.reshape(padded.shape[0] // step, step, -1, step).min(axis=(1, 3))
    return np.where(np.isfinite(nearest), nearest, 0).astype(np.float32)


def _camera(frame: SceneFrame, name: str) -> Camera:
    for camera in frame.cameras:
        if camera.name == name:
            return camera
    raise InputError(f"{frame.token}: there is no camera {name!r}; the frame has {', '.join(camera.name for camera in frame.cameras) or 'none'}.")


def _check(settings: Mapping[str, Any]) -> None:
    """Raise an InputError for a value out of its range."""
    if settings["background"] not in BACKGROUNDS:
        raise InputError(f"background must be one of {', '.join(BACKGROUNDS)}, got {settings['background']!r}.")
    for name in ("inside", "plane_inside", "wall_share", "main_share", "duplicate_iou", "facing_up"):
        if not 0 <= settings[name] <= 1:
            raise InputError(f"{name} must be a share from 0 to 1, got {settings[name]}.")
    for name in ("working_width_px", "min_points"):
        if settings[name] < 1:
            raise InputError(f"{name} must be at least 1, got {settings[name]}.")
    for name in ("farthest", "voxel", "reach"):
        if not 0 < settings[name] < np.inf:
            raise InputError(f"{name} must be a length above 0, in metres, got {settings[name]}.")
    for name in ("jump", "jump_share", "floor_margin", "wall_margin", "most_borders"):
        if not settings[name] >= 0:
            raise InputError(f"{name} must not be negative, got {settings[name]}.")
