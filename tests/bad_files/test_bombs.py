"""Files made by hand to do harm: unpack without end, hang a parser, run code, lead out of the folder that they lie in."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import resource
import struct
import zipfile
import zlib
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import model_readers
import numpy as np
import pytest
import test_depth_checkpoint as depths
import torch
from cloud_readers import MANIFEST, VOCABULARY
from harness import REPO, Subject, try_bad_files
from mutations import MERGE_BOMB, YAML_BOMB
from nuscenes_files import write_nuscenes
from PIL import Image
from triplet_frames import make_frame, write_store

import clip2x
from clip2x.data.files import LARGEST_UNPACKED, read_shape
from clip2x.data.formats.hdf5 import local_array
from clip2x.data.formats.matlab import read_texts
from clip2x.data.formats.textured_obj import locate, read_textured_obj
from clip2x.data.images import MOST_PIXELS_UNPROVEN, read_image
from clip2x.data.nuscenes.reader import NuScenesFrames
from clip2x.data.triplets.shard import Shard
from clip2x.data.triplets.store import TripletStore
from clip2x.encoders.clip_files import read_clip_file, read_weights, save_clip_file
from clip2x.encoders.depth_checkpoint import save_depth_checkpoint
from clip2x.encoders.point_checkpoint import read_point_checkpoint
from clip2x.errors import BadFileError, CheckpointMismatchError, Clip2xError
from clip2x.manifest import load_manifest
from clip2x.proxies.vocabulary import load_vocabulary
from clip2x.storage import sha256_of_file
from clip2x.tensor_files import CONTENT_KEY, read_tensors
from clip2x.untrusted import DEEPEST, bare, excerpt, json_value, require_below, require_file_name, yaml_value

CPU_S = 10


def seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def npz_bomb(path: Path) -> None:
    """One packed array under a hundred names: the archive has kilobytes and unfolds to more than a gigabyte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        stream = io.BytesIO()
        np.save(stream, np.zeros((700_000, 3)))
        archive.writestr("points.npy", stream.getvalue())
        for number in range(LARGEST_UNPACKED // len(stream.getvalue())):
            other = copy.copy(archive.filelist[0])
            other.filename = f"{number}.npy"
            archive.filelist.append(other)


def png_bomb(path: Path) -> None:
    """Pixels of one colour, less than Pillow itself would refuse."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", 9_000, 9_000, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(27_001)), b"IEND"]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(part) - 4) + part + struct.pack(">I",
                                                                                                           zlib.crc32(part)) for part in chunks))


def matlab_bomb(path: Path) -> None:
    packed = zlib.compress(bytes(1 << 25))
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + struct.pack("<II", 15, len(packed)) + packed)


def torch_bomb(path: Path) -> None:
    """A zip archive whose weights are packed a thousand times, which PyTorch would unpack."""
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(1 << 23)}, stream)
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for item in source.infolist():
            target.writestr(item.filename, source.read(item))


def expanded(path: Path) -> None:
    torch.save({"a": torch.zeros(1, dtype=torch.float16).expand(1 << 40)}, path)


def shared(path: Path, kind: Callable[..., Any]) -> None:
    """A value that holds the one before it twice, 40 times: two kilobytes whose text would have 2^40 parts."""
    value = kind()
    for _ in range(40):
        value = kind(a=value, b=value)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "clip2x": {"stage": value}}, path)


def off_spaces(path: Path) -> None:
    path.write_bytes(b"OFF" + b" " * 2_000_000 + b"x")


BOMBS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any], str]] = {
    "npz": ("a.npz", npz_bomb, read_shape, "bytes unfold to"),
    "png": ("a.png", png_bomb, read_image, f"at most {MOST_PIXELS_UNPROVEN:,} in all are accepted"),
    "matlab": ("a.mat", matlab_bomb, lambda path: read_texts(path, "alltrain"), "larger than expected"),
    "torch packed": ("a.pt", torch_bomb, read_weights, "PyTorch stores weights unpacked"),
    "torch expanded": ("a.pt", expanded, read_weights, "bytes that are not there"),
    "torch namespaces": ("a.pt", lambda path: shared(path, Namespace), read_point_checkpoint, "metadata holds a value of the type Namespace"),
    "torch ordered": ("a.pt", lambda path: shared(path, OrderedDict), read_point_checkpoint, "metadata holds a value of the type OrderedDict"),
    "torch mappings": ("a.pt", lambda path: shared(path, dict), read_point_checkpoint, "metadata holds lists that unfold to more than"),
    "off spaces": ("a.off", off_spaces, read_shape, "broken OFF header"),
    "off digits": ("a.off", lambda path: path.write_bytes(b"OFF\n" + b"1" * 100_000 + b" 2 0\n"), read_shape, "broken OFF header"),
    "yaml aliases": ("a.yaml", lambda path: path.write_text(f"{MANIFEST}\nlaughs:\n  " + YAML_BOMB.replace("\n", "\n  ")), load_manifest,
                     "unfold to more"),
    "yaml merges": ("a.yaml", lambda path: path.write_text(f"{VOCABULARY}\nmore:\n  " + MERGE_BOMB.replace("\n", "\n  ")), load_vocabulary,
                    "unfold to more"),
    "yaml depth": ("a.yaml", lambda path: path.write_text("a: " + "[" * 2000 + "]" * 2000), load_manifest, "lists within lists"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_unfold(name: str, tmp_path: Path) -> None:
    """In a process of its own, which may take 700 MB more than the imports and a few seconds of computing."""
    file, write, _, message = BOMBS[name]
    write(tmp_path / file)
    child = os.fork()
    if child == 0:
        _explode(name, tmp_path)
    _, status = os.waitpid(child, 0)
    told = (tmp_path / "told").read_text()
    assert os.waitstatus_to_exitcode(status) == 0, told
    assert message in told and file in told and "\n" not in told


def _explode(name: str, folder: Path) -> None:
    told = "nothing was refused"
    try:
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, seconds()
        try:
            BOMBS[name][2](folder / BOMBS[name][0])
        except BadFileError as error:
            told = str(error)
        grown, took = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10, seconds() - started
        if grown > 700 or took > CPU_S:
            told = f"{grown} MB and {took:.1f} s\n{told}"
    except BaseException as error:
        told = f"{type(error).__name__}\n{error}"
    (folder / "told").write_text(told)
    os._exit(0)


class Canary:
    """A pickle of this runs code when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickled = pickle.dumps(Canary(canary))
    torch.save({"a": Canary(canary)}, tmp_path / "zip.pt")
    torch.save({"a": Canary(canary)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pt").write_bytes(pickled)
    np.save(tmp_path / "a.npy", np.array([Canary(canary)], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", points=np.array([Canary(canary)], dtype=object))
    (tmp_path / "a.yaml").write_text(f"!!python/object/apply:os.system ['touch {canary}']")
    (tmp_path / "b.yaml").write_text(MANIFEST.replace("title: Small", f"title: !!python/object/apply:os.system ['touch {canary}']"))
    for name in ("zip.pt", "old.pt", "bare.pt"):
        with pytest.raises(BadFileError, match="holds more than weights, or is damaged|truncated or damaged"):
            read_weights(tmp_path / name)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(BadFileError, match="not a numeric NumPy array"):
            read_shape(tmp_path / name)
    for name in ("a.yaml", "b.yaml"):
        for read in (load_manifest, load_vocabulary):
            with pytest.raises(BadFileError, match="could not determine a constructor for the tag|must be a mapping"):
                read(tmp_path / name)
    assert not canary.exists()
    pickle.loads(pickled)
    assert canary.exists(), "the canary works"


def test_pictures_are_opened_by_no_program(tmp_path: Path) -> None:
    """Pillow would hand an EPS file to Ghostscript, whatever its ending."""
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) (w) file\n%%EOF\n")
    with pytest.raises(BadFileError, match="not a whole picture"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("change", [
    {"folder": "../secret"}, {"folder": "/etc"}, {"pattern": "../../{id}.off"}, {"pattern": "/etc/{id}"}, {"pattern": "{id.__class__}"},
    {"pattern": "{id:>999999999}"}, {"true_names": "../../x.json"}, {"splits": {"train": {"file": "../../etc/passwd"}}},
    {"splits": {"train": {"file": "/etc/passwd"}}}, {"splits": {"train": {"fallback": "../../x"}}}, {"splits": {"train": {"shipped": "../x"}}},
    {"files": {"../../x": "00"}}])
def test_manifests_name_nothing_outside_of_the_data_root(change: dict[str, Any], tmp_path: Path) -> None:
    content = yaml_value(MANIFEST)
    content["variants"]["off"] |= change
    (tmp_path / "a.yaml").write_text(json.dumps(content))
    with pytest.raises(BadFileError, match="must stay below the data root|in braces it may have"):
        load_manifest(tmp_path / "a.yaml")


@pytest.mark.parametrize("name", ["../secret/t.png", "../../secret/t.png", "/etc/hostname", "images/../../../secret/t.png", "..\\..\\secret\\t.png"])
def test_textures_lie_below_the_model(name: str, tmp_path: Path) -> None:
    folder, secret = tmp_path / "world" / "model" / "models", tmp_path / "world" / "secret"
    folder.mkdir(parents=True)
    secret.mkdir()
    Image.new("RGB", (2, 2), (1, 2, 3)).save(secret / "t.png")
    (folder / "m.obj").write_text("mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nusemtl a\nf 1/1 2/2 3/3\n")
    (folder / "m.mtl").write_text(f"newmtl a\nmap_Kd {name}\n")
    mesh, notes = read_textured_obj(folder / "m.obj")
    assert mesh.materials[0].texture is None and "missing textures" in notes[0]
    assert locate(folder, f"../{folder.name}/m.mtl") == folder / "m.mtl", "a folder beside is found"
    (folder / "m.obj").write_text((folder / "m.obj").read_text().replace("mtllib m.mtl", "mtllib ../../secret/m.mtl"))
    (secret / "m.mtl").write_text("newmtl a\nKd 1 0 0\n")
    assert any("material files that are missing" in note for note in read_textured_obj(folder / "m.obj")[1])


@pytest.mark.parametrize("name", ["../../secret.bin", "/etc/passwd", "samples/../../../secret.bin"])
def test_nuscenes_tables_name_files_below_the_data_set(name: str, tmp_path: Path) -> None:
    written = write_nuscenes(tmp_path / "root", ("scene-0061",), key_frames=1)
    written.tables["sample_data"][0]["filename"] = name
    written.write()
    with pytest.raises(BadFileError, match="record 0: filename is .* it must be a text: a path below"):
        NuScenesFrames(root=tmp_path / "root", variant="v1.0-mini", split="mini_train")


def test_stores_name_files_in_their_folder(tmp_path: Path) -> None:
    write_store(tmp_path / "store", [make_frame(number) for number in range(3)])
    (tmp_path / "outside.h5").write_bytes((tmp_path / "store" / "shard-0000-000000.h5").read_bytes())
    index = json.loads((tmp_path / "store" / "index.json").read_text())
    for change in ("../outside.h5", str(tmp_path / "outside.h5"), "a/../../outside.h5"):
        index["shards"][0]["file"] = change
        (tmp_path / "store" / "index.json").write_text(json.dumps(index))
        with pytest.raises(BadFileError, match="is no name of a file in its folder"):
            TripletStore(tmp_path / "store")


@pytest.mark.parametrize("how", ["link", "soft link", "storage", "virtual", "empty", "claim"])
def test_hdf5_arrays_lie_in_their_own_file(how: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["data"] = np.arange(12.0)
    (tmp_path / "raw").write_bytes(bytes(96))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if how == "link":
            file["data"] = h5py.ExternalLink("other.h5", "data")
        elif how == "soft link":
            file["data"] = h5py.SoftLink("/elsewhere")
        elif how == "storage":
            file.create_dataset("data", (12,), "f8", external=[(str(tmp_path / "raw"), 0, 96)])
        elif how == "virtual":
            layout = h5py.VirtualLayout((12,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "data", (12,))
            file.create_virtual_dataset("data", layout)
        elif how == "empty":
            file["data"] = h5py.Empty("f8")
        else:
            file.create_dataset("data", (1 << 28,), "f8", chunks=True)
    with h5py.File(tmp_path / "a.h5", "r") as file, pytest.raises(KeyError, match="another place|another file|no array|claims"):
        local_array(file, "data")
    with pytest.raises(BadFileError):
        Shard(tmp_path / "a.h5")


def test_a_checkpoint_cannot_name_a_file_as_its_clip(tmp_path: Path) -> None:
    """It would be read from anywhere; only tags of open_clip are taken from a file."""
    clip = model_readers.large()
    save_depth_checkpoint(tmp_path / "depth.safetensors", depths.tuned_tower(clip), clip, depths.about())
    weights = read_weights(tmp_path / "depth.safetensors")
    torch.save(weights.state, tmp_path / "other.pt")
    save_clip_file(tmp_path / "evil.safetensors", weights.state, {**weights.metadata, "clip_pretrained": str(tmp_path / "other.pt")})
    with pytest.raises(CheckpointMismatchError,
                       match=r"says that its CLIP is .* which is no tag of tests-small-quickgelu; give that CLIP's tag or file"):
        clip2x.load(tmp_path / "evil.safetensors", device="cpu")


def test_every_flipped_bit_of_a_checkpoint_is_found(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every seventh in `make test`, every one in `make chaos`."""
    path = tmp_path / "clip.safetensors"
    save_clip_file(path, model_readers.STATE, {"model": "a", "words": ["chair"]})
    good = path.read_bytes()
    assert read_clip_file(path).state.keys() == model_readers.STATE.keys()
    before = sha256_of_file(path)
    save_clip_file(path, dict(reversed(model_readers.STATE.items())), {"words": ["chair"], "model": "a"})
    assert sha256_of_file(path) == before, "the same weights give the same file"
    unnoticed = []
    for place in range(0, 8 * len(good), 7 if request.config.getoption("--faults") == 1 else 1):
        changed = bytearray(good)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            state = read_weights(path).state
        except Clip2xError:
            continue
        if not model_readers.same(state, model_readers.STATE):
            unnoticed.append(place)
    assert unnoticed == []


def test_files_without_a_hash_are_still_read_and_sealed_ones_asked_for(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(model_readers.STATE, tmp_path / "old.safetensors", metadata={"clip2x": "{}"})
    tensors, texts = read_tensors(tmp_path / "old.safetensors")
    assert model_readers.same(tensors, model_readers.STATE) and texts == {"clip2x": "{}"}
    with pytest.raises(ValueError, match=f"it has no {CONTENT_KEY}"):
        read_tensors(tmp_path / "old.safetensors", sealed=True)
    assert read_clip_file(tmp_path / "old.safetensors").metadata == {}


def test_names_and_values_from_files() -> None:
    for good in ("a", "a/b", "a/../b", "./a"):
        assert require_below(good) == good
    assert require_below("../a", up=1) == "../a"
    for bad in ("", "/a", "..", "../a", "a/../../b", "a\0b"):
        with pytest.raises(ValueError, match="is no path below its folder"):
            require_below(bad)
    for bad in ("", ".", "..", "a/b", "/a", "a\0", 3):
        with pytest.raises(ValueError, match="is no name of a file"):
            require_file_name(bad)
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert len(excerpt(deep)) < 100 and len(excerpt({"a" * 1000: ["x" * 1000] * 1000})) <= 80 and "\n" not in excerpt("a\nb")
    assert excerpt([np.int64(3), np.str_("a"), None, 1.5]) == repr([np.int64(3), np.str_("a"), None, 1.5])
    for kind in (Namespace, OrderedDict):
        value: Any = kind()
        for _ in range(40):
            value = kind(a=value, b=value)
        assert excerpt(value) == f"<{kind.__name__}>" == bare(value) and excerpt([value, {"a": value}]).count(kind.__name__) == 2
    with pytest.raises(ValueError, match="lists within lists without end"):
        json_value("[" * 100_000)
    with pytest.raises(ValueError, match="Exceeds the limit"):
        json_value("1" * 5000)
    assert yaml_value("a: &x [1, 2]\nb: *x\nc: {<<: {d: 1}}") == {"a": [1, 2], "b": [1, 2], "c": {"d": 1}}
    with pytest.raises(ValueError, match=f"more than {DEEPEST} deep"):
        yaml_value("[" * (DEEPEST + 2) + "]" * (DEEPEST + 2))


def test_no_reader_of_the_package_trusts_a_pickle_or_a_yaml_tag() -> None:
    """What could run code is used in one way only, wherever it stands."""
    sources = {path: path.read_text() for path in sorted((REPO / "clip2x").rglob("*.py"))}
    for path, text in sources.items():
        for number, line in enumerate(text.splitlines(), 1):
            where = f"{path.name}:{number}"
            if "torch.load(" in line:
                assert "weights_only=True" in line, where
            if "np.load(" in line:
                assert "allow_pickle=False" in line, where
            assert not any(word in line for word in ("yaml.load(", "yaml.unsafe_load", "yaml.full_load", "pickle.load", "allow_pickle=True", "exec(",
                                                     "tarfile", "extractall")), where
    loaders = [path.name for path, text in sources.items() if "safe_load(" in text]
    assert loaders == ["stage_cli.py"], "what a user writes goes through untrusted.yaml_value; that one reads what it has just written"


def test_the_suite_can_fail(tmp_path: Path) -> None:
    """A reader with a hole is caught by the same harness: it reads what a file names, wherever that lies."""
    def build(root: Path) -> Subject:
        (root / "a.txt").write_text("b.txt")
        (root / "b.txt").write_text("1")

        def read() -> str:
            try:
                return (root / (root / "a.txt").read_text()).read_text()
            except (OSError, ValueError) as error:
                raise BadFileError("a.txt: names no file.") from error

        return Subject([root / "a.txt"], read)

    assert "Escaped" in try_bad_files(build, tmp_path, 400, 0).problem
