"""The mini-world's streets: tables, sweeps and pictures in nuScenes' layout, and things whose names are held out."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clip2x.data.nuscenes.objects import NuScenesObjects
from clip2x.data.nuscenes.reader import NuScenesFrames
from clip2x.errors import InputError
from clip2x.geometry import inverse_transform, points_in_box, project_points, rotation_from_quaternion, transform_points
from clip2x.manifest import load_manifest
from clip2x.miniworld.captions import OTHER_NAMES
from clip2x.miniworld.objects import CLASS_NAMES, Stream
from clip2x.miniworld.streets.drive import Drive, KeyFrame
from clip2x.miniworld.streets.layout import LIMITS, make_street, travelled
from clip2x.miniworld.streets.sensors import CAMERAS, COLUMNS, LOWEST_DEG, RINGS, STEP_DEG, _beams, camera_delay_us, quaternion
from clip2x.miniworld.streets.writer import ALL_CATEGORIES, CATEGORY_OF_UNSEEN, TABLES, StreetSize, write_streets
from clip2x.miniworld.unseen import UNSEEN_INDOOR, UNSEEN_STREET, make_unseen

SIZE = StreetSize(train_scenes=1, val_scenes=1, train_frames=2, val_frames=1, width_px=96, height_px=54)
Tables = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("Straßen und mehr")
    write_streets(root, seed=3, size=SIZE)
    return root


@pytest.fixture(scope="module")
def tables(world: Path) -> Tables:
    return {name: json.loads((world / "nuscenes" / "v1.0-mini" / f"{name}.json").read_text()) for name in TABLES}


@pytest.fixture(scope="module")
def drive() -> Drive:
    return Drive(Stream.STREET_TRAIN, 0, 1, 240, 135, seed=3)


@pytest.fixture(scope="module")
def key_frame(drive: Drive) -> KeyFrame:
    return next(drive.key_frames())


def test_every_reference_of_the_tables_resolves(tables: Tables) -> None:
    tokens = {name: [row["token"] for row in rows] for name, rows in tables.items()}
    for name, own in tokens.items():
        assert len(set(own)) == len(own), name
        assert name == "visibility" or all(len(token) == 32 and set(token) <= set("0123456789abcdef") for token in own), name
    for name, rows in tables.items():
        for row, key in itertools.product(rows, ("prev", "next")):
            assert row.get(key, "") in ("", *tokens[name])
    single = {"sample": ["scene"], "scene": ["log"], "calibrated_sensor": ["sensor"], "instance": ["category"],
              "sample_data": ["sample", "ego_pose", "calibrated_sensor"], "sample_annotation": ["sample", "instance", "visibility"]}
    for name, targets in single.items():
        for row, target in itertools.product(tables[name], targets):
            assert row[f"{target}_token"] in tokens[target], (name, target)
    assert all(token in tokens["attribute"] for row in tables["sample_annotation"] for token in row["attribute_tokens"])
    assert all(token in tokens["log"] for row in tables["map"] for token in row["log_tokens"])
    assert all(row[f"{end}_sample_token"] in tokens["sample"] for row in tables["scene"] for end in ("first", "last"))
    assert all(row[f"{end}_annotation_token"] in tokens["sample_annotation"] for row in tables["instance"] for end in ("first", "last"))


def test_files_lie_where_the_tables_say_with_the_stated_size(world: Path, tables: Tables) -> None:
    logs = {row["token"]: row["logfile"] for row in tables["log"]}
    assert len(tables["sample_data"]) == 7 * 3
    for row in tables["sample_data"]:
        folder, channel, name = row["filename"].split("/")
        log, in_name, stamp = name.split("__")
        assert folder == "samples" and channel == in_name and log in logs.values() and int(stamp.split(".")[0]) == row["timestamp"]
        path = world / "nuscenes" / row["filename"]
        if channel == "LIDAR_TOP":
            assert path.stat().st_size == RINGS * COLUMNS * 5 * 4 and name.endswith(".pcd.bin") and row["fileformat"] == "pcd"
        else:
            assert Image.open(path).size == (row["width"], row["height"]) == (96, 54) and row["fileformat"] == "jpg"
    assert all((world / "nuscenes" / row["filename"]).is_file() for row in tables["map"])
    for name, rows in tables.items():  # the official files are written so
        assert (world / "nuscenes" / "v1.0-mini" / f"{name}.json").read_text() == json.dumps(rows, indent=0)


def test_times_increase_and_chains_follow_them(tables: Tables) -> None:
    for name in ("sample", "sample_data"):
        by_token = {row["token"]: row for row in tables[name]}
        for row in tables[name]:
            if row["next"]:
                following = by_token[row["next"]]
                assert following["prev"] == row["token"] and 400_000 < following["timestamp"] - row["timestamp"] < 600_000
    stamps = {row["token"]: row["timestamp"] for row in tables["sample"]}
    poses = {row["token"]: row for row in tables["ego_pose"]}
    for row in tables["sample_data"]:
        assert -50_000 < row["timestamp"] - stamps[row["sample_token"]] <= 2_000
        assert poses[row["ego_pose_token"]]["timestamp"] == row["timestamp"]
        assert row["timestamp"] == stamps[row["sample_token"]] or "CAM" in row["filename"]


def test_scenes_and_categories_are_official(tables: Tables) -> None:
    manifest = load_manifest("nuscenes")
    assert [row["name"] for row in tables["scene"]] == ["scene-0061", "scene-0103"]
    assert [row["name"] for row in tables["category"]] == list(manifest.labels_of_categories(ALL_CATEGORIES))
    assert [row["channel"] for row in tables["sensor"]] and {row["channel"] for row in tables["sensor"]} == set(manifest.sensors)


def test_tracks_are_unbroken_and_counted(tables: Tables) -> None:
    annotations = {row["token"]: row for row in tables["sample_annotation"]}
    seen = 0
    for row in tables["instance"]:
        token, length = row["first_annotation_token"], 0
        while token:
            annotation, length = annotations[token], length + 1
            assert annotation["instance_token"] == row["token"]
            last, token = token, annotation["next"]
        assert (last, length) == (row["last_annotation_token"], row["nbr_annotations"])
        assert annotations[row["first_annotation_token"]]["num_lidar_pts"] > 0 and annotations[last]["num_lidar_pts"] > 0
        seen += length
    assert seen == len(annotations)


def devkit_count(points: np.ndarray, box: dict[str, Any]) -> int:
    """The official devkit's rule: project on three edges from a corner, both ends included; its own quaternion formula, one point at a time."""
    w, x, y, z = box["rotation"]
    rotation = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                         [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                         [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])
    width, length, height = box["size"]
    corner = np.array(box["translation"]) + rotation @ np.array([length, width, height]) / -2
    edges = [rotation[:, 0] * length, rotation[:, 1] * width, rotation[:, 2] * height]
    near = points[np.linalg.norm(points - np.array(box["translation"]), axis=1) < 15]
    return sum(all(0 <= edge @ (point - corner) <= edge @ edge for edge in edges) for point in near)


