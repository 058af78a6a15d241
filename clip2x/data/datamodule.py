"""One DataModule for every stage: training and validation sets are configured classes, test sets are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any, cast

import numpy as np
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from clip2x.data.base import PointCloudDataset
from clip2x.data.clouds import JoinedDatasets
from clip2x.data.faults import POLICIES, BadSampleLog, ReplacingDataset, collate
from clip2x.data.frame_loading import LoadedFrames
from clip2x.data.named_sets import open_datasets
from clip2x.data.readers import open_dataset, open_frames
from clip2x.data.samplers import ExactSampler, GlobalBatchSampler
from clip2x.errors import InputError
from clip2x.signals import end_with_parent_only

DatasetFactory = Callable[[Path, int], Dataset[Any]]


class Clip2xDataModule(LightningDataModule):
    """Loaders over the data below one root folder.

    Which sample comes when, and every draw inside it, is a function of the seed and of the position in training, whatever the number of
    workers and processes.

    Args:
        root: The folder that holds the data sets under their usual names.
        train, val: Classes that are built on `root` and `seed`; a list of them is read as one data set.
        watch: Data sets by `manifest/variant/split` that a training stage evaluates beside `val` and logs; nothing is chosen by them.
        test: Data sets by `manifest/variant/split`; each gets a loader.
        missing: What to do about test sets that are not below `root`: `raise` stops, `skip` leaves them out and says so, see `open_datasets`.
        frames: Data sets of scene frames by `manifest/variant/split` that the subcommand predict goes through; `batch_size` then counts frames.
        sweeps, depth: Of frames, see `readers.open_frames`.
        val_every_epochs: Validate every so many passes over the training data, in the place of the trainer's `val_check_interval`.
        batch_size: Per step over ALL processes in training; per process in evaluation.
        batch_size_per_device: In the place of `batch_size`: per process in training too; the global batch grows with their number.
        num_workers: Reader processes per loader. prefetch: batches that each of them has ready.
        num_points: Points per cloud of the test sets. Official code: 1,024.
        sampler: How clouds with more points are thinned, `random` (seeded) or `farthest`.
        up: Up axis of the files where a copy differs from its manifest.
        crops: Side in pixels of the pictures of objects that come with test sets cut out of scenes; None reads none. See `readers.open_dataset`.
        others: Let test sets that are cut out of scenes hold also the objects of none of their classes, with label -1.
        limit: Use only so many samples of each test set, each set that is watched and each set of frames, spread evenly over it.
        balance: 0 reads every training sample once an epoch, 1 all classes equally often, see `samplers.balanced_order`.
        on_bad_sample: `raise` stops with the sample's name and the reason; `skip` takes the next one in its place, counts and lists it.
        max_bad_share: With `skip`: the share of a data set that may be unreadable before the run stops.
        cache: Where sampled meshes are kept; None = the user's cache folder.
        seed: Of every draw.
    """

    def __init__(self, root: Path, train: DatasetFactory | list[DatasetFactory] | None = None,
                 val: DatasetFactory | list[DatasetFactory] | None = None, watch: list[str] | None = None, test: list[str] | None = None,
                 frames: list[str] | None = None, sweeps: int = 1, depth: str = "raw", val_every_epochs: float | None = None,
                 batch_size: int = 32, batch_size_per_device: int | None = None, num_workers: int = 0, prefetch: int = 2,
                 num_points: int = 1024, sampler: str = "random", up: str | None = None, crops: int | None = None, others: bool = False,
                 missing: str = "raise",
                 limit: int | None = None, balance: float = 0.0, on_bad_sample: str = "raise", max_bad_share: float = 0.01,
                 cache: Path | None = None, seed: int = 0) -> None:
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0), ("seed", seed, 0), ("prefetch", prefetch, 1),
                                   ("batch_size_per_device", 1 if batch_size_per_device is None else batch_size_per_device, 1)):
            if value < least:
                raise InputError(f"data.{name} must be at least {least}, got {value}.")
        if on_bad_sample not in POLICIES:
            raise InputError(f"data.on_bad_sample must be one of {', '.join(POLICIES)}, got {on_bad_sample!r}.")
        if val_every_epochs is not None and not 0 < val_every_epochs < float("inf"):
            raise InputError(f"data.val_every_epochs must be positive, got {val_every_epochs:g}.")
        for name, share in (("balance", balance), ("max_bad_share", max_bad_share)):
            if not 0 <= share <= 1:
                raise InputError(f"data.{name} must lie in [0, 1], got {share:g}.")
        self.root, self.num_workers, self.prefetch, self.seed = Path(root), num_workers, prefetch, seed
        self.batch_size, self.batch_size_per_device, self.balance = batch_size, batch_size_per_device, balance
        self.on_bad_sample, self.max_bad_share = on_bad_sample, max_bad_share
        self._train, self._val, self._watch, self._test, self.val_every_epochs = train, val, watch or [], test or [], val_every_epochs
        self._options: dict[str, Any] = {"num_points": num_points, "sampler": sampler, "up": up, "limit": limit, "cache": cache, "seed": seed}
        self.crops, self.others, self.missing = crops, others, missing
        self._named_tests, self.missing_sets = list(self._test), dict[str, str]()
        self._frames, self.sweeps, self.depth = frames or [], sweeps, depth
        self.frame_set: LoadedFrames | None = None
        self.val_set: Dataset[Any] | None = None
        self.watch_sets: list[PointCloudDataset] = []
        self.test_sets: list[PointCloudDataset] = []
        self.bad_samples: dict[str, BadSampleLog] = {}
        self.counts_epochs = False  # whether a length or an interval is a number of passes over as many samples as there are when it is set up

    def setup(self, stage: str) -> None:
        """Open what the stage reads."""
        if stage == "fit":
            if not self._train:
                raise InputError("data.train is not set, so there is nothing to train on; use a training stage's YAML.")
            self.train_set = self._built(self._train)
        if stage == "validate" and not self._val:
            raise InputError("data.val is not set, so there is nothing to validate on; use a training stage's YAML.")
        if stage in ("fit", "validate"):
            self.val_set = self._built(self._val) if self._val else None
            self.watch_sets = [open_dataset(name, self.root, **self._options) for name in self._watch]
        if stage == "fit" and self.trainer is not None:
            self._count_steps()
        if stage == "test":
            if not self._test:
                raise InputError("data.test is empty; name at least one data set, e.g. --data.test '[modelnet10/off/test]'.")
            options = {"crops": self.crops, "others": self.others, **self._options}
            found, self.missing_sets = open_datasets(self._named_tests, self.root, self.missing, **options)
            self._test, self.test_sets = list(found), list(found.values())
        if stage == "predict":
            if not self._frames:
                raise InputError("data.frames is empty; name at least one set of frames, e.g. --data.frames '[nuscenes/v1.0-mini/mini_train]'.")
            sets = [open_frames(name, self.root, sweeps=self.sweeps, depth=self.depth, cache=self._options["cache"]) for name in self._frames]
            self.frame_set = LoadedFrames(sets, self._frames, limit=self._options["limit"], skip_bad=self.on_bad_sample == "skip")

    def train_dataloader(self) -> DataLoader[Any]:
        """Endless epochs in global batches up to the trainer's last step, going on where an interrupted run stopped."""
        trainer = self._trainer()
        per_step = trainer.accumulate_grad_batches
        labels = getattr(self.train_set, "labels", None) if self.balance else None
        sampler = GlobalBatchSampler(len(cast(Sized, self.train_set)), self.global_batch_size, trainer.max_steps * per_step,
                                     seed=self.seed, rank=trainer.global_rank, world_size=trainer.world_size,
                                     start_step=trainer.global_step * per_step, balance=self.balance,
                                     labels=None if labels is None else np.asarray(labels))
        return DataLoader(self._guarded(self.train_set, "train"), batch_sampler=sampler, **self._loader_options())

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """Every validation sample once; then, with a loader each, every sample of the sets that are watched."""
        if self.val_set is None:
            return []
        loader = self._exact_loader(self.val_set, "val")
        watched = [self._exact_loader(data, name) for name, data in zip(self._watch, self.watch_sets, strict=True)]
        return [loader, *watched] if watched else loader

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """Every sample of each test set once."""
        return [self._exact_loader(data, name) for name, data in zip(self._test, self.test_sets, strict=True)]

    def predict_dataloader(self) -> DataLoader[Any]:
        """Every frame that is still to be done once; a process takes its share."""
        if self.frame_set is None:
            raise RuntimeError("the loader is asked for by a Trainer")
        trainer = self._trainer()
        batches = self.frame_set.batches(self.batch_size, rank=trainer.global_rank, world_size=trainer.world_size)
        return DataLoader(self.frame_set, batch_size=None, sampler=batches, **{**self._loader_options(), "collate_fn": None, "pin_memory": False})

    def bad_indices(self, test_set: int) -> set[int]:
        """List the samples of a test set that this process could not read."""
        log = self.bad_samples.get(self._test[test_set])
        return set() if log is None else set(log.reasons)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Take the list of bad samples out of a batch and count them."""
        if isinstance(batch, dict) and "bad_samples" in batch:
            trainer = self._trainer()
            name = "train" if trainer.training else self._test[dataloader_idx] if trainer.testing else ["val", *self._watch][dataloader_idx]
            self.bad_samples[name].add(batch["bad_samples"])
            return {key: value for key, value in batch.items() if key != "bad_samples"}
        return batch

    @property
    def global_batch_size(self) -> int:
        """Samples in a training step, over all processes."""
        per_device = self.batch_size_per_device
        return self.batch_size if per_device is None else per_device * int(self._trainer().world_size)

    @property
    def steps_per_epoch(self) -> int:
        """Count the optimizer's steps in one pass over the training data, whole batches only."""
        batches = len(cast(Sized, self.train_set)) // self.global_batch_size
        return max(1, batches // int(self._trainer().accumulate_grad_batches))

    def _count_steps(self) -> None:
        """Turn epochs into steps: the loader is one pass of as many steps as the training has; of two limits the smaller holds.

        Raises:
            InputError: If neither limit is set, or another one would end or restart the loader in a way that nobody means.
        """
        trainer = self._trainer()
        self.counts_epochs = trainer.max_epochs not in (None, -1) or self.val_every_epochs is not None
        if trainer.max_epochs not in (None, -1):
            batches = len(cast(Sized, self.train_set)) // self.global_batch_size
            steps = max(1, trainer.max_epochs * batches // trainer.accumulate_grad_batches)
            trainer.fit_loop.epoch_loop.max_steps = steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)
            trainer.fit_loop.max_epochs = -1
        if trainer.max_steps < 1:
            raise InputError(f"set --trainer.max_steps or --trainer.max_epochs to at least 1, got {trainer.max_steps} steps.")
        if self.val_every_epochs is not None:
            batches = len(cast(Sized, self.train_set)) // self.global_batch_size
            trainer.val_check_interval = max(1, round(self.val_every_epochs * batches))
        if isinstance(trainer.val_check_interval, int):  # a run that is shorter than the interval is validated once, at its end
            trainer.val_check_interval = min(trainer.val_check_interval, trainer.max_steps * trainer.accumulate_grad_batches)
        limit = trainer.limit_train_batches
        if limit < (1.0 if isinstance(limit, float) else trainer.max_steps * trainer.accumulate_grad_batches):
            raise InputError(f"--trainer.limit_train_batches {limit} would read the same first batches again and again; set --trainer.max_steps.")

    def _built(self, factories: DatasetFactory | Sequence[DatasetFactory]) -> Dataset[Any]:
        if not isinstance(factories, Sequence):
            return factories(self.root, self.seed)
        parts = [factory(self.root, self.seed) for factory in factories]
        return parts[0] if len(parts) == 1 else JoinedDatasets(parts)

    def _exact_loader(self, data: Dataset[Any], name: str) -> DataLoader[Any]:
        trainer = self._trainer()
        if len(cast(Sized, data)) < trainer.world_size:
            raise InputError(f"{len(cast(Sized, data))} samples cannot be shared by {trainer.world_size} processes; lower --trainer.devices.")
        sampler = ExactSampler(cast(Sized, data), rank=trainer.global_rank, world_size=trainer.world_size)
        batch_size = self.batch_size if self.batch_size_per_device is None else self.batch_size_per_device
        return DataLoader(self._guarded(data, name), batch_size=batch_size, sampler=sampler, **self._loader_options())

    def _guarded(self, data: Dataset[Any], name: str) -> Dataset[Any]:
        """Wrap a data set so that bad samples are replaced, where that was asked for."""
        if self.on_bad_sample == "raise":
            return data
        trainer = self._trainer()
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        path = folder / f"bad_samples{f'-rank{trainer.global_rank}' if trainer.world_size > 1 else ''}.jsonl"
        if not self.bad_samples:
            path.unlink(missing_ok=True)  # of an earlier run
        number = len(cast(Sized, data)) if name == "train" else -(-len(cast(Sized, data)) // trainer.world_size)
        self.bad_samples.setdefault(name, BadSampleLog(name, number, self.max_bad_share, path))
        return ReplacingDataset(data)

    def _loader_options(self) -> dict[str, Any]:
        on_gpu = self._trainer().strategy.root_device.type == "cuda"
        workers = {"persistent_workers": True, "prefetch_factor": self.prefetch, "worker_init_fn": end_with_parent_only} if self.num_workers else {}
        return {"num_workers": self.num_workers, "pin_memory": on_gpu, "collate_fn": collate, **workers}

    def _trainer(self) -> Any:
        if self.trainer is None:
            raise RuntimeError("the loaders are asked for by a Trainer")
        return self.trainer

