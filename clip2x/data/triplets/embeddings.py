"""How a CLIP sees the crops of a triplet store: computed once, kept beside the shards, so that pre-training need not run the image tower."""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from clip2x.data.triplets.index import EMBEDDINGS, kept_on_failure, read_json, write_json
from clip2x.data.triplets.shard import SCHEMA, VERSION, OpenFiles, Shard, write_durably
from clip2x.data.triplets.store import TripletStore, crop_image
from clip2x.encoders.clip import ClipTowers
from clip2x.errors import BadFileError, InputError
from clip2x.untrusted import bare, json_value

FORMAT = 1  # part of every key: raise it when a change alters the pixels that the tower sees

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class CropEncoder:
    """A frozen image tower, and how it is run over the crops of shards.

    encode: (B, 3, S, S) on the CPU, in [0, 1] -> (B, E) features on any device; their length does not matter. Called without gradients.
    clip_id: What the embeddings depend on besides the crops: `ClipTowers.id`, and the precision where it is not float32.
    embed_dim, image_size: E and S. batch_size: crops at a time. num_threads: that decode crops while the tower computes.
    colours: mean and spread by which the tower's pictures are normalised, where one CLIP is used with several.
    """

    encode: Encode
    clip_id: str
    embed_dim: int
    image_size: int
    batch_size: int = 256
    num_threads: int = 4
    colours: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if min(self.embed_dim, self.image_size, self.batch_size, self.num_threads) < 1 or not self.clip_id:
            raise InputError("embed_dim, image_size, batch_size and num_threads must be at least 1 and clip_id not empty, got "
                             f"{self.embed_dim}, {self.image_size}, {self.batch_size}, {self.num_threads} and {self.clip_id!r}.")

    @classmethod
    def of(cls, towers: ClipTowers, *, batch_size: int = 256, num_threads: int = 4) -> CropEncoder:
        """Take the image tower of a CLIP, on the device where it is."""
        def encode(images: Tensor) -> Tensor:
            return towers.encode_image(images.to(towers.image_tower.colour_mean.device))

        return cls(encode, f"{towers.id}{'' if towers.precision == 'fp32' else f' {towers.precision}'}", towers.embed_dim, towers.image_size,
                   batch_size, num_threads, (*towers.mean, *towers.std))

    def describe(self) -> dict[str, Any]:
        """Say what the embeddings depend on, as JSON."""
        return {"clip_id": self.clip_id, "image_size": self.image_size, "embed_dim": self.embed_dim, "colours": list(self.colours),
                "format": FORMAT}

    @property
    def folder(self) -> str:
        """Name the folder of these embeddings below a store's."""
        key = hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()[:12]
        return f"{EMBEDDINGS}/{re.sub(r'[^A-Za-z0-9.]+', '-', self.clip_id)[:40]}-{self.image_size}px-{key}"

    def embed_shard(self, path: Path) -> bool:
        """Keep the embeddings of a shard's crops, unless they are there. The result depends on the shard, the tower and the batch size alone.

        The index lists them when it is written the next time, as `TripletWriter` and `embed_proxies` do.

        Args:
            path: The shard, which has its .json beside it; may be given to `TripletWriter` as `on_shard`.

        Returns:
            Whether the tower had to run.

        Raises:
            InputError: If a triplet has no crop, the tower gives other features than announced, or they cannot be written.
            BadFileError: If the shard or a crop is damaged.
        """
        described = read_json(path.with_suffix(".json"), "run the same collection again: it describes the shard anew")
        target = path.parent / self.folder / f"{path.stem}.npy"
        if _is_there(target, described["sha256"]):
            return False
        stream = BytesIO()
        np.save(stream, self._embeds(Shard(path)))
        content = stream.getvalue()
        with kept_on_failure(path.parent):
            write_json(target.parent / "about.json", {"schema": SCHEMA, "version": VERSION, **self.describe()})
            target.with_suffix(".json").unlink(missing_ok=True)  # of a shard that was made anew: never describes the new file
            write_durably(target, content)
            write_json(target.with_suffix(".json"), {
                "schema": SCHEMA, "version": VERSION, "file": target.name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content),
                "shard": path.name, "shard_sha256": described["sha256"]})
        return True

    def _embeds(self, shard: Shard) -> NDArray[np.float16]:
        """Run the tower over a shard: (T, E), unit length before the rounding."""
        embeds = np.empty((len(shard), self.embed_dim), dtype=np.float16)
        first = 0
        for images in self._batches(shard):
            with torch.no_grad():
                features = self.encode(images).float().cpu()
            if features.shape != (len(images), self.embed_dim) or not (features.isfinite().all() and features.any(dim=1).all()):
                raise InputError(f"the image tower {self.clip_id} must give finite features {(len(images), self.embed_dim)} that are not zero, got "
                                 f"{tuple(features.shape)} for the crops from {first} on of {shard.path}.")
            embeds[first : first + len(images)] = torch.nn.functional.normalize(features, dim=1).numpy()
            first += len(images)
        return embeds

    def _batches(self, shard: Shard) -> Iterator[Tensor]:
        """Decode crops in threads, one batch ahead of the tower."""
        def decoded(row: int) -> Tensor:
            return crop_image(shard.crop(row), self.image_size, f"{shard.path}: triplet {row}")

        with ThreadPoolExecutor(self.num_threads) as pool:
            ahead: deque[list[Future[Tensor]]] = deque()
            try:
                for first in range(0, len(shard), self.batch_size):
                    ahead.append([pool.submit(decoded, row) for row in range(first, min(first + self.batch_size, len(shard)))])
                    if len(ahead) > 1:
                        yield torch.stack([future.result() for future in ahead.popleft()])
                if ahead:
                    yield torch.stack([future.result() for future in ahead.popleft()])
            finally:
                pool.shutdown(cancel_futures=True)


