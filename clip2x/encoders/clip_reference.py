"""Reference text cosines of OpenAI's ViT-B/32: they tell its weights from others, and QuickGELU from GELU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from clip2x.errors import CheckpointMismatchError

REFERENCE_MODEL = "ViT-B-32-quickgelu"
REFERENCE_NAMES = ("airplane", "alarm clock", "banana", "bathtub", "bed", "bookcase", "car", "chair", "dog", "guitar", "piano", "sofa")
REFERENCE_PROMPT = "a {}"
# Cosines of the pairs (0, 1), (0, 2), ..., (10, 11) of REFERENCE_NAMES, rounded to 4 digits. Computed from the CLIP ViT-B/32 text features
# in Detic's released metadata (Apache-2.0), stored there in half precision.
REFERENCE_COSINES = (
    0.8004, 0.8000, 0.7685, 0.8246, 0.7960, 0.8454, 0.8088, 0.8623, 0.8432, 0.8234, 0.7429,
    0.7296, 0.7316, 0.8479, 0.7945, 0.8090, 0.7635, 0.8142, 0.7997, 0.7695, 0.7059,
    0.7507, 0.7927, 0.7392, 0.7902, 0.7680, 0.8186, 0.8051, 0.7922, 0.7441,
    0.8539, 0.7535, 0.7891, 0.7863, 0.7780, 0.7903, 0.8127, 0.7805,
    0.8436, 0.8510, 0.8491, 0.8646, 0.8412, 0.8372, 0.8417,
    0.7980, 0.8436, 0.8180, 0.8199, 0.8165, 0.7758,
    0.8124, 0.8587, 0.8420, 0.8412, 0.7690,
    0.8369, 0.8349, 0.8354, 0.8479,
    0.8486, 0.8116, 0.7791,
    0.8555, 0.7728,
    0.8056,
)
# Ours. Half precision moves these cosines by less than 0.001 (measured on random weights), other weights by more than 0.1. Swapping the
# activation moves them by 0.002 to 0.005 on random weights, too near for a threshold: that is found by trying both (`compare_activations`).
REFERENCE_TOLERANCE = 0.01


@runtime_checkable
class TextEncoder(Protocol):
    """What encodes texts: `ClipTowers`."""

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Encode N texts to (N, E) raw features."""


def check_reference_cosines(towers: TextEncoder) -> float:
    """Return the largest deviation of the towers' text cosines from those of OpenAI's ViT-B/32."""
    with torch.no_grad():
        features = towers.encode_text([REFERENCE_PROMPT.format(name) for name in REFERENCE_NAMES]).double().cpu()
    embeds = nn.functional.normalize(features, dim=-1)
    rows, columns = torch.triu_indices(len(embeds), len(embeds), offset=1)
    cosines = (embeds[rows] * embeds[columns]).sum(dim=-1)
    return float((cosines - torch.tensor(REFERENCE_COSINES, dtype=torch.float64)).abs().max())


def is_reference_text_tower(model: nn.Module) -> bool:
    """Tell whether a model has the shape of ViT-B/32's text tower (width 512, 12 layers, features of 512)."""
    transformer, projection = getattr(model, "transformer", None), getattr(model, "text_projection", None)
    if transformer is None or not isinstance(projection, Tensor):
        return False
    return tuple(projection.shape) == (512, 512) and len(transformer.resblocks) == 12


def compare_activations(towers: TextEncoder, model: nn.Module) -> tuple[float, float]:
    """Return the deviations of the towers as they are and with QuickGELU and GELU swapped in their text tower.

    Args:
        towers: Encodes texts with `model`.
        model: An open_clip model for which `is_reference_text_tower` holds; left as it was.
    """
    as_built = check_reference_cosines(towers)
    with _swapped_activation(model):
        swapped = check_reference_cosines(towers)
    return as_built, swapped


def require_reference_cosines(towers: TextEncoder, model: nn.Module, *, source: str, known: bool) -> None:
    """Refuse weights of OpenAI's ViT-B/32 in a model with the wrong activation, or that do not give its text features.

    Args:
        towers: Encodes texts with `model`.
        model: An open_clip model for which `is_reference_text_tower` holds.
        source: The file or tag, for the message.
        known: The weights are said to be OpenAI's (hash or tag); without it only the activation is judged, and only if they prove to be.

    Raises:
        CheckpointMismatchError: If so.
    """
    as_built, swapped = compare_activations(towers, model)
    if swapped < as_built and swapped <= REFERENCE_TOLERANCE:
        raise CheckpointMismatchError(f"{source}: gives the text features of OpenAI's ViT-B/32 only with the other activation (cosines off "
                                      f"by {as_built:.4f}, by {swapped:.4f} with it); use the model {REFERENCE_MODEL}.")
    if known and as_built > REFERENCE_TOLERANCE:
        raise CheckpointMismatchError(f"{source}: not OpenAI's ViT-B/32: its text cosines are off by {as_built:.3f} (at most "
                                      f"{REFERENCE_TOLERANCE} is expected); get the file again and use the model {REFERENCE_MODEL}.")


@contextmanager
def _swapped_activation(model: nn.Module) -> Iterator[None]:
    transformer = model.transformer
    assert isinstance(transformer, nn.Module)
    mlps = [module for module in transformer.modules() if isinstance(getattr(module, "gelu", None), nn.GELU | QuickGELU)]
    originals = [mlp.gelu for mlp in mlps]
    try:
        for mlp, original in zip(mlps, originals, strict=True):
            mlp.gelu = nn.GELU() if isinstance(original, QuickGELU) else QuickGELU()
        yield
    finally:
        for mlp, original in zip(mlps, originals, strict=True):
            mlp.gelu = original
