"""Adapters with their towers as files: what comes back, what a recogniser makes of them, which CLIP they take, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_clips import LONG, MODEL, clip_state, large_clip, own_clip, register_small_clips
from torch import Tensor
from torch.nn import functional

import clip2x
from clip2x.adapters import AdapterSettings, GatedFusion, released_dpa
from clip2x.encoders.adapter_checkpoint import (
    AdapterCheckpoint,
    adapted_encoder_of,
    gate_start,
    read_adapter_checkpoint,
    save_adapter_checkpoint,
    towers_of,
)
from clip2x.encoders.checkpoint_parts import describe_clip
from clip2x.encoders.clip import ClipTowers, ImageTower
from clip2x.encoders.clip_files import save_clip_file
from clip2x.encoders.depth import DepthViewEncoder
from clip2x.encoders.depth_checkpoint import DepthCheckpoint
from clip2x.encoders.dual import AdaptedEncoder, DualPathEncoder
from clip2x.encoders.point_checkpoint import PointCheckpoint
from clip2x.encoders.points import PointTransformer
from clip2x.errors import BadFileError, CheckpointMismatchError, Clip2xError, DataNotFoundError, InputError
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.geometry import thin_out, unit_sphere

NAMES = ["chair", "bed", "lamp"]
POINTS = torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0))
BOTH, ALL_PATHS = ("depth", "clip"), ("depth", "clip", "points")
OF_DEPTH = {"kind": "depth_views", "views": "clip2point-6", "point_radius": 0.06, "num_points": 200, "up": "y", "pooling": "cosine_sum"}


@pytest.fixture(scope="module", autouse=True)
def small_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    register_small_clips(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ClipTowers:
    """A CLIP of ours, whose file is gone by now."""
    path = tmp_path_factory.mktemp("small") / "clip.safetensors"
    towers = own_clip(path)
    path.unlink()
    return towers


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("large") / "large.pt"


@pytest.fixture(scope="module")
def large(large_file: Path) -> ClipTowers:
    return large_clip(large_file)


def disturb(module: torch.nn.Module, size: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data.add_(size * torch.randn(tensor.shape, generator=generator).abs())


def tuned_tower(clip: ClipTowers) -> ImageTower:
    tower = clip.trainable_image_tower()
    disturb(tower.visual, 0.03, seed=7)
    return tower.requires_grad_(False).eval()


def point_encoder(embed_dim: int = 32) -> PointTransformer:
    torch.manual_seed(5)
    encoder = PointTransformer(embed_dim, width=32, depth=1, heads=2, num_groups=8, group_size=8, group_widths=(8, 16, 16))
    return encoder.requires_grad_(False).eval()


def make_encoder(clip: ClipTowers, paths: Sequence[str] = BOTH, settings: AdapterSettings | None = None, *, points: bool = False) -> AdaptedEncoder:
    """Towers and an adapter with random weights; a point encoder is there where its path is, or where `points` says so."""
    own = point_encoder() if points or "points" in paths else None
    towers = DualPathEncoder(DepthViewEncoder(tuned_tower(clip), "clip2point-6", 0.06), clip, own, 0 if own is None else 150)
    torch.manual_seed(2)
    adapter = GatedFusion([1 if path == "points" else 6 for path in paths], 32, settings)
    disturb(adapter, 0.2, seed=3)
    return AdaptedEncoder(towers, adapter, tuple(paths)).eval()


def about(encoder: AdaptedEncoder) -> dict[str, Any]:
    points = {**point_encoder().describe(), "num_points": 150, "up": "y", "channels": ["x", "y", "z"]} if "points" in encoder.chosen else None
    return {"encoder": OF_DEPTH, "scale": 30.0, "templates": ["a {}", "the {} here"], "class_names": ["chair", "bed"], "trained_with": "16 shots",
            "points": points, "notes": [], "ensemble": None}


def complete(encoder: AdaptedEncoder, clip: ClipTowers) -> dict[str, Any]:
    return {**about(encoder), "stage": "adapt", "adapter": encoder.adapter.describe(), "paths": list(encoder.chosen), **describe_clip(clip)}


def lightning_file(path: Path, encoder: AdaptedEncoder, clip: ClipTowers, head: Tensor | None = None) -> Path:
    """Write what Lightning keeps of GDPATuning: the module's own names, and only small CLIPs inside."""
    state = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    if clip.trained_words is not None:
        state |= {f"clip.{name}": tensor for name, tensor in clip.state_dict().items()}
    state |= {} if head is None else {"head": head}
    torch.save({"state_dict": state, "clip2x": complete(encoder, clip), "global_step": 4, "pytorch-lightning_version": "2.6.6"}, path)
    return path


