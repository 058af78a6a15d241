"""Pairs of a rendered picture and a cloud of ShapeNet: what is drawn, what it depends on, missing and broken pictures."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from shapenet_tree import MANIFEST, MODELS, SORTED, write_world
from torch.utils.data import DataLoader

from clip2x.data.check import check_data
from clip2x.data.samplers import SampleKey
from clip2x.data.shapenet_pairs import ShapeNetPairs, ShapeNetViews
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import unit_sphere


def open_pairs(root: Path, **options: Any) -> ShapeNetPairs:
    return ShapeNetPairs(**{"root": root, "seed": 3, "split": "train", "num_points": 16, "image_size": 24, "cache": root / "cache", **options})


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_world(tmp_path / "Stühle und Bänke")


def test_a_pair_is_one_model_seen_by_one_camera(world: Path) -> None:
    pairs = open_pairs(world)
    assert len(pairs) == 5 and pairs.labels.tolist() == [MANIFEST.class_folders.index(synset) for synset, _ in SORTED]
    seen = set()
    for epoch in range(40):
        for index, model in enumerate(SORTED):
            sample = pairs[SampleKey(index, epoch)]
            colour = torch.tensor([MODELS.index(model) / 255, 10 * sample["view"] / 255, 1.0])
            assert torch.equal(sample["image"], colour[:, None, None].expand(3, 24, 24)) and sample["image"].dtype == torch.float32
            assert sample["label"] == pairs.labels[index] and sample["index"] == index
            assert sample["points"].shape == (16, 3) and sample["points"].mean(dim=0).abs().max() < 1e-6
            assert sample["points"].norm(dim=1).max() == pytest.approx(1)
            assert sample["distance"].shape == (2,) and ((sample["distance"] >= 0.9) & (sample["distance"] <= 1.1)).all()
            seen.add(sample["view"])
    assert seen == set(range(10))


def test_points_are_a_part_of_the_stored_ones_normalised_afterwards(world: Path) -> None:
    """Undo the unit sphere: the sixteen points must be stored ones, all different."""
    pairs = open_pairs(world)
    stored = np.load(world / "shapenet" / "shapenet_pc" / "02691156-a1.npy").astype(np.float64)
    points = pairs[0]["points"].double().numpy()
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    ratios = np.linalg.norm(stored[:, None] - stored[None], axis=2)
    # a stored triple with the same shape pins scale and shift; try every pair of stored points for the first two
    found = 0
    for a, b in np.argwhere(ratios > 0):
        scale = ratios[a, b] / distance[0, 1]
        moved = points * scale + (stored[a] - points[0] * scale)
        nearest = np.linalg.norm(moved[:, None] - stored[None], axis=2)
        found += bool(nearest.min(axis=1).max() < 1e-4 and len(set(nearest.argmin(axis=1))) == 16)
    assert found == 1
    whole = open_pairs(world, num_points=40)[0]["points"]
    assert torch.equal(whole, unit_sphere(torch.from_numpy(stored.astype(np.float32))))


def test_draws_depend_on_seed_epoch_and_index_alone(world: Path) -> None:
    def drawn(pairs: ShapeNetPairs, key: SampleKey | int) -> tuple[Any, ...]:
        sample = pairs[key]
        return sample["view"], sample["distance"].tolist(), sample["points"].tolist()

    pairs = open_pairs(world)
    assert drawn(pairs, SampleKey(2, 0)) == drawn(open_pairs(world), 2)
    assert drawn(pairs, SampleKey(2, 1)) == drawn(pickle.loads(pickle.dumps(pairs)), SampleKey(2, 1))
    different = [drawn(pairs, SampleKey(2, 0)), drawn(pairs, SampleKey(2, 1)), drawn(pairs, SampleKey(1, 0)), drawn(open_pairs(world, seed=4), 2)]
    assert len({str(item[1:]) for item in different}) == 4
    fixed = open_pairs(world, view=7)
    assert [fixed[SampleKey(2, epoch)]["view"] for epoch in range(5)] == [7] * 5
    assert drawn(fixed, 2)[1:] == drawn(pairs, 2)[1:], "a fixed view changes nothing else"


def test_distances_are_uniform_in_their_range(world: Path) -> None:
    pairs = open_pairs(world, distance_range=(0.5, 1.5))
    distances = np.concatenate([pairs[SampleKey(0, epoch)]["distance"].numpy() for epoch in range(300)])
    assert distances.min() >= 0.5 and distances.max() <= 1.5
    assert distances.mean() == pytest.approx(1.0, abs=0.04) and distances.var() == pytest.approx(1 / 12, rel=0.1)
    assert open_pairs(world, distance_range=(1.0, 1.0))[0]["distance"].tolist() == [1.0, 1.0]


def test_points_of_meshes_are_drawn_anew_from_a_kept_pool(world: Path) -> None:
    pairs = open_pairs(world, points_variant="v2", split="train:fit")
    first, second = pairs[SampleKey(0, 0)]["points"], pairs[SampleKey(0, 1)]["points"]
    assert not torch.equal(first, second)
    (stored,) = (world / "cache").rglob("*.npy")
    assert np.load(stored).shape == (8192, 3)


def test_pictures_are_brought_to_the_size_asked_for(world: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(256, size=(24, 24, 3), dtype=np.uint8))
    picture.save(world / "shapenet" / "rendering" / "02691156_a1" / "0.png")
    assert np.array_equal((open_pairs(world, view=0)[0]["image"] * 255).round().numpy().astype(np.uint8), np.asarray(picture).transpose(2, 0, 1))
    small = open_pairs(world, view=0, image_size=8)[0]["image"]
    assert small.shape == (3, 8, 8) and small.min() >= 0 and small.max() <= 1
    by_pillow = np.asarray(picture.resize((8, 8), Image.Resampling.BICUBIC)).transpose(2, 0, 1) / 255
    assert np.abs(small.numpy() - by_pillow).max() < 0.02
    assert open_pairs(world, view=0, image_size=30)[0]["image"].shape == (3, 30, 30)


def picture_path(world: Path, view: int = 0) -> Path:
    return world / "shapenet" / "rendering" / "02691156_a1" / f"{view}.png"


def test_grey_and_transparent_pictures_are_understood(world: Path) -> None:
    pairs = open_pairs(world, view=0)
    for transparent in (Image.new("RGBA", (24, 24), (0, 0, 0, 0)), Image.new("LA", (24, 24), (9, 0)), Image.new("P", (24, 24), 0)):
        transparent.save(picture_path(world), **({"transparency": 0} if transparent.mode == "P" else {}))
        assert (pairs[0]["image"] == 1).all(), transparent.mode
    half = Image.new("RGBA", (24, 24), (0, 102, 255, 51))
    half.save(picture_path(world))
    assert torch.allclose(pairs[0]["image"][:, 0, 0] * 255, torch.tensor([204.0, 224.0, 255.0]), atol=1.0), "a fifth of the colour, the rest white"
    Image.new("L", (24, 24), 51).save(picture_path(world))
    assert torch.allclose(pairs[0]["image"], torch.full((3, 24, 24), 0.2))
    Image.fromarray(np.full((24, 24), 300, dtype=np.uint16)).save(picture_path(world))
    with pytest.raises(BadFileError, match=r"0.png: a picture must have 8 bits a colour, found mode I;16"):
        pairs[0]


def test_pictures_of_several_sizes_are_brought_to_one(world: Path) -> None:
    Image.new("RGB", (48, 48), (255, 0, 0)).save(picture_path(world))
    pairs = open_pairs(world, view=0)
    assert {pairs[index]["image"].shape for index in range(5)} == {(3, 24, 24)}
    assert torch.equal(pairs.picture(0, 0)[:, 5, 5], torch.tensor([1.0, 0.0, 0.0])) and pairs.picture(0, 1).shape == (3, 24, 24)
    pairs.require_image_size(24)
    with pytest.raises(InputError, match=r"are read at 24 x 24 pixels, this CLIP takes 32 x 32; set data.train.init_args.image_size to 32\."):
        pairs.require_image_size(32)


def test_models_without_all_pictures_are_an_error_or_left_out_on_request(world: Path) -> None:
    picture_path(world).with_name("3.png").unlink()
    shutil.rmtree(world / "shapenet" / "rendering" / "04379243_t1")
    message = ("2 of 5 models do not have one picture for each of 10 views, first rendering/02691156_a1/3.png is missing "
               "(9 pictures are there: 0.png, 1.png, 2.png, ...)")
    with pytest.raises(DataNotFoundError, match=r"ShapeNet below .*make render-pairs.*CLIP2Point.*skip_missing_views: true") as caught:
        open_pairs(world)
    assert caught.value.missing == message and f": {message}. " in str(caught.value) and "\n" not in str(caught.value)
    pairs = open_pairs(world, skip_missing_views=True)
    assert len(pairs) == len(pairs.labels) == 3 and pairs.notes[-1] == f"{message}; these models are left out."
    assert pairs[0]["image"][0, 0, 0] == pytest.approx(MODELS.index(("02691156", "a2")) / 255)
    shutil.rmtree(world / "shapenet" / "rendering")
    for skip in (False, True):
        with pytest.raises(DataNotFoundError, match=r"5 of 5 models .*, first rendering/02691156_a1/0.png is missing \(0 pictures are there\)"):
            open_pairs(world, skip_missing_views=skip)


@pytest.mark.parametrize(("names", "problem"), [
    ([f"{view}.png" for view in range(12)], r"rendering/02691156_a1 has pictures of other views \(12 pictures are there: 0.png, 1.png, 2.png, "),
    ([f"{view:02d}.png" for view in range(10)], r"rendering/02691156_a1/0.png is missing \(10 pictures are there: 00.png, 01.png, 02.png, \.\.\.\)"),
    (["0.png", "1.png"], r"rendering/02691156_a1/2.png is missing \(2 pictures are there: 0.png, 1.png\)"),
    ([f"{view}.jpg" for view in range(10)], r"rendering/02691156_a1/0.png is missing \(0 pictures are there\)"),
])
def test_another_number_or_naming_of_pictures_is_one_line(world: Path, names: list[str], problem: str) -> None:
    content = picture_path(world).read_bytes()
    shutil.rmtree(picture_path(world).parent)
    picture_path(world).parent.mkdir()
    for name in names:
        (picture_path(world).parent / name).write_bytes(content)
    with pytest.raises(DataNotFoundError, match=rf"1 of 5 models do not have one picture for each of 10 views, first {problem}"):
        open_pairs(world)


def test_other_files_beside_the_pictures_do_not_matter(world: Path) -> None:
    for name in ("._0.png", ".DS_Store", "0_depth.png", "light.json"):
        picture_path(world).with_name(name).write_bytes(b"")
    assert len(open_pairs(world)) == 5


def test_classes_are_left_out_by_name(world: Path) -> None:
    whole = open_pairs(world)
    assert whole.present_classes == ("airplane", "chair", "table") and whole.notes == open_pairs(world, exclude=[]).notes
    shutil.rmtree(world / "shapenet" / "rendering" / "03001627_c0")  # of an excluded class: not asked for
    pairs = open_pairs(world, exclude=["chair", "rocket"])
    assert pairs.present_classes == ("airplane", "table") and pairs.class_names == whole.class_names
    assert pairs.labels.tolist() == [MANIFEST.class_names.index(name) for name in ("airplane", "airplane", "table")]
    assert pairs.notes[-1] == "2 of 5 objects are left out: chair, rocket are excluded."
    assert [pairs.describe(index) for index in range(3)] == ["02691156-a1", "02691156-a2", "04379243-t1"]
    with pytest.raises(InputError, match=r"exclude has 'chairs', which is none of the 55 classes of shapenet; near it are chair"):
        open_pairs(world, exclude=["chairs"])
    with pytest.raises(InputError, match=r"exclude names every class that occurs in train, so nothing remains"):
        open_pairs(world, exclude=["chair", "airplane", "table"])


def test_broken_pictures_are_named(world: Path) -> None:
    path = picture_path(world)
    pairs, whole = open_pairs(world, view=0), path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFileError, match="02691156_a1/0.png: not a whole picture"):
        pairs[0]
    Image.new("RGB", (24, 12)).save(path)
    with pytest.raises(BadFileError, match="02691156_a1/0.png: a rendered view must be square, found 24 x 12 pixels"):
        pairs[0]
    path.unlink()
    with pytest.raises(DataNotFoundError, match=r"02691156_a1/0.png does not exist"):
        pairs[0]


@pytest.mark.parametrize(("options", "message"), [
    ({"view": 10}, "view must be one of 0 to 9 or left out, got 10"), ({"view": -1}, "view must be one of 0 to 9"),
    ({"num_points": 0}, "num_points and image_size must be at least 1"), ({"image_size": 0}, "must be at least 1"),
    ({"distance_range": (1.1, 0.9)}, "two rising positive numbers"), ({"distance_range": (0.0, 1.0)}, "two rising positive numbers"),
    ({"points_variant": "v3"}, "shapenet has no variant 'v3'; it has pc, v2, v1, rendering"), ({"split": "val"}, "has no split 'val'"),
    ({"points_variant": "rendering"}, "has the format 'png'; ShapeNet reads clouds and meshes"),
])
def test_arguments_are_checked(options: dict[str, Any], message: str, world: Path) -> None:
    with pytest.raises(InputError, match=message):
        open_pairs(world, **options)


def test_an_index_outside_is_refused(world: Path) -> None:
    for index in (-1, 5):
        with pytest.raises(IndexError):
            open_pairs(world)[index]


def test_workers_give_the_same_pairs(world: Path) -> None:
    pairs = open_pairs(world)
    keys: Any = [[SampleKey(index, epoch) for index in (4, 1, 3)] for epoch in range(2)]
    alone, shared = (list(DataLoader(pairs, batch_sampler=keys, num_workers=workers)) for workers in (0, 2))
    for a, b in zip(alone, shared, strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert alone[0]["image"].shape == (3, 3, 24, 24) and alone[0]["distance"].shape == (3, 2) and alone[0]["points"].dtype == torch.float32


def test_check_data_counts_models_and_pictures(world: Path) -> None:
    (world / "shapenet" / "rendering" / "02691156_a2" / "3.png").write_bytes(b"broken")
    (world / "shapenet" / "rendering" / "04379243_t1" / "9.png").unlink()
    reports = {(report.variant, report.split): report for report in check_data("shapenet", world)}
    assert {key: (report.what, report.status, report.found) for key, report in reports.items() if key[1] == "train"} == {
        ("pc", "train"): ("samples", "partial", 5), ("v2", "train"): ("samples", "partial", 5), ("v1", "train"): ("samples", "absent", 0),
        ("rendering", "train"): ("views", "partial", 4)}
    assert reports["rendering", "train"].notes == [
        "1 of 5 models do not have one picture for each of 10 views, first rendering/04379243_t1/9.png is missing "
        "(9 pictures are there: 0.png, 1.png, 2.png, ...)."]
    (deep, _) = check_data("shapenet/rendering", world, deep=True)
    assert deep.status == "broken" and "02691156_a2/3.png: not a whole picture" in deep.problems[0]
    assert ShapeNetViews(root=world, split="train")[0].shape == (10, 24, 24, 3)
    with pytest.raises(InputError, match="whole splits"):
        ShapeNetViews(root=world, split="train:fit")
    with pytest.raises(InputError, match="shapenet/pc has no pictures"):
        ShapeNetViews(root=world, variant="pc", split="train")
