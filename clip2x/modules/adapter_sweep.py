"""`make adapt`: GDPA and its baselines on the same frozen features, few-shot and fully supervised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional

from clip2x.adapters import AdapterSettings, GatedFusion, InterViewAdapter, released_dpa
from clip2x.data.shots import ALL
from clip2x.encoders.adapter_checkpoint import LEAST_START, gate_start, mined_by, save_adapter_checkpoint, towers_facts, towers_of
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import read_depth_checkpoint
from clip2x.encoders.dual import CLIP, DEPTH, POINTS, AdaptedEncoder
from clip2x.encoders.point_checkpoint import read_point_checkpoint, require_coordinates, require_ours
from clip2x.errors import InputError
from clip2x.evaluation.cache_model import ALPHA, ALPHAS, BETA, BETAS, fit_cache, joined_views, mean_of_views
from clip2x.evaluation.class_embeddings import centred, class_embeddings
from clip2x.evaluation.gates import draw_gates, mean_gates
from clip2x.evaluation.linear_probe import FIXED_STRENGTH, STRENGTHS, fit_probe
from clip2x.evaluation.methods import CLIP2, CLIP2POINT, Method, protocol
from clip2x.evaluation.results_page import detailed_rows
from clip2x.evaluation.view_features import ViewFeatureCache
from clip2x.modules.adapter_fitting import AdapterTraining, fit_adapter, pointclip_training
from clip2x.modules.shot_sweep import ZERO_SHOT, Draw, MeasuredSet, Scored, ShotSweep
from clip2x.provenance import commit
from clip2x.storage import atomic_path

GDPA, DPA, POINTCLIP, PROBE, CACHE = "GDPA", "DPA (released)", "PointCLIP adapter", "linear probe", "Tip-Adapter cache"
NO_GATE, DEPTH_ONLY, CLIP_ONLY = "GDPA, fixed gate", "GDPA, depth path", "GDPA, CLIP path"
SCALAR, PLAIN, THIRD = "GDPA, scalar gate", "GDPA, no residual", "GDPA + CLIP2 (third path)"
SUM, CLIP2_ZERO, CLIP2_PROBE = "zero-shot, CLIP2Point + CLIP", "zero-shot, CLIP2", "linear probe + CLIP2"
ADAPTERS = (GDPA, NO_GATE, SCALAR, PLAIN, DEPTH_ONLY, CLIP_ONLY, DPA, POINTCLIP, THIRD)
LEARNT_GATES = (GDPA, SCALAR, PLAIN, THIRD)


class AdapterSweep(ShotSweep):
    """Fit GDPA, its parts, its forerunner and other adapters on every draw of shots, all on what both frozen towers say of the same depth views.

    The towers see every cloud once; what they say is kept in `output/view_features`. Adapters are taken as they are after the last epoch: nothing
    is selected.

    Args:
        clip: The CLIP of the depth encoder's training.
        output: Folder for `results.json`, `accuracy_over_shots.png`, `gates.png`, and `adapter.safetensors`: GDPA of the first test set, the most
            shots and the first seed, which `clip2x classify` and `make eval-zeroshot` take.
        checkpoint: A depth encoder of `pretrain-depth`, or the official release's.
        point_checkpoint: A point encoder of `pretrain-points`: adds GDPA with a third path (ours), and baselines with it.
        shots: Numbers of shots, and `all`. Null: 1, 2, 4, 8, 16.
        seeds: Each draws other shots and other initial weights. Null: 0, 1, 2.
        train_split: Where shots come from, of each test set's own variant.
        adapter: Of GDPA; the other rows differ from it in what their name says.
        training: Of GDPA and its parts. DPA has the released code's (constant rate, no scale), PointCLIP's adapter its own; `epochs` is shared.
        full_epochs: In the place of `training.epochs` where all of the training split is used. Ours: it has many more steps an epoch.
        methods: Adapters to fit, see `ADAPTERS`; null: all.
        templates: Prompts; null: the manifest's official ones.
        cache, profile: See `ShotSweep`.
    """

    title = "adapted"
    drawn = (ZERO_SHOT, PROBE, CACHE, GDPA, DEPTH_ONLY, CLIP_ONLY, DPA, THIRD)
    differences_of = GDPA

    def __init__(self, clip: ClipTowers, output: Path, checkpoint: Path | None = None, point_checkpoint: Path | None = None,
                 shots: list[int | str] | None = None, seeds: list[int] | None = None, train_split: str = "train",
                 adapter: AdapterSettings | None = None, training: AdapterTraining | None = None, full_epochs: int | None = None,
                 methods: list[str] | None = None, templates: str | None = None, cache: Path | None = None, profile: str = "full") -> None:
        if checkpoint is None:
            raise InputError("model.checkpoint is not set; give depth_encoder.safetensors of pretrain-depth (make adapt CHECKPOINT=FILE).")
        super().__init__(clip, output, shots, seeds, train_split, cache, profile)
        if unknown := [name for name in methods or [] if name not in ADAPTERS]:
            raise InputError(f"model.methods has {unknown[0]!r}; it takes {', '.join(map(repr, ADAPTERS))}.")
        self.depth = read_depth_checkpoint(checkpoint)
        self.points = None if point_checkpoint is None else read_point_checkpoint(point_checkpoint)
        if self.points is not None:
            require_ours(self.points, "model.point_checkpoint", "give point_encoder.safetensors, or leave it out: --model.point_checkpoint null")
            require_coordinates(self.points)
        self.towers = towers_of(self.depth, clip, self.points)
        self.adapter, self.recipe = adapter or AdapterSettings(), training or AdapterTraining()
        self.full_recipe = self.recipe if full_epochs is None else replace(self.recipe, epochs=full_epochs)
        if self.points is None and THIRD in (methods or []):
            raise InputError(f"model.methods has {THIRD!r}, which needs model.point_checkpoint.")
        self.methods = [name for name in ADAPTERS if name in (methods or ADAPTERS) and (name != THIRD or self.points is not None)]
        self.templates = templates
        about = {**towers_facts(clip, self.depth, self.points), "precision": clip.precision}
        self.view_features = ViewFeatureCache(self.towers, self.output / "view_features", about, self._autocast)

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.clip.precision == "bf16")

    def _encode(self, points: Tensor, num_real: Tensor | None) -> dict[str, Tensor]:
        return dict(zip(self.towers.paths, self.view_features.features(points, num_real), strict=True))

    def _names(self, data: Any) -> list[Tensor]:
        folder = self.output / "class_embeddings"
        names = [class_embeddings(self.clip, data.class_names, self._templates(data), cache=folder)]
        if self.points is not None:
            own = class_embeddings(self.clip, data.class_names, tuple(self.points.about["templates"]), cache=folder)
            mean = self.points.about["mean_text"]
            names.append(own if mean is None else centred(own, torch.tensor(mean)))
        return names

    def _templates(self, data: Any) -> tuple[str, ...]:
        return tuple(data.manifest.templates(self.templates or "official_code"))

    def _without_shots(self, measured: MeasuredSet) -> list[Scored]:
        encoded = measured.encoded
        tuned, untouched = (functional.normalize(mean_of_views(encoded[path]), dim=-1) @ measured.names[0].T for path in (DEPTH, CLIP))
        factors = self.depth.about["ensemble"]
        found = [Scored(ZERO_SHOT, float(self.depth.about["scale"]) * tuned),
                 Scored(SUM, float(factors["tuned"]) * tuned + float(factors["clip"]) * untouched)]
        if self.points is not None:
            cosines = functional.normalize(encoded[POINTS][:, 0], dim=-1) @ measured.names[1].T
            found.append(Scored(CLIP2_ZERO, float(self.points.about["scale"]) * cosines))
        return found

    def _fitted(self, measured: MeasuredSet, draw: Draw) -> list[Scored]:
        shots = {path: draw.encoded(path) for path in self.towers.paths}
        found = [self._probe(PROBE, (DEPTH, CLIP), measured, shots, draw), self._cache(measured, shots, draw.labels)]
        if self.points is not None:
            found.append(self._probe(CLIP2_PROBE, self.towers.paths, measured, shots, draw))
        return [*found, *(self._adapted(name, measured, shots, draw) for name in self.methods)]

    def _probe(self, name: str, paths: Sequence[str], measured: MeasuredSet, shots: dict[str, Tensor], draw: Draw) -> Scored:
        """Fit a linear probe on the averaged views of some paths, side by side."""
        probe = fit_probe(joined_views([shots[path] for path in paths]), draw.labels, len(measured.names[0]), seed=draw.seed)
        scores = probe.scores(joined_views([measured.encoded[path] for path in paths])).float()
        return Scored(name, scores, {"paths": list(paths), "strength": probe.strength, "chosen_by": probe.chosen_by})

    def _cache(self, measured: MeasuredSet, shots: dict[str, Tensor], labels: Tensor) -> Scored:
        """Tip-Adapter on the depth encoder's embeddings."""
        names, scale = measured.names[0], float(self.depth.about["scale"])
        own, others = (functional.normalize(mean_of_views(encoded[DEPTH]), dim=-1) for encoded in (shots, measured.encoded))
        cache = fit_cache(own, labels, scale * own @ names.T)
        return Scored(CACHE, cache.scores(others, scale * others @ names.T), {"alpha": cache.alpha, "beta": cache.beta, "chosen_by": cache.chosen_by})

    def _trained(self, name: str, shots: dict[str, Tensor], measured: MeasuredSet, draw: Draw, losses: list[float] | None = None) -> nn.Module:
        """Train one adapter on a draw; `losses`: see `fit_adapter`."""
        paths, settings, recipe = self._plan(name, draw)

        def make() -> nn.Module:
            if settings is None:
                return InterViewAdapter(self.towers.depth.num_views, self.towers.embed_dim)
            views = [self.towers.num_views[self.towers.paths.index(path)] for path in paths]
            start = None if name == DPA else gate_start(self.depth, self.points, paths)
            return GatedFusion(views, self.towers.embed_dim, settings, start)

        return fit_adapter(make, [shots[path] for path in paths], draw.labels, measured.names[0].to(self.device), recipe,
                           scale=self.clip.logit_scale, seed=draw.seed, normalise=settings is not None, losses=losses)

    def _adapted(self, name: str, measured: MeasuredSet, shots: dict[str, Tensor], draw: Draw) -> Scored:
        """Train one adapter on a draw and score the test set with it."""
        paths, settings, recipe = self._plan(name, draw)
        losses: list[float] = []
        model, names = self._trained(name, shots, measured, draw, losses), measured.names[0].to(self.device)
        with torch.inference_mode(False), torch.no_grad():
            features = [measured.encoded[path].to(self.device) for path in paths]
            embeds = model(features)
            scores = (embeds if settings is None else functional.normalize(embeds, dim=-1)) @ names.T
            factor = self.clip.logit_scale if recipe.scale is None else recipe.scale
            fit = {"adapter": "PointCLIP's inter-view adapter" if settings is None else asdict(settings), "paths": list(paths), **asdict(recipe),
                   "num_weights": sum(weight.numel() for weight in model.parameters()), "selected_on": "nothing: the last epoch",
                   "loss": [float(f"{loss:.4g}") for loss in losses]}
            extra = {}
            if name in LEARNT_GATES:
                weights = cast(GatedFusion, model).fused(features)[1].mean(dim=2).cpu()
                extra["gate"] = mean_gates(weights, measured.columns["labels"], list(paths), measured.data.class_names)
        return Scored(name, (factor * scores).cpu(), fit, extra)

    def _plan(self, name: str, draw: Draw) -> tuple[tuple[str, ...], AdapterSettings | None, AdapterTraining]:
        """Say which paths an adapter takes, what it is made of (None: PointCLIP's), and how it is trained."""
        training = self.full_recipe if draw.shots == ALL else self.recipe
        both = (DEPTH, CLIP)
        plans: dict[str, tuple[tuple[str, ...], AdapterSettings | None, AdapterTraining]] = {
            GDPA: (both, self.adapter, training),
            NO_GATE: (both, replace(self.adapter, gate="mean"), training),  # fixed where the learnt one starts
            SCALAR: (both, replace(self.adapter, gate="scalar"), training),
            PLAIN: (both, replace(self.adapter, residual=False), training),
            DEPTH_ONLY: ((DEPTH,), self.adapter, training),
            CLIP_ONLY: ((CLIP,), self.adapter, training),
            THIRD: ((DEPTH, CLIP, POINTS), self.adapter, training),
            DPA: (both, released_dpa(), AdapterTraining(epochs=training.epochs, cosine=False, scale=1.0)),
            POINTCLIP: ((CLIP,), None, pointclip_training(training.epochs)),
        }
        return plans[name]

    def _keep(self, measured: MeasuredSet, draw: Draw) -> None:
        """Write GDPA of the first test set, the most shots and the first seed."""
        wanted = (measured.source.shots[-1], self.seeds[0])
        if GDPA not in self.methods or measured.data is not self._data_sets()[0] or (draw.shots, draw.seed) != wanted:
            return
        scale = self._plan(GDPA, draw)[2].scale
        model = self._trained(GDPA, {path: draw.encoded(path) for path in self.towers.paths}, measured, draw)
        encoder = AdaptedEncoder(self.towers, cast(GatedFusion, model))
        source = measured.source
        about = {
            "encoder": self.depth.about["encoder"], "scale": self.clip.logit_scale if scale is None else scale,
            "templates": list(self._templates(measured.data)),
            "class_names": list(measured.data.class_names), "points": None, "mined": mined_by(self.depth, self.points, (DEPTH, CLIP)),
            "unseen_names": [], "seed": draw.seed, "commit": commit(),
            "trained_with": f"all labels of {source.name}" if draw.shots == ALL else f"{draw.shots} labelled clouds of every class of {source.name}",
            "trained_on": {"data": source.name, "shots": draw.shots, "seed": draw.seed}, "selected_on": "nothing: the last epoch", "notes": [],
            "ensemble": None, "precision": self.clip.precision,
            "depth_checkpoint_sha256": self.depth.sha256,
        }
        save_adapter_checkpoint(self.output / "adapter.safetensors", encoder, self.clip, about)

    def _method(self, name: str) -> Method:
        paths = self._paths_of(name)
        draw, with_points = self.towers.depth.draw, POINTS in paths and self.points is not None
        views = {"projection": "clip2point", "views": draw.views, "num_views": draw.num_views, "point_radius": draw.point_radius,
                 "normalise_colours": draw.normalise_colours, "depth_checkpoint_sha256": self.depth.sha256} if paths != (POINTS,) else {}
        points = {"point_checkpoint_sha256": cast(Any, self.points).sha256, "num_points_of_encoder": self.towers.num_points} if with_points else {}
        selected = "nothing: the last epoch" if name in ADAPTERS else None
        notes = [f"{name}: with the point encoder of CLIP2; ours."] if with_points and len(paths) > 1 else []
        return Method(name, {}, protocol(name, **views, **points, selected_on=selected, notes=notes), mined=mined_by(self.depth, self.points, paths))

    def _paths_of(self, name: str) -> tuple[str, ...]:
        """Say which paths a row rests on."""
        others = {CLIP2_ZERO: (POINTS,), CLIP2_PROBE: self.towers.paths, THIRD: self.towers.paths, ZERO_SHOT: (DEPTH,), CACHE: (DEPTH,),
                  DEPTH_ONLY: (DEPTH,), CLIP_ONLY: (CLIP,), POINTCLIP: (CLIP,)}
        return others.get(name, (DEPTH, CLIP))

    def _prompts(self, data: Any, name: str) -> list[list[str]]:
        own = [list(cast(Any, self.points).about["templates"])] if name == CLIP2_ZERO else [list(self._templates(data))]
        return own

    def _settings(self) -> list[Any]:
        points = None if self.points is None else self.points.sha256
        return [self.depth.sha256, points, asdict(self.adapter), asdict(self.recipe), self.full_recipe.epochs, self.methods, STRENGTHS,
                FIXED_STRENGTH, ALPHA, BETA, ALPHAS, BETAS, LEAST_START]

    def _about_encoder(self) -> dict[str, Any]:
        return {name: None if file is None else {"sha256": file.sha256, "about": file.about}
                for name, file in (("depth_checkpoint", self.depth), ("point_checkpoint", self.points))}

    def _checkpoint_files(self) -> dict[str, str]:
        return {CLIP2POINT: self.depth.path, **({} if self.points is None else {CLIP2: self.points.path})}

    def _mined(self) -> Any:
        return mined_by(self.depth, self.points, self.towers.paths)

    def _draw(self, results: list[dict[str, Any]]) -> None:
        picture = draw_gates([row for row in results if row["method"] == GDPA])
        if picture is None:
            return
        with atomic_path(self.output / "gates.png") as temporary:
            picture.save(temporary)
        for row in (row for row in results if "gate" in row and not isinstance(row["shots"], str)):
            name = f"{self._tag}/gate/{row['dataset']}-{row['variant']}-{row['split']}/{row['method'].replace(' ', '_')}/seed{row['seed']}"
            for logger in self.loggers:
                logger.log_metrics({f"{name}/{path}": share for path, share in row["gate"]["mean"].items()}, step=row["shots"])
        self._log_losses(detailed_rows(results))
        if isinstance(self.logger, TensorBoardLogger):
            self.logger.experiment.add_image(f"{self._tag}/gates", np.asarray(picture), dataformats="HWC")
        print(f"gates: {self.output / 'gates.png'}, adapter: {self.output / 'adapter.safetensors'}")

    def _log_losses(self, rows: Sequence[Any]) -> None:
        """Log the loss of every epoch of some rows' adapters, with the epoch as the step."""
        for row in (row for row in rows if (row["protocol"]["fit"] or {}).get("loss")):
            name = f"{self._tag}/loss/{row['dataset']}-{row['variant']}-{row['split']}/{row['method'].replace(' ', '_')}"
            for epoch, loss in enumerate(row["protocol"]["fit"]["loss"], start=1):
                for logger in self.loggers:
                    logger.log_metrics({name: loss}, step=epoch)
