"""The stage pretrain_depth: what it writes, how it chooses, how it goes on after a kill, what it refuses."""

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

import open_clip
import pytest
import torch
import yaml
from conftest import REPO, depth_arguments, eval_arguments
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import clip2x
from clip2x.cli import main
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import read_depth_checkpoint
from clip2x.errors import CheckpointMismatchError, DataNotFoundError, InputError, TrainingDivergedError
from clip2x.losses import DepthPairLoss
from clip2x.modules.depth_pretraining import DepthPretraining
from clip2x.stage_cli import run_stage, stage_folder
from clip2x.types import PairBatch

NAME = "depth_encoder.safetensors"


@pytest.fixture(scope="module")
def trained(tiny_pairs: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train for four steps, with validation after two and four."""
    folder = tmp_path_factory.mktemp("pretrain_depth")
    run_stage(depth_arguments(tiny_pairs, tiny_clip, folder, steps=4))
    return folder


def scalars(folder: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return {tag: [item.value for item in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_the_checkpoint_says_what_it_is(trained: Path, tiny_clip: Path) -> None:
    about = read_depth_checkpoint(trained / NAME).about
    clip = ClipTowers("clip2x-small", str(tiny_clip))
    assert about["stage"] == "pretrain_depth" and about["clip"] == clip.id and about["embed_dim"] == clip.embed_dim
    assert about["encoder"] == {"kind": "depth_views", "views": "clip2point-10", "point_radius": 0.02, "num_points": 1024, "up": "y",
                                "pooling": "cosine_sum"}
    assert about["steps"] in (2, 4) and 0 <= about["val_top1"] <= 1
    assert "chair" in about["class_names"] and "carved" in about["selected_on"]
    assert all(0 < about["ensemble"][key] < 1000 for key in ("tuned", "clip"))


def test_losses_rates_accuracies_and_pictures_are_logged(trained: Path) -> None:
    found = scalars(trained)
    assert {"train/loss", "train/cross", "train/intra", "train/s", "val/top1", "val/class_mean", "val/untouched_top1", "val/sum_top1", "select/top1",
            "test/shapenet-pc-test/top1", "test/modelnet10-off-test/top1"} <= set(found)
    assert any(tag.startswith("lr-") for tag in found)
    assert found["select/top1"] == found["val/top1"] and len(found["val/top1"]) == 2
    events = EventAccumulator(str(trained), size_guidance={"images": 0})
    events.Reload()
    assert events.Tags()["images"]


def test_its_file_and_its_checkpoints_are_loaded_and_evaluated(trained: Path, tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    points = torch.rand(2, 300, 3, generator=torch.Generator().manual_seed(0))
    best, file = (clip2x.load(trained / name, device="cpu").embed(points) for name in ("checkpoints/best.ckpt", NAME))
    assert torch.equal(best, file)
    untouched = clip2x.load(tiny_clip, device="cpu")
    assert not torch.allclose(file, untouched.embed(points), atol=1e-3)
    run_stage([*eval_arguments(tiny_pairs, tiny_clip, tmp_path), "--model.checkpoint", str(trained / NAME), "--model.point_radius", "[0.02]"])
    rows = json.loads((tmp_path / "results.json").read_text())["results"]
    assert {"CLIP depth views r=0.02", "CLIP2Point r=0.02", "CLIP2Point + CLIP r=0.02"} <= {row["method"] for row in rows}


def test_the_best_step_is_kept_by_validation_alone(trained: Path) -> None:
    found = scalars(trained)
    top1 = found["val/top1"]
    about = read_depth_checkpoint(trained / NAME).about
    assert about["steps"] == (2 if top1[0] >= top1[1] else 4)
    assert about["val_top1"] == pytest.approx(max(top1))


def test_official_selection_is_named(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    run_stage([*depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=1), "--model.select_on", "official"])
    assert "official code's rule" in read_depth_checkpoint(tmp_path / NAME).about["selected_on"]
    found = scalars(tmp_path)
    assert found["select/top1"] == found["test/shapenet-pc-test/top1"]


SCHEDULES = {
    "warm-up and cosine": ["--model.warmup_steps", "3"],
    "LAMB with restarts and a moving average": ["--model.optimizer", "Lamb", "--model.restart_epochs", "1",
                                                "--trainer.callbacks+=ExponentialMovingAverage"],
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_a_run_that_dies_ends_like_an_uninterrupted_one(schedule: list[str], tiny_pairs: Path, tiny_clip: Path, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """Dies in step 3 of 4, after the checkpoint of step 2; goes on with the batches that were left, by the same command."""
    straight, arguments = ([*depth_arguments(tiny_pairs, tiny_clip, tmp_path / name, steps=4), *schedule] for name in ("straight", "died"))
    run_stage(straight)
    step = DepthPretraining.training_step

    def dying(self: DepthPretraining, batch: PairBatch, batch_idx: int) -> Tensor:
        if self.global_step == 3:
            raise RuntimeError("killed")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(DepthPretraining, "training_step", dying)
    with pytest.raises(RuntimeError, match="killed"):
        run_stage(arguments)
    monkeypatch.undo()
    assert not (tmp_path / "died" / NAME).exists()
    assert torch.load(tmp_path / "died" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    config = (tmp_path / "died" / "config.yaml").read_text()
    for other in (["--data.batch_size", "8"], ["--model.point_radius", "0.03"], ["--data.seed", "4"], ["--data.balance", "1"]):
        with pytest.raises(CheckpointMismatchError, match="other settings"):
            run_stage([*arguments, *other])
    assert (tmp_path / "died" / "config.yaml").read_text() == config
    run_stage(arguments)
    for name in (NAME, "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        first, second = (weights(tmp_path / run / name) for run in ("straight", "died"))
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_the_moving_average_is_what_is_kept_and_the_frozen_clip_stays(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    run_stage([*depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=2), "--trainer.callbacks+=ExponentialMovingAverage",
               "--trainer.callbacks.decay", "0.9"])
    checkpoint = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    averaged, raw = checkpoint["state_dict"], checkpoint["current_model_state"]
    kept = load_file(tmp_path / NAME)
    name = next(name for name in kept if name.startswith("depth.") and name.endswith("proj.weight"))
    inside = f"depth_encoder.tower.visual.{name.removeprefix('depth.')}"
    assert torch.equal(kept[name], averaged[inside]) and not torch.equal(averaged[inside], raw[inside])
    frozen = ClipTowers("clip2x-small", str(tiny_clip))
    assert ClipTowers("clip2x-small", str(tmp_path / NAME)).content_sha256 == frozen.content_sha256


def weights(path: Path) -> dict[str, Tensor]:
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_kill_9_in_mid_epoch(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """A process that is really killed, started again by the same command."""
    def command(folder: Path) -> list[str]:
        return [sys.executable, "-m", "stages", *depth_arguments(tiny_pairs, tiny_clip, folder, steps=30), "--trainer.val_check_interval", "5"]

    process = subprocess.Popen(command(tmp_path / "killed"), cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert last.is_file() and not (tmp_path / "killed" / NAME).exists()
    for folder in ("killed", "straight"):
        subprocess.run(command(tmp_path / folder), cwd=REPO, check=True, capture_output=True, timeout=300)
    killed, straight = (load_file(tmp_path / folder / NAME) for folder in ("killed", "straight"))
    assert all(torch.equal(killed[key], straight[key]) for key in straight)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    losses = {}
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        command = [sys.executable, "-m", "stages", *depth_arguments(tiny_pairs, tiny_clip, folder, steps=3), "--trainer.devices", str(devices),
                   "--trainer.strategy", "auto" if devices == 1 else "ddp", "--trainer.log_every_n_steps", "1"]
        subprocess.run(command, cwd=REPO, check=True, capture_output=True, timeout=300)
        losses[devices] = scalars(folder)
    for key in ("train/loss", "train/cross", "train/intra", "train/s"):
        assert losses[1][key] == pytest.approx(losses[2][key], abs=2e-6)
    assert losses[1]["val/top1"] == losses[2]["val/top1"]


def test_there_are_switches() -> None:
    assert len(SWITCHES) >= 10


def test_cached_features_give_the_same_training(trained: Path, tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    run_stage([*depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=4), "--model.image_feature_cache", str(tmp_path / "features")])
    first, second = (weights(folder / NAME) for folder in (trained, tmp_path))
    assert all(torch.allclose(first[key], second[key], atol=1e-4) for key in first)
    assert any((tmp_path / "features").rglob("*"))


def test_a_loss_that_is_no_number_stops_with_step_samples_and_checkpoint(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    forward, calls = DepthPairLoss.forward, []

    def broken(self: DepthPairLoss, *features: Tensor) -> dict[str, Tensor]:
        calls.append(1)
        terms = forward(self, *features)
        return {name: term * torch.nan for name, term in terms.items()} if len(calls) == 3 else terms

    monkeypatch.setattr(DepthPairLoss, "forward", broken)
    assert main(depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=4)) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: the loss is nan at step 2;") and str(tmp_path / "checkpoints" / "last.ckpt") in line
    report = json.loads((tmp_path / "diverged.json").read_text())
    assert report["step"] == 2 and len(report["samples"]) == 16
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2


def test_weights_that_are_no_numbers_are_never_the_last_checkpoint(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of step 4 is a number, its gradient is none."""
    def broken(self: DepthPretraining, *unused: object) -> None:
        if self.global_step == 3:
            for parameter in self.depth_encoder.parameters():
                parameter.grad = torch.full_like(parameter, torch.nan)

    monkeypatch.setattr(DepthPretraining, "on_before_optimizer_step", broken)
    with pytest.raises(TrainingDivergedError, match=r"no numbers after step 4: .*last\.ckpt is the last good one"):
        run_stage(depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=6))
    for name in ("best", "last"):
        checkpoint = torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 2 and all(bool(value.isfinite().all()) for value in checkpoint["state_dict"].values())


