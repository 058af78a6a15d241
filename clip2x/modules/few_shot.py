"""Few-shot recognition: what a few labelled clouds of every class add to an encoder that knows its classes by name."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from clip2x.data.shots import ShotSource
from clip2x.encoders.clip import ClipTowers
from clip2x.errors import InputError
from clip2x.evaluation.class_embeddings import unknown_words
from clip2x.evaluation.curves import draw_curves
from clip2x.evaluation.frozen_encoder import FrozenEncoder
from clip2x.evaluation.linear_probe import FIXED_STRENGTH, STRENGTHS, fit_probe
from clip2x.evaluation.metrics import merge_columns
from clip2x.evaluation.rows import Naming, SetScores, rows_of_set
from clip2x.evaluation.shots_report import curves_of, print_few_shot, summaries
from clip2x.evaluation.transduction import mined_frames
from clip2x.modules.cosine_tuning import Tuning, tuned_classifier
from clip2x.provenance import commit, hardware, versions
from clip2x.storage import atomic_path, check_writable, remove_stale
from clip2x.types import PointBatch

SHOTS, SEEDS = (1, 2, 4, 8, 16), (0, 1, 2)  # shots: third party, the usual ones since CoOp (arXiv:2109.01134); seeds: ours
ZERO_SHOT, PROBE, TUNED = "zero-shot", "linear probe", "tuned"
VERSION = 1  # part of the key of finished rows: raise it when a change alters them


@dataclass(frozen=True)
class _MeasuredSet:
    """A test set as the frozen encoder sees it, on the CPU, in the order of its samples.

    data, source: the set, and where its shots come from. names: (C, E). clouds: (N, P, 3). embeds: (N, E). columns: of `SetScores`, without
    cosines. notes: what every row says.
    """

    data: Any
    source: ShotSource
    names: Tensor
    clouds: Tensor
    embeds: Tensor
    columns: dict[str, Tensor]
    notes: list[str]


class FewShotRecognition(LightningModule):
    """Evaluate an encoder on the DataModule's test sets without shots, with a linear probe, and tuned; with several draws of shots.

    Shots come from the training split of each test set; nothing is chosen on a test set. Rows of a finished draw are kept in `output/finished` and
    used again where checkpoint, clouds, shots, seed and settings are the same, so that a run that was stopped goes on.

    Args:
        clip: The CLIP of the encoder's training; it speaks the names.
        output: Folder for `results.json` and `accuracy_over_shots.png`.
        checkpoint: A point encoder of `pretrain-points`, or a depth encoder of `pretrain-depth` (then `tuning` must be null).
        shots: Numbers of shots; those that a class cannot give are left out, with a note. Null: 1, 2, 4, 8, 16.
        seeds: Each draws other shots. Null: 0, 1, 2.
        train_split: Where shots come from, of each test set's own variant.
        tuning: How the encoder is tuned; null leaves the tuned rows out.
        templates: Prompts, see `ZeroShotClassification`; null: those of the encoder's training.
        cache: Where sampled points of the shots are kept; null = the user's cache folder.
        profile: Printed on every line; `mini` results are not comparable with papers.
    """

    def __init__(self, clip: ClipTowers, output: Path, checkpoint: Path | None = None, shots: list[int] | None = None, seeds: list[int] | None = None,
                 train_split: str = "train", tuning: Tuning | None = None, templates: str | None = None, cache: Path | None = None,
                 profile: str = "full") -> None:
        super().__init__()
        if checkpoint is None:
            raise InputError("model.checkpoint is not set; give point_encoder.safetensors of pretrain-points (make few-shot POINTS=FILE).")
        self.clip, self.output, self.templates, self.profile = clip, Path(output), templates, profile
        self.encoder = FrozenEncoder(checkpoint, clip)
        if tuning is not None and self.encoder.points is None:
            raise InputError(f"{checkpoint} is a depth encoder, and only point encoders are tuned here; set --model.tuning null.")
        self.shots, self.seeds = list(SHOTS) if shots is None else shots, list(SEEDS) if seeds is None else seeds
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"model.seeds must be different numbers of at least 0, got [{', '.join(map(str, self.seeds))}].")
        self.train_split, self.tuning, self.cache = train_split, tuning, cache
        self.parts: dict[int, list[dict[str, Tensor]]] = {}
        self.clouds: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def configure_optimizers(self) -> None:
        """What is trained here is trained outside of Lightning's loop."""

    def setup(self, stage: str) -> None:
        """Open where shots come from, and start with no scores.

        Raises:
            InputError: If another stage is asked for, there are several processes, or shots are not possible.
        """
        if stage != "test":
            raise InputError(f"this module only evaluates; run the subcommand test, not {stage}.")
        if self.trainer.world_size > 1:
            raise InputError(f"few-shot recognition runs in one process, got {self.trainer.world_size}; set --trainer.devices 1.")
        check_writable(self.output / "finished")
        remove_stale(self.output / "finished")
        self.sources = [ShotSource(data, self.train_split, self.shots, cache=self.cache) for data in self._data_sets()]
        for data in self._data_sets():
            if unknown := unknown_words(self.clip, list(data.class_names)):
                self.print(f"{data.manifest.name}/{data.variant_name}: the CLIP at hand never saw a word of {', '.join(map(repr, unknown))}; expect "
                           "chance for these without shots.")
        self.parts, self.clouds = {}, {}

    def test_step(self, batch: PointBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Embed one batch with the frozen encoder; keep the clouds for tuned ones."""
        columns = {"index": batch["index"], "labels": batch["label"], "embeds": self.encoder(batch["points"])}
        columns |= {name: batch[name] for name in ("counted_points", "range_m") if name in batch}
        self.parts.setdefault(dataloader_idx, []).append({name: values.cpu() for name, values in columns.items()})
        self.clouds.setdefault(dataloader_idx, []).append((batch["index"].cpu(), batch["points"].cpu()))

    def on_test_epoch_end(self) -> None:
        """Fit and tune on every draw of shots, and write the results."""
        results = [row for position in range(len(self._data_sets())) for row in self._rows(position)]
        self._publish(results)

    def _rows(self, position: int) -> list[dict[str, Any]]:
        measured = self._measured(position)
        fixed = [VERSION, self.encoder.checkpoint.sha256, self.clip.content_sha256, self.clip.precision, self.profile, measured.source.name,
                 measured.data.split, _digest(measured.clouds, measured.columns["labels"]), measured.data.class_names,
                 self._templates(measured.data), self._tuning(), STRENGTHS, FIXED_STRENGTH]
        rows = [{**row, "shots": 0} for row in self._made(measured, [])]
        for shots in measured.source.shots:
            for seed in self.seeds:
                rows += self._finished_or_new(measured, shots, seed, fixed)
        return [{**row, "protocol": {**row["protocol"], "notes": [*measured.notes, *row["protocol"]["notes"]]}} for row in rows]

    def _measured(self, position: int) -> _MeasuredSet:
        """Join the batches of a test set, as tensors that autograd may use."""
        data, source = self._data_sets()[position], self.sources[position]
        with torch.inference_mode(False), torch.no_grad():
            columns = {name: values.clone() for name, values in merge_columns(self.parts[position]).items()}
            clouds = merge_columns([{"index": index, "points": points} for index, points in self.clouds[position]])["points"].clone()
            names = self.encoder.names(self.clip, data.class_names, self._templates(data), self.output / "class_embeddings")
            embeds = columns.pop("embeds")
        notes = [*data.notes, *source.notes]
        if unread := len(data) - len(embeds):
            notes.append(f"{unread} of {len(data):,} samples could not be read and are left out.")
        return _MeasuredSet(data, source, names, clouds, embeds, columns, notes)

    def _finished_or_new(self, measured: _MeasuredSet, shots: int, seed: int, fixed: list[Any]) -> list[dict[str, Any]]:
        """Take the rows of a draw from its file, or make them and write it."""
        clouds, labels = measured.source.draw(shots, seed)
        key = json.dumps([*fixed, _digest(clouds, labels), shots, seed])
        path = self.output / "finished" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        rows = _finished(path, key)
        if rows is None:
            probe = fit_probe(self._embedded(clouds), labels, len(measured.names), seed=seed)
            scores = [(PROBE, probe.scores(measured.embeds).float())]
            if self.tuning is not None and self.encoder.points is not None:
                model = tuned_classifier(self.encoder.points, measured.names.to(self.device), self.encoder.scale, clouds, labels, self.tuning,
                                         seed=seed, autocast=self.encoder.autocast)
                scores.append((TUNED, self._logits(model, measured.clouds)))
            said = {PROBE: {"strength": probe.strength, "chosen_by": probe.chosen_by}, TUNED: self._tuning()}
            rows = [{**row, "shots": shots, "seed": seed, "protocol": {**row["protocol"], "fit": said[row["method"]]}}
                    for row in self._made(measured, scores)[1:]]
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps({"key": key, "rows": rows}), encoding="utf-8")
        shown = ", ".join(f"{row['method']} {100 * row['class_mean']:.1f}" for row in rows)
        self.print(f"{measured.data.manifest.name}/{measured.data.variant_name}, {shots} shots, seed {seed}: class mean {shown}")
        return rows

    def _made(self, measured: _MeasuredSet, fitted: list[tuple[str, Tensor]]) -> list[dict[str, Any]]:
        """Make rows of what zero-shot and fitted methods say of the same samples; each is compared with zero-shot, `tuned` with the probe too."""
        data, source = measured.data, measured.source
        scores = [(ZERO_SHOT, measured.embeds @ measured.names.T), *fitted]
        methods = [replace(self.encoder.named(name, fit=None), factors={place: 1.0}, gain_over=None if name == ZERO_SHOT else ZERO_SHOT,
                           step_over=PROBE if name == TUNED else None, scale=self.encoder.scale if name == ZERO_SHOT else 1.0)
                   for place, (name, _) in enumerate(scores)]
        mined = mined_frames(self.encoder.method.mined, source.data)
        said = {
            "profile": self.profile, "clip": self.clip.id, "image_size": self.clip.image_size, "num_points": data.num_points, "sampler": data.sampler,
            "up": data.up, "limit": data.limit, "precision": self.clip.precision, "clip_seed": self.clip.metadata.get("seed"), "data_seed": data.seed,
            "data": "mini-world" if (data.root / "miniworld.json").is_file() else "files", "shots_from": source.name,
            "shots_from_mined_frames": mined,
        }
        seen = [f"shots from {source.name}: {mined}; their labels are new to the encoder, their frames are not."] if mined else []
        prompts = {name: [list(self._templates(data))] for name, _ in scores}
        cosines = torch.stack([values for _, values in scores], dim=1)
        return rows_of_set(data, SetScores.of({**measured.columns, "cosines": cosines}), methods, Naming(), prompts, said=said, notes=seen,
                           seed=data.seed)

    def _embedded(self, clouds: Tensor) -> Tensor:
        """Embed clouds with the frozen encoder."""
        with torch.inference_mode(False), torch.no_grad():
            return torch.cat([self.encoder(part.to(self.device)).cpu() for part in torch.split(clouds, self._batch_size())])

    def _logits(self, model: torch.nn.Module, clouds: Tensor) -> Tensor:
        """Score clouds with a tuned encoder."""
        with torch.inference_mode(False), torch.no_grad(), self.encoder.autocast():
            return torch.cat([model(part.to(self.device)).float().cpu() for part in torch.split(clouds, self._batch_size())])

    def _batch_size(self) -> int:
        size: int = self.trainer.datamodule.batch_size  # type: ignore[attr-defined]
        return size

    def _tuning(self) -> dict[str, Any] | None:
        """Describe the tuning in plain values."""
        return None if self.tuning is None else {**asdict(self.tuning), "augmentations": [repr(change) for change in self.tuning.augmentations]}

    def _templates(self, data: Any) -> tuple[str, ...]:
        return self.encoder.templates(data.manifest, self.templates)

    def _publish(self, results: list[dict[str, Any]]) -> None:
        summary = summaries(results)
        path, file = self.output / "results.json", self.encoder.checkpoint
        provenance = {
            "commit": commit(), "versions": versions(), "hardware": hardware(), "clip": self.clip.id, "checkpoint_sha256": self.clip.weights_sha256,
            "encoder_checkpoint": {"sha256": file.sha256, "about": file.about},
            "manifest_sha256": {data.manifest.name: data.manifest.sha256 for data in self._data_sets()},
            "config": getattr(self.trainer, "clip2x_config", None),  # None where no command line made the trainer
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps({"results": results, "summary": summary, "provenance": provenance}, indent=1) + "\n", encoding="utf-8")
        mini = "mini: small CLIP trained on generated pictures; these figures are not comparable with papers." if self.profile == "mini" else ""
        notes = [note for row in results for note in row["protocol"]["notes"]]
        print_few_shot(summary, profile=self.profile, notes=[*notes, *([mini] if mini else [])])
        picture = draw_curves(curves_of(summary), "class mean", f"profile {self.profile}; {self.encoder.title}; bars: spread over "
                              f"{len(self.seeds)} seeds")
        with atomic_path(self.output / "accuracy_over_shots.png") as temporary:
            picture.save(temporary)
        self._log(summary)
        if isinstance(self.logger, TensorBoardLogger):
            self.logger.experiment.add_image("few_shot/accuracy_over_shots", np.asarray(picture), dataformats="HWC")
        print(f"results: {path}, curves: {self.output / 'accuracy_over_shots.png'}")

    def _log(self, summary: list[dict[str, Any]]) -> None:
        """Log means over seeds, with the number of shots as the step."""
        for item in summary:
            name = f"few_shot/{item['dataset']}-{item['variant']}-{item['split']}/{item['method'].replace(' ', '_')}"
            for logger in self.loggers:
                logger.log_metrics({f"{name}/{metric}": item[metric]["mean"] for metric in ("class_mean", "top1")}, step=item["shots"])

    def _data_sets(self) -> list[Any]:
        sets: list[Any] = self.trainer.datamodule.test_sets  # type: ignore[attr-defined]
        return sets


def _digest(clouds: Tensor, labels: Tensor) -> str:
    """Hash clouds and labels: what a draw of shots was measured on, whatever files it came from."""
    found = hashlib.sha256(repr(tuple(clouds.shape)).encode())
    for values in (clouds, labels):
        found.update(values.contiguous().numpy().tobytes())
    return found.hexdigest()


def _finished(path: Path, key: str) -> list[dict[str, Any]] | None:
    """Read the rows of a draw; None if there are none, or the file is damaged or another's."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["key"] == key:
            rows: list[dict[str, Any]] = stored["rows"]
            return rows
    return None
