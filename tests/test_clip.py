"""CLIP towers: weights from every kind of file, refusals, activation, frozen behaviour."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor, nn

from clip2x.encoders import clip as clip_module
from clip2x.encoders import clip_files
from clip2x.encoders.clip import ClipTowers, uses_quick_gelu
from clip2x.encoders.clip_files import describe_weights, fit_weights, openai_files, read_clip_file, save_clip_file
from clip2x.errors import BadFileError, CheckpointMismatchError, Clip2xError, DataNotFoundError, InputError

MARKS = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}


@pytest.fixture(scope="module", autouse=True)
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Register `tiny`, `tiny-quickgelu` and `tiny-wide` with open_clip."""
    folder = tmp_path_factory.mktemp("configs")
    for name, width, quick in (("tiny", 64, False), ("tiny-quickgelu", 64, True), ("tiny-wide", 128, False)):
        vision = {"image_size": 32, "layers": 2, "width": width, "patch_size": 8}
        text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
        (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 32, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return dict(open_clip.create_model("tiny-quickgelu").state_dict())


class Shell(nn.Module):
    """Holds tensors under dotted names, as OpenAI's archives do."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name in sorted({name.split(".")[0] for name in state}):
            inner = {key.split(".", 1)[1]: value for key, value in state.items() if key.startswith(name + ".")}
            if inner:
                self.add_module(name, Shell(inner))
            else:
                self.register_buffer(name, state[name])

    def forward(self, images: Tensor) -> Tensor:
        return images


def save_torchscript(state: dict[str, Tensor], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Shell(state | MARKS)), path)


def features(model: str, path: Path, **arguments: bool) -> tuple[Tensor, Tensor]:
    towers = ClipTowers(model, str(path), **arguments)
    images = torch.linspace(0, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    return towers.encode_image(images), towers.encode_text(["a red chair", "a table"])


@pytest.mark.parametrize("kind", ["plain", "checkpoint", "safetensors", "marked", "torchscript"])
def test_every_kind_of_file_gives_the_same_features(kind: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    model = open_clip.create_model("tiny-quickgelu").eval()
    model.load_state_dict(state)
    images = torch.linspace(0, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    with torch.no_grad():
        expected = model.encode_image((images - mean) / std), model.encode_text(open_clip.tokenize(["a red chair", "a table"]))
    path = tmp_path / "no_extension"
    if kind == "plain":
        torch.save(state, path)
    elif kind == "checkpoint":
        torch.save({"epoch": 3, "name": "run", "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    elif kind == "safetensors":
        save_clip_file(path, state, {})
    elif kind == "marked":
        torch.save(state | MARKS, path)
    else:
        save_torchscript(state, path)
    found = features("tiny-quickgelu", path, trust_torchscript=kind == "torchscript")
    for got, wanted in zip(found, expected, strict=True):
        assert torch.allclose(got, wanted, atol=1e-6)


def test_half_precision_becomes_float32(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pt")
    towers = ClipTowers("tiny-quickgelu", str(tmp_path / "half.pt"))
    assert {parameter.dtype for parameter in towers.parameters()} == {torch.float32}
    assert torch.equal(towers.image_tower.visual.proj, state["visual.proj"].half().float())


def test_own_file_says_what_it_is(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_clip_file(path, state, {"model": "tiny-quickgelu", "words": ["Chair", "red"], "seed": 3, "mean": [0.5] * 3, "std": [0.25] * 3})
    towers = ClipTowers("tiny-quickgelu", str(path))
    assert towers.trained_words == {"chair", "red"} and towers.metadata["seed"] == 3
    assert towers.mean == (0.5, 0.5, 0.5) and towers.std == (0.25, 0.25, 0.25)
    assert towers.id == f"tiny-quickgelu/sha256:{read_clip_file(path).sha256}"
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.safetensors"]
    with pytest.raises(CheckpointMismatchError, match="says it is tiny-quickgelu, you asked for tiny; ask for tiny-quickgelu"):
        ClipTowers("tiny", str(path))


def write_bad_file(kind: str, state: dict[str, Tensor], path: Path) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("these are not the weights you are looking for")
    elif kind == "short":
        path.write_bytes(b"PK")
    elif kind in ("truncated", "damaged"):
        torch.save(state, path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if kind == "truncated" else content[:2000] + b"\0" * 3000 + content[5000:])
    elif kind == "truncated safetensors":
        save_clip_file(path, state, {})
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "code":
        torch.save(Path("/"), path)
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "not tensors":
        torch.save({"visual.proj": 3}, path)
    elif kind == "nan":
        torch.save(state | {"visual.proj": state["visual.proj"] * float("nan")}, path)
    elif kind == "missing":
        torch.save({name: value for name, value in state.items() if not name.startswith("ln_final")}, path)
    elif kind == "unexpected":
        torch.save(state | {"head.weight": torch.zeros(2)}, path)
    elif kind == "shape":
        torch.save(state | {"visual.proj": torch.zeros(64, 16)}, path)
    elif kind == "other":
        torch.save({"conv.weight": torch.zeros(2, 3)}, path)
    elif kind == "torchscript":
        save_torchscript(state, path)


@pytest.mark.parametrize(("kind", "error", "message"), [
    ("absent", DataNotFoundError, "no such weight file"),
    ("folder", BadFileError, "a folder, not a weight file"),
    ("text", BadFileError, "not a weight file .it starts with b'these ar'.; accepted are PyTorch files and safetensors"),
    ("short", BadFileError, "2 bytes long, not a weight file"),
    ("truncated", BadFileError, "truncated or damaged"),
    ("truncated safetensors", BadFileError, "truncated or not safetensors"),
    ("code", BadFileError, "holds more than weights, or is damaged"),
    ("list", BadFileError, "holds a list, not a state dict"),
    ("not tensors", BadFileError, "entry 'visual.proj' is a int, not a tensor"),
    ("nan", BadFileError, "visual.proj has values that are not finite"),
    ("missing", CheckpointMismatchError, "does not fit tiny-quickgelu: 2 weights missing .first 'ln_final.bias'."),
    ("unexpected", CheckpointMismatchError, "does not fit tiny-quickgelu: 1 weights not the model's .first 'head.weight'."),
    ("shape", CheckpointMismatchError, r"visual.proj is \(64, 16\), tiny-quickgelu needs \(64, 32\)"),
    ("other", CheckpointMismatchError, "these are no CLIP weights .1 tensors, 6 numbers, first 'conv.weight'.; you asked for tiny-quickgelu"),
    ("torchscript", BadFileError, "none of OpenAI's .sha256 .*set trust_torchscript=true if you made the file"),
])
def test_bad_file_is_one_line(kind: str, error: type[Clip2xError], message: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    write_bad_file(kind, state, path)
    with pytest.raises(error, match=message) as caught:
        ClipTowers("tiny-quickgelu", str(path))
    assert "\n" not in str(caught.value) and "weights.pt" in str(caught.value)


def test_damaged_middle_never_loads_unnoticed(state: dict[str, Tensor], tmp_path: Path) -> None:
    write_bad_file("damaged", state, tmp_path / "weights.pt")
    with pytest.raises(BadFileError, match="weights.pt"):
        ClipTowers("tiny-quickgelu", str(tmp_path / "weights.pt"))


def test_weights_of_another_model_are_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointMismatchError, match=r"these are ViT weights \(patch 8, width 64, 2 layers, 32 px, text width 64\); you asked "
                                                      r"for tiny-wide, which has ViT weights \(patch 8, width 128"):
        ClipTowers("tiny-wide", str(tmp_path / "w.pt"))


def shapes(model: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(open_clip.create_model(model, device="meta").state_dict())


@pytest.mark.parametrize(("model", "description"), [
    ("ViT-B-16", "ViT-B/16 weights (patch 16, width 768, 12 layers, 224 px, text width 512)"),
    ("ViT-L-14-336", "ViT-L/14 weights (patch 14, width 1024, 24 layers, 336 px, text width 768)"),
    ("RN50", "RN50 weights (blocks 3-4-6-3, width 64, text width 512)"),
    ("RN101", "RN101 weights (blocks 3-4-23-3, width 64, text width 512)"),
])
def test_real_architectures_are_recognised(model: str, description: str) -> None:
    found = shapes(model)
    assert describe_weights(found) == description
    with pytest.raises(CheckpointMismatchError, match="you asked for ViT-B-32, which has ViT-B/32 weights"):
        fit_weights(found, shapes("ViT-B-32"), model="ViT-B-32", source="w.pt")


def test_transformers_layout_is_named() -> None:
    assert "transformers library" in describe_weights({"vision_model.embeddings.class_embedding": torch.zeros(4)})


def test_openai_hashes_come_from_open_clip() -> None:
    known = openai_files()
    assert len(known) == 9 and all(len(digest) == 64 for digest in known) and all(uses_quick_gelu(model) for model in known.values())
    assert known["40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"] == "ViT-B-32-quickgelu"


def test_known_archive_needs_no_trust(state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_torchscript(state, tmp_path / "w.pt")
    digest = clip_files.sha256_of_file(tmp_path / "w.pt")
    monkeypatch.setattr(clip_files, "openai_files", lambda: {digest: "tiny-quickgelu"})
    assert ClipTowers("tiny-quickgelu", str(tmp_path / "w.pt")).weights_sha256 == digest


@pytest.mark.parametrize("kind", ["marked", "torchscript"])
def test_openai_layout_needs_quick_gelu(kind: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    if kind == "marked":
        torch.save(state | MARKS, tmp_path / "w.pt")
    else:
        save_torchscript(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointMismatchError, match="trained with QuickGELU .* tiny computes GELU; use the model tiny-quickgelu"):
        ClipTowers("tiny", str(tmp_path / "w.pt"), trust_torchscript=True)


def test_open_clip_does_not_switch_the_activation_of_a_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for our refusal: open_clip 3.3 builds GELU for ViT-B-32 with the tag openai and only warns."""
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: "")
    with pytest.warns(UserWarning, match="QuickGELU mismatch"):
        model = open_clip.create_model("ViT-B-32", pretrained="openai")
    assert isinstance(model.visual.transformer.resblocks[0].mlp.gelu, nn.GELU)
    for name in ("ViT-B-32", "RN50", "ViT-L-14-336"):
        with pytest.raises(CheckpointMismatchError, match=f"tag 'openai': .*QuickGELU.* use the model {name}-quickgelu"):
            ClipTowers(name, "openai")


