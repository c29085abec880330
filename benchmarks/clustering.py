"""k-means of the support bank, all classes at once, against scikit-learn class by class."""

from functools import partial

from benchmarks.measure import Comparison, Pair, Target


def kmeans(classes: int, length: int, channels: int, groups: int, rounds: int) -> Pair:
    """Both run this many rounds from k-means++ seeds on the same unit vectors; both give centers (K, P, D).

    Inertia is the mean squared distance of an entry to the nearest center.
    """
    import numpy as np
    import torch
    from sklearn.cluster import KMeans
    from torch import Tensor

    from cpal.method.prototypes import context_prototypes

    generator = torch.Generator().manual_seed(0)
    # Instances as CAMs give them: groups that overlap, so that k-means does not end before its last round.
    middle = torch.randn(classes, 2 * groups, channels, generator=generator)
    member = torch.randint(0, 2 * groups, (classes, length), generator=generator)
    bank = middle.gather(1, member[..., None].expand(-1, -1, channels))
    bank = bank + 3 * torch.randn(bank.shape, generator=generator)
    bank = torch.nn.functional.normalize(bank, dim=-1)
    filled = torch.ones(classes, length, dtype=torch.bool)

    def ours() -> Tensor:
        seeds = torch.Generator().manual_seed(0)
        return context_prototypes(bank, filled, num_prototypes=groups, iterations=rounds, generator=seeds)[0]

    def each() -> Tensor:
        found = []
        for entries in bank.numpy():
            model = KMeans(groups, init="k-means++", n_init=1, max_iter=rounds, tol=0, random_state=0)
            found.append(model.fit(entries).cluster_centers_)
        return torch.from_numpy(np.stack(found))

    def agree(found: Tensor, expected: Tensor) -> str:
        ours_, theirs = (
            float(torch.cdist(bank, centers).amin(dim=-1).square().mean()) for centers in (found, expected)
        )
        assert ours_ <= 1.02 * theirs, f"inertia {ours_:.4f}, scikit-learn {theirs:.4f}"
        return f"inertia {100 * (ours_ / theirs - 1):+.2f} %"

    return Pair(ours, each, agree)


def rows() -> list[Comparison]:
    return [
        Comparison(
            f"kmeans-{channels}",
            f"k-means of the bank, 21 x 1000 x {channels}, 50 clusters, at most 10 rounds",
            "scikit-learn, class by class",
            Target("at least", 3),
            partial(kmeans, 21, 1000, channels, 50, 10),
        )
        for channels in (432, 3072)
    ]
