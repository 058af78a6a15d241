"""Features that frozen towers gave once: how they are kept, the cache of shots, gates by class, differences of draws, how adapters are fitted."""

from __future__ import annotations

import math
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from clip2x.adapters import AdapterSettings, GatedFusion, InterViewAdapter, released_dpa
from clip2x.errors import BadFileError, CheckpointMismatchError, InputError, TrainingDivergedError
from clip2x.evaluation.cache_model import ALPHA, ALPHAS, BETA, BETAS, CacheModel, fit_cache, joined_views, mean_of_views
from clip2x.evaluation.gates import CELL_PX, HEAD_PX, HIGH, LABEL_PX, LOW, ROW_PX, SCALE, draw_gates, mean_gates
from clip2x.evaluation.shots_report import differences
from clip2x.evaluation.view_features import ViewFeatureCache
from clip2x.modules.adapter_fitting import AdapterTraining, fit_adapter, pointclip_training

CLOUDS = torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(0))


class Towers(nn.Module):
    """Two paths, of two views and of one; killed at the call of that number."""

    def __init__(self, factor: float = 2.0, killed_at: int = 0) -> None:
        super().__init__()
        self.layer, self.killed_at, self.calls = nn.Linear(3, 4, bias=False), killed_at, 0
        self.num_real: Tensor | None = None
        nn.init.constant_(self.layer.weight, factor)

    def forward(self, points: Tensor, num_real: Tensor | None = None) -> list[Tensor]:
        self.calls += 1
        self.num_real = num_real
        if self.calls == self.killed_at:
            raise KeyboardInterrupt
        return [self.layer(points[:, :2]), self.layer(points.mean(dim=1, keepdim=True))]


def cache_of(towers: nn.Module, folder: Path, **about: Any) -> ViewFeatureCache:
    return ViewFeatureCache(towers, folder, about or {"weights": "abc"}, nullcontext)


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_towers_are_told_how_many_points_of_new_clouds_are_real(tmp_path: Path) -> None:
    towers = Towers()
    cache = cache_of(towers, tmp_path)
    cache.features(CLOUDS[:3])
    assert towers.num_real is None
    cache.features(CLOUDS, torch.arange(7))
    assert towers.num_real is not None and towers.num_real.tolist() == [3, 4, 5, 6]


def test_towers_see_a_cloud_once(tmp_path: Path) -> None:
    towers = Towers()
    cache = cache_of(towers, tmp_path / "kept")
    with torch.inference_mode():  # as in Lightning's test loop
        first = cache.features(CLOUDS)
    expected = towers(CLOUDS)
    assert cache.num_encoded == 7 and towers.calls == 2 and not any(part.requires_grad or part.is_inference() for part in first)
    again = cache_of(towers, tmp_path / "kept")
    for parts in (first, cache.features(CLOUDS.clone()), again.features(CLOUDS)):
        assert len(parts) == 2 and all(torch.equal(part, own) and part.dtype == torch.float32 for part, own in zip(parts, expected, strict=True))
    assert cache.num_encoded == 7 and again.num_encoded == 0 and towers.calls == 2 and len(files_in(tmp_path / "kept")) == 1


