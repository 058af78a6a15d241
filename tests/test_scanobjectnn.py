"""ScanObjectNN in its published layout: variants, labels, background, the official order of steps, damaged and replaced files, processes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from clip2x.data.scanobjectnn import ScanObjectNN
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import farthest_points, unit_sphere
from clip2x.manifest import load_manifest

POINTS = 96  # a cloud here; 2,048 in the published files
MANIFEST = load_manifest("scanobjectnn")


def make_arrays(per_class: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Make clouds whose first point says their row, with a third of the points background; labels in no order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(15), per_class)).astype(np.int32)
    data = rng.normal(size=(len(labels), POINTS, 3)).astype(np.float32)
    data[:, 0, 0] = np.arange(len(labels))
    mask = np.where(np.arange(POINTS) % 3 == 2, -1, labels[:, None]).astype(np.int32)
    return {"data": data, "label": labels, "mask": mask}


def write_h5(path: Path, arrays: dict[str, Any], *, compression: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression=compression if getattr(values, "size", 0) and values.ndim > 1 else None)


def file_of(root: Path, variant: str = "obj_bg", split: str = "train") -> Path:
    return root / "scanobjectnn" / str(MANIFEST.variant(variant).splits[split].file)


def open_set(root: Path, **options: Any) -> ScanObjectNN:
    return ScanObjectNN(**{"root": root, "variant": "obj_bg", "split": "train", "num_points": POINTS, "cache": root / "cache", **options})


@pytest.fixture(params=[None, "gzip"], ids=["plain", "packed"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Data root with one variant; its path has a space and letters beyond ASCII."""
    folder = tmp_path / "Örtliche Daten"
    write_h5(file_of(folder), make_arrays(), compression=request.param)
    return folder


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    write_h5(file_of(tmp_path), make_arrays(), compression="gzip")
    return tmp_path


def test_the_manifest_names_the_classes_in_the_order_of_the_files() -> None:
    assert MANIFEST.class_names == ("bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow",
                                    "sink", "sofa", "toilet")
    assert MANIFEST.templates("official_code") == ("image of a {}",)
    assert list(MANIFEST.variants)[:6] == ["obj_only", "obj_bg", "pb_t25", "pb_t25_r", "pb_t50_r", "pb_t50_rs"]
    counts = {name: [split.samples for split in variant.splits.values()] for name, variant in MANIFEST.variants.items()}
    assert counts["obj_only"] == counts["obj_bg"] == [2309, 581] and counts["pb_t50_rs"] == [11416, 2882]
    files = [split.file for variant in MANIFEST.variants.values() for split in variant.splits.values()]
    assert len(set(files)) == len(files) == 20
    for name, variant in MANIFEST.variants.items():
        assert variant.up == "y" and np.array_equal(variant.ours_from_files, np.eye(3))
        assert str(variant.splits["train"].file).replace("training_", "test_") == variant.splits["test"].file
        assert str(variant.splits["test"].file).startswith("main_split_nobg/") == (name == "obj_only" or name.endswith("_nobg"))


def test_every_variant_reads_its_own_file_in_its_own_order(tmp_path: Path) -> None:
    for number, variant in enumerate(MANIFEST.variants):
        for split in ("train", "test"):
            write_h5(file_of(tmp_path, variant, split), make_arrays(1, seed=2 * number + (split == "test")))
    for number, variant in enumerate(MANIFEST.variants):
        for split in ("train", "test"):
            data, arrays = open_set(tmp_path, variant=variant, split=split), make_arrays(1, seed=2 * number + (split == "test"))
            assert data.labels == arrays["label"].tolist() and len(data) == 15
            assert [sample["label"] for sample in (data[0], data[14])] == [arrays["label"][0], arrays["label"][14]]
            assert torch.equal(data[3]["points"], unit_sphere(torch.from_numpy(arrays["data"][3])))
    assert any("15 of 11,416 samples of train are there" in note for note in open_set(tmp_path, variant="pb_t50_rs").notes)


