"""One self-contained HTML page of the run, and the two pictures of the README."""

from pathlib import Path

from PIL import Image

from cpal.config import load_config
from cpal.dataset import Dataset, Split, read_dataset
from cpal.errors import UserError
from cpal.files import whole_folder
from cpal.gallery import Folders, Ranked, best_and_worst, rank, samples, spread, strip_rows
from cpal.provenance import commit, locked_outs, versions
from cpal.report import STEPS, Report, render, summarize
from cpal.results import read_curves, read_diagnostics, read_scores
from stages.options import Out, Params, destination, progress, run
from stages.paths import (
    CAMS,
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

FOLDERS = Folders(CAMS, CRF, PSEUDO_MASKS, PREDICTIONS)
STAGE_OF = {
    CLASSIFIER_CURVES: "train_cam",
    CAMS: "make_cams",
    CRF: "refine_crf",
    PSEUDO_MASKS: "write_pseudo_masks",
    SEGMENTATION_CURVES: "train_segmentation",
    PREDICTIONS: "predict_segmentation",
}
ROWS = 5  # of the README's picture


def main(params: Params = PARAMS, out: Out = None) -> None:
    config = load_config(params)
    dataset = read_dataset(DATASET)
    for folder, stage in STAGE_OF.items():
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; run the {stage} stage first: dvc repro {stage}")
    truth = {name: bool(dataset.scored("val" if name == "segmentation" else "train")) for name in STEPS}
    scores = {name: read_scores(METRICS, name, expected=known) for name, known in truth.items()}
    train = _rank(dataset, "train", PSEUDO_MASKS)
    val = _rank(dataset, "val", PREDICTIONS)
    lock = PIPELINE.with_suffix(".lock")
    half = config.report.images // 2
    report = Report(
        classes=dataset.classes,
        sentence=summarize(dataset),
        seed_source={"pacam": "PACAM", "cam": "CAM", "both": "the mean of CAM and PACAM"}[config.cam.source],
        scores={name: found for name, found in scores.items() if found is not None},
        curves={
            "Classifier": read_curves(CLASSIFIER_CURVES),
            "Prototypes, by epoch": read_diagnostics(CLASSIFIER_CURVES / "diagnostics.json"),
            "Segmentation": read_curves(SEGMENTATION_CURVES),
        },
        galleries=[
            *best_and_worst(dataset, "train", train, config.report.images - half, FOLDERS, config.cam),
            *best_and_worst(dataset, "val", val, half, FOLDERS, config.cam),
        ],
        params=params.read_text(encoding="utf-8"),
        facts={"Git commit": commit(results=("data", str(lock))), **versions()},
        outs=locked_outs(lock, without="report"),
    )
    shown = spread(train, ROWS) or dataset.split("train", ROWS)
    pictures = {"strips.png": strip_rows(dataset, shown, FOLDERS, config.cam), "samples.png": samples(dataset)}
    with whole_folder(destination(REPORT, None, out)) as folder:
        (folder / "index.html").write_text(render(report), encoding="utf-8")
        for name, picture in pictures.items():
            Image.fromarray(picture).save(folder / name, optimize=True)


def _rank(dataset: Dataset, split: Split, folder: Path) -> list[Ranked]:
    records = dataset.scored(split)
    return rank(dataset, progress(records, total=len(records), what=f"rank {split} images"), folder)


if __name__ == "__main__":
    run(main)
