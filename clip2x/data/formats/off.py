"""Read OFF meshes, ModelNet's format: strictly, and in bulk where every face is a triangle."""

from __future__ import annotations

import re
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import BadFileError

# Prefixes of the format: ST texture coordinates, C colours, N normals at the vertices. The counts may follow OFF without a space: some
# hundred files of ModelNet40 are like that (official CLIP2Point code, datasets/utils.py: "broken data in ModelNet").
HEADER = re.compile(rb"\s*(ST)?(C)?(N)?OFF\s*(\d{1,18})[ \t]+(\d{1,18})(?:[ \t]+\d+)?[ \t]*(?:\r?\n|\r|$)")
COMMENT = re.compile(rb"#[^\r\n]*")

Triangles = tuple[NDArray[np.float64], NDArray[np.int64]]


def parse_off(content: bytes, path: Path) -> Triangles:
    """Parse the text of an OFF file.

    Comments, blank lines, CRLF, colours behind vertices or faces, and the header glued to its counts are accepted. Faces with more than
    three corners are cut into a fan; faces with one or two corners have no area and are left out. Values are not judged here.

    Args:
        content: The whole file.
        path: For messages only.

    Returns:
        Vertices (V, 3) float64 and faces (F, 3) int64, in the file's frame and unit; indices are not checked.

    Raises:
        BadFileError: If the header is broken or the counts do not match what follows; names the line.
    """
    text = content.removeprefix(b"\xef\xbb\xbf")
    if b"#" in text:
        text = COMMENT.sub(b"", text)
    header = HEADER.match(text)
    if header is None:
        raise BadFileError(f"{path}: broken OFF header {_excerpt(text)}; expected OFF and the numbers of vertices, faces and edges.")
    num_vertices, num_faces = int(header[4]), int(header[5])
    if num_vertices == 0 or num_faces == 0:
        lacking = "no vertices" if num_vertices == 0 else "no faces"
        raise BadFileError(f"{path}: the OFF header announces {lacking}; for bare points use .xyz, .npy or .ply.")
    body = text[header.end():]
    plain = header[1] is None and header[2] is None and header[3] is None
    mesh = parse_triangles_in_bulk(body, num_vertices, num_faces) if plain else None
    if mesh is None:
        mesh = parse_line_by_line(body, num_vertices, num_faces, first_line=text[:header.end()].count(b"\n") + 1, path=path)
    return mesh


def parse_triangles_in_bulk(body: bytes, num_vertices: int, num_faces: int) -> Triangles | None:
    """Parse what follows the header when it is one vertex a line and nothing but triangles without colours.

    Returns:
        Vertices and faces, or None where the body is anything else (then `parse_line_by_line` reads it, or says what is wrong).
    """
    line_ends = np.flatnonzero(np.frombuffer(body, dtype=np.uint8) == ord("\n"))
    if len(line_ends) < num_vertices or len(body) < 2 * (3 * num_vertices + 4 * num_faces) - 1:
        return None
    split = int(line_ends[num_vertices - 1]) + 1
    vertices = _numbers(body[:split], np.float64)
    if vertices is None or vertices.size != 3 * num_vertices:
        return None
    faces = _numbers(body[split:], np.int64)
    if faces is None or faces.size != 4 * num_faces:
        return None
    rows = faces.reshape(num_faces, 4)
    if not bool((rows[:, 0] == 3).all()):
        return None
    return vertices.reshape(num_vertices, 3), np.ascontiguousarray(rows[:, 1:])


def parse_line_by_line(body: bytes, num_vertices: int, num_faces: int, *, first_line: int, path: Path) -> Triangles:
    """Parse what follows the header one line at a time: slower, for polygons and colours, and says where a file is broken.

    Args:
        body: What follows the header.
        num_vertices: As the header says.
        num_faces: As the header says.
        first_line: Number of the body's first line in the file, for messages.
        path: For messages.

    Raises:
        BadFileError: If a line cannot be understood, or if there are fewer or more lines than the header announces.
    """
    lines = [(number, line.split()) for number, line in enumerate(body.splitlines(), first_line) if line.strip()]
    if len(lines) != num_vertices + num_faces:
        what = "is cut off" if len(lines) < num_vertices + num_faces else "has too many lines"
        raise BadFileError(f"{path}: the file {what}: its header announces {num_vertices} vertices and {num_faces} faces, "
                           f"but {len(lines)} lines follow.")
    rows = iter(lines)
    vertices = np.array([_vertex(words, number, path) for number, words in islice(rows, num_vertices)], dtype=np.float64)
    triangles = [triangle for number, words in rows for triangle in _fan(words, number, path)]
    return vertices, np.array(triangles, dtype=np.int64).reshape(-1, 3)


def _vertex(words: list[bytes], number: int, path: Path) -> tuple[float, float, float]:
    if len(words) < 3:
        raise BadFileError(f"{path}: line {number}: a vertex needs 3 numbers, found {len(words)}.")
    try:
        return float(words[0]), float(words[1]), float(words[2])
    except ValueError:
        raise BadFileError(f"{path}: line {number}: {_excerpt(b' '.join(words))} is not a vertex.") from None


def _fan(words: list[bytes], number: int, path: Path) -> list[tuple[int, int, int]]:
    try:
        count = int(words[0])
        corners = [int(word) for word in words[1:count + 1]]
    except ValueError:
        raise BadFileError(f"{path}: line {number}: {_excerpt(b' '.join(words))} is not a face.") from None
    if corners and max(map(abs, corners)) >= 2**62:
        raise BadFileError(f"{path}: line {number}: {_excerpt(b' '.join(words))} is not a face.")
    if count < 1 or len(corners) != count:
        raise BadFileError(f"{path}: line {number}: the face announces {count} corners and names {len(corners)}.")
    return [(corners[0], corners[k], corners[k + 1]) for k in range(1, count - 1)]


def _numbers(text: bytes, kind: type[np.float64] | type[np.int64]) -> NDArray[Any] | None:
    """Parse white-space separated numbers, None if there is anything else (numpy only warns of it, newer ones raise)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, dtype=kind, sep=" ")
        except (DeprecationWarning, ValueError):
            return None


def _excerpt(text: bytes) -> str:
    """Quote the beginning of a text for a message."""
    line = text.strip().split(b"\n", 1)[0][:40].decode("ascii", "replace").strip()
    return repr(line)
