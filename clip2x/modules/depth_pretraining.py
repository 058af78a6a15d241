"""CLIP2Point's image-depth pre-training: a depth encoder, at first CLIP's image tower, learns to say of depth views what CLIP says of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LinearLR, LRScheduler, SequentialLR

from clip2x.data.faults import REPORTED
from clip2x.data.shapenet import ShapeNet
from clip2x.data.shapenet_pairs import VIEW_PRESET, ShapeNetPairs
from clip2x.encoders.checkpoint_parts import describe_clip
from clip2x.encoders.clip import ClipTowers, ImageTower
from clip2x.encoders.depth import DepthViewEncoder, pool_view_features
from clip2x.encoders.depth_checkpoint import STAGE, read_depth_checkpoint, save_depth_checkpoint
from clip2x.errors import InputError
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.evaluation.ensemble import fit_factors
from clip2x.evaluation.metrics import merge_parts
from clip2x.losses import DepthPairLoss
from clip2x.modules.frozen_clip import FrozenClipTraining, Scores
from clip2x.modules.gathering import gathered, gathered_objects
from clip2x.modules.resuming import settings_of
from clip2x.modules.validation import accuracies, best_checkpoint
from clip2x.optim import Lamb, train_only_some
from clip2x.provenance import commit
from clip2x.types import PairBatch, PointBatch

SELECTION = {"train_val": "val", "official": "test/shapenet-pc-test"}  # rule -> set; official code (30673e7, pretraining.py): best epoch there
MONITOR = "select/top1"
GRID_SAMPLES = 8  # pairs shown in TensorBoard


class DepthPretraining(FrozenClipTraining):
    """Pull depth views towards CLIP's picture of the same object (cross) and towards each other (intra).

    The frozen image tower encodes the rendered picture; its trained copy encodes depth views of the same camera at two distances. The loss is
    that of the whole batch over all processes, with gradients through the gathering, so two GPUs give the loss of one. (The official code
    runs under DataParallel with the loss inside: its negatives are 256 divided by the number of GPUs.)

    Validation is zero-shot classification by all views of the preset, as released. The first validation set, a part carved from the
    training list, chooses the best checkpoint; the sets that the DataModule watches are logged as `test/...` and choose nothing, unless
    `select_on` asks for the official rule.

    Args:
        clip: The frozen CLIP: its image tower is the target, its text tower names classes in validation.
        output: The safetensors file that the best depth encoder is written to at the end, see `docs/checkpoints.md`.
        views: View preset of the pictures. Official code: `clip2point-10`.
        point_radius: Splat radius, or `density`. Official code: 0.02.
        loss: Official code: NT-Xent at temperature 0.07 with the intra term.
        optimizer: Official code: LAMB, rate 6e-3, weight decay 1e-4.
        restart_epochs: Length of a cosine with warm restarts, stepped in every iteration. Official code: 2. None: one cosine over all steps (ours).
        min_learning_rate: Where each cosine ends. Official code: 1e-5.
        warmup_steps: Steps over which the rate climbs first. Official code: 0.
        train_only: Starts of names of the tower's weights that are trained, e.g. `[transformer.resblocks.11, ln_post, proj]`; None: all
            (official code).
        image_feature_cache: Folder where the frozen tower's features of all pictures are kept, so that it runs once and not in every epoch. Ours.
        templates: Name of the manifest's prompts for validation, or templates with `{}`, several separated by `|`.
        select_on: `train_val` (ours) or `official`: ShapeNet's test list, as the released code does, for comparison with that code: the figures
            on that list are then chosen on it.
        unseen_names: Class names that were kept out of the training data on purpose; stored, so that evaluation reports them apart.
    """

    def __init__(self, clip: ClipTowers, output: Path, views: str = "clip2point-10", point_radius: float | str = 0.02,
                 loss: DepthPairLoss | None = None, optimizer: OptimizerCallable = Lamb, restart_epochs: float | None = 2.0,
                 min_learning_rate: float = 1e-5, warmup_steps: int = 0, train_only: list[str] | None = None,
                 image_feature_cache: Path | None = None, templates: str = "official_code", select_on: str = "train_val",
                 unseen_names: list[str] | None = None) -> None:
        super().__init__(clip, output)
        if select_on not in SELECTION:
            raise InputError(f"model.select_on must be one of {', '.join(SELECTION)}, got {select_on!r}.")
        if (restart_epochs is not None and restart_epochs <= 0) or warmup_steps < 0 or min_learning_rate < 0:
            raise InputError("model.restart_epochs must be positive, model.warmup_steps and model.min_learning_rate not negative, "
                             f"got {restart_epochs}, {warmup_steps}, {min_learning_rate:g}.")
        self.loss = loss or DepthPairLoss()
        self.depth_encoder = DepthViewEncoder(clip.trainable_image_tower(), views=views, point_radius=point_radius, chunk=None)
        self._untouched = (DepthViewEncoder(clip, views=views, point_radius=point_radius),)  # in a tuple: its weights are `clip`'s, listed once
        train_only_some(self.tower.visual, train_only)
        self.optimizer, self.restart_epochs, self.min_learning_rate, self.warmup_steps = optimizer, restart_epochs, min_learning_rate, warmup_steps
        self.image_feature_cache, self.templates, self.select_on = image_feature_cache, templates, select_on
        self.views, self.point_radius, self.unseen_names = views, point_radius, list(unseen_names or [])
        self.ensemble = {"tuned": clip.logit_scale / 2, "clip": clip.logit_scale / 2}  # until the first validation
        self.val_top1: float | None = None
        self._scores: dict[int, list[Scores]] = {}
        self._untouched_parts: list[Scores] = []
        self._untouched_scores: Scores | None = None  # of the first set, whose clouds stay the same: computed in the first validation
        self._freeze()

    @property
    def tower(self) -> ImageTower:
        """The tower that is trained."""
        return cast(ImageTower, self.depth_encoder.tower)

    def setup(self, stage: str) -> None:
        """Check that data, CLIP and trainer fit together before any work.

        Raises:
            InputError: If they do not.
        """
        self._check_start(stage)
        data = self._data
        if not isinstance(data.train_set, ShapeNetPairs):
            raise InputError(f"data.train must be ShapeNetPairs for this stage, got {type(data.train_set).__name__}.")
        data.train_set.require_image_size(self.clip.image_size)
        if self.views != VIEW_PRESET:
            raise InputError(f"model.views is {self.views!r}, but the pictures show the views of {VIEW_PRESET!r}; leave it at that.")
        self._check_steps("pairs")
        if overlap := sorted(set(self.unseen_names) & set(data.train_set.present_classes)):
            raise InputError(f"model.unseen_names has {', '.join(overlap)}, which the training data has too; list them in data.train's exclude.")
        if SELECTION[self.select_on] not in self._set_names():
            raise InputError("model.select_on official chooses by ShapeNet's test list: add shapenet/pc/test to data.watch.")
        if self.select_on == "train_val" and (both := _models(data.val_set) & set(map(data.train_set.describe, range(len(data.train_set))))):
            raise InputError(f"{len(both):,} models are in data.train and in data.val, which chooses the checkpoint, first {min(both)}; "
                             "train on shapenet's train:fit and validate on train:val.")

    def on_fit_start(self) -> None:
        """Compute the frozen features, where they are to be kept; the module is on its device by now."""
        if self.image_feature_cache is not None:
            self._data.train_set.image_features = self._cached_features(self._data.train_set, self.image_feature_cache)

    def configure_optimizers(self) -> Any:
        """The optimizer on all that is trained, s among it (official code), and the cosine, stepped in every iteration."""
        optimizer = self.optimizer([item for item in (*self.depth_encoder.parameters(), *self.loss.parameters()) if item.requires_grad])
        schedule: LRScheduler
        if self.restart_epochs is None:
            schedule = CosineAnnealingLR(optimizer, T_max=max(self.trainer.max_steps - self.warmup_steps, 1), eta_min=self.min_learning_rate)
        else:
            period = max(1, round(self.restart_epochs * self.trainer.datamodule.steps_per_epoch))  # type: ignore[attr-defined]
            schedule = CosineAnnealingWarmRestarts(optimizer, T_0=period, eta_min=self.min_learning_rate)
        if self.warmup_steps:
            warmup = LinearLR(optimizer, start_factor=1 / (self.warmup_steps + 1), total_iters=self.warmup_steps)
            schedule = SequentialLR(optimizer, [warmup, schedule], milestones=[self.warmup_steps])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Encode, gather over the processes, contrast."""
        self._check_last_loss()
        grey = self.depth_encoder.draw.of_one_view(batch["points"], batch["view"], batch["distance"], batch["turn_deg"])
        view_features = gathered(self, self.depth_encoder.encode_views(grey).float())
        image_features = gathered(self, batch["image_features"] if "image_features" in batch else self._encode_pictures(batch["image"]))
        terms = self.loss(view_features, image_features)
        self.log_dict({f"train/{name}": term for name, term in terms.items()}, batch_size=len(image_features))
        self.log_dict({"train/s": self.loss.s.detach(), "train/negatives": float(len(image_features) - 1)}, batch_size=len(image_features))
        self.log("loss", terms["loss"].detach(), prog_bar=True, logger=False, batch_size=len(image_features))
        self.watch.note(self.global_step, terms["loss"], batch["index"])
        loss: Tensor = terms["loss"]
        return loss

    def on_validation_epoch_start(self) -> None:
        """Encode the class names of every set."""
        self._check_last_loss()
        self.loss.check()
        cache = self.output.parent / "class_embeddings"
        self._names = [class_embeddings(self.clip, data.class_names, data.manifest.templates(self.templates), cache=cache).to(self.device)
                       for data in (self._data.val_set, *self._data.watch_sets)]
        self._scores = {}

    def validation_step(self, batch: PointBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Compare clouds with the names; clouds of the first set, which stay the same, once with the untouched tower too."""
        grey = self.depth_encoder.draw(batch["points"])
        self._scores.setdefault(dataloader_idx, []).append(self._compare(self.depth_encoder, grey, batch, dataloader_idx))
        if dataloader_idx == 0 and self._untouched_scores is None:
            self._untouched_parts.append(self._compare(self._untouched[0], grey, batch, 0))

    def on_validation_epoch_end(self) -> None:
        """Join the scores of all processes, log accuracies, fit the factors for the sum of tuned and untouched tower."""
        for position, name in enumerate(self._set_names()):
            found = self._join_scores(name, self._scores.get(position, []), "the depth encoder")
            if name == SELECTION[self.select_on]:
                self.log(MONITOR, found.top1, prog_bar=True)
                self.val_top1 = found.top1
            if position == 0:
                self._fit_ensemble(found.index, found.scores, found.labels)
        if isinstance(self.logger, TensorBoardLogger) and self.trainer.is_global_zero and self.trainer.state.fn == "fit":
            self.logger.experiment.add_image("pairs: picture, depth at two distances", self._grid(), self.global_step)

    def on_fit_end(self) -> None:
        """Write the best encoder once the last step is done."""
        if self.trainer.global_step < self.trainer.max_steps or not self.trainer.is_global_zero:
            return
        about = self._about()
        if (best := best_checkpoint(self.trainer, MONITOR)) is not None:
            stored = read_depth_checkpoint(best)
            self.tower.visual.load_state_dict(stored.tower_state)
            about = stored.about
        save_depth_checkpoint(self.output, self.tower, self.clip, about)
        chosen = "" if about["val_top1"] is None else f", top-1 {100 * about['val_top1']:.1f} on {SELECTION[self.select_on]}"
        print(f"depth encoder: {self.output} (step {about['steps']} of {self.trainer.max_steps}{chosen})")

    def _fit_ensemble(self, index: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Fit the factors for the sum of tuned and untouched tower on samples that both have seen."""
        if self._untouched_scores is None:
            self._untouched_scores = merge_parts(gathered_objects(self, self._untouched_parts))
        known, untouched, _ = self._untouched_scores
        tuned, labels = scores[torch.isin(index, known)], labels[torch.isin(index, known)]
        untouched = untouched[torch.isin(known, index)]
        factors = fit_factors(torch.stack([tuned, untouched]), labels, start=self.clip.logit_scale / 2)
        self.ensemble = {"tuned": factors[0], "clip": factors[1]}
        self.log_dict({"val/untouched_top1": accuracies(untouched, labels)[0],
                       "val/sum_top1": accuracies(factors[0] * tuned + factors[1] * untouched, labels)[0]})

    def _compare(self, encoder: DepthViewEncoder, grey: Tensor, batch: PointBatch, dataloader_idx: int) -> Scores:
        embeds = pool_view_features(encoder.encode_views(grey).float())
        with torch.autocast(embeds.device.type, enabled=False):  # 16 bits would tie names
            cosines = (embeds @ self._names[dataloader_idx].T).cpu()
        return batch["index"].cpu(), cosines, batch["label"].cpu()

    @property
    def _stage(self) -> str:
        return STAGE

    def _about(self) -> dict[str, Any]:
        data = self._data
        rule = "the part carved from the training list" if self.select_on == "train_val" else "ShapeNet's test list (the official code's rule)"
        return {
            "stage": STAGE, **describe_clip(self.clip),
            "encoder": {"kind": "depth_views", "views": self.views, "point_radius": self.point_radius, "num_points": data.train_set.num_points,
                        "up": "y", "pooling": "cosine_sum"},
            "scale": self.clip.logit_scale, "ensemble": dict(self.ensemble), "class_names": list(data.train_set.present_classes),
            "unseen_names": self.unseen_names, "seed": data.seed, "commit": commit(), "precision": str(self.trainer.precision),
            "steps": self.trainer.global_step, "val_top1": self.val_top1, "selected_on": rule, "notes": list(data.train_set.notes),
        }

    def _trained_on(self) -> dict[str, str]:
        """Say what must stay the same when an interrupted run goes on."""
        data = self._data
        settings = settings_of(self.trainer, self.clip, apart_from=("clip", "output", "image_feature_cache"))
        settings["training pairs"] = data.train_set.models_sha256
        if self.restart_epochs is None:  # one cosine over all steps
            settings["steps"] = self.trainer.max_steps
        return {key: str(value) for key, value in settings.items()}

    def _grid(self) -> Tensor:
        """Lay out pairs: a column per object, under its picture the depth views at both distances; (3, 3 S, K S)."""
        pairs: ShapeNetPairs = self._data.train_set
        columns = []
        for index in range(0, len(pairs), -(-len(pairs) // GRID_SAMPLES)):
            try:
                sample, picture = pairs[index], pairs.picture(index, pairs[index]["view"])
            except REPORTED:  # training itself stops for it, or goes on where that was asked for
                continue
            grey = self.depth_encoder.draw.of_one_view(sample["points"][None], torch.tensor([sample["view"]]), sample["distance"][None],
                                                       sample["turn_deg"][None])[0]
            columns.append(torch.cat([picture, *(view.expand(3, -1, -1) for view in grey)], dim=1))
        return torch.cat(columns or [torch.ones(3, 1, 1)], dim=2)


def _models(data: Any) -> set[str]:
    """Name the models of a validation set; those of another data set than ShapeNet are none."""
    clouds = getattr(data, "data", data)
    return {"-".join(clouds.model_of(entry)) for entry in clouds.entries} if isinstance(clouds, ShapeNet) else set()
