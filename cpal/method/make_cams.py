"""From a trained network to maps: multi-scale CAM, PACAM and taught CAM."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cpal.data.dataset import Record
from cpal.data.views import Views
from cpal.files import whole_file
from cpal.hosts.outputs import present_classes
from cpal.maps.cams import CamFile, map_size, write_cam
from cpal.method import cam as cams
from cpal.method.classifier import Classifier
from cpal.method.prototypes import contrast


@torch.no_grad()
def localize(classifier: Classifier, label: Tensor, size: tuple[int, int], views: list[Tensor]) -> CamFile:
    """CAM, PACAM and taught CAM of an image's present classes, averaged over scales, at a quarter of its size.

    label (1, N) of 0/1, size (H, W), views (V, 3, h, w) by scale. Without a learner there is only the CAM.
    """
    learner, taught = classifier.learner, classifier.taught
    classes = present_classes(label)
    shape = map_size(size)
    names = ["cam", *(["pacam"] if learner else []), *(["taught"] if learner and taught else [])]
    maps = {name: torch.zeros(len(classes), *shape) for name in names}
    for view in views if len(classes) else []:
        features, raw, _ = classifier.look(view, label)
        maps["cam"] += _resize(F.relu(raw[0, classes - 1]), shape) / len(views)
        if learner is None:
            continue
        step = learner.instances(features, raw, label)
        map_ = contrast(learner.similarity(step, label), learner.settings.contrast)
        maps["pacam"] += _resize(map_[0, classes], shape) / len(views)
        if taught is not None:
            map_ = taught(step.features, label)
            maps["taught"] += _resize(map_[0, classes - 1], shape) / len(views)
    maps["cam"] = _over_maximum(maps["cam"])
    # A ratio's scale carries meaning: 0.5 is background's.
    if learner is not None and learner.settings.contrast in ("none", "difference"):
        maps["pacam"] = _over_maximum(maps["pacam"])
    return CamFile(classes, {name: map_.numpy() for name, map_ in maps.items()}, size)


def write_cams(classifier: Classifier, loader: Iterable[Views], folder: Path) -> None:
    """Write folder/ID.npz of each image that the loader gives, see `localize`.

    A thread compresses and writes a file while the network makes the next image's maps.
    """

    def write(record: Record, content: CamFile) -> None:
        with whole_file(folder / f"{record.image_id}.npz", folder.parent) as temporary:
            write_cam(temporary, content)

    with ThreadPoolExecutor(1) as writer:
        before: Future[None] | None = None
        for record, size, views in loader:
            content = localize(classifier, classifier.label(record), size, views)
            if before is not None:
                before.result()  # raises its error; and never more than one file waits
            before = writer.submit(write, record, content)
        if before is not None:
            before.result()


def _resize(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[None], size=shape, mode="bilinear", align_corners=False)[0].cpu()


def _over_maximum(maps: Tensor) -> Tensor:
    return maps / (maps.amax(dim=(1, 2), keepdim=True) + cams.EPSILON)
