"""What trainings against a frozen CLIP share: checks before the start, a watch over the loss, and a run that can be gone on with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from clip2x.data.feature_store import ImageFeatures
from clip2x.data.image_features import cache_image_features
from clip2x.data.shapenet_pairs import ShapeNetPairs
from clip2x.encoders.clip import ClipTowers
from clip2x.errors import InputError, TrainingDivergedError
from clip2x.evaluation.metrics import merge_parts
from clip2x.modules.divergence import DivergenceWatch
from clip2x.modules.gathering import gathered_objects
from clip2x.modules.resuming import last_checkpoint, leave_clip_out, refuse_others
from clip2x.modules.validation import accuracies
from clip2x.storage import check_writable, remove_stale

Scores = tuple[Tensor, Tensor, Tensor]  # index (n,), cosines (n, C), label (n,)


@dataclass(frozen=True)
class Joined:
    """What was scored of a whole validation set: index (N,), cosines (N, C), label (N,), and the two accuracies, shares of 1."""

    index: Tensor
    scores: Tensor
    labels: Tensor
    top1: float
    class_mean: float


class FrozenClipTraining(LightningModule):
    """Checks before the start, the watch over the loss, and checkpoints that say what they are.

    A stage gives `_about` (what a checkpoint says of itself, its `stage` among it) and `_trained_on` (what must stay the same in a run that goes
    on), and calls `_freeze` once its parts are there.

    Args:
        clip: The frozen CLIP.
        output: The file that the best weights are written to at the end.
    """

    def __init__(self, clip: ClipTowers, output: Path) -> None:
        super().__init__()
        self.clip, self.output, self.watch = clip, Path(output), DivergenceWatch()

    def _about(self) -> dict[str, Any]:
        raise NotImplementedError

    def _trained_on(self) -> dict[str, str]:
        raise NotImplementedError

    @property
    def _stage(self) -> str:
        raise NotImplementedError

    def on_train_start(self) -> None:
        """Say how large the batch is that the loss contrasts: the first thing to compare when a result differs from another machine's."""
        size, processes = self._data.global_batch_size, self.trainer.world_size
        self.print(f"global batch {size} over {processes} process{'es' if processes > 1 else ''}, from step {self.global_step} to "
                   f"{self.trainer.max_steps}")

    def on_train_end(self) -> None:
        """Look at the loss of the last step too."""
        self._check_last_loss()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the encoder, and say what it is trained on; weights of a diverged step are not saved."""
        self._check_last_loss()
        checkpoint["clip2x"] = self._about()
        checkpoint["trained_on"] = self._trained_on()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with a run of another stage, on other data or with other settings."""
        refuse_others(checkpoint, self._stage, self._trained_on(), self.output.parent)

    def _freeze(self) -> None:
        """Keep what does not change out of checkpoints and out of what processes send each other."""
        # no buffer changes, so DDP need not send them before every step; in validation processes may have unequal numbers of batches
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]
        leave_clip_out(self, self.clip)

    def _check_start(self, stage: str) -> None:
        """Check the subcommand and the folder of the output.

        Raises:
            InputError: If the subcommand is another than fit, or the output's folder cannot be written.
        """
        if stage != "fit":
            raise InputError("this module only trains (the subcommand fit); evaluate its checkpoint with: make eval-zeroshot.")
        check_writable(self.output.parent)
        remove_stale(self.output.parent)

    def _require_synced_batch_norm(self) -> None:
        """Refuse to train batch norm whose statistics are those of a process's own share of the batch.

        Raises:
            InputError: If several processes train it and it is not synchronised between them.
        """
        trained = [name for name, module in self.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
                   and not isinstance(module, nn.SyncBatchNorm) and any(weight.requires_grad for weight in module.parameters())]
        synchronised = getattr(self.trainer.strategy, "_layer_sync", None) is not None
        if trained and self.trainer.world_size > 1 and not synchronised:
            raise InputError(f"{len(trained)} layers of batch norm are trained (first {trained[0]}), each process by its own share of the batch; "
                             "add --trainer.sync_batchnorm true (CUDA), or use one process.")

    def _check_steps(self, what: str) -> None:
        """Refuse settings of the trainer that would change a contrastive loss.

        Args:
            what: What a batch holds, for the message.

        Raises:
            InputError: For 16-bit weights, batch norm that is not synchronised, accumulated gradients, or a batch of one.
        """
        self._check_precision()
        self._require_synced_batch_norm()
        if (parts := self.trainer.accumulate_grad_batches) != 1:
            raise InputError(f"--trainer.accumulate_grad_batches {parts} would contrast each part of a batch alone, which is another loss; "
                             "use more devices or a smaller data.batch_size.")
        if (size := self._data.global_batch_size) < 2:
            raise InputError(f"data.batch_size is {size}: contrast needs at least 2 {what} in a step.")

    def _check_precision(self) -> None:
        if str(self.trainer.precision) in ("bf16-true", "16-true"):
            raise InputError(f"--trainer.precision {self.trainer.precision} would hold the weights in 16 bits; use bf16-mixed, 16-mixed or 32-true.")

    def _join_scores(self, name: str, parts: list[Scores], encoder: str) -> Joined:
        """Join what all processes scored of a validation set, and log top-1 and class mean.

        Raises:
            TrainingDivergedError: If a score is not finite.
        """
        index, scores, labels = merge_parts(gathered_objects(self, parts))
        self._check_finite(scores, encoder)
        top1, class_mean = accuracies(scores, labels)
        self.log_dict({f"{name}/top1": top1, f"{name}/class_mean": class_mean})
        return Joined(index, scores, labels, top1, class_mean)

    def _check_finite(self, scores: Tensor, encoder: str) -> None:
        if not bool(scores.isfinite().all()):
            raise TrainingDivergedError(f"{encoder} gives no numbers after step {self.global_step}: a gradient of one of the last steps was "
                                        f"none; {last_checkpoint(self.trainer) or 'no checkpoint'} is the last good one. Lower the rate.")

    def _check_last_loss(self) -> None:
        report = self.output.parent / (f"diverged-rank{self.global_rank}.json" if self.trainer.world_size > 1 else "diverged.json")
        self.watch.check(report, self._data.train_set.describe, last_checkpoint(self.trainer))

    def _encode_pictures(self, images: Tensor) -> Tensor:
        """Encode pictures with the frozen tower, in the training's precision, whether it is a step or the cache that asks."""
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            return self.clip.image_tower.encode_image(images.to(self.device)).float()

    def _cached_features(self, pairs: ShapeNetPairs, folder: Path) -> ImageFeatures:
        """Let the frozen tower see all rendered pictures once, and keep what it says."""
        return cache_image_features(
            pairs, self._encode_pictures, clip_id=f"{self.clip.id} {self.clip.mean} {self.clip.std} {self.trainer.precision}",
            embed_dim=self.clip.embed_dim, image_size=self.clip.image_size, folder=Path(folder), rank=self.trainer.global_rank,
            world_size=self.trainer.world_size, barrier=self.trainer.strategy.barrier)

    @property
    def _data(self) -> Any:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def _set_names(self) -> list[str]:
        """Name the validation sets as the log does."""
        return ["val", *(f"test/{data.manifest.name}-{data.variant_name}-{data.split}" for data in self._data.watch_sets)]
