"""How long one view of the projections of PointCLIP and PointCLIP V2 takes, beside a depth view of CLIP2Point."""

from __future__ import annotations

import argparse

import torch
from timing import devices, hardware, summary, times_ms

from clip2x.depth import DepthViews
from clip2x.geometry import unit_sphere
from clip2x.projections import PointClipV2Views, PointClipViews


def measure(device: str, options: argparse.Namespace) -> None:
    """Print the table of one device."""
    corner = torch.rand(options.batch, options.points, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    points = unit_sphere(corner * torch.tensor([1.0, 0.8, 0.5])).to(device)
    size = options.image_size
    rows = {
        "DepthViews, radius 0.02": DepthViews(image_size=size),
        "PointClipViews, zero-shot": PointClipViews(size),
        "PointClipViews, few-shot": PointClipViews(size, views="few_shot"),
        "PointClipV2Views": PointClipV2Views(size),
    }
    print(hardware(device))
    print(f"batch {options.batch}, {options.points} points, {size} px; time per view")
    for name, draw in rows.items():
        readings = times_ms(lambda draw=draw: draw(points), options.repeats, device)
        print(f"  {name:<28}{summary(readings, options.batch * draw.num_views)}")


def main() -> None:
    """Read the sizes and measure every device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for device in devices():
        measure(device, options)


if __name__ == "__main__":
    main()
