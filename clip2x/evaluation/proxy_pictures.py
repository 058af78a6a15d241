"""Pictures of triplets for people: the points from two sides, the crop in a small size."""

from __future__ import annotations

import base64
import math
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from clip2x.data.images import read_image
from clip2x.density import density_radius
from clip2x.depth import rasterize

SIZE_PX = 150  # of a picture's side
SIDE_VIEW_DEG, ABOVE_DEG = 75.0, 25.0  # the second view: from the side and above, where background behind an object shows. Ours
LARGEST_SPLAT = 0.09  # of half a picture's side; ours: single returns stay visible
PANEL: NDArray[np.float64] = np.array([20.0, 24.0, 31.0])  # the same dark ground in light and dark pages
FAR_TO_NEAR: NDArray[np.float64] = np.array([[65, 90, 150], [33, 145, 140], [94, 201, 98], [253, 231, 37]], dtype=np.float64)
"""Colours of depth, from matplotlib's viridis (its darkest part is left out), which people with any colour vision can order."""


def point_views(points: NDArray[np.float32]) -> tuple[bytes, bytes]:
    """Draw the points of a triplet as the sensor sees them, and from the side and above; PNG, near points bright.

    Args:
        points: (N, 3), y up, the sensor at the origin, as stored.
    """
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    middle = (low + high) / 2
    centred = points - middle
    largest = float(np.linalg.norm(centred, axis=1).max())
    cloud = torch.from_numpy((centred / (largest or 1.0)).astype(np.float32))[None]
    towards_sensor_deg = math.degrees(math.atan2(-middle[0], -middle[2]))
    azimuth = torch.tensor([[towards_sensor_deg, towards_sensor_deg + SIDE_VIEW_DEG]])
    depth = rasterize(cloud, azimuth, torch.tensor([[0.0, ABOVE_DEG]]), torch.full((1, 2), 1.05), image_size=SIZE_PX,
                      point_radius=density_radius(cloud, most=LARGEST_SPLAT))
    front, side = (_png(view) for view in depth[0].numpy())
    return front, side


def thumbnail(crop: bytes, where: str) -> bytes:
    """Scale a crop to the size of the other pictures, its sides in proportion; JPEG.

    Raises:
        BadFileError: If it is no whole picture; names `where`.
    """
    picture = Image.fromarray(read_image(Path(where), crop))
    picture.thumbnail((SIZE_PX * 2, SIZE_PX * 2))
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def data_address(content: bytes, kind: str) -> str:
    """Write a picture (`png`, `jpeg`) as an address that holds all of it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _png(depth: NDArray[np.float32]) -> bytes:
    """Colour a depth view; what no point covers stays empty."""
    covered = depth >= 0
    picture = np.broadcast_to(PANEL, (*depth.shape, 3)).copy()
    if covered.any():
        low, high = depth[covered].min(), depth[covered].max()
        nearness = 1 - (depth[covered] - low) / max(high - low, 1e-6)
        stops = np.linspace(0, 1, len(FAR_TO_NEAR))
        picture[covered] = np.stack([np.interp(nearness, stops, channel) for channel in FAR_TO_NEAR.T], axis=-1)
    stream = BytesIO()
    Image.fromarray(picture.round().astype(np.uint8)).quantize(64).save(stream, "PNG", optimize=True)
    return stream.getvalue()
