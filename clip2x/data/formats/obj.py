"""Read Wavefront OBJ files: vertices, texture coordinates, faces and the names of materials. `textured_obj.py` reads the materials.

Numbers are converted in bulk by NumPy where every line has a plain form, else line by line, which is slower, understands all that Python does
and names the line that is wrong. Both give the same bits.

Open3D is not used for this: it leaves out faces with more than three corners, and answers an index out of range and a file of bare vertices
with an empty mesh and no reason (0.20.0, tried).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import BadFileError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CONTINUED = re.compile(rb"\\[ \t]*\r?\n")
INDENT = re.compile(rb"^[ \t]+", re.MULTILINE)
COMMENT = re.compile(rb"#[^\n]*")
KEYWORDS = (b"v", b"vt", b"f", b"usemtl", b"mtllib")
PLAIN_DIGITS = 15  # a whole number of so many digits and a power of ten below 1e23 are exact in float64, so their quotient is the nearest one
LARGEST_INDEX = 2**62
NO_UV = -1

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Corners:
    """The faces of a file, cut into triangles.

    vertex: (F, 3) int64 counted from 0. uv: (F, 3) int64 likewise, `NO_UV` for a corner without. line: (F,) int64, where each was read.
    Indices are not checked against the numbers of vertices and texture coordinates.
    """

    vertex: Index
    uv: Index
    line: Index


class ObjLines:
    """The lines of an OBJ file by their keyword; lines with other keywords are left out."""

    def __init__(self, content: bytes, path: Path) -> None:
        """Find the lines.

        Args:
            content: The whole file.
            path: For messages only.
        """
        self.path = path
        text = content.removeprefix(BYTE_ORDER_MARK)
        text = CONTINUED.sub(b" ", text) if b"\\" in text else text
        if b"\n" not in text:
            text = text.replace(b"\r", b"\n")
        text += b"\n\n\n\n"  # the keyword of the last line may be looked for behind its end
        self._find_lines(text)
        if np.isin(self._letters[self._starts], (9, 32)).any():
            self._find_lines(INDENT.sub(b"", text))

    def where(self, keyword: bytes) -> Index:
        """Give the numbers of a keyword's lines, counted from 0."""
        return np.flatnonzero(self._kinds == KEYWORDS.index(keyword))

    def block(self, keyword: bytes) -> bytes:
        """Give a keyword's lines, each with its line end."""
        chosen = np.concatenate([[False], self._kinds == KEYWORDS.index(keyword), [False]])
        edges = np.flatnonzero(chosen[1:] != chosen[:-1])
        ends = np.append(self._starts, len(self._text))
        firsts, lasts = ends[edges[::2]].tolist(), ends[edges[1::2]].tolist()
        return b"".join([self._text[first:last] for first, last in zip(firsts, lasts, strict=True)])

    def names(self, keyword: bytes) -> list[str]:
        """Give what stands behind a keyword, line by line; bytes that are no UTF-8 are kept as surrogates, as in file names."""
        return [line[len(keyword):].strip().decode("utf-8", "surrogateescape") for line in self.block(keyword).split(b"\n")[:-1]]

    def vertices(self) -> NDArray[np.float64]:
        """Read the vertices, (V, 3) float64.

        Raises:
            BadFileError: If a line does not have three numbers; names it.
        """
        return self._table(b"v", columns=3, least=3, what="a vertex with 3 coordinates")

    def texture_coordinates(self) -> NDArray[np.float64]:
        """Read the texture coordinates, (T, 2) float64; the second may be left out and is 0 then.

        Raises:
            BadFileError: If a line does not have them; names it.
        """
        return self._table(b"vt", columns=2, least=1, what="a texture coordinate of 1 to 3 numbers")

    def corners(self) -> Corners | None:
        """Read the faces, polygons as fans; faces with fewer than three corners have no area and are left out. None if no face is there.

        Raises:
            BadFileError: If a line is not a face, or an index is 0; names it.
        """
        lines = self.where(b"f")
        if not len(lines):
            return None
        block = COMMENT.sub(b"", self.block(b"f"))
        seen = np.searchsorted(self.where(b"v"), lines)
        found = _corners_in_bulk(block)
        if found is not None:
            found = None if _out_of_range(found[0], np.repeat(seen, found[2])).any() else found
        per_corner = self._corners_by_line(block, lines, seen) if found is None else found
        vertex, uv, counts = per_corner
        vertex = np.where(vertex > 0, vertex - 1, vertex + np.repeat(seen, counts))
        if (uv < 0).any():
            from_start = uv + np.repeat(np.searchsorted(self.where(b"vt"), lines), counts) + 1
            uv = np.where(uv < 0, np.where(from_start > 0, from_start, LARGEST_INDEX), uv)
        triangle, owner = _fans(counts)
        return Corners(vertex[triangle], uv[triangle] - 1, lines[owner])

    def _find_lines(self, text: bytes) -> None:
        self._text = text
        letters = self._letters = np.frombuffer(text, dtype=np.uint8)
        self._starts = np.concatenate([[0], np.flatnonzero(letters == 10)[:-3] + 1])
        self._kinds = np.full(len(self._starts), -1, dtype=np.int8)
        first, second, third = (letters[self._starts + place] for place in range(3))
        self._kinds[(first == ord("v")) & _is_blank(second)] = 0
        self._kinds[(first == ord("v")) & (second == ord("t")) & _is_blank(third)] = 1
        self._kinds[(first == ord("f")) & _is_blank(second)] = 2
        for line in np.flatnonzero(((first == ord("u")) & (second == ord("s"))) | ((first == ord("m")) & (second == ord("t")))).tolist():
            keyword = text[self._starts[line] : self._starts[line] + 7].rstrip()
            self._kinds[line] = KEYWORDS.index(keyword) if keyword in KEYWORDS else -1

    def _table(self, keyword: bytes, *, columns: int, least: int, what: str) -> NDArray[np.float64]:
        block = COMMENT.sub(b"", self.block(keyword))
        table = _numbers_in_bulk(block, keyword, columns)
        if table is not None:
            return table
        rows = []
        for number, line in zip(self.where(keyword).tolist(), block.split(b"\n"), strict=False):
            try:
                values = [float(word) for word in line.split()[1 : columns + 1]]
            except ValueError:
                values = []
            if len(values) < least:
                raise BadFileError(f"{self.path}: line {number + 1} is not {what}: {_excerpt(line)}.")
            rows.append((values + [0.0])[:columns])
        return np.array(rows, dtype=np.float64).reshape(-1, columns)

    def _corners_by_line(self, block: bytes, lines: Index, seen: Index) -> tuple[Index, Index, Index]:
        vertex, uv, counts = [], [], []
        for number, before, line in zip(lines.tolist(), seen.tolist(), block.split(b"\n"), strict=False):
            words = [word.split(b"/") for word in line.split()[1:]]
            try:
                corners = [int(word[0]) for word in words]
                textured = [int(word[1]) if len(word) > 1 and word[1] else 0 for word in words]
            except ValueError:
                corners, textured = [0], [0]
            if not corners or _out_of_range(np.array(corners, dtype=object), before).any():
                raise BadFileError(f"{self.path}: line {number + 1} is not a face of vertices counted from 1: {_excerpt(line)}.")
            vertex += corners
            uv += [index if abs(index) < LARGEST_INDEX else LARGEST_INDEX for index in textured]
            counts.append(len(corners))
        return np.array(vertex, dtype=np.int64), np.array(uv, dtype=np.int64), np.array(counts, dtype=np.int64)


