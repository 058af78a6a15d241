"""What frozen towers say of clouds, kept on disk by content: towers that are not trained need to see a cloud once only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from clip2x.errors import BadFileError, CheckpointMismatchError
from clip2x.storage import atomic_path

VERSION = 1  # raise it when a change of the code alters features


class ViewFeatureCache:
    """Features of batches of clouds, each batch in a file that is named by what the clouds, the towers and their settings are.

    A file that stands under a name that is not its own (copied there from another run) is refused; a run that was stopped goes on.

    Args:
        towers: Clouds (B, N, 3) -> a list of (B, V, E).
        folder: Where files lie.
        about: What the features depend on besides the clouds: hashes of all weights, views, precision. Plain values.
        autocast: Makes the context in which the towers compute.

    Attributes:
        num_encoded: Clouds that were encoded and not read.
    """

    def __init__(self, towers: nn.Module, folder: Path, about: dict[str, Any], autocast: Callable[[], Any]) -> None:
        self.towers, self.folder, self.autocast = towers, Path(folder), autocast
        self.about = json.dumps({"version": VERSION, **about}, sort_keys=True)
        self.num_encoded = 0

    def features(self, points: Tensor) -> list[Tensor]:
        """Encode clouds (B, N, 3), unit sphere, object frame, or read what they gave before; float32, on the CPU.

        Raises:
            BadFileError: If a kept file is damaged.
            CheckpointMismatchError: If it holds features by other weights or of other clouds.
        """
        clouds = hashlib.sha256(points.cpu().contiguous().numpy().tobytes()).hexdigest()
        key = json.dumps([clouds, list(points.shape), self.about])
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
        if path.exists():
            return self._read(path, key)
        with torch.inference_mode(False), torch.no_grad(), self.autocast():
            features = [part.float().cpu().contiguous() for part in self.towers(points)]
        self.num_encoded += len(points)
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            save_file({f"path{number}": part for number, part in enumerate(features)}, temporary, metadata={"key": key})
        return features

    def of_all(self, points: Tensor, batch_size: int, device: torch.device, progress: Callable[[Sequence[Tensor]], Any] = list) -> list[Tensor]:
        """Encode many clouds batch by batch; `progress` wraps the batches, as tqdm does."""
        parts = [self.features(part.to(device)) for part in progress(torch.split(points, batch_size))]
        return [torch.cat(path) for path in zip(*parts, strict=True)]

    def _read(self, path: Path, key: str) -> list[Tensor]:
        try:
            with safe_open(path, "pt") as file:
                if (file.metadata() or {}).get("key") != key:
                    raise CheckpointMismatchError(f"{path}: holds features by other weights or of other clouds; delete {self.folder}.")
                return [file.get_tensor(f"path{number}") for number in range(len(file.keys()))]
        except (SafetensorError, OSError) as error:
            raise BadFileError(f"{path}: kept view features cannot be read ({error}); delete it.") from error
