"""What finds and names boxes: the interface, boxes from files of other programs, and boxes of any origin named by CLIP."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from clip2x.data.images import cut
from clip2x.encoders.clip import ClipTowers
from clip2x.errors import BadFileError, InputError
from clip2x.proxies.coco_file import CocoBoxes, read_coco
from clip2x.proxies.foreground import grabcut, opencv
from clip2x.proxies.suppression import Found, Suppression, suppress
from clip2x.proxies.vocabulary import Vocabulary

__all__ = ["CocoDetections", "Detector", "Found", "Picture", "ProposalsNamedByClip"]

GRABCUT_STEPS = 1  # ours: more rounds named the mini-world's boxes no better


@dataclass(frozen=True)
class Picture:
    """A picture to look at.

    key: path below the data set's folder, as detection files name it (`samples/CAM_FRONT/x.jpg`). file: where it lies.
    rgb: (H, W, 3) uint8; None for detectors that need no pixels.
    """

    key: str
    file: Path
    width_px: int
    height_px: int
    rgb: NDArray[np.uint8] | None = None


class Detector(nn.Module):
    """Finds boxes in pictures and names them by concepts. A subclass says whether it needs pixels.

    Every detector sends its raw boxes through `suppress`, so that all obey the same rules.
    """

    needs_pixels: bool = True

    @abstractmethod
    def prepare(self, vocabulary: Vocabulary) -> None:
        """Get ready to name boxes by these concepts; called once, before the first picture.

        Raises:
            InputError: If nothing can be found with them.
        """

    @abstractmethod
    def forward(self, pictures: Sequence[Picture]) -> list[Found]:
        """Look at pictures: one answer each, in their order."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """List all that other boxes would come from, as JSON."""

    def check_pictures(self, keys: Iterable[str]) -> Counter[str]:
        """Look over the keys of all pictures that will be asked for; a detector that reads files says here what they lack.

        Returns:
            Counters by rule, for the report.
        """
        return Counter()


class CocoDetections(Detector):
    """Boxes that another program found, read from files in COCO's form.

    A file holds either images, categories and annotations that carry a `score`, or a bare list of results; then `images` names a file with the
    images and categories. Counted, beside the rules of `suppress`: `picture is in no detection file`, `name is in no vocabulary`.
    """

    needs_pixels = False

    def __init__(self, files: Sequence[str] | str, images: str | None = None, categories: Literal["named", "ignored"] = "named",
                 unknown_names: Literal["counted", "refused"] = "counted", suppression: Suppression | None = None) -> None:
        """Read the files.

        Args:
            files: Their paths.
            images: COCO file with the images and categories of files that are bare lists of results.
            categories: `ignored` takes the boxes without their names, for `ProposalsNamedByClip`.
            unknown_names: What to do about boxes with a name that the vocabulary lacks.
            suppression: Rules for boxes; without `min_score` every score will do, as the other program has chosen already.

        Raises:
            DataNotFoundError, BadFileError: If a file is absent or cannot be used.
        """
        super().__init__()
        self.files = [Path(file) for file in ([files] if isinstance(files, str) else files)]
        if not self.files:
            raise InputError("detector.files names no file; give at least one COCO file of detections.")
        self.categories, self.unknown_names, self.suppression = categories, unknown_names, suppression or Suppression()
        self.boxes: CocoBoxes = read_coco(self.files, None if images is None else Path(images))
        self._concept_of: NDArray[np.int64] | None = np.full(len(self.boxes.names), -1) if categories == "ignored" else None

    def prepare(self, vocabulary: Vocabulary) -> None:
        """Look up the files' categories among the concepts.

        Raises:
            InputError: If none of them is there; or one is not, and unknown names are refused.
        """
        if self.categories == "ignored":
            return
        found = [vocabulary.id_of(name) for name in self.boxes.names]
        unknown = [name for name, concept in zip(self.boxes.names, found, strict=True) if concept is None]
        where = f"{self.files[0]}{' and others' if len(self.files) > 1 else ''}"
        if unknown and (len(unknown) == len(found) or self.unknown_names == "refused"):
            raise InputError(f"{where}: {len(unknown)} of the {len(found)} category names {'is' if len(found) == 1 else 'are'} not known to the "
                             f"vocabulary {vocabulary.name}, first {unknown[0]!r}; use another vocabulary, add the names as synonyms or aliases, or "
                             "name the boxes by CLIP (ProposalsNamedByClip).")
        self._concept_of = np.array([-1 if concept is None else concept for concept in found], dtype=np.int64)

    def forward(self, pictures: Sequence[Picture]) -> list[Found]:
        """Look pictures up in the files.

        Raises:
            BadFileError: If a file states another size for a picture: its boxes would be in other pixels.
        """
        return [self._found(picture) for picture in pictures]

    def _found(self, picture: Picture) -> Found:
        if self._concept_of is None:
            raise RuntimeError("prepare has to be called first")
        entry = self.boxes.find(picture.key)
        if entry is None:
            nothing = suppress(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0), width_px=picture.width_px, height_px=picture.height_px,
                               settings=self.suppression)
            return Found(nothing.detections, Counter({"picture is in no detection file": 1}))
        if entry.size_px is not None and entry.size_px != (picture.width_px, picture.height_px):
            raise BadFileError(f"{entry.file}: {picture.key} is {entry.size_px[0]} x {entry.size_px[1]} pixels there, the picture has "
                               f"{picture.width_px} x {picture.height_px}; detect on the pictures as they are.")
        concept_id = self._concept_of[entry.name_id]
        known = (concept_id >= 0) | (self.categories == "ignored")
        found = suppress(entry.box_px[known], concept_id[known], entry.score[known], width_px=picture.width_px, height_px=picture.height_px,
                         settings=self.suppression)
        unknown = int((~known).sum())
        if unknown:
            found.rules.update({"boxes": unknown, "name is in no vocabulary": unknown})
        return found

    def check_pictures(self, keys: Iterable[str]) -> Counter[str]:
        """Compare the pictures that will be asked for with those that the files name.

        Returns:
            `picture is in no detection file` and `picture of a detection file is in no frame`, where there are such.

        Raises:
            InputError: If not one picture is in the files: they name them otherwise.
        """
        asked = list(keys)
        used = {entry.key for key in asked if (entry := self.boxes.find(key)) is not None}
        absent = sum(self.boxes.find(key) is None for key in asked)
        if asked and absent == len(asked):
            raise InputError(f"{self.files[0]}: none of the {len(asked):,} pictures is named there; a file name must end in the picture's path below "
                             f"its data set, like {asked[0]!r}, but the first is {self.boxes.first_key!r}.")
        counts = {"picture is in no detection file": absent, "picture of a detection file is in no frame": len(self.boxes) - len(used)}
        return Counter({rule: count for rule, count in counts.items() if count})

    def describe(self) -> dict[str, Any]:
        """List what the boxes come from."""
        return {"kind": "CocoDetections", "files": [{"name": file.name, "sha256": digest} for file, digest in self.boxes.sha256.items()],
                "categories": self.categories, "suppression": asdict(self.suppression)}


class ProposalsNamedByClip(Detector):
    """Boxes of any origin, each named by CLIP from the crop of the picture.

    A concept's embedding is the mean over its names and the templates `naming`; distractors compete with the concepts, and a box that is
    named by one is dropped (`named as a distractor`). The score is the softmax over all of them, at the CLIP's own scale, for the best name,
    as a mean over several views of the crop: how sure CLIP is of the name, not that there is a thing. Pictures are looked at one by one, so
    that an answer depends on nothing else. Defaults are ours, chosen by label precision on the mini-world's training frames, with a small CLIP
    that had seen crops of other scenes; for one that knows objects on plain backgrounds only, `background="removed"` is better.
    """

    MIN_SCORE = 0.5
    """Ours, chosen likewise. The right value depends on the CLIP: look at the label precision of the quality report."""
    name_embeds: Tensor | None

    def __init__(self, proposals: Detector, clip: ClipTowers, margins: Sequence[float] = (0.0, 0.1, 0.2), mirrored: bool = True,
                 shape: Literal["stretched", "padded", "square"] = "square", background: Literal["kept", "removed"] = "kept", padding: float = 1.0,
                 synonyms: Literal["all", "first"] = "all", suppression: Suppression | None = None) -> None:
        """Choose how crops are shown to CLIP.

        Args:
            proposals: Where the boxes come from; their names are not looked at.
            clip: Names them.
            margins: Of each view, what is added to the crop on each side, as a share of the box's width or height.
            mirrored: Show every view's mirror image too.
            shape: `stretched` to the tower's square; `padded` to a square with a plain colour; `square`: the crop grows to a square with what
                is around it, as far as the picture goes, then padded.
            background: `removed` paints what GrabCut does not find to be the object in that colour (for a CLIP that knows plain pictures only).
            padding: Brightness of that colour, 0 (black) to 1 (white).
            synonyms: Use all names of a concept, or its first.
            suppression: Rules for the named boxes; without `min_score`, `MIN_SCORE`.

        Raises:
            InputError: If a value is out of range.
        """
        super().__init__()
        if background == "removed":
            opencv()
        if not margins or not all(0 <= value <= 1 for value in (*margins, padding)):
            raise InputError(f"margins (at least one) and padding must be from 0 to 1, got {list(margins)} and {padding:g}.")
        self.proposals, self.clip, self.margins, self.mirrored = proposals, clip, tuple(margins), mirrored
        self.shape, self.background, self.padding, self.synonyms = shape, background, padding, synonyms
        self.suppression = suppression or Suppression()
        self.register_buffer("name_embeds", None, persistent=False)
        self._num_concepts = 0

    def prepare(self, vocabulary: Vocabulary) -> None:
        """Embed the names of all concepts and distractors.

        Raises:
            InputError: If there are no templates for naming.
        """
        groups = [names if self.synonyms == "all" else names[:1] for names in vocabulary.concepts] + [(name,) for name in vocabulary.distractors]
        texts = [vocabulary.prompts("naming", names) for names in groups]
        with torch.no_grad():
            embeds = functional.normalize(self.clip.encode_text([text for group in texts for text in group]), dim=-1)
        means = torch.stack([part.mean(dim=0) for part in torch.split(embeds, [len(group) for group in texts])])
        self.name_embeds = functional.normalize(means, dim=-1)
        self._num_concepts = len(vocabulary)

    def forward(self, pictures: Sequence[Picture]) -> list[Found]:
        """Take the proposals of each picture and name them.

        Raises:
            InputError: If a picture comes without pixels.
            MissingDependencyError: If backgrounds are to be removed and OpenCV is not installed.
        """
        return [self._named(picture, found) for picture, found in zip(pictures, self.proposals(pictures), strict=True)]

    def _named(self, picture: Picture, found: Found) -> Found:
        boxes, rules = found.detections.box_px, Counter(found.rules)
        if not len(boxes):
            return found
        score, name_id = self.probabilities(picture, boxes).max(dim=1)
        concept_id, scores = name_id.cpu().numpy(), score.cpu().numpy()
        is_concept = concept_id < self._num_concepts
        named = suppress(boxes[is_concept], concept_id[is_concept], scores[is_concept], width_px=picture.width_px, height_px=picture.height_px,
                         settings=self.suppression, min_score=self.MIN_SCORE)
        if not is_concept.all():
            rules["named as a distractor"] += int((~is_concept).sum())
        rules.update({rule: count for rule, count in named.rules.items() if rule != "boxes"})
        return Found(named.detections, rules)

    @torch.no_grad()
    def probabilities(self, picture: Picture, box_px: NDArray[np.floating[Any]]) -> Float[Tensor, "M K"]:
        """Compare crops with all names: softmax over the concepts and, behind them, the distractors; the mean over the views."""
        if self.name_embeds is None:
            raise RuntimeError("prepare has to be called first")
        if picture.rgb is None:
            raise InputError(f"{picture.key}: ProposalsNamedByClip needs the picture's pixels.")
        names = self.name_embeds
        sources = [picture.rgb if self.background == "kept" else alone(picture.rgb, box, self.padding) for box in box_px]
        total = torch.zeros(len(box_px), len(names), device=names.device)
        for margin in self.margins:
            crops = torch.stack([self.crop(source, box, margin) for source, box in zip(sources, box_px, strict=True)]).to(names.device)
            for view in (crops, crops.flip(3)) if self.mirrored else (crops,):
                embeds = functional.normalize(self.clip.encode_image(view), dim=-1)
                total += (self.clip.logit_scale * embeds @ names.T).softmax(dim=1)
        return total / (len(self.margins) * (1 + self.mirrored))

    def crop(self, rgb: NDArray[np.uint8], box_px: NDArray[np.floating[Any]], margin: float) -> Float[Tensor, "3 S S"]:
        """Cut a box out and bring it to the tower's size, in [0, 1]; bicubic with antialiasing."""
        size = self.clip.image_size
        left, top, right, bottom = (float(side) for side in box_px)
        if self.shape == "square":
            more = abs((right - left) - (bottom - top)) / 2
            across, down = (0.0, more) if right - left > bottom - top else (more, 0.0)
            left, top, right, bottom = left - across, top - down, right + across, bottom + down
        part = cut(rgb, np.array([left, top, right, bottom]), margin)
        height_px, width_px = part.shape[:2]
        longest = max(height_px, width_px)
        tall, wide = (size, size) if self.shape == "stretched" else (max(1, round(side * size / longest)) for side in (height_px, width_px))
        pixels = torch.from_numpy(part.astype(np.float32)).permute(2, 0, 1)[None] / 255
        resized = functional.interpolate(pixels, size=(tall, wide), mode="bicubic", antialias=True, align_corners=False)[0].clamp(0, 1)
        before, above = (size - wide) // 2, (size - tall) // 2
        return functional.pad(resized, (before, size - wide - before, above, size - tall - above), value=self.padding)

    def check_pictures(self, keys: Iterable[str]) -> Counter[str]:
        """Let the source of the boxes look over the pictures."""
        return self.proposals.check_pictures(keys)

    def describe(self) -> dict[str, Any]:
        """List what boxes and names come from."""
        least = self.MIN_SCORE if self.suppression.min_score is None else self.suppression.min_score
        return {"kind": "ProposalsNamedByClip", "proposals": self.proposals.describe(), "clip": self.clip.id,
                "precision": self.clip.precision, "margins": list(self.margins),
                "mirrored": self.mirrored, "shape": self.shape, "background": self.background, "padding": self.padding, "synonyms": self.synonyms,
                "suppression": {**asdict(self.suppression), "min_score": least}}


def alone(rgb: NDArray[np.uint8], box_px: NDArray[np.floating[Any]], brightness: float) -> NDArray[np.uint8]:
    """Paint a picture in one grey, but for what GrabCut finds to be the object in a box.

    Where it finds less than a tenth of the box, the whole box stays: it took the object for background. Ours.
    """
    left, top = (int(side) for side in np.floor(box_px[:2]).clip(0))
    right, bottom = (int(side) for side in np.minimum(np.ceil(box_px[2:]), rgb.shape[1::-1]))
    mask = grabcut(rgb, (left, top, right, bottom), steps=GRABCUT_STEPS)
    if mask.mean() < 0.1:
        mask = np.ones_like(mask)
    painted = np.full_like(rgb, round(255 * brightness))
    painted[top:bottom, left:right][mask] = rgb[top:bottom, left:right][mask]
    return painted
