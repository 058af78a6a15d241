"""The rungs of the ladder that CLIP2 adds: point encoder, encoders tuned on triplets, pictures of objects, and their sums."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import eval_arguments
from torch.nn import functional

from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import DepthCheckpoint, read_depth_checkpoint, save_depth_checkpoint
from clip2x.encoders.point_checkpoint import PointCheckpoint, point_encoder_of, read_point_checkpoint, save_point_checkpoint
from clip2x.encoders.points import PointTransformer
from clip2x.errors import CheckpointMismatchError, DataNotFoundError
from clip2x.evaluation.class_embeddings import centred, class_embeddings
from clip2x.evaluation.frozen_encoder import FrozenEncoder
from clip2x.evaluation.ladder import Ladder
from clip2x.evaluation.methods import points_seen, sum_of_cosines
from clip2x.evaluation.report import LINE_WIDTH
from clip2x.geometry import unit_sphere
from clip2x.modules.zero_shot import ZeroShotClassification
from clip2x.stage_cli import run_stage

PLAIN, TUNED, PROXIES = "CLIP depth views r=0.03", "CLIP2Point r=0.03", "CLIP2Point + proxies r=0.03"
ALL = [PLAIN, "CLIP image crop", TUNED, "CLIP2Point + CLIP r=0.03", PROXIES, "CLIP2", "CLIP2 + CLIP2Point", "CLIP2 + CLIP2Point + image crop"]
POINTS = {"stage": "pretrain_points", "scale": 25.0, "ensemble": None, "templates": ["point cloud of {}"], "mean_text": None,
          "selected_on": "triplets", "encoder": {"num_points": 512, "up": "y", "channels": ["x", "y", "z"]}, "mined": {}, "unseen_names": ["bed"],
          "notes": ["a point note"]}


def save_depth(path: Path, clip: ClipTowers, seed: int, **changes: Any) -> Path:
    """Write a depth encoder: CLIP's tower, a little disturbed."""
    tower, generator = copy.deepcopy(clip.image_tower), torch.Generator().manual_seed(seed)
    for weight in tower.parameters():
        weight.data += 0.1 * weight.data.std(unbiased=False) * torch.randn(weight.shape, generator=generator)
    about = {"stage": "pretrain_depth", "scale": 40.0, "ensemble": {"tuned": 60.0, "clip": 30.0}, "unseen_names": [], "val_top1": 0.5, "notes": [],
             "selected_on": "the part carved from the training list",
             "encoder": {"views": "clip2point-6", "point_radius": 0.03, "num_points": 1024, "up": "y", "pooling": "cosine_sum"}}
    save_depth_checkpoint(path, tower, clip, {**about, **changes})
    return path


def save_points(path: Path, clip: ClipTowers, **changes: Any) -> Path:
    torch.manual_seed(0)
    encoder = PointTransformer(clip.embed_dim, width=32, depth=1, heads=2, num_groups=8, group_size=8)
    save_point_checkpoint(path, encoder, clip, {**POINTS, **changes})
    return path


@pytest.fixture(scope="module")
def clip() -> ClipTowers:
    return ClipTowers("clip2x-small", random_weights=True, seed=1)


@pytest.fixture(scope="module")
def depth(clip: ClipTowers, tmp_path_factory: pytest.TempPathFactory) -> DepthCheckpoint:
    return read_depth_checkpoint(save_depth(tmp_path_factory.mktemp("depth") / "d.safetensors", clip, 7))


@pytest.fixture(scope="module")
def tuned(clip: ClipTowers, tmp_path_factory: pytest.TempPathFactory) -> DepthCheckpoint:
    return read_depth_checkpoint(save_depth(tmp_path_factory.mktemp("tuned") / "t.safetensors", clip, 8, notes=["tuned on triplets"]))


@pytest.fixture(scope="module")
def points(clip: ClipTowers, tmp_path_factory: pytest.TempPathFactory) -> PointCheckpoint:
    return read_point_checkpoint(save_points(tmp_path_factory.mktemp("points") / "p.safetensors", clip))


def ladder_of(clip: ClipTowers, **changes: Any) -> Ladder:
    return Ladder(clip, **{"views": "clip2point-6", "point_radius": [0.03], "images": True, **changes}).eval()


