"""Label and confidence -> pseudo-mask: what is too uncertain to learn from becomes void."""

import numpy as np

from cpal.crf import CrfFile
from cpal.masks import VOID


def pseudo_mask(refined: CrfFile, *, min_confidence: float) -> np.ndarray:
    """Label map uint8 (H, W); void where the label's probability is below min_confidence."""
    certain = refined.confidence >= np.floor(255 * min_confidence)
    return np.where(certain, refined.label, np.uint8(VOID)).astype(np.uint8)
