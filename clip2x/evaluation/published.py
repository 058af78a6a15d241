"""Published zero-shot figures that results of the full profile may be laid beside, each with its source. None of them was measured here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """method, top1 in percent, and where it stands: who measured it, and what is known of the protocol."""

    method: str
    top1: float
    source: str


OPENSHAPE = "re-run by OpenShape (arXiv:2305.10764); third party"
PUBLISHED: dict[str, tuple[Published, ...]] = {  # manifest/variant/split
    "modelnet40/off/test": (
        Published("PointCLIP", 20.18, "claimed by its authors; third party"),
        Published("PointCLIP", 19.3, OPENSHAPE),
        Published("CLIP2Point", 49.38, "claimed by its authors (github.com/tyhuang0428/CLIP2Point/issues/3); third party"),
        Published("CLIP2Point", 49.5, f"released checkpoint, {OPENSHAPE}"),
        Published("PointCLIP V2, ViT-B/32", 55.14, "its README; prompts and weights fitted to test labels; third party"),
    ),
    "scanobjectnn/obj_only/test": (
        Published("PointCLIP", 10.5, f"{OPENSHAPE}; on its own copy of 2,890 objects"),
        Published("CLIP2Point", 25.5, f"released checkpoint, {OPENSHAPE}; on its own copy of 2,890 objects"),
        Published("PointCLIP V2", 42.2, f"{OPENSHAPE}; on its own copy of 2,890 objects"),
    ),
    "nuscenes/v1.0-trainval/val": (
        Published("PointCLIP", 11.7, "CLIP2 (arXiv:2303.12417); its protocol of objects is not known"),
        Published("CLIP2", 37.8, "CLIP2 (arXiv:2303.12417); its protocol of objects is not known"),
    ),
    "sunrgbd/objects10/test": (
        Published("CLIP2Point", 18.6, "CLIP2 (arXiv:2303.12417); its protocol of objects is not known"),
        Published("CLIP2", 61.3, "CLIP2 (arXiv:2303.12417); its protocol of objects is not known"),
    ),
}
