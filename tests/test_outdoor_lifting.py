"""Outdoor lifting: scenes made by hand, rules and their counters, invariants, and the real key frame."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clip2x.data.nuscenes.reader import NuScenesFrames
from clip2x.errors import InputError
from clip2x.evaluation.annotated_objects import ObjectNames, perfect_boxes
from clip2x.evaluation.proxy_quality import measure_lifting
from clip2x.geometry import project_points, rigid_transform, transform_points
from clip2x.proxies.outdoor import RULES, OutdoorLifting
from clip2x.types import Camera, Detections, Lifted, SceneFrame

GROUND = -1.8  # metres
STEP = 0.12  # metres between points
WIDTH, HEIGHT = 800, 600
INTRINSICS = np.array([[400.0, 0, 400], [0, 400, 300], [0, 0, 1]])


def camera(name: str = "FRONT", yaw: float = 0.0) -> Camera:
    """A camera at the sensor that looks along y, turned to the left by `yaw`."""
    axes = np.array([[np.cos(yaw), np.sin(yaw), 0], [0, 0, -1], [-np.sin(yaw), np.cos(yaw), 0]])  # rows: right, down, forward
    return Camera(name, Path(f"{name}.jpg"), WIDTH, HEIGHT, INTRINSICS, rigid_transform(axes, np.zeros(3)))


def panel(y: float, left: float, right: float, bottom: float, top: float, step: float = STEP) -> np.ndarray:
    """Points on an upright surface that faces the sensor, heights above the ground."""
    x, z = np.meshgrid(np.arange(left, right + 1e-9, step), np.arange(bottom, top + 1e-9, step) + GROUND)
    return np.column_stack([x.ravel(), np.full(x.size, y), z.ravel()])


def floor(slope: float = 0.0) -> np.ndarray:
    x, y = np.meshgrid(np.arange(-15, 15, 0.5), np.arange(-15, 25, 0.5))
    flat = np.column_stack([x.ravel(), y.ravel(), GROUND + slope * y.ravel()])
    return flat[np.hypot(flat[:, 0], flat[:, 1]) > 3]


class Scene:
    """Parts, each with the number that its points carry; part 0 is the ground."""

    def __init__(self, *parts: np.ndarray, cameras: tuple[Camera, ...] = (camera(),), ground: np.ndarray | None = None) -> None:
        everything = [floor() if ground is None else ground, *parts]
        self.part = np.repeat(np.arange(len(everything)), [len(part) for part in everything])
        self.frame = SceneFrame("token", "scene", np.concatenate(everything).astype(np.float32), np.eye(3), cameras)

    def box(self, *numbers: int, camera: int = 0, grow: float = 4.0) -> list[float]:
        """The box around parts in a picture, cut at its border."""
        seen = self.frame.cameras[camera]
        pixels, _ = project_points(transform_points(seen.camera_from_points, self.frame.points[np.isin(self.part, numbers)]), seen.intrinsics)
        low, high = np.nanmin(pixels, axis=0) - grow, np.nanmax(pixels, axis=0) + grow
        return [max(low[0], 0), max(low[1], 0), min(high[0], WIDTH), min(high[1], HEIGHT)]

    def shares(self, lifted: Lifted) -> list[dict[int, int]]:
        """How many points of which part each proxy holds."""
        return [dict(zip(*(values.tolist() for values in np.unique(self.part[proxy.point_index], return_counts=True)), strict=True))
                for proxy in lifted.proxies]

    def size(self, number: int, above: float = 0.15) -> int:
        """Points of a part that stand above the ground."""
        return int((self.frame.points[self.part == number, 2] > GROUND + above).sum())


def boxes(*box_px: list[float], scores: list[float] | None = None) -> Detections:
    count = len(box_px)
    return Detections(np.array(box_px, dtype=np.float32).reshape(-1, 4), np.arange(count),
                      np.array(scores or [0.9 - 0.01 * position for position in range(count)], dtype=np.float32))


def lift(frame: SceneFrame, found: Mapping[str, Detections], lifting: OutdoorLifting | None = None) -> Lifted:
    """Lift and check what always holds."""
    lifted = (lifting or OutdoorLifting())(frame, found)
    assert lifted.rules["detections"] == sum(map(len, found.values()))
    assert lifted.rules["detections"] == lifted.rules["proxies"] + sum(lifted.rules[rule] for rule in RULES)
    assert lifted.rules["proxies"] == len(lifted.proxies)
    assert set(lifted.rules) <= {"detections", "proxies", *RULES}
    for proxy in lifted.proxies:
        assert (np.diff(proxy.point_index) > 0).all() and proxy.point_index.dtype == np.int64
    return lifted


def test_an_object_before_a_wall() -> None:
    scene = Scene(panel(10, -0.4, 0.4, 0, 1.7), panel(12.5, -9, 9, 0, 5))
    found = {"FRONT": boxes(scene.box(1))}
    lifted = lift(scene.frame, found)
    assert scene.shares(lifted) == [{1: scene.size(1)}]
    proxy = lifted.proxies[0]
    assert (proxy.camera, proxy.concept_id, proxy.score) == ("FRONT", 0, pytest.approx(0.9))
    assert proxy.box_px.tolist() == pytest.approx(scene.box(1))
    # The plain baseline takes the larger part of what it sees: the wall.
    assert set(scene.shares(lift(scene.frame, found, OutdoorLifting.plain()))[0]) == {2}


def test_two_objects_one_behind_the_other() -> None:
    near, far = panel(7, -0.5, 0.5, 0, 1.5), panel(11, -1.5, 1.5, 0, 2)
    hidden = np.abs(far[:, 0] / far[:, 1]) < 0.5 / 7 + 0.01  # behind the near one
    scene = Scene(near, far[~hidden | (far[:, 2] > 11 / 7 * (1.5 + GROUND) + 0.05)])
    for order in ([1, 2], [2, 1]):
        lifted = lift(scene.frame, {"FRONT": boxes(*(scene.box(number) for number in order))})
        assert scene.shares(lifted) == [{number: scene.size(number)} for number in order]


def test_a_box_whose_points_all_belong_to_another_is_occluded() -> None:
    scene = Scene(panel(7, -0.5, 0.5, 0, 1.5), ground=floor())
    left, top, right, bottom = scene.box(1)
    part = [left + 15, top + 15, right - 15, bottom - 25]
    lifted = lift(scene.frame, {"FRONT": boxes(scene.box(1), part)})
    assert len(lifted.proxies) == 1 and lifted.rules["occluded"] == 1
    both = lift(scene.frame, {"FRONT": boxes(scene.box(1), part)}, OutdoorLifting(exclusive=False))
    assert len(both.proxies) == 2


def test_a_row_of_touching_objects_is_cut() -> None:
    row = [panel(10, left, left + 1.9, 0, 1) for left in (-3.0, -1.0, 1.0)]
    scene = Scene(*row, panel(14, -10, 10, 0, 4))
    lifted = lift(scene.frame, {"FRONT": boxes(*(scene.box(number, grow=12.0) for number in (1, 2, 3)))})
    for number, held in zip((1, 2, 3), scene.shares(lifted), strict=True):
        assert held[number] >= 0.9 * scene.size(number)
        assert held[number] >= 0.9 * sum(held.values())
    taken = np.concatenate([proxy.point_index for proxy in lifted.proxies])
    assert len(taken) == len(set(taken.tolist()))


@pytest.mark.parametrize("slope", [-0.06, 0.06])
def test_an_object_on_sloping_ground(slope: float) -> None:
    thing = panel(11, -0.5, 0.5, 0, 1.2)
    thing[:, 2] += slope * 11
    scene = Scene(thing, ground=floor(slope))
    held = scene.shares(lift(scene.frame, {"FRONT": boxes(scene.box(1))}))
    assert held == [{1: scene.size(1, above=0.15 + slope * 11)}]


def test_boxes_at_the_border_of_the_picture() -> None:
    # At 10 m the picture ends at x = 10: a quarter or three quarters of the object are seen.
    for left, seen in ((9.25, False), (7.75, True)):
        scene = Scene(panel(10, left, left + 3, 0, 1.5))
        lifted = lift(scene.frame, {"FRONT": boxes(scene.box(1))})
        assert (len(lifted.proxies), lifted.rules["cut by border"]) == ((1, 0) if seen else (0, 1))
        assert len(lift(scene.frame, {"FRONT": boxes(scene.box(1))}, OutdoorLifting(border_share=0.0)).proxies) == 1


def test_one_object_in_two_cameras() -> None:
    cameras = (camera("LEFT", np.deg2rad(20)), camera("RIGHT", np.deg2rad(-20)))
    scene = Scene(panel(10, -0.8, 0.8, 0, 1.5), cameras=cameras)
    for scores, kept in (([0.4, 0.7], "RIGHT"), ([0.7, 0.4], "LEFT")):
        found = {name: boxes(scene.box(1, camera=number), scores=[score])
                 for number, (name, score) in enumerate(zip(("LEFT", "RIGHT"), scores, strict=True))}
        lifted = lift(scene.frame, found)
        assert [proxy.camera for proxy in lifted.proxies] == [kept]
        assert lifted.rules["duplicate camera"] == 1


def test_two_boxes_of_one_object() -> None:
    scene = Scene(panel(10, -0.8, 0.8, 0, 1.5))
    left, top, right, bottom = scene.box(1)
    lifted = lift(scene.frame, {"FRONT": boxes([left, top, right, bottom], [left + 2, top, right + 2, bottom], scores=[0.3, 0.8])})
    assert [proxy.concept_id for proxy in lifted.proxies] == [1]
    assert lifted.rules["duplicate"] == 1


def test_each_rule_has_its_counter() -> None:
    nan, full = float("nan"), [0.0, 0, WIDTH, HEIGHT]
    thing, far = Scene(panel(10, -0.5, 0.5, 0, 1.5)), Scene(panel(22, -0.5, 0.5, 0, 1.5))
    box = thing.box(1)
    for bad in ([nan, 10, 20, 30], [nan] * 4, [30, 10, 20, 40], [10, 10, 10, 40], [-50, 10, -20, 40], [900, 10, 950, 40], [10, 700, 50, 800]):
        assert lift(thing.frame, {"FRONT": boxes(bad)}).rules["bad box"] == 1, bad
    assert lift(thing.frame, {"FRONT": boxes([10, 400, 60, 500])}).rules["no points"] == 1  # ground only
    assert lift(thing.frame, {"FRONT": boxes([10, 10, 60, 60])}).rules["no points"] == 1  # sky
    assert lift(far.frame, {"FRONT": boxes(far.box(1))}, OutdoorLifting(max_range=20.0)).rules["beyond range"] == 1
    assert lift(thing.frame, {"FRONT": boxes(box)}, OutdoorLifting(min_points=500)).rules["too few points"] == 1
    assert lift(thing.frame, {"FRONT": boxes(box)}, OutdoorLifting(extent=(0.1, 1.0))).rules["implausible extent"] == 1
    assert lift(thing.frame, {"FRONT": boxes(box)}, OutdoorLifting(min_samples=900)).rules["no cluster"] == 1
    wall = Scene(panel(10, -12, 12, 0, 4))
    assert lift(wall.frame, {"FRONT": boxes([380, 290, 420, 330])}).rules["poor fit"] == 1  # a window of a wall
    assert lift(wall.frame, {"FRONT": boxes(full, full)}).rules["duplicate"] == 1


def test_nothing_found_and_nothing_seen() -> None:
    scene = Scene(panel(10, -0.5, 0.5, 0, 1.5))
    for found in ({}, {"FRONT": boxes()}):
        assert lift(scene.frame, found).proxies == ()
    empty = replace(scene.frame, points=np.zeros((0, 3), dtype=np.float32))
    for lifting in (OutdoorLifting(), OutdoorLifting.plain()):
        assert lift(empty, {"FRONT": boxes(scene.box(1))}, lifting).rules["no points"] == 1


def test_the_own_car_is_no_object() -> None:
    bonnet = panel(2.0, -1.0, 1.0, 0.2, 1.2)
    scene = Scene(bonnet)
    assert lift(scene.frame, {"FRONT": boxes(scene.box(1))}).rules["no points"] == 1


def crowded() -> tuple[SceneFrame, dict[str, Detections]]:
    cameras = (camera("LEFT", np.deg2rad(25)), camera("RIGHT", np.deg2rad(-25)))
    rng = np.random.default_rng(0)
    parts = [panel(6.5, -2, -1.2, 0, 1.7), panel(9, 0.5, 4.5, 0, 1.5), panel(12, -4, -1, 0, 2.5), panel(9, 4.55, 6, 0, 1.0), panel(17, -15, 15, 0, 6)]
    scene = Scene(*(part + rng.normal(0, 0.015, part.shape) for part in parts), cameras=cameras)
    found = {}
    for number, item in enumerate(cameras):
        rectangles = [scene.box(part, camera=number) for part in (1, 2, 3, 4)]
        kept = [rectangle for rectangle in rectangles if rectangle[2] - rectangle[0] > 10]
        found[item.name] = boxes(*kept)
    return scene.frame, found


def test_the_order_of_the_points_does_not_matter() -> None:
    frame, found = crowded()
    order = np.random.default_rng(1).permutation(len(frame.points))
    first, second = lift(frame, found), lift(replace(frame, points=frame.points[order]), found)
    assert len(first.proxies) >= 3 and first.rules == second.rules
    for one, other in zip(first.proxies, second.proxies, strict=True):
        assert one.point_index.tolist() == np.sort(order[other.point_index]).tolist()


@pytest.mark.parametrize("angle", [0.3, -2.0, 3.1])
def test_turning_the_world_changes_nothing(angle: float) -> None:
    frame, found = crowded()
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    cameras = tuple(replace(item, camera_from_points=item.camera_from_points @ rigid_transform(turn.T, np.zeros(3))) for item in frame.cameras)
    turned = replace(frame, points=(frame.points @ turn.T).astype(np.float32), cameras=cameras)
    first = lift(frame, found)
    # With the frame turned back by `upright_from_points`, and without: nothing but the grids of ground and thinning lies otherwise then.
    for second in (lift(replace(turned, upright_from_points=turn.T), found), lift(turned, found)):
        assert first.rules == second.rules
        for one, other in zip(first.proxies, second.proxies, strict=True):
            assert (one.camera, one.concept_id) == (other.camera, other.concept_id)
            shared = len(np.intersect1d(one.point_index, other.point_index))
            assert shared >= 0.97 * max(len(one.point_index), len(other.point_index))


def test_several_sweeps_give_the_same_object() -> None:
    frame, found = crowded()
    rng = np.random.default_rng(2)
    dense = np.concatenate([frame.points + rng.normal(0, 0.01, frame.points.shape).astype(np.float32) for _ in range(10)])
    first, second = lift(frame, found), lift(replace(frame, points=dense), found)
    assert first.rules == second.rules
    for one, other in zip(first.proxies, second.proxies, strict=True):
        assert set(one.point_index.tolist()) <= set((other.point_index % len(frame.points)).tolist())


def test_it_travels_to_a_worker_and_describes_itself() -> None:
    frame, found = crowded()
    lifting = OutdoorLifting(max_range=40.0)
    again = pickle.loads(pickle.dumps(lifting))
    assert json.loads(json.dumps(lifting.describe())) == again.describe()
    assert lifting.describe()["kind"] == "outdoor" and lifting.describe()["max_range"] == 40.0
    assert OutdoorLifting.plain().describe()["context"] == 0.0
    for one, other in zip(lifting(frame, found).proxies, again(frame, found).proxies, strict=True):
        assert one.point_index.tolist() == other.point_index.tolist()


def test_errors_say_what_is_accepted() -> None:
    frame, found = crowded()
    with pytest.raises(InputError, match=r"detections of camera 'BACK', which it does not have \(it has LEFT, RIGHT\)"):
        OutdoorLifting()(frame, {**found, "BACK": found["LEFT"]})
    with pytest.raises(InputError, match="ground must be one of surface, plane, got 'ransac'"):
        OutdoorLifting(ground="ransac")
    with pytest.raises(InputError, match="min_points must be from 1 to 1e\\+06, got 0"):
        OutdoorLifting(min_points=0)
    with pytest.raises(InputError, match="least_fit must be from 0 to 1, got nan"):
        OutdoorLifting(least_fit=float("nan"))
    with pytest.raises(InputError, match="extent must be two growing lengths"):
        OutdoorLifting(extent=(2.0, 1.0))
    with pytest.raises(InputError, match="eps_bands must be"):
        OutdoorLifting(eps_bands=())


def test_the_mini_world_is_lifted_better_than_by_the_plain_baseline(tiny_world: Path) -> None:
    frames = NuScenesFrames(root=tiny_world, variant="v1.0-mini", split="mini_train")
    names = ObjectNames(frames.manifest, frames.variant_name)
    recall = {}
    for name, lifting in (("ours", OutdoorLifting()), ("plain", OutdoorLifting.plain(min_points=5, max_range=60.0))):
        figures = measure_lifting((frames[position] for position in range(min(len(frames), 4))), lifting, names)
        recall[name] = figures["any_name"]["recall"]["share"]
    assert recall["ours"] > 0.75
    assert recall["ours"] > recall["plain"] + 0.05


def test_every_detection_of_the_mini_world_is_accounted_for(tiny_world: Path) -> None:
    frames = NuScenesFrames(root=tiny_world, variant="v1.0-mini", split="mini_train")
    frame = frames[0]
    found = perfect_boxes(frame, ObjectNames(frames.manifest, frames.variant_name))[0]
    lifted = lift(frame, found)
    taken = np.concatenate([proxy.point_index for proxy in lifted.proxies])
    assert len(taken) == len(set(taken.tolist()))
    for lifting in (OutdoorLifting.plain(), OutdoorLifting(context=0.0), OutdoorLifting(exclusive=False), OutdoorLifting(outside_weight=0.0)):
        lift(frame, found, lifting)


@pytest.mark.data
def test_the_real_key_frame(shared_data: Path) -> None:
    frames = NuScenesFrames(root=shared_data, variant="v1.0-mini", split="mini_train")
    names = ObjectNames(frames.manifest, frames.variant_name)
    perfect = measure_lifting([frames[0]], OutdoorLifting(), names)["any_name"]
    assert perfect["recall"]["n"] == 14
    assert perfect["recall"]["k"] >= 11
    content = json.loads((shared_data / "detections" / "nuscenes_yolox_nano.json").read_text())
    categories = {entry["id"]: number for number, entry in enumerate(content["categories"])}
    picture = {entry["id"]: Path(entry["file_name"]).name for entry in content["images"]}

    def detector(frame: SceneFrame) -> dict[str, Detections]:
        found = {}
        for item in frame.cameras:
            rows = [entry for entry in content["annotations"] if picture[entry["image_id"]] == item.file.name]
            corners = np.array([entry["bbox"] for entry in rows], dtype=np.float32).reshape(-1, 4)
            corners[:, 2:] += corners[:, :2]
            found[item.name] = Detections(corners, np.array([categories[entry["category_id"]] for entry in rows], dtype=np.int64),
                                          np.array([entry["score"] for entry in rows], dtype=np.float32))
        return found

    concepts = [(entry["name"], {"person": "pedestrian"}.get(entry["name"], entry["name"])) for entry in content["categories"]]
    good = measure_lifting([frames[0]], OutdoorLifting(), names, detections=detector, concepts=concepts)["named"]["good"]
    assert good["n"] >= 8
    assert good["k"] >= good["n"] - 1
