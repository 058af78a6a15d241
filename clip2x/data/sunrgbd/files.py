"""Single files of SUN RGB-D: lists of frames, depth, calibration; and what the name of a frame says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip2x.data.formats.matlab import read_texts
from clip2x.data.images import picture_size, read_depth_codes
from clip2x.errors import BadFileError, DataNotFoundError
from clip2x.untrusted import fits_a_path

FARTHEST_DEPTH = 8.0
"""Metres. The official toolbox (read3dPoints.m) puts what lies beyond at 8 m, which would make a wall there; we drop it."""
LONGEST_NAME = 200  # letters; ours: of a folder. The longest has 80
LARGEST_SKEW = 1e-2
"""How far a matrix may be from a rotation. Ours: the files' six digits give 1e-6."""

_TAKEN_AT = re.compile(r"(20\d\d)[-_](\d\d)[-_](\d\d)[-_](\d{1,2})[-_]")  # 2014_12_18_9_5_11, 2014_10_24-09_14_34-..., 000002_2014-05-26_14-23-37_...


def scene_of(token: str) -> str:
    """Name the recording that a frame belongs to, from its path alone.

    SUN3D pictures (`xtion/sun3ddata/<place>/...`): the place, whose scans share rooms. Pictures named by a time: the hour, whatever the sensor,
    since neighbours show one room and on one day several sensors stood side by side (ours; at the turn of an hour a room is in two scenes).
    Others (NYU Depth V2, B3DO) do not say; each is a scene of its own. A place may have frames in both official splits, see the manifest.
    """
    parts = token.split("/")
    if "sun3ddata" in parts[:-1]:
        return "/".join(parts[: parts.index("sun3ddata") + 2])
    taken = _TAKEN_AT.search(parts[-1])
    return f"{'-'.join(taken.groups()[:3])} {int(taken[4]):02d} h" if taken else token


