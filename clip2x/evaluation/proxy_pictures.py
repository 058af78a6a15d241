"""Pictures of triplets and clouds for people: the points from one or two sides, the crop in a small size."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clip2x.data.images import read_image
from clip2x.density import density_radius
from clip2x.depth import rasterize
from clip2x.errors import BadFileError
from clip2x.types import Triplet

SIZE_PX = 150  # of a picture's side
LINE_PX = 18  # height of a line of text
SIDE_VIEW_DEG, ABOVE_DEG = 75.0, 25.0  # the second view: from the side and above, where background behind an object shows. Ours
CLOUD_VIEW_DEG = (35.0, 20.0)  # azimuth and elevation of the picture of a cloud that no sensor belongs to: three sides of a box show. Ours
LARGEST_SPLAT = 0.09  # of half a picture's side; ours: single returns stay visible
PANEL: NDArray[np.float64] = np.array([20.0, 24.0, 31.0])  # the same dark ground in light and dark pages
FAR_TO_NEAR: NDArray[np.float64] = np.array([[65, 90, 150], [33, 145, 140], [94, 201, 98], [253, 231, 37]], dtype=np.float64)
"""Colours of depth, from matplotlib's viridis (its darkest part is left out), which people with any colour vision can order."""
SHADES = 63  # of depth


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


def cloud_picture(points: NDArray[np.float32]) -> bytes:
    """Draw a cloud from the side and above; PNG, near points bright.

    Args:
        points: (N, 3), y up, in the unit sphere.
    """
    cloud = torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32))[None]
    azimuth, elevation = (torch.tensor([[angle]]) for angle in CLOUD_VIEW_DEG)
    depth = rasterize(cloud, azimuth, elevation, torch.full((1, 1), 1.05), image_size=SIZE_PX,
                      point_radius=density_radius(cloud, most=LARGEST_SPLAT))
    return _png(depth[0, 0].numpy())


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


def triplet_sheet(triplets: Sequence[tuple[str, Triplet]]) -> NDArray[np.uint8]:
    """Lay out triplets for TensorBoard, a column each: text, crop (where there is a whole one), both views of the points; (H, W, 3)."""
    sheet = Image.new("RGB", (SIZE_PX * max(len(triplets), 1), LINE_PX + 3 * SIZE_PX), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, (name, triplet) in enumerate(triplets):
        left = place * SIZE_PX
        pen.text((left + 2, 1), name[:20], fill="black", font=font)
        with suppress(BadFileError):
            crop = Image.open(BytesIO(thumbnail(triplet.crop or b"", name)))
            crop.thumbnail((SIZE_PX, SIZE_PX))
            sheet.paste(crop, (left, LINE_PX))
        for row, view in enumerate(point_views(triplet.points), start=1):
            sheet.paste(Image.open(BytesIO(view)).convert("RGB"), (left, LINE_PX + row * SIZE_PX))
    return np.asarray(sheet)


def data_address(content: bytes, kind: str) -> str:
    """Write a picture (`png`, `jpeg`) as an address that holds all of it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _png(depth: NDArray[np.float32]) -> bytes:
    """Colour a depth view; what no point covers stays empty."""
    covered = depth >= 0
    shade = np.zeros(depth.shape, dtype=np.uint8)
    if covered.any():
        low, high = depth[covered].min(), depth[covered].max()
        shade[covered] = 1 + np.rint((1 - (depth[covered] - low) / max(high - low, 1e-6)) * (SHADES - 1))
    picture, stream = Image.fromarray(shade), BytesIO()
    picture.putpalette(_palette())
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _palette() -> bytes:
    """List the colours: the ground, then the shades from far to near."""
    stops, places = np.linspace(0, 1, len(FAR_TO_NEAR)), np.linspace(0, 1, SHADES)
    ramp = np.stack([np.interp(places, stops, channel) for channel in FAR_TO_NEAR.T], axis=-1)
    return bytes(np.rint(np.concatenate([PANEL[None], ramp])).astype(np.uint8))
