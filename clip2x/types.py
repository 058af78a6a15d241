"""Keys, shapes, units and frames of everything that travels between the parts of the package.

Object frame: right-handed, y up, ShapeNet's. Camera frame: x right, y down, z forward. Lengths in metres unless a name says otherwise.
Evaluation and encoders take clouds that are centred on their mean and scaled to a largest norm of 1 (`geometry.unit_sphere`).
"""

from __future__ import annotations

from typing import TypedDict

from torch import Tensor


class PointSample(TypedDict):
    """One object.

    points: (N, 3) float32, object frame.
    label: index into the manifest's `class_names`.
    index: position in the data set; identifies the sample when scores of several processes are merged.
    """

    points: Tensor
    label: int
    index: int


class PointBatch(TypedDict):
    """Collated `PointSample`s: points (B, N, 3), label (B,), index (B,)."""

    points: Tensor
    label: Tensor
    index: Tensor


class CaptionedSample(TypedDict):
    """One picture with its caption.

    image: (3, S, S) float32 in [0, 1].
    caption: the text.
    class_id, colour_id: what the caption says and what is in the picture; colour_id -1 in `caption_colour` means the caption names no colour.
    """

    image: Tensor
    caption: str
    class_id: int
    colour_id: int
    caption_colour: int


class CaptionedBatch(TypedDict):
    """Collated `CaptionedSample`s."""

    image: Tensor
    caption: list[str]
    class_id: Tensor
    colour_id: Tensor
    caption_colour: Tensor
