"""Processor time per model of `clip2x render-pairs` on one core, where it goes, the size of the pictures and how long reading one takes.

The pictures go into a temporary folder.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from results import Results, results_option
from timing import elapsed_ms

from clip2x.data.formats.textured_obj import read_textured_obj
from clip2x.data.render_pairs import Drawing, draw_pictures, store_pictures
from clip2x.data.shapenet_pairs import read_view
from clip2x.manifest import load_manifest
from clip2x.miniworld.mesh_writer import write_obj
from clip2x.miniworld.objects import CLASS_NAMES, Stream, make_object

PARTS = {  # functions whose whole time is counted; what they call is not counted again
    "reading": ("read_textured_obj",), "casting": ("cast_rays", "add_triangles"), "double faces": ("reversed_faces", "facing_the_rays"),
    "shading": ("shade", "_averaged"), "PNG and files": ("store_pictures",),
}


CASTING = "casting the rays alone"
BYTES = "reading as many bytes from a file"
VIEWS = 10


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="a data root with ShapeNetCore.v2; default: generated meshes")
    parser.add_argument("--models", type=int, default=20, help="at most that many, evenly chosen")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--supersample", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    results_option(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = Results("render_pairs", options.results)
    with tempfile.TemporaryDirectory() as folder:
        meshes = found_meshes(options.root) if options.root else generated_meshes(Path(folder) / "meshes", options.models)
        meshes = [meshes[place * len(meshes) // options.models] for place in range(options.models)] if options.models < len(meshes) else meshes
        for size in options.sizes:
            measure(meshes, Drawing(size=size, supersample=options.supersample), Path(folder) / "rendering", options.repeats, results)
    results.finish()


def found_meshes(root: Path) -> list[Path]:
    variant = load_manifest("shapenet").variant("v2")
    return sorted((root / variant.folder).glob(str(variant.pattern).format(synset="*", id="*")))


def generated_meshes(folder: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        name = CLASS_NAMES[number % len(CLASS_NAMES)]
        paths.append(folder / str(number) / "models" / "model_normalized.obj")
        paths[-1].parent.mkdir(parents=True)
        write_obj(paths[-1], make_object(name, Stream.PICTURES_VAL, number, seed=0))
    return paths


def measure(meshes: list[Path], drawing: Drawing, folder: Path, repeats: int, results: Results) -> None:
    """Draw all models several times, once more watched by a profiler, and read the pictures of each."""
    readings = []
    for repeat in range(-1, repeats):
        for path in meshes:
            start = time.process_time()
            one_model(path, drawing, folder)
            if repeat >= 0:
                readings.append(1e3 * (time.process_time() - start))
            shutil.rmtree(folder)
    profile, reading, sizes = cProfile.Profile(), [], []
    for path in meshes:
        profile.enable()
        one_model(path, drawing, folder)
        profile.disable()
        for picture in (folder / "model").glob("*.png"):
            sizes.append(picture.stat().st_size)
            reading.append(elapsed_ms(lambda picture=picture: read_view(picture, drawing.size)))
        shutil.rmtree(folder)
    shares: dict[str, float] = defaultdict(float)
    statistics = pstats.Stats(profile)
    for (_, _, function), (_, _, _, seconds, _) in statistics.stats.items():  # type: ignore[attr-defined]
        for part, names in PARTS.items():
            if function.rstrip(">").split(".")[-1].split()[-1] in names:
                shares[part] += seconds / statistics.total_tt  # type: ignore[attr-defined]
    shares["other"] = 1 - sum(shares.values())
    where = f"{len(meshes)} models, {drawing.size} px, {drawing.supersample} rays a pixel and axis, {VIEWS} views"
    results.add("render-pairs, processor time", where, readings, "ms/model", floor=float(np.median(readings)) * shares["casting"], floor_is=CASTING,
                note=", ".join(f"{part} {100 * share:.0f} %" for part, share in shares.items()))
    file = folder.parent / "bytes"
    file.write_bytes(b"0" * int(np.median(sizes)))
    raw = [elapsed_ms(file.read_bytes) for _ in range(100)]
    results.add("reading a rendered picture", f"{drawing.size} px", reading, "ms/picture", floor=np.array(raw), floor_is=BYTES)
    results.add("size of a rendered picture", f"{drawing.size} px", sizes, "bytes")


def one_model(path: Path, drawing: Drawing, folder: Path) -> None:
    mesh, _ = read_textured_obj(path)
    store_pictures(folder / "model", [f"{view}.png" for view in range(VIEWS)], draw_pictures(mesh, "model", drawing))


if __name__ == "__main__":
    main()
