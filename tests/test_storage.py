from __future__ import annotations

import os
from pathlib import Path

import pytest

from clip2x.storage import atomic_path, remove_stale


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "a.bin"

    def die_half_way() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError("died")

    with pytest.raises(RuntimeError, match="died"):
        die_half_way()
    assert not target.exists() and list(target.parent.iterdir()) == []
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"whole")
    assert target.read_bytes() == b"whole"


def test_what_killed_processes_left_goes_after_a_day(tmp_path: Path) -> None:
    for name in (".old-x.bin", ".new-y.bin", "kept.bin"):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / ".old-folder" / "made").mkdir(parents=True)
    for name in (".old-x.bin", "kept.bin", ".old-folder"):
        os.utime(tmp_path / name, (1, 1))
    remove_stale(tmp_path)
    assert sorted(item.name for item in tmp_path.iterdir()) == [".new-y.bin", "kept.bin"]
    remove_stale(tmp_path / "nowhere")
