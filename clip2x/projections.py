"""The projections of PointCLIP and PointCLIP V2 as view renderers: what zero-shot figures of CLIP without any 3-D training rest on.

Sources, read and compared line by line: ZrrSkywalker/PointCLIP 02c91ee (trainers/mv_utils_zs.py, trainers/mv_utils_fs.py,
trainers/zeroshot.py, trainers/fewshot.py, datasets/modelnet40.py) and yangyangyang127/PointCLIP_V2 04779d3
(zeroshot_cls/trainers/mv_utils_zs.py, zeroshot_cls/trainers/zeroshot.py, zeroshot_cls/datasets), both called official code below. The
arithmetic follows them in their order; the code is ours: batched over clouds and views, the same picture on every run and for every order
of the points, untouched by autocast and TF32. No gradients pass through these pictures. Checked on 50 clouds of ModelNet10 against a
transcription of both originals for the CPU: PointCLIP's 800 pictures are equal to 5e-7; of V2's 500 pictures 5 differ, in 424 pixels of
25 million, where rounding puts a point on the other side of a cell's border.

Not here: the weights of views and the sentences that PointCLIP V2 ships for each data set and the search of PointCLIP's `--post-search`,
because they were fitted on test labels. Sum the cosines of the views with equal weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from clip2x.errors import InputError
from clip2x.geometry import check_finite

THEIRS_FROM_OURS = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))
"""Our object frame to that of the files which both projects read without turning them (official code: the datasets' modules): PointNet's
arrays of ModelNet40, y up. It undoes `ours_from_files` of the manifest modelnet40, variant hdf5, where its source stands: up is certain,
the front is assumed there. Were it a quarter turn off, the views around the object would be the same ones in another order; those from
above and below would be rolled by it, and the oblique ones of `few_shot` would be the other four."""

AROUND_AND_POLES = ((0, 0, 90), (90, 0, 90), (180, 0, 90), (270, 0, 90), (0, -90, 90), (0, 90, 90))
OBLIQUE = ((225, -45, 90), (225, 45, 90), (315, -45, 90), (315, 45, 90))
BETWEEN = ((45, 0, 90), (135, 0, 90), (225, 0, 90), (315, 0, 90))

POINTCLIP_VIEWS = {
    "zero_shot": (AROUND_AND_POLES, 1.6, 128),
    "few_shot": (AROUND_AND_POLES[:4] + OBLIQUE + AROUND_AND_POLES[4:], 1.4, 224),
}
"""Angles a, b, c in degrees, distance from camera to centre, and side of the drawing in pixels for a tower of 224. Official code."""

EPSILON = 1e-12
"""Added to depths that are divided by. Official code of PointCLIP."""

ORIGINAL_SIZE = 224
"""Side of the pictures that both projects give to CLIP, pixels. Official code."""

V2_VIEWS = BETWEEN + AROUND_AND_POLES
V2_TILTS = ((0, 20, 0),) * 8 + ((0, 12, 0),) * 2
"""Angles of the second rotation, degrees. Official code."""

GRID, LAYERS = 112, 8
"""Cells of V2's grid across and in depth. Official code."""

OBJECT_SHARE, DEPTH_BIAS = 0.8, 0.2
"""V2: share of the grid's side that the object's largest extent takes; what is added to depths in [0, 1]. Official code."""

POOL, POOL_PADDING, SIGMA = 7, 2, 3.0
"""V2's densifying max-pool (112 -> 110 pixels) and the spread of its 3 x 3 Gaussian, in pixels. Official code."""

ROWS = 8
"""Pictures drawn at a time. Ours: bounds the temporary memory (V2: about 15 MB), changes nothing else."""

FIXED_POINT, LARGEST_WEIGHT = 2**28, 2.0**16
"""Ours: weights are summed as whole multiples of 2^-28, so that the order of the points cannot matter. That is exact for depths from
2^-16 to 16; a point nearer than 2^-16 counts as that near."""


class PointClipViews(nn.Module):
    """Draw clouds as PointCLIP does: perspective, one pixel a point, the raw depth as brightness on black.

    A point is turned by Rx(a) Ry(b) Rz(c), moved away from the camera by the distance, divided by its depth z, and falls into row
    ceil((x / z + 1) / 2 S) and column ceil((y / z + 1) / 2 S). Points of one pixel merge into the harmonic mean of their depths (weights
    1 / (z + 1e-12)); those outside the picture or behind the camera are dropped; empty pixels are 0. `zero_shot` draws 128 pixels and
    enlarges them to 224 (bilinear, corners aligned); `few_shot` draws 224. All this is official code.

    Looked at (chairs, toilets, monitors, sofas of ModelNet10; chairs, airplanes, cars, lamps of the mini-world): up is up in the four
    views around the object, taken from +x, -z, -x and +z of our frame; the last two look from above and from below, with +z to the right;
    the oblique ones of `few_shot` are rolled. Every picture is a mirror image: the original takes x as row, y as column, and its z grows
    away from the camera.

    Args:
        image_size: Side S of the pictures in pixels. Ours: with another tower than the original's 224 the drawing keeps its share of it
            (`zero_shot` at 64: 37 pixels, enlarged to 64), so that a point covers the same part of the picture; shrinking a drawing of
            128 would lose most of the single-pixel points instead.
        views: `zero_shot` (6 views at 1.6) or `few_shot` (10 views at 1.4).

    Attributes:
        num_views: V.
        normalise_colours: False: the original gives the pictures to CLIP without subtracting its colour mean.

    Raises:
        InputError: If the views are unknown or the size is not positive.
    """

    normalise_colours = False

    def __init__(self, image_size: int = ORIGINAL_SIZE, *, views: str = "zero_shot") -> None:
        super().__init__()
        if views not in POINTCLIP_VIEWS:
            raise InputError(f"unknown views {views!r} of PointCLIP; known: {', '.join(POINTCLIP_VIEWS)}.")
        _check_size(image_size)
        angles, self.distance, side = POINTCLIP_VIEWS[views]
        self.views, self.image_size, self.num_views = views, image_size, len(angles)
        self.drawing_size = max(1, round(image_size * side / ORIGINAL_SIZE))
        self.rotations = rotations(angles) @ torch.tensor(THEIRS_FROM_OURS)  # no buffer: a cast of the module must not touch it

    @torch.no_grad()
    def forward(self, points: Float[Tensor, "..."]) -> Float[Tensor, "batch views size size"]:
        """Draw clouds (B, N, 3), object frame and unit sphere, as pictures (B, V, S, S): depths, 0.4 to 2.6 for such clouds, else 0."""
        parts = [self._draw(*rows.unbind(1)) for rows in _turned(points, self.rotations)]
        return torch.cat(parts).view(len(points), self.num_views, self.image_size, self.image_size)

    def _draw(self, x: Float[Tensor, "rows points"], y: Float[Tensor, "rows points"],
              z: Float[Tensor, "rows points"]) -> Float[Tensor, "rows size size"]:
        side, z = self.drawing_size, z + self.distance
        row, column = (((value / (z + EPSILON) + 1) * side / 2).ceil() for value in (x, y))
        seen = (row >= 0) & (row <= side - 1) & (column >= 0) & (column <= side - 1) & (z >= 0)
        pixel = torch.where(seen, row * side + column, 0).long()
        weight = (torch.where(seen, 1 / (z + EPSILON), 0).clamp(max=LARGEST_WEIGHT) * FIXED_POINT).long()
        nothing = pixel.new_zeros(len(x), side * side)
        count, total = nothing.scatter_add(1, pixel, seen.long()), nothing.scatter_add(1, pixel, weight)
        depth = count.float() * FIXED_POINT / total.clamp(min=1).float()
        return _resized(depth.view(-1, side, side), self.image_size)

    def extra_repr(self) -> str:
        """Name the settings in the module's printout."""
        return f"views={self.views!r}, image_size={self.image_size}, drawing_size={self.drawing_size}"


class PointClipV2Views(nn.Module):
    """Draw clouds as PointCLIP V2 does: a coarse grid of depths, densified, smoothed and squeezed to a grey picture on white.

    A cloud is turned by Rx(a) Ry(b) Rz(c) and then by the tilt, centred on the middle of its bounding box and divided by half its
    largest extent; it fills 0.8 of a grid of 112 x 112 cells with 8 layers of depth. A cell holds its largest depth value (1 to 6,
    nearest 6), 0 if empty. Each layer is max-pooled (7 x 7) and smoothed (3 x 3 Gaussian, sigma 3); a pixel shows the largest layer,
    divided by the picture's largest and subtracted from 1: near is black, far is light, the background white. All this is official code,
    as is the bilinear resizing of the 110 pixels to 224 (corners aligned).

    Looked at as for `PointClipViews`: up is up in the first eight views, taken 20 degrees from above from (-x,+z), (+x,+z), (+x,-z),
    (-x,-z), -x, +z, +x and -z of our frame; the last two look from below and from above, with +z to the right. No picture is mirrored: the
    nearest points are those with the largest z.

    Args:
        image_size: Side S of the pictures in pixels. Ours: the grid stays the original's whatever the tower, and the finished picture is
            resized to it: the pooled spots are 7 pixels wide, so that half the size loses none, while a smaller grid with the same pool
            would swell them.

    Attributes:
        num_views: 10.
        normalise_colours: False: the original gives the pictures to CLIP without subtracting its colour mean.

    Raises:
        InputError: If the size is not positive.
    """

    normalise_colours = False

    def __init__(self, image_size: int = ORIGINAL_SIZE) -> None:
        super().__init__()
        _check_size(image_size)
        self.image_size, self.num_views = image_size, len(V2_VIEWS)
        self.rotations = rotations(V2_TILTS) @ rotations(V2_VIEWS) @ torch.tensor(THEIRS_FROM_OURS)

    @torch.no_grad()
    def forward(self, points: Float[Tensor, "..."]) -> Float[Tensor, "batch views size size"]:
        """Draw clouds (B, N, 3), object frame, any unit, as pictures (B, V, S, S) in [0, 1]."""
        parts = [_resized(_squeezed(_grid(rows)), self.image_size) for rows in _turned(points, self.rotations)]
        return torch.cat(parts).view(len(points), self.num_views, self.image_size, self.image_size)

    def extra_repr(self) -> str:
        """Name the settings in the module's printout."""
        return f"image_size={self.image_size}"


def rotations(angles_deg: Sequence[tuple[int, int, int]]) -> Float[Tensor, "views 3 3"]:
    """Build Rx(a) Ry(b) Rz(c), which acts on column vectors, for each (a, b, c) in degrees; float32, as the official code computes it."""
    angles = torch.deg2rad(torch.tensor(angles_deg, dtype=torch.float64)).float()
    product = torch.eye(3)
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3).repeat(len(angles), 1, 1)
        turn[:, first, first] = turn[:, second, second] = angles[:, axis].cos()
        turn[:, second, first] = angles[:, axis].sin()
        turn[:, first, second] = -angles[:, axis].sin()
        product = product @ turn
    return product


