"""DenseCRF of one image over its present classes and background, and the file that keeps its result."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_labels, unary_from_softmax

from cpal.config import CrfConfig


@dataclass(frozen=True)
class CrfFile:
    """label uint8 (H, W) are mask values 0..N; confidence uint8 (H, W) is the label's probability times 255."""

    label: np.ndarray
    confidence: np.ndarray


def refine(image: np.ndarray, scores: np.ndarray, classes: np.ndarray, settings: CrfConfig) -> CrfFile:
    """Label and confidence of every pixel by mean-field inference (Kraehenbuehl and Koltun, 2011).

    image uint8 (H, W, 3), scores (K + 1, H, W) with background in front (`cam.seed_scores`), classes (K,).
    An image without any class is background throughout.
    """
    num_labels, height, width = scores.shape
    if num_labels == 1:
        return CrfFile(np.zeros((height, width), np.uint8), np.full((height, width), 255, np.uint8))
    if settings.unary == "labels":
        seed = scores.argmax(axis=0)
        unary = unary_from_labels(seed, num_labels, gt_prob=settings.certainty, zero_unsure=False)
    else:
        unary = unary_from_softmax(scores / scores.sum(axis=0))
    field = DenseCRF2D(width, height, num_labels)
    field.setUnaryEnergy(np.ascontiguousarray(unary))
    field.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_compat)
    field.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        rgbim=np.array(image, order="C"),  # pydensecrf refuses read-only arrays
        compat=settings.bilateral_compat,
    )
    probability = np.array(field.inference(settings.iterations)).reshape(num_labels, height, width)
    label = np.concatenate([[0], classes]).astype(np.uint8)[probability.argmax(axis=0)]
    return CrfFile(label, np.round(255 * probability.max(axis=0)).astype(np.uint8))


def write_crf(path: Path, content: CrfFile) -> None:
    """Write one .npz without pickles."""
    with path.open("wb") as stream:
        np.savez_compressed(
            stream,
            format=np.int64(1),
            label=content.label,
            confidence=content.confidence,
        )


def read_crf(path: Path) -> CrfFile:
    """Read what `write_crf` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        return CrfFile(stored["label"], stored["confidence"])
