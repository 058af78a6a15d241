from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from clip2x.data.files import read_shape
from clip2x.data.pictures import CaptionedPictures
from clip2x.data.samplers import SampleKey
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.manifest import load_manifest
from clip2x.miniworld.captions import COLOURS, caption_words, compose_caption
from clip2x.miniworld.mesh_writer import SHAPENET_CLASSES, write_obj, write_off
from clip2x.miniworld.objects import CLASS_NAMES, Stream, make_object
from clip2x.miniworld.write import MiniWorldSize, write_miniworld

NEEDED = {
    "bag", "bin", "box", "cabinet", "door", "shelf", "pillow", "sink", "bookshelf", "car", "truck", "bus", "trailer", "construction vehicle",
    "pedestrian", "motorcycle", "bicycle", "traffic cone", "barrier", "airplane", "lamp", "mug", "bottle", "guitar", "plant",
}


def test_the_classes_that_the_data_sets_need_are_there() -> None:
    assert set(load_manifest("modelnet10").class_names) | NEEDED <= set(CLASS_NAMES)
    assert len(CLASS_NAMES) >= 36
    assert set(SHAPENET_CLASSES) <= set(CLASS_NAMES)


def test_objects_are_functions_of_seed_stream_and_instance() -> None:
    first, again = (make_object("chair", Stream.MODELNET_TEST, 3, seed=1) for _ in range(2))
    assert np.array_equal(first.mesh.vertices, again.mesh.vertices)
    assert first.colour == again.colour
    others = [make_object("chair", *draw[:2], seed=draw[2]) for draw in
              ((Stream.PICTURES_TRAIN, 3, 1), (Stream.MODELNET_TEST, 4, 1), (Stream.MODELNET_TEST, 3, 2))]
    assert all(item.mesh.vertices.shape != first.mesh.vertices.shape or not np.allclose(item.mesh.vertices, first.mesh.vertices) for item in others)


def test_an_unknown_class_is_answered_with_the_known() -> None:
    with pytest.raises(InputError, match="the mini-world has no 'sousaphone'; it has airplane, "):
        make_object("sousaphone", Stream.SHAPENET, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASS_NAMES)
def test_many_instances_of_every_class_are_sound(name: str) -> None:
    for instance in range(300):
        mesh = make_object(name, Stream.PICTURES_TRAIN, instance, seed=7).mesh
        assert np.isfinite(mesh.vertices).all()
        assert mesh.faces.min() >= 0
        assert mesh.faces.max() < len(mesh.vertices)
        assert len(mesh.face_material) == len(mesh.faces)


def test_off_files_are_z_up_and_come_back_in_our_frame(tmp_path: Path) -> None:
    """The manifest's rotation undoes what the writer did: (x, y, z) -> (-y, z, -x) on columns, inches to metres."""
    item = make_object("chair", Stream.MODELNET_TEST, 0)
    write_off(tmp_path / "chair.off", item.mesh)
    shape = read_shape(tmp_path / "chair.off")
    rotation = np.array(load_manifest("modelnet10").variant("off").ours_from_files)
    assert np.allclose(shape.points @ rotation.T / 39.37, item.mesh.vertices, atol=1e-5)
    assert np.array_equal(shape.faces, item.mesh.faces)


def test_obj_files_hold_materials_and_the_same_shape(tmp_path: Path) -> None:
    textured = next(item for item in (make_object("sofa", Stream.SHAPENET, number) for number in range(40)) if item.mesh.face_uv is not None)
    path = tmp_path / "id" / "models" / "model_normalized.obj"
    path.parent.mkdir(parents=True)
    write_obj(path, textured)
    shape = read_shape(path)
    extent = np.ptp(shape.points, axis=0)
    assert np.linalg.norm(extent) == pytest.approx(1.0, abs=1e-4)
    assert len(shape.faces) == len(textured.mesh.faces)
    assert "map_Kd ../images/body.png" in path.with_suffix(".mtl").read_text()
    assert (tmp_path / "id" / "images" / "body.png").is_file()


def test_a_finished_mini_world_is_left_alone_and_others_things_are_not_overwritten(tiny_world: Path, tmp_path: Path) -> None:
    stamp = json.loads((tiny_world / "miniworld.json").read_text())
    before = (tiny_world / "pictures.h5").stat().st_mtime_ns
    assert write_miniworld(tiny_world, seed=stamp["seed"], size=MiniWorldSize(**stamp["size"])) is False
    assert (tiny_world / "pictures.h5").stat().st_mtime_ns == before
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="is not empty and holds no mini-world"):
        write_miniworld(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_the_layout_is_modelnets_and_shapenets(tiny_world: Path) -> None:
    assert len(list((tiny_world / "ModelNet10").glob("*/test/*.off"))) == 20
    assert (tiny_world / "ModelNet10" / "night_stand" / "train" / "night_stand_0001.off").is_file()
    assert len(list((tiny_world / "shapenet" / "ShapeNetCore.v2").glob("*/*/models/model_normalized.obj"))) == 3 * len(SHAPENET_CLASSES)


def test_pictures_are_drawn_anew_each_epoch_and_repeatably(tiny_world: Path) -> None:
    data = CaptionedPictures(tiny_world, 0, "train")
    assert len(data) == 2 * 2 * len(CLASS_NAMES)
    one, same, later = data[SampleKey(5, 0)], data[SampleKey(5, 0)], data[SampleKey(5, 1)]
    assert one["image"].shape == (3, 64, 64)
    assert one["image"].equal(same["image"])
    assert not one["image"].equal(later["image"])
    assert not one["image"].equal(CaptionedPictures(tiny_world, 1, "train")[SampleKey(5, 0)]["image"])
    assert one["image"].min() >= 0
    assert one["image"].max() <= 1


def test_a_picture_without_augmentation_is_the_stored_one_on_white(tiny_world: Path) -> None:
    data = CaptionedPictures(tiny_world, 0, "val", augment=False)
    with h5py.File(tiny_world / "pictures.h5") as file:
        stored = file["val/images"][1, 1].astype(np.float64) / 255
    expected = stored[..., :3] * stored[..., 3:] + (1 - stored[..., 3:])
    assert np.allclose(data[3]["image"].numpy().transpose(1, 2, 0), expected, atol=1e-6)


def test_a_named_colour_is_the_bodys_and_grey_pictures_name_none(tiny_world: Path) -> None:
    data = CaptionedPictures(tiny_world, 0, "train")
    for index in range(0, len(data), 7):
        sample = data[SampleKey(index, 2)]
        colour = data.colours[sample["colour_id"]]
        assert (sample["caption_colour"] == sample["colour_id"]) == (colour in sample["caption"].split())
        if sample["caption_colour"] == -1:
            assert not set(sample["caption"].split()) & set(COLOURS)


def test_captions_use_only_the_listed_words() -> None:
    words = set(caption_words(CLASS_NAMES))
    rng = np.random.default_rng(0)
    for name in CLASS_NAMES:
        for _ in range(20):
            assert set(compose_caption(name, "red", rng)[0].split()) <= words


def test_missing_and_damaged_picture_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="run: make miniworld"):
        CaptionedPictures(tmp_path, 0, "train")
    (tmp_path / "pictures.h5").write_bytes(b"no HDF5")
    with pytest.raises(BadFileError, match="is not a whole mini-world picture file"):
        CaptionedPictures(tmp_path, 0, "train")

