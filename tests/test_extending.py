"""The examples of docs/extending.md are run: a manifest, a reader, a detector, an encoder of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPO, collect_arguments, points_arguments

import clip2x
from clip2x.data.readers import READERS, open_dataset
from clip2x.data.triplets.store import TripletStore
from clip2x.encoders.points import KINDS
from clip2x.errors import InputError
from clip2x.stage_cli import run_stage

TEXT = (REPO / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
MANIFEST = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
OFF = "OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 {height}\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The page's code as a module that YAML can name; what it registers is taken back."""
    module = ModuleType("examples_of_extending")
    monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    readers, kinds = dict(READERS), dict(KINDS)
    for block in BLOCKS:
        exec(compile(block, "docs/extending.md", "exec"), module.__dict__)
    for name in ("Scans", "MiddleOfThePicture", "PointNet"):
        getattr(module, name).__module__ = module.__name__
    yield module
    for table, before in ((READERS, readers), (KINDS, kinds)):
        table.clear()  # type: ignore[attr-defined]
        table.update(before)  # type: ignore[attr-defined]


def manifest(folder: Path, **changes: str) -> Path:
    assert MANIFEST is not None
    content = MANIFEST.group(1)
    for old, new in changes.items():
        content = content.replace(f"{old}: ", f"{old}: {new}  # ", 1)
    (folder / "tools.yaml").write_text(content)
    return folder / "tools.yaml"


def test_a_manifest_is_enough_for_files_of_a_known_form(tmp_path: Path) -> None:
    for name, height in (("hammer", 1), ("saw", 3)):
        for number in range(2):
            path = tmp_path / "tools" / name / "test" / f"{name}_{number}.off"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(OFF.format(height=height))
    data = open_dataset(f"{manifest(tmp_path)}/off/test", tmp_path, num_points=64, cache=tmp_path / "cache")
    assert data.class_names == ("hammer", "saw") and [int(data[place]["label"]) for place in range(len(data))] == [0, 0, 1, 1]
    sample = data[3]["points"]
    assert sample.shape == (64, 3) and int((sample.amax(dim=0) - sample.amin(dim=0)).argmax()) == 1, "z up in the files, y up here"
    with pytest.raises(InputError, match="write manifest/variant/split"):
        open_dataset("tools", tmp_path)


def test_a_reader(examples: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "tools" / "test"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("hammer-1", "hammer-2", "saw-1"):
        np.save(folder / f"{name}.npy", rng.normal(size=(100, 3)))
    data = open_dataset(f"{manifest(tmp_path, reader='scans')}/off/test", tmp_path, num_points=32)
    assert type(data).__name__ == "Scans" and [int(data[place]["label"]) for place in range(3)] == [0, 0, 1]
    assert float(data[0]["points"].norm(dim=1).max()) == pytest.approx(1, abs=1e-5)


def test_a_detector(examples: ModuleType, tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """Named in the place of the profile's detector, it fills a store."""
    arguments = collect_arguments(tiny_world, tiny_clip, tmp_path / "store")
    kept = [pair for pair in zip(arguments[1::2], arguments[2::2], strict=True) if not pair[0].startswith("--model.detector")]
    run_stage(["predict", *(part for pair in kept for part in pair), "--model.detector", "examples_of_extending.MiddleOfThePicture",
               "--model.detector.name", "chair", "--data.frames", "[sunrgbd/objects10/train]"])
    store = TripletStore(tmp_path / "store")
    assert len(store) > 0 and {store.class_names[store[place].text_id] for place in range(len(store))} == {"chair"}


def test_an_encoder(examples: ModuleType, tiny_pairs: Path, tiny_clip: Path, named_store: Path, tmp_path: Path) -> None:
    """Trained by its path, stored, loaded and used; without its registration the checkpoint says what is missing."""
    arguments = points_arguments(tiny_pairs, tiny_clip, named_store, tmp_path, steps=2)
    run_stage([*arguments, "--data.watch", "[]", "--model.encoder", "examples_of_extending.PointNet", "--model.encoder.width", "32"])
    checkpoint = tmp_path / "point_encoder.safetensors"
    clouds: Any = torch.randn(2, 50, 3)
    recognizer = clip2x.load(checkpoint, device="cpu")
    assert type(recognizer.encoder).__name__ == "PointNet" and recognizer.classify(clouds, ["chair", "car"]).shape == (2, 2)
    padded = torch.cat([clouds, clouds[:, :10]], dim=1)
    torch.testing.assert_close(recognizer.encoder(padded), recognizer.encoder(clouds))
    del KINDS["pointnet"]
    with pytest.raises(clip2x.errors.CheckpointMismatchError, match="got kind 'pointnet'"):
        clip2x.load(checkpoint)
