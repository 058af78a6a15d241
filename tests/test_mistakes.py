"""The hardest mistakes: which are chosen, how their pictures are drawn, kept and read."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clip2x.data.base import PointCloudDataset
from clip2x.data.entries import Entry
from clip2x.errors import BadFileError
from clip2x.evaluation.mistakes import MOST, clouds_of, hardest_mistakes, picture_sheet, read_pictures, write_pictures
from clip2x.evaluation.proxy_pictures import LINE_PX, PANEL, SIZE_PX, cloud_picture
from clip2x.types import PointSample

NAMES = ("bed", "chair", "desk")


def scores_of(*shares: tuple[float, float, float]) -> torch.Tensor:
    """Scores whose softmax at scale 2 is `shares`."""
    return torch.tensor([[math.log(share) / 2 for share in row] for row in shares])


def row_with(mistakes: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {"dataset": "d", "variant": "v/1", "split": "train:val", "mistakes": mistakes, **changes}


def test_the_surest_wrong_answers_come_first_two_of_a_class() -> None:
    scores = scores_of((0.1, 0.8, 0.1),  # a bed called chair: 0.7
                       (0.9, 0.05, 0.05),  # right
                       (0.3, 0.6, 0.1),  # a bed called chair: 0.3
                       (0.05, 0.05, 0.9),  # a bed called desk: 0.85
                       (0.5, 0.1, 0.4),  # a desk called bed: 0.1
                       (0.2, 0.1, 0.7))  # right
    labels = torch.tensor([0, 0, 0, 0, 2, 2])
    found = hardest_mistakes(scores, labels, NAMES, torch.tensor([10, 11, 12, 13, 14, 15]), lambda position: f"key{position}", 2.0)
    assert found == [
        {"id": "key13", "index": 13, "is": "bed", "called": "desk", "probability": 0.9, "probability_of_true": 0.05},
        {"id": "key10", "index": 10, "is": "bed", "called": "chair", "probability": 0.8, "probability_of_true": 0.1},
        {"id": "key14", "index": 14, "is": "desk", "called": "bed", "probability": 0.5, "probability_of_true": 0.4}]
    assert hardest_mistakes(scores[[1, 5]], labels[[1, 5]], NAMES, torch.tensor([1, 5]), str, 2.0) == []
    same = hardest_mistakes(torch.zeros(4, 3), torch.tensor([1, 2, 1, 2]), NAMES, torch.arange(4), str)
    assert [item["index"] for item in same] == [0, 1, 2, 3], "equal ones in the order of the samples"


def test_few_are_chosen_and_sure_answers_do_not_tie() -> None:
    names = tuple(map(str, range(20)))
    labels = torch.arange(200) % 20
    scores = torch.eye(20)[(labels + 1) % 20] * torch.linspace(0.15, 0.3, 200)[:, None]
    found = hardest_mistakes(scores, labels, names, torch.arange(200), str, 100.0)
    assert [item["index"] for item in found] == list(range(199, 199 - MOST, -1))
    assert found[0]["probability"] == 1.0 and found[0]["probability_of_true"] == 0.0


def test_pictures_are_kept_beside_the_results_and_old_ones_removed(tmp_path: Path) -> None:
    mistakes = [{"id": "x", "index": index, "is": "bed", "called": "desk", "probability": 0.9, "probability_of_true": 0.1} for index in (3, 12)]
    cloud = np.random.default_rng(0).uniform(-0.5, 0.5, (300, 3)).astype(np.float32)
    write_pictures(tmp_path, [row_with(mistakes)], {3: cloud, 12: cloud, 99: cloud})
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")) == [
        "mistakes/d-v_1-train_val/000003.png", "mistakes/d-v_1-train_val/000012.png"]
    assert read_pictures(tmp_path, row_with(mistakes)) == {index: cloud_picture(cloud) for index in (3, 12)}
    write_pictures(tmp_path, [row_with(mistakes[:1])], {})
    assert read_pictures(tmp_path, row_with(mistakes)) == {} and read_pictures(tmp_path, row_with([], dataset="../../x")) == {}
    assert read_pictures(tmp_path, {"dataset": "d", "variant": "v", "split": "s"}) == {}, "a row from before mistakes were kept"
    write_pictures(tmp_path, [], {})


class Clouds(PointCloudDataset):
    """Every sample but number 2 can be read."""

    def __init__(self) -> None:
        """Open nothing."""

    def index(self, split: str) -> list[Entry]:
        raise NotImplementedError

    def load(self, entry: Entry, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def __getitem__(self, index: int) -> PointSample:
        if index == 2:
            raise BadFileError("gone")
        return {"points": torch.full((4, 3), float(index)), "label": 0, "index": index}


def test_clouds_that_cannot_be_read_by_now_are_left_out() -> None:
    rows = [row_with([{"index": 1}, {"index": 2}]), row_with([{"index": 1}, {"index": 5}])]
    found = clouds_of(Clouds(), rows)
    assert list(found) == [1, 5] and found[5][0, 0] == 5


def test_a_cloud_is_drawn_upright_and_small() -> None:
    rng = np.random.default_rng(0)
    tall = (rng.uniform(-1, 1, (2000, 3)) * [0.1, 0.9, 0.1]).astype(np.float32)
    content = cloud_picture(tall)
    picture = np.asarray(Image.open(BytesIO(content)).convert("RGB"))
    rows, columns = np.nonzero((picture != np.rint(PANEL)).any(axis=2))
    assert picture.shape == (SIZE_PX, SIZE_PX, 3) and np.ptp(rows) > 2 * np.ptp(columns) and len(content) < 4000


def test_a_sheet_lays_mistakes_out_with_their_names() -> None:
    cloud = cloud_picture(np.random.default_rng(0).uniform(-0.5, 0.5, (300, 3)).astype(np.float32))
    mistakes = [{"id": "x", "index": index, "is": "bed", "called": "desk", "probability": 0.9, "probability_of_true": 0.1} for index in range(6)]
    sheet = picture_sheet(row_with(mistakes), {index: cloud for index in range(1, 6)})
    assert sheet.shape == (2 * (SIZE_PX + 2 * LINE_PX), 4 * SIZE_PX, 3)
    assert (sheet[SIZE_PX : SIZE_PX + LINE_PX, :SIZE_PX] < 128).any(), "words under the picture"
    assert picture_sheet(row_with([]), {}).shape[1] == 4 * SIZE_PX


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_any_scale_gives_probabilities(scale: float) -> None:
    found = hardest_mistakes(torch.tensor([[0.3, 0.2, 0.1]]), torch.tensor([2]), NAMES, torch.tensor([0]), str, scale)
    assert 0 <= found[0]["probability_of_true"] <= found[0]["probability"] <= 1
