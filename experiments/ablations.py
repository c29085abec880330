"""The paper's tables, as DVC experiments on what params.yaml now describes, and that itself over random seeds.

Queues one experiment a row and seed, runs the queue, and writes docs/results/NAME.md and NAME.png with the paper's
figures beside; experiments/tables.py says which rows there are. Stopped and started again it goes on: an experiment
that is done is not run again. What else waits in DVC's queue is run as well; DVC runs all of it or nothing.
"""

import hashlib
import json
import os
import subprocess
from functools import cache, reduce
from pathlib import Path
from typing import Annotated, Any

import dvc.api
import typer

import stages.job.options
from cpal.errors import UserError
from cpal.evaluation.score_files import join_details
from cpal.settings.config import NO_SETTINGS, RESTORE
from cpal.settings.yaml_files import read_yaml
from experiments.results import Metrics, write
from experiments.tables import Change, rows, steps


def experiment(change: Change, seed: int, scored: tuple[str, ...]) -> tuple[str, list[str]]:
    """Name of an experiment, which tells its settings, steps and code apart, and its arguments: -S, then the stages.

    What params.yaml says already is left out, so that rows of the same settings and steps are one experiment.
    """
    present = settings()
    changed = {
        key: value for key, value in change.items() if reduce(dict.__getitem__, key.split("."), present) != value
    }
    values = [f"{key}={json.dumps(value)}" for key, value in {**changed, "seed": seed}.items()]
    targets = [f"evaluate_{step}" for step in scored]
    digest = hashlib.sha256("\n".join([project(), *sorted(values), *targets]).encode()).hexdigest()[:10]
    return f"ablation-{digest}", [*(part for value in values for part in ("-S", value)), *targets]


@cache
def settings() -> dict[str, Any]:
    """What params.yaml describes."""
    content: dict[str, Any] = read_yaml(Path("params.yaml"), missing=NO_SETTINGS, cure=RESTORE)
    return content


@cache
def project() -> str:
    """All that decides what an experiment gives, beside its change: settings, pipeline and code.

    Of the settings only the values: `dvc exp apply` breaks long lines of params.yaml.
    """
    code = sorted([*Path("cpal").rglob("*.py"), *Path("stages").glob("*.py")])
    texts = [path.read_text(encoding="utf-8") for path in [Path("dvc.yaml"), *code]]
    return "\n".join([json.dumps(settings(), sort_keys=True), *texts])


def ended() -> set[str]:
    """Names of the experiments that DVC holds."""
    return set(_dvc("exp", "list", "--name-only", "--all-commits").split())


def waiting() -> dict[str, str]:
    """Name and state of the tasks in DVC's queue; Dead is one that a killed worker has left Running."""
    status = _dvc("queue", "status")
    rows = [line.split() for line in status.splitlines()]
    dead = {"Running": "Dead"} if "Worker status: 0 active" in status else {}
    return {row[1]: dead.get(row[-1], row[-1]) for row in rows if len(row) > 2}


def run_missing(wanted: dict[str, list[str]]) -> None:
    """Queue what is neither done nor queued, and run the queue; a failed or killed one is tried again.

    The experiments share the pipeline's folder of unfinished and finished work, so that rows of one training train
    once, and its network sees each image once.
    """
    os.environ["CPAL_CACHE"] = str(Path(".cache").resolve())
    os.environ["CPAL_FEATURES"] = str(Path(".cache/features").resolve())
    known, tasks = ended(), waiting()
    missing = {name: arguments for name, arguments in wanted.items() if name not in known}
    for name, arguments in missing.items():
        if tasks.get(name) == "Dead":  # DVC would wait for it for ever; to kill it makes it a failed one
            _dvc("queue", "kill", name)
        if tasks.get(name) in ("Failed", "Dead"):
            _dvc("queue", "remove", name)
        if tasks.get(name) not in ("Queued", "Running"):
            _dvc("exp", "run", "--queue", "--name", name, *arguments)
    if missing:
        subprocess.run(["dvc", "exp", "run", "--run-all", "--jobs", "1"], check=True)


def _dvc(*arguments: str) -> str:
    return subprocess.run(["dvc", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def measured(change: Change, scored: tuple[str, ...], seeds: list[int], known: set[str]) -> dict[int, Metrics]:
    """Metrics of the steps scored, of each seed whose experiment has ended.

    An experiment leaves the files of all other steps as it found them, with figures of other settings: they are not
    read.
    """
    names = {seed: experiment(change, seed, scored)[0] for seed in seeds}
    return {seed: _metrics(name, scored) for seed, name in names.items() if name in known}


def _metrics(name: str, steps: tuple[str, ...]) -> Metrics:
    """All figures and the IoU by class of these steps, as an experiment has left them."""
    found: Metrics = {}
    for step in steps:
        metrics, details, by_class = (
            json.loads(dvc.api.read(f"data/metrics/{step}{part}.json", rev=name)) for part in ("", "_details", "_iou")
        )
        found |= {step: join_details(metrics, details), f"{step}_iou": by_class}
    return found


def main(
    tables: Annotated[list[str], typer.Argument(help="table1, table2, table3, table4, figure4, seeds.")],
    seeds: Annotated[str, typer.Option(help="Seeds, with commas between.")] = "0,1,2",
    run: Annotated[bool, typer.Option(help="Run what is missing; else only write what there is.")] = True,
) -> None:
    numbers = [int(seed) for seed in seeds.split(",")]
    present = settings()
    if present["data"]["masks"] is None:
        raise UserError("data.masks: null: without masks there is no mIoU to measure; name their folder")
    plan = {table: rows(table, present) for table in tables}
    if run:  # seed by seed, so that the trainings that rows share stay at hand
        run_missing(dict(experiment(row.change, s, steps(t)) for s in numbers for t in tables for row in plan[t]))
    known = ended()
    for table in tables:
        found = [(row, measured(row.change, steps(table), numbers, known)) for row in plan[table]]
        print(write(table, found, numbers, present).read_text(encoding="utf-8"))


if __name__ == "__main__":
    stages.job.options.run(main)
