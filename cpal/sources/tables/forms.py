"""The forms of a table: one row an image, one row a label, one column a class."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from cpal.errors import UserError
from cpal.sources.tables.cells import split_cells
from cpal.sources.tables.columns import NO, YES, Columns, find_columns, number
from cpal.sources.tables.grid import Cell, Grid
from cpal.sources.tables.rows import Reading, Row, Table, counted, joined

OFTEN = 0.05  # share of images with several rows from which on a table has one row a label


def table_of_grid(grid: Grid, path: Path, reading: Reading, named: Callable[[str], bool], problems: list[str]) -> Table:
    """The table's images. Raises UserError if its columns or numbers can be read in two ways."""
    if not grid.rows:
        raise UserError(f"{path}: is empty; write a first line image,labels or image,labels,split")
    columns = find_columns(grid, lambda cell: isinstance(cell, str) and bool(cell) and named(cell), path)
    rows = _full_rows(grid, columns, path, problems)
    if columns.classes:
        header = [str(cell).strip() for cell in grid.rows[0]]
        found, form = _column_a_class(rows, columns, header, path, reading)
        images = joined(found, str(path), problems)
    else:
        images, form = _rows_of_names(rows, columns, path, reading, problems)
    parts = (grid.told, columns.told, form)
    return Table(tuple(images), "; ".join(part for part in parts if part))


Numbered = tuple[int, list[Cell]]  # line of the file, cells


def _full_rows(grid: Grid, columns: Columns, path: Path, problems: list[str]) -> list[Numbered]:
    """Rows that name an image, filled up with empty cells. Other rows, and cells without a header, are problems."""
    width = len(_trimmed(grid.rows[0])) if columns.first else max(map(len, grid.rows))
    needed = max(columns.image, columns.split or 0, *columns.labels, *columns.classes)
    rows = list[Numbered]()
    for line, row in list(zip(grid.lines, grid.rows, strict=True))[columns.first :]:
        cells = row + [""] * (max(width, needed + 1) - len(row))
        if len(_trimmed(row)) > max(width, needed + 1):
            wanted = ",".join(map(str, grid.rows[0][:width]))
            problems.append(f"{path}, line {line}: {len(row)} columns; write {wanted[:80]} with ; between class names")
        elif not cells[columns.image]:
            problems.append(f"{path}, line {line}: names no image; write the name of the image in each row")
        elif isinstance(cells[columns.image], str):
            rows.append((line, cells))
        else:
            problems.append(f"{path}, line {line}: holds a list in place of an image")
    return rows


def _trimmed(row: Sequence[Cell]) -> list[Cell]:
    """Without empty cells at its end."""
    end = next((n for n in range(len(row), 0, -1) if row[n - 1]), 0)
    return list(row[:end])


def _split(cells: Sequence[Cell], columns: Columns, path: Path) -> str | None:
    if columns.split is None:
        return None
    cell = str(cells[columns.split])
    if columns.asked and cell.lower() not in YES | NO:
        raise UserError(f"{path}: the column of the split holds {cell[:40]!r}, neither yes nor no; write 1 or 0")
    return cell if not columns.asked else columns.asked if cell.lower() in YES else "train"


def _column_a_class(
    rows: Sequence[Numbered], columns: Columns, header: Sequence[str], path: Path, reading: Reading
) -> tuple[list[Row], str]:
    """The classes whose column says yes (1, true, x), or whose number is at least the threshold."""
    used = Counter(str(cells[n]).lower() for _, cells in rows for n in columns.classes)
    zero, minus = used.keys() & {"0", "0.0"}, used.keys() & {"-1", "-1.0"}
    yes_no = used.keys() <= YES | NO and not (minus and zero) and not ("" in used and zero)
    if not yes_no and reading.threshold is None:
        raise UserError(_odd_cells(used, [header[n] for n in columns.classes], path))

    def shows(cell: str) -> bool:
        if reading.threshold is not None and (value := number(cell)) is not None:
            return value >= reading.threshold
        return cell.lower() in YES

    found = [
        Row(
            str(cells[columns.image]),
            frozenset(header[n] for n in columns.classes if shows(str(cells[n]))),
            _split(cells, columns, path),
        )
        for _, cells in rows
    ]
    told = f"one column a class ({len(columns.classes)})"
    if minus and yes_no:
        told += ", -1 means no"
    if not yes_no:
        told += f", shown from {reading.threshold:g} on"
    return found, told


