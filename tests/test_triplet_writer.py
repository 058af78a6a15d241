"""Writing a triplet store: nothing lost, nothing doubled, whatever happens to the processes and to the disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from triplet_frames import ABOUT, DATA, make_frame, same_frame, start_run, write_store

from clip2x.data.triplets import index as index_module
from clip2x.data.triplets import writer as writer_module
from clip2x.data.triplets.shard import Shard
from clip2x.data.triplets.store import TripletStore
from clip2x.data.triplets.writer import TripletWriter
from clip2x.errors import BadFileError, InputError
from clip2x.types import FrameTriplets


def frames(count: int) -> list[FrameTriplets]:
    return [make_frame(number) for number in range(count)]


def in_order(given: list[FrameTriplets]) -> list[FrameTriplets]:
    return sorted(given, key=lambda frame: (frame.data.encode(), frame.frame.encode()))


def holds(store: TripletStore, given: list[FrameTriplets]) -> bool:
    return store.num_frames == len(given) and all(same_frame(a, b) for a, b in zip(store.frames(), in_order(given), strict=True))


def test_frames_go_through_single_files_into_shards(tmp_path: Path) -> None:
    writer = TripletWriter(tmp_path / "store", ABOUT, shard_frames=4)
    for number in range(6):
        writer.add(make_frame(number))
        assert len(list((tmp_path / "store" / "pending").iterdir())) == (number + 1) % 4
        assert len(list((tmp_path / "store").glob("shard-*.h5"))) == (number + 1) // 4
    writer.add(make_frame(2))  # done before: nothing happens
    assert len(list((tmp_path / "store" / "pending").iterdir())) == 2
    growing = TripletStore(tmp_path / "store")
    assert not growing.complete and holds(growing, frames(4))
    writer.close()
    store = TripletStore(tmp_path / "store")
    assert store.complete and holds(store, frames(6)) and store.verify(deep=True) == []
    assert sorted(path.name for path in store.folder.iterdir()) == ["collection.json", "index.json", "shard-0000-000000.h5", "shard-0000-000000.json",
                                                                    "shard-0000-000001.h5", "shard-0000-000001.json", "writer.lock"]


def test_the_index_counts_and_says_where_everything_comes_from(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", frames(12), shard_frames=5)
    index, given = store.index, frames(12)
    triplets = [triplet for frame in given for triplet in frame.triplets]
    assert (index["schema"], index["version"], index["complete"]) == ("clip2x-triplets", 1, True)
    assert (index["num_frames"], index["num_frames_without_triplets"], index["num_triplets"]) == (12, 2, len(triplets))
    assert index["num_points"] == sum(len(triplet.points) for triplet in triplets)
    assert index["rules"] == dict(sorted(sum((frame.rules for frame in given), Counter()).items()))
    names = Counter(["chair", "car", "traffic_cone", "night stand"][triplet.text_id] for triplet in triplets)
    assert index["classes"] == names
    for name in DATA:
        own = [frame for frame in given if frame.data == name]
        counts = index["data"][name]
        assert counts["frames"] == 6 and counts["triplets"] == sum(len(frame.triplets) for frame in own)
        assert counts["rules"]["detections"] == sum(frame.rules["detections"] for frame in own)
    assert {key: index[key] for key in ABOUT} == ABOUT and index["resumed"] == [] and index["embeddings"] == []
    assert [(shard["file"], shard["frames"]) for shard in index["shards"]] == [(f"shard-0000-00000{number}.h5", count)
                                                                               for number, count in enumerate((5, 5, 2))]


def test_a_shard_is_also_full_by_bytes(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", frames(6), shard_bytes=1)
    assert [shard["frames"] for shard in store.index["shards"]] == [1] * 6 and holds(store, frames(6))


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_processes_give_the_store_of_one(tmp_path: Path, world_size: int) -> None:
    alone = write_store(tmp_path / "alone", frames(20), shard_frames=3)
    barrier = threading.Barrier(world_size, timeout=30)

    def run(rank: int) -> None:
        with TripletWriter(tmp_path / "together", ABOUT, rank=rank, world_size=world_size, barrier=barrier.wait, shard_frames=3) as writer:
            for frame in frames(20)[rank::world_size]:
                writer.add(frame)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = TripletStore(tmp_path / "together")
    assert {path.name[:10] for path in together.folder.glob("shard-*.h5")} == {f"shard-{rank:04d}" for rank in range(world_size)}
    assert holds(together, frames(20)) and alone.content_sha256() == together.content_sha256()
    assert {**alone.index, "shards": 0} == {**together.index, "shards": 0} and together.verify(deep=True) == []
    np.testing.assert_array_equal(alone.text_ids, together.text_ids)
    np.testing.assert_array_equal(alone.boxes_px, together.boxes_px)


def kill_and_restart(folder: Path, kills: int, count: int, rng: np.random.Generator) -> None:
    """Kill runs with 1 to 3 processes at random moments, read what there is after each, and let the last run come to its end."""
    longest = 0.3
    seen: set[str] = set()
    for _ in range(kills):
        processes = start_run(folder, int(rng.integers(1, 4)), count)
        time.sleep(rng.uniform(0.01, longest))
        for process in rng.permutation(np.array(processes, dtype=object)):
            process.kill()
        for process in processes:
            process.join()
        if (folder / "index.json").exists():
            growing = TripletStore(folder)
            now = {growing.frame_key(number)[1] for number in range(growing.num_frames)}
            assert seen <= now, "what was readable stays readable"
            assert growing.verify(deep=True) == []
            seen = now
    processes = start_run(folder, 2, count)
    for process in processes:
        process.join()
        assert process.exitcode == 0


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_restarted_it_holds_the_same(tmp_path: Path, kills: int) -> None:
    count = 25 * kills
    kill_and_restart(tmp_path / "store", kills, count, np.random.default_rng(kills))
    store = TripletStore(tmp_path / "store")
    whole = write_store(tmp_path / "whole", frames(count))
    assert store.complete and holds(store, frames(count)) and store.verify(deep=True) == []
    assert store.content_sha256() == whole.content_sha256()
    assert {**store.index, "shards": 0} == {**whole.index, "shards": 0}
    assert not (store.folder / "pending").exists() and not list(store.folder.glob(".*"))


class Killed(BaseException):
    """Ends a run between two steps."""


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_ended_between_any_two_steps_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    """Every file that is written or removed is a step; one run ends before each of them and one after it."""
    steps = iter(range(1000))
    end = -1

    def step(original: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if next(steps) == end:
                raise Killed
            original(*arguments, **options)
            if next(steps) == end:
                raise Killed
        return wrapped

    monkeypatch.setattr(os, "fsync", lambda handle: None)
    for module in (index_module, writer_module):
        monkeypatch.setattr(module, "write_durably", step(module.write_durably))
    monkeypatch.setattr(Path, "unlink", step(Path.unlink))
    whole = write_store(tmp_path / "whole", frames(3), shard_frames=2).content_sha256()
    count = next(steps)
    assert count > 50
    for number in range(0, count, every):
        folder, steps, end = tmp_path / f"ended-{number}", iter(range(1000)), number
        with pytest.raises(Killed):
            write_store(folder, frames(3), shard_frames=2)
        steps, end = iter(range(1000)), -1
        store = write_store(folder, frames(3), shard_frames=2)
        assert store.content_sha256() == whole and store.verify() == []


def test_a_growing_store_can_be_read_all_the_time(tmp_path: Path) -> None:
    expected = {make_frame(number).frame: make_frame(number) for number in range(40)}
    processes = start_run(tmp_path / "store", 2, 40)
    sizes = [0]
    while any(process.is_alive() for process in processes):
        if (tmp_path / "store" / "index.json").exists():
            store = TripletStore(tmp_path / "store")
            assert all(same_frame(frame, expected[frame.frame]) for frame in store.frames())
            assert len(store) == store.index["num_triplets"] and store.num_frames >= sizes[-1]
            sizes.append(store.num_frames)
    assert len(set(sizes)) > 2, "it was seen growing"
    assert holds(TripletStore(tmp_path / "store"), frames(40))


def test_leftover_files_of_one_run_go_into_the_shards_of_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    killed = TripletWriter(folder, ABOUT, shard_frames=100)
    for number in range(5):
        killed.add(make_frame(number))
    (folder / "pending" / ".half.h5").write_bytes(b"half")
    (folder / ".shard-0000-x.h5").write_bytes(b"half")
    writer = TripletWriter(folder, ABOUT, shard_frames=3)
    assert writer.done == {(frame.data, frame.frame) for frame in frames(5)}
    assert not list(folder.glob("shard-*.h5")), "opening a store writes no shard: embeddings of it would be made before there is a device"
    writer.add(make_frame(4))  # done before
    writer.add(make_frame(5))
    assert [shard.num_frames for shard in map(Shard, sorted(folder.glob("shard-*.h5")))] == [3, 3]
    writer.add(make_frame(6))
    writer.close()
    assert holds(TripletStore(folder), frames(7)) and not list(folder.glob(".*"))


def test_frames_in_a_shard_lose_their_own_files_and_a_lost_description_is_made_again(tmp_path: Path) -> None:
    """The states between a shard's two files, and between the shard and the removal of what went into it."""
    folder = tmp_path / "store"
    killed = TripletWriter(folder, ABOUT, shard_frames=100)
    for number in range(4):
        killed.add(make_frame(number))
    kept = {path.name: path.read_bytes() for path in (folder / "pending").iterdir()}
    killed.close()
    sidecar = (folder / "shard-0000-000000.json").read_bytes()
    (folder / "shard-0000-000000.json").unlink()
    (folder / "pending").mkdir()
    for name, content in kept.items():
        (folder / "pending" / name).write_bytes(content)
    write_store(folder, frames(4))
    assert (folder / "shard-0000-000000.json").read_bytes() == sidecar and not (folder / "pending").exists()
    assert holds(TripletStore(folder), frames(4)) and len(list(folder.glob("shard-*.h5"))) == 1