def test_features_are_made_in_the_towers_precision_and_kept_in_full(tmp_path: Path) -> None:
    towers = Towers()
    cache = ViewFeatureCache(towers, tmp_path, {}, lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = [part.float() for part in towers(CLOUDS)]
    for _ in range(2):
        assert all(torch.equal(part, own) and part.dtype == torch.float32 for part, own in zip(cache.features(CLOUDS), expected, strict=True))
    assert not torch.equal(expected[0], towers(CLOUDS)[0])


def test_clouds_are_known_whatever_batch_and_order_they_come_in(tmp_path: Path) -> None:
    towers = Towers()
    cache = cache_of(towers, tmp_path)
    for part in torch.split(CLOUDS[:5], 2):
        cache.features(part)
    assert cache.num_encoded == 5 and len(files_in(tmp_path)) == 3
    mixed = CLOUDS[[6, 0, 3, 5, 1]]  # two new ones among known ones
    assert all(torch.equal(part, own) for part, own in zip(cache.features(mixed), towers(mixed), strict=True))
    assert cache.num_encoded == 7 and len(files_in(tmp_path)) == 4
    again = cache_of(towers, tmp_path)
    assert all(torch.equal(part, own) for part, own in zip(again.features(CLOUDS.flip(0)), towers(CLOUDS.flip(0)), strict=True))
    assert again.num_encoded == 0


def test_files_that_another_process_wrote_meanwhile_are_seen(tmp_path: Path) -> None:
    first, second = cache_of(Towers(), tmp_path), cache_of(Towers(), tmp_path)
    first.features(CLOUDS[:2])
    second.features(CLOUDS[2:])
    first.features(CLOUDS)
    assert first.num_encoded == 2


def test_other_towers_settings_or_clouds_are_encoded_anew(tmp_path: Path) -> None:
    kinds: list[tuple[dict[str, Any], Tensor]] = [
        ({"weights": "abc"}, CLOUDS), ({"weights": "abd"}, CLOUDS), ({"weights": "abc", "views": 10}, CLOUDS), ({"weights": "abc"}, CLOUDS + 1e-6)]
    for number, (about, clouds) in enumerate(kinds, start=1):
        towers = Towers(factor=number)
        cache = cache_of(towers, tmp_path, **about)
        assert torch.equal(cache.features(clouds)[0], towers(clouds)[0]) and cache.num_encoded == len(clouds)
        assert len(files_in(tmp_path)) == number
    same = cache_of(Towers(), tmp_path, views=10, weights="abc")
    same.features(CLOUDS)
    assert same.num_encoded == 0, "the order of what is said does not count"


def test_a_killed_run_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    cache, parts = cache_of(Towers(killed_at=3), tmp_path), torch.split(CLOUDS, 2)
    for part in parts[:2]:
        cache.features(part)
    with pytest.raises(KeyboardInterrupt):
        cache.features(parts[2])
    assert len(files_in(tmp_path)) == 2, "whole files only"
    cache = cache_of(Towers(), tmp_path)
    joined = cache.features(CLOUDS)
    assert cache.num_encoded == 3 and torch.equal(joined[1], Towers()(CLOUDS)[1]) and len(files_in(tmp_path)) == 3


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    cache_of(Towers(), tmp_path, weights="abd").features(CLOUDS)
    (other,) = files_in(tmp_path)
    own = cache_of(Towers(), tmp_path, weights="abc")
    own.folder.mkdir()
    shutil.copy(other, own.folder / other.name)
    with pytest.raises(CheckpointMismatchError, match=f"{other.name}: holds view features by other weights or settings; delete it") as caught:
        own.features(CLOUDS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_file_is_one_line(damage: str, tmp_path: Path) -> None:
    cache_of(Towers(), tmp_path).features(CLOUDS)
    (path,) = files_in(tmp_path)
    path.write_bytes({"cut": path.read_bytes()[:-8], "empty": b"", "text": b"these are not the features you look for"}[damage])
    with pytest.raises(BadFileError, match=rf"{path.name}: kept view features cannot be read \(.*\); delete it") as caught:
        cache_of(Towers(), tmp_path).features(CLOUDS)
    assert "\n" not in str(caught.value)


def test_scores_of_the_cache_by_hand() -> None:
    """Cosines 1 and 0 with a shot of each class, and 0.6 with a second one of the first class."""
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    cache = CacheModel(keys, torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), 2.0, 5.0, "by hand")
    scores = cache.scores(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.3, 0.4]]))
    assert torch.allclose(scores, torch.tensor([[0.3 + 2 * (1 + math.exp(5 * (0.6 - 1))), 0.4 + 2 * math.exp(-5)]]))


