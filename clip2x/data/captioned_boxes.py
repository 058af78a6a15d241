"""Pictures of scenes with captioned boxes: crops that show the small CLIP of the mini profile things among other things."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from clip2x.data.images import cut
from clip2x.data.samplers import SampleKey
from clip2x.errors import BadFileError, DataNotFoundError
from clip2x.miniworld.captions import SCENE_TEMPLATES, compose_caption
from clip2x.miniworld.detections import BoxNoise, wrong_box
from clip2x.types import CaptionedSample

GREY_SHARE = 0.2  # of the crops whose caption names no colour are turned to grey
STRETCHED_SHARE = 0.4  # of the crops are the box brought to a square, as crops of triplets are; the others show what is around it
EVALUATION_MARGIN = 0.1  # of crops that are not augmented; the middle one of those that `ProposalsNamedByClip` looks at
MARGINS = (-0.05, 0.25)  # least and most of augmented crops
EVENNESS = 0.5  # of the classes: a class of n boxes is drawn in proportion to n ** EVENNESS; 1 = as often as it is seen, 0 = all alike


class CaptionedBoxes(Dataset[CaptionedSample]):
    """Boxes in the mini-world's captioned scenes (`scene_pictures.h5`), cut out as a detector's wrong boxes would be, with a caption drawn for each.

    Layout of a split's group: `jpeg` (P,) encoded pictures; `box_px` (M, 4) left, top, right, bottom of what is visible; `picture` (M,) where;
    `class_id`, `colour_id` (M,); attributes of the file as of `pictures.h5`. The pictures are decoded once into memory. Box, shape of the crop,
    caption and augmentation are functions of (seed, epoch, index). All numbers ours.
    """

    def __init__(self, root: Path, seed: int, split: str, augment: bool = True, image_size: int = 64) -> None:
        path = Path(root) / "scene_pictures.h5"
        if not path.is_file():
            raise DataNotFoundError(f"{path} does not exist; run: make miniworld.")
        try:
            with h5py.File(path, "r") as file:
                self.class_names: list[str] = [str(name) for name in file.attrs["class_names"]]
                self.colours: list[str] = [str(name) for name in file.attrs["colours"]]
                encoded = file[split]["jpeg"][()]
                self.box_px: NDArray[np.float32] = file[split]["box_px"][()]
                self.picture: NDArray[np.int64] = file[split]["picture"][()]
                self.class_id: NDArray[np.int64] = file[split]["class_id"][()]
                self.colour_id: NDArray[np.int64] = file[split]["colour_id"][()]
        except (OSError, KeyError) as error:
            raise BadFileError(f"{path} is not a whole mini-world picture file ({error}); delete it and run: make miniworld.") from error
        self.pictures = [np.asarray(Image.open(BytesIO(content.tobytes())).convert("RGB")) for content in encoded]
        self.seed, self.augment, self.image_size = seed, augment, image_size
        weight = np.bincount(self.class_id, minlength=len(self.class_names)).clip(1) ** (EVENNESS - 1.0)
        self._chances = np.cumsum(weight[self.class_id])

    def __len__(self) -> int:
        return len(self.box_px)

    def __getitem__(self, key: SampleKey | int) -> CaptionedSample:
        key = SampleKey.of(key)
        return self.sample(key.index, key.generator(self.seed, 1))

    def draw(self, rng: np.random.Generator) -> CaptionedSample:
        """Draw any box, one of a rare class rather than one of a common class, and what is shown of it."""
        return self.sample(int(np.searchsorted(self._chances, rng.random() * self._chances[-1], side="right")), rng)

    def sample(self, index: int, rng: np.random.Generator) -> CaptionedSample:
        """Cut out one box and compose its caption."""
        class_id, colour_id = int(self.class_id[index]), int(self.colour_id[index])
        caption, with_colour = compose_caption(self.class_names[class_id], self.colours[colour_id], rng, SCENE_TEMPLATES)
        rgb = self.pictures[int(self.picture[index])]
        left, top, right, bottom = (float(side) for side in self.box_px[index])
        box = wrong_box((left, top, right, bottom), rng, BoxNoise())
        margin = float(rng.uniform(*MARGINS)) if self.augment else EVALUATION_MARGIN
        square = not self.augment or rng.random() >= STRETCHED_SHARE
        image = crop(rgb, box, margin if square else 0.3 * margin, self.image_size, square=square)
        if self.augment:
            if rng.random() < 0.5:
                image = image[:, :, ::-1]
            image = image * np.float32(rng.uniform(0.85, 1.1))
            if not with_colour and rng.random() < GREY_SHARE:
                image[:] = image.mean(axis=0)
            image = np.minimum(image, 1.0, out=image)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image)), "caption": caption, "class_id": class_id, "colour_id": colour_id,
            "caption_colour": colour_id if with_colour else -1, "in_scene": True,
        }


def crop(rgb: NDArray[np.uint8], box_px: tuple[float, float, float, float], margin: float, size: int, *, square: bool) -> NDArray[np.float32]:
    """Cut a box out of a picture (H, W, 3): (3, S, S) in [0, 1], S = `size`.

    Args:
        rgb: The picture.
        box_px: Left, top, right, bottom.
        margin: Added on each side, as a share of the box's width or height; may be negative.
        size: Of the result, pixels.
        square: Let the crop grow to a square with what is around it, as far as the picture goes, then pad with white, as
            `ProposalsNamedByClip` does; else the sides are scaled each by itself, as those of a triplet's crop are.
    """
    left, top, right, bottom = box_px
    if square:
        more = ((right - left) - (bottom - top)) / 2
        across, down = max(0.0, -more), max(0.0, more)
        left, top, right, bottom = left - across, top - down, right + across, bottom + down
    part = Image.fromarray(np.ascontiguousarray(cut(rgb, np.array([left, top, right, bottom]), margin)))
    wide, tall = (max(1, round(side * size / max(part.size))) for side in part.size) if square else (size, size)
    resized = np.asarray(part.resize((wide, tall), Image.Resampling.BICUBIC))
    result = np.ones((3, size, size), dtype=np.float32)
    above, before = (size - tall) // 2, (size - wide) // 2
    result[:, above : above + tall, before : before + wide] = resized.transpose(2, 0, 1) * np.float32(1 / 255)
    return result
