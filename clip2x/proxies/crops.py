"""How the pictures of boxes are kept."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

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
