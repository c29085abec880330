"""Whether confidence means what it says: of the pixels at 80 %, 80 in 100 should have the right label.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017: reliability diagram (Section 2), ECE (Equation 3).
"""

from typing import Any

import numpy as np

from cpal.data.masks import VOID

BINS = 10  # of confidence, all of one width


def count_bins(truth: np.ndarray, label: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """int64 (BINS, 3): pixels of each bin, those with the right label, and the sum of their confidence in 1/255.

    All arguments are uint8 (H, W); a confidence of 255 is 100 %. Pixels with void ground truth do not count.
    """
    counted = truth != VOID
    sure, right = confidence[counted].astype(np.int64), truth[counted] == label[counted]
    place = np.minimum(sure * BINS // 255, BINS - 1)
    sums = [np.bincount(place, weights=weights, minlength=BINS) for weights in (None, right, sure)]
    return np.stack(sums, axis=1).astype(np.int64)


def calibration_error(bins: np.ndarray) -> float:
    """Expected calibration error in percent: mean gap of confidence and accuracy, each bin weighing as its pixels."""
    pixels, right, sure = bins.astype(float).T
    return float(100 * np.abs(right - sure / 255).sum() / max(pixels.sum(), 1))


def reliability(bins: np.ndarray) -> dict[str, dict[str, Any]]:
    """Of each bin that has pixels, by its bounds: share of the pixels, mean confidence and accuracy, in percent."""
    pixels, right, sure = bins.astype(float).T
    width = 100 // BINS
    names = {n: f"{width * n}-{width * (n + 1)}" for n in np.flatnonzero(pixels).tolist()}
    columns = {"pixels": pixels / max(pixels.sum(), 1)}
    columns |= {"confidence": sure / 255 / np.maximum(pixels, 1), "accuracy": right / np.maximum(pixels, 1)}
    return {
        f"reliability_{title}": {name: round(100 * float(values[n]), 3) for n, name in names.items()}
        for title, values in columns.items()
    }
