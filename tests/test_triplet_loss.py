"""TripletLoss: by hand, against a slow twin, open_clip and finite differences; rows of one process against the batch of all."""

from __future__ import annotations

import math

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from clip2x.errors import InputError
from clip2x.losses import GlobalBatch, TripletLoss

E = math.exp

# By hand, two dimensions, temperature 0.5, so cosines count double. Triplets 0 and 1 have one text, (1, 0); triplet 2 has (0, 1).
# Points (1, 0), (0, 1), (.6, .8); pictures (0, 1), (1, 0), (.8, .6). Text 0 and text 1 are no negatives of each other's points.
HAND_POINTS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
HAND_TEXTS = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
HAND_IMAGES = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.8, 0.6]])
HAND_IDS = torch.tensor([7, 7, 3])
HAND_TEXT = (math.log(E(2.0) + 1) - 2.0               # p0: t0 1, t2 0
             + math.log(1 + E(2.0)) - 0.0             # p1: t1 0, t2 1
             + math.log(2 * E(1.2) + E(1.6)) - 1.6    # p2: t0 .6, t1 .6, t2 .8
             + math.log(E(2.0) + E(1.2)) - 2.0        # t0: p0 1, p2 .6
             + math.log(1 + E(1.2)) - 0.0             # t1: p1 0, p2 .6
             + math.log(1 + E(2.0) + E(1.6)) - 1.6) / 6  # t2: p0 0, p1 1, p2 .8
HAND_IMAGE = (math.log(1 + E(2.0) + E(1.6)) - 0.0             # p0: i0 0, i1 1, i2 .8
              + math.log(E(2.0) + 1 + E(1.2)) - 0.0           # p1: i0 1, i1 0, i2 .6
              + math.log(E(1.6) + E(1.2) + E(1.92)) - 1.92    # p2: i0 .8, i1 .6, i2 .96
              + math.log(1 + E(2.0) + E(1.6)) - 0.0           # i0: p0 0, p1 1, p2 .8
              + math.log(E(2.0) + 1 + E(1.2)) - 0.0           # i1: p0 1, p1 0, p2 .6
              + math.log(E(1.6) + E(1.2) + E(1.92)) - 1.92) / 6  # i2: p0 .8, p1 .6, p2 .96


def triplets(count: int = 6, size: int = 8, dtype: torch.dtype = torch.float32, seed: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw unit vectors; triplets with one text have one text embedding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, (count,), generator=generator)
    names, points, noise = (torch.randn(number, size, generator=generator, dtype=dtype) for number in (4, count, count))
    points = points + names[ids]
    points, texts, images = (functional.normalize(values, dim=-1) for values in (points, names[ids], points + noise))
    return points, texts, images, ids


def slow_contrast(points: Tensor, others: Tensor, temperature: float, ids: list[int] | None) -> float:
    """Contrast as the definition says, pair by pair, with Python's numbers."""
    total, count = 0.0, len(points)
    for first, second in ((points.tolist(), others.tolist()), (others.tolist(), points.tolist())):
        for i in range(count):
            rivals = [j for j in range(count) if j == i or ids is None or ids[j] != ids[i]]
            cosine = {j: sum(a * b for a, b in zip(first[i], second[j], strict=True)) / temperature for j in rivals}
            total += math.log(sum(map(math.exp, cosine.values()))) - cosine[i]
    return total / (2 * count)


def test_by_hand() -> None:
    terms = TripletLoss(text_weight=0.3, image_weight=2.0, temperature=0.5)(HAND_POINTS, HAND_TEXTS, HAND_IMAGES, HAND_IDS)
    assert set(terms) == {"loss", "text", "image"}
    assert terms["text"].item() == pytest.approx(HAND_TEXT, rel=1e-6)
    assert terms["image"].item() == pytest.approx(HAND_IMAGE, rel=1e-6)
    assert terms["loss"].item() == pytest.approx(0.3 * HAND_TEXT + 2.0 * HAND_IMAGE, rel=1e-6)


