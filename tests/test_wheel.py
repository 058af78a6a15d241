"""A wheel built from the repository works in an empty folder, with its manifests and stages inside."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import REPO


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it where nothing else of ours is."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(REPO)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_puts_only_clip2x_into_site_packages(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {"clip2x"}


def test_the_wheel_works_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    code = (f"import sys; sys.path.insert(0, {str(installed)!r}); import clip2x, clip2x.cli; assert clip2x.__file__.startswith({str(installed)!r}); "
            "from clip2x.manifest import manifest_folder, manifest_names; from clip2x.stage_cli import stage_folder; "
            "assert (manifest_folder() / 'lists' / 'nuscenes_train.txt').is_file(); "
            "print(manifest_names(), sorted(str(path.relative_to(stage_folder())) for path in stage_folder().rglob('*.yaml'))); "
            "sys.exit(clip2x.cli.main(['doctor']))")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "['modelnet10', 'modelnet40', 'nuscenes', 'scanobjectnn', 'shapenet', 'streets', 'sunrgbd']" in done.stdout
    stages = [f"{name}.yaml" for name in ("adapt", "collect_proxies", "eval_zeroshot", "few_shot_points", "mini/adapt", "mini/collect_proxies",
                                          "mini/eval_zeroshot", "mini/few_shot_points", "mini/pretrain_depth", "mini/pretrain_depth_unseen",
                                          "mini/pretrain_points", "mini/pretrain_points_unseen", "mini/tune_depth", "mini/tune_gdpa", "pretrain_clip",
                                          "pretrain_depth", "pretrain_points", "tune_depth", "tune_gdpa")]
    assert str(stages) in done.stdout
