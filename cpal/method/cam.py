"""CAM arithmetic of the paper (Eq. 3). Foreground maps are (B, N, h, w), with background (B, K, h, w)."""

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-5


def normalize(cam: Tensor, image_label: Tensor) -> Tensor:
    """Max-normalised CAM of the present classes, Eq. 3.

    cam (B, N, h, w) of any sign, image_label (B, N) of 0/1 -> (B, N, h, w) in [0, 1], zero for absent classes.
    """
    positive = F.relu(cam)
    return positive / (positive.amax(dim=(2, 3), keepdim=True) + EPSILON) * image_label[:, :, None, None]


def with_background(cam: Tensor, background_from: Tensor | None = None) -> Tensor:
    """M = Mb and Mf, with Mb = 1 - max over classes in front: (B, N, h, w) -> (B, K, h, w).

    cam is normalised and label-masked, so the maximum runs over present classes (ours). SIPE takes it over all
    classes: hand their normalised maps in as `background_from`.
    """
    source = cam if background_from is None else background_from
    return torch.cat([1 - source.amax(dim=1, keepdim=True), cam], dim=1)
