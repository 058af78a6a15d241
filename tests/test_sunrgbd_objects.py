"""Objects that the 3-D boxes of SUN RGB-D cut out, on a small tree in the official layout and on one real frame."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sunrgbd_tree import B3DO, CHAIR, HALL_1, HALL_2, KINECT, OBJECTS, TRAIN, scene_depth, toolbox_mask, truncate, write_frame, write_json, write_tree

from clip2x.data.sunrgbd.files import scene_of
from clip2x.data.sunrgbd.index import ObjectIndex
from clip2x.data.sunrgbd.objects import SunRgbdObjects
from clip2x.data.sunrgbd.reader import SunRgbdFrames
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.types import SceneFrame


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_tree(tmp_path / "däta root" / "sunrgbd")
    return tmp_path / "däta root"


def objects_of(root: Path, **options: Any) -> SunRgbdObjects:
    return SunRgbdObjects(**{"root": root, "split": "train", "num_points": 64, "cache": root / "cache", "min_points": 5, **options})


def test_objects_are_cut_out_and_stand_upright(root: Path) -> None:
    objects = objects_of(root)
    keys = {(entry.key, entry.label, entry.group) for entry in objects.entries}
    assert keys == {(f"{token}#{position}", label, scene_of(token)) for token in TRAIN for position, label in ((1, 2), (2, 9))}
    assert objects.class_names[2] == "chair" and "3 objects of train have fewer than 5 points and are left out." in objects.notes
    frame = objects.frames.frame(B3DO)
    upright = frame.points @ frame.upright_from_points.T
    chair = next(entry for entry in objects.entries if entry.key == f"{B3DO}#1")
    cloud = objects.load(chair, np.random.default_rng(0))
    expected = upright[toolbox_mask(upright, CHAIR["polygon"][0])]
    assert cloud.dtype == np.float32 and np.allclose(cloud, expected, atol=1e-5) and len(cloud) > 100
    sample = objects[list(objects.entries).index(chair)]
    assert sample["points"].shape == (64, 3) and sample["label"] == 2
    whole = objects_of(root, num_points=len(cloud))[list(objects.entries).index(chair)]["points"].numpy()
    ours = expected[:, [0, 2, 1]] * [1, 1, -1]
    ours -= ours.mean(axis=0)
    assert np.allclose(whole, ours / np.linalg.norm(ours, axis=1).max(), atol=1e-4), "right, up, back"


def test_variants_and_limits_choose_among_objects(root: Path) -> None:
    wide = objects_of(root, variant="objects37")
    assert {wide.class_names[label] for label in wide.labels} == {"chair", "night stand", "tv"}, "walls are no objects"
    assert len(objects_of(root, min_points=1)) == 6, "a box without points is never a sample"
    most = [len(wide.load(entry, np.random.default_rng(0))) for entry in wide.entries]
    least = sorted(most)[-2]
    assert len(objects_of(root, variant="objects37", min_points=least)) == 2
    with pytest.raises(DataNotFoundError, match="has no sample of train"):
        objects_of(root, min_points=10**6)
    with pytest.raises(InputError, match="min_points must be at least 1"):
        objects_of(root, min_points=0)
    assert len(objects_of(root, min_points=None, split="test")) == sum(count >= 100 for count in _counts(root, KINECT, (1, 2)))
    fit, val = (objects_of(root, split=f"train:{part}").entries for part in ("fit", "val"))
    assert not {entry.group for entry in fit} & {entry.group for entry in val} and len(fit) + len(val) == 6


def _counts(root: Path, token: str, positions: tuple[int, ...]) -> list[int]:
    frame = SunRgbdFrames(root=root, split="test").frame(token)
    upright = frame.points @ frame.upright_from_points.T
    return [int(toolbox_mask(upright, OBJECTS[position]["polygon"][0]).sum()) for position in positions]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which frames' points are read, in order."""
    tokens: list[str] = []
    solid = SunRgbdFrames.solid

    def listening(self: SunRgbdFrames, token: str) -> tuple[SceneFrame, NDArray[np.float32], NDArray[np.float64]]:
        tokens.append(token)
        return solid(self, token)

    monkeypatch.setattr(SunRgbdFrames, "solid", listening)
    return tokens


def test_points_are_counted_once_and_again_for_changed_frames(root: Path, reads: list[str]) -> None:
    first = list(objects_of(root).entries)
    assert reads == sorted(TRAIN)
    assert list(objects_of(root).entries) == first and list(objects_of(root, variant="objects37", min_points=50).entries) and len(reads) == 3
    write_json(root / "sunrgbd" / HALL_2 / "annotation3Dfinal", {"objects": [CHAIR]})
    changed = list(objects_of(root).entries)
    assert reads[3:] == [HALL_2] and len(changed) == 5 and f"{HALL_2}#0" in {entry.key for entry in changed}
    os.utime(root / "sunrgbd" / B3DO / "extrinsics" / "20150101000000.txt", ns=(1, 1))
    objects_of(root)
    assert reads[4:] == [B3DO]
    (stored,) = (root / "cache" / "sunrgbd").iterdir()
    stored.write_bytes(stored.read_bytes()[:100])
    assert list(objects_of(root).entries) == changed and len(reads) == 8
    objects_of(root, depth="filled")
    assert len(list((root / "cache" / "sunrgbd").iterdir())) == 2


