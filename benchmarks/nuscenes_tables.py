"""How long the tables of nuScenes take to open, the first time and later, and how much memory that needs.

Makes tables of the size of v1.0-trainval in a temporary folder, laid out like the official files (one value a line), opens them in fresh
processes. Full size needs about 6 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from results import Results, Target, results_option
from timing import elapsed_ms

from clip2x.data.nuscenes.tables import open_tables

# Records of v1.0-trainval: 850 scenes, 34 k samples, 64 k instances, 2.6 M sample_data and ego_pose, 1.17 M annotations.
SIZES = {"scene": 850, "sample": 34_149, "instance": 64_386, "sample_data": 2_631_083, "ego_pose": 2_631_083, "sample_annotation": 1_166_187}
CHANNELS = ["LIDAR_TOP", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT", "RADAR_FRONT",
            "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT"]
BLOCK = 4096
BYTES = "reading the bytes of all tables once"
FIRST, LATER = Target(90, "value"), Target(3, "value")  # seconds, at full size
Fill = Callable[[int], dict[str, object]]


def token(table: int, row: int) -> str:
    """Make a token that looks random and can be made again."""
    mixed = ((row + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 ^ table * 0xD1B54A32D192ED03D1B54A32D192ED03) * 0xC2B2AE3D27D4EB4F165667B19E3779F9
    return f"{(mixed ^ (mixed >> 61)) & (1 << 128) - 1:032x}"


def neighbour(table: int, row: int, size: int) -> str:
    return token(table, row) if 0 <= row < size else ""


def write_table(path: Path, count: int, fill: Fill) -> None:
    """Write records one value a line, as `json.dumps(records, indent=0)` does, without holding more than a block of them."""
    with path.open("w") as stream:
        stream.write("[\n")
        for first in range(0, count, BLOCK):
            block = json.dumps([fill(row) for row in range(first, min(first + BLOCK, count))], indent=0)
            stream.write(",\n" * (first > 0) + block[2:-2])
        stream.write("\n]")


def fills(sizes: dict[str, int], rng: np.random.Generator) -> Iterator[tuple[str, int, Fill]]:
    """Describe every table: its name, how many records, and what stands in each."""
    turns, places = rng.normal(size=(BLOCK, 4)), rng.uniform(0, 2000, size=(BLOCK, 3))
    rotations, spots = (turns / np.linalg.norm(turns, axis=1, keepdims=True)).tolist(), places.tolist()
    data, samples, annotations = sizes["sample_data"], sizes["sample"], sizes["sample_annotation"]

    def sample_data(row: int) -> dict[str, object]:
        channel, moment = CHANNELS[row % 12], 1532402927647951 + row * 4000
        kind = "jpg" if channel.startswith("CAM") else "pcd"
        folder = "samples" if row % 77 < 12 else "sweeps"
        name = f"{folder}/{channel}/n015-2018-07-24-11-22-45+0800__{channel}__{moment}.{kind}" + ".bin" * (channel == "LIDAR_TOP")
        return {"token": token(8, row), "sample_token": token(5, row * samples // data), "ego_pose_token": token(7, row),
                "calibrated_sensor_token": token(2, row % (12 * sizes["scene"])), "timestamp": moment, "fileformat": kind,
                "is_key_frame": folder == "samples", "height": 900 * (kind == "jpg"), "width": 1600 * (kind == "jpg"), "filename": name,
                "prev": neighbour(8, row - 12, data), "next": neighbour(8, row + 12, data)}

    def annotation(row: int) -> dict[str, object]:
        return {"token": token(9, row), "sample_token": token(5, row * samples // annotations), "instance_token": token(6, row % sizes["instance"]),
                "visibility_token": "4", "attribute_tokens": [token(10, row % 8)], "translation": spots[row % BLOCK], "size": [0.621, 0.669, 1.642],
                "rotation": rotations[row % BLOCK], "prev": neighbour(9, row - 1, annotations), "next": neighbour(9, row + 1, annotations),
                "num_lidar_pts": row % 97, "num_radar_pts": 0}

    yield "sensor", 12, lambda row: {"token": token(1, row), "channel": CHANNELS[row], "modality": CHANNELS[row].split("_")[0].lower()}
    yield "calibrated_sensor", 12 * sizes["scene"], lambda row: {
        "token": token(2, row), "sensor_token": token(1, row % 12), "translation": spots[row % BLOCK], "rotation": rotations[row % BLOCK],
        "camera_intrinsic": [[1266.4, 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]] if CHANNELS[row % 12].startswith("CAM") else []}
    yield "category", 23, lambda row: {"token": token(3, row), "name": f"vehicle.{row}", "description": "one of the categories"}
    yield "scene", sizes["scene"], lambda row: {
        "token": token(4, row), "log_token": token(11, row // 12), "nbr_samples": 40, "first_sample_token": token(5, row * 40),
        "last_sample_token": token(5, row * 40 + 39), "name": f"scene-{row + 1:04}", "description": "Parked truck, intersection, turn left"}
    yield "sample", samples, lambda row: {"token": token(5, row), "timestamp": 1532402927647951 + row * 500_000, "prev": "", "next": "",
                                          "scene_token": token(4, row * sizes["scene"] // samples)}
    yield "instance", sizes["instance"], lambda row: {"token": token(6, row), "category_token": token(3, row % 23), "nbr_annotations": 18,
                                                      "first_annotation_token": token(9, row), "last_annotation_token": token(9, row)}
    yield "ego_pose", sizes["ego_pose"], lambda row: {"token": token(7, row), "timestamp": 1532402927647951 + row * 4000,
                                                      "rotation": rotations[row % BLOCK], "translation": spots[row % BLOCK]}
    yield "sample_data", data, sample_data
    yield "sample_annotation", annotations, annotation


def open_once(folder: Path, cache: Path, deep: bool) -> None:
    """Open the tables in this process and print seconds and peak memory as JSON."""
    start = time.perf_counter()
    tables = open_tables(folder, cache=cache, deep=deep)
    seconds = time.perf_counter() - start
    own, largest_child = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    bound = own + 2 * largest_child  # at most two children; pages that are mapped by both count twice
    print(json.dumps({"seconds": seconds, "own_mb": own, "bound_mb": bound, "rows": tables.num_rows("sample_data"), "notes": tables.notes}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables, then open them in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--folder", type=Path, default=None, help="where to make the temporary files")
    parser.add_argument("--later", type=int, default=3, help="how many later openings to time")
    parser.add_argument("--open", type=Path, nargs=2, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--deep", action="store_true", help=argparse.SUPPRESS)
    results_option(parser)
    options = parser.parse_args(arguments)
    if options.open:
        open_once(*options.open, deep=options.deep)
        return
    sizes = {name: max(1, int(count * options.scale)) for name, count in SIZES.items()}
    results = Results("nuscenes_tables", options.results)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        tables, cache = Path(temporary) / "v1.0-trainval", Path(temporary) / "cache"
        tables.mkdir()
        for name, count, fill in fills(sizes, np.random.default_rng(0)):
            write_table(tables / f"{name}.json", count, fill)
        size = sum(path.stat().st_size for path in tables.iterdir()) / 1e9
        floor = [elapsed_ms(lambda: [path.read_bytes() for path in tables.iterdir()]) / 1e3 for _ in range(3)]
        where = f"{options.scale:g} of the full size: {size:.2f} GB, {sizes['sample_data']:,} sample_data"
        for what, times, extra, target in (("first opening", 1, [], FIRST), ("later opening", options.later, [], LATER),
                                           ("opening, all bytes compared (deep)", 1, ["--deep"], None)):
            command = [sys.executable, __file__, "--open", str(tables), str(cache), *extra]
            found = [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(times)]
            results.add(what, where, [item["seconds"] for item in found], "s", floor=np.array(floor), floor_is=BYTES,
                        target=target if options.scale == 1 else None, memory_mb=found[0]["bound_mb"],
                        note=" ".join([f"{found[0]['rows']:,} rows", *found[0]["notes"]]))
        kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / 1e6
        results.add("cache of the tables", where, [kept], "MB", floor=size * 1e3, floor_is="the tables themselves")
    results.finish()


if __name__ == "__main__":
    main()
