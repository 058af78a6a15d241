"""The stage adapt on the smallest mini-world: what each draw of shots gives, what is kept and used again, what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from conftest import eval_arguments
from PIL import Image
from safetensors.torch import load_file
from small_clips import MODEL, large_clip, register_small_clips
from triplet_runs import scalars, write_depth_encoder

import clip2x
import clip2x.modules.adapter_sweep as adapter_sweep
from clip2x.data.readers import open_dataset
from clip2x.data.shots import ShotSource, _apart
from clip2x.encoders.adapter_checkpoint import read_adapter_checkpoint
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.point_checkpoint import save_point_checkpoint
from clip2x.encoders.points import PointTransformer
from clip2x.errors import CheckpointMismatchError, DataNotFoundError, InputError
from clip2x.evaluation.mistakes import read_pictures
from clip2x.evaluation.results_page import detailed_rows
from clip2x.evaluation.training_curves import kept_curves
from clip2x.manifest import Split, load_manifest
from clip2x.modules.adapter_fitting import AdapterTraining
from clip2x.modules.adapter_sweep import ADAPTERS, CLIP2_PROBE, CLIP2_ZERO, GDPA, LEARNT_GATES, SUM, THIRD, AdapterSweep
from clip2x.stage_cli import run_stage

TEST, TRAIN = "scanobjectnn/obj_only/test", "scanobjectnn/obj_only/train"  # 15 classes; of each 1 object to test, 2 to draw from
ROW = {"dataset", "variant", "split", "method", "num_samples", "num_classes", "top1", "top5", "class_mean", "per_class", "confusion", "chance",
       "majority", "interval", "prompts", "seed", "protocol", "gain", "step", "apart", "groups", "by_range", "by_points", "none_of_these", "shots",
       "mistakes"}
POINTS: dict[str, Any] = {
    "stage": "pretrain_points", "scale": 20.0, "ensemble": None, "templates": ["point cloud of {}"], "mean_text": None, "notes": [],
    "selected_on": "held-out triplets", "encoder": {"num_points": 64, "up": "y", "channels": ["x", "y", "z"]}, "unseen_names": [], "mined": {}}
EVALUATION = ["--data.num_points", "64", "--data.crops", "null", "--data.others", "false", "--model.views", "clip2point-6", "--model.point_radius",
              "[0.045]", "--model.projections", "[]", "--model.images", "false"]


def arguments(world: Path, clip: Path, checkpoint: Path | None, folder: Path, *more: str) -> list[str]:
    """Build the command line of stage adapt, mini profile: two epochs, one on the whole split."""
    return ["test", "--config", "adapt", "--config", "mini/adapt", "--data.root", str(world), "--data.test", f"[{TEST}]", "--data.num_points", "64",
            "--data.cache", str(folder / "cache"), "--model.cache", str(folder / "cache"), "--model.clip.pretrained", str(clip),
            *([] if checkpoint is None else ["--model.checkpoint", str(checkpoint)]), "--model.output", str(folder), "--model.shots", "[1, 2, all]",
            "--model.seeds", "[0, 1]", "--model.training.epochs", "2", "--model.full_epochs", "1", "--trainer.logger.save_dir", str(folder),
            "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", *more]


def few(*more: str) -> list[str]:
    """Options for two small draws of GDPA alone."""
    return ["--model.shots", "[1]", "--model.methods", "[GDPA]", *more]


def results(folder: Path) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return stored


def write_points(path: Path, clip: ClipTowers, **changes: Any) -> Path:
    torch.manual_seed(0)
    encoder = PointTransformer(clip.embed_dim, width=32, depth=1, heads=2, num_groups=8, group_size=8)
    save_point_checkpoint(path, encoder, clip, {**POINTS, **changes})
    return path


@pytest.fixture(scope="module")
def points(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small point encoder with random weights."""
    return write_points(tmp_path_factory.mktemp("points") / "point_encoder.safetensors", ClipTowers("clip2x-small", str(tiny_clip)))


