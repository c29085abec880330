"""One HTML page of the run with all its images, and the two pictures of the README."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from joblib import delayed
from PIL import Image

from cpal.data.dataset import Record
from cpal.data.masks import LabelMaps
from cpal.errors import UserError
from cpal.evaluation.doubt import judge_classes
from cpal.files import whole_folder
from cpal.maps.seeds import seed_rule
from cpal.parallel import processes
from cpal.report.gallery import embed, make_card, samples, save_layers, spread_over_ranks, strip_rows
from cpal.report.looks import Results, choose, look, worst_first
from cpal.report.page import STEPS, Report, render_page, summarize
from cpal.report.provenance import commit, locked_outs, versions
from cpal.report.run_files import read_curves, read_diagnostics, read_labels, read_step
from stages.job.job import Job, run_stage
from stages.job.options import progress
from stages.job.paths import (
    CLASSIFIER_CURVES,
    CRF,
    METRICS,
    PIPELINE,
    PREDICTIONS,
    PSEUDO_MASKS,
    REPORT,
    SEGMENTATION_CURVES,
)

STAGE_OF = {
    CRF: "refine_crf",
    PSEUDO_MASKS: "write_pseudo_masks",
    SEGMENTATION_CURVES: "train_segmentation",
    PREDICTIONS: "predict_segmentation",
}
SEED_SOURCE = {
    "pacam": "PACAM",
    "cam": "CAM",
    "taught": "the taught CAM",
    "both": "the mean of CAM and PACAM",
    "imported": "imported CAMs",
}
ROWS = 5  # of the README's picture
EMBEDDED = 15_000_000  # bytes of all pictures, up to which they lie in the page itself
T = TypeVar("T")


def main(job: Job) -> None:
    config, dataset = job.config, job.dataset
    target = job.target(REPORT)
    results = _results(job)
    figures = _figures(job)
    scored = "miou" in figures["scores"]["pseudo_mask"].metrics
    bare = replace(dataset, records=())  # what a process needs of the data set: it is sent with each image
    looks = _each(job, "compare results", lambda record: look(bare, record, results), dataset.records)
    looks = worst_first(looks, scored=scored)
    chosen, choice = choose(looks, config.report.images, seed=config.seed)
    ranked = [seen for seen in looks if seen.record.split == "train" and seen.miou is not None][::-1]
    shown = spread_over_ranks(ranked, ROWS) or dataset.split("train", ROWS)
    pictures = {"strips.png": strip_rows(dataset, shown, results), "samples.png": samples(dataset)}
    with whole_folder(target) as folder:
        (folder / "images").mkdir()
        names = {seen.record.image_id: f"{place:05}" for place, seen in enumerate(chosen)}
        layers = _each(
            job,
            "draw images",
            lambda record: save_layers(bare, record, results, folder / "images" / names[record.image_id]),
            [seen.record for seen in chosen],
        )
        cards = [make_card(index, seen, *parts) for index, (seen, parts) in enumerate(zip(chosen, layers, strict=True))]
        report = Report(
            classes=dataset.classes,
            sentence=summarize(dataset),
            seed_source=SEED_SOURCE[config.seeds.source],
            verdicts=judge_classes([seen.for_classes for seen in looks], dataset.classes),
            cards=embed(cards, folder, largest=EMBEDDED),
            choice=choice,
            **figures,
        )
        (folder / "index.html").write_text(render_page(report), encoding="utf-8")
        for name, picture in pictures.items():
            Image.fromarray(picture).save(folder / name, optimize=True)


def _results(job: Job) -> Results:
    """The folders of results, all of which exist."""
    pseudo_masks = LabelMaps(PSEUDO_MASKS, "write_pseudo_masks")
    predictions = LabelMaps(PREDICTIONS, "predict_segmentation", job.dataset.num_foreground)
    trained = {CLASSIFIER_CURVES: "train_cam", job.maps: "make_cams"} if _trained(job) else {}
    for folder, stage in (trained | STAGE_OF).items():
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; run the {stage} stage first: dvc repro {stage}")
    predicted = frozenset(record.image_id for record in [*job.dataset.predicted(), *job.dataset.split("val")])
    return Results(job.maps, CRF, pseudo_masks, predictions, seed_rule(job.config.seeds), predicted)


def _trained(job: Job) -> bool:
    """Whether the maps are those of our classifier; else its curves, if any, are of another run."""
    return job.config.seeds.source != "imported"


def _figures(job: Job) -> dict[str, Any]:
    """What the page shows besides images, by the names of Report's fields."""
    lock = PIPELINE.with_suffix(".lock")
    curves = {"Segmentation": read_curves(SEGMENTATION_CURVES)}
    if _trained(job):
        diagnostics = read_diagnostics(CLASSIFIER_CURVES / "diagnostics.json")
        curves = {"Classifier": read_curves(CLASSIFIER_CURVES), "Prototypes, by epoch": diagnostics} | curves
    return {
        "scores": {name: read_step(METRICS, name) for name in STEPS},
        "labels": read_labels(METRICS) if _trained(job) else None,
        "curves": curves,
        "params": job.params.read_text(encoding="utf-8"),
        "facts": {"Git commit": commit(results=("data", str(lock))), **versions()},
        "outs": locked_outs(lock, without="report"),
    }


def _each(job: Job, what: str, function: Callable[[Record], T], records: Sequence[Record]) -> list[T]:
    """What `function` gives for each record, in their order, by several processes at once."""
    done = processes(job.workers)(delayed(function)(record) for record in records)
    return list(progress(done, total=len(records), what=what))


if __name__ == "__main__":
    run_stage(main)
