"""The one exception for what a user can put right: settings, data, disk."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

# What parsers raise for content that is not theirs; zipfile and NumPy among others raise OSError without a file's name.
DAMAGED: tuple[type[Exception], ...] = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OSError, RuntimeError, SyntaxError),
    *(BadZipFile, zlib.error, TokenError),
)


class UserError(ValueError):
    """What is wrong, where, and the cure. Stages print it without a traceback and exit with code 2."""

    def __init__(self, message: str) -> None:
        # A DataLoader raises a worker's error again with its printed traceback for a message: keep what it said.
        super().__init__(message.rpartition(f"{UserError.__module__}.UserError: ")[2].strip())


@contextmanager
def reading(path: Path, *, stage: str, before: str = "") -> Iterator[None]:
    """Around the one call that parses a stage's result: missing or damaged, it is to be made again.

    `before` is put before the cure. Our own code stays outside, since its errors are no fault of the file.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {before}run the {stage} stage first: dvc repro {stage}") from None
    except DAMAGED as error:
        if isinstance(error, OSError) and error.filename is not None:  # about the file's place, not its content
            raise
        raise UserError(f"{path}: damaged; {before}{again(stage)}") from None


def again(stage: str) -> str:
    """The cure for a stage's result that is not what the stage writes.

    The stage is forced, since DVC may hold the result for right; -s spares the stages before, which -f would force too.
    """
    return f"run the {stage} stage again: dvc repro -f -s {stage}"
