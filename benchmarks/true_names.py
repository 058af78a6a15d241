"""An upper bound for the names of mined triplets: the mini profile's class-agnostic boxes, named by the annotations and not by CLIP.

Each box keeps its errors and gets the name of the annotated object whose rectangle in the picture overlaps it most (intersection over union of at
least one half); boxes of nothing, and of objects whose name the vocabulary lacks, are dropped. The files go into `make collect-proxies
DETECTIONS=... VOCABULARY=mini STORE=...`; what is trained on that store has seen labels, and is no zero-shot method.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from clip2x.data.readers import open_frames
from clip2x.evaluation.annotated_objects import ObjectNames, annotated_objects, plain_words
from clip2x.geometry import box_iou
from clip2x.proxies.vocabulary import load_vocabulary
from clip2x.storage import atomic_path

OVERLAP = 0.5
SETS = (("nuscenes_boxes.json", "nuscenes/v1.0-mini/mini_train"), ("sunrgbd_boxes.json", "sunrgbd/objects10/train"))


def named(boxes: dict[str, Any], frames_name: str, root: Path, concepts: list[frozenset[str]]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Name the boxes of a COCO file; give its annotations, and how many boxes were kept or dropped."""
    frames = open_frames(frames_name, root)
    names, counts = ObjectNames(frames.manifest, frames_name.split("/")[1]), Counter[str]()
    by_file: dict[str, list[dict[str, Any]]] = {}
    files = {image["id"]: image["file_name"] for image in boxes["images"]}
    for annotation in boxes["annotations"]:
        by_file.setdefault(files[annotation["image_id"]], []).append(annotation)
    kept: list[dict[str, Any]] = []
    for index in tqdm(range(len(frames)), desc=frames_name, unit="frame"):
        frame = frames[index]
        objects = annotated_objects(frame, names)
        for camera in frame.cameras:
            seen = [(item, item.rectangles[camera.name]) for item in objects if camera.name in item.rectangles]
            for annotation in next((found for file, found in by_file.items() if str(camera.file).endswith(file)), []):
                left, top, width, height = annotation["bbox"]
                overlaps = box_iou(np.array([[left, top, left + width, top + height]]), np.array([box for _, box in seen]).reshape(-1, 4))[0]
                best = int(overlaps.argmax()) if len(overlaps) else -1
                if best < 0 or overlaps[best] < OVERLAP:
                    counts["boxes of nothing"] += 1
                    continue
                concept = next((place for place, words in enumerate(concepts) if words & seen[best][0].names), None)
                counts["named" if concept is not None else f"no name for {seen[best][0].name}"] += 1
                if concept is not None:
                    kept.append({**annotation, "category_id": concept})
    return kept, counts


def main() -> None:
    """Write a COCO file for each of the profile's files of boxes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="a mini-world")
    parser.add_argument("--output", type=Path, required=True, help="folder for the files")
    args = parser.parse_args()
    vocabulary = load_vocabulary("mini")
    concepts = [plain_words(concept) for concept in vocabulary.concepts]
    categories = [{"id": place, "name": concept[0]} for place, concept in enumerate(vocabulary.concepts)]
    for file, frames_name in SETS:
        boxes = json.loads((args.root / "detections" / file).read_text())
        annotations, counts = named(boxes, frames_name, args.root, concepts)
        about = {**boxes["info"], "description": "boxes of the mini-world, named by its annotations: an upper bound, no detector"}
        with atomic_path(args.output / file) as temporary:
            temporary.write_text(json.dumps({**boxes, "info": about, "annotations": annotations, "categories": categories}))
        print(f"{args.output / file}: {dict(counts.most_common())}")


if __name__ == "__main__":
    main()
