"""Frozen CLIP towers: pictures and texts to features, with weights from an open_clip tag or a file."""

from __future__ import annotations

import copy
import difflib
import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from jaxtyping import Float
from open_clip.convert import convert_state_dict
from torch import Tensor, nn

from clip2x.encoders import conv_tower as _conv_tower  # noqa: F401  registers our small image tower with timm
from clip2x.encoders.clip_files import ClipWeights, fit_weights, openai_files, read_clip_file
from clip2x.encoders.clip_reference import REFERENCE_MODEL, is_reference_text_tower, require_reference_cosines
from clip2x.errors import CheckpointMismatchError, DataNotFoundError, InputError

CONFIGS = Path(__file__).resolve().parent / "configs"
PRECISIONS = ("fp32", "bf16")
TEXT_CHUNK = 256  # texts encoded at a time; ours: bounds memory, changes nothing else

if CONFIGS.is_dir():
    open_clip.add_model_config(CONFIGS)


class ImageTower(nn.Module):
    """CLIP's image tower with its own normalisation, to be trained or kept frozen by whoever holds it.

    Attributes:
        image_size: Side of the pictures that it takes, pixels.
        embed_dim: E, length of the features.
    """

    colour_mean: Tensor
    colour_std: Tensor

    def __init__(self, visual: nn.Module, *, image_size: int, embed_dim: int, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap a tower; it is not copied.

        Args:
            visual: (B, 3, S, S) normalised pictures to (B, E) features.
            image_size: S, pixels.
            embed_dim: E.
            mean: Of each colour, subtracted from pictures in [0, 1].
            std: Of each colour, divided by.
        """
        super().__init__()
        self.visual, self.image_size, self.embed_dim = visual, image_size, embed_dim
        self.mean, self.std = tuple(mean), tuple(std)
        self.register_buffer("colour_mean", torch.tensor(self.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("colour_std", torch.tensor(self.std).view(3, 1, 1), persistent=False)

    def normalise(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Subtract the colours' mean and divide by their spread, as this CLIP was trained; pictures in [0, 1]."""
        return (images - self.colour_mean) / self.colour_std

    def encode_image(self, images: Float[Tensor, "B C H W"], normalise: bool = True) -> Float[Tensor, "B E"]:
        """Encode pictures to raw features (no unit length).

        Args:
            images: (B, 3, S, S) in [0, 1], S = `image_size`; resizing is the caller's decision.
            normalise: False gives the pictures to the tower as they are, as PointCLIP's code does.

        Raises:
            InputError: If the pictures have another shape.
        """
        size = self.image_size
        if tuple(images.shape[1:]) != (3, size, size):
            raise InputError(f"pictures must be (B, 3, {size}, {size}) for this CLIP, got {tuple(images.shape)}; resize them first.")
        return cast(Tensor, self.visual(self.normalise(images) if normalise else images))


class ClipTowers(nn.Module):
    """A frozen CLIP: always in evaluation mode, no gradients for its weights.

    Attributes:
        image_tower: The image tower with its normalisation.
        text_tower: The rest of open_clip's model: its text tower and the logit scale.
        image_size: Side of the pictures that the image tower takes, pixels.
        embed_dim: E, length of the features.
        mean, std: Of each colour, what `normalise` subtracts and divides by.
        model_id, tag: The open_clip id, and the tag that the weights came by; None for a file's.
        id: Model and where the weights came from: `model/tag`, `model/sha256:...` or `model/random:seed`.
        weights_sha256: Of the weight file; None for random weights.
        trained_words: Every word of the training captions for our own small CLIPs; None for CLIPs of web scale.
        metadata: What our own weight files say of themselves; empty for others.
    """

    def __init__(
        self, model: str = "ViT-B-32-quickgelu", pretrained: str | None = None, *, trust_torchscript: bool = False,
        precision: str = "fp32", random_weights: bool = False, seed: int = 0,
        mean: tuple[float, float, float] | None = None, std: tuple[float, float, float] | None = None,
    ) -> None:
        """Build the towers and load the weights.

        Args:
            model: An open_clip id. Weights that were trained with QuickGELU (all of OpenAI's) need an id that ends in `-quickgelu`.
            pretrained: An open_clip tag, e.g. `openai` (downloaded where there is a network), or the path of a weight file.
            trust_torchscript: Read TorchScript archives other than OpenAI's; loading one can run code from it.
            precision: Of the image tower: `bf16` computes it under autocast. Texts are encoded, and features returned, in float32.
            random_weights: Take random weights instead of `pretrained`; for tests and benchmarks.
            seed: Of the random weights.
            mean: Colour mean, where a file's model was published with more than one.
            std: Colour spread, likewise.

        Raises:
            InputError: If the model or the tag is unknown, or no weights are named.
            DataNotFoundError: If the file is absent or the tag cannot be downloaded.
            BadFileError: If the file cannot be used.
            CheckpointMismatchError: If the weights belong to another model or activation.
        """
        super().__init__()
        _require_known(model)
        if random_weights == (pretrained is not None):
            raise InputError("state either pretrained (an open_clip tag such as 'openai', or a weight file) or random_weights=true, "
                             f"got pretrained={pretrained!r} and random_weights={random_weights}.")
        if precision not in PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
        tag = pretrained if pretrained is not None and open_clip.pretrained.get_pretrained_cfg(model, pretrained) else None
        weights = None
        if pretrained is not None:
            weights = _file_weights(model, pretrained, trust_torchscript) if tag is None else _tag_weights(model, tag)
        self.model_id, self.precision, self.tag = model, precision, tag
        self.id = f"{model}/{tag}" if tag else f"{model}/sha256:{weights.sha256}" if weights else f"{model}/random:{seed}"
        self.weights_sha256 = None if weights is None else weights.sha256
        self.file = None if tag or pretrained is None else str(pretrained)  # that the weights are from
        self.metadata: dict[str, Any] = {} if weights is None else weights.metadata
        words = self.metadata.get("words")
        self.trained_words = None if words is None else frozenset(str(word).lower() for word in words)
        clip = _create(model, seed)
        if weights is not None:
            _load(clip, weights, model, str(pretrained))
        colours = (mean, std) if mean is not None and std is not None else _colours(model, tag, weights)
        self.image_size, self.embed_dim = _image_size(clip, model), int(open_clip.get_model_config(model)["embed_dim"])
        self.mean, self.std = tuple(colours[0]), tuple(colours[1])
        self.image_tower = ImageTower(clip.visual, image_size=self.image_size, embed_dim=self.embed_dim, mean=self.mean, std=self.std)
        del clip.visual
        self.text_tower = clip
        self._tokenize = _tokenizer(model)
        self.requires_grad_(False).eval()
        if weights is not None and is_reference_text_tower(clip):
            known = openai_files().get(weights.sha256) == REFERENCE_MODEL or f"{model}/{tag}" == f"{REFERENCE_MODEL}/openai"
            require_reference_cosines(self, clip, source=str(pretrained), known=known)

    @cached_property
    def content_sha256(self) -> str:
        """Hash of names and values of all weights, the same for every kind of file that they come in; computed when it is first asked for."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.cpu().contiguous().numpy())
        return digest.hexdigest()

    @property
    def logit_scale(self) -> float:
        """Factor on cosines before a softmax: the exponential of the trained parameter."""
        return float(self.text_tower.logit_scale.detach().exp())

    def normalise(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Subtract the colours' mean and divide by their spread, as this CLIP was trained; pictures in [0, 1]."""
        return self.image_tower.normalise(images)

    def encode_image(self, images: Float[Tensor, "B C H W"], normalise: bool = True) -> Float[Tensor, "B E"]:
        """Encode pictures to raw features (no unit length), float32.

        Args:
            images: (B, 3, S, S) in [0, 1], S = `image_size`; resizing is the caller's decision.
            normalise: False gives the pictures to the tower as they are, as PointCLIP's code does.

        Raises:
            InputError: If the pictures have another shape.
        """
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return self.image_tower.encode_image(images, normalise).float()

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "N E"]:
        """Encode texts to raw features (no unit length), float32; texts beyond the context length are cut as in CLIP.

        Raises:
            InputError: If there is no text, or a string is given instead of a list.
        """
        if isinstance(texts, str) or not texts:
            raise InputError(f"texts must be a list with at least one string, got {texts!r}.")
        device = self.image_tower.colour_mean.device
        chunks = []
        with torch.autocast(device.type, enabled=False):
            for start in range(0, len(texts), TEXT_CHUNK):
                tokens = self._tokenize(list(texts[start:start + TEXT_CHUNK])).to(device)
                chunks.append(_encode_tokens(self.text_tower, tokens).float())
        return torch.cat(chunks)

    def trainable_image_tower(self) -> ImageTower:
        """Copy the image tower for training; the official CLIP2Point code starts its depth encoder from CLIP's weights so."""
        return copy.deepcopy(self.image_tower).requires_grad_(True).train()

    def train(self, mode: bool = True) -> ClipTowers:
        """Stay in evaluation mode whatever a parent module asks for."""
        return super().train(False)


