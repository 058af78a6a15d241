"""Read one cloud or mesh from a file of any common kind, or say in one line why it cannot be used.

| suffix | content |
|---|---|
| .off .obj | mesh; .obj without faces is a cloud |
| .ply | mesh if it has faces, else cloud |
| .pcd | cloud |
| .npy .npz | array (N, 3 or more columns: x, y, z, ...); .npz with one array or one named `points` |
| .txt .xyz .pts .csv | one point a line, x y z and further columns, white space or commas; a line of column names is understood |
| .bin | float32 without a header: x, y, z, intensity (KITTI), `.pcd.bin` also ring (nuScenes) |
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.data.formats.obj import parse_obj
from clip2x.data.formats.off import parse_off
from clip2x.data.formats.pcd import parse_pcd
from clip2x.data.formats.ply import parse_ply
from clip2x.data.transforms import SAMPLERS, choose_points, generator_for, near_origin
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.meshes import sample_surface

LARGEST = 1e15  # ours: squares of larger coordinates come near the end of float32
SMALLEST_EXTENT = 1e-15  # ours: squares of smaller extents vanish in float32
SMALLEST_AREA = 1e-150  # ours: squares of smaller ones vanish in float64, and no point could be drawn on them
MOST_COLUMNS = 64  # ours: a wider table is an array that lies on its side
HEADING_LINES = 100  # ours: points or column names must begin within that many lines
LARGEST_UNPACKED = 1 << 30  # ours: bytes that a packed .npz may unfold to, as many as 45 million points of three float64 take
OVERSAMPLING = 4  # ours: farthest point sampling chooses from this many times num_points of a mesh's surface
# What NumPy raises for array files that are damaged (found by changing bytes at random).
BROKEN_ARRAY = (ValueError, TypeError, RuntimeError, OSError, EOFError, KeyError, MemoryError, OverflowError, SyntaxError,
                IndexError, AttributeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)


@dataclass(frozen=True)
class Shape:
    """What a file holds, in its own frame and unit; every value is finite and the points have an extent.

    points: (N, 3) float64, the cloud or the mesh's vertices.
    faces: (F, 3) int64 with indices in range and a total area above 0; None for a cloud.
    """

    points: NDArray[np.float64]
    faces: NDArray[np.int64] | None = None


def read_cloud(path: Path | str, num_points: int | None = 1024, *, seed: int = 0, sampler: str = "random",
               columns: int | None = None) -> NDArray[np.float32]:
    """Read a file and take a fixed number of points of it.

    Args:
        path: A file of one of the kinds above.
        num_points: How many; a mesh is sampled uniformly by area, of a cloud some points are chosen, or repeated where it has too few.
            None takes all points of a cloud, and 1,024 of a mesh.
        seed: Of the draws; they depend on nothing else.
        sampler: `random` or `farthest`, see `clip2x.data.transforms.choose_points`.
        columns: Of a .bin file, see `read_shape`.

    Returns:
        (num_points, 3) float32 in the file's frame and unit; far from the origin it is shifted (`transforms.near_origin`).

    Raises:
        InputError, DataNotFoundError, BadFileError: See `read_shape`.
    """
    if num_points is not None and num_points < 1:
        raise InputError(f"num_points must be at least 1, got {num_points}.")
    if sampler not in SAMPLERS:
        raise InputError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}.")
    shape = read_shape(path, columns=columns)
    rng = generator_for(seed, "")
    return np.ascontiguousarray(points_of(shape, num_points, rng, sampler), dtype=np.float32)


def points_of(shape: Shape, num_points: int | None, rng: np.random.Generator, sampler: str = "random") -> NDArray[np.floating[Any]]:
    """Take points of a shape as `read_cloud` does."""
    points = near_origin(shape.points)
    if shape.faces is not None:
        wanted = 1024 if num_points is None else num_points
        drawn = sample_surface(points, shape.faces, wanted * (OVERSAMPLING if sampler == "farthest" else 1), rng)
        return choose_points(drawn, wanted, rng, sampler)
    return choose_points(points, len(points) if num_points is None else num_points, rng, sampler)


def read_shape(path: Path | str, *, columns: int | None = None) -> Shape:
    """Read a cloud or a mesh.

    Args:
        path: A file of one of the kinds above.
        columns: Values of a point in a .bin file. If not given: 5 for names that end in `.pcd.bin` and a size that 20 divides, else 4.

    Raises:
        DataNotFoundError: If there is no such file.
        BadFileError: If the file is of an unknown kind, broken, empty, or has coordinates that cannot be used; one line says which.
    """
    place = Path(path)
    suffix = place.suffix.lower()
    if place.is_dir():
        raise BadFileError(f"{place}: is a folder; give a file with one of the endings {' '.join(SUFFIXES)}.")
    if suffix not in SUFFIXES:
        raise BadFileError(f"{place}: unknown ending {suffix!r}; accepted are {' '.join(SUFFIXES)}.")
    content = read_content(place)
    shape = _read_floats(content, place, columns) if suffix == ".bin" else READERS[suffix](content, place)
    return checked(shape, place)


def read_content(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        DataNotFoundError: If there is no such file.
        BadFileError: If it cannot be read or is empty.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataNotFoundError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if not content.strip():
        raise BadFileError(f"{path}: the file is empty.")
    return content


def checked(shape: Shape, path: Path) -> Shape:
    """Refuse what no encoder can use.

    Raises:
        BadFileError: If there is nothing in it, a coordinate is not finite or out of range, an index is out of range, or it has no extent.
    """
    points, faces = shape.points, shape.faces
    if len(points) == 0:
        raise BadFileError(f"{path}: there are no {'points' if faces is None else 'vertices'} in it.")
    kind = "point" if faces is None else "vertex"
    if not np.isfinite(points).all():
        broken = np.flatnonzero(~np.isfinite(points).all(axis=1))
        raise BadFileError(f"{path}: {len(broken)} of {len(points)} {'points' if faces is None else 'vertices'} have NaN or infinite "
                           f"coordinates, first {kind} {broken[0]}; remove them.")
    if float(np.abs(points).max()) > LARGEST:
        raise BadFileError(f"{path}: coordinates go up to {np.abs(points).max():.3g}; at most {LARGEST:g} is accepted, rescale the file.")
    if float(np.ptp(np.ascontiguousarray(points.T), axis=1).max()) < SMALLEST_EXTENT:
        raise BadFileError(f"{path}: all {len(points)} points lie in one place; a shape needs an extent.")
    if faces is not None:
        _check_faces(points, faces, path)
    return shape


def _check_faces(vertices: NDArray[np.float64], faces: NDArray[np.int64], path: Path) -> None:
    if len(faces) == 0:
        raise BadFileError(f"{path}: there are no faces with three corners in it; for bare points use .xyz, .npy or .ply.")
    if faces.min() < 0 or faces.max() >= len(vertices):
        first = int(np.flatnonzero(((faces < 0) | (faces >= len(vertices))).any(axis=1))[0])
        raise BadFileError(f"{path}: triangle {first} names the corners {faces[first].tolist()}, "
                           f"but vertices go from 0 to {len(vertices) - 1}.")
    first_corner = vertices[faces[:, 0]]
    edge_1, edge_2 = vertices[faces[:, 1]] - first_corner, vertices[faces[:, 2]] - first_corner
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        if bool((np.abs(edge_1[:, u] * edge_2[:, v] - edge_1[:, v] * edge_2[:, u]) > SMALLEST_AREA).any()):
            return
    raise BadFileError(f"{path}: the total area of its {len(faces)} triangles is 0.")


def _read_off(content: bytes, path: Path) -> Shape:
    return Shape(*parse_off(content, path))


def _read_obj(content: bytes, path: Path) -> Shape:
    return Shape(*parse_obj(content, path))


def _read_pcd(content: bytes, path: Path) -> Shape:
    return Shape(parse_pcd(content, path))


def _read_ply(content: bytes, path: Path) -> Shape:
    vertices, faces = parse_ply(content, path)
    if faces is None:
        return Shape(vertices)
    if isinstance(faces, np.ndarray):
        fans = [faces[:, [0, k, k + 1]] for k in range(1, faces.shape[1] - 1)]
        return Shape(vertices, np.concatenate(fans) if fans else np.zeros((0, 3), dtype=np.int64))
    triangles = [(face[0], face[k], face[k + 1]) for face in faces for k in range(1, len(face) - 1)]
    return Shape(vertices, np.array(triangles, dtype=np.int64).reshape(-1, 3))


def _read_array(content: bytes, path: Path) -> Shape:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of headers written by Python 2
            if content.startswith(b"PK"):
                _require_unpackable(content, path)
            loaded = np.load(BytesIO(content), allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            name = "points" if "points" in loaded.files else loaded.files[0] if len(loaded.files) == 1 else None
            if name is None:
                held = " ".join(", ".join(loaded.files).split())[:80] or "none"
                raise BadFileError(f"{path}: holds the arrays {held}; a single one or one named 'points' is needed.")
            loaded = loaded[name]
    except BROKEN_ARRAY as error:
        if isinstance(error, BadFileError):
            raise
        raise BadFileError(f"{path}: not a numeric NumPy array ({' '.join(str(error).split())[:100]}).") from error
    return Shape(_table(loaded, path))


def _require_unpackable(content: bytes, path: Path) -> None:
    """Refuse archives that would unfold without bound."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        size = sum(item.file_size for item in archive.infolist())
    if size > LARGEST_UNPACKED:
        raise BadFileError(f"{path}: its {len(content):,} bytes unfold to {size:,}; at most {LARGEST_UNPACKED:,} are accepted, store it unpacked.")


