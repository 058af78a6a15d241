"""CLIP2's pre-training: a point encoder learns to say of points what frozen CLIP says of their text and of their picture."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional

from clip2x.data.entries import spread
from clip2x.data.faults import REPORTED
from clip2x.data.triplets.dataset import TripletProxies
from clip2x.encoders.checkpoint_parts import describe_clip, require_layout, shapes_of
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth import SampledViewEncoder, pool_view_features
from clip2x.encoders.depth_checkpoint import DepthCheckpoint, depth_encoder_of, read_depth_checkpoint, save_depth_checkpoint
from clip2x.encoders.point_checkpoint import read_point_checkpoint, require_ours, save_point_checkpoint
from clip2x.encoders.points import PointEncoder
from clip2x.encoders.points.released import ReleasedEncoder
from clip2x.errors import InputError
from clip2x.evaluation.class_embeddings import centred, class_embeddings
from clip2x.evaluation.ensemble import fit_factors
from clip2x.evaluation.metrics import merge_parts
from clip2x.evaluation.proxy_pictures import triplet_sheet
from clip2x.losses import GlobalBatch, TripletLoss
from clip2x.modules.ancestry import Parent
from clip2x.modules.frozen_clip import FrozenClipTraining, Scores
from clip2x.modules.gathering import gathered, gathered_objects
from clip2x.modules.resuming import settings_of
from clip2x.modules.triplet_sources import TripletSources
from clip2x.modules.validation import accuracies, best_checkpoint
from clip2x.optim import decayed_and_not, warmup_cosine
from clip2x.provenance import commit
from clip2x.types import PointBatch, TripletBatch

MONITOR = "select/class_mean"
SHOWN_TRIPLETS = 8  # of a store, in TensorBoard
DEPTH_TEMPLATES = ("image of a {}",)  # official code of CLIP2Point
EncoderFactory = Callable[[int], PointEncoder]


class TripletPretraining(FrozenClipTraining):
    """Pull points towards the text (semantic level) and the picture (instance level) of their triplet; CLIP's towers stay frozen.

    Texts are encoded once. Pictures come as embeddings that lie beside the store, or are encoded in every step where the data gives pictures.
    The loss is that of the whole batch over all processes, with gradients through the gathering, computed by rows.

    Validation names the held-out triplets of `data.val` among all concepts, by the names that they were mined with, and chooses the best
    checkpoint by the class mean; no annotation is read. Labelled sets that the DataModule watches are logged as `test/...` and choose nothing.

    Args:
        clip: The frozen CLIP.
        output: The safetensors file that the best encoder is written to at the end, see `docs/checkpoints.md`.
        encoder: The point encoder; it is given the CLIP's embedding width.
        tuned: In the place of `encoder`: a depth encoder of pretrain_depth that is tuned on the triplets (the paper compares so; how it tunes
            is not known); `output` is then a depth encoder again. tuned_views: its views of a cloud in a step.
        loss: Weights and temperatures. Weights of one half: third party (UniGS ced8a3e).
        optimizer: AdamW with the rate 1e-4: third party (UniGS); weight decay 0.05: ours. Norms, biases and temperatures are not decayed (ours).
        warmup_share: Share of the steps in which the rate climbs; a cosine down to 0 follows. Ours.
        templates: Prompts of the texts; several are averaged. Third party (UniGS): "point cloud of {}".
        centre_texts: Remove the mean of all texts from them, in training and, stored with the checkpoint, in use. Ours: names of CLIP lie close
            together. Off in the paper as far as known.
        init: A point checkpoint whose encoder's weights are the initial ones; what it was trained on is stated of the new one too.
        ensemble_with: A depth encoder; the factors of the sum of its cosines and these are fitted on `data.val` and stored.
        image_feature_cache: Folder for the frozen tower's features of rendered models, where the data has such (`ObjectTriplets`).
        unseen_names: Names that were kept out of `data.train` and `data.val` on purpose, and of the training of `init` or `tuned`; stored, so that
            evaluation reports them apart.
    """

    def __init__(self, clip: ClipTowers, output: Path, encoder: EncoderFactory | None = None, tuned: Path | None = None, tuned_views: int = 2,
                 loss: TripletLoss | None = None, optimizer: OptimizerCallable = torch.optim.AdamW, warmup_share: float = 0.05,
                 templates: list[str] | None = None, centre_texts: bool = False, init: Path | None = None, ensemble_with: Path | None = None,
                 image_feature_cache: Path | None = None, unseen_names: list[str] | None = None) -> None:
        super().__init__(clip, output)
        if (encoder is None) == (tuned is None):
            raise InputError("give either model.encoder (a point encoder to train) or model.tuned (a depth encoder to tune).")
        if not 0 <= warmup_share < 1:
            raise InputError(f"model.warmup_share must lie in [0, 1), got {warmup_share:g}.")
        if tuned is not None and (init is not None or centre_texts):
            raise InputError("model.init and model.centre_texts belong to model.encoder; leave them out beside model.tuned.")
        self.loss = loss or TripletLoss()
        self.tuned: DepthCheckpoint | None = None if tuned is None else read_depth_checkpoint(tuned)
        self.point_encoder: nn.Module = encoder(clip.embed_dim) if encoder else _depth_encoder(self.tuned, clip, tuned_views)
        if isinstance(self.point_encoder, ReleasedEncoder):
            raise InputError(f"model.encoder is {type(self.point_encoder).__name__}, which computes weights that others released and keeps their "
                             "batch norm fixed; train a PointTransformer or a PointNet2.")
        self.parent = None if self.tuned is None else Parent("model.tuned", self.tuned.path, self.tuned.sha256, self.tuned.about)
        if init is not None:
            self.parent = _load_weights(self.point_encoder, init)
        if self.parent is not None:
            self.parent.require_unseen(unseen_names or [])
        self.optimizer, self.warmup_share = optimizer, warmup_share
        self.templates, self.centre_texts = list(templates or ["point cloud of {}"]), centre_texts
        other = None if ensemble_with is None else read_depth_checkpoint(ensemble_with)
        self._other = None if other is None else (other, depth_encoder_of(other, clip))  # in a tuple: not a part of this module's weights
        self.image_feature_cache, self.unseen_names = image_feature_cache, list(unseen_names or [])
        self.scale, self.val = clip.logit_scale, dict[str, float]()
        self.ensemble: dict[str, Any] | None = None
        self.mean_text: list[float] | None = None
        self._scores: dict[int, list[Scores]] = {}
        self._other_parts: list[Scores] = []
        self._other_scores: Scores | None = None  # of data.val, whose clouds stay the same: computed in the first validation
        self._freeze()

    def setup(self, stage: str) -> None:
        """Check that data, CLIP and trainer fit together before any work.

        Raises:
            InputError: If they do not.
        """
        self._check_start(stage)
        self._check_steps("triplets")
        self.sources = TripletSources(self._data.train_set, self._data.val_set, self.clip, images=self.loss.image_weight > 0)
        self.sources.require_steps(self._data.counts_epochs)

    def on_fit_start(self) -> None:
        """Encode what is frozen: pictures of models, names of models, texts; the module is on its device by now."""
        folder = self.image_feature_cache
        self.sources.name_objects(None if folder is None else lambda pairs: self._cached_features(pairs, folder))
        self.sources.check(text_term=self.loss.text_weight > 0, unseen_names=self.unseen_names)
        for note in self.sources.notes:
            self.print(f"note: {note}")
        cache, names = self.output.parent / "class_embeddings", self.sources.texts
        texts = class_embeddings(self.clip, names, self.templates, cache=cache)
        if self.centre_texts:
            mean = texts.mean(dim=0)
            self.mean_text, texts = mean.tolist(), centred(texts, mean)
        self.texts = texts.to(self.device)
        if self._other is not None:
            self._other[1].to(self.device)  # Lightning does not see it
            self._other_texts = class_embeddings(self.clip, names, DEPTH_TEMPLATES, cache=cache).to(self.device)
        self._log_triplets()

    def configure_optimizers(self) -> Any:
        """The optimizer on the encoder and the temperatures; warm-up and cosine in every step."""
        optimizer = self.optimizer(decayed_and_not([*self.point_encoder.parameters(), *self.loss.parameters()]))
        schedule = warmup_cosine(optimizer, self.trainer.max_steps, round(self.warmup_share * self.trainer.max_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: TripletBatch, batch_idx: int) -> Tensor:
        """Encode, gather over the processes, contrast."""
        self._check_last_loss()
        torch.manual_seed(hash((self._data.seed, self.global_step, self.global_rank)) % 2**63)  # what an encoder draws is the same in a resumed run
        points, ids = functional.normalize(self._encoded(batch["points"]).float(), dim=-1), batch["text_id"]
        images = None
        if self.loss.image_weight:
            images = batch["image_embed"] if "image_embed" in batch else functional.normalize(self._encode_pictures(batch["image"]), dim=-1)
        instances = batch["instance"]
        whole = self._whole(points, images, ids, instances)
        terms = self.loss(points, self.texts[ids], images, ids, whole, instances)
        figures = {name: term.detach() for name, term in terms.items()}
        for name, own, everyone in (("negative_texts", ids, ids if whole is None else whole.text_ids),
                                    ("negative_images", instances, instances if whole is None else cast(Tensor, whole.instance_ids))):
            figures[name] = (own[:, None] != everyone).sum(dim=1).float().mean()
        self.log_dict({f"train/{name}": value for name, value in figures.items()}, batch_size=len(ids), sync_dist=self.trainer.world_size > 1)
        scales = self.loss.scales
        self.log_dict({"train/scale_text": scales[0].detach(), "train/scale_image": scales[1].detach()}, batch_size=len(ids))
        self.log("loss", terms["loss"].detach(), prog_bar=True, logger=False, batch_size=len(ids))
        self.watch.note(self.global_step, terms["loss"], batch["index"])
        loss: Tensor = terms["loss"]
        return loss

    def on_validation_epoch_start(self) -> None:
        """Encode the class names of every labelled set."""
        self._check_last_loss()
        cache = self.output.parent / "class_embeddings"
        mean = None if self.mean_text is None else torch.tensor(self.mean_text)
        self._names = [self.texts]
        for data in self._data.watch_sets:
            names = class_embeddings(self.clip, data.class_names, self.templates, cache=cache)
            self._names.append((names if mean is None else centred(names, mean)).to(self.device))
        self._scores = {}

    def validation_step(self, batch: TripletBatch | PointBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Compare clouds with the names; those of the first set, which stay the same, once with the other encoder's too."""
        labels = cast(Tensor, batch["text_id"] if dataloader_idx == 0 else batch["label"])  # type: ignore[typeddict-item]
        embeds = functional.normalize(self.point_encoder(batch["points"]).float(), dim=-1)
        self._scores.setdefault(dataloader_idx, []).append(_compared(batch, embeds, self._names[dataloader_idx], labels))
        if dataloader_idx == 0 and self._other is not None and self._other_scores is None:
            self._other_parts.append(_compared(batch, pool_view_features(self._other[1](batch["points"]).float()), self._other_texts, labels))

    def on_validation_epoch_end(self) -> None:
        """Join the scores of all processes, log accuracies, fit the scale and the factors of the sum with the other encoder."""
        for position, name in enumerate(self._set_names()):
            found = self._join_scores(name, self._scores.get(position, []), "the encoder")
            if position == 0:
                self.log(MONITOR, found.class_mean, prog_bar=True)
                self.val = {"top1": found.top1, "class_mean": found.class_mean}
                self._fit_factors(found.index, found.scores, found.labels)

    def on_fit_end(self) -> None:
        """Write the best encoder once the last step is done."""
        if self.trainer.global_step < self.trainer.max_steps or not self.trainer.is_global_zero:
            return
        about = self._about()
        if (best := best_checkpoint(self.trainer, MONITOR)) is not None:
            stored = torch.load(best, weights_only=True, map_location="cpu")
            prefix = "point_encoder."
            self.point_encoder.load_state_dict({name.removeprefix(prefix): value for name, value in stored["state_dict"].items()
                                                if name.startswith(prefix)})
            about = stored["clip2x"]
        if isinstance(self.point_encoder, SampledViewEncoder):
            save_depth_checkpoint(self.output, cast(Any, self.point_encoder.encoder.tower), self.clip, about)
        else:
            save_point_checkpoint(self.output, cast(PointEncoder, self.point_encoder), self.clip, about)
        chosen = "" if about["val_top1"] is None else f", top-1 {100 * about['val_top1']:.1f} on held-out triplets by their own names"
        print(f"encoder: {self.output} (step {about['steps']} of {self.trainer.max_steps}{chosen})")

    @property
    def _stage(self) -> str:
        return "pretrain_points" if self.tuned is None else "pretrain_depth"

    def _encoded(self, clouds: Tensor) -> Tensor:
        """Encode the own clouds of a step. Views are drawn for the clouds of all processes, so that they do not depend on the number of these."""
        if not isinstance(self.point_encoder, SampledViewEncoder):
            encoded: Tensor = self.point_encoder(clouds)
            return encoded
        rank, own = self.global_rank, len(clouds)
        generator = torch.Generator().manual_seed(hash((self._data.seed, self.global_step, 0)) % 2**63)
        view, distance = self.point_encoder.draw_cameras(own * self.trainer.world_size, generator)
        rows = slice(rank * own, (rank + 1) * own)
        return self.point_encoder(clouds, (view[rows], distance[rows]))  # type: ignore[no-any-return]

    def _log_triplets(self) -> None:
        """Show some of the triplets that are trained on."""
        if not (isinstance(self.logger, TensorBoardLogger) and self.trainer.is_global_zero):
            return
        train = self._data.train_set
        for part in (part for part in getattr(train, "parts", (train,)) if isinstance(part, TripletProxies)):
            shown = []
            for place in spread(len(part), SHOWN_TRIPLETS):
                with suppress(*REPORTED):  # training itself stops for it, or goes on where that was asked for
                    shown.append((part.class_names[part.labels[place]], part.store[int(part.positions[place])]))
            self.logger.experiment.add_image(f"triplets/{part.store.folder.name}: text, crop, points", triplet_sheet(shown), dataformats="HWC")

    def _whole(self, points: Tensor, images: Tensor | None, ids: Tensor, instances: Tensor) -> GlobalBatch | None:
        """Join the batches of all processes; texts are looked up by the joined ids."""
        if self.trainer.world_size == 1:
            return None
        all_ids = gathered(self, ids)
        return GlobalBatch(gathered(self, points), self.texts[all_ids], None if images is None else gathered(self, images), all_ids,
                           self.global_rank * len(ids), gathered(self, instances))

    def _fit_factors(self, index: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Fit the scale of these cosines alone, and the factors of their sum with the other encoder's on samples that both have seen."""
        self.scale = fit_factors(scores[None], labels, start=self.clip.logit_scale)[0]
        if self._other is None:
            return
        if self._other_scores is None:
            self._other_scores = merge_parts(gathered_objects(self, self._other_parts))
        known, others, _ = self._other_scores
        own, other, own_labels = scores[torch.isin(index, known)], others[torch.isin(known, index)], labels[torch.isin(index, known)]
        factors = fit_factors(torch.stack([own, other]), own_labels, start=self.clip.logit_scale / 2)
        self.ensemble = {"points": factors[0], "depth": factors[1], "depth_checkpoint_sha256": self._other[0].sha256,
                         "num_points": self._data.val_set.num_points}
        self.log_dict({"val/other_top1": accuracies(other, own_labels)[0],
                       "val/sum_top1": accuracies(factors[0] * own + factors[1] * other, own_labels)[0]})

    def _about(self) -> dict[str, Any]:
        data = self._data
        said = {
            "stage": self._stage, **describe_clip(self.clip), "scale": self.scale, "unseen_names": self.unseen_names,
            "mined": self.sources.mined, "seed": data.seed, "commit": commit(), "precision": str(self.trainer.precision),
            "steps": self.trainer.global_step, "val_top1": self.val.get("top1"),
            "selected_on": "held-out triplets, by the names they were mined with", "class_names": self.sources.present_names,
            "notes": self.sources.notes, "parents": [],
        }
        if self.parent is not None:
            said = self.parent.inherited(said, self.sources.present_words)
        if self.tuned is not None:
            about = self.tuned.about
            return {**said, "encoder": about["encoder"], "ensemble": about["ensemble"], "scale": about["scale"],
                    "notes": [*about.get("notes", []), *said["notes"], "tuned on triplets (CLIP2's proxies); the factors of its sum with CLIP are "
                              "those from before"]}
        encoder = cast(PointEncoder, self.point_encoder)
        changed = [] if self.parent is None else self.parent.changed_targets(self.templates, self.centre_texts)
        return {**said, "notes": [*said["notes"], *changed],
                "encoder": {**encoder.describe(), "num_points": data.train_set.num_points, "up": "y", "channels": ["x", "y", "z"]},
                "ensemble": self.ensemble, "templates": self.templates, "mean_text": self.mean_text}

    def _trained_on(self) -> dict[str, str]:
        """Say what must stay the same when an interrupted run goes on."""
        settings = settings_of(self.trainer, self.clip, apart_from=("clip", "output", "image_feature_cache"))
        settings |= {"triplets": self.sources.sha256, "steps": self.trainer.max_steps}
        return {key: str(value) for key, value in settings.items()}


def _compared(batch: Any, embeds: Tensor, names: Tensor, labels: Tensor) -> Scores:
    with torch.autocast(embeds.device.type, enabled=False):  # 16 bits would tie names
        return batch["index"].cpu(), (embeds @ names.T).cpu(), labels.cpu()


def _depth_encoder(checkpoint: DepthCheckpoint | None, clip: ClipTowers, num_sampled: int) -> SampledViewEncoder:
    assert checkpoint is not None
    encoder = depth_encoder_of(checkpoint, clip).requires_grad_(True).train()
    encoder.chunk = None
    return SampledViewEncoder(encoder, num_sampled)


def _load_weights(encoder: nn.Module, path: Path) -> Parent:
    """Start from the encoder of a point checkpoint, which must be of the same kind and size."""
    stored = read_point_checkpoint(path)
    require_ours(stored, "model.init", "give point_encoder.safetensors, or leave it out: --model.init null")
    require_layout(stored.encoder_state, shapes_of(encoder.state_dict()), f"model.init {path}", "model.encoder")
    encoder.load_state_dict(stored.encoder_state)
    return Parent("model.init", stored.path, stored.sha256, stored.about)


