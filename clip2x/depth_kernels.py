"""Compiled twins (Numba) of the inner loops of `clip2x.depth`, for CPUs: the same float32 operations in the same order, hence the same bits.

Only `clip2x.depth` imports this module, once that is worth the time that Numba takes to start and to compile. Nothing is cached on disk:
no folder has to be writable, and no process can meet a half-written or outdated file. Threads are Python's (the kernels release the GIL),
as many as PyTorch uses: Numba's own pools stop the process after a fork (GNU OpenMP) or when two threads call (workqueue).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy.typing import NDArray
from torch import Tensor

PARTS_PER_THREAD = 4
"""Parts that the rows of a call are cut into for each thread. Ours: a thread that the system interrupts then holds up the others little."""

PIXELS_PER_THREAD = 1 << 17
"""Pixels and candidates below which another thread is not worth waking: about 0.1 ms of work. Ours."""

NO_DEPTH = np.uint32(0xBF800000)
"""Bits of -1.0, an empty pixel. As unsigned integers they are above those of every depth >= 0, which sort like the depths: one minimum does all."""


def nearest_depths(points: Float32[Tensor, "batch points 3"], axes: Float32[Tensor, "rows 3 3"], distance: Float32[Tensor, "batch views"],
                   image_size: int, point_radius: float | Float32[Tensor, "rows"]) -> Float32[Tensor, "rows pixels"]:
    """Draw the pictures of `rasterize`, rows = (cloud, view); empty pixels are -1."""
    pictures = torch.empty(len(axes), image_size * image_size)
    _draw(points, axes, distance, image_size, point_radius, pictures.numpy().view(np.uint32), NO_DEPTH, 0)
    return pictures


def nearest_keys(points: Float32[Tensor, "batch points 3"], axes: Float32[Tensor, "rows 3 3"], distance: Float32[Tensor, "batch views"],
                 image_size: int, point_radius: float | Float32[Tensor, "rows"]) -> Int64[Tensor, "rows pixels"]:
    """Find in every pixel the smallest key, bits of the depth << 32 | index of the point; the largest value of int64 where it is empty."""
    nearest = torch.empty(len(axes), image_size * image_size, dtype=torch.int64)
    _draw(points, axes, distance, image_size, point_radius, nearest.numpy(), np.iinfo(np.int64).max, 32)
    return nearest


def grey_pictures(depth: Float32[Tensor, "pictures size size"]) -> Float32[Tensor, "pictures size size"]:
    """Do the work of `grey_from_depth`."""
    flat, grey = depth.flatten(1), torch.empty(depth.shape)
    depths, greys = _array(flat), grey.numpy().reshape(flat.shape)
    _share_rows(len(depth), depth.numel(), lambda first, last: _GREY(first, last, depths, depths.view(np.int32), greys))
    return grey


def _draw(points: Tensor, axes: Tensor, distance: Tensor, image_size: int, point_radius: float | Tensor, nearest: NDArray[Any],
          nothing: np.uint32 | int, shift: int) -> None:
    radii = _array(torch.as_tensor(point_radius, dtype=torch.float32).expand(len(axes)))
    centres = _array((2 * torch.arange(image_size - 1, -1, -1).float() + 1) / image_size - 1)
    arrays = (_array(points), _array(axes), _array(1 / distance).reshape(-1), _array(distance).reshape(-1), radii, centres, nearest, nothing, shift)
    reach = min(float(radii.max(initial=0.0)) * image_size / 2 + 1, image_size)
    work = int(len(axes) * points.shape[1] * (2 * reach) ** 2) + nearest.size
    _share_rows(len(axes), work, lambda first, last: _NEAREST(first, last, *arrays))


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().contiguous().numpy()
    return array


def _share_rows(rows: int, work: int, kernel: Callable[[int, int], None]) -> None:
    """Run `kernel(first, last)` over all rows; threads take part after part. Rows do not hang on each other, so that their order is free."""
    threads = min(torch.get_num_threads(), rows, 1 + work // PIXELS_PER_THREAD)
    if threads <= 1:
        kernel(0, rows)
        return
    step = -(-rows // (threads * PARTS_PER_THREAD))
    parts = iter(range(0, rows, step))

    def take_parts() -> None:
        for first in parts:
            kernel(first, min(first + step, rows))

    helpers = [_helpers(os.getpid(), torch.get_num_threads()).submit(take_parts) for _ in range(threads - 1)]
    take_parts()
    for helper in helpers:
        if not helper.cancel():  # one that has not started yet has nothing left to take
            helper.result()


@cache
def _helpers(process: int, threads: int) -> ThreadPoolExecutor:
    """Keep the threads of this process: those of a parent do not exist after a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="clip2x-depth")


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile when first called. No `fastmath`: products and sums must not be fused or reordered. NumPy's rules: x / 0 is no error."""
    kernel: Callable[..., None] = numba.njit(nogil=True, error_model="numpy")(inspect.unwrap(function))  # pytest wraps it to check types
    return kernel


