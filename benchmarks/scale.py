"""What the full recipe costs past one machine: GPU hours, CPU hours, disk and network per stage, derived from results.json and counted FLOPs.

Every input says whether it was measured (which row of results.json), counted, taken from a data sheet, or assumed. `make bench` writes the tables
into docs/scale.md, between two marks; a test compares them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flops import counted
from results import JSON, REPO, figure, read_results

PAGE = REPO / "docs" / "scale.md"
MARKS = "<!-- made by benchmarks/scale.py: -->", "<!-- end -->"
MACHINES = (1, 8, 64)

PEAK_FLOPS = 989e12  # data sheet: H100 and H200, dense bfloat16
UTILISATION = 0.35  # assumed until full_size.py has run on a GPU
CORES = 12  # assumed: CPU cores beside each GPU
NVLINK, NETWORK = 450e9, 50e9  # bytes/s, data sheets: within a machine of eight, between machines (400 Gbit/s for each GPU)
LAUNCH_S = 0.015  # assumed: of a training step, while Python queues its kernels one by one; less with torch.compile
VIT_WEIGHTS, SMALL_WEIGHTS, ADAPTER_WEIGHTS = 87.8e6, 22.0e6, 6.3e6  # counted; gradients travel as float32
EMBED = 512

MODELS, EPOCHS, BATCH = 52_460, 100, 256  # facts of CLIP2Point: all of ShapeNet-55, an upper bound: this project holds out a tenth and the test list
VALIDATED = 4_195 + 10_518 + 2_468  # clouds after every epoch: the held-out tenth, ShapeNet's test list, ModelNet40's
FRAMES, PICTURES, ROOMS = 28_130, 6, 5_285  # nuScenes' train key frames, cameras of each; SUN RGB-D's training frames
TRIPLETS, POINT_EPOCHS, POINT_BATCH = 1_600_000, 50, 512
EVALUATED = 2_468 + 908 + 581 + 581 + 2_882  # clouds of ModelNet40, ModelNet10, ScanObjectNN's three variants
STREET_OBJECTS = 1_166_187 * 150 // 850  # nuScenes' val: annotations in proportion to its scenes, an upper bound
LADDER_VIEWS = 10 + 10 + 6 + 10  # of CLIP, of CLIP2Point, of PointCLIP's and PointCLIP V2's projections
ADAPTED = 9_843  # clouds of ModelNet40's training list, ten views in both towers
REAL_MODEL_MS = 189.0  # four real models of ShapeNetCore.v2 at 224 px, measured by hand on a busy core
KEY_FRAME_BYTES = 1.563e6  # one real key frame: six pictures of 145 kB, 0.69 MB of points; measured by hand
ROOM_BYTES = 0.6e6  # assumed: picture and depth of a SUN RGB-D frame


@dataclass(frozen=True)
class Stage:
    """The work of one stage.

    number, what: what goes through it. flops: on GPUs. core_hours: of one CPU core. disk: bytes that it keeps or reads.
    steps: of the optimizer; 0 where there is none. gradients, gathered: bytes that a step sends, of the weights, and of the whole batch's features.
    """

    name: str
    number: int
    what: str
    flops: float
    core_hours: float
    disk: float = 0.0
    steps: int = 0
    gradients: float = 0.0
    gathered: float = 0.0


class Measured:
    """Rows of results.json by name; each that is asked for is listed with the tables."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows, self.used = rows, dict[str, str]()

    def mean(self, benchmark: str, name: str, size: str = "") -> float:
        """Look up the mean of a row that was measured on a CPU.

        Raises:
            SystemExit: If there is none.
        """
        found = [row for row in self.rows if (row["benchmark"], row["name"], row["device"]) == (benchmark, name, "cpu") and size in row["size"]
                 and row["mean"] is not None]
        if not found:
            raise SystemExit(f"results.json has no figure for {benchmark}: {name} {size}; run make bench first.")
        row = found[0]
        self.used[f"{name}, {row['size']}"] = f"{figure(row['mean'])} {row['unit']} (mean), measured: {benchmark}"
        return float(row["mean"])

    def utilisation(self, name: str) -> float:
        """Share of the peak that a stage reached on a GPU; the assumed one where none has run."""
        found = [row["share"] for row in self.rows if row["benchmark"] == "full_size" and row["name"] == name and row["share"] is not None]
        said = f"{max(found):.2f}, measured: full_size" if found else f"{UTILISATION:.2f}, assumed: not run on a GPU"
        self.used[f"share of the peak in {name}"] = said
        return max(found, default=UTILISATION)


