"""Point checkpoints: what they say, what they give, which CLIP they take, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_clips import LONG, MODEL, clip_state, large_clip, own_clip, register_small_clips
from torch.nn import functional

import clip2x
from clip2x.cli import main
from clip2x.encoders.checkpoint_parts import CLIP_KEYS, carried_clip, describe_clip, require_layout, shapes_of
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.clip_files import save_clip_file
from clip2x.encoders.point_checkpoint import PointCheckpoint, point_encoder_of, read_point_checkpoint, save_point_checkpoint
from clip2x.encoders.points import PointEncoder, PointNet2, PointTransformer
from clip2x.errors import BadFileError, CheckpointMismatchError, Clip2xError, DataNotFoundError, InputError
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.geometry import unit_sphere

NAMES = ["chair", "bed", "lamp"]
POINTS = torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0))
ENCODERS: dict[str, dict[str, Any]] = {
    "transformer": {"kind": PointTransformer, "width": 32, "depth": 1, "heads": 2, "num_groups": 8, "group_size": 8, "group_widths": (8, 16, 16)},
    "pointnet2": {"kind": PointNet2},
}


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


def make_encoder(name: str = "transformer", embed_dim: int = 32, seed: int = 5) -> PointEncoder:
    torch.manual_seed(seed)
    arguments = dict(ENCODERS[name])
    kind = arguments.pop("kind")
    encoder: PointEncoder = kind(embed_dim, **arguments)
    return encoder.eval()


def about(**changes: Any) -> dict[str, Any]:
    return {"stage": "pretrain_points", "encoder": {"num_points": 200, "up": "y", "channels": ["x", "y", "z"]}, "scale": 30.0, "ensemble": None,
            "templates": ["point cloud of {}"], "mean_text": None, "class_names": ["chair"], "unseen_names": [], "mined": {}, "seed": 0,
            "commit": None, "precision": "32-true", "steps": 4, "val_top1": 0.5, "selected_on": "x", "notes": [], **changes}


def complete(encoder: PointEncoder, clip: ClipTowers, **changes: Any) -> dict[str, Any]:
    stated = about(**changes)
    return {**stated, "encoder": {**encoder.describe(), **stated["encoder"]}, **describe_clip(clip)}


def lightning_file(path: Path, encoder: PointEncoder, clip: ClipTowers, **changes: Any) -> Path:
    """Write what Lightning keeps of TripletPretraining: the module's own names, and only small CLIPs inside."""
    state = {f"point_encoder.{name}": value for name, value in encoder.state_dict().items()}
    if clip.trained_words is not None:
        state |= {f"clip.{name}": value for name, value in clip.state_dict().items()}
    state["loss.log_scale"] = torch.zeros(1)
    torch.save({"state_dict": state, "clip2x": complete(encoder, clip, **changes), "global_step": 4, "pytorch-lightning_version": "2.6.6"}, path)
    return path


def write(kind: str, path: Path, encoder: PointEncoder, clip: ClipTowers, **changes: Any) -> Path:
    if kind == "lightning":
        return lightning_file(path, encoder, clip, **changes)
    save_point_checkpoint(path, encoder, clip, about(**changes))
    return path


@pytest.mark.parametrize("kind", ["safetensors", "lightning"])
@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_comes_back_as_it_was(name: str, kind: str, small: ClipTowers, tmp_path: Path) -> None:
    encoder = make_encoder(name)
    stored = read_point_checkpoint(write(kind, tmp_path / "points", encoder, small))
    assert stored.about == json.loads(json.dumps(complete(encoder, small))) and stored.carries_clip and stored.path == str(tmp_path / "points")
    again = point_encoder_of(stored, small)
    assert type(again) is type(encoder) and not again.training and not any(parameter.requires_grad for parameter in again.parameters())
    assert torch.equal(again(unit_sphere(POINTS)), encoder(unit_sphere(POINTS)))


@pytest.mark.parametrize("kind", ["safetensors", "lightning"])
def test_the_small_clip_travels_inside(kind: str, small: ClipTowers, tmp_path: Path) -> None:
    path = write(kind, tmp_path / "points", make_encoder(), small)
    again = ClipTowers(MODEL, str(path))
    for key in ("id", "weights_sha256", "content_sha256", "trained_words", "metadata", "mean", "std", "embed_dim", "image_size"):
        assert getattr(again, key) == getattr(small, key), key
    assert [item.name for item in tmp_path.iterdir()] == ["points"]


