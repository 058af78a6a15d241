"""Cut an RGB-D picture into surfaces: floor, walls, and pieces that hang together. GrabCut as another way to tell what a box holds.

All of it is ours: CLIP2 removes the background of a box "with an unsupervised segmentation" and does not say which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from clip2x.errors import MissingDependencyError

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

# All ours, tried on the training rooms of the mini-world; the figures hardly move when one is changed by a third.
NORMAL_SIGMA_PX = 2.0  # of the Gaussian under which the slope of the inverse depth is taken, in a picture of about 300 pixels across
NOISE = 0.004  # metres; how much margins grow at 1 m, with the square of the depth (two to three deviations of a depth camera's noise)
LEVEL = 0.02  # metres; step of the histogram of heights
LEAST_FLOOR = 200  # pixels
FLOOR_SHARE = 0.25  # of the strongest horizontal layer's pixels, which the floor, the lowest such layer, must have
FLOOR_FACING, NEARLY_UP = 0.95, 0.8  # upward part of the normals that find the floor (within 18 degrees), and of those that belong to it
MOST_WALLS = 4
WALL_STEP = 0.05  # metres; step of the histogram of distances
WALL_FACING = 0.25  # largest upward part of the normals that find a wall (within 14 degrees)
DIRECTIONS = 72  # of walls in a full turn
SAME_WALL, NEARLY_WALL = 0.97, 0.8  # cosine of the angle to a wall's direction: of pixels that find it, of those that belong to it
BEHIND_SHARE = 0.03  # of all pixels may lie behind a wall: noise, a window, an open door


@dataclass(frozen=True)
class Surfaces:
    """What an RGB-D picture shows, pixel by pixel; zeros where there is no depth.

    valid: (H, W) where there is depth. depth: (H, W), metres along z. points: (H, W, 3), metres, upright: x right, y forward, z up.
    normals: (H, W, 3), unit length, upright, on the camera's side of the surface.
    """

    valid: Mask
    depth: Map
    points: Map
    normals: Map


@dataclass(frozen=True)
class Segments:
    """Pieces of a picture: `label` (H, W) int32, -1 where there is no depth; labels from `first_plane` on are the floor and walls."""

    label: NDArray[np.int32]
    first_plane: int
    count: int


def look_at(depth: Map, intrinsics: NDArray[np.float64], upright_from_camera: NDArray[np.float64]) -> Surfaces:
    """Find the points and the normals of a depth picture.

    A plane's inverse depth is linear in the picture, 1/z = a u + b v + c, and depth cameras err in it alike at all distances; so the normal is
    K^T (a, b, c), with the slopes a, b of the inverse depth under a Gaussian. Across edges it is a mixture.

    Args:
        depth: (H, W), metres, 0 where there is none.
        intrinsics: (3, 3), pixels; the centre of the first pixel is (0, 0).
        upright_from_camera: (3, 3) rotation to x right, y forward, z up.
    """
    valid = depth > 0
    inverse = np.divide(1, depth, out=np.zeros_like(depth), where=valid)
    around = _gaussian(inverse) / np.maximum(_gaussian(valid.astype(np.float32)), np.float32(1e-3))
    smooth = _gaussian(np.where(valid, inverse, around))
    down, across = np.gradient(smooth)
    focal_u, focal_v, centre_u, centre_v = (np.float32(intrinsics[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    column = np.arange(depth.shape[1], dtype=np.float32) - centre_u
    row = (np.arange(depth.shape[0], dtype=np.float32) - centre_v)[:, None]
    upright = upright_from_camera.T.astype(np.float32)
    points = np.stack([column * depth / focal_u, row * depth / focal_v, depth], axis=-1) @ upright
    normals = -np.stack([across * focal_u, down * focal_v, smooth - across * column - down * row], axis=-1) @ upright
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
    return Surfaces(valid, depth, points, normals)


def segment(surfaces: Surfaces, *, jump: float, jump_share: float, facing_up: float, floor_margin: float, wall_margin: float,
            wall_share: float) -> Segments:
    """Cut a picture into the floor, walls and pieces of everything else.

    Neighbouring pixels belong to one piece if their depths differ by less than `jump + jump_share * z` and both or neither face up: what stands on
    a table is thereby cut off from its top. A piece may be part of an object or hold several.

    Args:
        surfaces: Of the picture.
        jump: Metres.
        jump_share: Of the depth.
        facing_up: Upward part of a normal that faces up.
        floor_margin: How far above the floor its pixels may lie, metres; grows with the depth's noise.
        wall_margin: The same in front of a wall.
        wall_share: Of the pixels with depth that a wall has at least; 1 for no walls.
    """
    plane = _planes(surfaces, floor_margin, wall_margin, wall_share)
    depth, up = surfaces.depth, surfaces.normals[..., 2] > facing_up
    limit = jump + jump_share * depth
    across = (np.abs(np.diff(depth, axis=1)) < limit[:, 1:]) & (up[:, 1:] == up[:, :-1])
    down = (np.abs(np.diff(depth, axis=0)) < limit[1:]) & (up[1:] == up[:-1])
    label, count = joined_pixels(surfaces.valid & (plane < 0), across, down)
    label = np.where(plane >= 0, count + plane, label)
    return Segments(label, count, count + int(plane.max(initial=-1)) + 1)


def joined_pixels(use: Mask, across: Mask, down: Mask) -> tuple[NDArray[np.int32], int]:
    """Number the pieces of a picture whose pixels hang together.

    Args:
        use: (H, W) pixels that belong to any piece.
        across: (H, W - 1) whether a pixel is joined to the one on its right.
        down: (H - 1, W) whether it is joined to the one below.

    Returns:
        Labels (H, W), -1 outside of `use`, numbered from 0 in the order of their first pixels; their number.
    """
    number = np.cumsum(use).reshape(use.shape) - 1
    right, below = across & use[:, 1:] & use[:, :-1], down & use[1:] & use[:-1]
    first = np.concatenate([number[:, :-1][right], number[:-1][below]])
    second = np.concatenate([number[:, 1:][right], number[1:][below]])
    total = int(use.sum())
    label = np.full(use.shape, -1, dtype=np.int32)
    if total:
        count, label[use] = connected_components(coo_matrix((np.ones(len(first), dtype=bool), (first, second)), shape=(total, total)), directed=False)
        return label, int(count)
    return label, 0


def grabcut(picture: NDArray[np.uint8], box: tuple[int, int, int, int], *, steps: int = 5, surround: float = 0.25) -> Mask:
    """Tell object from background inside a box by colour (GrabCut: Rother et al., 2004).

    Args:
        picture: (H, W, 3) RGB.
        box: Left, top, right, bottom, pixels.
        steps: Rounds of the fit.
        surround: How much of the picture around the box shows what the background looks like, as a share of the box's sides.

    Returns:
        Mask of the box.

    Raises:
        MissingDependencyError: If OpenCV is not installed.
    """
    cv2 = opencv()
    left, top, right, bottom = box
    wide, high = int(surround * (right - left)) + 2, int(surround * (bottom - top)) + 2
    x, y = max(left - wide, 0), max(top - high, 0)
    part = np.ascontiguousarray(picture[y : bottom + high, x : right + wide, ::-1])
    state = np.full(part.shape[:2], cv2.GC_BGD, dtype=np.uint8)
    inside = (slice(top - y, bottom - y), slice(left - x, right - x))
    state[inside] = cv2.GC_PR_FGD
    if (state == cv2.GC_PR_FGD).all():  # nothing around the box to learn the background from
        return np.ones((bottom - top, right - left), dtype=bool)
    cv2.setRNGSeed(0)
    cv2.grabCut(part, state, None, np.zeros((1, 65)), np.zeros((1, 65)), steps, cv2.GC_INIT_WITH_MASK)
    found: Mask = np.isin(state[inside], (cv2.GC_FGD, cv2.GC_PR_FGD))
    return found


def opencv() -> ModuleType:
    """Import OpenCV, which only GrabCut needs.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError(f"GrabCut needs OpenCV, which cannot be imported ({error}); pip install clip2x[detect], "
                                     "or leave background at 'segments'.") from error
    module: ModuleType = cv2
    return module