def tokens_of_list(path: Path) -> list[str]:
    """Read a list of picture files, one a line: `SUNRGBD/<sensor>/.../<frame>//image/<picture>.jpg`; the frames' folders are their tokens.

    Raises:
        BadFileError: If it is no text or a line is no such path.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFileError(f"{path}: not a readable list ({error}).") from error
    tokens = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            token, found, _ = line.strip().partition("/image/")
            if not found:
                raise BadFileError(f"{path}: line {number}: {line.strip()[:80]!r} is no path of a picture, which would hold /image/.")
            tokens.append(_token(token, f"{path}: line {number}"))
    return tokens


def tokens_of_matlab(path: Path, variable: str) -> list[str]:
    """Read the frames' folders from a cell array of the toolbox's allsplit.mat, e.g. `/n/fs/sun3d/data/SUNRGBD/kv1/NYUdata/NYU0001`.

    Raises:
        BadFileError: If it is no such file.
    """
    tokens = []
    for number, folder in enumerate(read_texts(path, variable), 1):
        _, found, below = folder.partition("/SUNRGBD/")
        if not found:
            raise BadFileError(f"{path}: {variable}{{{number}}}: {folder[:80]!r} holds no /SUNRGBD/.")
        tokens.append(_token(f"SUNRGBD/{below}", f"{path}: {variable}{{{number}}}"))
    return tokens


def first_file(folder: Path, suffix: str, *, last: bool = False) -> Path | None:
    """Find the first (or last) file of a folder by name, as the official reader does; None if there is none.

    Raises:
        BadFileError: If the folder cannot be read.
    """
    try:
        names = [item.name for item in folder.iterdir() if item.name.lower().endswith(suffix) and not item.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BadFileError(f"{folder}: the folder cannot be read ({error.strerror}).") from error
    return folder / (max(names) if last else min(names)) if names else None


def read_depth(path: Path) -> NDArray[np.float32]:
    """Read depth as (H, W) float32, metres along z, 0 where there is none or it is beyond `FARTHEST_DEPTH`.

    A stored number is the depth in millimetres, its bits turned left by three (read3dPoints.m).

    Raises:
        DataNotFoundError, BadFileError: As `read_depth_codes`.
    """
    codes = read_depth_codes(path)
    depth = ((codes >> 3) | (codes << 13)).astype(np.float32) / np.float32(1000)
    depth[depth > FARTHEST_DEPTH] = 0
    return depth


def read_intrinsics(path: Path) -> NDArray[np.float64]:
    """Read a pinhole matrix (3, 3), pixels, the centre of the first pixel being (0, 0): nine numbers, row by row.

    The official toolbox (read_3d_pts_general.m), with which the boxes were drawn, counts pixels from 1; the principal point is moved by one.

    Raises:
        DataNotFoundError: If there is no such file.
        BadFileError: If it holds something else.
    """
    matrix = _numbers(path, 9).reshape(3, 3)
    if min(matrix[0, 0], matrix[1, 1]) <= 0 or matrix[0, 1] != 0 or matrix[1, 0] != 0 or matrix[2].tolist() != [0, 0, 1]:
        raise BadFileError(f"{path}: a pinhole matrix must read fx 0 cx, 0 fy cy, 0 0 1 with focal lengths above 0, found {matrix.ravel().tolist()}.")
    matrix[:2, 2] -= 1
    return matrix


def read_tilt(folder: Path) -> NDArray[np.float64]:
    """Read the rotation (3, 3) that turns a camera upright, of x right, y down, z forward.

    Of several files the last by name, which is the newest, as in readframeSUNRGBD.m. Each holds 3 x 4 numbers, of which the last column is not
    used (there, too). Rounding is taken out: the result is the rotation nearest to the matrix.

    Raises:
        DataNotFoundError: If there is none.
        BadFileError: If it is no rotation.
    """
    path = first_file(folder, ".txt", last=True)
    if path is None:
        raise DataNotFoundError(f"{folder} holds no .txt: the camera's tilt is missing; unpack SUNRGBD.zip again.")
    matrix = _numbers(path, 12).reshape(3, 4)[:, :3]
    left, stretch, right = np.linalg.svd(matrix)
    rotation: NDArray[np.float64] = left @ right
    if np.abs(stretch - 1).max() > LARGEST_SKEW or np.linalg.det(rotation) < 0:
        raise BadFileError(f"{path}: the first three columns must be a proper rotation, found {matrix.ravel().tolist()}.")
    return rotation


def lift(depth: NDArray[np.float32], intrinsics: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Make a point of every pixel with depth.

    Args:
        depth: (H, W), metres, 0 where there is none.
        intrinsics: (3, 3), pixels; the centre of the first pixel is (0, 0).

    Returns:
        Points (M, 3) in the camera frame (x right, y down, z forward), metres; pixels (M, 2), columns u and v. Row by row of the picture.
    """
    rows, columns = np.nonzero(depth)
    z = depth[rows, columns]
    right = ((np.arange(depth.shape[1]) - intrinsics[0, 2]) / intrinsics[0, 0]).astype(np.float32)
    down = ((np.arange(depth.shape[0]) - intrinsics[1, 2]) / intrinsics[1, 1]).astype(np.float32)
    points: NDArray[np.float32] = np.stack([right[columns] * z, down[rows] * z, z], axis=1)
    return points, np.stack([columns, rows], axis=1).astype(np.float32)


def check_size(picture: Path, width_px: int, height_px: int) -> None:
    """Raise a BadFileError unless a picture's header can be read and states the size of the depth picture."""
    size = picture_size(picture)
    if size != (width_px, height_px):
        raise BadFileError(f"{picture}: the picture is {size[0]} x {size[1]} pixels, its depth {width_px} x {height_px}; they must be equal "
                           "(the pair in fullres/ is not aligned, do not mix them).")


def _numbers(path: Path, count: int) -> NDArray[np.float64]:
    """Read a text file of so many finite numbers."""
    try:
        words = path.read_text(encoding="utf-8-sig").split()
        numbers = np.array([float(word) for word in words])
    except FileNotFoundError:
        raise DataNotFoundError(f"{path} does not exist; unpack SUNRGBD.zip again.") from None
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: must hold {count} numbers ({' '.join(str(error).split())[:120]}).") from error
    if len(numbers) != count or not np.isfinite(numbers).all():
        found = f"{len(numbers)}" if len(numbers) != count else "NaN or infinity among them"
        raise BadFileError(f"{path}: must hold {count} finite numbers, found {found}.")
    return numbers


def _token(folder: str, where: str) -> str:
    parts = [part for part in folder.replace("\\", "/").split("/") if part]
    if len(parts) < 2 or ".." in parts or not fits_a_path(folder) or max(map(len, parts)) > LONGEST_NAME:
        raise BadFileError(f"{where}: {folder[:80]!r} must be a folder below the data set's.")
    return "/".join(parts)
