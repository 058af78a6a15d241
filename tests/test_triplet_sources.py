"""Several sources of triplets as one training set: joined concepts, pictures of one CLIP, and what does not go together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shapenet_tree import SORTED, write_world
from small_clips import own_clip, register_small_clips
from torch import Tensor
from torch.nn import functional
from triplet_frames import about_vocabulary, make_frame, write_store

from clip2x.data.augmentations import Jitter
from clip2x.data.image_features import cache_image_features
from clip2x.data.samplers import SampleKey
from clip2x.data.triplets.dataset import TripletProxies
from clip2x.data.triplets.embeddings import CropEncoder
from clip2x.data.triplets.joined import JoinedTriplets, joined_concepts
from clip2x.data.triplets.store import TripletStore
from clip2x.data.triplets.tools import embed_proxies
from clip2x.encoders.checkpoint_parts import joined_mined
from clip2x.encoders.clip import ClipTowers
from clip2x.errors import InputError
from clip2x.evaluation.class_embeddings import class_embeddings
from clip2x.modules.triplet_sources import TripletSources
from clip2x.proxies.objects import ObjectTriplets
from clip2x.types import FrameTriplets

OTHER = (["sofa", "couch"], ["Traffic Cone"], ["automobile", "car"], ["train (railroad vehicle)"])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipTowers:
    folder = tmp_path_factory.mktemp("clip")
    register_small_clips(folder)
    return own_clip(folder / "clip.safetensors")


@pytest.fixture(scope="module")
def stores(clip: ClipTowers, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two stores with embeddings of the CLIP; the first is named by [chair, car, traffic_cone, night stand], the second by other concepts."""
    root = tmp_path_factory.mktemp("stores")
    for name, numbers, about in (("one", range(6), None), ("two", range(20, 26), about_vocabulary("second", *OTHER))):
        write_store(root / name, [make_frame(number) for number in numbers], about)
        embed_proxies(root / name, CropEncoder.of(clip))
    return root / "one", root / "two"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_world(tmp_path_factory.mktemp("objects"))
    (root / "names.txt").write_text("airplane | plane\nchair\nsofa | couch\ntable\n")
    return root


def join(*folders: Path, **options: Any) -> JoinedTriplets:
    return JoinedTriplets(Path(), 0, list(folders), **{"num_points": 8, **options})


def objects(root: Path, **options: Any) -> Any:
    return lambda _, seed: ObjectTriplets(root, seed, **{"split": "train", "num_points": 8, "image_size": 32, "cache": root / "cache", **options})


def sources(train: Any, val: Any, clip: ClipTowers, images: bool = True) -> TripletSources:
    return TripletSources(train, val, clip, images=images)


# Concepts ------------------------------------------------------------------------------------------------------------------------------------

def test_concepts_are_joined_by_hand() -> None:
    first = (("chair",), ("car", "motorcar"), ("traffic_cone", "cone"), ("bow", "weapon"))
    second = (("Traffic Cone",), ("automobile", "car"), ("knot", "weapon"), ("cone",), ("lamp",))
    concepts, ids = joined_concepts([first, second])
    assert concepts == (("chair",), ("car", "motorcar", "automobile"), ("traffic_cone", "cone"), ("bow", "weapon"), ("knot", "weapon"), ("lamp",))
    assert [part.tolist() for part in ids] == [[0, 1, 2, 3], [2, 1, 4, 2, 5]]
    assert joined_concepts([first])[0] == first and joined_concepts([first, first])[0] == first


def test_concepts_of_one_source_stay_apart() -> None:
    """`cone` of the second list is a name of its own there; nothing in the list joins it with `traffic cone`."""
    concepts, ids = joined_concepts([(("bus",),), (("traffic cone", "cone"), ("cone", "geometric body"))])
    assert concepts == (("bus",), ("traffic cone", "cone"), ("cone", "geometric body")) and ids[1].tolist() == [1, 2]


