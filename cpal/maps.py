"""The stored maps of an image, checked against its record."""

from pathlib import Path

from cpal.cam import CamFile, read_cam
from cpal.dataset import Record
from cpal.errors import UserError, reading


def read_maps(folder: Path, record: Record) -> CamFile:
    """Read folder/ID.npz.

    Raises UserError when it is missing or damaged, or was made for an image of another size or with other labels, as
    imported maps are when the data set has changed since.
    """
    path = folder / f"{record.image_id}.npz"
    cure = "make them again: python -m stages.import_cams for imported ones, else dvc repro make_cams"
    with reading(path, cure=cure):
        content = read_cam(path)
    size = (record.height, record.width)
    if content.size != size or not set(content.classes.tolist()) <= set(record.labels):
        raise UserError(
            f"{path}: maps of classes {content.classes.tolist()} of an image of {content.size}, but the data set says "
            f"{list(record.labels)} and {size}; {cure}"
        )
    return content
