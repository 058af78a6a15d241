"""What frozen towers say of clouds, kept on disk by content: towers that are not trained need to see a cloud once only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from clip2x.errors import BadFileError, CheckpointMismatchError
from clip2x.storage import remove_stale
from clip2x.tensor_files import read_tensors, save_tensors
from clip2x.untrusted import json_value

VERSION = 4  # raise it when a change of the code alters features, or how they are kept


class ViewFeatureCache:
    """Features of clouds, found by what a cloud, the towers and their settings are, whatever batch and order it comes in.

    Each call that finds new clouds writes one file with them, so a run that was stopped goes on behind its last batch, and processes may share the
    folder. Files of other towers or settings lie in other folders; one that was copied from there is refused.

    Args:
        towers: Clouds (B, N, 3) and how many points of each are its own, or None -> a list of (B, V, E).
        folder: Where files lie.
        about: What the features depend on besides the clouds: hashes of all weights, views, precision. Plain values.
        autocast: Makes the context in which the towers compute.

    Attributes:
        num_encoded: Clouds that were encoded and not read.
    """

    def __init__(self, towers: nn.Module, folder: Path, about: dict[str, Any], autocast: Callable[[], Any]) -> None:
        self.towers, self.autocast = towers, autocast
        self.about = json.dumps({**about, "version": VERSION}, sort_keys=True)
        self.folder = Path(folder) / hashlib.sha256(self.about.encode()).hexdigest()[:16]
        self.num_encoded = 0
        self._places: dict[str, tuple[Path, int]] = {}  # a cloud's hash -> its file and row there
        self._seen: set[Path] = set()

    def features(self, points: Tensor, num_real: Tensor | None = None) -> list[Tensor]:
        """Encode clouds (B, N, 3), unit sphere, object frame, or read what they gave before; float32, on the CPU. `num_real`: see `thin_out`.

        Raises:
            BadFileError: If a kept file is damaged.
            CheckpointMismatchError: If it holds features by other weights or settings.
        """
        names = [hashlib.sha256(cloud.numpy().tobytes()).hexdigest() for cloud in points.detach().cpu().float().contiguous()]
        if any(name not in self._places for name in names):
            self._look()
        new = [place for place, name in enumerate(names) if name not in self._places]
        fresh: list[Tensor] = []
        if new:
            with torch.inference_mode(False), torch.no_grad(), self.autocast():
                fresh = [part.float().cpu().contiguous() for part in self.towers(points[new].clone(), None if num_real is None else num_real[new])]
            self.num_encoded += len(new)
            self._write([names[place] for place in new], fresh)
        if len(new) == len(names):
            return fresh
        rows = self._read({self._places[name][0] for name in names})
        return [torch.stack(path) for path in zip(*(rows[name] for name in names), strict=True)]

    def _write(self, names: list[str], features: list[Tensor]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{hashlib.sha256(''.join(names).encode()).hexdigest()[:32]}.safetensors"
        save_tensors(path, {f"path{number}": part for number, part in enumerate(features)}, {"about": self.about, "clouds": json.dumps(names)})
        self._seen.add(path)
        self._places.update((name, (path, row)) for row, name in enumerate(names))

    def _look(self) -> None:
        """Look at files that are new in the folder."""
        if not self._seen:
            remove_stale(self.folder)
        for path in sorted(set(self.folder.glob("[!.]*.safetensors")) - self._seen):
            with _opened(path) as file:
                metadata = file.metadata() or {}
                if metadata.get("about") != self.about:
                    raise CheckpointMismatchError(f"{path}: holds view features by other weights or settings; delete it.")
                self._places.update((name, (path, row)) for row, name in enumerate(_clouds(metadata)))
            self._seen.add(path)

    def _read(self, paths: set[Path]) -> dict[str, list[Tensor]]:
        """Read files whole; what a cloud's paths hold, by its hash."""
        found: dict[str, list[Tensor]] = {}
        for path in sorted(paths):
            try:
                tensors, metadata = read_tensors(path, sealed=True)
                parts = [tensors[f"path{number}"] for number in range(len(tensors))]
                for row, name in enumerate(_clouds(metadata)):
                    found[name] = [part[row] for part in parts]
            except (ValueError, KeyError, IndexError) as error:
                raise BadFileError(f"{path}: kept view features cannot be read ({' '.join(str(error).split())[:160]}); delete it.") from error
        return found


def _clouds(metadata: Mapping[str, str]) -> list[str]:
    """Read which clouds a file has features of."""
    names = json_value(metadata["clouds"])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("it does not list its clouds")
    return names


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a kept file; any damage is an error of ours."""
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError, KeyError, ValueError, AttributeError) as error:
        raise BadFileError(f"{path}: kept view features cannot be read ({' '.join(str(error).split())[:160]}); delete it.") from error
