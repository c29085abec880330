"""Seeds scored at every threshold in one pass, against scoring each threshold on its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import VOID, read_mask, write_mask
from cpal.evaluation.metrics import confusion_matrix, mean_iou
from cpal.evaluation.scoring import (
    count_maps,
    count_masks,
    otsu,
    score_histogram,
    score_seeds,
    score_step,
    score_walk,
    sweep_counts,
    sweep_curve,
    threshold_grid,
)
from cpal.maps.cams import MAP_NAMES, CamFile, resize_maps, write_cam
from cpal.maps.seeds import SeedRule, seed_map
from cpal.maps.walked import WalkFile, walked_labels, write_walk

THRESHOLDS = {"cam": 0.25, "pacam": 0.5, "taught": 0.6}
RULE = SeedRule("pacam", THRESHOLDS)


@pytest.fixture
def cam_folder(tiny_dataset: Dataset, tmp_path: Path) -> Path:
    """Random maps of every image's classes at a quarter of its size."""
    rng = np.random.default_rng(0)
    for record in tiny_dataset.records:
        shape = (len(record.labels), (record.height - 1) // 4 + 1, (record.width - 1) // 4 + 1)
        size = (record.height, record.width)
        maps = {name: rng.random(shape) for name in MAP_NAMES}
        content = CamFile(np.array(record.labels, np.int64), maps, size)
        write_cam(tmp_path / f"{record.image_id}.npz", content)
    return tmp_path


@pytest.mark.parametrize("void", [False, True])
def test_sweep_is_each_threshold_on_its_own(void: bool) -> None:
    rng = np.random.default_rng(1)
    classes, maps = np.array([1, 3]), resize_maps(rng.random((2, 5, 6)), (17, 23))
    truth = rng.integers(0, 4, (17, 23)).astype(np.uint8)
    if void:
        truth[::3] = VOID
    thresholds = np.array([0.1, 0.35, 0.5, 0.9])
    maps[:, ::4] = 0.5  # a score at a threshold is not above it
    curve = sweep_curve(sweep_counts(truth, maps, classes, thresholds, 4))
    for threshold, value in zip(thresholds, curve, strict=True):
        predicted = np.where(maps.max(axis=0) > threshold, classes[maps.argmax(axis=0)], 0).astype(np.uint8)
        assert value == pytest.approx(mean_iou(confusion_matrix(truth, predicted, 4)))


def test_the_fixed_threshold_is_in_the_grid_once() -> None:
    assert threshold_grid(0.25, 0.3).tolist() == [0.25, 0.3, 0.5, 0.75]
    assert threshold_grid(0.25, 0.5).tolist() == [0.25, 0.5, 0.75]


def test_only_maps_of_the_grid_are_counted() -> None:
    maps = {name: np.full((1, 2, 2), value) for name, value in (("cam", 0.4), ("pacam", 0.6))}
    content, truth = CamFile(np.array([2]), maps, (4, 3)), np.full((4, 3), 2, np.uint8)
    counts = count_maps(truth, content, {"pacam": np.array([0.5])}, 3)
    assert counts.keys() == {"pacam", "pacam_pixels"}
    assert counts["pacam"][2, 2].tolist() == counts["pacam_pixels"].tolist() == [0, 12]


def test_image_without_class_is_background() -> None:
    content = CamFile(np.zeros(0, np.int64), {"pacam": np.zeros((0, 2, 2))}, (6, 5))
    truth = np.zeros((6, 5), np.uint8)
    truth[0] = 2
    counts = sweep_counts(truth, np.zeros((0, 6, 5)), content.classes, np.array([0.5]), 3)
    assert counts.sum() == truth.size
    assert counts[0, 0, 0] == 25 and counts[2, 0, 0] == 5
    assert not seed_map(content, RULE).any()


def test_scores_of_seeds_agree_with_scores_of_their_maps(tiny_dataset: Dataset, cam_folder: Path) -> None:
    """The seeds of one source score as that source's entry in the sweep, at the same fixed threshold."""
    records = tiny_dataset.scored("train")
    for source in ("cam", "pacam", "taught"):
        rule = SeedRule(source, THRESHOLDS)
        metrics, rows, details = score_seeds(tiny_dataset, records, cam_folder, rule, step=0.1, workers=1)
        assert metrics["miou"] == metrics[source] == details[source]["miou"]
        assert details["scored"] == {"split": "t", "images": len(records)}
        for name in ("cam", "pacam", "taught"):
            assert details[name]["miou_oracle"] >= details[name]["miou"]
            assert details[name]["threshold"] == THRESHOLDS[name]
        assert np.mean([row["iou"] for row in rows]) == pytest.approx(metrics["miou"], abs=0.01)


def test_workers_do_not_change_scores(tiny_dataset: Dataset, cam_folder: Path) -> None:
    records = tiny_dataset.scored("train")
    one, two = (score_seeds(tiny_dataset, records, cam_folder, RULE, step=0.1, workers=n) for n in (1, 2))
    assert one == two


def test_perfect_masks_score_a_hundred(tiny_dataset: Dataset) -> None:
    records = tiny_dataset.scored("val")
    confusion = count_masks(tiny_dataset, records, lambda r: read_mask(tiny_dataset.mask_path(r)), workers=1)[
        "confusion"
    ]
    assert mean_iou(confusion) == 100


def test_otsu_parts_two_heaps_whatever_their_sizes() -> None:
    """Against the within-class variance of the pixels themselves, smallest where between-class variance is largest."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0.25, 0.05, 900), rng.normal(0.8, 0.04, 100)]).clip(0, 1)
    thresholds = np.linspace(0.05, 0.95, 19)
    pixels = np.bincount(np.searchsorted(thresholds, scores, side="left"), minlength=20)
    within = [
        sum(side.var() * len(side) for side in (scores[scores <= t], scores[scores > t]) if len(side))
        for t in thresholds
    ]
    found = otsu(pixels, thresholds)
    assert 0.4 < thresholds[found] < 0.7 and within[found] < 1.02 * min(within)


def test_histogram_counts_every_pixel_of_images_with_a_class() -> None:
    maps = np.full((1, 7, 5), 0.55)
    assert score_histogram(maps, np.array([0.3, 0.5, 0.6, 0.7])).tolist() == [0, 0, 35, 0, 0]
    assert score_histogram(maps, np.array([0.3, 0.55, 0.6, 0.7])).tolist() == [0, 35, 0, 0, 0], "not above its own"
    assert score_histogram(maps[:0], np.array([0.5])).tolist() == [0, 0]


def test_walk_is_scored_as_its_labels_are(tiny_dataset: Dataset, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    contents = {}
    for record in tiny_dataset.split("train"):
        shape = (2, len(record.labels), (record.height - 1) // 4 + 1, (record.width - 1) // 4 + 1)
        size = (record.height, record.width)
        contents[record.image_id] = WalkFile(np.array(record.labels, np.int64), rng.random(shape), size, (1.0, 1.5))
        write_walk(tmp_path / f"{record.image_id}.npz", contents[record.image_id])
    scored = tiny_dataset.scored("train")
    found = score_walk(tiny_dataset, scored, tmp_path, 1.5, 0.37, step=0.1, workers=1)
    matrices = [
        confusion_matrix(read_mask(tiny_dataset.mask_path(r)), walked_labels(contents[r.image_id], 1.5, 0.37).label, 4)
        for r in scored
    ]
    total = np.sum(matrices, axis=0)
    assert found["threshold"] == 0.37 and found["miou"] == pytest.approx(mean_iou(total), abs=0.3)  # stored in float16
    assert found["miou_oracle"] >= max(found["miou"], found["miou_otsu"])


def test_truth_that_is_void_throughout_gives_no_score(tiny_dataset: Dataset, cam_folder: Path, tmp_path: Path) -> None:
    records = tiny_dataset.scored("train")
    void = replace(tiny_dataset, mask_root=tmp_path)
    for record in records:
        write_mask(void.mask_path(record), np.full(record.size, VOID, np.uint8))

    def background(record: Record) -> np.ndarray:
        return np.zeros(record.size, np.uint8)

    assert score_step(void, records, background, workers=1, confidence=background) == ({}, [], {})
    assert score_seeds(void, records, cam_folder, RULE, step=0.1, workers=1) == ({}, [], {})


def test_otsus_and_the_best_threshold_score_as_fixed_ones(tiny_dataset: Dataset, cam_folder: Path) -> None:
    records = tiny_dataset.scored("train")
    _, _, details = score_seeds(tiny_dataset, records, cam_folder, RULE, step=0.125, workers=1)
    for kind in ("otsu", "oracle"):
        fixed = {name: details[name][f"threshold_{kind}"] for name in MAP_NAMES}
        _, _, again = score_seeds(tiny_dataset, records, cam_folder, SeedRule("cam", fixed), step=0.125, workers=1)
        for name in MAP_NAMES:
            assert again[name]["miou"] == details[name][f"miou_{kind}"]
        assert any(details[name][f"miou_{kind}"] != details[name]["miou"] for name in MAP_NAMES)
    assert any(details[name]["miou_otsu"] != details[name]["miou_oracle"] for name in MAP_NAMES)


def test_a_score_names_the_data_sets_own_list(tiny_dataset: Dataset, cam_folder: Path) -> None:
    dataset = replace(tiny_dataset, splits={"train": "train_aug", "score": "train", "val": "test"})

    def read(record: Record) -> np.ndarray:
        return read_mask(dataset.mask_path(record))

    train, val = dataset.scored("train"), dataset.scored("val")
    for records, name in ((train, "train"), (val, "test")):
        _, _, details = score_step(dataset, records, read, workers=1)
        assert details["scored"] == {"split": name, "images": len(records)}
    _, _, details = score_seeds(dataset, train, cam_folder, RULE, step=0.25, workers=1)
    assert details["scored"] == {"split": "train", "images": 5}
