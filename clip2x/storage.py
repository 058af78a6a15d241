"""Files that are either whole or not there, and content hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clip2x.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there replaces `path` at the end, or is removed if the block fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", str(path))
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    except FileNotFoundError as error:  # of the hidden file, in a place like /proc
        raise PermissionError(errno.EACCES, "cannot be written there", str(path)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(folder: Path, age_s: float = 86_400.0) -> None:
    """Delete hidden files and folders in a folder of derived files that no one has touched for `age_s` seconds: what killed processes left."""
    with suppress(OSError):
        for item in list(folder.iterdir()):
            if item.name.startswith(".") and time.time() - item.stat().st_mtime > age_s:
                shutil.rmtree(item, ignore_errors=True) if item.is_dir() else item.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Make a folder and try to write into it, before hours of work end in it.

    Raises:
        InputError: If that fails.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"cannot write into {folder} ({error.strerror}); choose another folder (RUNS=... or --model.output).") from error


def sha256_of_file(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
