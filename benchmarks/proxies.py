"""How long it takes to mine triplets end to end, beside reading and decoding the frames alone: with boxes from a file and with boxes that CLIP names.

The loop is the real one (Trainer.predict: reading, detecting, lifting, cropping, storing) in one process, on the mini-world. A full-size detector
has no weights here; `flops.py` counts its operations.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from results import Results, results_option
from timing import in_turns_ms
from under_trainer import WARM_UP, Stage, run

from clip2x.data.datamodule import Clip2xDataModule
from clip2x.data.images import read_image
from clip2x.data.triplets.embeddings import CropEncoder
from clip2x.data.triplets.index import read_index
from clip2x.data.triplets.shard import Shard
from clip2x.data.triplets.store import crop_image
from clip2x.encoders.clip import ClipTowers
from clip2x.modules.proxy_collection import ProxyCollection
from clip2x.proxies.detectors import CocoDetections, Detector, Picture, ProposalsNamedByClip
from clip2x.proxies.suppression import Found, Suppression

FRAMES = {"nuScenes": "nuscenes/v1.0-mini/mini_train", "SUN RGB-D": "sunrgbd/objects10/train"}
DECODING = "reading frame and pictures alone"
TOWER = "the image tower alone on as many pictures"
BYTES = "reading as many bytes from a file"


class BoxesOfOneName(CocoDetections):
    """The mini-world's boxes, which have no names, all under the first concept: detection costs nothing, and everything is lifted."""

    def forward(self, pictures: Sequence[Picture]) -> list[Found]:
        return [replace(found, detections=replace(found.detections, concept_id=np.zeros_like(found.detections.concept_id)))
                for found in super().forward(pictures)]


def detectors(root: Path) -> dict[str, Callable[[], Detector]]:
    """Boxes from a file, and the mini profile's detector with random weights."""
    files = sorted(map(str, (root / "detections").glob("*_boxes.json")))

    def named() -> Detector:
        boxes = CocoDetections(files, categories="ignored", suppression=Suppression(min_side_px=14.0))
        return ProposalsNamedByClip(boxes, ClipTowers("clip2x-small", random_weights=True), background="kept", shape="square",
                                    suppression=Suppression(min_score=0.0, min_side_px=14.0))

    return {"boxes from a file": lambda: BoxesOfOneName(files, categories="ignored", suppression=Suppression(min_side_px=14.0)),
            "boxes named by the small CLIP": named}


def collection_stage(root: Path, frames: str, limit: int, detector: Callable[[], Detector], store: Path) -> Stage:
    def make(folder: Path) -> tuple[ProxyCollection, Clip2xDataModule]:
        data = Clip2xDataModule(root, frames=[frames], batch_size=1, limit=limit + WARM_UP, cache=folder / "cache")
        return ProxyCollection(detector(), store, vocabulary="mini"), data

    def decode(module: ProxyCollection, batch: Any, context: object) -> None:
        frames, asked = module.frames, module.frames.with_pixels
        frames.with_pixels = True
        frames[[item.index for item in batch]]
        frames.with_pixels = asked

    return Stage(make, decode, lambda module: [], 1, loop="predict")


class FirstCrops(Shard):
    """A shard that ends after some crops, as far as embedding them looks at it."""

    number: int | None = None

    def __init__(self, path: Path, number: int) -> None:
        super().__init__(path)  # which looks at the whole length
        self.number = number

    def __len__(self) -> int:
        whole = super().__len__()
        return whole if self.number is None else min(self.number, whole)


def measure_crops(store: Path, options: argparse.Namespace, results: Results) -> None:
    """Embed the first crops of a store."""
    clip = ClipTowers(options.model, random_weights=True)
    shard = FirstCrops(sorted(store.glob("shard-*.h5"))[0], options.crops)
    encoder = CropEncoder.of(clip, batch_size=32)
    pictures = torch.rand(min(32, len(shard)), 3, clip.image_size, clip.image_size)

    def tower() -> None:
        with torch.no_grad():
            for first in range(0, len(shard), 32):
                clip.encode_image(pictures[: len(shard) - first])

    found = in_turns_ms({"all": lambda: encoder._embeds(shard), "tower": tower}, options.repeats, warm_up=1)
    decoded = in_turns_ms({"all": lambda: [crop_image(shard.crop(row), clip.image_size, "crop") for row in range(len(shard))],
                           "bytes": lambda: [shard.crop(row) for row in range(len(shard))]}, 3, warm_up=1)
    results.add("decoding a crop", f"brought to {clip.image_size} px, {len(shard)} crops of the mini-world", decoded["all"] / len(shard), "ms/crop",
                floor=decoded["bytes"] / len(shard), floor_is="reading the bytes from the shard")
    results.add("embedding crops", f"{options.model}, float32, batch 32, {len(shard)} crops", found["all"] / len(shard), "ms/crop",
                floor=found["tower"] / len(shard), floor_is=TOWER)


def measure_picture(root: Path, folder: Path, results: Results) -> None:
    """Decode a picture of nuScenes' size; the mini-world's are a quarter as wide, so one is enlarged."""
    source = sorted((root / "nuscenes" / "samples" / "CAM_FRONT").glob("*.jpg"))[0]
    path = folder / "camera.jpg"
    with Image.open(source) as picture:
        picture.resize((1600, 900), Image.Resampling.BICUBIC).save(path, quality=90)
    found = in_turns_ms({"all": lambda: read_image(path), "bytes": path.read_bytes}, 10)
    results.add("decoding a camera picture", f"1,600 x 900 px, enlarged from the mini-world's, {path.stat().st_size / 1e3:.0f} kB", found["all"],
                "ms/picture", floor=found["bytes"], floor_is=BYTES)


def main(arguments: Sequence[str] | None = None) -> None:
    """Mine some frames of each kind with each detector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("runs/mini/miniworld"))
    parser.add_argument("--frames", type=int, default=20, help="of each data set")
    parser.add_argument("--model", default="ViT-B-32-quickgelu", help="that embeds the crops")
    parser.add_argument("--crops", type=int, default=64, help="that are embedded")
    parser.add_argument("--repeats", type=int, default=2, help="of embedding the crops")
    results_option(parser)
    options = parser.parse_args(arguments)
    results = Results("proxies", options.results)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, detector in detectors(options.root).items():
            for kind, frames in FRAMES.items():
                store = folder / f"{kind} {title}"
                timed = run(collection_stage(options.root, frames, options.frames, detector, store), options.frames, "cpu", "32-true")
                index = read_index(store)
                per_frame = index["num_triplets"] / index["num_frames"]
                where = f"{kind} of the mini-world, {index['num_frames']} frames"
                results.add(f"mining a frame, {title}", where, timed.loop, "ms/frame", floor=timed.networks, floor_is=DECODING,
                            note=f"{per_frame:.1f} triplets a frame", memory_mb=timed.memory_mb)
                if per_frame:
                    results.add(f"mining a triplet, {title}", where, timed.loop / per_frame, "ms/triplet", floor=timed.networks / per_frame,
                                floor_is=DECODING)
        measure_crops(folder / "nuScenes boxes from a file", options, results)
        measure_picture(options.root, folder, results)
    results.finish()


if __name__ == "__main__":
    main()
