"""Put objects into a scene and look at it by ray casting: pictures with depth and instance numbers, laser returns.

World frame: right-handed, z up, metres. Cameras look along +z of their own frame (x right, y down).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.geometry import rigid_transform
from clip2x.meshes import Material, Mesh, open3d_module, shade
from clip2x.miniworld.shapes.parts import Part

WORLD_FROM_OBJECT = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""Object frame (y up, looks towards +z) -> z up, looks towards +x: (x, y, z) -> (z, x, y)."""

GLASSY = ("glass", "screen")
"""Materials that send little of a laser's light back."""


@dataclass(frozen=True)
class Placed:
    """A mesh in the world.

    mesh: object frame, metres. world_from_object: (4, 4) rigid. number: of the instance; -1 for what is no object (ground, walls).
    name: what it is, for the truth that is kept apart; empty for what is no object.
    """

    mesh: Mesh
    world_from_object: NDArray[np.float64]
    number: int = -1
    name: str = ""

    def box(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Tight box along the object's own axes, in the world: centre (3,), size (length along its heading, width, height), world_from_box (3, 3)."""
        low, high = self.mesh.vertices.min(axis=0), self.mesh.vertices.max(axis=0)
        rotation = self.world_from_object[:3, :3] @ WORLD_FROM_OBJECT.T
        centre = self.world_from_object[:3, :3] @ ((low + high) / 2) + self.world_from_object[:3, 3]
        return centre, WORLD_FROM_OBJECT @ (high - low), rotation


def place(mesh: Mesh, x: float, y: float, heading_deg: float, *, z: float = 0.0, number: int = -1, name: str = "") -> Placed:
    """Stand a mesh on height `z` at (x, y), looking along the heading (0 = +x, counter-clockwise); its footprint is centred there."""
    heading = np.deg2rad(heading_deg)
    turn = np.array([[np.cos(heading), -np.sin(heading), 0.0], [np.sin(heading), np.cos(heading), 0.0], [0.0, 0.0, 1.0]])
    rotation = turn @ WORLD_FROM_OBJECT
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    foot = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    return Placed(mesh, rigid_transform(rotation, np.array([x, y, z]) - rotation @ foot), number, name)


def solid(part: Part, colour: tuple[float, float, float]) -> Mesh:
    """Paint a part in one colour."""
    return Mesh(part.vertices, part.faces, np.zeros(len(part.faces), dtype=np.int64), (Material("solid", colour),))


@dataclass(frozen=True)
class Picture:
    """What a camera sees.

    rgb: (H, W, 3) uint8. depth: (H, W) float32, metres along the camera's z, 0 where nothing is hit.
    number: (H, W) int32 instance, -1 for none. incidence: (H, W) float32 cosine between ray and surface, 0 where nothing is hit.
    face: (H, W) int64 face of `Scene.mesh`, -1 where nothing is hit.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    number: NDArray[np.int32]
    incidence: NDArray[np.float32]
    face: NDArray[np.int64]


@dataclass(frozen=True)
class Hits:
    """What rays met. distance: (R,) float32, metres, inf for nothing. number: (R,) int32, -1 for none.

    incidence: (R,) float32 cosine between ray and surface, 0 for nothing. brightness: (R,) float32 mean colour of the surface in [0, 1].
    glassy: (R,) whether the surface is a pane or a screen.
    """

    distance: NDArray[np.float32]
    number: NDArray[np.int32]
    incidence: NDArray[np.float32]
    brightness: NDArray[np.float32]
    glassy: NDArray[np.bool_]


class Scene:
    """Placed meshes, joined for ray casting (one thread; run scenes side by side in processes)."""

    def __init__(self, placed: Sequence[Placed]) -> None:
        self.placed = tuple(placed)
        self.mesh = _joined(self.placed)
        self._number = np.concatenate([np.full(len(item.mesh.faces), item.number, dtype=np.int32) for item in self.placed])
        self._glassy = np.array([material.name in GLASSY for material in self.mesh.materials])[self.mesh.face_material]
        self._open3d = open3d_module()
        self._caster = self._open3d.t.geometry.RaycastingScene(nthreads=1)
        self._caster.add_triangles(self._open3d.core.Tensor(self.mesh.vertices.astype(np.float32)),
                                   self._open3d.core.Tensor(self.mesh.faces.astype(np.uint32)))

    def cast(self, origin: NDArray[np.floating[Any]], direction: NDArray[np.floating[Any]]) -> Hits:
        """Follow rays from origins (R, 3) or (3,) along unit directions (R, 3), world frame."""
        answer = self._answer(origin, direction)
        distance = answer["t_hit"].astype(np.float32)
        hit = np.isfinite(distance)
        number = np.full(len(distance), -1, dtype=np.int32)
        number[hit] = self._number[answer["primitive_ids"][hit]]
        incidence = np.abs(np.einsum("rc,rc->r", answer["primitive_normals"], direction.astype(np.float32)))
        towards = np.array([0.3, 0.2, 0.9], dtype=np.float32)
        surface = shade(self.mesh, direction.astype(np.float32), answer, towards / np.linalg.norm(towards), 1.0)
        glassy = np.zeros(len(distance), dtype=bool)
        glassy[hit] = self._glassy[answer["primitive_ids"][hit]]
        return Hits(distance, number, np.where(hit, incidence, 0).astype(np.float32), surface[:, :3].mean(axis=1), glassy)

    def picture(self, world_from_camera: NDArray[np.float64], intrinsics: NDArray[np.float64], width_px: int, height_px: int, *,
                light: tuple[float, float, float] = (0.4, 0.3, 0.85), ambient: float = 0.55,
                background: tuple[float, float, float] = (0.75, 0.83, 0.92)) -> Picture:
        """Take a picture: pinhole, pixel (u, v) looks through (u + 0.5, v + 0.5).

        Args:
            world_from_camera: (4, 4).
            intrinsics: (3, 3), pixels.
            width_px, height_px: Size.
            light: Direction towards the light, world frame.
            ambient: Share of the light that reaches every face.
            background: Colour where nothing is hit.
        """
        per_column, per_row, corner = (world_from_camera[:3, :3] @ np.linalg.inv(intrinsics)).T
        # Sums, not a product of matrices, which would start threads.
        columns, rows = (np.arange(width_px) + 0.5)[:, None] * per_column, (np.arange(height_px) + 0.5)[:, None] * per_row + corner
        direction = (rows[:, None] + columns).astype(np.float32).reshape(-1, 3)  # not of unit length: the distance along it is the camera's z
        answer = self._answer(world_from_camera[:3, 3], direction)
        towards = np.asarray(light, dtype=np.float32) / np.float32(np.linalg.norm(light))
        surface = shade(self.mesh, direction, answer, towards, ambient)
        colour = surface[:, :3] + (1 - surface[:, 3:]) * np.asarray(background, dtype=np.float32)
        hit = np.isfinite(answer["t_hit"])
        number = np.full(len(hit), -1, dtype=np.int32)
        number[hit] = self._number[answer["primitive_ids"][hit]]
        cosine = np.abs(np.einsum("rc,rc->r", answer["primitive_normals"], direction)) / np.linalg.norm(direction, axis=1)
        face = np.where(hit, answer["primitive_ids"].astype(np.int64), -1)
        shape = (height_px, width_px)
        return Picture((colour.clip(0, 1) * 255).round().astype(np.uint8).reshape(*shape, 3),
                       np.where(hit, answer["t_hit"], 0).astype(np.float32).reshape(shape), number.reshape(shape),
                       np.where(hit, cosine, 0).astype(np.float32).reshape(shape), face.reshape(shape))

    def _answer(self, origin: NDArray[np.floating[Any]], direction: NDArray[np.floating[Any]]) -> dict[str, NDArray[Any]]:
        rays = np.concatenate([np.broadcast_to(origin, direction.shape), direction], axis=1).astype(np.float32)
        return {name: tensor.numpy() for name, tensor in self._caster.cast_rays(self._open3d.core.Tensor(rays)).items()}


def camera_pose(position: NDArray[np.float64], towards: NDArray[np.float64], roll_deg: float = 0.0) -> NDArray[np.float64]:
    """Build world_from_camera (4, 4) of a camera at a position that looks along a direction (not straight up or down), both (3,), world frame."""
    forward = np.asarray(towards, dtype=np.float64) / np.linalg.norm(towards)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    roll = np.deg2rad(roll_deg)
    turned = np.cos(roll) * right + np.sin(roll) * down
    return rigid_transform(np.stack([turned, np.cross(forward, turned), forward], axis=1), np.asarray(position, dtype=np.float64))


def visible_boxes(number: NDArray[np.int32], least_pixels: int = 1) -> dict[int, tuple[tuple[int, int, int, int], int]]:
    """Find the box (left, top, right, bottom; right and bottom exclusive) and the count of pixels of each instance in a picture's numbers (H, W)."""
    found: dict[int, tuple[tuple[int, int, int, int], int]] = {}
    rows, columns = np.nonzero(number >= 0)
    numbers = number[rows, columns]
    order = np.argsort(numbers, kind="stable")
    unique, first = np.unique(numbers[order], return_index=True)
    for instance, members in zip(unique.tolist(), np.split(order, first[1:]), strict=bool(len(unique))):
        if len(members) >= least_pixels:
            row, column = rows[members], columns[members]
            found[instance] = ((int(column.min()), int(row.min()), int(column.max()) + 1, int(row.max()) + 1), len(members))
    return found


def merged(placed: Sequence[Placed]) -> Placed:
    """Join what is no object and never moves into one piece, which is quicker to put into many scenes."""
    return Placed(_joined(placed), np.eye(4))


def _joined(placed: Sequence[Placed]) -> Mesh:
    """Join meshes into one in world coordinates."""
    vertices, faces, face_material, face_uv = [], [], [], []
    materials: list[Material] = []
    num_vertices = 0
    for item in placed:
        mesh = item.mesh
        vertices.append(mesh.vertices @ item.world_from_object[:3, :3].T + item.world_from_object[:3, 3])
        faces.append(mesh.faces + num_vertices)
        own = mesh.face_material if len(mesh.face_material) else np.zeros(len(mesh.faces), dtype=np.int64)
        face_material.append(own + len(materials))
        materials += list(mesh.materials or (Material("plain", (0.7, 0.7, 0.7)),))
        face_uv.append(np.zeros((len(mesh.faces), 3, 2)) if mesh.face_uv is None else mesh.face_uv)
        num_vertices += len(mesh.vertices)
    return Mesh(np.concatenate(vertices), np.concatenate(faces), np.concatenate(face_material), tuple(materials), np.concatenate(face_uv))
