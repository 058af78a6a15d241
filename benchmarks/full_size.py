"""The full-size runs on a GPU: ViT-B/32 and the point encoder at the papers' batches, in bfloat16, with and without torch.compile.

Throughput, peak memory and share of the GPU's peak FLOP/s. Without a GPU every row says "not run"; --smoke runs the same code, tiny, on the CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from flops import image_tower, point_encoder
from results import Results, Target, results_option
from training_steps import BOTH_TOWERS, ENCODER, MODEL, PAIR, STEP, depth_stage, points_stage
from under_trainer import WARM_UP, Stage, run
from zero_shot import EVALUATION, TOWER, VIEWS, evaluation_stage

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16, SXM boards. Source: NVIDIA's data sheets."""


@dataclass(frozen=True)
class Case:
    """One run: what, at which size, for how many batches, and the floating-point operations of a piece."""

    name: str
    size: str
    unit: str
    stage: Callable[[], Stage]
    steps: int
    floor_is: str
    target: Target
    flops: Callable[[], int]


def cases(root: Path, *, smoke: bool, steps: int, workers: int) -> Iterator[Case]:
    """List the runs; with `smoke` the same ones with the small CLIP, the tiny encoder and a few samples."""
    model, encoder, points = ("clip2x-small", "tiny", 64) if smoke else (MODEL, "small", 1024)
    precision = "bf16"
    for batch in (4,) if smoke else (256, 2048):
        yield Case("image-depth pre-training", f"{model}, {precision}, batch {batch}", "ms/pair",
                   lambda batch=batch: depth_stage(root, batch, model=model, workers=workers), steps, BOTH_TOWERS, STEP, lambda: 7 * image_tower())
    for batch in (4,) if smoke else (512, 2048):
        yield Case("point pre-training", f"{encoder}, {points:,} points, {precision}, batch {batch}", "ms/triplet",
                   lambda batch=batch: points_stage(batch, size=encoder, num_points=points, model=model, workers=workers,
                                                    triplets=1500 if smoke else None), steps, ENCODER, STEP,
                   lambda: 3 * point_encoder(encoder, points))
    for batch in (2,) if smoke else (26, 100):  # of ten pictures; the mini-world has 400 clouds
        batches = min(steps, 400 // batch - WARM_UP)
        yield Case("zero-shot evaluation", f"{model}, {precision}, {VIEWS} views, batch {batch}", "ms/cloud",
                   lambda batch=batch, batches=batches: evaluation_stage(root, batch, batches, model=model, precision=precision, num_points=points,
                                                                         workers=workers), batches, TOWER, EVALUATION, lambda: VIEWS * image_tower())


def peak_flops() -> float | None:
    """Look up what the GPU can do in bfloat16; None for one that is not listed."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


def measure(case: Case, device: str, backend: str | None, results: Results) -> None:
    """Add the row of one case."""
    size = case.size + (", torch.compile" if backend else "")
    try:
        timed = run(case.stage(), case.steps, device, "bf16-mixed", backend)
    except torch.OutOfMemoryError:
        results.not_run(case.name, size, case.unit, "out of memory", floor_is=case.floor_is, target=case.target, device=device)
        return
    peak, seconds = peak_flops(), float(np.median(timed.loop)) / 1e3
    share = None if peak is None else (case.flops() / seconds / peak, f"the peak of {peak / 1e12:,.0f} TFLOP/s")
    results.add(case.name, size, timed.loop, case.unit, floor=timed.networks, floor_is=case.floor_is, share=share, target=case.target, device=device,
                memory_mb=timed.memory_mb, note=PAIR if case.unit == "ms/pair" else None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every case with and without torch.compile, or say that it was not run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="holds ShapeNet with rendered pictures and ModelNet10, e.g. the mini-world")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--smoke", action="store_true", help="run everything once on the CPU, tiny")
    results_option(parser)
    options = parser.parse_args(arguments)
    on_gpu = torch.cuda.is_available()
    results = Results("full_size", options.results)
    steps, workers = (1, 0) if options.smoke else (options.steps, options.workers)
    for case in cases(options.root, smoke=options.smoke, steps=steps, workers=workers):
        for backend in (None, "inductor" if on_gpu else "eager"):
            if on_gpu or options.smoke:
                measure(case, "cuda" if on_gpu else "cpu", backend, results)
            else:
                results.not_run(case.name, case.size + (", torch.compile" if backend else ""), case.unit, "no GPU was at hand",
                                floor_is=case.floor_is, target=case.target)
    results.finish()


if __name__ == "__main__":
    main()
