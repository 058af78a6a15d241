"""The tables of nuScenes without its devkit: JSON is parsed once, in pieces, into columns that later starts map into memory.

Only the keys that the readers use are kept. Tokens (32 hexadecimal digits) become 16 bytes, references to other tables become row numbers,
texts lie end to end in one array. Schema: nuscenes-devkit, docs/schema_nuscenes.md.
"""

from __future__ import annotations

import hashlib
import tempfile
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.data.cache import cache_folder
from clip2x.data.nuscenes.column_cache import ColumnCache
from clip2x.data.nuscenes.schema import SCHEMA, Columns, parse_tables
from clip2x.errors import BadFileError, DataNotFoundError

ENDS_BYTES = 1 << 16  # ours: how much of the head and of the tail of a table goes into its fingerprint
CACHED_FROM_BYTES = 8 << 20  # ours: smaller tables are parsed in less than half a second and not kept unless a folder is named
FORMAT = 2  # raise it when a change alters the columns or their index
LOOKED_UP = ("sample", "sample_annotation")  # tables whose rows are asked for by token


class Tables:
    """The columns of all tables.

    `columns` has an array for every `table.key` with a row for every record: tokens (N, 16) uint8; references (N,) int32 row numbers, -1 for
    none or unknown; vectors (N, 3), quaternions (N, 4), intrinsics (N, 3, 3) float64. Texts are read with `text`. `notes` says what is odd.
    Sent to another process, only the place is sent, and the columns are mapped there (unless there is no cache).
    """

    def __init__(self, folder: Path, columns: Columns, notes: list[str], cache: Path | None, key: str = "") -> None:
        self.folder, self.columns, self.notes, self.cache, self.key = folder, columns, notes, cache, key

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def __reduce__(self) -> tuple[Any, ...]:
        if self.cache is None:
            return Tables, (self.folder, self.columns, self.notes, None)
        return _reopen, (self.folder, self.cache, self.key)

    def num_rows(self, table: str) -> int:
        """Count the records of a table."""
        return len(self.columns[f"{table}.token"])

    def text(self, name: str, row: int) -> str:
        """Read one text of a column."""
        ends = self.columns[f"{name}.ends"]
        first = int(ends[row - 1]) if row else 0
        encoded: bytes = self.columns[name][first : int(ends[row])].tobytes()
        return encoded.decode()

    def texts(self, name: str) -> list[str]:
        """Read all texts of a column; meant for short tables."""
        return [self.text(name, row) for row in range(len(self.columns[f"{name}.ends"]))]

    def token(self, table: str, row: int) -> str:
        """Write a record's token in hexadecimal digits."""
        token: bytes = self.columns[f"{table}.token"][row].tobytes()
        return token.hex()

    def row(self, table: str, token: str) -> int:
        """Find the record with a token in `sample` or `sample_annotation`; -1 if there is none."""
        tokens, order = self.columns[f"{table}.token"], self.columns[f"{table}.order"]
        try:
            wanted = bytes.fromhex(token)
        except ValueError:
            return -1
        position = bisect_left(range(len(order)), wanted, key=lambda place: tokens[order[place]].tobytes())
        found = position < len(order) and tokens[order[position]].tobytes() == wanted
        return int(order[position]) if found else -1


def open_tables(folder: Path, *, cache: Path | None = None, deep: bool = False) -> Tables:
    """Open the tables of one version of nuScenes, e.g. `nuscenes/v1.0-mini`.

    The first time they are parsed and their columns are kept in `<cache>/nuscenes/<key>`; the key follows from size, time of change, head and
    tail of every table. Any number of processes may do so at once. The cache may be deleted at any time.

    Args:
        folder: Where the JSON files lie; nothing is written there.
        cache: Folder for derived files. If not given, `~/.cache/clip2x`, and small tables are not kept. One that cannot be written is a note.
        deep: Compare the hashes of all bytes of the tables and of the cache with those taken when it was made; make it again if they differ.

    Raises:
        DataNotFoundError: If a table is missing.
        BadFileError: If a table is no JSON list of records, lacks a key or has a value that cannot be used; names the file and the place.
    """
    folder = Path(folder)
    fingerprints = _fingerprints(folder)
    root = cache_folder(cache)
    small = cache is None and sum(size for _, size, _, _ in fingerprints) < CACHED_FROM_BYTES
    if root is None or small:
        notes = [] if small else ["there is no home folder to keep the tables in: every start parses them again."]
        columns, about, _ = _parse(folder, None)
        return Tables(folder, columns, notes + about, None)
    key = hashlib.sha256(repr((FORMAT, fingerprints)).encode()).hexdigest()[:32]
    store = ColumnCache(root / "nuscenes" / key)
    kept = store.load(deep)
    problems = [store.problem] if store.problem else []
    if kept is not None and deep and kept[1]["tables"] != {name: _sha256(folder / f"{name}.json") for name in SCHEMA}:
        kept = None
        problems.append(f"{folder}: tables changed without a change of size, time, head and tail; they were parsed again.")
    if kept is None:
        columns, about, hashes = _parse(folder, root)
        if _fingerprints(folder) != fingerprints:
            raise BadFileError(f"{folder}: a table changed while it was read; try again when it is at rest.")
        kept = store.save(columns, {"tables": hashes, "notes": about})
        if kept is None:
            problems.append(f"the tables are not kept in {root} ({store.problem}): every start parses them again.")
            return Tables(folder, columns, problems + about, None, key)
    return Tables(folder, kept[0], problems + kept[1]["notes"], root, key)


