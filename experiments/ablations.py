"""Run the paper's tables as DVC experiments on the current params.yaml, and params.yaml itself over random seeds.

Queues one experiment for each row and seed, runs the queue, and writes results/NAME.md and NAME.png, which also show
the paper's figures; with --publish it writes to docs/results. experiments/tables.py defines the rows. A second run
continues the first: finished experiments are not run again. Other experiments in DVC's queue run too, because DVC can
only run the whole queue.
"""

import copy
import hashlib
import json
import os
import re
import subprocess
import sys
from functools import cache, reduce
from pathlib import Path
from typing import Annotated, Any

import dvc.api
import typer

import stages.job.run
from cpal.errors import UserError
from cpal.evaluation.score_files import join_details
from cpal.running.times import read_taken
from cpal.settings.config import NO_SETTINGS, RESTORE
from cpal.settings.yaml_files import read_yaml
from experiments.estimate import estimate
from experiments.origin import run_dvc
from experiments.results import Metrics, write
from experiments.tables import TABLES, Change, Row, rows, steps
from stages.job.paths import TIMES
from stages.job.pipeline import read_pipeline
from stages.job.stopping import CONTINUES

RESULTS, PUBLISHED = Path("results"), Path("docs/results")
MOST_SEEDS = 1000
Planned = tuple[Change, int, tuple[str, ...]]  # an experiment: settings that it changes, random seed, steps it scores


def experiment(change: Change, seed: int, scored: tuple[str, ...]) -> tuple[str, list[str]]:
    """Name of an experiment, a hash of its settings, steps and code; and its arguments: -S options, then stages.

    Values that params.yaml already has are left out, so that rows with the same settings and steps are one experiment.
    """
    present = settings()
    changed = {
        key: value for key, value in change.items() if reduce(dict.__getitem__, key.split("."), present) != value
    }
    values = [f"{key}={json.dumps(value)}" for key, value in {**changed, "seed": seed}.items()]
    targets = _targets(scored)
    digest = hashlib.sha256("\n".join([project(), *sorted(values), *targets]).encode()).hexdigest()[:10]
    return f"ablation-{digest}", [*(part for value in values for part in ("-S", value)), *targets]


@cache
def settings() -> dict[str, Any]:
    """The content of params.yaml."""
    content: dict[str, Any] = read_yaml(Path("params.yaml"), missing=NO_SETTINGS, cure=RESTORE)
    return content


pipeline = cache(read_pipeline)


@cache
def project() -> str:
    """Text of all that determines an experiment's result, besides its change: settings, pipeline and code.

    Only the values of params.yaml are used, because `dvc exp apply` breaks its long lines.
    """
    code = sorted([*Path("cpal").rglob("*.py"), *Path("stages").glob("*.py")])
    texts = [path.read_text(encoding="utf-8") for path in [Path("dvc.yaml"), *code]]
    return "\n".join([json.dumps(settings(), sort_keys=True), *texts])


def ended() -> set[str]:
    """Names of the finished experiments that DVC holds."""
    return set(run_dvc("exp", "list", "--name-only", "--all-commits").split())


def waiting() -> dict[str, str]:
    """State of each task in DVC's queue, by name; Dead is a task in the state Running whose worker was killed."""
    status = run_dvc("queue", "status")
    rows = [line.split() for line in status.splitlines()]
    dead = {"Running": "Dead"} if "Worker status: 0 active" in status else {}
    return {row[1]: dead.get(row[-1], row[-1]) for row in rows if len(row) > 2}


def run_missing(wanted: dict[str, list[str]]) -> None:
    """Queue the experiments that are neither finished nor queued, run the queue, retry failed and killed experiments.

    The experiments share the pipeline's folder of work. So rows with the same training train once, and the trained
    network processes each image once.
    """
    os.environ["CPAL_CACHE"] = str(Path(".cache").resolve())
    os.environ["CPAL_FEATURES"] = str(Path(".cache/features").resolve())
    known, tasks = ended(), waiting()
    missing = {name: arguments for name, arguments in wanted.items() if name not in known}
    for name, arguments in missing.items():
        if tasks.get(name) == "Dead":  # DVC would wait for it forever; after `kill` its state is Failed
            run_dvc("queue", "kill", name)
        if tasks.get(name) in ("Failed", "Dead"):
            run_dvc("queue", "remove", name)
        if tasks.get(name) not in ("Queued", "Running"):
            run_dvc("exp", "run", "--queue", "--name", name, *arguments)
    if missing:
        run = subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--run-all", "--jobs", "1"])
        if run.returncode:
            raise UserError("dvc exp run: an experiment failed, see DVC's words above; run this command again")


