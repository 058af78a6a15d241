"""Textured triangle meshes: surface sampling, and RGB views by ray casting on the CPU (no display, no GPU)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clip2x.errors import InputError, MissingDependencyError
from clip2x.geometry import camera_axes

FIELD_OF_VIEW_DEG = 60.0  # third party: PyTorch3D's default, which the official CLIP2Point code leaves as it is
SYSTEM_LIBRARIES = "libegl1 libgl1 libx11-6 libusb-1.0-0 libidn2-0 libudev1"


@dataclass(frozen=True)
class Material:
    """Colour (red, green, blue in [0, 1]) or, where there is one, a texture (H, W, 3) uint8 that replaces it."""

    name: str
    colour: tuple[float, float, float]
    texture: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Mesh:
    """Triangles with a material each.

    vertices: (V, 3) float64, any unit. faces: (F, 3) int64. face_material: (F,) index into `materials`.
    face_uv: (F, 3, 2) texture coordinates of the corners, None where no material has a texture; v points up. Outside of [0, 1] textures
        repeat. Ours: viewers of OBJ files do so; the official CLIP2Point pictures hold the texture's edge there.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    face_material: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    materials: tuple[Material, ...] = ()
    face_uv: NDArray[np.float64] | None = None


def sample_surface(vertices: NDArray[np.floating[Any]], faces: NDArray[np.integer[Any]], num_points: int,
                   rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw points uniformly by area from a triangle mesh.

    Returns:
        (num_points, 3) float32, in the frame and unit of `vertices`.

    Raises:
        InputError: If the triangles have no area.
    """
    corners = vertices[faces].astype(np.float64)
    edge_1, edge_2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.linalg.norm(np.cross(edge_1, edge_2), axis=1)
    cumulative = np.cumsum(area)
    if len(cumulative) == 0 or not np.isfinite(cumulative[-1]) or cumulative[-1] <= 0:
        raise InputError("the mesh has no surface: all its triangles are empty; give a mesh with area or a point cloud.")
    chosen = np.searchsorted(cumulative, rng.random(num_points) * cumulative[-1], side="right").clip(max=len(faces) - 1)
    root = np.sqrt(rng.random(num_points))[:, None]
    along = rng.random(num_points)[:, None]
    points: NDArray[np.float64] = corners[chosen, 0] + root * ((1 - along) * edge_1[chosen] + along * edge_2[chosen])
    return points.astype(np.float32)


def open3d_module() -> ModuleType:
    """Import Open3D when it is first needed.

    Raises:
        MissingDependencyError: If it or one of its system libraries is missing; says what to install.
    """
    try:
        import open3d
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise MissingDependencyError(
            f"Open3D cannot be imported ({reason}); run: pip install open3d, and on Debian: apt-get install -y {SYSTEM_LIBRARIES}."
        ) from error
    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)
    module: ModuleType = open3d
    return module


def render_views(mesh: Mesh, azimuth_deg: NDArray[np.floating[Any]], elevation_deg: NDArray[np.floating[Any]],
                 distance: NDArray[np.floating[Any]], *, image_size: int = 224, light: NDArray[np.floating[Any]] | None = None,
                 ambient: float = 0.5, supersample: int = 1) -> NDArray[np.uint8]:
    """Draw a mesh from several sides with a perspective camera, for pictures like those CLIP2Point pre-trains on.

    The vertices are centred on their mean and scaled to a largest norm of 1 (official code); the camera looks at the origin. Colours are
    lambertian on both sides of a face: official code uses a Phong shader; the highlight is left out (ours: it adds nothing at the
    sizes used here). Of two faces with the same corners in opposite order, the one that faces the camera is drawn (ours, see
    `reversed_faces`).

    Args:
        mesh: What to draw.
        azimuth_deg, elevation_deg, distance: (V,) camera positions as in `clip2x.depth`; the official pictures use twice the depth distance.
        image_size: Width and height, pixels.
        light: (V, 3) direction towards the light; None = from the camera (official code outside training).
        ambient: Share of the light that reaches every face. Ours.
        supersample: Rays per pixel and axis; 2 smooths the edges.

    Returns:
        (V, S, S, 4) uint8: red, green, blue and coverage; the background is (0, 0, 0, 0).
    """
    open3d = open3d_module()
    centred = mesh.vertices - mesh.vertices.mean(axis=0)
    centred = centred / max(float(np.linalg.norm(centred, axis=1).max()), 1e-12)
    scene = open3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(open3d.core.Tensor(centred.astype(np.float32)), open3d.core.Tensor(mesh.faces.astype(np.uint32)))
    reverse = reversed_faces(mesh.faces)
    axes = camera_axes(torch.as_tensor(np.asarray(azimuth_deg)), torch.as_tensor(np.asarray(elevation_deg))).numpy()
    towards_light = -axes[:, 2] if light is None else np.asarray(light) / np.linalg.norm(light, axis=1, keepdims=True)
    grid = _pixel_grid(image_size * supersample)
    pictures = np.zeros((len(axes), image_size, image_size, 4), dtype=np.uint8)
    for view, picture in enumerate(pictures):  # one at a time: the rays of one view fit in the processor's cache
        window = _window(centred, axes[view], float(distance[view]), image_size)
        inside = grid[tuple(slice(side.start * supersample, side.stop * supersample) for side in window)]
        rays = np.empty((*inside.shape[:2], 6), dtype=np.float32)
        for axis, place in enumerate(-axes[view, 2] * np.float32(distance[view])):  # NumPy is slow where the last axis is short
            rays[..., axis] = place
        np.matmul(inside, axes[view], out=rays[..., 3:])
        direction = rays[..., 3:].reshape(-1, 3)
        answer = {name: tensor.numpy() for name, tensor in scene.cast_rays(open3d.core.Tensor(rays.reshape(-1, 6))).items()}
        if reverse is not None:
            answer = facing_the_rays(mesh.faces, reverse, direction, answer)
        surface = shade(mesh, direction, answer, towards_light[view].astype(np.float32), ambient)
        picture[window] = _averaged(surface.T.reshape(4, *inside.shape[:2]), supersample)
    return pictures


def _window(vertices: NDArray[np.float64], axes: NDArray[np.float32], distance: float, image_size: int) -> tuple[slice, slice]:
    """Find the rows and columns of the pixels that a mesh can cover, with one more on each side; all if a vertex lies beside or behind the camera.

    Args:
        vertices: (V, 3) as they are drawn.
        axes: (3, 3) rows left, up, forward of the camera.
        distance: From the camera to the origin.
        image_size: Width and height, pixels.
    """
    left, up, forward = axes.astype(np.float64) @ vertices.T
    depth = forward + distance
    if depth.min() < 1e-3:
        return slice(0, image_size), slice(0, image_size)
    scale = 1 / np.tan(np.deg2rad(FIELD_OF_VIEW_DEG) / 2)
    sides = []
    for place in (up, left):
        pixel = (1 - place / depth * scale) * (image_size / 2)
        first, last = (int(edge) for edge in np.clip([pixel.min() - 1, pixel.max() + 2], 0, image_size))
        sides.append(slice(first, last))
    return sides[0], sides[1]


def reversed_faces(faces: NDArray[np.integer[Any]]) -> NDArray[np.int64] | None:
    """Find faces that lie on one another back to back.

    Modelling programs that paint the two sides of a face differently export it twice, once in each sense. In three of the four real ShapeNet
    models that we have seen every face is double and up to nine in ten pairs differ in colour; a ray cast hits one of the two at random.

    Returns:
        (F,) the first face with the same corners in the opposite order, the face itself where there is none; None if there is none at all.
    """
    inversions: NDArray[np.int64] = sum((faces[:, i] > faces[:, k]).astype(np.int64) for i, k in ((0, 1), (0, 2), (1, 2)))  # type: ignore[assignment]
    corners = np.sort(faces, axis=1)
    order = np.lexsort((inversions % 2, corners[:, 2], corners[:, 1], corners[:, 0]))
    group = np.concatenate([[0], np.cumsum((corners[order[1:]] != corners[order[:-1]]).any(axis=1))])[: len(order)]
    side = 2 * group + inversions[order] % 2
    sides, first = np.unique(side, return_index=True)
    place = np.searchsorted(sides, side ^ 1).clip(max=max(len(sides) - 1, 0))
    paired = sides[place] == side ^ 1
    if not paired.any():
        return None
    found = np.arange(len(faces))
    found[order[paired]] = order[first[place[paired]]]
    return found


def facing_the_rays(faces: NDArray[np.integer[Any]], reverse: NDArray[np.int64], direction: NDArray[np.float32],
                    answer: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Where a ray has hit the back of a face that has a reverse, say that it has hit that one.

    Args:
        faces: (F, 3) of the mesh.
        reverse: From `reversed_faces`.
        direction: (R, 3) of the rays.
        answer: What Open3D's `cast_rays` says of them, as arrays.
    """
    backs = np.flatnonzero(np.isfinite(answer["t_hit"]) & (np.einsum("rc,rc->r", answer["primitive_normals"], direction) > 0))
    old = answer["primitive_ids"][backs].astype(np.int64)
    new = reverse[old]
    uv = answer["primitive_uvs"][backs]
    weight = np.concatenate([1 - uv.sum(axis=1, keepdims=True), uv], axis=1)
    same_corner = faces[new][:, :, None] == faces[old][:, None, :]
    changed = {name: values.copy() for name, values in answer.items()}
    changed["primitive_ids"][backs] = new
    changed["primitive_uvs"][backs] = np.einsum("rnc,rc->rn", same_corner, weight)[:, 1:]
    changed["primitive_normals"][backs[new != old]] *= -1
    return changed


@lru_cache(maxsize=2)
def _pixel_grid(size: int) -> NDArray[np.float32]:
    """Build (S, S, 3): left, up and forward parts of the rays through the pixel centres, first row at the top, first column at the left."""
    centre = (1 - (2 * np.arange(size) + 1) / size) * np.tan(np.deg2rad(FIELD_OF_VIEW_DEG) / 2)
    up, left = np.meshgrid(centre, centre, indexing="ij")
    grid = np.stack([left, up, np.ones_like(up)], axis=-1).astype(np.float32)
    grid.flags.writeable = False
    return grid


def shade(mesh: Mesh, direction: NDArray[np.float32], answer: dict[str, NDArray[Any]], towards_light: NDArray[np.float32],
          ambient: float) -> NDArray[np.float32]:
    """Colour what rays have hit: lambertian on both sides of a face.

    Args:
        mesh: What was hit.
        direction: (R, 3) of the rays.
        answer: What Open3D's `cast_rays` says of them, as arrays.
        towards_light: (3,) unit vector.
        ambient: Share of the light that reaches every face.

    Returns:
        (R, 4) red, green, blue, coverage in [0, 1]; zeros where nothing is hit.
    """
    hit = np.flatnonzero(np.isfinite(answer["t_hit"]))
    normal = answer["primitive_normals"].take(hit, axis=0)  # four times as fast as indexing
    facing = np.sign(-np.einsum("rc,rc->r", answer["primitive_normals"], direction).take(hit))
    brightness = ambient + (1 - ambient) * (facing * (normal @ towards_light)).clip(0.0)
    colour = _surface_colour(mesh, answer["primitive_ids"].take(hit).astype(np.int64), answer["primitive_uvs"].take(hit, axis=0)).T
    surface = np.zeros((4, len(direction)), dtype=np.float32)  # NumPy is slow where the last axis is short
    for plane, values in zip(surface, (*(colour * brightness), np.float32(1.0)), strict=True):
        plane[hit] = values
    return surface.T


def _averaged(surface: NDArray[np.float32], supersample: int) -> NDArray[np.uint8]:
    """Average blocks of rays to pixels: (4, R * k, C * k) -> (R, C, 4), colours weighted by coverage."""
    total = surface[:, ::supersample, ::supersample].copy()
    for row in range(supersample):
        for column in range(supersample):
            if row or column:
                total += surface[:, row::supersample, column::supersample]
    total[:3] /= np.maximum(total[3], 1.0)
    total[3] /= supersample**2
    quantised: NDArray[np.uint8] = (total * 255).round().astype(np.uint8).transpose(1, 2, 0)
    return quantised


def _surface_colour(mesh: Mesh, triangle: NDArray[np.int64], barycentric: NDArray[np.float32]) -> NDArray[np.float32]:
    """Look up the colour at each hit: (R, 3) in [0, 1], stored plane by plane."""
    palette = np.array([material.colour for material in mesh.materials] or [(0.7, 0.7, 0.7)], dtype=np.float32)
    if len(mesh.face_material) == 0:
        return np.broadcast_to(palette[0], (len(triangle), 3))
    material_of_hit = mesh.face_material.take(triangle)
    colour = palette.T.take(material_of_hit, axis=1)
    textured = np.array([material.texture is not None for material in mesh.materials])
    if mesh.face_uv is None or not textured.any():
        return colour.T
    hits = np.flatnonzero(textured.take(material_of_hit))
    # Searching all hits for each of hundreds of materials would be slow, and so is sorting long integers.
    small = material_of_hit.take(hits).astype(np.min_scalar_type(len(textured)))
    order = np.argsort(small, kind="stable")
    hits = hits.take(order)
    corner = mesh.face_uv.take(triangle.take(hits), axis=0).reshape(-1, 6).T
    u, v = barycentric.take(hits, axis=0).T
    weights = (1 - u - v, u, v)
    across, up = (sum(weight * corner[2 * place + axis] for place, weight in enumerate(weights)) for axis in range(2))
    across, up = across - np.floor(across), up - np.floor(up)  # the same as modulo 1, and several times as fast
    texel = np.empty((len(hits), 3), dtype=np.uint8)
    for index, first, count in np.stack(np.unique(small.take(order), return_index=True, return_counts=True), axis=1).tolist():
        texture = mesh.materials[index].texture
        assert texture is not None
        height, width = texture.shape[:2]
        column = (across[first : first + count] * width).astype(np.int64).clip(max=width - 1)
        row = ((1 - up[first : first + count]) * height).astype(np.int64).clip(max=height - 1)
        texel[first : first + count] = texture.reshape(-1, 3).take(row * width + column, axis=0)
    for plane, values in zip(colour, texel.T.astype(np.float32, order="C") / 255, strict=True):
        plane[hits] = values
    return colour.T
