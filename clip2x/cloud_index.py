"""Embeddings of a folder's clouds, kept and used again: an index that words search."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clip2x.cloud_files import batches
from clip2x.errors import BadFileError, Clip2xError, InputError
from clip2x.predict import Recognizer
from clip2x.storage import atomic_path
from clip2x.tensor_files import read_tensors, save_tensors
from clip2x.untrusted import json_value

VERSION = 2
OUTPUTS = (".npz", ".h5")
SAVE_EVERY = 32  # batches; what a stopped run loses at most. Ours


@dataclass(frozen=True)
class CloudIndex:
    """files: paths. embeds: (N, E) unit length. failed: files that cannot be read, with reasons. num_new: how many were embedded now."""

    files: list[Path]
    embeds: Float[Tensor, "N E"]
    failed: list[tuple[Path, str]]
    num_new: int


def index_clouds(paths: Sequence[Path], recognizer: Recognizer, about: dict[str, Any], folder: Path, *, up: str, columns: int | None = None,
                 seed: int = 0) -> CloudIndex:
    """Embed clouds, but for those that an earlier index of the same checkpoint and settings holds unchanged (path, size, time of change).

    Args:
        paths: The files.
        recognizer: Embeds them.
        about: What embeddings depend on besides the clouds; plain values.
        folder: Where indices are kept, a file for each `about`.
        up, columns, seed: See `read_turned`.

    Raises:
        BadFileError: If the kept index is damaged.
    """
    key = json.dumps({"version": VERSION, **about, "up": up, "columns": columns, "seed": seed, "num_points": recognizer.num_points}, sort_keys=True)
    file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    known = _known(file, key)
    marks = {path: _mark(path) for path in paths}
    todo = [path for path in paths if known.get(str(path.absolute()), ("", None))[0] != marks[path]]
    problems: list[tuple[Path, Clip2xError]] = []
    fresh: dict[Path, Tensor] = {}
    others = {name: entry for name, entry in known.items() if Path(name).exists()}

    def save() -> None:
        entries = {**others, **{str(path.absolute()): (marks[path], embed) for path, embed in fresh.items()}}
        save_tensors(file, {"embeds": torch.stack([embed for _, embed in entries.values()])},
                     {"key": key, "files": json.dumps([[name, mark] for name, (mark, _) in entries.items()])})

    for number, (kept, clouds) in enumerate(batches(todo, recognizer.num_points, up=up, columns=columns, seed=seed, failed=problems), start=1):
        fresh.update(zip(kept, recognizer.embed(clouds).cpu(), strict=True))
        if number % SAVE_EVERY == 0:
            save()
    if fresh:
        save()
    changed = set(todo)
    found = {path: fresh[path] if path in fresh else known[str(path.absolute())][1] for path in paths if path in fresh or path not in changed}
    embeds = torch.stack(list(found.values())) if found else torch.empty(0, 0)
    return CloudIndex(list(found), embeds, [(path, str(error)) for path, error in problems], len(fresh))


def write_embeddings(path: Path, index: CloudIndex, about: dict[str, Any]) -> None:
    """Write embeddings with the names of their files: `embeds` (N, E) float32, `files`, and `about` as JSON; .npz or .h5 by the ending.

    Raises:
        InputError: If the ending is another.
    """
    files = [str(file) for file in index.files]
    if path.suffix == ".npz":
        with atomic_path(path) as temporary:
            np.savez(temporary, embeds=index.embeds.numpy(), files=np.array(files), about=np.array(json.dumps(about)))
    elif path.suffix == ".h5":
        import h5py

        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            file["embeds"] = index.embeds.numpy()
            file.create_dataset("files", data=files, dtype=h5py.string_dtype())
            file.attrs["about"] = json.dumps(about)
    else:
        raise InputError(f"{path}: embeddings are written to {' or '.join(OUTPUTS)}; give a name with such an ending.")


def _known(file: Path, key: str) -> dict[str, tuple[str, Tensor]]:
    if not file.exists():
        return {}
    try:
        tensors, metadata = read_tensors(file, sealed=True)
        if metadata.get("key") != key:
            raise ValueError("it is one of other settings")
        listed = [(str.__str__(name), str.__str__(mark)) for name, mark in json_value(metadata["files"])]
        return {name: (mark, row) for (name, mark), row in zip(listed, tensors["embeds"], strict=True)}
    except (ValueError, KeyError, TypeError) as error:
        raise BadFileError(f"{file}: this index cannot be read ({' '.join(str(error).split())[:160]}); delete it.") from error


def _mark(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "gone"
    return f"{status.st_size}/{status.st_mtime_ns}"
