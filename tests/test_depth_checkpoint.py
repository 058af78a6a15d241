"""Depth checkpoints: ours and the released one, what they give, which CLIP they take, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from conftest import REPO
from small_clips import GELU, LONG, MODEL, clip_state, large_clip, own_clip, register_small_clips
from torch import Tensor

import clip2x
from clip2x.depth import grey_from_depth, rasterize, view_preset
from clip2x.encoders.checkpoint_parts import describe_clip
from clip2x.encoders.clip import ClipTowers, ImageTower
from clip2x.encoders.clip_files import save_clip_file
from clip2x.encoders.depth import DepthViewEncoder, pool_view_features
from clip2x.encoders.depth_checkpoint import (
    DepthCheckpoint,
    depth_encoder_of,
    official_layout,
    read_depth_checkpoint,
    save_depth_checkpoint,
)
from clip2x.errors import BadFileError, CheckpointMismatchError, Clip2xError, DataNotFoundError, InputError
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.geometry import unit_sphere

NAMES = ["chair", "bed", "lamp"]
POINTS = torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", autouse=True)
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    register_small_clips(tmp_path_factory.mktemp("configs"))


@pytest.fixture
def small(tmp_path: Path) -> ClipTowers:
    """Its file is gone afterwards."""
    path = tmp_path / "clip.safetensors"
    towers = own_clip(path)
    path.unlink()
    return towers


@pytest.fixture
def large(tmp_path: Path) -> ClipTowers:
    return large_clip(tmp_path / "large.pt")


def tuned_tower(clip: ClipTowers) -> ImageTower:
    tower = clip.trainable_image_tower()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return tower.eval()


def about(**changes: Any) -> dict[str, Any]:
    return {"stage": "pretrain_depth", "encoder": {"kind": "depth_views", "views": "clip2point-6", "point_radius": 0.06, "num_points": 200, "up": "y",
                                                   "pooling": "cosine_sum"},
            "scale": 30.0, "ensemble": {"tuned": 20.0, "clip": 5.0}, "class_names": ["chair"], "unseen_names": [], "seed": 0, "commit": None,
            "precision": "32-true", "steps": 4, "val_top1": 0.5, "selected_on": "x", "notes": [], **changes}


def lightning_file(path: Path, tower: ImageTower, clip: ClipTowers) -> Path:
    """Write what Lightning keeps of DepthPretraining: the module's own names, and only small CLIPs inside."""
    state = {f"depth_encoder.tower.visual.{name}": value for name, value in tower.visual.state_dict().items()}
    if clip.trained_words is not None:
        state |= {f"clip.{name}": value for name, value in clip.state_dict().items()}
    state["loss.s"] = torch.tensor(1.2)
    torch.save({"state_dict": state, "clip2x": {**about(), **describe_clip(clip)}, "global_step": 4, "pytorch-lightning_version": "2.6.6"}, path)
    return path


def test_the_small_clip_travels_inside(small: ClipTowers, tmp_path: Path) -> None:
    """What `ClipTowers` makes of the file is the frozen CLIP in everything that ids, text caches and notes come from."""
    tower = tuned_tower(small)
    save_depth_checkpoint(tmp_path / "depth_encoder.safetensors", tower, small, about())
    files = [tmp_path / "depth_encoder.safetensors", lightning_file(tmp_path / "best.ckpt", tower, small)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "depth_encoder.safetensors"]
    for path in files:
        again = ClipTowers(MODEL, str(path))
        for key in ("id", "weights_sha256", "content_sha256", "trained_words", "metadata", "mean", "std", "embed_dim", "image_size"):
            assert getattr(again, key) == getattr(small, key), key
        state = small.state_dict()
        assert state.keys() == again.state_dict().keys() and all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
        stored = read_depth_checkpoint(path)
        assert stored.about == {**about(), **describe_clip(small)} and stored.carries_clip and stored.path == str(path)
        assert all(torch.equal(value, stored.tower_state[name]) for name, value in tower.visual.state_dict().items())


