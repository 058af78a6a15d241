"""Read CLIP weights from a file, without running anything that stands in it unless the file is known or trusted.

Accepted: OpenAI's TorchScript archives, plain state dicts, open_clip training checkpoints, safetensors, and our own checkpoints that carry
their CLIP. What a file holds is judged by its content, never by its name. See `docs/clip_weights.md` and `docs/checkpoints.md`.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
from torch import Tensor

from clip2x.encoders import slip
from clip2x.errors import BadFileError, CheckpointMismatchError, DataNotFoundError
from clip2x.storage import sha256_of_file
from clip2x.tensor_files import read_tensors, save_tensors
from clip2x.untrusted import bare, excerpt, json_value, require_plain

FileKind = Literal["torchscript", "pickle", "safetensors"]
OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")  # official code (openai/CLIP, clip/model.py): extra keys
METADATA_KEY = "clip2x"
MOST_CLAIMED = 1 << 30  # ours: bytes of views that repeat what a file holds once
PACKED_CODE = 1 << 24  # ours: bytes of code in a TorchScript archive, which alone is stored packed
# What torch.load raises for damaged files (found by changing bytes at random).
BROKEN_PICKLE = (RuntimeError, ValueError, EOFError, KeyError, OSError, TypeError, IndexError, AttributeError, AssertionError, OverflowError,
                 MemoryError, struct.error)
CARRIED = {"clip.image_tower.visual.": "visual.", "clip.text_tower.": "", "clip.": ""}  # names of a CLIP in our checkpoints -> open_clip's
VIT_NAMES = {  # (width, layers) of the image tower -> the usual name. Source: the configs of open_clip 3.3
    (192, 12): "Ti", (384, 12): "S", (512, 12): "M", (768, 12): "B", (1024, 24): "L", (1280, 32): "H", (1408, 40): "g", (1664, 48): "bigG",
}
RESNET_NAMES: dict[tuple[tuple[int, ...], int], str] = {  # (blocks per stage, width) -> the usual name. Source: the same
    ((3, 4, 6, 3), 64): "RN50", ((3, 4, 23, 3), 64): "RN101", ((4, 6, 10, 6), 80): "RN50x4", ((6, 8, 18, 8), 96): "RN50x16",
    ((3, 15, 36, 10), 128): "RN50x64",
}


@dataclass(frozen=True)
class ClipWeights:
    """Weights as a file holds them, in open_clip's names, float32.

    state: parameter name -> tensor.
    sha256: of the whole file, lower-case hexadecimal; of a CLIP that a checkpoint carries, that of the CLIP's own file.
    openai_layout: the file is an archive of OpenAI's or carries its extra keys, so it was trained with QuickGELU.
    metadata: what our own files say of themselves (`words`, `model`, `seed`, ...); empty for others.
    logit_scale: the factor on cosines where a file keeps it beside its weights, as OpenShape's do; None for others.
    """

    state: dict[str, Tensor]
    sha256: str
    openai_layout: bool
    metadata: dict[str, Any] = field(default_factory=dict)
    logit_scale: float | None = None


def openai_files() -> dict[str, str]:
    """Map the sha256 of each weight file that OpenAI published to the model's id with QuickGELU.

    Source: the addresses in open_clip's table of pretrained models, which contain the hashes; `official code` (openai/CLIP, clip/clip.py)
    lists the same.
    """
    known = {}
    for model, tag in open_clip.list_pretrained():
        address = open_clip.get_pretrained_url(model, tag)
        if tag == "openai" and "openaipublic" in address and model.endswith("-quickgelu"):
            known[address.split("/")[-2]] = model
    return known


def read_clip_file(path: str | Path, *, trust_torchscript: bool = False) -> ClipWeights:
    """Read a CLIP from a weight file of any accepted kind, or from a checkpoint that carries it.

    Args:
        path: The file.
        trust_torchscript: Read a TorchScript archive although it is none of OpenAI's. Loading such an archive can run code from it.

    Raises:
        DataNotFoundError: If there is no file.
        BadFileError: If it is a folder, empty, damaged, not a weight file, or an archive that is not trusted.
        CheckpointMismatchError: If it is a checkpoint that does not carry its CLIP.
    """
    weights = read_weights(path, trust_torchscript=trust_torchscript)
    weights = _carried_clip(weights, path) if "clip_metadata" in weights.metadata else weights
    if not weights.metadata and slip.carries_slip(weights.state):
        weights = replace(weights, state=slip.slip_state(weights.state), metadata={"mean": list(slip.MEAN), "std": list(slip.STD)})
    _require_clip_metadata(weights.metadata, path)
    return weights


def read_weights(path: str | Path, *, trust_torchscript: bool = False) -> ClipWeights:
    """Read all that a weight file or checkpoint holds, in its own names; arguments and errors as of `read_clip_file`."""
    path = Path(path)
    kind = _file_kind(path)
    digest = sha256_of_file(path)
    metadata: dict[str, Any] = {}
    scale = None
    if kind == "safetensors":
        state, metadata = _read_safetensors(path)
    elif kind == "torchscript":
        state = _read_torchscript(path, trust_torchscript)
    else:
        state, metadata, scale = _read_pickle(path)
    openai_layout = kind == "torchscript" or any(mark in state for mark in OPENAI_MARKS)
    return ClipWeights(_clean(state, path), digest, openai_layout, metadata, scale)


def save_clip_file(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a small CLIP as safetensors with what it says of itself (JSON) and a hash of both, replacing the file in one step.

    Args:
        path: Usually ends in `.safetensors`.
        state: Parameter name -> tensor.
        metadata: Plain values; `model` (an open_clip id) and `words` (every word of the training captions) are read back by `ClipTowers`,
            and so are `mean` and `std` where they are given.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    save_tensors(Path(path), tensors, {METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)})


def describe_weights(state: Mapping[str, Tensor]) -> str:
    """Say in a few words which architecture the weights belong to, judged by their names and shapes."""
    text = f", text width {state['token_embedding.weight'].shape[1]}" if _has(state, "token_embedding.weight", 2) else ""
    if any(name.startswith("vision_model.") for name in state):
        return "CLIP weights in the layout of the transformers library (convert them to open_clip's names first)"
    if any(name.startswith("visual.layer1.") for name in state) and _has(state, "visual.conv1.weight", 4):
        blocks = tuple(_count(state, f"visual.layer{stage}.") for stage in range(1, 5))
        width = 2 * state["visual.conv1.weight"].shape[0]
        name = RESNET_NAMES.get((blocks, width), "ResNet")
        return f"{name} weights (blocks {'-'.join(map(str, blocks))}, width {width}{text})"
    if _has(state, "visual.conv1.weight", 4) and _has(state, "visual.positional_embedding", 2):
        width, _, patch, _ = state["visual.conv1.weight"].shape
        layers = _count(state, "visual.transformer.resblocks.")
        size = patch * round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        name = VIT_NAMES.get((width, layers), "ViT")
        name = f"ViT-{name}/{patch}" if name != "ViT" else "ViT"
        return f"{name} weights (patch {patch}, width {width}, {layers} layers, {size} px{text})"
    if any(name.startswith("visual.trunk.") for name in state):
        return f"CLIP weights with a timm image tower ({_count_weights(state)}{text})"
    if any(name.startswith("visual.") for name in state):
        return f"CLIP weights of an unknown architecture ({_count_weights(state)}{text})"
    return f"no CLIP weights ({_count_weights(state)}, first {min(state)!r})"


def fit_weights(state: Mapping[str, Tensor], target: Mapping[str, Tensor], *, model: str, source: str) -> dict[str, Tensor]:
    """Check that weights fit a model and return them in its names.

    Args:
        state: Weights from a file.
        target: State dict of the model that they are for.
        model: Its id, for the message.
        source: The file's name, for the message.

    Raises:
        CheckpointMismatchError: If they are another architecture's, or names or shapes differ.
    """
    if "positional_embedding" in state and "positional_embedding" not in target and "text.positional_embedding" in target:
        state = open_clip.model.convert_to_custom_text_state_dict(dict(state))
    fitted = {name: tensor for name, tensor in state.items() if name in target or not name.endswith("position_ids")}
    found, wanted = describe_weights(fitted), describe_weights(target)
    if found != wanted:
        raise CheckpointMismatchError(f"{source}: these are {found}; you asked for {model}, which has {wanted}; change one of the two.")
    for name in ("logit_scale", "logit_bias"):  # stored with or without an axis of length 1
        if name in fitted and name in target and fitted[name].numel() == target[name].numel():
            fitted[name] = fitted[name].reshape(target[name].shape)
    missing = sorted(set(target) - set(fitted))
    unexpected = sorted(set(fitted) - set(target))
    if missing or unexpected:
        kinds = ((missing, "missing"), (unexpected, "not the model's"))
        parts = [f"{len(names)} weights {kind} (first {names[0]!r})" for names, kind in kinds if names]
        raise CheckpointMismatchError(f"{source}: does not fit {model}: {', '.join(parts)}; give a complete file of that model.")
    for name, tensor in target.items():
        if fitted[name].shape != tensor.shape:
            raise CheckpointMismatchError(f"{source}: {name} is {tuple(fitted[name].shape)}, {model} needs {tuple(tensor.shape)}; "
                                          "the file belongs to another model.")
    return fitted


def _file_kind(path: Path) -> FileKind:
    if path.is_dir():
        raise BadFileError(f"{path}: a folder, not a weight file; name the file inside it.")
    if path.suffix in (".pt2", ".onnx") and path.is_file():
        raise BadFileError(f"{path}: an exported graph, not a weight file; run it with torch.export.load or onnxruntime (docs/export.md), or give "
                           "the checkpoint that it was made of.")
    if not path.is_file():
        raise DataNotFoundError(f"{path}: no such weight file; give a .pt or .safetensors file, or an open_clip tag such as 'openai'.")
    with path.open("rb") as stream:
        head = stream.read(16)
    if len(head) < 16:
        raise BadFileError(f"{path}: {len(head)} bytes long, not a weight file; copy or download it again.")
    if head[8:9] == b"{":
        return "safetensors"
    if head[:2] == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
                unpacked = sum(item.file_size for item in archive.infolist())
        except (zipfile.BadZipFile, OSError, ValueError, struct.error, RuntimeError, IndexError) as error:
            raise BadFileError(f"{path}: truncated or damaged (its table of contents is gone); copy or download it again.") from error
        if unpacked > path.stat().st_size + PACKED_CODE:
            raise BadFileError(f"{path}: its entries claim {unpacked:,} bytes, the file has {path.stat().st_size:,}; PyTorch stores weights "
                               "unpacked, so this is none; copy or download it again.")
        return "torchscript" if any("/code/" in name or name.endswith("/constants.pkl") for name in members) else "pickle"
    if head[:1] == b"\x80":
        return "pickle"
    raise BadFileError(f"{path}: not a weight file (it starts with {head[:8]!r}); accepted are PyTorch files and safetensors.")


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        state, texts = read_tensors(path)
    except ValueError as error:
        raise BadFileError(f"{path}: {_line(error)}; copy or download it again.") from error
    if METADATA_KEY in texts and (odd := sorted(texts.keys() - {METADATA_KEY, "format"})):  # a changed name would hide the hash of the content
        raise BadFileError(f"{path}: damaged, its text {excerpt(odd[0])} is none that clip2x writes; copy or download it again.")
    try:
        metadata = json_value(texts.get(METADATA_KEY, "{}"))
    except ValueError as error:
        raise BadFileError(f"{path}: its {METADATA_KEY!r} metadata is not JSON ({_line(error)}); write the file again.") from error
    if not isinstance(metadata, dict):
        raise BadFileError(f"{path}: its {METADATA_KEY!r} metadata is a {type(metadata).__name__}, not a mapping; write the file again.")
    return dict(state), metadata


def _read_torchscript(path: Path, trusted: bool) -> dict[str, Any]:
    content = path.read_bytes()  # hash and load the same bytes
    digest = hashlib.sha256(content).hexdigest()
    if digest not in openai_files() and not trusted:
        raise BadFileError(f"{path}: a TorchScript archive that is none of OpenAI's (sha256 {digest[:12]}...), and loading one can run its "
                           "code; use a state dict or safetensors, or set trust_torchscript=true if you made the file.")
    try:
        module = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise BadFileError(f"{path}: damaged TorchScript archive ({_line(error)}); copy or download it again.") from error
    return {name: tensor.detach() for name, tensor in module.state_dict().items()}


def _read_pickle(path: Path) -> tuple[dict[str, Any], dict[str, Any], float | None]:
    try:
        # given a name, PyTorch reads what looks like safetensors by another library; Namespace: plain values under names, as ULIP's files keep
        with path.open("rb") as stream, torch.serialization.safe_globals([Namespace]):
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadFileError(f"{path}: holds more than weights, or is damaged; only tensors and plain values are read (weights_only). "
                           "Save its state dict alone.") from error
    except BROKEN_PICKLE as error:
        raise BadFileError(f"{path}: truncated or damaged ({_line(error)}); copy or download it again.") from error
    metadata = content.get(METADATA_KEY) if isinstance(content, dict) else None
    try:
        require_plain(metadata)
    except ValueError as error:
        raise BadFileError(f"{path}: its {METADATA_KEY!r} metadata holds {error}; write the file again.") from error
    scale = _scale_beside(content)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise BadFileError(f"{path}: holds a {type(content).__name__}, not a state dict; save model.state_dict().")
    return dict(content), metadata if isinstance(metadata, dict) else {}, scale


def _scale_beside(content: Any) -> float | None:
    """Find the scale in a training checkpoint: `logit_scale`, a state dict with one number, the logarithm, as OpenShape's code writes it."""
    beside = content.get("logit_scale") if isinstance(content, dict) and "state_dict" in content else None
    tensors = list(beside.values()) if isinstance(beside, dict) else []
    if len(tensors) != 1 or not isinstance(tensors[0], Tensor) or tensors[0].numel() != 1 or not tensors[0].is_floating_point():
        return None
    scale = float(tensors[0].float().exp())
    return scale if 0 < scale < 1e6 else None


