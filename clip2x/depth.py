"""Depth views of point clouds: CLIP2Point's orthographic disc splats, its grey mapping and its camera positions.

In plain PyTorch; on CPUs `depth_kernels` does the inner loops where Numba is installed (`pip install clip2x[fast]`), with the same bits.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn import functional

from clip2x.density import density_radius
from clip2x.errors import InputError, MissingDependencyError
from clip2x.geometry import camera_axes, check_finite

COMPILED: bool | None = None
"""Whether compiled kernels draw on CPUs. None: where Numba is installed, once this process has drawn `WORTH_COMPILING`; True: always, an
error without Numba; False: never. The pictures are the same to the bit: the switch is for tests and benchmarks."""

WORTH_COMPILING = 1 << 29
"""Pixels and pixel candidates that plain PyTorch handles before Numba is loaded. Ours: that takes it about as long as Numba takes to start
and to compile, so that short programs do not wait and long ones lose no more than that."""

CHUNK_CANDIDATES = 1 << 18
"""Pixel candidates (points x footprint) handled at once. Ours: keeps the temporaries of `rasterize` in the CPU's cache."""

CHUNK_CANDIDATES_GPU = 1 << 22
"""The same on a GPU, where few large kernels are better than many small ones: 250 MB. Ours, not measured yet."""

EMPTY = -1.0
"""Depth of a pixel that no point covers. Source: official CLIP2Point renderer (PyTorch3D's background value)."""

_drawn = 0
"""Work of plain PyTorch in this process so far, see `WORTH_COMPILING`."""

NO_POINT = torch.iinfo(torch.int64).max

VIEW_PRESETS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "clip2point-10": ((0, 0, 0, 0, -45, 45, -45, 45, -90, 90), (0, 90, 180, 270, 225, 225, 315, 315, 0, 0)),
    "clip2point-6": ((0, 90, 180, 270, 0, 180), (0, 0, 0, 0, 90, -90)),
}
"""Azimuths and elevations in degrees; all at distance 1. Source: official CLIP2Point code (30673e7, render/selector.py)."""


def view_preset(name: str) -> tuple[Float[Tensor, "views"], Float[Tensor, "views"], Float[Tensor, "views"]]:
    """Look up a named set of cameras.

    Args:
        name: "clip2point-10" (pre-training, few-shot) or "clip2point-6" (the official zero-shot script).

    Returns:
        Azimuth in degrees, elevation in degrees and distance, each (V,) float32 on the CPU.

    Raises:
        InputError: If there is no such preset.
    """
    if name not in VIEW_PRESETS:
        raise InputError(f"unknown view preset {name!r}; known: {', '.join(sorted(VIEW_PRESETS))}.")
    azimuth, elevation = VIEW_PRESETS[name]
    return torch.tensor(azimuth).float(), torch.tensor(elevation).float(), torch.ones(len(azimuth))


