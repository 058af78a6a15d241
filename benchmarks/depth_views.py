"""How long one depth view takes, in plain PyTorch and compiled, beside the floor of writing its pixels and the ViT-B/32 pass that follows it."""

from __future__ import annotations

import argparse

import open_clip
import torch
from timing import devices, hardware, summary, times_ms

from clip2x import depth as depth_module
from clip2x.depth import CHUNK_CANDIDATES, DepthViews, compiled_kernels, density_radius, grey_from_depth, rasterize, view_preset
from clip2x.geometry import unit_sphere


def measure(device: str, options: argparse.Namespace) -> None:
    """Print the table of one device."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(options.batch, 3, 1, 3, generator=generator)
    boxes = (torch.rand(options.batch, 3, -(-options.points // 3), 3, generator=generator) - 0.5) * corner  # three boxes a cloud
    points = unit_sphere(boxes.flatten(1, 2)[:, : options.points]).to(device)
    cameras = [value.expand(options.batch, -1).to(device) for value in view_preset(options.views)]
    num_pictures, size = cameras[0].numel(), options.image_size
    sizes = {"image_size": size, "point_radius": options.point_radius}
    buffer = torch.empty(num_pictures, size, size, device=device)
    depth = rasterize(points, *cameras, **sizes)
    wanted = points.clone().requires_grad_()
    views, dense_views = DepthViews(options.views, size, options.point_radius), DepthViews(options.views, size, "density")
    drawn = {
        "rasterize": lambda: rasterize(points, *cameras, **sizes),
        "rasterize + gradient": lambda: rasterize(wanted, *cameras, **sizes).sum().backward(),
        "DepthViews": lambda: views(points),
        "DepthViews, density": lambda: dense_views(points),
    }
    others = {
        "grey_from_depth": lambda: grey_from_depth(depth),
        "density_radius": lambda: density_radius(points),
        "floor: write the pixels once": lambda: buffer.fill_(-1),
        "the same, memory new": lambda: torch.full_like(buffer, -1),
    }
    ways = [way for way in (False, True) if {"plain": not way, "compiled": way, "both": True}[options.path]]
    if device == "cuda" or compiled_kernels() is None:
        ways = [False]
    print(hardware(device))
    print(f"batch {options.batch}, {options.points} points, {options.views}, {size} px, radius {options.point_radius}; time per view")
    medians = {}
    for way in ways:
        depth_module.COMPILED = way
        for name, work in drawn.items():
            readings = times_ms(work, options.repeats, device)
            medians[name] = float(torch.tensor(readings).median()) / num_pictures
            print(f"  {name + (', compiled' if way else ''):<32}{summary(readings, num_pictures)}")
    for name, work in others.items():
        print(f"  {name:<32}{summary(times_ms(work, options.repeats, device), num_pictures)}")
    vit_ms = measure_tower(device, max(3, options.repeats // 4))
    print(f"  rasterize is {medians['rasterize'] / vit_ms:.1%} of the ViT-B/32 pass")
    print(f"  bound of the chunk's temporaries: {CHUNK_CANDIDATES * 60 / 2**20:.0f} MiB")
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        rasterize(points, *cameras, **sizes)
        print(f"  peak beyond what was there: {(torch.cuda.max_memory_allocated() - before) / 2**20:.1f} MiB, result included")


@torch.no_grad()
def measure_tower(device: str, repeats: int) -> float:
    """Time the image tower that looks at the views; random weights, float32, 16 pictures; milliseconds per picture."""
    tower = open_clip.create_model("ViT-B-32", pretrained=None).visual.eval().to(device)
    pictures = torch.rand(16, 3, 224, 224, device=device)
    readings = times_ms(lambda: tower(pictures), repeats, device)
    print(f"  {'ViT-B/32 image tower, forward':<32}{summary(readings, len(pictures))}")
    return float(torch.tensor(readings).median()) / len(pictures)


def main() -> None:
    """Read the sizes and measure every device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--views", default="clip2point-10")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--point-radius", type=float, default=0.02)
    parser.add_argument("--path", choices=["plain", "compiled", "both"], default="both", help="compiled needs Numba and a CPU")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for device in devices():
        measure(device, options)


if __name__ == "__main__":
    main()
