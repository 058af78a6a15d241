"""Join what several processes have, so that a loss sees the batch of all of them."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from clip2x.errors import InputError


def gathered(module: LightningModule, values: Tensor) -> Tensor:
    """Join the batches of all processes, with gradients where `values` asks for them; one process has its own back.

    Call it on every process with batches of the same size. The loss of the joined batch, computed on every process, then has exactly the
    gradient of one process with the whole batch: let L be that loss, W the number of processes and x_r the part of process r. All W
    processes compute the same L, and the backward pass of the gathering adds up what they send to x_r: W dL/dx_r. Process r so finds
    W (dx_r/dw) dL/dx_r for a weight w of the encoder, and DDP averages: 1/W sum_r W (dx_r/dw) dL/dx_r = dL/dw. A weight of the loss itself
    has dL/dw on every process, which is its own average.

    Args:
        module: Attached to a Trainer or a Fabric.
        values: (B, ...), the same shape on all W processes.

    Returns:
        (W B, ...), in the order of the ranks.

    Raises:
        InputError: If the batches differ in size. On CPUs only: on a GPU each process would have to wait for its device in every step; there
            the samplers must see to it, as ours do.
    """
    if module.trainer.world_size == 1:
        return values
    if values.device.type == "cpu":
        _check_sizes(module, len(values))
    joined: Any = module.all_gather(values, sync_grads=values.requires_grad)
    merged: Tensor = joined.flatten(0, 1)
    return merged


def gathered_objects(module: LightningModule, values: list[Any]) -> list[Any]:
    """Join the lists of all processes, in the order of the ranks; they may differ in length, and hold anything that can be pickled."""
    if module.trainer.world_size == 1:
        return values
    parts: list[Any] = [None] * module.trainer.world_size
    torch.distributed.all_gather_object(parts, values)
    return [value for part in parts for value in part]


def _check_sizes(module: LightningModule, size: int) -> None:
    sizes: Any = module.all_gather(torch.tensor(size))
    if bool((sizes != sizes[0]).any()):
        raise InputError(f"every process must bring a batch of the same size, found {', '.join(map(str, sizes.tolist()))}; "
                         "drop the last batch if it is smaller, or use a sampler that shares a batch out evenly.")
