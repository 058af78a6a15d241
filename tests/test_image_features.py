"""Features of rendered pictures kept on disk: equal to direct encoding, computed once, never of other pictures, another CLIP or a damaged file."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from shapenet_tree import write_world
from torch import Tensor
from torch.utils.data import DataLoader

from clip2x.data.feature_store import ImageFeatures
from clip2x.data.image_features import cache_image_features
from clip2x.data.samplers import SampleKey
from clip2x.data.shapenet_pairs import ShapeNetPairs
from clip2x.errors import BadFileError, DataNotFoundError, InputError

SIZE, WIDTH = 12, 6


class Tower:
    """A frozen tower of random weights that counts the pictures it sees, and may fail after some calls."""

    def __init__(self, seed: int = 0, fail_at: int | None = None) -> None:
        self.weight = torch.randn(3 * SIZE * SIZE, WIDTH, generator=torch.Generator().manual_seed(seed))
        self.calls, self.pictures, self.fail_at = 0, 0, fail_at

    def __call__(self, images: Tensor) -> Tensor:
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        self.calls, self.pictures = self.calls + 1, self.pictures + len(images)
        return images.flatten(1) @ self.weight


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Five models with ten different pictures each."""
    root = write_world(tmp_path / "Daten")
    for number, path in enumerate(sorted((root / "shapenet" / "rendering").rglob("*.png"))):
        Image.fromarray(np.random.default_rng(number).integers(256, size=(SIZE, SIZE, 3), dtype=np.uint8)).save(path)
    return root


def open_pairs(root: Path, **options: Any) -> ShapeNetPairs:
    return ShapeNetPairs(**{"root": root, "seed": 3, "split": "train", "num_points": 16, "image_size": SIZE, "cache": root / "points", **options})


def cached(pairs: ShapeNetPairs, encode: Callable[[Tensor], Tensor], **options: Any) -> ImageFeatures:
    folder = pairs.folder.parent / "features"
    return cache_image_features(pairs, encode, **{"clip_id": "small/sha256:00", "embed_dim": WIDTH, "image_size": SIZE, "folder": folder, "chunk": 2,
                                                  "batch_size": 25, **options})


def stored(world: Path) -> list[Path]:
    return sorted((world / "features").rglob("*.safetensors"))


def picture(world: Path, model: str = "02691156_a1", view: int = 0) -> Path:
    return world / "shapenet" / "rendering" / model / f"{view}.png"


def all_features(features: ImageFeatures) -> Tensor:
    return torch.stack([torch.stack([features[position, view] for view in range(10)]) for position in range(len(features))])


def test_features_equal_direct_encoding(world: Path) -> None:
    pairs, tower = open_pairs(world), Tower()
    state = torch.get_rng_state()
    features = cached(pairs, tower)
    assert torch.equal(torch.get_rng_state(), state), "a run that encodes draws the same numbers as one that finds all there"
    assert tower.pictures == 50 and features.num_encoded == len(features) == 5 and features.notes == []
    for position in range(5):
        for view in range(10):
            direct = tower(pairs.picture(position, view)[None])[0]
            torch.testing.assert_close(features[position, view], direct, rtol=1e-5, atol=1e-5)
    assert features[0, 0].dtype == torch.float32 and features[0, 0].shape == (WIDTH,)
    for place in ((5, 0), (0, 10), (-1, 0)):
        with pytest.raises(IndexError):
            features[place]
    again = cached(pairs, Tower(fail_at=0))
    assert again.num_encoded == 0 and torch.equal(all_features(again), all_features(features))