def slow_losses(embeds: Tensor, labels: Tensor, logits: Tensor) -> dict[tuple[float, float], float]:
    """Score every shot by all others, in plain numbers: (alpha, beta) -> mean cross-entropy."""
    losses = {}
    for alpha in ALPHAS:
        for beta in BETAS:
            total = 0.0
            for one in range(len(embeds)):
                scores = logits[one].tolist()
                for other in range(len(embeds)):
                    if other != one:
                        scores[int(labels[other])] += alpha * math.exp(beta * (float(embeds[one] @ embeds[other]) - 1))
                total += math.log(sum(map(math.exp, scores))) - scores[int(labels[one])]
            losses[alpha, beta] = total / len(embeds)
    return losses


def test_the_cache_is_chosen_by_leaving_one_out() -> None:
    chosen = set()
    for spread, zero_shot in ((0.3, 1.0), (1.5, 1.0), (3.0, 1.0)):
        generator = torch.Generator().manual_seed(3)
        labels = torch.arange(9) % 3
        embeds = functional.normalize(torch.eye(3, 8)[labels] + spread * torch.randn(9, 8, generator=generator) / 8**0.5, dim=-1)
        logits = zero_shot * torch.randn(9, 3, generator=generator)
        cache = fit_cache(embeds, labels, logits)
        losses = slow_losses(embeds, labels, logits)
        assert losses[cache.alpha, cache.beta] == pytest.approx(min(losses.values()), abs=1e-6)
        assert cache.chosen_by == "leave one out among the shots"
        assert torch.equal(cache.keys, embeds) and cache.values.sum(dim=1).eq(1).all() and torch.equal(cache.values.argmax(dim=1), labels)
        chosen.add((cache.alpha, cache.beta))
    assert len(chosen) == 3, "data decide"


def test_one_shot_of_some_class_leaves_the_starting_values() -> None:
    cache = fit_cache(functional.normalize(CLOUDS[:5, 0], dim=-1), torch.tensor([0, 0, 1, 1, 2]), torch.zeros(5, 3))
    assert (cache.alpha, cache.beta) == (ALPHA, BETA) == (1.0, 5.5) and cache.chosen_by == "fixed: a class has one shot only"


def test_views_are_averaged_as_unit_vectors() -> None:
    views = torch.tensor([[[3.0, 0.0], [0.0, 0.5]]])
    assert torch.allclose(mean_of_views(views), torch.tensor([[0.5, 0.5]]))
    assert torch.allclose(joined_views([views, torch.tensor([[[0.0, -7.0]]])]), torch.tensor([[0.5, 0.5, 0.0, -1.0]]))


def test_gates_are_averaged_over_the_clouds_of_each_class() -> None:
    weights = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.0, 1.0]])
    found = mean_gates(weights, torch.tensor([0, 0, 2, -1]), ["depth", "clip"], ["chair", "bed", "lamp"])
    assert found["mean"] == pytest.approx({"depth": 0.45, "clip": 0.55}, abs=1e-6) and list(found["per_class"]) == ["chair", "lamp"]
    assert found["per_class"]["chair"] == pytest.approx({"depth": 0.8, "clip": 0.2}, abs=1e-6)
    assert found["per_class"]["lamp"] == pytest.approx({"depth": 0.2, "clip": 0.8}, abs=1e-6)


def gate_row(shots: int, seed: int, chair: float, bed: float, dataset: str = "a") -> dict[str, Any]:
    per_class = {name: {"depth": weight, "clip": 1 - weight} for name, weight in (("chair", chair), ("bed", bed))}
    return {"dataset": dataset, "variant": "v", "split": "test", "shots": shots, "seed": seed,
            "gate": {"mean": per_class["chair"], "per_class": per_class}}


