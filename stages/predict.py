"""Label any photographs with the trained model; needs the weights and params.yaml, no data set.

Writes OUT/masks/*.png (palette PNG of class ids), OUT/confidence/*.png (gray), OUT/overlays/*.png and OUT/summary.json;
with --format also OUT/FORMAT for an annotation tool.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from cpal import __version__
from cpal.errors import UserError
from cpal.exports.dispatch import Format, check_new
from cpal.exports.predicted import read_predicted
from cpal.files import file_sha256, sweep, write_json
from cpal.settings.config import load_config
from stages.job.command import Device
from stages.job.exporting import MinArea, Tolerance, export_for_tool, outlines
from stages.job.options import Params
from stages.job.paths import PARAMS, SEGMENTATION
from stages.job.progress import progress
from stages.job.run import run
from stages.job.stopping import CONTINUES
from stages.job.trained import LongSide, Weights, load_trained


def main(
    paths: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the results go.")] = Path("predictions"),
    weights: Weights = SEGMENTATION,
    long_side: LongSide = None,
    min_confidence: Annotated[
        float,
        typer.Option("--min-confidence", min=0, max=1, help="Pixels of a lower confidence become void (255)."),
    ] = 0.0,
    format: Annotated[
        Format | None,
        typer.Option("--format", help="Also write OUT/FORMAT for an annotation tool: docs/export_masks.md."),
    ] = None,
    tolerance: Tolerance = None,
    min_area: MinArea = None,
    params: Params = PARAMS,
    device: Device = "auto",
) -> None:
    from cpal.maps.fonts import note
    from cpal.segmentation.finished import FOLDERS, Finished
    from cpal.segmentation.inference import label_photo  # takes seconds, which --help need not wait for
    from cpal.segmentation.photos import check_folder, find_photos, label_photos, summary
    from stages.job.device import torch_device

    options = outlines(format, tolerance, min_area, pictures=True)
    config = load_config(params)
    final = config.final_test
    photos = find_photos(paths, [out / name for name in (*FOLDERS, *Format)])
    segmentor, meta, side = load_trained(weights, config.segmentation, long_side)
    check_folder(out, also=tuple(Format))
    if format is not None:
        check_new(out / format)
    sweep(out)
    segmentor.to(torch_device(device))
    how = {"long_side": side, "min_confidence": min_confidence, "image_cut": config.segmentation.image_cut}
    made_with = json.dumps([file_sha256(weights), final.model_dump(), how, __version__])
    finished = Finished(out / ".finished.jsonl", made_with)
    left = [photo for photo in photos if finished.row(*photo) is None]
    if len(left) < len(photos):
        print(f"{len(photos) - len(left)} of {len(photos)} photographs are labeled already: the command continues")
    failed = label_photos(
        progress(left, total=len(left), what="predict"),
        out,
        lambda image: label_photo(segmentor, image, final, long_side=side, min_confidence=min_confidence),
        meta["classes"],
        finished,
    )
    rows = [row for photo in photos if (row := finished.row(*photo)) is not None]
    write_json(out / "summary.json", summary(weights, meta, final, rows, failed) | how)
    finished.forget()
    if numbers := note(meta["classes"]):
        print(f"note: {numbers}")
    print(f"{out / 'summary.json'}: {len(rows)} image(s); masks, confidence and overlays beside it")
    if bare := sum(set(row["classes"]) <= {"background"} for row in rows):
        whole = "; train it longer: segmentation.iterations, and see the report" if bare == len(rows) else ""
        print(f"{bare} of them show no class: the model found nothing there{whole}")
    if format is not None and rows:
        export_for_tool(format, out / format, *read_predicted(out), options)
    if reduced := sum(row["crf_size"] is not None for row in rows):
        print(f"{reduced} of them too large for the CRF: refined at the smaller crf_size that the summary names")
    if failed:
        lines = [f"{len(failed)} of {len(photos)} file(s) are no readable pictures:", *(f["error"] for f in failed)]
        raise UserError("\n  - ".join(lines))


if __name__ == "__main__":
    run(main, stopped=CONTINUES)
