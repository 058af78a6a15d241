"""Read the geometry of Wavefront OBJ files: `v` and `f` lines. Materials and textures are `clip2x.meshes`' business.

Open3D is not used for this: it leaves out faces with more than three corners, and answers an index out of range and a file of bare vertices
with an empty mesh and no reason (0.20.0, tried).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import BadFileError

VERTEX = re.compile(rb"^[ \t]*v[ \t]+([^\r\n#]*)", re.MULTILINE)
FACE = re.compile(rb"^[ \t]*f[ \t]+([^\r\n#]*)", re.MULTILINE)
CONTINUED = re.compile(rb"\\[ \t]*\r?\n")
BEHIND_SLASH = re.compile(rb"/\S*")


def parse_obj(content: bytes, path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """Parse the vertices and faces of an OBJ file; lines, curves and everything else are left out.

    Args:
        content: The whole file.
        path: For messages only.

    Returns:
        Vertices (V, 3) float64, and faces (F, 3) int64 counted from 0 (polygons cut into fans; faces with fewer than three corners have no
        area and are left out), None where the file has no `f` line. Indices are not checked against V.

    Raises:
        BadFileError: If a vertex or a face line cannot be understood, or an index is 0; names the line.
    """
    text = CONTINUED.sub(b" ", content)
    found = list(VERTEX.finditer(text))
    vertices = np.array([_vertex(match, text, path) for match in found], dtype=np.float64).reshape(-1, 3)
    faces = list(FACE.finditer(text))
    if not faces:
        return vertices, None
    before = np.searchsorted([match.start() for match in found], [match.start() for match in faces])
    triangles: list[tuple[int, int, int]] = []
    for match, seen in zip(faces, before.tolist(), strict=True):
        corners = _corners(match, seen, text, path)
        triangles += [(corners[0], corners[k], corners[k + 1]) for k in range(1, len(corners) - 1)]
    return vertices, np.array(triangles, dtype=np.int64).reshape(-1, 3)


def _vertex(match: re.Match[bytes], text: bytes, path: Path) -> tuple[float, float, float]:
    words = match[1].split()
    try:
        return float(words[0]), float(words[1]), float(words[2])
    except (ValueError, IndexError):
        raise BadFileError(f"{path}: {_line(match, text)} is not a vertex with 3 coordinates: {_excerpt(match)}.") from None


def _corners(match: re.Match[bytes], seen: int, text: bytes, path: Path) -> list[int]:
    """Read one face; negative indices count back from the last of the `seen` vertices."""
    try:
        numbers = [int(word) for word in BEHIND_SLASH.sub(b"", match[1]).split()]
    except ValueError:
        numbers = [0]
    if not numbers or 0 in numbers or min(numbers) < -seen or max(numbers) >= 2**62:
        raise BadFileError(f"{path}: {_line(match, text)} is not a face of vertices counted from 1: {_excerpt(match)}.")
    return [number - 1 if number > 0 else seen + number for number in numbers]


def _line(match: re.Match[bytes], text: bytes) -> str:
    number = text.count(b"\n", 0, match.start(1)) + 1
    return f"line {number}"


def _excerpt(match: re.Match[bytes]) -> str:
    return repr(match[0].decode("ascii", "replace").strip()[:60])
