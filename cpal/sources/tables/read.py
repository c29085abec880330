"""Reads a file of labels in any known form. The content tells the form, and not the ending of the name."""

from collections.abc import Callable
from pathlib import Path

from cpal.errors import UserError
from cpal.settings.access import check_readable
from cpal.sources.tables.columns import is_header
from cpal.sources.tables.forms import table_of_grid
from cpal.sources.tables.grid import grid_of_text
from cpal.sources.tables.json_labels import read_json
from cpal.sources.tables.rows import Reading, Table
from cpal.sources.tables.text import MISSING, read_text
from cpal.sources.tables.via_labels import is_via_header, read_via_csv
from cpal.sources.tables.xml_labels import read_cvat


def read_table(path: Path, reading: Reading, named: Callable[[str], bool], problems: list[str]) -> Table | None:
    """The labels in a file; None if it cannot be read. Problems are appended to `problems`.

    `named` tells whether a text names an existing picture, in any spelling.
    """
    try:
        check_readable(path, missing=MISSING)
        with path.open("rb") as stream:
            start = stream.read(1000)
        marks = start.decode("utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1", "ignore")
        mark = marks.removeprefix("\xef\xbb\xbf").strip()[:2]
        if mark[:1] == "<":
            return read_cvat(path, reading.encoding)
        if mark[:1] == "{" or mark[:1] == "[" and mark != "['":
            return read_json(path, reading, named, problems)
        text, encoding = read_text(path, reading.encoding)
        grid = grid_of_text(text, path, named, is_header)
        if grid.rows and is_via_header(grid.rows[0]):
            table = read_via_csv(grid, path, problems)
        else:
            table = table_of_grid(grid, path, reading, named, problems)
        return Table(table.rows, f"{encoding}; {table.told}" if encoding else table.told)
    except OSError as error:
        problems.append(f"{path}: unreadable ({error.strerror}); copy the file anew")
    except UserError as error:
        problems.append(str(error))
    return None
