"""Rows of cells from a text: lines of CSV, whose delimiter is found, or records of JSON."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cpal.errors import UserError

Cell = str | tuple[str, ...]  # a tuple: a list of names, as JSON holds it
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blank"}
TITLE = 10  # rows among which the header is looked for
SAMPLE = 200  # rows that tell the delimiter and the columns
LISTS = ("choices", "labels", "label", "categories", "names")  # and Label Studio's rectanglelabels, polygonlabels, ...


@dataclass(frozen=True)
class Grid:
    """`lines`: line of each row in the file. `told`: what is unusual about the form, such as "semicolon"."""

    rows: list[list[Cell]]
    lines: list[int]
    told: str


def grid_of_text(text: str, path: Path, named: Callable[[str], bool], worded: Callable[[Sequence[Cell]], bool]) -> Grid:
    """Cells of a CSV text, blanks around them stripped, empty lines left out.

    `named` tells whether a cell names an existing picture, `worded` whether a row looks like a header. Raises
    UserError for a text that is no CSV.
    """
    before, told = 0, ""
    while text.startswith("#") and not worded(text.partition("\n")[0].split(",")):  # remarks above the table
        text, before = text.partition("\n")[2], before + 1
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:  # Excel's own way to name the delimiter
        delimiter, text, before = first.strip()[4], rest, before + 1
    else:
        delimiter = _delimiter(text, named, worded)
    if re.fullmatch(r"\d+\s*", first) and rest:  # CelebA's number of images
        text, before = rest, before + 1
    if delimiter != ",":
        told = DELIMITERS.get(delimiter, f"delimiter {delimiter!r}")
    rows, lines = list[list[Cell]](), list[int]()
    reader = _reader(text, delimiter)
    try:
        for row in reader:
            cells = list[Cell](cell.strip() for cell in row)
            if any(cells):
                rows.append(cells)
                lines.append(before + reader.line_num)
    except csv.Error as error:
        raise UserError(f"{path}: not a csv file ({error}); save it as one") from None
    if above := _rows_above(rows, named, worded):
        rows, lines = rows[above:], lines[above:]
        told = ", ".join(filter(None, (told, f"{above} line(s) above the header passed over")))
    return Grid(_with_corner(rows, named), lines, told)


def _rows_above(rows: list[list[Cell]], named: Callable[[str], bool], worded: Callable[[Sequence[Cell]], bool]) -> int:
    """Number of rows above the header, such as the title of a sheet; 0 if none of the first rows is a header."""
    for number, row in enumerate(rows[:TITLE]):
        if worded(row):
            return number
        if any(isinstance(cell, str) and cell and named(cell) for cell in row):
            return 0
    return 0


def _with_corner(rows: list[list[Cell]], named: Callable[[str], bool]) -> list[list[Cell]]:
    """Rows with `image` in front of a header that has one cell less than every row, as R and CelebA write it."""
    lengths = {max((n for n, cell in enumerate(row, 1) if cell), default=0) for row in rows[1:]}
    header = [cell for cell in rows[0] if cell] if rows else []
    images = all(isinstance(row[0], str) and named(row[0]) for row in rows[1:10])
    if lengths == {len(header) + 1} and len(header) > 1 and images:
        return [["image", *header], *rows[1:]]
    return rows


def _reader(text: str, delimiter: str) -> Any:
    return csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)


def _delimiter(text: str, named: Callable[[str], bool], worded: Callable[[Sequence[Cell]], bool]) -> str:
    """The delimiter with which most lines have a cell that names a picture. A known header decides between equal signs.

    csv.Sniffer and clevercsv judge the text alone. Existing pictures tell more, also if labels hold several of these
    signs.
    """

    def fit(delimiter: str) -> tuple[int, bool, int, bool]:
        try:
            rows = list(islice(_reader(text, delimiter), SAMPLE))
        except csv.Error:
            return 0, False, 0, False
        rows = [row for row in rows if len(row) > 1]
        hits = sum(any(named(cell.strip()) for cell in row[:SAMPLE]) for row in rows)
        header = bool(rows) and worded(rows[0])
        alike = max(Counter(map(len, rows)).values(), default=0)
        return hits, header, alike, delimiter == ","

    return max(DELIMITERS, key=lambda delimiter: (*fit(delimiter), delimiter != " "))


def grid_of_records(records: Sequence[dict[str, Any]], told: str) -> Grid:
    """Objects of JSON as rows. The first row holds all keys."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    rows = [[cell_of_json(record.get(key)) for key in keys] for record in records]
    return Grid([list(keys), *rows], [0, *range(1, len(rows) + 1)], told)


def cell_of_json(value: Any) -> Cell:
    """A value of JSON as a cell. An object, such as Label Studio's choices, becomes the names that it holds."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return tuple(str(name).strip() for part in value for name in _names(part))
    if isinstance(value, dict):
        return tuple(str(name).strip() for name in _names(value))
    return json.dumps(value)


def _names(value: Any) -> list[Any]:
    """Names in an entry of a list: the entry, or the values that an object has under a key for names."""
    if not isinstance(value, dict):
        return [] if isinstance(value, list) or value is None else [value]
    keys = [*(key for key in LISTS if key in value), *(key for key in value if key.endswith("labels"))]
    held: Any = value[keys[0]] if keys else []
    return [name for name in held if isinstance(name, str | int)] if isinstance(held, list) else [held]
