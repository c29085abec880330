"""Packs label maps for the VOC test server: one tar of PNG files below the server's folder."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from cpal.data.masks import read_mask
from cpal.errors import UserError
from cpal.files import whole_file

FOLDER = "results/VOC2012/Segmentation/comp5_test_cls"
NUM_LABELS = 21


def write_submission(path: Path, masks: Path, image_ids: Sequence[str]) -> None:
    """Write the tar of masks/ID.png for each id; equal masks give equal bytes.

    Raises UserError, and writes nothing, if the list of ids is empty, or if a mask is missing, unreadable or not in the
    list, or has a label above 20 (the server accepts no void).
    """
    found = {file.stem for file in masks.glob("*.png")}
    missing, left = sorted(set(image_ids) - found), sorted(found - set(image_ids))
    if missing or left or not image_ids:
        problems = [f"lacks {len(missing)} of {len(image_ids)} images, such as {missing[0]}"] if missing else []
        problems += [f"has {len(left)} that the list has not, such as {left[0]}"] if left else []
        raise UserError(f"{masks}: {' and '.join(problems) or 'the list of images is empty'}; label exactly the listed")
    with whole_file(path) as temporary, tarfile.open(temporary, "w") as archive:
        for image_id in sorted(image_ids):
            file = masks / f"{image_id}.png"
            if (highest := read_mask(file).max()) >= NUM_LABELS:
                raise UserError(
                    f"{file}: holds the label {highest}; VOC's are 0 to {NUM_LABELS - 1}, and none is void; "
                    "predict with a model of VOC's classes"
                )
            content = file.read_bytes()
            member = tarfile.TarInfo(f"{FOLDER}/{image_id}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
