"""Quality report of a triplet store: what is in it, what each rule dropped, how it agrees with annotated boxes; `report.json` and `report.html`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.data.entries import spread
from clip2x.data.readers import open_frames
from clip2x.data.triplets.store import TripletStore
from clip2x.errors import BadFileError, Clip2xError, DataNotFoundError, InputError
from clip2x.evaluation.annotated_objects import ObjectNames, turned_frame
from clip2x.evaluation.mistakes import MOST, OF_CLASS
from clip2x.evaluation.proxy_page import Card, page
from clip2x.evaluation.proxy_pictures import point_views, thumbnail
from clip2x.evaluation.proxy_quality import Candidate, FrameMatches, ProxyQuality, judged_texts
from clip2x.storage import atomic_path, check_writable

RANGE_SAMPLES = 5000  # triplets of a data set whose points are read for the histogram of ranges; ours: seconds, not hours, for millions
COUNTS = ("complete", "num_triplets", "num_frames", "num_frames_without_triplets", "num_points")
SHOWN_ELSEWHERE = (*COUNTS, "schema", "version", "data", "rules", "classes", "shards", "embeddings", "vocabulary")  # keys of the index


def write_proxy_report(store_folder: Path, root: Path | None = None, output: Path | None = None, *, gallery: int = 48, frames: int = 500,
                       seed: int = 0, cache: Path | None = None) -> dict[str, Any]:
    """Write `report.json` and `report.html`, a page that needs no other file.

    Args:
        store_folder: A triplet store; it may still grow.
        root: The data root; without it nothing is compared with annotated boxes.
        output: Folder of the report; the store's own if not given.
        gallery: How many triplets are shown, evenly over classes.
        frames: How many frames of each data set are compared with their boxes, spread evenly over those in the store.
        seed: Of what is drawn for the gallery and for the histogram of ranges.
        cache: See `open_frames`.

    Returns:
        What stands in `report.json`.

    Raises:
        DataNotFoundError, BadFileError: If there is no store or it cannot be read.
        InputError: If an argument is not possible or the report cannot be written.
    """
    if gallery < 0 or frames < 1 or seed < 0:
        raise InputError(f"gallery and seed must be at least 0 and frames at least 1, got {gallery}, {seed} and {frames}.")
    store = TripletStore(Path(store_folder))
    output = store.folder if output is None else Path(output)
    check_writable(output)
    shown = choose_evenly(store.text_ids, gallery, seed)
    verdicts: dict[int, str] = {}
    vocabulary = store.index.get("vocabulary") or {}
    content = {
        "store": {"folder": str(store.folder), **{key: store.index[key] for key in COUNTS}},
        "classes": _classes(store), "rules": store.index["rules"], "data": _data_sets(store, seed),
        "quality": {} if root is None else {name: _quality(store, name, Path(root), frames, cache, set(shown), verdicts)
                                            for name in store.index["data"]},
        "provenance": {"vocabulary": {key: vocabulary[key] for key in ("name", "source", "sha256") if key in vocabulary},
                       **{key: value for key, value in store.index.items() if key not in SHOWN_ELSEWHERE}, "report_seed": seed},
    }
    with atomic_path(output / "report.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    cards = [_card(store, position, verdicts.get(position, "")) for position in shown]
    wrong = [_card(store, mistake["position"], f"annotated: {mistake['annotated']}") for figures in content["quality"].values()
             for mistake in figures.get("mistakes", [])]
    with atomic_path(output / "report.html") as temporary:
        temporary.write_text(page(content, cards, wrong), encoding="utf-8")
    return content


def summary_lines(content: Mapping[str, Any]) -> list[str]:
    """Say the main figures of each data set in a line each, k/n with 95 % intervals."""
    lines = []
    for name, quality in content["quality"].items():
        if "skipped" in quality:
            lines.append(f"{name}: not compared with annotated boxes: {quality['skipped']}")
            continue
        matched = quality["any_name"]
        lines.append(f"{name}: points in the right box {_share(matched['good'])}, objects found {_share(matched['recall'])}, "
                     f"right text {_share(quality['labels'])}")
    return lines


def _share(counted: Mapping[str, Any]) -> str:
    if not counted["n"]:
        return "- (0/0)"
    low, high = counted["interval"]
    return f"{100 * counted['share']:.0f} % ({counted['k']:,}/{counted['n']:,}; {100 * low:.0f}-{100 * high:.0f})"


def choose_evenly(classes: NDArray[np.integer[Any]], number: int, seed: int) -> list[int]:
    """Draw positions evenly over classes: one of every class in random order, then a second one, and so on; sorted by class.

    Args:
        classes: (N,) the class of each position.
        number: How many are wanted; all if there are fewer.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(classes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)
    members = [rng.permutation(groups[place])[:number].tolist() for place in rng.permutation(len(groups))]
    drawn = [position for turn in zip_longest(*members) for position in turn if position is not None]
    return sorted(drawn[:number], key=lambda position: (int(classes[position]), position))


