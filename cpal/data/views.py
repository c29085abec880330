"""What a trained network sees of an image: its views at several scales, each with its mirror image."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transform

from cpal.data.dataset import Dataset, Record, read_image

Views = tuple[int, tuple[int, int], list[Tensor]]  # index of the record, size (H, W), views by scale


class ImagePyramid(TorchDataset[Views]):
    """Index, size (H, W) and uint8 views (V, 3, h, w) at each scale: the image and, with flip, its mirror image."""

    def __init__(
        self, dataset: Dataset, records: list[Record], *, scales: tuple[float, ...], flip: bool, long_side: int | None
    ) -> None:
        self.dataset, self.records = dataset, records
        self.scales, self.flip, self.long_side = scales, flip, long_side

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Views:
        image = torch.from_numpy(read_image(self.dataset.image_path(self.records[index]))).permute(2, 0, 1)
        height, width = image.shape[1:]
        return index, (height, width), image_views(image, self.scales, flip=self.flip, long_side=self.long_side)


def image_views(image: Tensor, scales: Sequence[float], *, flip: bool, long_side: int | None) -> list[Tensor]:
    """Views (V, 3, h, w) of an image uint8 (3, H, W) at each scale of it, or of it with this long side."""
    base = long_side / max(image.shape[1:]) if long_side else 1.0
    views = []
    for scale in scales:
        size = [max(1, round(side * base * scale)) for side in image.shape[1:]]
        view = transform.resize(image, size, interpolation=InterpolationMode.BICUBIC, antialias=True)
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
    """The records' pyramids in order, read ahead by `workers` processes; long_side None keeps an image's own size."""
    pyramids = ImagePyramid(dataset, records, scales=scales, flip=flip, long_side=long_side)
    return DataLoader(pyramids, batch_size=None, num_workers=workers)