def _planes(surfaces: Surfaces, floor_margin: float, wall_margin: float, wall_share: float) -> NDArray[np.int32]:
    """Number the pixels of the floor and the walls (H, W), -1 for the rest."""
    noise: Map = (NOISE * surfaces.depth**2).astype(np.float32)
    plane = np.full(surfaces.depth.shape, -1, dtype=np.int32)
    floor = _floor(surfaces, floor_margin + noise, LEVEL + noise / np.float32(2))
    plane[floor] = 0
    for number, wall in enumerate(_walls(surfaces, surfaces.valid & ~floor, wall_margin + noise, wall_share), start=int(floor.any())):
        plane[wall & (plane < 0)] = number
    return plane


def _floor(surfaces: Surfaces, margin: Map, closest: Map) -> Mask:
    """Find the floor, the lowest dominant horizontal layer, and what lies below: up to `margin` above it what faces up, else up to `closest`."""
    height, up = surfaces.points[..., 2], surfaces.normals[..., 2]
    level = height[surfaces.valid & (up > FLOOR_FACING)]
    if len(level) < LEAST_FLOOR:
        return np.zeros_like(surfaces.valid)
    counts, start = _layers(level, LEVEL)
    lowest = int(np.argmax(counts >= max(LEAST_FLOOR, FLOOR_SHARE * counts.max())))
    while lowest + 1 < len(counts) and counts[lowest + 1] > counts[lowest]:
        lowest += 1
    above = height - _middle(level, start + (lowest + 0.5) * LEVEL, LEVEL)
    return surfaces.valid & (above < margin) & ((up > NEARLY_UP) | (above < closest))


