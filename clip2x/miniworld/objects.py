"""Turn the parametric shapes into coloured, partly textured meshes; every object is a function of (seed, stream, class, instance)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import InputError
from clip2x.meshes import Material, Mesh
from clip2x.miniworld.captions import COLOURS
from clip2x.miniworld.shapes.furniture import FURNITURE
from clip2x.miniworld.shapes.household import HOUSEHOLD
from clip2x.miniworld.shapes.indoor import INDOOR
from clip2x.miniworld.shapes.parts import Part, Points
from clip2x.miniworld.shapes.street import STREET
from clip2x.miniworld.shapes.vehicles import VEHICLES

GENERATORS = {**FURNITURE, **INDOOR, **VEHICLES, **STREET, **HOUSEHOLD}
CLASS_NAMES = sorted(GENERATORS)

MONOCHROME_SHARE = 0.3  # of the objects wear one colour all over, as many CAD models do
TEXTURE_SHARE = 0.35  # of the bodies are textured
TEXTURE_PITCH = 0.5  # metres that one repetition of a texture covers
TEXTURE_SIZE = 32  # pixels


class Stream(IntEnum):
    """What an object is made for. Streams never share an instance, so what a model was trained on is held out from evaluation."""

    PICTURES_TRAIN = 0
    PICTURES_VAL = 1
    MODELNET_TRAIN = 2
    MODELNET_TEST = 3
    SHAPENET = 4
    SCANS_TRAIN = 5
    SCANS_TEST = 6
    STREET_TRAIN = 7
    STREET_VAL = 8
    ROOM_TRAIN = 9
    ROOM_TEST = 10
    CAPTION_ROOMS_TRAIN = 11
    CAPTION_ROOMS_VAL = 12
    CAPTION_STREETS_TRAIN = 13
    CAPTION_STREETS_VAL = 14


@dataclass(frozen=True)
class MiniObject:
    """A mesh (object frame, metres) with its class and the colour of its body."""

    mesh: Mesh
    class_name: str
    colour: str


def make_object(class_name: str, stream: Stream, instance: int, *, seed: int = 0) -> MiniObject:
    """Build one object.

    Raises:
        InputError: If the mini-world has no such class.
    """
    if class_name not in GENERATORS:
        raise InputError(f"the mini-world has no {class_name!r}; it has {', '.join(CLASS_NAMES)}.")
    rng = np.random.default_rng([seed, int(stream), CLASS_NAMES.index(class_name), instance])
    return build_object(class_name, GENERATORS[class_name], rng)


def build_object(name: str, generator: Callable[[np.random.Generator], list[Part]], rng: np.random.Generator) -> MiniObject:
    """Draw a shape, stretch it a little and give it its materials; all from one stream of random numbers."""
    parts = generator(rng)
    stretch = rng.uniform(0.85, 1.15, size=3)
    colour = list(COLOURS)[rng.integers(len(COLOURS))]
    mesh = _assemble([part.scaled(*stretch) for part in parts], _palette(colour, rng))
    return MiniObject(mesh, name, colour)


def colour_of(mesh: Mesh) -> str:
    """Name the colour of an object's body: the one of `COLOURS` that is nearest to its first material, which is the body's."""
    body = np.array(mesh.materials[0].colour)
    return min(COLOURS, key=lambda name: float(np.linalg.norm(body - np.array(COLOURS[name]))))


def _palette(colour: str, rng: np.random.Generator) -> dict[str, Material]:
    """Choose a material for every role; the body wears the named colour."""
    body = _jittered(COLOURS[colour], 0.06, rng)
    texture = _texture(body, rng) if rng.random() < TEXTURE_SHARE else None
    palette = {"body": Material("body", body, texture)}
    if rng.random() < MONOCHROME_SHARE:
        return palette
    accent = list(COLOURS.values())[rng.integers(len(COLOURS))]
    browns = ((0.45, 0.28, 0.13), (0.62, 0.42, 0.22), (0.30, 0.18, 0.10), (0.78, 0.62, 0.40))
    others = {
        "accent": accent, "wood": browns[rng.integers(len(browns))], "metal": (0.65, 0.66, 0.70), "dark": (0.12, 0.12, 0.14),
        "glass": (0.65, 0.80, 0.88), "screen": (0.05, 0.08, 0.15), "fabric": (0.85, 0.82, 0.78), "light": (0.98, 0.93, 0.70),
        "rubber": (0.06, 0.06, 0.06), "plant": (0.15, 0.45, 0.15), "skin": (0.85, 0.65, 0.50),
    }
    for role, rgb in others.items():
        palette[role] = Material(role, _jittered(rgb, 0.08, rng))
    return palette


def _jittered(rgb: tuple[float, float, float], spread: float, rng: np.random.Generator) -> tuple[float, float, float]:
    red, green, blue = (np.asarray(rgb) + rng.normal(0.0, spread, 3)).clip(0.0, 1.0).tolist()
    return red, green, blue


def _texture(rgb: tuple[float, float, float], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw stripes, checks, dots or grain around a colour: (32, 32, 3) uint8, repeatable without a seam."""
    row, column = np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE] * (2 * np.pi / TEXTURE_SIZE)
    times = int(rng.integers(1, 5))
    patterns = (
        np.sin(times * row), np.sign(np.sin(times * column)), np.sign(np.sin(times * row) * np.sin(times * column)),
        np.where(np.cos(times * row) + np.cos(times * column) > 1.2, 1.0, -0.3), np.sin(times * row + 1.5 * np.sin(column)),
        rng.normal(0.0, 0.7, row.shape),
    )
    pattern = patterns[rng.integers(len(patterns))]
    strength = rng.uniform(0.05, 0.22)
    picture = np.asarray(rgb) + strength * pattern[..., None]
    return (picture.clip(0.0, 1.0) * 255).astype(np.uint8)


def _assemble(parts: list[Part], palette: dict[str, Material]) -> Mesh:
    """Join parts; a role without a material of its own (monochrome objects) wears the body's."""
    materials = tuple(palette.values())
    index = {name: position for position, name in enumerate(palette)}
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, starts[:-1], strict=True)])
    vertices = np.concatenate([part.vertices for part in parts])
    face_material = np.concatenate([np.full(len(part.faces), index.get(part.role, 0)) for part in parts])
    textured = any(material.texture is not None for material in materials)
    return Mesh(vertices, faces, face_material, materials, _box_uv(vertices, faces) if textured else None)


def _box_uv(vertices: Points, faces: NDArray[np.int64]) -> Points:
    """Project each face along the axis that its normal is closest to: (F, 3, 2), one unit per `TEXTURE_PITCH`."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    dominant = np.abs(normal).argmax(axis=1)
    kept = np.array([[2, 1], [0, 2], [0, 1]])[dominant]
    uv: Points = np.take_along_axis(corners, kept[:, None, :].repeat(3, axis=1), axis=2) / TEXTURE_PITCH
    return uv