def concept_words(vocabulary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """List all names of each concept of a described vocabulary."""
    return [(names,) if isinstance(names, str) else tuple(names) for names in vocabulary.get("concepts", ())]


def _classes(store: TripletStore) -> dict[str, int]:
    """Count the triplets of every concept of the vocabulary, the most frequent first."""
    counts = {**dict.fromkeys(store.class_names, 0), **store.index["classes"]}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _data_sets(store: TripletStore, seed: int) -> dict[str, dict[str, Any]]:
    """Describe what each data set gave: counters, and histograms of scores, points and ranges."""
    frame_data, frame_numbers = store.frame_data, store.frame_numbers
    described = {}
    for name, counts in store.index["data"].items():
        own = np.flatnonzero((frame_data == name)[frame_numbers])
        sample = np.sort(np.random.default_rng(seed).permutation(own)[:RANGE_SAMPLES])
        ranges = np.array([np.linalg.norm(store.points(int(position)).mean(axis=0, dtype=np.float64)) for position in sample])
        described[name] = {
            **counts, "files": _files_of(store, name),
            "score": _histogram(store.scores[own], np.linspace(0, 1, 21)),
            "points": _histogram(store.num_points[own], np.logspace(0, np.log10(max(10, store.num_points[own].max(initial=10))), 25)),
            "range_m": {**_histogram(ranges, np.linspace(0, _round_up(float(ranges.max(initial=1.0))), 26)), "sampled": len(sample)},
        }
    return described


def _files_of(store: TripletStore, name: str) -> str:
    """Say whether a data set was the mini-world, as its collection noted."""
    noted = store.index.get("sources", {}).get(name, {})
    return str(noted.get("files", "")) if isinstance(noted, Mapping) else ""


def _histogram(values: NDArray[Any], edges: NDArray[np.float64]) -> dict[str, Any]:
    inside = np.clip(values.astype(np.float64), edges[0], edges[-1])
    return {"edges": [float(f"{edge:.6g}") for edge in edges], "counts": np.histogram(inside, bins=edges)[0].tolist(),
            "median": float(np.median(values)) if len(values) else None}


def _round_up(value: float) -> float:
    """Choose the end of an axis of lengths: 5, 10, 25, 50, 100 or 250 m."""
    return next((end for end in (5.0, 10.0, 25.0, 50.0, 100.0) if value <= end), 250.0)


def _quality(store: TripletStore, name: str, root: Path, limit: int, cache: Path | None, shown: Collection[int],
             verdicts: dict[int, str]) -> dict[str, Any]:
    """Compare the triplets of a data set with its annotated boxes; says under `skipped` why it cannot be done."""
    source = (store.index.get("sources") or {}).get(name) or {}
    sweeps, max_points = int(source.get("sweeps", 1)), int(source.get("max_points", 1))
    try:
        frames = open_frames(name, root, sweeps=sweeps, depth=source.get("depth", "raw"), cache=cache)
    except (DataNotFoundError, InputError, BadFileError) as error:
        return {"skipped": str(error)}
    words = concept_words(store.index.get("vocabulary") or {})
    quality = ProxyQuality(ObjectNames(frames.manifest, frames.variant_name), words)
    numbers = np.flatnonzero(store.frame_data == name).tolist()
    unreadable: list[str] = []
    wrong: list[dict[str, Any]] = []
    for number in (numbers[place] for place in spread(len(numbers), limit)):
        stored = store.frame(number)
        try:
            frame = frames.frame(stored.frame)
        except Clip2xError as error:
            unreadable.append(str(error))
            continue
        turned = turned_frame(frame, np.array(frames.variant.ours_from_files) @ frame.upright_from_points)
        candidates = [Candidate(item.camera, item.box_px, words[item.text_id] if item.text_id < len(words) else (), item.points,
                                whole=sweeps == 1 and len(item.points) < max_points) for item in stored.triplets]
        matches = quality.add(turned, candidates)
        positions = list(store.positions_of(number))
        wrong += [{"position": int(positions[place]), "annotated": item.name, "text": candidates[place].words[0],
                   "score": float(store.scores[positions[place]]), "frame": stored.frame, "camera": candidates[place].camera}
                  for place, item, right in judged_texts(matches, candidates) if not right]
        verdicts.update({position: _verdict(matches, place) for place, position in enumerate(positions) if position in shown})
    if not quality.objects:
        return {"skipped": unreadable[0] if unreadable else "its frames have no annotated boxes."}
    return {**quality.figures(), "mistakes": _surest(wrong), "frames_in_store": len(numbers), "unreadable": len(unreadable)}


def _surest(wrong: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take the wrong texts that the detector was surest of, few of an annotated class."""
    of_class: Counter[str] = Counter()
    chosen: list[dict[str, Any]] = []
    for mistake in sorted(wrong, key=lambda mistake: (-mistake["score"], mistake["position"])):
        of_class[mistake["annotated"]] += 1
        if of_class[mistake["annotated"]] <= OF_CLASS and len(chosen) < MOST:
            chosen.append(mistake)
    return chosen


def _verdict(matches: FrameMatches, place: int) -> str:
    match = matches.matches["any_name"][place]
    if match is None:
        return "no annotated object here"
    return f"{100 * match.inside:.0f} % of its points in an annotated {matches.objects[match.row].name}"


def _card(store: TripletStore, position: int, verdict: str) -> Card:
    triplet = store[position]
    data, frame, _ = store.frame_of(position)
    name = store.class_names[triplet.text_id] if 0 <= triplet.text_id < len(store.class_names) else f"concept {triplet.text_id}"
    crop: bytes | None = None
    if triplet.crop:
        try:
            crop = thumbnail(triplet.crop, store.describe(position))
        except BadFileError:
            verdict = f"its crop is no whole picture. {verdict}"
    distance_m = float(np.linalg.norm(triplet.points.mean(axis=0, dtype=np.float64)))
    return Card(name, triplet.score, len(triplet.points), distance_m, data, frame, triplet.camera, verdict, crop, *point_views(triplet.points))
