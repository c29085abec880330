"""Export the trained model as an ONNX file, and check that ONNX Runtime gives the same labels.

Needs the weights and params.yaml, no data set.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cpal.errors import UserError
from cpal.settings.config import load_config
from stages.job.options import Params
from stages.job.paths import PARAMS, SEGMENTATION
from stages.job.run import run
from stages.job.trained import LongSide, Weights, load_trained


def main(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Photographs, or folders of them, to check it on; else noise.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")] = Path("model.onnx"),
    weights: Weights = SEGMENTATION,
    long_side: LongSide = None,
    params: Params = PARAMS,
) -> None:
    from cpal.segmentation.onnx_export import export_checked
    from cpal.segmentation.photos import find_photos

    if out.suffix != ".onnx" or out.is_dir():
        raise UserError(f"--out {out}: name a file that ends in .onnx, such as model.onnx")
    config = load_config(params)
    photos = [path for path, _ in find_photos(paths or [], [])]
    segmentor, meta, side = load_trained(weights, config.segmentation, long_side)
    resize = {"long_side": side, "scale": float(np.median(config.final_test.scales))}
    share, images = export_checked(out, segmentor, meta, photos, resize)
    print(f"{out}: ONNX Runtime gives PyTorch's label at {100 * share:.3f}% of the pixels of {images} images")


if __name__ == "__main__":
    run(main)
