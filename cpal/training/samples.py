"""Training samples: an endless stream of augmented images that depends on the random seed alone.

Position p of the stream is always the same image with the same augmentation, for any number of workers, ranks or
restarts. A resumed run continues the stream at the position where it stopped.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from cpal.data.dataset import Dataset, Record
from cpal.data.images import read_record_image
from cpal.data.masks import VOID, LabelMaps
from cpal.data.views import resize_image


class SampleStream(Sampler[tuple[int, int]]):
    """Positions and image indices of the stream; epoch e covers `length` positions from e * length on.

    The images are shuffled again whenever all have been used. With several ranks, rank r takes every world-th position.
    """

    def __init__(self, num_images: int, *, length: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.num_images, self.length, self.seed = num_images, length, seed
        self.rank, self.world = rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by mmengine before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start = self.epoch * self.length
        order, shuffled = np.zeros(0, np.int64), -1
        for position in range(start + self.rank, start + len(self) * self.world, self.world):
            round_, place = divmod(position, self.num_images)
            if round_ != shuffled:
                order, shuffled = (
                    np.random.default_rng((self.seed, round_)).permutation(self.num_images),
                    round_,
                )
            yield position, int(order[place])


@dataclass(frozen=True)
class Augmentation:
    """Random augmentation of a training image: rescaled, mirrored, and cropped or padded to crop_size x crop_size.

    Exactly one of two ranges is given: `long_sides` for the long side in pixels, or `scales` for the scale factor.
    padding: RGB in 0..255. color_jitter: brightness, contrast and saturation are each multiplied by a random factor
    that differs from 1 by at most this.
    """

    seed: int
    crop_size: int
    padding: tuple[float, float, float]
    long_sides: tuple[int, int] | None = None
    scales: tuple[float, float] | None = None
    color_jitter: float = 0.0

    def __post_init__(self) -> None:
        assert (self.long_sides is None) != (self.scales is None), "one of the two ways to rescale"

    def random(self, position: int) -> np.random.Generator:
        """The random number generator of the sample at this position of the stream."""
        return np.random.default_rng((self.seed, 1, position))

    def scale(self, size: tuple[int, int], rng: np.random.Generator) -> float:
        """Random factor by which an image of size (H, W) is rescaled."""
        if self.long_sides is not None:
            return float(rng.integers(*self.long_sides, endpoint=True) / max(size))
        assert self.scales is not None
        return rng.uniform(*self.scales)

    def recolored(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """An image uint8 (3, H, W) with random brightness, contrast and saturation."""
        from torchvision.transforms.v2 import functional  # takes longer to import than torch

        for adjust in (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation):
            image = adjust(image, rng.uniform(1 - self.color_jitter, 1 + self.color_jitter))
        return image


class TrainingSamples(TorchDataset[dict[str, Tensor]]):
    """Images with their labels, and their `masks` if given, rescaled, mirrored and cropped at random.

    A sample is a dict, where S is crop_size: image uint8 (3, S, S); image_label float (N,); padding bool (S, S); mask
    int64 (S, S), which holds the label map, or 0 if there are no masks, and 255 on padding.
    """

    def __init__(
        self, dataset: Dataset, records: list[Record], augmentation: Augmentation, masks: LabelMaps | None = None
    ) -> None:
        self.dataset, self.records, self.augmentation, self.masks = dataset, records, augmentation, masks

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        position, index = key
        record = self.records[index]
        pixels = read_record_image(self.dataset.image_path(record), record)
        labels = np.zeros(record.size, np.uint8) if self.masks is None else self.masks.read(record)
        image, mask, padding = self._augment(
            torch.from_numpy(pixels).permute(2, 0, 1),
            torch.from_numpy(labels),
            self.augmentation.random(position),
        )
        image_label = torch.from_numpy(record.multi_hot(self.dataset.num_foreground))
        return {"image": image, "image_label": image_label, "mask": mask, "padding": padding}

    def _augment(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Resize, mirror and crop to crop_size; outside the image is padding. Returns image, mask and padding."""
        crop, (height, width) = self.augmentation.crop_size, mask.shape
        scale = self.augmentation.scale((height, width), rng)
        size = [max(1, round(side * scale)) for side in mask.shape]
        image = resize_image(image, size)
        mask = F.interpolate(mask[None, None], size=size, mode="nearest-exact")[0, 0]
        if rng.random() < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        # An image smaller than the window is placed in it at random; a larger image is cropped at random.
        top, left = (int(rng.integers(min(0, slack), max(0, slack) + 1)) for slack in (s - crop for s in size))
        window = (
            slice(max(0, top), max(0, top) + crop),
            slice(max(0, left), max(0, left) + crop),
        )
        color = torch.tensor([round(value) for value in self.augmentation.padding], dtype=torch.uint8)
        canvas = color[:, None, None].repeat(1, crop, crop)
        labels = torch.full((crop, crop), VOID, dtype=torch.uint8)
        part = mask[window]
        place = (
            slice(max(0, -top), max(0, -top) + part.shape[0]),
            slice(max(0, -left), max(0, -left) + part.shape[1]),
        )
        image = image[:, window[0], window[1]]
        canvas[:, place[0], place[1]] = (
            self.augmentation.recolored(image, rng) if self.augmentation.color_jitter else image
        )
        labels[place] = part
        padding = torch.ones_like(labels, dtype=torch.bool)
        padding[place] = False
        return canvas, labels, padding
