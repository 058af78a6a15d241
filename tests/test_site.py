"""The site of the docs builds without a warning, and the notebook runs from its first cell to its last."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import REPO
from nbclient import NotebookClient
from triplet_runs import write_point_encoder

from clip2x.encoders.clip import ClipTowers
from clip2x.storage import sha256_of_file

TOUR = REPO / "docs" / "tour.ipynb"


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(tmp_path / "trees"), str(REPO / "docs"),
               str(tmp_path / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {path.stem: path.read_text() for path in (tmp_path / "html").glob("*.html")}
    assert {path.stem for path in (REPO / "docs").glob("*.md")} | {"tour"} <= pages.keys()
    assert 'href="tasks.html"' in pages["index"] and 'href="results.html"' in pages["index"], "links of the README lead into the site"
    assert "clip2x.load" in pages["api"] and "DataNotFoundError" in pages["api"]
    assert pages["tour"].count("<img") >= 3, "the notebook is shown with the pictures that it was kept with"


def test_the_notebook_is_kept_with_what_it_prints() -> None:
    cells = [cell for cell in nbformat.read(TOUR, 4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(cell.outputs for cell in cells[1:]) and {output.output_type for output in outputs} <= {"stream", "execute_result"}
    assert not any("/" in output.get("text", "").replace("nuscenes/", "") for output in outputs), "no paths of the machine that ran it"


def test_the_notebook_runs(tiny_world: Path, tiny_clip: Path, tiny_store: Path, disturbed_depth: Path, tmp_path: Path,
                           monkeypatch: pytest.MonkeyPatch) -> None:
    """With the smallest mini-world and small random encoders; there are fewer frames and objects to choose from."""
    (tmp_path / "miniworld").symlink_to(tiny_world)
    for stage in ("pretrain_depth", "pretrain_points"):
        (tmp_path / stage).mkdir()
    shutil.copy(disturbed_depth, tmp_path / "pretrain_depth" / "depth_encoder.safetensors")
    write_point_encoder(tmp_path / "pretrain_points" / "point_encoder.safetensors", ClipTowers("clip2x-small", str(tiny_clip)),
                        depth_sha256=sha256_of_file(disturbed_depth))
    notebook = nbformat.read(TOUR, 4)
    for cell in notebook.cells:
        cell.source = cell.source.replace('frame="3"', 'frame="0"').replace("shots=4", "shots=1")
    monkeypatch.setenv("RUNS", str(tmp_path))
    monkeypatch.setenv("STORE", str(tiny_store))
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(TOUR.parent)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    for expected in ("words this CLIP never saw: ['zither']", "sum of both", "triplets of", "linear probe"):
        assert expected in printed
