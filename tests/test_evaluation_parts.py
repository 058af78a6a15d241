"""Pieces of an evaluation's rows: intervals by recording, parts by distance and points, objects of no class, groups of names, mined frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clip2x.data.base import PointCloudDataset
from clip2x.data.entries import Entry, EntryTable
from clip2x.data.readers import open_dataset
from clip2x.errors import BadFileError
from clip2x.evaluation.bootstrap import DRAWS, LEAST_SCENES, Resampling, interval
from clip2x.evaluation.breakdowns import breakdown, point_bins, range_bins
from clip2x.evaluation.metrics import classification_metrics, group_metrics, paired_gain
from clip2x.evaluation.none_of_these import area_under_curve, none_of_these, risk_coverage
from clip2x.evaluation.shared_objects import SharedObjects, joined
from clip2x.evaluation.transduction import mined_frames
from clip2x.manifest import load_manifest


def test_recordings_are_drawn_whole() -> None:
    """Six recordings of three samples of one kind each: every draw has counts in threes, and 18 in all."""
    scenes, kinds = [str(number // 3) for number in range(18)], np.arange(18) // 3
    drawn = Resampling(scenes, seed=1)
    counts = drawn.counts(kinds, 6)
    assert drawn.describe() == {"level": 0.95, "draws": DRAWS, "by": "scene", "num_scenes": 6}
    assert counts.shape == (DRAWS, 6) and (counts % 3 == 0).all() and (counts.sum(axis=1) == 18).all()
    assert abs(counts.mean(axis=0) - 3).max() < 0.3
    assert np.array_equal(counts, Resampling(scenes, seed=1).counts(kinds, 6))


def test_too_few_recordings_are_not_drawn() -> None:
    few = [str(number % (LEAST_SCENES - 1)) for number in range(40)]
    by_sample = Resampling(few)
    assert (by_sample.by, by_sample.num_scenes) == ("sample", LEAST_SCENES - 1)
    assert np.array_equal(by_sample.counts(np.arange(40) % 2, 2), Resampling().counts(np.arange(40) % 2, 2))
    assert Resampling().num_scenes is None


def test_intervals_by_recording_are_wide_where_recordings_differ() -> None:
    """Ten recordings, all right or all wrong: the accuracy is as uncertain as ten coin throws, not as 200."""
    right = torch.arange(200) // 20 % 2 == 0
    scenes = [str(number // 20) for number in range(200)]
    scores, labels = torch.eye(6)[(~right).long()], torch.zeros(200, dtype=torch.long)
    widths = []
    for resampling in (Resampling(), Resampling(scenes)):
        low, high = classification_metrics(scores, labels, tuple("abcdef"), resampling=resampling)["interval"]["top1"]
        widths.append(high - low)
    assert widths[0] == pytest.approx(2 * 1.96 * (0.25 / 200) ** 0.5, abs=0.02)
    assert widths[1] == pytest.approx(2 * 1.96 * (0.25 / 10) ** 0.5, abs=0.11)
    gain = paired_gain(right, ~right, resampling=Resampling(scenes))
    assert gain["top1"] == 0.0 and gain["interval"][0] < -0.4 and gain["interval"][1] > 0.4


def test_a_draw_of_recordings_equals_a_slow_twin() -> None:
    rng = np.random.default_rng(3)
    scenes, kinds = [str(value) for value in rng.integers(8, size=60)], rng.integers(4, size=60)
    names, place = np.unique(scenes, return_inverse=True)
    weights = np.random.default_rng(5).multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    slow = [[sum(weights[draw, place[sample]] for sample in range(60) if kinds[sample] == kind) for kind in range(4)] for draw in range(20)]
    assert Resampling(scenes, seed=5).counts(kinds, 4)[:20].tolist() == slow


def test_draws_without_a_class_do_not_count() -> None:
    assert interval(np.array([0.5, np.nan, 0.5])) == [0.5, 0.5]


def test_parts_by_hand() -> None:
    """Distances 1 2 15 15 60; classes 0 1 0 0 1; right 1 0 1 0 1."""
    right, labels = torch.tensor([True, False, True, False, True]), torch.tensor([0, 1, 0, 0, 1])
    found = breakdown(right, labels, torch.tensor([1.0, 2.0, 15.0, 15.0, 60.0]), range_bins("nuscenes"))
    assert found == [{"bin": "0-15 m", "num_samples": 2, "num_classes": 2, "top1": 0.5, "class_mean": 0.5},
                     {"bin": "15-30 m", "num_samples": 2, "num_classes": 1, "top1": 0.5, "class_mean": 0.5},
                     {"bin": "50+ m", "num_samples": 1, "num_classes": 1, "top1": 1.0, "class_mean": 1.0}]
    found = breakdown(right, labels, torch.tensor([5.0, 15.0, 16.0, 200.0, 9999.0]), point_bins())
    assert [(entry["bin"], entry["num_samples"]) for entry in found] == [("5-15", 2), ("16-50", 1), ("51-200", 1), ("5,001+", 1)]
    assert [name for name, *_ in range_bins("rgbd")] == ["0-2 m", "2-3 m", "3-5 m", "5+ m"]


@pytest.mark.parametrize("bins", [range_bins("nuscenes"), range_bins("rgbd"), point_bins()])
def test_bins_leave_nothing_out(bins: list[tuple[str, float, float]]) -> None:
    values = torch.rand(500, generator=torch.Generator().manual_seed(0)) * 100 + 1
    parts = breakdown(values > 50, torch.zeros(500, dtype=torch.long), values, bins)
    assert sum(part["num_samples"] for part in parts) == 500
    assert sum(part["top1"] * part["num_samples"] for part in parts) == pytest.approx(float((values > 50).sum()))


def test_area_under_the_curve_equals_the_share_of_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    confidence = (torch.randn(60, generator=generator) * 4).round() * 1000  # large values and ties
    positive = torch.rand(60, generator=generator) < 0.4
    pairs = [(1.0 if a > b else 0.5 if a == b else 0.0) for a in confidence[positive] for b in confidence[~positive]]
    assert area_under_curve(confidence, positive) == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)


def test_none_of_these_by_hand() -> None:
    """Two known objects, one named right; two others. Largest scores .9 .5 .4 .3; by the softmax the order is first, third, fourth, second."""
    scores = torch.tensor([[0.9, 0.1], [0.5, 0.45], [0.4, 0.1], [0.1, 0.3]])
    found = none_of_these(scores, torch.tensor([0, 1, -1, -1]), 10.0)
    assert found is not None and (found["num_known"], found["num_other"]) == (2, 2)
    assert found["auroc"] == {"score": pytest.approx(1.0), "softmax": pytest.approx(0.5)}
    assert found["risk_coverage"]["accuracy"] == {"0.5": 0.5, "0.8": pytest.approx(1 / 3), "1": 0.25}
    assert found["risk_coverage"]["area"] == pytest.approx((0 + 1 / 2 + 2 / 3 + 3 / 4) / 4)
    assert none_of_these(scores, torch.tensor([0, 1, 0, 1]), 1.0) is None and none_of_these(scores, torch.full((4,), -1), 1.0) is None


def test_the_softmax_keeps_its_order_at_large_scales() -> None:
    """Beyond float32's resolution of a probability near 1 the sure ones must not tie."""
    scores, labels = torch.tensor([[1.0, 0.0], [0.9, 0.0], [0.8, 0.0]]), torch.tensor([0, 0, -1])
    found = none_of_these(scores, labels, 30.0)
    assert found is not None and found["auroc"]["softmax"] == pytest.approx(1.0)


