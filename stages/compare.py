"""Compare runs: settings, scores, classes and images of the workspace, git revisions and DVC experiments.

Writes one HTML page that needs no network, and prints the settings and scores as plain tables. Nothing is checked out.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from cpal.compare.changes import compare_images
from cpal.compare.comparison import Comparison, as_text, compare, render_comparison
from cpal.compare.runs import WORKSPACE, Places, open_runs
from cpal.files import whole_file
from cpal.report.provenance import code_changes
from stages.job.in_parallel import in_parallel
from stages.job.options import DEFAULT_WORKERS, Workers
from stages.job.paths import DATASET, METRICS, PARAMS, PIPELINE, PREDICTIONS, PSEUDO_MASKS
from stages.job.run import run

PLACES = Places(PARAMS, PIPELINE.with_suffix(".lock"), METRICS, DATASET, PSEUDO_MASKS, PREDICTIONS)
CODE = ("cpal", "stages", str(PIPELINE))


def main(
    revisions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REV...]",
            help="The runs: `workspace`, git revisions, names of DVC experiments. All are compared with the first run. "
            "With a single REV, the workspace is compared with REV; without REV, or with `workspace` alone, the "
            "workspace is compared with HEAD.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The HTML file to write.")] = Path(
        "results/comparison.html"
    ),
    images: Annotated[int, typer.Option("--images", min=0, help="Largest number of images of each kind.")] = 24,
    workers: Workers = DEFAULT_WORKERS,
) -> None:
    names = ["HEAD"] if revisions in (None, [], [WORKSPACE]) else revisions
    names = names if len(names) > 1 else [*names, WORKSPACE]
    with TemporaryDirectory() as scratch:
        runs = open_runs(names, Path(scratch), PLACES)
        gallery = compare_images(runs, PLACES, partial(in_parallel, workers), images=images)
        code = code_changes([run.commit for run in runs], CODE)
        comparison = compare(runs, PLACES, code, gallery)
    with whole_file(out) as temporary:
        temporary.write_text(render_comparison(comparison), encoding="utf-8")
    print_tables(comparison)
    print(f"{out}: the classes, images and curves")


def print_tables(comparison: Comparison) -> None:
    names = [run.name for run in comparison.runs]
    settings = as_text(names, comparison.settings, title="setting") if comparison.settings else "no setting differs"
    scores = as_text(names, comparison.scores, title="mIoU")
    if not comparison.scored and comparison.judgement:
        scores = as_text(names, comparison.judgement, title="judgement, 0 to 100")
    print(f"{settings}\n\n{scores}\n")
    if comparison.older:
        print("* made with other settings or inputs than the run has now\n")
    for line in comparison.notes:
        print(line)
    counts = (f"{group.title}: {line}" for group in comparison.gallery.groups for line in group.counts)
    for line in (*comparison.gallery.why, *counts):
        print(line)


if __name__ == "__main__":
    run(main)
