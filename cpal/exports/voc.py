"""PASCAL VOC's masks in VOC's colors, with the color table that CVAT and Datumaro read; void stays void.

Format: https://docs.cvat.ai/docs/dataset_management/formats/format-smask/
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from cpal.data.images import open_image
from cpal.data.masks import voc_palette, write_mask
from cpal.errors import UserError
from cpal.exports.items import Counts, Item, Options, copy_picture
from cpal.exports.shapes import DrawnImage, Patch
from cpal.files import whole_file
from cpal.settings.access import check_readable

MASKS, TABLE, LIST = "SegmentationClass", "labelmap.txt", "ImageSets/Segmentation/default.txt"
IGNORED = "ignored"  # this format's name of void


def write(folder: Path, items: Iterable[Item], classes: tuple[str, ...], options: Options) -> Counts:
    """Write SegmentationClass/, labelmap.txt, ImageSets/ and, if options.pictures, JPEGImages/."""
    counts = Counts()
    names = []
    for item in items:
        write_mask(folder / MASKS / f"{item.name}.png", item.labels(len(classes)))
        names.append(item.name)
        counts.images += 1
        if options.pictures:
            copy_picture(item, folder / "JPEGImages")
    with whole_file(folder / LIST) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    rows = dict(enumerate(("background", *classes))) | {255: IGNORED}
    lines = ["{}:{},{},{}::".format(name, *voc_palette()[value].tolist()) for value, name in rows.items()]
    with whole_file(folder / TABLE) as temporary:
        temporary.write_text("\n".join(["# label:color_rgb:parts:actions", *lines, ""]), encoding="utf-8")
    return counts


def read(path: Path) -> Iterator[DrawnImage]:
    """The images of a folder with SegmentationClass/ and labelmap.txt.

    Raises UserError for files of another format, and for a color that labelmap.txt does not name.
    """
    names = _names(path / TABLE)
    files = sorted((path / MASKS).rglob("*.png"))
    if not files:
        raise UserError(f"{path}: holds no {MASKS}/*.png; name the folder that has {MASKS} in it")
    for file in files:
        colors = _colors(file)
        found, inverse = np.unique(colors, return_inverse=True)
        if strange := [color for color in found.tolist() if color not in names]:
            rgb = ",".join(map(str, _rgb(strange[0])))
            raise UserError(f"{file}: holds the color {rgb}, which {TABLE} does not name; add its line there")
        inverse = inverse.reshape(colors.shape)
        shapes = [Patch(names[color], 0, 0, inverse == n) for n, color in enumerate(found.tolist())]
        yield DrawnImage(
            file.relative_to(path / MASKS).as_posix(), (colors.shape[0], colors.shape[1]), shapes, str(file)
        )


def _colors(file: Path) -> np.ndarray:
    """Each pixel's color as one number, int32 (H, W)."""
    check_readable(file, missing="no such file")
    try:
        with open_image(file) as image:
            rgb = np.array(image.convert("RGB"), np.int32)
    except Exception as error:  # Pillow raises almost any exception for damaged files
        raise UserError(f"{file}: unreadable mask ({error}); export it again") from None
    return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


def _rgb(color: int) -> tuple[int, int, int]:
    return color >> 16, color >> 8 & 255, color & 255


def _names(path: Path) -> dict[int, str]:
    """Class name of each color (red << 16 | green << 8 | blue)."""
    check_readable(path, missing="no such file, which names the classes; export it too")
    names: dict[int, str] = {}
    try:
        for line in path.read_text(encoding="utf-8-sig").splitlines():
            if line.strip() and not line.startswith("#"):
                name, rgb = line.rsplit(":", 3)[:2]
                red, green, blue = (int(part) for part in rgb.split(","))
                if not all(0 <= part <= 255 for part in (red, green, blue)):
                    raise ValueError(f"{rgb} is no color")
                names[red << 16 | green << 8 | blue] = name
    except ValueError as error:
        raise UserError(f"{path}: not lines name:red,green,blue:parts:actions ({error}); export it again") from None
    return names
