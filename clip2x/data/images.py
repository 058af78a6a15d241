"""Read pictures, or say in one line why they cannot be used; cut boxes out of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, TgaImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401  makes their formats known

from clip2x.errors import BadFileError, DataNotFoundError
from clip2x.types import Camera

# What Pillow raises for damaged files (found by cutting and changing files at random).
BROKEN_IMAGE = (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, EOFError, MemoryError, OverflowError, RuntimeError,
                AttributeError, struct.error, zlib.error, Image.DecompressionBombError)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TGA", "TIFF")  # ours; for some of the others Pillow runs programs (EPS)
MOST_PIXELS = 1 << 26  # ours: 8K video has half of that
MOST_PIXELS_UNPROVEN = 1 << 24  # ours: 4,096 x 4,096; Pillow takes up to 12 bytes for each, and a small file may claim any number
PIXELS_PER_BYTE = 1100  # ours, of larger pictures: more than deflate makes of one colour, at a byte a pixel


def read_image(path: Path, content: bytes | None = None) -> NDArray[np.uint8]:
    """Read a picture as (H, W, 3) uint8; grey becomes three equal colours, transparent pixels are laid on white.

    Args:
        path: The file.
        content: Its bytes, where they were read already.

    Raises:
        DataNotFoundError: If there is no such file.
        BadFileError: If it is no whole picture of 8 bits a colour.
    """
    try:
        with _opened(path if content is None else BytesIO(content)) as picture:
            picture.load()
            if picture.mode.startswith(("I", "F")):  # of which Pillow would make white wherever a value is above 255
                raise BadFileError(f"{path}: a picture must have 8 bits a colour, found mode {picture.mode} (16 or 32 bits of grey).")
            if "A" in picture.getbands() or "transparency" in picture.info:
                coloured = picture.convert("RGBA")
                white = Image.new("RGBA", coloured.size, (255, 255, 255, 255))
                return np.asarray(Image.alpha_composite(white, coloured).convert("RGB"))
            return np.asarray(picture.convert("RGB"))
    except FileNotFoundError:
        raise DataNotFoundError(f"{path} does not exist.") from None
    except BadFileError:
        raise
    except BROKEN_IMAGE as error:
        raise BadFileError(f"{path}: not a whole picture ({' '.join(str(error).split())[:120]}).") from error


def read_camera_picture(camera: Camera) -> NDArray[np.uint8]:
    """Read the picture of a camera, (H, W, 3) uint8.

    Raises:
        DataNotFoundError, BadFileError: As `read_image`; also if it has another size than the camera: boxes and points would not fit it.
    """
    picture = read_image(camera.file)
    if picture.shape[:2] != (camera.height_px, camera.width_px):
        raise BadFileError(f"{camera.file}: the picture is {picture.shape[1]} x {picture.shape[0]} pixels, its camera {camera.width_px} x "
                           f"{camera.height_px}; get the file again (scaled copies do not fit the calibration).")
    return picture


def read_depth_codes(path: Path) -> NDArray[np.uint16]:
    """Read a picture of 16-bit numbers as (H, W) uint16.

    Raises:
        DataNotFoundError, BadFileError: As `read_image`; also if it has other than 16 bits.
    """
    try:
        with _opened(path) as picture:
            picture.load()
            if not picture.mode.startswith("I"):
                raise BadFileError(f"{path}: a depth picture must have 16 bits, found mode {picture.mode}.")
            values = np.asarray(picture)
    except FileNotFoundError:
        raise DataNotFoundError(f"{path} does not exist.") from None
    except BadFileError:
        raise
    except BROKEN_IMAGE as error:
        raise BadFileError(f"{path}: not a whole picture ({' '.join(str(error).split())[:120]}).") from error
    return values.astype(np.uint16)


def picture_size(path: Path) -> tuple[int, int]:
    """Read width and height of a picture, pixels, from its header.

    Raises:
        DataNotFoundError, BadFileError: As `read_image`.
    """
    try:
        with _opened(path) as picture:
            return picture.size
    except FileNotFoundError:
        raise DataNotFoundError(f"{path} does not exist.") from None
    except BROKEN_IMAGE as error:
        raise BadFileError(f"{path}: not a whole picture ({' '.join(str(error).split())[:120]}).") from error


@contextmanager
def _opened(source: Path | BytesIO) -> Iterator[Image.Image]:
    """Open a picture of one of `FORMATS` that is not larger than `MOST_PIXELS`, nor than its bytes can hold."""
    with Image.open(source, formats=FORMATS) as picture:
        size = source.stat().st_size if isinstance(source, Path) else source.getbuffer().nbytes
        width_px, height_px = picture.size
        most = min(MOST_PIXELS, max(MOST_PIXELS_UNPROVEN, PIXELS_PER_BYTE * size))
        if width_px * height_px > most:
            raise ValueError(f"it claims {width_px:,} x {height_px:,} pixels; at most {most:,} in all are accepted of {size:,} bytes")
        yield picture


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


def square_picture(pixels: NDArray[np.uint8], size: int) -> Float[torch.Tensor, "3 S S"]:
    """Bring a picture (H, W, 3) to a square of `size` pixels (bicubic, antialiased; sides are scaled each by itself): float32 in [0, 1].

    Source: UniGS code (third party, same group) squeezes the raw box in this way.
    """
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)) / 255
    if image.shape[1:] != (size, size):
        image = torch.nn.functional.interpolate(image[None], (size, size), mode="bicubic", align_corners=False, antialias=True)[0].clamp(0, 1)
    return image