def rasterize(
    points: Float[Tensor, "..."],
    azimuth_deg: Float[Tensor, "..."],
    elevation_deg: Float[Tensor, "..."],
    distance: Float[Tensor, "..."],
    *,
    image_size: int = 224,
    point_radius: float | Float[Tensor, "batch"] = 0.02,
    check_values: bool = True,
) -> Float[Tensor, "batch views size size"]:
    """Draw each cloud as a disc-splat depth map from each of its cameras; the nearest point wins.

    Orthographic: the cloud is scaled by 1 / distance and the camera stands at `distance`, so that distance changes size. A pixel is hit if
    the squared distance from its centre to the point is strictly below the squared radius. Points behind the camera (depth < 0) are
    dropped. The picture spans [-1, 1] x [-1, 1]; the camera's left and up point left and up in it. Deterministic; under autograd each
    covered pixel passes its gradient to the point it shows (coverage itself has none).

    Memory beyond the result: about 40 bytes per point and view, plus one chunk's temporaries: at most 60 bytes for each of
    max(`CHUNK_CANDIDATES`, pixels of one footprint) candidates, that is 16 MB whatever the batch (6 MB for the default disc). With
    gradients 25 bytes per pixel of the result on top, of which 8 stay until the backward pass.

    Args:
        points: (B, N, 3) in the object frame, usually of unit-sphere size; computed in float32.
        azimuth_deg: (B, V), degrees.
        elevation_deg: (B, V), degrees.
        distance: (B, V), positive, in units of the points.
        image_size: Side S of the picture in pixels.
        point_radius: Radius of a disc, in units of half the picture's side, or one for each cloud, (B,), see `density_radius`. Default:
            official CLIP2Point code (render/render.py).
        check_values: Look for values that are not finite or not positive. That waits for a GPU; a training whose data are checked goes without.

    Returns:
        View-space depth (B, V, S, S) float32, -1 where the pixel is empty.

    Raises:
        InputError: If shapes or batch sizes disagree, a coordinate or angle is not finite, or a size is not positive.

    Source: official CLIP2Point renderer (30673e7, render/render.py) on PyTorch3D's `rasterize_points`; checked on its own pictures.
    """
    _check_clouds_and_views(points, azimuth_deg, elevation_deg, distance, check_values)
    _check_sizes(image_size, point_radius)
    return _nearest_depths(points, camera_axes(azimuth_deg, elevation_deg), distance, image_size, point_radius)


def _nearest_depths(points: Float[Tensor, "batch points 3"], axes: Float[Tensor, "batch views 3 3"], distance: Float[Tensor, "batch views"],
                    image_size: int, point_radius: float | Float[Tensor, "..."]) -> Float[Tensor, "batch views size size"]:
    """Do the work of `rasterize` with the axes of its cameras."""
    batch, num_views = distance.shape
    if isinstance(point_radius, Tensor):
        if point_radius.shape != (batch,):
            raise InputError(f"point_radius must be a number or one for each of the {batch} clouds, got {tuple(point_radius.shape)}.")
        point_radius = point_radius.to(points.device, torch.float32).repeat_interleave(num_views)
    points, distance, axes = points.float(), distance.float(), axes.flatten(0, 1)
    with_gradient = torch.is_grad_enabled() and (points.requires_grad or axes.requires_grad or distance.requires_grad)
    kernels = None
    if points.device.type == "cpu" and not torch.compiler.is_exporting():
        footprint = (2 * _reach(point_radius, image_size) + 1) ** 2
        kernels = _kernels(batch * num_views * (image_size**2 + points.shape[1] * footprint))
    if kernels is not None and not with_gradient:
        drawn: Tensor = kernels.nearest_depths(points, axes, distance, image_size, point_radius)
        return drawn.view(batch, num_views, image_size, image_size)
    left, up, depth = _view_coordinates(points, axes, distance)
    with torch.no_grad():
        visible = (depth.detach() >= 0) & (depth.detach() < torch.inf)
        if not with_gradient:
            nearest = _nearest_keys(left, up, depth.masked_fill_(~visible, torch.inf), image_size, point_radius)
            return nearest.nan_to_num_(posinf=EMPTY).view(batch, num_views, image_size, image_size)
        if kernels is not None:
            nearest = kernels.nearest_keys(points, axes, distance, image_size, point_radius)
        else:
            order = torch.arange(depth.shape[1], device=depth.device)
            bits = (depth.detach() + 0.0).view(torch.int32).long()  # + 0.0 turns -0.0 into 0.0; the bits of floats >= 0 sort like the floats
            key = torch.where(visible, (bits << 32) | order, NO_POINT)
            nearest = _nearest_keys(left.detach(), up.detach(), key, image_size, point_radius)
        empty = nearest == NO_POINT
        winner = (nearest & 0xFFFFFFFF).masked_fill_(empty, 0)
    picture = depth.gather(1, winner).masked_fill(empty, EMPTY)
    return picture.view(batch, num_views, image_size, image_size)


