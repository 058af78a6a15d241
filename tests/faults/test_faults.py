"""Faults at counted steps: a run that was struck and is started again ends with what an undisturbed run makes. `make chaos` tries more."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from small_clips import own_clip, register_small_clips
from tasks import Sources, cache_tasks, command_tasks, render_task, store_tasks, world_task
from torch.utils.data import DataLoader, Dataset

from clip2x.cli import main
from runs import Row, Task, compare, count_steps, fresh, in_child, strike

STRIKES = {"kill": "kill -9", "terminate": "SIGTERM", "full": "disk full (injected)", "worker": "a worker process dies"}
UNDISTURBED: dict[str, tuple[int, Any]] = {}  # by name of the task
TASKS = ("triplet store", "embed-proxies", "image features", "view features", "sampled points", "nuScenes columns", "class embeddings", "search",
         "embed",
         "render-pairs", "miniworld")
QUICK = {("triplet store", "kill"), ("embed-proxies", "terminate"), ("image features", "full"), ("view features", "kill"), ("sampled points", "full"),
         ("search", "full")}  # tried by `make test`; the others by `make test-all` and `make chaos`
STRUCK = [pytest.param(name, how, marks=[] if (name, how) in QUICK else pytest.mark.slow) for name in TASKS for how in ("kill", "terminate", "full")]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = tmp_path_factory.mktemp("sources")
    register_small_clips(tmp_path_factory.mktemp("models"))
    own_clip(folder / "clip.safetensors")
    return Sources(folder, folder / "clip.safetensors")


@pytest.fixture(scope="module")
def tasks(sources: Sources) -> dict[str, Task]:
    return {**store_tasks(), **cache_tasks(sources), **command_tasks(sources), "render-pairs": render_task(sources), "miniworld": world_task()}


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Begin a line of the table; in the end it must have no losses, and at least one fault that really came."""
    rows: list[Row] = []

    def begin(name: str) -> Row:
        rows.append(Row(name))
        return rows[-1]

    yield begin
    from conftest import FAULTS

    request.config.stash.setdefault(FAULTS, []).extend(rows)
    for line in rows:
        assert line.losses == 0, "\n".join([line.name, *line.problems])
        assert line.injected > 0, f"{line.name}: no fault was injected in {line.runs} runs"


def number_of(request: pytest.FixtureRequest, share: float = 1.0) -> int:
    return max(1, round(request.config.getoption("--faults") * share))


def undisturbed(name: str, tasks: dict[str, Task], folder: Path) -> tuple[int, Any]:
    """Count the steps of a task and take what it makes, once."""
    if name not in UNDISTURBED:
        UNDISTURBED[name] = count_steps(tasks[name], folder / "undisturbed")
    return UNDISTURBED[name]


def draws(request: pytest.FixtureRequest, name: str) -> Random:
    return Random(f"{request.config.getoption('--chaos-seed')} {name}")


@pytest.mark.parametrize(("name", "how"), STRUCK)
def test_struck_runs_end_as_undisturbed_ones(name: str, how: str, tasks: dict[str, Task], row: Any, tmp_path: Path,
                                             request: pytest.FixtureRequest) -> None:
    runs = number_of(request, {"render-pairs": 0.3, "miniworld": 0.1}.get(name, 1.0))
    line = row(f"{name}: {STRIKES[how]}")
    strike(tasks[name], tmp_path / "struck", how, runs, draws(request, f"{name} {how}"), line, undisturbed(name, tasks, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["render-pairs", "miniworld"])
def test_a_worker_process_that_dies(name: str, tasks: dict[str, Task], row: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    runs = number_of(request, {"render-pairs": 0.3, "miniworld": 0.1}[name])
    line = row(f"{name}: {STRIKES['worker']}")
    strike(tasks[name], tmp_path / "struck", "worker", runs, draws(request, name), line, undisturbed(name, tasks, tmp_path))


class Mortal(Dataset[torch.Tensor]):
    """A data set whose reader process is killed when it comes to one of its items, as the system does when memory runs out."""

    def __init__(self, data: Any, at: int | None) -> None:
        self.data, self.at = data, at

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == self.at:
            os.kill(os.getpid(), 9)
        points: torch.Tensor = self.data[index]["points"]
        return points


def test_a_reader_process_that_dies(sources: Sources, row: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    line, rng, data = row("DataLoader: a worker process dies"), draws(request, "reader"), sources.meshes(tmp_path / "cache")
    wanted = {str(place): str(sample["points"].sum().item()) for place, sample in enumerate(data)}

    def read(at: int | None) -> int:
        batches = list(DataLoader(Mortal(data, at), batch_size=1, num_workers=2))
        print(*(batch.sum().item() for batch in batches), sep="\n")
        return 0

    for number in range(number_of(request, 0.5)):
        at = rng.randrange(len(data))
        ended = in_child(lambda at=at: read(at), tmp_path / f"run{number}")  # type: ignore[misc]
        line.runs, line.injected = line.runs + 1, line.injected + 1
        if ended.status == 0 or "DataLoader worker" not in ended.err:
            line.lose(1, f"a dead reader process was not reported: {ended.err[-500:]}")
        again = in_child(lambda: read(None), tmp_path / f"run{number}")
        compare(wanted, {str(place): text for place, text in enumerate(again.out.split())}, f"after the death at {at}", line)


def damaged(content: bytes, rng: Random) -> tuple[bytes, str]:
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))], "truncated"
    place = rng.randrange(min(2000, len(content))) if rng.random() < 0.5 else rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :], f"bit flipped in byte {place}"


