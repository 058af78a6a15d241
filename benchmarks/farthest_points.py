"""How long farthest point sampling takes per cloud, alone and in batches."""

from __future__ import annotations

import argparse

import torch
from timing import devices, hardware, summary, times_ms

from clip2x.geometry import farthest_points


def main() -> None:
    """Read the sizes and measure every device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=2048)
    parser.add_argument("--chosen", type=int, default=1024)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for device in devices():
        print(hardware(device))
        print(f"{options.points} -> {options.chosen} points; time per cloud")
        for batch in options.batches:
            points = torch.randn(batch, options.points, 3, generator=torch.Generator().manual_seed(0)).to(device)
            readings = times_ms(lambda clouds=points: farthest_points(clouds, options.chosen), options.repeats, device)
            print(f"  batch {batch:<4}{summary(readings, batch)}")


if __name__ == "__main__":
    main()
