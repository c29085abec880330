"""The views of an image: their sizes, and their resampling against Pillow's."""

import numpy as np
import pytest
import torch
from PIL import Image

from cpal.data.views import image_views, resize_image


@pytest.mark.parametrize("size", [(11, 17), (40, 60), (90, 64)])
def test_resizes_as_pillow_does(size: tuple[int, int]) -> None:
    """Bicubic, and smaller images without aliasing; to the rounding of a value."""
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)).astype(int)
    found = resize_image(torch.from_numpy(image).permute(2, 0, 1), size).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize(("long_side", "sizes"), [(None, [(3, 50), (2, 25), (1, 5)]), (20, [(1, 20), (1, 10), (1, 2)])])
def test_scales_are_of_the_image_or_of_its_long_side(long_side: int | None, sizes: list[tuple[int, int]]) -> None:
    image = torch.zeros(3, 3, 50, dtype=torch.uint8)
    views = image_views(image, (1.0, 0.5, 0.1), flip=False, long_side=long_side)
    assert [view.shape for view in views] == [(1, 3, *size) for size in sizes]
