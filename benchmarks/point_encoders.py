"""How long the point encoders take per cloud, forward and backward, how much of it is spent on repeats, centres and neighbours, and memory."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch
from grouping import unit_clouds
from results import Results, Target, results_option
from timing import devices, in_turns_ms, peak_memory_mb, reset_peak_memory

from clip2x.encoders.points import PointEncoder, PointNet2, PointTransformer
from clip2x.encoders.points.grouping import nearest_points, spread_centres, take_points

EMBED_DIM = 512
ENCODERS: dict[str, Callable[[], PointEncoder]] = {
    "transformer-tiny": lambda: PointTransformer(EMBED_DIM, "tiny"),
    "transformer-small": lambda: PointTransformer(EMBED_DIM, "small"),
    "transformer-base": lambda: PointTransformer(EMBED_DIM, "base"),
    "pointnet2-tiny": lambda: PointNet2(EMBED_DIM, "tiny"),
    "pointnet2-msg": lambda: PointNet2(EMBED_DIM, "msg"),
}
GROUPING_SHARE = Target(0.25, "share")
LAYERS = "the layers alone: what is left without the grouping"
COPY = "copying the coordinates once"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the sizes and measure every device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", nargs="+", choices=list(ENCODERS), default=["transformer-tiny", "pointnet2-tiny"])
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16", help="of the layers, by autocast")
    results_option(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    results = Results("point_encoders", options.results)
    for device in devices():
        points = unit_clouds(options.batch, options.points, device)
        for name in options.encoders:
            where = f"batch {options.batch}, {options.points:,} points, {options.precision}"
            measure(name, where, ENCODERS[name]().to(device), points, options, device, results)
    results.finish()


def measure(name: str, where: str, encoder: PointEncoder, points: torch.Tensor, options: argparse.Namespace, device: str, results: Results) -> None:
    """Add the time of the forward pass, of both passes, the share of grouping, and the memory that both passes hold."""
    dtype = getattr(torch, options.precision)

    def forward() -> torch.Tensor:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            return encoder(points)

    def both() -> None:
        encoder.zero_grad()
        forward().float().square().mean().backward()

    def forward_alone() -> None:
        with torch.no_grad():
            forward()

    held = held_for_backward(forward) / len(points) / 1e6
    reset_peak_memory(device)
    found = in_turns_ms({"forward": forward_alone, "both": both, "grouping": lambda: group(encoder, points), "copy": points.clone},
                        options.repeats, device)
    memory = peak_memory_mb(device) if device == "cuda" else None
    per_cloud = {part: readings / len(points) for part, readings in found.items()}
    weights = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
    step = float(np.median(per_cloud["both"]))
    for part, title in (("forward", "forward"), ("both", "forward and backward")):
        results.add(f"{name}, {title}", where, per_cloud[part], "ms/cloud", floor=per_cloud[part] - per_cloud["grouping"], floor_is=LAYERS,
                    device=device, memory_mb=memory,
                    note=f"{weights:.1f} M weights" if part == "forward" else f"{held:.2f} MB a cloud are held for the backward pass")
    results.add(f"{name}, grouping", where, per_cloud["grouping"], "ms/cloud", floor=per_cloud["copy"], floor_is=COPY, device=device,
                share=(float(np.median(per_cloud["grouping"])) / step, "forward and backward"), target=GROUPING_SHARE if device == "cpu" else None)


def held_for_backward(forward: Callable[[], torch.Tensor]) -> int:
    """Count the bytes that a forward pass keeps for the backward pass, weights among them, each tensor once."""
    sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()  # alive until all are counted, so that no address comes twice
    assert output.requires_grad
    return sum(sizes.values())


@torch.no_grad()
def group(encoder: PointEncoder, points: torch.Tensor) -> None:
    """Do what the encoder does before its first layer: repeats, centres, neighbours of all levels."""
    cloud = encoder.prepare(points, None)
    if isinstance(encoder, PointTransformer):
        encoder.group(cloud)
        return
    assert isinstance(encoder, PointNet2)
    levels = encoder.dimensions.levels
    chosen, valid = spread_centres(cloud.coordinates, cloud.keep, levels[0].num_centres)
    places, keep, centres = cloud.coordinates, cloud.keep, take_points(cloud.coordinates, chosen)
    for level in levels:
        nearest_points(places, keep, centres[:, : level.num_centres], max(scale.num_neighbours for scale in level.scales))
        places, keep = centres[:, : level.num_centres], valid[:, : level.num_centres]


if __name__ == "__main__":
    main()
