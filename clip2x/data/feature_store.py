"""Where features of pictures are kept on disk: files that are written once, each named after the sha256 of its own content.

Below the folder, which may be deleted at any time:

| file | content |
|---|---|
| `<clip>-<size>px-<key>/<sha256>.safetensors` | `features` (K, V, E) float32 of K models; metadata: for each the sha256 of its pictures |
| `<clip>-<size>px-<key>/about.json` | what the key stands for: CLIP id, picture size, views, length of the features |
| `pictures/<sha256>.json` | names, sizes and times of change of some models' pictures (hashed) -> the sha256 of these pictures |
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from clip2x.errors import BadFileError, InputError
from clip2x.storage import atomic_path, remove_stale, sha256_of_file
from clip2x.untrusted import json_value

FORMAT = 1  # part of every key: raise it when a change alters the pixels that the tower sees, or the layout
METADATA_KEY = "pictures"


class ImageFeatures:
    """Features of every picture of a data set's models, read through memory maps.

    `features[position, view]` is (E,) float32. Objects may be sent to reader processes, forked or spawned: each maps the files when it first
    reads them, and all share their memory.

    Attributes:
        num_views, embed_dim: V pictures of a model, E values of each.
        models_sha256: Says which models these are, and in which order; see `ShapeNetPairs.models_sha256`.
        num_encoded: Models that had to be encoded by this process when the store was opened.
        notes: What was found damaged and made again.
    """

    def __init__(self, rows: Sequence[tuple[Path, int]], *, num_views: int, embed_dim: int, models_sha256: str, num_encoded: int = 0,
                 notes: Sequence[str] = ()) -> None:
        """Remember where each model's features lie: file and row."""
        numbers: dict[Path, int] = {}
        self._file: NDArray[np.int32] = np.array([numbers.setdefault(path, len(numbers)) for path, _ in rows], dtype=np.int32)
        self._row: NDArray[np.int32] = np.array([row for _, row in rows], dtype=np.int32)
        self._paths = tuple(numbers)
        self._maps: dict[int, torch.Tensor] = {}
        self.num_views, self.embed_dim, self.models_sha256 = num_views, embed_dim, models_sha256
        self.num_encoded, self.notes = num_encoded, list(notes)

    def __len__(self) -> int:
        """Count the models."""
        return len(self._row)

    def __getitem__(self, place: tuple[int, int]) -> Float[torch.Tensor, "E"]:
        """Read the features of one picture: (model position, view) -> (E,) float32.

        Raises:
            IndexError: If there is no such model or view.
            BadFileError: If the file is gone.
        """
        position, view = place
        if not (0 <= position < len(self) and 0 <= view < self.num_views):
            raise IndexError(f"picture {view} of model {position} is outside of {self.num_views} pictures of {len(self)} models")
        number = int(self._file[position])
        if number not in self._maps:
            self._maps[number] = _mapped(self._paths[number])
        return self._maps[number][int(self._row[position]), view].clone()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the maps behind: another process makes its own."""
        return {**self.__dict__, "_maps": {}}


class FeatureStore:
    """Features of pictures as one CLIP gives them, found by what the pictures hold and not by where they lie.

    Nothing that is stored is ever changed: pictures that changed have another sha256, another CLIP or picture size has another folder. Any
    number of processes may read and write at the same time.
    """

    def __init__(self, folder: Path, *, clip_id: str, image_size: int, embed_dim: int, num_views: int) -> None:
        """Say where this CLIP's features lie; nothing is read or written."""
        self.about = {"format": FORMAT, "clip_id": clip_id, "image_size": image_size, "embed_dim": embed_dim, "num_views": num_views}
        key = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = Path(folder) / f"{re.sub(r'[^A-Za-z0-9.]+', '-', clip_id)[:40]}-{image_size}px-{key}"
        self.pictures = Path(folder) / "pictures"

    def remove_damaged(self, rank: int = 0, world_size: int = 1) -> list[str]:
        """Compare files with their names, this process its share of them, and delete those that differ, so that they are made again.

        Returns:
            A note for each file of features that was deleted.

        Raises:
            BadFileError: If a file cannot be read or deleted.
        """
        notes = []
        for folder, suffix in ((self.folder, ".safetensors"), (self.pictures, ".json")):
            if rank == 0:
                remove_stale(folder)
            for path in _stored(folder, suffix):
                try:
                    if int(path.stem[:8], 16) % world_size != rank or sha256_of_file(path) == path.stem:
                        continue
                    path.unlink()
                except FileNotFoundError:
                    continue  # deleted by another run
                except OSError as error:
                    raise BadFileError(f"{path}: a damaged or unreadable file of kept image features ({error.strerror or error}); "
                                       f"delete {folder}.") from error
                if folder == self.folder:
                    notes.append(f"{path} was damaged: the image features in it are computed again.")
        return notes

    def known_pictures(self) -> dict[str, str]:
        """Read which pictures were hashed: names, sizes and times (hashed) -> sha256 of the pictures."""
        known: dict[str, str] = {}
        for path in _stored(self.pictures, ".json"):
            try:
                pairs = json_value(path.read_bytes())
                if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
                    raise ValueError("it must map texts to texts")
            except (OSError, ValueError) as error:
                raise BadFileError(f"{path}: kept hashes of pictures cannot be read ({' '.join(str(error).split())[:120]}); delete it.") from error
            known.update(pairs)
        return known

    def rows(self) -> dict[str, tuple[Path, int]]:
        """Read which features there are: sha256 of a model's pictures -> file and row."""
        found: dict[str, tuple[Path, int]] = {}
        for path in _stored(self.folder, ".safetensors"):
            try:
                with safe_open(path, framework="pt") as file:
                    digests = json_value((file.metadata() or {})[METADATA_KEY])
                    part = file.get_slice("features")
                    shape, wanted = part.get_shape(), [len(digests), self.about["num_views"], self.about["embed_dim"]]
                    if shape != wanted or part.get_dtype() != "F32" or not all(isinstance(digest, str) for digest in digests):
                        raise ValueError(f"it has features {shape} of {part.get_dtype()}, {wanted} of F32 are needed")
            except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise BadFileError(f"{path}: kept image features cannot be read ({' '.join(str(error).split())[:120]}); delete it.") from error
            for row, digest in enumerate(digests):
                found.setdefault(digest, (path, row))
        return found

    def add_pictures(self, known: Mapping[str, str]) -> None:
        """Keep what some models' pictures hash to.

        Raises:
            InputError: If that cannot be written.
        """
        _write_named(self.pictures, ".json", json.dumps(dict(sorted(known.items()))).encode())

    def add_features(self, pictures: Sequence[str], features: Float[torch.Tensor, "K V E"]) -> None:
        """Keep the features of K models under the sha256 of each one's pictures.

        Raises:
            InputError: If that cannot be written.
        """
        _write(self.folder / "about.json", json.dumps(self.about, indent=1).encode())
        _write_named(self.folder, ".safetensors", save({"features": features.contiguous()}, metadata={METADATA_KEY: json.dumps(list(pictures))}))


def _write_named(folder: Path, suffix: str, content: bytes) -> None:
    """Write a file under the sha256 of its content."""
    _write(folder / f"{hashlib.sha256(content).hexdigest()}{suffix}", content)


def _write(path: Path, content: bytes) -> None:
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(f"image features cannot be kept in {path.parent} ({error.strerror or error}); free space there or choose another "
                         "folder (what was written before is kept).") from error


def _stored(folder: Path, suffix: str) -> list[Path]:
    """List the files that are named after a sha256, sorted."""
    return sorted(path for path in folder.glob(f"*{suffix}") if re.fullmatch(r"[0-9a-f]{64}", path.stem))


def _mapped(path: Path) -> torch.Tensor:
    """Map a file's features into memory: (K, V, E)."""
    try:
        with safe_open(path, framework="pt") as file:
            features: torch.Tensor = file.get_tensor("features")
    except (OSError, SafetensorError) as error:
        raise BadFileError(f"{path}: kept image features cannot be read any more ({error}); start again, they are then computed anew.") from error
    return features
