"""Labels from VOC's annotations: one XML file for each image."""

from collections.abc import Sequence
from pathlib import Path

from cpal.settings.data import DataConfig
from cpal.sources.labels.image_labels import ImageLabels
from cpal.sources.problems import noted, some
from cpal.sources.tables.file_names import FileNames
from cpal.sources.tables.rows import counted
from cpal.sources.tables.xml_labels import names_of_annotation

XML_FOLDERS = ("Annotations", "annotations", "xml", "labels")  # below data.root, beside the images' own folder


def labels_of_annotations(root: Path, settings: DataConfig, files: Sequence[str], problems: list[str]) -> ImageLabels:
    """Labels from XML files in the folder data.labels_file, beside the images, or in a folder such as Annotations."""
    images = root / settings.images
    told = [root / settings.labels_file] if settings.labels_file else [images, *(root / name for name in XML_FOLDERS)]
    held = {place: xmls for place in told if (xmls := _xml_files(place))}
    held = {place: xmls for place, xmls in held.items() if not any(p in place.parents for p in held)}
    if len(held) != 1:
        where = ", ".join(map(str, held or told))
        why = "no XML file in" if not held else "XML files in each of"
        problems.append(f"data.labels: xml: {why} {where}; name their folder in data.labels_file")
        return ImageLabels()
    place, xmls = next(iter(held.items()))
    places, found, lost = FileNames(files, str(images)), dict[str, frozenset[str]](), list[str]()
    for xml in xmls:
        match = places.find(xml.relative_to(place).with_suffix("").as_posix())
        if match.file is None or match.file in found:
            lost.append(xml.relative_to(place).as_posix())
            continue
        with noted(problems):
            found[match.file] = names_of_annotation(xml, settings.label_encoding)
    if lost:
        problems.append(
            f"{place}: {len(lost)} XML file(s) of no image of {images}, or of one that has another: {some(lost)}"
        )
    bare = len(files) - len(found)
    left = f", {counted(bare, 'image')} without XML left out" if bare > 0 else ""
    return ImageLabels(found, None, f"VOC's XML in {place.name}{left}")


def _xml_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.rglob("*.xml") if not path.name.startswith("."))
    except OSError:
        return []
