"""Detections in COCO's form, written by any program: read, checked, and found again by picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from clip2x.errors import BadFileError, DataNotFoundError
from clip2x.storage import sha256_of_file
from clip2x.untrusted import bare, excerpt, json_value, require_text


@dataclass(frozen=True)
class CocoPicture:
    """The boxes of one picture.

    key: its name in the files, with `/`. file: where it stands first. size_px: width and height as stated there, None where they are not.
    box_px: (M, 4) float64, left, top, right, bottom. name_id: (M,) positions in `CocoBoxes.names`. score: (M,).
    """

    key: str
    file: Path
    size_px: tuple[int, int] | None
    box_px: NDArray[np.float64]
    name_id: NDArray[np.int64]
    score: NDArray[np.float64]


class CocoBoxes:
    """Detections by picture; those of several files for one picture are joined.

    names: of all categories in the files, each once. sha256: of each file. first_key: a picture's name, for messages.
    """

    def __init__(self, pictures: Sequence[CocoPicture], names: Sequence[str], sha256: dict[Path, str]) -> None:
        self.names, self.sha256 = tuple(names), sha256
        self.first_key = pictures[0].key
        self._by_key: dict[str, CocoPicture] = {}
        for picture in pictures:
            known = self._by_key.get(picture.key)
            self._by_key[picture.key] = picture if known is None else _joined(known, picture)
        self._by_ending: dict[str, list[CocoPicture]] = {}
        for picture in self._by_key.values():
            self._by_ending.setdefault(picture.key.rsplit("/", 1)[-1], []).append(picture)

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self._by_key)

    def find(self, key: str) -> CocoPicture | None:
        """Look a picture up by its path below the data set; a name in the file may have more folders before it.

        Raises:
            BadFileError: If several names end in that path.
        """
        if key in self._by_key:
            return self._by_key[key]
        found = [picture for picture in self._by_ending.get(key.rsplit("/", 1)[-1], ()) if picture.key.endswith(f"/{key}")]
        if len(found) > 1:
            raise BadFileError(f"{found[1].file}: {excerpt(found[0].key)} and {excerpt(found[1].key)} could both be {key!r}; name pictures by "
                               "that path.")
        return found[0] if found else None


def read_coco(files: Sequence[Path], images: Path | None = None) -> CocoBoxes:
    """Read detections.

    Several files may hold parts of the detections, or detections of several programs, of the same pictures.

    Args:
        files: Each either a mapping with `images`, `categories` and `annotations` that carry a score, or a list of results.
        images: A mapping with the `images` and `categories` of the lists.

    Raises:
        DataNotFoundError: If a file is absent.
        BadFileError: If one has another form, or an entry cannot be used; names the entry.
    """
    shared = None if images is None else _json(images)
    if shared is not None and not isinstance(shared, dict):
        raise BadFileError(f"{images}: must be a mapping with `images` and `categories`, found a list; it belongs among the files of detections.")
    pictures: list[CocoPicture] = []
    names: dict[str, int] = {}
    for path in files:
        content = _json(path)
        if isinstance(content, list):
            if shared is None:
                raise BadFileError(f"{path}: a bare list of results does not name its pictures; give the file with images and categories that it "
                                   "belongs to (detector.images).")
            pictures += _pictures(path, images or path, shared, content, names)
        elif isinstance(content, dict):
            pictures += _pictures(path, path, content, content.get("annotations"), names)
        else:
            raise BadFileError(f"{path}: must be COCO detections: a mapping with images, categories and annotations, or a list of results.")
    if not pictures:
        raise BadFileError(f"{files[0]}: names no picture; a picture without detections has an entry in `images` too.")
    return CocoBoxes(pictures, list(names), {path: sha256_of_file(path) for path in [*files, *([images] if images else [])]})


def _json(path: Path) -> Any:
    if not path.is_file():
        raise DataNotFoundError(f"{path}: no such file of detections.")
    try:
        return json_value(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: not a whole JSON file ({' '.join(str(error).split())[:100]}).") from error


def _pictures(path: Path, images_path: Path, about: dict[str, Any], results: Any, names: dict[str, int]) -> list[CocoPicture]:
    """Sort the results of one file by picture; `names` collects the categories of all files."""
    images, categories = (_by_id(images_path, about.get(key), key, name) for key, name in (("images", "file_name"), ("categories", "name")))
    if not isinstance(results, list):
        raise BadFileError(f"{path}: has no list `annotations`.")
    name_ids = {number: names.setdefault(entry["name"], len(names)) for number, entry in categories.items()}
    rows: dict[Any, list[tuple[list[float], int, float]]] = {number: [] for number in images}
    for position, result in enumerate(results):
        if not isinstance(result, dict):
            raise BadFileError(f"{path}: detection {position} is no mapping.")
        for key, known, where in (("image_id", rows, "images"), ("category_id", name_ids, "categories")):
            if not isinstance(result.get(key), int | str) or result[key] not in known:
                raise BadFileError(f"{path}: detection {position} has the {key} {excerpt(result.get(key))}, which is not among the {len(known)} "
                                   f"{where}.")
        box, score = result.get("bbox"), result.get("score")
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(side) for side in box):
            raise BadFileError(f"{path}: detection {position} has the bbox {excerpt(box)}; it must be [left, top, width, height].")
        if not _is_number(score) or score < 0 or score > 1:  # NaN passes, and is counted as such later
            raise BadFileError(f"{path}: detection {position} has the score {excerpt(score)}; it must be from 0 to 1 (annotations by people have "
                               "none).")
        rows[result["image_id"]].append(([float(side) for side in box], name_ids[result["category_id"]], float(score)))
    found = [_picture(path, images[number], row) for number, row in rows.items()]
    if len({picture.key for picture in found}) < len(found):
        raise BadFileError(f"{images_path}: two entries of images have the same file_name; each picture needs one entry.")
    return found


def _picture(path: Path, entry: dict[str, Any], found: list[tuple[list[float], int, float]]) -> CocoPicture:
    box_px = np.array([box for box, _, _ in found], dtype=np.float64).reshape(-1, 4)
    box_px[:, 2:] += box_px[:, :2]
    width_px, height_px = entry.get("width"), entry.get("height")
    size_px = (int(width_px), int(height_px)) if _is_whole(width_px) and _is_whole(height_px) else None
    key = str(entry["file_name"]).replace("\\", "/").removeprefix("./")
    return CocoPicture(key, path, size_px, box_px, np.array([name_id for _, name_id, _ in found], dtype=np.int64),
                       np.array([score for *_, score in found], dtype=np.float64))


def _joined(first: CocoPicture, second: CocoPicture) -> CocoPicture:
    """Put the detections of two files for one picture together."""
    if first.size_px and second.size_px and first.size_px != second.size_px:
        raise BadFileError(f"{second.file}: {bare(second.key)} is {second.size_px[0]} x {second.size_px[1]} pixels there and {first.size_px[0]} x "
                           f"{first.size_px[1]} in {first.file}; their boxes do not fit together.")
    return CocoPicture(first.key, first.file, first.size_px or second.size_px, np.concatenate([first.box_px, second.box_px]),
                       np.concatenate([first.name_id, second.name_id]), np.concatenate([first.score, second.score]))


def _by_id(path: Path, entries: Any, what: str, name: str) -> dict[Any, dict[str, Any]]:
    """Check a list of entries with ids and texts."""
    if not isinstance(entries, list):
        raise BadFileError(f"{path}: has no list `{what}`.")
    found: dict[Any, dict[str, Any]] = {}
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int | str) or not isinstance(entry.get(name), str) or not entry[name]:
            raise BadFileError(f"{path}: entry {position} of {what} needs an id and a text {name!r}, found {excerpt(entry)}.")
        try:
            require_text(entry[name])
        except ValueError:
            raise BadFileError(f"{path}: entry {position} of {what} has the {name} {excerpt(entry[name])}, which is no Unicode text.") from None
        if entry["id"] in found:
            raise BadFileError(f"{path}: two entries of {what} have the id {excerpt(entry['id'])}.")
        found[entry["id"]] = entry
    return found


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def _is_whole(value: Any) -> TypeGuard[float]:
    return _is_number(value) and float(value).is_integer()
