"""Time and memory of the random walk on one image, and time of the matrix that it replaces, on a smaller image.

python -m benchmarks.random_walk
"""

import resource
import time

import torch

from cpal.affinity.random_walk import line, offsets, spread


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def dense(maps: torch.Tensor, edge: torch.Tensor, radius: int, beta: float, doublings: int) -> torch.Tensor:
    """The same walk with a matrix of all pairs of cells, squared `doublings` times."""
    height, width = edge.shape
    matrix = torch.eye(height * width, dtype=torch.double)
    for dy, dx in offsets(radius):
        for y in range(height - dy):
            for x in range(max(0, -dx), min(width, width - dx)):
                worst = max(float(edge[y + v, x + u]) for v, u in line((dy, dx)))
                a, b = y * width + x, (y + dy) * width + x + dx
                matrix[a, b] = matrix[b, a] = (1 - worst) ** beta
    matrix /= matrix.sum(dim=0, keepdim=True)
    for _ in range(doublings):
        matrix = matrix @ matrix
    return ((maps * (1 - edge)).flatten(1).double() @ matrix).view_as(maps)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    edge = torch.rand(94, 125) ** 3
    spread(torch.rand(1, 8, 8), torch.rand(8, 8), radius=5, beta=10, steps=2)
    for count in (1, 3):
        before = peak_mb()
        started = time.perf_counter()
        spread(torch.rand(count, 94, 125), edge, radius=5, beta=10, steps=256)
        print(f"{count} map(s) of 94x125: {time.perf_counter() - started:.2f} s, {peak_mb() - before:.0f} MB more")
    small, maps = edge[:32, :42], torch.rand(1, 32, 42)
    times = []
    for walk in (
        lambda: spread(maps, small, radius=5, beta=10, steps=256),
        lambda: dense(maps, small, radius=5, beta=10, doublings=8),
    ):
        started = time.perf_counter()
        result = walk()
        times.append((time.perf_counter() - started, result))
    (ours, found), (matrix, expected) = times
    difference = (found / expected - 1).abs().max()
    print(f"32x42: {ours:.3f} s, as a matrix {matrix:.2f} s; largest relative difference {difference:.1e}")


if __name__ == "__main__":
    main()
