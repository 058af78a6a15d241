"""Detectors of `transformers` with tiny random weights that the tests build: no hub is asked. Results are held against the library's own decoding."""

from __future__ import annotations

import ast
import shutil
import string
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import clip2x.proxies.transformers_detectors as module
from clip2x.errors import CheckpointMismatchError, DataNotFoundError, InputError, MissingDependencyError
from clip2x.proxies.detectors import Picture
from clip2x.proxies.suppression import Suppression
from clip2x.proxies.transformers_detectors import GroundingDinoDetector, OmDetTurboDetector, Owlv2Detector, TransformersDetector, span_scores
from clip2x.proxies.vocabulary import Vocabulary

CONCEPTS = (("car (automobile)", "auto"), ("bus",), ("traffic cone",), ("zebra",), ("tv set",), ("St. Bernard",), ("pen",))
VOCABULARY = Vocabulary("test", "tests", CONCEPTS)
EVERYTHING = Suppression(min_score=0.0, same_name_iou=1.0, any_name_iou=1.0, min_side_px=0.0, max_share=1.0, max_boxes=1000)
KNOWN_BOX = (400.0, 300.0, 800.0, 600.0)  # in a picture of 1600 x 900
SWIN = {"image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2}


def save_clip_tokenizer(folder: Path, length: int) -> int:
    import transformers

    letters = string.ascii_lowercase + "().,"
    vocab = {token: number for number, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"])}
    transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=length).save_pretrained(folder)
    return len(vocab)


def save_bert_tokenizer(folder: Path) -> None:
    """BERT's ids of [CLS], [SEP], full stop and question mark are written into the model's code."""
    import transformers

    letters = string.ascii_lowercase
    pieces = ["[PAD]", "[UNK]", "[MASK]", "(", ")", ",", "car", "bus", "traffic", *letters, *(f"##{letter}" for letter in letters)]
    vocab = {token: number for number, token in enumerate(pieces)}
    vocab.update({"[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029})
    taken = set(vocab.values())
    vocab.update({f"[unused{number}]": number for number in range(1030) if number not in taken})
    transformers.BertTokenizer(vocab=vocab).save_pretrained(folder)


def save_owlv2(folder: Path) -> None:
    import transformers

    size = save_clip_tokenizer(folder, 16)
    text = {"vocab_size": size, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "bos_token_id": size - 2, "eos_token_id": size - 1}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "patch_size": 16}
    model = transformers.Owlv2ForObjectDetection(transformers.Owlv2Config(text_config=text, vision_config=vision, projection_dim=32))
    with torch.no_grad():  # at this width the library's initial weights saturate the sigmoids
        for weights in (*model.box_head.parameters(), *model.class_head.parameters()):
            weights.mul_(0.2)
    model.save_pretrained(folder)
    transformers.Owlv2ImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def save_grounding_dino(folder: Path, config_class: str, model_class: str) -> None:
    import transformers

    save_bert_tokenizer(folder)
    text = transformers.BertConfig(vocab_size=1030, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                                   max_position_embeddings=64)
    config = getattr(transformers, config_class)(
        backbone_config=transformers.SwinConfig(**SWIN, out_features=["stage2", "stage3", "stage4"]), text_config=text, d_model=32, encoder_layers=1,
        decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=6,
        max_text_len=24)
    getattr(transformers, model_class)(config).save_pretrained(folder)
    transformers.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}).save_pretrained(folder)


def save_omdet_turbo(folder: Path) -> None:
    import transformers

    size = save_clip_tokenizer(folder, 77)
    text = transformers.CLIPTextConfig(vocab_size=size, hidden_size=32, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                                       projection_dim=32, bos_token_id=size - 2, eos_token_id=size - 1)
    config = transformers.OmDetTurboConfig(
        text_config=text, backbone_config=transformers.SwinConfig(**SWIN, out_indices=[2, 3, 4]), apply_layernorm_after_vision_backbone=False,
        image_size=64, num_queries=6, encoder_hidden_dim=16, decoder_hidden_dim=16, vision_features_channels=[16, 16, 16],
        encoder_in_channels=[16, 32, 64], encoder_attention_heads=2, encoder_dim_feedforward=16, decoder_num_heads=2, decoder_num_layers=2,
        decoder_dim_feedforward=16, text_projection_in_dim=32, text_projection_out_dim=32, class_embed_dim=32, task_encoder_hidden_dim=16)
    transformers.OmDetTurboForObjectDetection(config).save_pretrained(folder)
    transformers.DetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


