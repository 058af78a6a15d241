"""Triplet stores, and what is kept of features and embeddings: damaged ones are refused by name or made again, never used."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Subject
from torch import Tensor, nn
from triplet_frames import ABOUT, make_frame, write_store

from clip2x.cloud_index import index_clouds
from clip2x.data.feature_store import FeatureStore
from clip2x.data.triplets.embeddings import CropEncoder, TripletEmbeddings
from clip2x.data.triplets.index import ids_by_name
from clip2x.data.triplets.store import TripletStore
from clip2x.data.triplets.tools import embed_proxies
from clip2x.data.triplets.writer import TripletWriter
from clip2x.errors import BadFileError, CheckpointMismatchError, DataNotFoundError, InputError
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.evaluation.view_features import ViewFeatureCache
from clip2x.predict import Recognizer

Build = Callable[[Path], Subject]
FRAMES = [make_frame(number) for number in range(5)]


def encode(images: Tensor) -> Tensor:
    return images.flatten(1)[:, :4] + 1


def embedded_store(root: Path) -> Path:
    write_store(root / "store", FRAMES, shard_frames=3)
    (root.parent / "secret").mkdir(exist_ok=True)
    shutil.copy(root / "store" / "shard-0000-000000.h5", root.parent / "secret" / "outside.h5")
    embed_proxies(root / "store", CropEncoder(encode, "towers", 4, 8, num_threads=1))
    return root / "store"


def store(root: Path) -> Subject:
    """A finished store, all of it read: what is refused is named, and what the deep check accepts is what was written."""
    folder = embedded_store(root)
    content = TripletStore(folder).content_sha256()
    about = next((folder / "embeddings").iterdir())

    def read() -> Any:
        kept = TripletStore(folder)
        problems = kept.verify(deep=True)
        ids_by_name(kept.index.get("vocabulary"))
        embeds = TripletEmbeddings(kept, "towers")
        found = [kept[place].text_id for place in range(len(kept))], [embeds[place] for place in range(len(kept))], list(kept.frames())
        columns = kept.text_ids, kept.scores, kept.boxes_px, kept.num_points, kept.frame_numbers, kept.frame_data
        return problems, kept.content_sha256(), found, columns

    shard = folder / "shard-0000-000000.h5"
    files = [folder / "index.json", shard, shard, next(about.glob("*.npy"))]
    return Subject(files, read, (BadFileError, DataNotFoundError, InputError), named=str(folder),
                   unchanged=lambda value: bool(value[0]) or value[1] == content)


def resumed_store(root: Path) -> Subject:
    """A growing store that is gone on with; its files are put back before each change."""
    folder = root / "store"
    writer = TripletWriter(folder, ABOUT, shard_frames=3)
    for frame in FRAMES[:4]:
        writer.add(frame)
    writer._unlock()
    good = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files = [folder / "collection.json", folder / "shard-0000-000000.json", folder / "shard-0000-000000.h5", next((folder / "pending").iterdir())]

    def put_back() -> None:
        changed = {path: path.read_bytes() for path in files}
        shutil.rmtree(folder)
        for name, content in good.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(changed.get(folder / name, content))

    def read() -> Any:
        with TripletWriter(folder, ABOUT, shard_frames=3) as again:
            for frame in FRAMES:
                again.add(frame)
        return TripletStore(folder).num_frames

    def forget() -> None:
        if all(path.exists() for path in files):
            put_back()
        else:
            for path in files:
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    path.write_bytes(good[path.relative_to(folder)])
            put_back()

    return Subject(files, read, (BadFileError, DataNotFoundError, InputError), forget=forget, named=str(folder))


def embeddings_again(root: Path) -> Subject:
    """embed-proxies on a store with damaged descriptions of embeddings."""
    folder = embedded_store(root)
    about = next((folder / "embeddings").iterdir())
    files = [next(about.glob("shard-*.json")), about / "about.json", folder / "shard-0000-000001.json"]
    return Subject(files, lambda: embed_proxies(folder, CropEncoder(encode, "towers", 4, 8, num_threads=1)),
                   (BadFileError, DataNotFoundError, InputError), named=str(folder))


def feature_store(renamed: bool) -> Build:
    """Files of features under their own hash: a changed file is found by its name; one that was renamed to its new hash is judged by its content."""
    def build(root: Path) -> Subject:
        kept = FeatureStore(root, clip_id="a/b", image_size=8, embed_dim=4, num_views=2)
        kept.add_features(["p0", "p1"], torch.arange(16.0).view(2, 2, 4))
        kept.add_pictures({"f0": "p0", "f1": "p1"})
        good = {path: path.read_bytes() for path in [*kept.folder.glob("*.safetensors"), *kept.pictures.glob("*.json")]}
        features, hashes = (root / f"{name}.{ending}" for name, ending in (("features", "safetensors"), ("pictures", "json")))
        contents = list(good.values())
        features.write_bytes(contents[0])
        hashes.write_bytes(contents[1])

        def forget() -> None:
            for (path, content), source in zip(good.items(), (features, hashes), strict=True):
                shutil.rmtree(path.parent)
                path.parent.mkdir()
                changed = source.read_bytes()
                name = hashlib.sha256(changed).hexdigest() + path.suffix if renamed and changed != content else path.name
                (path.parent / name).write_bytes(changed)

        def read() -> Any:
            notes = kept.remove_damaged()
            return notes, kept.known_pictures(), kept.rows()

        def unchanged(value: Any) -> bool:
            notes, known, rows = value
            return renamed or (set(rows) in (set(), {"p0", "p1"}) and bool(notes) == (not rows) and known in ({}, {"f0": "p0", "f1": "p1"}))

        return Subject([features, hashes], read, forget=forget, unchanged=unchanged, named=str(root))

    return build


class Towers(nn.Module):
    def forward(self, points: Tensor, num_real: Tensor | None = None) -> list[Tensor]:
        return [points[:, :3].clone(), points.mean(dim=1, keepdim=True) * 2]


def view_features(root: Path) -> Subject:
    clouds = torch.arange(60.0).view(2, 10, 3)
    expected = Towers()(clouds)

    def read() -> Any:
        return ViewFeatureCache(Towers(), root / "features", {"towers": "x"}, nullcontext).features(clouds)

    read()
    file = next((root / "features").rglob("*.safetensors"))
    return Subject([file], read, (BadFileError, CheckpointMismatchError),
                   unchanged=lambda value: all(torch.equal(own, right) for own, right in zip(value, expected, strict=True)))


class Texts:
    id, trained_words = "texts", None

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[float(len(text)), float(ord(text[-1])), 1.0] for text in texts])


def kept_names(root: Path) -> Subject:
    def read() -> Tensor:
        return class_embeddings(Texts(), ["chair", "bed"], ["a {}", "the {}!"], cache=root / "names")

    expected = read()
    return Subject([next((root / "names").iterdir())], read, (), unchanged=lambda value: torch.equal(value, expected))


class Means(Recognizer):
    """Embeds a cloud by its mean."""

    num_points = 8

    def __init__(self) -> None:
        pass

    def embed(self, points: Tensor) -> Tensor:
        return nn.functional.normalize(points.mean(dim=1) + torch.tensor([1.0, 2.0, 3.0]), dim=1)


def cloud_index(root: Path) -> Subject:
    paths = [root / "clouds" / f"{number}.npy" for number in range(3)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        np.save(path, np.random.default_rng(number).normal(size=(9, 3)))

    def read() -> Any:
        return index_clouds(paths, Means(), {"clip": "x"}, root / "index", up="auto").embeds

    expected = read()
    file = next((root / "index").iterdir())
    good = file.read_bytes()
    source = root / "kept.safetensors"
    source.write_bytes(good)
    return Subject([source], read, (BadFileError,), forget=lambda: file.write_bytes(source.read_bytes()), named=file.name,
                   unchanged=lambda value: torch.equal(value, expected))


READERS: dict[str, Build] = {
    "triplet store": store, "triplet store resumed": resumed_store, "embed-proxies again": embeddings_again, "image features": feature_store(False),
    "image features renamed": feature_store(True), "view features": view_features, "class embeddings": kept_names, "cloud index": cloud_index,
}