class TripletEmbeddings:
    """The embeddings of a store's crops by one CLIP; `embeddings[position]` is (E,) float32 of unit length. May be sent to other processes.

    Attributes:
        embed_dim: E.
    """

    def __init__(self, store: TripletStore, clip_id: str) -> None:
        """Find the embeddings; none is read.

        Raises:
            InputError: If the store has none of this CLIP, or not of all its shards.
            BadFileError: If a file of them is damaged.
        """
        kinds = [kind for kind in store.index["embeddings"] if kind["clip_id"] == clip_id]
        if len(kinds) != 1:
            known = ", ".join(sorted({f"{bare(kind['clip_id'])} ({kind['image_size']} px)" for kind in store.index["embeddings"]})) or "none"
            raise InputError(f"{store.folder} has {'several kinds of' if kinds else 'no'} image embeddings of {clip_id!r} (there are: {known}); "
                             f"{'delete all but one folder of them' if kinds else 'compute them with embed-proxies, or name one that is there'}.")
        if not kinds[0]["complete"]:
            raise InputError(f"{store.folder} has image embeddings of {clip_id!r} for {len(kinds[0]['files'])} of {len(store.index['shards'])} "
                             "shards; run embed-proxies again, it computes those that are missing.")
        self.embed_dim = int(kinds[0]["embed_dim"])
        self._store, self._files = store, OpenFiles()
        folder, triplets = store.folder / kinds[0]["folder"], {shard["file"]: shard["triplets"] for shard in store.index["shards"]}
        self._places: dict[str, tuple[Path, int]] = {}  # by name of the shard: the file, and where its rows begin
        for item in kinds[0]["files"]:
            path, begin = folder / item["file"], int(item["bytes"]) - int(triplets.get(item["shard"], 0)) * 2 * self.embed_dim
            if item["shard"] not in triplets or begin < 0 or not path.is_file():
                raise BadFileError(f"{path}: a file of image embeddings is missing or damaged; delete the .json beside it and run embed-proxies "
                                   "again.")
            self._places[item["shard"]] = path, begin

    def __len__(self) -> int:
        """Count the triplets."""
        return len(self._store)

    def __getitem__(self, position: int) -> Float[Tensor, "E"]:
        """Read the embedding of a triplet's crop."""
        shard, row = self._store.place(position)
        if shard.path.name not in self._places:
            raise BadFileError(f"{self._store.folder}: the index has no image embeddings for {shard.path.name}; run embed-proxies again.")
        path, begin = self._places[shard.path.name]
        values = self._files.read(path, begin + row * 2 * self.embed_dim, np.dtype("<f2"), (self.embed_dim,))
        return torch.nn.functional.normalize(torch.from_numpy(values).float(), dim=0)


def _is_there(path: Path, shard_sha256: str) -> bool:
    """Say whether embeddings of just this shard are there, as far as sizes tell."""
    try:
        described = json_value(path.with_suffix(".json").read_bytes())
        return bool(described["shard_sha256"] == shard_sha256 and described["bytes"] == path.stat().st_size)
    except (OSError, ValueError, KeyError, TypeError):
        return False
