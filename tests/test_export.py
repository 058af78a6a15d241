"""`clip2x export`: what the files compute without clip2x, what their cards say, what is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import released_files
import torch
from conftest import REPO
from small_clips import MODEL, large_clip, own_clip, register_small_clips
from torch import Tensor

import clip2x
from clip2x.adapters import GatedFusion
from clip2x.cli import main
from clip2x.encoders.adapter_checkpoint import save_adapter_checkpoint
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth import DepthViewEncoder
from clip2x.encoders.depth_checkpoint import save_depth_checkpoint
from clip2x.encoders.dual import AdaptedEncoder, DualPathEncoder
from clip2x.encoders.point_checkpoint import save_point_checkpoint
from clip2x.encoders.points import PointEncoder, PointNet2, PointTransformer
from clip2x.encoders.points.grouping import first_occurrences
from clip2x.errors import InputError
from clip2x.exporting import files
from clip2x.exporting.graph import CARD_KEY, CloudGraph, trace
from clip2x.predict import Recognizer, load_sum

CLOUDS = torch.randn(5, 90, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1
KINDS = ("transformer", "pointnet2", "depth")
GRAPHS = {"torch-export": ".pt2", "onnx": ".onnx"}
EACH = [pytest.param(kind, ending, marks=() if kind == "transformer" else pytest.mark.slow) for kind in KINDS for ending in GRAPHS.values()]
Exported = Callable[[str, str], Path]
OF_DEPTH = {"kind": "depth_views", "views": "clip2point-6", "point_radius": 0.06, "num_points": 60, "up": "y", "pooling": "cosine_sum"}
OF_POINTS = {"num_points": 60, "up": "y", "channels": ["x", "y", "z"]}
SHARED = {"scale": 30.0, "templates": ["cloud of {}"], "class_names": ["chair"], "unseen_names": [], "seed": 3, "commit": "abc", "steps": 4,
          "notes": []}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipTowers:
    register_small_clips(tmp_path_factory.mktemp("configs"))
    return own_clip(tmp_path_factory.mktemp("clip") / "clip.safetensors")


def point_encoder(kind: str = "transformer") -> PointEncoder:
    torch.manual_seed(5)
    if kind == "transformer":
        return PointTransformer(32, width=32, depth=1, heads=2, num_groups=4, group_size=8, group_widths=(8, 16, 16)).eval()
    levels = [{"num_centres": number, "scales": [{"radius": radius, "num_neighbours": 6, "widths": [8]}]} for number, radius in ((12, 0.4), (4, 0.8))]
    return PointNet2(32, levels=levels, whole=[16], head=[16]).eval()


@pytest.fixture(scope="module")
def checkpoints(clip: ClipTowers, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of every kind, with random weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    places = {name: folder / f"{name}.safetensors" for name in (*KINDS, "adapter")}
    tower = clip.trainable_image_tower()
    with torch.no_grad():
        for parameter in tower.visual.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    save_depth_checkpoint(places["depth"], tower, clip, {"stage": "pretrain_depth", "ensemble": {"tuned": 20.0, "clip": 9.0}, "encoder": OF_DEPTH,
                                                         **SHARED})
    factors = {"points": 11.0, "depth": 9.0, "depth_checkpoint_sha256": hashlib.sha256(places["depth"].read_bytes()).hexdigest()}
    for kind in KINDS[:2]:
        save_point_checkpoint(places[kind], point_encoder(kind), clip,
                              {"stage": "pretrain_points", "encoder": OF_POINTS, "mean_text": None, "ensemble": factors,
                               "mined": {"nuscenes/v1.0/train": {"frames": 2, "scenes": None}}, **SHARED})
    towers = DualPathEncoder(DepthViewEncoder(tower.eval(), "clip2point-6", 0.06), clip, point_encoder(), 40)
    adapter = AdaptedEncoder(towers, GatedFusion([6, 6, 1], 32), ("depth", "clip", "points")).eval()
    save_adapter_checkpoint(places["adapter"], adapter, clip, {"encoder": OF_DEPTH, "trained_with": "x", "ensemble": None, "points": {
        **point_encoder().describe(), **OF_POINTS, "num_points": 40}, **SHARED})
    return places


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    status = main(["export", *map(str, arguments)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def graph_of(path: Path) -> Callable[[Tensor], Tensor]:
    """Open an exported graph by the libraries alone."""
    if path.suffix == ".pt2":
        module: Callable[[Tensor], Tensor] = torch.export.load(path).module()
        return module
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda clouds: torch.from_numpy(session.run(None, {"points": clouds.numpy()})[0])


@pytest.fixture(scope="module")
def exported(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A kind of encoder by a kind of graph, written by the command when it is first asked for; which takes some seconds each."""
    folder = tmp_path_factory.mktemp("exported")

    @cache
    def made(kind: str, ending: str) -> Path:
        path, file_format = folder / f"{kind}{ending}", next(name for name in GRAPHS if GRAPHS[name] == ending)
        status = main(["export", "--checkpoint", str(checkpoints[kind]), "--format", file_format, "--output", str(path)])
        assert status == 0, f"{kind}, {file_format}: see what was printed"
        return path

    return made


