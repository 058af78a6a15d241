"""The quality report of a triplet store: numbers, page, gallery, charts."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clip2x.data.readers import open_frames
from clip2x.data.triplets.store import TripletStore
from clip2x.data.triplets.writer import TripletWriter
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.evaluation.annotated_objects import ObjectNames, annotated_objects, perfect_boxes, points_in_boxes
from clip2x.evaluation.charts import bar_list, histogram_of_counts, interval_bar, long_tail, nice_ticks, short_number
from clip2x.evaluation.proxy_pictures import PANEL, SIZE_PX, point_views, thumbnail
from clip2x.evaluation.proxy_report import choose_evenly, write_proxy_report
from clip2x.manifest import load_manifest
from clip2x.types import FrameTriplets, SceneFrame, Triplet

STREETS, ROOMS = "nuscenes/v1.0-mini/mini_train", "sunrgbd/objects10/train"
NASTY = "<b>car</b> & \"co\""
VOID = {"meta", "br", "img", "path", "rect", "wbr"}


def jpeg(width: int = 40, height: int = 20) -> bytes:
    stream = BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def true_triplets(frame: SceneFrame, names: ObjectNames, ours_from_files: NDArray[np.float64], concepts: list[tuple[str, ...]]) -> list[Triplet]:
    """One triplet of every object that holds points: all points of its box, its own name."""
    found, _, objects = perfect_boxes(frame, names)
    inside = points_in_boxes(frame.points, [frame.boxes[item.position] for item in objects])
    turned = frame.points @ (ours_from_files @ frame.upright_from_points).T
    triplets = []
    for item, own in zip(objects, inside.T, strict=True):
        view = next(view for view, seen in found.items()
                    if view in item.rectangles and np.isclose(seen.box_px, item.rectangles[view], atol=1e-3).all(axis=1).any())
        if own.any():
            concept = next((number for number, words in enumerate(concepts) if item.name in words), 0)
            triplets.append(Triplet(turned[own][:4096].astype(np.float32), concept, 0.25 + 0.5 * (len(triplets) % 2),
                                    item.rectangles[view].astype(np.float32), view, jpeg()))
    return triplets


@pytest.fixture(scope="module")
def concepts() -> list[tuple[str, ...]]:
    words = [*ObjectNames(load_manifest("nuscenes"), "v1.0-mini").classes, *ObjectNames(load_manifest("sunrgbd"), "objects10").classes]
    return [(NASTY, "car"), *((word,) for word in dict.fromkeys(words) if word != "car"), ("never seen",)]


@pytest.fixture(scope="module")
def store(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory, concepts: list[tuple[str, ...]]) -> Path:
    """A store of true triplets of one frame of both mini data sets, and of frames without any."""
    folder = tmp_path_factory.mktemp("store")
    read = {"max_points": 4096, "sweeps": 1, "depth": "raw"}
    about = {"settings": read, "commit": "0123abc", "sources": {STREETS: {**read, "files": "mini-world"}, ROOMS: read},
             "vocabulary": {"name": "test", "source": "here", "sha256": "f" * 64, "concepts": [list(words) for words in concepts]}}
    with TripletWriter(folder, about) as writer:
        for name in (STREETS, ROOMS):
            frames = open_frames(name, tiny_world)
            names = ObjectNames(frames.manifest, frames.variant_name)
            for position in range(min(3, len(frames))):
                frame = frames[position]
                triplets = true_triplets(frame, names, np.array(frames.variant.ours_from_files), concepts) if position == 0 else []
                rules = Counter({"detections": len(triplets) + 5, "too few <points>": 5, "proxies": len(triplets)})
                writer.add(FrameTriplets(name, frame.token, frame.scene, tuple(triplets), rules))
    return folder


class Checker(HTMLParser):
    """Collects tags that are not closed and everything that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.loaded += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "xlink:href")]
        assert tag not in ("script", "link", "b2", "iframe")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag


def checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    assert not checker.open
    return checker


