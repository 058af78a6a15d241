"""The DataModule with a recording model: order, workers, balance, validation parts, shots, bad samples."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer

from clip2x.data.augmentations import Jitter, RotateAboutUp
from clip2x.data.clouds import JoinedDatasets, LabelledClouds
from clip2x.data.datamodule import Clip2xDataModule
from clip2x.data.faults import BadSample, BadSampleLog, ReplacingDataset
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.manifest import load_manifest

CLASSES = ("bathtub", "bed", "chair")


class Recorder(LightningModule):
    """Remembers which samples came."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[Any]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        assert set(batch) == {"points", "label", "index"}
        self.seen["train"].append((batch["index"].tolist(), float(batch["points"].double().sum()), batch["label"].tolist()))
        return self.weight * 0

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.seen["val"] += batch["index"].tolist()

    def test_step(self, batch: dict[str, torch.Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.seen["test"].append((dataloader_idx, batch["index"].tolist()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, steps: int = 4) -> Trainer:
    return Trainer(max_steps=steps, max_epochs=-1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                   enable_model_summary=False, use_distributed_sampler=False, default_root_dir=folder, val_check_interval=steps,
                   check_val_every_n_epoch=None, num_sanity_val_steps=0)


@pytest.fixture
def clouds(tmp_path: Path) -> Path:
    """ModelNet40's text layout with 12 clouds of each of three classes, in a folder whose name has a blank and an umlaut."""
    root = tmp_path / "daten ä"
    folder = root / load_manifest("modelnet10").variant("text").folder
    rng = np.random.default_rng(0)
    names = []
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(1, 13):
            np.savetxt(folder / name / f"{name}_{number:04d}.txt", rng.normal(size=(64, 6)), delimiter=",", fmt="%.5f")
            names.append(f"{name}_{number:04d}")
    for split in ("train", "test"):
        (folder / f"modelnet10_{split}.txt").write_text("\n".join(names) + "\n")
    return root


def training_set(split: str = "train", **options: Any) -> Any:
    return partial(LabelledClouds, name=f"modelnet10/text/{split}", num_points=32, **options)


def fitted(clouds: Path, folder: Path, steps: int = 4, train: Any = None, **options: Any) -> Recorder:
    model = Recorder()
    data = Clip2xDataModule(clouds, train=train or training_set(augmentations=[RotateAboutUp(), Jitter()], pool_points=64, cache=folder / "c"),
                            batch_size=8, **options)
    trainer(folder, steps).fit(model, datamodule=data)
    return model


def test_samples_depend_on_seed_and_position_not_on_workers(clouds: Path, tmp_path: Path) -> None:
    alone = fitted(clouds, tmp_path, steps=6)
    helped = fitted(clouds, tmp_path, steps=6, num_workers=2, prefetch=3)
    assert alone.seen["train"] == helped.seen["train"]
    assert fitted(clouds, tmp_path, seed=1).seen["train"] != alone.seen["train"][:4]
    first, second = alone.seen["train"][0], alone.seen["train"][4]
    assert len({index for indices, *_ in alone.seen["train"][:4] for index in indices}) == 32, "an epoch holds no sample twice"
    assert first[1] != second[1]


def test_a_sample_changes_from_epoch_to_epoch_and_not_within_one(clouds: Path, tmp_path: Path) -> None:
    from clip2x.data.samplers import SampleKey

    data = training_set(augmentations=[RotateAboutUp()], pool_points=64, cache=tmp_path)(clouds, 0)
    once, again, later = (data[SampleKey(5, epoch)]["points"] for epoch in (0, 0, 1))
    assert torch.equal(once, again) and not torch.equal(once, later) and once.shape == (32, 3)
    with pytest.raises(InputError, match=r"pool_points must be at least num_points \(32\), got 8"):
        training_set(pool_points=8)(clouds, 0)


def test_validation_part_is_carved_from_train_and_never_trained_on(clouds: Path, tmp_path: Path) -> None:
    model = fitted(clouds, tmp_path, train=training_set("train:fit", cache=tmp_path), val=training_set("train:val", cache=tmp_path))
    fit, val = (training_set(f"train:{part}", cache=tmp_path)(clouds, 0) for part in ("fit", "val"))
    assert sorted(model.seen["val"]) == list(range(len(val))) and len(val) == 3 and len(fit) == 33
    assert not {entry.key for entry in fit.data.entries} & {entry.key for entry in val.data.entries}
    assert val.labels.tolist() == [0, 1, 2]


def test_shots_and_balance(clouds: Path, tmp_path: Path) -> None:
    few = training_set(shots=2, cache=tmp_path)
    with pytest.raises(InputError, match="class 'desk' has 0 of the 2 objects asked for"):
        few(clouds, 0)
    model = fitted(clouds, tmp_path, train=[training_set(cache=tmp_path)], balance=1.0)
    labels = np.bincount([label for *_, labels in model.seen["train"] for label in labels])
    assert labels.max() - labels.min() <= 4


def test_several_sets_are_joined(clouds: Path, tmp_path: Path) -> None:
    model = fitted(clouds, tmp_path, steps=9, train=[training_set(cache=tmp_path), training_set("test", cache=tmp_path)])
    assert sorted(index for indices, *_ in model.seen["train"] for index in indices) == list(range(72))
    one, other = training_set(cache=tmp_path)(clouds, 0), training_set(cache=tmp_path)(clouds, 0)
    other.class_names = ("else",)
    with pytest.raises(InputError, match="joins data sets with different class names"):
        JoinedDatasets([one, other])


def test_several_test_sets_and_batch_sizes(clouds: Path, tmp_path: Path) -> None:
    model = Recorder()
    data = Clip2xDataModule(clouds, test=["modelnet10/text/train", "modelnet10/text/test:val"], batch_size_per_device=5, num_points=16,
                            cache=tmp_path)
    trainer(tmp_path).test(model, datamodule=data, verbose=False)
    first = [index for loader, indices in model.seen["test"] if loader == 0 for index in indices]
    assert first == list(range(36)) and max(len(indices) for _, indices in model.seen["test"]) == 5
    assert [index for loader, indices in model.seen["test"] if loader == 1 for index in indices] == [0, 1, 2]
    per_device = fitted(clouds, tmp_path, batch_size_per_device=4)
    assert [len(indices) for indices, *_ in per_device.seen["train"]] == [4] * 4


def spoil(clouds: Path, name: str, content: bytes = b"1,2\n") -> None:
    (clouds / "modelnet40_normal_resampled" / name).write_bytes(content)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_sample_stops_the_run_with_its_name(clouds: Path, tmp_path: Path, num_workers: int) -> None:
    spoil(clouds, "bed/bed_0005.txt")
    with pytest.raises(BadFileError, match="bed_0005.txt"):
        fitted(clouds, tmp_path, steps=4, num_workers=num_workers)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_sample_is_replaced_counted_and_listed(clouds: Path, tmp_path: Path, num_workers: int) -> None:
    spoil(clouds, "bed/bed_0005.txt")
    model = fitted(clouds, tmp_path, steps=8, num_workers=num_workers, on_bad_sample="skip", max_bad_share=0.05)
    assert [len(indices) for indices, *_ in model.seen["train"]] == [8] * 8, "batches keep their size"
    lines = [json.loads(line) for line in (tmp_path / "bad_samples.jsonl").read_text().splitlines()]
    assert len(lines) == 1 and lines[0]["data"] == "train" and lines[0]["index"] == 16 and "bed_0005.txt" in lines[0]["reason"]


def test_an_evaluation_counts_a_replacement_once(clouds: Path, tmp_path: Path) -> None:
    spoil(clouds, "chair/chair_0012.txt", b"")
    model = Recorder()
    data = Clip2xDataModule(clouds, test=["modelnet10/text/test"], num_points=16, cache=tmp_path / "c", on_bad_sample="skip", max_bad_share=0.1)
    trainer(tmp_path).test(model, datamodule=data, verbose=False)
    seen = [index for _, indices in model.seen["test"] for index in indices]
    assert len(seen) == 36 and sorted(set(seen)) == list(range(35)), "the bad one is left out; its replacement comes with its own index"
    assert data.bad_samples["modelnet10/text/test"].reasons.keys() == {35}


def test_too_many_bad_samples_stop_the_run(clouds: Path, tmp_path: Path) -> None:
    for number in range(1, 6):
        spoil(clouds, f"bed/bed_{number:04d}.txt", b"nan,nan,nan\n")
    with pytest.raises(BadFileError, match=r"\d of 36 samples of train cannot be read, more than data.max_bad_share=0.03 allows; .*jsonl"):
        fitted(clouds, tmp_path, steps=8, on_bad_sample="skip", max_bad_share=0.03)


def test_a_set_without_a_readable_sample_stops_at_once() -> None:
    class Broken(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 100

        def __getitem__(self, index: int) -> Any:
            raise BadFileError(f"number {index}")

    with pytest.raises(BadFileError, match="32 samples in a row cannot be read, the first: number 90"):
        ReplacingDataset(Broken())[90]


def test_a_bug_is_never_skipped() -> None:
    class Wrong(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            return {}["bug"]

    with pytest.raises(KeyError, match="bug"):
        ReplacingDataset(Wrong())[0]


def test_the_log_counts_a_sample_once(tmp_path: Path) -> None:
    log = BadSampleLog("train", 10, 0.1, tmp_path / "x" / "bad.jsonl")
    log.add([BadSample(3, "ä"), BadSample(3, "ä")])
    log.add([BadSample(3, "ä")])
    assert (tmp_path / "x" / "bad.jsonl").read_text(encoding="utf-8").count("\n") == 1
    with pytest.raises(InputError, match="max_bad_share must lie in"):
        BadSampleLog("train", 10, 2.0, tmp_path / "y")


def test_a_file_replaced_while_training_is_reported(clouds: Path, tmp_path: Path) -> None:
    data = training_set(cache=tmp_path)(clouds, 0)
    before = data[4]["points"]
    path = clouds / "modelnet40_normal_resampled" / data.data.entries[4].key
    np.savetxt(path, np.random.default_rng(9).normal(size=(64, 6)), delimiter=",")
    assert not torch.equal(data[4]["points"], before), "another file of the same name is read anew"
    path.write_text("1,2,three\n")
    with pytest.raises(BadFileError, match="bathtub_0005.txt"):
        data[4]
    path.unlink()
    with pytest.raises(Exception, match="bathtub_0005.txt is gone"):
        data[4]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_folder_is_named(clouds: Path, tmp_path: Path) -> None:
    folder = clouds / "modelnet40_normal_resampled" / "bed"
    folder.chmod(0)
    try:
        with pytest.raises(Exception, match="bed"):
            training_set(cache=tmp_path)(clouds, 0)[14]
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize(("options", "message"), [
    ({"on_bad_sample": "ignore"}, "data.on_bad_sample must be one of raise, skip, got 'ignore'"),
    ({"batch_size_per_device": 0}, "data.batch_size_per_device must be at least 1, got 0"),
    ({"prefetch": 0}, "data.prefetch must be at least 1, got 0"),
    ({"balance": 2.0}, r"data.balance must lie in \[0, 1\], got 2"),
    ({"max_bad_share": 7.0}, r"data.max_bad_share must lie in \[0, 1\], got 7"),
])
def test_bad_arguments(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Clip2xDataModule(tmp_path, **options)


def test_validation_alone(clouds: Path, tmp_path: Path) -> None:
    model = Recorder()
    trainer(tmp_path).validate(model, datamodule=Clip2xDataModule(clouds, val=training_set("train:val", cache=tmp_path)), verbose=False)
    assert model.seen["val"] == [0, 1, 2]
    with pytest.raises(InputError, match="data.val is not set"):
        trainer(tmp_path).validate(Recorder(), datamodule=Clip2xDataModule(clouds, train=training_set()), verbose=False)


def test_accumulated_batches_are_all_different(clouds: Path, tmp_path: Path) -> None:
    model, plain = Recorder(), fitted(clouds, tmp_path, steps=8)
    run = trainer(tmp_path, steps=4)
    run.accumulate_grad_batches = 2
    train = training_set(augmentations=[RotateAboutUp(), Jitter()], pool_points=64, cache=tmp_path / "c")
    run.fit(model, datamodule=Clip2xDataModule(clouds, train=train, batch_size=8))
    assert run.global_step == 4 and model.seen["train"] == plain.seen["train"]


@pytest.mark.parametrize(("options", "message"), [
    ({"max_steps": -1, "max_epochs": -1}, "set --trainer.max_steps or --trainer.max_epochs to at least 1, got -1 steps"),
    ({"max_steps": 4, "limit_train_batches": 2}, "limit_train_batches 2 would read the same first batches again and again"),
    ({"max_steps": 4, "limit_train_batches": 0.5}, "limit_train_batches 0.5 would read the same first batches again and again"),
])
def test_a_length_that_nobody_means_is_refused(clouds: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    run = Trainer(**options, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                  enable_model_summary=False, use_distributed_sampler=False, default_root_dir=tmp_path)
    with pytest.raises(InputError, match=message):
        run.fit(Recorder(), datamodule=Clip2xDataModule(clouds, train=training_set(cache=tmp_path), batch_size=8))


def test_joined_sets_need_clouds_of_one_size(clouds: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="need the same num_points, got 16, 32"):
        JoinedDatasets([partial(LabelledClouds, name="modelnet10/text/train", num_points=number, cache=tmp_path)(clouds, 0) for number in (32, 16)])


def test_a_part_without_a_sample_says_so(clouds: Path, tmp_path: Path) -> None:
    (clouds / "modelnet40_normal_resampled" / "modelnet10_test.txt").write_text("bed_0001\n")
    with pytest.raises(DataNotFoundError, match="what is there of test is too little to hold a part out"):
        training_set("test:val", cache=tmp_path)(clouds, 0)


def test_yaml_names_lists_of_sets_and_changes_shortly(clouds: Path, tmp_path: Path) -> None:
    """The command line's parser builds what a stage's YAML says."""
    from jsonargparse import ArgumentParser

    import clip2x.stage_cli  # noqa: F401  imports what may be named

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Clip2xDataModule, "data")
    one = {"class_path": "LabelledClouds", "init_args": {"name": "modelnet10/text/train", "num_points": 32, "cache": str(tmp_path), "augmentations": [
        {"class_path": "RotateAboutUp"}, {"class_path": "Jitter", "init_args": {"sigma": 0.02}}]}}
    for train in (one, [one, one]):
        data = parser.instantiate(parser.parse_object({"data": {"root": str(clouds), "train": train}})).data
        data.setup("fit")
        first = data.train_set if isinstance(train, dict) else data.train_set.parts[1]
        assert first.augmentations == (RotateAboutUp(), Jitter(sigma=0.02))


@pytest.mark.parametrize(("epochs", "steps", "expected"), [(2, -1, 8), (3, 5, 5), (1, 100, 4), (-1, 7, 7)])
def test_epochs_are_counted_in_passes_over_the_data(clouds: Path, tmp_path: Path, epochs: int, steps: int, expected: int) -> None:
    model = Recorder()
    data = Clip2xDataModule(clouds, train=training_set(cache=tmp_path), batch_size=8)
    run = Trainer(max_epochs=epochs, max_steps=steps, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                  enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, default_root_dir=tmp_path)
    run.fit(model, datamodule=data)
    assert len(model.seen["train"]) == expected == run.global_step
    for first in range(0, expected - 3, 4):
        seen = [index for indices, *_ in model.seen["train"][first : first + 4] for index in indices]
        assert len(set(seen)) == 32, "every pass is a new permutation"


def test_a_second_run_lists_its_own_bad_samples(clouds: Path, tmp_path: Path) -> None:
    spoil(clouds, "bed/bed_0005.txt")
    for _ in range(2):
        fitted(clouds, tmp_path, steps=6, on_bad_sample="skip", max_bad_share=0.05)
    assert len((tmp_path / "bad_samples.jsonl").read_text().splitlines()) == 1
