"""Labels from JSON of several tools. The content tells the tool."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ijson

from cpal.errors import UserError
from cpal.sources.tables.coco_labels import read_coco_labels
from cpal.sources.tables.columns import is_header
from cpal.sources.tables.forms import table_of_grid
from cpal.sources.tables.grid import grid_of_records
from cpal.sources.tables.machine_json import (
    is_datumaro,
    is_manifest,
    read_datumaro,
    read_manifest,
    refuse_other_tools,
)
from cpal.sources.tables.rows import Reading, Row, Table
from cpal.sources.tables.tasks import is_short_task, is_task, read_short_tasks, read_tasks
from cpal.sources.tables.text import read_text
from cpal.sources.tables.via_labels import is_via_json, read_via_json

COCO = {"images": {"id"}, "annotations": {"image_id"}, "categories": {"id", "name"}}  # keys of an entry of each list
Named = Callable[[str], bool]


def read_json(path: Path, reading: Reading, named: Named, problems: list[str]) -> Table:
    """Labels of COCO, Label Studio, FiftyOne, Hugging Face, or of objects that hold image and labels.

    Raises UserError for a file that is damaged or has another form.
    """
    try:
        if _is_coco(path):
            return read_coco_labels(path, reading.threshold)
        text, _ = read_text(path, reading.encoding)
        content = (
            json.loads(text) if not _is_lines(text) else [json.loads(line) for line in text.split("\n") if line.strip()]
        )
    except (ValueError, RecursionError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: damaged, or no JSON ({error}); export it again") from None
    if isinstance(content, dict):
        return _of_object(content, path, reading, named, problems)
    return _of_list(content, path, reading, named, problems)


def _is_coco(path: Path) -> bool:
    """Whether the outer object has a list of COCO, by the keys of its first entry. Only the file's start is read."""
    with path.open("rb") as stream:
        if stream.read(3) != b"\xef\xbb\xbf":
            stream.seek(0)
        keys = set[str]()
        try:
            for prefix, event, value in ijson.parse(stream):
                if prefix == "" and event not in ("start_map", "map_key"):
                    return False
                outer, _, inner = prefix.partition(".")
                if outer not in COCO or not inner and event != "end_array":
                    continue
                if (inner, event) == ("item", "map_key"):
                    keys.add(value)
                elif event in ("end_map", "end_array") and inner in ("", "item"):
                    return COCO[outer] <= keys or not keys  # an empty list: the reader of COCO says what is missing
        except ijson.JSONError:  # lines of JSON, another code page, or damage: told by who reads it whole
            return False
    return False


def _is_lines(text: str) -> bool:
    """Whether each line is an object, as in metadata.jsonl."""
    first, _, rest = text.strip().partition("\n")
    try:
        return isinstance(json.loads(first), dict) and bool(rest.strip())
    except (ValueError, RecursionError):
        return False


