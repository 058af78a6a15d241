"""SLIP's ViT-B/16, the CLIP of ULIP, in the names that ULIP's files give it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

MODEL = "SLIP-ViT-B-16"  # our configuration of open_clip: timm's vit_base_patch16_224 and CLIP's text tower with QuickGELU
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # official code (salesforce/ULIP, main.py)
PARTS = {"visual", "transformer", "token_embedding", "positional_embedding", "ln_final", "image_projection", "text_projection"}
"""Official code (salesforce/ULIP, models/ULIP_models.py, ULIP_WITH_IMAGE): its parts beside the point encoder and the scale."""


def carries_slip(state: Mapping[str, Tensor]) -> bool:
    """Tell whether weights hold SLIP beside whatever else; `image_projection` is named so in no other CLIP that is read here."""
    return {name.split(".")[0] for name in state} >= PARTS


def slip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take SLIP out of weights for which `carries_slip` holds, in open_clip's names; the point encoder beside it is left out."""
    found = {}
    for name, tensor in state.items():
        part = name.split(".")[0]
        if part == "visual":
            found["visual.trunk." + name.removeprefix("visual.")] = tensor
        elif part == "image_projection":
            found["visual.head.proj.weight"] = tensor.mT if tensor.ndim == 2 else tensor
        elif part in PARTS or name == "logit_scale":
            found[name] = tensor
    return found
