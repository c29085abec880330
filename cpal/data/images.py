"""Which files are images, and how they are read. To add an image format, add its file endings to `PICTURES`."""

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from cpal.data.dataset import Record
from cpal.errors import UserError, again
from cpal.settings.access import check_readable, stand_in

PICTURES = {  # file ending in lower case -> Pillow's names of its formats; pillow-heif adds HEIF
    ".jpg": ("JPEG", "MPO"),  # MPO: JPEG as some cameras write it
    ".jpeg": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".bmp": ("BMP",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".webp": ("WEBP",),
    ".gif": ("GIF",),
    ".jpe": ("JPEG", "MPO"),
    ".jfif": ("JPEG", "MPO"),
    ".mpo": ("JPEG", "MPO"),
    ".apng": ("PNG",),
    ".dib": ("BMP", "DIB"),
    ".jp2": ("JPEG2000",),
    ".j2k": ("JPEG2000",),
    ".jpf": ("JPEG2000",),
    ".jpx": ("JPEG2000",),
    ".ppm": ("PPM",),
    ".pgm": ("PPM",),
    ".pbm": ("PPM",),
    ".pnm": ("PPM",),
    ".avif": ("AVIF",),
    ".heic": ("HEIF",),
    ".heif": ("HEIF",),
    ".hif": ("HEIF",),
    ".qoi": ("QOI",),
    ".tga": ("TGA",),
    ".pcx": ("PCX",),
}
ENDINGS = tuple(PICTURES)
ENDING_DECIDES = ("TGA", "PCX", "DIB")  # formats without a clear signature: a damaged file could pass as any of them


class Unread(NamedTuple):
    """A kind of file that is not read as an image, and the cure."""

    what: str
    cure: str


RAW = Unread("raw files of a camera", "develop them into JPEG or PNG")
DRAWING = Unread("vector drawings, which other programs draw", "save them as PNG")
LAYERS = Unread("files of an image editor", "export them as PNG")
OTHER = Unread("pictures of a format that is not read", "save them as PNG or JPEG")
ICON = Unread("icons", "save them as PNG if they belong to the pictures")
HEIC = Unread("HEIC pictures, which need pillow-heif", "pip install pillow-heif, or save them as JPEG")
UNREAD = {  # endings of image formats that are not read
    ".3fr .arw .cr2 .cr3 .crw .dng .iiq .nef .nrw .orf .pef .raf .raw .rw2 .sr2 .srw .x3f": RAW,
    ".eps .ps .ai .svg .svgz .wmf .emf": DRAWING,
    ".psd .psb .xcf .kra": LAYERS,
    ".jxl .exr .hdr .dds .dcm .fits .sgi .ras .xbm .xpm .pfm": OTHER,
    ".ico .icns .cur": ICON,
}
UNREAD_ENDINGS = {ending: why for endings, why in UNREAD.items() for ending in endings.split()}
SIGNATURES = {  # pattern of a file's first bytes -> file ending of this format
    rb"\xff\xd8\xff": ".jpg",
    rb"\x89PNG\r\n\x1a\n": ".png",
    rb"GIF8[79]a": ".gif",
    rb"RIFF....WEBP": ".webp",
    rb"BM....\0\0\0\0": ".bmp",
    rb"II\*\0|MM\0\*": ".tif",
    rb"\0\0\0\x0cjP  ": ".jp2",
    rb"....ftyp(avif|avis|mif1.{0,20}avif)": ".avif",
    rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)": ".heic",
    rb"8BPS": ".psd",
    rb"%!PS": ".eps",
    rb"\xff\x0a|\0\0\0\x0cJXL ": ".jxl",
}


def first_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(512)


def ending_of_content(head: bytes) -> str | None:
    """The file ending of the image format that a file's first bytes show; None if they show no image format."""
    return next((end for sign, end in SIGNATURES.items() if re.match(sign, head, re.DOTALL)), None)


