"""How good proxies are, measured against annotated 3-D boxes: points inside, objects found, texts right. For reports only, never a filter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.evaluation.annotated_objects import (
    AnnotatedObject,
    ObjectNames,
    annotated_objects,
    perfect_boxes,
    plain_words,
    points_in_boxes,
)
from clip2x.geometry import box_iou
from clip2x.types import Detections, Lifted, SceneFrame

MATCH_OVERLAP = 0.3
"""A proxy is matched with the object whose rectangle overlaps its box most, at least so much (intersection over union). Ours."""

GOOD_SHARE = 0.7
"""A proxy is good if so many of its points lie in the box of its object. Ours."""

LABEL_OVERLAP, LABEL_SHARE = 0.5, 0.5
"""Texts are judged on proxies that surely show one object: overlap of the rectangles and share of the points inside of at least that. Ours."""

LEAST_LIDAR_POINTS, LEAST_COUNTED_POINTS = 10, 100
"""Objects with fewer points are not asked for: points as annotated (nuScenes), or counted where they are not (depth cameras). Ours."""

RANGES_M = (0.0, 10.0, 20.0, 30.0, 50.0)
RANGE_NAMES = ("0-10 m", "10-20 m", "20-30 m", "30-50 m", "50+ m")
MOST_OFTEN = 12  # wrong pairs of class and text that are listed
MATCHINGS = ("named", "any_name")
Z_95 = 1.959963984540054  # two-sided 95 % of the normal distribution

Lifting = Callable[[SceneFrame, Mapping[str, Detections]], Lifted]
"""Makes proxies of the boxes in a frame's pictures, by camera; see `clip2x.proxies`."""


@dataclass(frozen=True)
class Candidate:
    """A proxy to be measured.

    camera, box_px: as in `Proxy`. words: all names of its concept, empty where it has none. points: (N, 3), metres, frame of the points.
    whole: all points of the proxy are there; a store keeps a random part of large ones, of which completeness cannot be told.
    """

    camera: str
    box_px: NDArray[np.floating[Any]]
    words: tuple[str, ...]
    points: NDArray[np.floating[Any]]
    whole: bool = True


@dataclass(frozen=True)
class ProxyMatch:
    """Which object a proxy was matched with.

    row: of the object in the frame's list. overlap: of the rectangles. inside: share of the proxy's points in the object's box.
    purity: of its points in any object's box, the share in this one's; None where no point lies in any.
    """

    row: int
    overlap: float
    inside: float
    purity: float | None

    @property
    def good(self) -> bool:
        """Say whether enough points lie inside."""
        return self.inside >= GOOD_SHARE


@dataclass(frozen=True)
class FrameMatches:
    """Objects of a frame, and the match of every proxy (None: there is none) under both matchings of `MATCHINGS`."""

    objects: list[AnnotatedObject]
    matches: Mapping[str, list[ProxyMatch | None]]


def match_proxies(frame: SceneFrame, candidates: Sequence[Candidate], names: ObjectNames) -> FrameMatches:
    """Match proxies with annotated objects by their rectangles in the same picture.

    Each proxy takes the object with the best overlap of at least `MATCH_OVERLAP`; `named` considers objects only that a word of the proxy
    names, `any_name` all. Several proxies may take one object.
    """
    objects = annotated_objects(frame, names)
    counts = _points_inside(candidates, [frame.boxes[item.position] for item in objects])
    in_any = counts.pop()
    matches: dict[str, list[ProxyMatch | None]] = {matching: [] for matching in MATCHINGS}
    for candidate, inside, anywhere in zip(candidates, counts, in_any, strict=True):
        rows = [row for row, item in enumerate(objects) if candidate.camera in item.rectangles]
        rectangles = np.array([objects[row].rectangles[candidate.camera] for row in rows]).reshape(-1, 4)
        overlaps = dict(zip(rows, box_iou(candidate.box_px, rectangles)[0].tolist(), strict=True))
        words = plain_words(candidate.words)
        named = {row: overlap for row, overlap in overlaps.items() if words & objects[row].names}
        for matching, allowed in zip(MATCHINGS, (named, overlaps), strict=True):
            row = max(allowed, key=allowed.__getitem__, default=-1)
            match = None
            if row >= 0 and allowed[row] >= MATCH_OVERLAP:
                purity = float(inside[row] / anywhere) if anywhere else None
                match = ProxyMatch(row, allowed[row], float(inside[row] / max(len(candidate.points), 1)), purity)
            matches[matching].append(match)
    return FrameMatches(objects, matches)


