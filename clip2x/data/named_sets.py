"""Several test sets by their names, of which some may not be at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clip2x.data.base import PointCloudDataset
from clip2x.data.readers import open_dataset
from clip2x.errors import DataNotFoundError, InputError

MISSING = ("raise", "skip")


def open_datasets(names: Sequence[str], root: Path, missing: str = "raise", **options: Any) -> tuple[dict[str, PointCloudDataset], dict[str, str]]:
    """Open data sets by `manifest/variant/split`.

    Args:
        names: The data sets.
        root: The data root.
        missing: `raise` stops at one that is not below `root`; `skip` leaves it out, unless all of them are missing.
        options: See `open_dataset`.

    Returns:
        Those that are there, by their names, and why others are left out.

    Raises:
        InputError: If `missing` is neither, or a name cannot be read.
        DataNotFoundError: If data sets are missing and may not be.
    """
    if missing not in MISSING:
        raise InputError(f"data.missing must be one of {', '.join(MISSING)}, got {missing!r}.")
    found: dict[str, PointCloudDataset] = {}
    absent: dict[str, DataNotFoundError] = {}
    for name in names:
        try:
            found[name] = open_dataset(name, root, **options)
        except DataNotFoundError as error:
            absent[name] = error
            if missing == "raise":
                raise
    if absent and not found:
        raise next(iter(absent.values()))
    return found, {name: str(error) for name, error in absent.items()}
