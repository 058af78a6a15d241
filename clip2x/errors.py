"""The package's own exceptions. Each message is one line: what was found, what is accepted, what to do next.

The command line turns these, and only these, into one line and exit status 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations


class Clip2xError(Exception):
    """Anything a user can cause and mend."""


class InputError(Clip2xError, ValueError):
    """An argument, a class list or an array that cannot be used."""


class BadFileError(Clip2xError, ValueError):
    """A file whose content cannot be used; the message names the file and the place in it."""


class DataNotFoundError(Clip2xError):
    """A data set, a split or a file that is not where it was looked for; `missing` says what, where the message says more."""

    def __init__(self, message: str, missing: str = "") -> None:
        super().__init__(message, missing)
        self.missing = missing or message

    def __str__(self) -> str:
        return str(self.args[0])


class CheckpointMismatchError(Clip2xError):
    """Weights that belong to another model, or a file that is not what was asked for."""


class MissingDependencyError(Clip2xError):
    """A library or system package that has to be installed first."""


class TrainingDivergedError(Clip2xError):
    """A loss or a weight that is no longer a number, or has left the range in which the loss is defined."""
