"""What triplets a training reads: stores of mined ones, rendered models, or both; their pictures, names and texts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clip2x.data.feature_store import ImageFeatures
from clip2x.data.shapenet_pairs import ShapeNetPairs
from clip2x.data.triplets.dataset import TripletProxies
from clip2x.data.triplets.embeddings import CropEncoder
from clip2x.data.triplets.index import plain, without_qualifier
from clip2x.data.triplets.joined import JoinedTriplets
from clip2x.encoders.checkpoint_parts import joined_mined
from clip2x.encoders.clip import ClipTowers
from clip2x.errors import InputError
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.proxies.objects import ObjectTriplets

Encode = Callable[[Tensor], Tensor]


class TripletSources:
    """The sets of triplets behind `data.train` and `data.val`.

    Attributes:
        texts: A name for each concept, as people say it.
        mined: Frames that the triplets of both sets come from, those that are trained on and those that choose; see `TripletProxies.mined`.
        sha256: Hash of what is trained on, before models are named: a run that goes on reads its checkpoint earlier.
        notes: What was left out, and how objects got their names.
    """

    def __init__(self, train_set: Any, val_set: Any, clip: ClipTowers, *, images: bool) -> None:
        """Look at both sets and open the embeddings of the crops.

        Args:
            train_set, val_set: Must be `JoinedTriplets`.
            clip: The frozen CLIP.
            images: Whether pictures are needed.

        Raises:
            InputError: If they are of another kind, share samples, have other concepts, or lack the pictures of this CLIP.
            BadFileError: If a file of embeddings is damaged.
        """
        for name, data in (("train", train_set), ("val", val_set)):
            if not isinstance(data, JoinedTriplets):
                raise InputError(f"data.{name} must be JoinedTriplets for this stage, got {type(data).__name__}.")
        self.train_set, self.val_set, self.clip, self.notes = train_set, val_set, clip, list[str]()
        if tuple(train_set.concepts) != tuple(val_set.concepts):
            raise InputError(f"data.train has {len(train_set.concepts):,} concepts and data.val {len(val_set.concepts):,} others; give both the same "
                             "sources in the same order.")
        _check_vocabularies(train_set.parts)
        for part in (*train_set.parts, *val_set.parts):
            if images:
                _require_pictures(part, clip)
            else:
                part.leave_pictures_out()  # all sources of a batch give them, or none
        _check_one_kind(train_set.parts)
        self.mined = joined_mined(*(part.mined() for part in (*train_set.parts, *val_set.parts) if isinstance(part, TripletProxies)))
        self.sha256 = self._sha256()

    @property
    def texts(self) -> list[str]:
        """The first name of each concept, without its qualifier where no other concept has that word."""
        names = list(self.train_set.class_names)
        words = [without_qualifier(name) or name for name in names]
        used = Counter(plain(word) for word in words)
        return [word if used[plain(word)] == 1 else name for name, word in zip(names, words, strict=True)]

    @property
    def present_names(self) -> list[str]:
        """First names of the concepts that occur in training."""
        return [self.train_set.class_names[number] for number in np.unique(self.train_set.labels)]

    @property
    def present_words(self) -> list[str]:
        """All names of the concepts that occur in either set."""
        return [name for data in (self.train_set, self.val_set) for number in np.unique(data.labels) for name in data.concepts[number]]

    def require_steps(self, counts_epochs: bool) -> None:
        """Refuse to count epochs where CLIP is still to name models: how many remain is not known when steps are counted.

        Raises:
            InputError: If so.
        """
        if counts_epochs and any(isinstance(part, ObjectTriplets) and part.vocabulary is not None for part in self.train_set.parts):
            raise InputError("epochs cannot be counted before CLIP has named the models of data.train.objects, some of which it leaves out; set "
                             "--trainer.max_epochs -1 --trainer.max_steps N --data.val_every_epochs null --trainer.val_check_interval N.")

    def name_objects(self, features_of: Callable[[ShapeNetPairs], ImageFeatures] | None) -> None:
        """Let the frozen image tower see the pictures of rendered models once, and let CLIP name the models where no class is to be read.

        Args:
            features_of: Gives what the tower says of all pictures; None where there is no place to keep it.

        Raises:
            InputError: If there are such models and no place for what the tower says of them.
        """
        for part in (*self.train_set.parts, *self.val_set.parts):
            if not isinstance(part, ObjectTriplets):
                continue
            if features_of is None:
                raise InputError("model.image_feature_cache is needed with ObjectTriplets: a folder for the features of the models' pictures.")
            part.pairs.image_features = features_of(part.pairs)
            if part.vocabulary is not None:
                part.set_names(self._probabilities(part))
                same, number = part.agreement()
                self.notes.append(f"{part.pairs.data.split}: {number:,} of {len(part.pairs):,} models are used, {same:,} of them named as their "
                                  "class is (others may be right: a class can hold several concepts).")
        for data in (self.train_set, self.val_set):
            data.refresh()

    def check(self, *, text_term: bool, unseen_names: list[str]) -> None:
        """Look at the names that occur, once they are known.

        Raises:
            InputError: If there is one name only and a text term, a name that was to be kept out occurs in either set, or a sample is in both sets.
        """
        present = set(np.unique(self.train_set.labels).tolist())
        if text_term and len(present) < 2:
            raise InputError(f"all {len(self.train_set):,} triplets have the text {self.present_names[0]!r}, so texts have no negatives; add data "
                             "with other names, or set loss.text_weight: 0.")
        unseen = {plain(name) for name in unseen_names}
        for what, data in (("training data", self.train_set), ("data that chooses the checkpoint", self.val_set)):
            concepts = [data.concepts[number] for number in np.unique(data.labels)]
            if overlap := sorted(names[0] for names in concepts if unseen & {plain(name) for name in names}):
                raise InputError(f"model.unseen_names has {', '.join(overlap)}, which the {what} has too; exclude them there.")
        if both := _keys(self.train_set) & _keys(self.val_set):
            raise InputError(f"{len(both):,} triplets are in data.train and in data.val, which chooses the checkpoint, first {min(both)}; train on "
                             "part: fit and validate on part: val.")
        self.notes += [note for part in self.train_set.parts for note in part.notes]

    def _sha256(self) -> str:
        """Hash what is trained on: the stores' shards and which triplets of them, the models and the names that they can get."""
        digest = hashlib.sha256()
        for part in (*self.train_set.parts, *self.val_set.parts):
            if isinstance(part, TripletProxies):
                digest.update(repr(sorted(shard["sha256"] for shard in part.store.index["shards"])).encode())
                digest.update(part.positions.tobytes() + part.labels.tobytes())
            else:
                digest.update(part.pairs.models_sha256.encode() + (part.vocabulary.sha256 if part.vocabulary else "classes").encode())
        return digest.hexdigest()

    def _probabilities(self, part: ObjectTriplets) -> Tensor:
        """Ask CLIP for the names of models: softmax over the vocabulary of the mean of the views' unit features."""
        vocabulary, features = part.vocabulary, part.pairs.image_features
        assert vocabulary is not None and features is not None
        names = [vocabulary.spoken(vocabulary.name_of(number)) for number in range(len(vocabulary))] + list(vocabulary.distractors)
        texts = class_embeddings(self.clip, names, vocabulary.templates["naming"])
        embeds = torch.stack([functional.normalize(torch.stack([features[model, view] for view in range(features.num_views)]), dim=-1).mean(dim=0)
                              for model in range(len(features))])
        return (self.clip.logit_scale * functional.normalize(embeds, dim=-1) @ texts.T).softmax(dim=-1)