DOCUMENTED = re.findall(r"^\| (.+?) \| (`--.+`) \|$", (REPO / "docs" / "pretrain_depth.md").read_text(), re.MULTILINE)
SWITCHES = {f"{name} {number}": arguments for name, cell in DOCUMENTED for number, arguments in enumerate(re.findall(r"`([^`]+)`", cell))}
HERE = {"[transformer.resblocks.11, ln_post, proj]": "[trunk.stages.11, head]"}  # the small tower's names


@pytest.mark.parametrize("switch", SWITCHES.values(), ids=SWITCHES.keys())
def test_switches(switch: str, trained: Path, tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """Every row of the table in docs/pretrain_depth.md."""
    arguments = [HERE.get(word, word).replace("FOLDER", str(tmp_path / "kept")) for word in shlex.split(switch)]
    run_stage([*depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=2), *arguments])
    state = weights(tmp_path / NAME)
    assert all(bool(value.isfinite().all()) for value in state.values())
    clip = ClipTowers("clip2x-small", str(tiny_clip)).image_tower.visual.state_dict()
    changed = {name for name in clip if not torch.equal(state[f"depth.{name}"], clip[name])}
    if "--model.train_only" in arguments:
        assert changed and all(name.startswith(("trunk.stages.11", "head")) for name in changed)
    else:
        assert len(changed) == len([name for name, value in clip.items() if value.is_floating_point()])


