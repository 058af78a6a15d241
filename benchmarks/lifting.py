"""How many LiDAR frames a second are lifted (six cameras, about 34,000 points, 60 boxes), and what share of the time each step takes.

Reads the mini-world (`make miniworld`) unless --root names a folder with nuScenes. Boxes are the projections of the annotated objects; frames
with fewer get copies moved by half their width. Reading, detection and storing are not timed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from timing import hardware

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


def main() -> None:
    """Measure one process by steps, then several together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("runs/mini/miniworld"))
    parser.add_argument("--split", default="mini_train")
    parser.add_argument("--frames", type=int, default=20, help="so many different ones, spread over the split")
    parser.add_argument("--boxes", type=int, default=60, help="in the pictures of each frame together")
    parser.add_argument("--rounds", type=int, default=5, help="how often the frames are lifted by each number of processes")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of the processes that are started below
    frames = NuScenesFrames(root=options.root, variant="v1.0-mini", split=options.split)
    names = ObjectNames(frames.manifest, frames.variant_name)
    work: list[Work] = []
    for position in spread(len(frames), options.frames):
        frame = frames[position]
        work.append((frame, of_number(perfect_boxes(frame, names)[0], options.boxes)))
    print(hardware("cpu"))
    points, boxes = (np.mean([value(item) for item in work]) for value in (lambda item: len(item[0].points), lambda item: count(item[1])))
    print(f"{len(work)} frames of {points:,.0f} points, {len(work[0][0].cameras)} cameras and {boxes:.0f} boxes")
    lifting = TimedLifting()
    lift_all(lifting, work[:2], 1)
    lifting.seconds.clear()
    total = lift_all(lifting, work, options.rounds)
    steps = dict(lifting.seconds)
    steps["ground"] = steps.pop("ground and clustering") - steps["clustering"]
    print(f"one process: {1e3 * total / len(work) / options.rounds:.0f} ms a frame; "
          + ", ".join(f"{step} {seconds / total:.0%}" for step, seconds in sorted(steps.items(), key=lambda item: -item[1])))
    for workers in options.workers:
        rates = sorted(rate(work, workers, options.rounds) for _ in range(3))
        print(f"{workers} worker processes: {rates[1]:.1f} frames/s (median of 3; {rates[0]:.1f} to {rates[2]:.1f})")


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


def lift_all(lifting: OutdoorLifting, work: list[Work], rounds: int) -> float:
    """Lift every frame so often; seconds."""
    start = time.perf_counter()
    for _ in range(rounds):
        for frame, found in work:
            lifting(frame, found)
    return time.perf_counter() - start


def rate(work: list[Work], workers: int, rounds: int) -> float:
    """Lift every frame so often with worker processes that have been started before; frames a second."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=prepare, initargs=(work,)) as pool:
        pool.map(lift_number, range(2 * workers), chunksize=1)
        start = time.perf_counter()
        for _ in pool.imap_unordered(lift_number, list(range(len(work))) * rounds):
            pass
        return len(work) * rounds / (time.perf_counter() - start)


HELD: list[Work] = []
"""What a worker process lifts."""


def prepare(work: list[Work]) -> None:
    HELD.extend(work)


def lift_number(position: int) -> Lifted:
    frame, found = HELD[position % len(HELD)]
    return OutdoorLifting()(frame, found)


if __name__ == "__main__":
    main()
