"""Confusion matrix -> IoU. All mIoU are computed here, in percent; void ground truth is left out."""

from typing import Any

import numpy as np

from cpal.data.masks import VOID


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixel counts int64 (K, K + 1): row = true class, column = predicted class, last column = predicted void.

    truth and predicted are label maps of the same shape. Pixels with void ground truth do not count. A void prediction
    counts as a miss of the true class, so that void pixels never raise the score.
    """
    counted = truth != VOID
    true, guess = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    void = guess == VOID
    assert true.max(initial=0) < num_classes, "ground truth beyond the class list passed prepare's check"
    assert guess[~void].max(initial=0) < num_classes, "prediction beyond the class list"
    guess[void] = num_classes
    return np.bincount(true * (num_classes + 1) + guess, minlength=num_classes * (num_classes + 1)).reshape(
        num_classes, num_classes + 1
    )


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """IoU of each class in percent, float (K,); NaN for a class that occurs neither in truth nor in prediction."""
    hits = np.diagonal(confusion).astype(float)
    union = confusion.sum(axis=1) + confusion[:, : len(hits)].sum(axis=0) - hits
    return 100 * np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray) -> float:
    """mIoU in percent over the classes that occur in truth or prediction."""
    return float(np.nanmean(class_iou(confusion)))


def image_iou(confusion: np.ndarray) -> float:
    """mIoU in percent of one image, over the classes that occur in its truth; NaN without truth.

    Over the classes of the result too, one stray pixel would halve it.
    """
    values = class_iou(confusion)[confusion.sum(axis=1) > 0]
    return float(values.mean()) if len(values) else float("nan")


def summary(confusion: np.ndarray) -> dict[str, Any]:
    """mIoU and pixel accuracy in percent, which every metrics file has."""
    accuracy = 100 * np.trace(confusion) / max(confusion.sum(), 1)
    return {
        "miou": round(mean_iou(confusion), 3),
        "pixel_accuracy": round(float(accuracy), 3),
    }


def class_rows(confusion: np.ndarray, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row with the IoU of each class for DVC's plots; a class that occurs nowhere has no row."""
    values = zip(("background", *classes), class_iou(confusion), strict=True)
    return [{"class": name, "iou": round(float(iou), 3)} for name, iou in values if not np.isnan(iou)]


def void_percent(confusion: np.ndarray) -> float:
    """Share of the counted pixels whose prediction is void, in percent."""
    return round(100 * float(confusion[:, -1].sum()) / max(int(confusion.sum()), 1), 3)