def hours(milliseconds: float, items: float) -> float:
    return milliseconds * items / 3.6e6


def stages(measured: Measured, flops: dict[str, float]) -> Iterator[Stage]:
    """Derive the work of every stage."""
    tower, encoder = flops["ViT-B/32 image tower, a picture of 224 px"], flops["point transformer small, a cloud of 1,024 points"]
    yield from depth_stages(measured, tower)
    yield from proxy_stages(measured, tower, flops["OWLv2 B/16 vision tower, a picture of 960 px"])
    yield from point_stages(measured, encoder)
    yield from evaluation_stages(measured, tower, flops["GDPA behind the towers, a cloud"])


def depth_stages(measured: Measured, tower: float) -> Iterator[Stage]:
    picture, cloud = measured.mean("render_pairs", "size of a rendered picture", "224 px"), measured.mean("readers", "shapenet/pc/train", "again")
    yield Stage("render ShapeNet", MODELS, "models, ten pictures", 0, hours(REAL_MODEL_MS, MODELS), 10 * picture * MODELS)
    pair, pairs = cloud + measured.mean("render_pairs", "reading a rendered picture", "224 px"), MODELS * EPOCHS
    for batch in (BATCH, 2048):
        yield Stage(f"depth pre-training, batch {batch:,}", pairs, f"pairs, {EPOCHS} epochs", 7 * tower * pairs, hours(pair, pairs),
                    8192 * 12 * MODELS, pairs // batch, 4 * VIT_WEIGHTS, 4 * 3 * EMBED * batch)
    clouds = VALIDATED * EPOCHS
    yield Stage("... its validation", clouds, "clouds, ten views, every epoch", 10 * tower * clouds, hours(cloud, clouds))


def proxy_stages(measured: Measured, tower: float, detector: float) -> Iterator[Stage]:
    decoding = measured.mean("proxies", "decoding a camera picture")
    street, room = (measured.mean("proxies", "mining a frame, boxes from a file", kind) for kind in ("nuScenes", "SUN RGB-D"))
    yield Stage("collect proxies, nuScenes", FRAMES, f"key frames of {PICTURES} pictures", detector * FRAMES * PICTURES,
                hours(street + PICTURES * decoding, FRAMES), KEY_FRAME_BYTES * FRAMES)
    yield Stage("collect proxies, SUN RGB-D", ROOMS, "frames", detector * ROOMS, hours(room + decoding, ROOMS), ROOM_BYTES * ROOMS)
    stored = measured.mean("triplet_store", "size of a triplet") + measured.mean("triplet_store", "size of an embedding")
    yield Stage("embed crops", TRIPLETS, "crops", tower * TRIPLETS, hours(measured.mean("proxies", "decoding a crop"), TRIPLETS), stored * TRIPLETS)


def point_stages(measured: Measured, encoder: float) -> Iterator[Stage]:
    sample = measured.mean("triplet_store", "reading a sample of 1,024 points with augmentation and embedding, at random")
    trained, validated = int(0.9 * TRIPLETS) * POINT_EPOCHS, int(0.1 * TRIPLETS) * POINT_EPOCHS
    for batch in (POINT_BATCH, 2048):
        yield Stage(f"point pre-training, batch {batch:,}", trained, f"triplets, {POINT_EPOCHS} epochs", 3 * encoder * trained,
                    hours(sample, trained), 0, trained // batch, 4 * SMALL_WEIGHTS, 4 * (2 * EMBED + 2) * batch)
    yield Stage("... its validation", validated, "triplets, every epoch", encoder * validated, hours(sample, validated))


def evaluation_stages(measured: Measured, tower: float, adapter: float) -> Iterator[Stage]:
    mesh, thing = (measured.mean("readers", name, "first pass") for name in ("modelnet10/off/train", "nuscenes/v1.0-mini/mini_train"))
    views = f"{LADDER_VIEWS} views"
    yield Stage("evaluate, objects", EVALUATED, f"clouds, {views}", LADDER_VIEWS * tower * EVALUATED, hours(mesh, EVALUATED))
    yield Stage("evaluate, nuScenes val", STREET_OBJECTS, f"objects, {views}", LADDER_VIEWS * tower * STREET_OBJECTS, hours(thing, STREET_OBJECTS))
    yield Stage("adapt, features kept", ADAPTED, f"clouds, 20 views, {EPOCHS} epochs", (20 * tower + 3 * adapter * EPOCHS) * ADAPTED,
                hours(mesh, ADAPTED), 20 * 4 * EMBED * ADAPTED, ADAPTED * EPOCHS // 32, 4 * ADAPTER_WEIGHTS)


def sending_seconds(stage: Stage, gpus: int) -> float:
    """Seconds that the network takes for one step: a ring of gradients, and the gathering of features with its gradient."""
    if gpus == 1 or not stage.steps:
        return 0.0
    speed = NVLINK if gpus <= 8 else NETWORK
    return (2 * (gpus - 1) / gpus * stage.gradients + 2 * stage.gathered) / speed


def gpu_hours(stage: Stage, measured: Measured) -> float:
    """Hours of one GPU, at the share of its peak that the stage reaches."""
    kinds = {"depth": "image-depth pre-training", "point": "point pre-training", "evaluate,": "zero-shot evaluation"}
    name = kinds.get(stage.name.split()[0])
    return stage.flops / (PEAK_FLOPS * (measured.utilisation(name) if name else UTILISATION)) / 3600


def bounds(stage: Stage, gpu: float, gpus: int) -> dict[str, float]:
    """Hours that each resource takes by itself; what is slowest decides, if the others overlap with it."""
    return {"GPU": gpu / gpus, "CPU": stage.core_hours / (CORES * gpus), "network": stage.steps * sending_seconds(stage, gpus) / 3600,
            "launching": stage.steps * LAUNCH_S / 3600}


def minutes(taken: float) -> str:
    return f"{figure(60 * taken)} min" if taken < 1 else f"{figure(taken)} h"


def rows(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> list[str]:
    """Make a table."""
    return ["", *("| " + " | ".join(cells) + " |" for cells in (head, ("---",) * len(head), *lines)), ""]


def work_row(stage: Stage, gpu: float) -> tuple[str, ...]:
    training = ("", "")
    if stage.steps:
        training = (f"{figure(stage.flops / stage.steps / 1e12)} TFLOP", f"{figure((2 * 7 / 8 * stage.gradients + 2 * stage.gathered) / 1e6)} MB")
    return (stage.name, f"{stage.number:,} {stage.what}", f"{figure(stage.flops / 1e15)} PFLOP", figure(gpu), figure(stage.core_hours),
            f"{figure(stage.disk / 1e9)} GB" if stage.disk else "", *training)


def time_row(stage: Stage, gpu: float) -> tuple[str, ...]:
    slowest = [max((hour, name) for name, hour in bounds(stage, gpu, gpus).items()) for gpus in MACHINES]
    return (stage.name, *(f"{minutes(hour)}: {name}" for hour, name in slowest))


def reader_row(stage: Stage, gpu: float) -> tuple[str, ...]:
    return stage.name, figure(stage.number / gpu / 3600), figure(stage.core_hours / gpu)


def tables(results: Path) -> str:
    """Make the tables.

    Raises:
        SystemExit: If a figure is missing.
    """
    measured, flops = Measured(read_results(results)["rows"]), counted()
    known = {name: value for name, value in flops.items() if value is not None}
    if missing := sorted(set(flops) - set(known)):
        raise SystemExit(f"cannot count {missing[0]}: install the extra detect.")
    work = [(stage, gpu_hours(stage, measured)) for stage in stages(measured, known)]
    lines = ["### Work"]
    lines += rows(("stage", "what goes through", "operations", "GPU hours", "core hours", "disk", "operations of a step", "sent in a step, 8 GPUs"),
                  [work_row(*item) for item in work])
    lines += ["### Time, and what decides it"]
    lines += rows(("stage", *(f"{gpus} GPU{'s' * (gpus > 1)}, {CORES * gpus} cores" for gpus in MACHINES)), [time_row(*item) for item in work])
    lines += ["### Readers that keep one GPU busy"]
    lines += rows(("stage", "samples a second", "cores"), [reader_row(*item) for item in work if item[1]])
    lines += ["### What this is derived from"]
    lines += rows(("figure", "value"), [*((name, f"{value / 1e9:,.2f} GFLOP, counted: flops.py") for name, value in known.items()),
                                        *measured.used.items()])
    return "\n".join(lines).rstrip() + "\n"


def page_with(text: str, made: str) -> str:
    """Put the tables between the marks of a page."""
    start, end = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
    return f"{text[:start]}\n\n{made}\n{text[end:]}"


def main() -> None:
    """Write the tables into the page, or print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=JSON)
    parser.add_argument("--print", action="store_true", help="print the tables and leave the page as it is")
    options = parser.parse_args()
    made = tables(options.results)
    if options.print:
        print(made)
    else:
        PAGE.write_text(page_with(PAGE.read_text(), made))


if __name__ == "__main__":
    main()
