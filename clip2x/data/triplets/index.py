"""What a triplet store says of itself: `index.json` and the small files that it is put together from.

| file | content |
|---|---|
| `collection.json` | schema, `complete`, what the writer was told (`about`), provenance of runs that went on later (`resumed`) |
| `shard-<rank>-<number>.h5`, `.json` | triplets (see `shard`); sha256, size and counts of that file |
| `pending/<key>.h5` | frames that are finished and in no shard yet |
| `embeddings/<clip>/about.json` | a CLIP, its picture size and the length of its embeddings |
| `embeddings/<clip>/<shard>.npy`, `.json` | (T, E) float16, the crops of a shard as that CLIP sees them; sha256 of this file and of the shard |
| `index.json` | all of this in one, and the counts summed; can be made again at any time |
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clip2x.data.triplets.shard import SCHEMA, VERSION, Shard, write_durably, wrong_version
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.types import FrameTriplets
from clip2x.untrusted import excerpt, guarded, json_value, require_text

INDEX, COLLECTION, PENDING, EMBEDDINGS = "index.json", "collection.json", "pending", "embeddings"
NO_COLLECTION = "move the folder away, or bring this file back from a copy (what the shards were made with stands in it)"
NO_SIDECAR = "delete this file, and run the collection again: it describes the shard anew"
ATTEMPTS = 100  # ours: of processes that write the index at the same time each looks again whether it is still right

RESERVED = ("schema", "version", "complete", "num_triplets", "num_frames", "num_frames_without_triplets", "num_points", "rules", "classes",
            "resumed", "shards", "embeddings")  # keys of the index that a writer's `about` cannot have


@contextmanager
def kept_on_failure(folder: Path) -> Iterator[None]:
    """Turn a failure to write (full disk, read-only folder) into one line that says what to do."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write into the triplet store {folder} ({error.strerror or error}); all that was written is kept: make room or "
                         "see who may write there, and run the same command again, it goes on where it was.") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, unless it holds that already."""
    text = (json.dumps(content, indent=1) + "\n").encode()
    try:
        if path.read_bytes() == text:
            return
    except OSError:
        pass
    write_durably(path, text)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read one of the store's JSON files.

    Raises:
        DataNotFoundError: If it is not there.
        BadFileError: If it is damaged, or of another schema version.
    """
    try:
        content = json_value(path.read_bytes())
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise ValueError(f"no JSON object with \"schema\": \"{SCHEMA}\"")
    except (FileNotFoundError, NotADirectoryError):
        raise DataNotFoundError(f"{path.parent} is no triplet store: it has no {path.name}; {remedy}.") from None
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise BadFileError(f"{path}: damaged ({' '.join(str(error).split())[:120]}); {remedy}.") from error
    if content.get("version") != VERSION:
        raise BadFileError(f"{path}: {wrong_version(content.get('version'))}")
    return content


def read_index(folder: Path) -> dict[str, Any]:
    """Read a store's index; see `read_json`."""
    return read_json(folder / INDEX, f"make one with `make collect-proxies`; where {COLLECTION} and shards are there, run the same collection "
                                     "again: it writes the index anew and makes only what is missing")


def read_collection(folder: Path) -> dict[str, Any]:
    """Read what a store's writer was told; see `read_json`."""
    return checked_collection(read_json(folder / COLLECTION, NO_COLLECTION), folder / COLLECTION)


