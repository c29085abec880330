"""The exception for errors that the user can fix (settings, data, disk), and helpers that raise it."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

# Exceptions of parsers for invalid content. Some parsers, such as zipfile and NumPy, raise OSError without a file name.
DAMAGED: tuple[type[Exception], ...] = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OSError, RuntimeError, SyntaxError),
    *(BadZipFile, zlib.error, TokenError),
)


class UserError(ValueError):
    """An error that the user can fix. Its message says what is wrong, where, and how to fix it.

    Stages print the message without a traceback and exit with code 2.
    """

    def __init__(self, message: str) -> None:
        # A DataLoader raises a worker's error again, with the printed traceback as message: keep the original message.
        super().__init__(message.rpartition(f"{UserError.__module__}.UserError: ")[2].strip())


@contextmanager
def reading(path: Path, *, stage: str, before: str = "") -> Iterator[None]:
    """Turn a parser's error into a UserError that says to run `stage` again, because its file is missing or damaged.

    `before` is inserted before this advice. Put only the call of the parser into the block: an error in our own code
    does not mean that the file is damaged.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {before}run the {stage} stage first: dvc repro {stage}") from None
    except DAMAGED as error:
        if isinstance(error, OSError) and error.filename is not None:  # about access to the file, not about its content
            raise
        raise UserError(f"{path}: damaged; {before}{again(stage)}") from None


def again(stage: str) -> str:
    """The advice to run a stage again because its result is invalid.

    DVC may consider the result up to date, so -f forces the stage. -f alone would also force all earlier stages; -s
    skips them.
    """
    return f"run the {stage} stage again: dvc repro -f -s {stage}"