def _check_size(image_size: int) -> None:
    if image_size < 1:
        raise InputError(f"image_size must be at least 1 pixel, got {image_size}.")


def _turned(points: Tensor, target_from_ours: Float[Tensor, "views 3 3"]) -> Iterator[Float[Tensor, "rows 3 points"]]:
    """Turn clouds into each view and yield a few (cloud, view) rows at a time.

    Products and sums one by one, not a matrix product: TF32 and autocast must not touch them.
    """
    if points.ndim != 3 or points.shape[-1] != 3 or points.shape[1] == 0:
        raise InputError(f"points must be (B, N, 3) with N >= 1, got {tuple(points.shape)}.")
    check_finite(points)
    x, y, z = points.float()[:, None, None].unbind(-1)
    a, b, c = target_from_ours.to(points.device).unsqueeze(-1).unbind(-2)
    yield from torch.split((x * a + y * b + z * c).flatten(0, 1), ROWS)


def _grid(coordinates: Float[Tensor, "rows 3 points"]) -> Float[Tensor, "rows layers cells cells"]:
    """Write the largest depth value of the points of each cell; rows of cells follow x, columns y."""
    low, high = coordinates.amin(dim=-1, keepdim=True), coordinates.amax(dim=-1, keepdim=True)
    extent = (high - low).amax(dim=1, keepdim=True)
    if not ((extent > 0) & extent.isfinite()).all():
        raise InputError("a cloud's points are all equal or too far apart for float32; remove it or change its unit.")
    centred = (coordinates - (high + low) / 2) / extent * 2
    x, y = ((centred[:, :2] * OBJECT_SHARE + 1) / 2 * GRID).ceil().clamp(1, GRID - 2).unbind(1)
    depth = ((centred[:, 2] + 1) / 2 + DEPTH_BIAS) / (1 + DEPTH_BIAS) * (LAYERS - 2)
    cell = ((depth.ceil() * GRID + x) * GRID + y).long()
    grid = depth.new_zeros(len(depth), LAYERS * GRID * GRID).scatter_reduce(1, cell, depth.clamp(1, LAYERS - 2), "amax")
    return grid.view(-1, LAYERS, GRID, GRID)


