"""Timing shared by the benchmarks: warm-up, repeats, turns of work and floor, peak memory, and a line that says on what they ran."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from clip2x.provenance import hardware as describe_hardware

Work = Callable[[], object]


def elapsed_ms(work: Work, device: str = "cpu") -> float:
    """Run `work` once; milliseconds until the device's queue is empty."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return (time.perf_counter() - start) * 1e3


def times_ms(work: Work, repeats: int, device: str = "cpu", warm_up: int = 2) -> np.ndarray:
    """Run `work` a few times unmeasured, then `repeats` times; milliseconds of each run."""
    return np.array([elapsed_ms(work, device) for _ in range(warm_up + repeats)][warm_up:])


def in_turns_ms(works: dict[str, Work], repeats: int, device: str = "cpu", warm_up: int = 2) -> dict[str, np.ndarray]:
    """Time several works in turns, so that another program's load weighs on all of them alike; milliseconds of each run."""
    rounds = [[elapsed_ms(work, device) for work in works.values()] for _ in range(warm_up + repeats)][warm_up:]
    return dict(zip(works, np.array(rounds).T, strict=True))


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


@contextmanager
def readers_held() -> Iterator[None]:
    """Let the reader processes of DataLoaders stand still, so that a floor that is timed between two steps does not give them time to read ahead."""
    processes = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def peak_memory_mb(device: str = "cpu") -> float:
    """What this process (or its GPU) held at most since its start or the last `reset_peak_memory`, MB; 0 where the system does not tell."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")  # not getrusage: its figure starts at the parent's
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), 0.0)


def reset_peak_memory(device: str) -> None:
    """Start anew to watch the most memory; on a CPU from what is held now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class Bystanders:
    """How much of the machine other programs took while this one ran: its figures are those of an idle machine only if that is little."""

    def __init__(self) -> None:
        self.start = self._read()

    def share(self) -> float | None:
        """Cores' worth of time that other programs took since the start, as a share of all cores; None where the system does not tell."""
        if self.start is None or (now := self._read()) is None:
            return None
        total, busy, own = (after - before for after, before in zip(now, self.start, strict=True))
        return max(0.0, busy - own) / total if total > 0 else None

    @staticmethod
    def _read() -> tuple[float, float, float] | None:
        stat = Path("/proc/stat")
        if not stat.exists():
            return None
        ticks = [int(value) / os.sysconf("SC_CLK_TCK") for value in stat.read_text().splitlines()[0].split()[1:9]]
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(ticks), sum(ticks) - ticks[3] - ticks[4], sum(usage.ru_utime + usage.ru_stime for usage in usages)


def hardware(device: str) -> str:
    """Name the processor or GPU, in words."""
    said = describe_hardware()
    return str(said["gpus"][0]) if device == "cuda" else f"{said['cores']} cores of {said['cpu'] or platform.machine()} ({said['cpu_capability']})"


def devices() -> list[str]:
    """List what can be measured here."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
