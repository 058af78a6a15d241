"""Annotated objects of a scene frame as reports need them: names, rectangles in the pictures, points; and the boxes of a perfect detector."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.data.box_projection import Rectangle, in_picture, project_boxes
from clip2x.evaluation.metrics import plain_name
from clip2x.geometry import box_iou, inverse_transform, points_in_box, rigid_transform
from clip2x.manifest import Manifest
from clip2x.types import Box2D, Box3D, Detections, SceneFrame


@dataclass(frozen=True)
class AnnotatedObject:
    """An object that people drew a 3-D box around.

    position: in the frame's `boxes`. name: its class for people. names: all words that a text may name it by, plain.
    range_m: distance of the box's centre from the point sensor. num_points: as annotated, else counted.
    counted_points: how many of the frame's points lie in the box. rectangles: by camera, where it can be seen if nothing hides it.
    """

    position: int
    name: str
    names: frozenset[str]
    range_m: float
    num_points: int
    counted_points: int
    rectangles: Mapping[str, Rectangle]


class ObjectNames:
    """Which class an annotated category belongs to, and which words name it.

    A category of the variant has its class; of another variant of the manifest, the class there; any other one is named by the last part of
    its own name, with spaces for underscores. Further words come from the manifest's `other_names`.
    """

    def __init__(self, manifest: Manifest, variant: str) -> None:
        self.manifest, self.classes = manifest, manifest.classes(variant)
        variants = [*(name for name in manifest.variants if name != variant), variant]  # the last one wins
        self._class_of = {category: manifest.classes(name)[label]
                          for name in variants for category, label in manifest.labels_of_categories(name).items()}
        self._known: dict[str, tuple[str, frozenset[str]]] = {}

    def of(self, category: str) -> tuple[str, frozenset[str]]:
        """Look up the class of a category and all its words, plain."""
        if category not in self._known:
            name = self._class_of.get(category) or plain_name(category.rpartition(".")[2])
            self._known[category] = name, frozenset(plain_name(word) for word in (name, *self.manifest.other_names.get(name, ())))
        return self._known[category]

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Sort classes: those of the variant in label order, then the others by name."""
        place = {name: label for label, name in enumerate(self.classes)}
        return sorted(set(names), key=lambda name: (place.get(name, len(place)), name))


def plain_words(words: Iterable[str]) -> frozenset[str]:
    """Write the words of a concept plain; what stands in brackets (`car_(automobile)`, as LVIS writes) does not count."""
    return frozenset(plain_name(re.sub(r"\([^)]*\)", " ", word)) for word in words)


def annotated_objects(frame: SceneFrame, names: ObjectNames) -> list[AnnotatedObject]:
    """List the annotated objects of a frame; categories that the manifest excludes (walls) are none.

    The rectangle of an object is that of its annotated 2-D box where the frame has one (matched by name, best overlap first, each used
    once), else the smallest one around the visible part of its 3-D box.
    """
    kept = [position for position, box in enumerate(frame.boxes) if box.name not in names.manifest.excluded]
    boxes = [frame.boxes[position] for position in kept]
    counted = points_in_boxes(frame.points, boxes).sum(axis=0)
    projected = {camera.name: project_boxes(boxes, camera) for camera in frame.cameras}
    for camera, rectangles in projected.items():
        _take_drawn(rectangles, boxes, [drawn for drawn in frame.boxes_2d if drawn.camera == camera])
    return [AnnotatedObject(position, *names.of(box.name), float(np.linalg.norm(box.centre)),
                            int(count if box.num_points is None else box.num_points), int(count),
                            {camera: found for camera, rectangles in projected.items() if (found := rectangles[row]) is not None})
            for row, (position, box, count) in enumerate(zip(kept, boxes, counted, strict=True))]


