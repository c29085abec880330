"""Whole files or none: everything is written to a temporary name and renamed. Arrays are checked when they are read."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpal.errors import UserError, again, reading


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if str(error.filename) == str(temporary):
            error.filename = str(path)  # the name that the user knows
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path` that replaces it, with all it holds, when the block ends without an error."""
    path = path.resolve()  # so that a link to a roomier disk stays a link
    temporary = path.with_name(f".{path.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed run left behind
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Indented, keys in the order given, so that git shows a small diff."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Arrays:
    """Arrays of an .npz file by name, and the cure for a file that does not hold what it should."""

    path: Path
    content: dict[str, np.ndarray]
    cure: str

    def take(self, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> np.ndarray:
        """The array of this name; None in the shape stands for any length.

        Raises UserError when there is no such array, for another dtype or shape, and for numbers that are not finite.
        """
        if name not in self.content:
            raise self.wrong(f"holds no `{name}`")
        array = self.content[name]
        fits = len(array.shape) == len(shape) and all(b in (a, None) for a, b in zip(array.shape, shape, strict=True))
        if array.dtype != dtype or not fits:
            wanted = " x ".join("any" if length is None else str(length) for length in shape)
            found = " x ".join(map(str, array.shape))
            raise self.wrong(f"`{name}` is {array.dtype} of {found}, not {np.dtype(dtype)} of {wanted}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise self.wrong(f"`{name}` has values that are no finite numbers")
        return array

    def wrong(self, what: str) -> UserError:
        return UserError(f"{self.path}: {what}; {self.cure}")


def read_arrays(path: Path, *, stage: str, before: str = "") -> Arrays:
    """All arrays of an .npz file without pickles that `stage` wrote.

    Raises UserError when it is missing or cannot be read to its end, with `before` before the cure.
    """
    with (
        reading(path, stage=stage, before=before),
        path.open("rb") as file,  # a path that NumPy opens stays open when the file is damaged
        np.load(file, allow_pickle=False) as stored,
    ):
        content = dict(stored)
    return Arrays(path, content, before + again(stage))
