"""Read pictures, or say in one line why they cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip2x.errors import BadFileError, DataNotFoundError

# What Pillow raises for damaged files (found by cutting and changing files at random).
BROKEN_IMAGE = (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, EOFError, MemoryError, OverflowError, Image.DecompressionBombError)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture as (H, W, 3) uint8; transparent pixels are laid on white.

    Raises:
        DataNotFoundError: If there is no such file.
        BadFileError: If it is no whole picture.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            if "A" in picture.getbands() or "transparency" in picture.info:
                coloured = picture.convert("RGBA")
                white = Image.new("RGBA", coloured.size, (255, 255, 255, 255))
                return np.asarray(Image.alpha_composite(white, coloured).convert("RGB"))
            return np.asarray(picture.convert("RGB"))
    except FileNotFoundError:
        raise DataNotFoundError(f"{path} does not exist.") from None
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
