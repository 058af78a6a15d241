"""nuScenes: key frames, cameras, boxes and objects, from small drives and from a real key frame."""

from __future__ import annotations

import math
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from nuscenes_files import BACKGROUND, CAMERAS, KEY_EVERY, STEP_US, THINGS, Written, to_child, to_parent, token, turn, write_nuscenes

from clip2x.data.entries import Entry, EntryTable
from clip2x.data.nuscenes.objects import NuScenesObjects
from clip2x.data.nuscenes.reader import NuScenesFrames
from clip2x.data.nuscenes.sweeps import NEAR_EGO_X, NEAR_EGO_Y
from clip2x.data.readers import open_dataset
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import points_in_box, project_points, transform_points
from clip2x.manifest import load_manifest, manifest_folder
from clip2x.types import Box3D, SceneFrame

PER_SWEEP = sum(count for *_, count in THINGS)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return write_nuscenes(tmp_path / "Daten für 3D", scenes=("scene-0553", "scene-0061", "scene-0103"))


def frames_of(written: Written, split: str = "mini_train", **options: int) -> NuScenesFrames:
    return NuScenesFrames(root=written.root, variant="v1.0-mini", split=split, **options)


def lidar_file(written: Written, scene: str, frame: int) -> Path:
    record = written.of("sample_data", token("data", scene, "LIDAR_TOP", frame * KEY_EVERY))
    return written.root / "nuscenes" / str(record["filename"])