def test_draws_are_equal_with_and_without(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, other, tower = open_pairs(world), open_pairs(world), Tower()
    other.image_features = cached(pairs, tower)
    plain = [pairs[SampleKey(index, epoch)] for index in range(5) for epoch in range(3)]
    monkeypatch.setattr("clip2x.data.shapenet_pairs.read_view", lambda *_: pytest.fail("a picture was read"))
    kept = [other[SampleKey(index, epoch)] for index in range(5) for epoch in range(3)]
    for a, b in zip(plain, kept, strict=True):
        assert a.keys() - b.keys() == {"image"} and b.keys() - a.keys() == {"image_features"}
        assert torch.equal(a["points"], b["points"]) and torch.equal(a["distance"], b["distance"])
        assert (a["view"], a["label"], a["index"]) == (b["view"], b["label"], b["index"])
        torch.testing.assert_close(tower(a["image"][None])[0], b["image_features"], rtol=1e-5, atol=1e-5)
    other.image_features = None
    with pytest.raises(pytest.fail.Exception, match="a picture was read"):
        other[0]


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_reader_processes_share_the_files(world: Path, context: str) -> None:
    pairs = open_pairs(world)
    pairs.image_features = cached(pairs, Tower())
    _ = pairs[0]  # a map is open when the processes start
    alone, shared = (list(DataLoader(pairs, batch_size=5, num_workers=workers, multiprocessing_context=context if workers else None))
                     for workers in (0, 1))
    assert alone[0].keys() == shared[0].keys() and alone[0]["image_features"].shape == (5, WIDTH)
    assert torch.equal(alone[0]["image_features"], shared[0]["image_features"])
    sent = pickle.dumps(pairs.image_features)
    assert len(sent) < 3000, "the features themselves are not sent"
    assert torch.equal(all_features(pickle.loads(sent)), all_features(pairs.image_features))


def test_a_killed_run_goes_on_after_its_last_chunk(world: Path) -> None:
    """Chunks of two models in batches of two: the third call is the last chunk's."""
    whole = all_features(cached(open_pairs(world), Tower(), folder=world / "whole"))
    with pytest.raises(KeyboardInterrupt):
        cached(open_pairs(world), Tower(fail_at=2))
    assert len(stored(world)) == 2
    tower = Tower()
    features = cached(open_pairs(world), tower)
    assert (tower.calls, tower.pictures, features.num_encoded) == (1, 10, 1)
    assert torch.equal(all_features(features), whole), "bit for bit"


def test_only_models_with_changed_pictures_are_encoded_again(world: Path) -> None:
    pairs = open_pairs(world)
    before = all_features(cached(pairs, Tower()))
    Image.new("RGB", (SIZE, SIZE), (1, 2, 3)).save(picture(world, view=7))
    tower = Tower()
    after = all_features(cached(pairs, tower))
    assert tower.pictures == 10 and torch.equal(after[1:], before[1:])
    torch.testing.assert_close(after[0, 7], tower(pairs.picture(0, 7)[None])[0], rtol=1e-5, atol=1e-5)
    # a change that keeps size and content length is seen by the time of change; the old content is known still
    content = picture(world, view=3).read_bytes()
    swapped = picture(world, view=4)
    swapped.write_bytes(content)
    assert not torch.equal(all_features(cached(pairs, Tower()))[0, 4], after[0, 4])


def test_touched_but_equal_pictures_are_hashed_once_and_not_encoded(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = open_pairs(world)
    cached(pairs, Tower())
    for view in range(10):
        os.utime(picture(world, view=view), ns=(1, 10**18 + view))
    read: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path), original(path))[1])
    assert cached(pairs, Tower(fail_at=0)).num_encoded == 0
    assert sorted(path for path in read if path.suffix == ".png") == [picture(world, view=view) for view in range(10)]
    read.clear()
    cached(pairs, Tower(fail_at=0))
    assert not [path for path in read if path.suffix == ".png"], "the new times of change are known now"


