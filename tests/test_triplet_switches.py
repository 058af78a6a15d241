"""Every switch of the stage pretrain_points, its other encoders, what it refuses, and runs that are too long for every day."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml
from conftest import REPO, points_arguments
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from triplet_runs import NAME, NAMES, Runs, scalars, tuning, weights, write_depth_encoder, write_named_store

import clip2x
from clip2x.cli import main
from clip2x.data.triplets.dataset import TripletProxies
from clip2x.data.triplets.store import TripletStore
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth import pool_view_features
from clip2x.encoders.depth_checkpoint import depth_encoder_of, read_depth_checkpoint
from clip2x.encoders.point_checkpoint import point_encoder_of, read_point_checkpoint
from clip2x.encoders.points import PointNet2, PointTransformer
from clip2x.errors import CheckpointMismatchError, DataNotFoundError, InputError, TrainingDivergedError
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.evaluation.ensemble import fit_factors
from clip2x.losses import TripletLoss
from clip2x.modules.triplet_pretraining import TripletPretraining
from clip2x.stage_cli import run_stage, stage_folder


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> ClipTowers:
    return ClipTowers("clip2x-small", str(tiny_clip))


@pytest.fixture(scope="module")
def other_store(clip: ClipTowers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_named_store(tmp_path_factory.mktemp("other") / "store", clip, range(48), ["bed", "sofa"])


@pytest.fixture(scope="module")
def point_file(tiny_world: Path, tiny_clip: Path, named_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A point encoder after one step."""
    return Runs(tiny_world, tiny_clip, named_store, tmp_path_factory.mktemp("points"))(steps=1) / NAME


@pytest.fixture
def run(tiny_world: Path, tiny_clip: Path, named_store: Path, tmp_path: Path) -> Runs:
    return Runs(tiny_world, tiny_clip, named_store, tmp_path)


# Switches ------------------------------------------------------------------------------------------------------------------------------------

DOCUMENTED = re.findall(r"^\| (.+?) \| (`--.+`) \|$", (REPO / "docs" / "pretrain_points.md").read_text(), re.MULTILINE)
SWITCHES = {f"{name} {number}": arguments for name, cell in DOCUMENTED for number, arguments in enumerate(re.findall(r"`([^`]+)`", cell))}


def test_there_are_switches() -> None:
    assert len(SWITCHES) >= 13


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.mark.parametrize("switch", SWITCHES.values(), ids=SWITCHES.keys())
def test_switches(switch: str, tiny_pairs: Path, tiny_clip: Path, named_store: Path, tmp_path: Path, features: Path, other_store: Path,
                  point_file: Path) -> None:
    """Every row of the table in docs/pretrain_points.md, with the stores and the models that the mini profile trains on."""
    run = Runs(tiny_pairs, tiny_clip, named_store, tmp_path, features)
    here = {"[indoor, outdoor]": f"[{run.store}, {other_store}]", "other/point_encoder.safetensors": str(point_file), "224": "64"}
    folder = run(*[here.get(word, word) for word in shlex.split(switch)], steps=2 if "Average" in switch else 1)
    state, about = weights(folder / NAME), read_point_checkpoint(folder / NAME).about
    assert all(bool(value.isfinite().all()) for value in state.values())
    assert clip2x.load(folder / NAME, device="cpu").classify(torch.rand(1, 50, 3), list(NAMES)).isfinite().all()
    found = scalars(folder)
    if "image_weight 0" in switch or "text_weight 0" in switch:
        assert found["train/image" if "image_weight" in switch else "train/text"] == [0] and found["train/loss"][0] > 0
    elif "outdoor" in switch:
        alone = read_point_checkpoint(point_file).about["mined"]
        assert {*NAMES, "bed", "sofa"} <= set(about["class_names"])
        assert all(about["mined"][name]["frames"] > facts["frames"] for name, facts in alone.items())
    elif "[nuscenes]" in switch:
        assert list(about["mined"]) == ["nuscenes/v1.0-mini/mini_train"]
    elif "PointNet2" in switch:
        assert about["encoder"]["kind"] == "pointnet2"
    elif "ExponentialMovingAverage" in switch:
        checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
        averaged, raw, name = checkpoint["state_dict"], checkpoint["current_model_state"], "point_encoder.head.weight"
        assert torch.equal(state["points.head.weight"], averaged[name]) and not torch.equal(averaged[name], raw[name])
    elif "templates" in switch:
        assert len(about["templates"]) == 2
    elif "learnable false" in switch:
        assert found["train/scale_text"] == pytest.approx([1 / 0.07], rel=1e-5)
    elif "image_size" in switch:
        kept = scalars(point_file.parent)  # the same step from embeddings, which are kept in 16 bits
        assert found["train/image"] == pytest.approx(kept["train/image"], abs=2e-3) and found["train/text"] == kept["train/text"]
    elif "min_score" in switch:
        assert any("are left out" in note for note in about["notes"])


