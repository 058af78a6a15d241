"""Processes that die, hang or are interrupted while they work through tasks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest

from clip2x.data import worker_pool
from clip2x.data.worker_pool import Lost, each_result
from clip2x.errors import InputError


def obey(order: str | int) -> tuple[int, str | int]:
    """Do what a task says and answer with the process that did it."""
    if order == "exit":
        os._exit(3)
    if order == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "hang":
        time.sleep(600)
    if order == "raise":
        raise ValueError("not caught by the work")
    return os.getpid(), order


def test_every_task_is_done_once_by_few_processes() -> None:
    results = list(each_result(obey, range(40), 2, 60.0))
    assert sorted(task for task, _ in results) == list(range(40))
    assert all(not isinstance(result, Lost) and result[1] == task for task, result in results)
    assert len({result[0] for _, result in results if not isinstance(result, Lost)}) <= 2
    assert list(each_result(obey, (), 2, 60.0)) == [] and not multiprocessing.active_children()


def test_a_dead_or_hanging_process_costs_its_own_task_alone() -> None:
    tasks = [1, "die", 2, "exit", 3, "hang", 4, "raise", 5, 6, 7, 8]
    results = dict(each_result(obey, tasks, 2, 2.0))
    lost = {task: result.reason for task, result in results.items() if isinstance(result, Lost)}
    assert set(results) == set(tasks) and set(lost) == {"die", "exit", "hang", "raise"}
    assert lost["die"] == "its process was killed by signal 9 (SIGKILL, as the system does when memory runs out)"
    assert lost["exit"] == "its process ended with exit status 3" and lost["raise"] == "its process ended with exit status 1"
    assert lost["hang"] == "took longer than 2 s and was given up"
    assert not multiprocessing.active_children()


def test_when_every_process_dies_the_work_stops_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "DEATHS_IN_A_ROW", 4)
    with pytest.raises(InputError, match=r"4 processes in a row died, the last one: its process ended with exit status 3; is memory"):
        list(each_result(obey, ["exit"] * 100, 2, 60.0))
    assert not multiprocessing.active_children()


def test_leaving_early_ends_the_processes() -> None:
    results = each_result(obey, [1, 2, 3, "hang", "hang"], 2, 60.0)
    next(results)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 10 and not multiprocessing.active_children()
