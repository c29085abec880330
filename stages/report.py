"""One self-contained HTML page of the run, and the two pictures of the README."""

from pathlib import Path

from PIL import Image

from cpal.data.dataset import Dataset, Split, read_dataset
from cpal.errors import UserError
from cpal.files import whole_folder
from cpal.report.gallery import Folders, Ranked, best_and_worst, rank, samples, spread_over_ranks, strip_rows
from cpal.report.page import STEPS, Curve, Report, render_page, summarize
from cpal.report.provenance import commit, locked_outs, versions
from cpal.report.run_files import read_curves, read_diagnostics, read_labels, read_scores
from cpal.settings.config import load_config
from stages.job.options import Out, Params, destination, progress, run
from stages.job.paths import (
    CLASSIFIER_CURVES,
    CRF,
    DATASET,
    METRICS,
    PARAMS,
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


def main(params: Params = PARAMS, out: Out = None) -> None:
    config = load_config(params)
    target = destination(REPORT, None, out)
    dataset = read_dataset(DATASET)
    folders = Folders(Path(config.cam.maps), CRF, PSEUDO_MASKS, PREDICTIONS)
    trained = config.cam.source != "imported"  # else the classifier's curves, if any, are of another run
    maps_by = {CLASSIFIER_CURVES: "train_cam", folders.cams: "make_cams"} if trained else {}
    for folder, stage in (maps_by | STAGE_OF).items():
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; run the {stage} stage first: dvc repro {stage}")
    train = _rank(dataset, "train", PSEUDO_MASKS)
    val = _rank(dataset, "val", PREDICTIONS)
    lock = PIPELINE.with_suffix(".lock")
    half = config.report.images // 2
    report = Report(
        classes=dataset.classes,
        sentence=summarize(dataset),
        seed_source=SEED_SOURCE[config.cam.source],
        scores={name: read_scores(METRICS, name) for name in STEPS},
        labels=read_labels(METRICS) if trained else None,
        curves=(_classifier_curves() if trained else {}) | {"Segmentation": read_curves(SEGMENTATION_CURVES)},
        galleries=[
            *best_and_worst(dataset, "train", train, config.report.images - half, folders, config.cam),
            *best_and_worst(dataset, "val", val, half, folders, config.cam),
        ],
        params=params.read_text(encoding="utf-8"),
        facts={"Git commit": commit(results=("data", str(lock))), **versions()},
        outs=locked_outs(lock, without="report"),
    )
    shown = spread_over_ranks(train, ROWS) or dataset.split("train", ROWS)
    pictures = {"strips.png": strip_rows(dataset, shown, folders, config.cam), "samples.png": samples(dataset)}
    with whole_folder(target) as folder:
        (folder / "index.html").write_text(render_page(report), encoding="utf-8")
        for name, picture in pictures.items():
            Image.fromarray(picture).save(folder / name, optimize=True)


def _classifier_curves() -> dict[str, list[Curve]]:
    return {
        "Classifier": read_curves(CLASSIFIER_CURVES),
        "Prototypes, by epoch": read_diagnostics(CLASSIFIER_CURVES / "diagnostics.json"),
    }


def _rank(dataset: Dataset, split: Split, folder: Path) -> list[Ranked]:
    records = dataset.scored(split)
    return rank(dataset, progress(records, total=len(records), what=f"rank {split} images"), folder)


if __name__ == "__main__":
    run(main)
