"""Draw one sample of each data set, as its reader gives it, into docs/pictures.

    python docs/sample_pictures.py --root runs/mini/miniworld

The pictures in the repository show the mini-world: real data may not be redistributed. Any folder with the data sets can be given.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from clip2x.data.formats.textured_obj import read_textured_obj
from clip2x.data.images import read_image
from clip2x.data.nuscenes.reader import NuScenesFrames
from clip2x.data.readers import open_dataset
from clip2x.data.sunrgbd.reader import SunRgbdFrames
from clip2x.depth import grey_from_depth, rasterize, view_preset
from clip2x.geometry import project_points, transform_points
from clip2x.meshes import render_views
from clip2x.proxies.detectors import CocoDetections, Picture
from clip2x.proxies.indoor import IndoorLifting
from clip2x.proxies.outdoor import OutdoorLifting
from clip2x.types import Camera, Proxy, SceneFrame

COLOURS = [(230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 200, 230), (240, 50, 230), (128, 128, 0), (170, 110, 40)]
EDGES = [(a, b) for a in range(8) for b in range(a) if bin(a ^ b).count("1") == 1]
SIGNS = np.array([[(corner >> axis & 1) - 0.5 for axis in range(3)] for corner in range(8)])


def main() -> None:
    """Draw what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs/mini/miniworld"))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--only", help="one of the pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, draw in (("modelnet", modelnet), ("shapenet", shapenet), ("scanobjectnn", scanobjectnn), ("nuscenes", nuscenes), ("sunrgbd", sunrgbd),
                       ("proxies", proxies)):
        if options.only not in (None, name):
            continue
        picture = draw(options.root)
        path = options.out / f"{name}.jpg"
        Image.fromarray(picture).save(path, quality=85)
        print(path, picture.shape)


def depth_row(root: Path, name: str, label: str, radius: float = 0.03, size: int = 144) -> np.ndarray:
    """Draw the first object of a class from the ten cameras of CLIP2Point."""
    data = open_dataset(name, root, num_points=2048)
    index = data.labels.index(data.class_names.index(label))
    cameras = [value[None] for value in view_preset("clip2point-10")]
    grey = grey_from_depth(rasterize(data[index]["points"][None], *cameras, image_size=size, point_radius=radius))[0]
    return to_bytes(torch.cat(list(grey), dim=1).numpy()[..., None].repeat(3, axis=-1))


def modelnet(root: Path) -> np.ndarray:
    """Show depth views of three meshes."""
    return np.concatenate([depth_row(root, "modelnet10/off/train", label) for label in ("chair", "sofa", "toilet")])


def shapenet(root: Path) -> np.ndarray:
    """Show rendered views of a textured model above its depth views."""
    azimuth, elevation, distance = (value.numpy() for value in view_preset("clip2point-10"))
    data = open_dataset("shapenet/v2/train", root)
    rows = []
    for label in ("car", "chair"):
        index = data.labels.index(data.class_names.index(label))
        mesh, _ = read_textured_obj(data.folder / data.entries[index].key)
        views = render_views(mesh, azimuth, elevation, 2 * distance, image_size=144, supersample=2).astype(np.float32) / 255
        colour = views[..., :3] * views[..., 3:] + 1 - views[..., 3:]
        rows += [to_bytes(np.concatenate(list(colour), axis=1)), depth_row(root, "shapenet/pc/train", label)]
    return np.concatenate(rows)


def scanobjectnn(root: Path) -> np.ndarray:
    """Show one chair alone, with background, and moved, turned and scaled."""
    return np.concatenate([depth_row(root, f"scanobjectnn/{variant}/train", "chair") for variant in ("obj_only", "obj_bg", "pb_t50_rs")])


