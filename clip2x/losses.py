"""Contrastive losses: tensors in, named scalars out. They know nothing of Lightning; features of several processes are gathered before."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


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
            logits = self.scale * image_embeds.float() @ text_embeds.float().T
        own = torch.arange(len(logits), device=logits.device)
        masked = logits.masked_fill(also_true & (own[:, None] != own), -torch.inf)
        image_to_text = functional.cross_entropy(masked, own)
        text_to_image = functional.cross_entropy(masked.T, own)
        return {"loss": (image_to_text + text_to_image) / 2, "image_to_text": image_to_text, "text_to_image": text_to_image}