def test_a_third_source_joins_what_the_second_brought() -> None:
    concepts, ids = joined_concepts([(("a",),), (("b", "bb"),), (("bb",), ("A",), ("c", "b"))])
    assert concepts == (("a",), ("b", "bb", "c")) and ids[2].tolist() == [1, 0, 1]


# Samples -------------------------------------------------------------------------------------------------------------------------------------

def test_samples_come_one_source_behind_the_other_with_the_ids_of_all(stores: tuple[Path, Path], world: Path) -> None:
    data = join(*stores, objects=objects(world), augmentations=[Jitter()], repeat=2)
    parts = [TripletProxies(Path(), 0, store, num_points=8, augmentations=[Jitter()], repeat=2) for store in stores]
    models = ObjectTriplets(world, 0, split="train", num_points=8, image_size=32, cache=world / "cache")
    assert len(data) == sum(map(len, parts)) + 5 and data.num_points == 8
    assert data.class_names[:6] == ("chair", "car", "traffic_cone", "night stand", "sofa", "train (railroad vehicle)")
    assert data.concepts[1] == ("car", "motorcar", "automobile") and data.concepts[2] == ("traffic_cone", "cone")
    index = 0
    for part in (*parts, models):
        for own in range(len(part)):
            sample, expected = data[SampleKey(index, 3)], part[SampleKey(own, 3)]
            assert torch.equal(sample["points"], expected["points"]) and sample["score"] == expected["score"] and sample["index"] == index
            first = part.class_names[expected["text_id"]]
            assert {name.replace("_", " ").casefold() for name in data.concepts[sample["text_id"]]} >= {first.replace("_", " ").casefold()}
            assert data.labels[index] == sample["text_id"] and data.describe(index) == part.describe(own)
            index += 1
    assert torch.equal(data[4]["points"], data[SampleKey(4, 0)]["points"])
    assert torch.equal(data[SampleKey(4, 2, 1)]["points"], parts[0][SampleKey(4, 2, 1)]["points"]), "the draw reaches the parts"
    instances = [data[index]["instance"] for index in range(len(data))]
    number = len(parts[0]) // 2
    assert instances[:number] == instances[number : 2 * number] and len(set(instances)) == len(parts[0]) // 2 + len(parts[1]) // 2 + 5
    for outside in (-1, len(data)):
        with pytest.raises(IndexError):
            data[outside]


def test_settings_reach_every_store(stores: tuple[Path, Path], tmp_path: Path) -> None:
    data = join(*stores, min_score=0.5, num_points=4)
    wanted = [int((TripletStore(store).scores >= 0.5).sum()) for store in stores]
    assert [len(part) for part in data.parts] == wanted
    assert len(data.notes) == 2 and all("triplets are left out." in note for note in data.notes)
    assert [len(part) for part in join(*stores, limit=3).parts] == [3, 3]


def test_sources_that_cannot_be_joined(stores: tuple[Path, Path], world: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="JoinedTriplets needs at least one source: stores of triplets, or objects"):
        join()
    with pytest.raises(InputError, match="triplets that are read as one need the same num_points, got 8, 9"):
        join(stores[0], objects=objects(world, num_points=9))
    silent = write_store(tmp_path / "silent", [make_frame(0)], {key: value for key, value in about_vocabulary("x", ["chair"]).items()
                                                                if key != "vocabulary"})
    with pytest.raises(InputError, match="silent: a store that does not state its vocabulary cannot be trained on; collect it again"):
        join(silent.folder)


# What is trained on --------------------------------------------------------------------------------------------------------------------------

def test_pictures_are_the_embeddings_of_this_clip(stores: tuple[Path, Path], clip: ClipTowers) -> None:
    train, val = join(stores[0], limit=6), join(stores[0], limit=2)
    assert "image_embed" not in train[0]
    found = sources(train, val, clip)
    store = TripletStore(stores[0])
    for index in (0, 5):
        image = store.image(int(train.parts[0].positions[index]), clip.image_size)
        expected = functional.normalize(clip.encode_image(image[None])[0], dim=0)
        assert (train[index]["image_embed"] - expected).abs().max() < 2e-3, "they are stored in 16 bits"
    assert found.mined == joined_mined(train.parts[0].mined(), val.parts[0].mined()) and "image_embed" in val[0]
    without = join(stores[0])
    sources(without, join(stores[0], limit=2), clip, images=False)
    assert "image_embed" not in without[0], "nothing is read for a loss without pictures"


