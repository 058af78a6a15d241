"""Point encoders: what does not change their features, descriptions, errors, and that they learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from clip2x.encoders.points import PointEncoder, PointNet2, PointTransformer, build_point_encoder
from clip2x.encoders.points.transformer import attend
from clip2x.errors import InputError

EMBED_DIM = 24
BUILDERS: dict[str, Callable[..., PointEncoder]] = {
    "transformer": lambda **options: PointTransformer(EMBED_DIM, num_groups=12, group_size=6, **options),
    "pointnet2": lambda **options: PointNet2(EMBED_DIM, **options),
}
ENCODERS = pytest.mark.parametrize("kind", BUILDERS)


def some_clouds(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.4


def build(kind: str, **options: Any) -> PointEncoder:
    torch.manual_seed(0)
    return BUILDERS[kind](**options).eval()


@ENCODERS
@pytest.mark.parametrize("num_points", [1, 2, 7, 30])
@pytest.mark.parametrize("channels", [3, 5])
def test_repeats_padding_and_order_change_nothing(kind: str, num_points: int, channels: int) -> None:
    encoder = build(kind, in_channels=channels)
    points = some_clouds(3, num_points, channels)
    alone = encoder(points)
    generator = torch.Generator().manual_seed(1)
    order = torch.cat([torch.arange(num_points), torch.randint(num_points, (200,), generator=generator)])
    order = order[torch.randperm(len(order), generator=generator)]
    torch.testing.assert_close(encoder(points[:, order]), alone, atol=1e-5, rtol=0)
    padded = torch.full((3, num_points + 50, channels), torch.nan)
    real = torch.randperm(num_points + 50, generator=generator)[:num_points]
    mask = torch.zeros(3, num_points + 50, dtype=torch.bool)
    padded[:, real], mask[:, real] = points, True
    torch.testing.assert_close(encoder(padded, mask), alone, atol=1e-5, rtol=0)


@ENCODERS
def test_clouds_of_a_batch_do_not_see_each_other(kind: str) -> None:
    encoder = build(kind)
    few, many = some_clouds(1, 5, 3), some_clouds(1, 100, 3, seed=1)
    joined = torch.cat([few[:, torch.arange(100) % 5], many])
    torch.testing.assert_close(encoder(joined), torch.cat([encoder(few), encoder(many)]), atol=1e-5, rtol=0)


@ENCODERS
def test_features_depend_on_every_input(kind: str) -> None:
    encoder = build(kind, in_channels=4)
    points = some_clouds(2, 40, 4)
    for channel in range(4):
        changed = points.clone()
        changed[..., channel] *= 1.3
        assert (encoder(changed) - encoder(points)).abs().max() > 1e-4


@ENCODERS
@pytest.mark.parametrize("num_points", [1, 3, 100])
def test_gradients_are_finite_and_reach_every_weight(kind: str, num_points: int) -> None:
    encoder = build(kind).train()
    clouds = some_clouds(4, 100, 3)
    clouds[0] = clouds[0, torch.arange(100) % num_points]
    encoder(clouds).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


@ENCODERS
def test_bfloat16_autocast_stays_close(kind: str) -> None:
    encoder = build(kind)
    points = some_clouds(4, 200, 3)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(points)
    assert functional.cosine_similarity(rounded.float(), encoder(points)).min() > 0.99


@pytest.mark.parametrize(("kind", "sizes"), [
    ("transformer", {"width": 32, "depth": 1, "heads": 2, "group_widths": (8, 16, 32)}),
    ("pointnet2", {"levels": [{"num_centres": 8, "scales": [{"radius": 0.8, "num_neighbours": 6, "widths": [16, 32]}]}], "whole": [32], "head": []}),
])
def test_learns_to_tell_shapes_apart(kind: str, sizes: dict[str, Any]) -> None:
    """A sphere from a cube from a disc."""
    encoder = build(kind, **sizes)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 3
    clouds = functional.normalize(torch.randn(24, 48, 3, generator=generator), dim=-1)
    clouds[labels == 1] = (clouds / clouds.abs().amax(dim=-1, keepdim=True))[labels == 1] * 0.58
    clouds[labels == 2] *= torch.tensor([1.0, 0.02, 1.0])
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=5e-3)
    losses = []
    for _ in range(40):
        loss = functional.cross_entropy(encoder(clouds), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 < losses[0]


@pytest.mark.parametrize("encoder", [
    PointTransformer(EMBED_DIM), PointTransformer(EMBED_DIM, "tiny", 5, width=32, heads=2, depth=1, group_widths=(4, 8, 8)),
    PointNet2(EMBED_DIM), PointNet2(EMBED_DIM, "msg", 6),
    PointNet2(EMBED_DIM, levels=[{"num_centres": 4, "scales": [{"radius": 0.3, "num_neighbours": 2, "widths": [4, 8]}]}], whole=[16], head=[]),
], ids=lambda encoder: f"{encoder.kind}-{encoder.size}-{encoder.in_channels}")
def test_a_description_builds_the_same_encoder(encoder: PointEncoder) -> None:
    described = encoder.describe()
    again = build_point_encoder(described, EMBED_DIM)
    again.load_state_dict(encoder.state_dict())
    points = some_clouds(2, 20, encoder.in_channels)
    assert torch.equal(again(points), encoder(points))
    assert again.describe() == described and type(again) is type(encoder)
    assert plain(described)


def plain(value: object) -> bool:
    """Whether a value survives JSON as it is."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(part) for key, part in value.items())
    return all(plain(part) for part in value) if isinstance(value, list) else isinstance(value, str | int | float)