def test_points_in_the_boxes_equal_a_slow_recount(world: Path, tables: Tables) -> None:
    data = next(row for row in tables["sample_data"] if "LIDAR_TOP" in row["filename"])
    points = np.fromfile(world / "nuscenes" / data["filename"], dtype="<f4").reshape(-1, 5)[:, :3].astype(np.float64)
    for table, key in (("calibrated_sensor", "calibrated_sensor_token"), ("ego_pose", "ego_pose_token")):
        frame = next(row for row in tables[table] if row["token"] == data[key])
        points = points @ rotation_from_quaternion(np.array(frame["rotation"])).T + np.array(frame["translation"])
    boxes = [row for row in tables["sample_annotation"] if row["sample_token"] == data["sample_token"] and row["num_lidar_pts"] < 400]
    assert len(boxes) > 25
    assert [row["num_lidar_pts"] for row in boxes] == [devkit_count(points, row) for row in boxes]
    assert all(row["rotation"][1:3] == [0.0, 0.0] and row["num_radar_pts"] == 0 for row in boxes)


def test_the_reader_of_real_data_reads_it(world: Path) -> None:
    frames = NuScenesFrames(root=world, split="mini_train")
    assert len(frames) == 2 and len(NuScenesFrames(root=world, split="mini_val")) == 1
    frame = frames[0]
    assert frame.scene == "scene-0061" and len(frame.cameras) == 6 and len(frame.points) == RINGS * COLUMNS and not frame.notes
    assert len(frame.boxes) > 25
    for box in frame.boxes:
        assert points_in_box(frame.points, box.centre, box.size, box.points_from_box).sum() == box.num_points
    objects = NuScenesObjects(root=world, split="mini_train")
    assert len(objects) == sum((box.num_points or 0) >= 5 and box.label >= 0 for each in (frames[0], frames[1]) for box in each.boxes)
    names = {objects.manifest.class_names[box.label] for box in frame.boxes if box.label >= 0}
    assert {"car", "truck", "pedestrian", "barrier", "traffic cone"} <= names


