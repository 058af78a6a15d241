"""What training stages share: whose checkpoint a run may go on with, what it holds of the frozen CLIP, figures of validation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_clips import large_clip, own_clip, register_small_clips
from torch import Tensor, nn

from clip2x.encoders.clip import ClipTowers
from clip2x.errors import CheckpointMismatchError
from clip2x.modules.averaging import ExponentialMovingAverage
from clip2x.modules.resuming import last_checkpoint, leave_clip_out, refuse_others, settings_of
from clip2x.modules.validation import accuracies, best_checkpoint


@pytest.fixture(scope="module", autouse=True)
def small_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    register_small_clips(tmp_path_factory.mktemp("configs"))


def test_a_run_goes_on_with_its_own_checkpoint_only() -> None:
    checkpoint = {"clip2x": {"stage": "pretrain_points"}, "trained_on": {"seed": "0", "batch size": "8"}}
    refuse_others(checkpoint, "pretrain_points", {"batch size": "8", "seed": "0"}, Path("runs/here"))
    for stated, stage, ours, message in (
            ({}, "pretrain_points", {"seed": "0", "batch size": "4"}, r"\(batch size was 8, is 4\); delete runs/here or choose another RUNS"),
            ({}, "pretrain_points", {"seed": "0", "batch size": "8", "new": "1"}, r"\(new was None, is 1\)"),
            ({}, "pretrain_points", {"seed": "0"}, r"\(batch size was 8, is None\)"),
            ({}, "pretrain_depth", {"seed": "0", "batch size": "8"}, "the checkpoint is of pretrain_points, not of pretrain_depth; give one of this"),
            ({"clip2x": {}}, "pretrain_points", {}, "the checkpoint is of another stage, not of pretrain_points")):
        with pytest.raises(CheckpointMismatchError, match=message) as caught:
            refuse_others({**checkpoint, **stated}, stage, ours, Path("runs/here"))
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointMismatchError) as caught:
        refuse_others(checkpoint, "pretrain_points", {f"setting {number}": "x" * 50 for number in range(100)}, Path("runs/here"))
    assert len(str(caught.value)) < 500


def trainer(config: dict[str, Any] | None, callbacks: list[Any]) -> Any:
    data = SimpleNamespace(seed=3, global_batch_size=16, balance=0.5)
    return SimpleNamespace(datamodule=data, callbacks=callbacks, precision="32-true", clip2x_config=config)


def test_settings_are_those_of_the_command_line(tmp_path: Path) -> None:
    """All arguments of the model but those left out, and of its data sets, without their caches; what the trainer knows."""
    clip = own_clip(tmp_path / "clip.safetensors")
    config = {"model": {"init_args": {"clip": "x", "output": "y", "templates": ["a {}"]}},
              "data": {"train": {"init_args": {"num_points": 8, "cache": "here"}}, "val": None, "num_workers": 4}}
    common = {"clip": clip.content_sha256, "seed": 3, "batch size": 16, "data.balance": 0.5, "precision": "32-true"}
    found = settings_of(trainer(config, [ExponentialMovingAverage(0.9)]), clip, apart_from=("clip", "output"))
    assert found == {**common, "model.templates": ["a {}"], "data.train": {"num_points": 8}, "data.val": {}, "moving averages": [0.9]}
    alone = settings_of(trainer(None, []), clip, apart_from=(), parts=("train",))
    assert alone == {**common, "data.train": {}, "moving averages": []}


def test_the_newest_and_the_best_checkpoint_are_found() -> None:
    best, last = SimpleNamespace(monitor="select/x", best_model_path="best.ckpt"), SimpleNamespace(monitor=None, best_model_path="last.ckpt")
    empty = SimpleNamespace(monitor="select/x", best_model_path="")
    both = SimpleNamespace(checkpoint_callbacks=[best, last])
    assert last_checkpoint(both) == "last.ckpt" and best_checkpoint(both, "select/x") == "best.ckpt" and best_checkpoint(both, "select/y") is None
    for nothing in (SimpleNamespace(checkpoint_callbacks=[]), SimpleNamespace(checkpoint_callbacks=[empty])):
        assert last_checkpoint(nothing) is None and best_checkpoint(nothing, "select/x") is None


class Stage(nn.Module):
    """What a training stage has: a CLIP and something that is trained."""

    def __init__(self, clip: ClipTowers) -> None:
        super().__init__()
        self.clip, self.encoder = clip, nn.Linear(2, 3)
        leave_clip_out(self, clip)


def test_a_large_clip_stays_out_of_checkpoints_and_a_small_one_travels(tmp_path: Path) -> None:
    large, small = large_clip(tmp_path / "large.pt"), own_clip(tmp_path / "small.safetensors")
    state = Stage(large).state_dict()
    assert set(state) == {"encoder.weight", "encoder.bias"}
    again = Stage(large)
    before = {name: value.clone() for name, value in large.state_dict().items()}
    again.load_state_dict({"encoder.weight": torch.ones(3, 2), "encoder.bias": torch.zeros(3)})  # strictly: nothing is missing
    assert again.encoder.weight.tolist() == [[1, 1]] * 3
    assert all(torch.equal(before[name], value) for name, value in large.state_dict().items())
    with pytest.raises(RuntimeError, match="encoder.bias"):
        again.load_state_dict({"encoder.weight": torch.ones(3, 2)})
    assert sum(name.startswith("clip.") for name in Stage(small).state_dict()) == len(small.state_dict())
    inside = nn.ModuleDict({"part": Stage(large)})
    assert set(inside.state_dict()) == {"part.encoder.weight", "part.encoder.bias"}, "below a wrapper too"


@pytest.mark.parametrize(("scores", "labels", "expected"), [
    ([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], [0, 1, 0, 0], (3 / 4, (2 / 3 + 1) / 2)),
    ([[0.0, 0.0, 1.0]], [2], (1.0, 1.0)),
    ([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [1, 2], (0.0, 0.0)),
])
def test_accuracies_by_hand(scores: list[list[float]], labels: list[int], expected: tuple[float, float]) -> None:
    """Classes that do not occur do not count in the class mean."""
    values: Tensor = torch.tensor(scores)
    assert accuracies(values, torch.tensor(labels)) == pytest.approx(expected)
