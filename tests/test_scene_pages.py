"""The pictures and the page of a scene whose objects were named."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clip2x.evaluation import scene_page
from clip2x.evaluation.scene_pictures import GROUND, WIDTH_PX, _write_titles, draw_above, perspective_camera, scene_picture, with_boxes
from clip2x.evaluation.scene_view import EDGES, SceneObject, SceneView, name_colours, owners
from clip2x.geometry import project_points, transform_points
from clip2x.types import Box3D, Camera

NASTY = "</script><b>chair</b> & \"co\""


def item(number: int, name: str, centre: tuple[float, float, float], index: np.ndarray, *, share: float = 0.9, side: float = 1.0,
         named: bool = True) -> SceneObject:
    box = Box3D(str(number), name, -1, np.array(centre, dtype=np.float64), np.full(3, side), np.eye(3))
    return SceneObject(number, box, index, float(np.linalg.norm(centre)), ((name, share), ("other", 1 - share)), named)


def some_view(count: int = 3000, far: int = 5) -> SceneView:
    """Points of which 100 belong to a chair and a few to a table far off."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-5, 5, (count, 3)).astype(np.float32)
    points[:100] = rng.uniform(-0.5, 0.5, (100, 3)) + [2, 2, 0]
    points[100 : 100 + far] = rng.uniform(-0.5, 0.5, (far, 3)) + [20, 0, 0]
    objects = (item(1, NASTY, (2, 2, 0), np.arange(100)), item(2, "table", (20, 0, 0), np.arange(100, 100 + far), share=0.3, named=False))
    return SceneView(f"a {NASTY}", "about", points, (0.0, 1.0), objects, notes=("note <i>",))


def test_edges_are_the_twelve_of_a_box() -> None:
    corners = item(1, "a", (0, 0, 0), np.arange(0), side=2.0).corners
    assert len(EDGES) == 12
    assert all(np.linalg.norm(corners[first] - corners[second]) == pytest.approx(2) for first, second in EDGES)


def test_the_most_frequent_names_get_the_first_colours_and_a_point_one_owner() -> None:
    objects = [item(1, "a", (0, 0, 0), np.arange(10)), item(2, "b", (0, 0, 0), np.arange(5)), item(3, "b", (0, 0, 0), np.arange(20, 22))]
    colours = name_colours(objects)
    assert list(colours) == ["?", "b", "a"] and len(set(colours.values())) == 3
    view = SceneView("", "", np.zeros((30, 3), dtype=np.float32), (0.0, 1.0), tuple(objects))
    assert owners(view).tolist() == [1] * 5 + [0] * 5 + [-1] * 10 + [2, 2] + [-1] * 8


def test_a_name_apart_from_its_box_is_joined_to_it() -> None:
    """The second name finds its place taken and moves a line down: a line leads back to its corner, none where the name touches it."""
    picture = Image.new("RGB", (300, 120))
    first, second = item(1, "a", (0, 0, 0), np.arange(0)), item(2, "b", (0, 0, 0), np.arange(0))
    anchors = [(first, (50, 20), (50, 20)), (second, (50, 20), (52, 4))]
    _write_titles(ImageDraw.Draw(picture), anchors, {"a": (255, 0, 0), "b": (0, 255, 0)}, picture.size)
    drawn = np.asarray(picture).astype(int)
    red, green = ((drawn == colour).all(axis=-1) for colour in ([255, 0, 0], [0, 255, 0]))
    assert green[4, 52] and green[5:20, 50:54].any(axis=1).all() and green[38:62, 45:].any()
    assert not red[:19].any() and red[20:40].any()


def test_edges_are_drawn_where_the_box_projects() -> None:
    camera = Camera("c", Path(), 200, 100, np.array([[100.0, 0, 100], [0, 100, 50], [0, 0, 1]]), np.eye(4))
    view = [item(1, "a", (0, 0, 5), np.arange(0))]
    drawn = np.asarray(with_boxes(Image.new("RGB", (200, 100)), camera, view, {"a": (255, 0, 0)}))
    red = (drawn == [255, 0, 0]).all(axis=-1)
    for first, second in EDGES:
        middle = project_points((view[0].corners[first] + view[0].corners[second])[None] / 2, camera.intrinsics)[0][0]
        row, column = int(middle[1]), int(middle[0])
        assert red[row - 2 : row + 3, column - 2 : column + 3].any()
    assert not red[:15].any() and not red[:, :60].any()