@pytest.mark.parametrize("kind", ["safetensors", "lightning"])
def test_a_recogniser_from_the_file_alone_equals_its_parts(kind: str, small: ClipTowers, tmp_path: Path) -> None:
    """Views, radius, points and scale are the checkpoint's; the ensemble is the softmax of factor x cosine, summed."""
    tower, path = tuned_tower(small), tmp_path / "depth"
    if kind == "safetensors":
        save_depth_checkpoint(path, tower, small, about())
    else:
        lightning_file(path, tower, small)
    with torch.no_grad():
        embeds, untouched = (pool_view_features(DepthViewEncoder(encoder, "clip2point-6", 0.06)(unit_sphere(POINTS))) for encoder in (tower, small))
    names = class_embeddings(small, NAMES, ["a {}"])
    recognizer = clip2x.load(path, device="cpu")
    assert recognizer.num_points == 200 and recognizer.unknown_words(NAMES) == ["lamp"]
    assert torch.allclose(recognizer.embed(POINTS), embeds, atol=1e-6)
    assert torch.allclose(recognizer.classify(POINTS, NAMES, ["a {}"]), torch.softmax(30 * embeds @ names.T, dim=-1), atol=1e-5)
    both = clip2x.load(path, device="cpu", ensemble=True)
    expected = torch.softmax(20 * embeds @ names.T + 5 * untouched @ names.T, dim=-1)
    assert torch.allclose(both.classify(POINTS, NAMES, ["a {}"]), expected, atol=1e-5)
    assert torch.equal(both.embed(POINTS), recognizer.embed(POINTS))
    assert not torch.allclose(embeds, untouched, atol=1e-2)


