"""What is done with triplet stores: several made one, a part taken, image embeddings added; and whether a store is whole."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from clip2x import provenance
from clip2x.data.check import SplitReport
from clip2x.data.triplets.dataset import concept_ids
from clip2x.data.triplets.embeddings import CropEncoder
from clip2x.data.triplets.index import INDEX, RESERVED, StoreIndex, concept_names, ids_by_name, kept_on_failure, plain
from clip2x.data.triplets.store import TripletStore
from clip2x.data.triplets.writer import SHARD_BYTES, SHARD_FRAMES, FrameKey, TripletWriter
from clip2x.errors import Clip2xError, InputError
from clip2x.storage import remove_stale, sha256_of_file
from clip2x.types import FrameTriplets


@dataclass(frozen=True)
class Made:
    """What a new store holds. dropped: triplets by the reason for which they were left out, and `frames twice` of a merge."""

    folder: Path
    num_frames: int
    num_triplets: int
    dropped: Counter[str]


def merge_stores(sources: Sequence[Path], target: Path, *, shard_frames: int = SHARD_FRAMES) -> Made:
    """Put several finished stores into a new one; stopped at any time, it goes on where it was.

    Text ids are those of the first store's vocabulary. Where another store's vocabulary differs, its concepts are found by their names; all that
    occur must be known. A frame that is in two stores with the same triplets is taken once. Image embeddings are not taken over.

    Args:
        sources: Folders of the stores, at least two.
        target: A new folder.
        shard_frames: Frames of a shard.

    Raises:
        InputError: If a store is not finished, a name is unknown, a frame is in two stores with different triplets, or `target` holds something else.
        DataNotFoundError, BadFileError: See `TripletStore`.
    """
    if len(sources) < 2 or Path(target).resolve() in [Path(source).resolve() for source in sources]:
        raise InputError(f"merging needs at least two stores and a target that is none of them, got {', '.join(map(str, sources))} and {target}.")
    stores = [_finished(source) for source in sources]
    vocabulary = stores[0].index.get("vocabulary")
    new_ids = [_mapping(store, vocabulary, stores[0].folder) for store in stores]
    settings = {**_common([store.index.get("settings") or {} for store in stores]), "merged": [_identity(store) for store in stores]}
    about = {**_common([_stated(store) for store in stores]), "settings": settings, "vocabulary": vocabulary, "provenance": _provenance(stores)}
    places: dict[tuple[str, str], tuple[int, int]] = {}
    dropped: Counter[str] = Counter()
    for number, store in enumerate(stores):
        for row in range(store.num_frames):
            data, token, _ = store.frame_key(row)
            first = places.setdefault((data, token), (number, row))
            if first != (number, row):
                if not _equal(_renamed(stores[first[0]].frame(first[1]), new_ids[first[0]]), _renamed(store.frame(row), new_ids[number])):
                    raise InputError(f"frame {token} of {data} is in {stores[first[0]].folder} and in {store.folder} with different triplets; "
                                     "leave one of the two out (filter-proxies --exclude-data).")
                dropped["frames twice"] += 1
    def load(key: FrameKey) -> FrameTriplets:
        number, row = places[key]
        return _renamed(stores[number].frame(row), new_ids[number])

    return _write(Path(target), about, sorted(places), load, dropped, shard_frames)


def filter_store(source: Path, target: Path, *, min_score: float = 0.0, min_points: int = 1, classes: Sequence[str] | None = None,
                 exclude: Sequence[str] = (), exclude_data: Sequence[str] = (), max_per_class: int | None = None,
                 shard_frames: int = SHARD_FRAMES) -> Made:
    """Write the triplets of a finished store that are good enough into a new one; stopped at any time, it goes on where it was.

    Frames of which no triplet remains stay in the store, and what is dropped is added to their counters as `filter: <reason>`. Image embeddings
    are not taken over.

    Args:
        source: The store.
        target: A new folder.
        min_score, min_points: Least score of the detector, least number of points.
        classes: Only concepts with these names (any of their names); all if not given.
        exclude: No concepts with these names.
        exclude_data: No frames of these data sets.
        max_per_class: Of each concept so many at most: those with the best scores, of equal ones the first.
        shard_frames: Frames of a shard.

    Raises:
        InputError: If the store is not finished, a name is unknown, nothing remains, or `target` holds something else.
        DataNotFoundError, BadFileError: See `TripletStore`.
    """
    if Path(target).resolve() == Path(source).resolve() or min_points < 1 or (max_per_class is not None and max_per_class < 1):
        raise InputError(f"filtering needs a target beside its source and min_points and max_per_class of at least 1, got {target}, {min_points} and "
                         f"{max_per_class}.")
    store = _finished(source)
    unknown = sorted(set(exclude_data) - set(store.index["data"]))
    if unknown:
        raise InputError(f"{source} has no data set {', '.join(unknown)}; there are: {', '.join(sorted(store.index['data']))}.")
    reasons = _reasons(store, min_score, min_points, classes, exclude, max_per_class)
    data = store.frame_data
    kept = [number for number in range(store.num_frames) if data[number] not in exclude_data]
    if not any((reasons[store.positions_of(number)] == "").any() for number in kept):
        raise InputError(f"of {len(store):,} triplets of {source} none remains; ask for less.")
    chosen = {"min_score": min_score, "min_points": min_points, "classes": None if classes is None else sorted(classes), "exclude": sorted(exclude),
              "exclude_data": sorted(exclude_data), "max_per_class": max_per_class}
    settings = {**(store.index.get("settings") or {}), "filtered": _identity(store), "filter": chosen}
    about = {**_stated(store), "settings": settings, "provenance": _provenance([store])}
    dropped = Counter(reason for number in kept for reason in reasons[store.positions_of(number)].tolist() if reason)
    numbers = {store.frame_key(number)[:2]: number for number in kept}

    def load(key: FrameKey) -> FrameTriplets:
        return _part(store.frame(numbers[key]), reasons[store.positions_of(numbers[key])])

    return _write(Path(target), about, list(numbers), load, dropped, shard_frames)


def embed_proxies(folder: Path, encoder: CropEncoder, *, rank: int = 0, world_size: int = 1,
                  barrier: Callable[[], object] | None = None) -> int:
    """Compute the embeddings of all shards that lack theirs; a killed run goes on after its last whole shard.

    Args:
        folder: The store, finished or growing.
        encoder: The tower.
        rank, world_size: This process among all; each takes its share of the shards.
        barrier: Waits for all processes; needed if there are several.

    Returns:
        How many shards this process had to compute.

    Raises:
        DataNotFoundError, BadFileError, InputError: See `TripletStore` and `CropEncoder.embed_shard`.
    """
    if not 0 <= rank < world_size or (world_size > 1 and barrier is None):
        raise InputError(f"rank must lie below world_size and several processes need a barrier, got {rank} of {world_size} and {barrier}.")
    shards = [item["file"] for item in TripletStore(Path(folder)).index["shards"]]
    wait = barrier or (lambda: None)
    computed = 0
    if rank == 0:
        remove_stale(Path(folder) / encoder.folder)
    for name in tqdm(shards[rank::world_size], desc="embed-proxies", unit="shard", disable=True if rank > 0 else None):
        computed += encoder.embed_shard(Path(folder) / name)
    wait()
    if rank == 0:
        with kept_on_failure(Path(folder)):
            StoreIndex(Path(folder)).write()
    wait()
    return computed


def verify_store(folder: Path, *, deep: bool = False) -> list[str]:
    """List what is wrong with a store, one line each; `deep` also compares every sha256. Empty if nothing is."""
    try:
        return TripletStore(folder).verify(deep=deep)
    except Clip2xError as error:
        return [" ".join(str(error).split())]


def check_store(folder: Path, *, deep: bool = False) -> SplitReport:
    """Examine a store as `check_data` does a data set: `complete`, `partial` (its collection goes on), or `broken`."""
    report = SplitReport("triplets", Path(folder).name, "triplets", "absent")
    if not (Path(folder) / INDEX).exists():
        report.notes.append(verify_store(folder)[0])
        return report
    report.status = "partial"
    try:
        store = TripletStore(folder)
        problems = store.verify(deep=deep)
    except Clip2xError as error:
        report.add_problem(str(error))
        return report
    report.found = len(store)
    report.status = "complete" if store.complete else "partial"
    report.notes.append(f"{store.num_frames:,} frames, {store.index['num_frames_without_triplets']:,} of them without triplets, "
                        f"{len(store.index['shards']):,} shards, {len(store.index['classes']):,} classes")
    report.notes += [f"image embeddings of {kind['clip_id']}: {len(kind['files']):,} of {len(store.index['shards']):,} shards"
                     for kind in store.index["embeddings"]]
    for problem in problems:
        report.add_problem(problem)
    return report


def _finished(folder: Path) -> TripletStore:
    store = TripletStore(folder)
    if not store.complete:
        raise InputError(f"{folder} is not finished; run its collection to its end first.")
    return store


def _identity(store: TripletStore) -> str:
    """Say in a hash what a store holds."""
    return hashlib.sha256("".join(item["sha256"] for item in store.index["shards"]).encode()).hexdigest()


def _provenance(stores: Sequence[TripletStore]) -> dict[str, Any]:
    sources = [{"folder": str(store.folder), "index_sha256": sha256_of_file(store.folder / INDEX),
                **{key: store.index.get(key) for key in ("settings", "detector", "lifting", "provenance", "resumed", "num_triplets", "num_frames")}}
               for store in stores]
    return {"commit": provenance.commit(), "versions": provenance.versions(), "sources": sources}


def _stated(store: TripletStore) -> dict[str, Any]:
    """Take out of an index what its writer was told and what is not of the run alone."""
    return {key: value for key, value in store.index.items() if key not in (*RESERVED, "data", "provenance")}


def _common(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put what several stores state into one: what is equal, tables of which no two entries differ joined, and all values where they differ."""
    joined: dict[str, Any] = {}
    for key in dict.fromkeys(key for part in parts for key in part):
        values = [part[key] for part in parts if key in part]
        tables = [value for value in values if isinstance(value, Mapping)]
        whole = {name: entry for table in tables for name, entry in table.items()}
        agree = len(tables) == len(values) and all(whole[name] == entry for table in tables for name, entry in table.items())
        joined[key] = values[0] if all(value == values[0] for value in values) else whole if agree else values
    return joined


