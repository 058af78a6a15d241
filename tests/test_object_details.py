"""What comes with objects that boxes cut out of scenes: numbers of points, distances, pictures; and objects of none of the classes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from nuscenes_files import THINGS, Written, write_nuscenes
from PIL import Image
from sunrgbd_tree import write_tree

from clip2x.data.box_projection import best_view, in_picture, project_boxes
from clip2x.data.datamodule import Clip2xDataModule
from clip2x.data.faults import collate
from clip2x.data.images import cut, square_picture
from clip2x.data.nuscenes.objects import NuScenesObjects
from clip2x.data.nuscenes.reader import NuScenesFrames
from clip2x.data.readers import open_dataset
from clip2x.data.sunrgbd.objects import SunRgbdObjects
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import points_in_box
from clip2x.manifest import load_manifest
from clip2x.types import Box3D, Camera

INTRINSICS = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return write_nuscenes(tmp_path / "data", scenes=("scene-0553", "scene-0061", "scene-0103"))


def a_camera(name: str, turned: bool = False) -> Camera:
    """100 x 80 pixels, looking along z, or back along -z."""
    return Camera(name, Path(f"{name}.png"), 100, 80, INTRINSICS, np.diag([-1.0, 1, -1, 1]) if turned else np.eye(4))


def a_box(centre: tuple[float, float, float], side: float = 1.0) -> Box3D:
    return Box3D("box", "thing", 0, np.array(centre, dtype=np.float64), np.full(3, side), np.eye(3))


def test_the_best_view_has_most_points_then_the_largest_rectangle() -> None:
    ahead, behind = a_camera("ahead"), a_camera("behind", turned=True)
    around = a_box((0, 0, 0), side=8.0)  # both cameras stand in it
    points = np.array([[0.0, 0, 2], [0, 0, 3], [0, 0, -2]])
    for order in ([ahead, behind], [behind, ahead]):
        assert best_view(around, points, order)[0] is ahead  # type: ignore[index]
        assert best_view(around, -points, order)[0] is behind  # type: ignore[index]
    near, far = a_box((0, 0, 2)), Camera("far", Path("far.png"), 100, 80, INTRINSICS, np.array(
        [[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 5], [0, 0, 0, 1]]))
    assert best_view(near, np.zeros((0, 3)), [far, ahead])[0] is ahead  # type: ignore[index]
    assert best_view(a_box((0, 0, -9)), points, [ahead]) is None and best_view(near, points, []) is None


def test_a_small_picture_by_hand() -> None:
    """A box of 1 m, 2.5 m before the camera: its near face lies at 2 m, so it spans 50 +- 25 and 40 +- 25 pixels."""
    _, rectangle = best_view(a_box((0, 0, 2.5)), np.zeros((0, 3)), [a_camera("one")])  # type: ignore[misc]
    assert rectangle.tolist() == [25.0, 15.0, 75.0, 65.0]
    picture = np.zeros((80, 100, 3), dtype=np.uint8)
    picture[15:65, 25:75, 1] = 255
    assert torch.equal(square_picture(cut(picture, rectangle), 50), torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(3, 50, 50))
    assert square_picture(cut(picture, rectangle), 8).shape == (3, 8, 8)


def test_objects_of_lidar_frames_come_with_points_distance_and_picture(written: Written) -> None:
    data = NuScenesObjects(root=written.root, split="mini_train", min_points=1, crops=16)
    frames = NuScenesFrames(root=written.root, split="mini_train")
    known = [thing for thing in THINGS if thing[0] != "movable_object.debris" and thing[-1]]
    seen = 0
    for index, entry in enumerate(data.entries):
        sample, frame = data[index], frames[index // len(known)]
        box = next(box for box in frame.boxes if box.token == entry.key)
        inside = frame.points[points_in_box(frame.points, box.centre, box.size, box.points_from_box)]
        assert sample["counted_points"] == known[index % len(known)][-1] == len(inside)
        assert sample["range_m"] == pytest.approx(float(np.linalg.norm(box.centre)))
        shown = [(int(in_picture(inside, camera).sum()), camera, found) for camera in frame.cameras
                 if (found := project_boxes([box], camera)[0]) is not None]
        assert sample["has_image"] == bool(shown) and sample["image"].shape == (3, 16, 16)
        if not shown:
            assert not sample["image"].any()
            continue
        most, camera, seen_at = max(shown, key=lambda view: view[0])
        if sum(number == most for number, *_ in shown) == 1:  # no tie
            left, top, right, bottom = (int(value) for value in (*np.floor(seen_at[:2]), *np.ceil(seen_at[2:])))
            pixels = np.asarray(Image.open(camera.file).convert("RGB"))[top:bottom, left:right]
            assert torch.equal(sample["image"], square_picture(pixels, 16))
            seen += 1
    assert seen >= 5
    without = NuScenesObjects(root=written.root, split="mini_train", min_points=1)[0]
    assert "image" not in without and without["counted_points"] == 30 and torch.equal(without["points"], data[0]["points"])


def test_a_frame_without_pictures_gives_objects_without(written: Written) -> None:
    for file in (written.root / "nuscenes" / "samples").rglob("CAM_*/*.png"):
        file.unlink()
    data = NuScenesObjects(root=written.root, split="mini_train", crops=8)
    assert not any(data[index]["has_image"] for index in range(len(data)))


def test_a_broken_picture_is_named(written: Written) -> None:
    for file in (written.root / "nuscenes" / "samples").rglob("CAM_*/*.png"):
        file.write_bytes(file.read_bytes()[:60])
    data = NuScenesObjects(root=written.root, split="mini_train", crops=8)
    with pytest.raises(BadFileError, match=r"CAM_.*\.png: not a whole picture"):
        [data[index] for index in range(len(data))]


def test_crops_without_a_side_are_refused(written: Written) -> None:
    with pytest.raises(InputError, match="crops must be at least 1 pixel wide, got 0"):
        NuScenesObjects(root=written.root, split="mini_train", crops=0)


def test_things_of_no_class_are_minus_one_where_they_are_asked_for(written: Written) -> None:
    known = NuScenesObjects(root=written.root, split="mini_train")
    data = NuScenesObjects(root=written.root, split="mini_train", others=True)
    others = [index for index, label in enumerate(data.labels) if label < 0]
    assert len(others) == 6 and len(data) == len(known) + 6 and min(known.labels) == 0
    assert all(data[index]["counted_points"] == 6 for index in others)
    kept = {entry.key: index for index, entry in enumerate(data.entries)}
    for index, entry in enumerate(known.entries):
        assert torch.equal(known[index]["points"], data[kept[entry.key]]["points"]), "the others change no draw"
    assert NuScenesObjects(root=written.root, variant="v1.0-mini-23", split="mini_train", others=True).labels.count(-1) == 0


def test_what_people_may_well_name_by_a_class_is_no_other() -> None:
    streets, rooms = load_manifest("nuscenes"), load_manifest("sunrgbd")
    assert all(streets.is_other("v1.0-mini", name) for name in ("movable_object.debris", "animal", "human.pedestrian.stroller"))
    assert not any(streets.is_other("v1.0-mini", name) for name in ("vehicle.car", "vehicle.emergency.police", "human.pedestrian.child"))
    assert not any(streets.is_other("v1.0-mini-23", name) for name in streets.labels_of_categories("v1.0-mini-23"))
    assert rooms.is_other("objects10", "lamp") and rooms.is_other("objects10", "fridge") and not rooms.is_other("objects37", "lamp")
    assert not any(rooms.is_other("objects10", name) for name in ("wall", "sofa_chair", "couch", "dining_table", "bed", "night_stand"))


def test_objects_of_rooms_come_with_points_distance_and_picture(tmp_path: Path) -> None:
    write_tree(tmp_path / "sunrgbd")
    options = {"root": tmp_path, "split": "train", "variant": "objects10", "min_points": 1, "cache": tmp_path / "cache"}
    data = SunRgbdObjects(crops=12, **options)  # type: ignore[arg-type]
    assert len(data)
    for _ in range(2):  # points from the files, then from the cache
        data = pickle.loads(pickle.dumps(data))
        for index, entry in enumerate(data.entries):
            token = entry.key.rpartition("#")[0]
            frame = data.frames.frame(token)
            box = next(box for box in frame.boxes if box.token == entry.key)
            sample = data[index]
            assert sample["counted_points"] == points_in_box(frame.points, box.centre, box.size, box.points_from_box).sum()
            assert sample["range_m"] == pytest.approx(float(np.linalg.norm(box.centre)))
            (rectangle,) = project_boxes([box], frame.cameras[0])
            assert sample["has_image"] == (rectangle is not None) and sample["image"].shape == (3, 12, 12)
            assert not sample["has_image"] or float((sample["image"] - 90 / 255).abs().max()) < 0.02, "the picture is all grey"
    for picture in tmp_path.rglob("image/*.jpg"):
        picture.unlink()
    assert not SunRgbdObjects(crops=12, **options)[0]["has_image"]  # type: ignore[arg-type]


def test_batches_hold_the_details_and_sets_of_single_objects_have_none(tiny_world: Path, tmp_path: Path) -> None:
    data = Clip2xDataModule(root=tiny_world, test=["nuscenes/v1.0-mini/mini_val", "modelnet10/off/test"], crops=16, others=True, limit=3,
                            cache=tmp_path)
    data.setup("test")
    streets, shapes = data.test_sets
    batch = collate([dict(streets[index]) for index in range(3)])
    assert {name: tuple(values.shape) for name, values in batch.items()} == {
        "points": (3, 1024, 3), "label": (3,), "index": (3,), "counted_points": (3,), "range_m": (3,), "image": (3, 3, 16, 16), "has_image": (3,)}
    assert batch["range_m"].dtype == torch.float64 and batch["has_image"].dtype == torch.bool
    assert set(shapes[0]) == {"points", "label", "index"} and shapes.scenes is None
    assert streets.scenes is not None and len(streets.scenes) == 3 and all(scene.startswith("scene-") for scene in streets.scenes)


def test_true_names_of_the_mini_world_stand_in_the_place_of_categories(tiny_world: Path, tmp_path: Path) -> None:
    named = {split: open_dataset(f"streets/things/{split}", tiny_world, cache=tmp_path) for split in ("mini_train", "mini_val")}
    names = {data.class_names[label] for data in named.values() for label in data.labels}
    assert names & set(load_manifest("streets").variant("things").groups["never named"])
    official = open_dataset("nuscenes/v1.0-mini-23/mini_train", tiny_world, cache=tmp_path)
    category = {entry.key: official.class_names[entry.label] for entry in official.entries}
    for entry in named["mini_train"].entries:
        name = named["mini_train"].class_names[entry.label]
        if name in ("plastic bag", "tire", "debris"):
            assert category[entry.key] == "debris"


def test_real_data_have_no_true_names(written: Written) -> None:
    with pytest.raises(DataNotFoundError, match=r"truth/nuscenes.json.*which the mini-world has and real data do not"):
        open_dataset("streets/things/mini_train", written.root)
    (written.root / "truth").mkdir()
    (written.root / "truth" / "nuscenes.json").write_text("{}")
    with pytest.raises(BadFileError, match=r"nuscenes.json: no JSON file with names of annotations"):
        open_dataset("streets/things/mini_train", written.root)


@pytest.mark.data
def test_real_frames_give_objects_with_pictures(shared_data: Path, tmp_path: Path) -> None:
    streets = open_dataset("nuscenes/v1.0-mini/mini_train", shared_data, crops=32, others=True, cache=tmp_path)
    rooms = open_dataset("sunrgbd/objects10/train", shared_data, crops=32, others=True, cache=tmp_path)
    for data in (streets, rooms):
        samples = [data[index] for index in range(len(data))]
        assert samples and all(sample["counted_points"] >= data.variant.min_points - 1 for sample in samples)
        assert all(0 < sample["range_m"] < 120 for sample in samples)
        pictures = [sample["image"] for sample in samples if sample["has_image"]]
        assert len(pictures) >= 0.9 * len(samples) and all(float(picture.std()) > 0.005 for picture in pictures)
