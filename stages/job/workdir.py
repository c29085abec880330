"""Folders for unfinished work of long stages: a killed run continues, and a changed setting starts afresh.

DVC removes a stage's outputs before it runs. Work therefore grows in .cache/<stage>/<fingerprint>/ and moves to the
output when finished. The fingerprint covers the stage's settings, the content of its `deps` in dvc.yaml (code and
inputs), and the content of files that only a setting names, such as initial weights. One process at a time works in a
folder.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cpal.errors import UserError
from cpal.files import HOST, modified, remove, sweep, write_json
from stages.job.fingerprint import fingerprint
from stages.job.options import DEFAULT_WORKERS
from stages.job.paths import CACHE

HOLDER = "holder.json"  # in a work folder: the process that works there

_held: dict[Path, FileLock] = {}  # by work folder; Python releases a lock when nothing refers to it


def work_folder(
    stage: str, settings: Any, *, values: Mapping[str, str] | None = None, inputs: Sequence[Path] = ()
) -> Path:
    """The folder of this stage with these settings and the present inputs; it may hold work to continue.

    Waits while another process works there. This process then holds the folder's lock until it ends or publishes; of
    the processes of torchrun, only the first takes the lock. `values`: values of the settings in deps of dvc.yaml, such
    as ${seeds.maps}; a dep with an unknown setting is left out. `inputs` count as deps.
    """
    folder = CACHE / stage / fingerprint(stage, settings, values or {}, inputs)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if os.environ.get("RANK", "0") == "0":
        _take(folder)
    folder.mkdir(exist_ok=True)
    os.utime(folder)
    return folder


def _lock(folder: Path) -> FileLock:
    """The folder's lock; the operating system releases it when the process ends, even if it is killed."""
    return FileLock(folder.with_suffix(".lock"))


def _take(folder: Path) -> None:
    if folder.absolute() in _held:  # a failed stage that is called again in the same process
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
    """The process that works, or last worked, in the folder; empty for a new folder."""
    try:
        found = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def check_room(folder: Path, needed: float) -> None:
    """Raise UserError if the folder's disk has less than `needed` bytes free, before hours of work are lost."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e9:.2f} GB free, and about {needed / 1e9:.2f} GB needed; free some space, or set "
            "CPAL_CACHE to a folder on a roomier disk"
        )


def give_back(folder: Path) -> None:
    """Release the folder's lock for the next process."""
    if lock := _held.pop(folder.absolute(), None):
        lock.release()


def drop_old_works(folder: Path, kept: int) -> None:
    """Remove other works of the stage, except the `kept` newest works and works that another process uses."""
    works = [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]
    for work in sorted(works, key=modified, reverse=True)[kept:]:
        lock = _lock(work)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        remove(work)
        lock.release()
