"""The page of results: what it holds and escapes, what it says of the mini profile and of published figures; the page for all runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_proxy_report import checked

from clip2x.cli import main
from clip2x.evaluation.published import PUBLISHED
from clip2x.evaluation.results_page import overview_page, results_page

STORE = {"store": {"folder": "runs/<x>", "num_triplets": 988, "num_frames": 200, "complete": True}, "data": {"streets": {"files": "mini-world"}},
         "quality": {"streets": {"any_name": {"good": {"k": 715, "n": 777, "share": 0.92, "interval": [0.9, 0.94]},
                                              "recall": {"k": 49, "n": 100, "share": 0.49, "interval": [0.4, 0.6]}},
                                 "labels": {"k": 0, "n": 0, "share": None, "interval": None}}, "rooms": {"skipped": "<no boxes>"}}}


def row(method: str, name: str = "modelnet10/off/test", *, profile: str = "mini", **changes: Any) -> dict[str, Any]:
    dataset, variant, split = name.split("/")
    return {"dataset": dataset, "variant": variant, "split": split, "method": method, "num_samples": 4, "num_classes": 2, "top1": 0.75, "top5": None,
            "class_mean": 0.8125, "per_class": {"chair <a>": 0.5, "bed": 1.0}, "confusion": [[1, 1], [0, 2]], "chance": 0.5, "majority": 0.5,
            "interval": {"by": "sample", "top1": [0.4, 1.0], "class_mean": [0.5, 0.99]}, "gain": None,
            "protocol": {"profile": profile, "notes": [f"a note of {method}"], "transductive": None, "data": "files", "limit": None}, **changes}


def content(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"results": list(rows), "provenance": {"commit": "abcdef0123456", "clip": "clip2x-small/sha256:1"}, **more}


def test_it_shows_every_method_with_its_interval_and_confusion() -> None:
    gain = {"over": "CLIP", "top1": 0.25, "interval": [0.1, 0.4], "num_samples": 4}
    page = results_page(content(row("CLIP"), row("CLIP2", gain=gain)), title="Results: <x>")
    assert "<title>Results: &lt;x&gt;</title>" in page and "<x>" not in page
    for text in ("81.2 %", "50.0-99.0", "75.0 %", "40.0-100.0", "+25.0", "over CLIP<", "a note of CLIP2", "abcdef0123"):
        assert text in page, text
    assert "chair &lt;a&gt;" in page and "chair <a>" not in page
    assert "chair &lt;a&gt; called bed: 1" in page and "bed called bed: 2" in page and "bed called chair" not in page
    assert "may not be compared with published ones" in page
    assert "http" not in page.split("<pre>")[0] and not checked(page).loaded, "nothing is loaded from elsewhere"


def test_mistakes_are_shown_with_their_pictures_and_escaped() -> None:
    mistakes = [{"id": "a/<b>.off", "index": 7, "is": "chair <a>", "called": "bed", "probability": 0.9, "probability_of_true": 0.05},
                {"id": "c.off", "index": 3, "is": "bed", "called": "chair <a>", "probability": 0.8, "probability_of_true": 0.15}]
    page = results_page(content(row("CLIP", mistakes=mistakes), row("old")), title="x", clouds=lambda _: {7: b"\x89PNG"})
    assert "CLIP: classes, confusion, hardest mistakes" in page and "old: classes, confusion<" in page
    assert "<b>chair &lt;a&gt;</b> 5.0&nbsp;%<br>called <b>bed</b> 90.0&nbsp;%" in page and "a/<wbr>&lt;b&gt;.off" in page
    assert checked(page).loaded == ["data:image/png;base64,iVBORw=="] and page.count("no picture") == 1


@pytest.mark.parametrize(("profile", "there"), [("mini", False), ("full", True)])
def test_published_figures_stand_beside_the_full_profile_only(profile: str, there: bool) -> None:
    name = next(iter(PUBLISHED))
    page = results_page(content(row("CLIP", name, profile=profile)), title="x")
    assert all((item.source.split(";")[0] in page) == there for item in PUBLISHED[name])
    assert ("Published, top-1" in page) == there and ("may not be compared" in page) != there
    for other in ({"data": "mini-world"}, {"limit": 10}):
        again = row("CLIP", name, profile=profile)
        again["protocol"] |= other
        assert "Published, top-1" not in results_page(content(again), title="x"), other


def test_every_published_figure_states_its_source() -> None:
    for name, figures in PUBLISHED.items():
        assert name.count("/") == 2
        assert all(0 < item.top1 < 100 and len(item.source) > 10 for item in figures)


def test_a_sweep_shows_means_and_spreads_and_details_without_shots_and_with_the_most() -> None:
    summary = [{**{key: value for key, value in row("zero-shot").items() if key in ("dataset", "variant", "split", "method")}, "shots": 0,
                "class_mean": {"mean": 0.5, "spread": None}},
               *({**{key: value for key, value in row("GDPA").items() if key in ("dataset", "variant", "split", "method")}, "shots": shots,
                  "class_mean": {"mean": mean, "spread": 0.01}} for shots, mean in ((1, 0.6), ("all", 0.9)))]
    found = [{"dataset": "modelnet10", "variant": "off", "split": "test", "method": "GDPA", "over": "zero-shot", "shots": "all", "mean": 0.1,
              "spread": 0.02, "beyond_spread": True}]
    fit = {"protocol": {**row("GDPA")["protocol"], "fit": {"loss": [2.0, 1.0, 0.5]}}}
    rows = [row(method, shots=shots, seed=seed, class_mean=mean, **fit) for method, shots, seed, mean in (
        ("few", 1, 0, 0.1), ("GDPA", "all", 3, 0.2), ("GDPA", "all", 4, 0.3))]
    page = results_page(content(row("zero-shot", shots=0), *rows, summary=summary, differences=found), title="adapt")
    assert "GDPA minus" in page and '+10.0* <span class="soft">±2.0</span>' in page
    assert "<th>1</th><th>all</th>" in page
    assert '60.0 <span class="soft">±1.0</span>' in page and '90.0 <span class="soft">±1.0</span>' in page and page.count("<td>50.0</td>") == 2
    assert "zero-shot: classes, confusion" in page and 'GDPA <span class="tag">all labels</span>: classes, confusion' in page
    assert "few <span" not in page and "30.0 %" not in page, "fewer shots and other seeds stand in the means"
    assert page.count("<details open>") == 1 and "How the adapters were trained" in page and "GDPA: 0.5 at 3" in page
    checked(page)


def test_report_writes_a_page_for_each_run_and_one_for_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("eval_zeroshot", "adapt"):
        (tmp_path / "mini" / name).mkdir(parents=True)
        (tmp_path / "mini" / name / "results.json").write_text(json.dumps(content(row("CLIP"))))
    Image.new("RGB", (4, 4)).save(tmp_path / "mini" / "adapt" / "accuracy_over_shots.png")
    (tmp_path / "mini" / "collect_proxies").mkdir()
    (tmp_path / "mini" / "collect_proxies" / "report.json").write_text(json.dumps(STORE))
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("overview.html: runs: 2, triplet stores: 0\n"), "a store whose page is not there is not linked"
    (tmp_path / "mini" / "collect_proxies" / "report.html").write_text("")
    (tmp_path / "mini" / "report.json").write_text('{"store": 1}')
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("overview.html: runs: 2, triplet stores: 1\n")
    assert "data:image/png;base64," in (tmp_path / "mini/adapt/report.html").read_text()
    assert "data:image" not in (tmp_path / "mini/eval_zeroshot/report.html").read_text()
    everything = (tmp_path / "overview.html").read_text()
    assert 'href="mini/adapt/report.html"' in everything and 'href="mini/eval_zeroshot/report.html"' in everything and "81.2 %" in everything
    assert 'href="mini/collect_proxies/report.html"' in everything and "988 triplets of 200 frames" in everything
    assert "715 of 777: 92.0 %" in everything and "49 of 100" in everything and "not measured: &lt;no boxes&gt;" in everything
    checked(everything)
    assert "no results.json here yet" in overview_page([])


def test_bad_folders_and_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "gone")]) == 2
    assert "no such folder; give the one that the results lie in" in capsys.readouterr().err
    (tmp_path / "results.json").write_text("{}")
    assert main(["report", str(tmp_path)]) == 2
    assert "is no results.json of this version of clip2x" in capsys.readouterr().err
    for rows in ([{"dataset": "x"}], [row("CLIP", mistakes=[{"id": "x"}])], [row("CLIP", mistakes=3)]):
        (tmp_path / "results.json").write_text(json.dumps({"results": rows, "provenance": {}}))
        assert main(["report", str(tmp_path)]) == 2
        assert "is no results.json of this version of clip2x" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [
    {"num_classes": "<script>alert(1)</script>"}, {"num_samples": "4"}, {"chance": None}, {"top1": "x"}, {"per_class": {}}, {"per_class": [1]},
    {"confusion": 3}, {"interval": []}, {"gain": 1}, {"protocol": []}, {"class_mean": {}},
    {"mistakes": [{"id": "a", "index": "b", "is": "c", "called": "d", "probability": "e", "probability_of_true": 0.1}]}], ids=str)
def test_values_of_another_kind_end_in_one_line_or_are_shown_as_text(changes: dict[str, Any], tmp_path: Path,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.json").write_text(json.dumps(content(row("CLIP", **changes))))
    if main(["report", str(tmp_path)]) == 0:
        assert "<script>" not in (tmp_path / "report.html").read_text()
    else:
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "holds other values than clip2x writes" in error
