"""Point encoders that others released: files of their layouts with random weights against slow twins, their CLIPs, what is refused."""

from __future__ import annotations

import json
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import released_files as files
import timm
import torch
from released_files import State
from torch import Tensor
from torch.nn import functional
from triplet_runs import write_depth_encoder

import clip2x
from clip2x.cli import main
from clip2x.encoders import released_points, slip
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.clip_files import read_clip_file, read_weights
from clip2x.encoders.point_checkpoint import read_point_checkpoint
from clip2x.encoders.points import PointPatchTransformer, PointTransformer, UlipPointBert, build_point_encoder, point_bert
from clip2x.errors import BadFileError, CheckpointMismatchError, Clip2xError, DataNotFoundError, InputError
from clip2x.evaluation.frozen_encoder import FrozenEncoder
from clip2x.evaluation.ladder import Ladder
from clip2x.geometry import unit_sphere
from clip2x.modules.adapter_sweep import AdapterSweep
from clip2x.modules.few_shot import FewShotRecognition
from clip2x.modules.gdpa_tuning import GDPATuning
from clip2x.modules.triplet_pretraining import TripletPretraining
from clip2x.modules.zero_shot import ZeroShotClassification

POINTS = torch.randn(2, 700, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 0.6])
NAMES = ["chair", "table", "lamp"]
WIDE = "tests-{}-quickgelu"  # a small CLIP of the embedding's width
SMALL = {"width": 64, "depth": 2}
SMALLEST = {"width": 256, "depth": 6, "mlp": 1024, "group": 96}  # of OpenShape's sizes
ULIP_SMALL = files.ulip_shapes(48, 3, group=32, **SMALL)


