from __future__ import annotations

from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from clip2x.data.captioned_boxes import CaptionedBoxes, crop
from clip2x.data.images import cut
from clip2x.data.pictures import CaptionedPictures
from clip2x.data.samplers import SampleKey
from clip2x.encoders.clip import ClipTowers
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.miniworld.captions import COLOURS
from clip2x.miniworld.objects import CLASS_NAMES, Stream, colour_of, make_object
from clip2x.miniworld.rooms.writer import see_room
from clip2x.miniworld.scene_pictures import LEAST_PIXELS, LEAST_SIDE, SceneCounts, write_scene_pictures
from clip2x.miniworld.unseen import UNSEEN_INDOOR, UNSEEN_STREET
from clip2x.proxies.detectors import CocoDetections, ProposalsNamedByClip

ROOMS = 12
COUNTS = SceneCounts({"train": ROOMS, "val": 1}, {"train": 1, "val": 1}, room_width_px=140, street_width_px=160)


def blocks(size: int) -> np.ndarray:
    """Draw a picture of 6 x 9 patches, neither black nor white: where a filter's overshoot is cut off, two programs round apart."""
    return np.random.default_rng(0).integers(60, 190, (6, 9, 3)).astype(np.uint8).repeat(size, axis=0).repeat(size, axis=1)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenes") / "scene_pictures.h5"
    write_scene_pictures(path, {"seed": 4}, seed=4, counts=COUNTS)
    return path


def test_every_visible_thing_with_a_class_has_its_box_and_no_other_has(scenes: Path) -> None:
    """A slow twin: pixel by pixel over the rooms, which come behind the street's twelve pictures."""
    held_out = 0
    with h5py.File(scenes) as file:
        group = file["train"]
        for room in range(ROOMS):
            view = see_room(Stream.CAPTION_ROOMS_TRAIN, room, seed=4, width_px=140)
            expected = set()
            for number, standing in enumerate(view.room.standing):
                rows, columns = np.nonzero(view.picture.number == number)
                if len(rows) < LEAST_PIXELS or min(np.ptp(rows), np.ptp(columns)) + 1 < LEAST_SIDE:
                    continue
                if standing.unseen:
                    held_out += 1
                    continue
                expected.add((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, CLASS_NAMES.index(standing.name)))
            mine = group["picture"][()] == 12 + room
            found = {(*box.astype(int).tolist(), int(name)) for box, name in zip(group["box_px"][()][mine], group["class_id"][()][mine], strict=True)}
            assert found == expected
        assert held_out > 0
        assert len(group["jpeg"]) == 12 + ROOMS
        assert group["picture"][()].max() <= 11 + ROOMS
        assert (group["picture"][()] < 12).sum() > 10


def test_no_caption_names_what_is_held_out(scenes: Path) -> None:
    captions = " ".join(CaptionedBoxes(scenes.parent, 0, "train")[SampleKey(index % 40, index)]["caption"] for index in range(400))
    assert not set(CLASS_NAMES) & (set(UNSEEN_STREET) | set(UNSEEN_INDOOR))
    assert not any(name in captions for name in (*UNSEEN_STREET, *UNSEEN_INDOOR))


def test_scenes_are_functions_of_seed_and_split_and_are_in_no_data_set(scenes: Path, tmp_path: Path) -> None:
    small = SceneCounts({"train": 1, "val": 1}, {"train": 0, "val": 0}, room_width_px=140, street_width_px=160)
    for seed in (4, 5):
        write_scene_pictures(tmp_path / f"{seed}.h5", {}, seed=seed, counts=small)
    with h5py.File(scenes) as whole, h5py.File(tmp_path / "4.h5") as same, h5py.File(tmp_path / "5.h5") as other:
        assert np.array_equal(whole["train/jpeg"][12], same["train/jpeg"][0])
        assert not np.array_equal(same["train/jpeg"][0], other["train/jpeg"][0])
        assert not np.array_equal(same["train/jpeg"][0], same["val/jpeg"][0])
    pictures = [see_room(stream, 0, seed=4, width_px=140).picture.rgb for stream in (Stream.ROOM_TRAIN, Stream.ROOM_TEST, Stream.CAPTION_ROOMS_TRAIN)]
    assert all(not np.array_equal(pictures[2], picture) for picture in pictures[:2])


def test_the_colour_of_a_mesh_is_the_one_that_it_was_given() -> None:
    objects = [make_object(name, Stream.CAPTION_ROOMS_TRAIN, number, seed=1) for name in ("chair", "car", "mug") for number in range(30)]
    assert sum(colour_of(item.mesh) == item.colour for item in objects) >= 0.97 * len(objects)


def test_boxes_are_shown_otherwise_each_epoch_and_repeatably(scenes: Path) -> None:
    data = CaptionedBoxes(scenes.parent, 0, "train")
    one, same, later = data[SampleKey(5, 0)], data[SampleKey(5, 0)], data[SampleKey(5, 1)]
    assert one["image"].shape == (3, 64, 64)
    assert one["image"].dtype == torch.float32
    assert one["image"].equal(same["image"])
    assert not one["image"].equal(later["image"])
    for index in range(len(data)):
        sample = data[SampleKey(index, 3)]
        assert sample["in_scene"]
        assert sample["image"].min() >= 0
        assert sample["image"].max() <= 1
        assert (sample["caption_colour"] == sample["colour_id"]) == (data.colours[sample["colour_id"]] in sample["caption"].split())
        assert sample["caption_colour"] >= 0 or not set(sample["caption"].split()) & set(COLOURS)
        assert "plain background" not in sample["caption"]


