"""`clip2x classify`, `embed` and `search` over folders and patterns; the index that is kept, used again and renewed."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import clip2x
from clip2x.cli import main
from clip2x.cloud_files import list_clouds, read_turned, up_of
from clip2x.errors import DataNotFoundError

NAMES = "chair,table,bed"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three clouds, one of them in a folder below, and what is no cloud."""
    place = tmp_path / "clouds"
    (place / "more").mkdir(parents=True)
    (place / ".hidden").mkdir()
    for number, name in enumerate(("a.npy", "b.npy", "more/c.npy", ".hidden/d.npy")):
        np.save(place / name, np.random.default_rng(number).normal(size=(200, 3)).astype(np.float32))
    (place / "readme.md").write_text("no cloud")
    return place


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(list(arguments))
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_files_folders_and_patterns_are_listed_once(folder: Path) -> None:
    a, b, c = folder / "a.npy", folder / "b.npy", folder / "more/c.npy"
    assert list_clouds([str(b), str(folder)]) == [b, a, c]
    assert list_clouds([f"{folder}/*.npy"]) == [a, b]
    assert list_clouds([f"{folder}/**/*.npy"]) == [a, b, c]
    assert list_clouds([str(folder / "gone.npy")]) == [folder / "gone.npy"], "a missing file is reported when it is read"
    with pytest.raises(DataNotFoundError, match="no cloud in this folder; files that end in"):
        list_clouds([str(_empty(folder))])
    with pytest.raises(DataNotFoundError, match="no file matches this pattern"):
        list_clouds([f"{folder}/*.ply"])


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_auto_goes_by_the_ending() -> None:
    assert [up_of(Path(name), "auto") for name in ("x.off", "x.BIN", "x.ply")] == ["z", "z", "y"]
    assert up_of(Path("x.off"), "x") == "x"


def test_classify_a_folder_as_csv_equals_the_clouds_one_by_one(folder: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "classify", str(folder), "--classes", NAMES, "--checkpoint", str(tiny_clip), "--csv", "--top", "2")
    assert (status, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(Path(row["file"]).name, row["rank"]) for row in rows] == [(name, rank) for name in ("a.npy", "b.npy", "c.npy") for rank in ("1", "2")]
    recognizer = clip2x.load(tiny_clip)
    for name in ("a.npy", "more/c.npy"):
        shares = recognizer.classify(read_turned(folder / name, 1024, up="auto")[None], NAMES.split(","))[0]
        first = next(row for row in rows if row["file"] == str(folder / name))
        assert first["name"] == NAMES.split(",")[int(shares.argmax())]
        assert float(first["probability"]) == pytest.approx(float(shares.max()), abs=2e-5)


def test_csv_and_json_are_one_or_the_other(folder: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "classify", str(folder), "--classes", NAMES, "--checkpoint", str(tiny_clip), "--csv", "--json")
    assert status == 2
    assert "--json: not allowed with argument --csv" in err


