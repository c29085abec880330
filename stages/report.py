"""One HTML page of the run with its images, strips.png and samples.png for the docs, the judgement of each class."""

from dataclasses import replace
from functools import partial
from typing import Any

from cpal.data.masks import LabelMaps
from cpal.errors import UserError
from cpal.evaluation.doubt import judgement_rows
from cpal.files import whole_folder, write_json
from cpal.maps.seeds import seed_rule
from cpal.method.groups import read_groups
from cpal.report.build import build_report
from cpal.report.image_results import Results
from cpal.report.page import STEPS
from cpal.report.prototypes import NEAREST, arrange
from cpal.report.provenance import commit, locked_outs, locked_stages, stale_stages, versions
from cpal.report.run_files import read_curves, read_diagnostics, read_label_scores, read_step, weak_map
from cpal.report.words import SEED_SOURCE
from cpal.running.times import read_taken
from cpal.settings.profiles import plain_yaml
from stages.job.announce import pipeline
from stages.job.command import run_stage
from stages.job.in_parallel import in_parallel
from stages.job.job import Job
from stages.job.paths import (
    CLASSIFIER_CURVES,
    CRF,
    JUDGEMENT,
    METRICS,
    PIPELINE,
    PREDICTIONS,
    PROTOTYPES,
    PSEUDO_MASKS,
    REPORT,
    SEGMENTATION_CURVES,
    TIMES,
)

STAGE_OF = {
    CRF: "refine_crf",
    PSEUDO_MASKS: "write_pseudo_masks",
    SEGMENTATION_CURVES: "train_segmentation",
    PREDICTIONS: "predict_segmentation",
}


def main(job: Job) -> None:
    target, judgement, settings = job.target(REPORT), job.target(JUDGEMENT), job.config.report
    results, figures = _results(job), _figures(job)
    with whole_folder(target) as folder:
        each = partial(in_parallel, job.workers)
        verdicts = build_report(
            folder, job.dataset, results, figures, each, images=settings.images, seed=job.config.seed
        )
    write_json(judgement, judgement_rows(verdicts, job.dataset.classes), job.scratch)
    print(f"{target / 'index.html'}: the report, for a browser")
    print(f"{PSEUDO_MASKS}: masks of the training images; {PREDICTIONS}: the model's, of images that it has not seen")


def _results(job: Job) -> Results:
    """The folders of results, all of which exist."""
    pseudo_masks = LabelMaps(PSEUDO_MASKS, "write_pseudo_masks")
    predictions = LabelMaps(PREDICTIONS, "predict_segmentation", job.dataset.num_foreground)
    trained = {CLASSIFIER_CURVES: "train_cam", job.maps: "make_cams"} if _trained(job) else {}
    for folder, stage in (trained | STAGE_OF).items():
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; run the {stage} stage first: dvc repro {stage}")
    everything = replace(job, limit=None)  # a report shows all images
    predicted = frozenset(record.image_id for record in everything.predicted)
    return Results(job.maps, CRF, pseudo_masks, predictions, seed_rule(job.config.seeds), predicted, job.config.cpal)


def _trained(job: Job) -> bool:
    """Whether the maps are those of our classifier; else its curves, if any, are of another run."""
    return job.config.seeds.source != "imported"


def _figures(job: Job) -> dict[str, Any]:
    """What the page shows besides images, by the names of Report's fields."""
    lock = PIPELINE.with_suffix(".lock")
    notes = {"seed": f"made from {SEED_SOURCE[job.config.seeds.source]}"}
    curves, prototypes = {"Segmentation": read_curves(SEGMENTATION_CURVES)}, None
    if _trained(job):
        images = {record.image_id for record in job.dataset.split("train")}
        prototypes = arrange(read_groups(PROTOTYPES, job.dataset.classes, images, nearest=NEAREST))
        diagnostics = read_diagnostics(CLASSIFIER_CURVES / "diagnostics.json")
        by_epoch = {"Prototypes, by epoch": diagnostics} if diagnostics else {}  # there are none without L_Self
        curves = {"Classifier": read_curves(CLASSIFIER_CURVES)} | by_epoch | curves
    params = job.params.read_text(encoding="utf-8")
    with locked_stages(lock) as stages:
        older = "evaluate_labels" in stale_stages(stages, plain_yaml(params))
    labels = read_label_scores(METRICS) if _trained(job) and not older else None
    return {
        "scores": {name: read_step(METRICS, name, note=notes.get(name, "")) for name in STEPS},
        "labels": labels,
        "confused": weak_map(labels, job.config.chosen_host),
        "curves": curves,
        "prototypes": prototypes,
        "params": params,
        "facts": {"Git commit": commit(results=("data", str(lock))), **versions()},
        "outs": locked_outs(lock, without="report"),
        "times": read_taken(TIMES, [stage for stage in pipeline() if stage != "report"]),
    }


if __name__ == "__main__":
    run_stage(main)
