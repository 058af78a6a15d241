"""Put numbers of the mini-world's frames beside those of real ones, to see where it is too clean.

    python benchmarks/miniworld_realism.py --mini runs/mini/miniworld --real /folder/with/nuscenes/and/sunrgbd

Both folders have the same layout; `detections/nuscenes_*.json` and `detections/sunrgbd_*.json` are COCO files of a 2-D detector.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from clip2x.data.nuscenes.reader import NuScenesFrames
from clip2x.data.sunrgbd.reader import SunRgbdFrames
from clip2x.errors import Clip2xError, DataNotFoundError
from clip2x.geometry import points_in_box, project_points, transform_points
from clip2x.types import Box3D, Camera, SceneFrame

RANGES = ((0, 10), (10, 20), (20, 30), (30, 50), (50, 80))


def main() -> None:
    """Print one table for each sensor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mini", type=Path, default=Path("runs/mini/miniworld"))
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=60, help="at most that many of each")
    options = parser.parse_args()
    for title, numbers in (("street (nuScenes layout)", street_numbers), ("room (SUN RGB-D layout)", room_numbers)):
        columns = [numbers(root, options.frames) for root in (options.mini, options.real)]
        print(f"\n| {title} | mini-world | real |\n|---|---|---|")
        for name in columns[0]:
            print(f"| {name} | {columns[0][name]} | {columns[1].get(name, '-')} |")


