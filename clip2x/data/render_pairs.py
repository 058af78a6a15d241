"""Draw ten pictures of every ShapeNet model, in the layout of CLIP2Point's archive `rendering`: the image half of its pre-training pairs.

Cameras: view preset clip2point-10 at twice the distance of the depth views, 60 degrees of view; white background; one directional light
(official code 30673e7, render/render.py and datasets/shapenet.py). The direction of the light is drawn for every picture (ours; the official
code draws it in training mode, from the same range). Shading: `clip2x.meshes.render_views`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from clip2x.data.base import PublishedData
from clip2x.data.formats.textured_obj import read_textured_obj
from clip2x.data.shapenet import Model, are_there, listed_models, names_in
from clip2x.data.shapenet_pairs import VIEW_PRESET, VIEWS, in_threads, picture_name, pictures_of, view_problem
from clip2x.data.transforms import generator_for
from clip2x.data.worker_pool import Lost, each_result
from clip2x.depth import view_preset
from clip2x.errors import Clip2xError, InputError, MissingDependencyError
from clip2x.meshes import Mesh, render_views
from clip2x.storage import atomic_path, remove_stale
from clip2x.untrusted import bare, excerpt, json_value

DISTANCE_FACTOR = 2.0  # official code: of the cameras, beside those of the depth views
AMBIENT = 0.5  # ours: share of the light that reaches every face
DRAWING = 1  # part of the stamp: raise it when a change alters the pictures
STAMP = "rendering.json"
MODEL_LIMIT_S = 600.0  # ours: the largest real meshes at hand take half a second
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True)
class Drawing:
    """What the pictures depend on besides the meshes; kept beside them as `rendering.json`.

    variant: which meshes. size: of the pictures, pixels. supersample: rays per pixel and axis. seed: of the light.
    """

    variant: str = "v2"
    size: int = 224
    supersample: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or self.supersample < 1 or self.seed < 0:
            raise InputError(f"size and supersample must be at least 1 and seed at least 0, got {self.size}, {self.supersample}, {self.seed}.")

    def stamp(self) -> dict[str, Any]:
        """List everything that another picture would come from."""
        return {**asdict(self), "views": VIEW_PRESET, "distance_factor": DISTANCE_FACTOR, "ambient": AMBIENT, "background": "white",
                "light": "direction from U(-1, 1)^3 by seed, model and view", "drawing": DRAWING}


@dataclass
class RenderReport:
    """What a run did with the models of the lists that belong to its shard.

    failed: reasons by `synset-id`. missing: models that are not on disk. remarks: how often a model was drawn with something other than its
    files say (a missing texture, for example). failed_list: the file that holds `failed`; None if there is none.
    """

    folder: Path
    total: int = 0
    missing: int = 0
    there: int = 0
    drawn: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)
    failed_list: Path | None = None


@dataclass(frozen=True)
class _Job:
    """What every process needs to know."""

    drawing: Drawing
    folder: Path
    meshes: str
    pictures: str
    views: int
    ours_from_files: NDArray[np.float64]


@dataclass(frozen=True)
class _Outcome:
    """What became of a model: drawn if both reasons are None. `stop`: a reason that concerns all models."""

    failed: str | None = None
    stop: str | None = None
    remarks: tuple[str, ...] = ()


def render_pairs(root: Path, drawing: Drawing, *, split: str | None = None, shard: tuple[int, int] = (1, 1), workers: int | None = None,
                 limit_s: float = MODEL_LIMIT_S) -> RenderReport:
    """Draw the models of ShapeNet's lists whose pictures are not there yet; stopped at any time, it goes on where it was.

    The pictures of a model appear together or not at all. They depend on `drawing` and on the mesh alone, not on order, shards or processes.
    A folder with pictures that this function did not draw (no `rendering.json`) is left as it is.

    Args:
        root: The data root.
        drawing: What to draw.
        split: `train` or `test`; None for both.
        shard: Which part of the models, counted from 1, and of how many; a model's part follows from its name.
        workers: Processes; all cores if not given.
        limit_s: A model that takes longer counts as failed, seconds.

    Raises:
        InputError: If an argument is not possible, the folder holds pictures of other settings or of unknown origin or cannot be written, or
            nothing can be drawn on this machine.
        DataNotFoundError: If the lists or all meshes are missing.
        BadFileError: If a list is damaged or a folder cannot be read.
    """
    number, shards = shard
    if not 1 <= number <= shards:
        raise InputError(f"shard must be 1/{shards} to {shards}/{shards}, got {number}/{shards}.")
    job, models, there = _find_models(Path(root), drawing, split)
    place = job.folder / job.pictures.split("/")[0]
    report = RenderReport(place)
    mine = [model for model in models if _shard_of(model, shards) == number]
    report.total, report.missing = len(mine), sum(model not in there for model in mine)
    problems = in_threads(partial(view_problem, job.folder, job.pictures, job.views), there)
    undrawn = [model for model, problem in zip(there, problems, strict=True) if problem is not None]
    if _is_foreign(place):
        if undrawn:
            raise InputError(f"{place} holds pictures but no {STAMP}, so they were not drawn by this command (the released archive?), and "
                             f"{len(undrawn):,} of {len(there):,} models on disk lack theirs; two kinds are not mixed: move the folder away to "
                             "draw all, or train without those models (skip_missing_views: true).")
    else:
        _claim(place, drawing.stamp())
        remove_stale(place)
    lacking = set(undrawn)
    report.there = sum(model in there and model not in lacking for model in mine)
    todo = sorted(lacking.intersection(mine), key=_number)  # mixed, so that the time left can be told from the models before
    _draw_all(job, todo, report, workers or _usable_cores(), limit_s,
              place / f"failed-{split or 'all'}-{number}-of-{shards}.jsonl")
    return report


def _find_models(root: Path, drawing: Drawing, split: str | None) -> tuple[_Job, list[Model], dict[Model, None]]:
    """List the models, and those whose mesh is on disk, in order."""
    data = PublishedData("shapenet", root, drawing.variant, split or "train")
    meshes = data.variant
    if meshes.format != "obj" or meshes.pattern is None:
        raise InputError(f"variant must be one with meshes, got {drawing.variant!r} ({meshes.format}); pictures are drawn of v2 or v1.")
    if data.part:
        raise InputError(f"pictures are drawn of whole splits: {', '.join(meshes.splits)}; got {split!r}.")
    pattern, views = pictures_of(data.manifest.variant(VIEWS), f"{data.manifest.name}/{VIEWS}")
    models = sorted({model for name in ([split] if split else meshes.splits) for model in listed_models(data, name)})
    near = [model for model, there in zip(models, are_there(data.folder, meshes.pattern, models), strict=True) if there]
    job = _Job(drawing, data.folder, meshes.pattern, pattern, views, np.array(meshes.ours_from_files, dtype=np.float64))
    found = in_threads(lambda model: os.path.exists(_mesh_path(job, model)), near)
    there = {model: None for model, is_there in zip(near, found, strict=True) if is_there}
    if not there:
        first = f", first {_mesh_path(job, models[0]).relative_to(data.folder)}" if models else ""
        raise data.not_found(f"none of the {len(models):,} meshes of the lists is there{first}")
    return job, models, there


def _mesh_path(job: _Job, model: Model) -> Path:
    return job.folder / job.meshes.format(synset=model[0], id=model[1])


def _shard_of(model: Model, shards: int) -> int:
    """Say which shard a model belongs to, 1 to `shards`."""
    return _number(model) % shards + 1


def _number(model: Model) -> int:
    return int.from_bytes(hashlib.sha256("-".join(model).encode("utf-8", "surrogateescape")).digest()[:8], "big")


def _is_foreign(place: Path) -> bool:
    """Say whether a folder holds pictures without our stamp."""
    names = names_in(os.fspath(place))
    return STAMP not in names and any(not name.startswith(".") and (place / name).is_dir() for name in names)


def _claim(place: Path, stamp: dict[str, Any]) -> None:
    """Write the stamp, or compare it with the one that is there; of processes that start together the first one writes it.

    Raises:
        InputError: If the settings differ, or the folder cannot be written.
    """
    path = place / STAMP
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(_cannot_write(place, error)) from error
    try:
        with tempfile.NamedTemporaryFile("w", dir=place, prefix=".stamp-", encoding="utf-8") as file:  # also shows that the folder can be written
            file.write(json.dumps(stamp, indent=1) + "\n")
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            _link(file.name, path)
    except FileExistsError:
        pass
    except OSError as error:
        raise InputError(_cannot_write(place, error)) from error
    try:
        found = json_value(path.read_text(encoding="utf-8"))
        differ = [f"{bare(key)} {excerpt(found.get(key))} there, {excerpt(stamp.get(key))} asked for"
                  for key in {**found, **stamp} if found.get(key) != stamp.get(key)]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())[:120]}); delete {place} to draw all pictures anew.") from error
    if differ:
        raise InputError(f"{place} holds pictures of other settings ({'; '.join(differ[:3])}); use those, or move the folder away.")


def _link(source: str, target: Path) -> None:
    """Give a whole file its name unless the name is taken.

    Raises:
        FileExistsError: If it is.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if not target.exists():  # on such a disk two processes that start in the same instant are not told apart
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)


