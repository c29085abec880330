"""Label maps as palette PNG: 0 background, 1..N classes, 255 void. A viewer shows colors, numpy sees ids."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from cpal.data.dataset import FORMATS
from cpal.errors import UserError
from cpal.files import whole_file

BACKGROUND = 0
VOID = 255


def voc_palette() -> np.ndarray:
    """PASCAL VOC's color of each label, uint8 (256, 3): the bits of the label spread over red, green and blue."""
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((labels >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    palette[VOID] = (224, 224, 192)
    return palette


def read_mask(path: Path) -> np.ndarray:
    """Label map uint8 (H, W).

    Raises UserError when the file is unreadable or holds anything but 8-bit labels.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such mask file")
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode not in ("P", "L"):
                raise UserError(
                    f"{path}: mode {image.mode} does not hold 8-bit labels; save it as an 8-bit palette PNG"
                )
            return np.array(image, dtype=np.uint8)
    except UserError:
        raise
    except Exception as error:  # as in read_image
        raise UserError(f"{path}: unreadable mask ({error})") from None


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write a label map uint8 (H, W) with VOC's palette."""
    image = Image.fromarray(mask.astype(np.uint8, casting="same_kind"))
    image.putpalette(voc_palette().tobytes())
    with whole_file(path) as temporary:
        image.save(temporary, format="PNG", optimize=False)
