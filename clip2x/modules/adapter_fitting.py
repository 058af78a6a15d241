"""Train small networks on features that frozen towers gave once: a few hundred steps of milliseconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from clip2x.errors import InputError, TrainingDivergedError

OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True)
class AdapterTraining:
    """How an adapter is trained; the defaults are those of DPA (official code, 30673e7, fewshot.py) but for cosine and scale.

    epochs: passes over the training clouds. batch_size: a last batch of one cloud is left out (batch normalisation needs two).
    learning_rate, weight_decay: of AdamW, or of SGD with momentum 0.9. cosine: let the rate fall to 0; DPA: constant.
    scale: factor on the cosines in the loss; None: the CLIP's logit scale; DPA: 1. label_smoothing: of the cross-entropy.
    """

    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    cosine: bool = True
    scale: float | None = None
    label_smoothing: float = 0.0
    optimizer: str = "adamw"

    def __post_init__(self) -> None:
        rates = 0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf
        if self.epochs < 1 or self.batch_size < 2 or not rates or not 0 <= self.label_smoothing < 1:
            raise InputError("training an adapter needs epochs of at least 1, batch_size of at least 2, a positive learning_rate, a weight_decay of "
                             f"at least 0 and label_smoothing in [0, 1), got {self.epochs}, {self.batch_size}, {self.learning_rate:g}, "
                             f"{self.weight_decay:g}, {self.label_smoothing:g}.")
        if self.optimizer not in OPTIMIZERS or (self.scale is not None and not self.scale > 0):
            raise InputError(f"training an adapter takes the optimizer {' or '.join(OPTIMIZERS)} and a positive scale, got {self.optimizer!r} and "
                             f"{self.scale}.")

    def build_optimizer(self, parameters: Sequence[nn.Parameter]) -> Optimizer:
        """Make the optimizer over some weights."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=0.9, weight_decay=self.weight_decay)
        return torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)


def pointclip_training(epochs: int = 100) -> AdapterTraining:
    """Give PointCLIP's recipe for its adapter (third party): SGD 0.01, weight decay 5e-4, cosine, label smoothing 0.2.

    From its code as we know it. Its 250 epochs are an argument here, so that all adapters see the clouds equally often; its warm-up epoch is
    left out.
    """
    return AdapterTraining(epochs=epochs, learning_rate=0.01, weight_decay=5e-4, label_smoothing=0.2, optimizer="sgd")


def fit_adapter(make: Callable[[], nn.Module], paths: Sequence[Float[Tensor, "..."]], labels: Int64[Tensor, " N"], names: Float[Tensor, "C E"],
                training: AdapterTraining, *, scale: float, seed: int, normalise: bool = True, losses: list[float] | None = None) -> nn.Module:
    """Train an adapter so that its embeddings are near the names of their classes; a function of its arguments alone.

    Args:
        make: Builds it; called with the generator seeded.
        paths: Features of each path, (N, V_p, E), raw.
        labels: Positions in `names`.
        names: Unit length; they stay as they are.
        training: The recipe.
        scale: The CLIP's logit scale, used where the recipe states none.
        seed: Of initial weights, order and dropout.
        normalise: Whether embeddings are brought to unit length before they are compared.
        losses: The mean loss of every epoch is put into it.

    Returns:
        The adapter in evaluation mode, on the device of `names`, after the last epoch: nothing is selected.

    Raises:
        InputError: If there is only one cloud.
        TrainingDivergedError: If the loss or a weight is not finite.
    """
    factor = scale if training.scale is None else training.scale
    device = names.device
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = make().to(device).train()
        optimizer = training.build_optimizer(list(model.parameters()))
        # clones: tensors that were made in inference mode cannot take part in a backward pass
        features, truth, names = [path.clone().to(device) for path in paths], labels.clone().to(device), names.clone()
        count = len(truth)
        starts = [start for start in range(0, count, training.batch_size) if count - start > 1]
        if not starts:
            raise InputError(f"an adapter needs at least 2 clouds to train on, got {count}.")
        schedule = CosineAnnealingLR(optimizer, training.epochs * max(len(starts), 1)) if training.cosine else None
        order = torch.Generator().manual_seed(seed)
        loss = torch.zeros(())
        kept = torch.zeros(training.epochs, device=device)  # read at the end: a GPU need not be waited for in every step
        for epoch in range(training.epochs):
            shuffled = torch.randperm(count, generator=order).to(device)
            for start in starts:
                chosen = shuffled[start:start + training.batch_size]
                embeds = model([path[chosen] for path in features])
                embeds = functional.normalize(embeds, dim=-1) if normalise else embeds
                loss = functional.cross_entropy(factor * embeds @ names.T, truth[chosen], label_smoothing=training.label_smoothing)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                kept[epoch] += loss.detach() / len(starts)
                if schedule is not None:
                    schedule.step()
        if not bool(loss.isfinite()) or not all(bool(weight.isfinite().all()) for weight in model.parameters()):
            raise TrainingDivergedError(f"the adapter's loss is {float(loss.detach())} after {training.epochs} epochs; lower its learning_rate "
                                        f"({training.learning_rate:g}).")
        if losses is not None:
            losses += kept.tolist()
        return model.requires_grad_(False).eval()
