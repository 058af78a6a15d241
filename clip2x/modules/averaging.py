"""An exponential moving average of the weights, validated and kept in the place of the trained ones."""

from __future__ import annotations

from functools import partial

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from clip2x.errors import InputError


class ExponentialMovingAverage(WeightAveraging):
    """Lightning's callback with an average that leaves frozen weights exactly as they are (it interpolates), and that lies on the module's device.

    Args:
        decay: Of the average, once every step. 0.999 is a usual value; ours, neither paper averages.

    Raises:
        InputError: If it is not in [0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"the decay of a moving average must lie in [0, 1), got {decay:g}.")
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
        self.decay = decay

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the module without its factories of optimizers: those from a command line refer to all of it, the data too."""
        factories = {name: value for name, value in vars(pl_module).items() if isinstance(value, partial)}
        vars(pl_module).update(dict.fromkeys(factories))
        try:
            super().setup(trainer, pl_module, stage)
        finally:
            vars(pl_module).update(factories)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the module to its device; the average is made before the module moves."""
        assert self._average_model is not None
        self._average_model.to(pl_module.device)
