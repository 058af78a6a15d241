"""Reading OBJ files with materials and textures: the right way round, dialects, what is missing, double faces, real ShapeNet models."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip2x.data.formats.obj import parse_obj
from clip2x.data.formats.textured_obj import locate, read_textured_obj
from clip2x.errors import BadFileError, Clip2xError, DataNotFoundError
from clip2x.meshes import Material, Mesh, _surface_colour, render_views, reversed_faces

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
UV = "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
CORNERS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], dtype=np.uint8)  # top left, top right, bottom left, bottom right
GREY = [178, 178, 178]
CHAIR = "03001627/b718fe66075a7c952af70677c0b21b90"


def write_model(folder: Path, obj: str, mtl: str | None = None, *, textures: tuple[str, ...] = ("images/t.png",)) -> Path:
    """Write a.obj, a.mtl and 2 x 2 textures whose corners tell up from down and left from right."""
    folder.mkdir(parents=True, exist_ok=True)
    if mtl is not None:
        (folder / "a.mtl").write_text(mtl)
    for name in textures:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(CORNERS.reshape(2, 2, 3)).save(folder / name)
    (folder / "a.obj").write_text(obj)
    return folder / "a.obj"


def colour_at(mesh: Mesh, face: int, u: float = 1 / 3, v: float = 1 / 3) -> list[int]:
    """Look up the colour on a face at barycentric coordinates (of its second and third corner)."""
    colour = _surface_colour(mesh, np.array([face]), np.array([[u, v]], dtype=np.float32))
    return (colour[0] * 255).round().astype(int).tolist()


# ---- materials


def test_a_texture_is_laid_on_the_right_way_round(tmp_path: Path) -> None:
    """The v of texture coordinates points up: the corner with uv (0, 1) is the top left pixel."""
    mesh, notes = read_textured_obj(write_model(tmp_path, f"mtllib a.mtl\n{SQUARE}{UV}usemtl m\nf 1/1 2/2 3/3 4/4\n",
                                                "newmtl m\nKd 1 1 1\nmap_Kd images/t.png\n"))
    assert notes == () and mesh.face_uv is not None
    for corner, (u, v) in {0: (0.1, 0.1), 1: (0.1, 0.1)}.items():
        assert colour_at(mesh, corner, u, v) == CORNERS[2].tolist(), "both triangles begin at uv (0, 0), bottom left"
    assert colour_at(mesh, 0, 0.9, 0.05) == CORNERS[3].tolist()
    assert colour_at(mesh, 0, 0.05, 0.9) == CORNERS[1].tolist() == colour_at(mesh, 1, 0.9, 0.05)
    assert colour_at(mesh, 1, 0.05, 0.9) == CORNERS[0].tolist()
    picture = render_views(mesh, np.zeros(1), np.zeros(1), np.full(1, 2.0), image_size=64, ambient=1.0)[0]
    assert [picture[row, column, :3].tolist() for row, column in ((25, 25), (25, 39), (39, 25), (39, 39))] == CORNERS.tolist()


def test_textures_repeat_outside_of_the_unit_square(tmp_path: Path) -> None:
    uv = "vt -3 5\nvt -2 5\nvt -2 6\nvt -3 6\n"
    mesh, _ = read_textured_obj(write_model(tmp_path, f"mtllib a.mtl\n{SQUARE}{uv}usemtl m\nf 1/1 2/2 3/3 4/4\n", "newmtl m\nmap_Kd images/t.png\n"))
    assert colour_at(mesh, 0, 0.1, 0.1) == CORNERS[2].tolist() and colour_at(mesh, 1, 0.05, 0.9) == CORNERS[0].tolist()


def test_every_face_gets_its_material_and_all_materials_come_in_file_order(tmp_path: Path) -> None:
    mtl = "newmtl red\nKd 1 0 0\nnewmtl unused one\nKd 0 0 1\n\nnewmtl green one\nKd 0 1 0\nKs 9 9 9\n"
    mesh, notes = read_textured_obj(write_model(
        tmp_path, f"mtllib a.mtl\n{SQUARE}f 1 2 3\nusemtl green one\nf 1 2 3 4\nusemtl red\nf 2 3 4\nusemtl nowhere\nf 1 2 3\n", mtl))
    assert [material.name for material in mesh.materials] == ["red", "unused one", "green one", "", "nowhere"]
    assert mesh.face_material.tolist() == [3, 2, 2, 0, 4] and mesh.face_uv is None
    assert colour_at(mesh, 1) == [0, 255, 0] and colour_at(mesh, 3) == [255, 0, 0] and colour_at(mesh, 0) == colour_at(mesh, 4) == GREY
    assert notes == ("materials that are in no material file, drawn grey: 1, first 'nowhere'.",)


def test_faces_without_texture_coordinates_take_the_colour(tmp_path: Path) -> None:
    faces = "f 1/1 2/2 3/3\nf 1 3 4\nf 1/1 2/2 3\nf 1/1 2/2 3/9\nf 1/1 2/2 3/-9\nf 1//1 2//1 3//1\n"
    mesh, notes = read_textured_obj(write_model(tmp_path, f"mtllib a.mtl\n{SQUARE}{UV}usemtl m\n{faces}",
                                                "newmtl m\nKd 0 0 1\nmap_Kd images/t.png\n"))
    assert mesh.face_material.tolist() == [0, 1, 1, 1, 1, 1]
    assert mesh.materials[1] == Material("m", (0.0, 0.0, 1.0)) and mesh.materials[0].texture is not None
    assert colour_at(mesh, 0, 0.9, 0.05) == CORNERS[3].tolist() and colour_at(mesh, 1) == [0, 0, 255]
    assert notes == ("faces that name texture coordinates which are not there, drawn in Kd: 2, first 'line 14'.",
                     "textured materials with faces that have no texture coordinates, drawn in Kd there: 1, first 'm'.")


def test_texture_coordinates_that_are_not_finite_are_not_used(tmp_path: Path) -> None:
    uv = "vt 0 0\nvt nan 0\nvt 1 inf\n"
    mesh, notes = read_textured_obj(write_model(tmp_path, f"mtllib a.mtl\n{SQUARE}{uv}usemtl m\nf 1/1 2/2 3/3\nf 1/1 2/1 3/1\n",
                                                "newmtl m\nKd 0 1 0\nmap_Kd images/t.png\n"))
    assert mesh.face_material.tolist() == [1, 0] and mesh.face_uv is not None and np.isfinite(mesh.face_uv).all()
    assert notes[0] == "faces with texture coordinates that are not finite, drawn in Kd: 1, first 'line 10'."


@pytest.mark.parametrize(("line", "note"), [
    ("map_Kd gone.png", "missing textures, drawn in the material's Kd: 1, first 'gone.png'."),
    ("map_Kd broken.jpg", "broken textures, drawn in the material's Kd: 1, first 'broken.jpg'."),
    ("map_Kd images", "missing textures, drawn in the material's Kd: 1, first 'images'."),
    ("map_Kd", "materials whose map_Kd names no file, drawn in Kd: 1, first 'm'."),
    ("map_Kd -s 1 1 1", "missing textures, drawn in the material's Kd: 1, first '1'."),
])
def test_without_its_texture_a_material_has_its_colour(line: str, note: str, tmp_path: Path) -> None:
    path = write_model(tmp_path, f"mtllib a.mtl\n{SQUARE}{UV}usemtl m\nf 1/1 2/2 3/3\n", f"newmtl m\nKd 0.2 0.4 0.6\n{line}\n")
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "images" / "t.png").read_bytes()[:40])
    mesh, notes = read_textured_obj(path)
    assert notes == (note,) and colour_at(mesh, 0) == [51, 102, 153]


@pytest.mark.parametrize(("written", "stored"), [
    ("images/t.png", "images/t.png"), ("images\\t.png", "images/t.png"), (".\\Images\\T.PNG", "images/t.png"), ("./images/t.png", "images/t.png"),
    ("C:\\Users\\me\\t.png", "images/t.png"), ("/home/me/T.png", "t.png"), ('"images/a b.png"', "images/a b.png"),
    ("images/a b.png", "images/a b.png"),
    ("-s 1 1 1 images/t.png", "images/t.png"), ("-o 0 0 -blendu on -mm 0 1 images/t.png", "images/t.png"), ("-clamp on -bm 1 7.png", "7.png"),
    ("-o 0.0 7.png", "7.png"), ("bücher/Stühle 1.png", "bücher/Stühle 1.png"), ("t.png", "../images/t.png"), ("  t.png  ", "t.png"),
])
def test_textures_are_found_as_people_write_them(written: str, stored: str, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    mesh, notes = read_textured_obj(write_model(folder, f"mtllib a.mtl\n{SQUARE}{UV}usemtl m\nf 1/1 2/2 3/3\n",
                                                f"newmtl m\nmap_Kd {written}\n", textures=(stored,)))
    assert notes == () and colour_at(mesh, 0, 0.9, 0.05) == CORNERS[3].tolist()


def test_texture_coordinates_are_scaled_and_shifted(tmp_path: Path) -> None:
    mesh, notes = read_textured_obj(write_model(tmp_path, f"mtllib a.mtl\n{SQUARE}{UV}usemtl m\nf 1/1 2/2 3/3\nusemtl n\nf 1/1 2/2 3/3\n",
                                                "newmtl m\nmap_Kd -s 2 3 -o 0.5 0.25 0 images/t.png\nnewmtl n\nmap_Kd -s 2 images/t.png\n"))
    assert notes == () and mesh.face_uv is not None
    assert mesh.face_uv[0].tolist() == [[0.5, 0.25], [2.5, 0.25], [2.5, 3.25]] and mesh.face_uv[1].tolist() == [[0, 0], [2, 0], [2, 1]]
    assert mesh.materials[0].texture is mesh.materials[1].texture, "one file is read once"


@pytest.mark.parametrize(("lines", "names"), [
    ("mtllib a.mtl", ["a", "b"]), ("mtllib a b.mtl", ["c"]), ("mtllib a.mtl other.mtl", ["a", "b", "d"]),
    ("mtllib a.mtl\nmtllib other.mtl", ["a", "b", "d"]),
    ("mtllib .\\A.MTL", ["a", "b"]), ("mtllib sub/other.mtl", ["e"]),
])
def test_material_files_are_found_as_people_name_them(lines: str, names: list[str], tmp_path: Path) -> None:
    path = write_model(tmp_path, f"{lines}\n{SQUARE}usemtl {names[-1]}\nf 1 2 3\n", "newmtl a\nKd 1 0 0\nnewmtl b\nKd 1 0 0\n")
    (tmp_path / "a b.mtl").write_text("newmtl c\r\n  Kd 1 0 0\r\n")
    (tmp_path / "other.mtl").write_text("\ufeffnewmtl d\n\tKd\t1 0 0 # red\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "other.mtl").write_text("newmtl e\nKd 0.5 0 0\nnewmtl e\nKd 1 0 0\n")
    mesh, notes = read_textured_obj(path)
    assert [material.name for material in mesh.materials] == names and notes == () and colour_at(mesh, 0) == [255, 0, 0]


def test_a_missing_material_file_leaves_the_mesh_grey(tmp_path: Path) -> None:
    mesh, notes = read_textured_obj(write_model(tmp_path, f"mtllib gone.mtl\n{SQUARE}usemtl m\nf 1 2 3\n"))
    assert colour_at(mesh, 0) == GREY
    assert notes == ("material files that are missing or cannot be read, materials drawn grey: 1, first 'gone.mtl'.",
                     "materials that are in no material file, drawn grey: 1, first 'm'.")
    mesh, notes = read_textured_obj(write_model(tmp_path, f"{SQUARE}f 1 2 3\n"))
    assert notes == () and mesh.materials == (Material("", (0.7, 0.7, 0.7)),)


@pytest.mark.parametrize(("line", "colour", "note"), [
    ("Kd 0.5", [128, 128, 128], ""), ("Kd 2 -1 0.5", [255, 0, 128], ""), ("kd 0 0 1", [0, 0, 255], ""),
    ("Kd xyz 1 1 1", GREY, "no colour"), ("Kd 1 0", GREY, "no colour"), ("Kd nan 0 0", GREY, "no colour"),
    ("d 0.5", GREY, "transparent"), ("d -halo 0.5", GREY, "transparent"), ("Tr 0.5", GREY, "transparent"),
    ("Tr 0", GREY, ""), ("d 1.0", GREY, ""), ("illum 2\nfoo bar", GREY, ""),
])
def test_colours_and_transparency(line: str, colour: list[int], note: str, tmp_path: Path) -> None:
    mesh, notes = read_textured_obj(write_model(tmp_path, f"mtllib a.mtl\n{SQUARE}usemtl m\nf 1 2 3\n", f"newmtl m\n{line}\n"))
    assert colour_at(mesh, 0) == colour
    assert len(notes) == bool(note) and note in "".join(notes)


def test_names_that_are_no_utf8_are_read_and_reported(tmp_path: Path) -> None:
    path = write_model(tmp_path, "", "")
    path.write_bytes(f"mtllib a.mtl\n{SQUARE}usemtl ".encode() + b"St\xfchle\nf 1 2 3\n")
    (tmp_path / "a.mtl").write_bytes(b"newmtl St\xfchle\nKd 0 0 1\nmap_Kd \xff\xfe.png\n")
    mesh, notes = read_textured_obj(path)
    assert colour_at(mesh, 0) == [0, 0, 255]
    assert "".join(notes).encode() and "missing textures" in notes[0]


def test_locate_survives_odd_names(tmp_path: Path) -> None:
    for name in ("", ".", "a\x00b", "x" * 5000, "../" * 40, "con/../t.png"):
        assert locate(tmp_path, name) is None


@pytest.mark.parametrize(("text", "message"), [
    ("", "is empty"), (SQUARE, "there are no faces in it, so there is nothing to draw"), (SQUARE + "f 1 2 9\n", "vertices go from 0 to 3"),
    (SQUARE + "f 1 1 1\n", "total area"), (SQUARE + "v nan 0 0\nf 1 2 3\n", "NaN or infinite"), (SQUARE + "l 1 2 3\n", "no faces"),
    (SQUARE + "f 1 2\n", "no faces with three corners"), (SQUARE + "vt x\nusemtl m\nf 1/1 2/1 3/1\n", "line 6 is not a texture coordinate"),
])
def test_geometry_that_cannot_be_used_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "bücher und stühle", f"mtllib a.mtl\n{text}" if "usemtl" in text else text, "newmtl m\nmap_Kd images/t.png\n")
    with pytest.raises(BadFileError, match=message) as caught:
        read_textured_obj(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="no such file"):
        read_textured_obj(tmp_path / "gone.obj")


def test_cut_files_never_raise_anything_else(tmp_path: Path) -> None:
    path = write_model(tmp_path, f"mtllib a.mtl\n{SQUARE}{UV}usemtl m\nf 1/1 2/2 3/3 4/4\nf -1 -2 -3\n",
                       "newmtl m\nKd 1 1 1\nmap_Kd -s 1 1 1 images/t.png\n")
    whole, mtl, picture = path.read_bytes(), (tmp_path / "a.mtl").read_bytes(), (tmp_path / "images" / "t.png").read_bytes()
    for place, content in ((path, whole), (tmp_path / "a.mtl", mtl), (tmp_path / "images" / "t.png", picture)):
        for stop in range(0, len(content), 3):
            place.write_bytes(content[:stop])
            try:
                read_textured_obj(path)
            except Clip2xError as error:
                assert place == path and "\n" not in str(error)
        place.write_bytes(content)


# ---- faces that lie on one another


def test_reversed_faces_by_a_slow_search() -> None:
    rng = np.random.default_rng(0)
    faces = np.array([rng.permutation(5)[:3] for _ in range(60)])

    def sense(face: np.ndarray) -> int:
        return int(np.linalg.det(np.eye(3)[np.argsort(face)]))

    expected = [next((k for k in range(60) if sorted(faces[k]) == sorted(faces[n]) and sense(faces[k]) != sense(faces[n])), n) for n in range(60)]
    found = reversed_faces(faces)
    assert found is not None and found.tolist() == expected
    assert reversed_faces(np.array([[0, 1, 2], [1, 2, 0], [0, 1, 3]])) is None
    assert reversed_faces(np.zeros((0, 3), dtype=np.int64)) is None


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_faces_back_to_back_the_one_that_looks_at_the_camera_is_seen(swapped: bool) -> None:
    """A square painted red with a texture in front and blue behind, its faces in either order."""
    vertices = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype=float)
    front, back = [[0, 1, 2], [0, 2, 3]], [[1, 0, 2], [3, 2, 0]]
    uv = vertices[:, :2] / 2 + 0.5
    faces = np.array([*back, *front] if swapped else [*front, *back])
    materials = (Material("blue", (0.0, 0.0, 1.0)), Material("textured", (1.0, 1.0, 1.0), CORNERS.reshape(2, 2, 3)))
    mesh = Mesh(vertices, faces, np.array([0, 0, 1, 1] if swapped else [1, 1, 0, 0]), materials, uv[faces])
    pictures = render_views(mesh, np.array([0.0, 180.0]), np.zeros(2), np.full(2, 2.0), image_size=64, ambient=1.0)
    assert [pictures[0, row, column, :3].tolist() for row, column in ((25, 25), (25, 39), (39, 25), (39, 39))] == CORNERS.tolist()
    covered = pictures[1][pictures[1, ..., 3] > 0]
    assert len(covered) > 500 and (covered == (0, 0, 255, 255)).all()


# ---- real models


def real_models(shared_data: Path) -> dict[str, Path]:
    paths = sorted((shared_data / "shapenet" / "ShapeNetCore.v2").glob("*/*/models/model_normalized.obj"))
    assert len(paths) == 4
    return {path.parents[2].name: path for path in paths}


@pytest.mark.data
def test_real_models_have_their_materials(shared_data: Path) -> None:
    for synset, path in real_models(shared_data).items():
        mesh, notes = read_textured_obj(path)
        vertices, faces = parse_obj(path.read_bytes(), path)
        assert np.array_equal(mesh.vertices, vertices) and faces is not None and np.array_equal(mesh.faces, faces)
        textured = sum(material.texture is not None for material in mesh.materials)
        missing = [note for note in notes if "missing" in note]
        assert (textured, len(missing)) == {"02691156": (1, 0), "02958343": (0, 0), "03001627": (4, 0), "03790512": (0, 1)}[synset]
        if missing:
            assert missing == ["missing textures, drawn in the material's Kd: 5, first '../images/texture2.jpg'."]
            used = {mesh.materials[index].name: mesh.materials[index].colour for index in np.unique(mesh.face_material)}
            assert used["material_4_24"] == (0.8, 0.0, 0.0) and len(set(used.values())) > 5


@pytest.mark.data
def test_real_faces_have_the_material_and_texture_that_the_file_names(shared_data: Path) -> None:
    """The chair, word by word: the colour in the middle of every face is the pixel of its own texture."""
    path = shared_data / "shapenet" / "ShapeNetCore.v2" / CHAIR / "models" / "model_normalized.obj"
    colours, textures, name = {}, {}, ""
    for words in map(str.split, path.with_suffix(".mtl").read_text().splitlines()):
        if words[:1] == ["newmtl"]:
            name = words[1]
        if words[:1] == ["Kd"]:
            colours[name] = np.array([float(word) for word in words[1:]])
        if words[:1] == ["map_Kd"]:
            with Image.open(path.parent / words[1]) as picture:
                textures[name] = np.asarray(picture.convert("RGB"))
    uv, expected = [], []
    for words in map(str.split, path.read_text().splitlines()):
        if words[:1] == ["vt"]:
            uv.append([float(word) for word in words[1:3]])
        if words[:1] == ["usemtl"]:
            name = words[1]
        if words[:1] == ["f"] and name in textures:
            u, v = np.mean([uv[int(word.split("/")[1]) - 1] for word in words[1:]], axis=0) % 1.0
            height, width = textures[name].shape[:2]
            expected.append(textures[name][int((1 - v) * height), int(u * width)] / 255)
        elif words[:1] == ["f"]:
            expected.append(colours[name])
    mesh, _ = read_textured_obj(path)
    found = _surface_colour(mesh, np.arange(len(mesh.faces)), np.full((len(mesh.faces), 2), 1 / 3, dtype=np.float32))
    same = np.abs(found - np.array(expected)).max(axis=1) < 1e-5
    assert len(expected) == len(mesh.faces) == 6088 and same.mean() > 0.99  # the middle of a face may fall on the edge of a pixel


@pytest.mark.data
def test_open3d_reads_the_same_triangles_and_texture_coordinates(shared_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        import open3d
    except (ImportError, OSError) as error:
        pytest.skip(f"Open3D cannot be imported: {error}")
    for synset, path in real_models(shared_data).items():
        other = open3d.io.read_triangle_mesh(os.fspath(path))
        mesh, _ = read_textured_obj(path)
        ours = [mesh.vertices[mesh.faces].reshape(-1, 9)]
        theirs = [np.asarray(other.vertices)[np.asarray(other.triangles)].reshape(-1, 9)]
        if synset == "03001627":  # of the others some materials have no texture coordinates, and Open3D drops all of them
            assert mesh.face_uv is not None
            drawn = np.array([material.texture is not None for material in mesh.materials])[mesh.face_material]
            textured = {index for index, texture in enumerate(other.textures) if not texture.is_empty()}
            theirs_drawn = np.isin(np.asarray(other.triangle_material_ids), list(textured))
            uv = np.asarray(other.triangle_uvs).reshape(-1, 6)
            ours.append(np.where(drawn[:, None], mesh.face_uv.reshape(-1, 6), 0))
            theirs.append(np.where(theirs_drawn[:, None], uv, 0))
        count = [Counter(map(tuple, (np.concatenate(parts, axis=1) * 1e6).round().astype(int).tolist())) for parts in (ours, theirs)]
        assert count[0] == count[1], synset
    capfd.readouterr()


@pytest.mark.data
def test_real_pictures_show_the_painted_side(shared_data: Path) -> None:
    """The airplane is white with a red and blue tail; its faces are blue and grey inside. The back of the chair is wood, not the default white."""
    models = real_models(shared_data)
    airplane, _ = read_textured_obj(models["02691156"])
    top = render_views(airplane, np.zeros(1), np.full(1, 90.0), np.full(1, 2.0), ambient=1.0)[0]
    covered = top[top[..., 3] > 0][:, :3].astype(int)
    assert (covered.max(axis=1) - covered.min(axis=1) < 30).mean() > 0.9, "nothing but the tail is coloured from above"
    chair, _ = read_textured_obj(models["03001627"])
    pictures = render_views(chair, np.array([0.0, 180.0]), np.zeros(2), np.full(2, 2.0), ambient=1.0)
    for picture in pictures:
        covered = picture[picture[..., 3] > 0][:, :3].astype(int)
        assert (covered.min(axis=1) < 250).mean() > 0.98
