"""The stage pretrain_points: what it writes, what a step does, what it trains on, how it goes on after a kill. See test_triplet_switches.py too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import points_arguments
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.nn import functional
from triplet_runs import HELD_OUT, NAME, NAMES, SMALL, Runs, scalars, weights, write_named_store

import clip2x
from clip2x.data.triplets.embeddings import CropEncoder, TripletEmbeddings
from clip2x.data.triplets.store import TripletStore
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.point_checkpoint import read_point_checkpoint
from clip2x.errors import CheckpointMismatchError
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.evaluation.proxy_pictures import LINE_PX, SIZE_PX
from clip2x.losses import TripletLoss
from clip2x.modules.triplet_pretraining import TripletPretraining
from clip2x.proxies.vocabulary import load_vocabulary
from clip2x.stage_cli import run_stage
from clip2x.types import TripletBatch


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> ClipTowers:
    return ClipTowers("clip2x-small", str(tiny_clip))


@pytest.fixture(scope="module")
def trained(tiny_pairs: Path, tiny_clip: Path, named_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the mini profile for four steps on a store and on models that the small CLIP names; validate after two and four."""
    folder = tmp_path_factory.mktemp("pretrain_points")
    run_stage(points_arguments(tiny_pairs, tiny_clip, named_store, folder, steps=4))
    return folder


@pytest.fixture
def run(tiny_world: Path, tiny_clip: Path, named_store: Path, tmp_path: Path) -> Runs:
    return Runs(tiny_world, tiny_clip, named_store, tmp_path)


# What it writes ------------------------------------------------------------------------------------------------------------------------------

def test_the_checkpoint_says_what_it_is(trained: Path, clip: ClipTowers, named_store: Path) -> None:
    about = read_point_checkpoint(trained / NAME).about
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert about["stage"] == "pretrain_points" and about["clip"] == clip.id and about["embed_dim"] == clip.embed_dim
    size = config["model"]["init_args"]["encoder"]["init_args"]["size"]
    assert (about["encoder"]["kind"], about["encoder"]["size"]) == ("point_transformer", size)
    assert (about["encoder"]["num_points"], about["encoder"]["up"], about["encoder"]["channels"]) == (
        config["data"]["train"]["init_args"]["num_points"], "y", ["x", "y", "z"])
    assert about["scale"] > 0 and about["ensemble"] is None and about["mean_text"] is None and about["templates"] == ["point cloud of {}"]
    assert about["seed"] == 3 and about["steps"] in (2, 4) and 0 <= about["val_top1"] <= 1 and "names they were mined with" in about["selected_on"]
    assert set(NAMES) <= set(about["class_names"]) and about["unseen_names"] == []
    assert any("models are used" in note for note in about["notes"])
    frames = [frame for frame in TripletStore(named_store).frames() if frame.triplets]
    assert {frame.scene for frame in frames} > set(HELD_OUT), "those that choose the checkpoint are stated too"
    assert about["mined"] == {name: {"frames": sum(frame.data == name for frame in frames),
                                     "scenes": sorted({frame.scene for frame in frames if frame.data == name})}
                              for name in {frame.data for frame in frames}}


def test_losses_rates_scales_and_accuracies_are_logged(trained: Path) -> None:
    found = scalars(trained)
    watched = yaml.safe_load((trained / "config.yaml").read_text())["data"]["watch"]
    assert watched and {f"test/{name.replace('/', '-')}/{figure}" for name in watched for figure in ("top1", "class_mean")} <= set(found)
    assert {"train/loss", "train/text", "train/image", "train/scale_text", "train/scale_image", "val/top1", "val/class_mean"} <= set(found)
    assert any(tag.startswith("lr-") for tag in found) and len(found["train/loss"]) == 4 and len(found["val/top1"]) == 2
    assert found["select/class_mean"] == found["val/class_mean"]
    assert found["train/loss"] == pytest.approx([(text + image) / 2 for text, image in zip(found["train/text"], found["train/image"], strict=True)])


def test_tensorboard_shows_triplets(trained: Path, named_store: Path) -> None:
    """Text, crop and points of some triplets that are trained on, side by side."""
    events = EventAccumulator(str(next(trained.glob("events.out.tfevents.*"))))
    events.Reload()
    (picture,) = events.Images(f"triplets/{named_store.name}: text, crop, points")
    assert (picture.width, picture.height) == (8 * SIZE_PX, LINE_PX + 3 * SIZE_PX)


def test_the_best_step_is_kept_by_the_class_mean_of_validation(trained: Path) -> None:
    found = scalars(trained)
    first, second = found["val/class_mean"]
    about = read_point_checkpoint(trained / NAME).about
    assert about["steps"] == (2 if first >= second else 4)
    assert about["val_top1"] == pytest.approx(found["val/top1"][0 if first >= second else 1])


