"""The two towers that GDPA joins, on the same depth views: the one that image-depth pre-training made, and CLIP's own; a point encoder as a third."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from clip2x.adapters import GatedFusion
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth import DepthViewEncoder
from clip2x.encoders.points import PointEncoder
from clip2x.errors import InputError
from clip2x.geometry import points_of_encoder

DEPTH, CLIP, POINTS = "depth", "clip", "points"  # paths, in this order


class DualPathEncoder(nn.Module):
    """Encode clouds along several paths.

    Args:
        depth: CLIP2Point's encoder; its pictures serve both towers.
        clip: The CLIP of its training; it stays its holder's, who moves it to a device.
        points: CLIP2's encoder as a third path (ours); its embedding counts as a path of one view.
        num_points: Points of a cloud that the point encoder is given, see `points_of_encoder`.

    Attributes:
        paths: Their names. num_views: of each.

    Raises:
        InputError: If the paths give features of different lengths.
    """

    def __init__(self, depth: DepthViewEncoder, clip: ClipTowers, points: PointEncoder | None = None, num_points: int = 0) -> None:
        super().__init__()
        widths = {DEPTH: depth.embed_dim, CLIP: clip.embed_dim} | ({} if points is None else {POINTS: points.embed_dim})
        if len(set(widths.values())) > 1:
            raise InputError("the paths of an adapter need features of one length, got "
                             f"{', '.join(f'{width} of {path}' for path, width in widths.items())}; take encoders of the same CLIP.")
        if points is not None and num_points < 1:
            raise InputError(f"a point encoder needs at least 1 point of a cloud, got num_points {num_points}.")
        self.depth, self.points, self.num_points = depth, points, num_points
        self._untouched = (DepthViewEncoder(clip, draw=depth.draw),)  # in a tuple: its weights are `clip`'s, listed once, by who holds it
        self.paths = tuple(widths)
        self.num_views = tuple(1 if path == POINTS else depth.num_views for path in self.paths)
        self.embed_dim = clip.embed_dim

    def forward(self, points: Float[Tensor, "B N 3"], num_real: Int64[Tensor, " B"] | None = None) -> list[Tensor]:
        """Encode clouds (unit sphere, object frame): raw features of every path, (B, V, E) float32 each; `num_real`: see `thin_out`."""
        grey = self.depth.draw(points)
        features = [self.depth.encode_views(grey).float(), self._untouched[0].encode_views(grey).float()]
        if self.points is not None:
            features.append(self.points(points_of_encoder(points, self.num_points, num_real)).float()[:, None])
        return features


class AdaptedEncoder(nn.Module):
    """Frozen towers with an adapter behind them, as one encoder of clouds.

    Args:
        towers: The towers.
        adapter: Made for the paths in `chosen`.
        chosen: Names of the paths that the adapter takes.

    Raises:
        InputError: If the adapter was made for other paths, views or towers.
    """

    def __init__(self, towers: DualPathEncoder, adapter: GatedFusion, chosen: tuple[str, ...] = (DEPTH, CLIP)) -> None:
        super().__init__()
        if missing := [path for path in chosen if path not in towers.paths]:
            raise InputError(f"an adapter cannot take the path {missing[0]!r}; there are {', '.join(towers.paths)}.")
        self.places = tuple(towers.paths.index(path) for path in chosen)
        views = tuple(towers.num_views[place] for place in self.places)
        if adapter.num_views != views or adapter.width != towers.embed_dim:
            raise InputError(f"this adapter takes {', '.join(map(str, adapter.num_views))} views of {adapter.width} channels, the towers give "
                             f"{', '.join(map(str, views))} of {towers.embed_dim}; use the views and the CLIP that it was made for.")
        self.towers, self.adapter, self.chosen = towers, adapter, tuple(chosen)
        self.embed_dim, self.num_views, self.draw = towers.embed_dim, towers.depth.num_views, towers.depth.draw

    def forward(self, points: Float[Tensor, "B N 3"], num_real: Int64[Tensor, " B"] | None = None) -> Float[Tensor, "B E"]:
        """Embed clouds (unit sphere, object frame) as unit vectors; `num_real`: see `thin_out`."""
        return self.of_features(self.towers(points, num_real))

    def of_features(self, features: list[Tensor]) -> Float[Tensor, "B E"]:
        """Embed what the towers gave for some clouds."""
        return functional.normalize(self.adapter([features[place] for place in self.places]).float(), dim=-1)
