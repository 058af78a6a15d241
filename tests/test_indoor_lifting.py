from __future__ import annotations

import builtins
import json
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clip2x.data.sunrgbd.files import lift
from clip2x.data.sunrgbd.reader import SunRgbdFrames
from clip2x.errors import InputError, MissingDependencyError
from clip2x.geometry import points_in_box
from clip2x.proxies.foreground import grabcut, joined_pixels, look_at, segment
from clip2x.proxies.indoor import RULES, IndoorLifting, clusters, duplicates
from clip2x.types import Camera, Detections, Lifted, SceneFrame

INTRINSICS = np.array([[250.0, 0, 139.5], [0, 250.0, 104.5], [0, 0, 1]])
WIDTH, HEIGHT = 280, 210
CAMERA_HEIGHT = 1.4
Block = tuple[tuple[float, float, float], tuple[float, float, float]]  # lowest and highest corner; x right, y forward, z up from the floor

CHAIR: Block = ((-0.3, 2.0, 0.0), (0.3, 2.5, 0.8))
SETTINGS = {"jump": 0.04, "jump_share": 0.02, "facing_up": 0.85, "floor_margin": 0.05, "wall_margin": 0.05, "wall_share": 0.03}


def turn(pitch_deg: float) -> NDArray[np.float64]:
    """Upright (x right, y forward, z up) from a camera (x right, y down, z forward) that looks down by so much."""
    c, s = np.cos(np.radians(pitch_deg)), np.sin(np.radians(pitch_deg))
    return np.array([[1, 0, 0], [0, -s, c], [0, -c, -s]])


def see(blocks: Sequence[Block], *, pitch_deg: float = 20.0, wall: float = 4.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cast rays on a floor, a wall ahead and blocks: depth (H, W), and which block each pixel shows (-1 for none)."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack([(u - INTRINSICS[0, 2]) / INTRINSICS[0, 0], (v - INTRINSICS[1, 2]) / INTRINSICS[1, 1], np.ones_like(u)], axis=-1)
    rays = rays @ turn(pitch_deg).T
    with np.errstate(divide="ignore"):
        depth = np.where(rays[..., 2] < 0, -CAMERA_HEIGHT / rays[..., 2], np.inf)
        depth = np.minimum(depth, np.where(rays[..., 1] > 0, wall / rays[..., 1], np.inf))
        shown = np.full(depth.shape, -1)
        for number, (low, high) in enumerate(blocks):
            start = np.array([0, 0, CAMERA_HEIGHT])
            one, two = (np.asarray(low) - start) / rays, (np.asarray(high) - start) / rays
            enter, leave = np.minimum(one, two).max(axis=-1), np.maximum(one, two).min(axis=-1)
            hit = (enter < leave) & (enter > 0) & (enter < depth)
            depth[hit], shown[hit] = enter[hit], number
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32), shown


def frame_of(depth: NDArray[np.float32], *, pitch_deg: float = 20.0, file: Path = Path("none.jpg"),
             intrinsics: NDArray[np.float64] = INTRINSICS) -> SceneFrame:
    points, pixels = lift(depth, intrinsics)
    camera = Camera("image", file, depth.shape[1], depth.shape[0], intrinsics, np.eye(4), depth=depth)
    return SceneFrame("frame", "scene", points, turn(pitch_deg), cameras=(camera,), features=pixels, feature_names=("u_px", "v_px"))


def around(shown: NDArray[np.int64], number: int = 0, margin: int = 3) -> tuple[float, float, float, float]:
    """Draw a box around what is shown of a block."""
    rows, columns = np.nonzero(shown == number)
    return (max(columns.min() - margin, 0), max(rows.min() - margin, 0), min(columns.max() + 1 + margin, shown.shape[1]),
            min(rows.max() + 1 + margin, shown.shape[0]))


def boxes(*box_px: tuple[float, float, float, float]) -> dict[str, Detections]:
    count = len(box_px)
    return {"image": Detections(np.array(box_px, dtype=np.float32).reshape(-1, 4), np.arange(count), np.linspace(0.9, 0.5, count, dtype=np.float32))}