def test_a_run_with_unseen_names_keeps_them_out(run: Runs) -> None:
    """The shipped YAML on top of the mini profile: night stand, which the store has, is in no triplet and stated as unseen."""
    arguments = run.arguments(steps=1)
    place = arguments.index("mini/pretrain_points") + 1
    run_stage([*arguments[:place], "--config", "mini/pretrain_points_unseen", *arguments[place:]])
    about = read_point_checkpoint(run.folder / "run" / NAME).about
    assert "night stand" in about["unseen_names"] and set(about["class_names"]) == set(NAMES) - {"night stand"}


def test_initial_weights_are_those_of_the_file(run: Runs, point_file: Path) -> None:
    """With a rate of 0 nothing else can come out."""
    kept = load_file(run("--model.init", str(point_file), "--model.optimizer.lr", "0", steps=1) / NAME)
    before = load_file(point_file)
    assert kept.keys() == before.keys() and all(torch.equal(kept[name], before[name]) for name in kept)


def test_factors_of_the_sum_with_a_depth_encoder(run: Runs, clip: ClipTowers, disturbed_depth: Path) -> None:
    """Fitted on the held-out triplets from the cosines of both, each with its own prompt; the depth encoder itself is not in the checkpoint."""
    folder = run("--model.ensemble_with", str(disturbed_depth))
    stored = read_depth_checkpoint(disturbed_depth)
    about = read_point_checkpoint(folder / NAME).about
    assert about["ensemble"]["depth_checkpoint_sha256"] == stored.sha256
    data = TripletProxies(Path(), 3, run.store, num_points=64, part="val")
    points = torch.stack([data[index]["points"] for index in range(len(data))])
    other = pool_view_features(depth_encoder_of(stored, clip)(points)) @ class_embeddings(clip, list(data.class_names), ["image of a {}"]).T
    own = functional.normalize(point_encoder_of(read_point_checkpoint(folder / NAME), clip)(points), dim=-1) @ class_embeddings(
        clip, list(data.class_names), ["point cloud of {}"]).T
    labels = torch.from_numpy(data.labels).long()
    factors = fit_factors(torch.stack([own, other]), labels, start=clip.logit_scale / 2)
    assert [about["ensemble"][key] for key in ("points", "depth")] == pytest.approx(factors, rel=0.01)
    assert about["scale"] == pytest.approx(fit_factors(own[None], labels, start=clip.logit_scale)[0], rel=0.01)
    found = scalars(folder)
    for tag, scores in (("val/top1", own), ("val/other_top1", other), ("val/sum_top1", factors[0] * own + factors[1] * other)):
        assert found[tag] == pytest.approx([float((scores.argmax(dim=1) == labels).float().mean())])
    assert not any(name.startswith(("_other", "depth")) for name in weights(folder / "checkpoints" / "last.ckpt"))


