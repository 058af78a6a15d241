"""Pictures with captions: what the small CLIP of the mini profile is trained on."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from clip2x.data.captioned_boxes import CaptionedBoxes
from clip2x.data.clouds import JoinedDatasets
from clip2x.data.samplers import SampleKey
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.miniworld.captions import compose_caption
from clip2x.types import CaptionedSample

BACKGROUND_SHARE = 0.2  # of the pictures have a coloured background, the others a white one
GREY_SHARE = 0.4  # of the pictures whose caption names no colour are turned to grey


class CaptionedPictures(Dataset[CaptionedSample]):
    """The mini-world's renders (`pictures.h5`) with a caption drawn for each, on a background drawn for each.

    Layout of a split's group: `images` (N, V, S, S, 4) uint8 red, green, blue, coverage; `class_id` (N,), `colour_id` (N,); attributes of
    the file: `class_names`, `colours`, `stamp` (what made it). The pictures are read once into memory. One item is one view of one object;
    caption, background and augmentation are functions of (seed, epoch, index).
    """

    def __init__(self, root: Path, seed: int, split: str, augment: bool = True, scene_share: float = 0.0) -> None:
        """Read the pictures.

        Args:
            root: Of the mini-world.
            seed: Of every draw.
            split: `train` or `val`.
            augment: Vary the pictures.
            scene_share: Of the items show a box drawn from the split's captioned scenes (`CaptionedBoxes.draw`) instead.

        Raises:
            InputError: If the share is out of range.
            DataNotFoundError, BadFileError: If a file is absent or damaged.
        """
        if not 0 <= scene_share <= 1:
            raise InputError(f"scene_share must be from 0 to 1, got {scene_share:g}.")
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
        self.seed, self.augment, self.scene_share = seed, augment, scene_share
        self.boxes = CaptionedBoxes(root, seed, split, augment, int(self.image_size)) if scene_share else None

    def __len__(self) -> int:
        return len(self.images) * int(self.num_views)

    def __getitem__(self, key: SampleKey | int) -> CaptionedSample:
        key = SampleKey.of(key)
        rng = key.generator(self.seed)
        if self.boxes is not None and rng.random() < self.scene_share:
            return self.boxes.draw(rng)
        item, view = divmod(key.index, self.num_views)
        class_id, colour_id = int(self.class_id[item]), int(self.colour_id[item])
        caption, with_colour = compose_caption(self.class_names[class_id], self.colours[colour_id], rng)
        pixels: NDArray[np.uint32] = self.images[item, view].view(np.uint32)[..., 0]
        image = _augmented(pixels, rng, keep_colour=with_colour) if self.augment else _on_background(pixels, np.ones((3, 1, 1), dtype=np.float32))
        return {
            "image": torch.from_numpy(image), "caption": caption, "class_id": class_id, "colour_id": colour_id,
            "caption_colour": colour_id if with_colour else -1, "in_scene": False,
        }


class ValidationPictures(JoinedDatasets):
    """All pictures of a split's objects, then all boxes of its scenes, without augmentation."""

    def __init__(self, root: Path, seed: int, split: str = "val") -> None:
        pictures = CaptionedPictures(root, seed, split, augment=False)
        super().__init__([pictures, CaptionedBoxes(root, seed, split, augment=False, image_size=int(pictures.image_size))])


def _on_background(pixels: NDArray[np.uint32], background: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay a picture on a background.

    Args:
        pixels: (S, S), each red, green, blue and coverage in four bytes. One number a pixel: numpy is slow on short last axes.
        background: (3, 1, 1) in [0, 1].

    Returns:
        (3, S, S) in [0, 1].
    """
    red, green, blue, alpha = (((pixels >> shift) & 255).astype(np.float32) * np.float32(1 / 255) for shift in (0, 8, 16, 24))
    image: NDArray[np.float32] = np.stack([red, green, blue]) * alpha
    image += background * (1 - alpha)
    return image


def _augmented(pixels: NDArray[np.uint32], rng: np.random.Generator, *, keep_colour: bool) -> NDArray[np.float32]:
    """Zoom, mirror, lay on white or, some, on a colour; turn some to grey unless the caption names the colour.

    Ours: stands in for the variety of pictures on the web.
    """
    size = len(pixels)
    grid = ((np.arange(size) + 0.5) / size - 0.5) / rng.uniform(0.9, 1.15) + 0.5
    row, column = (np.floor((grid + shift) * size).astype(np.intp) for shift in rng.uniform(-0.04, 0.04, size=2))
    if rng.random() < 0.5:
        column = column[::-1]
    moved = pixels.take(row, axis=0, mode="clip").take(column, axis=1, mode="clip")
    moved[(row < 0) | (row >= size)] = 0
    moved[:, (column < 0) | (column >= size)] = 0
    background = np.ones((3, 1, 1), dtype=np.float32)
    if rng.random() < BACKGROUND_SHARE:
        background = rng.random((3, 1, 1), dtype=np.float32)
    image = _on_background(moved, background)
    if not keep_colour and rng.random() < GREY_SHARE:
        image[:] = image.mean(axis=0)
    image *= np.float32(rng.uniform(0.85, 1.1))
    return np.minimum(image, 1.0, out=image)
