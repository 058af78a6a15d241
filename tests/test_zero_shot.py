"""The ladder of zero-shot methods: which encoders it runs, how their cosines are summed, what it refuses, what is printed."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth import DepthViewEncoder, pool_view_features
from clip2x.encoders.depth_checkpoint import DepthCheckpoint, read_depth_checkpoint, save_depth_checkpoint
from clip2x.errors import CheckpointMismatchError, DataNotFoundError, InputError
from clip2x.evaluation.ladder import Ladder
from clip2x.evaluation.methods import sum_of_cosines
from clip2x.evaluation.metrics import apart_metrics, classification_metrics, paired_gain
from clip2x.evaluation.report import LINE_WIDTH, print_results
from clip2x.geometry import unit_sphere
from clip2x.modules.zero_shot import ZeroShotClassification
from clip2x.projections import PointClipV2Views, PointClipViews

ABOUT = {
    "stage": "pretrain_depth", "scale": 100.0, "ensemble": {"tuned": 60.0, "clip": 30.0}, "class_names": ["chair"], "unseen_names": ["Night_Stand"],
    "encoder": {"kind": "depth_views", "views": "clip2point-10", "point_radius": 0.03, "num_points": 1024, "up": "y", "pooling": "cosine_sum"},
    "seed": 0, "commit": None, "precision": "32-true", "steps": 2, "val_top1": 0.5, "selected_on": "the part carved from the training list",
    "notes": ["half of the models were at hand"],
}
LADDER = ["CLIP depth views r=0.02", "CLIP depth views r=0.03", "PointCLIP projection", "PointCLIP V2 projection", "CLIP2Point r=0.03",
          "CLIP2Point + CLIP r=0.03"]


@pytest.fixture(scope="module")
def clip() -> ClipTowers:
    return ClipTowers("clip2x-small", random_weights=True, seed=1)


@pytest.fixture(scope="module")
def points() -> torch.Tensor:
    return unit_sphere(torch.randn(3, 200, 3, generator=torch.Generator().manual_seed(0)))


def depth_checkpoint(folder: Path, clip: ClipTowers, **changes: Any) -> Path:
    """Write a depth encoder whose weights differ from CLIP's."""
    tower = copy.deepcopy(clip.image_tower)
    generator = torch.Generator().manual_seed(7)
    for weight in tower.parameters():
        weight.data += 0.1 * weight.data.std(unbiased=False) * torch.randn(weight.shape, generator=generator)
    save_depth_checkpoint(folder / "depth_encoder.safetensors", tower, clip, {**ABOUT, **changes})
    return folder / "depth_encoder.safetensors"


@pytest.fixture(scope="module")
def checkpoint(clip: ClipTowers, tmp_path_factory: pytest.TempPathFactory) -> DepthCheckpoint:
    return read_depth_checkpoint(depth_checkpoint(tmp_path_factory.mktemp("depth"), clip))


def full_ladder(clip: ClipTowers, checkpoint: DepthCheckpoint | None, **changes: Any) -> Ladder:
    return Ladder(clip, **{"views": "clip2point-10", "point_radius": [0.02], "projections": ["pointclip", "pointclip-v2"],
                           "checkpoint": checkpoint, **changes}).eval()


def test_sums_of_cosines_by_hand() -> None:
    cosines = torch.tensor([[[0.2, 0.4], [0.5, 0.1], [float("nan"), 0.0]]])
    assert torch.allclose(sum_of_cosines(cosines, {0: 2.0, 1: 3.0}), torch.tensor([[1.9, 1.1]]))
    assert torch.equal(sum_of_cosines(cosines, {1: 1.0}), cosines[:, 1])
    assert torch.equal(sum_of_cosines(cosines, {1: 1.0, 0: 0.0}), cosines[:, 1]), "factors 1 and 0 are the first encoder alone, to the last bit"


