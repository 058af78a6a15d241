"""The `clip2x` command."""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from clip2x import __version__
from clip2x.cloud_commands import add_cloud_commands
from clip2x.errors import Clip2xError, DataNotFoundError, InputError
from clip2x.export_command import add_export_command
from clip2x.proxy_commands import add_proxy_commands, check_triplets
from clip2x.report_command import add_report_command
from clip2x.scene_command import add_scene_command
from clip2x.signals import Terminated, orderly_termination
from clip2x.view_command import add_view_command

if TYPE_CHECKING:
    from clip2x.predict import Recognizer

RUNS = Path("runs/mini")
CHECKPOINTS = {"points": Path("pretrain_points/point_encoder.safetensors"), "depth": Path("pretrain_depth/depth_encoder.safetensors"),
               "clip": Path("pretrain_clip/clip.safetensors")}
STAGE_COMMANDS = ("fit", "validate", "test", "predict")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; what a user can mend ends in one line on stderr and exit status 2, SIGTERM in 143 once what is under way is put in order."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with orderly_termination():
            return _run(arguments)
    except Clip2xError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}; check who may read and write it.", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in NO_ROOM and "No space left on device" not in str(error):  # HDF5 gives no number
            raise
        print(f"error: {error.filename or 'a file'} cannot be written ({error.strerror or 'No space left on device'}); make room and give the same "
              "command again: what was finished is kept.", file=sys.stderr)
        return 2
    except Terminated as stopped:
        return int(str(stopped.code))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] in STAGE_COMMANDS:
        from clip2x.stage_cli import run_stage

        run_stage(arguments)
        return 0
    options = _parser().parse_args(arguments)
    status: int = options.run(options)
    return status


def _one_line(error: Clip2xError) -> str:
    """Put a message on one line; of an error in a reader process, which comes with its traceback, only the message."""
    message = str(error)
    if "Original Traceback" in message:
        message = message.strip().splitlines()[-1].split(": ", 1)[-1]
    return " ".join(message.split())


def _at_least(least: int) -> Callable[[str], int]:
    """Make the type of an option that takes whole numbers from `least` on."""

    def number(text: str) -> int:
        if not text.lstrip("-").isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
        return int(text)

    return number


def _shard(text: str) -> tuple[int, int]:
    """Read I/N, counted from 1."""
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts) or not 1 <= int(parts[0]) <= int(parts[1]):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N, e.g. 1/4, got {text!r}")
    return int(parts[0]), int(parts[1])


