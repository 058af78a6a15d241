"""Read and check the data manifests: the one place where facts about a data set live."""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from clip2x.errors import BadFileError, InputError
from clip2x.untrusted import excerpt, require_below, require_text, yaml_value

AXES = ("x", "y", "z")
LONGEST_NAME = 200  # letters of a name or key; ours
PLACES = ("{synset}", "{id}", "{view}")  # what a pattern may have in braces


@dataclass(frozen=True)
class Split:
    """A named part of a variant.

    samples: how many objects there are, None where it is not verified.
    frames: how many scene frames (key frames, RGB-D pictures) there are; None where there are none or it is not verified.
    scenes: how many recordings these come from, likewise.
    file: list or data file relative to the variant's folder, None where the folder layout itself says it.
    fallback: another file, relative to the variant's folder, that holds the same list in the form of the original tools.
    shipped: list that comes with clip2x, relative to the folder of manifests (names of scenes, for example).
    sha256: of `file`, None where it is not verified.
    of, seed, start, stop: a part of another split: positions start:stop of `numpy.random.default_rng(seed).permutation(samples of it)`.
    """

    samples: int | None = None
    frames: int | None = None
    scenes: int | None = None
    file: str | None = None
    fallback: str | None = None
    shipped: str | None = None
    sha256: str | None = None
    of: str | None = None
    seed: int = 0
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Variant:
    """One published form of a data set.

    folder: below the data root.
    format: what the reader understands, e.g. `off`, `hdf5`, `text`, `ply`.
    ours_from_files: 3x3 proper rotation from the files' frame to the object frame (y up), applied to column vectors.
    files: sha256 of files below the folder that we have verified.
    pattern: path of one object or recording below the folder with its ids in braces, e.g. `{synset}/{id}/model.obj`.
    class_names: the classes in label order where they are not the manifest's own.
    min_points: objects with fewer points are no samples.
    views: pictures of every object, numbered from 0 in the pattern's `{view}`; None for variants without.
    groups: title -> classes whose mean is also reported by itself.
    true_names: JSON file below `folder` that names annotations by their tokens, read in the place of their categories (mini-world only).
    """

    folder: str
    format: str
    up: str
    ours_from_files: tuple[tuple[float, float, float], ...]
    splits: dict[str, Split]
    files: dict[str, str] = field(default_factory=dict)
    pattern: str | None = None
    class_names: tuple[str, ...] = ()
    min_points: int = 1
    views: int | None = None
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    true_names: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A data set: names in label order, prompts, variants with their frames and splits, licence and source.

    class_folders: how files and folders name the classes, in the same order.
    category_names: class -> the names by which annotations call its objects; of a class without an entry, its `class_folders` name.
    other_names: class -> further words that a text may name it by. For reports on how right a text is, never a filter or a prompt.
    ambiguous: names by which annotations call objects that people may well name by a class although they belong to none; where objects of
        no class are asked for, these are left out.
    sensors: channels that are read, in the files' own names, point sensor first.
    excluded: ids of objects that are broken or were dropped by those who use the data set.
    sha256: of the manifest file, computed when it is read.
    """

    name: str
    title: str
    reader: str
    class_names: tuple[str, ...]
    prompts: dict[str, tuple[str, ...]]
    variants: dict[str, Variant]
    licence: dict[str, Any]
    source: dict[str, Any]
    citation: str
    class_folders: tuple[str, ...] = ()
    category_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    other_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ambiguous: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    sha256: str = field(default="", metadata={"computed": True})

    def variant(self, name: str) -> Variant:
        """Look up a variant; an unknown name is answered with the known ones."""
        if name not in self.variants:
            raise InputError(f"{self.name} has no variant {name!r}; it has {', '.join(self.variants)}.")
        return self.variants[name]

    def classes(self, variant: str) -> tuple[str, ...]:
        """Names in label order of one variant."""
        return self.variant(variant).class_names or self.class_names

    def labels_of_categories(self, variant: str) -> dict[str, int]:
        """Map the names that annotations use to labels of one variant; names that are not in it belong to no class."""
        own = dict(zip(self.class_names, self.class_folders, strict=True))
        labels: dict[str, int] = {}
        for label, name in enumerate(self.classes(variant)):
            for category in self.category_names.get(name, (own.get(name, name.replace(" ", "_")),)):
                labels[category] = label
        return labels

    def is_other(self, variant: str, category: str) -> bool:
        """Say whether an annotated category stands for things that no class of a variant names: neither excluded nor ambiguous, nor one of the
        words that name a class.
        """
        names = self.classes(variant)
        words = {*names, *(word for name in names for word in self.other_names.get(name, ()))}
        plain = " ".join(category.rpartition(".")[2].replace("_", " ").split())
        return not (category in self.labels_of_categories(variant) or category in self.excluded or category in self.ambiguous or plain in words)

    def templates(self, name: str) -> tuple[str, ...]:
        """Look up a set of prompt templates, or take what has a `{}` as templates itself, several separated by `|`.

        Raises:
            InputError: If there is no set of that name; says which there are.
        """
        if "{}" in name:
            return tuple(part.strip() for part in name.split("|"))
        if name not in self.prompts:
            raise InputError(f"{self.name} has no prompts {name!r}; it has {', '.join(self.prompts)}.")
        return self.prompts[name]


def manifest_folder() -> Path:
    """Return where the manifests lie."""
    return shipped_folder("data_manifests", "data_manifests")


def shipped_folder(in_package: str, in_source: str) -> Path:
    """Find a folder of data that comes with clip2x: in the installed package, else beside it in the source tree."""
    packaged = Path(str(resources.files("clip2x"))) / in_package
    return packaged if packaged.is_dir() else Path(__file__).resolve().parent.parent / in_source


def manifest_names() -> list[str]:
    """List the manifests that come with the package."""
    return sorted(path.stem for path in manifest_folder().glob("*.yaml"))


def load_manifest(name: str | Path) -> Manifest:
    """Read a manifest by its name or from a YAML file and check it.

    Raises:
        InputError: If no manifest has that name.
        BadFileError: If a key is missing, unknown or has a wrong value.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = manifest_folder() / f"{name}.yaml"
        if not path.is_file():
            raise InputError(f"no manifest is called {str(name)!r}; there are {', '.join(manifest_names())}; or give a .yaml file.")
    try:
        content = path.read_bytes()
        raw = yaml_value(content.decode("utf-8"))
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: not a readable YAML file ({' '.join(str(error).split())[:160]}).") from error
    return replace(_manifest(raw, path), sha256=hashlib.sha256(content).hexdigest())