def test_a_cell_is_as_dark_as_the_first_path_weighs() -> None:
    assert draw_gates([]) is None and draw_gates([{"shots": 1}, {"gate": None}]) is None
    picture = draw_gates([gate_row(1, 0, 1.0, 0.0), gate_row(4, 0, 0.2, 0.4), gate_row(4, 1, 0.4, 0.4), gate_row(1, 0, 0.0, 0.5, "b"), {"shots": 0}])
    assert picture is not None
    height = HEAD_PX + 2 * ROW_PX + 14
    assert picture.size == (SCALE * (LABEL_PX + 2 * CELL_PX + 10), SCALE * 2 * height)
    pixels = np.asarray(picture)
    for top, column, line, weight in ((0, 0, 0, 1.0), (0, 0, 1, 0.0), (0, 1, 0, 0.3), (0, 1, 1, 0.4), (height, 0, 0, 0.0), (height, 0, 1, 0.5)):
        corner = pixels[SCALE * (top + HEAD_PX + ROW_PX * line) + 1, SCALE * (LABEL_PX + CELL_PX * column) + 1]
        assert corner.tolist() == pytest.approx([low + weight * (high - low) for low, high in zip(LOW, HIGH, strict=True)], abs=0.51)


def result(method: str, shots: int | str, seed: int, value: float, split: str = "test") -> dict[str, Any]:
    return {"dataset": "d", "variant": "v", "split": split, "method": method, "shots": shots, "seed": seed, "class_mean": value, "top1": value / 2}


def test_differences_by_hand() -> None:
    """Student's t of two degrees of freedom is 4.3027 at 97.5 %, that of one is 12.706."""
    rows = [*(result("own", 4, seed, value) for seed, value in enumerate((0.5, 0.6, 0.7))), result("zero-shot", 0, 0, 0.8),
            *(result("probe", 4, seed, value) for seed, value in enumerate((0.4, 0.4, 0.4))),
            result("own", "all", 0, 0.9), result("own", "all", 1, 0.9), result("probe", "all", 1, 0.8), result("probe", "all", 0, 0.6),
            result("own", 1, 0, 0.3), result("probe", 1, 0, 0.2), result("probe", 2, 0, 0.2), result("probe", 4, 0, 0.0, "other")]
    found = {(item["over"], item["shots"]): item for item in differences(rows, "own")}
    assert set(found) == {("zero-shot", 4), ("zero-shot", "all"), ("probe", 4), ("probe", "all")}, "at least two draws; sets apart"
    item = found["probe", 4]
    assert (item["dataset"], item["variant"], item["split"], item["num_draws"], item["beyond_spread"]) == ("d", "v", "test", 3, True)
    assert (item["mean"], item["spread"]) == (pytest.approx(0.2), pytest.approx(0.1))
    half = 4.302653 * 0.1 / 3**0.5
    assert item["interval"] == pytest.approx([0.2 - half, 0.2 + half], abs=1e-6)
    item = found["zero-shot", 4]
    assert (item["mean"], item["spread"], item["beyond_spread"]) == (pytest.approx(-0.2), pytest.approx(0.1), True)
    item = found["probe", "all"]  # 0.3 and 0.1, seed by seed
    assert (item["mean"], item["spread"]) == (pytest.approx(0.2), pytest.approx(0.2 / 2**0.5))
    assert item["interval"] == pytest.approx([0.2 - 12.706205 * 0.1, 0.2 + 12.706205 * 0.1], abs=1e-6) and item["num_draws"] == 2
    assert found["zero-shot", "all"]["spread"] == 0 and found["zero-shot", "all"]["interval"] == pytest.approx([0.1, 0.1])
    noisy = [result("own", 4, seed, value) for seed, value in enumerate((0.5, 0.1))] + [result("probe", 4, seed, 0.25) for seed in (0, 1)]
    assert [item["beyond_spread"] for item in differences(noisy, "own")] == [False]
    assert differences(noisy, "own", "top1")[0]["mean"] == pytest.approx(0.025)


def toy(count: int = 18) -> tuple[list[Tensor], Tensor, Tensor]:
    """Clouds of three classes, told apart by both paths, and names that say nothing of the features."""
    generator = torch.Generator().manual_seed(4)
    labels = torch.arange(count) % 3
    centres = torch.randn(3, 2, 6, generator=generator)
    paths = [centres[labels, path, None] + 0.3 * torch.randn(count, views, 6, generator=generator) for path, views in ((0, 3), (1, 2))]
    return paths, labels, functional.normalize(torch.randn(3, 6, generator=generator), dim=-1)


