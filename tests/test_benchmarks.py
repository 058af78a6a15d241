"""The benchmarks: each script runs at its smallest size, what it keeps has one shape, and the pages are made of that."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPO

FOLDER = REPO / "benchmarks"
QUICK = ("grouping", "point_encoders")  # the others take more than three seconds
NEEDS_PICTURES = ("readers", "training_steps", "full_size")


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Import from the folder of the benchmarks, as a script there does; leave the number of threads as it was."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["a benchmark"])
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def names() -> list[str]:
    return ["depth_views", "grouping", "point_encoders", "render_pairs", "readers", "nuscenes_tables", "triplet_store", "lifting", "proxies",
            "zero_shot", "training_steps", "curves", "full_size"]


def run_smallest(name: str, root: Path, results: Path) -> dict[str, Any]:
    """Run a script in this process as `run.py --smallest` does."""
    run = module("run")
    arguments = [*run.benchmarks(root)[name], *run.SMALLEST[name], "--results", str(results)]
    module(name).main(arguments)
    found: dict[str, Any] = json.loads(results.read_text())
    return found


def check_rows(content: dict[str, Any], benchmark: str) -> None:
    """Compare rows with the schema."""
    results = module("results")
    own = [row for row in content["rows"] if row["benchmark"] == benchmark]
    assert own and benchmark in content["runs"]
    for row in own:
        assert list(row) and set(row) == set(results.FIELDS), row["name"]
        assert row["device"] in ("cpu", "cuda") and row["threads"] >= 1 and row["command"] and row["versions"]["torch"]
        if row["value"] is None:
            assert row["note"].startswith("not run: ") and row["met"] is None
            continue
        low, high = row["quartiles"]
        assert low <= row["value"] <= high and row["repeats"] >= 1 and row["hardware"]
        assert row["ratio"] is None or row["ratio"] == pytest.approx(row["value"] / row["floor"])
        assert (row["met"] is None) == (row["target"] is None)
    for row in own:
        assert row["target"] is None or row["floor_is"], f"{row['name']} has a target and no floor"


def test_the_list_of_benchmarks_is_whole() -> None:
    """Every script with a `main` that keeps results is run by make bench and has a smallest size."""
    run = module("run")
    keeping = {path.stem for path in FOLDER.glob("*.py") if "Results(" in path.read_text() and path.stem != "results"}
    assert set(run.benchmarks(Path())) == set(run.SMALLEST) == keeping == set(names())


@pytest.mark.parametrize("name", QUICK)
def test_quick_benchmarks_run_at_their_smallest_size(name: str, tmp_path: Path) -> None:
    check_rows(run_smallest(name, tmp_path, tmp_path / "results.json"), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if name not in QUICK])
def test_slow_benchmarks_run_at_their_smallest_size(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue("tiny_pairs" if name in NEEDS_PICTURES else "tiny_world")
    check_rows(run_smallest(name, root, tmp_path / "results.json"), name)


def test_a_row_is_replaced_by_a_newer_one_and_never_by_one_that_was_not_run(tmp_path: Path) -> None:
    results, path = module("results"), tmp_path / "results.json"
    target = results.Target(1.1)
    first = results.Results("some", path)
    first.add("work", "batch 1", np.array([3.0, 1.0, 2.0]), "ms/view", floor=np.array([1.0, 4.0, 2.0]), floor_is="less", target=target)
    first.add("gone later", "batch 1", [1.0], "ms/view")
    first.not_run("on a GPU", "batch 1", "ms/view", "no GPU", floor_is="less", target=target)
    first.finish()
    row = json.loads(path.read_text())["rows"][0]
    assert (row["value"], row["quartiles"], row["floor"], row["ratio"], row["met"]) == (2.0, [1.5, 2.5], 2.0, 1.0, True)
    other = results.Results("other", path)
    other.add("work", "batch 1", [1.0], "s")
    other.finish()
    second = results.Results("some", path)
    second.add("work", "batch 1", [4.0], "ms/view", floor=2.0, floor_is="less", target=target)
    second.not_run("work", "batch 1", "ms/view", "no GPU", device="cpu")
    content = json.loads(path.read_text())
    assert len(content["rows"]) == 4, "an interrupted run keeps what there was"
    second.finish()
    rows = {(row["benchmark"], row["name"]): row for row in json.loads(path.read_text())["rows"]}
    assert list(rows) == [("other", "work"), ("some", "on a GPU"), ("some", "work")] or set(rows) == {
        ("other", "work"), ("some", "on a GPU"), ("some", "work")}
    assert (rows["some", "work"]["value"], rows["some", "work"]["met"]) == (4.0, False)


def test_the_table_shows_misses_and_what_was_not_run(tmp_path: Path) -> None:
    results, path = module("results"), tmp_path / "results.json"
    found = results.Results("some", path)
    found.add("work", "batch 8", [200.0], "ms/cloud", floor=100.0, floor_is="networks", target=results.Target(1.1), memory_mb=2000.0, note="noted")
    found.add("part", "batch 8", [20.0], "ms/cloud", share=(0.1, "work"), target=results.Target(0.25, "share"), floor=1.0, floor_is="reading")
    found.not_run("work", "batch 256", "ms/cloud", "no GPU was at hand", floor_is="networks", target=results.Target(1.1))
    found.finish()
    page = results.table(results.read_results(path))
    assert "1 of 2 targets that could be measured are met; missed: work (batch 8). 1 rows were not run." in page
    assert "| work | batch 8 | 200 (200-200) ms/cloud; noted | 5 clouds | 100: networks | 2.00 |  | 2,000 MB | ratio <= 1.1: **missed** |" in page
    assert "| part | batch 8 | 20 (20-20) ms/cloud | 50 clouds | 1: reading | 20.00 | 10.0 % of work |  | share <= 0.25: met |" in page
    assert "| work (GPU) | batch 256 | not run: no GPU was at hand |  | networks |  |  |  | ratio <= 1.1 |" in page


def test_make_bench_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark that ended with these arguments on this code is left out; with other arguments or other code it is not."""
    run, results = module("run"), module("results")
    path = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", ["grouping.py", "--results", str(path)])
    found = results.Results("grouping", path)
    found.add("work", "batch 1", [1.0], "ms")
    assert not run.is_done("grouping", ["--results", str(path)], path), "not before its end"
    found.finish()
    assert run.is_done("grouping", ["--results", str(path)], path) and not run.is_done("grouping", ["--more"], path)
    monkeypatch.setattr(run, "code", lambda: "other")
    assert not run.is_done("grouping", ["--results", str(path)], path)