def test_samples_come_from_the_cache_until_a_file_changes(root: Path, reads: list[str]) -> None:
    objects = objects_of(root)
    first, second = objects[0]["points"], objects[1]["points"]
    assert reads[3:] == [B3DO], "one frame serves all its objects"
    again = pickle.loads(pickle.dumps(objects))
    assert again._last is None and again[0]["points"].equal(first) and again[1]["points"].equal(second) and len(reads) == 4
    write_frame(root / "new", scene_depth(9))
    shutil.copy(root / "new" / "depth" / "new_abs.png", root / "sunrgbd" / B3DO / "depth" / "img_000_abs.png")
    assert not again[0]["points"].equal(first) and len(reads) == 5
    write_json(root / "sunrgbd" / B3DO / "annotation3Dfinal", {"objects": []})
    fresh = pickle.loads(pickle.dumps(objects))
    with pytest.raises(BadFileError, match=r"annotation3Dfinal/index.json: object 1 is gone; the file was replaced"):
        fresh[0]
    (root / "sunrgbd" / B3DO / "annotation3Dfinal" / "index.json").unlink()
    with pytest.raises(DataNotFoundError, match="annotation3Dfinal/index.json is gone"):
        fresh[0]


def test_a_cache_that_cannot_be_written_is_a_note(root: Path) -> None:
    (root / "file").write_text("no folder")
    objects = objects_of(root, cache=root / "file")
    assert len(objects) == 6 and any("point counts are not kept in" in note for note in objects.notes)
    assert objects[0]["points"].shape == (64, 3) and any("samples are not kept in" in note for note in objects.notes)


def test_frames_without_points_keep_their_objects_and_say_why(root: Path) -> None:
    truncate(root / "sunrgbd" / HALL_1 / "depth" / "0000001_abs.png")
    (root / "sunrgbd" / HALL_2 / "annotation3Dfinal" / "index.json").unlink()
    objects = objects_of(root, variant="objects37")
    assert any(note.startswith("1 of 3 frames cannot be read; their objects raise") and "not a whole picture" in note for note in objects.notes)
    assert f"1 frames have no annotation3Dfinal/index.json and hence no objects, first {HALL_2}." in objects.notes
    bad = [position for position, entry in enumerate(objects.entries) if entry.key.startswith(HALL_1)]
    assert len(bad) == 4 and {entry.key.rpartition("#")[0] for entry in objects.entries} == {B3DO, HALL_1}
    with pytest.raises(BadFileError, match="0000001_abs.png: not a whole picture"):
        objects[bad[0]]


def test_a_frame_without_points_and_boxes_does_not_stop_the_others(root: Path) -> None:
    shutil.rmtree(root / "sunrgbd" / HALL_1 / "depth")
    (root / "sunrgbd" / HALL_1 / "annotation3Dfinal" / "index.json").unlink()
    objects = objects_of(root)
    assert {entry.key.rpartition("#")[0] for entry in objects.entries} == {B3DO, HALL_2}
    assert any("1 of 3 frames cannot be read" in note for note in objects.notes)


def test_a_folder_that_cannot_be_read_does_not_stop_the_others(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path.name == "depth" and HALL_1 in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    objects = objects_of(root)
    bad = [position for position, entry in enumerate(objects.entries) if entry.key.startswith(HALL_1)]
    assert len(objects) > len(bad) > 0
    with pytest.raises(BadFileError, match=r"scan_1/.*depth: the folder cannot be read \(Permission denied\)"):
        objects[bad[0]]


def test_a_part_of_one_recording_is_refused(tmp_path: Path) -> None:
    write_frame(tmp_path / "sunrgbd" / B3DO, scene_depth(0))
    (tmp_path / "sunrgbd" / "sunrgbd_training_images.txt").write_text(f"{B3DO}/image/a.jpg\n")
    with pytest.raises(DataNotFoundError, match="too little to hold a part out"):
        SunRgbdFrames(root=tmp_path, split="train:val")


def test_boxes_that_cannot_be_read_stop_with_the_file(root: Path, reads: list[str]) -> None:
    truncate(root / "sunrgbd" / HALL_1 / "annotation3Dfinal" / "index.json")
    for _ in range(2):
        with pytest.raises(BadFileError, match=r"scan_1/.*not a readable JSON file .* It is one of 1 frames of train whose 3-D boxes cannot be read"):
            objects_of(root)
    assert reads == [B3DO, HALL_1, HALL_2, HALL_1], "the other frames are kept"


def test_signatures_of_missing_files(root: Path) -> None:
    index = ObjectIndex(root / "sunrgbd", "depth")
    assert len(index.signature(B3DO)) == 8 and min(index.signature(B3DO)) > 0 and set(index.signature("SUNRGBD/nothing")) == {-1}


@pytest.mark.data
def test_real_objects(shared_data: Path, tmp_path: Path) -> None:
    objects = SunRgbdObjects(root=shared_data, split="train", cache=tmp_path)
    found = [(objects.class_names[entry.label], entry.key.rpartition("#")[2]) for entry in objects.entries]
    assert found == [("bookshelf", "0"), ("bookshelf", "2"), ("chair", "4")]
    for sample in (objects[0], objects[1]):
        height, width, depth = (sample["points"].amax(dim=0) - sample["points"].amin(dim=0))[[1, 0, 2]].tolist()
        assert height > width > depth, "a shelf stands upright"
    assert any("5,284 of 5,285 frames of train are missing" in note for note in objects.notes)
    assert len(SunRgbdObjects(root=shared_data, split="train", variant="objects37", cache=tmp_path)) == 5
