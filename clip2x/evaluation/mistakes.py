"""The hardest mistakes of a method: wrong answers that it was surest of, and small pictures of their clouds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from clip2x.data.base import PointCloudDataset
from clip2x.data.faults import REPORTED
from clip2x.evaluation.proxy_pictures import LINE_PX, SIZE_PX, cloud_picture
from clip2x.storage import atomic_path

MOST, OF_CLASS = 12, 2  # of a method on a data set, and of one true class: a few pictures that differ. Ours
FOLDER = "mistakes"  # beside results.json
COLUMNS = 4  # pictures beside each other on a sheet
Row = Mapping[str, Any]


def hardest_mistakes(scores: Float[Tensor, "N C"], labels: Int64[Tensor, " N"], class_names: Sequence[str], index: Int64[Tensor, " N"],
                     key_of: Callable[[int], str], scale: float = 1.0) -> list[dict[str, Any]]:
    """Choose the wrong answers whose probability exceeds that of the true name most.

    Args:
        scores: Larger is better; ties go to the lower label.
        labels: Positions in `class_names`.
        class_names: All names that compete.
        index: Positions of the samples in their data set.
        key_of: Says how a data set calls its sample at a position.
        scale: Factor on the scores before the softmax over all names.

    Returns:
        At most `MOST` of all and `OF_CLASS` of a true class, the largest difference first, equal ones in the order of the samples: `id`, `index`,
        `is` and `called` (names), `probability` (of the name that was given) and `probability_of_true`.
    """
    shares, called = (scale * scores.double()).softmax(dim=1), scores.argmax(dim=1)
    said, true = (shares.gather(1, names[:, None])[:, 0] for names in (called, labels))
    wrong = (called != labels).nonzero()[:, 0]
    found: list[dict[str, Any]] = []
    of_class: Counter[int] = Counter()
    for place in wrong[(said - true)[wrong].argsort(descending=True, stable=True)].tolist():
        label = int(labels[place])
        if of_class[label] < OF_CLASS and len(found) < MOST:
            of_class[label] += 1
            position = int(index[place])
            found.append({"id": key_of(position), "index": position, "is": class_names[label], "called": class_names[int(called[place])],
                          "probability": round(float(said[place]), 4), "probability_of_true": round(float(true[place]), 4)})
    return found


def clouds_of(data: PointCloudDataset, rows: Sequence[Row]) -> dict[int, NDArray[np.float32]]:
    """Read the clouds of the mistakes of all rows of a data set again; those that cannot be read by now are left out."""
    clouds = {}
    for position in sorted({mistake["index"] for row in rows for mistake in row["mistakes"]}):
        try:
            clouds[position] = data[position]["points"].numpy()
        except REPORTED:
            continue
    return clouds


def write_pictures(folder: Path, rows: Sequence[Row], clouds: Mapping[int, NDArray[np.float32]]) -> None:
    """Draw the clouds of the mistakes of a data set's rows into `folder`/mistakes; pictures of a run before are removed.

    Args:
        folder: That of `results.json`.
        rows: All of one data set.
        clouds: By position in the data set: (N, 3), y up, unit sphere.
    """
    if not rows:
        return
    own = _folder(folder, rows[0])
    own.mkdir(parents=True, exist_ok=True)
    for old in own.glob("*.png"):
        old.unlink()
    for position in {mistake["index"] for row in rows for mistake in row["mistakes"]} & clouds.keys():
        with atomic_path(own / _file(position)) as temporary:
            temporary.write_bytes(cloud_picture(clouds[position]))


def read_pictures(folder: Path, row: Row) -> dict[int, bytes]:
    """Read the pictures of a row's mistakes, by position in the data set; those that are not there are left out."""
    files = {int(mistake["index"]): _folder(folder, row) / _file(mistake["index"]) for mistake in row.get("mistakes") or []}
    return {position: file.read_bytes() for position, file in files.items() if file.is_file()}


def picture_sheet(row: Row, pictures: Mapping[int, bytes]) -> NDArray[np.uint8]:
    """Lay out a row's mistakes for TensorBoard: what each is and was called, under its picture; (H, W, 3)."""
    shown = [mistake for mistake in row["mistakes"] if mistake["index"] in pictures]
    lines = -(-len(shown) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIZE_PX, max(lines, 1) * (SIZE_PX + 2 * LINE_PX)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for place, mistake in enumerate(shown):
        left, top = place % COLUMNS * SIZE_PX, place // COLUMNS * (SIZE_PX + 2 * LINE_PX)
        sheet.paste(Image.open(BytesIO(pictures[mistake["index"]])).convert("RGB"), (left, top))
        for line, words in enumerate((f"is {mistake['is']}", f"called {mistake['called']}, {100 * mistake['probability']:.0f} %")):
            pen.text((left + 2, top + SIZE_PX + line * LINE_PX), words, fill="black", font=font)
    return np.asarray(sheet)


def _folder(folder: Path, row: Row) -> Path:
    return folder / FOLDER / re.sub(r"[^\w.-]+", "_", f"{row['dataset']}-{row['variant']}-{row['split']}")


def _file(position: int) -> str:
    return f"{int(position):06d}.png"
