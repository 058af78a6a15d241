"""Depth views through an image tower, and their pooling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clip2x.depth import DepthViews
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth import DepthViewEncoder, SampledViewEncoder, pool_view_features
from clip2x.errors import InputError
from clip2x.projections import PointClipV2Views, PointClipViews


class Spots(nn.Module):
    """A view renderer: each cloud's first coordinate as one grey picture."""

    num_views = 1

    def __init__(self, image_size: int, normalise_colours: bool) -> None:
        super().__init__()
        self.image_size, self.normalise_colours = image_size, normalise_colours

    def forward(self, points: Tensor) -> Tensor:
        return points[:, :1, :1, None].expand(-1, 1, self.image_size, self.image_size)


class Averages(nn.Module):
    """The mean of each colour and the number of pictures that came at once."""

    image_size, embed_dim = 16, 3

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def encode_image(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return images.mean(dim=(2, 3))


class RawAverages(Averages):
    """The same for pictures whose colours must not be normalised."""

    def encode_image(self, images: Tensor, normalise: bool = True) -> Tensor:
        assert not normalise
        return super().encode_image(images)


def clouds(number: int) -> Tensor:
    points = torch.randn(number, 64, 3, generator=torch.Generator().manual_seed(0))
    return points / points.norm(dim=-1).amax(dim=1)[:, None, None]


def test_views_stay_with_their_cloud_whatever_the_chunk() -> None:
    points = clouds(3)
    expected = DepthViews("clip2point-10", 16, 0.1)(points).mean(dim=(2, 3))[..., None].expand(-1, -1, 3)
    for chunk, batches in ((7, [7, 7, 7, 7, 2]), (64, [30]), (None, [30])):
        tower = Averages()
        features = DepthViewEncoder(tower, point_radius=0.1, chunk=chunk)(points)
        assert features.shape == (3, 10, 3) and tower.batches == batches
        assert torch.allclose(features, expected, atol=1e-6)


def test_gradients_reach_a_trainable_tower_only() -> None:
    towers = ClipTowers("clip2x-small", random_weights=True)
    frozen, trained = DepthViewEncoder(towers), DepthViewEncoder(towers.trainable_image_tower(), chunk=4)
    assert not frozen(clouds(1)).requires_grad
    features = trained(clouds(1))
    features.sum().backward()
    assert features.shape == (1, frozen.num_views, towers.embed_dim)
    assert all(parameter.grad is not None for parameter in trained.parameters())


@pytest.mark.parametrize("trainable", [False, True])
def test_another_renderer_says_whether_its_colours_are_normalised(trainable: bool) -> None:
    towers, points = ClipTowers("clip2x-small", random_weights=True), clouds(2)
    tower = towers.trainable_image_tower().eval() if trainable else towers
    grey = points[:, :1, :1, None].expand(-1, 3, 64, 64)
    for normalise in (True, False):
        encoder = DepthViewEncoder(tower, draw=Spots(64, normalise))
        expected = towers.image_tower.visual(towers.normalise(grey) if normalise else grey)
        assert encoder.num_views == 1 and torch.allclose(encoder(points)[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("draw", [PointClipViews(16), PointClipViews(16, views="few_shot"), PointClipV2Views(16)])
def test_projections_reach_the_tower_as_they_are(draw: nn.Module) -> None:
    features = DepthViewEncoder(RawAverages(), draw=draw)(clouds(2))
    assert torch.allclose(features[..., 0], draw(clouds(2)).mean(dim=(2, 3)), atol=1e-6)


def test_depth_views_are_colour_normalised_as_before() -> None:
    assert DepthViews().normalise_colours
    towers, points = ClipTowers("clip2x-small", random_weights=True), clouds(1)
    grey = DepthViews(image_size=64)(points)[0, :, None].expand(-1, 3, -1, -1)
    assert torch.allclose(DepthViewEncoder(towers)(points)[0], towers.image_tower.visual(towers.normalise(grey)), atol=1e-6)


def test_pooling_by_hand() -> None:
    features = torch.tensor([[[3.0, 0.0], [0.0, 1.0]]])
    assert pool_view_features(features, "cosine_sum")[0].tolist() == pytest.approx([0.5**0.5, 0.5**0.5])
    assert pool_view_features(features, "feature_mean")[0].tolist() == pytest.approx([3 / 10**0.5, 1 / 10**0.5])


def test_cosine_sum_ranks_as_the_sum_of_the_views_cosines() -> None:
    generator = torch.Generator().manual_seed(0)
    features, names = torch.randn(5, 10, 8, generator=generator), nn.functional.normalize(torch.randn(6, 8, generator=generator), dim=-1)
    summed = (nn.functional.normalize(features, dim=-1) @ names.T).sum(dim=1)
    pooled = pool_view_features(features, "cosine_sum") @ names.T
    assert torch.equal(summed.argsort(dim=1), pooled.argsort(dim=1))
    ratio = summed / pooled
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-4)


def test_refusals() -> None:
    with pytest.raises(InputError, match="pooled by one of cosine_sum, feature_mean, got 'max'"):
        pool_view_features(torch.zeros(1, 2, 3), "max")
    with pytest.raises(InputError, match="no views to pool"):
        pool_view_features(torch.zeros(1, 0, 3))
    with pytest.raises(InputError, match="chunk must be at least 1"):
        DepthViewEncoder(Averages(), chunk=0)
    with pytest.raises(InputError, match="PointClipViews draws 224 pixels, this tower takes 16; build it with image_size=16"):
        DepthViewEncoder(Averages(), draw=PointClipViews())


class Flattened(nn.Module):
    """A picture's features are its own pixels."""

    image_size, embed_dim = 16, 256

    def encode_image(self, images: Tensor) -> Tensor:
        return images[:, 0].flatten(1)


def test_training_samples_views_of_every_cloud_and_evaluation_takes_all() -> None:
    """With a fixed distance each sampled picture is one of the preset's at that distance; different views of a cloud, other views of other clouds."""
    points, encoder = clouds(40), SampledViewEncoder(DepthViewEncoder(Flattened(), "clip2point-10", 0.1), num_sampled=2, distance_range=(1.0, 1.0))
    assert encoder.embed_dim == 256
    draw = encoder.encoder.draw
    ones = torch.ones(len(points), 1)
    single = nn.functional.normalize(torch.stack([draw.of_one_view(points, torch.full((len(points),), view), ones)[:, 0].flatten(1)
                                                  for view in range(10)], dim=1), dim=-1)
    pairs = {(one, other): nn.functional.normalize(single[:, one] + single[:, other], dim=-1) for one in range(10) for other in range(one)}
    torch.manual_seed(4)
    embeds = encoder.train()(points)
    drawn = []
    for cloud, embed in enumerate(embeds):
        fitting = [pair for pair, expected in pairs.items() if torch.allclose(embed, expected[cloud], atol=1e-5)]
        assert len(fitting) == 1
        drawn.append(fitting[0])
    assert len(set(drawn)) > 15 and {view for pair in drawn for view in pair} == set(range(10))
    torch.manual_seed(4)
    assert torch.equal(encoder(points), embeds) and not torch.equal(encoder(points), embeds)
    cameras = encoder.draw_cameras(len(points), torch.Generator().manual_seed(4))
    halves = [encoder(points[rows], tuple(values[rows] for values in cameras)) for rows in (slice(0, 15), slice(15, 40))]
    torch.testing.assert_close(torch.cat(halves), embeds)
    encoder.eval()
    assert torch.equal(encoder(points), pool_view_features(encoder.encoder(points))) and torch.equal(encoder(points), encoder(points))


def test_sampled_distances_lie_in_their_range() -> None:
    """Seen from nearer or farther than one of the ends no picture is drawn."""
    points, distances = clouds(30), []
    encoder = SampledViewEncoder(DepthViewEncoder(Flattened(), "clip2point-6", 0.1), num_sampled=3, distance_range=(1.5, 2.0)).train()
    of_one_view = encoder.encoder.draw.of_one_view
    encoder.encoder.draw.of_one_view = lambda points, view, distance: (distances.append(distance), of_one_view(points, view, distance))[1]
    encoder(points)
    drawn = torch.cat(distances)
    assert drawn.shape == (90, 1) and drawn.min() >= 1.5 and drawn.max() <= 2.0 and drawn.std() == pytest.approx(0.5 / 12**0.5, rel=0.2)


@pytest.mark.parametrize(("arguments", "got"), [
    ({"num_sampled": 0}, r"got 0 and \(0.9, 1.1\)"), ({"num_sampled": 7}, "got 7 and"), ({"distance_range": (1.1, 0.9)}, r"got 2 and \(1.1, 0.9\)"),
    ({"distance_range": (0.0, 1.0)}, "got 2 and"),
])
def test_impossible_samples_are_refused(arguments: dict[str, Any], got: str) -> None:
    with pytest.raises(InputError, match=f"num_sampled must lie between 1 and the 6 views and distance_range be two rising positive numbers, {got}"):
        SampledViewEncoder(DepthViewEncoder(Flattened(), "clip2point-6", 0.1), **arguments)