def judged_texts(found: FrameMatches, candidates: Sequence[Candidate]) -> list[tuple[int, AnnotatedObject, bool]]:
    """Judge the texts of the proxies that surely show one object: place of the proxy, the object, whether a word of the text names it."""
    judged = []
    for place, (candidate, match) in enumerate(zip(candidates, found.matches["any_name"], strict=True)):
        if match is not None and match.overlap >= LABEL_OVERLAP and match.inside >= LABEL_SHARE and candidate.words:
            item = found.objects[match.row]
            judged.append((place, item, bool(plain_words(candidate.words) & item.names)))
    return judged


class Shares:
    """Counts k of n by a key of several parts."""

    def __init__(self) -> None:
        self.hits: Counter[tuple[str, ...]] = Counter()
        self.total: Counter[tuple[str, ...]] = Counter()

    def add(self, key: tuple[str, ...], hit: bool) -> None:
        """Count one case."""
        self.total[key] += 1
        self.hits[key] += hit

    def overall(self) -> dict[str, Any]:
        """Describe all keys together."""
        return share_of(self.hits.total(), self.total.total())

    def by(self, order: Iterable[str], place: int) -> dict[str, dict[str, Any]]:
        """Describe the keys' parts at one place, in an order; those that were never counted are left out."""
        hits, total = Counter[str](), Counter[str]()
        for key, count in self.total.items():
            total[key[place]] += count
            hits[key[place]] += self.hits[key]
        return {part: share_of(hits[part], total[part]) for part in order if total[part]}


def share_of(hits: int, total: int) -> dict[str, Any]:
    """Describe k of n with its 95 % interval, as JSON."""
    return {"k": hits, "n": total, "share": hits / total if total else None, "interval": list(wilson_interval(hits, total)) if total else None}


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """Give the 95 % interval of a share of independent cases (Wilson, 1927). Objects of one scene are alike, so the true one is wider."""
    share, z2 = hits / total, Z_95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass
class _Matching:
    """What is counted under one matching; keys of `Shares` are (class, range)."""

    matched: int = 0
    repeated: int = 0
    good: Shares = field(default_factory=Shares)
    found: Shares = field(default_factory=Shares)
    inside: list[float] = field(default_factory=list)
    purity: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)


class ProxyQuality:
    """Collects frames with their proxies and gives the figures of all of them."""

    def __init__(self, names: ObjectNames, concepts: Iterable[Sequence[str]] = ()) -> None:
        """Start with nothing.

        Args:
            names: Of the annotated classes.
            concepts: All names of the vocabulary's concepts; without them it is not told which classes have none.
        """
        self.names = names
        self.vocabulary = frozenset(word for words in concepts for word in plain_words(words))
        self.frames = self.proxies = self.objects = self.in_no_picture = 0
        self.matchings = {matching: _Matching() for matching in MATCHINGS}
        self.labels = Shares()
        self.words: dict[str, frozenset[str]] = {}
        self.wrong: Counter[tuple[str, str]] = Counter()

    def add(self, frame: SceneFrame, candidates: Sequence[Candidate]) -> FrameMatches:
        """Match the proxies of a frame and count them; gives what was matched."""
        found = match_proxies(frame, candidates, self.names)
        self.frames += 1
        self.proxies += len(candidates)
        self.objects += len(found.objects)
        self.in_no_picture += sum(not item.rectangles for item in found.objects if is_asked_for(item, frame))
        for matching, own in self.matchings.items():
            self._count(own, frame, candidates, found.objects, found.matches[matching])
        for place, item, right in judged_texts(found, candidates):
            self.labels.add((item.name,), right)
            self.words[item.name] = item.names
            self.wrong[item.name, candidates[place].words[0]] += not right
        return found

    @staticmethod
    def _count(own: _Matching, frame: SceneFrame, candidates: Sequence[Candidate], objects: Sequence[AnnotatedObject],
               matches: Sequence[ProxyMatch | None]) -> None:
        of_object: dict[int, list[tuple[Candidate, ProxyMatch]]] = {}
        for candidate, match in zip(candidates, matches, strict=True):
            if match is None:
                continue
            item = objects[match.row]
            own.matched += 1
            own.repeated += match.row in of_object
            own.good.add((item.name, range_name(item.range_m)), match.good)
            own.inside.append(match.inside)
            own.purity += [] if match.purity is None else [match.purity]
            of_object.setdefault(match.row, []).append((candidate, match))
        for row, item in enumerate(objects):
            if not is_asked_for(item, frame):
                continue
            pairs = of_object.get(row, [])
            own.found.add((item.name, range_name(item.range_m)), any(match.good for _, match in pairs))
            if pairs and item.counted_points and all(candidate.whole for candidate, _ in pairs):
                own.held.append(max(match.inside * len(candidate.points) for candidate, match in pairs) / item.counted_points)

    def figures(self) -> dict[str, Any]:
        """Give everything that was counted, as JSON; shares are of 1, `docs` of the report say what each means."""
        per_class = self.labels.by(self.names.ordered(key[0] for key in self.labels.total), 0)
        return {
            "settings": {"match_overlap": MATCH_OVERLAP, "good_share": GOOD_SHARE, "label_overlap": LABEL_OVERLAP, "label_share": LABEL_SHARE,
                         "least_lidar_points": LEAST_LIDAR_POINTS, "least_counted_points": LEAST_COUNTED_POINTS, "interval": "Wilson, 95 %"},
            "frames": self.frames, "proxies": self.proxies, "annotated": self.objects, "in_no_picture": self.in_no_picture,
            **{matching: self._figures_of(own) for matching, own in self.matchings.items()},
            "labels": {**self.labels.overall(), "class_mean": _mean([entry["share"] for entry in per_class.values()]), "per_class": per_class,
                       "not_in_vocabulary": [name for name in per_class if self.vocabulary and self.vocabulary.isdisjoint(self.words[name])],
                       "most_often_wrong": [{"annotated": name, "text": text, "times": times}
                                            for (name, text), times in self.wrong.most_common(MOST_OFTEN) if times]},
        }

    def _figures_of(self, own: _Matching) -> dict[str, Any]:
        classes = self.names.ordered(key[0] for key in (*own.found.total, *own.good.total))
        return {
            "matched": own.matched, "unmatched": self.proxies - own.matched, "repeated": own.repeated,
            "inside": {"mean": _mean(own.inside), "n": len(own.inside)}, "purity": {"mean": _mean(own.purity), "n": len(own.purity)},
            "good": own.good.overall(), "good_by_class": own.good.by(classes, 0), "good_by_range": own.good.by(RANGE_NAMES, 1),
            "recall": own.found.overall(), "recall_by_class": own.found.by(classes, 0), "recall_by_range": own.found.by(RANGE_NAMES, 1),
            "completeness": {"mean": _mean(own.held), "n": len(own.held)},
        }


