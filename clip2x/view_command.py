"""The command `clip2x view`: one page of a cloud that needs no network."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip2x.errors import BadFileError, InputError
from clip2x.naming_options import note_unknown_words, templates_of

if TYPE_CHECKING:
    from clip2x.depth import DepthViews
    from clip2x.predict import Recognizer

SHOWN = 8192  # points on the page; ours
Build = Callable[[argparse.Namespace], "tuple[Recognizer, Path | None]"]


def add_view_command(commands: Any, at_least: Callable[[int], Callable[[str], int]], recognizer: Build,
                     names: Callable[[str], list[str]]) -> argparse.ArgumentParser:
    """Add the parser, without the options that say which checkpoint.

    Args:
        commands: What `add_subparsers` gave.
        at_least: Makes the type of whole numbers from a least one on.
        recognizer: Builds what the options ask for.
        names: Reads `--classes`.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "view", help="write a page of a cloud: its points to turn, its depth views, the ranked names", allow_abbrev=False,
        description="Write one page, which needs no network, of a cloud. Scenes: clip2x scene. Triplets: clip2x report-proxies.")
    parser.add_argument("cloud", type=Path, metavar="CLOUD", help="a file, see classify")
    parser.add_argument("--classes", help="names to rank, separated by commas, or a file with one name per line; without them no encoder is needed")
    parser.add_argument("--templates", help="prompts with {}, separated by |; default: those of the checkpoint")
    parser.add_argument("--output", type=Path, help="the page; default: the cloud's name with .html, in this folder")
    parser.add_argument("--up", choices=("auto", "x", "y", "z"), default="auto",
                        help="axis that points up in the file; auto: z for .off and .bin, else y")
    parser.add_argument("--columns", type=at_least(3), help="numbers per point in .bin files; default 5 for .pcd.bin, else 4")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the points drawn from meshes and large clouds")
    parser.set_defaults(run=lambda options: _run(options, recognizer, names))
    return parser


def _run(options: argparse.Namespace, build: Build, read_names: Callable[[str], list[str]]) -> int:
    from clip2x.cloud_files import read_turned, up_of
    from clip2x.depth import DepthViews, view_preset
    from clip2x.encoders.depth import DepthViewEncoder
    from clip2x.evaluation.cloud_page import CloudView, cloud_page
    from clip2x.geometry import unit_sphere

    output: Path = options.output or Path(f"{options.cloud.stem}.html")
    if output.suffix != ".html":
        raise InputError(f"--output {output}: give a name that ends in .html.")
    draw: DepthViews = DepthViews(point_radius="density")
    labels, about, title, num_points = [], "no encoder was asked", "Depth views", 1024
    recognizer = None
    if options.templates and not options.classes:
        raise InputError("--templates are for --classes; give some, e.g. --classes \"chair,table\".")
    if options.classes:
        from clip2x.predict import SummedRecognizer

        recognizer, checkpoint = build(options)
        names = read_names(options.classes)
        templates = templates_of(options.templates)
        recognizer.class_embeddings(names, templates)
        source = "the sum of the point and the depth encoder" if isinstance(recognizer, SummedRecognizer) else checkpoint or recognizer.towers.id
        about, num_points = f"{source}; {len(names)} names compete", recognizer.num_points
        if isinstance(recognizer.encoder, DepthViewEncoder):
            draw, title = recognizer.encoder.draw, "Depth views that the encoder saw"
        else:
            title = "Depth views (this encoder took the points, not these)"
    points = read_turned(options.cloud, num_points, up=options.up, columns=options.columns, seed=options.seed)[None]
    if recognizer is not None:
        shares = recognizer.classify(points, names, templates)[0].tolist()
        labels = sorted(zip(names, shares, strict=True), key=lambda pair: -pair[1])
        note_unknown_words(recognizer, names)
    cloud = unit_sphere(points)
    shown = unit_sphere(read_turned(options.cloud, SHOWN, up=options.up, columns=options.columns, seed=options.seed)[None])[0]
    shown = shown[sorted({tuple(point): place for place, point in enumerate(shown.tolist())}.values())]  # a small cloud's points are repeated
    azimuth, elevation, _ = view_preset(draw.views)
    cameras = [f"azimuth {turn:g}°, elevation {rise:g}°" for turn, rise in zip(azimuth.tolist(), elevation.tolist(), strict=True)]
    about = f"{num_points:,} points for the encoder, {up_of(options.cloud, options.up)} up in the file; {about}"
    page = cloud_page(CloudView(str(options.cloud), about, shown.numpy(), draw(cloud)[0].cpu().numpy(), cameras, title, labels))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadFileError(f"{output}: cannot be written ({error.strerror or error}); give another --output.") from error
    print(f"page: {output}" + (f"; {labels[0][0]} {100 * labels[0][1]:.1f} %" if labels else ""))
    return 0