def fit(training: AdapterTraining, settings: AdapterSettings | None = None, seed: int = 0, count: int = 18) -> nn.Module:
    paths, labels, names = toy(count)
    return fit_adapter(lambda: GatedFusion([3, 2], 6, settings), paths, labels, names, training, scale=10.0, seed=seed)


def test_fitting_is_a_function_of_its_arguments() -> None:
    torch.manual_seed(11)
    expected, training = torch.rand(1), AdapterTraining(epochs=3, batch_size=4)
    states = []
    for seed, shift in ((0, 0), (0, 5), (1, 0)):
        torch.manual_seed(11)
        for _ in range(shift):
            torch.rand(1)
        states.append(fit(training, seed=seed).state_dict())
    torch.manual_seed(11)
    fit(training)
    assert torch.equal(torch.rand(1), expected), "the global generator goes on as if nothing had been"
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


@pytest.mark.parametrize("settings", [AdapterSettings(), released_dpa()])
def test_fitting_learns_and_leaves_names_and_features_alone(settings: AdapterSettings) -> None:
    with torch.inference_mode():  # as in Lightning's test loop
        paths, labels, names = toy()
    kept = [tensor.clone() for tensor in (*paths, names)]
    losses: list[float] = []
    with torch.inference_mode():
        model = fit_adapter(lambda: GatedFusion([3, 2], 6, settings), paths, labels, names, AdapterTraining(epochs=40, batch_size=8,
                            learning_rate=1e-2), scale=10.0, seed=0, losses=losses)
        scores = functional.normalize(model(paths), dim=-1) @ names.T
        untouched = functional.normalize(sum(map(mean_of_views, paths), torch.zeros(18, 6)), dim=-1) @ names.T
    assert (scores.argmax(dim=1) == labels).all() and (untouched.argmax(dim=1) == labels).float().mean() < 0.9
    assert not model.training and not any(weight.requires_grad for weight in model.parameters())
    assert len(losses) == 40 and losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(now, then) for now, then in zip((*paths, names), kept, strict=True))


