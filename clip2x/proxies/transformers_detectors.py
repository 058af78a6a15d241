"""Open-vocabulary detectors of Hugging Face `transformers`: OWLv2, Grounding DINO, MM-Grounding-DINO, OmDet-Turbo.

Names are matched to concepts here, not by the library's decoding of texts, and boxes are brought to pixels here: both are tested against the
library's own post-processing. The library is imported when a detector is built, never before.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError
from torch import Tensor, nn

from clip2x.errors import CheckpointMismatchError, DataNotFoundError, InputError, MissingDependencyError
from clip2x.proxies.detectors import Detector, Found, Picture
from clip2x.proxies.suppression import Suppression, suppress
from clip2x.proxies.vocabulary import Vocabulary

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MAX_CHUNK = 100
"""Names shown at once. Ours: what OmDet-Turbo's own cache of names holds; OWLv2 gives the same whatever it is."""
SPECIAL_TOKENS = 2  # BERT's [CLS] and [SEP]


class Candidates(NamedTuple):
    """Raw boxes of a batch, one name each: box (B, Q, 4) centre, width, height as shares of the side; concept_id, score (B, Q)."""

    box: Float[Tensor, "B Q 4"]
    concept_id: Int64[Tensor, "B Q"]
    score: Float[Tensor, "B Q"]


