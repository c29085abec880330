"""mIoU at many thresholds in one pass over the maps, against a pass for each threshold."""

from functools import partial

import numpy as np

from benchmarks.inputs import VOC_SIZE, smooth_maps
from benchmarks.measure import Comparison, Pair, Target

IMAGES = 12


def thresholds(images: int, size: tuple[int, int], count: int, classes: int) -> Pair:
    """mIoU at this many thresholds from stored maps (quarter size); every pass resizes the maps, as it reads them."""
    from cpal.evaluation.metrics import confusion_matrix, mean_iou
    from cpal.evaluation.scoring import sweep_counts, sweep_curve
    from cpal.maps.cams import map_size, resize_maps

    rng, small = np.random.default_rng(0), map_size(size)
    grid = np.linspace(0, 1, count + 2)[1:-1]
    data = []
    for number in range(images):
        shown = np.sort(rng.choice(np.arange(1, classes), 1 + number % 2, replace=False))
        truth = rng.choice(np.append(shown, [0, 255]), size).astype(np.uint8)
        data.append((truth, smooth_maps(len(shown), small, seed=number), shown))

    def once() -> list[float]:
        total = sum(sweep_counts(truth, resize_maps(maps, size), shown, grid, classes) for truth, maps, shown in data)
        assert isinstance(total, np.ndarray)
        return sweep_curve(total)

    def passes() -> list[float]:
        curve = []
        for threshold in grid:
            confusion = np.zeros((classes, classes + 1), np.int64)
            for truth, maps, shown in data:
                scores = np.concatenate([np.full((1, *size), threshold, np.float64), resize_maps(maps, size)])
                predicted = np.append(0, shown).astype(np.uint8)[scores.argmax(axis=0)]
                confusion += confusion_matrix(truth, predicted, classes)
            curve.append(mean_iou(confusion))
        return curve

    def agree(found: list[float], expected: list[float]) -> str:
        assert found == expected, "the curves differ"
        return "identical"

    return Pair(once, passes, agree)


def rows() -> list[Comparison]:
    work = f"mIoU at 60 thresholds, {IMAGES} images of 375 x 500, 21 classes (both sides are linear in images)"
    make = partial(thresholds, IMAGES, VOC_SIZE, 60, 21)
    return [Comparison("thresholds", work, "a pass for each threshold", Target("at least", 20), make)]