def measured(change: Change, scored: tuple[str, ...], seeds: list[int], known: set[str]) -> dict[int, Metrics]:
    """Metrics of the steps `scored`, for each seed whose experiment has finished.

    Files of other steps are not read: an experiment does not update them, so they hold figures of other settings.
    """
    names = {seed: experiment(change, seed, scored)[0] for seed in seeds}
    return {seed: _metrics(name, scored) for seed, name in names.items() if name in known}


def _metrics(name: str, steps: tuple[str, ...]) -> Metrics:
    """All figures and the IoU by class of these steps, from the files of an experiment."""
    found: Metrics = {}
    for step in steps:
        metrics, details, by_class = (
            json.loads(dvc.api.read(f"data/metrics/{step}{part}.json", rev=name)) for part in ("", "_details", "_iou")
        )
        found |= {step: join_details(metrics, details), f"{step}_iou": by_class}
    return found


def outlook(plan: dict[str, list[Row]], wanted: dict[str, Planned], seeds: int) -> str:
    """What will run: the rows of each table, how many experiments, and how long they take at most."""
    lines = []
    for table, found in plan.items():
        lines += [f"{table}, {len(found)} row(s) and {seeds} seed(s):", *(f"  {row.name}" for row in found)]
    known = ended()
    left = [parts for name, parts in wanted.items() if name not in known]
    lines.append(f"{len(wanted)} experiments, {len(left)} of them to run")
    if left:
        planned = [(changed(settings(), change | {"seed": seed}), _targets(scored)) for change, seed, scored in left]
        lines.append(estimate(planned, pipeline(), read_taken(TIMES, pipeline())))
    return "\n".join(lines)


def changed(values: dict[str, Any], change: Change) -> dict[str, Any]:
    """A copy of the settings with a change."""
    found = copy.deepcopy(values)
    for key, value in change.items():
        *sections, name = key.split(".")
        reduce(dict.__getitem__, sections, found)[name] = value
    return found


def _targets(scored: tuple[str, ...]) -> list[str]:
    return [f"evaluate_{step}" for step in scored]


def random_seeds(text: str) -> list[int]:
    """Seeds written as 0,1,2 or 0-2. Raises UserError for anything else."""
    found: list[int] = []
    for part in text.split(","):
        if (numbers := re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)) is None:
            raise UserError(f"--seeds {text}: write numbers with commas between, or a range, such as 0-2")
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if last - first >= MOST_SEEDS:
            raise UserError(f"--seeds {text}: more than {MOST_SEEDS} seeds; write a smaller range, such as 0-2")
        found += range(first, last + 1)
    if not found or len(set(found)) < len(found):
        raise UserError(f"--seeds {text}: names no seed, or one twice; write each once, such as 0,1,2")
    return found


def main(
    tables: Annotated[list[str], typer.Argument(help=f"{', '.join(TABLES)}.")],
    seeds: Annotated[str, typer.Option(help="Random seeds, such as 0,1,2 or 0-2.")] = "0,1,2",
    run: Annotated[
        bool, typer.Option(help="Run what is missing; else only say how long it takes, and write what there is.")
    ] = True,
    publish: Annotated[bool, typer.Option("--publish", help="Replace the pages of docs/results.")] = False,
) -> None:
    numbers, present = random_seeds(seeds), settings()
    if unknown := [table for table in tables if table not in TABLES]:
        raise UserError(f"{', '.join(unknown)}: no such table; choose {', '.join(TABLES)}")
    if present["data"]["masks"] is None:
        raise UserError("data.masks: null: without masks there is no mIoU to measure; name their folder")
    plan = {table: rows(table, present) for table in tables}
    wanted = {  # seed by seed, so that a training that rows share is still in the work folder
        experiment(row.change, s, steps(t))[0]: (row.change, s, steps(t))
        for s in numbers
        for t in tables
        for row in plan[t]
    }
    print(outlook(plan, wanted, len(numbers)), flush=True)
    if run:
        run_missing({name: experiment(*parts)[1] for name, parts in wanted.items()})
    known, folder = ended(), PUBLISHED if publish else RESULTS
    for table in tables:
        found = [(row, measured(row.change, steps(table), numbers, known)) for row in plan[table]]
        path = write(table, found, numbers, present, folder=folder)
        print(f"{path}:\n\n{path.read_text(encoding='utf-8')}")


if __name__ == "__main__":
    stages.job.run.run(main, stopped=CONTINUES)
