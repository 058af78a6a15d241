"""Proxies against annotated boxes: projection, overlaps, matching, figures. Hand-computed values, slow twins, invariants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clip2x.data.box_projection import project_boxes
from clip2x.data.readers import open_frames
from clip2x.evaluation.annotated_objects import (
    ObjectNames,
    annotated_objects,
    perfect_boxes,
    plain_words,
    points_in_boxes,
    turned_frame,
)
from clip2x.evaluation.proxy_quality import (
    MATCHINGS,
    RANGE_NAMES,
    Candidate,
    ProxyQuality,
    match_proxies,
    measure_lifting,
    range_name,
    wilson_interval,
)
from clip2x.geometry import box_iou, inverse_transform, points_in_box, project_points, rigid_transform, rotation_from_quaternion, transform_points
from clip2x.manifest import load_manifest
from clip2x.types import Box2D, Box3D, Camera, Detections, Lifted, Proxy, SceneFrame

NUSCENES = ObjectNames(load_manifest("nuscenes"), "v1.0-mini")
ROOMS = ObjectNames(load_manifest("sunrgbd"), "objects10")
INTRINSICS = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])


def camera(name: str = "CAM_FRONT", camera_from_points: NDArray[np.float64] | None = None) -> Camera:
    """100 x 80 pixels; the points' frame is the camera's unless said otherwise."""
    return Camera(name, Path(f"{name}.jpg"), 100, 80, INTRINSICS, np.eye(4) if camera_from_points is None else camera_from_points)


def box(centre: tuple[float, float, float], size: tuple[float, float, float] = (2, 2, 2), name: str = "vehicle.car", num_points: int | None = 20,
        rotation: NDArray[np.float64] | None = None, token: str = "t") -> Box3D:
    return Box3D(token, name, -1, np.array(centre, dtype=float), np.array(size, dtype=float), np.eye(3) if rotation is None else rotation, num_points)


def random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    return rotation_from_quaternion(rng.normal(size=4))


def frame_of(points: Any, boxes: tuple[Box3D, ...], cameras: tuple[Camera, ...] = (), drawn: tuple[Box2D, ...] = ()) -> SceneFrame:
    return SceneFrame("f", "s", np.asarray(points, dtype=np.float32).reshape(-1, 3), np.eye(3), cameras or (camera(),), boxes, drawn)


def detections(*rectangles: tuple[float, ...], concepts: tuple[int, ...] = ()) -> Detections:
    return Detections(np.array(rectangles, dtype=np.float32).reshape(-1, 4), np.array(concepts or [0] * len(rectangles), dtype=np.int64),
                      np.ones(len(rectangles), dtype=np.float32))


def test_a_box_in_front_has_the_rectangle_of_its_near_face() -> None:
    (found,) = project_boxes([box((0, 0, 10))], camera())
    assert found is not None
    np.testing.assert_allclose(found, [50 - 100 / 9, 40 - 100 / 9, 50 + 100 / 9, 40 + 100 / 9])


def test_boxes_behind_beside_and_around_the_camera() -> None:
    behind, beside, around, passing = project_boxes(
        [box((0, 0, -5)), box((40, 0, 10)), box((0, 0, 0)), box((2, 0, 0), size=(2, 2, 10))], camera())
    assert behind is None and beside is None
    np.testing.assert_allclose(around, [0, 0, 100, 80])
    # The near side x = 1 leaves the picture at z = 2 and ends at z = 5: u = 50 + 100 / 5. At z = 2 its edges y = -1, 1 are above and below.
    np.testing.assert_allclose(passing, [70, 0, 100, 80])


def test_rectangles_agree_with_many_points_of_the_box() -> None:
    """Slow twin: project a dense grid of the solid box; what of it lies in the picture spans the rectangle."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 41)] * 3), axis=-1).reshape(-1, 3)
    cut = 0
    for _ in range(40):
        view = camera(camera_from_points=rigid_transform(random_rotation(rng), rng.normal(size=3)))
        points_from_camera = inverse_transform(view.camera_from_points)
        centre = transform_points(points_from_camera, rng.uniform([-4, -3, -1], [4, 3, 9], size=(1, 3)))[0]
        item = box(tuple(centre), tuple(rng.uniform(1, 6, size=3)), rotation=random_rotation(rng))
        points = transform_points(view.camera_from_points, (grid * item.size) @ item.points_from_box.T + item.centre)
        pixels, depth = project_points(points, INTRINSICS)
        pixels, inside = np.nan_to_num(pixels, nan=-1), depth >= 0.1
        inside &= (pixels >= 0).all(axis=1) & (pixels <= [100, 80]).all(axis=1)
        (found,) = project_boxes([item], view)
        assert found is not None or inside.sum() == 0
        if found is None or not inside.any():
            continue
        cut += bool((depth < 0.1).any())
        expected = np.concatenate([pixels[inside].min(axis=0), pixels[inside].max(axis=0)])
        assert (found[:2] <= expected[:2] + 1e-6).all() and (found[2:] >= expected[2:] - 1e-6).all(), "no visible point lies outside"
        gap = 100 * item.size.max() / 40 / max(depth[inside].min(), 0.1)  # pixels between points where the box is nearest
        assert (np.abs(found - expected) <= 3 * gap + 1).all(), "and the rectangle is no larger than the points need"
    assert cut >= 8, "some of the boxes reach behind the camera"