@pytest.mark.parametrize("what", ["checkpoint", "cache"])
def test_damaged_files_are_named_or_change_nothing(what: str, sources: Sources, row: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    line, rng = row(f"damaged {what}: truncated, bits flipped"), draws(request, what)
    checkpoint, index = tmp_path / "clip.safetensors", tmp_path / "index"
    shutil.copy(sources.clip, checkpoint)

    def run() -> int:
        return main(["search", "chair", str(sources.folder / "clouds"), "--checkpoint", str(checkpoint), "--index", str(index), "--json"])

    wanted = in_child(run, tmp_path / "run")
    assert wanted.status == 0, wanted.err
    file = checkpoint if what == "checkpoint" else next(index.glob("*.safetensors"))
    good = file.read_bytes()
    for _ in range(number_of(request, 2)):
        content, how = damaged(good, rng)
        file.write_bytes(content)
        ended = in_child(run, tmp_path / "run")
        line.runs, line.injected = line.runs + 1, line.injected + 1
        lines = [text for text in ended.err.splitlines() if not text.startswith("note:")]
        named = ended.status == 2 and len(lines) == 1 and lines[0].startswith("error: ") and file.name in lines[0]
        if not named and (ended.status, ended.out) != (0, wanted.out):
            line.lose(1, f"{how}: status {ended.status}, {ended.err[-500:]} {ended.out[:200]}")
        file.write_bytes(good)
    again = in_child(run, tmp_path / "run")
    compare({"out": wanted.out}, {"out": again.out}, "with the good file again", line)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs to mount a small disk")
@pytest.mark.parametrize("name", ["triplet store", "render-pairs", "miniworld"])
def test_a_disk_that_is_really_full(name: str, tasks: dict[str, Task], row: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    line, rng, task = row(f"{name}: disk full (small disk)"), draws(request, f"disk {name}"), tasks[name]
    _, wanted = count_steps(task, tmp_path / "undisturbed")
    fresh(task, tmp_path / "empty")
    size, least = (sum(path.stat().st_blocks * 512 for path in (tmp_path / folder).rglob("*")) >> 10 for folder in ("undisturbed", "empty"))
    for _ in range(number_of(request, {"miniworld": 0.05, "render-pairs": 0.15}.get(name, 0.3))):
        disk = tmp_path / "disk"
        disk.mkdir(exist_ok=True)
        share = rng.uniform(0.1, 0.9)
        small = least + 16 + int(share * (size - least))
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={small}k", "clip2x-test", str(disk)], capture_output=True, check=False).returncode:
            pytest.skip("a small disk cannot be mounted here")
        try:
            (disk / "run").mkdir()
            task.prepare(disk / "run")
            ended = _on_disk(task, disk / "run", tmp_path)
            line.runs, line.injected = line.runs + 1, line.injected + (ended.status != 0)
            if "Traceback" in ended.err or ended.status < 0:
                line.lose(1, f"a disk of {small} kB ended it with {ended.status}: {ended.err[-600:]}")
            subprocess.run(["mount", "-o", "remount,size=2g", str(disk)], check=True)
            again = _on_disk(task, disk / "run", tmp_path)
            if again.status != 0:
                line.lose(1, f"with room again it ended with {again.status}: {again.err[-600:]}")
            else:
                compare(wanted, task.found(disk / "run"), f"after a disk of {small} kB", line)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)


def _on_disk(task: Task, folder: Path, beside: Path) -> Any:
    """Run with what is written of the run lying on another disk."""
    return in_child(lambda: task.run(folder), beside / "notes")

