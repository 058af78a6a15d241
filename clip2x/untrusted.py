"""What files of unknown origin may hold: plain values of bounded size, and names that stay below a folder.

Everything here raises `ValueError` with a few words; readers put the name of the file in front of them.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable
from pathlib import PurePath, PurePosixPath
from typing import Any

import numpy as np
import yaml

LARGEST_YAML = 200_000  # nodes, those behind aliases counted each time; ours: the list of LVIS has 4,000
LONGEST_PATH = 255  # letters, of a path in a file; ours: those of the five data sets have up to 170
DEEPEST = 64  # lists and mappings within each other; ours: the deepest file of ours has 8

MOST_METADATA = 2_000_000  # values, shared ones counted each time; ours: names and frames of the five data sets are below 100,000
PLAIN = (str, int, float, bool, type(None), list, tuple, dict)
SCALARS = (np.number, np.bool_, np.str_, np.bytes_, PurePath)  # attributes of HDF5 files, and what names files


class _Short(reprlib.Repr):
    """Of what is no plain value only the name of its type: its own `repr` may unfold without end."""

    def repr1(self, x: Any, level: int) -> str:
        """Write a value, `level` deep at most."""
        return super().repr1(x, level) if type(x) in (*PLAIN, bytes, set, frozenset) or isinstance(x, SCALARS) else f"<{type(x).__name__}>"


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 80, 80, 60


def json_value(content: bytes | str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: If it is none, is nested deeper than Python can follow, or holds a number of too many digits.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("lists within lists without end") from None


def yaml_value(text: str) -> Any:
    """Parse YAML into plain values; tags that would make other objects are refused.

    Raises:
        ValueError: If it is none, or its aliases unfold to more than `LARGEST_YAML` nodes.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _require_small(node)
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError("lists within lists without end") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:160]) from None
    except (TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:  # of values that PyYAML takes for times and numbers
        raise ValueError(f"a value that cannot be understood ({type(error).__name__})") from None


def excerpt(value: object, width: int = 80) -> str:
    """Write the beginning of any parsed value on one line, however large or deep it is."""
    return " ".join(_SHORT.repr(value).split())[:width]


def bare(value: object) -> str:
    """Write a value as `excerpt` does, a text without quotes around it."""
    return excerpt(value).strip("'") if isinstance(value, str) else excerpt(value)


def require_plain(value: object) -> None:
    """Refuse what is more than plain values, or unfolds to more than `MOST_METADATA` of them where parts are shared.

    Raises:
        ValueError: If it is.
    """
    sizes: dict[int, int] = {}

    def size(part: object, depth: int) -> int:
        if type(part) not in PLAIN:
            raise ValueError(f"a value of the type {type(part).__name__}")
        if not isinstance(part, list | tuple | dict):
            return 1
        if depth > DEEPEST:
            raise ValueError(f"lists within lists, more than {DEEPEST} deep")
        if id(part) not in sizes:
            inside = [side for pair in part.items() for side in pair] if isinstance(part, dict) else part
            sizes[id(part)] = 1 + sum(size(item, depth + 1) for item in inside)
        if sizes[id(part)] > MOST_METADATA:
            raise ValueError(f"lists that unfold to more than {MOST_METADATA:,} values")
        return sizes[id(part)]

    size(value, 0)


def fits_a_path(text: str) -> bool:
    """Tell whether a text can be a path in a file: all letters can be printed, at most `LONGEST_PATH` of them, and it is not absolute."""
    return text.isprintable() and len(text) <= LONGEST_PATH and not text.startswith("/")


def require_below(name: str, *, up: int = 0) -> str:
    """Give a path back that is to be joined to a folder, if it stays below that folder, or below one `up` levels above it.

    Raises:
        ValueError: If it is empty or absolute, leads further up, has a letter that cannot be printed, or more than `LONGEST_PATH` letters.
    """
    depth = up
    for part in PurePosixPath(name).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            break
    if not name or depth < 0 or not fits_a_path(name):
        raise ValueError(f"{excerpt(name)} is no path below its folder")
    return name


def require_file_name(name: object) -> str:
    """Give the bare name of a file back.

    Raises:
        ValueError: If it is no text, leads to another folder, has a letter that cannot be printed, or more than `LONGEST_PATH` letters.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or not fits_a_path(name):
        raise ValueError(f"{excerpt(name)} is no name of a file in its folder")
    return name


def require_text(value: str) -> str:
    """Give a text back that can be written as UTF-8, which halves of surrogate pairs (by escapes of JSON and YAML) cannot.

    Raises:
        ValueError: If it cannot.
    """
    if not value.isascii():
        value.encode()
    return value


def guarded(read: Callable[[], Any]) -> Any:
    """Call a function that takes a parsed file apart; whatever it meets where another form was expected becomes a `ValueError`."""
    try:
        return read()
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())[:100]}") from error


def _require_small(node: yaml.Node) -> None:
    """Count nodes as aliases unfold them, without unfolding them."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(part: yaml.Node, depth: int) -> int:
        key = id(part)
        if key in open_nodes:
            raise ValueError("an alias that holds itself")
        if depth > DEEPEST:
            raise ValueError(f"lists within lists, more than {DEEPEST} deep")
        if key not in sizes:
            open_nodes.add(key)
            inside = part.value if isinstance(part, yaml.SequenceNode) else ()
            if isinstance(part, yaml.MappingNode):
                inside = [side for pair in part.value for side in pair]
            sizes[key] = 1 + sum(size(item, depth + 1) for item in inside)
            open_nodes.discard(key)
        if sizes[key] > LARGEST_YAML:
            raise ValueError(f"aliases that unfold to more than {LARGEST_YAML:,} values")
        return sizes[key]

    size(node, 0)
