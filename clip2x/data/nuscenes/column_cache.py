"""A folder of arrays that is either whole or not there: columns that were parsed once and are mapped into memory from then on."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import tokenize
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.storage import remove_stale, sha256_of_file
from clip2x.untrusted import json_value, require_file_name

Columns = dict[str, NDArray[Any]]

INDEX = "index.json"
ENDS_BYTES = 1 << 16  # ours: of the head and of the tail of a column, compared at every start
MAPPED_FROM_BYTES = 1 << 20  # ours: smaller columns are read at once
DAMAGED = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, RuntimeError, SyntaxError, OverflowError, MemoryError,
           tokenize.TokenError)  # what reading a changed index or array raises


class ColumnCache:
    """One folder with a .npy file per column and an index with their sizes and hashes.

    The folder is written beside its place and renamed, so any number of processes may make it at once; the first one's stays.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problem: str | None = None

    def load(self, deep: bool = False) -> tuple[Columns, dict[str, Any]] | None:
        """Map the columns; None if there is no whole folder, and `problem` says so if it is damaged.

        Args:
            deep: Compare all bytes with the index; otherwise sizes, heads and tails.

        Returns:
            The columns and what was stored beside them.
        """
        try:
            index = json_value((self.folder / INDEX).read_bytes())
            if index.pop("sha256") != _sha256_of(index):
                raise ValueError(f"{self.folder / INDEX} is not what was written")
            columns = {name: self._column(require_file_name(name), fact, deep) for name, fact in index["columns"].items()}
            return columns, index["facts"]
        except (FileNotFoundError, NotADirectoryError):
            if self.folder.is_dir():
                self.problem = f"{self.folder} was incomplete and was made again."
        except DAMAGED:
            self.problem = f"{self.folder} was damaged and was made again."
        return None

    def save(self, columns: Columns, facts: dict[str, Any]) -> tuple[Columns, dict[str, Any]] | None:
        """Store columns and facts (JSON) and map them; None, and the reason in `problem`, where that is not possible."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            remove_stale(self.folder.parent)
            with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=f".{self.folder.name[:8]}-") as temporary:
                made = Path(temporary) / "made"
                made.mkdir()
                for name, column in columns.items():
                    np.save(made / f"{name}.npy", column, allow_pickle=False)
                index = {name: [*_fingerprint(made / f"{name}.npy"), sha256_of_file(made / f"{name}.npy")] for name in columns}
                content = {"facts": facts, "columns": index}
                (made / INDEX).write_text(json.dumps({**content, "sha256": _sha256_of(content)}))
                self._put_in_place(made, Path(temporary) / "old", facts)
        except OSError as error:
            self.problem = error.strerror or str(error)
            return None
        kept = self.load()
        self.problem = None if kept is not None else "it was changed right after it was written"
        return kept

    def _put_in_place(self, made: Path, aside: Path, facts: dict[str, Any]) -> None:
        """Rename a new folder to its place; a whole one with the same facts, which another process has just put there, stays."""
        if self.folder.exists():
            there = ColumnCache(self.folder).load(deep=True)
            if there is not None and there[1] == facts:
                return
            if self.folder.is_dir():
                os.rename(self.folder, aside)
            else:
                self.folder.unlink()
        try:
            os.rename(made, self.folder)
        except OSError:
            if not (self.folder / INDEX).is_file():
                raise

    def _column(self, name: str, fact: list[Any], deep: bool) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        if _fingerprint(path) != tuple(fact[:2]) or (deep and sha256_of_file(path) != fact[2]):
            raise ValueError(f"{path} is not what was written")
        loaded: NDArray[Any] = np.load(path, mmap_mode="r" if fact[0] >= MAPPED_FROM_BYTES else None, allow_pickle=False)
        return np.asarray(loaded)  # still mapped; slices of a plain array cost a third of those of a memmap


def _sha256_of(index: dict[str, Any]) -> str:
    """Hash what an index says."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> tuple[int, str]:
    """Take size and a hash of head and tail."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        ends = hashlib.sha256(stream.read(ENDS_BYTES))
        stream.seek(max(0, size - ENDS_BYTES))
        ends.update(stream.read(ENDS_BYTES))
    return size, ends.hexdigest()