def test_perfect_and_useless_confidence() -> None:
    right = torch.tensor([True] * 5 + [False] * 5)
    assert risk_coverage(torch.arange(10, 0, -1.0), right)["accuracy"]["0.5"] == 1.0
    assert risk_coverage(torch.arange(10.0), right)["accuracy"]["0.5"] == 0.0
    assert risk_coverage(torch.arange(10.0), torch.ones(10, dtype=torch.bool))["area"] == 0.0


def test_groups_by_hand() -> None:
    """Labels a a b c; all names: a right once, b named c, c named a. Of b and c alone: b right, c wrong."""
    scores = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.2, 0.3], [0.1, 0.4, 0.35], [0.9, 0.3, 0.2]])
    scores[2] = torch.tensor([0.8, 0.4, 0.35])
    labels = torch.tensor([0, 0, 1, 2])
    assert group_metrics(scores, labels, ["a", "b", "c", "d"], ["b", "c", "d", "elsewhere"]) == {
        "names": ["b", "c"], "num_samples": 2, "class_mean": 0.0, "alone": {"class_mean": 0.5, "chance": 0.5}}
    assert group_metrics(scores, labels, ["a", "b", "c", "d"], ["a"]) == {
        "names": ["a"], "num_samples": 2, "class_mean": 0.5, "alone": {"class_mean": 1.0, "chance": 1.0}}
    assert group_metrics(scores, labels, ["a", "b", "c", "d"], ["d"]) is None


