"""The stream of training samples: what it covers, what decides it, and that picture and mask stay together."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import DataLoader

from cpal.data.dataset import Dataset
from cpal.data.images import read_image
from cpal.data.masks import VOID, LabelMaps, read_mask
from cpal.training.samples import Augmentation, SampleStream, TrainingSamples

PADDING = (123.675, 116.28, 103.53)


def positions(stream: SampleStream, epochs: int) -> list[tuple[int, int]]:
    result = []
    for epoch in range(epochs):
        stream.set_epoch(epoch)
        found = list(stream)
        assert len(found) == len(stream)
        result += found
    return result


class TestStream:
    @pytest.mark.parametrize("length", [10, 4, 25])  # an epoch may be shorter or longer than the images
    def test_covers_every_image_once_a_round(self, length: int) -> None:
        found = positions(SampleStream(10, length=length, seed=3), epochs=100 // length)
        assert [position for position, _ in found] == list(range(100))
        rounds = [tuple(image for _, image in found[start : start + 10]) for start in range(0, 100, 10)]
        assert all(sorted(r) == list(range(10)) for r in rounds)
        assert len(set(rounds)) == len(rounds)  # shuffled anew

    @pytest.mark.parametrize("world", [2, 3, 4])
    def test_ranks_share_it_out(self, world: int) -> None:
        whole = positions(SampleStream(7, length=12, seed=0), epochs=3)
        shares = [positions(SampleStream(7, length=12, seed=0, rank=r, world=world), epochs=3) for r in range(world)]
        assert Counter(whole) == sum((Counter(share) for share in shares), Counter())
        # A step of all ranks sees the images that one process sees in that step.
        together = [pair for step in zip(*shares, strict=True) for pair in step]
        assert together == whole

    def test_seed_decides(self) -> None:
        first, again, other = (positions(SampleStream(20, length=20, seed=seed), epochs=2) for seed in (0, 0, 1))
        assert first == again != other

    def test_an_epoch_can_be_entered_without_the_ones_before(self) -> None:
        stream = SampleStream(7, length=5, seed=0)
        stream.set_epoch(4)
        assert list(stream) == positions(SampleStream(7, length=5, seed=0), epochs=5)[20:]


def samples(dataset: Dataset, **keys: Any) -> TrainingSamples:
    """Of the training pictures; with masks where `masks` is true."""
    masks = LabelMaps(dataset.mask_root / "masks", "any") if keys.pop("masks", True) else None
    defaults: dict[str, Any] = {"crop_size": 32, "padding": PADDING, "seed": 0}
    if "long_sides" not in keys:
        defaults["scales"] = (1.0, 1.0)
    return TrainingSamples(dataset, dataset.split("train"), Augmentation(**defaults | keys), masks)


def colors_of(dataset: Dataset, labels: list[int]) -> dict[int, np.ndarray]:
    """The color that stands for each label in the drawn pictures."""
    found: dict[int, np.ndarray] = {}
    for record in dataset.records:
        mask, image = read_mask(dataset.mask_path(record)), read_image(dataset.image_path(record))
        found |= {label: image[mask == label][0] for label in labels if (mask == label).any()}
    return found


def nearest_label(image: Tensor, colors: dict[int, np.ndarray]) -> Tensor:
    """Label map of a picture by its colors, (S, S)."""
    distance = [(image.float() - torch.tensor(c).float()[:, None, None]).abs().sum(0) for c in colors.values()]
    return torch.tensor(list(colors))[torch.stack(distance).argmin(0)]


def interior(mask: Tensor, radius: int) -> Tensor:
    """Where all labels within `radius` are the same."""
    window, padded = 2 * radius + 1, mask[None, None].float()
    high = F.max_pool2d(padded, window, 1, radius)
    low = -F.max_pool2d(-padded, window, 1, radius)
    return (high == low)[0, 0]


class TestSamples:
    def test_shapes_and_types(self, tiny_dataset: Dataset) -> None:
        data, records = samples(tiny_dataset), tiny_dataset.split("train")
        assert len(data) == len(records) == 5
        for index, record in enumerate(records):
            sample = data[index, index]
            assert sample["image"].shape == (3, 32, 32) and sample["image"].dtype == torch.uint8
            assert sample["mask"].shape == (32, 32) and sample["mask"].dtype == torch.uint8
            assert sample["image_label"].dtype == torch.float32
            assert sample["image_label"].nonzero()[:, 0].tolist() == [label - 1 for label in record.labels]

    @pytest.mark.parametrize("crop_size", [16, 32, 64])  # inside every picture, across some, around every one
    def test_at_its_own_size_picture_and_mask_agree_to_the_pixel(self, tiny_dataset: Dataset, crop_size: int) -> None:
        data, colors = samples(tiny_dataset, crop_size=crop_size), colors_of(tiny_dataset, [0, 1, 2, 3])
        for position in range(25):
            sample = data[position, position % 5]
            inside = sample["mask"] != VOID
            for label, color in colors.items():
                shown = (sample["image"] == torch.tensor(color)[:, None, None]).all(0)
                assert torch.equal(shown & inside, sample["mask"] == label)

    @pytest.mark.parametrize("keys", [{"scales": (0.5, 2.0)}, {"long_sides": (24, 80)}])
    def test_rescaled_they_agree_away_from_borders(self, tiny_dataset: Dataset, keys: dict[str, Any]) -> None:
        data, colors = samples(tiny_dataset, crop_size=48, **keys), colors_of(tiny_dataset, [0, 1, 2, 3])
        checked = 0
        for position in range(40):
            sample = data[position, position % 5]
            inner = interior(sample["mask"], 2) & (sample["mask"] != VOID)
            assert torch.equal(nearest_label(sample["image"], colors)[inner], sample["mask"][inner])
            checked += int(inner.sum())
        assert checked > 10_000

    def test_rescaling_moves_the_mask_with_the_picture(self, tiny_dataset: Dataset) -> None:
        """Half a pixel to one side, as plain nearest neighbors would move it, is a twentieth of these boxes' area."""
        data, red = samples(tiny_dataset, crop_size=96, scales=(0.5, 2.0)), torch.tensor([200, 30, 30])
        shifts = []
        for position in range(60):
            sample = data[position, 0]  # one red box
            shown = (sample["image"] - red[:, None, None]).abs().sum(0) < 150  # nearer to red than to gray
            shifts.append(shown.nonzero()[:, 0].float().mean() - (sample["mask"] == 1).nonzero()[:, 0].float().mean())
        assert abs(torch.stack(shifts).mean()) < 0.1

    def test_color_jitter_against_pillow(self) -> None:
        pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        augmentation = Augmentation(0, 32, PADDING, scales=(1, 1), color_jitter=0.4)
        found = augmentation.recolored(torch.from_numpy(pixels).permute(2, 0, 1), np.random.default_rng(7))
        picture = Image.fromarray(pixels)
        for enhancer, factor in zip(
            (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color),
            np.random.default_rng(7).uniform(0.6, 1.4, 3),
            strict=True,
        ):
            picture = enhancer(picture).enhance(factor)
        difference = found.permute(1, 2, 0).numpy().astype(int) - np.asarray(picture).astype(int)
        assert abs(difference).max() <= 2 and (found.permute(1, 2, 0).numpy() != pixels).mean() > 0.5

    def test_color_jitter_leaves_place_mask_and_padding(self, tiny_dataset: Dataset) -> None:
        plain, jittered = (samples(tiny_dataset, crop_size=48, color_jitter=j) for j in (0.0, 0.4))
        changed = 0
        for position in range(10):
            a, b = plain[position, position % 5], jittered[position, position % 5]
            assert torch.equal(a["mask"], b["mask"]) and torch.equal(a["padding"], b["padding"])
            assert torch.equal(a["image"][:, a["padding"]], b["image"][:, a["padding"]])
            changed += int((a["image"] != b["image"]).any())
        assert changed > 8

    @pytest.mark.parametrize("crop_size", [40, 64])
    def test_padding_is_void_and_the_mean_color(self, tiny_dataset: Dataset, crop_size: int) -> None:
        data, places = samples(tiny_dataset, crop_size=crop_size), set()
        for position in range(20):
            sample = data[position, 1]  # 24 x 30
            padding = sample["mask"] == VOID
            assert int((~padding).sum()) == 24 * 30
            rows, columns = (~padding).any(1).nonzero()[:, 0], (~padding).any(0).nonzero()[:, 0]
            assert (len(rows), len(columns)) == (24, 30)
            places.add((int(rows[0]), int(columns[0])))
            assert (sample["image"][:, padding].T == torch.tensor([124, 116, 104])).all()
        assert len(places) > 5  # the picture lies at a random place

    def test_a_picture_smaller_one_way_and_larger_the_other(self, tiny_dataset: Dataset) -> None:
        data = samples(tiny_dataset, crop_size=36)  # the first picture is 40 x 33
        for position in range(10):
            padding = data[position, 0]["mask"] == VOID
            assert int((~padding).any(0).sum()) == 33 and int((~padding).any(1).sum()) == 36

    def test_without_masks_the_picture_is_zero_and_padding_void(self, tiny_dataset: Dataset) -> None:
        with_masks, without = samples(tiny_dataset), samples(tiny_dataset, masks=False)
        for position in range(10):
            a, b = with_masks[position, position % 5], without[position, position % 5]
            assert torch.equal(a["image"], b["image"])
            assert torch.equal(b["mask"], torch.where(a["mask"] == VOID, VOID, 0))

    def test_sizes_and_mirroring_are_drawn_over_their_range(self, tiny_dataset: Dataset) -> None:
        data = samples(tiny_dataset, long_sides=(20, 24), crop_size=32)
        sizes, mirrored = Counter[int](), 0
        colors = colors_of(tiny_dataset, [0, 1, 2, 3])
        for position in range(100):
            sample = data[position, 2]  # 33 x 48, red on the left, blue on the right
            sizes[int((sample["mask"] != VOID).any(0).sum())] += 1
            label = nearest_label(sample["image"], colors)
            mirrored += int((label == 1).nonzero()[:, 1].float().mean() > (label == 3).nonzero()[:, 1].float().mean())
        assert set(sizes) == {20, 21, 22, 23, 24}
        assert 30 < mirrored < 70

    def test_position_decides_everything(self, tiny_dataset: Dataset) -> None:
        data = samples(tiny_dataset, scales=(0.5, 2.0))
        first, again, later = data[3, 0], data[3, 0], data[4, 0]
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert not torch.equal(first["image"], later["image"])
        other_seed = samples(tiny_dataset, scales=(0.5, 2.0), seed=1)[3, 0]
        assert not torch.equal(first["image"], other_seed["image"])

    def test_same_batches_whatever_the_workers(self, tiny_dataset: Dataset) -> None:
        data = samples(tiny_dataset, scales=(0.5, 2.0))
        runs = []
        for workers in (0, 2):
            stream = SampleStream(len(data), length=6, seed=0)
            stream.set_epoch(1)
            torch.manual_seed(workers)  # neither does torch's own generator matter
            runs.append(list(DataLoader(data, batch_size=2, sampler=stream, num_workers=workers)))
        for a, b in zip(*runs, strict=True):
            assert all(torch.equal(a[key], b[key]) for key in a)