def parse_obj(content: bytes, path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """Parse the vertices and faces of an OBJ file; lines, curves, texture coordinates and everything else are left out.

    Args:
        content: The whole file.
        path: For messages only.

    Returns:
        Vertices (V, 3) float64, and faces (F, 3) int64 counted from 0 (polygons cut into fans; faces with fewer than three corners have no
        area and are left out), None where the file has no `f` line. Indices are not checked against V.

    Raises:
        BadFileError: If a vertex or a face line cannot be understood, or an index is 0; names the line.
    """
    lines = ObjLines(content, path)
    vertices, corners = lines.vertices(), lines.corners()
    return vertices, None if corners is None else corners.vertex


def _numbers_in_bulk(block: bytes, keyword: bytes, columns: int) -> NDArray[np.float64] | None:
    """Read the first numbers of every line; None if a line has fewer, or a number has an exponent, many digits or another form."""
    if block.translate(None, b"0123456789.- \t\r\n" + keyword):
        return None
    text = _without_keyword(block, keyword)
    tokens = None if text is None else _Tokens(text)
    if text is None or tokens is None or (tokens.per_line < columns).any():
        return None
    dots = np.flatnonzero(tokens.letters == ord("."))
    owner = tokens.owner(dots)
    if (np.diff(owner) == 0).any() or not tokens.are_numbers(owner):
        return None
    mantissa = np.fromstring(text.replace(b".", b""), dtype=np.int64, sep=" ")
    decimals = np.zeros(len(mantissa), dtype=np.int64)
    decimals[owner] = tokens.ends[owner] - dots - 1
    values = mantissa / 10.0**decimals
    values[(mantissa == 0) & (tokens.letters[tokens.starts] == ord("-"))] = -0.0
    if bool((tokens.per_line == columns).all()):
        return values.reshape(-1, columns)
    table: NDArray[np.float64] = values[(np.cumsum(tokens.per_line) - tokens.per_line)[:, None] + np.arange(columns)]
    return table


def _corners_in_bulk(block: bytes) -> tuple[Index, Index, Index] | None:
    """Read the corners of faces as `_corners_by_line` does; None if one is not of the form v, v/vt, v//vn or v/vt/vn."""
    if block.translate(None, b"0123456789/- \t\r\nf"):
        return None
    text = _without_keyword(block, b"f")
    if text is None:
        return None
    words = _Tokens(text)
    slashes = np.flatnonzero(words.letters == ord("/"))
    widths = 1 + np.bincount(words.owner(slashes), minlength=len(words.starts)) if len(slashes) else np.ones(len(words.starts), dtype=np.int64)
    plain = b"-" not in text
    text = text.replace(b"//", b"/0/").replace(b"/", b" ")
    if not len(words.starts) or (words.per_line == 0).any() or not (plain or _Tokens(text).are_numbers()):
        return None
    numbers = np.fromstring(text, dtype=np.int64, sep=" ")
    # A word never has more numbers than slashes and one; equal sums therefore mean that none has fewer.
    if len(numbers) != int(widths.sum()):
        return None
    first = np.cumsum(widths) - widths
    uv = np.where(widths > 1, numbers[np.minimum(first + 1, len(numbers) - 1)], 0)
    return numbers[first], uv, words.per_line


class _Tokens:
    """Where the words of a text lie that begins with a blank and ends with a line end."""

    def __init__(self, text: bytes) -> None:
        self.letters = np.frombuffer(text, dtype=np.uint8)
        blank = self.letters <= 32
        edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
        self.starts, self.ends = edges[::2], edges[1::2]
        self.per_line: Index = np.diff(np.searchsorted(self.starts, np.flatnonzero(self.letters == 10)), prepend=0)

    def owner(self, places: Index) -> Index:
        """Say in which word each place lies."""
        return np.searchsorted(self.starts, places, side="right") - 1

    def are_numbers(self, with_dot: Index | None = None) -> bool:
        """Check that words of digits, minus signs and at most one dot are numbers of few digits; `with_dot` lists those with a dot."""
        minus = np.flatnonzero(self.letters == ord("-"))
        digits = self.ends - self.starts
        if len(minus):
            owner = self.owner(minus)
            if (self.starts[owner] != minus).any():
                return False
            digits[owner] -= 1
        if with_dot is not None:
            digits[with_dot] -= 1
        return not len(digits) or bool(digits.min() >= 1 and digits.max() <= PLAIN_DIGITS)


def _without_keyword(block: bytes, keyword: bytes) -> bytes | None:
    """Replace the keyword of every line by blanks; None if its letters occur elsewhere."""
    count = block.count(b"\n")
    if any(block.count(keyword[place : place + 1]) != count for place in range(len(keyword))):
        return None
    return block.translate(bytes.maketrans(keyword, b" " * len(keyword)))


def _out_of_range(vertex: NDArray[np.int64] | NDArray[np.object_], seen: Index | int) -> NDArray[np.bool_]:
    """Find corners that name no vertex; negative ones count back from the last of the `seen` vertices."""
    return np.asarray((vertex == 0) | (vertex < -seen) | (vertex >= LARGEST_INDEX), dtype=bool)


def _fans(counts: Index) -> tuple[Index, Index]:
    """Cut polygons into fans: positions (F, 3) among all corners and the face (F,) that each triangle comes from."""
    first = np.cumsum(counts) - counts
    triangles = np.maximum(counts - 2, 0)
    owner = np.repeat(np.arange(len(counts)), triangles)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    start = first[owner]
    return np.stack([start, start + step + 1, start + step + 2], axis=1), owner


def _is_blank(letters: NDArray[np.uint8]) -> NDArray[np.bool_]:
    blank: NDArray[np.bool_] = (letters == 32) | (letters == 9)
    return blank


def _excerpt(line: bytes) -> str:
    return repr(line.decode("ascii", "replace").strip()[:60])
