"""What the losses of pixels share."""

from torch import Tensor

from cpal.data.masks import BACKGROUND, VOID


def balanced_mean(loss: Tensor, label: Tensor) -> Tensor:
    """Mean of the background's and the foreground's mean loss, so that both weigh the same (AMN, AdvCAM).

    loss (B, h, w) of each pixel, label (B, h, w); void pixels are left out. A kind of pixel that does not occur counts
    as no loss.
    """
    kinds = (label == BACKGROUND, (label != BACKGROUND) & (label != VOID))
    background, foreground = ((loss * kind).sum() / kind.sum().clamp(min=1) for kind in kinds)
    return (background + foreground) / 2