def test_the_ladder_has_every_step_in_order_and_adds_the_radius_of_the_checkpoint(clip: ClipTowers, checkpoint: DepthCheckpoint) -> None:
    ladder = full_ladder(clip, checkpoint)
    assert [method.name for method in ladder.methods] == LADDER
    assert [method.gain_over for method in ladder.methods] == [None] * 4 + [LADDER[1]] * 2
    assert [method.step_over for method in ladder.methods] == [None] * 5 + [LADDER[4]]
    assert len(ladder.encoders) == 5
    assert [method.name for method in full_ladder(clip, checkpoint, ensemble=False, point_radius=[0.03], projections=[]).methods] == [
        LADDER[1], LADDER[4]]
    assert [method.name for method in full_ladder(clip, None).methods] == [LADDER[0], *LADDER[2:4]]


def test_each_method_says_how_it_is_made(clip: ClipTowers, checkpoint: DepthCheckpoint) -> None:
    plain, _, pointclip, _, tuned, summed = (method.protocol for method in full_ladder(clip, checkpoint).methods)
    assert (plain["encoder"], plain["views"], plain["num_views"], plain["point_radius"], plain["normalise_colours"]) == (
        "CLIP", "clip2point-10", 10, 0.02, True)
    assert (pointclip["projection"], pointclip["views"], pointclip["num_views"], pointclip["point_radius"], pointclip["normalise_colours"]) == (
        "pointclip", None, 6, None, False)
    assert tuned["depth_checkpoint_sha256"] == checkpoint.sha256 and tuned["selected_on"] == ABOUT["selected_on"] and tuned["factors"] is None
    assert summed["factors"] == {"CLIP2Point": 60.0, "CLIP": 30.0} and summed["factors_from"] == "the checkpoint: fitted in its validation"
    assert summed["notes"] == [f"CLIP2Point's checkpoint {checkpoint.sha256[:12]}: selected on: the part carved from the training list.",
                               f"CLIP2Point's checkpoint {checkpoint.sha256[:12]}: half of the models were at hand"] and not plain["notes"]
    assert plain.keys() == pointclip.keys() == summed.keys()


def test_embeddings_and_scores_equal_a_slow_twin(clip: ClipTowers, checkpoint: DepthCheckpoint, points: torch.Tensor) -> None:
    """The twin builds an encoder for every part of every method and sums over views and encoders one by one."""
    ladder, names = full_ladder(clip, checkpoint), torch.nn.functional.normalize(torch.randn(4, clip.embed_dim), dim=-1)
    with torch.no_grad():
        embeds, pictures = ladder(points, "cosine_sum")
        cosines = (embeds @ names.T).transpose(0, 1)
        tower = copy.deepcopy(clip.image_tower)
        tower.visual.load_state_dict(checkpoint.tower_state)
        tuned, same_views = DepthViewEncoder(tower, point_radius=0.03), DepthViewEncoder(clip, point_radius=0.03)
        twins = [[(1.0, DepthViewEncoder(clip, point_radius=0.02))], [(1.0, same_views)], [(1.0, DepthViewEncoder(clip, draw=PointClipViews(64)))],
                 [(1.0, DepthViewEncoder(clip, draw=PointClipV2Views(64)))], [(1.0, tuned)], [(60.0, tuned), (30.0, same_views)]]
        for method, twin in zip(ladder.methods, twins, strict=True):
            expected = torch.zeros(3, 4)
            for factor, encoder in twin:
                for cloud in range(3):
                    pooled = pool_view_features(encoder(points[cloud:cloud + 1]))[0]
                    expected[cloud] += factor * torch.stack([(pooled * name).sum() for name in names])
            assert torch.allclose(sum_of_cosines(cosines, method.factors), expected, atol=1e-4 * sum(factor for factor, _ in twin)), method.name
    assert embeds.dtype == torch.float32
    assert {title: grey.shape[1] for title, grey in pictures.items()} == {"r=0.02": 10, "r=0.03": 10, "pointclip": 6, "pointclip-v2": 10}