def _keys(data: JoinedTriplets) -> set[tuple[str, int]]:
    """Name what the samples are: triplets of a store, or models."""
    found: set[tuple[str, int]] = set()
    for part in data.parts:
        if isinstance(part, TripletProxies):
            found |= {(str(part.store.folder.resolve()), int(position)) for position in part.positions}
        else:
            found |= {(part.describe(index), 0) for index in range(len(part))}
    return found


def _require_pictures(part: Any, clip: ClipTowers) -> None:
    """See that a source has pictures for this CLIP: embeddings beside a store, or pictures of the right size."""
    if isinstance(part, ObjectTriplets):
        part.pairs.require_image_size(clip.image_size)
    elif part.image_size is None:
        part.use_embeddings(CropEncoder.of(clip).clip_id, clip.embed_dim)
    elif part.image_size != clip.image_size:
        raise InputError(f"crops are read at {part.image_size} pixels, this CLIP takes {clip.image_size}; set image_size to that, or leave it out to "
                         "use the embeddings beside the store.")


def _check_one_kind(parts: tuple[Any, ...]) -> None:
    pictures = {isinstance(part, TripletProxies) and part.image_size is not None for part in parts}
    if len(pictures) > 1:
        raise InputError("some sources give pictures and others embeddings: leave image_size out of all stores, or train without objects "
                         "(data.train.objects null), of which embeddings are kept.")


def _check_vocabularies(parts: tuple[Any, ...]) -> None:
    """Refuse stores whose vocabularies have one name and other content: somebody changed the file between two collections."""
    hashes: dict[str, tuple[str, Path]] = {}
    for part in parts:
        if isinstance(part, TripletProxies):
            vocabulary = part.store.index.get("vocabulary") or {}
            name, sha256 = str(vocabulary.get("name")), str(vocabulary.get("sha256"))
            known = hashes.setdefault(name, (sha256, part.store.folder))
            if known[0] != sha256:
                raise InputError(f"{part.store.folder} and {known[1]} were named by two vocabularies {name!r} with different hashes ({sha256[:12]} "
                                 f"and {known[0][:12]}); collect one of them again.")
