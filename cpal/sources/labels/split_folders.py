"""Splits from folders named train, val or test."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from cpal.sources.tables.columns import PARTS

FOLDERS_TOLD = "folders are the splits"


def splits_of_folders(files: Iterable[str]) -> dict[str, str] | None:
    """The split of each image, if all are in folders with the name of a split, and these name two splits at least."""
    found = {file: [part for part in PurePosixPath(file).parts[:-1] if part.casefold() in PARTS] for file in files}
    if not all(found.values()) or len({parts[0] for parts in found.values()}) < 2:
        return None
    return {file: parts[0] for file, parts in found.items()}