def test_the_report_of_true_triplets(store: Path, tiny_world: Path, tmp_path: Path, concepts: list[tuple[str, ...]]) -> None:
    content = write_proxy_report(store, tiny_world, tmp_path / "report", gallery=12)
    html = (tmp_path / "report" / "report.html").read_text()
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == content
    opened = TripletStore(store)
    assert content["store"]["num_triplets"] == len(opened) == sum(content["classes"].values()) == sum(
        item["triplets"] for item in content["data"].values())
    assert content["store"]["num_frames"] == sum(item["frames"] for item in content["data"].values())
    for name, item in content["data"].items():
        assert sum(item["score"]["counts"]) == sum(item["points"]["counts"]) == item["triplets"] == sum(item["range_m"]["counts"])
        assert item["rules"]["detections"] == item["rules"]["proxies"] + item["rules"]["too few <points>"]
        figures = content["quality"][name]
        assert figures["proxies"] == item["triplets"] and figures["frames"] == item["frames"] == figures["frames_in_store"]
        assert figures["any_name"]["inside"]["mean"] > 0.93, "the stored points are turned, and meet their boxes in the turned frame"
        assert figures["any_name"]["completeness"]["mean"] > 0.93
        assert {mistake["annotated"] for mistake in figures["mistakes"]} <= set(figures["labels"]["not_in_vocabulary"]), "all others are right"
    assert content["classes"]["never seen"] == 0 and content["provenance"]["commit"] == "0123abc"
    assert content["quality"][STREETS]["labels"]["per_class"]["car"]["share"] == 1.0, "the second word of a concept counts too"
    for words in concepts:
        assert escape(words[0]) in html
    assert NASTY not in html and "<points>" not in html
    assert "made-up scenes" in html and html.count('class="card"') == 12 + sum(len(figures["mistakes"]) for figures in content["quality"].values())
    assert all(address.startswith("data:image/") for address in checked(html).loaded)
    assert "http" not in re.sub(r"base64,[^\"]*", "", html)


def test_recall_counts_frames_without_triplets(store: Path, tiny_world: Path, tmp_path: Path) -> None:
    content = write_proxy_report(store, tiny_world, tmp_path, gallery=0)
    frames = open_frames(STREETS, tiny_world)
    names = ObjectNames(frames.manifest, frames.variant_name)
    asked = [sum(item.num_points >= 10 for item in annotated_objects(frames[position], names)) for position in range(min(3, len(frames)))]
    assert content["quality"][STREETS]["any_name"]["recall"]["n"] == sum(asked) > asked[0]
    assert content["quality"][STREETS]["any_name"]["recall"]["share"] < 0.9 and "<h2>Triplets</h2>" not in (tmp_path / "report.html").read_text()


def test_the_surest_wrong_texts_are_shown(tiny_world: Path, tmp_path: Path, concepts: list[tuple[str, ...]]) -> None:
    """Every text is wrong; scores fall from triplet to triplet: the first two of each class are shown."""
    frames = open_frames(ROOMS, tiny_world)
    names = ObjectNames(frames.manifest, frames.variant_name)
    wrong = []
    with TripletWriter(tmp_path / "store", {"vocabulary": {"name": "v", "concepts": [list(words) for words in concepts]}}) as writer:
        for position in range(3):
            frame = frames[position]
            true = true_triplets(frame, names, np.array(frames.variant.ours_from_files), concepts)
            changed = [replace(item, text_id=len(concepts) - 1, score=0.9 - 0.01 * (len(wrong) + place)) for place, item in enumerate(true)]
            wrong += [(concepts[item.text_id][-1], other.score) for item, other in zip(true, changed, strict=True)]
            writer.add(FrameTriplets(ROOMS, frame.token, frame.scene, tuple(changed), Counter()))
    content = write_proxy_report(tmp_path / "store", tiny_world, gallery=0)
    found = content["quality"][ROOMS]["mistakes"]
    assert len(found) > 2 and {item["text"] for item in found} == {"never seen"}
    assert [item["score"] for item in found] == sorted((item["score"] for item in found), reverse=True)
    assert max(Counter(item["annotated"] for item in found).values()) <= 2
    assert found[0]["annotated"] == wrong[0][0] and found[0]["score"] == pytest.approx(wrong[0][1])
    html = (tmp_path / "store" / "report.html").read_text()
    assert html.count('class="card"') == len(found) and f"annotated: {found[0]['annotated']}" in html and found[0]["frame"] in html
    checked(html)


