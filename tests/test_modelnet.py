"""ModelNet in its published layouts: order, labels, frames, repeatable points, the cache, partial copies."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import clip2x.data.modelnet
from clip2x.data.base import OURS_FROM_UP
from clip2x.data.modelnet import ModelNet
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.manifest import load_manifest

FOLDERS = load_manifest("modelnet10").class_folders
BOX_FACES = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]


def write_box(path: Path, sizes: tuple[float, float, float], *, glued: bool = False) -> None:
    """Write a box as an OFF mesh; its sizes along x, y, z tell axes and files apart."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * np.array(sizes)
    lines = ["OFF8 6 0" if glued else "OFF\n8 6 0"] + [" ".join(map(str, row)) for row in corners.tolist()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines + [f"4 {' '.join(map(str, face))}" for face in BOX_FACES]) + "\n")


def write_meshes(root: Path, *, per_class: int = 2, classes: tuple[str, ...] = FOLDERS) -> None:
    for split in ("train", "test"):
        for name in reversed(classes):
            for number in reversed(range(per_class)):
                write_box(root / "ModelNet10" / name / split / f"{name}_{number:04d}.off", (1, 2, 3 + number), glued=number == 0)


def write_arrays(folder: Path, names: list[str], clouds: np.ndarray, labels: np.ndarray, *, parts: int = 2, prefix: str = "") -> None:
    folder.mkdir(parents=True)
    (folder / "shape_names.txt").write_text("\n".join(names) + "\n")
    files = []
    for part, rows in enumerate(np.array_split(np.arange(len(clouds)), parts)):
        files.append(f"ply_data_train{part}.h5")
        with h5py.File(folder / files[-1], "w") as file:
            file["data"], file["label"] = clouds[rows].astype(np.float32), labels[rows].astype(np.uint8)[:, None]
    (folder / "train_files.txt").write_text("".join(f"{prefix}{name}\n" for name in files))


def open_set(root: Path, **options: Any) -> ModelNet:
    return ModelNet(**{"manifest": "modelnet10", "root": root, "split": "train", "num_points": 64, "cache": root / "cache", **options})


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    write_meshes(tmp_path)
    return tmp_path


# ---- order, labels, partial copies


def test_meshes_are_sorted_by_class_and_name_and_labelled_by_the_manifest(meshes: Path) -> None:
    data = open_set(meshes)
    assert [entry.key for entry in data.entries] == [f"{name}/train/{name}_{k:04d}.off" for name in FOLDERS for k in range(2)]
    assert data.labels == [label for label in range(10) for _ in range(2)] and len(data) == 20
    assert data.class_names[6] == "night stand"
    assert [data[k]["label"] for k in range(20)] == data.labels and [data[k]["index"] for k in range(20)] == list(range(20))
    assert data.notes == ["modelnet10/off: 20 of 3,991 samples of train are there."]


