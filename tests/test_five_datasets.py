"""Every reader on its twin in the mini-world, and all of them through one DataModule: the same contracts for all five data sets."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from clip2x.data.base import OURS_FROM_UP
from clip2x.data.check import check_data
from clip2x.data.clouds import LabelledClouds
from clip2x.data.datamodule import Clip2xDataModule
from clip2x.data.frames import FrameDataset
from clip2x.data.images import read_image
from clip2x.data.readers import FRAME_READERS, open_dataset
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import points_in_box, project_points, transform_points
from clip2x.manifest import load_manifest, manifest_folder, manifest_names
from clip2x.miniworld.captions import caption_words
from clip2x.miniworld.objects import CLASS_NAMES
from clip2x.miniworld.unseen import UNSEEN_INDOOR, UNSEEN_STREET

OBJECTS = ["modelnet10/off/test", "shapenet/pc/train", "shapenet/v2/test", "scanobjectnn/obj_only/test", "scanobjectnn/obj_bg/train",
           "scanobjectnn/pb_t50_rs/test", "nuscenes/v1.0-mini/mini_train", "nuscenes/v1.0-mini-23/mini_val", "sunrgbd/objects10/train",
           "sunrgbd/objects37/test"]
FRAMES = [("nuscenes", "v1.0-mini", "mini_train"), ("sunrgbd", "objects10", "test")]


@pytest.mark.parametrize("name", OBJECTS)
def test_samples_of_every_reader_keep_the_contract(tiny_world: Path, tmp_path: Path, name: str) -> None:
    data = open_dataset(name, tiny_world, num_points=256, cache=tmp_path)
    assert len(data) == len(data.labels) > 0
    for index in (0, len(data) - 1):
        sample = data[index]
        assert sample["points"].shape == (256, 3) and sample["points"].dtype == torch.float32
        own = sample["points"].unique(dim=0)  # of equal points one counts
        assert own.mean(dim=0).abs().max() < 1e-5 and own.norm(dim=1).max() == pytest.approx(1, abs=1e-5)
        assert sample["index"] == index and 0 <= sample["label"] < len(data.class_names)
    again = open_dataset(name, tiny_world, num_points=256, cache=tmp_path)
    assert torch.equal(again[0]["points"], data[0]["points"]) and list(again.entries) == list(data.entries)
    assert not torch.equal(open_dataset(name, tiny_world, num_points=256, seed=1, cache=tmp_path)[0]["points"], data[0]["points"])


@pytest.mark.parametrize("name", OBJECTS)
def test_parts_of_every_reader_are_disjoint(tiny_world: Path, tmp_path: Path, name: str) -> None:
    whole = open_dataset(name, tiny_world, cache=tmp_path)
    fit = open_dataset(f"{name}:fit", tiny_world, cache=tmp_path)
    fit_keys = {entry.key for entry in fit.entries}
    try:
        val_keys = {entry.key for entry in open_dataset(f"{name}:val", tiny_world, cache=tmp_path).entries}
    except DataNotFoundError:
        val_keys = set()  # too few objects or a single recording
    assert not fit_keys & val_keys and len(fit_keys) + len(val_keys) == len(whole)
    groups = {entry.group for entry in whole.entries if entry.key in fit_keys} & {entry.group for entry in whole.entries if entry.key in val_keys}
    assert groups <= {""}, "a recording lies in one part"


@pytest.mark.parametrize("name", ["scanobjectnn/obj_only/train", "nuscenes/v1.0-mini/mini_train", "sunrgbd/objects10/train", "shapenet/pc/train"])
def test_things_stand_upright(tiny_world: Path, tmp_path: Path, name: str) -> None:
    """Chairs, people and cars are told from their heights: whatever a data set's own up axis, y is up in ours."""
    data = open_dataset(name, tiny_world, num_points=512, cache=tmp_path)
    tall = {"pedestrian", "traffic cone", "door", "lamp", "bottle", "bookshelf", "dresser", "tall"}
    flat = {"bed", "bathtub", "car", "bench", "sofa", "desk", "table", "bus", "truck"}
    extents: dict[str, list[float]] = {"tall": [], "flat": []}
    for index, label in enumerate(data.labels):
        kind = "tall" if data.class_names[label] in tall else "flat" if data.class_names[label] in flat else None
        if kind:
            points = data[index]["points"]
            extent = points.amax(dim=0) - points.amin(dim=0)
            extents[kind].append(float(extent[1] / extent.max()))
    assert np.median(extents["flat"]) < 0.85 < np.median(extents["tall"] or [1.0])


