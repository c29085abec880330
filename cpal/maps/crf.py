"""DenseCRF of one image over background and its present classes."""

import numpy as np
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_labels, unary_from_softmax

from cpal.data.masks import VOID
from cpal.maps.cams import MAP_NAMES, CamFile
from cpal.maps.refined import Refined
from cpal.maps.seeds import SeedRule, seed_scores
from cpal.settings.config import CrfConfig, Pairwise

POSSIBLE = 0.01  # the CRF at test leaves out a class whose probability is lower at every pixel


def refine(image: np.ndarray, scores: np.ndarray, classes: np.ndarray, settings: CrfConfig) -> Refined:
    """Label and confidence of every pixel, by mean-field inference (Kraehenbuehl and Koltun, 2011).

    image uint8 (H, W, 3); scores (K + 1, H, W) with background first (`seeds.seed_scores`); classes (K,), the mask
    values of the K present classes. An image without classes is background everywhere, with confidence 255.
    """
    num_labels, height, width = scores.shape
    if num_labels == 1:
        return Refined(np.zeros((height, width), np.uint8), np.full((height, width), 255, np.uint8))
    if settings.unary == "labels":
        unary = _label_unary(scores, settings)
    else:
        unary = unary_from_softmax(scores / scores.sum(axis=0))
    probability = _infer(_field(image, num_labels, settings), unary, settings).reshape(scores.shape)
    return Refined(
        _named(probability.argmax(axis=0), classes), np.round(255 * probability.max(axis=0)).astype(np.uint8)
    )


def sure_labels(
    image: np.ndarray, foreground: np.ndarray, background: np.ndarray, classes: np.ndarray, settings: CrfConfig
) -> np.ndarray:
    """Label map uint8 (H, W) of sure labels, from which a second network can learn; other pixels are void (IRN).

    `foreground` and `background` are scores as in `refine`. In `foreground` the background score is high: a pixel that
    still becomes a class surely belongs to it. In `background` the background score is low: a pixel that still becomes
    background surely is background. All other pixels become void.
    """
    num_labels, height, width = foreground.shape
    if num_labels == 1:
        return np.zeros((height, width), np.uint8)
    field = _field(image, num_labels, settings)  # both CRFs share it: the lattice of the image takes most of the time
    high, low = (
        _infer(field, _label_unary(scores, settings), settings).argmax(axis=0).reshape(height, width)
        for scores in (foreground, background)
    )
    return _named(np.where((high > 0) | (low == 0), high, VOID), classes)


def refine_probabilities(image: np.ndarray, probability: np.ndarray, settings: Pairwise) -> np.ndarray:
    """A model's probabilities (K, H, W) after mean-field inference on the image, uint8 (H, W, 3).

    Only classes that reach POSSIBLE at some pixel, or are the likeliest there, take part; all others get 0. With 81
    classes, they would take most of the time. The image is used unchanged. Common implementations subtract the mean and
    cast to bytes, so that dark colors become bright.
    """
    likely = np.flatnonzero(probability.max(axis=(1, 2)) >= POSSIBLE)
    possible = np.union1d(likely, np.unique(probability.argmax(axis=0)))
    refined = np.zeros_like(probability)
    if len(possible) == 1:
        refined[possible] = 1
        return refined
    chosen = probability[possible]
    unary = unary_from_softmax(chosen / chosen.sum(axis=0))
    found = _infer(_field(image, len(possible), settings), unary, settings)
    refined[possible] = found.reshape(chosen.shape)
    return refined


def _named(index: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Index into background and `classes`, or VOID -> label map uint8 of mask values."""
    names = np.full(256, VOID, np.uint8)
    names[: len(classes) + 1] = np.append(0, classes)
    return names[index]


def _label_unary(scores: np.ndarray, settings: CrfConfig) -> np.ndarray:
    return unary_from_labels(scores.argmax(axis=0), len(scores), gt_prob=settings.certainty, zero_unsure=False)


def _field(image: np.ndarray, num_labels: int, settings: Pairwise) -> DenseCRF2D:
    """A CRF over this number of labels with the image's pairwise energies."""
    height, width = image.shape[:2]
    field = DenseCRF2D(width, height, num_labels)
    field.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_compat)
    field.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        rgbim=np.array(image, order="C"),  # pydensecrf refuses read-only arrays
        compat=settings.bilateral_compat,
    )
    return field


def _infer(field: DenseCRF2D, unary: np.ndarray, settings: Pairwise) -> np.ndarray:
    """Probabilities (K, H * W) after inference with these unary energies."""
    field.setUnaryEnergy(np.ascontiguousarray(unary))
    return np.array(field.inference(settings.iterations))


def sure_seed_labels(
    image: np.ndarray, content: CamFile, source: str, thresholds: tuple[float, float], settings: CrfConfig
) -> np.ndarray:
    """`sure_labels` of an image uint8 (H, W, 3) from its stored maps: label map uint8 (H, W), void where not sure.

    `source`: which maps to use, as in SeedRule. `thresholds`: two background scores (low, high); a pixel below low is
    surely background, and a pixel above high is surely a class.
    """
    low, high = (seed_scores(content, SeedRule(source, dict.fromkeys(MAP_NAMES, value))) for value in thresholds)
    return sure_labels(image, high, low, content.classes, settings)
