"""The random walk against the matrix of all pairs of cells that it replaces."""

from functools import partial

import numpy as np

from benchmarks.measure import Comparison, Pair, Target

SQUARINGS = 8  # IRN's; 256 steps
PART = 16  # of a squaring at full size, whose rows cost the same each


def transition(edge: np.ndarray, radius: int, beta: float) -> np.ndarray:
    """Matrix (cells, cells) of one step, whose columns sum to 1, pair by pair."""
    from cpal.affinity.random_walk import line, offsets

    height, width = edge.shape
    matrix = np.eye(height * width, dtype=np.float32)
    for dy, dx in offsets(radius):
        for y in range(height - dy):
            for x in range(max(0, -dx), min(width, width - dx)):
                worst = max(float(edge[y + v, x + u]) for v, u in line((dy, dx)))
                a, b = y * width + x, (y + dy) * width + x + dx
                matrix[a, b] = matrix[b, a] = (1 - worst) ** beta
    return matrix / matrix.sum(axis=0)


def whole(size: tuple[int, int], classes: int) -> Pair:
    """The walk against the matrix squared eight times, with the same maps in the end; the matrix is made before."""
    import torch
    from torch import Tensor

    from cpal.affinity.random_walk import spread

    rng = np.random.default_rng(0)
    edge, maps = (rng.random(size) ** 3).astype(np.float32), rng.random((classes, *size)).astype(np.float32)
    start, edges, matrix = torch.from_numpy(maps), torch.from_numpy(edge), transition(edge, 5, 10)

    def dense() -> Tensor:
        power = torch.from_numpy(matrix)
        for _ in range(SQUARINGS):
            power = power @ power
        return ((start * (1 - edges)).flatten(1) @ power).view_as(start)

    def agree(found: Tensor, expected: Tensor) -> str:
        difference = float((found - expected).abs().max() / expected.abs().max())
        assert difference < 1e-3, f"maps differ by {difference:.1e} of the maximum"
        return f"within {difference:.0e}"

    return Pair(lambda: spread(start, edges, radius=5, beta=10, steps=2**SQUARINGS), dense, agree)


def part_of_a_squaring(size: tuple[int, int], classes: int) -> Pair:
    """The walk against 1 / PART of the rows of one squaring: all squarings take minutes at full size."""
    import torch

    from cpal.affinity.random_walk import spread

    rng = np.random.default_rng(0)
    edge, start = torch.from_numpy(rng.random(size) ** 3).float(), torch.rand(classes, *size)
    cells = size[0] * size[1]
    matrix = torch.rand(cells, cells).div_(cells)
    rows_ = matrix[: -(-cells // PART)]
    work = partial(spread, start, edge, radius=5, beta=10, steps=2**SQUARINGS)
    return Pair(work, lambda: rows_ @ matrix, lambda found, _: "see walk-small")


def rows() -> list[Comparison]:
    what, other = "random walk of 3 maps of {} cells, 256 steps", "the dense matrix squared 8 times, float32"
    target = Target("at least", 100)
    return [
        Comparison("walk-small", what.format("32 x 42"), other, None, partial(whole, (32, 42), 3)),
        Comparison(
            *("walk", what.format("94 x 125"), f"{other}: {1}/{PART} of a squaring, times {PART * SQUARINGS}"),
            *(target, partial(part_of_a_squaring, (94, 125), 3)),
            factor=PART * SQUARINGS,
        ),
    ]
