"""Adapters behind frozen towers: sizes, formulas, where training starts, what they see, what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from clip2x.adapters import AdapterSettings, GatedFusion, InterViewAdapter, build_adapter, released_dpa
from clip2x.errors import InputError

PLAIN = AdapterSettings(dropout=0.0, residual=False, unit_views=False)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def random_paths(num_views: Sequence[int], width: int, batch: int = 3, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(batch, number, width, generator=generator) for number in num_views]


def disturb(module: nn.Module, seed: int = 1) -> None:
    """Give every weight and every running statistic another value."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and name != "fixed":
            tensor.data.add_(0.3 * torch.randn(tensor.shape, generator=generator).abs())


def count(module: nn.Module | None) -> int:
    return 0 if module is None else sum(weight.numel() for weight in module.parameters())


def softmax(logits: Sequence[float]) -> list[float]:
    powers = [math.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


def test_sizes_are_those_of_the_released_code() -> None:
    """Two paths of ten views with 512 channels; the numbers stand in the fact sheet."""
    assert count(GatedFusion([10, 10], 512, released_dpa())) == 5_773_332
    for gate, size in (("vector", 524_800), ("scalar", 1_025), ("mean", 0)):
        adapter = GatedFusion([10, 10], 512, AdapterSettings(gate=gate))
        assert count(adapter.gate) == size and count(adapter.aggregators) == 5_769_216
    assert GatedFusion([10], 512).gate is None, "one path has nothing to weigh"


def batch_normed(rows: Tensor, state: dict[str, Tensor], name: str, training: bool) -> Tensor:
    mean, spread = (rows.mean(dim=0), rows.var(dim=0, unbiased=False)) if training else (state[f"{name}.running_mean"], state[f"{name}.running_var"])
    return (rows - mean) / (spread + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def dpa_of_path(views: Tensor, state: dict[str, Tensor], dropout: float, training: bool) -> Tensor:
    """Linear(dropout(ReLU(BN(Linear(flatten(dropout(BN(r_v X_v)))))))), the first normalisation over all views of all clouds."""
    batch, number, width = views.shape
    weighted = torch.stack([state["view_weights"][view] * views[:, view] for view in range(number)], dim=1)
    rows = batch_normed(weighted.reshape(batch * number, width), state, "view_norm", training).reshape(batch, number, width)
    rows = functional.dropout(rows, dropout, training).reshape(batch, number * width)
    gathered = batch_normed(rows @ state["gather.weight"].T + state["gather.bias"], state, "norm", training).clamp(min=0)
    return functional.dropout(gathered, dropout, training) @ state["project.weight"].T + state["project.bias"]


@pytest.mark.parametrize(("training", "dropout"), [(False, 0.075), (True, 0.0), (True, 0.5)])
def test_the_released_adapter_is_its_formula(training: bool, dropout: float) -> None:
    """In training with the statistics of the batch, and with the same numbers drawn for dropout."""
    settings = released_dpa()
    assert settings == AdapterSettings("mean", "batch", 0.075, view_weights=True, residual=False, unit_views=False)
    adapter, paths = GatedFusion([4, 4], 6, replace(settings, dropout=dropout)), random_paths([4, 4], 6, batch=5)
    assert all(bool((part.get_parameter("view_weights") == 0.5).all()) for part in adapter.aggregators)
    disturb(adapter)
    adapter.train(training)
    states = [{name: value.clone() for name, value in part.state_dict().items()} for part in adapter.aggregators]
    torch.manual_seed(9)
    fused, weights = adapter.fused(paths)
    torch.manual_seed(9)
    first, second = (dpa_of_path(path, state, dropout, training) for path, state in zip(paths, states, strict=True))
    assert torch.allclose(fused, (first + second) / 2, atol=1e-5) and torch.equal(weights, torch.full((5, 2, 1), 0.5))


def slow_fusion(adapter: GatedFusion, paths: list[Tensor]) -> tuple[Tensor, Tensor]:
    """GDPA cloud by cloud and channel by channel: g = unit mean view + W2 ReLU(W1 views), softmax of a gate that ends in zero."""
    assert adapter.gate is not None
    width, number, settings = adapter.width, len(paths), adapter.settings
    fused, shares = torch.zeros(len(paths[0]), width), torch.zeros(len(paths[0]), number, width)
    for cloud in range(len(paths[0])):
        globals_ = []
        for part, path in zip(adapter.aggregators, paths, strict=True):
            views = [view / view.norm() if settings.unit_views else view for view in path[cloud]]
            hidden = part.get_parameter("gather.weight") @ torch.cat(views) + part.get_parameter("gather.bias")
            adapted = part.get_parameter("project.weight") @ hidden.clamp(min=0) + part.get_parameter("project.bias")
            mean = sum(views, torch.zeros(width))
            globals_.append(adapted + (mean / mean.norm() if settings.residual else 0))
        logits = adapter.gate.weight @ torch.cat(globals_) + adapter.gate.bias
        for channel in range(width):
            own = [float(logits[path * width + channel] if settings.gate == "vector" else logits[path]) for path in range(number - 1)]
            # two paths: a sigmoid
            weights = [1 / (1 + math.exp(-own[0])), 1 / (1 + math.exp(own[0]))] if number == 2 else softmax([*own, 0.0])
            shares[cloud, :, channel] = torch.tensor(weights)
            fused[cloud, channel] = sum(weight * float(part[channel]) for weight, part in zip(weights, globals_, strict=True))
    return fused, shares


@pytest.mark.parametrize(("num_views", "gate", "residual"), [((3, 2), "vector", True), ((3, 2), "scalar", False), ((2, 2, 1), "vector", True),
                                                              ((2, 2, 1), "scalar", True), ((1, 4, 2), "vector", False)])
def test_gated_fusion_is_its_formula(num_views: tuple[int, ...], gate: str, residual: bool) -> None:
    adapter, paths = GatedFusion(num_views, 5, AdapterSettings(gate=gate, residual=residual)), random_paths(num_views, 5)
    disturb(adapter)
    adapter.eval()
    with torch.no_grad():
        fused, weights = adapter.fused(paths)
        expected, shares = slow_fusion(adapter, paths)
        assert torch.allclose(fused, expected, atol=1e-5) and torch.equal(adapter(paths), fused)
    assert weights.shape == (3, len(num_views), 5 if gate == "vector" else 1)
    assert torch.allclose(weights.expand_as(shares), shares, atol=1e-6)
    assert torch.allclose(weights.sum(dim=1), torch.ones(3, weights.shape[2]), atol=1e-6)
    assert weights.flatten(1).std(dim=0).max() > 1e-3, "the gate depends on the cloud"


def as_relu(adapter: GatedFusion) -> None:
    """Let every aggregator of single views be ReLU."""
    for part in adapter.aggregators:
        for name in ("gather", "project"):
            part.get_parameter(f"{name}.weight").data.copy_(torch.eye(adapter.width))
            part.get_parameter(f"{name}.bias").data.zero_()


def test_gated_fusion_by_hand() -> None:
    one, two, three = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, -4.0]]]), torch.tensor([[[6.0, 6.0]]])
    pair = GatedFusion([1, 1], 2, PLAIN)
    as_relu(pair)
    assert pair.gate is not None
    pair.gate.weight.data[1, 2] = 0.5  # the second channel listens to the first one of the second path, which is 3
    pair.gate.bias.data.copy_(torch.tensor([math.log(3), -1.5]))
    fused, weights = pair.fused([one, two])
    assert torch.allclose(weights, torch.tensor([[[0.75, 0.5], [0.25, 0.5]]]))
    assert torch.allclose(fused, torch.tensor([[0.75 * 1 + 0.25 * 3, 0.5 * 2 + 0.5 * 0]]))
    triple = GatedFusion([1, 1, 1], 2, replace(PLAIN, gate="scalar"))
    as_relu(triple)
    assert triple.gate is not None
    triple.gate.bias.data.copy_(torch.tensor([math.log(2), math.log(3)]))
    fused, weights = triple.fused([one, two, three])
    assert torch.allclose(weights.flatten(), torch.tensor([2.0, 3.0, 1.0]) / 6)
    assert torch.allclose(fused, torch.tensor([[(2 * 1 + 3 * 3 + 6) / 6, (2 * 2 + 0 + 6) / 6]]))


