"""The tables of nuScenes: parsing in pieces, columns, the cache, and what is refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes_files import Written, token, write_nuscenes

from clip2x.data.formats.json_records import read_records
from clip2x.data.nuscenes import column_cache
from clip2x.data.nuscenes import schema as nuscenes_schema
from clip2x.data.nuscenes import tables as nuscenes_tables
from clip2x.data.nuscenes.schema import SCHEMA
from clip2x.data.nuscenes.tables import Tables, open_tables
from clip2x.errors import BadFileError, DataNotFoundError

NASTY = [{"text": "a },{ b"}, {"text": '"}, {"'}, {"text": "\\\"}\n,{ é 漢 \U0001f600"}, {"list": [1, [2.5e-7, -3]], "text": "]"},
         {"nested": [{"a": 1}, {"a": 2}]}, {"empty": [], "none": None}] * 3


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return write_nuscenes(tmp_path / "Daten für 3D")


def everything(path: Path, chunk_bytes: int = 1 << 20) -> list[Any]:
    return [record for records in read_records(path, lambda part: None, chunk_bytes) for record in records]


def no_parsing(folder: Path, root: Path | None) -> Any:
    raise AssertionError(f"{folder} is parsed again")


def same(one: Tables, other: Tables) -> bool:
    equal = [np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f") for name in one.columns if name in other.columns]
    return set(one.columns) == set(other.columns) and all(equal)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1000, 1 << 20])
@pytest.mark.parametrize("indent", [None, 0, 2])
def test_pieces_of_any_length_give_the_same_records(chunk_bytes: int, indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    for content in (NASTY, NASTY[:1], []):
        path.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
        pieces = []
        assert [record for records in read_records(path, pieces.append, max(chunk_bytes, 1)) for record in records] == content
        assert b"".join(pieces) == path.read_bytes()


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_bytes(b"\xef\xbb\xbf [{\"a\": 1}]")
    assert everything(tmp_path / "table.json") == [{"a": 1}]


@pytest.mark.parametrize(("content", "message"), [
    (b"", "byte 0: a table must be a JSON list of records, found b''"),
    (b'{"a": [1]}', "byte 0: a table must be a JSON list of records"),
    (b'[{"a": 1}, {"a": 2', r"byte 18: not valid JSON \(the file ends before the list does\)"),
    (b'[{"a": 1}, {"a": "tw', "the file ends before the list does"),
    (b'[{"a": 1},', "the file ends before the list does"),
    (b"[", "the file ends before the list does"),
    (b'[{"a": 1}, {"a": }, {"a": 3}]', r"byte 17: not valid JSON \(Expecting value\)"),
    (b'[{"a": 1} {"a": 2}]', r"byte 10: not valid JSON \(Expecting ',' delimiter\)"),
    (b'[{"a": 1}] trailing', r"not valid JSON \(Extra data\)"),
    ('[{"a": "ü"}, {"a": }]'.encode(), "byte 20: not valid JSON"),
    (b'[{"a": "\xff"}]', "byte 8: not UTF-8"),
    (b"[" + b"[" * 100_000, "not a table|not valid JSON"),
    (b"[" + b"9" * 5000 + b"]", "not a table"),
])
@pytest.mark.parametrize("chunk_bytes", [5, 1 << 20])
def test_broken_json_names_the_file_and_the_byte(content: bytes, message: str, chunk_bytes: int, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip2x.data.formats.json_records.LONGEST_RECORD", 200_000)
    (tmp_path / "table.json").write_bytes(content)
    with pytest.raises(BadFileError, match=message) as caught:
        everything(tmp_path / "table.json", chunk_bytes)
    assert str(tmp_path / "table.json") in str(caught.value) and "\n" not in str(caught.value)


def test_errors_in_the_middle_of_a_long_file_do_not_read_it_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip2x.data.formats.json_records.LONGEST_RECORD", 2000)
    good = ", ".join(['{"a": 1}'] * 2000)
    path = tmp_path / "table.json"
    path.write_text(f'[{good}, {{"a": oops}}, {good}]')
    read = []
    with pytest.raises(BadFileError, match=r"byte 20007: not valid JSON \(Expecting value\)"):
        list(read_records(path, read.append, 300))
    assert sum(map(len, read)) < 25_000
    path.write_text("[" + " " * 5000 + '{"a": 1}' + " " * 5000 + "]")
    with pytest.raises(BadFileError, match="byte 1: no record ends in the 2,"):
        everything(path, 300)


@pytest.mark.parametrize("indent", [0, None, 4])
def test_columns_say_what_the_json_says(indent: int | None, written: Written, tmp_path: Path) -> None:
    written.write(indent)
    tables = open_tables(written.folder, cache=tmp_path / "cache")
    assert tables.notes == []
    for table, keys in SCHEMA.items():
        records = written.tables[table]
        rows = {record["token"]: row for row, record in enumerate(records)}
        assert tables.num_rows(table) == len(records) and [tables.token(table, row) for row in range(len(records))] == list(rows)
        for name, column in keys.items():
            values = [record[name] for record in records]
            if column.refers_to:
                targets = [record["token"] for record in written.tables[column.refers_to]]
                assert [targets[row] if row >= 0 else "" for row in tables[f"{table}.{name}"]] == values
            elif f"{table}.{name}.ends" in tables.columns:
                assert tables.texts(f"{table}.{name}") == values
            elif name == "camera_intrinsic":
                assert [[] if np.isnan(matrix).all() else matrix.tolist() for matrix in tables[f"{table}.{name}"]] == values
            elif name != "token":
                assert tables[f"{table}.{name}"].tolist() == values
    for row, record in enumerate(written.tables["sample_annotation"]):
        assert tables.row("sample_annotation", record["token"]) == row
    assert tables.row("sample_annotation", "0" * 32) == tables.row("sample", "f" * 32) == tables.row("sample", "no token") == -1


def test_tokens_of_any_bytes_are_found(written: Written, tmp_path: Path) -> None:
    """Zeros at the end and high bytes must not change the order or merge tokens."""
    keys = ["00" * 15 + "01", "ff" * 16, "7f" * 16, "80" + "00" * 15, "80" + "00" * 14 + "01", "01" + "00" * 15, "0100" + "ff" * 14]
    old = [record["token"] for record in written.tables["sample"]]
    new = dict(zip(old, keys, strict=False))
    for table in ("sample", "sample_data", "sample_annotation"):
        for record in written.tables[table]:
            name = "token" if table == "sample" else "sample_token"
            record[name] = new[record[name]]
    written.write()
    tables = open_tables(written.folder)
    assert [tables.row("sample", key) for key in keys[: len(old)]] == list(range(len(old))) and tables.row("sample", keys[-1]) == -1
    assert tables["sample_data.sample_token"].tolist() == [keys.index(record["sample_token"]) for record in written.tables["sample_data"]]


def test_the_second_opening_parses_nothing(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(written.root.rglob("*"))
    first = open_tables(written.folder, cache=tmp_path / "cache")
    monkeypatch.setattr(nuscenes_tables, "_parse", no_parsing)
    monkeypatch.setattr(column_cache, "MAPPED_FROM_BYTES", 1)
    for deep in (False, True):
        again = open_tables(written.folder, cache=tmp_path / "cache", deep=deep)
        assert same(first, again) and again.notes == []
        assert isinstance(again["sample_data.timestamp"].base, np.memmap)
    assert sorted(written.root.rglob("*")) == before, "nothing is written beside the data"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["nuscenes"]


def test_small_tables_are_not_kept_unless_a_folder_is_named(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_tables(written.folder).notes == [] and not (tmp_path / "home").exists()
    monkeypatch.setattr(nuscenes_tables, "CACHED_FROM_BYTES", 1)
    open_tables(written.folder)
    assert len(list((tmp_path / "home" / ".cache" / "clip2x" / "nuscenes").iterdir())) == 1
    monkeypatch.setattr(nuscenes_tables, "cache_folder", lambda folder: None)
    assert "no home folder" in open_tables(written.folder).notes[0]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: list[Callable[[Path], object]] = [
    lambda folder: (folder / "index.json").unlink(),
    lambda folder: (folder / "index.json").write_text("{"),
    lambda folder: (folder / "index.json").write_text("[]"),
    lambda folder: (folder / "sample.token.npy").unlink(),
    lambda folder: (folder / "sample.token.npy").write_bytes(b""),
    lambda folder: os.truncate(folder / "ego_pose.rotation.npy", 200),
    lambda folder: flip(folder / "sample_annotation.translation.npy"),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=range(len(DAMAGES)))
def test_a_damaged_cache_is_made_again(damage: Callable[[Path], object], written: Written, tmp_path: Path) -> None:
    first = open_tables(written.folder, cache=tmp_path)
    truth = {name: np.array(values) for name, values in first.columns.items()}
    (place,) = (tmp_path / "nuscenes").iterdir()
    damage(place)
    second = open_tables(written.folder, cache=tmp_path)
    assert len(second.notes) == 1 and "was made again" in second.notes[0]
    assert same(second, Tables(written.folder, truth, [], None))
    assert open_tables(written.folder, cache=tmp_path).notes == [] and list((tmp_path / "nuscenes").iterdir()) == [place]


def test_a_changed_table_is_parsed_again(written: Written, tmp_path: Path) -> None:
    assert open_tables(written.folder, cache=tmp_path)["sample_annotation.num_lidar_pts"][0] == 30
    written.tables["sample_annotation"][0]["num_lidar_pts"] = 31
    written.write()
    assert open_tables(written.folder, cache=tmp_path)["sample_annotation.num_lidar_pts"][0] == 31


def test_only_deep_sees_a_change_in_the_middle_at_the_same_size_and_time(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuscenes_tables, "ENDS_BYTES", 16)
    monkeypatch.setattr(column_cache, "ENDS_BYTES", 16)
    open_tables(written.folder, cache=tmp_path)
    path = written.folder / "sample_annotation.json"
    times = path.stat()
    path.write_text(path.read_text(encoding="utf-8").replace('"num_lidar_pts": 30', '"num_lidar_pts": 77'), encoding="utf-8")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert open_tables(written.folder, cache=tmp_path)["sample_annotation.num_lidar_pts"][0] == 30
    deep = open_tables(written.folder, cache=tmp_path, deep=True)
    assert deep["sample_annotation.num_lidar_pts"][0] == 77 and "tables changed without a change of size, time, head and tail" in deep.notes[0]
    assert open_tables(written.folder, cache=tmp_path, deep=True).notes == []
    (place,) = (tmp_path / "nuscenes").iterdir()
    flip(place / "sample_annotation.translation.npy")
    assert open_tables(written.folder, cache=tmp_path).notes == []
    assert "was damaged and was made again" in open_tables(written.folder, cache=tmp_path, deep=True).notes[0]


def test_a_cache_that_cannot_be_written_is_a_note(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    tables = open_tables(written.folder, cache=tmp_path / "file")
    assert same(tables, open_tables(written.folder)) and len(tables.notes) == 1
    assert "the tables are not kept in" in tables.notes[0] and "every start parses them again" in tables.notes[0]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert "No space left on device" in open_tables(written.folder, cache=tmp_path / "other").notes[0]
    assert list((tmp_path / "other" / "nuscenes").iterdir()) == [], "no half of a cache is left"


def test_large_tables_are_parsed_in_processes_of_their_own(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = open_tables(written.folder)
    monkeypatch.setattr(nuscenes_schema, "OWN_PROCESS_FROM_BYTES", (written.folder / "ego_pose.json").stat().st_size)
    collected: list[bool] = []
    collect = nuscenes_schema._collect

    def noted(*arguments: Any) -> Any:
        result = collect(*arguments)
        collected.append(result is not None)
        return result

    monkeypatch.setattr(nuscenes_schema, "_collect", noted)
    together = open_tables(written.folder, cache=tmp_path / "cache")
    assert same(alone, together) and together.notes == [] and collected and all(collected)
    assert len(list((tmp_path / "cache" / "nuscenes").iterdir())) == 1, "what the processes handed over is gone"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    collected.clear()
    assert same(alone, open_tables(written.folder, cache=tmp_path / "other")) and collected and not any(collected)
    monkeypatch.undo()
    monkeypatch.setattr(nuscenes_schema, "OWN_PROCESS_FROM_BYTES", (written.folder / "ego_pose.json").stat().st_size)
    written.tables["ego_pose"][5]["translation"] = "here"
    written.write()
    with pytest.raises(BadFileError, match="ego_pose.json: record 5: translation is 'here'; it must be three finite numbers"):
        open_tables(written.folder, cache=tmp_path / "third")
    assert list((tmp_path / "third" / "nuscenes").iterdir()) == []


def _open_in_process(folder: Path, cache: Path) -> tuple[int, list[str]]:
    tables = open_tables(folder, cache=cache)
    return int(tables["sample_data.timestamp"].sum()), tables.notes


def test_several_processes_may_make_the_cache_at_once(written: Written, tmp_path: Path) -> None:
    expected = int(open_tables(written.folder)["sample_data.timestamp"].sum())
    with multiprocessing.get_context("fork").Pool(4) as pool:
        results = pool.starmap(_open_in_process, [(written.folder, tmp_path / "cache")] * 8, chunksize=1)
    assert results == [(expected, [])] * 8
    assert len(list((tmp_path / "cache" / "nuscenes").iterdir())) == 1


def test_only_the_place_of_cached_tables_travels_to_other_processes(written: Written, tmp_path: Path) -> None:
    tables = open_tables(written.folder, cache=tmp_path)
    sent = pickle.dumps(tables)
    assert len(sent) < 1000 and same(pickle.loads(sent), tables)
    unkept = open_tables(written.folder)
    assert same(pickle.loads(pickle.dumps(unkept)), unkept)


def test_tables_that_change_under_a_run_never_give_other_rows(written: Written, tmp_path: Path) -> None:
    tables = open_tables(written.folder, cache=tmp_path / "cache")
    sent = pickle.dumps(tables)
    written.tables["sample_data"].reverse()
    written.write()
    assert same(pickle.loads(sent), tables)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(BadFileError, match="a table changed after it was opened, .* start again"):
        pickle.loads(sent)


def test_a_folder_that_cannot_be_looked_into_is_named(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(BadFileError, match=r"v1.0-mini: the folder cannot be read \(Permission denied\)"):
        open_tables(written.folder)


VALUES: list[tuple[str, str, object, str]] = [
    ("sample", "timestamp", "soon", "record 1: timestamp is 'soon'; it must be a whole number"),
    ("sample", "timestamp", 1.5, "record 1: timestamp is '1.5'; it must be a whole number"),
    ("sample", "timestamp", 1 << 70, "record 1: timestamp is '1180591620717411303424'; it must be a whole number"),
    ("sample", "token", "abc", "record 1: token is 'abc'; it must be 32 hexadecimal digits"),
    ("sample", "token", "g" * 32, "it must be 32 hexadecimal digits"),
    ("sample", "token", " " * 2 + "a" * 30, "it must be 32 hexadecimal digits"),
    ("sample", "scene_token", None, "record 1: scene_token is 'None'; it must be 32 hexadecimal digits"),
    ("sample_data", "prev", 7, "record 1: prev is '7'; it must be 32 hexadecimal digits or empty"),
    ("sample_data", "is_key_frame", "yes", "record 1: is_key_frame is 'yes'; it must be true or false"),
    ("sample_data", "width", -1, "record 1: width is '-1'; it must be a whole number of at least 0"),
    ("sample_data", "filename", 3, "record 1: filename is '3'; it must be a text"),
    ("sample_data", "filename", "\ud800", "it must be a text"),
    ("ego_pose", "translation", [1.0, 2.0], r"record 1: translation is '\[1.0, 2.0\]'; it must be three finite numbers"),
    ("ego_pose", "translation", [1.0, float("nan"), 0.0], r"record 1: translation is '\[1.0, nan, 0.0\]'; it must be three finite numbers"),
    ("ego_pose", "rotation", [0.0, 0.0, 0.0, 0.0], "must be a quaternion w, x, y, z with a length of about 1"),
    ("ego_pose", "rotation", "wxyz", "must be a quaternion"),
    ("calibrated_sensor", "camera_intrinsic", [[1.0, 2.0, 3.0]], "must be a 3x3 matrix, or empty"),
    ("sample_annotation", "num_lidar_pts", True and "5", "record 1: num_lidar_pts is '5'; it must be a whole number"),
]


@pytest.mark.parametrize(("table", "key", "value", "message"), VALUES)
def test_values_that_cannot_be_used_name_record_and_key(table: str, key: str, value: object, message: str, written: Written) -> None:
    written.tables[table][1][key] = value
    (written.folder / f"{table}.json").write_text(json.dumps(written.tables[table], indent=0))
    with pytest.raises(BadFileError, match=message) as caught:
        open_tables(written.folder)
    assert str(caught.value).startswith(str(written.folder / f"{table}.json")) and "\n" not in str(caught.value)


def test_missing_keys_wrong_records_double_tokens_and_missing_tables(written: Written) -> None:
    del written.tables["sample_data"][2]["ego_pose_token"]
    written.write()
    with pytest.raises(BadFileError, match="sample_data.json: record 2 lacks 'ego_pose_token'; it has token, sample_token, calibrated_sensor_token"):
        open_tables(written.folder)
    (written.folder / "sample_data.json").write_text('[{"next": 1}, 5, [6]]')
    with pytest.raises(BadFileError, match="sample_data.json: record 0 lacks 'token'; it has next"):
        open_tables(written.folder)
    (written.folder / "sample_data.json").write_text("[5, [6]]")
    with pytest.raises(BadFileError, match="record 0 is '5'; a table is a list of objects with keys"):
        open_tables(written.folder)
    written.tables["sample_data"] = []
    written.tables["scene"].append(written.tables["scene"][0])
    written.write()
    with pytest.raises(BadFileError, match="scene.json: records 0 and 2 have the same token"):
        open_tables(written.folder)
    (written.folder / "scene.json").unlink()
    (written.folder / "ego_pose.json").unlink()
    with pytest.raises(DataNotFoundError, match=r"2 of 9 tables missing, first scene.json; they come with the metadata archive"):
        open_tables(written.folder)


def test_references_to_nothing_are_counted(written: Written, tmp_path: Path) -> None:
    written.tables["ego_pose"] = written.tables["ego_pose"][1:]
    written.tables["instance"][0]["category_token"] = token("nothing")
    written.write()
    for _ in range(2):  # the notes are kept with the columns
        tables = open_tables(written.folder, cache=tmp_path)
        assert tables.notes == ["instance.json: 1 of 10 category_token name no category, first in record 0.",
                                f"sample_data.json: 1 of {len(written.tables['sample_data'])} ego_pose_token name no ego_pose, first in record 0."]
        assert tables["instance.category_token"][0] == -1 and tables["sample_data.ego_pose_token"][0] == -1


def test_empty_tables_are_no_error(written: Written) -> None:
    written.tables = {name: [] for name in written.tables}
    written.write()
    tables = open_tables(written.folder)
    assert tables.num_rows("sample_data") == 0 and tables.texts("scene.name") == [] and tables.row("sample", "0" * 32) == -1

