"""ShapeNet in its published layouts: lists, labels, clouds, meshes, the cache, partial copies."""

from __future__ import annotations

import os
import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shapenet_tree import LIST, MANIFEST, MODELS, SORTED, write_clouds, write_list, write_meshes, write_world

import clip2x.data.shapenet
from clip2x.data.formats.textured_obj import read_textured_obj
from clip2x.data.readers import open_dataset
from clip2x.data.shapenet import ShapeNet
from clip2x.errors import BadFileError, DataNotFoundError
from clip2x.geometry import unit_sphere
from clip2x.storage import sha256_of_file


def open_set(root: Path, **options: Any) -> ShapeNet:
    return ShapeNet(**{"root": root, "variant": "pc", "split": "train", "num_points": 16, "cache": root / "cache", **options})


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_world(tmp_path / "Stühle und Bänke")


# ---- the manifest


def test_labels_are_ranks_of_synsets() -> None:
    assert len(MANIFEST.class_names) == len(set(MANIFEST.class_names)) == 55
    assert list(MANIFEST.class_folders) == sorted(MANIFEST.class_folders)
    expected = {"airplane": "02691156", "ashcan": "02747177", "car": "02958343", "cellular telephone": "02992529", "chair": "03001627",
                "motorcycle": "03790512", "table": "04379243", "washer": "04554684"}
    assert {name: MANIFEST.class_folders[MANIFEST.class_names.index(name)] for name in expected} == expected


def test_variants_share_their_splits_and_stand_upright() -> None:
    assert list(MANIFEST.variants) == ["pc", "v2", "v1", "rendering"]
    for variant in MANIFEST.variants.values():
        assert np.array_equal(variant.ours_from_files, np.eye(3)) and variant.up == "y" and variant.folder == "shapenet"
        assert {name: split.samples for name, split in variant.splits.items()} == {"train": 41943, "test": 10517}
    assert MANIFEST.variant("rendering").views == 10 and MANIFEST.variant("pc").views is None
    assert MANIFEST.templates("official_code") == ("image of a {}",)
    assert len(MANIFEST.excluded) == 10


@pytest.mark.data
def test_the_real_lists_without_the_broken_ten(shared_data: Path, tmp_path: Path) -> None:
    """Every model of the lists, as empty files: counts, labels and speed of the index do not depend on their content."""
    folder = shared_data / "shapenet"
    for split, lines, samples in (("train", 41_952, 41_943), ("test", 10_518, 10_517)):
        facts = MANIFEST.variant("pc").splits[split]
        listed = (folder / str(facts.file)).read_text().split()
        dropped = [line for line in listed if line.removesuffix(".npy") in MANIFEST.excluded]
        assert (len(listed), len(listed) - len(dropped), facts.samples) == (lines, samples, samples)
        assert sha256_of_file(folder / str(facts.file)) == facts.sha256
        assert {line.partition("-")[0] for line in listed} == set(MANIFEST.class_folders)
        # the released code keeps what stands between the first and the second "-" of a line
        official = ["udf068a6b", "u6028f63e", "uca24feec", "u481ebf18", "u45c7b89f", "ub5d972a1", "u1e22cc04", "ue639c33f", ""]
        assert all(line.removesuffix(".npy").split("-")[1] in official for line in dropped)
    shutil.copytree(folder / "ShapeNet-55", tmp_path / "shapenet" / "ShapeNet-55")
    clouds = tmp_path / "shapenet" / "shapenet_pc"
    clouds.mkdir()
    names = (folder / "ShapeNet-55" / "test.txt").read_text().split()
    for name in names:
        (clouds / name).touch()
    data = open_set(tmp_path, split="test")
    assert len(data) == 10_517 and data.notes == []
    counts = Counter(name.partition("-")[0] for name in names if name.removesuffix(".npy") not in MANIFEST.excluded)
    assert Counter(data.labels) == {MANIFEST.class_folders.index(synset): count for synset, count in counts.items()}
    keys = [entry.key for entry in data.entries]
    assert keys == sorted(keys) and data.labels == sorted(data.labels)


# ---- clouds and meshes


@pytest.mark.parametrize("variant", ["pc", "v2"])
def test_objects_are_sorted_by_class_and_labelled_by_synset(variant: str, world: Path) -> None:
    data = open_set(world, variant=variant)
    assert [data.model_of(entry) for entry in data.entries] == SORTED
    assert data.labels == [MANIFEST.class_folders.index(synset) for synset, _ in SORTED]
    assert data.notes == [f"shapenet/{variant}: 5 of 41,943 samples of train are there."]
    parts = [open_dataset(f"shapenet/{variant}/train:{part}", world, cache=world / "cache") for part in ("fit", "val")]
    assert sorted(entry.key for part in parts for entry in part.entries) == [entry.key for entry in data.entries]
    assert [len(part) for part in parts] == [3, 2], "of each class with two models one is held out"


