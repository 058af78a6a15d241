"""Read an OBJ file with its materials and textures (.obj + .mtl + pictures) as a mesh that `clip2x.meshes` can draw."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip2x.data.files import Shape, checked, read_content
from clip2x.data.formats.obj import BYTE_ORDER_MARK, CONTINUED, NO_UV, Corners, ObjLines
from clip2x.data.images import read_image
from clip2x.errors import BadFileError, DataNotFoundError
from clip2x.meshes import Material, Mesh

GREY = (0.7, 0.7, 0.7)  # ours: the colour of a mesh without materials in `clip2x.meshes`, for materials that have none
NO_MATERIAL = ""  # the name of what faces above the first usemtl line get
TEXTURE_FOLDERS = (".", "images", "../images")  # ours: where a texture is looked for by its bare name if it is not where its file says
# Options of texture lines and how many values each takes; -o, -s and -t take 1 to 3 numbers. Source: the MTL specification (third party).
OPTION_VALUES = {"-blendu": 1, "-blendv": 1, "-boost": 1, "-bm": 1, "-cc": 1, "-clamp": 1, "-colorspace": 1, "-imfchan": 1, "-mm": 2,
                 "-texres": 1, "-type": 1}
VECTOR_OPTIONS = ("-o", "-s", "-t")
DRIVE = re.compile(r"^[A-Za-z]:")

Pair = tuple[float, float]


@dataclass(frozen=True)
class MtlMaterial:
    """What is read of a material of an .mtl file.

    colour: Kd, in [0, 1]. texture: map_Kd as written, without its options. scale, offset: of the texture coordinates (-s, -o).
    transparent: whether d or Tr says so; it is drawn opaque all the same (as the official CLIP2Point pictures are).
    folder: where the .mtl file lies.
    """

    name: str
    colour: tuple[float, float, float] = GREY
    texture: str | None = None
    scale: Pair = (1.0, 1.0)
    offset: Pair = (0.0, 0.0)
    transparent: bool = False
    folder: Path = Path()


class _Notes:
    """Collect what could not be done, by reason; each reason becomes one line with the number of names and the first of them."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, None]] = {}

    def add(self, reason: str, *names: str) -> None:
        self.found.setdefault(reason, {}).update(dict.fromkeys(names))

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{reason}: {len(names):,}, first {_printable(next(iter(names)))!r}." for reason, names in self.found.items())


def read_textured_obj(path: Path) -> tuple[Mesh, tuple[str, ...]]:
    """Read a mesh with the colours and textures of its materials.

    All materials of the .mtl files come in their order, then those that only the .obj file names. Textures are read for materials that
    faces use; a texture replaces Kd (third party: as in PyTorch3D, which draws the official pictures). Line and point elements are left out.
    Of a face of a textured material without (whole, finite) texture coordinates the colour Kd is taken; such faces get a material of their
    own behind the others, of the same name.

    Args:
        path: The .obj file.

    Returns:
        The mesh in the file's frame and unit, and what could not be done as the file says (missing material file, material or texture,
        broken texture, bad texture coordinates, transparency), one line each; empty if nothing.

    Raises:
        DataNotFoundError: If there is no such file.
        BadFileError: If its geometry cannot be used, see `clip2x.data.files.read_shape`; also if it has no face.
    """
    notes = _Notes()
    lines = ObjLines(read_content(path), path)
    vertices, corners = lines.vertices(), lines.corners()
    if corners is None:
        raise BadFileError(f"{path}: there are no faces in it, so there is nothing to draw.")
    checked(Shape(vertices, corners.vertex), path)
    materials = _read_libraries(lines.names(b"mtllib"), path.parent, notes)
    face_material = _materials_of_faces(lines, corners, materials, notes)
    used = set(np.unique(face_material).tolist())
    drawn = _load_textures(materials, used, path.parent / "..", notes)
    transparent = [material.name for index, material in enumerate(materials) if material.transparent and index in used]
    if transparent:
        notes.add("transparent materials, drawn opaque", *transparent)
    if all(material.texture is None for material in drawn):
        return Mesh(vertices, corners.vertex, face_material, tuple(drawn)), notes.lines()
    uv, usable = _uv_of_faces(lines.texture_coordinates(), corners, notes)
    _leave_untextured(drawn, face_material, usable, notes)
    for index, material in enumerate(materials):
        if (material.scale, material.offset) != ((1.0, 1.0), (0.0, 0.0)):
            chosen = face_material == index
            uv[chosen] = uv[chosen] * material.scale + material.offset
    return Mesh(vertices, corners.vertex, face_material, tuple(drawn), uv), notes.lines()


