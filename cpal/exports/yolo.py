"""YOLO's segmentation labels: a line for each part, with its class from 0 and its outline in fractions of the sides.

Holes are cut out: the outline runs to a hole and back. Format: https://docs.ultralytics.com/datasets/segment/
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from unicodedata import normalize

import numpy as np

from cpal.errors import UserError
from cpal.exports.items import Counts, Item, Options, copy_picture
from cpal.exports.regions import keyhole
from cpal.exports.shapes import DrawnImage, Polygon
from cpal.files import whole_file
from cpal.settings.access import check_readable
from cpal.sources.labels.yolo import read_config
from cpal.sources.tables.file_names import original

NAMES, OTHER_NAMES = "data.yaml", ("classes.txt", "obj.names")
NO_LABELS = ("train", "val", "test", "classes", "readme")  # how texts in the outer folder begin that are no labels
CURE = "export it again as segmentation labels"


def write(folder: Path, items: Iterable[Item], classes: tuple[str, ...], options: Options) -> Counts:
    """Write data.yaml, labels/train/NAME.txt and, if options.pictures, images/train/.

    A file without lines stands for an image of background only.
    """
    counts = Counts()
    for item in items:
        found = options.find(item, classes)
        counts.add(found)
        sides = np.array(item.size[::-1])
        lines = [
            " ".join([str(region.class_id - 1), *(f"{value:.7f}" for value in (keyhole(region) / sides).ravel())])
            for region in found.regions
        ]
        with whole_file(folder / "labels/train" / f"{item.name}.txt") as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        if options.pictures:
            copy_picture(item, folder / "images/train")
    names = "".join(f"  {n}: {json.dumps(name, ensure_ascii=False)}\n" for n, name in enumerate(classes))
    with whole_file(folder / NAMES) as temporary:
        temporary.write_text(f"train: images/train\nval: images/train\nnames:\n{names}", encoding="utf-8")
    return counts


def read(path: Path, sizes: Mapping[str, tuple[int, int]]) -> Iterator[DrawnImage]:
    """The images of a folder with data.yaml and labels/, sorted by file name.

    `sizes`: (H, W) by image id, which the files do not contain. Raises UserError for files of another format, such as
    boxes, and for labels of an image without a size.
    """
    names = _names(path)
    for file in _label_files(path):
        stem = normalize("NFC", file.stem)
        size = sizes.get(stem) or sizes.get(original(stem))
        if size is None:
            raise UserError(f"{file}: there is no image {file.stem}; give it the name of its image, or remove it")
        yield DrawnImage(file.stem, size, list(_shapes(file, names, size)), str(file))


def _label_files(path: Path) -> list[Path]:
    """Texts below folders named `labels`, such as train/labels; if there are none, all but lists and READMEs."""
    found = sorted(path.rglob("*.txt"))
    if inside := [file for file in found if "labels" in file.relative_to(path).parts[:-1]]:
        return inside
    return [file for file in found if file.parent != path or not file.stem.lower().startswith(NO_LABELS)]


def _names(folder: Path) -> dict[int, str]:
    """Names of data.yaml, else of classes.txt (Label Studio, labelImg) or obj.names (CVAT's YOLO 1.1)."""
    found = [folder / name for name in (NAMES, *OTHER_NAMES) if (folder / name).is_file()]
    return read_config(found[0] if found else folder / NAMES).names


def _shapes(file: Path, names: Mapping[int, str], size: tuple[int, int]) -> Iterator[Polygon]:
    check_readable(file, missing="no such file")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        rows = [(number, [float(word) for word in line.split()]) for number, line in enumerate(lines, start=1)]
    except ValueError as error:
        raise UserError(f"{file}: not lines of numbers ({error}); {CURE}") from None
    for number, values in rows:
        if not values:
            continue
        where = f"{file}: line {number}"
        if len(values) in (5, 6):
            raise UserError(f"{where}: is a box, which says nothing of pixels; {CURE}")
        if len(values) % 2 == 0 or len(values) < 7:
            raise UserError(f"{where}: holds {len(values)} numbers, not a class and pairs of x and y; {CURE}")
        if values[0] not in names:
            raise UserError(f"{where}: class {values[0]:g} is not among the names of {NAMES}; {CURE}")
        yield Polygon(names[int(values[0])], np.array(values[1:]).reshape(-1, 2) * size[::-1])
