"""Read pictures, or say in one line why they cannot be used."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip2x.errors import BadFileError, DataNotFoundError

# What Pillow raises for damaged files (found by cutting and changing files at random).
BROKEN_IMAGE = (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, EOFError, MemoryError, OverflowError, Image.DecompressionBombError)


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
        with Image.open(path if content is None else BytesIO(content)) as picture:
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


def read_depth_codes(path: Path) -> NDArray[np.uint16]:
    """Read a picture of 16-bit numbers as (H, W) uint16.

    Raises:
        DataNotFoundError, BadFileError: As `read_image`; also if it has other than 16 bits.
    """
    try:
        with Image.open(path) as picture:
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
