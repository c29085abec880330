"""How the cost of the method's parts grows with images, classes, the image's long side and the bank's length."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.crf import VALUES, seeds
from benchmarks.inputs import LITE0, classifier, image_labels, image_pyramid, smooth_maps
from benchmarks.measure import Growth

SHAPE = (3, 4)  # height and width of an image, as parts


def size_of(long_side: int) -> tuple[int, int]:
    return long_side * SHAPE[0] // SHAPE[1], long_side


def prototypes_of_images(images: int) -> Callable[[], Any]:
    """One pass of fit_prototypes over images whose network is free: it gives the same maps each time."""
    import torch
    from torch import Tensor, nn

    from cpal.data.dataset import Record
    from cpal.data.views import Views
    from cpal.hosts import HostOutput
    from cpal.method.fit_prototypes import fit_prototypes

    class Free(nn.Module):
        channels = [8, 8, 112, 320]

        def __init__(self) -> None:
            super().__init__()
            self.anchor = nn.Parameter(torch.zeros(1))
            self.maps = [torch.randn(1, channels, 15, 20) for channels in self.channels]

        def forward(self, image: Tensor, label: Tensor) -> HostOutput:
            return HostOutput(self.maps, torch.randn(1, label.shape[1], 15, 20), torch.zeros(1, label.shape[1]))

    trained = classifier("free", 20, host=Free(), bank_length=100)
    record = Record("a", "train", True, "", 500, 375, (2, 3), None, "")
    views = Views(record, record.size, [torch.zeros(1, 3, 15, 20, dtype=torch.uint8)])
    return lambda: fit_prototypes(trained, [views] * images)


def scoring_of_images(images: int) -> Callable[[], Any]:
    from cpal.evaluation.scoring import sweep_counts

    maps, grid = smooth_maps(2, (375, 500)), np.arange(0.01, 1, 0.01)
    truth = np.random.default_rng(0).integers(0, 21, (375, 500)).astype(np.uint8)
    return lambda: sum(sweep_counts(truth, maps, np.array([2, 3]), grid, 21) for _ in range(images))


def maps_of_classes(classes: int, long_side: int = 224) -> Callable[[], Any]:
    from cpal.method.make_cams import localize

    trained, views = classifier(LITE0, classes), image_pyramid(long_side, (1.0,))
    return lambda: localize(trained, image_labels(2, classes)[1:], size_of(long_side), views)


def kmeans(classes: int = 21, length: int = 200) -> Callable[[], Any]:
    import torch

    from cpal.method.prototypes import context_prototypes

    bank = torch.randn(classes, length, 432)
    filled, seed = torch.ones(classes, length, dtype=torch.bool), torch.Generator()
    return lambda: context_prototypes(bank, filled, num_prototypes=50, iterations=10, generator=seed.manual_seed(0))


def crf_of_side(long_side: int) -> Callable[[], Any]:
    from cpal.maps.crf import refine
    from cpal.settings.config import CrfConfig

    image, scores, classes = seeds(2, size_of(min(long_side, 448)))[1]
    times = -(-long_side // 448)  # the photographs are smaller than the largest size: laid side by side
    image, scores = np.tile(image, (times, times, 1)), np.tile(scores, (1, times, times))
    settings = CrfConfig(**VALUES)
    return lambda: refine(image, scores, classes, settings)


def walk_of_side(long_side: int) -> Callable[[], Any]:
    import torch

    from cpal.affinity.random_walk import spread
    from cpal.maps.cams import map_size

    size = map_size(size_of(long_side))
    maps, edge = torch.rand(3, *size), torch.rand(size) ** 3
    return lambda: spread(maps, edge, radius=5, beta=10, steps=256)


def rows() -> list[Growth]:
    images, classes, sides, bank = (100, 400, 1600), (6, 20, 80), (224, 448, 896), (100, 1000)
    passes = "fit_prototypes, one pass, without the network"
    return [
        Growth("growth-prototypes", passes, "images", images, prototypes_of_images),
        Growth("growth-scoring", "scoring at 99 thresholds, 375 x 500", "images", images, scoring_of_images),
        Growth("growth-maps", "CAM, PACAM, taught CAM, Lite0 at 224, one scale", "classes", classes, maps_of_classes),
        Growth("growth-kmeans", "k-means of a bank of 200 a class, 432 channels", "classes", classes, kmeans),
        Growth("growth-maps-side", "the same maps, 20 classes", "long side", sides, partial(maps_of_classes, 20)),
        Growth("growth-crf", "CRF of one image, two classes", "long side", sides, crf_of_side),
        Growth("growth-walk", "random walk of 3 maps, a quarter of this side", "long side", sides, walk_of_side),
        Growth("growth-bank", "k-means of 21 classes, 432 channels", "bank length", bank, partial(kmeans, 21)),
    ]
