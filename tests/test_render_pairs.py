"""Pictures of ShapeNet's models: layout, what they depend on, what happens to broken models and interrupted runs."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from shapenet_tree import BOX_FACES, MODELS, write_list, write_meshes

from clip2x import meshes
from clip2x.cli import main
from clip2x.data import render_pairs as module
from clip2x.data.check import check_data
from clip2x.data.formats.textured_obj import read_textured_obj
from clip2x.data.render_pairs import Drawing, RenderReport, draw_pictures, on_white, png_of, render_pairs
from clip2x.data.shapenet_pairs import ShapeNetPairs, ShapeNetViews
from clip2x.data.worker_pool import prepare_workers
from clip2x.depth import rasterize, view_preset
from clip2x.errors import DataNotFoundError, InputError, MissingDependencyError
from clip2x.geometry import camera_axes
from clip2x.meshes import Material, Mesh, render_views, sample_surface
from clip2x.miniworld.objects import Stream, make_object

TEST_MODELS = [("02691156", "b1")]
SMALL = Drawing(size=24)
ALL = sorted([*MODELS, *TEST_MODELS])


@pytest.fixture(scope="module", autouse=True)
def _libraries() -> None:
    prepare_workers("clip2x.data.render_libraries")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    root = tmp_path / "Stühle und Bänke"
    write_list(root)
    write_list(root, TEST_MODELS, split="test")
    write_meshes(root, ALL)
    return root


def mesh_of(root: Path, model: tuple[str, str]) -> Path:
    return root / "shapenet" / "ShapeNetCore.v2" / "/".join(model) / "models" / "model_normalized.obj"


def drawn(root: Path) -> dict[str, bytes]:
    """The content of every picture by its path below rendering/."""
    place = root / "shapenet" / "rendering"
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in sorted(place.glob("*/*"))}


def copied(world: Path, name: str) -> Path:
    shutil.copytree(world, world.parent / name)
    return world.parent / name


def counts(report: RenderReport) -> tuple[int, int, int, int, int]:
    return report.total, report.drawn, report.there, report.missing, len(report.failed)


def test_layout_and_stamp(world: Path) -> None:
    report = render_pairs(world, SMALL, workers=2)
    assert counts(report) == (6, 6, 0, 0, 0) and report.failed_list is None
    pictures = drawn(world)
    assert sorted(pictures) == sorted(f"{synset}_{name}/{view}.png" for synset, name in ALL for view in range(10))
    assert sorted(path.name for path in report.folder.iterdir()) == sorted([*(f"{synset}_{name}" for synset, name in ALL), "rendering.json"])
    for content in pictures.values():
        with Image.open(BytesIO(content)) as picture:
            pixels = np.asarray(picture)
        assert pixels.shape == (24, 24, 3) and picture.format == "PNG"
        assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all(), "the corners show the white background"
        assert 30 < (pixels < 200).all(axis=2).sum() < 500
    stamp = json.loads((report.folder / "rendering.json").read_text())
    assert stamp == {"variant": "v2", "size": 24, "supersample": 2, "seed": 0, "views": "clip2point-10", "distance_factor": 2.0, "ambient": 0.5,
                     "background": "white", "light": "direction from U(-1, 1)^3 by seed, model and view", "drawing": 1}
    assert report.remarks == {"material files that are missing or cannot be read, materials drawn grey": 6}
    complete = {report.split: report.found for report in check_data("shapenet/rendering", world)}
    assert complete == {"train": 5, "test": 1}


def test_pictures_do_not_depend_on_processes_shards_and_order(world: Path) -> None:
    whole, sharded = copied(world, "whole"), copied(world, "sharded")
    render_pairs(whole, SMALL, workers=1)
    reports = [render_pairs(sharded, SMALL, shard=(number, 3), workers=2, split=split) for number in (3, 1, 2) for split in ("test", "train")]
    assert drawn(sharded) == drawn(whole)
    assert sum(report.drawn for report in reports) == sum(report.total for report in reports) == 6, "shards share no model and leave none"
    other = copied(world, "other")
    render_pairs(other, Drawing(size=24, seed=1), workers=1)
    assert len({*drawn(other).values()} & {*drawn(whole).values()}) < 10, "another seed is another light"


def test_light_is_drawn_for_every_model_and_view() -> None:
    """Seen from the front, a plate towards the camera is as bright as the light's direction says."""
    vertices = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype=float)
    plate = Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]), np.zeros(2, dtype=np.int64), (Material("white", (1.0, 1.0, 1.0)),))
    front = {name: draw_pictures(plate, name, SMALL)[0, 12, 12] for name in map(str, range(60))}
    values = np.array([int(pixel[0]) for pixel in front.values()])
    assert all((pixel == pixel[0]).all() for pixel in front.values()) and len(set(values.tolist())) > 20
    assert 0.3 < (values == 128).mean() < 0.7, "half of the lights come from behind"
    pictures = draw_pictures(plate, "7", SMALL)
    assert np.array_equal(pictures, draw_pictures(plate, "7", SMALL)) and not np.array_equal(pictures, draw_pictures(plate, "8", SMALL))