def checked_collection(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Refuse what could not be put into the index.

    Raises:
        BadFileError: If a key is missing or has another form.
    """
    def check() -> None:
        about = content["about"]
        check_vocabulary(about.get("vocabulary"))
        forms = {"settings": dict, "sources": dict, "data": dict}
        if not isinstance(content["resumed"], list) or not isinstance(content["complete"], bool):
            raise ValueError("'resumed' must be a list, 'complete' true or false")
        if taken := sorted(set(about) & set(RESERVED)):
            raise ValueError(f"'about' has {taken[0]!r}, which is counted and not told")
        for key, form in forms.items():
            if not isinstance(about.get(key), form | None):
                raise ValueError(f"about.{key} must be a mapping")
        if not all(isinstance(facts, dict) for facts in (about.get("data") or {}).values()):
            raise ValueError("about.data must map names to facts")

    _require(check, path, NO_COLLECTION)
    return content


def _require(check: Callable[[], None], path: Path, remedy: str) -> None:
    """Run a check of what a file says.

    Raises:
        BadFileError: If it fails; names the file and the remedy.
    """
    try:
        guarded(check)
    except ValueError as error:
        raise BadFileError(f"{path}: damaged ({error}); {remedy}.") from error


def check_vocabulary(vocabulary: Any) -> None:
    """Refuse a described vocabulary whose names could not be looked up.

    Raises:
        ValueError: If a key is missing or has another form. Further errors of taking it apart are left to `guarded`.
    """
    if vocabulary is None:
        return
    concepts, aliases = vocabulary.get("concepts", []), vocabulary.get("aliases", {})
    if not all(names and all(isinstance(require_text(name), str) for name in names) for names in concepts if isinstance(names, list)):
        raise ValueError("a concept of the vocabulary has no names")
    if not isinstance(concepts, list) or not all(isinstance(names, list) for names in concepts):
        raise ValueError("the concepts of the vocabulary are no lists of names")
    known = {plain(name) for names in concepts for name in names}
    if not isinstance(aliases, dict) or not {plain(name) for name in aliases.values()} <= known:
        raise ValueError("an alias of the vocabulary stands for no concept")


def _checked_sidecar(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Refuse the description of a shard that could not be counted, or is of another file."""
    def check() -> None:
        if content["file"] != path.with_suffix(".h5").name:
            raise ValueError(f"it describes {excerpt(content['file'])}")
        counted = [content[key] for key in ("bytes", "frames", "triplets")]
        counted += [count for pair in content["text_ids"].items() for count in (int(pair[0]), pair[1])]
        for facts in content["data"].values():
            counted += [facts[key] for key in ("frames", "frames_without_triplets", "triplets", "points")] + list(facts["rules"].values())
            if not set(facts) <= {"frames", "frames_without_triplets", "triplets", "points", "rules"}:
                raise ValueError("it counts unknown things")
        if not all(isinstance(count, int) for count in counted) or not isinstance(content["sha256"], str):
            raise ValueError("a count is no whole number, or there is no sha256")

    _require(check, path, NO_SIDECAR)
    return content


def _checked_file_of_embeddings(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Refuse the description of embeddings that lacks what the index says of them, or is of another file."""
    texts = [content.get(key) for key in ("sha256", "shard", "shard_sha256")]
    if content.get("file") != path.with_suffix(".npy").name or not all(isinstance(text, str) for text in texts) or not isinstance(
            content.get("bytes"), int):
        raise BadFileError(f"{path}: damaged (it does not describe {path.with_suffix('.npy').name}); delete it and run embed-proxies again.")
    return content


def sidecar_of(frames: list[FrameTriplets], file: str, content: bytes) -> dict[str, Any]:
    """Describe a shard."""
    data: dict[str, dict[str, Any]] = {}
    for name in sorted({frame.data for frame in frames}):
        own = [frame for frame in frames if frame.data == name]
        rules: Counter[str] = sum((frame.rules for frame in own), Counter())
        data[name] = {"frames": len(own), "frames_without_triplets": sum(not frame.triplets for frame in own),
                      "triplets": sum(len(frame.triplets) for frame in own),
                      "points": sum(len(triplet.points) for frame in own for triplet in frame.triplets), "rules": dict(sorted(rules.items()))}
    text_ids = Counter(triplet.text_id for frame in frames for triplet in frame.triplets)
    return {"schema": SCHEMA, "version": VERSION, "file": file, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content),
            "frames": len(frames), "triplets": sum(text_ids.values()), "data": data,
            "text_ids": {str(number): count for number, count in sorted(text_ids.items())}}


def sidecar_of_file(path: Path) -> dict[str, Any]:
    """Describe a shard whose description is gone.

    Raises:
        BadFileError: If it is no whole shard.
    """
    shard = Shard(path)
    return sidecar_of([shard.frame(row) for row in range(shard.num_frames)], path.name, path.read_bytes())


class StoreIndex:
    """Puts a store's index together, again and again while the store grows: a shard's description is read and counted once."""

    def __init__(self, folder: Path) -> None:
        """Remember the folder; nothing is read."""
        self._folder = folder
        self._known: dict[Path, tuple[tuple[int, ...], dict[str, Any]]] = {}
        self._forget()

    def write(self) -> None:
        """Write the index; safe beside other processes that do the same: the last one to write looks whether more came in.

        Raises:
            OSError: If it cannot be written.
            DataNotFoundError, BadFileError: If a file that it is made of is gone or damaged.
        """
        for _ in range(ATTEMPTS):
            state = self._state()
            write_json(self._folder / INDEX, self._composed())
            if self._state() == state:
                return

    def sidecars(self) -> list[dict[str, Any]]:
        """Read the descriptions of all shards that are there now, sorted by name.

        Raises:
            BadFileError: If one is damaged.
        """
        paths = sorted(self._folder.glob("shard-*.json"))
        if not set(self._sidecars) <= set(paths):
            self._forget()
        for path in paths:
            if path not in self._sidecars:
                found = _checked_sidecar(read_json(path, NO_SIDECAR), path)
                self._sidecars[path] = found
                self._count(found)
        return [self._sidecars[path] for path in paths]

    def _forget(self) -> None:
        self._sidecars: dict[Path, dict[str, Any]] = {}
        self._text_ids: Counter[int] = Counter()
        self._data: dict[str, Counter[str]] = {}
        self._rules: dict[str, Counter[str]] = {}

    def _count(self, shard: Mapping[str, Any]) -> None:
        self._text_ids.update({int(number): count for number, count in shard["text_ids"].items()})
        for name, facts in shard["data"].items():
            self._data.setdefault(name, Counter()).update({key: value for key, value in facts.items() if key != "rules"})
            self._rules.setdefault(name, Counter()).update(facts["rules"])

    def _state(self) -> list[tuple[Path, tuple[int, ...]]]:
        """Say what the index depends on: shards by name, other files by their time of change too."""
        others = [self._folder / COLLECTION, *sorted((self._folder / EMBEDDINGS).glob("*/*.json"))]
        return [*((path, ()) for path in sorted(self._folder.glob("shard-*.json"))), *((path, _version(path)) for path in others)]

    def _read(self, path: Path, remedy: str) -> dict[str, Any]:
        """Read a file, again only when it was replaced."""
        version = _version(path)
        known = self._known.get(path)
        if known is None or known[0] != version or not version:
            known = self._known[path] = (version, read_json(path, remedy))
        return known[1]

    def _composed(self) -> dict[str, Any]:
        collection, shards = self._read(self._folder / COLLECTION, NO_COLLECTION), self.sidecars()
        checked_collection(collection, self._folder / COLLECTION)
        about = collection["about"]
        names = concept_names(about.get("vocabulary"))
        total: Counter[str] = sum(self._data.values(), Counter())
        return {
            "schema": SCHEMA, "version": VERSION, "complete": collection["complete"],
            "num_triplets": total["triplets"], "num_frames": total["frames"], "num_frames_without_triplets": total["frames_without_triplets"],
            "num_points": total["points"],
            "rules": dict(sorted(sum(self._rules.values(), Counter[str]()).items())),
            "classes": {names[number] if 0 <= number < len(names) else str(number): self._text_ids[number] for number in sorted(self._text_ids)},
            **about, "resumed": collection["resumed"],
            "data": {name: {**(about.get("data") or {}).get(name, {}), **counts, "rules": dict(sorted(self._rules[name].items()))}
                     for name, counts in sorted(self._data.items())},
            "shards": [{key: shard[key] for key in ("file", "sha256", "bytes", "frames", "triplets")} for shard in shards],
            "embeddings": self._embeddings({shard["file"]: shard["sha256"] for shard in shards}),
        }

    def _embeddings(self, shards: Mapping[str, str]) -> list[dict[str, Any]]:
        """List the embeddings that belong to shards as they are now, by CLIP."""
        found = []
        for path in sorted((self._folder / EMBEDDINGS).glob("*/about.json")):
            remedy = f"delete {path.parent} and run embed-proxies again"
            described = [_checked_file_of_embeddings(self._read(file, remedy), file) for file in sorted(path.parent.glob("shard-*.json"))]
            own = [file for file in described if shards.get(file["shard"]) == file["shard_sha256"]]
            about = {key: value for key, value in self._read(path, remedy).items() if key not in ("schema", "version")}
            found.append({**about, "folder": f"{EMBEDDINGS}/{path.parent.name}", "complete": len(own) == len(shards),
                          "files": [{key: file[key] for key in ("file", "sha256", "bytes", "shard", "shard_sha256")} for file in own]})
        return found


def _version(path: Path) -> tuple[int, ...]:
    """Tell one state of a file from another; empty if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def concept_names(vocabulary: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Take the first name of each concept out of a described vocabulary; empty without one."""
    return tuple(names[0] for names in (vocabulary or {}).get("concepts", ()))


def ids_by_name(vocabulary: Mapping[str, Any] | None) -> dict[str, int]:
    """Find the concept of each name of a described vocabulary, in plain form.

    Aliases are names too, and so is a name without its qualifier in parentheses where only one concept has that word.
    """
    described = vocabulary or {}
    known = {plain(name): number for number, names in enumerate(described.get("concepts", ())) for name in names}
    owners: dict[str, set[int]] = {}
    for number, names in enumerate(described.get("concepts", ())):
        for name in names:
            owners.setdefault(plain(without_qualifier(name)), set()).add(number)
    words = {word: min(numbers) for word, numbers in owners.items() if word and len(numbers) == 1}
    return {**words, **{plain(alias): known[plain(name)] for alias, name in described.get("aliases", {}).items()}, **known}


def plain(name: str) -> str:
    """Bring a name to the form in which names are compared: case, spaces, hyphens and underscores do not matter."""
    return re.sub(r"[\s_\-]+", "", name.casefold())


def without_qualifier(name: str) -> str:
    """Leave out what stands in parentheses at the end: `bow (weapon)` is `bow`."""
    return re.sub(r"\s*\([^()]*\)\s*$", "", name)
