"""Few-shot recognition on the smallest mini-world: what is drawn, fitted, kept, printed and refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import clip2x.modules.few_shot as few_shot
from clip2x.data.augmentations import Jitter, RotateAboutUp
from clip2x.data.readers import open_dataset
from clip2x.data.shots import ShotSource
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import save_depth_checkpoint
from clip2x.encoders.point_checkpoint import save_point_checkpoint
from clip2x.encoders.points import PointTransformer
from clip2x.errors import CheckpointMismatchError, DataNotFoundError, InputError
from clip2x.evaluation.curves import COLOURS, Curve, draw_curves
from clip2x.evaluation.shots_report import curves_of, summaries
from clip2x.geometry import unit_sphere
from clip2x.modules.cosine_tuning import CosineClassifier, Tuning, tuned_classifier
from clip2x.stage_cli import run_stage

TEST, TRAIN = "scanobjectnn/obj_only/test", "scanobjectnn/obj_only/train"  # 15 classes; of each 1 object to test, 2 to draw from
POINTS = {"stage": "pretrain_points", "scale": 20.0, "ensemble": None, "templates": ["point cloud of {}"], "mean_text": None, "notes": [],
          "selected_on": "held-out triplets", "encoder": {"num_points": 64, "up": "y", "channels": ["x", "y", "z"]}, "unseen_names": [],
          "mined": {"scanobjectnn/obj_only/train": {"frames": 3, "scenes": None}}}


def tiny_encoder(embed_dim: int) -> PointTransformer:
    torch.manual_seed(0)
    return PointTransformer(embed_dim, width=32, depth=1, heads=2, num_groups=8, group_size=8)


def arguments(world: Path, clip: Path, checkpoint: Path | None, folder: Path, *more: str) -> list[str]:
    """Build the command line of stage few_shot_points, mini profile."""
    return ["test", "--config", "few_shot_points", "--config", "mini/few_shot_points", "--data.root", str(world), "--data.test", f"[{TEST}]",
            "--data.num_points", "64", "--data.cache", str(folder / "cache"), "--model.cache", str(folder / "cache"), "--model.clip.pretrained",
            str(clip), *([] if checkpoint is None else ["--model.checkpoint", str(checkpoint)]), "--model.output", str(folder), "--model.shots",
            "[1, 2, 4]", "--model.seeds", "[0, 1]", "--model.tuning.steps", "2", "--model.tuning.batch_size", "4", "--trainer.logger.save_dir",
            str(folder), "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", *more]


@pytest.fixture(scope="module")
def checkpoint(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small point encoder with random weights."""
    path, clip = tmp_path_factory.mktemp("points") / "point_encoder.safetensors", ClipTowers("clip2x-small", str(tiny_clip))
    save_point_checkpoint(path, tiny_encoder(clip.embed_dim), clip, POINTS)
    return path


