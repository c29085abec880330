"""Inputs of the measurements: photographs, labels, and a classifier with the right sizes and random prototypes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cpal.hosts import Host
    from cpal.method.classifier import Classifier
    from cpal.method.learner import ContextPrototypeLearner

VOC_SIZE = (375, 500)  # (H, W) of a typical image of VOC 2012
SCALES = (0.5, 1.0, 1.5, 2.0)
LITE0 = "tf_efficientnet_lite0"


def photographs(count: int, size: tuple[int, int] = VOC_SIZE) -> list[np.ndarray]:
    """Crops, uint8 (H, W, 3), of the two photographs that scikit-learn brings along, each crop at another place."""
    from sklearn.datasets import load_sample_image

    sources = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    rng = np.random.default_rng(0)
    crops = []
    for number in range(count):
        source = sources[number % 2]
        top, left = (int(rng.integers(0, max(1, a - b + 1))) for a, b in zip(source.shape[:2], size, strict=True))
        crops.append(np.ascontiguousarray(source[top : top + size[0], left : left + size[1]]))
    return crops


def image_labels(count: int, classes: int) -> "Tensor":
    """Labels (count, N) of 0/1 with two classes each, or one where both are the same."""
    import torch

    labels = torch.zeros(count, classes)
    for number in range(count):
        labels[number, [number % classes, (number * number + 1) % classes]] = 1
    return labels


def smooth_maps(count: int, size: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    """Maps float32 (count, h, w) in [0, 1] with blobs of an eighth of the size, as a CAM has them."""
    from scipy.ndimage import zoom

    rng = np.random.default_rng(seed)
    grid = (max(2, size[0] // 16), max(2, size[1] // 16))
    coarse = rng.random((count, *grid)) ** 3
    maps = [zoom(map_, (size[0] / grid[0], size[1] / grid[1]), order=1) for map_ in coarse]
    return np.stack([map_ / map_.max() for map_ in maps]).astype(np.float32)


def irn_host(backbone: str, classes: int) -> Any:
    """IRN's network; EfficientNet-Lite0 has its ImageNet weights, any other random ones."""
    import torch

    from cpal.hosts.irn import IrnHost
    from cpal.networks.backbones import build_backbone

    torch.manual_seed(0)
    weights = "bundled" if backbone == LITE0 else "none"
    return IrnHost(build_backbone(backbone, weights=weights, output_stride=16), classes)


def random_prototypes(learner: "ContextPrototypeLearner") -> None:
    """Context prototypes of random directions for every class; takes no memory beyond them."""
    import torch.nn.functional as F

    learner.context.copy_(F.normalize(learner.context.normal_(), dim=-1))
    learner.valid.fill_(True)


def classifier(backbone: str, classes: int, *, host: "nn.Module | None" = None, **changes: Any) -> "Classifier":
    """A classifier with CPAL's default settings, random prototypes and a random taught CAM, ready for inference."""
    from cpal.method.classifier import Classifier
    from cpal.method.learner import build_learner
    from cpal.method.taught_cam import TaughtCam
    from cpal.settings.cpal import CpalSettings

    host = irn_host(backbone, classes) if host is None else host
    settings = CpalSettings.preset("default", **changes)
    learner = build_learner(cast("Host", host), classes, settings, seed=0)
    random_prototypes(learner)
    taught = TaughtCam(classes + 1, learner.shift.shape[1])
    taught.weight.normal_()
    return Classifier(host.eval(), classes, learner.eval(), taught)


def image_pyramid(long_side: int, scales: tuple[float, ...]) -> "list[Tensor]":
    """The views (2, 3, h, w) by scale of a photograph of VOC's size with this long side."""
    import torch

    from cpal.data.views import image_views

    pixels = torch.from_numpy(photographs(1)[0]).permute(2, 0, 1)
    return image_views(pixels, scales, flip=True, long_side=long_side)


def no_grad(call: Callable[[], Any]) -> Callable[[], Any]:
    import torch

    return torch.no_grad()(call)
