"""nuScenes: key frames with LiDAR, six cameras and boxes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.data.base import HELD_OUT_SHARE, PARTS
from clip2x.data.entries import EntryTable, carve
from clip2x.data.frames import FrameDataset
from clip2x.data.images import picture_size
from clip2x.data.nuscenes.sweeps import Sweep, away_from_ego, read_sweep, with_lag
from clip2x.data.nuscenes.tables import open_tables
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.geometry import inverse_transform, rigid_transform, rotation_from_quaternion, transform_points
from clip2x.manifest import Manifest, manifest_folder
from clip2x.types import Box3D, Camera, SceneFrame
from clip2x.untrusted import json_value


class NuScenesFrames(FrameDataset):
    """The key frames of nuScenes (Caesar et al., CVPR 2020), read without the devkit.

    A token is that of a `sample`; frames come scene by scene in the order of the split's list, in time order within one. Points are those of
    the manifest's first sensor in its own frame (x right, y to the front, z up), features are intensity and ring, with several sweeps also the
    time lag in seconds. Boxes lie in the same frame, their size is along their own axes: length (x), width (y), height (z).
    `upright_from_points` leads to the gravity-aligned frame: x along the heading of the car, y left, z up. A frame whose LiDAR file or
    calibration is not there is left out and counted in `notes`; of one without a picture the camera is left out, and its own notes say so.
    """

    def __init__(self, manifest: Manifest | str = "nuscenes", *, root: Path, variant: str | None = None, split: str, sweeps: int = 1,
                 cache: Path | None = None) -> None:
        """Find the frames of a split.

        Args:
            manifest: `nuscenes` or a manifest of the same format.
            root: The data root; the data set's folder lies below it.
            variant: Version of the tables and classes; the manifest's first if not given.
            split: One of the variant, or a part `:fit` or `:val` of one: about a tenth of the frames, whole scenes, is held out.
            sweeps: How many sweeps the points are collected from, the key frame's and those before it, each moved by the car's motion.
                Moving objects smear.
            cache: See `open_tables`.

        Raises:
            InputError: If the variant or the split is not known or `sweeps` is below 1.
            DataNotFoundError: If there are no tables, or no frame of the split.
            BadFileError: If a table or a folder cannot be read.
        """
        super().__init__(manifest, root=root, variant=variant, split=split)
        if sweeps < 1:
            raise InputError(f"sweeps must be at least 1, got {sweeps}.")
        self.sweeps, self.channels = sweeps, self.manifest.sensors
        table_folder = self.folder / (self.variant.pattern or "")
        if not table_folder.is_dir():
            raise self.not_found(f"there is no folder {str(table_folder)!r} with its tables")
        self.tables = open_tables(table_folder, cache=cache)
        self.notes += self.tables.notes
        samples = self._samples_of_split()
        rows = self._sensor_rows(samples)
        there = self._there(rows)
        usable = (rows[:, 0] >= 0) & there[:, 0]
        self._note_absent(rows, there, usable)
        chosen = np.flatnonzero(usable)
        if self.part:
            kept, held_out = self._parts(samples[chosen])
            chosen = chosen[kept if self.part == PARTS[0] else held_out]
            if not len(chosen):
                raise self.not_found(f"what is there of {self.official_split} is too little to hold a part out (one recording)")
        self.samples, self.sensor_rows, self._pictures_there = samples[chosen], rows[chosen], there[chosen]
        self._slot_of_sample = _positions(self.samples, self.tables.num_rows("sample"))
        self._group_annotations()
        self.tokens: Sequence[str] = [self.tables.token("sample", row) for row in self.samples.tolist()]

    def verify(self) -> None:
        """Compare the columns in the cache with the full sha256 of every table; columns of other tables are made anew."""
        open_tables(self.tables.folder, cache=self.tables.cache, deep=True)

    def frame(self, token: str) -> SceneFrame:
        """Read one frame.

        Raises:
            InputError: If the split has no such frame.
            DataNotFoundError: If its LiDAR file is gone.
            BadFileError: If its LiDAR file cannot be used.
        """
        row = self.tables.row("sample", token)
        slot = int(self._slot_of_sample[row]) if row >= 0 else -1
        if slot < 0:
            raise InputError(f"{self.manifest.name}/{self.variant_name}/{self.split} has no frame {token!r}; `tokens` lists them.")
        lidar_from_global = inverse_transform(self._global_from_sensor(int(self.sensor_rows[slot, 0])))
        return replace(self.view(slot), boxes=tuple(self.boxes(self._annotations[self._first[slot] : self._first[slot + 1]], lidar_from_global)))

    def picture_keys(self, positions: Sequence[int]) -> Iterator[str]:
        """Name the pictures of key frames that are there, e.g. `samples/CAM_FRONT/x.jpg`."""
        for slot in positions:
            for place in np.flatnonzero(self._pictures_there[slot, 1:]).tolist():
                yield self.tables.text("sample_data.filename", int(self.sensor_rows[slot, place + 1]))

    def solid(self, slot: int) -> SceneFrame:
        """Read the points of the frame at a position of `tokens`: no boxes, no cameras. Raises as `frame`."""
        row = int(self.sensor_rows[slot, 0])
        values = self._sweep(row)
        notes: list[str] = []
        if self.sweeps > 1:
            values, notes = self._several_sweeps(row, values)
        sample = int(self.samples[slot])
        names = ("intensity", "ring", "time_lag_s")[: values.shape[1] - 3]
        return SceneFrame(
            token=self.tables.token("sample", sample), scene=self.tables.text("scene.name", int(self.tables["sample.scene_token"][sample])),
            points=np.ascontiguousarray(values[:, :3]), upright_from_points=self._upright_from_sensor(row),
            features=np.ascontiguousarray(values[:, 3:]), feature_names=names, notes=tuple(notes))

    def boxes(self, annotations: NDArray[np.integer[Any]], lidar_from_global: NDArray[np.float64]) -> list[Box3D]:
        """Read annotations, given by their rows, into the frame of the points."""
        tables, name = self.tables, "sample_annotation"
        centres = transform_points(lidar_from_global, tables[f"{name}.translation"][annotations])
        sizes = tables[f"{name}.size"][annotations][:, [1, 0, 2]]  # width, length, height in the files
        rotations = lidar_from_global[:3, :3] @ rotation_from_quaternion(tables[f"{name}.rotation"][annotations])
        counts = tables[f"{name}.num_lidar_pts"][annotations]
        categories = self._category_of_annotation[annotations]
        return [Box3D(token=tables.token(name, int(row)), name=self._category_names[category], label=int(self._label_of_category[category]),
                      centre=centre, size=size, points_from_box=rotation, num_points=int(count))
                for row, category, centre, size, rotation, count in zip(annotations, categories, centres, sizes, rotations, counts, strict=True)]

    def objects(self, least: int, others: bool = False) -> tuple[NDArray[np.int64], int]:
        """List the annotations of known classes, as rows in the order of the frames, with at least so many points; count those with fewer.

        Args:
            least: Points that an object has, as annotated.
            others: List also what is of none of the classes, see `Manifest.is_other`.
        """
        wanted = self._label_of_category >= 0
        if others:
            wanted |= np.array([self.manifest.is_other(self.variant_name, name) for name in self._category_names[:-1]] + [False])
        of_class = wanted[self._category_of_annotation[self._annotations]]
        enough = self.tables["sample_annotation.num_lidar_pts"][self._annotations] >= least
        return self._annotations[of_class & enough], int((of_class & ~enough).sum())

    def view(self, slot: int) -> SceneFrame:
        """Read points and cameras of the frame at a position of `tokens`, no boxes. Raises as `frame`."""
        cameras, notes = self._cameras(slot, self._global_from_sensor(int(self.sensor_rows[slot, 0])))
        solid = self.solid(slot)
        return replace(solid, cameras=tuple(cameras), notes=(*solid.notes, *notes))

    def slot_of(self, annotation: int) -> int:
        """Find the position in `tokens` of the frame that an annotation belongs to."""
        return int(self._slot_of_sample[self.tables["sample_annotation.sample_token"][annotation]])

    def object_box(self, annotation: int) -> Box3D:
        """Read one annotation into the frame of the points."""
        row = int(self.sensor_rows[self.slot_of(annotation), 0])
        return self.boxes(np.array([annotation]), inverse_transform(self._global_from_sensor(row)))[0]

    def labels_of(self, annotations: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """Look up the labels of annotations, -1 for no class."""
        labels: NDArray[np.int32] = self._label_of_category[self._category_of_annotation[annotations]]
        return labels

    def point_file(self, slot: int) -> Path:
        """Name the LiDAR file of the frame at a position of `tokens`."""
        return self.folder / self.tables.text("sample_data.filename", int(self.sensor_rows[slot, 0]))

    def _samples_of_split(self) -> NDArray[np.int64]:
        """Find the rows of the split's samples: scenes in the order of the list, time order within one."""
        shipped = self.variant.splits[self.official_split].shipped
        path = manifest_folder() / (shipped or "")
        if shipped is None or not path.is_file():
            where = f"variants.{self.variant_name}.splits.{self.official_split}"
            raise BadFileError(f"manifest {self.manifest.name}: {where} needs a shipped list of scenes.")
        listed = path.read_text(encoding="utf-8").split()
        position = {name: place for place, name in enumerate(listed)}
        names = self.tables.texts("scene.name")
        rank_of_scene = np.array([*(position.get(name, -1) for name in names), -1])  # the last one answers for row -1
        absent = sorted(set(listed) - set(names), key=position.__getitem__)
        if absent:
            self.notes.append(f"{len(absent):,} of {len(listed):,} scenes of {self.official_split} are not in the tables, first {absent[0]}.")
        rank = rank_of_scene[self.tables["sample.scene_token"]]
        samples = np.flatnonzero(rank >= 0)
        return samples[np.lexsort((self.tables["sample.timestamp"][samples], rank[samples]))]

    def _sensor_rows(self, samples: NDArray[np.int64]) -> NDArray[np.int32]:
        """Find the key-frame records (sample_data) of samples for every sensor, (F, sensors); -1 where there is none that can be used."""
        tables = self.tables
        number = {channel: place for place, channel in enumerate(self.channels)}
        of_sensor = np.array([*(number.get(channel, -1) for channel in tables.texts("sensor.channel")), -1])
        of_calibration = np.append(of_sensor[tables["calibrated_sensor.sensor_token"]], -1)
        rows = np.flatnonzero(tables["sample_data.is_key_frame"] & (tables["sample_data.ego_pose_token"] >= 0))
        channels = of_calibration[tables["sample_data.calibrated_sensor_token"][rows]]
        slots = np.append(_positions(samples, tables.num_rows("sample")), -1)[tables["sample_data.sample_token"][rows]]
        known = (channels >= 0) & (slots >= 0)
        found = np.full((len(samples), len(self.channels)), -1, dtype=np.int32)
        found[slots[known], channels[known]] = rows[known]
        return found

    def _parts(self, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cut frames in two, whole scenes each: positions of those that stay and of those that are held out."""
        scenes, no_keys = self.tables["sample.scene_token"][samples], np.zeros((len(samples), 0), dtype=np.uint8)
        return carve(EntryTable.from_arrays(no_keys, np.zeros(len(samples), dtype=np.int32), scenes, self.tables.texts("scene.name")),
                     HELD_OUT_SHARE, seed=0)

    def _there(self, rows: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Say which files are there; folders are listed once each, files are not asked for one by one."""
        listed: dict[str, frozenset[str]] = {}
        there = np.zeros(rows.shape, dtype=bool)
        for slot, sensor in np.argwhere(rows >= 0).tolist():
            folder, _, name = self.tables.text("sample_data.filename", int(rows[slot, sensor])).rpartition("/")
            if folder not in listed:
                listed[folder] = _names(self.folder / folder)
            there[slot, sensor] = name in listed[folder]
        return there

    def _note_absent(self, rows: NDArray[np.int32], there: NDArray[np.bool_], usable: NDArray[np.bool_]) -> None:
        """Say what is not there; refuse a split of which nothing is there."""

        def first(missing: NDArray[np.bool_]) -> str:
            return self.tables.text("sample_data.filename", int(rows[missing][0]))

        split = self.official_split
        files, records = (rows >= 0) & ~there, int((rows[:, 0] < 0).sum())
        if files[:, 0].any():
            absent = files & (np.arange(len(self.channels)) == 0)
            self.notes.append(f"{int(absent.sum()):,} of {len(rows):,} key frames of {split} are left out: no LiDAR file, first {first(absent)}.")
        if records:
            self.notes.append(f"{records:,} of {len(rows):,} key frames of {split} are left out: their {self.channels[0]} has no whole record.")
        pictures = files & usable[:, None]
        if pictures.any():
            self.lacks_files = True
            self.notes.append(f"{int(pictures.sum()):,} pictures of {split} are missing, first {first(pictures)}.")
        count, expected = int(usable.sum()), self.variant.splits[split].frames
        if not count:
            raise self.not_found(f"none of the {len(rows):,} key frames of {split} in its tables has a LiDAR file" if len(rows)
                                 else f"its tables have no scene of {split}")
        if expected is not None and count != expected:
            self.notes.append(f"{self.manifest.name}/{self.variant_name}: {count:,} of {expected:,} key frames of {split} are there.")

    def _group_annotations(self) -> None:
        """Sort the split's annotations by frame; look up categories and labels."""
        tables = self.tables
        self._category_names = [*tables.texts("category.name"), "unknown"]  # the last one answers for row -1
        category_of_instance = np.append(tables["instance.category_token"], np.int32(-1))
        self._category_of_annotation: NDArray[np.int32] = category_of_instance[tables["sample_annotation.instance_token"]]
        if self.variant.true_names is not None:
            self._take_true_names(self.folder / self.variant.true_names)
        known = self.manifest.labels_of_categories(self.variant_name)
        self._label_of_category = np.array([known.get(name, -1) for name in self._category_names], dtype=np.int32)
        slots = np.append(self._slot_of_sample, np.int32(-1))[tables["sample_annotation.sample_token"]]
        order = np.argsort(slots, kind="stable")
        bounds = np.searchsorted(slots[order], np.arange(len(self.samples) + 1))
        self._annotations, self._first = order[bounds[0] :], bounds - bounds[0]

    def _take_true_names(self, path: Path) -> None:
        """Replace the categories of annotations by their names in a file `{"annotations": {token: name}}`; one without a name is `unknown`.

        Raises:
            DataNotFoundError: If there is no such file.
            BadFileError: If it cannot be read.
        """
        try:
            named = json_value(path.read_bytes())["annotations"]
            self._category_names = [*sorted({str.__str__(name) for name in named.values()}), "unknown"]
        except FileNotFoundError:
            raise self.not_found(f"there is no {str(path)!r}, which the mini-world has and real data do not") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFileError(f"{path}: no JSON file with names of annotations ({' '.join(str(error).split())[:120]}).") from error
        number = {name: place for place, name in enumerate(self._category_names)}
        tokens = (self.tables.token("sample_annotation", row) for row in range(self.tables.num_rows("sample_annotation")))
        self._category_of_annotation = np.array([number[named.get(token, "unknown")] for token in tokens], dtype=np.int32)

    def _global_from_ego(self, row: int) -> NDArray[np.float64]:
        pose = self.tables["sample_data.ego_pose_token"][row]
        return rigid_transform(rotation_from_quaternion(self.tables["ego_pose.rotation"][pose]), self.tables["ego_pose.translation"][pose])

    def _ego_from_sensor(self, row: int) -> NDArray[np.float64]:
        place, name = self.tables["sample_data.calibrated_sensor_token"][row], "calibrated_sensor"
        return rigid_transform(rotation_from_quaternion(self.tables[f"{name}.rotation"][place]), self.tables[f"{name}.translation"][place])

    def _global_from_sensor(self, row: int) -> NDArray[np.float64]:
        """Chain the transforms of one record, at its own time."""
        return self._global_from_ego(row) @ self._ego_from_sensor(row)

    def _upright_from_sensor(self, row: int) -> NDArray[np.float64]:
        """Turn the global frame (z up) about up so that x is the heading of the car; roll and pitch of car and sensor fall away."""
        forward_x, forward_y = self._global_from_ego(row)[:2, 0]
        length = np.hypot(forward_x, forward_y)
        cosine, sine = (forward_x / length, forward_y / length) if length > 0 else (1.0, 0.0)
        upright_from_global = np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        return upright_from_global @ self._global_from_sensor(row)[:3, :3]

    def _cameras(self, slot: int, global_from_lidar: NDArray[np.float64]) -> tuple[list[Camera], list[str]]:
        """Describe the cameras of a frame; what is missing goes into notes."""
        cameras, notes = [], []
        for place, channel in enumerate(self.channels[1:], start=1):
            row = int(self.sensor_rows[slot, place])
            if row < 0:
                notes.append(f"the tables have no whole record of {channel}.")
                continue
            file = self.tables.text("sample_data.filename", row)
            intrinsics = self.tables["calibrated_sensor.camera_intrinsic"][self.tables["sample_data.calibrated_sensor_token"][row]]
            if not self._pictures_there[slot, place]:
                notes.append(f"there is no picture {file}.")
            elif np.isnan(intrinsics).any():
                notes.append(f"the tables have no camera_intrinsic of {channel}.")
            else:
                width_px, height_px = (int(self.tables[f"sample_data.{side}"][row]) for side in ("width", "height"))
                if not width_px or not height_px:
                    width_px, height_px = picture_size(self.folder / file)
                cameras.append(Camera(name=channel, file=self.folder / file, width_px=width_px, height_px=height_px, intrinsics=np.array(intrinsics),
                                      camera_from_points=inverse_transform(self._global_from_sensor(row)) @ global_from_lidar,
                                      timestamp_us=int(self.tables["sample_data.timestamp"][row])))
        return cameras, notes

    def _sweep(self, row: int) -> Sweep:
        return read_sweep(self.folder / self.tables.text("sample_data.filename", row))

    def _several_sweeps(self, key_row: int, values: Sweep) -> tuple[Sweep, list[str]]:
        """Add the sweeps before a key frame's: each moved into its frame, without points near the car, with the time lag as the last column."""
        lidar_from_global = inverse_transform(self._global_from_sensor(key_row))
        parts, notes = [with_lag(away_from_ego(values), 0.0)], []
        row = key_row
        for _ in range(self.sweeps - 1):
            row = int(self.tables["sample_data.prev"][row])
            if row < 0:
                break
            if self.tables["sample_data.ego_pose_token"][row] < 0 or self.tables["sample_data.calibrated_sensor_token"][row] < 0:
                notes.append(f"the tables have no pose of {self.tables.text('sample_data.filename', row)}.")
                continue
            try:
                earlier = away_from_ego(self._sweep(row))
            except DataNotFoundError:
                notes.append(f"there is no sweep {self.tables.text('sample_data.filename', row)}.")
                continue
            earlier[:, :3] = transform_points(lidar_from_global @ self._global_from_sensor(row), earlier[:, :3])
            times = self.tables["sample_data.timestamp"]
            parts.append(with_lag(earlier, float(times[key_row] - times[row]) * 1e-6))
        return np.concatenate(parts), notes


def _positions(rows: NDArray[np.int64], size: int) -> NDArray[np.int32]:
    """Invert a list of row numbers: (size,) with the position of every row in the list, -1 for rows that are not in it."""
    positions = np.full(size, -1, dtype=np.int32)
    positions[rows] = np.arange(len(rows), dtype=np.int32)
    return positions


def _names(folder: Path) -> frozenset[str]:
    """List a folder; nothing where there is none."""
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise BadFileError(f"{folder}: the folder cannot be read ({error.strerror}).") from error