def test_gradients_by_hand() -> None:
    """Two orthogonal pairs at scale 2: q = 1 / (1 + e^2) is the share of the negative in each of the four rows, and log(1 + e^-2) their loss.

    To point 0 come -2 q of its own text and 2 q of the other one, once from its row and once from the rows of the texts, halved by the mean over
    two rows and again by that over two directions: (-q, q). To the logarithm of the scale comes 2 (q 0 - q 1) from every row.
    """
    loss, points = TripletLoss(1.0, 0.0, temperature=0.5, learnable=True), torch.eye(2, requires_grad=True)
    terms = loss(points, torch.eye(2), None, torch.tensor([0, 1]))
    terms["loss"].backward()
    q = 1 / (1 + E(2.0))
    assert terms["loss"].item() == pytest.approx(math.log(1 + E(-2.0)), rel=1e-6)
    assert points.grad is not None and loss.log_scale.grad is not None
    assert points.grad[0].tolist() == pytest.approx([-q, q], rel=1e-5)
    assert loss.log_scale.grad.tolist() == pytest.approx([-2 * q], rel=1e-5)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_equals_a_loop(seed: int) -> None:
    points, texts, images, ids = triplets(seed=seed)
    assert len(ids.unique()) < len(ids), "some texts are equal"
    terms = TripletLoss(temperature=0.2)(points, texts, images, ids)
    text, image = slow_contrast(points, texts, 0.2, ids.tolist()), slow_contrast(points, images, 0.2, None)
    assert terms["text"].item() == pytest.approx(text, rel=1e-5)
    assert terms["image"].item() == pytest.approx(image, rel=1e-5)
    assert terms["loss"].item() == pytest.approx((text + image) / 2, rel=1e-5)
    assert abs(text - slow_contrast(points, texts, 0.2, None)) > 1e-3, "the mask changes the figure"


def test_without_equal_texts_it_is_the_loss_of_open_clip() -> None:
    points, texts, images, _ = triplets()
    clip_loss, scale = open_clip.ClipLoss(), torch.tensor(1 / 0.07)
    terms = TripletLoss()(points, texts, images, torch.arange(6))
    assert terms["text"].item() == pytest.approx(clip_loss(points, texts, scale).item(), rel=1e-5)
    assert terms["image"].item() == pytest.approx(clip_loss(points, images, scale).item(), rel=1e-5)


def test_fixed_numbers() -> None:
    """Printed by a NumPy version of the formula in float64, the gradient by differences of fourth order."""
    i = torch.arange(1, 41, dtype=torch.float64)
    points, images = (functional.normalize(values.view(5, 8), dim=-1) for values in (torch.sin(i), torch.sin(i) + torch.cos(0.3 * i * i)))
    ids = torch.tensor([0, 1, 0, 2, 1])
    texts = functional.normalize(torch.cos(1.7 * i[:24]).view(3, 8) + 0.1, dim=-1)[ids]
    points.requires_grad_()
    terms = TripletLoss(0.6, 0.3, temperature=0.1).double()(points, texts, images, ids)
    terms["loss"].backward()
    assert points.grad is not None
    assert [terms[name].item() for name in ("text", "image", "loss")] == pytest.approx([2.519572262751262, 0.4150025099895156, 1.6362441106476118])
    assert points.grad[2].tolist() == pytest.approx([-0.22032841002, 0.49504864723, 0.04188723266, -0.55682688275, 0.05064124137, 0.49283945824,
                                                     -0.22835754206, -0.48481606518])


def test_gradients_equal_finite_differences() -> None:
    points, texts, images, ids = triplets(4, 3, torch.float64)
    loss = TripletLoss(0.4, 0.7, temperature=0.3, learnable=True, separate=True).double()

    def value(points: Tensor, texts: Tensor, images: Tensor, log_scale: Tensor) -> Tensor:
        return torch.func.functional_call(loss, {"log_scale": log_scale}, (points, texts, images, ids))["loss"]

    leaves = (points, texts, images, torch.tensor([1.0, 1.7], dtype=torch.float64))
    assert torch.autograd.gradcheck(value, tuple(leaf.requires_grad_() for leaf in leaves))


def test_the_order_of_the_triplets_and_the_numbers_of_the_texts_do_not_matter() -> None:
    points, texts, images, ids = triplets(dtype=torch.float64)
    order, loss = torch.tensor([3, 1, 5, 0, 4, 2]), TripletLoss()
    expected = loss(points, texts, images, ids)
    for other in (loss(points[order], texts[order], images[order], ids[order]), loss(points, texts, images, 90 - 7 * ids)):
        for name, term in expected.items():
            assert other[name].item() == pytest.approx(term.item(), rel=1e-9)
    assert loss(points, texts, images[order], ids)["image"] > expected["image"]


def test_triplets_with_one_text_are_no_negatives_of_each_other() -> None:
    """With one text in the batch the text term says nothing, at any scale; a logit of 0 in the place of -inf would cost log(1 + 5 e^-s)."""
    points, texts, _, _ = triplets()
    points.requires_grad_()
    terms = TripletLoss(1.0, 0.0)(points, texts[:1].expand(6, -1), None, torch.full((6,), 9))
    terms["loss"].backward()
    assert terms["loss"].item() == 0.0 and points.grad is not None and not points.grad.any()