@pytest.mark.parametrize("gate", ["vector", "scalar", "mean"])
@pytest.mark.parametrize("start", [None, (2.0, 1.0, 5.0)])
def test_training_starts_from_the_weighted_sum_of_the_paths_cosines(gate: str, start: tuple[float, ...] | None) -> None:
    """In training mode too, where dropout changes nothing yet: cosines of a path's mean unit view, which the gate weighs."""
    paths = random_paths([4, 3, 1], 6)
    adapter = GatedFusion([4, 3, 1], 6, AdapterSettings(gate=gate), start).train()
    fused, weights = adapter.fused(paths)
    shares = torch.tensor(start or (1.0, 1.0, 1.0)) / sum(start or (1.0, 1.0, 1.0))
    assert torch.allclose(weights, shares[None, :, None].expand_as(weights), atol=1e-6)
    means = [(path / path.norm(dim=-1, keepdim=True)).sum(dim=1) for path in paths]
    names = functional.normalize(torch.randn(4, 6, generator=torch.Generator().manual_seed(2)), dim=-1)
    cosines = [functional.cosine_similarity(mean[:, None], names[None], dim=-1) for mean in means]
    expected = sum((share * part for share, part in zip(shares, cosines, strict=True)), torch.zeros(3, 4))
    assert torch.allclose(fused @ names.T, expected, atol=1e-6)


