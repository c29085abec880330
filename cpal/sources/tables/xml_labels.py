"""XML: CVAT's "for images 1.1", and VOC's annotation of one image."""

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from cpal.errors import UserError
from cpal.sources.tables.rows import Row, Table, counted
from cpal.sources.tables.text import read_text

DECLARED = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)")
SHAPES = ("box", "polygon", "polyline", "points", "mask", "cuboid", "ellipse", "skeleton")


def read_root(path: Path, encoding: str | None = None) -> ElementTree.Element:
    """The outermost element. `encoding`: data.label_encoding, which overrules the code page that the file declares.

    Raises UserError for other text, and for a document type, which can grow unbounded.
    """
    try:
        text, _ = read_text(path, encoding or _declared(path))
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise UserError(f"{path}: has a document type (DOCTYPE), which annotations never have; remove it")
        start = text.find("?>") if text.lstrip().startswith("<?xml") else -2
        return ElementTree.fromstring(text[start + 2 :].strip())
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a readable XML file ({error}); replace it") from None


def _declared(path: Path) -> str | None:
    """The code page in the first line, `<?xml version="1.0" encoding="gbk"?>`; None for UTF-8, often untrue."""
    try:
        with path.open("rb") as stream:
            found = DECLARED.match(stream.read(200))
    except OSError:
        return None  # told by who reads it whole
    name = found[1].decode().lower() if found else "utf-8"
    return None if name.startswith("utf") else name


def read_cvat(path: Path, encoding: str | None = None) -> Table:
    """Labels from tags and shapes. `subset` is the split, if all images have it. Raises UserError for another XML."""
    root = read_root(path, encoding)
    if root.tag == "annotation":
        raise UserError(f"{path}: VOC's annotation of one image; set data.labels: xml, which reads one file an image")
    images = root.findall("image")
    if root.tag != "annotations" or not images:
        raise UserError(f"{path}: XML without images; export it as CVAT for images 1.1")
    counts = Counter(child.tag for image in images for child in image if child.tag in ("tag", *SHAPES))
    splits = [image.get("subset") for image in images]
    told = None not in splits and set(splits) != {"default"}
    rows = [
        Row(
            image.get("name", ""),
            frozenset(child.get("label", "").strip() for child in image if child.tag in ("tag", *SHAPES)) - {""},
            split if told else None,
        )
        for image, split in zip(images, splits, strict=True)
    ]
    if not all(row.image for row in rows):
        raise UserError(f"{path}: an image has no name; export it again")
    found = " and ".join(counted(count, kind, "boxes" if kind == "box" else None) for kind, count in counts.items())
    return Table(tuple(rows), f"CVAT's XML, {found or 'no label'}")


def names_of_annotation(path: Path, encoding: str | None = None) -> frozenset[str]:
    """Names of the objects in VOC's annotation of one image."""
    root = read_root(path, encoding)
    if root.tag != "annotation":
        raise UserError(f"{path}: not VOC's annotation of one image (its first tag is {root.tag[:40]}); replace it")
    names = [node.findtext("name", "").strip() for node in root.findall("object")]
    if not all(names):
        raise UserError(f"{path}: an object has no name; name it, or take it out")
    return frozenset(names)