def test_a_depth_encoder_is_tuned_on_triplets(run: Runs, clip: ClipTowers, disturbed_depth: Path) -> None:
    """It stays what it was but for its weights: a depth checkpoint with the factors and the scale from before."""
    run_stage(tuning(run, disturbed_depth))
    path, before = run.folder / "run" / "depth_encoder.safetensors", read_depth_checkpoint(disturbed_depth)
    after = read_depth_checkpoint(path)
    for key in ("encoder", "scale", "ensemble", "clip"):
        assert after.about[key] == before.about[key], key
    assert after.about["notes"][0] == "of a test" and "tuned on triplets" in after.about["notes"][-1]
    assert after.about["mined"] and set(after.about["class_names"]) == set(NAMES) and after.about["seed"] == 3
    changed = [name for name, value in after.tower_state.items() if value.is_floating_point() and not torch.equal(value, before.tower_state[name])]
    assert len(changed) == len(before.tower_state), "the whole tower is tuned"
    assert all(bool(value.isfinite().all()) for value in after.tower_state.values())
    assert clip2x.load(path, device="cpu", ensemble=True).classify(torch.rand(1, 50, 3), list(NAMES)).shape == (1, 4)
    assert ClipTowers("clip2x-small", str(path)).content_sha256 == clip.content_sha256
    config = yaml.safe_load((run.folder / "run" / "config.yaml").read_text())
    assert config["model"]["init_args"]["encoder"] is None and config["data"]["train"]["init_args"]["part"] == "fit"
    with pytest.raises(CheckpointMismatchError, match="was written by stage pretrain_depth, it has no point encoder"):
        read_point_checkpoint(path)


def test_clouds_of_fewer_points_than_groups_simply_work(run: Runs, tmp_path: Path) -> None:
    """Three points each: less than a group has, and than there are groups."""
    store = write_named_store(tmp_path / "few", None, most_points=3)
    assert set(TripletStore(store).num_points.tolist()) == {3}
    extra = ["--data.train.stores", f"[{store}]", "--data.val.stores", f"[{store}]", "--model.loss.image_weight", "0"]
    folder = run(*extra, steps=1)
    assert all(np.isfinite(values).all() for values in scalars(folder).values())
    assert all(bool(value.isfinite().all()) for value in weights(folder / NAME).values())


# What goes wrong -----------------------------------------------------------------------------------------------------------------------------

def test_a_loss_that_is_no_number_stops_with_step_samples_and_checkpoint(run: Runs, monkeypatch: pytest.MonkeyPatch,
                                                                       capsys: pytest.CaptureFixture[str]) -> None:
    forward, calls = TripletLoss.forward, []

    def broken(self: TripletLoss, *values: Tensor) -> dict[str, Tensor]:
        calls.append(1)
        terms = forward(self, *values)
        return {name: term * torch.nan for name, term in terms.items()} if len(calls) == 3 else terms

    monkeypatch.setattr(TripletLoss, "forward", broken)
    assert main(run.arguments(steps=4)) == 2
    line, folder = capsys.readouterr().err.strip().splitlines()[-1], run.folder / "run"
    assert line.startswith("error: the loss is nan at step 2;") and str(folder / "checkpoints" / "last.ckpt") in line
    report = json.loads((folder / "diverged.json").read_text())
    assert report["step"] == 2 and len(report["samples"]) == 8 and all("triplet" in sample for sample in report["samples"])
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2


