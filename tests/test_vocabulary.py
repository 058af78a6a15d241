"""Lists of concepts: what comes with clip2x, files of one's own, names in their many spellings, and lists that are refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.manifest import load_manifest, manifest_folder
from clip2x.miniworld.captions import OTHER_NAMES
from clip2x.miniworld.objects import CLASS_NAMES
from clip2x.proxies.vocabulary import TEMPLATES, Vocabulary, load_vocabulary, vocabulary_names

# Names of COCO's 80 categories for which LVIS has no name: a hot dog is neither its sausage nor its bun.
COCO_WITHOUT_LVIS = {"hot dog"}


@pytest.fixture(scope="module")
def lvis() -> Vocabulary:
    return load_vocabulary("lvis")


def test_lvis_has_1203_concepts_in_lvis_order(lvis: Vocabulary) -> None:
    assert len(lvis) == 1203
    assert [lvis.name_of(position) for position in (0, 2, 206, 792, 1202)] == ["aerosol can", "airplane", "car (automobile)", "person", "zucchini"]
    assert sum(len(names) for names in lvis.concepts) == 1826
    assert not [name for names in lvis.concepts for name in names if "_" in name or name != name.strip()]


def test_evaluation_names_are_no_prompts_of_lvis(lvis: Vocabulary) -> None:
    """Names that LVIS lacks stay out of what a detector or a text encoder is given; as words of a file they may be understood."""
    spoken = {lvis.spoken(name).casefold() for names in lvis.concepts for name in names}
    assert not {"night stand", "construction vehicle", "barrier", "trailer", "pedestrian", "bookshelf"} & spoken
    assert lvis.id_of("night stand") is None and lvis.name_of(lvis.id_of("pedestrian") or -1) == "person"


@pytest.mark.parametrize(("word", "name"), [
    ("car", "car (automobile)"), ("CAR_(automobile)", "car (automobile)"), ("train", "train (railroad vehicle)"),
    ("mouse", "mouse (computer equipment)"), ("cell phone", "cellular telephone"), ("wine_glass", "wineglass"), ("tv", "television set"),
    ("fish", "fish"), ("Band-Aid", "Band Aid"), ("computer monitor", "monitor (computer equipment)"), ("skis", "ski"), ("bow-tie", "bow-tie"),
])
def test_id_of_understands_spellings_qualifiers_and_aliases(lvis: Vocabulary, word: str, name: str) -> None:
    found = lvis.id_of(word)
    assert found is not None and lvis.name_of(found) == name


@pytest.mark.parametrize("word", ["bow", "octopus", "", "unicorn", "(fruit)"])
def test_id_of_finds_nothing_for_unknown_and_ambiguous_words(lvis: Vocabulary, word: str) -> None:
    assert lvis.id_of(word) is None


def test_qualifiers_are_spoken_only_where_they_tell_concepts_apart(lvis: Vocabulary) -> None:
    assert lvis.text_of(206) == lvis.text_of(np.int64(206)) == "point cloud of car"
    assert lvis.prompts("detector", ["bow (weapon)", "orange (fruit)"]) == ["a photo of a bow (weapon)", "a photo of a orange"]
    spoken = [lvis.spoken(names[0]) for names in lvis.concepts]
    assert len(set(spoken)) == len(spoken)
    assert [lvis.id_of(word) for word in spoken] == list(range(len(lvis)))


@pytest.mark.data
def test_79_of_80_coco_names_find_an_lvis_concept(lvis: Vocabulary, shared_data: Path) -> None:
    categories = json.loads((shared_data / "detections" / "nuscenes_yolox_nano.json").read_text())["categories"]
    assert len(categories) == 80
    assert {entry["name"] for entry in categories if lvis.id_of(entry["name"]) is None} == COCO_WITHOUT_LVIS


def test_mini_is_what_the_mini_world_generates() -> None:
    mini = load_vocabulary("mini")
    assert mini.concepts == tuple((name, *OTHER_NAMES.get(name, ())) for name in CLASS_NAMES)
    assert mini.distractors == () and mini.aliases == {}


def test_every_shipped_list_loads_and_names_its_licence() -> None:
    assert vocabulary_names() == ["lvis", "mini"]
    for name in vocabulary_names():
        raw = yaml.safe_load((manifest_folder() / "vocabularies" / f"{name}.yaml").read_text())
        assert raw["name"] == name and raw["licence"]["spdx"] in ("CC-BY-4.0", "MIT") and raw["source"]["home"]
        assert len(load_vocabulary(name)) == len(raw["concepts"])


def test_a_manifests_classes_are_a_vocabulary() -> None:
    listed = load_vocabulary("manifest:nuscenes")
    assert [names[0] for names in listed.concepts] == list(load_manifest("nuscenes").class_names)
    variant = list(load_manifest("sunrgbd").variants)[1]
    assert [names[0] for names in load_vocabulary(f"manifest:sunrgbd/{variant}").concepts] == list(load_manifest("sunrgbd").classes(variant))
    with pytest.raises(InputError, match="no manifest is called 'cats'"):
        load_vocabulary("manifest:cats")


def test_text_files_hold_a_concept_per_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\ufeffcar | automobile  # four wheels\n\n# nothing\nspace   ship\n", encoding="utf-8")
    mine = load_vocabulary(path)
    assert mine.concepts == (("car", "automobile"), ("space ship",)) and mine.name == "mine" and mine.templates == TEMPLATES
    assert mine.id_of("Spaceship") == 1 and mine.text_of(1) == "point cloud of space ship"


def test_yaml_files_may_leave_out_all_but_the_concepts(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text('concepts: ["car", ["bus", "coach"]]\ndistractors: ["wall"]\ntemplates: {naming: ["a {}", "one {}"]}\naliases: {"auto": "car"}\n')
    mine = load_vocabulary(str(path))
    assert mine.concepts == (("car",), ("bus", "coach")) and mine.distractors == ("wall",) and mine.id_of("auto") == 0
    assert mine.prompts("naming", ["bus", "coach"]) == ["a bus", "one bus", "a coach", "one coach"]
    assert mine.templates["text"] == TEMPLATES["text"]
    with pytest.raises(InputError, match="no templates 'caption'; it has text, detector, naming"):
        mine.prompts("caption", ["bus"])


def test_the_hash_follows_what_boxes_are_named_by(lvis: Vocabulary) -> None:
    base = Vocabulary("a", "here", (("car",), ("bus",)))
    assert base.sha256 == Vocabulary("b", "there", (("car",), ("bus",))).sha256 == base.describe()["sha256"]
    others = [replace(base, concepts=(("bus",), ("car",))), replace(base, distractors=("wall",)), replace(base, aliases={"auto": "car"}),
              replace(base, templates={**TEMPLATES, "text": ("a {}",)}), replace(base, concepts=(("car", "bus"),))]
    assert len({base.sha256, *(other.sha256 for other in others)}) == 6
    assert json.loads(json.dumps(lvis.describe()))["concepts"][206] == ["car (automobile)", "auto (automobile)", "automobile"]
    assert pickle.loads(pickle.dumps(lvis)).id_of("zebra") == lvis.id_of("zebra")


@pytest.mark.parametrize(("content", "message"), [
    ("concepts: []", "holds no concept"),
    ("concepts: {a: b}", "must be a mapping with the list `concepts`"),
    ("[a, b]", "must be a mapping with the list `concepts`"),
    ("concepts: [[on, off]]", "concept 0 holds True, which is no text; quote it"),
    ("concepts: [car, 7]", "concept 1 holds 7, which is no text"),
    ("concepts: [car, []]", "concept 1 has no name"),
    ("concepts: [car, [bus, ' _ ']]", "has an empty name"),
    ("concepts: [car, bus, [tram, Car]]", "'Car' stands for concept 0 ('car') and for concept 2 ('tram')"),
    ("concepts: [fire truck, [engine, fire_truck]]", "'fire_truck' stands for concept 0 ('fire truck') and for concept 1"),
    ("concepts: [[car, car]]", "has a name twice"),
    ("concepts: [car]\ndistractors: [Car]", "the distractor 'Car' is a name of a concept"),
    ("concepts: [car]\naliases: {auto: bus}", "the alias 'auto' stands for 'bus', which is no name of a concept"),
    ("concepts: [car, bus]\naliases: {car: bus}", "the alias 'car' is a name already, of concept 0"),
    ("concepts: [car]\naliases: {no: car}", "a key of aliases holds False"),
    ("concepts: [car]\ntemplates: {text: [a photo]}", "a template of text is 'a photo'; it needs exactly one {}"),
    ("concepts: [car]\ntemplates: {text: []}", "a template of text is ''"),
    ("concepts: [car]\ntemplates: [a]", "templates must be a mapping"),
    ("concepts: [car]\nclasses: [a]", "unknown key 'classes'"),
    ("concepts: [car", "not a readable YAML file"),
])
def test_lists_that_could_mean_two_things_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(BadFileError) as error:
        load_vocabulary(path)
    assert message in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no vocabulary is called 'coco'; there are lvis, mini; or give a \.yaml or \.txt file"):
        load_vocabulary("coco")
    with pytest.raises(DataNotFoundError, match="no such vocabulary file"):
        load_vocabulary(tmp_path / "none.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00car")
    with pytest.raises(BadFileError, match="not a readable UTF-8 text file"):
        load_vocabulary(tmp_path / "binary.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(BadFileError, match="holds no concept"):
        load_vocabulary(tmp_path / "empty.txt")