@pytest.mark.parametrize("kind", ["safetensors", "lightning"])
def test_a_recogniser_from_the_file_alone_equals_its_parts(kind: str, small: ClipTowers, tmp_path: Path) -> None:
    """Scale, templates, points and the removed mean are the checkpoint's; templates that are given go before."""
    encoder, mean = make_encoder(), functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(1)), dim=0) * 0.9
    path = write(kind, tmp_path / "points", encoder, small, templates=["a {}", "the {} here"], mean_text=mean.tolist())
    recognizer = clip2x.load(path, device="cpu")
    assert recognizer.num_points == 200 and recognizer.unknown_words(NAMES) == ["lamp"] and recognizer.scale == 30.0
    embeds = functional.normalize(encoder(unit_sphere(7 * POINTS + 3)), dim=-1)
    assert torch.allclose(recognizer.embed(7 * POINTS + 3), embeds, atol=1e-6)
    for templates in (None, ["one {}"]):
        names = class_embeddings(small, NAMES, templates or ["a {}", "the {} here"])
        centred = torch.stack([(name - mean) / (name - mean).norm() for name in names])
        assert torch.allclose(recognizer.class_embeddings(NAMES, templates), centred, atol=1e-6)
        assert torch.allclose(recognizer.classify(7 * POINTS + 3, NAMES, templates), torch.softmax(30 * embeds @ centred.T, dim=-1), atol=1e-5)
    plain = clip2x.load(write(kind, tmp_path / "plain", encoder, small, templates=["a {}"]), device="cpu")
    assert torch.equal(plain.class_embeddings(NAMES), class_embeddings(small, NAMES, ["a {}"]))


