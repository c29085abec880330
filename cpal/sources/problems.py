"""Problems of a data set that the user can put right: collected, shortened, and told in one message.

Functions of this package that take `problems` append a line for each problem. One message then lists all of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cpal.data.dataset import twins
from cpal.errors import UserError

SHOWN = 20  # problems of a data set that one message lists


def refuse(problems: Sequence[str], root: Path) -> None:
    """Raise a UserError that lists the problems, if there are any."""
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        title = f"data set {root}: {len(problems)} problem(s) to put right:"
        raise UserError("\n  - ".join([title, *problems[:SHOWN], *more]))


@contextmanager
def noted(problems: list[str]) -> Iterator[None]:
    """A UserError in the block is appended to the problems."""
    try:
        yield
    except UserError as error:
        problems.append(str(error))


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first names, and the number of the others."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def reserved_names(classes: Sequence[str]) -> list[str]:
    """Problems of classes whose names mean something else in masks that annotation tools write."""
    meanings = {"background": "what no class covers"} | dict.fromkeys(("void", "ignored"), "pixels without a label")
    return [
        f"a class is named {name}, which is {meanings[name.casefold()]}; leave it away, or rename it"
        for name in classes
        if name.casefold() in meanings
    ]


def missing_folder(root: Path, cure: str) -> list[str]:
    """The problem of a data.root that is no folder; empty if data.root is a folder."""
    if root.is_dir():
        return []
    start = "" if root.is_absolute() else f" (a relative path starts at {Path.cwd()})"
    return [f"data.root: no folder {root}{start}; {cure}"]


def twin_problems(ids: Iterable[str]) -> list[str]:
    """The problem of ids that some file systems do not tell apart. Equal ids are reported elsewhere."""
    pairs = [f"{first} and {second}" for first, second in twins(ids) if first != second]
    if not pairs:
        return []
    return [
        f"{len(pairs)} image(s) whose id differs from another's in capital letters only, which are one file on many "
        f"computers; rename: {some(pairs)}"
    ]
