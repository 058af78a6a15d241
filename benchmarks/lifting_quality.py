"""How good the lifting of 2-D boxes to 3-D proxies is on annotated frames: points inside the right box, objects found, by class and range.

    python benchmarks/lifting_quality.py --root DATA --data nuscenes/v1.0-mini/mini_train --detections perfect
    python benchmarks/lifting_quality.py --root DATA --data nuscenes/v1.0-mini/mini_train --detections boxes.json --set min_points=5

`perfect` gives each annotated object its true box, in the picture that shows it best. Anything else is a COCO file of a detector's boxes.
`--set` changes arguments of the lifting, for ablations. Nothing is timed but the whole.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from clip2x.data.entries import spread
from clip2x.data.frames import FrameDataset
from clip2x.data.readers import open_frames
from clip2x.errors import Clip2xError, InputError
from clip2x.evaluation.annotated_objects import ObjectNames
from clip2x.evaluation.proxy_quality import FrameMatches, Lifting, is_asked_for, measure_lifting
from clip2x.provenance import commit
from clip2x.proxies.detectors import CocoDetections, Picture
from clip2x.proxies.indoor import IndoorLifting
from clip2x.proxies.outdoor import OutdoorLifting
from clip2x.proxies.vocabulary import Vocabulary
from clip2x.types import Detections, SceneFrame

LIFTINGS: dict[str, type[Any]] = {"nuscenes": OutdoorLifting, "sunrgbd": IndoorLifting}


class FileDetections:
    """The boxes of a COCO file for the pictures of a frame; its own categories are the vocabulary."""

    def __init__(self, file: str, folder: Path) -> None:
        self.detector, self.folder = CocoDetections([file]), folder
        self.vocabulary = Vocabulary(Path(file).stem, file, tuple((name,) for name in self.detector.boxes.names))
        self.detector.prepare(self.vocabulary)

    def __call__(self, frame: SceneFrame) -> Mapping[str, Detections]:
        pictures = [Picture(str(camera.file.relative_to(self.folder)), camera.file, camera.width_px, camera.height_px) for camera in frame.cameras]
        return {camera.name: found.detections for camera, found in zip(frame.cameras, self.detector(pictures), strict=True)}


def main() -> None:
    """Measure one lifting on one set of frames."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs/mini/miniworld"), help="the data root")
    parser.add_argument("--data", default="nuscenes/v1.0-mini/mini_train", help="frames by manifest/variant/split")
    parser.add_argument("--detections", default="perfect", help="`perfect`, or a COCO file of boxes")
    parser.add_argument("--frames", type=int, default=None, help="so many, spread evenly; all if not given")
    parser.add_argument("--sweeps", type=int, default=1)
    parser.add_argument("--depth", default="raw")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="arguments of the lifting")
    parser.add_argument("--objects", action="store_true", help="list every object that is asked for")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    try:
        report(options)
    except Clip2xError as error:
        sys.exit(f"error: {error}")


def report(options: argparse.Namespace) -> None:
    frames = open_frames(options.data, options.root, sweeps=options.sweeps, depth=options.depth)
    lifting, chosen = make_lifting(frames, options.set), spread(len(frames), options.frames)
    detections = None if options.detections == "perfect" else FileDetections(options.detections, frames.folder)
    start = time.perf_counter()
    figures = measure_lifting((frames[position] for position in chosen), lifting, ObjectNames(frames.manifest, frames.variant_name),
                              detections=detections, concepts=detections.vocabulary.concepts if detections else (),
                              watch=list_objects if options.objects else None)
    seconds = time.perf_counter() - start
    print(f"{options.data}, {len(chosen)} of {len(frames)} frames, boxes: {options.detections}, {type(lifting).__name__} {' '.join(options.set)}")
    print_figures(figures)
    print(f"rules: {', '.join(f'{rule} {count:,}' for rule, count in sorted(figures['rules'].items(), key=lambda item: -item[1]))}")
    print(f"{seconds:.1f} s with reading and measuring; commit {commit()}")
    if options.json is not None:
        content = {"data": options.data, "detections": options.detections, "set": options.set, "lifting": lifting.describe(), "commit": commit(),
                   **figures}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def make_lifting(frames: FrameDataset, assignments: list[str]) -> Any:
    """Build the lifting that fits the frames, with some arguments of one's own."""
    kind = LIFTINGS[frames.manifest.reader]
    known = list(inspect.signature(kind).parameters)
    arguments = {}
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        if name not in known or not value:
            raise InputError(f"--set {assignment}: write NAME=VALUE with a name of {', '.join(known)}.")
        arguments[name] = yaml.safe_load(value)
    lifting: Lifting = kind(**arguments)
    return lifting


def print_figures(figures: dict[str, Any]) -> None:
    """Print what counts: first any name, then names that fit the annotated class."""
    print(f"{figures['proxies']:,} proxies, {figures['annotated']:,} annotated objects, "
          f"{figures['in_no_picture']:,} of those asked for in no picture")
    print(f"{'':<24}{'any name':>34}{'fitting name':>34}")
    both = [figures["any_name"], figures["named"]]
    print(f"{'matched':<24}{both[0]['matched']:>34,}{both[1]['matched']:>34,}")
    for title, key in (("good of those matched", "good"), ("objects found", "recall")):
        print(f"{title:<24}{share(both[0][key]):>34}{share(both[1][key]):>34}")
    for title, key in (("points inside, mean", "inside"), ("purity, mean", "purity"), ("completeness, mean", "completeness")):
        print(f"{title:<24}{percent(both[0][key]['mean']):>34}{percent(both[1][key]['mean']):>34}")
    print(f"{'texts right':<24}{share(figures['labels']):>34}   class mean {percent(figures['labels']['class_mean'])}")
    for kind in ("class", "range"):
        print(f"\n{kind:<28}{'found':>30}{'good of those matched':>34}")
        found, good = both[0][f"recall_by_{kind}"], both[0][f"good_by_{kind}"]
        for name in dict.fromkeys([*found, *good]):
            print(f"{name:<28}{share(found.get(name)):>30}{share(good.get(name)):>34}")
    print()


def list_objects(frame: SceneFrame, matches: FrameMatches) -> None:
    """Print every object that is asked for with its best proxy."""
    for row, item in enumerate(matches.objects):
        if is_asked_for(item, frame):
            own = [match for match in matches.matches["any_name"] if match is not None and match.row == row]
            best = max((match.inside for match in own), default=None)
            print(f"{frame.token[-12:]} {frame.boxes[item.position].token[-8:]} {item.name:<24}{item.range_m:>6.1f} m {item.num_points:>7,} points  "
                  f"{'no proxy' if best is None else f'{100 * best:.0f} % inside'}")


def share(entry: dict[str, Any] | None) -> str:
    if entry is None or entry["share"] is None:
        return "-"
    low, high = entry["interval"]
    return f"{entry['k']}/{entry['n']} {percent(entry['share'])} [{100 * low:.0f}, {100 * high:.0f}]"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


if __name__ == "__main__":
    main()
