from __future__ import annotations

import numpy as np
import pytest

from clip2x.errors import InputError
from clip2x.meshes import Material, Mesh, render_views, sample_surface
from clip2x.miniworld.shapes.parts import box


def cube(texture: np.ndarray | None = None) -> Mesh:
    part = box(1.0, 1.0, 1.0, at=(0.0, -0.5, 0.0))
    corners = part.vertices[part.faces]
    uv = corners[..., :2] + 0.5
    return Mesh(part.vertices, part.faces, np.zeros(12, dtype=np.int64), (Material("red", (1.0, 0.0, 0.0), texture),), uv)


def view(mesh: Mesh, azimuth: float = 0.0, elevation: float = 0.0, size: int = 64, **options: object) -> np.ndarray:
    return render_views(mesh, np.array([azimuth]), np.array([elevation]), np.array([2.0]), image_size=size, **options)[0]  # type: ignore[arg-type]


def test_sampling_is_uniform_by_area() -> None:
    """A 3 x 1 and a 1 x 1 rectangle: three quarters of the points fall on the large one, and lie evenly on it."""
    vertices = np.array([[0, 0, 0], [3, 0, 0], [3, 1, 0], [0, 1, 0], [0, 0, 5], [1, 0, 5], [1, 1, 5], [0, 1, 5]], dtype=float)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    points = sample_surface(vertices, faces, 20_000, np.random.default_rng(0))
    large = points[points[:, 2] == 0]
    assert len(large) / 20_000 == pytest.approx(0.75, abs=0.01)
    assert large.mean(axis=0) == pytest.approx([1.5, 0.5, 0.0], abs=0.03)
    assert large[:, 0].var() == pytest.approx(9 / 12, rel=0.03)


def test_sampling_an_empty_surface_is_refused() -> None:
    with pytest.raises(InputError, match="the mesh has no surface"):
        sample_surface(np.zeros((3, 3)), np.array([[0, 1, 2]]), 10, np.random.default_rng(0))


def test_a_cube_covers_what_the_pinhole_says() -> None:
    """Half side 1/sqrt(3) after scaling; its front face at depth 2 - 0.577 fills 0.577 / (1.423 tan 30) of the half picture."""
    picture = view(cube(), size=200)
    half = 1 / np.sqrt(3)
    expected = (half / ((2 - half) * np.tan(np.deg2rad(30)))) ** 2
    assert (picture[..., 3] > 0).mean() == pytest.approx(expected, abs=0.01)
    assert (picture[100, 100] == (255, 0, 0, 255)).all()
    assert (picture[0, 0] == 0).all()


def test_left_and_up_are_those_of_the_depth_views() -> None:
    """From the front, +x points to the right of the picture, as in the official renderer's convention (+X of the camera left)."""
    vertices = np.array([[0.5, 0.5, 0], [1, 0.5, 0], [1, 1, 0], [-1, -1, 0], [-0.99, -1, 0], [-1, -0.99, 0]], dtype=float)
    picture = view(Mesh(vertices - vertices.mean(axis=0), np.array([[0, 1, 2]])))
    rows, columns = np.nonzero(picture[..., 3])
    assert rows.mean() < 32 < columns.mean()


def test_a_texture_is_laid_on_upright() -> None:
    texture = np.zeros((2, 2, 3), dtype=np.uint8)
    texture[0, 0], texture[0, 1], texture[1, 0], texture[1, 1] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    picture = view(cube(texture), ambient=1.0)
    assert picture[25, 25].tolist() == [255, 0, 0, 255]
    assert picture[25, 39].tolist() == [0, 255, 0, 255]
    assert picture[39, 25].tolist() == [0, 0, 255, 255]
    assert picture[39, 39].tolist() == [255, 255, 255, 255]


def test_light_follows_lamberts_law() -> None:
    picture = view(cube(), ambient=0.2, light=np.array([[0.0, np.sqrt(3) / 2, 0.5]]))
    assert picture[32, 32, 0] == pytest.approx(255 * (0.2 + 0.8 * 0.5), abs=2)


def test_supersampling_softens_only_the_border() -> None:
    sharp, soft = view(cube(), 30.0, 20.0), view(cube(), 30.0, 20.0, supersample=3)
    assert set(np.unique(sharp[..., 3])) == {0, 255}
    partial = (soft[..., 3] > 0) & (soft[..., 3] < 255)
    assert 0 < partial.sum() < 300
    assert (soft[partial][:, 0] > 100).all()