BAD = [
    (["--data.batch_size", "1"], InputError, "at least 2"),
    (["--trainer.accumulate_grad_batches", "2"], InputError, "another loss"),
    (["--data.train.image_size", "32"], InputError, "64"),
    (["--data.train.split", "train:all"], InputError, "all"),
    (["--data.train.split", "train"], InputError, "are in data.train and in data.val"),
    (["--model.views", "clip2point-6"], InputError, "the pictures show the views of 'clip2point-10'"),
    (["--trainer.precision", "bf16-true"], InputError, "use bf16-mixed"),
    (["--data.train.view", "12"], InputError, "0 to 9"),
    (["--model.select_on", "test"], InputError, "train_val, official"),
    (["--model.select_on", "official", "--data.watch", "[]"], InputError, "add shapenet/pc/test"),
    (["--model.train_only", "[no_such_layer]"], InputError, "no_such_layer"),
    (["--model.restart_epochs", "0"], InputError, "restart_epochs"),
    (["--model.loss.temperature", "0"], InputError, "temperature"),
    (["--model.unseen_names", "[chair]"], InputError, "chair"),
    (["--data.train.exclude", "[chairs]"], InputError, "chair"),
    (["--data.watch", "[shapenet/pc]"], InputError, "manifest/variant/split"),
    (["--data.val_every_epochs", "0"], InputError, "val_every_epochs"),
    (["--data.root", "nowhere"], DataNotFoundError, "nowhere"),
    (["--model.clip.model", "ViT-B-32-quickgelu"], CheckpointMismatchError, "clip2x-small"),
]


@pytest.mark.parametrize(("extra", "kind", "message"), BAD, ids=[" ".join(case[0]) for case in BAD])
def test_bad_input_is_one_line(extra: list[str], kind: type, message: str, tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(kind) as caught:
        run_stage([*depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=2), *extra])
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / NAME).exists()


def test_validating_alone_is_refused(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this module only trains"):
        run_stage(["validate", *depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=2)[1:]])


def test_missing_pictures_are_named(tiny_pairs: Path, tiny_clip: Path, tiny_world: Path, tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="do not have one picture for each of 10 views, first rendering/"):
        run_stage(depth_arguments(tiny_world, tiny_clip, tmp_path, steps=2))


