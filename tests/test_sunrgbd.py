"""SUN RGB-D: lists, single files, annotations and frames, on a small tree in the official layout and on one real frame."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sunrgbd_tree import (
    B3DO,
    HALL_1,
    HALL_2,
    HEIGHT,
    INTRINSICS,
    KINECT,
    OBJECTS,
    TILT,
    TRAIN,
    WIDTH,
    codes_of,
    polygon,
    scene_depth,
    toolbox_mask,
    toolbox_points,
    truncate,
    write_json,
    write_tree,
)
from test_matlab import matlab_file

from clip2x.data.sunrgbd.annotations import bounding_rectangle, floor_boxes, object_name
from clip2x.data.sunrgbd.files import lift, read_depth, read_intrinsics, read_tilt, scene_of, tokens_of_list, tokens_of_matlab
from clip2x.data.sunrgbd.reader import SunRgbdFrames
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import points_in_box, project_points
from clip2x.manifest import load_manifest
from clip2x.storage import sha256_of_file

REAL = "SUNRGBD/kv1/b3dodata/img_0063"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_tree(tmp_path / "däta root" / "sunrgbd")
    return tmp_path / "däta root"


def test_manifest_facts() -> None:
    manifest = load_manifest("sunrgbd")
    assert manifest.class_names == ("bed", "bookshelf", "chair", "desk", "sofa", "table", "toilet", "bathtub", "dresser", "night stand")
    assert list(manifest.variants) == ["objects10", "objects37"] and len(manifest.classes("objects37")) == 37
    assert set(manifest.class_names) < set(manifest.classes("objects37"))
    for variant in manifest.variants.values():
        assert (variant.splits["train"].frames, variant.splits["test"].frames, variant.min_points) == (5285, 5050, 100)
        assert (np.array(variant.ours_from_files) @ [1, 2, 3]).tolist() == [1, 3, -2], "(right, forward, up) -> (right, up, back)"
    ten, all_names = (manifest.labels_of_categories(name) for name in manifest.variants)
    assert ten["night_stand"] == 9 and "sofa_chair" not in ten
    assert all_names["floor_mat"] == 19 and all_names["shower_curtain"] == 27 and all_names["refridgerator"] == all_names["fridge"] == 23


def test_lists_of_pictures_and_of_matlab_name_the_same_frames(root: Path) -> None:
    folder = root / "sunrgbd"
    by_list = SunRgbdFrames(root=root, split="train")
    (folder / "sunrgbd_training_images.txt").unlink()
    matlab = folder / "SUNRGBDtoolbox" / "traintestSUNRGBD" / "allsplit.mat"
    matlab.parent.mkdir(parents=True)
    matlab.write_bytes(matlab_file({"alltest": ["x"], "alltrain": [f"/n/fs/sun3d/data/{token}{'/' * number}" for number, token in enumerate(TRAIN)]}))
    by_matlab = SunRgbdFrames(root=root, split="train")
    assert by_list.tokens == by_matlab.tokens == sorted(TRAIN)
    assert by_matlab.notes == ["the list of train has 3 frames, SUN RGB-D has 5,285."]
    assert [token for token in map(scene_of, TRAIN)] == [B3DO, "SUNRGBD/xtion/sun3ddata/grüne halle", "SUNRGBD/xtion/sun3ddata/grüne halle"]
    truncate(matlab)
    with pytest.raises(BadFileError, match=r"allsplit.mat: not a MATLAB file with the cell array 'alltrain'"):
        SunRgbdFrames(root=root, split="train")
    matlab.unlink()
    with pytest.raises(DataNotFoundError, match="no list of its frames, neither sunrgbd_training_images.txt nor SUNRGBDtoolbox/"):
        SunRgbdFrames(root=root, split="train")


def test_scenes_are_places_hours_or_single_frames() -> None:
    assert scene_of(KINECT) == scene_of("SUNRGBD/kv2/align_kv2/2014-05-26_14-55-54_260595134347") == "2014-05-26 14 h"
    assert scene_of("SUNRGBD/xtion/xtion_align_data/2014_12_18_9_5_3") == scene_of("SUNRGBD/realsense/shr/2014_12_18-09_33_49-1311000073")
    assert scene_of("SUNRGBD/kv1/NYUdata/NYU0001") == "SUNRGBD/kv1/NYUdata/NYU0001"


@pytest.mark.parametrize(("content", "message"), [
    (b"SUNRGBD/kv1/a/b.jpg\n", "line 1: 'SUNRGBD/kv1/a/b.jpg' is no path of a picture"),
    (b"\n/etc/image/x.jpg\n", "line 2: '/etc' must be a folder below the data set's"),
    (b"SUNRGBD/../../x/image/x.jpg\n", "must be a folder below"),
    (b"\xff\xfe\x00", "not a readable list"),
])
def test_lists_that_are_none(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(BadFileError, match=message):
        tokens_of_list(tmp_path / "list.txt")


def test_lists_with_a_byte_that_no_path_holds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"SUNRGBD/kv1/a\0b/image/c.jpg\n")
    with pytest.raises(BadFileError, match="list.txt: line 1: .* must be a folder below the data set's"):
        tokens_of_list(tmp_path / "list.txt")


def test_matlab_lists_of_other_folders(tmp_path: Path) -> None:
    path = tmp_path / "allsplit.mat"
    path.write_bytes(matlab_file({"alltrain": ["/home/me/kv1"]}))
    with pytest.raises(BadFileError, match=r"alltrain\{1\}: '/home/me/kv1' holds no /SUNRGBD/"):
        tokens_of_matlab(path, "alltrain")


def test_partial_copies_are_used_as_far_as_they_go(root: Path) -> None:
    shutil.rmtree(root / "sunrgbd" / HALL_1)
    frames = SunRgbdFrames(root=root, split="train")
    assert frames.tokens == [B3DO, HALL_2] and frames.notes[-1] == f"1 of 3 frames of train are missing, first {HALL_1}."
    shutil.rmtree(root / "sunrgbd" / "SUNRGBD" / "kv2")
    with pytest.raises(DataNotFoundError, match=r"none of the 1 frames of test is there, first .*Get it: https://rgbd.cs.princeton.edu/"):
        SunRgbdFrames(root=root, split="test")
    with pytest.raises(InputError, match="depth must be one of raw, filled, got 'full'"):
        SunRgbdFrames(root=root, split="train", depth="full")
    (root / "sunrgbd" / "sunrgbd_training_images.txt").write_text(f"{B3DO}/image/a.jpg\n{B3DO}//image/a.jpg\n")
    with pytest.raises(BadFileError, match="img_0001 is listed more than once"):
        SunRgbdFrames(root=root, split="train")


def test_parts_hold_whole_scenes(root: Path) -> None:
    fit, val = (SunRgbdFrames(root=root, split=f"train:{part}").tokens for part in ("fit", "val"))
    assert sorted([*fit, *val]) == sorted(TRAIN) and fit and val
    assert not {scene_of(token) for token in fit} & {scene_of(token) for token in val}


def test_depth_codes_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "depth.png"
    Image.fromarray(np.array([[0, 1000 << 3, 8000 << 3, (8001 << 3) & 0xFFFF, 1, 12345]], np.uint16)).save(path)
    # 1 is bit 0, turned to bit 13: 8.192 m; 12345 = 1543 * 8 + 1, again beyond 8 m
    assert read_depth(path).tolist() == [[0, 1, 8, 0, 0, 0]]
    depth = np.round(np.random.default_rng(0).random((9, 7)) * 8, 3)
    Image.fromarray(codes_of(depth)).save(path)
    assert np.allclose(read_depth(path), depth, atol=1e-6)


def test_points_of_pixels_by_hand_and_back() -> None:
    depth = np.zeros((3, 4), np.float32)
    depth[1, 2], depth[2, 0] = 2, 4
    points, pixels = lift(depth, np.array([[2.0, 0, 1], [0, 4, 1], [0, 0, 1]]))
    assert points.tolist() == [[1, 0, 2], [-2, 1, 4]] and pixels.tolist() == [[2, 1], [0, 2]]
    depth = scene_depth(3).astype(np.float32)
    points, pixels = lift(depth, INTRINSICS)
    projected, z = project_points(points, INTRINSICS)
    assert np.abs(projected - pixels).max() < 1e-4 and np.array_equal(z, depth[depth > 0])
    assert lift(np.zeros((2, 2), np.float32), INTRINSICS)[0].shape == (0, 3)


def test_tilt_is_of_the_newest_file_and_exactly_a_rotation(root: Path) -> None:
    rotation = read_tilt(root / "sunrgbd" / B3DO / "extrinsics")
    assert np.abs(rotation - TILT).max() < 1e-6 and np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-12
    assert read_intrinsics(root / "sunrgbd" / B3DO / "intrinsics.txt").tolist() == [[40, 0, 22.5], [0, 42, 16.5], [0, 0, 1]]


@pytest.mark.parametrize(("raw", "name"), [("chair", "chair"), (" Night_Stand ", "night_stand"), ("chair:truncated", "chair"),
                                           ("sofa_:occluded", "sofa"), ("bed : truncated:x", "bed"), (None, "none"), (":x", "")])
def test_names_lose_what_was_typed_behind_them(raw: object, name: str) -> None:
    assert object_name(raw) == name


def test_rectangles_around_corners() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        angle, centre, size = rng.uniform(0, 6.3), rng.normal(size=2), rng.uniform(0.1, 3, size=2)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2 @ turn.T + centre
        middle, lengths, rotation = bounding_rectangle(corners)
        assert np.allclose(middle, centre) and np.allclose(lengths, size) and np.allclose(rotation, turn), "a rectangle is found as it was drawn"
    middle, lengths, rotation = bounding_rectangle(np.array([[0.0, 0], [2, 0], [1, 1]]))
    assert np.isclose(np.prod(lengths), 2) and np.isclose(np.linalg.det(rotation), 1)
    hexagon = np.stack([np.cos(np.arange(6) * math.pi / 3), np.sin(np.arange(6) * math.pi / 3)], axis=1)
    areas = [np.prod(np.ptp(hexagon @ [[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]], axis=0)) for a in np.linspace(0, math.pi, 3001)]
    assert np.prod(bounding_rectangle(hexagon)[1]) <= min(areas) + 1e-9
    assert bounding_rectangle(np.zeros((4, 2)))[1].tolist() == [0, 0]


def test_floor_boxes_by_hand(tmp_path: Path) -> None:
    write_json(tmp_path, {"objects": [None, {"name": "bed", "polygon": [polygon([1, 3, 3, 1], [4, 4, 5, 5], 0.25, 1.25)]}]})
    (box,), unusable = floor_boxes(tmp_path / "index.json")
    assert (box.position, box.name, unusable) == (1, "bed", 0)
    assert np.allclose(box.centre, [2, 4.5, -0.75]) and np.allclose(box.size, [2, 1, 1]) and np.allclose(box.upright_from_box, np.eye(3))


def test_a_frame_equals_the_official_toolbox(root: Path) -> None:
    frames = SunRgbdFrames(root=root, variant="objects37", split="train")
    frame = frames.frame(HALL_1)
    depth = scene_depth(TRAIN.index(HALL_1)).round(3)
    upright = toolbox_points(depth, INTRINSICS, TILT)
    assert np.allclose(frame.points @ frame.upright_from_points.T, upright, atol=1e-5)
    assert np.isclose(np.linalg.det(frame.upright_from_points), 1) and frame.upright_from_points.shape == (3, 3)
    (camera,) = frame.cameras
    assert (camera.width_px, camera.height_px, camera.name) == (WIDTH, HEIGHT, "image") and camera.file.is_file()
    assert np.array_equal(camera.camera_from_points, np.eye(4)) and camera.depth is not None and (camera.depth > 8).sum() == 0
    assert np.abs(project_points(frame.points, camera.intrinsics)[0] - frame.features).max() < 1e-4, "points project onto their own pixels"
    assert frame.features is not None and frame.feature_names == ("u_px", "v_px") and len(frame.features) == len(frame.points)
    assert frame.points.dtype == frame.features.dtype == camera.depth.dtype == np.float32
    boxes = {int(box.token.rpartition("#")[2]): box for box in frame.boxes}
    assert {position: (box.name, box.label) for position, box in boxes.items()} == {
        1: ("chair", 4), 2: ("night_stand", 31), 7: ("bed", 3), 8: ("wall", -1), 9: ("monkey", -1), 10: ("tv", 24)}
    for position in (1, 2, 7, 8, 9):
        box = boxes[position]
        inside = points_in_box(frame.points, box.centre, box.size, box.points_from_box)
        assert np.array_equal(inside, toolbox_mask(upright, OBJECTS[position]["polygon"][0])), box.name
        assert np.isclose(np.linalg.det(box.points_from_box), 1) and box.num_points is None
    assert np.allclose(boxes[10].size, [0.4, 9.5, 10]), "five corners: the smallest rectangle around them"
    assert frame.scene == "SUNRGBD/xtion/sun3ddata/grüne halle" and frame.token == HALL_1
    assert [(box.name, box.box_px, box.camera) for box in frame.boxes_2d] == [("chair", (0, 4, 20.5, HEIGHT), "image")]
    assert frame.notes == ("4 objects of annotation3Dfinal/index.json have no usable box.",
                           "2 of 3 outlines of annotation2D3D/index.json are not usable.")


def test_filled_depth_has_no_holes(root: Path) -> None:
    raw, filled = (SunRgbdFrames(root=root, split="test", depth=depth)[0] for depth in ("raw", "filled"))
    assert len(raw.points) == ((scene_depth(3) > 0) & (scene_depth(3) < 8)).sum() < len(filled.points) == WIDTH * HEIGHT - 5


def test_what_a_frame_can_do_without(root: Path) -> None:
    folder = root / "sunrgbd" / B3DO
    shutil.rmtree(folder / "annotation2D3D")
    frame = SunRgbdFrames(root=root, split="train").frame(B3DO)
    assert [(box.name, box.label, box.box_px) for box in frame.boxes_2d] == [("wall", -1, (2, 3, 9, 8))]
    assert frame.notes[-1] == "2-D boxes are those of annotation2Dfinal/index.json."
    for part in ("annotation2Dfinal", "annotation3Dfinal", "image"):
        shutil.rmtree(folder / part)
    frame = SunRgbdFrames(root=root, split="train").frame(B3DO)
    assert frame.cameras == () and frame.boxes == () and frame.boxes_2d == () and len(frame.points)
    assert frame.notes == ("there is no annotation3Dfinal/index.json: no 3-D boxes.", "there is no annotation2D3D/index.json: no 2-D boxes.",
                           f"there is no picture {B3DO}/image/*.jpg.")


def text(content: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(content)

    return write


def small_picture(path: Path) -> None:
    Image.new("RGB", (WIDTH + 2, HEIGHT)).save(path)


def eight_bits(path: Path) -> None:
    Image.new("L", (WIDTH, HEIGHT)).save(path)


ROWS = "1 0 0 0\n0 1 0 0\n0 0 {} 0"
BROKEN: list[tuple[str, Callable[[Path], None], type[Exception], str]] = [
    ("depth/img_000_abs.png", truncate, BadFileError, "img_000_abs.png: not a whole picture"),
    ("depth/img_000_abs.png", eight_bits, BadFileError, "a depth picture must have 16 bits, found mode L"),
    ("depth/img_000_abs.png", Path.unlink, DataNotFoundError, "depth holds no .png: the frame's raw depth is missing; unpack SUNRGBD.zip again"),
    ("image/img_000.jpg", small_picture, BadFileError, "the picture is 50 x 36 pixels, its depth 48 x 36; they must be equal"),
    ("image/img_000.jpg", text("x"), BadFileError, "img_000.jpg: not a whole picture"),
    ("intrinsics.txt", text("520 0 320 0 520 nan 0 0 1"), BadFileError, "must hold 9 finite numbers, found NaN"),
    ("intrinsics.txt", text("520 0 320 0 520 240 0 0"), BadFileError, "must hold 9 finite numbers, found 8"),
    ("intrinsics.txt", text("520 0 x 0 520 240 0 0 1"), BadFileError, "must hold 9 numbers .could not convert"),
    ("intrinsics.txt", text("-520 0 320 0 520 240 0 0 1"), BadFileError, "a pinhole matrix must read fx 0 cx, 0 fy cy, 0 0 1 with"),
    ("intrinsics.txt", text("520 0 320 0 520 240 0 0 0"), BadFileError, "a pinhole matrix must read"),
    ("intrinsics.txt", Path.unlink, DataNotFoundError, "intrinsics.txt does not exist"),
    ("extrinsics", shutil.rmtree, DataNotFoundError, "extrinsics holds no .txt: the camera's tilt is missing"),
    ("extrinsics/20150101000000.txt", text(ROWS.format(-1)), BadFileError, "must be a proper rotation, found"),
    ("extrinsics/20150101000000.txt", text(ROWS.format(1.2)), BadFileError, "must be a proper rotation, found"),
    ("extrinsics/20150101000000.txt", text("1 0 0"), BadFileError, "must hold 12 finite numbers, found 3"),
    ("annotation3Dfinal/index.json", truncate, BadFileError, "annotation3Dfinal/index.json: not a readable JSON file"),
    ("annotation3Dfinal/index.json", text("{}"), BadFileError, "must hold a list 'objects', found"),
    ("annotation3Dfinal/index.json", text("[1]"), BadFileError, "must hold a list 'objects', found list"),
    ("annotation2D3D/index.json", text('{"objects": 3}'), BadFileError, "annotation2D3D/index.json: an annotation must hold a list"),
]


@pytest.mark.parametrize(("file", "damage", "error", "message"), BROKEN, ids=[f"{file}-{number}" for number, (file, *_) in enumerate(BROKEN)])
def test_broken_frames_say_so_in_one_line(file: str, damage: Callable[[Path], None], error: type[Exception], message: str, root: Path) -> None:
    frames = SunRgbdFrames(root=root, split="train")
    damage(root / "sunrgbd" / B3DO / file)
    with pytest.raises(error, match=message) as caught:
        frames.frame(B3DO)
    assert "\n" not in str(caught.value) and "img_0001" in str(caught.value)


@pytest.mark.data
def test_real_lists(shared_data: Path) -> None:
    splits = load_manifest("sunrgbd").variant("objects10").splits
    tokens = {}
    for name, split in splits.items():
        path = shared_data / "sunrgbd" / str(split.file)
        tokens[name] = tokens_of_list(path)
        assert len(set(tokens[name])) == len(tokens[name]) == split.frames and sha256_of_file(path) == split.sha256
    assert not set(tokens["train"]) & set(tokens["test"])
    scenes = {name: {scene_of(token) for token in listed if "sun3ddata" in token} for name, listed in tokens.items()}
    assert len(scenes["train"] | scenes["test"]) == 207 and len(scenes["train"] & scenes["test"]) == 37
    assert {token.split("/")[1] for token in tokens["train"] + tokens["test"]} == {"kv1", "kv2", "realsense", "xtion"}


@pytest.mark.data
@pytest.mark.parametrize(("depth", "share", "right", "wrong"), [("raw", 0.6766, 13882, 2293), ("filled", 1.0, 20200, 3406)])
def test_real_frame(shared_data: Path, depth: str, share: float, right: int, wrong: int) -> None:
    frames = SunRgbdFrames(root=shared_data, split="train", depth=depth)
    frame = frames.frame(REAL)
    (camera,) = frame.cameras
    assert camera.depth is not None and abs((camera.depth > 0).mean() - share) < 1e-3 and (camera.width_px, camera.height_px) == (561, 427)
    assert [box.name for box in frame.boxes] == ["bookshelf", "bookshelf", "chair", "projector", "books", "books", "switch"]
    assert [box.name for box in frame.boxes] == [box.name for box in frame.boxes_2d] and frame.notes == ()
    chair = frame.boxes[2]
    assert chair.token == f"{REAL}#4" and chair.label == 2
    upright = frame.points @ frame.upright_from_points.T
    drawn = json.loads((frames.folder / REAL / "annotation3Dfinal" / "index.json").read_text())["objects"][4]["polygon"][0]
    assert int(points_in_box(frame.points, chair.centre, chair.size, chair.points_from_box).sum()) == right == toolbox_mask(upright, drawn).sum()
    assert toolbox_mask(upright, {**drawn, "Ymin": -drawn["Ymax"], "Ymax": -drawn["Ymin"]}).sum() == wrong


@pytest.mark.data
def test_real_boxes_lie_where_their_2d_boxes_are(shared_data: Path) -> None:
    frame = SunRgbdFrames(root=shared_data, split="train").frame(REAL)
    for box, flat in zip(frame.boxes, frame.boxes_2d, strict=True):
        pixels, _ = project_points(box.centre[None], frame.cameras[0].intrinsics)
        left, top, right, bottom = flat.box_px
        margin = 40  # the chair and the books reach beyond the picture
        assert left - margin <= pixels[0, 0] <= right + margin and top - margin <= pixels[0, 1] <= bottom + margin, box.name
