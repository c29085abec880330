"""VGG Image Annotator's exports: CSV, JSON and projects of version 2, with labels in attributes of regions or files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpal.errors import UserError
from cpal.sources.tables.columns import LABELS, word
from cpal.sources.tables.grid import Cell, Grid
from cpal.sources.tables.rows import Row, Table, counted, joined

CSV_COLUMNS = ("filename", "fileattributes", "regionattributes")
NAMING = (*LABELS, "name", "type", "label")  # attributes that hold a class, if there are others
CURE = "keep one attribute in VIA, export it as COCO's JSON, or write a table image,labels"
Attributes = tuple[str, list[Any]]  # name of a file, and the attributes of the file and of each of its regions


def is_via_header(row: Sequence[Cell]) -> bool:
    return {word(cell) for cell in row}.issuperset(CSV_COLUMNS)


def is_via_json(content: Mapping[str, Any]) -> bool:
    """Whether this is a project, or annotations by name and size of the files."""
    entries = content.get("_via_img_metadata", content)
    if not isinstance(entries, dict):
        return False
    return (
        "_via_img_metadata" in content
        or bool(entries)
        and all(isinstance(entry, dict) and {"filename", "regions"} <= entry.keys() for entry in entries.values())
    )


def read_via_csv(grid: Grid, path: Path, problems: list[str]) -> Table:
    """Labels from a row for each region, or one row without a region. Raises UserError for a cell that is no JSON."""
    header = [word(cell) for cell in grid.rows[0]]
    places = [header.index(name) for name in CSV_COLUMNS]
    found = list[Attributes]()
    for line, row in list(zip(grid.lines, grid.rows, strict=True))[1:]:
        cells = [str(row[place]) if place < len(row) else "" for place in places]
        try:
            found.append((cells[0], [json.loads(cell) if cell else {} for cell in cells[1:]]))
        except (ValueError, RecursionError):
            raise UserError(f"{path}, line {line}: VIA's attributes are not JSON; export the file again") from None
    return _table(found, {}, path, "VIA's CSV", problems)


def read_via_json(content: Mapping[str, Any], path: Path, problems: list[str]) -> Table:
    """Labels from annotations or from a project. A project's options give names to numbers of classes."""
    entries = content.get("_via_img_metadata", content)
    found = list[Attributes]()
    for entry in entries.values():
        regions = entry.get("regions") if isinstance(entry, dict) else None
        regions = list(regions.values()) if isinstance(regions, dict) else regions  # of version 1
        if not isinstance(regions, list):
            raise UserError(f"{path}: an image of VIA's JSON has no regions; export the file again")
        held = [region.get("region_attributes") for region in regions if isinstance(region, dict)]
        found.append((str(entry.get("filename", "")), [entry.get("file_attributes"), *held]))
    told = "VIA's project" if "_via_img_metadata" in content else "VIA's JSON"
    return _table(found, _options(content.get("_via_attributes")), path, told, problems)


def _options(attributes: Any) -> dict[tuple[str, str], str]:
    """Name of each option, by attribute and id, if the ids are numbers and the options have a description."""
    found = dict[tuple[str, str], str]()
    kinds = [kind for kind in attributes.values() if isinstance(kind, dict)] if isinstance(attributes, dict) else []
    for name, attribute in ((name, value) for kind in kinds for name, value in kind.items()):
        options = attribute.get("options") if isinstance(attribute, dict) else None
        if isinstance(options, dict) and options and all(key.isdecimal() for key in options):
            found |= {
                (name, key): text.strip() for key, text in options.items() if isinstance(text, str) and text.strip()
            }
    return found


def _table(
    found: Sequence[Attributes], options: Mapping[tuple[str, str], str], path: Path, told: str, problems: list[str]
) -> Table:
    """Labels from the only attribute that has values, or from the only attribute with a name such as label."""
    if not found or not all(name for name, _ in found):
        raise UserError(f"{path}: {told} names no image, or an image has no name; export the file again")
    attributes = [(name, [held for held in all_held if isinstance(held, dict)]) for name, all_held in found]
    used = dict.fromkeys(
        key for _, all_held in attributes for held in all_held for key, v in held.items() if _chosen(v)
    )
    chosen = [key for key in used if word(key) in NAMING] if len(used) > 1 else list(used)
    if len(chosen) != 1:
        which = f"the attributes {', '.join(map(repr, list(used)[:6]))} can each be a label" if used else "no label"
        raise UserError(f"{path}: {told} holds {which}; {CURE}")
    key = chosen[0]
    rows = [
        Row(name, frozenset(options.get((key, text), text) for held in all_held for text in _chosen(held.get(key))))
        for name, all_held in attributes
    ]
    told += f", attribute {key}"
    if others := [name for name in used if name != key]:
        told += f" ({counted(len(others), 'other')} passed over: {', '.join(others[:5])})"
    return Table(tuple(joined(rows, str(path), problems)), told)


def _chosen(value: Any) -> list[str]:
    """Names in the value of an attribute: a text, or the ticked boxes of `{"cat": true, "dog": true}`."""
    return list(_texts(value))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
        yield str(value).strip()
    elif isinstance(value, dict):
        yield from (key.strip() for key, ticked in value.items() if ticked and key.strip())