def uses_quick_gelu(model: str) -> bool:
    """Tell whether a model id of open_clip stands for a model with QuickGELU."""
    return bool((open_clip.get_model_config(model) or {}).get("quick_gelu", False))


def _require_known(model: str) -> None:
    names = open_clip.list_models()
    if model not in names:
        cleaned = model.replace("/", "-")  # OpenAI writes ViT-B/32
        close = [name for name in names if name.startswith(cleaned)][:4] or difflib.get_close_matches(cleaned, names, n=3, cutoff=0.5)
        hint = f"near it are {', '.join(close)}" if close else "`open_clip.list_models()` lists them"
        raise InputError(f"open_clip has no model {model!r}; {hint}.")


def _tag_weights(model: str, tag: str) -> ClipWeights:
    """Download what a tag stands for (or find it in open_clip's cache) and read it."""
    entry = open_clip.pretrained.get_pretrained_cfg(model, tag)
    if entry.get("quick_gelu", False) and not uses_quick_gelu(model):  # open_clip 3.3 only warns here, and computes other features
        raise CheckpointMismatchError(_quick_gelu_message(f"tag {tag!r}", model, "open_clip's table says so"))
    try:
        path = open_clip.download_pretrained(entry)
    except Exception as error:  # whatever the download libraries raise
        raise DataNotFoundError(f"weights {tag!r} of {model} cannot be downloaded ({_line(error)}); without a network give a weight file "
                                "instead of the tag.") from error
    return read_clip_file(path)


