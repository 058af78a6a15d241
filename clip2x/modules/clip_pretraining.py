"""Train the small CLIP of the mini profile, which stands in for a web-scale one. Ours throughout."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.classification import MulticlassAccuracy

from clip2x.encoders.clip import create_clip
from clip2x.encoders.clip_files import save_clip_file
from clip2x.encoders.conv_tower import StandardisedConv2d
from clip2x.errors import CheckpointMismatchError
from clip2x.losses import CaptionLoss
from clip2x.miniworld.captions import caption_words
from clip2x.modules.gathering import gathered
from clip2x.modules.muon import MuonAdamW
from clip2x.modules.resuming import last_checkpoint
from clip2x.provenance import commit
from clip2x.storage import check_writable
from clip2x.types import CaptionedBatch


class ClipPretraining(LightningModule):
    """Contrast pictures with their captions and save the result as a CLIP weight file.

    The file carries, besides both towers, the words of the training captions and the settings with which `clip2x.load` turns it into a
    recogniser of point clouds.

    Args:
        output: The safetensors file to write at the end.
        model: open_clip id.
        loss: Contrastive loss with its learnable scale.
        learning_rate, weight_decay: AdamW's.
        filter_rate: Muon's, for the convolutions of the image tower: the share of its length by which a bank of filters changes in a step.
        warmup_share: Share of the steps in which the rate climbs; a cosine down to 0 follows.
        recognizer: Depth-view settings stored in the file: `views`, `point_radius`, `num_points`.
    """

    def __init__(self, output: Path, model: str = "clip2x-small", loss: CaptionLoss | None = None,
                 learning_rate: float = 1e-3, filter_rate: float = 0.05, weight_decay: float = 0.05, warmup_share: float = 0.08,
                 recognizer: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.clip, self.tokenize = create_clip(model, seed=torch.initial_seed() % 2**31)
        self.clip.visual.to(memory_format=torch.channels_last)  # a fifth faster on a processor
        self.clip.logit_scale.requires_grad_(False)  # the loss holds the scale; it is copied here when the file is written
        self.loss = loss or CaptionLoss()
        self.output, self.model_id = Path(output), model
        self.learning_rate, self.filter_rate = learning_rate, filter_rate
        self.weight_decay, self.warmup_share = weight_decay, warmup_share
        self.recognizer = recognizer or {}

    def configure_optimizers(self) -> Any:
        """Muon for the image tower's filters, AdamW for the rest, warm-up and cosine for both.

        Norms, biases, filters and the scale are not decayed; the scale learns ten times faster (ours).
        """
        filters = [module.weight for module in self.clip.visual.modules() if isinstance(module, StandardisedConv2d)]
        trained = [parameter for parameter in self.clip.parameters() if parameter.requires_grad and not any(parameter is item for item in filters)]
        groups = [{"params": filters, "weight_decay": 0.0, "lr": self.filter_rate, "orthogonal": True}] if filters else []
        groups += [{"params": [item for item in trained if item.ndim >= 2], "weight_decay": self.weight_decay},
                   {"params": [item for item in trained if item.ndim < 2], "weight_decay": 0.0},
                   {"params": list(self.loss.parameters()), "weight_decay": 0.0, "lr": 10 * self.learning_rate}]
        optimizer = MuonAdamW(groups, lr=self.learning_rate, betas=(0.9, 0.98), fused=True)
        steps = self.trainer.max_steps
        warmup = max(round(self.warmup_share * steps), 1)

        def factor(step: int) -> float:
            return (step + 1) / warmup if step < warmup else 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: float | None = None,
                                    gradient_clip_algorithm: str | None = None) -> None:
        """Clip the norm of all gradients; Lightning itself refuses to for a fused optimizer under autocast, which matters with a loss scale only."""
        if gradient_clip_val:
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def training_step(self, batch: CaptionedBatch, batch_idx: int) -> Tensor:
        """Encode, gather over the processes, contrast."""
        image_embeds = gathered(self, functional.normalize(self.clip.encode_image(self._normalised(batch["image"])).float(), dim=-1))
        text_embeds = gathered(self, self._caption_embeds(batch["caption"]))
        classes, colours, named = (gathered(self, batch[key]) for key in ("class_id", "colour_id", "caption_colour"))
        also_true = (classes[:, None] == classes[None]) & ((named[None] == -1) | (named[None] == colours[:, None]))
        terms = self.loss(image_embeds, text_embeds, also_true)
        self.log_dict({f"train/{name}": term for name, term in terms.items()}, batch_size=len(batch["image"]))
        self.log("train/scale", self.loss.scale, batch_size=len(batch["image"]))
        self.log("loss", terms["loss"], prog_bar=True, logger=False, batch_size=len(batch["image"]))
        loss: Tensor = terms["loss"]
        return loss

    def on_validation_epoch_start(self) -> None:
        """Encode the class names."""
        with torch.no_grad():
            self.name_embeds = self._caption_embeds([f"a photo of a {name}" for name in self.class_names])

    def validation_step(self, batch: CaptionedBatch, batch_idx: int) -> None:
        """Name pictures of objects that training never saw, and crops of scenes that it never saw apart."""
        image_embeds = functional.normalize(self.clip.encode_image(self._normalised(batch["image"])).float(), dim=-1)
        named = (image_embeds @ self.name_embeds.T).argmax(dim=1)
        for name, accuracy, chosen in (("top1", self.accuracy, ~batch["in_scene"]), ("scene_top1", self.scene_accuracy, batch["in_scene"])):
            if chosen.any():
                accuracy(named[chosen], batch["class_id"][chosen])
                self.log(f"val/{name}", accuracy, prog_bar=True, on_epoch=True, batch_size=int(chosen.sum()))

    def on_fit_end(self) -> None:
        """Write the weight file once the last step is done; what was kept for going on is then removed."""
        if self.trainer.global_step < self.trainer.max_steps or not self.trainer.is_global_zero:
            return
        with torch.no_grad():
            self.clip.logit_scale.copy_(self.loss.scale.log())
        top1, scene_top1 = (None if (value := self.trainer.callback_metrics.get(f"val/{name}")) is None else float(value)
                            for name in ("top1", "scene_top1"))
        save_clip_file(self.output, self.clip.state_dict(), {
            "stage": "pretrain_clip", "model": self.model_id, "words": caption_words(self.class_names), "class_names": self.class_names,
            "encoder": {"kind": "depth_views", "up": "y", **self.recognizer}, "steps": self.trainer.max_steps,
            "seed": self.seed, "commit": commit(), "precision": str(self.trainer.precision), "val_top1": top1,
            "val_scene_top1": scene_top1,
        })
        if kept := last_checkpoint(self.trainer):
            Path(kept).unlink(missing_ok=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note which data and seed the weights come from."""
        checkpoint["trained_on"] = self._trained_on()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with a run on other data."""
        if checkpoint.get("trained_on") != self._trained_on():
            folder = self.output.parent
            raise CheckpointMismatchError(f"the checkpoint in {folder} is of other data, another seed or other settings; delete {folder} "
                                          "or choose another RUNS.")

    def _trained_on(self) -> str:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        return (f"{data.train_set.stamp} seed {self.seed} {torch.initial_seed()} steps {self.trainer.max_steps} of {data.global_batch_size}, "
                f"rates {self.learning_rate} {self.filter_rate} decay {self.weight_decay}")

    def setup(self, stage: str) -> None:
        """Take names and seed from the data."""
        check_writable(self.output.parent)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.class_names: list[str] = data.train_set.class_names
        self.seed: int = data.seed
        self.accuracy, self.scene_accuracy = (MulticlassAccuracy(len(self.class_names), average="micro").to(self.device) for _ in range(2))

    def _normalised(self, images: Tensor) -> Tensor:
        settings: Any = self.clip.visual.preprocess_cfg
        mean, std = (torch.tensor(settings[key], device=images.device).view(3, 1, 1) for key in ("mean", "std"))
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)

    def _caption_embeds(self, captions: list[str]) -> Tensor:
        """Encode captions to unit length; equal ones only once."""
        position = {caption: index for index, caption in enumerate(dict.fromkeys(captions))}
        with sdpa_kernel(SDPBackend.MATH):  # for texts of a dozen words several times faster on a processor than its flash attention
            features = self.clip.encode_text(self.tokenize(list(position)).to(self.device))
        rows = torch.tensor([position[caption] for caption in captions], device=self.device)
        # index_select, not [rows]: the gradient of [rows] adds up in an order that differs from run to run
        return functional.normalize(features.float(), dim=-1).index_select(0, rows)
