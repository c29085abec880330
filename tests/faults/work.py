"""Damaged unfinished work: a stage died, what it left in .cache is spoilt, and it runs again."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from faults.damage import damaged, told
from faults.project import CACHE, RANDOM, Tiny, copy, remove_outs, scratch, stage_run
from faults.records import Fault, judged


@dataclass(frozen=True)
class Work:
    """A stage died with work in .cache, of which `path` is damaged; it runs again."""

    tiny: Tiny
    folder: Path
    path: str
    stage: str
    damage: str

    @property
    def id(self) -> str:
        return f"work/{self.stage}/{self.folder.name} {RANDOM.sub('*', self.path)} {self.damage}"


def keeps_work(tiny: Tiny, stage: str) -> bool:
    return any(change["path"].startswith(f"{CACHE}/") for change in tiny.changes[stage])


def stopped(tiny: Tiny, stage: str) -> list[Path]:
    """Projects in which the stage died right before it began to publish and, for a training, on its way."""
    changes = tiny.changes[stage]
    publishing = next(n for n, change in enumerate(changes, 1) if change["path"].startswith("data/"))
    folders = []
    points = {"late": publishing}
    if saved := [n for n, change in enumerate(changes, 1) if change["path"].endswith(".pth")]:
        points["midway"] = saved[0] + 4  # the checkpoint and what names it are there
    for name, n in points.items():
        project = copy(tiny, stage, Path(tempfile.mkdtemp(prefix="stopped_", dir=scratch())) / f"{stage}_{name}")
        stage_run(project, stage, crash=("kill", n))
        folders.append(project)
    return folders


def works(tiny: Tiny, stage: str, project: Path, flips: int = 3) -> list[Work]:
    """Two files of each ending below .cache but code, the largest first."""
    files = [path for path in sorted(project.glob(f"{CACHE}/**/*")) if path.is_file() and path.suffix != ".py"]
    chosen: list[Path] = []
    for ending in sorted({path.suffix for path in files}):
        alike = sorted((p for p in files if p.suffix == ending), key=lambda p: p.stat().st_size, reverse=True)
        chosen += alike[: 1 if ending == ".tsv" else 2]
    names = ("half", "empty", "zeros", "nan", "other_size", *(f"flip_{7 * n + 2:02d}" for n in range(flips)))
    found = [Work(tiny, project, p.relative_to(project).as_posix(), stage, name) for p in chosen for name in names]
    return [*found, Work(tiny, project, CACHE, stage, "moved")]


def moved(source: Path, target: Path, name: Path | None = None) -> Path:
    """A copy in another place, whose work knows that it is there; with `name`, believes to be there."""
    shutil.copytree(source, target, symlinks=True)
    for path in target.glob(f"{CACHE}/**/*"):
        if path.is_file() and path.stat().st_size < 4096:
            path.write_bytes(path.read_bytes().replace(str(source).encode(), str(name or target).encode()))
    return target


def move_and_run(item: Work) -> Fault:
    """The user has moved the project meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="work_", dir=scratch()))
    project = moved(item.folder, folder / "p", name=folder / "before")
    remove_outs(project, item.stage)
    ending = stage_run(project, item.stage)
    outcome, detail = judged(item.tiny, project, item.stage, ending)
    return told(item.id, outcome, detail, ending.output, folder)


def damage_work(item: Work) -> Fault | None:
    if item.damage == "moved":
        return move_and_run(item)
    source = item.folder / item.path
    try:
        new = damaged(source, item.damage)
    except ValueError:  # of a file without a value to change
        return None
    if new is None or new == source.read_bytes():
        return None
    folder = Path(tempfile.mkdtemp(prefix="work_", dir=scratch()))
    project = moved(item.folder, folder / "p")
    (project / item.path).write_bytes(new)
    remove_outs(project, item.stage)
    ending = stage_run(project, item.stage)
    outcome, detail = judged(item.tiny, project, item.stage, ending, [source.name, CACHE])
    return told(item.id, outcome, detail, ending.output, folder)
