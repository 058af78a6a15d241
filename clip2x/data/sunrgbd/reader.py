"""SUN RGB-D in its official tree: frames of four RGB-D cameras."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip2x.data.base import HELD_OUT_SHARE, PARTS
from clip2x.data.entries import Entry, EntryTable, carve
from clip2x.data.frames import FrameDataset
from clip2x.data.images import picture_size
from clip2x.data.sunrgbd.annotations import BOXES_3D, floor_boxes, picture_boxes
from clip2x.data.sunrgbd.files import (
    check_size,
    first_file,
    lift,
    read_depth,
    read_intrinsics,
    read_tilt,
    scene_of,
    tokens_of_list,
    tokens_of_matlab,
)
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.manifest import Manifest
from clip2x.types import Box3D, Camera, SceneFrame

PICTURES = "image"
DEPTH_FOLDERS = {"raw": "depth", "filled": "depth_bfx"}
UPRIGHT_FROM_LEVEL: NDArray[np.float64] = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""A level camera's (x right, y down, z forward) -> (x right, y forward, z up). Behind the tilt of the extrinsics file it gives the same as
the official toolbox's `Rtilt * (x, z, -y)`, whose two inner turns cancel."""


class SunRgbdFrames(FrameDataset):
    """The frames of SUN RGB-D (Song et al., CVPR 2015), read from the official tree without MATLAB.

    A token is a frame's folder below the data set's, e.g. `SUNRGBD/kv1/b3dodata/img_0063`; tokens are sorted. Points are those of the depth
    picture, one per valid pixel, in the camera frame; features are the pixel (u_px, v_px) of each. `upright_from_points` turns them into
    the toolbox's upright frame: x right, y forward, z up. Frames that are not there are left out and counted in `notes`.
    """

    def __init__(self, manifest: Manifest | str = "sunrgbd", *, root: Path, variant: str | None = None, split: str, depth: str = "raw") -> None:
        """Find the frames of a split.

        Args:
            manifest: `sunrgbd` or a manifest of the same format.
            root: The data root; the data set's folder lies below it.
            variant: Gives the labels of boxes; the manifest's first if not given.
            split: `train` or `test`, or a part `:fit` or `:val` of one: about a tenth of the frames, whole scenes, is held out.
            depth: `raw` as measured, with holes, or `filled` (the data set's own in-painted depth).

        Raises:
            InputError: If the variant, the split or the depth is not known.
            DataNotFoundError: If there is no list of frames or none of the frames.
            BadFileError: If a list cannot be read.
        """
        super().__init__(manifest, root=root, variant=variant, split=split)
        if depth not in DEPTH_FOLDERS:
            raise InputError(f"depth must be one of {', '.join(DEPTH_FOLDERS)}, got {depth!r}.")
        self.depth = depth
        labels = self.manifest.labels_of_categories(self.variant_name)
        self._labels = {name: -1 if name in self.manifest.excluded else label for name, label in labels.items()}
        listed = self._listed(self.official_split)
        expected = self.variant.splits[self.official_split].frames
        if expected is not None and len(listed) != expected:
            self.notes.append(f"the list of {self.official_split} has {len(listed):,} frames, {self.manifest.title} has {expected:,}.")
        tokens = self._present(listed)
        if self.part and tokens:
            table = EntryTable(Entry(token, 0, scene_of(token)) for token in tokens)
            tokens = [tokens[position] for position in carve(table, HELD_OUT_SHARE, seed=0)[PARTS.index(self.part)]]
            if not tokens:
                raise self.not_found(f"what is there of {self.official_split} is too little to hold a part out (one recording)")
        self.tokens: Sequence[str] = tokens

    def frame(self, token: str) -> SceneFrame:
        """Read one frame: points, depth, 3-D and 2-D boxes; the picture's header only.

        `Box3D.token` is `token#position`, the position in the file's list of objects. Its axes are the annotation's: along the first side,
        across, up, turned into the camera frame.

        Raises:
            DataNotFoundError: If depth, intrinsics or extrinsics are missing.
            BadFileError: If a file cannot be used, or picture and depth differ in size.
        """
        frame, depth, intrinsics = self.solid(token)
        folder = self.folder / token
        height_px, width_px = depth.shape
        boxes_2d, about_boxes = picture_boxes(folder, self._labels, PICTURES, width_px, height_px)
        notes = [*frame.notes, *([about_boxes] if about_boxes else [])]
        cameras: tuple[Camera, ...] = ()
        picture = first_file(folder / PICTURES, ".jpg")
        if picture is None:
            notes.append(f"there is no picture {token}/{PICTURES}/*.jpg.")
        else:
            check_size(picture, width_px, height_px)
            cameras = (Camera(PICTURES, picture, width_px, height_px, intrinsics, np.eye(4), depth=depth),)
        return replace(frame, cameras=cameras, boxes_2d=tuple(boxes_2d), notes=tuple(notes))

    def solid(self, token: str) -> tuple[SceneFrame, NDArray[np.float32], NDArray[np.float64]]:
        """Read what of a frame is in three dimensions: points and 3-D boxes, no pictures and 2-D boxes.

        Returns:
            The frame; its depth (H, W) float32, metres, 0 where there is none; its intrinsics (3, 3).

        Raises:
            DataNotFoundError, BadFileError: As `frame`.
        """
        folder = self.folder / token
        depth_file = first_file(folder / DEPTH_FOLDERS[self.depth], ".png")
        if depth_file is None:
            raise DataNotFoundError(f"{folder / DEPTH_FOLDERS[self.depth]} holds no .png: the frame's {self.depth} depth is missing; "
                                    "unpack SUNRGBD.zip again.")
        depth, intrinsics = read_depth(depth_file), read_intrinsics(folder / "intrinsics.txt")
        upright_from_camera = UPRIGHT_FROM_LEVEL @ read_tilt(folder / "extrinsics")
        points, pixels = lift(depth, intrinsics)
        boxes, notes = self._boxes(token, upright_from_camera)
        frame = SceneFrame(token=token, scene=scene_of(token), points=points, upright_from_points=upright_from_camera, boxes=tuple(boxes),
                           features=pixels, feature_names=("u_px", "v_px"), notes=tuple(notes))
        return frame, depth, intrinsics

    def view(self, token: str) -> SceneFrame:
        """Read camera and 3-D boxes of a frame, neither points nor depth. Raises as `frame`, depth aside."""
        folder = self.folder / token
        upright_from_camera, picture = UPRIGHT_FROM_LEVEL @ read_tilt(folder / "extrinsics"), first_file(folder / PICTURES, ".jpg")
        cameras: tuple[Camera, ...] = ()
        if picture is not None:
            cameras = (Camera(PICTURES, picture, *picture_size(picture), read_intrinsics(folder / "intrinsics.txt"), np.eye(4)),)
        boxes, notes = self._boxes(token, upright_from_camera)
        return SceneFrame(token=token, scene=scene_of(token), points=np.zeros((0, 3), dtype=np.float32), upright_from_points=upright_from_camera,
                          cameras=cameras, boxes=tuple(boxes), notes=tuple(notes))

    def picture_keys(self, positions: Sequence[int]) -> Iterator[str]:
        """Name the pictures of frames that are there, e.g. `SUNRGBD/kv1/b3dodata/img_0063/image/img_0063.jpg`."""
        for position in positions:
            picture = first_file(self.folder / self.tokens[position] / PICTURES, ".jpg")
            if picture is not None:
                yield picture.relative_to(self.folder).as_posix()

    def label(self, name: str) -> int:
        """Look up the label of an annotated name, -1 for no class."""
        return self._labels.get(name, -1)

    def _boxes(self, token: str, upright_from_camera: NDArray[np.float64]) -> tuple[list[Box3D], list[str]]:
        try:
            boxes, unusable = floor_boxes(self.folder / token / BOXES_3D)
        except DataNotFoundError:
            return [], [f"there is no {BOXES_3D}: no 3-D boxes."]
        camera_from_upright = upright_from_camera.T
        notes = [f"{unusable} objects of {BOXES_3D} have no usable box."] if unusable else []
        return [Box3D(token=f"{token}#{box.position}", name=box.name, label=self.label(box.name), centre=camera_from_upright @ box.centre,
                      size=box.size, points_from_box=camera_from_upright @ box.upright_from_box) for box in boxes], notes

    def _listed(self, split: str) -> list[str]:
        """Read the tokens of a split: from the list of picture files, else from the toolbox's MATLAB file."""
        part = self.variant.splits[split]
        list_file, split_file = self.split_file(split), self.folder / (part.fallback or "")
        if list_file.is_file():
            tokens = tokens_of_list(list_file)
        elif part.fallback and split_file.is_file():
            tokens = tokens_of_matlab(split_file, f"all{split}")
        else:
            raise self.not_found(f"there is no list of its frames, neither {part.file} nor {part.fallback}")
        repeated = [token for token, count in Counter(tokens).items() if count > 1]
        if repeated:
            raise BadFileError(f"{list_file if list_file.is_file() else split_file}: {repeated[0]} is listed more than once.")
        return sorted(tokens)

    def _present(self, listed: list[str]) -> list[str]:
        """Keep the frames whose folders are there; folders are listed once each, frames are not asked for one by one."""
        there: dict[str, frozenset[str]] = {}
        for parent in {token.rpartition("/")[0] for token in listed}:
            try:
                there[parent] = frozenset(os.listdir(self.folder / parent))
            except (FileNotFoundError, NotADirectoryError):
                there[parent] = frozenset()
            except OSError as error:
                raise BadFileError(f"{self.folder / parent}: the folder cannot be read ({error.strerror}).") from error
        tokens = [token for token in listed if token.rpartition("/")[2] in there[token.rpartition("/")[0]]]
        absent = [token for token in listed if token.rpartition("/")[2] not in there[token.rpartition("/")[0]]]
        if not tokens:
            raise self.not_found(f"none of the {len(listed):,} frames of {self.official_split} is there" + (f", first {absent[0]}" if absent else ""))
        if absent:
            self.notes.append(f"{len(absent):,} of {len(listed):,} frames of {self.official_split} are missing, first {absent[0]}.")
        return tokens