def test_a_damaged_frame_is_made_again_with_a_note(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    killed = TripletWriter(folder, ABOUT)
    killed.add(make_frame(0))
    killed.add(make_frame(1))
    path = next((folder / "pending").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    writer = TripletWriter(folder, ABOUT)
    assert len(writer.done) == 1 and "a finished frame is damaged and will be made again" in writer.notes[0]
    for frame in frames(2):
        writer.add(frame)
    writer.close()
    assert holds(TripletStore(folder), frames(2))


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    write_store(folder, frames(2))
    settings = {"detector": {"kind": "coco", "threshold": 0.2}, "lifting": {"eps": 0.4}}
    with pytest.raises(InputError, match=r"holds triplets of other settings \(settings.detector.threshold: 0.3 there, 0.2 asked for\); use those"):
        TripletWriter(folder, {**ABOUT, "settings": settings})
    with pytest.raises(InputError, match=r"vocabulary.sha256: \"00\" there, \"01\" asked for"):
        TripletWriter(folder, {**ABOUT, "vocabulary": {"sha256": "01", "concepts": []}})
    with pytest.raises(InputError, match=r"settings.lifting.min_points: nothing there, 10 asked for"):
        TripletWriter(folder, {**ABOUT, "settings": {**ABOUT["settings"], "lifting": {"eps": 0.4, "min_points": 10}}})
    assert TripletStore(folder).complete, "a refused run changes nothing"


def test_a_run_by_another_commit_goes_on_and_is_noted(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    for commit, count in (("abc", 2), ("def", 4), ("def", 6)):
        with TripletWriter(folder, {**ABOUT, "provenance": {"commit": commit}}) as writer:
            for frame in frames(count):
                writer.add(frame)
    index = TripletStore(folder).index
    assert index["provenance"] == {"commit": "abc"} and index["resumed"] == [{"commit": "def"}]


def test_a_failed_run_leaves_an_unfinished_store(tmp_path: Path) -> None:
    def fail() -> None:
        with TripletWriter(tmp_path / "store", ABOUT) as writer:
            writer.add(make_frame(0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not TripletStore(tmp_path / "store").complete
    writer = TripletWriter(tmp_path / "store", ABOUT)
    assert len(writer.done) == 1
    writer.close(complete=False)
    store = TripletStore(tmp_path / "store")
    assert not store.complete and holds(store, frames(1))


def test_new_shards_are_announced(tmp_path: Path) -> None:
    announced: list[Path] = []
    store = write_store(tmp_path / "store", frames(5), shard_frames=2, on_shard=announced.append)
    assert announced == [store.folder / f"shard-0000-00000{number}.h5" for number in range(3)]


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = TripletWriter(tmp_path / "store", ABOUT)
    done: list[str] = []
    fsync, replace_ = os.fsync, Path.replace

    def noted_fsync(handle: int) -> None:
        done.append(f"fsync {os.path.basename(os.readlink(f'/proc/self/fd/{handle}'))}")
        fsync(handle)

    def noted_replace(path: Path, target: Path) -> Path:
        done.append(f"rename {path.name} {target.name}")
        return replace_(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    writer.add(make_frame(0))
    content, rename, folder = done
    temporary, final = rename.split()[1:]
    assert content == f"fsync {temporary}" and folder == "fsync pending" and (tmp_path / "store" / "pending" / final).is_file()


@pytest.mark.parametrize(("number", "every"), [(errno.ENOSPC, 4), (errno.EROFS, 11), pytest.param(errno.EDQUOT, 1, marks=pytest.mark.slow)])
def test_a_disk_that_fails_at_any_write_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, every: int) -> None:
    expected = write_store(tmp_path / "whole", frames(3), shard_frames=2).content_sha256()
    failures = 0
    for fail_at in range(0, 17, every):
        folder, calls, added = tmp_path / f"{fail_at}", iter(range(10_000)), 0

        def fsync(handle: int, calls: Iterator[int] = calls, fail_at: int = fail_at) -> None:
            if os.readlink(f"/proc/self/fd/{handle}").endswith((".h5", ".json")) and next(calls) >= fail_at:
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)
        try:
            with TripletWriter(folder, ABOUT, shard_frames=2) as writer:
                for frame in frames(3):
                    writer.add(frame)
                    added += 1
        except InputError as error:
            failures += 1
            assert str(error) == (f"cannot write into the triplet store {folder} ({os.strerror(number)}); all that was written is kept: make room or "
                                  "see who may write there, and run the same command again, it goes on where it was.")
        monkeypatch.setattr(os, "fsync", lambda handle: None)
        assert len(TripletWriter(folder, ABOUT).done) >= added
        assert write_store(folder, frames(3), shard_frames=2).content_sha256() == expected
    assert failures > 1


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs to mount a small disk")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=250k", "clip2x-test", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(InputError, match=r"cannot write into the triplet store .*No space left on device.*all that was written is kept"):
            write_store(disk / "store", frames(90), shard_frames=4)
        assert TripletStore(disk / "store").verify(deep=True) == []
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        writer = TripletWriter(disk / "store", ABOUT)
        assert 4 <= len(writer.done) < 90
        writer.close()
        assert holds(write_store(disk / "store", frames(90)), frames(90))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(InputError, match="Read-only file system"):
            TripletWriter(disk / "store", ABOUT)
        assert holds(TripletStore(disk / "store"), frames(90)), "it can be read"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(InputError, match="cannot write into the triplet store"):
        TripletWriter(tmp_path / "store", ABOUT)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    writer = TripletWriter(tmp_path / "store", ABOUT)
    child = os.fork()
    if child == 0:  # locks belong to a process
        try:
            TripletWriter(tmp_path / "store", ABOUT)
        except InputError as error:
            os._exit(7 if f"another run is writing into {tmp_path / 'store'} (process {os.getppid()} on" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    writer.close()
    write_store(tmp_path / "store", frames(1))


def test_one_frame_in_two_shards_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    write_store(folder, frames(3))
    for suffix in (".h5", ".json"):
        content = (folder / f"shard-0000-000000{suffix}").read_bytes()
        (folder / f"shard-0001-000000{suffix}").write_bytes(content.replace(b"shard-0000", b"shard-0001") if suffix == ".json" else content)
    with pytest.raises(BadFileError, match=r"is in shard-0000-000000.h5 and in shard-0001-000000.h5, so two runs worked on it; delete"):
        TripletWriter(folder, ABOUT)
    index_module.StoreIndex(folder).write()
    with pytest.raises(BadFileError, match=r"is in shard-000\d-000000.h5 and in shard-000\d-000000.h5; delete one of the two"):
        TripletStore(folder)
    (folder / "shard-0001-000000.h5").unlink()
    with pytest.raises(BadFileError, match=r"shard-0001-000000.h5: a file of the store is missing; bring it back"):
        TripletWriter(folder, ABOUT)
    (folder / "shard-0001-000000.json").unlink()
    assert holds(write_store(folder, frames(3)), frames(3))


def test_shards_without_their_settings_are_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    write_store(folder, frames(3))
    (folder / "collection.json").unlink()
    with pytest.raises(Exception, match=r"has no collection.json; move the folder away, or bring this file back"):
        TripletWriter(folder, ABOUT)


@pytest.mark.parametrize(("change", "message"), [
    ({"points": np.zeros((0, 3), np.float32)}, r"frame 'frame-000-ä0' of sunrgbd/frames/train: triplet 0 needs points .*got float32 \(0, 3\)"),
    ({"points": np.array([[0, np.nan, 0]], np.float32)}, "finite"),
    ({"score": float("nan")}, "needs a finite score"),
    ({"points": np.zeros((4, 2), np.float32)}, r"got float32 \(4, 2\)"),
    ({"box_px": np.array([0, 0, np.inf, 1], np.float32)}, "a box of four finite numbers"),
    ({"text_id": 4}, "has the text id 4, the vocabulary has the concepts 0 to 3"),
    ({"text_id": -1}, "has the text id -1"),
])
def test_what_cannot_be_stored_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    writer = TripletWriter(tmp_path / "store", ABOUT)
    frame = make_frame(0)
    with pytest.raises(InputError, match=message):
        writer.add(replace(frame, triplets=(replace(frame.triplets[0], **change),)))
    with pytest.raises(InputError, match="texts without zero characters"):
        writer.add(replace(frame, frame="a\0b"))
    assert not writer.done and not list((tmp_path / "store" / "pending").iterdir())


def test_impossible_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="several processes need a barrier"):
        TripletWriter(tmp_path, ABOUT, rank=0, world_size=2)
    with pytest.raises(InputError, match="cannot have the keys num_triplets, shards"):
        TripletWriter(tmp_path, {**ABOUT, "shards": [], "num_triplets": 3})
    assert not json.loads(json.dumps([path.name for path in tmp_path.iterdir()]))
