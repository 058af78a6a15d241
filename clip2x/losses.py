"""Contrastive losses: tensors in, named scalars out. They know nothing of Lightning; features of several processes are gathered before."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from clip2x.errors import InputError, TrainingDivergedError

CONTRASTS = ("nt_xent", "info_nce")


class CaptionLoss(nn.Module):
    """Contrast pictures with captions in both directions, CLIP's loss, with a mask for captions that are also true of another picture.

    Source: InfoNCE with a learnable, clamped scale as in CLIP (arXiv:2103.00020). The mask is ours: generated captions repeat.

    Args:
        temperature: Start of the learnable temperature. CLIP: 0.07.
        max_scale: Largest exp(log scale). CLIP: 100.
    """

    def __init__(self, temperature: float = 0.07, max_scale: float = 100.0) -> None:
        super().__init__()
        self.max_scale = max_scale
        self.log_scale = nn.Parameter(torch.tensor(math.log(1.0 / temperature)))

    @property
    def scale(self) -> Tensor:
        """The factor on the cosines, at most `max_scale`."""
        return self.log_scale.exp().clamp(max=self.max_scale)

    def forward(self, image_embeds: Float[Tensor, "B E"], text_embeds: Float[Tensor, "B E"], also_true: Bool[Tensor, "B B"]) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            image_embeds, text_embeds: Unit length; row i of both belong together.
            also_true: [i, j] says that caption j is true of picture i as well; such pairs are no negatives. The diagonal is ignored.

        Returns:
            `loss` and its halves `image_to_text`, `text_to_image`.
        """
        with torch.autocast(image_embeds.device.type, enabled=False):
            logits = _held_scale(self.log_scale, self.max_scale) * image_embeds.float() @ text_embeds.float().T
        own = torch.arange(len(logits), device=logits.device)
        masked = logits.masked_fill(also_true & (own[:, None] != own), -torch.inf)
        image_to_text = functional.cross_entropy(masked, own)
        text_to_image = functional.cross_entropy(masked.T, own)
        return {"loss": (image_to_text + text_to_image) / 2, "image_to_text": image_to_text, "text_to_image": text_to_image}


class DepthPairLoss(nn.Module):
    """CLIP2Point's loss: pull the depth features of an object towards its image (cross) and those of its two depth views together (intra).

    `loss = cross + intra / s^2 + log(s + 1)`, s learnable, 1 at the start; at rest `2 intra / s^3 = 1 / (s + 1)`. Both terms are NT-Xent:
    of N pairs (a_i, b_i) of unit vectors each of the 2N rows has its partner as the positive; the denominator runs over the N vectors of
    the other side and the N - 1 others of its own side (SimCLR's form, pictures are negatives of pictures too). Cosines are divided by the
    temperature, the cross-entropies of the 2N rows are averaged.

    Source: CLIP2Point (arXiv:2210.01055), official code 30673e7, models/clip2point.py; NT-Xent as in lightly's `NTXentLoss`, which it calls.
    The intra term, s and the mean of the two raw features before normalising are the official code's.

    All is computed in float32 (float64 for float64 features), also under autocast.

    Args:
        temperature: Official code: 0.07.
        intra: False is an ablation of ours: `loss = cross`; s is then not trained (it asks for no gradient, so DDP waits for none), and the
            intra term is computed without gradient, for the log.
        contrast: `nt_xent` (official code), or `info_nce` (ours): CLIP's loss, in which only vectors of the other side are negatives.

    Attributes:
        s: The learnable scalar, the module's only parameter.

    Raises:
        InputError: If an argument cannot be used.
    """

    def __init__(self, temperature: float = 0.07, *, intra: bool = True, contrast: str = "nt_xent") -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise InputError(f"temperature must be a positive number, got {temperature}; the official code has 0.07.")
        if contrast not in CONTRASTS:
            raise InputError(f"unknown contrast {contrast!r}; known: {', '.join(CONTRASTS)}.")
        self.temperature, self.intra, self.contrast = temperature, intra, contrast
        self.s = nn.Parameter(torch.tensor(1.0), requires_grad=intra)

    def forward(self, view_features: Float[Tensor, "..."], image_features: Float[Tensor, "..."]) -> dict[str, Tensor]:
        """Compute the loss over the whole batch; features of several processes are joined before (`clip2x.modules.gathering`).

        Args:
            view_features: (B, 2, E) raw features of each object's two depth views, B at least 2.
            image_features: (B, E) raw features of its image.

        Returns:
            Scalars `loss`, `cross`, `intra` (before s).

        Raises:
            InputError: If the shapes do not fit, or the batch has no negatives.
        """
        _check_pairs(view_features, image_features)
        with torch.autocast(view_features.device.type, enabled=False):
            views, images = _at_least_float32(view_features), _at_least_float32(image_features)
            cross = self._contrast(views.mean(dim=1), images)
            with torch.set_grad_enabled(self.intra and torch.is_grad_enabled()):
                intra = self._contrast(views[:, 0], views[:, 1])
            loss = cross + intra / self.s**2 + torch.log(self.s + 1) if self.intra else cross
        return {"loss": loss, "cross": cross, "intra": intra}

    def check(self) -> None:
        """Check that s has not left the range in which the loss means anything; call it now and then, it waits for the device.

        The loss has a pole at s = 0 and no value from s = -1 on; the official code would go on behind them (the check is ours).

        Raises:
            TrainingDivergedError: If s is not a positive number.
        """
        if not 0 < (s := float(self.s.detach())) < math.inf:
            raise TrainingDivergedError(f"s of DepthPairLoss is {s:g}, but intra / s^2 + log(s + 1) needs a positive number; "
                                        "lower the learning rate and go on from an earlier checkpoint, or train with intra: false.")

    def _contrast(self, first: Tensor, second: Tensor) -> Tensor:
        """Contrast N pairs of raw vectors, (N, E) each."""
        first, second = functional.normalize(first, dim=-1), functional.normalize(second, dim=-1)
        return (_nt_xent if self.contrast == "nt_xent" else _info_nce)(first, second, self.temperature)