def measure_lifting(frames: Iterable[SceneFrame], lifting: Lifting, names: ObjectNames, *,
                    detections: Callable[[SceneFrame], Mapping[str, Detections]] | None = None, concepts: Sequence[tuple[str, ...]] = (),
                    watch: Callable[[SceneFrame, FrameMatches], None] | None = None) -> dict[str, Any]:
    """Lift the boxes of frames and measure the proxies.

    Args:
        frames: With annotated boxes.
        lifting: What is measured.
        names: Of the annotated classes.
        detections: Gives the boxes of a frame by camera; those of a perfect detector if not given.
        concepts: All names of each concept that the detections count.
        watch: Is shown the matches of every frame.

    Returns:
        `figures` of `ProxyQuality`, and `rules`: the sum of the lifting's counters.
    """
    quality, rules = ProxyQuality(names, concepts), Counter[str]()
    for frame in frames:
        if detections is None:
            found, class_names, _ = perfect_boxes(frame, names)
            words: Sequence[tuple[str, ...]] = [(name,) for name in class_names]
            lifted = lifting(frame, found)
        else:
            words, lifted = concepts, lifting(frame, detections(frame))
        rules.update(lifted.rules)
        matches = quality.add(frame, [Candidate(proxy.camera, proxy.box_px, words[proxy.concept_id] if proxy.concept_id >= 0 else (),
                                                frame.points[proxy.point_index]) for proxy in lifted.proxies])
        if watch is not None:
            watch(frame, matches)
    return {**quality.figures(), "rules": dict(rules)}


def is_asked_for(item: AnnotatedObject, frame: SceneFrame) -> bool:
    """Say whether an object has enough points to be found."""
    annotated = frame.boxes[item.position].num_points is not None
    return item.num_points >= (LEAST_LIDAR_POINTS if annotated else LEAST_COUNTED_POINTS)


def range_name(distance_m: float) -> str:
    """Name the range that a distance lies in; a bound belongs to the farther one."""
    return RANGE_NAMES[int(np.searchsorted(RANGES_M, distance_m, side="right")) - 1]


def _points_inside(candidates: Sequence[Candidate], boxes: Sequence[Any]) -> list[NDArray[np.int64]]:
    """Count the points of every proxy in every box, a row (B,) each; behind them, those in any box, (P,)."""
    points = np.concatenate([np.asarray(candidate.points) for candidate in candidates]) if candidates else np.zeros((0, 3), dtype=np.float32)
    inside = points_in_boxes(points, boxes)
    ends = np.cumsum([len(candidate.points) for candidate in candidates], dtype=np.int64)
    parts = np.split(inside, ends[:-1]) if candidates else []
    return [*(part.sum(axis=0) for part in parts), np.array([part.any(axis=1).sum() for part in parts], dtype=np.int64)]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
