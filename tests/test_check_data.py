"""`clip2x check-data`: complete, partial, absent, broken."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from clip2x.cli import main
from clip2x.data.check import check_data, complete_variants
from clip2x.manifest import load_manifest, manifest_names


def write_arrays(root: Path, count: int = 3991) -> Path:
    """Write PointNet's layout of ModelNet10 as the manifest describes it, with few points."""
    manifest = load_manifest("modelnet10")
    folder = root / manifest.variant("hdf5_1024").folder
    folder.mkdir(parents=True)
    (folder / "shape_names.txt").write_text("\n".join(manifest.class_folders))
    (folder / "train_files.txt").write_text("ply_data_train0.h5\n")
    with h5py.File(folder / "ply_data_train0.h5", "w") as file:
        file["data"] = np.random.default_rng(0).normal(size=(count, 4, 3)).astype(np.float32)
        file["label"] = (np.arange(count) % 10).astype(np.uint8)[:, None]
    return folder


def test_a_complete_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_arrays(tmp_path)
    assert main(["check-data", "modelnet10", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "hdf5_1024/train" in out and "complete  3,991 of 3,991 samples" in out and out.strip().endswith("complete: hdf5_1024")
    assert "off/train                absent    0 of 3,991 samples" in out


def test_a_partial_copy_says_where_to_get_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_arrays(tmp_path, 100)
    assert main(["check-data", "modelnet10/hdf5_1024", "--root", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "partial   100 of 3,991 samples" in out and "modelnet.cs.princeton.edu" in out and out.strip().endswith("incomplete")


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in manifest_names():
        assert main(["check-data", name, "--root", str(tmp_path), "--json"]) == 1
        answer = json.loads(capsys.readouterr().out)
        assert not answer["complete"] and {split["status"] for split in answer["splits"]} == {"absent"}
        assert all(split["notes"] for split in answer["splits"])


def test_deep_opens_every_sample_and_compares_hashes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_arrays(tmp_path)
    with h5py.File(folder / "ply_data_train0.h5", "a") as file:
        file["data"][7] = np.nan
        file["data"][9] = 0.0
    assert check_data("modelnet10/hdf5_1024", tmp_path)[0].status == "complete", "shallow: samples are not read"
    report = check_data("modelnet10/hdf5_1024", tmp_path, deep=True)[0]
    assert report.status == "broken" and report.num_problems == 3
    assert [name in " ".join(report.problems) for name in ("h5#7", "h5#9", "sha256 is not the one in the manifest")] == [True] * 3
    assert complete_variants([report]) == []
    assert main(["check-data", "modelnet10", "--root", str(tmp_path), "--deep"]) == 1
    assert "h5#7" in capsys.readouterr().out


def test_a_broken_list_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_arrays(tmp_path)
    (folder / "ply_data_train0.h5").write_bytes(b"no hdf5")
    assert main(["check-data", "modelnet10/hdf5_1024", "--root", str(tmp_path)]) == 1
    assert "not an HDF5 file with data and label" in capsys.readouterr().out


def test_wrong_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", "modelnet11", "--root", str(tmp_path)]) == 2
    assert "no manifest is called 'modelnet11'; there are modelnet10" in capsys.readouterr().err
    assert main(["check-data", "modelnet10/obj", "--root", str(tmp_path)]) == 2
    assert "modelnet10 has no variant 'obj'" in capsys.readouterr().err
    assert main(["check-data", "modelnet10", "--root", str(tmp_path / "nowhere")]) == 2
    assert "is no folder" in capsys.readouterr().err


@pytest.mark.data
def test_real_modelnet10_is_complete(shared_data: Path) -> None:
    reports = check_data("modelnet10/hdf5_1024", shared_data, deep=True)
    assert [report.status for report in reports] == ["complete"] and reports[0].found == 3991