@cache
def heif_is_installed() -> bool:
    """Whether pillow-heif (the extra `heif`) is installed. If so, Pillow reads HEIF files after this call."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


@cache
def _installed(ending: str) -> tuple[str, ...]:
    """Formats that Pillow may open in a file with this ending.

    Formats with a clear signature are allowed for every ending. Formats that are not in `PICTURES` are never tried: for
    EPS, Pillow would start another program.
    """
    Image.init()
    signed = [name for names in PICTURES.values() for name in names if name not in ENDING_DECIDES]
    return tuple(name for name in dict.fromkeys([*signed, *PICTURES.get(ending, ())]) if name in Image.OPEN)


def refusal(path: Path) -> Unread | None:
    """Why an existing file is not opened as an image, found without decoding it; None if it may be opened."""
    ending, head = path.suffix.lower(), first_bytes(path)
    if ending in UNREAD_ENDINGS:
        return UNREAD_ENDINGS[ending]  # Pillow would read only the small preview in a raw file
    if head and (why := stand_in(head)):
        return Unread(*why)
    by_content = ending_of_content(head)
    if by_content == ".heic" and not heif_is_installed():
        return HEIC
    return UNREAD_ENDINGS.get(by_content or "")


def open_image(path: Path) -> Image.Image:
    """Pillow's image, not decoded yet. Raises Pillow's errors for a damaged file."""
    return Image.open(path, formats=_installed(path.suffix.lower()))


def read_record_image(path: Path, record: Record) -> np.ndarray:
    """RGB uint8 (H, W, 3) of a record.

    Raises as `read_image`, and UserError if the image size has changed since `prepare`.
    """
    image = read_image(path)
    if image.shape[:2] != record.size:
        raise UserError(f"{path}: is of {image.shape[:2]}, but was of {record.size} at prepare; {again('prepare')}")
    return image


def read_image(path: Path) -> np.ndarray:
    """RGB uint8 (H, W, 3), turned upright by its EXIF orientation.

    Raises UserError if the file is missing, not readable for this user, not a regular file, of a format that is not
    read, damaged, or has gray values of more than 8 bits.
    """
    check_readable(path, missing="no such image file; put it there, or take the image off its list")
    try:
        if why := refusal(path):
            raise UserError(f"{path}: not read as a picture ({why.what}); {why.cure}")
        with open_image(path) as image:
            if image.mode == "F" or image.mode.startswith("I"):
                raise UserError(f"{path}: gray values above 255 would all be read as white; save it with 8 bits")
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # Pillow raises almost any exception for damaged files
        raise UserError(f"{path}: unreadable image ({error}); replace the file or take it off the list") from None


def passed_over(path: Path) -> Unread | None:
    """The kind of a file that looks like an image but has none of the `ENDINGS`; None for all other files."""
    ending = path.suffix.lower()
    if ending in PICTURES or not path.is_file():
        return None
    if ending in UNREAD_ENDINGS:
        return UNREAD_ENDINGS[ending]
    try:
        by_content = ending_of_content(first_bytes(path))
    except OSError:
        return None
    if by_content is None or by_content in UNREAD_ENDINGS:
        return UNREAD_ENDINGS.get(by_content or "")
    return Unread("pictures whose names do not end as a picture's", f"rename them to end in {by_content}")


def files_passed_over(folder: Path) -> dict[Unread, list[str]]:
    """Files below a folder that look like images but are not read: their paths in the folder, by kind.

    Hidden files and folders are left out.
    """
    found: dict[Unread, list[str]] = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and (why := passed_over(path)):
                found.setdefault(why, []).append(path.relative_to(folder).as_posix())
    return found


def passed_over_lines(found: dict[Unread, list[str]]) -> Iterable[str]:
    """One message line for each kind of file: the number of files, the first three names, and the cure."""
    for why, names in found.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"{len(names)} file(s) not used, {why.what}: {', '.join(names[:3])}{more}; {why.cure}"
