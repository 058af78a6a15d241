"""The stage pretrain_points on devices and processes: where its parts lie, how its steps are counted, what several processes draw."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import REPO
from torch import Tensor
from triplet_runs import NAME, Runs, scalars, tuning

from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth import SampledViewEncoder
from clip2x.encoders.depth_checkpoint import depth_encoder_of, read_depth_checkpoint
from clip2x.encoders.points import PointTransformer
from clip2x.errors import InputError
from clip2x.geometry import unit_sphere
from clip2x.modules.triplet_pretraining import TripletPretraining


def test_the_encoder_beside_it_moves_with_the_module(tiny_clip: Path, disturbed_depth: Path, tmp_path: Path) -> None:
    """On a device without values, since one with such may not be at hand."""
    clip = ClipTowers("clip2x-small", str(tiny_clip))
    module = TripletPretraining(clip, tmp_path / NAME, encoder=PointTransformer, ensemble_with=disturbed_depth)
    module.sources = SimpleNamespace(name_objects=lambda _: None, check=lambda **_: None, notes=[], texts=["chair", "car"])  # type: ignore[assignment]
    module._device = torch.device("meta")
    module.on_fit_start()
    assert module._other is not None
    beside = module._other[1]
    held = [*beside.parameters(), *beside.buffers()]
    assert len(held) > 10 and {tensor.device for tensor in (*held, module.texts, module._other_texts)} == {module.device}


@pytest.mark.gpu
def test_validation_with_an_encoder_beside_it_runs_on_a_gpu(tiny_world: Path, tiny_clip: Path, named_store: Path, disturbed_depth: Path,
                                                            tmp_path: Path) -> None:
    run = Runs(tiny_world, tiny_clip, named_store, tmp_path)
    found = scalars(run("--model.ensemble_with", str(disturbed_depth), "--trainer.accelerator", "gpu", steps=2))
    assert {"val/top1", "val/other_top1", "val/sum_top1"} <= set(found)


def test_epochs_are_not_counted_before_models_have_names(tiny_pairs: Path, tiny_clip: Path, named_store: Path, tmp_path: Path) -> None:
    run = Runs(tiny_pairs, tiny_clip, named_store, tmp_path, tmp_path / "features")
    for extra in (["--trainer.max_epochs", "1", "--trainer.max_steps", "-1"], ["--data.val_every_epochs", "1"]):
        with pytest.raises(InputError, match=r"epochs cannot be counted before CLIP has named the models of data\.train\.objects, .*max_steps N"):
            run(*extra)
    run("--trainer.max_epochs", "1", "--trainer.max_steps", "-1", "--data.train.objects", "null", "--data.val.objects", "null")


def test_a_process_takes_its_rows_of_the_cameras_of_all(disturbed_depth: Path, tiny_clip: Path) -> None:
    clip = ClipTowers("clip2x-small", str(tiny_clip))
    encoder = SampledViewEncoder(depth_encoder_of(read_depth_checkpoint(disturbed_depth), clip)).train()
    points = unit_sphere(torch.randn(6, 50, 3, generator=torch.Generator().manual_seed(0)))

    def encoded(rank: int, world_size: int, step: int = 7) -> Tensor:
        module: Any = SimpleNamespace(point_encoder=encoder, global_rank=rank, global_step=step, trainer=SimpleNamespace(world_size=world_size),
                                      _data=SimpleNamespace(seed=3))
        with torch.no_grad():
            return TripletPretraining._encoded(module, points.chunk(world_size)[rank])

    torch.testing.assert_close(torch.cat([encoded(rank, 3) for rank in range(3)]), encoded(0, 1))
    assert not torch.allclose(encoded(0, 1, step=8), encoded(0, 1), atol=1e-3)


@pytest.mark.slow
def test_two_processes_tune_a_depth_encoder_as_one_does(tiny_world: Path, tiny_clip: Path, named_store: Path, disturbed_depth: Path,
                                                        tmp_path: Path) -> None:
    """The views of a cloud are drawn for the whole batch: they do not depend on which process has it."""
    run, states = Runs(tiny_world, tiny_clip, named_store, tmp_path), {}
    for devices in (1, 2):
        command = [sys.executable, "-m", "stages", *tuning(run, disturbed_depth, name=str(devices), steps=3), "--trainer.devices", str(devices),
                   "--trainer.strategy", "auto" if devices == 1 else "ddp"]
        subprocess.run(command, cwd=REPO, check=True, capture_output=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
        states[devices] = scalars(tmp_path / str(devices)), read_depth_checkpoint(tmp_path / str(devices) / "depth_encoder.safetensors").tower_state
    for key in ("train/loss", "train/text", "train/image", "val/top1"):
        assert states[1][0][key] == pytest.approx(states[2][0][key], abs=5e-6), key
    for name, value in states[1][1].items():
        torch.testing.assert_close(states[2][1][name], value, rtol=1e-4, atol=1e-5)
