"""Camera axes, the unit sphere and farthest point sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from clip2x import geometry
from clip2x.errors import InputError
from clip2x.geometry import camera_axes, farthest_points, thin_out, unit_sphere


def slow_farthest_points(points: NDArray[np.float32], num_points: int, start: int) -> list[int]:
    chosen = [start]
    while len(chosen) < num_points:
        best, best_index = np.float32(-1), -1
        for index in range(len(points)):
            if index in chosen:
                continue
            squares = [(points[index] - points[other]) ** 2 for other in chosen]
            nearest = min(np.float32(np.float32(x + y) + z) for x, y, z in squares)
            if nearest > best:
                best, best_index = nearest, index
        chosen.append(best_index)
    return chosen


def some_points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("azimuth", "elevation", "left", "up", "forward"),
    [
        (0, 0, (-1, 0, 0), (0, 1, 0), (0, 0, -1)),
        (0, 90, (1, 0, 0), (0, 0, 1), (0, -1, 0)),
        (0, 180, (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        (0, 270, (-1, 0, 0), (0, 0, 1), (0, 1, 0)),
        (180, -90, (-1, 0, 0), (0, 0, 1), (0, 1, 0)),
        (90, 0, (0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    ],
)
def test_camera_axes_at_the_official_views(azimuth: float, elevation: float, left: object, up: object, forward: object) -> None:
    axes = camera_axes(torch.tensor(float(azimuth)), torch.tensor(float(elevation)))
    torch.testing.assert_close(axes, torch.tensor([left, up, forward]).float(), atol=1e-6, rtol=0)


def test_camera_axes_are_orthonormal() -> None:
    generator = torch.Generator().manual_seed(0)
    axes = camera_axes(torch.rand(50, generator=generator) * 720 - 360, torch.rand(50, generator=generator) * 720 - 360)
    torch.testing.assert_close(axes @ axes.mT, torch.eye(3).expand(50, 3, 3), atol=1e-6, rtol=0)


def test_unit_sphere_by_hand() -> None:
    points = torch.tensor([[1.0, 0, 0], [5.0, 0, 0]])
    assert torch.equal(unit_sphere(points), torch.tensor([[-1.0, 0, 0], [1.0, 0, 0]]))


def test_unit_sphere_ignores_position_and_scale() -> None:
    points = some_points(2, 3, 100)
    result = unit_sphere(points)
    assert result.shape == points.shape
    torch.testing.assert_close(result.mean(dim=-2), torch.zeros(2, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(result.norm(dim=-1).amax(dim=-1), torch.ones(2, 3))
    torch.testing.assert_close(unit_sphere(points * 7 + 3), result, atol=1e-5, rtol=0)
    assert torch.equal(result[1, 2], unit_sphere(points[1, 2]))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.zeros(3, 5), r"points must be \(\.\.\., N, 3\) with N >= 1, got \(3, 5\)\."),
        (torch.zeros(2, 0, 3), r"with N >= 1, got \(2, 0, 3\)\."),
        (torch.full((7, 3), 0.1), r"all 7 points of a cloud are equal"),
        (torch.cat([some_points(1, 4), torch.ones(1, 4, 3)]), r"all 4 points of a cloud are equal"),
        (torch.tensor([[0, 0, torch.nan], [0, 0, 1]]), r"NaN or infinite coordinates"),
        (torch.tensor([[3e38, 0, 0], [-3e38, 0, 0]]), r"too large or too close together"),
    ],
)
def test_unit_sphere_errors(points: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        unit_sphere(points)
    assert "\n" not in str(error.value)


def test_farthest_points_by_hand() -> None:
    points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [10, 0, 0], [6, 0, 0], [4, 0, 0]]])
    assert farthest_points(points, 5).tolist() == [[0, 2, 3, 4, 1]]
    assert farthest_points(points, 2, start=2).tolist() == [[2, 0]]


@pytest.mark.parametrize("start", [0, 5])
def test_farthest_points_slow_twin(start: int) -> None:
    clouds = some_points(3, 40)
    clouds[1, 20:] = clouds[1, :20]  # duplicates
    clouds[2] = clouds[2].round()  # ties
    expected = [slow_farthest_points(cloud.numpy(), 30, start) for cloud in clouds]
    assert farthest_points(clouds, 30, start).tolist() == expected
    assert geometry._choose_farthest(clouds, 30, start).tolist() == expected


def test_farthest_points_among_some_with_a_start_of_each_cloud() -> None:
    clouds = some_points(3, 40)
    among = torch.rand(3, 40, generator=torch.Generator().manual_seed(1)) < 0.5
    start = among.int().argmax(dim=1)
    expected = []
    for cloud, allowed, first in zip(clouds, among, start, strict=True):
        places = allowed.nonzero()[:, 0]
        expected.append(places[slow_farthest_points(cloud[places].numpy(), 10, int((places == first).nonzero()))].tolist())
    assert farthest_points(clouds, 10, start, among).tolist() == expected
    assert geometry._choose_farthest(clouds, 10, start, among).tolist() == expected


def test_farthest_points_among_fewer_than_asked_for_takes_each_of_them() -> None:
    clouds = some_points(2, 20)
    among = torch.zeros(2, 20, dtype=torch.bool)
    among[0, [3, 8, 11]], among[1, :] = True, True
    chosen = farthest_points(clouds, 6, torch.tensor([8, 0]), among)
    assert chosen[0, 0] == 8 and sorted(chosen[0, :3].tolist()) == [3, 8, 11]
    assert torch.equal(chosen[1], farthest_points(clouds[1:], 6)[0])


def test_farthest_points_of_equal_points_takes_each_once() -> None:
    assert farthest_points(torch.ones(2, 6, 3), 6, start=2).tolist() == [[2, 0, 1, 3, 4, 5]] * 2


def test_farthest_points_does_not_depend_on_the_batch_or_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    clouds = some_points(5, 300)
    expected = geometry._choose_farthest(clouds, 100, 0)
    assert torch.equal(farthest_points(clouds, 100), expected)
    assert torch.equal(farthest_points(clouds[3:4], 100), expected[3:4])
    monkeypatch.setattr(geometry, "CHUNK_ELEMENTS", 600)
    assert torch.equal(farthest_points(clouds, 100), expected)
    assert farthest_points(clouds[:0], 100).shape == (0, 100)


def test_farthest_points_leaves_its_input_alone() -> None:
    clouds = some_points(1, 50).requires_grad_()
    before = clouds.detach().clone()
    indices = farthest_points(clouds, 50)
    assert torch.equal(clouds.detach(), before)
    assert indices.dtype == torch.int64
    assert indices.sort().values.tolist() == [list(range(50))]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_farthest_points_on_cuda() -> None:
    clouds = some_points(4, 512)
    assert torch.equal(farthest_points(clouds.cuda(), 256).cpu(), farthest_points(clouds, 256))


@pytest.mark.parametrize(
    ("points", "num_points", "start", "message"),
    [
        (torch.zeros(5, 3), 2, 0, r"points must be \(B, N, 3\), got \(5, 3\)\."),
        (torch.zeros(1, 5, 3), 6, 0, r"cannot choose 6 of 5 points; num_points must be 1 to 5\."),
        (torch.zeros(1, 5, 3), 0, 0, r"cannot choose 0 of 5 points"),
        (torch.zeros(1, 5, 3), 2, 5, r"start must be the index of one of the 5 points, got 5\."),
        (torch.full((1, 5, 3), torch.nan), 2, 0, r"NaN or infinite coordinates"),
    ],
)
def test_farthest_points_errors(points: Tensor, num_points: int, start: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        farthest_points(points, num_points, start)
    assert "\n" not in str(error.value)


def test_thin_out_by_hand() -> None:
    """Six points of which all, five or two are a cloud's own: four evenly over its own, repeated ones only where there are too few."""
    points = torch.arange(6.0)[None, :, None].expand(3, 6, 3)
    assert thin_out(points, 4, torch.tensor([9, 5, 2]))[..., 0].tolist() == [[0, 1, 3, 4], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert thin_out(points, 3)[..., 0].tolist() == [[0, 2, 4]] * 3
    assert thin_out(points, 6, torch.tensor([2, 2, 2])) is points


def test_repeated_points_move_no_mean() -> None:
    """The slow twin leaves them out; full clouds come out bit for bit as without the count."""
    points = torch.randn(3, 40, 3, generator=torch.Generator().manual_seed(0))
    points[1, 7:], points[2, 39] = points[1, 3], points[2, 0]
    placed = unit_sphere(points, torch.tensor([90, 7, 39]))
    assert torch.equal(placed[0], unit_sphere(points)[0])
    for cloud, count in ((1, 7), (2, 39)):
        assert torch.allclose(placed[cloud, :count], unit_sphere(points[cloud, :count]), atol=1e-6)
        assert not torch.allclose(placed[cloud], unit_sphere(points)[cloud], atol=1e-3)
    assert torch.equal(placed[1, 7:], placed[1, 3].expand(33, 3))
    assert torch.allclose(unit_sphere(points[1], torch.tensor(7)), placed[1], atol=1e-6)


def test_thin_out_takes_no_point_twice() -> None:
    points = torch.randn(4, 100, 3)
    for number in (1, 33, 99):
        taken = thin_out(points, number, torch.tensor([1, 50, 100, 300]))
        assert all(len(cloud.unique(dim=0)) == number for cloud in taken)
