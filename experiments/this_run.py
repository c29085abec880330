"""Keep the scores of the last `make repro` in results/NAME.csv, with commit, command and machine.

python -m experiments.this_run toy --publish    # in docs/results
"""

import json
from typing import Annotated

import typer

import stages.job.run
from cpal.errors import UserError
from cpal.evaluation.score_files import join_details
from cpal.settings.config import load_config
from experiments.ablations import PUBLISHED, RESULTS
from experiments.origin import changed_since_run, origin, write_rows
from experiments.results import STEP_NAMES, Metrics, measured_values
from experiments.tables import Row
from stages.job.options import Params
from stages.job.paths import METRICS, PARAMS


def main(
    name: Annotated[str, typer.Argument(help="Name of the file.")],
    params: Params = PARAMS,
    publish: Annotated[bool, typer.Option("--publish", help="Write into docs/results.")] = False,
) -> None:
    if stale := changed_since_run():
        raise UserError(
            f"the scores are not of these settings and this code; run dvc repro first. dvc status says:\n{stale}"
        )
    found: Metrics = {}
    for step in STEP_NAMES:
        metrics, details, by_class = (
            json.loads((METRICS / f"{step}{part}.json").read_text(encoding="utf-8"))
            for part in ("", "_details", "_iou")
        )
        found |= {step: join_details(metrics, details), f"{step}_iou": by_class}
    seed = load_config(params).seed
    values = measured_values("seeds", [(Row("params.yaml", {}), {seed: found})], [seed])
    path = (PUBLISHED if publish else RESULTS) / f"{name}.csv"
    source = origin("make repro")
    write_rows(path, [value._asdict() | source for value in values])
    print(path)


if __name__ == "__main__":
    stages.job.run.run(main)
