"""Lists of texts in MATLAB files: what MATLAB writes, what SciPy writes, what is damaged."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from pathlib import Path

import pytest

from clip2x.data.formats.matlab import read_texts
from clip2x.errors import BadFileError

# scipy 1.17.1: savemat({"alltrain": a 1 x 2 cell array of the texts below, "n": three numbers}, do_compression=True)
BY_SCIPY = base64.b64decode(
    "TUFUTEFCIDUuMCBNQVQtZmlsZSBQbGF0Zm9ybTogcG9zaXgsIENyZWF0ZWQgb246IFNhdCBOb3YgMjEgMDQ6NDI6MTkgMjAyNgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAABSU0PAAAAcAAAAHic42NgYLgBxGxAzAHEjAwQwIrEZ4LSIH5iTk5JUWJmHh+QnYCkjwWLPh0k8wSgfP08/bRi/eLSPOMU/ZTEkkT94FC/IHcnF/3s"
    "MkN9v8hQsBiQNjAwMATpA9ljQcAeFjR7QHLpRYf35AFpAMN0FmMPAAAALAAAAHic42NgYPAAYjYg5oDSIMAK5TMCMTOYZmTIA9KcQCzBgA4+2EMZDgBCKQJ8")


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    if len(data) <= 4:
        return struct.pack(f"{order}I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def array(array_class: int, name: str, columns: int, content: bytes, order: str = "<") -> bytes:
    head = (element(6, struct.pack(f"{order}II", array_class, 0), order) + element(5, struct.pack(f"{order}ii", 1, columns), order)
            + element(1, name.encode(), order))
    return element(14, head + content, order)


def matlab_file(variables: dict[str, list[str]], *, order: str = "<", compressed: bool = True) -> bytes:
    """Write cell arrays of texts as MATLAB does: 16-bit characters, each variable compressed."""
    file = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")
    encoding = "utf-16-le" if order == "<" else "utf-16-be"
    for name, texts in variables.items():
        cells = b"".join(array(4, "", len(text), element(4, text.encode(encoding), order), order) for text in texts)
        packed = array(1, name, len(texts), cells, order)
        if compressed:
            content = zlib.compress(packed)
            packed = struct.pack(f"{order}II", 15, len(content)) + content
        file += packed
    return file


TEXTS = ["/n/fs/sun3d/data/SUNRGBD/kv1/NYUdata/NYU0001", "grün", "x", ""]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [True, False])
def test_texts_come_back(order: str, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "lists.mat"
    path.write_bytes(matlab_file({"alltest": ["other"], "alltrain": TEXTS}, order=order, compressed=compressed))
    assert read_texts(path, "alltrain") == TEXTS and read_texts(path, "alltest") == ["other"]


def test_files_by_scipy_are_read(tmp_path: Path) -> None:
    path = tmp_path / "lists.mat"
    path.write_bytes(BY_SCIPY)
    assert read_texts(path, "alltrain") == TEXTS[:2]
    with pytest.raises(BadFileError, match=r"lists.mat: not a MATLAB file with the cell array 'n' .it holds no such variable, found 'alltrain', 'n'"):
        read_texts(path, "n")


def test_what_is_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "lists.mat"
    whole = matlab_file({"alltrain": TEXTS}, compressed=False)
    newer = whole[:124] + struct.pack("<H", 0x0200) + whole[126:]
    for content, message in ((b"", "its header is not that of a MATLAB 5 file; in MATLAB save with -v7"), (newer, "save with -v7"),
                             (whole[:300], "it is cut off at byte 0"), (whole[:128], "it holds no such variable, found none"),
                             (matlab_file({"alltrain": TEXTS})[:170], "it is cut off")):
        path.write_bytes(content)
        with pytest.raises(BadFileError, match=message) as caught:
            read_texts(path, "alltrain")
        assert "\n" not in str(caught.value)
    with pytest.raises(BadFileError, match="No such file"):
        read_texts(tmp_path / "nothing.mat", "alltrain")


def test_changed_bytes_give_texts_or_our_error(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "lists.mat"
    for file in (matlab_file({"alltrain": TEXTS}), matlab_file({"alltrain": TEXTS}, compressed=False), BY_SCIPY):
        for _ in range(300):
            changed = bytearray(file)
            for _ in range(rng.choice((1, 4, 16))):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            path.write_bytes(changed[: rng.randrange(len(changed)) if rng.random() < 0.3 else None])
            try:
                assert all(isinstance(text, str) for text in read_texts(path, "alltrain"))
            except BadFileError:
                continue