def _odd_cells(used: Counter[str], names: Sequence[str], path: Path) -> str:
    """The question about columns of classes with other cells than 0 and 1. It names the possible meanings."""
    odd = sorted(used.keys() - {"0", "1", "0.0", "1.0"}, key=lambda cell: (cell != "", cell))
    shown = ", ".join(f"{cell!r} ({counted(used[cell], 'cell')})" for cell in odd[:4]) + ", ..." * (len(odd) > 4)
    whole = all(re.fullmatch(r"-?\d*(\.0*)?", cell) for cell in odd)
    meaning = "1, if these are numbers of objects" if whole else "0.5, if these are probabilities"
    cure = f"set data.label_threshold to the number from which on an image shows the class: {meaning}"
    if used.keys() & {"-1", "-1.0"}:
        cure += "; -1 then means no: if it means unsure, take out those images, or write 0 or 1"
    if "" in used:
        cure += "; an empty cell then counts as 0"
    if len(names) == 1:
        cure += f"; if they are classes, write label instead of {names[0]} into the header"
    return f"{path}: the columns of classes hold {shown}, not 0 and 1 only; {cure}"


def _rows_of_names(
    rows: Sequence[Numbered], columns: Columns, path: Path, reading: Reading, problems: list[str]
) -> tuple[list[Row], str]:
    """One row an image, or one row a label: the latter if images are repeated."""
    kept, told_confidence = _sure(rows, columns, path, reading)
    cells = [cell for _, row in rows for cell in (row[n] for n in columns.labels)]
    names, separated = split_cells(cells, reading.separator, str(path), problems)
    each = len(columns.labels)
    together = [frozenset[str]().union(*names[n * each : n * each + each]) for n in range(len(rows))]
    found = [
        Row(str(row[columns.image]), shown if sure else frozenset(), _split(row, columns, path))
        for (_, row), shown, sure in zip(rows, together, kept, strict=True)
    ]
    counts = Counter(row.image for row in found)
    again = sum(count > 1 for count in counts.values())
    one_label = all(len(row.names) <= 1 for row in found) and again > 0
    clear = not columns.many or again >= 2 and again >= OFTEN * len(counts)
    if again and not (one_label and clear):
        return _once(found, rows, path, problems, one_label=one_label), _form("one row an image", separated)
    if not again:
        return found, _form("one row an image", separated, told_confidence)
    images = joined(found, str(path), problems)
    return images, _form(f"one row a label, {counted(again, 'image')} with several", separated, told_confidence)


def _form(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _once(
    found: Sequence[Row], rows: Sequence[Numbered], path: Path, problems: list[str], *, one_label: bool
) -> list[Row]:
    """Each image's last row. A repeated image is a problem, unless its rows say the same.

    `one_label`: no row has several labels.
    """
    images: dict[str, Row] = {}
    again = list[tuple[int, str]]()
    for row, (line, _) in zip(found, rows, strict=True):
        if images.get(row.image, row) != row:
            again.append((line, row.image))
        images[row.image] = row
    if again:
        line, image = again[0]
        more = f" ({counted(len(again) - 1, 'more line')} like this)" if len(again) > 1 else ""
        other = ", or, if each line holds one of an image's labels, name this column label" if one_label else ""
        problems.append(f"{path}, line {line}: image {image} for the second time{more}; take out one line{other}")
    return list(images.values())


def _sure(rows: Sequence[Numbered], columns: Columns, path: Path, reading: Reading) -> tuple[list[bool], str]:
    """Whether each row has a sufficient confidence, and a phrase with the number of the others."""
    place = columns.confidence
    if place is None:
        return [True] * len(rows), ""
    values = [number(str(row[place])) for _, row in rows]
    if None in values:
        line, row = rows[values.index(None)]
        raise UserError(f"{path}, line {line}: the confidence {str(row[place])[:40]!r} is no number; correct it")
    told = [value for value in values if value is not None]
    if reading.threshold is None and not set(told) <= {0, 1}:
        raise UserError(
            f"{path}: the confidence goes from {min(told):g} to {max(told):g}; set data.label_threshold to the number "
            "from which on a label counts, such as 0.5, or 0 for all of them"
        )
    least = 1 if reading.threshold is None else reading.threshold
    kept = [value >= least for value in told]
    return kept, f"{counted(kept.count(False), 'label')} left out with a confidence below {least:g}"
