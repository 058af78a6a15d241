"""Checkpoints of trainings as files: whole or not there, on the disk before they have their name, and checked before they are read."""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from clip2x.errors import BadFileError, DataNotFoundError
from clip2x.storage import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place and move it there when all of it is on the disk.

    Lightning's own way goes through the system's temporary folder: where that is another disk, its last step is a copy, which a full disk or
    a kill cuts off in the middle of the only good file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write one; the file that is there stays until the new one is complete.

        Raises:
            OSError: If the disk is full.
        """
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as stream:
            try:
                torch.save(checkpoint, stream)
            except RuntimeError as error:  # PyTorch's writer finds the file too short, and hides why
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None
            stream.flush()
            os.fsync(stream.fileno())

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Compare the checksums of a checkpoint and read it, data only.

        Raises:
            DataNotFoundError: If there is none.
            BadFileError: If it is damaged; says what else can be gone on with.
        """
        place = Path(path)
        if not place.is_file():
            raise DataNotFoundError(f"{place}: there is no such checkpoint; give a .ckpt file (--ckpt_path), or last.")
        loaded: Mapping[str, Any] = {}
        if not (problem := damage(place)):
            try:
                with place.open("rb") as stream:  # given a name, PyTorch reads what looks like safetensors by another library
                    loaded = torch.load(stream, map_location=map_location or "cpu", weights_only=True)
            except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as error:
                problem = f"cannot be read as data ({str(error).splitlines()[0][:160]})"
        if problem:
            others = sorted(str(other) for other in place.parent.glob("*.ckpt") if other != place)
            instead = f"go on with --ckpt_path {others[0]}, or delete" if others else "delete"
            raise BadFileError(f"{place}: {problem}; {instead} the folder {place.parent} to start again.")
        return dict(loaded)


def damage(path: Path) -> str | None:
    """Say what is wrong with a file of `torch.save`, which is a zip archive with a checksum for each part; None for a whole one."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        return f"is damaged or no checkpoint ({str(error) or type(error).__name__})"
    return None if broken is None else f"is damaged: the checksum of its part {broken} is wrong"
