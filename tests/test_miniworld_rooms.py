"""Rooms of the mini-world in SUN RGB-D's layout: what stands where, what the camera measures, what the files say."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clip2x.data.sunrgbd.objects import SunRgbdObjects
from clip2x.data.sunrgbd.reader import SunRgbdFrames
from clip2x.errors import InputError
from clip2x.geometry import inverse_transform, points_in_box, transform_points
from clip2x.miniworld.objects import Stream, make_object
from clip2x.miniworld.rooms.depth_sensor import DepthSensor, _shadow, depth_codes, fill_holes, measure
from clip2x.miniworld.rooms.floorplan import FloorPlan, Footprint, overlap, surface_height
from clip2x.miniworld.rooms.layout import Room, furnish_room
from clip2x.miniworld.rooms.shell import FLOOR
from clip2x.miniworld.rooms.writer import LISTS, SOURCES, RoomTask, _names, upright_from_camera, write_room, write_rooms
from clip2x.miniworld.scenes import Picture, Scene, camera_pose, solid
from clip2x.miniworld.shapes.parts import box

SEED, TRAIN, TEST, WIDTH = 11, 4, 12, 144
RTILT_LEFT, RTILT_RIGHT = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]), np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write some rooms of every kind and every source; in a folder with spaces and other letters."""
    root = tmp_path_factory.mktemp("rooms") / "mini wörld 世界"
    write_rooms(root, seed=SEED, train=TRAIN, test=TEST, width_px=WIDTH)
    return root


def through_centres(matrix: np.ndarray) -> np.ndarray:
    """Move the origin of pixels from the toolbox's (first pixel = 1) to that of `Scene.picture` (0.5)."""
    return matrix - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def look_again(index: int, stream: Stream = Stream.ROOM_TEST) -> tuple[Room, Picture, np.ndarray, str]:
    """Make a room anew and look at it without a sensor's flaws: room, picture, intrinsics of the files, folder."""
    source, camera = SOURCES[index % len(SOURCES)]
    intrinsics, height_px = camera.scaled(WIDTH)
    room = furnish_room(stream, index, seed=SEED, intrinsics=through_centres(intrinsics), width_px=WIDTH, height_px=height_px)
    picture = Scene(room.placed).picture(room.world_from_camera, through_centres(intrinsics), WIDTH, height_px)
    return room, picture, intrinsics, _names(source, RoomTask(Path(), SEED, stream, index, WIDTH))[0]


def decoded(path: Path) -> np.ndarray:
    codes = np.asarray(Image.open(path)).astype(np.uint16)
    return ((codes >> 3) | (codes << 13)).astype(np.float64) / 1000


def files_of(folder: Path) -> dict[str, Any]:
    """Read a frame as the official toolbox does."""
    extrinsics = np.loadtxt(next((folder / "extrinsics").glob("*.txt")))
    upright = RTILT_LEFT @ extrinsics[:, :3] @ RTILT_RIGHT @ RTILT_LEFT
    return {"raw": decoded(next((folder / "depth").glob("*.png"))), "filled": decoded(next((folder / "depth_bfx").glob("*.png"))),
            "intrinsics": np.array((folder / "intrinsics.txt").read_text().split(), dtype=float).reshape(3, 3), "upright": upright,
            "objects": json.loads((folder / "annotation3Dfinal" / "index.json").read_text())["objects"]}


