"""Whole files or none: everything is written to a temporary name and renamed. Arrays are checked when they are read."""

import hashlib
import json
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpal.errors import UserError, again, reading

HOST = re.sub(r"\W", "-", platform.node()) or "host"  # processes of several machines can write to one disk


def temporary_name() -> str:
    """A new name for unfinished work of this process, which `sweep` finds when the process is gone."""
    return f".{HOST}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that are gone left under a temporary name in the folder itself."""
    for path in folder.glob(f".{HOST}.*.tmp"):
        pid = path.name.removeprefix(f".{HOST}.").partition(".")[0]
        if pid.isdecimal() and not _runs(int(pid)):
            remove(path)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block ends without an error.

    It lies in the folder `scratch`, which must be on the same disk, else beside `path`. A killed process leaves it
    there, so that a folder which others read or publish must not be the scratch.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (scratch or path.parent) / temporary_name()
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):
            error.filename = str(path)  # the name that the user knows
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path` that replaces it, with all it holds, when the block ends without an error."""
    path = path.resolve()  # so that a link to a roomier disk stays a link
    temporary = path.with_name(temporary_name())
    temporary.mkdir(parents=True)
    try:
        yield temporary
        put(temporary, path, path.parent)
    finally:
        remove(temporary)


def put(source: Path, target: Path, scratch: Path) -> None:
    """Rename a file or folder to `target`, in place of what is there; all three are on one disk.

    What was there is put aside into `scratch` first, so that the target is whole at any time, the old one or the new
    one, but for an instant between two renames.
    """
    if target.is_dir() or (source.is_dir() and target.is_symlink()):
        old = scratch / temporary_name()
        target.rename(old)
        source.rename(target)
        remove(old)
    else:
        source.replace(target)


def write_json(path: Path, content: Any, scratch: Path | None = None) -> None:
    """Indented, keys in the order given, so that git shows a small diff; `scratch` as in `whole_file`."""
    with whole_file(path, scratch) as temporary:
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
