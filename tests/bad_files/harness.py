"""Read thousands of bad files in a process of its own, which may not hang, not take memory, not touch anything outside, and not run code."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from mutations import changes, kind_of, mutate

from clip2x.errors import BadFileError, DataNotFoundError

REPO = Path(__file__).resolve().parents[2]
CPU_S = 5.0  # of this process, for one file; no clock on the wall
MOST_RESIDENT = 300 << 20  # bytes that all files of a reader may add to the process; the files have some kilobytes
MOST_CLAIMED = 4 << 30  # bytes of address space on top of what the process has: more is refused by the system, as on a small machine
SILENT_S = 300.0  # wall time after which a process that does not count on is ended: only a loop within a library comes here
LONGEST_MESSAGE = 900
READABLE = tuple(str(Path(place).resolve()) for place in (sys.prefix, sys.base_prefix, REPO, "/usr", "/lib", "/proc", "/sys", "/dev/null",
                                                          "/dev/urandom"))
CODE = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.Popen", "socket.connect", "socket.bind",
        "pickle.find_class",
        "ctypes.dlopen", "code.__new__", "pty.spawn", "webbrowser.open", "os.fork", "os.forkpty", "builtins.input", "marshal.load"}
MAKERS = (  # that run code which they have written themselves
    "/typing.py", "/dataclasses.py", "/collections/__init__.py", "/jaxtyping/", "/beartype/")
WRITES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.utime",
          "shutil.rmtree",
          "shutil.move", "shutil.copyfile", "os.setxattr"}


@dataclass
class Subject:
    """Good files and how they are read.

    files: that are changed, one at a time. read: reads them all. accepts: the documented errors.
    forget: what is done before each reading, so that nothing is known of the last one. unchanged: says of what was read whether it is what was
    written, for formats that promise to notice every changed bit.
    named: a part of the path that every message must have, beside the names of the files.
    """

    files: list[Path]
    read: Callable[[], Any]
    accepts: tuple[type[Exception], ...] = (BadFileError, DataNotFoundError)
    forget: Callable[[], Any] = lambda: None
    unchanged: Callable[[Any], bool] = lambda value: True
    named: str | None = None


@dataclass
class Report:
    """What came of some bad files: how many were read, refused, and what went wrong."""

    files: int = 0
    refused: int = 0
    resident: int = 0
    problem: str = ""
    reasons: dict[str, int] = field(default_factory=dict)


class TooSlow(BaseException):
    """The reader took more than `CPU_S`."""


class Escaped(BaseException):
    """The reader did what no reader may do."""


class WrongError(AssertionError):
    """The reader raised or returned what it should not."""


def _is_of_a_library(code: Any) -> bool:
    """Say whether code comes from an installed module, or was made by named tuples, data classes or the type checkers of the tests."""
    name, maker = str(getattr(code, "co_filename", "")), sys._getframe(2).f_code.co_filename
    return name.startswith((*READABLE, "<frozen")) or (name.startswith("<") and maker.startswith(READABLE) and any(part in maker for part in MAKERS))


class Guard:
    """Watch what Python does in this process while a file is read."""

    def __init__(self, root: Path) -> None:
        self.root, self.armed, self.seen = os.path.realpath(root), False, ""
        sys.addaudithook(self.hook)
        signal.signal(signal.SIGVTALRM, self.alarm)

    def alarm(self, number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {CPU_S} s of computing")

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event == "open" or event in ("os.listdir", "os.scandir"):
            flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
            self._check(event, arguments[0], write=bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
        elif event in WRITES:
            for place in arguments[:2]:
                self._check(event, place, write=True)
        elif event in CODE or (event == "exec" and not _is_of_a_library(arguments[0])):
            self._refuse(f"{event} {arguments[:2]!r:.200} by {sys._getframe(1).f_code.co_filename}")

    def _check(self, event: str, place: Any, *, write: bool) -> None:
        if isinstance(place, bytes):
            place = os.fsdecode(place)
        if not isinstance(place, str | os.PathLike):
            return
        path = os.path.realpath(place)
        if path != self.root and not path.startswith(self.root + "/") and (write or not path.startswith(READABLE)):
            self._refuse(f"{event} {path}{' for writing' if write else ''}")

    def _refuse(self, what: str) -> None:
        self.armed, self.seen = False, what
        raise Escaped(what)

    def run(self, read: Callable[[], Any]) -> Any:
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
        self.armed = True
        try:
            return read()
        finally:
            self.armed = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            if self.seen:
                what, self.seen = self.seen, ""
                raise Escaped(what)


def try_bad_files(build: Callable[[Path], Subject], folder: Path, examples: int, chosen_seed: int) -> Report:
    """Read bad files made of a reader's good ones, in a process of its own; it is given `folder` to live in."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    counter = context.Value("q", 0, lock=False)
    process = context.Process(target=_child, args=(build, folder, examples, chosen_seed, sender, counter))
    process.start()
    sender.close()
    last, since = -1, time.monotonic()
    while not receiver.poll(1.0):
        if counter.value != last:
            last, since = counter.value, time.monotonic()
        elif time.monotonic() - since > SILENT_S:
            process.kill()
            process.join()
            return Report(last, problem=f"file {last} did not end within {SILENT_S} s and could not be interrupted; see {folder}")
    try:
        report: Report = receiver.recv()
    except EOFError:
        process.join()
        report = Report(counter.value, problem=f"the process died ({process.exitcode}) at file {counter.value}; the bad file lies in {folder}")
    process.join()
    return report


