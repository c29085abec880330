"""The views of an image that a trained network sees: several scales, each optionally with its mirror image."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from cpal.data.dataset import Dataset, Record
from cpal.data.images import read_record_image


class Views(NamedTuple):
    """A record, its image size (H, W), and the views of each scale, uint8 (V, 3, h, w).

    V is 1 for the image alone, and 2 for the image and its mirror image.
    """

    record: Record
    size: tuple[int, int]
    views: list[Tensor]


class ImagePyramid(TorchDataset[Views]):
    """The views of each record's image; with `flip`, each scale includes the mirror image."""

    def __init__(
        self, dataset: Dataset, records: list[Record], *, scales: tuple[float, ...], flip: bool, long_side: int | None
    ) -> None:
        self.dataset, self.records = dataset, records
        self.scales, self.flip, self.long_side = scales, flip, long_side

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Views:
        record = self.records[index]
        image = torch.from_numpy(read_record_image(self.dataset.image_path(record), record)).permute(2, 0, 1)
        return Views(record, record.size, image_views(image, self.scales, flip=self.flip, long_side=self.long_side))


def resize_image(image: Tensor, size: Sequence[int]) -> Tensor:
    """Resize an image uint8 (3, H, W) to the size (h, w), bicubic."""
    from torchvision.transforms.v2 import InterpolationMode, functional  # takes longer to import than torch

    return functional.resize(image, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True)


def image_views(image: Tensor, scales: Sequence[float], *, flip: bool, long_side: int | None) -> list[Tensor]:
    """Views (V, 3, h, w) of an image uint8 (3, H, W), for each scale.

    Scales are relative to the image size, or to the size at which the long side of the image has `long_side` pixels.
    """
    base = long_side / max(image.shape[1:]) if long_side else 1.0
    views = []
    for scale in scales:
        size = [max(1, round(side * base * scale)) for side in image.shape[1:]]
        view = resize_image(image, size)
        views.append(torch.stack([view, view.flip(-1)] if flip else [view]))
    return views


def pyramid_loader(
    dataset: Dataset,
    records: list[Record],
    *,
    scales: tuple[float, ...],
    flip: bool,
    long_side: int | None,
    workers: int,
) -> DataLoader[Views]:
    """Load the views of the records in order, ahead of use, in `workers` processes.

    With long_side None, scales are relative to the size of each image.
    """
    pyramids = ImagePyramid(dataset, records, scales=scales, flip=flip, long_side=long_side)
    return DataLoader(pyramids, batch_size=None, num_workers=workers, collate_fn=_as_it_is)


def _as_it_is(views: Any) -> Any:
    """Return the views unchanged: the loader's own conversion would turn the size into a list."""
    return views
