"""`clip2x report`: pages beside all results below a folder, and one page for all of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from urllib.parse import quote

from clip2x.errors import BadFileError, DataNotFoundError
from clip2x.evaluation.results_page import overview_page, write_results_page
from clip2x.storage import atomic_path
from clip2x.untrusted import json_value

ROW_KEYS = ("dataset", "variant", "split", "method", "num_samples", "num_classes", "top1", "top5", "class_mean", "per_class", "confusion", "chance",
            "majority", "interval", "gain", "protocol")  # that the page reads


def add_report_command(commands: Any) -> None:
    """Add the command to the parser."""
    report = commands.add_parser("report", help="pages of results: one beside each results.json, and one for all", allow_abbrev=False)
    report.add_argument("folder", type=Path, metavar="FOLDER", help="results below it are found, e.g. runs")
    report.add_argument("--output", type=Path, help="the page for all; default FOLDER/overview.html")
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    if not options.folder.is_dir():
        raise DataNotFoundError(f"{options.folder}: no such folder; give the one that the results lie in, e.g. runs.")
    runs = []
    output = options.output or options.folder / "overview.html"
    for file in sorted(options.folder.rglob("results.json")):
        content = read_results(file)
        page = write_results_page(file, content)
        try:
            address = quote(page.resolve().relative_to(output.resolve().parent).as_posix())
        except ValueError:
            address = page.resolve().as_uri()
        runs.append((address, content))
        print(page)
    with atomic_path(output) as temporary:
        temporary.write_text(overview_page(runs), encoding="utf-8")
    print(f"{output}: {len(runs)} runs")
    return 0


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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFileError(f"{file}: is no results.json of this version of clip2x; move it away or evaluate again.") from error
    found: dict[str, Any] = content
    return found