def _file_weights(model: str, path: str, trust_torchscript: bool) -> ClipWeights:
    if not Path(path).exists() and "/" not in path and "." not in path:
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise DataNotFoundError(f"{path!r} is neither a file nor a tag of {model}; its tags: {', '.join(tags) or 'none'}.")
    weights = read_clip_file(path, trust_torchscript=trust_torchscript)
    stated = weights.metadata.get("model")
    if stated is not None and stated != model:
        raise CheckpointMismatchError(f"{path}: says it is {stated}, you asked for {model}; ask for {stated}.")
    if weights.openai_layout and not uses_quick_gelu(model):
        raise CheckpointMismatchError(_quick_gelu_message(path, model, "the file has OpenAI's layout"))
    return weights


def _quick_gelu_message(source: str, model: str, reason: str) -> str:
    right = f"{model}-quickgelu"
    advice = f"use the model {right}" if right in open_clip.list_models() else "use a model with quick_gelu in its configuration"
    return f"{source}: these weights were trained with QuickGELU ({reason}), {model} computes GELU; {advice}."


def create_clip(model: str, seed: int) -> tuple[Any, Callable[[list[str]], Tensor]]:
    """Build an untrained CLIP of open_clip and its tokenizer (texts -> (N, L) tokens), to be trained.

    Raises:
        InputError: If the model is unknown.
    """
    _require_known(model)
    return _create(model, seed), _tokenizer(model)


