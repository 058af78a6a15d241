"""Every stage YAML is run, on the smallest mini-world."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from conftest import REPO, eval_arguments, points_arguments, pretrain_arguments
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_proxy_report import checked
from triplet_runs import write_named_store

from clip2x.cli import main
from clip2x.data.modelnet import ModelNet
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import read_depth_checkpoint, save_depth_checkpoint
from clip2x.errors import CheckpointMismatchError, DataNotFoundError, InputError
from clip2x.evaluation.mistakes import read_pictures
from clip2x.evaluation.proxy_pictures import data_address
from clip2x.evaluation.training_curves import kept_curves
from clip2x.modules.clip_pretraining import ClipPretraining
from clip2x.stage_cli import run_stage, stage_folder
from clip2x.types import CaptionedBatch

CONTRACT = {"dataset", "variant", "split", "method", "num_samples", "num_classes", "top1", "top5", "class_mean", "per_class", "confusion", "chance",
            "majority", "interval", "prompts", "seed", "protocol", "gain", "step", "apart", "groups",
            "by_range", "by_points", "none_of_these", "mistakes"}
WITHOUT_CHECKPOINT = ["CLIP depth views r=0.02", "CLIP depth views r=0.045", "PointCLIP projection", "PointCLIP V2 projection"]
TESTED_HERE = {"pretrain_clip", "eval_zeroshot", "mini/eval_zeroshot"}
TESTED_THERE = {"adapt", "mini/adapt", "tune_gdpa", "mini/tune_gdpa",  # test_adapter_sweep.py, test_gdpa_tuning.py
                "few_shot_points", "mini/few_shot_points",  # test_few_shot.py
                "pretrain_depth", "mini/pretrain_depth", "mini/pretrain_depth_unseen",  # test_depth_pretraining.py
                "pretrain_points", "mini/pretrain_points", "mini/pretrain_points_unseen",  # test_triplet_pretraining.py, test_triplet_switches.py
                "tune_depth", "mini/tune_depth",  # test_triplet_switches.py
                "collect_proxies", "mini/collect_proxies"}  # test_proxy_collection.py


def test_every_stage_yaml_is_run_by_a_test() -> None:
    names = {str(path.relative_to(stage_folder()).with_suffix("")) for path in stage_folder().rglob("*.yaml")}
    assert names == TESTED_HERE | TESTED_THERE


def test_pretrain_clip_writes_a_clip_file_that_describes_itself(tiny_clip: Path) -> None:
    with safe_open(tiny_clip, "pt") as file:
        about = json.loads(file.metadata()["clip2x"])
    assert about["model"] == "clip2x-small"
    assert about["steps"] == 2
    assert {"chair", "night", "red", "photo"} <= set(about["words"])
    assert about["encoder"] == {"kind": "depth_views", "up": "y", "views": "clip2point-10", "point_radius": 0.045, "num_points": 1024}
    assert len(about["class_names"]) >= 36


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_pretrain_clip_runs_in_both_precisions_that_processors_choose(tiny_world: Path, tmp_path: Path, precision: str) -> None:
    run_stage([*pretrain_arguments(tiny_world, tmp_path, steps=1), "--trainer.precision", precision])
    with safe_open(tmp_path / "clip.safetensors", "pt") as file:
        assert json.loads(file.metadata()["clip2x"])["precision"] == precision


def test_a_pretraining_that_dies_in_mid_run_ends_like_an_uninterrupted_one(tiny_world: Path, tmp_path: Path,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    """Dies at step 3 of 6, after the checkpoint of step 2; goes on with the batches that were left."""
    run_stage(pretrain_arguments(tiny_world, tmp_path / "straight", steps=6))
    arguments = [*pretrain_arguments(tiny_world, tmp_path / "resumed", steps=6), "--ckpt_path", "last",
                 "--trainer.callbacks.every_n_train_steps", "2"]
    step = ClipPretraining.training_step

    def dying(self: ClipPretraining, batch: CaptionedBatch, batch_idx: int) -> torch.Tensor:
        if self.global_step == 3:
            raise RuntimeError("killed")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ClipPretraining, "training_step", dying)
    with pytest.raises(RuntimeError, match="killed"):
        run_stage(arguments)
    monkeypatch.undo()
    checkpoint = tmp_path / "resumed" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 2
    assert not (tmp_path / "resumed" / "clip.safetensors").exists()
    with pytest.raises(CheckpointMismatchError, match="other settings"):
        run_stage([*arguments, "--model.learning_rate", "0.5"])
    run_stage(arguments)
    resumed, straight = (load_file(tmp_path / name / "clip.safetensors") for name in ("resumed", "straight"))
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    assert not checkpoint.exists()


def test_eval_zeroshot_writes_the_contracted_results(tiny_world: Path, tiny_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_stage(eval_arguments(tiny_world, tiny_clip, tmp_path))
    answer = json.loads((tmp_path / "results.json").read_text())
    assert [row["method"] for row in answer["results"]] == WITHOUT_CHECKPOINT
    for row in answer["results"]:
        assert set(row) == CONTRACT
        assert row["num_samples"] == 20
        assert sum(map(sum, row["confusion"])) == 20
        assert row["protocol"]["image_size"] == 64
        assert row["protocol"]["clip"].startswith("clip2x-small/sha256:")
    assert {"commit", "config", "checkpoint_sha256", "manifest_sha256", "versions", "hardware"} <= set(answer["provenance"])
    assert answer["provenance"]["config"]["model"]["init_args"]["pooling"] == "cosine_sum"
    printed = capsys.readouterr().out
    assert "not comparable with papers" in printed
    assert str(tmp_path / "results.json") in printed
    assert any(tmp_path.glob("events.out.tfevents.*"))


def test_eval_zeroshot_shows_mistakes_and_the_training_of_its_clip(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """Every mistake is a wrong answer of a sample that its id names; it has a picture, on the page and in TensorBoard."""
    run_stage([*eval_arguments(tiny_world, tiny_clip, tmp_path), "--model.point_radius", "[0.045]", "--model.projections", "[]"])
    (row,) = json.loads((tmp_path / "results.json").read_text())["results"]
    data = ModelNet("modelnet10", root=tiny_world, variant="off", split="test")
    assert row["mistakes"] and len(row["mistakes"]) <= round(20 * (1 - row["top1"]))
    for mistake in row["mistakes"]:
        entry = data.entries[mistake["index"]]
        assert entry.key == mistake["id"] and data.class_names[entry.label] == mistake["is"] != mistake["called"]
        assert mistake["probability"] >= mistake["probability_of_true"]
    page, pictures = (tmp_path / "report.html").read_text(), read_pictures(tmp_path, row)
    assert len(pictures) == len(row["mistakes"]) and page.count('class="mistake"') == len(pictures) and "no picture" not in page
    assert set(checked(page).loaded) == {data_address(picture, "png") for picture in pictures.values()}
    events = EventAccumulator(str(next(tmp_path.glob("events.out.tfevents.*"))))
    events.Reload()
    assert "mistakes/modelnet10-off-test/CLIP_depth_views_r=0.045" in events.Tags()["images"]
    (training,) = kept_curves(tmp_path / "results.json")
    assert training["title"] == "CLIP" and "val/top1" in training["curves"] and str(tiny_clip) in page


def test_eval_zeroshot_reads_objects_and_scenes(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """The test sets of the mini profile's own YAML; a radius by density beside a fixed one; a bad sample is left out and said so."""
    run_stage([*eval_arguments(tiny_world, tiny_clip, tmp_path, test=""), "--data.limit", "3", "--model.point_radius", "[0.045, density]",
               "--model.projections", "[]", "--data.on_bad_sample", "skip"])
    rows = json.loads((tmp_path / "results.json").read_text())["results"]
    views, crops = (["CLIP depth views r=0.045", "CLIP depth views r=density"], ["CLIP image crop"])
    expected = [("modelnet10", 10, views), ("scanobjectnn", 15, views), ("sunrgbd", 10, views + crops), ("sunrgbd", 37, views + crops),
                ("nuscenes", 10, views + crops), ("nuscenes", 23, views + crops), ("streets", 16, views + crops)]
    assert [(row["dataset"], row["num_classes"], row["method"]) for row in rows] == [
        (name, number, method) for name, number, methods in expected for method in methods]
    assert all(0 < row["num_samples"] <= 3 for row in rows)


