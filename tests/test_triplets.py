"""Reading a triplet store: what comes back, in which order, at what cost; the data set for pre-training; what damaged stores say."""

from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from triplet_frames import ABOUT, DATA, jpeg, make_frame, same_frame, same_triplet, write_store

from clip2x.data.augmentations import Jitter, RotateAboutUp
from clip2x.data.clouds import JoinedDatasets
from clip2x.data.entries import place_of_recording
from clip2x.data.faults import collate
from clip2x.data.samplers import SampleKey
from clip2x.data.triplets.dataset import TripletProxies
from clip2x.data.triplets.shard import OpenFiles, Shard, shard_content
from clip2x.data.triplets.store import TripletStore, crop_image
from clip2x.data.triplets.writer import TripletWriter
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import unit_sphere
from clip2x.types import FrameTriplets, Triplet


@pytest.fixture
def store(tmp_path: Path) -> TripletStore:
    return write_store(tmp_path / "Sätze von Tripeln", [make_frame(number) for number in range(17)], shard_frames=4)


def in_order() -> list[FrameTriplets]:
    """The slow twin of the store's order."""
    return sorted((make_frame(number) for number in range(17)), key=lambda frame: (frame.data.encode(), frame.frame.encode()))


def triplets() -> list[tuple[FrameTriplets, Triplet]]:
    return [(frame, triplet) for frame in in_order() for triplet in frame.triplets]


def test_a_store_made_by_hand_comes_back_bit_by_bit(tmp_path: Path) -> None:
    points = np.array([[0.1, -2.0, 3e-8], [1e5, np.pi, -0.0], [7, 8, 9]], dtype=np.float32)
    first = Triplet(points, 2, 0.5, np.array([1.5, 2, 30, 40.25], np.float32), "CAM_FRONT", b"\xff\xd8 one \x00\x00")
    second = Triplet(points[:1], 0, 0.25, np.array([0, 0, 1, 1], np.float32), "depth camera", b"")
    rules = Counter({"detections": 3, "proxies": 2, "no points": 1})
    frame = FrameTriplets("b/c/train", "SUNRGBD/kv1/Zimmer-ü\udcff", "scene 1", (first, second), rules)
    empty = FrameTriplets("a/c/train", "token", "", (), Counter({"detections": 0}))
    store = write_store(tmp_path, [frame, empty])
    assert len(store) == 2 and store.num_frames == 2 and store.complete
    assert same_frame(store.frame(0), empty) and same_frame(store.frame(1), frame)
    assert same_triplet(store[0], first) and same_triplet(store[1], second)
    assert np.array_equal(store[0].points.view(np.uint32), points.view(np.uint32)), "signs of zeros too"
    assert store.frame_of(1) == ("b/c/train", "SUNRGBD/kv1/Zimmer-ü\udcff", "scene 1")
    assert store.positions_of(1) == range(2) and not store.positions_of(0)
    assert (store.text_ids.tolist(), store.scores.tolist(), store.num_points.tolist()) == ([2, 0], [0.5, 0.25], [3, 1])
    assert store.boxes_px.tolist() == [[1.5, 2, 30, 40.25], [0, 0, 1, 1]] and store.frame_numbers.tolist() == [1, 1]
    assert store.crop(0) == first.crop and store.crop(1) == b"" and store.class_names == ("chair", "car", "traffic_cone", "night stand")


def test_other_programs_read_the_file_with_any_hdf5_library(tmp_path: Path) -> None:
    frame = make_frame(1)
    store = write_store(tmp_path, [frame])
    with h5py.File(tmp_path / store.index["shards"][0]["file"]) as file:
        assert (file.attrs["schema"], file.attrs["version"]) == ("clip2x-triplets", 1)
        first, last = file["point_offsets"][:2]
        np.testing.assert_array_equal(file["points"][first:last], frame.triplets[0].points)
        assert file["points"].dtype == np.float32 and file["text_id"].dtype == np.int32
        assert file["frame_names"].asstr()[0] == frame.frame and file["data_names"].asstr()[file["frame_data"][0]] == frame.data
        assert file["camera_names"].asstr()[file["camera"][0]] == frame.triplets[0].camera
        assert dict(zip(file["rule_names"].asstr()[:], file["frame_rules"][0], strict=True)) == frame.rules
        assert file["crops"][slice(*file["crop_offsets"][:2])].tobytes() == frame.triplets[0].crop
        np.testing.assert_array_equal(file["frame"][:], np.zeros(len(frame.triplets)))