@pytest.mark.parametrize(("weights", "zero"), [((1.0, 0.0), "image"), ((0.0, 1.0), "text")])
def test_one_term_alone(weights: tuple[float, float], zero: str) -> None:
    points, texts, images, ids = triplets()
    both, alone = TripletLoss()(points, texts, images, ids), TripletLoss(*weights)(points, texts, None if zero == "image" else images, ids)
    left = "text" if zero == "image" else "image"
    assert alone[zero].item() == 0.0
    assert torch.equal(alone["loss"], both[left]) and torch.equal(alone[left], both[left])


@pytest.mark.parametrize("learnable", [False, True])
def test_temperatures_are_one_or_two_trained_or_not(learnable: bool) -> None:
    loss = TripletLoss(temperature=0.1, learnable=learnable)
    assert loss.log_scale.requires_grad == learnable and loss.log_scale.shape == (1,)
    assert [scale.item() for scale in loss.scales] == pytest.approx([10.0, 10.0])
    two = TripletLoss(temperature=0.1, learnable=True, separate=True)
    with torch.no_grad():
        two.log_scale[1] = math.log(3.0)
    assert [scale.item() for scale in two.scales] == pytest.approx([10.0, 3.0])
    points, texts, images, ids = triplets()
    terms = two(points, texts, images, ids)
    assert torch.equal(terms["text"], TripletLoss(temperature=0.1)(points, texts, images, ids)["text"])
    assert terms["image"].item() == pytest.approx(TripletLoss(temperature=1 / 3)(points, texts, images, ids)["image"].item(), rel=1e-6)


def test_a_trained_scale_stays_below_its_limit() -> None:
    """A step beyond it is taken back, the value is that at the limit, and a gradient leads back from there."""
    loss, (points, texts, images, ids) = TripletLoss(temperature=0.05, learnable=True, max_scale=40.0), triplets()
    with torch.no_grad():
        loss.log_scale.fill_(math.log(41.0))
    terms = loss(points, texts, images, ids)
    terms["loss"].backward()
    assert [scale.item() for scale in loss.scales] == pytest.approx([40.0, 40.0])
    assert torch.equal(terms["loss"], TripletLoss(temperature=1 / 40.0)(points, texts, images, ids)["loss"])
    assert loss.log_scale.item() == pytest.approx(math.log(40.0)) and loss.log_scale.grad is not None
    expected = torch.tensor(math.log(40.0), dtype=torch.float64, requires_grad=True)
    text = [(expected.exp() * first @ second.T).masked_fill((ids[:, None] == ids) & ~torch.eye(6, dtype=torch.bool), -torch.inf)
            for first, second in ((points.double(), texts.double()), (texts.double(), points.double()))]
    image = [expected.exp() * first @ second.T for first, second in ((points.double(), images.double()), (images.double(), points.double()))]
    (sum(functional.cross_entropy(logits, torch.arange(6)) for logits in (*text, *image)) / 4).backward()  # type: ignore[union-attr]
    assert expected.grad is not None and abs(expected.grad.item()) > 1e-3
    assert loss.log_scale.grad.item() == pytest.approx(expected.grad.item(), rel=1e-3)


def test_a_scale_at_its_limit_comes_back() -> None:
    """Wrong pairs want a low scale: it falls from beyond the limit in a few steps."""
    loss, points = TripletLoss(1.0, 0.0, temperature=0.05, learnable=True, max_scale=40.0), torch.eye(3)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.01)
    with torch.no_grad():
        loss.log_scale.fill_(5.0)
    for _ in range(5):
        optimizer.zero_grad()
        loss(points, points.roll(1, dims=0), None, torch.arange(3))["loss"].backward()
        optimizer.step()
    assert loss.scales[0].item() < 30


