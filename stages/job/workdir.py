"""Where a long stage keeps unfinished work, so that a killed run continues and a changed setting starts afresh.

DVC removes a stage's outputs before it runs. Work therefore grows in .cache/<stage>/<fingerprint>/ and moves to the
output when done. The fingerprint covers the stage's settings and the content of its `deps` in dvc.yaml, which are its
code and its inputs, and of files that only a setting names, such as first weights. One process at a time works there.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cpal.errors import UserError
from cpal.files import HOST, file_sha256, put, remove, sweep, temporary_name, write_json
from cpal.settings.access import check_readable
from cpal.settings.yaml_files import read_yaml
from stages.job.options import DEFAULT_WORKERS
from stages.job.paths import CACHE, IMPORTED_CAMS, PIPELINE

KEPT = 4  # works of a stage that stay, newest first: finished ones where it keeps them, and unfinished ones
HOLDER = "holder.json"  # in a work folder: the process that works there

_held: dict[Path, FileLock] = {}  # by work folder; a lock that nothing refers to is given back


def work_folder(
    stage: str, settings: Any, *, values: Mapping[str, str] | None = None, inputs: Sequence[Path] = ()
) -> Path:
    """The folder of this stage with these settings and the present inputs; it may hold work to continue.

    Waits while another process works there. This process holds the folder's lock until it ends or publishes; of
    torchrun's processes the first one does. `values` are those of the settings that its deps in dvc.yaml name, as
    ${seeds.maps}; a dep whose setting has none is passed over. `inputs` count as deps do.
    """
    folder = CACHE / stage / _fingerprint(stage, settings, values or {}, inputs)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if os.environ.get("RANK", "0") == "0":
        _take(folder)
    folder.mkdir(exist_ok=True)
    os.utime(folder)
    return folder


def _lock(folder: Path) -> FileLock:
    """The system drops the lock when its process ends, however it ends."""
    return FileLock(folder.with_suffix(".lock"))


def _take(folder: Path) -> None:
    if folder.absolute() in _held:  # a stage that failed is called again in one process
        return
    _held[folder.absolute()] = lock = _lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = {"pid": "?", "host": "?", "since": "?"} | _holder(folder)
        print(
            f"{folder}: process {holder['pid']} on {holder['host']} is at the same work since {holder['since']}; "
            "waiting until it ends",
            file=sys.stderr,
            flush=True,
        )
        lock.acquire(poll_interval=0.5)
    folder.mkdir(exist_ok=True)
    sweep(folder)
    threads, before = os.environ.get("OMP_NUM_THREADS", str(DEFAULT_WORKERS)), _holder(folder).get("threads")
    if before not in (None, threads):
        print(
            f"{folder}: begun with {before} threads, continued with {threads}: results can differ in the last digits; "
            f"OMP_NUM_THREADS={before} avoids this",
            file=sys.stderr,
        )
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    write_json(folder / HOLDER, {"host": HOST, "pid": os.getpid(), "since": since, "threads": threads})


def _holder(folder: Path) -> dict[str, Any]:
    """Who works in the folder, or did last; nothing where it is new."""
    try:
        found = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def check_room(folder: Path, needed: float) -> None:
    """Raises UserError when the folder's disk has fewer bytes left than needed, before hours of work are lost on it."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e9:.2f} GB free, and about {needed / 1e9:.2f} GB needed; free some space, or set "
            "CPAL_CACHE to a folder on a roomier disk"
        )


def publish(
    folder: Path, outs: dict[str, Path], *, scratch: Path, files: Collection[str] | None = None, keep: bool = False
) -> None:
    """Make folder/<name> each output, and drop the folder and the oldest of the stage's other works.

    `files` are the names that every folder among the outputs must hold; nothing else in it is published. `scratch` is a
    folder on the outputs' disk, and no output, for what is not whole yet. With `keep` the outputs are copies: a later
    run with the same fingerprint finds the work done. Another experiment that shares the cache may be at one of the
    other works, which then stays.
    Raises UserError when a file is missing.
    """
    for name in outs:
        if files is not None:
            _check_files(folder / name, files)
    works = [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]
    for work in sorted(works, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT - keep :]:
        _drop(work)
    scratch.mkdir(parents=True, exist_ok=True)
    for name, out in outs.items():
        out.parent.mkdir(parents=True, exist_ok=True)
        _put(folder / name, out, scratch, keep=keep)
    if not keep:
        remove(folder)
    if lock := _held.pop(folder.absolute(), None):
        lock.release()


def _put(source: Path, out: Path, scratch: Path, *, keep: bool) -> None:
    """Rename, or copy where `keep` says so and on another disk."""
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
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if missing := sorted(set(files) - found):
        raise UserError(
            f"{folder}: lacks {len(missing)} of {len(files)} files, such as {missing[0]}, which something else has "
            "removed; run the stage again"
        )
    for name in found - set(files):
        remove(folder / name)


def _drop(work: Path) -> None:
    """Remove a work with its lock, unless a process is at it."""
    lock = _lock(work)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return
    remove(work)
    lock.release()


def _fingerprint(stage: str, settings: Any, values: Mapping[str, str], inputs: Sequence[Path]) -> str:
    missing = "no such file; run stages from the project's folder"
    pipeline = read_yaml(PIPELINE, missing=missing, cure="restore it with: git checkout dvc.yaml")
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    try:
        deps = [_filled(name, values) for name in pipeline["stages"][stage]["deps"]]
    except (TypeError, KeyError):
        raise UserError(f"{PIPELINE}: names no deps of {stage}; restore it with: git checkout dvc.yaml") from None
    for dependency in sorted([*(name for name in deps if "${" not in name), *map(str, inputs)]):
        digest.update(dependency.encode())
        digest.update(_content(Path(dependency), stage).encode())
    return digest.hexdigest()[:16]


def _filled(name: str, values: Mapping[str, str]) -> str:
    """A dep of dvc.yaml with ${key} replaced by its value; a key that has none stays."""
    return re.sub(r"\$\{([\w.]+)\}", lambda found: values.get(found[1], found[0]), name)


def _content(path: Path, stage: str) -> str:
    """Hash of a file, or of a folder's names and files."""
    if path.is_dir():
        digest = hashlib.sha256()
        members = (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        for member in sorted(members):
            digest.update(str(member.relative_to(path)).encode())
            digest.update(_content(member, stage).encode())
        return digest.hexdigest()
    cure = "python -m stages.import_cams" if path == IMPORTED_CAMS else f"dvc repro {stage}"
    check_readable(path, missing=f"missing, {stage} needs it; make it with: {cure}")
    return file_sha256(path)