def test_the_command_line_names_clouds_by_a_point_encoder(small: ClipTowers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("safetensors", tmp_path / "point_encoder.safetensors", make_encoder(), small)
    np.save(tmp_path / "cloud.npy", POINTS[0, :200].numpy())
    arguments = ["classify", str(tmp_path / "cloud.npy"), "--classes", ",".join(NAMES), "--checkpoint", str(path), "--json"]
    assert main(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    expected = clip2x.load(path, device="cpu").classify(POINTS[:1, :200], NAMES)[0]
    assert {label["name"]: label["probability"] for label in answer["labels"]} == pytest.approx(
        dict(zip(NAMES, expected.tolist(), strict=True)), abs=1e-4)
    assert answer["clip"] == small.id and answer["ensemble"] is None
    assert main([*arguments, "--ensemble"]) == 2
    line = capsys.readouterr().err.strip()
    assert "is a point encoder, and has no second tower to add" in line and "\n" not in line


def test_a_large_clip_is_named_and_found_by_its_file(large: ClipTowers, large_file: Path, tmp_path: Path) -> None:
    """Equal weights are the same CLIP, whatever kind of file they come in."""
    path = write("safetensors", tmp_path / "points", make_encoder(), large)
    assert carried_clip(large) == {} and not read_point_checkpoint(path).carries_clip
    assert path.stat().st_size < 0.1 * large_file.stat().st_size
    with pytest.raises(CheckpointMismatchError, match="a checkpoint of pretrain_points without its CLIP, .*/sha256:.*; give that CLIP's tag"):
        ClipTowers(MODEL, str(path))
    with pytest.raises(DataNotFoundError, match=r"needs the CLIP of its training, .*sha256:.* .clip=TAG_OR_FILE, --pretrained.*it came from a file"):
        clip2x.load(path, device="cpu")
    save_clip_file(tmp_path / "same.safetensors", clip_state(), {})
    embeds = [clip2x.load(path, "cpu", clip=path_of_clip).embed(POINTS) for path_of_clip in (large_file, tmp_path / "same.safetensors")]
    assert torch.equal(*embeds)
    with pytest.raises(InputError, match="is a point encoder, and has no second tower to add; .* --method ensemble"):
        clip2x.load(path, "cpu", clip=large_file, ensemble=True)


def test_another_clip_is_refused(large: ClipTowers, small: ClipTowers, tmp_path: Path) -> None:
    path = write("safetensors", tmp_path / "points", make_encoder(), large)
    stored = read_point_checkpoint(path)
    assert point_encoder_of(stored, small).embed_dim == 32, "equal weights"
    for model, message in ((MODEL, f"the one given, {MODEL}/random:0, has other weights; give that CLIP's tag or weight file"),
                           (LONG, rf"points: was trained with the CLIP .*sha256.* the one given is {LONG} .*; give {MODEL}")):
        with pytest.raises(CheckpointMismatchError, match=message):
            point_encoder_of(stored, ClipTowers(model, random_weights=True))
    for key in ("embed_dim", "image_size"):
        changed = PointCheckpoint(stored.encoder_state, {**stored.about, key: 64}, stored.sha256, stored.path)
        with pytest.raises(CheckpointMismatchError, match=rf"\({key} 64\), the one given has {key} 32"):
            point_encoder_of(changed, large)


def test_weights_of_another_shape_are_refused(small: ClipTowers, tmp_path: Path) -> None:
    content = torch.load(lightning_file(tmp_path / "x.ckpt", make_encoder(), small), weights_only=True)
    name = "point_encoder.head.weight"
    for change, message in (({name: torch.zeros(32, 7)}, r"head.weight is \(32, 7\), \(32, 64\) is needed"),
                            ({name: None}, "1 weights missing .first 'head.weight'."),
                            ({name + "s": torch.zeros(1)}, "1 weights not the model's .first 'head.weights'.")):
        state = {key: value for key, value in {**content["state_dict"], **change}.items() if value is not None}
        torch.save({**content, "state_dict": state}, tmp_path / "y.ckpt")
        with pytest.raises(CheckpointMismatchError, match=f"y.ckpt: its point encoder does not fit point_transformer: {message}"):
            clip2x.load(tmp_path / "y.ckpt", device="cpu")


def test_encoders_that_cannot_be_built_are_refused(small: ClipTowers, tmp_path: Path) -> None:
    stored = read_point_checkpoint(lightning_file(tmp_path / "x.ckpt", make_encoder(), small))
    for change, message in (({"kind": "voxels"}, "point encoders are point_transformer, pointnet2, .*, got kind 'voxels'"),
                            ({"layers": 4}, "this point_transformer cannot be built of .*layers"),
                            ({"heads": 5}, "width must be a multiple of heads, got 32 and 5")):
        changed = PointCheckpoint(stored.encoder_state, {**stored.about, "encoder": {**stored.about["encoder"], **change}}, "", stored.path)
        with pytest.raises(CheckpointMismatchError, match=rf"x.ckpt: {message}") as caught:
            point_encoder_of(changed, small)
        assert "\n" not in str(caught.value)


def write_bad_file(kind: str, path: Path, clip: ClipTowers) -> None:
    encoder = make_encoder()
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("these are not the weights you are looking for")
    elif kind == "code":
        torch.save({"clip2x": about(), "state_dict": {}, "more": Path("/")}, path)
    elif kind in ("truncated ckpt", "truncated safetensors"):
        write("lightning" if kind == "truncated ckpt" else "safetensors", path, encoder, clip)
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "nan":
        with torch.no_grad():
            encoder.get_parameter("head.weight").fill_(torch.nan)
        write("safetensors", path, encoder, clip)
    elif kind == "depth":
        torch.save({"state_dict": {"depth_encoder.tower.visual.proj": torch.zeros(2)}, "clip2x": about(stage="pretrain_depth")}, path)
    elif kind == "small clip":
        save_clip_file(path, clip_state(), {"stage": "pretrain_clip", "model": MODEL})
    elif kind == "plain":
        torch.save({"points.head.weight": torch.zeros(2)}, path)
    elif kind == "no encoder":
        torch.save({"state_dict": {"clip.visual.proj": torch.zeros(2), "loss.log_scale": torch.zeros(1)}, "clip2x": complete(encoder, clip)}, path)
    elif kind in ("silent", "silent encoder", "up"):
        stated = complete(encoder, clip)
        change = {"silent": {"scale": None, "templates": None}, "silent encoder": {"encoder": {"up": "y"}},
                  "up": {"encoder": {**stated["encoder"], "up": "z"}}}[kind]
        kept = {key: value for key, value in {**stated, **change}.items() if not (key in change and value is None)}
        torch.save({"state_dict": {"point_encoder.head.weight": torch.zeros(2)}, "clip2x": kept}, path)


@pytest.mark.parametrize(("kind", "error", "message"), [
    ("absent", DataNotFoundError, "no such weight file"),
    ("folder", BadFileError, "a folder, not a weight file"),
    ("text", BadFileError, "not a weight file"),
    ("code", BadFileError, "holds more than weights, or is damaged"),
    ("truncated ckpt", BadFileError, "truncated or damaged"),
    ("truncated safetensors", BadFileError, "truncated or not safetensors"),
    ("nan", BadFileError, "points.head.weight has values that are not finite"),
    ("depth", CheckpointMismatchError, "was written by stage pretrain_depth, it has no point encoder; give point_encoder.safetensors or a .ckpt of"),
    ("small clip", CheckpointMismatchError, "was written by stage pretrain_clip, it has no point encoder"),
    ("plain", CheckpointMismatchError, "does not say which stage wrote it, it has no point encoder"),
    ("no encoder", CheckpointMismatchError, r"has no point encoder \(found: clip, loss\); give point_encoder.safetensors"),
    ("silent", CheckpointMismatchError, "does not say its scale, templates, so it cannot be used; write it again with pretrain_points"),
    ("silent encoder", CheckpointMismatchError, "does not say its encoder.kind, encoder.num_points, encoder.channels"),
    ("up", CheckpointMismatchError, "made for clouds with z up; this version knows y up only"),
])
def test_bad_file_is_one_line(kind: str, error: type[Clip2xError], message: str, small: ClipTowers, tmp_path: Path) -> None:
    path = tmp_path / "weights.any"
    write_bad_file(kind, path, small)
    with pytest.raises(error, match=message) as caught:
        read_point_checkpoint(path)
    assert "\n" not in str(caught.value) and "weights.any" in str(caught.value)


def test_what_cannot_be_read_again_is_not_written(small: ClipTowers, tmp_path: Path) -> None:
    for lacking, message in (("scale", "does not say its scale, so"), ("mean_text", "does not say its mean_text, so"),
                             ("encoder", "does not say its encoder.num_points, encoder.up, encoder.channels, so")):
        with pytest.raises(CheckpointMismatchError, match=f"points: {message} it cannot be used"):
            save_point_checkpoint(tmp_path / "points", make_encoder(), small, {key: value for key, value in about().items() if key != lacking})
    assert not list(tmp_path.iterdir())


def test_parts_of_checkpoints(small: ClipTowers) -> None:
    """What all stages share: CLIP's description has just the keys that reading asks for; layouts are compared by name, then by shape."""
    assert set(describe_clip(small)) == set(CLIP_KEYS) and json.loads(json.dumps(describe_clip(small))) == describe_clip(small)
    state = {"a": torch.zeros(2, 3), "b": torch.zeros(())}
    assert shapes_of(state) == {"a": (2, 3), "b": ()}
    require_layout(state, {"b": (), "a": (2, 3)}, "file", "model")
    for wanted, message in (({"a": (2, 3)}, "file does not fit model: 1 weights not the model's .first 'b'.; give a complete file of that model"),
                            ({"a": (2, 3), "b": (), "c": (1,)}, "1 weights missing .first 'c'."),
                            ({"a": (3, 2), "b": ()}, r"a is \(2, 3\), \(3, 2\) is needed; the file belongs to another model")):
        with pytest.raises(CheckpointMismatchError, match=message):
            require_layout(state, wanted, "file", "model")


@pytest.mark.gpu
def test_it_runs_where_it_is_told(small: ClipTowers, tmp_path: Path) -> None:
    path = write("safetensors", tmp_path / "points", make_encoder(), small, mean_text=[0.1] * 32)
    shares = [clip2x.load(path, device).classify(POINTS, NAMES).cpu() for device in ("cpu", "cuda")]
    assert torch.allclose(*shares, atol=1e-3)
