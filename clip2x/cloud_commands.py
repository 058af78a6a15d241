"""`clip2x classify`, `embed` and `search`: clouds in files, folders and patterns."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip2x.errors import Clip2xError, InputError
from clip2x.naming_options import note_unknown_words, templates_of

if TYPE_CHECKING:
    from clip2x.predict import Recognizer

Number = Callable[[int], Callable[[str], int]]
MakeRecognizer = Callable[[argparse.Namespace], "tuple[Recognizer, Path | None]"]
ENDINGS = ".ply .pcd .off .obj .npy .npz .txt .xyz .pts .csv .bin"


def add_cloud_commands(commands: Any, at_least: Number, recognizer: MakeRecognizer, class_names: Callable[[str], list[str]],
                       one_line: Callable[[Clip2xError], str]) -> list[argparse.ArgumentParser]:
    """Add the commands to the parser; gives their parsers, which need the options of a recogniser too."""
    classify = commands.add_parser("classify", help="rank names for point clouds or meshes", allow_abbrev=False)
    classify.add_argument("clouds", nargs="+", metavar="CLOUD", help=f"files, folders or patterns; {ENDINGS}")
    classify.add_argument("--classes", required=True, help="names, separated by commas, or a file with one name per line")
    classify.add_argument("--templates", help='prompts with {}, separated by |; default: those of the checkpoint, "image of a {}" for depth views')
    classify.add_argument("--top", type=at_least(1), default=5, help="names to print per cloud")
    form = classify.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per line and cloud")
    form.add_argument("--csv", action="store_true", help="print lines of file, up, rank, name, probability")
    classify.set_defaults(run=lambda options: _classify(options, recognizer, class_names, one_line))
    embed = commands.add_parser("embed", help="embed clouds into CLIP's space, into a .npz or .h5 file", allow_abbrev=False)
    embed.add_argument("clouds", nargs="+", metavar="CLOUD", help=f"files, folders or patterns; {ENDINGS}")
    embed.add_argument("--output", type=Path, required=True, help="a .npz or .h5 file: embeds (N, E) of unit length, files, about (JSON)")
    embed.set_defaults(run=lambda options: _embed(options, recognizer, one_line))
    search = commands.add_parser("search", help="find the clouds of a folder that fit words", allow_abbrev=False)
    search.add_argument("words", metavar="WORDS", help='e.g. "a wooden chair"')
    search.add_argument("clouds", nargs="+", metavar="CLOUD", help=f"files, folders or patterns; {ENDINGS}")
    search.add_argument("--top", type=at_least(1), default=10, help="clouds to print")
    search.add_argument("--template", default="{}", help='how the words are spoken; default "{}": as they are')
    search.add_argument("--json", action="store_true", help="print one JSON object")
    search.set_defaults(run=lambda options: _search(options, recognizer, one_line))
    for command in (embed, search):
        command.add_argument("--index", type=Path, help="folder that embeddings are kept in; default: the user's cache folder")
    for command in (classify, embed, search):
        command.add_argument("--up", choices=("auto", "x", "y", "z"), default="auto",
                             help="axis that points up in the files; auto: z for .off and .bin, else y")
        command.add_argument("--columns", type=at_least(3), help="numbers per point in .bin files; default 5 for .pcd.bin, else 4")
        command.add_argument("--seed", type=at_least(0), default=0, help="of the points drawn from meshes and large clouds")
    return [classify, embed, search]


def _classify(options: argparse.Namespace, make: MakeRecognizer, class_names: Callable[[str], list[str]],
              one_line: Callable[[Clip2xError], str]) -> int:
    from clip2x.cloud_files import batches, list_clouds, up_of

    recognizer, checkpoint = make(options)
    names = class_names(options.classes)
    templates = templates_of(options.templates)
    recognizer.class_embeddings(names, templates)  # a bad name is reported before any cloud is read
    note_unknown_words(recognizer, names)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if options.csv:
        writer.writerow(["file", "up", "rank", "name", "probability"])
    failed: list[tuple[Path, Clip2xError]] = []
    reported = 0
    for paths, points in batches(list_clouds(options.clouds), recognizer.num_points, up=options.up, columns=options.columns, seed=options.seed,
                                 failed=failed):
        for path, shares in zip(paths, recognizer.classify(points, names, templates).tolist(), strict=True):
            ranked = sorted(zip(names, shares, strict=True), key=lambda pair: -pair[1])[: options.top]
            up = up_of(path, options.up)
            if options.json:
                labels = [{"name": name, "probability": share} for name, share in ranked]
                print(json.dumps({"file": str(path), "up": up, "checkpoint": None if checkpoint is None else str(checkpoint),
                                  "clip": recognizer.towers.id, "ensemble": recognizer.ensemble, "labels": labels}))
            elif options.csv:
                writer.writerows([str(path), up, rank, name, f"{share:.6f}"] for rank, (name, share) in enumerate(ranked, start=1))
            else:
                print(f"{path} ({up} up): " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in ranked))
        reported = _report([(path, one_line(error)) for path, error in failed], reported)
    _report([(path, one_line(error)) for path, error in failed], reported)
    return 2 if failed else 0


def _embed(options: argparse.Namespace, make: MakeRecognizer, one_line: Callable[[Clip2xError], str]) -> int:
    from clip2x.cloud_index import OUTPUTS, write_embeddings

    if options.output.suffix not in OUTPUTS:
        raise InputError(f"--output {options.output}: give a name that ends in {' or '.join(OUTPUTS)}.")
    index, about = _indexed(options, *make(options))
    if not index.files:
        _report(index.failed)
        raise InputError("none of the clouds can be read, so nothing is written.")
    write_embeddings(options.output, index, about)
    _report(index.failed)
    print(f"{options.output}: {len(index.files):,} clouds ({index.num_new:,} embedded now), {index.embeds.shape[1]} numbers each"
          + (f", {len(index.failed):,} could not be read" if index.failed else ""))
    return 2 if index.failed else 0


def _search(options: argparse.Namespace, make: MakeRecognizer, one_line: Callable[[Clip2xError], str]) -> int:
    recognizer, checkpoint = make(options)
    words = recognizer.class_embeddings([options.words], [options.template])[0].cpu()  # bad words are reported before any cloud is read
    note_unknown_words(recognizer, [options.words], "the order")
    index, about = _indexed(options, recognizer, checkpoint)
    _report(index.failed)
    cosines = index.embeds @ words if index.files else None
    order = [] if cosines is None else cosines.argsort(descending=True)[: options.top].tolist()
    found = [] if cosines is None else [{"file": str(index.files[place]), "cosine": round(float(cosines[place]), 4)} for place in order]
    if options.json:
        print(json.dumps({"words": options.words, "searched": len(index.files), **about, "found": found}))
    else:
        for item in found:
            print(f"{item['cosine']:.4f}  {item['file']}")
        print(f"{len(index.files):,} clouds searched, {index.num_new:,} of them embedded now", file=sys.stderr)
    return 2 if index.failed else 0


def _indexed(options: argparse.Namespace, recognizer: Recognizer, checkpoint: Path | None) -> tuple[Any, dict[str, Any]]:
    """Embed what the options name, or look it up."""
    from clip2x.cloud_files import list_clouds
    from clip2x.cloud_index import index_clouds
    from clip2x.data.cache import cache_folder
    from clip2x.storage import sha256_of_file

    paths = list_clouds(options.clouds)
    about = {"checkpoint": None if checkpoint is None else str(checkpoint), "clip": recognizer.towers.id,
             "checkpoint_sha256": None if checkpoint is None else sha256_of_file(checkpoint), "embed_dim": recognizer.towers.embed_dim}
    folder = options.index or cache_folder(None)
    if folder is None:
        raise InputError("there is no home folder to keep the index in; give --index FOLDER.")
    facts = {key: about[key] for key in ("clip", "checkpoint_sha256")}
    index = index_clouds(paths, recognizer, facts, folder if options.index else folder / "cloud_index", up=options.up, columns=options.columns,
                         seed=options.seed)
    return index, about


def _report(failed: Sequence[tuple[Path, str]], start: int = 0) -> int:
    for _, reason in failed[start:]:
        print(f"error: {reason}", file=sys.stderr)
    return len(failed)