def test_classes_of_the_twins_are_those_of_the_manifests(tiny_world: Path, tmp_path: Path) -> None:
    for name, at_least in (("scanobjectnn/obj_only/test", 15), ("modelnet10/off/test", 10), ("nuscenes/v1.0-mini/mini_train", 8),
                           ("sunrgbd/objects10/train", 4)):
        data = open_dataset(name, tiny_world, cache=tmp_path)
        assert len(set(data.labels)) >= at_least, name


def frames_of(name: str, variant: str, split: str, root: Path) -> FrameDataset:
    return FRAME_READERS[name](name, root=root, variant=variant, split=split)


@pytest.mark.parametrize(("name", "variant", "split"), FRAMES)
def test_frames_keep_the_contract(tiny_world: Path, name: str, variant: str, split: str) -> None:
    frames = frames_of(name, variant, split, tiny_world)
    assert len(frames) == len(frames.tokens) > 0
    for frame in (frames[position] for position in range(len(frames))):
        assert frame.points.dtype == np.float32 and frame.points.shape[1] == 3 and np.isfinite(frame.points).all()
        assert frame.features is not None and frame.features.shape == (len(frame.points), len(frame.feature_names))
        assert np.allclose(frame.upright_from_points @ frame.upright_from_points.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(frame.upright_from_points) == pytest.approx(1)
        assert frame.cameras and frame.scene and not frame.notes
        for camera in frame.cameras:
            assert read_image(camera.file).shape == (camera.height_px, camera.width_px, 3)
            assert np.allclose(camera.camera_from_points[:3, :3] @ camera.camera_from_points[:3, :3].T, np.eye(3), atol=1e-6)
        for box in frame.boxes:
            inside = points_in_box(frame.points, box.centre, box.size, box.points_from_box)
            assert box.num_points is None or inside.sum() == box.num_points


@pytest.mark.parametrize(("name", "variant", "split"), FRAMES)
def test_the_ground_is_flat_in_the_upright_frame(tiny_world: Path, name: str, variant: str, split: str) -> None:
    """Below the objects lies the floor: the lowest tenth of the points at middle range differ little in height."""
    frame = frames_of(name, variant, split, tiny_world)[0]
    upright = frame.points @ frame.upright_from_points.T
    distance = np.linalg.norm(upright[:, :2], axis=1)
    near = upright[(distance > (4 if name == "nuscenes" else 0.5)) & (distance < 12)]
    low = near[near[:, 2] < np.quantile(near[:, 2], 0.1), 2]
    assert np.quantile(low, 0.9) - np.quantile(low, 0.1) < 0.35


@pytest.mark.parametrize(("name", "variant", "split"), FRAMES)
def test_true_outlines_hold_the_objects_points(tiny_world: Path, name: str, variant: str, split: str) -> None:
    """Points of a box, projected into a picture in which the truth shows that object, fall into its true outline."""
    truth = json.loads((tiny_world / "truth" / f"{name}.json").read_text())["pictures"]
    frames, shares = frames_of(name, variant, split, tiny_world), []
    for frame in (frames[position] for position in range(len(frames))):
        for camera in frame.cameras:
            key = next(key for key in truth if str(camera.file).endswith(key))
            for shown in truth[key]:
                box = next((box for box in frame.boxes if box.token == shown.get("annotation")
                            or box.token.endswith(f"#{shown.get('object')}")), None)
                if box is None:
                    continue
                inside = frame.points[points_in_box(frame.points, box.centre, box.size, box.points_from_box)]
                pixels, depth = project_points(transform_points(camera.camera_from_points, inside), camera.intrinsics)
                seen = (depth > 0) & (pixels >= 0).all(axis=1) & (pixels < [camera.width_px, camera.height_px]).all(axis=1)
                if seen.sum() >= 10:
                    left, top, right, bottom = shown["box_px"]
                    within = (pixels >= [left - 3, top - 3]).all(axis=1) & (pixels <= [right + 3, bottom + 3]).all(axis=1)
                    shares.append(float(within[seen].mean()))
    assert len(shares) >= 3 and np.median(shares) > 0.8


def test_one_module_reads_them_all(tiny_world: Path, tmp_path: Path) -> None:
    from tests.test_datamodule import Recorder, trainer

    model = Recorder()
    data = Clip2xDataModule(tiny_world, test=OBJECTS, num_points=64, batch_size=16, limit=6, num_workers=1, cache=tmp_path)
    trainer(tmp_path).test(model, datamodule=data, verbose=False)
    seen = {loader: sorted(index for number, indices in model.seen["test"] if number == loader for index in indices)
            for loader in range(len(OBJECTS))}
    assert all(indices == list(range(len(indices))) and 1 <= len(indices) <= 6 for indices in seen.values())
    train = [partial(LabelledClouds, name=f"scanobjectnn/{variant}/train", num_points=64, cache=tmp_path) for variant in ("obj_bg", "pb_t25")]
    fitted = Recorder()
    trainer(tmp_path, steps=3).fit(fitted, datamodule=Clip2xDataModule(tiny_world, train=train, batch_size=8, balance=1.0))
    assert len(fitted.seen["train"]) == 3


def test_detections_are_class_agnostic_and_truth_lies_apart(tiny_world: Path) -> None:
    for name in ("nuscenes", "sunrgbd"):
        boxes = json.loads((tiny_world / "detections" / f"{name}_boxes.json").read_text())
        assert boxes["categories"] == [{"id": 0, "name": "object"}] and len(boxes["annotations"]) > 3
        sizes = {image["id"]: (image["width"], image["height"]) for image in boxes["images"]}
        for item in boxes["annotations"]:
            left, top, width, height = item["bbox"]
            assert left >= 0 and top >= 0 and width > 0 and height > 0 and 0 < item["score"] <= 1
            assert left + width <= sizes[item["image_id"]][0] + 0.02 and top + height <= sizes[item["image_id"]][1] + 0.02
        for folder in (tiny_world / name).rglob("*.json"):
            assert not any(word in folder.read_text() for word in ("plastic bag", "fire extinguisher")), "true names of held-out things stay apart"


def test_held_out_names_are_in_no_caption() -> None:
    words = set(caption_words(CLASS_NAMES))
    for name in (*UNSEEN_STREET, *UNSEEN_INDOOR):
        assert name not in CLASS_NAMES and not set(name.split()) <= words, name
    assert len(UNSEEN_STREET) >= 3 and len(UNSEEN_INDOOR) >= 3 and {"debris", "plastic bag", "tire"} <= set(UNSEEN_STREET)


@pytest.mark.parametrize("name", [name for name in manifest_names() if name != "modelnet40"])
def test_check_data_sees_a_partial_copy(tiny_world: Path, name: str) -> None:
    reports = check_data(name, tiny_world)
    found = [report for report in reports if report.found]
    assert found and all(report.status in ("partial", "present") for report in found) and not any(report.num_problems for report in reports)


@pytest.mark.parametrize("name", ["nuscenes/v1.0-mini", "sunrgbd/objects10", "scanobjectnn/obj_bg", "shapenet/v2"])
def test_deep_check_finds_nothing_wrong_with_the_mini_world(tiny_world: Path, name: str) -> None:
    for report in check_data(name, tiny_world, deep=True):
        wrong = [problem for problem in report.problems if "sha256" not in problem]
        assert not wrong


def edited(tmp_path: Path, name: str, **changes: Any) -> Path:
    """Copy a manifest with other values of its first variant, or of its own where it has that key."""
    values = yaml.safe_load((manifest_folder() / f"{name}.yaml").read_text())
    for key, value in changes.items():
        (values if key in values else next(iter(values["variants"].values())))[key] = value
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("name", manifest_names())
def test_a_reflection_is_refused_in_every_manifest(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadFileError, match=r"must be a proper 3x3 rotation \(a reflection is refused\)"):
        load_manifest(edited(tmp_path, name, ours_from_files=[[1, 0, 0], [0, 0, 1], [0, 1, 0]]))


def test_a_wrong_class_count_is_refused(tiny_world: Path, tmp_path: Path) -> None:
    names = [*load_manifest("shapenet").class_names]
    with pytest.raises(BadFileError, match="class_folders has 55 entries, class_names 54"):
        load_manifest(edited(tmp_path, "shapenet", class_names=names[:-1]))
    fewer = load_manifest(edited(tmp_path, "scanobjectnn", class_names=[*load_manifest("scanobjectnn").class_names][:-1]))
    from clip2x.data.scanobjectnn import ScanObjectNN

    with pytest.raises(BadFileError, match="label"):
        ScanObjectNN(fewer, root=tiny_world, variant="obj_only", split="test", cache=tmp_path)
    with pytest.raises(BadFileError, match="category_names.spaceship is no class"):
        load_manifest(edited(tmp_path, "nuscenes", category_names={"spaceship": ["vehicle.spaceship"]}))


def test_facts_of_the_five_data_sets() -> None:
    """Class order, counts and rotations as the papers, the released code and the real samples give them."""
    facts = {name: load_manifest(name) for name in manifest_names()}
    assert [len(facts[name].class_names) for name in ("modelnet10", "modelnet40", "shapenet", "scanobjectnn", "nuscenes", "sunrgbd")] == [
        10, 40, 55, 15, 10, 10]
    assert facts["shapenet"].class_names[:3] == ("airplane", "ashcan", "bag") and facts["shapenet"].class_folders[0] == "02691156"
    assert list(facts["shapenet"].class_folders) == sorted(facts["shapenet"].class_folders), "labels are ranks of the synsets"
    assert facts["scanobjectnn"].class_names[6:10] == ("display", "door", "shelf", "table")
    assert {key: (split.samples, split.frames) for key, split in facts["shapenet"].variant("pc").splits.items()} == {
        "train": (41943, None), "test": (10517, None)}
    assert len(facts["shapenet"].excluded) == 10
    assert [split.frames for split in facts["sunrgbd"].variant("objects10").splits.values()] == [5285, 5050]
    assert len(facts["sunrgbd"].classes("objects37")) == 37 and len(facts["nuscenes"].classes("v1.0-trainval-23")) == 23
    for split, number in (("train", 700), ("val", 150)):
        listed = (manifest_folder() / str(facts["nuscenes"].variant("v1.0-trainval").splits[split].shipped)).read_text().split()
        assert len(set(listed)) == number and all(re.fullmatch(r"scene-\d{4}", scene) for scene in listed)
    for name, axis in (("nuscenes", "z"), ("modelnet40", "z"), ("shapenet", "y"), ("scanobjectnn", "y")):
        assert next(iter(facts[name].variants.values())).ours_from_files == OURS_FROM_UP[axis]


def test_unknown_data_sets_and_splits_are_answered_with_the_known_ones(tiny_world: Path) -> None:
    with pytest.raises(InputError, match=r"scanobjectnn/obj_bg has no split 'val'; it has train, test, each also as NAME:fit or NAME:val"):
        open_dataset("scanobjectnn/obj_bg/val", tiny_world)
    with pytest.raises(InputError, match="has no split 'train:test'"):
        open_dataset("scanobjectnn/obj_bg/train:test", tiny_world)
    with pytest.raises(InputError, match="no manifest is called 'scannet'; there are modelnet10, modelnet40, nuscenes, scanobjectnn"):
        open_dataset("scannet/v2/val", tiny_world)
