"""The output of a host for one image, merged from the image and its mirror image."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpal.data.views import Views
from cpal.hosts import Host, HostOutput


def present_classes(label: Tensor) -> np.ndarray:
    """Class ids 1..N that an image label (1, N) contains, ascending."""
    return 1 + label[0].nonzero()[:, 0].cpu().numpy()


def view_output(host: nn.Module, views: Tensor, label: Tensor) -> HostOutput:
    """Output for one image from its views (V, 3, h, w) and label (1, N)."""
    return merge_views(host(views.to(label.device), label.expand(len(views), -1)))


def merge_views(output: HostOutput) -> HostOutput:
    """The mean of the outputs for an image and its mirror image, taken before the ReLU and the prototypes.

    Its maps are contiguous, as maps that are read from a file: sums over channels-last maps have other last bits.
    """

    def merge(maps: Tensor) -> Tensor:
        return (maps if len(maps) == 1 else (maps[:1] + maps[1:].flip(-1)) / 2).contiguous()

    return HostOutput([merge(feature) for feature in output.features], merge(output.cam), output.logits.mean(0)[None])


@torch.no_grad()
def classify(host: Host, num_foreground: int, loader: Iterable[Views]) -> np.ndarray:
    """Probability of each class in each image, in the loader's order: float (images, N). The host is told no label."""
    host.eval()
    unknown = torch.full((1, num_foreground), host.unknown_label, device=next(host.parameters()).device)
    found = [view_output(host, views[0], unknown).logits[0].sigmoid().cpu().numpy() for _, _, views in loader]
    return np.array(found, np.float64).reshape(-1, num_foreground)


def whole_patches(images: Tensor, side: int) -> Tensor:
    """Images (B, C, H, W), resized (bicubic) to the next multiples of a patch's side, as a vision transformer needs."""
    size = tuple(-(-length // side) * side for length in images.shape[2:])
    return images if images.shape[2:] == size else F.interpolate(images, size=size, mode="bicubic", align_corners=False)
