"""Name the objects of a whole scene: a frame of nuScenes or SUN RGB-D, or any cloud file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from clip2x.data.base import OURS_FROM_UP
from clip2x.data.files import SUFFIXES, points_of, read_shape
from clip2x.data.frames import FrameDataset
from clip2x.data.images import read_camera_picture
from clip2x.data.readers import open_frames
from clip2x.data.transforms import choose_points, generator_for, near_origin
from clip2x.errors import BadFileError, Clip2xError, DataNotFoundError, InputError
from clip2x.evaluation.scene_view import SceneObject, SceneView
from clip2x.geometry import points_in_box, project_points, thin_out, transform_points
from clip2x.proxies.regions import Region, find_regions, regions_in_boxes
from clip2x.types import Box3D, Camera, SceneFrame
from clip2x.untrusted import excerpt, json_value

if TYPE_CHECKING:
    from clip2x.predict import Recognizer

Matrix = NDArray[np.float64]

DRAWN_POINTS = 1024  # of a region: as many as evaluation draws (`data.num_points`), of which a point encoder takes its own
MESH_POINTS = 60_000  # that are drawn from the surface of a mesh
LEAST_CLOUD_POINTS = 10  # of a region of a cloud file; data sets state their own. Ours
TRUE_SHARE = 0.5  # of a region's points that lie in the annotated box whose name counts as the true one. Ours
UPRIGHT_FROM_OURS: Matrix = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # object frame, y up -> z up


@dataclass(frozen=True)
class Scene:
    """A frame and what is known of where it comes from.

    source: as the user wrote it. kind: `street` (a LiDAR sweep with the sensor at the origin: of a data set, or a .bin file, whatever axis of it
    points up), `room` (an RGB-D picture), `cloud` (any other file).
    frame: as its reader gives it. ours_from_upright: (3, 3) rotation from its gravity-aligned frame (z up) to the object frame (y up).
    origin: (3,) what was subtracted from the file's coordinates, metres. ahead: (2,) direction in the upright frame that the sensor looks in.
    class_names: of the data set, none for a file. min_points: that an object must have. notes: what is missing.
    """

    source: str
    kind: str
    frame: SceneFrame
    ours_from_upright: Matrix
    origin: Matrix
    ahead: tuple[float, float]
    class_names: tuple[str, ...] = ()
    min_points: int = LEAST_CLOUD_POINTS
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> NDArray[np.float32]:
        """The points in the upright frame, (N, 3)."""
        points: NDArray[np.float32] = (self.frame.points @ self.frame.upright_from_points.T).astype(np.float32)
        return points

    @property
    def boxes(self) -> list[Box3D]:
        """The annotated boxes in the upright frame."""
        turn = self.frame.upright_from_points
        return [replace(box, centre=turn @ box.centre, points_from_box=turn @ box.points_from_box) for box in self.frame.boxes]

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """The cameras, their transforms from the upright frame."""
        points_from_upright = np.eye(4)
        points_from_upright[:3, :3] = self.frame.upright_from_points.T
        return tuple(replace(camera, camera_from_points=camera.camera_from_points @ points_from_upright) for camera in self.frame.cameras)

    @property
    def zero_yaw(self) -> float:
        """The direction of the files' first level axis (x; y where x is up) in the upright frame, radians about z."""
        first = self.frame.upright_from_points[:, 0]
        first = self.frame.upright_from_points[:, 1] if abs(first[2]) > 0.9 else first
        return float(np.arctan2(first[1], first[0]))


