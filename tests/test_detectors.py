"""Boxes from files of other programs, and boxes named by CLIP."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clip2x.encoders.clip import ClipTowers
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.proxies.detectors import CocoDetections, Picture, ProposalsNamedByClip, alone
from clip2x.proxies.suppression import Suppression
from clip2x.proxies.vocabulary import Vocabulary, load_vocabulary

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}
NAMES = Vocabulary("colours", "tests", (("red", "crimson"), ("green",)), distractors=("blue",))
PLAIN: dict[str, Any] = {"margins": (0.0,), "mirrored": False, "shape": "stretched"}


def picture(key: str = "samples/CAM_FRONT/a.jpg", width_px: int = 200, height_px: int = 100, rgb: Any = None) -> Picture:
    return Picture(key, Path(key), width_px, height_px, rgb)


def coco(boxes: Sequence[tuple[Any, ...]] = (), **changes: Any) -> dict[str, Any]:
    """A file with two pictures and the categories `red` (7) and `ghost` (9); boxes are (picture id, category id, bbox, score)."""
    return {
        "images": [{"id": 1, "file_name": "samples/CAM_FRONT/a.jpg", "width": 200, "height": 100},
                   {"id": "two", "file_name": "./samples/CAM_FRONT/b.jpg"}],
        "categories": [{"id": 7, "name": "Red"}, {"id": 9, "name": "ghost"}],
        "annotations": [{"image_id": image, "category_id": category, "bbox": bbox, "score": score} for image, category, bbox, score in boxes],
        **changes,
    }


def write(folder: Path, content: Any, name: str = "found.json") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def detect(files: Any, *pictures: Picture, **options: Any) -> list[Any]:
    detector = CocoDetections(files, **options)
    detector.prepare(NAMES)
    return detector(pictures or [picture()])


def test_boxes_become_corners_and_categories_concepts(tmp_path: Path) -> None:
    file = write(tmp_path, coco([(1, 7, [10, 20, 30, 40], 0.5), (1, 7, [100, 20, 30, 40], 0.75)]))
    found = detect(file, picture(), picture("samples/CAM_FRONT/b.jpg"))
    assert found[0].detections.box_px.tolist() == [[100, 20, 130, 60], [10, 20, 40, 60]]
    assert found[0].detections.concept_id.tolist() == [0, 0] and found[0].detections.score.tolist() == [0.75, 0.5]
    assert found[0].rules == Counter({"boxes": 2}) and len(found[1].detections) == 0 and not found[1].rules


def test_what_is_dropped_is_counted(tmp_path: Path) -> None:
    boxes = [(1, 7, [10, 20, 30, 40], 0.5), (1, 9, [60, 20, 30, 40], 0.5), (1, 7, ["NaN", 0, 20, 20], 0.5), (1, 7, [0, 0, 20, 20], "NaN"),
             (1, 7, [300, 20, 30, 40], 0.5), (1, 7, [10, 20, 0, 40], 0.5), (1, 7, [10, 20, -5, 40], 0.5)]
    found = detect(write(tmp_path, json.dumps(coco(boxes)).replace('"NaN"', "NaN")), picture(), picture("samples/CAM_FRONT/c.jpg"))
    assert found[0].rules == Counter({"boxes": 7, "name is in no vocabulary": 1, "box is not a number": 2, "box outside the picture": 1,
                                      "box without area": 2})
    assert len(found[0].detections) == 1
    assert found[1].rules == Counter({"picture is in no detection file": 1}) and len(found[1].detections) == 0


def test_bare_results_take_their_pictures_from_another_file(tmp_path: Path) -> None:
    about = coco()
    del about["annotations"]
    images = write(tmp_path, about, "images.json")
    rows = coco([(1, 7, [10, 20, 30, 40], 0.5), ("two", 7, [1, 2, 30, 40], 0.25)])["annotations"]
    first, second = write(tmp_path, rows[:1], "rank0.json"), write(tmp_path, rows[1:], "rank1.json")
    answers = detect([first, second], picture(), picture("samples/CAM_FRONT/b.jpg"), images=images)
    assert [answer.detections.box_px.tolist() for answer in answers] == [[[10, 20, 40, 60]], [[1, 2, 31, 42]]]
    with pytest.raises(BadFileError, match=r"a bare list of results does not name its pictures; .*detector\.images"):
        CocoDetections(first)
    with pytest.raises(BadFileError, match="must be a mapping with `images` and `categories`, found a list"):
        CocoDetections(first, images=second)


def test_several_files_for_one_picture_are_joined(tmp_path: Path) -> None:
    files = [write(tmp_path, coco([(1, 7, [10 + 50 * number, 20, 30, 40], 0.5)]), f"{number}.json") for number in range(2)]
    assert len(detect(files)[0].detections) == 2
    other = coco()
    other["images"][0]["width"] = 400
    with pytest.raises(BadFileError, match=r"400 x 100 pixels there and 200 x 100 in .*0\.json"):
        detect([files[0], write(tmp_path, other)])


def test_longer_paths_in_the_file_are_understood(tmp_path: Path) -> None:
    content = coco([(1, 7, [10, 20, 30, 40], 0.5)])
    content["images"][0]["file_name"] = r"D:\data\nuscenes\samples\CAM_FRONT\a.jpg"
    file = write(tmp_path, content)
    assert len(detect(file)[0].detections) == 1
    assert detect(file, picture("a.jpg"))[0].rules == Counter({"boxes": 1})  # a picture that lies in the data set's folder itself
    assert "picture is in no detection file" in detect(file, picture("CAM_BACK/a.jpg"))[0].rules
    content["images"][1]["file_name"] = "other/samples/CAM_FRONT/a.jpg"
    with pytest.raises(BadFileError, match="could both be 'samples/CAM_FRONT/a.jpg'"):
        detect(write(tmp_path, content))


def test_another_size_of_the_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="is 200 x 100 pixels there, the picture has 400 x 200; detect on the pictures as they are"):
        detect(write(tmp_path, coco()), picture(width_px=400, height_px=200))


def test_unknown_names_can_be_refused_and_are_if_all_are(tmp_path: Path) -> None:
    file = write(tmp_path, coco([(1, 9, [60, 20, 30, 40], 0.5)]))
    with pytest.raises(InputError, match="1 of the 2 category names are not known to the vocabulary colours, first 'ghost'"):
        detect(file, unknown_names="refused")
    with pytest.raises(InputError, match="2 of the 2 category names are not known to the vocabulary other, first 'Red'; use another"):
        CocoDetections(file).prepare(Vocabulary("other", "tests", (("car",),)))
    ignored = CocoDetections(file, categories="ignored")  # no name is looked at
    assert ignored([picture()])[0].detections.concept_id.tolist() == [-1]


def test_pictures_of_files_and_frames_are_compared(tmp_path: Path) -> None:
    detector = CocoDetections(write(tmp_path, coco()))
    keys = ["samples/CAM_FRONT/a.jpg", "samples/CAM_FRONT/c.jpg", "samples/CAM_FRONT/d.jpg"]
    assert detector.check_pictures(keys) == Counter({"picture is in no detection file": 2, "picture of a detection file is in no frame": 1})
    assert detector.check_pictures(["samples/CAM_FRONT/a.jpg", "samples/CAM_FRONT/b.jpg"]) == Counter()
    with pytest.raises(InputError, match=r"none of the 2 pictures is named there; .* like 'samples/CAM_FRONT/c.jpg', but the first is 'samples/C"):
        detector.check_pictures(keys[1:])


def replaced(path: str, value: Any) -> dict[str, Any]:
    """The file with one value changed; `path` is like annotations.0.score."""
    content = coco([(1, 7, [10, 20, 30, 40], 0.5)])
    *parents, last = path.split(".")
    place: Any = content
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    place[int(last) if last.isdigit() else last] = value
    return content


@pytest.mark.parametrize(("content", "message"), [
    ("{", "not a whole JSON file"), ("7", "must be COCO detections"), (coco()["images"], "bare list of results"),
    (replaced("annotations.0.score", None), "detection 0 has the score None; it must be from 0 to 1 (annotations by people have none)"),
    (replaced("annotations.0.score", 95), "detection 0 has the score 95"), (replaced("annotations.0.score", -0.1), "has the score -0.1"),
    (replaced("annotations.0.score", True), "has the score True"),
    (replaced("annotations.0.bbox", [1, 2, 3]), "detection 0 has the bbox [1, 2, 3]; it must be [left, top, width, height]"),
    (replaced("annotations.0.bbox", [1, 2, 3, "4"]), "detection 0 has the bbox"),
    (replaced("annotations.0.bbox", [1, 2, 3, 10**400]), "has the bbox"),
    (replaced("annotations.0.image_id", 5), "detection 0 has the image_id 5, which is not among the 2 images"),
    (replaced("annotations.0.image_id", []), "has the image_id []"),
    (replaced("annotations.0.category_id", 0), "detection 0 has the category_id 0, which is not among the 2 categories"),
    (replaced("annotations.0", 3), "detection 0 is no mapping"), (replaced("annotations", {}), "has no list `annotations`"),
    (replaced("images", {}), "has no list `images`"), (replaced("categories", None), "has no list `categories`"),
    (replaced("images.1.id", 1), "two entries of images have the id 1"),
    (replaced("images.1.file_name", ""), "entry 1 of images needs an id and a text"),
    (replaced("images.1.file_name", "samples/CAM_FRONT/a.jpg"), "two entries of images have the same file_name"),
    (replaced("categories.0", {"id": 7}), "entry 0 of categories needs an id and a text 'name'"),
    (coco(images=[]), "names no picture"),
])
def test_broken_files_are_refused_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(BadFileError) as error:
        CocoDetections(write(tmp_path, content))
    assert message in str(error.value) and "found.json" in str(error.value) and "\n" not in str(error.value)


def test_files_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="no such file of detections"):
        CocoDetections(str(tmp_path / "none.json"))
    with pytest.raises(InputError, match="names no file"):
        CocoDetections([])


def test_describe_follows_the_files_content(tmp_path: Path) -> None:
    first = CocoDetections(write(tmp_path, coco())).describe()
    again = CocoDetections(write(tmp_path, coco())).describe()
    other = CocoDetections(write(tmp_path, coco([(1, 7, [10, 20, 30, 40], 0.5)]))).describe()
    assert first == again != other and json.loads(json.dumps(first))["files"][0]["name"] == "found.json"


@pytest.mark.data
def test_a_real_detectors_files_are_read_whole(shared_data: Path) -> None:
    folder = shared_data / "detections"
    detector = CocoDetections([str(folder / "nuscenes_yolox_nano.json"), str(folder / "sunrgbd_yolox_nano.json")])
    lvis = load_vocabulary("lvis")
    detector.prepare(lvis)
    total: Counter[str] = Counter()
    names = []
    for file in sorted(folder.glob("*.json")):
        for image in json.loads(file.read_text())["images"]:
            found = detector([picture(image["file_name"], image["width"], image["height"])])[0]
            total += found.rules
            names += [lvis.name_of(concept) for concept in found.detections.concept_id]
    assert total == Counter({"boxes": 17, "double of any name": 1}) and len(names) == 16
    assert {"car (automobile)", "truck", "person", "fireplug", "bench", "refrigerator"} == set(names)


class TestProposalsNamedByClip:
    """With a CLIP whose picture embedding is the mean colour, and whose texts are colours."""

    @pytest.fixture
    def clip(self, monkeypatch: pytest.MonkeyPatch) -> ClipTowers:
        clip = ClipTowers("clip2x-small", random_weights=True)

        def encode_text(texts: Sequence[str]) -> Tensor:
            return torch.tensor([next((rgb for name, rgb in COLOURS.items() if text.endswith(f" {name}")), (1.0, 0.2, 0.2)) for text in texts])

        monkeypatch.setattr(clip, "encode_image", lambda images: images.mean(dim=(2, 3)))
        monkeypatch.setattr(clip, "encode_text", encode_text)
        return clip

    @pytest.fixture
    def proposals(self, tmp_path: Path) -> CocoDetections:
        boxes = [(1, 9, [0, 0, 40, 40], 0.9), (1, 9, [50, 0, 40, 40], 0.8), (1, 9, [100, 0, 40, 40], 0.7), (1, 9, [0, 50, 40, 40], 0.6)]
        return CocoDetections(write(tmp_path, coco(boxes)), categories="ignored")

    @pytest.fixture
    def rgb(self) -> Any:
        rgb = np.zeros((100, 200, 3), dtype=np.uint8)
        rgb[:, :] = 90  # grey: as near to every colour
        for column, colour in ((0, 0), (50, 1), (100, 2)):
            rgb[:40, column : column + 40] = 255 * np.eye(3, dtype=np.uint8)[colour]
        return rgb

    def test_the_nearest_name_wins_and_distractors_drop(self, clip: ClipTowers, proposals: CocoDetections, rgb: Any) -> None:
        detector = ProposalsNamedByClip(proposals, clip, **PLAIN, suppression=Suppression(min_score=0.9))
        detector.prepare(NAMES)
        found = detector([picture(rgb=rgb)])[0]
        assert sorted(zip(found.detections.concept_id.tolist(), found.detections.box_px[:, 0].tolist(), strict=True)) == [(0, 0), (1, 50)]
        assert found.rules == Counter({"boxes": 4, "named as a distractor": 1, "score too low": 1})

    def test_scores_are_a_softmax_at_the_clips_scale(self, clip: ClipTowers, proposals: CocoDetections, rgb: Any) -> None:
        detector = ProposalsNamedByClip(proposals, clip, **PLAIN)
        detector.prepare(NAMES)
        scores = detector.probabilities(picture(rgb=rgb), np.array([[50.0, 0, 90, 40]]))
        red = torch.nn.functional.normalize(torch.tensor([1.0, 0, 0]) + torch.nn.functional.normalize(torch.tensor([1.0, 0.2, 0.2]), dim=0), dim=0)
        logits = clip.logit_scale * torch.stack([red[1], torch.tensor(1.0), torch.tensor(0.0)])  # the mean over synonyms; green; the distractor
        torch.testing.assert_close(scores[0], logits.softmax(dim=0), atol=1e-5, rtol=1e-4)
        first = ProposalsNamedByClip(proposals, clip, **PLAIN, synonyms="first")
        first.prepare(NAMES)
        assert first.name_embeds is not None and first.name_embeds[0].tolist() == [1, 0, 0]

    def test_crops(self, clip: ClipTowers, proposals: CocoDetections, rgb: Any) -> None:
        size, box = clip.image_size, np.array([0.0, 0, 40, 20])
        stretched, padded, square = (ProposalsNamedByClip(proposals, clip, shape=shape, padding=0.0).crop(rgb, box, 0.0)
                                     for shape in ("stretched", "padded", "square"))
        assert all(crop.shape == (3, size, size) and crop.min() >= 0 and crop.max() <= 1 for crop in (stretched, padded, square))
        assert (stretched[0] > 0.99).all() and (stretched[1] < 0.01).all()
        quarter = size // 4
        assert (padded[0, quarter : 3 * quarter] > 0.99).all() and padded[:, :quarter].max() == 0 and padded[:, 3 * quarter :].max() == 0
        # The square reaches 10 pixels over the picture's upper border: what is there of it, 40 x 30, is padded again.
        assert float((square[0] > 0.99).float().mean()) == pytest.approx(0.75, abs=0.03)
        wide = ProposalsNamedByClip(proposals, clip, shape="stretched").crop(rgb, np.array([50.0, 0, 90, 40]), 0.5)
        assert wide[1].mean() < 0.8  # more than the green square is in it

    def test_needs_pixels_and_sane_numbers(self, clip: ClipTowers, proposals: CocoDetections) -> None:
        detector = ProposalsNamedByClip(proposals, clip)
        detector.prepare(NAMES)
        with pytest.raises(InputError, match=r"a\.jpg: ProposalsNamedByClip needs the picture's pixels"):
            detector([picture()])
        with pytest.raises(InputError, match=r"must be from 0 to 1, got \[0\.1, 2\.0\] and 1"):
            ProposalsNamedByClip(proposals, clip, margins=(0.1, 2.0))
        with pytest.raises(InputError, match="margins .at least one."):
            ProposalsNamedByClip(proposals, clip, margins=())
        assert json.loads(json.dumps(detector.describe()))["proposals"]["categories"] == "ignored"
        assert detector.describe()["suppression"]["min_score"] == ProposalsNamedByClip.MIN_SCORE
        open_to_all = ProposalsNamedByClip(proposals, clip, suppression=Suppression(min_score=0.0))
        assert open_to_all.describe()["suppression"]["min_score"] == 0
        assert open_to_all.check_pictures(["samples/CAM_FRONT/a.jpg"]) == Counter({"picture of a detection file is in no frame": 1})

    def test_views_are_averaged(self, proposals: CocoDetections, rgb: Any) -> None:
        clip, item, box = ClipTowers("clip2x-small", random_weights=True), picture(rgb=rgb), np.array([[30.0, 10, 90, 60]])

        def named(**options: Any) -> Tensor:
            detector = ProposalsNamedByClip(proposals, clip, **options)
            detector.prepare(NAMES)
            return detector.probabilities(item, box)

        near, wide = named(margins=(0.0,), mirrored=False), named(margins=(0.3,), mirrored=False)
        assert (near - wide).abs().max() > 1e-3
        torch.testing.assert_close(named(margins=(0.0, 0.3), mirrored=False), (near + wide) / 2)
        mirror = Picture(item.key, item.file, 200, 100, np.ascontiguousarray(rgb[:, ::-1]))
        detector = ProposalsNamedByClip(proposals, clip, margins=(0.0,), mirrored=False)
        detector.prepare(NAMES)
        turned = detector.probabilities(mirror, np.array([[110.0, 10, 170, 60]]))
        torch.testing.assert_close(named(margins=(0.0,)), (near + turned) / 2, atol=1e-4, rtol=1e-3)

    def test_a_removed_background_is_not_looked_at(self, clip: ClipTowers, proposals: CocoDetections) -> None:
        pytest.importorskip("cv2", reason="OpenCV is not installed")
        rgb = np.full((100, 200, 3), 60, dtype=np.uint8)
        rgb[:, :, 2] = 200  # blue all around
        rgb[35:65, 65:95] = (230, 20, 20)
        box = np.array([50.0, 20, 110, 80])
        painted = alone(rgb, box, 1.0)
        assert (painted[38:62, 68:92] == (230, 20, 20)).all() and (painted[:, :50] == 255).all() and (painted[22:28, 52:108] == 255).all()
        detector = ProposalsNamedByClip(proposals, clip, **PLAIN, background="removed", padding=0.0)
        detector.prepare(NAMES)
        assert detector.probabilities(picture(rgb=rgb), box[None])[0].argmax() == 0  # red; with its surroundings it is a blue distractor
        kept = ProposalsNamedByClip(proposals, clip, **PLAIN)
        kept.prepare(NAMES)
        assert kept.probabilities(picture(rgb=rgb), box[None])[0].argmax() == 2

    def test_pictures_do_not_change_each_other(self, proposals: CocoDetections, rgb: Any) -> None:
        detector = ProposalsNamedByClip(proposals, ClipTowers("clip2x-small", random_weights=True), suppression=Suppression(min_score=0.0))
        detector.prepare(load_vocabulary("mini"))
        other = picture(rgb=255 - rgb)
        together, alone = detector([picture(rgb=rgb), other, picture("nowhere.jpg", rgb=rgb)]), detector([other])[0]
        np.testing.assert_array_equal(together[1].detections.score, alone.detections.score)
        assert len(together[0].detections) > 0 and together[2].rules == Counter({"picture is in no detection file": 1})
