"""Tensors in safetensors files that carry a hash of their content: a changed bit is found when the file is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clip2x.storage import atomic_path

CONTENT_KEY = "content_sha256"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and texts as safetensors with their `content_sha256`, replacing the file in one step.

    Raises:
        OSError: If it cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(plain, str(temporary), metadata={**metadata, CONTENT_KEY: content_sha256(plain, metadata)})
        _sort_texts(temporary)


def read_tensors(path: Path, *, sealed: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file; where it carries the hash of its content the two are compared.

    Args:
        path: The file.
        sealed: Refuse a file without the hash.

    Returns:
        The tensors, and the texts that lie beside them, without the hash.

    Raises:
        ValueError: If it is damaged; says how.
    """
    try:
        with safe_open(str(path), framework="pt") as stream:
            tensors: dict[str, Tensor] = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  not a dict
            metadata: dict[str, str] = dict(stream.metadata() or {})
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, RuntimeError, TypeError, OverflowError) as error:
        raise ValueError(f"truncated or not safetensors: {' '.join(str(error).split())[:120]}") from error
    stated = metadata.pop(CONTENT_KEY, None)
    if stated is None and sealed:
        raise ValueError(f"it has no {CONTENT_KEY}")
    if stated is not None and stated != content_sha256(tensors, metadata):
        raise ValueError(f"it is not what was written: its content has another sha256 than its {CONTENT_KEY}")
    return tensors, metadata


def _sort_texts(path: Path) -> None:
    """Bring the texts of a file's header into order, in place: the library writes them in another one each time (safetensors 0.8)."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))


def content_sha256(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Hash texts, names, types, shapes and bytes, whatever order they come in."""
    digest = hashlib.sha256()
    for key, text in sorted(metadata.items()):
        digest.update(repr((key, text)).encode("utf-8", "backslashreplace"))
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode("utf-8", "backslashreplace"))
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
