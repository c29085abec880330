"""Moves finished work to a stage's outputs: complete, and with the expected files only."""

import errno
import shutil
from collections.abc import Collection
from pathlib import Path

from cpal.errors import UserError
from cpal.files import put, remove, temporary_name
from stages.job.workdir import drop_old_works, give_back

KEPT = 4  # number of a stage's newest works that stay


def publish(
    folder: Path, outs: dict[str, Path], *, scratch: Path, files: Collection[str] | None = None, keep: bool = False
) -> None:
    """Move folder/NAME to each output, then remove the folder and the oldest other works of the stage.

    files: paths below each output folder that it must hold; other files are not published. scratch: a folder on the
    disk of the outputs, for unfinished copies. With `keep`, the outputs are copies, so that a later run with the same
    fingerprint finds the finished work. Works that another process uses stay. Raises UserError if a file is missing.
    """
    for name in outs:
        if files is not None:
            _check_files(folder / name, files)
    drop_old_works(folder, KEPT - keep)
    scratch.mkdir(parents=True, exist_ok=True)
    for name, out in outs.items():
        out.parent.mkdir(parents=True, exist_ok=True)
        _put(folder / name, out, scratch, keep=keep)
    if not keep:
        remove(folder)
    give_back(folder)


def _put(source: Path, out: Path, scratch: Path, *, keep: bool) -> None:
    """Rename; copy if `keep` is set or the output is on another disk.

    shutil.copytree is not used: on a full disk it collects all errors in one error that names no file.
    """
    if not keep:
        try:
            return put(source, out, scratch)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    copy = scratch / temporary_name()
    try:
        if source.is_dir():
            copy.mkdir()
            for path in sorted(source.rglob("*")):
                target = copy / path.relative_to(source)
                target.mkdir() if path.is_dir() else shutil.copyfile(path, target)
        else:
            shutil.copyfile(source, copy)
        put(copy, out, scratch)
    finally:
        remove(copy)


def _check_files(folder: Path, files: Collection[str]) -> None:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if missing := sorted(set(files) - found):
        raise UserError(
            f"{folder}: lacks {len(missing)} of {len(files)} files, such as {missing[0]}, which something else has "
            "removed; run the stage again"
        )
    for name in found - set(files):
        remove(folder / name)
