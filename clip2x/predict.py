"""One cloud in, ranked labels out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from clip2x.encoders.adapter_checkpoint import STAGE as ADAPTER_STAGE
from clip2x.encoders.adapter_checkpoint import AdapterCheckpoint, adapted_encoder_of, as_adapter_checkpoint
from clip2x.encoders.checkpoint_parts import require_complete, require_tag
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.clip_files import ClipWeights, read_weights
from clip2x.encoders.depth import DepthViewEncoder, pool_view_features
from clip2x.encoders.depth_checkpoint import DepthCheckpoint, as_depth_checkpoint, depth_encoder_of
from clip2x.encoders.dual import AdaptedEncoder
from clip2x.encoders.point_checkpoint import PointCheckpoint, as_point_checkpoint, is_point_checkpoint, point_encoder_of, read_point_checkpoint
from clip2x.encoders.points import PointEncoder
from clip2x.encoders.released_points import is_released
from clip2x.errors import CheckpointMismatchError, DataNotFoundError, InputError
from clip2x.evaluation.class_embeddings import centred, class_embeddings, unknown_words
from clip2x.geometry import thin_out, unit_sphere
from clip2x.storage import sha256_of_file
from clip2x.untrusted import bare

# Official code, save the ten views: its zero-shot script takes clip2point-6, its pre-training and few-shot scripts these ten.
DEFAULTS = {"views": "clip2point-10", "point_radius": 0.02, "num_points": 1024}
TEMPLATES = ("image of a {}",)  # official code


class Recognizer:
    """Embeds clouds into CLIP's space and compares them with any names.

    Args:
        towers: The CLIP, frozen; it embeds the names.
        encoder: Encodes clouds: by depth views, with the CLIP's own image tower or one that was tuned against it; by their points; or by both towers
            with an adapter behind them.
        num_points: See below.
        scale: Factor on the cosines before the softmax; None: the CLIP's.
        pooling: Of depth views, see `clip2x.encoders.depth.pool_view_features`.
        ensemble: Of depth views: factors `tuned` and `clip`: names are then ranked by the sum of the encoder's cosines and those of the CLIP's own
            image tower on the same pictures, each times its factor. `embed` remains the encoder's.
        templates: Prompts where `classify` is given none.
        mean_text: (E,) removed from the embeddings of names, where the encoder was trained against such; None for most.
        trained_classes: Class names and their trained weights (C, E), of an adapter with a head of its own; `classify` then takes these names only.
        supervised: Of an adapter: the data whose labels it was trained on.
        device: Default: CUDA where there is one.

    Attributes:
        num_points: Points that a cloud should have; others work, this many were used where figures are reported.
    """

    def __init__(self, towers: ClipTowers, encoder: DepthViewEncoder | PointEncoder | AdaptedEncoder, *, num_points: int = 1024,
                 scale: float | None = None, pooling: str = "cosine_sum", ensemble: Mapping[str, float] | None = None,
                 templates: Sequence[str] = TEMPLATES,
                 mean_text: Sequence[float] | None = None, trained_classes: tuple[Sequence[str], Tensor] | None = None, supervised: str = "",
                 device: torch.device | str | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.towers, self.encoder = towers.to(self.device), encoder.to(self.device)
        self.num_points, self.pooling, self.ensemble, self.templates = num_points, pooling, ensemble, tuple(templates)
        self.scale = towers.logit_scale if scale is None else scale
        self.mean_text = None if mean_text is None else torch.tensor(mean_text)
        self.trained_classes, self.supervised = trained_classes, supervised
        self._names: tuple[tuple[tuple[str, ...], tuple[str, ...]], Tensor] | None = None

    @torch.no_grad()
    def embed(self, points: Float[Tensor, "..."]) -> Float[Tensor, "B E"]:
        """Embed clouds (B, N, 3), object frame (y up), any unit, as unit vectors.

        Raises:
            InputError: If the shape is another, a coordinate is not finite or a cloud has no extent.
        """
        clouds = self._checked(points)
        if isinstance(self.encoder, DepthViewEncoder):
            return self._embed_views(self.encoder, self.encoder.draw(clouds))
        return functional.normalize(self.encoder(clouds).float(), dim=-1)

    @torch.no_grad()
    def classify(self, points: Float[Tensor, "..."], class_names: Sequence[str], templates: Sequence[str] | None = None) -> Float[Tensor, "B C"]:
        """Compare clouds (B, N, 3) with names.

        Returns:
            Probabilities over the names: softmax of `scale` times the cosines, or of the sum of factor times cosine over both towers of an ensemble.
        """
        names = self.class_embeddings(class_names, templates).T
        if self.ensemble is None or not isinstance(self.encoder, DepthViewEncoder):
            return (self.scale * self.embed(points) @ names).softmax(dim=-1)
        grey = self.encoder.draw(self._checked(points))
        tuned = self._embed_views(self.encoder, grey) @ names
        untouched = self._embed_views(DepthViewEncoder(self.towers, draw=self.encoder.draw), grey) @ names
        return (self.ensemble["tuned"] * tuned + self.ensemble["clip"] * untouched).softmax(dim=-1)

    def class_embeddings(self, class_names: Sequence[str], templates: Sequence[str] | None = None) -> Float[Tensor, "C E"]:
        """Embed names through templates (mean of unit vectors, unit length); the last result is kept.

        Raises:
            InputError: If a name is empty or repeated, or a template lacks `{}`.
        """
        if isinstance(class_names, str):
            raise InputError(f"class names must be a list, got the text {class_names!r}; write it as a list, e.g. ['chair', 'table'].")
        if self.trained_classes is not None:
            return self._trained(list(class_names))
        key = tuple(class_names), tuple(templates or self.templates)
        if self._names is None or self._names[0] != key:
            embeds = class_embeddings(self.towers, *key)
            self._names = key, (embeds if self.mean_text is None else centred(embeds, self.mean_text)).to(self.device)
        return self._names[1]

    def unknown_words(self, class_names: Sequence[str]) -> list[str]:
        """List the names with a word that this CLIP never saw; empty for CLIPs of web scale."""
        return unknown_words(self.towers, list(class_names))

    def _trained(self, class_names: list[str]) -> Tensor:
        """Look up the trained weights of classes."""
        assert self.trained_classes is not None
        known, weights = list(self.trained_classes[0]), self.trained_classes[1]
        if not class_names or len(set(class_names)) < len(class_names):
            raise InputError(f"class names must be at least one and all different, got {class_names}.")
        if unknown := [name for name in class_names if name not in known]:
            raise InputError(f"this adapter has a trained head, which knows {', '.join(known)} only, not {unknown[0]!r}; give some of these, or an "
                             "adapter with --model.head names.")
        return weights[[known.index(name) for name in class_names]].to(self.device)

    def _checked(self, points: Tensor) -> Tensor:
        """Check the shape; centre and scale."""
        if not isinstance(points, Tensor):
            raise InputError(f"points must be a torch.Tensor (B, N, 3), got {type(points).__name__}; use torch.from_numpy or torch.as_tensor.")
        if points.ndim != 3 or points.shape[-1] != 3:
            raise InputError(f"points must be (B, N, 3), got {tuple(points.shape)}; add the batch axis or transpose.")
        return unit_sphere(points.to(self.device).float())

    def _embed_views(self, encoder: DepthViewEncoder, grey: Tensor) -> Tensor:
        return pool_view_features(encoder.encode_views(grey), self.pooling)


class SummedRecognizer(Recognizer):
    """Ranks names by the sum of a point encoder's cosines and a depth encoder's, each times its factor: the row `CLIP2 + CLIP2Point` of evaluations.

    Args:
        points: The point encoder.
        depth: The depth encoder, of the same CLIP.
        factors: `points` and `depth`, as fitted in the pre-training of the point encoder.
    """

    def __init__(self, points: Recognizer, depth: Recognizer, factors: Mapping[str, float]) -> None:
        super().__init__(depth.towers, depth.encoder, num_points=max(points.num_points, depth.num_points), scale=1.0, templates=depth.templates,
                         device=depth.device)
        self.points, self.depth = points, depth
        self.ensemble = {key: factors[key] for key in ("points", "depth")}

    @torch.no_grad()
    def classify(self, points: Float[Tensor, "..."], class_names: Sequence[str], templates: Sequence[str] | None = None) -> Float[Tensor, "B C"]:
        """Compare clouds (B, N, 3) with names; without `templates` each encoder takes its own."""
        assert self.ensemble is not None
        clouds = self._checked(points)
        own = self.points.embed(thin_out(clouds, self.points.num_points)) @ self.points.class_embeddings(class_names, templates).T
        other = self.depth.embed(clouds) @ self.depth.class_embeddings(class_names, templates).T
        return (self.ensemble["points"] * own + self.ensemble["depth"] * other).softmax(dim=-1)

    def embed(self, points: Float[Tensor, "..."]) -> Float[Tensor, "B E"]:
        """Refuse: a sum of cosines with different prompts has no embedding.

        Raises:
            InputError: Always.
        """
        raise InputError("the sum of two encoders has no embedding of its own; embed with one of them (--method points or depth).")


def load_sum(points: str | Path, depth: str | Path, device: torch.device | str | None = None, clip: str | Path | None = None, *,
             trust_torchscript: bool = False) -> SummedRecognizer:
    """Build the sum of a point encoder and of the depth encoder that its factors were fitted with.

    Args:
        points, depth: Checkpoints of `make pretrain-points` and `make pretrain-depth`.
        device, clip, trust_torchscript: See `load`.

    Raises:
        CheckpointMismatchError: If the point encoder states no factors, or they were fitted with another depth encoder.
        DataNotFoundError, BadFileError: See `load`.
    """
    stored = read_point_checkpoint(points)
    factors = stored.about["ensemble"]
    if factors is None:
        raise CheckpointMismatchError(f"{points}: states no factors for a sum; train it beside a depth encoder: make pretrain-depth pretrain-points.")
    if (found := sha256_of_file(Path(depth))) != factors["depth_checkpoint_sha256"]:
        raise CheckpointMismatchError(f"{points}: its factors were fitted with the depth encoder {factors['depth_checkpoint_sha256'][:12]}, "
                                      f"{depth} is {found[:12]}; give that one, or train the point encoder again.")
    return SummedRecognizer(load(points, device, clip, trust_torchscript=trust_torchscript),
                            load(depth, device, clip, trust_torchscript=trust_torchscript), factors)


def load(checkpoint: str | Path, device: torch.device | str | None = None, clip: str | Path | None = None, *, ensemble: bool = False,
         trust_torchscript: bool = False, clip_model: str | None = None) -> Recognizer:
    """Build a recogniser from a checkpoint that describes itself or has a known layout, see `docs/checkpoints.md`.

    Args:
        checkpoint: Of `make pretrain-depth`, `make pretrain-points` or `make adapt` (safetensors or `.ckpt`), CLIP2Point's released
            `best_eval.pth`, ULIP's, ULIP-2's or OpenShape's released Point-BERT, or a small CLIP of `make pretrain-clip`.
        device: Default: CUDA where there is one.
        clip: Tag or weight file of the CLIP that the checkpoint was trained with. None takes the one inside, else the tag that it states.
        clip_model: open_clip's id of that CLIP, in the place of the one that ULIP's and OpenShape's code took. Needs `clip`; other checkpoints say
            themselves which it is.
        ensemble: Sum the cosines of the tuned tower and of the CLIP's own, with the factors that the checkpoint states.
        trust_torchscript: Read `clip` although it is a TorchScript archive that is none of OpenAI's; it can run code.

    Raises:
        DataNotFoundError: If there is no such file, or its CLIP is not at hand.
        BadFileError: If it is damaged.
        CheckpointMismatchError: If it does not say what it is, or the CLIP is another; plain CLIP weights need `from_clip` and a model id.
        InputError: If `clip` or `ensemble` is asked of a checkpoint that is a CLIP itself, `ensemble` of anything but a depth encoder, or
            `clip_model` of anything but a point encoder that others released.
    """
    weights = read_weights(checkpoint)
    metadata = weights.metadata
    if clip_model is not None and (clip is None or not is_released(weights)):
        raise InputError(f"a CLIP's model is stated for the point encoders of ULIP and OpenShape only, with its weights; {checkpoint} "
                         + ("says itself which CLIP it needs." if clip is not None else "needs --pretrained TAG_OR_FILE (clip=) too."))
    if metadata.get("stage", "pretrain_clip") == "pretrain_clip" and "model" in metadata and isinstance(metadata.get("encoder"), dict):
        if clip is not None or ensemble:
            raise InputError(f"{checkpoint} is a CLIP itself, with no tuned tower to add to another; leave the other CLIP and the ensemble out.")
        return _from_small_clip(weights, checkpoint, device)
    source = None if clip is None else str(clip)
    if is_point_checkpoint(weights):
        if ensemble:
            raise InputError(f"{checkpoint} is a point encoder, and has no second tower to add; its sum with CLIP2Point's is --method ensemble "
                             "(clip2x.predict.load_sum).")
        stored_points = as_point_checkpoint(weights, checkpoint)
        if clip_model is not None:
            stored_points = replace(stored_points, about=stored_points.about | {"model": clip_model, "clip_pretrained": None, "image_size": None})
        return _of_points(stored_points, source, device, trust_torchscript)
    if metadata.get("stage") == ADAPTER_STAGE:
        if ensemble:
            raise InputError(f"{checkpoint} is an adapter, which joins both towers already; leave the ensemble out.")
        return _adapted(as_adapter_checkpoint(weights, checkpoint), source, device, trust_torchscript)
    stored = as_depth_checkpoint(weights, checkpoint)
    towers = _clip_of(stored, source, trust_torchscript)
    about = stored.about
    return Recognizer(towers, depth_encoder_of(stored, towers), num_points=about["encoder"]["num_points"], scale=about["scale"],
                      pooling=about["encoder"]["pooling"], ensemble=about["ensemble"] if ensemble else None, device=device)


def from_clip(model: str, pretrained: str, device: torch.device | str | None = None, *, trust_torchscript: bool = False) -> Recognizer:
    """Build a recogniser from an open_clip model and a tag or file, with the depth views of CLIP2Point's released code."""
    return _untouched(ClipTowers(model, pretrained, trust_torchscript=trust_torchscript), DEFAULTS, device)