def test_another_clip_or_split_uses_the_store_as_it_should(world: Path) -> None:
    pairs = open_pairs(world)
    first = cached(pairs, Tower())
    files = stored(world)
    second = cached(pairs, Tower(seed=1), clip_id="small/sha256:01")
    assert not torch.equal(first[0, 0], second[0, 0]) and set(files) < set(stored(world)) and len({path.parent for path in stored(world)}) == 2
    assert torch.equal(all_features(cached(pairs, Tower(fail_at=0))), all_features(first))
    part = open_pairs(world, exclude=["airplane"])
    features = cached(part, Tower(fail_at=0))  # the same pictures: nothing to encode
    assert torch.equal(all_features(features), all_features(first)[2:])
    with pytest.raises(InputError, match="belong to 5 models of another data set or split, not to the 3 of this one"):
        part.image_features = first
    part.image_features = features


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_damaged_files_are_computed_again_with_a_note(world: Path, damage: str) -> None:
    pairs = open_pairs(world)
    whole = all_features(cached(pairs, Tower()))
    path = stored(world)[0]
    content = bytearray(path.read_bytes())
    content[-3] ^= 64
    path.write_bytes({"truncate": content[: len(content) // 2], "flip": content, "empty": b""}[damage])
    notes = next((world / "features" / "pictures").glob("*.json"))
    notes.write_text(notes.read_text()[:-20])
    tower = Tower()
    features = cached(pairs, tower)
    assert features.notes == [f"{path} was damaged: the image features in it are computed again."]
    assert tower.pictures in (10, 20) and torch.equal(all_features(features), whole)
    assert cached(pairs, Tower(fail_at=0)).notes == []


def test_files_that_vanish_while_in_use_are_one_line(world: Path) -> None:
    features = cached(open_pairs(world), Tower())
    for path in stored(world):
        path.unlink()
    with pytest.raises(BadFileError, match=r"safetensors: kept image features cannot be read any more .*start again"):
        features[0, 0]


def test_two_processes_encode_disjoint_shares(world: Path) -> None:
    alone = all_features(cached(open_pairs(world), Tower(), folder=world / "alone"))
    barrier, towers, results = threading.Barrier(2, timeout=20), (Tower(), Tower()), {}

    def run(rank: int) -> None:
        results[rank] = cached(open_pairs(world), towers[rank], rank=rank, world_size=2, barrier=barrier.wait)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [tower.pictures for tower in towers] == [30, 20] and len(stored(world)) == 3
    assert torch.equal(all_features(results[0]), alone) and torch.equal(all_features(results[1]), alone)
    with pytest.raises(InputError, match="several processes need a barrier"):
        cached(open_pairs(world), Tower(), world_size=2)
    with pytest.raises(BadFileError, match=r"03001627-c-1: its image features are not in .*all processes must share that folder"):
        cached(open_pairs(world), Tower(), world_size=2, barrier=lambda: None, folder=world / "not shared")


@pytest.mark.parametrize("threads", [1, 4])
def test_pictures_that_cannot_be_used_are_named(world: Path, threads: int) -> None:
    pairs, path = open_pairs(world), picture(world, "03001627_c0", 9)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(BadFileError, match=r"03001627_c0/9.png: not a whole picture"):
        cached(pairs, Tower(), num_threads=threads)
    path.unlink()
    with pytest.raises(DataNotFoundError, match=r"03001627_c0/9.png is gone"):
        cached(pairs, Tower(), num_threads=threads)


def test_the_tower_must_give_what_was_announced(world: Path) -> None:
    pairs = open_pairs(world)
    with pytest.raises(InputError, match=r"tower small/sha256:00 must give finite features \(20, 7\), got \(20, 6\)"):
        cached(pairs, Tower(), embed_dim=7)
    with pytest.raises(InputError, match="with NaN or infinite values"):
        cached(pairs, lambda images: torch.full((len(images), WIDTH), torch.nan))
    with pytest.raises(InputError, match="this CLIP takes 32 x 32"):
        cached(pairs, Tower(), image_size=32)
    assert not (world / "features").exists()


def test_a_folder_that_cannot_be_written_is_one_line(world: Path) -> None:
    (world / "features").write_text("a file, not a folder")
    with pytest.raises(InputError, match=r"image features cannot be kept in .*; free space there or choose another folder"):
        cached(open_pairs(world), Tower())
