"""The self-check of ViT-B/32: reference cosines tell OpenAI's weights from others and QuickGELU from GELU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from clip2x.encoders import clip as clip_module
from clip2x.encoders import clip_reference
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.clip_files import OPENAI_MARKS, save_clip_file
from clip2x.encoders.clip_reference import REFERENCE_NAMES, REFERENCE_TOLERANCE, check_reference_cosines, require_reference_cosines
from clip2x.errors import CheckpointMismatchError


class StoredTexts:
    """Stands in for OpenAI's ViT-B/32: returns the features that were stored for the names."""

    def __init__(self, folder: Path, noise: float = 0.0) -> None:
        stored = np.load(folder / "clip_text" / "clip_vitb32_text_a_name.npz")
        self.features = dict(zip(stored["names"].tolist(), torch.from_numpy(stored["emb"]).float(), strict=True))
        self.noise = noise

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        features = torch.stack([self.features[text.removeprefix("a ")] for text in texts])
        return 7 * (features + self.noise * torch.randn(features.shape, generator=torch.Generator().manual_seed(0)))


@pytest.mark.data
def test_reference_cosines_are_those_of_the_stored_features(shared_data: Path) -> None:
    assert check_reference_cosines(StoredTexts(shared_data)) < 6e-5  # they are rounded to 4 digits
    assert check_reference_cosines(StoredTexts(shared_data, noise=0.01)) > REFERENCE_TOLERANCE
    plain = ClipTowers("clip2x-small", random_weights=True)  # any model: nothing to swap in a stand-in
    require_reference_cosines(StoredTexts(shared_data), plain.text_tower, source="w", known=True)


def table_of(towers: ClipTowers, noise: float = 0.0) -> tuple[float, ...]:
    """The cosines that these towers give, in the order of REFERENCE_COSINES, with uniform noise."""
    embeds = nn.functional.normalize(towers.encode_text([f"a {name}" for name in REFERENCE_NAMES]).double(), dim=-1)
    rows, columns = torch.triu_indices(len(embeds), len(embeds), offset=1)
    cosines = (embeds @ embeds.T)[rows, columns]
    return tuple((cosines + noise * (2 * torch.rand(len(cosines), generator=torch.Generator().manual_seed(0)) - 1)).tolist())


def test_self_check_runs_for_known_and_for_unmarked_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest model with GELU stands in for ViT-B/32 built with the wrong activation."""
    path = str(tmp_path / "w.safetensors")
    first = ClipTowers("clip2x-small", random_weights=True)
    state = {f"visual.{name}": value for name, value in first.image_tower.visual.state_dict().items()} | first.text_tower.state_dict()
    save_clip_file(path, state, {})
    towers = ClipTowers("clip2x-small", path)
    monkeypatch.setattr(clip_module, "is_reference_text_tower", lambda _: True)
    ClipTowers("clip2x-small", path)  # nobody said that they are OpenAI's
    with clip_reference._swapped_activation(towers.text_tower):
        table = table_of(towers)
    monkeypatch.setattr(clip_reference, "REFERENCE_COSINES", table)
    with pytest.raises(CheckpointMismatchError, match="only with the other activation .*; use the model ViT-B-32-quickgelu"):
        ClipTowers("clip2x-small", path)
    monkeypatch.setattr(clip_reference, "REFERENCE_COSINES", tuple(0.5 * cosine for cosine in table))
    monkeypatch.setattr(clip_module, "openai_files", lambda: {towers.weights_sha256: "ViT-B-32-quickgelu"})
    with pytest.raises(CheckpointMismatchError, match="w.safetensors: not OpenAI's ViT-B/32: its text cosines are off by 0.* get the file again"):
        ClipTowers("clip2x-small", path)


@pytest.mark.slow
def test_openai_layout_of_vit_b_32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights in half precision with the extra keys load strictly; the self-check separates the activations at full size."""
    torch.manual_seed(0)
    state = {name: value.half() for name, value in open_clip.create_model("ViT-B-32-quickgelu").state_dict().items()}
    torch.save(state | dict.fromkeys(OPENAI_MARKS, torch.tensor(1)), tmp_path / "vit_b_32.pt")
    towers = ClipTowers("ViT-B-32-quickgelu", str(tmp_path / "vit_b_32.pt"))
    (tmp_path / "vit_b_32.pt").unlink()
    assert torch.equal(towers.text_tower.text_projection, state["text_projection"].float())
    assert len(towers.image_tower.visual.state_dict()) == 152 and sum(p.numel() for p in towers.image_tower.parameters()) == 87_849_216
    activations = [module for module in towers.modules() if isinstance(module, nn.GELU | QuickGELU)]
    assert len(activations) == 24 and all(isinstance(module, QuickGELU) for module in activations)
    assert towers.encode_image(torch.zeros(1, 3, 224, 224)).shape == (1, 512)
    assert clip_module.is_reference_text_tower(towers.text_tower)
    assert check_reference_cosines(towers) > 5 * REFERENCE_TOLERANCE  # random weights are not OpenAI's

    # Pretend that they are, and that the table has the largest noise that half precision showed in trials (6.5e-4).
    monkeypatch.setattr(clip_reference, "REFERENCE_COSINES", table_of(towers, noise=6.5e-4))
    as_built, swapped = clip_reference.compare_activations(towers, towers.text_tower)
    assert as_built < 7e-4 and swapped > 2 * as_built
    require_reference_cosines(towers, towers.text_tower, source="w", known=True)
    for module in [module for module in towers.text_tower.modules() if hasattr(module, "gelu")]:
        module.gelu = nn.GELU()
    for known in (True, False):
        with pytest.raises(CheckpointMismatchError, match="only with the other activation"):
            require_reference_cosines(towers, towers.text_tower, source="w", known=known)
