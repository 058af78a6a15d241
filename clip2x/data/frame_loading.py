"""Frames of several data sets with their pictures, for a pass over all of them that can be interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.data import Dataset

from clip2x.data.entries import spread
from clip2x.data.faults import REPORTED
from clip2x.data.frames import FrameDataset
from clip2x.data.images import read_camera_picture
from clip2x.errors import DataNotFoundError
from clip2x.types import SceneFrame

FrameName = tuple[str, str]
"""`manifest/variant/split` and the token of a frame."""


@dataclass(frozen=True)
class LoadedFrame:
    """A frame as it reaches the process that works on it.

    index: position in all frames. data: the set's name. token: the frame's.
    frame: None if it could not be read; `problem` then says why.
    pictures: camera -> (H, W, 3) uint8, where pictures are decoded in advance. Tensors, which travel between processes without a copy.
    keys: camera -> the picture's path below the data set's folder, as detection files name it.
    missing: how many cameras of the data set have no picture in this frame.
    """

    index: int
    data: str
    token: str
    frame: SceneFrame | None
    pictures: dict[str, Tensor] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    missing: int = 0


class LoadedFrames(Dataset[list[LoadedFrame]]):
    """All frames of some data sets, one set behind the other, less those that are done; they are asked for several at a time.

    Attributes:
        with_pixels: Decode the pictures too.
        notes: What is missing of the data sets.
    """

    def __init__(self, sets: Sequence[FrameDataset], names: Sequence[str], *, limit: int | None = None, skip_bad: bool = False) -> None:
        """Join data sets.

        Args:
            sets: The data sets.
            names: Of each, `manifest/variant/split`.
            limit: Use only so many frames of each set, spread evenly over it.
            skip_bad: Give a frame that cannot be read as a `LoadedFrame` with its problem; else the error is raised.
        """
        self.sets, self.names, self.skip_bad, self.with_pixels = tuple(sets), tuple(names), skip_bad, True
        self.notes = [note for data in sets for note in data.notes]
        self._all = [(number, position) for number, data in enumerate(sets) for position in spread(len(data), limit)]
        self._todo = self._all

    def leave_out(self, done: AbstractSet[FrameName]) -> None:
        """Go only through frames that are not among those; call it in every process with the same ones."""
        self._todo = [(number, position) for number, position in self._all
                      if (self.names[number], self.sets[number].tokens[position]) not in done]

    @property
    def total(self) -> int:
        """Count all frames, those that are done too."""
        return len(self._all)

    def picture_keys(self) -> Iterator[str]:
        """Name the pictures of all frames as detection files do: paths below the data set's folder."""
        for number, data in enumerate(self.sets):
            yield from data.picture_keys([position for own, position in self._all if own == number])

    def __len__(self) -> int:
        return len(self._todo)

    def __getitem__(self, indices: Sequence[int]) -> list[LoadedFrame]:
        return [self._load(index) for index in indices]

    def batches(self, size: int, *, rank: int = 0, world_size: int = 1) -> list[list[int]]:
        """Share the frames out: the batches of one process, at least one even if it is empty (Lightning leaves out the end of a loop without)."""
        own = range(rank, len(self), world_size)
        return [list(own[first : first + size]) for first in range(0, len(own), size)] or [[]]

    def _load(self, index: int) -> LoadedFrame:
        number, position = self._todo[index]
        data, name = self.sets[number], self.names[number]
        token = data.tokens[position]
        try:
            frame = data.frame(token)
            if not frame.cameras:
                raise DataNotFoundError(f"{data.folder}: frame {token} has no picture ({' '.join(frame.notes) or 'no camera'}).")
            keys = {camera.name: camera.file.relative_to(data.folder).as_posix() for camera in frame.cameras}
            pictures = {camera.name: torch.from_numpy(read_camera_picture(camera).copy()) for camera in frame.cameras} if self.with_pixels else {}
        except REPORTED as error:
            if not self.skip_bad:
                raise
            return LoadedFrame(index, name, token, None, problem=" ".join(str(error).split()))
        return LoadedFrame(index, name, token, frame, pictures, keys, missing=len(data.manifest.sensors) - 1 - len(frame.cameras))
