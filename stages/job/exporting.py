"""Shared by stages.export_masks and stages.predict: the options of an export, and the line that sums it up."""

from pathlib import Path
from typing import Annotated

import typer

from cpal.errors import UserError
from cpal.exports.dispatch import Format, write_export
from cpal.exports.items import Item, Options
from stages.job.progress import progress

TOLERANCE, MIN_AREA = 1.0, 1
Tolerance = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        min=0,
        max=100,
        help="Pixels by which an outline may leave the mask's, to have fewer points.",
        show_default=f"{TOLERANCE:g}",
    ),
]
MinArea = Annotated[
    int | None,
    typer.Option(
        "--min-area",
        min=1,
        help="Parts of fewer pixels are left out, and such holes filled.",
        show_default=f"{MIN_AREA}",
    ),
]
PIXELS = (Format.voc, Format.png)  # formats without outlines

MANY = 20  # regions an image; more are probably specks of a few pixels


def outlines(format: Format | None, tolerance: float | None, min_area: int | None, *, pictures: bool) -> Options:
    """The options of an export. Raises UserError if they shape outlines, and the export has none."""
    if format in (None, *PIXELS) and (tolerance, min_area) != (None, None):
        which = "without --format" if format is None else f"with --format {format}"
        raise UserError(f"--tolerance and --min-area shape outlines, and there are none {which}; leave them out")
    return Options(TOLERANCE if tolerance is None else tolerance, MIN_AREA if min_area is None else min_area, pictures)


def export_for_tool(format: Format, out: Path, items: list[Item], classes: tuple[str, ...], options: Options) -> None:
    """Write the export and print a line about its content."""
    counts = write_export(format, out, progress(items, total=len(items), what="export masks"), classes, options)
    parts = [f"{counts.images} image(s) of {len(classes)} class(es)"]
    if format not in PIXELS:
        parts.append(f"{counts.regions} region(s), {counts.holes} of them with holes")
        if options.min_area == 1 and counts.regions > MANY * counts.images:
            parts.append("which is many: --min-area 20 leaves specks out")
        if options.min_area > 1:
            parts.append(f"{counts.small} smaller than {options.min_area} pixels left out")
    print(f"{out}: {', '.join(parts)}")
