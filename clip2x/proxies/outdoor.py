"""From boxes in the pictures of a LiDAR frame to the points of the objects in them.

Each box is lifted in four steps: the points in its frustum, without the ground; clusters of all points of the frame; the cluster that fits
the box best, counted in points; a division of the points among the boxes that want them. What CLIP2 did is known in outline only (a frustum,
DBSCAN, one chosen cluster; third party: a public reading note), so that all rules and numbers here are ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import InputError
from clip2x.geometry import box_iou, project_points, transform_points
from clip2x.proxies.clusters import density_clusters, thinned_clusters
from clip2x.proxies.ground import height_above_plane, height_above_surface
from clip2x.types import Camera, Detections, Lifted, Proxy, SceneFrame

GROUND = {"surface": height_above_surface, "plane": height_above_plane}

EGO_X, EGO_Y = 1.5, 2.5  # metres in the LiDAR's frame (y to the front): nearer points are of the car itself. Ours, as in the reader's sweeps
MIN_DEPTH = 1.0  # metres: third party, nuscenes-devkit (map_pointcloud_to_image)
EDGE_PX = 1.0  # pixels along the border of a picture that no point may lie in: third party, nuscenes-devkit

BAD_BOX = "bad box"
NO_POINTS = "no points"
NO_CLUSTER = "no cluster"
OCCLUDED = "occluded"
POOR_FIT = "poor fit"
TOO_FEW_POINTS = "too few points"
BEYOND_RANGE = "beyond range"
IMPLAUSIBLE_EXTENT = "implausible extent"
CUT_BY_BORDER = "cut by border"
DUPLICATE = "duplicate"
DUPLICATE_CAMERA = "duplicate camera"
RULES = (BAD_BOX, NO_POINTS, NO_CLUSTER, OCCLUDED, POOR_FIT, TOO_FEW_POINTS, BEYOND_RANGE, IMPLAUSIBLE_EXTENT, CUT_BY_BORDER, DUPLICATE,
         DUPLICATE_CAMERA)
"""The rules that drop a detection, each under its name in `Lifted.rules`; `OutdoorLifting` says when."""


@dataclass(frozen=True)
class Solid:
    """What stands on the ground: rows in the frame's points (M,), places (M, 3) upright, distances (M,), clusters (M,)."""

    index: NDArray[np.int64]
    points: NDArray[np.float64]
    distance: NDArray[np.float64]
    cluster: NDArray[np.int64]


@dataclass(eq=False)
class Wish:
    """A box that looks for its points.

    order: place among all boxes of the frame. seen: (M,), what of `Solid` its picture shows. window: rows of `Solid` in and around the box;
    inside: which of them lie in it; cluster: theirs; pixels: where they are seen. choice: rows of `Solid` wanted at the moment, None when they
    have to be looked for; fit: how well they fit; label: their cluster; labels: all clusters in the box; ends_inside: share of the cluster's
    points in and around the box that lies in it.
    """

    order: int
    camera: Camera
    box_px: NDArray[np.float32]
    concept_id: int
    score: float
    seen: NDArray[np.bool_]
    window: NDArray[np.int64]
    inside: NDArray[np.bool_]
    cluster: NDArray[np.int64]
    pixels: NDArray[np.float64]
    choice: NDArray[np.int64] | None = None
    fit: float = 0.0
    label: int = -1
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    ends_inside: float = 1.0


