"""Calibration against a loop over pixels, against hand numbers, and against scikit-learn's curve."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import VOID, read_truth
from cpal.evaluation.calibration import BINS, calibration_error, count_bins, reliability
from cpal.evaluation.scoring import score_step
from cpal.maps.confidence import at_temperature


@pytest.fixture
def pixels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth with void pixels, labels that are right more often where they are surer, and certainty of every value."""
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 4, (40, 70)).astype(np.uint8)
    certainty = rng.integers(0, 256, truth.shape).astype(np.uint8)
    certainty[0, :4] = 0, 255, 128, 127
    label = np.where(rng.random(truth.shape) < certainty / 300, truth, (truth + 1) % 4).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = VOID
    return truth, label, certainty


def test_bins_by_a_loop(pixels: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    expected = np.zeros((BINS, 3), np.int64)
    for true, guess, sure in zip(*(map_.ravel().tolist() for map_ in pixels), strict=True):
        if true != VOID:
            place = min(int(100 * sure / 255 // 10), 9)
            expected[place] += (1, guess == true, sure)
    np.testing.assert_array_equal(count_bins(*pixels), expected)


def test_curve_is_that_of_scikit_learn(pixels: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    # Not at multiples of 51: scikit-learn puts a probability on the border of two bins into the lower one.
    chosen = (pixels[0] != VOID) & (pixels[2] % 51 > 0)
    truth, label, certainty = (map_[chosen] for map_ in pixels)
    accuracy, mean = calibration_curve(truth == label, certainty / 255, n_bins=BINS)
    found = reliability(count_bins(truth, label, certainty))
    assert list(found["reliability_accuracy"].values()) == pytest.approx(100 * accuracy, abs=1e-3)
    assert list(found["reliability_confidence"].values()) == pytest.approx(100 * mean, abs=1e-3)
    assert sum(found["reliability_pixels"].values()) == pytest.approx(100, abs=0.01)


def test_error_by_hand() -> None:
    bins = np.zeros((BINS, 3), np.int64)
    assert calibration_error(bins) == 0
    bins[5] = 100, 30, 100 * 153  # sure of 60 %, right in 30
    bins[9] = 300, 300, 300 * 255  # sure and right
    assert calibration_error(bins) == pytest.approx(0.25 * 30)
    assert reliability(bins) == {
        "reliability_pixels": {"50-60": 25.0, "90-100": 75.0},
        "reliability_confidence": {"50-60": 60.0, "90-100": 100.0},
        "reliability_accuracy": {"50-60": 30.0, "90-100": 100.0},
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_images_of_a_data_set(tiny_dataset: Dataset, workers: int) -> None:
    records = tiny_dataset.scored("val")

    def truth(record: Record) -> np.ndarray:
        return read_truth(tiny_dataset, record)

    def half_sure(record: Record) -> np.ndarray:
        return np.full(record.size, 128, np.uint8)

    metrics, _, details = score_step(tiny_dataset, records, truth, workers=workers, confidence=half_sure)
    assert metrics == {"miou": 100, "pixel_accuracy": 100, "ece": round(100 - 100 * 128 / 255, 3)}
    assert details["reliability_accuracy"] == {"50-60": 100.0}
    plain, _, details = score_step(tiny_dataset, records, truth, workers=workers)
    assert plain == {"miou": 100, "pixel_accuracy": 100} and list(details) == ["scored"]
    assert score_step(tiny_dataset, [], truth, workers=workers, confidence=half_sure) == ({}, [], {})


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_divides_the_logits(temperature: float, kind: Callable[[np.ndarray], Any]) -> None:
    logits = np.random.default_rng(1).normal(size=(5, 6, 7)) * 4
    softmax = np.exp(logits) / np.exp(logits).sum(axis=0)
    expected = (np.exp(logits / temperature) / np.exp(logits / temperature).sum(axis=0)).max(axis=0)
    found = at_temperature(kind(softmax), kind(softmax.max(axis=0)), temperature)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6)


def test_temperature_of_a_certain_pixel() -> None:
    certain = np.array([[[1.0]], [[0.0]]], np.float32)
    assert at_temperature(certain, certain.max(axis=0), 5.0) == 1
    with np.errstate(all="raise"):  # a class of probability 0, chosen by a CRF
        assert at_temperature(certain, certain.min(axis=0), 2.0) == pytest.approx(1e-6)
    assert at_temperature(torch.from_numpy(certain), torch.zeros(1, 1), 2.0) == pytest.approx(1e-6)