MODELS: dict[str, tuple[type[TransformersDetector], Callable[[Path], None]]] = {
    "owlv2": (Owlv2Detector, save_owlv2),
    "grounding-dino": (GroundingDinoDetector, lambda folder: save_grounding_dino(folder, "GroundingDinoConfig", "GroundingDinoForObjectDetection")),
    "mm-grounding-dino": (GroundingDinoDetector,
                          lambda folder: save_grounding_dino(folder, "MMGroundingDinoConfig", "MMGroundingDinoForObjectDetection")),
    "omdet-turbo": (OmDetTurboDetector, save_omdet_turbo),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("transformers", reason="the extra clip2x[detect] is not installed")
    made = {}
    for name, (_, save) in MODELS.items():
        made[name] = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        save(made[name])
    return made


def build(folders: dict[str, Path], name: str, **options: Any) -> Any:
    detector = MODELS[name][0](str(folders[name]), **{"suppression": EVERYTHING, **options})
    detector.prepare(VOCABULARY)
    return detector


def picture(width_px: int = 160, height_px: int = 90, seed: int = 0) -> Picture:
    rgb = np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    return Picture(f"{seed}.jpg", Path("x"), width_px, height_px, rgb)


def inputs_for(detector: TransformersDetector, item: Picture) -> dict[str, torch.Tensor]:
    assert item.rgb is not None
    return dict(detector.image_processor(images=[item.rgb], return_tensors="pt"))


@pytest.mark.parametrize("name", MODELS)
def test_boxes_lie_in_the_picture_with_ids_of_the_vocabulary(folders: dict[str, Path], name: str) -> None:
    detector = build(folders, name, chunk=3)
    pictures = [picture(), picture(60, 100, seed=1), picture(seed=2)]
    answers = detector(pictures)
    assert len(answers) == 3
    for item, found in zip(pictures, answers, strict=True):
        box_px, ids, score = found.detections.box_px, found.detections.concept_id, found.detections.score
        assert len(score) > 0 and found.rules["boxes"] >= len(score)
        assert (box_px[:, :2] >= 0).all() and (box_px[:, 2] <= item.width_px).all() and (box_px[:, 3] <= item.height_px).all()
        assert ids.min() >= 0 and ids.max() < len(VOCABULARY) and score.min() >= 0 and score.max() <= 1 and (np.diff(score) <= 0).all()
    for item, found in zip(pictures, answers, strict=True):  # one picture alone gives what it gives among others
        alone = detector([item])[0].detections
        np.testing.assert_allclose(alone.box_px, found.detections.box_px, atol=0.05)
        assert (alone.concept_id == found.detections.concept_id).all()


def known_answer(shares: tuple[float, float, float, float], number: int = 1) -> torch.Tensor:
    return torch.tensor([[shares]]).expand(number, 1, 4)


def test_owlv2_shares_are_of_the_padded_square(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    detector = build(folders, "owlv2")
    shown = detector._pixels([Picture("white", Path("x"), 160, 90, np.full((90, 160, 3), 255, dtype=np.uint8))])["pixel_values"][0, 0]
    assert shown[:36].min() > shown[37:].max() and shown[37:].std() < 1e-6  # the picture fills the upper 9/16 of the square, the rest is plain
    monkeypatch.setattr(detector, "_pixels", lambda _: {"pixel_values": torch.zeros(1, 3, 64, 64)})  # the library blurs large pictures for seconds
    monkeypatch.setattr(detector.model, "box_predictor", lambda patches, _: known_answer((600 / 1600, 450 / 1600, 400 / 1600, 300 / 1600)))
    monkeypatch.setattr(detector.model, "class_predictor", lambda patches, names: (torch.zeros(1, 1, names.shape[1]),))
    np.testing.assert_allclose(detector([picture(1600, 900)])[0].detections.box_px, [KNOWN_BOX], atol=1e-3)


@pytest.mark.parametrize("name", ["grounding-dino", "mm-grounding-dino", "omdet-turbo"])
def test_shares_are_of_the_pictures_own_sides(folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = build(folders, name, **({} if name == "omdet-turbo" else {"chunk": 100}))
    box = known_answer((600 / 1600, 450 / 900, 400 / 1600, 300 / 900))
    if name == "omdet-turbo":
        answer = SimpleNamespace(decoder_coords=box[None], decoder_classes=torch.zeros(1, 1, 1, 7))
        monkeypatch.setattr(detector.model.decoder, "forward", lambda *_: answer)
    else:
        monkeypatch.setattr(detector.model, "forward", lambda **_: SimpleNamespace(logits=torch.zeros(1, 1, 24), pred_boxes=box))
    for found in detector([picture(1600, 900)])[0].detections.box_px:
        np.testing.assert_allclose(found, KNOWN_BOX, atol=1e-3)


def test_owlv2_agrees_with_the_library(folders: dict[str, Path]) -> None:
    detector, item = build(folders, "owlv2"), picture()
    prompts = VOCABULARY.prompts("detector", [names[0] for names in VOCABULARY.concepts])
    assert prompts[0] == "a photo of a car" and prompts[5] == "a photo of a St. Bernard"
    tokens = detector.tokenizer(prompts, padding="max_length", truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        output = detector.model(**inputs_for(detector, item), input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    expected = detector.image_processor.post_process_object_detection(output, threshold=0.0, target_sizes=[(90, 160)])[0]
    compare(detector([item])[0], expected["boxes"], expected["labels"], expected["scores"])


@pytest.mark.parametrize("name", ["grounding-dino", "mm-grounding-dino"])
def test_grounding_dino_agrees_with_the_library(folders: dict[str, Path], name: str) -> None:
    detector, item = build(folders, name, span="max"), picture()
    text, owned, first = detector._chunks[0]
    assert first == 0 and len(detector._chunks) > 1
    with torch.no_grad():
        output = detector.model(**inputs_for(detector, item), **text)
    from transformers import GroundingDinoProcessor

    processor = GroundingDinoProcessor(detector.image_processor, detector.tokenizer)
    expected = processor.post_process_grounded_object_detection(output, text["input_ids"], threshold=0.0, target_sizes=[(90, 160)])[0]
    of_token = output.logits[0].sigmoid()[:, : owned.shape[1]]
    slow = torch.stack([torch.stack([row[mask].max() for mask in owned]) for row in of_token])
    detector._chunks = detector._chunks[:1]
    compare(detector([item])[0], expected["boxes"], slow.argmax(dim=1), slow.max(dim=1).values)


def test_omdet_turbo_agrees_with_the_library(folders: dict[str, Path]) -> None:
    detector, item = build(folders, "omdet-turbo"), picture()
    from transformers import OmDetTurboProcessor

    processor = OmDetTurboProcessor(detector.image_processor, detector.tokenizer)
    names = ["car", "bus", "traffic cone", "zebra", "tv set", "St. Bernard", "pen"]
    with torch.no_grad():
        output = detector.model(**processor(images=item.rgb, text=names, return_tensors="pt"))
    scores, labels = output.decoder_class_logits[0].sigmoid().max(dim=-1)
    every = processor.post_process_grounded_object_detection(output, threshold=0.0, nms_threshold=1.0, target_sizes=[(90, 160)], max_num_det=42)[0]
    best = torch.stack([every["boxes"][(every["scores"] - score).abs().argmin()] for score in scores])
    compare(detector([item])[0], best, labels, scores)


def compare(found: Any, boxes: torch.Tensor, labels: torch.Tensor, scores: torch.Tensor) -> None:
    """Compare with boxes in any order, after cutting them at the picture's border (160 x 90)."""
    expected = {}
    for box, label, score in zip(boxes.detach().numpy(), labels.numpy(), scores.detach().numpy(), strict=True):
        cut = np.clip(box, 0, [160, 90, 160, 90])
        if (cut[2:] > cut[:2]).all():
            expected[round(float(score), 5)] = (cut, label)
    assert len(expected) == len(found.detections) > 2
    for box, label, score in zip(found.detections.box_px, found.detections.concept_id, found.detections.score, strict=True):
        cut, wanted = expected[round(float(score), 5)]
        np.testing.assert_allclose(box, cut, atol=0.01)
        assert label == wanted


def test_tokens_of_each_name_spell_the_name(folders: dict[str, Path]) -> None:
    detector = build(folders, "grounding-dino")
    spelled = {}
    for text, owned, first in detector._chunks:
        ids = text["input_ids"][0]
        assert len(ids) <= 24 and ids[0] == 101 and ids[-2] == 1012 and ids[-1] == 102
        for row, mask in enumerate(owned):
            spelled[first + row] = detector.tokenizer.decode(ids[mask])
        assert not owned[:, ids == 1012].any() and owned.sum() == len(ids) - 2 - len(owned)  # all but [CLS], [SEP] and the full stops
    assert spelled == {0: "car", 1: "bus", 2: "traffic cone", 3: "zebra", 4: "tv set", 5: "st bernard", 6: "pen"}


def test_a_text_holds_no_more_names_than_asked_for(folders: dict[str, Path]) -> None:
    detector = build(folders, "grounding-dino", chunk=2)
    assert max(len(owned) for _, owned, _ in detector._chunks) == 2
    assert [first + row for _, owned, first in detector._chunks for row in range(len(owned))] == list(range(len(VOCABULARY)))


def test_span_scores_by_hand() -> None:
    of_token = torch.tensor([[[0.2, 0.4, 0.9, 0.1]]])
    owned = torch.tensor([[True, True, False, False], [False, False, True, False]])
    torch.testing.assert_close(span_scores(of_token, owned, "mean"), torch.tensor([[[0.3, 0.9]]]))
    torch.testing.assert_close(span_scores(of_token, owned, "max"), torch.tensor([[[0.4, 0.9]]]))


def test_chunks_change_nothing_for_owlv2_and_texts_are_encoded_once(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, pieces = build(folders, "owlv2"), build(folders, "owlv2", chunk=2)
    monkeypatch.setattr(whole.model.owlv2, "text_model", None)
    one, other = whole([picture()])[0].detections, pieces([picture()])[0].detections
    np.testing.assert_allclose(one.score, other.score, atol=1e-6)
    assert (one.concept_id == other.concept_id).all()


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_is_near(folders: dict[str, Path], name: str) -> None:
    exact, half = build(folders, name), build(folders, name, precision="bf16")
    assert half([picture()])[0].detections.score[0] == pytest.approx(exact([picture()])[0].detections.score[0], abs=0.02)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_gpu_gives_the_same(folders: dict[str, Path], name: str, precision: str) -> None:
    exact, there = build(folders, name), build(folders, name, precision=precision).to("cuda")
    pictures = [picture(), picture(60, 100, seed=1)]
    for one, other in zip(exact(pictures), there(pictures), strict=True):
        assert other.detections.score[0] == pytest.approx(one.detections.score[0], abs=0.02)


def test_scores_that_are_no_numbers_are_refused(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    detector = build(folders, "owlv2", precision="bf16")
    monkeypatch.setattr(detector.model, "class_predictor", lambda patches, names: (torch.full((1, 16, names.shape[1]), torch.nan),))
    with pytest.raises(InputError, match=r"beyond the range of bf16 for 0\.jpg; set detector\.precision to fp32"):
        detector([picture()])


def test_scores_below_the_models_own_limit_are_dropped(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    detector = build(folders, "owlv2", suppression=Suppression(min_side_px=0.0, max_share=1.0))
    box = torch.tensor([[[0.2, 0.2, 0.1, 0.1], [0.4, 0.4, 0.1, 0.1]]])
    monkeypatch.setattr(detector.model, "box_predictor", lambda *_: box)
    monkeypatch.setattr(detector.model, "class_predictor", lambda patches, names: (torch.tensor([[0.19, 0.21]]).logit()[..., None].expand(1, 2, 7),))
    assert detector([picture()])[0].detections.score.tolist() == [pytest.approx(0.21)]
    assert detector.describe()["suppression"]["min_score"] == 0.2


def test_describe_names_the_weights(folders: dict[str, Path]) -> None:
    first, again, other = (build(folders, name).describe() for name in ("grounding-dino", "grounding-dino", "mm-grounding-dino"))
    assert first == again and first["weights_sha256"] != other["weights_sha256"] and first["span"] == "mean"


def test_a_name_longer_than_a_text_is_refused(folders: dict[str, Path]) -> None:
    detector = MODELS["grounding-dino"][0](str(folders["grounding-dino"]))
    with pytest.raises(InputError, match="longer than the 24 tokens"):
        detector.prepare(Vocabulary("v", "s", (("car",), ("q" * 30,))))
    with pytest.raises(InputError, match="has no token"):
        detector.prepare(Vocabulary("v", "s", (("car",), ("?",))))


def test_wrong_or_missing_models_are_refused_in_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatchError, match="is a model of the kind 'owlv2', GroundingDinoDetector takes grounding-dino or mm-"):
        GroundingDinoDetector(str(folders["owlv2"]))
    with pytest.raises(DataNotFoundError, match=r"neither a folder .* give the folder with config\.json and model\.safetensors"):
        Owlv2Detector(str(tmp_path / "nothing"))
    shutil.copy(folders["owlv2"] / "config.json", tmp_path)
    with pytest.raises(DataNotFoundError, match="or it lacks files"):
        Owlv2Detector(str(tmp_path))
    for file in folders["owlv2"].iterdir():
        shutil.copy(file, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataNotFoundError, match="or it lacks files"):
        Owlv2Detector(str(tmp_path))


def test_arguments_are_checked_and_pixels_needed(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="chunk from 1 to 100, got 8 and 0"):
        Owlv2Detector(str(folders["owlv2"]), chunk=0)
    with pytest.raises(InputError, match=r"a\.jpg: Owlv2Detector needs the picture's pixels"):
        build(folders, "owlv2")([Picture("a.jpg", Path("a.jpg"), 10, 10)])


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'clip2x\[detect\]'"):
        Owlv2Detector("any")


def test_transformers_is_imported_when_a_detector_is_built() -> None:
    source = ast.parse(Path(str(module.__file__)).read_text())
    top = [node for node in source.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [node for node in top if "transformers" in ast.dump(node)]