def test_the_lengths_of_views_do_not_count_where_they_are_brought_to_one() -> None:
    paths = random_paths([4, 2], 6)
    factors = [0.1 + 10 * torch.rand(path.shape[:2], generator=torch.Generator().manual_seed(5))[..., None] for path in paths]
    for unit_views in (True, False):
        adapter = GatedFusion([4, 2], 6, AdapterSettings(unit_views=unit_views)).eval()
        disturb(adapter)
        scaled = adapter([path * factor for path, factor in zip(paths, factors, strict=True)])
        assert torch.allclose(scaled, adapter(paths), atol=1e-5) == unit_views


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_clouds_do_not_see_each_other_unless_normalised_over_the_batch(norm: str) -> None:
    paths = random_paths([4, 2], 6, batch=5)
    adapter = GatedFusion([4, 2], 6, AdapterSettings(norm=norm, dropout=0.0)).train()
    disturb(adapter)
    order = torch.tensor([3, 1, 4])
    assert torch.allclose(adapter([path[order] for path in paths]), adapter(paths)[order], atol=1e-6)
    other = GatedFusion([4, 2], 6, replace(released_dpa(), dropout=0.0)).train()
    assert not torch.allclose(other([path[order] for path in paths]), other(paths)[order], atol=1e-3)


