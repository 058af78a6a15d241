"""Triplets of rendered models: names by class or by CLIP, what is drawn, what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shapenet_tree import MANIFEST, MODELS, SORTED, write_world
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from clip2x.data.augmentations import Jitter, Scale
from clip2x.data.faults import collate
from clip2x.data.image_features import cache_image_features
from clip2x.data.samplers import SampleKey
from clip2x.data.shapenet_pairs import ShapeNetPairs
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import unit_sphere
from clip2x.proxies.objects import ObjectTriplets

CLASSES = [MANIFEST.class_folders.index(synset) for synset, _ in SORTED]  # airplane, airplane, chair, chair, table
VOCABULARY = "airplane | plane\nchair\nsofa | couch\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_world(tmp_path_factory.mktemp("objects"))
    (root / "names.txt").write_text(VOCABULARY)
    (root / "distracted.yaml").write_text("concepts: [[airplane, plane], [chair], [sofa, couch]]\ndistractors: [wall, floor]\n")
    return root


def open_objects(root: Path, seed: int = 3, names: str | None = None, **options: Any) -> ObjectTriplets:
    vocabulary = None if names is None else str(root / names)
    return ObjectTriplets(root, seed, **{"split": "train", "vocabulary": vocabulary, "num_points": 16, "image_size": 24, "cache": root / "cache",
                                         **options})


def share(*rows: dict[int, float], width: int) -> Tensor:
    """Probabilities with the stated values, the rest spread over the other names."""
    table = torch.zeros(len(rows), width)
    for row, stated in zip(table, rows, strict=True):
        row[:] = (1 - sum(stated.values())) / (width - len(stated)) if len(stated) < width else 0
        for name, value in stated.items():
            row[name] = value
    return table


def test_without_a_vocabulary_names_are_those_of_the_classes(world: Path) -> None:
    data = open_objects(world)
    assert len(data) == 5 and data.labels.tolist() == CLASSES and data.num_points == 16
    assert data.class_names == MANIFEST.classes("pc") and data.concepts == tuple((name,) for name in MANIFEST.classes("pc"))
    for index, (synset, name) in enumerate(SORTED):
        sample = data[index]
        assert sample["text_id"] == CLASSES[index] and sample["score"] == 1.0 and sample["index"] == index
        assert data.describe(index) == f"shapenet {synset}-{name}"
        red = sample["image"][0].unique() * 255
        assert red.round().tolist() == [MODELS.index((synset, name))], "the picture is the model's"
        assert sample["points"].shape == (16, 3) and sample["points"].dtype == torch.float32
        assert sample["points"].norm(dim=1).max() == pytest.approx(1, abs=1e-6)
    with pytest.raises(IndexError, match="index 5 is outside of 5 samples"):
        data[5]


def test_points_are_the_pairs_points_augmented_then_thinned(world: Path) -> None:
    """The pool is normalised before the changes; the slow twin draws with the same generators."""
    changes = [Scale(0.5, 2.0), Jitter()]
    data = open_objects(world, pool_points=30, augmentations=changes)
    pairs = ShapeNetPairs(world, 3, "train", num_points=30, image_size=24, cache=world / "cache")
    for index, epoch in ((0, 0), (3, 2)):
        pool = pairs[SampleKey(index, epoch)]["points"].numpy()
        rng = np.random.default_rng([3, epoch, index, 3])
        for change in changes:
            pool = change(pool, rng)
        expected = pool[rng.choice(30, size=16, replace=False)]
        assert np.array_equal(data[SampleKey(index, epoch)]["points"].numpy(), expected)
        assert torch.equal(data[SampleKey(index, epoch)]["image"], pairs[SampleKey(index, epoch)]["image"])
    whole = open_objects(world, num_points=40)[0]["points"]
    stored = torch.from_numpy(np.load(world / "shapenet" / "shapenet_pc" / "02691156-a1.npy"))
    assert torch.equal(whole, unit_sphere(stored))


def test_draws_depend_on_seed_epoch_and_model(world: Path) -> None:
    data, same, other = (open_objects(world, seed, augmentations=[Jitter()]) for seed in (3, 3, 4))
    assert torch.equal(data[SampleKey(2, 4)]["points"], same[SampleKey(2, 4)]["points"])
    assert torch.equal(data[2]["points"], data[SampleKey(2, 0)]["points"])
    for sample in (data[SampleKey(2, 5)], other[SampleKey(2, 4)], data[SampleKey(3, 4)], data[SampleKey(2, 4, 1)]):
        assert not torch.equal(sample["points"], data[SampleKey(2, 4)]["points"])
    some = open_objects(world, exclude=["airplane"])
    assert some.labels.tolist() == CLASSES[2:] and some.notes[-1] == "2 of 5 objects are left out: airplane are excluded."


def test_clip_names_the_models_and_leaves_out_what_it_may(world: Path) -> None:
    """Names of five models over three concepts: sure, unsure, sure, excluded, sure."""
    data = open_objects(world, names="names.txt", min_score=0.5, exclude_names=["couch"])
    assert data.concepts == (("airplane", "plane"), ("chair",), ("sofa", "couch")) and data.class_names == ("airplane", "chair", "sofa")
    before = data.labels
    data.set_names(share({0: 0.9}, {0: 0.45}, {1: 0.8}, {2: 0.7}, {1: 0.6}, width=3))
    assert len(data) == 3 and data.positions.tolist() == [0, 2, 4] and data.labels.tolist() == [0, 1, 1] and len(before) == 5
    assert [data[index]["text_id"] for index in range(3)] == [0, 1, 1] and data[2]["index"] == 2
    assert [data[index]["score"] for index in range(3)] == pytest.approx([0.9, 0.8, 0.6])
    assert data.describe(2) == "shapenet 04379243-t1"
    red = data[2]["image"][0].unique() * 255
    assert red.round().tolist() == [MODELS.index(("04379243", "t1"))], "picture and points are those of the model that is kept"
    assert data.notes[-1] == "2 of 5 objects are left out: uncertain or excluded names."
    assert data.agreement() == (2, 3), "an airplane and a chair; the table is called a chair"
    again = open_objects(world, names="names.txt")
    again.set_names(share({0: 0.9}, {0: 0.45}, {1: 0.8}, {2: 0.7}, {1: 0.6}, width=3))
    assert len(again) == 5 and again.agreement() == (3, 5)
    assert torch.equal(again[SampleKey(4, 1)]["points"], data[SampleKey(2, 1)]["points"]), "draws belong to the model, not to its place"


def test_models_named_by_a_distractor_are_left_out(world: Path) -> None:
    data = open_objects(world, names="distracted.yaml")
    data.set_names(share({0: 0.9}, {3: 0.9}, {1: 0.8}, {4: 0.5}, {2: 0.6}, width=5))
    assert data.positions.tolist() == [0, 2, 4] and data.labels.tolist() == [0, 1, 2]


def test_features_of_pictures_come_in_their_place(world: Path) -> None:
    """Unit length; the view is the one whose picture would have come."""
    def encode(images: Tensor) -> Tensor:
        return torch.stack([images[:, 0, 0, 0] * 255 + 1, images[:, 1, 0, 0] * 255 + 1], dim=1)

    data = open_objects(world, names="names.txt")
    data.pairs.image_features = cache_image_features(data.pairs, encode, clip_id="test", embed_dim=2, image_size=24, folder=world / "features")
    pictures = open_objects(world, names="names.txt")
    for seen in (data, pictures):
        seen.set_names(share({1: 0.9}, {2: 0.9}, {0: 0.9}, {1: 0.9}, {0: 0.9}, width=3))
    for index, epoch in ((0, 0), (2, 1), (4, 5)):
        sample, picture = data[SampleKey(index, epoch)], pictures[SampleKey(index, epoch)]
        assert "image" not in sample
        torch.testing.assert_close(sample["image_embed"], functional.normalize(encode(picture["image"][None])[0], dim=0))
        assert torch.equal(sample["points"], picture["points"])


def test_reader_processes_give_what_one_process_gives(world: Path) -> None:
    data = open_objects(world, names="names.txt", augmentations=[Jitter()])
    data.set_names(share({1: 0.9}, {2: 0.9}, {0: 0.9}, {1: 0.9}, {0: 0.9}, width=3))
    alone, shared = (list(DataLoader(data, batch_size=2, num_workers=workers, collate_fn=collate)) for workers in (0, 1))
    for one, other in zip(alone, shared, strict=True):
        assert one.keys() == other.keys() == {"points", "text_id", "score", "index", "instance", "image"}
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"num_points": 0}, InputError, "num_points must be at least 1, pool_points not smaller, min_score in .0, 1., got 0, 0 and 0"),
    ({"pool_points": 8}, InputError, "got 16, 8 and 0"),
    ({"min_score": 1.0}, InputError, "got 16, 16 and 1"),
    ({"names": "names.txt", "exclude_names": ["couch", "spaceship"]}, InputError, "exclude_names has 'spaceship', which is none of the 3 concepts"),
    ({"exclude_names": ["spaceship"]}, InputError, "exclude_names has 'spaceship', which is none of the 55 concepts"),
    ({"exclude_names": ["airplane", "chair", "table"]}, InputError, "none of 5 objects has a name that is asked for .*; lower min_score"),
    ({"exclude": ["plane"]}, InputError, "exclude has 'plane', which is none of the 55 classes of shapenet"),
    ({"names": "no_such.txt"}, DataNotFoundError, "no_such.txt: no such vocabulary file"),
    ({"split": "train:test"}, InputError, "has no split 'train:test'"),
    ({"split": "test"}, DataNotFoundError, "shapenet"),
])
def test_bad_arguments_are_one_line(options: dict[str, Any], error: type[Exception], message: str, world: Path) -> None:
    with pytest.raises(error, match=message) as caught:
        open_objects(world, **options)
    assert "\n" not in str(caught.value)


def test_names_that_do_not_fit_are_refused(world: Path) -> None:
    data = open_objects(world, names="distracted.yaml", min_score=0.5)
    for wrong in (torch.ones(5, 3) / 3, torch.ones(4, 5) / 5):
        with pytest.raises(InputError, match=rf"names of objects need probabilities \(5, 5\), got \({wrong.shape[0]}, {wrong.shape[1]}\)"):
            data.set_names(wrong)
    with pytest.raises(InputError, match="none of 5 objects has a name that is asked for with a probability of at least 0.5"):
        data.set_names(torch.ones(5, 5) / 5)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    root = write_world(tmp_path)
    (root / "shapenet" / "rendering" / "02691156_a1" / "3.png").write_bytes(b"no picture")
    data = open_objects(root)
    epoch = next(epoch for epoch in range(200) if np.random.default_rng([3, epoch, 0]).integers(10) == 3)  # the view is the first draw
    with pytest.raises(BadFileError, match="02691156_a1/3.png"):
        data[SampleKey(0, epoch)]