def test_the_pictures_show_the_views_of_the_depth_maps(world: Path) -> None:
    """A crooked pile of boxes: the silhouette of each picture is that of the depth map of the same camera, and of no other.

    Depth maps have parallel rays, so the points are moved for each camera to where a perspective camera at distance 2 would see them.
    """
    boxes = [((0.0, 0.0, 0.0), (1.2, 0.2, 0.8)), ((0.0, 0.2, 0.0), (0.3, 0.9, 0.3)), ((0.3, 0.7, 0.1), (0.5, 0.2, 0.2)),
             ((0.9, 0.2, 0.5), (0.2, 0.2, 0.6))]  # lowest corner and size
    corners = np.concatenate([[np.add(low, np.multiply(size, at)) for at in np.ndindex(2, 2, 2)] for low, size in boxes])
    faces = [[int(corner) + 8 * box for corner in face.split()] for box in range(len(boxes)) for face in BOX_FACES]
    mesh_of(world, TEST_MODELS[0]).write_text("".join(f"v {x} {y} {z}\n" for x, y, z in corners)
                                            + "".join(f"f {a} {b} {c} {d}\n" for a, b, c, d in faces))
    render_pairs(world, Drawing(size=64), split="test", workers=1)
    seen = (ShapeNetViews(root=world, split="test")[0] < 250).any(axis=3)
    mesh, _ = read_textured_obj(mesh_of(world, TEST_MODELS[0]))
    centred = mesh.vertices - mesh.vertices.mean(axis=0)
    points = torch.from_numpy(sample_surface(centred / np.linalg.norm(centred, axis=1).max(), mesh.faces, 20_000, np.random.default_rng(0)))
    azimuth, elevation, distance = view_preset("clip2point-10")
    axes = camera_axes(azimuth, elevation)
    left, up, forward = torch.einsum("vac,pc->avp", axes, points)
    scale = 1 / (float(np.tan(np.deg2rad(30))) * (2 + forward))
    moved = torch.einsum("avp,vac->vpc", torch.stack([left * scale, up * scale, forward]), axes)
    depth = rasterize(moved, azimuth[:, None], elevation[:, None], distance[:, None], image_size=64)[:, 0].numpy() > 0
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in depth] for a in seen])
    assert iou.diagonal().min() > 0.85, iou.diagonal().round(2)
    assert (iou - np.eye(10)).max() < 0.8, iou.round(2)


def test_shapenet_pairs_reads_the_result(world: Path) -> None:
    render_pairs(world, SMALL, workers=2)
    pairs = ShapeNetPairs(world, 3, split="train", points_variant="v2", num_points=16, image_size=24, cache=world / "cache")
    assert len(pairs) == 5 and not [note for note in pairs.notes if "left out" in note]
    sample = pairs[2]
    synset, name = pairs.describe(2).split("-", 1)
    with Image.open(BytesIO(drawn(world)[f"{synset}_{name}/{sample['view']}.png"])) as picture:
        assert np.array_equal((sample["image"] * 255).round().numpy().astype(np.uint8), np.asarray(picture).transpose(2, 0, 1))


