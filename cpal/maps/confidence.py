"""How sure a network says that it is: the probability of its label, at a temperature."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "confidence"  # of the confidence maps, below the folder of the label maps
SMALLEST = (
    1e-12  # stands for a probability of 0 where it divides; a CRF can choose a class to which the network gives 0
)
Array = TypeVar("Array", np.ndarray, "Tensor")


def at_temperature(probability: Array, chosen: Array, temperature: float) -> Array:
    """Probability (H, W) of the chosen class, in 0..1, of probabilities (K, H, W) at a temperature above 0.

    `chosen` (H, W) is that class's among them. All become p^(1 / temperature), brought to the sum 1 again, so that
    their order stays (Guo et al., ICML 2017, Section 4.2, whose logits are log p).
    """
    if temperature == 1:
        return chosen
    return 1 / ((probability / chosen.clip(min=SMALLEST)) ** (1 / temperature)).sum(0)
