"""The stage tune_gdpa: what it writes, what a step does, what is trained, how it goes on after a kill, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
import yaml
from conftest import REPO, eval_arguments
from safetensors.torch import load_file
from small_clips import MODEL, large_clip, register_small_clips
from torch import Tensor
from torch.nn import functional
from triplet_runs import scalars, weights, write_depth_encoder

import clip2x
from clip2x.adapters import AdapterSettings
from clip2x.encoders.adapter_checkpoint import read_adapter_checkpoint, towers_of
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import read_depth_checkpoint
from clip2x.encoders.point_checkpoint import save_point_checkpoint
from clip2x.encoders.points import PointTransformer
from clip2x.errors import CheckpointMismatchError, DataNotFoundError, InputError
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.modules.gdpa_tuning import GDPATuning
from clip2x.modules.zero_shot import ZeroShotClassification
from clip2x.stage_cli import run_stage, stage_folder
from clip2x.types import PointBatch

NAME = "adapter.safetensors"
DATA = "scanobjectnn/obj_only"  # 15 classes; of each 1 object to train, 1 to choose, 1 to test
ROTATED = ["--data.train.augmentations", "[RotateAboutUp]"]
LINEAR = [*ROTATED, "--model.draws", "2", "--model.head", "linear"]


def arguments(world: Path, clip: Path, depth: Path, folder: Path, *more: str, steps: int = 4) -> list[str]:
    """Build the command line of stage tune_gdpa, mini profile: two steps an epoch, a validation after each."""
    return ["fit", "--config", "tune_gdpa", "--config", "mini/tune_gdpa", "--data.root", str(world), "--data.seed", "3",
            "--data.train.name", f"{DATA}/train:fit", "--data.val.name", f"{DATA}/train:val", "--data.watch", f"[{DATA}/test]",
            "--data.train.num_points", "64", "--data.val.num_points", "64", "--data.num_points", "64", "--data.batch_size", "6",
            "--data.val_every_epochs", "1", "--data.num_workers", "0", "--data.cache", str(folder / "cache"), "--model.clip.pretrained", str(clip),
            "--model.checkpoint", str(depth), "--model.output", str(folder / NAME), "--trainer.logger.save_dir", str(folder), "--trainer.max_steps",
            str(steps), "--trainer.precision", "32-true", "--trainer.devices", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar",
            "false", "--trainer.log_every_n_steps", "1", *more]


class Runs:
    """Short runs; called with more arguments, steps and the name of the run's folder."""

    def __init__(self, world: Path, clip: Path, depth: Path, folder: Path) -> None:
        self.given, self.folder = (world, clip, depth), folder

    def arguments(self, *more: str, steps: int = 4, name: str = "run") -> list[str]:
        return arguments(*self.given, self.folder / name, *more, steps=steps)

    def __call__(self, *more: str, steps: int = 4, name: str = "run") -> Path:
        run_stage(self.arguments(*more, steps=steps, name=name))
        return self.folder / name


@pytest.fixture
def run(tiny_world: Path, tiny_clip: Path, disturbed_depth: Path, tmp_path: Path) -> Runs:
    return Runs(tiny_world, tiny_clip, disturbed_depth, tmp_path)