def shown_at(frame: SceneFrame, shown: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
    assert frame.features is not None
    column, row = frame.features[index].astype(int).T
    return shown[row, column]


def quality(frame: SceneFrame, shown: NDArray[np.int64], lifted: Lifted, proxy: int, block: int) -> tuple[float, float]:
    """Share of a proxy's points that lie on a block, share of the block's points that it holds."""
    hits = shown_at(frame, shown, lifted.proxies[proxy].point_index) == block
    assert frame.features is not None
    return float(hits.mean()), float(hits.sum() / (shown_at(frame, shown, np.arange(len(frame.points))) == block).sum())


def add_up(lifted: Lifted) -> None:
    assert lifted.rules["proxies"] == len(lifted.proxies)
    assert lifted.rules["detections"] == lifted.rules["proxies"] + sum(lifted.rules[rule] for rule in RULES)
    assert set(lifted.rules) <= {"detections", "proxies", *RULES}


def only_rule(lifted: Lifted) -> str:
    add_up(lifted)
    (rule,) = [rule for rule in RULES if lifted.rules[rule]]
    return rule


@pytest.mark.parametrize("pitch_deg", [5.0, 20.0, 35.0])
def test_object_on_the_floor_before_a_wall(pitch_deg: float) -> None:
    depth, shown = see([CHAIR], pitch_deg=pitch_deg)
    frame = frame_of(depth, pitch_deg=pitch_deg)
    lifted = IndoorLifting()(frame, boxes(around(shown, margin=12)))
    add_up(lifted)
    precise, complete = quality(frame, shown, lifted, 0, 0)
    assert precise > 0.97
    assert complete > 0.85  # the floor takes 5 cm
    proxy = lifted.proxies[0]
    assert proxy.camera == "image" and proxy.concept_id == 0 and proxy.score == pytest.approx(0.9)
    assert (np.diff(proxy.point_index) > 0).all()


def test_floor_and_wall_alone_give_nothing() -> None:
    depth, shown = see([CHAIR])
    lifted = IndoorLifting()(frame_of(depth), boxes((0, 20, 60, 90), (200, 130, 275, 205)))
    assert (shown[20:90, :60] < 0).all() and (shown[130:205, 200:275] < 0).all()
    assert only_rule(lifted) == "background only" and lifted.rules["background only"] == 2


def test_what_stands_on_a_table_is_cut_off_from_it() -> None:
    table: Block = ((-0.9, 1.8, 0.0), (0.9, 2.8, 0.7))
    vase: Block = ((-0.1, 2.2, 0.7), (0.1, 2.4, 1.0))
    depth, shown = see([table, vase])
    frame = frame_of(depth)
    lifted = IndoorLifting()(frame, boxes(around(shown, 0), around(shown, 1)))
    assert min(quality(frame, shown, lifted, 0, 0)) > 0.85
    precise, complete = quality(frame, shown, lifted, 1, 1)
    assert precise > 0.85 and complete > 0.6
    together = IndoorLifting(facing_up=1.0)(frame, boxes(around(shown, 1)))  # the vase is a part of the table then, which leaves the box
    assert only_rule(together) == "background only"


def test_an_object_before_another_keeps_its_points() -> None:
    blocks: list[Block] = [((-0.2, 1.7, 0.0), (0.2, 1.9, 0.9)), ((-0.9, 2.6, 0.0), (0.9, 3.0, 1.2))]
    depth, shown = see(blocks)
    frame = frame_of(depth)
    for order in ([0, 1], [1, 0]):
        lifted = IndoorLifting()(frame, boxes(*(around(shown, block) for block in order)))
        assert len(lifted.proxies) == 2
        for proxy, block in enumerate(order):
            precise, complete = quality(frame, shown, lifted, proxy, block)
            assert precise > 0.97 and complete > (0.85 if block == 0 else 0.3)  # the hind one is seen in two parts
        assert not np.intersect1d(lifted.proxies[0].point_index, lifted.proxies[1].point_index).size


def test_a_smaller_box_owns_the_points_and_the_larger_is_counted() -> None:
    depth, shown = see([CHAIR])
    left, top, right, bottom = around(shown)
    wide = (left - 30, top - 30, right + 30, bottom)
    lifted = IndoorLifting()(frame_of(depth), boxes(wide, (left, top, right, bottom)))
    assert only_rule(lifted) == "owned by others" and lifted.proxies[0].concept_id == 1


def test_an_overlapping_box_of_less_score_is_a_duplicate() -> None:
    depth, shown = see([CHAIR])
    left, top, right, bottom = around(shown)
    lifted = IndoorLifting()(frame_of(depth), boxes((left, top, right, bottom), (left + 2, top, right, bottom)))
    assert only_rule(lifted) == "duplicate box" and lifted.proxies[0].concept_id == 0


def test_duplicates_of_duplicates_are_kept() -> None:
    box_px = np.array([[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10], [0, 0, 10, 10]], dtype=float)  # neighbours: 7 / 13
    assert duplicates(box_px, np.ones(4, dtype=bool), 0.5).tolist() == [False, True, False, True]
    assert duplicates(box_px, np.array([False, True, True, True]), 0.5).tolist() == [False, False, True, True]
    assert duplicates(box_px, np.ones(4, dtype=bool), 7 / 13 + 1e-9).tolist() == [False, False, False, True]


def test_holes_are_never_points_and_do_not_split_an_object() -> None:
    depth, shown = see([CHAIR])
    rng = np.random.default_rng(0)
    depth[rng.random(depth.shape) < 0.3] = 0
    rows, columns = np.nonzero(shown == 0)
    depth[:, (columns.min() + columns.max()) // 2 - 2 : (columns.min() + columns.max()) // 2 + 2] = 0  # 4 pixels are 3 cm there
    frame = frame_of(depth)
    lifted = IndoorLifting()(frame, boxes(around(shown)))
    precise, complete = quality(frame, shown, lifted, 0, 0)
    assert precise > 0.9 and complete > 0.8
    depth[rows, columns] = 0
    assert only_rule(IndoorLifting()(frame_of(depth), boxes((100, 90, 120, 110)))) == "no depth"


def test_too_few_points_and_no_main_cluster_and_too_far() -> None:
    small: Block = ((-0.05, 2.0, 0.0), (0.05, 2.1, 0.25))
    depth, shown = see([small])
    box_px = around(shown, margin=4)
    assert 100 < (shown == 0).sum() < 500
    assert only_rule(IndoorLifting(min_points=500)(frame_of(depth), boxes(box_px))) == "background only"
    posts: list[Block] = [((x, 2.0, 0.0), (x + 0.06, 2.06, 0.9)) for x in (-0.6, -0.2, 0.2, 0.6)]
    depth, shown = see(posts)
    box_px = around(np.where(shown >= 0, 0, -1))
    assert only_rule(IndoorLifting(main_share=0.5)(frame_of(depth), boxes(box_px))) == "no main cluster"
    assert only_rule(IndoorLifting(main_share=0.0, min_points=int((shown == 0).sum()) + 300)(frame_of(depth), boxes(box_px))) == "too few points"
    assert only_rule(IndoorLifting(farthest=1.0)(frame_of(depth), boxes(box_px))) == "too far"


def test_boxes_that_cannot_be_used() -> None:
    depth, shown = see([CHAIR])
    nan, good = float("nan"), around(shown)
    bad = [(nan, 0, 10, 10), (-50, 0, -10, 10), (20, 20, 10, 40), (30, 30, 30.2, 90), (300, 0, 400, 50)]
    lifted = IndoorLifting()(frame_of(depth), boxes(*bad, good))
    assert only_rule(lifted) == "unusable box" and lifted.rules["unusable box"] == 5
    assert lifted.proxies[0].concept_id == 5
    assert only_rule(IndoorLifting()(frame_of(depth), boxes((0, 0, WIDTH, HEIGHT)))) == "cut by border"
    assert not IndoorLifting(most_borders=0)(frame_of(depth), boxes((0, *good[1:]))).proxies
    outside = boxes((good[0], good[1], good[2], HEIGHT + 90.0))
    assert len(IndoorLifting()(frame_of(depth), outside).proxies) == 1


def test_nothing_in_nothing_out() -> None:
    depth, shown = see([CHAIR])
    frame = frame_of(depth)
    for found in ({}, boxes()):
        assert IndoorLifting()(frame, found) == Lifted((), Counter(detections=0, proxies=0))
    empty = frame_of(np.zeros_like(depth))
    assert only_rule(IndoorLifting()(empty, boxes(around(shown)))) == "no depth"


def test_points_that_are_not_numbers_belong_to_nobody() -> None:
    depth, shown = see([CHAIR])
    frame = frame_of(depth)
    broken = frame.points.copy()
    broken[::7] = np.nan
    lifted = IndoorLifting()(replace(frame, points=broken), boxes(around(shown)))
    assert np.isfinite(broken[lifted.proxies[0].point_index]).all()
    assert quality(frame, shown, lifted, 0, 0)[0] > 0.97


def test_order_of_points_and_boxes_does_not_matter() -> None:
    blocks: list[Block] = [CHAIR, ((0.7, 2.4, 0.0), (1.1, 2.8, 1.0)), ((-1.2, 2.2, 0.0), (-0.7, 2.6, 0.5))]
    depth, shown = see(blocks)
    frame = frame_of(depth)
    found = boxes(*(around(shown, number) for number in range(3)))
    usual = IndoorLifting()(frame, found)
    assert len(usual.proxies) == 3
    order = np.random.default_rng(0).permutation(len(frame.points))
    assert frame.features is not None
    mixed = replace(frame, points=frame.points[order], features=frame.features[order])
    for one, two in zip(usual.proxies, IndoorLifting()(mixed, found).proxies, strict=True):
        np.testing.assert_array_equal(one.point_index, np.sort(order[two.point_index]))
    turned = boxes(*(around(shown, number) for number in (2, 0, 1)))
    for number, proxy in zip((2, 0, 1), IndoorLifting()(frame, turned).proxies, strict=True):
        np.testing.assert_array_equal(proxy.point_index, usual.proxies[number].point_index)


def test_heading_of_the_upright_frame_does_not_matter() -> None:
    depth, shown = see([CHAIR])
    frame = frame_of(depth)
    usual = IndoorLifting()(frame, boxes(around(shown, margin=10))).proxies[0]
    for angle in (0.3, 2.0, 4.4):
        about_up = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        other = replace(frame, upright_from_points=about_up @ frame.upright_from_points)
        (proxy,) = IndoorLifting()(other, boxes(around(shown, margin=10))).proxies
        both = np.intersect1d(proxy.point_index, usual.point_index).size
        assert both > 0.97 * max(len(proxy.point_index), len(usual.point_index))  # the wall's direction is binned


def test_large_pictures_are_cut_at_a_part_of_their_size() -> None:
    depth, shown = see([CHAIR])
    step = 3
    large, drawn = (np.repeat(np.repeat(values, step, axis=0), step, axis=1) for values in (depth, shown))
    matrix = INTRINSICS.copy()
    matrix[:2] *= step
    matrix[:2, 2] += (step - 1) / 2
    frame = frame_of(large, intrinsics=matrix)
    (proxy,) = IndoorLifting()(frame, boxes(around(drawn))).proxies
    small_frame = frame_of(depth)
    (small,) = IndoorLifting()(small_frame, boxes(around(shown, margin=1))).proxies
    assert len(proxy.point_index) == pytest.approx(step**2 * len(small.point_index), rel=0.03)
    assert (shown_at(frame, drawn, proxy.point_index) == 0).mean() > 0.97


def test_normals_and_points_of_a_known_view() -> None:
    depth, shown = see([CHAIR], pitch_deg=20.0)
    surfaces = look_at(depth, INTRINSICS, turn(20.0))
    floor, front = surfaces.normals[200, 20], surfaces.normals[120, 140]
    np.testing.assert_allclose(floor, [0, 0, 1], atol=0.02)
    assert shown[120, 140] == 0
    np.testing.assert_allclose(front, [0, -1, 0], atol=0.02)  # towards the camera
    np.testing.assert_allclose(surfaces.points[120, 140, 1], 2.0, atol=1e-4)
    np.testing.assert_allclose(surfaces.points[200, 20, 2], -CAMERA_HEIGHT, atol=1e-4)
    pieces = segment(surfaces, **SETTINGS)
    assert pieces.label[200, 20] == pieces.first_plane  # the floor
    assert pieces.label[60, 20] == pieces.first_plane + 1 and pieces.count == pieces.first_plane + 2  # the wall
    assert 0 <= pieces.label[120, 140] < pieces.first_plane


def test_joined_pixels_like_a_flood_fill() -> None:
    rng = np.random.default_rng(1)
    use = rng.random((13, 17)) < 0.8
    across, down = rng.random((13, 16)) < 0.6, rng.random((12, 17)) < 0.6
    label, count = joined_pixels(use, across, down)
    slow = np.full(use.shape, -1)
    pieces = 0
    for start in zip(*np.nonzero(use), strict=True):
        if slow[start] >= 0:
            continue
        waiting = [start]
        while waiting:
            row, column = waiting.pop()
            if slow[row, column] >= 0:
                continue
            slow[row, column] = pieces
            near = [(row, column + 1, column < 16 and across[row, min(column, 15)]), (row, column - 1, column > 0 and across[row, column - 1]),
                    (row + 1, column, row < 12 and down[min(row, 11), column]), (row - 1, column, row > 0 and down[row - 1, column])]
            waiting += [(y, x) for y, x, joined in near if joined and use[y, x]]
        pieces += 1
    assert count == pieces > 5
    np.testing.assert_array_equal(label, slow)


def test_clusters_like_a_slow_twin() -> None:
    rng = np.random.default_rng(2)
    points = np.concatenate([centre + rng.normal(0, 0.03, (60, 3)) for centre in rng.uniform(0, 1, (6, 3))])
    found = clusters(points, 0.03, 0.1)
    place = [tuple(row) for row in np.floor((points - points.min(axis=0)) / 0.03).astype(int)]
    means = {key: np.mean([point for point, other in zip(points, place, strict=True) if other == key], axis=0) for key in place}
    group = {key: number for number, key in enumerate(means)}
    for one in means:
        for two in means:
            if np.linalg.norm(means[one] - means[two]) <= 0.1:
                old, new = group[two], group[one]
                group = {key: new if value == old else value for key, value in group.items()}
    slow = np.array([group[key] for key in place])
    np.testing.assert_array_equal(found[:, None] == found[None], slow[:, None] == slow[None])
    assert 1 < found.max() + 1 == len(set(slow.tolist()))
    assert clusters(np.zeros((0, 3)), 0.03, 0.1).shape == (0,)
    moved = clusters(points[::-1] + 5, 0.03, 0.1)[::-1]
    np.testing.assert_array_equal(moved[:, None] == moved[None], found[:, None] == found[None])


def test_grabcut_finds_an_object_by_its_colour(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    depth, shown = see([CHAIR])
    rng = np.random.default_rng(0)
    picture = np.where((shown == 0)[..., None], [180, 40, 40], [60, 90, 160]) + rng.integers(-15, 16, (HEIGHT, WIDTH, 3))
    file = tmp_path / "picture.png"
    Image.fromarray(picture.astype(np.uint8)).save(file)
    left, top, right, bottom = (int(value) for value in around(shown, margin=12))
    mask = grabcut(picture.astype(np.uint8), (left, top, right, bottom))
    assert (mask == (shown == 0)[top:bottom, left:right]).mean() > 0.97
    whole = grabcut(picture.astype(np.uint8), (0, 0, WIDTH, HEIGHT))
    assert whole.all() and whole.shape == (HEIGHT, WIDTH)
    frame = frame_of(depth, file=file)
    first, again = (IndoorLifting(background="grabcut")(frame, boxes((left, top, right, bottom))) for _ in range(2))
    assert quality(frame, shown, first, 0, 0)[0] > 0.97
    np.testing.assert_array_equal(first.proxies[0].point_index, again.proxies[0].point_index)


def test_grabcut_without_opencv_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cv2":
            raise ImportError("No module named 'cv2'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"GrabCut needs OpenCV.*pip install clip2x\[detect\]"):
        IndoorLifting(background="grabcut")
    IndoorLifting()


def test_settings_are_described_and_travel() -> None:
    lifting = IndoorLifting(min_points=50)
    about = lifting.describe()
    assert about["kind"] == "indoor" and about["min_points"] == 50 and json.loads(json.dumps(about)) == about
    assert pickle.loads(pickle.dumps(lifting)).describe() == about
    assert IndoorLifting(**{name: value for name, value in about.items() if name != "kind"}).describe() == about


@pytest.mark.parametrize(("settings", "message"), [
    ({"background": "magic"}, "background must be one of segments, grabcut, got 'magic'."),
    ({"inside": 1.5}, "inside must be a share from 0 to 1, got 1.5."),
    ({"main_share": float("nan")}, "main_share must be a share from 0 to 1, got nan."),
    ({"min_points": 0}, "min_points must be at least 1, got 0."),
    ({"voxel": 0.0}, "voxel must be a length above 0, in metres, got 0.0."),
    ({"jump": -0.1}, "jump must not be negative, got -0.1."),
])
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        IndoorLifting(**settings)
    assert str(raised.value) == message


def test_frames_that_are_not_rgbd() -> None:
    depth, shown = see([CHAIR])
    frame, found = frame_of(depth), boxes(around(shown))
    camera = frame.cameras[0]
    with pytest.raises(InputError, match=r"frame: there is no camera 'image'; the frame has none."):
        IndoorLifting()(replace(frame, cameras=()), found)
    with pytest.raises(InputError, match=r"frame: camera image has no depth; indoor lifting needs RGB-D frames"):
        IndoorLifting()(replace(frame, cameras=(replace(camera, depth=None),)), found)
    with pytest.raises(InputError, match=r"frame: the points must have the features u_px, v_px, found none."):
        IndoorLifting()(replace(frame, features=None, feature_names=()), found)
    with pytest.raises(InputError, match=r"frame: depth is 280 x 210 pixels, camera image 100 x 210; they must be equal"):
        IndoorLifting()(replace(frame, cameras=(replace(camera, width_px=100),)), found)


def inside_shares(frame: SceneFrame, lifted: Lifted) -> list[float]:
    """Share of each proxy's points in the 3-D box of the annotated object whose 2-D box it was lifted from."""
    shares = []
    for proxy in lifted.proxies:
        box = frame.boxes[proxy.concept_id]
        shares.append(float(points_in_box(frame.points[proxy.point_index], box.centre, box.size, box.points_from_box).mean()))
    return shares


def test_rooms_of_the_smallest_miniworld(tiny_world: Path) -> None:
    shares = []
    frames = SunRgbdFrames(root=tiny_world, split="train")
    for frame in frames:
        found = boxes(*(box.box_px for box in frame.boxes_2d))
        lifted = IndoorLifting()(frame, found)
        add_up(lifted)
        assert lifted.rules["detections"] == len(frame.boxes_2d) == len(frame.boxes)
        shares += inside_shares(frame, lifted)
        owned = np.concatenate([proxy.point_index for proxy in lifted.proxies] or [np.zeros(0, dtype=int)])
        assert len(np.unique(owned)) == len(owned)
        assert all(len(proxy.point_index) >= 100 for proxy in lifted.proxies)
    assert len(shares) >= 3
    assert np.mean(np.array(shares) >= 0.7) >= 0.7


@pytest.mark.data
def test_real_frame(shared_data: Path) -> None:
    """Lower bounds; figures in the docs. Two bookshelves, a chair, and flat things on shelves and a wall."""
    (frame,) = SunRgbdFrames(root=shared_data, split="train")
    lifted = IndoorLifting()(frame, boxes(*(box.box_px for box in frame.boxes_2d)))
    add_up(lifted)
    assert lifted.rules["detections"] == 7
    shares = dict(zip((proxy.concept_id for proxy in lifted.proxies), inside_shares(frame, lifted), strict=True))
    assert sum(share >= 0.7 for share in shares.values()) >= 3
    assert frame.boxes[2].name == "chair" and shares[2] > 0.9
