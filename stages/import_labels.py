"""Convert image-level labels in a .npy file (cls_labels.npy) into labels.csv, once.

Code for weakly supervised segmentation ships a pickled dictionary: image id -> a 0 or 1 for each class; or a matrix.
Afterwards set data.labels to csv, and data.labels_file to the path of the file (a relative one starts at data.root).
"""

import csv
from pathlib import Path
from typing import Annotated

import typer

from cpal.errors import UserError
from cpal.files import whole_file
from cpal.sources.label_dict import Background, read_label_dict
from cpal.sources.voc import CLASSES
from stages.job.run import run


def main(
    source: Annotated[Path, typer.Argument(metavar="cls_labels.npy", help="The pickled dictionary.")],
    target: Annotated[Path, typer.Argument(metavar="labels.csv", help="The file to write.")],
    classes: Annotated[
        str, typer.Option("--classes", metavar="A,B,...", help="The class that each column stands for, in order.")
    ] = ",".join(CLASSES),
    ids: Annotated[
        Path | None,
        typer.Option("--ids", metavar="LIST", help="Image ids, a line each, of integer keys or of a matrix's rows."),
    ] = None,
    background: Annotated[
        Background,
        typer.Option("--background", help="If the array has a column more than --classes: where the background is."),
    ] = Background.auto,
) -> None:
    if target.exists():
        raise UserError(f"{target}: is there already; name a new file, or remove this one")
    names = [name.strip() for name in classes.split(",")]
    if len(set(names)) < len(names) or not all(names) or ";" in classes:
        raise UserError(f"--classes {classes}: name each class once, with a comma between them and no `;` inside")
    found = read_label_dict(source, names, ids=ids, background=background)
    with whole_file(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("image", "labels"), *found.rows])
    for note in found.notes:
        print(note)
    print(f"{target}: labels of {len(found.rows)} images")


if __name__ == "__main__":
    run(main)