@pytest.mark.parametrize(("size", "million"), [("tiny", 1.07), ("small", 21.9), ("base", 31.9)])
def test_sizes_have_the_stated_number_of_weights(size: str, million: float) -> None:
    with torch.device("meta"):
        encoder = PointTransformer(256, size)
    assert sum(parameter.numel() for parameter in encoder.parameters()) / 1e6 == pytest.approx(million, rel=0.02)


@ENCODERS
def test_nothing_is_normalised_over_the_batch(kind: str) -> None:
    assert not [module for module in build(kind).modules() if "BatchNorm" in type(module).__name__]


def test_attention_on_the_cpu_equals_the_fused_kernel() -> None:
    query, key, value = some_clouds(3, 2, 4, 9, 8)
    valid = torch.rand(2, 1, 1, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    valid[..., 0] = True
    for mask in (None, valid):
        expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        torch.testing.assert_close(attend(query, key, value, mask), expected, atol=1e-6, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@ENCODERS
def test_cuda_equals_the_cpu(kind: str) -> None:
    encoder = build(kind)
    points = some_clouds(4, 200, 3)
    points[0] = points[0, torch.arange(200) % 5]
    expected = encoder(points)
    torch.testing.assert_close(encoder.cuda()(points.cuda()).cpu(), expected, atol=1e-4, rtol=0)


@ENCODERS
@pytest.mark.parametrize(("points", "mask", "message"), [
    (torch.zeros(2, 3), None, r"points must be \(B, N, 3\) with N >= 1, got \(2, 3\)"),
    (torch.zeros(2, 5, 4), None, r"points must be \(B, N, 3\) with N >= 1, got \(2, 5, 4\); build the encoder with in_channels"),
    (torch.zeros(2, 0, 3), None, r"with N >= 1, got \(2, 0, 3\)"),
    (torch.zeros(2, 5, 3), torch.ones(2, 4, dtype=torch.bool), r"mask must be \(2, 5\) as the points and boolean, got \(2, 4\)"),
    (torch.zeros(2, 5, 3), torch.tensor([[True] * 5, [False] * 5]), r"mask leaves no point of cloud 1 of the batch"),
    (torch.full((1, 5, 3), torch.nan), None, r"NaN or infinite"),
])
def test_input_that_cannot_be_used(kind: str, points: Tensor, mask: Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        build(kind)(points, mask)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("described", "message"), [
    ({"kind": "point_transformer", "size": "huge"}, "sizes of the point transformer are tiny, small, base, got 'huge'"),
    ({"kind": "pointnet2", "size": "huge"}, r"sizes of PointNet\+\+ are tiny, msg, got 'huge'"),
    ({"kind": "point_transformer", "width": 100, "heads": 3}, "width must be a multiple of heads, got 100 and 3"),
    ({"kind": "point_transformer", "num_groups": 0}, "numbers of at least 1 and three group_widths"),
    ({"kind": "point_transformer", "in_channels": 2}, "in_channels at least 3"),
    ({"kind": "pointnet2", "head": [0]}, "numbers above 0"),
    ({"kind": "pointnet2", "levels": [{"num_centres": n, "scales": [{"radius": 0.3, "num_neighbours": 2, "widths": [4]}]} for n in (4, 8)]},
     r"num_centres must not grow, got \[4, 8\]"),
    ({"kind": "pointnet2", "levels": [{"scales": []}]}, "this pointnet2 cannot be built of levels: 'num_centres'"),
    ({"kind": "point_transformer", "depht": 3}, "this point_transformer cannot be built of depht: .*depht"),
    ({"kind": "voxels"}, "point encoders are point_transformer, pointnet2, .*, got kind 'voxels'"),
    ({}, "got kind None"),
])
def test_descriptions_that_cannot_be_built(described: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        build_point_encoder(described, EMBED_DIM)
    assert "\n" not in str(error.value)
