"""Signals at random times: to a stage alone, to its group with its workers, and to DVC; then the stage runs again."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from faults.damage import told
from faults.project import (
    CACHE,
    CODE,
    ROOT,
    Tiny,
    copy,
    link_code,
    options,
    remove,
    remove_outs,
    scratch,
    stage_run,
)
from faults.records import Fault, Outcome, judged, last_line
from faults.runner import Ending, start

SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}
PATIENCE = 5.0  # seconds until a stage has ended after SIGTERM or SIGINT
GO_ON = re.compile(r"again|continu|go(es)? on|resum|repro", re.IGNORECASE)
OF_REPOSITORY = (".git", ".dvc", ".gitignore", ".dvcignore", "data/.gitignore")
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@dataclass(frozen=True)
class Shot:
    """`how`: forked stage with one process or with loaders, a real command with workers, or `dvc repro -s`."""

    tiny: Tiny
    stage: str
    how: str
    target: str
    name: str
    n: int

    @property
    def id(self) -> str:
        return f"{'dvc' if self.how == 'dvc' else 'signal'}/{self.stage}/{self.how} {self.target} {self.name} {self.n}"


def shoot(shot: Shot) -> Fault:
    folder = Path(tempfile.mkdtemp(prefix="signal_", dir=scratch()))
    project = copy(shot.tiny, shot.stage, folder / "p")
    rng = random.Random(shot.id)
    if shot.how in ("alone", "loaders"):
        ending, slow, group = _forked(shot, project, rng)
    else:
        ending, slow, group = _command(shot, project, folder, rng)
    if shot.how == "dvc":
        again = dvc(project, shot.stage, folder / "again")
    else:
        remove_outs(project, shot.stage)
        again = stage_run(project, shot.stage)
    try:
        os.killpg(group, signal.SIGKILL)  # who outlived the signal
    except ProcessLookupError:
        pass
    if shot.how == "dvc":
        for name in (*OF_REPOSITORY, *CODE):
            remove(project / name)
        link_code(project)
    outcome, detail = judged(shot.tiny, project, shot.stage, again)
    stage_told = shot.name != "KILL" and (shot.how, shot.target) != ("dvc", "process")
    if outcome == "same" and stage_told:
        outcome, detail = _ended(ending, slow)
    elif outcome != "same":
        detail = f"the next run: {detail}"
    return told(shot.id, outcome, detail, f"{ending.output}\n-- again:\n{again.output}", folder)


def _ended(ending: Ending, slow: float) -> tuple[Outcome, str]:
    """Whether a stage that a signal ended said so."""
    if ending.code == 0:
        return "same", "it had ended"
    if slow > PATIENCE:
        return "unclear", f"ended {slow:.0f} s after the signal"
    if "Traceback (most recent" in ending.output:
        return "traceback", last_line(ending.output)
    if not GO_ON.search(ending.output[-400:]):
        said = last_line(re.sub(r".*\d%\|.*", "", ending.output))
        return "silent", f"code {ending.code}, no word on how to go on: {said}"
    return "named", last_line(ending.output)


def _forked(shot: Shot, project: Path, rng: random.Random) -> tuple[Ending, float, int]:
    running = start(project, shot.stage, options(shot.stage, workers=2 if shot.how == "loaders" else 1))
    running.begun()
    time.sleep(rng.uniform(0.05, shot.tiny.seconds[shot.stage]))
    begun = time.monotonic()
    send = os.killpg if shot.target == "group" else os.kill
    try:
        send(running.pid, SIGNALS[shot.name])
    except ProcessLookupError:
        pass
    ending = running.wait()
    return ending, time.monotonic() - begun, running.pid


def _command(shot: Shot, project: Path, folder: Path, rng: random.Random) -> tuple[Ending, float, int]:
    """A real process, shot once its work has begun."""
    if shot.how == "dvc":
        make_repository(project)
    command = ["dvc", "repro", "-s", shot.stage]
    if shot.how != "dvc":
        command = ["python", "-m", f"stages.{shot.stage}", *options(shot.stage, workers=2)]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has a child ignore it, and its children
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            command, cwd=project, env=environment(), stdout=output, stderr=output, start_new_session=True
        )
        while process.poll() is None and not list(project.glob(f"{CACHE}/{shot.stage}/*/*/*")):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        begun = time.monotonic()
        if process.poll() is None:
            (os.killpg if shot.target == "group" else os.kill)(process.pid, SIGNALS[shot.name])
        process.wait()
        slow = time.monotonic() - begun
    return Ending(process.returncode, (folder / "output").read_text(errors="replace")), slow, process.pid


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PATH": PATH, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"} | more


def make_repository(project: Path) -> None:
    """Git and DVC around a copy; the code, for which it has links, becomes its own."""
    for name in CODE:
        (project / name).unlink()
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, project / name, ignore=ignored) if source.is_dir() else shutil.copy(
            source, project / name
        )
    (project / "dvc.lock").unlink()
    text = (project / "dvc.yaml").read_text(encoding="utf-8")
    for stage in ("refine_crf", "train_segmentation"):
        text = text.replace(
            f"python -m stages.{stage}\n", f"python -m stages.{stage} {' '.join(options(stage, workers=2))}\n"
        )
    (project / "dvc.yaml").write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / ".dvc", project / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    for name in OF_REPOSITORY[2:]:
        shutil.copy(ROOT / name, project / name)
    for command in (
        "git init -q",
        "git add --all dvc.yaml params.yaml .dvc/config",
        "git -c user.name=t -c user.email=t@t commit -qm t",
    ):
        subprocess.run(command.split(), cwd=project, check=True, capture_output=True)


def dvc(project: Path, stage: str, output: Path) -> Ending:
    with output.open("w") as stream:
        done = subprocess.run(
            ["dvc", "repro", "-s", stage], cwd=project, env=environment(), stdout=stream, stderr=stream
        )
    return Ending(done.returncode, output.read_text(errors="replace"))
