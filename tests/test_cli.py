"""The `clip2x` command: what it answers, and one line for anything that is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPO

import clip2x
from clip2x.cli import main
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth import DepthViewEncoder, pool_view_features
from clip2x.encoders.depth_checkpoint import save_depth_checkpoint
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.geometry import unit_sphere


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    points = np.random.default_rng(0).normal(size=(1500, 3)).astype(np.float32) * (1.0, 2.0, 0.5)
    np.save(tmp_path / "cloud.npy", points)
    return tmp_path / "cloud.npy"


@pytest.fixture(scope="module")
def depth_file(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A depth encoder whose tower is the small CLIP's with its last matrix reversed, so that it ranks otherwise."""
    clip = ClipTowers("clip2x-small", str(tiny_clip))
    tower = clip.trainable_image_tower()
    with torch.no_grad():
        for parameter in list(tower.parameters())[-1:]:
            parameter.copy_(-parameter)
    path = tmp_path_factory.mktemp("pretrain_depth") / "depth_encoder.safetensors"
    save_depth_checkpoint(path, tower, clip, {
        "stage": "pretrain_depth", "scale": 50.0, "ensemble": {"tuned": 30.0, "clip": 0.5}, "class_names": ["chair"], "notes": [],
        "encoder": {"kind": "depth_views", "views": "clip2point-10", "point_radius": 0.045, "num_points": 1024, "up": "y", "pooling": "cosine_sum"}})
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(list(arguments))
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_classify_ranks_the_names(cloud: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "classify", str(cloud), "--classes", "chair,table,bed", "--checkpoint", str(tiny_clip), "--json")
    assert (status, err) == (0, "")
    labels = json.loads(out)["labels"]
    assert {label["name"] for label in labels} == {"chair", "table", "bed"}
    shares = [label["probability"] for label in labels]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1.0, abs=1e-5)