def test_weights_that_are_no_numbers_are_never_the_last_checkpoint(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of step 4 is a number, its gradient is none."""
    def broken(self: TripletPretraining, *unused: object) -> None:
        if self.global_step == 3:
            for parameter in self.point_encoder.parameters():
                parameter.grad = torch.full_like(parameter, torch.nan)

    monkeypatch.setattr(TripletPretraining, "on_before_optimizer_step", broken)
    with pytest.raises(TrainingDivergedError, match=r"no numbers after step 4: .*last\.ckpt is the last good one"):
        run(steps=6)
    for name in ("best", "last"):
        checkpoint = torch.load(run.folder / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 2 and all(bool(value.isfinite().all()) for value in checkpoint["state_dict"].values())


BAD = [
    (["--data.batch_size", "1"], InputError, "contrast needs at least 2 triplets in a step"),
    (["--trainer.accumulate_grad_batches", "2"], InputError, "another loss"),
    (["--trainer.precision", "bf16-true"], InputError, "use bf16-mixed"),
    (["--data.train.part", "null"], InputError, "are in data.train and in data.val, which chooses the checkpoint"),
    (["--data.train.exclude", "[car, traffic cone, night stand]"], InputError, "so texts have no negatives"),
    (["--model.unseen_names", "[lamp, chair]"], InputError, "model.unseen_names has chair, which the training data has too"),
    (["--data.train.stores", "[nowhere]"], DataNotFoundError, "nowhere is no triplet store"),
    (["--model.templates", '["chairs"]'], InputError, "needs exactly one {}"),
    (["--model.clip.model", "ViT-B-32-quickgelu"], CheckpointMismatchError, "clip2x-small"),
]


@pytest.mark.parametrize(("extra", "kind", "message"), BAD, ids=[" ".join(case[0]) for case in BAD])
def test_bad_input_is_one_line(extra: list[str], kind: type, message: str, run: Runs) -> None:
    with pytest.raises(kind) as caught:
        run(*extra)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (run.folder / "run" / NAME).exists()


def test_arguments_that_do_not_go_together(clip: ClipTowers, disturbed_depth: Path, point_file: Path, tmp_path: Path) -> None:
    def make(**arguments: Any) -> TripletPretraining:
        return TripletPretraining(clip, tmp_path / NAME, **arguments)

    one_of_both = r"give either model.encoder .a point encoder to train. or model.tuned .a depth encoder to tune."
    not_beside = "model.init and model.centre_texts belong to model.encoder; leave them out beside model.tuned"
    for arguments, kind, message in (
            ({}, InputError, one_of_both), ({"encoder": PointTransformer, "tuned": disturbed_depth}, InputError, one_of_both),
            ({"tuned": disturbed_depth, "init": point_file}, InputError, not_beside),
            ({"tuned": disturbed_depth, "centre_texts": True}, InputError, not_beside),
            ({"encoder": PointTransformer, "warmup_share": 1.0}, InputError, r"model.warmup_share must lie in \[0, 1\), got 1"),
            ({"tuned": disturbed_depth, "tuned_views": 7}, InputError, "num_sampled must lie between 1 and the 6 views"),
            ({"tuned": point_file}, CheckpointMismatchError, "was written by stage pretrain_points, it has no depth encoder"),
            ({"encoder": PointTransformer, "init": disturbed_depth}, CheckpointMismatchError, "by stage pretrain_depth, it has no point encoder"),
            ({"encoder": PointNet2, "init": point_file}, CheckpointMismatchError, "model.init .*safetensors does not fit model.encoder: "),
            ({"encoder": PointTransformer, "ensemble_with": point_file}, CheckpointMismatchError, "pretrain_points, it has no depth encoder")):
        with pytest.raises(kind, match=message) as caught:
            make(**arguments)
        assert "\n" not in str(caught.value)


def test_a_store_of_another_clip_is_refused(run: Runs, clip: ClipTowers, tmp_path: Path) -> None:
    other = write_named_store(tmp_path / "other", ClipTowers("clip2x-small", random_weights=True))
    with pytest.raises(InputError, match=r"has no image embeddings of 'clip2x-small/sha256:.*there are: clip2x-small/random:0 .64 px.*embed-proxies"):
        run("--data.train.stores", f"[{other}]", "--data.val.stores", f"[{other}]")


def test_validating_alone_is_refused(run: Runs) -> None:
    with pytest.raises(InputError, match="this module only trains"):
        run_stage(["validate", *run.arguments()[1:]])


def test_a_checkpoint_of_another_stage_is_refused(run: Runs, tmp_path: Path) -> None:
    content = {"state_dict": {}, "global_step": 1, "pytorch-lightning_version": "2.6.6", "clip2x": {"stage": "pretrain_depth"}}
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointMismatchError, match="the checkpoint is of pretrain_depth, not of pretrain_points; give one of this stage"):
        run("--ckpt_path", str(tmp_path / "other.ckpt"))


# Long runs -----------------------------------------------------------------------------------------------------------------------------------

def kill_after_a_checkpoint(command: list[str], folder: Path) -> None:
    """Start a run in processes of its own and kill them all once it has written a checkpoint."""
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    last = folder / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 600
    while not last.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert last.is_file()


@pytest.mark.slow
def test_kill_9_in_mid_epoch(tiny_pairs: Path, tiny_clip: Path, named_store: Path, tmp_path: Path) -> None:
    """A process that is really killed, started again by the same command; the mini profile with models that CLIP names."""
    def command(folder: Path) -> list[str]:
        return [sys.executable, "-m", "stages", *points_arguments(tiny_pairs, tiny_clip, named_store, folder, steps=30), "--data.watch", "[]",
                "--trainer.val_check_interval", "5"]

    kill_after_a_checkpoint(command(tmp_path / "killed"), tmp_path / "killed")
    assert not (tmp_path / "killed" / NAME).exists()
    for folder in ("killed", "straight"):
        subprocess.run(command(tmp_path / folder), cwd=REPO, check=True, capture_output=True, timeout=300)
    killed, straight = (load_file(tmp_path / folder / NAME) for folder in ("killed", "straight"))
    assert all(torch.equal(killed[key], straight[key]) for key in straight)


@pytest.mark.slow
def test_tuning_that_dies_ends_like_an_uninterrupted_one(run: Runs, disturbed_depth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The views of a step are drawn; they are the same when it is taken again."""
    run_stage(tuning(run, disturbed_depth, name="straight", steps=4))
    step = TripletPretraining.training_step
    monkeypatch.setattr(TripletPretraining, "training_step", lambda self, *batch: 1 / 0 if self.global_step == 3 else step(self, *batch))
    with pytest.raises(ZeroDivisionError):
        run_stage(tuning(run, disturbed_depth, name="died", steps=4))
    monkeypatch.undo()
    run_stage(tuning(run, disturbed_depth, name="died", steps=4))
    straight, died = (load_file(run.folder / name / "depth_encoder.safetensors") for name in ("straight", "died"))
    assert all(torch.equal(died[key], straight[key]) for key in straight)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(run: Runs) -> None:
    losses = {}
    for devices in (1, 2):
        command = [sys.executable, "-m", "stages", *run.arguments(name=str(devices), steps=3), "--trainer.devices", str(devices),
                   "--trainer.strategy", "auto" if devices == 1 else "ddp"]
        subprocess.run(command, cwd=REPO, check=True, capture_output=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
        losses[devices] = scalars(run.folder / str(devices))
    for key in ("train/loss", "train/text", "train/image", "train/scale_text", "train/scale_image"):
        assert losses[1][key] == pytest.approx(losses[2][key], abs=5e-6), key
    assert losses[1]["val/top1"] == losses[2]["val/top1"] and losses[1]["val/class_mean"] == losses[2]["val/class_mean"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain_points", "tune_depth"])
def test_full_profile_runs_on_two_processes_and_goes_on(stage: str, tiny_world: Path, tmp_path: Path) -> None:
    """The recipe with a random ViT-B/32 in OpenAI's layout: four steps on two gloo ranks, which are killed after the first checkpoint."""
    model = open_clip.create_model("ViT-B-32-quickgelu", load_weights=False)
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    state |= {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    torch.save(state, tmp_path / "ViT-B-32.pt")
    clip = ClipTowers("ViT-B-32-quickgelu", str(tmp_path / "ViT-B-32.pt"))
    store, tuned = write_named_store(tmp_path / "store", clip), stage == "tune_depth"
    output = tmp_path / "run" / ("depth_encoder.safetensors" if tuned else NAME)
    extra = ["--config", "tune_depth", "--model.tuned", str(write_depth_encoder(tmp_path / "depth.safetensors", clip))] if tuned else []
    command = [sys.executable, "-m", "stages", "fit", "--config", "pretrain_points", *extra, "--data.root", str(tiny_world),
               "--data.train.stores", f"[{store}]", "--data.val.stores", f"[{store}]", "--data.val.limit", "4", "--data.batch_size", "4",
               "--data.num_workers", "0", "--model.clip.pretrained", str(tmp_path / "ViT-B-32.pt"), "--model.output", str(output),
               "--trainer.logger.save_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu", "--trainer.devices", "2",
               "--trainer.strategy", "ddp", "--trainer.precision", "32-true", "--data.val_every_epochs", "0.16", "--trainer.max_steps", "4"]
    kill_after_a_checkpoint(command, tmp_path / "run")
    assert not output.exists()
    subprocess.run(command, cwd=REPO, check=True, timeout=900, capture_output=True)
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 4 and not any(name.startswith("clip.") for name in checkpoint["state_dict"])
    recogniser = clip2x.load(output, device="cpu", clip=str(tmp_path / "ViT-B-32.pt"))
    assert recogniser.embed(torch.rand(1, 100, 3)).shape == (1, 512)
    about = (read_depth_checkpoint if tuned else read_point_checkpoint)(output).about
    assert about["model"] == "ViT-B-32-quickgelu" and about["clip"].startswith("ViT-B-32-quickgelu/sha256:")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    init, data = config["model"]["init_args"], config["data"]
    augmentations = {item["class_path"].split(".")[-1]: item["init_args"] for item in data["train"]["init_args"]["augmentations"]}
    resolved = {
        "tower": init["clip"]["init_args"]["model"], "loss": init["loss"]["init_args"], "rate": init["optimizer"]["init_args"]["lr"],
        "weight decay": init["optimizer"]["init_args"]["weight_decay"], "warm-up": init["warmup_share"], "prompts": init["templates"],
        "centred": init["centre_texts"], "points": data["train"]["init_args"]["num_points"], "part": data["train"]["init_args"]["part"],
        "chosen by": data["val"]["init_args"]["part"], "balance": data["balance"], "epochs": config["trainer"]["max_epochs"],
        "augmentations": augmentations, "objects": data["train"]["init_args"]["objects"],
        "encoder": init["encoder"] and {**init["encoder"]["init_args"], "kind": init["encoder"]["class_path"].split(".")[-1]}["size"],
    }
    assert resolved == {  # third party (UniGS ced8a3e): weights, prompt, rate, 50 epochs, 1,024 points; CLIP: temperature; else ours
        "tower": "ViT-B-32-quickgelu", "loss": {"text_weight": 0.5, "image_weight": 0.5, "temperature": 0.07, "learnable": True, "separate": True,
                                               "max_scale": 100.0},
        "rate": 1e-5 if tuned else 1e-4, "weight decay": 0.05, "warm-up": 0.05, "prompts": ["point cloud of {}"], "centred": False, "points": 1024,
        "part": "fit", "chosen by": "val", "balance": 0.5, "epochs": 5 if tuned else 50, "objects": None, "encoder": None if tuned else "small",
        "augmentations": {"RotateAboutUp": {"limit_deg": 180.0}, "Scale": {"low": 0.8, "high": 1.25, "per_axis": False},
                          "Jitter": {"sigma": 0.01, "clip": 0.05}, "DropPoints": {"most": 0.5}}}
    shipped = yaml.safe_load((stage_folder() / "pretrain_points.yaml").read_text())["data"]
    assert (shipped["batch_size"], shipped["val_every_epochs"]) == (512, 1)
