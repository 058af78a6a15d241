"""ModelNet on the real samples that lie beside a checkout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clip2x.data.modelnet import ModelNet


@pytest.mark.data
def test_real_mesh_and_real_text_cloud_meet_in_our_frame(shared_data: Path, tmp_path: Path) -> None:
    extents = []
    for variant in ("off", "text"):
        data = ModelNet("modelnet40", root=shared_data, variant=variant, split="train", num_points=8192, cache=tmp_path)
        index = next(k for k, entry in enumerate(data.entries) if "airplane_0003" in entry.key)
        points = data[index]["points"]
        extents.append(points.amax(0) - points.amin(0))
    assert torch.allclose(extents[0] / extents[0].max(), extents[1] / extents[1].max(), atol=0.02)
    assert int(extents[0].argmin()) == 1, "an airplane is lower than long and wide"


@pytest.mark.data
def test_real_arrays(shared_data: Path, tmp_path: Path) -> None:
    dev, report = (ModelNet("modelnet10", root=shared_data, variant="hdf5_1024", split=split, cache=tmp_path) for split in ("dev", "report"))
    assert (len(dev), len(report)) == (1000, 2991) and dev.notes == [] and report.notes == []
    order = np.random.default_rng(0).permutation(3991)
    assert [int(entry.key.split("#")[1]) for entry in dev.entries] == order[:1000].tolist()
    assert [int(entry.key.split("#")[1]) for entry in report.entries] == order[1000:].tolist()
    heights: dict[str, list[float]] = {name: [] for name in dev.class_names}
    for k in range(400):
        sample = dev[k]
        assert torch.isfinite(sample["points"]).all()
        extent = sample["points"].amax(0) - sample["points"].amin(0)
        heights[dev.class_names[sample["label"]]].append(float(extent[1] / max(extent[0], extent[2])))
    assert np.median(heights["bed"]) < 0.8 and np.median(heights["chair"]) > 1.1, "chairs stand and beds lie: y is up"


@pytest.mark.data
def test_partial_copies_are_read_and_noted(shared_data: Path, tmp_path: Path) -> None:
    data = ModelNet("modelnet40", root=shared_data, split="train", cache=tmp_path)
    assert len(data) == 6 and data.notes[0] == "37 of 40 classes have no train file, first bench."
    for sample in data:  # type: ignore[attr-defined]
        assert sample["points"].shape == (1024, 3) and abs(float(sample["points"].norm(dim=1).max()) - 1) < 1e-5