def _nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Average the cross-entropies of 2N rows; one (2N, 2N) matrix holds all four blocks of similarities."""
    both = torch.cat([first, second])
    logits = both / temperature @ both.T
    # on the detached matrix, which saves autograd a copy: a row's softmax is 0 there, so no gradient comes from the diagonal
    logits.detach().fill_diagonal_(-torch.inf)
    partner = torch.arange(len(logits), device=logits.device).roll(len(first))
    return functional.cross_entropy(logits, partner)


def _info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    logits = first / temperature @ second.T
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _check_pairs(view_features: Tensor, image_features: Tensor) -> None:
    found = f"{tuple(view_features.shape)} and {tuple(image_features.shape)}"
    if view_features.ndim != 3 or view_features.shape[1] != 2:
        raise InputError(f"view_features must be (B, 2, E), two views of each object, and image_features (B, E), got {found}.")
    if image_features.shape != view_features[:, 0].shape:
        raise InputError(f"image_features must be (B, E) with B and E of view_features (B, 2, E), got {found}; "
                         "both must come from towers of the same CLIP.")
    if len(image_features) < 2:
        raise InputError(f"the loss contrasts pairs with each other and needs at least 2 in a batch, got {len(image_features)}; "
                         "use a larger batch_size, and drop a last batch that is smaller.")


class GlobalBatch(NamedTuple):
    """What the rows of one process are contrasted with: the embeddings of all processes, in the order of the ranks.

    point_embeds: (W B, E), with gradients where the points ask for them. text_ids: (W B,). text_embeds, image_embeds: (W B, E).
    first_row: where the own rows begin. instance_ids: (W B,), None where all differ.
    """

    point_embeds: Tensor
    text_embeds: Tensor
    image_embeds: Tensor | None
    text_ids: Tensor
    first_row: int
    instance_ids: Tensor | None = None


class TripletLoss(nn.Module):
    """CLIP2's loss: pull the points of a triplet towards its text (semantic level) and towards its picture (instance level).

    `loss = text_weight text + image_weight image`; each term is InfoNCE in both directions over unit vectors. In the text term a triplet with
    the same text is no negative: its logit is -inf (the successor's code sets it to 0, which leaves e^0 in the denominator). The image term
    is by instance: only samples of the very same object, as balanced sampling repeats some, are no negatives there (ours).

    With a `GlobalBatch` the rows of one process are contrasted with the columns of all, so that memory grows as B x W B and not as (W B)^2:
    open_clip's local loss. The mean over the processes is the loss of the joined batch, and so are its gradients under DDP.

    All is computed in float32 (float64 for float64 embeddings), also under autocast.

    Source: CLIP2 (arXiv:2303.12417) has both terms; no code was published. The mask and both weights: third party (UniGS ced8a3e,
    lib/get_model.py, same authors in part). Temperature 0.07 to start with and the bound on the scale: CLIP's.

    Args:
        text_weight, image_weight: 0 leaves a term out.
        temperature: Of both terms, or where they start.
        learnable: Whether the temperatures are trained. separate: whether each term has its own.
        max_scale: Largest 1 / temperature when it is trained.

    Raises:
        InputError: If an argument cannot be used.
    """

    def __init__(self, text_weight: float = 0.5, image_weight: float = 0.5, temperature: float = 0.07, learnable: bool = False,
                 separate: bool = False, max_scale: float = 100.0) -> None:
        super().__init__()
        if not (0 <= text_weight < math.inf and 0 <= image_weight < math.inf and text_weight + image_weight > 0):
            raise InputError(f"text_weight and image_weight must be at least 0 and not both 0, got {text_weight} and {image_weight}.")
        if not 0 < temperature < math.inf or not max_scale * temperature >= 1:
            raise InputError(f"temperature must be a positive number of at least 1 / max_scale, got {temperature} and max_scale {max_scale}.")
        if separate and not learnable:
            raise InputError("separate temperatures are only of use when they are learnable; set learnable: true too.")
        self.text_weight, self.image_weight, self.separate, self.max_scale = text_weight, image_weight, separate, max_scale
        self.log_scale = nn.Parameter(torch.full((2 if separate else 1,), -math.log(temperature)), requires_grad=learnable)

    @property
    def scales(self) -> tuple[Tensor, Tensor]:
        """The factors on the cosines of the text and the image term, at most `max_scale`."""
        scale = self.log_scale.exp().clamp(max=self.max_scale)
        return scale[0], scale[-1]

    def forward(self, point_embeds: Float[Tensor, "..."], text_embeds: Float[Tensor, "..."], image_embeds: Float[Tensor, "..."] | None,
                text_ids: Int[Tensor, "..."], whole: GlobalBatch | None = None, instance_ids: Int[Tensor, "..."] | None = None) -> dict[str, Tensor]:
        """Compute the loss of B triplets.

        Args:
            point_embeds, text_embeds, image_embeds: (B, E), unit length; row i of all three belongs to one triplet. No pictures are needed
                where `image_weight` is 0.
            text_ids: (B,), concept of each text; synonyms share one.
            whole: The joined batch of all processes; None where there is one.
            instance_ids: (B,), the object that each triplet shows; None where all differ.

        Returns:
            Scalars `loss`, `text`, `image`; a term without weight is 0.

        Raises:
            InputError: If the shapes do not fit, or there are no pictures for the image term.
        """
        _check_triplets(point_embeds, text_embeds, image_embeds, text_ids, needs_images=self.image_weight > 0)
        whole = whole or GlobalBatch(point_embeds, text_embeds, image_embeds, text_ids, 0, instance_ids)
        if len(whole.text_ids) < 2:
            raise InputError("the loss contrasts triplets with each other and needs at least 2 in a batch, got 1; use a larger batch_size.")
        own = whole.first_row + torch.arange(len(point_embeds), device=point_embeds.device)
        zero = point_embeds.new_zeros((), dtype=torch.promote_types(point_embeds.dtype, torch.float32))
        scale = _held_scale(self.log_scale, self.max_scale)
        text_scale, image_scale = scale[0], scale[-1]
        with torch.autocast(point_embeds.device.type, enabled=False):
            text = image = zero
            if self.text_weight:
                same = _no_negatives(text_ids, whole.text_ids, own)
                text = _both_ways(point_embeds, text_embeds, whole.point_embeds, whole.text_embeds, own, text_scale, same)
            if self.image_weight:
                assert image_embeds is not None and whole.image_embeds is not None
                alike = None if instance_ids is None or whole.instance_ids is None else _no_negatives(instance_ids, whole.instance_ids, own)
                image = _both_ways(point_embeds, image_embeds, whole.point_embeds, whole.image_embeds, own, image_scale, alike)
            loss = self.text_weight * text + self.image_weight * image
        return {"loss": loss, "text": text, "image": image}


def _no_negatives(ids: Tensor, all_ids: Tensor, own: Tensor) -> Tensor:
    """Mark the columns of a row that have its id, (B, W B); its own column is the positive."""
    return (ids[:, None] == all_ids[None]).scatter_(1, own[:, None], False)


def _held_scale(log_scale: Tensor, max_scale: float) -> Tensor:
    """Bring a scale that a step took beyond its bound back to it, as CLIP does, and give it: a clamp has no gradient beyond, so none leads back."""
    with torch.no_grad():
        log_scale.clamp_(max=math.log(max_scale))
    return log_scale.exp()


def _both_ways(points: Tensor, others: Tensor, all_points: Tensor, all_others: Tensor, own: Tensor, scale: Tensor, masked: Tensor | None) -> Tensor:
    """Average the cross-entropies of points against all others, and of the others against all points."""
    losses = []
    for rows, columns in ((points, all_others), (others, all_points)):
        logits = scale * _at_least_float32(rows) @ _at_least_float32(columns).T
        losses.append(functional.cross_entropy(logits if masked is None else logits.masked_fill(masked, -torch.inf), own))
    return (losses[0] + losses[1]) / 2


def _check_triplets(points: Tensor, texts: Tensor, images: Tensor | None, text_ids: Tensor, *, needs_images: bool) -> None:
    if needs_images and images is None:
        raise InputError("the image term needs image_embeds; give them, or set image_weight: 0.")
    shapes = {"point_embeds": points, "text_embeds": texts, **({"image_embeds": images} if images is not None and needs_images else {})}
    found = ", ".join(f"{name} {tuple(values.shape)}" for name, values in shapes.items())
    if points.ndim != 2 or any(values.shape != points.shape for values in shapes.values()) or text_ids.shape != points.shape[:1]:
        raise InputError(f"embeddings must all be (B, E) and text_ids (B,), got {found}, text_ids {tuple(text_ids.shape)}; towers of the same "
                         "CLIP give the same E.")