def perfect_boxes(frame: SceneFrame, names: ObjectNames,
                  least_points: int = 1) -> tuple[dict[str, Detections], tuple[str, ...], list[AnnotatedObject]]:
    """Make the detections of a detector that knows the annotations: each object once, in its best camera, with score 1.

    The best camera is the one in whose picture most of the object's points lie; among equals, the one with the largest rectangle.

    Args:
        frame: With boxes.
        names: Of its classes.
        least_points: Objects with fewer points are not detected: a detector does not see what is hidden. Ours.

    Returns:
        Detections by camera, every camera there; the class names that their concept ids count; the objects that were detected.
    """
    objects = [item for item in annotated_objects(frame, names) if item.num_points >= least_points and item.rectangles]
    concepts = tuple(names.ordered(item.name for item in objects))
    inside = points_in_boxes(frame.points, [frame.boxes[item.position] for item in objects])
    visible = {camera.name: in_picture(frame.points, camera) for camera in frame.cameras}
    chosen: dict[str, list[AnnotatedObject]] = {camera.name: [] for camera in frame.cameras}
    for item, own in zip(objects, inside.T, strict=True):
        worth = {camera: (int((own & visible[camera]).sum()), float(np.prod(found[2:] - found[:2]))) for camera, found in item.rectangles.items()}
        chosen[max(worth, key=worth.__getitem__)].append(item)
    found = {camera: Detections(np.array([item.rectangles[camera] for item in items], dtype=np.float32).reshape(-1, 4),
                                np.array([concepts.index(item.name) for item in items], dtype=np.int64),
                                np.ones(len(items), dtype=np.float32)) for camera, items in chosen.items()}
    return found, concepts, objects


def turned_frame(frame: SceneFrame, turned_from_points: NDArray[np.floating[Any]]) -> SceneFrame:
    """Turn the points, boxes and cameras of a frame about the sensor. Triplets are stored in a turned frame; so they meet their boxes.

    Args:
        frame: A frame.
        turned_from_points: (3, 3) rotation; for stored triplets the manifest's `ours_from_files` @ the frame's `upright_from_points`.
    """
    rotation = np.asarray(turned_from_points, dtype=np.float64)
    back = inverse_transform(rigid_transform(rotation, np.zeros(3)))
    return replace(
        frame, points=(frame.points @ rotation.T).astype(np.float32), upright_from_points=frame.upright_from_points @ rotation.T,
        cameras=tuple(replace(camera, camera_from_points=camera.camera_from_points @ back) for camera in frame.cameras),
        boxes=tuple(replace(box, centre=rotation @ box.centre, points_from_box=rotation @ box.points_from_box) for box in frame.boxes))


def points_in_boxes(points: NDArray[np.floating[Any]], boxes: Sequence[Box3D]) -> NDArray[np.bool_]:
    """Say which points lie in which boxes, (N, B). Points are sorted along x once, so that a box looks at a slice of them only."""
    inside = np.zeros((len(points), len(boxes)), dtype=bool)
    order = np.argsort(points[:, 0], kind="stable")
    sorted_points = points[order]
    reach = np.array([np.abs(box.points_from_box[0]) @ box.size / 2 for box in boxes]) + 1e-3  # a millimetre for the rounding
    middle = np.array([box.centre[0] for box in boxes])
    first, last = np.searchsorted(sorted_points[:, 0], middle - reach), np.searchsorted(sorted_points[:, 0], middle + reach)
    for column, box in enumerate(boxes):
        part = slice(first[column], last[column])
        inside[order[part], column] = points_in_box(sorted_points[part], box.centre, box.size, box.points_from_box)
    return inside


def _take_drawn(rectangles: list[Rectangle | None], boxes: Sequence[Box3D], drawn: Sequence[Box2D]) -> None:
    """Replace projected rectangles by drawn ones of the same name, best overlap first."""
    rows = [row for row, rectangle in enumerate(rectangles) if rectangle is not None]
    if not rows or not drawn:
        return
    overlaps = box_iou(np.array([rectangles[row] for row in rows]), np.array([box.box_px for box in drawn]))
    overlaps[np.array([[boxes[row].name != box.name for box in drawn] for row in rows])] = 0
    while overlaps.max() > 0:
        row, column = divmod(int(overlaps.argmax()), len(drawn))
        rectangles[rows[row]] = np.array(drawn[column].box_px, dtype=np.float64)
        overlaps[row], overlaps[:, column] = 0, 0
