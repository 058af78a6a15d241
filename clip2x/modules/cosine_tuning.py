"""Tune a point encoder on a few labelled clouds: a head of cosines starts from the names, encoder and head are trained together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from clip2x.data.augmentations import Augmentation, augment
from clip2x.data.transforms import choose_points
from clip2x.encoders.points import PointEncoder
from clip2x.errors import InputError
from clip2x.optim import decayed_and_not, warmup_cosine


@dataclass(frozen=True)
class Tuning:
    """How an encoder is tuned on the shots. All ours; the papers do not say how, and nothing is chosen on a test set.

    steps: of AdamW, the same for any number of shots. batch_size: clouds in a step, taken from one endless row of shuffled passes over the shots: a
    cloud that comes twice in a step is changed twice. learning_rate, weight_decay: AdamW's; norms and biases are not decayed. warmup_share: of
    the steps in which the rate climbs; a cosine down to 0 follows. augmentations: of every cloud, drawn anew each time.
    """

    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    warmup_share: float = 0.1
    augmentations: list[Augmentation] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1 or not self.learning_rate > 0 or self.weight_decay < 0 or not 0 <= self.warmup_share < 1:
            raise InputError("tuning needs steps of at least 0, batch_size of at least 1, a positive learning_rate, a weight_decay of at least 0 and "
                             f"a warmup_share in [0, 1), got {self.steps}, {self.batch_size}, {self.learning_rate:g}, {self.weight_decay:g}, "
                             f"{self.warmup_share:g}.")


class CosineClassifier(nn.Module):
    """An encoder with a head of cosines.

    Args:
        encoder: It is copied; the copy is trained.
        names: Embeddings of the class names, unit length; the head's start, so that before the first step the logits are those of zero-shot.
        scale: Factor on the cosines; not trained.
    """

    def __init__(self, encoder: PointEncoder, names: Float[Tensor, "C E"], scale: float) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        self.head, self.scale = nn.Parameter(names.detach().clone().float()), scale

    def forward(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B C"]:
        """Give logits of clouds (unit sphere, object frame)."""
        features = functional.normalize(self.encoder(points).float(), dim=-1)
        with torch.autocast(points.device.type, enabled=False):
            logits: Tensor = self.scale * features @ functional.normalize(self.head, dim=-1).T
        return logits


def tuned_classifier(encoder: PointEncoder, names: Float[Tensor, "C E"], scale: float, clouds: Float[Tensor, "N P 3"], labels: Int64[Tensor, " N"],
                     tuning: Tuning, *, seed: int, autocast: Callable[[], Any], num_real: Int64[Tensor, " N"] | None = None) -> CosineClassifier:
    """Tune on clouds and labels; a function of its arguments alone. Call it in any mode of autograd.

    Args:
        encoder: Stays as it is.
        names, scale: See `CosineClassifier`.
        clouds: Of the shots, on the CPU, unit sphere, object frame.
        labels: Positions in `names`.
        tuning: The recipe.
        seed: Of order, augmentations and whatever the encoder draws.
        autocast: Makes the context of the forward passes.
        num_real: How many points of each cloud are its own (`thin_out`): only these are augmented, then some are repeated. None: all are.
    """
    device = names.device
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = CosineClassifier(encoder, names, scale).train()
        optimizer = torch.optim.AdamW(decayed_and_not(model.parameters()), lr=tuning.learning_rate, weight_decay=tuning.weight_decay)
        schedule = warmup_cosine(optimizer, tuning.steps, round(tuning.warmup_share * tuning.steps))
        order = _passes(len(clouds), tuning.steps * tuning.batch_size, seed)
        counts = [clouds.shape[1]] * len(clouds) if num_real is None else num_real.tolist()
        points = [cloud[:count] for cloud, count in zip(clouds.numpy(), counts, strict=True)]
        for step in range(tuning.steps):
            chosen = order[step * tuning.batch_size : (step + 1) * tuning.batch_size]
            changed = [_changed(points[item], tuning.augmentations, clouds.shape[1], np.random.default_rng([seed, step, place]))
                       for place, item in enumerate(chosen)]
            batch, truth = torch.from_numpy(np.stack(changed).astype(np.float32)).to(device), labels[torch.from_numpy(chosen)].to(device)
            with autocast():
                logits = model(batch)
            optimizer.zero_grad()
            functional.cross_entropy(logits, truth).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        return model.requires_grad_(False).eval()


def _changed(points: Any, augmentations: Sequence[Augmentation], num_points: int, rng: np.random.Generator) -> Any:
    """Augment the points of a cloud that are its own, then bring it to the number that all clouds of a batch have."""
    return choose_points(augment(points, augmentations, rng), num_points, rng)


def _passes(count: int, length: int, seed: int) -> Any:
    """Shuffle positions again and again, and cut the row at a length."""
    rng = np.random.default_rng([seed, 7])  # 7: no augmentation has this key, theirs are three numbers long
    return np.concatenate([np.empty(0, dtype=np.int64), *(rng.permutation(count) for _ in range(-(-length // count)))])[:length]
