"""What can be said of results without any ground truth: coverage, labels that are found, steps that agree.

None of it is a mIoU: a result can cover much, find every label and agree with itself, and be wrong. It tells a run that
went astray from one that did not.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from joblib import delayed

from cpal.data.dataset import Record
from cpal.data.masks import BACKGROUND, VOID
from cpal.parallel import processes

Read = Callable[[Record], np.ndarray]
SHOWN = 0.01  # share of an image's pixels from which a class counts as predicted for the image


def describe_masks(
    records: Sequence[Record], read: Read, *, num_foreground: int, workers: int, other: Read | None = None
) -> dict[str, Any]:
    """Figures of label maps, in percent; `read` and `other` give a record's map uint8 (H, W).

    images: how many. coverage: pixels that show a class. void: pixels left out. labels_found: image-level labels with
    at least one pixel. label_f1: F1 of the classes that cover at least a hundredth of an image against its labels, over
    all pairs of image and class. agreement: equal pixels among those that are not void in `other`. A figure for which
    there is nothing to count is None.
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
    """Mean over images of the CRF's probability of its labels, in percent; `read` gives uint8 (H, W), 255 is sure."""
    means = list(processes(workers)(delayed(lambda r: float(read(r).mean() / 255))(r) for r in records))
    return round(100 * float(np.mean(means)), 3) if means else None


def _percent(part: int, whole: int) -> float | None:
    return round(100 * float(part) / float(whole), 3) if whole else None
