"""Repeats, centres, neighbours and maxima against slow twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from clip2x.encoders.points import grouping
from clip2x.encoders.points.grouping import first_occurrences, nearest_points, spread_centres, take_points
from clip2x.encoders.points.pooling import maximum


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_first_occurrences(points: Tensor, mask: Tensor) -> list[list[bool]]:
    found = []
    for cloud, real in zip(points.tolist(), mask.tolist(), strict=True):
        seen: set[tuple[float, ...]] = set()
        found.append([])
        for point, is_real in zip(cloud, real, strict=True):
            found[-1].append(is_real and tuple(point) not in seen)
            if is_real:
                seen.add(tuple(point))
    return found


@pytest.mark.parametrize("channels", [3, 4, 5, 6])
@pytest.mark.parametrize("masked", [False, True])
def test_first_occurrences_slow_twin(channels: int, masked: bool) -> None:
    generator = torch.Generator().manual_seed(channels)
    points = torch.randint(-1, 2, (6, 80, channels), generator=generator).float() * 0.1  # few values: many repeats, also of single channels
    mask = torch.rand(6, 80, generator=generator) < 0.6
    expected = slow_first_occurrences(points, mask if masked else torch.ones_like(mask))
    assert first_occurrences(points, mask if masked else None).tolist() == expected
    assert 6 < sum(map(sum, expected)) < 480


def test_first_occurrences_takes_both_zeros_for_one() -> None:
    points = torch.tensor([[[0.0, 1.0, 2.0], [-0.0, 1.0, 2.0], [0.0, 1.0, -2.0]]])
    assert first_occurrences(points).tolist() == [[True, False, True]]


def test_first_occurrences_differ_in_the_last_bit() -> None:
    point = torch.tensor([0.1, -0.2, 0.3])
    other = point.clone()
    other[2] = torch.nextafter(other[2], torch.tensor(1.0))
    assert first_occurrences(torch.stack([point, other, point])[None]).tolist() == [[True, True, False]]


def test_a_masked_point_hides_no_real_one() -> None:
    points = torch.ones(1, 3, 3)
    assert first_occurrences(points, torch.tensor([[False, True, True]])).tolist() == [[False, True, False]]


def test_spread_centres_starts_farthest_from_the_origin_and_skips_what_does_not_count() -> None:
    points = torch.tensor([[[0.0, 0, 0], [9.0, 0, 0], [1.0, 0, 0], [0.0, 3, 0], [-2.0, 0, 0]]])
    keep = torch.tensor([[True, False, True, True, True]])
    index, valid = spread_centres(points, keep, 5)
    assert index[0, :4].tolist() == [3, 4, 2, 0]  # squared distances by hand: 13 of point 4; 9 and 10 of points 0 and 2; 1
    assert valid.tolist() == [[True, True, True, True, False]]


def test_spread_centres_hang_on_no_order() -> None:
    points = some(4, 60, 3)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    keep = torch.ones(4, 60, dtype=torch.bool)
    first, other = spread_centres(points, keep, 20)[0], spread_centres(points[:, order], keep, 20)[0]
    assert torch.equal(take_points(points, first), take_points(points[:, order], other))


@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_nearest_points_slow_twin(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "CHUNK_ELEMENTS", chunk)
    points, centres = some(3, 40, 3), some(3, 7, 3, seed=1)
    keep = torch.rand(3, 40, generator=torch.Generator().manual_seed(2)) < 0.5
    keep[1] = False
    keep[1, [4, 17]] = True
    index, squared = nearest_points(points, keep, centres, 6)
    for cloud in range(3):
        for centre in range(7):
            distances = {int(i): float(((points[cloud, i] - centres[cloud, centre]) ** 2).sum()) for i in keep[cloud].nonzero()[:, 0]}
            expected = sorted(distances, key=lambda i, known=distances: known[i])[:6]
            assert index[cloud, centre, : len(expected)].tolist() == expected
            np.testing.assert_allclose(squared[cloud, centre, : len(expected)], [distances[i] for i in expected], rtol=1e-6)
            assert squared[cloud, centre, len(expected):].isinf().all()
    assert keep[1].sum() < 6


def test_nearest_points_keep_float32_under_autocast() -> None:
    points = some(1, 400, 3) * 1e-3 + 1.0  # in bfloat16 all of them are one point
    with torch.autocast("cpu", torch.bfloat16):
        index, squared = nearest_points(points, torch.ones(1, 400, dtype=torch.bool), points[:, :5], 3)
    assert index[0, :, 0].tolist() == [0, 1, 2, 3, 4]
    assert squared.dtype == torch.float32 and (squared[..., 1] > 0).all()


def test_take_points_by_hand() -> None:
    values = torch.arange(12.0).view(2, 3, 2)
    assert take_points(values, torch.tensor([[[2, 0]], [[1, 1]]])).tolist() == [[[[4.0, 5.0], [0.0, 1.0]]], [[[8.0, 9.0], [8.0, 9.0]]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_maximum_and_its_gradient_equal_amax(dtype: torch.dtype) -> None:
    values = some(4, 5, 6, 7).mul(2).round().to(dtype)  # whole numbers: ties
    valid = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(3)) < 0.5
    valid[..., 0] = True
    weights = some(4, 5, 7, seed=4).to(dtype)
    gradients = []
    for compute in (maximum, lambda v, ok: v.masked_fill(~ok[..., None], -torch.inf).amax(dim=-2)):
        leaf = values.clone().requires_grad_()
        result = compute(leaf, valid)
        (result * weights).sum().backward()
        gradients.append((result.detach(), leaf.grad))
    assert torch.equal(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1], atol=1e-6, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_grouping_on_cuda() -> None:
    points = some(4, 300, 3)
    points[:, 200:] = points[:, :100]
    keep = first_occurrences(points)
    centres, _ = spread_centres(points, keep, 32)
    index, _ = nearest_points(points, keep, take_points(points, centres), 8)
    assert torch.equal(first_occurrences(points.cuda()).cpu(), keep)
    assert torch.equal(spread_centres(points.cuda(), keep.cuda(), 32)[0].cpu(), centres)
    assert torch.equal(nearest_points(points.cuda(), keep.cuda(), take_points(points, centres).cuda(), 8)[0].cpu(), index)
