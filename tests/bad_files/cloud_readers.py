"""Single files: clouds, meshes, pictures, lists, YAML and JSON of one file."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from harness import Subject
from PIL import Image

from clip2x.cloud_files import read_turned
from clip2x.data.files import read_cloud
from clip2x.data.formats.textured_obj import read_textured_obj
from clip2x.data.images import picture_size, read_depth_codes, read_image
from clip2x.data.nuscenes.sweeps import read_sweep
from clip2x.data.sunrgbd.annotations import floor_boxes, picture_boxes
from clip2x.data.sunrgbd.files import read_depth, read_intrinsics, read_tilt, tokens_of_list, tokens_of_matlab
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.evaluation.class_embeddings import read_class_file
from clip2x.manifest import load_manifest
from clip2x.proxies.coco_file import read_coco
from clip2x.proxies.vocabulary import load_vocabulary
from clip2x.report_command import read_results
from clip2x.scene import open_scene, read_boxes

Build = Callable[[Path], Subject]
POINTS = np.random.default_rng(0).normal(size=(24, 3))
CORNERS = "0 0 0\n1 0 0\n1 1 0\n0 1 0.5\n"


def single(name: str, content: bytes | str, read: Callable[[Path], Any], *accepts: type[Exception]) -> Build:
    """A reader of one file."""
    def build(root: Path) -> Subject:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Subject([path], lambda: read(path), (BadFileError, DataNotFoundError, *accepts))

    return build


def saved(write: Callable[[BytesIO], Any]) -> bytes:
    stream = BytesIO()
    write(stream)
    return stream.getvalue()


def cloud(name: str, content: bytes | str) -> Build:
    return single(name, content, lambda path: (read_cloud(path, 16), read_turned(path, 8, up="auto")))


def ply(order: str) -> bytes:
    head = (f"ply\nformat {order} 1.0\ncomment x\nelement vertex 4\nproperty float x\nproperty float y\nproperty double z\nproperty uchar red\n"
            "element face 3\nproperty list uchar int vertex_indices\nproperty float quality\nend_header\n").encode()
    rows = [(*map(float, row.split()), 7) for row in CORNERS.splitlines()]
    faces = [(0, 1, 2), (0, 2, 3), (0, 1, 2, 3)]
    if order == "ascii":
        return head + "".join(f"{x} {y} {z} {red}\n" for x, y, z, red in rows).encode() + "".join(
            f"{len(face)} {' '.join(map(str, face))} 0.5\n" for face in faces).encode()
    mark = "<" if order == "binary_little_endian" else ">"
    return head + b"".join(struct.pack(f"{mark}ffdB", *row) for row in rows) + b"".join(
        struct.pack(f"{mark}B{len(face)}if", len(face), *face, 0.5) for face in faces)


def pcd(kind: str) -> bytes:
    values = np.concatenate([POINTS, np.ones((24, 1))], axis=1).astype("<f4")
    head = ("# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH 24\nHEIGHT 1\n"
            f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 24\nDATA {kind}\n").encode()
    if kind == "ascii":
        return head + "\n".join(" ".join(f"{number:.4f}" for number in row) for row in values.tolist()).encode() + b"\n"
    if kind == "binary":
        return head + values.tobytes()
    block = np.ascontiguousarray(values.T).tobytes()
    runs = [block[place : place + 32] for place in range(0, len(block) - 40, 32)]
    rest = len(block) - sum(map(len, runs)) - 3  # behind a back reference that repeats three bytes
    packed = b"".join(bytes([len(run) - 1]) + run for run in runs) + bytes([0x20, 3, rest - 1]) + block[-rest:]
    return head + struct.pack("<II", len(packed), len(block)) + packed


def textured(root: Path) -> Subject:
    folder = root / "model" / "models"
    (root / "model" / "images").mkdir(parents=True)
    folder.mkdir()
    (root.parent / "secret").mkdir(exist_ok=True)
    Image.new("RGB", (4, 4), (1, 2, 3)).save(root.parent / "secret" / "t.png")
    (root.parent / "secret" / "m.mtl").write_text("newmtl red\nKd 1 0 0\n")
    Image.new("RGB", (4, 4), (250, 20, 3)).save(root / "model" / "images" / "t.png")
    (folder / "m.mtl").write_text("newmtl red\nKd 1 0 0\nmap_Kd -s 2 2 ../images/t.png\nd 0.5\nnewmtl blue\nKd 0 0 1\n")
    (folder / "m.obj").write_text("mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 1\nvt 0 0\nvt 1 0\nvt 1 1\nvn 0 0 1\nusemtl red\n"
                                  "f 1/1/1 2/2/1 3/3/1\n"
                                  "f -4/1 -2/2 -1/3\nusemtl blue\nf 1//1 2//1 4//1\nf 1 2 3 4\n")
    return Subject([folder / "m.obj", folder / "m.mtl", root / "model" / "images" / "t.png"], lambda: read_textured_obj(folder / "m.obj"))


def picture(name: str, mode: str, **options: Any) -> Build:
    pixels = Image.fromarray(np.random.default_rng(1).integers(0, 255, (12, 16, 3), dtype=np.uint8)).convert(mode)
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(name.split(".")[1], name.split(".")[1].upper())
    return single(name, saved(lambda stream: pixels.save(stream, kind, **options)), lambda path: (read_image(path), picture_size(path)))


DEPTH = saved(lambda stream: Image.fromarray(np.random.default_rng(2).integers(0, 60000, (10, 14), dtype=np.uint16)).save(stream, "PNG"))
SWEEP = np.concatenate([POINTS, np.full((24, 1), 9.0), np.arange(24)[:, None]], axis=1).astype("<f4").tobytes()
MANIFEST = """name: small
title: Small
reader: modelnet
class_names: ["chair", "night stand"]
class_folders: ["chair", "night_stand"]
category_names: {"chair": ["seat.chair"]}
other_names: {"chair": ["armchair"]}
prompts: {official: ["image of a {}"]}
sensors: ["A", "B"]
licence: {spdx: null, terms: "none"}
source: {paper: "x", home: null, download: null}
citation: "none"
variants:
  "off": &off
    folder: small
    format: "off"
    up: z
    ours_from_files: [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    pattern: "{synset}/{id}.off"
    files: {"a.txt": "00"}
    groups: {"all": ["chair"]}
    splits: {train: {samples: 3, file: "train.txt"}, part: {of: train, start: 0, stop: 2}}
  text:
    <<: *off
    folder: other
"""
VOCABULARY = """name: few
source: {home: "test"}
templates: {text: ["point cloud of {}"]}
aliases: {auto: car}
distractors: [wall]
concepts:
  - [chair, "arm chair"]
  - car
  - ["bow (weapon)"]
"""
IMAGES = ('"images": [{"id": 1, "file_name": "a/b.jpg", "width": 20, "height": 10}, {"id": "x", "file_name": "c.jpg"}], '
          '"categories": [{"id": 3, "name": "chair"}]')
RESULTS = ('[{"image_id": 1, "category_id": 3, "bbox": [1, 2.5, 3, 4], "score": 0.5}, '
           '{"image_id": "x", "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1}]')
ANNOTATION = ('{"frames": [{"polygon": [{"x": [1, 4], "y": [2, 3], "object": 0}]}], "objects": [null, {"name": "chair:x", "polygon": '
              '[{"X": [0, 1, 1, 0], "Z": [1, 1, 2, 2], "Ymin": -1, "Ymax": 0.5, "rectangle": true}]}, {"name": "bed"}]}')
ROW = '{"results": [], "provenance": {"commit": "a"}, "notes": []}'


def use_manifest(path: Path) -> Any:
    manifest = load_manifest(path)
    for name, variant in manifest.variants.items():
        manifest.labels_of_categories(name)
        manifest.is_other(name, "seat.armchair")
        if variant.pattern is not None:
            variant.pattern.format(synset="1", id="2", view=3)
        for split in variant.splits.values():
            for place in (split.file, split.fallback, variant.true_names):
                if place is not None:
                    assert (path.parent / variant.folder / place).resolve().is_relative_to(path.parent), place
    return [template.format("chair") for key in manifest.prompts for template in manifest.templates(key)]


def use_vocabulary(path: Path) -> Any:
    words = load_vocabulary(path)
    return words.sha256, words.describe(), [words.prompts("text", [names[0]]) for names in words.concepts], words.id_of("auto")


def matlab() -> bytes:
    from test_matlab import matlab_file

    return matlab_file({"alltrain": ["/n/SUNRGBD/kv1/a/b", "/n/SUNRGBD/kv2/grün/c"], "alltest": ["x"]})


def tilt(path: Path) -> Any:
    return read_tilt(path.parent)


def scene_boxes(root: Path) -> Subject:
    np.save(root / "cloud.npy", POINTS)
    scene = open_scene(str(root / "cloud.npy"))
    path = root / "boxes.json"
    path.write_text('{"objects": [{"centre": [0, 0, 1], "size": [1, 2, 3], "yaw": 0.5, "name": "a"}, {"centre": [1, 1, 1], "size": [1, 1, 1]}]}')
    return Subject([path], lambda: read_boxes(path, scene))


def coco_list(root: Path) -> Subject:
    (root / "images.json").write_text(f"{{{IMAGES}}}")
    (root / "found.json").write_text(RESULTS)
    return Subject([root / "found.json", root / "images.json"], lambda: read_coco([root / "found.json"], root / "images.json").find("b.jpg"))


READERS: dict[str, Build] = {
    "off": cloud("a.off", f"OFF\n4 2 0\n# c\n{CORNERS}3 0 1 2\n4 0 1 2 3\n"),
    "off triangles": cloud("a.off", f"OFF4 2 0\n{CORNERS}3 0 1 2\n3 0 2 3\n"),
    "obj": cloud("a.obj", "# x\nv 0 0 0\nv 1 0 0 1 1 1\nv 1.5 1 0\nv 0 1e0 .5\nf 1 2 3\nf 1/1 2//2 3/3/3 4\nf -1 -2 -3\n"),
    "ply ascii": cloud("a.ply", ply("ascii")),
    "ply little": cloud("a.ply", ply("binary_little_endian")),
    "ply big": cloud("a.ply", ply("binary_big_endian")),
    "pcd ascii": cloud("a.pcd", pcd("ascii")),
    "pcd binary": cloud("a.pcd", pcd("binary")),
    "pcd compressed": cloud("a.pcd", pcd("binary_compressed")),
    "npy": cloud("a.npy", saved(lambda stream: np.save(stream, POINTS))),
    "npz": cloud("a.npz", saved(lambda stream: np.savez(stream, points=POINTS, normals=POINTS))),
    "npz packed": cloud("a.npz", saved(lambda stream: np.savez_compressed(stream, POINTS))),
    "txt": cloud("a.txt", CORNERS),
    "csv": cloud("a.csv", "label,x,y,z\n" + "".join(f"1,{x},{y},{z}\n" for x, y, z in POINTS[:6].tolist())),
    "pts": cloud("a.pts", "4\n" + CORNERS),
    "bin": cloud("a.pcd.bin", SWEEP),
    "sweep": single("a.pcd.bin", SWEEP, read_sweep),
    "textured obj": textured,
    "png": picture("a.png", "RGB"),
    "png palette": picture("a.png", "P", transparency=3),
    "jpg": picture("a.jpg", "RGB"),
    "gif": picture("a.gif", "P"),
    "webp": picture("a.webp", "RGB"),
    "bmp": picture("a.bmp", "RGB"),
    "tga": picture("a.tga", "RGBA"),
    "tif": picture("a.tif", "RGB"),
    "depth png": single("a.png", DEPTH, lambda path: (read_depth_codes(path), read_depth(path))),
    "matlab": single("all.mat", matlab(), lambda path: (tokens_of_matlab(path, "alltrain"))),
    "sunrgbd list": single("list.txt", "SUNRGBD/kv1/a/b//image/c.jpg\nSUNRGBD/kv2/d/image/e.jpg\n", tokens_of_list),
    "intrinsics": single("intrinsics.txt", "500.1 0 320.5\n0 500.2 240\n0 0 1 ", read_intrinsics),
    "extrinsics": single("extrinsics/2.txt", "1 0 0 0\n0 0.8 -0.6 0\n0 0.6 0.8 0\n", tilt),
    "3-D boxes": single("index.json", ANNOTATION, floor_boxes),
    "2-D boxes": single("annotation2D3D/index.json", ANNOTATION, lambda path: picture_boxes(path.parents[1], {"chair": 0}, "c", 9, 9)),
    "manifest": single("small.yaml", MANIFEST, use_manifest, InputError),
    "vocabulary": single("few.yaml", VOCABULARY, use_vocabulary),
    "word list": single("few.txt", "chair | arm chair # x\ncar\n# y\nbow (weapon)\n", use_vocabulary),
    "class file": single("names.txt", "chair # a\n\nnight stand\n", read_class_file),
    "coco": single("found.json", f'{{{IMAGES}, "annotations": {RESULTS}}}', lambda path: read_coco([path]).find("b.jpg")),
    "coco list": coco_list,
    "scene boxes": scene_boxes,
    "results": single("results.json", ROW, read_results),
}