def test_its_file_and_its_checkpoints_are_loaded(trained: Path, clip: ClipTowers) -> None:
    points = torch.rand(2, 300, 3, generator=torch.Generator().manual_seed(0))
    best, file = (clip2x.load(trained / name, device="cpu") for name in ("checkpoints/best.ckpt", NAME))
    assert torch.equal(best.embed(points), file.embed(points)) and file.embed(points).shape == (2, clip.embed_dim)
    assert torch.equal(file.class_embeddings(["chair", "car"]), class_embeddings(clip, ["chair", "car"], ["point cloud of {}"]))
    assert file.classify(points, ["chair", "car"]).sum(dim=1).tolist() == pytest.approx([1, 1])
    assert ClipTowers("clip2x-small", str(trained / NAME)).content_sha256 == clip.content_sha256, "the frozen CLIP stayed as it was"


# What a step does ----------------------------------------------------------------------------------------------------------------------------

def test_a_step_contrasts_points_with_texts_and_pictures_of_their_triplets(run: Runs, clip: ClipTowers, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the loss: unit vectors; the texts in the stage's template; the kept embeddings of the very triplets of the batch."""
    seen: list[tuple[Any, ...]] = []
    step, forward = TripletPretraining.training_step, TripletLoss.forward

    def watched_step(self: TripletPretraining, batch: TripletBatch, batch_idx: int) -> Tensor:
        seen.append((batch, self.trainer.datamodule.train_set, functional.normalize(  # type: ignore[attr-defined]
            self.point_encoder(batch["points"]).float(), dim=-1).detach()))
        return step(self, batch, batch_idx)

    def watched_forward(self: TripletLoss, *values: Tensor) -> dict[str, Tensor]:
        seen[-1] += values
        return forward(self, *values)

    monkeypatch.setattr(TripletPretraining, "training_step", watched_step)
    monkeypatch.setattr(TripletLoss, "forward", watched_forward)
    run(steps=1)
    ((batch, data, embeds, points, texts, images, ids, whole, instances),) = seen
    assert whole is None and torch.equal(instances, batch["instance"]) and torch.equal(instances, batch["index"])
    assert torch.equal(points, embeds) and torch.equal(ids, batch["text_id"]) and len(ids) == 8
    names = [data.concepts[number][0] for number in ids.tolist()]
    assert set(names) <= set(NAMES)
    assert torch.allclose(texts, torch.stack([class_embeddings(clip, [name], ["point cloud of {}"])[0] for name in names]), atol=1e-5)
    part = data.parts[0]
    kept = TripletEmbeddings(part.store, CropEncoder.of(clip).clip_id)
    assert torch.equal(images, torch.stack([kept[int(part.positions[index])] for index in batch["index"].tolist()]))
    assert part.store.text_ids[part.positions[batch["index"]]].tolist() == ids.tolist()


def test_the_mean_of_all_texts_is_removed_in_training_and_in_use(run: Runs, clip: ClipTowers, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    forward = TripletLoss.forward
    monkeypatch.setattr(TripletLoss, "forward", lambda self, points, texts, *more: (seen.append(texts), forward(self, points, texts, *more))[1])
    folder = run("--model.centre_texts", "true", "--model.templates", '["point cloud of {}", "a scan of a {}"]', steps=1)
    vocabulary = load_vocabulary("mini")
    names = class_embeddings(clip, [vocabulary.name_of(number) for number in range(len(vocabulary))], ["point cloud of {}", "a scan of a {}"])
    mean = names.mean(dim=0)
    centred = functional.normalize(names - mean, dim=-1)
    assert ((seen[0] @ centred.T).max(dim=1).values > 1 - 1e-5).all()
    about = read_point_checkpoint(folder / NAME).about
    assert about["mean_text"] == pytest.approx(mean.tolist(), abs=1e-6) and about["templates"] == ["point cloud of {}", "a scan of a {}"]
    used = clip2x.load(folder / NAME, device="cpu").class_embeddings(["chair", "bed"])
    wanted = functional.normalize(class_embeddings(clip, ["chair", "bed"], about["templates"]) - mean, dim=-1)
    assert torch.allclose(used, wanted, atol=1e-5)


def test_temperatures_are_trained_and_rates_climb_then_fall(run: Runs) -> None:
    folder = run("--model.warmup_share", "0.5", "--model.optimizer.lr", "0.1", "--trainer.val_check_interval", "4", steps=4)
    found = scalars(folder)
    rates = [values for tag, values in found.items() if tag.startswith("lr-")]
    assert len(rates) == 2, "norms, biases and temperatures, which are not decayed, are a group of their own"
    assert all(values == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.05]) for values in rates)
    text, image = found["train/scale_text"], found["train/scale_image"]
    assert text[0] == image[0] == pytest.approx(1 / 0.07, rel=1e-5)
    assert abs(text[1] / text[0] - 1) > 0.01 and text[3] != image[3], "one for each term"
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["state_dict"]["loss.log_scale"].shape == (2,)
    assert [group["weight_decay"] for group in last["optimizer_states"][0]["param_groups"]] == [0.05, 0.0]