def test_clouds_are_the_files_normalised_and_repeatable(root: Path) -> None:
    arrays = make_arrays()
    data = open_set(root)
    for index in (0, 31, 59, -1):
        sample = data[index]
        assert torch.equal(sample["points"], unit_sphere(torch.from_numpy(arrays["data"][index])))
        assert sample["label"] == arrays["label"][index] and sample["index"] == index % 60
    few, again, other = (open_set(root, num_points=32, seed=seed)[7]["points"] for seed in (1, 1, 2))
    assert few.shape == (32, 3) and torch.equal(few, again) and not torch.equal(few, other)


def test_a_column_of_labels_and_doubles_are_read_too(tmp_path: Path) -> None:
    arrays = make_arrays()
    write_h5(file_of(tmp_path), {"data": arrays["data"].astype(np.float64), "label": arrays["label"].astype(np.uint8)[:, None]})
    data = open_set(tmp_path)
    assert data.labels == arrays["label"].tolist() and torch.equal(data[5]["points"], unit_sphere(torch.from_numpy(arrays["data"][5])))


def test_background_can_be_dropped(root: Path) -> None:
    arrays = make_arrays()
    own = arrays["data"][9][np.arange(POINTS) % 3 != 2]
    data = open_set(root, background="drop", num_points=len(own))
    assert torch.equal(data[9]["points"], unit_sphere(torch.from_numpy(own)))
    repeated = open_set(root, background="drop")[9]["points"]
    assert repeated.shape == (POINTS, 3) and len(repeated.unique(dim=0)) == len(own)


def test_an_object_that_is_all_background_is_named(tmp_path: Path) -> None:
    arrays = make_arrays()
    arrays["mask"][4] = -1
    write_h5(file_of(tmp_path), arrays)
    data = open_set(tmp_path, background="drop")
    data[3]
    with pytest.raises(BadFileError, match=r"training_objectdataset.h5#4: its mask calls every point background; use background: keep"):
        data[4]
    open_set(tmp_path)[4]


def test_the_official_order_normalises_all_points_before_it_chooses(root: Path) -> None:
    """CLIP2Point 30673e7: pc_normalize in the data set, then farthest point sampling from point 0 in zeroshot.py, nothing after."""
    whole = torch.from_numpy(make_arrays()["data"][12])
    centred = whole - whole.mean(dim=0)
    normalised = centred / (centred**2).sum(dim=1).sqrt().max()
    official = open_set(root, num_points=24, sampler="farthest", normalise="before")[12]["points"]
    assert torch.allclose(official, normalised[farthest_points(normalised[None], 24)[0]], atol=1e-6)
    assert official.mean(dim=0).norm() > 1e-3
    ours = open_set(root, num_points=24, sampler="farthest")[12]["points"]
    assert ours.mean(dim=0).norm() < 1e-6 and torch.allclose(unit_sphere(official), ours, atol=1e-5)


def test_packed_files_are_unpacked_once_and_damaged_copies_again(packed: Path) -> None:
    arrays, cache = make_arrays(), packed / "cache" / "arrays"
    data = open_set(packed)
    assert not cache.exists()
    first = data[3]["points"]
    (copy,) = cache.iterdir()
    assert copy.stat().st_size == arrays["data"].nbytes + 32
    before = copy.stat().st_mtime_ns
    assert torch.equal(open_set(packed)[3]["points"], first) and copy.stat().st_mtime_ns == before
    copy.write_bytes(copy.read_bytes()[:5000])
    assert torch.equal(data[50]["points"], unit_sphere(torch.from_numpy(arrays["data"][50])))
    copy.unlink()
    assert torch.equal(data[3]["points"], first)
    copy.write_bytes(b"")
    assert torch.equal(open_set(packed)[3]["points"], first) and data.notes == open_set(packed).notes


def test_without_a_place_for_the_copy_rows_are_read_one_by_one(packed: Path) -> None:
    (packed / "a file").write_text("")
    data = open_set(packed, cache=packed / "a file")
    assert torch.equal(data[3]["points"], open_set(packed)[3]["points"])
    data[4]
    assert sum("is compressed and no unpacked copy can be kept" in note for note in data.notes) == 1


