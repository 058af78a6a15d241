"""`clip2x check-data`: complete, partial, absent, broken."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from clip2x.cli import main
from clip2x.data.check import check_data, complete_variants, manifest_and_variant
from clip2x.data.readers import open_dataset
from clip2x.errors import BadFileError
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


def test_files_known_to_be_missing_are_never_complete(tmp_path: Path) -> None:
    """The manifest states no count for this variant; the list of files tells that one of two is not there."""
    folder = write_arrays(tmp_path).rename(tmp_path / load_manifest("modelnet40").variant("hdf5").folder)
    (folder / "shape_names.txt").write_text("\n".join(load_manifest("modelnet40").class_folders))
    (folder / "train_files.txt").write_text("ply_data_train0.h5\nply_data_train1.h5\n")
    report = check_data("modelnet40/hdf5", tmp_path)[0]
    assert report.expected is None and report.status == "partial" and "1 of 2 files of train_files.txt are missing" in report.notes[0]


def test_deep_reads_the_files_and_not_points_kept_from_an_earlier_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = tmp_path / "ModelNet10" / "bed" / "test" / "bed_0001.off"
    path.parent.mkdir(parents=True)
    path.write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    assert len(open_dataset("modelnet10/off/test", tmp_path)[0]["points"]) == 1024
    status = path.stat()
    path.write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 9\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # damaged on the disk: size and time stay
    report = next(report for report in check_data("modelnet10/off", tmp_path, deep=True) if report.split == "test")
    assert report.status == "broken" and "bed_0001.off" in report.problems[0]


def refuse(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make a folder unreadable, also for root."""
    scan, stat = os.scandir, os.stat

    def asked(path: Any) -> Any:
        if Path(str(path)).is_relative_to(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return path

    monkeypatch.setattr(os, "scandir", lambda path=".": scan(asked(path)))
    monkeypatch.setattr(os, "stat", lambda path, **options: asked(Path(str(path)).parent) and stat(path, **options))


@pytest.mark.parametrize("unreadable", ["", "ModelNet10", "ModelNet10/bed", "ModelNet10/bed/test"])
def test_an_unreadable_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                                          unreadable: str) -> None:
    (tmp_path / "ModelNet10" / "bed" / "test").mkdir(parents=True)
    refuse(monkeypatch, tmp_path / unreadable)
    assert main(["check-data", "modelnet10/off", "--root", str(tmp_path), "--deep"]) == 1
    assert "Permission denied" in capsys.readouterr().out
    with pytest.raises(BadFileError, match="the folder cannot be read .Permission denied"):
        open_dataset("modelnet10/off/test", tmp_path)


@pytest.mark.data
def test_real_modelnet10_is_complete(shared_data: Path) -> None:
    reports = check_data("modelnet10/hdf5_1024", shared_data, deep=True)
    assert [report.status for report in reports] == ["complete"] and reports[0].found == 3991


@pytest.mark.parametrize(("name", "parts"), [
    ("modelnet40", ("modelnet40", "")), ("modelnet40/off", ("modelnet40", "off")), ("modelnet40/off/test", ("modelnet40", "off/test")),
    ("/home/me/tools.yaml", ("/home/me/tools.yaml", "")), ("./tools.yaml/off", ("./tools.yaml", "off"))])
def test_a_manifest_is_named_or_a_path(name: str, parts: tuple[str, str]) -> None:
    assert manifest_and_variant(name) == parts
