"""The lines of OBJ files: in bulk against line by line and word by word, dialects, lines that are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import clip2x.data.formats.obj
from clip2x.data.formats.obj import NO_UV, ObjLines, parse_obj
from clip2x.errors import BadFileError

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


def random_obj(seed: int) -> str:
    """Faces of all forms with positive and negative indices, three to six corners, among vertices, comments and other lines."""
    rng = np.random.default_rng(seed)
    lines, vertices, uvs = ["# a file", "mtllib a.mtl"], 0, 0
    for _ in range(60):
        kind = rng.integers(5)
        if kind == 0 or vertices < 3:
            lines += ["v " + " ".join(f"{x:.{rng.integers(1, 7)}f}" for x in rng.normal(size=3) * 10.0 ** rng.integers(-2, 4)) for _ in range(4)]
            vertices += 4
        elif kind == 1:
            lines += [f"vt {a:.4f} {b:.3f}" for a, b in rng.random((3, 2))]
            uvs += 3
        elif kind == 2:
            lines += [("usemtl m1", "vn 0 0 1", "l 1 2 3", "", "g x y")[rng.integers(5)]]
        else:
            form = rng.integers(4) if uvs else rng.choice([0, 2])
            words = []
            for _ in range(rng.integers(1, 7)):
                v, t = int(rng.integers(1, vertices + 1)), int(rng.integers(1, uvs + 1)) if uvs else 0
                v, t = (v, t) if rng.random() < 0.7 else (v - vertices - 1, t - uvs - 1)
                words.append((f"{v}", f"{v}/{t}", f"{v}//1", f"{v}/{t}/1")[form])
            lines.append("f " + " ".join(words))
    return "\n".join(lines) + ("\n" if seed % 2 else "")


def slow_faces(text: str) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Parse the faces word by word."""
    corners: list[tuple[int, ...]] = []
    textured: list[tuple[int, ...]] = []
    vertices = uvs = 0
    for line in text.splitlines():
        words = line.split()
        vertices += words[:1] == ["v"]
        uvs += words[:1] == ["vt"]
        if words[:1] != ["f"]:
            continue
        pairs = []
        for word in words[1:]:
            parts = word.split("/")
            v, t = int(parts[0]), int(parts[1] or 0) if len(parts) > 1 else 0
            pairs.append((v - 1 if v > 0 else vertices + v, NO_UV if t == 0 else t - 1 if t > 0 else uvs + t))
        for k in range(1, len(pairs) - 1):
            corners.append((pairs[0][0], pairs[k][0], pairs[k + 1][0]))
            textured.append((pairs[0][1], pairs[k][1], pairs[k + 1][1]))
    return corners, textured


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_bulk_line_by_line_and_word_by_word_agree(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [random_obj(seed) for seed in range(20)]
    bulk = [ObjLines(text.replace("\n", ends).encode(), Path("a.obj")) for text in texts]
    found = [(lines.vertices(), lines.texture_coordinates(), lines.corners()) for lines in bulk]
    monkeypatch.setattr(clip2x.data.formats.obj, "_numbers_in_bulk", lambda *_: None)
    monkeypatch.setattr(clip2x.data.formats.obj, "_corners_in_bulk", lambda *_: None)
    for text, lines, (vertices, uv, corners) in zip(texts, bulk, found, strict=True):
        slow = lines.corners()
        assert np.array_equal(vertices, lines.vertices()) and np.array_equal(uv, lines.texture_coordinates())
        assert corners is not None and slow is not None
        assert all(np.array_equal(a, b) for a, b in ((corners.vertex, slow.vertex), (corners.uv, slow.uv), (corners.line, slow.line)))
        expected, textured = slow_faces(text)
        assert list(map(tuple, corners.vertex.tolist())) == expected and list(map(tuple, corners.uv.tolist())) == textured
        assert all(text.splitlines()[line].startswith("f ") for line in corners.line)


def test_changed_files_give_the_same_in_bulk_as_line_by_line_or_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    alphabet = b"0123456789-./ \nfvt#ex+\\\x00"

    def outcome(content: bytes) -> object:
        try:
            vertices, faces = parse_obj(content, Path("a.obj"))
        except BadFileError as error:
            return str(error)
        return vertices.tobytes(), None if faces is None else faces.tobytes()

    contents = []
    for seed in range(300):
        content = bytearray(random_obj(seed % 20).encode())
        for place in rng.integers(len(content), size=rng.integers(1, 4)):
            content[place] = alphabet[rng.integers(len(alphabet))]
        contents.append(bytes(content))
    bulk = [outcome(content) for content in contents]
    monkeypatch.setattr(clip2x.data.formats.obj, "_numbers_in_bulk", lambda *_: None)
    monkeypatch.setattr(clip2x.data.formats.obj, "_corners_in_bulk", lambda *_: None)
    assert bulk == [outcome(content) for content in contents]
    assert {type(item) for item in bulk} == {str, tuple}


@pytest.mark.parametrize("number", ["0.1", "-0.3", "1e-3", "+2.5", "123456789.123456", "1234567890.1234567890", ".5", "5.", "-.25", "1E5", "007"])
def test_numbers_are_those_that_python_reads(number: str) -> None:
    vertices, _ = parse_obj(f"v {number} 0.70 -{number.lstrip('+-')}\n".encode(), Path("a.obj"))
    assert vertices.tolist() == [[float(number), 0.7, -float(number.lstrip("+-"))]]


@pytest.mark.parametrize("line", ["v 1 2", "v 1 2 x", "v 1 2 v3", "v 1 2-3", "v 1 2 .", "v 1 2 -", "v 1 2 1.2.3", "v ", "v # 1 2 3"])
def test_lines_that_are_no_vertex_are_named(line: str) -> None:
    with pytest.raises(BadFileError, match=r"^a.obj: line 5 is not a vertex with 3 coordinates"):
        parse_obj(f"{SQUARE}{line}\nf 1 2 3\n".encode(), Path("a.obj"))


@pytest.mark.parametrize("line", ["f 0 1 2", "f 1/1 2-1 3", "f 1 2 x", "f 1/x 2/1 3/1", "f -5 1 2", "f", "f 1 2 99999999999999999999", "f 1 2 3f",
                                  "f 1.0 2 3", "f /1 /2 /3", "f - 1 2"])
def test_lines_that_are_no_face_are_named(line: str) -> None:
    content = f"{SQUARE}{line} \nf 1 2 3\n".encode()
    with pytest.raises(BadFileError, match=r"^a.obj: line 5 is not a face of vertices counted from 1"):
        parse_obj(content, Path("a.obj"))


def test_a_byte_order_mark_indents_and_continued_lines_are_understood() -> None:
    text = "\ufeffv 0 0 0\n  v 1 0 0\n\tv 1 1 \\\n 0\nv 0 1 0 # the last\n f 1 2 \\\n3 4"
    vertices, faces = parse_obj(text.encode(), Path("a.obj"))
    assert vertices.shape == (4, 3) and faces is not None and faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert parse_obj(SQUARE.replace("\n", "\r").encode() + b"f 1 2 3", Path("a.obj"))[1] is not None