def test_each_encoder_and_each_renderer_runs_once(clip: ClipTowers, checkpoint: DepthCheckpoint, points: torch.Tensor) -> None:
    ladder, drawn, seen = full_ladder(clip, checkpoint), [], {"CLIP": 0, "CLIP2Point": 0}
    for draw in {id(encoder.draw): encoder.draw for encoder in ladder.encoders}.values():
        draw.register_forward_hook(lambda module, *_: drawn.append(module))
    tuned = next(encoder.tower for encoder in ladder.encoders if encoder.tower is not clip)
    hooks = [tower.visual.register_forward_hook(lambda _, pictures, __, name=name: seen.update({name: seen[name] + len(pictures[0])}))
             for name, tower in (("CLIP", clip.image_tower), ("CLIP2Point", tuned))]
    with torch.no_grad():
        ladder(points, "cosine_sum")
    for hook in hooks:
        hook.remove()
    assert len(drawn) == 4, "one drawing for each radius and projection; CLIP2Point looks at those of CLIP"
    assert seen == {"CLIP": 3 * (10 + 10 + 6 + 10), "CLIP2Point": 3 * 10}


def test_a_checkpoint_whose_figures_may_be_selected_on_a_test_list_says_so(clip: ClipTowers, tmp_path: Path) -> None:
    official = read_depth_checkpoint(depth_checkpoint(tmp_path, clip, selected_on="ShapeNet's test list (the official code's rule)", val_top1=None))
    protocol = full_ladder(clip, official, views="clip2point-6").methods[-1].protocol
    assert protocol["views"] == "clip2point-6" and protocol["factors_from"] == "the checkpoint: not fitted"
    chosen, _, views = protocol["notes"]
    assert chosen.endswith(": selected on: ShapeNet's test list (the official code's rule). Figures on the set that chose it are not held out.")
    assert views.endswith(": trained on clip2point-10, evaluated on clip2point-6.")