def _squeezed(grid: Float[Tensor, "rows layers cells cells"]) -> Float[Tensor, "rows size size"]:
    """Densify and smooth every layer, keep the largest, make the nearest black and the background white."""
    dense = _largest_near(_largest_near(functional.pad(grid, (POOL_PADDING,) * 4), dim=-1), dim=-2)
    beside = math.exp(-1 / (2 * SIGMA**2))
    centre, beside = 1 / (1 + 2 * beside), beside / (1 + 2 * beside)
    padded = functional.pad(dense, (1, 1, 1, 1))
    across = padded[..., 1:-1] * centre + (padded[..., :-2] + padded[..., 2:]) * beside  # no convolution: TF32 and autocast again
    smooth = across[..., 1:-1, :] * centre + (across[..., :-2, :] + across[..., 2:, :]) * beside
    image = smooth.amax(dim=1)
    return 1 - image / image.amax(dim=(-2, -1), keepdim=True)


def _largest_near(values: Float[Tensor, "rows layers _ _"], dim: int) -> Float[Tensor, "rows layers _ _"]:
    """Max-pool along one axis with stride 1, in windows that double until they are `POOL` wide; 20 times faster than `max_pool2d` on a CPU.

    The values must not be negative: the zeros around the grid stand for the pool's empty border.
    """
    width = 1
    while width < POOL:
        step = min(width, POOL - width)
        length = values.shape[dim] - step
        values = torch.maximum(values.narrow(dim, 0, length), values.narrow(dim, step, length))
        width += step
    return values


def _resized(pictures: Float[Tensor, "rows _ _"], image_size: int) -> Float[Tensor, "rows size size"]:
    if pictures.shape[-1] == image_size:
        return pictures
    resized: Tensor = functional.interpolate(pictures[:, None], size=(image_size, image_size), mode="bilinear", align_corners=True)[:, 0]
    return resized
