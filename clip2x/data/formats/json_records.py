"""Read a long JSON list of records piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clip2x.errors import BadFileError

CHUNK_BYTES = 1 << 18  # ours: about 500 records; with larger pieces the objects of a piece leave the processor's cache, which costs up to 70 %
LONGEST_RECORD = 16 << 20  # ours: a file without the end of a record for so long is broken
RECORD_END = re.compile(rb"\}\s*,\s*\{")


def read_records(path: Path, update: Callable[[bytes], object], chunk_bytes: int = CHUNK_BYTES) -> Iterator[list[Any]]:
    """Read a JSON list of records in pieces of about `chunk_bytes`, whatever its indentation; memory does not grow with the file.

    A piece ends where `},{` stands. Should that be inside a text or a nested object, the piece is no JSON, and more is read.

    Args:
        path: The file.
        update: Called with all bytes in turn (to hash them).
        chunk_bytes: How much to read at once.

    Yields:
        Some records, never none.

    Raises:
        BadFileError: If it is no list, or broken; names the byte.
    """
    try:
        with path.open("rb") as stream:
            pending = stream.read(chunk_bytes)
            update(pending)
            start = pending.find(b"[")
            if start < 0 or pending[:start].strip() not in (b"", b"\xef\xbb\xbf"):
                raise BadFileError(f"{path}: byte 0: a table must be a JSON list of records, found {pending[:20]!r}.")
            offset, pending = start + 1, pending[start + 1 :]
            while True:
                more = stream.read(chunk_bytes)
                update(more)
                pending += more
                hopeless = len(pending) > max(LONGEST_RECORD, 4 * chunk_bytes)
                if not more:
                    records = _decode(pending, offset, path, last=True, hopeless=True)
                    if records:
                        yield records
                    return
                end = _last_end(pending)
                if not end and hopeless:
                    raise BadFileError(f"{path}: byte {offset}: no record ends in the {len(pending):,} bytes from here; this is no table of records.")
                records = _decode(pending[:end], offset, path, last=False, hopeless=hopeless)
                if records:
                    yield records
                    comma = pending.index(b",", end) + 1
                    offset, pending = offset + comma, pending[comma:]
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror}).") from error


def _last_end(pending: bytes) -> int:
    """Find the end of the last record that another one follows; 0 if there is none."""
    place = len(pending)
    while (place := pending.rfind(b"}", 0, place)) >= 0:
        if RECORD_END.match(pending, place):
            return place + 1
    return 0


def _decode(part: bytes, offset: int, path: Path, *, last: bool, hopeless: bool) -> list[Any] | None:
    """Decode records that follow each other; None if more of the file is needed. `offset` is the part's place in the file."""
    try:
        text = part.decode("utf-8")
        records: list[Any] = json.loads("[" + text if last else f"[{text}]")
    except UnicodeDecodeError as error:
        if last or hopeless:
            raise BadFileError(f"{path}: byte {offset + error.start}: not UTF-8; get the file again.") from None
        return None
    except json.JSONDecodeError as error:
        if last or hopeless:
            place = offset + len(error.doc[1 : error.pos].encode("utf-8", "surrogatepass"))
            cut = last and not part.rstrip().endswith(b"]") and error.msg != "Extra data"
            what = "the file ends before the list does" if cut else error.msg
            raise BadFileError(f"{path}: byte {place}: not valid JSON ({what}); get the file again.") from None
        return None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists within lists without end
        raise BadFileError(f"{path}: after byte {offset}: not a table ({' '.join(str(error).split())[:80]}).") from None
    return records
