"""The curves of trainings: read from real TensorBoard files, kept, drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from test_proxy_report import checked
from torch.utils.tensorboard import SummaryWriter

from clip2x.evaluation.charts import line_chart, ticks_between
from clip2x.evaluation.training_curves import FILE, MOST_POINTS, curves_section, kept_curves, read_curves, write_curves


def write_events(folder: Path, name: str, values: dict[int, float], suffix: str) -> None:
    with SummaryWriter(str(folder), filename_suffix=suffix) as writer:
        for step, value in values.items():
            writer.add_scalar(name, value, step)
        writer.add_image("pairs", torch.zeros(3, 4, 4), 0)
    written = next(file for file in folder.glob("events.out.tfevents.*") if file.name.endswith(suffix))
    written.rename(folder / f"events.out.tfevents.{suffix}")  # in the order of time


def test_a_training_that_went_on_counts_from_where_its_second_file_starts(tmp_path: Path) -> None:
    write_events(tmp_path, "train/loss", {step: 10.0 - step for step in range(6)}, "1")
    write_events(tmp_path, "train/loss", {4: 0.25, 5: float("nan"), 6: 0.125}, "2")
    (tmp_path / "events.out.tfevents.3").write_bytes(b"damaged" * 20)
    (tmp_path / "events.out.tfevents.4").mkdir()
    curves = read_curves(tmp_path)
    assert curves == {"train/loss": [(0, 10.0), (1, 9.0), (2, 8.0), (3, 7.0), (4, 0.25), (6, 0.125)]}
    assert read_curves(tmp_path / "nowhere") == {}


def test_long_curves_are_thinned_and_keep_both_ends(tmp_path: Path) -> None:
    write_events(tmp_path, "train/loss", {step: float(step) for step in range(3 * MOST_POINTS)}, "1")
    (curve,) = read_curves(tmp_path).values()
    assert len(curve) == MOST_POINTS and curve[0] == (0, 0.0) and curve[-1] == (3 * MOST_POINTS - 1, 3 * MOST_POINTS - 1.0)
    assert [step for step, _ in curve] == sorted({step for step, _ in curve})


def test_curves_are_kept_beside_the_results_and_found_again(tmp_path: Path) -> None:
    trained, evaluated = tmp_path / "pretrain", tmp_path / "other"
    write_events(trained, "train/loss", {0: 2.0, 9: 1.0}, "1")
    write_events(trained, "val/top1", {9: 0.5}, "2")
    write_events(evaluated, "test/some/top1", {0: 0.5}, "1")
    write_curves(tmp_path / "results.json", {"CLIP <x>": trained / "checkpoints" / "best.ckpt", "none": None,
                                             "elsewhere": evaluated / "x.safetensors"})
    runs = kept_curves(tmp_path / "results.json")
    assert [(run["title"], run["curves"]) for run in runs] == [
        ("CLIP <x>", {"train/loss": [(0, 2.0), (9, 1.0)], "val/top1": [(9, 0.5)]}), ("elsewhere", {})]
    page = curves_section(runs)
    assert "CLIP &lt;x&gt;" in page and "train/loss: 1 at 9" in page and page.count("<figure") == 2
    assert page.count("No TensorBoard events of a training lay beside it.") == 1 and not checked(page).loaded and curves_section([]) == ""
    for damaged in ("", "{}", '{"runs": [{"title": 1}]}', json.dumps({"runs": [{"title": "a", "checkpoint": "b", "curves": {"c": [1]}}]})):
        (tmp_path / FILE).write_text(damaged)
        assert kept_curves(tmp_path / "results.json") == []
    for value in ("1e400", "NaN", "-Infinity", "1e308", "1" + "0" * 400):
        for step, number in ((value, "1"), ("1", value)):
            (tmp_path / FILE).write_text(f'{{"runs": [{{"title": "a", "checkpoint": "b", "curves": {{"c": [[{step}, {number}]], "d": [[1, 2]]}}}}]}}')
            curves_section(kept_curves(tmp_path / "results.json"))
    (tmp_path / FILE).write_text('{"runs": [{"title": "\\ud800", "checkpoint": "b", "curves": {}}]}')
    assert kept_curves(tmp_path / "results.json") == [], "half a letter cannot be written"
    assert kept_curves(tmp_path / "nowhere" / "results.json") == []


def test_curves_of_a_kind_share_a_chart() -> None:
    names = ("train/loss", "train/text", "train/scale", "train/scale_text", "train/s", "val/top1", "select/top1", "test/x/top1", "gate/depth",
             "lr-AdamW", "epoch", "train/negative_texts")
    page = curves_section([{"title": "t", "checkpoint": "c", "curves": {name: [(0, 0.5), (1, 1.0)] for name in names}}])
    charts = [re.findall(r"<title>([^:]*):", figure) for figure in page.split("<figure")[1:]]
    assert charts == [["train/loss", "train/text"], ["val/top1", "select/top1"], ["test/x/top1"], ["train/scale", "train/scale_text", "train/s"],
                      ["gate/depth"], ["lr-AdamW"]]


def test_a_line_by_hand() -> None:
    chart = line_chart({"a & b": [(0, 1.0), (10, 3.0), (20, 2.0)], "one": [(20, 1.0)]}, "t", "step")
    paths = re.findall(r'<path class="line l0" d="M([^"]*)"><title>', chart)
    (first, second, third) = [tuple(map(float, place.split())) for place in paths[0].split("L")]
    assert first[0] == 44 and second[0] == pytest.approx((44 + 350) / 2) and third[0] == 350
    assert second[1] == 12 and first[1] == 154 and third[1] == pytest.approx((12 + 154) / 2, abs=0.1), "from 1 to 3"
    assert "a &amp; b: 2 at 20" in chart
    checked(chart)


@pytest.mark.parametrize(("low", "high", "expected"), [
    (0.0, 1.0, (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])), (14.15, 14.35, (14.15, 14.35, [14.15, 14.2, 14.25, 14.3, 14.35])),
    (-3.0, 9.0, (-5.0, 10.0, [-5.0, 0.0, 5.0, 10.0])), (2.0, 2.0, (1.0, 3.0, [1.0, 1.5, 2.0, 2.5, 3.0])),
    (0.0, 0.0, (-0.6, 0.6, [-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6])),
])
def test_ticks(low: float, high: float, expected: tuple[float, float, list[float]]) -> None:
    found = ticks_between(low, high)
    assert found[0] == pytest.approx(expected[0]) and found[1] == pytest.approx(expected[1]) and found[2] == pytest.approx(expected[2], abs=1e-9)
