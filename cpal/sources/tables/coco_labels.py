"""Labels from COCO's JSON: the categories of each image's annotations.

Sizes, boxes and outlines are not read. Ids may be text. The file is read in pieces, since it may have gigabytes.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from cpal.sources.tables.coco_entries import entries, wrong
from cpal.sources.tables.rows import Row, Table, counted


def read_coco_labels(path: Path, threshold: float | None = None) -> Table:
    """Every image of the file. An image without annotations shows none of the classes.

    `threshold`: data.label_threshold; an annotation whose `score` is below it, as in results of a model, is no label.

    Raises UserError for an entry without name or id, and for annotations of unknown images or categories.
    """
    images: dict[str, str] = {}
    for entry in entries(path, "images"):
        name = entry.get("file_name") or entry.get("coco_url")  # LVIS has the address only
        number = _id(entry.get("id"))
        if not isinstance(name, str) or not name.strip() or number is None or number in images:
            raise wrong(f"{path}: image {entry.get('id')!r}: file_name {name!r} or id is missing or there twice")
        images[number] = name
    categories, twice = _categories(path)
    # Files that were merged have an id for each of their entries of an image.
    shown: dict[str, set[str]] = {name: set() for name in images.values()}
    scored = 0
    for entry in entries(path, "annotations"):
        image, category = _id(entry.get("image_id")), _id(entry.get("category_id"))
        where = f"annotation {entry.get('id')!r}"
        if image is None or image not in images:
            raise wrong(f"{path}: {where}: no image {entry.get('image_id')!r} in the file")
        if category is None or category not in categories:
            raise wrong(f"{path}: {where}: no category {entry.get('category_id')!r} in the file")
        score = entry.get("score")
        scored += isinstance(score, int | float)
        if threshold is None or not isinstance(score, int | float) or score >= threshold:
            shown[images[image]].add(categories[category])
    if not images:
        raise wrong(f"{path}: lists no images; it should be a JSON of COCO's form")
    told = f"COCO's JSON; {counted(len(categories), 'category', 'categories')}"
    used = set().union(*shown.values())
    if unused := [name for name in dict.fromkeys(categories.values()) if name not in used]:
        told += f", not used by any annotation: {', '.join(unused[:3])}{', ...' * (len(unused) > 3)}"
    if scored:
        told += f"; {counted(scored, 'annotation')} with a score, "
        told += "all of them labels (data.label_threshold)" if threshold is None else f"labels from {threshold:g} on"
    if twice:
        told += f"; categories of one name are joined: {', '.join(twice[:3])}"
    return Table(tuple(Row(name, frozenset(names)) for name, names in shown.items()), told)


def _categories(path: Path) -> tuple[dict[str, str], list[str]]:
    """Names by id, and the names that several ids have."""
    found: dict[str, str] = {}
    for entry in entries(path, "categories"):
        number, name = _id(entry.get("id")), entry.get("name")
        if not isinstance(name, str) or not name.strip() or number is None or number in found:
            raise wrong(f"{path}: category {entry.get('id')!r}: name {name!r} or id is missing or there twice")
        found[number] = name.strip()
    if not found:
        raise wrong(f"{path}: lists no categories; it should be a JSON of COCO's form")
    return found, [name for name, count in Counter(found.values()).items() if count > 1]


def _id(value: Any) -> str | None:
    """An id as text: 7, 7.0 and "7" are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value) if not isinstance(value, int) or abs(value) < 1 << 62 else None