@pytest.fixture(scope="module")
def done(tiny_world: Path, tiny_clip: Path, disturbed_depth: Path, points: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All methods, a point encoder as the third path."""
    folder = tmp_path_factory.mktemp("adapt")
    run_stage(arguments(tiny_world, tiny_clip, disturbed_depth, folder, "--model.point_checkpoint", str(points)))
    return folder


# What it writes ------------------------------------------------------------------------------------------------------------------------------

def test_every_method_has_a_row_for_each_draw(done: Path, disturbed_depth: Path) -> None:
    answer = results(done)
    rows = answer["results"]
    fitted = ["linear probe", "Tip-Adapter cache", CLIP2_PROBE, *ADAPTERS]
    assert [(row["method"], row["shots"], row["seed"]) for row in rows] == [
        *((name, 0, 0) for name in ("zero-shot", SUM, CLIP2_ZERO)),
        *((name, shots, seed) for shots in (1, 2, "all") for seed in (0, 1) for name in fitted)]
    for row in rows:
        assert set(row) == (ROW | {"gate"} if row["method"] in LEARNT_GATES else ROW)
        assert row["num_samples"] == row["num_classes"] == 15 == sum(map(sum, row["confusion"]))
        assert row["prompts"] == (["point cloud of {}"] if row["method"] == CLIP2_ZERO else ["image of a {}"])
        assert (row["gain"] is None) == (row["method"] == "zero-shot") and (row["gain"] or {"over": "zero-shot"})["over"] == "zero-shot"
        said, views = row["protocol"], (None, None) if row["method"] == CLIP2_ZERO else ("clip2point-6", 0.045)
        assert said["shots_from"] == TRAIN and (said["views"], said["point_radius"]) == views and said["profile"] == "mini"
        assert said["shots_from_mined_frames"] is None and (said["fit"] is None) == (row["shots"] == 0)
        assert said["selected_on"] == ("nothing: the last epoch" if row["method"] in ADAPTERS else None)
        assert (said["point_checkpoint_sha256"] is not None) == (row["method"] in (CLIP2_ZERO, CLIP2_PROBE, THIRD))
    assert {(item["over"], item["shots"]) for item in answer["differences"]} == {
        (name, shots) for name in {row["method"] for row in rows} - {GDPA} for shots in (1, 2, "all")}
    assert answer["provenance"]["depth_checkpoint"]["about"]["stage"] == "pretrain_depth"
    assert answer["provenance"]["point_checkpoint"]["about"]["scale"] == 20.0


def test_a_row_says_how_its_adapter_was_made(done: Path, tiny_clip: Path) -> None:
    fits = {(row["method"], row["shots"]): row["protocol"]["fit"] for row in results(done)["results"] if row["shots"] and row["seed"] == 1}
    width, views = ClipTowers("clip2x-small", str(tiny_clip)).embed_dim, 6
    aggregator = (views * width + 1) * width + (width + 1) * width
    point_aggregator = 2 * (width + 1) * width
    gates = {GDPA: (2 * width + 1) * width, "GDPA, fixed gate": 0, "GDPA, scalar gate": 2 * width + 1, "GDPA, no residual": (2 * width + 1) * width}
    for name, gate in gates.items():
        assert fits[name, 1]["num_weights"] == 2 * aggregator + gate and fits[name, 1]["paths"] == ["depth", "clip"]
    for name, path in (("GDPA, depth path", "depth"), ("GDPA, CLIP path", "clip")):
        assert fits[name, 1]["num_weights"] == aggregator and fits[name, 1]["paths"] == [path]
    assert fits[THIRD, 1]["paths"] == ["depth", "clip", "points"]
    assert fits[THIRD, 1]["num_weights"] == 2 * aggregator + point_aggregator + (3 * width + 1) * 2 * width
    released = 2 * (aggregator + views + 4 * width)  # a factor for each view, two batch normalisations
    assert fits["DPA (released)", 1]["num_weights"] == released and fits["DPA (released)", 1]["adapter"]["norm"] == "batch"
    assert (fits["DPA (released)", 2]["scale"], fits["DPA (released)", 2]["cosine"], fits[GDPA, 2]["cosine"]) == (1.0, False, True)
    assert fits["PointCLIP adapter", 1]["optimizer"] == "sgd" and fits["PointCLIP adapter", 1]["adapter"] == "PointCLIP's inter-view adapter"
    assert {fits[name, shots]["epochs"] for name in ADAPTERS for shots in (1, 2)} == {2} == {2 * fits[name, "all"]["epochs"] for name in ADAPTERS}
    assert all(fits[name, 1]["selected_on"] == "nothing: the last epoch" for name in ADAPTERS)
    assert fits["Tip-Adapter cache", 1]["chosen_by"] == "fixed: a class has one shot only"


def test_gates_are_shares_by_class(done: Path) -> None:
    rows = [row for row in results(done)["results"] if "gate" in row]
    for row in rows:
        paths = {"depth", "clip", "points"} if row["method"] == THIRD else {"depth", "clip"}
        assert len(row["gate"]["per_class"]) == 15
        for shares in (row["gate"]["mean"], *row["gate"]["per_class"].values()):
            assert set(shares) == paths and sum(shares.values()) == pytest.approx(1, abs=1e-5)
    first = next(row for row in rows if row["method"] == "GDPA, scalar gate")
    assert first["gate"]["mean"]["depth"] == pytest.approx(2 / 3, abs=0.1), "it starts from the factors of the depth encoder's sum, 60 and 30"
    found = scalars(done)
    gdpa = [row for row in rows if row["method"] == GDPA and row["seed"] == 0 and row["shots"] != "all"]
    (logged,) = (values for tag, values in found.items() if "/gate/scanobjectnn" in tag and tag.endswith("/GDPA/seed0/depth"))
    assert logged == pytest.approx([row["gate"]["mean"]["depth"] for row in gdpa])


def test_pictures_curves_and_the_adapter_are_written(done: Path, tiny_clip: Path, disturbed_depth: Path) -> None:
    for name in ("accuracy_over_shots.png", "gates.png"):
        with Image.open(done / name) as picture:
            assert picture.format == "PNG" and picture.width > 300
    summary = {(item["method"], item["shots"]): item for item in results(done)["summary"]}
    assert summary[GDPA, "all"]["seeds"] == [0, 1] and summary[GDPA, "all"]["class_mean"]["spread"] is not None
    assert scalars(done)["adapted/scanobjectnn-obj_only-test/GDPA/all/top1"] == pytest.approx([summary[GDPA, "all"]["top1"]["mean"]])
    about = read_adapter_checkpoint(done / "adapter.safetensors").about
    assert about["trained_with"] == f"all labels of {TRAIN}" and about["seed"] == 0 and about["paths"] == ["depth", "clip"]
    assert about["trained_on"] == {"data": TRAIN, "shots": "all", "seed": 0}
    assert about["depth_checkpoint_sha256"] == results(done)["provenance"]["depth_checkpoint"]["sha256"] and len(about["class_names"]) == 15
    kept, depth = load_file(done / "adapter.safetensors"), load_file(disturbed_depth)
    assert all(torch.equal(kept[name], value) for name, value in depth.items()), "the towers stayed as they were"
    embeds = clip2x.load(done / "adapter.safetensors", device="cpu").embed(torch.rand(2, 100, 3, generator=torch.Generator().manual_seed(0)))
    assert embeds.norm(dim=1).tolist() == pytest.approx([1, 1])


def test_the_page_shows_mistakes_and_how_the_adapters_were_trained(done: Path) -> None:
    """Rows without shots, and those of the most shots and the first seed: each with pictures, adapters with the loss of every epoch."""
    rows, page = results(done)["results"], (done / "report.html").read_text()
    shown = detailed_rows(rows)
    assert {(row["shots"], row["seed"]) for row in shown} == {(0, 0), ("all", 0)} and len(shown) == 3 + 3 + len(ADAPTERS)
    assert all(set(read_pictures(done, row)) == {mistake["index"] for mistake in row["mistakes"]} for row in shown)
    assert page.count('class="mistake"') == sum(len(row["mistakes"]) for row in shown) > 0 and "no picture" not in page
    assert page.count("<details open>") == 1 and "How the adapters were trained" in page and "http" not in re.sub(r"base64,[^\"]*", "", page)
    fit = next(row["protocol"]["fit"] for row in shown if row["method"] == GDPA)
    assert len(fit["loss"]) == fit["epochs"] and all(loss > 0 for loss in fit["loss"])
    assert scalars(done)["adapted/loss/scanobjectnn-obj_only-test/GDPA"] == pytest.approx(fit["loss"])
    assert [run["title"] for run in kept_curves(done / "results.json")] == ["CLIP", "CLIP2Point", "CLIP2"]


def test_evaluation_repeats_what_needs_no_shots_and_the_adapter(done: Path, tiny_world: Path, tiny_clip: Path, disturbed_depth: Path, points: Path,
                                                                tmp_path: Path) -> None:
    run_stage([*eval_arguments(tiny_world, tiny_clip, tmp_path, TEST), *EVALUATION, "--model.checkpoint", str(disturbed_depth),
               "--model.point_checkpoint", str(points), "--model.adapted_checkpoint", str(done / "adapter.safetensors")])
    others = {row["method"]: row for row in results(tmp_path)["results"]}
    own = {row["method"]: row for row in results(done)["results"] if row["shots"] in (0, "all") and row["seed"] == 0}
    for name, other in (("zero-shot", "CLIP2Point r=0.045"), (SUM, "CLIP2Point + CLIP r=0.045"), (CLIP2_ZERO, "CLIP2"), (GDPA, "GDPA (supervised)")):
        assert {key: own[name][key] for key in ("top1", "top5", "confusion", "interval")} == {
            key: others[other][key] for key in ("top1", "top5", "confusion", "interval")}, name
    note = f"GDPA (supervised): no zero-shot method: trained with all labels of {TRAIN} (adapter "
    assert any(text.startswith(note) for text in others["GDPA (supervised)"]["protocol"]["notes"])


# Draws ---------------------------------------------------------------------------------------------------------------------------------------

def test_an_interrupted_sweep_goes_on_and_ends_like_a_straight_one(tiny_world: Path, tiny_clip: Path, disturbed_depth: Path, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A depth encoder alone; dies in the second of two draws."""
    straight, died = (arguments(tiny_world, tiny_clip, disturbed_depth, tmp_path / name, *few()) for name in ("straight", "died"))
    run_stage(straight)
    printed = capsys.readouterr().out
    assert "GDPA minus the others, class mean in points, draw by draw" in printed and re.search(r"GDPA\s+minus", printed)
    assert "adapted recognition, class mean in %" in printed and "not comparable with papers" in printed
    original, calls = adapter_sweep.fit_adapter, list[int]()

    def dying(*args: Any, **options: Any) -> Any:
        calls.append(options["seed"])
        if options["seed"] == 1:
            raise RuntimeError("killed")
        return original(*args, **options)

    monkeypatch.setattr(adapter_sweep, "fit_adapter", dying)
    with pytest.raises(RuntimeError, match="killed"):
        run_stage(died)
    assert not (tmp_path / "died" / "results.json").exists() and len(list((tmp_path / "died" / "finished").iterdir())) == 1
    monkeypatch.setattr(adapter_sweep, "fit_adapter", lambda *args, **options: (calls.append(options["seed"]), original(*args, **options))[1])
    calls.clear()
    run_stage(died)
    assert calls == [0, 1], "the adapter that is kept is trained again, and the draw that was not finished"
    rows = results(tmp_path / "straight")["results"]
    assert results(tmp_path / "died")["results"] == rows
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("zero-shot", 0), (SUM, 0), *((name, seed) for seed in (0, 1) for name in ("linear probe", "Tip-Adapter cache", GDPA))]
    first, second = (load_file(tmp_path / name / "adapter.safetensors") for name in ("straight", "died"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    about = read_adapter_checkpoint(tmp_path / "died" / "adapter.safetensors").about
    assert about["trained_with"] == f"1 labelled clouds of every class of {TRAIN}"
    for more, expected in (([], [0]), (["--model.adapter.gate", "scalar"], [0, 0, 1])):
        calls.clear()
        run_stage([*died, *more])
        assert calls == expected, "finished draws are used again where no setting is another"


def test_the_full_profile_runs_with_a_clip_that_does_not_travel(tiny_world: Path, tmp_path: Path) -> None:
    """A CLIP of the large kind in the place of ViT-B/32."""
    register_small_clips(tmp_path)
    depth = write_depth_encoder(tmp_path / "depth.safetensors", large_clip(tmp_path / "clip.pt"))
    given = arguments(tiny_world, tmp_path / "clip.pt", depth, tmp_path / "run", "--model.clip.model", MODEL, "--data.num_workers", "0",
                      "--model.shots", "[1]", "--model.seeds", "[0]")
    run_stage([word for position, word in enumerate(given) if position not in (3, 4)])
    rows = results(tmp_path / "run")["results"]
    assert [row["method"] for row in rows] == ["zero-shot", SUM, "linear probe", "Tip-Adapter cache", *(name for name in ADAPTERS if name != THIRD)]
    assert rows[0]["protocol"]["profile"] == "full" and (fit := rows[4]["protocol"]["fit"])["epochs"] == 2
    assert fit["adapter"] == {"gate": "vector", "norm": "none", "dropout": 0.5, "view_weights": False, "residual": True, "unit_views": True}
    assert (fit["batch_size"], fit["learning_rate"], fit["weight_decay"], fit["optimizer"]) == (32, 1e-3, 1e-4, "adamw")  # official code of DPA
    with pytest.raises(DataNotFoundError, match="it came from a file, which is not inside; give that file"):
        clip2x.load(tmp_path / "run" / "adapter.safetensors", device="cpu")
    recogniser = clip2x.load(tmp_path / "run" / "adapter.safetensors", device="cpu", clip=str(tmp_path / "clip.pt"))
    assert recogniser.classify(torch.rand(1, 50, 3), ["chair", "any word"]).sum() == pytest.approx(1)


# Shots beside a test set ---------------------------------------------------------------------------------------------------------------------

def test_ranges_of_one_split_are_apart_only_if_they_share_nothing() -> None:
    def part(start: int, stop: int | None) -> Split:
        return Split(of="train", seed=0, start=start, stop=stop)

    for first, second, apart in ((part(0, 10), part(10, None), True), (part(0, 10), part(20, 30), True), (part(0, 11), part(10, 30), False),
                                 (part(0, None), part(10, 20), False), (part(0, 10), part(0, 10), False)):
        assert _apart(first, second) is _apart(second, first) is apart


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variant of ModelNet10 whose training split has the ranges dev and report, with clouds of four points."""
    root = tmp_path_factory.mktemp("arrays")
    folder = root / load_manifest("modelnet10").variant("hdf5_1024").folder
    folder.mkdir()
    (folder / "shape_names.txt").write_text("".join(f"{name}\n" for name in load_manifest("modelnet10").class_folders))
    (folder / "train_files.txt").write_text("ply_data_train0.h5\n")
    with h5py.File(folder / "ply_data_train0.h5", "w") as file:
        file["data"] = np.random.default_rng(0).normal(size=(3991, 4, 3)).astype(np.float32)
        file["label"] = (np.arange(3991, dtype=np.uint8) % 10)[:, None]
    return root


def test_shots_may_come_from_another_range_of_the_same_split(arrays: Path) -> None:
    def source(test: str, split: str) -> ShotSource:
        return ShotSource(open_dataset(f"modelnet10/hdf5_1024/{test}", arrays, num_points=4), split, [1, "all"])

    for test, split in (("dev", "report"), ("report", "dev"), ("dev:val", "report:fit"), ("train:val", "train:fit")):
        found = source(test, split)
        tested = {entry.key for entry in open_dataset(f"modelnet10/hdf5_1024/{test}", arrays, num_points=4).entries}
        drawn = {found.data.entries[place].key for place in found.positions("all", 0)}
        assert drawn and not tested & drawn and set(found.positions(1, 0)) <= set(found.positions("all", 0))
    for test, split in (("dev", "train"), ("train", "report"), ("dev", "dev"), ("dev:val", "train:val"), ("dev:val", "train:fit"),
                        ("train:val", "dev:fit"), ("train", "train")):
        with pytest.raises(InputError, match="would be objects of the test set modelnet10/hdf5_1024/"):
            source(test, split)


def test_rows_with_the_point_encoder_say_what_it_was_trained_on(tiny_clip: Path, disturbed_depth: Path, tmp_path: Path) -> None:
    clip, mined = ClipTowers("clip2x-small", str(tiny_clip)), {TEST: {"frames": 3, "scenes": None}}
    module = AdapterSweep(clip, tmp_path, disturbed_depth, write_points(tmp_path / "mined.safetensors", clip, mined=mined))
    for name in (CLIP2_ZERO, CLIP2_PROBE, THIRD):
        assert module._method(name).mined == mined
    assert not module._method(GDPA).mined


# What is refused -----------------------------------------------------------------------------------------------------------------------------

def test_what_cannot_be_run_is_one_line(tiny_world: Path, tiny_clip: Path, disturbed_depth: Path, tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    for folder in (tiny_world / "ModelNet10").iterdir():
        (partial / "ModelNet10" / folder.name).mkdir(parents=True)
        for split in {"train", "test"} - ({"train"} if folder.name == "desk" else set()):
            (partial / "ModelNet10" / folder.name / split).symlink_to(folder / split)
    lacking = ["--data.root", str(partial), "--data.test", "[modelnet10/off/test]"]
    cases: list[tuple[Sequence[str], str]] = [
        (["--model.adapter.gate", "softmax"], "an adapter's gate is one of vector, scalar, mean"),
        (["--model.shots", "[4]"], f"{TRAIN}: class 'bag' has 2 objects, too few for 4 shots; lower model.shots"),
        (["--model.train_split", "test"], f"shots from 'test' would be objects of the test set {TEST}"),
        ([*lacking, "--model.shots", "[all]"], "modelnet10/off/train: class 'desk' has no objects"),
        ([*lacking, "--model.shots", "[1]"], "class 'desk' has 0 objects, too few for 1 shots"),
    ]
    for more, message in cases:
        with pytest.raises(InputError) as caught:
            run_stage(arguments(tiny_world, tiny_clip, disturbed_depth, tmp_path / "out", *more))
        assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "results.json").exists()


def test_settings_and_files_that_do_not_fit_are_refused(tiny_clip: Path, disturbed_depth: Path, points: Path, tmp_path: Path) -> None:
    clip, random = ClipTowers("clip2x-small", str(tiny_clip)), ClipTowers("clip2x-small", random_weights=True, seed=3)
    cases: list[tuple[Path | None, dict[str, Any], type, str]] = [
        (None, {}, InputError, r"model.checkpoint is not set; give depth_encoder.safetensors of pretrain-depth \(make adapt CHECKPOINT=FILE\)\."),
        (tmp_path / "nowhere.safetensors", {}, DataNotFoundError, "nowhere.safetensors"),
        (points, {}, CheckpointMismatchError, "was written by stage pretrain_points"),
        (disturbed_depth, {"point_checkpoint": disturbed_depth}, CheckpointMismatchError, "was written by stage pretrain_depth"),
        (disturbed_depth, {"point_checkpoint": write_points(tmp_path / "random.safetensors", random)}, CheckpointMismatchError,
         "has other weights; give that CLIP"),
        (disturbed_depth, {"methods": ["GDPA", "DPA"]}, InputError, "model.methods has 'DPA'; it takes 'GDPA', 'GDPA, fixed gate', "),
        (disturbed_depth, {"methods": [GDPA, THIRD]}, InputError, "has 'GDPA .* which needs model.point_checkpoint"),
        (disturbed_depth, {"seeds": [1, 1]}, InputError, r"model.seeds must be different numbers of at least 0, got \[1, 1\]\."),
    ]
    for file, settings, kind, message in cases:
        with pytest.raises(kind, match=message):
            AdapterSweep(clip, tmp_path, file, **settings)
    with pytest.raises(InputError, match="training an adapter needs epochs of at least 1"):
        AdapterTraining(epochs=0)


def test_one_process_and_the_subcommand_test_only(tiny_clip: Path, disturbed_depth: Path, tmp_path: Path) -> None:
    module = AdapterSweep(ClipTowers("clip2x-small", str(tiny_clip)), tmp_path, disturbed_depth)
    module._trainer = SimpleNamespace(world_size=2)  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"adapted recognition runs in one process, got 2; set --trainer.devices 1\."):
        module.setup("test")
    with pytest.raises(InputError, match="run the subcommand test, not fit"):
        module.setup("fit")