def test_the_ladder_has_every_rung_and_what_each_is_compared_with(clip: ClipTowers, depth: DepthCheckpoint, tuned: DepthCheckpoint,
                                                                points: PointCheckpoint) -> None:
    methods = ladder_of(clip, checkpoint=depth, tuned=tuned, points=points).methods
    assert [method.name for method in methods] == ALL
    assert {method.name: (method.gain_over, method.step_over) for method in methods if method.gain_over} == {
        TUNED: (PLAIN, None), "CLIP2Point + CLIP r=0.03": (PLAIN, TUNED), PROXIES: (PLAIN, TUNED), "CLIP2": (PLAIN, TUNED),
        "CLIP2 + CLIP2Point": ("CLIP2", TUNED), "CLIP2 + CLIP2Point + image crop": ("CLIP2 + CLIP2Point", "CLIP image crop")}
    assert [method.name for method in methods if method.uses_image] == [ALL[1], ALL[-1]]
    assert [method.name for method in methods if method.needs_image] == [ALL[1]]
    names = [method.name for method in ladder_of(clip, points=points).methods]
    assert names == [PLAIN, "CLIP image crop", "CLIP2", "CLIP2 + image crop"]
    names = [method.name for method in ladder_of(clip, checkpoint=depth, points=points, images=False, ensemble=False).methods]
    assert names == [PLAIN, TUNED, "CLIP2"]


def test_sums_equal_a_slow_twin(clip: ClipTowers, depth: DepthCheckpoint, tuned: DepthCheckpoint, points: PointCheckpoint) -> None:
    """Cosines of each encoder alone, in its own names, times the factors that the row states; a missing picture adds nothing."""
    ladder = ladder_of(clip, checkpoint=depth, tuned=tuned, points=points)
    generator = torch.Generator().manual_seed(0)
    clouds, image = unit_sphere(torch.randn(3, 100, 3, generator=generator)), torch.rand(3, 3, 64, 64, generator=generator)
    has_image = torch.tensor([True, False, True])
    with torch.no_grad():
        embeds, _ = ladder(clouds, "cosine_sum", image, has_image)
        texts = [class_embeddings(clip, ["bed", "sofa"], names.templates or ("image of a {}",)) for names in ladder.names]
        cosines = torch.stack([embed @ text.T for embed, text in zip(embeds, texts, strict=True)], dim=1)
        own = functional.normalize(point_encoder_of(points, clip)(clouds), dim=-1)
        spoken = class_embeddings(clip, ["bed", "sofa"], ["point cloud of {}"])
        seen = functional.normalize(clip.encode_image(image), dim=-1) @ class_embeddings(clip, ["bed", "sofa"], ["image of a {}"]).T
    scores = {method.name: sum_of_cosines(cosines, method.factors) for method in ladder.methods}
    assert torch.allclose(scores["CLIP2"], own @ spoken.T, atol=1e-5)
    assert torch.allclose(scores["CLIP image crop"], seen * has_image[:, None], atol=1e-5)
    assert torch.allclose(scores["CLIP2 + CLIP2Point"], 25 * own @ spoken.T + 40 * scores[TUNED], atol=1e-3), "each one's own scale"
    assert torch.allclose(scores[ALL[-1]], scores["CLIP2 + CLIP2Point"] + clip.logit_scale * seen * has_image[:, None], atol=1e-3)
    assert not torch.allclose(scores[PROXIES], scores[TUNED])
    without, _ = ladder(clouds, "cosine_sum")
    assert not without[-1].any() and torch.equal(without[:-1], embeds[:-1])


