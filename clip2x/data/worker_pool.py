"""Work through many tasks in processes so that a task that kills or hangs its process costs that task alone.

`concurrent.futures` gives up all tasks when one process dies, and cannot say which task it was.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from clip2x.errors import InputError
from clip2x.signals import end_with_parent_only

Task = TypeVar("Task")
Result = TypeVar("Result")

CONTEXT = multiprocessing.get_context("forkserver")
"""Ours: one process, without threads and data, loads the libraries; the others are its copies, so that a dead one is replaced at once."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DEATHS_IN_A_ROW = 20  # ours: so many say that it is the machine and not the tasks
LEAVE_S = 3.0  # ours: for a task that is under way when the work is stopped


@dataclass(frozen=True)
class Lost:
    """A task without a result, and why: its process died or was ended because it took too long."""

    reason: str


@dataclass(eq=False)
class _Worker:
    """A process, our end of the pipe to it, and its task with the time by which that has to be done."""

    process: BaseProcess
    pipe: Connection
    task: Any = None
    busy: bool = False
    deadline: float = 0.0


def prepare_workers(preload: str) -> None:
    """Let the process that workers are copied from load a module, while the caller goes on; without effect if it runs already."""
    CONTEXT.set_forkserver_preload([preload])
    with quiet_start():
        forkserver.ensure_running()


def each_result(work: Callable[[Task], Result], tasks: Iterable[Task], workers: int, limit_s: float) -> Iterator[tuple[Task, Result | Lost]]:
    """Do tasks side by side; give each with its result, in the order in which they end.

    Ctrl-C and leaving the loop early end the processes, which are given a moment for the task under way.

    Args:
        work: Must be picklable, as are tasks and results. What it raises ends the process and so counts as its death: let it return errors.
        tasks: Taken one at a time as processes become free.
        workers: Processes, with one thread each.
        limit_s: A process that takes longer for one task is ended.

    Raises:
        InputError: If one process after the other dies.
    """
    pending = iter(tasks)
    running: list[_Worker] = []
    deaths = 0
    try:
        for task in pending:
            running.append(_started(work))
            _give(running[-1], task, limit_s)
            if len(running) == workers:
                break
        while busy := [worker for worker in running if worker.busy]:
            ready = wait([worker.pipe for worker in busy], timeout=max(min(worker.deadline for worker in busy) - time.monotonic(), 0))
            for worker in busy:
                late = worker.deadline <= time.monotonic()
                if worker.pipe not in ready and not late:
                    continue
                done, result = worker.task, _received(worker, limit_s)
                deaths = deaths + 1 if isinstance(result, Lost) else 0
                if deaths == DEATHS_IN_A_ROW:
                    raise InputError(f"{deaths} processes in a row died, the last one: {result.reason}; is memory short (fewer --workers), "
                                     "or is a library broken (clip2x doctor)?")
                worker.busy = False
                for task in islice(pending, 1):
                    if isinstance(result, Lost):
                        running[running.index(worker)] = worker = _started(work)
                    _give(worker, task, limit_s)
                yield done, result
    finally:
        _end(running)


def _started(work: Callable[[Any], Any]) -> _Worker:
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_serve, args=(work, theirs), daemon=True)
    with quiet_start():
        process.start()
    theirs.close()  # so that the death of the process ends the pipe
    return _Worker(process, ours)


def _give(worker: _Worker, task: Any, limit_s: float) -> None:
    worker.task, worker.busy, worker.deadline = task, True, time.monotonic() + limit_s
    with suppress(BrokenPipeError):  # it died meanwhile, which is found when its answer is waited for
        worker.pipe.send(task)


def _received(worker: _Worker, limit_s: float) -> Any:
    """Take the answer of a worker that has one, has died or is late; of the last two an end is made."""
    try:
        if worker.pipe.poll():
            return worker.pipe.recv()
        reason = f"took longer than {limit_s:g} s and was given up"
        worker.process.kill()
        worker.process.join()
    except (EOFError, ConnectionResetError):
        worker.process.join(LEAVE_S)
        reason = _cause_of_death(worker.process.exitcode)
    worker.pipe.close()
    return Lost(reason)


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"its process ended with exit status {exitcode}"
    hint = ", as the system does when memory runs out" if -exitcode == signal.SIGKILL else ""
    return f"its process was killed by signal {-exitcode} ({signal.Signals(-exitcode).name}{hint})"


def _end(running: list[_Worker]) -> None:
    """Let processes finish the task under way and end; kill those that do not."""
    for worker in running:
        worker.pipe.close()
    until = time.monotonic() + LEAVE_S
    for worker in running:
        worker.process.join(max(until - time.monotonic(), 0))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _serve(work: Callable[[Any], Any], pipe: Connection) -> None:
    """Do what comes through the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one ends the others
    end_with_parent_only()
    try:
        while True:
            pipe.send(work(pipe.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


@contextmanager
def quiet_start() -> Iterator[None]:
    """Start processes with one thread for linear algebra, and deaf to Ctrl-C before they run a line of ours."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main_thread else None  # handlers can only be set there
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
