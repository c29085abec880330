"""The one IoU formula, against a loop over pixels."""

import itertools

import numpy as np
import pytest

from cpal.evaluation import metrics

VOID = 255


def random_maps(seed: int, classes: int = 4, size: tuple[int, int] = (13, 11)) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction with void in both; the last class occurs in neither."""
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, classes - 1, (2, *size)).astype(np.uint8)
    truth[rng.random(size) < 0.1], predicted[rng.random(size) < 0.2] = VOID, VOID
    return truth, predicted


def naive_iou(pairs: list[tuple[np.ndarray, np.ndarray]], classes: int) -> list[float]:
    """Percent; void truth is skipped, void prediction is a miss of the true class."""
    result = []
    for k in range(classes):
        intersection = union = 0
        for truth, predicted in pairs:
            for t, p in zip(truth.ravel(), predicted.ravel(), strict=True):
                if t != VOID:
                    intersection += int(t == k and p == k)
                    union += int(t == k or p == k)
        result.append(100 * intersection / union if union else float("nan"))
    return result


def total(pairs: list[tuple[np.ndarray, np.ndarray]], classes: int) -> np.ndarray:
    return np.sum([metrics.confusion_matrix(truth, predicted, classes) for truth, predicted in pairs], axis=0)


def test_equals_a_loop() -> None:
    pairs = [random_maps(seed) for seed in range(3)]
    confusion = total(pairs, 4)
    expected = naive_iou(pairs, 4)
    np.testing.assert_allclose(metrics.class_iou(confusion), expected)
    assert np.isnan(expected[3])
    assert metrics.mean_iou(confusion) == pytest.approx(np.mean(expected[:3]))
    for t, p in itertools.product(range(4), range(5)):
        value = VOID if p == 4 else p
        assert confusion[t, p] == sum(int(((a == t) & (b == value)).sum()) for a, b in pairs)


def test_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1, VOID]], np.uint8)
    predicted = np.array([[0, 1, 1, VOID, 1]], np.uint8)
    confusion = metrics.confusion_matrix(truth, predicted, 2)
    assert confusion.tolist() == [[1, 1, 0], [0, 1, 1]]
    np.testing.assert_allclose(metrics.class_iou(confusion), [50.0, 100 / 3])
    assert metrics.summary(confusion) == {"miou": 41.667, "pixel_accuracy": 50.0}


def test_leaving_pixels_out_never_pays() -> None:
    truth, _ = random_maps(0)
    perfect = np.where(truth == VOID, 0, truth).astype(np.uint8)
    assert metrics.mean_iou(metrics.confusion_matrix(truth, perfect, 4)) == 100
    for seed in range(5):
        left_out = np.where(np.random.default_rng(seed).random(truth.shape) < 0.1, VOID, perfect).astype(np.uint8)
        assert metrics.mean_iou(metrics.confusion_matrix(truth, left_out, 4)) < 100


def test_a_class_that_occurs_nowhere_counts_nowhere() -> None:
    truth = np.array([[0, 2]], np.uint8)
    confusion = metrics.confusion_matrix(truth, truth, 4)
    assert metrics.mean_iou(confusion) == 100
    assert metrics.class_rows(confusion, ("cat", "cow", "dog")) == [
        {"class": "background", "iou": 100.0},
        {"class": "cow", "iou": 100.0},
    ]


def test_a_stray_pixel_hardly_changes_an_images_iou() -> None:
    truth = np.zeros((100, 100), np.uint8)
    truth[:50] = 2
    result = truth.copy()
    result[0, 0] = 1
    confusion = metrics.confusion_matrix(truth, result, 4)
    assert metrics.image_iou(confusion) == pytest.approx((100 + 100 * 4999 / 5000) / 2)
    assert metrics.mean_iou(confusion) < 67, "which counts class 1, with an IoU of 0"
    assert np.isnan(metrics.image_iou(np.zeros((4, 5), np.int64)))


def test_predicted_but_never_true_is_zero() -> None:
    confusion = metrics.confusion_matrix(np.array([0, 0]), np.array([0, 1]), 2)
    np.testing.assert_allclose(metrics.class_iou(confusion), [50, 0])


def test_a_prediction_beyond_the_classes_is_no_void() -> None:
    for label in (3, 4, 254):
        with pytest.raises(AssertionError, match="prediction beyond"):
            metrics.confusion_matrix(np.array([0]), np.array([label]), 3)
    with pytest.raises(AssertionError, match="ground truth beyond"):
        metrics.confusion_matrix(np.array([3]), np.array([0]), 3)


def test_nothing_but_void_adds_nothing() -> None:
    void = np.full((3, 4), VOID, np.uint8)
    assert not metrics.confusion_matrix(void, np.zeros((3, 4), np.uint8), 3).any()
    assert np.isnan(metrics.class_iou(np.zeros((3, 4), np.int64))).all()