def grey_from_depth(depth: Float[Tensor, "*views size size"]) -> Float[Tensor, "*views size size"]:
    """Map depth pictures to grey as CLIP2Point does: near is dark, far at most 200 / 255, the background white.

    Empty pixels count as depth 1 when the smallest depth is sought, and the divisor is the largest depth, not the range: quirks of the
    official code that its weights were trained with. CLIP's mean and standard deviation are applied by the CLIP tower, not here.

    Args:
        depth: (..., S, S) view-space depth; values <= 0 are background. Not changed.

    Returns:
        (..., S, S) in [0, 1].

    Source: official CLIP2Point code (30673e7, render/render.py).
    """
    if depth.requires_grad or depth.device.type != "cpu" or torch.compiler.is_exporting():
        return _grey(depth)
    pictures = depth.reshape(-1, *depth.shape[-2:])
    kernels = _kernels(pictures.numel()) if depth.dtype == torch.float32 else None
    if kernels is not None:
        drawn: Tensor = kernels.grey_pictures(pictures)
        return drawn.view_as(depth)
    grey = torch.empty_like(pictures)
    step = max(1, CHUNK_CANDIDATES // (depth.shape[-2] * depth.shape[-1]))
    for first in range(0, len(pictures), step):  # the temporaries of one step fit the cache
        grey[first : first + step] = _grey(pictures[first : first + step])
    return grey.view_as(depth)


def _grey(depth: Float[Tensor, "*views size size"]) -> Float[Tensor, "*views size size"]:
    largest = depth.amax(dim=(-2, -1), keepdim=True)
    smallest = functional.threshold(depth, 0.0, 1.0).amin(dim=(-2, -1), keepdim=True)
    grey = (depth - smallest) / torch.where(largest > 0, largest, 1.0) * 200 / 255
    # Only the background is below 0. `torch.where` with a mask of pixels, once for `smallest` and once here, takes ten times as long on a CPU.
    return functional.threshold(grey, -torch.finfo(depth.dtype).tiny, 1.0)


class DepthViews(nn.Module):
    """Grey depth pictures of point clouds from a fixed set of cameras: `rasterize`, then `grey_from_depth`.

    Args:
        views: Name of a view preset, see `view_preset`.
        image_size: Side S of the pictures in pixels.
        point_radius: Radius of a disc, in units of half the picture's side, or `density` for `density_radius` of each cloud.

    Raises:
        InputError: If the preset is unknown or a size is not positive.
    """

    normalise_colours = True
    """CLIP's colour mean and std are applied to these pictures. Official code of CLIP2Point."""

    def __init__(self, views: str = "clip2point-10", image_size: int = 224, point_radius: float | str = 0.02) -> None:
        super().__init__()
        self.num_views = len(view_preset(views)[0])
        _check_sizes(image_size, point_radius)
        self.views, self.image_size, self.point_radius = views, image_size, point_radius
        # No buffers: a cast of the module to bfloat16 would turn 315 degrees into 316.
        azimuth, elevation, self._distance = view_preset(views)
        self._axes = camera_axes(azimuth, elevation)

    def forward(self, points: Float[Tensor, "..."]) -> Float[Tensor, "batch views size size"]:
        """Draw clouds (B, N, 3), object frame and unit sphere, as grey pictures (B, V, S, S) in [0, 1], not yet CLIP-normalised."""
        _check_clouds(points)
        check_finite(points)
        axes, distance = (value.to(points.device).expand(points.shape[0], *value.shape) for value in (self._axes, self._distance))
        return grey_from_depth(_nearest_depths(points, axes, distance, self.image_size, self._radius(points)))

    def of_one_view(self, points: Float[Tensor, "batch points 3"], view: Int64[Tensor, "batch"],
                    distance: Float[Tensor, "batch distances"],
                    turn_deg: Float[Tensor, "batch distances 2"] | None = None) -> Float[Tensor, "batch distances size size"]:
        """Draw each cloud from one of the cameras, at several distances: what CLIP2Point is pre-trained on.

        Args:
            points: Unit sphere, object frame; finite, which is not checked.
            view: Index of the camera within the preset, one for each cloud.
            distance: Of the cameras, in units of the points.
            turn_deg: Added to azimuth and elevation of each camera, degrees. Ours; the official code does not turn.
        """
        azimuth, elevation, _ = (value.to(points.device)[view, None].expand_as(distance) for value in view_preset(self.views))
        if turn_deg is not None:
            azimuth, elevation = azimuth + turn_deg[..., 0], elevation + turn_deg[..., 1]
        return grey_from_depth(rasterize(points, azimuth, elevation, distance, image_size=self.image_size, point_radius=self._radius(points),
                                         check_values=False))

    def _radius(self, points: Tensor) -> float | Tensor:
        return density_radius(points) if isinstance(self.point_radius, str) else self.point_radius

    def extra_repr(self) -> str:
        """Name the settings in the module's printout."""
        return f"views={self.views!r}, image_size={self.image_size}, point_radius={self.point_radius}"


def _check_sizes(image_size: int, point_radius: float | str | Tensor) -> None:
    if isinstance(point_radius, str):
        if point_radius != "density":
            raise InputError(f"point_radius must be a positive number or 'density', got {point_radius!r}.")
        point_radius = 1.0
    radii = point_radius if isinstance(point_radius, Tensor) else torch.tensor([point_radius])
    if image_size < 1 or not bool(((radii > 0) & radii.isfinite()).all()):
        found = "a tensor with other values" if isinstance(point_radius, Tensor) else point_radius
        raise InputError(f"image_size and point_radius must be positive, got {image_size} and {found}.")


def _check_clouds(points: Tensor) -> None:
    if points.ndim != 3 or points.shape[-1] != 3 or points.shape[1] == 0:
        raise InputError(f"points must be (B, N, 3) with N >= 1, got {tuple(points.shape)}.")


def _check_clouds_and_views(points: Tensor, azimuth_deg: Tensor, elevation_deg: Tensor, distance: Tensor, check_values: bool) -> None:
    _check_clouds(points)
    for name, values in {"azimuth_deg": azimuth_deg, "elevation_deg": elevation_deg, "distance": distance}.items():
        if values.ndim != 2 or values.shape != azimuth_deg.shape or len(values) != len(points):
            found = f"{name} {tuple(values.shape)}, azimuth_deg {tuple(azimuth_deg.shape)} and points {tuple(points.shape)}"
            raise InputError(f"azimuth_deg, elevation_deg and distance must be (B, V) with the B of points, got {found}.")
        if check_values and not values.isfinite().all():
            raise InputError(f"{name} holds NaN or infinite values; give finite numbers.")
    if check_values:
        check_finite(points)
    if check_values and not (distance > 0).all():
        raise InputError(f"distance must be positive, got {distance.min().item():g}.")


def _kernels(work: int) -> ModuleType | None:
    """Choose who does so many pixels and pixel candidates on a CPU: the module of compiled kernels, or None for plain PyTorch.

    Raises:
        MissingDependencyError: If `COMPILED` asks for kernels that are not there.
    """
    global _drawn
    if COMPILED is False or torch.compiler.is_compiling():
        return None
    if COMPILED is None and _drawn < WORTH_COMPILING:
        _drawn += work
        return None
    kernels = compiled_kernels()
    if kernels is None and COMPILED:
        raise MissingDependencyError("compiled depth views need Numba, which is not installed or does not fit NumPy; run: pip install clip2x[fast].")
    return kernels


@functools.cache
def compiled_kernels() -> ModuleType | None:
    """Load `depth_kernels`; None where Numba is not installed or does not support the installed NumPy."""
    try:
        return importlib.import_module("clip2x.depth_kernels")
    except ImportError:
        return None


def _view_coordinates(
    points: Float[Tensor, "batch points 3"], axes: Float[Tensor, "rows 3 3"], distance: Float[Tensor, "batch views"]
) -> tuple[Float[Tensor, "rows points"], Float[Tensor, "rows points"], Float[Tensor, "rows points"]]:
    """Put clouds in front of their cameras; returns left, up and depth of every point, rows = (cloud, view).

    Products and sums one by one, not a matrix product: TF32 and autocast must not touch them, and the rounding is the original's.
    """
    scaled = points[:, None] * (1 / distance)[:, :, None, None]
    x, y, z = scaled.flatten(0, 1).unbind(-1)
    left, up, depth = (x * axis[:, :1] + y * axis[:, 1:2] + z * axis[:, 2:] for axis in axes.unbind(1))
    return left, up, depth + distance.reshape(-1, 1)


def _nearest_keys(
    left: Float[Tensor, "rows points"],
    up: Float[Tensor, "rows points"],
    key: Shaped[Tensor, "rows points"],
    image_size: int,
    point_radius: float | Float[Tensor, "rows"],
) -> Shaped[Tensor, "rows pixels"]:
    """Keep in every pixel the smallest key of the points whose disc covers it; the largest value of the type where there is none."""
    nothing = torch.inf if key.is_floating_point() else NO_POINT
    nearest = key.new_full((key.shape[0], image_size * image_size), nothing)
    reach = _reach(point_radius, image_size)
    squared_radius = (point_radius.square().view(-1, 1, 1, 1).expand(key.shape[0], 1, 1, 1) if isinstance(point_radius, Tensor)
                      else float(np.float32(point_radius) * np.float32(point_radius)))
    for part in _chunks(key, (2 * reach + 1) ** 2):
        columns, column_distance = _pixels_near(left[part], reach, image_size)
        lines, line_distance = _pixels_near(up[part], reach, image_size)
        pixels = (lines * image_size)[:, :, None] + columns[:, None]
        limit = squared_radius[part[0]] if isinstance(squared_radius, Tensor) else squared_radius
        hit = (line_distance[:, :, None] + column_distance[:, None]) < limit
        keys = torch.where(hit, key[part][:, None, None], nothing)
        nearest[part[0]].scatter_reduce_(1, pixels.flatten(1), keys.flatten(1), "amin")
    return nearest


def _chunks(key: Shaped[Tensor, "rows points"], candidates: int) -> list[tuple[slice, slice]]:
    """Cut rows and points, each point with so many candidates, into parts for one step; a graph that is exported does all at once."""
    if torch.compiler.is_exporting():
        return [(slice(None), slice(None))]
    at_once = CHUNK_CANDIDATES if key.device.type == "cpu" else CHUNK_CANDIDATES_GPU
    num_points = min(key.shape[1], max(1, at_once // candidates))
    num_rows = max(1, at_once // (candidates * num_points))
    starts = itertools.product(range(0, len(key), num_rows), range(0, key.shape[1], num_points))
    return [(slice(row, row + num_rows), slice(point, point + num_points)) for row, point in starts]


def _reach(point_radius: float | Float[Tensor, "rows"], image_size: int) -> int:
    """Count the pixels from a point's own to the last one that the largest disc can hit."""
    largest = float(point_radius.max()) if isinstance(point_radius, Tensor) else point_radius
    return int(min(largest * image_size / 2 + 0.501, image_size))


def _pixels_near(
    coordinate: Float[Tensor, "rows points"], reach: int, image_size: int
) -> tuple[Int64[Tensor, "rows near points"], Float[Tensor, "rows near points"]]:
    """List the pixels around each point along one axis of the picture, and their squared distances; infinite outside the picture.

    Pixel i counted from the right (or bottom) has its centre at -1 + (2 i + 1) / S. Source: PyTorch3D, whose +x points left, +y up.
    """
    offsets = torch.arange(-reach, reach + 1, device=coordinate.device, dtype=coordinate.dtype)
    own = torch.floor((coordinate + 1) * (image_size / 2)).nan_to_num_(nan=-torch.inf).clamp_(-reach - 1, image_size + reach)
    position = own[:, None] + offsets[:, None]
    squared = ((2 * position + 1) / image_size - 1).sub_(coordinate[:, None]).square_()
    position = image_size - 1 - position
    index = position.clamp(0, image_size - 1)
    return index.long(), squared.masked_fill_(index != position, torch.inf)
