"""Keys, shapes, units and frames of everything that travels between the parts of the package.

Object frame: right-handed, y up, ShapeNet's. Camera frame: x right, y down, z forward. Lengths in metres unless a name says otherwise.
Evaluation and encoders take clouds that are centred on their mean and scaled to a largest norm of 1 (`geometry.unit_sphere`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class ObjectDetails(TypedDict, total=False):
    """What is known of an object that a box cut out of a scene frame, beside its points.

    Attributes:
        counted_points: how many points lie in its box, before some were chosen.
        range_m: distance of the box's centre from the point sensor, metres.
        image: (3, S, S) float32 in [0, 1], what the picture that shows the object best has in the box's rectangle; black where no picture shows it.
            There where crops were asked for, as is `has_image`.
        has_image: whether a picture shows it.
    """

    counted_points: int
    range_m: float
    image: Tensor
    has_image: bool


class PointSample(TypedDict):
    """One object.

    Attributes:
        points: (N, 3) float32, object frame.
        label: index into the manifest's `class_names`; -1 for an object of none of the classes, where those were asked for.
        index: position in the data set; identifies the sample when scores of several processes are merged.

    Objects that were cut out of scenes also have what `ObjectDetails` lists.
    """

    points: Tensor
    label: int
    index: int
    counted_points: NotRequired[int]
    range_m: NotRequired[float]
    image: NotRequired[Tensor]
    has_image: NotRequired[bool]


class PointBatch(TypedDict):
    """Collated `PointSample` items: points (B, N, 3), label (B,), index (B,); of scene objects also counted_points (B,) int64, range_m (B,) float64,
    image (B, 3, S, S), has_image (B,) bool.
    """

    points: Tensor
    label: Tensor
    index: Tensor
    counted_points: NotRequired[Tensor]
    range_m: NotRequired[Tensor]
    image: NotRequired[Tensor]
    has_image: NotRequired[Tensor]


class CaptionedSample(TypedDict):
    """One picture with its caption.

    Attributes:
        image: (3, S, S) float32 in [0, 1].
        caption: the text.
        class_id, colour_id: what the caption says and what is in the picture; colour_id -1 in `caption_colour` means the caption names no colour.
        in_scene: the picture is a crop of a scene, not an object before a plain background.
    """

    image: Tensor
    caption: str
    class_id: int
    colour_id: int
    caption_colour: int
    in_scene: bool


class CaptionedBatch(TypedDict):
    """Collated `CaptionedSample` items."""

    image: Tensor
    caption: list[str]
    class_id: Tensor
    colour_id: Tensor
    caption_colour: Tensor
    in_scene: Tensor


class PairSample(TypedDict):
    """One picture of an object with the cloud that its depth views are drawn from (CLIP2Point pre-training).

    Attributes:
        points: (N, 3) float32, object frame, mean 0, largest norm 1.
        image: (3, S, S) float32 in [0, 1], the rendered view; there unless `image_features` is.
        image_features: (E,) float32, what the frozen image tower gives for that picture, raw; there in the place of `image` where they are kept.
        view: index of the camera within the view preset.
        distance: (2,) float32, camera distances of the two depth views.
        turn_deg: (2, 2) float32, what is added to azimuth and elevation of each depth view's camera, degrees.
        label, index: as in `PointSample`.
    """

    points: Tensor
    image: NotRequired[Tensor]
    image_features: NotRequired[Tensor]
    view: int
    distance: Tensor
    turn_deg: Tensor
    label: int
    index: int


class PairBatch(TypedDict):
    """Collated `PairSample` items: points (B, N, 3), image (B, 3, S, S) or image_features (B, E), view (B,), distance (B, 2),
    turn_deg (B, 2, 2), label (B,), index (B,).
    """

    points: Tensor
    image: NotRequired[Tensor]
    image_features: NotRequired[Tensor]
    view: Tensor
    distance: Tensor
    turn_deg: Tensor
    label: Tensor
    index: Tensor


class TripletSample(TypedDict):
    """One text-image-point proxy (CLIP2 pre-training).

    Attributes:
        points: (N, 3) float32, object frame, mean 0, largest norm 1.
        text_id: concept id of the vocabulary.
        image_embed: (E,) float32, CLIP embedding of the image crop, unit length; there where embeddings were asked for.
        image: (3, S, S) float32 in [0, 1], the crop; there where pictures of a size were asked for.
        score: of the detector.
        index: position in the data set.
        instance: which object it shows; samples that show the same one have the same number, whatever was drawn for them.
    """

    points: Tensor
    text_id: int
    image_embed: NotRequired[Tensor]
    image: NotRequired[Tensor]
    score: float
    index: int
    instance: int


class TripletBatch(TypedDict):
    """Collated `TripletSample` items: points (B, N, 3), text_id (B,), image_embed (B, E), image (B, 3, S, S), score, index, instance (B,)."""

    points: Tensor
    text_id: Tensor
    image_embed: NotRequired[Tensor]
    image: NotRequired[Tensor]
    score: Tensor
    index: Tensor
    instance: Tensor


@dataclass(frozen=True)
class Camera:
    """One picture of a scene frame.

    Attributes:
        name: channel, e.g. `CAM_FRONT`. file: the picture. width_px, height_px: as the data set's tables state them, else the file's own.
        intrinsics: (3, 3) float64 pinhole matrix, pixels.
        camera_from_points: (4, 4) float64 rigid transform from the frame of the points (at their own time) to this camera (at its own
            time): x right, y down, z forward, metres.
        timestamp_us: when it was taken, None where it is not known.
        depth: (H, W) float32, metres along z, 0 where there is no reading; None for a camera without depth.
    """

    name: str
    file: Path
    width_px: int
    height_px: int
    intrinsics: NDArray[np.float64]
    camera_from_points: NDArray[np.float64]
    timestamp_us: int | None = None
    depth: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Box3D:
    """An annotated object of a scene frame.

    Attributes:
        token: identifies it within the data set. name: its category as the files call it. label: index into the classes, -1 for no class.
        centre: (3,) float64, metres, frame of the points. size: (3,) float64, metres along the box's own axes.
        points_from_box: (3, 3) float64 rotation; its columns are the box's axes. num_points: as annotated, None where it is not.
    """

    token: str
    name: str
    label: int
    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    points_from_box: NDArray[np.float64]
    num_points: int | None = None


@dataclass(frozen=True)
class Box2D:
    """An annotated object in one picture: left, top, right, bottom in pixels, right and bottom exclusive; other fields as in `Box3D`."""

    name: str
    label: int
    camera: str
    box_px: tuple[float, float, float, float]


@dataclass(frozen=True)
class SceneFrame:
    """What the sensors saw at one moment.

    Attributes:
        token: identifies the frame within the data set. scene: the recording that it belongs to (bootstrap and splits go by it).
        points: (N, 3) float32, metres, in the point sensor's own frame. features: (N, C) float32 with the names `feature_names`.
        upright_from_points: (3, 3) float64 rotation to the gravity-aligned sensor frame that the manifest's `ours_from_files` starts from.
        notes: what is missing of the frame (a picture that was not downloaded, for example).
    """

    token: str
    scene: str
    points: NDArray[np.float32]
    upright_from_points: NDArray[np.float64]
    cameras: tuple[Camera, ...] = ()
    boxes: tuple[Box3D, ...] = ()
    boxes_2d: tuple[Box2D, ...] = ()
    features: NDArray[np.float32] | None = None
    feature_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Detections:
    """What a detector found in one picture, best score first.

    Attributes:
        box_px: (M, 4) float32, left, top, right, bottom inside the picture, right and bottom exclusive.
        concept_id: (M,) int64, concepts of the vocabulary; -1 for a box without a name.
        score: (M,) float32 in [0, 1].
    """

    box_px: NDArray[np.float32]
    concept_id: NDArray[np.int64]
    score: NDArray[np.float32]

    def __len__(self) -> int:
        """Count the boxes."""
        return len(self.score)


@dataclass(frozen=True)
class Proxy:
    """The points of a frame that were found to belong to one detected box.

    Attributes:
        camera: name of the camera. box_px: (4,) float32 as in `Detections`. concept_id, score: of the detection.
        point_index: (N,) int64 sorted positions in the frame's `points`.
    """

    camera: str
    box_px: NDArray[np.float32]
    concept_id: int
    score: float
    point_index: NDArray[np.int64]


@dataclass(frozen=True)
class Lifted:
    """What was lifted of one frame: `rules` counts the detections that entered (`detections`), became proxies (`proxies`), or were dropped,
    each under the one rule that dropped it.
    """

    proxies: tuple[Proxy, ...]
    rules: Counter[str]


@dataclass(frozen=True)
class Triplet:
    """One text-image-point proxy as it is stored.

    Attributes:
        points: (N, 3) float32, metres, y up, the sensor at the origin (the frame's `upright_from_points`, then the manifest's `ours_from_files`).
        text_id: concept of the vocabulary. score: of the detector. box_px: (4,) float32 as in `Detections`. camera: name.
        crop: JPEG of the picture inside the box; empty where it was not kept.
    """

    points: NDArray[np.float32]
    text_id: int
    score: float
    box_px: NDArray[np.float32]
    camera: str
    crop: bytes = b""


@dataclass(frozen=True)
class FrameTriplets:
    """All triplets of one frame; a frame without any is stored too, so that it is not looked at again.

    Attributes:
        data: `manifest/variant/split` that the frame was read from. frame: its token. scene: its recording.
        rules: see `Lifted`, with the rules of detection and cropping before and behind them.
    """

    data: str
    frame: str
    scene: str
    triplets: tuple[Triplet, ...]
    rules: Counter[str]