def test_overlaps_by_hand() -> None:
    overlaps = box_iou(np.array([[0.0, 0, 2, 2], [5, 5, 5, 5]]), np.array([[1.0, 1, 3, 3], [0, 0, 2, 2], [2, 0, 4, 2], [5, 5, 5, 5]]))
    np.testing.assert_allclose(overlaps, [[1 / 7, 1, 0, 0], [0, 0, 0, 0]])


def test_wilson_intervals_by_hand() -> None:
    np.testing.assert_allclose(wilson_interval(9, 14), (0.38765, 0.83656), atol=1e-4)
    z2 = 1.959964**2
    np.testing.assert_allclose(wilson_interval(8, 8), (8 / (8 + z2), 1.0), atol=1e-6)
    np.testing.assert_allclose(wilson_interval(0, 5), (0.0, z2 / (5 + z2)), atol=1e-6)


def test_points_in_boxes_agrees_with_one_box_at_a_time() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(scale=5, size=(4000, 3)).astype(np.float32)
    boxes = [box(tuple(rng.normal(scale=3, size=3)), tuple(rng.uniform(0.5, 6, size=3)), rotation=random_rotation(rng)) for _ in range(12)]
    expected = np.stack([points_in_box(points, item.centre, item.size, item.points_from_box) for item in boxes], axis=1)
    assert expected.sum() > 100
    np.testing.assert_array_equal(points_in_boxes(points, boxes), expected)
    assert points_in_boxes(points, []).shape == (4000, 0)
    assert points_in_boxes(points[:0], boxes).shape == (0, 12)


def test_categories_get_their_class_and_words() -> None:
    assert NUSCENES.of("human.pedestrian.adult")[0] == "pedestrian" and "person" in NUSCENES.of("human.pedestrian.adult")[1]
    assert NUSCENES.of("vehicle.bus.bendy")[0] == "bus"
    assert NUSCENES.of("vehicle.emergency.police")[0] == "police car"  # of another variant
    assert NUSCENES.of("static_object.bus_stop") == ("bus stop", frozenset({"bus stop"}))
    assert ROOMS.of("book")[0] == "books" and ROOMS.of("sofa_chair") == ("sofa chair", frozenset({"sofa chair"}))
    assert NUSCENES.ordered(["zebra", "bus", "animal", "car"]) == ["car", "bus", "animal", "zebra"]
    assert plain_words(["car_(automobile)", "Night_Stand"]) == {"car", "night stand"}


def test_walls_are_no_objects_and_drawn_rectangles_win() -> None:
    boxes = (box((0, 0, 10), name="wall", num_points=None), box((0, 0, 10), name="chair", num_points=None),
             box((2, 0, 10), name="chair", num_points=None), box((0, 2, 10), name="desk", num_points=None))
    drawn = (Box2D("chair", 2, "CAM_FRONT", (60.0, 30.0, 85.0, 52.0)), Box2D("chair", 2, "CAM_FRONT", (40.0, 28.0, 60.0, 52.0)),
             Box2D("desk", 3, "CAM_FRONT", (0.0, 0.0, 1.0, 1.0)))
    objects = annotated_objects(frame_of([[0, 0, 10], [0, 2, 10], [0, 2, 9.5]], boxes, drawn=drawn), ROOMS)
    assert [item.position for item in objects] == [1, 2, 3] and [item.num_points for item in objects] == [1, 0, 2]
    rectangles = [item.rectangles["CAM_FRONT"].tolist() for item in objects]
    assert rectangles[0] == [40, 28, 60, 52] and rectangles[1] == [60, 30, 85, 52]
    assert rectangles[2][1] == pytest.approx(40 + 100 / 11), "a drawn rectangle elsewhere is another desk"


