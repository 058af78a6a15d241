"""Rigid geometry of objects and cameras, normalisation of clouds, farthest point sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from clip2x.errors import InputError

CHUNK_ELEMENTS = 1 << 16
"""Numbers in one pass of farthest point sampling on a CPU. Ours: fits the cache; PyTorch shares passes beyond 2^15 between two threads."""

_squared_difference = cast(Callable[..., Tensor], torch._C._nn.mse_loss)
"""(a - b)^2 in one pass with `out`, which `torch.nn.functional.mse_loss` does not take."""


def camera_axes(azimuth_deg: Float[Tensor, "*views"], elevation_deg: Float[Tensor, "*views"]) -> Float[Tensor, "*views 3 3"]:
    """Build the axes of cameras that look at the origin with (0, 1, 0) up, as PyTorch3D's `look_at_view_transform` does.

    The camera stands at distance * (cos e sin a, sin e, cos e cos a). Angles are taken in float32: at the poles the roll hangs on the
    sign of the rounded cosine (cos 90 deg = -4.4e-8), which the official views contain.

    Returns:
        Rows: left, up and forward of the camera as unit vectors in the object frame, float32.

    Source: official CLIP2Point code (render/selector.py) with PyTorch3D's camera convention (+x points left in the picture).
    """
    azimuth = torch.deg2rad(azimuth_deg.float())
    elevation = torch.deg2rad(elevation_deg.float())
    sin_a, cos_a, sin_e, cos_e = azimuth.sin(), azimuth.cos(), elevation.sin(), elevation.cos()
    sign = torch.where(cos_e < 0, -1.0, 1.0)
    left = torch.stack([-sign * cos_a, torch.zeros_like(cos_a), sign * sin_a], dim=-1)
    forward = -torch.stack([cos_e * sin_a, sin_e, cos_e * cos_a], dim=-1)
    up = torch.linalg.cross(forward, left)
    return torch.stack([left, up, forward], dim=-2)


def unit_sphere(points: Float[Tensor, "..."], num_real: Int64[Tensor, "..."] | None = None) -> Float[Tensor, "..."]:
    """Move clouds to their mean and scale them to a largest norm of 1.

    Args:
        points: (..., N, 3), any unit; each cloud is treated by itself.
        num_real: (...), how many points of each cloud are its own, see `thin_out`: repeated ones behind them do not move the mean. None: all are.

    Returns:
        (..., N, 3), same type, without unit.

    Raises:
        InputError: If a cloud is empty, has no extent, or holds NaN, infinite or overflowing coordinates.

    Source: official CLIP2Point code (30673e7, datasets/shapenet.py).
    """
    if points.ndim < 2 or points.shape[-1] != 3 or points.shape[-2] == 0:
        raise InputError(f"points must be (..., N, 3) with N >= 1, got {tuple(points.shape)}.")
    check_finite(points)
    exporting = torch.compiler.is_exporting()  # values are not there yet
    if not exporting and (points.amin(dim=-2) == points.amax(dim=-2)).all(dim=-1).any():
        raise InputError(f"all {points.shape[-2]} points of a cloud are equal; a cloud needs an extent to be scaled to the unit sphere.")
    centre = points.mean(dim=-2, keepdim=True)
    if num_real is not None:
        own = (torch.arange(points.shape[-2], device=points.device) < num_real.to(points.device)[..., None])[..., None]
        centre = torch.where(own.all(dim=-2, keepdim=True), centre, (points * own).sum(dim=-2, keepdim=True) / own.sum(dim=-2, keepdim=True))
    centred = points - centre
    largest = torch.linalg.vector_norm(centred, dim=-1, keepdim=True).amax(dim=-2, keepdim=True)
    if not exporting and not ((largest > 0) & largest.isfinite()).all():
        raise InputError("the coordinates are too large or too close together for their type; change the unit or pass float64.")
    scaled: Tensor = centred / largest
    return scaled


def farthest_points(points: Float[Tensor, "..."], num_points: int, start: int | Int64[Tensor, "..."] = 0,
                    among: Bool[Tensor, "..."] | None = None) -> Int64[Tensor, "..."]:
    """Choose points one by one, each the farthest from all chosen before it (farthest point sampling).

    Exact and deterministic: squared distances (dx^2 + dy^2) + dz^2 in float32, ties go to the lowest index, no index is chosen twice.

    Args:
        points: (B, N, 3), any unit.
        num_points: How many to choose, at most N.
        start: Index of the first point of every cloud, or one per cloud (B,).
        among: (B, N) the points that may be chosen; all if not given. Of a cloud with fewer than `num_points` of them every one is chosen
            and the indices behind them mean nothing.

    Returns:
        Indices (B, num_points) in the order of choice.

    Raises:
        InputError: If the shape is wrong, a coordinate is not finite, or there are fewer points than asked for.
    """
    if points.ndim != 3 or points.shape[-1] != 3:
        raise InputError(f"points must be (B, N, 3), got {tuple(points.shape)}.")
    available = points.shape[1]
    if not 1 <= num_points <= available:
        raise InputError(f"cannot choose {num_points} of {available} points; num_points must be 1 to {available}.")
    if isinstance(start, int) and not 0 <= start < available:
        raise InputError(f"start must be the index of one of the {available} points, got {start}.")
    check_finite(points)
    coordinates = points.detach().float()
    first = torch.full(points.shape[:1], start, device=points.device) if isinstance(start, int) else start
    if coordinates.device.type != "cpu" or torch.compiler.is_exporting() or not len(points):
        return _choose_farthest(coordinates, num_points, first, among)
    clouds = max(1, CHUNK_ELEMENTS // available)
    parts = [slice(begin, begin + clouds) for begin in range(0, len(points), clouds)]
    chosen = [_choose_farthest_cpu(coordinates[part], num_points, first[part], None if among is None else among[part]) for part in parts]
    return torch.cat(chosen)


def _choose_farthest(points: Float[Tensor, "batch available 3"], num_points: int, start: int | Int64[Tensor, "batch"],
                     among: Bool[Tensor, "batch available"] | None = None) -> Int64[Tensor, "batch chosen"]:
    """Do the work of `farthest_points` on any device."""
    index = torch.as_tensor(start, device=points.device).expand(points.shape[0])[:, None]
    nearest = _infinitely_far(points, among)
    x, y, z = points.permute(2, 0, 1).contiguous()
    chosen = []
    for _ in range(num_points):
        chosen.append(index)
        dx, dy, dz = (axis - axis.gather(1, index) for axis in (x, y, z))
        nearest = torch.minimum(nearest, dx * dx + dy * dy + dz * dz).scatter_(1, index, -1.0)
        index = nearest.argmax(dim=1, keepdim=True)
    return torch.cat(chosen, dim=1)


def _choose_farthest_cpu(points: Float[Tensor, "batch available 3"], num_points: int, start: Int64[Tensor, "batch"],
                         among: Bool[Tensor, "batch available"] | None) -> Int64[Tensor, "batch chosen"]:
    """Do the same as `_choose_farthest` for clouds that fit the cache, three times faster.

    Arithmetic in place by PyTorch; look-ups and argmax by NumPy on the same memory: its calls cost a third, its argmax is vectorised.
    """
    batch, available, _ = points.shape
    x, y, z = axes = points.permute(2, 0, 1).contiguous()
    nearest = _infinitely_far(points, among)
    total, term = torch.empty_like(nearest), torch.empty_like(nearest)
    centres = np.empty((3, batch), dtype=np.float32)
    centre_x, centre_y, centre_z = torch.from_numpy(centres)[:, :, None]
    flat_axes, rows_nearest, flat_nearest = axes.view(3, -1).numpy(), nearest.numpy(), nearest.view(-1).numpy()
    first = np.arange(0, batch * available, available)
    chosen = np.empty((num_points, batch), dtype=np.int64)
    index = start.numpy()
    for step in range(num_points):
        chosen[step] = index
        position = index + first
        flat_axes.take(position, axis=1, out=centres, mode="clip")  # "clip" writes straight to `out`
        _squared_difference(x, centre_x, 0, out=total)
        _squared_difference(y, centre_y, 0, out=term)
        total.add_(term)
        _squared_difference(z, centre_z, 0, out=term)
        total.add_(term)
        torch.minimum(nearest, total, out=nearest)
        flat_nearest[position] = -1
        index = rows_nearest.argmax(axis=1)
    return torch.from_numpy(chosen.T.copy())


def _infinitely_far(points: Float[Tensor, "batch available 3"],
                    among: Bool[Tensor, "batch available"] | None) -> Float[Tensor, "batch available"]:
    """Start the squared distances to the nearest chosen point: infinite where a point may be chosen, else -1."""
    nearest = points.new_full(points.shape[:2], torch.inf)
    return nearest if among is None else nearest.masked_fill_(~among, -1.0)


def thin_out(points: Float[Tensor, "B N C"], num_points: int, num_real: Int64[Tensor, " B"] | None = None) -> Float[Tensor, "B M C"]:
    """Take M points of each cloud, evenly over its order: M is `num_points`, or N where that is less.

    Args:
        points: The clouds.
        num_points: How many points to take.
        num_real: How many points of each cloud are its own, the others, behind them, being repeated ones (`choose_points`); repeated ones are
            taken only where there are less than M real ones. None: all are real.
    """
    size = points.shape[1]
    if num_points >= size:
        return points
    real = torch.full((points.shape[0],), size, device=points.device) if num_real is None else num_real.to(points.device)
    chosen = torch.arange(num_points, device=points.device) * real.clamp(num_points, size)[:, None] // num_points
    return points.gather(1, chosen[..., None].expand(-1, -1, points.shape[2]))


def points_of_encoder(points: Float[Tensor, "B N 3"], num_points: int, num_real: Int64[Tensor, " B"] | None = None) -> Float[Tensor, "B M 3"]:
    """Give a point encoder as many points as in its training, out of clouds (unit sphere) that serve other encoders too.

    Clouds with more points are thinned out and normalised again; others stay as they are. `num_real`: see `thin_out`.
    """
    return points if num_points >= points.shape[1] else unit_sphere(thin_out(points, num_points, num_real), num_real)


def check_finite(points: Tensor) -> None:
    """Raise an InputError if a coordinate is NaN or infinite; while a graph is exported there are no values to look at."""
    if not torch.compiler.is_exporting() and not points.isfinite().all():
        raise InputError("points hold NaN or infinite coordinates; remove those points first.")


def rotation_from_quaternion(quaternion: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Turn quaternions (..., 4) in the order w, x, y, z into rotation matrices (..., 3, 3); they are normalised first.

    Raises:
        InputError: If one has no length or holds NaN.
    """
    values = np.asarray(quaternion, dtype=np.float64)
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    if values.shape[-1] != 4 or not (length > 0).all() or not np.isfinite(length).all():
        raise InputError("a rotation must be a quaternion w, x, y, z with a length above 0.")
    w, x, y, z = np.moveaxis(values / length, -1, 0)
    rows = [[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def rigid_transform(rotation: NDArray[np.floating[Any]], translation: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Join a rotation (3, 3) and a translation (3,) to a matrix (4, 4) that acts on column vectors."""
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = rotation, translation
    return transform


def inverse_transform(transform: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Invert a rigid transform (4, 4)."""
    rotation = np.asarray(transform[:3, :3], dtype=np.float64).T
    return rigid_transform(rotation, -rotation @ transform[:3, 3])


def transform_points(target_from_source: NDArray[np.floating[Any]], points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Apply a rigid transform (4, 4) to points (N, 3), in float64."""
    moved: NDArray[np.float64] = points @ target_from_source[:3, :3].T + target_from_source[:3, 3]
    return moved


def project_points(points_camera: NDArray[np.floating[Any]],
                   intrinsics: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project points of the camera frame (x right, y down, z forward) with a pinhole.

    Args:
        points_camera: (N, 3), metres.
        intrinsics: (3, 3), pixels.

    Returns:
        Pixel coordinates (N, 2), NaN for points that are not in front of the camera, and depth z (N,), metres.
    """
    depth = np.asarray(points_camera[:, 2], dtype=np.float64)
    safe = np.where(depth > 0, depth, np.nan)
    pixels: NDArray[np.float64] = (points_camera @ intrinsics[:2].T) / safe[:, None]
    return pixels, depth


def points_in_box(points: NDArray[np.floating[Any]], centre: NDArray[np.floating[Any]], size: NDArray[np.floating[Any]],
                  points_from_box: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Select the points inside an oriented box, its faces included.

    Args:
        points: (N, 3), metres.
        centre: (3,), same frame.
        size: (3,) lengths along the box's own axes, metres.
        points_from_box: (3, 3) rotation whose columns are those axes.

    Returns:
        (N,), all False where nothing lies inside.
    """
    along_axes = (points - centre) @ points_from_box
    x, y, z = (np.abs(along_axes) <= np.asarray(size) / 2).T  # not .all(axis=1): short rows make that twice as slow
    inside: NDArray[np.bool_] = x & y & z
    return inside


def box_iou(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Divide the common area of rectangles by their joint area (intersection over union).

    Args:
        first: (M, 4) left, top, right, bottom, pixels; or (4,) for one.
        second: (K, 4), likewise.

    Returns:
        (M, K); 0 where neither has an area.
    """
    one, other = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4), np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    common = (np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])).clip(min=0.0).prod(axis=-1)
    joint = (one[..., 2:] - one[..., :2]).prod(axis=-1) + (other[..., 2:] - other[..., :2]).prod(axis=-1) - common
    share: NDArray[np.float64] = np.divide(common, joint, out=np.zeros_like(common), where=joint > 0)
    return share