def _nearest(first: int, last: int, points: NDArray[np.float32], axes: NDArray[np.float32], scale: NDArray[np.float32],
             distance: NDArray[np.float32], radii: NDArray[np.float32], centres: NDArray[np.float32], nearest: NDArray[Any], nothing: Any,
             shift: int) -> None:
    """Twin of `_view_coordinates` and `_nearest_keys` in `clip2x.depth`; pixels of lines that are too far away are skipped.

    `centres` are those of the columns from left to right, which are those of the lines from top to bottom.
    """
    size, num_points, num_views = len(centres), points.shape[1], len(axes) // len(points)
    zero, one, half_size = np.float32(0), np.float32(1), np.float32(size / 2)
    depth = np.empty(1, np.float32)
    bits = depth.view(np.uint32)
    for row in range(first, last):
        picture, cloud, (left, up, forward) = nearest[row], points[row // num_views], axes[row]
        picture[:] = nothing
        limit = radii[row] * radii[row]
        reach = int(min(np.float64(radii[row]) * size / 2 + 0.501, np.float64(size)))
        across = np.empty(2 * reach + 1, np.float32)
        for point in range(num_points):
            x, y, z = cloud[point, 0] * scale[row], cloud[point, 1] * scale[row], cloud[point, 2] * scale[row]
            depth[0] = x * forward[0] + y * forward[1] + z * forward[2] + distance[row] + zero  # -0.0 becomes 0.0, whose bits are the lowest
            x, y = x * left[0] + y * left[1] + z * left[2], x * up[0] + y * up[1] + z * up[2]
            own_x, own_y = np.floor((x + one) * half_size), np.floor((y + one) * half_size)
            near = own_x >= -reach and own_x < size + reach and own_y >= -reach and own_y < size + reach  # no NaN is
            if not (near and depth[0] >= zero and depth[0] < np.inf):
                continue
            key = nearest.dtype.type((np.int64(bits[0]) << shift) | (point if shift else 0))
            column, line = size - 1 - int(own_x), size - 1 - int(own_y)
            begin = max(column - reach, 0)
            width = min(column + reach, size - 1) + 1 - begin
            for step in range(width):
                aside = centres[begin + step] - x
                across[step] = aside * aside
            for near_line in range(max(line - reach, 0), min(line + reach, size - 1) + 1):
                above = centres[near_line] - y
                down = above * above
                if down < limit:
                    pixels = picture[near_line * size + begin : near_line * size + begin + width]
                    for step in range(width):  # no branch: it would be guessed wrong half of the time
                        hit = key if down + across[step] < limit else nothing
                        pixels[step] = min(pixels[step], hit)


def _grey(first: int, last: int, depth: NDArray[np.float32], bits: NDArray[np.int32], grey: NDArray[np.float32]) -> None:
    """Twin of `_grey` in `clip2x.depth`. Extremes are sought in the bits, which sort like the floats >= 0; those of a NaN are above infinity's."""
    one_bits, infinite_bits, positive = np.int32(0x3F800000), np.int32(0x7F800000), np.int32(0x7FFFFFFF)
    zero, one, light, white = np.float32(0), np.float32(1), np.float32(200), np.float32(255)
    extremes = np.empty(2, np.int32)
    values = extremes.view(np.float32)
    for picture in range(first, last):
        pixels = bits[picture]
        largest, smallest, magnitude = np.int32(0), infinite_bits, np.int32(0)
        for pixel in range(len(pixels)):
            largest = max(largest, pixels[pixel])
            smallest = min(smallest, pixels[pixel] if pixels[pixel] > 0 else one_bits)
            magnitude = max(magnitude, pixels[pixel] & positive)
        extremes[0], extremes[1] = largest, smallest
        nearest, divisor = values[1], values[0] if largest > 0 else one
        if magnitude > infinite_bits:
            nearest, divisor = np.float32(np.nan), one
        row, shades = depth[picture], grey[picture]
        for pixel in range(len(row)):
            shade = (row[pixel] - nearest) / divisor * light / white
            shades[pixel] = one if row[pixel] <= zero and magnitude <= infinite_bits else shade


_NEAREST, _GREY = _compiled(_nearest), _compiled(_grey)