def _child(build: Callable[[Path], Subject], folder: Path, examples: int, chosen_seed: int, pipe: Connection, counter: Any) -> None:
    report = Report()
    try:
        _read_all(build, folder, examples, chosen_seed, report, counter)
    except BaseException as error:
        report.problem = _told(error)
    pipe.send(report)
    pipe.close()
    os._exit(0)


def _read_all(build: Callable[[Path], Subject], folder: Path, examples: int, chosen_seed: int, report: Report, counter: Any) -> None:
    torch.set_num_threads(1)  # a forked process has none of the others
    root = folder / "root"
    root.mkdir(parents=True)
    os.chdir(root)
    subject = build(root)
    good = [path.read_bytes() for path in subject.files]
    kinds = [kind_of(path.name, content) for path, content in zip(subject.files, good, strict=True)]
    guard = Guard(root)
    subject.forget()
    value = subject.read()
    assert subject.unchanged(value), "the good files are not read as what they are"
    subject.forget()
    guard.run(subject.read)  # imports what is imported late
    before = _resident()
    limit = _address_space() + MOST_CLAIMED
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    names = [*(path.name for path in subject.files), *([subject.named] if subject.named else [])]

    def one(numbers: list[int]) -> None:
        place = numbers[-1] % len(good)
        path, content = subject.files[place], mutate(good[place], kinds[place], numbers)
        counter.value += 1
        report.files += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        subject.forget()
        try:
            value = guard.run(subject.read)
            if not subject.unchanged(value):
                raise WrongError(f"{path.name} was changed and read without a word")
        except subject.accepts as error:
            _check_message(error, names)
            report.refused += 1
        except (Escaped, TooSlow, Exception) as error:
            (folder / f"bad{path.suffix}").write_bytes(content)
            raise WrongError(f"{type(error).__name__}: {str(error)[:300]}; {folder}/bad{path.suffix} in the place of {path.name}, {len(content)} "
                             f"bytes: {content[:300]!r}") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(good[place])
        if _peak() - before > MOST_RESIDENT:
            (folder / f"bad{path.suffix}").write_bytes(content)

            raise WrongError(f"{path.name}: {len(content)} bytes made the process {(_peak() - before) >> 20} MB larger; {folder}/bad{path.suffix}")

    phases = (Phase.generate,) if examples > 200 else (Phase.generate, Phase.shrink)
    run = settings(max_examples=examples, deadline=None, database=None, phases=phases, suppress_health_check=list(HealthCheck))(given(changes)(one))
    seed(chosen_seed)(run)()
    report.resident = _peak() - before


def _told(error: BaseException) -> str:
    """Write what went wrong, and the last steps that led there; of several errors the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    cause = error.__cause__ or error
    return f"{error}\n" + "".join(traceback.format_list(traceback.extract_tb(cause.__traceback__)[-5:]))


def _check_message(error: Exception, names: list[str]) -> None:
    message = str(error)
    if "\n" in message or len(message) > LONGEST_MESSAGE:
        raise WrongError(f"a message must be one line of at most {LONGEST_MESSAGE} letters, got {len(message)}: {message[:400]!r}")
    if not any(name in message for name in names):
        raise WrongError(f"the message names none of {names}: {message[:400]!r}")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
