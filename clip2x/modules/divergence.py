"""Stop a training whose loss is no longer a number, without waiting for the GPU in every step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clip2x.errors import TrainingDivergedError
from clip2x.storage import atomic_path

NAMED = 5  # samples named in the message; all stand in the file


class DivergenceWatch:
    """Look at each step's loss one step later: by then the GPU has computed it, and it need not be emptied."""

    def __init__(self) -> None:
        self._last: tuple[int, Tensor, Any, Tensor] | None = None

    def note(self, step: int, loss: Tensor, index: Tensor) -> None:
        """Remember a step's loss (scalar) and the indices of its samples; the copy from a GPU runs beside the backward pass."""
        loss, copied = loss.detach(), None
        if loss.device.type == "cuda":
            host = torch.empty((), dtype=loss.dtype, pin_memory=True).copy_(loss, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
            loss = host
        self._last = (step, loss, copied, index)

    def check(self, report: Path, describe: Callable[[int], str], last_checkpoint: str | None) -> None:
        """Look at the loss noted last.

        Args:
            report: JSON file that a diverged step is described in.
            describe: Index of a sample to its name.
            last_checkpoint: The checkpoint to go back to, None if there is none.

        Raises:
            TrainingDivergedError: If it is NaN or infinite; names the step, the samples and the checkpoint.
        """
        if self._last is None:
            return
        (step, loss, copied, index), self._last = self._last, None
        if copied is not None:
            copied.synchronize()
        if bool(loss.isfinite()):
            return
        samples = [describe(int(position)) for position in index.cpu()]
        content = {"step": step, "loss": str(float(loss)), "samples": samples, "last_checkpoint": last_checkpoint}
        with atomic_path(report) as temporary:
            temporary.write_text(json.dumps(content, indent=1))
        kept = f"the last good checkpoint is {last_checkpoint}" if last_checkpoint else "there is no checkpoint yet"
        raise TrainingDivergedError(f"the loss is {float(loss)} at step {step}; samples of the batch: {', '.join(samples[:NAMED])} ... "
                                    f"(all in {report}); {kept}. Lower the learning rate, or look at these samples.")
