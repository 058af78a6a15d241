"""What training stages share in going on with an interrupted run: whose checkpoint it is, and what it holds of the frozen CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from clip2x.encoders.clip import ClipTowers
from clip2x.errors import CheckpointMismatchError
from clip2x.modules.averaging import ExponentialMovingAverage


def last_checkpoint(trainer: Any) -> str | None:
    """Name the newest checkpoint of this run; the last callback keeps it."""
    kept = [path for callback in trainer.checkpoint_callbacks if (path := getattr(callback, "best_model_path", ""))]
    return kept[-1] if kept else None


def refuse_others(checkpoint: Mapping[str, Any], stage: str, ours: Mapping[str, str], folder: Path) -> None:
    """Refuse to go on with a run of another stage, on other data or with other settings.

    Args:
        checkpoint: Lightning's, with `clip2x` (what it says of itself) and `trained_on`.
        stage: Its stage must be this one.
        ours: What `trained_on` must be.
        folder: Of the run, for the message.

    Raises:
        CheckpointMismatchError: If it is another run's.
    """
    if (found := checkpoint.get("clip2x", {}).get("stage")) != stage:
        raise CheckpointMismatchError(f"the checkpoint is of {found or 'another stage'}, not of {stage}; give one of this stage.")
    theirs = checkpoint["trained_on"]
    keys = sorted(ours.keys() | theirs.keys())
    if changed := [f"{key} was {theirs.get(key)}, is {ours.get(key)}" for key in keys if ours.get(key) != theirs.get(key)]:
        raise CheckpointMismatchError(f"the checkpoint that this run would go on with was made with other settings ({'; '.join(changed)[:300]}); "
                                      f"delete {folder} or choose another RUNS.")


def settings_of(trainer: Any, clip: ClipTowers, *, apart_from: tuple[str, ...], parts: tuple[str, ...] = ("train", "val")) -> dict[str, Any]:
    """List the settings that must stay the same when an interrupted run goes on.

    Args:
        trainer: Holds the resolved configuration where a command line made it.
        clip: The frozen CLIP.
        apart_from: Arguments of the model that may change: places of files, and what is listed by its content.
        parts: Data sets of the DataModule whose arguments count.
    """
    data, config = trainer.datamodule, getattr(trainer, "clip2x_config", None) or {}
    settings = {f"model.{key}": value for key, value in config.get("model", {}).get("init_args", {}).items() if key not in apart_from}
    for part in parts:
        arguments = (config.get("data", {}).get(part) or {}).get("init_args", {})
        settings[f"data.{part}"] = {key: value for key, value in arguments.items() if key != "cache"}
    averages = [callback.decay for callback in trainer.callbacks if isinstance(callback, ExponentialMovingAverage)]
    return settings | {"clip": clip.content_sha256, "seed": data.seed, "batch size": data.global_batch_size, "data.balance": data.balance,
                       "precision": trainer.precision, "moving averages": averages}


def leave_clip_out(module: nn.Module, clip: ClipTowers) -> None:
    """Keep a large CLIP out of a module's checkpoints: it is named in them and has its own file. A small one of ours travels inside."""
    if clip.trained_words is None:
        module.register_state_dict_post_hook(_without_clip)  # type: ignore[no-untyped-call]
        module.register_load_state_dict_pre_hook(_with_own_clip)  # type: ignore[no-untyped-call]


def _without_clip(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}clip.")]:
        del state[name]


def _with_own_clip(module: nn.Module, state: dict[str, Any], prefix: str, *unused: Any) -> None:
    clip = module.clip
    assert isinstance(clip, nn.Module)
    state.update({f"{prefix}clip.{name}": value for name, value in clip.state_dict().items()})
