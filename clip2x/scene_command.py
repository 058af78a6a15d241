"""The command `clip2x scene`: name the objects of a whole scene and draw them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip2x.errors import BadFileError, InputError
from clip2x.naming_options import note_unknown_words, templates_of

if TYPE_CHECKING:
    from clip2x.evaluation.scene_view import SceneObject
    from clip2x.predict import Recognizer
    from clip2x.scene import Scene

Build = Callable[[argparse.Namespace], "tuple[Recognizer, Path | None]"]


def add_scene_command(commands: Any, at_least: Callable[[int], Callable[[str], int]], share: Callable[[str], float], recognizer: Build,
                      names: Callable[[str], list[str]]) -> argparse.ArgumentParser:
    """Add the parser, without the options that say which checkpoint.

    Args:
        commands: What `add_subparsers` gave.
        at_least: Makes the type of whole numbers from a least one on.
        share: The type of numbers from 0 to 1.
        recognizer: Builds what the options ask for.
        names: Reads `--classes`.
    """
    parser: argparse.ArgumentParser = commands.add_parser("scene", help="name the objects of a frame or a cloud and draw them", allow_abbrev=False)
    parser.add_argument("source", metavar="SOURCE", help="manifest/variant/split of a data set with frames, e.g. nuscenes/v1.0-mini/mini_val, or a "
                        "cloud file in metres")
    parser.add_argument("--classes", help="names, separated by commas, or a file with one name per line; default: the data set's")
    parser.add_argument("--boxes", metavar="annotated|clusters|FILE",
                        help="what is named: annotated boxes (default for data sets), clusters of points (default for files), or a JSON file of "
                        "boxes with centre, size, yaw")
    parser.add_argument("--frame", metavar="TOKEN_OR_NUMBER", help="of a data set; default: the first")
    parser.add_argument("--root", type=Path, help="the folder that holds the data sets")
    parser.add_argument("--output", type=Path, default=Path("scene"), metavar="FOLDER",
                        help="gets scene.json, scene.png and scene.html; default: ./scene")
    parser.add_argument("--top", type=at_least(1), default=3, help="names to print per object; default 3")
    parser.add_argument("--min-points", type=at_least(1), help="of an object; default: what the data set asks for, 10 in files")
    parser.add_argument("--min-probability", type=share, default=0.0, help="objects whose best name has less stay without one; default 0")
    parser.add_argument("--up", choices=("x", "y", "z"), help="axis that points up in a file; default z for .off and .bin, else y")
    parser.add_argument("--columns", type=at_least(3), help="numbers per point in .bin files; default 5 for .pcd.bin, else 4")
    parser.add_argument("--templates", help='prompts with {}, separated by |; default: the checkpoint\'s')
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the points that are drawn from regions")
    parser.add_argument("--json", action="store_true", help="print what is in scene.json instead of the table")
    parser.set_defaults(run=lambda options: _run(options, recognizer, names))
    return parser


def _run(options: argparse.Namespace, build: Build, read_names: Callable[[str], list[str]]) -> int:
    from clip2x.scene import name_regions, open_scene, regions_of

    scene = open_scene(options.source, root=options.root, frame=options.frame, up=options.up, columns=options.columns)
    boxes: str = options.boxes or ("annotated" if scene.class_names else "clusters")
    if options.classes is None and not scene.class_names:
        raise InputError(f"{options.source} is a file and has no class names; give some: --classes \"chair,table\" or --classes FILE.")
    names = list(scene.class_names) if options.classes is None else read_names(options.classes)
    templates = templates_of(options.templates)
    regions, dropped = regions_of(scene, boxes, options.min_points or scene.min_points)
    recognizer, checkpoint = build(options)
    recognizer.class_embeddings(names, templates)
    note_unknown_words(recognizer, names)
    objects = name_regions(scene, regions, recognizer, names, templates, top=options.top, min_probability=options.min_probability, seed=options.seed)
    content = _content(options, scene, boxes, names, templates or recognizer.templates, objects, dropped, recognizer, checkpoint)
    _write(options.output, scene, objects, content, boxes)
    if options.json:
        print(json.dumps(content))
    else:
        print("\n".join([*_table(objects), *_summary(content), f"pictures: {options.output / 'scene.png'}, {options.output / 'scene.html'}"]))
    return 0


def _content(options: argparse.Namespace, scene: Scene, boxes: str, names: Sequence[str], templates: Sequence[str], objects: Sequence[SceneObject],
             dropped: dict[str, int], recognizer: Recognizer, checkpoint: Path | None) -> dict[str, Any]:
    from clip2x.provenance import commit
    from clip2x.scene import describe_objects

    competing = [item for item in objects if item.truth in names]
    return {"source": scene.source, "frame": scene.frame.token, "scene": scene.frame.scene, "kind": scene.kind, "boxes": boxes,
            "class_names": list(names), "templates": list(templates), "checkpoint": None if checkpoint is None else str(checkpoint),
            "clip": recognizer.towers.id, "ensemble": recognizer.ensemble, "num_points": recognizer.num_points, "seed": options.seed,
            "min_points": options.min_points or scene.min_points, "min_probability": options.min_probability, "commit": commit(),
            "axes": "centre: the files' coordinates, metres; size: length, width, height; yaw: about the vertical from the files' first level axis",
            "left_out": dict(dropped), "annotated_with_a_name": len(competing), "named_right": sum(bool(item.right) for item in competing),
            "left_without_a_name": sum(not item.named for item in competing),
            "notes": list(scene.notes), "objects": describe_objects(scene, objects)}


def _write(folder: Path, scene: Scene, objects: Sequence[SceneObject], content: dict[str, Any], boxes: str) -> None:
    """Write the three files."""
    from clip2x.evaluation.scene_page import scene_page
    from clip2x.evaluation.scene_pictures import scene_picture
    from clip2x.scene import view_of

    what = "clusters without a class" if boxes == "clusters" else "annotated boxes" if boxes == "annotated" else f"boxes of {boxes}"
    about = f"{len(objects)} objects, {what}; {content['checkpoint'] or content['clip']}; {len(content['class_names'])} names compete"
    view, problems = view_of(scene, objects, about, [*scene.notes, *_summary(content)])
    for problem in problems:
        print(f"note: {problem}", file=sys.stderr)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scene.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        scene_picture(view).save(folder / "scene.png", optimize=True)
        (folder / "scene.html").write_text(scene_page(view), encoding="utf-8")
    except OSError as error:
        raise BadFileError(f"{folder}: cannot be written to ({error.strerror or error}); give another --output.") from error


def _table(objects: Sequence[SceneObject]) -> list[str]:
    """Lay out the objects for the terminal."""
    lines = [f"{'no':>3} {'points':>7} {'metres':>7}  names"]
    for item in objects:
        shares = ", ".join(f"{name} {100 * probability:.0f} %" for name, probability in item.labels)
        verdict = "" if item.truth is None else f"  [{'right' if item.right else 'annotated: ' + item.truth}]"
        lines.append(f"{item.number:>3} {len(item.point_index):>7,} {item.range_m:>7.1f}  {'' if item.named else '? '}{shares}{verdict}")
    return lines


def _summary(content: dict[str, Any]) -> list[str]:
    lines = []
    if content["left_out"]:
        lines.append("left out: " + ", ".join(f"{count:,} with {reason}" for reason, count in content["left_out"].items()))
    if content["annotated_with_a_name"]:
        unnamed = f", {count} left without a name" if (count := content["left_without_a_name"]) else ""
        lines.append(f"{content['named_right']} of {content['annotated_with_a_name']} objects whose annotated name competes are named right{unnamed}")
    return lines