def test_boxes_around_and_behind_the_camera_do_no_harm() -> None:
    camera = Camera("c", Path(), 200, 100, np.array([[100.0, 0, 100], [0, 100, 50], [0, 0, 1]]), np.eye(4))
    black = Image.new("RGB", (200, 100))
    behind = np.asarray(with_boxes(black.copy(), camera, [item(1, "a", (0, 0, -5), np.arange(0))], {"a": (255, 0, 0)}))
    assert not behind.any()
    around = np.asarray(with_boxes(black.copy(), camera, [item(1, "a", (0.2, 0, 0), np.arange(0), side=4.0)], {"a": (255, 0, 0)}))
    assert around.any()


def test_the_view_in_perspective_holds_everything_and_stands_upright() -> None:
    view = some_view()
    camera = perspective_camera(view, 800, 600)
    corners = np.concatenate([thing.corners for thing in view.objects])
    pixels, depth = project_points(transform_points(camera.camera_from_points, corners), camera.intrinsics)
    assert (depth > 0).all() and (pixels > 0).all() and (pixels < [800, 600]).all()
    rotation = camera.camera_from_points[:3, :3]
    assert np.linalg.det(rotation) == pytest.approx(1) and rotation[0, 2] == pytest.approx(0) and rotation[1, 2] < 0


def test_from_above_ahead_is_up_and_right_is_right() -> None:
    points = np.random.default_rng(1).uniform(-1, 1, (500, 3)).astype(np.float32)
    for ahead, place in (((0.0, 1.0), (4.0, 0.0, 0.0)), ((1.0, 0.0), (0.0, -4.0, 0.0))):
        view = SceneView("", "", points, ahead, (item(1, "a", place, np.arange(0)),))
        drawn = np.asarray(draw_above(view, {"a": (255, 0, 0)}))
        rows, columns = np.nonzero((drawn == [255, 0, 0]).all(axis=-1))
        assert columns.mean() > 0.75 * drawn.shape[1] and abs(rows.mean() / drawn.shape[0] - 0.5) < 0.15


def test_a_scene_without_pictures_is_drawn_whole() -> None:
    drawn = np.asarray(scene_picture(some_view()))
    assert drawn.shape[1] == WIDTH_PX and (drawn != GROUND).any(axis=-1).mean() > 0.01


class Page(HTMLParser):
    """Collects tags, attributes and the scripts' text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_holds_all_it_needs_and_takes_no_name_for_markup() -> None:
    html = scene_page.scene_page(some_view())
    page = Page(html)
    assert not re.search(r"https?://|@import|url\(|\bsrc=|\bfetch\(", html), "no network"
    assert [tag for tag, _ in page.tags].count("script") == 2 and not {"b", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert any(NASTY in words for words in page.text), "names are shown as they are"
    data = json.loads(next(words for words in page.text if words.startswith('{"points"')))
    assert data["objects"][0]["name"] == NASTY and data["objects"][1]["name"] == "?"


def test_everything_on_the_page_can_be_reached_by_keyboard() -> None:
    page = Page(scene_page.scene_page(some_view()))
    names = [tag for tag, _ in page.tags]
    canvas = dict(page.tags)["canvas"]
    assert canvas["tabindex"] == "0" and "list" in (canvas["aria-label"] or "")
    assert names.count("button") == len(scene_page.BUTTONS) + 2, "one a tool and one an object"
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if "data-do" in attributes)
    script = scene_page.SCRIPT.read_text()
    for name, _, _ in scene_page.BUTTONS:
        assert re.search(rf'(?m)(^|[\s,{{]){re.escape(name) if "-" not in name else chr(34) + name + chr(34)}:', script), f"{name} does something"


def test_points_of_the_page_are_those_of_the_scene_and_none_of_the_few_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_page, "MOST_POINTS", 400)
    view = some_view()
    data = scene_page.page_data(view)
    packed = np.frombuffer(base64.b64decode(data["points"]), dtype="<i2").reshape(-1, 3)
    owner = np.frombuffer(base64.b64decode(data["owner"]), dtype="<i2")
    points = packed * data["step"] + data["middle"]
    assert len(points) == 400 and (owner == 1).sum() == 5 and (owner == 0).sum() == 100
    distance = np.abs(points[:, None] - view.points[None]).max(axis=-1).min(axis=1)
    assert distance.max() <= data["step"] * 0.51
