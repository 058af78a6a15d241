"""The mini-world's scans: ScanObjectNN's layout, repeatable, noisy, partial, with background, upright."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tqdm import tqdm

import clip2x.miniworld.scans as scans
from clip2x.data.scanobjectnn import ScanObjectNN
from clip2x.manifest import load_manifest
from clip2x.meshes import sample_surface
from clip2x.miniworld.objects import CLASS_NAMES, Stream, make_object
from clip2x.miniworld.scans import COPIES, SETTINGS, VARIANTS, ScanTask, cut_object, scan_object, write_scans

MANIFEST = load_manifest("scanobjectnn")
TRAIN, TEST = 2, 1
ON_THE_FLOOR = [name for name, setting in SETTINGS.items() if not setting.raised and name != "door"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scans")
    with tqdm(total=15 * (TRAIN + TEST), disable=None) as bar:
        write_scans(root, seed=3, train=TRAIN, test=TEST, bar=bar)
    return root


def task_for(name: str, instance: int = 0, *, seed: int = 3, stream: Stream = Stream.SCANS_TRAIN) -> ScanTask:
    return ScanTask(MANIFEST.class_names.index(name), name, stream, instance, seed)


def arrays_of(root: Path, variant: str, split: str = "train") -> dict[str, np.ndarray]:
    with h5py.File(root / "scanobjectnn" / str(MANIFEST.variant(variant).splits[split].file)) as file:
        return {name: file[name][...] for name in file}


def test_every_class_has_a_generator_and_a_setting() -> None:
    assert set(SETTINGS) == set(MANIFEST.class_names)
    names = {name for setting in SETTINGS.values() for name in setting.others} | {scans.CLASS_OF.get(name, name) for name in SETTINGS}
    assert names <= set(CLASS_NAMES)


def test_the_files_are_those_of_the_manifest(world: Path) -> None:
    written = {str(path.relative_to(world / "scanobjectnn")) for path in world.rglob("*.h5")}
    assert written == {split.file for name in VARIANTS for split in MANIFEST.variant(name).splits.values()} and len(written) == 12
    for variant, perturbation in VARIANTS.items():
        arrays = arrays_of(world, variant)
        count = 15 * TRAIN * perturbation.copies
        assert {name: (values.shape, str(values.dtype)) for name, values in arrays.items()} == {
            "data": ((count, 2048, 3), "float32"), "label": ((count,), "int32"), "mask": ((count, 2048), "int32")}
        assert np.all((arrays["mask"] == arrays["label"][:, None]) | (arrays["mask"] == -1))
        assert np.abs(arrays["data"].mean(axis=1)).max() < 1e-4


def test_the_reader_reads_all_variants(world: Path) -> None:
    for variant, perturbation in VARIANTS.items():
        for split, objects in (("train", TRAIN), ("test", TEST)):
            data = ScanObjectNN(root=world, variant=variant, split=split, num_points=256, cache=world / "cache")
            assert np.bincount(data.labels).tolist() == [objects * perturbation.copies] * 15
            sample = data[len(data) - 1]
            assert sample["points"].shape == (256, 3) and sample["label"] == 14
            assert sample["points"].norm(dim=1).max() == pytest.approx(1, abs=1e-5)
    pb = ScanObjectNN(root=world, variant="pb_t50_rs", split="train", cache=world / "cache", background="drop", num_points=2048)
    mask = arrays_of(world, "pb_t50_rs")["mask"]
    for index in (0, 77):
        assert len(pb[index]["points"].unique(dim=0)) <= np.count_nonzero(mask[index] != -1)
    four, eight = (ScanObjectNN(root=world, variant="pb_t25", split="train", shots=shots, cache=world / "cache") for shots in (4, 8))
    assert {entry.key for entry in four.entries} < {entry.key for entry in eight.entries}


def test_background_is_there_and_marked(world: Path) -> None:
    only, background, perturbed = (arrays_of(world, name) for name in ("obj_only", "obj_bg", "pb_t50_rs"))
    assert np.all(only["mask"] != -1)
    share = (background["mask"] == -1).mean(axis=1)
    assert 0.1 < share.mean() < 0.5 and np.count_nonzero(share > 0.02) > 0.8 * len(share)
    assert (perturbed["mask"] == -1).mean() > 0.1 and np.all((perturbed["mask"] != -1).any(axis=1))
    for cloud, mask, own in zip(background["data"], background["mask"], only["data"], strict=True):
        assert np.allclose(np.ptp(cloud[mask != -1], axis=0), np.ptp(own, axis=0), atol=0.35), "both show the same object"


def test_five_boxes_of_one_object_differ(world: Path) -> None:
    clouds = arrays_of(world, "pb_t25")["data"][:COPIES]
    extents = np.ptp(clouds, axis=1)
    assert len(np.unique(extents.round(3), axis=0)) == COPIES


def test_scans_stand_upright_in_metres(world: Path) -> None:
    """The lowest layer of a cloud holds much of the floor; along the other axes the outermost layers hold less on average."""
    arrays = arrays_of(world, "obj_bg")
    share = {axis: [] for axis in range(3)}
    for cloud, mask, label in zip(arrays["data"], arrays["mask"], arrays["label"], strict=True):
        if MANIFEST.class_names[label] in ON_THE_FLOOR:
            behind = cloud[mask == -1]
            for axis in range(3):
                share[axis].append(np.mean(behind[:, axis] < cloud[:, axis].min() + 0.08) if len(behind) else 0.0)
    down = np.mean(share[1])
    assert down > 0.4 and down > 2 * max(np.mean(share[0]), np.mean(share[2]))
    height = {name: np.ptp(arrays["data"][arrays["label"] == label][..., 1], axis=1) for label, name in enumerate(MANIFEST.class_names)}
    assert np.all((height["chair"] > 0.3) & (height["chair"] < 1.6)) and np.all(height["door"] < 3.0) and np.all(height["bag"] < 1.0)


def test_scans_are_partial_and_noisy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points lie some millimetres off the surface and leave a good part of it uncovered."""
    monkeypatch.setattr(scans, "_turn", lambda angle: np.eye(3))
    covered, off = [], []
    for name in ("chair", "toilet", "sofa", "cabinet", "bin", "bed"):
        scan = scan_object(task_for(name))
        mesh = make_object(name, Stream.SCANS_TRAIN, 0, seed=3).mesh
        surface = torch.from_numpy(sample_surface(mesh.vertices, mesh.faces, 6000, np.random.default_rng(0)))
        distance = torch.cdist(torch.from_numpy(scan.points[scan.own][::4]), surface)
        covered.append((distance.amin(dim=0) < 0.06).double().mean().item())
        off.append(distance.amin(dim=1).median().item())
    assert 0.1 < np.mean(covered) < 0.8
    assert 0.002 < np.mean(off) < 0.03


