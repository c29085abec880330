"""DenseCRF of one image over its present classes and background, and the file that keeps its result."""

import numpy as np
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_labels, unary_from_softmax

from cpal.data.masks import VOID
from cpal.maps.cams import MAP_NAMES, CamFile
from cpal.maps.refined import Refined
from cpal.maps.seeds import SeedRule, seed_scores
from cpal.settings.config import CrfConfig, Pairwise

POSSIBLE = 0.01  # a class that no pixel gives this probability is left out of the CRF at test


def refine(image: np.ndarray, scores: np.ndarray, classes: np.ndarray, settings: CrfConfig) -> Refined:
    """Label and confidence of every pixel by mean-field inference (Kraehenbuehl and Koltun, 2011).

    image uint8 (H, W, 3), scores (K + 1, H, W) with background in front (`seeds.seed_scores`), classes (K,).
    An image without any class is background throughout.
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
    """Label map uint8 (H, W), void where two CRFs disagree: what a next network can safely learn from (IRN).

    `foreground` are scores as `refine` takes them with a high background score: what is a class nevertheless, is one.
    In `background` that score is low, and what is background nevertheless, is that.
    """
    num_labels, height, width = foreground.shape
    if num_labels == 1:
        return np.zeros((height, width), np.uint8)
    field = _field(image, num_labels, settings)  # both see the same image, and its lattice is what costs
    high, low = (
        _infer(field, _label_unary(scores, settings), settings).argmax(axis=0).reshape(height, width)
        for scores in (foreground, background)
    )
    return _named(np.where((high > 0) | (low == 0), high, VOID), classes)


def refine_probabilities(image: np.ndarray, probability: np.ndarray, settings: Pairwise) -> np.ndarray:
    """A model's probabilities (K, H, W) after mean-field inference on the image uint8 (H, W, 3) as it was taken.

    Only classes that reach POSSIBLE somewhere take part, the others get 0: with 81 classes they would cost most of the
    time. The common code hands in the image less its mean, cast to bytes, where dark colors become bright ones.
    """
    possible = np.flatnonzero(probability.max(axis=(1, 2)) >= POSSIBLE)
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
    """Index among background and `classes`, or VOID -> label map uint8."""
    names = np.full(256, VOID, np.uint8)
    names[: len(classes) + 1] = np.append(0, classes)
    return names[index]


def _label_unary(scores: np.ndarray, settings: CrfConfig) -> np.ndarray:
    return unary_from_labels(scores.argmax(axis=0), len(scores), gt_prob=settings.certainty, zero_unsure=False)


def _field(image: np.ndarray, num_labels: int, settings: Pairwise) -> DenseCRF2D:
    """The image's pairwise energies over this many labels."""
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
    """Probabilities (K, H * W) for these energies."""
    field.setUnaryEnergy(np.ascontiguousarray(unary))
    return np.array(field.inference(settings.iterations))


def sure_seed_labels(
    image: np.ndarray, content: CamFile, source: str, thresholds: tuple[float, float], settings: CrfConfig
) -> np.ndarray:
    """`sure_labels` of an image uint8 (H, W, 3) from its stored maps: label map uint8 (H, W), void where not sure.

    `source` says which of the maps, as in a SeedRule; `thresholds` are the background scores on them below which a
    pixel is surely background, and above which it is surely a class.
    """
    low, high = (seed_scores(content, SeedRule(source, dict.fromkeys(MAP_NAMES, value))) for value in thresholds)
    return sure_labels(image, high, low, content.classes, settings)
