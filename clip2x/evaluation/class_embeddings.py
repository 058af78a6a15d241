"""Class names and prompt templates to text embeddings: computed once, kept by content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.tensor_files import read_tensors, save_tensors
from clip2x.untrusted import excerpt

CACHE_VERSION = 2  # counted up when the way to embeddings, or of keeping them, changes


@runtime_checkable
class TextTower(Protocol):
    """What encodes texts and says which weights it has: `ClipTowers`."""

    id: str
    trained_words: frozenset[str] | None

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Encode N texts to (N, E) raw features."""


def class_embeddings(
    towers: TextTower, class_names: Sequence[str], templates: Sequence[str], *, cache: str | Path | None = None,
) -> Float[Tensor, "C E"]:
    """Embed class names: per class the mean of the unit vectors over the templates, scaled to unit length.

    Args:
        towers: Their `id` is part of the cache's key.
        class_names: In label order.
        templates: Each with one {} for the name.
        cache: Folder for results, by a hash of tower, names and templates; a damaged file in it is computed again, and
            a folder that cannot be written only costs time. None keeps nothing.

    Returns:
        float32, on the CPU, without gradient.

    Raises:
        InputError: If there are no names or templates, a name is empty or stands twice, or a template lacks its {}.

    Source: prompt ensembling of CLIP (arXiv:2103.00020); with one template it is the plain text embedding, as in CLIP2Point.
    """
    _check_names(class_names)
    _check_templates(templates)
    key = json.dumps([CACHE_VERSION, towers.id, list(class_names), list(templates)])
    path = None if cache is None else Path(cache) / f"class_embeddings-{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    stored = None if path is None else _read_cache(path, key, len(class_names))
    if stored is not None:
        return stored
    texts = [template.format(name) for name in class_names for template in templates]
    with torch.inference_mode(False), torch.no_grad():  # the result may be used in training although it was made in evaluation
        embeds = functional.normalize(towers.encode_text(texts).float(), dim=-1).view(len(class_names), len(templates), -1)
        embeds = functional.normalize(embeds.mean(dim=1), dim=-1).cpu()
    if path is not None:
        with suppress(OSError):
            save_tensors(path, {"embeds": embeds}, {"key": key})
    return embeds


def centred(embeds: Float[Tensor, "C E"], mean: Float[Tensor, "E"]) -> Float[Tensor, "C E"]:
    """Remove a mean from text embeddings and scale them to unit length again.

    Source: ours; names in one template share most of their direction, and what is left tells them apart.
    """
    return functional.normalize(embeds - mean.to(embeds), dim=-1)


def read_class_file(path: str | Path) -> list[str]:
    """Read class names from a text file: one per line; empty lines and what follows a `#` are ignored.

    Raises:
        DataNotFoundError: If there is no such file.
        BadFileError: If it is not text, has no names, or has one twice (letter case aside).
    """
    path = Path(path)
    if not path.is_file():
        raise DataNotFoundError(f"{path}: no such class file; it holds one name per line.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise BadFileError(f"{path}: not a readable UTF-8 text file; write one class name per line.") from error
    first_line: dict[str, int] = {}
    names = []
    for number, line in enumerate(lines, start=1):
        name = " ".join(line.split("#")[0].split())
        if not name:
            continue
        if name.lower() in first_line:
            raise BadFileError(f"{path}: {excerpt(name)} stands on line {first_line[name.lower()]} and on line {number}; remove one.")
        first_line[name.lower()] = number
        names.append(name)
    if not names:
        raise BadFileError(f"{path}: holds no class name; write one per line.")
    return names


def unknown_words(towers: TextTower, class_names: Sequence[str]) -> list[str]:
    """List the names that contain a word which a small CLIP never saw in training; empty for a CLIP of web scale."""
    known = towers.trained_words
    if known is None:
        return []
    return [name for name in class_names if not set(re.findall(r"[^\W_]+", name.lower())) <= known]


def _check_names(class_names: Sequence[str]) -> None:
    if isinstance(class_names, str) or not class_names:
        raise InputError(f"class names must be a list with at least one name, got {class_names!r}.")
    first: dict[str, int] = {}
    for position, name in enumerate(class_names):
        if not name.strip():
            raise InputError(f"class name {position} is empty; remove it.")
        if name.strip().lower() in first:
            raise InputError(f"class {name!r} stands twice, at positions {first[name.strip().lower()]} and {position}; remove one.")
        first[name.strip().lower()] = position


def _check_templates(templates: Sequence[str]) -> None:
    if isinstance(templates, str) or not templates:
        raise InputError(f"templates must be a list with at least one, e.g. 'a photo of a {{}}', got {templates!r}.")
    for template in templates:
        if template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1:
            raise InputError(f"template {template!r} needs exactly one {{}} for the class name, e.g. 'a photo of a {{}}'.")


def _read_cache(path: Path, key: str, num_classes: int) -> Tensor | None:
    """Read stored embeddings; None if there are none, or the file is damaged or another's."""
    if not path.is_file():
        return None
    try:
        tensors, texts = read_tensors(path, sealed=True)
    except ValueError:
        return None
    embeds = tensors.get("embeds")
    sound = texts.get("key") == key and embeds is not None and embeds.ndim == 2 and embeds.dtype == torch.float32 and len(embeds) == num_classes
    return embeds if sound else None
