"""Floating-point operations of one forward pass, counted by torch.utils.flop_counter (a multiplication and an addition are two).

A training step takes three times the forward pass of what is trained (its backward pass counts twice) and once that of what is frozen.
"""

from __future__ import annotations

import argparse

import open_clip
import torch
from torch.utils.flop_counter import FlopCounterMode

from clip2x.adapters import AdapterSettings, GatedFusion
from clip2x.encoders.points import PointTransformer

OWLV2 = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "image_size": 960, "patch_size": 16}
"""google/owlv2-base-patch16-ensemble; third party: its configuration."""


def count(model: torch.nn.Module, *shape: int, device: str = "meta") -> int:
    """Count one forward pass on a batch of one."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.to(device).eval()(torch.rand(1, *shape, device=device))
    return counter.get_total_flops()


def image_tower(model: str = "ViT-B-32-quickgelu") -> int:
    """FLOPs of a picture at 224 px."""
    with torch.device("meta"):
        tower = open_clip.CLIP(**open_clip.get_model_config(model)).visual
    return count(tower, 3, 224, 224)


def point_encoder(size: str, num_points: int = 1024) -> int:
    """FLOPs of a cloud; its grouping (minima and comparisons, no products of matrices) is not among them."""
    return count(PointTransformer(512, size), num_points, 3, device="cpu")


def adapter(views: int = 10, width: int = 512) -> int:
    """FLOPs of a cloud in GDPA, behind both towers."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        GatedFusion((views, views), width, AdapterSettings()).eval()([torch.randn(1, views, width)] * 2)
    return counter.get_total_flops()


def detector() -> int | None:
    """FLOPs of a picture in OWLv2's vision tower, whose 960 px it fills whatever the camera's size; None without transformers."""
    try:
        from transformers import Owlv2VisionConfig
        from transformers.models.owlv2.modeling_owlv2 import Owlv2VisionModel
    except ImportError:
        return None
    with torch.device("meta"):
        tower = Owlv2VisionModel(Owlv2VisionConfig(**OWLV2))
    return count(tower, 3, OWLV2["image_size"], OWLV2["image_size"])


def counted() -> dict[str, int | None]:
    """All of them, by name."""
    return {
        "ViT-B/32 image tower, a picture of 224 px": image_tower(),
        "point transformer small, a cloud of 1,024 points": point_encoder("small"),
        "point transformer tiny, a cloud of 512 points": point_encoder("tiny", 512),
        "GDPA behind the towers, a cloud": adapter(), "OWLv2 B/16 vision tower, a picture of 960 px": detector(),
    }


def main() -> None:
    """Print them."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, flops in counted().items():
        print(f"{name}: {'transformers is not installed' if flops is None else f'{flops / 1e9:.2f} GFLOP'}")


if __name__ == "__main__":
    main()
