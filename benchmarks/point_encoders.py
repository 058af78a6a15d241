"""How long the point encoders take per cloud, forward and backward, how much of it is spent on repeats, centres and neighbours, and memory."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from timing import devices, hardware, summary, times_ms

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


def main() -> None:
    """Read the sizes and measure every device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", nargs="+", choices=list(ENCODERS), default=["transformer-tiny", "pointnet2-tiny"])
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16", help="of the layers, by autocast")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for device in devices():
        print(hardware(device))
        print(f"batch {options.batch}, {options.points} points, {options.precision}; time per cloud")
        points = torch.randn(options.batch, options.points, 3, generator=torch.Generator().manual_seed(0))
        points = (points / points.norm(dim=-1).amax(dim=1)[:, None, None]).to(device)
        for name in options.encoders:
            measure(name, ENCODERS[name]().to(device), points, options.repeats, device, getattr(torch, options.precision))


def measure(name: str, encoder: PointEncoder, points: torch.Tensor, repeats: int, device: str, dtype: torch.dtype) -> None:
    """Print the time of the forward pass, of both passes, the share of grouping, and the memory of both passes."""

    def forward() -> torch.Tensor:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            return encoder(points)

    def both() -> None:
        encoder.zero_grad()
        forward().float().square().mean().backward()

    def forward_alone() -> None:
        with torch.no_grad():
            forward()

    held = held_for_backward(forward)
    step = times_ms(both, repeats, device)
    pieces, weights = len(points), sum(parameter.numel() for parameter in encoder.parameters())
    grouping = times_ms(lambda: group(encoder, points), repeats, device)
    print(f"  {name}, {weights / 1e6:.2f} M weights")
    print(f"    forward             {summary(times_ms(forward_alone, repeats, device), pieces)}")
    print(f"    forward + backward  {summary(step, pieces)}")
    print(f"    grouping            {summary(grouping, pieces)}  {100 * np.median(grouping) / np.median(step):.1f} % of the step (asked: below 25 "
          "on a CPU)")
    print(f"    held from the forward to the backward pass: {held / 2**20 / pieces:.2f} MiB per cloud{peak_memory(device)}")


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


def peak_memory(device: str) -> str:
    """Say how much a GPU held at most since the last call."""
    if device != "cuda":
        return ""
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return f"; peak of both passes {peak:.2f} GiB"


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
