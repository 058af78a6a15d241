"""Weights: CLIP files and checkpoints of every kind, read and built."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import released_files as released
import test_adapter_checkpoint as adapters
import test_depth_checkpoint as depths
import test_point_checkpoint as points
import torch
from harness import Subject
from small_clips import MODEL, large_clip, register_small_clips
from torch import Tensor

from clip2x.encoders.adapter_checkpoint import adapted_encoder_of, read_adapter_checkpoint, save_adapter_checkpoint
from clip2x.encoders.checkpoint_parts import require_tag
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.clip_files import describe_weights, fit_weights, read_clip_file, save_clip_file
from clip2x.encoders.depth_checkpoint import depth_encoder_of, read_depth_checkpoint, save_depth_checkpoint
from clip2x.encoders.point_checkpoint import point_encoder_of, read_point_checkpoint, save_point_checkpoint
from clip2x.errors import BadFileError, CheckpointMismatchError, DataNotFoundError

Build = Callable[[Path], Subject]
MODELS = (BadFileError, DataNotFoundError, CheckpointMismatchError)
FOLDER = TemporaryDirectory()
STATE = {"visual.conv1.weight": torch.arange(48.0).view(4, 3, 2, 2), "visual.proj": torch.ones(4, 2), "token_embedding.weight": torch.ones(5, 4),
         "logit_scale": torch.tensor(2.0)}


@lru_cache(maxsize=1)
def large() -> ClipTowers:
    """A CLIP that checkpoints name and do not carry, so that they stay small."""
    folder = Path(FOLDER.name)
    register_small_clips(folder)
    return large_clip(folder / "large.pt")


def same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


def clip_file(suffix: str) -> Build:
    def build(root: Path) -> Subject:
        path = root / f"clip{suffix}"
        about = {"stage": "pretrain_clip", "model": MODEL, "words": ["chair"], "mean": [0.4] * 3, "std": [0.3] * 3,
                 "encoder": {"kind": "depth_views"}}
        if suffix == ".safetensors":
            save_clip_file(path, STATE, about)
        else:
            torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in STATE.items()}, "clip2x": about}, path)

        def read() -> Any:
            weights = read_clip_file(path)
            describe_weights(weights.state)
            fit_weights(weights.state, STATE, model=MODEL, source=path.name)
            return weights

        # a hash that was taken out is not missed: files of earlier versions have none
        return Subject([path], read, MODELS, unchanged=lambda value: b'"content_sha256"' not in path.read_bytes()[:2000] or same(value.state, STATE))

    return build


def depth(root: Path) -> Subject:
    path, clip = root / "depth.safetensors", large()
    tower = depths.tuned_tower(clip)
    save_depth_checkpoint(path, tower, clip, depths.about())
    return Subject([path], lambda: _depth(path, clip), MODELS, unchanged=_as_written(path, tower.visual.state_dict()))


def depth_ckpt(root: Path) -> Subject:
    path, clip = root / "last.ckpt", large()
    depths.lightning_file(path, depths.tuned_tower(clip), clip)
    return Subject([path], lambda: _depth(path, clip), MODELS)


def _depth(path: Path, clip: ClipTowers) -> Any:
    stored = read_depth_checkpoint(path)
    require_tag(stored.path, stored.about)
    return depth_encoder_of(stored, clip).tower.visual.state_dict()


def point(root: Path) -> Subject:
    path, clip = root / "points.safetensors", large()
    encoder = adapters.point_encoder()
    save_point_checkpoint(path, encoder, clip, points.about())
    return Subject([path], lambda: _point(path, clip), MODELS, unchanged=_as_written(path, encoder.state_dict()))


def point_ckpt(root: Path) -> Subject:
    path, clip = root / "last.ckpt", large()
    points.lightning_file(path, adapters.point_encoder(), clip)
    return Subject([path], lambda: _point(path, clip), MODELS)


def _point(path: Path, clip: ClipTowers) -> Any:
    return point_encoder_of(read_point_checkpoint(path), clip).state_dict()


def released_points(layout: str) -> Build:
    """A file of a layout of others, small; none of them carries a hash."""
    def build(root: Path) -> Subject:
        path, clip = root / "model.pt", large()
        if layout == "ulip":
            released.save_ulip(path, released.random_state(released.ulip_shapes(clip.embed_dim, 3, 1, width=64, group=16)))
        else:
            state = released.random_state(released.openshape_shapes(clip.embed_dim, width=64, depth=1, mlp=64, group=16))
            torch.save({"state_dict": {f"module.pc_encoder.{name}": value for name, value in state.items()},
                        "logit_scale": {"module.logit_scale": torch.tensor(3.0)}, "args": Namespace(lr=0.1), "epoch": 3}, path)
        return Subject([path], lambda: _point(path, clip), MODELS)

    return build


def adapter(root: Path) -> Subject:
    path, clip = root / "adapter.safetensors", large()
    encoder = adapters.make_encoder(clip, ("depth", "clip", "points"))
    save_adapter_checkpoint(path, encoder, clip, adapters.about(encoder), torch.eye(2, 32))

    def read() -> Any:
        stored = read_adapter_checkpoint(path)
        return adapted_encoder_of(stored, clip).adapter.state_dict()

    return Subject([path], read, MODELS, unchanged=_as_written(path, encoder.adapter.state_dict()))


def _as_written(path: Path, state: dict[str, Tensor]) -> Callable[[Any], bool]:
    return lambda value: b'"content_sha256"' not in path.read_bytes()[:12000] or same(value, state)


READERS: dict[str, Build] = {
    "clip safetensors": clip_file(".safetensors"), "clip pt": clip_file(".pt"), "depth safetensors": depth, "depth ckpt": depth_ckpt,
    "point safetensors": point, "point ckpt": point_ckpt, "adapter safetensors": adapter,
    "released ulip": released_points("ulip"), "released openshape": released_points("openshape"),
}