def two_cameras() -> tuple[Camera, Camera]:
    """The second one stands 4.5 m to the right of the first and looks the same way."""
    beside = rigid_transform(np.eye(3), np.array([-4.5, 0.0, 0.0]))
    return camera("left"), camera("right", beside)


def test_a_perfect_detector_sees_each_object_once_where_most_of_its_points_are() -> None:
    boxes = (box((0, 0, 10), token="a"), box((4.5, 0, 10), name="movable_object.barrier", token="b"), box((0, 0, -9), token="behind"),
             box((0, 0, 20), num_points=0, token="empty"), box((2.2, 0, 10), token="tie"))
    points = [[0, 0, 10], [4.2, 0, 10]]
    found, concepts, objects = perfect_boxes(frame_of(points, boxes, two_cameras()), NUSCENES)
    assert concepts == ("car", "barrier") and [item.position for item in objects] == [0, 1, 4]
    assert found["left"].concept_id.tolist() == [0]
    assert found["right"].concept_id.tolist() == [1, 0], "of the object without points in it, more is seen from the side"
    assert found["left"].box_px.dtype == np.float32 and (found["left"].score == 1).all()
    np.testing.assert_allclose(found["left"].box_px[0], objects[0].rectangles["left"], rtol=1e-6)


def scene() -> SceneFrame:
    """A car at 10 m with 12 points and one beside it with 4, a barrier at 30 m with 10, and ground."""
    car = np.tile([[0.0, 0, 10]], (12, 1)) + np.linspace(-0.9, 0.9, 12)[:, None] * [1, 0.5, 0.5]
    other = np.tile([[3.0, 0, 10]], (4, 1)) + np.linspace(-0.5, 0.5, 4)[:, None]
    barrier = np.tile([[-5.0, 0, 30]], (10, 1)) + np.linspace(-0.9, 0.9, 10)[:, None]
    ground = np.column_stack([np.linspace(-4, 4, 8), np.full(8, 2.0), np.full(8, 12.0)])
    boxes = (box((0, 0, 10), num_points=12), box((3, 0, 10), num_points=4), box((-5, 0, 30), name="movable_object.barrier", num_points=10))
    return frame_of(np.concatenate([car, other, barrier, ground]), boxes)


def candidate(frame: SceneFrame, rectangle: Any, words: tuple[str, ...], index: list[int], whole: bool = True) -> Candidate:
    return Candidate("CAM_FRONT", np.array(rectangle, dtype=np.float32), words, frame.points[index], whole)


def rectangle_of(frame: SceneFrame, position: int) -> NDArray[np.float64]:
    rectangle = project_boxes([frame.boxes[position]], frame.cameras[0])[0]
    assert rectangle is not None
    return rectangle