def test_clouds_come_in_the_frame_of_their_files(world: Path) -> None:
    data = open_set(world, num_points=40)
    for position, model in enumerate(SORTED):
        stored = np.load(world / "shapenet" / "shapenet_pc" / f"{model[0]}-{model[1]}.npy")
        sample = data[position]
        assert torch.equal(sample["points"], unit_sphere(torch.from_numpy(stored))) and sample["index"] == position
    few = open_set(world, num_points=7)
    assert few[0]["points"].shape == (7, 3) and torch.equal(few[0]["points"], open_set(world, num_points=7)[0]["points"])
    assert not torch.equal(few[0]["points"], open_set(world, num_points=7, seed=1)[0]["points"])
    assert not (world / "cache").exists(), "stored clouds are not kept a second time"


@pytest.mark.parametrize("release", ["v1", "v2"])
def test_meshes_are_sampled_once(release: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_meshes(world, release=release)
    data = open_set(world, variant=release, num_points=400)
    first = data[0]["points"]
    depth = MODELS.index(SORTED[0]) + 2
    raw = data.raw_points(data.entries[0])
    assert raw.max(axis=0) == pytest.approx([1, 1, depth], rel=0.02) and raw.min(axis=0) == pytest.approx([0, 0, 0], abs=0.02 * depth)
    assert len(list((world / "cache").rglob("*.npy"))) == 1
    monkeypatch.setattr(clip2x.data.shapenet, "read_shape", lambda *_: pytest.fail("the mesh was read again"))
    assert torch.equal(open_set(world, variant=release, num_points=400)[0]["points"], first)
    assert torch.equal(pickle.loads(pickle.dumps(data))[0]["points"], first)


def test_broken_models_of_the_lists_are_left_out(world: Path) -> None:
    broken = [tuple(name.split("-", 1)) for name in MANIFEST.excluded]
    write_list(world, [*MODELS, *broken])  # type: ignore[list-item]
    write_clouds(world, broken)  # type: ignore[arg-type]
    assert [open_set(world).model_of(entry) for entry in open_set(world).entries] == SORTED


def test_a_partial_copy_is_read_and_counted(world: Path) -> None:
    (world / "shapenet" / "shapenet_pc" / "02691156-a1.npy").unlink()
    shutil.rmtree(world / "shapenet" / "ShapeNetCore.v2" / "03001627")
    clouds, meshes = open_set(world), open_set(world, variant="v2")
    assert len(clouds) == 4 and len(meshes) == 3
    assert clouds.notes[0] == f"1 of 5 models of {LIST} are missing, first shapenet_pc/02691156-a1.npy."
    assert meshes.notes[0] == f"2 of 5 models of {LIST} are missing, first ShapeNetCore.v2/03001627/c-1/models/model_normalized.obj."
    with pytest.raises(DataNotFoundError, match=r"5 of 5 models of ShapeNet-55/train.txt missing, first ShapeNetCore.v1/02691156/a1/model.obj"):
        open_set(world, variant="v1")


def test_folders_are_listed_once_and_no_file_is_looked_at(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    original = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(os.path.basename(path)) or original(path))
    open_set(world)
    assert listed == ["shapenet_pc"]
    open_set(world, variant="v2")
    assert sorted(listed[1:]) == sorted({synset for synset, _ in MODELS})


def test_without_lists_it_is_said_where_they_come_from(world: Path) -> None:
    shutil.rmtree(world / "shapenet" / "ShapeNet-55")
    with pytest.raises(DataNotFoundError, match="the list ShapeNet-55/train.txt is missing, it comes from https://.*Point-BERT") as caught:
        open_set(world, variant="v2")
    assert "\n" not in str(caught.value)


def test_the_layout_of_others_is_not_taken_for_ours(world: Path) -> None:
    (world / "shapenet").rename(world / "ShapeNet55-34")
    with pytest.raises(DataNotFoundError, match="there is no folder .*shapenet'"):
        open_set(world)


@pytest.mark.parametrize("line", ["02691156", "99999999-abc.npy", "02691156-abc", "02691156_abc.npy", "../../etc/passwd", "\x00"])
def test_lines_that_are_no_model_are_named(line: str, world: Path) -> None:
    write_list(world, extra=f"\n{line}\n")
    with pytest.raises(BadFileError, match=rf"{LIST}: line 7: .* is no model <synset>-<id>.npy of the 55 classes"):
        open_set(world)


def test_lists_that_cannot_be_read_are_named(world: Path) -> None:
    (world / "shapenet" / LIST).write_bytes(b"02691156-\xff\xfe.npy\n")
    with pytest.raises(BadFileError, match="train.txt: not a readable list"):
        open_set(world)
    (world / "shapenet" / LIST).write_bytes(b"")
    with pytest.raises(BadFileError, match="train.txt: the file is empty"):
        open_set(world)


def test_lists_of_windows_with_repeated_lines_are_read(world: Path) -> None:
    text = "\ufeff" + "".join(f"{synset}-{name}.npy\r\n" for synset, name in [*MODELS, MODELS[0]]) + "\r\n"
    (world / "shapenet" / LIST).write_bytes(text.encode())
    assert len(open_set(world)) == 5


def test_a_folder_that_cannot_be_listed_is_named(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(BadFileError, match=r"shapenet_pc: cannot be listed \(Permission denied\)"):
        open_set(world)


CLOUDS: dict[str, tuple[Any, str]] = {
    "columns": (np.zeros((5, 6), dtype=np.float32), r"a cloud must be \(N, 3\) of floating point numbers, found \(5, 6\) of float32"),
    "flat": (np.zeros(15, dtype=np.float32), r"found \(15,\) of float32"),
    "whole numbers": (np.ones((5, 3), dtype=np.int64), r"found \(5, 3\) of int64"),
    "objects": (np.array([[None] * 3], dtype=object), "not a whole array file"),
    "nan": (np.array([[0, 0, 0], [1, np.nan, 0]], dtype=np.float32), "1 of 2 points have NaN or infinite coordinates, first point 1"),
    "empty": (np.zeros((0, 3), dtype=np.float32), "there are no points in it"),
    "one place": (np.ones((9, 3), dtype=np.float32), "all 9 points lie in one place"),
}


@pytest.mark.parametrize("kind", CLOUDS)
def test_clouds_that_cannot_be_used_are_named(kind: str, world: Path) -> None:
    path = world / "shapenet" / "shapenet_pc" / "02691156-a1.npy"
    np.save(path, CLOUDS[kind][0])
    with pytest.raises(BadFileError, match=CLOUDS[kind][1]) as caught:
        open_set(world)[0]
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_truncated_and_vanished_models_are_named(world: Path) -> None:
    path = world / "shapenet" / "shapenet_pc" / "02691156-a1.npy"
    whole, data = path.read_bytes(), open_set(world)
    for stop in (1, 50, 127, len(whole) - 1):
        path.write_bytes(whole[:stop])
        with pytest.raises(BadFileError, match="02691156-a1.npy: not a whole array file"):
            data[0]
    path.unlink()
    with pytest.raises(DataNotFoundError, match="02691156-a1.npy is missing"):
        data[0]
    meshes = open_set(world, variant="v2")
    (world / "shapenet" / meshes.entries[0].key).write_text("v 0 0 0\nv 1 0\n")
    with pytest.raises(BadFileError, match="line 2 is not a vertex"):
        meshes[0]
    (world / "shapenet" / meshes.entries[0].key).write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    with pytest.raises(BadFileError, match="model_normalized.obj: there are no faces in it"):
        meshes[0]
    (world / "shapenet" / meshes.entries[0].key).unlink()
    with pytest.raises(DataNotFoundError, match="a1/models/model_normalized.obj is gone"):
        meshes[0]


def test_stored_clouds_of_other_number_types_are_read(world: Path) -> None:
    path = world / "shapenet" / "shapenet_pc" / "02691156-a1.npy"
    cloud = np.load(path)
    for kind in ("<f8", ">f4"):
        np.save(path, cloud.astype(kind))
        assert np.array_equal(open_set(world, num_points=40).raw_points(open_set(world).entries[0]), cloud)


# ---- the mini-world, real models


def test_models_of_the_miniworld_have_all_their_materials(tiny_world: Path) -> None:
    paths = sorted((tiny_world / "shapenet" / "ShapeNetCore.v2").rglob("*.obj"))
    assert {path.parents[2].name for path in paths} <= set(MANIFEST.class_folders)
    for path in paths[:12]:
        mesh, notes = read_textured_obj(path)
        assert notes == () and (mesh.face_uv is not None) == any(material.texture is not None for material in mesh.materials)


@pytest.mark.data
def test_real_models_are_read_by_their_lists(shared_data: Path, tmp_path: Path) -> None:
    train, test = (ShapeNet(root=shared_data, variant="v2", split=split, num_points=4096, cache=tmp_path) for split in ("train", "test"))
    assert [train.class_names[label] for label in train.labels] == ["airplane", "car", "chair"]
    assert [test.class_names[label] for label in test.labels] == ["motorcycle"]
    assert train.notes[0].startswith("41,940 of 41,943 models of ShapeNet-55/train.txt are missing, first ShapeNetCore.v2/02691156/10155655850468db")
    extents = [np.ptp(data[index]["points"].numpy(), axis=0) for data, index in ((train, 0), (train, 1), (train, 2), (test, 0))]
    airplane, car, chair, motorcycle = extents
    assert airplane[1] < airplane[0] < airplane[2] and car[1] < car[0] < car[2], "y is up and the nose lies along z"
    assert chair[1] > chair[0] and motorcycle[0] < motorcycle[1] < motorcycle[2]


@pytest.mark.data
def test_the_real_airplane_flies_towards_minus_z(shared_data: Path, tmp_path: Path) -> None:
    """The tail fin is the highest part and stands at +z, the front of ShapeNetCore.v2 is -z."""
    points = ShapeNet(root=shared_data, variant="v2", split="train", num_points=4096, cache=tmp_path)[0]["points"].numpy()
    assert points[points[:, 1].argmax(), 2] > 0.5
