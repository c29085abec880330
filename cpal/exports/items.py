"""The images to export: their label maps, checked, and their image files as annotation tools show them."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import ImageOps

from cpal.data.images import open_image
from cpal.data.masks import check_mask, read_mask
from cpal.errors import UserError
from cpal.exports.regions import Regions, find_regions

UPRIGHT = 1  # EXIF orientation of an image that needs no rotation
ORIENTATION = 0x0112
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF")  # formats of Pillow that take a quality


@dataclass(frozen=True)
class Item:
    """An image to export. `name`: path of its results, without an ending. `size`: (H, W).

    `confidence`: by mask value, the mean probability, 0 to 1, of the pixels with this label; empty if unknown.
    """

    name: str
    image: Path
    mask: Path
    size: tuple[int, int]
    confidence: Mapping[int, float] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The name of the image file in every format."""
        return f"{self.name}{self.image.suffix}"

    def labels(self, num_foreground: int) -> np.ndarray:
        """Label map uint8 (H, W). Raises UserError if it is missing, damaged, or does not fit image and classes."""
        labels = read_mask(self.mask)
        check_mask(self.mask, labels, self.size, range(1, num_foreground + 1), cure="write it again")
        return labels


@dataclass(frozen=True)
class Options:
    """Options of an export.

    `tolerance` and `min_area` in pixels, see `find_regions`; `pictures`: whether the image files are copied.
    """

    tolerance: float
    min_area: int
    pictures: bool

    def find(self, item: Item, classes: tuple[str, ...]) -> Regions:
        return find_regions(item.labels(len(classes)), tolerance=self.tolerance, min_area=self.min_area)


@dataclass
class Counts:
    """Number of exported images, of regions, of regions with holes, and of small parts that were left out."""

    images: int = 0
    regions: int = 0
    holes: int = 0
    small: int = 0

    def add(self, found: Regions) -> None:
        self.images += 1
        self.regions += len(found.regions)
        self.holes += sum(bool(region.holes) for region in found.regions)
        self.small += found.small


def copy_picture(item: Item, folder: Path) -> None:
    """Copy an image file to folder/FILE_NAME; an image with an EXIF orientation is turned upright, as masks are."""
    target = folder / item.file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open_image(item.image) as picture:
            if picture.getexif().get(ORIENTATION, UPRIGHT) != UPRIGHT:
                upright = ImageOps.exif_transpose(picture)
                lossy = {"quality": 95} if picture.format in LOSSY else {}
                upright.save(target, format=picture.format, **lossy)
                return
        shutil.copyfile(item.image, target)
    except (OSError, ValueError) as error:
        raise UserError(f"{item.image}: cannot be copied ({error}); put it back, or leave pictures out") from None
