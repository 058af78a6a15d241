"""Naming the objects of a whole scene: regions, boxes from files, the clouds that are named, the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from clip2x.cli import main
from clip2x.data.readers import open_dataset
from clip2x.errors import BadFileError, InputError
from clip2x.geometry import points_in_box, points_of_encoder, unit_sphere
from clip2x.proxies.regions import find_regions, fit_box, height_above_opening, regions_in_boxes, standing_points
from clip2x.scene import Scene, describe_objects, name_regions, open_scene, read_boxes, regions_of
from clip2x.types import Box3D, SceneFrame

STREET, ROOM = "nuscenes/v1.0-mini/mini_val", "sunrgbd/objects10/train"
FLOAT = NDArray[np.float64]


class Recording:
    """Names every cloud by its number of points above its middle; keeps what it was given."""

    num_points = 256

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def classify(self, points: Tensor, class_names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        self.seen.append(points)
        scores = torch.stack([(points[..., 1] > points[..., 1].mean(dim=1, keepdim=True)).float().mean(dim=1) * (place + 1)
                              for place in range(len(class_names))], dim=1)
        return scores.softmax(dim=1)


def block(rng: np.random.Generator, centre: Sequence[float], size: Sequence[float], count: int = 400, turn: float = 0.0) -> FLOAT:
    """Draw points of a box's surface."""
    inside = rng.uniform(-0.5, 0.5, (count, 3))
    axis = rng.integers(3, size=count)
    inside[np.arange(count), axis] = np.sign(inside[np.arange(count), axis]) * 0.5
    along = inside * size
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    moved: FLOAT = along @ rotation.T + centre
    return moved


def room_cloud(rng: np.random.Generator) -> FLOAT:
    """A floor of 6 m x 5 m, two walls of 2.5 m, two blocks that stand on the floor, some returns from below."""
    floor = np.column_stack([rng.uniform(0, 6, 8000), rng.uniform(0, 5, 8000), rng.normal(0, 0.01, 8000)])
    walls = [np.column_stack([rng.uniform(0, 6, 6000), rng.normal(0, 0.01, 6000), rng.uniform(0, 2.5, 6000)]),
             np.column_stack([rng.normal(0, 0.01, 6000), rng.uniform(0, 5, 6000), rng.uniform(0, 2.5, 6000)])]
    below = np.column_stack([rng.uniform(1, 5, 3), rng.uniform(1, 4, 3), np.full(3, -1.5)])
    return np.concatenate([floor, *walls, block(rng, (2, 2, 0.5), (0.8, 0.6, 1.0), 1500), block(rng, (4.5, 3, 0.4), (1.2, 0.7, 0.8), 1500), below])


def cloud_scene(folder: Path, points: FLOAT, up: str = "z", name: str = "cloud.npy") -> Scene:
    np.save(folder / name, points)
    return open_scene(str(folder / name), up=up)


def test_the_fitted_box_is_that_of_a_turned_block() -> None:
    points = block(np.random.default_rng(0), (3, -2, 1), (2, 0.5, 1), 20_000, turn=0.4)
    box = fit_box(points, "")
    assert box.size == pytest.approx([2, 0.5, 1], abs=0.02)
    assert box.centre == pytest.approx([3, -2, 1], abs=0.02)
    assert np.arctan2(box.points_from_box[1, 0], box.points_from_box[0, 0]) % np.pi == pytest.approx(0.4, abs=0.02)
    assert points_in_box(points, box.centre, box.size + 1e-9, box.points_from_box).all()


def test_the_fitted_box_of_points_in_a_line_still_has_sides() -> None:
    box = fit_box(np.array([[0.0, 0, 0], [1, 1, 0], [2, 2, 0]]), "")
    assert box.size == pytest.approx([2 * np.sqrt(2), 0.05, 0.05])
    assert fit_box(np.array([[1.0, 2, 3]]), "").size == pytest.approx([0.05] * 3)