def test_tag_is_read_like_a_file(state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_clip_file(tmp_path / "w", state, {})
    entry = {"hf_hub": "somewhere/", "quick_gelu": True, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-quickgelu", {"mine": entry})
    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: str(tmp_path / "w"))
    towers = ClipTowers("tiny-quickgelu", "mine")
    assert towers.id == "tiny-quickgelu/mine" and towers.mean == (0.5, 0.5, 0.5)
    assert towers.weights_sha256 == clip_files.sha256_of_file(tmp_path / "w")

    def no_network(_: object) -> str:
        raise OSError("Name or service\nnot known")

    monkeypatch.setattr(open_clip, "download_pretrained", no_network)
    with pytest.raises(DataNotFoundError, match="weights 'mine' of tiny-quickgelu cannot be downloaded .Name or service not known.; without a net"):
        ClipTowers("tiny-quickgelu", "mine")


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"model": "ViT-B/32"}, InputError, "no model 'ViT-B/32'; near it are ViT-B-32, .*ViT-B-32-quickgelu"),
    ({"model": "tiny"}, InputError, "state either pretrained .* or random_weights=true"),
    ({"model": "tiny", "pretrained": "x", "random_weights": True}, InputError, "state either pretrained"),
    ({"model": "tiny", "random_weights": True, "precision": "fp8"}, InputError, "precision must be one of fp32, bf16, got 'fp8'"),
    ({"model": "RN50-quickgelu", "pretrained": "nope"}, DataNotFoundError, "neither a file nor a tag of RN50-quickgelu; its tags: openai, yfcc15m"),
])
def test_bad_argument_is_one_line(arguments: dict[str, str], error: type[Clip2xError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        ClipTowers(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_colours_of_a_model_published_with_two() -> None:
    weights = clip_files.ClipWeights({}, "0", openai_layout=False)
    with pytest.raises(InputError, match="ViT-L-14 was published with 2 different colour normalisations; state mean and std"):
        clip_module._colours("ViT-L-14", None, weights)
    assert clip_module._colours("ViT-L-14", "laion2b_s32b_b82k", weights)[0] == (0.5, 0.5, 0.5)
    assert clip_module._colours("ViT-B-16-SigLIP", None, weights)[1] == (0.5, 0.5, 0.5)
    assert ClipTowers("tiny", random_weights=True, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0)).mean == (0.1, 0.2, 0.3)


def test_towers_stay_frozen() -> None:
    towers = ClipTowers("tiny", random_weights=True)
    parent = nn.Sequential(towers, nn.Linear(2, 2)).train()
    assert parent.training and not any(module.training for module in towers.modules())
    assert not any(parameter.requires_grad for parameter in towers.parameters())
    assert not towers.encode_text(["a"]).requires_grad and not towers.encode_image(torch.zeros(1, 3, 32, 32)).requires_grad


def test_trainable_copy_leaves_the_towers_alone() -> None:
    towers = ClipTowers("tiny", random_weights=True)
    copy = towers.trainable_image_tower()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert copy.training and torch.allclose(copy.encode_image(images), towers.encode_image(images), atol=1e-5)
    before = towers.encode_image(images)
    copy.encode_image(images).sum().backward()
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(0.1)
    assert torch.equal(towers.encode_image(images), before) and not any(parameter.requires_grad for parameter in towers.parameters())


def test_pictures_are_normalised_and_checked() -> None:
    towers = ClipTowers("tiny", random_weights=True)
    assert towers.image_size == 32 and towers.embed_dim == 32
    grey = towers.normalise(torch.full((1, 3, 2, 2), 0.5))
    assert grey[0, :, 0, 0].tolist() == pytest.approx([(0.5 - 0.48145466) / 0.26862954, (0.5 - 0.4578275) / 0.26130258,
                                                       (0.5 - 0.40821073) / 0.27577711], abs=1e-6)
    for shape in ((1, 3, 16, 16), (1, 1, 32, 32)):
        with pytest.raises(InputError, match=r"pictures must be \(B, 3, 32, 32\) for this CLIP, got .*; resize them first"):
            towers.encode_image(torch.zeros(shape))
    for texts in ([], "chair"):
        with pytest.raises(InputError, match="texts must be a list"):
            towers.encode_text(texts)


def test_random_weights_follow_the_seed_only() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = ClipTowers("tiny", random_weights=True, seed=1)
    assert torch.equal(torch.rand(1), expected)
    second, third = ClipTowers("tiny", random_weights=True, seed=1), ClipTowers("tiny", random_weights=True, seed=2)
    assert torch.equal(first.encode_text(["a"]), second.encode_text(["a"])) and not torch.equal(first.encode_text(["a"]), third.encode_text(["a"]))
    assert first.id == "tiny/random:1" and first.logit_scale == pytest.approx(1 / 0.07) and first.trained_words is None


def test_bf16_is_for_pictures_only() -> None:
    exact, coarse = ClipTowers("tiny", random_weights=True), ClipTowers("tiny", random_weights=True, precision="bf16")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(exact.encode_text(["a chair"]), coarse.encode_text(["a chair"]))
        inside = exact.encode_image(images)
    assert torch.equal(inside, exact.encode_image(images))
    difference = (exact.encode_image(images) - coarse.encode_image(images)).abs().max()
    assert 0 < difference < 0.1 and coarse.encode_image(images).dtype == torch.float32


def test_long_lists_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    towers = ClipTowers("tiny", random_weights=True)
    texts = [f"thing {number}" for number in range(7)]
    whole = towers.encode_text(texts)
    monkeypatch.setattr(clip_module, "TEXT_CHUNK", 3)
    assert torch.allclose(towers.encode_text(texts), whole, atol=1e-5)  # batches of another size round differently: 1e-6 on some processors


@pytest.mark.parametrize("texts", [["a"], ["a red chair on a table", "x"], ["many " * 100, "few"]])
def test_padding_is_left_out_without_effect(texts: list[str]) -> None:
    towers = ClipTowers("tiny", random_weights=True)
    assert torch.allclose(towers.encode_text(texts), towers.text_tower.encode_text(open_clip.tokenize(texts)), atol=1e-6)