def test_finished_models_are_not_touched_and_spoiled_ones_are_drawn_again(world: Path) -> None:
    first = render_pairs(world, SMALL, workers=2)
    before = drawn(world)
    times = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.png")}
    again = render_pairs(world, SMALL, workers=2)
    assert counts(again) == (6, 0, 6, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.png")} == times
    (first.folder / "02691156_a2" / "3.png").unlink()
    (first.folder / "03001627_c0" / "10.png").write_bytes(b"one too many")
    shutil.rmtree(first.folder / "04379243_t1")
    assert counts(render_pairs(world, SMALL, workers=2)) == (6, 3, 3, 0, 0) and drawn(world) == before


def test_broken_models_are_listed_and_the_others_are_drawn(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh_of(world, ("02691156", "a1")).write_text("v 0 0 0\nv 1 0 0\nv 0 one 0\nf 1 2 3\n")
    mesh_of(world, ("03001627", "c0")).unlink()
    shutil.rmtree(mesh_of(world, ("04379243", "t1")).parents[1])
    command = ["render-pairs", "--root", str(world), "--size", "24", "--workers", "2"]
    assert main(command) == 1
    place = world / "shapenet" / "rendering"
    out = capsys.readouterr().out
    assert "of 6 models of the lists 3 drawn now, 0 there before, 2 not on disk, 1 failed" in out
    assert "failed: 02691156-a1: " in out and "model_normalized.obj: line 3 is not a vertex" in out
    assert f"All failed models: {place / 'failed-all-1-of-1.jsonl'}." in out and "skip_missing_views: true" in out
    (line,) = (place / "failed-all-1-of-1.jsonl").read_text().splitlines()
    failed = json.loads(line)
    assert failed["model"] == "02691156-a1" and failed["mesh"] == str(mesh_of(world, ("02691156", "a1"))) and "line 3" in failed["reason"]
    assert len(drawn(world)) == 30 and not (place / "02691156_a1").exists()
    write_meshes(world, ALL)
    assert main(command) == 0
    assert "3 drawn now, 3 there before, 0 not on disk, 0 failed" in capsys.readouterr().out
    assert not list(place.glob("*.jsonl")) and len(drawn(world)) == 60


def test_a_mesh_that_hangs_is_given_up(world: Path) -> None:
    hanging = mesh_of(world, ("03001627", "c-1"))
    hanging.unlink()
    os.mkfifo(hanging)
    report = render_pairs(world, SMALL, workers=2, limit_s=3.0)
    assert report.failed == {"03001627-c-1": "took longer than 3 s and was given up"} and report.drawn == 5
    assert not multiprocessing.active_children()


def test_other_settings_are_refused(world: Path) -> None:
    render_pairs(world, SMALL, workers=1, split="test")
    before = drawn(world)
    with pytest.raises(InputError, match=r"rendering holds pictures of other settings \(size 24 there, 32 asked for; seed 0 there, 5 asked for\)"):
        render_pairs(world, Drawing(size=32, seed=5), workers=1)
    assert drawn(world) == before
    (world / "shapenet" / "rendering" / "rendering.json").write_text("{")
    with pytest.raises(InputError, match=r"rendering.json: cannot be read .*delete .*rendering to draw all pictures anew"):
        render_pairs(world, SMALL, workers=1)


def claim(place: str, number: int) -> str:
    """Wait for a common moment, then claim a folder with settings of one's own."""
    time.sleep(max(0.0, float(Path(place).name) - time.time()))
    try:
        module._claim(Path(place), {"seed": number})
    except InputError as error:
        return str(error)
    return "claimed"


def test_of_shards_that_start_together_one_sets_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with multiprocessing.get_context("forkserver").Pool(4) as pool:
        for _ in range(3):
            place = str(tmp_path / str(time.time() + 0.3))
            answers = pool.starmap(claim, [(place, number) for number in (0, 1, 2, 3)])
            assert sorted(answer == "claimed" for answer in answers) == [False, False, False, True]
            assert [path.name for path in Path(place).iterdir()] == ["rendering.json"]

    def no_links(source: str, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(module.os, "link", no_links)
    assert [claim(str(tmp_path / "0"), number) for number in (5, 5)] == ["claimed", "claimed"]
    assert "seed 5 there, 6 asked for" in claim(str(tmp_path / "0"), 6)


def test_a_released_archive_is_left_as_it_is(world: Path) -> None:
    render_pairs(world, SMALL, workers=1)
    place = world / "shapenet" / "rendering"
    (place / "rendering.json").unlink()
    before = drawn(world)
    assert counts(render_pairs(world, Drawing(size=99), workers=1)) == (6, 0, 6, 0, 0)
    shutil.rmtree(place / "04379243_t1")
    for shard in ((1, 2), (2, 2)):
        with pytest.raises(InputError, match=r"holds pictures but no rendering.json.*1 of 6 models on disk lack theirs; two kinds are not mixed"):
            render_pairs(world, SMALL, workers=1, shard=shard)
    assert drawn(world) == {name: content for name, content in before.items() if "t1" not in name} and not (place / "rendering.json").exists()


def test_leftovers_of_killed_runs_go_after_a_day(world: Path) -> None:
    place = world / "shapenet" / "rendering"
    for name, age_s in ((".old", 100_000.0), (".new", 10.0)):
        (place / name / "0.png").mkdir(parents=True)
        os.utime(place / name, (time.time() - age_s,) * 2)
    render_pairs(world, SMALL, workers=1)
    assert sorted(path.name for path in place.iterdir() if path.name.startswith(".")) == [".new"]


def test_ctrl_c_ends_the_run_and_it_can_go_on(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh_of(world, ("02691156", "a1")).write_text("f 1 2 3\n")

    class Interrupting(module.tqdm):  # type: ignore[misc]
        done = 0  # `n` does not count where nothing is shown

        def update(self, n: float | None = 1) -> bool | None:
            if self.done == 3:
                raise KeyboardInterrupt
            self.done += 1
            return super().update(n)  # type: ignore[no-any-return]

    with monkeypatch.context() as patch:
        patch.setattr(module, "tqdm", Interrupting)
        assert main(["render-pairs", "--root", str(world), "--size", "24", "--workers", "2"]) == 130
    assert not multiprocessing.active_children()
    place = world / "shapenet" / "rendering"
    assert not list(place.glob(".*")) and all(len(list(folder.iterdir())) == 10 for folder in place.iterdir() if folder.is_dir())
    assert counts(render_pairs(world, SMALL, workers=2))[-2:] == (0, 1) and len(drawn(world)) == 50


@pytest.mark.slow
def test_a_killed_run_leaves_no_partial_model(world: Path) -> None:
    last = mesh_of(world, ("04379243", "t1"))
    content = last.read_bytes()
    last.unlink()
    os.mkfifo(last)  # holds one process up
    place = world / "shapenet" / "rendering"
    run = subprocess.Popen([sys.executable, "-m", "clip2x", "render-pairs", "--root", str(world), "--size", "24", "--workers", "1"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list(place.glob("*/9.png")) and time.monotonic() < until:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    os.close(os.open(last, os.O_RDWR | os.O_NONBLOCK))  # lets go the process that reads it
    last.unlink()
    last.write_bytes(content)
    folders = [folder for folder in place.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    assert 0 < len(folders) < 6 and all(len(list(folder.iterdir())) == 10 for folder in folders)
    report = render_pairs(world, SMALL, workers=2)
    assert report.there >= len(folders) and report.there + report.drawn == 6


def in_this_process(world: Path, model: tuple[str, str]) -> Any:
    job, _, _ = module._find_models(world, SMALL, None)
    return module._draw_model(job, model)


def test_what_concerns_all_models_stops_the_run(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(error: Exception) -> Callable[..., None]:
        def fail(*_: object) -> None:
            raise error
        return fail

    with monkeypatch.context() as patch:
        patch.setattr(module, "store_pictures", failing(OSError(errno.ENOSPC, "No space left on device")))
        stop = in_this_process(world, ALL[0]).stop
        assert stop.endswith("rendering (No space left on device); what is drawn stays: make room or choose another --root, "
                             "and run the same command again.") and "\n" not in stop
    for error, where in ((MissingDependencyError("Open3D cannot be imported"), "stop"), (MemoryError(), "failed"), (KeyError("x"), "failed")):
        with monkeypatch.context() as patch:
            patch.setattr(module, "draw_pictures", failing(error))
            outcome = in_this_process(world, ALL[0])
            assert {"stop": outcome.stop, "failed": outcome.failed}[where] is not None
    (world / "shapenet" / "rendering").write_bytes(b"a file")
    with pytest.raises(InputError, match=r"cannot write into .*rendering \(File exists\)"):
        render_pairs(world, SMALL, workers=1)


@pytest.mark.parametrize(("options", "message"), [
    ({"shard": (0, 2)}, "shard must be 1/2 to 2/2, got 0/2"), ({"shard": (3, 2)}, "got 3/2"), ({"split": "val"}, "has no split 'val'"),
    ({"split": "train:fit"}, "pictures are drawn of whole splits: train, test"), ({"variant": "v9"}, "has no variant 'v9'"),
    ({"variant": "pc"}, r"variant must be one with meshes, got 'pc' \(npy\)"), ({"size": 0}, "must be at least 1"),
    ({"supersample": 0}, "must be at least 1"), ({"seed": -1}, "seed at least 0"),
])
def test_arguments_are_checked(options: dict[str, Any], message: str, world: Path) -> None:
    rest = {name: value for name, value in options.items() if name in ("shard", "split")}
    with pytest.raises(InputError, match=message):
        render_pairs(world, Drawing(**{name: value for name, value in options.items() if name not in rest}), workers=1, **rest)
    assert not (world / "shapenet" / "rendering").exists()


def test_missing_data_are_named(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataNotFoundError, match=r"none of the 6 meshes of the lists is there, first ShapeNetCore.v1/02691156/a1/model.obj"):
        render_pairs(world, Drawing(variant="v1"), workers=1)
    (world / "shapenet" / "ShapeNet-55" / "test.txt").unlink()
    with pytest.raises(DataNotFoundError, match="the list ShapeNet-55/test.txt is missing"):
        render_pairs(world, SMALL, workers=1)
    for text in ("0/2", "3/2", "1", "a/b", "1/2/3"):
        assert main(["render-pairs", "--root", str(world), "--shard", text]) == 2
        assert f"must be I/N with I from 1 to N, e.g. 1/4, got '{text}'" in capsys.readouterr().err


def test_v1_is_drawn_too(tmp_path: Path) -> None:
    write_list(tmp_path)
    write_list(tmp_path, TEST_MODELS, split="test")
    write_meshes(tmp_path, ALL, release="v1")
    assert render_pairs(tmp_path, Drawing(variant="v1", size=24), workers=1).drawn == 6


def test_pictures_are_laid_on_white_by_their_coverage() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(256, size=(2, 5, 7, 4), dtype=np.uint8)
    pictures[0, :2] = 0
    pictures[1, :, :3, 3] = 255
    share = pictures[..., 3:] / 255
    expected = pictures[..., :3] * share + 255 * (1 - share)
    assert np.abs(on_white(pictures) - expected).max() <= 0.51
    assert (on_white(pictures)[0, :2] == 255).all() and np.array_equal(on_white(pictures)[1, :, :3], pictures[1, :, :3, :3])


def test_png_holds_the_picture() -> None:
    for shape in ((1, 1, 3), (5, 9, 3), (64, 64, 3)):
        picture = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
        with Image.open(BytesIO(png_of(picture))) as read:
            assert read.mode == "RGB" and np.array_equal(np.asarray(read), picture)


def test_only_what_a_mesh_can_cover_is_cast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures are the same bits as those of all rays, also where the camera stands inside of the mesh."""
    rng = np.random.default_rng(0)
    azimuth, elevation, distance = rng.uniform(0, 360, 12), rng.uniform(-90, 90, 12), rng.uniform(0.3, 2.5, 12)
    mesh = make_object("airplane", Stream.SHAPENET, 1, seed=0).mesh
    with monkeypatch.context() as patch:
        patch.setattr(meshes, "_window", lambda *_: (slice(0, 40), slice(0, 40)))
        whole = render_views(mesh, azimuth, elevation, distance, image_size=40, supersample=2)
    assert np.array_equal(render_views(mesh, azimuth, elevation, distance, image_size=40, supersample=2), whole)
    axes = np.array([[-1, 0, 0], [0, 1, 0], [0, 0, -1]], dtype=np.float32)
    pixel = 50 * (1 - 0.1 / 2 / np.tan(np.deg2rad(30)))
    assert meshes._window(np.array([[-0.1, 0.1, 0.0]]), axes, 2.0, 100) == (slice(int(pixel - 1), int(pixel + 2)),) * 2
    assert meshes._window(np.array([[0.1, 0.1, 0.0], [0.0, 0.0, 2.1]]), axes, 2.0, 100) == (slice(0, 100),) * 2
