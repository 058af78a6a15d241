"""Arrays of an HDF5 file that lie in this very file and are as large as they say."""

from __future__ import annotations

from typing import Any

import h5py

# What h5py raises for missing, truncated and damaged content (found by changing bytes and structures at random).
BROKEN_HDF5 = (OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, MemoryError, OverflowError, AttributeError, IndexError)
LARGEST = 1 << 32  # bytes of one array; ours: fifteen times the largest of the published files
BEST_PACKED = 1100  # deflate makes at most 1,032 bytes of one


def local_array(file: h5py.File, name: str, largest: int = LARGEST) -> Any:
    """Look up an array by its name.

    Args:
        file: An open file.
        name: At the top of the file.
        largest: Bytes that it may have.

    Raises:
        KeyError: If there is none, it lies in another file (links and external storage could name any file), or it claims more than it holds.
    """
    link = file.get(name, getlink=True)
    if link is None:
        raise KeyError(f"there is no {name}")
    if not isinstance(link, h5py.HardLink):
        raise KeyError(f"{name} is a link to another place")
    array = file[name]
    if not isinstance(array, h5py.Dataset) or array.shape is None:
        raise KeyError(f"{name} is no array")
    if array.external is not None or array.is_virtual:
        raise KeyError(f"{name} lies in another file")
    if array.nbytes > largest:
        raise KeyError(f"{name} claims {array.nbytes:.3g} bytes, at most {largest:.3g} are accepted")
    if array.nbytes > BEST_PACKED * max(array.id.get_storage_size(), 1024):
        raise KeyError(f"{name} claims {array.nbytes:,} bytes and holds {array.id.get_storage_size():,}")
    return array