def test_truth_and_detections_go_with_the_pictures(world: Path, tables: Tables) -> None:
    truth = json.loads((world / "truth" / "nuscenes.json").read_text())
    coco = json.loads((world / "detections" / "nuscenes_boxes.json").read_text())
    pictures = [row["filename"] for row in tables["sample_data"] if row["filename"].endswith(".jpg")]
    assert list(truth["pictures"]) == [image["file_name"] for image in coco["images"]] == pictures
    assert coco["categories"] == [{"id": 0, "name": "object"}] and len(coco["annotations"]) > 10
    assert truth["annotations"].keys() == {row["token"] for row in tables["sample_annotation"]}
    boxes = [box for each in truth["pictures"].values() for box in each]
    assert all(truth["annotations"][box["annotation"]] == box["name"] for box in boxes if box["annotation"])
    category = {row["token"]: row["name"] for row in tables["category"]}
    of_instance = {row["token"]: category[row["category_token"]] for row in tables["instance"]}
    manifest = load_manifest("nuscenes")
    for row in tables["sample_annotation"]:
        name = truth["annotations"][row["token"]]
        assert of_instance[row["instance_token"]] in manifest.category_names[CATEGORY_OF_UNSEEN.get(name, name)]
    assert not any(manifest.labels_of_categories("v1.0-mini").get(manifest.category_names[name][0]) for name in CATEGORY_OF_UNSEEN.values())
    assert set(UNSEEN_STREET) & set(truth["annotations"].values())


