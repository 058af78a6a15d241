"""LiDAR files of nuScenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import BadFileError, DataNotFoundError

Sweep = NDArray[np.float32]

VALUES_PER_POINT = 5  # x, y, z, intensity, ring: nuscenes-devkit, LidarPointCloud.from_file
BYTES_PER_POINT = 4 * VALUES_PER_POINT
LARGEST_RING = 255  # ours: no LiDAR has more beams; files of another type or width give fractions and large numbers here
NEAR_EGO_X, NEAR_EGO_Y = 1.5, 2.5
"""Metres. Ours: where sweeps are collected, points with |x| and |y| below these in their own LiDAR frame (y to the front) are of the car itself.
The devkit drops |x| and |y| below 1 m."""


def read_sweep(path: Path) -> Sweep:
    """Read a LiDAR file of nuScenes.

    Returns:
        (N, 5) float32: x, y, z in metres, intensity 0 to 255, ring number; N at least 1.

    Raises:
        DataNotFoundError: If there is no such file.
        BadFileError: If it is empty, not a whole number of points, or holds values that are not finite or ring numbers that are none.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataNotFoundError(f"{path} does not exist.") from None
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror}).") from error
    if not content or len(content) % BYTES_PER_POINT:
        raise BadFileError(f"{path}: {len(content):,} bytes are no whole number of points of {BYTES_PER_POINT} bytes "
                           "(float32 x, y, z, intensity, ring); get the file again.")
    values = np.frombuffer(content, dtype="<f4").reshape(-1, VALUES_PER_POINT).astype(np.float32)
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        raise BadFileError(f"{path}: {len(broken):,} of {len(values):,} points hold NaN or infinite values, first point {broken[0]}; "
                           "get the file again.")
    rings = values[:, 4]
    odd = np.flatnonzero((rings != np.floor(rings)) | (rings < 0) | (rings > LARGEST_RING))
    if len(odd):
        raise BadFileError(f"{path}: ring number {rings[odd[0]]:g} of point {odd[0]}; it must be a whole number from 0 to {LARGEST_RING}: the file "
                           "does not hold float32 x, y, z, intensity, ring; get it again.")
    return values


def away_from_ego(values: Sweep) -> Sweep:
    """Drop the points on the car that carries the sensor."""
    near = (np.abs(values[:, 0]) < NEAR_EGO_X) & (np.abs(values[:, 1]) < NEAR_EGO_Y)
    return values[~near]


def with_lag(values: Sweep, seconds: float) -> Sweep:
    """Add a column that says how much earlier the sweep was taken."""
    return np.column_stack([values, np.full(len(values), seconds, dtype=np.float32)])