def _draw_all(job: _Job, models: Sequence[Model], report: RenderReport, workers: int, limit_s: float, failed_list: Path) -> None:
    """Draw models side by side; at the end, however it comes, write the list of those that failed or remove that of an earlier run."""
    bar = tqdm(total=report.total - report.missing, initial=report.there, desc="render-pairs", unit="model", smoothing=0.05, disable=None)
    try:
        for model, outcome in each_result(partial(_draw_model, job), models, min(workers, len(models)), limit_s) if models else ():
            failed = outcome.reason if isinstance(outcome, Lost) else outcome.failed
            if isinstance(outcome, _Outcome) and outcome.stop is not None:
                raise InputError(outcome.stop)
            bar.update()
            if failed is None:
                report.drawn += 1
                report.remarks.update(outcome.remarks if isinstance(outcome, _Outcome) else ())
            else:
                report.failed["-".join(model)] = failed
                bar.set_postfix(failed=len(report.failed))
    finally:
        bar.close()
        _write_failed(job, report, failed_list)


def _write_failed(job: _Job, report: RenderReport, path: Path) -> None:
    try:
        if not report.failed:
            path.unlink(missing_ok=True)
            return
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps({"model": model, "mesh": os.fspath(_mesh_path(job, _model_of(model))), "reason": reason}) + "\n"
                                         for model, reason in sorted(report.failed.items())), encoding="utf-8")
        report.failed_list = path
    except OSError as error:
        raise InputError(_cannot_write(path.parent, error)) from error