def test_an_object_is_no_negative_of_itself() -> None:
    """In the image term, against the slow twin; the text term does not look at objects."""
    points, texts, images, ids = triplets(6)
    objects = [4, 2, 4, 7, 2, 4]
    terms = TripletLoss(temperature=0.2)(points, texts, images, ids, None, torch.tensor(objects))
    assert terms["image"].item() == pytest.approx(slow_contrast(points, images, 0.2, objects), rel=1e-5)
    plain = TripletLoss(temperature=0.2)(points, texts, images, ids)
    assert torch.equal(terms["text"], plain["text"]) and abs(terms["image"].item() - plain["image"].item()) > 1e-3
    different = TripletLoss(temperature=0.2)(points, texts, images, ids, None, torch.arange(6))
    assert torch.equal(different["image"], plain["image"])


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("learnable", [False, True])
def test_the_mean_over_the_processes_is_the_loss_of_the_joined_batch(parts: int, learnable: bool) -> None:
    """In one process, so to 1e-12: each part's rows against the columns of all. Gradients reach the own points twice, as rows and as columns."""
    points, texts, images, ids = triplets(6, dtype=torch.float64)
    loss = TripletLoss(0.4, 0.7, learnable=learnable, separate=learnable).double()
    joined, cut = points.clone().requires_grad_(), points.clone().requires_grad_()
    expected = loss(joined, texts, images, ids)
    expected["loss"].backward()
    scale_gradient = loss.log_scale.grad
    loss.log_scale.grad = None
    size = 6 // parts
    terms = [loss(cut[own], texts[own], images[own], ids[own], GlobalBatch(cut, texts, images, ids, own.start))
             for own in (slice(first, first + size) for first in range(0, 6, size))]
    for name, term in expected.items():
        torch.testing.assert_close(sum(part[name] for part in terms) / parts, term, rtol=1e-12, atol=1e-12)
    (sum(part["loss"] for part in terms) / parts).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(cut.grad, joined.grad, rtol=1e-12, atol=1e-12)
    if learnable:
        torch.testing.assert_close(loss.log_scale.grad, scale_gradient, rtol=1e-12, atol=1e-12)


def test_memory_grows_with_the_rows_of_a_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    original = functional.cross_entropy
    monkeypatch.setattr(functional, "cross_entropy", lambda logits, own: (shapes.append(tuple(logits.shape)), original(logits, own))[1])
    points, texts, images, ids = triplets()
    TripletLoss()(points[2:4], texts[2:4], images[2:4], ids[2:4], GlobalBatch(points, texts, images, ids, 2))
    assert shapes == [(2, 6)] * 4


def test_16_bits_are_computed_in_float32() -> None:
    points, texts, images, ids = triplets()
    expected = TripletLoss()(points, texts, images, ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = TripletLoss()(points, texts, images, ids)
    assert all(torch.equal(terms[name], term) for name, term in expected.items())
    half = TripletLoss()(points.bfloat16(), texts.bfloat16(), images.bfloat16(), ids)
    rounded = TripletLoss()(points.bfloat16().float(), texts.bfloat16().float(), images.bfloat16().float(), ids)
    assert all(half[name].dtype == torch.float32 and torch.equal(half[name], rounded[name]) for name in half)


@pytest.mark.parametrize(("shapes", "message"), [
    (((4, 8), (4, 8), (4, 6), (4,)), r"got point_embeds \(4, 8\), text_embeds \(4, 8\), image_embeds \(4, 6\), text_ids \(4,\); towers of the same"),
    (((4, 8), (3, 8), (4, 8), (4,)), r"embeddings must all be \(B, E\) and text_ids \(B,\)"),
    (((4, 8), (4, 8), (4, 8), (3,)), r"text_ids \(3,\)"),
    (((4, 2, 8), (4, 2, 8), (4, 2, 8), (4,)), r"embeddings must all be \(B, E\)"),
    (((1, 8), (1, 8), (1, 8), (1,)), "needs at least 2 in a batch, got 1; use a larger batch_size"),
    (((4, 8), (4, 8), None, (4,)), "the image term needs image_embeds; give them, or set image_weight: 0"),
])
def test_wrong_shapes_are_one_line(shapes: tuple[tuple[int, ...] | None, ...], message: str) -> None:
    points, texts, images, ids = (None if shape is None else torch.ones(shape) for shape in shapes)
    assert points is not None and texts is not None and ids is not None
    with pytest.raises(InputError, match=message) as caught:
        TripletLoss()(points, texts, images, ids.long())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"text_weight": 0.0, "image_weight": 0.0}, "must be at least 0 and not both 0, got 0.0 and 0.0"),
    ({"text_weight": -1.0}, "got -1.0 and 0.5"),
    ({"image_weight": math.inf}, "got 0.5 and inf"),
    ({"temperature": 0.0}, "temperature must be a positive number of at least 1 / max_scale, got 0.0 and max_scale 100"),
    ({"temperature": math.nan}, "got nan"),
    ({"temperature": 0.009}, "got 0.009 and max_scale 100"),
    ({"separate": True}, "set learnable: true too"),
])
def test_wrong_arguments(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TripletLoss(**arguments)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_the_loss_never_waits_for_the_gpu() -> None:
    points, texts, images, ids = (values.cuda() for values in triplets())
    points.requires_grad_()
    loss = TripletLoss(learnable=True).cuda()
    loss(points, texts, images, ids)["loss"].backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        terms = loss(points, texts, images, ids)
        terms["loss"].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert terms["loss"].item() == pytest.approx(TripletLoss()(*triplets())["loss"].item(), rel=1e-4)