class OutdoorLifting:
    """Lifts the boxes of a frame (nuScenes: one LiDAR, six cameras).

    A cluster fits a box by `inside / (all in the box + outside_weight * outside)`, counted in points that no other box has taken: every beam
    gives one point whatever its distance, so that this compares areas seen from the sensor. `outside` are the cluster's points around the box:
    what goes on beyond it (a wall, a hedge, a nearer object that is cut by the box) is not what the detector has framed.
    The best fitting box takes its points first; the others choose again from what is left. A cluster that goes on beyond its box and is wanted
    by other such boxes too (a row of touching barriers) is cut: each point goes to the box in whose middle it lies most.

    Every detection ends as a proxy or under one of these rules:
    `bad box`: NaN, no area, or outside the picture. `no points`: nothing but ground in it. `no cluster`: single points only.
    `occluded`: all its points went to other boxes. `poor fit`: the best fit is below `least_fit`. `too few points`: fewer than `min_points`.
    `beyond range`: the points' median distance is above `max_range`. `implausible extent`: their longest side is outside `extent`.
    `cut by border`: the box touches the border of the picture, beyond which most of the cluster lies (`border_share`).
    `duplicate`: shares more than `duplicate_share` of the points (of the smaller of the two) with a better scored box of the same camera, the
    boxes overlapping by more than `duplicate_iou`. `duplicate camera`: the same with a box of another camera, whatever the boxes.
    """

    def __init__(self, *, ground: str = "surface", ground_height: float = 0.15, eps_per_metre: float = 0.05, least_eps: float = 0.2,
                 min_samples: int = 3, eps_bands: Sequence[tuple[float, float, int]] | None = None, context: float = 2.0,
                 outside_weight: float = 2.0, exclusive: bool = True, divide_below: float = 0.8, least_fit: float = 0.1, min_points: int = 5,
                 max_range: float = 60.0, extent: tuple[float, float] = (0.1, 25.0), border_px: float = 2.0, border_share: float = 0.3,
                 duplicate_share: float = 0.6, duplicate_iou: float = 0.65) -> None:
        """Choose the method; all defaults are ours, most of them tuned on the mini-world's training streets.

        Args:
            ground: `surface` (bends with the road) or `plane`.
            ground_height: Points up to so high above the ground are ground, metres; feet and low barriers begin above.
            eps_per_metre: Radius of the clustering for each metre of distance: about 2.2 times the 1.33 degrees between two beams, so that a
                cluster may miss a beam.
            least_eps: Smallest radius, metres.
            min_samples: Points within the radius that make a point a core of a cluster.
            eps_bands: Radius and min_samples by distance instead: (until metres, radius, min_samples), near ones first; the last is for all beyond.
            context: How far the surroundings of a box reach, in widths and heights of it. With 0 the points of each box are clustered by
                themselves.
            outside_weight: Weight of a cluster's points outside the box; with 0 the largest cluster wins.
            exclusive: Each point belongs to one proxy.
            divide_below: Clusters of which a smaller share lies inside the box are divided among the boxes that want them.
            least_fit: Smallest fit, from 0 to 1.
            min_points: Smallest number of points of a proxy.
            max_range: Farthest distance of a proxy, metres.
            extent: Smallest and largest side of a proxy, metres.
            border_px: A box so near to the border of its picture is cut by it, pixels.
            border_share: What must be seen of an object cut by the border, as a share of its points there and beyond.
            duplicate_share, duplicate_iou: See the class.

        Raises:
            InputError: If `ground` is no such method or a number is out of its range.
        """
        if ground not in GROUND:
            raise InputError(f"ground must be one of {', '.join(GROUND)}, got {ground!r}.")
        for name, value, low, high in (
                ("ground_height", ground_height, 0, 10), ("eps_per_metre", eps_per_metre, 0, 1), ("least_eps", least_eps, 1e-3, 100),
                ("min_samples", min_samples, 1, 1000), ("context", context, 0, 1e3), ("outside_weight", outside_weight, 0, 1e6),
                ("divide_below", divide_below, 0, 1), ("least_fit", least_fit, 0, 1), ("min_points", min_points, 1, 1e6),
                ("max_range", max_range, 1, 1e4), ("border_share", border_share, 0, 1), ("duplicate_share", duplicate_share, 0, 1),
                ("duplicate_iou", duplicate_iou, 0, 1)):
            if not low <= value <= high:
                raise InputError(f"{name} must be from {low:g} to {high:g}, got {value}.")
        if not 0 <= extent[0] < extent[1]:
            raise InputError(f"extent must be two growing lengths in metres, got {extent}.")
        if eps_bands is not None and not (eps_bands and all(band[1] > 0 and band[2] >= 1 for band in eps_bands)):
            raise InputError(f"eps_bands must be (until metres, radius above 0, min_samples from 1) for each band, at least one; got {eps_bands}.")
        self.settings: dict[str, Any] = {
            "ground": ground, "ground_height": ground_height, "eps_per_metre": eps_per_metre, "least_eps": least_eps, "min_samples": min_samples,
            "eps_bands": None if eps_bands is None else [list(band) for band in eps_bands], "context": context, "outside_weight": outside_weight,
            "exclusive": exclusive, "divide_below": divide_below, "least_fit": least_fit, "min_points": min_points, "max_range": max_range,
            "extent": list(extent), "border_px": border_px, "border_share": border_share, "duplicate_share": duplicate_share,
            "duplicate_iou": duplicate_iou}
        self.ground, self.ground_height = ground, ground_height
        self.eps_per_metre, self.least_eps, self.min_samples, self.eps_bands = eps_per_metre, least_eps, min_samples, eps_bands
        self.context, self.outside_weight, self.exclusive, self.divide_below = context, outside_weight, exclusive, divide_below
        self.least_fit, self.min_points, self.max_range, self.extent = least_fit, min_points, max_range, extent
        self.border_px, self.border_share = border_px, border_share
        self.duplicate_share, self.duplicate_iou = duplicate_share, duplicate_iou

    @classmethod
    def plain(cls, **changes: Any) -> OutdoorLifting:
        """Build the baseline that the default is compared with: frustum, one ground plane, DBSCAN in each box, the largest cluster."""
        settings: dict[str, Any] = {
            "ground": "plane", "ground_height": 0.2, "eps_bands": ((15.0, 0.4, 5), (30.0, 0.7, 4), (50.0, 1.1, 3)), "context": 0.0,
            "outside_weight": 0.0, "exclusive": False, "divide_below": 0.0, "least_fit": 0.0, "min_points": 10, "max_range": 50.0,
            "extent": (0.2, 20.0), "border_share": 0.0, "duplicate_iou": 1.0}
        return cls(**(settings | changes))

    def describe(self) -> dict[str, Any]:
        """Give everything that decides the result, for the store's provenance."""
        return {"kind": "outdoor", **self.settings}

    def __call__(self, frame: SceneFrame, found: Mapping[str, Detections]) -> Lifted:
        """Lift what was found in the pictures of a frame.

        Args:
            frame: Its points in the LiDAR's frame, its cameras; any number of points (several sweeps).
            found: Detections by camera name; cameras without an entry have none.

        Returns:
            The proxies in the order of cameras and boxes, and the counters.

        Raises:
            InputError: If `found` names a camera that the frame does not have.
        """
        unknown = sorted(set(found) - {camera.name for camera in frame.cameras})
        if unknown:
            known = ", ".join(camera.name for camera in frame.cameras) or "none"
            raise InputError(f"frame {frame.token}: detections of camera {unknown[0]!r}, which it does not have (it has {known}).")
        rules: Counter[str] = Counter(detections=sum(len(detections) for detections in found.values()))
        solid = self.solid(frame)
        wishes = self.wishes(frame, found, solid, rules)
        proxies = self.divide(wishes, solid, rules)
        rules["proxies"] = len(proxies)
        return Lifted(proxies, rules)

    def solid(self, frame: SceneFrame) -> Solid:
        """Find what stands on the ground, and its clusters."""
        points = frame.points.astype(np.float64)
        upright = points @ frame.upright_from_points.T
        distance = np.linalg.norm(points, axis=1)
        own = (np.abs(points[:, 0]) < EGO_X) & (np.abs(points[:, 1]) < EGO_Y)
        height = GROUND[self.ground](upright)
        # Where no ground is found nothing is removed; what lies beyond the range is kept for a while, since it may be in front of nothing else.
        index = np.flatnonzero(~own & ~(height <= self.ground_height) & (distance < 1.2 * self.max_range))
        upright, distance = upright[index], distance[index]
        cluster = self.clusters(upright, distance) if self.context > 0 else np.zeros(len(index), dtype=np.int64)
        return Solid(index, upright, distance, cluster)

    def clusters(self, points: NDArray[np.float64], distance: NDArray[np.float64]) -> NDArray[np.int64]:
        """Cluster points (N, 3) with radii by distance (N,) from the sensor."""
        cluster = thinned_clusters if self.context > 0 else density_clusters
        if self.eps_bands is None:
            return cluster(points, np.maximum(self.least_eps, self.eps_per_metre * distance), self.min_samples)
        until, radius, least = (np.array(column) for column in zip(*self.eps_bands, strict=True))
        band = np.searchsorted(until[:-1], distance, side="right")
        return cluster(points, radius[band].astype(np.float64), least[band])

    def wishes(self, frame: SceneFrame, found: Mapping[str, Detections], solid: Solid, rules: Counter[str]) -> list[Wish]:
        """Find the points in and around every box; points are projected once a camera."""
        wishes: list[Wish] = []
        for camera in frame.cameras:
            detections = found.get(camera.name)
            if detections is None or not len(detections):
                continue
            pixels, depth = project_points(transform_points(camera.camera_from_points, frame.points[solid.index]), camera.intrinsics)
            size = np.array([camera.width_px, camera.height_px])
            with np.errstate(invalid="ignore"):
                seen = (depth > MIN_DEPTH) & ((pixels >= EDGE_PX) & (pixels < size - EDGE_PX)).all(axis=1)
            shown, pixels = np.flatnonzero(seen), pixels[seen]
            for position in range(len(detections)):
                box = detections.box_px[position].astype(np.float64)
                left, top, right, bottom = box
                if not (left < right and top < bottom and right > 0 and bottom > 0 and left < size[0] and top < size[1]):  # NaN ends here too
                    rules[BAD_BOX] += 1
                    continue
                around = self.context * np.array([left - right, top - bottom, right - left, bottom - top])
                window = np.flatnonzero(_inside(pixels, box + around))
                inside = _inside(pixels[window], box)
                if not inside.any():
                    rules[NO_POINTS] += 1
                    continue
                rows = shown[window]
                cluster = solid.cluster[rows] if self.context > 0 else self.clusters(solid.points[rows], solid.distance[rows])
                wishes.append(Wish(len(wishes), camera, detections.box_px[position], int(detections.concept_id[position]),
                                   float(detections.score[position]), seen, rows, inside, cluster, pixels[window]))
        return wishes

    def divide(self, wishes: list[Wish], solid: Solid, rules: Counter[str]) -> tuple[Proxy, ...]:
        """Give the points to the boxes, the best fitting box first."""
        free = np.ones(len(solid.index), dtype=bool)
        waiting, won = list(wishes), {}
        while True:
            for wish in list(waiting):
                if wish.choice is None and not self._choose(wish, free, solid, rules):
                    waiting.remove(wish)
            if not waiting:
                break
            wish = max(waiting, key=lambda item: (item.fit, item.score, -item.order))
            broken = self._broken_rule(wish, wish.choice, free, solid)
            if broken:
                waiting.remove(wish)
                rules[broken] += 1
                continue
            same = [item for item in waiting if self._same(wish, item) and not self._broken_rule(item, item.choice, free, solid)]
            best = max(same, key=lambda item: (item.score, -item.order))
            for item in same:
                waiting.remove(item)
                if item is not best:
                    rules[DUPLICATE if item.camera is best.camera else DUPLICATE_CAMERA] += 1
            taken = self._cut(best, waiting)
            broken = self._broken_rule(best, taken, free, solid)
            if broken:
                rules[broken] += 1
                continue
            won[best.order] = taken
            if self.exclusive:
                free[taken] = False
                for item in waiting:  # what was taken beside a box matters only to the cluster it was taken from
                    if best.label in item.labels or not free[item.window[item.inside]].all():
                        item.choice = None
        return tuple(Proxy(wish.camera.name, wish.box_px, wish.concept_id, wish.score, np.sort(solid.index[won[wish.order]]))
                     for wish in wishes if wish.order in won)

    def _choose(self, wish: Wish, free: NDArray[np.bool_], solid: Solid, rules: Counter[str]) -> bool:
        """Find the cluster that fits a box best; False, and the rule counted, where there is none."""
        open_ = free[wish.window]
        inside = wish.inside & open_
        if not inside.any():
            rules[OCCLUDED] += 1
            return False
        labels, within = np.unique(wish.cluster[inside], return_counts=True)
        around = wish.cluster[open_]
        place = np.minimum(np.searchsorted(labels, around), len(labels) - 1)
        total = np.bincount(place[labels[place] == around], minlength=len(labels))
        fit = np.where(labels >= 0, within / (inside.sum() + self.outside_weight * (total - within)), -1.0)
        best = np.flatnonzero(fit == fit.max())
        if fit.max() < 0:
            rules[NO_CLUSTER] += 1
            return False
        if len(best) > 1:  # equal fits: the nearest, so that the order of the points does not matter
            best = best[[np.argmin([solid.distance[wish.window[inside & (wish.cluster == label)]].min() for label in labels[best]])]]
        wish.labels, wish.label, wish.fit = labels, int(labels[best[0]]), float(fit[best[0]])
        wish.ends_inside = float(within[best[0]] / total[best[0]])
        wish.choice = wish.window[inside & (wish.cluster == wish.label)]
        return True

    def _broken_rule(self, wish: Wish, chosen: NDArray[np.int64] | None, free: NDArray[np.bool_], solid: Solid) -> str | None:
        """Name the rule that the chosen points of a box break."""
        assert chosen is not None
        if wish.fit < self.least_fit:
            return POOR_FIT
        if len(chosen) < self.min_points:
            return TOO_FEW_POINTS
        if np.median(solid.distance[chosen]) > self.max_range:
            return BEYOND_RANGE
        longest = float(np.ptp(solid.points[chosen], axis=0).max())
        if not self.extent[0] <= longest <= self.extent[1]:
            return IMPLAUSIBLE_EXTENT
        camera, (left, top, right, bottom) = wish.camera, wish.box_px
        near = self.border_px
        if left <= near or top <= near or right >= camera.width_px - near or bottom >= camera.height_px - near:
            unseen = np.count_nonzero(free & ~wish.seen & (solid.cluster == wish.label)) if self.context > 0 else 0
            if len(chosen) < self.border_share * (len(chosen) + unseen):
                return CUT_BY_BORDER
        return None

    def _same(self, wish: Wish, other: Wish) -> bool:
        """Say whether two boxes show the same object."""
        assert wish.choice is not None and other.choice is not None
        if wish is other:
            return True
        if self.context > 0 and wish.label != other.label:  # clusters of the whole frame: no points in common
            return False
        if wish.camera is other.camera and box_iou(wish.box_px, other.box_px)[0, 0] <= self.duplicate_iou:
            return False
        shared = len(np.intersect1d(wish.choice, other.choice, assume_unique=True))
        return shared > self.duplicate_share * min(len(wish.choice), len(other.choice))

    def _cut(self, wish: Wish, waiting: list[Wish]) -> NDArray[np.int64]:
        """Leave points of a cluster that goes on beyond the box to other such boxes if they lie more in the middle of those."""
        chosen = wish.choice
        assert chosen is not None
        if wish.ends_inside >= self.divide_below:
            return chosen
        rivals = [item for item in waiting if item.camera is wish.camera and item.label == wish.label and item.ends_inside < self.divide_below]
        pixels = wish.pixels[np.searchsorted(wish.window, chosen)]
        own, keep = _off_middle(pixels, wish.box_px), np.ones(len(chosen), dtype=bool)
        for item in rivals:
            assert item.choice is not None
            keep &= ~(np.isin(chosen, item.choice, assume_unique=True) & (_off_middle(pixels, item.box_px) < own))
        return chosen[keep]


def _inside(pixels: NDArray[np.float64], box_px: NDArray[np.float64]) -> NDArray[np.bool_]:
    u, v = pixels.T
    left, top, right, bottom = box_px
    inside: NDArray[np.bool_] = (u >= left) & (u < right) & (v >= top) & (v < bottom)
    return inside


def _off_middle(pixels: NDArray[np.float64], box_px: NDArray[np.float32]) -> NDArray[np.float64]:
    """Measure how far pixels (N, 2) lie from the middle of a box: 0 there, 1 on its rim."""
    low, high = box_px[:2].astype(np.float64), box_px[2:].astype(np.float64)
    off: NDArray[np.float64] = (np.abs(2 * pixels - low - high) / (high - low)).max(axis=1)
    return off
