"""Cost curves: time and peak memory against batch, points, views, classes and the size of the triplet store, each point in a process of its own."""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from grouping import unit_clouds
from results import Results, results_option
from synthetic_store import FULL, write_store
from timing import Work, peak_memory_mb, reset_peak_memory, times_ms

from clip2x.data.triplets.dataset import TripletProxies
from clip2x.depth import rasterize, view_preset
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.points import PointTransformer
from clip2x.evaluation.class_embeddings import class_embeddings


@dataclass(frozen=True)
class Curve:
    """One curve.

    title: what is timed. axis: what grows. values: its points. unit: of a reading, per piece. pieces: at every point; None: as its value says.
    work: prepares the work at a point; what the work needs beyond that is its memory.
    """

    title: str
    axis: str
    values: tuple[int, ...]
    unit: str
    pieces: int | None
    work: Callable[[int, argparse.Namespace], Work]


def encoder_step(batch: int, options: argparse.Namespace) -> Work:
    encoder, points = PointTransformer(512, "tiny"), unit_clouds(batch, options.points, "cpu")
    return lambda: encoder(points).square().mean().backward()


def tower_step(batch: int, options: argparse.Namespace) -> Work:
    tower = ClipTowers(options.model, random_weights=True).trainable_image_tower()
    pictures = torch.rand(batch, 3, tower.image_size, tower.image_size)
    return lambda: tower.encode_image(pictures).square().mean().backward()


def drawing(points: int, options: argparse.Namespace) -> Work:
    cameras = [value.expand(8, -1) for value in view_preset("clip2point-10")]
    clouds = unit_clouds(8, points, "cpu")
    return lambda: rasterize(clouds, *cameras)


def encoding(points: int, options: argparse.Namespace) -> Work:
    encoder, clouds = PointTransformer(512, "tiny").eval(), unit_clouds(32, points, "cpu")
    return torch.no_grad()(lambda: encoder(clouds))


def viewing(views: int, options: argparse.Namespace) -> Work:
    clip, clouds = ClipTowers(options.model, random_weights=True), unit_clouds(4, options.points, "cpu")
    cameras = [value[:views].expand(4, -1) for value in view_preset("clip2point-10")]
    size = clip.image_size
    return torch.no_grad()(lambda: clip.encode_image(rasterize(clouds, *cameras, image_size=size).flatten(0, 1)[:, None].expand(-1, 3, -1, -1)))


def naming(classes: int, options: argparse.Namespace) -> Work:
    clip, names = ClipTowers(options.model, random_weights=True), [f"thing {place}" for place in range(classes)]
    clouds = torch.randn(32, clip.embed_dim)
    return lambda: clouds @ class_embeddings(clip, names, ["image of a {}"]).T


def opening(triplets: int, options: argparse.Namespace) -> Work:
    def work() -> None:
        data = TripletProxies(options.stores, 0, options.stores / str(triplets), embeddings="bench")
        for position in np.random.default_rng(0).integers(len(data), size=options.reads).tolist():
            data[position]

    return work


CURVES = {
    "batch-points": Curve("point transformer tiny, forward and backward", "clouds in the batch", (16, 64, 256), "ms/cloud", None, encoder_step),
    "batch-pictures": Curve("image tower, forward and backward", "pictures in the batch", (4, 16, 32), "ms/picture", None, tower_step),
    "points-drawing": Curve("rasterize, 8 clouds, 10 views", "points of a cloud", (256, 1024, 4096, 16384), "ms/view", 80, drawing),
    "points-encoding": Curve("point transformer tiny, 32 clouds, forward", "points of a cloud", (256, 1024, 4096), "ms/cloud", 32, encoding),
    "views": Curve("drawing and encoding 4 clouds", "views of a cloud", (1, 2, 5, 10), "ms/cloud", 4, viewing),
    "classes": Curve("names to scores, nothing cached", "classes", (10, 100, 1156), "ms", 1, naming),
    "store": Curve("opening a store and reading {reads} samples", "triplets", (16_000, 160_000, FULL), "ms", 1, opening),
}


def measure_here(curve: Curve, value: int, options: argparse.Namespace) -> None:
    """Measure one point in this process and print it as JSON."""
    work = curve.work(value, options)
    gc.collect()
    reset_peak_memory("cpu")
    before = peak_memory_mb()
    readings = times_ms(work, options.repeats, warm_up=1) / (curve.pieces or value)
    print(json.dumps({"readings": readings.tolist(), "memory_mb": max(0.0, peak_memory_mb() - before)}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every point in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", nargs="+", choices=list(CURVES), default=list(CURVES))
    parser.add_argument("--most", type=int, default=FULL, help="points of the curves beyond that are left out")
    parser.add_argument("--model", default="ViT-B-32-quickgelu")
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--reads", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--stores", type=Path, default=Path("runs/bench"), help="where synthetic stores are made, and stay")
    parser.add_argument("--here", nargs=2, help=argparse.SUPPRESS)
    results_option(parser)
    options = parser.parse_args(arguments)
    if options.here:
        measure_here(CURVES[options.here[0]], int(options.here[1]), options)
        return
    results = Results("curves", options.results)
    for name in options.curves:
        curve = CURVES[name]
        for value in [value for value in curve.values if value <= options.most]:
            if name == "store" and not (finished := options.stores / f"{value}-finished").exists():
                write_store(options.stores / str(value), value, points=10, crop_bytes=20, width=64)  # goes on where it was stopped
                finished.touch()
            command = [sys.executable, __file__, "--here", name, str(value), "--model", options.model, "--points", str(options.points), "--reads",
                       str(options.reads), "--repeats", str(options.repeats), "--stores", str(options.stores)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            model = f", {options.model}" if curve.work in (tower_step, viewing, naming) else ""
            results.add(curve.title.format(reads=f"{options.reads:,}") + model, f"{value:,} {curve.axis}", found["readings"], curve.unit,
                        memory_mb=found["memory_mb"])
    results.finish()


if __name__ == "__main__":
    main()
