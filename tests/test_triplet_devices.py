"""Where the parts of the stage pretrain_points lie: the depth encoder beside it too, which Lightning does not see."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from triplet_runs import NAME, Runs, scalars

from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.points import PointTransformer
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
