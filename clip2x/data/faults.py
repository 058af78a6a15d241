"""What happens when a sample cannot be read: by default the run stops with its name; on request it is replaced, counted and listed."""

from __future__ import annotations

import json
from collections.abc import Sequence, Sized
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch.utils.data import Dataset, default_collate

from clip2x.data.samplers import SampleKey
from clip2x.errors import BadFileError, DataNotFoundError, InputError

POLICIES = ("raise", "skip")
ATTEMPTS = 32  # ours: that many samples in a row that cannot be read are no accident
REPORTED = (BadFileError, DataNotFoundError)  # what readers raise for a sample; anything else is a bug and always stops the run


@dataclass(frozen=True)
class BadSample:
    """A sample that could not be read: its index in the data set, and why."""

    index: int
    reason: str


class ReplacingDataset(Dataset[Any]):
    """Give the next readable sample in the place of one that cannot be read.

    A replacement keeps its own `index`, so an evaluation, which counts every index once, leaves the bad sample out; batches keep their size on
    every process. The bad ones travel with the sample under `bad_samples`.
    """

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(cast(Sized, self.data))

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        first = SampleKey.of(key)
        bad: list[BadSample] = []
        for attempt in range(min(ATTEMPTS, len(self))):
            index = (first.index + attempt) % len(self)
            try:
                sample = self.data[replace(first, index=index) if isinstance(key, SampleKey) else index]
            except REPORTED as error:
                bad.append(BadSample(index, " ".join(str(error).split())))
                continue
            return {**sample, "bad_samples": bad}
        raise BadFileError(f"{len(bad)} samples in a row cannot be read, the first: {bad[0].reason}")


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples to a batch; bad samples are listed under `bad_samples` where the data set reports them."""
    if "bad_samples" not in samples[0]:
        return cast(dict[str, Any], default_collate(list(samples)))
    batch = cast(dict[str, Any], default_collate([{name: value for name, value in sample.items() if name != "bad_samples"} for sample in samples]))
    return {**batch, "bad_samples": [item for sample in samples for item in sample["bad_samples"]]}


class BadSampleLog:
    """Count the bad samples of one data set and keep a list of them.

    Args:
        name: Of the data set, for messages.
        num_samples: How many samples of it this process may read: all in training, its share in an evaluation.
        max_share: The run stops when a larger share of it cannot be read.
        path: JSON lines file that each bad sample of this run is added to, once; made when there is one. Every process has its own.
    """

    def __init__(self, name: str, num_samples: int, max_share: float, path: Path) -> None:
        if not 0 <= max_share <= 1:
            raise InputError(f"data.max_bad_share must lie in [0, 1], got {max_share:g}.")
        self.name, self.num_samples, self.max_share, self.path = name, num_samples, max_share, path
        self.reasons: dict[int, str] = {}

    def add(self, bad: Sequence[BadSample]) -> None:
        """Count samples that were not counted before.

        Raises:
            BadFileError: If there are now more than the share that is allowed.
        """
        new = [item for item in {item.index: item for item in bad}.values() if item.index not in self.reasons]
        if not new:
            return
        self.reasons.update({item.index: item.reason for item in new})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"data": self.name, **asdict(item)}, ensure_ascii=False) + "\n" for item in new)
        count = len(self.reasons)
        if count > self.max_share * self.num_samples:
            raise BadFileError(f"{count} of {self.num_samples:,} samples of {self.name} cannot be read, more than data.max_bad_share="
                               f"{self.max_share:g} allows; list: {self.path}; the first: {next(iter(self.reasons.values()))}")