@pytest.mark.parametrize("kind", ["safetensors", "lightning"])
def test_a_large_clip_is_found_by_file_or_tag(kind: str, large: ClipTowers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal weights are the same CLIP, whatever kind of file they come in."""
    path = tmp_path / "depth"
    write = (lambda clip: save_depth_checkpoint(path, tuned_tower(clip), clip, about())) if kind == "safetensors" else (
        lambda clip: lightning_file(path, tuned_tower(clip), clip))
    write(large)
    assert path.stat().st_size < 0.2 * (tmp_path / "large.pt").stat().st_size  # the text tower's 49,408 words are not inside
    with pytest.raises(CheckpointMismatchError, match="a checkpoint of pretrain_depth without its CLIP, .*/sha256:.*; give that CLIP's tag"):
        ClipTowers(MODEL, str(path))
    with pytest.raises(DataNotFoundError, match=r"needs the CLIP of its training, .*sha256:.* .clip=TAG_OR_FILE, --pretrained.*it came from a file"):
        clip2x.load(path, device="cpu")
    save_clip_file(tmp_path / "same.safetensors", large.text_tower.state_dict() | {
        f"visual.{name}": value for name, value in large.image_tower.visual.state_dict().items()}, {})
    embeds = [clip2x.load(path, "cpu", clip=tmp_path / name).embed(POINTS) for name in ("large.pt", "same.safetensors")]
    assert torch.equal(*embeds)

    entry = {"hf_hub": "somewhere/", "quick_gelu": True, "mean": large.mean, "std": large.std}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, MODEL, {"mine": entry})
    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: str(tmp_path / "same.safetensors"))
    assert torch.equal(clip2x.load(path, "cpu", clip="mine").embed(POINTS), embeds[0])
    write(ClipTowers(MODEL, "mine"))
    assert torch.equal(clip2x.load(path, "cpu").embed(POINTS), embeds[0])

    def no_network(_: object) -> str:
        raise OSError("Name or service\nnot known")

    monkeypatch.setattr(open_clip, "download_pretrained", no_network)
    with pytest.raises(DataNotFoundError, match=f"depth needs the CLIP of its training, {MODEL}/mine .*cannot be downloaded") as caught:
        clip2x.load(path, "cpu")
    assert "\n" not in str(caught.value)


def test_another_clip_is_refused(large: ClipTowers, small: ClipTowers, tmp_path: Path) -> None:
    save_depth_checkpoint(tmp_path / "depth", tuned_tower(large), large, about())
    stored = read_depth_checkpoint(tmp_path / "depth")
    assert depth_encoder_of(stored, small).num_views == 6  # equal weights
    torch.save(clip_state(seed=2), tmp_path / "other.pt")
    cases = [({"model": GELU}, r"was trained with the CLIP .* \(QuickGELU\), the one given is tests-small \(GELU\); give tests-small-q"),
             ({"model": LONG}, "the one given is tests-long"),
             ({"model": MODEL}, "the one given, tests-small-quickgelu/random:0, has other weights")]
    for arguments, message in cases:
        with pytest.raises(CheckpointMismatchError, match=message):
            depth_encoder_of(stored, ClipTowers(**arguments, random_weights=True))
    with pytest.raises(CheckpointMismatchError, match="has other weights; give that CLIP's tag or weight file"):
        clip2x.load(tmp_path / "depth", "cpu", clip=tmp_path / "other.pt")
    torch.save(clip_state(LONG), tmp_path / "long.pt")
    with pytest.raises(CheckpointMismatchError, match="depth needs the CLIP of its training, .*long.pt"):
        clip2x.load(tmp_path / "depth", "cpu", clip=tmp_path / "long.pt")
    for key, value in (("embed_dim", 64), ("image_size", 64)):
        changed = DepthCheckpoint(stored.tower_state, {**stored.about, key: value}, stored.sha256, stored.path)
        with pytest.raises(CheckpointMismatchError, match=rf"\({key} 64\), the one given has {key} 32"):
            depth_encoder_of(changed, large)


def write_bad_file(kind: str, path: Path, clip: ClipTowers) -> None:
    tower = tuned_tower(clip)
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("these are not the weights you are looking for")
    elif kind == "code":
        torch.save({"clip2x": about(), "state_dict": {}, "more": Path("/")}, path)
    elif kind in ("truncated ckpt", "truncated safetensors"):
        if kind == "truncated ckpt":
            lightning_file(path, tower, clip)
        else:
            save_depth_checkpoint(path, tower, clip, about())
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "nan":
        with torch.no_grad():
            tower.visual.proj.fill_(torch.nan)
        save_depth_checkpoint(path, tower, clip, about())
    elif kind == "other stage":
        torch.save({"state_dict": {"points.weight": torch.zeros(2)}, "clip2x": {"stage": "pretrain_points"}}, path)
    elif kind == "small clip":
        save_clip_file(path, clip_state(), {"stage": "pretrain_clip", "model": MODEL})
    elif kind == "other lightning file":
        torch.save({"state_dict": {"clip.visual.proj": torch.zeros(2), "loss.s": torch.zeros(1)}, "trained_on": "x"}, path)
    elif kind == "silent":
        torch.save({"state_dict": {"depth_encoder.tower.visual.proj": torch.zeros(2)}}, path)
    elif kind == "up":
        lightning_file(path, tower, clip)
        content = torch.load(path, weights_only=True)
        content["clip2x"]["encoder"]["up"] = "z"
        torch.save(content, path)
    elif kind == "few-shot":
        torch.save({"pre_model.proj": torch.zeros(2), "adapter1.fusion_ratio": torch.zeros(10), "selector.x": torch.zeros(1)}, path)
    elif kind == "empty":
        torch.save({"module.image_model.proj": torch.zeros(768, 512), "module.weights": torch.ones(1)}, path)


@pytest.mark.parametrize(("kind", "error", "message"), [
    ("absent", DataNotFoundError, "no such weight file"),
    ("folder", BadFileError, "a folder, not a weight file"),
    ("text", BadFileError, "not a weight file"),
    ("code", BadFileError, "holds more than weights, or is damaged"),
    ("truncated ckpt", BadFileError, "truncated or damaged"),
    ("truncated safetensors", BadFileError, "truncated or not safetensors"),
    ("nan", BadFileError, "depth.proj has values that are not finite"),
    ("other stage", CheckpointMismatchError, "was written by stage pretrain_points, it has no depth encoder; give one of pretrain_depth"),
    ("small clip", CheckpointMismatchError, "was written by stage pretrain_clip"),
    ("other lightning file", CheckpointMismatchError, "has no depth encoder .found: clip, loss.; give depth_encoder.safetensors"),
    ("silent", CheckpointMismatchError, "does not say its model, clip, clip_pretrained, clip_sha256, so it cannot be used; write it again"),
    ("up", CheckpointMismatchError, "made for clouds with z up; this version knows y up only"),
    ("few-shot", CheckpointMismatchError, "a few-shot checkpoint .DPA. of CLIP2Point's released code.*; give the pre-trained best_eval.pth"),
    ("empty", CheckpointMismatchError, "its point_model does not fit OpenAI's ViT-B/32 .152 weights.: 152 weights missing .first 'class_embedding'."),
])
def test_bad_file_is_one_line(kind: str, error: type[Clip2xError], message: str, small: ClipTowers, tmp_path: Path) -> None:
    path = tmp_path / "weights.any"
    write_bad_file(kind, path, small)
    with pytest.raises(error, match=message) as caught:
        read_depth_checkpoint(path)
    assert "\n" not in str(caught.value) and "weights.any" in str(caught.value)


def test_a_tower_of_another_shape_is_refused(small: ClipTowers, tmp_path: Path) -> None:
    lightning_file(tmp_path / "x.ckpt", tuned_tower(small), small)
    content = torch.load(tmp_path / "x.ckpt", weights_only=True)
    name = "depth_encoder.tower.visual.proj"
    for change, message in (({name: torch.zeros(64, 16)}, r"proj is \(64, 16\), \(64, 32\) is needed"),
                            ({name: None}, "1 weights missing .first 'proj'."),
                            ({name + "s": torch.zeros(1)}, "1 weights not the model's .first 'projs'.")):
        state = {key: value for key, value in {**content["state_dict"], **change}.items() if value is not None}
        torch.save({**content, "state_dict": state}, tmp_path / "y.ckpt")
        with pytest.raises(CheckpointMismatchError, match=f"y.ckpt: its depth encoder does not fit {MODEL}: {message}"):
            clip2x.load(tmp_path / "y.ckpt", device="cpu")


def test_what_cannot_be_read_again_is_not_written(small: ClipTowers, tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatchError, match=r"depth: does not say its scale, so it cannot be used"):
        save_depth_checkpoint(tmp_path / "depth", tuned_tower(small), small, {key: value for key, value in about().items() if key != "scale"})
    assert not list(tmp_path.iterdir())


def test_a_small_clip_has_nothing_to_add(tmp_path: Path) -> None:
    save_clip_file(tmp_path / "clip", clip_state(), {"model": MODEL, "words": [], "encoder": {"kind": "depth_views", "up": "y"}})
    assert clip2x.load(tmp_path / "clip", device="cpu").embed(POINTS).shape == (2, 32)
    for arguments in ({"ensemble": True}, {"clip": "openai"}):
        with pytest.raises(InputError, match="is a CLIP itself, with no tuned tower"):
            clip2x.load(tmp_path / "clip", device="cpu", **arguments)
    save_clip_file(tmp_path / "clip", clip_state(), {"model": MODEL, "words": [], "encoder": {"kind": "points", "up": "y"}})
    with pytest.raises(CheckpointMismatchError, match="was made for points with y up; this version knows depth_views with y up only"):
        clip2x.load(tmp_path / "clip", device="cpu")


@pytest.mark.gpu
def test_it_runs_where_it_is_told(small: ClipTowers, tmp_path: Path) -> None:
    save_depth_checkpoint(tmp_path / "depth", tuned_tower(small), small, about())
    shares = [clip2x.load(tmp_path / "depth", device, ensemble=True).classify(POINTS, NAMES).cpu() for device in ("cpu", "cuda")]
    assert torch.allclose(*shares, atol=1e-3)


# CLIP2Point's released file ------------------------------------------------------------------------------------------------------------------

class Official:
    """A file of the released layout with random weights, and the CLIP that it was made from."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "best_eval.pth"
        self.clip = ClipTowers("ViT-B-32-quickgelu", random_weights=True)
        frozen = self.clip.image_tower.visual.state_dict()
        generator = torch.Generator().manual_seed(0)
        self.tuned = {name: value + 0.02 * torch.randn(value.shape, generator=generator) for name, value in frozen.items()}
        views = {f"module.selector.view_selector.views_{name}": torch.zeros(10) for name in ("azim", "elev", "dist")}
        self.state = {"module.weights": torch.tensor([1.1]), **{f"module.point_model.{name}": value for name, value in self.tuned.items()},
                      **{f"module.image_model.{name}": value for name, value in frozen.items()}, **views}
        torch.save(self.state, self.path)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Official:
    return Official(tmp_path_factory.mktemp("official"))


def plain_vit(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """OpenAI's image tower, written out with matrix products: ViT-B/32, 12 layers of 12 heads, QuickGELU."""
    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = x.mean(dim=-1, keepdim=True), x.var(dim=-1, keepdim=True, unbiased=False)
        return (x - mean) / (variance + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    patches = images.view(len(images), 3, 7, 32, 7, 32).permute(0, 2, 4, 1, 3, 5).reshape(len(images), 49, 3 * 32 * 32)
    x = torch.cat([weights["class_embedding"].expand(len(images), 1, 768), patches @ weights["conv1.weight"].view(768, -1).T], dim=1)
    x = norm(x + weights["positional_embedding"], "ln_pre")
    for block in (f"transformer.resblocks.{layer}." for layer in range(12)):
        mixed = norm(x, f"{block}ln_1") @ weights[f"{block}attn.in_proj_weight"].T + weights[f"{block}attn.in_proj_bias"]
        query, key, value = (part.view(len(x), 50, 12, 64).transpose(1, 2) for part in mixed.chunk(3, dim=-1))
        attended = ((query @ key.transpose(-1, -2)) / 8).softmax(dim=-1) @ value
        x = x + linear(attended.transpose(1, 2).reshape(len(x), 50, 768), f"{block}attn.out_proj")
        hidden = linear(norm(x, f"{block}ln_2"), f"{block}mlp.c_fc")
        x = x + linear(hidden * torch.sigmoid(1.702 * hidden), f"{block}mlp.c_proj")
    return norm(x[:, 0], "ln_post") @ weights["proj"]


def test_the_released_layout_gives_the_features_of_plain_tensor_code(official: Official) -> None:
    stored = read_depth_checkpoint(official.path)
    assert len(stored.tower_state) == 152 and sum(value.numel() for value in stored.tower_state.values()) == 87_849_216
    assert stored.about["encoder"] == {"kind": "depth_views", "views": "clip2point-10", "point_radius": 0.02, "num_points": 1024, "up": "y",
                                       "pooling": "cosine_sum"}
    assert len(stored.about["class_names"]) == 55 and any("not fitted" in note for note in stored.about["notes"])
    assert stored.about["ensemble"]["tuned"] == stored.about["ensemble"]["clip"]
    encoder = depth_encoder_of(stored, official.clip)
    points = unit_sphere(POINTS[:1])
    azimuth, elevation, distance = (value[None, :2] for value in view_preset("clip2point-10"))
    grey = grey_from_depth(rasterize(points, azimuth, elevation, distance, image_size=224, point_radius=0.02))[0]
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)))
    with torch.no_grad():
        expected = plain_vit(official.tuned, (grey[:, None].expand(-1, 3, -1, -1) - mean) / std)
        features = encoder.encode_views(encoder.draw(points)[:, :2])[0]
    assert float(expected.std()) > 0.05
    assert torch.allclose(features, expected, atol=1e-5)


