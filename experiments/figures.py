"""Draw the paper's figures from the present run, and figures of its scores, into results/figures.

Each figure has a CSV file with its numbers beside it. It trains nothing: it reads what the pipeline has published. With
--publish it writes to docs/results/figures.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

import stages.job.run
from cpal.data.dataset import Record
from cpal.data.masks import LabelMaps
from cpal.evaluation.score_files import read_scores
from cpal.explain.choice import find_classes, find_record
from cpal.explain.neighbors import Fitted
from cpal.files import whole_file
from cpal.maps.seeds import seed_rule
from cpal.report.page import STEPS
from cpal.settings.config import load_config
from experiments import figure_data, plots
from experiments.figure_pictures import ablation, neighbors
from experiments.origin import write_rows
from stages.job.explained import explain_image, load_fitted
from stages.job.network import NetworkJob
from stages.job.options import DEFAULT_WORKERS, Params, Workers
from stages.job.paths import METRICS, PARAMS, PREDICTIONS, PSEUDO_MASKS

RESULTS, PUBLISHED = Path("results/figures"), Path("docs/results/figures")
EXAMPLES = 4  # images of Fig. 5


def main(
    images: Annotated[
        str, typer.Option(help="Images of Fig. 5, such as ID,ID; else the first one of each class.")
    ] = "",
    publish: Annotated[bool, typer.Option("--publish", help="Replace the figures in docs/results/figures.")] = False,
    params: Params = PARAMS,
    workers: Workers = DEFAULT_WORKERS,
) -> None:
    folder = PUBLISHED if publish else RESULTS
    job = NetworkJob("figures", load_config(params), params, workers, device_name="cpu")
    loaded = load_fitted(job)
    records = [find_record(job.dataset, name) for name in images.split(",")] if images else examples(job)
    for path in [*figure3(job, loaded, folder), *figure5(job, loaded, records, folder), *score_figures(job, folder)]:
        print(path)


def examples(job: NetworkJob) -> list[Record]:
    """The first training image of each of the first classes, every image once: chosen by no result."""
    chosen: dict[str, Record] = {}
    for k in range(1, job.dataset.num_classes):
        showing = (record for record in job.train if k in record.labels and record.image_id not in chosen)
        if len(chosen) < EXAMPLES and (record := next(showing, None)) is not None:
            chosen[record.image_id] = record
    return [*chosen.values()]


def figure3(job: NetworkJob, loaded: Fitted, folder: Path) -> Iterator[Path]:
    """Fig. 3, and beside it how compact and how separate the classes are."""
    learner, classes = loaded.learner, job.dataset.classes
    if learner.settings.align == "none":
        print("figure3: cpal.align is none: one panel, without alignment")
    points = figure_data.embed_bank(learner, loaded.origins, classes, seed=job.config.seed)
    if points:
        yield from _figure(folder / "figure3.csv", points, plots.embedding)
    else:
        print("figure3: not drawn: the bank has too few instances")
    if spread := figure_data.spread_of_bank(learner, classes):
        yield from _figure(folder / "figure3_spread.csv", spread, plots.spread)
    else:
        print("figure3_spread: not drawn: fewer than two classes have two instances")


def figure5(job: NetworkJob, loaded: Fitted, records: Sequence[Record], folder: Path) -> Iterator[Path]:
    """Fig. 5a, the neighbours of images, and 5b, what PACAM loses without them."""
    shown = [explain_image(job, loaded, record, find_classes(job.dataset, record, None)[:1]) for record in records]
    parts = {
        "figure5a": neighbors(shown),
        "figure5b": ablation(shown, loaded, job.config.cam, seed_rule(job.config.seeds)),
    }
    for name, (picture, rows) in parts.items():
        yield from _picture(folder / f"{name}.csv", rows, picture)


def score_figures(job: NetworkJob, folder: Path) -> Iterator[Path]:
    """Confusion, IoU by class and mIoU by threshold, as far as there is ground truth."""
    dataset, workers = job.dataset, job.workers
    train, val = dataset.scored("train"), dataset.scored("val")
    by_step = {title: read_scores(METRICS, step)[1] for step, title in STEPS.items()}
    if not any(by_step.values()):
        print("class_iou, confusion, thresholds: not drawn: the data set has no ground truth")
        return
    rows = figure_data.iou_rows({title: iou for title, iou in by_step.items() if iou}, dataset.classes)
    yield from _figure(folder / "class_iou.csv", rows, plots.class_iou)
    for name, records, maps in (
        ("pseudo_masks", train, LabelMaps(PSEUDO_MASKS, "write_pseudo_masks")),
        ("segmentation", val, LabelMaps(PREDICTIONS, "predict_segmentation", dataset.num_foreground)),
    ):
        if records:
            rows = figure_data.confusion_rows(dataset, records, maps, workers=workers)
            yield from _figure(folder / f"confusion_{name}.csv", rows, plots.confusion)
    if train:
        fixed, step = dict(seed_rule(job.config.seeds).thresholds), job.config.evaluate.threshold_step
        rows = figure_data.threshold_rows(dataset, train, job.maps, fixed, step=step, workers=workers)
        yield from _figure(folder / "thresholds.csv", rows, plots.thresholds)


def _figure(path: Path, rows: figure_data.Rows, plot: plots.Plot) -> Iterator[Path]:
    write_rows(path, rows)
    yield path
    yield from plots.draw(path, plot)


def _picture(path: Path, rows: figure_data.Rows, picture: np.ndarray) -> Iterator[Path]:
    write_rows(path, rows)
    yield path
    with whole_file(path.with_suffix(".png")) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", optimize=True)
    yield path.with_suffix(".png")


if __name__ == "__main__":
    stages.job.run.run(main)