def _manifest(raw: object, path: Path) -> Manifest:
    values = _mapping(raw, path, "the file", Manifest)
    names = _names(values["class_names"], path, "class_names", least=1)
    folders = _names(values.get("class_folders") or [name.replace(" ", "_") for name in names], path, "class_folders")
    for key in ("name", "title", "reader", "citation"):
        if not isinstance(values[key], str):
            raise BadFileError(f"{path}: {key} must be a text, found {excerpt(values[key])}.")
    for key in ("licence", "source"):
        if not isinstance(values[key], dict):
            raise BadFileError(f"{path}: {key} must be a mapping, found {type(values[key]).__name__}.")
    if len(folders) != len(names):
        raise BadFileError(f"{path}: class_folders has {len(folders)} entries, class_names {len(names)}.")
    for group in ("variants", "prompts"):
        if not isinstance(values[group], dict) or not values[group]:
            raise BadFileError(f"{path}: {group} must be a mapping with at least one entry.")
        _check_keys(values[group], path, group)
    variants = {}
    for key, entry in values["variants"].items():
        variants[key] = _variant(entry, path, f"variants.{key}")
        unknown = sorted({name for group in variants[key].groups.values() for name in group} - set(variants[key].class_names or names))
        if unknown:
            raise BadFileError(f"{path}: variants.{key}.groups has {unknown[0]!r}, which is none of its classes.")
    for key, templates in values["prompts"].items():
        if not isinstance(templates, list) or not templates or any(not isinstance(text, str) or "{}" not in text for text in templates):
            raise BadFileError(f"{path}: every template of prompts.{key} needs one {{}} for the class name.")
    known = {*names, *(name for variant in variants.values() for name in variant.class_names)}
    return Manifest(**{
        **values,
        "category_names": _names_of_classes(values, "category_names", known, path),
        "other_names": _names_of_classes(values, "other_names", known, path),
        "ambiguous": _names(values.get("ambiguous") or [], path, "ambiguous"),
        "sensors": _names(values.get("sensors") or [], path, "sensors"),
        "excluded": _names(values.get("excluded") or [], path, "excluded"),
        "class_names": names,
        "class_folders": folders,
        "variants": variants,
        "prompts": {key: tuple(templates) for key, templates in values["prompts"].items()},
    })


