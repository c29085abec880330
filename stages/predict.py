"""Label any photographs with the trained model, or export the model; needs its weights and params.yaml, no data set.

Writes OUT/masks/*.png (palette PNG of class ids), OUT/confidence/*.png (gray), OUT/overlays/*.png and OUT/summary.json;
with --format also OUT/FORMAT for an annotation tool.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cpal.errors import UserError
from cpal.exports.dispatch import Format, check_new
from cpal.exports.predicted import read_predicted
from cpal.files import sweep, write_json
from cpal.settings.config import load_config
from stages.job.exporting import MinArea, Tolerance, export_for_tool, outlines
from stages.job.job import Device
from stages.job.options import Params, progress, run
from stages.job.paths import PARAMS, SEGMENTATION


class Export(StrEnum):
    onnx = "onnx"


def main(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Photographs, or folders of them.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the results go.")] = Path("predictions"),
    weights: Annotated[Path, typer.Option("--weights", metavar="PATH", help="The trained model.")] = SEGMENTATION,
    long_side: Annotated[
        int | None,
        typer.Option(
            "--long-side",
            min=16,
            help="See larger photographs at this long side, in pixels; as the training images' by default.",
            show_default=False,
        ),
    ] = None,
    min_confidence: Annotated[
        float,
        typer.Option("--min-confidence", min=0, max=1, help="Pixels of a lower confidence become void (255)."),
    ] = 0.0,
    export: Annotated[
        Export | None,
        typer.Option(
            "--export", help="Write OUT/model.onnx, or OUT if it ends in .onnx, and check it on the photographs."
        ),
    ] = None,
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
    from cpal.segmentation.deeplab import load_segmentor  # takes seconds, which --help need not wait for
    from cpal.segmentation.inference import label_photo
    from cpal.segmentation.onnx_export import export_checked
    from cpal.segmentation.photos import FOLDERS, check_folder, find_photos, label_photos, summary
    from stages.job.device import torch_device

    options = outlines(format, tolerance, min_area, pictures=True)
    config = load_config(params)
    final = config.final_test
    photos = find_photos(paths or [], [out / name for name in (*FOLDERS, *Format)])
    segmentor, meta = load_segmentor(weights, config.segmentation)
    side = long_side or meta.get("long_side")
    if side is None:
        raise UserError(f"{weights}: does not say how large its training images were; add --long-side, such as 500")
    if export is not None:
        if format is not None or min_confidence or device not in ("auto", "cpu"):
            raise UserError(
                "--export writes a model on the CPU and labels nothing; "
                "leave --format, --min-confidence and --device out"
            )
        target = out if out.suffix == ".onnx" and not out.is_dir() else out / "model.onnx"
        resize = {"long_side": side, "scale": float(np.median(final.scales))}
        share, images = export_checked(target, segmentor, meta, [path for path, _ in photos], resize)
        print(f"{target}: ONNX Runtime gives PyTorch's label at {100 * share:.3f}% of the pixels of {images} images")
        return
    if not photos:
        raise UserError("name photographs, or folders of them: python -m stages.predict PATH... --out DIR")
    check_folder(out, also=tuple(Format))
    if format is not None:
        check_new(out / format)
    sweep(out)
    segmentor.to(torch_device(device))
    rows, failed = label_photos(
        progress(photos, total=len(photos), what="predict"),
        out,
        lambda image: label_photo(segmentor, image, final, long_side=side, min_confidence=min_confidence),
        meta["classes"],
    )
    how = {"long_side": side, "min_confidence": min_confidence}
    write_json(out / "summary.json", summary(weights, meta, final, rows, failed) | how)
    if numbers := note(meta["classes"]):
        print(f"note: {numbers}")
    print(f"{out / 'summary.json'}: {len(rows)} image(s); masks, confidence and overlays beside it")
    if bare := sum(set(row["classes"]) <= {"background"} for row in rows):
        print(f"{bare} of them show no class: the model found nothing there")
    if format is not None and rows:
        export_for_tool(format, out / format, *read_predicted(out), options)
    if reduced := sum(row["crf_size"] is not None for row in rows):
        print(f"{reduced} of them too large for the CRF: refined at the smaller crf_size that the summary names")
    if failed:
        lines = [f"{len(failed)} of {len(photos)} file(s) are no readable pictures:", *(f["error"] for f in failed)]
        raise UserError("\n  - ".join(lines))


if __name__ == "__main__":
    run(main)
