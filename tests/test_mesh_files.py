"""Reading OFF, PLY, PCD and OBJ files: against slow parsers and Open3D, cut anywhere, changed at random."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from clip2x.data.files import SUFFIXES, read_shape
from clip2x.data.formats.off import parse_line_by_line, parse_off, parse_triangles_in_bulk
from clip2x.data.formats.pcd import _unpack_lzf
from clip2x.errors import BadFileError, Clip2xError

SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=float)
POINTS = np.random.default_rng(3).normal(size=(20, 3))


def slow_off(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Parse an OFF file of triangles word by word."""
    words = text.split()
    if words[0] == "OFF":
        words.pop(0)
    else:
        words[0] = words[0].removeprefix("OFF")
    num_vertices, num_faces = int(words[0]), int(words[1])
    words = words[3:]
    vertices = [[float(words.pop(0)) for _ in range(3)] for _ in range(num_vertices)]
    faces = []
    for _ in range(num_faces):
        assert words.pop(0) == "3"
        faces.append([int(words.pop(0)) for _ in range(3)])
    assert not words
    return np.array(vertices), np.array(faces)


def random_off(seed: int, *, header: str = "OFF\n") -> str:
    rng = np.random.default_rng(seed)
    vertices, faces = rng.normal(scale=10.0 ** rng.integers(-3, 4), size=(30, 3)), rng.integers(30, size=(50, 3))
    lines = [f"{header}30 50 0"] + [" ".join(f"{value:.6g}" for value in row) for row in vertices]
    return "\n".join(lines + [f"3 {a} {b} {c}" for a, b, c in faces]) + "\n"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ---- OFF


@pytest.mark.parametrize("header", ["OFF\n", "OFF", "OFF ", "OFF\r\n"])
def test_off_equals_a_parser_that_reads_word_by_word(header: str, tmp_path: Path) -> None:
    for seed in range(5):
        text = random_off(seed, header=header)
        vertices, faces = slow_off(text)
        shape = read_shape(write(tmp_path, "a.off", text))
        assert np.array_equal(shape.points, vertices) and np.array_equal(shape.faces, faces)


def test_bulk_and_line_parser_agree_bit_by_bit() -> None:
    text = random_off(1).encode()
    body = text[text.index(b"\n", 4) + 1:]
    bulk, lines = parse_triangles_in_bulk(body, 30, 50), parse_line_by_line(body, 30, 50, first_line=3, path=Path("a.off"))
    assert bulk is not None and np.array_equal(bulk[0], lines[0]) and np.array_equal(bulk[1], lines[1])


