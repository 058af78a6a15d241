"""`make bench`: every benchmark, one after the other, each in a process of its own, into results.json; then the tables.

A benchmark that came to its end with the same arguments on the same code and processor is left out, so that an interrupted run goes on where it
was; --again measures all. A benchmark that fails does not stop the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from results import JSON, REPO, code, read_results
from timing import hardware


def benchmarks(root: Path) -> dict[str, list[str]]:
    """Name the scripts and their arguments, the quick ones first."""
    data = ["--root", str(root)]
    return {
        "depth_views": [], "grouping": [], "point_encoders": [], "render_pairs": data, "readers": data, "nuscenes_tables": ["--scale", "0.1"],
        "triplet_store": ["--triplets", "50000"], "lifting": data, "proxies": data, "zero_shot": data, "training_steps": data, "curves": [],
        "full_size": data,
    }


def is_done(name: str, arguments: Sequence[str], results: Path) -> bool:
    """Say whether this very benchmark came to its end."""
    run = read_results(results)["runs"].get(name, {})
    return (run.get("arguments"), run.get("code"), run.get("hardware")) == (list(arguments), code(), hardware("cpu"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("runs/mini/miniworld"))
    parser.add_argument("--results", type=Path, default=JSON)
    parser.add_argument("--only", nargs="+", help="names of benchmarks")
    parser.add_argument("--again", action="store_true", help="measure what is there already")
    options = parser.parse_args(arguments)
    start, failed = time.perf_counter(), []
    for name, own in benchmarks(options.root).items():
        if options.only and name not in options.only:
            continue
        own = [*own, "--results", str(options.results)]
        if not options.again and is_done(name, own, options.results):
            print(f"{name}: measured already", flush=True)
            continue
        before = time.perf_counter()
        done = subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py")), *own], check=False)
        if done.returncode:
            failed.append(name)
        print(f"{name}: {'FAILED after ' if done.returncode else ''}{time.perf_counter() - before:.0f} s", flush=True)
    for script in ("results", "scale"):
        subprocess.run([sys.executable, str(Path(__file__).with_name(f"{script}.py")), "--results", str(options.results)], check=True, cwd=REPO)
    print(f"benchmarks: {time.perf_counter() - start:.0f} s in all; figures: benchmarks/results.md, docs/scale.md" + (
        f"; failed: {', '.join(failed)}" if failed else ""))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