def test_what_stands_on_the_floor_of_a_cloud_is_found_without_floor_and_walls() -> None:
    points = room_cloud(np.random.default_rng(1))
    frame = SceneFrame("", "", points.astype(np.float32), np.eye(3))
    found, _ = find_regions(frame, "cloud", 50)
    assert [region.box.centre[:2].round(1).tolist() for region in found] == [[2, 2], [4.5, 3]]
    assert found[0].box.size == pytest.approx([0.8, 0.6, 0.9], abs=0.1)
    assert height_above_opening(points)[:8000] == pytest.approx(0, abs=0.1), "returns from below move no floor"
    assert (standing_points(points) >= 8000).all()


def test_clusters_do_not_depend_on_the_order_of_the_points() -> None:
    rng = np.random.default_rng(2)
    points = room_cloud(rng)
    order = rng.permutation(len(points))
    first, second = (find_regions(SceneFrame("", "", cloud.astype(np.float32), np.eye(3)), "cloud", 50)[0] for cloud in (points, points[order]))
    assert [set(region.point_index.tolist()) for region in first] == [set(order[region.point_index].tolist()) for region in second]


def test_points_belong_to_every_box_that_holds_them() -> None:
    points = np.array([[0.0, 0, 0], [0.4, 0, 0], [2, 0, 0]])
    boxes = [Box3D(str(side), "", -1, np.zeros(3), np.full(3, side), np.eye(3)) for side in (0.2, 1.0)]
    assert [region.point_index.tolist() for region in regions_in_boxes(points, boxes)] == [[0], [0, 1]]


@pytest.mark.parametrize("source", [STREET, ROOM])
def test_named_clouds_are_those_of_evaluation(tiny_world: Path, source: str) -> None:
    """The points of every annotated object that the ladder of eval-zeroshot gives to a point encoder; without those that fill a cloud up there."""
    scene = open_scene(source, root=tiny_world)
    regions, _ = regions_of(scene, "annotated", scene.min_points)
    recording = Recording()
    name_regions(scene, regions, recording, scene.class_names)  # type: ignore[arg-type]
    named = dict(zip([region.box.token for region in regions], recording.seen, strict=True))
    data, sizes = open_dataset(source, tiny_world), set()
    for index in range(len(data)):
        sample, key = data[index], data.entries[index].key
        if key in named:
            expected = points_of_encoder(sample["points"][None], recording.num_points, torch.tensor([sample["counted_points"]]))
            size = named[key].shape[1]
            assert size == min(sample["counted_points"], recording.num_points)
            assert torch.allclose(unit_sphere(named[key]), expected[:, :size], atol=1e-5)
            sizes.add(size)
    assert recording.num_points in sizes or source == STREET, "of some objects points are left out"
    assert len(sizes) > 1 and min(sizes) < recording.num_points, "others have too few"


def test_boxes_come_back_from_what_was_written(tiny_world: Path, tmp_path: Path) -> None:
    far = room_cloud(np.random.default_rng(3))[:, [0, 2, 1]] * [1, 1, -1] + [5e5, 10, 4e6]  # y up, geographic coordinates
    for scene in (open_scene(STREET, root=tiny_world), open_scene(ROOM, root=tiny_world), cloud_scene(tmp_path, far, "y")):
        boxes = "clusters" if scene.kind == "cloud" else "annotated"
        objects = name_regions(scene, regions_of(scene, boxes, scene.min_points)[0], Recording(), ["a", "b"])  # type: ignore[arg-type]
        described = describe_objects(scene, objects)
        file = tmp_path / "scene.json"
        file.write_text(json.dumps({"objects": described}))
        for item, box in zip(objects, read_boxes(file, scene), strict=True):
            assert box.centre == pytest.approx(item.box.centre, abs=1e-3)
            assert box.points_from_box == pytest.approx(item.box.points_from_box, abs=1e-6)
            assert box.size == pytest.approx(item.box.size)
        if scene.kind == "cloud":
            assert np.array(described[0]["centre"])[[0, 2]] == pytest.approx([5e5 + 2, 4e6 - 2], abs=0.1), "coordinates of the file"