# Sources -------------------------------------------------------------------------------------------------------------------------------------

def test_what_was_collected_on_the_miniworld_is_trained_on_beside_models(tiny_pairs: Path, tiny_clip: Path, tiny_store: Path, tmp_path: Path) -> None:
    """Streets train, rooms choose, since the tiny world has no recording that is held out; models are named by their class."""
    models = "{class_path: ObjectTriplets, init_args: {split: 'train:%s', vocabulary: null, num_points: 64, image_size: 64}}"
    run_stage([*points_arguments(tiny_pairs, tiny_clip, tiny_store, tmp_path, steps=1), *SMALL, "--data.train.objects", models % "fit",
               "--data.val.objects", models % "val", "--data.train.part", "null", "--data.val.part", "null", "--data.train.data", "[nuscenes]",
               "--data.val.data", "[sunrgbd]"])
    about = read_point_checkpoint(tmp_path / NAME).about
    assert list(about["mined"]) == ["nuscenes/v1.0-mini/mini_train", "sunrgbd/objects10/train"]
    assert all(facts["frames"] > 0 for facts in about["mined"].values())
    assert {"airplane", "chair", "sofa"} <= set(about["class_names"])


def test_text_only_reads_no_pictures_and_image_only_takes_one_name(run: Runs, tmp_path: Path) -> None:
    bare = write_named_store(tmp_path / "bare", None)
    text = scalars(run("--model.loss.image_weight", "0", "--data.train.stores", f"[{bare}]", "--data.val.stores", f"[{bare}]", name="text"))
    image = scalars(run("--model.loss.text_weight", "0", "--data.train.exclude", "[car, traffic cone, night stand]", name="image"))
    assert text["train/image"] == [0, 0] == image["train/text"] and min(text["train/text"] + image["train/image"]) > 0
    assert text["train/loss"] == pytest.approx([term / 2 for term in text["train/text"]])


# Going on ------------------------------------------------------------------------------------------------------------------------------------

def test_a_run_that_dies_ends_like_an_uninterrupted_one(tiny_pairs: Path, tiny_clip: Path, named_store: Path, disturbed_depth: Path, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """Dies in step 3 of 4, after the checkpoint of step 2; goes on with the batches that were left, by the same command.

    With all that has a memory: models that CLIP names, a sum with a depth encoder, a moving average, the mean of the texts.
    """
    extra = [*SMALL, "--data.train.objects.num_points", "64", "--data.val.objects.num_points", "64", "--model.ensemble_with", str(disturbed_depth),
             "--model.image_feature_cache", str(tmp_path / "features"), "--model.templates", '["a {}", "the {}"]', "--model.centre_texts", "true",
             "--trainer.callbacks+=ExponentialMovingAverage"]
    straight, arguments = ([*points_arguments(tiny_pairs, tiny_clip, named_store, tmp_path / name, steps=4), *extra] for name in ("straight", "died"))
    run_stage(straight)
    step = TripletPretraining.training_step

    def dying(self: TripletPretraining, batch: TripletBatch, batch_idx: int) -> Tensor:
        if self.global_step == 3:
            raise RuntimeError("killed")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TripletPretraining, "training_step", dying)
    with pytest.raises(RuntimeError, match="killed"):
        run_stage(arguments)
    monkeypatch.undo()
    assert not (tmp_path / "died" / NAME).exists()
    assert torch.load(tmp_path / "died" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    config = (tmp_path / "died" / "config.yaml").read_text()
    for other in (["--data.batch_size", "4"], ["--model.templates", '["one {}"]']):
        with pytest.raises(CheckpointMismatchError, match="made with other settings"):
            run_stage([*arguments, *other])
    assert (tmp_path / "died" / "config.yaml").read_text() == config
    run_stage(arguments)
    for name in (NAME, "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        first, second = (weights(tmp_path / folder / name) for folder in ("straight", "died"))
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert read_point_checkpoint(tmp_path / "died" / NAME).about == read_point_checkpoint(tmp_path / "straight" / NAME).about
