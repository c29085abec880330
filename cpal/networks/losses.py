"""Functions that several pixel-wise losses share."""

from torch import Tensor

from cpal.data.masks import BACKGROUND, VOID


def balanced_mean(loss: Tensor, label: Tensor) -> Tensor:
    """Average of the mean background loss and the mean foreground loss, so that both weigh the same (AMN, AdvCAM).

    loss (B, h, w) of each pixel; label (B, h, w). Void pixels are left out. If there are no background or no foreground
    pixels, their mean loss counts as 0.
    """
    kinds = (label == BACKGROUND, (label != BACKGROUND) & (label != VOID))
    background, foreground = ((loss * kind).sum() / kind.sum().clamp(min=1) for kind in kinds)
    return (background + foreground) / 2
