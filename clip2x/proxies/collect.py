"""From a frame and the boxes in its pictures to triplets: lift, thin out, turn to the object frame, cut the crops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2x.data.images import cut, read_camera_picture
from clip2x.data.transforms import generator_for
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.proxies.crops import Cropping, jpeg_of
from clip2x.proxies.indoor import IndoorLifting
from clip2x.proxies.outdoor import OutdoorLifting
from clip2x.types import Detections, FrameTriplets, Lifted, Proxy, SceneFrame, Triplet


@dataclass(frozen=True)
class FrameTask:
    """A frame whose boxes are known. data: the set's name. rules: what the detector dropped, by rule."""

    data: str
    frame: SceneFrame
    found: Mapping[str, Detections]
    rules: Counter[str]
    ours_from_files: NDArray[np.float64]


class TripletMaker:
    """Make the triplets of a frame. Cheap to send to another process; the result depends on the frame and the settings alone."""

    def __init__(self, *, indoor: IndoorLifting, outdoor: OutdoorLifting, cropping: Cropping, max_points: int = 4096, seed: int = 0) -> None:
        """Choose the settings.

        Args:
            indoor: Lifts frames of depth cameras.
            outdoor: Lifts all others.
            cropping: How the crops are kept.
            max_points: Of a proxy with more points so many are drawn. Ours.
            seed: Of that draw.
        """
        if max_points < 1:
            raise InputError(f"max_points must be at least 1, got {max_points}.")
        self.indoor, self.outdoor, self.cropping, self.max_points, self.seed = indoor, outdoor, cropping, max_points, seed

    def describe(self) -> dict[str, Any]:
        """List everything that other triplets would come from, as JSON."""
        return {"indoor": self.indoor.describe(), "outdoor": self.outdoor.describe(), "cropping": vars(self.cropping),
                "max_points": self.max_points, "seed": self.seed}

    def __call__(self, task: FrameTask) -> FrameTriplets:
        """Lift the boxes of a frame and cut their crops.

        Raises:
            BadFileError, DataNotFoundError: If a picture cannot be read.
        """
        frame = task.frame
        has_depth = any(camera.depth is not None for camera in frame.cameras)
        lifted: Lifted = (self.indoor if has_depth else self.outdoor)(frame, task.found)
        ours_from_points = task.ours_from_files @ frame.upright_from_points
        crops = self._crops(frame, lifted.proxies)
        triplets = []
        for number, (proxy, crop) in enumerate(zip(lifted.proxies, crops, strict=True)):
            chosen = proxy.point_index
            if len(chosen) > self.max_points:
                rng = generator_for(self.seed, f"{task.data}/{frame.token}/{number}")
                chosen = np.sort(rng.choice(chosen, size=self.max_points, replace=False))
            points = (frame.points[chosen] @ ours_from_points.T).astype(np.float32)
            triplets.append(Triplet(points, proxy.concept_id, proxy.score, proxy.box_px, proxy.camera, crop))
        return FrameTriplets(task.data, frame.token, frame.scene, tuple(triplets), Counter(task.rules) + Counter(lifted.rules))

    def _crops(self, frame: SceneFrame, proxies: tuple[Proxy, ...]) -> list[bytes]:
        """Cut the boxes out of the pictures; a picture without a proxy is not read."""
        cameras = {camera.name: camera for camera in frame.cameras}
        pictures = {name: read_camera_picture(cameras[name]) for name in {proxy.camera for proxy in proxies}}
        return [jpeg_of(cut(pictures[proxy.camera], proxy.box_px, self.cropping.margin), self.cropping) for proxy in proxies]


@dataclass(frozen=True)
class Unusable:
    """A frame whose triplets could not be made, and why."""

    data: str
    frame: str
    reason: str


def make_or_report(maker: TripletMaker, task: FrameTask) -> FrameTriplets | Unusable:
    """Make the triplets of a frame in another process: what a user can mend comes back as a value, since not every error survives the way."""
    try:
        return maker(task)
    except (BadFileError, DataNotFoundError) as error:
        return Unusable(task.data, task.frame.token, " ".join(str(error).split()))
