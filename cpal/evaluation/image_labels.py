"""Scores of the classifier's image-level labels. Not in without_truth, whose workers would then import scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score


def score_labels(
    truth: np.ndarray, probability: np.ndarray, classes: Sequence[str], split: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """mAP and F1 of image-level labels in percent, and the AP of each class.

    truth (images, N) of 0/1, probability (images, N) in [0, 1]. F1 counts a class as found if its probability is at
    least 0.5. Classes that no image has are left out of mAP and F1. If no image has a label, mAP and F1 are None.
    """
    present = truth.reshape(-1, len(classes)).sum(axis=0) > 0
    rows = [
        {"class": name, "ap": round(100 * float(average_precision_score(truth[:, n], probability[:, n])), 3)}
        for n, name in enumerate(classes)
        if present[n]
    ]
    metrics: dict[str, Any] = {"map": None, "f1": None, "f1_micro": None}
    if rows:
        known, found = truth[:, present] > 0, probability[:, present] >= 0.5
        # Not scikit-learn's f1_score: it takes a single column for two classes, and averages over both.
        hits, pairs = (known & found).sum(axis=0), known.sum(axis=0) + found.sum(axis=0)
        metrics = {
            "map": round(float(np.mean([row["ap"] for row in rows])), 3),
            "f1": round(100 * float(np.mean(2 * hits / pairs)), 3),
            "f1_micro": round(100 * float(2 * hits.sum() / pairs.sum()), 3),
        }
    return metrics | {"images": len(truth), "classes": len(rows), "split": split}, rows