@pytest.mark.parametrize(("gate", "norm", "view_weights"), [("vector", "none", False), ("scalar", "layer", True), ("mean", "none", True)])
def test_training_moves_all_of_the_adapter_and_nothing_else(gate: str, norm: str, view_weights: bool) -> None:
    """Although the last layers and the gate start at zero, which keeps gradients from the first layers in the first step."""
    paths, names = random_paths([3, 3], 4, batch=8), functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(3)), dim=-1)
    kept = [tensor.clone() for tensor in (*paths, names)]
    adapter = GatedFusion([3, 3], 4, AdapterSettings(gate=gate, norm=norm, view_weights=view_weights, dropout=0.0))
    before = {name: weight.detach().clone() for name, weight in adapter.named_parameters()}
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        functional.cross_entropy(adapter(paths) @ names.T, torch.arange(8)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for name, weight in adapter.named_parameters():
        assert weight.grad is not None and bool(weight.grad.isfinite().all()) and not torch.equal(weight, before[name]), name
    assert all(torch.equal(now, then) and now.grad is None for now, then in zip((*paths, names), kept, strict=True))


def slow_inter_view(adapter: InterViewAdapter, views: Tensor) -> Tensor:
    """The adapted views of PointCLIP, (B, V, C): 0.6 of what three layers make of all views, 0.4 of the unit view itself."""
    state = dict(adapter.state_dict())
    batch, number, width = views.shape
    unit = views / views.norm(dim=-1, keepdim=True)
    weighted = torch.stack([state["view_weights"][view] * unit[:, view] for view in range(number)], dim=1)
    rows = batch_normed(weighted.reshape(-1, width), state, "view_norm", adapter.training).reshape(batch, number * width)
    gathered = batch_normed(rows @ state["gather.weight"].T + state["gather.bias"], state, "norm", adapter.training).clamp(min=0)
    hidden = (gathered @ state["hidden.weight"].T + state["hidden.bias"]).clamp(min=0)
    spread = (hidden @ state["spread.weight"].T + state["spread.bias"]).clamp(min=0).reshape(batch, number, width)
    mixed: Tensor = 0.6 * spread + 0.4 * unit
    return mixed


@pytest.mark.parametrize("training", [False, True])
def test_the_product_with_a_text_is_the_cosine_of_all_views_and_the_repeated_text(training: bool) -> None:
    adapter, views = InterViewAdapter(4, 6, dropout=0.0 if training else 0.075), random_paths([4], 6, batch=5)[0]
    disturb(adapter)
    adapter.train(training)
    mixed = slow_inter_view(adapter, views)
    texts = functional.normalize(torch.randn(3, 6, generator=torch.Generator().manual_seed(2)), dim=-1)
    with torch.no_grad():
        embeds = adapter([views])
    assert torch.allclose(embeds, mixed.mean(dim=1) / mixed.square().sum(dim=2).mean(dim=1).sqrt()[:, None], atol=1e-5)
    for cloud, text in product(range(5), range(3)):
        cosine = functional.cosine_similarity(mixed[cloud].flatten(), texts[text].repeat(4), dim=0)
        assert float(embeds[cloud] @ texts[text]) == pytest.approx(float(cosine), abs=1e-5)


@pytest.mark.parametrize("settings", [AdapterSettings(), released_dpa(), AdapterSettings(gate="scalar", norm="layer", view_weights=True)])
def test_an_adapter_is_built_again_from_what_it_says(settings: AdapterSettings) -> None:
    adapter, paths = GatedFusion([4, 3], 6, settings, [3.0, 1.0]), random_paths([4, 3], 6)
    disturb(adapter)
    said = json.loads(json.dumps(adapter.describe()))
    again = build_adapter(said)
    again.load_state_dict(adapter.state_dict())
    assert again.describe() == said and again.settings == settings and AdapterSettings.of(asdict(settings)) == settings
    assert torch.equal(again.eval()(paths), adapter.eval()(paths))


@pytest.mark.parametrize(("num_views", "paths", "message"), [
    ([4, 2], random_paths([4, 3], 6), r"takes 2 views of 6 channels, got \(3, 3, 6\); use the views and the towers that it was made for\."),
    ([4], random_paths([4], 5), r"takes 4 views of 6 channels, got \(3, 4, 5\)"),
    ([4, 2], random_paths([4], 6), r"this adapter has 2 paths, got features of 1; give those that it was made for\."),
    ([4], random_paths([4, 4], 6), "this adapter has 1 paths, got features of 2"),
])
def test_features_that_do_not_fit_are_refused(num_views: list[int], paths: list[Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GatedFusion(num_views, 6)(paths)


@pytest.mark.parametrize(("said", "message"), [
    ({"gate": "tensor"}, "gate is one of vector, scalar, mean and its norm one of none, layer, batch, got 'tensor' and 'none'."),
    ({"norm": "group"}, "got 'vector' and 'group'."),
    ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1\."),
    ({"dropout": -0.1}, "got -0.1"),
    ({"dropout": math.nan}, "got nan"),
    ({"heads": 4}, "an adapter has no setting 'heads'; it has dropout, gate, norm, residual, unit_views, view_weights."),
    ({"num_views": []}, r"needs at least one path, each with views, and channels, got views \[\] and 6 channels."),
    ({"num_views": [4, 0]}, r"got views \[4, 0\] and 6 channels"),
    ({"width": 0}, "got views .4, 4. and 0 channels"),
    ({"kind": "dpa"}, "an adapter of kind 'dpa' is not known here; known is gated_fusion."),
    ({"kind": None}, "an adapter of kind None is not known"),
])
def test_adapters_that_cannot_be_built_are_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_adapter({"kind": "gated_fusion", "num_views": [4, 4], "width": 6, **said})


@pytest.mark.parametrize("start", [[1.0], [1.0, 1.0, 1.0], [1.0, 0.0], [-1.0, 1.0], [math.nan, 1.0]])
def test_a_gate_starts_with_a_positive_weight_for_each_path(start: list[float]) -> None:
    for settings in (AdapterSettings(), released_dpa()):
        with pytest.raises(InputError, match="gate starts with a positive weight for each of its 2 paths, got "):
            GatedFusion([4, 4], 6, settings, start)