def test_the_point_encoder_gets_as_many_points_as_in_its_training(clip: ClipTowers, points: PointCheckpoint) -> None:
    """Of clouds with more points, evenly over those that are not repeated; the drawn views keep them all."""
    ladder, seen = ladder_of(clip, points=points), []
    assert ladder.point_encoder is not None
    ladder.point_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    number = points.about["encoder"]["num_points"]
    clouds = unit_sphere(torch.randn(2, 2 * number, 3, generator=torch.Generator().manual_seed(0)))
    clouds[1, number:] = clouds[1, 0]  # its last points are the first one, again and again
    with torch.no_grad():
        ladder(clouds, "cosine_sum", num_real=torch.tensor([4 * number, number]))
        ladder(clouds[:, :number // 2], "cosine_sum")
    assert torch.allclose(seen[0], unit_sphere(torch.stack([clouds[0, ::2], clouds[1, :number]])), atol=1e-6)
    assert torch.equal(seen[1], clouds[:, :number // 2]), "as they are"
    assert {method.name: method.protocol["num_points_of_encoder"] for method in ladder.methods} == {
        PLAIN: None, "CLIP image crop": None, "CLIP2": number, "CLIP2 + image crop": number}
    assert [points_seen(ladder.methods[position], size) for position, size in ((2, 4096), (2, 100), (0, 100))] == [number, 100, None]


@pytest.mark.parametrize("size", [100, 1024])
def test_few_shot_embeds_clouds_as_the_ladder_does(size: int, clip: ClipTowers, tmp_path: Path) -> None:
    """The same points out of clouds of the same number, repeated ones left out alike."""
    path = save_points(tmp_path / "p.safetensors", clip)
    frozen, ladder = FrozenEncoder(path, clip), ladder_of(clip, points=read_point_checkpoint(path), images=False)
    clouds, real = unit_sphere(torch.randn(3, size, 3, generator=torch.Generator().manual_seed(0))), torch.tensor([size, 40, size + 5])
    clouds[1, 40:] = clouds[1, :1]
    with torch.no_grad():
        expected = ladder(clouds, "cosine_sum", num_real=real)[0][-1]
        assert torch.equal(frozen(clouds, real), expected)
        assert frozen.points_of(clouds, real).shape[1] == min(size, POINTS["encoder"]["num_points"])  # type: ignore[index]


def test_factors_are_those_fitted_with_this_depth_encoder(clip: ClipTowers, depth: DepthCheckpoint, tmp_path: Path) -> None:
    for sha256, expected, source in ((depth.sha256, {"CLIP2": 9.0, "CLIP2Point": 4.0},
                                      "the point checkpoint: fitted in its validation, where both saw 512 points of a cloud"),
                                     ("other", {"CLIP2": 25.0, "CLIP2Point": 40.0}, "each checkpoint's own scale; the sum was not fitted")):
        fitted = {"points": 9.0, "depth": 4.0, "depth_checkpoint_sha256": sha256, "num_points": 512}
        checkpoint = read_point_checkpoint(save_points(tmp_path / "p.safetensors", clip, ensemble=fitted))
        *_, plain, with_image = ladder_of(clip, checkpoint=depth, points=checkpoint).methods
        assert plain.protocol["factors"] == expected and plain.protocol["factors_from"] == source
        assert with_image.protocol["factors"] == {**expected, "CLIP image crop": clip.logit_scale}
        assert list(plain.factors.values()) == list(expected.values())
    alone = ladder_of(clip, points=checkpoint).methods[-1]
    assert alone.protocol["factors"] == {"CLIP2": 25.0, "CLIP image crop": clip.logit_scale}


def test_rows_of_the_point_encoder_say_where_they_come_from(clip: ClipTowers, depth: DepthCheckpoint, tmp_path: Path) -> None:
    checkpoint = read_point_checkpoint(save_points(tmp_path / "p.safetensors", clip, mean_text=[0.1] * clip.embed_dim))
    ladder = ladder_of(clip, checkpoint=depth, points=checkpoint)
    said = {method.name: method.protocol for method in ladder.methods}
    assert said["CLIP2"]["point_checkpoint_sha256"] == checkpoint.sha256 and said["CLIP2"]["views"] is None
    assert said["CLIP2 + CLIP2Point"]["depth_checkpoint_sha256"] == depth.sha256 and said["CLIP2 + CLIP2Point"]["views"] == "clip2point-6"
    assert said["CLIP2 + CLIP2Point"]["selected_on"] == "CLIP2: triplets; CLIP2Point: the part carved from the training list"
    assert said["CLIP2"]["selected_on"] == "triplets" and said[TUNED]["selected_on"] == "the part carved from the training list"
    assert said["CLIP2"]["notes"] == [f"CLIP2's checkpoint {checkpoint.sha256[:12]}: {text}" for text in (
        "selected on: triplets.", "a point note", "the mean text of its training is removed from the names before they are compared.")]
    assert all(protocol.keys() == said["CLIP2"].keys() for protocol in said.values())
    assert [names.mean is not None for names in ladder.names] == [False, False, True, False]


def test_the_mean_text_is_removed_from_the_names_of_the_point_encoder_alone(clip: ClipTowers, tmp_path: Path) -> None:
    mean = torch.linspace(-0.1, 0.1, clip.embed_dim)
    path = save_points(tmp_path / "p.safetensors", clip, mean_text=mean.tolist())
    module = ZeroShotClassification(clip, tmp_path, point_checkpoint=path, images=False, templates="image of a {}", point_templates="a scan of a {}")
    data = type("Data", (), {"class_names": ("bed", "sofa"), "manifest": type("M", (), {"templates": staticmethod(lambda name: (name,))})})
    plain = class_embeddings(clip, ["bed", "sofa"], ["a scan of a {}"])
    assert torch.allclose(module._names(data, 1), functional.normalize(plain - mean, dim=-1), atol=1e-6)
    assert torch.allclose(module._names(data, 1), centred(plain, mean))
    assert torch.allclose(module._names(data, 0), class_embeddings(clip, ["bed", "sofa"], ["image of a {}"]))
    assert module._apart_names() == {"CLIP depth views r=0.02": (["bed"], "kept out of the training of a method beside it"),
                                     "CLIP2": (["bed"], "kept out of the training of its checkpoints")}


def test_names_apart_are_those_that_all_encoders_of_a_method_did_without(clip: ClipTowers, tmp_path: Path) -> None:
    depth = save_depth(tmp_path / "d.safetensors", clip, 1, unseen_names=["Night_Stand", "desk"])
    points = save_points(tmp_path / "p.safetensors", clip, unseen_names=["night stand", "bed"])
    module = ZeroShotClassification(clip, tmp_path, checkpoint=depth, point_checkpoint=points, point_radius=[0.03])
    assert {name: set(names) for name, (names, _) in module._apart_names().items()} == {
        PLAIN: {"Night_Stand", "desk", "night stand", "bed"}, "CLIP image crop": {"Night_Stand", "desk", "night stand", "bed"},
        TUNED: {"Night_Stand", "desk"}, "CLIP2Point + CLIP r=0.03": {"Night_Stand", "desk"}, "CLIP2": {"night stand", "bed"},
        "CLIP2 + CLIP2Point": {"night stand"}, "CLIP2 + CLIP2Point + image crop": {"night stand"}}


def test_checkpoints_that_do_not_fit_are_refused(clip: ClipTowers, tmp_path: Path) -> None:
    coloured = {**POINTS["encoder"], "channels": ["x", "y", "z", "intensity"]}  # type: ignore[dict-item]
    path = save_points(tmp_path / "c.safetensors", clip, encoder=coloured)
    with pytest.raises(CheckpointMismatchError, match="takes the channels x, y, z, intensity; data sets here give x, y, z only"):
        ZeroShotClassification(clip, tmp_path, point_checkpoint=path)
    path = save_points(tmp_path / "p.safetensors", clip)
    with pytest.raises(CheckpointMismatchError, match="has other weights; give that CLIP"):
        ZeroShotClassification(ClipTowers("clip2x-small", random_weights=True, seed=2), tmp_path, point_checkpoint=path)
    with pytest.raises(CheckpointMismatchError, match="was written by stage pretrain_points"):
        ZeroShotClassification(clip, tmp_path, tuned_checkpoint=path)
    with pytest.raises(CheckpointMismatchError, match="was written by stage pretrain_depth"):
        ZeroShotClassification(clip, tmp_path, point_checkpoint=save_depth(tmp_path / "d.safetensors", clip, 1))
    with pytest.raises(DataNotFoundError, match="nowhere"):
        ZeroShotClassification(clip, tmp_path, point_checkpoint=tmp_path / "nowhere.safetensors")


@pytest.fixture(scope="module")
def trained(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name three checkpoints of the tiny CLIP; the frames that CLIP2 was trained on are test frames of rooms."""
    folder, clip = tmp_path_factory.mktemp("trained"), ClipTowers("clip2x-small", str(tiny_clip))
    mined = {"sunrgbd/objects10/test": {"frames": 2, "scenes": None}, "nuscenes/v1.0-mini/mini_train": {"frames": 2, "scenes": None}}
    return ["--model.checkpoint", str(save_depth(folder / "d.safetensors", clip, 1)), "--model.tuned_checkpoint",
            str(save_depth(folder / "t.safetensors", clip, 2)), "--model.point_checkpoint",
            str(save_points(folder / "p.safetensors", clip, mined=mined)), "--model.views", "clip2point-6", "--model.point_radius", "[0.03]",
            "--model.projections", "[]"]


def results(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    rows = json.loads((folder / "results.json").read_text())["results"]
    return {(f"{row['dataset']}/{row['variant']}", row["method"]): row for row in rows}


def test_the_whole_ladder_on_scenes(tiny_world: Path, tiny_clip: Path, trained: list[str], tmp_path: Path,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    """The test sets of the mini profile's YAML: every rung where there are pictures, parts, groups and others, what was mined."""
    sets = "modelnet10/off/test, sunrgbd/objects37/test, nuscenes/v1.0-mini/mini_val, streets/things/mini_val"
    run_stage([*eval_arguments(tiny_world, tiny_clip, tmp_path, sets), *trained, "--data.limit", "12"])
    rows, answer = results(tmp_path), json.loads((tmp_path / "results.json").read_text())
    methods = {name: [method for other, method in rows if other == name] for name, _ in rows}
    assert methods["sunrgbd/objects37"] == methods["nuscenes/v1.0-mini"] == methods["streets/things"] == ALL
    assert methods["modelnet10/off"] == [name for name in ALL if "image" not in name]
    for (name, method), row in rows.items():
        assert bool(row["protocol"]["transductive"]) == (name == "sunrgbd/objects37" and "CLIP2" in method.split(" + ")), (name, method)
        for key in ("by_range", "by_points"):
            assert (row[key] is None) == (name == "modelnet10/off")
            assert row[key] is None or sum(part["num_samples"] for part in row[key]) == row["num_samples"]
        assert row["interval"]["by"] in ("sample", "scene")
        assert set(row["groups"] or ()) <= {"the ten", "never named", "words unseen by CLIP"}
    assert rows["streets/things", "CLIP2"]["prompts"] == ["point cloud of {}"] and rows["streets/things", TUNED]["prompts"] == ["image of a {}"]
    assert rows["streets/things", ALL[-1]]["protocol"]["prompts_of_encoders"] == [["point cloud of {}"], ["image of a {}"], ["image of a {}"]]
    crop, both = rows["nuscenes/v1.0-mini", "CLIP image crop"], rows["nuscenes/v1.0-mini", ALL[-1]]
    assert both["step"]["num_samples"] == crop["num_samples"] <= both["num_samples"]
    assert {"depth_checkpoint", "tuned_checkpoint", "point_checkpoint"} <= set(answer["provenance"])
    printed = capsys.readouterr().out
    assert "CLIP2 †" in printed and "† transductive" in printed and "class mean by distance, nuscenes/v1.0-mini/mini_val" in printed
    assert all(len(line) <= LINE_WIDTH for line in printed.splitlines() if line.startswith(" mini "))


def test_objects_that_variants_share_are_encoded_once_with_the_same_result(tiny_world: Path, tiny_clip: Path, trained: list[str], tmp_path: Path,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, forward = [0], Ladder.forward

    def counting(self: Ladder, points: torch.Tensor, *others: Any) -> Any:
        encoded[0] += len(points)
        return forward(self, points, *others)

    monkeypatch.setattr(Ladder, "forward", counting)
    tables, counts = [], []
    for folder, sets in (("alone", "nuscenes/v1.0-mini-23/mini_val"), ("together", "nuscenes/v1.0-mini/mini_val, nuscenes/v1.0-mini-23/mini_val")):
        encoded[0] = 0
        run_stage([*eval_arguments(tiny_world, tiny_clip, tmp_path / folder, sets), *trained, "--data.batch_size", "3", "--data.limit", "8"])
        counts.append(encoded[0])
        tables.append({key: row for key, row in results(tmp_path / folder).items() if "23" in key[0]})
    assert tables[0] == tables[1] and tables[0]
    assert counts[0] == counts[1], "all 23 categories and the ten with the others are the same objects"


@pytest.mark.data
def test_real_frames_go_through_evaluation(shared_data: Path, tiny_clip: Path, trained: list[str], tmp_path: Path) -> None:
    run_stage([*eval_arguments(shared_data, tiny_clip, tmp_path, "nuscenes/v1.0-mini/mini_train, sunrgbd/objects10/train"), *trained])
    rows = results(tmp_path)
    assert {method for _, method in rows} == set(ALL)
    for (name, _), row in rows.items():
        assert row["num_samples"] >= (10 if name.startswith("nuscenes") else 1) and row["protocol"]["data"] == "files"
    assert rows["nuscenes/v1.0-mini", "CLIP2"]["protocol"]["transductive"], "its scene was mined"
    assert not rows["sunrgbd/objects10", "CLIP2"]["protocol"]["transductive"], "the test frames were mined, this one is of the training list"
