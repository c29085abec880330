"""labelme's JSON, one file beside each image: polygons, and masks for parts with holes (labelme 5.3 and later).

Format: the JSON files of the examples in https://github.com/wkentaro/labelme
"""

import base64
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from cpal.errors import UserError
from cpal.exports.items import Counts, Item, Options, copy_picture
from cpal.exports.regions import Region
from cpal.exports.shapes import DrawnImage, Patch, Polygon, Shape, box, points_of
from cpal.files import write_json
from cpal.settings.access import check_readable

VERSION = "5.5.0"  # of the format
AGAIN = "save it again in labelme"


def write(folder: Path, items: Iterable[Item], classes: tuple[str, ...], options: Options) -> Counts:
    """Write NAME.json, labels.txt with the classes and, if options.pictures, the image files beside them."""
    counts = Counts()
    for item in items:
        found = options.find(item, classes)
        counts.add(found)
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": [_written(region, classes[region.class_id - 1]) for region in found.regions],
            "imagePath": Path(item.file_name).name,
            "imageData": None,
            "imageHeight": item.size[0],
            "imageWidth": item.size[1],
        }
        write_json(folder / f"{item.name}.json", content)
        if options.pictures:
            copy_picture(item, folder)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    return counts


def _written(region: Region, name: str) -> dict[str, Any]:
    shape: dict[str, Any] = {"label": name, "group_id": None, "description": "", "flags": {}, "mask": None}
    if not region.holes:
        return shape | {"shape_type": "polygon", "points": region.outline.round(2).tolist()}
    stream = io.BytesIO()
    Image.fromarray(region.pixels.astype(np.uint8)).save(stream, format="PNG")
    left, top, width, height = region.box
    corners = [[left, top], [left + width - 1, top + height - 1]]
    pixels = base64.b64encode(stream.getvalue()).decode("ascii")
    return shape | {"shape_type": "mask", "points": corners, "mask": pixels}


def read(path: Path) -> Iterator[DrawnImage]:
    """The images of a folder of JSON files, or of one file.

    Raises UserError for a file of another format, and for shapes without an inside.
    """
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: holds no *.json; name the folder that labelme saved into")
    for file in files:
        check_readable(file, missing="no such file; name the JSON file, or its folder")
        try:
            content = json.loads(file.read_text(encoding="utf-8-sig"))
            size = content["imageHeight"], content["imageWidth"]
            if not all(type(side) is int for side in size):
                raise ValueError("imageHeight or imageWidth is no whole number")
            shapes = [_shape(entry, str(file)) for entry in content["shapes"]]
            yield DrawnImage(PureWindowsPath(content["imagePath"]).name, size, shapes, str(file))
        except UserError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
            raise UserError(f"{file}: no file of labelme ({type(error).__name__}: {error}); {AGAIN}") from None


def _shape(entry: dict[str, Any], where: str) -> Shape:
    name, points = str(entry["label"]), points_of(entry["points"], where)
    kind = entry.get("shape_type") or "polygon"
    if len(points) == 4 and kind in ("rectangle", "rotation"):  # X-AnyLabeling writes the four corners
        kind = "polygon"
    match kind:
        case "polygon":
            return Polygon(name, points)
        case "rectangle" if len(points) == 2:
            return box(name, *points.min(axis=0).tolist(), *points.max(axis=0).tolist())
        case "mask" if entry.get("mask"):
            with Image.open(io.BytesIO(base64.b64decode(entry["mask"])), formats=("PNG",)) as image:
                pixels = np.array(image.convert("L")) > 0
            return Patch(name, int(points[0, 0]), int(points[0, 1]), pixels)
    raise UserError(f"{where}: a {kind} of {name!r} cannot be read; draw it as a polygon")
