"""Scores a folder of results against the ground truth, with the images in parallel."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from joblib import delayed

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import BACKGROUND, read_record_mask
from cpal.evaluation.calibration import calibration_error, count_bins, reliability
from cpal.evaluation.metrics import class_rows, confusion_matrix, mean_iou, summary, void_percent
from cpal.maps.cams import CamFile, read_maps, resize_maps
from cpal.maps.seeds import SeedRule, seed_map
from cpal.maps.walked import read_walk
from cpal.running.parallel import processes

Read = Callable[[Record], np.ndarray]


def count_masks(
    dataset: Dataset, records: list[Record], read: Read, *, workers: int, confidence: Read | None = None
) -> dict[str, np.ndarray]:
    """`confusion` (K, K + 1) of the label maps that `read` gives for the records; with `confidence`, also `bins`, see
    `count_bins`. Without records, the result is empty."""
    classes = dataset.num_classes  # joblib sends a task all variables of its function: keep the data set out of it

    def score(record: Record, truth: np.ndarray) -> dict[str, np.ndarray]:
        label = read(record)
        bins = {} if confidence is None else {"bins": count_bins(truth, label, confidence(record))}
        return {"confusion": confusion_matrix(truth, label, classes)} | bins

    return sum_over_images(score, dataset, records, workers=workers)


def score_step(
    dataset: Dataset,
    records: list[Record],
    read: Read,
    *,
    workers: int,
    void: bool = False,
    confidence: Read | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Metrics, rows by class and details of the label maps that `read` gives for records of one split.

    With `void`, the metrics include the percentage of void pixels; with `confidence`, which reads as `read_confidence`
    does, they include `ece`, and the details `reliability`. Without records, and where the ground truth is void
    throughout, all three results are empty.
    """
    total = count_masks(dataset, records, read, workers=workers, confidence=confidence)
    if not records or not total["confusion"].any():
        return {}, [], {}
    confusion, name = total["confusion"], {"train": "score", "val": "val"}[records[0].split]
    metrics = summary(confusion) | ({"void": void_percent(confusion)} if void else {})
    details: dict[str, dict[str, Any]] = {"scored": {"split": dataset.splits[name], "images": len(records)}}
    if confidence is not None:
        metrics["ece"] = round(calibration_error(total["bins"]), 3)
        details |= reliability(total["bins"])
    return metrics, class_rows(confusion, dataset.classes), details


