"""`clip2x report`: pages beside all results below a folder, and one page for all of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from clip2x.errors import BadFileError, DataNotFoundError
from clip2x.storage import atomic_path
from clip2x.untrusted import guarded, json_value

ROW_KEYS = ("dataset", "variant", "split", "method", "num_samples", "num_classes", "top1", "top5", "class_mean", "per_class", "confusion", "chance",
            "majority", "interval", "gain", "protocol")  # that the page reads
MISTAKE_KEYS = {"id", "index", "is", "called", "probability", "probability_of_true"}
STORE_KEYS, COUNT_KEYS = ("store", "data", "quality"), ("num_triplets", "num_frames", "complete", "folder")  # of a report on a triplet store


def add_report_command(commands: Any) -> None:
    """Add the command to the parser."""
    report = commands.add_parser("report", help="pages of results: one beside each results.json, and one for all", allow_abbrev=False)
    report.add_argument("folder", type=Path, metavar="FOLDER", help="results below it are found, e.g. runs")
    report.add_argument("--output", type=Path, help="the page for all; default FOLDER/overview.html")
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    if not options.folder.is_dir():
        raise DataNotFoundError(f"{options.folder}: no such folder; give the one that the results lie in, e.g. runs.")
    from clip2x.evaluation.results_page import overview_page, write_results_page

    output = options.output or options.folder / "overview.html"
    runs, collections = [], []
    for file in sorted(options.folder.rglob("results.json")):
        content = read_results(file)
        page = _drawn(partial(write_results_page, file, content), file)
        runs.append((_address(page, output), content))
        print(page)
    for file in sorted(options.folder.rglob("report.json")):
        found = _read_store_report(file)
        if found is not None:
            collections.append((_address(file.with_name("report.html"), output), found))
    if not runs and not collections:
        raise DataNotFoundError(f"{options.folder}: no results.json and no triplet store lies below it; give the folder of runs, e.g. runs.")
    overview = _drawn(lambda: overview_page(runs, collections), options.folder)
    with atomic_path(output) as temporary:
        temporary.write_text(overview, encoding="utf-8")
    print(f"{output}: runs: {len(runs)}, triplet stores: {len(collections)}")
    return 0


def _drawn(draw: Callable[[], Any], source: Path) -> Any:
    """Draw a page; values of another kind than those that clip2x writes are a fault of the file."""
    try:
        return guarded(draw)
    except ValueError as error:
        raise BadFileError(f"{source}: holds other values than clip2x writes ({error}); move it away or evaluate again.") from error


def _address(page: Path, output: Path) -> str:
    """Address a page from the one for all."""
    try:
        return quote(page.resolve().relative_to(output.resolve().parent).as_posix())
    except ValueError:
        return page.resolve().as_uri()


def _read_store_report(file: Path) -> dict[str, Any] | None:
    """Read what `report-proxies` wrote; None if the file is another's, or there is no page beside it."""
    try:
        content: Any = json_value(file.read_text(encoding="utf-8"))
        known = set(STORE_KEYS) <= set(content) and set(COUNT_KEYS) <= set(content["store"])
        measured = all("skipped" in figures or {"any_name", "labels"} <= set(figures) for figures in content["quality"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return content if known and measured and file.with_name("report.html").is_file() else None


def read_results(file: Path) -> dict[str, Any]:
    """Read `results.json`.

    Raises:
        BadFileError: If it is none.
    """
    try:
        content: Any = json_value(file.read_text(encoding="utf-8"))
        rows = content["results"]
        if not isinstance(content["provenance"], dict) or any(key not in row for row in rows for key in ROW_KEYS):
            raise KeyError
        if any(not set(mistake) >= MISTAKE_KEYS for row in rows for mistake in row.get("mistakes") or []):
            raise KeyError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFileError(f"{file}: is no results.json of this version of clip2x; move it away or evaluate again.") from error
    found: dict[str, Any] = content
    return found