def test_times_are_taken_in_turns() -> None:
    timing, order = module("timing"), list[str]()
    found = timing.in_turns_ms({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, warm_up=1)
    assert order == ["a", "b"] * 3 and found["a"].shape == found["b"].shape == (2,)


def test_flops_are_those_of_the_formula() -> None:
    """ViT-B/32 by hand: 50 tokens of 768, twelve blocks of 12 width^2 weights, attention, patches and projection."""
    tokens, width = 50, 768
    by_hand = 2 * (49 * 3 * 32 * 32 * width + 12 * (12 * width**2 * tokens + 2 * tokens**2 * width) + width * 512)
    assert module("flops").image_tower() == pytest.approx(by_hand, rel=0.01)


# What is committed ----------------------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "results.json").read_text())
    return found


def test_the_committed_results_have_every_benchmark_and_target(committed: dict[str, Any]) -> None:
    for name in names():
        check_rows(committed, name)
    asked = {row["name"] for row in committed["rows"] if row["target"] is not None}
    assert {"rasterize, compiled", "rasterize beside the tower", "zero-shot evaluation", "image-depth pre-training", "point pre-training",
            "GDPA tuning, towers in every step"} <= asked
    assert {row["size"] for row in committed["rows"] if row["benchmark"] == "full_size"} >= {
        f"ViT-B-32-quickgelu, bf16, batch {batch}{compiled}" for batch in (256, 2048) for compiled in ("", ", torch.compile")}


def test_the_committed_table_is_made_of_the_committed_results(committed: dict[str, Any]) -> None:
    assert (FOLDER / "results.md").read_text() == module("results").table(committed), "run: python benchmarks/results.py"


def test_the_page_on_scale_has_the_tables_of_its_script() -> None:
    pytest.importorskip("transformers")
    scale = module("scale")
    page = scale.PAGE.read_text()
    assert page == scale.page_with(page, scale.tables(FOLDER / "results.json")), "run: python benchmarks/scale.py"
