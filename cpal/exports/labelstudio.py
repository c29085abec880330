"""Label Studio's tasks: polygons, and brushes for parts with holes, as predictions that annotators accept or change.

Format: https://labelstud.io/guide/predictions and /guide/export. Only annotations are read: an image that no annotator
has looked at has only predictions, which do not count as corrected.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from cpal.errors import UserError
from cpal.exports import brush_rle
from cpal.exports.coco import find_file
from cpal.exports.items import Counts, Item, Options, copy_picture
from cpal.exports.regions import Region
from cpal.exports.shapes import DrawnImage, Patch, Polygon, Shape, box, is_number, points_of
from cpal.files import whole_file, write_json
from cpal.maps.drawing import class_palette
from cpal.settings.access import check_readable
from cpal.sources.tables.file_names import cleaned
from cpal.sources.tables.tasks import is_short_task, picture_of

TASKS, INTERFACE = "tasks.json", "interface.xml"
LOCAL = "/data/local-files/?d="  # URL of files below the server's LOCAL_FILES_DOCUMENT_ROOT
AGAIN = "export it again as JSON"


def write(folder: Path, items: Iterable[Item], classes: tuple[str, ...], options: Options) -> Counts:
    """Write tasks.json, the labeling interface interface.xml and, if options.pictures, images/."""
    counts = Counts()
    tasks = []
    for item in items:
        found = options.find(item, classes)
        counts.add(found)
        results = [_result(region, number, item, classes) for number, region in enumerate(found.regions)]
        scores = [result["score"] for result in results if "score" in result]
        prediction = {"result": results} | ({"score": min(scores)} if scores else {})
        tasks.append({"data": {"image": f"{LOCAL}images/{quote(item.file_name)}"}, "predictions": [prediction]})
        if options.pictures:
            copy_picture(item, folder / "images")
    write_json(folder / TASKS, tasks)
    _write_interface(folder / INTERFACE, classes)
    return counts


def _write_interface(path: Path, classes: tuple[str, ...]) -> None:
    root = Element("View")
    SubElement(root, "Image", {"name": "image", "value": "$image"})
    for tag, name in (("PolygonLabels", "polygon"), ("BrushLabels", "brush")):
        labels = SubElement(root, tag, {"name": name, "toName": "image"})
        for label, color in zip(classes, class_palette()[1:].tolist(), strict=False):
            SubElement(labels, "Label", {"value": label, "background": "#{:02x}{:02x}{:02x}".format(*color)})
    ElementTree.indent(root)
    with whole_file(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8")


def _result(region: Region, number: int, item: Item, classes: tuple[str, ...]) -> dict[str, Any]:
    kind = "brush" if region.holes else "polygon"
    height, width = item.size
    value: dict[str, Any] = {f"{kind}labels": [classes[region.class_id - 1]]}
    if region.holes:
        whole = np.zeros(item.size, bool)
        whole[region.top : region.top + region.box[3], region.left : region.left + region.box[2]] = region.pixels
        value |= {"format": "rle", "rle": brush_rle.encode(whole)}
    else:
        value |= {"points": (100 * region.outline / [width, height]).round(6).tolist(), "closed": True}
    score = item.confidence.get(region.class_id)
    return {
        "id": f"r{number}",
        "type": f"{kind}labels",
        "from_name": kind,
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    } | ({} if score is None else {"score": round(score, 4)})


def read(path: Path) -> Iterator[DrawnImage]:
    """The annotated images of a JSON export; a folder must have only one JSON file.

    If an image has several annotations, the last counts. Raises UserError for a file of another format, for shapes of
    several image sizes, and for shapes without an inside.
    """
    file = find_file(path, ".json")
    check_readable(file, missing="no such file; name the JSON that Label Studio exported")
    try:
        tasks = json.loads(file.read_text(encoding="utf-8-sig"))
        if not isinstance(tasks, list):
            raise ValueError("no list of tasks")
        if any(is_short_task(task) for task in tasks):
            raise UserError(f"{file}: is JSON-MIN, from which shapes are not read; {AGAIN}")
        for task in tasks:
            given = [entry for entry in task.get("annotations", []) if not entry.get("was_cancelled")]
            if given:
                name = PurePosixPath(cleaned(picture_of(task["data"]) or "")).name
                yield _drawn(name, given[-1]["result"], f"{file}: image {name}")
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file}: no export of Label Studio ({type(error).__name__}: {error}); {AGAIN}") from None


def _drawn(name: str, results: list[dict[str, Any]], where: str) -> DrawnImage:
    drawn = [result for result in results if {"original_width", "original_height"} <= result.keys()]
    if any(result.get("image_rotation") for result in drawn):
        raise UserError(f"{where}: was turned in the tool; turn it back there, and export again")
    sizes = {(result["original_height"], result["original_width"]) for result in drawn}
    if len(sizes) > 1 or not all(type(side) is int for size in sizes for side in size):
        raise UserError(f"{where}: its shapes are of images of several sizes; {AGAIN}")
    size = sizes.pop() if sizes else (0, 0)  # nothing is drawn: all background
    return DrawnImage(name, size, [shape for result in drawn if (shape := _shape(result, size, where))], where)


def _shape(result: dict[str, Any], size: tuple[int, int], where: str) -> Shape | None:
    kind, value = result["type"], result["value"]
    names = value.get(kind, value.get("labels"))
    if names is None or not kind.endswith("labels"):  # a choice or a text, which has no pixels
        return None
    if len(names) != 1 or not isinstance(names[0], str):
        raise UserError(f"{where}: a shape has {len(names)} labels; give each one")
    sides = np.array([size[1], size[0]]) / 100
    if "rle" in value:
        try:
            return _cropped(names[0], brush_rle.decode(value["rle"], size))
        except (ValueError, OverflowError) as error:
            raise UserError(f"{where}: {error}; {AGAIN}") from None
    if "points" in value:
        return Polygon(names[0], points_of(value["points"], where) * sides)
    corner = [value.get(key) for key in ("x", "y", "width", "height")]
    if kind == "rectanglelabels" and all(map(is_number, corner)) and not value.get("rotation"):
        (left, top), (width, height) = np.array(corner[:2]) * sides, np.array(corner[2:]) * sides
        return box(names[0], left, top, left + width, top + height)
    raise UserError(f"{where}: a shape of type {kind} cannot be read; draw it as a polygon or with the brush")


def _cropped(name: str, mask: np.ndarray) -> Patch:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Patch(name, 0, 0, mask[:0, :0])
    pixels = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    return Patch(name, int(columns[0]), int(rows[0]), pixels)
