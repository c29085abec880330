"""Shared by stages.predict and stages.export_onnx: the trained model, and the size at which it has learned objects."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cpal.errors import UserError
from cpal.settings.config import SegmentationConfig

if TYPE_CHECKING:
    from cpal.segmentation.deeplab import Segmentor

Weights = Annotated[Path, typer.Option("--weights", metavar="PATH", help="The trained model.")]
LongSide = Annotated[
    int | None,
    typer.Option(
        "--long-side",
        min=16,
        help="See larger photographs at this long side, in pixels; as the training images' by default.",
        show_default=False,
    ),
]


def load_trained(
    weights: Path, settings: SegmentationConfig, long_side: int | None
) -> tuple["Segmentor", dict[str, Any], int]:
    """The model, the description in its file, and the long side of photographs in pixels.

    Raises UserError if neither the file nor `long_side` tells the size.
    """
    from cpal.segmentation.deeplab import load_segmentor  # takes seconds, which --help need not wait for

    segmentor, meta = load_segmentor(weights, settings)
    side = long_side or meta.get("long_side")
    if side is None:
        raise UserError(f"{weights}: does not say how large its training images were; add --long-side, such as 500")
    return segmentor, meta, side