@pytest.fixture(scope="module")
def tiny_depth(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A depth encoder for the tiny CLIP: its own image tower, a little disturbed, with names said to be kept out of its data."""
    clip = ClipTowers("clip2x-small", str(tiny_clip))
    tower = clip.trainable_image_tower()
    with torch.no_grad():
        for weight in tower.parameters():
            weight.add_(0.1 * weight.std(unbiased=False) * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(weight))))
    about = {"stage": "pretrain_depth", "scale": 100.0, "ensemble": {"tuned": 60.0, "clip": 30.0}, "val_top1": 0.5, "notes": [],
             "unseen_names": ["Night_Stand", "desk", "elsewhere"], "selected_on": "the part carved from the training list",
             "encoder": {"views": "clip2point-10", "point_radius": 0.045, "num_points": 1024, "up": "y", "pooling": "cosine_sum"}}
    path = tmp_path_factory.mktemp("depth") / "depth_encoder.safetensors"
    save_depth_checkpoint(path, tower, clip, about)
    return path


def test_tune_depth_gives_a_depth_encoder_that_is_evaluated_beside_its_start(tiny_pairs: Path, tiny_clip: Path, tiny_depth: Path,
                                                                             tmp_path: Path) -> None:
    store = write_named_store(tmp_path / "store", ClipTowers("clip2x-small", str(tiny_clip)))
    arguments = points_arguments(tiny_pairs, tiny_clip, store, tmp_path / "tuned", steps=2)
    run_stage([*arguments[:5], "--config", "tune_depth", "--config", "mini/tune_depth", *arguments[5:], "--model.tuned", str(tiny_depth),
               "--model.output", str(tmp_path / "tuned" / "depth_encoder.safetensors"), "--data.watch", "[]"])
    about = read_depth_checkpoint(tmp_path / "tuned" / "depth_encoder.safetensors").about
    assert any("tuned on triplets" in note for note in about["notes"]) and about["mined"]
    run_stage([*eval_arguments(tiny_pairs, tiny_clip, tmp_path), "--model.checkpoint", str(tiny_depth), "--data.limit", "2",
               "--model.tuned_checkpoint", str(tmp_path / "tuned" / "depth_encoder.safetensors")])
    methods = [row["method"] for row in json.loads((tmp_path / "results.json").read_text())["results"]]
    assert any(method.startswith("CLIP2Point + proxies") for method in methods)


def test_eval_zeroshot_compares_the_whole_ladder(tiny_world: Path, tiny_clip: Path, tiny_depth: Path, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    run_stage([*eval_arguments(tiny_world, tiny_clip, tmp_path), "--model.checkpoint", str(tiny_depth)])
    answer = json.loads((tmp_path / "results.json").read_text())
    rows = {row["method"]: row for row in answer["results"]}
    plain, tuned, summed = "CLIP depth views r=0.045", "CLIP2Point r=0.045", "CLIP2Point + CLIP r=0.045"
    assert list(rows) == [*WITHOUT_CHECKPOINT, tuned, summed]
    for row in rows.values():
        assert set(row) == CONTRACT
        assert row["apart"]["names"] == ["desk", "night stand"]
        assert row["apart"]["num_samples"] + row["apart"]["rest_num_samples"] == row["num_samples"] == 20
    assert rows[tuned]["gain"]["over"] == rows[summed]["gain"]["over"] == plain and rows[summed]["step"]["over"] == tuned
    assert rows[tuned]["gain"]["top1"] == pytest.approx(rows[tuned]["top1"] - rows[plain]["top1"])
    assert rows[summed]["step"]["top1"] == pytest.approx(rows[summed]["top1"] - rows[tuned]["top1"])
    assert rows[plain]["gain"] is rows[plain]["step"] is rows["PointCLIP projection"]["gain"] is rows[tuned]["step"] is None
    assert rows[summed]["protocol"]["factors"] == {"CLIP2Point": 60.0, "CLIP": 30.0}
    digest = hashlib.sha256(tiny_depth.read_bytes()).hexdigest()
    assert rows[tuned]["protocol"]["depth_checkpoint_sha256"] == answer["provenance"]["depth_checkpoint"]["sha256"] == digest
    printed = capsys.readouterr().out
    assert "apart are desk, night stand (kept out of the training of its checkpoints): CLIP2Point r=0.045, CLIP2Point + CLIP" in printed
    assert "gain in points of top-1" in printed and "note: there is no row CLIP2Point + proxies: make tune-depth trains it" in printed


def test_eval_zeroshot_gives_the_same_numbers_on_two_processes(tiny_world: Path, tiny_clip: Path, tiny_depth: Path, tmp_path: Path) -> None:
    """Seven samples a rank or fewer, in uneven batches: nothing is counted twice and nothing hangs."""
    tables = {}
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        command = [sys.executable, "-m", "stages", *eval_arguments(tiny_world, tiny_clip, folder), "--data.limit", "13",
                   "--data.batch_size", "4",
                   "--trainer.devices", str(devices), "--trainer.strategy", "auto" if devices == 1 else "ddp", "--model.point_radius", "[0.045]",
                   "--model.checkpoint", str(tiny_depth)]
        subprocess.run(command, cwd=REPO, check=True, capture_output=True, timeout=300)
        tables[devices] = json.loads((folder / "results.json").read_text())["results"]
    assert tables[1] == tables[2]
    assert len(tables[1]) == 5 and tables[1][0]["num_samples"] == 13


def test_data_sets_that_are_not_there_are_left_out_and_named(tiny_world: Path, tiny_clip: Path, tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    """The full profile's own list, of which the mini-world has what it calls by the same names."""
    small = ["--data.limit", "2", "--model.projections", "[]", "--data.num_workers", "0", "--data.crops", "64", "--trainer.devices", "1"]
    mini = eval_arguments(tiny_world, tiny_clip, tmp_path / "out", test="")
    full = [word for position, word in enumerate(mini) if position not in (3, 4)]
    run_stage([*full, "--model.clip.model", "clip2x-small", *small])
    answer, printed = json.loads((tmp_path / "out" / "results.json").read_text()), capsys.readouterr().out
    absent, there = answer["provenance"]["not_evaluated"], {(row["dataset"], row["variant"]) for row in answer["results"]}
    assert {("modelnet10", "off"), ("scanobjectnn", "obj_only"), ("sunrgbd", "objects10"), ("sunrgbd", "objects37")} <= there
    assert {"modelnet40/off/test", "nuscenes/v1.0-trainval/val"} <= set(absent)
    assert len(there) + len(absent) == 12
    assert all(f"note: {name} is not evaluated: {why}" in printed and "Get it:" in why for name, why in absent.items())
    for root, message in ((tiny_world, "ModelNet40"), (tmp_path / "nowhere", "nowhere")):
        with pytest.raises(DataNotFoundError, match=message):
            run_stage([*full, "--model.clip.model", "clip2x-small", *small, "--data.root", str(root),
                       "--data.missing", "raise" if root == tiny_world else "skip"])
    with pytest.raises(InputError, match="data.missing must be one of raise, skip, got 'ignore'"):
        run_stage([*mini, "--data.missing", "ignore"])


def test_overrides_reach_the_run(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    run_stage([*eval_arguments(tiny_world, tiny_clip, tmp_path), "--model.point_radius", "[0.1]", "--model.views", "clip2point-6",
               "--data.num_points", "256", "--data.limit", "3", "--model.templates", "a photo of a {} | one {}", "--model.pooling", "feature_mean"])
    row = json.loads((tmp_path / "results.json").read_text())["results"][0]
    assert row["num_samples"] == 3
    assert row["prompts"] == ["a photo of a {}", "one {}"]
    assert {key: row["protocol"][key] for key in ("views", "point_radius", "num_points", "pooling")} == {
        "views": "clip2point-6", "point_radius": 0.1, "num_points": 256, "pooling": "feature_mean"}


@pytest.mark.slow
def test_full_profile_runs_an_openai_layout_file(tiny_world: Path, tmp_path: Path) -> None:
    """The papers' recipe with a random ViT-B/32 in OpenAI's layout, on two clouds; checks the resolved protocol."""
    model = open_clip.create_model("ViT-B-32-quickgelu", load_weights=False)
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    state |= {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    torch.save(state, tmp_path / "ViT-B-32.pt")
    run_stage(["test", "--config", "eval_zeroshot", "--data.root", str(tiny_world), "--data.test", "[modelnet10/off/test]", "--data.limit", "2",
               "--data.num_workers", "0", "--data.batch_size", "2", "--data.cache", str(tmp_path / "c"), "--model.output", str(tmp_path),
               "--model.clip.pretrained", str(tmp_path / "ViT-B-32.pt"), "--trainer.logger.save_dir", str(tmp_path),
               "--trainer.accelerator", "cpu", "--trainer.devices", "1"])
    row = json.loads((tmp_path / "results.json").read_text())["results"][0]
    assert row["protocol"] | {"clip": "", "notes": []} == {
        "profile": "full", "clip": "", "views": "clip2point-10", "point_radius": 0.02, "image_size": 224, "pooling": "cosine_sum", "num_points": 1024,
        "sampler": "random", "up": "z", "limit": 2, "precision": "fp32", "data": "mini-world", "clip_seed": None, "notes": [], "apart_from": None,
        "encoder": "CLIP", "projection": "clip2point", "num_views": 10, "normalise_colours": True, "num_points_of_encoder": None,
        "factors": None, "factors_from": None,
        "depth_checkpoint_sha256": None, "point_checkpoint_sha256": None, "selected_on": None, "transductive": None, "prompts_of_encoders": None,
        "min_points": None}
    assert row["prompts"] == ["image of a {}"]


BAD = [
    (["--trainer.max_epoch", "3"], InputError, "unknown option --trainer.max_epoch; did you mean --trainer.max_epochs?"),
    (["--trainer.max_epochs", "many"], InputError, 'Parser key "trainer.max_epochs"'),
    (["--data.root", "nowhere"], DataNotFoundError, "nowhere"),
    (["--data.test", "[modelnet10]"], InputError, "write manifest/variant/split"),
    (["--data.test", "[modelnet11/off/test]"], InputError, "no manifest is called 'modelnet11'"),
    (["--data.test", "[modelnet10/off/dev]"], InputError, "has no split 'dev'; it has train, test"),
    (["--model.clip.model", "ViT-B-33"], InputError, "ViT-B-33"),
    (["--model.clip.model", "ViT-B-32-quickgelu"], CheckpointMismatchError, "you asked for ViT-B-32-quickgelu"),
    (["--model.clip.pretrained", "no-such-tag"], (InputError, DataNotFoundError), "no-such-tag"),
    (["--model.views", "clip2point-7"], InputError, "unknown view preset 'clip2point-7'"),
    (["--model.point_radius", "[-1]"], InputError, "-1"),
    (["--model.pooling", "max"], InputError, "cosine_sum"),
    (["--model.templates", "chairs"], InputError, "no prompts 'chairs'"),
    (["--model.clip.modell", "x"], InputError, "modell"),
    (["--data.batch_size", "0"], InputError, "data.batch_size must be at least 1, got 0."),
    (["--model.point_radius", "[]"], InputError, "empty list"),
    (["--model.projections", "[pointclip3]"], InputError, "unknown projection 'pointclip3'; model.projections takes pointclip, pointclip-v2."),
    (["--model.checkpoint", "nowhere.safetensors"], DataNotFoundError, "nowhere.safetensors"),
    (["--model.apart", "[chairs]"], InputError, "model.apart names 'chairs', which no test set has; near it are chair."),
    (["--config=no_such_stage"], DataNotFoundError, "stages that come with clip2x: adapt, collect_proxies, eval_zeroshot"),
    (["--ckpt_path", "nowhere.ckpt"], DataNotFoundError, "nowhere.ckpt"),
    (["--config", "no_such_stage"], DataNotFoundError, "stages that come with clip2x: adapt, collect_proxies, eval_zeroshot"),
]


def test_a_broken_file_in_a_reader_process_is_one_line(tiny_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh = tmp_path / "ModelNet10" / "chair" / "test" / "chair_0001.off"
    mesh.parent.mkdir(parents=True)
    mesh.write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 9\n")
    assert main([*eval_arguments(tmp_path, tiny_clip, tmp_path / "out"), "--data.num_workers", "1"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "chair_0001.off" in last
    assert "Traceback" not in last


@pytest.mark.parametrize(("extra", "kind", "message"), BAD, ids=[" ".join(case[0]) for case in BAD])
def test_bad_input_is_one_line(extra: list[str], kind: type, message: str, tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(kind) as caught:
        run_stage([*eval_arguments(tiny_world, tiny_clip, tmp_path), *extra])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results.json").exists()


def test_a_variant_with_classes_of_its_own_is_scored_over_those(tiny_world: Path, tiny_clip: Path, tmp_path: Path) -> None:
    run_stage(eval_arguments(tiny_world, tiny_clip, tmp_path, test="sunrgbd/objects37/test"))
    row = json.loads((tmp_path / "results.json").read_text())["results"][0]
    assert row["num_classes"] == len(row["confusion"]) == len(row["per_class"]) == 37
