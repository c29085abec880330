"""DenseCRF: a list of images on two cores against a loop, and one image against plain calls of pydensecrf."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.inputs import VOC_SIZE, photographs, smooth_maps
from benchmarks.measure import Comparison, Pair, Target

if TYPE_CHECKING:
    from cpal.maps.refined import Refined

# IRN's values at 500 pixels.
VALUES: dict[str, Any] = {"iterations": 10, "unary": "labels", "certainty": 0.7, "gaussian_sxy": 3.0}
VALUES |= {"gaussian_compat": 3.0, "bilateral_sxy": 50.0, "bilateral_srgb": 5.0, "bilateral_compat": 10.0}


def seeds(count: int, size: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Image, scores (K + 1, H, W) with background in front, and classes (K,) of images with one or two classes."""
    found = []
    for number, image in enumerate(photographs(count, size)):
        classes = np.arange(1, 2 + number % 2)
        background = np.full((1, *size), 0.5, np.float32)
        found.append((image, np.concatenate([background, smooth_maps(len(classes), size, seed=number)]), classes))
    return found


def agree(found: "list[Refined]", expected: "list[Refined]") -> str:
    same = [
        np.array_equal(a.label, b.label) and np.array_equal(a.confidence, b.confidence)
        for a, b in zip(found, expected, strict=True)
    ]
    assert same and all(same), f"{same.count(False)} of {len(same)} images differ"
    return "bits equal"


def many(count: int, size: tuple[int, int], workers: int) -> Pair:
    """The CRF of a list of images in this many processes, which are started before, against a loop."""
    from joblib import delayed

    from cpal.maps.crf import refine
    from cpal.running.parallel import processes
    from cpal.settings.config import CrfConfig

    images, settings = seeds(count, size), CrfConfig(**VALUES)
    parallel = processes(workers)
    return Pair(
        lambda: list(parallel(delayed(refine)(*image, settings) for image in images)),
        lambda: [refine(*image, settings) for image in images],
        agree,
    )


def single(size: tuple[int, int]) -> Pair:
    """One image with two classes, against pydensecrf's calls as this library made them before any speed-up."""
    from pydensecrf.densecrf import DenseCRF2D
    from pydensecrf.utils import unary_from_labels

    from cpal.maps.crf import refine
    from cpal.maps.refined import Refined
    from cpal.settings.config import CrfConfig

    image, scores, classes = seeds(2, size)[1]
    settings = CrfConfig(**VALUES)

    def plain() -> list[Refined]:
        field = DenseCRF2D(size[1], size[0], len(scores))
        label = scores.argmax(axis=0)
        unary = unary_from_labels(label, len(scores), gt_prob=settings.certainty, zero_unsure=False)
        field.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_compat)
        widths = {"sxy": settings.bilateral_sxy, "srgb": settings.bilateral_srgb}
        field.addPairwiseBilateral(**widths, rgbim=np.array(image, order="C"), compat=settings.bilateral_compat)
        field.setUnaryEnergy(np.ascontiguousarray(unary))
        probability = np.array(field.inference(settings.iterations)).reshape(scores.shape)
        named = np.append(0, classes).astype(np.uint8)[probability.argmax(axis=0)]
        return [Refined(named, np.round(255 * probability.max(axis=0)).astype(np.uint8))]

    return Pair(lambda: [refine(image, scores, classes, settings)], plain, agree)


def rows() -> list[Comparison]:
    size = (188, 250)  # 24 images of 375 x 500 take a minute and a half a round
    what = "CRF of 16 images of 188 x 250, two processes"
    return [
        Comparison("crf-list", what, "a loop", Target("at least", 1.9), partial(many, 16, size, 2), "wall"),
        Comparison(
            *("crf-image", "CRF of one image of 375 x 500, two classes", "plain calls of pydensecrf"),
            *(Target("at least", 1.3), partial(single, VOC_SIZE)),
        ),
    ]
