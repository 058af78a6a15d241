"""Stores made of stores, image embeddings of crops, and whether a store is whole."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from triplet_frames import ABOUT, DATA, VOCABULARY, make_frame, same_frame, write_store

from clip2x.data.triplets.dataset import TripletProxies
from clip2x.data.triplets.embeddings import CropEncoder, TripletEmbeddings
from clip2x.data.triplets.store import TripletStore
from clip2x.data.triplets.tools import check_store, embed_proxies, filter_store, merge_stores, verify_store
from clip2x.data.triplets.writer import TripletWriter
from clip2x.encoders.clip import ClipTowers
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.types import FrameTriplets

SIZE, WIDTH = 8, 6


class Tower:
    """A fixed linear tower that counts what it saw and can end the run."""

    def __init__(self, fail_at: int | None = None, seed: int = 0) -> None:
        self.weights = torch.randn(3 * SIZE * SIZE, WIDTH, generator=torch.Generator().manual_seed(seed))
        self.fail_at, self.calls, self.pictures = fail_at, 0, 0

    def __call__(self, images: Tensor) -> Tensor:
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        self.calls += 1
        self.pictures += len(images)
        return images.flatten(1) @ self.weights


def encoder(tower: Callable[[Tensor], Tensor] | None = None, **options: Any) -> CropEncoder:
    settings = {"clip_id": "small/sha256:00", "embed_dim": WIDTH, "image_size": SIZE, "batch_size": 3}
    return CropEncoder(tower or Tower(), **{**settings, **options})


def frames(*numbers: int) -> list[FrameTriplets]:
    return [make_frame(number) for number in numbers]


def embeddings(folder: Path, clip_id: str = "small/sha256:00") -> Tensor:
    found = TripletEmbeddings(TripletStore(folder), clip_id)
    return torch.stack([found[position] for position in range(len(found))])


@pytest.fixture
def store(tmp_path: Path) -> TripletStore:
    return write_store(tmp_path / "store", frames(*range(12)), shard_frames=4)


# image embeddings


def test_embeddings_are_those_of_the_crops(store: TripletStore) -> None:
    tower, before = Tower(), {path: path.read_bytes() for path in store.folder.glob("shard-*")}
    assert embed_proxies(store.folder, encoder(tower)) == 3 and tower.pictures == len(store)
    found = embeddings(store.folder)
    direct = torch.nn.functional.normalize(torch.stack([tower(store.image(position, SIZE)[None])[0] for position in range(len(store))]), dim=1)
    torch.testing.assert_close(found, direct, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(store)), atol=1e-6, rtol=0)
    (kind,) = TripletStore(store.folder).index["embeddings"]
    assert (kind["clip_id"], kind["embed_dim"], kind["image_size"], kind["complete"]) == ("small/sha256:00", WIDTH, SIZE, True)
    assert [(item["shard"], item["shard_sha256"]) for item in kind["files"]] == [(shard["file"], shard["sha256"]) for shard in store.index["shards"]]
    path = store.folder / kind["folder"] / kind["files"][0]["file"]
    assert np.load(path).dtype == np.float16 and np.load(path).shape == (store.index["shards"][0]["triplets"], WIDTH)
    assert verify_store(store.folder, deep=True) == []
    assert {path: path.read_bytes() for path in store.folder.glob("shard-*")} == before, "shards never change"


def test_the_same_pass_and_a_later_one_give_the_same(tmp_path: Path) -> None:
    write_store(tmp_path / "later", frames(*range(7)), shard_frames=3)
    embed_proxies(tmp_path / "later", encoder())
    tower = Tower()
    write_store(tmp_path / "same pass", frames(*range(7)), shard_frames=3, on_shard=encoder(tower).embed_shard)
    assert tower.pictures > 0 and embed_proxies(tmp_path / "same pass", encoder(Tower(fail_at=0))) == 0, "nothing is left to do"
    assert torch.equal(embeddings(tmp_path / "later"), embeddings(tmp_path / "same pass"))
    assert TripletStore(tmp_path / "later").index == TripletStore(tmp_path / "same pass").index
    later, same = ({path.name: path.read_bytes() for path in (tmp_path / name / "embeddings").rglob("*.npy")} for name in ("later", "same pass"))
    assert later == same and len(later) == 3


def test_a_killed_pass_goes_on_after_its_last_shard(store: TripletStore) -> None:
    with pytest.raises(KeyboardInterrupt):
        embed_proxies(store.folder, encoder(Tower(fail_at=1), batch_size=100))
    with pytest.raises(InputError, match="has no image embeddings of 'small/sha256:00'"):
        embeddings(store.folder)
    tower = Tower()
    assert embed_proxies(store.folder, encoder(tower, batch_size=100)) == 2 and tower.calls == 2
    assert len(embeddings(store.folder)) == len(store)


def test_a_growing_store_is_embedded_as_far_as_it_goes(tmp_path: Path) -> None:
    writer = TripletWriter(tmp_path, ABOUT, shard_frames=2)
    for number in range(5):
        writer.add(make_frame(number))
    assert embed_proxies(tmp_path, encoder()) == 2 and len(embeddings(tmp_path)) == len(TripletStore(tmp_path))
    writer.add(make_frame(5))
    writer.close()
    assert TripletStore(tmp_path).index["embeddings"][0]["complete"] is False
    assert embed_proxies(tmp_path, encoder()) == 1 and TripletStore(tmp_path).index["embeddings"][0]["complete"] is True
    assert TripletStore(tmp_path).complete, "another process's index was not overwritten by an older state"


def test_several_processes_share_the_shards(store: TripletStore) -> None:
    shutil.copytree(store.folder, store.folder.parent / "alone")
    embed_proxies(store.folder.parent / "alone", encoder())
    barrier, towers = threading.Barrier(2, timeout=20), (Tower(), Tower())
    threads = [threading.Thread(target=embed_proxies, args=(store.folder, encoder(towers[rank])),
                                kwargs={"rank": rank, "world_size": 2, "barrier": barrier.wait}) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert towers[0].pictures > towers[1].pictures > 0 and towers[0].pictures + towers[1].pictures == len(store)
    assert torch.equal(embeddings(store.folder), embeddings(store.folder.parent / "alone"))
    with pytest.raises(InputError, match="several processes need a barrier"):
        embed_proxies(store.folder, encoder(), world_size=2)


def test_embeddings_belong_to_one_shard_and_one_clip(store: TripletStore) -> None:
    embed_proxies(store.folder, encoder())
    first = embeddings(store.folder)
    assert embed_proxies(store.folder, encoder(Tower(seed=1), clip_id="small/sha256:01")) == 3
    assert not torch.equal(embeddings(store.folder, "small/sha256:01"), first) and torch.equal(embeddings(store.folder), first)
    with pytest.raises(InputError, match=r"no image embeddings of 'other' \(there are: small/sha256:00 \(8 px\), small/sha256:01 \(8 px\)\)"):
        embeddings(store.folder, "other")
    # a shard that is collected anew with other content has no embeddings
    for suffix in (".h5", ".json"):
        (store.folder / "shard-0000-000002").with_suffix(suffix).unlink()
    with TripletWriter(store.folder, ABOUT) as writer:
        for number in range(12):
            writer.add(replace(make_frame(number), scene="another"))
    with pytest.raises(InputError, match="for 2 of 3 shards"):
        embeddings(store.folder)
    assert embed_proxies(store.folder, encoder()) == 1 and verify_store(store.folder, deep=True) == []
    # the same id with two sizes of pictures
    wide = encoder(lambda images: images.flatten(1)[:, :WIDTH], image_size=SIZE + 1)
    embed_proxies(store.folder, wide)
    with pytest.raises(InputError, match="has several kinds of image embeddings of 'small/sha256:00'.*delete all but one folder"):
        embeddings(store.folder)


def test_samples_carry_the_embeddings(store: TripletStore) -> None:
    with pytest.raises(InputError, match=r"has no image embeddings of 'small/sha256:00' \(there are: none\); compute them with embed-proxies"):
        TripletProxies(Path(), 0, store.folder, embeddings="small/sha256:00")
    embed_proxies(store.folder, encoder())
    data, expected = TripletProxies(Path(), 0, store.folder, embeddings="small/sha256:00", min_score=0.5), embeddings(store.folder)
    for index in range(len(data)):
        assert torch.equal(data[index]["image_embed"], expected[data.positions[index]])
    assert torch.equal(pickle.loads(pickle.dumps(data))[1]["image_embed"], data[1]["image_embed"])


def test_damaged_embeddings_are_found_and_mended(store: TripletStore) -> None:
    embed_proxies(store.folder, encoder())
    expected = embeddings(store.folder)
    path = sorted((store.folder / "embeddings").rglob("*.npy"))[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert verify_store(store.folder) == []
    assert verify_store(store.folder, deep=True) == [f"{path}: image embeddings that are missing or changed since they were written; delete the file "
                                                     "and the .json beside it, and run embed-proxies again."]
    path.write_bytes(content[:50])
    assert len(verify_store(store.folder)) == 1
    found = TripletEmbeddings(TripletStore(store.folder), "small/sha256:00")
    with pytest.raises(BadFileError, match="so it is truncated"):
        [found[position] for position in range(len(found))]
    path.unlink()
    with pytest.raises(BadFileError, match=r"a file of image embeddings is missing or damaged; delete the .json beside it and run"):
        embeddings(store.folder)
    assert embed_proxies(store.folder, encoder()) == 1 and torch.equal(embeddings(store.folder), expected)


def test_what_cannot_be_embedded_is_said(store: TripletStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"sha256:00 must give finite features \(3, 6\) that are not zero, got \(3, 5\) for the crops from 0"):
        embed_proxies(store.folder, encoder(lambda images: images.flatten(1)[:, :5]))
    with pytest.raises(InputError, match="must give finite features"):
        embed_proxies(store.folder, encoder(lambda images: torch.full((len(images), WIDTH), torch.nan)))
    with pytest.raises(InputError, match="that are not zero"):
        embed_proxies(store.folder, encoder(lambda images: torch.zeros(len(images), WIDTH)))
    bare = write_store(tmp_path / "bare", [make_frame(0, crops=False)])
    with pytest.raises(InputError, match=r"shard-0000-000000.h5: triplet 0 has no crop; crops have to be kept when triplets are collected"):
        embed_proxies(bare.folder, encoder())
    with pytest.raises(InputError, match="must be at least 1 and clip_id not empty"):
        encoder(batch_size=0)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write into the triplet store .* \(No space left on device\); all that was written is kept"):
        embed_proxies(store.folder, encoder())
    monkeypatch.undo()
    assert not TripletStore(store.folder).index["embeddings"]


def test_a_clip_gives_an_encoder(store: TripletStore) -> None:
    towers = ClipTowers("clip2x-small", random_weights=True)
    clip = CropEncoder.of(towers, batch_size=5)
    assert (clip.clip_id, clip.embed_dim, clip.image_size) == (towers.id, towers.embed_dim, towers.image_size)
    embed_proxies(store.folder, clip)
    with torch.no_grad():
        direct = torch.nn.functional.normalize(towers.encode_image(store.image(2, towers.image_size)[None])[0], dim=0)
    torch.testing.assert_close(embeddings(store.folder, towers.id)[2], direct, atol=1e-3, rtol=0)
    half = ClipTowers("clip2x-small", random_weights=True, precision="bf16")
    other = ClipTowers("clip2x-small", random_weights=True, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    assert CropEncoder.of(half).clip_id == f"{towers.id} bf16" and CropEncoder.of(other).folder != clip.folder


# merging


def test_a_merged_store_equals_one_that_was_collected_at_once(tmp_path: Path) -> None:
    one, two = (write_store(tmp_path / name, frames(*numbers)) for name, numbers in (("one", (5, 0, 3)), ("two", (1, 8, 2, 4))))
    made = merge_stores([one.folder, two.folder], tmp_path / "both", shard_frames=2)
    whole = write_store(tmp_path / "whole", frames(0, 1, 2, 3, 4, 5, 8))
    both = TripletStore(tmp_path / "both")
    assert (made.num_frames, made.num_triplets, made.dropped) == (7, len(whole), Counter())
    assert both.content_sha256() == whole.content_sha256() and both.verify(deep=True) == [] and both.complete
    assert [shard["frames"] for shard in both.index["shards"]] == [2, 2, 2, 1]
    assert {key: both.index[key] for key in ("classes", "data", "rules", "vocabulary", "detector", "lifting")} == {
        key: whole.index[key] for key in ("classes", "data", "rules", "vocabulary", "detector", "lifting")}
    assert [source["folder"] for source in both.index["provenance"]["sources"]] == [str(one.folder), str(two.folder)]
    assert both.index["provenance"]["sources"][0]["provenance"] == ABOUT["provenance"]
    assert {**both.index["settings"], "merged": 0} == {**ABOUT["settings"], "merged": 0} and len(both.index["settings"]["merged"]) == 2
    assert merge_stores([one.folder, two.folder], tmp_path / "both").num_frames == 7, "once more: nothing happens"
    with pytest.raises(InputError, match="holds triplets of other settings"):
        merge_stores([two.folder, one.folder], tmp_path / "both")


def test_a_killed_merge_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (write_store(tmp_path / name, frames(*numbers)) for name, numbers in (("one", (0, 2, 4)), ("two", (1, 3, 5))))
    merge_stores([one.folder, two.folder], tmp_path / "whole", shard_frames=2)
    original, calls = TripletWriter.add_shard, iter(range(9))

    def killed(writer: TripletWriter, batch: list[FrameTriplets]) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        original(writer, batch)

    monkeypatch.setattr(TripletWriter, "add_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        merge_stores([one.folder, two.folder], tmp_path / "both", shard_frames=2)
    assert not TripletStore(tmp_path / "both").complete and TripletStore(tmp_path / "both").num_frames == 4
    monkeypatch.undo()
    merge_stores([one.folder, two.folder], tmp_path / "both", shard_frames=2)
    assert TripletStore(tmp_path / "both").index == TripletStore(tmp_path / "whole").index


def test_frames_in_both_stores(tmp_path: Path) -> None:
    one, two = (write_store(tmp_path / name, frames(*numbers)) for name, numbers in (("one", (0, 1, 2)), ("two", (2, 1, 3))))
    made = merge_stores([one.folder, two.folder], tmp_path / "both")
    assert made.num_frames == 4 and made.dropped == Counter({"frames twice": 2})
    changed = replace(make_frame(1), rules=Counter({"other": 1}))
    three = write_store(tmp_path / "three", [changed])
    with pytest.raises(InputError, match=rf"frame {changed.frame} of {changed.data} is in {one.folder} and in {three.folder} with different"):
        merge_stores([one.folder, three.folder], tmp_path / "not")


def other_vocabulary(folder: Path, concepts: list[list[str]], *numbers: int) -> TripletStore:
    with TripletWriter(folder, {**ABOUT, "vocabulary": {"name": "other", "sha256": "77", "concepts": concepts}}) as writer:
        for frame in frames(*numbers):
            writer.add(frame)
    return TripletStore(folder)


def test_text_ids_are_translated_by_name(tmp_path: Path) -> None:
    one = write_store(tmp_path / "one", frames(0))
    two = other_vocabulary(tmp_path / "two", [["Nightstand"], ["cone"], ["auto"], ["chair"]], 1, 2, 3)
    merge_stores([one.folder, two.folder], tmp_path / "both")
    both = TripletStore(tmp_path / "both")
    there = {(both.frame_key(number)[:2]): both.frame(number) for number in range(both.num_frames)}
    new = [3, 2, 1, 0]
    for frame in frames(1, 2, 3):
        expected = replace(frame, triplets=tuple(replace(item, text_id=new[item.text_id]) for item in frame.triplets))
        assert same_frame(there[frame.data, frame.frame], expected)
    assert same_frame(there[make_frame(0).data, make_frame(0).frame], make_frame(0)) and both.index["vocabulary"] == VOCABULARY


def test_unknown_names_are_refused_where_they_occur(tmp_path: Path) -> None:
    one = write_store(tmp_path / "one", frames(0))
    used = {item.text_id for item in make_frame(1).triplets}
    concepts = [["spaceship"] if number in used else ["never seen"] for number in range(4)]
    two = other_vocabulary(tmp_path / "two", concepts, 1)
    with pytest.raises(InputError, match=rf"two has triplets of {len(used)} concepts that the vocabulary of {one.folder} lacks \(spaceship"):
        merge_stores([one.folder, two.folder], tmp_path / "both")
    fine = other_vocabulary(tmp_path / "three", [["chair"] if number in used else ["never seen"] for number in range(4)], 1)
    assert merge_stores([one.folder, fine.folder], tmp_path / "both").num_frames == 2
    nameless = other_vocabulary(tmp_path / "four", [], 2)
    with pytest.raises(InputError, match="have different vocabularies, and one of them does not state its names"):
        merge_stores([one.folder, nameless.folder], tmp_path / "not")


def test_what_stores_state_is_joined(tmp_path: Path) -> None:
    stated = [{"detector": {"kind": kind}, "sources": {name: {"files": "mini-world"}}, "sweeps": 1, **extra}
              for kind, name, extra in (("coco", "a", {}), ("owl", "b", {"note": "x"}))]
    stores = []
    for number, about in enumerate(stated):
        with TripletWriter(tmp_path / f"{number}", {**ABOUT, **about}) as writer:
            writer.add(make_frame(number))
        stores.append(tmp_path / f"{number}")
    merge_stores(stores, tmp_path / "both")
    index = TripletStore(tmp_path / "both").index
    assert index["detector"] == [{"kind": "coco"}, {"kind": "owl"}] and index["sources"] == {key: {"files": "mini-world"} for key in "ab"}
    assert (index["sweeps"], index["note"], index["lifting"]) == (1, "x", ABOUT["lifting"])


def test_what_cannot_be_merged(tmp_path: Path, store: TripletStore) -> None:
    with pytest.raises(InputError, match="at least two stores and a target that is none of them"):
        merge_stores([store.folder], tmp_path / "both")
    with pytest.raises(InputError, match="at least two stores and a target that is none of them"):
        merge_stores([store.folder, tmp_path / "two"], store.folder)
    with pytest.raises(DataNotFoundError, match="is no triplet store"):
        merge_stores([store.folder, tmp_path / "two"], tmp_path / "both")
    TripletWriter(tmp_path / "two", ABOUT)
    with pytest.raises(InputError, match="two is not finished; run its collection to its end first"):
        merge_stores([store.folder, tmp_path / "two"], tmp_path / "both")
    assert not (tmp_path / "both").exists()


# filtering


def test_filtering_keeps_frames_and_counts_what_it_drops(store: TripletStore, tmp_path: Path) -> None:
    made = filter_store(store.folder, tmp_path / "part", min_score=0.4, min_points=10, exclude=["Cone"], shard_frames=5)
    part = TripletStore(tmp_path / "part")
    expected, dropped = [], Counter[str]()
    for frame in store.frames():
        kept = tuple(item for item in frame.triplets if item.text_id != 2 and item.score >= 0.4 and len(item.points) >= 10)
        why = Counter("filter: class" if item.text_id == 2 else "filter: score" if item.score < 0.4 else "filter: points"
                      for item in frame.triplets if not any(item is other for other in kept))
        dropped += why
        expected.append(replace(frame, triplets=kept, rules=frame.rules + why))
    assert 0 < len(part) < len(store) and part.num_frames == 12 and all(dropped.values()) and len(dropped) == 3
    assert all(same_frame(one, other) for one, other in zip(part.frames(), expected, strict=True))
    assert made.dropped == Counter({rule.removeprefix("filter: "): count for rule, count in dropped.items()}) and made.num_triplets == len(part)
    assert {rule: part.index["rules"][rule] for rule in dropped} == dropped and part.verify(deep=True) == []
    assert part.index["settings"]["filter"] == {"min_score": 0.4, "min_points": 10, "classes": None, "exclude": ["Cone"], "exclude_data": [],
                                                "max_per_class": None}
    assert part.index["settings"]["lifting"] == ABOUT["settings"]["lifting"] and part.index["detector"] == ABOUT["detector"]
    assert part.index["vocabulary"] == VOCABULARY and part.index["provenance"]["sources"][0]["settings"] == ABOUT["settings"]
    assert filter_store(store.folder, tmp_path / "part", min_score=0.4, min_points=10, exclude=["Cone"]).num_triplets == len(part)
    with pytest.raises(InputError, match=r"settings.filter.min_score: 0.4 there, 0.5 asked for"):
        filter_store(store.folder, tmp_path / "part", min_score=0.5, min_points=10, exclude=["Cone"])


def test_the_best_of_each_class_are_kept(store: TripletStore, tmp_path: Path) -> None:
    filter_store(store.folder, tmp_path / "part", max_per_class=2, classes=["car", "night stand", "chair"])
    part = TripletStore(tmp_path / "part")
    for number in range(4):
        every = sorted((store.scores[store.text_ids == number]).tolist(), reverse=True)
        assert sorted(part.scores[part.text_ids == number].tolist(), reverse=True) == ([] if number == 2 else every[:2])
    too_many = sum(max(0, count - 2) for name, count in store.index["classes"].items() if name != "traffic_cone")
    assert part.index["rules"]["filter: too many"] == too_many > 0


def test_equal_scores_are_taken_in_order(tmp_path: Path) -> None:
    frame = make_frame(0)
    items = tuple(replace(frame.triplets[0], score=0.5, text_id=1, camera=f"{number}") for number in range(5))
    store = write_store(tmp_path / "store", [replace(frame, triplets=items)])
    filter_store(store.folder, tmp_path / "part", max_per_class=3)
    assert [TripletStore(tmp_path / "part")[position].camera for position in range(3)] == ["0", "1", "2"]


def test_whole_data_sets_are_left_out(store: TripletStore, tmp_path: Path) -> None:
    made = filter_store(store.folder, tmp_path / "part", exclude_data=[DATA[0]])
    assert made.num_frames == 6 and list(TripletStore(tmp_path / "part").index["data"]) == [DATA[1]] and made.dropped == Counter()
    for options, message in (({"exclude_data": ["x/y/z"]}, r"has no data set x/y/z; there are: nuscenes/v1.0-mini/mini_train, sunrgbd/frames/train"),
                             ({"min_score": 2.0}, f"of {len(store)} triplets of .* none remains; ask for less"),
                             ({"exclude": ["ufo"]}, "its vocabulary has no 'ufo'"), ({"max_per_class": 0}, "max_per_class of at least 1")):
        with pytest.raises(InputError, match=message):
            filter_store(store.folder, tmp_path / "not", **options)
    assert not (tmp_path / "not").exists()


# checking


def test_a_store_is_examined_as_a_data_set_is(store: TripletStore, tmp_path: Path) -> None:
    embed_proxies(store.folder, encoder())
    report = check_store(store.folder, deep=True)
    assert (report.variant, report.split, report.what, report.status, report.found) == ("triplets", "store", "triplets", "complete", len(store))
    assert report.notes == ["12 frames, 2 of them without triplets, 3 shards, 4 classes", "image embeddings of small/sha256:00: 3 of 3 shards"]
    absent = check_store(tmp_path / "nothing")
    assert absent.status == "absent" and "is no triplet store" in absent.notes[0]
    TripletWriter(tmp_path / "growing", ABOUT).add(make_frame(0))
    assert check_store(tmp_path / "growing").status == "partial" and verify_store(tmp_path / "growing") == []
    path = store.folder / "shard-0000-000001.h5"
    path.write_bytes(path.read_bytes()[:-1])
    broken = check_store(store.folder)
    assert broken.status == "broken" and broken.num_problems == 1 and verify_store(store.folder) == broken.problems
    assert broken.problems[0].startswith(f"{path}: truncated, ")
    assert json.loads((store.folder / "index.json").read_text())["complete"] is True
    assert verify_store(tmp_path / "nothing") == absent.notes