def score_seeds(
    dataset: Dataset, records: list[Record], folder: Path, rule: SeedRule, *, step: float, workers: int
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Metrics, rows by class and details of the seeds in `folder`; the details have a threshold sweep of each map.

    Each map is scored at three thresholds: its fixed threshold; Otsu's threshold, which needs neither ground truth nor
    a choice; and the best threshold of a grid with spacing `step`. The best threshold is chosen with the ground truth,
    so its score is an upper bound that cannot be used in practice. Only maps in the files are scored; imported maps are
    stored as `cam`. Where the ground truth is void throughout, all three results are empty.
    """
    names = read_maps(folder, records[0]).maps
    fixed = {name: rule.thresholds[name] for name in names}
    grid = {name: threshold_grid(step, value) for name, value in fixed.items()}
    classes = dataset.num_classes

    def score(record: Record, truth: np.ndarray) -> dict[str, np.ndarray]:
        content = read_maps(folder, record)
        seeds = confusion_matrix(truth, seed_map(content, rule), classes)
        return {"seed": seeds} | count_maps(truth, content, grid, classes)

    total = sum_over_images(score, dataset, records, workers=workers)
    if not total["seed"].any():
        return {}, [], {}
    details: dict[str, dict[str, Any]] = {"scored": {"split": dataset.splits["score"], "images": len(records)}}
    metrics = summary(total["seed"])
    for name, value in fixed.items():
        details[name] = at_thresholds(total[name], total[f"{name}_pixels"], grid[name], value)
        metrics[name] = details[name]["miou"]
    return metrics, class_rows(total["seed"], dataset.classes), details


def score_walk(
    dataset: Dataset, records: list[Record], folder: Path, power: float, threshold: float, *, step: float, workers: int
) -> dict[str, Any]:
    """Scores of the walk's maps for one power, with a constant background, at the three thresholds of `score_seeds`."""
    grid = threshold_grid(step, threshold)
    classes = dataset.num_classes

    def score(record: Record, truth: np.ndarray) -> dict[str, np.ndarray]:
        walked = read_walk(folder, record)
        maps = resize_maps(walked.at(power), walked.size)
        counts = sweep_counts(truth, maps, walked.classes, grid, classes)
        return {"counts": counts, "pixels": score_histogram(maps, grid)}

    total = sum_over_images(score, dataset, records, workers=workers)
    return at_thresholds(total["counts"], total["pixels"], grid, threshold)


def threshold_grid(step: float, fixed: float) -> np.ndarray:
    """Thresholds between 0 and 1 at this spacing, and the fixed one among them, in ascending order."""
    return np.unique(np.append(np.arange(step, 1, step), fixed))


def count_maps(
    truth: np.ndarray, content: CamFile, grid: Mapping[str, np.ndarray], num_classes: int
) -> dict[str, np.ndarray]:
    """For each map that `grid` names: `sweep_counts` as NAME, and `score_histogram` as NAME_pixels."""
    counts = {}
    for name, thresholds in grid.items():
        maps = resize_maps(content.maps[name], content.size)
        counts[name] = sweep_counts(truth, maps, content.classes, thresholds, num_classes)
        counts[f"{name}_pixels"] = score_histogram(maps, thresholds)
    return counts


def sum_over_images(
    count: Callable[[Record, np.ndarray], dict[str, np.ndarray]],
    dataset: Dataset,
    records: list[Record],
    *,
    workers: int,
) -> dict[str, np.ndarray]:
    """Sum of each array, by name, that `count` returns for a record and its ground truth.

    The images are counted in parallel, and each count is added as soon as it arrives. Only cells that are not zero come
    back from a process: with 81 classes, the counts of one image take megabytes, nearly all of them zero.
    """
    foreground = range(1, dataset.num_classes)

    def read_and_count(record: Record, path: Path) -> dict[str, tuple[tuple[int, ...], np.ndarray, np.ndarray]]:
        found = count(record, read_record_mask(path, record, foreground, stage="prepare"))
        cells = {name: np.flatnonzero(counts) for name, counts in found.items()}
        return {name: (counts.shape, cells[name], counts.flat[cells[name]]) for name, counts in found.items()}

    parts = processes(workers)(delayed(read_and_count)(record, dataset.mask_path(record)) for record in records)
    total: dict[str, np.ndarray] = {}
    for part in parts:
        for name, (shape, cells, counts) in part.items():
            total.setdefault(name, np.zeros(shape, counts.dtype)).flat[cells] += counts
    return total


def at_thresholds(counts: np.ndarray, pixels: np.ndarray, grid: np.ndarray, fixed: float) -> dict[str, Any]:
    """mIoU at the fixed, Otsu's and the best threshold, from sums of `sweep_counts` and of `score_histogram`."""
    curve, free = sweep_curve(counts), otsu(pixels, grid)
    best = int(np.argmax(curve))
    return {
        "miou": round(curve[int(np.flatnonzero(grid == fixed)[0])], 3),
        "threshold": fixed,
        "miou_otsu": round(curve[free], 3),
        "threshold_otsu": round(float(grid[free]), 4),
        "miou_oracle": round(curve[best], 3),
        "threshold_oracle": round(float(grid[best]), 4),
    }


def sweep_counts(
    truth: np.ndarray, maps: np.ndarray, classes: np.ndarray, thresholds: np.ndarray, num_classes: int
) -> np.ndarray:
    """Pixels by true class, strongest class and number of thresholds below its score: int64 (K, K, thresholds + 1).

    K is num_classes. maps (C, H, W) are the maps of `classes`, at the size of `truth`. One pass over the pixels serves
    all thresholds: a pixel is foreground for exactly the thresholds below its score.
    """
    counts = np.zeros((num_classes, num_classes, len(thresholds) + 1), np.int64)
    counted = truth < num_classes
    if len(maps) == 0:
        counts[:, BACKGROUND, 0] = np.bincount(truth[counted], minlength=num_classes)
        return counts
    strongest = classes[maps.argmax(axis=0)][counted]
    below = np.searchsorted(thresholds, maps.max(axis=0)[counted], side="left")
    cells = np.ravel_multi_index((truth[counted], strongest, below), counts.shape)
    return np.bincount(cells, minlength=counts.size).reshape(counts.shape)


def score_histogram(maps: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Number of pixels of maps (C, H, W) by number of thresholds below their largest score: int64 (thresholds + 1)."""
    if len(maps) == 0:  # no score tells where a class begins
        return np.zeros(len(thresholds) + 1, np.int64)
    below = np.searchsorted(thresholds, maps.max(axis=0).ravel(), side="left")
    return np.bincount(below, minlength=len(thresholds) + 1)


def otsu(pixels: np.ndarray, thresholds: np.ndarray) -> int:
    """Index of the threshold with the largest variance between the scores on its two sides (Otsu, 1979).

    pixels (thresholds + 1) are counts of `score_histogram`; the score of a bin is the middle of the bin.
    """
    middle = np.convolve(np.concatenate([[0.0], thresholds, [1.0]]), [0.5, 0.5], mode="valid")
    below = np.cumsum(pixels)[:-1].astype(float)
    above = pixels.sum() - below
    moment = np.cumsum(pixels * middle)
    apart = moment[:-1] / np.maximum(below, 1) - (moment[-1] - moment[:-1]) / np.maximum(above, 1)
    return int(np.argmax(below * above * apart**2))


def sweep_curve(counts: np.ndarray) -> list[float]:
    """mIoU at each threshold, from the sum of `sweep_counts` over all images."""
    above = counts[..., ::-1].cumsum(axis=-1)[..., ::-1]  # pixels with at least j thresholds below their score
    curve = []
    for i in range(counts.shape[-1] - 1):
        confusion = above[..., i + 1].copy()
        confusion[:, BACKGROUND] += counts.sum(axis=(1, 2)) - confusion.sum(axis=1)
        curve.append(mean_iou(np.pad(confusion, ((0, 0), (0, 1)))))
    return curve