def test_a_crop_is_the_box_and_what_is_around_it() -> None:
    rgb = np.zeros((40, 60, 3), dtype=np.uint8)
    rgb[10:30, 20:30] = (255, 0, 0)
    stretched = crop(rgb, (20.0, 10.0, 30.0, 30.0), 0.0, 16, square=False)
    assert np.array_equal(stretched, np.broadcast_to(np.array([1.0, 0, 0], dtype=np.float32)[:, None, None], (3, 16, 16)))
    square = crop(rgb, (20.0, 10.0, 30.0, 30.0), 0.0, 20, square=True)  # grows by 5 pixels to the left and right
    assert np.array_equal(square[0], np.broadcast_to((np.arange(20) // 5 % 3 > 0).astype(np.float32), (20, 20)))
    wide = crop(rgb, (0.0, 0.0, 60.0, 30.0), 0.0, 60, square=True)  # rows -15 to 45, of which the picture has 40: white above and below
    assert np.array_equal(wide[1], np.where((np.arange(60) >= 10) & (np.arange(60) < 50), 0.0, 1.0)[:, None] * np.ones(60))


@pytest.mark.parametrize("box", [(12.3, 8.1, 40.2, 20.9), (30.0, 2.0, 38.0, 39.0), (55.0, 30.0, 63.0, 44.0)])
def test_a_stretched_crop_is_what_a_triplet_shows(box: tuple[float, float, float, float]) -> None:
    rgb = blocks(7)
    part = torch.from_numpy(cut(rgb, np.array(box)).copy()).permute(2, 0, 1)[None].float() / 255
    expected = torch.nn.functional.interpolate(part, (64, 64), mode="bicubic", antialias=True, align_corners=False)[0].clamp(0, 1)
    assert np.abs(crop(rgb, box, 0.0, 64, square=False) - expected.numpy()).max() < 3 / 255


def test_a_square_crop_is_what_the_detector_shows(tiny_world: Path, tiny_clip: Path) -> None:
    rgb = blocks(9)
    detector = ProposalsNamedByClip(CocoDetections(str(tiny_world / "detections" / "sunrgbd_boxes.json")), ClipTowers("clip2x-small", str(tiny_clip)))
    for box in ((12.3, 8.1, 40.2, 20.9), (60.0, 20.0, 79.0, 53.0)):
        expected = detector.crop(rgb, np.array(box), 0.1).numpy()
        assert np.abs(crop(rgb, box, 0.1, 64, square=True) - expected).max() < 3 / 255


def test_the_stated_share_of_training_pictures_are_scenes(tiny_world: Path) -> None:
    def share(value: float) -> float:
        data = CaptionedPictures(tiny_world, 0, "train", scene_share=value)
        return float(np.mean([data[SampleKey(index, 1)]["in_scene"] for index in range(len(data))]))

    assert share(0.0) == 0
    assert share(1.0) == 1
    assert share(0.4) == pytest.approx(0.4, abs=0.12)
    with pytest.raises(InputError, match="scene_share must be from 0 to 1, got 1.5"):
        CaptionedPictures(tiny_world, 0, "train", scene_share=1.5)


def test_rare_classes_are_drawn_more_often_than_they_are_seen(scenes: Path) -> None:
    """By the square root of their counts: what is seen four times as often is drawn twice as often."""
    data = CaptionedBoxes(scenes.parent, 0, "train")
    rng = np.random.default_rng(0)
    drawn = np.bincount([data.draw(rng)["class_id"] for _ in range(4000)], minlength=len(CLASS_NAMES)) / 4000
    counts = np.sqrt(np.bincount(data.class_id, minlength=len(CLASS_NAMES)))
    assert np.abs(drawn - counts / counts.sum()).max() < 0.02


def test_pictures_are_stored_as_the_camera_saw_them(scenes: Path) -> None:
    with h5py.File(scenes) as file:
        sizes = {Image.open(BytesIO(content.tobytes())).size for content in file["train/jpeg"][()]}
    assert (160, 90) in sizes
    assert {width for width, _ in sizes} == {140, 160}


def test_the_small_clip_states_how_well_it_names_scenes(tiny_clip: Path) -> None:
    with safe_open(tiny_clip, "pt") as file:
        text = " ".join(file.metadata().values())
    assert '"val_top1": 0.' in text
    assert '"val_scene_top1": 0.' in text


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"scene_pictures\.h5 does not exist; run: make miniworld"):
        CaptionedBoxes(tmp_path, 0, "train")
    (tmp_path / "scene_pictures.h5").write_bytes(b"no HDF5")
    with pytest.raises(BadFileError, match="is not a whole mini-world picture file"):
        CaptionedBoxes(tmp_path, 0, "train")
