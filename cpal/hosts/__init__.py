"""Networks that CPAL plugs into: each yields features, a CAM and logits, and nothing else."""

from typing import NamedTuple

from torch import Tensor


class HostOutput(NamedTuple):
    """features: maps (B, D, h, w) of four stages; cam (B, N, h, w) before the ReLU; logits (B, N)."""

    features: list[Tensor]
    cam: Tensor
    logits: Tensor