def open_scene(source: str, *, root: Path | None = None, frame: str | None = None, up: str | None = None, columns: int | None = None) -> Scene:
    """Read a scene.

    Args:
        source: `manifest/variant/split` of a data set with frames, or a cloud file.
        root: The data root; for data sets only.
        frame: Of a data set: its token, the end of one (`img_0063`), or its position from 0; the first if not given.
        up: Of a file: the axis that points up; z for .off and .bin, else y.
        columns: Of a .bin file, see `read_cloud`.

    Raises:
        InputError: If the source is neither, an option does not fit it, or there is no such frame.
        DataNotFoundError, BadFileError: If it cannot be read.
    """
    is_file = Path(source).suffix.lower() in SUFFIXES or Path(source).exists()
    if is_file:
        if root is not None or frame is not None:
            raise InputError(f"--root and --frame are for data sets; {source} is a file.")
        return _cloud_scene(Path(source), up, columns)
    if source.count("/") != 2:
        raise InputError(f"{source!r} is neither a file nor a data set; give a cloud ({' '.join(SUFFIXES)}) or manifest/variant/split, e.g. "
                         "nuscenes/v1.0-mini/mini_val.")
    if up is not None or columns is not None:
        raise InputError(f"--up and --columns are for files; the frame of {source} is known.")
    if root is None:
        raise InputError(f"{source} is a data set; give the folder that holds it: --root DIR.")
    data = open_frames(source, root)
    chosen = data.frame(find_frame(data, frame, source))
    kept = tuple(box for box in chosen.boxes if box.name not in data.manifest.excluded)
    street = data.manifest.reader == "nuscenes"
    return Scene(source, "street" if street else "room", replace(chosen, boxes=kept), np.array(data.variant.ours_from_files, dtype=np.float64),
                 np.zeros(3), (1.0, 0.0) if street else (0.0, 1.0), data.class_names, data.variant.min_points, chosen.notes)


def find_frame(data: FrameDataset, wanted: str | None, source: str) -> str:
    """Find the token of a frame by its position, itself or its end.

    Raises:
        InputError: If there is no such frame, or several end so.
    """
    tokens = data.tokens
    if wanted is None:
        return tokens[0]
    if wanted in tokens:
        return wanted
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 8:
        if int(wanted) >= len(tokens):
            raise InputError(f"{source} has no frame {wanted}; it has {len(tokens):,}, from 0 to {len(tokens) - 1}.")
        return tokens[int(wanted)]
    ends = [token for token in tokens if token.endswith(wanted)]
    if len(ends) != 1:
        raise InputError(f"{source} has {len(ends) or 'no'} frame{'s that end' if ends else ''} {wanted!r}; give a position from 0 to "
                         f"{len(tokens) - 1} or a whole token, e.g. {tokens[0]}.")
    return ends[0]


def regions_of(scene: Scene, boxes: str, min_points: int) -> tuple[list[Region], Counter[str]]:
    """Find what is to be named.

    Args:
        scene: The scene.
        boxes: `annotated`, `clusters`, or a JSON file, see `read_boxes`.
        min_points: Of a region.

    Returns:
        The regions in the upright frame, and counts of what was left out, by reason.

    Raises:
        InputError: If there is no region.
        DataNotFoundError, BadFileError: If the file cannot be read.
    """
    dropped: Counter[str] = Counter()
    points = scene.points
    if boxes == "clusters":
        found, dropped = find_regions(scene.frame, scene.kind, min_points)
    else:
        if boxes == "annotated" and not scene.frame.boxes:
            raise InputError(f"{scene.source}, {scene.frame.token}: there are no annotated boxes; use --boxes clusters or --boxes FILE.json.")
        listed = sorted(scene.boxes, key=lambda box: float(np.linalg.norm(box.centre))) if boxes == "annotated" else read_boxes(Path(boxes), scene)
        found = regions_in_boxes(points, listed)
        dropped[f"fewer than {min_points} points"] = sum(len(region.point_index) < min_points for region in found)
        found = [region for region in found if len(region.point_index) >= min_points]
    flat = [not np.ptp(points[region.point_index], axis=0).any() for region in found]
    dropped["all points in one place"] = sum(flat)
    found = [region for region, is_flat in zip(found, flat, strict=True) if not is_flat]
    if not found:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "none there"
        raise InputError(f"{scene.source}: no region is left to be named ({reasons}); try other --boxes or a smaller --min-points.")
    return found, +dropped