def _reopen(folder: Path, cache: Path, key: str) -> Tables:
    """Map the columns that another process has opened: the row numbers that it sends along belong to these and to no other ones."""
    kept = ColumnCache(cache / "nuscenes" / key).load()
    if kept is not None:
        return Tables(folder, kept[0], kept[1]["notes"], cache, key)
    tables = open_tables(folder, cache=cache)
    if tables.key != key:
        raise BadFileError(f"{folder}: a table changed after it was opened, and the columns kept in {cache} are gone; start again.")
    return tables


def _fingerprints(folder: Path) -> list[tuple[str, int, int, str]]:
    """Take name, size, time of change and a hash of head and tail of every table."""
    try:
        missing = [f"{name}.json" for name in SCHEMA if not (folder / f"{name}.json").is_file()]
    except OSError as error:
        raise BadFileError(f"{folder}: the folder cannot be read ({error.strerror}).") from error
    if missing:
        raise DataNotFoundError(f"{folder}: {len(missing)} of {len(SCHEMA)} tables missing, first {missing[0]}; they come with the metadata archive.")
    found = []
    for name in SCHEMA:
        path = folder / f"{name}.json"
        try:
            status = path.stat()
            with path.open("rb") as stream:
                ends = hashlib.sha256(stream.read(ENDS_BYTES))
                stream.seek(max(0, status.st_size - ENDS_BYTES))
                ends.update(stream.read(ENDS_BYTES))
        except OSError as error:
            raise BadFileError(f"{path}: cannot be read ({error.strerror}).") from error
        found.append((name, status.st_size, status.st_mtime_ns, ends.hexdigest()))
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _parse(folder: Path, root: Path | None) -> tuple[Columns, list[str], dict[str, str]]:
    """Parse all tables; return columns, notes and the hash of every file."""
    with _workplace(root) as workplace:
        columns, hashes = parse_tables(folder, workplace)
        return columns, _resolve(folder, columns), hashes


@contextmanager
def _workplace(root: Path | None) -> Iterator[Path | None]:
    """Make a folder that goes away again; None where that is not possible."""
    try:
        if root is None:
            raise OSError
        (root / "nuscenes").mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=root / "nuscenes", prefix=".parsing-", ignore_cleanup_errors=True)
    except OSError:
        yield None
        return
    with temporary as name:
        yield Path(name)


def _resolve(folder: Path, columns: Columns) -> list[str]:
    """Replace the tokens of references by row numbers; say how many are unknown.

    Raises:
        BadFileError: If two records of a table have the same token.
    """
    notes = []
    orders = {table: _order(folder, table, columns) for table in SCHEMA}
    for table, keys in SCHEMA.items():
        for name, column in keys.items():
            if column.refers_to is not None:
                wanted = columns[f"{table}.{name}"]
                rows = _rows(columns[f"{column.refers_to}.token"], orders[column.refers_to], wanted)
                columns[f"{table}.{name}"] = rows
                unknown = np.flatnonzero((rows < 0) & wanted.any(axis=1))
                if len(unknown):
                    notes.append(f"{table}.json: {len(unknown):,} of {len(rows):,} {name} name no {column.refers_to}, first in record {unknown[0]}.")
    columns.update({f"{table}.order": orders[table] for table in LOOKED_UP})
    return notes


def _order(folder: Path, table: str, columns: Columns) -> NDArray[np.int32]:
    tokens = columns[f"{table}.token"].view("S16")[:, 0]  # NumPy compares these byte by byte; zeros at the end are no matter at equal lengths
    order = np.argsort(tokens, kind="stable").astype(np.int32)
    ordered = tokens[order]
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        first, second = order[twice[0]], order[twice[0] + 1]
        raise BadFileError(f"{folder / table}.json: records {first} and {second} have the same token.")
    return order


def _rows(tokens: NDArray[Any], order: NDArray[np.int32], wanted: NDArray[Any]) -> NDArray[np.int32]:
    """Look tokens up; both sides are sorted, which is four times faster than one by one."""
    rows = np.full(len(wanted), -1, dtype=np.int32)
    if not len(tokens):
        return rows
    asked = wanted.view("S16")[:, 0]
    by_token = np.argsort(asked)
    asked = asked[by_token]
    known = tokens.view("S16")[:, 0][order]
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    rows[by_token] = np.where(known[place] == asked, order[place], -1)
    return rows