def _parse_mtl(content: bytes, folder: Path, notes: _Notes) -> list[MtlMaterial]:
    """Parse the materials of an .mtl file, in its order; of two with one name the later one counts, in the place of the first."""
    materials: dict[str, MtlMaterial] = {}
    current: str | None = None
    for line in CONTINUED.sub(b" ", content.removeprefix(BYTE_ORDER_MARK)).replace(b"\r", b"\n").split(b"\n"):
        keyword, _, rest = line.strip().decode("utf-8", "surrogateescape").replace("\t", " ").partition(" ")
        rest = rest.strip()
        if keyword == "newmtl":
            current = rest
            materials[rest] = MtlMaterial(rest, folder=folder)
        elif current is not None:
            materials[current] = _with_line(materials[current], keyword.lower(), rest, notes)
    return list(materials.values())


def _with_line(material: MtlMaterial, keyword: str, rest: str, notes: _Notes) -> MtlMaterial:
    """Take up one line of a material."""
    if keyword == "kd":
        values = _floats(rest.split("#")[0].split()[:3])
        if len(values) not in (1, 3):
            notes.add("materials whose Kd is no colour, drawn grey", material.name)
            return material
        red, green, blue = (min(max(value, 0.0), 1.0) for value in (values * 3 if len(values) == 1 else values))
        return replace(material, colour=(red, green, blue))
    if keyword in ("d", "tr"):
        values = _floats(rest.replace("-halo", " ").split("#")[0].split()[:1])
        opaque = (1.0,) if keyword == "d" else (0.0, 1.0)  # Tr is 1 - d by the specification, but some programs write d as Tr
        return replace(material, transparent=material.transparent or any(value not in opaque for value in values))
    if keyword == "map_kd":
        texture, vectors = _texture_line(rest)
        if texture is None:
            notes.add("materials whose map_Kd names no file, drawn in Kd", material.name)
        return replace(material, texture=texture, scale=vectors.get("-s", (1.0, 1.0)), offset=vectors.get("-o", (0.0, 0.0)))
    return material


def _texture_line(rest: str) -> tuple[str | None, dict[str, Pair]]:
    """Take the options off a texture line: the file name, which may hold blanks, and the first two values of -s and -o."""
    vectors: dict[str, Pair] = {}
    while (option := rest.split(" ", 1)[0].lower()) in OPTION_VALUES or option in VECTOR_OPTIONS:
        words = rest.split()
        if option in VECTOR_OPTIONS:
            # The last word is the file's name even if it is a number
            values = next(found for count in (3, 2, 1, 0) if len(found := _floats(words[1:-1][:count])) == count)
            default = 1.0 if option == "-s" else 0.0
            first, second = (values + [default, default])[:2] if values else (default, default)
            vectors[option] = (first, second)
            skipped = 1 + len(values)
        else:
            skipped = 1 + OPTION_VALUES[option]
        rest = rest.split(None, skipped)[skipped] if len(words) > skipped else ""
    return rest.strip().strip('"') or None, vectors


def _read_libraries(names: list[str], folder: Path, notes: _Notes) -> list[MtlMaterial]:
    """Read the files of all mtllib lines; a line names one file, which may hold blanks, or several."""
    materials: dict[str, MtlMaterial] = {}
    root = folder / ".."
    for line in dict.fromkeys(names):
        whole = locate(folder, line, root=root)
        for name, place in [(line, whole)] if whole is not None else [(word, locate(folder, word, root=root)) for word in line.split()]:
            try:
                content = None if place is None else place.read_bytes()
            except OSError:
                content = None
            if place is None or content is None:
                notes.add("material files that are missing or cannot be read, materials drawn grey", name)
                continue
            for material in _parse_mtl(content, place.parent, notes):
                materials[material.name] = material
    return list(materials.values())


def _materials_of_faces(lines: ObjLines, corners: Corners, materials: list[MtlMaterial], notes: _Notes) -> NDArray[np.int64]:
    """Find the material of every face, (F,); grey ones are added to `materials` for names that are in no file."""
    place = {material.name: index for index, material in enumerate(materials)}
    names = [NO_MATERIAL, *lines.names(b"usemtl")]
    which = np.searchsorted(lines.where(b"usemtl"), corners.line)
    numbers = np.zeros(len(names), dtype=np.int64)
    for position in np.unique(which).tolist():
        name = names[position]
        if name not in place:
            place[name] = len(materials)
            materials.append(MtlMaterial(name))
            if position:
                notes.add("materials that are in no material file, drawn grey", name)
        numbers[position] = place[name]
    return numbers[which]