def test_a_checkpoint_of_another_stage_is_refused(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "global_step": 1, "pytorch-lightning_version": "2.6.6", "trained_on": "x"}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointMismatchError, match="not of pretrain_depth"):
        run_stage([*depth_arguments(tiny_pairs, tiny_clip, tmp_path / "run", steps=2), "--ckpt_path", str(tmp_path / "other.ckpt")])


def test_a_run_with_unseen_names_keeps_them_out(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    arguments = depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=1)
    arguments[5:5] = ["--config", "mini/pretrain_depth_unseen"]
    run_stage(arguments)
    about = read_depth_checkpoint(tmp_path / NAME).about
    assert {"bathtub", "bed", "sofa", "toilet"} <= set(about["unseen_names"]) and not set(about["unseen_names"]) & set(about["class_names"])
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config["data"]["train"]["init_args"]["split"] == "train:fit" and config["data"]["train"]["init_args"]["image_size"] == 64
    assert config["data"]["val"]["init_args"]["name"] == "shapenet/pc/train:val"


@pytest.mark.slow
def test_full_profile_runs_on_two_processes_and_goes_on(tiny_pairs: Path, tmp_path: Path) -> None:
    """The papers' recipe with a random ViT-B/32 in OpenAI's layout: two steps on two gloo ranks, then two more after a stop."""
    model = open_clip.create_model("ViT-B-32-quickgelu", load_weights=False)
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    state |= {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    torch.save(state, tmp_path / "ViT-B-32.pt")
    command = [sys.executable, "-m", "stages", "fit", "--config", "pretrain_depth", "--data.root", str(tiny_pairs), "--data.batch_size", "4",
               "--data.num_workers", "0", "--data.watch", "[]", "--data.val.num_points", "64", "--data.val.limit", "2",
               "--model.clip.pretrained", str(tmp_path / "ViT-B-32.pt"), "--model.output", str(tmp_path / "run" / NAME),
               "--trainer.logger.save_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu", "--trainer.devices", "2",
               "--trainer.strategy", "ddp", "--trainer.precision", "32-true", "--data.val_every_epochs", "0.06"]
    for steps in (2, 3):
        subprocess.run([*command, "--trainer.max_steps", str(steps)], cwd=REPO, check=True, timeout=900, capture_output=True)
        checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
        assert checkpoint["global_step"] == steps and not any(name.startswith("clip.") for name in checkpoint["state_dict"])
    about = read_depth_checkpoint(tmp_path / "run" / NAME).about
    assert about["model"] == "ViT-B-32-quickgelu" and about["clip"].startswith("ViT-B-32-quickgelu/sha256:")
    recogniser = clip2x.load(tmp_path / "run" / NAME, device="cpu", clip=str(tmp_path / "ViT-B-32.pt"))
    assert recogniser.embed(torch.rand(1, 100, 3)).shape == (1, 512)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    model, data = config["model"]["init_args"], config["data"]
    resolved = {
        "tower": model["clip"]["init_args"]["model"], "temperature": model["loss"]["init_args"], "optimizer": model["optimizer"]["init_args"],
        "restart_epochs": model["restart_epochs"], "min_learning_rate": model["min_learning_rate"], "warmup_steps": model["warmup_steps"],
        "views": model["views"], "point_radius": model["point_radius"], "train_only": model["train_only"], "epochs": config["trainer"]["max_epochs"],
        "points": data["train"]["init_args"]["num_points"], "distances": data["train"]["init_args"]["distance_range"],
        "jitter": data["train"]["init_args"]["view_jitter_deg"], "prompts": model["templates"],
    }
    assert resolved == {  # official code 30673e7, pretraining.py, models/clip2point.py, datasets/shapenet.py; torch_optimizer 0.3.0
        "tower": "ViT-B-32-quickgelu", "temperature": {"temperature": 0.07, "intra": True, "contrast": "nt_xent"},
        "optimizer": {"lr": 6e-3, "betas": [0.9, 0.999], "eps": 1e-6, "weight_decay": 1e-4, "max_weight_norm": 10.0},
        "restart_epochs": 2.0, "min_learning_rate": 1e-5, "warmup_steps": 0, "views": "clip2point-10", "point_radius": 0.02, "train_only": None,
        "epochs": 100, "points": 1024, "distances": [0.9, 1.1], "jitter": 0.0, "prompts": "official_code"}
    shipped = yaml.safe_load((stage_folder() / "pretrain_depth.yaml").read_text())["data"]
    assert (shipped["batch_size"], shipped["val_every_epochs"], shipped["watch"]) == (256, 1, ["shapenet/pc/test", "modelnet40/off/test"])
