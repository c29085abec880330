"""A text as rows of cells: lines of CSV under the delimiter that is right, or records of JSON."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cpal.errors import UserError

Cell = str | tuple[str, ...]  # a tuple: a list of names, as JSON holds it
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blank"}
SAMPLE = 200  # rows that tell the delimiter and the columns
LISTS = ("choices", "labels", "label", "rectanglelabels", "polygonlabels", "brushlabels", "categories", "names")


@dataclass(frozen=True)
class Grid:
    """`lines` gives each row's line in the file. `told`: what is unusual about its form, such as "semicolon"."""

    rows: list[list[Cell]]
    lines: list[int]
    told: str


def grid_of_text(text: str, path: Path, named: Callable[[str], bool], worded: Callable[[Sequence[Cell]], bool]) -> Grid:
    """Cells of a CSV text, blanks around them stripped, empty lines left out.

    `named` tells whether a cell names a picture that is there, `worded` whether a row looks like a header. Raises
    UserError for what is no CSV.
    """
    before, told = 0, ""
    while text.startswith("#") and not worded(text.partition("\n")[0].split(",")):  # remarks above the table
        text, before = text.partition("\n")[2], before + 1
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:  # Excel's own way to name the delimiter
        delimiter, text, before = first.strip()[4], rest, before + 1
    else:
        delimiter = _delimiter(text, named, worded)
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
    return Grid(rows, lines, told)


def _reader(text: str, delimiter: str) -> Any:
    return csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)


def _delimiter(text: str, named: Callable[[str], bool], worded: Callable[[Sequence[Cell]], bool]) -> str:
    """The delimiter under which most lines have a cell that names a picture; then the one that makes a known header.

    csv.Sniffer and clevercsv judge the look of a text alone; which pictures are there tells more, also where labels
    hold several of these signs.
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
    """Objects of JSON as rows; the first row holds the keys of all of them."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    rows = [[cell_of_json(record.get(key)) for key in keys] for record in records]
    return Grid([list(keys), *rows], [0, *range(1, len(rows) + 1)], told)


def cell_of_json(value: Any) -> Cell:
    """A value of JSON as a cell; objects, such as Label Studio's choices, as the names that they hold."""
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
    """Names in an entry of a list: itself, or what an object holds under a key for names."""
    if not isinstance(value, dict):
        return [] if isinstance(value, list) or value is None else [value]
    held: Any = next((value[key] for key in LISTS if key in value), [])
    return [name for name in held if isinstance(name, str | int)] if isinstance(held, list) else [held]