def test_without_a_data_root_and_without_the_data(store: Path, tmp_path: Path) -> None:
    content = write_proxy_report(store, None, tmp_path / "a", gallery=2)
    assert content["quality"] == {} and "no data root was given" in (tmp_path / "a" / "report.html").read_text()
    content = write_proxy_report(store, tmp_path / "nowhere", tmp_path / "b", gallery=2)
    assert "is not below" in content["quality"][STREETS]["skipped"]
    html = (tmp_path / "b" / "report.html").read_text()
    assert "Not measured" in html
    checked(html)


def test_frames_can_be_limited_and_the_same_seed_gives_the_same_page(store: Path, tiny_world: Path, tmp_path: Path) -> None:
    one = write_proxy_report(store, tiny_world, tmp_path / "a", gallery=4, frames=1, seed=3)
    again = write_proxy_report(store, tiny_world, tmp_path / "b", gallery=4, frames=1, seed=3)
    assert one["quality"][ROOMS]["frames"] == 1 and one == again
    assert (tmp_path / "a" / "report.html").read_text() == (tmp_path / "b" / "report.html").read_text()


def test_what_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="is no triplet store"):
        write_proxy_report(tmp_path)
    with pytest.raises(InputError, match="gallery and seed must be at least 0 and frames at least 1, got -1, 0 and 500"):
        write_proxy_report(store, gallery=-1)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write into"):
        write_proxy_report(store, output=tmp_path / "file" / "below")


def test_a_store_without_triplets_and_one_with_a_broken_crop(tmp_path: Path) -> None:
    with TripletWriter(tmp_path / "empty", {"vocabulary": {"name": "v", "concepts": [["car"]]}}) as writer:
        writer.add(FrameTriplets("sunrgbd/objects10/train", "SUNRGBD/a", "s", (), Counter()))
    content = write_proxy_report(tmp_path / "empty")
    assert content["data"][ROOMS]["score"]["median"] is None and content["classes"] == {"car": 0}
    checked((tmp_path / "empty" / "report.html").read_text())
    triplet = Triplet(np.array([[1, 0, 2]], dtype=np.float32), 0, 0.5, np.array([0, 0, 9, 9], dtype=np.float32), "image", jpeg()[:300])
    with TripletWriter(tmp_path / "broken", {"vocabulary": {"name": "v", "concepts": [["car"]]}}) as writer:
        writer.add(FrameTriplets("sunrgbd/objects10/train", "SUNRGBD/a", "s", (triplet,), Counter()))
    write_proxy_report(tmp_path / "broken")
    assert "its crop is no whole picture" in (tmp_path / "broken" / "report.html").read_text()


def test_the_gallery_is_drawn_evenly_over_classes() -> None:
    classes = np.array([0] * 500 + [1] * 3 + [7] * 40 + [9])
    for seed in range(5):
        drawn = choose_evenly(classes, 16, seed)
        assert len(set(drawn)) == 16
        assert sorted(Counter(classes[drawn].tolist()).items())[1] == (1, 3) and Counter(classes[drawn].tolist())[9] == 1
        assert abs(Counter(classes[drawn].tolist())[0] - Counter(classes[drawn].tolist())[7]) <= 0
    assert choose_evenly(classes, 16, 0) != choose_evenly(classes, 16, 1)
    assert choose_evenly(classes[::-1].copy(), 544, 0)[:1] == [44], "sorted by class"
    assert len(choose_evenly(classes, 2, 0)) == 2 and choose_evenly(np.zeros(0, dtype=np.int32), 5, 0) == []
    assert choose_evenly(classes, 10_000, 0) == list(range(544))