def test_a_hand_written_box_turns_about_the_vertical(tmp_path: Path) -> None:
    scene = cloud_scene(tmp_path, room_cloud(np.random.default_rng(4))[:, [0, 2, 1]] * [1, 1, -1], "y")
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps([{"centre": [2, 0.5, -2], "size": [0.8, 0.6, 1.0], "yaw": 0.0, "name": "crate"}]))
    regions, _ = regions_of(scene, str(file), 10)
    assert regions[0].box.centre == pytest.approx([2, 2, 0.5]) and regions[0].box.size == pytest.approx([0.8, 0.6, 1.0])
    assert len(regions[0].point_index) > 1000 and np.ptp(scene.points[regions[0].point_index], axis=0) == pytest.approx([0.8, 0.6, 1.0], abs=0.05)


def test_names_are_ranked_and_compared_with_annotations(tiny_world: Path) -> None:
    scene = open_scene(STREET, root=tiny_world)
    regions, _ = regions_of(scene, "annotated", scene.min_points)
    names = list(scene.class_names)
    objects = name_regions(scene, regions, Recording(), names, top=2, min_probability=0.5)  # type: ignore[arg-type]
    for item, region in zip(objects, regions, strict=True):
        assert item.labels[0][1] >= item.labels[1][1] and len(item.labels) == 2
        assert item.named == (item.labels[0][1] >= 0.5) and item.name == (item.labels[0][0] if item.named else "?")
        box = next(box for box in scene.frame.boxes if box.token == region.box.token)
        assert item.truth == (names[box.label] if box.label >= 0 else box.name)
        assert item.right == (item.labels[0][0] == item.truth if box.label >= 0 and item.named else None)
    assert [item.range_m for item in objects] == sorted(item.range_m for item in objects)