@pytest.fixture(scope="module")
def trained(tiny_world: Path, tiny_clip: Path, disturbed_depth: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini profile: kept features of one draw."""
    return Runs(tiny_world, tiny_clip, disturbed_depth, tmp_path_factory.mktemp("tune_gdpa"))()


@pytest.fixture(scope="module")
def linear(tiny_world: Path, tiny_clip: Path, disturbed_depth: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With trained class weights, and two draws of rotated clouds."""
    return Runs(tiny_world, tiny_clip, disturbed_depth, tmp_path_factory.mktemp("tune_linear"))(*LINEAR)


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> ClipTowers:
    return ClipTowers("clip2x-small", str(tiny_clip))


def write_points(path: Path, clip: ClipTowers) -> Path:
    encoder = PointTransformer(clip.embed_dim, width=32, depth=1, heads=2, num_groups=8, group_size=8)
    save_point_checkpoint(path, encoder, clip, {
        "stage": "pretrain_points", "scale": 20.0, "ensemble": None, "templates": ["point cloud of {}"], "mean_text": None, "notes": [],
        "selected_on": "x", "encoder": {"num_points": 64, "up": "y", "channels": ["x", "y", "z"]}, "unseen_names": [], "mined": {}})
    return path


def clouds(number: int = 2) -> Tensor:
    return torch.rand(number, 300, 3, generator=torch.Generator().manual_seed(0))


# What it writes ------------------------------------------------------------------------------------------------------------------------------

def test_the_checkpoint_says_what_it_is(trained: Path, clip: ClipTowers, disturbed_depth: Path) -> None:
    about, found = read_adapter_checkpoint(trained / NAME).about, scalars(trained)
    assert about["stage"] == "adapt" and about["clip"] == clip.id and about["paths"] == ["depth", "clip"] and about["points"] is None
    assert about["trained_with"] == f"all labels of {DATA}/train:fit" and about["selected_on"] == "the class mean on data.val"
    assert about["trained_on"] == {"data": f"{DATA}/train:fit", "shots": "all", "seed": 3}
    assert about["head"] == "names" and about["seed"] == 3 and about["scale"] == clip.logit_scale and about["templates"] == ["image of a {}"]
    assert about["depth_checkpoint_sha256"] == read_depth_checkpoint(disturbed_depth).sha256 and len(about["class_names"]) == 15
    assert about["encoder"] == read_depth_checkpoint(disturbed_depth).about["encoder"]
    first, second = found["select/class_mean"]
    assert about["steps"] == (2 if first >= second else 4) and about["val_class_mean"] == pytest.approx(max(first, second))
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["init_args"]["draws"] == 1 and list((trained / "view_features").iterdir())


def test_losses_rates_accuracies_and_gates_are_logged(trained: Path) -> None:
    found = scalars(trained)
    test = f"test/{DATA.replace('/', '-')}-test"
    assert {"train/loss", "val/top1", "val/class_mean", f"{test}/top1", f"{test}/class_mean", "gate/depth", "gate/clip"} <= set(found)
    assert len(found["train/loss"]) == 4 and len(found["val/top1"]) == len(found[f"{test}/top1"]) == 2
    assert found["select/class_mean"] == found["val/class_mean"]
    assert [a + b for a, b in zip(found["gate/depth"], found["gate/clip"], strict=True)] == pytest.approx([1, 1])
    (rates,) = (values for tag, values in found.items() if tag.startswith("lr-"))
    assert rates == pytest.approx([1e-3 * (1 + torch.tensor(step * torch.pi / 4).cos().item()) / 2 for step in range(4)], rel=1e-4)


def test_its_file_and_its_checkpoints_are_loaded_and_evaluated(trained: Path, tiny_world: Path, tiny_clip: Path, disturbed_depth: Path,
                                                              tmp_path: Path) -> None:
    best, file = (clip2x.load(trained / name, device="cpu") for name in ("checkpoints/best.ckpt", NAME))
    assert torch.equal(best.embed(clouds()), file.embed(clouds())) and file.classify(clouds(), ["chair", "any word"]).sum() == pytest.approx(2)
    run_stage([*eval_arguments(tiny_world, tiny_clip, tmp_path, f"{DATA}/train:val"), "--data.num_points", "64", "--data.crops", "null",
               "--data.others", "false", "--model.images", "false", "--model.projections", "[]", "--model.point_radius", "[0.045]",
               "--model.checkpoint", str(disturbed_depth), "--model.adapted_checkpoint", str(trained / NAME)])
    answer = json.loads((tmp_path / "results.json").read_text())
    row = answer["results"][-1]
    assert row["method"] == "GDPA (supervised)" and row["gain"]["over"] == "CLIP2Point r=0.045" and row["protocol"]["encoder"] == row["method"]
    assert row["class_mean"] == pytest.approx(read_adapter_checkpoint(trained / NAME).about["val_class_mean"])
    sha256 = answer["provenance"]["adapted_checkpoint"]["sha256"]
    assert f"{row['method']}: no zero-shot method: trained with all labels of {DATA}/train:fit (adapter {sha256[:12]})." in row["protocol"]["notes"]


def test_nothing_is_trained_but_the_adapter_and_what_is_named(trained: Path, run: Runs, clip: ClipTowers, disturbed_depth: Path,
                                                             tmp_path: Path) -> None:
    """A part of the depth tower is named in the second run, which has a third path too."""
    points = write_points(tmp_path / "points.safetensors", clip)
    named = run("--model.draws", "0", "--model.train_only", "[trunk.stages.11, head]", "--model.point_checkpoint", str(points),
                "--data.train.shots", "1")
    before = load_file(disturbed_depth) | load_file(points)
    for folder in (trained, named):
        after = load_file(folder / NAME)
        changed = {name for name, value in before.items() if name in after and not torch.equal(after[name], value)}
        assert bool(changed) == (folder == named) and all(name.startswith(("depth.trunk.stages.11", "depth.head")) for name in changed)
        assert ClipTowers("clip2x-small", str(folder / NAME)).content_sha256 == clip.content_sha256
        assert all(value.abs().sum() > 0 for name, value in after.items() if name.startswith("adapter.") and ".project." in name)
    best, file = (clip2x.load(named / name, device="cpu") for name in ("checkpoints/best.ckpt", NAME))
    assert torch.equal(best.embed(clouds()), file.embed(clouds())) and {name for name in load_file(points) if name in after} >= {"points.head.weight"}
    about = read_adapter_checkpoint(named / NAME).about
    assert about["paths"] == ["depth", "clip", "points"] and about["trained_with"] == f"1 labelled clouds of every class of {DATA}/train:fit"
    assert {"gate/depth", "gate/clip", "gate/points"} <= set(scalars(named))


# What a step does ----------------------------------------------------------------------------------------------------------------------------

def test_it_starts_from_the_untrained_ensemble_and_kept_features_give_the_same(run: Runs, trained: Path, clip: ClipTowers, disturbed_depth: Path,
                                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Towers that run in every step; the first loss by hand: 2/3 of the depth encoder and 1/3 of CLIP, the factors 60 and 30 of its file."""
    seen: list[tuple[PointBatch, Tensor]] = []
    step = GDPATuning.training_step

    def watched(self: GDPATuning, batch: PointBatch, batch_idx: int) -> Tensor:
        seen.append((batch, step(self, batch, batch_idx)))
        return seen[-1][1]

    monkeypatch.setattr(GDPATuning, "training_step", watched)
    folder = run("--model.draws", "0")
    (batch, loss), towers = seen[0], towers_of(read_depth_checkpoint(disturbed_depth), clip)
    with torch.no_grad():
        depth, untouched = (functional.normalize(views, dim=-1).mean(dim=1) for views in towers(batch["points"]))
        names = class_embeddings(clip, read_adapter_checkpoint(trained / NAME).about["class_names"], ["image of a {}"])
        embeds = functional.normalize(2 * functional.normalize(depth, dim=-1) + functional.normalize(untouched, dim=-1), dim=-1)
        expected = functional.cross_entropy(clip.logit_scale * embeds @ names.T, batch["label"])
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-4)
    assert scalars(folder)["train/loss"] == pytest.approx(scalars(trained)["train/loss"], rel=1e-4), "dropout is the same too"
    assert not (folder / "view_features").exists()


def test_each_kept_draw_is_what_the_towers_see_in_its_epoch(run: Runs) -> None:
    """Rotated clouds, two steps an epoch: two draws are epochs 0 and 1, then the first one again."""
    extra = [*ROTATED, "--data.watch", "[]", "--model.scale", "5", "--model.label_smoothing", "0.1"]
    running, kept = (scalars(run(*extra, "--model.draws", str(draws), steps=6, name=str(draws)))["train/loss"] for draws in (0, 2))
    assert running[:4] == pytest.approx(kept[:4], rel=1e-4)
    assert running[4:] != pytest.approx(kept[4:], rel=1e-5)


def test_a_linear_head_is_trained_and_knows_its_classes_only(linear: Path, trained: Path, clip: ClipTowers, tmp_path: Path) -> None:
    stored, names = read_adapter_checkpoint(linear / NAME), read_adapter_checkpoint(trained / NAME).about["class_names"]
    assert stored.head is not None and stored.about["head"] == "linear" and read_adapter_checkpoint(trained / NAME).head is None
    start = class_embeddings(clip, names, ["image of a {}"])
    assert stored.head.norm(dim=1).tolist() == pytest.approx([1] * 15) and not torch.equal(stored.head, start)
    assert (stored.head * start).sum(dim=1).min() > 0.5, "it starts from the names"
    best, file = (clip2x.load(linear / name, device="cpu") for name in ("checkpoints/best.ckpt", NAME))
    expected = (clip.logit_scale * file.embed(clouds()) @ stored.head[3:5].T).softmax(dim=1)
    assert all(torch.allclose(kind.classify(clouds(), names[3:5]), expected, atol=1e-6) for kind in (best, file))
    with pytest.raises(InputError, match=r"has a trained head, which knows bag, bin, .* only, not 'any word'; give some of these"):
        file.classify(clouds(), ["chair", "any word"])
    with pytest.raises(CheckpointMismatchError, match="has a trained head, which knows its own classes only; evaluate an adapter"):
        ZeroShotClassification(clip, tmp_path, adapted_checkpoint=linear / NAME)


# Going on, and several processes -------------------------------------------------------------------------------------------------------------

def test_a_run_that_dies_ends_like_an_uninterrupted_one(run: Runs, linear: Path, clip: ClipTowers, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """Dies in step 3 of 4, after the checkpoint of step 2; goes on with the batches and the draw that were left, by the same command."""
    step = GDPATuning.training_step

    def dying(self: GDPATuning, batch: PointBatch, batch_idx: int) -> Tensor:
        if self.global_step == 3:
            raise RuntimeError("killed")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(GDPATuning, "training_step", dying)
    with pytest.raises(RuntimeError, match="killed"):
        run(*LINEAR)
    monkeypatch.undo()
    died = tmp_path / "run"
    assert not (died / NAME).exists() and torch.load(died / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    config = (died / "config.yaml").read_text()
    moved = ["--model.checkpoint", str(write_depth_encoder(tmp_path / "moved.safetensors", clip))]  # the same content under another name
    for changed, named in ((["--model.adapter.dropout", "0", "--data.batch_size", "5"], "batch size was 6, is 5"),
                           (["--data.train.augmentations", "[Jitter]"], "data.train was")):
        with pytest.raises(CheckpointMismatchError, match="made with other settings") as caught:
            run(*LINEAR, *changed)
        assert named in str(caught.value)
    assert (died / "config.yaml").read_text() == config
    run(*LINEAR, *moved)
    for name in (NAME, "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        first, second = (weights(folder / name) for folder in (linear, died))
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert read_adapter_checkpoint(died / NAME).about == read_adapter_checkpoint(linear / NAME).about


def test_a_checkpoint_of_another_stage_is_refused(run: Runs, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "global_step": 1, "pytorch-lightning_version": "2.6.6", "trained_on": "x"}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointMismatchError, match="the checkpoint is of another stage, not of adapt"):
        run("--ckpt_path", str(tmp_path / "other.ckpt"))


@pytest.mark.slow
def test_two_processes_learn_what_one_does(run: Runs, tmp_path: Path) -> None:
    """One runs the towers, two share what they keep. No dropout, whose draws are each process's own; no Adam, which divides noise by noise."""
    found = []
    for devices, strategy, draws in (("1", "auto", "0"), ("2", "ddp", "1")):
        given = run.arguments("--model.adapter.dropout", "0", "--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.1", "--model.draws",
                              draws, "--trainer.devices", devices, "--trainer.strategy", strategy, name=devices)
        subprocess.run([sys.executable, "-m", "stages", *given], cwd=REPO, check=True, capture_output=True, timeout=600)
        found.append((load_file(tmp_path / devices / NAME), scalars(tmp_path / devices)["val/class_mean"]))
    (one, own), (two, others) = found
    assert own == others and one.keys() == two.keys() and one["adapter.aggregators.0.project.weight"].abs().max() > 1e-4
    assert all(torch.allclose(value, two[name], atol=1e-6) for name, value in one.items())


# The full profile ----------------------------------------------------------------------------------------------------------------------------

def write_clip(folder: Path, model: str) -> Path:
    """A random CLIP that says nothing of itself; ViT-B/32 in OpenAI's layout."""
    path = folder / "clip.pt"
    if model == MODEL:
        register_small_clips(folder)
        large_clip(path)
        return path
    state = open_clip.create_model(model, load_weights=False).state_dict()
    state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    torch.save(state | {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}, path)
    return path


@pytest.mark.parametrize("model", [MODEL, pytest.param("ViT-B-32-quickgelu", marks=pytest.mark.slow)])
def test_the_full_profile_runs_with_a_clip_that_does_not_travel(model: str, tiny_world: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path, model)
    depth, folder = write_depth_encoder(tmp_path / "depth.safetensors", ClipTowers(model, str(path))), tmp_path / "run"
    given = arguments(tiny_world, path, depth, folder, "--model.clip.model", model, "--data.watch", "[]", steps=2)
    run_stage([word for position, word in enumerate(given) if position not in (3, 4)])
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 2 and not any(name.startswith("clip.") for name in state["state_dict"])
    for name in (NAME, "checkpoints/best.ckpt"):
        with pytest.raises(DataNotFoundError, match="it came from a file, which is not inside; give that file"):
            clip2x.load(folder / name, device="cpu")
    best, file = (clip2x.load(folder / name, device="cpu", clip=str(path)) for name in ("checkpoints/best.ckpt", NAME))
    assert torch.equal(best.embed(clouds(1)), file.embed(clouds(1)))
    resolved = yaml.safe_load((folder / "config.yaml").read_text())["model"]["init_args"]
    assert resolved["optimizer"]["init_args"] | {"lr": 1e-3, "weight_decay": 1e-4} == resolved["optimizer"]["init_args"]  # official code of DPA
    assert resolved["adapter"] == {"gate": "vector", "norm": "none", "dropout": 0.5, "view_weights": False, "residual": True, "unit_views": True}
    shipped: dict[str, Any] = yaml.safe_load((stage_folder() / "tune_gdpa.yaml").read_text())
    assert (shipped["data"]["batch_size"], shipped["trainer"]["max_epochs"], shipped["model"]["init_args"]["draws"]) == (32, 100, 1)


# What is refused -----------------------------------------------------------------------------------------------------------------------------

ONE = f"{{class_path: LabelledClouds, init_args: {{name: '{DATA}/train:fit', num_points: 64}}}}"
BAD = {
    "a class without clouds": (["--data.train.exclude", "[bag, chair]"], "data.train has no cloud of bag, chair: nothing can be learnt of it;"),
    "two data sets": (["--data.train", f"[{ONE}, {ONE}]"], "data.train must be LabelledClouds for this stage, got JoinedDatasets."),
    "no validation": (["--data.val", "null"], "data.val is not set, so nothing chooses the checkpoint"),
    "other classes": (["--data.val.name", "modelnet10/off/test"], "data.val must be LabelledClouds with the classes of data.train"),
    "choosing by test data": (["--data.val.name", f"{DATA}/test"], f"data.val is {DATA}/test, which must be a part of the training list"),
    "choosing by what is trained on": (["--data.train.name", f"{DATA}/train"], f"that data.train ({DATA}/train) leaves out"),
    "one draw of rotated clouds": (ROTATED, "model.draws 1 would keep one copy of every cloud for all epochs, but augmentation"),
    "one draw of a pool": (["--data.train.pool_points", "128"], "or pool_points draw it anew in each; take several draws, or 0."),
    "16-bit weights": (["--trainer.precision", "bf16-true"], "would hold the weights in 16 bits"),
    "an unknown gate": (["--model.adapter.gate", "soft"], "an adapter's gate is one of vector, scalar, mean"),
}


@pytest.mark.parametrize(("extra", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line(extra: list[str], message: str, run: Runs, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(*extra)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run" / NAME).exists()


def test_settings_and_files_that_do_not_fit_are_refused(clip: ClipTowers, tiny_clip: Path, disturbed_depth: Path, trained: Path,
                                                        tmp_path: Path) -> None:
    other = ClipTowers("clip2x-small", random_weights=True, seed=3)
    cases: list[tuple[ClipTowers, Path | None, dict[str, Any], type, str]] = [
        (clip, None, {}, InputError, r"model.checkpoint is not set; give depth_encoder.safetensors of pretrain-depth\."),
        (clip, tmp_path / "nowhere.safetensors", {}, DataNotFoundError, "nowhere.safetensors"),
        (clip, disturbed_depth, {"head": "mlp"}, InputError, "model.head is names or linear, .* got 'mlp', 0, None and 0"),
        (clip, disturbed_depth, {"scale": 0.0}, InputError, "model.scale positive"),
        (clip, disturbed_depth, {"draws": 1, "train_only": ["head"]}, InputError, "keeps what frozen towers say, and model.train_only tunes one"),
        (clip, disturbed_depth, {"train_only": ["no_such_layer"]}, InputError, "no_such_layer"),
        (clip, disturbed_depth, {"point_checkpoint": disturbed_depth}, CheckpointMismatchError, "was written by stage pretrain_depth"),
        (clip, tiny_clip, {}, CheckpointMismatchError, "was written by stage pretrain_clip"),
        (clip, trained / NAME, {}, CheckpointMismatchError, "was written by stage adapt"),
        (other, disturbed_depth, {}, CheckpointMismatchError, "has other weights; give that CLIP"),
    ]
    for towers, file, settings, kind, message in cases:
        with pytest.raises(kind, match=message):
            GDPATuning(towers, tmp_path / NAME, file, **settings)
    module = GDPATuning(clip, tmp_path / NAME, disturbed_depth, adapter=AdapterSettings(norm="batch"))
    for processes, size, message in ((2, 8, "norm batch is synchronised between processes on CUDA only; use one process, or norm layer or none"),
                                     (1, 1, r"norm batch needs two clouds in every process; raise data.batch_size \(1\)")):
        module._trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), world_size=processes,  # type: ignore[assignment]
                                          datamodule=SimpleNamespace(global_batch_size=size))
        with pytest.raises(InputError, match=message):
            module._check_batch_norm()
    for towers, file, message in ((other, trained / NAME, "has other weights; give that CLIP"),
                                  (clip, disturbed_depth, "was written by stage pretrain_depth, it has no adapter; give adapter.safetensors")):
        with pytest.raises(CheckpointMismatchError, match=message):
            ZeroShotClassification(towers, tmp_path, adapted_checkpoint=file)


def test_validating_alone_is_refused(run: Runs) -> None:
    with pytest.raises(InputError, match="this module only trains"):
        run_stage(["validate", *run.arguments()[1:]])
