"""How sure a network says that it is: the probability of its label, at a temperature."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "confidence"  # of the confidence maps, below the folder of the label maps
Array = TypeVar("Array", np.ndarray, "Tensor")


def at_temperature(probability: Array, best: Array, temperature: float) -> Array:
    """Probability (H, W) of the likeliest class, in 0..1, of probabilities (K, H, W) at a temperature above 0.

    `best` (H, W) is the highest of them. All become p^(1 / temperature), brought to the sum 1 again, so that no label
    changes (Guo et al., ICML 2017, Section 4.2, whose logits are log p).
    """
    if temperature == 1:
        return best
    return 1 / ((probability / best) ** (1 / temperature)).sum(0)
