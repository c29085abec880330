"""Finds the mask of each image below the folder of masks: NAME.png, or NAME_mask.png with a suffix."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from cpal.data.images import ENDINGS
from cpal.settings.data import DataConfig
from cpal.sources.problems import some

MASK_ENDINGS = (".png", ".PNG", ".tif", ".tiff", ".TIF", ".TIFF", ".bmp", ".BMP")  # the first that is there is taken
LOOKED_AT = 10_000  # files of a folder of masks, to say what is there


def stem(file: str) -> str:
    """A path without its ending."""
    return str(PurePosixPath(file).with_suffix(""))


def without_masks(files: Mapping[str, Path], root: Path, settings: DataConfig) -> dict[str, Path]:
    """Images without masks: leaves out files below data.masks, and files beside the images with a mask's name."""
    if settings.masks is None:
        return dict(files)
    images, masks, suffix = root / settings.images, root / settings.masks, settings.mask_suffix
    if masks.resolve() == images.resolve():
        stems = {stem(file) for file in files}
        return {f: path for f, path in files.items() if not (suffix and _is_mask_of_another(stem(f), suffix, stems))}
    return {file: path for file, path in files.items() if not path.is_relative_to(masks)}


def _is_mask_of_another(name: str, suffix: str, stems: Collection[str]) -> bool:
    return name.endswith(suffix) and name.removesuffix(suffix) in stems


def mask_files(
    root: Path,
    settings: DataConfig,
    images: Mapping[str, Path],
    problems: list[str],
    listed: Mapping[str, Path] = MappingProxyType({}),
) -> dict[str, Path]:
    """Path of each image's mask, also if there is no such file: as `listed`, else as the names say.

    A mask has the path of its image, but below the folder of masks, and with the masks' suffix and ending.
    """
    if settings.masks is None:
        return {}
    folder, suffix = root / settings.masks, settings.mask_suffix or ""
    if not folder.is_dir():
        problems.append(f"{folder}: no such folder; data.masks names the ground-truth masks, null says there are none")
        return {}
    if not suffix and folder.resolve() == (root / settings.images).resolve():
        cure = _what_is_there(folder, images, suffix) or "name the folder of masks, or what their names add"
        problems.append(
            f"{folder}: data.masks and data.images are this folder, so that a picture would be its own mask; {cure} "
            "(data.masks, data.mask_suffix)"
        )
        return {}
    masks = {f: listed.get(f) or _mask_file(folder, stem(f) + suffix, image) for f, image in images.items()}
    if masks and not any(mask.exists() for mask in masks.values()):
        looked = some([mask.relative_to(folder).as_posix() for mask in masks.values()])
        there = _what_is_there(folder, images, suffix) or "no picture lies there"
        problems.append(f"{folder}: holds a mask of none of the {len(masks)} images; looked for {looked}; {there}")
    return masks


def _mask_file(folder: Path, name: str, image: Path) -> Path:
    """The first candidate that is there and is not the image itself, through links as well."""
    candidates = [folder / f"{name}{ending}" for ending in MASK_ENDINGS]
    there = [path for path in candidates if path.exists()]
    mine = [path for path in there if not path.samefile(image)]
    return mine[0] if mine else next((path for path in candidates if path not in there), folder / name)


def _what_is_there(folder: Path, images: Mapping[str, Path], suffix: str) -> str | None:
    """Pictures below the folder of masks, and the suffix that would fit; None if there is no picture."""
    mine = {image.resolve() for image in images.values()}
    there = [file for file in islice(_pictures(folder), LOOKED_AT) if (folder / file).resolve() not in mine]
    if not there:
        return None
    stems = {stem(file) for file in images}
    added = Counter(rest for file in there if (rest := _added(stem(file), stems)) is not None)
    names = f"there are {some(there)}"
    if not added:
        return f"{names}: rename them, or list each image with its mask in data.train_list and data.val_list"
    rest, count = added.most_common(1)[0]
    if rest != suffix:
        return f"{names}: for {count} of them write data.mask_suffix: {rest or 'null'}"
    endings = sorted({PurePosixPath(file).suffix for file in there})
    return f"{names}: masks end in .png, .tif or .bmp, but these in {', '.join(endings)}; save them as PNG"


def _added(name: str, stems: Collection[str]) -> str | None:
    """The end of a mask's name after the longest name of an image with which it begins."""
    return next((name[end:] for end in range(len(name), 0, -1) if name[:end] in stems), None)


def _pictures(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                yield Path(parent, name).relative_to(folder).as_posix()
