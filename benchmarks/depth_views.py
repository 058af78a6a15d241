"""How long a depth view takes, plain and compiled, beside the floor of writing its pixels and the ViT-B/32 pass after it; other projections."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import open_clip
import torch
from results import Results, Target, results_option
from timing import devices, in_turns_ms, peak_memory_mb, reset_peak_memory, times_ms

from clip2x import depth as depth_module
from clip2x.density import density_radius
from clip2x.depth import DepthViews, compiled_kernels, grey_from_depth, rasterize, view_preset
from clip2x.geometry import unit_sphere
from clip2x.projections import PointClipV2Views, PointClipViews

TARGET_MS, TARGET_SHARE = Target(0.10, "value"), Target(0.02, "share")
PIXELS = "writing the pixels once"
TOWER = "ViT-B/32 on as many pictures"
GPU_BATCH = 512  # pictures


def clouds(batch: int, points: int, device: str) -> torch.Tensor:
    """Clouds of three boxes each, in the unit sphere, (B, N, 3)."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(batch, 3, 1, 3, generator=generator)
    boxes = (torch.rand(batch, 3, -(-points // 3), 3, generator=generator) - 0.5) * corner
    return unit_sphere(boxes.flatten(1, 2)[:, :points]).to(device)


def measure(device: str, options: argparse.Namespace, results: Results) -> None:
    """Add the rows of one device."""
    points = clouds(options.batch, options.points, device)
    cameras = [value.expand(options.batch, -1).to(device) for value in view_preset(options.views)]
    num_views, size = cameras[0].numel(), options.image_size
    sizes = {"image_size": size, "point_radius": options.point_radius}
    buffer, depth = torch.empty(num_views, size, size, device=device), rasterize(points, *cameras, **sizes)
    wanted = points.clone().requires_grad_()
    draw, draw_dense = DepthViews(options.views, size, options.point_radius), DepthViews(options.views, size, "density")
    drawings = {
        "rasterize": lambda: rasterize(points, *cameras, **sizes),
        "rasterize, gradient and backward pass": lambda: rasterize(wanted, *cameras, **sizes).sum().backward(),
        "grey_from_depth": lambda: grey_from_depth(depth),
        "DepthViews (both)": lambda: draw(points),
        "DepthViews, radius by density": lambda: draw_dense(points),
    }
    found = in_turns_ms({PIXELS: lambda: buffer.fill_(-1), "density_radius": lambda: density_radius(points)}, options.repeats, device)
    compiled = device == "cpu" and compiled_kernels() is not None
    for depth_module.COMPILED in ((False, True) if compiled else (False,)):
        names = {f"{name}, compiled" if depth_module.COMPILED else name: drawing for name, drawing in drawings.items()}
        found |= in_turns_ms(names, options.repeats, device)
    depth_module.COMPILED = None
    quickest = "rasterize, compiled" if compiled else "rasterize"
    floor = found.pop(PIXELS) / num_views
    tower = float(np.median(measure_tower(device, options.tower_batch, "float32", max(3, options.repeats // 4)))) / options.tower_batch
    where = f"batch {options.batch}, {options.points:,} points, {options.views}, {size} px, radius {options.point_radius}"
    official = (options.batch, options.points, size) == (8, 1024, 224)
    for name, readings in found.items():
        share = float(np.median(readings)) / num_views / tower, f"ViT-B/32 in float32, batch {options.tower_batch}"
        results.add(name, where, readings / num_views, "ms/view", floor=floor, floor_is=PIXELS, share=share, device=device,
                    target=TARGET_MS if name == quickest and device == "cpu" and official else None)
    others = {"PointCLIP projection": PointClipViews(size), "PointCLIP projection, few-shot": PointClipViews(size, views="few_shot"),
              "PointCLIP V2 projection": PointClipV2Views(size)}
    for name, other in others.items():
        readings = times_ms(lambda other=other: other(points), options.repeats, device)
        results.add(name, f"batch {options.batch}, {options.points:,} points, {size} px", readings / options.batch / other.num_views, "ms/view",
                    floor=floor, floor_is=PIXELS, device=device)


@torch.no_grad()
def measure_tower(device: str, batch: int, dtype: str, repeats: int) -> np.ndarray:
    """Time the image tower that looks at the views; random weights, 224 px; milliseconds of a batch."""
    tower = open_clip.create_model("ViT-B-32", pretrained=None).visual.eval().to(device)
    pictures = torch.rand(batch, 3, 224, 224, device=device)

    def work() -> torch.Tensor:
        with torch.autocast(device, getattr(torch, dtype), enabled=dtype != "float32"):
            return tower(pictures)

    return times_ms(work, repeats, device)


def measure_share(device: str, pictures: int, results: Results, repeats: int) -> None:
    """Compare drawing as many views as the tower takes with the tower in bfloat16: what was asked of a GPU."""
    cameras = [value.to(device) for value in view_preset("clip2point-10")]
    points = clouds(-(-pictures // len(cameras[0])), 1024, device)
    cameras = [value.expand(len(points), -1) for value in cameras]
    buffer = torch.empty(cameras[0].numel(), 224, 224, device=device)
    reset_peak_memory(device)
    readings = times_ms(lambda: rasterize(points, *cameras), repeats, device) / cameras[0].numel()
    memory = peak_memory_mb(device)
    tower = measure_tower(device, pictures, "bfloat16", repeats) / pictures
    results.add("rasterize beside the tower", f"{pictures} pictures, 1,024 points, 224 px", readings, "ms/view", device=device, memory_mb=memory,
                floor=times_ms(lambda: buffer.fill_(-1), repeats, device) / cameras[0].numel(), floor_is=PIXELS,
                share=(float(np.median(readings) / np.median(tower)), f"{TOWER}, bfloat16"), target=TARGET_SHARE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the sizes and measure every device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--views", default="clip2point-10")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--point-radius", type=float, default=0.02)
    parser.add_argument("--tower-batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--smoke", action="store_true", help="run what is meant for a GPU on the CPU, tiny")
    results_option(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    results = Results("depth_views", options.results)
    for device in devices():
        measure(device, options, results)
    if "cuda" in devices():
        measure_share("cuda", GPU_BATCH, results, options.repeats)
    elif options.smoke:
        measure_share("cpu", 10, results, 1)
    else:
        results.not_run("rasterize beside the tower", f"{GPU_BATCH} pictures, 1,024 points, 224 px", "ms/view", "no GPU was at hand",
                        floor_is=PIXELS, target=TARGET_SHARE)
    results.finish()


if __name__ == "__main__":
    main()
