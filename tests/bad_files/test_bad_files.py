"""Thousands of bad files for every reader: the documented errors in one line, no hang, no memory, nothing outside of the root, no code."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cloud_readers
import dataset_readers
import model_readers
import pytest
import store_readers
from conftest import BAD_FILES
from harness import try_bad_files

OTHER_FORMS = {  # of readers that `make test` tries in another form; all are tried by `make test-all` and `make chaos`
    "off triangles", "ply big", "pcd ascii", "pcd binary", "npz packed", "pts", "csv", "sweep", "png palette", "gif", "webp", "bmp", "tga", "tif",
    "sunrgbd list", "intrinsics", "extrinsics", "2-D boxes", "word list", "class file", "coco list", "scene boxes", "results", "modelnet text",
    "scanobjectnn packed", "rendering stamp", "embed-proxies again", "image features renamed", "depth ckpt", "point safetensors", "unpacked scans"}
READERS = {**cloud_readers.READERS, **dataset_readers.READERS, **store_readers.READERS, **model_readers.READERS}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    place = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="bad-files-"))
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in OTHER_FORMS else name for name in READERS])
def test_bad_files_are_refused_or_read(name: str, folder: Path, request: pytest.FixtureRequest) -> None:
    report = try_bad_files(READERS[name], folder, request.config.getoption("--bad-files"), request.config.getoption("--chaos-seed"))
    if report.problem:
        kept = Path(tempfile.gettempdir()) / f"bad-files-{name.replace(' ', '-')}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept, symlinks=True)
        pytest.fail(f"{name}: after {report.files} files, which are kept in {kept}:\n{report.problem}", pytrace=False)
    request.config.stash.setdefault(BAD_FILES, []).append((name, report.files, report.refused, report.resident >> 20))
    assert report.files
