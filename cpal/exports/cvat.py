"""CVAT for images 1.1: one XML file with polygons, and run-length masks for parts with holes.

Format: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from cpal.data.dataset import MAX_PIXELS
from cpal.errors import UserError
from cpal.exports.coco import find_file
from cpal.exports.items import Counts, Item, Options, copy_picture
from cpal.exports.regions import Region
from cpal.exports.shapes import DrawnImage, Patch, Polygon, Shape, box, points_of
from cpal.files import whole_file
from cpal.maps.drawing import class_palette
from cpal.settings.access import check_readable
from cpal.sources.tables.xml_labels import read_root

AGAIN = "export it again as CVAT for images 1.1"


def write(folder: Path, items: Iterable[Item], classes: tuple[str, ...], options: Options) -> Counts:
    """Write annotations.xml and, if options.pictures, images/."""
    counts = Counts()
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for name, color in zip(classes, class_palette()[1:].tolist(), strict=False):
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        SubElement(label, "color").text = "#{:02x}{:02x}{:02x}".format(*color)
        SubElement(label, "attributes")
    for number, item in enumerate(items):
        found = options.find(item, classes)
        counts.add(found)
        height, width = item.size
        facts = {"id": number, "name": item.file_name, "width": width, "height": height}
        image = SubElement(root, "image", {key: str(value) for key, value in facts.items()})
        for order, region in enumerate(found.regions):
            _add(image, region, classes[region.class_id - 1], order)
        if options.pictures:
            copy_picture(item, folder / "images")
    ElementTree.indent(root)
    with whole_file(folder / "annotations.xml") as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
    return counts


def _add(image: Element, region: Region, name: str, order: int) -> None:
    common = {"label": name, "source": "auto", "occluded": "0", "z_order": str(order)}
    if not region.holes:
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in region.outline.tolist())
        SubElement(image, "polygon", common | {"points": points})
        return
    left, top, width, height = region.box
    place = {"left": left, "top": top, "width": width, "height": height}
    runs = ", ".join(map(str, run_lengths(region.pixels)))
    SubElement(image, "mask", common | {"rle": runs} | {key: str(value) for key, value in place.items()})


def run_lengths(pixels: np.ndarray) -> list[int]:
    """Lengths of the runs of a mask bool (h, w), row by row; the first run is outside the mask."""
    flat = np.concatenate([[False], pixels.ravel(), [not pixels.ravel()[-1]]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(changes, prepend=0).tolist()


def read(path: Path) -> Iterator[DrawnImage]:
    """The images of an XML file; a folder must have only one XML file.

    Raises UserError for a file of another format, and for shapes without an inside.
    """
    file = find_file(path, ".xml")
    check_readable(file, missing="no such file; name the XML of the annotations")
    root = read_root(file)
    images = root.findall("image")
    if root.tag != "annotations" or not images:
        raise UserError(f"{file}: lists no images; {AGAIN}")
    for image in images:
        name = image.get("name", "")
        where = f"{file}: image {name}"
        try:
            size = int(image.get("height", "")), int(image.get("width", ""))
            ordered = sorted(image, key=lambda node: int(node.get("z_order", "0")))
            shapes = [shape for node in ordered if (shape := _shape(node, where))]
        except UserError:
            raise
        except (ValueError, OverflowError, MemoryError) as error:
            raise UserError(f"{where}: damaged ({error}); {AGAIN}") from None
        yield DrawnImage(name, size, shapes, where)


def _shape(node: Element, where: str) -> Shape | None:
    """The shape of an XML element; None for a tag, which has no shape. Raises ValueError for an invalid number."""
    name = node.get("label", "")
    match node.tag:
        case "tag":
            return None
        case "polygon":
            pairs = [[float(value) for value in pair.split(",")] for pair in node.get("points", "").split(";")]
            return Polygon(name, points_of(pairs, where))
        case "box" if not float(node.get("rotation", "0")):
            return box(name, *(float(node.get(side, "")) for side in ("xtl", "ytl", "xbr", "ybr")))
        case "mask":
            left, top, width, height = (int(node.get(key, "")) for key in ("left", "top", "width", "height"))
            runs = np.array([int(run) for run in node.get("rle", "").split(",")])
            if (
                width < 1
                or height < 1
                or width * height > MAX_PIXELS
                or (runs < 0).any()
                or runs.sum() != width * height
            ):
                raise UserError(f"{where}: the run lengths of a mask do not fill its box; {AGAIN}")
            inside = np.arange(len(runs)) % 2 == 1
            return Patch(name, left, top, np.repeat(inside, runs).reshape(height, width))
    raise UserError(f"{where}: {node.tag} of {name!r} has no inside that can be read; draw it as a polygon or a mask")
