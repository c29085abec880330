"""Export masks to an annotation tool, for correction: COCO, YOLO, CVAT, Label Studio, labelme, VOC or PNG.

docs/export_masks.md says what each format keeps. stages.import_masks imports the corrected masks.
"""

from pathlib import Path
from typing import Annotated

import typer

from cpal.data.dataset import Dataset, read_dataset
from cpal.errors import UserError
from cpal.exports.dispatch import Format, check_new
from cpal.exports.items import Item
from cpal.exports.predicted import read_predicted
from cpal.maps.refined import TRAINING
from stages.job.exporting import PIXELS, MinArea, Tolerance, export_for_tool, outlines
from stages.job.paths import DATASET, OUTPUTS, PREDICTIONS, PSEUDO_MASKS
from stages.job.run import run

SOURCES = {  # name -> folder, stage that writes it
    "pseudo_masks": (PSEUDO_MASKS, "write_pseudo_masks"),
    "training_masks": (PSEUDO_MASKS / TRAINING, "write_pseudo_masks"),
    "predictions": (PREDICTIONS, "predict_segmentation"),
}


def main(
    format: Annotated[Format, typer.Option("--format", help="The tool's format.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write, a new one.")],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="pseudo_masks|training_masks|predictions|DIR",
            help="Masks of the data set (training_masks: void where unsure), or a folder that stages.predict wrote.",
        ),
    ] = "pseudo_masks",
    tolerance: Tolerance = None,
    min_area: MinArea = None,
    pictures: Annotated[bool, typer.Option(help="Copy the pictures too.")] = True,
) -> None:
    options = outlines(format, tolerance, min_area, pictures=pictures)
    check_new(out)
    for output in OUTPUTS:
        if out.resolve().is_relative_to(output.resolve()):
            raise UserError(f"--out {out}: lies in {output}, which results replace; choose another folder")
    if source == "training_masks" and format not in PIXELS:
        raise UserError(f"--from training_masks: {format} keeps no void, which is what they add; take voc or png")
    if source in SOURCES:
        dataset = read_dataset(DATASET)
        items, classes = _items(dataset, source), dataset.classes
    else:
        items, classes = read_predicted(Path(source))
    export_for_tool(format, out, items, classes, options)


def _items(dataset: Dataset, source: str) -> list[Item]:
    """The images of the data set that have a mask in this source."""
    folder, stage = SOURCES[source]
    masks = {path.stem: path for path in folder.glob("*.png")}
    items = [
        Item(record.image_id, dataset.image_path(record), masks[record.image_id], record.size)
        for record in dataset.records
        if record.image_id in masks
    ]
    if not items and source == "training_masks" and PSEUDO_MASKS.is_dir():
        raise UserError(f"{folder}: not there, since pseudo_mask.unsure_background is null; take --from pseudo_masks")
    if not items:
        raise UserError(f"{folder}: holds no masks of the data set; make them with: dvc repro {stage}")
    return items


if __name__ == "__main__":
    run(main)
