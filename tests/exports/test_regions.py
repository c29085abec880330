"""Outlines enclose the same pixels again, whoever draws them."""

import cv2
import numpy as np
import pytest
from matplotlib.path import Path as Outline

from cpal.data.masks import VOID
from cpal.exports import brush_rle
from cpal.exports.cvat import run_lengths
from cpal.exports.regions import Region, find_regions, keyhole
from cpal.exports.shapes import Polygon


def random_map(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Blocks of three classes with holes, parts of one pixel, diagonals and void, uint8 (H, W)."""
    coarse = rng.integers(0, 4, (size[0] // 5 + 1, size[1] // 5 + 1)).astype(np.uint8)
    labels = coarse.repeat(5, axis=0).repeat(5, axis=1)[: size[0], : size[1]].copy()
    noise = rng.random(size) < 0.12
    labels[noise] = rng.integers(0, 4, int(noise.sum()))
    labels[rng.random(size) < 0.04] = VOID
    return labels


MAPS = [
    random_map(np.random.default_rng(n), size) for n, size in enumerate([(1, 1), (1, 30), (40, 1), (37, 52), (60, 33)])
]
MAPS += [
    np.zeros((7, 9), np.uint8),
    np.full((4, 3), VOID, np.uint8),
    np.full((4, 3), 2, np.uint8),
    np.eye(9, dtype=np.uint8),
]


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels with their centers inside, by matplotlib."""
    rows, columns = np.indices(size)
    centers = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    return Outline(np.concatenate([points, points[:1]]), closed=True).contains_points(centers).reshape(size)


def drawn(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels that our own Polygon draws."""
    mask = np.zeros(size, bool)
    rows, columns, part = Polygon("", points).draw(size)
    mask[rows, columns] = part
    return mask


@pytest.mark.parametrize("labels", MAPS, ids=lambda labels: "x".join(map(str, labels.shape)))
def test_the_same_pixels(labels: np.ndarray) -> None:
    again, filled = np.zeros_like(labels), np.zeros_like(labels)
    found = find_regions(labels, tolerance=0, min_area=1)
    for region in found.regions:
        mask = inside(region.outline, labels.shape)
        for hole in region.holes:
            mask &= ~inside(hole, labels.shape)
        assert mask.sum() == region.area
        np.testing.assert_array_equal(mask, pixels_of(region, labels.shape))
        np.testing.assert_array_equal(mask, drawn(keyhole(region), labels.shape))
        again[mask] = region.class_id
        cv2.fillPoly(filled, [keyhole(region).astype(np.int32)], region.class_id)
    wanted = np.where(labels == VOID, 0, labels)
    np.testing.assert_array_equal(again, wanted)
    assert (filled == wanted).mean() > 0.99  # as Ultralytics reads its labels
    assert found.small == 0


def pixels_of(region: Region, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, bool)
    left, top, width, height = region.box
    mask[top : top + height, left : left + width] = region.pixels
    return mask


def test_one_pixel_is_a_square_within_it() -> None:
    labels = np.zeros((5, 6), np.uint8)
    labels[2, 3] = 1
    (region,) = find_regions(labels, tolerance=2, min_area=1).regions
    assert sorted(map(tuple, region.outline.tolist())) == [(3.25, 2.25), (3.25, 2.75), (3.75, 2.25), (3.75, 2.75)]
    assert region.box == (3, 2, 1, 1)


def test_small_parts_are_left_out_and_small_holes_filled() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[2:18, 2:18] = 1
    labels[4:6, 4:6] = 2  # a hole of four pixels, with another class
    labels[8:14, 8:14] = 0  # one of 36
    labels[19, 19] = 3
    found = find_regions(labels, tolerance=0, min_area=5)
    assert found.small == 2
    (region,) = found.regions
    assert (region.class_id, region.area, len(region.holes)) == (1, 256 - 36, 1)


def test_a_tolerance_saves_points() -> None:
    rows, columns = np.indices((80, 80))
    labels = (np.hypot(rows - 40, columns - 40) < 30).astype(np.uint8)
    points = []
    for tolerance in (0.0, 1.0, 2.0):
        (region,) = find_regions(labels, tolerance=tolerance, min_area=1).regions
        points.append(len(region.outline))
        border = np.abs(np.hypot(rows - 40, columns - 40) - 30) > tolerance + 1
        assert (inside(region.outline, labels.shape) == labels)[border].all()
    assert points[0] > 2 * points[1] > 2 * points[2]


def test_large_regions_come_first() -> None:
    found = find_regions(MAPS[3], tolerance=0, min_area=1).regions
    assert [region.area for region in found] == sorted((region.area for region in found), reverse=True)


def test_run_lengths_of_cvat() -> None:
    assert run_lengths(np.array([[0, 1, 1], [1, 0, 0]], bool)) == [1, 3, 2]
    assert run_lengths(np.array([[1, 1], [0, 1]], bool)) == [0, 2, 1, 1]


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (400, 300)])
def test_brush_run_lengths(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for mask in (rng.random(size) < 0.5, np.zeros(size, bool), np.ones(size, bool)):
        np.testing.assert_array_equal(brush_rle.decode(brush_rle.encode(mask), size), mask)


@pytest.mark.parametrize("content", [[], [0] * 3, [0, 0, 0, 16, 0, 0, 0], [255] * 40])
def test_damaged_brush_run_lengths(content: list[int]) -> None:
    with pytest.raises(ValueError, match="a brush's run lengths"):
        brush_rle.decode(content, (2, 2))
