"""The result of every reader of image-level labels."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ImageLabels:
    """Classes of each labeled image, by its path below the folder of images.

    `splits`: split of each image; None if the labels come without splits. `told`: how the labels were understood.
    `written`: how a table writes the name of a file. `lost`: rows of a table that name no picture, with their split.
    """

    names: dict[str, frozenset[str]] = field(default_factory=dict)
    splits: dict[str, str] | None = None
    told: str = ""
    written: dict[str, str] = field(default_factory=dict)
    lost: tuple[tuple[str, str | None], ...] = ()
