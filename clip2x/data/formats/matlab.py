"""Read lists of texts from MATLAB 5 files (.mat up to v7): a small part of the format, in pure Python.

Ours rather than SciPy's reader, which a damaged byte can end with a segmentation fault (tried on files with bytes changed at random).
Format: MathWorks, MAT-File Format, "Level 5 MAT-Files".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from clip2x.errors import BadFileError

HEADER = 128
MATRIX, COMPRESSED = 14, 15
CELL, TEXT = 1, 4  # classes of arrays
ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
LARGEST = 1 << 24  # bytes of one variable; ours: the lists of SUN RGB-D take less than 2 MB, and small elements take 30 times their bytes here


def read_texts(path: Path, variable: str) -> list[str]:
    """Read a cell array of texts.

    Raises:
        BadFileError: If the file cannot be read, is of another version, or has no such variable.
    """
    try:
        raw = path.read_bytes()
        order = {b"IM": "<", b"MI": ">"}.get(raw[HEADER - 2 : HEADER])
        if order is None or struct.unpack_from(f"{order}H", raw, HEADER - 4)[0] != 0x0100:
            raise ValueError("its header is not that of a MATLAB 5 file; in MATLAB save with -v7")
        names = []
        for kind, data in _elements(memoryview(raw)[HEADER:], order):
            if kind == COMPRESSED:
                kind, data = next(_elements(memoryview(_inflated(data)), order), (0, data))
            if kind == MATRIX:
                array_class, name, rest = _array(data, order)
                if name == variable and array_class == CELL:
                    return [_text(part, order) for part in rest]
                names.append(name)
        raise ValueError(f"it holds no such variable, found {', '.join(map(repr, names)) or 'none'}")
    except (OSError, ValueError, IndexError, struct.error, zlib.error, LookupError, MemoryError) as error:
        raise BadFileError(f"{path}: not a MATLAB file with the cell array {variable!r} ({' '.join(str(error).split())[:160]}).") from error


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Walk through tagged elements: their type and content."""
    position = 0
    while position < len(data):
        word, size = struct.unpack_from(f"{order}II", data, position)
        if word >> 16:  # up to four bytes stand in the tag itself
            kind, size, start, following = word & 0xFFFF, word >> 16, position + 4, position + 8
        else:
            kind, start, following = word, position + 8, position + 8 + size
            following += 0 if kind == COMPRESSED else -size % 8
        if start + size > len(data):
            raise ValueError(f"it is cut off at byte {position} of {len(data)}")
        yield kind, data[start : start + size]
        position = following


def _inflated(data: memoryview) -> bytes:
    stream = zlib.decompressobj()
    content = stream.decompress(data, LARGEST)
    if not stream.eof:
        raise ValueError("a compressed variable is cut off or larger than expected")
    return content


def _array(data: memoryview, order: str) -> tuple[int, str, list[tuple[int, memoryview]]]:
    """Take an array apart: its class, its name, the elements behind."""
    (_, flags), _, (_, name), *rest = _elements(data, order)
    return struct.unpack_from(f"{order}I", flags)[0] & 0xFF, bytes(name).decode("latin-1"), rest


def _text(element: tuple[int, memoryview], order: str) -> str:
    """Read one text of a cell array."""
    if element[0] != MATRIX:
        raise ValueError("a cell holds no array")
    array_class, _, rest = _array(element[1], order)
    if array_class != TEXT or not rest:
        raise ValueError("a cell holds no text")
    encoding = ENCODINGS[rest[0][0]]
    suffix = "" if encoding in ("latin-1", "utf-8") else "-le" if order == "<" else "-be"
    return bytes(rest[0][1]).decode(encoding + suffix)
