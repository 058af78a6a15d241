"""Image-depth pre-training: how much of a step is spent outside the two towers' forward and backward passes; pictures per second, memory.

The step is the real one (Trainer, DataModule, drawing, loss, LAMB, logging); the floor are both towers alone on as many pictures.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, Trainer
from timing import hardware

from clip2x.data.datamodule import Clip2xDataModule
from clip2x.data.shapenet_pairs import ShapeNetPairs
from clip2x.encoders.clip import ClipTowers
from clip2x.modules.depth_pretraining import DepthPretraining

WARM_UP = 2


class Clock(Callback):
    """Note when each step ends."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.ends = device, []

    def on_train_batch_end(self, *unused: Any) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="holds ShapeNet with rendered pictures, e.g. the mini-world")
    parser.add_argument("--model", default="ViT-B-32-quickgelu")
    parser.add_argument("--batch-size", type=int, help="default: 256 on a GPU, 32 on a CPU")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch_size = options.batch_size or (256 if device.type == "cuda" else 32)
    precision = "bf16-mixed" if device.type == "cuda" else "32-true"
    torch.manual_seed(0)
    clip = ClipTowers(options.model, random_weights=True)
    clock = Clock(device)
    with tempfile.TemporaryDirectory() as folder:
        module = DepthPretraining(clip, Path(folder) / "depth_encoder.safetensors")
        data = Clip2xDataModule(options.root, train=partial(ShapeNetPairs, split="train", image_size=clip.image_size), batch_size=batch_size,
                                num_workers=8 if device.type == "cuda" else 1)
        trainer = Trainer(max_steps=WARM_UP + options.steps, max_epochs=-1, accelerator="auto", devices=1, precision=precision, logger=False,
                          enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
                          limit_val_batches=0, callbacks=[clock], default_root_dir=folder)
        trainer.fit(module, datamodule=data)
    step = np.diff(clock.ends)[WARM_UP - 1:]
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    towers = [towers_alone(module.to(device), batch_size, device) for _ in range(1 + options.steps)][1:]
    share = 1 - np.median(towers) / np.median(step)
    print(f"image-depth step, {options.model}, batch {batch_size}, {precision}, {device.type}: {1000 * np.median(step):.0f} ms "
          f"(quartiles {1000 * np.quantile(step, 0.25):.0f}-{1000 * np.quantile(step, 0.75):.0f}); towers alone {1000 * np.median(towers):.0f} ms; "
          f"outside of them {100 * share:.1f} % (asked: below 10)")
    print(f"  {3 * batch_size / np.median(step):.1f} pictures/s (a pair is three: picture and two depth views), peak memory {memory:.1f} GiB")
    print(f"  {hardware(device.type)}")


def towers_alone(module: DepthPretraining, batch_size: int, device: torch.device) -> float:
    """Time both towers' forward and backward passes on pictures that are there."""
    size = module.clip.image_size
    pictures, grey = torch.rand(batch_size, 3, size, size, device=device), torch.rand(batch_size, 2, size, size, device=device)
    start = time.perf_counter()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        with torch.no_grad():
            module.clip.image_tower.encode_image(pictures)
        features = module.depth_encoder.encode_views(grey)
    features.sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    elapsed = time.perf_counter() - start
    module.zero_grad()
    return elapsed


if __name__ == "__main__":
    main()
