"""The commands of `clip2x` about triplet stores: report, embed, merge, filter, check."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clip2x.data.triplets.tools import Made


def add_proxy_commands(commands: Any, at_least: Callable[[int], Callable[[str], int]], share: Callable[[str], float]) -> None:
    """Add the parsers.

    Args:
        commands: What `add_subparsers` gave.
        at_least: Makes the type of whole numbers from a least one on.
        share: The type of numbers from 0 to 1.
    """
    report = commands.add_parser("report-proxies", help="quality of collected triplets: report.html and report.json", allow_abbrev=False)
    report.add_argument("store", type=Path, metavar="STORE", help="the folder that collect-proxies wrote")
    report.add_argument("--root", type=Path, help="the folder that holds the data sets, for comparison with annotated boxes")
    report.add_argument("--output", type=Path, help="folder of the report; default: the store's")
    report.add_argument("--gallery", type=at_least(0), default=48, help="triplets that are shown; default 48")
    report.add_argument("--frames", type=at_least(1), default=500, help="frames of each data set that are compared; default 500")
    report.add_argument("--seed", type=at_least(0), default=0, help="of what is drawn for the gallery")
    report.set_defaults(run=_report)
    embed = commands.add_parser("embed-proxies", help="add the embeddings of a CLIP to collected triplets", allow_abbrev=False)
    embed.add_argument("store", type=Path, metavar="STORE")
    embed.add_argument("--clip", required=True, metavar="MODEL", help="an open_clip model, e.g. ViT-B-32-quickgelu, or clip2x-small")
    embed.add_argument("--pretrained", required=True, metavar="TAG_OR_FILE", help="its weights, e.g. openai")
    embed.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the image tower; default fp32")
    embed.add_argument("--device", help="e.g. cuda; default: a GPU where there is one")
    embed.add_argument("--batch-size", type=at_least(1), default=256, help="crops at a time; default 256")
    embed.add_argument("--trust-torchscript", action="store_true", help="read TorchScript files other than OpenAI's; they can run code")
    embed.set_defaults(run=_embed)
    merge = commands.add_parser("merge-proxies", help="put several stores of triplets into a new one", allow_abbrev=False)
    merge.add_argument("target", type=Path, metavar="NEW_STORE")
    merge.add_argument("sources", type=Path, nargs="+", metavar="STORE")
    merge.set_defaults(run=_merge)
    select = commands.add_parser("filter-proxies", help="put the triplets that are good enough into a new store", allow_abbrev=False)
    select.add_argument("source", type=Path, metavar="STORE")
    select.add_argument("target", type=Path, metavar="NEW_STORE")
    select.add_argument("--min-score", type=share, default=0.0, help="least score of the detector")
    select.add_argument("--min-points", type=at_least(1), default=1, help="least number of points")
    select.add_argument("--classes", help="only these names, separated by commas")
    select.add_argument("--exclude", default="", help="without these names")
    select.add_argument("--exclude-data", default="", help="without these data sets, manifest/variant/split")
    select.add_argument("--max-per-class", type=at_least(1), help="of each name at most so many, the best scores first")
    select.set_defaults(run=_filter)


def check_triplets(folder: Path, *, deep: bool, as_json: bool) -> int:
    """Print what is in a store; exit status 0 if it is finished and nothing is wrong with it, else 1."""
    from clip2x.data.triplets.tools import check_store

    found = check_store(folder, deep=deep)
    if as_json:
        print(json.dumps({"name": "triplets", "root": str(folder), "complete": found.status == "complete", "splits": [asdict(found)]}))
    else:
        print(f"triplets in {folder}: {found.status}, {found.found:,}")
        for line in [*found.notes, *found.problems]:
            print(f"  {line}")
        if found.num_problems > len(found.problems):
            print(f"  and {found.num_problems - len(found.problems):,} more problems")
    return 0 if found.status == "complete" else 1


def _report(options: argparse.Namespace) -> int:
    from clip2x.evaluation.proxy_report import summary_lines, write_proxy_report

    content = write_proxy_report(options.store, options.root, options.output, gallery=options.gallery, frames=options.frames, seed=options.seed)
    print("\n".join(summary_lines(content)))
    print(f"quality report: {(options.output or options.store) / 'report.html'}")
    return 0


def _embed(options: argparse.Namespace) -> int:
    import torch

    from clip2x.data.triplets.embeddings import CropEncoder
    from clip2x.data.triplets.store import TripletStore
    from clip2x.data.triplets.tools import embed_proxies
    from clip2x.encoders.clip import ClipTowers

    store = TripletStore(options.store)  # before any weights are read
    clip = ClipTowers(options.clip, options.pretrained, trust_torchscript=options.trust_torchscript, precision=options.precision)
    clip.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    made = embed_proxies(options.store, CropEncoder.of(clip, batch_size=options.batch_size))
    print(f"{options.store}: crops of {made:,} of {len(store.index['shards']):,} shards embedded now by {clip.id}, the others were there before")
    return 0


def _merge(options: argparse.Namespace) -> int:
    from clip2x.data.triplets.tools import merge_stores

    return _say(merge_stores(options.sources, options.target))


def _filter(options: argparse.Namespace) -> int:
    from clip2x.data.triplets.tools import filter_store

    return _say(filter_store(options.source, options.target, min_score=options.min_score, min_points=options.min_points,
                             classes=_names(options.classes) if options.classes else None, exclude=_names(options.exclude),
                             exclude_data=_names(options.exclude_data), max_per_class=options.max_per_class))


def _say(made: Made) -> int:
    print(f"{made.folder}: {made.num_triplets:,} triplets of {made.num_frames:,} frames")
    for reason, count in made.dropped.most_common():
        print(f"  left out, {reason}: {count:,}")
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