class Recorder(nn.Module):
    """A linear map of the first view, which notes the batches that it sees in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.seen = nn.Linear(6, 6, bias=False), list[Tensor]()

    def forward(self, paths: list[Tensor]) -> Tensor:
        self.seen.append(paths[0][:, 0].clone())
        embeds: Tensor = self.layer(paths[0][:, 0])
        return embeds


@pytest.mark.parametrize(("count", "sizes"), [(8, [4, 4]), (9, [4, 4]), (10, [4, 4, 2]), (2, [2])])
def test_every_cloud_is_seen_once_an_epoch_but_for_a_last_batch_of_one(count: int, sizes: list[int]) -> None:
    paths, labels, names = toy(count)
    model = fit_adapter(Recorder, paths, labels, names, AdapterTraining(epochs=3, batch_size=4), scale=1.0, seed=0)
    assert isinstance(model, Recorder) and [len(batch) for batch in model.seen] == 3 * sizes
    epochs = [torch.cat(model.seen[start:start + len(sizes)]) for start in range(0, len(model.seen), len(sizes))]
    for epoch in epochs:
        rows = {tuple(row.tolist()) for row in epoch}
        assert len(rows) == sum(sizes) and rows <= {tuple(row.tolist()) for row in paths[0][:, 0]}
    assert count == 2 or not torch.equal(epochs[0], epochs[1]), "another order"


@pytest.mark.parametrize(("training", "normalise"), [
    (AdapterTraining(epochs=3, batch_size=4, optimizer="sgd", learning_rate=0.1, weight_decay=0.01), True),
    (AdapterTraining(epochs=3, batch_size=4, optimizer="sgd", learning_rate=0.1, scale=2.0, cosine=False), False),
    (AdapterTraining(epochs=3, batch_size=4, optimizer="sgd", learning_rate=0.1, label_smoothing=0.2), True),
])
def test_fitting_is_its_recipe(training: AdapterTraining, normalise: bool) -> None:
    """SGD with momentum 0.9 step by step; the rate falls as half a cosine over all steps."""
    paths, labels, names = toy(8)
    model = fit_adapter(Recorder, paths, labels, names, training, scale=7.0, seed=3, normalise=normalise)
    assert isinstance(model, Recorder)
    torch.manual_seed(3)
    weight, velocity, clouds = nn.Linear(6, 6, bias=False).weight.detach(), torch.zeros(6, 6), paths[0][:, 0].tolist()
    for step, batch in enumerate(model.seen):
        weight = weight.clone().requires_grad_()
        embeds = batch @ weight.T
        lengths = embeds.norm(dim=1, keepdim=True) if normalise else torch.ones(len(batch), 1)
        log_shares = (7.0 if training.scale is None else training.scale) * (embeds / lengths) @ names.T
        log_shares = log_shares - log_shares.exp().sum(dim=1, keepdim=True).log()
        own = torch.stack([log_shares[row, labels[clouds.index(cloud)]] for row, cloud in enumerate(batch.tolist())])
        loss = -((1 - training.label_smoothing) * own + training.label_smoothing * log_shares.mean(dim=1)).mean()
        gradient = torch.autograd.grad(loss, weight)[0]
        weight = weight.detach()
        velocity = 0.9 * velocity + gradient + training.weight_decay * weight
        weight = weight - training.learning_rate * (0.5 * (1 + math.cos(math.pi * step / len(model.seen))) if training.cosine else 1) * velocity
    assert torch.allclose(model.layer.weight, weight, atol=1e-5)


def test_the_adapter_of_pointclip_learns_by_its_recipe() -> None:
    recipe = pointclip_training()
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.weight_decay, recipe.cosine, recipe.scale, recipe.label_smoothing,
            recipe.optimizer) == (100, 32, 0.01, 5e-4, True, None, 0.2, "sgd")
    paths, labels, names = toy(36)
    model = fit_adapter(lambda: InterViewAdapter(3, 6), paths[:1], labels, names, pointclip_training(100), scale=10.0, seed=0, normalise=False)
    with torch.no_grad():
        assert ((model(paths[:1]) @ names.T).argmax(dim=1) == labels).float().mean() > 0.9


def test_the_defaults_are_those_of_the_released_code() -> None:
    recipe = AdapterTraining()
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.weight_decay, recipe.optimizer) == (100, 32, 1e-3, 1e-4, "adamw")
    optimizer = recipe.build_optimizer([nn.Parameter(torch.zeros(2))])
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["lr"] == 1e-3 and optimizer.defaults["weight_decay"] == 1e-4


def test_a_loss_that_is_no_number_is_one_line() -> None:
    with pytest.raises(TrainingDivergedError, match=r"the adapter's loss is nan after 3 epochs; lower its learning_rate \(1e\+30\)\.") as caught:
        fit(AdapterTraining(epochs=3, batch_size=4, learning_rate=1e30, optimizer="sgd"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "message"), [
    ({"epochs": 0}, "training an adapter needs epochs of at least 1, batch_size of at least 2, .* got 0, 32, 0.001, 0.0001, 0."),
    ({"batch_size": 1}, "got 100, 1, 0.001"),
    ({"learning_rate": 0.0}, "a positive learning_rate, .* got 100, 32, 0, 0.0001"),
    ({"learning_rate": math.nan}, "got 100, 32, nan"),
    ({"weight_decay": -1.0}, "got 100, 32, 0.001, -1, 0."),
    ({"label_smoothing": 1.0}, r"label_smoothing in \[0, 1\), got 100, 32, 0.001, 0.0001, 1."),
    ({"optimizer": "lion"}, "takes the optimizer adamw or sgd and a positive scale, got 'lion' and None."),
    ({"scale": 0.0}, "got 'adamw' and 0.0."),
])
def test_recipes_that_cannot_be_followed_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        AdapterTraining(**change)
    assert "\n" not in str(caught.value)