def test_noise_grows_with_the_square_of_the_distance() -> None:
    """A camera looks straight at a wall: the spread along the ray follows the published fit."""
    open3d = scans.open3d_module()
    for metres in (1.0, 2.5):
        scene = open3d.t.geometry.RaycastingScene(nthreads=1)
        wall = scans.box(8.0, 8.0, 0.1, at=(0, -4, -metres - 0.1 / 2))
        scene.add_triangles(open3d.core.Tensor(wall.vertices.astype(np.float32)), open3d.core.Tensor(wall.faces.astype(np.uint32)))
        camera = scans._Camera(np.zeros(3), np.diag([1.0, 1.0, -1.0]), np.array([0.1, 0.1]))
        points, own = scans._seen(open3d, scene, camera, np.random.default_rng(0))
        off = points[:, 2] - np.median(points[:, 2])
        assert own.all() and len(points) > 10_000
        spread = np.subtract(*np.percentile(off, [75, 25])) / 1.349
        assert spread == pytest.approx(0.0012 + 0.0019 * (metres - 0.4) ** 2, rel=0.05)


def test_a_scan_depends_on_seed_split_class_and_instance_alone() -> None:
    first, again = (cut_object(task_for("chair", 1)) for _ in range(2))
    for name in VARIANTS:
        assert all(np.array_equal(one, two) for one, two in zip(first[name], again[name], strict=True))
    for other in (task_for("chair", 2), task_for("chair", 1, seed=4), task_for("chair", 1, stream=Stream.SCANS_TEST), task_for("desk", 1)):
        assert not np.array_equal(cut_object(other)["obj_bg"][0], first["obj_bg"][0])


def test_worker_processes_write_the_same_files(world: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        write_scans(tmp_path, seed=3, train=1, test=1, pool=pool)
    for variant, perturbation in VARIANTS.items():
        one, other = arrays_of(tmp_path, variant, "test"), arrays_of(world, variant, "test")
        assert all(np.array_equal(one[name], other[name]) for name in one)
        few, many = arrays_of(tmp_path, variant)["data"], arrays_of(world, variant)["data"]
        assert np.array_equal(few[: perturbation.copies], many[: perturbation.copies]), "more objects change none of the others"