def test_figures_by_hand() -> None:
    frame = scene()
    car, other, barrier = (rectangle_of(frame, position) for position in range(3))
    quality = ProxyQuality(NUSCENES)
    quality.add(frame, [
        candidate(frame, car, ("automobile",), [*range(9), 26]),  # 9 of 10 points inside: good; holds 9 of 12
        candidate(frame, car, ("wheel", "rim"), [0, 1, 12, 26, 27]),  # 2 of 5 inside; 3 in any box
        candidate(frame, other, ("truck",), [12, 13, 14]),  # good, wrong name
        candidate(frame, barrier, ("barrier",), [16, 17, 28, 29, 30]),  # 2 of 5: not good
        candidate(frame, (0, 0, 10, 10), ("sign",), [26]),  # no object there
    ])
    figures = quality.figures()
    assert (figures["frames"], figures["proxies"], figures["annotated"], figures["in_no_picture"]) == (1, 5, 3, 0)
    free, named, labels = figures["any_name"], figures["named"], figures["labels"]
    assert (free["matched"], free["unmatched"], free["repeated"]) == (4, 1, 1)
    assert (named["matched"], named["unmatched"], named["repeated"]) == (2, 3, 0)
    assert (free["good"]["k"], free["good"]["n"]) == (2, 4) and (named["good"]["k"], named["good"]["n"]) == (1, 2)
    assert free["inside"] == {"mean": pytest.approx((0.9 + 0.4 + 1 + 0.4) / 4), "n": 4}
    assert free["purity"] == {"mean": pytest.approx((1 + 2 / 3 + 1 + 1) / 4), "n": 4}
    assert (free["recall"]["k"], free["recall"]["n"]) == (1, 2), "the car with 4 points is not asked for"
    assert free["recall"]["interval"] == list(wilson_interval(1, 2))
    assert free["completeness"] == {"mean": pytest.approx((9 / 12 + 2 / 10) / 2), "n": 2}
    assert {name: (entry["k"], entry["n"]) for name, entry in free["recall_by_class"].items()} == {"car": (1, 1), "barrier": (0, 1)}
    assert {name: (entry["k"], entry["n"]) for name, entry in free["recall_by_range"].items()} == {"10-20 m": (1, 1), "30-50 m": (0, 1)}
    # Texts are judged where half of the points are inside: the first and the third proxy.
    assert (labels["k"], labels["n"], labels["class_mean"]) == (1, 2, 0.5)
    assert labels["most_often_wrong"] == [{"annotated": "car", "text": "truck", "times": 1}]


def test_class_mean_of_labels_weighs_classes_alike() -> None:
    frame, quality = scene(), ProxyQuality(NUSCENES)
    car, barrier = rectangle_of(frame, 0), rectangle_of(frame, 2)
    quality.add(frame, [candidate(frame, car, ("car",), [0, 1])] * 3 + [candidate(frame, barrier, ("fence",), [16, 17])])
    labels = quality.figures()["labels"]
    assert (labels["share"], labels["class_mean"]) == (0.75, 0.5) and list(labels["per_class"]) == ["car", "barrier"]


def test_classes_that_the_vocabulary_cannot_name_are_listed() -> None:
    frame = scene()
    for concepts, expected in (((), []), ([("sedan", "saloon"), ("fence",)], ["barrier"])):
        quality = ProxyQuality(NUSCENES, concepts)
        quality.add(frame, [candidate(frame, rectangle_of(frame, position), ("fence",), [index]) for position, index in ((0, 1), (2, 16))])
        assert quality.figures()["labels"]["not_in_vocabulary"] == expected


def test_completeness_is_not_told_of_proxies_that_are_stored_in_part() -> None:
    frame, quality = scene(), ProxyQuality(NUSCENES)
    quality.add(frame, [candidate(frame, rectangle_of(frame, 0), ("car",), [0, 1], whole=False)])
    assert quality.figures()["any_name"]["completeness"] == {"mean": None, "n": 0}


def test_an_object_is_asked_for_by_its_annotated_points_or_by_counted_ones() -> None:
    def recall(num_points: int | None, count: int) -> int:
        quality = ProxyQuality(NUSCENES)
        quality.add(frame_of(np.tile([0, 0, 10], (count, 1)), (box((0, 0, 10), num_points=num_points),)), [])
        return int(quality.figures()["any_name"]["recall"]["n"])

    assert [recall(9, 500), recall(10, 0), recall(None, 99), recall(None, 100)] == [0, 1, 0, 1]


def test_no_proxies_and_no_boxes() -> None:
    quality = ProxyQuality(NUSCENES)
    quality.add(frame_of(np.zeros((0, 3)), ()), [])
    quality.add(frame_of([[0, 0, 5]], ()), [Candidate("CAM_FRONT", np.array([0.0, 0, 9, 9]), ("car",), np.zeros((1, 3)))])
    figures = quality.figures()
    assert figures["any_name"]["recall"] == {"k": 0, "n": 0, "share": None, "interval": None}
    assert (figures["any_name"]["matched"], figures["any_name"]["unmatched"], figures["labels"]["class_mean"]) == (0, 1, None)


