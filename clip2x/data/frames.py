"""Scene frames (a LiDAR sweep with its pictures, an RGB-D picture) and the labelled objects that annotated boxes cut out of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from clip2x.data.base import PublishedData
from clip2x.data.box_projection import best_view
from clip2x.data.images import cut, read_camera_picture, square_picture
from clip2x.errors import BadFileError, InputError
from clip2x.geometry import points_in_box
from clip2x.manifest import Manifest
from clip2x.types import Box3D, Camera, ObjectDetails, SceneFrame


class FrameDataset(PublishedData, Dataset[SceneFrame]):
    """The frames of a split. A subclass fills `tokens` in its constructor and reads one frame.

    Pictures are not decoded: a `Camera` names its file, `clip2x.data.images.read_image` reads it.
    """

    tokens: Sequence[str]

    def __init__(self, manifest: Manifest | str, *, root: Path, variant: str | None = None, split: str) -> None:
        super().__init__(manifest, root, variant, split)

    @abstractmethod
    def frame(self, token: str) -> SceneFrame:
        """Read one frame.

        Raises:
            BadFileError, DataNotFoundError: If its points or its calibration cannot be read; a missing picture is a note of the frame.
        """

    @abstractmethod
    def picture_keys(self, positions: Sequence[int]) -> Iterator[str]:
        """Name the pictures of some frames that are there, as paths below `folder`; no file is opened."""

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.tokens)

    def __getitem__(self, position: int) -> SceneFrame:
        return self.frame(self.tokens[position])


def crop_box(frame: SceneFrame, box: Box3D, where: Path | str) -> NDArray[np.floating[Any]]:
    """Cut an object out of a frame: no enlargement of the box, and its heading is not used.

    Returns:
        (M, 3) float32, metres, gravity-aligned sensor frame (the one that `ours_from_files` starts from).

    Raises:
        BadFileError: If no point lies in the box; names `where`.
    """
    inside = points_in_box(frame.points, box.centre, box.size, box.points_from_box)
    if not inside.any():
        raise BadFileError(f"{where}: no point lies in the box {box.token} ({box.name}).")
    points: NDArray[np.float32] = (frame.points[inside] @ frame.upright_from_points.T).astype(np.float32)
    return points


class ObjectPictures:
    """Cuts objects out of the pictures of frames; what was read last is kept, since objects are often asked for frame by frame.

    Args:
        size: Side of the crops, pixels.

    Raises:
        InputError: If the size is below 1.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise InputError(f"crops must be at least 1 pixel wide, got {size}.")
        self.size = size
        self._pictures: dict[Path, NDArray[np.uint8]] = {}

    def crop(self, box: Box3D, points: NDArray[np.floating[Any]], cameras: Sequence[Camera]) -> Tensor | None:
        """Cut one object out of the picture that shows it best (see `best_view`); None if none does.

        The rectangle is that around the visible part of the annotated 3-D box, no margin: a drawn 2-D box would be known for few objects.

        Raises:
            DataNotFoundError, BadFileError: If the picture cannot be read.
        """
        view = best_view(box, points, cameras)
        if view is None:
            return None
        camera, rectangle = view
        if camera.file not in self._pictures:
            here = {other.file for other in cameras}
            self._pictures = {file: picture for file, picture in self._pictures.items() if file in here}
            self._pictures[camera.file] = read_camera_picture(camera)
        return square_picture(cut(self._pictures[camera.file], rectangle), self.size)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pictures behind when this is sent to another process."""
        return {**self.__dict__, "_pictures": {}}


def object_details(box: Box3D, counted_points: int, crop: Tensor | None, size: int | None) -> ObjectDetails:
    """Put together what is known of an object beside its points.

    Args:
        box: Its box, the sensor at the origin.
        counted_points: How many points lie in it.
        crop: See `ObjectPictures.crop`.
        size: Of crops, pixels; None where none were asked for.
    """
    details = ObjectDetails(counted_points=counted_points, range_m=float(np.linalg.norm(box.centre)))
    if size is not None:
        details["image"], details["has_image"] = torch.zeros(3, size, size) if crop is None else crop, crop is not None
    return details
