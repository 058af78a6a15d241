"""The rules that every detector's boxes go through: by hand, against a slow twin and torchvision, and whatever the order of the boxes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.ops import batched_nms, nms
from torchvision.ops import box_iou as torchvision_iou

from clip2x.errors import InputError
from clip2x.geometry import box_iou
from clip2x.proxies.suppression import RULES, Found, Suppression, suppress

LOOSE = Suppression(min_side_px=0.0, max_share=1.0, max_boxes=10_000)


def chosen(boxes: Any, ids: Any, scores: Any, rules: Suppression = LOOSE, **options: Any) -> Found:
    return suppress(np.array(boxes, dtype=float).reshape(-1, 4), np.array(ids, dtype=int), np.array(scores, dtype=float),
                    **{"width_px": 100, "height_px": 80, "settings": rules, **options})


def random_boxes(seed: int, number: int, classes: int = 4) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(0, 40, (number, 2)), rng.uniform(5, 40, (number, 2))
    return np.concatenate([corner, corner + side], axis=1), rng.integers(0, classes, number), rng.permutation(number) / number


def test_iou_by_hand() -> None:
    first = np.array([[0.0, 0, 10, 10], [0, 0, 0, 0]])
    second = np.array([[5.0, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 0, 0]])
    np.testing.assert_allclose(box_iou(first, second), [[1 / 3, 1, 0, 0], [0, 0, 0, 0]])


def test_iou_agrees_with_torchvision() -> None:
    first, second = random_boxes(0, 20)[0], random_boxes(1, 30)[0]
    np.testing.assert_allclose(box_iou(first, second), torchvision_iou(torch.tensor(first), torch.tensor(second)).numpy(), atol=1e-12)


@pytest.mark.parametrize(("box", "score", "rule"), [
    ([np.nan, 0, 10, 10], 0.5, "box is not a number"), ([0, 0, np.inf, 10], 0.5, "box is not a number"),
    ([0, 0, 10, 10], np.nan, "box is not a number"),
    ([10, 10, 10, 20], 0.5, "box without area"), ([10, 20, 20, 10], 0.5, "box without area"),
    ([100, 0, 120, 20], 0.5, "box outside the picture"), ([0, -20, 10, 0], 0.5, "box outside the picture"),
    ([0, 0, 9, 30], 0.5, "box too small"), ([-20, 0, 9, 30], 0.5, "box too small"), ([95, 0, 130, 30], 0.5, "box too small"),
    ([0, 0, 100, 75], 0.5, "box fills the picture"), ([-50, -50, 500, 500], 0.5, "box fills the picture"),
    ([0, 0, 20, 20], 0.1, "score too low"),
])
def test_every_rule_for_one_box(box: list[float], score: float, rule: str) -> None:
    found = chosen([box], [0], [score], Suppression(min_score=0.2))
    assert found.rules == Counter({"boxes": 1, rule: 1}) and len(found.detections) == 0 and rule in RULES


def test_boxes_are_cut_at_the_border() -> None:
    found = chosen([[-5, 60, 30, 95]], [3], [0.5])
    assert found.detections.box_px.tolist() == [[0, 60, 30, 80]] and found.detections.box_px.dtype == np.float32
    assert found.detections.concept_id.tolist() == [3] and found.rules == Counter({"boxes": 1})


def test_limits_are_part_of_what_is_allowed() -> None:
    assert len(chosen([[0, 0, 10, 10]], [0], [0.2], Suppression(min_score=0.2)).detections) == 1
    assert len(chosen([[0, 0, 100, 72]], [0], [0.2], Suppression(max_share=0.9)).detections) == 1
    assert len(chosen([[0, 0, 10, 10], [0, 0, 10, 5]], [0, 0], [0.9, 0.8], LOOSE).detections) == 2  # IoU 0.5, the limit is 0.5


def test_doubles_by_name_and_by_place() -> None:
    boxes = [[0, 0, 40, 40], [0, 0, 40, 30], [0, 0, 40, 36], [50, 0, 90, 40]]
    found = chosen(boxes, [1, 1, 2, 2], [0.6, 0.9, 0.7, 0.1])
    # 0 falls to 1 (same name, IoU 0.75); 2 is of another name and overlaps 1 by 0.83
    assert found.rules == Counter({"boxes": 4, "double of the same name": 1, "double of any name": 1})
    assert found.detections.score.tolist() == pytest.approx([0.9, 0.1])


def test_boxes_without_a_name_are_no_doubles_by_name() -> None:
    boxes, scores = [[0, 0, 40, 40], [0, 0, 40, 28], [0, 0, 40, 38]], [0.9, 0.8, 0.7]
    assert chosen(boxes, [-1, -1, -1], scores).rules == Counter({"boxes": 3, "double of any name": 1})
    assert chosen(boxes, [0, 0, 0], scores).rules == Counter({"boxes": 3, "double of the same name": 2})


def test_no_more_than_max_boxes_and_none_at_all() -> None:
    boxes = [[10 * place, 0, 10 * place + 10, 10] for place in range(9)]
    found = chosen(boxes, range(9), np.arange(9) / 10, Suppression(max_boxes=3))
    assert found.detections.concept_id.tolist() == [8, 7, 6] and found.rules["too many boxes"] == 6
    empty = chosen([], [], [])
    assert len(empty.detections) == 0 and empty.detections.box_px.shape == (0, 4) and not empty.rules


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_torchvision(seed: int) -> None:
    boxes, ids, scores = random_boxes(seed, 120)
    by_name = chosen(boxes, ids, scores, Suppression(min_side_px=0.0, max_share=1.0, any_name_iou=1.0, max_boxes=1000))
    first = batched_nms(torch.tensor(boxes), torch.tensor(scores), torch.tensor(ids), 0.5)
    np.testing.assert_allclose(by_name.detections.box_px, boxes[first.numpy()], atol=1e-4)
    second = first[nms(torch.tensor(boxes)[first], torch.tensor(scores)[first], 0.8)]
    np.testing.assert_allclose(chosen(boxes, ids, scores).detections.box_px, boxes[second.numpy()], atol=1e-4)


@given(seed=st.integers(0, 10_000), number=st.integers(0, 25))
@settings(max_examples=40, deadline=None)
def test_slow_twin_order_and_bookkeeping(seed: int, number: int) -> None:
    boxes, ids, scores = random_boxes(seed, number, classes=2)
    scores = np.round(scores, 1)  # many ties
    found = chosen(boxes, ids, scores)
    order = sorted(range(number), key=lambda i: (-scores[i], *boxes[i], ids[i]))
    for limit, same in ((0.5, True), (0.8, False)):
        kept: list[int] = []
        for i in order:
            if not any((ids[i] == ids[j] or not same) and box_iou(boxes[[i]], boxes[[j]])[0, 0] > limit for j in kept):
                kept.append(i)
        order = kept
    np.testing.assert_allclose(found.detections.box_px, boxes[order].astype(np.float32))
    shuffled = np.random.default_rng(seed).permutation(number)
    again = chosen(boxes[shuffled], ids[shuffled], scores[shuffled])
    np.testing.assert_array_equal(found.detections.box_px, again.detections.box_px)
    np.testing.assert_array_equal(found.detections.concept_id, again.detections.concept_id)
    assert found.rules == again.rules
    assert found.rules["boxes"] == number == len(found.detections) + sum(count for rule, count in found.rules.items() if rule in RULES)


@pytest.mark.parametrize(("options", "message"), [
    ({"min_score": 1.5}, "suppression.min_score must be from 0 to 1, got 1.5"), ({"max_share": -0.1}, "suppression.max_share must be from 0 to 1"),
    ({"min_side_px": float("nan")}, "suppression.min_side_px must be at least 0, got nan"),
    ({"max_boxes": 0}, "suppression.max_boxes must be at least 1, got 0"),
])
def test_settings_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Suppression(**options)