def test_the_thirteen_rare_categories_are_what_the_ten_leave() -> None:
    manifest = load_manifest("nuscenes")
    rare = set(manifest.variant("v1.0-trainval-23").groups["13 rare"])
    assert len(rare) == 13 and rare == set(manifest.variant("v1.0-mini-23").groups["13 rare"])
    ten = manifest.labels_of_categories("v1.0-trainval")
    kept = [category for name in manifest.classes("v1.0-trainval-23") if name not in rare
            for category in manifest.category_names.get(name, ())]
    assert sorted(ten[category] for category in set(kept) & set(ten)) == sorted(set(ten.values())), "one category for each of the ten classes"
    assert set(load_manifest("sunrgbd").variant("objects37").groups["the ten"]) == set(load_manifest("sunrgbd").class_names)


def test_a_group_of_unknown_classes_is_refused(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "data_manifests" / "streets.yaml").read_text()
    (tmp_path / "streets.yaml").write_text(text.replace('"never named": ["debris"', '"never named": ["rubble"'))
    with pytest.raises(BadFileError, match=r"variants.things.groups has 'rubble', which is none of its classes"):
        load_manifest(tmp_path / "streets.yaml")


class NamedObjects(PointCloudDataset):
    """A test set without files."""

    def __init__(self, name: str, keys: list[str], scenes: list[str] | None, folder: str = "data") -> None:
        manifest, self.variant_name, self.split = name.split("/")
        self.manifest, self.folder, self.official_split = load_manifest(manifest), Path(folder), self.split.partition(":")[0]
        self.variant = self.manifest.variant(self.variant_name)
        self.entries = EntryTable(Entry(key, 0, scene) for key, scene in zip(keys, scenes or [""] * len(keys), strict=True))

    def index(self, split: str) -> EntryTable:
        raise NotImplementedError

    def load(self, entry: Entry, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
        raise NotImplementedError


@pytest.mark.parametrize(("mined", "test", "scenes", "expected"), [
    ({"nuscenes/v1.0-mini/mini_train": None}, "nuscenes/v1.0-mini/mini_val", ["scene-0103", "scene-0916"], None),
    ({"nuscenes/v1.0-mini/mini_train": ["scene-0553"]}, "nuscenes/v1.0-mini/mini_train", ["scene-0061", "scene-0553"], "1 of 2 recordings"),
    ({"nuscenes/v1.0-mini/mini_train": ["scene-0553"]}, "nuscenes/v1.0-trainval/val", ["scene-0003", "scene-0553"], "1 of 2 recordings"),
    ({"nuscenes/v1.0-mini/mini_train": None}, "nuscenes/v1.0-trainval-23/val", ["scene-0553", "scene-0796", "scene-0003"], "2 of 3 recordings"),
    ({"nuscenes/v1.0-mini/mini_train:fit": ["scene-0061"]}, "nuscenes/v1.0-mini/mini_train:val", ["scene-0553"], None),
    ({"nuscenes/v1.0-mini/mini_val": ["scene-0103"]}, "streets/things/mini_val", ["scene-0103", "scene-0916"], "1 of 2 recordings"),
    ({"sunrgbd/objects10/train": None}, "sunrgbd/objects37/train", ["a", "b"], "its split was mined"),
    ({"sunrgbd/objects10/train": ["a"]}, "sunrgbd/objects37/test", ["a", "b"], None),  # a place may have frames in both splits
    ({"sunrgbd/objects10/train:fit": ["a"]}, "sunrgbd/objects10/train:val", ["b"], None),
    ({"sunrgbd/objects10/train:fit": ["a", "c"]}, "sunrgbd/objects10/train", ["a", "b"], "1 of 2 recordings"),
    ({"nuscenes/v1.0-mini/mini_train": ["scene-0061"]}, "modelnet10/off/test", None, None),
    ({"elsewhere/one/train": ["scene-0061"]}, "nuscenes/v1.0-mini/mini_train", ["scene-0061"], None),
    ({}, "nuscenes/v1.0-mini/mini_train", ["scene-0061"], None),
])
def test_mined_frames_are_found(mined: dict[str, Any], test: str, scenes: list[str] | None, expected: str | None) -> None:
    facts = {name: {"frames": 3, "scenes": own} for name, own in mined.items()}
    found = mined_frames(facts, NamedObjects(test, [str(number) for number in range(len(scenes or "ab"))], scenes))
    assert found is None if expected is None else found is not None and found.startswith(expected) and f"({next(iter(mined))})" in found


def test_shared_objects_are_found_again_under_another_name() -> None:
    ten, all_of_them = "nuscenes/v1.0-mini/mini_val", "nuscenes/v1.0-mini-23/mini_val"
    shared = SharedObjects([NamedObjects(ten, ["a", "b"], ["s", "s"]), NamedObjects(ten, ["b", "a"], ["s", "s"], "elsewhere"),
                            NamedObjects(all_of_them, ["b", "c", "a"], ["s"] * 3), NamedObjects("modelnet10/off/test", ["b"], None)])
    embeds = torch.randn(2, 2, 3)
    assert shared.known(0, torch.tensor([0, 1])) == [None, None]
    shared.keep(0, torch.tensor([0, 1]), embeds)
    assert shared.known(1, torch.tensor([0, 1])) == [None, None] and shared.known(3, torch.tensor([0])) == [None]
    known = shared.known(2, torch.tensor([2, 0, 1]))
    assert known[2] is None and torch.equal(cast(torch.Tensor, known[0]), embeds[:, 0]) and torch.equal(cast(torch.Tensor, known[1]), embeds[:, 1])
    new = torch.randn(2, 1, 3)
    assert torch.equal(joined(known, new), torch.cat([embeds, new], dim=1))
    assert torch.equal(joined([None], new), new) and torch.equal(joined(known[:2], None), embeds)


def test_objects_of_variants_are_the_same_draws(tiny_world: Path, tmp_path: Path) -> None:
    """What `SharedObjects` relies on: the same object in another variant has the same points."""
    ten, named = (open_dataset(f"{name}/mini_val", tiny_world, num_points=64, cache=tmp_path) for name in ("nuscenes/v1.0-mini", "streets/things"))
    place = {entry.key: index for index, entry in enumerate(named.entries)}
    for index, entry in enumerate(list(ten.entries)[:5]):
        assert torch.equal(ten[index]["points"], named[place[entry.key]]["points"])