@pytest.mark.parametrize(("arguments", "message"), [
    ([STREET], r"is a data set; give the folder that holds it: --root DIR"),
    (["no-such-thing", "--classes", "chair"], r"'no-such-thing' is neither a file nor a data set"),
    ([STREET, "--root", "WORLD", "--frame", "9999"], r"has no frame 9999; it has \d+, from 0 to \d+"),
    ([STREET, "--root", "WORLD", "--frame", "deadbeef"], r"has no frame 'deadbeef'; give a position from 0"),
    ([STREET, "--root", "WORLD", "--up", "y"], r"--up and --columns are for files"),
    ([STREET, "--root", "WORLD", "--min-points", "100000"], r"no region is left to be named \(\d+ fewer than 100000 points\)"),
    ([STREET, "--root", "WORLD", "--boxes", "absent.json"], r"absent.json: there is no such file; --boxes takes annotated, clusters or a JSON file"),
    (["CLOUD"], r"is a file and has no class names; give some: --classes"),
    (["CLOUD", "--classes", "chair", "--boxes", "annotated"], r"there are no annotated boxes; use --boxes clusters"),
    (["CLOUD", "--classes", "chair", "--frame", "1"], r"--root and --frame are for data sets"),
    (["POINT", "--classes", "chair"], r"all 3 points lie in one place"),
    (["CLOUD", "--classes", "chair", "--checkpoint", "CLOUD"], r"cloud.npy"),
    (["modelnet10/off/test", "--root", "WORLD"], r"ModelNet10 has single objects|has single objects and no frames"),
])
def test_what_cannot_be_named_is_said_in_one_line(tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                  arguments: list[str], message: str) -> None:
    np.save(tmp_path / "cloud.npy", room_cloud(np.random.default_rng(5)))
    np.save(tmp_path / "point.npy", np.ones((3, 3)))
    places = {"WORLD": str(tiny_world), "CLOUD": str(tmp_path / "cloud.npy"), "POINT": str(tmp_path / "point.npy")}
    up = ["--up", "z"] if arguments[0] in ("CLOUD", "POINT") else []
    assert main(["scene", *(places.get(word, word) for word in arguments), *up, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and error.startswith("error: ")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error)


@pytest.mark.parametrize(("content", "message"), [
    ("{", "no JSON file"), ("[]", "a list with at least one box is needed"), ('{"other": 1}', "a list with at least one box is needed"),
    ('[{"centre": [0, 0, 0], "size": [1, 1, 0]}]', "box 0 needs centre"), ('[{"centre": [0, 0], "size": [1, 1, 1]}]', "box 0 needs centre"),
    ('[{"centre": [0, 0, NaN], "size": [1, 1, 1]}]', "box 0 needs centre"), ("[7]", "box 0 needs centre"),
])
def test_box_files_of_another_form_are_refused(tmp_path: Path, content: str, message: str) -> None:
    scene = cloud_scene(tmp_path, room_cloud(np.random.default_rng(6)))
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(BadFileError, match=message):
        read_boxes(tmp_path / "boxes.json", scene)


def test_flat_regions_are_left_out(tmp_path: Path) -> None:
    points = np.concatenate([np.zeros((20, 3)), np.ones((1, 3))])
    (tmp_path / "boxes.json").write_text('[{"centre": [0, 0, 0], "size": [0.5, 0.5, 0.5]}]')
    with pytest.raises(InputError, match=r"no region is left to be named \(1 all points in one place\)"):
        regions_of(cloud_scene(tmp_path, points), str(tmp_path / "boxes.json"), 10)


def test_the_command_writes_its_files(tiny_world: Path, tiny_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "cloud.npy", room_cloud(np.random.default_rng(7)))
    runs = {"street": [STREET, "--root", str(tiny_world)], "room": [ROOM, "--root", str(tiny_world), "--boxes", "clusters", "--min-points", "50"],
            "cloud": [str(tmp_path / "cloud.npy"), "--up", "z", "--classes", "chair,table", "--min-points", "50"]}
    for name, arguments in runs.items():
        folder = tmp_path / name
        assert main(["scene", *arguments, "--checkpoint", str(tiny_clip), "--output", str(folder), "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed == json.loads((folder / "scene.json").read_text())
        assert printed["objects"] and printed["boxes"] == ("annotated" if name == "street" else "clusters")
        assert (folder / "scene.png").stat().st_size > 5000 and (folder / "scene.html").stat().st_size > 20_000
    assert [round(value, 1) for value in printed["objects"][0]["centre"][:2]] == [2.0, 2.0]
    assert main(["scene", str(tmp_path / "cloud.npy"), "--up", "z", "--classes", "chair,table", "--checkpoint", str(tiny_clip), "--boxes",
                 str(tmp_path / "cloud" / "scene.json"), "--output", str(tmp_path / "again"), "--min-points", "50"]) == 0
    assert "scene.html" in capsys.readouterr().out
    again = json.loads((tmp_path / "again" / "scene.json").read_text())["objects"]
    assert [item["centre"] for item in again] == [pytest.approx(item["centre"], abs=1e-3) for item in printed["objects"]]


def test_objects_without_a_name_are_counted_apart(tiny_world: Path, tiny_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is certain enough: no object is named, so none is named right, and no table says so."""
    arguments = ["scene", STREET, "--root", str(tiny_world), "--checkpoint", str(tiny_clip), "--output", str(tmp_path)]
    assert main([*arguments, "--min-probability", "1"]) == 0
    printed, content = capsys.readouterr().out, json.loads((tmp_path / "scene.json").read_text())
    number = content["annotated_with_a_name"]
    assert number > 0 and content["named_right"] == 0 and content["left_without_a_name"] == number
    assert f"0 of {number} objects whose annotated name competes are named right, {number} left without a name" in printed
    assert "[right]" not in printed
    assert all(item["name"] is None and item["right"] is None for item in content["objects"])
    assert main(arguments) == 0
    content = json.loads((tmp_path / "scene.json").read_text())
    assert content["annotated_with_a_name"] == number and content["left_without_a_name"] == 0
    assert sum(item["right"] is not None for item in content["objects"]) == number


@pytest.mark.data
@pytest.mark.parametrize(("source", "boxes", "least"), [
    ("nuscenes/v1.0-mini/mini_train", "annotated", 20), ("nuscenes/v1.0-mini/mini_train", "clusters", 20),
    ("sunrgbd/objects37/train", "annotated", 7), ("sunrgbd/objects37/train", "clusters", 3)])
def test_real_frames_are_named(shared_data: Path, tiny_clip: Path, tmp_path: Path, source: str, boxes: str, least: int,
                               capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scene", source, "--root", str(shared_data), "--boxes", boxes, "--checkpoint", str(tiny_clip), "--output", str(tmp_path),
                 "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content["objects"]) >= least
    assert all(item["labels"][0]["name"] in content["class_names"] for item in content["objects"])
