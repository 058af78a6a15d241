"""Which keys of the tables of nuScenes are kept, how their values are checked, and the parsing of one table.

Imports nothing heavy: large tables are parsed in processes of their own. Schema: nuscenes-devkit, docs/schema_nuscenes.md.
"""

from __future__ import annotations

import gc
import hashlib
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.data.formats.json_records import read_records
from clip2x.errors import BadFileError
from clip2x.untrusted import bare, fits_a_path

Columns = dict[str, NDArray[Any]]

OWN_PROCESS_FROM_BYTES = 64 << 20  # ours: starting a process takes about as long as parsing 10 MB
NO_TOKEN = "0" * 32
BAD_VALUE = (ValueError, TypeError, OverflowError)


def _tokens(values: list[Any]) -> tuple[NDArray[Any], ...]:
    raw = bytes.fromhex("".join(values))
    if len(raw) != 16 * len(values) or set(map(len, values)) != {32}:
        raise ValueError
    return (np.frombuffer(raw, np.uint8).reshape(-1, 16),)


def _optional_tokens(values: list[Any]) -> tuple[NDArray[Any], ...]:
    return _tokens([value or NO_TOKEN for value in values])


def _texts(values: list[Any]) -> tuple[NDArray[Any], ...]:
    encoded = [str.encode(value) for value in values]
    return np.frombuffer(b"".join(encoded), np.uint8), np.fromiter(map(len, encoded), np.int64, len(encoded))


def _paths(values: list[Any]) -> tuple[NDArray[Any], ...]:
    encoded = _texts(values)
    if any(not value or ".." in value or not fits_a_path(value) for value in values):
        raise ValueError
    return encoded


def _integers(values: list[Any]) -> tuple[NDArray[Any], ...]:
    return (np.frombuffer(array("q", values), np.int64),)


def _counts(values: list[Any]) -> tuple[NDArray[Any], ...]:
    numbers = np.frombuffer(array("i", values), np.int32)
    if (numbers < 0).any():
        raise ValueError
    return (numbers,)


def _flags(values: list[Any]) -> tuple[NDArray[Any], ...]:
    if set(values) - {True, False}:
        raise ValueError
    return (np.array(values, dtype=bool),)


def _vectors(values: list[Any], width: int = 3) -> tuple[NDArray[Any], ...]:
    numbers = np.frombuffer(array("d", chain.from_iterable(values)), np.float64)
    if set(map(len, values)) != {width} or not np.isfinite(numbers).all():
        raise ValueError
    return (numbers.reshape(-1, width),)


def _quaternions(values: list[Any]) -> tuple[NDArray[Any], ...]:
    (numbers,) = _vectors(values, 4)
    with np.errstate(over="ignore"):
        squares = (numbers * numbers).sum(axis=1)
    if not ((squares > 1e-6) & (squares < 1e6)).all():
        raise ValueError
    return (numbers,)


def _intrinsics(values: list[Any]) -> tuple[NDArray[Any], ...]:
    """Keep 3x3 matrices; NaN for sensors that have none."""
    matrices = np.full((len(values), 3, 3), np.nan)
    for matrix, value in zip(matrices, values, strict=True):
        if value != []:
            matrix[:] = _vectors(value)[0].reshape(3, 3)
    return (matrices,)


@dataclass(frozen=True)
class Column:
    """How one key is kept: `parse` turns the values of some records into arrays and raises one of `BAD_VALUE` for a value it cannot take."""

    parse: Callable[[list[Any]], tuple[NDArray[Any], ...]]
    accepts: str
    refers_to: str | None = None


def _reference(table: str, optional: bool = False) -> Column:
    return Column(_optional_tokens if optional else _tokens, "32 hexadecimal digits" + " or empty" * optional, table)


TOKEN = Column(_tokens, "32 hexadecimal digits")
TEXT = Column(_texts, "a text")
PLACE = Column(_paths, "a text: a path below the data set's folder, without '..', without '/' in front, at most 255 letters")
TIMESTAMP_US = Column(_integers, "a whole number")
COUNT = Column(_counts, "a whole number of at least 0")
FLAG = Column(_flags, "true or false")
VECTOR = Column(_vectors, "three finite numbers")
ROTATION = Column(_quaternions, "a quaternion w, x, y, z with a length of about 1")
INTRINSICS = Column(_intrinsics, "a 3x3 matrix, or empty for a sensor that is no camera")

SCHEMA: dict[str, dict[str, Column]] = {
    "sensor": {"token": TOKEN, "channel": TEXT},
    "calibrated_sensor": {"token": TOKEN, "sensor_token": _reference("sensor"), "translation": VECTOR, "rotation": ROTATION,
                          "camera_intrinsic": INTRINSICS},
    "category": {"token": TOKEN, "name": TEXT},
    "scene": {"token": TOKEN, "name": TEXT},
    "sample": {"token": TOKEN, "timestamp": TIMESTAMP_US, "scene_token": _reference("scene")},
    "instance": {"token": TOKEN, "category_token": _reference("category")},
    "ego_pose": {"token": TOKEN, "translation": VECTOR, "rotation": ROTATION},
    "sample_data": {"token": TOKEN, "sample_token": _reference("sample"), "ego_pose_token": _reference("ego_pose"),
                    "calibrated_sensor_token": _reference("calibrated_sensor"), "timestamp": TIMESTAMP_US, "is_key_frame": FLAG,
                    "height": COUNT, "width": COUNT, "filename": PLACE, "prev": _reference("sample_data", optional=True)},
    "sample_annotation": {"token": TOKEN, "sample_token": _reference("sample"), "instance_token": _reference("instance"),
                          "translation": VECTOR, "size": VECTOR, "rotation": ROTATION, "num_lidar_pts": COUNT},
}