def _mapping(store: TripletStore, vocabulary: Any, first: Path) -> NDArray[np.int64] | None:
    """Say which text id of the first store each concept has; None where they are the same.

    Raises:
        InputError: If a concept that occurs is unknown there.
    """
    own = store.index.get("vocabulary")
    if own == vocabulary or (own and vocabulary and own.get("sha256") and own.get("sha256") == vocabulary.get("sha256")):
        return None
    known = ids_by_name(vocabulary)
    concepts = (own or {}).get("concepts", ())
    if not concepts or not known:
        raise InputError(f"{store.folder} and {first} have different vocabularies, and one of them does not state its names; collect both with one.")
    found = np.array([next((known[plain(name)] for name in names if plain(name) in known), -1) for names in concepts], dtype=np.int64)
    occurring = np.unique(store.text_ids)
    missing = [concept_names(own)[number] for number in occurring if found[number] < 0]
    if missing:
        raise InputError(f"{store.folder} has triplets of {len(missing)} concepts that the vocabulary of {first} lacks ({', '.join(missing[:5])}"
                         f"{', ...' if len(missing) > 5 else ''}); give the store with the larger vocabulary first, or leave them out "
                         "(filter-proxies --exclude).")
    return found


def _renamed(frame: FrameTriplets, new_ids: NDArray[np.int64] | None) -> FrameTriplets:
    if new_ids is None:
        return frame
    return replace(frame, triplets=tuple(replace(triplet, text_id=int(new_ids[triplet.text_id])) for triplet in frame.triplets))