def test_texts_are_names_as_people_say_them(tmp_path: Path, clip: ClipTowers) -> None:
    """A qualifier is left out unless two concepts share the word."""
    about = about_vocabulary("lvis", ["bow (weapon)"], ["bow (decorative ribbons)"], ["train (railroad vehicle)"], ["night stand"])
    frames = [replace(make_frame(number), triplets=tuple(replace(item, text_id=3 * (item.text_id // 2)) for item in make_frame(number).triplets))
              for number in range(4)]
    data = join(write_store(tmp_path / "s", frames, about).folder)
    found = sources(data, data, clip, images=False)
    assert found.texts == ["bow (weapon)", "bow (decorative ribbons)", "train", "night stand"]
    assert found.present_names == ["bow (weapon)", "night stand"]


def test_the_hash_tells_what_is_trained_on(stores: tuple[Path, Path], world: Path, clip: ClipTowers) -> None:
    def of(*folders: Path, **options: Any) -> str:
        return sources(join(*folders, **options), join(*folders, **{**options, "limit": 2}), clip, images=False).sha256

    other_names = world / "other.txt"
    other_names.write_text("airplane\nchair\n")
    hashes = [of(stores[0]), of(stores[1]), of(*stores), of(stores[0], min_score=0.5), of(stores[0], exclude=["chair"]), of(stores[0], repeat=2),
              of(stores[0], objects=objects(world)), of(stores[0], objects=objects(world, exclude=["chair"])),
              *(of(stores[0], objects=objects(world, vocabulary=str(names))) for names in (world / "names.txt", other_names))]
    assert len(set(hashes)) == len(hashes) and of(stores[0]) == hashes[0]


def test_the_hash_does_not_wait_for_the_names_of_models(world: Path, clip: ClipTowers) -> None:
    """A run that goes on compares it with its checkpoint's before it names them."""
    train = join(objects=objects(world, vocabulary=str(world / "names.txt")))
    found = sources(train, join(objects=objects(world, vocabulary=str(world / "names.txt"), exclude=["table"])), clip, images=False)
    before = found.sha256
    train.parts[0].set_names(torch.eye(4)[[0, 1, 1, 2, 3]])
    train.refresh()
    assert found.sha256 == before


def named(found: TripletSources, folder: Path | None, calls: list[int] | None = None) -> None:
    def encode(images: Tensor) -> Tensor:
        if calls is not None:
            calls.append(len(images))
        return found.clip.encode_image(images)

    found.name_objects(None if folder is None else lambda pairs: cache_image_features(
        pairs, encode, clip_id=found.clip.id, embed_dim=found.clip.embed_dim, image_size=found.clip.image_size, folder=folder))


def test_clip_names_models_by_all_their_pictures(world: Path, clip: ClipTowers, tmp_path: Path) -> None:
    """Against the definition: softmax at CLIP's scale of the mean unit feature of the ten views over the names in the template for naming."""
    def both() -> list[JoinedTriplets]:
        return [join(objects=objects(world, vocabulary=str(world / "names.txt"), exclude=left_out))
                for left_out in (["table"], ["chair", "airplane"])]

    train, val = both()
    found, calls = sources(train, val, clip), list[int]()
    named(found, tmp_path / "features", calls)
    texts = class_embeddings(clip, ["airplane", "chair", "sofa", "table"], ["a photo of a {}"])
    for data, models in ((train, SORTED[:4]), (val, SORTED[4:])):
        part = data.parts[0]
        assert len(part) == len(data) == len(models)
        for index in range(len(models)):
            views = torch.stack([part.pairs.picture(index, view) for view in range(10)])
            embed = functional.normalize(functional.normalize(clip.encode_image(views), dim=-1).mean(dim=0), dim=0)
            shares = (clip.logit_scale * texts @ embed).softmax(dim=0)
            assert data.labels[index] == data[index]["text_id"] == int(shares.argmax())
            assert data[index]["score"] == pytest.approx(float(shares.max()), abs=1e-4)
    assert sum(calls) == 50 and found.notes[0].startswith("train: 4 of 4 models are used, ")
    assert data.labels.tolist() == [data[index]["text_id"] for index in range(len(data))]
    again = sources(*both(), clip)
    named(again, tmp_path / "features", calls)
    assert sum(calls) == 50 and again.train_set.labels.tolist() == train.labels.tolist(), "kept features are read"


def test_models_named_by_their_class_keep_their_names(world: Path, clip: ClipTowers, tmp_path: Path) -> None:
    train, val = (join(objects=objects(world, exclude=left_out)) for left_out in (["table"], ["chair", "airplane"]))
    found = sources(train, val, clip)
    before = train.labels.tolist()
    named(found, tmp_path / "features")
    assert train.labels.tolist() == before and found.notes == [] and "image_embed" in train[0]
    with pytest.raises(InputError, match="model.image_feature_cache is needed with ObjectTriplets: a folder"):
        named(found, None)


# What does not go together -------------------------------------------------------------------------------------------------------------------

def test_other_data_sets_are_refused(stores: tuple[Path, Path], clip: ClipTowers) -> None:
    data = join(stores[0])
    with pytest.raises(InputError, match="data.train must be JoinedTriplets for this stage, got TripletProxies"):
        sources(data.parts[0], data, clip)
    with pytest.raises(InputError, match="data.val must be JoinedTriplets for this stage, got NoneType"):
        sources(data, None, clip)
    with pytest.raises(InputError, match="data.train has 4 concepts and data.val 6 others; give both the same sources in the same order"):
        sources(data, join(*stores), clip)


def test_vocabularies_of_one_name_must_be_one(stores: tuple[Path, Path], clip: ClipTowers, tmp_path: Path) -> None:
    changed = write_store(tmp_path / "changed", [make_frame(40)], about_vocabulary("second", *OTHER, ["new"], sha256="11" * 32)).folder
    with pytest.raises(InputError, match="changed and .*two were named by two vocabularies 'second' with different hashes .1{12} and 00.; collect"):
        sources(join(stores[1], changed), join(stores[1], changed), clip, images=False)


def cropless(frame: FrameTriplets) -> FrameTriplets:
    return replace(frame, triplets=tuple(replace(item, crop=b"") for item in frame.triplets))


def test_pictures_that_are_not_there(stores: tuple[Path, Path], clip: ClipTowers, tmp_path: Path, world: Path) -> None:
    """No embeddings at all, those of another CLIP, of another length, crops of another size, some of each kind."""
    bare = write_store(tmp_path / "bare", [cropless(make_frame(0))]).folder
    with pytest.raises(InputError, match=r"bare has no image embeddings of '.*sha256:.*' \(there are: none\); compute them with embed-proxies"):
        sources(join(bare), join(bare), clip)
    sources(join(bare), join(bare), clip, images=False)
    other = ClipTowers(clip.model_id, random_weights=True)
    with pytest.raises(InputError, match=r"one has no image embeddings of '.*random:0' \(there are: .*sha256:.* \(32 px\)\)"):
        sources(join(stores[0]), join(stores[0]), other)
    index = tmp_path / "long"
    write_store(index, [make_frame(0)])
    embed_proxies(index, replace_dim(CropEncoder.of(clip)))
    with pytest.raises(InputError, match="long has image embeddings of length 16, this CLIP has 32; compute them again with embed-proxies"):
        sources(join(index), join(index), clip)
    with pytest.raises(InputError, match="crops are read at 16 pixels, this CLIP takes 32; set image_size to that, or leave it out"):
        sources(join(stores[0], image_size=16), join(stores[0]), clip)
    with pytest.raises(InputError, match="some sources give pictures and others embeddings: leave image_size out of all stores, or train without"):
        sources(*(join(stores[0], image_size=32, objects=objects(world)),) * 2, clip)
    with pytest.raises(InputError, match="pictures are read at 24 x 24 pixels, this CLIP takes 32 x 32"):
        sources(*(join(stores[0], objects=objects(world, image_size=24)),) * 2, clip)


def test_without_an_image_term_no_source_gives_pictures(stores: tuple[Path, Path], clip: ClipTowers, world: Path, tmp_path: Path) -> None:
    """Models whose pictures are kept, named by CLIP, a store whose crops were asked for: batches have the same keys, whatever comes first."""
    data = [join(stores[0], image_size=32, objects=objects(world, vocabulary=str(world / "names.txt"), exclude=left_out))
            for left_out in (["table"], ["chair", "airplane"])]
    named(sources(*data, clip, images=False), tmp_path / "features")
    for index in (0, len(data[0]) - 1):
        assert data[0][index].keys() == {"points", "text_id", "score", "index", "instance"}


def replace_dim(encoder: CropEncoder) -> CropEncoder:
    return replace(encoder, encode=lambda images: encoder.encode(images)[:, :16], embed_dim=16)


def checked(train: JoinedTriplets, val: JoinedTriplets, clip: ClipTowers, unseen: Sequence[str] = (), text_term: bool = True) -> TripletSources:
    found = sources(train, val, clip, images=False)
    found.check(text_term=text_term, unseen_names=list(unseen))
    return found


def test_one_name_only_has_no_text_negatives(stores: tuple[Path, Path], clip: ClipTowers) -> None:
    train, val = join(stores[0], exclude=["car", "cone", "night stand"]), join(stores[0], exclude=["chair"])
    with pytest.raises(InputError, match=f"all {len(train)} triplets have the text 'chair', so texts have no negatives; add data with"):
        checked(train, val, clip)
    assert checked(train, val, clip, text_term=False).present_names == ["chair"]


def test_names_that_were_to_be_kept_out(stores: tuple[Path, Path], clip: ClipTowers) -> None:
    """By any of their names; those that do not occur are fine."""
    train, val = join(stores[0], exclude=["car"]), join(stores[0], exclude=["chair", "cone", "night stand"])
    for unseen in (["CHAIR"], ["lamp", "Night-Stand"], ["cone"]):
        with pytest.raises(InputError, match="model.unseen_names has (chair|night stand|traffic_cone), which the training data has too"):
            checked(train, val, clip, unseen)
    assert checked(train, val, clip, ["lamp"]).notes == train.notes
    with pytest.raises(InputError, match="model.unseen_names has car, which the data that chooses the checkpoint has too; exclude them there"):
        checked(train, val, clip, ["motorcar", "lamp"])


@pytest.mark.parametrize("kind", ["triplets", "models"])
def test_what_chooses_is_not_trained_on(kind: str, stores: tuple[Path, Path], world: Path, clip: ClipTowers) -> None:
    if kind == "triplets":
        train, val, first = join(stores[0]), join(stores[0], limit=2), "one"
    else:
        train, val, first = join(objects=objects(world)), join(objects=objects(world, exclude=["chair"])), "shapenet 02691156-a1"
    with pytest.raises(InputError, match=rf"[23] triplets are in data.train and in data.val, which chooses .*, first .*{first}.*part: fit"):
        checked(train, val, clip)


def test_a_store_that_changed_is_told_by_its_index(stores: tuple[Path, Path], clip: ClipTowers, tmp_path: Path) -> None:
    """The hashes of the shards stand in the index; other points are other data."""
    moved = [replace(make_frame(number), triplets=tuple(replace(item, points=item.points + np.float32(1)) for item in make_frame(number).triplets))
             for number in range(6)]
    write_store(tmp_path / "moved", moved)
    one, other = (sources(join(folder), join(folder), clip, images=False).sha256 for folder in (stores[0], tmp_path / "moved"))
    assert one != other and json.loads((tmp_path / "moved" / "index.json").read_text())["complete"]
