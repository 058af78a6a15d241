"""Name objects of whole data sets with nothing but class names: pictures of clouds -> image towers -> cosines with the names."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from clip2x.data.shots import may_share_objects
from clip2x.encoders.adapter_checkpoint import read_adapter_checkpoint
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import read_depth_checkpoint
from clip2x.encoders.point_checkpoint import read_point_checkpoint
from clip2x.errors import InputError
from clip2x.evaluation.class_embeddings import centred, class_embeddings, unknown_words
from clip2x.evaluation.ladder import Ladder
from clip2x.evaluation.methods import ADAPTED, CLIP2, CLIP2POINT, WITH_PROXIES
from clip2x.evaluation.metrics import merge_columns, plain_name
from clip2x.evaluation.mistakes import clouds_of, picture_sheet, read_pictures, write_pictures
from clip2x.evaluation.report import print_results, write_results
from clip2x.evaluation.results_page import write_results_page
from clip2x.evaluation.rows import Naming, SetScores, rows_of_set
from clip2x.evaluation.shared_objects import SharedObjects, joined
from clip2x.evaluation.training_curves import write_curves
from clip2x.modules.gathering import gathered_objects
from clip2x.provenance import commit, hardware, versions
from clip2x.storage import check_writable
from clip2x.types import PointBatch


class ZeroShotClassification(LightningModule):
    """Evaluate the methods of the ladder on the DataModule's test sets; one row of results per set and method.

    Args:
        clip: The towers.
        output: Folder for `results.json`.
        views: View preset. Official code: `clip2point-6` in its zero-shot script, `clip2point-10` in pre-training's validation.
        point_radius: Splat radii at which untouched CLIP is evaluated, in units of half the picture's side; `density` chooses one for each
            cloud. Official code: 0.02. The checkpoints' radii are added where they are missing.
        projections: Other projections for untouched CLIP: `pointclip`, `pointclip-v2`. Views weigh the same; nothing is fitted on a test set.
        checkpoint: A depth encoder of `pretrain-depth`, or the official release's; it is evaluated at its own radius, on `views`.
        tuned_checkpoint: A depth encoder that was tuned on triplets, likewise.
        point_checkpoint: A point encoder of `pretrain-points`.
        adapted_checkpoint: An adapter of `adapt`: a supervised line in the table.
        images: Evaluate CLIP on the pictures of objects where the data sets give them (`data.crops`).
        ensemble: Evaluate sums too: of the depth encoder and untouched CLIP, of point and depth encoder, of these and CLIP on the picture.
        pooling: `cosine_sum` (official code: cosines are summed over the views) or `feature_mean`.
        templates: Name of the prompts in each data set's manifest, or templates with `{}`, several separated by `|`; of all methods but CLIP2.
        point_templates: Likewise, of CLIP2; null: those that its checkpoint was trained with.
        apart: Class names whose accuracy is also reported apart; null: of a method those that all its checkpoints kept out of their
            training; [] none.
        profile: Printed on every line; `mini` results are not comparable with papers.
        seed: Of the bootstrap intervals; the data's own seed stands in the rows too.
    """

    def __init__(self, clip: ClipTowers, output: Path, views: str = "clip2point-10", point_radius: list[float | str] | None = None,
                 projections: list[str] | None = None, checkpoint: Path | None = None, tuned_checkpoint: Path | None = None,
                 point_checkpoint: Path | None = None, adapted_checkpoint: Path | None = None, images: bool = True,
                 ensemble: bool = True, pooling: str = "cosine_sum",
                 templates: str = "official_code", point_templates: str | None = None, apart: list[str] | None = None, profile: str = "full",
                 seed: int = 0) -> None:
        super().__init__()
        self.clip, self.output, self.pooling, self.templates, self.point_templates = clip, Path(output), pooling, templates, point_templates
        self.profile, self.seed, self.apart = profile, seed, apart
        self.checkpoint = None if checkpoint is None else read_depth_checkpoint(checkpoint)
        self.tuned = None if tuned_checkpoint is None else read_depth_checkpoint(tuned_checkpoint)
        self.points = None if point_checkpoint is None else read_point_checkpoint(point_checkpoint)
        self.adapted = None if adapted_checkpoint is None else read_adapter_checkpoint(adapted_checkpoint)
        self.ladder = Ladder(clip, views=views, point_radius=[0.02] if point_radius is None else point_radius, projections=projections or [],
                             checkpoint=self.checkpoint, tuned=self.tuned, points=self.points, adapted=self.adapted, images=images, ensemble=ensemble)
        self.name_embeds: list[Tensor] = []
        self.parts: dict[int, list[dict[str, Tensor]]] = {}

    def configure_optimizers(self) -> None:
        """Nothing is trained here."""

    def setup(self, stage: str) -> None:
        """Check the names and start with no scores.

        Raises:
            InputError: If another stage is asked for, or no test set has a name of `apart`.
        """
        if stage != "test":
            raise InputError(f"this module only evaluates; run the subcommand test, not {stage}.")
        check_writable(self.output)
        _check_apart(self.apart or [], [name for data in self._data_sets() for name in data.class_names])
        for name, why in self._missing_sets().items():
            self.print(f"note: {name} is not evaluated: {why}")
        for data in self._data_sets():
            if unknown := unknown_words(self.clip, list(data.class_names)):
                self.print(f"{data.manifest.name}/{data.variant_name}: the CLIP at hand never saw a word of {', '.join(map(repr, unknown))}; expect "
                           "chance for these.")
        self.parts = {}

    def on_test_epoch_start(self) -> None:
        """Encode the class names of every data set, (P, C, E) each."""
        self.name_embeds = [torch.stack([self._names(data, position) for position in range(len(self.ladder.names))]).to(self.device)
                            for data in self._data_sets()]
        self.shared = SharedObjects(self._data_sets())

    def test_step(self, batch: PointBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Compare one batch with the names, once for each encoder; all of them compute in the precision of `clip`."""
        known = self.shared.known(dataloader_idx, batch["index"])
        new = torch.tensor([item is None for item in known], device=self.device)
        fresh = None
        if bool(new.any()):
            image, has_image = batch.get("image"), batch.get("has_image")
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.clip.precision == "bf16"):
                fresh, pictures = self.ladder(batch["points"][new], self.pooling, None if image is None else image[new],
                                              None if has_image is None else has_image[new],
                                              batch["counted_points"][new] if "counted_points" in batch else None)
            self.shared.keep(dataloader_idx, batch["index"][new], fresh)
            if batch_idx == 0 and self.trainer.is_global_zero:
                self._log_pictures(pictures, dataloader_idx)
        embeds = joined([None if item is None else item.to(self.device) for item in known], fresh)
        with torch.autocast(self.device.type, enabled=False):  # 16 bits would tie names whose cosines differ by less than 0.004
            cosines = torch.einsum("pbe,pce->bpc", embeds, self.name_embeds[dataloader_idx])
        columns = {"index": batch["index"], "cosines": cosines, "labels": batch["label"]}
        columns |= {name: batch[name] for name in ("has_image", "counted_points", "range_m") if name in batch}
        self.parts.setdefault(dataloader_idx, []).append({name: values.cpu() for name, values in columns.items()})

    def on_test_epoch_end(self) -> None:
        """Join the cosines of all processes; the first one computes, prints and writes the results."""
        results = []
        for index in range(len(self._data_sets())):
            bad = gathered_objects(self, [self.trainer.datamodule.bad_indices(index)])  # type: ignore[attr-defined]
            parts = gathered_objects(self, self.parts.get(index, []))
            if self.trainer.is_global_zero:
                rows = self._rows(index, SetScores.of(merge_columns(parts)), unread=len(set().union(*bad)))
                write_pictures(self.output, rows, clouds_of(self._data_sets()[index], rows))
                results += rows
        if self.trainer.is_global_zero:
            self._publish(results)

    def _rows(self, set_index: int, scores: SetScores, *, unread: int) -> list[dict[str, Any]]:
        data = self._data_sets()[set_index]
        if len(scores.labels) + unread != len(data):
            raise RuntimeError(f"{len(scores.labels)} scores for {len(data)} samples: a process lost some")
        with_pictures = scores.has_image is not None and bool(scores.has_image[scores.labels >= 0].any())
        methods = [method for method in self.ladder.methods if with_pictures or not method.uses_image]
        notes = [*data.notes, *([f"{unread} of {len(data):,} samples could not be read and are left out."] if unread else [])]
        if self.adapted is not None and (said := _seen_labels(self.adapted.about.get("trained_on"), data)):
            notes.append(said)
        naming = Naming(self._apart_names(), unknown_words(self.clip, list(data.class_names)))
        prompts = {method.name: [list(self._templates(data, position)) for position in method.factors] for method in methods}
        return rows_of_set(data, scores, methods, naming, prompts, said=self._protocol(data), notes=notes, seed=self.seed)

    def _names(self, data: Any, position: int) -> Tensor:
        """Embed the class names of a data set for one encoder, (C, E)."""
        embeds = class_embeddings(self.clip, data.class_names, self._templates(data, position), cache=self.output / "class_embeddings")
        mean = self.ladder.names[position].mean
        return embeds if mean is None else centred(embeds, mean)

    def _templates(self, data: Any, position: int) -> tuple[str, ...]:
        """Look up the prompts of one encoder for a data set."""
        own = self.ladder.names[position].templates
        if own is None:
            return tuple(data.manifest.templates(self.templates))
        return own if self.point_templates is None else tuple(data.manifest.templates(self.point_templates))

    def _protocol(self, data: Any) -> dict[str, Any]:
        return {
            "profile": self.profile, "clip": self.clip.id, "image_size": self.clip.image_size, "pooling": self.pooling,
            "num_points": data.num_points, "sampler": data.sampler, "up": data.up, "limit": data.limit, "precision": self.clip.precision,
            "data": _source(data), "clip_seed": self.clip.metadata.get("seed"), "min_points": getattr(data, "min_points", None)
            or (None if data.scenes is None else data.variant.min_points),
        }

    def _publish(self, results: list[dict[str, Any]]) -> None:
        path = self.output / "results.json"
        provenance = {
            "commit": commit(), "versions": versions(), "hardware": hardware(), "clip": self.clip.id, "checkpoint_sha256": self.clip.weights_sha256,
            **{name: None if file is None else {"sha256": file.sha256, "about": file.about} for name, file in (
                ("depth_checkpoint", self.checkpoint), ("tuned_checkpoint", self.tuned), ("point_checkpoint", self.points),
                ("adapted_checkpoint", self.adapted))},
            "manifest_sha256": {data.manifest.name: data.manifest.sha256 for data in self._data_sets()},
            "config": getattr(self.trainer, "clip2x_config", None),  # None where no command line made the trainer
            "not_evaluated": self._missing_sets(),
        }
        write_results(path, results, provenance)
        write_curves(path, {"CLIP": self.clip.file, **self._checkpoint_files()})
        page = write_results_page(path, {"results": results, "provenance": provenance})
        for row in results:
            name = f"test/{row['dataset']}-{row['variant']}-{row['split']}/{row['method'].replace(' ', '_')}"
            scalars = {f"{name}/{metric}": row[metric] for metric in ("class_mean", "top1", "top5") if row[metric] is not None}
            for logger in self.loggers:
                logger.log_metrics(scalars, step=0)
            if isinstance(self.logger, TensorBoardLogger) and row["mistakes"]:
                sheet = picture_sheet(row, read_pictures(self.output, row))
                self.logger.experiment.add_image(f"mistakes/{name.removeprefix('test/')}", sheet, dataformats="HWC")
        note = "mini: small CLIP trained on generated pictures; these figures are not comparable with papers." if self.profile == "mini" else ""
        print_results(results, profile=self.profile, note=note)
        if self.checkpoint is not None and self.tuned is None:
            print(f"note: there is no row {WITH_PROXIES}: make tune-depth trains it, --model.tuned_checkpoint (TUNED= of make) names its file.")
        print(f"results: {path}, page: {page}")

    def _checkpoint_files(self) -> dict[str, str | None]:
        """Name the checkpoints by title, for the curves of their trainings."""
        of_points = CLIP2 if self.points is None else self.points.method
        return {title: None if file is None else file.path for title, file in (
            (CLIP2POINT, self.checkpoint), (WITH_PROXIES, self.tuned), (of_points, self.points), (ADAPTED, self.adapted))}

    def _apart_names(self) -> dict[str, tuple[list[str], str]]:
        """Names to report apart, and what they are, by method: what all of its checkpoints did without; of untouched CLIP, all of these."""
        methods = self.ladder.methods
        if self.apart is not None:
            return {method.name: (self.apart, "asked for") for method in methods}
        every = list(dict.fromkeys(name for method in methods for name in method.unseen or ()))
        return {method.name: (every, "kept out of the training of a method beside it") if method.unseen is None else
                (list(method.unseen), "kept out of the training of its checkpoints") for method in methods}

    def _missing_sets(self) -> dict[str, str]:
        missing: dict[str, str] = self.trainer.datamodule.missing_sets  # type: ignore[attr-defined]
        return missing

    def _data_sets(self) -> list[Any]:
        sets: list[Any] = self.trainer.datamodule.test_sets  # type: ignore[attr-defined]
        return sets

    def _log_pictures(self, pictures: dict[str, Tensor], set_index: int) -> None:
        """Show what the towers see: a row per cloud, a column per view."""
        if not isinstance(self.logger, TensorBoardLogger):
            return
        for title, grey in pictures.items():
            sheet = grey[:6].permute(0, 2, 1, 3).flatten(0, 1).flatten(1, 2)
            sheet = sheet / sheet.max().clamp(min=1)  # PointCLIP's brightness is a depth, up to 2.6
            self.logger.experiment.add_image(f"depth_views/{self._data_sets()[set_index].manifest.name}/{title}", sheet.cpu()[None])


def _check_apart(apart: list[str], class_names: list[str]) -> None:
    known = {plain_name(name): name for name in class_names}
    for name in apart:
        if plain_name(name) not in known:
            near = difflib.get_close_matches(plain_name(name), known, n=3)
            raise InputError(f"model.apart names {name!r}, which no test set has; " + (f"near it are {', '.join(known[item] for item in near)}."
                             if near else "give class names of the test sets."))


def _seen_labels(trained_on: Any, data: Any) -> str | None:
    """Say so where an adapter was trained with labels of clouds that it is evaluated on."""
    if not isinstance(trained_on, dict):
        return None
    manifest, variant, split = str(trained_on["data"]).split("/")
    if (manifest, variant) != (data.manifest.name, data.variant_name) or not may_share_objects(data, split):
        return None
    return f"{ADAPTED}: was trained with labels of {trained_on['data']}, which may be those of these clouds: its figure is not one of unseen clouds."


def _source(data: Any) -> str:
    """Say whether the files are generated ones."""
    return "mini-world" if (data.root / "miniworld.json").is_file() else "files"