def random_scene(rng: np.random.Generator) -> tuple[SceneFrame, list[Candidate]]:
    names = ["vehicle.car", "human.pedestrian.adult", "movable_object.barrier", "animal"]
    boxes = tuple(box(tuple(rng.uniform([-4, -2, 4], [4, 2, 60])), tuple(rng.uniform(0.5, 4, size=3)), str(rng.choice(names)),
                      int(rng.integers(0, 30)), random_rotation(rng), str(number)) for number in range(15))
    points = np.concatenate([rng.normal(item.centre, 1.0, size=(30, 3)) for item in boxes])
    frame = frame_of(points, boxes, two_cameras())
    candidates = []
    for item in annotated_objects(frame, NUSCENES):
        for view, rectangle in item.rectangles.items():
            jittered = np.sort(np.clip(rectangle + rng.normal(scale=4, size=4), 0, 100).reshape(2, 2), axis=0).reshape(-1)
            words = (str(rng.choice(["car", "person", "barrier", "dog", "lamp"])),)
            drawn = rng.choice(len(points), size=int(rng.integers(1, 60)), replace=False)
            own = points_in_boxes(frame.points, [boxes[item.position]])[:, 0]
            candidates.append(Candidate(view, jittered, words, frame.points[np.flatnonzero(own) if rng.random() < 0.5 and own.any() else drawn]))
    return frame, candidates


def test_matching_agrees_with_its_slow_twin() -> None:
    rng = np.random.default_rng(2)
    matched = Counter[str]()
    for _ in range(8):
        frame, candidates = random_scene(rng)
        found = match_proxies(frame, candidates, NUSCENES)
        for place, proxy in enumerate(candidates):
            for matching in MATCHINGS:
                best, chosen = 0.3, None
                for item in found.objects:
                    rectangle = item.rectangles.get(proxy.camera)
                    if rectangle is None or (matching == "named" and not set(proxy.words) & item.names):
                        continue
                    width = max(0.0, min(rectangle[2], proxy.box_px[2]) - max(rectangle[0], proxy.box_px[0]))
                    height = max(0.0, min(rectangle[3], proxy.box_px[3]) - max(rectangle[1], proxy.box_px[1]))
                    areas = [(one[2] - one[0]) * (one[3] - one[1]) for one in (rectangle, proxy.box_px)]
                    overlap = width * height / (sum(areas) - width * height)
                    if overlap >= best:
                        best, chosen = overlap, item
                match = found.matches[matching][place]
                assert (match is None) == (chosen is None)
                if match is not None and chosen is not None:
                    matched[matching] += 1
                    own = frame.boxes[chosen.position]
                    inside = points_in_box(proxy.points, own.centre, own.size, own.points_from_box)
                    assert found.objects[match.row] is chosen and match.overlap == pytest.approx(best) and match.inside == inside.mean()
    assert matched["any_name"] > matched["named"] > 20


def test_counts_add_up() -> None:
    rng, quality = np.random.default_rng(3), ProxyQuality(NUSCENES)
    for _ in range(5):
        quality.add(*random_scene(rng))
    figures = quality.figures()
    for matching in MATCHINGS:
        own = figures[matching]
        assert own["matched"] + own["unmatched"] == figures["proxies"]
        for whole, parts in (("good", "good_by_class"), ("good", "good_by_range"), ("recall", "recall_by_class"), ("recall", "recall_by_range")):
            for key in ("k", "n"):
                assert sum(entry[key] for entry in own[parts].values()) == own[whole][key]
        assert own["good"]["n"] == own["matched"] == own["inside"]["n"]
    assert sum(entry["n"] for entry in figures["labels"]["per_class"].values()) == figures["labels"]["n"] > 0
    assert figures["named"]["recall"]["n"] == figures["any_name"]["recall"]["n"]


def test_a_turned_world_has_the_same_figures() -> None:
    rng = np.random.default_rng(4)
    frame, candidates = random_scene(rng)
    rotation = random_rotation(rng)
    figures = []
    for turn in (np.eye(3), rotation):
        quality = ProxyQuality(NUSCENES)
        quality.add(turned_frame(frame, turn), [replace(item, points=item.points @ turn.T) for item in candidates])
        figures.append(quality.figures())
    assert figures[0]["any_name"]["inside"]["mean"] == pytest.approx(figures[1]["any_name"]["inside"]["mean"], abs=1e-12)
    for key in ("proxies", "annotated", "labels"):
        assert figures[0][key] == figures[1][key]


