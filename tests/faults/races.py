"""Two runs of one stage at once, in one project or in two that share their cache."""

import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from faults.damage import told
from faults.project import (
    CACHE,
    SHARED_CACHE,
    Tiny,
    content,
    copy,
    options,
    outs_of,
    remove_outs,
    scratch,
    stage_run,
    tree,
)
from faults.records import Fault, Outcome, judged, refused
from faults.runner import Ending, start
from faults.signals import environment

BUSY = re.compile(r"another|other run|running|in use|at work|already|lock|wait|at once", re.IGNORECASE)


@dataclass(frozen=True)
class Race:
    """The second starts `delay` ms after the first. `real`: with an interpreter of its own and two workers each."""

    tiny: Tiny
    stage: str
    delay: int
    shared: bool
    real: bool = False

    @property
    def id(self) -> str:
        where = "shared cache" if self.shared else "one project"
        return f"two runs/{self.stage}/{where}{', commands' if self.real else ''}, {self.delay} ms"


def race(item: Race) -> Fault:
    folder = Path(tempfile.mkdtemp(prefix="race_", dir=scratch()))
    first = copy(item.tiny, item.stage, folder / "p")
    second = copy(item.tiny, item.stage, folder / "q") if item.shared else first
    env = {SHARED_CACHE: str(folder / "shared" / CACHE)} if item.shared else {}
    (folder / "shared").mkdir()
    endings = (_commands if item.real else _forked)(item, [first, second], env)
    outcome, detail = _judged(item, [first, second], endings)
    if outcome in ("same", "named"):  # and what the next run finds
        remove_outs(first, item.stage)
        left = judged(item.tiny, first, item.stage, stage_run(first, item.stage, env=env))
        if left[0] != "same":
            outcome, detail = left
        elif extra := sorted(tree(folder / "shared") - item.tiny.tree[item.stage]):
            outcome, detail = "leftovers", ", ".join(extra[:3])
    return told(item.id, outcome, detail, "\n--\n".join(ending.output for ending in endings), folder)


def _judged(item: Race, projects: list[Path], endings: list[Ending]) -> tuple[Outcome, str]:
    """Both whole, or one whole and the other refused; a refused one in a project of its own has no outputs to judge."""
    told_: list[tuple[Outcome, str]] = []
    for project, ending in zip(projects, endings, strict=True):
        if ending.code != 0:
            said = refused(ending)
            clear = said[0] != "named" or BUSY.search(said[1])
            told_.append(said if clear else ("unclear", f"does not speak of the other run: {said[1]}"))
        elif content(project, outs_of(item.stage)) != item.tiny.outs[item.stage]:
            told_.append(("silent", "exit code 0, but the outputs are not those of one run"))
    bad = [one for one in told_ if one[0] != "named"]
    if not bad and len(told_) == 2:
        return "lost", f"both refused: {told_[0][1]}"
    return bad[0] if bad else told_[0] if told_ else ("same", "")


def _forked(item: Race, projects: list[Path], env: dict[str, str]) -> list[Ending]:
    running = []
    for project in projects:
        running.append(start(project, item.stage, options(item.stage), env=env))
        if len(running) == 1:
            time.sleep(item.delay / 1000)
    return [one.wait() for one in running]


def _commands(item: Race, projects: list[Path], env: dict[str, str]) -> list[Ending]:
    command = ["python", "-m", f"stages.{item.stage}", *options(item.stage, workers=2)]
    running = []
    for project in projects:
        running.append(
            subprocess.Popen(
                command,
                cwd=project,
                env=environment(**env),
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
        if len(running) == 1:
            time.sleep(item.delay / 1000)
    outputs = [one.communicate()[0] for one in running]
    return [Ending(one.returncode, output) for one, output in zip(running, outputs, strict=True)]