def test_the_layout_is_open_clips_tower(official: Official) -> None:
    assert official_layout() == {name: tuple(value.shape) for name, value in official.clip.image_tower.visual.state_dict().items()}


def test_a_released_file_that_is_not_whole_is_refused(official: Official, tmp_path: Path) -> None:
    """Files of views of one value: small on disk, the real names and shapes."""
    state = {name: torch.zeros(1).expand(value.shape) for name, value in official.state.items()}
    drop = "module.point_model.transformer.resblocks.11.ln_2.bias"
    cases: list[tuple[dict[str, Any], str]] = [
        ({drop: None}, "its point_model does not fit .* 1 weights missing .first 'transformer.resblocks.11.ln_2.bias'."),
        ({"module.point_model.head.weight": torch.zeros(2)}, "1 weights not the model's .first 'head.weight'."),
        ({"module.point_model.proj": torch.zeros(1).expand(768, 1024)}, r"proj is \(768, 1024\), \(768, 512\) is needed"),
        ({"module.adapter.weight": torch.zeros(2)}, "best_eval.pth, but has adapter besides image_model, point_model, selector, weights"),
        ({drop: torch.full((768,), torch.nan)}, "ln_2.bias has values that are not finite"),
    ]
    for change, message in cases:
        torch.save({name: value for name, value in {**state, **change}.items() if value is not None}, tmp_path / "best_eval.pth")
        with pytest.raises(Clip2xError, match=message) as caught:
            read_depth_checkpoint(tmp_path / "best_eval.pth")
        assert "\n" not in str(caught.value)