def _of_points(stored: PointCheckpoint, clip: str | None, device: torch.device | str | None, trust_torchscript: bool) -> Recognizer:
    towers, about = _clip_of(stored, clip, trust_torchscript), stored.about
    return Recognizer(towers, point_encoder_of(stored, towers), num_points=about["encoder"]["num_points"], scale=about["scale"],
                      templates=about["templates"], mean_text=about["mean_text"], device=device)


def _adapted(stored: AdapterCheckpoint, clip: str | None, device: torch.device | str | None, trust_torchscript: bool) -> Recognizer:
    towers, about = _clip_of(stored, clip, trust_torchscript), stored.about
    trained = None if stored.head is None else (about["class_names"], stored.head)
    encoder = adapted_encoder_of(stored, towers)
    source = about.get("trained_on", {})
    supervised = f"{source.get('data', 'unnamed data')} ({source.get('shots', '?')} per class)"
    return Recognizer(towers, encoder, num_points=about["encoder"]["num_points"], scale=about["scale"], templates=about["templates"],
                      trained_classes=trained, supervised=supervised, device=device)


def _untouched(towers: ClipTowers, settings: Mapping[str, Any], device: torch.device | str | None) -> Recognizer:
    encoder = DepthViewEncoder(towers, views=settings["views"], point_radius=settings["point_radius"])
    return Recognizer(towers, encoder, num_points=settings["num_points"], device=device)