def changed(**replacement: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda arrays: {**arrays, **{name: change(arrays[name]) for name, change in replacement.items()}}


BAD_FORMS = [
    (changed(label=lambda label: np.where(np.arange(60) == 7, 15, label)), "label 15 of row 7 is none of the 15 classes of scanobjectnn .0 to 14."),
    (changed(label=lambda label: np.where(np.arange(60) == 9, -1, label)), "label -1 of row 9 is none of the 15"),
    (changed(label=lambda label: label.astype(np.float32)), r"label must be \(60,\) of whole numbers, .* found \(60,\) of float32"),
    (changed(label=lambda label: label[:-1]), r"label must be \(60,\) of whole numbers, .* found \(59,\) of int32"),
    (changed(data=lambda data: data[:, :, :2]), r"data must be \(N, P, 3\) of floating point numbers, found \(60, 96, 2\) of float32"),
    (changed(data=lambda data: data[:, :0]), r"data must be \(N, P, 3\) .* found \(60, 0, 3\)"),
    (changed(data=lambda data: data[0]), r"data must be \(N, P, 3\) .* found \(96, 3\)"),
    (changed(data=lambda data: data.astype(np.int16)), r"data must be \(N, P, 3\) .* of int16"),
    (changed(mask=lambda mask: mask[:, :50]), r"mask must be \(60, 96\) of signed numbers, .* found \(60, 50\) of int32"),
    (changed(mask=lambda mask: (mask % 256).astype(np.uint8)), r"mask must be \(60, 96\) of signed numbers, .* of uint8"),
    (lambda arrays: {"data": arrays["data"]}, "not an HDF5 file with data and label"),
    (lambda arrays: {"label": arrays["label"]}, "not an HDF5 file with data and label"),
    (lambda arrays: {**arrays, "data": h5py.Empty("f4")}, "data is no array"),
]


@pytest.mark.parametrize(("change", "message"), BAD_FORMS)
def test_other_forms_are_refused_when_the_set_is_opened(change: Callable[[dict[str, Any]], dict[str, Any]], message: str, tmp_path: Path) -> None:
    write_h5(file_of(tmp_path), change(make_arrays()))
    with pytest.raises(BadFileError, match=message) as caught:
        open_set(tmp_path)
    assert "training_objectdataset.h5" in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_hdf5_are_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    write_h5(path, make_arrays())
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100], b"", b"no HDF5"):
        path.write_bytes(content)
        with pytest.raises(BadFileError, match="not an HDF5 file with data and label"):
            open_set(tmp_path)
    with h5py.File(path, "w") as file:
        file.create_group("data")
        file["label"] = np.arange(3)
    with pytest.raises(BadFileError, match="data is no array"):
        open_set(tmp_path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(BadFileError, match="not an HDF5 file"):
        open_set(tmp_path)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="there is no folder .*scanobjectnn.*fill in the form"):
        open_set(tmp_path)
    write_h5(file_of(tmp_path), make_arrays())
    with pytest.raises(DataNotFoundError, match="obj_bg, test.* main_split/test_objectdataset.h5 is missing"):
        open_set(tmp_path, split="test")
    with pytest.raises(InputError, match="background must be one of keep, drop, got 'cut'"):
        open_set(tmp_path, background="cut")
    with pytest.raises(InputError, match="normalise must be one of after, before, got 'never'"):
        open_set(tmp_path, normalise="never")
    with pytest.raises(InputError, match="has no variant 'hardest'; it has obj_only"):
        open_set(tmp_path, variant="hardest")
    write_h5(file_of(tmp_path), {name: values for name, values in make_arrays().items() if name != "mask"})
    open_set(tmp_path)[0]
    with pytest.raises(BadFileError, match="has no mask, which background: drop needs; use background: keep"):
        open_set(tmp_path, background="drop")


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("normalise", ["after", "before"])
@pytest.mark.parametrize("sampler", ["random", "farthest"])
def test_clouds_that_cannot_be_used_are_named(tmp_path: Path, compression: str | None, normalise: str, sampler: str) -> None:
    arrays = make_arrays()
    arrays["data"][5, 10, 1] = np.nan
    arrays["data"][6] = 1.0
    write_h5(file_of(tmp_path), arrays, compression=compression)
    data = open_set(tmp_path, normalise=normalise, sampler=sampler, num_points=32)
    data[4]
    with pytest.raises(BadFileError, match="main_split/training_objectdataset.h5#5: holds NaN or infinite coordinates"):
        data[5]
    with pytest.raises(BadFileError, match="training_objectdataset.h5#6: all .* points of a cloud are equal"):
        data[6]


