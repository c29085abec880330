"""Take over the CAMs of another method, such as IRN or Puzzle-CAM, and go on from there without a classifier.

DIR holds one ID.npy for each training image, as the method's own script saves it. docs/import_cams.md says what is read
from the files, and how to continue.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cpal.data.dataset import Record, read_dataset
from cpal.errors import UserError
from cpal.files import whole_folder
from cpal.maps.cams import CamFile, map_size, write_cam
from cpal.sources.peer_cams import PEERS, import_cam
from stages.job.in_parallel import in_parallel
from stages.job.options import DEFAULT_WORKERS, Workers
from stages.job.paths import DATASET, IMPORTED_CAMS
from stages.job.run import run

GO_ON = "evaluate_seed evaluate_crf evaluate_pseudo_mask evaluate_segmentation"


def main(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the method's .npy files.")],
    method: Annotated[str, typer.Option("--from", metavar="METHOD", help=f"{', '.join(PEERS)}.")],
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", metavar="A,B,...", help="The method's classes in its order; default: the data set's."
        ),
    ] = None,
    workers: Workers = DEFAULT_WORKERS,
) -> None:
    if method not in PEERS:
        raise UserError(f"--from {method}: unknown; choose {', '.join(PEERS)}")
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    if source.resolve().is_relative_to(IMPORTED_CAMS.resolve()):
        raise UserError(f"{source}: lies in {IMPORTED_CAMS}, which the result replaces; move the files elsewhere")
    peer, dataset = PEERS[method], read_dataset(DATASET)
    columns = _columns(classes, dataset.classes)
    records = dataset.split("train")
    labeled = [record for record in records if record.labels]
    missing = [record.image_id for record in labeled if not (source / f"{record.image_id}.npy").is_file()]
    if missing:
        shown = ", ".join(f"{image_id}.npy" for image_id in missing[:5]) + ", ..." * (len(missing) > 5)
        raise UserError(
            f"{source}: lacks {len(missing)} of the {len(labeled)} training images that have a class: {shown}; let the "
            "method make the CAMs of the whole training list"
        )
    with whole_folder(IMPORTED_CAMS) as folder:

        def import_one(record: Record) -> tuple[int, int]:
            found = import_cam(source / f"{record.image_id}.npy", peer, record, columns)
            write_cam(folder / f"{record.image_id}.npz", found.content)
            return found.unlabeled, found.absent

        counts = np.array(in_parallel(workers, "import CAMs", import_one, labeled)).reshape(-1, 2).sum(axis=0)
        for record in (r for r in records if not r.labels):  # background throughout, whatever the method made of them
            nothing = CamFile(np.zeros(0, np.int64), {"cam": np.zeros((0, *map_size(record.size)))}, record.size)
            write_cam(folder / f"{record.image_id}.npz", nothing)
    print(f"{IMPORTED_CAMS}: maps of {len(labeled)} images, and {len(records) - len(labeled)} images without a class")
    if counts.any():
        print(
            f"Left out: {counts[0]} maps of classes that the image is not labeled with. No map: {counts[1]} labels, "
            "which therefore cannot be found. The method learned from other image-level labels than data.labels gives."
        )
    threshold = "" if peer.threshold is None else f"-S seeds.cam_threshold={peer.threshold} "
    print(f"Next: dvc exp run -S seeds.source=imported -S seeds.maps={IMPORTED_CAMS} {threshold}{GO_ON}")


def _columns(classes: str | None, kept: tuple[str, ...]) -> list[int | None]:
    """The data set's mask value of each of the method's class ids, None where the data set lacks the class."""
    names = list(kept) if classes is None else [name.strip() for name in classes.split(",")]
    if len(set(names)) < len(names) or not all(names):
        raise UserError(f"--classes {classes}: name each class once, with a comma between them")
    if unknown := [name for name in kept if name not in names]:
        raise UserError(f"--classes {classes}: lacks {', '.join(unknown)} of the data set")
    return [kept.index(name) + 1 if name in kept else None for name in names]


if __name__ == "__main__":
    run(main)
