"""The result of every reader of labels, and the settings for reading."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cpal.settings.data import DataConfig


class Row(NamedTuple):
    """An image with its name in the table. `split` None: the table has no splits."""

    image: str
    names: frozenset[str]
    split: str | None = None


@dataclass(frozen=True)
class Table:
    """`rows`: each image once, in the file's order. `told`: how the file was understood, without a full stop."""

    rows: tuple[Row, ...]
    told: str


@dataclass(frozen=True)
class Reading:
    """Settings that decide between two ways of reading. None: the file decides."""

    separator: str | None = None
    threshold: float | None = None
    encoding: str | None = None


def reading_of(data: DataConfig) -> Reading:
    return Reading(data.label_separator, data.label_threshold, data.label_encoding)


def joined(rows: Iterable[Row], where: str, problems: list[str]) -> list[Row]:
    """Rows with each image once: the names of its rows are joined. An image in two splits is a problem."""
    names, splits = dict[str, frozenset[str]](), dict[str, str | None]()
    for row in rows:
        names[row.image] = names.get(row.image, frozenset()) | row.names
        if splits.setdefault(row.image, row.split) != row.split:
            problems.append(f"{where}: image {row.image} is in split {splits[row.image]} and in {row.split}; keep one")
    return [Row(image, shown, splits[image]) for image, shown in names.items()]


def counted(number: int, one: str, many: str | None = None) -> str:
    """The number with its noun: `1 row`, `2 rows`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
