"""Sweeps over numbers of shots and draws of them: what is measured once, what is made for each draw, what is kept, printed and drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from clip2x.data.shots import Shots, ShotSource
from clip2x.encoders.clip import ClipTowers
from clip2x.errors import InputError
from clip2x.evaluation.class_embeddings import unknown_words
from clip2x.evaluation.curves import draw_curves
from clip2x.evaluation.methods import Method
from clip2x.evaluation.metrics import merge_columns
from clip2x.evaluation.mistakes import picture_sheet, read_pictures, write_pictures
from clip2x.evaluation.results_page import detailed_rows, write_results_page
from clip2x.evaluation.rows import Naming, SetScores, rows_of_set
from clip2x.evaluation.shots_report import curves_of, differences, print_differences, print_few_shot, summaries
from clip2x.evaluation.training_curves import write_curves
from clip2x.evaluation.transduction import mined_frames
from clip2x.provenance import commit, hardware, versions
from clip2x.storage import atomic_path, check_writable, remove_stale
from clip2x.types import PointBatch

SHOTS, SEEDS = (1, 2, 4, 8, 16), (0, 1, 2)  # shots: third party, the usual ones since CoOp (arXiv:2109.01134); seeds: ours
ZERO_SHOT = "zero-shot"
VERSION = 4  # part of the key of finished rows: raise it when a change alters them


@dataclass(frozen=True)
class Scored:
    """What a method says of a test set.

    method: its name. scores: (N, C). fit: how it was made, plain values, for the row's protocol. extra: more keys of the row, plain values.
    """

    method: str
    scores: Tensor
    fit: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasuredSet:
    """A test set as frozen encoders see it, on the CPU, in the order of its samples.

    data, source: the set, and where its shots come from. names: embeddings of the class names, one tensor for each way of speaking them.
    clouds: (N, P, 3). encoded: by name, (N, ...). columns: of `SetScores`, without cosines. notes: what every row says.
    """

    data: Any
    source: ShotSource
    names: list[Tensor]
    clouds: Tensor
    encoded: dict[str, Tensor]
    columns: dict[str, Tensor]
    notes: list[str]


@dataclass
class Pool:
    """All objects that some draw takes: read once, encoded once and only if a draw is not finished. num_real: see `ShotSource.read`."""

    positions: list[int]
    clouds: Tensor
    labels: Tensor
    num_real: Tensor
    encode: Any

    def rows(self, positions: Sequence[int]) -> Tensor:
        """Find the rows of some positions."""
        place = {position: row for row, position in enumerate(self.positions)}
        return torch.tensor([place[position] for position in positions])

    @cached_property
    def encoded(self) -> dict[str, Tensor]:
        """What the frozen encoders say of all of them."""
        found: dict[str, Tensor] = self.encode(self.clouds, self.num_real)
        return found


@dataclass(frozen=True)
class Draw:
    """One draw of shots: clouds (M, P, 3), labels (M,), how many points of each are its own (M,); where they lie in the pool of all."""

    shots: Shots
    seed: int
    clouds: Tensor
    labels: Tensor
    num_real: Tensor
    pool: Pool
    rows: Tensor

    def encoded(self, name: str) -> Tensor:
        """Look up what an encoder says of these clouds."""
        return self.pool.encoded[name][self.rows]


class ShotSweep(LightningModule):
    """Measures the DataModule's test sets once, then fits methods on every draw of shots and writes one file of results.

    Shots come from the training split of each test set; nothing is chosen on a test set. Rows of a finished draw are kept in `output/finished` and
    used again where clouds, shots, seed and settings are the same, so that a run that was stopped goes on.

    A kind of sweep gives `_encode`, `_names`, `_without_shots`, `_fitted`, `_method`, `_settings`, `_about_encoder` and
    `_checkpoint_files`.

    Args:
        clip: The CLIP; it speaks the names.
        output: Folder for `results.json` and `accuracy_over_shots.png`.
        shots: Numbers of shots, and `all` for the whole training split; numbers that a class cannot give are left out, with a note.
        seeds: Each draws other shots.
        train_split: Where shots come from, of each test set's own variant.
        cache: Where sampled points of the shots are kept; None = the user's cache folder.
        profile: Printed on every line; `mini` results are not comparable with papers.
    """

    title = "few-shot"  # of tables and of the log
    step_over: dict[str, str] = {}  # method -> another that it is compared with besides zero-shot
    drawn: tuple[str, ...] | None = None  # methods whose curves are drawn; None: all
    differences_of: str | None = None  # method that is compared with all others, pair by pair

    def __init__(self, clip: ClipTowers, output: Path, shots: Sequence[Shots] | None, seeds: Sequence[int] | None, train_split: str,
                 cache: Path | None, profile: str) -> None:
        super().__init__()
        self.clip, self.output, self.profile = clip, Path(output), profile
        self.shots, self.seeds = list(SHOTS) if shots is None else list(shots), list(SEEDS) if seeds is None else list(seeds)
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"model.seeds must be different numbers of at least 0, got [{', '.join(map(str, self.seeds))}].")
        self.train_split, self.cache = train_split, cache
        self.parts: dict[int, list[dict[str, Tensor]]] = {}

    def _encode(self, points: Tensor, num_real: Tensor | None) -> dict[str, Tensor]:
        """Encode a batch of clouds with what is frozen, on the module's device; results on the CPU. `num_real`: see `thin_out`."""
        raise NotImplementedError

    def _names(self, data: Any) -> list[Tensor]:
        """Embed the class names of a test set."""
        raise NotImplementedError

    def _templates(self, data: Any) -> tuple[str, ...]:
        raise NotImplementedError

    def _prompts(self, data: Any, name: str) -> list[list[str]]:
        """List the prompts of a method, by encoder."""
        return [list(self._templates(data))]

    def _without_shots(self, measured: MeasuredSet) -> list[Scored]:
        """Score without shots; the first one is `zero-shot`, which all are compared with."""
        raise NotImplementedError

    def _fitted(self, measured: MeasuredSet, draw: Draw) -> list[Scored]:
        """Fit on a draw, and score."""
        raise NotImplementedError

    def _method(self, name: str) -> Method:
        """Describe a method."""
        raise NotImplementedError

    def _settings(self) -> list[Any]:
        """List what a finished draw depends on besides clouds, shots and seed; plain values."""
        raise NotImplementedError

    def _about_encoder(self) -> dict[str, Any]:
        """State the checkpoints for the provenance."""
        raise NotImplementedError

    def _checkpoint_files(self) -> dict[str, str]:
        """Name the checkpoints by title, for the curves of their trainings."""
        raise NotImplementedError

    def _keep(self, measured: MeasuredSet, draw: Draw) -> None:
        """Write what is to stay of a draw besides its rows; called for finished draws too."""

    def _mined(self) -> Any:
        """See `transduction.mined_frames`."""
        return {}

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
            raise InputError(f"{self.title} recognition runs in one process, got {self.trainer.world_size}; set --trainer.devices 1.")
        check_writable(self.output / "finished")
        remove_stale(self.output / "finished")
        self.sources = [ShotSource(data, self.train_split, self.shots, cache=self.cache) for data in self._data_sets()]
        for data in self._data_sets():
            if unknown := unknown_words(self.clip, list(data.class_names)):
                self.print(f"{data.manifest.name}/{data.variant_name}: the CLIP at hand never saw a word of {', '.join(map(repr, unknown))}; expect "
                           "chance for these without shots.")
        self.parts = {}

    def test_step(self, batch: PointBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode one batch with what is frozen; keep the clouds too."""
        columns: dict[str, Tensor] = {"index": batch["index"], "labels": batch["label"], "clouds": batch["points"]}
        columns |= {name: batch[name] for name in ("counted_points", "range_m") if name in batch}
        columns |= {f"encoded.{name}": values for name, values in self._encode(batch["points"], batch.get("counted_points")).items()}
        self.parts.setdefault(dataloader_idx, []).append({name: values.cpu() for name, values in columns.items()})

    def on_test_epoch_end(self) -> None:
        """Fit on every draw of shots, and write the results."""
        results = [row for position in range(len(self._data_sets())) for row in self._rows(position)]
        self._publish(results)

    def _rows(self, position: int) -> list[dict[str, Any]]:
        measured = self._measured(position)
        source = measured.source
        fixed = [VERSION, type(self).__name__, self.clip.content_sha256, self.clip.precision, self.profile, source.name, measured.data.split,
                 _digest(measured.clouds, measured.columns["labels"]), measured.data.class_names, self._templates(measured.data), *self._settings()]
        plain = self._without_shots(measured)
        rows = [{**row, "shots": 0} for row in self._made(measured, plain)]
        draws = {(shots, seed): source.positions(shots, seed) for shots in source.shots for seed in self.seeds}
        wanted = sorted({place for places in draws.values() for place in places})
        pool = Pool(wanted, *source.read(wanted), self._encoded)
        for (shots, seed), places in draws.items():
            chosen = pool.rows(places)
            draw = Draw(shots, seed, pool.clouds[chosen], pool.labels[chosen], pool.num_real[chosen], pool, chosen)
            rows += self._finished_or_new(measured, plain[0], draw, fixed)
            self._keep(measured, draw)
        shown = {mistake["index"] for row in detailed_rows(rows) for mistake in row["mistakes"]}
        clouds = {index: cloud.numpy() for index, cloud in zip(measured.columns["index"].tolist(), measured.clouds, strict=True) if index in shown}
        write_pictures(self.output, detailed_rows(rows), clouds)
        return [{**row, "protocol": {**row["protocol"], "notes": [*measured.notes, *row["protocol"]["notes"]]}} for row in rows]

    def _measured(self, position: int) -> MeasuredSet:
        """Join the batches of a test set, as tensors that autograd may use."""
        data, source = self._data_sets()[position], self.sources[position]
        with torch.inference_mode(False), torch.no_grad():
            columns = {name: values.clone() for name, values in merge_columns(self.parts[position]).items()}
            names = self._names(data)
        encoded = {name.removeprefix("encoded."): columns.pop(name) for name in list(columns) if name.startswith("encoded.")}
        notes = [*data.notes, *source.notes]
        if unread := len(data) - len(columns["labels"]):
            notes.append(f"{unread} of {len(data):,} samples could not be read and are left out.")
        return MeasuredSet(data, source, names, columns.pop("clouds"), encoded, columns, notes)

    def _finished_or_new(self, measured: MeasuredSet, plain: Scored, draw: Draw, fixed: list[Any]) -> list[dict[str, Any]]:
        """Take the rows of a draw from its file, or make them and write it."""
        key = json.dumps([*fixed, _digest(draw.clouds, draw.labels), draw.shots, draw.seed])
        path = self.output / "finished" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        rows = _finished(path, key)
        if rows is None:
            scored = self._fitted(measured, draw)
            made = self._made(measured, [plain, *scored])[1:]
            rows = [{**row, **item.extra, "shots": draw.shots, "seed": draw.seed, "protocol": {**row["protocol"], "fit": item.fit}}
                    for row, item in zip(made, scored, strict=True)]
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps({"key": key, "rows": rows}), encoding="utf-8")
        shown = ", ".join(f"{row['method']} {100 * row['class_mean']:.1f}" for row in rows)
        self.print(f"{measured.data.manifest.name}/{measured.data.variant_name}, {draw.shots} shots, seed {draw.seed}: class mean {shown}")
        return rows

    def _made(self, measured: MeasuredSet, scored: Sequence[Scored]) -> list[dict[str, Any]]:
        """Make rows of what methods say of the same samples; the first one is what the others are compared with."""
        data, source = measured.data, measured.source
        present = {item.method for item in scored}
        methods = []
        for place, item in enumerate(scored):
            over = self.step_over.get(item.method)
            methods.append(replace(self._method(item.method), factors={place: 1.0}, gain_over=None if place == 0 else scored[0].method,
                                   step_over=over if over in present else None))
        mined = mined_frames(self._mined(), source.data)
        said = {
            "profile": self.profile, "clip": self.clip.id, "image_size": self.clip.image_size, "num_points": data.num_points, "sampler": data.sampler,
            "up": data.up, "limit": data.limit, "precision": self.clip.precision, "clip_seed": self.clip.metadata.get("seed"), "data_seed": data.seed,
            "data": "mini-world" if (data.root / "miniworld.json").is_file() else "files", "shots_from": source.name, "fit": None,
            "shots_from_mined_frames": mined,
        }
        seen = [f"shots from {source.name}: {mined}; their labels are new to the encoder, their frames are not."] if mined else []
        prompts = {item.method: self._prompts(data, item.method) for item in scored}
        cosines = torch.stack([item.scores for item in scored], dim=1)
        return rows_of_set(data, SetScores.of({**measured.columns, "cosines": cosines}), methods, Naming(), prompts, said=said, notes=seen,
                           seed=data.seed)

    def _encoded(self, clouds: Tensor, num_real: Tensor) -> dict[str, Tensor]:
        """Encode clouds with what is frozen, a batch at a time."""
        with torch.inference_mode(False), torch.no_grad():
            size: int = self.trainer.datamodule.batch_size  # type: ignore[attr-defined]
            batches = zip(torch.split(clouds, size), torch.split(num_real, size), strict=True)
            parts = [self._encode(part.to(self.device), real.to(self.device)) for part, real in batches]
            return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}

    def _publish(self, results: list[dict[str, Any]]) -> None:
        summary = summaries(results)
        path = self.output / "results.json"
        provenance = {
            "commit": commit(), "versions": versions(), "hardware": hardware(), "clip": self.clip.id, "checkpoint_sha256": self.clip.weights_sha256,
            **self._about_encoder(), "manifest_sha256": {data.manifest.name: data.manifest.sha256 for data in self._data_sets()},
            "config": getattr(self.trainer, "clip2x_config", None),  # None where no command line made the trainer
        }
        found = [] if self.differences_of is None else differences(results, self.differences_of)
        content = {"results": results, "summary": summary, "differences": found, "provenance": provenance}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        mini = "mini: small CLIP trained on generated pictures; these figures are not comparable with papers." if self.profile == "mini" else ""
        notes = [note for row in results for note in row["protocol"]["notes"]]
        print_few_shot(summary, profile=self.profile, notes=[*notes, *([mini] if mini else [])], title=self.title)
        if found:
            print_differences(found, str(self.differences_of))
        shown = [item for item in summary if self.drawn is None or item["method"] in self.drawn]
        picture = draw_curves(curves_of(shown), "class mean", f"profile {self.profile}; {self.title}; bars: spread over {len(self.seeds)} seeds")
        with atomic_path(self.output / "accuracy_over_shots.png") as temporary:
            picture.save(temporary)
        self._draw(results)
        write_curves(path, {"CLIP": self.clip.file, **self._checkpoint_files()})
        page = write_results_page(path, content)
        self._log(summary)
        if isinstance(self.logger, TensorBoardLogger):
            for row in (row for row in detailed_rows(results) if row["mistakes"]):
                name = f"{self._tag}/mistakes/{row['dataset']}-{row['variant']}-{row['split']}/{row['method'].replace(' ', '_')}"
                self.logger.experiment.add_image(name, picture_sheet(row, read_pictures(self.output, row)), dataformats="HWC")
            self.logger.experiment.add_image(f"{self._tag}/accuracy_over_shots", np.asarray(picture), dataformats="HWC")
        print(f"results: {path}, page: {page}, curves: {self.output / 'accuracy_over_shots.png'}")

    def _draw(self, results: list[dict[str, Any]]) -> None:
        """Draw more pictures, where a kind of sweep has some."""

    def _log(self, summary: list[dict[str, Any]]) -> None:
        """Log means over seeds, with the number of shots as the step; of the whole split under a name of their own."""
        for item in summary:
            name = f"{self._tag}/{item['dataset']}-{item['variant']}-{item['split']}/{item['method'].replace(' ', '_')}"
            name, step = (f"{name}/all", 0) if isinstance(item["shots"], str) else (name, item["shots"])
            for logger in self.loggers:
                logger.log_metrics({f"{name}/{metric}": item[metric]["mean"] for metric in ("class_mean", "top1")}, step=step)

    @property
    def _tag(self) -> str:
        return self.title.replace("-", "_").replace(" ", "_")

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