class TransformersDetector(Detector):
    """What the detectors share: weights, precision, batches of pictures of one size, the way of boxes to pixels.

    A subclass shows the pictures and the names to its model; of the names of a concept the first is used.
    """

    MODEL_TYPES: tuple[str, ...]
    MIN_SCORE: float
    model: Any

    def __init__(self, model: str, precision: Literal["fp32", "fp16", "bf16"] = "fp32", batch_size: int = 8, chunk: int = MAX_CHUNK,
                 suppression: Suppression | None = None) -> None:
        """Load a model.

        Args:
            model: Its name on the Hugging Face hub (downloaded where there is a network) or a folder with its files.
            precision: Computed in it under autocast; weights stay in float32.
            batch_size: Pictures at a time.
            chunk: Most names at a time.
            suppression: Rules for boxes; without `min_score` the class's `MIN_SCORE`.

        Raises:
            MissingDependencyError: If `transformers` is not installed.
            DataNotFoundError: If the model is neither a folder nor to be had.
            CheckpointMismatchError: If it is another kind of model, or its files do not fit.
            InputError: If a number is out of range.
        """
        super().__init__()
        if batch_size < 1 or not 1 <= chunk <= MAX_CHUNK:
            raise InputError(f"detector needs batch_size of at least 1 and chunk from 1 to {MAX_CHUNK}, got {batch_size} and {chunk}.")
        if precision not in PRECISIONS:
            raise InputError(f"detector.precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
        self.model_id, self.precision, self.batch_size, self.chunk = model, precision, batch_size, chunk
        self.suppression = suppression or Suppression()
        self.model, self.tokenizer, self.image_processor = _load(model, self.MODEL_TYPES, type(self).__name__)

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of names and values of all weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    @torch.no_grad()
    def forward(self, pictures: Sequence[Picture]) -> list[Found]:
        """Look at pictures: those of one size together, so that none is padded for another's sake.

        Raises:
            InputError: If a picture comes without pixels.
        """
        answers: dict[int, Found] = {}
        for positions in _groups(pictures, self.batch_size):
            batch = [pictures[position] for position in positions]
            with torch.autocast(self.device.type, dtype=PRECISIONS[self.precision], enabled=self.precision != "fp32"):
                candidates = self.look(self._pixels(batch))
            answers.update(zip(positions, self._chosen(candidates, batch), strict=True))
        return [answers[position] for position in range(len(pictures))]

    @abstractmethod
    def look(self, inputs: dict[str, Tensor]) -> Candidates:
        """Show a batch, as the image processor made it, and the names to the model."""

    def side_px(self, picture: Picture) -> tuple[float, float]:
        """Say what the model's shares are shares of: width and height, pixels."""
        return float(picture.width_px), float(picture.height_px)

    def _pixels(self, batch: Sequence[Picture]) -> dict[str, Tensor]:
        for picture in batch:
            if picture.rgb is None:
                raise InputError(f"{picture.key}: {type(self).__name__} needs the picture's pixels.")
        images = [torch.from_numpy(np.ascontiguousarray(picture.rgb)).permute(2, 0, 1).to(self.device) for picture in batch]
        inputs = self.image_processor(images=images, return_tensors="pt")
        return {name: value.to(self.device) for name, value in inputs.items()}

    def _chosen(self, candidates: Candidates, batch: Sequence[Picture]) -> Iterator[Found]:
        """Bring boxes to pixels and let the rules choose; what scores too low is left on the device.

        Raises:
            InputError: If a score or a box is no number.
        """
        if not all(bool(values.isfinite().all()) for values in (candidates.box, candidates.score)):
            raise InputError(f"{self.model_id} gave numbers beyond the range of {self.precision} for {batch[0].key}; set detector.precision to "
                             f"{'fp32 or bf16' if self.precision == 'fp16' else 'fp32'}, or get its weights again.")
        least = self.MIN_SCORE if self.suppression.min_score is None else self.suppression.min_score
        for picture, box, concept_id, score in zip(batch, *candidates, strict=True):
            good = score >= least
            centre, size = torch.split(box[good].double(), 2, dim=1)
            wide, high = self.side_px(picture)
            corners = torch.cat([centre - size / 2, centre + size / 2], dim=1).cpu().numpy() * np.array([wide, high, wide, high])
            yield suppress(corners, concept_id[good].cpu().numpy(), score[good].float().cpu().numpy(), width_px=picture.width_px,
                           height_px=picture.height_px, settings=self.suppression, min_score=self.MIN_SCORE)

    def describe(self) -> dict[str, Any]:
        """List what the boxes come from."""
        least = self.MIN_SCORE if self.suppression.min_score is None else self.suppression.min_score
        return {"kind": type(self).__name__, "model": Path(self.model_id).name, "weights_sha256": self.weights_sha256, "precision": self.precision,
                "chunk": self.chunk, "suppression": {**asdict(self.suppression), "min_score": least}}


class Owlv2Detector(TransformersDetector):
    """OWLv2 (Minderer et al., arXiv:2306.09683). Names and pictures meet in the last layer only: names are encoded once, pictures once.

    Prompts are the vocabulary's templates `detector`; of several templates the mean counts. The score is the sigmoid for the best name. The
    processor lays the picture into the left upper corner of a square, so a box's shares are shares of the longer side (as in
    `Owlv2ImageProcessor.post_process_object_detection`, transformers 5.24).
    """

    MODEL_TYPES = ("owlv2",)
    MIN_SCORE = 0.2
    """Ours: CLIP2's detector and threshold are not published."""
    name_embeds: Tensor | None

    def __init__(self, model: str = "google/owlv2-base-patch16-ensemble", precision: Literal["fp32", "fp16", "bf16"] = "fp32", batch_size: int = 8,
                 chunk: int = MAX_CHUNK, suppression: Suppression | None = None) -> None:
        super().__init__(model, precision, batch_size, chunk, suppression)
        self.register_buffer("name_embeds", None, persistent=False)

    @torch.no_grad()
    def prepare(self, vocabulary: Vocabulary) -> None:
        """Encode the names of all concepts."""
        length = self.model.config.text_config.max_position_embeddings
        names = [vocabulary.name_of(concept) for concept in range(len(vocabulary))]
        prompts = vocabulary.prompts("detector", names)
        features = []
        for start in range(0, len(prompts), self.chunk):
            part = prompts[start : start + self.chunk]
            tokens = self.tokenizer(part, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
            encoded = self.model.owlv2.get_text_features(tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device))
            features.append(nn.functional.normalize(encoded.pooler_output.float(), dim=-1))
        per_name = torch.cat(features).view(len(names), -1, features[0].shape[-1])
        self.name_embeds = nn.functional.normalize(per_name.mean(dim=1), dim=-1)

    def side_px(self, picture: Picture) -> tuple[float, float]:
        """Shares are of the padded square."""
        longer = float(max(picture.width_px, picture.height_px))
        return longer, longer

    def look(self, inputs: dict[str, Tensor]) -> Candidates:
        """Compare every patch with every name."""
        if self.name_embeds is None:
            raise RuntimeError("prepare has to be called first")
        feature_map = self.model.image_embedder(pixel_values=inputs["pixel_values"])[0]
        patches = feature_map.flatten(1, 2)
        box = self.model.box_predictor(patches, feature_map).float()
        logits = [self.model.class_predictor(patches, names.expand(len(patches), -1, -1))[0].float()
                  for names in torch.split(self.name_embeds, self.chunk)]
        score, concept_id = torch.cat(logits, dim=-1).max(dim=-1)
        return Candidates(box, concept_id, score.sigmoid())


class GroundingDinoDetector(TransformersDetector):
    """Grounding DINO (Liu et al., arXiv:2303.05499) and MM-Grounding-DINO (Zhao et al., arXiv:2401.02361).

    Picture and text are fused from the start, so every chunk of names is a pass of its own; a chunk is as many names as the text's token limit
    and `chunk` allow. Names are raw, in small letters, each ended by a full stop. The score of a name is the mean of the sigmoids over its
    tokens (third party: GroundingDINO ade33b7, demo/test_ap_on_coco.py, and mmdet 3.3.0, `convert_grounding_to_cls_scores`); `span="max"`
    takes the best token, as the library's decoding does.
    """

    MODEL_TYPES = ("grounding-dino", "mm-grounding-dino")
    MIN_SCORE = 0.3
    """Ours: CLIP2's detector and threshold are not published."""

    def __init__(self, model: str = "IDEA-Research/grounding-dino-tiny", precision: Literal["fp32", "fp16", "bf16"] = "fp32", batch_size: int = 4,
                 chunk: int = MAX_CHUNK, span: Literal["mean", "max"] = "mean", suppression: Suppression | None = None) -> None:
        super().__init__(model, precision, batch_size, chunk, suppression)
        self.span = span
        self._chunks: list[tuple[dict[str, Tensor], Tensor, int]] = []

    def prepare(self, vocabulary: Vocabulary) -> None:
        """Pack the names into texts and note the tokens of each.

        Raises:
            InputError: If a name has no token, or more than a text can hold.
        """
        names = [_phrase(vocabulary.spoken(vocabulary.name_of(concept))) for concept in range(len(vocabulary))]
        limit = min(self.model.config.max_text_len, self.model.config.text_config.max_position_embeddings)
        lengths = [len(ids) for ids in self.tokenizer([f"{name}." for name in names], add_special_tokens=False)["input_ids"]]
        worst = max(range(len(names)), key=lengths.__getitem__)
        if lengths[worst] + SPECIAL_TOKENS > limit:
            raise InputError(f"the name {names[worst]!r} is longer than the {limit} tokens that {self.model_id} reads; shorten it.")
        self._chunks, first, used = [], 0, SPECIAL_TOKENS
        for concept, length in enumerate(lengths):
            if used + length > limit or concept - first == self.chunk:
                self._chunks.append(self._text(names[first:concept], first))
                first, used = concept, SPECIAL_TOKENS
            used += length
        self._chunks.append(self._text(names[first:], first))

    def _text(self, names: Sequence[str], first: int) -> tuple[dict[str, Tensor], Tensor, int]:
        """Join names to a text: its tokens, which of them belong to each name (N, L), and the first name's concept."""
        text, spans = "", []
        for name in names:
            spans.append((len(text), len(text) + len(name)))
            text += f"{name}. "
        encoded = self.tokenizer(text.rstrip(), return_offsets_mapping=True, return_tensors="pt")
        starts, ends = encoded.pop("offset_mapping")[0].unbind(dim=1)
        owned = torch.stack([(starts >= start) & (ends <= end) & (ends > starts) for start, end in spans])
        empty = (~owned.any(dim=1)).nonzero().flatten().tolist()
        if empty:
            raise InputError(f"the name {names[empty[0]]!r} has no token in the text of {self.model_id}; leave it out.")
        return dict(encoded), owned, first

    def look(self, inputs: dict[str, Tensor]) -> Candidates:
        """Show the pictures with each text; the boxes of all texts are candidates."""
        if not self._chunks:
            raise RuntimeError("prepare has to be called first")
        number, parts = len(inputs["pixel_values"]), []
        for text, owned, first in self._chunks:
            shown = {name: value.to(self.device).expand(number, -1) for name, value in text.items()}
            answer = self.model(**inputs, **shown)
            of_token = answer.logits[..., : owned.shape[1]].float().sigmoid()
            scores = span_scores(of_token, owned.to(self.device), self.span)
            best, name = scores.max(dim=-1)
            parts.append(Candidates(answer.pred_boxes.float(), name + first, best))
        return Candidates(*(torch.cat(values, dim=1) for values in zip(*parts, strict=True)))

    def describe(self) -> dict[str, Any]:
        """List what the boxes come from."""
        return {**super().describe(), "span": self.span}


class OmDetTurboDetector(TransformersDetector):
    """OmDet-Turbo (Zhao et al., arXiv:2403.06892). Names are encoded once; each chunk of them is a pass of the decoder alone.

    Names are raw; the task of a chunk is the library's own, "Detect a, b, c.", cut at 77 tokens. The score is the sigmoid for the best name.
    """

    MODEL_TYPES = ("omdet-turbo",)
    MIN_SCORE = 0.3
    """Third party: the default of the library's `post_process_grounded_object_detection`."""
    TEXT_TOKENS = 77  # third party: OmDetTurboProcessor's max_length

    def __init__(self, model: str = "omlab/omdet-turbo-swin-tiny-hf", precision: Literal["fp32", "fp16", "bf16"] = "fp32", batch_size: int = 8,
                 chunk: int = MAX_CHUNK, suppression: Suppression | None = None) -> None:
        super().__init__(model, precision, batch_size, chunk, suppression)
        self._chunks: list[tuple[Tensor, Tensor, Tensor, int]] = []

    @torch.no_grad()
    def prepare(self, vocabulary: Vocabulary) -> None:
        """Encode the names and the tasks."""
        names = [vocabulary.spoken(vocabulary.name_of(concept)) for concept in range(len(vocabulary))]
        self._chunks = []
        for first in range(0, len(names), self.chunk):
            part = names[first : first + self.chunk]
            classes, task = self._tokens(part), self._tokens([f"Detect {', '.join(part)}."])
            features = self.model.get_language_embedding(classes["input_ids"], classes["attention_mask"], task["input_ids"], task["attention_mask"],
                                                         torch.tensor([len(part)], device=self.device))
            self._chunks.append((*features, first))

    def _tokens(self, texts: list[str]) -> dict[str, Tensor]:
        length = min(self.TEXT_TOKENS, self.model.config.text_config.max_position_embeddings)
        encoded = self.tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return {name: encoded[name].to(self.device) for name in ("input_ids", "attention_mask")}

    def look(self, inputs: dict[str, Tensor]) -> Candidates:
        """Encode the pictures once and decode them with each chunk of names."""
        if not self._chunks:
            raise RuntimeError("prepare has to be called first")
        features = self.model.encoder(self.model.vision_backbone(inputs["pixel_values"])).extracted_states
        number, parts = len(inputs["pixel_values"]), []
        for classes, task, task_mask, first in self._chunks:
            shown = [value.to(self.device).expand(-1, number, -1) for value in (classes, task)]
            answer = self.model.decoder(features, *shown, task_mask.to(self.device).expand(number, -1))
            best, name = answer.decoder_classes[-1].float().sigmoid().max(dim=-1)
            parts.append(Candidates(answer.decoder_coords[-1].float(), name + first, best))
        return Candidates(*(torch.cat(values, dim=1) for values in zip(*parts, strict=True)))


def span_scores(of_token: Float[Tensor, "B Q L"], owned: Tensor, how: Literal["mean", "max"]) -> Float[Tensor, "B Q N"]:
    """Turn scores of tokens into scores of names: the mean or the largest over the tokens that a name owns ((N, L) bool)."""
    if how == "max":
        return torch.stack([of_token[..., mask].amax(dim=-1) for mask in owned], dim=-1)
    weights = owned.float()
    return of_token @ (weights / weights.sum(dim=1, keepdim=True)).T


def _phrase(name: str) -> str:
    """Write a name as Grounding DINO reads it: small letters, without the signs that end a phrase."""
    return " ".join(name.lower().replace(".", " ").replace("?", " ").split())


def _groups(pictures: Sequence[Picture], batch_size: int) -> list[list[int]]:
    """Put positions of pictures of one size together, `batch_size` at most."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for position, picture in enumerate(pictures):
        by_size.setdefault((picture.width_px, picture.height_px), []).append(position)
    return [group[start : start + batch_size] for group in by_size.values() for start in range(0, len(group), batch_size)]


def _load(model: str, kinds: tuple[str, ...], wanted: str) -> tuple[Any, Any, Any]:
    """Load model, tokenizer and image processor."""
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(f"{wanted} needs the library transformers; install it with: pip install 'clip2x[detect]'") from error
    where = f"{model!r} is neither a folder with a model's files nor one that can be downloaded"
    try:
        kind = transformers.AutoConfig.from_pretrained(model).model_type
    except (OSError, ValueError) as error:
        raise DataNotFoundError(
            f"{where} ({_line(error)}); without a network give the folder with config.json and model.safetensors."
        ) from error
    if kind not in kinds:
        raise CheckpointMismatchError(f"{model}: is a model of the kind {kind!r}, {wanted} takes {' or '.join(kinds)}; choose another detector.")
    try:
        found, report = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(model, output_loading_info=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        processor = transformers.AutoImageProcessor.from_pretrained(model)
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise DataNotFoundError(f"{where}, or it lacks files ({_line(error)}).") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointMismatchError(f"{model}: its weights lack {len(missing)} tensors, first {missing[0]}; get the model's files again.")
    return found.requires_grad_(False).eval(), tokenizer, processor


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:110]
