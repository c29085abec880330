"""A listing: the images of a data set with the files of their labels and masks. Every source returns a listing.

A source only lists. `read_listed` opens the files of an image, `import_listing` writes the data set.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpal.data.dataset import Split
from cpal.sources.mask_colors import ColorTable

Progress = Callable[..., Iterable[Any]]  # progress(items, total=, what=) returns the items and shows a bar


@dataclass(frozen=True)
class ListedImage:
    """An image to read. Its classes come from `names`, else from `xml`, else from `mask`.

    `mask`: path of the mask; None if the source draws the masks, or if there are none. The file must exist if the image
    is `scored` or if the classes come from the mask. `size` (H, W): as an instances JSON says.
    """

    image_id: str
    split: Split
    scored: bool
    image: Path
    mask: Path | None
    names: frozenset[str] | None = None
    xml: Path | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class LabelOrigin:
    """How the file of the labels was understood, in one sentence, and the rows that are not used.

    `other_splits`: images of a split that is not read. `unlisted`: rows that name no listed image.
    """

    told: str = ""
    other_splits: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """A data set by names. `classes`: the kept classes, in order. `mask_classes`: class names of mask values 1, 2, ...

    `colors`: table that converts the colors of the masks into these values; None if the pixels are the values.
    """

    root: Path
    images: tuple[ListedImage, ...]
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    splits: dict[str, str]
    problems: tuple[str, ...]
    origin: LabelOrigin = LabelOrigin()
    colors: ColorTable | None = None


def silent(items: Iterable[Any], *, total: int, what: str) -> Iterable[Any]:
    """A `Progress` that shows nothing."""
    return items
