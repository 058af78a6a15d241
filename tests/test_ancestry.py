"""What a checkpoint states of the training whose weights it started from, and of frames that several of them were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from triplet_runs import NAME, NAMES, Runs, tuning, write_named_store

import clip2x
from clip2x.encoders.checkpoint_parts import joined_mined
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth_checkpoint import read_depth_checkpoint, save_depth_checkpoint
from clip2x.encoders.point_checkpoint import read_point_checkpoint
from clip2x.errors import InputError
from clip2x.modules.ancestry import Parent
from clip2x.stage_cli import run_stage

STREETS, ROOMS = "nuscenes/v1.0-mini/mini_train", "sunrgbd/objects10/train"


@pytest.fixture
def run(tiny_world: Path, tiny_clip: Path, named_store: Path, tmp_path: Path) -> Runs:
    return Runs(tiny_world, tiny_clip, named_store, tmp_path)


def test_mined_frames_are_joined_by_hand() -> None:
    one = {STREETS: {"frames": 3, "scenes": ["a", "b"]}, ROOMS: {"frames": 2, "scenes": ["x"]}}
    other = {STREETS: {"frames": 4, "scenes": ["b", "c"]}, "more": {"frames": 1, "scenes": None}}
    both = joined_mined(one, None, other)
    assert both == {"more": {"frames": 1, "scenes": None}, STREETS: {"frames": 7, "scenes": ["a", "b", "c"]}, ROOMS: {"frames": 2, "scenes": ["x"]}}
    assert joined_mined(both, {STREETS: {"frames": 1, "scenes": None}}, one)[STREETS] == {"frames": 11, "scenes": None}, "one does not list them"
    assert joined_mined() == joined_mined(None, {}) == {} and one[STREETS] == {"frames": 3, "scenes": ["a", "b"]}


def parent(**about: Any) -> Parent:
    return Parent("model.init", "old.safetensors", "5a" * 32, {"stage": "pretrain_points", "templates": ["a {}"], "mean_text": None, **about})


def test_what_both_trainings_had_is_stated() -> None:
    old = parent(class_names=["bed", "car"], unseen_names=["sofa", "night_stand", "lamp"], mined={ROOMS: {"frames": 2, "scenes": None}},
                 parents=[{"argument": "model.init", "stage": "pretrain_points", "sha256": "01"}])
    said = {"class_names": ["chair", "car"], "unseen_names": ["toilet", "lamp"], "mined": {STREETS: {"frames": 1, "scenes": ["a"]}}, "seed": 3}
    new = old.inherited(said, ["chair", "seat", "car", "couch", "Night Stand"])
    assert new["class_names"] == ["chair", "car", "bed"] and new["seed"] == 3
    assert new["unseen_names"] == ["toilet", "lamp", "sofa"], "a night stand is in the new data"
    assert list(new["mined"]) == [STREETS, ROOMS]
    assert [item["sha256"][:2] for item in new["parents"]] == ["5a", "01"]
    bare = Parent("model.tuned", "old.pth", "77", {"stage": "pretrain_depth"}).inherited(said, [])
    assert {**bare, "parents": None} == {**said, "parents": None}


def test_names_that_a_parent_had_are_not_unseen() -> None:
    old = parent(class_names=["night stand", "car"])
    old.require_unseen(["lamp"])
    with pytest.raises(InputError, match="model.unseen_names has Night_Stand, which model.init old.safetensors was trained with; start from"):
        old.require_unseen(["lamp", "Night_Stand"])


def test_other_targets_are_said() -> None:
    assert parent().changed_targets(["a {}"], centred=False) == []
    assert parent(mean_text=[0.1]).changed_targets(["the {}"], centred=False) == [
        "the initial weights were trained otherwise: prompts: ['a {}'], now ['the {}']",
        "the initial weights were trained otherwise: mean removed from the names: True, now False"]


def test_a_point_encoder_states_what_its_initial_weights_saw(run: Runs, tiny_clip: Path, tmp_path: Path) -> None:
    """The first one knows chairs and cars of one store, the second one beds and sofas of another."""
    other = write_named_store(tmp_path / "other", ClipTowers("clip2x-small", str(tiny_clip)), range(48), ["bed", "sofa"])
    first = run("--model.unseen_names", "[bed, lamp]", name="first", steps=1) / NAME
    second = run("--data.train.stores", f"[{other}]", "--data.val.stores", f"[{other}]", "--model.init", str(first), "--model.templates", '["a {}"]',
                 name="second", steps=1) / NAME
    before, after = (read_point_checkpoint(path) for path in (first, second))
    assert before.about["unseen_names"] == ["bed", "lamp"] and before.about["parents"] == []
    assert set(after.about["class_names"]) == {*NAMES, "bed", "sofa"} and after.about["unseen_names"] == ["lamp"]
    assert after.about["parents"] == [{"argument": "model.init", "stage": "pretrain_points", "sha256": before.sha256}]
    assert all(after.about["mined"][name]["frames"] > facts["frames"] for name, facts in before.about["mined"].items())
    assert any("trained otherwise: prompts" in note for note in after.about["notes"])
    with pytest.raises(InputError, match="model.unseen_names has chair, which model.init .* was trained with"):
        run("--model.init", str(first), "--model.unseen_names", "[chair]", "--data.train.exclude", "[chair]", "--data.val.exclude", "[chair]")


def test_a_tuned_depth_encoder_states_what_it_started_from(run: Runs, tiny_clip: Path, disturbed_depth: Path, tmp_path: Path) -> None:
    clip, start = ClipTowers("clip2x-small", str(tiny_clip)), tmp_path / "start.safetensors"
    about = {**read_depth_checkpoint(disturbed_depth).about, "mined": {"nuscenes/v1.0-trainval/val": {"frames": 9, "scenes": ["scene-0003"]}},
             "class_names": ["chair", "airplane"], "unseen_names": ["car", "piano"]}
    save_depth_checkpoint(start, clip.trainable_image_tower(), clip, about)
    run_stage(tuning(run, start, steps=1))
    after = read_depth_checkpoint(run.folder / "run" / "depth_encoder.safetensors").about
    assert after["mined"]["nuscenes/v1.0-trainval/val"] == {"frames": 9, "scenes": ["scene-0003"]} and len(after["mined"]) > 1
    assert set(after["class_names"]) == {*NAMES, "airplane"} and after["unseen_names"] == ["piano"]
    assert after["parents"] == [{"argument": "model.tuned", "stage": "pretrain_depth", "sha256": read_depth_checkpoint(start).sha256}]
    with pytest.raises(InputError, match="model.unseen_names has airplane, which model.tuned .* was trained with"):
        run_stage(tuning(run, start, "--model.unseen_names", "[airplane]", name="other"))


def test_lightning_files_of_tuning_load_too(run: Runs, disturbed_depth: Path) -> None:
    """Under their own names there: point_encoder.encoder.tower.visual."""
    run_stage(tuning(run, disturbed_depth, steps=1))
    points, folder = torch.rand(2, 50, 3), run.folder / "run"
    best, file = (clip2x.load(folder / name, device="cpu").embed(points) for name in ("checkpoints/best.ckpt", "depth_encoder.safetensors"))
    assert torch.equal(best, file)
