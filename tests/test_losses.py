from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from clip2x.errors import InputError, TrainingDivergedError
from clip2x.losses import CaptionLoss, DepthPairLoss


def embeds(rows: int, seed: int) -> torch.Tensor:
    return functional.normalize(torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_caption_loss_by_hand() -> None:
    """Two orthogonal pairs at scale 2: each row is log(1 + e^-2)."""
    loss = CaptionLoss(temperature=0.5)
    pair = torch.eye(2)
    terms = loss(pair, pair, torch.zeros(2, 2, dtype=torch.bool))
    assert terms["loss"].item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


def test_caption_loss_equals_a_loop() -> None:
    images, texts = embeds(5, 0), embeds(5, 1)
    also_true = torch.rand(5, 5, generator=torch.Generator().manual_seed(2)) < 0.3
    terms = CaptionLoss(temperature=0.1)(images, texts, also_true)
    expected = {"image_to_text": 0.0, "text_to_image": 0.0}
    for i in range(5):
        rows = [math.exp(10 * float(images[i] @ texts[j])) for j in range(5) if i == j or not also_true[i, j]]
        columns = [math.exp(10 * float(images[j] @ texts[i])) for j in range(5) if i == j or not also_true[j, i]]
        own = math.exp(10 * float(images[i] @ texts[i]))
        expected["image_to_text"] -= math.log(own / sum(rows)) / 5
        expected["text_to_image"] -= math.log(own / sum(columns)) / 5
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(sum(expected.values()) / 2, rel=1e-4)


def test_caption_loss_does_not_depend_on_the_order() -> None:
    images, texts, also_true = embeds(6, 0), embeds(6, 1), torch.eye(6).bool()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    loss = CaptionLoss()
    assert torch.allclose(loss(images, texts, also_true)["loss"], loss(images[order], texts[order], also_true)["loss"], atol=1e-6)


def test_a_caption_that_is_true_of_all_costs_nothing() -> None:
    terms = CaptionLoss()(embeds(4, 0), embeds(4, 1), torch.ones(4, 4, dtype=torch.bool))
    assert terms["loss"].item() == 0.0


def test_the_scale_is_clamped() -> None:
    """At its limit, where it begins, and can come back from there: these captions are the wrong ones."""
    loss, images = CaptionLoss(temperature=1e-4, max_scale=100.0), torch.eye(3)
    assert loss.scale.item() == pytest.approx(100.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.01)
    loss(images, images.roll(1, dims=0), torch.eye(3).bool())["loss"].backward()
    assert loss.scale.item() == pytest.approx(100.0)
    optimizer.step()
    assert loss.scale.item() < 90


# DepthPairLoss by hand: two objects, two dimensions, temperature 0.5, so cosines count double. Raw features:
#   views of object 0: (6, 0) and (0, 8), mean (3, 4), unit (.6, .8); of object 1: (0, 1) twice, mean (0, 1); images (1, 0) and (0, 2), unit (0, 1).
#   (Were the views normalised before the mean, object 0 would have (.707, .707).)
# cross, cosines: a0 b0 = .6 (partners), a1 b1 = 1 (partners), a0 b1 = .8, a0 a1 = .8, a1 b0 = 0, b0 b1 = 0
# intra, cosines: p0 q0 = 0 (partners), p1 q1 = 1 (partners), p0 q1 = 0, p0 p1 = 0, p1 q0 = 1, q0 q1 = 1
HAND_VIEWS = torch.tensor([[[6.0, 0.0], [0.0, 8.0]], [[0.0, 1.0], [0.0, 1.0]]])
HAND_IMAGES = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
E = math.exp
HAND_CROSS = (math.log(E(1.2) + E(1.6) + E(1.6)) - 1.2      # a0: b0, b1, a1
              + math.log(1 + E(2.0) + E(1.6)) - 2.0         # a1: b0, b1, a0
              + math.log(E(1.2) + 1 + 1) - 1.2              # b0: a0, a1, b1
              + math.log(E(2.0) + E(1.6) + 1) - 2.0) / 4    # b1: a1, a0, b0
HAND_INTRA = (math.log(3.0) - 0.0                           # p0: all three 0
              + math.log(1 + 2 * E(2.0)) - 2.0              # p1: p0 0, q0 1, q1 1
              + math.log(1 + 2 * E(2.0)) - 0.0              # q0: p0 0, p1 1, q1 1
              + math.log(1 + 2 * E(2.0)) - 2.0) / 4         # q1: p0 0, p1 1, q0 1


def pair_features(count: int = 5, size: int = 8, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw features of objects whose views and images resemble each other."""
    generator = torch.Generator().manual_seed(3)
    objects = torch.randn(count, size, generator=generator, dtype=dtype)
    views = objects[:, None] * 2 + torch.randn(count, 2, size, generator=generator, dtype=dtype)
    return views, objects + torch.randn(count, size, generator=generator, dtype=dtype)


def slow_contrast(first: torch.Tensor, second: torch.Tensor, temperature: float, contrast: str) -> float:
    """Contrast pairs as the definition says: vector by vector, with Python's numbers."""
    sides = [[[value / math.hypot(*row) for value in row] for row in side.tolist()] for side in (first, second)]
    total, count = 0.0, len(sides[0])
    for side, other in ((sides[0], sides[1]), (sides[1], sides[0])):
        for i in range(count):
            candidates = list(other)
            if contrast == "nt_xent":
                candidates += [side[j] for j in range(count) if j != i]
            similar = [sum(a * b for a, b in zip(side[i], candidate, strict=True)) / temperature for candidate in candidates]
            total += math.log(sum(map(math.exp, similar))) - similar[i]
    return total / (2 * count)


def test_depth_pair_loss_by_hand() -> None:
    loss = DepthPairLoss(temperature=0.5)
    with torch.no_grad():
        loss.s.fill_(2.0)
    terms = loss(HAND_VIEWS, HAND_IMAGES)
    assert set(terms) == {"loss", "cross", "intra"}
    assert terms["cross"].item() == pytest.approx(HAND_CROSS, rel=1e-6)
    assert terms["intra"].item() == pytest.approx(HAND_INTRA, rel=1e-6)
    assert terms["loss"].item() == pytest.approx(HAND_CROSS + HAND_INTRA / 4 + math.log(3), rel=1e-6)


def test_gradients_by_hand() -> None:
    """ds: -2 intra / s^3 + 1 / (s + 1). Image 0 lies on the x axis and has length 1: only y changes its direction, by 1."""
    loss, images = DepthPairLoss(temperature=0.5), HAND_IMAGES.clone().requires_grad_()
    loss(HAND_VIEWS, images)["loss"].backward()
    assert loss.s.grad is not None and images.grad is not None
    assert loss.s.grad.item() == pytest.approx(-2 * HAND_INTRA + 1 / 2, rel=1e-6)
    a0, a1, b0, b1 = 2 * E(1.6) + E(1.2), 1 + E(2.0) + E(1.6), E(1.2) + 2, E(2.0) + E(1.6) + 1  # denominators of the rows
    along_y = ((E(1.2) / a0 - 1) * 0.8      # row a0, in which b0 is the positive; a0 has y = .8
               + 1 / a1 * 1.0               # row a1: b0 is a negative
               + (E(1.2) / b0 - 1) * 0.8 + 1 / b0 * 1.0 + 1 / b0 * 1.0  # row b0: a0, a1, b1
               + 1 / b1 * 1.0)              # row b1: b0 is a negative
    assert images.grad[0].tolist() == pytest.approx([0.0, along_y / 4 / 0.5], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("contrast", ["nt_xent", "info_nce"])
def test_depth_pair_loss_equals_a_loop(contrast: str) -> None:
    views, images = pair_features()
    terms = DepthPairLoss(0.2, contrast=contrast)(views, images)
    cross = slow_contrast((views[:, 0] + views[:, 1]) / 2, images, 0.2, contrast)
    intra = slow_contrast(views[:, 0], views[:, 1], 0.2, contrast)
    assert terms["cross"].item() == pytest.approx(cross, rel=1e-5)
    assert terms["intra"].item() == pytest.approx(intra, rel=1e-5)
    assert terms["loss"].item() == pytest.approx(cross + intra + math.log(2), rel=1e-5)


def test_depth_pair_loss_equals_lightly() -> None:
    """Printed by lightly 1.6.0, NTXentLoss(temperature=0.07), with the official code's formula around it, in float64."""
    i = torch.arange(1, 41, dtype=torch.float64)
    first = torch.sin(i).view(5, 8)
    views = torch.stack([first, torch.cos(1.7 * i).view(5, 8) * 3 + first], dim=1).requires_grad_()
    loss = DepthPairLoss().double()
    with torch.no_grad():
        loss.s.fill_(0.8)
    terms = loss(views, torch.cos(0.3 * i * i).view(5, 8) + first)
    terms["loss"].backward()
    assert [terms[name].item() for name in ("cross", "intra", "loss")] == pytest.approx([3.3715957768787077, 4.138245104151503, 10.425390417017548])
    assert loss.s.grad is not None and views.grad is not None
    assert loss.s.grad.item() == pytest.approx(-15.609464382536247)
    assert views.grad[2, 1].tolist() == pytest.approx([0.10025736639169142, 0.10904420942970391, 0.07332340911368873, -0.3143775221116319,
                                                       -0.42584918960937523, 0.1350723003235521, 0.5053765879333804, 0.1390299575165983])


@pytest.mark.parametrize("contrast", ["nt_xent", "info_nce"])
def test_gradients_equal_finite_differences(contrast: str) -> None:
    views, images = (values.requires_grad_() for values in pair_features(4, 3, torch.float64))
    loss = DepthPairLoss(0.3, contrast=contrast).double()

    def value(views: torch.Tensor, images: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(loss, {"s": s}, (views, images))["loss"]

    assert torch.autograd.gradcheck(value, (views, images, torch.tensor(0.7, dtype=torch.float64, requires_grad=True)))


def test_depth_pair_loss_invariances() -> None:
    views, images = pair_features(dtype=torch.float64)
    loss, order = DepthPairLoss(), torch.tensor([3, 1, 0, 4, 2])
    length = torch.tensor([0.1, 3.0, 20.0, 1.0, 0.5], dtype=torch.float64)[:, None]
    expected = loss(views, images)
    for other in (loss(views[order], images[order]), loss(views.flip(1), images), loss(views * length[:, None], images * length.flip(0))):
        for name, term in expected.items():
            assert other[name].item() == pytest.approx(term.item(), rel=1e-9)
    assert loss(views, images[order])["cross"] > expected["cross"]


def test_without_intra_the_loss_is_cross() -> None:
    views, images = (values.requires_grad_() for values in pair_features())
    loss = DepthPairLoss(intra=False)
    terms, full = loss(views, images), DepthPairLoss()(views, images)
    assert torch.equal(terms["loss"], full["cross"]) and torch.equal(terms["intra"], full["intra"])
    assert terms["loss"].requires_grad and not terms["intra"].requires_grad and not loss.s.requires_grad
    loss.check()


def test_16_bits_are_computed_in_float32() -> None:
    views, images = pair_features()
    expected = DepthPairLoss()(views, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = DepthPairLoss()(views, images)
    for name, term in expected.items():
        assert torch.equal(terms[name], term), name
    half = DepthPairLoss()(views.bfloat16(), images.bfloat16())
    rounded = DepthPairLoss()(views.bfloat16().float(), images.bfloat16().float())
    assert all(half[name].dtype == torch.float32 and torch.equal(half[name], rounded[name]) for name in half)


@pytest.mark.parametrize(("views", "images", "message"), [
    ((4, 3, 8), (4, 8), r"view_features must be \(B, 2, E\).*got \(4, 3, 8\) and \(4, 8\)"),
    ((4, 8), (4, 8), r"view_features must be \(B, 2, E\)"),
    ((4, 2, 8), (4, 6), r"image_features must be \(B, E\).*got \(4, 2, 8\) and \(4, 6\); both must come from towers of the same CLIP"),
    ((4, 2, 8), (3, 8), r"image_features must be \(B, E\)"),
    ((1, 2, 8), (1, 8), r"needs at least 2 in a batch, got 1; use a larger batch_size"),
])
def test_wrong_shapes_are_one_line(views: tuple[int, ...], images: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        DepthPairLoss()(torch.ones(views), torch.ones(images))
    assert "\n" not in str(caught.value)


def test_wrong_arguments() -> None:
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="temperature must be a positive number"):
            DepthPairLoss(temperature)
    with pytest.raises(InputError, match="unknown contrast 'clip'; known: nt_xent, info_nce"):
        DepthPairLoss(contrast="clip")


@pytest.mark.parametrize("value", [0.0, -0.25, math.nan, math.inf])
def test_a_diverged_s_is_found(value: float) -> None:
    loss = DepthPairLoss()
    loss.check()
    with torch.no_grad():
        loss.s.fill_(value)
    with pytest.raises(TrainingDivergedError, match=f"s of DepthPairLoss is {value:g}, .* needs a positive number; lower the learning rate"):
        loss.check()


@pytest.mark.gpu
def test_the_loss_never_waits_for_the_gpu() -> None:
    views, images = (values.cuda().requires_grad_() for values in pair_features())
    loss = DepthPairLoss().cuda()
    loss(views, images)["loss"].backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        terms = loss(views, images)
        terms["loss"].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert terms["loss"].item() == pytest.approx(DepthPairLoss()(*pair_features())["loss"].item(), rel=1e-4)