@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_embed_writes_unit_vectors_with_their_files(ending: str, folder: Path, tiny_clip: Path, tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / f"out{ending}"
    status, out, err = run(capsys, "embed", str(folder), "--checkpoint", str(tiny_clip), "--output", str(output), "--index", str(tmp_path / "index"))
    assert (status, err) == (0, "")
    assert "3 clouds (3 embedded now)" in out
    if ending == ".npz":
        stored = np.load(output)
        embeds, files, about = stored["embeds"], stored["files"].tolist(), json.loads(str(stored["about"]))
    else:
        with h5py.File(output) as file:
            embeds, files, about = file["embeds"][:], [name.decode() for name in file["files"][:]], json.loads(file.attrs["about"])
    assert files == [str(folder / name) for name in ("a.npy", "b.npy", "more/c.npy")]
    assert about["clip"].startswith("clip2x-small/sha256:") and len(about["checkpoint_sha256"]) == 64
    recognizer = clip2x.load(tiny_clip)
    own = recognizer.embed(torch.stack([read_turned(Path(file), 1024, up="auto") for file in files]))
    assert torch.allclose(torch.from_numpy(embeds), own, atol=1e-5)


def test_search_ranks_by_cosine_and_keeps_its_index(folder: Path, tiny_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["search", "chair", str(folder), "--checkpoint", str(tiny_clip), "--index", str(tmp_path / "index")]
    status, out, err = run(capsys, *command, "--json")
    assert (status, err) == (0, "")
    answer = json.loads(out)
    recognizer = clip2x.load(tiny_clip)
    words = recognizer.class_embeddings(["chair"], ["{}"])[0]
    cosines = {str(path): float(recognizer.embed(read_turned(path, 1024, up="auto")[None])[0] @ words) for path in list_clouds([str(folder)])}
    assert [item["file"] for item in answer["found"]] == sorted(cosines, key=lambda name: -cosines[name])
    assert all(item["cosine"] == pytest.approx(cosines[item["file"]], abs=1e-4) for item in answer["found"])
    assert "3 clouds searched, 0 of them embedded now" in run(capsys, *command)[2]
    np.save(folder / "b.npy", np.random.default_rng(9).normal(size=(200, 3)).astype(np.float32))
    os.utime(folder / "b.npy", ns=(1, 1))
    np.save(folder / "e.npy", np.random.default_rng(8).normal(size=(200, 3)).astype(np.float32))
    assert "4 clouds searched, 2 of them embedded now" in run(capsys, *command)[2], "one is new, one has changed"
    (folder / "a.npy").unlink()
    assert "3 clouds searched, 0 of them embedded now" in run(capsys, *command)[2]
    assert "3 clouds searched, 3 of them embedded now" in run(capsys, *command, "--up", "z")[2], "another axis, another index"


def test_what_cannot_be_read_is_said_and_the_others_are_searched(folder: Path, tiny_clip: Path, tmp_path: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.npy").write_bytes(b"nothing")
    command = ["--checkpoint", str(tiny_clip), "--index", str(tmp_path / "index")]
    status, out, err = run(capsys, "search", "chair", str(folder), *command)
    assert status == 2 and len(out.splitlines()) == 3
    assert err.startswith("error: ") and "bad.npy" in err.splitlines()[0]
    status, _, err = run(capsys, "embed", str(folder / "bad.npy"), *command, "--output", str(tmp_path / "x.npz"))
    assert status == 2 and "none of the clouds can be read, so nothing is written" in err
    assert not (tmp_path / "x.npz").exists()
    status, _, err = run(capsys, "embed", str(folder), *command, "--output", str(tmp_path / "x.txt"))
    assert status == 2 and "give a name that ends in .npz or .h5" in err


def test_a_damaged_index_is_one_line(folder: Path, tiny_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["search", "chair", str(folder), "--checkpoint", str(tiny_clip), "--index", str(tmp_path / "index")]
    assert run(capsys, *command)[0] == 0
    (index,) = (tmp_path / "index").iterdir()
    index.write_bytes(index.read_bytes()[:100])
    status, _, err = run(capsys, *command)
    assert status == 2 and "this index cannot be read" in err and len(err.splitlines()) == 1


def test_methods_take_what_make_has_put_below_a_folder(folder: Path, tiny_clip: Path, disturbed_depth: Path, tmp_path: Path,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    """The sum of a point and a depth encoder equals its parts, by the factors that the point checkpoint states."""
    import torch
    from triplet_runs import write_point_encoder

    from clip2x import load
    from clip2x.cli import CHECKPOINTS
    from clip2x.encoders.clip import ClipTowers
    from clip2x.predict import load_sum
    from clip2x.storage import sha256_of_file

    clip, runs = ClipTowers("clip2x-small", str(tiny_clip)), tmp_path / "runs"
    places = {name: runs / place for name, place in CHECKPOINTS.items()}
    for name in ("depth", "points"):
        places[name].parent.mkdir(parents=True)
    arguments = ["classify", str(folder), "--classes", "chair,table", "--runs", str(runs)]
    for method, missing in (("depth", "depth_encoder"), ("ensemble", "point_encoder")):
        assert main([*arguments, "--method", method]) == 2
        assert missing in capsys.readouterr().err
    places["depth"].write_bytes(disturbed_depth.read_bytes())
    write_point_encoder(places["points"], clip, depth_sha256="0" * 64)
    assert main([*arguments, "--method", "ensemble"]) == 2
    assert "its factors were fitted with the depth encoder 000000000000" in capsys.readouterr().err
    write_point_encoder(places["points"], clip, depth_sha256=sha256_of_file(disturbed_depth))
    clouds = torch.randn(3, 128, 3, generator=torch.Generator().manual_seed(0))
    both, depth, points = load_sum(places["points"], places["depth"], "cpu"), load(places["depth"], "cpu"), load(places["points"], "cpu")
    names = ["chair", "table", "lamp"]
    cosines = [part.embed(clouds[:, ::step]) @ part.class_embeddings(names).T for part, step in ((points, 2), (depth, 1))]
    torch.testing.assert_close(both.classify(clouds, names), (40 * cosines[0] + 20 * cosines[1]).softmax(dim=-1), atol=2e-3, rtol=0)
    assert main([*arguments, "--method", "ensemble", "--json"]) == 0
    assert '"ensemble": {"points": 40.0, "depth": 20.0}' in capsys.readouterr().out
    assert main(arguments) == 0
    assert f"note: using {places['points']}" in capsys.readouterr().err, "the point encoder comes first"
    assert main([*arguments, "--method", "depth", "--checkpoint", str(places["depth"])]) == 2
    assert "give one of --checkpoint FILE, --method NAME" in capsys.readouterr().err
    assert main(["embed", str(folder), "--output", str(tmp_path / "e.npz"), "--runs", str(runs), "--method", "ensemble"]) == 2
    assert "has no embedding of its own" in capsys.readouterr().err
