"""Pictures of a scene whose objects were named: its own pictures with the boxes, a view in perspective, the view from above, the list of names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clip2x.data.box_projection import project_boxes
from clip2x.data.images import read_camera_picture
from clip2x.evaluation.scene_view import EDGES, SceneObject, SceneView, name_colours, owners, plan_bounds
from clip2x.geometry import project_points, rigid_transform, transform_points
from clip2x.types import Camera

Colour = tuple[int, int, int]
Colours = Mapping[str, Colour]
Place = tuple[float | int, float | int]

WIDTH_PX = 1600  # of the whole picture
ABOVE_PX = 1000  # width of the view from above; the list takes the rest
MOST_ASPECT = 1.0  # largest height over width of the view from above
GROUND: Colour = (20, 24, 31)  # the same dark ground as in the report on proxies
TEXT: Colour = (232, 236, 241)
SOFT: Colour = (154, 165, 177)
FONT_PX = 15
APART_PX = 4  # a name farther from its box than this is joined to it by a line
NEAR = 0.2  # metres: edges of boxes are cut there
AZIMUTH_DEG, ELEVATION_DEG, FIELD_DEG = 25.0, 35.0, 45.0  # of the view in perspective: from behind the sensor to the left, from above. Ours
DARKEST, BRIGHTEST = 80.0, 180.0  # grey of low and high points


def scene_picture(view: SceneView) -> Image.Image:
    """Draw all of it.

    Raises:
        DataNotFoundError, BadFileError: If a picture of the scene cannot be read.
    """
    colours = name_colours(view.objects)
    columns = {0: 1, 1: 2, 2: 3}.get(len(view.cameras), 3)
    width = WIDTH_PX // columns
    panels: list[Image.Image] = []
    for camera in view.cameras:
        picture = Image.fromarray(read_camera_picture(camera))
        picture = picture.resize((width, round(width * picture.height / picture.width)), Image.Resampling.LANCZOS)
        panels.append(with_boxes(picture, _scaled(camera, width / camera.width_px), view.objects, colours, camera.name))
    if len(panels) < 3:  # a street's six pictures show all of it
        camera = perspective_camera(view, width, panels[0].height if panels else width // 2)
        panels.append(with_boxes(draw_points(view, camera, colours), camera, view.objects, colours, "from the side and above"))
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    above = draw_above(view, colours)
    bottom = [above, draw_list(view, colours, WIDTH_PX - above.width, above.height)]
    heights = [max(panel.height for panel in row) for row in (*rows, bottom)]
    whole = Image.new("RGB", (WIDTH_PX, sum(heights)), GROUND)
    for place, row in enumerate((*rows, bottom)):
        left = 0
        for panel in row:
            whole.paste(panel, (left, sum(heights[:place])))
            left += panel.width
    return whole


def perspective_camera(view: SceneView, width_px: int, height_px: int) -> Camera:
    """Place a camera that sees the whole scene from above, behind the sensor; it has no file."""
    low, high = plan_bounds(view)
    radius = float(np.linalg.norm(high - low)) / 2
    turn, rise = math.radians(AZIMUTH_DEG), math.radians(ELEVATION_DEG)
    ahead, right = np.array([*view.ahead, 0.0]), np.array([view.ahead[1], -view.ahead[0], 0.0])
    level = math.cos(turn) * ahead + math.sin(turn) * right
    forward = math.cos(rise) * level - math.sin(rise) * np.array([0.0, 0.0, 1.0])
    across = np.array([level[1], -level[0], 0.0])
    rotation = np.stack([across, np.cross(forward, across), forward])
    focal = 0.5 * height_px / math.tan(math.radians(FIELD_DEG) / 2)
    eye = (low + high) / 2 - forward * radius / math.sin(math.radians(FIELD_DEG) / 2) * 0.8
    intrinsics = np.array([[focal, 0.0, width_px / 2], [0.0, focal, height_px / 2], [0.0, 0.0, 1.0]])
    return Camera("perspective", Path(), width_px, height_px, intrinsics, rigid_transform(rotation, -rotation @ eye))


def draw_points(view: SceneView, camera: Camera, colours: Colours) -> Image.Image:
    """Draw the points as a camera sees them: in the colours of the pictures where these are known, else grey, objects in the colours of names."""
    pixels, depth = project_points(transform_points(camera.camera_from_points, view.points), camera.intrinsics)
    shown = np.flatnonzero((depth > NEAR) & np.isfinite(pixels).all(axis=1))
    order = shown[np.argsort(-depth[shown], kind="stable")]
    return _splat(pixels[order], point_colours(view, colours)[order], camera.width_px, camera.height_px, 2)


def draw_above(view: SceneView, colours: Colours) -> Image.Image:
    """Draw points and boxes from above, with a bar of metres; what hangs above all boxes (a ceiling, tree tops) is left out."""
    low, high = plan_bounds(view)
    ahead, right = np.array(view.ahead), np.array([view.ahead[1], -view.ahead[0]])
    ends = np.array([[low @ [*axis, 0], high @ [*axis, 0]] for axis in (right, ahead)])
    ends.sort(axis=1)
    middle, sides = ends.mean(axis=1), np.maximum(ends[:, 1] - ends[:, 0], 0.5) * 1.06
    scale = min(ABOVE_PX / sides[0], ABOVE_PX * MOST_ASPECT / sides[1])  # pixels a metre
    height_px = max(round(sides[1] * scale), ABOVE_PX // 2)  # the list needs some room, too

    def to_pixels(points: NDArray[np.floating]) -> NDArray[np.float64]:
        across, along = points[:, :2] @ right - middle[0], points[:, :2] @ ahead - middle[1]
        return np.stack([ABOVE_PX / 2 + across * scale, height_px / 2 - along * scale], axis=1)

    points = view.points
    ceiling = max(item.corners[:, 2].max() for item in view.objects) + 0.3 if view.objects else np.inf
    order = np.argsort(points[:, 2], kind="stable")
    order = order[points[order, 2] <= ceiling]
    picture = _splat(to_pixels(points[order]), point_colours(view, colours, pictures=False)[order], ABOVE_PX, height_px, 2)
    pen = ImageDraw.Draw(picture)
    anchors = []
    for item in view.objects:
        outline = to_pixels(item.corners[[0, 2, 6, 4]])
        pen.polygon([tuple(corner) for corner in outline.tolist()], outline=colours[item.name], width=2)
        x, y = outline[np.argmax(outline[:, 0] - outline[:, 1])].tolist()  # the corner that lies farthest to the upper right
        anchors.append((item, (x, y), (x, y)))
    _write_titles(pen, anchors, colours, picture.size)
    origin = to_pixels(np.zeros((1, 3)))[0]
    seen = bool((origin > 0).all() and origin[0] < ABOVE_PX and origin[1] < height_px)
    if seen:
        x, y = origin.tolist()
        pen.polygon([(x, y - 9), (x - 6, y + 6), (x + 6, y + 6)], outline=TEXT, width=2)
    bar = _round_length(sides[0] / 5)
    pen.line([(20, height_px - 22), (20 + bar * scale, height_px - 22)], fill=TEXT, width=3)
    _text(pen, (20, height_px - 45), f"{bar:g} m, from above" + "; the triangle is the sensor" * seen, TEXT)
    return picture


def draw_list(view: SceneView, colours: Colours, width_px: int, height_px: int) -> Image.Image:
    """List the objects with names, probabilities, points and distance, as many as there is room for; what annotations call them, if they do."""
    font, line = _font(), FONT_PX + 6
    lines: list[tuple[str, Colour, str]] = []
    for item in view.objects:
        best, share = item.labels[0]
        truth = "" if item.truth is None or item.right else f"  {'annotated' if item.right is None else 'WRONG, annotated'}: {item.truth}"
        words = f"{best if item.named else f'? ({best})'} {100 * share:.0f} %  {len(item.point_index):,} pts, {item.range_m:.1f} m{truth}"
        lines.append((str(item.number), colours[item.name], words))
    room = (height_px - 40) // line - 2
    if len(lines) > room:
        lines = [*lines[: room - 1], ("", GROUND, f"and {len(lines) - room + 1} more, see scene.html")]
    picture = Image.new("RGB", (width_px, height_px), GROUND)
    pen = ImageDraw.Draw(picture)
    pen.text((16, 12), _fitting(f"{view.title}", font, width_px - 24), fill=TEXT, font=font)
    pen.text((16, 12 + line), _fitting(view.about, font, width_px - 24), fill=SOFT, font=font)
    for place, (number, colour, words) in enumerate(lines):
        y = 20 + line * (place + 2)
        pen.rectangle((16, y + 3, 28, y + 15), fill=colour)
        pen.text((34, y), number, fill=TEXT, font=font)
        pen.text((66, y), _fitting(words, font, width_px - 74), fill=TEXT, font=font)
    return picture


def with_boxes(picture: Image.Image, camera: Camera, objects: Sequence[SceneObject], colours: Colours, title: str = "") -> Image.Image:
    """Draw the boxes of objects into a picture of a camera, the farthest first."""
    pen = ImageDraw.Draw(picture)
    anchors: list[tuple[SceneObject, Place, Place]] = []
    rectangles = project_boxes([item.box for item in objects], camera)
    for item, rectangle in sorted(zip(objects, rectangles, strict=True), key=lambda pair: -pair[0].range_m):
        if rectangle is None:
            continue
        corners = transform_points(camera.camera_from_points, item.corners)
        for first, second in EDGES:
            ends = _in_front(corners[first], corners[second])
            if ends is not None:
                pen.line([tuple(end) for end in project_points(ends, camera.intrinsics)[0].tolist()], fill=colours[item.name], width=2)
        left, top = float(rectangle[0]), float(rectangle[1])
        anchors.append((item, (left, top - FONT_PX - 5), (left, top)))
    _write_titles(pen, anchors[::-1], colours, picture.size)
    if title:
        _text(pen, (6, picture.height - FONT_PX - 9), title, SOFT)
    return picture


def point_colours(view: SceneView, colours: Colours, *, pictures: bool = True) -> NDArray[np.uint8]:
    """Choose a colour for every point, (N, 3): of the pictures, or grey by height and of the names."""
    height = view.points[:, 2]
    low, high = np.percentile(height, [2, 98])
    grey = DARKEST + (BRIGHTEST - DARKEST) * ((height - low) / max(high - low, 1e-6)).clip(0, 1)
    chosen = np.repeat(grey[:, None], 3, axis=1)
    own = owners(view)
    of_objects = np.array([*(colours[item.name] for item in view.objects), (0, 0, 0)], dtype=np.float64)
    chosen[own >= 0] = of_objects[own[own >= 0]]
    if pictures and view.colours is not None and view.coloured is not None:
        chosen[view.coloured] = view.colours[view.coloured]
    return chosen.round().astype(np.uint8)


def _splat(pixels: NDArray[np.float64], colours: NDArray[np.uint8], width_px: int, height_px: int, size: int) -> Image.Image:
    """Paint squares, the last ones over those before."""
    canvas = np.empty((height_px, width_px, 3), dtype=np.uint8)
    canvas[:] = GROUND
    corner = np.floor(pixels).astype(np.int64)
    offsets = np.array([(column, row) for row in range(size) for column in range(size)])
    place = (corner[:, None] + offsets).reshape(-1, 2)
    inside = (place >= 0).all(axis=1) & (place < [width_px, height_px]).all(axis=1)
    canvas[place[inside, 1], place[inside, 0]] = np.repeat(colours, len(offsets), axis=0)[inside]
    return Image.fromarray(canvas)


def _write_titles(pen: ImageDraw.ImageDraw, anchors: Sequence[tuple[SceneObject, Place, Place]], colours: Colours, size: tuple[int, int]) -> None:
    """Write names beside boxes, the first ones first; where a name finds no room its number stands, or nothing.

    A name that stands apart from its box is joined to it by a line.

    Args:
        anchors: Of each object, the upper left corner of its name where there is room, and the corner of its box that the name belongs to.
    """
    font = _font()
    taken: list[tuple[float, float, float, float]] = []
    placed: list[tuple[SceneObject, str, tuple[float, float, float, float], Place]] = []
    for item, (x, y), tip in anchors:
        found = False
        for words in (item.title, str(item.number)):
            wide = pen.textlength(words, font=font) + 6
            for shift_x, shift_y in ((0, 0), (0, FONT_PX + 5), (-wide, 0), (0, -FONT_PX - 5), (-wide, FONT_PX + 5), (-wide / 2, 2 * FONT_PX + 10)):
                left = min(max(x + shift_x, 0), size[0] - wide)
                top = min(max(y + shift_y, 0), size[1] - FONT_PX - 5)
                box = (left, top, left + wide, top + FONT_PX + 4)
                if all(box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1] for other in taken):
                    taken.append(box)
                    placed.append((item, words, box, tip))
                    found = True
                    break
            if found:
                break
    for item, _, box, tip in placed:
        nearest = min(max(tip[0], box[0]), box[2]), min(max(tip[1], box[1]), box[3])
        if math.dist(tip, nearest) > APART_PX:
            pen.line([tip, nearest], fill=colours[item.name], width=1)
    for item, words, box, _ in placed:
        pen.rectangle(box, fill=GROUND, outline=colours[item.name])
        pen.text((box[0] + 3, box[1]), words, fill=TEXT, font=font)


def _text(pen: ImageDraw.ImageDraw, place: Place, words: str, colour: Colour) -> None:
    """Write on a dark ground, so that it can be read on any picture."""
    wide = pen.textlength(words, font=_font())
    pen.rectangle((place[0] - 4, place[1] - 2, place[0] + wide + 4, place[1] + FONT_PX + 4), fill=GROUND)
    pen.text(place, words, fill=colour, font=_font())


def _fitting(words: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> str:
    """Cut a line to a width."""
    length: Callable[[str], float] = font.getlength
    while words and length(words) > width_px:
        words = words[:-2] + "…" if words.endswith("…") else words[:-1] + "…"
    return words


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_PX)


def _in_front(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Cut a line of the camera frame to what lies in front of the camera, (2, 3); None if nothing does."""
    if first[2] < NEAR and second[2] < NEAR:
        return None
    if first[2] >= NEAR and second[2] >= NEAR:
        return np.stack([first, second])
    near = first + (NEAR - first[2]) / (second[2] - first[2]) * (second - first)
    return np.stack([near, first if first[2] >= NEAR else second])


def _scaled(camera: Camera, factor: float) -> Camera:
    """Give the camera of a picture that was scaled."""
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2] *= factor
    return replace(camera, width_px=round(camera.width_px * factor), height_px=round(camera.height_px * factor), intrinsics=intrinsics)


def _round_length(about: float) -> float:
    """Find the largest of 1, 2, 5, 10, ... that is no longer."""
    power = 10.0 ** math.floor(math.log10(max(about, 0.01)))
    return max(step * power for step in (1, 2, 5) if step * power <= max(about, 0.01) * 1.0001)
