"""Facts of one image file: whether it can be read, its form, and two hashes that find copies."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from cpal.data.images import PICTURES, open_image, refusal
from cpal.files import file_sha256

SRGB = (b"sRGB", "sRGB".encode("utf-16-be"))  # in the description of a color profile, of either version
ALIKE = 10  # of 128 bits: reached by copies at half the size or at JPEG quality 30, not by different photographs
FLAT = 2.0  # standard deviation of the gray values below which a hash would be noise
BLOCK = 4_000_000  # pairs of hashes compared at once


@dataclass(frozen=True)
class ImageFacts:
    """`trouble`: missing, empty, truncated, too large, unreadable or not read; None: the image can be read.

    `reason` and `cure` explain the trouble. `size`: (width, height) of the upright image. `look`: a perceptual hash of
    128 bits in two numbers; None if the image is too flat.
    """

    trouble: str | None = None
    reason: str = ""
    cure: str = ""
    sha256: str | None = None
    size: tuple[int, int] | None = None
    traits: frozenset[str] = frozenset()
    look: tuple[int, int] | None = None


def read_facts(path: Path) -> ImageFacts:
    """Decode the file once, as `read_image` does. Problems are returned and not raised."""
    try:
        if not path.is_file():  # a pipe would never end
            return ImageFacts("missing")
        if path.stat().st_size == 0:
            return ImageFacts("empty")
        if why := refusal(path):
            return ImageFacts("not read", why.what, why.cure)
        sha256 = file_sha256(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of damage that it can live with
            with open_image(path) as image:
                return _decode(image, path, sha256)
    except Image.DecompressionBombError as error:
        return ImageFacts("too large", str(error))
    except UnidentifiedImageError:  # whose own text repeats the path
        return ImageFacts("unreadable", "no format that Pillow knows")
    except Exception as error:  # as in read_image
        reason = str(error) or type(error).__name__
        return ImageFacts("truncated" if "truncated" in reason.lower() else "unreadable", reason)


def _decode(image: Image.Image, path: Path, sha256: str) -> ImageFacts:
    file_format = image.format
    present = {
        "ending": file_format not in PICTURES.get(path.suffix.lower(), (file_format,)),
        "gray": image.mode in ("1", "L", "LA"),
        "palette": image.mode == "P",
        "cmyk": image.mode == "CMYK",
        "clipped": image.mode == "F" or image.mode.startswith("I"),
        "deep": image.mode.startswith("RGB") and ";16" in str(getattr(image, "tile", "")),
    }
    image.load()
    profile = image.info.get("icc_profile") or SRGB[0]
    present["profile"] = not any(name in profile for name in SRGB)
    orientation = image.getexif().get(ExifTags.Base.Orientation)  # after load: PNG may tell it behind its pixels
    present["turned"] = orientation in range(2, 9)
    present["sideways"] = orientation in range(5, 9)
    present["transparent"] = _is_see_through(image)
    present["animated"] = file_format != "MPO" and _is_animated(image)
    ImageOps.exif_transpose(image, in_place=True)
    upright = image.convert("RGB")
    traits = frozenset(name for name, true in present.items() if true)
    return ImageFacts(sha256=sha256, size=upright.size, traits=traits, look=perceptual_hash(upright))


def _is_see_through(image: Image.Image) -> bool:
    """Whether a pixel is not opaque."""
    if image.mode in ("1", "L", "P", "RGB") and "transparency" not in image.info:
        return False
    if image.mode not in ("1", "L", "P", "RGB", "LA", "PA", "RGBA"):
        return False
    return int(np.asarray(image.convert("RGBA").getchannel("A")).min()) < 255


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # in a later picture; the first could be read
        return False


def perceptual_hash(image: Image.Image) -> tuple[int, int] | None:
    """dHash: for each cell of an 8x8 grid, a bit each for a lighter right neighbor and a lighter lower neighbor.

    Copies of other size, compression or brightness have similar hashes. None for an image without structure.
    """
    gray = image.convert("L")
    wide = np.asarray(gray.resize((9, 8), Image.Resampling.BOX), np.int16)
    high = np.asarray(gray.resize((8, 9), Image.Resampling.BOX), np.int16)
    if wide.std() < FLAT:
        return None
    bits = (wide[:, 1:] > wide[:, :-1], high[1:] > high[:-1])
    right, below = (int.from_bytes(np.packbits(part).tobytes(), "big") for part in bits)
    return right, below


def earlier_alike(looks: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """looks uint64 (N, 2) -> (N,): the first earlier row that differs in at most ALIKE bits, -1 if there is none.

    All pairs are compared, `block` of them at a time.
    """
    count = len(looks)
    found = np.full(count, -1)
    step = max(1, block // max(1, count))
    for start in range(0, count, step):
        rows = looks[start : start + step]
        end = start + len(rows)
        bits = np.bitwise_count(rows[:, None, 0] ^ looks[None, :end, 0])
        bits += np.bitwise_count(rows[:, None, 1] ^ looks[None, :end, 1])
        near = (bits <= ALIKE) & (np.arange(end) < np.arange(start, end)[:, None])
        found[start:end] = np.where(near.any(axis=1), near.argmax(axis=1), -1)
    return found
