"""Reading single clouds: arrays, text, binary floats; one clear line for everything that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clip2x.data.files import read_cloud, read_shape
from clip2x.data.transforms import choose_points, generator_for, near_origin
from clip2x.errors import BadFileError, DataNotFoundError, InputError

SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=float)
POINTS = np.random.default_rng(3).normal(size=(20, 3))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ---- arrays, text, binary floats


def test_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS)
    np.save(tmp_path / "b.npy", np.concatenate([POINTS, POINTS], axis=1).astype(np.float16))
    np.savez(tmp_path / "one.npz", anything=POINTS)
    np.savez(tmp_path / "many.npz", points=POINTS, normals=-POINTS)
    for name in ("a.npy", "one.npz", "many.npz"):
        assert np.array_equal(read_shape(tmp_path / name).points, POINTS)
    assert np.array_equal(read_shape(tmp_path / "b.npy").points, POINTS.astype(np.float16))


@pytest.mark.parametrize(("values", "message"), [
    (POINTS.T, r"found \(3, 20\)"), (np.zeros((3, 1024)), r"found \(3, 1024\); transpose it"), (POINTS[None], r"found \(1, 20, 3\)"),
    (POINTS[:, :2], r"found \(20, 2\)"), (POINTS[0], r"found \(3,\)"), (np.zeros((0, 3)), "no points"), (POINTS * 1j, "type complex128"),
    (np.array([["a", "b", "c"]]), "numbers are accepted"), (np.ones((9, 3)), "all 9 points lie in one place"),
    (np.where(np.arange(3) == 1, np.inf, POINTS), "20 of 20 points have NaN or infinite coordinates, first point 0"),
    (np.array([{"a": 1}], dtype=object), "not a numeric NumPy array"),
])
def test_array_errors(values: np.ndarray, message: str, tmp_path: Path) -> None:
    if message.startswith("found \\(3, 20"):
        values = np.repeat(values, 5, axis=1)
        message = r"found \(3, 100\); transpose it"
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    with pytest.raises(BadFileError, match=message):
        read_shape(tmp_path / "a.npy")


def test_broken_and_ambiguous_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "many.npz", a=POINTS, b=POINTS)
    with pytest.raises(BadFileError, match="holds the arrays a, b; a single one or one named 'points' is needed"):
        read_shape(tmp_path / "many.npz")
    for name in ("a.npy", "a.npz"):
        with pytest.raises(BadFileError, match="not a numeric NumPy array"):
            read_shape(write(tmp_path, name, b"not an array"))
    header = np.lib.format.magic(1, 0) + b"\x76\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (9000000000000, 3), }".ljust(117) + b"\n"
    with pytest.raises(BadFileError, match="not a numeric NumPy array"):
        read_shape(write(tmp_path, "huge.npy", header + bytes(64)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "many.npz").read_bytes()[:-30])
    with pytest.raises(BadFileError, match="not a numeric"):
        read_shape(tmp_path / "cut.npz")


@pytest.mark.parametrize(("name", "text"), [
    ("a.txt", SQUARE), ("a.xyz", "\n# c\n" + SQUARE.replace("\n", " 9 9 9\n")), ("a.csv", SQUARE.replace(" ", ",")),
    ("a.csv", "x,y,z\n" + SQUARE.replace(" ", ",")), ("b.csv", SQUARE.replace(" ", ";")), ("a.pts", "4\n" + SQUARE),
    ("a.txt", SQUARE.replace("\n", "\r\n")), ("c.csv", "label, Z, X, Y\n1,0,0,0\n1,0,1,0\n1,0,1,1\n1,0,0,1\n"), ("d.txt", "\ufeff" + SQUARE),
    ("e.csv", SQUARE.replace(" ", " , ")),
])
def test_text(name: str, text: str, tmp_path: Path) -> None:
    assert np.array_equal(read_shape(write(tmp_path, name, text)).points, CORNERS)


@pytest.mark.parametrize(("name", "text", "message"), [
    ("a.txt", "0 0\n1 1\n", r"found \(2, 2\)"), ("a.txt", SQUARE + "1 2\n", "every line needs the same number of numbers"),
    ("a.txt", SQUARE + "1 2 x\n", "every line needs"), ("a.csv", "a,b,c\n1,2,3\n", "line 1: 'a,b,c' is neither numbers nor column names"),
    ("a.xyz", "\n \n", "is empty"), ("a.xyz", "# only a comment\n", "no points"), ("a.txt", b"\xff\xfe\x00", "not a text file"),
    ("a.csv", "x,y,z\n1,2\n", "the rows have 2 columns, fewer than"), ("a.csv", "x,y,z\n", "no points"),
    ("a.txt", "1 2 3\n1 2 3\n", "all 2 points lie in one place"), ("a.txt", "0 0 0\nnan 1 1\n", "first point 1"),
])
def test_text_errors(name: str, text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=message) as caught:
        read_shape(write(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_binary_floats(tmp_path: Path) -> None:
    kitti = np.concatenate([POINTS, np.ones((20, 1))], axis=1).astype("<f4")
    rings = np.concatenate([POINTS, np.ones((20, 2))], axis=1).astype("<f4")
    expected = POINTS.astype(np.float32)
    assert np.array_equal(read_shape(write(tmp_path, "a.bin", kitti.tobytes())).points, expected)
    assert np.array_equal(read_shape(write(tmp_path, "a.pcd.bin", rings.tobytes())).points, expected)
    assert np.array_equal(read_shape(write(tmp_path, "b.bin", rings.tobytes()), columns=5).points, expected)
    assert np.array_equal(read_shape(write(tmp_path, "c.pcd.bin", kitti[:19].tobytes())).points, expected[:19])
    with pytest.raises(BadFileError, match="6 bytes are no whole number of points of 4 float32 values; state the number of columns"):
        read_shape(write(tmp_path, "d.bin", b"123456"))
    with pytest.raises(InputError, match="columns must be at least 3, got 2"):
        read_shape(write(tmp_path, "e.bin", kitti.tobytes()), columns=2)


@pytest.mark.data
def test_a_real_lidar_sweep(shared_data: Path) -> None:
    sweep = next((shared_data / "nuscenes" / "samples" / "LIDAR_TOP").glob("*.bin"))
    shape = read_shape(sweep)
    assert shape.points.shape == (34688, 3) and np.abs(shape.points).max() < 200


# ---- every kind


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="there is no such file"):
        read_shape(tmp_path / "none.off")
    with pytest.raises(BadFileError, match="is a folder; give a file"):
        read_shape(tmp_path)
    with pytest.raises(BadFileError, match=r"unknown ending '.glb'; accepted are \.off \.obj"):
        read_shape(write(tmp_path, "a.glb", b"glTF"))


def test_read_cloud_is_deterministic_and_has_the_asked_number_of_points(tmp_path: Path) -> None:
    mesh, cloud = write(tmp_path, "a.off", f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3\n"), tmp_path / "a.npy"
    np.save(cloud, POINTS)
    for path in (mesh, cloud):
        for count in (1, 7, 20, 50):
            points = read_cloud(path, count, seed=1)
            assert points.shape == (count, 3) and points.dtype == np.float32
            assert np.array_equal(points, read_cloud(path, count, seed=1))
        assert not np.array_equal(read_cloud(path, 10, seed=1), read_cloud(path, 10, seed=2))
    assert np.array_equal(read_cloud(cloud, None), POINTS.astype(np.float32))
    assert np.array_equal(read_cloud(cloud, 50)[:20], POINTS.astype(np.float32))
    with pytest.raises(InputError, match="num_points must be at least 1, got 0"):
        read_cloud(cloud, 0)
    with pytest.raises(InputError, match="sampler must be one of random, farthest, got 'nearest'"):
        read_cloud(cloud, 5, sampler="nearest")


def test_a_cloud_in_geographic_coordinates_keeps_its_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS + np.array([4.5e6, 5.4e6, 300.0]))
    points = read_cloud(tmp_path / "a.npy", None)
    assert np.allclose(points - points.mean(0), POINTS - POINTS.mean(0), atol=1e-5)
    assert near_origin(POINTS) is POINTS


def test_choose_points() -> None:
    chosen = choose_points(POINTS, 8, generator_for(0, "a"))
    assert len(np.unique(chosen, axis=0)) == 8 and {tuple(row) for row in chosen} <= {tuple(row) for row in POINTS}
    line = np.stack([np.arange(11.0), np.zeros(11), np.zeros(11)], axis=1)
    assert choose_points(line, 3, generator_for(0, "a"), "farthest")[:, 0].tolist() == [0.0, 10.0, 5.0]
