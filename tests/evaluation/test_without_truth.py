"""Figures without ground truth: by hand, by plain loops, and through the stages on a data set that has no mask."""

import numpy as np
import pytest

from cpal.data.dataset import Record
from cpal.data.masks import VOID
from cpal.evaluation.image_labels import score_labels
from cpal.evaluation.without_truth import describe_masks, mean_confidence


def record(image_id: str, *labels: int) -> Record:
    return Record(image_id, "train", False, f"{image_id}.jpg", 20, 10, labels, None, "")


MAPS = {
    "a": np.zeros((10, 20), np.uint8),  # label 1 is missed
    "b": np.zeros((10, 20), np.uint8),  # label 1 shown, label 3 by one pixel, 2 shown though it is no label
    "c": np.zeros((10, 20), np.uint8),  # no label, nothing found
}
MAPS["b"][:5, :10] = 1
MAPS["b"][9, 0] = 3
MAPS["b"][5:7, :] = 2
MAPS["b"][0, 19] = VOID
RECORDS = [record("a", 1), record("b", 1, 3), record("c")]


def test_masks_by_hand() -> None:
    figures = describe_masks(RECORDS, lambda r: MAPS[r.image_id], num_foreground=3, workers=1)
    assert figures == {
        "images": 3,
        "coverage": pytest.approx(100 * (50 + 1 + 40) / 600, abs=0.001),
        "void": pytest.approx(100 / 600, abs=0.001),
        "labels_found": pytest.approx(100 * 2 / 3, abs=0.001),
        "label_f1": pytest.approx(100 * 2 * 1 / (2 + 3)),  # found: b has 1 and 2, the pixel of 3 is too little
    }


@pytest.mark.parametrize(("pixels", "f1"), [(1, 0), (2, 100)])
def test_a_class_is_predicted_from_a_hundredth_of_the_image_on(pixels: int, f1: float) -> None:
    mask = np.zeros((10, 20), np.uint8)
    mask[0, :pixels] = 1
    figures = describe_masks([record("a", 1)], lambda _: mask, num_foreground=3, workers=1)
    assert figures["label_f1"] == f1 and figures["labels_found"] == 100


def test_agreement_leaves_out_what_is_void_in_the_other() -> None:
    other = {name: mask.copy() for name, mask in MAPS.items()}
    other["a"][:5] = 2  # 100 differ
    other["b"][9] = VOID  # 20 do not count, the void pixel in the map itself differs from background
    other["b"][0, 19] = 0
    figures = describe_masks(
        RECORDS, lambda r: MAPS[r.image_id], num_foreground=3, workers=1, other=lambda r: other[r.image_id]
    )
    assert figures["agreement"] == pytest.approx(100 * (600 - 20 - 100 - 1) / 580, abs=0.001)


def test_masks_of_no_image() -> None:
    figures = describe_masks([], lambda r: MAPS[r.image_id], num_foreground=3, workers=1)
    assert figures == {"images": 0, "coverage": None, "void": None, "labels_found": None, "label_f1": None}
    assert mean_confidence([], lambda r: MAPS[r.image_id], workers=1) is None


@pytest.mark.parametrize("workers", [1, 2])
def test_confidence(workers: int) -> None:
    values = {"a": 255, "b": 51, "c": 0}

    def read(r: Record) -> np.ndarray:
        return np.full((3, 4 + len(r.labels)), values[r.image_id], np.uint8)

    assert mean_confidence(RECORDS, read, workers=workers) == pytest.approx(40)


def average_precision(truth: np.ndarray, probability: np.ndarray) -> float:
    """Mean over the true images, best first, of the share of true ones up to there."""
    order = np.argsort(-probability)
    hits = truth[order].cumsum()
    return float(np.mean([hits[n] / (n + 1) for n in range(len(order)) if truth[order][n]]))


def test_labels_against_plain_loops() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((40, 3)) < 0.3).astype(np.float32)
    truth[:, 2] = 0
    probability = rng.permutation(120).reshape(40, 3) / 120
    metrics, rows = score_labels(truth, probability, ["x", "y", "z"], "val")
    aps = [100 * average_precision(truth[:, n], probability[:, n]) for n in range(2)]
    assert [(row["class"], row["ap"]) for row in rows] == [
        ("x", pytest.approx(aps[0], abs=0.001)),
        ("y", pytest.approx(aps[1], abs=0.001)),
    ]
    assert metrics["map"] == pytest.approx(np.mean(aps), abs=0.001)
    found, known = probability[:, :2] >= 0.5, truth[:, :2] > 0
    hits, guesses = (found & known).sum(axis=0), found.sum(axis=0) + known.sum(axis=0)
    assert metrics["f1"] == pytest.approx(100 * np.mean(2 * hits / guesses), abs=0.001)
    assert metrics["f1_micro"] == pytest.approx(100 * 2 * hits.sum() / guesses.sum(), abs=0.001)
    assert (metrics["images"], metrics["classes"], metrics["split"]) == (40, 2, "val")


@pytest.mark.parametrize("count", [0, 4])
def test_labels_that_nobody_has(count: int) -> None:
    metrics, rows = score_labels(np.zeros((count, 2)), np.zeros((count, 2)), ["x", "y"], "val")
    assert rows == [] and metrics["map"] is None and metrics["f1"] is None and metrics["images"] == count


def test_f1_where_one_class_occurs() -> None:
    """One hit, one image too many, one too few: F1 is 50, as a mean and over all pairs."""
    truth, probability = np.zeros((10, 2)), np.zeros((10, 2))
    truth[:2, 1], probability[1:3, 1] = 1, 1
    metrics, rows = score_labels(truth, probability, ["x", "y"], "val")
    assert (metrics["f1"], metrics["f1_micro"], metrics["classes"], len(rows)) == (50.0, 50.0, 1, 1)