def _read_floats(content: bytes, path: Path, columns: int | None) -> Shape:
    if columns is None:
        columns = 5 if path.name.lower().endswith(".pcd.bin") and len(content) % 20 == 0 else 4
    if columns < 3:
        raise InputError(f"columns must be at least 3, got {columns}.")
    if len(content) % (4 * columns):
        raise BadFileError(f"{path}: {len(content)} bytes are no whole number of points of {columns} float32 values; "
                           "state the number of columns.")
    return Shape(_table(np.frombuffer(content, "<f4").reshape(-1, columns), path))


def _read_text(content: bytes, path: Path) -> Shape:
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise BadFileError(f"{path}: not a text file.") from None
    separator = "," if b"," in content else ";" if b";" in content else None
    skip, columns = _heading(lines, separator, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of no data, which `_table` refuses
            table = np.loadtxt(lines[skip:], delimiter=separator, ndmin=2)
    except ValueError as error:
        reason = str(error).split(";")[0].split("`dtype")[0].rstrip(" .,")
        raise BadFileError(f"{path}: every line needs the same number of numbers, at least 3 ({reason[:120]}).") from None
    if columns is not None and table.size:
        if table.shape[1] <= max(columns):
            raise BadFileError(f"{path}: the rows have {table.shape[1]} columns, fewer than the line of column names.")
        table = table[:, columns]
    return Shape(_table(table, path))


def _heading(lines: list[str], separator: str | None, path: Path) -> tuple[int, list[int] | None]:
    """Look at the first lines: how many to skip, and which columns are x, y, z where they are named."""
    for number, line in enumerate(lines[:HEADING_LINES]):
        words = [word.strip().strip('"').lower() for word in line.split("#")[0].split(separator)]
        if not any(words):
            continue
        if len(words) == 1 and words[0].isdecimal() and path.suffix.lower() == ".pts":
            return number + 1, None  # .pts files of laser scanners begin with the number of points
        if all(_is_number(word) for word in words if word):
            return 0, None
        if not {"x", "y", "z"} <= set(words):
            raise BadFileError(f"{path}: line {number + 1}: {line.strip()[:60]!r} is neither numbers nor column names with x, y and z.")
        return number + 1, [words.index(axis) for axis in "xyz"]
    raise BadFileError(f"{path}: there are no points in its first {HEADING_LINES} lines.")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _table(values: object, path: Path) -> NDArray[np.float64]:
    """Check that an array is a table of points; return its x, y, z."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise BadFileError(f"{path}: the array has the type {array.dtype}; numbers are accepted.")
    if array.size == 0:
        raise BadFileError(f"{path}: there are no points in it.")
    if array.ndim != 2 or not 3 <= array.shape[1] <= MOST_COLUMNS:
        hint = "; transpose it" if array.ndim == 2 and array.shape[0] == 3 else ""
        raise BadFileError(f"{path}: points must be a table of N rows with x, y, z and further columns, found {array.shape}{hint}.")
    with np.errstate(invalid="ignore"):  # signalling NaN, which `checked` refuses
        return array[:, :3].astype(np.float64)


READERS: dict[str, Callable[[bytes, Path], Shape]] = {
    ".off": _read_off, ".obj": _read_obj, ".ply": _read_ply, ".pcd": _read_pcd, ".npy": _read_array, ".npz": _read_array,
    ".txt": _read_text, ".xyz": _read_text, ".pts": _read_text, ".csv": _read_text,
}
SUFFIXES: tuple[str, ...] = (*READERS, ".bin")