def read_boxes(path: Path, scene: Scene) -> list[Box3D]:
    """Read boxes from a JSON file: a list, or an object with `boxes` or `objects` (as `scene.json` has).

    Each has `centre` [x, y, z], `size` [length, width, height] and `yaw`: metres and radians. Centres are in the coordinates of the scene's
    files (the LiDAR's frame of nuScenes, the camera's of SUN RGB-D), the height is along the vertical, and the yaw turns the length about the
    vertical, counter-clockwise from above, from the files' x axis (y where x points up).

    Returns:
        The boxes in the upright frame.

    Raises:
        DataNotFoundError: If there is no such file.
        BadFileError: If it is not of that form; names the first box that is not.
    """
    try:
        raw = json_value(path.read_bytes())
    except FileNotFoundError:
        raise DataNotFoundError(f"{path}: there is no such file; --boxes takes annotated, clusters or a JSON file.") from None
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: no JSON file ({' '.join(str(error).split())[:120]}).") from error
    listed = raw.get("boxes" if isinstance(raw.get("boxes"), list) else "objects") if isinstance(raw, dict) else raw
    if not isinstance(listed, list) or not listed:
        raise BadFileError(f"{path}: a list with at least one box is needed, or an object with such a list under 'boxes'.")
    found = []
    for place, item in enumerate(listed):
        try:
            centre, size = (np.array([float(value) for value in item[key]]) for key in ("centre", "size"))
            yaw = float(item.get("yaw", 0.0))
            good = centre.shape == size.shape == (3,) and bool((size > 0).all()) and bool(np.isfinite([*centre, *size, yaw]).all())
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            good = False
        if not good:
            raise BadFileError(f"{path}: box {place} needs centre [x, y, z], size [length, width, height] above 0 and a yaw in radians, got "
                               f"{excerpt(item, 120)}.")
        turn = yaw + scene.zero_yaw
        rotation = np.array([[np.cos(turn), -np.sin(turn), 0.0], [np.sin(turn), np.cos(turn), 0.0], [0.0, 0.0, 1.0]])
        upright = scene.frame.upright_from_points @ (centre - scene.origin)
        found.append(Box3D(token=f"box-{place}", name=str(item.get("name", "")), label=-1, centre=upright, size=size, points_from_box=rotation))
    return found


def name_regions(scene: Scene, regions: Sequence[Region], recognizer: Recognizer, names: Sequence[str], templates: Sequence[str] | None = None, *,
                 top: int = 3, min_probability: float = 0.0, seed: int = 0) -> list[SceneObject]:
    """Name regions, each by itself: its points are chosen, turned and scaled as those of an annotated object are for evaluation.

    A region of few points is not filled up with repeated ones: encoders count equal points once.

    Args:
        scene: The scene.
        regions: Of it.
        recognizer: Compares clouds with names.
        names: That compete.
        templates: Prompts; the recogniser's own if not given.
        top: Names that are kept.
        min_probability: An object whose best name has less stays without a name.
        seed: Of the points that are chosen.
    """
    points = scene.points
    found = []
    for number, region in enumerate(regions, start=1):
        own = near_origin(points[region.point_index])
        chosen = choose_points(own, min(len(own), max(DRAWN_POINTS, recognizer.num_points)), generator_for(seed, region.box.token))
        cloud = torch.from_numpy(np.ascontiguousarray(chosen @ scene.ours_from_upright.T, dtype=np.float32))[None]
        row = recognizer.classify(thin_out(cloud, recognizer.num_points), names, templates)[0].cpu()
        best = torch.argsort(row, descending=True, stable=True)[:top].tolist()
        labels = tuple((names[place], float(row[place])) for place in best)
        truth, named = _truth(scene, region, points), labels[0][1] >= min_probability
        found.append(SceneObject(number, region.box, region.point_index, float(np.linalg.norm(region.box.centre)), labels, named=named, truth=truth,
                                 right=labels[0][0] == truth if named and truth in names else None))
    return found