def test_the_released_file_needs_openais_clip(official: Official, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = read_depth_checkpoint(official.path)
    stated = DepthCheckpoint(stored.tower_state, stored.about, stored.sha256, stored.path)  # no frozen tower beside it
    with pytest.raises(CheckpointMismatchError, match="openai, the one given, ViT-B-32-quickgelu/random:0, has other weights"):
        depth_encoder_of(stated, official.clip)
    monkeypatch.setattr("clip2x.encoders.checkpoint_parts.check_reference_cosines", lambda _: 0.0)  # as OpenAI's weights would give
    assert depth_encoder_of(stated, official.clip).num_views == 10
    monkeypatch.setattr(official.clip, "model_id", "ViT-B-32")
    with pytest.raises(CheckpointMismatchError, match=r"openai \(QuickGELU\), the one given is ViT-B-32 \(GELU\); give ViT-B-32-quickgelu"):
        depth_encoder_of(stored, official.clip)


@pytest.mark.slow
def test_classify_takes_the_released_file(official: Official, tmp_path: Path) -> None:
    state = {f"visual.{name}": value for name, value in official.clip.image_tower.visual.state_dict().items()} | official.clip.text_tower.state_dict()
    torch.save(state, tmp_path / "ViT-B-32.pt")
    (tmp_path / "cloud.txt").write_text("\n".join(" ".join(f"{value:.5f}" for value in point) for point in POINTS[0].tolist()))
    command = [sys.executable, "-m", "clip2x", "classify", str(tmp_path / "cloud.txt"), "--classes", "chair,bed", "--checkpoint", str(official.path),
               "--pretrained", str(tmp_path / "ViT-B-32.pt"), "--ensemble", "--json"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ensemble"] == {"tuned": 50.0, "clip": 50.0}
