"""Small CLIPs of open_clip's kind with random weights, for tests that need no trained one."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from torch import Tensor

from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.clip_files import save_clip_file

MODEL, GELU, LONG = "tests-small-quickgelu", "tests-small", "tests-long-quickgelu"
WIDTHS = {MODEL: 32, GELU: 32, LONG: 48}


def register_small_clips(folder: Path) -> None:
    """Make the models known to open_clip; they take pictures of 32 pixels."""
    for name, embed_dim in WIDTHS.items():
        vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
        text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
        (folder / f"{name}.json").write_text(json.dumps({"embed_dim": embed_dim, "quick_gelu": name != GELU, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)


def clip_state(model: str = MODEL, seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(open_clip.create_model(model, load_weights=False).state_dict())


def own_clip(path: Path, model: str = MODEL) -> ClipTowers:
    """A small CLIP as `make pretrain-clip` writes it: it says which words it knows, and travels inside of checkpoints."""
    save_clip_file(path, clip_state(model), {"stage": "pretrain_clip", "model": model, "words": ["Chair", "bed", "cloud", "of", "point"],
                                             "mean": [0.4] * 3, "std": [0.3] * 3, "encoder": {"kind": "depth_views", "up": "y"}})
    return ClipTowers(model, str(path))


def large_clip(path: Path, model: str = MODEL) -> ClipTowers:
    """A CLIP that says nothing of itself, as large ones do: checkpoints name it."""
    torch.save(clip_state(model), path)
    return ClipTowers(model, str(path))
