"""PASCAL VOC's masks in VOC's colors, with the color table that CVAT and Datumaro read; void stays void.

Format: https://docs.cvat.ai/docs/dataset_management/formats/format-smask/
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from cpal.data.masks import voc_palette, write_mask
from cpal.errors import UserError
from cpal.exports.items import Counts, Item, Options, copy_picture
from cpal.exports.shapes import DrawnImage, Patch
from cpal.files import whole_file
from cpal.sources.mask_colors import read_color_table, read_values

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
    colors = read_color_table(path / TABLE, missing="no such file, which names the classes; export it too")
    files = sorted((path / MASKS).rglob("*.png"))
    if not files:
        raise UserError(f"{path}: holds no {MASKS}/*.png; name the folder that has {MASKS} in it")
    names = {value: colors.label(color) for color, value in colors.values.items()}
    for file in files:
        labels = read_values(file, colors)
        shapes = [Patch(names[value], 0, 0, labels == value) for value in np.unique(labels).tolist()]
        yield DrawnImage(
            file.relative_to(path / MASKS).as_posix(), (labels.shape[0], labels.shape[1]), shapes, str(file)
        )
