"""Compiled depth views are the plain ones to the bit, whatever the sizes, and start only where that is worth it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from clip2x import depth as depth_module
from clip2x.density import _distinct, density_radius
from clip2x.depth import DepthViews, compiled_kernels, grey_from_depth, rasterize, view_preset
from clip2x.errors import MissingDependencyError
from clip2x.geometry import unit_sphere

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")


def some_clouds(batch: int, num_points: int, seed: int = 0) -> Tensor:
    return unit_sphere(torch.randn(batch, num_points, 3, generator=torch.Generator().manual_seed(seed)))


def drawn_by_both(draw: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        results = []
        for compiled in (False, True):
            patch.setattr(depth_module, "COMPILED", compiled)
            results.append(draw())
    return results[0], results[1]


def assert_same_bits(draw: Callable[[], Tensor]) -> Tensor:
    plain, compiled = drawn_by_both(draw)
    assert plain.dtype == compiled.dtype == torch.float32
    assert torch.equal(plain.detach().contiguous().view(torch.int32), compiled.detach().contiguous().view(torch.int32))
    return plain


on_pixel_edges = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 0.25, 1 / 3, -1 / 3, 1e-30, 1e9, -1e9])
coordinates = st.one_of(on_pixel_edges, st.floats(-1.5, 1.5, width=32), st.integers(-64, 64).map(lambda index: index / 32))


@st.composite
def calls(draw: st.DrawFn) -> dict[str, object]:
    batch, views, points = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 40))
    cloud = torch.tensor(draw(st.lists(coordinates, min_size=3 * batch * points, max_size=3 * batch * points)), dtype=torch.float32)
    angle = st.one_of(st.sampled_from([0.0, 45.0, 90.0, 180.0, 315.0]), st.floats(-360, 360, width=32))
    azimuth, elevation = (torch.tensor(draw(st.lists(angle, min_size=batch * views, max_size=batch * views)), dtype=torch.float32) for _ in range(2))
    distance = torch.tensor(draw(st.lists(st.sampled_from([1.0, 0.5, 1.07, 2.3]), min_size=batch * views, max_size=batch * views)))
    one_radius = st.one_of(st.sampled_from([0.02, 0.1, 0.25, 1e-4, 3.0, 1e9, 1e18]), st.floats(2**-7, 1, width=32))
    radius = torch.tensor(draw(st.lists(one_radius, min_size=batch, max_size=batch)), dtype=torch.float32)
    return {"points": cloud.view(batch, points, 3), "azimuth_deg": azimuth.view(batch, views), "elevation_deg": elevation.view(batch, views),
            "distance": distance.view(batch, views).float(), "image_size": draw(st.sampled_from([1, 2, 3, 7, 16, 33, 48])),
            "point_radius": radius if draw(st.booleans()) else radius[0].item()}


@needs_numba
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(calls(), st.booleans())
def test_same_bits_whatever_the_call(call: dict[str, object], with_gradient: bool) -> None:
    points = call.pop("points")
    assert isinstance(points, Tensor)
    assert_same_bits(lambda: rasterize(points.clone().requires_grad_(with_gradient), **call))  # type: ignore[arg-type]


@needs_numba
@pytest.mark.parametrize(("size", "radius"), [(224, 0.02), (224, 0.1), (64, 0.02), (64, 0.045), (33, 0.3), (301, 0.013), (1, 0.02), (16, 50.0)])
def test_same_bits_of_the_usual_pictures(size: int, radius: float) -> None:
    views = [value.expand(2, -1) for value in view_preset("clip2point-10")]
    picture = assert_same_bits(lambda: rasterize(some_clouds(2, 300), *views, image_size=size, point_radius=radius))
    assert (picture > 0).any()


@needs_numba
def test_same_bits_with_a_radius_for_each_cloud_and_many_threads() -> None:
    clouds, before = some_clouds(5, 200), torch.get_num_threads()
    clouds[3] *= 0.1
    views = [value.expand(5, -1) for value in view_preset("clip2point-10")]
    radii = density_radius(clouds)
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            assert_same_bits(lambda: rasterize(clouds, *views, image_size=96, point_radius=radii))
            assert_same_bits(lambda: DepthViews(image_size=64, point_radius="density")(clouds))
    finally:
        torch.set_num_threads(before)


@needs_numba
def test_same_gradient() -> None:
    clouds = some_clouds(3, 100).repeat(1, 2, 1)  # every point twice: the first of equals gets the gradient
    views = [value.expand(3, -1) for value in view_preset("clip2point-6")]
    weight = torch.rand(3, 6, 48, 48, generator=torch.Generator().manual_seed(0))

    def gradient() -> Tensor:
        points = clouds.clone().requires_grad_()
        picture = grey_from_depth(rasterize(points, *views, image_size=48, point_radius=0.08))
        return torch.autograd.grad((picture * weight).sum(), points)[0]

    assert (assert_same_bits(gradient)[:, 100:] == 0).all()


@needs_numba
@pytest.mark.parametrize("with_gradient", [False, True])
def test_points_that_overflow_leave_no_trace_of_either(with_gradient: bool) -> None:
    """3e38 / 0.5 is infinite and infinite coordinates make NaN in the view: finite points all the same."""
    points = torch.tensor([[[1.0, 1.0, 3e38], [3e38, 3e38, 3e38], [-3e38, 0.0, -3e38], [0.0, 0.0, -3e38], [0.1, 0.2, 0.1]]])
    views = [torch.tensor([[0.0, 45.0, 200.0]]), torch.tensor([[0.0, 30.0, 90.0]]), torch.full((1, 3), 0.5)]
    picture = assert_same_bits(lambda: rasterize(points.clone().requires_grad_(with_gradient), *views, image_size=32, point_radius=0.3))
    assert picture.isfinite().all()
    alone = rasterize(points[:, 4:], *views, image_size=32, point_radius=0.3)
    assert torch.equal(picture.detach(), alone)


@needs_numba
def test_calls_from_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_module, "COMPILED", True)
    clouds, module = some_clouds(4, 256), DepthViews(image_size=96)
    expected = module(clouds)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(result, expected) for result in pool.map(module, [clouds] * 12))


@needs_numba
def test_numba_starts_late_and_survives_a_fork() -> None:
    """After the fork every operation of PyTorch is too small to be shared: its own threads do not survive one."""
    code = ("import os, sys, torch\nfrom clip2x import depth\ntorch.set_num_threads(2)\n"
            "points, views = torch.rand(4, 200, 3) - 0.5, [value.expand(4, -1) for value in depth.view_preset('clip2point-10')]\n"
            "expected = depth.rasterize(points, *views, image_size=96)\n"
            "assert 'numba' not in sys.modules\ndepth.WORTH_COMPILING = depth._drawn\n"
            "assert torch.equal(depth.rasterize(points, *views, image_size=96), expected)\nchild = os.fork()\n"
            "same = (depth.rasterize(points, *views, image_size=96).numpy() == expected.numpy()).all()\n"
            "if child == 0:\n    os._exit(0 if same else 1)\n"
            "assert same and os.waitpid(child, 0)[1] == 0\nassert 'numba' in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr


def test_without_numba_plain_pytorch_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    clouds, module = some_clouds(1, 50), DepthViews(image_size=32)
    monkeypatch.setattr(depth_module, "COMPILED", False)
    expected = module(clouds)
    monkeypatch.setitem(sys.modules, "numba", None)  # an import of it now fails
    monkeypatch.delitem(sys.modules, "clip2x.depth_kernels", raising=False)
    compiled_kernels.cache_clear()
    try:
        monkeypatch.setattr(depth_module, "COMPILED", None)
        monkeypatch.setattr(depth_module, "WORTH_COMPILING", 0)
        assert torch.equal(module(clouds), expected)
        monkeypatch.setattr(depth_module, "COMPILED", True)
        with pytest.raises(MissingDependencyError, match=r"run: pip install clip2x\[fast\]"):
            module(clouds)
    finally:
        compiled_kernels.cache_clear()


@pytest.mark.parametrize("shape", [(4, 4), (1, 7, 7), (3, 2, 5, 5), (40, 96, 96), (0, 4, 4)])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_numba)])
def test_grey_is_the_plain_formula(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], compiled: bool) -> None:
    monkeypatch.setattr(depth_module, "COMPILED", compiled)

    def formula(depth: Tensor) -> Tensor:
        covered = depth > 0
        largest = depth.amax(dim=(-2, -1), keepdim=True)
        smallest = torch.where(covered, depth, 1.0).amin(dim=(-2, -1), keepdim=True)
        return torch.where(covered, (depth - smallest) / torch.where(largest > 0, largest, 1.0) * 200 / 255, 1.0)

    generator = torch.Generator().manual_seed(0)
    for share, scale in ((0.0, 1.0), (0.3, 1.0), (0.3, 1e-6), (0.9, 1e6), (1.0, 0.3)):
        depth = torch.where(torch.rand(shape, generator=generator) < share, torch.rand(shape, generator=generator) * scale, -1.0)
        depth = torch.where(torch.rand(shape, generator=generator) < 0.1, torch.tensor([0.0, -0.0, -0.5])[torch.randint(3, shape)], depth)
        assert torch.equal(grey_from_depth(depth), formula(depth))
        assert torch.equal(grey_from_depth(depth.transpose(-1, -2)), formula(depth).transpose(-1, -2))
        wanted = [depth.clone().requires_grad_() for _ in range(2)]
        weight = torch.rand(shape, generator=generator)
        gradients = [torch.autograd.grad((grey(each) * weight).sum(), each)[0] for grey, each in zip((grey_from_depth, formula), wanted, strict=True)]
        assert torch.equal(*gradients)


def test_distinct_points_are_those_of_torch_unique() -> None:
    generator = torch.Generator().manual_seed(0)
    clouds = [torch.rand(200, 3, generator=generator), torch.randint(-2, 3, (200, 3), generator=generator).float(), torch.zeros(5, 3)]
    clouds[1][:50] *= -1.0  # some of the zeros become -0.0
    for cloud in clouds:
        assert torch.equal(_distinct(cloud), torch.unique(cloud, dim=0))
