"""A disk that is full: the project lies on a file system of its own with little room, which root can mount."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from faults.project import Tiny, copy, remove_outs, scratch, stage_run
from faults.records import ONLY, Fault, judged, refused

PAGE = 4096
PAGES = (0, 1, 3, 8, 24, 96, 400, 1000)  # free ones, of PAGE bytes
INODES = (0, 2, 4, 6, 9)  # free ones, for a file or folder each
ROOM = "size=1g,nr_inodes=100000"  # a limit, or none could be set later


@dataclass(frozen=True)
class Full:
    """`what` there is little of: pages or inodes."""

    tiny: Tiny
    stage: str
    what: str
    free: int

    @property
    def id(self) -> str:
        return f"disk full/{self.stage}/{self.free} {self.what}"


def fill_and_run(item: Full) -> Fault:
    """The stage must say that the disk is full; with room again, it must end as if nothing had been."""
    folder = Path(tempfile.mkdtemp(prefix="disk_", dir=scratch()))
    project = folder / "p"
    project.mkdir()
    _mount("-t", "tmpfs", "-o", ROOM, "tmpfs", str(project))
    try:
        plain = copy(item.tiny, item.stage, folder / "copied")
        shutil.copytree(plain, project, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(plain)
        state = os.statvfs(project)
        used, inodes = (state.f_blocks - state.f_bfree) * state.f_frsize, state.f_files - state.f_ffree
        pages, files = (item.free, 100000) if item.what == "pages" else (10 * PAGES[-1], inodes + item.free)
        _mount("-o", f"remount,size={max(PAGE, used + pages * PAGE)},nr_inodes={files}", str(project))
        ending = stage_run(project, item.stage)
        outcome, detail = judged(item.tiny, project, item.stage, ending)
        if ending.code != 0:
            outcome, detail = refused(ending, ["free some space"])
            _mount("-o", f"remount,{ROOM}", str(project))
            remove_outs(project, item.stage)
            again = judged(item.tiny, project, item.stage, stage_run(project, item.stage))
            if again[0] != "same" and outcome == "named":
                outcome, detail = again[0], f"the next run: {again[1]}"
        if ONLY:
            print(f"{item.id}: {outcome}; {detail}\n{ending.output}")
        return Fault(item.id, outcome, detail)
    finally:
        subprocess.run(["umount", "-l", str(project)], check=True)
        shutil.rmtree(folder)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def mounts_here() -> str:
    """Why no file system can be mounted, if so."""
    if os.geteuid() != 0:
        return "only root mounts a small disk"
    folder = tempfile.mkdtemp(dir=scratch())
    try:
        _mount("-t", "tmpfs", "-o", ROOM, "tmpfs", folder)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no file system can be mounted here: {error}"
    subprocess.run(["umount", folder], check=True)
    return ""


def unmount_all() -> None:
    """What a fault that was broken off has left mounted."""
    mounts = Path("/proc/mounts")
    for line in mounts.read_text(encoding="utf-8").splitlines() if mounts.exists() else ():
        if (place := line.split()[1]).startswith(f"{scratch()}/"):
            subprocess.run(["umount", "-l", place], check=False)
