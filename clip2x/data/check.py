"""Compare what lies below a root folder with a manifest: complete, partial or absent, what is missing, what is broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clip2x.data.base import PublishedData
from clip2x.data.cache import SampleCache
from clip2x.data.frames import FrameDataset
from clip2x.data.images import read_image
from clip2x.data.readers import FRAME_READERS, READERS, VIEW_READERS
from clip2x.errors import Clip2xError, DataNotFoundError, InputError
from clip2x.manifest import Manifest, load_manifest
from clip2x.storage import sha256_of_file

LISTED = 10  # problems that are kept with their text


@dataclass
class SplitReport:
    """What was found of one split.

    what: `samples`, `frames`, or `views` (objects with all their pictures). status: `complete`, `partial`, `absent`, `broken`,
    or `present` where the manifest states no count to compare with.
    expected: as the manifest states it, None where it does not. notes: what the reader noticed. problems: files that cannot be used, the
    first ones with their reasons; num_problems: all of them.
    """

    variant: str
    split: str
    what: str
    status: str
    found: int = 0
    expected: int | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    num_problems: int = 0

    def add_problem(self, reason: str) -> None:
        """Count a file that cannot be used."""
        self.num_problems += 1
        self.status = "broken"
        if len(self.problems) < LISTED:
            self.problems.append(" ".join(reason.split()))


def manifest_and_variant(name: str) -> tuple[str, str]:
    """Take `manifest/variant` apart; the manifest may be the path of a YAML file, the variant is empty where none is named."""
    endings = (".yaml", ".yml")
    if name.endswith(endings):
        return name, ""
    path, _, of_path = name.rpartition("/")
    manifest, _, variant = name.partition("/")
    return (path, of_path) if path.endswith(endings) else (manifest, variant)


def check_data(name: str, root: Path, *, deep: bool = False) -> list[SplitReport]:
    """Examine every split of a data set, or of one variant (`manifest/variant`).

    Args:
        name: A manifest, with or without a variant behind a slash.
        root: The data root.
        deep: Also open every sample, decode every picture and compare every known sha256.

    Raises:
        InputError: If there is no such manifest or variant, or no such folder.
    """
    manifest_name, variant = manifest_and_variant(name)
    manifest = load_manifest(manifest_name)
    if variant:
        manifest.variant(variant)
    if not Path(root).is_dir():
        raise InputError(f"--root {root} is no folder; give the folder that holds {next(iter(manifest.variants.values())).folder}/.")
    reports = []
    for key in [variant] if variant else list(manifest.variants):
        for split, facts in manifest.variants[key].splits.items():
            if facts.of is None:
                of_split = [_examined(manifest, key, split, what, Path(root), deep) for what in _kinds(manifest, key)]
                for report in of_split[1:]:  # objects are as complete as the frames that they are cut out of
                    if report.status == "present":
                        report.status = of_split[0].status
                reports += of_split
        if deep and any(report.variant == key and report.status != "absent" for report in reports):
            _compare_hashes(manifest, key, Path(root), [report for report in reports if report.variant == key])
    return reports


def complete_variants(reports: Sequence[SplitReport]) -> list[str]:
    """List the variants of which nothing is known to be missing."""
    variants = dict.fromkeys(report.variant for report in reports)
    return [variant for variant in variants if all(
        report.status in ("complete", "present") for report in reports if report.variant == variant)]


def _kinds(manifest: Manifest, variant: str) -> list[str]:
    if manifest.variants[variant].views is not None:
        return ["views"]
    return (["frames"] if manifest.reader in FRAME_READERS else []) + ["samples"]


def _examined(manifest: Manifest, variant: str, split: str, what: str, root: Path, deep: bool) -> SplitReport:
    facts = manifest.variants[variant].splits[split]
    expected = facts.frames if what == "frames" else facts.samples
    readers: dict[str, Any] = {"frames": FRAME_READERS, "views": VIEW_READERS, "samples": READERS}
    reader = readers[what][manifest.reader]
    try:
        data: PublishedData = reader(manifest, root=root, variant=variant, split=split)
    except DataNotFoundError as error:
        return SplitReport(variant, split, what, "absent", expected=expected, notes=[" ".join(error.missing.split())])
    except (Clip2xError, OSError) as error:  # OSError: a folder that cannot be entered, for example
        report = SplitReport(variant, split, what, "broken", expected=expected)
        report.add_problem(f"{error.filename or root}: cannot be read ({error.strerror or error})." if isinstance(error, OSError) else str(error))
        return report
    if isinstance(getattr(data, "cache", None), SampleCache):
        data.cache = None  # type: ignore[attr-defined]  # points kept from an earlier reading say nothing of the files
    found = len(data)  # type: ignore[arg-type]
    status = "present" if expected is None else "complete" if found == expected else "partial"
    if data.lacks_files:
        status = "partial"
    report = SplitReport(variant, split, what, status, found, expected, list(data.notes))
    if deep:
        for problem in _problems(data, f"{manifest.name}/{variant}/{split}"):
            report.add_problem(problem)
    return report


def _problems(data: Any, name: str) -> Iterator[str]:
    """Read every sample or frame and every picture of it."""
    try:
        data.verify()
    except Clip2xError as error:
        yield str(error)
    for position in tqdm(range(len(data)), desc=name, unit="item", leave=False, disable=None):
        try:
            item = data[position]
            if isinstance(data, FrameDataset):
                for camera in item.cameras:
                    height_px, width_px, _ = read_image(camera.file).shape
                    if (width_px, height_px) != (camera.width_px, camera.height_px):
                        yield (f"{camera.file}: is {width_px} x {height_px} pixels, stated are {camera.width_px} x {camera.height_px}: "
                               "its calibration does not fit.")
        except Clip2xError as error:
            yield str(error)


def _compare_hashes(manifest: Manifest, variant: str, root: Path, reports: list[SplitReport]) -> None:
    """Compare the files of which the manifest knows the content; an absent one is the reader's business."""
    facts = manifest.variants[variant]
    known = [(name, digest, reports) for name, digest in facts.files.items()]
    for report in reports:
        split = facts.splits[report.split]
        if split.file is not None and split.sha256 is not None:
            known.append((split.file, split.sha256, [report]))
    for name, digest, concerned in known:
        path = root / facts.folder / name
        try:
            problem = "its sha256 is not the one in the manifest: another version, or damaged" if sha256_of_file(path) != digest else None
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            problem = f"cannot be read ({error.strerror or error})"
        for report in concerned if problem else []:
            report.add_problem(f"{path}: {problem}.")
