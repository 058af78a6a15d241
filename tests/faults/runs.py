"""Run something in a process of its own, strike it, run it again, and compare what is there with an undisturbed run."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from random import Random

import injection
import torch

from clip2x.signals import TERMINATED

Snapshot = Mapping[str, str]
LIMIT_S = 300  # of one run; only a hang comes here


@dataclass(frozen=True)
class Task:
    """What is run and what must be there in the end.

    prepare: makes the folder of a run, without what the run makes. run: the work, below the folder; exit status. found: what is there after it.
    """

    prepare: Callable[[Path], object]
    run: Callable[[Path], int]
    found: Callable[[Path], Snapshot]


@dataclass
class Row:
    """A line of the table."""

    name: str
    runs: int = 0
    injected: int = 0
    losses: int = 0
    problems: list[str] = field(default_factory=list)

    def lose(self, count: int, problem: str) -> None:
        self.losses += count
        self.problems.append(problem)


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit status or minus the signal, and what it wrote to stdout and stderr."""

    status: int
    out: str
    err: str


def in_child(work: Callable[[], int], folder: Path, fault: tuple[int, str] | None = None) -> Ended:
    """Run `work` in a forked process and its own group; `fault`: at which step, and how (see `injection`)."""
    out, err, counter = (folder.with_name(f"{folder.name}.{name}") for name in ("out", "err", "steps"))
    counter.unlink(missing_ok=True)
    folder.with_name(f"{folder.name}.struck").unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _be_child(work, folder, fault, out, err, counter)
    try:
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
        signal.alarm(LIMIT_S)
        _, status = os.waitpid(child, 0)
    finally:
        signal.alarm(0)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # what it left behind
    return Ended(os.waitstatus_to_exitcode(status), out.read_text(errors="replace"), err.read_text(errors="replace"))


def _be_child(work: Callable[[], int], folder: Path, fault: tuple[int, str] | None, out: Path, err: Path, counter: Path) -> None:
    status = 99
    try:
        os.setsid()
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        os.environ.update(TQDM_DISABLE="1")
        torch.set_num_threads(1)
        forkserver._forkserver.__init__()  # type: ignore[misc]  # the one of the parent is not this process's
        if fault is not None:
            injection.plan(str(folder), str(counter), *fault)
        status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def count_steps(task: Task, folder: Path) -> tuple[int, Snapshot]:
    """Run undisturbed and count the steps."""
    fresh(task, folder)
    ended = in_child(lambda: task.run(folder), folder, (0, "none"))
    assert ended.status == 0, ended.err[-2000:]
    return folder.with_name(f"{folder.name}.steps").stat().st_size, dict(task.found(folder))


def fresh(task: Task, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    task.prepare(folder)


def strike(task: Task, folder: Path, how: str, runs: int, rng: Random, row: Row, undisturbed: tuple[int, Snapshot]) -> None:
    """Strike runs at random steps; each is run again and compared with an undisturbed one, of which the number of steps is known too."""
    steps, wanted = undisturbed
    for _ in range(runs):
        fresh(task, folder)
        at = rng.randint(1, steps)
        ended = in_child(lambda: task.run(folder), folder, (at, how))
        reached = folder.with_name(f"{folder.name}.steps").stat().st_size >= at
        struck = {"kill": ended.status == -signal.SIGKILL, "terminate": ended.status in (-signal.SIGTERM, TERMINATED), "full": reached,
                  "worker": folder.with_name(f"{folder.name}.struck").exists()}[how]
        row.runs += 1
        row.injected += struck
        if how in ("full", "worker") and (ended.status < 0 or "Traceback" in ended.err):
            row.lose(1, f"{how} at step {at} of {steps} ended with {ended.status}: {ended.err[-700:]}")
        again = in_child(lambda: task.run(folder), folder)
        if again.status != 0:
            row.lose(1, f"after {how} at step {at} of {steps} the second run ended with {again.status}: {again.err[-700:]}")
            continue
        compare(wanted, task.found(folder), f"after {how} at step {at} of {steps}", row)


def compare(wanted: Snapshot, found: Snapshot, when: str, row: Row) -> None:
    """Count what is missing, different or too much."""
    differ = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if differ:
        row.lose(len(differ), f"{when}: {len(differ)} of {len(wanted)} differ, first {differ[0]}: {wanted.get(differ[0])} -> {found.get(differ[0])}")


def tree(folder: Path) -> dict[str, str]:
    """Hash every file that is not hidden."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*"))
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)}

