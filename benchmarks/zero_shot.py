"""Zero-shot evaluation through Trainer and DataModule beside the image tower alone, and what the class names cost.

The loop is the real one: reading clouds, drawing ten views, encoding, comparing with the names, joining the scores. Weights are random.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from results import Results, Target, results_option
from timing import in_turns_ms, times_ms
from torch.nn import functional
from under_trainer import WARM_UP, Stage, run

from clip2x.data.datamodule import Clip2xDataModule
from clip2x.encoders.clip import ClipTowers
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.modules.zero_shot import ZeroShotClassification

MODEL = "ViT-B-32-quickgelu"
EVALUATION = Target(1.10)
TOWER = "the image tower alone on as many pictures"
TEXTS = "the text tower alone on as many texts"
READING = "reading as many numbers"
VIEWS = 10


def evaluation_stage(root: Path, batch: int, steps: int, *, data_set: str = "modelnet10/off/test", model: str = MODEL, precision: str = "fp32",
                     num_points: int = 1024, workers: int = 1) -> Stage:
    """Untouched CLIP on ten depth views: the recipe of `full` without other projections."""
    def make(folder: Path) -> tuple[ZeroShotClassification, Clip2xDataModule]:
        clip = ClipTowers(model, random_weights=True, precision=precision)
        data = Clip2xDataModule(root, test=[data_set], limit=batch * (WARM_UP + steps), batch_size=batch, num_points=num_points, num_workers=workers,
                                cache=folder / "cache")
        return ZeroShotClassification(clip, folder / "eval", images=False), data

    def networks(module: ZeroShotClassification, batch: Any, context: Callable[[], Any]) -> None:
        size = module.clip.image_size
        module.clip.encode_image(torch.rand(len(batch["points"]) * VIEWS, 3, size, size, device=module.device))

    return Stage(make, networks, lambda module: [module.clip.image_tower.visual], batch, loop="test")


def measure_texts(model: str, numbers: Sequence[int], repeats: int, results: Results) -> None:
    """Time the embeddings of class names, the first time and from the cache, and the comparison of a batch with them."""
    clip = ClipTowers(model, random_weights=True)
    for number in numbers:
        names = [f"thing {place}" for place in range(number)]
        texts = [f"image of a {name}" for name in names]
        with tempfile.TemporaryDirectory() as cache, torch.no_grad():
            first = in_turns_ms({"all": lambda names=names: class_embeddings(clip, names, ["image of a {}"]),
                                 "tower": lambda texts=texts: clip.encode_text(texts)}, min(repeats, 2), warm_up=1)
            embeds = class_embeddings(clip, names, ["image of a {}"], cache=cache)
            copy = torch.empty_like(embeds)
            again = in_turns_ms({"all": lambda names=names, cache=cache: class_embeddings(clip, names, ["image of a {}"], cache=cache),
                                 "read": lambda copy=copy, embeds=embeds: copy.copy_(embeds)}, repeats)
        where = f"{model}, {number:,} classes, one template"
        results.add("class names, first time", where, first["all"] / number, "ms/class", floor=first["tower"] / number, floor_is=TEXTS)
        results.add("class names, from the cache", where, again["all"] / number, "ms/class", floor=again["read"] / number, floor_is=READING)
        clouds = functional.normalize(torch.randn(1, 32, embeds.shape[1]), dim=-1)
        compared = times_ms(lambda clouds=clouds, embeds=embeds: torch.einsum("pbe,pce->bpc", clouds, embeds[None]), repeats)
        results.add("comparing clouds with class names", f"{number:,} classes, batch 32", compared / 32, "ms/cloud")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure on the CPU; `full_size.py` is for a GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="holds ModelNet10, e.g. the mini-world")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--batch", type=int, default=8, help="clouds of ten views")
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--classes", type=int, nargs="+", default=[40, 1156])
    parser.add_argument("--repeats", type=int, default=10)
    results_option(parser)
    options = parser.parse_args(arguments)
    results = Results("zero_shot", options.results)
    stage = evaluation_stage(options.root, options.batch, options.steps, model=options.model, num_points=options.points, workers=options.workers)
    timed = run(stage, options.steps, "cpu", "32-true")
    where = f"{options.model}, float32, {VIEWS} views, {options.points:,} points, batch {options.batch}"
    results.add("zero-shot evaluation", where, timed.loop, "ms/cloud", floor=timed.networks, floor_is=TOWER, target=EVALUATION,
                memory_mb=timed.memory_mb)
    measure_texts(options.model, options.classes, options.repeats, results)
    results.finish()


if __name__ == "__main__":
    main()
