"""One DataModule for every stage: training and validation sets are configured classes, test sets are named."""

from __future__ import annotations

from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, cast

from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from clip2x.data.base import PointCloudDataset
from clip2x.data.modelnet import ModelNet
from clip2x.data.samplers import ExactSampler, GlobalBatchSampler
from clip2x.errors import InputError
from clip2x.manifest import load_manifest

READERS: dict[str, type[PointCloudDataset]] = {"modelnet": ModelNet}

DatasetFactory = Callable[[Path, int], Dataset[Any]]


def open_dataset(name: str, root: Path, **options: Any) -> PointCloudDataset:
    """Open a data set by `manifest/variant/split`, e.g. `modelnet10/off/test`.

    Raises:
        InputError: If the name has another form or one of its parts is unknown.
        DataNotFoundError: If it is not below `root`.
    """
    parts = name.split("/")
    if len(parts) != 3:
        raise InputError(f"{name!r} is no data set: write manifest/variant/split, e.g. modelnet10/off/test.")
    manifest = load_manifest(parts[0])
    if manifest.reader not in READERS:
        raise InputError(f"{parts[0]} is read by {manifest.reader!r}, which is not known; known are {', '.join(READERS)}.")
    return READERS[manifest.reader](manifest, root=root, variant=parts[1], split=parts[2], **options)


class Clip2xDataModule(LightningDataModule):
    """Loaders over the data below one root folder.

    Args:
        root: The folder that holds the data sets under their usual names.
        train, val: Classes that are built on `root` and `seed`.
        test: Data sets by `manifest/variant/split`; each gets a loader.
        batch_size: Per step over ALL processes in training; per process in evaluation.
        num_workers: Reader processes per loader.
        num_points: Points per cloud. Official code: 1,024.
        sampler: How clouds with more points are thinned, `random` (seeded) or `farthest`.
        up: Up axis of the files where a copy differs from its manifest.
        limit: Use only so many samples of each test set, spread evenly over it.
        cache: Where sampled meshes are kept; None = the user's cache folder.
        seed: Of every draw.
    """

    def __init__(self, root: Path, train: DatasetFactory | None = None, val: DatasetFactory | None = None, test: list[str] | None = None,
                 batch_size: int = 32, num_workers: int = 0, num_points: int = 1024, sampler: str = "random", up: str | None = None,
                 limit: int | None = None, cache: Path | None = None, seed: int = 0) -> None:
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0), ("seed", seed, 0)):
            if value < least:
                raise InputError(f"data.{name} must be at least {least}, got {value}.")
        self.root, self.batch_size, self.num_workers, self.seed = Path(root), batch_size, num_workers, seed
        self._train, self._val, self._test = train, val, test or []
        self._options = {"num_points": num_points, "sampler": sampler, "up": up, "limit": limit, "cache": cache, "seed": seed}
        self.test_sets: list[PointCloudDataset] = []

    def setup(self, stage: str) -> None:
        """Open what the stage reads."""
        if stage == "fit":
            if self._train is None:
                raise InputError("data.train is not set, so there is nothing to train on; use a training stage's YAML.")
            self.train_set = self._train(self.root, self.seed)
            self.val_set = self._val(self.root, self.seed) if self._val else None
        if stage == "test":
            if not self._test:
                raise InputError("data.test is empty; name at least one data set, e.g. --data.test '[modelnet10/off/test]'.")
            self.test_sets = [open_dataset(name, self.root, **self._options) for name in self._test]

    def train_dataloader(self) -> DataLoader[Any]:
        """Endless epochs in global batches up to the trainer's last step, going on where an interrupted run stopped."""
        trainer = self._trainer()
        sampler = GlobalBatchSampler(len(cast(Sized, self.train_set)), self.batch_size, trainer.max_steps, seed=self.seed,
                                     rank=trainer.global_rank, world_size=trainer.world_size, start_step=trainer.global_step)
        return DataLoader(self.train_set, batch_sampler=sampler, **self._loader_options())

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """Every validation sample once."""
        return [] if self.val_set is None else self._exact_loader(self.val_set)

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """Every sample of each test set once."""
        return [self._exact_loader(data) for data in self.test_sets]

    def _exact_loader(self, data: Dataset[Any]) -> DataLoader[Any]:
        trainer = self._trainer()
        if len(cast(Sized, data)) < trainer.world_size:
            raise InputError(f"{len(cast(Sized, data))} samples cannot be shared by {trainer.world_size} processes; lower --trainer.devices.")
        sampler = ExactSampler(cast(Sized, data), rank=trainer.global_rank, world_size=trainer.world_size)
        return DataLoader(data, batch_size=self.batch_size, sampler=sampler, **self._loader_options())

    def _loader_options(self) -> dict[str, Any]:
        on_gpu = self._trainer().strategy.root_device.type == "cuda"
        return {"num_workers": self.num_workers, "persistent_workers": self.num_workers > 0, "pin_memory": on_gpu}

    def _trainer(self) -> Any:
        if self.trainer is None:
            raise RuntimeError("the loaders are asked for by a Trainer")
        return self.trainer