def lifted(depth: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Lift every pixel as the toolbox does, pixels counted from 1: (H, W, 3), camera frame."""
    column, row = np.meshgrid(np.arange(depth.shape[1]) + 1, np.arange(depth.shape[0]) + 1)
    return np.stack([(column - intrinsics[0, 2]) * depth / intrinsics[0, 0], (row - intrinsics[1, 2]) * depth / intrinsics[1, 1], depth], axis=-1)


def noise_of(index: int, depth: np.ndarray) -> np.ndarray:
    """Bound the error of readings: five deviations, a step of the inverse depth, a millimetre."""
    sensor = SOURCES[index % len(SOURCES)][1].sensor
    return (5 * sensor.noise + sensor.step) * depth**2 + 0.001


def test_footprints_overlap_as_their_areas_do() -> None:
    """Slow twin: points of one rectangle that lie in the other."""
    rng = np.random.default_rng(0)
    share = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 60), np.linspace(-0.5, 0.5, 60)), axis=-1).reshape(-1, 2)
    answers = []
    for _ in range(60):
        one, other = (Footprint(*rng.uniform(0, 2, 2), *rng.uniform(0.4, 1.5, 2), rng.uniform(0, 360)) for _ in range(2))
        spots = (share * np.array([one.along, one.across])) @ one.axes + np.array([one.x, one.y])
        offset = np.abs((spots - np.array([other.x, other.y])) @ other.axes.T)
        common = int((offset <= np.array([other.along, other.across]) / 2).all(axis=1).sum())
        assert other.contains(*spots[0]) == bool((offset[0] <= np.array([other.along, other.across]) / 2).all())
        answers.append(overlap(one, other))
        assert answers[-1] == overlap(other, one)
        assert answers[-1] or common == 0
        assert not answers[-1] or common > 0 or overlap(one, other.grown(-0.03)) is False
    assert 10 < sum(answers) < 55
    assert not overlap(Footprint(0.0, 0.0, 1.0, 1.0, 0.0), Footprint(1.0, 0.0, 1.0, 1.0, 0.0)), "touching is not overlapping"


def test_surfaces_are_as_high_as_drawn() -> None:
    mesh = solid(box(2.0, 0.7, 1.0), (1.0, 1.0, 1.0))
    heights = surface_height(mesh, np.array([[0.0, 0.0], [0.9, -0.4], [1.2, 0.0]]))
    assert np.allclose(heights, [0.7, 0.7, -np.inf])


def test_things_on_a_table_stand_on_its_top() -> None:
    meshes = {"table": solid(box(1.4, 0.7, 0.8), (1.0, 1.0, 1.0)), "mug": solid(box(0.1, 0.1, 0.1), (1.0, 0.0, 0.0))}
    plan = FloorPlan(4.0, 4.0, ("back",), meshes.__getitem__, np.random.default_rng(0))
    table = plan.at_wall("table")
    assert table is not None
    mugs = [plan.on_top(table, "mug") for _ in range(6)]
    for mug in mugs:
        assert mug is not None
        assert mug.z == pytest.approx(0.7)
        assert all(table.footprint.contains(x, y) for x, y in mug.footprint.corners)
    assert not any(overlap(one.footprint, other.footprint) for one in mugs for other in mugs if one is not other and one and other)


@pytest.mark.parametrize("index", range(13))
def test_furniture_stays_in_the_room_and_apart(index: int) -> None:
    room = furnish_room(Stream.ROOM_TRAIN, index, seed=2, intrinsics=np.array([[100.0, 0, 60], [0, 100, 45], [0, 0, 1]]), width_px=120, height_px=90)
    floor = [item.footprint for item in room.standing if item.support is None]
    assert len(floor) >= 2
    length, width = room.corners.max(axis=0)
    for position, foot in enumerate(floor):
        assert (foot.corners >= -1e-9).all()
        assert (foot.corners <= np.array([length, width]) + 1e-9).all()
        assert not any(overlap(foot, other) for other in floor[:position])
    for number, item in enumerate(room.standing):
        placed = next(part for part in room.placed if part.number == number)
        vertices = transform_points(placed.world_from_object, placed.mesh.vertices)
        assert vertices[:, 2].min() == pytest.approx(item.z, abs=1e-9)
        inside = Footprint(item.footprint.x, item.footprint.y, item.footprint.along, item.footprint.across, item.footprint.heading_deg).grown(1e-6)
        assert all(inside.contains(x, y) for x, y in vertices[:: max(1, len(vertices) // 20), :2])
    eye, gaze = room.world_from_camera[:3, 3], room.world_from_camera[:3, 2]
    assert 1.0 <= eye[2] <= 1.8
    assert -1e-6 <= np.rad2deg(np.arcsin(-gaze[2])) <= 35 + 1e-6
    assert abs(np.rad2deg(np.arcsin(room.world_from_camera[2, 0]))) <= 5.01
    assert not any(foot.contains(eye[0], eye[1]) for foot in floor)


def test_training_and_test_rooms_share_no_object() -> None:
    train, test = (make_object("chair", stream, 0, seed=SEED).mesh.vertices for stream in (Stream.ROOM_TRAIN, Stream.ROOM_TEST))
    assert train.shape != test.shape or not np.allclose(train, test)


def test_levelling_is_the_shortest_turn_and_gives_the_toolboxs_frame() -> None:
    """By hand: a camera that looks 30 degrees down along +y; x stays right, the gaze goes to (0, cos, -sin)."""
    pose = camera_pose(np.array([1.0, 2.0, 1.5]), np.array([0.0, np.cos(np.pi / 6), -0.5]))
    level, upright = upright_from_camera(pose)
    assert np.allclose(level, [[1, 0, 0], [0, np.cos(np.pi / 6), 0.5], [0, -0.5, np.cos(np.pi / 6)]])
    assert np.allclose(upright[:3, :3] @ [0, 0, 1], [0, np.cos(np.pi / 6), -0.5])
    rolled = camera_pose(np.zeros(3), np.array([0.4, 0.8, -0.3]), roll_deg=4.0)
    level, upright = upright_from_camera(rolled)
    assert np.allclose(level @ level.T, np.eye(3))
    assert np.allclose(upright[:3, :3], RTILT_LEFT @ level @ RTILT_RIGHT @ RTILT_LEFT)
    assert np.allclose(upright[:3, :3] @ rolled[:3, :3].T @ [0, 0, 1], [0, 0, 1]), "up is up"
    assert level[1, 0] == pytest.approx(-level[0, 1]), "no turn about the vertical, as in the real extrinsics"
    assert level[0, 2] == pytest.approx(level[2, 0])


def test_depth_codes_are_millimetres_turned_left_by_three() -> None:
    metres = np.array([[0.0, 0.001, 1.43, 8.191, 9.5]], dtype=np.float32)
    codes = depth_codes(metres)
    assert codes.dtype == np.uint16
    assert codes.tolist() == [[0, 8, 11440, 65528, (9500 << 3 | 9500 >> 13) & 0xFFFF]]
    back = ((codes >> 3) | (codes << 13)).astype(np.uint16)
    assert back.tolist() == [[0, 1, 1430, 8191, 9500]]


@pytest.mark.parametrize("baseline", [0.08, -0.05])
def test_shadows_lie_where_the_projector_cannot_see(baseline: float) -> None:
    """Slow twin: a ray from the projector meets something nearer first."""
    depth = np.full((1, 60), 3.0, dtype=np.float32)
    depth[0, 25:35] = 1.0
    hidden = _shadow(depth, 100.0, baseline)[0]
    column = np.arange(60) - 100.0 * baseline / depth[0]
    for u in range(60):
        others = [v for v in range(60) if (v > u if baseline > 0 else v < u)]
        assert hidden[u] == any(column[v] < column[u] if baseline > 0 else column[v] > column[u] for v in others)
    width = round(100.0 * abs(baseline) * (1 / 1.0 - 1 / 3.0))  # disparity of the edge against the wall, by hand
    assert abs(int(hidden.sum()) - width) <= 1
    assert np.flatnonzero(hidden).max() == 24 if baseline > 0 else np.flatnonzero(hidden).min() == 35


def test_holes_are_filled_from_what_looks_alike() -> None:
    depth = np.full((4, 40), 2.0, dtype=np.float32)
    depth[:, 20:] = 1.0
    rgb = np.zeros((4, 40, 3), dtype=np.uint8)
    rgb[:, 21:] = 255
    depth[:, 19:22] = 0
    filled = fill_holes(depth, rgb)
    assert np.allclose(filled[:, 19:21], 2.0)
    assert np.allclose(filled[:, 21], 1.0)
    depth[:] = 0
    depth[1, 3] = 1.5
    assert np.allclose(fill_holes(depth, rgb), 1.5)
    assert (fill_holes(np.zeros((5, 7), dtype=np.float32), rgb[:1, :7].repeat(5, axis=0)) > 0).all()


def test_noise_grows_with_the_square_of_the_distance() -> None:
    sensor, rng = DepthSensor(weakness=-2.0, margin=0.0), np.random.default_rng(0)
    shape = (80, 120)
    bright, straight, clear = np.ones(shape, np.float32), np.ones(shape, np.float32), np.zeros(shape, bool)
    spread = []
    for metres in (1.0, 2.0, 4.0):
        reading = measure(np.full(shape, metres, np.float32), bright, straight, clear, 100.0, sensor, rng)
        assert (reading > 0).mean() > 0.9
        spread.append(float(np.std(reading[reading > 0])))
    assert spread[0] == pytest.approx(0.0017, abs=0.0005)
    assert spread[2] / spread[1] == pytest.approx(4.0, rel=0.25)
    far = measure(np.full(shape, 8.5, np.float32), bright, straight, clear, 100.0, sensor, rng)
    glass = measure(np.full(shape, 2.0, np.float32), bright, straight, ~clear, 100.0, DepthSensor(), rng)
    dark = measure(np.full(shape, 2.0, np.float32), 0.1 * bright, straight, clear, 100.0, DepthSensor(), rng)
    grazing = measure(np.full(shape, 2.0, np.float32), bright, 0.05 * straight, clear, 100.0, DepthSensor(), rng)
    assert (far > 0).sum() == 0
    assert all((reading > 0).mean() < 0.4 for reading in (glass, dark, grazing))


def test_lists_and_folders_agree(world: Path) -> None:
    base = world / "sunrgbd"
    listed = {stream: (base / name).read_text().splitlines() for stream, name in LISTS.items()}
    assert [len(listed[stream]) for stream in LISTS] == [TRAIN, TEST]
    pictures = [line.replace("//", "/") for lines in listed.values() for line in lines]
    assert sorted(pictures) == sorted(str(path.relative_to(base)) for path in base.glob("SUNRGBD/**/image/*.jpg"))
    assert {line.split("/")[1] for line in listed[Stream.ROOM_TEST]} == {"kv1", "kv2", "xtion", "realsense"}
    for line in pictures:
        folder = base / Path(line).parent.parent
        assert ("//" in next(raw for lines in listed.values() for raw in lines if raw.replace("//", "/") == line)) == (
            "kinect2data" not in line and "sun3ddata" not in line)
        sizes = {Image.open(path).size for path in (base / line, *folder.glob("depth*/*.png"))}
        assert len(sizes) == 1
        assert {path.name for path in folder.iterdir()} == {
            "image", "depth", "depth_bfx", "intrinsics.txt", "extrinsics", "scene.txt", "annotation2D3D", "annotation2Dfinal", "annotation3Dfinal",
            "annotation3Dlayout"}
        assert len((folder / "intrinsics.txt").read_text().split()) == 9


def test_depth_files_hold_the_scene_within_the_noise(world: Path) -> None:
    shares = []
    for index in range(TEST):
        _, picture, intrinsics, folder = look_again(index)
        files = files_of(world / "sunrgbd" / folder)
        assert np.allclose(files["intrinsics"], intrinsics, atol=1e-6)
        raw, filled, valid = files["raw"], files["filled"], files["raw"] > 0
        error = np.abs(raw - picture.depth)[valid]
        assert (error <= noise_of(index, picture.depth.astype(float))[valid]).mean() > 0.999
        assert (picture.depth[valid] > 0).all()
        assert (filled > 0).all()
        assert np.array_equal(filled[valid], raw[valid])
        assert np.median(np.abs(filled - picture.depth)[~valid & (picture.depth > 0) & (picture.depth < 6)]) < 0.5
        shares.append(valid.mean())
    assert 0.65 < np.mean(shares) < 0.9
    assert min(shares) > 0.25


def test_the_floor_is_flat_in_the_upright_frame(world: Path) -> None:
    seen = 0
    for index in range(TEST):
        room, picture, intrinsics, folder = look_again(index)
        files = files_of(world / "sunrgbd" / folder)
        floor = (picture.number == FLOOR) & (files["raw"] > 0)
        if floor.sum() < 500:
            continue
        seen += 1
        points = lifted(files["raw"], intrinsics)[floor] @ files["upright"].T
        slope, *_ = np.linalg.lstsq(np.column_stack([points[:, :2], np.ones(len(points))]), points[:, 2], rcond=None)
        assert np.abs(slope[:2]).max() < 0.02, "metres of height per metre"
        assert np.median(points[:, 2]) == pytest.approx(-room.world_from_camera[2, 3], abs=0.02)
        assert (np.abs(points[:, 2] + room.world_from_camera[2, 3]) <= noise_of(index, files["raw"][floor]) + 1e-3).mean() > 0.99
    assert seen >= TEST // 2


def test_boxes_hold_the_points_of_their_objects_and_are_tight(world: Path) -> None:
    truth = json.loads((world / "truth" / "sunrgbd.json").read_text())["pictures"]
    looseness, checked = [], 0
    for index in range(TEST):
        room, picture, intrinsics, folder = look_again(index)
        files = files_of(world / "sunrgbd" / folder)
        points = lifted(files["raw"], intrinsics) @ files["upright"].T
        entries = next(entries for name, entries in truth.items() if name.startswith(f"{folder}/"))
        assert {number for number in np.unique(picture.number) if number >= 0 and (picture.number == number).sum() >= 16} and entries
        for entry in entries:
            mask = next(picture.number == number for number in range(len(room.standing))
                        if (picture.number == number).sum() == entry["pixels"] and room.standing[number].name == entry["name"])
            rows, columns = np.nonzero(mask)
            assert entry["box_px"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            polygon = files["objects"][entry["object"]]["polygon"][0]
            assert files["objects"][entry["object"]]["name"] == entry["name"].replace(" ", "_")
            corners = np.column_stack([polygon["X"], polygon["Z"]])
            along, across = corners[1] - corners[0], corners[3] - corners[0]
            assert along @ across == pytest.approx(0.0, abs=1e-4), "a rectangle"
            size = np.array([np.linalg.norm(along), np.linalg.norm(across), polygon["Ymax"] - polygon["Ymin"]])
            assert size.min() > 0
            axes = np.eye(3)
            axes[:2, 0], axes[:2, 1] = along / size[0], across / size[1]
            centre = np.array([*corners.mean(axis=0), -(polygon["Ymin"] + polygon["Ymax"]) / 2])
            valid = mask & (files["raw"] > 0)
            if valid.any():
                checked += 1
                margin = 2 * noise_of(index, np.median(files["raw"][valid]))
                assert points_in_box(points[valid], centre, size + margin, axes).mean() >= 0.95, entry
            item = next(item for item in room.standing if item.name == entry["name"] and abs(size[2] - item.height) < 0.05)
            looseness.append(size - np.array([item.footprint.along, item.footprint.across, item.height]))
    assert checked > 3 * TEST
    assert np.quantile(looseness, 0.9) < 0.07


def test_annotations_are_written_as_the_real_ones(world: Path) -> None:
    names: Counter[str] = Counter()
    empty = 0
    for path in (world / "sunrgbd" / "SUNRGBD").rglob("annotation3Dfinal/index.json"):
        final = json.loads(path.read_text())
        assert {"date", "name", "frames", "objects", "extrinsics", "conflictList", "fileList"} == set(final)
        assert (path.parent.parent / "extrinsics" / final["extrinsics"]).is_file()
        assert (path.parent.parent / "image" / final["fileList"][0]).is_file()
        objects = [item for item in final["objects"] if item]
        empty += len(final["objects"]) - len(objects)
        names.update(item["name"] for item in objects)
        flat = json.loads((path.parent.parent / "annotation2D3D" / "index.json").read_text())
        assert flat["objects"] == objects
        assert [polygon["object"] for polygon in flat["frames"][0]["polygon"]] == list(range(len(objects)))
        outlines = json.loads((path.parent.parent / "annotation2Dfinal" / "index.json").read_text())
        regions = [item["name"] for item in outlines["objects"]]
        assert regions[: len(objects)] == [item["name"] for item in objects]
        assert "wall" in regions or "floor" in regions
        for polygon, rectangle in zip(outlines["frames"][0]["polygon"], flat["frames"][0]["polygon"], strict=False):
            for axis in "xy":
                assert (min(polygon[axis]), max(polygon[axis])) == (min(rectangle[axis]), max(rectangle[axis]))
            assert len(polygon["XYZ"]) == len(polygon["x"])
        layout = next(item for item in json.loads((path.parent.parent / "annotation3Dlayout" / "index.json").read_text())["objects"] if item)
        assert layout["name"] == "room"
        assert 2.3 < layout["polygon"][0]["Ymax"] - layout["polygon"][0]["Ymin"] < 2.9
    assert empty > 0
    assert "night_stand" in names
    assert len(names) > 12


def test_detector_boxes_name_nothing_and_belong_to_pictures(world: Path) -> None:
    content = json.loads((world / "detections" / "sunrgbd_boxes.json").read_text())
    truth = json.loads((world / "truth" / "sunrgbd.json").read_text())["pictures"]
    assert content["categories"] == [{"id": 0, "name": "object"}]
    assert {image["file_name"] for image in content["images"]} == set(truth)
    assert all((world / "sunrgbd" / name).is_file() for name in truth)
    assert all(Image.open(world / "sunrgbd" / image["file_name"]).size == (image["width"], image["height"]) for image in content["images"])
    assert len(content["annotations"]) > TRAIN + TEST


def test_the_reader_reads_the_rooms(world: Path, tmp_path: Path) -> None:
    for split, stream, count in (("train", Stream.ROOM_TRAIN, TRAIN), ("test", Stream.ROOM_TEST, TEST)):
        frames = SunRgbdFrames(root=world, split=split)
        assert len(frames) == count
        for index in range(count):
            room, picture, _, folder = look_again(index, stream)
            frame = frames.frame(folder)
            visible = [number for number, pixels in Counter(picture.number[picture.number >= 0].tolist()).items() if pixels >= 16]
            assert sorted(box3d.name for box3d in frame.boxes) == sorted(room.standing[number].name.replace(" ", "_") for number in visible)
            assert len(frame.boxes_2d) == len(visible)
            assert not frame.notes
            upright = upright_from_camera(room.world_from_camera)[1] @ inverse_transform(room.world_from_camera)
            spots = np.array([[room.standing[number].footprint.x, room.standing[number].footprint.y, 0.0] for number in visible])
            expected = transform_points(upright, spots)[:, :2]
            for box3d in frame.boxes:
                assert np.abs(expected - (frame.upright_from_points @ box3d.centre)[:2]).max(axis=1).min() < 1e-4
    objects = SunRgbdObjects(root=world, split="test", cache=tmp_path)
    assert len(objects) > TEST
    assert len(set(objects.labels)) >= 7
    assert objects[0]["points"].shape == (1024, 3)


def digests(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.rglob("*")) if path.is_file()}


def test_rooms_depend_on_the_seed_alone(tmp_path: Path) -> None:
    write_rooms(tmp_path / "one", seed=3, train=2, test=2, width_px=64)
    with ThreadPoolExecutor(2) as pool:
        write_rooms(tmp_path / "two", seed=3, train=2, test=2, width_px=64, pool=pool)
    write_rooms(tmp_path / "other", seed=4, train=2, test=2, width_px=64)
    one = digests(tmp_path / "one")
    assert one == digests(tmp_path / "two")
    assert one["truth/sunrgbd.json"] != digests(tmp_path / "other")["truth/sunrgbd.json"]


@pytest.mark.slow
def test_other_processes_write_the_same(tmp_path: Path) -> None:
    write_rooms(tmp_path / "one", seed=3, train=3, test=3, width_px=64)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        write_rooms(tmp_path / "two", seed=3, train=3, test=3, width_px=64, pool=pool)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


@pytest.mark.slow
def test_every_class_is_seen_often_enough(tmp_path: Path) -> None:
    write_rooms(tmp_path, seed=0, train=1, test=120)
    objects = SunRgbdObjects(root=tmp_path, split="test", cache=tmp_path / "cache")
    assert min(Counter(objects.labels)[label] for label in range(10)) >= 20


def test_a_room_is_more_than_its_number(tmp_path: Path) -> None:
    """More rooms, or another order of writing, change none of those that are there."""
    alone = write_room(RoomTask(tmp_path / "alone", 3, Stream.ROOM_TEST, 1, 64))
    write_rooms(tmp_path / "many", seed=3, train=1, test=3, width_px=64)
    for path in (tmp_path / "alone").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "many" / path.relative_to(tmp_path / "alone")).read_bytes()
    assert json.loads((tmp_path / "many" / "truth" / "sunrgbd.json").read_text())["pictures"][alone.file_name] == json.loads(json.dumps(alone.truth))


@pytest.mark.parametrize("arguments", [{"train": 0}, {"test": 0}, {"width_px": 20}])
def test_impossible_sizes_are_refused(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match="rooms need train >= 1, test >= 1 and width_px >= 48, got"):
        write_rooms(tmp_path, seed=0, **{"train": 1, "test": 1, **arguments})


@pytest.mark.data
def test_files_have_the_form_of_a_real_frames(world: Path, shared_data: Path) -> None:
    real = shared_data / "sunrgbd" / "SUNRGBD" / "kv1" / "b3dodata" / "img_0063"
    ours = next((world / "sunrgbd" / "SUNRGBD" / "kv1" / "b3dodata").iterdir())

    def form(value: Any) -> Any:
        """Keys and types, lists by their first full entry."""
        if isinstance(value, dict):
            return {key: form(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [form(entry) for entry in value if entry is not None][:1]
        return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__

    for name in ("annotation2Dfinal", "annotation2D3D", "annotation3Dfinal", "annotation3Dlayout"):
        first, second = (form(json.loads((folder / name / "index.json").read_text())) for folder in (ours, real))
        assert first == second, name
    shapes = [[len(line.split()) for line in (folder / "intrinsics.txt").read_text().splitlines()] for folder in (ours, real)]
    assert shapes[0] == shapes[1]
    assert all(np.loadtxt(next((folder / "extrinsics").iterdir())).shape == (3, 4) for folder in (ours, real))
    assert all(Image.open(next((folder / "depth").iterdir())).mode == "I;16" for folder in (ours, real))
    assert [next((folder / "depth").iterdir()).name == f"{folder.name}_abs.png" for folder in (ours, real)] == [True, True]