def colours(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def test_points_are_drawn_as_the_sensor_sees_them() -> None:
    """An object ahead on +z with a mark on its right and one behind it: right and up stay so, and what is behind shows from the side only."""
    wall = np.stack(np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 40), [10.0]), axis=-1).reshape(-1, 3)
    marked = wall[~((wall[:, 0] > 0) & (wall[:, 1] > 0))]  # nothing at +x, +y
    front, side = (colours(view) for view in point_views(np.concatenate([marked, [[0, 0, 14.0]]]).astype(np.float32)))
    covered = (front != np.rint(PANEL).astype(np.uint8)).any(axis=2)
    assert front.shape == side.shape == (SIZE_PX, SIZE_PX, 3)
    rows, columns = np.nonzero(covered)
    middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    halves = [(slice(low, int(centre) - 4), slice(int(centre) + 4, high))
              for low, centre, high in ((rows.min(), middle[1], rows.max()), (columns.min(), middle[0], columns.max()))]
    quarter = [[covered[down, across].mean() for across in halves[1]] for down in halves[0]]
    # The sensor looks along +z with y up, so +x is on its left: the empty quarter is at the top on the left.
    assert quarter[0][0] < 0.2 and min(quarter[0][1], *quarter[1]) > 0.9
    ahead, (_, wide) = columns.max() - columns.min(), np.nonzero((side != np.rint(PANEL).astype(np.uint8)).any(axis=2))
    assert wide.max() - wide.min() > 1.3 * ahead


def test_one_point_and_equal_points_can_be_drawn() -> None:
    for points in ([[1.0, 2, 3]], [[1.0, 2, 3]] * 5, [[0.0, 0, 0]]):
        for view in point_views(np.array(points, dtype=np.float32)):
            assert (colours(view) != np.rint(PANEL).astype(np.uint8)).any()


def test_thumbnails_keep_their_proportions() -> None:
    assert Image.open(BytesIO(thumbnail(jpeg(900, 300), "here"))).size == (300, 100)
    with pytest.raises(BadFileError, match="here: not a whole picture"):
        thumbnail(b"no picture", "here")


def test_numbers_and_ticks() -> None:
    assert [short_number(value) for value in (0, 7, 950, 1000, 1234, 34_000, 999_960, 1.6e6, 0.25)] == [
        "0", "7", "950", "1k", "1.23k", "34k", "1M", "1.6M", "0.25"]
    for highest in (1, 2, 3, 7, 10, 99, 101, 12_345):
        top, ticks = nice_ticks(float(highest))
        assert top >= highest and ticks[0] == 0 and ticks[-1] == top and 2 <= len(ticks) <= 7 and all(tick == int(tick) for tick in ticks)
    assert nice_ticks(0.0) == (1.0, [0.0, 1.0])


def test_charts_by_hand() -> None:
    chart = histogram_of_counts({"edges": [0, 1, 2, 4], "counts": [4, 0, 2]}, "a <title>", "x & y")
    heights = [float(value) for value in re.findall(r'<rect class="bar"[^>]* height="([\d.]+)"', chart)]
    widths = [float(value) for value in re.findall(r'<rect class="bar"[^>]* width="([\d.]+)"', chart)]
    assert heights[0] == 2 * heights[1] and widths[1] + 1 == pytest.approx(2 * (widths[0] + 1), abs=0.2), "an empty bin has no bar"
    assert "a &lt;title&gt;" in chart and "x &amp; y" in chart and "<title>2 to 4: 2</title>" in chart
    checked(chart)
    log = histogram_of_counts({"edges": [1, 10, 100], "counts": [1, 1]}, "t", "x", log=True)
    assert [float(value) for value in re.findall(r'<rect class="bar"[^>]* width="([\d.]+)"', log)] == [152.0, 152.0]
    assert 'width="25.0"' in interval_bar(0.25, (0.1, 0.4)) and "M10.0 6H40.0" in interval_bar(0.25, (0.1, 0.4)) and interval_bar(None, None) == ""
    assert "width:50.00%" in bar_list([("a", 4, "bar"), ("<i>", 2, "dropped")]) and "&lt;i&gt;" in bar_list([("<i>", 2, "dropped")])
    checked(bar_list([]) + long_tail([], "t", "x") + long_tail([1], "t", "x") + long_tail([900, 3, 1, 0], "t", "x"))
    tail = long_tail([1, 900, 3], "t", "x")
    tops = [float(value) for value in re.findall(r"L[\d.]+ ([\d.]+)L", tail)]
    bottom = 190 - 36
    assert ">1k</text>" in tail and tops[0] < tops[1] < tops[2] < bottom, "a count of 1 has a height, too"
    assert (bottom - tops[1]) / (bottom - tops[2]) == pytest.approx(np.log(3 / 0.5) / np.log(1 / 0.5), abs=0.02)