def test_order_does_not_depend_on_the_file_system(meshes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [entry.key for entry in open_set(meshes).entries]
    listing = clip2x.data.modelnet._names
    monkeypatch.setattr(clip2x.data.modelnet, "_names", lambda folder, suffix: sorted(listing(folder, suffix), reverse=True))
    assert [entry.key for entry in open_set(meshes).entries] == expected


def test_unknown_and_missing_classes_are_noted(meshes: Path) -> None:
    shutil.rmtree(meshes / "ModelNet10" / "desk")
    write_box(meshes / "ModelNet10" / "spaceship" / "train" / "spaceship_0001.off", (1, 2, 3))
    (meshes / "ModelNet10" / "bed" / "train" / ".hidden.off").write_text("")
    (meshes / "ModelNet10" / "bed" / "train" / "notes.txt").write_text("")
    data = open_set(meshes)
    assert len(data) == 18 and 3 not in data.labels and data.labels[-1] == 9
    assert data.notes == ["1 of 10 classes have no train file, first desk.", "1 folders belong to no class and are ignored, first spaceship.",
                          "modelnet10/off: 18 of 3,991 samples of train are there."]


def test_limit_spreads_over_the_classes(meshes: Path) -> None:
    assert open_set(meshes, limit=10).labels == list(range(10))
    assert len(open_set(meshes, limit=500)) == 20


@pytest.mark.parametrize(("options", "message"), [
    ({"split": "val"}, "modelnet10/off has no split 'val'; it has train, test"), ({"variant": "obj"}, "has no variant 'obj'"),
    ({"num_points": 0}, "num_points must be at least 1, got 0"), ({"seed": -1}, "seed must be at least 0, got -1"),
    ({"limit": 0}, "limit must be at least 1 or left out, got 0"), ({"up": "w"}, "up must be one of x, y, z, got 'w'"),
    ({"sampler": "grid"}, "sampler must be one of random, farthest, got 'grid'"), ({"manifest": "modelnet11"}, "no manifest is called"),
])
def test_arguments_are_checked_before_files(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        open_set(tmp_path / "nowhere", **options)


def test_missing_data_says_what_where_from_and_which_variable(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError) as caught:
        open_set(tmp_path)
    assert str(caught.value) == (
        f"ModelNet10 (off, train) is not below '{tmp_path}': there is no folder '{tmp_path / 'ModelNet10'}'. "
        "Get it: https://modelnet.cs.princeton.edu/. Then: DATA=/path (or --data.root /path), where /path holds ModelNet10/.")
    (tmp_path / "ModelNet10" / "chair").mkdir(parents=True)
    with pytest.raises(DataNotFoundError, match="has no sample of train"):
        open_set(tmp_path)
    (tmp_path / "modelnet40_normal_resampled").mkdir()
    with pytest.raises(DataNotFoundError, match=r"modelnet10_train.txt is missing\. Get it"):
        open_set(tmp_path, variant="text")


# ---- points


def test_points_are_in_our_frame_on_the_unit_sphere(meshes: Path) -> None:
    sample = open_set(meshes, num_points=4096)[0]
    points = sample["points"]
    assert points.shape == (4096, 3) and points.dtype == torch.float32
    assert torch.allclose(points.mean(0), torch.zeros(3), atol=1e-5) and abs(float(points.norm(dim=1).max()) - 1) < 1e-6
    extent = points.amax(0) - points.amin(0)  # the file's box is 1, 2, 3 along x, y, z with z up: ours is (-y, z, -x)
    assert torch.allclose(extent / extent[2], torch.tensor([2.0, 3.0, 1.0]), atol=0.02)


@pytest.mark.parametrize(("up", "expected"), [("x", (2.0, 1.0, 3.0)), ("y", (1.0, 2.0, 3.0)), ("z", (2.0, 3.0, 1.0))])
def test_another_up_axis_turns_by_a_proper_rotation(up: str, expected: tuple[float, ...], meshes: Path) -> None:
    points = open_set(meshes, num_points=4096, up=up)[0]["points"]
    extent = points.amax(0) - points.amin(0)
    assert torch.allclose(extent / extent.max() * 3, torch.tensor(expected), atol=0.05)
    rotation = np.array(OURS_FROM_UP[up])
    assert np.linalg.det(rotation) == 1 and rotation[1].tolist() == [float(axis == up) for axis in "xyz"]


def test_points_depend_on_file_and_seed_alone(meshes: Path) -> None:
    first, second, other = (open_set(meshes, cache=meshes / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    forwards = [first[k]["points"] for k in range(len(first))]
    backwards = [second[k]["points"] for k in reversed(range(len(second)))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not torch.equal(first[0]["points"], other[0]["points"])
    assert not torch.equal(first[0]["points"], first[2]["points"]), "equal boxes, another file: other points"
    limited = open_set(meshes, cache=meshes / "d", limit=5)
    assert torch.equal(limited[2]["points"], first[8]["points"])


@pytest.mark.parametrize("sampler", ["random", "farthest"])
@pytest.mark.parametrize("stored", [10, 64, 300])
def test_every_cloud_has_the_asked_number_of_points(sampler: str, stored: int, tmp_path: Path) -> None:
    clouds = np.random.default_rng(0).normal(size=(4, stored, 3))
    write_arrays(tmp_path / "modelnet10_hdf5_1024", list(FOLDERS), clouds, np.arange(4))
    data = open_set(tmp_path, variant="hdf5_1024", sampler=sampler)
    for k in range(4):
        raw = data.raw_points(data.entries[k])
        known = {row.tobytes() for row in clouds[k].astype(np.float32)}
        drawn = {row.tobytes() for row in raw}
        assert raw.shape == (64, 3) and drawn <= known and len(drawn) == min(64, stored)


def test_farthest_points_of_a_mesh_are_spread_wider(meshes: Path) -> None:
    spread = {}
    for sampler in ("random", "farthest"):
        points = open_set(meshes, sampler=sampler)[0]["points"]
        spread[sampler] = float((torch.cdist(points, points) + 9 * torch.eye(64)).min())
    assert spread["farthest"] > 5 * spread["random"]


def test_workers_give_the_same_batches(meshes: Path) -> None:
    data = open_set(meshes)
    alone = list(DataLoader(data, batch_size=8))
    workers = list(DataLoader(open_set(meshes, cache=meshes / "other"), batch_size=8, num_workers=2))
    assert all(torch.equal(a["points"], b["points"]) and torch.equal(a["label"], b["label"]) for a, b in zip(alone, workers, strict=True))


def test_an_index_outside_ends_iteration(meshes: Path) -> None:
    data = open_set(meshes)
    assert len(list(data)) == 20  # type: ignore[call-overload]
    assert data[-1]["index"] == 19
    with pytest.raises(IndexError):
        data[20]


# ---- the cache


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the meshes that are read."""
    names: list[str] = []
    reader = clip2x.data.modelnet.read_shape

    def counted(path: Path) -> Any:
        names.append(path.name)
        return reader(path)

    monkeypatch.setattr(clip2x.data.modelnet, "read_shape", counted)
    return names


def test_a_second_pass_reads_no_mesh(meshes: Path, reads: list[str]) -> None:
    first = [sample["points"] for sample in open_set(meshes)]  # type: ignore[attr-defined]
    assert len(reads) == 20
    second = [sample["points"] for sample in open_set(meshes)]  # type: ignore[attr-defined]
    assert len(reads) == 20 and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert sorted(path.name for path in meshes.iterdir()) == ["ModelNet10", "cache"]


def test_the_cache_forgets_changed_files_and_other_settings(meshes: Path, reads: list[str]) -> None:
    before = open_set(meshes)[0]["points"]
    path = meshes / "ModelNet10" / "bathtub" / "train" / "bathtub_0000.off"
    write_box(path, (3, 2, 1))
    after = open_set(meshes)[0]["points"]
    assert len(reads) == 2 and not torch.equal(before, after)
    os.utime(path, ns=(1, 1))
    open_set(meshes)[0]
    for options in ({"seed": 1}, {"num_points": 32}, {"sampler": "farthest"}):
        open_set(meshes, **options)[0]
    assert len(reads) == 6
    open_set(meshes, up="y")[0]
    assert len(reads) == 6, "the cache holds the files' frame, so that the up axis does not matter"


def test_a_damaged_cache_file_is_made_again(meshes: Path, reads: list[str]) -> None:
    expected = open_set(meshes)[0]["points"]
    stored = list((meshes / "cache").rglob("*.npy"))
    assert len(stored) == 1
    for content in (b"", b"rubbish", stored[0].read_bytes()[:-8]):
        stored[0].write_bytes(content)
        assert torch.equal(open_set(meshes)[0]["points"], expected)
    assert len(reads) == 4


def test_a_cache_that_cannot_be_written_only_costs_time(meshes: Path) -> None:
    (meshes / "cache").write_text("a file where a folder should be")
    data = open_set(meshes)
    assert data[0]["points"].shape == (64, 3) and data[1]["points"].shape == (64, 3)
    assert len(data.notes) == 2 and "every epoch reads the meshes again" in data.notes[1]


def test_the_default_cache_is_in_the_home_folder_and_made_lazily(meshes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: meshes / "home")
    data = open_set(meshes, cache=None)
    assert not (meshes / "home").exists()
    data[0]
    assert len(list((meshes / "home" / ".cache" / "clip2x" / "samples").rglob("*.npy"))) == 1


def test_a_file_that_vanishes_is_named(meshes: Path) -> None:
    data = open_set(meshes)
    (meshes / "ModelNet10" / "bathtub" / "train" / "bathtub_0000.off").unlink()
    with pytest.raises(DataNotFoundError, match=r"bathtub/train/bathtub_0000.off is gone"):
        data[0]


def test_a_broken_mesh_is_named(meshes: Path) -> None:
    (meshes / "ModelNet10" / "bathtub" / "train" / "bathtub_0001.off").write_text("OFF\n8 6 0\n0 0 0\n")
    with pytest.raises(BadFileError, match=r"bathtub_0001.off: the file is cut off"):
        open_set(meshes)[1]


# ---- HDF5


def test_array_labels_follow_names_and_parts_keep_their_order(tmp_path: Path) -> None:
    clouds = np.random.default_rng(0).normal(size=(7, 64, 3))
    names = list(reversed(FOLDERS))
    write_arrays(tmp_path / "modelnet10_hdf5_1024", names, clouds, np.array([0, 9, 3, 3, 1, 2, 0]), prefix="data/modelnet10_hdf5_1024/")
    data = open_set(tmp_path, variant="hdf5_1024")
    assert data.labels == [9, 0, 6, 6, 8, 7, 9]
    for k in range(7):
        assert np.array_equal(data.raw_points(data.entries[k]), clouds[k].astype(np.float32))


def test_dev_and_report_are_numpys_permutation(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    clouds = rng.normal(size=(3991, 4, 3))
    write_arrays(tmp_path / "modelnet10_hdf5_1024", list(FOLDERS), clouds, rng.integers(10, size=3991), parts=1)
    rows = [int(entry.key.split("#")[1]) for split in ("dev", "report") for entry in open_set(tmp_path, variant="hdf5_1024", split=split).entries]
    assert rows == np.random.default_rng(0).permutation(3991).tolist()
    whole, part = (open_set(tmp_path, variant="hdf5_1024", split=split, num_points=2) for split in ("train", "dev"))
    assert torch.equal(whole[rows[5]]["points"], part[5]["points"])


def test_parts_of_a_partial_copy_are_refused(tmp_path: Path) -> None:
    """Another number of clouds would give another permutation, and mix what was looked at with what is scored."""
    write_arrays(tmp_path / "modelnet10_hdf5_1024", list(FOLDERS), np.random.default_rng(0).normal(size=(20, 4, 3)), np.arange(20) % 10, parts=1)
    with pytest.raises(DataNotFoundError, match="dev is a part of all 3,991 samples of train, but 20 are there"):
        open_set(tmp_path, variant="hdf5_1024", split="dev")


def test_arrays_travel_to_other_processes_without_their_clouds(tmp_path: Path) -> None:
    write_arrays(tmp_path / "modelnet10_hdf5_1024", list(FOLDERS), np.random.default_rng(0).normal(size=(6, 5000, 3)), np.arange(6))
    data = open_set(tmp_path, variant="hdf5_1024")
    expected = data[3]["points"]
    sent = pickle.dumps(data)
    assert len(sent) < 50_000 and torch.equal(pickle.loads(sent)[3]["points"], expected)
    batches = list(DataLoader(data, batch_size=3, num_workers=2))
    assert torch.equal(batches[1]["points"][0], expected)


def test_array_files_that_cannot_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "modelnet10_hdf5_1024"
    clouds = np.random.default_rng(0).normal(size=(6, 8, 3))
    write_arrays(folder, list(FOLDERS), clouds, np.arange(6))
    (folder / "ply_data_train1.h5").unlink()
    data = open_set(tmp_path, variant="hdf5_1024")
    assert len(data) == 3 and data.notes[0] == "1 of 2 files of train_files.txt are missing, first ply_data_train1.h5."
    (folder / "ply_data_train0.h5").unlink()
    with pytest.raises(DataNotFoundError, match=r"2 of 2 files of train_files.txt missing, first ply_data_train0.h5"):
        open_set(tmp_path, variant="hdf5_1024")
    (folder / "ply_data_train0.h5").write_bytes(b"not hdf5")
    with pytest.raises(BadFileError, match=r"ply_data_train0.h5: not an HDF5 file with data and label"):
        open_set(tmp_path, variant="hdf5_1024")
    for change, message in (({"data": clouds[:, :, :2]}, "data must be"), ({"label": np.arange(3)}, "data must be"),
                            ({"label": np.full(6, 10)}, "labels must be whole numbers below 10"), ({"label": np.ones(6)}, "labels must be")):
        with h5py.File(folder / "ply_data_train0.h5", "w") as file:
            for key, values in {"data": clouds, "label": np.arange(6), **change}.items():
                file[key] = values
        with pytest.raises(BadFileError, match=message):
            open_set(tmp_path, variant="hdf5_1024")
    (folder / "train_files.txt").write_text("a/ply_data_train0.h5\nb/ply_data_train0.h5\n")
    with pytest.raises(BadFileError, match="train_files.txt: lists 'ply_data_train0.h5' more than once"):
        open_set(tmp_path, variant="hdf5_1024")
    (folder / "shape_names.txt").write_text("bathtub\nspaceship\n")
    with pytest.raises(BadFileError, match="'spaceship' is no class of modelnet10"):
        open_set(tmp_path, variant="hdf5_1024")
    (folder / "shape_names.txt").unlink()
    with pytest.raises(DataNotFoundError, match=r"shape_names.txt is missing"):
        open_set(tmp_path, variant="hdf5_1024")


def test_a_cloud_with_nan_is_named(tmp_path: Path) -> None:
    clouds = np.random.default_rng(0).normal(size=(2, 8, 3))
    clouds[1, 3, 2] = np.nan
    write_arrays(tmp_path / "modelnet10_hdf5_1024", list(FOLDERS), clouds, np.arange(2), parts=1)
    with pytest.raises(BadFileError, match=r"ply_data_train0.h5#1: points hold NaN or infinite"):
        open_set(tmp_path, variant="hdf5_1024")[1]


# ---- text and PLY


def test_text_clouds_are_read_by_the_official_lists(tmp_path: Path, reads: list[str]) -> None:
    folder = tmp_path / "modelnet40_normal_resampled"
    rng = np.random.default_rng(0)
    for name in ("night_stand_0001", "night_stand_0002", "bed_0001", "bed_0002"):
        (folder / name.rpartition("_")[0]).mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / name.rpartition("_")[0] / f"{name}.txt", rng.normal(size=(80, 6)) * [1, 2, 3, 1, 1, 1], delimiter=",", fmt="%.6f")
    (folder / "modelnet10_train.txt").write_text("night_stand_0002\r\nbed_0001\r\nnight_stand_0001\r\nsofa_0001\r\n")
    (folder / "modelnet10_test.txt").write_text("bed_0002\n")
    data, test = open_set(tmp_path, variant="text"), open_set(tmp_path, variant="text", split="test")
    assert [entry.key for entry in data.entries] == ["bed/bed_0001.txt", "night_stand/night_stand_0001.txt", "night_stand/night_stand_0002.txt"]
    assert data.labels == [1, 6, 6] and test.labels == [1]
    assert data.notes[0] == "1 files of modelnet10_train.txt are missing, first sofa/sofa_0001.txt."
    raw, ours = data.raw_points(data.entries[0]), data[0]["points"].numpy()
    centred = np.stack([-raw[:, 2], raw[:, 1], raw[:, 0]], axis=1) - [-raw[:, 2].mean(), raw[:, 1].mean(), raw[:, 0].mean()]
    assert np.allclose(ours, centred / np.linalg.norm(centred, axis=1).max(), atol=1e-6)
    assert reads == ["bed_0001.txt"], "text files are cached too"
    (folder / "modelnet10_test.txt").write_text("bed_0002\nbed_0001\nbed_0002\n")
    with pytest.raises(BadFileError, match="modelnet10_test.txt: lists 'bed_0002' more than once"):
        open_set(tmp_path, variant="text", split="test")
    (folder / "modelnet10_test.txt").write_text("bed_0002\nspaceship_0001\n")
    with pytest.raises(BadFileError, match=r"line 2: 'spaceship_0001' belongs to no class of modelnet10"):
        open_set(tmp_path, variant="text", split="test")


def test_numbered_ply_clouds(tmp_path: Path) -> None:
    folder = tmp_path / "ModelNet40_Ply"
    folder.mkdir()
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    for name in ("10_b.ply", "10_a.ply", "2_0.ply"):
        (folder / name).write_text(header + "0 0 0\n1 0 0\n0 2 0\n")
    data = open_set(tmp_path, manifest="modelnet40", variant="ply", split="test", num_points=3)
    assert [entry.key for entry in data.entries] == ["2_0.ply", "10_a.ply", "10_b.ply"] and data.labels == [2, 10, 10]
    assert data.notes == [] and data[0]["points"].shape == (3, 3)
    (folder / "40_a.ply").write_text(header)
    with pytest.raises(BadFileError, match=r"40_a.ply: the name must begin with a label below 40"):
        open_set(tmp_path, manifest="modelnet40", variant="ply", split="test")
