"""Small networks behind frozen towers: CLIP2Point's Gated Dual-Path Adapter (GDPA), its released forerunner DPA, and PointCLIP's adapter.

The formula of GDPA is not public ("a dual-path structure with global-view aggregators and gated fusion"); `GatedFusion` is our reconstruction (ours),
and each of its choices is a switch. DPA (official code, 30673e7, models/dpa.py, models/adapter.py) is one setting of the same class, see
`released_dpa`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from clip2x.errors import InputError

GATES = ("vector", "scalar", "mean")
NORMS = ("none", "layer", "batch")
FUSION_START = 0.5  # of a view's weight; official code
POINTCLIP_SHARE = 0.6  # of the adapted feature; third party, PointCLIP: adapter_ratio


@dataclass(frozen=True)
class AdapterSettings:
    """What an adapter is made of; the defaults are our reconstruction of GDPA.

    Attributes:
        gate: what mixes the paths: `vector` (a weight for each channel), `scalar` (one for all), `mean` (fixed weights: those of `start`, else equal
            ones, as DPA).
        norm: of views and of the first layer's output: `none`, `layer` (each cloud by itself), or `batch`, as DPA.
        dropout: before both layers. DPA: 0.075 (official code). 0.5 is ours, see `docs/adapt.md`.
        view_weights: a learnt factor on each view. DPA: yes.
        residual: add the mean feature of a path's views, at unit length, to what its aggregator makes, whose last layer then starts at zero: training
            starts from the sum of the paths' cosines that `start` weighs.
        unit_views: bring every view's feature to unit length first; else raw features, as DPA.
    """

    gate: str = "vector"
    norm: str = "none"
    dropout: float = 0.5
    view_weights: bool = False
    residual: bool = True
    unit_views: bool = True

    def __post_init__(self) -> None:
        if self.gate not in GATES or self.norm not in NORMS:
            raise InputError(f"an adapter's gate is one of {', '.join(GATES)} and its norm one of {', '.join(NORMS)}, got {self.gate!r} and "
                             f"{self.norm!r}.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"an adapter's dropout must lie in [0, 1), got {self.dropout:g}.")

    @staticmethod
    def of(said: Mapping[str, Any]) -> AdapterSettings:
        """Read what `asdict` wrote; keys of later versions are refused.

        Raises:
            InputError: If a key is not known, or a value is not possible.
        """
        known = {item.name for item in fields(AdapterSettings)}
        if unknown := sorted(set(said) - known):
            raise InputError(f"an adapter has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}.")
        default = AdapterSettings()
        for name, value in said.items():
            if not isinstance(value, type(getattr(default, name))) or (name != "dropout" and isinstance(value, float)):
                raise InputError(f"an adapter's {name} must be like {getattr(default, name)!r}, got {value!r}.")
        return AdapterSettings(**said)


def released_dpa() -> AdapterSettings:
    """Give the settings of DPA as released (official code); with ten views of 512 channels it has 5,773,332 weights."""
    return AdapterSettings(gate="mean", norm="batch", dropout=0.075, view_weights=True, residual=False, unit_views=False)


class GlobalViewAggregator(nn.Module):
    """Make one feature of all views of a cloud: concatenated views -> C -> C.

    Args:
        num_views: V.
        width: C.
        settings: See there; `gate` has no effect here.
    """

    def __init__(self, num_views: int, width: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.num_views, self.width, self.residual, self.unit_views = num_views, width, settings.residual, settings.unit_views
        self.view_weights = nn.Parameter(torch.full((num_views,), FUSION_START)) if settings.view_weights else None
        norm: Callable[[int], nn.Module] = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}[settings.norm]
        self.view_norm = norm(width)
        self.gather = nn.Linear(num_views * width, width)
        self.norm = norm(width)
        self.project = nn.Linear(width, width)
        self.dropout = nn.Dropout(settings.dropout)
        if self.residual:
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)

    def forward(self, views: Float[Tensor, "B V C"]) -> Float[Tensor, "B C"]:
        """Aggregate.

        Raises:
            InputError: If there are other numbers of views or channels.
        """
        if views.shape[1:] != (self.num_views, self.width):
            raise InputError(f"this adapter takes {self.num_views} views of {self.width} channels, got {tuple(views.shape)}; use the views and the "
                             "towers that it was made for.")
        if self.unit_views:
            views = functional.normalize(views, dim=-1)
        weighted = views if self.view_weights is None else views * self.view_weights[:, None]
        normed = self.view_norm(weighted.flatten(0, 1)).view(weighted.shape)
        hidden = functional.relu(self.norm(self.gather(self.dropout(normed).flatten(1))))
        adapted: Tensor = self.project(self.dropout(hidden))
        return functional.normalize(views.mean(dim=1), dim=-1) + adapted if self.residual else adapted


class GatedFusion(nn.Module):
    """An aggregator for each path, and a gate that mixes their features: GDPA (ours) with its default settings, DPA with `released_dpa()`.

    The gate is softmax over the paths of W [g_1; ...; g_P], with a logit of zero for the last path, which for two paths is
    sigmoid(W [g_1; g_2]): f = G g_1 + (1 - G) g_2. W starts at zero.

    Args:
        num_views: Of each path; 1 for a point encoder, whose feature is a single "view".
        width: C, of all paths.
        settings: See there.
        start: How much each path weighs before training, positive numbers; None: all the same. With the factors of an ensemble that was fitted
            without labels, a residual adapter starts from that ensemble (ours).

    Raises:
        InputError: If there is no path, or `start` does not fit.
    """

    def __init__(self, num_views: Sequence[int], width: int, settings: AdapterSettings | None = None, start: Sequence[float] | None = None) -> None:
        super().__init__()
        self.settings = settings or AdapterSettings()
        if not num_views or min(num_views) < 1 or width < 1:
            raise InputError(f"an adapter needs at least one path, each with views, and channels, got views {list(num_views)} and {width} channels.")
        self.num_views, self.width = tuple(num_views), width
        self.aggregators = nn.ModuleList(GlobalViewAggregator(number, width, self.settings) for number in num_views)
        paths = len(self.num_views)
        wide = {"vector": width, "scalar": 1, "mean": 0}[self.settings.gate] if paths > 1 else 0
        self.gate = nn.Linear(paths * width, (paths - 1) * wide) if wide else None
        weights = torch.tensor([1.0] * paths if start is None else list(start))
        if len(weights) != paths or not bool(((weights > 0) & weights.isfinite()).all()):
            raise InputError(f"an adapter's gate starts with a positive weight for each of its {paths} paths, got {weights.tolist()}.")
        self.register_buffer("fixed", (weights / weights.sum()) if self.gate is None else None)
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            self.gate.bias.data.copy_((weights[:-1] / weights[-1]).log().repeat_interleave(wide))

    def forward(self, paths: Sequence[Float[Tensor, "..."]]) -> Float[Tensor, "B C"]:
        """Fuse the features of all paths, (B, V_p, C) each; the result is not normalised."""
        return self.fused(paths)[0]

    def fused(self, paths: Sequence[Float[Tensor, "..."]]) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B P G"]]:
        """Fuse, and tell how much each path weighed: G is C, or 1 where all channels share a weight; weights of a channel add up to 1.

        Raises:
            InputError: If there are more or fewer paths.
        """
        if len(paths) != len(self.aggregators):
            raise InputError(f"this adapter has {len(self.aggregators)} paths, got features of {len(paths)}; give those that it was made for.")
        globals_ = torch.stack([aggregate(views) for aggregate, views in zip(self.aggregators, paths, strict=True)], dim=1)
        batch, number, _ = globals_.shape
        if self.gate is None:
            fixed = cast(Tensor, self.fixed)
            weights = fixed.to(globals_.dtype)[None, :, None].expand(batch, number, 1)
        else:
            logits = self.gate(globals_.flatten(1)).view(batch, number - 1, -1)
            weights = torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1).softmax(dim=1)
        return (weights * globals_).sum(dim=1), weights

    def describe(self) -> dict[str, Any]:
        """State what builds it again, see `build_adapter`."""
        return {"kind": "gated_fusion", "num_views": list(self.num_views), "width": self.width, **asdict(self.settings)}


class InterViewAdapter(nn.Module):
    """PointCLIP's inter-view adapter on one path: every view's feature becomes 0.6 of an adapted one and 0.4 of itself.

    Source: third party, PointCLIP (arXiv:2112.02413), trainers/mv_utils of its code as we know it: view weights, batch normalisation, dropout,
    V C -> C, batch normalisation, ReLU, dropout, C -> C, ReLU, C -> V C, ReLU; the concatenated views are compared with the text repeated V times.

    Args:
        num_views: V.
        width: C.
        dropout: PointCLIP: 0.075.
    """

    def __init__(self, num_views: int, width: int, dropout: float = 0.075) -> None:
        super().__init__()
        self.num_views, self.width = num_views, width
        self.view_weights = nn.Parameter(torch.full((num_views,), FUSION_START))
        self.view_norm, self.norm = nn.BatchNorm1d(width), nn.BatchNorm1d(width)
        self.gather, self.hidden, self.spread = nn.Linear(num_views * width, width), nn.Linear(width, width), nn.Linear(width, num_views * width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, paths: Sequence[Float[Tensor, "..."]]) -> Float[Tensor, "B C"]:
        """Adapt the views of the only path, (B, V, C), which are brought to unit length first (ours: the small CLIP's raw features are 80 long, which
        leaves the adapted part without weight).

        Returns:
            The mean of the adapted views over the root mean square of their lengths: its product with a unit text is the cosine of the concatenated
            views and the repeated text, PointCLIP's, so it is not to be normalised again.
        """
        views = functional.normalize(paths[0], dim=-1)
        weighted = views * self.view_weights[:, None]
        normed = self.view_norm(weighted.flatten(0, 1)).view(weighted.shape)
        gathered = self.dropout(functional.relu(self.norm(self.gather(self.dropout(normed).flatten(1)))))
        adapted = functional.relu(self.spread(functional.relu(self.hidden(gathered)))).view(views.shape)
        mixed = POINTCLIP_SHARE * adapted + (1 - POINTCLIP_SHARE) * views
        return mixed.mean(dim=1) / mixed.square().sum(dim=(1, 2)).div(self.num_views).sqrt().clamp(min=1e-12)[:, None]


def build_adapter(said: Mapping[str, Any]) -> GatedFusion:
    """Build what `GatedFusion.describe` stated.

    Raises:
        InputError: If the kind is unknown, or a setting is not possible.
    """
    said = dict(said) if isinstance(said, Mapping) else {}
    if (kind := said.pop("kind", None)) != "gated_fusion":
        raise InputError(f"an adapter of kind {kind!r} is not known here; known is gated_fusion.")
    num_views, width = said.pop("num_views", []), said.pop("width", 0)
    if not isinstance(width, int) or not isinstance(num_views, list) or not all(isinstance(number, int) for number in num_views):
        raise InputError(f"an adapter needs whole numbers of views and channels, got {num_views!r} and {width!r}.")
    return GatedFusion(num_views, width, AdapterSettings.of(said))
