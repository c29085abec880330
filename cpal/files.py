"""Atomic writes and checked reads: files get a temporary name until they are complete; arrays are checked when read."""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpal.errors import UserError, again, reading

HOST = re.sub(r"\W", "-", platform.node()) or "host"  # part of temporary names: several machines can write to one disk

TRIES = 10  # to remove a folder that another process writes into


def temporary_name(replaced: str = "") -> str:
    """A new name for an unfinished file or folder of this process; `sweep` removes it after the process has ended.

    `replaced`: the name of a folder before it was set aside. `sweep` restores this name if nothing else has taken it.
    """
    return ".".join(["", HOST, str(os.getpid()), uuid.uuid4().hex[:8], *([replaced] if replaced else []), "tmp"])


def sweep(folder: Path) -> None:
    """Remove temporary files and folders directly in `folder` that ended processes of this machine left there.

    A folder that a killed process had set aside in `put` gets its name back.
    """
    for path in folder.glob(f".{HOST}.*.tmp"):
        pid, _, rest = path.name.removeprefix(f".{HOST}.").partition(".")
        if not pid.isdecimal() or _runs(int(pid)):
            continue
        replaced = rest.removesuffix(".tmp").partition(".")[2]
        if replaced and not os.path.lexists(folder / replaced):
            with suppress(FileNotFoundError):  # another process sweeps too, and was faster
                path.rename(folder / replaced)
        else:
            remove(path)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process belongs to another user
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it is there; another process may remove it too, or write into it."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for left in reversed(range(TRIES)):
        try:
            return _remove_tree(path)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not left:
                raise


def _remove_tree(path: Path) -> None:
    """shutil.rmtree, which passes over what another process has just removed."""

    def pass_over(_: Any, __: str, error: BaseException) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=pass_over)
    else:
        shutil.rmtree(path, onerror=lambda function, name, info: pass_over(function, name, info[1]))


def modified(path: Path) -> float:
    """Time of the last change, as of `os.stat`; 0 when another process has just removed the path."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def whole_file(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` when the block ends without an error.

    The temporary file lies in the folder `scratch`, which must be on the same disk, or else beside `path`. A killed
    process leaves the file there, so `scratch` must not be a folder that other programs read or publish.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path if scratch else path.resolve()  # a link, such as to a shared params.yaml, stays
    temporary = (scratch or target.parent) / temporary_name()
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):
            error.filename = str(path)  # the name that the user knows
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it replaces `path` with its content when the block ends without an error."""
    path = path.resolve()  # if `path` is a link to another disk, the link stays
    temporary = path.with_name(temporary_name())
    temporary.mkdir(parents=True)
    try:
        yield temporary
        put(temporary, path, path.parent)
    finally:
        remove(temporary)


def put(source: Path, target: Path, scratch: Path) -> None:
    """Rename a file or folder to `target`, replacing what is there; all three paths must be on one disk.

    A folder at `target` is first set aside in `scratch`. So `target` is complete at any time, old or new, except for an
    instant between two renames, when it is missing. If the second rename fails, the old folder is put back. If the
    process is killed in this instant, the next `sweep` does so, provided that `target` lies directly in `scratch`.
    """
    if target.is_dir() or (source.is_dir() and target.is_symlink()):
        old = scratch / temporary_name(target.name if target.parent == scratch else "")
        target.rename(old)
        try:
            source.rename(target)
        except BaseException:
            if not os.path.lexists(target):
                old.rename(target)
            raise
        remove(old)
    else:
        source.replace(target)


def write_json(path: Path, content: Any, scratch: Path | None = None) -> None:
    """Write indented JSON, keys in the given order so that git shows small diffs; `scratch` as in `whole_file`."""
    with whole_file(path, scratch) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Arrays:
    """Arrays of an .npz file by name. `cure` is the advice in the error message if the content is invalid."""

    path: Path
    content: dict[str, np.ndarray]
    cure: str

    def take(self, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> np.ndarray:
        """The array of this name; None in `shape` allows any length.

        Raises UserError if the array is missing, has another dtype or shape, or holds NaN or infinity.
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
    """All arrays of an .npz file that `stage` wrote; pickled content is refused.

    Raises UserError if the file is missing or damaged; the message has `before` before the cure.
    """
    with (
        reading(path, stage=stage, before=before),
        path.open("rb") as file,  # opened here, because NumPy does not close a damaged file
        np.load(file, allow_pickle=False) as stored,
    ):
        content = dict(stored)
    return Arrays(path, content, before + again(stage))