def _load_textures(materials: list[MtlMaterial], used: set[int], root: Path, notes: _Notes) -> list[Material]:
    """Read the textures of the materials that are used, each file once; none that does not lie below `root`."""
    loaded: dict[Path, NDArray[np.uint8] | None] = {}
    drawn = []
    for index, material in enumerate(materials):
        texture = None
        if material.texture is not None and index in used:
            place = locate(material.folder, material.texture, TEXTURE_FOLDERS, root=root)
            if place is None:
                notes.add("missing textures, drawn in the material's Kd", material.texture)
            else:
                if place not in loaded:
                    loaded[place] = _picture(place)
                texture = loaded[place]
                if texture is None:
                    notes.add("broken textures, drawn in the material's Kd", material.texture)
        drawn.append(Material(material.name, material.colour, texture))
    return drawn


def _picture(path: Path) -> NDArray[np.uint8] | None:
    try:
        return read_image(path)
    except (BadFileError, DataNotFoundError):  # reported by the caller, which takes Kd
        return None


def _uv_of_faces(coordinates: NDArray[np.float64], corners: Corners, notes: _Notes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Look up texture coordinates: (F, 3, 2), zeros where there are none, and (F,) whether all three corners have usable ones."""
    outside = (corners.uv < NO_UV) | (corners.uv >= len(coordinates))
    given = (corners.uv != NO_UV) & ~outside
    uv: NDArray[np.float64] = np.zeros((*corners.uv.shape, 2))
    uv[given] = coordinates[corners.uv[given]]
    finite = np.isfinite(uv[..., 0]) & np.isfinite(uv[..., 1])
    for reason, bad in (("faces that name texture coordinates which are not there, drawn in Kd", outside.any(axis=1)),
                        ("faces with texture coordinates that are not finite, drawn in Kd", ~finite.all(axis=1))):
        if bad.any():
            notes.add(reason, *(f"line {line + 1}" for line in corners.line[bad].tolist()))
    uv[~finite] = 0.0
    return uv, (given & finite).all(axis=1)


def _leave_untextured(drawn: list[Material], face_material: NDArray[np.int64], usable: NDArray[np.bool_], notes: _Notes) -> None:
    """Give faces without texture coordinates a material that is like their own without its texture."""
    textured = np.array([material.texture is not None for material in drawn])
    lost = textured[face_material] & ~usable
    for index in np.unique(face_material[lost]).tolist():
        notes.add("textured materials with faces that have no texture coordinates, drawn in Kd there", drawn[index].name)
        face_material[lost & (face_material == index)] = len(drawn)
        drawn.append(replace(drawn[index], texture=None))


def locate(folder: Path, written: str, by_name_in: Iterable[str] = (), *, root: Path | None = None) -> Path | None:
    """Find a file that a material file names: by its path, then without regard to case, then by its bare name in other folders.

    Args:
        folder: What the path is relative to. Absolute paths come from the machine of the author and are read as relative ones.
        written: Path with slashes or backslashes.
        by_name_in: Folders below `folder` to look for the bare name.
        root: Nothing that does not lie below this folder is found; by default the one above `folder`.
    """
    top = os.path.realpath(folder / ".." if root is None else root).rstrip("/") + "/"
    parts = [part for part in DRIVE.sub("", written.strip()).replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts:
        return None
    for place in ("/".join(parts), *(f"{other}/{parts[-1]}" for other in by_name_in)):
        if os.path.normpath(os.path.join(os.path.realpath(folder), place)).startswith(top):
            found = _without_case(folder, place)
            if found is not None:
                return found
    return None


def _without_case(folder: Path, relative: str) -> Path | None:
    """Walk a path, taking the first name in sorted order that differs in case only where there is none of that case."""
    place = str(folder)
    if os.path.isfile(os.path.join(place, relative)):
        return Path(os.path.normpath(os.path.join(place, relative)))
    for part in relative.split("/"):
        step = os.path.join(place, part)
        if not os.path.lexists(step):
            try:
                same = sorted(name for name in os.listdir(place) if name.lower() == part.lower())
            except OSError:
                return None
            if not same:
                return None
            step = os.path.join(place, same[0])
        place = step
    return Path(os.path.normpath(place)) if os.path.isfile(place) else None


def _floats(words: list[str]) -> list[float]:
    """Read finite numbers; an empty list if one is none."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
