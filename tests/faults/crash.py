"""Crashes: a stage dies just before one of its changes to files, and is started again as `dvc repro` would."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from faults.project import (
    CACHE,
    CHEAP,
    RANDOM,
    WORK,
    Tiny,
    content,
    copy,
    files_below,
    outs_of,
    remove_outs,
    scratch,
    stage_run,
)
from faults.records import ONLY, Fault, judged
from faults.runner import Ending
from faults.watch import Crash

# The last change before the crash, which the crash can cut: see runner.Watch.
BEFORE: dict[Crash, tuple[str, ...]] = {"torn": ("open",), "power": ("rename", "link")}


@dataclass(frozen=True)
class Point:
    """The stage dies before its n-th change, which is `change`."""

    tiny: Tiny
    stage: str
    crash: Crash
    n: int

    @property
    def id(self) -> str:
        changes = self.tiny.changes[self.stage]
        change = changes[self.n - 1]
        return f"{self.crash}/{self.stage}/{self.n} {change['event']} {RANDOM.sub('*', change['path'])}"


def points(tiny: Tiny, crash: Crash) -> list[Point]:
    """All of them for a kill, else those whose last change gave a file that the crash can cut.

    A power cut cuts files below .cache only: DVC removes outputs before the stage runs again.
    """
    found = []
    for stage in tiny.changes:
        for n in range(1, len(tiny.changes[stage]) + 1):
            last = tiny.changes[stage][n - 2] if n > 1 else None
            if crash == "kill" or last is not None and last["event"] in BEFORE[crash] and _cut(stage, crash, last):
                found.append(Point(tiny, stage, crash, n))
    return found


def _cut(stage: str, crash: Crash, last: dict[str, str]) -> bool:
    return crash == "torn" or last["path"].startswith(f"{CACHE}/")


def crash_and_rerun(point: Point) -> Fault:
    tiny, stage = point.tiny, point.stage
    folder = Path(tempfile.mkdtemp(prefix=f"{point.crash}_", dir=scratch()))
    project = copy(tiny, stage, folder / "p")
    inputs = _inputs(project, stage)
    crashed = stage_run(project, stage, crash=(point.crash, point.n), trace=True)
    complete = set() if stage in CHEAP else _complete(tiny, project, stage, crashed)
    remove_outs(project, stage)
    again = stage_run(project, stage, trace=True)
    outcome, detail = judged(tiny, project, stage, again)
    if crashed.code != -9:
        detail = f"no crash: it ended with {crashed.code}; {detail}"
    elif outcome in ("same", "leftovers"):
        redone = sorted(complete & {RANDOM.sub("*", c["path"]) for c in again.changes if c["event"] != "remove"})
        if _inputs(project, stage) != inputs:
            outcome, detail = "lost", "an input was written to"
        elif redone:
            outcome, detail = "lost", f"{len(redone)} done again: {', '.join(redone[:2])}"
    if ONLY:
        print(f"{point.id}: {outcome}; {detail}\n{again.output}\nThe project: {project}")
    else:
        shutil.rmtree(folder)
    return Fault(point.id, outcome, detail)


def _inputs(project: Path, stage: str) -> dict[str, tuple[int, int]]:
    """Inode and time of each file below data/ that the stage does not write: hard links to the tiny project's."""
    outs = tuple(outs_of(stage))
    found = {}
    for path in files_below(project / "data"):
        name = path.relative_to(project).as_posix()
        if not name.startswith(outs) and not path.name.startswith("."):
            found[name] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def _complete(tiny: Tiny, project: Path, stage: str, crashed: Ending) -> set[str]:
    """Work that cost time and was complete at the crash, wherever it lies: its place in .cache in the undisturbed run.

    A map or mask is complete when it has an output's bytes, of an image with two files when both have; a checkpoint
    when other changes followed it.
    """
    found: set[str] = set()
    whole: dict[str, set[str]] = {}
    written = {RANDOM.sub("*", c["path"]) for c in tiny.changes[stage] if c["path"].startswith(f"{CACHE}/")}
    outs = {(Path(name).name, sha) for name, sha in tiny.outs[stage].items()}
    later = {c["path"] for c in crashed.changes[:-3]} - {c["path"] for c in crashed.changes[-3:]}
    places = [path for path in files_below(project) if not path.is_symlink()]
    for path in places:
        name = path.relative_to(project).as_posix()
        if not WORK.search(path.name) or name.startswith(tuple(outs_of(stage))) or (tiny.folder / name).exists():
            continue
        if path.suffix == ".pth":
            if name in later:
                found.add(RANDOM.sub("*", name))
        elif any(place.endswith(f"/{path.name}") for place in written):
            sha = content(project, [name])[name]
            if (path.name, sha) in outs:
                whole.setdefault(path.name, set()).add(sha)
    for file, shas in whole.items():
        if shas == {sha for name, sha in outs if name == file}:
            found |= {place for place in written if place.endswith(f"/{file}")}
    return found
