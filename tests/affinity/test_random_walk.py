"""The walk against a dense matrix built cell by cell, and its paths against geometry."""

import math

import numpy as np
import pytest
import torch

from cpal.affinity.random_walk import line, offsets, pair_affinity, spread


def dense(maps: np.ndarray, edge: np.ndarray, radius: int, beta: float, doublings: int) -> np.ndarray:
    """The walk as IRN describes it: all pairs of cells, affinity by the worst cell near the line, a matrix squared."""
    height, width = edge.shape
    cells = [(y, x) for y in range(height) for x in range(width)]
    matrix = np.zeros((len(cells), len(cells)))
    for i, a in enumerate(cells):
        for j, b in enumerate(cells):
            length = math.hypot(b[0] - a[0], b[1] - a[1])
            if i == j:
                matrix[i, j] = 1
            elif length < radius:
                worst = 0.0
                for y in range(min(a[0], b[0]), max(a[0], b[0]) + 1):
                    for x in range(min(a[1], b[1]), max(a[1], b[1]) + 1):
                        distance = abs((b[0] - a[0]) * (x - a[1]) - (b[1] - a[1]) * (y - a[0])) / length
                        if distance < 1 - 1e-9:
                            worst = max(worst, edge[y, x])
                matrix[i, j] = (1 - worst) ** beta
    matrix /= matrix.sum(axis=0, keepdims=True)
    for _ in range(doublings):
        matrix = matrix @ matrix
    return (maps * (1 - edge)).reshape(len(maps), -1).dot(matrix).reshape(maps.shape)


@pytest.mark.parametrize(("size", "radius"), [((9, 12), 5), ((14, 7), 5), ((3, 4), 5), ((8, 8), 3), ((1, 6), 4)])
def test_walk_against_the_dense_matrix(size: tuple[int, int], radius: int) -> None:
    rng = np.random.default_rng(sum(size))
    edge = (rng.random(size) ** 3).astype(np.float32)
    maps = rng.random((2, *size)).astype(np.float32)
    expected = dense(maps.astype(float), edge.astype(float), radius, beta=10, doublings=8)
    found = spread(torch.from_numpy(maps), torch.from_numpy(edge), radius=radius, beta=10, steps=256).numpy()
    assert np.abs(found / expected - 1).max() < 1e-4
    assert np.array_equal(found.argmax(axis=0), expected.argmax(axis=0))


def test_a_wall_stops_the_walk() -> None:
    edge = torch.zeros(9, 11)
    edge[:, 5] = 1
    maps = torch.zeros(1, 9, 11)
    maps[0, 4, 2] = 1
    walked = spread(maps, edge, radius=5, beta=10, steps=256)[0]
    assert (walked[:, 5:] == 0).all()
    inside = walked[:, :5]
    assert inside.min() > 0.9 * inside.max(), "it is even where nothing stands in its way"


def test_no_edges_keep_a_constant() -> None:
    walked = spread(torch.full((3, 6, 5), 0.7), torch.zeros(6, 5), radius=4, beta=2.0, steps=17)
    torch.testing.assert_close(walked, torch.full((3, 6, 5), 0.7))


def test_paths_of_irn() -> None:
    assert len(offsets(5)) == 34 and len(offsets(10)) == 152
    assert set(offsets(2)) == {(0, 1), (1, -1), (1, 0), (1, 1)}
    assert line((0, 3)) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert line((2, -2)) == [(0, -1), (0, 0), (1, -2), (1, -1), (1, 0), (2, -2), (2, -1)]


def test_pair_affinity_covers_the_cells_whose_offsets_all_exist() -> None:
    edge = torch.zeros(8, 9)
    edge[2, 4] = 0.75
    affinity = pair_affinity(edge, (0, 2), reach=2)
    assert affinity.shape == (6, 5)
    expected = torch.ones(6, 5)
    expected[2, [0, 1, 2]] = 0.25  # from the columns 2, 3 and 4: the third is the edge itself
    assert torch.equal(affinity, expected)