def test_order_columns_and_access_equal_the_slow_twin(store: TripletStore) -> None:
    expected = triplets()
    assert len(store) == len(expected) > 20
    for position in np.random.default_rng(0).permutation(len(store)).tolist():
        frame, triplet = expected[position]
        assert same_triplet(store[position], triplet)
        assert np.array_equal(store.points(position), triplet.points) and store.crop(position) == triplet.crop
        assert store.frame_of(position) == (frame.data, frame.frame, frame.scene)
        assert same_frame(store.frame(int(store.frame_numbers[position])), frame)
    assert store.text_ids.tolist() == [triplet.text_id for _, triplet in expected]
    assert store.scores.tolist() == [triplet.score for _, triplet in expected]
    assert store.num_points.tolist() == [len(triplet.points) for _, triplet in expected]
    np.testing.assert_array_equal(store.boxes_px, [triplet.box_px for _, triplet in expected])
    assert store.frame_data.tolist() == [frame.data for frame in in_order()]
    assert [store.positions_of(number) for number in range(17)] == [range(end - len(frame.triplets), end) for frame, end in zip(
        in_order(), np.cumsum([len(frame.triplets) for frame in in_order()]).tolist(), strict=True)]
    for position in range(len(store)):
        shard, row = store.place(position)
        assert shard.rows("score", row, row + 1).tolist() == [expected[position][1].score]
    for position in (-1, len(store)):
        with pytest.raises(IndexError, match=f"triplet {position} is outside of {len(store)} triplets"):
            store[position]


def test_the_same_frames_give_the_same_bytes_in_any_order() -> None:
    frames = [make_frame(number) for number in range(9)]
    content = shard_content(frames)
    assert content == shard_content(frames[::-1]) and content != shard_content(frames[:8])


def test_the_hash_of_the_content_sees_every_part(tmp_path: Path) -> None:
    frame = make_frame(0)
    one = frame.triplets[0]
    moved = one.points.copy()
    moved[-1, 2] += 1
    changed = [replace(frame, scene="other"), replace(frame, rules=frame.rules + Counter({"cut": 1})), replace(frame, triplets=frame.triplets[1:]),
               *(replace(frame, triplets=(replace(one, **part), *frame.triplets[1:])) for part in (
                   {"text_id": (one.text_id + 1) % 4}, {"score": 0.125}, {"camera": "CAM"}, {"crop": b"x"}, {"points": moved},
                   {"box_px": one.box_px[::-1].copy()}))]
    hashes = {write_store(tmp_path / f"{number}", [item]).content_sha256() for number, item in enumerate([frame, *changed])}
    assert len(hashes) == 1 + len(changed)


def test_an_empty_store_can_be_opened(tmp_path: Path) -> None:
    for frames in ([], [make_frame(4)]):
        store = write_store(tmp_path / f"{len(frames)}", frames)
        assert len(store) == 0 and store.num_frames == len(frames) and store.complete and store.verify(deep=True) == []
        assert len(store.text_ids) == len(store.num_points) == 0 and store.boxes_px.shape == (0, 4)
        with pytest.raises(InputError, match="none of 0 triplets has a score of at least 0"):
            TripletProxies(tmp_path, 0, store.folder)


