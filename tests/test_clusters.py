"""Density clustering: by hand, against a slow twin, whatever the order of the points."""

from __future__ import annotations

import numpy as np
import pytest

from clip2x.proxies.clusters import density_clusters, neighbours, thinned_clusters


def slow_clusters(points: np.ndarray, radius: np.ndarray, least: int, weight: np.ndarray) -> list[set[int]]:
    """The definition, word by word; clusters as sets of points."""
    count = len(points)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    near = [[other for other in range(count) if apart[own, other] <= min(radius[own], radius[other])] for own in range(count)]
    core = [sum(weight[other] for other in near[own]) >= least for own in range(count)]
    group = [-1] * count
    for start in range(count):
        if core[start] and group[start] < 0:
            stack = [start]
            while stack:
                own = stack.pop()
                if group[own] < 0:
                    group[own] = start
                    stack += [other for other in near[own] if core[other]]
    for own in range(count):
        cores = [other for other in near[own] if core[other]]
        if not core[own] and cores:
            group[own] = group[min(cores, key=lambda other: apart[own, other])]
    return sorted(({own for own in range(count) if group[own] == name} for name in set(group) - {-1}), key=min)


def as_sets(labels: np.ndarray) -> list[set[int]]:
    return sorted((set(np.flatnonzero(labels == name).tolist()) for name in set(labels.tolist()) - {-1}), key=min)


def test_a_chain_by_hand() -> None:
    # 0, 1, 2 lie 1 apart: the middle one has three within 1, the ends two. 3 lies 1.25 from 2, 4 alone.
    points = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3.25, 0, 0], [9, 0, 0]])
    radius = np.ones(5)
    assert density_clusters(points, radius, 3).tolist() == [0, 0, 0, -1, -1]
    assert density_clusters(points, radius, 4).tolist() == [-1] * 5
    assert density_clusters(points, radius, 1).tolist() == [0, 0, 0, 1, 2]
    assert density_clusters(points, 1.25 * radius, 3).tolist() == [0, 0, 0, 0, -1]


def test_the_smaller_radius_decides() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0]])
    assert density_clusters(points, np.array([0.9, 5.0]), 2).tolist() == [-1, -1]
    assert density_clusters(points, np.array([1.0, 5.0]), 2).tolist() == [0, 0]


def test_a_point_counts_as_often_as_it_weighs() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0]])
    assert density_clusters(points, np.ones(2), 5, np.array([1, 3])).tolist() == [-1, -1]
    assert density_clusters(points, np.ones(2), 5, np.array([1, 4])).tolist() == [0, 0]


@pytest.mark.parametrize("least", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_slow_twin(seed: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    points, radius = rng.uniform(0, 4, (150, 3)), rng.uniform(0.2, 0.9, 150)
    weight = rng.integers(1, 3, 150)
    expected = slow_clusters(points, radius, least, weight)
    assert len(expected) > 3
    assert as_sets(density_clusters(points, radius, least, weight)) == expected


def test_pairs_are_all_pairs() -> None:
    rng = np.random.default_rng(0)
    points, radius = rng.uniform(0, 3, (120, 3)), rng.uniform(0.05, 1.5, 120)
    pairs, distance = neighbours(points, radius)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    first, second = np.nonzero(np.triu(apart <= np.minimum(radius[:, None], radius[None]), 1))
    assert sorted(map(tuple, pairs.tolist())) == sorted(zip(first.tolist(), second.tolist(), strict=True))
    np.testing.assert_allclose(distance, apart[tuple(pairs.T)], rtol=1e-12)


def test_the_order_of_the_points_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    points, radius = rng.uniform(0, 4, (400, 3)), rng.uniform(0.2, 0.6, 400)
    order = rng.permutation(400)
    for cluster in (density_clusters, thinned_clusters):
        labels, moved = cluster(points, radius, 3), cluster(points[order], radius[order], 3)
        expected = [{int(order[place]) for place in group} for group in as_sets(moved)]
        assert sorted(expected, key=min) == as_sets(labels)


def test_thinning_keeps_clusters_and_bounds_the_pairs() -> None:
    rng = np.random.default_rng(2)
    blobs = np.concatenate([rng.normal(centre, 0.15, (3000, 3)) for centre in ((0, 5, 0), (3, 5, 0), (0, 12, 1))])
    radius = np.maximum(0.2, 0.05 * np.linalg.norm(blobs, axis=1))
    labels = thinned_clusters(blobs, radius, 3)
    assert [len(set(labels[start : start + 3000].tolist()) - {-1}) for start in (0, 3000, 6000)] == [1, 1, 1]
    assert len(set(labels.tolist()) - {-1}) == 3
    assert (labels >= 0).mean() > 0.99


@pytest.mark.parametrize("cluster", [density_clusters, thinned_clusters])
def test_no_points(cluster: object) -> None:
    assert cluster(np.zeros((0, 3)), np.zeros(0), 3).shape == (0,)  # type: ignore[operator]