@pytest.mark.parametrize(("arguments", "message"), [
    ({"projections": ["pointclip3"]}, "unknown projection 'pointclip3'; model.projections takes pointclip, pointclip-v2."),
    ({"projections": ["pointclip", "pointclip"]}, "model.projections has a value twice, got [pointclip, pointclip]; remove one."),
    ({"point_radius": [0.02, "density", 0.02]}, "model.point_radius has a value twice, got [0.02, density, 0.02]; remove one."),
    ({"point_radius": []}, "model.point_radius is an empty list; give at least one radius, e.g. [0.02]."),
    ({"views": "clip2point-7"}, "unknown view preset 'clip2point-7'"),
    ({"point_radius": [-1.0]}, "-1"),
])
def test_bad_arguments_are_one_line(clip: ClipTowers, tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        ZeroShotClassification(clip, tmp_path, **arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_checkpoint_of_another_clip_or_none_is_refused(clip: ClipTowers, tmp_path: Path) -> None:
    path = depth_checkpoint(tmp_path, clip)
    with pytest.raises(CheckpointMismatchError, match="has other weights; give that CLIP"):
        ZeroShotClassification(ClipTowers("clip2x-small", random_weights=True, seed=2), tmp_path, checkpoint=path)
    with pytest.raises(DataNotFoundError, match="nowhere.safetensors"):
        ZeroShotClassification(clip, tmp_path, checkpoint=tmp_path / "nowhere.safetensors")


def module_with_sets(clip: ClipTowers, folder: Path, *class_names: tuple[str, ...], **arguments: Any) -> ZeroShotClassification:
    module = ZeroShotClassification(clip, folder, **arguments)
    module.trainer = SimpleNamespace(datamodule=SimpleNamespace(missing_sets={},  # type: ignore[assignment]
        test_sets=[SimpleNamespace(class_names=names, manifest=SimpleNamespace(name="some")) for names in class_names]))
    return module


def test_a_name_apart_that_no_test_set_has_is_refused(clip: ClipTowers, tmp_path: Path) -> None:
    sets = (("bed", "night stand"), ("sofa",))
    module_with_sets(clip, tmp_path, *sets, apart=["Night_Stand", "sofa"]).setup("test")
    with pytest.raises(InputError, match="model.apart names 'nightstand', which no test set has; near it are night stand."):
        module_with_sets(clip, tmp_path, *sets, apart=["nightstand"]).setup("test")
    with pytest.raises(InputError, match="model.apart names 'xyz', which no test set has; give class names of the test sets."):
        module_with_sets(clip, tmp_path, *sets, apart=["xyz"]).setup("test")


def test_names_apart_are_those_of_the_checkpoint_unless_others_are_given(clip: ClipTowers, tmp_path: Path) -> None:
    path = depth_checkpoint(tmp_path, clip)
    module_with_sets(clip, tmp_path, ("bed",), checkpoint=path).setup("test")  # it has none of them: that is no mistake
    own, beside = (f"kept out of the training of {what}" for what in ("its checkpoints", "a method beside it"))
    found = ZeroShotClassification(clip, tmp_path, checkpoint=path)._apart_names()
    assert {names == ["Night_Stand"] for names, _ in found.values()} == {True}
    assert {(method.startswith("CLIP2Point"), title) for method, (_, title) in found.items()} == {(True, own), (False, beside)}
    asked = ZeroShotClassification(clip, tmp_path, checkpoint=path, apart=["bed"])._apart_names()
    assert all(value == (["bed"], "asked for") for value in asked.values())
    assert all(not names for names, _ in ZeroShotClassification(clip, tmp_path)._apart_names().values())


def a_row(method: str, right: torch.Tensor, over: dict[str, torch.Tensor], apart: list[str]) -> dict[str, Any]:
    """A row as the module makes it, of a set with a long name."""
    names = tuple(f"name {number}" for number in range(10))
    labels = torch.arange(len(right)) % 10
    metrics = classification_metrics(torch.eye(10)[torch.where(right, labels, (labels + 1) % 10)], labels, names)
    gains = [{"over": name, "num_samples": len(right), **paired_gain(right, before)} for name, before in over.items()] + [None, None]
    return {"dataset": "nuscenes", "variant": "v1.0-mini", "split": "mini_val", "method": method, **metrics, "gain": gains[0], "step": gains[1],
            "apart": apart_metrics(metrics, apart),
            "protocol": {"data": "mini-world", "apart_from": "asked for", "notes": ["a note"]}}


def test_tables_fit_a_line_name_the_profile_and_say_which_step_shows_no_effect(capsys: pytest.CaptureFixture[str]) -> None:
    clip_right, tuned_right = (torch.arange(200) % 4 < few for few in (1, 3))
    sum_right = tuned_right.roll(1)  # gains a quarter, loses another
    rows = [a_row("CLIP depth views r=0.045", clip_right, {}, ["Name_3"]),
            a_row("CLIP2Point r=0.045", tuned_right, {"CLIP depth views r=0.045": clip_right}, ["Name_3"]),
            a_row("CLIP2Point + CLIP r=0.045", sum_right, {"CLIP depth views r=0.045": clip_right, "CLIP2Point r=0.045": tuned_right}, ["Name_3"])]
    print_results(rows, profile="mini", note="last line")
    lines = capsys.readouterr().out.splitlines()
    tables = [line.rstrip() for line in lines if " nuscenes/v1.0-mini/mini_val  " in line]
    assert all(line.startswith(" mini ") and len(line) <= LINE_WIDTH for line in tables)
    assert len(tables) == 3 + 3 + 3, "no line of a table is folded"
    assert sum(line.endswith("  gain") for line in tables) == 2
    assert sum(line.endswith("no effect shown") for line in tables) == 1
    assert "mini: nuscenes/v1.0-mini/mini_val: apart are name 3 (asked for): " + ", ".join(row["method"] for row in rows) in lines
    assert lines[-2:] == ["note: a note", "last line"]
