"""A small convolutional image tower for CPUs, offered to open_clip as a timm model (`clip2x_conv`). Ours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.models import register_model
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with GroupNorm and a skip connection: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_1 = nn.GroupNorm(groups, channels)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_2 = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's correction to its input."""
        correction = self.norm_2(self.conv_2(torch.relu(self.norm_1(self.conv_1(x)))))
        return torch.relu(x + correction)


class ConvTower(nn.Module):
    """Patch stem, then one residual block per stage, each stage at half the resolution of the one before.

    GroupNorm, so that results do not depend on the batch or on the number of processes. Keeps the small part of timm's interface that
    open_clip's `TimmModel` uses (`default_cfg`, `num_features`, `reset_classifier`).
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 256), patch: int = 4, groups: int = 8) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], patch, stride=patch, bias=False)]
        for position, width in enumerate(widths):
            if position:
                layers.append(nn.Conv2d(widths[position - 1], width, 3, stride=2, padding=1, bias=False))
            layers += [nn.GroupNorm(groups, width), nn.ReLU(), ResidualBlock(width, groups)]
        self.stages = nn.Sequential(*layers)
        self.num_features = widths[-1]
        self.default_cfg: dict[str, object] = {}

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Accept open_clip's call; the tower has no classifier and always averages over the picture."""
        if num_classes != 0 or global_pool != "avg":
            raise ValueError(f"clip2x_conv has average pooling and no classifier, asked for {num_classes} classes and pooling {global_pool!r}.")

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pictures -> (B, num_features)."""
        features: Tensor = self.stages(x)
        return features.mean(dim=(2, 3))


@register_model  # type: ignore[untyped-decorator]  # timm has no types
def clip2x_conv(pretrained: bool = False, **unused: object) -> ConvTower:
    """Build the tower for timm's model table; there are no published weights."""
    if pretrained:
        raise ValueError("clip2x_conv has no published weights; train it with `make pretrain-clip`.")
    return ConvTower()
