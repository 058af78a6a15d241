"""Read PCD clouds (Point Cloud Library): ascii, binary and binary_compressed. Own code for the reasons given in `clip2x.data.formats.ply`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import BadFileError

KEYS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
KINDS = {"F": "f", "I": "i", "U": "u"}


def parse_pcd(content: bytes, path: Path) -> NDArray[np.float64]:
    """Parse a PCD file; the sensor's VIEWPOINT is left aside.

    Args:
        content: The whole file.
        path: For messages only.

    Returns:
        (N, 3) float64.

    Raises:
        BadFileError: If the header is broken, x, y, z are missing or the file is cut off.
    """
    header, start = _header(content, path)
    try:
        names = header["FIELDS"]
        counts = [int(word) for word in header.get("COUNT", ["1"] * len(names))]
        kinds = [f"<{KINDS[kind]}{int(size)}" for kind, size in zip(header["TYPE"], header["SIZE"], strict=True)]
        num_points = int(header["POINTS"][0]) if "POINTS" in header else int(header["WIDTH"][0]) * int(header["HEIGHT"][0])
        row = np.dtype([(str(k), kind, (count,)) for k, (kind, count) in enumerate(zip(kinds, counts, strict=True))])
        columns = [names.index(axis) for axis in "xyz"]
        if num_points < 0 or any(counts[column] != 1 for column in columns):
            raise ValueError("impossible count")
    except (KeyError, ValueError, IndexError, TypeError):
        raise BadFileError(f"{path}: the PCD header needs FIELDS with x, y, z, and SIZE, TYPE, COUNT, POINTS to match.") from None
    try:
        readers = {"ascii": _ascii, "binary": _binary, "binary_compressed": _compressed}
        fields = readers[header["DATA"][0]](content[start:], row, num_points)
    except (KeyError, IndexError):
        raise BadFileError(f"{path}: DATA must be ascii, binary or binary_compressed.") from None
    except ValueError as error:
        count = str(num_points)[:20]
        raise BadFileError(f"{path}: the file is cut off or damaged: its header announces {count} points ({str(error)[:100]}).") from None
    return np.stack([fields[column][:, 0].astype(np.float64) for column in columns], axis=1)


def _header(content: bytes, path: Path) -> tuple[dict[str, list[str]], int]:
    """Read the header up to DATA: its words by key, and where the points begin."""
    header: dict[str, list[str]] = {}
    position = 0
    while position < len(content) and "DATA" not in header:
        end = content.find(b"\n", position)
        end = len(content) if end < 0 else end
        words = content[position:end].split(b"#", 1)[0].decode("ascii", "replace").split()
        position = end + 1
        if words and words[0] not in KEYS:
            break
        if words:
            header[words[0]] = words[1:]
    if "DATA" not in header:
        raise BadFileError(f"{path}: not a PCD file: its header must name VERSION, FIELDS, SIZE, TYPE, WIDTH, HEIGHT, POINTS and DATA.")
    return header, position


def _ascii(body: bytes, row: np.dtype[np.void], num_points: int) -> list[NDArray[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        numbers = np.fromstring(body, dtype=np.float64, sep=" ")  # ends before the first word that is no number
    widths = [row[k].shape[0] for k in range(len(row.names or ()))]
    if numbers.size != num_points * sum(widths):
        raise ValueError(f"{numbers.size} numbers follow, {num_points * sum(widths)} are needed")
    starts = np.cumsum([0, *widths])
    rows = numbers.reshape(num_points, sum(widths))
    return [rows[:, starts[k]:starts[k + 1]] for k in range(len(widths))]


def _binary(body: bytes, row: np.dtype[np.void], num_points: int) -> list[NDArray[Any]]:
    if len(body) < num_points * row.itemsize:
        raise ValueError(f"{len(body)} bytes follow, {num_points * row.itemsize} are needed")
    rows = np.frombuffer(body, row, num_points)
    return [rows[name] for name in row.names or ()]


def _compressed(body: bytes, row: np.dtype[np.void], num_points: int) -> list[NDArray[Any]]:
    if len(body) < 8:
        raise ValueError("no sizes of the compressed block")
    packed, size = (int(number) for number in np.frombuffer(body, "<u4", 2))
    if size != num_points * row.itemsize or len(body) < 8 + packed:
        raise ValueError("the sizes of the compressed block do not match")
    block, fields, position = _unpack_lzf(body[8:8 + packed], size), [], 0
    for k in range(len(row.names or ())):  # fields lie one after the other, not point by point
        base, shape = row[k].subdtype or (row[k], (1,))
        values = np.frombuffer(block, base, num_points * shape[0], position).reshape(num_points, shape[0])
        position += values.nbytes
        fields.append(values)
    return fields


def _unpack_lzf(packed: bytes, size: int) -> bytes:
    """Undo LZF compression (format of liblzf: literal runs below 32, else back references of 3 or more bytes)."""
    out, position = bytearray(), 0
    try:
        while position < len(packed):
            control = packed[position]
            position += 1
            if control < 32:
                out += packed[position:position + control + 1]
                position += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += packed[position]
                position += 1
            start = len(out) - ((control & 31) << 8) - packed[position] - 1
            position += 1
            if start < 0:
                raise ValueError("a reference points before the block")
            if len(out) > size:
                raise ValueError("the compressed block is larger than announced")
            distance = len(out) - start
            out += (out[start:] * ((length + 1) // distance + 1))[:length + 2]  # repeats itself where it reaches into what it writes
    except IndexError:
        raise ValueError("the compressed block ends early") from None
    if len(out) != size:
        raise ValueError("the compressed block has another size than announced")
    return bytes(out)