def test_a_read_takes_only_its_own_bytes(store: TripletStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.points(0)
    read: list[int] = []
    original = os.preadv
    monkeypatch.setattr(os, "preadv", lambda handle, buffers, place: (read.append(sum(map(len, buffers))), original(handle, buffers, place))[1])
    monkeypatch.setattr(h5py, "File", lambda *_, **__: pytest.fail("the HDF5 library was used"))
    points = store.points(3)
    assert sum(read) == points.nbytes + 16, "two offsets and the points"


def test_open_files_stay_in_their_process(store: TripletStore) -> None:
    store.points(0)
    assert store._files._handles and not pickle.loads(pickle.dumps(store))._files._handles
    assert len(pickle.dumps(store)) < 40_000, "no content is sent"
    child = os.fork()
    if child == 0:
        store._files._handles = {path: os.open(os.devnull, os.O_RDONLY) for path in store._files._handles}  # nobody may read from what was inherited
        before = len(os.listdir("/proc/self/fd"))
        equal = np.array_equal(store.points(0), triplets()[0][1].points)
        os._exit(0 if equal and len(os.listdir("/proc/self/fd")) == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(store.points(0), triplets()[0][1].points)


def test_more_files_than_may_stay_open(store: TripletStore) -> None:
    store._files._limit = 2
    before = len(os.listdir("/proc/self/fd"))
    for position in range(len(store)):
        assert same_triplet(store[position], triplets()[position][1])
    assert len(store._files._handles) == 2 and len(os.listdir("/proc/self/fd")) <= before + 2
    store._files.close()
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_reader_processes_give_what_one_process_gives(store: TripletStore, context: str) -> None:
    data = TripletProxies(Path(), 3, store.folder, num_points=16, augmentations=[RotateAboutUp(), Jitter()], image_size=8)
    _ = data[0]  # files are open when the processes start
    alone, shared = (list(DataLoader(data, batch_size=9, num_workers=workers, multiprocessing_context=context if workers else None,
                                     collate_fn=collate)) for workers in (0, 1))
    for one, other in zip(alone, shared, strict=True):
        assert one.keys() == other.keys() == {"points", "text_id", "score", "index", "instance", "image"}
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_samples_are_functions_of_seed_epoch_and_index(store: TripletStore) -> None:
    data, same, other = (TripletProxies(Path(), seed, store.folder, num_points=8, augmentations=[Jitter()]) for seed in (1, 1, 2))
    assert len(data) == len(store) and data.class_names == store.class_names and data.notes == []
    np.testing.assert_array_equal(data.labels, store.text_ids)
    for index in (5, 0, 7):
        sample = data[SampleKey(index, 4)]
        assert torch.equal(sample["points"], same[SampleKey(index, 4)]["points"])
        assert not torch.equal(sample["points"], data[SampleKey(index, 5)]["points"])
        assert not torch.equal(sample["points"], data[SampleKey(index, 4, 1)]["points"])
        assert not torch.equal(sample["points"], other[SampleKey(index, 4)]["points"])
        assert torch.equal(data[index]["points"], data[SampleKey(index, 0)]["points"])
        assert sample["points"].shape == (8, 3) and sample["points"].dtype == torch.float32
        assert (sample["text_id"], sample["score"], sample["index"]) == (store.text_ids[index], store.scores[index], index)
        assert "image" not in sample and "image_embed" not in sample
    with pytest.raises(IndexError):
        data[len(data)]


def test_points_are_drawn_then_centred_then_repeated(store: TripletStore) -> None:
    """Without augmentation a sample is the unit sphere of points of the triplet, a part of them or all; of all some come twice then."""
    for num_points in (3, 64):
        data = TripletProxies(Path(), 0, store.folder, num_points=num_points)
        for index in range(0, len(data), 5):
            points, stored = data[index]["points"], torch.from_numpy(store.points(index))
            rng = np.random.default_rng([0, 0, index, 2])
            count = len(stored)
            expected = unit_sphere(stored[rng.choice(count, num_points, replace=False)] if count > num_points else stored)
            if count < num_points:
                expected = expected[np.concatenate([np.arange(count), rng.integers(count, size=num_points - count)])]
            assert torch.equal(points, expected)
            own = points[: min(count, num_points)]
            assert own.norm(dim=1).max() == pytest.approx(1) and own.mean(dim=0).abs().max() < 1e-5


def test_repeats_stay_repeats_behind_augmentations(store: TripletStore) -> None:
    """Noise is added before a cloud is filled up: as many points as the triplet has are told apart, however the cloud is changed."""
    data = TripletProxies(Path(), 0, store.folder, num_points=64, augmentations=[RotateAboutUp(), Jitter(sigma=0.05, clip=0.1)])
    for index in range(len(data)):
        assert len(data[index]["points"].unique(dim=0)) == store.num_points[index] < 64


def test_triplets_are_chosen_by_score_class_points_and_data(store: TripletStore) -> None:
    def chosen(**options: Any) -> list[int]:
        data = TripletProxies(Path(), 0, store.folder, **options)
        assert [data[index]["index"] for index in range(len(data))] == list(range(len(data)))
        assert data.labels.tolist() == store.text_ids[data.positions].tolist()
        assert data.notes == ([] if len(data) == len(store) else [f"{len(store) - len(data)} of {len(store)} triplets are left out."])
        return data.positions.tolist()

    every = list(enumerate(triplets()))
    assert chosen(min_score=0.6) == [number for number, (_, item) in every if np.float32(item.score) >= 0.6]
    assert chosen(min_points=20) == [number for number, (_, item) in every if len(item.points) >= 20]
    assert chosen(exclude=["Auto", "night_stand", "CONE"]) == [number for number, (_, item) in every if item.text_id == 0]
    assert chosen(data=["nuscenes"]) == chosen(data=[DATA[1]]) == [number for number, (frame, _) in every if frame.data == DATA[1]]
    assert chosen(limit=5) == [len(store) * number // 5 for number in range(5)] and chosen(limit=10**6) == chosen()
    data = TripletProxies(Path(), 0, store.folder, exclude=["chair", "motorcar"])
    assert [data.class_names[number] for number in np.unique(data.labels)] == ["traffic_cone", "night stand"]
    for options, message in (({"exclude": ["chair", "spaceship"]}, "its vocabulary has no 'spaceship'; the names stand in index.json"),
                             ({"data": ["nusc"]}, f"has no triplets of nusc; there are: {DATA[1]}, {DATA[0]}"),
                             ({"min_score": 1.5}, "none of .* triplets has a score of at least 1.5, 1 points or more"),
                             ({"num_points": 0}, "must be at least 1, got 0")):
        with pytest.raises(InputError, match=message):
            TripletProxies(Path(), 0, store.folder, **options)


def test_a_part_holds_whole_recordings_out_whatever_the_seed(tmp_path: Path) -> None:
    frames = [replace(make_frame(number), scene=f"recording {number // 2}") for number in range(40)]
    store = write_store(tmp_path, frames, shard_frames=20)
    fit, val, other_seed = (TripletProxies(tmp_path, seed, tmp_path, part=part) for part, seed in (("fit", 0), ("val", 0), ("val", 1)))
    assert sorted([*fit.positions.tolist(), *val.positions.tolist()]) == list(range(len(store)))
    assert np.array_equal(val.positions, other_seed.positions) and 0 < len(val) < 0.4 * len(store)
    scenes = [{store.frame_of(int(position))[2] for position in data.positions} for data in (fit, val)]
    assert not scenes[0] & scenes[1]
    assert scenes[1] == {scene for scene in scenes[0] | scenes[1] if place_of_recording(scene) < 0.1}
    with pytest.raises(InputError, match="part must be one of fit, val or left out, got 'test'"):
        TripletProxies(tmp_path, 0, tmp_path, part="test")


def test_repeated_triplets_have_draws_of_their_own(store: TripletStore) -> None:
    data = TripletProxies(Path(), 0, store.folder, num_points=4, min_score=0.5, repeat=3)
    once = len(data) // 3
    assert data.positions.tolist() == data.positions[:once].tolist() * 3 and data.labels.tolist() == store.text_ids[data.positions].tolist()
    assert data.notes == [f"{len(store) - once} of {len(store)} triplets are left out."]
    sample, again = data[1], data[1 + once]
    assert again["text_id"] == sample["text_id"] and again["index"] == 1 + once and data.describe(1) == data.describe(1 + once)
    assert not torch.equal(sample["points"], again["points"])
    with pytest.raises(InputError, match="num_points, min_points, repeat, image_size and limit must be at least 1, got 4, 1, 0, None and None"):
        TripletProxies(Path(), 0, store.folder, num_points=4, repeat=0)


def test_what_was_mined_is_told_by_data_set(store: TripletStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of which a triplet is used, and their scenes where these are few enough to be listed."""
    used = [frame for frame in in_order() if frame.triplets]
    mined = TripletProxies(Path(), 0, store.folder, repeat=2).mined()
    assert mined == {name: {"frames": sum(frame.data == name for frame in used), "scenes": sorted({f.scene for f in used if f.data == name})}
                     for name in sorted(DATA)}
    assert list(TripletProxies(Path(), 0, store.folder, data=["nuscenes"]).mined()) == [DATA[1]]
    monkeypatch.setattr("clip2x.data.triplets.dataset.LISTED_SCENES", 2)
    assert {facts["scenes"] for facts in TripletProxies(Path(), 0, store.folder).mined().values()} == {None}


def test_an_unfinished_store_is_read_on_request_only(tmp_path: Path) -> None:
    writer = TripletWriter(tmp_path, ABOUT, shard_frames=2)
    for number in range(3):
        writer.add(make_frame(number))
    with pytest.raises(InputError, match=r"is not finished \(\d+ triplets of 2 frames so far\); run the collection to its end, or .* partial: true"):
        TripletProxies(tmp_path, 0, tmp_path)
    assert len(TripletProxies(tmp_path, 0, tmp_path, partial=True)) == len(make_frame(0).triplets) + len(make_frame(1).triplets)


def test_pictures_are_the_crops_resized(tmp_path: Path) -> None:
    grey = Image.new("RGB", (40, 20), (51, 102, 204))
    path = tmp_path / "grey.jpg"
    grey.save(path, quality=100)
    frame = make_frame(0)
    store = write_store(tmp_path / "store", [replace(frame, triplets=(replace(frame.triplets[0], crop=path.read_bytes()),))])
    image = TripletProxies(tmp_path, 0, store.folder, image_size=6)[0]["image"]
    assert image.shape == (3, 6, 6) and image.dtype == torch.float32
    torch.testing.assert_close(image.mean(dim=(1, 2)), torch.tensor([51, 102, 204]) / 255, atol=0.01, rtol=0)
    same = crop_image(path.read_bytes(), 20, "a test")
    assert same.shape == (3, 20, 20)


def test_bad_crops_and_clouds_are_named(tmp_path: Path) -> None:
    frame, dot = make_frame(0), np.ones((3, 3), np.float32)
    broken = [replace(frame.triplets[0], crop=b"", points=dot), replace(frame.triplets[0], crop=jpeg(np.random.default_rng(0))[:100])]
    store = write_store(tmp_path / "store", [replace(frame, triplets=tuple(broken))])
    data = TripletProxies(tmp_path, 0, store.folder, image_size=8, num_points=3)
    with pytest.raises(BadFileError, match=r"triplet 0 of frame frame-000-ä0 \(sunrgbd/frames/train\): all 3 points of a cloud are equal"):
        data[0]
    with pytest.raises(InputError, match=r"triplet 0 of frame frame-000-ä0 \(sunrgbd/frames/train\) has no crop; crops have to be kept"):
        store.image(0, 8)
    with pytest.raises(BadFileError, match=r"triplet 1 of frame .*: not a whole picture"):
        data[1]


def test_two_stores_are_joined_by_their_names(store: TripletStore, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other", [make_frame(number) for number in range(20, 23)])
    parts = [TripletProxies(tmp_path, 0, folder, num_points=4) for folder in (store.folder, other.folder)]
    joined = JoinedDatasets(parts)
    assert len(joined) == len(store) + len(other) and joined[len(store)]["index"] == len(store)
    assert joined.labels.tolist() == [*store.text_ids.tolist(), *other.text_ids.tolist()]


def first_shard(store: TripletStore) -> Path:
    return store.folder / store.index["shards"][0]["file"]


def test_damaged_stores_say_what_to_do(store: TripletStore, tmp_path: Path) -> None:
    path, index = first_shard(store), store.folder / "index.json"
    content, text = path.read_bytes(), index.read_text()
    remedy = r"bring it back from a copy, or delete it and the .json file beside it, and run the collection again"

    def refused(kind: type[Exception], message: str) -> None:
        with pytest.raises(kind, match=message) as caught:
            TripletStore(store.folder)
        assert "\n" not in str(caught.value)
        path.write_bytes(content)
        index.write_text(text)

    path.write_bytes(content[:-100])
    refused(BadFileError, rf"shard-0000-000000.h5: truncated, {len(content) - 100:,} of {len(content):,} bytes are there; {remedy}")
    path.unlink()
    refused(BadFileError, rf"shard-0000-000000.h5: a file of the store is missing; {remedy}")
    path.write_bytes(b"\0" * len(content))
    refused(BadFileError, rf"shard-0000-000000.h5: damaged or truncated \(.*\); {remedy}")
    path.write_bytes((store.folder / store.index["shards"][1]["file"]).read_bytes() + bytes(len(content)))
    refused(BadFileError, r"shard-0000-000000.h5: holds \d+ triplets, the index says \d+")
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 2
    refused(BadFileError, r"shard-0000-000000.h5: is of schema version 2, this clip2x reads version 1; use the clip2x that wrote it, or collect")
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = "other"
    refused(BadFileError, r"an HDF5 file, but no triplets of clip2x \(its attribute `schema` is 'other'")
    with h5py.File(path, "a") as file:
        del file["score"]
        file["score"] = np.zeros(3)
    refused(BadFileError, r"data set score has float64 \(3,\), which is not what this version writes")
    index.unlink()
    refused(DataNotFoundError, r"is no triplet store: it has no index.json; make one with `make collect-proxies`; where collection.json and shards")
    index.write_text(text[: len(text) // 2])
    refused(BadFileError, r"index.json: damaged \(.*\); make one with")
    index.write_text(text.replace('"shards"', '"sherds"'))
    refused(BadFileError, r"index.json: damaged \(KeyError: 'shards'\); run the same collection again")
    index.write_text(text.replace('"version": 1', '"version": 7'))
    refused(BadFileError, r"index.json: is of schema version 7, this clip2x reads version 1")
    with pytest.raises(DataNotFoundError, match=r"nothing is no triplet store"):
        TripletStore(tmp_path / "nothing")
    assert len(TripletStore(store.folder)) == len(store)


def test_a_file_that_changes_after_opening_is_one_line(store: TripletStore) -> None:
    path, again = first_shard(store), pickle.loads(pickle.dumps(store))  # without files that are open
    content = path.read_bytes()
    position = next(position for position in range(len(store)) if store.place(position) == (store._shards[0], len(store._shards[0]) - 1))
    path.write_bytes(content[:3000])
    with pytest.raises(BadFileError, match=r"shard-0000-000000.h5: ends [\d,]+ bytes before the end of what was asked for, so it is truncated"):
        store[position]
    path.unlink()
    with pytest.raises(BadFileError, match=r"shard-0000-000000.h5: cannot be read \(No such file or directory\)"):
        again[position]


def test_a_run_after_a_lost_index_or_shard_mends_the_store(store: TripletStore) -> None:
    """What the messages promise."""
    (store.folder / "index.json").unlink()
    frames = [make_frame(number) for number in range(17)]
    assert write_store(store.folder, frames).index == store.index
    for suffix in (".h5", ".json"):
        first_shard(store).with_suffix(suffix).unlink()
    mended = write_store(store.folder, frames)
    assert mended.content_sha256() == store_content(store) and mended.verify(deep=True) == []


def store_content(store: TripletStore) -> str:
    return write_store(store.folder.parent / "again", [make_frame(number) for number in range(17)]).content_sha256()


def test_verify_lists_every_problem(store: TripletStore) -> None:
    assert store.verify() == store.verify(deep=True) == []
    path = first_shard(store)
    content = bytearray(path.read_bytes())
    shard = Shard(path)
    content[shard._places["points"][0] + 1] ^= 4
    path.write_bytes(content)
    assert store.verify() == [], "a changed bit is seen by its hash only"
    (problem,) = store.verify(deep=True)
    assert problem.startswith(f"{path}: its content changed since it was written (sha256); bring it back from a copy")
    with h5py.File(path, "a") as file:
        file["point_offsets"][1] = 10**6
        file["text_id"][0] = 99
    offsets, ids = TripletStore(store.folder).verify()
    assert "point_offsets do not rise from 0 to" in offsets and "to 99, the vocabulary has 4 concepts" in ids
    (store.folder / "collection.json").unlink()
    (store.folder / "shard-0003-000000.h5").write_bytes(b"")
    index = json.loads((store.folder / "index.json").read_text())
    (store.folder / "index.json").write_text(json.dumps({**index, "num_triplets": 3}))
    found = "\n".join(TripletStore(store.folder).verify())
    assert "shard-0003-000000.h5: a shard that the index does not list" in found and "index.json: counts 3 triplets of 17 frames, the shards" in found
    assert "collection.json is missing: the store can be read, but not be gone on with" in found


def test_reads_by_threads_share_open_files(tmp_path: Path) -> None:
    """Two threads that open one file at once: one handle stays, the other is closed."""
    path = tmp_path / "numbers"
    path.write_bytes(np.arange(10, dtype=np.int32).tobytes())
    files = OpenFiles()
    original, before = os.open, len(os.listdir("/proc/self/fd"))

    def other_first(*arguments: Any) -> int:
        handle = original(*arguments)
        files._handles.setdefault(path, original(*arguments))
        return handle

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", other_first)
        assert files.read(path, 8, np.dtype(np.int32), (3,)).tolist() == [2, 3, 4]
    assert len(os.listdir("/proc/self/fd")) == before + 1
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before