def _of_list(content: Any, path: Path, reading: Reading, named: Named, problems: list[str]) -> Table:
    entries = [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []
    if not isinstance(content, list) or len(entries) < len(content) or not entries:
        raise UserError(f"{path}: holds no list of objects with an image and its labels; export it again")
    if all(is_task(entry) for entry in entries):
        return read_tasks(entries, path, problems)
    if all(is_short_task(entry) for entry in entries):
        return read_short_tasks(entries, path, problems)
    if all(is_manifest(entry) for entry in entries):
        return read_manifest(entries, path, reading.threshold)
    refuse_other_tools(list(entries[0]), path)
    return table_of_grid(grid_of_records(_flat(entries), "JSON, one object a row"), path, reading, named, problems)


def _flat(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries without the private keys of FiftyOne, which begin with `_`."""
    return [{key: value for key, value in entry.items() if not key.startswith("_")} for entry in entries]


def _of_object(content: dict[str, Any], path: Path, reading: Reading, named: Named, problems: list[str]) -> Table:
    if is_via_json(content):
        return read_via_json(content, path, problems)
    if {"project", "config", "metadata", "attribute"} <= content.keys():
        raise UserError(
            f"{path}: a project of VIA 3, whose attributes belong to times and views; open the pictures in VIA 2, or "
            "write a table image,labels"
        )
    if is_datumaro(content):
        return read_datumaro(content, path)
    refuse_other_tools(list(content), path)
    samples, labels, classes = content.get("samples"), content.get("labels"), content.get("classes")
    if isinstance(samples, list):
        return _of_samples(samples, path)
    if isinstance(labels, dict) and isinstance(classes, list | None):
        return _of_mapping(labels, classes, path, "FiftyOne's labels.json")
    if is_header(list(content)):  # a single record
        return _of_list([content], path, reading, named, problems)
    for key in ("data", "images", "items", "rows"):
        if isinstance(held := content.get(key), list) and held and isinstance(held[0], dict):
            return _of_list(held, path, reading, named, problems)
    if content and all(isinstance(value, str | list) for value in content.values()):
        return _of_mapping(_by_image(content, named), None, path, "JSON, names by image")
    if content and all(isinstance(value, dict) for value in content.values()) and any(map(named, list(content)[:9])):
        return _of_list([{"image": key} | value for key, value in content.items()], path, reading, named, problems)
    raise UserError(
        f"{path}: JSON of an unknown form (its keys: {', '.join(map(str, list(content)[:6]))}); take COCO's, Label "
        "Studio's, FiftyOne's, or write a table image,labels"
    )


def _of_samples(samples: Sequence[Any], path: Path) -> Table:
    """FiftyOneDataset's samples.json: labels are objects with `_cls`, splits are tags."""
    parts = ("train", "val", "validation", "valid", "test")
    rows = list[Row]()
    for sample in samples:
        name = sample.get("filepath") if isinstance(sample, dict) else None
        if not isinstance(name, str):
            raise UserError(f"{path}: a sample names no file (filepath); export it again")
        tags = sample.get("tags")
        split = [tag for tag in tags if tag in parts] if isinstance(tags, list) else []
        rows.append(Row(name, _labels_of(sample), split[0] if len(split) == 1 else None))
    if any(row.split is None for row in rows):
        rows = [row._replace(split=None) for row in rows]
    fields = sorted(
        {
            key
            for sample in samples
            for key, value in sample.items()
            if isinstance(value, dict) and _labels_of({key: value})
        }
    )
    if len(fields) > 1:
        raise UserError(f"{path}: samples have labels in the fields {', '.join(fields)}; export with one label_field")
    return Table(tuple(rows), f"FiftyOne's samples, field {', '.join(fields) or '(none)'}")


def _labels_of(value: Any) -> frozenset[str]:
    """Every `label` of a Classification or Detection anywhere in a sample."""
    if isinstance(value, list):
        return frozenset[str]().union(*map(_labels_of, value))
    if not isinstance(value, dict):
        return frozenset()
    own = {value["label"]} if isinstance(value.get("label"), str) and "_cls" in value else set()
    return frozenset(own).union(*(_labels_of(inner) for inner in value.values()))


def _by_image(content: dict[str, Any], named: Named) -> dict[str, Any]:
    """Names by image. A file that holds images by name, `{"cat": ["a.jpg", "b.jpg"]}`, is turned round."""
    lists = [value for value in content.values() if isinstance(value, list)]
    if any(map(named, content)) or not any(isinstance(one, str) and named(one) for held in lists for one in held[:9]):
        return content
    found: dict[str, list[str]] = {}
    for name, held in content.items():
        for image in held if isinstance(held, list) else [held]:
            found.setdefault(str(image), []).append(name)
    return found


def _of_mapping(labels: dict[str, Any], classes: list[Any] | None, path: Path, told: str) -> Table:
    """Names, or places in `classes`, by image."""

    def name(value: Any) -> str:
        value = value.get("label") if isinstance(value, dict) else value  # a box
        if isinstance(value, int) and not isinstance(value, bool) and classes is not None and 0 <= value < len(classes):
            return str(classes[value])
        if not isinstance(value, str):
            raise UserError(f"{path}: label {str(value)[:40]!r} is no name and no place in classes; export it again")
        return value.strip()

    rows = list[Row]()
    for image, value in labels.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        rows.append(Row(image, frozenset(map(name, values)) - {""}))
    return Table(tuple(rows), told)