def parse_tables(folder: Path, workplace: Path | None) -> tuple[Columns, dict[str, str]]:
    """Parse all tables; large ones at the same time, each but one in a process of its own.

    Args:
        folder: Where the JSON files lie.
        workplace: An empty folder for what other processes hand over; without one everything happens in this process.

    Returns:
        A column for every `table.key`, and the sha256 of every file.

    Raises:
        BadFileError: As `parse_table`.
    """
    columns: Columns = {}
    hashes: dict[str, str] = {}
    large = [table for table in SCHEMA if (folder / f"{table}.json").stat().st_size >= OWN_PROCESS_FROM_BYTES]
    helpers = {} if workplace is None else {table: _start(folder / f"{table}.json", workplace / table) for table in large[:-1]}
    try:
        for table in sorted(SCHEMA, key=lambda name: name in helpers):  # those of the other processes last
            handed_over = _collect(helpers[table], workplace / table) if workplace and table in helpers else None
            found, hashes[table] = handed_over or parse_table(folder / f"{table}.json", SCHEMA[table])
            columns |= {f"{table}.{name}": values for name, values in found.items()}
    finally:
        for helper in helpers.values():
            if helper is not None:
                helper.kill()
                helper.wait()
    return columns, hashes


def parse_into(path: str, place: str) -> None:
    """Parse one table and leave its columns in a folder: what runs in a process of its own."""
    columns, digest = parse_table(Path(path), SCHEMA[Path(path).stem])
    Path(place).mkdir()
    for name, values in columns.items():
        np.save(Path(place) / f"{name}.npy", values, allow_pickle=False)
    (Path(place) / "sha256").write_text(digest)


def _start(path: Path, place: Path) -> subprocess.Popen[bytes] | None:
    """Start a process for one table; None where none can be started."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from clip2x.data.nuscenes.schema import parse_into; parse_into({str(path)!r}, {str(place)!r})"
    if not sys.executable:
        return None
    try:
        return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except (OSError, ValueError):
        return None


def _collect(helper: subprocess.Popen[bytes] | None, place: Path) -> tuple[Columns, str] | None:
    """Wait for a process and map what it left; None if it failed: the table is then parsed here, which says why if the table is at fault."""
    if helper is None or helper.wait() != 0:
        return None
    columns = {path.stem: np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) for path in sorted(place.glob("*.npy"))}
    return columns, (place / "sha256").read_text()


def parse_table(path: Path, keys: dict[str, Column]) -> tuple[Columns, str]:
    """Parse one table piece by piece; the numbers of all pieces are joined in growing buffers.

    Returns:
        A column for every key, and one of ends for every text; the sha256 of the file.

    Raises:
        BadFileError: Names the file and the byte or the record, counted from 0.
    """
    digest = hashlib.sha256()
    empty = {name: column.parse([column_sample]) for name, column, column_sample in _samples(keys)}
    buffers = {name: [bytearray() for _ in parts] for name, parts in empty.items()}
    count = 0
    with _without_collection():
        for records in read_records(path, digest.update):
            for name, column in keys.items():
                try:
                    parts = column.parse([record[name] for record in records])
                except (*BAD_VALUE, KeyError):
                    raise _bad_record(path, count, records, keys) from None
                for buffer, part in zip(buffers[name], parts, strict=True):
                    buffer += part.tobytes()
            count += len(records)
    columns: Columns = {}
    for name, parts in empty.items():
        arrays = [np.frombuffer(buffer, part.dtype).reshape(-1, *part.shape[1:]) for buffer, part in zip(buffers[name], parts, strict=True)]
        columns[name] = arrays[0]
        if len(arrays) == 2:
            columns[f"{name}.ends"] = np.cumsum(arrays[1])
    return columns, digest.hexdigest()


def _samples(keys: dict[str, Column]) -> Iterator[tuple[str, Column, Any]]:
    """Give a value that each column takes, to learn the form of its arrays."""
    values: dict[Column, Any] = {TEXT: "", PLACE: "a", TIMESTAMP_US: 0, COUNT: 0, FLAG: False, VECTOR: [0, 0, 0], ROTATION: [1, 0, 0, 0],
                                 INTRINSICS: []}
    for name, column in keys.items():
        yield name, column, values.get(column, NO_TOKEN)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause Python's cycle search: JSON has no cycles, and the search costs a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _bad_record(path: Path, first: int, records: list[Any], keys: dict[str, Column]) -> BadFileError:
    """Find the record and the key that could not be used; records are counted from 0."""
    for number, record in enumerate(records, start=first):
        if not isinstance(record, dict):
            return BadFileError(f"{path}: record {number} is '{bare(record)}'; a table is a list of objects with keys.")
        for name, column in keys.items():
            if name not in record:
                return BadFileError(f"{path}: record {number} lacks {name!r}; it has {', '.join(map(bare, list(record)[:9]))[:300] or 'nothing'}.")
            try:
                column.parse([record[name]])
            except BAD_VALUE:
                return BadFileError(f"{path}: record {number}: {name} is '{bare(record[name])}'; it must be {column.accepts}.")
    raise AssertionError("every record can be used alone, but not all together")
