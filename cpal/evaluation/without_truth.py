"""What can be said of results without any ground truth: coverage, labels that are found, steps that agree.

None of it is a mIoU: a result can cover much, find every label and agree with itself, and be wrong. It tells a run that
went astray from one that did not.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import BACKGROUND, VOID

Read = Callable[[Record], np.ndarray]
SHOWN = 0.01  # share of an image's pixels from which a class counts as predicted for the image


def describe_step(
    what: str, dataset: Dataset, readers: Mapping[str, Read], *, workers: int, limit: int | None = None
) -> dict[str, Any]:
    """Figures of all maps of one step, seed | crf | pseudo_mask | segmentation, and its agreement with the step before.

    `readers` give a record's map by step, and its `confidence`. The segmentation is looked at on validation images, and
    compared with the pseudo-masks on training images.
    """

    def describe(records: list[Record], other: str | None) -> dict[str, Any]:
        reference = None if other is None else readers[other]
        return describe_masks(
            records, readers[what], other=reference, num_foreground=dataset.num_foreground, workers=workers
        )

    train = dataset.split("train", limit)
    if what == "segmentation":
        agreement = describe(dataset.predicted(limit), "pseudo_mask")["agreement"]
        return describe(dataset.split("val", limit), None) | {"agreement": agreement}
    figures = describe(train, {"crf": "seed", "pseudo_mask": "crf"}.get(what))
    if what == "crf":
        figures["confidence"] = mean_confidence(train, readers["confidence"], workers=workers)
    return figures


def describe_masks(
    records: Sequence[Record], read: Read, *, num_foreground: int, workers: int, other: Read | None = None
) -> dict[str, Any]:
    """Figures of label maps, in percent; `read` and `other` give a record's map uint8 (H, W).

    images: how many. coverage: pixels that show a class. void: pixels left out. labels_found: image-level labels with
    at least one pixel. label_f1: F1 of the classes that cover at least a hundredth of an image against its labels, over
    all pairs of image and class. agreement: equal pixels among those that are not void in `other`. A figure for which
    there is nothing to count is None.
    """

    def count(record: Record) -> np.ndarray:
        found = read(record)
        pixels = np.bincount(found.ravel(), minlength=256)
        labels = np.zeros(num_foreground + 1, bool)
        labels[list(record.labels)] = True
        seen, shown = pixels[: num_foreground + 1] > 0, pixels[: num_foreground + 1] >= SHOWN * found.size
        seen[BACKGROUND] = shown[BACKGROUND] = False
        agreement = (0, 0)
        if other is not None:
            reference = other(record)
            agreement = ((found == reference)[reference != VOID].sum(), (reference != VOID).sum())
        foreground = found.size - pixels[BACKGROUND] - pixels[VOID]
        return np.array(
            [
                *(foreground, pixels[VOID], found.size),
                *((seen & labels).sum(), labels.sum()),
                *(2 * (shown & labels).sum(), shown.sum() + labels.sum()),
                *agreement,
            ],
            np.int64,
        )

    parts = Parallel(n_jobs=max(1, workers))(delayed(count)(record) for record in records)
    foreground, void, pixels, seen, labels, hits, guesses, equal, compared = np.sum(parts or [np.zeros(9, int)], axis=0)
    figures = {
        "images": len(records),
        "coverage": _percent(foreground, pixels),
        "void": _percent(void, pixels),
        "labels_found": _percent(seen, labels),
        "label_f1": _percent(hits, guesses),
    }
    return figures | ({"agreement": _percent(equal, compared)} if other is not None else {})


def mean_confidence(records: Sequence[Record], read: Read, *, workers: int) -> float | None:
    """Mean over images of the CRF's probability of its labels, in percent; `read` gives uint8 (H, W), 255 is sure."""
    means = Parallel(n_jobs=max(1, workers))(delayed(lambda r: float(read(r).mean() / 255))(r) for r in records)
    return round(100 * float(np.mean(means)), 3) if means else None


def _percent(part: int, whole: int) -> float | None:
    return round(100 * float(part) / float(whole), 3) if whole else None
