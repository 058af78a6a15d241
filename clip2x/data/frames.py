"""Scene frames (a LiDAR sweep with its pictures, an RGB-D picture) and the labelled objects that annotated boxes cut out of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from clip2x.data.base import PublishedData
from clip2x.errors import BadFileError
from clip2x.geometry import points_in_box
from clip2x.manifest import Manifest
from clip2x.types import Box3D, SceneFrame


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
