"""The stage collect_proxies: what it stores, how it goes on after a kill, on several processes, what it refuses."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from conftest import REPO, collect_arguments
from PIL import Image
from test_transformers_detectors import save_owlv2

from clip2x.data.readers import open_frames
from clip2x.data.triplets.store import TripletStore
from clip2x.data.triplets.writer import TripletWriter
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import points_in_box
from clip2x.stage_cli import run_stage
from clip2x.types import FrameTriplets

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
SETS = ("nuscenes/v1.0-mini/mini_train", "sunrgbd/objects10/train")


def content(folder: Path) -> list[tuple[object, ...]]:
    """All of a store in its own order, so that stores can be compared."""
    store = TripletStore(folder)
    triplets = [store[position] for position in range(len(store))]
    return [(*store.frame_of(position), item.text_id, item.score, item.camera, item.box_px.tobytes(), item.points.tobytes(), item.crop)
            for position, item in enumerate(triplets)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As each of several processes has on two cores: more threads add up in another order, so that scores differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def collected(tiny_world: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("collected") / "store"
    run_stage(collect_arguments(tiny_world, tiny_clip, folder))
    return folder


def test_a_store_of_both_data_sets_that_says_where_it_comes_from(tiny_world: Path, tiny_clip: Path, collected: Path) -> None:
    store = TripletStore(collected)
    index = store.index
    assert index["complete"] and set(index["data"]) == set(SETS)
    for name in SETS:
        assert index["data"][name]["frames"] == len(open_frames(name, tiny_world))
        assert index["data"][name]["triplets"] > 0
        assert index["sources"][name]["files"] == "mini-world"
    assert index["vocabulary"]["name"] == "mini" and len(index["vocabulary"]["concepts"]) == 44
    assert index["detector"]["kind"] == "ProposalsNamedByClip"
    assert index["provenance"]["config"]["model"]["class_path"] == "clip2x.modules.proxy_collection.ProxyCollection"
    assert [kind["clip_id"] for kind in index["embeddings"]] == [index["detector"]["clip"]]
    assert all(item.crop[:2] == b"\xff\xd8" for item in (store[0], store[len(store) - 1]))


def test_every_box_is_a_triplet_or_under_one_rule(collected: Path) -> None:
    for counts in TripletStore(collected).index["data"].values():
        rules = Counter(counts["rules"])
        boxes, lifted, kept = rules.pop("boxes"), rules.pop("detections"), rules.pop("proxies")
        assert kept == counts["triplets"]
        assert boxes == kept + rules.total()
        assert lifted <= boxes


def test_points_lie_where_the_frame_has_them(tiny_world: Path, collected: Path) -> None:
    """Each stored point, turned back from y up, is a point of its frame."""
    store = TripletStore(collected)
    for name in SETS:
        frames = open_frames(name, tiny_world)
        position = next(number for number in range(len(store)) if store.frame_of(number)[0] == name)
        frame = frames.frame(store.frame_of(position)[1])
        ours_from_points = np.array(frames.variant.ours_from_files) @ frame.upright_from_points
        back = store[position].points @ ours_from_points
        distance = np.linalg.norm(back[:, None] - frame.points[None, ::1], axis=2).min(axis=1) if len(frame.points) * len(back) < 2e7 else None
        if distance is None:
            known = {tuple(row) for row in frame.points.round(3).tolist()}
            distance = np.array([0.0 if tuple(row) in known else 1.0 for row in back.round(3).tolist()])
            assert distance.mean() < 0.05  # the rounding may fall on either side
        else:
            assert distance.max() < 1e-4


def test_the_same_command_again_changes_nothing(tiny_world: Path, tiny_clip: Path, collected: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in collected.glob("shard-*")}
    run_stage(collect_arguments(tiny_world, tiny_clip, collected))
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in collected.glob("shard-*")} == before
    printed = capsys.readouterr().out
    total = sum(len(open_frames(name, tiny_world)) for name in SETS)
    assert f"{total} of {total} frames are in {collected} already." in printed
    assert f"triplets: {collected}" in printed


def test_a_run_that_dies_goes_on_to_the_same_store(tiny_world: Path, tiny_clip: Path, collected: Path, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    add, calls = TripletWriter.add, []

    def dying(self: TripletWriter, frame: FrameTriplets) -> None:
        calls.append(frame.frame)
        if len(calls) == 3:
            raise RuntimeError("killed")
        add(self, frame)

    monkeypatch.setattr(TripletWriter, "add", dying)
    arguments = collect_arguments(tiny_world, tiny_clip, tmp_path / "store")
    with pytest.raises(RuntimeError, match="killed"):
        run_stage(arguments)
    monkeypatch.undo()
    assert len(TripletWriter(tmp_path / "store", _about(tmp_path / "store")).done) == 2
    run_stage(arguments)
    assert content(tmp_path / "store") == content(collected)


def _about(folder: Path) -> dict[str, object]:
    about: dict[str, object] = json.loads((folder / "collection.json").read_text())["about"]
    return about


def test_lifting_in_another_process_gives_the_same(tiny_world: Path, tiny_clip: Path, collected: Path, tmp_path: Path) -> None:
    run_stage([*collect_arguments(tiny_world, tiny_clip, tmp_path / "store"), "--model.lifting_workers", "1", "--data.num_workers", "1"])
    assert content(tmp_path / "store") == content(collected)


def test_two_processes_give_the_same(tiny_world: Path, tiny_clip: Path, collected: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stages", *collect_arguments(tiny_world, tiny_clip, tmp_path / "store"), "--trainer.devices", "2",
               "--trainer.strategy", "ddp", "--model.shard_frames", "2"]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True, timeout=300, env=ONE_THREAD)
    assert content(tmp_path / "store") == content(collected)
    assert len({path.name.split("-")[1] for path in (tmp_path / "store").glob("shard-*.h5")}) == 2


@pytest.mark.slow
def test_kill_9_ten_times(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """Processes that are really killed, each after it stored a frame or more, and started again by the same command; every other time the
    lifting process is not killed with them.
    """
    sets = "[nuscenes/v1.0-mini/mini_train, nuscenes/v1.0-mini/mini_val, sunrgbd/objects10/train, sunrgbd/objects10/test]"

    def command(folder: Path) -> list[str]:
        return [sys.executable, "-m", "stages", *collect_arguments(tiny_world, tiny_clip, folder), "--model.shard_frames", "3",
                "--model.lifting_workers", "1", "--data.frames", sets]

    def finished() -> int:
        store = tmp_path / "store"
        return len(list(store.glob("pending/[!.]*.h5"))) + sum(json.loads(path.read_text())["frames"] for path in store.glob("shard-*.json"))

    rng, kills = random.Random(0), 0
    while True:
        before = finished()
        process = subprocess.Popen(command(tmp_path / "store"), cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True, env=ONE_THREAD)
        start = time.monotonic()
        while kills < 10 and process.poll() is None and finished() <= before and time.monotonic() - start < 120:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.01))
        if kills < 10 and process.poll() is None:
            (os.kill if kills % 2 else os.killpg)(process.pid, signal.SIGKILL)
            kills += 1
        if process.wait() == 0:
            break
    assert kills >= 5
    subprocess.run(command(tmp_path / "straight"), cwd=REPO, check=True, capture_output=True, timeout=300, env=ONE_THREAD)
    assert content(tmp_path / "store") == content(tmp_path / "straight")
    assert TripletStore(tmp_path / "store").verify(deep=True) == []


@pytest.mark.slow
def test_full_profile_runs_on_two_processes_and_goes_on(tiny_world: Path, tmp_path: Path) -> None:
    """The full YAML with a tiny random OWLv2 and a random ViT-B/32 in OpenAI's layout: some frames, then the rest with one process."""
    (tmp_path / "owlv2").mkdir()
    save_owlv2(tmp_path / "owlv2")
    model = open_clip.create_model("ViT-B-32-quickgelu", load_weights=False)
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    torch.save({**state, "input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)},
               tmp_path / "ViT-B-32.pt")
    command = [sys.executable, "-m", "stages", "predict", "--config", "collect_proxies", "--data.root", str(tiny_world), "--data.num_workers", "0",
               "--data.frames", "[nuscenes/v1.0-mini/mini_train, sunrgbd/objects10/train]", "--data.cache", str(tmp_path / "cache"),
               "--model.output", str(tmp_path / "store"), "--model.detector.model", str(tmp_path / "owlv2"), "--model.detector.precision", "fp32",
               "--model.detector.suppression.min_score", "0.0", "--model.detector.suppression.max_boxes", "5", "--model.lifting_workers", "1",
               "--model.embed.pretrained", str(tmp_path / "ViT-B-32.pt"), "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    for extra in (["--data.limit", "2", "--trainer.devices", "2", "--trainer.strategy", "ddp"], ["--trainer.devices", "1"]):
        subprocess.run([*command, *extra], cwd=REPO, check=True, capture_output=True, timeout=600)
    store = TripletStore(tmp_path / "store")
    assert store.num_frames == sum(len(open_frames(name, tiny_world)) for name in SETS) and store.complete
    assert store.index["settings"]["detector"]["kind"] == "Owlv2Detector" and len(store.index["vocabulary"]["concepts"]) == 1203
    assert [(kind["embed_dim"], kind["complete"]) for kind in store.index["embeddings"]] == [(512, True)]
    config = store.index["provenance"]["config"]
    assert config["data"]["batch_size"] == 4 and config["model"]["init_args"]["max_points"] == 4096


def test_detections_of_another_program(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """No pixels are needed, names come from the file; a name without a concept is counted."""
    truth = json.loads((tiny_world / "detections" / "sunrgbd_boxes.json").read_text())
    truth["categories"] = [{"id": 0, "name": "couch"}, {"id": 1, "name": "thingummy"}]
    for number, annotation in enumerate(truth["annotations"]):
        annotation.update(category_id=number % 2, score=0.1 + 0.001 * number)
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(truth))
    arguments = collect_arguments(tiny_world, tiny_clip, tmp_path / "store")
    for option in ("--model.detector.proposals.files", "--model.detector.clip.pretrained", "--model.detector.suppression.min_score"):
        place = arguments.index(option)
        del arguments[place : place + 2]
    run_stage([*arguments, "--model.detector", "CocoDetections", "--model.detector.files", f"[{file}]", "--model.vocabulary", "lvis",
               "--model.detector.suppression", "{min_score: 0.0, min_side_px: 10.0}", "--data.frames", "[sunrgbd/objects10/train]"])
    store = TripletStore(tmp_path / "store")
    assert set(store.index["classes"]) == {"sofa"} and store.scores.max() < 0.2
    rules = store.index["data"]["sunrgbd/objects10/train"]["rules"]
    frames = open_frames("sunrgbd/objects10/train", tiny_world)
    numbers = {image["id"] for image in truth["images"] if image["file_name"] in set(frames.picture_keys(range(len(frames))))}
    of_train = [annotation["category_id"] for annotation in truth["annotations"] if annotation["image_id"] in numbers]
    assert (rules["boxes"], rules["name is in no vocabulary"]) == (len(of_train), sum(of_train))


def _copy(world: Path, folder: Path) -> Path:
    """A mini-world whose frames may be damaged."""
    for name in ("nuscenes", "sunrgbd", "detections"):
        shutil.copytree(world / name, folder / name)
    return folder


def _remove(pattern: str):
    def damage(world: Path) -> str:
        path = sorted(world.glob(pattern))[0]
        path.unlink()
        return path.name
    return damage


def _empty(pattern: str):
    def damage(world: Path) -> str:
        path = next(path for path in sorted(world.glob(pattern)))
        path.write_bytes(b"")
        return path.name
    return damage


TRAIN_FRAME = "sunrgbd/SUNRGBD/kv2/kinect2data/*"
DAMAGES = [
    (_remove(f"{TRAIN_FRAME}/depth/*.png"), "depth is missing"),
    (_remove(f"{TRAIN_FRAME}/intrinsics.txt"), "intrinsics.txt does not exist"),
    (_empty(f"{TRAIN_FRAME}/image/*.jpg"), "not a whole picture"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[case[1] for case in DAMAGES])
def test_a_damaged_frame_stops_the_run_or_is_listed(damage, message: str, tiny_world: Path, tiny_clip: Path, tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    world = _copy(tiny_world, tmp_path / "world")
    damage(world)
    arguments = [*collect_arguments(world, tiny_clip, tmp_path / "store"), "--data.frames", "[sunrgbd/objects10/train]"]
    with pytest.raises((BadFileError, DataNotFoundError), match=message):
        run_stage([*arguments, "--data.on_bad_sample", "raise"])
    with pytest.raises(BadFileError, match="more than data.max_bad_share"):
        run_stage([*arguments, "--data.on_bad_sample", "skip"])
    run_stage([*arguments, "--data.on_bad_sample", "skip", "--data.max_bad_share", "0.5"])
    listed = [json.loads(line) for line in (tmp_path / "store" / "unreadable-rank0.jsonl").read_text().splitlines()]
    assert len(listed) == 1 and message in listed[0]["reason"]
    assert "1 frames could not be read" in capsys.readouterr().out
    total = len(open_frames("sunrgbd/objects10/train", tiny_world))
    assert TripletStore(tmp_path / "store").index["num_frames"] == total - 1
    run_stage([*arguments, "--data.on_bad_sample", "skip", "--data.max_bad_share", "0.5"])  # nothing was mended: the same again
    assert TripletStore(tmp_path / "store").index["num_frames"] == total - 1
    shutil.rmtree(world / "sunrgbd")
    shutil.copytree(tiny_world / "sunrgbd", world / "sunrgbd")  # mended
    run_stage([*arguments, "--data.on_bad_sample", "skip"])
    assert TripletStore(tmp_path / "store").index["num_frames"] == total
    assert not (tmp_path / "store" / "unreadable-rank0.jsonl").exists()


def test_an_empty_lidar_sweep_is_named(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    world = _copy(tiny_world, tmp_path / "world")
    _empty("nuscenes/samples/LIDAR_TOP/*.bin")(world)
    with pytest.raises(BadFileError, match="no whole number of points"):
        run_stage([*collect_arguments(world, tiny_clip, tmp_path / "store"), "--data.on_bad_sample", "raise", "--data.frames",
                   "[nuscenes/v1.0-mini/mini_train, nuscenes/v1.0-mini/mini_val]"])


BAD = [
    (["--data.frames", "[]"], InputError, "data.frames is empty"),
    (["--data.frames", "[modelnet10/off/train]"], InputError, "modelnet10 has single objects and no frames; frames come from nuscenes, sunrgbd."),
    (["--model.lifting_workers", "-1"], InputError, "model.lifting_workers must be at least 0, got -1."),
    (["--model.cropping.margin", "2"], InputError, "margin from 0 to 1"),
    (["--model.max_points", "0"], InputError, "max_points must be at least 1, got 0."),
    (["--model.vocabulary", "lviss"], InputError, "no vocabulary is called 'lviss'; there are lvis, mini"),
    (["--model.detector.proposals.files", "[nowhere.json]"], DataNotFoundError, "nowhere.json"),
    (["--data.depth", "guessed"], InputError, "depth must be one of raw, filled, got 'guessed'."),
    (["--data.sweeps", "0"], InputError, "sweeps must be at least 1, got 0."),
]


@pytest.mark.parametrize(("extra", "kind", "message"), BAD, ids=[" ".join(case[0]) for case in BAD])
def test_bad_input_is_one_line(extra: list[str], kind: type, message: str, tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(kind) as caught:
        run_stage([*collect_arguments(tiny_world, tiny_clip, tmp_path / "store"), *extra])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_that_was_cut_short_is_not_complete(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    arguments = collect_arguments(tiny_world, tiny_clip, tmp_path / "store")
    run_stage([*arguments, "--trainer.limit_predict_batches", "1", "--data.batch_size", "2"])
    assert (TripletStore(tmp_path / "store").complete, TripletStore(tmp_path / "store").num_frames) == (False, 2)
    run_stage(arguments)
    assert TripletStore(tmp_path / "store").complete


def test_a_picture_of_another_size_is_named(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    world = _copy(tiny_world, tmp_path / "world")
    path = sorted(world.glob("nuscenes/samples/CAM_FRONT/*.jpg"))[0]
    with Image.open(path) as picture:
        picture.resize((80, 45)).save(path)
    with pytest.raises(BadFileError, match="80 x 45 pixels, its camera 160 x 90"):
        run_stage([*collect_arguments(world, tiny_clip, tmp_path / "store"), "--data.on_bad_sample", "raise", "--data.frames",
                   "[nuscenes/v1.0-mini/mini_train, nuscenes/v1.0-mini/mini_val]"])


def test_other_settings_are_refused(tiny_world: Path, tiny_clip: Path, collected: Path) -> None:
    with pytest.raises(InputError, match=r"holds triplets of other settings \(settings.max_points: 4096 there, 99 asked for"):
        run_stage([*collect_arguments(tiny_world, tiny_clip, collected), "--model.max_points", "99"])


def test_pictures_that_no_detection_file_names(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    boxes = json.loads((tiny_world / "detections" / "sunrgbd_boxes.json").read_text())
    for image in boxes["images"]:
        image["file_name"] = f"elsewhere-{image['id']}.jpg"
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(boxes))
    with pytest.raises(InputError, match="pictures is named there"):
        run_stage([*collect_arguments(tiny_world, tiny_clip, tmp_path / "store"), "--model.detector.proposals.files", f"[{file}]"])


def test_an_output_that_cannot_be_written(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write into"):
        run_stage(collect_arguments(tiny_world, tiny_clip, tmp_path / "file" / "store"))


def test_only_predict(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    arguments = collect_arguments(tiny_world, tiny_clip, tmp_path / "store")
    with pytest.raises(InputError):
        run_stage(["test", *arguments[1:], "--data.test", "[modelnet10/off/test]"])


def test_proxies_of_tight_boxes_lie_in_the_annotated_boxes(tiny_world: Path, collected: Path) -> None:
    """Sanity of the whole chain: most stored points lie in some annotated box of their frame."""
    store, inside, total = TripletStore(collected), 0, 0
    frames = {name: open_frames(name, tiny_world) for name in SETS}
    for position in range(len(store)):
        data, token, _ = store.frame_of(position)
        frame = frames[data].frame(token)
        back = store[position].points @ (np.array(frames[data].variant.ours_from_files) @ frame.upright_from_points)
        hits = np.zeros(len(back), dtype=bool)
        for box in frame.boxes:
            hits |= points_in_box(back, box.centre, box.size * 1.05, box.points_from_box)
        inside, total = inside + int(hits.sum()), total + len(back)
    assert inside / total > 0.6
