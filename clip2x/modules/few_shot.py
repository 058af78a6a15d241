"""Few-shot recognition: what a few labelled clouds of every class add to an encoder that knows its classes by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clip2x.encoders.clip import ClipTowers
from clip2x.errors import InputError
from clip2x.evaluation.frozen_encoder import FrozenEncoder
from clip2x.evaluation.linear_probe import FIXED_STRENGTH, STRENGTHS, fit_probe
from clip2x.evaluation.methods import Method
from clip2x.modules.cosine_tuning import Tuning, tuned_classifier
from clip2x.modules.shot_sweep import ZERO_SHOT, Draw, MeasuredSet, Scored, ShotSweep

PROBE, TUNED = "linear probe", "tuned"


class FewShotRecognition(ShotSweep):
    """Evaluate an encoder on the DataModule's test sets without shots, with a linear probe, and tuned; with several draws of shots.

    Args:
        clip: The CLIP of the encoder's training; it speaks the names.
        output: Folder for `results.json` and `accuracy_over_shots.png`.
        checkpoint: A point encoder of `pretrain-points`, or a depth encoder of `pretrain-depth` (then `tuning` must be null).
        shots: Numbers of shots, `all` for the whole training split; those that a class cannot give are left out. Null: 1, 2, 4, 8, 16.
        seeds: Each draws other shots. Null: 0, 1, 2.
        train_split: Where shots come from, of each test set's own variant.
        tuning: How the encoder is tuned; null leaves the tuned rows out.
        templates: Prompts, see `ZeroShotClassification`; null: those of the encoder's training.
        cache, profile: See `ShotSweep`.
    """

    step_over = {TUNED: PROBE}

    def __init__(self, clip: ClipTowers, output: Path, checkpoint: Path | None = None, shots: list[int | str] | None = None,
                 seeds: list[int] | None = None, train_split: str = "train", tuning: Tuning | None = None, templates: str | None = None,
                 cache: Path | None = None, profile: str = "full") -> None:
        if checkpoint is None:
            raise InputError("model.checkpoint is not set; give point_encoder.safetensors of pretrain-points (make few-shot POINTS=FILE).")
        super().__init__(clip, output, shots, seeds, train_split, cache, profile)
        self.templates, self.encoder = templates, FrozenEncoder(checkpoint, clip)
        if tuning is not None and self.encoder.points is None:
            raise InputError(f"{checkpoint} is a depth encoder, and only point encoders are tuned here; set --model.tuning null.")
        self.tuning = tuning

    def _encode(self, points: Tensor, num_real: Tensor | None) -> dict[str, Tensor]:
        return {"embeds": self.encoder(points, num_real)}

    def _names(self, data: Any) -> list[Tensor]:
        return [self.encoder.names(self.clip, data.class_names, self._templates(data), self.output / "class_embeddings")]

    def _templates(self, data: Any) -> tuple[str, ...]:
        return self.encoder.templates(data.manifest, self.templates)

    def _without_shots(self, measured: MeasuredSet) -> list[Scored]:
        return [Scored(ZERO_SHOT, measured.encoded["embeds"] @ measured.names[0].T)]

    def _fitted(self, measured: MeasuredSet, draw: Draw) -> list[Scored]:
        (names,) = measured.names
        probe = fit_probe(draw.encoded("embeds"), draw.labels, len(names), seed=draw.seed)
        found = [Scored(PROBE, probe.scores(measured.encoded["embeds"]).float(), {"strength": probe.strength, "chosen_by": probe.chosen_by})]
        if self.tuning is not None and self.encoder.points is not None:
            clouds = self.encoder.points_of(draw.clouds, draw.num_real)
            model = tuned_classifier(self.encoder.points, names.to(self.device), self.encoder.scale, clouds, draw.labels, self.tuning,
                                     seed=draw.seed, autocast=self.encoder.autocast, num_real=draw.num_real)
            tested = self.encoder.points_of(measured.clouds, measured.columns.get("counted_points"))
            found.append(Scored(TUNED, self._logits(model, tested), self._tuning()))
        return found

    def _method(self, name: str) -> Method:
        return replace(self.encoder.named(name, fit=None), scale=self.encoder.scale if name == ZERO_SHOT else 1.0)

    def _settings(self) -> list[Any]:
        return [self.encoder.checkpoint.sha256, self._tuning(), STRENGTHS, FIXED_STRENGTH]

    def _about_encoder(self) -> dict[str, Any]:
        file = self.encoder.checkpoint
        return {"encoder_checkpoint": {"sha256": file.sha256, "about": file.about}}

    def _checkpoint_files(self) -> dict[str, str]:
        return {self.encoder.title: self.encoder.checkpoint.path}

    def _mined(self) -> Any:
        return self.encoder.method.mined

    def _logits(self, model: torch.nn.Module, clouds: Tensor) -> Tensor:
        """Score clouds with a tuned encoder."""
        size: int = self.trainer.datamodule.batch_size  # type: ignore[attr-defined]
        parts: Sequence[Tensor] = torch.split(clouds, size)
        with torch.inference_mode(False), torch.no_grad(), self.encoder.autocast():
            return torch.cat([model(part.to(self.device)).float().cpu() for part in parts])

    def _tuning(self) -> dict[str, Any] | None:
        """Describe the tuning in plain values."""
        return None if self.tuning is None else {**asdict(self.tuning), "augmentations": [repr(change) for change in self.tuning.augmentations]}