def nuscenes(root: Path) -> np.ndarray:
    """Show the six cameras of a key frame with its boxes, and the sweep from above."""
    frames = NuScenesFrames("nuscenes", root=root, variant="v1.0-mini", split="mini_train")
    frame = frames[len(frames) // 2]
    order = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")
    pictures = [np.asarray(Image.fromarray(with_boxes(frame, camera)).resize((400, 225))) for name in order
                for camera in frame.cameras if camera.name == name]
    rows = np.concatenate([np.concatenate(pictures[:3], axis=1), np.concatenate(pictures[3:], axis=1)])
    return np.concatenate([rows, from_above(frame, 450, 40.0)], axis=1)


def sunrgbd(root: Path) -> np.ndarray:
    """Show a picture with its boxes, the depth with its holes, and the points from above."""
    frames = SunRgbdFrames("sunrgbd", root=root, variant="objects10", split="train")
    rows = []
    for frame in (frames[0], frames[len(frames) // 2]):
        camera = frame.cameras[0]
        assert camera.depth is not None
        shade = np.where(camera.depth > 0, 1 - camera.depth / 8, 0)[..., None].repeat(3, axis=-1)
        rows.append(np.concatenate([np.asarray(Image.fromarray(part).resize((400, 300))) for part in (
            with_boxes(frame, camera), to_bytes(shade), from_above(frame, 300, 6.0))], axis=1))
    return np.concatenate(rows)


def proxies(root: Path) -> np.ndarray:
    """Show the boxes of the made-up detector with the points that were lifted for each, in the picture and from above."""
    frames = NuScenesFrames("nuscenes", root=root, variant="v1.0-mini", split="mini_train")
    rooms = SunRgbdFrames("sunrgbd", root=root, variant="objects10", split="train")
    rows = []
    for data, lifting, reach in ((frames, OutdoorLifting(), 40.0), (rooms, IndoorLifting(), 6.0)):
        frame = data[len(data) // 2]
        detector = CocoDetections([str(root / "detections" / f"{data.manifest.name}_boxes.json")], categories="ignored")
        pictures = [Picture(camera.file.relative_to(data.folder).as_posix(), camera.file, camera.width_px, camera.height_px)
                    for camera in frame.cameras]
        found = {camera.name: answer.detections for camera, answer in zip(frame.cameras, detector(pictures), strict=True)}
        lifted = lifting(frame, found).proxies
        camera = max(frame.cameras, key=lambda item: sum(proxy.camera == item.name for proxy in lifted))
        drawn = Image.fromarray(with_proxies(frame, camera, lifted)).resize((800, round(800 * camera.height_px / camera.width_px)))
        above = Image.fromarray(from_above(frame, 450, reach, [proxy.point_index for proxy in lifted])).resize((drawn.height, drawn.height))
        row = np.concatenate([np.asarray(drawn), np.asarray(above)], axis=1)
        rows.append(np.asarray(Image.fromarray(row).resize((1250, round(1250 * row.shape[0] / row.shape[1])))))
    return np.concatenate(rows)


def with_proxies(frame: SceneFrame, camera: Camera, lifted: Sequence[Proxy]) -> np.ndarray:
    """Draw the boxes of one picture and the points of their proxies, each in its own colour; it is drawn at twice its size."""
    picture = Image.fromarray(read_image(camera.file)).resize((2 * camera.width_px, 2 * camera.height_px))
    pen = ImageDraw.Draw(picture)
    for number, proxy in enumerate(lifted):
        if proxy.camera != camera.name:
            continue
        pixels = project_points(transform_points(camera.camera_from_points, frame.points[proxy.point_index]), camera.intrinsics)[0]
        for u, v in (2 * pixels[:: max(1, len(pixels) // 600)]).tolist():
            pen.ellipse([u - 1.5, v - 1.5, u + 1.5, v + 1.5], fill=COLOURS[number % len(COLOURS)])
        pen.rectangle((2 * proxy.box_px).tolist(), outline=COLOURS[number % len(COLOURS)], width=2)
    return np.asarray(picture)


def with_boxes(frame: SceneFrame, camera: Camera) -> np.ndarray:
    """Draw the edges of the annotated boxes into a picture."""
    picture = Image.fromarray(read_image(camera.file))
    pen = ImageDraw.Draw(picture)
    for box in frame.boxes:
        corners = transform_points(camera.camera_from_points, (SIGNS * box.size) @ box.points_from_box.T + box.centre)
        if corners[:, 2].min() < 0.3:
            continue
        pixels = project_points(corners, camera.intrinsics)[0]
        for a, b in EDGES:
            pen.line([*pixels[a].tolist(), *pixels[b].tolist()], fill=(255, 160, 0) if box.label >= 0 else (180, 180, 180), width=1)
    return np.asarray(picture)


def from_above(frame: SceneFrame, size: int, reach: float, groups: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Draw points and boxes of the upright frame from above, `reach` metres to each side (rooms: ahead only), coloured by height, or in grey with
    groups of points in colours of their own.
    """
    upright = frame.points @ frame.upright_from_points.T
    ahead = frame.cameras[0].depth is not None  # y is forward in rooms, x on the street
    shift = np.array([0.0, reach]) if ahead else np.zeros(2)

    def pixels(points: np.ndarray) -> np.ndarray:
        flat = points[:, :2] - shift if ahead else np.stack([-points[:, 1], points[:, 0]], axis=1)
        return np.stack([(flat[:, 0] / reach + 1) * size / 2, (1 - flat[:, 1] / reach) * size / 2], axis=1)

    canvas = np.full((size, size, 3), 255, dtype=np.uint8)
    place = np.floor(pixels(upright)).astype(int)
    inside = (place >= 0).all(axis=1) & (place < size).all(axis=1)
    low, high = np.quantile(upright[inside, 2], [0.02, 0.98])
    height = ((upright[inside, 2] - low) / max(high - low, 1e-6)).clip(0, 1)
    canvas[place[inside, 1], place[inside, 0]] = np.stack([40 + 200 * height, 60 + 60 * height, 220 - 200 * height], axis=1).astype(np.uint8)
    if groups:
        canvas[(canvas != 255).any(axis=-1)] = 205
    for number, group in enumerate(groups):
        own = place[group][inside[group]]
        canvas[own[:, 1], own[:, 0]] = COLOURS[number % len(COLOURS)]
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for box in frame.boxes:
        corners = ((SIGNS * box.size) @ box.points_from_box.T + box.centre) @ frame.upright_from_points.T
        flat = pixels(corners)
        for a, b in EDGES:
            pen.line([*flat[a].tolist(), *flat[b].tolist()], fill=(0, 0, 0) if box.label >= 0 else (170, 170, 170))
    return np.asarray(picture)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Turn [0, 1] into uint8."""
    return (np.clip(values, 0, 1) * 255).round().astype(np.uint8)


if __name__ == "__main__":
    main()
