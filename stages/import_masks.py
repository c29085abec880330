"""Import corrected masks from an annotation tool; train_segmentation then learns from them without changes.

docs/export_masks.md says what is read from each format, and how to continue.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cpal.data.dataset import read_dataset
from cpal.data.masks import write_mask
from cpal.errors import UserError
from cpal.exports.corrected import Corrections
from cpal.exports.dispatch import Format, read_drawn
from cpal.files import whole_folder
from stages.job.paths import CORRECTED_MASKS, DATASET
from stages.job.run import run

TRACKED = ("README.md", ".gitignore")  # by git: DVC needs the folder before the first import
GO_ON = "dvc exp run -S pseudo_mask.corrected=true evaluate_pseudo_mask evaluate_segmentation report"


def main(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file or folder that the tool exported.")],
    format: Annotated[Format, typer.Option("--format", help="The tool's format.")],
    only: Annotated[
        Path | None,
        typer.Option("--only", metavar="LIST", help="Import these images alone: a file with an id on each line."),
    ] = None,
    add: Annotated[
        bool | None,
        typer.Option("--add/--replace", help="Keep the masks of earlier imports, or remove them.", show_default=False),
    ] = None,
    void_unlabeled: Annotated[
        bool, typer.Option("--void-unlabeled", help="Make classes void that an image is not labeled with.")
    ] = False,
) -> None:
    if path.resolve().is_relative_to(CORRECTED_MASKS.resolve()):
        raise UserError(f"{path}: lies in {CORRECTED_MASKS}, which the result replaces; move the files elsewhere")
    earlier = list(CORRECTED_MASKS.glob("*.png"))
    if earlier and add is None:
        raise UserError(
            f"{CORRECTED_MASKS}: holds {len(earlier)} mask(s) of earlier imports; say --add to keep those "
            "that this import does not replace, or --replace to remove them"
        )
    corrections = Corrections(read_dataset(DATASET), void_unlabeled)
    wanted = None if only is None else frozenset(_ids(only, corrections))
    with whole_folder(CORRECTED_MASKS) as folder:
        for name in TRACKED:
            if (CORRECTED_MASKS / name).is_file():
                shutil.copyfile(CORRECTED_MASKS / name, folder / name)
        for file in earlier if add else ():
            shutil.copyfile(file, folder / file.name)
        for image in read_drawn(format, path, corrections.sizes):
            if (accepted := corrections.accept(image, wanted)) is not None:
                record, labels = accepted
                write_mask(folder / f"{record.image_id}.png", labels)
        corrections.refuse(path, wanted or ())
        total = len(list(folder.glob("*.png")))
    print(f"{CORRECTED_MASKS}: {len(corrections.done)} mask(s) imported, {total} there")
    if corrections.left_out:
        print(f"{corrections.left_out} image(s) left out, which are not trained on or which --only does not name")
    print(f"Next: {GO_ON}")


def _ids(path: Path, corrections: Corrections) -> Iterator[str]:
    """Ids of the images in a list of ids, file names or paths. A line that names no image stays as it is."""
    try:
        lines = filter(None, map(str.strip, path.read_text(encoding="utf-8-sig").splitlines()))
    except UnicodeDecodeError:
        raise UserError(f"--only {path}: no text, but a list of ids is one; name another file") from None
    for line in lines:
        yield record.image_id if (record := corrections.find(line)) else line


if __name__ == "__main__":
    run(main)
