"""How long lifting a LiDAR frame takes (six cameras, about 34,000 points, 60 boxes), and what share each step has.

Reads the mini-world (`make miniworld`) unless --root names a folder with nuScenes. Boxes are the projections of the annotated objects; frames
with fewer get copies moved by half their width. Reading, detection and storing are not timed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from results import Results, Target, results_option
from timing import elapsed_ms

from clip2x.data.entries import spread
from clip2x.data.nuscenes.reader import NuScenesFrames
from clip2x.evaluation.annotated_objects import ObjectNames, perfect_boxes
from clip2x.proxies.outdoor import OutdoorLifting
from clip2x.types import Detections, Lifted, SceneFrame

Work = tuple[SceneFrame, dict[str, Detections]]


class TimedLifting(OutdoorLifting):
    """Adds up the seconds of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self.solid = partial(self.timed, "ground and clustering", super().solid)  # type: ignore[method-assign]
        self.clusters = partial(self.timed, "clustering", super().clusters)  # type: ignore[method-assign]
        self.wishes = partial(self.timed, "projection and boxes", super().wishes)  # type: ignore[method-assign]
        self.divide = partial(self.timed, "choice and division", super().divide)  # type: ignore[method-assign]

    def timed(self, step: str, work: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        result = work(*arguments)
        self.seconds[step] += time.perf_counter() - start
        return result


GROUND = "removing the ground and clustering alone"
ONE = "the time of one process, shared out"
TARGET = Target(125, "value")  # milliseconds a frame with two processes: 8 frames a second


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one process by steps, then several together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("runs/mini/miniworld"))
    parser.add_argument("--split", default="mini_train")
    parser.add_argument("--frames", type=int, default=20, help="so many different ones, spread over the split")
    parser.add_argument("--boxes", type=int, default=60, help="in the pictures of each frame together")
    parser.add_argument("--rounds", type=int, default=3, help="how often the frames are lifted by each number of processes")
    parser.add_argument("--workers", type=int, nargs="*", default=[2])
    results_option(parser)
    options = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of the processes that are started below
    frames = NuScenesFrames(root=options.root, variant="v1.0-mini", split=options.split)
    names = ObjectNames(frames.manifest, frames.variant_name)
    work: list[Work] = []
    for position in spread(len(frames), options.frames):
        frame = frames[position]
        work.append((frame, of_number(perfect_boxes(frame, names)[0], options.boxes)))
    results = Results("lifting", options.results)
    points, boxes = (np.mean([value(item) for item in work]) for value in (lambda item: len(item[0].points), lambda item: count(item[1])))
    where = f"{points:,.0f} points, {len(work[0][0].cameras)} cameras, {boxes:.0f} boxes"
    lifting = TimedLifting()
    for item in work[:2]:
        lifting(*item)
    lifting.seconds.clear()
    readings = [elapsed_ms(lambda item=item: lifting(*item)) for item in work * options.rounds]
    steps = dict(lifting.seconds)
    floor = steps["ground and clustering"] / len(readings) * 1e3
    steps["ground"] = steps.pop("ground and clustering") - steps["clustering"]
    results.add("lifting, one process", where, readings, "ms/frame", floor=floor, floor_is=GROUND,
                note=", ".join(f"{step} {1e3 * seconds / sum(readings):.0%}" for step, seconds in sorted(steps.items(), key=lambda item: -item[1])))
    for workers in options.workers:
        found = times_together(work, workers, options.rounds)
        results.add(f"lifting, {workers} processes", where, found, "ms/frame", floor=float(np.mean(readings)) / workers, floor_is=ONE,
                    target=TARGET if workers == 2 and options.boxes == 60 else None)
    results.finish()


def count(found: dict[str, Detections]) -> int:
    return sum(len(detections) for detections in found.values())


def of_number(found: dict[str, Detections], number: int) -> dict[str, Detections]:
    """Leave out the last boxes of the fullest pictures, or add copies moved by half their width there, until there are so many."""
    found = dict(found)
    while found and count(found) != number:
        camera = max(found, key=lambda name: len(found[name]))
        item = found[camera]
        if count(found) > number:
            found[camera] = Detections(item.box_px[:-1], item.concept_id[:-1], item.score[:-1])
            continue
        more = item.box_px[: number - count(found)].copy()
        more[:, [0, 2]] -= (more[:, [2]] - more[:, [0]]) / 2
        kept = more[:, 2] - np.maximum(more[:, 0], 0) > 1
        more, chosen = more[kept], np.flatnonzero(kept)
        found[camera] = Detections(np.concatenate([item.box_px, np.maximum(more, 0)]), np.concatenate([item.concept_id, item.concept_id[chosen]]),
                                   np.concatenate([item.score, item.score[chosen]]))
    return found


def times_together(work: list[Work], workers: int, rounds: int) -> list[float]:
    """Lift every frame so often with worker processes that have been started before, three times; milliseconds a frame."""
    context = multiprocessing.get_context("spawn")
    readings = []
    with context.Pool(workers, initializer=prepare, initargs=(work,)) as pool:
        pool.map(lift_number, range(2 * workers), chunksize=1)
        for _ in range(3):
            start = time.perf_counter()
            for _ in pool.imap_unordered(lift_number, list(range(len(work))) * rounds):
                pass
            readings.append((time.perf_counter() - start) / len(work) / rounds * 1e3)
    return readings


HELD: list[Work] = []
"""What a worker process lifts."""


def prepare(work: list[Work]) -> None:
    HELD.extend(work)


def lift_number(position: int) -> Lifted:
    frame, found = HELD[position % len(HELD)]
    return OutdoorLifting()(frame, found)


if __name__ == "__main__":
    main()