@pytest.fixture(scope="module")
def done(tiny_world: Path, tiny_clip: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few_shot")
    run_stage(arguments(tiny_world, tiny_clip, checkpoint, folder))
    return folder


def results(folder: Path) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return stored


def test_every_method_has_a_row_for_each_draw(done: Path, checkpoint: Path) -> None:
    rows = results(done)["results"]
    draws = [(shots, seed) for shots in (1, 2) for seed in (0, 1)]
    assert [(row["method"], row["shots"], row["seed"]) for row in rows] == [
        ("zero-shot", 0, 0), *((method, *draw) for draw in draws for method in ("linear probe", "tuned"))]
    for row in rows:
        assert {"top1", "top5", "class_mean", "per_class", "confusion", "chance", "majority", "interval", "prompts", "protocol"} <= row.keys()
        assert row["num_samples"] == 15 and row["num_classes"] == 15 and sum(map(sum, row["confusion"])) == 15
        assert row["prompts"] == ["point cloud of {}"]
        said = row["protocol"]
        assert said["encoder"] == "CLIP2" and said["shots_from"] == TRAIN and said["num_points"] == 64 and said["profile"] == "mini"
        assert said["shots_from_mined_frames"] == f"its split was mined for training or selection ({TRAIN})" and said["transductive"] is None
        assert any(note.startswith(f"shots from {TRAIN}: its split was mined") for note in said["notes"])
        assert any(note == f"{TRAIN}: no results with 4 shots: class 'bag' has 2 objects." for note in said["notes"])
    probe, tuned = rows[1:3]
    assert probe["gain"]["over"] == tuned["gain"]["over"] == "zero-shot" and tuned["step"]["over"] == "linear probe" and rows[0]["gain"] is None
    assert probe["gain"]["top1"] == pytest.approx(probe["top1"] - rows[0]["top1"])
    assert probe["protocol"]["fit"] == {"strength": 1.0, "chosen_by": "fixed: a class has fewer than 4 samples"}
    assert tuned["protocol"]["fit"]["steps"] == 2 and "RotateAboutUp(limit_deg=180" in tuned["protocol"]["fit"]["augmentations"][0]
    assert results(done)["provenance"]["encoder_checkpoint"]["about"]["scale"] == 20.0


def test_summary_and_curves_are_over_seeds(done: Path) -> None:
    stored = results(done)
    rows, summary = stored["results"], stored["summary"]
    assert summary == json.loads(json.dumps(summaries(rows)))
    item = next(item for item in summary if item["method"] == "linear probe" and item["shots"] == 2)
    first, second = (row["top1"] for row in rows if row["method"] == "linear probe" and row["shots"] == 2)
    assert item["seeds"] == [0, 1] and item["top1"]["mean"] == pytest.approx((first + second) / 2)
    assert item["top1"]["spread"] == pytest.approx(abs(first - second) / 2**0.5)
    assert summary[0]["top1"]["spread"] is None and summary[0]["gain"] is None
    curves = curves_of(summary)[TEST]
    assert [(curve.title, curve.shots) for curve in curves] == [("zero-shot", ()), ("linear probe", (1, 2)), ("tuned", (1, 2))]
    with Image.open(done / "accuracy_over_shots.png") as picture:
        assert picture.format == "PNG" and picture.width > 300
    assert list(done.glob("events.out.tfevents*"))


def test_without_shots_it_is_the_row_of_zero_shot_evaluation(done: Path, tiny_world: Path, tiny_clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    run_stage(["test", "--config", "eval_zeroshot", "--config", "mini/eval_zeroshot", "--data.root", str(tiny_world), "--data.test", f"[{TEST}]",
               "--data.num_points", "64", "--data.cache", str(tmp_path), "--data.crops", "null", "--data.others", "false",
               "--model.clip.pretrained", str(tiny_clip), "--model.point_checkpoint", str(checkpoint), "--model.point_radius", "[0.1]",
               "--model.projections", "[]", "--model.images", "false", "--model.output", str(tmp_path), "--trainer.logger.save_dir", str(tmp_path),
               "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"])
    other = next(row for row in results(tmp_path)["results"] if row["method"] == "CLIP2")
    own = results(done)["results"][0]
    assert {key: own[key] for key in ("top1", "top5", "confusion", "interval", "prompts")} == {
        key: other[key] for key in ("top1", "top5", "confusion", "interval", "prompts")}


def test_finished_draws_are_used_again_and_others_are_made(done: Path, tiny_world: Path, tiny_clip: Path, checkpoint: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    before, fits, original = results(done)["results"], list[int](), few_shot.fit_probe

    def counted(*args: Any, **options: Any) -> Any:
        fits.append(len(args[0]))
        return original(*args, **options)

    monkeypatch.setattr(few_shot, "fit_probe", counted)
    run_stage(arguments(tiny_world, tiny_clip, checkpoint, done))
    assert results(done)["results"] == before and not fits
    damaged = sorted((done / "finished").glob("*.json"))[0]
    damaged.write_text(damaged.read_text()[:-40])
    run_stage(arguments(tiny_world, tiny_clip, checkpoint, done))
    assert results(done)["results"] == before and len(fits) == 1
    run_stage(arguments(tiny_world, tiny_clip, checkpoint, done, "--model.seeds", "[1, 2]", "--model.shots", "[1]"))
    assert fits[1:] == [15], "seed 1 is there, seed 2 is new"
    run_stage(arguments(tiny_world, tiny_clip, checkpoint, done, "--model.shots", "[1]", "--model.tuning.learning_rate", "0.01"))
    assert fits[2:] == [15, 15], "another setting is another result"


def test_a_depth_encoder_gives_zero_shot_and_probe(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    depth = save_depth(tmp_path / "depth.safetensors", tiny_clip)
    run_stage(arguments(tiny_world, tiny_clip, depth, tmp_path, "--model.shots", "[2]", "--model.seeds", "[0]", "--model.tuning", "null"))
    rows = results(tmp_path)["results"]
    assert [(row["method"], row["shots"]) for row in rows] == [("zero-shot", 0), ("linear probe", 2)]
    assert {row["protocol"]["encoder"] for row in rows} == {"CLIP2Point"} and rows[0]["prompts"] == ["image of a {}"]
    assert rows[0]["protocol"]["views"] == "clip2point-6"


def test_the_full_profile_runs(tiny_world: Path, tiny_clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    """With the small CLIP in the place of ViT-B/32."""
    given = arguments(tiny_world, tiny_clip, checkpoint, tmp_path, "--model.clip.model", "clip2x-small", "--data.num_workers", "0",
                      "--model.shots", "[1]", "--model.seeds", "[0]")
    run_stage([word for position, word in enumerate(given) if position not in (3, 4)])
    rows = results(tmp_path)["results"]
    assert [row["method"] for row in rows] == ["zero-shot", "linear probe", "tuned"] and rows[0]["protocol"]["profile"] == "full"
    assert len(rows[2]["protocol"]["fit"]["augmentations"]) == 4


def save_depth(path: Path, clip_file: Path) -> Path:
    clip = ClipTowers("clip2x-small", str(clip_file))
    encoder = {"kind": "depth_views", "views": "clip2point-6", "point_radius": 0.1, "num_points": 64, "up": "y", "pooling": "cosine_sum"}
    save_depth_checkpoint(path, copy.deepcopy(clip.image_tower), clip, {
        "stage": "pretrain_depth", "scale": 30.0, "ensemble": {"tuned": 20.0, "clip": 10.0}, "encoder": encoder, "class_names": ["chair"],
        "unseen_names": [], "seed": 0, "commit": None, "precision": "32-true", "steps": 1, "val_top1": 0.5, "selected_on": "held-out models",
        "notes": []})
    return path


def test_what_cannot_be_run_is_one_line(tiny_world: Path, tiny_clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    depth = save_depth(tmp_path / "depth.safetensors", tiny_clip)
    cases: list[tuple[Path | None, Sequence[str], type, str]] = [
        (None, [], InputError, "model.checkpoint is not set; give point_encoder.safetensors"),
        (tmp_path / "none.safetensors", [], DataNotFoundError, "none.safetensors"),
        (tiny_clip, [], CheckpointMismatchError, "was written by stage pretrain_clip; give point_encoder.safetensors of pretrain_points"),
        (depth, [], InputError, "is a depth encoder, and only point encoders are tuned here; set --model.tuning null."),
        (checkpoint, ["--model.shots", "[4, 8]"], InputError, f"{TRAIN}: class 'bag' has 2 objects, too few for 4 shots; lower model.shots"),
        (checkpoint, ["--model.tuning.learning_rate", "0"], InputError, "a positive learning_rate"),
    ]
    for file, more, kind, message in cases:
        with pytest.raises(kind) as caught:
            run_stage(arguments(tiny_world, tiny_clip, file, tmp_path / "out", *more))
        assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "results.json").exists()


def test_one_process_and_the_subcommand_test_only(checkpoint: Path, tiny_clip: Path, tmp_path: Path) -> None:
    clip = ClipTowers("clip2x-small", str(tiny_clip))
    with pytest.raises(InputError, match=r"model.seeds must be different numbers of at least 0, got \[-1\]\."):
        few_shot.FewShotRecognition(clip, tmp_path, checkpoint, seeds=[-1])
    module = few_shot.FewShotRecognition(clip, tmp_path, checkpoint)
    module._trainer = SimpleNamespace(world_size=2)  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"runs in one process, got 2; set --trainer.devices 1\."):
        module.setup("test")
    with pytest.raises(InputError, match="run the subcommand test, not fit"):
        module.setup("fit")


def test_shots_are_nested_and_those_of_the_readers(tiny_world: Path) -> None:
    test = open_dataset(TEST, tiny_world, num_points=32)
    source = ShotSource(test, "train", [2, 1, 8])
    assert source.shots == (1, 2)
    for seed in (0, 1):
        one, two = (source.read(source.positions(shots, seed)) for shots in (1, 2))
        assert one[2].tolist() == [32] * 15, "of whole objects all points are their own"
        assert one[1].tolist() == list(range(15)) and two[1].bincount().tolist() == [2] * 15
        rows = {cloud.numpy().tobytes() for cloud in two[0]}
        assert all(cloud.numpy().tobytes() in rows for cloud in one[0])
        drawn = open_dataset(TRAIN, tiny_world, num_points=32, shots=1, seed=seed)
        assert [entry.key for entry in drawn.entries] == [source.data.entries[position].key for position in positions(source, one[0])]
    assert source.positions(1, 0) != source.positions(1, 1)


def positions(source: ShotSource, clouds: Tensor) -> list[int]:
    place = {source.data[index]["points"].numpy().tobytes(): index for index in range(len(source.data))}
    return [place[cloud.numpy().tobytes()] for cloud in clouds]


def test_shots_that_cannot_be_drawn_are_one_line(tiny_world: Path) -> None:
    test = open_dataset(TEST, tiny_world, num_points=32)
    for split, shots, message in (("train", [2, 2], r"model.shots must be different numbers of at least 1, or all, got \[2, 2\]\."),
                                  ("test", [1], f"shots from 'test' would be objects of the test set {TEST}; set model.train_split"),
                                  ("dev", [1], "has no split 'dev'; it has train, test")):
        with pytest.raises(InputError, match=message):
            ShotSource(test, split, shots)


def test_two_parts_of_one_split_may_be_trained_and_tested(tiny_world: Path) -> None:
    test = open_dataset(f"{TRAIN}:val", tiny_world, num_points=32)
    source = ShotSource(test, "train:fit", [1])
    own = {test.entries[index].key for index in range(len(test))}
    assert not own & {source.data.entries[index].key for index in range(len(source.data))}
    for split in ("train", "train:val"):
        with pytest.raises(InputError, match="would be objects of the test set"):
            ShotSource(test, split, [1])


def toy() -> tuple[PointTransformer, Tensor, Tensor, Tensor]:
    """An encoder, names, and flat and long clouds with their labels."""
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(16, 64, 3, generator=generator)
    labels = torch.arange(16) % 2
    points[labels == 0, :, 1] *= 0.05
    points[labels == 1, :, 0] *= 0.05
    points[labels == 1, :, 2] *= 0.05
    names = functional.normalize(torch.randn(2, 16, generator=generator), dim=-1)
    return tiny_encoder(16).requires_grad_(False).eval(), names, unit_sphere(points), labels


def test_tuning_starts_from_zero_shot_learns_the_shots_and_repeats_itself() -> None:
    encoder, names, clouds, labels = toy()
    before = copy.deepcopy(encoder.state_dict())
    tuning = Tuning(steps=15, batch_size=8, learning_rate=3e-3, augmentations=[RotateAboutUp(), Jitter()])
    with torch.inference_mode():  # as in Lightning's test loop
        first, second, other, none = (
            tuned_classifier(encoder, names, 10.0, clouds, labels, recipe, seed=seed, autocast=nullcontext)
            for recipe, seed in ((tuning, 0), (tuning, 0), (tuning, 1), (Tuning(steps=0), 0)))
        cosines = functional.normalize(encoder(clouds), dim=-1) @ names.T
        assert torch.allclose(none(clouds), 10.0 * cosines, atol=1e-5)
        assert torch.equal(first(clouds), second(clouds)) and not torch.equal(first(clouds), other(clouds))
        losses = [float(functional.cross_entropy(model(clouds), labels)) for model in (none, first)]
        assert losses[1] < 0.5 * losses[0] and bool((first(clouds).argmax(dim=1) == labels).all())
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in (*encoder.parameters(), *first.parameters()))


def test_tuning_augments_the_points_of_a_cloud_that_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that fill it up are copies of changed ones: an encoder goes on counting them once."""
    encoder, names, clouds, labels = toy()
    clouds[3, 10:] = clouds[3, 4]
    seen: list[Tensor] = []
    forward = CosineClassifier.forward
    monkeypatch.setattr(CosineClassifier, "forward", lambda self, points: (seen.append(points), forward(self, points))[1])
    counts = torch.full((16,), 64).index_fill(0, torch.tensor([3]), 10)
    for num_real in (counts, None):
        tuned_classifier(encoder, names, 10.0, clouds, labels, Tuning(steps=2, batch_size=8, augmentations=[Jitter()]), seed=0, autocast=nullcontext,
                         num_real=num_real)
    sizes = [sorted(len(cloud.unique(dim=0)) for cloud in torch.cat(seen[part : part + 2])) for part in (0, 2)]
    assert sizes == [[10] + [64] * 15, [64] * 16] and {cloud.shape[1] for cloud in seen} == {64}


def test_every_shot_is_seen_equally_often() -> None:
    from clip2x.modules.cosine_tuning import _passes

    order = _passes(5, 17, seed=3)
    assert len(order) == 17 and all(sorted(order[start : start + 5]) == list(range(5)) for start in (0, 5, 10))


def test_curves_stand_where_their_figures_are() -> None:
    picture = np.asarray(draw_curves({"a": [Curve("level", (), (0.5,), (None,)), Curve("rising", (1, 4), (0.2, 0.9), (0.1, None))],
                                      "b": [Curve("rising", (1,), (1.0,), (None,))]}, "top-1")).astype(int)
    assert picture.shape == (360 + 18, 920, 3)
    picture = picture[:330]  # without the legend

    def rows_of(colour: str, left: int, right: int) -> tuple[int, int]:
        wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        found = np.flatnonzero((np.abs(picture[:, left:right] - wanted).max(axis=2) < 25).any(axis=1))
        return int(found.min()), int(found.max())

    foot, height = 360 - 46, 360 - 46 - 44
    top, bottom = rows_of(COLOURS[1], 60, 300)
    assert abs(bottom - (foot - 0.1 * height)) < 4, "the foot of the first bar: 0.2 - 0.1"
    assert top < foot - 0.5 * height
    assert abs(rows_of(COLOURS[1], 380, 440)[0] - (foot - 0.9 * height)) < 6
    assert abs(rows_of(COLOURS[1], 520, 760)[0] - (foot - 1.0 * height)) < 6