def _from_small_clip(weights: ClipWeights, path: str | Path, device: torch.device | str | None) -> Recognizer:
    encoder = weights.metadata["encoder"]
    if encoder.get("kind") != "depth_views" or encoder.get("up", "y") != "y":
        raise CheckpointMismatchError(f"{path} was made for {bare(encoder.get('kind'))} with {bare(encoder.get('up'))} up; "
                                      "this version knows depth_views with y up only.")
    require_complete({"encoder": {"up": "y", **DEFAULTS, **encoder}}, path, needed=(), of_encoder=(), stage="pretrain_clip")
    return _untouched(ClipTowers(weights.metadata["model"], str(path)), {**DEFAULTS, **encoder}, device)


def _clip_of(stored: DepthCheckpoint | PointCheckpoint | AdapterCheckpoint, clip: str | None, trust_torchscript: bool) -> ClipTowers:
    """Find the CLIP of a checkpoint: the one given, else the one inside, else the stated tag."""
    about = stored.about
    needs = f"{stored.path} needs the CLIP of its training, {about['clip']} (clip=TAG_OR_FILE, --pretrained TAG_OR_FILE)"
    if about["model"] is None:
        raise CheckpointMismatchError(f"{stored.path} needs a CLIP {about['clip']}; state it: --clip MODEL --pretrained TAG_OR_FILE "
                                      "(clip_model=, clip=).")
    source = clip or (stored.path if stored.carries_clip else require_tag(stored.path, about))
    if source is None:
        raise DataNotFoundError(f"{needs}: it came from a file, which is not inside; give that file.")
    mean, std = tuple(about["mean"]), tuple(about["std"])
    try:
        return ClipTowers(about["model"], source, mean=mean, std=std, trust_torchscript=trust_torchscript)
    except (DataNotFoundError, CheckpointMismatchError) as error:
        raise type(error)(f"{needs}: {error}") from error
