"""Name objects of whole data sets with nothing but class names: pictures of clouds -> image towers -> cosines with the names."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import read_depth_checkpoint
from clip2x.errors import InputError
from clip2x.evaluation.class_embeddings import class_embeddings, unknown_words
from clip2x.evaluation.ladder import Ladder, Method, sum_of_cosines
from clip2x.evaluation.metrics import apart_metrics, classification_metrics, merge_parts, paired_gain, plain_name
from clip2x.evaluation.report import print_results, write_results
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
            cloud. Official code: 0.02. The checkpoint's radius is added where it is missing.
        projections: Other projections for untouched CLIP: `pointclip`, `pointclip-v2`. Views weigh the same; nothing is fitted on a test set.
        checkpoint: A depth encoder of `pretrain-depth`, or the official release's; it is evaluated at its own radius, on `views`.
        ensemble: Evaluate the sum of the checkpoint's encoder and untouched CLIP too.
        pooling: `cosine_sum` (official code: cosines are summed over the views) or `feature_mean`.
        templates: Name of the prompts in each data set's manifest, or templates with `{}`, several separated by `|`; the same for all methods.
        apart: Class names whose accuracy is also reported apart; null: those that the checkpoint's stage kept out of its data, [] none.
        profile: Printed on every line; `mini` results are not comparable with papers.
        seed: Of the bootstrap intervals; the data's own seed stands in the rows too.
    """

    def __init__(self, clip: ClipTowers, output: Path, views: str = "clip2point-10", point_radius: list[float | str] | None = None,
                 projections: list[str] | None = None, checkpoint: Path | None = None, ensemble: bool = True, pooling: str = "cosine_sum",
                 templates: str = "official_code", apart: list[str] | None = None, profile: str = "full", seed: int = 0) -> None:
        super().__init__()
        self.clip, self.output, self.pooling, self.templates = clip, Path(output), pooling, templates
        self.profile, self.seed, self.apart = profile, seed, apart
        self.checkpoint = None if checkpoint is None else read_depth_checkpoint(checkpoint)
        self.ladder = Ladder(clip, views=views, point_radius=[0.02] if point_radius is None else point_radius, projections=projections or [],
                             checkpoint=self.checkpoint, ensemble=ensemble)
        self.name_embeds: list[Tensor] = []
        self.parts: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}

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
        for data in self._data_sets():
            for text in unknown_words(self.clip, list(data.class_names)):
                self.print(f"{data.manifest.name}: the CLIP at hand never saw a word of {text!r}; expect chance for it.")
        self.parts = {}

    def on_test_epoch_start(self) -> None:
        """Encode the class names of every data set."""
        cache = self.output / "class_embeddings"
        self.name_embeds = [class_embeddings(self.clip, data.class_names, data.manifest.templates(self.templates), cache=cache).to(self.device)
                            for data in self._data_sets()]

    def test_step(self, batch: PointBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Compare one batch with the names, once for each encoder; all of them compute in the precision of `clip`."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.clip.precision == "bf16"):
            embeds, pictures = self.ladder(batch["points"], self.pooling)
        with torch.autocast(self.device.type, enabled=False):  # 16 bits would tie names whose cosines differ by less than 0.004
            cosines = (embeds @ self.name_embeds[dataloader_idx].T).transpose(0, 1).cpu()
        self.parts.setdefault(dataloader_idx, []).append((batch["index"].cpu(), cosines, batch["label"].cpu()))
        if batch_idx == 0 and self.trainer.is_global_zero:
            self._log_pictures(pictures, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Join the cosines of all processes; the first one computes, prints and writes the results."""
        results = []
        for index in range(len(self._data_sets())):
            bad = gathered_objects(self, [self.trainer.datamodule.bad_indices(index)])  # type: ignore[attr-defined]
            parts = gathered_objects(self, self.parts.get(index, []))
            if self.trainer.is_global_zero:
                results += self._rows(index, *merge_parts(parts)[1:], unread=len(set().union(*bad)))
        if self.trainer.is_global_zero:
            self._publish(results)

    def _rows(self, set_index: int, cosines: Tensor, labels: Tensor, *, unread: int) -> list[dict[str, Any]]:
        data = self._data_sets()[set_index]
        if len(labels) + unread != len(data):
            raise RuntimeError(f"{len(labels)} scores for {len(data)} samples: a process lost some")
        apart, apart_from = self._apart_names()
        notes = [*data.notes, *([f"{unread} of {len(data):,} samples could not be read and are left out."] if unread else [])]
        scores = {method.name: sum_of_cosines(cosines, method.factors) for method in self.ladder.methods}
        right = {name: values.argmax(dim=1) == labels for name, values in scores.items()}
        rows = []
        for method in self.ladder.methods:
            metrics = classification_metrics(scores[method.name], labels, data.class_names, seed=self.seed)
            gains = {key: None if over is None else {"over": over, **paired_gain(right[method.name], right[over], seed=self.seed)}
                     for key, over in (("gain", method.gain_over), ("step", method.step_over))}
            parted = apart_metrics(metrics, apart)
            rows.append({
                "dataset": data.manifest.name, "variant": data.variant_name, "split": data.split, "method": method.name, **metrics, **gains,
                "apart": parted, "prompts": list(data.manifest.templates(self.templates)), "seed": data.seed,
                "protocol": {**self._protocol(method, data, notes), "apart_from": apart_from if parted else None},
            })
        return rows

    def _protocol(self, method: Method, data: Any, notes: list[str]) -> dict[str, Any]:
        return {
            "profile": self.profile, "clip": self.clip.id, "image_size": self.clip.image_size, "pooling": self.pooling,
            "num_points": data.num_points, "sampler": data.sampler, "up": data.up, "limit": data.limit, "precision": self.clip.precision,
            "data": _source(data), "clip_seed": self.clip.metadata.get("seed"),
            **method.protocol, "notes": notes + method.protocol["notes"],
        }

    def _publish(self, results: list[dict[str, Any]]) -> None:
        path = self.output / "results.json"
        write_results(path, results, {
            "commit": commit(), "versions": versions(), "hardware": hardware(), "clip": self.clip.id, "checkpoint_sha256": self.clip.weights_sha256,
            "depth_checkpoint": None if self.checkpoint is None else {"sha256": self.checkpoint.sha256, "about": self.checkpoint.about},
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

    def _apart_names(self) -> tuple[list[str], str]:
        """Names to report apart, and what they are."""
        if self.apart is not None:
            return self.apart, "asked for"
        unseen = None if self.checkpoint is None else self.checkpoint.about.get("unseen_names")
        return unseen or [], "kept out of the data that CLIP2Point was pre-trained on"

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


def _source(data: Any) -> str:
    """Say whether the files are generated ones."""
    return "mini-world" if (data.root / "miniworld.json").is_file() else "files"