def _equal(one: FrameTriplets, other: FrameTriplets) -> bool:
    """Compare what two frames hold; NumPy arrays have no single answer to ==."""
    def facts(frame: FrameTriplets) -> list[Any]:
        return [frame.scene, frame.rules, *((triplet.text_id, triplet.score, triplet.camera, triplet.crop, triplet.box_px.tobytes(),
                                             triplet.points.tobytes()) for triplet in frame.triplets)]

    return facts(one) == facts(other)


def _reasons(store: TripletStore, min_score: float, min_points: int, classes: Sequence[str] | None, exclude: Sequence[str],
             max_per_class: int | None) -> NDArray[Any]:
    """Say of every triplet why it is left out; an empty text keeps it."""
    reasons = np.full(len(store), "", dtype="<U12")
    unwanted = np.isin(store.text_ids, concept_ids(store, list(exclude)))
    if classes is not None:
        unwanted |= ~np.isin(store.text_ids, concept_ids(store, list(classes)))
    for reason, dropped in (("class", unwanted), ("score", store.scores < min_score), ("points", store.num_points < min_points)):
        reasons[dropped & (reasons == "")] = reason
    if max_per_class is not None:
        left = np.flatnonzero(reasons == "")
        order = left[np.lexsort((left, -store.scores[left], store.text_ids[left]))]
        ids = store.text_ids[order]
        rank = np.arange(len(ids)) - np.searchsorted(ids, ids)  # place within its class
        reasons[order[rank >= max_per_class]] = "too many"
    return reasons


def _part(frame: FrameTriplets, reasons: NDArray[Any]) -> FrameTriplets:
    rules = frame.rules + Counter(f"filter: {reason}" for reason in reasons.tolist() if reason)
    return replace(frame, triplets=tuple(triplet for triplet, reason in zip(frame.triplets, reasons, strict=True) if not reason), rules=rules)


def _write(target: Path, about: dict[str, Any], keys: Sequence[FrameKey], load: Callable[[FrameKey], FrameTriplets], dropped: Counter[str],
           shard_frames: int) -> Made:
    """Write frames into a store, or what is missing of them."""
    with TripletWriter(target, about) as writer:
        batch: list[FrameTriplets] = []
        size = 0
        for key in keys:
            if key in writer.done:
                continue
            batch.append(load(key))
            size += sum(triplet.points.nbytes + len(triplet.crop) for triplet in batch[-1].triplets)
            if len(batch) >= shard_frames or size >= SHARD_BYTES:
                writer.add_shard(batch)
                batch, size = [], 0
        writer.add_shard(batch)
    made = TripletStore(target)
    return Made(target, made.num_frames, len(made), dropped)
