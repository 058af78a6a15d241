"""Read PLY clouds and meshes: ASCII, binary little-endian, binary big-endian.

Open3D is not used for them: of a file that is cut off or lacks a coordinate it returns uninitialised memory as points, without an error
(0.20.0, tried), and it would have to be installed on machines that only train.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import BadFileError

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
INDEX_LISTS = ("vertex_indices", "vertex_index")


@dataclass
class _Property:
    name: str
    dtype: str
    count_dtype: str | None = None  # of lists: the type of the length in front


@dataclass
class _Element:
    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)


Rows = dict[str, NDArray[Any] | list[list[int | float]]]


def parse_ply(content: bytes, path: Path) -> tuple[NDArray[np.float64], list[list[int]] | NDArray[np.int64] | None]:
    """Parse a PLY file.

    Args:
        content: The whole file.
        path: For messages only.

    Returns:
        Vertices (V, 3) float64, and faces: (F, K) int64 where all have K corners, a list of corner lists where they differ, None where the
        file has no faces. Indices are not checked.

    Raises:
        BadFileError: If the header is broken, x, y, z are missing or the file is cut off.
    """
    order, elements, body = _header(content, path)
    vertices: NDArray[np.float64] | None = None
    faces: list[list[int]] | NDArray[np.int64] | None = None
    reader = _AsciiBody(body) if order == "" else _BinaryBody(body, order)
    for element in elements:
        try:
            columns = reader.read(element)
            if element.name == "vertex":
                vertices = np.stack([np.asarray(columns[axis], dtype=np.float64).reshape(-1) for axis in "xyz"], axis=1)
        except (ValueError, IndexError, OverflowError, KeyError, TypeError):
            count = str(element.count)[:20]
            raise BadFileError(f"{path}: the file is cut off or damaged within its {count} elements {element.name[:40]!r}.") from None
        if element.name == "face" and element.count:
            lists = next((columns[name] for name in INDEX_LISTS if name in columns), None)
            faces = _corners(lists)
    assert vertices is not None, "the header was checked for vertices"
    return vertices, faces


def _corners(lists: NDArray[Any] | list[list[int | float]] | None) -> list[list[int]] | NDArray[np.int64] | None:
    """Turn the numbers of the faces into indices."""
    if isinstance(lists, list):
        return [[int(corner) if abs(corner) < 2**62 else -1 for corner in face] for face in lists]  # NaN and the like: out of range
    return None if lists is None else np.where(np.abs(lists.astype(np.float64)) < 2**62, lists, -1).astype(np.int64)


def _header(content: bytes, path: Path) -> tuple[str, list[_Element], bytes]:
    end = re.search(rb"^end_header[ \t]*(\r\n|\n|\r)?", content, re.MULTILINE)
    if not content.startswith(b"ply") or end is None:
        raise BadFileError(f"{path}: not a PLY file: it must begin with 'ply' and its header must end with 'end_header'.")
    order: str | None = None
    elements: list[_Element] = []
    for number, line in enumerate(content[:end.start()].decode("latin-1").splitlines()[1:], 2):
        words = line.split()
        try:
            if not words or words[0] in ("comment", "obj_info"):
                continue
            if words[0] == "format":
                order = ORDERS[words[1]]
            elif words[0] == "element":
                elements.append(_Element(words[1], int(words[2])))
            elif words[:2] == ["property", "list"]:
                elements[-1].properties.append(_Property(words[4], TYPES[words[3]], TYPES[words[2]]))
            elif words[0] == "property":
                elements[-1].properties.append(_Property(words[2], TYPES[words[1]]))
            else:
                raise KeyError(words[0])
        except (KeyError, IndexError, ValueError):
            raise BadFileError(f"{path}: line {number} of the PLY header is not understood: {line.strip()[:60]!r}.") from None
    vertex = next((element for element in elements if element.name == "vertex"), None)
    plain = set() if vertex is None else {item.name for item in vertex.properties if item.count_dtype is None}
    if order is None or vertex is None or not plain >= {"x", "y", "z"} or any(element.count < 0 for element in elements):
        raise BadFileError(f"{path}: the PLY header needs a format and an element vertex with the properties x, y and z.")
    return order, elements, content[end.end():]


class _BinaryBody:
    """What follows a binary header, read element by element."""

    def __init__(self, body: bytes, order: str) -> None:
        self.body, self.order, self.offset = body, order, 0

    def read(self, element: _Element) -> Rows:
        lengths = self._lengths_of_first_row(element)
        dtype = self._row(element, lengths)
        if len(self.body) - self.offset >= dtype.itemsize * element.count:
            rows = np.frombuffer(self.body, dtype, element.count, self.offset)
            if all(bool((rows[f"{number} count"] == length).all()) for number, length in lengths.items()):
                self.offset += dtype.itemsize * element.count
                return {item.name: rows[f"{number}"] for number, item in enumerate(element.properties)}
        if not lengths:
            raise ValueError("cut off")
        return self._read_ragged(element)

    def _lengths_of_first_row(self, element: _Element) -> dict[int, int]:
        lengths: dict[int, int] = {}
        position = self.offset
        for number, item in enumerate(element.properties):
            if item.count_dtype is not None and element.count:
                lengths[number], position = self._length(item.count_dtype, position)
                position += lengths[number] * np.dtype(item.dtype).itemsize
            else:
                position += np.dtype(item.dtype).itemsize
        return lengths

    def _length(self, dtype: str, position: int) -> tuple[int, int]:
        kind = np.dtype(self.order + dtype)
        length = int(np.frombuffer(self.body, kind, 1, position)[0])
        if not 0 <= length <= len(self.body):
            raise ValueError("impossible length")
        return length, position + kind.itemsize

    def _row(self, element: _Element, lengths: dict[int, int]) -> np.dtype[np.void]:
        fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
        for number, item in enumerate(element.properties):
            if item.count_dtype is not None:
                fields.append((f"{number} count", self.order + item.count_dtype))
                fields.append((f"{number}", self.order + item.dtype, (lengths.get(number, 0),)))
            else:
                fields.append((f"{number}", self.order + item.dtype))
        return np.dtype(fields)

    def _read_ragged(self, element: _Element) -> Rows:
        columns: dict[str, list[list[int | float]]] = {item.name: [] for item in element.properties}
        position = self.offset
        for _ in range(element.count):
            for item in element.properties:
                length = 1
                if item.count_dtype is not None:
                    length, position = self._length(item.count_dtype, position)
                kind = np.dtype(self.order + item.dtype)
                columns[item.name].append(np.frombuffer(self.body, kind, length, position).tolist())
                position += length * kind.itemsize
        self.offset = position
        return {**columns}


class _AsciiBody:
    """What follows an ASCII header, read element by element: a stream of numbers."""

    def __init__(self, body: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                self.numbers = np.fromstring(body, dtype=np.float64, sep=" ")  # ends before the first word that is no number
            except ValueError:
                self.numbers = np.zeros(0)
        self.offset = 0

    def read(self, element: _Element) -> Rows:
        widths, position = [], self.offset
        for item in element.properties:
            length = 1 if item.count_dtype is None or not element.count else 1 + int(self.numbers[position])
            widths.append(length)
            position += length
        total = sum(widths) * element.count
        rest = self.numbers[self.offset:self.offset + total]
        if rest.size == total:
            rows = rest.reshape(element.count, -1) if element.count else np.zeros((0, sum(widths)))
            starts = np.cumsum([0, *widths])[:-1]
            lists = [(start, width) for start, width, item in zip(starts, widths, element.properties, strict=True) if item.count_dtype]
            if all(bool((rows[:, start] == width - 1).all()) for start, width in lists):
                self.offset += total
                return {item.name: rows[:, start + 1:start + width] if item.count_dtype else rows[:, start]
                        for start, width, item in zip(starts, widths, element.properties, strict=True)}
        if all(item.count_dtype is None for item in element.properties):
            raise ValueError("cut off")
        return self._read_ragged(element)

    def _read_ragged(self, element: _Element) -> Rows:
        columns: dict[str, list[list[int | float]]] = {item.name: [] for item in element.properties}
        numbers, position = self.numbers.tolist(), self.offset
        for _ in range(element.count):
            for item in element.properties:
                length = 1
                if item.count_dtype is not None:
                    length = int(numbers[position])
                    position += 1
                if length < 0 or position + length > len(numbers):
                    raise ValueError("cut off")
                columns[item.name].append(numbers[position:position + length])
                position += length
        self.offset = position
        return {**columns}
