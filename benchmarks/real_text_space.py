"""A point encoder against real CLIP text features: names of classes that it saw, and of two that it never saw.

The targets are given features of names (an .npz with `names` (T,) and `emb` (T, 512), ViT-B/32, prompt "a NAME"), frozen; no picture and no text
tower takes part. Of ModelNet10's ten classes eight are trained on, real clouds with their names (supervised, and said so): those of the split
`report`. The 1,000 of `dev` are named: those of the eight classes among their eight names, those of the two others among their two names,
and all among all ten. Fifteen fixed pairs of unseen classes, each class in three.

Options of ours: the mean of all T names is removed from the features (`--raw` leaves it); `--objects ROOT` adds the mini-world's ShapeNet models
under their real names, without the unseen classes and what may hold them; "handicap" lowers the cosines of the seen names among all ten by the
largest number at which the training clouds lose at most 5 points of accuracy, so no cloud of `dev` is looked at.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from timing import hardware
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from clip2x.data.augmentations import Jitter, RotateAboutUp, Scale, augment
from clip2x.data.readers import open_dataset
from clip2x.encoders.points import PointTransformer
from clip2x.evaluation.class_embeddings import centred
from clip2x.losses import TripletLoss
from clip2x.optim import decayed_and_not, warmup_cosine

NAME_OF = {"monitor": "computer monitor", "night stand": "nightstand"}  # among the given names
OBJECT_NAMES = {  # ShapeNet's class -> a given name; classes without one are left out
    "airplane": "airplane", "ashcan": "trash can", "bag": "handbag", "bathtub": "bathtub", "bed": "bed", "bench": "bench", "bookshelf": "bookcase",
    "bottle": "bottle", "bowl": "bowl", "bus": "bus", "cabinet": "cabinet", "car": "car", "chair": "chair", "clock": "clock",
    "display": "computer monitor", "guitar": "guitar", "jar": "jar", "lamp": "lamp", "laptop": "laptop computer", "motorcycle": "motorcycle",
    "mug": "mug", "piano": "piano", "pillow": "pillow", "sofa": "sofa", "table": "table", "vessel": "ship",
}
HOLDS = {"cabinet": {"dresser", "night stand"}, "table": {"desk"}, "display": {"monitor"}}  # what a class of ShapeNet may hold besides
AUGMENTATIONS = (RotateAboutUp(180), Scale(0.8, 1.25, per_axis=True), Jitter(0.01, 0.05))
NUM_POINTS, BATCH = 512, 128
HEADINGS = (0.0, 90.0, 180.0, 270.0)  # of every named cloud; the embeddings are averaged


def pairs(names: list[str]) -> list[tuple[str, str]]:
    """Fifteen pairs in which each of ten names stands three times: neighbours in the alphabet, and those five apart."""
    return [(names[first], names[(first + 1) % 10]) for first in range(10)] + [(names[first], names[first + 5]) for first in range(5)]


def clouds_of(name: str, root: Path, limit: int | None = None) -> tuple[Tensor, list[str]]:
    """Read a split: (N, 1024, 3), and the class name of each cloud."""
    data = open_dataset(name, root, num_points=1024, limit=limit)
    items = [data[index] for index in tqdm(range(len(data)), desc=name, leave=False)]
    return torch.stack([item["points"] for item in items]), [data.class_names[item["label"]] for item in items]


def embed(encoder: PointTransformer, points: Tensor) -> Tensor:
    """Embed clouds (N, 1024, 3) by the mean of four headings."""
    encoder.eval()
    found = []
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=BF16):
        for part in points[:, :NUM_POINTS].split(256):
            turned = []
            for heading in HEADINGS:
                angle = torch.tensor(heading).deg2rad()
                matrix = torch.tensor([[angle.cos(), 0, -angle.sin()], [0, 1, 0], [angle.sin(), 0, angle.cos()]])
                turned.append(functional.normalize(encoder(part @ matrix).float(), dim=-1))
            found.append(functional.normalize(torch.stack(turned).mean(dim=0), dim=-1))
    return torch.cat(found)


def train(points: Tensor, texts: Tensor, ids: Tensor, steps: int, seed: int) -> PointTransformer:
    """Train with the text term alone; classes come equally often."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder, loss = PointTransformer(texts.shape[1], size="tiny"), TripletLoss(1.0, 0.0, learnable=True)
    optimizer = torch.optim.AdamW(decayed_and_not([*encoder.parameters(), *loss.parameters()]), lr=1e-3, weight_decay=0.05)
    schedule = warmup_cosine(optimizer, steps, steps // 20)
    weights = (1.0 / ids.bincount().clamp(min=1))[ids].numpy().astype(np.float64)
    for _ in tqdm(range(steps), leave=False):
        chosen = rng.choice(len(points), BATCH, p=weights / weights.sum())
        kept = rng.permutation(points.shape[1])[:NUM_POINTS]
        batch = torch.from_numpy(np.stack([augment(points[index].numpy()[kept], AUGMENTATIONS, rng) for index in chosen]))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=BF16):
            features = encoder(batch)
        terms = loss(functional.normalize(features.float(), dim=-1), texts[ids[chosen]], None, ids[chosen])
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        schedule.step()
    return encoder


