"""Time a stage's own loop (Trainer, DataModule, loss, optimizer, logging) batch by batch, in turns with what its networks alone take."""

from __future__ import annotations

import gc
import io
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from timing import elapsed_ms, peak_memory_mb, readers_held, reset_peak_memory, synchronise
from torch import nn

from clip2x.data.datamodule import Clip2xDataModule

WARM_UP = 1  # batches, each with its floor: ours, a step on a CPU takes up to 13 s


@dataclass
class Stage:
    """What is timed.

    make: builds module and data, given a folder for files.
    networks: runs the networks alone, on a batch of the same size; given the module, the batch, and the autocast of the run.
    compiled: the networks that torch.compile may take.
    pieces: clouds, pairs, triplets or frames in a batch.
    loop: of the Trainer: fit, test or predict. after: looks at the module at its end.
    """

    make: Callable[[Path], tuple[LightningModule, Clip2xDataModule]]
    networks: Callable[[Any, Any, Callable[[], AbstractContextManager[Any]]], object]
    compiled: Callable[[Any], list[nn.Module]]
    pieces: int
    loop: str = "fit"
    after: Callable[[Any], object] = lambda module: None


@dataclass
class Timed:
    """Milliseconds per piece of the loop and of the networks alone, and the most memory, MB."""

    loop: np.ndarray
    networks: np.ndarray
    memory_mb: float


class Turns(Callback):
    """After every batch of the loop let the networks run alone, while the reader processes stand still."""

    def __init__(self, stage: Stage, device: str) -> None:
        self.stage, self.device, self.start = stage, device, 0.0
        self.loop: list[float] = []
        self.networks: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._turn(trainer, pl_module, batch)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
                          dataloader_idx: int = 0) -> None:
        self._turn(trainer, pl_module, batch)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
                             dataloader_idx: int = 0) -> None:
        self._turn(trainer, pl_module, batch)

    def _turn(self, trainer: Trainer, module: LightningModule, batch: Any) -> None:
        synchronise(self.device)
        self.loop.append((time.perf_counter() - self.start) * 1e3)
        with readers_held():
            context = trainer.precision_plugin.forward_context
            self.networks.append(elapsed_ms(lambda: self.stage.networks(module, batch, context), self.device))
            module.zero_grad()
        self.start = time.perf_counter()


@contextmanager
def silence() -> Iterator[None]:
    """Keep off the screen what stages say: notes of the Trainer, accuracies of random weights."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run(stage: Stage, steps: int, device: str, precision: str, compile_backend: str | None = None) -> Timed:
    """Run the loop for `steps` batches beyond the warm-up.

    Args:
        precision: The Trainer's.
        compile_backend: Of torch.compile, which is left out where this is None.
    """
    gc.collect()
    torch.cuda.empty_cache()  # nothing without a GPU
    torch.manual_seed(0)
    turns = Turns(stage, device)
    with tempfile.TemporaryDirectory() as name, silence():
        folder = Path(name)
        module, data = stage.make(folder)
        if compile_backend is not None:
            for network in stage.compiled(module):
                network.compile(backend=compile_backend)
        limits: dict[str, Any] = {"max_steps": WARM_UP + steps, "max_epochs": -1} if stage.loop == "fit" else {
            f"limit_{stage.loop}_batches": WARM_UP + steps}
        trainer = Trainer(**limits, accelerator="gpu" if device == "cuda" else "cpu", devices=1, precision=precision, logger=False,
                          enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
                          limit_val_batches=0, num_sanity_val_steps=0, callbacks=[turns], default_root_dir=folder)
        reset_peak_memory(device)
        getattr(trainer, stage.loop)(module, datamodule=data)
        memory = peak_memory_mb(device)
        stage.after(module)
    loop, networks = (np.array(readings)[WARM_UP:] / stage.pieces for readings in (turns.loop, turns.networks))
    return Timed(loop, networks, memory)
