"""Plain PNG label maps, and classes.json with the name of each id; void stays 255."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError

from cpal.data.images import open_image
from cpal.data.masks import VOID, voc_palette, write_mask
from cpal.errors import UserError
from cpal.exports.items import Counts, Item, Options, copy_picture
from cpal.exports.shapes import DrawnImage, Patch
from cpal.files import write_json
from cpal.settings.access import check_readable
from cpal.sources.mask_colors import ColorTable, read_values

NAMES = "classes.json"


def write(folder: Path, items: Iterable[Item], classes: tuple[str, ...], options: Options) -> Counts:
    """Write masks/NAME.png, classes.json with name and color of each id and, if options.pictures, images/."""
    counts = Counts()
    for item in items:
        write_mask(folder / "masks" / f"{item.name}.png", item.labels(len(classes)))
        counts.images += 1
        if options.pictures:
            copy_picture(item, folder / "images")
    rows = dict(enumerate(("background", *classes))) | {VOID: "void"}
    colors = voc_palette().tolist()
    write_json(folder / NAMES, {str(n): {"name": name, "color": colors[n]} for n, name in rows.items()})
    return counts


def read(path: Path) -> Iterator[DrawnImage]:
    """The images of a folder with classes.json and PNG files, which are in masks/ or beside classes.json.

    A paint program may have turned ids into the colors that classes.json gives them. Raises UserError for files of
    another format, and for an id or a color that classes.json does not name.
    """
    classes = _classes(path / NAMES)
    names = {n: each.name for n, each in classes.items()}
    values = {each.color: n for n, each in classes.items() if each.color is not None}
    colors = ColorTable(NAMES, tuple(names.get(n, str(n)) for n in range(1, VOID)), values)
    below = path / "masks" if (path / "masks").is_dir() else path
    files = sorted(below.rglob("*.png"))
    if not files:
        raise UserError(f"{path}: holds no masks/*.png; name the folder that has masks in it")
    for file in files:
        labels = read_values(file, colors if _colored(file) else None)
        ids = np.flatnonzero(np.bincount(labels.ravel())).tolist()
        if strange := sorted(set(ids) - set(names)):
            raise UserError(f"{file}: holds the id {strange[0]}, which {NAMES} does not name; add it there")
        shapes = [Patch(names[n], 0, 0, labels == n) for n in ids]
        yield DrawnImage(file.relative_to(below).as_posix(), (labels.shape[0], labels.shape[1]), shapes, str(file))


class _Class(BaseModel):
    name: str
    color: tuple[int, int, int] | None = None


def _colored(file: Path) -> bool:
    """Whether a mask holds colors instead of ids; False for a damaged file, which its reader reports."""
    try:
        with open_image(file) as image:
            return image.mode in ("RGB", "RGBA")
    except Exception:  # Pillow raises almost any exception for damaged files
        return False


def _classes(path: Path) -> dict[int, _Class]:
    check_readable(path, missing="no such file, which names the classes; copy it there from the export")
    try:
        return TypeAdapter(dict[int, _Class]).validate_json(path.read_bytes())
    except ValidationError:
        raise UserError(f"{path}: does not name each id; copy it again from the export") from None