def street_numbers(root: Path, most: int) -> dict[str, str]:
    """Describe LiDAR key frames."""
    frames = [frame for split in ("mini_train", "mini_val") for frame in some(lambda split=split: NuScenesFrames(
        "nuscenes", root=root, variant="v1.0-mini", split=split), most // 2)]
    ranges = [np.linalg.norm(frame.points, axis=1) for frame in frames]
    objects = [(float(np.linalg.norm(box.centre[:2])), inside(frame, box), box) for frame in frames for box in frame.boxes]
    numbers = {
        "key frames": f"{len(frames)}", "points a frame": spread([len(frame.points) for frame in frames]),
        "share nearer than 3 m (own car, no return), %": spread([100 * np.mean(r < 3) for r in ranges]),
        "median range beyond 3 m, m": spread([np.median(r[r > 3]) for r in ranges]),
        "rings: median spacing, degrees": spread([ring_spacing(frame) for frame in frames], 2),
        "annotated objects a frame": spread([len(frame.boxes) for frame in frames]),
        "objects with 5 points or more, %": f"{100 * np.mean([count >= 5 for _, count, _ in objects]):.0f}",
    }
    for low, high in RANGES:
        counts = [count for distance, count, box in objects if low <= distance < high and "car" in box.name]
        numbers[f"points on a car at {low}-{high} m, median (n)"] = f"{np.median(counts):.0f} ({len(counts)})" if counts else "- (0)"
    pedestrians = [count for distance, count, box in objects if distance < 30 and "pedestrian" in box.name]
    numbers["points on a pedestrian within 30 m, median (n)"] = f"{np.median(pedestrians):.0f} ({len(pedestrians)})" if pedestrians else "- (0)"
    shapes = {picture_name(camera): outlines(frame, camera) for frame in frames for camera in frame.cameras}
    return numbers | box_numbers(root, "nuscenes", shapes)


def room_numbers(root: Path, most: int) -> dict[str, str]:
    """Describe RGB-D frames."""
    frames = [frame for split in ("train", "test") for frame in some(lambda split=split: SunRgbdFrames(
        "sunrgbd", root=root, variant="objects10", split=split), most // 2)]
    depths = [camera.depth for frame in frames for camera in frame.cameras if camera.depth is not None]
    objects = [(float(np.linalg.norm(box.centre)), inside(frame, box), box) for frame in frames for box in frame.boxes]
    per_megapixel = [count / (depth.size / 1e6) for frame, depth in zip(frames, depths, strict=True) for count in [np.mean(
        [inside(frame, box) for box in frame.boxes] or [0])]]
    numbers = {
        "frames": f"{len(frames)}", "picture size": ", ".join(sorted({f"{depth.shape[1]} x {depth.shape[0]}" for depth in depths})[:3]),
        "depth holes, %": spread([100 * np.mean(depth == 0) for depth in depths]),
        "median depth, m": spread([np.median(depth[depth > 0]) for depth in depths], 1),
        "roughness of flat parts at 1-3 m, mm": spread([roughness_mm(depth) for depth in depths], 1),
        "annotated objects a frame": spread([len(frame.boxes) for frame in frames]),
        "points in a box for a picture of a million pixels": spread(per_megapixel),
        "objects with 100 points or more, %": f"{100 * np.mean([count >= 100 for _, count, _ in objects]):.0f}" if objects else "-",
    }
    shapes = {picture_name(frame.cameras[0]): [box.box_px for box in frame.boxes_2d] for frame in frames if frame.cameras}
    return numbers | box_numbers(root, "sunrgbd", shapes)


def some(opened: Any, most: int) -> Iterable[SceneFrame]:
    """Read frames spread over a split; none where it is not there."""
    try:
        data = opened()
    except DataNotFoundError:
        return
    for position in sorted({index * len(data) // most for index in range(most)} if len(data) > most else range(len(data))):
        try:
            yield data[position]
        except Clip2xError as error:
            print(error)


def inside(frame: SceneFrame, box: Box3D) -> int:
    """Count the points in a box."""
    return int(points_in_box(frame.points, box.centre, box.size, box.points_from_box).sum())


def ring_spacing(frame: SceneFrame) -> float:
    """Median angle between neighbouring rings, from the elevation of their points beyond 3 m."""
    assert frame.features is not None
    ring = frame.features[:, frame.feature_names.index("ring")]
    distance = np.linalg.norm(frame.points, axis=1)
    elevation = np.degrees(np.arcsin(frame.points[:, 2] / np.maximum(distance, 1e-6)))
    medians = [np.median(elevation[(ring == number) & (distance > 3)]) for number in np.unique(ring) if ((ring == number) & (distance > 3)).any()]
    return float(np.median(np.diff(sorted(medians))))


def roughness_mm(depth: np.ndarray) -> float:
    """Median absolute second difference along rows where it is below 5 cm: sensor noise on flat parts, millimetres."""
    middle = depth[:, 1:-1]
    valid = (depth[:, :-2] > 1) & (middle > 1) & (depth[:, 2:] > 1) & (middle < 3)
    second = np.abs(depth[:, :-2] - 2 * middle + depth[:, 2:])[valid]
    second = second[second < 0.05]
    return float(np.median(second) * 1e3) if len(second) else float("nan")


def outlines(frame: SceneFrame, camera: Camera) -> list[tuple[float, float, float, float]]:
    """Project the boxes with 5 points or more into a picture; those whose middle is seen, cut to the picture."""
    found = []
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    for box in frame.boxes:
        corners = transform_points(camera.camera_from_points, (signs * box.size) @ box.points_from_box.T + box.centre)
        centre, depth = project_points(corners.mean(axis=0, keepdims=True), camera.intrinsics)
        if corners[:, 2].min() < 0.5 or depth[0] < 0.5 or inside(frame, box) < 5:
            continue
        if not (0 <= centre[0, 0] < camera.width_px and 0 <= centre[0, 1] < camera.height_px):
            continue
        pixels = project_points(corners, camera.intrinsics)[0]
        low, high = pixels.min(axis=0).clip(0), np.minimum(pixels.max(axis=0), [camera.width_px, camera.height_px])
        found.append((float(low[0]), float(low[1]), float(high[0]), float(high[1])))
    return found


def picture_name(camera: Camera) -> str:
    """Name a picture as detection files do."""
    parts = camera.file.parts
    start = max(index for index, part in enumerate(parts) if part in ("samples", "SUNRGBD"))
    return "/".join(parts[start:])


def box_numbers(root: Path, name: str, shapes: dict[str, list[tuple[float, float, float, float]]]) -> dict[str, str]:
    """Compare a detector's boxes with annotated outlines (of boxes, not of silhouettes: they overlap less than perfectly even without noise)."""
    paths = sorted((root / "detections").glob(f"{name}_*.json"))
    if not paths:
        return {}
    content = json.loads(paths[0].read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    detected: dict[str, list[list[float]]] = {}
    for item in content["annotations"]:
        left, top, width, height = item["bbox"]
        detected.setdefault(names[item["image_id"]], []).append([left, top, left + width, top + height])
    best, unmatched, pictures = [], 0, 0
    for picture in set(shapes) & set(names.values()):
        pictures += 1
        boxes = np.array(detected.get(picture, [])).reshape(-1, 4)
        overlaps = np.array([[overlap(shape, box) for box in boxes] for shape in shapes[picture]]).reshape(len(shapes[picture]), len(boxes))
        best += overlaps.max(axis=1).tolist() if len(boxes) else [0.0] * len(overlaps)
        unmatched += int((overlaps.max(axis=0) < 0.3).sum()) if len(overlaps) else len(boxes)
    matched = [value for value in best if value >= 0.3]
    return {
        "2-D boxes: annotated objects with one of IoU 0.3 or more, %": f"{100 * len(matched) / max(len(best), 1):.0f} (of {len(best)})",
        "2-D boxes: median IoU of those": f"{np.median(matched):.2f}" if matched else "-",
        "2-D boxes without an object, a picture": f"{unmatched / max(pictures, 1):.1f}",
    }


def overlap(first: Iterable[float], second: Iterable[float]) -> float:
    """Intersection over union of two boxes."""
    a, b = np.array(list(first)), np.array(list(second))
    common = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common))


def spread(values: list[Any], digits: int = 0) -> str:
    """Write a median with its quartiles, or one value."""
    if not values:
        return "-"
    low, median, high = np.nanpercentile(np.asarray(values, dtype=float), [25, 50, 75])
    return f"{median:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})" if len(values) > 1 else f"{median:,.{digits}f}"


if __name__ == "__main__":
    main()