@pytest.mark.parametrize(("kind", "ending"), EACH)
def test_a_graph_embeds_as_the_recogniser_does(kind: str, ending: str, exported: Exported, checkpoints: dict[str, Path]) -> None:
    """For batches and clouds of other sizes than the traced one; NaN for what the recogniser refuses."""
    recognizer, path = clip2x.load(checkpoints[kind], "cpu"), exported(kind, ending)
    ask = graph_of(path)
    for clouds in (CLOUDS, CLOUDS[:1, :30], CLOUDS[:2, :12].repeat(1, 40, 1)):
        difference = (ask(clouds) - recognizer.embed(clouds)).abs().max()
        assert difference < (1e-5 if ending == ".pt2" or kind != "depth" else 1e-2)
    clouds = CLOUDS[:4].clone()
    clouds[0, 3, 1], clouds[1, 5, 0], clouds[2] = torch.nan, torch.inf, 7.0
    given = ask(clouds)
    assert given[:3].isnan().all() and given[3].isfinite().all()


@pytest.mark.parametrize(("kind", "ending"), EACH)
def test_the_card_fits_the_file(kind: str, ending: str, exported: Exported) -> None:
    """And neither names a place of this machine."""
    path = exported(kind, ending)
    text = path.with_name(f"{path.name}.json").read_text()
    card, content = json.loads(text), path.read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest() and card["file"] == path.name and GRAPHS[card["format"]] == ending
    assert card["input"]["shape"] == ["batch", "points", 3] and card["output"]["shape"] == ["batch", 32] and card["output"]["name"] == "embeds"
    assert card["input"]["fewest_points"] == {"transformer": 8, "pointnet2": 12, "depth": 1}[kind]
    assert max(card["compared_with_clip2x"]["largest_difference"].values()) <= card["compared_with_clip2x"]["allowed"]
    assert card["training"]["seed"] == 3 and card["training"]["commit"] == "abc" and card["clip"]["model"] == MODEL
    assert list(card["licence"]["data"]) == (["shapenet"] if kind == "depth" else ["nuscenes"])
    assert (card["views"] is None) == (kind != "depth") and (kind != "depth" or len(card["views"]["azimuth_deg"]) == 6)
    assert '"columns": ["x", "y", "z"]' in text
    for place in (str(REPO), str(path.parent)):
        assert place.encode() not in content and place not in text