def test_streets_depend_on_seed_and_scene_only(world: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        write_streets(tmp_path, seed=3, size=SIZE, pool=pool)
    files = sorted(path.relative_to(world) for path in world.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((world / name).read_bytes() == (tmp_path / name).read_bytes() for name in files)
    assert make_street(Stream.STREET_TRAIN, 0, 1.0, seed=4).road != make_street(Stream.STREET_TRAIN, 0, 1.0, seed=3).road


def test_the_bar_hears_of_every_key_frame(tmp_path: Path) -> None:
    class Bar:
        done = 0.0

        def update(self, n: float, /) -> None:
            self.done += n

    bar, size = Bar(), StreetSize(1, 0, 1, 1, 32, 18)
    write_streets(tmp_path, seed=1, size=size, bar=bar)
    assert bar.done == size.key_frames() == 1
    assert json.loads((tmp_path / "nuscenes" / "v1.0-mini" / "scene.json").read_text())[0]["nbr_samples"] == 1


def test_a_turn_looks_like_the_real_sensor(key_frame: KeyFrame, drive: Drive) -> None:
    points = key_frame.shots[0].points
    assert points is not None and points.dtype == np.float32
    ring = points[:, 4].reshape(COLUMNS, RINGS)
    assert (ring == np.arange(RINGS)).all()
    distance = np.linalg.norm(points[:, :3], axis=1)
    own_place = (np.abs(points[:, [0, 2]]) < 0.05).all(axis=1) & (np.abs(points[:, 1]) < 0.6)  # of the laser, which moves forwards
    assert 0.03 < own_place.mean() < 0.25 and 0.15 < (distance < 3).mean() < 0.5 and distance.max() < 107
    far = (distance > 3).reshape(COLUMNS, RINGS)
    elevation = np.rad2deg(np.arcsin(points[:, 2] / np.maximum(distance, 1e-6))).reshape(COLUMNS, RINGS)
    middle = [float(np.median(elevation[far[:, index], index])) for index in range(8, RINGS)]
    assert np.abs(np.array(middle) - (LOWEST_DEG + STEP_DEG * np.arange(8, RINGS))).max() < 0.5
    assert points[:, 3].min() >= 0 and points[:, 3].max() <= 255 and (points[:, 3] == points[:, 3].round()).all()
    ground = (np.abs(points[:, 2] + 1.84) < 0.4) & (distance > 3.5) & (distance < 8)
    assert ground.mean() > 0.1


def test_beams_are_unit_vectors_in_even_steps_clockwise_from_the_left() -> None:
    beams = _beams().reshape(COLUMNS, RINGS, 3)
    assert np.linalg.norm(beams, axis=2) == pytest.approx(np.ones((COLUMNS, RINGS)))
    elevation = np.rad2deg(np.arcsin(beams[0, :, 2]))
    assert elevation[[0, -1]] == pytest.approx([-30.67, 10.67], abs=0.01) and np.diff(elevation) == pytest.approx(np.full(31, 1.3336))
    assert beams[0, 23, 0] < -0.99 and beams[COLUMNS // 4, 23, 1] > 0.99  # x is right, y forward


def test_centres_of_seen_cars_project_into_their_pixels(key_frame: KeyFrame, drive: Drive) -> None:
    checked = inside = 0
    for shot in key_frame.shots[1:]:
        calibration, picture = drive.rig[shot.channel], shot.picture
        assert picture is not None and calibration.intrinsics is not None
        camera_from_world = inverse_transform(drive.ego.world_from_ego(shot.time_us / 1e6) @ calibration.ego_from_sensor())
        for box in key_frame.annotations:
            pixel, depth = project_points(transform_points(camera_from_world, np.array([box.centre])), calibration.intrinsics)
            if drive.street.actors[box.number].name != "car" or box.visibility < 4 or not 3 < depth[0] < 30:
                continue
            column, row = np.floor(pixel[0]).astype(int)
            if 0 <= column < 240 and 0 <= row < 135:
                checked += 1
                inside += picture.number[row, column] == box.number
    assert checked >= 2 and inside >= 0.75 * checked


def test_cameras_fire_as_the_beam_passes_them() -> None:
    delays = {channel: camera_delay_us(channel) for channel in CAMERAS}
    order = ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT"]
    assert sorted(delays, key=lambda channel: delays[channel]) == order
    assert delays["CAM_FRONT"] == pytest.approx(-35_500, abs=1000)  # the real key frame: -35,491


def test_quaternions_turn_as_they_say() -> None:
    assert rotation_from_quaternion(quaternion(90.0)) @ [1, 0, 0] == pytest.approx([0, 1, 0])
    assert rotation_from_quaternion(quaternion(0.0, 30.0)) @ [1, 0, 0] == pytest.approx([np.sqrt(0.75), 0, -0.5])
    mixed = rotation_from_quaternion(quaternion(40.0, 10.0, -20.0))
    assert mixed == pytest.approx(rotation_from_quaternion(quaternion(40.0)) @ rotation_from_quaternion(quaternion(0.0, 10.0))
                                  @ rotation_from_quaternion(quaternion(0.0, 0.0, -20.0)))


def test_braking_stops_and_keeps_the_direction() -> None:
    assert travelled(4.0, 0.0, 2.0) == pytest.approx(8.0) and travelled(-4.0, 0.0, 2.0) == pytest.approx(-8.0)
    assert travelled(2.0, 1.0, 1.0) == pytest.approx(1.5) and travelled(2.0, 1.0, 9.0) == pytest.approx(2.0)


def test_things_on_the_street_have_plausible_sizes_and_do_not_block_the_car(drive: Drive) -> None:
    for street in (drive.street, make_street(Stream.STREET_VAL, 1, 5.0)):
        names = {actor.name for actor in street.actors}
        assert {"car", "truck", "bus", "trailer", "construction vehicle", "pedestrian", "motorcycle", "bicycle", "traffic cone", "barrier"} <= names
        assert set(UNSEEN_STREET) - names == set()
        for actor in street.actors:
            if actor.name in LIMITS:
                assert all(low - 1e-6 <= side <= high + 1e-6 for side, (low, high) in zip(actor.size, LIMITS[actor.name], strict=True)), actor.name
        for time in np.linspace(0, 0.75 if street is drive.street else 5.25, 9):
            own = travelled(street.speed, street.braking, float(time))
            for actor in street.actors:
                gap = abs(actor.s + travelled(actor.speed[0], actor.braking, float(time)) - own) - actor.size[0] / 2
                aside = abs(actor.d + actor.speed[1] * time - street.lane) - actor.size[1] / 2
                assert gap > 3.0 or aside > 0.0 or abs(actor.turn_deg % 180 - 90) < 60, (actor.name, actor.s, actor.d)


def test_training_and_validation_share_no_instance(drive: Drive) -> None:
    train, val, other = drive.street, make_street(Stream.STREET_VAL, 0, 0.5, seed=3), make_street(Stream.STREET_TRAIN, 1, 0.5, seed=3)

    def shapes(street: Any) -> set[bytes]:
        return {actor.mesh.vertices.tobytes() for actor in street.actors}

    assert not shapes(train) & shapes(val) and not shapes(train) & shapes(other)


def test_held_out_names_are_in_no_caption() -> None:
    said = {*CLASS_NAMES, *OTHER_NAMES, *(name for names in OTHER_NAMES.values() for name in names)}
    held_out = {*UNSEEN_STREET, *UNSEEN_INDOOR}
    assert len(UNSEEN_STREET) >= 6 and len(UNSEEN_INDOOR) >= 5 and not held_out & said
    assert set(UNSEEN_STREET) == set(CATEGORY_OF_UNSEEN)


@pytest.mark.parametrize("name", sorted([*UNSEEN_STREET, *UNSEEN_INDOOR]))
def test_held_out_things_stand_on_the_ground_and_belong_to_their_stream(name: str) -> None:
    thing = make_unseen(name, Stream.STREET_TRAIN, 0)
    vertices = thing.mesh.vertices
    assert thing.class_name == name and np.isfinite(vertices).all() and vertices[:, 1].min() == pytest.approx(0.0, abs=1e-9)
    assert 0.12 < np.ptp(vertices, axis=0).max() < 3.0 and thing.mesh.faces.max() < len(vertices)
    again, other, later = (make_unseen(name, stream, index) for stream, index in
                           ((Stream.STREET_TRAIN, 0), (Stream.STREET_VAL, 0), (Stream.STREET_TRAIN, 1)))
    assert np.array_equal(vertices, again.mesh.vertices)
    for stranger in (other, later):
        assert vertices.shape != stranger.mesh.vertices.shape or not np.allclose(vertices, stranger.mesh.vertices)


def test_an_unknown_held_out_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"holds out no 'car'; it holds out .*debris"):
        make_unseen("car", Stream.STREET_TRAIN, 0)
