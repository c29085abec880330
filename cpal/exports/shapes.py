"""The content of annotation files in any format: images with named shapes, and the label maps that the shapes draw."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cpal.errors import UserError

FAR = 2  # limit of x and y, in image sides; -1 is the other limit. Time to rasterize grows with an outline's length


@dataclass(frozen=True)
class Polygon:
    """points float (N, 2): x, y in continuous coordinates; an area that the outline encloses twice is outside."""

    name: str
    points: np.ndarray

    def draw(self, size: tuple[int, int]) -> tuple[slice, slice, np.ndarray]:
        """Rows, columns and bool (h, w), in an image of size (H, W): the pixels whose centers lie inside."""
        from pycocotools import mask as coco_mask

        sides, points = np.array([size[1], size[0]]), self.points
        if len(points) < 3:  # encloses nothing
            return slice(0), slice(0), np.zeros((0, 0), bool)
        if not np.isfinite(points).all() or (points < -sides).any() or (points > FAR * sides).any():
            raise ValueError(f"the outline of {self.name!r} leaves the image by far")
        first = np.clip(np.floor(points.min(axis=0)), 0, sides).astype(int)
        last = np.clip(np.ceil(points.max(axis=0)), 0, sides).astype(int)
        width, height = (last - first).tolist()
        rows, columns = slice(first[1], last[1]), slice(first[0], last[0])
        if width <= 0 or height <= 0:
            return rows, columns, np.zeros((max(0, height), max(0, width)), bool)
        code = coco_mask.frPyObjects([(points - first).ravel().tolist()], height, width)
        return rows, columns, coco_mask.decode(code)[..., 0].astype(bool)


@dataclass(frozen=True)
class Patch:
    """pixels bool (h, w); the first pixel is at (top, left) of the image."""

    name: str
    left: int
    top: int
    pixels: np.ndarray

    def draw(self, size: tuple[int, int]) -> tuple[slice, slice, np.ndarray]:
        """As `Polygon.draw`."""
        height, width = self.pixels.shape
        if min(self.top, self.left) < 0 or self.top + height > size[0] or self.left + width > size[1]:
            raise ValueError(f"a mask of {self.name!r} leaves the image")
        return slice(self.top, self.top + height), slice(self.left, self.left + width), self.pixels


@dataclass(frozen=True)
class RunLengths:
    """code: COCO's compressed run lengths of a mask of the whole image."""

    name: str
    code: bytes

    def draw(self, size: tuple[int, int]) -> tuple[slice, slice, np.ndarray]:
        """As `Polygon.draw`."""
        from pycocotools import mask as coco_mask

        height, width = size
        return (
            slice(height),
            slice(width),
            coco_mask.decode({"size": [height, width], "counts": self.code}).astype(bool),
        )


Shape = Polygon | Patch | RunLengths


@dataclass(frozen=True)
class DrawnImage:
    """An image of an annotation file: its name there, its size (H, W), its shapes; later shapes cover earlier shapes.

    `where`: the file and the place in it, for messages.
    """

    file_name: str
    size: tuple[int, int]
    shapes: Sequence[Shape]
    where: str


def paint(image: DrawnImage, values: Mapping[str, int]) -> np.ndarray:
    """Label map uint8 (H, W) of an image; pixels without a shape are background, 0.

    `values`: the mask value of each name. Raises UserError for a shape outside the image (a polygon: far outside).
    """
    labels = np.zeros(image.size, np.uint8)
    for shape in image.shapes:
        try:
            rows, columns, inside = shape.draw(image.size)
        except ValueError as error:
            raise UserError(f"{image.where}: {error}; correct it in the tool, or export again") from None
        labels[rows, columns][inside] = values[shape.name]
    return labels


def box(name: str, left: float, top: float, right: float, bottom: float) -> Polygon:
    """An axis-aligned rectangle."""
    return Polygon(name, np.array([[left, top], [right, top], [right, bottom], [left, bottom]]))


def points_of(values: object, where: str) -> np.ndarray:
    """Points float (N, 2) from a list of pairs of numbers. Raises UserError for anything else."""
    if not isinstance(values, list) or not all(_is_point(value) for value in values):
        raise UserError(f"{where}: its points are no list of pairs of numbers; export it again")
    return np.array(values, np.float64).reshape(-1, 2)


def _is_point(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(is_number(part) for part in value)


def is_number(value: object) -> bool:
    """Whether a value is a finite number with magnitude below 1e9; a bool is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e9
