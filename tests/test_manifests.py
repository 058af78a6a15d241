"""Every manifest that is shipped, and what the parser refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from clip2x.errors import BadFileError, InputError
from clip2x.manifest import Manifest, load_manifest, manifest_folder, manifest_names
from clip2x.storage import sha256_of_file


@pytest.mark.parametrize("name", manifest_names())
def test_every_manifest_is_whole(name: str) -> None:
    manifest = load_manifest(name)
    assert manifest.name == name and manifest.title and manifest.citation
    assert len(set(manifest.class_folders)) == len(manifest.class_names)
    assert {"spdx", "terms"} <= set(manifest.licence) and {"paper", "home", "download"} <= set(manifest.source)
    for variant in manifest.variants.values():
        rotation = np.array(variant.ours_from_files)
        assert np.allclose(rotation @ rotation.T, np.eye(3)) and np.isclose(np.linalg.det(rotation), 1)
        assert rotation[1].tolist() == [float(axis == variant.up) for axis in "xyz"], "the files' up axis must become +y"
        assert all(len(digest) == 64 for digest in variant.files.values())


def test_modelnet_facts() -> None:
    ten, forty = load_manifest("modelnet10"), load_manifest("modelnet40")
    assert len(ten.class_names) == 10 and len(forty.class_names) == 40
    assert set(ten.class_names) < set(forty.class_names)
    assert list(forty.class_folders) == sorted(forty.class_folders) and list(ten.class_folders) == sorted(ten.class_folders)
    assert forty.class_names[23] == "night stand" and forty.class_folders[23] == "night_stand"
    counts = {name: [variant.splits["train"].samples, variant.splits["test"].samples]
              for manifest in (ten, forty) for name, variant in {f"{manifest.name}/{key}": value for key, value in manifest.variants.items()}.items()
              if {"train", "test"} <= set(variant.splits)}
    assert counts == {"modelnet10/off": [3991, 908], "modelnet10/text": [3991, 908], "modelnet40/off": [9843, 2468],
                      "modelnet40/aligned": [None, None], "modelnet40/text": [9843, 2468], "modelnet40/hdf5": [None, None]}
    assert next(iter(ten.variants)) == next(iter(forty.variants)) == "off"
    for manifest in (ten, forty):
        assert manifest.templates("official_code") == ("image of a {}",)


def test_other_names_are_optional_and_name_one_class_each_beside_its_own() -> None:
    assert load_manifest("modelnet10").other_names == {}
    for name, classes in (("nuscenes", load_manifest("nuscenes").class_names), ("sunrgbd", load_manifest("sunrgbd").classes("objects37"))):
        others = load_manifest(name).other_names
        words = [word for key in classes for word in (key, *others.get(key, ()))]
        assert len(set(words)) == len(words), f"{name}: a word stands for two classes that are told apart"
    assert "person" in load_manifest("nuscenes").other_names["pedestrian"]
    assert "bookcase" in load_manifest("sunrgbd").other_names["bookshelf"]


def test_meshes_and_text_files_meet_in_one_frame() -> None:
    """Text files are (-x, z, y) of the meshes; both rotations must lead to the same place."""
    manifest = load_manifest("modelnet40")
    text_from_off = np.array([[-1, 0, 0], [0, 0, 1], [0, 1, 0]])
    ours_from_text, ours_from_off = (np.array(manifest.variant(name).ours_from_files) for name in ("text", "off"))
    assert np.array_equal(ours_from_text @ text_from_off, ours_from_off)
    assert (ours_from_off @ [1, 2, 3]).tolist() == [-2, 3, -1]


@pytest.mark.data
def test_modelnet_lists_have_the_stated_lengths_and_names(shared_data: Path) -> None:
    manifest = load_manifest("modelnet40")
    folder = shared_data / manifest.variant("text").folder
    assert (folder / "modelnet40_shape_names.txt").read_text().split() == list(manifest.class_folders)
    for split in manifest.variant("text").splits.values():
        lines = (folder / str(split.file)).read_text().split()
        assert len(lines) == split.samples and {line.rpartition("_")[0] for line in lines} == set(manifest.class_folders)
    arrays = load_manifest("modelnet10").variant("hdf5_1024")
    assert (shared_data / arrays.folder / "shape_names.txt").read_text().split() == list(load_manifest("modelnet10").class_folders)
    for file, digest in arrays.files.items():
        assert sha256_of_file(shared_data / arrays.folder / file) == digest


@pytest.fixture
def raw() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((manifest_folder() / "modelnet10.yaml").read_text())
    return loaded


def parse(raw: object, folder: Path) -> Manifest:
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load_manifest(path)


def test_a_manifest_of_ones_own_is_read_by_path(raw: dict[str, Any], tmp_path: Path) -> None:
    assert replace(parse(raw, tmp_path), sha256="") == replace(load_manifest("modelnet10"), sha256="")


def test_names_that_are_unknown_are_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="no manifest is called 'modelnet11'; there are .*modelnet10, modelnet40"):
        load_manifest("modelnet11")
    with pytest.raises(InputError, match="modelnet10 has no variant 'obj'; it has off, text, hdf5_1024"):
        load_manifest("modelnet10").variant("obj")
    with pytest.raises(InputError, match="modelnet10 has no prompts 'ulip'; it has official_code"):
        load_manifest("modelnet10").templates("ulip")


CHANGES: list[tuple[list[str], object, str]] = [
    (["variants", "off", "ours_from_files"], [[1, 0, 0], [0, 0, 1], [0, 1, 0]], "must be a proper 3x3 rotation .a reflection is refused"),
    (["variants", "off", "ours_from_files"], [[2, 0, 0], [0, 1, 0], [0, 0, 1]], "proper 3x3 rotation"),
    (["variants", "off", "ours_from_files"], [[1, 0], [0, 1]], "proper 3x3 rotation"),
    (["variants", "off", "axis"], "z", "variants.off has the unknown key 'axis'; known are folder"),
    (["colour"], "red", "the file has the unknown key 'colour'"),
    (["variants", "off", "up"], "w", "variants.off.up is 'w'; it must be one of x, y, z"),
    (["variants", "off", "folder"], "../elsewhere", "must stay below the data root"),
    (["variants", "off", "format"], False, "variants.off.format is False; it must be a text, quoted"),
    (["variants", "off", "splits", "train", "size"], 3, "variants.off.splits.train has the unknown key 'size'"),
    (["variants", "off", "splits"], {}, "variants.off.splits must be a mapping with at least one entry"),
    (["variants"], {}, "variants must be a mapping with at least one entry"),
    (["variants", "hdf5_1024", "splits", "dev", "of"], "trian", "names 'trian', which is no split of this variant"),
    (["class_names"], [True, "bed"], "class_names must be a list of quoted strings"),
    (["class_names"], ["bed"] * 10, "class_names has duplicates"),
    (["other_names"], ["couch"], "other_names must map class names to lists of names"),
    (["other_names"], {"settee": ["couch"]}, "other_names.settee is no class of the manifest or of a variant"),
    (["other_names"], {"sofa": "couch"}, "other_names.sofa must be a list of quoted strings"),
    (["other_names"], {"sofa": []}, "other_names.sofa must be a list"),
    (["category_names"], ["couch"], "category_names must map class names to lists of names"),
    (["class_folders"], ["bed"], "class_folders has 1 entries, class_names 10"),
    (["prompts", "mine"], ["a thing"], "every template of prompts.mine needs one {} for the class name"),
    (["prompts", "mine"], [3], "every template of prompts.mine needs one {} for the class name"),
    (["source"], "http", "source must be a mapping, found str"),
    (["class_folders"], ["bed"] * 10, "class_folders has duplicates"),
    (["class_folders"], 5, "class_folders must be a list"),
    (["variants", "off", "ours_from_files"], "abc", "must be a proper 3x3 rotation"),
    (["variants", "off", "splits", "train", "samples"], "many", "splits.train.samples must be a whole number of at least 0, found 'many'"),
    (["variants", "off", "splits", "train", "file"], 3, "splits.train.file must be a text, found 3"),
    (["variants", "off", "splits", "a:b"], {}, "the name of a split holds no ':' and no '/'"),
    (["variants", "hdf5_1024", "splits", "dev", "of"], "dev", "which is no split of this variant with files of its own"),
]


@pytest.mark.parametrize(("keys", "value", "message"), CHANGES)
def test_what_is_refused(keys: list[str], value: object, message: str, raw: dict[str, Any], tmp_path: Path) -> None:
    place = raw
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(BadFileError, match=message) as caught:
        parse(raw, tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_keys_bare_booleans_and_files_that_are_no_yaml(raw: dict[str, Any], tmp_path: Path) -> None:
    del raw["citation"]
    with pytest.raises(BadFileError, match="the file lacks citation"):
        parse(raw, tmp_path)
    raw["citation"] = "x"
    raw["variants"][False] = raw["variants"].pop("off")
    with pytest.raises(BadFileError, match="variants has the key False, which is no text; quote it"):
        parse(raw, tmp_path)
    with pytest.raises(BadFileError, match="the file must be a mapping, found list"):
        parse([1, 2], tmp_path)
    (tmp_path / "broken.yaml").write_text("a: [1, 2\nb: }")
    with pytest.raises(BadFileError, match="not a readable YAML file"):
        load_manifest(tmp_path / "broken.yaml")
