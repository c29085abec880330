"""Finds what this machine and the checkout have, and what they lack."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from cpal.report.provenance import commit, versions
from stages.job.options import DEFAULT_WORKERS
from stages.job.paths import CACHE, DATA, PIPELINE

LOCKS = Path("installation/locks")
ROOM = 2e9  # bytes of disk that a run on the toy data takes, with DVC's cache
MEMORY = 4e9  # bytes of memory that the largest stage of this run takes


COMMIT = (  # as installation/check_machine.sh says; without the settings of git, whose author may be unset
    "git init && git add --all && git -c user.name=me -c user.email=me@localhost commit --quiet --message 'CPAL as "
    "downloaded'"
)


class DoctorFinding(NamedTuple):
    """One line of the report. `cure` is None if nothing is wrong. If `needed`, no run works without it."""

    what: str
    found: str
    cure: str | None = None
    needed: bool = False


def packages() -> Iterator[DoctorFinding]:
    locked = {name: version for path in sorted(LOCKS.glob("*.txt")) for name, version in _locked(path)}
    for name, version in versions().items():
        if version == "not installed":
            yield DoctorFinding(name, version, "make setup", needed=True)
        elif name in locked and locked[name] != version.partition("+")[0]:
            yield DoctorFinding(name, f"{version}, but {locked[name]} is tested", "make setup")
        else:
            yield DoctorFinding(name, version)


def _locked(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"([\w.-]+)==([\w.]+)", line):
            yield found[1], found[2]


def machine() -> Iterator[DoctorFinding]:
    threads = os.environ.get("OMP_NUM_THREADS")
    yield DoctorFinding("processors", f"{DEFAULT_WORKERS}" + (f", OMP_NUM_THREADS={threads}" if threads else ""))
    total, free = psutil.virtual_memory().total, psutil.virtual_memory().available
    cure = "close other programs, or lower batch_size and crop_size" if free < MEMORY else None
    yield DoctorFinding("memory", f"{total / 1e9:.0f} GB, {free / 1e9:.1f} GB free", cure)
    try:
        import torch
    except ImportError:
        return
    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    if gpus or torch.backends.mps.is_available():
        yield DoctorFinding("device", ", ".join(gpus) or "Apple's GPU (mps)")
        return
    cure = None
    if torch.version.cuda and shutil.which("nvidia-smi"):
        cure = "the driver is too old for this torch: update it, or TORCH=cpu make setup"
    yield DoctorFinding("device", "cpu", cure)


def disks() -> Iterator[DoctorFinding]:
    for what, folder in (("disk of data", DATA), ("disk of .cache", CACHE)):
        existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
        free = shutil.disk_usage(existing).free
        cure = "free some space, or set CPAL_CACHE to a folder on a roomier disk" if free < ROOM else None
        yield DoctorFinding(what, f"{free / 1e9:.1f} GB free in {existing.resolve()}", cure)


def project() -> Iterator[DoctorFinding]:
    here = commit(results=("data", str(PIPELINE.with_suffix(".lock"))))
    cure = COMMIT if here.startswith("unknown") else None
    yield DoctorFinding("git", here.replace("clean", "code and settings as committed")[:120], cure, needed=True)
    links = _said(sys.executable, "-m", "dvc", "config", "cache.type") if Path(".dvc").is_dir() else None
    cure = None if links is not None else "dvc init, then git add .dvc"
    yield DoctorFinding(
        "DVC", f"cache links: {links or 'copy'}" if links is not None else "no .dvc here", cure, needed=True
    )


def _said(*command: str) -> str | None:
    """The output of a command; None if the command does not exist."""
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return None