def test_classify_reads_meshes_and_names_unknown_words(tiny_world: Path, tiny_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meshes = [str(path) for path in sorted((tiny_world / "ModelNet10" / "chair" / "test").glob("*.off"))]
    mesh = next((tiny_world / "shapenet" / "ShapeNetCore.v2").rglob("*.obj"))
    names = tmp_path / "names.txt"
    names.write_text("# some names\nchair\nsousaphone\n")
    status, out, err = run(capsys, "classify", *meshes, str(mesh), "--classes", str(names), "--checkpoint", str(tiny_clip))
    assert status == 0
    assert [line.split(": ")[0].rsplit(" (", 1)[1] for line in out.splitlines()] == ["z up)", "z up)", "y up)"]
    assert err == "note: the small CLIP never saw a word of 'sousaphone'; its score means nothing.\n"


def test_a_long_list_of_names_is_no_file_name(cloud: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ",".join(f"chair number {number}" for number in range(60))
    assert run(capsys, "classify", str(cloud), "--classes", names, "--checkpoint", str(tiny_clip))[0] == 0


def test_the_up_axis_matters(cloud: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("classify", str(cloud), "--classes", "chair,table", "--checkpoint", str(tiny_clip), "--json")
    answers = {up: run(capsys, *arguments, "--up", up)[1] for up in ("x", "y", "z")}
    assert len(set(answers.values())) == 3
    assert json.loads(run(capsys, *arguments)[1])["up"] == "y"


def test_classify_takes_a_depth_encoder_and_its_sum_with_clip(cloud: Path, tiny_clip: Path, depth_file: Path, tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, with its CLIP named again, as an ensemble; the default is the depth encoder where there is one, and it is named."""
    arguments = ("classify", str(cloud), "--classes", "chair,table,bed", "--json")
    named = ("--checkpoint", str(depth_file))
    lines = {}
    for extra in ((), ("--pretrained", str(tiny_clip)), ("--ensemble",)):
        status, out, err = run(capsys, *arguments, *named, *extra)
        assert (status, err) == (0, "")
        lines[extra] = json.loads(out)
    alone, summed = lines[()], lines["--ensemble",]
    assert alone == lines["--pretrained", str(tiny_clip)] and alone["checkpoint"] == str(depth_file) and alone["ensemble"] is None
    assert summed["ensemble"] == {"tuned": 30.0, "clip": 0.5} and summed["labels"] != alone["labels"]
    assert alone["clip"] == ClipTowers("clip2x-small", str(tiny_clip)).id
    monkeypatch.chdir(tmp_path)
    for name, source in (("pretrain_clip/clip.safetensors", tiny_clip), ("pretrain_depth/depth_encoder.safetensors", depth_file)):
        path = Path("runs/mini") / name
        path.parent.mkdir(parents=True)
        path.symlink_to(source)
        status, out, err = run(capsys, *arguments)
        assert (status, err, json.loads(out)["checkpoint"]) == (0, f"note: using {path}\n", str(path))
    assert json.loads(out)["labels"] == alone["labels"]


def test_classify_refuses_another_clip_for_a_depth_encoder(cloud: Path, tiny_clip: Path, depth_file: Path, tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(ClipTowers("clip2x-small", random_weights=True).text_tower.state_dict(), tmp_path / "other.pt")
    for extra, message in ((["--checkpoint", str(depth_file), "--pretrained", str(tmp_path / "other.pt")], "needs the CLIP of its training"),
                           (["--checkpoint", str(tiny_clip), "--ensemble"], "is a CLIP itself"),
                           (["--clip", "clip2x-small", "--pretrained", str(tiny_clip), "--ensemble"], "give --checkpoint FILE or --method depth"),
                           (["--pretrained", "openai"], "--pretrained belongs to a model or an encoder; give --clip MODEL")):
        status, out, err = run(capsys, "classify", str(cloud), "--classes", "chair", *extra)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err


BAD_CLASSIFY = [
    (["--classes", "chair,chair"], "chair"),
    (["--classes", "chair,,table"], "empty"),
    (["--classes", "chair", "--top", "0"], "must be a whole number of at least 1, got '0'"),
    (["--classes", "chair", "--clip", "ViT-B-32-quickgelu"], "give one of --checkpoint FILE, --method NAME, and --clip MODEL with --pretrained"),
    (["--classes", "chair", "--up", "w"], "invalid choice: 'w'"),
    (["--classes", "chair", "--templates", "a photo"], "{}"),
    (["--classe", "chair"], "--classes"),
    (["--classes", "no/such/names.txt"], "no/such/names.txt"),
    (["--classes", "chair", "--seed", "-1"], "at least 0"),
]


@pytest.mark.parametrize(("extra", "message"), BAD_CLASSIFY, ids=[" ".join(case[0]) for case in BAD_CLASSIFY])
def test_bad_arguments_are_one_line(extra: list[str], message: str, cloud: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "classify", str(cloud), "--checkpoint", str(tiny_clip), *extra)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


BAD_FILES = {
    "missing.npy": None,
    "empty.txt": b"",
    "header.off": b"OOF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
    "range.off": b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n",
    "short.off": b"OFF\n3 2 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
    "nan.txt": b"0 0 0\n1 nan 0\n",
    "infinite.txt": b"0 0 0\n1 inf 0\n",
    "repeated.txt": b"1 2 3\n1 2 3\n1 2 3\n",
    "columns.txt": b"1 2\n3 4\n",
    "unknown.xyzw": b"1 2 3\n",
    "damaged.npy": b"\x93NUMPY\x01\x00v\x00",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_one_line_and_the_others_still_run(name: str, cloud: Path, tiny_clip: Path, tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    content = BAD_FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    status, out, err = run(capsys, "classify", str(tmp_path / name), str(cloud), "--classes", "chair,bed", "--checkpoint", str(tiny_clip))
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert name in err
    assert out.startswith(str(cloud))


def test_a_missing_checkpoint_says_what_to_run(cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "classify", str(cloud), "--classes", "chair")
    assert status == 2
    assert "run `make pretrain-clip`" in err


def test_plain_clip_weights_are_no_checkpoint(cloud: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "plain.pt")
    status, _, err = run(capsys, "classify", str(cloud), "--classes", "chair", "--checkpoint", str(tmp_path / "plain.pt"))
    assert status == 2
    assert "--clip MODEL --pretrained FILE" in err


def test_recognizer_equals_its_parts(tiny_clip: Path) -> None:
    """Softmax of scale times cosine, by hand; embeddings do not depend on position, scale or order of the points."""
    points = torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0))
    recognizer = clip2x.load(tiny_clip, device="cpu")
    towers = ClipTowers("clip2x-small", str(tiny_clip))
    embeds = pool_view_features(DepthViewEncoder(towers, "clip2point-10", 0.045)(unit_sphere(points)))
    names = class_embeddings(towers, ["chair", "bed"], ["image of a {}"])
    expected = torch.softmax(towers.logit_scale * embeds @ names.T, dim=-1)
    assert torch.allclose(recognizer.classify(points, ["chair", "bed"]), expected, atol=1e-5)
    assert torch.allclose(recognizer.embed(points).norm(dim=-1), torch.ones(2), atol=1e-5)
    moved = 7.0 * points[:, torch.randperm(300)] + 3.0
    assert torch.allclose(recognizer.embed(moved), recognizer.embed(points), atol=2e-2)
    with pytest.raises(clip2x.errors.InputError, match=r"points must be \(B, N, 3\), got \(300, 3\)"):
        recognizer.embed(points[0])


def test_doctor_runs_in_an_empty_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-m", "clip2x", "doctor"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stdout
    assert "modelnet10" in done.stdout
    assert not any(tmp_path.iterdir())


def test_unknown_commands_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "clasify")
    assert status == 2
    assert "invalid choice: 'clasify'" in err
    assert err.count("\n") == 1


def test_a_bad_override_ends_without_a_traceback() -> None:
    command = [sys.executable, "-m", "stages", "fit", "--config", "pretrain_clip", "--trainer.max_epoch", "3"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == "error: unknown option --trainer.max_epoch; did you mean --trainer.max_epochs?"
    assert "Traceback" not in done.stderr


@pytest.mark.data
def test_classify_real_airplanes(shared_data: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(path) for path in sorted((shared_data / "ModelNet40" / "airplane" / "train").glob("*.off"))]
    status, out, _ = run(capsys, "classify", *files, "--classes", "airplane,bathtub,bed", "--checkpoint", str(tiny_clip))
    assert status == 0
    assert len(out.splitlines()) == len(files) > 0