def view_of(scene: Scene, objects: Sequence[SceneObject], about: str, notes: Sequence[str] = ()) -> tuple[SceneView, list[str]]:
    """Put together what is drawn; pictures that cannot be read are left out, and said."""
    points, cameras, problems = scene.points, [], []
    colours, coloured = np.zeros((len(points), 3), dtype=np.uint8), np.zeros(len(points), dtype=bool)
    for camera in scene.cameras:
        try:
            picture = read_camera_picture(camera)
        except Clip2xError as error:
            problems.append(str(error))
            continue
        cameras.append(camera)
        pixels, _ = project_points(transform_points(camera.camera_from_points, points), camera.intrinsics)
        with np.errstate(invalid="ignore"):
            seen = np.flatnonzero((pixels >= 0).all(axis=1) & (pixels < [camera.width_px, camera.height_px]).all(axis=1))
        column, row = np.floor(pixels[seen]).astype(np.int64).T
        colours[seen], coloured[seen] = picture[row, column], True
    title = scene.source if not scene.frame.token or scene.kind == "cloud" else f"{scene.source}: {scene.frame.token}"
    view = SceneView(title, about, points, scene.ahead, tuple(objects), tuple(cameras), colours if coloured.any() else None,
                     coloured if coloured.any() else None, tuple([*notes, *problems]))
    return view, problems


def describe_objects(scene: Scene, objects: Sequence[SceneObject]) -> list[dict[str, Any]]:
    """Write objects as plain values for `scene.json`, boxes as `read_boxes` takes them."""
    points_from_upright = scene.frame.upright_from_points.T
    described = []
    for item in objects:
        axis = item.box.points_from_box[:, 0]
        yaw = (float(np.arctan2(axis[1], axis[0])) - scene.zero_yaw + np.pi) % (2 * np.pi) - np.pi
        described.append({
            "number": item.number, "token": item.box.token or None, "name": item.name if item.named else None,
            "labels": [{"name": name, "probability": share} for name, share in item.labels], "annotated": item.truth, "right": item.right,
            "num_points": len(item.point_index), "range_m": item.range_m, "centre": (points_from_upright @ item.box.centre + scene.origin).tolist(),
            "size": item.box.size.tolist(), "yaw": yaw})
    return described


def _cloud_scene(path: Path, up: str | None, columns: int | None) -> Scene:
    """Read a file; its coordinates are metres."""
    shape = read_shape(path, columns=columns)
    axis = up or ("z" if path.suffix.lower() in (".off", ".bin") else "y")
    raw = shape.points if shape.faces is None else points_of(shape, MESH_POINTS, generator_for(0, ""))
    points = near_origin(shape.points if shape.faces is None else raw)
    origin = np.asarray(raw[0], dtype=np.float64) - points[0]
    upright_from_points = np.eye(3) if axis == "z" else UPRIGHT_FROM_OURS @ np.array(OURS_FROM_UP[axis])
    ours_from_upright = np.array(OURS_FROM_UP["z"]) if axis == "z" else UPRIGHT_FROM_OURS.T
    frame = SceneFrame(token=path.name, scene=path.name, points=points.astype(np.float32), upright_from_points=upright_from_points)
    return Scene(str(path), "street" if path.suffix.lower() == ".bin" else "cloud", frame, ours_from_upright, origin, (0.0, 1.0))


def _truth(scene: Scene, region: Region, points: NDArray[np.float32]) -> str | None:
    """Say what annotations call a region: the name of the class, or of the category, of the box that holds most of its points."""
    own = points[region.point_index]
    best, most = None, TRUE_SHARE * len(own)
    for box in scene.boxes:
        if box.token == region.box.token:
            best = box
            break
        inside = int(points_in_box(own, box.centre, box.size, box.points_from_box).sum())
        if inside >= most:
            best, most = box, inside + 1
    return None if best is None else scene.class_names[best.label] if best.label >= 0 else best.name