def _create(model: str, seed: int) -> Any:
    """Build a model of open_clip with random weights, a function of the seed; the global generator is left as it was."""
    previous = logging.root.manager.disable
    logging.disable(max(previous, logging.WARNING))  # open_clip warns that no weights were loaded: they come later
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return open_clip.create_model(model, load_weights=False, pretrained_text=False)
    except (OSError, ImportError) as error:
        raise DataNotFoundError(f"{model} cannot be built ({_line(error)}); it needs a library or files from a network.") from error
    finally:
        logging.disable(previous)


def _load(clip: Any, weights: ClipWeights, model: str, source: str) -> None:
    state = convert_state_dict(clip, weights.state)  # names of other libraries, e.g. MobileCLIP's
    clip.load_state_dict(fit_weights(state, clip.state_dict(), model=model, source=source), strict=True)


def _tokenizer(model: str) -> Callable[[list[str]], Tensor]:
    try:
        return cast(Callable[[list[str]], Tensor], open_clip.get_tokenizer(model))
    except (OSError, ImportError, ValueError) as error:
        raise DataNotFoundError(f"no tokenizer for {model} ({_line(error)}); it needs a network or a filled cache.") from error


def _encode_tokens(clip: Any, tokens: Tensor) -> Tensor:
    """Encode token ids (N, T) as open_clip does, without the padding after the longest text where nothing looks at it.

    Attention is causal and the feature is read at the end-of-text token, which has the largest id, so what follows cannot matter. Ours:
    class names fill a tenth of CLIP's 77 tokens.
    """
    if not isinstance(clip, open_clip.CLIP) or clip.text_pool_type != "argmax" or clip.attn_mask is None:
        return cast(Tensor, clip.encode_text(tokens))
    ends = tokens.argmax(dim=-1)
    length = int(ends.max()) + 1
    x = clip.token_embedding(tokens[:, :length]) + clip.positional_embedding[:length]
    x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
    pooled: Tensor = x[torch.arange(len(x), device=x.device), ends]
    if clip.text_projection is None:
        return pooled
    return cast(Tensor, clip.text_projection(pooled) if isinstance(clip.text_projection, nn.Linear) else pooled @ clip.text_projection)


def _image_size(clip: Any, name: str) -> int:
    size = clip.visual.image_size
    sides = {int(side) for side in size} if isinstance(size, tuple | list) else {int(size)}
    if len(sides) != 1:
        raise InputError(f"{name} takes pictures of {size} pixels; only square ones are supported, choose another model.")
    return sides.pop()


def _colours(model: str, tag: str | None, weights: ClipWeights | None) -> tuple[Sequence[float], Sequence[float]]:
    """Find the colour mean and spread: the tag's, the file's own, else those with which the model was published if they agree."""
    if tag is not None:
        entry = open_clip.pretrained.get_pretrained_cfg(model, tag)
        return entry["mean"], entry["std"]
    if weights is not None and {"mean", "std"} <= set(weights.metadata):
        return weights.metadata["mean"], weights.metadata["std"]
    entries = [open_clip.pretrained.get_pretrained_cfg(model, known) for known in open_clip.list_pretrained_tags_by_model(model)]
    published = {(tuple(entry["mean"]), tuple(entry["std"])) for entry in entries}
    openai = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    if not published or weights is None or weights.openai_layout:
        return openai
    if len(published) > 1:
        raise InputError(f"{model} was published with {len(published)} different colour normalisations; state mean and std (OpenAI's: "
                         f"{', '.join(map(str, openai[0]))} and {', '.join(map(str, openai[1]))}).")
    return published.pop()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
