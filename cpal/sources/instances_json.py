"""COCO's instances JSON, read piece by piece: images, categories, and each annotation's outline as a run-length code.

pycocotools' C code reads past its memory if a code does not fit the image. Therefore every code is checked before.
"""

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pycocotools import mask as coco_mask

from cpal.data.dataset import MAX_PIXELS
from cpal.sources.tables.coco_entries import entries, wrong

MAX_SIDE = 65_535


@dataclass(frozen=True)
class Instance:
    """An annotation. `code`: its compressed run lengths, column by column as in COCO; None if outlines are not read."""

    category: int
    crowd: bool
    code: bytes | None


@dataclass
class AnnotatedImage:
    """An image of the JSON with its annotations, in the file's order."""

    file_name: str
    width: int
    height: int
    instances: list[Instance]


def read_instances(
    path: Path, *, outlines: bool, keep: int | None = None
) -> tuple[list[AnnotatedImage], dict[int, str]]:
    """Images in the file's order, and category names by id, ascending. `keep`: number of first images to read.

    The file is never in memory as a whole: an annotation takes a few hundred bytes. Raises UserError for a file that is
    no such JSON, and for the first wrong entry.
    """
    images: dict[int, AnnotatedImage] = {}
    skipped = set[int]()
    for entry in entries(path, "images"):
        number = _whole(entry, "id", path, "image")
        if number in images or number in skipped:
            raise wrong(f"{path}: image id {number} twice")
        if keep is not None and len(images) >= keep:
            skipped.add(number)
        else:
            images[number] = _image(entry, number, path)
    categories = _categories(path)
    if not images:
        raise wrong(f"{path}: lists no images; it should be an instances JSON of COCO's form")
    for entry in entries(path, "annotations"):
        number = _whole(entry, "image_id", path, "annotation")
        if number in skipped:
            continue
        where = f"{path}: annotation {entry.get('id')!r} of image {number}"
        if number not in images:
            raise wrong(f"{where}: no such image in the file")
        category = _whole(entry, "category_id", path, "annotation")
        if category not in categories:
            raise wrong(f"{where}: no category {category} in the file")
        image = images[number]
        code = _code(entry.get("segmentation"), image.height, image.width, where) if outlines else None
        image.instances.append(Instance(category, bool(entry.get("iscrowd", 0)), code))
    return list(images.values()), categories


def _categories(path: Path) -> dict[int, str]:
    categories: dict[int, str] = {}
    for entry in entries(path, "categories"):
        number, name = _whole(entry, "id", path, "category"), entry.get("name")
        if not isinstance(name, str) or not name.strip() or name in categories.values() or number in categories:
            raise wrong(f"{path}: category {number}: name {name!r} or id is missing or there twice")
        categories[number] = name
    if not categories:
        raise wrong(f"{path}: lists no categories; it should be an instances JSON of COCO's form")
    return dict(sorted(categories.items()))


def _image(entry: dict[str, Any], number: int, path: Path) -> AnnotatedImage:
    name = entry.get("file_name")
    where = f"{path}: image {number}"
    if not isinstance(name, str) or not name.isprintable() or not PurePosixPath(name).stem:
        raise wrong(f"{where}: file_name {name!r} is no file name")
    width, height = _whole(entry, "width", path, "image"), _whole(entry, "height", path, "image")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise wrong(f"{where}: cannot be {width}x{height} pixels")
    return AnnotatedImage(name, width, height, [])


def _whole(entry: dict[str, Any], key: str, path: Path, what: str) -> int:
    value = entry.get(key)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or abs(value) > 1 << 62:
        raise wrong(f"{path}: {what} {entry.get('id')!r}: {key} {value!r} is no whole number")
    return value


def _code(outline: Any, height: int, width: int, where: str) -> bytes:
    """Compressed run lengths of polygons, or of run lengths in either form."""
    if isinstance(outline, list):
        polygons = [_polygon(polygon, height, width, where) for polygon in outline]
        # Fewer than three points enclose nothing, and pycocotools would take four numbers for a box.
        polygons = [polygon for polygon in polygons if len(polygon) >= 6]
        if not polygons:
            return _compress([height * width], height, width)
        return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))["counts"]
    if not isinstance(outline, dict) or outline.get("size") != [height, width]:
        raise wrong(f"{where}: segmentation is neither polygons nor run lengths of its image's size")
    counts = outline.get("counts")
    runs = _decode(counts, where) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or any(type(run) is not int or run < 0 for run in runs):
        raise wrong(f"{where}: run lengths must be whole numbers from 0")
    if sum(runs) != height * width:
        raise wrong(f"{where}: run lengths cover {sum(runs)} pixels of {width}x{height}")
    return _compress(runs, height, width)


def _polygon(points: Any, height: int, width: int, where: str) -> list[float]:
    if not isinstance(points, list) or len(points) % 2 or any(type(p) not in (int, float) for p in points):
        raise wrong(f"{where}: a polygon must be a list of x, y, x, y, ...")
    for value, side in ((v, s) for n, s in enumerate((width, height)) for v in points[n::2]):
        if not math.isfinite(value) or not -side <= value <= 2 * side:  # rasterizing costs time by its length
            raise wrong(f"{where}: a polygon has a point at {value!r}, far outside of {width}x{height} pixels")
    return [float(value) for value in points]


def _compress(runs: list[int], height: int, width: int) -> bytes:
    return coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"]


def _decode(text: str, where: str) -> list[int]:
    """Run lengths from COCO's text form: 5 bits a character, low bits first.

    From the fourth number on, each number is stored as the difference to the number two places before.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise wrong(f"{where}: run lengths hold {character!r}, which is not COCO's text form")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift:
        raise wrong(f"{where}: run lengths end in the middle")
    return runs
