"""Pictures with captions: what the small CLIP of the mini profile is trained on."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from clip2x.data.samplers import SampleKey
from clip2x.errors import BadFileError, DataNotFoundError
from clip2x.miniworld.captions import compose_caption
from clip2x.types import CaptionedSample


class CaptionedPictures(Dataset[CaptionedSample]):
    """The mini-world's renders (`pictures.h5`) with a caption drawn for each, on a background drawn for each.

    Layout of a split's group: `images` (N, V, S, S, 4) uint8 red, green, blue, coverage; `class_id` (N,), `colour_id` (N,); attributes of
    the file: `class_names`, `colours`, `stamp` (what made it). The pictures are read once into memory. One item is one view of one object;
    caption, background and augmentation are functions of (seed, epoch, index).
    """

    def __init__(self, root: Path, split: str, *, seed: int = 0, augment: bool = True) -> None:
        path = Path(root) / "pictures.h5"
        if not path.is_file():
            raise DataNotFoundError(f"{path} does not exist; run: make miniworld.")
        try:
            with h5py.File(path, "r") as file:
                self.class_names: list[str] = [str(name) for name in file.attrs["class_names"]]
                self.stamp = str(file.attrs["stamp"])
                self.colours: list[str] = [str(name) for name in file.attrs["colours"]]
                self.images: NDArray[np.uint8] = file[split]["images"][()]
                self.class_id: NDArray[np.int64] = file[split]["class_id"][()]
                self.colour_id: NDArray[np.int64] = file[split]["colour_id"][()]
        except (OSError, KeyError) as error:
            raise BadFileError(f"{path} is not a whole mini-world picture file ({error}); delete it and run: make miniworld.") from error
        self.num_views, self.image_size = self.images.shape[1:3]
        self.seed, self.augment = seed, augment

    def __len__(self) -> int:
        return len(self.images) * int(self.num_views)

    def __getitem__(self, key: SampleKey | int) -> CaptionedSample:
        index, epoch = (key.index, key.epoch) if isinstance(key, SampleKey) else (key, 0)
        rng = np.random.default_rng([self.seed, epoch, index])
        item, view = divmod(index, self.num_views)
        picture = self.images[item, view].astype(np.float32) / 255
        class_id, colour_id = int(self.class_id[item]), int(self.colour_id[item])
        caption, with_colour = compose_caption(self.class_names[class_id], self.colours[colour_id], rng)
        image = _augmented(picture, rng, keep_colour=with_colour) if self.augment else _on_background(picture, np.ones(3, dtype=np.float32))
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "caption": caption, "class_id": class_id, "colour_id": colour_id, "caption_colour": colour_id if with_colour else -1,
        }


def _on_background(picture: NDArray[np.float32], background: NDArray[np.float32]) -> NDArray[np.float32]:
    return picture[..., :3] * picture[..., 3:] + background * (1 - picture[..., 3:])


def _augmented(picture: NDArray[np.float32], rng: np.random.Generator, *, keep_colour: bool) -> NDArray[np.float32]:
    """Zoom, mirror, lay on a white (half of them), plain or shaded background; turn some to grey unless the caption names the colour.

    Ours: stands in for the variety of pictures on the web.
    """
    size = len(picture)
    zoom = rng.uniform(0.8, 1.25)
    shift = rng.uniform(-0.08, 0.08, size=2)
    grid = (np.arange(size) + 0.5) / size - 0.5
    row = np.floor((grid / zoom + shift[0] + 0.5) * size).astype(int)
    column = np.floor((grid / zoom + shift[1] + 0.5) * size).astype(int)
    if rng.random() < 0.5:
        column = column[::-1]
    outside = (row < 0) | (row >= size), (column < 0) | (column >= size)
    picture = picture[row.clip(0, size - 1)][:, column.clip(0, size - 1)].copy()
    picture[outside[0]] = 0.0
    picture[:, outside[1]] = 0.0
    background: NDArray[np.float32] = np.ones(3, dtype=np.float32)
    if rng.random() < 0.5:
        background = rng.random(3, dtype=np.float32)
        if rng.random() < 0.5:
            other = rng.random(3, dtype=np.float32)
            ramp: NDArray[np.float32] = ((np.arange(size) + 0.5) / size).astype(np.float32)[:, None, None]
            background = (background * ramp + other * (1 - ramp)).astype(np.float32)
    image = _on_background(picture, background)
    if not keep_colour and rng.random() < 0.4:
        image = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
    bright = np.float32(rng.uniform(0.7, 1.2))
    return (image * bright).clip(0.0, 1.0)