def test_a_damaged_block_is_named(packed: Path) -> None:
    path = file_of(packed)
    with h5py.File(path) as file:
        where = file["data"].id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[where + 40 : where + 60] = bytes(20)
    path.write_bytes(content)
    data = open_set(packed)
    with pytest.raises(BadFileError, match=r"training_objectdataset.h5: rows from \d+ on cannot be read"):
        data[0]
    unkept = open_set(packed, cache=path)  # a file: no copy can be made
    with pytest.raises(BadFileError, match=r"training_objectdataset.h5#0: data cannot be read"):
        unkept[0]


def test_a_file_replaced_while_in_use_is_looked_at_again(root: Path) -> None:
    path, arrays = file_of(root), make_arrays()
    data = open_set(root)
    data[0]
    write_h5(path, {**arrays, "data": arrays["data"][:, ::-1]}, compression="gzip")
    assert torch.equal(data[8]["points"], unit_sphere(torch.from_numpy(arrays["data"][8, ::-1].copy())))
    write_h5(path, {**arrays, "label": arrays["label"][::-1]})
    with pytest.raises(BadFileError, match=r"was replaced while in use and holds other objects now \(60, before 60, or other labels\); start again"):
        data[8]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadFileError, match="not an HDF5 file with data and label"):
        data[8]
    path.unlink()
    with pytest.raises(DataNotFoundError, match="training_objectdataset.h5 is missing"):
        data[8]


def test_no_handle_travels_or_stays_open(root: Path) -> None:
    data = open_set(root, background="drop")
    expected = data[2]["points"]
    assert torch.equal(pickle.loads(pickle.dumps(data))[2]["points"], expected)
    held = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{number}").exists()]
    assert not [name for name in held if name.endswith((".h5", ".bin"))]


@pytest.mark.parametrize(("method", "compression"), [("fork", None), ("fork", "gzip"), ("spawn", "gzip")])
def test_reader_processes_give_the_same_samples(tmp_path: Path, method: str, compression: str | None) -> None:
    write_h5(file_of(tmp_path), make_arrays(), compression=compression)
    data = open_set(tmp_path, background="drop", num_points=32)
    data[0]  # whatever was opened here must not harm the children
    loader = DataLoader(data, batch_size=20, num_workers=2, multiprocessing_context=method)
    batches = list(loader)
    assert torch.equal(torch.cat([batch["points"] for batch in batches]), torch.stack([data[index]["points"] for index in range(60)]))
    assert torch.cat([batch["label"] for batch in batches]).tolist() == data.labels


def test_shots_are_nested_and_parts_are_stratified(tmp_path: Path) -> None:
    write_h5(file_of(tmp_path), make_arrays(10))
    keys = {shots: {entry.key for entry in open_set(tmp_path, shots=shots).entries} for shots in (1, 4, 8)}
    assert keys[1] < keys[4] < keys[8] and [len(keys[shots]) for shots in (1, 4, 8)] == [15, 60, 120]
    fit, val = (open_set(tmp_path, split=f"train:{part}") for part in ("fit", "val"))
    assert np.bincount(val.labels).tolist() == [1] * 15 and np.bincount(fit.labels).tolist() == [9] * 15
    assert not {entry.key for entry in fit.entries} & {entry.key for entry in val.entries}
    assert len(open_set(tmp_path, limit=7)) == 7
    with pytest.raises(InputError, match="has 10 of the 11 objects asked for"):
        open_set(tmp_path, shots=11)