def _walls(surfaces: Surfaces, use: Mask, margin: Map, share: float) -> Iterator[Mask]:
    """Find walls, large upright planes with next to nothing behind them, and what lies behind; the direction with the most pixels first."""
    points, normals, total = surfaces.points, surfaces.normals, int(surfaces.valid.sum())
    facing = np.arctan2(normals[..., 1], normals[..., 0])
    rest = use & (np.abs(normals[..., 2]) < WALL_FACING)
    for _ in range(MOST_WALLS):
        if share >= 1 or rest.sum() < max(share * total, 1):
            return
        turns = np.histogram(facing[rest], DIRECTIONS, (-np.pi, np.pi))[0]
        best = int((turns + np.roll(turns, 1) + np.roll(turns, -1)).argmax())
        alike = rest & (np.cos(facing - ((best + 0.5) / DIRECTIONS * 2 - 1) * np.pi) > SAME_WALL)
        azimuth = np.arctan2(np.sin(facing[alike]).mean(), np.cos(facing[alike]).mean())
        towards = points[..., 0] * np.float32(np.cos(azimuth)) + points[..., 1] * np.float32(np.sin(azimuth))
        counts, start = _layers(towards[alike], WALL_STEP)
        before = towards - _middle(towards[alike], start + (counts.argmax() + 0.5) * WALL_STEP, WALL_STEP)
        near = np.abs(before) < margin
        behind = int((surfaces.valid & (before < -3 * margin)).sum())
        if (alike & near).sum() >= share * total and behind < BEHIND_SHARE * total:
            yield surfaces.valid & ((before < margin) & (np.cos(facing - azimuth) > NEARLY_WALL) | (before < 0.3 * margin))
        rest = rest & ~(alike & (np.abs(before) < 2 * margin))


def _layers(values: NDArray[np.floating[Any]], step: float) -> tuple[NDArray[np.int64], float]:
    """Count values in steps, each with its two neighbours; also where the first step starts."""
    start = (np.floor(float(values.min()) / step) - 1) * step
    counts = np.bincount(((values - start) / step).astype(np.int64))
    return np.convolve(counts, np.ones(3, dtype=np.int64), mode="same"), start


def _middle(values: NDArray[np.floating[Any]], about: float, step: float) -> float:
    """Take the median of the values within two and a half steps, or `about` where there are none."""
    near = values[np.abs(values - about) < 2.5 * step]
    return float(np.median(near)) if len(near) else about


def _gaussian(values: Map) -> Map:
    result: Map = ndimage.gaussian_filter(values, NORMAL_SIGMA_PX, truncate=2.5, mode="nearest")
    return result
