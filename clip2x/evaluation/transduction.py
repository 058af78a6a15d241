"""Whether a checkpoint was trained on, or chosen by, what was mined from the very frames that it is evaluated on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clip2x.data.base import PointCloudDataset
from clip2x.manifest import load_manifest, manifest_folder, manifest_names


def mined_frames(mined: Mapping[str, Mapping[str, Any]] | None, data: PointCloudDataset) -> str | None:
    """Say which frames of a test set were mined for training or for choosing a checkpoint; None where none were.

    Splits that are cut by recording (nuScenes) share frames where they share a recording, whatever variant and split they are named by. Splits
    that are cut by frame (SUN RGB-D) share frames only within the same official split; there, where the recordings or frames are stated, if they
    have one in common.

    Args:
        mined: `manifest/variant/split` -> `frames`, how many, and `scenes`, their recordings or None; as a checkpoint states it.
        data: The test set.

    Returns:
        A text for the row, e.g. `2 of 2 recordings were mined for training or selection (nuscenes/v1.0-mini/mini_val)`.
    """
    by_recording = data.variant.splits[data.official_split].scenes is not None
    own = None if data.scenes is None else set(data.scenes)
    for name, facts in (mined or {}).items():
        manifest_name, variant, split = name.split("/")
        official = split.partition(":")[0]
        if not _same_files(manifest_name, data) or (official != data.official_split and not by_recording):
            continue
        scenes = set(facts.get("scenes") or ()) or (_listed(manifest_name, variant, official) if by_recording else set())
        if not scenes or own is None:
            if official == data.official_split:
                return f"its split was mined for training or selection ({name})"
        elif common := own & scenes:
            return f"{len(common):,} of {len(own):,} recordings were mined for training or selection ({name})"
    return None


def _same_files(manifest_name: str, data: PointCloudDataset) -> bool:
    """Say whether a manifest reads the files of the test set, as that of the mini-world's true names does."""
    if manifest_name == data.manifest.name or manifest_name not in manifest_names():
        return manifest_name == data.manifest.name
    return data.variant.folder in {variant.folder for variant in load_manifest(manifest_name).variants.values()}


def _listed(manifest_name: str, variant: str, split: str) -> set[str]:
    """List the recordings of a split, where the manifest ships a list of them."""
    shipped = load_manifest(manifest_name).variant(variant).splits[split].shipped
    return set() if shipped is None else set((manifest_folder() / shipped).read_text(encoding="utf-8").split())