def _variant(raw: object, path: Path, where: str) -> Variant:
    values = _mapping(raw, path, where, Variant)
    for key in ("folder", "format"):
        if not isinstance(values[key], str) or not values[key]:
            raise BadFileError(f"{path}: {where}.{key} is {excerpt(values[key])}; it must be a text, quoted (YAML reads off and on as booleans).")
    if values["up"] not in AXES:
        raise BadFileError(f"{path}: {where}.up is {excerpt(values['up'])}; it must be one of {', '.join(AXES)}.")
    _require_places(values, path, where)
    try:
        rows = values["ours_from_files"]
        numbers = isinstance(rows, list) and all(isinstance(row, list) and len(row) == 3 for row in rows) and len(rows) == 3
        rotation = np.array(rows, dtype=float) if numbers else np.zeros(0)
    except (TypeError, ValueError, OverflowError):
        rotation = np.zeros(0)
    if rotation.shape != (3, 3) or not np.isfinite(rotation).all() or np.abs(rotation).max() > 2 or not np.allclose(
            rotation @ rotation.T, np.eye(3)) or np.linalg.det(rotation) < 0:
        raise BadFileError(f"{path}: {where}.ours_from_files must be a proper 3x3 rotation (a reflection is refused).")
    if not isinstance(values["splits"], dict) or not values["splits"]:
        raise BadFileError(f"{path}: {where}.splits must be a mapping with at least one entry.")
    _check_keys(values["splits"], path, f"{where}.splits")
    splits = {key: _split(entry, path, f"{where}.splits.{key}") for key, entry in values["splits"].items()}
    for key, split in splits.items():
        if ":" in key or "/" in key:
            raise BadFileError(f"{path}: {where}.splits.{key}: the name of a split holds no ':' and no '/'.")
        if split.of is not None and (split.of not in splits or splits[split.of].of is not None):
            raise BadFileError(f"{path}: {where}.splits.{key}.of names {split.of!r}, which is no split of this variant with files of its own.")
        names = [(f"splits.{key}.{name}", place) for name, place in (("file", split.file), ("fallback", split.fallback)) if place is not None]
        for name, place in [*names, *((f"files.{name}", name) for name in values.get("files") or {})]:
            _require_below_root(values["folder"], place, path, f"{where}.{name}")
        if split.shipped is not None:
            _require_below_root("", split.shipped, path, f"{where}.splits.{key}.shipped")
    if not isinstance(values.get("min_points", 1), int) or values.get("min_points", 1) < 1:
        raise BadFileError(f"{path}: {where}.min_points must be a whole number of at least 1.")
    if values.get("views") is not None and (not isinstance(values["views"], int) or values["views"] < 1):
        raise BadFileError(f"{path}: {where}.views must be a whole number of at least 1, or left out.")
    values["class_names"] = _names(values.get("class_names") or [], path, f"{where}.class_names")
    if not isinstance(values.get("groups") or {}, dict):
        raise BadFileError(f"{path}: {where}.groups must map titles to lists of class names.")
    values["groups"] = {str(key): _names(group, path, f"{where}.groups.{key}", least=1) for key, group in (values.get("groups") or {}).items()}
    rows = tuple((float(row[0]), float(row[1]), float(row[2])) for row in rotation)
    return Variant(**{**values, "ours_from_files": rows, "splits": splits})