def write(kind: str, path: Path, encoder: AdaptedEncoder, clip: ClipTowers, head: Tensor | None = None) -> Path:
    if kind == "lightning":
        return lightning_file(path, encoder, clip, head)
    save_adapter_checkpoint(path, encoder, clip, about(encoder), head)
    return path


KINDS = pytest.mark.parametrize("kind", ["safetensors", "lightning"])


@KINDS
@pytest.mark.parametrize("paths", [BOTH, ALL_PATHS, ("clip",), ("points", "depth")])
def test_an_adapter_comes_back_as_it_was(paths: tuple[str, ...], kind: str, small: ClipTowers, tmp_path: Path) -> None:
    encoder = make_encoder(small, paths)
    stored = read_adapter_checkpoint(write(kind, tmp_path / "adapter", encoder, small))
    assert stored.about == json.loads(json.dumps(complete(encoder, small))) and stored.carries_clip and stored.head is None
    again = adapted_encoder_of(stored, small)
    assert again.chosen == paths and not again.training and not any(weight.requires_grad for weight in again.parameters())
    assert torch.equal(again(unit_sphere(POINTS)), encoder(unit_sphere(POINTS)))
    carried = ClipTowers(MODEL, str(tmp_path / "adapter"))
    for key in ("id", "weights_sha256", "content_sha256", "trained_words", "metadata", "mean", "std", "embed_dim", "image_size"):
        assert getattr(carried, key) == getattr(small, key), key
    assert [item.name for item in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize("settings", [released_dpa(), AdapterSettings(gate="scalar", norm="layer", dropout=0.0, residual=False)])
def test_all_kinds_of_adapters_come_back(settings: AdapterSettings, small: ClipTowers, tmp_path: Path) -> None:
    """Running statistics and fixed weights of the paths too, and with a point encoder beside the towers that the adapter does not listen to."""
    encoder = make_encoder(small, BOTH, settings, points=True)
    stored = read_adapter_checkpoint(write("safetensors", tmp_path / "adapter", encoder, small))
    again = adapted_encoder_of(stored, small)
    assert not stored.point_state and again.adapter.settings == settings and again.towers.points is None
    assert torch.equal(again(unit_sphere(POINTS)), encoder(unit_sphere(POINTS)))


@KINDS
@pytest.mark.parametrize("paths", [BOTH, ALL_PATHS])
def test_a_large_clip_is_named_and_found_by_its_file(paths: tuple[str, ...], kind: str, large: ClipTowers, large_file: Path, tmp_path: Path) -> None:
    """Equal weights are the same CLIP, whatever kind of file they come in."""
    encoder = make_encoder(large, paths)
    path = write(kind, tmp_path / "adapter", encoder, large)
    assert path.stat().st_size < 0.2 * large_file.stat().st_size and not read_adapter_checkpoint(path).carries_clip
    with pytest.raises(CheckpointMismatchError, match="a checkpoint of adapt without its CLIP, .*/sha256:.*; give that CLIP's tag"):
        ClipTowers(MODEL, str(path))
    with pytest.raises(DataNotFoundError, match=r"needs the CLIP of its training, .*sha256:.* .clip=TAG_OR_FILE, --pretrained.*it came from a file"):
        clip2x.load(path, device="cpu")
    save_clip_file(tmp_path / "same.safetensors", clip_state(), {})
    expected = encoder(unit_sphere(POINTS))
    for file in (large_file, tmp_path / "same.safetensors"):
        again = adapted_encoder_of(read_adapter_checkpoint(path), ClipTowers(MODEL, str(file)))
        assert torch.equal(again(unit_sphere(POINTS)), expected)
        assert torch.allclose(clip2x.load(path, "cpu", clip=file).embed(POINTS), expected, atol=1e-6)


@KINDS
@pytest.mark.parametrize("paths", [BOTH, ALL_PATHS])
def test_a_recogniser_from_the_file_alone_equals_its_parts(paths: tuple[str, ...], kind: str, small: ClipTowers, tmp_path: Path) -> None:
    """Views, radius, points, scale and templates are the file's; templates that are given go before."""
    encoder, clouds = make_encoder(small, paths), unit_sphere(POINTS)
    path = write(kind, tmp_path / "adapter", encoder, small)
    with torch.no_grad():
        features = [DepthViewEncoder(tower, "clip2point-6", 0.06)(clouds) for tower in (tuned_tower(small), small)]
        features += [point_encoder()(unit_sphere(thin_out(clouds, 150)))[:, None]] if "points" in paths else []
        embeds = functional.normalize(encoder.adapter(features), dim=-1)
    recognizer = clip2x.load(path, device="cpu")
    assert recognizer.num_points == 200 and recognizer.scale == 30.0 and recognizer.unknown_words(NAMES) == ["lamp"]
    assert torch.allclose(recognizer.embed(7 * POINTS + 3), embeds, atol=1e-5)
    for templates in (None, ["one {}"]):
        names = class_embeddings(small, NAMES, templates or ["a {}", "the {} here"])
        assert torch.allclose(recognizer.classify(POINTS, NAMES, templates), torch.softmax(30 * embeds @ names.T, dim=-1), atol=1e-4)
    with pytest.raises(InputError, match="adapter is an adapter, which joins both towers already; leave the ensemble out") as caught:
        clip2x.load(path, "cpu", ensemble=True)
    assert "\n" not in str(caught.value)


@KINDS
def test_a_trained_head_knows_its_classes_only(kind: str, small: ClipTowers, tmp_path: Path) -> None:
    """Lightning's files hold the weights as they are trained, of any length; they count as unit vectors."""
    """Training compares with rows of unit length, Lightning keeps them as they are."""
    encoder, raw = make_encoder(small), torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    path = write(kind, tmp_path / "adapter", encoder, small, raw)
    stored, head = read_adapter_checkpoint(path), functional.normalize(raw, dim=-1)
    assert stored.head is not None and torch.allclose(stored.head, head)
    recognizer, embeds = clip2x.load(path, device="cpu"), encoder(unit_sphere(POINTS))
    for names, rows in ((["chair", "bed"], [0, 1]), (["bed", "chair"], [1, 0]), (["bed"], [1])):
        expected = torch.softmax(30 * embeds @ head[rows].T, dim=-1)
        assert torch.allclose(recognizer.classify(POINTS, names, ["whatever {}"]), expected, atol=1e-5)
    with pytest.raises(InputError, match="has a trained head, which knows chair, bed only, not 'lamp'; give some of these, or an") as caught:
        recognizer.classify(POINTS, NAMES)
    assert "\n" not in str(caught.value)


def test_towers_see_the_same_pictures_and_hold_no_weights_twice(small: ClipTowers) -> None:
    depth = DepthCheckpoint(dict(tuned_tower(small).visual.state_dict()), {**describe_clip(small), "encoder": OF_DEPTH}, "", "depth")
    said = {**point_encoder().describe(), "num_points": 150, "up": "y", "channels": ["x", "y", "z"]}
    points = PointCheckpoint(dict(point_encoder().state_dict()), {**describe_clip(small), "encoder": said}, "", "points")
    towers, clouds = towers_of(depth, small, points), unit_sphere(POINTS)
    assert towers.paths == ALL_PATHS and towers.num_views == (6, 6, 1) and towers.embed_dim == 32 and towers.num_points == 150
    tuned, untouched, own = towers(clouds)
    assert torch.equal(tuned, DepthViewEncoder(tuned_tower(small), "clip2point-6", 0.06)(clouds))
    assert torch.equal(untouched, DepthViewEncoder(small, "clip2point-6", 0.06)(clouds)) and not torch.allclose(untouched, tuned, atol=1e-2)
    assert own.shape == (2, 1, 32) and torch.equal(own[:, 0], point_encoder()(unit_sphere(thin_out(clouds, 150))))
    real = torch.tensor([300, 160])
    again = towers(clouds, real)
    assert torch.equal(again[0], tuned) and torch.equal(again[2][:, 0], point_encoder()(unit_sphere(thin_out(clouds, 150, real))))
    assert {name.split(".")[0] for name in towers.state_dict()} == {"depth", "points"} and not towers.training
    assert not any(weight.requires_grad for weight in towers.parameters())
    assert towers_of(depth, small).paths == BOTH

    encoder = AdaptedEncoder(towers, GatedFusion(towers.num_views, 32), ALL_PATHS)
    disturb(encoder.adapter, 0.2, seed=3)
    encoder(clouds).sum().backward()
    assert all(weight.grad is not None for weight in encoder.adapter.parameters())
    assert all(weight.grad is None for weight in (*towers.parameters(), *small.parameters())), "frozen"


def test_towers_and_adapters_that_do_not_fit_are_refused(small: ClipTowers) -> None:
    depth = DepthViewEncoder(tuned_tower(small), "clip2point-6", 0.06)
    with pytest.raises(InputError, match="need features of one length, got 32 of depth, 48 of clip; take encoders of the same CLIP."):
        DualPathEncoder(depth, ClipTowers(LONG, random_weights=True))
    with pytest.raises(InputError, match="got 32 of depth, 32 of clip, 24 of points"):
        DualPathEncoder(depth, small, point_encoder(24), 150)
    towers = DualPathEncoder(depth, small)
    for num_views, width, chosen, message in (
            ((6, 6), 48, BOTH, "this adapter takes 6, 6 views of 48 channels, the towers give 6, 6 of 32; use the views and the CLIP that it was"),
            ((10, 10), 32, BOTH, "this adapter takes 10, 10 views of 32 channels, the towers give 6, 6 of 32"),
            ((6, 6), 32, ("clip",), "this adapter takes 6, 6 views of 32 channels, the towers give 6 of 32"),
            ((6, 6, 1), 32, ALL_PATHS, "an adapter cannot take the path 'points'; there are depth, clip.")):
        with pytest.raises(InputError, match=message):
            AdaptedEncoder(towers, GatedFusion(num_views, width), chosen)


def test_another_clip_is_refused(large: ClipTowers, small: ClipTowers, tmp_path: Path) -> None:
    path = write("safetensors", tmp_path / "adapter", make_encoder(large), large)
    stored = read_adapter_checkpoint(path)
    assert adapted_encoder_of(stored, small).embed_dim == 32, "equal weights"
    for model, message in ((MODEL, f"the one given, {MODEL}/random:0, has other weights; give that CLIP's tag or weight file"),
                           (LONG, rf"adapter: was trained with the CLIP .*sha256.* the one given is {LONG} .*; give {MODEL}")):
        with pytest.raises(CheckpointMismatchError, match=message):
            adapted_encoder_of(stored, ClipTowers(model, random_weights=True))
    torch.save(clip_state(seed=2), tmp_path / "other.pt")
    with pytest.raises(CheckpointMismatchError, match="has other weights; give that CLIP's tag or weight file"):
        clip2x.load(path, "cpu", clip=tmp_path / "other.pt")


def changed(stored: AdapterCheckpoint, part: str, change: dict[str, Any]) -> AdapterCheckpoint:
    """Change what a file says, or holds (None: leave out), in one of its parts."""
    if part.endswith("_state"):
        held: dict[str, Any] = {part: {name: tensor for name, tensor in {**getattr(stored, part), **change}.items() if tensor is not None}}
        return replace(stored, **held)
    return replace(stored, about={**stored.about, **({part: {**stored.about[part], **change}} if part else change)})


@pytest.mark.parametrize(("part", "change", "message"), [
    ("encoder", {"views": "clip2point-10"}, "this adapter takes 6, 6, 1 views of 32 channels, the towers give 10, 10, 1 of 32; use the views"),
    ("adapter", {"kind": "dpa"}, "an adapter of kind 'dpa' is not known here; known is gated_fusion."),
    ("adapter", {"gate": "tensor"}, "an adapter's gate is one of vector, scalar, mean"),
    ("adapter", {"experts": 3}, "an adapter has no setting 'experts'"),
    ("adapter", {"gate": "scalar"}, r"its adapter does not fit the one that it describes: gate.weight is \(64, 96\), \(2, 96\) is needed"),
    ("adapter", {"view_weights": True}, r"its adapter does not fit .* 3 weights missing \(first 'aggregators.0.view_weights'\)"),
    ("adapter_state", {"gate.weight": torch.zeros(3, 3)}, r"its adapter does not fit .* gate.weight is \(3, 3\), \(64, 96\) is needed"),
    ("adapter_state", {"gate.weight": None, "gates": torch.zeros(1)}, "its adapter does not fit .* 1 weights missing .*, 1 weights not the model's"),
    ("tower_state", {"proj": torch.zeros(64, 16)}, rf"its depth encoder does not fit {MODEL}: proj is \(64, 16\), \(64, 32\) is needed"),
    ("point_state", {"head.weight": None}, "its point encoder does not fit point_transformer: 1 weights missing .first 'head.weight'."),
    ("", {"points": None}, "an adapter cannot take the path 'points'; there are depth, clip."),
    ("", {"paths": ["depth", "voxels", "clip"]}, "an adapter cannot take the path 'voxels'; there are depth, clip, points."),
    ("", {"paths": ["depth", "clip"]}, "this adapter takes 6, 6, 1 views of 32 channels, the towers give 6, 6 of 32"),
    ("points", {"kind": "voxels"}, "point encoders are point_transformer, pointnet2, .*, got kind 'voxels'"),
])
def test_parts_that_do_not_fit_are_one_line(part: str, change: dict[str, Any], message: str, small: ClipTowers, tmp_path: Path) -> None:
    stored = read_adapter_checkpoint(write("safetensors", tmp_path / "adapter.any", make_encoder(small, ALL_PATHS), small))
    with pytest.raises(CheckpointMismatchError, match=f"adapter.any: {message}") as caught:
        adapted_encoder_of(changed(stored, part, change), small)
    assert "\n" not in str(caught.value)


def write_bad_file(kind: str, path: Path, clip: ClipTowers) -> None:
    encoder = make_encoder(clip)
    if kind == "nan":
        encoder.adapter.get_parameter("gate.weight").data.fill_(torch.nan)
    write("safetensors" if kind in ("nan", "truncated") else "lightning", path, encoder, clip)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "plain":
        torch.save({"adapter.gate.weight": torch.zeros(2)}, path)
    elif kind in ("pretrain_clip", "pretrain_depth"):
        save_clip_file(path, clip_state(), {"stage": kind, "model": MODEL})
    elif kind != "nan":
        content = torch.load(path, weights_only=True)
        lost = {"no adapter": "encoder.adapter.", "no depth": "encoder.towers.depth."}.get(kind, "-")
        content["state_dict"] = {name: tensor for name, tensor in content["state_dict"].items() if not name.startswith(lost)}
        content["clip2x"]["encoder"]["up"] = "z" if kind == "up" else "y"
        for key in ("paths", "points") if kind == "silent" else ():
            del content["clip2x"][key]
        torch.save(content, path)


@pytest.mark.parametrize(("kind", "error", "message"), [
    ("truncated", BadFileError, "truncated or not safetensors"),
    ("nan", BadFileError, "adapter.gate.weight has values that are not finite"),
    ("pretrain_clip", CheckpointMismatchError, "was written by stage pretrain_clip, it has no adapter; give adapter.safetensors or a .ckpt of"),
    ("pretrain_depth", CheckpointMismatchError, "was written by stage pretrain_depth, it has no adapter"),
    ("plain", CheckpointMismatchError, "was written by stage unknown, it has no adapter"),
    ("no adapter", CheckpointMismatchError, "lacks its adapter; write it again with adapt."),
    ("no depth", CheckpointMismatchError, "lacks its depth encoder; write it again with adapt."),
    ("silent", CheckpointMismatchError, "does not say its paths, points, so it cannot be used; write it again with adapt."),
    ("up", CheckpointMismatchError, "made for clouds with z up; this version knows y up only"),
])
def test_bad_file_is_one_line(kind: str, error: type[Clip2xError], message: str, small: ClipTowers, tmp_path: Path) -> None:
    path = tmp_path / "weights.any"
    write_bad_file(kind, path, small)
    with pytest.raises(error, match=message) as caught:
        read_adapter_checkpoint(path)
    assert "\n" not in str(caught.value) and "weights.any" in str(caught.value)


def test_what_cannot_be_read_again_is_not_written(small: ClipTowers, tmp_path: Path) -> None:
    encoder = make_encoder(small)
    for lacking, message in (("scale", "does not say its scale, so"), ("templates", "does not say its templates, so"),
                             ("encoder", "does not say its encoder, encoder.views, encoder.point_radius, encoder.num_points, so")):
        with pytest.raises(CheckpointMismatchError, match=f"adapter: {message} it cannot be used; write it again with adapt"):
            save_adapter_checkpoint(tmp_path / "adapter", encoder, small, {key: value for key, value in about(encoder).items() if key != lacking})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("ensemble", "of_points", "paths", "expected"), [
    ((20.0, 5.0), None, BOTH, [20, 5]),
    ((20.0, 5.0), None, ("clip", "depth"), [5, 20]),
    ((20.0, 0.5), None, BOTH, [20, 2]),
    ((0.0, 40.0), None, BOTH, [4, 40]),
    ((20.0, 5.0), {"scale": 30.0, "ensemble": None}, ALL_PATHS, [20, 5, 30]),
    ((20.0, 5.0), {"scale": 30.0, "ensemble": {"points": 100.0, "depth": 3.0}}, ALL_PATHS, [20, 10, 100]),
    ((20.0, 5.0), {"scale": 30.0, "ensemble": {"points": 1.0}}, ALL_PATHS, [20, 5, 2]),
])
def test_a_gate_starts_from_fitted_factors_none_below_a_tenth_of_the_largest(
        ensemble: tuple[float, float], of_points: dict[str, Any] | None, paths: tuple[str, ...], expected: list[float]) -> None:
    depth = DepthCheckpoint({}, {"ensemble": dict(zip(("tuned", "clip"), ensemble, strict=True))}, "", "")
    points = None if of_points is None else PointCheckpoint({}, of_points, "", "")
    assert gate_start(depth, points, paths) == pytest.approx(expected)
