"""One self-contained HTML page of the run, and the two pictures of the README."""

from PIL import Image

from cpal.data.dataset import Dataset, Split
from cpal.data.masks import LabelMaps
from cpal.errors import UserError
from cpal.files import whole_folder
from cpal.maps.seeds import seed_rule
from cpal.report.gallery import Ranked, Results, best_and_worst, rank, samples, spread_over_ranks, strip_rows
from cpal.report.page import STEPS, Curve, Report, render_page, summarize
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


def main(job: Job) -> None:
    config, dataset, seeds = job.config, job.dataset, job.config.seeds
    target = job.target(REPORT)
    pseudo_masks = LabelMaps(PSEUDO_MASKS, "write_pseudo_masks")
    predictions = LabelMaps(PREDICTIONS, "predict_segmentation", dataset.num_foreground)
    results = Results(job.maps, CRF, pseudo_masks, predictions)
    thresholds = seed_rule(seeds).thresholds
    trained = seeds.source != "imported"  # else the classifier's curves, if any, are of another run
    maps_by = {CLASSIFIER_CURVES: "train_cam", results.cams: "make_cams"} if trained else {}
    for folder, stage in (maps_by | STAGE_OF).items():
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; run the {stage} stage first: dvc repro {stage}")
    train = _rank(dataset, "train", pseudo_masks)
    val = _rank(dataset, "val", predictions)
    lock = PIPELINE.with_suffix(".lock")
    half = config.report.images // 2
    report = Report(
        classes=dataset.classes,
        sentence=summarize(dataset),
        seed_source=SEED_SOURCE[seeds.source],
        scores={name: read_step(METRICS, name) for name in STEPS},
        labels=read_labels(METRICS) if trained else None,
        curves=(_classifier_curves() if trained else {}) | {"Segmentation": read_curves(SEGMENTATION_CURVES)},
        galleries=[
            *best_and_worst(dataset, "train", train, config.report.images - half, results, thresholds),
            *best_and_worst(dataset, "val", val, half, results, thresholds),
        ],
        params=job.params.read_text(encoding="utf-8"),
        facts={"Git commit": commit(results=("data", str(lock))), **versions()},
        outs=locked_outs(lock, without="report"),
    )
    shown = spread_over_ranks(train, ROWS) or dataset.split("train", ROWS)
    pictures = {"strips.png": strip_rows(dataset, shown, results, thresholds), "samples.png": samples(dataset)}
    with whole_folder(target) as folder:
        (folder / "index.html").write_text(render_page(report), encoding="utf-8")
        for name, picture in pictures.items():
            Image.fromarray(picture).save(folder / name, optimize=True)


def _classifier_curves() -> dict[str, list[Curve]]:
    return {
        "Classifier": read_curves(CLASSIFIER_CURVES),
        "Prototypes, by epoch": read_diagnostics(CLASSIFIER_CURVES / "diagnostics.json"),
    }


def _rank(dataset: Dataset, split: Split, found: LabelMaps) -> list[Ranked]:
    records = dataset.scored(split)
    return rank(dataset, progress(records, total=len(records), what=f"rank {split} images"), found)


if __name__ == "__main__":
    run_stage(main)