def _require_places(values: dict[str, Any], path: Path, where: str) -> None:
    """Refuse folders and files that are not below the data root, and patterns with more in braces than names."""
    for key in ("pattern", "true_names"):
        if not isinstance(values.get(key), str | None):
            raise BadFileError(f"{path}: {where}.{key} must be a text, or left out.")
    files = values.get("files") or {}
    if not isinstance(files, dict) or not all(isinstance(item, str) for pair in files.items() for item in pair):
        raise BadFileError(f"{path}: {where}.files must map names of files to their sha256.")
    _require_below_root("", values["folder"], path, f"{where}.folder")
    for key in ("pattern", "true_names"):
        if values.get(key) is not None:
            _require_below_root(values["folder"], values[key], path, f"{where}.{key}")
    rest = values.get("pattern") or ""
    for place in PLACES:
        rest = rest.replace(place, "")
    if "{" in rest or "}" in rest:
        raise BadFileError(f"{path}: {where}.pattern is {excerpt(values['pattern'])}; in braces it may have {', '.join(PLACES)} only.")


def _require_below_root(folder: str, place: str, path: Path, where: str) -> None:
    try:
        require_below(require_text(f"{folder}/{place}" if folder and not place.startswith("/") else place))
    except ValueError:
        raise BadFileError(f"{path}: {where} is {excerpt(place)}; it must stay below the data root (a path without '..' or '/' in front).") from None


def _require_writable(text: str, path: Path, where: str) -> None:
    """Refuse what cannot be written into another file: halves of surrogate pairs."""
    try:
        require_text(text)
    except ValueError:
        raise BadFileError(f"{path}: {where} holds {excerpt(text)}, which is no Unicode text.") from None
    if len(text) > LONGEST_NAME:
        raise BadFileError(f"{path}: {where} holds a name of {len(text):,} letters, {excerpt(text)}; at most {LONGEST_NAME} are accepted.")


def _split(raw: object, path: Path, where: str) -> Split:
    values = _mapping(raw, path, where, Split)
    for key, value in values.items():
        whole = key in ("samples", "frames", "scenes", "seed", "start", "stop")
        if value is not None and not (isinstance(value, int) and value >= 0 if whole else isinstance(value, str)):
            raise BadFileError(f"{path}: {where}.{key} must be {'a whole number of at least 0' if whole else 'a text'}, found {excerpt(value)}.")
    return Split(**values)


def _names_of_classes(values: dict[str, Any], where: str, known: set[str], path: Path) -> dict[str, tuple[str, ...]]:
    """Check an optional mapping of classes, of the manifest or of a variant, to lists of names."""
    raw = values.get(where) or {}
    if not isinstance(raw, dict):
        raise BadFileError(f"{path}: {where} must map class names to lists of names.")
    for key in raw:
        if key not in known:
            raise BadFileError(f"{path}: {where}.{key} is no class of the manifest or of a variant.")
    return {key: _names(entry, path, f"{where}.{key}", least=1) for key, entry in raw.items()}


def _names(raw: object, path: Path, where: str, least: int = 0) -> tuple[str, ...]:
    """Check a list of different texts."""
    if not isinstance(raw, list) or len(raw) < least or not all(isinstance(name, str) for name in raw):
        raise BadFileError(f"{path}: {where} must be a list of quoted strings (YAML reads no and on as booleans).")
    if len(set(raw)) != len(raw):
        raise BadFileError(f"{path}: {where} has duplicates.")
    for name in raw:
        _require_writable(name, path, where)
    return tuple(raw)


def _mapping(raw: object, path: Path, where: str, kind: type) -> dict[str, Any]:
    """Check that `raw` is a mapping with the fields of the dataclass `kind`: none unknown, none missing."""
    if not isinstance(raw, dict):
        raise BadFileError(f"{path}: {where} must be a mapping, found {type(raw).__name__}.")
    known = {item.name: item for item in fields(kind) if not item.metadata.get("computed")}
    _check_keys(raw, path, where)
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise BadFileError(f"{path}: {where} has the unknown key {excerpt(unknown[0])}; known are {', '.join(known)}.")
    missing = [name for name, item in known.items() if name not in raw and _required(item)]
    if missing:
        raise BadFileError(f"{path}: {where} lacks {', '.join(missing)}.")
    return dict(raw)


def _check_keys(raw: dict[Any, Any], path: Path, where: str) -> None:
    for key in raw:
        if not isinstance(key, str):
            raise BadFileError(f"{path}: {where} has the key {excerpt(key)}, which is no text; quote it "
                               "(YAML reads off, on, no and yes as booleans).")
        _require_writable(key, path, where)


def _required(item: Any) -> bool:
    return item.default is MISSING and item.default_factory is MISSING
