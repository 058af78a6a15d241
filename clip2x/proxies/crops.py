"""Cut boxes out of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip2x.errors import InputError


@dataclass(frozen=True)
class Cropping:
    """How the picture of a triplet is cut out and kept. All ours, but the raw box (third party: UniGS).

    margin: Added on each side, as a share of the box's width or height.
    longest_px: Longer sides are scaled down to this (no CLIP takes more than 336 or 448 pixels).
    quality: Of the JPEG.
    """

    margin: float = 0.0
    longest_px: int = 512
    quality: int = 90

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 1 or self.longest_px < 16 or not 1 <= self.quality <= 100:
            raise InputError("cropping needs margin from 0 to 1, longest_px of at least 16 and quality from 1 to 100, got "
                             f"{self.margin:g}, {self.longest_px}, {self.quality}.")


def cut(picture: NDArray[np.uint8], box_px: NDArray[np.floating[Any]], margin: float = 0.0) -> NDArray[np.uint8]:
    """Cut a box out of a picture (H, W, 3): whole pixels that it touches, at least one.

    Args:
        picture: The picture.
        box_px: (4,) left, top, right, bottom.
        margin: Added on each side as a share of the box's width or height, as far as the picture goes.
    """
    height_px, width_px, _ = picture.shape
    left, top, right, bottom = np.asarray(box_px, dtype=np.float64)
    across, down = margin * (right - left), margin * (bottom - top)
    first_column = min(max(int(np.floor(left - across)), 0), width_px - 1)
    first_row = min(max(int(np.floor(top - down)), 0), height_px - 1)
    end_column, end_row = min(int(np.ceil(right + across)), width_px), min(int(np.ceil(bottom + down)), height_px)
    return picture[first_row : max(end_row, first_row + 1), first_column : max(end_column, first_column + 1)]


def jpeg_of(crop: NDArray[np.uint8], cropping: Cropping) -> bytes:
    """Write a crop as JPEG, scaled down where a side is too long."""
    picture = Image.fromarray(crop)
    longest = max(picture.size)
    if longest > cropping.longest_px:
        factor = cropping.longest_px / longest
        width_px, height_px = (max(1, round(side * factor)) for side in picture.size)
        picture = picture.resize((width_px, height_px), Image.Resampling.BICUBIC)
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=cropping.quality)
    return stream.getvalue()
