"""Timing shared by the benchmarks: warm-up, repeats, median and spread, and a line that says on what they ran."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


def times_ms(work: Callable[[], object], repeats: int, device: str = "cpu") -> np.ndarray:
    """Run `work` twice unmeasured, then `repeats` times; milliseconds of each run, the device's queue emptied before each reading."""
    readings = []
    for repeat in range(-2, repeats):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        if repeat >= 0:
            readings.append((time.perf_counter() - start) * 1e3)
    return np.array(readings)


def summary(readings_ms: np.ndarray, pieces: int) -> str:
    """Put median, quartiles and minimum of the time per piece in one line."""
    low, median, high = np.percentile(readings_ms / pieces, [25, 50, 75])
    return f"median {median:.3f} ms  IQR {low:.3f}-{high:.3f}  min {readings_ms.min() / pieces:.3f}"


def hardware(device: str) -> str:
    """Name the processor, the threads and the versions."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        cpuinfo = Path("/proc/cpuinfo")
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
        name = names[0] if names else platform.processor() or platform.machine()
        name = f"{name}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return f"{device}: {name}; torch {torch.__version__}, Python {platform.python_version()}"


def devices() -> list[str]:
    """List what can be measured here."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