def handicap(cosines: Tensor, labels: Tensor, seen: Tensor, most: float = 0.05) -> float:
    """Find the largest number that can be taken off the seen names while at most `most` of these clouds are lost."""
    before = float((cosines.argmax(dim=1) == labels).float().mean())
    best = 0.0
    for number in np.linspace(0.0, 1.0, 201):
        if float(((cosines - number * seen).argmax(dim=1) == labels).float().mean()) >= before - most:
            best = float(number)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="holds modelnet10_hdf5_1024")
    parser.add_argument("--texts", type=Path, required=True, help=".npz of names and their features")
    parser.add_argument("--objects", type=Path, help="a mini-world whose ShapeNet models are added")
    parser.add_argument("--raw", action="store_true", help="keep the mean of all names")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=15, help="only the first ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON of all figures")
    options = parser.parse_args()
    with np.load(options.texts) as file:
        features, given = torch.from_numpy(file["emb"].astype(np.float32)), [str(name) for name in file["names"]]
    texts = functional.normalize(features, dim=-1)
    if not options.raw:
        texts = centred(texts, texts.mean(dim=0))
    known = {name: position for position, name in reversed(list(enumerate(given)))}
    real, real_names = clouds_of("modelnet10/hdf5_1024/report", options.root)
    test, test_names = clouds_of("modelnet10/hdf5_1024/dev", options.root)
    names = sorted(set(real_names))
    ten = torch.tensor([known[NAME_OF.get(name, name)] for name in names])
    objects, object_names = clouds_of("shapenet/pc/train", options.objects) if options.objects else (torch.empty(0, 1024, 3), [])
    rows = []
    for unseen in pairs(names)[: options.pairs]:
        start = time.perf_counter()
        kept_real = [place for place, name in enumerate(real_names) if name not in unseen]
        kept_objects = [place for place, name in enumerate(object_names)
                        if name in OBJECT_NAMES and not ({name} | HOLDS.get(name, set())) & set(unseen)]
        points = torch.cat([real[kept_real], objects[kept_objects]])
        labels = [known[NAME_OF.get(real_names[place], real_names[place])] for place in kept_real]
        labels += [known[OBJECT_NAMES[object_names[place]]] for place in kept_objects]
        encoder = train(points, texts, torch.tensor(labels), options.steps, options.seed)
        cosines, truth = embed(encoder, test) @ texts[ten].T, torch.tensor([names.index(name) for name in test_names])
        apart = torch.tensor([names.index(name) for name in unseen])
        is_unseen = torch.isin(truth, apart)
        seen = torch.tensor([float(name not in unseen) for name in names])
        some = kept_real[:: max(1, len(kept_real) // 600)]
        off = handicap(embed(encoder, real[some]) @ texts[ten].T, torch.tensor([names.index(real_names[place]) for place in some]), seen)

        def share(scores: Tensor, chosen: Tensor, truth: Tensor = truth) -> float:
            return 100 * float((scores[chosen].argmax(dim=1) == truth[chosen]).float().mean())

        row = {"unseen": list(unseen), "seen_of_8": share(cosines - 10 * (1 - seen), ~is_unseen),
               "unseen_of_2": share(cosines - 10 * seen, is_unseen),
               "unseen_of_10": share(cosines, is_unseen), "unseen_of_10_handicap": share(cosines - off * seen, is_unseen),
               "seen_of_10_handicap": share(cosines - off * seen, ~is_unseen), "clouds": int(is_unseen.sum()),
               "seconds": time.perf_counter() - start}
        rows.append(row)
        print("  ".join(f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()), flush=True)
    rng = np.random.default_rng(0)
    for key in [key for key in rows[0] if key not in ("unseen", "clouds", "seconds")]:
        values = np.array([row[key] for row in rows])
        low, high = np.percentile(rng.choice(values, (1000, len(values))).mean(axis=1), [2.5, 97.5])
        print(f"{key}: mean {values.mean():.1f} (95 % {low:.1f}-{high:.1f} over {len(values)} pairs), lowest {values.min():.1f}")
    print(f"{options.steps} steps of {BATCH}, {NUM_POINTS} points, mean of names {'kept' if options.raw else 'removed'}, "
          f"{len(set(object_names) & set(OBJECT_NAMES))} classes of generated objects, seed {options.seed}; {hardware('cpu')}")
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1))


BF16 = bool(torch.cpu._is_avx512_bf16_supported())

if __name__ == "__main__":
    main()