@pytest.mark.parametrize(("name", "text"), [
    ("crlf", f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3\n".replace("\n", "\r\n")),
    ("comments", f"# made by hand\nOFF # a square\n# counts\n4 2 0\n\n{SQUARE}# faces\n3 0 1 2 # one\n3 0 2 3\n"),
    ("polygon", f"OFF\n4 1 0\n{SQUARE}4 0 1 2 3\n"),
    ("face colours", f"OFF\n4 2 0\n{SQUARE}3 0 1 2 255 0 0\n3 0 2 3 0.5 0.5 0.5 1\n"),
    ("vertex colours", "COFF\n4 2 0\n" + SQUARE.replace("\n", " 255 0 0 255\n") + "3 0 1 2\n3 0 2 3\n"),
    ("no edge count", f"OFF\n4 2\n{SQUARE}3 0 1 2\n3 0 2 3\n"),
    ("byte order mark", f"\ufeffOFF\n4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3\n"),
    ("no last newline", f"OFF 4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3"),
    ("an edge", f"OFF\n4 3 0\n{SQUARE}3 0 1 2\n2 0 1\n3 0 2 3\n"),
])
def test_off_dialects(name: str, text: str, tmp_path: Path) -> None:
    shape = read_shape(write(tmp_path, "a.off", text))
    assert np.array_equal(shape.points, CORNERS), name
    assert shape.faces is not None and shape.faces.tolist() == [[0, 1, 2], [0, 2, 3]], name


@pytest.mark.parametrize(("text", "message"), [
    ("", "is empty"),
    ("PLY\n4 2 0\n", "broken OFF header 'PLY'; expected OFF and the numbers"),
    ("OFF\nfour 2 0\n", "broken OFF header"),
    ("OFF\n-4 2 0\n", "broken OFF header"),
    ("OFF BINARY\n4 2 0\n", "broken OFF header"),
    ("4OFF\n4 2 0\n", "broken OFF header"),
    ("OFF\n0 0 0\n", "announces no vertices"),
    (f"OFF\n4 0 0\n{SQUARE}", "announces no faces; for bare points use"),
    (f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n", "cut off: its header announces 4 vertices and 2 faces, but 5 lines follow"),
    ("OFF\n99999999999999 1 0\n0 0 0\n", "cut off"),
    (f"OFF\n4 1 0\n{SQUARE}3 0 1 2\n3 0 2 3\n", "has too many lines"),
    (f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n3 0 2 9\n", r"triangle 1 names the corners \[0, 2, 9\], but vertices go from 0 to 3"),
    (f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n3 0 2 -1\n", r"names the corners \[0, 2, -1\]"),
    (f"OFF\n4 1 0\n{SQUARE}3 0 1\n", "line 7: the face announces 3 corners and names 2"),
    (f"OFF\n4 1 0\n{SQUARE}3 0 1 x\n", "line 7: '3 0 1 x' is not a face"),
    (f"OFF\n4 1 0\n{SQUARE}0 0 1\n", "line 7: the face announces 0 corners"),
    ("OFF\n# c\n4 1 0\n0 0 0\n1 0\n1 1 0\n0 1 0\n3 0 1 2\n", "line 5: a vertex needs 3 numbers, found 2"),
    ("OFF\n4 1 0\n0 0 0\n1 0 z\n1 1 0\n0 1 0\n3 0 1 2\n", "line 4: '1 0 z' is not a vertex"),
    ("OFF\n4 1 0\n0 0 0\n1 nan 0\n1 1 0\n0 1 0\n3 0 2 3\n", "1 of 4 vertices have NaN or infinite coordinates, first vertex 1"),
    ("OFF\n4 1 0\n0 0 0\n1 0 0\n1 inf 0\n0 1 0\n3 0 1 3\n", "NaN or infinite"),
    ("OFF\n4 1 0\n0 0 0\n1 0 0\n1 1e30 0\n0 1 0\n3 0 1 3\n", "go up to 1e"),
    (f"OFF\n4 1 0\n{SQUARE}3 0 1 1\n", "total area of its 1 triangles is 0"),
    (f"OFF\n4 1 0\n{SQUARE}2 0 1\n", "no faces with three corners"),
    ("OFF\n3 1 0\n1 1 1\n1 1 1\n1 1 1\n3 0 1 2\n", "all 3 points lie in one place"),
])
def test_off_errors_say_what_and_where(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, "bad.off", text)
    with pytest.raises(BadFileError, match=f"^{re.escape(str(path))}: .*{message}") as caught:
        read_shape(path)
    assert "\n" not in str(caught.value)


def test_large_off_files_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="cut off"):
        read_shape(write(tmp_path, "a.off", f"OFF\n{10 ** 15} {10 ** 15} 0\n0 0 0\n"))


@pytest.mark.data
def test_real_off_files_equal_the_slow_parser_and_the_glued_ones_are_read(shared_data: Path) -> None:
    files = sorted(shared_data.glob("ModelNet*/*/*/*.off"))
    glued = [path for path in files if path.read_bytes()[:4] not in (b"OFF\n", b"OFF\r")]
    assert len(glued) == 3
    for path in files:
        if path.stat().st_size < 400_000:
            vertices, faces = slow_off(path.read_text())
            found = parse_off(path.read_bytes(), path)
            assert np.array_equal(found[0], vertices) and np.array_equal(found[1], faces)
        assert read_shape(path).faces is not None
    for path in glued:
        twin = shared_data / "ModelNet10" / path.relative_to(shared_data / "ModelNet40")
        assert np.array_equal(read_shape(path).points, read_shape(twin).points)


# ---- PLY, PCD, OBJ


def ply(order: str, *, faces: list[list[int]] | None, extra: bool = False) -> bytes:
    """Write a PLY file: the square, a colour between y and z if `extra`, and an element nobody needs before the faces."""
    coordinates = ["x", "y", *(["red"] if extra else []), "z"]
    lines = ["ply", f"format {order} 1.0", "comment by the test", "element vertex 4"]
    lines += [f"property {'uchar' if name == 'red' else 'float'} {name}" for name in coordinates]
    lines += ["element camera 1", "property double focal"] if extra else []
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices"] if faces is not None else []
    body = b""
    sign = ">" if order.endswith("big_endian") else "<"
    for x, y, z in CORNERS:
        if order == "ascii":
            body += (f"{x} {y} 7 {z}\n" if extra else f"{x} {y} {z}\n").encode()
        else:
            body += struct.pack(f"{sign}ffBf", x, y, 7, z) if extra else struct.pack(f"{sign}fff", x, y, z)
    if extra:
        body += b"1.5\n" if order == "ascii" else struct.pack(f"{sign}d", 1.5)
    for face in faces or []:
        text = f"{len(face)} {' '.join(map(str, face))}\n".encode()
        body += text if order == "ascii" else struct.pack(f"{sign}B{len(face)}i", len(face), *face)
    return "\n".join([*lines, "end_header\n"]).encode() + body


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize(("faces", "expected"), [
    (None, None), ([], None), ([[0, 1, 2], [0, 2, 3]], [[0, 1, 2], [0, 2, 3]]), ([[0, 1, 2, 3]], [[0, 1, 2], [0, 2, 3]]),
    ([[0, 1, 2, 3], [0, 1, 2]], [[0, 1, 2], [0, 2, 3], [0, 1, 2]]), ([[0, 1, 2], [0, 1, 2, 3]], [[0, 1, 2], [0, 1, 2], [0, 2, 3]]),
])
def test_ply(order: str, extra: bool, faces: list[list[int]] | None, expected: list[list[int]] | None, tmp_path: Path) -> None:
    shape = read_shape(write(tmp_path, "a.ply", ply(order, faces=faces, extra=extra)))
    assert np.array_equal(shape.points, CORNERS)
    assert (None if shape.faces is None else shape.faces.tolist()) == expected


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize("faces", [[[0, 1, 2], [0, 2, 3]], [[0, 1, 2, 3], [0, 1, 2]]])
def test_a_ply_file_that_is_cut_anywhere_is_refused(order: str, faces: list[list[int]], tmp_path: Path) -> None:
    whole = ply(order, faces=faces)
    for length in range(4, len(whole) - (2 if order == "ascii" else 0)):
        with pytest.raises(BadFileError):
            read_shape(write(tmp_path, "a.ply", whole[:length]))


@pytest.mark.parametrize(("old", "new", "message"), [
    (b"ply\n", b"plx\n", "not a PLY file"), (b"end_header", b"ende", "not a PLY file"), (b"float z", b"float w", "properties x, y and z"),
    (b"float z", b"flaot z", "line 7 of the PLY header is not understood: 'property flaot z'"), (b"ascii 1.0", b"text 1.0", "line 2 of the"),
    (b"vertex 4", b"vertex 5", "cut off or damaged within its"), (b"vertex 4", b"vertex -4", "needs a format"),
    (b"1.0 1.0 0.0", b"1.0 nan 0.0", "first vertex 2"), (b"1.0 1.0 0.0", b"1.0 one 0.0", "cut off or damaged within its 4 elements"),
    (b"3 0 1 2", b"3 0 1 9", "vertices go from 0 to 3"), (b"3 0 1 2", b"3 0 1 -2", "vertices go from 0 to 3"),
    (b"face 2", b"face 3", "cut off or damaged within its 3 elements 'face'"), (b"vertex 4", b"vertex 100000000000000", "cut off or damaged"),
])
def test_ply_errors(old: bytes, new: bytes, message: str, tmp_path: Path) -> None:
    whole = ply("ascii", faces=[[0, 1, 2], [0, 2, 3]])
    assert old in whole
    with pytest.raises(BadFileError, match=message):
        read_shape(write(tmp_path, "a.ply", whole.replace(old, new, 1)))


@pytest.mark.parametrize("binary", [False, True])
def test_ply_vertices_with_lists_of_different_lengths_keep_their_coordinates(binary: bool, tmp_path: Path) -> None:
    header = f"ply\nformat {'binary_little_endian' if binary else 'ascii'} 1.0\nelement vertex 2\nproperty float x\nproperty float y\n" \
             "property list uchar int tags\nproperty float z\nend_header\n"
    rows = [(0.5, 1.5, [7], 2.5), (0.25, 1.25, [], 2.25)]
    body = b"".join(struct.pack(f"<ffB{len(tags)}if", x, y, len(tags), *tags, z) if binary
                    else f"{x} {y} {' '.join(map(str, [len(tags), *tags]))} {z}\n".encode() for x, y, tags, z in rows)
    assert read_shape(write(tmp_path, "a.ply", header.encode() + body)).points.tolist() == [[0.5, 1.5, 2.5], [0.25, 1.25, 2.25]]


PCD = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y rgb z\nSIZE 4 4 4 4\nTYPE F F U F\nCOUNT 1 1 1 1\nWIDTH 4\nHEIGHT 1\n" \
      "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 4\nDATA "


def pcd(kind: str) -> bytes:
    if kind == "ascii":
        return (PCD + "ascii\n" + "".join(f"{x} {y} 255 {z}\n" for x, y, z in CORNERS)).encode()
    if kind == "binary":
        return (PCD + "binary\n").encode() + b"".join(struct.pack("<ffIf", x, y, 255, z) for x, y, z in CORNERS)
    block = b"".join(column.astype("<f4").tobytes() for column in (CORNERS[:, 0], CORNERS[:, 1], np.zeros(4), CORNERS[:, 2]))
    packed = b"".join(bytes([len(run) - 1]) + run for run in (block[:32], block[32:]))
    return (PCD + "binary_compressed\n").encode() + struct.pack("<II", len(packed), len(block)) + packed


@pytest.mark.parametrize("kind", ["ascii", "binary", "binary_compressed"])
def test_pcd(kind: str, tmp_path: Path) -> None:
    shape = read_shape(write(tmp_path, "a.pcd", pcd(kind)))
    assert np.array_equal(shape.points, CORNERS) and shape.faces is None


@pytest.mark.parametrize("kind", ["ascii", "binary", "binary_compressed"])
def test_a_pcd_file_that_is_cut_anywhere_is_refused(kind: str, tmp_path: Path) -> None:
    whole = pcd(kind)
    for length in range(1, len(whole) - (4 if kind == "ascii" else 0)):
        with pytest.raises(BadFileError):
            read_shape(write(tmp_path, "a.pcd", whole[:length]))


def test_lzf_back_references() -> None:
    assert _unpack_lzf(b"\x01ab" + bytes([(3 << 5) | 0, 1]), 7) == b"ababab" + b"a"
    assert _unpack_lzf(b"\x00a" + bytes([(7 << 5) | 0, 10, 0]), 20) == b"a" * 20
    with pytest.raises(ValueError, match="before the block"):
        _unpack_lzf(b"\x00a" + bytes([3 << 5, 9]), 6)


@pytest.mark.parametrize(("old", "new", "message"), [
    (b"FIELDS x y rgb z", b"FIELDS x y rgb w", "needs FIELDS with x, y, z"), (b"POINTS 4", b"POINTS 5", "announces 5 points"),
    (b"POINTS 4", b"POINTS -4", "needs FIELDS"), (b"DATA ascii", b"DATA text", "DATA must be ascii"), (b"VERSION", b"VRSION", "not a PCD file"),
    (b"1.0 1.0 255 0.0", b"1.0 nan 255 0.0", "1 of 4 points have NaN"), (b"POINTS 4", b"POINTS 99999999999999", "announces"),
])
def test_pcd_errors(old: bytes, new: bytes, message: str, tmp_path: Path) -> None:
    assert old in pcd("ascii")
    with pytest.raises(BadFileError, match=message):
        read_shape(write(tmp_path, "a.pcd", pcd("ascii").replace(old, new, 1)))


OBJ = "mtllib none.mtl\no square\n" + "".join(f"v {x} {y} {z}\n" for x, y, z in CORNERS) + "vt 0 0\nvn 0 0 1\nusemtl red\n"


@pytest.mark.parametrize("faces", ["f 1 2 3\nf 1 3 4\n", "f 1/1/1 2/1/1 3/1/1 4/1/1\nl 1 2\n", "f 1//1 2//1 3//1\r\nf -4 -2 -1\r\n",
                                   "f 1 2 \\\n 3 4 # one\n", "  f 1/1 2/1 3/1\n  f 1/1 3/1 4/1\n# f 9 9 9\n"])
def test_obj(faces: str, tmp_path: Path) -> None:
    shape = read_shape(write(tmp_path, "a.obj", OBJ + faces))
    assert np.array_equal(shape.points, CORNERS)
    assert shape.faces is not None and shape.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_obj_negative_indices_count_from_the_vertices_above(tmp_path: Path) -> None:
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 0 0 1\nv 1 0 1\nv 0 1 1\nf -3 -2 -1\n"
    shape = read_shape(write(tmp_path, "a.obj", text))
    assert shape.faces is not None and shape.faces.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(("text", "message"), [
    (OBJ + "f 1 2 9\n", "vertices go from 0 to 3"), (OBJ + "f 0 1 2\n", "line 10 is not a face of vertices counted from 1: 'f 0 1 2'"),
    (OBJ + "f -9 1 2\n", "line 10 is not a face"), (OBJ + "f a b c\n", "line 10 is not a face"), ("f 1 2 3\n", "line 1|no vertices"),
    ("v 0 0 0\nv 1 0\n", "line 2 is not a vertex with 3 coordinates: 'v 1 0'"), ("v 0 nan 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "NaN"),
    ("hello\n", "no points"), (OBJ + "f 1 2 2\n", "total area"),
])
def test_obj_errors(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=message):
        read_shape(write(tmp_path, "a.obj", text))


def test_obj_without_faces_is_a_cloud(tmp_path: Path) -> None:
    assert read_shape(write(tmp_path, "a.obj", OBJ)).faces is None


@pytest.mark.parametrize("name", ["a.ply", "a.pcd", "b.ply", "c.ply", "m.obj", "m.off", "m.ply"])
def test_own_readers_agree_with_open3d(name: str, tmp_path: Path) -> None:
    try:
        import open3d
    except (ImportError, OSError) as error:
        pytest.skip(f"Open3D cannot be imported: {error}")
    contents: dict[str, bytes | str] = {
        "a.ply": ply("binary_little_endian", faces=None, extra=True), "b.ply": ply("ascii", faces=None),
        "c.ply": ply("binary_big_endian", faces=None), "m.ply": ply("binary_little_endian", faces=[[0, 1, 2, 3], [0, 1, 2]]),
        "m.obj": OBJ + "f 1 2 3\nf -4 -2 -1\n", "m.off": random_off(2),
    }
    path = tmp_path / name
    if name == "a.pcd":
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(np.tile(POINTS, (50, 1))))
        for ascii_, compressed in ((True, False), (False, False), (False, True)):
            open3d.io.write_point_cloud(str(path), cloud, write_ascii=ascii_, compressed=compressed)
            assert np.allclose(read_shape(path).points, np.tile(POINTS, (50, 1)), rtol=1e-6)
        return
    write(tmp_path, name, contents[name])
    shape = read_shape(path)
    if name.startswith("m"):
        mesh = open3d.io.read_triangle_mesh(str(path))
        assert np.allclose(shape.points, np.asarray(mesh.vertices)) and shape.faces is not None
        ours = {tuple(sorted(face)) for face in shape.faces.tolist()}
        assert name == "m.ply" or ours == {tuple(sorted(face)) for face in np.asarray(mesh.triangles).tolist()}
    else:
        assert np.allclose(shape.points, np.asarray(open3d.io.read_point_cloud(str(path)).points))


# ---- every kind


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_noise_is_refused_or_read_but_never_a_surprise(suffix: str, tmp_path: Path) -> None:
    samples = {".off": random_off(0).encode(), ".ply": ply("binary_little_endian", faces=[[0, 1, 2], [0, 1, 2, 3]], extra=True),
               ".pcd": pcd("binary_compressed"), ".obj": (OBJ + "f 1 2 3 4\n").encode()}
    start = samples.get(suffix, SQUARE.encode())
    rng = np.random.default_rng(0)
    for trial in range(150):
        content = bytearray(start if trial % 3 else rng.bytes(200))
        for position in rng.integers(len(content), size=rng.integers(1, 8)):
            content[position] = rng.integers(256)
        try:
            shape = read_shape(write(tmp_path, f"a{suffix}", bytes(content)))
        except Clip2xError as error:
            assert "\n" not in str(error)
        else:
            assert np.isfinite(shape.points).all()
