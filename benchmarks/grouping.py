"""How long farthest point sampling, the search for neighbours and the search for repeats take per cloud, beside passes over the same numbers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from results import Results, Target, results_option
from timing import devices, in_turns_ms

from clip2x.encoders.points.grouping import first_occurrences, nearest_points, spread_centres, take_points
from clip2x.geometry import farthest_points

FPS_TARGETS = {8: Target(4.0, "value"), 32: Target(2.0, "value")}  # ms a cloud by batch, 2,048 -> 1,024 points
STEPS = "one minimum over all points for each chosen one"
DISTANCES = "writing all distances once"
READING = "reading the coordinates once for each of the two sorts, and writing their order"


def unit_clouds(batch: int, points: int, device: str) -> torch.Tensor:
    values = torch.randn(batch, points, 3, generator=torch.Generator().manual_seed(0))
    return (values / values.norm(dim=-1).amax(dim=1)[:, None, None]).to(device)


def measure_sampling(batch: int, options: argparse.Namespace, device: str, results: Results) -> None:
    points = unit_clouds(batch, options.points, device)
    nearest, other = torch.rand(batch, options.points, device=device), torch.rand(batch, options.points, device=device)

    def passes() -> None:
        for _ in range(options.chosen):
            torch.minimum(nearest, other, out=nearest)

    found = in_turns_ms({"work": lambda: farthest_points(points, options.chosen), "floor": passes}, options.repeats, device)
    official = (options.points, options.chosen) == (2048, 1024) and device == "cpu"
    results.add("farthest_points", f"batch {batch}, {options.points:,} -> {options.chosen:,} points", found["work"] / batch, "ms/cloud",
                floor=found["floor"] / batch, floor_is=STEPS, target=FPS_TARGETS.get(batch) if official else None, device=device)


def measure_groups(batch: int, centres: int, neighbours: int, options: argparse.Namespace, device: str, results: Results) -> None:
    """Time what a point transformer does before its first layer, part by part."""
    points = unit_clouds(batch, options.cloud_points, device)
    keep = first_occurrences(points)
    chosen = take_points(points, spread_centres(points, keep, centres)[0])
    distances = torch.empty(batch, centres, options.cloud_points, device=device)
    order = torch.empty(batch, options.cloud_points, dtype=torch.int64, device=device)
    nearest, other = torch.rand(batch, options.cloud_points, device=device), torch.rand(batch, options.cloud_points, device=device)

    def passes() -> None:
        for _ in range(centres):
            torch.minimum(nearest, other, out=nearest)

    def reads() -> None:
        for _ in range(2):
            points.sum()
            order.fill_(0)

    found = in_turns_ms({
        "repeats": lambda: first_occurrences(points), READING: reads,
        "centres": lambda: spread_centres(points, keep, centres), STEPS: passes,
        "neighbours": lambda: nearest_points(points, keep, chosen, neighbours), DISTANCES: lambda: distances.fill_(0.0),
    }, options.repeats, device)
    where = f"batch {batch}, {options.cloud_points:,} points, {centres} centres, {neighbours} neighbours"
    for name, floor in (("repeats", READING), ("centres", STEPS), ("neighbours", DISTANCES)):
        results.add(f"grouping: {name}", where, found[name] / batch, "ms/cloud", floor=found[floor] / batch, floor_is=floor, device=device)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the sizes and measure every device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=2048)
    parser.add_argument("--chosen", type=int, default=1024)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--cloud-points", type=int, default=1024, help="of a cloud whose groups are made")
    parser.add_argument("--groups", type=int, nargs=2, action="append", help="centres and neighbours; default: sizes tiny and small")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    results_option(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    results = Results("grouping", options.results)
    for device in devices():
        for batch in options.batches:
            measure_sampling(batch, options, device, results)
        for centres, neighbours in options.groups or [(32, 16), (64, 32)]:
            measure_groups(max(options.batches), centres, neighbours, options, device, results)
    results.finish()


if __name__ == "__main__":
    main()