def _model_of(name: str) -> Model:
    synset, _, model = name.partition("-")
    return synset, model


def _draw_model(job: _Job, model: Model) -> _Outcome:
    """Draw and store all pictures of a model; in a process of `each_result`, so nothing is raised."""
    try:
        mesh, notes = read_textured_obj(_mesh_path(job, model))
        turned = Mesh(mesh.vertices @ job.ours_from_files.T, mesh.faces, mesh.face_material, mesh.materials, mesh.face_uv)
        pictures = draw_pictures(turned, "-".join(model), job.drawing)
    except MissingDependencyError as error:
        return _Outcome(stop=str(error))
    except MemoryError:
        return _Outcome(failed="there is not enough memory for it")
    except Clip2xError as error:
        return _Outcome(failed=" ".join(str(error).split()))
    except Exception as error:  # a mesh that we do not foresee must not end a run of hours; it is listed
        return _Outcome(failed=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    try:
        paths = [job.folder / picture_name(job.pictures, model, view) for view in range(job.views)]
        store_pictures(paths[0].parent, [path.name for path in paths], pictures)
    except OSError as error:
        return _Outcome(stop=_cannot_write(job.folder / job.pictures.split("/")[0], error))
    return _Outcome(remarks=tuple(note.split(": ")[0] for note in notes))


def draw_pictures(mesh: Mesh, name: str, drawing: Drawing) -> NDArray[np.uint8]:
    """Draw a mesh from all sides: (V, S, S, 3), on white.

    Args:
        mesh: In the object frame.
        name: Of the model; the light depends on it.
        drawing: The settings.
    """
    azimuth_deg, elevation_deg, distance = (angles.numpy() for angles in view_preset(VIEW_PRESET))
    light = generator_for(drawing.seed, name).uniform(-1, 1, (len(distance), 3))
    drawn = render_views(mesh, azimuth_deg, elevation_deg, DISTANCE_FACTOR * distance, image_size=drawing.size, light=light, ambient=AMBIENT,
                         supersample=drawing.supersample)
    return on_white(drawn)


def on_white(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay pictures (..., 4) of colour and coverage on white: (..., 3)."""
    pixels = pictures.reshape(-1, 4).copy()
    coverage = pixels[:, 3].copy()
    pixels.view(np.uint32)[coverage == 0] = 0xFFFFFFFF
    edge = np.flatnonzero((coverage != 0) & (coverage != 255))
    share = coverage[edge, None].astype(np.uint16)
    pixels[edge, :3] = (pixels[edge, :3] * share + 255 * (255 - share) + 127) // 255
    return pixels[:, :3].reshape(*pictures.shape[:-1], 3)


def png_of(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture (H, W, 3) as PNG. Ours: three times as fast as Pillow and no larger, since flat colours need no row filters."""
    height_px, width_px, _ = picture.shape
    rows = np.zeros((height_px, 1 + 3 * width_px), dtype=np.uint8)  # each begins with the number of its filter: 0, none
    rows[:, 1:] = picture.reshape(height_px, -1)
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)  # 8 bits, red, green, blue
    chunks = [kind + body for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))]
    framed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def store_pictures(folder: Path, names: Sequence[str], pictures: NDArray[np.uint8]) -> None:
    """Write pictures (V, S, S, 3) into a hidden folder and give it its name at the end; a folder of that name is replaced.

    Raises:
        OSError: If that fails.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-", ignore_cleanup_errors=True) as hidden:
        made = Path(hidden) / folder.name
        made.mkdir()
        for name, picture in zip(names, pictures, strict=True):
            (made / name).write_bytes(png_of(picture))
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)


def _cannot_write(place: Path, error: OSError) -> str:
    return (f"cannot write into {place} ({error.strerror or error}); what is drawn stays: make room or choose another --root, "
            "and run the same command again.")


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
