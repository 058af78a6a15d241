"""SIGTERM: what stops a job from outside ends a command in order, with the exit status that says so, and its reader processes with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import FrameType

TERMINATED = 143
"""Exit status of a command that SIGTERM ended: 128 + 15, as shells give it and job scripts look for it."""


SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What tells a job to end: job schedulers send the one or, where a script asks for it, the other."""


class Terminated(SystemExit):
    """The command has been told to end; what is under way is cleaned up and the process exits with the status that this carries."""


@contextmanager
def orderly_termination() -> Iterator[None]:
    """Turn these signals into `Terminated`, so that temporary files go and started processes end; handlers that are there already stay."""
    mine = [number for number in SIGNALS if threading.current_thread() is threading.main_thread() and signal.getsignal(number) == signal.SIG_DFL]
    for number in mine:
        signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    print(f"stopped by {signal.Signals(number).name}", file=sys.stderr)
    raise Terminated(TERMINATED)


def end_with_parent_only(worker: int = 0) -> None:
    """Let a worker process end on its parent's SIGTERM alone; `worker` is for `DataLoader(worker_init_fn=...)`.

    Job schedulers send SIGTERM to every process of a job. A training then ends its step and saves, for which it still needs its readers.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait_for_signal(pid: int | None) -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != pid:
            continue
        os._exit(TERMINATED)

    threading.Thread(target=wait_for_signal, args=(parent.pid,), daemon=True).start()


def leave_with_parent() -> None:
    """End this process when the one that started it ends, however that comes; for processes of a `ProcessPoolExecutor`, which outlive a kill."""
    parent = multiprocessing.parent_process()

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent_only()
    if parent is not None:
        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()
