"""Name objects of whole data sets with nothing but class names: depth views -> CLIP's image tower -> cosines with the names."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth import DepthViewEncoder, pool_view_features
from clip2x.errors import InputError
from clip2x.evaluation.class_embeddings import class_embeddings, unknown_words
from clip2x.evaluation.metrics import classification_metrics, merge_parts
from clip2x.evaluation.report import print_results, write_results
from clip2x.provenance import commit, hardware, versions
from clip2x.storage import check_writable
from clip2x.types import PointBatch


class ZeroShotClassification(LightningModule):
    """Evaluate frozen CLIP towers on depth views of the DataModule's test sets; one row of results per set and point radius.

    Args:
        clip: The towers.
        output: Folder for `results.json`.
        views: View preset. Official code: `clip2point-6` in its zero-shot script, `clip2point-10` in pre-training's validation.
        point_radius: Splat radii to evaluate, in units of half the picture's side; `density` chooses one for each cloud. Official code: 0.02.
        pooling: `cosine_sum` (official code: cosines are summed over the views) or `feature_mean`.
        templates: Name of the prompts in each data set's manifest, or templates with `{}`, several separated by `|`.
        profile: Printed on every line; `mini` results are not comparable with papers.
        seed: Of the bootstrap intervals; the data's own seed stands in the rows too.
    """

    def __init__(self, clip: ClipTowers, output: Path, views: str = "clip2point-10", point_radius: list[float | str] | None = None,
                 pooling: str = "cosine_sum", templates: str = "official_code", profile: str = "full", seed: int = 0) -> None:
        super().__init__()
        self.clip, self.output, self.views, self.pooling, self.templates = clip, Path(output), views, pooling, templates
        self.profile, self.seed = profile, seed
        self.point_radius = [0.02] if point_radius is None else point_radius
        if not self.point_radius:
            raise InputError("model.point_radius is an empty list; give at least one radius, e.g. [0.02].")
        self.encoders = nn.ModuleList([DepthViewEncoder(clip, views=views, point_radius=radius) for radius in self.point_radius])
        self.name_embeds: list[Tensor] = []
        self._bad_samples: list[set[int]] = []
        self.parts: dict[tuple[int, int], list[tuple[Tensor, Tensor, Tensor]]] = {}

    def configure_optimizers(self) -> None:
        """Nothing is trained here."""

    def setup(self, stage: str) -> None:
        """Check the names and start with no scores."""
        if stage != "test":
            raise InputError(f"this module only evaluates; run the subcommand test, not {stage}.")
        check_writable(self.output)
        for data in self._data_sets():
            for text in unknown_words(self.clip, list(data.class_names)):
                self.print(f"{data.manifest.name}: the CLIP at hand never saw a word of {text!r}; expect chance for it.")
        self.parts = {}

    def on_test_epoch_start(self) -> None:
        """Encode the class names of every data set."""
        cache = self.output / "class_embeddings"
        self.name_embeds = [class_embeddings(self.clip, data.class_names, self._prompts(data), cache=cache).to(self.device)
                            for data in self._data_sets()]

    def test_step(self, batch: PointBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score one batch with every radius."""
        for position, encoder in enumerate(self.encoders):
            embeds = pool_view_features(encoder(batch["points"]), self.pooling).float()
            with torch.autocast(embeds.device.type, enabled=False):  # 16 bits would tie names whose cosines differ by less than 0.004
                scores = (embeds @ self.name_embeds[dataloader_idx].T).cpu()
            self.parts.setdefault((dataloader_idx, position), []).append((batch["index"].cpu(), scores, batch["label"].cpu()))
        if batch_idx == 0 and self.trainer.is_global_zero:
            self._log_pictures(batch["points"][:6], dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Join the scores of all processes; the first one computes, prints and writes the results."""
        results = []
        own = [self.trainer.datamodule.bad_indices(index) for index in range(len(self._data_sets()))]  # type: ignore[attr-defined]
        gathered = self._from_all_processes([own])
        self._bad_samples = [set().union(*(process[index] for process in gathered)) for index in range(len(own))]
        for set_index, position in itertools.product(range(len(self._data_sets())), range(len(self.point_radius))):
            parts = self._from_all_processes(self.parts.get((set_index, position), []))
            if self.trainer.is_global_zero:
                results.append(self._row(set_index, position, *merge_parts(parts)))
        if self.trainer.is_global_zero:
            self._publish(results)

    def _row(self, set_index: int, position: int, scores: Tensor, labels: Tensor) -> dict[str, Any]:
        data = self._data_sets()[set_index]
        unread = len(data) - len(labels)
        if unread != len(self._bad_samples[set_index]):
            raise RuntimeError(f"{len(labels)} scores for {len(data)} samples: a process lost some")
        notes = [*data.notes, *([f"{unread} of {len(data):,} samples could not be read and are left out."] if unread else [])]
        radius = self.point_radius[position]
        return {
            "dataset": data.manifest.name, "variant": data.variant_name, "split": data.split, "method": f"CLIP depth views r={radius}",
            **classification_metrics(scores, labels, data.class_names, seed=self.seed),
            "prompts": list(self._prompts(data)), "seed": data.seed,
            "protocol": {
                "profile": self.profile, "clip": self.clip.id, "views": self.views, "point_radius": radius, "image_size": self.clip.image_size,
                "pooling": self.pooling, "num_points": data.num_points, "sampler": data.sampler, "up": data.up, "limit": data.limit,
                "precision": self.clip.precision, "data": _source(data), "clip_seed": self.clip.metadata.get("seed"), "notes": notes,
            },
        }

    def _publish(self, results: list[dict[str, Any]]) -> None:
        path = self.output / "results.json"
        write_results(path, results, {
            "commit": commit(), "versions": versions(), "hardware": hardware(), "clip": self.clip.id, "checkpoint_sha256": self.clip.weights_sha256,
            "manifest_sha256": {data.manifest.name: data.manifest.sha256 for data in self._data_sets()},
            "config": getattr(self.trainer, "clip2x_config", None),  # None where no command line made the trainer
        })
        for row in results:
            name = f"test/{row['dataset']}-{row['variant']}-{row['split']}/{row['method'].replace(' ', '_')}"
            scalars = {f"{name}/{metric}": row[metric] for metric in ("class_mean", "top1", "top5") if row[metric] is not None}
            for logger in self.loggers:
                logger.log_metrics(scalars, step=0)
        note = "mini: small CLIP trained on generated pictures; these figures are not comparable with papers." if self.profile == "mini" else ""
        print_results(results, profile=self.profile, note=note)
        print(f"results: {path}")

    def _prompts(self, data: Any) -> tuple[str, ...]:
        if "{}" in self.templates:
            return tuple(part.strip() for part in self.templates.split("|"))
        prompts: tuple[str, ...] = data.manifest.templates(self.templates)
        return prompts

    def _data_sets(self) -> list[Any]:
        sets: list[Any] = self.trainer.datamodule.test_sets  # type: ignore[attr-defined]
        return sets

    def _from_all_processes(self, parts: list[Any]) -> list[Any]:
        if self.trainer.world_size == 1:
            return parts
        gathered: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(gathered, parts)
        return [part for process in gathered for part in process]

    def _log_pictures(self, points: Tensor, set_index: int) -> None:
        """Show what the tower sees: a row per cloud, a column per view."""
        if not isinstance(self.logger, TensorBoardLogger):
            return
        for radius, encoder in zip(self.point_radius, self.encoders, strict=True):
            grey = encoder.draw(points)  # type: ignore[operator]
            sheet = grey.permute(0, 2, 1, 3).flatten(0, 1).flatten(1, 2)
            self.logger.experiment.add_image(f"depth_views/{self._data_sets()[set_index].manifest.name}/r={radius}", sheet.cpu()[None])


def _source(data: Any) -> str:
    """Say whether the files are generated ones."""
    return "mini-world" if (data.root / "miniworld.json").is_file() else "files"
