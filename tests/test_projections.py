"""The projections of PointCLIP and PointCLIP V2 against figures of the original code, slow twins, hand-computed pixels and invariants."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clip2x import projections
from clip2x.errors import InputError
from clip2x.geometry import unit_sphere
from clip2x.manifest import load_manifest
from clip2x.projections import PointClipV2Views, PointClipViews, rotations

# Per view: mean of the picture, and mean of the picture times a ramp from -1 to 1 down its rows and along its columns. Computed by the
# original code (PointCLIP 02c91ee, PointCLIP_V2 04779d3) on `spiral()`; the ramps tell a turned or mirrored picture from a right one.
ORIGINAL_FIGURES = {
    "zero_shot": [
        [0.01650, 0.01845, 0.01773, 0.01784, 0.02300, 0.02364], [0.00209, -0.00018, 0.00172, -0.00013, -0.00063, 0.00095],
        [0.00165, -0.00029, -0.00121, 0.00101, 0.00217, 0.00261],
    ],
    "few_shot": [
        [0.00899, 0.00976, 0.00937, 0.00919, 0.00980, 0.01060, 0.01087, 0.01000, 0.01205, 0.01201],
        [0.00104, -0.00012, 0.00082, 0.00006, 0.00022, 0.00081, 0.00031, 0.00051, -0.00045, 0.00044],
        [0.00096, -0.00021, -0.00082, 0.00049, -0.00018, -0.00059, 0.00115, 0.00071, 0.00120, 0.00128],
    ],
    "v2": [
        [0.84207, 0.83177, 0.86212, 0.85121, 0.90842, 0.83402, 0.88393, 0.83801, 0.85599, 0.84456],
        [0.01252, 0.00150, -0.01375, 0.01373, -0.01037, 0.02753, -0.02770, 0.01943, -0.02080, 0.00864],
        [0.00318, 0.00054, -0.00220, -0.01825, 0.00031, -0.00597, -0.00492, -0.00347, -0.00290, 0.00056],
    ],
}


def renderer(name: str, image_size: int = 224) -> nn.Module:
    return PointClipV2Views(image_size) if name == "v2" else PointClipViews(image_size, views=name)


def spiral() -> Tensor:
    turn = torch.arange(600, dtype=torch.float64) / 600
    x, y, z = 0.7 * turn * torch.cos(17 * turn), 0.9 * turn - 0.5, 0.5 * (1 - turn) * torch.sin(23 * turn) + 0.1
    return torch.stack([x, y, z], dim=-1).float()[None]


def some_clouds(batch: int, num_points: int) -> Tensor:
    boxes = torch.rand(batch, num_points, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.7, 0.4])
    return unit_sphere(boxes)


@pytest.mark.parametrize("name", ORIGINAL_FIGURES)
def test_figures_of_the_original_code(name: str) -> None:
    pictures, ramp = renderer(name)(spiral())[0], torch.linspace(-1, 1, 224)
    figures = torch.stack([(pictures * weight).mean(dim=(-2, -1)) for weight in (torch.ones(1), ramp[:, None], ramp)])
    assert figures.tolist() == [pytest.approx(row, abs=2e-5) for row in ORIGINAL_FIGURES[name]]


def rotation(angles_deg: tuple[int, int, int]) -> np.ndarray:
    """Write out Rx(a) Ry(b) Rz(c)."""
    (ca, cb, cc), (sa, sb, sc) = ([function(math.radians(angle)) for angle in angles_deg] for function in (math.cos, math.sin))
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def their_points(cloud: Tensor) -> np.ndarray:
    x, y, z = cloud.double().numpy().T
    return np.stack([z, y, -x], axis=1)


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """Interpolate linearly between pixels whose outermost centres stay outermost, row by row and then column by column."""
    spread = np.zeros((size, len(picture)))
    for pixel in range(size):
        position = pixel * (len(picture) - 1) / (size - 1)
        before = min(int(position), len(picture) - 2)
        spread[pixel, before], spread[pixel, before + 1] = 1 - (position - before), position - before
    return spread @ picture @ spread.T


def slow_pointclip(cloud: Tensor, angles_deg: tuple[int, int, int], distance: float, side: int) -> np.ndarray:
    members: dict[tuple[int, int], list[float]] = {}
    for point in their_points(cloud):
        x, y, z = rotation(angles_deg) @ point
        z += distance
        row, column = (math.ceil((value / z + 1) / 2 * side) for value in (x, y))
        if z >= 0 and 0 <= row < side and 0 <= column < side:
            members.setdefault((row, column), []).append(z)
    picture = np.zeros((side, side))
    for pixel, depths in members.items():
        picture[pixel] = sum(z / (z + 1e-12) for z in depths) / sum(1 / (z + 1e-12) for z in depths)
    return resized(picture, 224)


def slow_v2(cloud: Tensor, angles_deg: tuple[int, int, int], tilt_deg: int) -> np.ndarray:
    turned = [rotation((0, tilt_deg, 0)) @ rotation(angles_deg) @ point for point in their_points(cloud)]
    low, high = np.min(turned, axis=0), np.max(turned, axis=0)
    dense = np.zeros((8, 110, 110))
    for point in turned:
        x, y, z = (point - (low + high) / 2) / (high - low).max() * 2
        row, column = (min(max(math.ceil((value * 0.8 + 1) / 2 * 112), 1), 110) for value in (x, y))
        depth = ((z + 1) / 2 + 0.2) / 1.2 * 6
        for line in range(max(row - 4, 0), min(row + 3, 110)):  # output i sees cells i - 2 to i + 4
            for place in range(max(column - 4, 0), min(column + 3, 110)):
                dense[math.ceil(depth), line, place] = max(dense[math.ceil(depth), line, place], min(max(depth, 1), 6))
    kernel = np.array([[math.exp(-(i * i + j * j) / (2 * 9)) for j in (-1, 0, 1)] for i in (-1, 0, 1)])
    padded, smooth = np.pad(dense, ((0, 0), (1, 1), (1, 1))), np.zeros((8, 110, 110))
    for i, j in np.ndindex(3, 3):
        smooth += kernel[i, j] / kernel.sum() * padded[:, i:i + 110, j:j + 110]
    image = smooth.max(axis=0)
    return resized(1 - image / image.max(), 224)


@pytest.mark.parametrize("name", ["zero_shot", "few_shot"])
def test_slow_twin_of_pointclip(name: str) -> None:
    clouds = some_clouds(2, 120)
    pictures = PointClipViews(views=name)(clouds)
    angles, distance, side = projections.POINTCLIP_VIEWS[name]
    for cloud, view in np.ndindex(2, len(angles)):
        np.testing.assert_allclose(pictures[cloud, view], slow_pointclip(clouds[cloud], angles[view], distance, side), atol=1e-4)


def test_slow_twin_of_v2() -> None:
    clouds = some_clouds(2, 120)
    pictures = PointClipV2Views()(clouds)
    for cloud, view in np.ndindex(2, 10):
        expected = slow_v2(clouds[cloud], projections.V2_VIEWS[view], 20 if view < 8 else 12)
        differing = np.abs(pictures[cloud, view].numpy() - expected) > 1e-4
        assert differing.mean() < 0.002  # the outermost points lie on the border between two layers, where rounding decides


def test_points_of_pointclip_by_hand() -> None:
    """From +z, 1.4 away: z = 0.4 is 1.0 deep; y = 0.3 is row ceil(0.7 x 4) = 3; x = 0.6 is column ceil(0.4 x 4) = 2: left, mirrored."""
    point, behind, outside = [0.6, 0.3, 0.4], [0.72, 0.36, 0.2], [0.0, 1.3, 0.4]
    draw, expected = PointClipViews(8, views="few_shot"), torch.zeros(8, 8)
    expected[3, 2] = 1.0
    assert torch.allclose(draw(torch.tensor([[point, outside]]))[0, 3], expected, atol=1e-6)
    expected[3, 2] = 2 / (1 / 1.0 + 1 / 1.2)
    assert torch.allclose(draw(torch.tensor([[point, behind]]))[0, 3], expected, atol=1e-6)


def test_a_picture_of_v2_by_hand() -> None:
    """From +z and 20 degrees above: of two ends of a stick the near one is black, lower and, at +x, on the right: not mirrored."""
    picture = PointClipV2Views(110)(torch.tensor([[[0.5, 0.0, 0.5], [-0.5, 0.0, -0.5]]]))[0, 5]
    rows, columns = torch.nonzero(picture == 0, as_tuple=True)
    assert (rows > 55).all() and (columns > 55).all() and len(rows) == 25  # a pool of 7 x 7, its border smoothed
    near, far = 6 / 1.2 * (0.2 + (1 + math.cos(math.radians(20))) / 2), 6 / 1.2 * (0.2 + (1 - math.cos(math.radians(20))) / 2)
    assert picture[:50, :50].min() == pytest.approx(1 - max(far, 1) / near, abs=1e-4)
    assert (picture == 1).sum() == picture.numel() - 2 * 9 * 9


def test_up_is_up_in_the_views_around_the_object() -> None:
    """A few points high above a broad base: brighter (V2: darker) pixels of the top lie in the upper half only."""
    base = torch.tensor([[x, -0.5, z] for x in (-0.3, 0.3) for z in (-0.3, 0.3)])
    both = torch.cat([base, torch.tensor([[0.0, 0.7, 0.0]])])
    for draw, around in ((PointClipViews(112), range(4)), (PointClipViews(112, views="few_shot"), range(4)), (PointClipV2Views(112), range(8))):
        picture = draw(both[None])[0]
        drawn = picture > 0 if isinstance(draw, PointClipViews) else picture < 1
        for view in around:
            upper, lower = drawn[view, :56].sum(), drawn[view, 56:].sum()
            assert 0 < upper < lower


def test_above_and_below() -> None:
    """A point on top of a plate is nearest from above: smallest depth in PointCLIP, black in V2."""
    plate = torch.tensor([[x, -0.2, z] for x in (-0.6, 0.6) for z in (-0.6, 0.6)] + [[0.0, 0.6, 0.0]])[None]
    above, below = PointClipViews(views="few_shot")(plate)[0, -2:]
    assert above[above > 0].min() == pytest.approx(0.8, abs=1e-5) and below[below > 0].max() == pytest.approx(2.0, abs=1e-5)
    below, above = PointClipV2Views(110)(plate)[0, -2:]
    middle = (slice(40, 70), slice(40, 70))
    assert above[middle].min() == 0 and below[middle].min() > 0.1


def test_the_frame_is_that_of_the_files_that_the_originals_read() -> None:
    ours_from_files = torch.tensor(load_manifest("modelnet40").variants["hdf5"].ours_from_files).float()
    assert torch.equal(torch.tensor(projections.THEIRS_FROM_OURS), ours_from_files.T)


def test_rotations_are_proper_and_in_the_original_order() -> None:
    angles = [(30, 50, -70), (225, -45, 90)]
    matrices = rotations(angles)
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(2), atol=1e-6)
    np.testing.assert_allclose(matrices, [rotation(one) for one in angles], atol=1e-6)


@pytest.mark.parametrize("name", ORIGINAL_FIGURES)
def test_order_of_points_batch_and_chunks_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clouds, draw = some_clouds(3, 3000), renderer(name, 64)
    pictures = draw(clouds)
    assert pictures.shape == (3, draw.num_views, 64, 64) and pictures.dtype == torch.float32
    shuffled = clouds[:, torch.randperm(3000, generator=torch.Generator().manual_seed(1))]
    assert torch.equal(draw(shuffled), pictures)
    assert torch.equal(draw(clouds[1:2])[0], pictures[1])
    monkeypatch.setattr(projections, "ROWS", 7)
    assert torch.equal(draw(clouds), pictures)
    assert draw(clouds[:0]).shape == (0, draw.num_views, 64, 64)


@pytest.mark.parametrize("name", ORIGINAL_FIGURES)
def test_casts_and_autocast_leave_the_pictures_alone(name: str) -> None:
    clouds, draw = some_clouds(1, 200).bfloat16().requires_grad_(), renderer(name, 32)
    expected = draw(clouds.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pictures = draw.bfloat16()(clouds)
    assert torch.equal(pictures, expected) and not pictures.requires_grad


def test_v2_knows_neither_place_nor_size() -> None:
    clouds, draw = some_clouds(2, 400), PointClipV2Views(112)
    pictures = draw(clouds)
    assert torch.equal(draw(clouds * 1024), pictures)
    moved = draw(clouds * 3 + torch.tensor([5.0, -2.0, 7.0]))
    assert ((moved - pictures).abs() > 1e-4).float().mean() < 0.01  # points on the border of a cell may cross it


@pytest.mark.parametrize(("name", "depths"), [("zero_shot", (0.6, 2.6)), ("few_shot", (0.4, 2.4))])
def test_ranges_and_empty_pixels_of_pointclip(name: str, depths: tuple[float, float]) -> None:
    side = projections.POINTCLIP_VIEWS[name][2]
    draw = PointClipViews(views=name)
    draw.image_size = draw.drawing_size  # as drawn, before it is enlarged
    pictures = draw(some_clouds(2, 1000))
    covered = pictures > 0
    assert pictures.shape[-1] == side and pictures[covered].min() >= depths[0] and pictures.max() <= depths[1]
    assert (covered.sum(dim=(-2, -1)) <= 1000).all() and (pictures[~covered] == 0).all()


def test_range_of_v2() -> None:
    pictures = PointClipV2Views(110)(some_clouds(2, 1000))
    assert (pictures.amin(dim=(-2, -1)) == 0).all() and (pictures.amax(dim=(-2, -1)) == 1).all()


def test_points_at_the_camera_or_far_away_do_no_harm() -> None:
    far = torch.tensor([[[0.0, 0.0, 1.4], [0.0, 0.0, 1e30], [1e30, -1e30, 0.0], [0.1, 0.2, 0.3]]])
    assert PointClipViews(views="few_shot")(far).isfinite().all()


@pytest.mark.parametrize(("size", "zero_shot", "few_shot"), [(224, 128, 224), (64, 37, 64), (336, 192, 336), (1, 1, 1)])
def test_the_drawing_keeps_its_share_of_the_picture(size: int, zero_shot: int, few_shot: int) -> None:
    assert PointClipViews(size).drawing_size == zero_shot and PointClipViews(size, views="few_shot").drawing_size == few_shot
    assert PointClipViews(size)(some_clouds(1, 9)).shape[-1] == size == PointClipV2Views(size)(some_clouds(1, 9)).shape[-1]


def test_refusals() -> None:
    with pytest.raises(InputError, match="unknown views 'six' of PointCLIP; known: zero_shot, few_shot"):
        PointClipViews(views="six")
    for draw in (PointClipViews(8), PointClipV2Views(8)):
        with pytest.raises(InputError, match="image_size must be at least 1 pixel, got 0"):
            type(draw)(0)
        with pytest.raises(InputError, match=r"points must be \(B, N, 3\) with N >= 1, got \(2, 3, 5\)"):
            draw(torch.zeros(2, 3, 5))
        with pytest.raises(InputError, match="NaN or infinite"):
            draw(torch.tensor([[[0.0, torch.nan, 0.0]]]))
    for cloud in (torch.ones(1, 4, 3), torch.tensor([[[3e38, 0, 0], [-3e38, 0, 0]]])):
        with pytest.raises(InputError, match="points are all equal or too far apart for float32"):
            PointClipV2Views(8)(cloud)


@pytest.mark.data
def test_real_clouds_fill_the_picture(shared_data: Path) -> None:
    from clip2x.data.readers import open_dataset

    data = open_dataset("modelnet10/hdf5_1024/dev", shared_data, num_points=1024, seed=0)
    points = torch.stack([torch.as_tensor(data[entry]["points"]) for entry in range(4)])
    assert ((PointClipViews()(points) > 0).float().mean(dim=(-2, -1)) > 0.01).all()
    assert ((PointClipV2Views()(points) < 1).float().mean(dim=(-2, -1)) > 0.05).all()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ORIGINAL_FIGURES)
def test_same_pictures_on_a_gpu(name: str) -> None:
    clouds, draw = some_clouds(2, 1000), renderer(name)
    first, second = (draw(clouds.cuda()).cpu() for _ in range(2))
    assert torch.equal(first, second)
    assert ((first - draw(clouds)).abs() > 1e-5).float().mean() < 1e-3
