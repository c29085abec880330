"""The stored maps of an image, checked against its record."""

from collections.abc import Iterable
from pathlib import Path

from cpal.cam import CamFile, read_cam
from cpal.dataset import Record
from cpal.errors import UserError, reading


def read_maps(folder: Path, record: Record, needed: Iterable[str] = ()) -> CamFile:
    """Read folder/ID.npz, which must hold the maps that `needed` names, see SeedRule.maps.

    Raises UserError when it is missing or damaged or lacks a map, or was made for an image of another size or with
    other labels, as imported maps are when the data set has changed since.
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
    if lacking := [name for name in needed if name not in content.maps]:
        raise UserError(f"{path}: holds no {' and '.join(lacking)} map, which cam.source needs; {cure}")
    return content
