"""Train one adapter behind both towers, on one process or many: what `make adapt` does for many draws on kept features, as a Lightning stage."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR

from clip2x.adapters import AdapterSettings, GatedFusion
from clip2x.data.clouds import LabelledClouds
from clip2x.data.samplers import SampleKey
from clip2x.data.shots import may_share_objects
from clip2x.encoders.adapter_checkpoint import STAGE, gate_start, mined_by, save_adapter_checkpoint, towers_facts, towers_of
from clip2x.encoders.checkpoint_parts import describe_clip
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import read_depth_checkpoint
from clip2x.encoders.dual import CLIP, DEPTH, POINTS, AdaptedEncoder
from clip2x.encoders.point_checkpoint import read_point_checkpoint, require_coordinates, require_ours
from clip2x.errors import InputError
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.evaluation.view_features import ViewFeatureCache
from clip2x.modules.frozen_clip import FrozenClipTraining, Scores
from clip2x.modules.resuming import settings_of
from clip2x.modules.validation import best_checkpoint
from clip2x.optim import train_only_some
from clip2x.provenance import commit
from clip2x.types import PointBatch

MONITOR = "select/class_mean"
HEADS = ("names", "linear")


class GDPATuning(FrozenClipTraining):
    """Tune a gated dual-path adapter on labelled clouds; both towers stay frozen, unless a part of the depth tower is named.

    The best checkpoint is chosen by the class mean on `data.val`, a part of the training list; sets that the DataModule watches are logged as
    `test/...` and choose nothing.

    Args:
        clip: The CLIP of the depth encoder's training.
        output: The safetensors file that the adapter is written to at the end.
        checkpoint: A depth encoder of `pretrain-depth`, or the official release's.
        point_checkpoint: A point encoder as a third path (ours).
        adapter: What the adapter is made of.
        optimizer: Official code of DPA: AdamW, rate 1e-3, weight decay 1e-4.
        scale: Factor on the cosines; None: the CLIP's logit scale. DPA: 1.
        label_smoothing: Of the cross-entropy.
        head: `names`: the frozen embeddings of the class names, so that the adapter takes any words later; `linear`: trained class weights that start
            from them, which knows its classes only.
        templates: Name of the manifest's prompts, or templates.
        train_only: Starts of names of the depth tower's weights that are tuned too, e.g. `[transformer.resblocks.11, ln_post, proj]`; null: none.
        draws: Keep what the frozen towers say of the training clouds, that of so many epochs, which are then seen in turn: 0 lets the towers run in
            every step. One draw is enough for clouds that are the same in every epoch; with augmentation it takes several.
    """

    def __init__(self, clip: ClipTowers, output: Path, checkpoint: Path | None = None, point_checkpoint: Path | None = None,
                 adapter: AdapterSettings | None = None, optimizer: OptimizerCallable = torch.optim.AdamW, scale: float | None = None,
                 label_smoothing: float = 0.0, head: str = "names", templates: str = "official_code", train_only: list[str] | None = None,
                 draws: int = 0) -> None:
        super().__init__(clip, output)
        if checkpoint is None:
            raise InputError("model.checkpoint is not set; give depth_encoder.safetensors of pretrain-depth.")
        if head not in HEADS or draws < 0 or (scale is not None and not scale > 0) or not 0 <= label_smoothing < 1:
            raise InputError(f"model.head is names or linear, model.draws at least 0, model.scale positive and model.label_smoothing in [0, 1), got "
                             f"{head!r}, {draws}, {scale} and {label_smoothing:g}.")
        if draws and train_only is not None:
            raise InputError("model.draws keeps what frozen towers say, and model.train_only tunes one of them; leave one of both out.")
        self.depth = read_depth_checkpoint(checkpoint)
        self.points = None if point_checkpoint is None else read_point_checkpoint(point_checkpoint)
        if self.points is not None:
            require_ours(self.points, "model.point_checkpoint", "give point_encoder.safetensors, or leave it out: --model.point_checkpoint null")
            require_coordinates(self.points)
        towers = towers_of(self.depth, clip, self.points)
        paths = (DEPTH, CLIP) if self.points is None else (DEPTH, CLIP, POINTS)
        start = gate_start(self.depth, self.points, paths)
        self.encoder = AdaptedEncoder(towers, GatedFusion(towers.num_views, towers.embed_dim, adapter, start), paths)
        tower: Any = towers.depth.tower
        if train_only is not None:
            tower.requires_grad_(True)
            train_only_some(tower.visual, train_only)
            towers.depth.chunk = None
        self.optimizer, self.scale, self.label_smoothing = optimizer, clip.logit_scale if scale is None else scale, label_smoothing
        self.head_kind, self.templates, self.train_only, self.draws = head, templates, train_only, draws
        self.head: nn.Parameter | None = None
        self.val: float | None = None
        self._scores: dict[int, list[Scores]] = {}
        self._kept: list[list[Tensor]] = []
        self._cache: ViewFeatureCache | None = None
        self._freeze()

    def setup(self, stage: str) -> None:
        """Check that data and settings fit together before any work.

        Raises:
            InputError: If they do not.
        """
        self._check_start(stage)
        self._check_precision()
        train, val = self._data.train_set, self._data.val_set
        if not isinstance(train, LabelledClouds):
            raise InputError(f"data.train must be LabelledClouds for this stage, got {type(train).__name__}.")
        if val is None:
            raise InputError("data.val is not set, so nothing chooses the checkpoint; give a part of the training list, e.g. train:val.")
        _check_selection(train, val)
        if missing := [name for place, name in enumerate(train.class_names) if place not in set(train.labels.tolist())]:
            raise InputError(f"data.train has no cloud of {', '.join(missing[:5])}: nothing can be learnt of it; take a larger part.")
        if (train.augmentations or train.data.num_points > train.num_points) and self.draws == 1:
            raise InputError("model.draws 1 would keep one copy of every cloud for all epochs, but augmentation or pool_points draw it anew in each; "
                             "take several draws, or 0.")
        if self.encoder.adapter.settings.norm == "batch":
            self._check_batch_norm()
        self._require_synced_batch_norm()
        if self.head_kind == "linear":
            names = class_embeddings(self.clip, train.class_names, train.manifest.templates(self.templates), cache=self._names_folder)
            self.head = nn.Parameter(names.clone().float())

    def on_fit_start(self) -> None:
        """Encode class names; run the frozen towers once over the training clouds, where what they say is to be kept."""
        train = self._data.train_set
        names = class_embeddings(self.clip, train.class_names, train.manifest.templates(self.templates), cache=self._names_folder)
        self.names = names.to(self.device)
        if self.draws:
            self._kept = self._keep()

    def configure_optimizers(self) -> Any:
        """The optimizer on what is trained, and one cosine over all steps (ours)."""
        optimizer = self.optimizer([weight for weight in self.parameters() if weight.requires_grad])
        schedule = CosineAnnealingLR(optimizer, T_max=max(self.trainer.max_steps, 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: PointBatch, batch_idx: int) -> Tensor:
        """Encode, fuse, compare with the names."""
        self._check_last_loss()
        draw_key = self._data.seed, self.global_step, int(batch["index"][0]), self.global_rank
        torch.manual_seed(hash(draw_key) % 2**63)  # dropout is the same in a resumed run
        if self._kept:
            draw = self.global_step // self._data.steps_per_epoch % self.draws
            features = [path[batch["index"].cpu()].to(self.device) for path in self._kept[draw]]
        else:
            features = self.encoder.towers(batch["points"])
        embeds = self.encoder.of_features(features)
        with torch.autocast(embeds.device.type, enabled=False):
            loss = functional.cross_entropy(self.scale * embeds.float() @ self._classes().T, batch["label"], label_smoothing=self.label_smoothing)
        self.log("train/loss", loss.detach(), batch_size=len(embeds), sync_dist=self.trainer.world_size > 1)
        self.log("loss", loss.detach(), prog_bar=True, logger=False, batch_size=len(embeds))
        self.watch.note(self.global_step, loss, batch["index"])
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start with no scores."""
        self._check_last_loss()
        self._scores, self._weights = {}, list[Tensor]()

    def validation_step(self, batch: PointBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Compare clouds with the names of their set."""
        features = self._features(batch["points"])
        embeds = self.encoder.of_features(features).float()
        names = self._classes()
        if dataloader_idx:
            data = self._data.watch_sets[dataloader_idx - 1]
            names = class_embeddings(self.clip, data.class_names, data.manifest.templates(self.templates), cache=self._names_folder).to(self.device)
        elif self.encoder.adapter.gate is not None:
            self._weights.append(self.encoder.adapter.fused([features[place] for place in self.encoder.places])[1].mean(dim=(0, 2)).float().cpu())
        with torch.autocast(embeds.device.type, enabled=False):
            scores = (embeds @ names.T).cpu()
        self._scores.setdefault(dataloader_idx, []).append((batch["index"].cpu(), scores, batch["label"].cpu()))

    def on_validation_epoch_end(self) -> None:
        """Join the scores of all processes, log accuracies and what the paths weigh."""
        for position, name in enumerate(self._set_names()):
            found = self._join_scores(name, self._scores.get(position, []), "the adapter")
            if position == 0:
                self.log(MONITOR, found.class_mean, prog_bar=True)
                self.val = found.class_mean
        if self._weights:
            mean = torch.stack(self._weights).mean(dim=0)
            self.log_dict({f"gate/{path}": float(weight) for path, weight in zip(self.encoder.chosen, mean, strict=True)}, sync_dist=True)

    def on_fit_end(self) -> None:
        """Write the best adapter once the last step is done."""
        if self.trainer.global_step < self.trainer.max_steps or not self.trainer.is_global_zero:
            return
        about = self._about()
        if (best := best_checkpoint(self.trainer, MONITOR)) is not None:
            stored = torch.load(best, weights_only=True, map_location="cpu")
            self.load_state_dict(stored["state_dict"])
            about = stored["clip2x"]
        head = None if self.head is None else functional.normalize(self.head.detach(), dim=-1)
        save_adapter_checkpoint(self.output, self.encoder, self.clip, about, head)
        chosen = "" if about["val_class_mean"] is None else f", class mean {100 * about['val_class_mean']:.1f} on data.val"
        print(f"adapter: {self.output} (step {about['steps']} of {self.trainer.max_steps}{chosen})")

    def _features(self, points: Tensor) -> list[Tensor]:
        """Let the towers see clouds that stay the same: once, where what they say is kept."""
        if self._cache is None:
            return self.encoder.towers(points)  # type: ignore[no-any-return]
        return [path.to(self.device) for path in self._cache.features(points)]

    def _check_batch_norm(self) -> None:
        """Let batch normalisation see the clouds of all processes.

        Raises:
            InputError: If several processes do not run on CUDA, or one has a single cloud in a step.
        """
        several = self.trainer.world_size > 1
        if several and self.trainer.strategy.root_device.type != "cuda":
            raise InputError("model.adapter.norm batch is synchronised between processes on CUDA only; use one process, or norm layer or none.")
        if self._data.global_batch_size < 2 * self.trainer.world_size:
            raise InputError(f"model.adapter.norm batch needs two clouds in every process; raise data.batch_size ({self._data.global_batch_size}).")
        if not several:
            return
        self.encoder.adapter = nn.SyncBatchNorm.convert_sync_batchnorm(self.encoder.adapter)  # type: ignore[no-untyped-call]

    def _classes(self) -> Tensor:
        return self.names if self.head is None else functional.normalize(self.head, dim=-1)

    def _keep(self) -> list[list[Tensor]]:
        """Let the towers see the training clouds of so many epochs; processes share the work and the folder."""
        train = self._data.train_set
        about = {**towers_facts(self.clip, self.depth, self.points), "precision": str(self.trainer.precision)}
        cache = ViewFeatureCache(self.encoder.towers, self.output.parent / "view_features", about, self.trainer.precision_plugin.forward_context)
        self._cache = cache
        kept = []
        for draw in range(self.draws):
            parts = torch.split(torch.arange(len(train)), self._data.batch_size)
            clouds = [torch.stack([train[SampleKey(int(index), draw)]["points"] for index in part]) for part in parts]
            for part in clouds[self.trainer.global_rank::self.trainer.world_size]:
                cache.features(part.to(self.device))
            self.trainer.strategy.barrier()
            encoded = [cache.features(part.to(self.device)) for part in clouds]
            kept.append([torch.cat(path) for path in zip(*encoded, strict=True)])
        return kept

    @property
    def _stage(self) -> str:
        return STAGE

    @property
    def _names_folder(self) -> Path:
        return self.output.parent / "class_embeddings"

    def _about(self) -> dict[str, Any]:
        train = self._data.train_set
        labels = "all labels" if train.data.limit is None else f"{len(train):,} labels"
        shots = labels if train.data.shots is None else f"{train.data.shots} labelled clouds of every class"
        said = None if self.points is None else self.points.about["encoder"]
        return {
            "encoder": self.depth.about["encoder"], "scale": self.scale, "templates": list(train.manifest.templates(self.templates)),
            "class_names": list(train.class_names), "points": said,
            "mined": mined_by(self.depth, self.points, self.encoder.chosen),
            "unseen_names": [], "seed": self._data.seed, "commit": commit(), "ensemble": None, "precision": str(self.trainer.precision),
            "trained_with": f"{shots} of {train.manifest.name}/{train.data.variant_name}/{train.data.split}", "steps": self.trainer.global_step,
            "trained_on": {"data": f"{train.manifest.name}/{train.data.variant_name}/{train.data.split}", "shots": train.data.shots or "all",
                           "seed": self._data.seed},
            "val_class_mean": self.val, "selected_on": "the class mean on data.val", "notes": list(train.notes), "head": self.head_kind,
            "depth_checkpoint_sha256": self.depth.sha256, "stage": STAGE, "adapter": self.encoder.adapter.describe(),
            "paths": list(self.encoder.chosen), **describe_clip(self.clip),
        }

    def _trained_on(self) -> dict[str, str]:
        """Say what must stay the same when an interrupted run goes on."""
        settings = settings_of(self.trainer, self.clip, apart_from=("clip", "output", "checkpoint", "point_checkpoint"))
        settings |= {"depth encoder": self.depth.sha256, "point encoder": None if self.points is None else self.points.sha256,
                     "adapter": asdict(self.encoder.adapter.settings), "steps": self.trainer.max_steps}
        return {key: str(value) for key, value in settings.items()}


def _check_selection(train: LabelledClouds, val: Any) -> None:
    """Refuse to choose a checkpoint by test data or by the training data itself.

    Raises:
        InputError: If `data.val` is no part of the training list that `data.train` leaves out.
    """
    if not isinstance(val, LabelledClouds) or val.class_names != train.class_names:
        raise InputError("data.val must be LabelledClouds with the classes of data.train; take two parts of one training list.")
    own, chosen = train.data, val.data
    same = own.manifest.name == chosen.manifest.name and own.variant_name == chosen.variant_name
    splits = own.variant.splits
    official = [splits[data.official_split].of or data.official_split for data in (own, chosen)] if same else []
    if not same or official[0] != official[1] or may_share_objects(chosen, own.split):
        raise InputError(f"data.val is {chosen.manifest.name}/{chosen.variant_name}/{chosen.split}, which must be a part of the training list that "
                         f"data.train ({own.manifest.name}/{own.variant_name}/{own.split}) leaves out, e.g. train:fit and train:val: it chooses the "
                         "checkpoint.")
