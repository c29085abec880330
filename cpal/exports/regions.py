"""Splits a label map into regions: the connected parts of each class, with outlines of the parts and of their holes.

Coordinates are continuous: the pixel in column 3 reaches from x = 3 to x = 4. Outlines run a quarter of a pixel inside
the part. Two kinds of readers then get exactly the same pixels: readers that test the centers of pixels, and readers
that truncate coordinates to integers and also draw the outline itself (OpenCV's fillPoly).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cpal.data.masks import BACKGROUND, VOID


@dataclass(frozen=True)
class Region:
    """A connected part of one class; pixels that touch at corners are connected. `area` is in pixels.

    pixels bool (h, w): the part within its bounding box, whose first pixel is (top, left). outline float (N, 2) and
    each of holes, float (M, 2): points (x, y) in the image.
    """

    class_id: int
    left: int
    top: int
    area: int
    pixels: np.ndarray
    outline: np.ndarray
    holes: tuple[np.ndarray, ...]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """left, top, width, height in pixels."""
        return self.left, self.top, self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True)
class Regions:
    """The regions of a label map, largest first. Tools draw later regions on top, so small regions stay visible.

    `small`: number of parts that were left out because they are smaller than min_area.
    """

    regions: list[Region]
    small: int


def find_regions(labels: np.ndarray, *, tolerance: float, min_area: int) -> Regions:
    """Regions of a label map uint8 (H, W), without background and void.

    `tolerance`: largest distance in pixels between an outline and its simplification. Parts of fewer than `min_area`
    pixels are left out, and holes of fewer pixels are filled.
    """
    regions: list[Region] = []
    small = 0
    for class_id in np.flatnonzero(np.bincount(labels.ravel())).tolist():
        if class_id in (BACKGROUND, VOID):
            continue
        for left, top, pixels in _parts(labels == class_id):
            if np.count_nonzero(pixels) < min_area:
                small += 1
                continue
            pixels = _without_small_holes(pixels, min_area)
            outline, holes = _outlines(pixels, tolerance)
            place = np.array([left, top])
            moved = tuple(hole + place for hole in holes)
            regions.append(Region(class_id, left, top, int(pixels.sum()), pixels, outline + place, moved))
    regions.sort(key=lambda region: (-region.area, region.class_id, region.top, region.left))
    return Regions(regions, small)


def _parts(mask: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Left, top and pixels bool (h, w) of each connected part of a mask bool (H, W)."""
    import cv2  # importing it takes as long as the rest of this module's work

    number, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    for part in range(1, number):
        left, top, width, height, _ = stats[part].tolist()
        yield left, top, parts[top : top + height, left : left + width] == part


def _without_small_holes(pixels: np.ndarray, min_area: int) -> np.ndarray:
    import cv2

    if min_area <= 1:
        return pixels
    around = np.pad(~pixels, 1, constant_values=True).astype(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(around, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < min_area
    small[[0, parts[0, 0]]] = False  # the part itself, and the area around it
    return pixels | small[parts][1:-1, 1:-1]


def _outlines(pixels: np.ndarray, tolerance: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Outline of a connected part bool (h, w), and of its holes, each float (N, 2), relative to its top left corner."""
    import cv2

    double = pixels.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)  # so that a single pixel has a square outline
    contours, hierarchy = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outline, holes = np.zeros((0, 2)), []
    for contour, (_, _, _, parent) in zip(contours, hierarchy[0], strict=True):
        fewer = cv2.approxPolyDP(contour, 2 * tolerance, True) if tolerance else contour
        points = (fewer if len(fewer) >= 3 else contour).reshape(-1, 2) / 2 + 0.25
        if parent < 0:
            outline = points
        else:
            holes.append(points)
    return outline, holes


def keyhole(region: Region) -> np.ndarray:
    """One outline float (N, 2) for formats without holes: a cut of zero width leads to each hole and back."""
    from scipy.spatial import cKDTree

    merged = region.outline
    for hole in region.holes:
        distances, nearest = cKDTree(merged).query(hole)
        start = int(distances.argmin())
        at = int(nearest[start])
        loop = np.roll(hole, -start, axis=0)
        merged = np.concatenate([merged[: at + 1], loop, loop[:1], merged[at:]])
    return merged
