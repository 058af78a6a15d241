"""Make bad files of good ones: cut, flipped, repeated, with numbers that lie, with other structures and with names that lead elsewhere.

A change is a function of one whole number, so a list of numbers says which changes a file has, and Hypothesis can shrink that list.
"""

from __future__ import annotations

import copy
import io
import json
import random
import re
import struct
from argparse import Namespace
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import h5py
import numpy as np
import torch
import yaml
from hypothesis import strategies as st

LARGEST = 1 << 16  # bytes that a change adds at most
NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
WORDS = [b"0", b"1", b"-1", b"2", b"3", b"1e400", b"-1e400", b"nan", b"inf", b"-inf", b"99999999999999999999", b"1" * 5000, b"2147483647",
         b"2147483648",
         b"4294967295", b"9223372036854775807", b"-9223372036854775808", b"1e15", b"1e-320", b"0x10", "\u0661".encode(), b"1_000", b"+1", b"1.5",
         b".",
         b"-", b"", b" ", b"\0", b"\n", b"\xff", b"{}", b"[]", b"null", b"true", b"../../secret", b"/etc/passwd", b"..", b"a" * 300]
WHOLE = [0, 1, -1, 2, 3, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, -(2**63)]
BYTES = [0, 1, 9, 10, 13, 31, 32, 45, 46, 47, 48, 57, 92, 127, 128, 255]
DEEP = {"a": [[[[[[[[[[[[[[[[[[[[{}]]]]]]]]]]]]]]]]]]]]}
VALUES: list[Any] = [None, True, False, 0, 1, -1, 2, 0.5, -0.0, float("nan"), float("inf"), -float("inf"), 1e300, 2**31, 2**53, 2**63, 2**64,
                     10**400, "",
                     "a", "\0", "\ud800", "../../secret", "/etc/passwd", "..", ".", "a/../../../secret", "x" * 3000, [], [[]], {}, {"a": 1},
                     [None], [1, 2, 3],
                     ["a", "a"], [0.5] * 3, DEEP, "{}", "{0.__class__}", "\n", "é"]
KEYS = ["", "a", "\0", "\ud800", "__class__", "../../secret", "x" * 400, "clip2x", "version"]

changes = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4)
Change = Callable[[bytes, random.Random], bytes]


def mutate(content: bytes, kind: str, numbers: list[int]) -> bytes:
    """Change a file: the first number may change its structure, as far as its kind has one; the others change bytes and words."""
    first = random.Random(numbers[0])
    structured = STRUCTURED.get(kind)
    rest = numbers
    if structured is not None and first.random() < 0.6:
        content, rest = structured(content, first), numbers[1:]
    for number in rest:
        rng = random.Random(number)
        text = kind in TEXTUAL or (kind == "mixed" and rng.random() < 0.5)
        content = rng.choice(OF_TEXT if text and rng.random() < 0.6 else OF_BYTES)(content, rng)
    return content