def test_the_files_need_no_clip2x(exported: Exported, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """A fresh process in which clip2x cannot be imported gives what the recogniser gives, and finds the card inside."""
    np.save(tmp_path / "clouds.npy", CLOUDS.numpy())
    program = f"""
import sys
sys.modules["clip2x"] = None  # an import of it fails
import json, numpy, onnxruntime, torch
first, second = sys.argv[1:]
clouds = numpy.load("clouds.npy")
extra = {{"{CARD_KEY}": ""}}
by_torch = torch.export.load(first, extra_files=extra).module()(torch.from_numpy(clouds)).numpy()
session = onnxruntime.InferenceSession(second)
by_onnx = session.run(["embeds"], {{"points": clouds}})[0]
cards = [extra["{CARD_KEY}"], session.get_modelmeta().custom_metadata_map["{CARD_KEY}"]]
numpy.savez("answers.npz", by_torch=by_torch, by_onnx=by_onnx, formats=[json.loads(card)["format"] for card in cards])
"""
    paths = [str(exported("transformer", ending)) for ending in GRAPHS.values()]
    subprocess.run([sys.executable, "-c", program, *paths], cwd=tmp_path, check=True)
    answers = np.load(tmp_path / "answers.npz")
    expected = clip2x.load(checkpoints["transformer"], "cpu").embed(CLOUDS).numpy()
    assert np.abs(answers["by_torch"] - expected).max() < 1e-6 and np.abs(answers["by_onnx"] - expected).max() < 1e-5
    assert answers["formats"].tolist() == list(GRAPHS)


def recognizers(checkpoints: dict[str, Path]) -> dict[str, Recognizer]:
    return {"adapter": clip2x.load(checkpoints["adapter"], "cpu"), "ensemble": clip2x.load(checkpoints["depth"], "cpu", ensemble=True),
            "sum": load_sum(checkpoints["transformer"], checkpoints["depth"], "cpu")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adapter", "ensemble", "sum"])
def test_joined_encoders_are_one_graph(name: str, checkpoints: dict[str, Path]) -> None:
    """Those that give a point encoder a part of the cloud only take clouds of one size."""
    recognizer = recognizers(checkpoints)[name]
    names = ["chair", "bed", "lamp"]
    graph = CloudGraph(recognizer, names)
    assert graph.any_number == (name == "ensemble") and graph.output == "probabilities"
    program = trace(graph)
    given = program.module()(CLOUDS[:2, :60])
    assert (given - recognizer.classify(CLOUDS[:2, :60], names)).abs().max() < 1e-6
    assert {part.split(".")[0] for part in program.state_dict} == {"parts"}


def test_a_graph_holds_no_text_tower(clip: ClipTowers, tmp_path: Path) -> None:
    graph = CloudGraph(Recognizer(clip, DepthViewEncoder(clip, "clip2point-6"), num_points=30, device="cpu"))
    held = sum(tensor.numel() for tensor in trace(graph).state_dict.values())
    assert held == sum(tensor.numel() for tensor in clip.image_tower.state_dict().values())


@pytest.mark.parametrize("channels", [3, 4, 5])
def test_repeats_are_the_same_while_a_graph_is_traced(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the numbers, as by their bits: with zeros of both signs, and with a mask."""
    rng = torch.Generator().manual_seed(channels)
    points = torch.randint(-1, 2, (4, 60, channels), generator=rng).float() * torch.where(torch.rand(4, 60, channels, generator=rng) < 0.5, 1.0, -1.0)
    masks = (None, torch.rand(4, 60, generator=rng) < 0.7)
    expected = [first_occurrences(points, mask) for mask in masks]
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for mask, keep in zip(masks, expected, strict=True):
        assert torch.equal(first_occurrences(points, mask), keep) and 0 < keep.sum() < keep.numel()


def test_a_safetensors_file_is_a_copy(checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of any checkpoint in that form, in a new folder; the card says which file it came from."""
    for kind, source in checkpoints.items():
        path = tmp_path / "new" / f"{kind}.safetensors"
        status, out, err = run(capsys, "--checkpoint", source, "--output", path)
        assert status == 0 and (err == "" or kind == "adapter") and "at most 0.0e+00 from clip2x (allowed: 1e-06)" in out
        assert path.read_bytes() == source.read_bytes()
        card = json.loads((tmp_path / "new" / f"{kind}.safetensors.json").read_text())
        assert card["checkpoint"] == {"file": source.name, "sha256": card["sha256"]} and card["input"]["fewest_points"] == 1
        assert card["classes"] is None and card["embed_dim"] == 32 and card["scale"] == 30.0


@pytest.mark.parametrize("kind", ["transformer", "depth"])
def test_a_lightning_checkpoint_becomes_safetensors(kind: str, clip: ClipTowers, checkpoints: dict[str, Path], tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    """With the CLIP inside, and the embeddings of classes beside the weights."""
    from safetensors.torch import load_file

    from clip2x.encoders.clip_files import read_weights

    stored = read_weights(checkpoints[kind])
    prefix = {"transformer": ("points.", "point_encoder."), "depth": ("depth.", "depth_encoder.tower.visual.")}[kind]
    state = {f"{prefix[1]}{name.removeprefix(prefix[0])}": tensor for name, tensor in stored.state.items() if name.startswith(prefix[0])}
    state |= {f"clip.{name}": tensor for name, tensor in clip.state_dict().items()}
    torch.save({"state_dict": state, "clip2x": stored.metadata}, tmp_path / "last.ckpt")
    path = tmp_path / "encoder.safetensors"
    status, _, err = run(capsys, "--checkpoint", tmp_path / "last.ckpt", "--output", path, "--classes", "chair,bed")
    assert (status, err) == (0, "")
    recognizer = clip2x.load(path, "cpu")
    assert torch.equal(recognizer.embed(CLOUDS), clip2x.load(checkpoints[kind], "cpu").embed(CLOUDS))
    assert torch.equal(load_file(path)["class_embeddings"], recognizer.class_embeddings(["chair", "bed"]))
    assert json.loads((tmp_path / "encoder.safetensors.json").read_text())["classes"] == ["chair", "bed"]


@pytest.mark.parametrize("layout", ["ulip", "openshape"])
def test_released_point_encoders_become_safetensors_and_no_graphs(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                                  clip: ClipTowers, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a CLIP of their embeddings' width, which is stated once: the file that is written names its model."""
    large_clip(tmp_path / "clip.pt")
    if layout == "ulip":
        source = released_files.save_ulip(tmp_path / "ulip.pt", released_files.random_state(
            released_files.ulip_shapes(32, 3, group=32, width=64, depth=1)))
    else:
        source = released_files.save_demo(tmp_path / "openshape.pt", released_files.random_state(
            released_files.openshape_shapes(32, width=64, depth=1, mlp=64, group=32)))
    monkeypatch.setattr(files, "comparison_clouds", lambda graph: {"clouds": CLOUDS})
    given, path = ("--checkpoint", source, "--clip", MODEL, "--pretrained", tmp_path / "clip.pt"), tmp_path / "new.safetensors"
    status, out, err = run(capsys, *given, "--output", path)
    assert (status, err) == (0, "") and "at most 0.0e+00 from clip2x" in out
    own, theirs = clip2x.load(path, "cpu", tmp_path / "clip.pt"), clip2x.load(source, "cpu", tmp_path / "clip.pt", clip_model=MODEL)
    assert torch.equal(own.classify(CLOUDS, ["chair", "bed"]), theirs.classify(CLOUDS, ["chair", "bed"]))
    card = json.loads((tmp_path / "new.safetensors.json").read_text())
    assert card["clip"]["model"] == MODEL and card["encoder"]["kind"] == theirs.encoder.describe()["kind"]
    assert card["licence"]["data"] == {} and "nor which data they were made of" in card["licence"]["weights"]
    for file_format, ending in GRAPHS.items():
        refused(capsys, tmp_path, "the point encoders of ULIP and OpenShape cannot be traced; take --format safetensors.",
                *given, "--format", file_format, "--output", tmp_path / f"new{ending}")


def refused(capsys: pytest.CaptureFixture[str], folder: Path, message: str, *arguments: Any) -> None:
    """One line, exit status 2, and nothing written."""
    before = sorted(folder.iterdir())
    status, out, err = run(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(folder.iterdir()) == before


def test_wrong_usage_is_answered_in_one_line(checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(message: str, *arguments: Any, checkpoint: Path = checkpoints["transformer"]) -> None:
        refused(capsys, tmp_path, message, "--checkpoint", checkpoint, *arguments)

    (tmp_path / "text.txt").write_text("no checkpoint at all")
    (tmp_path / "there.pt2").write_text("something")
    (tmp_path / "other.onnx.json").write_text("something")
    graph, path = ("--format", "torch-export"), tmp_path / "new.pt2"
    refuse("text.txt: not a weight file (it starts with", *graph, "--output", path, checkpoint=tmp_path / "text.txt")
    refuse("no such weight file", *graph, "--output", path, checkpoint=tmp_path / "absent.ckpt")
    refuse("argument --format: invalid choice: 'tflite'", "--format", "tflite", "--output", path)
    refuse("the following arguments are required: --output; see clip2x export --help.", *graph)
    refuse("--format safetensors writes files that end in .safetensors; give such a name, or --format torch-export.", "--output", path)
    refuse("--format onnx writes files that end in .onnx; give such a name.", "--format", "onnx", "--output", tmp_path / "new.bin")
    refuse("there.pt2: is there already; give another --output, or remove it.", *graph, "--output", tmp_path / "there.pt2")
    refuse("other.onnx.json: is there already", "--format", "onnx", "--output", tmp_path / "other.onnx")
    refuse("--templates are the prompts of --classes; give these too.", *graph, "--output", path, "--templates", "a {}")
    refuse("class 'chair' stands twice", *graph, "--output", path, "--classes", "chair,chair")
    refuse("needs exactly one {} for the class name", *graph, "--output", path, "--classes", "chair", "--templates", "a")
    refuse("safetensors files hold one encoder", "--output", tmp_path / "new.safetensors", "--ensemble", checkpoint=checkpoints["depth"])
    own_clip(tmp_path / "clip.safetensors")
    refuse("clip.safetensors: is a CLIP, whose file holds no embeddings of classes; leave --classes out, or take --format torch-export or onnx.",
           "--output", tmp_path / "new.safetensors", "--classes", "chair", checkpoint=tmp_path / "clip.safetensors")


def test_a_missing_library_is_named_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip2x.exporting.graph.find_spec", lambda name: None if name != "onnx" else object())
    refused(capsys, tmp_path, "--format onnx needs onnxscript and onnxruntime, not installed here; run: pip install clip2x[export].",
            "--checkpoint", tmp_path / "absent", "--format", "onnx", "--output", tmp_path / "new.onnx")


def test_a_file_that_computes_something_else_is_not_written(checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it differs by a number or gives none."""
    arguments = ("--checkpoint", checkpoints["transformer"], "--format", "torch-export", "--output", tmp_path / "new.pt2")
    monkeypatch.setattr(files, "trace", lambda graph: None)
    monkeypatch.setattr(files, "save_torch_export", lambda program, path, card: path.write_bytes(b"a graph"))
    for value, words in ((0.0, "by 0."), (torch.nan, "by nan")):
        monkeypatch.setattr(files, "run_torch_export", lambda path, value=value: lambda points: torch.full((len(points), 32), value))
        refused(capsys, tmp_path, f"new.pt2: is not written, it differs from clip2x {words}", *arguments)


class Curious(PointTransformer):
    """Looks at the values of its clouds."""

    def forward(self, points: Any, mask: Any = None) -> Tensor:
        return super().forward(points, mask) if bool(points.sum() > 0) else super().forward(-points, mask)


def test_what_cannot_be_traced_is_said_in_one_line(checkpoints: dict[str, Path], clip: ClipTowers, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    encoder = Curious(32, width=32, depth=1, heads=2, num_groups=8, group_size=8, group_widths=(8, 16, 16)).eval()
    with pytest.raises(InputError, match=r"^this recogniser cannot be traced \(.*\); take --format safetensors\.$"):
        trace(CloudGraph(Recognizer(clip, encoder, num_points=20, device="cpu")))
    assert "def forward" not in "".join(capfd.readouterr())
    for tower, otherwise in ((clip, ""), (clip.trainable_image_tower(), "; take --format safetensors")):
        dense = DepthViewEncoder(tower, "clip2point-6", "density").eval()
        with pytest.raises(InputError, match=rf"radius of its discs for each cloud \(density\), which cannot be traced{otherwise}\.$"):
            trace(CloudGraph(Recognizer(clip, dense, num_points=20, device="cpu")))
    with pytest.raises(InputError, match="the sum of two encoders has no embedding of its own; give --classes, or export one of them"):
        CloudGraph(recognizers(checkpoints)["sum"])


def test_help_names_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    for part in ("torch-export: for programs with PyTorch", "pip install clip2x[export]", "OUTPUT.json"):
        assert part in words
