"""`clip2x view`: the page of one cloud."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clip2x.cli import main
from clip2x.depth import DepthViews
from clip2x.evaluation.cloud_page import CloudView, cloud_page
from clip2x.geometry import unit_sphere

NASTY = "</script><b>x</b> & \"y\""


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    """Points of a box that is 1 wide, 3 high (y) and 2 deep."""
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (2000, 3)) * [1, 3, 2]
    np.save(tmp_path / "box.npy", points)
    return tmp_path / "box.npy"


def stored(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="scene">(.*?)</script>', page, re.DOTALL)
    assert found
    content: dict[str, object] = json.loads(found.group(1))
    return content


def test_texts_are_escaped_nothing_is_fetched_and_points_stand_upright() -> None:
    points = np.array([[0, 1, 0], [0, -1, 0], [0.5, 0, 0], [0, 0, 0.25]] * 30, dtype=np.float32)
    views = np.zeros((2, 8, 8), dtype=np.float32)
    page = cloud_page(CloudView(NASTY, NASTY, points, views, [NASTY, "azimuth 0°"], NASTY, [(NASTY, 0.75), ("chair", 0.25)], (NASTY,)))
    assert "<b>" not in page and not re.search(r"(src|href)=\"(?!data:)", page) and "http" not in page
    assert page.count('<img src="data:image/png') == 2 and "75.0&nbsp;%" in page
    data = stored(page)
    packed = np.frombuffer(base64.b64decode(str(data["points"])), dtype="<i2").reshape(-1, 3)
    heights = packed[:, 2] * float(str(data["step"])) + float(data["middle"][2])  # type: ignore[index]
    assert heights[:4] == pytest.approx([1, -1, 0, 0], abs=1e-3), "our y is the page's height"
    assert data["objects"] == [] and data["dot"]


def test_the_page_shows_the_names_and_the_very_views_of_the_encoder(cloud: Path, disturbed_depth: Path, tmp_path: Path,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    page_file = tmp_path / "pages" / "box.html"
    arguments = ["view", str(cloud), "--classes", "chair,table,car", "--checkpoint", str(disturbed_depth), "--output", str(page_file)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert main(["classify", str(cloud), "--classes", "chair,table,car", "--checkpoint", str(disturbed_depth), "--top", "1"]) == 0
    best = capsys.readouterr().out.split(": ")[1].split(" %")[0]
    page = page_file.read_text()
    assert printed.strip() == f"page: {page_file}; {best} %" and "Depth views that the encoder saw" in page
    pictures = [np.asarray(Image.open(BytesIO(base64.b64decode(item)))) for item in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert len(pictures) == 6
    points = np.load(cloud)[:, :3]
    high = DepthViews("clip2point-6", 64, 0.045)(unit_sphere(torch.from_numpy(points).float()[None]))[0]
    tallness = [(picture < 255).any(axis=1).sum() / (picture < 255).any(axis=0).sum() for picture in (pictures[0], (255 * high[0].numpy()).round())]
    assert tallness[0] == pytest.approx(tallness[1], rel=0.15), "the same camera"


def test_without_names_no_encoder_is_needed(cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["view", "box.npy"]) == 0
    page = (tmp_path / "box.html").read_text()
    assert "no encoder was asked" in page and page.count("<figure>") == 10 and "<h2>Names" not in page


@pytest.mark.parametrize(("extra", "message"), [
    (["--output", "page.txt"], "give a name that ends in .html"),
    (["--classes", "chair", "--runs", "nowhere"], "there is no nowhere/"),
])
def test_bad_arguments_are_one_line(extra: list[str], message: str, cloud: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(cloud), *extra]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_browser_draws_the_cloud(cloud: Path, tmp_path: Path) -> None:
    assert main(["view", str(cloud), "--output", str(tmp_path / "box.html")]) == 0
    for width in (1200, 500):
        subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={tmp_path / 'shot.png'}",
                        f"--window-size={width},900", "--virtual-time-budget=3000", f"file://{tmp_path / 'box.html'}"],
                       check=True, capture_output=True, timeout=120)
        picture = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")).astype(int)
        dark = (picture == [20, 24, 31]).all(axis=-1)
        bright = (np.ptp(picture, axis=-1) < 3) & (picture[..., 0] > 110) & (picture[..., 0] < 235)
        rows, columns = np.nonzero(dark)
        inside = bright[rows.min():rows.max(), columns.min():columns.max()]
        assert dark.mean() > 0.1 and inside.mean() > 0.02, "points on the dark ground"
