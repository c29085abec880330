"""Applies the trained segmentation model to a photograph: labels and confidence at full size, in bounded memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cpal.data.masks import VOID
from cpal.data.views import image_views, resize_image
from cpal.maps.confidence import at_temperature
from cpal.maps.crf import refine_probabilities
from cpal.segmentation.deeplab import Segmentor, probabilities
from cpal.settings.config import FinalTestConfig, Pairwise

BAND = 2**21  # pixels whose probabilities at full size are in memory at one time
CRF_PIXELS = 2**20  # the CRF sees larger photographs at this size, or at the network's if larger; 700 bytes a pixel


@dataclass(frozen=True)
class Labeled:
    """labels and confidence uint8 (H, W), and two arrays (K,) in percent: share and class_confidence.

    confidence: of each pixel's label, 255 for 100 %; also of pixels that are void because it is too low. share:
    percentage of the pixels with each label. class_confidence: mean confidence of these pixels; 0 for a class without
    pixels. crf_size: (H, W) of the image for the CRF, or None if that is the image size or there was no
    CRF.
    """

    labels: np.ndarray
    confidence: np.ndarray
    share: np.ndarray
    class_confidence: np.ndarray
    crf_size: tuple[int, int] | None


def label_photo(
    segmentor: Segmentor,
    image: np.ndarray,
    settings: FinalTestConfig,
    *,
    long_side: int,
    min_confidence: float = 0.0,
) -> Labeled:
    """Label an image uint8 (H, W, 3); if its long side exceeds `long_side`, the network sees it at that size.

    The network has learned objects at that size; final_test.scales and flip apply on top of it. For any other image,
    the labels equal those of the predict_segmentation stage. With final_test.crf.iterations, the labels come from the
    CRF, see `refined`; the confidence is the network's in these labels, because a CRF's probabilities are near 0 and 1.
    Pixels of a confidence below `min_confidence`, 0 to 1, become void.
    """
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    height, width = image.shape[:2]
    size = _shrunk((height, width), long_side / max(height, width))
    seen = max(size) if size != (height, width) else None
    views = image_views(pixels, settings.scales, flip=settings.flip, long_side=seen)
    small = probabilities(segmentor, size, views).cpu()
    after = refined(small, pixels, settings.crf) if settings.crf.iterations else small
    labels, confidence = np.empty((2, height, width), np.uint8)
    pixels_of, sums = np.zeros(len(small), np.int64), np.zeros(len(small))
    of_network, of_crf = (enlarged(maps, (height, width), band=max(1, BAND // width)) for maps in (small, after))
    for top, band in of_network:
        likeliest = (next(of_crf)[1] if settings.crf.iterations else band).argmax(dim=0)
        sure = at_temperature(band, band.gather(0, likeliest[None])[0], settings.temperature).numpy()
        label = likeliest.numpy().astype(np.uint8)
        label[sure < min_confidence] = VOID
        kept = label != VOID
        pixels_of += np.bincount(label[kept], minlength=len(small))
        sums += np.bincount(label[kept], weights=sure[kept], minlength=len(small))
        rows = slice(top, top + len(label))
        labels[rows], confidence[rows] = label, np.rint(255 * sure)
    means = np.divide(sums, pixels_of, out=np.zeros(len(sums)), where=pixels_of > 0)
    crf_size = (after.shape[1], after.shape[2]) if settings.crf.iterations and after.shape[1:] != labels.shape else None
    return Labeled(labels, confidence, 100 * pixels_of / labels.size, 100 * means, crf_size)


def refined(maps: Tensor, pixels: Tensor, crf: Pairwise) -> Tensor:
    """The network's maps (K, h, w) of an image uint8 (3, H, W) after the CRF.

    The result has the image size if the image has at most CRF_PIXELS pixels. Otherwise it has CRF_PIXELS, or the size
    of the maps if that is larger: the network has already used more memory for that size.
    """
    height, width = pixels.shape[1:]
    size = _shrunk((height, width), math.sqrt(CRF_PIXELS / (height * width)))
    size = max(size, (maps.shape[1], maps.shape[2]))
    seen = resize_image(pixels, size)
    _, probability = next(enlarged(maps, size, band=size[0]))
    return torch.from_numpy(refine_probabilities(seen.permute(1, 2, 0).numpy(), probability.numpy(), crf))


def _shrunk(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """A size (H, W) times a scale; a scale above 1 counts as 1."""
    height, width = (max(1, round(side * min(1.0, scale))) for side in size)
    return height, width


def enlarged(maps: Tensor, size: tuple[int, int], *, band: int) -> Iterator[tuple[int, Tensor]]:
    """Resize maps (K, h, w) to (H, W), bilinear, corners not aligned; yields bands: first row, rows (K, band, W)."""
    rows = maps.shape[1]
    for top in range(0, size[0], band):
        places = torch.arange(top, min(top + band, size[0]), dtype=torch.float32)
        source = ((places + 0.5) * (rows / size[0]) - 0.5).clamp(min=0)
        above = source.long().clamp(max=rows - 1)
        below, weight = (above + 1).clamp(max=rows - 1), (source - above)[:, None]
        part = maps[:, above] * (1 - weight) + maps[:, below] * weight
        yield top, F.interpolate(part[None], size=(len(places), size[1]), mode="bilinear", align_corners=False)[0]
