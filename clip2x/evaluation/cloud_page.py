"""One self-contained page of a single cloud: its points to turn and zoom, the depth views that CLIP sees, the names that were ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip2x.evaluation.charts import text
from clip2x.evaluation.proxy_pictures import data_address
from clip2x.evaluation.scene_page import BUTTONS, page_of
from clip2x.evaluation.scene_view import SceneView

OF_CLOUD = ("turn-left", "turn-right", "closer", "farther", "above", "home")  # buttons that need no boxes
KEYS = ("Drag to turn, drag with the right button, Shift or two fingers to move, wheel or pinch to zoom. "
        "Keys: arrows turn, Shift + arrows move, + and - zoom, T from above, Home first view.")
DOT = 0.02  # of the unit sphere; ours: a few thousand points look like a surface
UPRIGHT_FROM_OURS: NDArray[np.float32] = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float32)  # y up to z up


@dataclass(frozen=True)
class CloudView:
    """What is shown of a cloud.

    title, about, notes: texts. points: (N, 3) float32, y up, unit sphere; more than the encoder took, for the eye. views: (V, S, S) grey in
    [0, 1], and `cameras`, a line for each.
    views_title: says whether the encoder saw them. labels: names with their probabilities, best first; none where nothing was asked.
    """

    title: str
    about: str
    points: NDArray[np.float32]
    views: NDArray[np.float32]
    cameras: Sequence[str]
    views_title: str
    labels: Sequence[tuple[str, float]] = ()
    notes: tuple[str, ...] = ()


def cloud_page(cloud: CloudView) -> str:
    """Write the page. Every text that comes from a file is escaped; nothing is fetched."""
    view = SceneView(cloud.title, cloud.about, cloud.points @ UPRIGHT_FROM_OURS.T, (0.0, 1.0), notes=cloud.notes)
    buttons = [button for button in BUTTONS if button[0] in OF_CLOUD]
    return page_of(view, f"{len(cloud.points):,} points of a cloud.", buttons, KEYS, _labels(cloud.labels) + _views(cloud), dot=DOT)


def _labels(labels: Sequence[tuple[str, float]]) -> str:
    if not labels:
        return ""
    rows = "".join(f'<tr><td>{rank}</td><td>{text(name)}</td><td><meter min="0" max="1" value="{share:.4f}"></meter> '
                   f"{100 * share:.1f}&nbsp;%</td></tr>" for rank, (name, share) in enumerate(labels, start=1))
    heads = "<tr><th>rank</th><th>name</th><th>sure</th></tr>"
    return f'<h2>Names</h2><div class="scroll"><table><thead>{heads}</thead><tbody>{rows}</tbody></table></div>'


def _views(cloud: CloudView) -> str:
    figures = "".join(f'<figure><img src="{data_address(_png(grey), "png")}" alt="Depth view {number}: {text(camera)}">'
                      f"<figcaption>{text(camera)}</figcaption></figure>"
                      for number, (grey, camera) in enumerate(zip(cloud.views, cloud.cameras, strict=True), start=1))
    return f'<h2>{text(cloud.views_title)}</h2><div class="views">{figures}</div>'


def _png(grey: NDArray[np.float32]) -> bytes:
    stream = BytesIO()
    Image.fromarray(np.round(255 * grey.clip(0, 1)).astype(np.uint8)).save(stream, "PNG", optimize=True)
    return stream.getvalue()