@pytest.fixture(scope="module", autouse=True)
def small_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("configs")
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    for width in (48, 64, 512, 768, 1280):
        vision = {"image_size": 224, "layers": 1, "width": 64, "patch_size": 56}
        (folder / f"{WIDE.format(width)}.json").write_text(json.dumps({"embed_dim": width, "quick_gelu": True, "vision_cfg": vision,
                                                                       "text_cfg": text}))
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": False, "timm_pool": "token", "timm_proj": "linear",
              "image_size": 224}
    (folder / "tests-slip.json").write_text(json.dumps({"embed_dim": 512, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)


def clip_file(path: Path, width: int) -> Path:
    torch.manual_seed(width)
    torch.save(open_clip.create_model(WIDE.format(width), load_weights=False).state_dict(), path)
    return path


def write(layout: str, path: Path) -> tuple[Path, State, dict[str, Any]]:
    """Write a file as it was released, and say what its twin needs."""
    if layout.startswith("ulip"):
        depth, colour = int(layout.split("-")[2]), "rgb" in layout
        state = files.random_state(files.ulip_shapes(1280 if colour else 512, 6 if colour else 3, depth))
        return files.save_ulip(path, state), state, {"depth": depth, "colour": colour, "centres": 512 if depth > 2 else 64}
    if layout == "openshape-small":
        state = files.random_state(files.openshape_shapes(1280, **SMALLEST))
        return files.save_openshape(path, state), state, {"depth": 6, "centres": 64, "radius": 0.4, "samples": 256, "swap": True}
    if layout == "openshape-g14":
        state = files.random_state(files.openshape_shapes(1280))
        return files.save_openshape(path, state), state, {"depth": 12, "centres": 384, "radius": 0.2, "samples": 64, "swap": True}
    state = files.random_state(files.openshape_shapes(768 if layout == "openshape-l14" else None, mlp=1024, group=128))
    return files.save_demo(path, state), state, {"depth": 12, "centres": 64, "radius": 0.4, "samples": 256, "swap": False}


LAYOUTS = {  # -> method, width of the embeddings, points, scale, the CLIP of the official code
    "ulip2-xyzrgb-18": ("ULIP-2", 1280, 10_000, 30.0, ("ViT-bigG-14", "laion2b_s39b_b160k")),
    "ulip2-xyzrgb-2": ("ULIP-2", 1280, 10_000, 30.0, ("ViT-bigG-14", "laion2b_s39b_b160k")),
    "ulip-xyz-12": ("ULIP", 512, 8192, 30.0, ("SLIP-ViT-B-16", None)),
    "ulip-xyz-2": ("ULIP", 512, 8192, 30.0, ("SLIP-ViT-B-16", None)),
    "openshape-g14": ("OpenShape", 1280, 10_000, 20.0, ("ViT-bigG-14", "laion2b_s39b_b160k")),
    "openshape-small": ("OpenShape", 1280, 10_000, 20.0, ("ViT-bigG-14", "laion2b_s39b_b160k")),
    "openshape-l14": ("OpenShape", 768, 10_000, 100.0, ("ViT-L-14-quickgelu", "openai")),
    "openshape-b32": ("OpenShape", 512, 10_000, 100.0, ("ViT-B-32-quickgelu", "openai")),
}
WHOLE = ("ulip2-xyzrgb-18", "ulip-xyz-12", "openshape-g14", "openshape-b32")  # full sizes, slow; of ULIP's the others have 2 layers and 64 groups


@pytest.mark.parametrize("layout", [pytest.param(name, marks=pytest.mark.slow) if name in WHOLE else name for name in LAYOUTS])
def test_a_released_file_gives_the_features_of_its_twin(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recogniser centres and scales; axes, colours and neighbourhoods are the official code's; the CLIP here is a small one of that width."""
    method, width, num_points, scale, clip = LAYOUTS[layout]
    path, state, needs = write(layout, tmp_path / "model.pt")
    monkeypatch.setattr(point_bert, "NUM_GROUPS", needs["centres"])
    stored = read_point_checkpoint(path)
    assert stored.method == method and stored.about["scale"] == pytest.approx(scale) and not stored.carries_clip
    assert (stored.about["model"], stored.about["clip_pretrained"]) == clip and clip[0] in open_clip.list_models()
    assert clip[1] is None or clip[1] in open_clip.list_pretrained_tags_by_model(clip[0])
    assert sum(value.numel() for value in stored.encoder_state.values()) == sum(value.numel() for name, value in state.items()
                                                                                if name != "logit_scale")
    recognizer = clip2x.load(path, "cpu", clip=clip_file(tmp_path / "clip.pt", width), clip_model=WIDE.format(width))
    assert recognizer.num_points == num_points and recognizer.scale == pytest.approx(scale)
    twin = files.ulip_twin if layout.startswith("ulip") else files.openshape_twin
    cloud = POINTS[:1]
    embeds, expected = recognizer.embed(cloud), functional.normalize(twin(state, unit_sphere(cloud)[0], **needs), dim=-1)
    assert float((embeds[0] - expected).abs().max()) < 1e-5
    cosines = embeds @ recognizer.class_embeddings(NAMES, ["a point cloud model of {}."]).T
    assert torch.allclose(recognizer.classify(cloud, NAMES), (scale * cosines).softmax(dim=-1), atol=1e-5)


def test_openshape_sees_mirrored_clouds(tmp_path: Path) -> None:
    """A determinant of -1: the encoder of a cloud whose y and z are exchanged is the one without the exchange of the cloud itself."""
    state = files.random_state(files.openshape_shapes(48, **SMALLEST))
    encoder = encoder_of(files.save_openshape(tmp_path / "model.pt", state))
    upright = build_point_encoder({**encoder.describe(), "gravity": "y"}, 48)
    upright.load_state_dict(encoder.state_dict())
    cloud = unit_sphere(POINTS)
    assert encoder.describe()["gravity"] == "z" and torch.allclose(encoder(cloud), upright(cloud[..., [0, 2, 1]]), atol=1e-5)
    turned = cloud[..., [0, 2, 1]] * torch.tensor([1.0, -1.0, 1.0])  # the proper rotation to z up gives other features
    assert not torch.allclose(encoder(cloud), upright(turned), atol=1e-2)


@pytest.mark.parametrize("layout", ["ulip", "openshape"])
def test_small_clouds_repeats_and_batches(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal points count once, a cloud's features do not hang on the others of its batch, and few points are enough."""
    monkeypatch.setattr(point_bert, "NUM_GROUPS", 64)
    if layout == "ulip":
        path = files.save_ulip(tmp_path / "model.pt", files.random_state(ULIP_SMALL))
    else:
        path = files.save_openshape(tmp_path / "model.pt", files.random_state(files.openshape_shapes(48, 3, **SMALLEST)))
    encoder = encoder_of(path)
    few, many = unit_sphere(POINTS[:1, :20]), unit_sphere(POINTS[:1, :600])
    padded = torch.cat([few, few[:, :1].expand(-1, 580, -1)], dim=1)
    both = encoder(torch.cat([padded, *([many] * 5)]))
    assert torch.allclose(both[:1], encoder(few), atol=1e-5) and torch.allclose(both[5:], encoder(many), atol=1e-5)
    assert encoder.train().training is False and encoder(few[:, :1]).isfinite().all()
    again = build_point_encoder(encoder.describe(), 48)
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.eval()(few), encoder(few))


@pytest.mark.parametrize("kind", ["ulip_point_bert", "openshape_patch_transformer", "pointnet2", "point_transformer"])
def test_a_masked_first_point_in_a_mixed_batch(kind: str) -> None:
    """What stands in the place of centres that the smaller cloud does not have has no effect, even where it is masked and nothing lies around it."""
    torch.manual_seed(0)
    encoder = build_point_encoder({"kind": kind, **({} if kind == "pointnet2" else SMALL)}, 48).eval()
    for values in encoder.parameters():
        torch.nn.init.normal_(values, std=0.1)
    cloud = functional.normalize(POINTS[:, :400], dim=-1)  # on a sphere: nothing near the origin
    mask = torch.ones(2, 400, dtype=torch.bool)
    mask[0, 0] = mask[0, 100:] = False
    both = encoder(cloud, mask)
    assert torch.allclose(both[:1], encoder(cloud[:1, 1:100]), atol=1e-4) and torch.allclose(both[1:], encoder(cloud[1:]), atol=1e-4)


@pytest.mark.parametrize("kind", ["ulip_point_bert", "openshape_patch_transformer"])
def test_centres_are_chosen_once_for_all_clouds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    encoder = build_point_encoder({"kind": kind, **SMALL}, 48)
    clouds, calls = unit_sphere(torch.randn(6, 40, 3)), []
    choose = encoder.choose_centres  # type: ignore[operator]
    monkeypatch.setattr(encoder, "choose_centres", lambda cloud: calls.append(len(cloud.coordinates)) or choose(cloud))
    together = encoder(clouds)
    assert calls == [6] and torch.allclose(together, torch.cat([encoder(cloud[None]) for cloud in clouds]), atol=1e-5)


def test_stages_that_cannot_state_what_such_a_file_keeps_to_itself_refuse_it(tmp_path: Path) -> None:
    path, clip = files.save_ulip(tmp_path / "ulip.pt", ULIP_STATE), ClipTowers("clip2x-small", random_weights=True)
    depth = write_depth_encoder(tmp_path / "depth.safetensors", clip)
    refused: list[tuple[str, Any]] = [
        (r"model.point_checkpoint .*ulip.pt is ULIP's released point encoder; accepted here are those of pretrain-points; give point_encoder.safetens"
         r"ors, or leave it out: --model.point_checkpoint null\.$", lambda: AdapterSweep(clip, tmp_path, depth, path)),
        ("model.point_checkpoint .*ulip.pt is ULIP's released", lambda: GDPATuning(clip, tmp_path / "a.safetensors", depth, path)),
        (r"model.init .*ulip.pt is ULIP's released point encoder; .* --model.init null\.$",
         lambda: TripletPretraining(clip, tmp_path / "a.safetensors", PointTransformer, init=path))]
    for message, build in refused:
        with pytest.raises(CheckpointMismatchError, match=message):
            build()
    for kind in (UlipPointBert, PointPatchTransformer):
        with pytest.raises(InputError, match=f"model.encoder is {kind.__name__}, which computes weights that others released .*; train a Point"):
            TripletPretraining(clip, tmp_path / "a.safetensors", partial(kind, **SMALL))


def encoder_of(path: Path) -> Any:
    stored = read_point_checkpoint(path)
    described = {key: value for key, value in stored.about["encoder"].items() if key not in ("num_points", "up", "channels")}
    encoder = build_point_encoder(described, stored.about["embed_dim"])
    encoder.load_state_dict(stored.encoder_state)
    return encoder.eval()


@pytest.fixture
def tiny_slip(monkeypatch: pytest.MonkeyPatch) -> State:
    """ULIP's file with a small SLIP inside."""
    monkeypatch.setattr(slip, "MODEL", "tests-slip")
    monkeypatch.setitem(released_points.CLIPS["ULIP"], 512, ("tests-slip", None))
    shapes = files.slip_shapes(192, 12, 64, 2) | files.ulip_shapes(512, 3, group=32, **SMALL)
    return files.random_state(shapes)


def test_slip_travels_inside_of_ulips_file(tiny_slip: State, tmp_path: Path) -> None:
    """Names are encoded by the text tower in the file, pictures by its image tower; nothing else has to be given."""
    path = files.save_ulip(tmp_path / "pointbert.pt", tiny_slip)
    recognizer = clip2x.load(path, "cpu")
    assert read_point_checkpoint(path).carries_clip and recognizer.towers.model_id == "tests-slip"
    tokens = open_clip.get_tokenizer("ViT-B-32")(["a point cloud model of chair.", "lamp"])
    expected = torch.stack([files.slip_text_twin(tiny_slip, row, heads=2, layers=2) for row in tokens])
    assert torch.allclose(recognizer.towers.encode_text(["a point cloud model of chair.", "lamp"]).double(), expected, atol=1e-5)
    pictures = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    visual = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    visual.load_state_dict({name.removeprefix("visual."): value for name, value in tiny_slip.items() if name.startswith("visual.")})
    with torch.no_grad():
        features = visual((pictures - mean) / std) @ tiny_slip["image_projection"]
        assert torch.allclose(recognizer.towers.encode_image(pictures), features, atol=1e-5)
    assert torch.allclose(recognizer.embed(POINTS[:, :100]).norm(dim=-1), torch.ones(2))
    assert recognizer.classify(POINTS[:, :100], NAMES).sum() == pytest.approx(2)


def test_an_export_takes_slip_from_ulips_file(tiny_slip: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SLIP is too large to travel on; the export says so in its card, and reads it from the file it came from."""
    source, path = files.save_ulip(tmp_path / "pointbert.pt", tiny_slip), tmp_path / "new.safetensors"
    monkeypatch.setattr("clip2x.exporting.files.comparison_clouds", lambda graph: {"clouds": POINTS[:, :100]})
    assert main(["export", "--checkpoint", str(source), "--output", str(path)]) == 0
    assert json.loads((tmp_path / "new.safetensors.json").read_text())["clip"]["sha256"] == read_weights(source).sha256
    assert torch.equal(*(recognizer.classify(POINTS[:, :100], NAMES) for recognizer in (clip2x.load(source), clip2x.load(path, clip=source))))
    with pytest.raises(DataNotFoundError, match="which is not inside; give that file"):
        clip2x.load(path)


def test_a_file_without_slip_takes_it_from_another(tiny_slip: State, tmp_path: Path) -> None:
    whole = files.save_ulip(tmp_path / "whole.pt", tiny_slip)
    bare = files.save_ulip(tmp_path / "bare.pt", {name: value for name, value in tiny_slip.items() if name.split(".")[0] not in slip.PARTS})
    with pytest.raises(DataNotFoundError, match="bare.pt needs the CLIP of its training, tests-slip .* which is not inside; give that file"):
        clip2x.load(bare, "cpu")
    recognizers = clip2x.load(whole, "cpu"), clip2x.load(bare, "cpu", clip=whole)
    assert torch.equal(*(recognizer.classify(POINTS[:1, :50], NAMES) for recognizer in recognizers))
    with pytest.raises(CheckpointMismatchError, match="has other weights"):
        clip2x.load(whole, "cpu", clip=files.save_ulip(tmp_path / "other.pt", tiny_slip | {"logit_scale": torch.tensor(1.0)}))


def test_the_real_slip_has_the_published_layout() -> None:
    with torch.device("meta"):
        towers = open_clip.CLIP(**open_clip.get_model_config(slip.MODEL))
    published = {name: torch.empty(shape, device="meta") for name, shape in files.slip_shapes(768, 12, 512, 12).items()}
    assert slip.carries_slip(published)
    assert {name: tensor.shape for name, tensor in slip.slip_state(published).items()} == {
        name: tensor.shape for name, tensor in towers.state_dict().items()}


def test_evaluation_takes_such_encoders_and_names_whose_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(released_points.CLIPS["OpenShape"], 48, (WIDE.format(48), None))
    shapes = files.openshape_shapes(48, **SMALLEST)
    path = files.save_openshape(tmp_path / "model.pt", files.random_state(shapes))
    clip = ClipTowers(WIDE.format(48), str(clip_file(tmp_path / "clip.pt", 48)))
    stored = read_point_checkpoint(path)
    ladder = Ladder(clip, views="clip2point-6", point_radius=[0.03], points=stored, images=True).eval()
    assert [method.name for method in ladder.methods] == ["CLIP depth views r=0.03", "CLIP image crop", "OpenShape", "OpenShape + image crop"]
    notes = " ".join(ladder.methods[2].protocol["notes"])
    assert "a reflection" in notes and "0.4" in notes and "names no CLIP" in notes and "CLIP2's" not in notes
    cloud = unit_sphere(POINTS[:1, :300])
    frozen = FrozenEncoder(path, clip)
    assert frozen.title == "OpenShape" and frozen.num_points == 10_000
    assert torch.allclose(ladder(cloud, "cosine_sum")[0][1], frozen(cloud), atol=1e-6)
    assert ZeroShotClassification(clip, tmp_path, point_checkpoint=path)._checkpoint_files()["OpenShape"] == str(path)
    few = FewShotRecognition(clip, tmp_path, path)
    said = few._method("linear probe").protocol
    assert (said["encoder"], few._checkpoint_files()) == ("OpenShape", {"OpenShape": str(path)})
    assert "on ModelNet40's test list" in said["selected_on"] and said["notes"] == ladder.methods[2].protocol["notes"]


def test_the_command_line_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = files.save_ulip(tmp_path / "ulip.pt", files.random_state(ULIP_SMALL))
    clip_file(tmp_path / "clip.pt", 48)
    np.save(tmp_path / "cloud.npy", POINTS[0].numpy())
    command = ["classify", str(tmp_path / "cloud.npy"), "--classes", "chair,table", "--checkpoint", str(path)]
    assert main([*command, "--clip", WIDE.format(48), "--pretrained", str(tmp_path / "clip.pt"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {label["name"] for label in answer["labels"]} == {"chair", "table"}
    recognizer = clip2x.load(path, clip=tmp_path / "clip.pt", clip_model=WIDE.format(48))
    assert recognizer.ensemble is None
    assert main(command) == 2
    assert "needs a CLIP with embeddings of 48, none of which is known for such files; state it: --clip MODEL" in capsys.readouterr().err
    assert main([*command, "--clip", WIDE.format(48)]) == 2
    assert "give one of --checkpoint FILE" in capsys.readouterr().err


def without(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


ULIP_STATE = files.random_state(ULIP_SMALL)
PATCH_STATE = files.random_state(files.openshape_shapes(64, **SMALLEST))
DEMO_STATE = files.random_state(files.openshape_shapes(None, width=64, depth=1, mlp=64, group=32))


@pytest.mark.parametrize(("save", "state", "message"), [
    (files.save_ulip, without(ULIP_STATE, "point_encoder.blocks.blocks.1.mlp.fc1.bias"),
     r"its point encoder does not fit ULIP's Point-BERT: 1 weights missing .first 'point_encoder.blocks.blocks.1.mlp.fc1.bias'"),
    (files.save_ulip, ULIP_STATE | {"point_encoder.extra.weight": torch.ones(2)}, "1 weights not the model's .first 'point_encoder.extra.weight'"),
    (files.save_ulip, ULIP_STATE | {"adapter.weight": torch.ones(2)}, "looks like ULIP's Point-BERT, but has adapter besides"),
    (files.save_ulip, ULIP_STATE | {"point_encoder.norm.weight": torch.ones(2)}, r"point_encoder.norm.weight is \(2,\), \(64,\) is needed"),
    (files.save_ulip, ULIP_STATE | {"pc_projection": torch.ones(100, 48)}, "numbers must be at least 1 and width a multiple of 64, got width 50"),
    (files.save_ulip, ULIP_STATE | {"pc_projection": torch.ones(128)}, r"pc_projection is \(128,\), 2 axes are needed"),
    (files.save_ulip, {"pc_projection": torch.ones(256, 512), "point_encoder.sa1.mlp_convs.0.weight": torch.ones(3)},
     "a checkpoint of ULIP whose point encoder is no Point-BERT"),
    (files.save_openshape, without(PATCH_STATE, "ppat.lift.2.bias"),
     "does not fit OpenShape's Point-BERT: 1 weights missing .first 'ppat.lift.2.bias'"),
    (files.save_openshape, PATCH_STATE | {"text_proj.weight": torch.ones(2)}, "looks like OpenShape's Point-BERT, but has text_proj besides"),
    (files.save_openshape, without(PATCH_STATE, "ppat.cls_token"), "its point encoder is incomplete: ppat.cls_token is missing"),
    (files.save_openshape, files.random_state(files.openshape_shapes(64, width=128, depth=2, mlp=64, group=32)),
     r"of a size that OpenShape's code does not have .width 128, 2 layers, MLP 64, groups 32."),
    (files.save_demo, without(DEMO_STATE, "lift.0.bias"), "1 weights missing .first 'lift.0.bias'"),
])
def test_files_that_are_not_whole_are_one_line(save: Any, state: State, message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "model.pt", state)
    for read in (read_point_checkpoint, lambda file: clip2x.load(file, "cpu")):
        with pytest.raises(CheckpointMismatchError, match=message) as caught:
            read(path)
        assert "\n" not in str(caught.value) and "model.pt" in str(caught.value)


def test_the_wrong_clip_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = files.save_demo(tmp_path / "model.pt", DEMO_STATE)
    clip = clip_file(tmp_path / "clip.pt", 48)
    cases: list[tuple[type[Clip2xError], str, dict[str, Any]]] = [
        (CheckpointMismatchError, r"embed_dim 64., the one given has embed_dim 48; give that CLIP", {"clip": clip, "clip_model": WIDE.format(48)}),
        (InputError, "model.pt is a point encoder, and has no second tower to add",
         {"clip": clip, "clip_model": WIDE.format(48), "ensemble": True}),
        (InputError, "needs --pretrained TAG_OR_FILE .clip=. too", {"clip_model": WIDE.format(48)}),
    ]
    for kind, message, arguments in cases:
        with pytest.raises(kind, match=message) as caught:
            clip2x.load(demo, "cpu", **arguments)
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(released_points.CLIPS["OpenShape"], 64, (WIDE.format(64), "theirs"))
    path = str(clip_file(tmp_path / "wide.pt", 64))
    entry = {"hf_hub": "somewhere/", "quick_gelu": True, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, WIDE.format(64), {"theirs": entry, "another": entry})
    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: path)
    embeds = [clip2x.load(demo, "cpu", **arguments).embed(POINTS[:, :50]) for arguments in ({}, {"clip": "theirs"}, {"clip": path})]
    assert torch.equal(embeds[0], embeds[1]) and torch.equal(embeds[0], embeds[2])
    with pytest.raises(CheckpointMismatchError, match="was trained with the CLIP tests-64-quickgelu/theirs, the one given, .*/another, has other"):
        clip2x.load(demo, "cpu", clip="another")
    with pytest.raises(InputError, match="clip.pt says itself which CLIP it needs"):
        clip2x.load(clip, "cpu", clip=clip, clip_model=WIDE.format(48))


class Runs:
    """What a file that is to be refused would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code was run",)


def test_a_command_line_beside_the_weights_is_read_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ULIP's files hold an argparse.Namespace; of its values only plain ones are read."""
    path = tmp_path / "model.pt"
    state = {"logit_scale": torch.tensor(0.0)}
    torch.save({"state_dict": state, "args": Namespace(lr=0.1, nested=Namespace(a=[1, "b"]))}, path)
    assert read_weights(path).state.keys() == state.keys() and read_weights(path).logit_scale is None
    torch.save({"state_dict": state, "args": Namespace(lr=Runs())}, path)
    with pytest.raises(BadFileError, match="holds more than weights"):
        read_weights(path)
    assert "code was run" not in capsys.readouterr().out
    scales: list[Any] = [{"module.logit_scale": torch.tensor(900.0)}, {"a": torch.zeros(2)}, {}, 3, {"a": torch.zeros(1), "b": torch.zeros(1)}]
    for beside in scales:
        torch.save({"state_dict": state, "logit_scale": beside}, path)
        assert read_weights(path).logit_scale is None


def test_slip_alone_is_no_point_encoder(tiny_slip: State, tmp_path: Path) -> None:
    kept: dict[str, Tensor] = {name: value for name, value in tiny_slip.items() if name.split(".")[0] in slip.PARTS | {"logit_scale"}}
    path = tmp_path / "slip.pt"
    torch.save({f"module.{name}": value for name, value in kept.items()}, path)
    assert ClipTowers("tests-slip", str(path)).mean == slip.MEAN and "visual.head.proj.weight" in read_clip_file(path).state
    with pytest.raises(CheckpointMismatchError, match="does not say which stage wrote it"):
        read_point_checkpoint(path)
