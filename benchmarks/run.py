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

from results import JSON, REPO, code, place, plain, read_results


def benchmarks(root: Path) -> dict[str, list[str]]:
    """Name the scripts and their arguments, the quick ones first."""
    data = ["--root", str(root)]
    return {
        "depth_views": [], "grouping": [], "point_encoders": [], "render_pairs": data, "readers": data, "nuscenes_tables": ["--scale", "0.05"],
        "triplet_store": ["--triplets", "50000"], "lifting": data, "proxies": data, "zero_shot": data, "training_steps": data, "curves": [],
        "full_size": data,
    }


SMALLEST = {
    "depth_views": ["--batch", "1", "--points", "64", "--image-size", "32", "--tower-batch", "1", "--repeats", "1", "--smoke"],
    "grouping": ["--points", "64", "--chosen", "16", "--batches", "2", "--cloud-points", "64", "--groups", "8", "4", "--repeats", "1"],
    "point_encoders": ["--points", "64", "--batch", "2", "--repeats", "1"],
    "render_pairs": ["--models", "1", "--sizes", "16", "224", "--supersample", "1", "--repeats", "1"],
    "readers": ["--samples", "4", "--image-size", "32", "--workers", "1", "--epochs", "1"],
    "nuscenes_tables": ["--scale", "0.0005", "--later", "1"],
    "triplet_store": ["--triplets", "400", "--reads", "20"],
    "lifting": ["--frames", "1", "--rounds", "1", "--boxes", "4", "--workers"],
    "proxies": ["--frames", "1", "--model", "clip2x-small", "--repeats", "1"],
    "zero_shot": ["--model", "clip2x-small", "--batch", "2", "--points", "64", "--steps", "1", "--workers", "0", "--classes", "3", "--repeats", "1"],
    "training_steps": ["--model", "clip2x-small", "--depth-batch", "4", "--points-batch", "4", "--encoder", "tiny", "--points", "64",
                       "--adapter-batch", "2", "--labelled", "scanobjectnn/obj_only", "--kept-batch", "4", "--triplets", "1500", "--steps", "1",
                       "--workers", "0"],
    "curves": ["--curves", "batch-points", "--most", "16", "--points", "64", "--repeats", "1"],
    "full_size": ["--smoke"],
}
"""Arguments that make a script run in seconds: to try it, and for the tests."""


def is_done(name: str, arguments: Sequence[str], results: Path) -> bool:
    """Say whether this very benchmark came to its end here."""
    run = read_results(results)["runs"].get(name, {})
    return (run.get("arguments"), run.get("code"), run.get("place")) == (plain(arguments), code(), place())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("runs/mini/miniworld"))
    parser.add_argument("--results", type=Path, default=JSON)
    parser.add_argument("--only", nargs="+", help="names of benchmarks")
    parser.add_argument("--smallest", action="store_true", help="sizes that only show that everything runs; give another --results with it")
    parser.add_argument("--again", action="store_true", help="measure what is there already")
    options = parser.parse_args(arguments)
    start, failed = time.perf_counter(), []
    for name, own in benchmarks(options.root).items():
        if options.only and name not in options.only:
            continue
        own = [*own, *(SMALLEST[name] if options.smallest else []), "--results", str(options.results)]
        if not options.again and is_done(name, own, options.results):
            print(f"{name}: measured already", flush=True)
            continue
        before = time.perf_counter()
        done = subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py")), *own], check=False)
        if done.returncode:
            failed.append(name)
        print(f"{name}: {'FAILED after ' if done.returncode else ''}{time.perf_counter() - before:.0f} s", flush=True)
    if options.results == JSON:
        for script in ("results", "scale"):
            if subprocess.run([sys.executable, str(Path(__file__).with_name(f"{script}.py"))], check=False, cwd=REPO).returncode:
                failed.append(script)
    print(f"benchmarks: {time.perf_counter() - start:.0f} s in all; figures: {options.results}; failed: {', '.join(failed) or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