def _share(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


class _OneLineParser(argparse.ArgumentParser):
    """Reports a bad command line in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(prog="clip2x", description="Open-vocabulary recognition of 3-D objects.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"clip2x {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in add_cloud_commands(commands, _at_least, _recognizer, _class_names, _one_line):
        _add_recognizer_options(command)
    doctor = commands.add_parser("doctor", help="versions, devices, missing libraries, what to install")
    doctor.set_defaults(run=_doctor)
    check = commands.add_parser("check-data", help="what of a data set is there, what is missing, where to get it", allow_abbrev=False)
    check.add_argument("name", metavar="NAME", help="a manifest, e.g. modelnet40, or one variant of it, e.g. modelnet40/off; or triplets")
    check.add_argument("--root", type=Path, required=True, help="the folder that holds the data sets; for triplets the store")
    check.add_argument("--deep", action="store_true", help="open every file and compare known sha256")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=_check_data)
    world = commands.add_parser("miniworld", help="write the generated data of the mini profile", allow_abbrev=False)
    world.add_argument("--root", type=Path, required=True, help="a new or empty folder, or an earlier mini-world")
    world.add_argument("--size", choices=("tiny", "mini"), default="mini", help="tiny: the smallest, for tests; mini: the mini profile's")
    world.add_argument("--seed", type=_at_least(0), default=0)
    world.add_argument("--workers", type=_at_least(1), help="processes; default: all cores")
    world.set_defaults(run=_miniworld)
    render = commands.add_parser("render-pairs", help="draw ten pictures of every ShapeNet model for pretrain-depth", allow_abbrev=False)
    render.add_argument("--root", type=Path, required=True, help="the folder that holds the data sets; pictures go into shapenet/rendering")
    render.add_argument("--variant", default="v2", help="which meshes: v2 (default) or v1")
    render.add_argument("--split", choices=("train", "test"), help="default: both")
    render.add_argument("--size", type=_at_least(1), default=224, help="width and height of the pictures in pixels; default 224")
    render.add_argument("--supersample", type=_at_least(1), default=2, help="rays per pixel and axis; default 2")
    render.add_argument("--seed", type=_at_least(0), default=0, help="of the light")
    render.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help="the I-th of N parts of the models, one for each machine")
    render.add_argument("--workers", type=_at_least(1), help="processes; default: all cores")
    render.set_defaults(run=_render_pairs)
    add_proxy_commands(commands, _at_least, _share)
    _add_recognizer_options(add_scene_command(commands, _at_least, _share, _recognizer, _class_names))
    _add_recognizer_options(add_view_command(commands, _at_least, _recognizer, _class_names))
    _add_recognizer_options(add_export_command(commands, _recognizer, _class_names))
    add_report_command(commands)
    for name in STAGE_COMMANDS:
        commands.add_parser(name, help=f"LightningCLI: {name} --config STAGE [overrides]", add_help=False)
    return parser


def _add_recognizer_options(parser: argparse.ArgumentParser) -> None:
    """Add what `_recognizer` reads."""
    parser.add_argument("--checkpoint", type=Path, help="depth_encoder.safetensors, point_encoder.safetensors, adapter.safetensors, a .ckpt, "
                        "CLIP2Point's best_eval.pth, a Point-BERT of ULIP or OpenShape, a small CLIP; default: the "
                        f"first that is there below --runs of {', '.join(CHECKPOINTS)}")
    parser.add_argument("--method", choices=("depth", "points", "ensemble"), help="instead of --checkpoint: the depth or the point encoder below "
                        "--runs, or the sum of both")
    parser.add_argument("--runs", type=Path, default=RUNS, help=f"where make has put checkpoints; default {RUNS}")
    parser.add_argument("--clip", metavar="MODEL", help="instead of --checkpoint: an open_clip model, e.g. ViT-B-32-quickgelu; beside it: the CLIP "
                        "of a Point-BERT of ULIP or OpenShape, where it is none of their code's")
    parser.add_argument("--pretrained", metavar="TAG_OR_FILE", help="weights for --clip, e.g. openai; or the CLIP that a --checkpoint needs")
    parser.add_argument("--ensemble", action="store_true", help="add the cosines of the tuned encoder and of its CLIP, as fitted in pre-training")
    parser.add_argument("--trust-torchscript", action="store_true", help="read TorchScript files other than OpenAI's; they can run code")


def _class_names(text: str) -> list[str]:
    """Read names from the command line or from the file that it names."""
    from clip2x.evaluation.class_embeddings import read_class_file

    is_file = "," not in text and ("/" in text or text.endswith(".txt") or Path(text).is_file())
    return read_class_file(text) if is_file else [name.strip() for name in text.split(",")]


def _recognizer(options: argparse.Namespace, device: str | None = None) -> tuple[Recognizer, Path | None]:
    """Build what the options ask for; the checkpoint is the one named, else the first default one that is there, which is said on stderr."""
    from clip2x.predict import from_clip, load, load_sum

    named = sum(map(bool, (options.method, options.checkpoint or options.clip)))  # --clip beside --checkpoint says which CLIP a file of others needs
    if named > 1 or (options.clip and not options.pretrained):
        raise InputError("give one of --checkpoint FILE, --method NAME, and --clip MODEL with --pretrained TAG_OR_FILE.")
    if options.pretrained and not (options.clip or options.checkpoint or options.method):
        raise InputError("--pretrained belongs to a model or an encoder; give --clip MODEL, --checkpoint FILE or --method NAME too.")
    if options.ensemble and ((options.clip and not options.checkpoint) or options.method in ("points", "ensemble")):
        raise InputError("--ensemble adds a tuned depth encoder to its CLIP; give --checkpoint FILE or --method depth.")
    settings = {"device": device, "clip": options.pretrained, "trust_torchscript": options.trust_torchscript}
    if options.clip and not options.checkpoint:
        return from_clip(options.clip, options.pretrained, device, trust_torchscript=options.trust_torchscript), None
    places = {name: options.runs / place for name, place in CHECKPOINTS.items()}
    if options.method:
        needed = [places[name] for name in (("points", "depth") if options.method == "ensemble" else (options.method,))]
        if missing := [str(place) for place in needed if not place.is_file()]:
            raise DataNotFoundError(f"there is no {' and no '.join(missing)}; run `make pretrain-depth pretrain-points`, or give --runs FOLDER.")
        if options.method == "ensemble":
            print(f"note: using {needed[0]} and {needed[1]}", file=sys.stderr)
            return load_sum(*needed, **settings), needed[0]
    checkpoint = options.checkpoint or (places[options.method] if options.method else next(filter(Path.is_file, places.values()), None))
    if checkpoint is None:
        raise DataNotFoundError(f"there is no {' and no '.join(map(str, places.values()))} here; run `make pretrain-clip` or "
                                "`make pretrain-depth`, or give --checkpoint FILE, or --clip MODEL --pretrained openai.")
    if not options.checkpoint:
        print(f"note: using {checkpoint}", file=sys.stderr)
    recognizer = load(checkpoint, ensemble=options.ensemble, clip_model=options.clip, **settings)
    if recognizer.supervised:
        print(f"note: {checkpoint} is an adapter, trained on labels of {recognizer.supervised}; it is no zero-shot recogniser.", file=sys.stderr)
    return recognizer, checkpoint


def _doctor(options: argparse.Namespace) -> int:
    from clip2x.doctor import examine

    return examine()


def _check_data(options: argparse.Namespace) -> int:
    """Exit status 0 if at least one variant lacks nothing that is known and no file is broken, else 1."""
    from dataclasses import asdict

    from clip2x.data.check import check_data, complete_variants, manifest_and_variant
    from clip2x.manifest import load_manifest

    if options.name == "triplets":
        return check_triplets(options.root, deep=options.deep, as_json=options.json)
    reports = check_data(options.name, options.root, deep=options.deep)
    whole = complete_variants(reports)
    complete = bool(whole) and not any(report.status == "broken" for report in reports)
    manifest = load_manifest(manifest_and_variant(options.name)[0])
    if options.json:
        print(json.dumps({"name": options.name, "root": str(options.root), "complete": complete, "complete_variants": whole,
                          "splits": [asdict(report) for report in reports], "source": manifest.source}, default=str))
        return 0 if complete else 1
    print(f"{manifest.title} below {options.root}:")
    for report in reports:
        of = "" if report.expected is None else f" of {report.expected:,}"
        unstated = " (the manifest states no count)" if report.expected is None and report.found else ""
        print(f"  {f'{report.variant}/{report.split}':<24} {report.status:<9} {report.found:,}{of} {report.what}{unstated}")
        for line in [*report.notes, *report.problems]:
            print(f"    {line}")
        if report.num_problems > len(report.problems):
            print(f"    and {report.num_problems - len(report.problems):,} more problems")
    if not complete and any(value for key, value in manifest.source.items() if key != "paper"):
        print("Get it:", ", ".join(f"{key}: {value}" for key, value in manifest.source.items() if value and key != "paper"))
    print(f"complete: {', '.join(whole)}" if complete else "broken files, see above" if whole else "incomplete")
    return 0 if complete else 1


def _miniworld(options: argparse.Namespace) -> int:
    from clip2x.miniworld.write import SIZES, write_miniworld

    written = write_miniworld(options.root, seed=options.seed, size=SIZES[options.size], workers=options.workers)
    print(f"mini-world: {options.root}" + ("" if written else " (already there)"))
    return 0


def _render_pairs(options: argparse.Namespace) -> int:
    """Exit status 1 if a model could not be drawn; the others are."""
    from clip2x.data.worker_pool import prepare_workers

    prepare_workers("clip2x.data.render_libraries")  # loads while this process does
    from clip2x.data.render_pairs import Drawing, render_pairs

    drawing = Drawing(options.variant, options.size, options.supersample, options.seed)
    report = render_pairs(options.root, drawing, split=options.split, shard=options.shard, workers=options.workers)
    part = "" if options.shard == (1, 1) else f" (shard {options.shard[0]}/{options.shard[1]})"
    print(f"{report.folder}: of {report.total:,} models of the lists{part} {report.drawn:,} drawn now, {report.there:,} there before, "
          f"{report.missing:,} not on disk, {len(report.failed):,} failed")
    for remark, count in report.remarks.most_common():
        print(f"  {count:,} drawn with {remark}")
    for model, reason in list(report.failed.items())[:20]:
        print(f"  failed: {model}: {reason}")
    if not report.failed:
        return 0
    print(f"All failed models: {report.failed_list}. Mend or remove these meshes and run again, or train without them: skip_missing_views: true.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
