"""Figures of results that need no ground truth: coverage, labels that are found, agreement of two steps.

No figure replaces mIoU: a result can cover many pixels, find every label, agree with another step, and still be wrong.
The figures show whether a run has failed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from joblib import delayed

from cpal.data.dataset import Record
from cpal.data.masks import BACKGROUND, VOID
from cpal.running.parallel import processes

Read = Callable[[Record], np.ndarray]
SHOWN = 0.01  # share of an image's pixels from which a class counts as predicted for the image


def describe_masks(
    records: Sequence[Record], read: Read, *, num_foreground: int, workers: int, other: Read | None = None
) -> dict[str, Any]:
    """Figures of label maps, in percent; `read` and `other` return the label map uint8 (H, W) of a record.

    images: number of images.
    coverage: pixels with a class.
    void: pixels with the label void.
    labels_found: image-level labels whose class has at least one pixel.
    label_f1: F1 of predicted classes against image-level labels, over all pairs of image and class. A class is
    predicted for an image if it covers at least 1 percent of it.
    agreement: pixels with the same label in both maps, of the pixels that are not void in `other`.
    A figure is None if there is nothing to count.
    """

    def count(record: Record) -> dict[str, int]:
        found = read(record)
        pixels = np.bincount(found.ravel(), minlength=256)
        labels = np.zeros(num_foreground + 1, bool)
        labels[list(record.labels)] = True
        seen, shown = pixels[: num_foreground + 1] > 0, pixels[: num_foreground + 1] >= SHOWN * found.size
        seen[BACKGROUND] = shown[BACKGROUND] = False
        counts = {
            "pixels": found.size,
            "void": pixels[VOID],
            "foreground": found.size - pixels[BACKGROUND] - pixels[VOID],
            "labels": labels.sum(),
            "labels_seen": (seen & labels).sum(),
            "labels_shown": (shown & labels).sum(),
            "shown": shown.sum(),
        }
        if other is not None:
            reference = other(record)
            counts |= {"compared": (reference != VOID).sum(), "equal": ((found == reference)[reference != VOID]).sum()}
        return {name: int(value) for name, value in counts.items()}

    total: Counter[str] = Counter()
    for counts in processes(workers)(delayed(count)(record) for record in records):
        total.update(counts)
    figures = {
        "images": len(records),
        "coverage": _percent(total["foreground"], total["pixels"]),
        "void": _percent(total["void"], total["pixels"]),
        "labels_found": _percent(total["labels_seen"], total["labels"]),
        "label_f1": _percent(2 * total["labels_shown"], total["shown"] + total["labels"]),
    }
    return figures | ({"agreement": _percent(total["equal"], total["compared"])} if other is not None else {})


def mean_confidence(records: Sequence[Record], read: Read, *, workers: int) -> float | None:
    """Mean over images of the CRF's probability of its labels, in percent; `read` gives uint8 (H, W), 255 = 100 %."""
    means = list(processes(workers)(delayed(lambda r: float(read(r).mean() / 255))(r) for r in records))
    return round(100 * float(np.mean(means)), 3) if means else None


def _percent(part: int, whole: int) -> float | None:
    return round(100 * float(part) / float(whole), 3) if whole else None
