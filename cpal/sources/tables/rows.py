"""What every reader of labels gives, and what the settings say about reading."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cpal.settings.data import DataConfig


class Row(NamedTuple):
    """One image as its table writes it. `split` None: the table has no splits."""

    image: str
    names: frozenset[str]
    split: str | None = None


@dataclass(frozen=True)
class Table:
    """Each image once, in the file's order, and how the file was understood, without a full stop."""

    rows: tuple[Row, ...]
    told: str


@dataclass(frozen=True)
class Reading:
    """What decides between two readings; None: what the file itself tells."""

    separator: str | None = None
    threshold: float | None = None
    encoding: str | None = None


def reading_of(data: DataConfig) -> Reading:
    return Reading(data.label_separator, data.label_threshold, data.label_encoding)


def joined(rows: Iterable[Row], where: str, problems: list[str]) -> list[Row]:
    """Rows of one image brought together; an image in two splits is a problem."""
    names, splits = dict[str, frozenset[str]](), dict[str, str | None]()
    for row in rows:
        names[row.image] = names.get(row.image, frozenset()) | row.names
        if splits.setdefault(row.image, row.split) != row.split:
            problems.append(f"{where}: image {row.image} is in split {splits[row.image]} and in {row.split}; keep one")
    return [Row(image, shown, splits[image]) for image, shown in names.items()]


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
