"""A depth camera's flaws: noise that grows with the distance, steps, shadows of the projector, holes. Also the filled map. Cheap on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHORTEST = 0.35  # metres; ours: nearer surfaces give no reading
FILL_RUN = 0.1  # of the width; ours: shorter gaps in a row take the depth of one of their two ends

Map = NDArray[np.float32]


@dataclass(frozen=True)
class DepthSensor:
    """How a depth camera measures. All ours, close to what the literature says of such cameras; compared with a real frame in docs/data.md.

    noise: standard deviation at 1 m, metres; grows with the square of the distance. step: of the inverse depth, 1/m: at 1 m the depth has
    steps of that many metres; 0 for millimetre steps only. baseline: between projector and camera, metres, positive if the shadows fall to
    the left of things. farthest: metres. weakness: how easily a reading fails. margin: largest share of the width without readings at
    the right edge, where the two cameras do not see the same.
    """

    noise: float = 0.0015
    step: float = 0.00285
    baseline: float = 0.075
    farthest: float = 8.0
    weakness: float = 0.0
    margin: float = 0.04


def measure(depth: Map, brightness: Map, incidence: Map, glassy: NDArray[np.bool_], focal_px: float, sensor: DepthSensor,
            rng: np.random.Generator) -> Map:
    """Turn true depth into what the sensor reports.

    Args:
        depth: (H, W) metres along z, 0 for nothing.
        brightness: (H, W) of the surface in [0, 1].
        incidence: (H, W) cosine between ray and surface.
        glassy: (H, W) surfaces that throw no pattern back.
        focal_px: Focal length.
        sensor: Its flaws.
        rng: Source of the noise.

    Returns:
        (H, W) metres, 0 where there is no reading.
    """
    seen = (depth > SHORTEST) & (depth <= sensor.farthest)
    safe = np.where(seen, depth, 1.0).astype(np.float32)
    shape = (int(depth.shape[0]), int(depth.shape[1]))
    noise = 0.2 * rng.standard_normal(shape, dtype=np.float32) + 0.98 * _blotches(shape, 5, rng)  # variances add up to 1; neighbours err alike
    measured = safe + sensor.noise * safe**2 * noise
    if sensor.step:
        measured = 1 / (np.round(1 / measured / sensor.step).clip(1) * sensor.step)
    measured = measured.clip(SHORTEST, sensor.farthest).round(3)
    trouble = 3.4 * ((0.3 - brightness) / 0.18).clip(0, 1) + 3.0 * ((0.35 - incidence) / 0.28).clip(0, 1) + 4.5 * glassy
    trouble += 2.0 * ((safe / sensor.farthest - 0.6) / 0.4).clip(0, 1) + 2.9 * _edges(safe)
    luck = 0.75 * _blotches(shape, shape[1] // 28 + 1, rng) + 0.5 * _blotches(shape, 3, rng) + 0.44 * rng.standard_normal(shape, dtype=np.float32)
    lost = luck > max(2.0 - sensor.weakness + 0.4 * rng.standard_normal(), 1.0) - trouble
    valid = seen & ~lost & ~_shadow(safe, focal_px, sensor.baseline)
    valid[:, shape[1] - int(rng.uniform(0, sensor.margin) * shape[1]):] = False
    return np.where(valid, measured, 0).astype(np.float32)


def _blotches(shape: tuple[int, int], cell: int, rng: np.random.Generator) -> Map:
    """Draw smooth noise with spots of about `cell` pixels, mean 0, deviation 1."""
    coarse = rng.standard_normal((shape[0] // cell + 2, shape[1] // cell + 2), dtype=np.float32)
    fine = np.asarray(Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
    return (fine / max(float(fine.std()), 1e-6)).astype(np.float32)


def _edges(depth: Map) -> NDArray[np.bool_]:
    """Mark pixels where the depth jumps to a neighbour."""
    limit = 0.05 + 0.03 * depth
    edge = np.zeros(depth.shape, dtype=bool)
    across, down = np.abs(np.diff(depth, axis=1)) > limit[:, 1:], np.abs(np.diff(depth, axis=0)) > limit[1:]
    for near in (slice(1, None), slice(None, -1)):
        edge[:, near] |= across
        edge[near] |= down
    return edge


def _shadow(depth: Map, focal_px: float, baseline: float) -> NDArray[np.bool_]:
    """Mark what the camera sees and the projector beside it does not: in the projector's picture it lies behind what came before."""
    if baseline < 0:
        return _shadow(depth[:, ::-1], focal_px, -baseline)[:, ::-1]
    column = np.arange(depth.shape[1], dtype=np.float32)
    lit = (column - focal_px * baseline / depth)[:, ::-1]  # column at which a projector to the right shows it; falls from right to left
    before = np.minimum.accumulate(lit, axis=1)
    hidden = np.zeros(depth.shape, dtype=bool)
    hidden[:, 1:] = lit[:, 1:] > before[:, :-1]
    return hidden[:, ::-1]


def fill_holes(depth: Map, rgb: NDArray[np.uint8]) -> Map:
    """Fill holes (0): short gaps of a row from the end whose colour is the more alike, the rest from coarser and coarser averages.

    Args:
        depth: (H, W) metres.
        rgb: (H, W, 3), same camera.

    Returns:
        (H, W) metres, above 0 everywhere; where nothing was measured at all, `SHORTEST`.
    """
    return _fill_coarse(_fill_rows(depth, rgb.astype(np.float32), int(FILL_RUN * depth.shape[1])))


def _fill_rows(depth: Map, rgb: Map, longest: int) -> Map:
    width = int(depth.shape[1])
    column = np.broadcast_to(np.arange(width), depth.shape)
    valid = depth > 0
    left = np.maximum.accumulate(np.where(valid, column, -1), axis=1)
    right = np.minimum.accumulate(np.where(valid, column, width)[:, ::-1], axis=1)[:, ::-1]
    row, gap = np.nonzero(~valid & (left >= 0) & (right < width) & (right - left <= longest + 1))
    ends = np.stack([left[row, gap], right[row, gap]])
    difference = np.abs(rgb[row, ends] - rgb[row, gap]).sum(axis=-1)
    filled = depth.copy()
    filled[row, gap] = depth[row, ends[difference.argmin(axis=0), np.arange(len(row))]]
    return filled


def _fill_coarse(depth: Map) -> Map:
    valid = depth > 0
    if valid.all():
        return depth
    if min(depth.shape) < 2:
        return np.where(valid, depth, depth[valid].mean() if valid.any() else SHORTEST).astype(np.float32)
    height, width = depth.shape
    padded = np.pad(depth, ((0, height % 2), (0, width % 2)))
    blocks = padded.reshape(padded.shape[0] // 2, 2, -1, 2)
    count = (blocks > 0).sum(axis=(1, 3))
    coarse = _fill_coarse((blocks.sum(axis=(1, 3)) / np.maximum(count, 1)).astype(np.float32))
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
    return np.where(valid, depth, smooth).astype(np.float32)


def depth_codes(depth: Map) -> NDArray[np.uint16]:
    """Encode metres as SUN RGB-D does: millimetres, their 16 bits turned left by three."""
    millimetres = np.round(depth * 1000).astype(np.uint16)
    return ((millimetres << 3) | (millimetres >> 13)).astype(np.uint16)
