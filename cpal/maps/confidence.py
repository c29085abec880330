"""How sure a network says that it is: the probability of its label, at a temperature."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "confidence"  # of the confidence maps, below the folder of the label maps
SMALLEST = 1e-12  # lower bound of a divisor: the network can give the class that the CRF chose the probability 0
Array = TypeVar("Array", np.ndarray, "Tensor")


def at_temperature(probability: Array, chosen: Array, temperature: float) -> Array:
    """Probability (H, W), in 0..1, of each pixel's chosen class at a temperature above 0.

    probability (K, H, W): of all classes. chosen (H, W): of the chosen class. Each p becomes p^(1 / temperature), and
    all are divided by their sum, so that their order stays (Guo et al., ICML 2017, Section 4.2; its logits are log p).
    """
    if temperature == 1:
        return chosen
    return 1 / ((probability / chosen.clip(min=SMALLEST)) ** (1 / temperature)).sum(0)
