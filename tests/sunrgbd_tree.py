"""A small SUN RGB-D in the official layout, and slow twins of the official toolbox. For tests."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

B3DO = "SUNRGBD/kv1/b3dodata/img_0001"
HALL_1 = "SUNRGBD/xtion/sun3ddata/grüne halle/scan_1/0000001-000000000000"
HALL_2 = "SUNRGBD/xtion/sun3ddata/grüne halle/scan_2/0000009-000000012345"
KINECT = "SUNRGBD/kv2/kinect2data/000002_2014-05-26_14-23-37_260595134347_rgbf000103-resize"
TRAIN, TEST = [B3DO, HALL_1, HALL_2], [KINECT]
WIDTH, HEIGHT = 48, 36
TILT = np.array([[1, 0, 0], [0, math.cos(0.3), -math.sin(0.3)], [0, math.sin(0.3), math.cos(0.3)]])
INTRINSICS = np.array([[40.0, 0, 23.5], [0, 42.0, 17.5], [0, 0, 1]])
CHAIR = {"name": "chair:truncated", "polygon": [{"Ymin": -0.3, "Ymax": 5.0, "rectangle": True, "X": [-0.5, 0.5, 0.5, -0.5], "Z": [0, 0, 9, 9]}]}


def polygon(x: list[float], z: list[float], low: float = -5.0, high: float = 5.0) -> dict[str, Any]:
    return {"Ymin": low, "Ymax": high, "rectangle": True, "X": x, "Z": z}


OBJECTS: list[Any] = [
    None,
    CHAIR,
    {"name": " Night_stand ", "polygon": [polygon([0.5, 0.9, 0.9, 0.5], [0, 0, 9, 9]), polygon([0, 1, 1, 0], [0, 0, 1, 1])]},
    {"name": "desk", "polygon": [polygon([0, 1, 1, 0], [1, 1, 1, 1])]},  # no depth
    {"name": "desk", "polygon": [polygon([0, 1, 1, 0], [1, 1, 2, 2], 1.0, 1.0)]},  # no height
    {"name": "desk", "polygon": []},
    {"name": "desk", "polygon": [polygon([0, float("nan"), 1, 0], [1, 1, 2, 2])]},
    {"name": "bed", "polygon": [polygon([30, 31, 31, 30], [1, 1, 2, 2])]},  # beside the picture: no points
    {"name": "wall", "polygon": [polygon([-9, 9, 9, -9], [0, 0, 9, 9])]},
    {"name": "monkey_:occluded", "polygon": [polygon([-1, 1, 1, -1], [0, 0, 9, 9])]},
    {"name": "tv", "polygon": [polygon([-0.9, -0.5, -0.5, -0.7, -0.9], [0, 0, 9, 9.5, 9])]},  # five corners
]


def codes_of(depth: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Store metres as the files do: millimetres, their bits turned by three."""
    millimetres = np.round(depth * 1000).astype(np.uint16)
    return (millimetres << 3) | (millimetres >> 13)


def write_frame(folder: Path, depth: NDArray[np.float64], *, objects: list[Any] | None = None, tilt: NDArray[np.float64] = TILT) -> None:
    name = folder.name[:7]
    filled = np.where(depth == 0, 3.0, depth)
    for part, values in (("depth", depth), ("depth_bfx", filled)):
        (folder / part).mkdir(parents=True)
        Image.fromarray(codes_of(values)).save(folder / part / f"{name}_abs.png")
    for part in ("image", "extrinsics", "annotation3Dfinal", "annotation2D3D", "annotation2Dfinal"):
        (folder / part).mkdir()
    Image.fromarray(np.full((*depth.shape, 3), 90, np.uint8)).save(folder / "image" / f"{name}.jpg")
    (folder / "intrinsics.txt").write_text("\n".join(" ".join(f"{value:.6f}" for value in row) for row in INTRINSICS) + " ")
    for file, rotation in (("20140101000000.txt", np.eye(3)), ("20150101000000.txt", tilt)):
        (folder / "extrinsics" / file).write_text("\n".join(" ".join(f"{value:.6f}" for value in (*row, 0)) for row in rotation))
    write_json(folder / "annotation3Dfinal", {"frames": [{}], "objects": OBJECTS if objects is None else objects})
    outlines = [{"x": [-3, -3, 20.5, 20.5], "y": [4, 50, 50, 4], "object": 0, "rect": 1}, {"x": [60, 70], "y": [1, 2], "object": 1},
                {"x": [1, 2], "y": [1, 2], "object": 7}]
    write_json(folder / "annotation2D3D", {"frames": [{"polygon": outlines}], "objects": [{"name": "chair:truncated"}, {"name": "desk"}]})
    write_json(folder / "annotation2Dfinal", {"frames": {"polygon": {"x": [2, 9, 5], "y": [3, 4, 8], "object": 0}}, "objects": {"name": "wall"}})


def write_json(folder: Path, content: object) -> None:
    (folder / "index.json").write_text(json.dumps(content))


def scene_depth(seed: int) -> NDArray[np.float64]:
    """A rough wall with holes and some pixels beyond 8 m."""
    rng = np.random.default_rng(seed)
    depth = 2 + rng.random((HEIGHT, WIDTH))
    depth[rng.random(depth.shape) < 0.2] = 0
    depth[0, :5] = 9.5
    return depth


def write_tree(folder: Path) -> None:
    """Write frames of three sensors and both lists, in another order than the sorted one."""
    for seed, token in enumerate(TRAIN + TEST):
        write_frame(folder / token, scene_depth(seed))
    for file, tokens in (("sunrgbd_training_images.txt", TRAIN), ("sunrgbd_testing_images.txt", TEST)):
        (folder / file).write_text("".join(f"{token}//image/{token[-7:]}.jpg\n" for token in reversed(tokens)), encoding="utf-8")


def truncate(path: Path) -> None:
    """Cut a file off."""
    path.write_bytes(path.read_bytes()[:60])


def toolbox_points(depth: NDArray[np.floating[Any]], intrinsics: NDArray[np.float64], tilt: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lift the depth the way of read3dPoints.m, one pixel after the other, counted from 1: Rtilt * (x, z, -y)."""
    before, after = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]), np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    turn = before @ tilt @ after
    points = []
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            z = float(depth[row, column])
            if 0 < z <= 8:
                x, y = (column + 1 - intrinsics[0, 2]) * z / intrinsics[0, 0], (row + 1 - intrinsics[1, 2]) * z / intrinsics[1, 1]
                points.append(turn @ [x, z, -y])
    return np.array(points)


def toolbox_mask(points: NDArray[np.float64], drawn: dict[str, Any]) -> NDArray[np.bool_]:
    """Select the points in a drawn rectangle the way of readframeSUNRGBD.m: centre of two corners, basis of two sides."""
    corners = np.array([drawn["X"], drawn["Z"]]).T
    sides = np.diff(corners[:3], axis=0)
    half = np.linalg.norm(sides, axis=1) / 2
    along = (points[:, :2] - (corners[0] + corners[2]) / 2) @ (sides / (2 * half[:, None])).T
    return (np.abs(along) <= half).all(axis=1) & (points[:, 2] >= -drawn["Ymax"]) & (points[:, 2] <= -drawn["Ymin"])
