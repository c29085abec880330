"""Plain PNG label maps, and classes.json with the name of each id; void stays 255."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError

from cpal.data.images import open_image
from cpal.data.masks import VOID, read_mask, voc_palette, write_mask
from cpal.errors import UserError
from cpal.exports.items import Counts, Item, Options, copy_picture
from cpal.exports.shapes import DrawnImage, Patch
from cpal.files import write_json
from cpal.settings.access import check_readable

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
    colors = {each.color: n for n, each in classes.items() if each.color is not None}
    below = path / "masks" if (path / "masks").is_dir() else path
    files = sorted(below.rglob("*.png"))
    if not files:
        raise UserError(f"{path}: holds no masks/*.png; name the folder that has masks in it")
    for file in files:
        labels = _labels(file, colors)
        ids = np.flatnonzero(np.bincount(labels.ravel())).tolist()
        if strange := sorted(set(ids) - set(names)):
            raise UserError(f"{file}: holds the id {strange[0]}, which {NAMES} does not name; add it there")
        shapes = [Patch(names[n], 0, 0, labels == n) for n in ids]
        yield DrawnImage(file.relative_to(below).as_posix(), (labels.shape[0], labels.shape[1]), shapes, str(file))


class _Class(BaseModel):
    name: str
    color: tuple[int, int, int] | None = None


def _labels(file: Path, colors: dict[tuple[int, int, int], int]) -> np.ndarray:
    """Label map uint8 (H, W) of ids, or of the classes' colors."""
    try:
        with open_image(file) as image:
            pixels = np.asarray(image.convert("RGB")) if image.mode in ("RGB", "RGBA") else None
    except Exception:  # Pillow raises almost any exception for damaged files; read_mask tells which
        pixels = None
    if pixels is None:
        return read_mask(file)
    found, place = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    ids = [colors.get((int(red), int(green), int(blue))) for red, green, blue in found]
    if None in ids:
        color = ", ".join(map(str, found[ids.index(None)]))
        raise UserError(
            f"{file}: has the color {color}, which {NAMES} gives no class; paint without soft edges, in its colors"
        )
    return np.array(ids, np.uint8)[place.reshape(pixels.shape[:2])]


def _classes(path: Path) -> dict[int, _Class]:
    check_readable(path, missing="no such file, which names the classes; copy it there from the export")
    try:
        return TypeAdapter(dict[int, _Class]).validate_json(path.read_bytes())
    except ValidationError:
        raise UserError(f"{path}: does not name each id; copy it again from the export") from None
