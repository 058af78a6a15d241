"""Time per model of `clip2x render-pairs` on one core, where it goes, and what all of ShapeNet takes. The pictures go into a temporary folder."""

from __future__ import annotations

import argparse
import cProfile
import pstats
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from timing import hardware

from clip2x.data.formats.textured_obj import read_textured_obj
from clip2x.data.render_pairs import Drawing, draw_pictures, store_pictures
from clip2x.manifest import load_manifest
from clip2x.miniworld.mesh_writer import write_obj
from clip2x.miniworld.objects import CLASS_NAMES, Stream, make_object

PARTS = {  # functions whose whole time is counted; what they call is not counted again
    "reading": ("read_textured_obj",), "casting": ("cast_rays", "add_triangles"), "double faces": ("reversed_faces", "facing_the_rays"),
    "shading": ("shade", "_averaged"), "PNG and files": ("store_pictures",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="a data root with ShapeNetCore.v2; default: generated meshes")
    parser.add_argument("--models", type=int, default=20, help="at most that many, evenly chosen")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--supersample", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        meshes = found_meshes(options.root) if options.root else generated_meshes(Path(folder) / "meshes", options.models)
        meshes = [meshes[place * len(meshes) // options.models] for place in range(options.models)] if options.models < len(meshes) else meshes
        print(f"render-pairs, {len(meshes)} models of {options.root or 'the mini-world'}, {options.supersample} rays per pixel and axis, "
              f"{hardware('cpu')}; seconds of the processor")
        for size in options.sizes:
            measure(meshes, Drawing(size=size, supersample=options.supersample), Path(folder) / "rendering", options.repeats)


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


def measure(meshes: list[Path], drawing: Drawing, folder: Path, repeats: int) -> None:
    readings = []
    for repeat in range(-1, repeats):
        for path in meshes:
            start = time.process_time()
            one_model(path, drawing, folder)
            if repeat >= 0:
                readings.append(time.process_time() - start)
    per_model = np.array(readings).reshape(repeats, -1)
    profile = cProfile.Profile()
    profile.enable()
    for path in meshes:
        one_model(path, drawing, folder)
    profile.disable()
    shares: dict[str, float] = defaultdict(float)
    statistics = pstats.Stats(profile)
    for (_, _, function), (_, _, _, seconds, _) in statistics.stats.items():  # type: ignore[attr-defined]
        for part, names in PARTS.items():
            if function.rstrip(">").split(".")[-1].split()[-1] in names:
                shares[part] += seconds / statistics.total_tt  # type: ignore[attr-defined]
    shares["other"] = 1 - sum(shares.values())
    low, median, high = np.percentile(per_model, [25, 50, 75])
    mean = float(per_model.mean(axis=1).min())
    print(f"{drawing.size} px: per model median {median * 1e3:.1f} ms  IQR {low * 1e3:.1f}-{high * 1e3:.1f}  "
          f"mean {mean * 1e3:.1f} (best of {repeats} passes)")
    print("       " + ", ".join(f"{part} {100 * share:.0f} %" for part, share in shares.items()))
    print(f"       52,460 models at that mean: {52_460 * mean / 3600:.1f} core hours, {52_460 * mean / 3600 / 16:.2f} h on 16 cores")


def one_model(path: Path, drawing: Drawing, folder: Path) -> None:
    mesh, _ = read_textured_obj(path)
    store_pictures(folder / "model", [f"{view}.png" for view in range(10)], draw_pictures(mesh, "model", drawing))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
