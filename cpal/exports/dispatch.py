"""The export formats by name."""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path

from cpal.errors import UserError
from cpal.exports import coco, cvat, labelme, labelstudio, png, voc, yolo
from cpal.exports.items import Counts, Item, Options
from cpal.exports.shapes import DrawnImage
from cpal.files import whole_folder


class Format(StrEnum):
    coco = "coco"
    yolo = "yolo"
    cvat = "cvat"
    labelstudio = "labelstudio"
    labelme = "labelme"
    voc = "voc"
    png = "png"


WRITERS = {
    Format.coco: coco.write,
    Format.yolo: yolo.write,
    Format.cvat: cvat.write,
    Format.labelstudio: labelstudio.write,
    Format.labelme: labelme.write,
    Format.voc: voc.write,
    Format.png: png.write,
}
READERS = {
    Format.coco: coco.read,
    Format.cvat: cvat.read,
    Format.labelstudio: labelstudio.read,
    Format.labelme: labelme.read,
    Format.voc: voc.read,
    Format.png: png.read,
}


def check_new(out: Path) -> None:
    """Raise UserError if `out` holds anything, such as corrected masks, which an export would replace."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already; name a new folder, or remove this one")


def write_export(
    format: Format, out: Path, items: Iterable[Item], classes: tuple[str, ...], options: Options
) -> Counts:
    """Write the complete folder `out`, which must be new, or nothing. Raises UserError for masks that do not fit."""
    check_new(out)
    with whole_folder(out) as folder:
        return WRITERS[format](folder, items, classes, options)


def read_drawn(format: Format, path: Path, sizes: Mapping[str, tuple[int, int]]) -> Iterator[DrawnImage]:
    """The images of a file or folder in this format.

    `sizes`: (H, W) by image id, for YOLO, whose files have no sizes. Raises UserError if the path is missing or has
    another format.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; name what the annotation tool exported")
    return yolo.read(path, sizes) if format == Format.yolo else READERS[format](path)