def _place(content: bytes, rng: random.Random) -> int:
    """Choose a place: in the head of a file as often as anywhere."""
    return rng.randrange(min(len(content), 200) if rng.random() < 0.4 else len(content)) if content else 0


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _flip(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return content
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 8])):
        changed[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + bytes([rng.choice(BYTES)]) + content[place + 1 :]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    new = rng.choice([rng.randbytes(rng.randrange(1, 9)), bytes([rng.choice(BYTES)]) * rng.choice([1, 3, 1000]), rng.choice(WORDS)])
    return content[:place] + new + content[place:]


def _delete(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + rng.choice([1, 2, 4, 8, 100]) :]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    place, size = _place(content, rng), rng.choice([1, 4, 16, 64, 512])
    block = content[place : place + size]
    return content[:place] + block * min(rng.choice([2, 3, 500]), LARGEST // max(len(block), 1)) + content[place + size :]


def _swap(content: bytes, rng: random.Random) -> bytes:
    one, two = sorted((_place(content, rng), _place(content, rng)))
    size = min(rng.choice([1, 4, 16, 64]), two - one)
    return content[:one] + content[two : two + size] + content[one + size : two] + content[one : one + size] + content[two + size :]


def _binary_number(content: bytes, rng: random.Random) -> bytes:
    width, order = rng.choice([1, 2, 4, 8]), rng.choice(["little", "big"])
    number = (rng.choice(WHOLE) + rng.choice([0, 0, 0, 1, -1])) & ((1 << 8 * width) - 1)
    new = number.to_bytes(width, "little" if order == "little" else "big")
    if rng.random() < 0.2:
        new = struct.pack("<f", rng.choice([float("nan"), float("inf"), 1e38, -1e38, 1e-45]))
    place = _place(content, rng)
    return content[:place] + new + content[place + len(new) :]


def _zero(content: bytes, rng: random.Random) -> bytes:
    place, size = _place(content, rng), rng.choice([4, 16, 100, 4096])
    return content[:place] + bytes(min(size, len(content) - place)) + content[place + size :]


def _number(content: bytes, rng: random.Random) -> bytes:
    """Replace one number, those of the head as often as all others."""
    found = list(NUMBER.finditer(content[:LARGEST]))
    if not found:
        return _insert(content, rng)
    chosen = rng.choice(found[:12] if rng.random() < 0.5 else found)
    return content[: chosen.start()] + rng.choice(WORDS) + content[chosen.end() :]


def _word(content: bytes, rng: random.Random) -> bytes:
    found = list(re.finditer(rb"[^\s,:;\"'{}\[\]]+", content[:LARGEST]))
    if not found:
        return _insert(content, rng)
    chosen, other = rng.choice(found), rng.choice(found)
    return content[: chosen.start()] + rng.choice([other.group(), rng.choice(WORDS)]) + content[chosen.end() :]


def _line(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[place]
        case 1:
            lines[place : place + 1] = [lines[place]] * min(rng.choice([2, 200]), 1 + LARGEST // (len(lines[place]) + 1))
        case 2:
            lines[place], lines[other] = lines[other], lines[place]
        case _:
            lines.insert(place, rng.choice([b"", b"#", b" ", lines[other] + b" " + lines[place], *WORDS]))
    return b"\n".join(lines)


OF_BYTES: list[Change] = [_cut, _flip, _flip, _set, _insert, _delete, _repeat, _swap, _binary_number, _binary_number, _zero]
OF_TEXT: list[Change] = [_number, _number, _word, _line]
TEXTUAL = ("text", "json", "yaml")


def change_tree(value: Any, rng: random.Random) -> Any:
    """Replace, remove, rename or repeat something in nested lists and mappings, 1 to 3 times."""
    root = [copy.deepcopy(value)]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places: list[tuple[Any, Any]] = []
        _collect(root, places)
        holder, key = rng.choice(places)
        match rng.randrange(8):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(KEYS)] = holder.pop(key)
            case 2 if isinstance(holder, list) and holder is not root:
                del holder[key]
            case 3 if isinstance(holder, list) and holder is not root:
                holder += [holder[key]] * rng.choice([1, 1, 50])
            case 4:
                holder[key] = copy.deepcopy(rng.choice(places)[0] if holder is not root else rng.choice(VALUES))
            case _:
                holder[key] = copy.deepcopy(rng.choice(VALUES))
    return root[0]


def _collect(root: Any, places: list[tuple[Any, Any]]) -> None:
    waiting = [root]
    while waiting and len(places) < 3000:
        value = waiting.pop()
        items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
        places += [(value, key) for key, _ in items]
        waiting += [part for _, part in items]


def _json(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.02:
        return rng.choice([b"[" * 100_000, b'{"a":' * 50_000, content[:-1] + b"," + content[1:], b"9" * 10_000, b"[" + content + b"]"])
    return json.dumps(change_tree(_parsed(content), rng)).encode("utf-8", "surrogatepass")


@lru_cache(maxsize=64)
def _parsed(content: bytes) -> Any:
    return json.loads(content)


YAML_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join('*' + chr(97 + n) for _ in range(9))}]\n" for n in range(9))
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(f"a{n + 1}: &a{n + 1} {{<<: [{', '.join([f'*a{n}'] * 9)}]}}\n" for n in range(9))
YAML_TEXTS = [YAML_BOMB, MERGE_BOMB, "&a [*a]", "&a {a: *a}", "[" * 20_000, "2001-99-99", "!!python/object/apply:os.system ['touch canary']",
                                                                "? [a]\n: b", "!!binary '*'",
              "!!timestamp x", "!!int x", "!!float '.'", "- 1:99:99", "0o9", "1" * 5000, '"\\ud800"', "!!set {a}", "!!omap [a: 1]", "---\n---\n",
              "%YAML 9.9\n--- a", "\t"]


def _yaml(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.35:
        new = rng.choice(YAML_TEXTS)
        found = list(re.finditer(rb": ", content))
        if rng.random() < 0.3 or "\n" in new or not found:
            return new.encode() + (b"\n" + content if rng.random() < 0.8 else b"")
        place = rng.choice(found).end()
        return content[:place] + new.encode() + b" #" + content[place:]
    tree = change_tree(_parsed_yaml(content), rng)
    return yaml.safe_dump(json.loads(json.dumps(tree)), allow_unicode=False).encode("utf-8", "surrogatepass")


@lru_cache(maxsize=8)
def _parsed_yaml(content: bytes) -> Any:
    return yaml.safe_load(content)


def _safetensors(content: bytes, rng: random.Random) -> bytes:
    """Change the header, its texts as JSON where they are, and state its length so that it is read."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    texts = header.get("__metadata__", {})
    nested = [key for key, text in texts.items() if text[:1] in "{["]
    if nested and rng.random() < 0.7:
        key = rng.choice(nested)
        texts[key] = json.dumps(change_tree(json.loads(texts[key]), rng))
        if rng.random() < 0.8:
            texts.pop("content_sha256", None)  # as a file of an earlier version, or of someone who knows
    else:
        header = change_tree(header, rng)
    new = json.dumps(header).encode("utf-8", "surrogatepass")
    return len(new).to_bytes(8, "little") + new + content[8 + length :]


def _torch(content: bytes, rng: random.Random) -> bytes:
    with torch.serialization.safe_globals([Namespace]):
        tree = change_tree(torch.load(io.BytesIO(content), weights_only=True), rng)
    stream = io.BytesIO()
    if rng.random() < 0.3 and isinstance(tree, dict):
        odd = [torch.zeros(1).expand(1 << 40), torch.zeros(2, dtype=torch.complex64), torch.zeros(2, 2).to_sparse(), torch.zeros(0),
               torch.tensor(1.0),
               torch.zeros(2, device="meta"), torch.zeros(3, dtype=torch.int8), torch.full((2,), torch.nan), torch.zeros(1, dtype=torch.bool)]
        tree[rng.choice([*map(str, tree), "more"])] = rng.choice(odd)
    torch.save(tree, stream)
    return stream.getvalue()


def _hdf5(content: bytes, rng: random.Random) -> bytes:
    """Replace one array, or what is written beside the arrays, by something else of the same name."""
    with h5py.File(io.BytesIO(content), "r") as source:
        arrays = {name: source[name][()] for name in source}
        told = dict(source.attrs)
    name = rng.choice(sorted(arrays))
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for key, value in told.items():
            file.attrs[key] = rng.choice([value, value, value, 2, "x", np.zeros(3)])
        for key, values in arrays.items():
            if key != name:
                file[key] = values
        _odd_array(file, name, arrays[name], rng)
    return stream.getvalue()


def _odd_array(file: h5py.File, name: str, values: Any, rng: random.Random) -> None:
    values = np.asarray(values)
    numbers = values if values.dtype.kind in "iuf" else np.zeros(values.shape)
    match rng.randrange(16):
        case 0:
            return
        case 1:
            file.create_group(name)
        case 2:
            file[name] = numbers.astype(rng.choice(["f8", "i8", "u1", "f2", "i2"]))
        case 3:
            file[name] = values[:-1]
        case 4:
            file[name] = values[..., None] if rng.random() < 0.5 else values.reshape(-1)
        case 5:
            file[name] = h5py.ExternalLink("../secret/outside.h5", name)
        case 6:
            file[name] = h5py.SoftLink(rng.choice(["/nowhere", f"/{name}", "/data"]))
        case 7:
            file.create_dataset(name, numbers.shape or (1,), "f4", external=[("../secret/raw.bin", 0, h5py.h5f.UNLIMITED)])
        case 8:
            file.create_dataset(name, (2**rng.choice([20, 34, 40]), *numbers.shape[1:]), rng.choice(["f4", "i4"]), chunks=True)
        case 9:
            layout = h5py.VirtualLayout(numbers.shape or (1,), "f4")
            file.create_virtual_dataset(name, layout)
        case 10:
            file.create_dataset(name, data=np.array(["a", "b"], dtype=object), dtype=h5py.string_dtype())
        case 11:
            file.create_dataset(name, dtype=h5py.Empty("f4").dtype, data=h5py.Empty("f4"))
        case 12:
            file[name] = np.zeros((0, *values.shape[1:]), values.dtype)
        case 13:
            file[name] = 3.0
        case 14:
            changed = numbers.astype("i8" if numbers.dtype.kind in "iu" else numbers.dtype)
            if changed.size:
                changed.reshape(-1)[rng.randrange(changed.size)] = rng.choice([-1, 127, 0, 100]) if changed.dtype.kind in "iu" else rng.choice(
                    [float("nan"), float("inf"), 1e38, -1.0])
            file[name] = changed.astype(numbers.dtype)
        case _:
            file.create_dataset(name, data=values, **({"compression": "gzip"} if values.ndim else {}))


STRUCTURED: dict[str, Change] = {"json": _json, "yaml": _yaml, "safetensors": _safetensors, "torch": _torch, "hdf5": _hdf5}
KINDS = {".json": "json", ".yaml": "yaml", ".safetensors": "safetensors", ".pt": "torch", ".ckpt": "torch", ".h5": "hdf5"}


def kind_of(name: str, content: bytes) -> str:
    """Say how a file is changed: by its ending; text where most of it is, and a mixture where it only begins so."""
    suffix = name[name.rfind(".") :]
    if suffix in KINDS:
        return KINDS[suffix]
    printable = sum(letter in b"\t\r\n" or 32 <= letter < 127 for letter in content[:2000])
    return "text" if printable == len(content[:2000]) else "mixed" if content[:3].isalpha() or content[:1] == b"#" else "bytes"
