"""Count what a run does to files below a folder, over all its processes, and strike at a chosen count. No clock is asked.

Strikes: `kill` ends the run with all its processes (SIGKILL), `terminate` sends SIGTERM to its first process, `worker` kills a process that is
not the first one, `full` lets every write from then on fail as on a full disk. The strike comes before the counted step is done.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Any

PLAN = "CLIP2X_FAULT_PLAN"  # root, counter, at, strike and first process, separated by zero bytes' stand-in; read by processes that start anew
SEPARATOR = "|"
STEPS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}


class Injection:
    """Hooks into this process, and into those forked from it."""

    def __init__(self, root: str, counter: str, at: int, strike: str, first: int) -> None:
        self.root, self.at, self.strike, self.first = os.path.realpath(root), at, strike, first
        self.counter = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.busy = False
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.busy or not self._is_step(event, arguments):
            return
        self.busy = True
        try:
            os.write(self.counter, b".")
            count = os.lseek(self.counter, 0, os.SEEK_CUR)  # behind what this process has just added
        finally:
            self.busy = False
        if self.at and count >= self.at:
            self._act(count, event)

    def _is_step(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return False
        elif event not in STEPS:
            return False
        place = arguments[0]
        return isinstance(place, str | os.PathLike) and os.path.abspath(os.fspath(place)).startswith(self.root)

    def _act(self, count: int, event: str) -> None:
        if self.strike == "full" and event in ("open", "os.mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.strike == "kill" and count == self.at:
            os.killpg(os.getpgid(0), signal.SIGKILL)
        if self.strike == "terminate" and count == self.at:
            os.kill(self.first, signal.SIGTERM)
        if self.strike == "worker" and os.getpid() != self.first and not os.path.exists(f"{self.root}.struck"):
            self.busy = True
            os.close(os.open(f"{self.root}.struck", os.O_CREAT | os.O_WRONLY))
            os.kill(os.getpid(), signal.SIGKILL)


def plan(root: str, counter: str, at: int, strike: str) -> None:
    """Install the hook here, and tell processes that this one starts anew (they read `sitecustomize`)."""
    os.environ[PLAN] = SEPARATOR.join([root, counter, str(at), strike, str(os.getpid())])
    os.environ["PYTHONPATH"] = os.pathsep.join([os.path.dirname(os.path.abspath(__file__)), *filter(None, [os.environ.get("PYTHONPATH")])])
    Injection(root, counter, at, strike, os.getpid())


def follow_plan() -> None:
    """Install the hook that the first process of the run planned."""
    if PLAN in os.environ:
        root, counter, at, strike, first = os.environ[PLAN].split(SEPARATOR)
        Injection(root, counter, int(at), strike, int(first))
