"""Depth views against the official renderer's pictures, a slow twin, hand-computed pixels and invariants."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from clip2x import depth as depth_module
from clip2x.density import density_radius
from clip2x.depth import DepthViews, grey_from_depth, rasterize, view_preset
from clip2x.errors import InputError
from clip2x.geometry import camera_axes, unit_sphere

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")
GOLDEN_SETS = ["a_1024x10", "b_1024x6", "c_2048x10", "d_1024x10_dist"]


def cameras(batch: int, azimuth: list[float], elevation: list[float], distance: list[float]) -> list[Tensor]:
    return [torch.tensor(values).float().expand(batch, -1) for values in (azimuth, elevation, distance)]


def some_clouds(batch: int, num_points: int, seed: int = 0) -> Tensor:
    return unit_sphere(torch.randn(batch, num_points, 3, generator=torch.Generator().manual_seed(seed)))


def slow_picture(view_points: NDArray[np.float32], size: int, radius: float) -> NDArray[np.float32]:
    """Draw one picture pixel by pixel, every point tested; `view_points` are left, up, depth."""
    picture = np.full((size, size), -1, np.float32)
    squared_radius = np.float32(radius) * np.float32(radius)
    for row in range(size):
        for column in range(size):
            up = np.float32(2 * (size - 1 - row) + 1) / np.float32(size) - np.float32(1)
            left = np.float32(2 * (size - 1 - column) + 1) / np.float32(size) - np.float32(1)
            near = (view_points[:, 0] - left) ** 2 + (view_points[:, 1] - up) ** 2 < squared_radius
            depths = view_points[near & (view_points[:, 2] >= 0), 2]
            if len(depths):
                picture[row, column] = depths.min()
    return picture


@pytest.mark.data
@pytest.mark.parametrize("name", GOLDEN_SETS)
@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_numba)])
def test_same_pictures_as_the_official_renderer(shared_data: Path, monkeypatch: pytest.MonkeyPatch, name: str, with_gradient: bool,
                                                compiled: bool) -> None:
    monkeypatch.setattr(depth_module, "COMPILED", compiled)
    golden = np.load(shared_data / "render_reference.npz")
    points, azimuth, elevation, distance, expected, grey = (
        torch.from_numpy(golden[f"{name}.{key}"]) for key in ("points", "azim", "elev", "dist", "zbuf", "image")
    )
    picture = rasterize(points.requires_grad_(with_gradient), azimuth, elevation, distance).detach()
    covered, expected_covered = picture > 0, expected > 0
    assert (covered != expected_covered).sum() <= 2e-6 * expected.numel()
    both = covered & expected_covered
    assert torch.all((picture - expected)[both].abs() <= 1e-5)
    assert torch.equal(grey_from_depth(expected), grey)
    assert torch.all((grey_from_depth(picture) - grey)[covered == expected_covered].abs() <= 1e-5)


@pytest.mark.parametrize(
    ("size", "radius", "distance"),
    [(32, 0.02, 1.0), (32, 0.1, 1.3), (33, 0.045, 0.9), (64, 0.02, 1.07), (24, 0.7, 1.0), (8, 3.0, 1.0), (20, 0.25, 0.5)],
)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_numba)])
def test_slow_twin(monkeypatch: pytest.MonkeyPatch, size: int, radius: float, distance: float, compiled: bool) -> None:
    monkeypatch.setattr(depth_module, "COMPILED", compiled)
    clouds = some_clouds(2, 60)
    azimuth, elevation, distances = cameras(2, [30, 0], [20, 90], [distance, distance])
    picture = rasterize(clouds, azimuth, elevation, distances, image_size=size, point_radius=radius)
    for cloud, view in np.ndindex(2, 2):
        axes = camera_axes(azimuth[cloud, view], elevation[cloud, view])
        scaled = clouds[cloud] * (1 / distances[cloud, view])
        left, up, forward = (scaled[:, 0] * axis[0] + scaled[:, 1] * axis[1] + scaled[:, 2] * axis[2] for axis in axes)
        expected = slow_picture(torch.stack([left, up, forward + distances[cloud, view]], 1).numpy(), size, radius)
        np.testing.assert_array_equal(picture[cloud, view].numpy(), expected)


def test_one_point_by_hand() -> None:
    """From the front +x of the object points right: x = 0.5 lies at 6 of 8 pixels, y = 0.5 at row 2; depth = 1 - z."""
    picture = rasterize(torch.tensor([[[0.5, 0.5, 0.25]]]), *cameras(1, [0], [0], [1]), image_size=8, point_radius=0.2)
    expected = torch.full((8, 8), -1.0)
    expected[1:3, 5:7] = 0.75
    assert torch.equal(picture[0, 0], expected)


def test_radius_is_strict() -> None:
    """A point on the corner of four pixels of side 0.5 is sqrt(2) / 4 from each centre; at the very side it is 0.25 from two."""
    front = cameras(1, [0], [0], [1])
    side = torch.tensor([[[0.25, 0.5, 0.0]]])
    assert (rasterize(side, *front, image_size=4, point_radius=0.25) >= 0).sum() == 0
    assert (rasterize(side, *front, image_size=4, point_radius=0.2501) >= 0).sum() == 2


def test_nearest_point_wins_and_points_behind_the_camera_are_dropped() -> None:
    points = torch.tensor([[[0.0, 0.0, -0.5], [0.0, 0.0, 0.5], [0.0, 0.0, 1.5]]])
    picture = rasterize(points, *cameras(1, [0], [0], [1]), image_size=8, point_radius=0.3)
    assert set(picture.unique().tolist()) == {-1.0, 0.5}
    behind = rasterize(points[:, 2:], *cameras(1, [0], [0], [1]), image_size=8, point_radius=0.3)
    assert torch.all(behind == -1)


@pytest.mark.parametrize("far", [1.5, 1e9, 3e38])
def test_points_outside_the_picture_leave_no_trace(far: float) -> None:
    picture = rasterize(torch.tensor([[[far, 0.0, 0.0], [0.0, -far, 0.0]]]), *cameras(1, [0], [0], [1]), image_size=16, point_radius=0.3)
    assert torch.all(picture == -1)


def test_larger_distance_makes_the_picture_smaller() -> None:
    points = some_clouds(1, 500)
    covered = [(rasterize(points, *cameras(1, [0], [0], [value]), image_size=64) > 0).sum() for value in (1.0, 1.5, 3.0)]
    assert all(near > far for near, far in pairwise(covered))


def test_order_of_points_batching_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    clouds, views = some_clouds(3, 200), view_preset("clip2point-10")
    picture = rasterize(clouds, *(value.expand(3, -1) for value in views), image_size=48, point_radius=0.05)
    shuffled = clouds[:, torch.randperm(200, generator=torch.Generator().manual_seed(1))]
    assert torch.equal(rasterize(shuffled, *(value.expand(3, -1) for value in views), image_size=48, point_radius=0.05), picture)
    single = rasterize(clouds[1:2], *(value[None, 3:4] for value in views), image_size=48, point_radius=0.05)
    assert torch.equal(single[0, 0], picture[1, 3])
    for candidates in (1, 700, 20_000):
        monkeypatch.setattr(depth_module, "CHUNK_CANDIDATES", candidates)
        size_one = rasterize(clouds[:1], *(value[None, :2] for value in views), image_size=48, point_radius=0.05)
        assert torch.equal(size_one[0], picture[0, :2])


def test_autocast_and_half_precision_points_do_not_change_the_arithmetic() -> None:
    clouds, views = some_clouds(1, 100).bfloat16(), [value[None] for value in view_preset("clip2point-6")]
    expected = rasterize(clouds.float(), *views, image_size=32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rasterize(clouds, *views, image_size=32), expected)


def test_gradient_goes_to_the_winning_point() -> None:
    clouds = some_clouds(1, 40).requires_grad_()
    views = cameras(1, [25, 160], [10, -50], [1, 1.2])
    weight = torch.rand(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))

    def weighted_sum(points: Tensor) -> Tensor:
        picture = rasterize(points, *views, image_size=32, point_radius=0.1)
        return (picture.double() * weight * (picture > 0)).sum()

    (gradient,) = torch.autograd.grad(weighted_sum(clouds), clouds)
    step = 1e-3
    checked = 0
    for index in range(40):
        for axis in camera_axes(*(value[0] for value in views[:2]))[:, 2]:  # along a view direction coverage stays as it is in that view
            moved = [clouds.detach().clone() for _ in range(2)]
            moved[0][0, index] += step * axis
            moved[1][0, index] -= step * axis
            pictures = [rasterize(points, *views, image_size=32, point_radius=0.1) for points in moved]
            same_cover = torch.equal(pictures[0] > 0, pictures[1] > 0)
            slope = (weighted_sum(moved[0]) - weighted_sum(moved[1])) / (2 * step)
            along = gradient[0, index] @ axis
            if same_cover and (pictures[0] - pictures[1]).abs().amax() < 2.5 * step:
                checked += 1
                assert slope.item() == pytest.approx(along.item(), rel=2e-2, abs=2e-2)
    assert checked >= 10


def test_gradient_of_one_point_by_hand() -> None:
    """Four pixels, d depth / d z = -1 / distance each; with z scaled by 1 / 2 the point (1, 1, 0.5) falls where (0.5, 0.5) was."""
    point = torch.tensor([[[1.0, 1.0, 0.5], [1.0, 1.0, -0.5]]], requires_grad=True)
    picture = rasterize(point, *cameras(1, [0], [0], [2]), image_size=8, point_radius=0.2)
    picture.sum().backward()
    assert point.grad is not None
    torch.testing.assert_close(point.grad, torch.tensor([[[0.0, 0.0, -2.0], [0.0, 0.0, 0.0]]]), atol=1e-6, rtol=0)


def test_grey_by_hand() -> None:
    depth = torch.tensor([[0.5, 1.5], [-1.0, 1.0]])
    before = depth.clone()
    expected = torch.tensor([[0.0, 1 / 1.5], [1.5, 0.5 / 1.5]]) * 200 / 255
    expected[1, 0] = 1
    torch.testing.assert_close(grey_from_depth(depth), expected)
    assert torch.equal(depth, before)


def test_grey_counts_empty_pixels_as_depth_one_when_it_seeks_the_smallest() -> None:
    depth = torch.tensor([[2.0, 2.5], [2.0, 2.0]])
    torch.testing.assert_close(grey_from_depth(depth), torch.tensor([[0.0, 0.2], [0.0, 0.0]]) * 200 / 255)
    depth[1, 1] = -1
    torch.testing.assert_close(grey_from_depth(depth), torch.tensor([[0.4 * 200, 0.6 * 200], [0.4 * 200, 255]]) / 255)


def test_grey_of_an_empty_picture_is_white() -> None:
    assert torch.all(grey_from_depth(torch.full((3, 4, 4), -1.0)) == 1)


def test_presets_are_the_official_ones() -> None:
    azimuth, elevation, distance = view_preset("clip2point-10")
    assert elevation.tolist() == [0, 90, 180, 270, 225, 225, 315, 315, 0, 0]
    assert azimuth.tolist() == [0, 0, 0, 0, -45, 45, -45, 45, -90, 90]
    assert distance.tolist() == [1] * 10
    azimuth, elevation, distance = view_preset("clip2point-6")
    assert elevation.tolist() == [0, 0, 0, 0, 90, -90]
    assert azimuth.tolist() == [0, 90, 180, 270, 0, 180]
    assert distance.tolist() == [1] * 6


def test_depth_views_module() -> None:
    clouds = some_clouds(2, 128)
    module = DepthViews(views="clip2point-6", image_size=32, point_radius=0.045)
    grey = module(clouds)
    assert grey.shape == (2, module.num_views, 32, 32)
    assert grey.min() >= 0
    assert grey.max() == 1
    views = [value.expand(2, -1) for value in view_preset("clip2point-6")]
    assert torch.equal(grey, grey_from_depth(rasterize(clouds, *views, image_size=32, point_radius=0.045)))
    assert torch.equal(module.bfloat16()(clouds), grey)
    assert not module.state_dict()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_same_pictures_on_cuda() -> None:
    clouds, views = some_clouds(4, 1024), [value.expand(4, -1) for value in view_preset("clip2point-10")]
    on_cpu = rasterize(clouds, *views)
    on_cuda = rasterize(clouds.cuda(), *(value.cuda() for value in views)).cpu()
    covered = (on_cpu > 0) & (on_cuda > 0)
    assert ((on_cpu > 0) != (on_cuda > 0)).sum() <= 2e-6 * on_cpu.numel()
    assert (on_cpu - on_cuda)[covered].abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": torch.zeros(2, 3, 5)}, r"points must be \(B, N, 3\) with N >= 1, got \(2, 3, 5\)\."),
        ({"points": torch.zeros(2, 0, 3)}, r"points must be \(B, N, 3\) with N >= 1, got \(2, 0, 3\)\."),
        ({"points": torch.full((2, 5, 3), torch.nan)}, r"points hold NaN or infinite coordinates"),
        ({"points": torch.full((2, 5, 3), torch.inf)}, r"points hold NaN or infinite coordinates"),
        ({"azimuth_deg": torch.zeros(3, 4)}, r"must be \(B, V\) with the B of points, got azimuth_deg \(3, 4\)"),
        ({"elevation_deg": torch.zeros(2, 3)}, r"got elevation_deg \(2, 3\), azimuth_deg \(2, 4\) and points \(2, 5, 3\)"),
        ({"distance": torch.ones(4)}, r"got distance \(4,\)"),
        ({"distance": torch.zeros(2, 4)}, r"distance must be positive, got 0\."),
        ({"elevation_deg": torch.full((2, 4), torch.nan)}, r"elevation_deg holds NaN"),
        ({"point_radius": 0.0}, r"image_size and point_radius must be positive, got 224 and 0\.0"),
        ({"point_radius": float("nan")}, r"image_size and point_radius must be positive"),
        ({"image_size": 0}, r"image_size and point_radius must be positive, got 0 and 0\.02"),
    ],
)
def test_errors_in_one_line(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"points": torch.zeros(2, 5, 3)}
    arguments |= {"azimuth_deg": torch.zeros(2, 4), "elevation_deg": torch.zeros(2, 4), "distance": torch.ones(2, 4)} | changes
    sizes = {name: arguments.pop(name) for name in ("image_size", "point_radius") if name in arguments}
    with pytest.raises(InputError, match=message) as error:
        rasterize(*(arguments[name] for name in ("points", "azimuth_deg", "elevation_deg", "distance")), **sizes)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_unknown_preset_and_bad_sizes_are_refused_when_the_module_is_built() -> None:
    with pytest.raises(InputError, match=r"unknown view preset 'front'; known: clip2point-10, clip2point-6\."):
        DepthViews(views="front")
    with pytest.raises(InputError, match="point_radius must be positive"):
        DepthViews(point_radius=-1.0)


def test_density_radius_by_hand_and_on_repeated_points() -> None:
    square = torch.tensor([[0.0, 0, 0], [0.03, 0, 0], [0, 0.03, 0], [0.03, 0.03, 0]])
    expected = 1.7 * 0.03 * (1 + 1 + 2**0.5) / 3
    assert density_radius(square[None]).item() == pytest.approx(expected, rel=1e-5)
    assert density_radius(square.repeat(50, 1)[None]).item() == pytest.approx(expected, rel=1e-5), "repeated points count once"
    assert density_radius(square[None] * 3).item() == pytest.approx(0.1), "the upper bound"
    assert density_radius(square[None] / 100).item() == pytest.approx(0.02), "the lower bound"
    assert density_radius(torch.zeros(1, 5, 3)).item() == pytest.approx(0.1), "all points in one place"
    with pytest.raises(InputError, match="0 < least <= most"):
        density_radius(square[None], least=0.3)


def test_denser_clouds_get_smaller_discs() -> None:
    points = torch.nn.functional.normalize(torch.randn(1, 4096, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    radii = [density_radius(points[:, :count]).item() for count in (64, 256, 1024, 4096)]
    assert radii == sorted(radii, reverse=True)
    ratio = density_radius(points[:, :1024], 1e-3, 1.0).item() / density_radius(points, 1e-3, 1.0).item()
    assert ratio == pytest.approx(2, rel=0.2), "four times the points are half as far apart"


def test_a_radius_for_each_cloud_draws_what_single_radii_draw() -> None:
    points = torch.rand(3, 100, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    cameras = [value.expand(3, -1) for value in view_preset("clip2point-6")]
    radii = torch.tensor([0.02, 0.07, 0.2])
    together = rasterize(points, *cameras, image_size=48, point_radius=radii)
    for index, radius in enumerate(radii.tolist()):
        alone = rasterize(points[index : index + 1], *[value[:1] for value in cameras], image_size=48, point_radius=radius)
        assert torch.equal(together[index : index + 1], alone)
    with pytest.raises(InputError, match="point_radius must be a number or one for each of the 3 clouds"):
        rasterize(points, *cameras, point_radius=torch.tensor([0.1]))
    with pytest.raises(InputError, match="point_radius must be a positive number or 'density', got 'dense'"):
        DepthViews(point_radius="dense")
    assert DepthViews("clip2point-6", 32, "density")(points).shape == (3, 6, 32, 32)
