"""Labels from a table or from an export of a tool: the rows are matched with the files that they name."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cpal.settings.access import check_readable
from cpal.settings.data import DataConfig
from cpal.sources.labels.image_labels import ImageLabels
from cpal.sources.problems import noted, some
from cpal.sources.tables.coco_labels import read_coco_labels
from cpal.sources.tables.columns import PARTS, part_of
from cpal.sources.tables.file_names import FileNames
from cpal.sources.tables.read import read_table
from cpal.sources.tables.rows import Table, counted, reading_of
from cpal.sources.tables.text import MISSING


def labels_of_tables(root: Path, settings: DataConfig, files: Sequence[str], problems: list[str]) -> ImageLabels:
    """Labels from a table, or from tables of this name in the folders of the splits, as Roboflow exports them."""
    assert settings.labels_file is not None, "the settings demand labels_file with these labels"
    path, images = root / settings.labels_file, root / settings.images
    tables = [] if path.exists() else _tables_of_splits(path, images, files, settings)
    if not tables:
        return _of_table(path, settings, files, images, problems)
    names, splits, written = dict[str, frozenset[str]](), dict[str, str](), dict[str, str]()
    told, lost = list[str](), list[tuple[str, str | None]]()
    for table in tables:
        found = _of_table(table.path, settings, table.files, images, problems)
        if twice := sorted(found.names.keys() & names.keys()):
            problems.append(f"{table.path}: {len(twice)} image(s) are in another table, too: {some(twice)}; keep one")
        names |= found.names
        splits |= {file: table.split for file in found.names} | (found.splits or {})
        told.append(found.told)
        written |= found.written
        lost += found.lost
    same = " and ".join(dict.fromkeys(filter(None, told)))
    where = f"{path.name} in {', '.join(table.split for table in tables)}"
    return ImageLabels(names, splits, f"{where}: {same}", written, tuple(lost))


class _SplitTable(NamedTuple):
    """The table of one split, and the images that it may name."""

    path: Path
    split: str
    files: Sequence[str]


def _tables_of_splits(path: Path, images: Path, files: Sequence[str], settings: DataConfig) -> list[_SplitTable]:
    """Tables of one name in the folders of the splits, or `instances_*.json`, where `*` is the word of a split.

    Of the latter, only the tables of data.train_list and data.val_list are read: a test.csv often has no labels.
    """
    try:
        if "*" not in path.name:
            folders = sorted(
                f.name for f in images.iterdir() if f.name.casefold() in PARTS and (f / path.name).is_file()
            )
            below = {folder: [file for file in files if file.startswith(f"{folder}/")] for folder in folders}
            return [_SplitTable(images / folder / path.name, folder, below[folder]) for folder in folders]
        found = [(place, part_of(place.stem)) for place in sorted(path.parent.glob(path.name))]
    except (OSError, ValueError):
        return []
    used = {part_of(settings.train_list), part_of(settings.val_list)}
    tables = [(place, part) for place, part in found if part is not None and (part in used or None in used)]
    tops = {file: part_of(file.partition("/")[0]) if "/" in file else None for file in files}
    return [_SplitTable(place, part, [file for file in files if tops[file] == part] or files) for place, part in tables]


def _of_table(path: Path, settings: DataConfig, files: Sequence[str], images: Path, problems: list[str]) -> ImageLabels:
    places = FileNames(files, str(images))
    known: dict[str, bool] = {}

    def named(text: str) -> bool:
        if text not in known:
            match = places.find(text, loose=False)
            known[text] = match.file is not None or len(match.candidates) > 1
        return known[text]

    table: Table | None = None
    if settings.labels == "coco":
        with noted(problems):
            check_readable(path, missing=MISSING)
            table = read_coco_labels(path, settings.label_threshold)
    else:
        table = read_table(path, reading_of(settings), named, problems)
    return ImageLabels() if table is None else _matched(table, places, path, images, problems)


def _matched(table: Table, places: FileNames, path: Path, images: Path, problems: list[str]) -> ImageLabels:
    """Labels by file. A row that names no file, or that can name several files, is a problem."""
    found = {row.image: places.find(row.image) for row in table.rows}
    missing = [image for image, match in found.items() if match.file is None and not match.candidates]
    if missing:
        problems.append(
            f"{path}: {len(missing)} image(s) that are not below {images}: {some(missing)}; {_cure(missing)}"
        )
    unsure = [f"{i} ({some(m.candidates)})" for i, m in found.items() if m.file is None and m.candidates]
    if unsure:
        problems.append(
            f"{path}: {len(unsure)} image(s) whose name can mean the files in brackets; write the path below {images}: "
            f"{some(unsure)}"
        )
    spelled: dict[str, list[str]] = {}
    for image, match in found.items():
        if match.file is not None:
            spelled.setdefault(match.file, []).append(image)
    names, splits = dict[str, frozenset[str]](), dict[str, str]()
    for row in table.rows:
        file = found[row.image].file
        if file is None:
            continue
        if file in names:
            problems.append(f"{path}: image {file} twice, as {' and '.join(spelled[file])}; keep one line for it")
        names[file] = row.names
        if row.split is not None:
            splits[file] = row.split
    told = table.told
    other = [(image, match.file) for image, match in found.items() if match.file is not None and not match.exact]
    if other:
        told += f"; {counted(len(other), 'name')} written in another way ({other[0][0]} is {other[0][1]})"
    lost = tuple((row.image, row.split) for row in table.rows if found[row.image].file is None)
    written = {file: images[-1] for file, images in spelled.items()}
    return ImageLabels(names, splits if any(row.split is not None for row in table.rows) else None, told, written, lost)


def _cure(missing: Sequence[str]) -> str:
    if any(re.fullmatch(r"\d[.,]\d+E\+\d+", name) for name in missing):
        return "the spreadsheet has shortened numbers: give this column the format text there, and enter the ids again"
    return "correct the names, put the images there, or take these rows out"
