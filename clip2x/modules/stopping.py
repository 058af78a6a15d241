"""End on SIGTERM without losing a step: a training saves its checkpoint first, and the exit status says so (143)."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from clip2x.signals import SIGNALS, TERMINATED, Terminated

PARENT_CHECK_S = 1.0  # ours


class StopOnSignal(Callback):
    """Answer SIGTERM and SIGUSR1: between steps of a training, save the newest checkpoint and exit with 143; before and after, exit at once.

    Any process may get the signal, or all: after each step they ask each other, so that all save and leave at the same one. A validation that
    is under way ends first, and so does the step. The same command then goes on where the run stopped.

    Lightning's own handlers are taken over: in a run of several processes they communicate from inside the handler, wherever it happens to
    interrupt the others, and for SIGTERM nothing is saved.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._stepping = False
        self._finished = threading.Event()

    def __deepcopy__(self, memo: dict[int, Any]) -> StopOnSignal:
        """There is one for a process; Lightning's averages of weights copy a module with all that its arguments came from."""
        return self

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """In a process that Lightning started, watch the first one, whose end it would not notice."""
        self._trainer: Any = trainer
        if started_by_the_first(trainer):
            threading.Thread(target=_leave_after, args=(os.getppid(), self._finished), daemon=True).start()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From now on a step is finished first; Lightning has set its own handlers shortly before, and puts back those from before itself."""
        self._stepping = True
        self._listen()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave at once."""
        self._listen()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave at once; what is in the store stays."""
        self._listen()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Agree with the other processes; save and leave if one has been told to."""
        if not trainer.strategy.reduce_boolean_decision(self._received is not None, all=False):
            return
        path = newest_checkpoint_path(trainer)
        if path is not None and trainer.global_step:
            trainer.save_checkpoint(path)
        self._leave(f"after step {trainer.global_step} of {trainer.max_steps}" + ("" if path is None else f"; the same command goes on from {path}"))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows the last step is short and written atomically."""
        self._stepping = False

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The first process may end before this one now."""
        self._finished.set()

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        first = self._received is None
        self._received = signum
        if first and (launcher := self._trainer.strategy.launcher) is not None and hasattr(launcher, "kill"):
            launcher.kill(signum)  # to the processes that this one has started
        if not self._stepping:
            self._leave("outside of training steps")

    def _leave(self, where: str) -> None:
        name = signal.Signals(self._received or signal.SIGTERM).name
        if self._trainer.is_global_zero:
            print(f"stopped by {name} {where}", file=sys.stderr, flush=True)
        # Lightning ends the first process with SIGKILL when one that it has started ends with an error
        raise Terminated(0 if started_by_the_first(self._trainer) else TERMINATED)


def newest_checkpoint_path(trainer: Any) -> Path | None:
    """Say where the newest checkpoint of a run goes: the file of the callback that monitors nothing; None without one."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor is None:
            return Path(callback.format_checkpoint_name({}, filename="last"))
    return None


def started_by_the_first(trainer: Any) -> bool:
    """Tell whether this process is one that the first process of the run has started, and not torchrun, SLURM or the user."""
    environment = trainer.strategy.cluster_environment if hasattr(trainer.strategy, "cluster_environment") else None
    return isinstance(environment, LightningEnvironment) and environment.local_rank() > 0


def _leave_after(parent: int, finished: threading.Event) -> None:
    while not finished.wait(PARENT_CHECK_S):
        if os.getppid() != parent:
            print("error: the first process of the run has ended, and with it this one.", file=sys.stderr, flush=True)
            os._exit(1)
