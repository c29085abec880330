"""One self-contained HTML page of the run, and the two pictures of the README."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from cpal.config import load_config
from cpal.dataset import Dataset, Split, read_dataset
from cpal.errors import UserError
from cpal.gallery import Folders, Ranked, best_and_worst, rank, samples, spread, strip_rows
from cpal.provenance import commit, locked_outs, versions
from cpal.report import STEPS, Curve, Report, Scores, render
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
    scores = {name: found for name in STEPS if (found := _scores(dataset, name)) is not None}
    train = _rank(dataset, "train", PSEUDO_MASKS)
    val = _rank(dataset, "val", PREDICTIONS)
    lock = PIPELINE.with_suffix(".lock")
    half = config.report.images // 2
    report = Report(
        classes=dataset.classes,
        sentence=_sentence(dataset),
        seed_source={"pacam": "PACAM", "cam": "CAM", "both": "the mean of CAM and PACAM"}[config.cam.source],
        scores=scores,
        curves={"Classifier": _curves(CLASSIFIER_CURVES), "Segmentation": _curves(SEGMENTATION_CURVES)},
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
    _write(destination(REPORT, None, out), report, pictures)


def _write(target: Path, report: Report, pictures: dict[str, np.ndarray]) -> None:
    """All files or none."""
    staged = target.with_name(f".{target.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        (staged / "index.html").write_text(render(report), encoding="utf-8")
        for name, picture in pictures.items():
            Image.fromarray(picture).save(staged / name, optimize=True)
        if target.exists():
            shutil.rmtree(target)
        staged.rename(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _sentence(dataset: Dataset) -> str:
    train, val, classes = len(dataset.split("train")), len(dataset.split("val")), dataset.classes
    names = f" ({', '.join(classes)})" if len(classes) <= 20 else ""
    return (
        f"From image-level labels to a segmentation model of {len(classes)} classes{names}: {train} training and {val} "
        "validation images, and no network that learned from a ground-truth mask."
    )


def _scores(dataset: Dataset, name: str) -> Scores | None:
    """Metrics of one step and its IoU by class; None where there is no ground truth to score against."""
    path, rows = METRICS / f"{name}.json", METRICS / f"{name}_iou.json"
    if path.is_file() and rows.is_file():
        iou = {row["class"]: row["iou"] for row in json.loads(rows.read_text(encoding="utf-8"))}
        return Scores(json.loads(path.read_text(encoding="utf-8")), iou)
    if dataset.scored("val" if name == "segmentation" else "train"):
        raise UserError(f"{path}: missing; run the evaluate_{name} stage first: dvc repro evaluate_{name}")
    return None


def _curves(folder: Path) -> list[Curve]:
    """The losses that DVCLive recorded below a training's folder; points that are no numbers are left out."""
    curves = []
    for path in sorted((folder / "plots" / "metrics").rglob("*loss*.tsv")):
        with path.open(encoding="utf-8", newline="") as stream:
            points = [(float(row["step"]), float(row[path.stem])) for row in csv.DictReader(stream, delimiter="\t")]
        points = [(step, value) for step, value in points if math.isfinite(value)]
        if points:
            name = path.relative_to(folder / "plots" / "metrics").with_suffix("").as_posix()
            curves.append(Curve(name, [step for step, _ in points], [value for _, value in points]))
    return curves


def _rank(dataset: Dataset, split: Split, folder: Path) -> list[Ranked]:
    records = dataset.scored(split)
    return rank(dataset, progress(records, total=len(records), what=f"rank {split} images"), folder)


if __name__ == "__main__":
    run(main)