def test_ranges() -> None:
    assert [range_name(distance) for distance in (0.0, 9.99, 10.0, 29.0, 30.0, 50.0, 400.0)] == [
        "0-10 m", "0-10 m", "10-20 m", "20-30 m", "30-50 m", "50+ m", "50+ m"]
    assert len(RANGE_NAMES) == 5


def box_points(frame: SceneFrame, found: Mapping[str, Detections]) -> Lifted:
    """A lifting that knows the annotations: all points in the 3-D box whose rectangle is the detection."""
    objects = [(item, frame.boxes[item.position]) for item in annotated_objects(frame, NUSCENES)]
    proxies, rules = [], Counter({"detections": sum(map(len, found.values()))})
    for view, seen in found.items():
        for rectangle, concept, score in zip(seen.box_px, seen.concept_id.tolist(), seen.score.tolist(), strict=True):
            own = next(item for place, item in objects if view in place.rectangles and np.allclose(place.rectangles[view], rectangle, atol=1e-3))
            index = np.flatnonzero(points_in_boxes(frame.points, [own])[:, 0])
            if len(index):
                proxies.append(Proxy(view, rectangle, concept, score, index))
    rules["proxies"] = len(proxies)
    rules["too few points"] = rules["detections"] - rules["proxies"]
    return Lifted(tuple(proxies), rules)


def test_a_lifting_that_knows_the_boxes_is_measured_as_perfect() -> None:
    rng, seen = np.random.default_rng(5), []
    frames = [random_scene(rng)[0] for _ in range(3)]
    figures = measure_lifting(frames, box_points, NUSCENES, watch=lambda frame, matches: seen.append(len(matches.objects)))
    assert seen == [15, 15, 15] and figures["rules"]["detections"] == figures["rules"]["proxies"] + figures["rules"].get("too few points", 0)
    assert figures["proxies"] == figures["rules"]["proxies"] > 10
    assert figures["named"]["inside"]["mean"] > 0.95 and figures["labels"]["share"] > 0.95  # boxes that overlap may be taken for each other


def test_boxes_of_a_detector_are_measured_with_its_names() -> None:
    frame = scene()

    def whole_car(frame: SceneFrame, found: Mapping[str, Detections]) -> Lifted:
        seen = found["CAM_FRONT"]
        return Lifted(tuple(Proxy("CAM_FRONT", rectangle, int(concept), 1.0, np.arange(12)) for rectangle, concept in
                            zip(seen.box_px, seen.concept_id, strict=True)), Counter({"detections": len(seen)}))

    found = detections(tuple(rectangle_of(frame, 0)), tuple(rectangle_of(frame, 0)), concepts=(1, -1))
    figures = measure_lifting([frame], whole_car, NUSCENES, detections=lambda frame: {"CAM_FRONT": found}, concepts=[("lamp",), ("sedan",)])
    assert figures["named"]["matched"] == 1 and figures["any_name"]["matched"] == 2, "a box without a name fits no class"
    assert figures["labels"]["k"] == figures["labels"]["n"] == 1


@pytest.mark.data
def test_the_real_key_frame_has_fourteen_objects_that_are_asked_for(shared_data: Path) -> None:
    frames = open_frames("nuscenes/v1.0-mini/mini_train", shared_data)
    frame = frames[0]
    figures = measure_lifting([frame], box_points, NUSCENES)
    assert figures["annotated"] == 68 and figures["in_no_picture"] == 0
    assert figures["any_name"]["recall"]["n"] == 14 and figures["any_name"]["recall"]["k"] >= 13
    turned = turned_frame(frame, np.array(frames.variant.ours_from_files) @ frame.upright_from_points)
    before, after = (points_in_boxes(item.points, item.boxes) for item in (frame, turned))
    assert (before != after).sum() <= 2, "only points on a face may change sides by rounding"


@pytest.mark.data
def test_the_real_room_has_its_drawn_rectangles(shared_data: Path) -> None:
    frame = open_frames("sunrgbd/objects10/train", shared_data)[0]
    objects = annotated_objects(frame, ROOMS)
    assert [item.name for item in objects] == ["bookshelf", "bookshelf", "chair", "projector", "books", "books", "switch"]
    drawn = [item.rectangles["image"].tolist() for item in objects]
    assert drawn == [list(item.box_px) for item in frame.boxes_2d]