def _carried_clip(weights: ClipWeights, path: str | Path) -> ClipWeights:
    """Take the CLIP out of a checkpoint, as its own file gave it."""
    about = weights.metadata
    state = {}
    for name, tensor in weights.state.items():
        prefix = next((prefix for prefix in CARRIED if name.startswith(prefix)), None)
        if prefix is not None:
            state[CARRIED[prefix] + name.removeprefix(prefix)] = tensor
    if not state or about.get("clip_sha256") is None:
        raise CheckpointMismatchError(f"{path}: a checkpoint of {bare(about.get('stage'))} without its CLIP, {bare(about.get('clip'))}; give "
                                      "that CLIP's tag or weight file.")
    if not isinstance(about["clip_sha256"], str) or not isinstance(about["clip_metadata"], dict):
        raise BadFileError(f"{path}: does not say which CLIP it carries, so it is damaged; write it again.")
    return ClipWeights(state, about["clip_sha256"], weights.openai_layout, about["clip_metadata"])


def _require_clip_metadata(metadata: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a CLIP whose own words cannot be used."""
    model, words = metadata.get("model"), metadata.get("words")
    colours = [metadata[key] for key in ("mean", "std") if key in metadata]
    good = isinstance(model, str | None) and (words is None or (isinstance(words, list) and all(isinstance(word, str) for word in words)))
    good = good and all(isinstance(part, list) and len(part) == 3 and all(isinstance(side, int | float) for side in part) for part in colours)
    if not good:
        raise BadFileError(f"{path}: its {METADATA_KEY!r} metadata must have a text 'model', a list of 'words', and three numbers each for 'mean' "
                           "and 'std', where it has them; write the file again.")


def _claimed(name: str, tensor: Tensor, path: Path) -> int:
    """Say how many bytes a tensor claims that it does not hold, as views that repeat one number do; refuse kinds that no CLIP has."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != "cpu" or tensor.is_complex():
        raise BadFileError(f"{path}: {name[:80]} is a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}, no plain weight.")
    return max(0, tensor.numel() * tensor.element_size() - tensor.untyped_storage().nbytes())


def _clean(state: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Drop OpenAI's extra keys and the prefix of data-parallel training; make every float 32 bits wide."""
    if state and all(isinstance(name, str) and name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    cleaned: dict[str, Tensor] = {}
    claimed = 0
    for name, value in state.items():
        if name in OPENAI_MARKS:
            continue
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise BadFileError(f"{path}: entry {excerpt(name)} is a {type(value).__name__}, not a tensor; this is no state dict of a CLIP.")
        claimed += _claimed(name, value, path)
        if claimed > MOST_CLAIMED:
            raise BadFileError(f"{path}: up to {name[:80]} its weights claim {claimed:,} bytes that are not there; the file is damaged.")
        cleaned[name] = value.float() if value.is_floating_point() else value
        if value.is_floating_point() and not bool(torch.isfinite(cleaned[name]).all()):
            raise BadFileError(f"{path}: {name} has values that are not finite; the file is damaged or its training diverged.")
    if not cleaned:
        raise BadFileError(f"{path}: holds no weights.")
    return cleaned


def _has(state: Mapping[str, Tensor], name: str, ndim: int) -> bool:
    return name in state and state[name].ndim == ndim


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix):].split(".")[0] for name in state if name.startswith(prefix)})


def _count_weights(state: Mapping[str, Tensor]) -> str:
    return f"{len(state)} tensors, {sum(tensor.numel() for tensor in state.values()):,} numbers"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
