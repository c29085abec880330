"""The one exception for what a user can put right: settings, data, disk."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile


class UserError(ValueError):
    """What is wrong, where, and the cure. Stages print it without a traceback and exit with code 2."""

    def __init__(self, message: str) -> None:
        # A DataLoader raises a worker's error again with its printed traceback for a message: keep what it said.
        super().__init__(message.rpartition(f"{UserError.__module__}.UserError: ")[2].strip())


@contextmanager
def reading(path: Path, *, stage: str = "", cure: str = "") -> Iterator[None]:
    """Around the code that reads a stage's result: missing or damaged, it is to be made again, as `cure` says if given.

    A damaged one is forced, since DVC may hold it for right; -s spares the stages before, which -f would force as well.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {cure or f'run the {stage} stage first: dvc repro {stage}'}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, BadZipFile, zlib.error):
        again = f"run the {stage} stage again: dvc repro -f -s {stage}"
        raise UserError(f"{path}: damaged; {cure or again}") from None