def to_global(written: Written, scene: str, channel: str, step: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The slow twin of the chain of transforms: quaternion products, point by point."""
    record = written.of("sample_data", token("data", scene, channel, step))
    in_ego = to_parent(written.of("calibrated_sensor", record["calibrated_sensor_token"]), points)
    return to_parent(written.of("ego_pose", record["ego_pose_token"]), in_ego)


def test_the_manifest_agrees_with_the_official_lists_and_mapping() -> None:
    manifest = load_manifest("nuscenes")
    lists = {}
    for variant in manifest.variants.values():
        for name, split in variant.splits.items():
            lists[name] = (manifest_folder() / str(split.shipped)).read_text().split()
            assert len(set(lists[name])) == len(lists[name]) == split.scenes and lists[name] == sorted(lists[name])
    assert {name: len(scenes) for name, scenes in lists.items()} == {"mini_train": 8, "mini_val": 2, "train": 700, "val": 150, "test": 150}
    assert not set(lists["train"]) & set(lists["val"]) and not set(lists["test"]) & {*lists["train"], *lists["val"]}
    assert {*lists["mini_train"], *lists["mini_val"]} <= {*lists["train"], *lists["val"]}
    ten, all_of_them = manifest.labels_of_categories("v1.0-trainval"), manifest.labels_of_categories("v1.0-trainval-23")
    assert len(manifest.class_names) == 10 and sorted(set(ten.values())) == list(range(10)) and len(ten) == 14
    assert len(all_of_them) == len(manifest.classes("v1.0-mini-23")) == 23 and sorted(all_of_them.values()) == list(range(23))
    assert set(ten) < set(all_of_them) and ten["vehicle.bus.bendy"] == ten["vehicle.bus.rigid"] == 2 and "human.pedestrian.stroller" not in ten
    assert next(iter(manifest.variants)) == "v1.0-mini" and len(manifest.sensors) == 7


def test_a_part_of_one_scene_is_refused(tmp_path: Path) -> None:
    written = write_nuscenes(tmp_path, scenes=("scene-0061",))
    with pytest.raises(DataNotFoundError, match="too little to hold a part out"):
        frames_of(written, "mini_train:val")
    assert len(frames_of(written, "mini_train:fit")) == 3


@pytest.mark.parametrize("change", [
    lambda values: values.astype("<f8"), lambda values: values[: len(values) // 5 * 5, :4], lambda values: values * 1e30,
    lambda values: np.frombuffer(b"hello world\n" * 50, dtype="<f4")])
def test_sweeps_of_another_layout_are_refused(change: Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]],
                                              written: Written) -> None:
    path = lidar_file(written, "scene-0061", 0)
    path.write_bytes(np.ascontiguousarray(change(np.fromfile(path, dtype="<f4").reshape(-1, 5))).tobytes())
    with pytest.raises(BadFileError, match=r"pcd.bin: ring number .* of point \d+; it must be a whole number"):
        frames_of(written)[0]


def test_frames_come_scene_by_scene_in_time_order(written: Written) -> None:
    frames = frames_of(written)
    assert frames.tokens == [token("sample", scene, frame) for scene in ("scene-0061", "scene-0553") for frame in range(3)]
    assert len(frames) == 6 and frames[3].scene == "scene-0553" and frames[3].token == frames.tokens[3]
    assert frames.notes == ["6 of 8 scenes of mini_train are not in the tables, first scene-0655.",
                            "nuscenes/v1.0-mini: 6 of 323 key frames of mini_train are there."]
    assert len(frames_of(written, "mini_val")) == 3
    with pytest.raises(InputError, match="nuscenes/v1.0-mini/mini_val has no frame"):
        frames_of(written, "mini_val").frame(frames.tokens[0])


def test_points_boxes_and_counts(written: Written) -> None:
    frames = frames_of(written)
    for frame in frames:
        assert frame.points.shape == (PER_SWEEP + BACKGROUND + 1, 3) and frame.points.dtype == np.float32 and frame.points.flags.c_contiguous
        assert frame.feature_names == ("intensity", "ring") and frame.features is not None and frame.features[33].tolist() == [17.0, 1.0]
        assert [(box.name, box.label, box.num_points) for box in frame.boxes] == [
            ("vehicle.car", 0, 30), ("human.pedestrian.adult", 5, 8), ("movable_object.debris", -1, 6), ("movable_object.trafficcone", 8, 3),
            ("vehicle.bus.rigid", 2, 0)]
        for box, (_, width, length, height, count) in zip(frame.boxes, THINGS, strict=True):
            assert box.size.tolist() == [length, width, height]
            assert points_in_box(frame.points, box.centre, box.size, box.points_from_box).sum() == count
    labels = [box.label for box in NuScenesFrames(root=written.root, variant="v1.0-mini-23", split="mini_val")[0].boxes]
    assert [load_manifest("nuscenes").classes("v1.0-mini-23")[label] for label in labels] == [
        "car", "adult pedestrian", "debris", "traffic cone", "rigid bus"]


def test_cameras_at_their_own_time_equal_the_slow_chain(written: Written) -> None:
    frame = frames_of(written)[4]  # scene-0553, key frame 1
    step = KEY_EVERY
    assert [camera.name for camera in frame.cameras] == CAMERAS and frame.notes == ()
    for camera in frame.cameras:
        record = written.of("sample_data", token("data", "scene-0553", camera.name, step))
        in_global = to_global(written, "scene-0553", "LIDAR_TOP", step, frame.points[::7].astype(np.float64))
        in_ego = to_child(written.of("ego_pose", record["ego_pose_token"]), in_global)
        in_camera = to_child(written.of("calibrated_sensor", record["calibrated_sensor_token"]), in_ego)
        assert camera.camera_from_points.dtype == np.float64
        assert np.allclose(transform_points(camera.camera_from_points, frame.points[::7]), in_camera, atol=1e-9)
        assert (camera.width_px, camera.height_px) == (24, 16) and camera.file.is_file() and camera.timestamp_us == record["timestamp"]
        assert camera.intrinsics.tolist() == [[20.0, 0.0, 12.0], [0.0, 20.0, 8.0], [0.0, 0.0, 1.0]]


def test_upright_is_gravity_and_the_heading_of_the_car(written: Written) -> None:
    frame = frames_of(written)[1]  # scene-0061, key frame 1
    pose = written.of("ego_pose", token("pose", "scene-0061", "LIDAR_TOP", KEY_EVERY))
    origin = to_global(written, "scene-0061", "LIDAR_TOP", KEY_EVERY, np.zeros((1, 3)))
    offsets = to_global(written, "scene-0061", "LIDAR_TOP", KEY_EVERY, frame.points.astype(np.float64)) - origin
    forward = to_parent(pose, np.array([[1.0, 0.0, 0.0]]))[0] - pose["translation"]
    assert abs(forward[2]) > 0.01, "the car pitches, or this shows nothing"
    expected = to_child({"rotation": turn("z", math.atan2(forward[1], forward[0])), "translation": [0.0, 0.0, 0.0]}, offsets)
    assert np.allclose(frame.points @ frame.upright_from_points.T, expected, atol=1e-4)
    assert np.isclose(np.linalg.det(frame.upright_from_points), 1.0)


def test_sweeps_are_moved_by_the_cars_motion(written: Written) -> None:
    frame = frames_of(written, sweeps=3)[1]
    assert frame.feature_names == ("intensity", "ring", "time_lag_s") and frame.features is not None
    lags, counts = np.unique(frame.features[:, 2], return_counts=True)
    assert np.allclose(lags, [0.0, STEP_US * 1e-6, 2 * STEP_US * 1e-6], atol=1e-9) and counts.tolist() == [PER_SWEEP + BACKGROUND] * 3
    inside = [int(points_in_box(frame.points, box.centre, box.size, box.points_from_box).sum()) for box in frame.boxes]
    assert inside == [3 * count for *_, count in THINGS], "things stand still"
    key = frame.points[frame.features[:, 2] == 0]
    assert not ((np.abs(key[:, 0]) < NEAR_EGO_X) & (np.abs(key[:, 1]) < NEAR_EGO_Y)).any()
    first = frames_of(written, sweeps=3)[0]
    assert len(first.points) == PER_SWEEP + BACKGROUND and first.notes == (), "a drive starts without sweeps before it"
    shutil.rmtree(written.root / "nuscenes" / "sweeps")
    partial = frames_of(written, sweeps=3)[1]
    assert len(partial.points) == PER_SWEEP + BACKGROUND and len(partial.notes) == 2 and "there is no sweep sweeps/LIDAR_TOP/n015" in partial.notes[0]
    with pytest.raises(InputError, match="sweeps must be at least 1, got 0"):
        frames_of(written, sweeps=0)


def test_partial_downloads_are_used_as_far_as_they_go(written: Written) -> None:
    gone = lidar_file(written, "scene-0061", 1)
    gone.unlink()
    picture = written.root / "nuscenes" / str(written.of("sample_data", token("data", "scene-0061", "CAM_BACK", 0))["filename"])
    picture.unlink()
    frames = frames_of(written)
    assert len(frames) == 5 and token("sample", "scene-0061", 1) not in frames.tokens
    assert f"1 of 6 key frames of mini_train are left out: no LiDAR file, first samples/LIDAR_TOP/{gone.name}." in frames.notes
    assert f"1 pictures of mini_train are missing, first samples/CAM_BACK/{picture.name}." in frames.notes
    assert [camera.name for camera in frames[0].cameras] == [name for name in CAMERAS if name != "CAM_BACK"]
    assert frames[0].notes == (f"there is no picture samples/CAM_BACK/{picture.name}.",) and len(frames[1].cameras) == 6
    shutil.rmtree(written.root / "nuscenes" / "samples" / "CAM_FRONT")
    assert [camera.name for camera in frames_of(written)[0].cameras] == CAMERAS[1:3] + CAMERAS[4:]
    shutil.rmtree(written.root / "nuscenes" / "samples" / "LIDAR_TOP")
    with pytest.raises(DataNotFoundError, match="none of the 6 key frames of mini_train in its tables has a LiDAR file.*nuscenes.org"):
        frames_of(written)
    shutil.rmtree(written.folder)
    with pytest.raises(DataNotFoundError, match="there is no folder '.*v1.0-mini' with its tables"):
        frames_of(written)


def test_a_folder_that_cannot_be_read_is_named(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("clip2x.data.nuscenes.reader.os.listdir", refuse)
    with pytest.raises(BadFileError, match=r"samples/LIDAR_TOP: the folder cannot be read .Permission denied."):
        frames_of(written)


def test_holes_in_the_tables_cost_the_frame_or_the_camera(written: Written) -> None:
    written.tables["ego_pose"] = [record for record in written.tables["ego_pose"] if record["token"] not in
                                  (token("pose", "scene-0061", "LIDAR_TOP", 0), token("pose", "scene-0061", "CAM_FRONT", KEY_EVERY))]
    for record in written.tables["calibrated_sensor"]:
        if record["token"] == token("calibrated", "scene-0061", "CAM_BACK"):
            record["camera_intrinsic"] = []
    written.tables["instance"] = written.tables["instance"][1:]  # the car of scene-0553
    for record in written.tables["sample_data"]:
        record["width"], record["height"] = 0, 0
    written.write()
    frames = frames_of(written)
    assert "1 of 6 key frames of mini_train are left out: their LIDAR_TOP has no whole record." in frames.notes and len(frames) == 5
    assert any(note.startswith("sample_data.json: 2 of") for note in frames.notes)
    assert frames[0].notes == ("the tables have no whole record of CAM_FRONT.", "the tables have no camera_intrinsic of CAM_BACK.")
    assert [(camera.width_px, camera.height_px) for camera in frames[0].cameras] == [(24, 16)] * 4, "the file's own size"
    assert (frames[2].boxes[0].name, frames[2].boxes[0].label) == ("unknown", -1)


def test_objects_are_cut_out_upright(written: Written) -> None:
    data = NuScenesObjects(root=written.root, split="mini_train")
    assert len(data) == 12 and data.labels == [0, 5] * 6
    assert data.entries[7] == Entry(token("annotation", "scene-0553", 0, "human.pedestrian.adult"), 5, "scene-0553")
    assert "12 objects of mini_train have fewer than 5 points and are left out." in data.notes
    assert data[0]["points"].shape == (1024, 3) and data[0]["label"] == 0
    for position in (0, 3, 11, 0):
        entry = data.entries[position]
        cloud = data.load(entry, np.random.default_rng(0))
        truth = written.things[entry.key]
        assert len(cloud) == len(truth) and np.ptp(cloud[:, 2]) == pytest.approx(np.ptp(truth[:, 2]), abs=1e-4), "heights are those of the world"
        assert np.allclose(np.linalg.norm(cloud[:, :2] - cloud[:1, :2], axis=1), np.linalg.norm(truth[:, :2] - truth[:1, :2], axis=1), atol=1e-3)
    assert len(NuScenesObjects(root=written.root, split="mini_train", min_points=1)) == 18
    assert len(NuScenesObjects(root=written.root, split="mini_train", variant="v1.0-mini-23")) == 18
    assert len(NuScenesObjects(root=written.root, split="mini_train", variant="v1.0-mini-23", min_points=7)) == 12
    with pytest.raises(InputError, match="min_points must be at least 1 or left out, got 0"):
        NuScenesObjects(root=written.root, split="mini_train", min_points=0)


def test_parts_keep_drives_together(written: Written) -> None:
    fit, held_out = (NuScenesObjects(root=written.root, split=f"mini_train:{part}") for part in ("fit", "val"))
    groups = [{data.entries[position].group for position in range(len(data))} for data in (fit, held_out)]
    assert len(fit) == len(held_out) == 6 and len(groups[0]) == len(groups[1]) == 1 and not groups[0] & groups[1]
    frames = [frames_of(written, f"mini_train:{part}") for part in ("fit", "val")]
    assert [len(part) for part in frames] == [3, 3] and [{frame.scene for frame in part} for part in frames] == groups


def test_the_last_sweep_is_kept(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_dataset("nuscenes/v1.0-mini/mini_train", written.root)
    assert isinstance(data, NuScenesObjects)
    read: list[int] = []
    solid = NuScenesFrames.solid

    def counted(self: NuScenesFrames, slot: int) -> SceneFrame:
        read.append(slot)
        return solid(self, slot)

    monkeypatch.setattr(NuScenesFrames, "solid", counted)
    for position in range(4):
        data[position]
    assert read == [0, 1]
    sent = pickle.loads(pickle.dumps(data))
    assert sent._last is None and np.array_equal(sent[1]["points"], data[1]["points"])


@pytest.mark.parametrize(("content", "message"), [
    (b"", "0 bytes are no whole number of points of 20 bytes"),
    (b"1234" * 6, "24 bytes are no whole number of points of 20 bytes .float32 x, y, z, intensity, ring.; get the file again"),
    (np.full((3, 5), np.nan, "<f4").tobytes(), "3 of 3 points hold NaN or infinite values, first point 0"),
    (np.array([[1, 2, 3, 4, 5], [1, 2, np.inf, 4, 5]], "<f4").tobytes(), "1 of 2 points hold NaN or infinite values, first point 1"),
])
def test_broken_sweeps_are_named(content: bytes, message: str, written: Written) -> None:
    frames, objects = frames_of(written), NuScenesObjects(root=written.root, split="mini_train")
    path = lidar_file(written, "scene-0061", 0)
    path.write_bytes(content)
    for read in (lambda: frames[0], lambda: objects[0]):
        with pytest.raises(BadFileError, match=message) as caught:
            read()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(DataNotFoundError, match="does not exist"):
        frames[0]
    path.mkdir()
    with pytest.raises(BadFileError, match="cannot be read .Is a directory."):
        frames[0]


def test_a_box_whose_points_are_gone_is_named(written: Written) -> None:
    path = lidar_file(written, "scene-0061", 0)
    path.write_bytes(np.full((4, 5), 99.0, "<f4").tobytes())
    with pytest.raises(BadFileError, match=r"LIDAR_TOP.*: no point lies in the box [0-9a-f]{32} \(vehicle.car\)"):
        NuScenesObjects(root=written.root, split="mini_train")[0]


def test_splits_without_frames_and_other_names_are_answered(written: Written) -> None:
    with pytest.raises(InputError, match="has no split 'train'; it has mini_train, mini_val"):
        frames_of(written, "train")
    with pytest.raises(DataNotFoundError, match="there is no folder '.*v1.0-trainval' with its tables"):
        NuScenesFrames(root=written.root, variant="v1.0-trainval", split="val")
    written.tables["sample_annotation"] = []
    written.write()
    assert frames_of(written)[0].boxes == ()
    with pytest.raises(DataNotFoundError, match="has no sample of mini_train"):
        NuScenesObjects(root=written.root, split="mini_train")


def test_entries_from_arrays_equal_entries_one_by_one() -> None:
    entries = [Entry("ab", 1, "x"), Entry("cd", 0, "y"), Entry("ef", 1, "x")]
    keys = np.frombuffer(b"abcdef", np.uint8).reshape(3, 2)
    packed = EntryTable.from_arrays(keys, np.array([1, 0, 1]), np.array([0, 1, 0]), ["x", "y", "unused"])
    assert list(packed) == entries and list(packed.select([2, 0])) == [entries[2], entries[0]] and list(packed[1:]) == entries[1:]
    assert packed.labels.dtype == np.int32


@pytest.fixture
def real(shared_data: Path) -> NuScenesFrames:
    return NuScenesFrames(root=shared_data, variant="v1.0-mini", split="mini_train")


def corners(box: Box3D) -> NDArray[np.float64]:
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    placed: NDArray[np.float64] = signs * box.size @ box.points_from_box.T + box.centre
    return placed


@pytest.mark.data
def test_real_boxes_hold_the_annotated_numbers_of_points(real: NuScenesFrames) -> None:
    (frame,) = real
    assert frame.scene == "scene-0061" and frame.points.shape == (34_688, 3) and len(frame.cameras) == 6 and len(frame.boxes) == 68
    counts = [int(points_in_box(frame.points, box.centre, box.size, box.points_from_box).sum()) for box in frame.boxes]
    differences = [abs(count - (box.num_points or 0)) for count, box in zip(counts, frame.boxes, strict=True)]
    assert sum(difference == 0 for difference in differences) >= 60 and sum(difference <= 2 for difference in differences) >= 66
    assert all(box.label >= 0 for box in frame.boxes), "every category of the sample belongs to a class"
    assert frame.features is not None and set(frame.features[:, 1].tolist()) == set(range(32))


@pytest.mark.data
def test_real_ground_is_level_and_below_the_sensor(real: NuScenesFrames) -> None:
    (frame,) = real
    upright = frame.points @ frame.upright_from_points.T
    road = upright[(np.abs(upright[:, 1]) < 3) & (np.abs(upright[:, 0]) > 4) & (np.abs(upright[:, 0]) < 15) & (upright[:, 2] < -1.5)]
    slope_x, slope_y, height = np.linalg.lstsq(np.column_stack([road[:, :2], np.ones(len(road))]), road[:, 2], rcond=None)[0]
    assert -2.0 < height < -1.6 and abs(slope_x) < 0.03 and abs(slope_y) < 0.05


@pytest.mark.data
def test_real_boxes_stand_in_the_pictures_where_the_objects_are(real: NuScenesFrames) -> None:
    """Edges measured by eye in CAM_FRONT: the truck at the left, whose tail lift spans about 60 to 445 px of 1,600, seen from behind."""
    (frame,) = real
    front = next(camera for camera in frame.cameras if camera.name == "CAM_FRONT")
    trucks = [box for box in frame.boxes if box.name == "vehicle.truck"]
    nearest = min(trucks, key=lambda box: float(np.linalg.norm(box.centre)))
    in_camera = transform_points(front.camera_from_points, corners(nearest))
    pixels, depth = project_points(in_camera, front.intrinsics)
    rear = pixels[:4]  # x = -length / 2
    assert depth[:4].max() < depth[4:].min(), "its rear is towards us"
    assert abs(rear[:, 0].min() - 65) < 25 and abs(rear[:, 0].max() - 445) < 25 and abs(rear[:, 1].max() - 653) < 25
    assert (front.width_px, front.height_px) == (1600, 900)


@pytest.mark.data
def test_real_objects(shared_data: Path) -> None:
    data = NuScenesObjects(root=shared_data, variant="v1.0-mini", split="mini_train")
    assert len(data) == 27 and {data.entries[position].group for position in range(27)} == {"scene-0061"}
    for sample in data:
        assert sample["points"].isfinite().all()
        if sample["index"] == len(data) - 1:
            break
